package regex

import (
	"slices"
	"sort"
	"sync"
	"unicode"
)

// ranges is a set of characters: pairs of first and last, ascending, not touching.
type ranges []rune

// anyChar and notNewline are what a dot matches, with and without DotAll.
var (
	anyChar    = ranges{0, unicode.MaxRune}
	notNewline = ranges{0, '\n' - 1, '\n' + 1, unicode.MaxRune}
)

// Python's classes for str patterns, and their ASCII forms under (?a).
//
// \s is str.isspace, which has four separators (\x1c to \x1f) more than Unicode's White_Space. \w is str.isalnum and the
// underscore: letters and everything with a numeric value, but no marks.
var (
	spaceRanges = ranges{'\t', '\r', 0x1c, 0x20, 0x85, 0x85, 0xa0, 0xa0, 0x1680, 0x1680, 0x2000, 0x200a, 0x2028, 0x2029,
		0x202f, 0x202f, 0x205f, 0x205f, 0x3000, 0x3000}
	digitRanges = sync.OnceValue(func() ranges { return tables(unicode.Nd) })
	wordRanges  = sync.OnceValue(func() ranges { return ranges{'_', '_'}.union(tables(unicode.L, unicode.N)) })

	asciiSpace = ranges{'\t', '\r', ' ', ' '}
	asciiDigit = ranges{'0', '9'}
	asciiWord  = ranges{'0', '9', 'A', 'Z', '_', '_', 'a', 'z'}
)

func tables(ts ...*unicode.RangeTable) ranges {
	var rs ranges
	add := func(lo, hi, stride rune) {
		if stride == 1 {
			rs = append(rs, lo, hi)
			return
		}
		for r := lo; r <= hi; r += stride {
			rs = append(rs, r, r)
		}
	}
	for _, t := range ts {
		for _, r := range t.R16 {
			add(rune(r.Lo), rune(r.Hi), rune(r.Stride))
		}
		for _, r := range t.R32 {
			add(rune(r.Lo), rune(r.Hi), rune(r.Stride))
		}
	}
	return rs.sorted()
}

// sorted makes a set of pairs in any order.
func (rs ranges) sorted() ranges {
	type pair struct{ lo, hi rune }
	ps := make([]pair, 0, len(rs)/2)
	for i := 0; i < len(rs); i += 2 {
		ps = append(ps, pair{rs[i], rs[i+1]})
	}
	slices.SortFunc(ps, func(a, b pair) int { return int(a.lo - b.lo) })
	var out ranges
	for _, p := range ps {
		if n := len(out); n > 0 && p.lo <= out[n-1]+1 {
			out[n-1] = max(out[n-1], p.hi)
			continue
		}
		out = append(out, p.lo, p.hi)
	}
	return out
}

func (rs ranges) union(more ranges) ranges {
	return slices.Concat(rs, more).sorted()
}

func (rs ranges) negate() ranges {
	var out ranges
	next := rune(0)
	for i := 0; i < len(rs); i += 2 {
		if rs[i] > next {
			out = append(out, next, rs[i]-1)
		}
		next = rs[i+1] + 1
	}
	if next <= unicode.MaxRune {
		out = append(out, next, unicode.MaxRune)
	}
	return out
}

func (rs ranges) has(r rune) bool {
	i := sort.Search(len(rs)/2, func(i int) bool { return rs[2*i+1] >= r })
	return 2*i < len(rs) && rs[2*i] <= r
}

// fold adds to a set what Python's IGNORECASE takes for the same: two characters are the same if their lower cases are,
// or stand in one row of sameLower. Under (?a) only ASCII letters fold.
func (rs ranges) fold(asciiOnly bool) ranges {
	out := slices.Clone(rs)
	if asciiOnly {
		for r := 'a'; r <= 'z'; r++ {
			if up := r - 'a' + 'A'; rs.has(r) || rs.has(up) {
				out = append(out, r, r, up, up)
			}
		}
		return out.sorted()
	}
	if r, ok := rs.single(); ok { // most are letters of a name
		for _, other := range orbitOf()[r] {
			out = append(out, other, other)
		}
		return out.sorted()
	}
	for _, orbit := range orbits() {
		if slices.ContainsFunc(orbit, rs.has) {
			for _, r := range orbit {
				out = append(out, r, r)
			}
		}
	}
	return out.sorted()
}

// single gives the only member of a set that has one.
func (rs ranges) single() (r rune, ok bool) {
	if len(rs) != 2 || rs[0] != rs[1] {
		return 0, false
	}
	return rs[0], true
}

// orbitOf finds an orbit by each of its members.
var orbitOf = sync.OnceValue(func() map[rune][]rune {
	of := map[rune][]rune{}
	for _, orbit := range orbits() {
		for _, r := range orbit {
			of[r] = orbit
		}
	}
	return of
})

// sameLower are lower case letters that Python takes for the same although their lower cases differ: they share an upper
// case (Lib/re/_casefix.py, 3.11).
var sameLower = [][]rune{
	{0x69, 0x131}, {0x73, 0x17f}, {0xb5, 0x3bc}, {0x345, 0x3b9, 0x1fbe}, {0x390, 0x1fd3}, {0x3b0, 0x1fe3},
	{0x3b2, 0x3d0}, {0x3b5, 0x3f5}, {0x3b8, 0x3d1}, {0x3ba, 0x3f0}, {0x3c0, 0x3d6}, {0x3c1, 0x3f1}, {0x3c2, 0x3c3},
	{0x3c6, 0x3d5}, {0x432, 0x1c80}, {0x434, 0x1c81}, {0x43e, 0x1c82}, {0x441, 0x1c83}, {0x442, 0x1c84, 0x1c85},
	{0x44a, 0x1c86}, {0x463, 0x1c87}, {0x1e61, 0x1e9b}, {0xa64b, 0x1c88}, {0xfb05, 0xfb06},
}

// orbits lists the sets of characters that fold together, without those of one member.
var orbits = sync.OnceValue(func() [][]rune {
	canon := map[rune]rune{}
	byLower := map[rune][]rune{}
	for _, row := range sameLower {
		for _, r := range row {
			canon[r] = row[0]
			byLower[row[0]] = append(byLower[row[0]], r)
		}
	}
	for _, cr := range unicode.CaseRanges {
		for r := rune(cr.Lo); r <= rune(cr.Hi); r++ {
			lower := unicode.ToLower(r)
			if lower == r {
				continue
			}
			c, known := canon[lower]
			if !known {
				c = lower
				canon[lower] = lower
				byLower[c] = append(byLower[c], lower)
			}
			byLower[c] = append(byLower[c], r)
		}
	}
	var out [][]rune
	for _, orbit := range byLower {
		out = append(out, orbit)
	}
	return out
})
