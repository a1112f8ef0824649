package regex

import "math"

// kind says what a node of the tree is.
type kind uint8

const (
	kEmpty   kind = iota // matches the empty string
	kFail                // matches nothing: (?!)
	kSet                 // one character out of set
	kCat                 // subs one after the other
	kAlt                 // the first of subs that works
	kRepeat              // subs[0], min to max times
	kGroup               // subs[0], captured as group
	kAssert              // a place: assert, with set for the word boundaries
	kLook                // look-around over subs[0]: neg, behind
	kBackref             // the text of group again
	kCond                // subs[0] if group took part, else subs[1]
	kAtomic              // subs[0], and never another way through it
)

// assertion is a condition on the characters left and right of a place.
type assertion uint8

const (
	atBegin       assertion = iota // \A, and ^ without Multiline
	atBeginLine                    // ^ with Multiline
	atEnd                          // \Z
	atEndOrFinal                   // $ without Multiline: at the end, or before a newline that is the last character
	atEndLine                      // $ with Multiline
	atBoundary                     // \b: of left and right exactly one is in set
	atNonBoundary                  // \B
	prevIn                         // left is in set: a look-behind of one character
	prevNotIn
	nextIn // right is in set: a look-ahead of one character
	nextNotIn
	notBegin // the opposites of the first five, which only a negative look-around asks for
	notBeginLine
	notEnd
	notEndOrFinal
	notEndLine
)

const infinite = -1 // max of a repeat without an end

// node is a part of a pattern. Which fields count follows from the kind.
type node struct {
	kind     kind
	assert   assertion
	lazy     bool // kRepeat: as few as possible
	neg      bool // kLook
	behind   bool // kLook
	fold     bool // kBackref: ignoring case
	asciiCmp bool // kBackref: folding ASCII only
	group    int
	min, max int
	back     int // kLook behind: how many characters it looks back
	set      ranges
	subs     []*node
}

func lit(set ranges) *node { return &node{kind: kSet, set: set} }

func repeat(n *node, min, max int, lazy bool) *node {
	return &node{kind: kRepeat, min: min, max: max, lazy: lazy, subs: []*node{n}}
}

// nullable tells whether the node can match without taking a character. It errs on the side of yes.
func (n *node) nullable() bool {
	switch n.kind {
	case kSet, kFail:
		return false
	case kCat:
		for _, s := range n.subs {
			if !s.nullable() {
				return false
			}
		}
		return true
	case kAlt, kCond:
		for _, s := range n.subs {
			if s.nullable() {
				return true
			}
		}
		return false
	case kRepeat:
		return n.min == 0 || n.subs[0].nullable()
	case kGroup, kAtomic:
		return n.subs[0].nullable()
	}
	return true
}

// width gives the smallest and the largest number of characters the node can take, as Python computes them:
// a back-reference has the width of its group, which widths holds.
func (n *node) width(widths map[int][2]int) (lo, hi int) {
	switch n.kind {
	case kSet:
		return 1, 1
	case kCat:
		for _, s := range n.subs {
			l, h := s.width(widths)
			lo, hi = saturate(lo+l), saturate(hi+h)
		}
		return lo, hi
	case kAlt, kCond:
		lo = math.MaxInt32
		for _, s := range n.subs {
			l, h := s.width(widths)
			lo, hi = min(lo, l), max(hi, h)
		}
		return lo, hi
	case kRepeat:
		l, h := n.subs[0].width(widths)
		if n.max == infinite {
			if h > 0 {
				h = math.MaxInt32
			}
			return saturate(l * n.min), h
		}
		return saturate(l * n.min), saturate(h * n.max)
	case kGroup:
		lo, hi = n.subs[0].width(widths)
		widths[n.group] = [2]int{lo, hi}
		return lo, hi
	case kAtomic:
		return n.subs[0].width(widths)
	case kBackref:
		w := widths[n.group]
		return w[0], w[1]
	}
	return 0, 0
}

func saturate(n int) int { return min(n, math.MaxInt32) }

// anchored tells whether the node can match only at the beginning of the text.
func (n *node) anchored() bool {
	switch n.kind {
	case kAssert:
		return n.assert == atBegin
	case kCat:
		for _, s := range n.subs {
			if s.anchored() {
				return true
			}
			// Something that takes no character and is no anchor may stand before it: a comment leaves nothing, but
			// `(?:)^` and `\b^` do.
			if s.kind != kEmpty && s.kind != kAssert {
				return false
			}
		}
	case kAlt:
		for _, s := range n.subs {
			if !s.anchored() {
				return false
			}
		}
		return true
	case kGroup, kAtomic:
		return n.subs[0].anchored()
	case kRepeat:
		return n.min > 0 && n.subs[0].anchored()
	}
	return false
}

// captures tells whether a capturing group is within the node.
func (n *node) captures() bool {
	if n.kind == kGroup {
		return true
	}
	for _, s := range n.subs {
		if s.captures() {
			return true
		}
	}
	return false
}
