package regex

import (
	"slices"
	"strings"
	"unicode"
)

// Clause is a list of texts of which at least one occurs in whatever an expression matches.
type Clause []string

// Required tells what a text must hold for the expression to match it: a text of every clause. It is a necessary condition
// and no more, read from the pattern alone; of an expression of which nothing can be said there are no clauses.
//
// The texts are to be looked for in the bytes of a line. None holds a newline, and all are folded: compare them with
// bytes that went through Fold. So an expression that ignores case is no worse than others. The clauses that exclude most
// come first.
func (re *Regexp) Required() []Clause {
	cs := requireOf(re.root).settled()
	slices.SortStableFunc(cs, func(a, b Clause) int { return b.weight() - a.weight() })
	return cs
}

// Fold makes bytes equal that differ in the case of an ASCII letter only (and a few other pairs, such as [ and {).
func Fold(b byte) byte { return b | 0x20 }

// Unfold gives the other byte that folds to the same.
func Unfold(folded byte) byte { return folded &^ 0x20 }

// Bounds of what is followed up: a clause beyond them would be of little use.
const (
	maxExact   = 64  // texts of one part of a pattern
	maxText    = 64  // bytes of a text
	maxMembers = 4   // characters of a set that is written out
	maxClauses = 256 // of one part
)

// require is what a part of a pattern asks of the text that it matches.
type require struct {
	exact   []string // if known, it matches one of these, folded, and nothing else
	known   bool
	clauses []Clause
}

var takesNothing = require{exact: []string{""}, known: true}

// settled are the clauses, with what is known exactly as one of them.
func (r require) settled() []Clause {
	if !r.known || len(r.exact) == 0 || slices.Contains(r.exact, "") || len(r.clauses) == maxClauses {
		return r.clauses
	}
	return append(r.clauses, reduce(r.exact))
}

// reduce leaves out texts that hold another one of the clause.
func reduce(texts []string) Clause {
	sorted := slices.Clone(texts)
	slices.SortStableFunc(sorted, func(a, b string) int { return len(a) - len(b) })
	var c Clause
	for _, t := range sorted {
		if !slices.ContainsFunc(c, func(shorter string) bool { return strings.Contains(t, shorter) }) {
			c = append(c, t)
		}
	}
	return c
}

// weight says how much a clause excludes: its shortest text decides, and each doubling of their number costs a byte.
func (c Clause) weight() int {
	least := maxText
	for _, t := range c {
		least = min(least, len(t))
	}
	w := 4 * least
	for n := len(c); n > 1; n /= 2 {
		w -= 4
	}
	return w
}

func requireOf(n *node) require {
	switch n.kind {
	case kEmpty, kAssert, kLook:
		return takesNothing // what a look-around asks for is not followed up
	case kSet:
		return requireSet(n.set)
	case kCat:
		return requireCat(n.subs)
	case kAlt, kCond:
		return requireAlt(n.subs)
	case kRepeat:
		return requireRepeat(n)
	case kGroup, kAtomic:
		return requireOf(n.subs[0])
	}
	return require{}
}

// requireSet writes a small set out. A newline is nothing to look for, since the last one is in no line; and U+FFFD stands
// for any broken sequence.
func requireSet(set ranges) require {
	n := 0
	for i := 0; i < len(set); i += 2 {
		if n += int(set[i+1]-set[i]) + 1; n > maxMembers {
			return require{}
		}
	}
	r := require{known: true}
	for i := 0; i < len(set); i += 2 {
		for c := set[i]; c <= set[i+1]; c++ {
			if c == '\n' || c == unicode.ReplacementChar {
				return require{}
			}
			text := []byte(string(c))
			for j := range text {
				text[j] = Fold(text[j])
			}
			if !slices.Contains(r.exact, string(text)) {
				r.exact = append(r.exact, string(text))
			}
		}
	}
	return r
}

// requireCat joins neighbours that are known exactly.
func requireCat(subs []*node) require {
	all := takesNothing
	whole := true // nothing but what is in all.exact
	for _, s := range subs {
		next := requireOf(s)
		if joined, ok := join(all, next); ok {
			all.exact = joined
			continue
		}
		whole = false
		clauses := append(all.settled(), next.clauses...)
		all = takesNothing
		if next.known {
			all = next
		}
		all.clauses = clauses[:min(len(clauses), maxClauses)]
	}
	if !whole {
		all = require{clauses: all.settled()}
	}
	return all
}

// join is every text of a before every text of b, if they are few and short.
func join(a, b require) (texts []string, ok bool) {
	if !a.known || !b.known || len(a.exact)*len(b.exact) > maxExact {
		return nil, false
	}
	for _, x := range a.exact {
		for _, y := range b.exact {
			if len(x)+len(y) > maxText {
				return nil, false
			}
			texts = append(texts, x+y)
		}
	}
	return texts, true
}

// requireAlt is what every way asks for: all their texts, or the best clause of each.
func requireAlt(subs []*node) require {
	all := require{known: true}
	var either Clause
	for _, s := range subs {
		r := requireOf(s)
		if all.known = all.known && r.known; all.known {
			all.exact = append(all.exact, r.exact...)
		}
		best := heaviest(r.settled())
		if best == nil || either == nil && s != subs[0] {
			either = nil
			continue
		}
		either = append(either, best...)
	}
	if all.known && len(all.exact) <= maxExact {
		return all
	}
	if either == nil {
		return require{}
	}
	return require{clauses: []Clause{reduce(either)}}
}

func heaviest(cs []Clause) (best Clause) {
	for _, c := range cs {
		if best == nil || c.weight() > best.weight() {
			best = c
		}
	}
	return best
}

func requireRepeat(n *node) require {
	sub := requireOf(n.subs[0])
	switch {
	case n.max == 0:
		return takesNothing
	case n.min == 0 && n.max == 1 && sub.known && len(sub.exact) < maxExact:
		return require{exact: append(slices.Clone(sub.exact), ""), known: true}
	case n.min == 0:
		return require{}
	case n.min != n.max:
		return require{clauses: sub.settled()}
	}
	all := takesNothing
	for range n.min {
		joined, ok := join(all, sub)
		if !ok {
			return require{clauses: sub.settled()}
		}
		all.exact = joined
	}
	return all
}
