package jail

import "slices"

// memory is a map with a bound. When it is full, the eighth of it that happened longest ago is forgotten, which costs a
// sort then and nothing between.
type memory[K comparable, V any] struct {
	m       map[K]V
	max     int
	when    func(V) int64
	evicted uint64
}

func newMemory[K comparable, V any](limit int, when func(V) int64) memory[K, V] {
	return memory[K, V]{m: make(map[K]V), max: limit, when: when}
}

// put stores v and says whether others had to go.
func (m *memory[K, V]) put(k K, v V) (evicted bool) {
	if _, ok := m.m[k]; !ok && len(m.m) >= m.max {
		m.evict()
		evicted = true
	}
	m.m[k] = v
	return evicted
}

func (m *memory[K, V]) evict() {
	times := make([]int64, 0, len(m.m))
	for _, v := range m.m {
		times = append(times, m.when(v))
	}
	slices.Sort(times)
	n := max(1, len(times)/8)
	for _, upTo := range []int64{times[n-1] - 1, times[n-1]} { // what is older than the limit first, then what is just as old
		for k, v := range m.m {
			if n > 0 && m.when(v) <= upTo {
				delete(m.m, k)
				m.evicted++
				n--
			}
		}
	}
}
