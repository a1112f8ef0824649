package regex

import (
	"encoding/binary"
	"slices"
)

// thread is one way through the program that is still open: it goes on at pc with the next character.
type thread struct {
	pc    uint32
	bits  uint16 // which groups that conditionals ask for took part
	watch uint16 // the negative look-aheads it must not break, an index into stepper.watches; 0 for none
}

// Symbolic values of a tag in a step's result; other values are registers of the state before.
const (
	tagUnset int16 = -1 // the group took no part
	tagHere  int16 = -2 // the place of the step
)

// kernel is an ordered list of threads, the preferred first, and where each keeps its captures. A thread of rule k has
// Set.tags[k] entries in tags.
type kernel struct {
	threads []thread
	tags    []int16
	left    uint64 // what is known of the character before, as far as a thread asks for it
}

// stepper makes a kernel from a kernel and a class of characters. It is the only place that knows what programs mean to
// the automaton; building states and doing without them are both made of it.
//
// A step first follows every thread from its place to the instructions that take a character, which needs to know the
// characters on both sides, and then takes the character. So an assertion never waits, and captures are written once their
// thread is known to live on.
type stepper struct {
	set  *Set
	next kernel // the result of the last step

	in      kernel
	class   int
	tags    []int16 // the captures of the thread in hand
	inside  visited
	emitted visited

	watches  [][]uint32 // sets of places in watched programs; [0] is empty
	watchIdx map[string]uint16
	watchSet visited // scratch of advance
	outs     []uint32
	tooMany  bool // the step met a bound and its result is not to be used
}

// visited remembers what a step has been to: instructions, with the state of the thread there. It forgets in no time.
type visited struct {
	last  []uint32 // by instruction: 1 + base + index into seen; less or equal base means not yet
	base  uint32
	seen  []visit
	limit int
}

type visit struct {
	bits, watch uint16
	before      uint32
}

func newVisited(insts int) visited {
	return visited{last: make([]uint32, insts), limit: 8*insts + 256}
}

func (v *visited) reset() {
	v.base += uint32(len(v.seen))
	v.seen = v.seen[:0]
	if v.base > 1<<31 {
		clear(v.last)
		v.base = 0
	}
}

// add reports whether t is new. A thread that was here before with the same bits and nothing to watch, or the same to
// watch, has done all that t could do.
func (v *visited) add(t thread) bool {
	head := v.last[t.pc]
	for at := head; at > v.base; {
		s := &v.seen[at-v.base-1]
		if s.bits == t.bits && (s.watch == 0 || s.watch == t.watch) {
			return false
		}
		at = s.before
	}
	v.seen = append(v.seen, visit{bits: t.bits, watch: t.watch, before: head})
	v.last[t.pc] = v.base + uint32(len(v.seen))
	return true
}

func newStepper(s *Set) *stepper {
	st := &stepper{set: s, tags: make([]int16, s.most),
		inside: newVisited(len(s.insts)), emitted: newVisited(len(s.insts)), watchSet: newVisited(len(s.insts))}
	st.forgetWatches()
	return st
}

// first gives the kernel at the beginning of the text for the rules from rule on.
func (st *stepper) first(rule int) kernel {
	var k kernel
	need := uint64(0)
	for i := rule; i < len(st.set.starts); i++ {
		pc := st.set.starts[i]
		k.threads = append(k.threads, thread{pc: pc})
		for range st.set.tags[i] {
			k.tags = append(k.tags, tagUnset)
		}
		need |= st.set.needs[pc]
	}
	k.left = leftBegin & need
	return k
}

// step computes next from k and a class. It returns false if a bound was met.
func (st *stepper) step(k kernel, class int) bool {
	st.inside.reset()
	st.emitted.reset()
	st.in, st.class, st.tooMany = k, class, false
	st.next.threads, st.next.tags, st.next.left = st.next.threads[:0], st.next.tags[:0], 0
	from := 0
	for _, t := range k.threads {
		n := st.set.tags[st.set.ruleOf[t.pc]]
		copy(st.tags, k.tags[from:from+n])
		from += n
		watch, broken := st.advance(t.watch)
		if broken {
			continue
		}
		t.watch = watch
		if st.follow(t) || st.tooMany {
			break
		}
	}
	need := uint64(0)
	for _, t := range st.next.threads {
		need |= st.set.needs[t.pc]
		for _, pc := range st.watches[t.watch] {
			need |= st.set.needs[pc]
		}
	}
	st.next.left = st.set.context[class] & need
	return !st.tooMany && st.placed() <= maxPlaced
}

// maxPlaced bounds the captures of a kernel, so that a register fits into an int16.
const maxPlaced = 1 << 14

// placed counts the captures of the result. Most kernels have too few tags to count.
func (st *stepper) placed() int {
	if len(st.next.tags) <= maxPlaced {
		return len(st.next.tags)
	}
	n := 0
	for _, tag := range st.next.tags {
		if tag != tagUnset {
			n++
		}
	}
	return n
}

// follow takes t to all instructions it reaches without a character, in order of preference, and steps over those that
// take the class. It reports whether t's rule has surely matched: then no thread after it counts.
func (st *stepper) follow(t thread) bool {
	s := st.set
	for {
		in := &s.insts[t.pc]
		t.bits &= s.asks[t.pc]
		if in.op != opChar && !st.inside.add(t) {
			return false
		}
		if len(st.inside.seen) > st.inside.limit {
			st.tooMany = true
			return true
		}
		switch in.op {
		case opChar:
			if s.in(in.set, st.class) {
				st.emit(thread{pc: in.out, bits: t.bits, watch: t.watch})
			}
			return false
		case opAlt:
			first := t
			first.pc = in.out
			if st.follow(first) {
				return true
			}
			t.pc = in.arg
		case opCap:
			t.bits |= in.bits
			t.pc = in.out
			if s.tags[s.ruleOf[t.pc]] == 0 {
				continue
			}
			old := st.tags[in.n]
			st.tags[in.n] = tagHere
			sure := st.follow(t)
			st.tags[in.n] = old
			return sure
		case opAssert:
			if !s.holds(in, st.in.left, st.class) {
				return false
			}
			t.pc = in.out
		case opCond:
			if t.bits&(1<<in.n) != 0 {
				t.pc = in.out
			} else {
				t.pc = in.arg
			}
		case opWatch:
			var broken bool
			if t.watch, broken = st.alsoWatch(t.watch, in.arg); broken {
				return false
			}
			t.pc = in.out
		case opMatch:
			if s.tags[in.n] > 0 {
				st.tags[1] = tagHere
			}
			st.emit(thread{pc: t.pc + 1, watch: t.watch})
			return t.watch == 0
		case opDone:
			st.emit(t)
			return t.watch == 0
		case opFail:
			return false
		default:
			panic("BUG: instruction of the exact matcher in the automaton")
		}
	}
}

// emit adds a thread to the result, unless a better one is there.
func (st *stepper) emit(t thread) {
	t.bits &= st.set.asks[t.pc]
	if !st.emitted.add(t) {
		return
	}
	if len(st.emitted.seen) > st.emitted.limit {
		st.tooMany = true
	}
	st.next.threads = append(st.next.threads, t)
	st.next.tags = append(st.next.tags, st.tags[:st.set.tags[st.set.ruleOf[t.pc]]]...)
}

// advance takes the watched programs over the character. broken means that one of them matched.
func (st *stepper) advance(watch uint16) (after uint16, broken bool) {
	if watch == 0 {
		return 0, false
	}
	return st.watchFrom(st.watches[watch], nil)
}

// alsoWatch adds the watched program that begins at pc, here, to what is watched.
func (st *stepper) alsoWatch(watch uint16, pc uint32) (after uint16, broken bool) {
	return st.watchFrom([]uint32{pc}, st.watches[watch])
}

// watchFrom steps places over the character and joins the outcome with those that have been stepped already.
func (st *stepper) watchFrom(places, stepped []uint32) (uint16, bool) {
	st.watchSet.reset()
	st.outs = append(st.outs[:0], stepped...)
	for _, pc := range places {
		if st.followWatched(pc) {
			return 0, true
		}
	}
	slices.Sort(st.outs)
	return st.internWatch(slices.Compact(st.outs)), false
}

// followWatched is follow for a watched program, where neither order nor captures count.
func (st *stepper) followWatched(pc uint32) bool {
	s := st.set
	for {
		if !st.watchSet.add(thread{pc: pc}) {
			return false
		}
		in := &s.insts[pc]
		switch in.op {
		case opWatched:
			return true
		case opChar:
			if s.in(in.set, st.class) {
				st.outs = append(st.outs, in.out)
			}
			return false
		case opAlt:
			if st.followWatched(in.out) {
				return true
			}
			pc = in.arg
		case opAssert:
			if !s.holds(in, st.in.left, st.class) {
				return false
			}
			pc = in.out
		case opCap:
			pc = in.out
		default:
			return false
		}
	}
}

const maxWatches = 1 << 14

func (st *stepper) internWatch(places []uint32) uint16 {
	if len(places) == 0 {
		return 0
	}
	key := make([]byte, 0, 128)
	for _, pc := range places {
		key = binary.LittleEndian.AppendUint32(key, pc)
	}
	if i, ok := st.watchIdx[string(key)]; ok {
		return i
	}
	if len(st.watches) >= maxWatches {
		st.tooMany = true
		return 0
	}
	i := uint16(len(st.watches))
	st.watches = append(st.watches, slices.Clone(places))
	st.watchIdx[string(key)] = i
	return i
}

func (st *stepper) forgetWatches() {
	st.watches = append(st.watches[:0], nil)
	st.watchIdx = map[string]uint16{}
}
