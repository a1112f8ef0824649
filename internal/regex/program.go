package regex

import "encoding/binary"

// opcode is what an instruction does.
type opcode uint8

const (
	opChar   opcode = iota // take one character in set, go to out
	opAlt                  // try out first, then arg
	opCap                  // remember the place in slot n; go to out
	opAssert               // go to out if the place fits assert and set
	opCond                 // go to out if group n took part, else to arg
	opMatch                // rule n matched
	opFail                 // nowhere to go

	// Only in the automaton's program.
	opDone    // what opMatch becomes once its place is known
	opWatch   // go to out, unless the text from here on matches the program at arg (negative look-ahead)
	opWatched // the program of a watch matched

	// Only in the exact program.
	opLook    // go to out if the program at arg matches n characters back from here; neg: if it does not
	opAtomic  // go where the program at arg ends first: to out, or to alt if it took nothing
	opSub     // the program of a look or an atomic group matched
	opBackref // take the text of group n again, go to out
)

// inst is one instruction. Programs have no loop that takes no character: see builder.either.
type inst struct {
	op       opcode
	assert   assertion
	neg      bool // opLook
	fold     bool // opBackref
	asciiCmp bool // opBackref
	out, arg uint32
	alt      uint32 // opAtomic; opLook: 1 if nothing is captured within
	bits     uint16 // opCap: what it sets in thread.bits
	n        int32  // slot, group, rule, distance, or opCond in the automaton: the bit
	set      int32  // index into sets, -1 if none
}

// program is what a pattern, or all patterns of a set, become.
type program struct {
	insts []inst
	sets  []ranges

	// Of an exact program only.
	low      [][2]uint64 // set -> its ASCII part
	branches int         // how many opAlt there are; n of each is its number
	pure     bool        // nothing depends on captures
}

// builder writes programs from trees, from the end backwards: each part is given where to go on.
type builder struct {
	program
	limit   int // the program may grow to this length
	full    bool
	work    int  // nodes written so far: a repeat of nothing writes no instruction, however large its count
	exact   bool // write every construct as it is; otherwise what no automaton can decide is widened
	caps    bool // write captures
	approx  bool // the program accepts more than the pattern
	setIdx  map[string]int32
	key     []byte        // scratch of set
	hidden  map[int]bool  // groups within look-arounds, of which the automaton cannot say whether they took part
	condBit map[int]int32 // group -> bit of thread.bits
}

func newBuilder() *builder {
	return &builder{limit: maxProgram, caps: true, setIdx: map[string]int32{}}
}

// rule appends the pattern as the automaton sees it, and returns its first instruction.
//
// A pattern that is not anchored gets a lazy .*? in front. A widened pattern gets no captures: they would be those of the
// wide match, and every bit of state less is a state less.
func (b *builder) rule(re *Regexp, n int) uint32 {
	b.approx = false
	b.conditions(re.root)
	start := b.ruleWith(re, n, true)
	if b.approx && !b.full {
		b.approx = false
		start = b.ruleWith(re, n, false)
		b.approx = true
	}
	return start
}

func (b *builder) ruleWith(re *Regexp, n int, caps bool) uint32 {
	b.caps, b.work = caps, 0
	mark := len(b.insts)
	match := b.emit(inst{op: opMatch, n: int32(n)})
	b.emit(inst{op: opDone, n: int32(n)})
	start := b.comp(re.root, match)
	if !re.anchored {
		start = b.search(start)
	}
	if caps && b.approx && !b.full {
		b.insts = b.insts[:mark]
	}
	return start
}

// search puts a lazy .*? in front, and remembers where the match begins.
func (b *builder) search(start uint32) uint32 {
	if b.caps {
		start = b.emit(inst{op: opCap, n: 0, out: start})
	}
	loop := b.emit(inst{op: opAlt, out: start})
	b.insts[loop].arg = b.emit(inst{op: opChar, set: b.set(anyChar), out: loop})
	return loop
}

// compileExact writes the program of the exact matcher. It begins at the last instruction.
func compileExact(re *Regexp) (*program, bool) {
	b := newBuilder()
	b.exact = true
	start := b.comp(re.root, b.emit(inst{op: opMatch}))
	b.emit(inst{op: opCap, n: 0, out: start})
	b.finishExact()
	return &b.program, b.full
}

// conditions gives a bit to each group that a conditional asks for.
func (b *builder) conditions(root *node) {
	b.hidden, b.condBit = map[int]bool{}, map[int]int32{}
	var walk func(n *node, within bool)
	walk = func(n *node, within bool) {
		switch n.kind {
		case kCond:
			if _, ok := b.condBit[n.group]; !ok {
				b.condBit[n.group] = int32(len(b.condBit))
			}
		case kGroup:
			if within {
				b.hidden[n.group] = true
			}
		}
		for _, s := range n.subs {
			walk(s, within || n.kind == kLook)
		}
	}
	walk(root, false)
}

const maxConds = 16 // bits of thread.bits

func (b *builder) emit(i inst) uint32 {
	if len(b.insts) >= b.limit {
		b.full = true
		return 0
	}
	b.insts = append(b.insts, i)
	return uint32(len(b.insts) - 1)
}

func (b *builder) set(rs ranges) int32 {
	b.key = b.key[:0]
	for _, r := range rs {
		b.key = binary.LittleEndian.AppendUint32(b.key, uint32(r))
	}
	i, ok := b.setIdx[string(b.key)]
	if !ok {
		i = int32(len(b.sets))
		b.setIdx[string(b.key)] = i
		b.sets = append(b.sets, rs)
	}
	return i
}

func (b *builder) alt(first, second uint32) uint32 {
	return b.emit(inst{op: opAlt, out: first, arg: second})
}

// prefer orders two ways by greed.
func (b *builder) prefer(n *node, again, leave uint32) uint32 {
	if n.lazy {
		return b.alt(leave, again)
	}
	return b.alt(again, leave)
}

// comp writes n so that it goes on at next, and returns where n begins.
func (b *builder) comp(n *node, next uint32) uint32 {
	return b.either(n, next, next)
}

// either writes n so that it goes on at empty if it took no character, and at taken if it took some.
//
// This is how a repeat whose body can be empty gets Python's meaning without counters: a round that took nothing is kept,
// with its captures, but ends the repeat (MAX_UNTIL and MIN_UNTIL in Modules/_sre/sre_lib.h). It is also why no program has
// a loop that takes no character. The price is that such a body is written twice.
func (b *builder) either(n *node, empty, taken uint32) uint32 {
	if b.work++; b.work > maxWork {
		b.full = true
	}
	if b.full {
		return 0
	}
	switch n.kind {
	case kEmpty:
		return empty
	case kFail:
		return b.emit(inst{op: opFail})
	case kSet:
		return b.emit(inst{op: opChar, set: b.set(n.set), out: taken})
	case kAssert:
		return b.assertion(n, empty)
	case kCat:
		return b.cat(n.subs, empty, taken)
	case kAlt:
		at := b.either(n.subs[len(n.subs)-1], empty, taken)
		for i := len(n.subs) - 2; i >= 0; i-- {
			at = b.alt(b.either(n.subs[i], empty, taken), at)
		}
		return at
	case kRepeat:
		return b.repeat(n, empty, taken)
	case kGroup:
		return b.group(n, empty, taken)
	case kLook:
		return b.look(n, empty)
	case kBackref:
		return b.backref(n, empty, taken)
	case kCond:
		return b.conditional(n, empty, taken)
	case kAtomic:
		return b.atomic(n, empty, taken)
	}
	panic("BUG: unknown kind of node")
}

func (b *builder) assertion(n *node, next uint32) uint32 {
	i := inst{op: opAssert, assert: n.assert, out: next, set: -1}
	if n.set != nil {
		i.set = b.set(n.set)
	}
	return b.emit(i)
}

// cat writes the parts from the last to the first. A part that always takes a character makes the parts before it free of
// the question whether something was taken.
func (b *builder) cat(subs []*node, empty, taken uint32) uint32 {
	for i := len(subs) - 1; i >= 0; i-- {
		s := subs[i]
		if empty == taken || !s.nullable() {
			empty = b.comp(s, taken)
			taken = empty
			continue
		}
		atEmpty := b.either(s, empty, taken)
		if i > 0 {
			taken = b.comp(s, taken)
		}
		empty = atEmpty
	}
	return empty
}

// repeat writes the counted rounds one after the other, then the optional ones within one another, or a loop.
func (b *builder) repeat(n *node, empty, taken uint32) uint32 {
	body := n.subs[0]
	if empty == taken || !n.nullable() {
		at := b.optional(n, taken)
		for i := 0; i < n.min && !b.full; i++ {
			at = b.comp(body, at)
		}
		return at
	}
	// Nothing was taken so far: the rounds are written for that, and once more for when something was.
	atTaken := b.optional(n, taken)
	atEmpty := b.optionalEither(n, empty, taken)
	for i := n.min; i > 0 && !b.full; i-- {
		atEmpty = b.either(body, atEmpty, atTaken)
		if i > 1 {
			atTaken = b.comp(body, atTaken)
		}
	}
	return atEmpty
}

// optional writes the rounds of n beyond its minimum, going on at next.
func (b *builder) optional(n *node, next uint32) uint32 {
	body := n.subs[0]
	if n.max == infinite {
		loop := b.emit(inst{op: opAlt})
		again := b.either(body, next, loop)
		if !b.full {
			i := &b.insts[loop]
			i.out, i.arg = again, next
			if n.lazy {
				i.out, i.arg = next, again
			}
		}
		return loop
	}
	at := next
	for i := n.min; i < n.max && !b.full; i++ {
		at = b.prefer(n, b.either(body, next, at), next)
	}
	return at
}

// optionalEither is optional where nothing was taken before.
func (b *builder) optionalEither(n *node, empty, taken uint32) uint32 {
	if n.max == n.min {
		return empty
	}
	rest := *n
	if n.max != infinite {
		rest.min++
	}
	more := b.optional(&rest, taken)
	return b.prefer(n, b.either(n.subs[0], empty, more), empty)
}

func (b *builder) group(n *node, empty, taken uint32) uint32 {
	bit, asked := b.condBit[n.group]
	if !b.caps && !asked {
		return b.either(n.subs[0], empty, taken)
	}
	slot := int32(2 * n.group)
	end := inst{op: opCap, n: slot + 1, out: taken}
	if asked && bit < maxConds {
		end.bits = 1 << bit
	}
	ifTaken := b.emit(end)
	ifEmpty := ifTaken
	if empty != taken {
		end.out = empty
		ifEmpty = b.emit(end)
	}
	return b.emit(inst{op: opCap, n: slot, out: b.either(n.subs[0], ifEmpty, ifTaken)})
}

func (b *builder) backref(n *node, empty, taken uint32) uint32 {
	if !b.exact {
		b.approx = true
		return b.either(repeat(lit(anyChar), 0, infinite, true), empty, taken)
	}
	return b.emit(inst{op: opBackref, n: int32(n.group), fold: n.fold, asciiCmp: n.asciiCmp, out: taken, arg: empty})
}

func (b *builder) conditional(n *node, empty, taken uint32) uint32 {
	yes, no := b.either(n.subs[0], empty, taken), b.either(n.subs[1], empty, taken)
	if b.exact {
		return b.emit(inst{op: opCond, n: int32(n.group), out: yes, arg: no})
	}
	bit := b.condBit[n.group]
	if b.hidden[n.group] || bit >= maxConds {
		b.approx = true
		return b.alt(yes, no)
	}
	return b.emit(inst{op: opCond, n: bit, out: yes, arg: no})
}

func (b *builder) atomic(n *node, empty, taken uint32) uint32 {
	if !b.exact {
		b.approx = true
		return b.either(n.subs[0], empty, taken)
	}
	sub := b.comp(n.subs[0], b.emit(inst{op: opSub}))
	return b.emit(inst{op: opAtomic, arg: sub, out: taken, alt: empty})
}
