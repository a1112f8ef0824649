package reputation

import (
	"iter"
	"maps"
	"math/bits"
	"slices"
	"sync"
)

// Bounds of the evidence about one key.
const (
	maxRows = 4096 // beyond it the oldest days lose their reporters
	shards  = 64
)

// row is what one reporter said about one key on one day. The rows of a key are a list, by reporter and then by day, the
// newest first; those of reporter 0 are older ones of which only the count is still kept.
type row struct {
	next     uint32 // its place in shard.rows; 0: the last
	reporter uint32
	when     uint32 // of the newest report: 17 bits of seconds since midnight UTC, 15 bits of reports that day
	cats     uint32 // a bit for each category
	day      uint16 // since 1970, UTC
	quality  uint8  // in 255ths
	public   bool   // the key was on the list when the reporter spoke of it first
}

const (
	daySeconds = 86400
	maxCount   = 1<<15 - 1
)

func (r *row) at() int64  { return int64(r.day)*daySeconds + int64(r.when>>15) }
func (r *row) count() int { return int(r.when & maxCount) }
func (r *row) set(second int64, count int) {
	r.when = uint32(second)<<15 | uint32(min(count, maxCount))
}

// entry is one key.
type entry struct {
	key   Key
	head  uint32 // its first row; 0: the place is free
	state state
}

// state says what a key is beside its evidence.
type state uint32

const (
	listed state = 1 << iota // on the drop list
	held                     // would be, but for a brake
	shared                   // many people's address
)

// shard is a part of all keys: a table with open addressing, and the rows. Its parts are kept together in memory, for ten
// million keys have to fit into a gigabyte.
type shard struct {
	mu      sync.RWMutex
	entries []entry // a power of two
	used    int
	rows    []row  // rows[0] is nobody's
	free    uint32 // the first of a list of free rows

	vouched map[Key][]voucher // each by organisation and reporter
	cleared map[Key]int64     // what was said until then does not count
}

func mix(k Key) uint64 {
	x := uint64(k) * 0x9E3779B97F4A7C15
	return x ^ x>>29
}

// find is the entry of a key; nil if there is none. The pointer is good until the shard changes.
func (s *shard) find(k Key) *entry {
	if len(s.entries) == 0 {
		return nil
	}
	mask := uint64(len(s.entries) - 1)
	for i := mix(k) & mask; s.entries[i].head != 0; i = (i + 1) & mask {
		if s.entries[i].key == k {
			return &s.entries[i]
		}
	}
	return nil
}

// place is the entry of a key, made if there is none; then its head is 0 and the caller must give it a row.
func (s *shard) place(k Key) *entry {
	if s.used*4 >= len(s.entries)*3 {
		s.grow(max(64, 2*len(s.entries)))
	}
	mask := uint64(len(s.entries) - 1)
	i := mix(k) & mask
	for ; s.entries[i].head != 0; i = (i + 1) & mask {
		if s.entries[i].key == k {
			return &s.entries[i]
		}
	}
	s.used++
	s.entries[i] = entry{key: k}
	return &s.entries[i]
}

func (s *shard) grow(n int) {
	old := s.entries
	s.entries = make([]entry, n)
	mask := uint64(n - 1)
	for _, e := range old {
		if e.head == 0 {
			continue
		}
		i := mix(e.key) & mask
		for s.entries[i].head != 0 {
			i = (i + 1) & mask
		}
		s.entries[i] = e
	}
}

func (s *shard) newRow() uint32 {
	if s.free != 0 {
		n := s.free
		s.free = s.rows[n].next
		return n
	}
	if len(s.rows) == 0 {
		s.rows = append(s.rows, row{})
	}
	s.rows = append(s.rows, row{})
	return uint32(len(s.rows) - 1)
}

func (s *shard) dropRow(n uint32) {
	s.rows[n] = row{next: s.free}
	s.free = n
}

// of gives the rows of an entry in their order.
func (s *shard) of(e *entry) iter.Seq[*row] {
	return func(yield func(*row) bool) {
		for n := e.head; n != 0; n = s.rows[n].next {
			if !yield(&s.rows[n]) {
				return
			}
		}
	}
}

// add puts a day of a reporter among the rows of an entry, or adds to the one that is there. It says whether the reporter
// spoke of the key before.
func (s *shard) add(e *entry, add row) (before bool) {
	var last uint32
	n := e.head
	for ; n != 0; last, n = n, s.rows[n].next {
		r := &s.rows[n]
		if r.reporter < add.reporter {
			continue
		}
		if r.reporter > add.reporter {
			break
		}
		before = true
		if r.day > add.day {
			continue
		}
		if r.day == add.day {
			r.join(&add)
			return true
		}
		break
	}
	if n != 0 && s.rows[n].reporter == add.reporter {
		before = true
	}
	fresh := s.newRow()
	add.next = n
	s.rows[fresh] = add
	if last == 0 {
		e.head = fresh
	} else {
		s.rows[last].next = fresh
	}
	return before
}

// join adds what the same reporter said on the same day.
func (r *row) join(add *row) {
	r.set(max(int64(r.when>>15), int64(add.when>>15)), r.count()+add.count())
	r.cats |= add.cats
	r.quality = max(r.quality, add.quality)
}

// shorten makes the shard anew: rows from before the first day of counts go, those from before the first day of names
// lose their reporter, keys without a row go, and the rows of a key lie side by side.
func (s *shard) shorten(names, counts uint16) {
	entries, rows := s.entries, s.rows
	s.entries, s.rows, s.used, s.free = nil, make([]row, 1, len(rows)+1), 0, 0
	s.grow(1 << bits.Len(uint(max(48, len(entries)/2))))
	var mine []row
	for _, e := range entries {
		mine = mine[:0]
		for n := e.head; n != 0; n = rows[n].next {
			if rows[n].day >= counts {
				mine = append(mine, rows[n])
			}
		}
		if len(mine) > 0 {
			*s.place(e.key) = entry{key: e.key, head: s.keep(mine, names), state: e.state}
		}
	}
}

// keep appends the rows of one key, those from before the first day of names by day alone, and gives the place of the first.
func (s *shard) keep(rows []row, names uint16) uint32 {
	if over := len(rows) - maxRows; over > 0 {
		days := make([]uint16, len(rows))
		for i := range rows {
			days[i] = rows[i].day
		}
		slices.Sort(days)
		names = max(names, days[over]+1)
	}
	byDay := map[uint16]row{}
	for i := range rows {
		if r := rows[i]; r.day < names {
			sum, ok := byDay[r.day]
			if !ok {
				sum = row{day: r.day, when: r.when}
			} else {
				sum.join(&r)
			}
			sum.cats, sum.quality = 0, 0
			byDay[r.day] = sum
		}
	}
	head := uint32(len(s.rows))
	for _, day := range slices.Backward(slices.Sorted(maps.Keys(byDay))) {
		s.rows = append(s.rows, byDay[day])
	}
	for i := range rows {
		if rows[i].day >= names {
			s.rows = append(s.rows, rows[i])
		}
	}
	for n := int(head); n < len(s.rows); n++ {
		s.rows[n].next = uint32(n + 1)
	}
	s.rows[len(s.rows)-1].next = 0
	return head
}
