package regex

import "slices"

// thrash is how many bytes a state must have been good for when the cache is full. Below, the text is finished without it.
const thrash = 10

// start gives the row where the rules from rule on begin.
func (m *Matcher) start(rule int) uint32 {
	if row := m.cache.starts[rule]; row != noRow {
		return row
	}
	return m.begin(rule)
}

func (m *Matcher) begin(rule int) uint32 {
	if m.full() {
		m.flush()
	}
	row := m.add(m.step.first(rule), nil)
	m.cache.starts[rule] = row
	return row
}

func (m *Matcher) flush() {
	m.stats.Flushes++
	m.cache.reset(len(m.set.res))
	m.step.forgetWatches()
	m.since = 0
}

// build computes the transition of a row for a class and enters it. It does nothing if the cache is full or the step met a
// bound, and returns unknown.
func (m *Matcher) build(row uint32, class int) entry {
	if m.full() || !m.step.step(m.state(row).kernel, class) {
		return unknown
	}
	to := m.enter()
	st := m.state(to)
	moves := m.movesTo(st.tags)
	value := goOn(to, 0)
	switch {
	case st.done || st.rest || len(moves) > 1 || len(moves) == 1 && (moves[0].src != tagHere || moves[0].dst >= smallRegs):
		value = takeEdge(len(m.cache.edges))
		m.cache.edges = append(m.cache.edges, edge{row: to, to: st, moves: moves})
		m.cache.bytes += 48 + 4*len(moves)
	case len(moves) == 1:
		value = goOn(to, uint8(moves[0].dst))
	}
	m.cache.trans[row+uint32(class)] = value
	return value
}

// full tells whether no state may be added.
func (m *Matcher) full() bool {
	return m.cache.bytes > m.set.opts.CacheBytes || len(m.cache.trans) > maxRows-m.set.classes ||
		len(m.step.watches) > maxWatches/2
}

// enter finds the state of the step's result, or adds it, and leaves the result's names for movesTo.
func (m *Matcher) enter() uint32 {
	next := &m.step.next
	m.names.of(next.tags)
	m.key = appendKey(m.key[:0], next, m.names.number)
	if row, ok := m.cache.index[string(m.key)]; ok {
		return row
	}
	return m.add(m.result(), m.key)
}

// result copies the step's result, with registers for its tags.
func (m *Matcher) result() kernel {
	next := &m.step.next
	return kernel{threads: slices.Clone(next.threads), tags: m.names.placed(next.tags), left: next.left}
}

// movesTo lists the moves from what names holds to a state's tags, and sees to it that there are registers for them.
func (m *Matcher) movesTo(tags []int16) []move {
	top := m.names.top
	for _, t := range tags {
		top = max(top, t)
	}
	for len(m.regs) < int(top)+2 {
		m.regs = append(m.regs, 0)
	}
	return m.names.moves(tags, top+1)
}

// add enters a state and returns its row. key is nil for a first state, which no step leads to by name.
func (m *Matcher) add(k kernel, key []byte) uint32 {
	row := uint32(len(m.cache.trans))
	st := m.newState(k)
	st.rest = !st.done && m.restful(k)
	for range m.set.classes {
		m.cache.trans = append(m.cache.trans, unknown)
	}
	m.cache.states = append(m.cache.states, st)
	if key != nil {
		m.cache.index[string(key)] = row
	}
	m.cache.bytes += 8*m.set.classes + 2*len(key) + 16*len(k.threads) + 2*len(k.tags) + 160
	m.stats.Built++
	return row
}

// newState finds out whether a kernel is decided: no thread is left, or the best one has matched for sure.
func (m *Matcher) newState(k kernel) *state {
	st := &state{kernel: k, rule: -1}
	if len(k.threads) == 0 {
		st.done = true
	} else if in, t := &m.set.insts[k.threads[0].pc], k.threads[0]; in.op == opDone && t.watch == 0 {
		st.done, st.rule = true, in.n
	}
	return st
}

// restful tells whether the kernel stays as it is whatever comes but a newline or the end, as behind `.*$`.
func (m *Matcher) restful(k kernel) bool {
	s := m.set
	for _, t := range k.threads {
		if !s.tails[t.pc] {
			return false
		}
	}
	for class := classFirst; class < s.classes; class++ {
		if class == int(s.byteOf['\n']) {
			continue
		}
		if !m.step.step(k, class) {
			return false
		}
		n := &m.step.next
		if n.left != k.left || !slices.Equal(n.threads, k.threads) || !slices.Equal(n.tags, k.tags) {
			return false
		}
	}
	return true
}

// makeRoom empties a full cache if it was worth its making, and enters the state of row again. It returns false if the
// cache is not full, or the states were made for a few bytes each.
func (m *Matcher) makeRoom(row uint32) (uint32, bool) {
	if !m.full() || m.since < thrash*len(m.cache.states) {
		return row, false
	}
	st := m.state(row)
	old := slices.Clone(m.step.watches)
	m.flush()
	k := st.kernel
	for i := range k.threads {
		k.threads[i].watch = m.step.internWatch(old[k.threads[i].watch])
	}
	m.names.of(k.tags)
	m.key = appendKey(m.key[:0], &k, m.names.number)
	return m.add(k, m.key), true
}

// walkDirect goes on from a state without the cache: each step's result replaces the one before. It takes time in
// proportion to the program for each byte, whatever the text.
func (m *Matcher) walkDirect(st *state, body []byte, i int, newline bool) *state {
	m.stats.Direct++
	m.since += len(body) - i
	for i < len(body) && st != nil && !st.done {
		r, width := decode(body, i)
		st = m.stepDirect(st, m.set.class(r), i)
		i += width
	}
	if newline {
		return m.finishDirect(st, len(body), classFinal)
	}
	return m.finishDirect(st, len(body), classEnd)
}

func (m *Matcher) finishDirect(st *state, at, class int) *state {
	if class == classFinal && st != nil && !st.done {
		st = m.stepDirect(st, classFinal, at)
		at++
	}
	if st == nil || st.done {
		return st
	}
	return m.stepDirect(st, classEnd, at)
}

// stepDirect returns nil if the step met a bound.
func (m *Matcher) stepDirect(st *state, class, at int) *state {
	if !m.step.step(st.kernel, class) {
		return nil
	}
	m.names.of(m.step.next.tags)
	k := m.result()
	m.move(m.movesTo(k.tags), at)
	return m.newState(k)
}
