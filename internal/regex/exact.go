package regex

import "unicode"

// exact matches one pattern by backtracking, with everything Python has.
//
// It remembers at which branch and place it failed, so that a pattern without back-references and conditionals takes time
// in proportion to program times text; for those two, whose outcome depends on what was captured, only the step budget
// stands between a pattern and exponential time. Steps, not seconds: the answer is the same on every machine.
type exact struct {
	budget     int
	steps      int    // left for the text in hand
	taken      uint64 // in all
	outOfSteps uint64

	regular map[*Regexp]*program

	prog  *program
	runes []rune
	offs  []int // where each rune begins, and the end
	caps  []int // in runes while searching, in bytes in the result
	stack []frame
	memo  []uint64 // two bits for each branch at each place, if remember
	keep  bool     // use memo
}

// frame is what to undo or to try when a way fails.
type frame struct {
	kind frameKind
	pc   uint32 // try: where; failed: the branch; restore: the slot
	pos  int    // restore: the value
}

type frameKind uint8

const (
	try     frameKind = iota // the second way of a branch
	failed                   // both ways of a branch failed: remember it
	restore                  // a capture's former value
)

// What memo says of a branch at a place.
const (
	memoFails = 1 // no way leads to the end of the program it is in
	memoWorks = 2 // one does; known for look-arounds without captures only
)

const maxMemo = 1 << 27 // bits; beyond, the steps alone bound the search

func newExact(budget int) *exact { return &exact{budget: budget, regular: map[*Regexp]*program{}} }

// search finds the leftmost match of the pattern as re.search(text) or re.search(text+"\n"), and returns its captures in
// bytes, valid until the next call; nil if there is none, or the steps ran out.
func (e *exact) search(re *Regexp, text []byte, newline bool) []int {
	e.prog = e.program(re)
	e.load(text, newline)
	e.steps = e.budget
	e.caps = append(e.caps[:0], make([]int, 2*len(re.names))...)
	for i := range e.caps {
		e.caps[i] = -1
	}
	defer func() { e.taken += uint64(e.budget - e.steps) }()
	last := len(e.runes)
	if re.anchored {
		last = 0
	}
	for at := 0; at <= last; at++ {
		e.stack = e.stack[:0]
		end, ok := e.run(uint32(len(e.prog.insts)-1), at, false)
		if e.steps < 0 {
			e.outOfSteps++
			return nil
		}
		if !ok {
			continue
		}
		e.caps[1] = end
		for i, c := range e.caps {
			if c >= 0 {
				e.caps[i] = e.offs[c]
			}
		}
		return e.caps
	}
	return nil
}

// program gives the exact program of a pattern. A regular one has none of its own, and is asked for only when the automaton
// met a bound.
func (e *exact) program(re *Regexp) *program {
	if re.exact != nil {
		return re.exact
	}
	p, ok := e.regular[re]
	if !ok {
		whole, err := Compile(re.pattern, re.flags)
		if err != nil {
			panic("BUG: compiled before: " + err.Error())
		}
		p, _ = compileExact(whole)
		e.regular[re] = p
	}
	return p
}

// load decodes the text, and makes room to remember.
func (e *exact) load(text []byte, newline bool) {
	e.runes, e.offs = e.runes[:0], e.offs[:0]
	for i := 0; i < len(text); {
		r, n := decode(text, i)
		e.runes, e.offs = append(e.runes, r), append(e.offs, i)
		i += n
	}
	if newline {
		e.runes, e.offs = append(e.runes, '\n'), append(e.offs, len(text))
	}
	e.offs = append(e.offs, len(text)+1)
	if !newline {
		e.offs[len(e.offs)-1] = len(text)
	}
	bits := 2 * e.prog.branches * (len(e.runes) + 1)
	e.keep = e.prog.pure && bits <= maxMemo
	if e.keep {
		words := bits/64 + 1
		if cap(e.memo) < words {
			e.memo = make([]uint64, words)
		}
		e.memo = e.memo[:words]
		clear(e.memo)
	}
}

func (e *exact) recall(branch int32, pos int) uint64 {
	bit := 2 * (int(branch)*(len(e.runes)+1) + pos)
	return e.memo[bit/64] >> (bit % 64) & 3
}

func (e *exact) remember(branch int32, pos int, what uint64) {
	bit := 2 * (int(branch)*(len(e.runes)+1) + pos)
	e.memo[bit/64] |= what << (bit % 64)
}

// run follows the program from pc at pos to opMatch or opSub, and returns the place where it got there. The frames it
// leaves on the stack restore its captures. simple says that only the answer counts, not the captures or the place.
func (e *exact) run(pc uint32, pos int, simple bool) (end int, ok bool) {
	base := len(e.stack)
	for {
		if e.steps--; e.steps < 0 {
			return 0, false
		}
		in := &e.prog.insts[pc]
		ok := false
		switch in.op {
		case opChar:
			if pos < len(e.runes) && e.prog.has(in.set, e.runes[pos]) {
				pc, pos, ok = in.out, pos+1, true
			}
		case opAlt:
			known := uint64(0)
			if e.keep {
				known = e.recall(in.n, pos)
			}
			if known&memoWorks != 0 && simple {
				return e.succeed(base, pos, simple), true
			}
			if known&memoFails == 0 {
				if e.keep {
					e.stack = append(e.stack, frame{failed, pc, pos})
				}
				e.stack = append(e.stack, frame{try, in.arg, pos})
				pc, ok = in.out, true
			}
		case opCap:
			e.stack = append(e.stack, frame{restore, uint32(in.n), e.caps[in.n]})
			e.caps[in.n] = pos
			pc, ok = in.out, true
		case opAssert:
			pc, ok = in.out, e.holds(in, pos)
		case opCond:
			pc, ok = in.arg, true
			if e.caps[2*in.n+1] >= 0 {
				pc = in.out
			}
		case opBackref:
			pc, pos, ok = e.backref(in, pos)
		case opLook:
			pc, ok = in.out, e.look(in, pos)
		case opAtomic:
			var to int
			if to, ok = e.run(in.arg, pos, false); ok {
				pc = in.out
				if to == pos {
					pc = in.alt
				}
				pos = to
			}
		case opMatch, opSub:
			return e.succeed(base, pos, simple), true
		}
		if !ok {
			if pc, pos, ok = e.retreat(base); !ok {
				return 0, false
			}
		}
	}
}

// retreat undoes back to the latest way not tried.
func (e *exact) retreat(base int) (pc uint32, pos int, ok bool) {
	for len(e.stack) > base {
		f := e.stack[len(e.stack)-1]
		e.stack = e.stack[:len(e.stack)-1]
		switch f.kind {
		case try:
			return f.pc, f.pos, true
		case failed:
			e.remember(e.prog.insts[f.pc].n, f.pos, memoFails)
		case restore:
			e.caps[f.pc] = f.pos
		}
	}
	return 0, 0, false
}

// succeed leaves only the frames that restore captures. The branches still open on the stack are those the way led through.
func (e *exact) succeed(base, pos int, simple bool) int {
	left := e.stack[:base]
	for _, f := range e.stack[base:] {
		switch {
		case f.kind == restore:
			left = append(left, f)
		case f.kind == failed && simple:
			e.remember(e.prog.insts[f.pc].n, f.pos, memoWorks)
		}
	}
	e.stack = left
	return pos
}

// look tells whether a look-around holds. A positive one leaves its captures.
func (e *exact) look(in *inst, pos int) bool {
	if pos < int(in.n) {
		return in.neg
	}
	base := len(e.stack)
	_, ok := e.run(in.arg, pos-int(in.n), in.alt != 0)
	if e.steps < 0 {
		return false
	}
	if in.neg && ok {
		e.retreat(base) // what it captured is forgotten
	}
	return ok != in.neg
}

// backref takes the text of a group again. A group that took no part never matches.
func (e *exact) backref(in *inst, pos int) (uint32, int, bool) {
	from, to := e.caps[2*in.n], e.caps[2*in.n+1]
	if from < 0 || to < from || pos+to-from > len(e.runes) {
		return 0, pos, false
	}
	for i := from; i < to; i++ {
		if a, b := e.runes[i], e.runes[pos+i-from]; a != b && (!in.fold || lower(a, in.asciiCmp) != lower(b, in.asciiCmp)) {
			return 0, pos, false
		}
	}
	e.steps -= to - from
	if to == from {
		return in.arg, pos, true
	}
	return in.out, pos + to - from, true
}

func lower(r rune, asciiOnly bool) rune {
	if asciiOnly && r > unicode.MaxASCII {
		return r
	}
	return unicode.ToLower(r)
}

func (e *exact) holds(in *inst, pos int) bool {
	n := len(e.runes)
	left := pos > 0 && in.set >= 0 && e.prog.has(in.set, e.runes[pos-1])
	right := pos < n && in.set >= 0 && e.prog.has(in.set, e.runes[pos])
	switch in.assert {
	case atBegin:
		return pos == 0
	case atBeginLine:
		return pos == 0 || e.runes[pos-1] == '\n'
	case atEnd:
		return pos == n
	case atEndOrFinal:
		return pos == n || pos == n-1 && e.runes[pos] == '\n'
	case atEndLine:
		return pos == n || e.runes[pos] == '\n'
	case atBoundary:
		return left != right
	case atNonBoundary:
		return left == right && n > 0
	}
	panic("BUG: assertion of the automaton in the exact matcher")
}

// finishExact numbers the branches and notes what the exact matcher may rely on.
func (p *program) finishExact() {
	p.pure = true
	for i := range p.insts {
		switch in := &p.insts[i]; in.op {
		case opAlt:
			in.n = int32(p.branches)
			p.branches++
		case opBackref, opCond:
			p.pure = false
		}
	}
	p.low = make([][2]uint64, len(p.sets))
	for i, set := range p.sets {
		for r := range rune(128) {
			if set.has(r) {
				p.low[i][r/64] |= 1 << (r % 64)
			}
		}
	}
}

func (p *program) has(set int32, r rune) bool {
	if r < 128 {
		return p.low[set][r/64]>>(r%64)&1 != 0
	}
	return p.sets[set].has(r)
}
