package regex

import (
	"errors"
	"fmt"
	"slices"
	"unicode"
)

// Options bound what a matcher may spend. The zero value means the defaults.
type Options struct {
	// CacheBytes bounds the automaton a matcher keeps, default 8 MiB. With less it is rebuilt more often, or not kept at
	// all for texts that change states at every byte; the answers stay the same.
	CacheBytes int

	// Steps bounds what the exact matcher may do for one text, default 4,194,304 (about 20 ms). A text that would need
	// more counts as not matched, and is counted in Stats.OutOfSteps.
	Steps int
}

const (
	defaultCacheBytes = 8 << 20
	defaultSteps      = 1 << 22
	maxSetProgram     = 1 << 20 // instructions of all rules together
	maxClasses        = 1 << 12
)

// Set is a list of rules of which the first that matches wins. It is immutable and may be shared by goroutines.
type Set struct {
	program
	res    []*Regexp
	opts   Options
	starts []uint32 // by rule
	ruleOf []uint16 // by instruction
	tags   []int    // by rule: how many slots its captures need; 0 if it is not regular
	most   int      // the largest of tags

	// Characters that no rule tells apart are one class.
	classes int
	byteOf  [256]uint8 // class of an ASCII byte; classLong for all others
	bounds  []rune     // class boundOf[i] begins at bounds[i]
	boundOf []uint16
	member  []bool   // set*classes + class: is the class in the set
	context []uint64 // class -> what a place right of such a character knows, bits of the left context

	leftBit map[int32]uint64 // set -> its bit in a left context
	needs   []uint64         // instruction -> bits of the left context that are asked for before the next character
	asks    []uint16         // instruction -> bits of thread.bits that may still be asked for
	tails   []bool           // instruction -> it is a loop over all but newlines
}

// Classes that stand for no range of characters.
const (
	classLong  = 0 // not ASCII: decode it and look the class up
	classEnd   = 1 // the end of the text
	classFinal = 2 // a newline that is the last character
	classFirst = 3
)

// Bits of a left context that are no set.
const (
	leftBegin = 1 << iota
	leftNewline
	leftSets // the first of the sets
)

// NewSet joins rules. It fails if they are too many or too large together.
func NewSet(res []*Regexp, o Options) (*Set, error) {
	if o.CacheBytes == 0 {
		o.CacheBytes = defaultCacheBytes
	}
	if o.Steps == 0 {
		o.Steps = defaultSteps
	}
	if o.CacheBytes < 0 || o.Steps < 0 {
		return nil, errors.New("regex: CacheBytes and Steps must not be negative")
	}
	if len(res) > 1<<15 {
		return nil, fmt.Errorf("regex: %d rules in one set, more than %d", len(res), 1<<15)
	}
	s := &Set{opts: o}
	b := newBuilder()
	b.limit = maxSetProgram
	for i, re := range res {
		s.starts = append(s.starts, b.rule(re, i))
		if b.full {
			return nil, fmt.Errorf("regex: the rules of the set have more than %d instructions together", maxSetProgram)
		}
		bare := *re
		bare.root = nil
		s.res = append(s.res, &bare)
		n := 0
		if re.regular {
			n = 2 * len(re.names)
		}
		s.tags = append(s.tags, n)
		s.most = max(s.most, n)
		for len(s.ruleOf) < len(b.insts) {
			s.ruleOf = append(s.ruleOf, uint16(i))
		}
	}
	s.program = b.program
	if err := s.classify(); err != nil {
		return nil, err
	}
	if err := s.leftContexts(); err != nil {
		return nil, err
	}
	s.findNeeds()
	s.findTails()
	return s, nil
}

// classify divides all characters into classes, those of ASCII first.
func (s *Set) classify() error {
	cuts := []rune{0, '\n', '\n' + 1, 0x80, unicode.MaxRune + 1}
	for _, set := range s.sets {
		for i := 0; i < len(set); i += 2 {
			cuts = append(cuts, set[i], set[i+1]+1)
		}
	}
	slices.Sort(cuts)
	cuts = slices.Compact(cuts)
	byKey := map[string]uint16{}
	var reps []rune
	key := make([]byte, (len(s.sets)+1+7)/8)
	at := make([]int, len(s.sets)) // how far each set was read: lo only grows
	for i, lo := range cuts[:len(cuts)-1] {
		clear(key)
		for j, set := range s.sets {
			for at[j] < len(set) && set[at[j]+1] < lo {
				at[j] += 2
			}
			if at[j] < len(set) && set[at[j]] <= lo {
				key[j/8] |= 1 << (j % 8)
			}
		}
		if lo == '\n' { // the newline is always alone: places ask for it
			key[len(s.sets)/8] |= 1 << (len(s.sets) % 8)
		}
		c, ok := byKey[string(key)]
		if !ok {
			c = uint16(classFirst + len(reps))
			byKey[string(key)] = c
			reps = append(reps, lo)
			if len(reps) > maxClasses {
				return fmt.Errorf("regex: the rules of the set tell more than %d classes of characters apart", maxClasses)
			}
		}
		s.bounds, s.boundOf = append(s.bounds, lo), append(s.boundOf, c)
		for r := lo; r < min(cuts[i+1], 0x80); r++ {
			s.byteOf[r] = uint8(c) // at most 128 classes begin below 0x80
		}
	}
	s.classes = classFirst + len(reps)
	s.member = make([]bool, len(s.sets)*s.classes)
	for j, set := range s.sets {
		row := s.member[j*s.classes:][:s.classes]
		for c, r := range reps {
			row[classFirst+c] = set.has(r)
		}
		row[classFinal] = set.has('\n')
	}
	return nil
}

// class looks up a character that is not ASCII.
func (s *Set) class(r rune) int {
	i, found := slices.BinarySearch(s.bounds, r)
	if !found {
		i--
	}
	return int(s.boundOf[i])
}

// leftContexts gives a bit to each set that some assertion asks for on the left.
func (s *Set) leftContexts() error {
	s.leftBit = map[int32]uint64{}
	for i := range s.insts {
		in := &s.insts[i]
		if in.op != opAssert || in.set < 0 || in.assert == nextIn || in.assert == nextNotIn {
			continue
		}
		if _, ok := s.leftBit[in.set]; !ok {
			if len(s.leftBit) == 62 {
				return errors.New("regex: the rules of the set look back at more than 62 different sets of characters")
			}
			s.leftBit[in.set] = leftSets << len(s.leftBit)
		}
	}
	s.context = make([]uint64, s.classes)
	for set, bit := range s.leftBit {
		for c := range s.classes {
			if s.member[int(set)*s.classes+c] {
				s.context[c] |= bit
			}
		}
	}
	s.context[s.byteOf['\n']] |= leftNewline
	s.context[classFinal] |= leftNewline
	return nil
}

// findNeeds works out, for each instruction, what it may still ask for. It goes round until nothing changes; programs are
// written from their end, so that few rounds are enough.
func (s *Set) findNeeds() {
	s.needs, s.asks = make([]uint64, len(s.insts)), make([]uint16, len(s.insts))
	for changed := true; changed; {
		changed = false
		for i := range s.insts {
			in := &s.insts[i]
			need, ask := s.needs[i], s.asks[i]
			switch in.op {
			case opMatch, opDone, opFail, opWatched:
				continue
			case opChar:
				ask |= s.asks[in.out]
			case opAlt, opCond, opWatch:
				need |= s.needs[in.out] | s.needs[in.arg]
				ask |= s.asks[in.out] | s.asks[in.arg]
				if in.op == opCond {
					ask |= 1 << in.n
				}
			default:
				need |= s.needs[in.out]
				ask |= s.asks[in.out]
				if in.op == opAssert {
					need |= s.leftOf(in)
				}
			}
			if need != s.needs[i] || ask != s.asks[i] {
				s.needs[i], s.asks[i], changed = need, ask, true
			}
		}
	}
}

// findTails marks loops that a newline or the end ends, and nothing else: only states of such are worth a closer look.
func (s *Set) findTails() {
	s.tails = make([]bool, len(s.insts))
	wide := make([]bool, len(s.sets))
	for i, set := range s.sets {
		wide[i] = len(set.union(ranges{'\n', '\n'})) == 2 && set.has(0) && set.has(unicode.MaxRune)
	}
	loops := func(pc int, to uint32) bool {
		in := &s.insts[to]
		return in.op == opChar && wide[in.set] && in.out == uint32(pc)
	}
	for i := range s.insts {
		in := &s.insts[i]
		s.tails[i] = in.op == opDone || in.op == opAlt && (loops(i, in.out) || loops(i, in.arg))
	}
}

// leftOf tells what an assertion asks of the left.
func (s *Set) leftOf(in *inst) uint64 {
	switch in.assert {
	case atBegin, notBegin:
		return leftBegin
	case atBeginLine, notBeginLine:
		return leftBegin | leftNewline
	case atBoundary, atNonBoundary:
		return s.leftBit[in.set] | leftBegin // in an empty text neither holds
	case prevIn, prevNotIn:
		return s.leftBit[in.set]
	}
	return 0
}

// holds tells whether an assertion holds between a left context and a character of class c.
func (s *Set) holds(in *inst, left uint64, c int) bool {
	switch in.assert {
	case atBegin:
		return left&leftBegin != 0
	case notBegin:
		return left&leftBegin == 0
	case atBeginLine:
		return left&(leftBegin|leftNewline) != 0
	case notBeginLine:
		return left&(leftBegin|leftNewline) == 0
	case atEnd:
		return c == classEnd
	case notEnd:
		return c != classEnd
	case atEndOrFinal:
		return c == classEnd || c == classFinal
	case notEndOrFinal:
		return c != classEnd && c != classFinal
	case atEndLine:
		return s.endsLine(c)
	case notEndLine:
		return !s.endsLine(c)
	case prevIn:
		return left&s.leftBit[in.set] != 0
	case prevNotIn:
		return left&s.leftBit[in.set] == 0
	case nextIn:
		return s.in(in.set, c)
	case nextNotIn:
		return !s.in(in.set, c)
	}
	if left&leftBegin != 0 && c == classEnd {
		return false
	}
	return ((left&s.leftBit[in.set] != 0) != s.in(in.set, c)) == (in.assert == atBoundary)
}

func (s *Set) in(set int32, c int) bool { return s.member[int(set)*s.classes+c] }

func (s *Set) endsLine(c int) bool {
	return c == classEnd || c == classFinal || c == int(s.byteOf['\n'])
}
