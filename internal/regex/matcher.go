package regex

import "bytes"

// Matcher is one goroutine's view of a Set: the automaton as far as it was met, and the last match.
type Matcher struct {
	set    *Set
	step   *stepper
	exact  *exact
	cache  cache
	names  names
	key    []byte
	regs   []int
	since  int  // bytes read since the cache was emptied
	missed uint // leaps asked for that were not known

	length int     // of the last text
	tags   []int16 // the registers of the last match's captures; nil if caps has them
	caps   []int   // captures by the exact matcher
	rule   int

	stats Stats
}

// Stats counts what a matcher did since it was made.
type Stats struct {
	States        int    // in the cache now
	Bytes         int    // of the cache now, estimated
	Built         uint64 // states built
	Flushes       uint64 // times the cache was full and emptied
	Direct        uint64 // texts that were finished without the cache, because they would have emptied it again at once
	Confirmations uint64 // times the exact matcher was asked
	Refused       uint64 // times it said no where the automaton had said yes
	Steps         uint64 // it took in all
	OutOfSteps    uint64 // times it ran out of steps; counts as no match
	TooMany       uint64 // texts at which the automaton met a bound; the exact matcher answered for all rules
}

// NewMatcher makes a view of the set. A Matcher is not safe for concurrent use.
func (s *Set) NewMatcher() *Matcher {
	m := &Matcher{set: s, step: newStepper(s), exact: newExact(s.opts.Steps), rule: -1, regs: make([]int, smallRegs)}
	m.cache.reset(len(s.res))
	return m
}

// Stats gives the counters.
func (m *Matcher) Stats() Stats {
	m.stats.States, m.stats.Bytes = len(m.cache.states), m.cache.bytes
	m.stats.Steps, m.stats.OutOfSteps = m.exact.taken, m.exact.outOfSteps
	return m.stats
}

// Match finds the first rule that matches anywhere in text followed by one newline, or -1. This is Python's
// re.search(text + "\n") for each rule in turn. It does not allocate once the automaton knows the text's kind.
func (m *Matcher) Match(text []byte) int { return m.MatchFrom(text, 0) }

// MatchFrom is Match for the rules from rule on.
func (m *Matcher) MatchFrom(text []byte, rule int) int { return m.match(text, rule, true) }

// Search is Match without the newline: re.search(text).
func (m *Matcher) Search(text []byte) int { return m.match(text, 0, false) }

// Group gives where group g of the last match begins and ends, in bytes of its text; the end is cut to the text's. It
// gives -1, -1 if the group took no part, or nothing matched.
func (m *Matcher) Group(g int) (start, end int) {
	switch at := 2 * g; {
	case uint(at) < uint(len(m.tags)):
		start, end = m.reg(m.tags[at]), m.reg(m.tags[at+1])
		if g == 0 && m.set.res[m.rule].anchored {
			start = 0
		}
	case m.rule >= 0 && m.tags == nil && uint(at) < uint(len(m.caps)):
		start, end = m.caps[at], m.caps[at+1]
	default:
		return -1, -1
	}
	if start < 0 || end < 0 {
		return -1, -1
	}
	return min(start, m.length), min(end, m.length)
}

// Span is a part of a text, in bytes; both are -1 where a group took no part.
type Span struct{ From, To int32 }

// Capture says in which place of a list the span of a group goes.
type Capture struct{ Group, Slot int }

// Spans puts the spans of some groups of the last match into list, moved right by offset. It answers as Group does, for
// less. Group 0 is not among them.
func (m *Matcher) Spans(list []Span, captures []Capture, offset int) {
	tags := m.tags
	for _, c := range captures {
		s := Span{-1, -1}
		if at := 2 * c.Group; at+1 < len(tags) {
			if from, to := tags[at], tags[at+1]; from >= 0 && to >= 0 {
				s = Span{int32(min(m.regs[from], m.length) + offset), int32(min(m.regs[to], m.length) + offset)}
			}
		} else if from, to := m.Group(c.Group); from >= 0 {
			s = Span{int32(from + offset), int32(to + offset)}
		}
		list[c.Slot] = s
	}
}

func (m *Matcher) reg(tag int16) int {
	if tag < 0 {
		return -1
	}
	return m.regs[tag]
}

func (m *Matcher) match(text []byte, rule int, newline bool) int {
	m.rule, m.tags, m.length = -1, nil, len(text)
	for rule < len(m.set.res) {
		st := m.walk(text, rule, newline)
		if st == nil {
			m.stats.TooMany++
			return m.matchExact(text, rule, newline)
		}
		if st.rule < 0 {
			return -1
		}
		rule = int(st.rule)
		if n := m.set.tags[rule]; n > 0 {
			m.rule, m.tags = rule, st.tags[:n]
			return rule
		}
		if m.confirm(text, rule, newline) {
			return rule
		}
		m.stats.Refused++
		rule++
	}
	return -1
}

// matchExact asks the exact matcher rule by rule, where the automaton gave up.
func (m *Matcher) matchExact(text []byte, rule int, newline bool) int {
	for ; rule < len(m.set.res); rule++ {
		if m.confirm(text, rule, newline) {
			return rule
		}
	}
	return -1
}

func (m *Matcher) confirm(text []byte, rule int, newline bool) bool {
	m.stats.Confirmations++
	caps := m.exact.search(m.set.res[rule], text, newline)
	if caps == nil {
		return false
	}
	m.rule, m.caps = rule, caps
	return true
}

// walk runs the automaton over the text and returns the state that knows the outcome: its first thread, if it has one, has
// matched. It returns nil if a bound was met.
func (m *Matcher) walk(text []byte, rule int, newline bool) *state {
	body := text
	if !newline && len(text) > 0 && text[len(text)-1] == '\n' {
		body, newline = text[:len(text)-1], true
	}
	row, i := m.leap(body, m.start(rule))
	byteOf := &m.set.byteOf
	for {
		trans, regs, from := m.cache.trans, (*[smallRegs]int)(m.regs), i
		for i < len(body) {
			next := trans[row+uint32(byteOf[body[i]])]
			if next.special() {
				break
			}
			regs[next.reg()] = i
			row = next.row()
			i++
		}
		m.since += i - from
		if i >= len(body) {
			return m.finish(row, len(body), newline)
		}
		class, width := int(byteOf[body[i]]), 1
		if class == classLong {
			var r rune
			r, width = decode(body, i)
			class = m.set.class(r)
		}
		next := trans[row+uint32(class)]
		if next == unknown {
			if next = m.build(row, class); next == unknown {
				var roomy bool
				if row, roomy = m.makeRoom(row); roomy {
					continue
				}
				return m.walkDirect(m.state(row), body, i, newline)
			}
		}
		if !next.special() {
			m.regs[next.reg()] = i
			row = next.row()
			i += width
			continue
		}
		e := &m.cache.edges[next.edge()]
		m.move(e.moves, i)
		if e.to.done {
			return e.to
		}
		row = e.row
		i += width
		if e.to.rest {
			if n := bytes.IndexByte(body[i:], '\n'); n >= 0 {
				i += n
			} else {
				i = len(body)
			}
		}
	}
}

// finish takes the last newline, if there is one, and the end, behind which every state is done.
func (m *Matcher) finish(row uint32, at int, newline bool) *state {
	class := classEnd
	if newline {
		class = classFinal
	}
	for {
		next := m.cache.trans[row+uint32(class)]
		if next == unknown {
			if next = m.build(row, class); next == unknown {
				return m.finishDirect(m.state(row), at, class)
			}
		}
		if next.special() {
			e := &m.cache.edges[next.edge()]
			m.move(e.moves, at)
			if e.to.done {
				return e.to
			}
			row = e.row
		} else {
			m.regs[next.reg()] = at
			row = next.row()
		}
		class = classEnd
		at++
	}
}

// state gives the state of a row.
func (m *Matcher) state(row uint32) *state { return m.cache.states[row/uint32(m.set.classes)] }

func (m *Matcher) move(moves []move, at int) {
	regs := m.regs
	for _, v := range moves {
		if v.src == tagHere {
			regs[v.dst] = at
		} else {
			regs[v.dst] = regs[v.src]
		}
	}
}
