package regex

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// generator makes random patterns and texts over a small alphabet, so that they meet.
type generator struct {
	*rand.Rand
	python bool // with what only Python has
	depth  int
	groups int
	closed []int
	behind bool
}

func (g *generator) pattern() string {
	g.depth, g.groups, g.closed, g.behind = 0, 0, nil, false
	return g.alternation()
}

func (g *generator) alternation() string {
	s := g.sequence()
	for g.IntN(4) == 0 {
		s += "|" + g.sequence()
	}
	return s
}

func (g *generator) sequence() string {
	var b strings.Builder
	for range g.IntN(4) + g.IntN(2) {
		b.WriteString(g.repeated())
	}
	return b.String()
}

func (g *generator) repeated() string {
	s := g.atom()
	if g.IntN(3) > 0 || isPlace(s) {
		return s
	}
	s += []string{"*", "+", "?", "{2}", "{1,2}", "{0,2}", "{1,}", "{,2}"}[g.IntN(7+b2i(g.python))]
	switch n := g.IntN(8); {
	case n < 3:
		s += "?"
	case n == 3 && g.python && !strings.ContainsAny(s, "()"):
		// Python before 3.11.5 gets possessive repeats of groups wrong (https://github.com/python/cpython/issues/106052).
		s += "+"
	}
	return s
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

func isPlace(s string) bool {
	return s == "^" || s == "$" || s == `\b` || s == `\B` || s == `\A` || s == `\Z`
}

func (g *generator) atom() string {
	g.depth++
	defer func() { g.depth-- }()
	if g.depth < 5 {
		switch n := g.IntN(24); {
		case n < 3:
			return g.group()
		case n < 5:
			return "(?:" + g.alternation() + ")"
		case !g.python:
		case n == 5:
			return "(?=" + g.alternation() + ")"
		case n == 6:
			return "(?!" + g.alternation() + ")"
		case n == 7:
			return "(?<" + g.pick("=", "!") + g.fixed() + ")"
		case n == 8 && len(g.closed) > 0:
			return fmt.Sprintf(`\%d`, g.closed[g.IntN(len(g.closed))])
		case n == 9 && len(g.closed) > 0:
			s := fmt.Sprintf("(?(%d)%s", g.closed[g.IntN(len(g.closed))], g.sequence())
			if g.IntN(2) == 0 {
				s += "|" + g.sequence()
			}
			return s + ")"
		case n == 10 && g.IntN(2) == 0:
			return "(?>" + g.alternation() + ")"
		case n == 11:
			return "(?" + g.pick("i", "s", "m", "-i", "i-s", "a") + ":" + g.alternation() + ")"
		}
	}
	return g.single()
}

func (g *generator) group() string {
	g.groups++
	n := g.groups
	s := "("
	if g.IntN(3) == 0 {
		s = fmt.Sprintf("(?P<n%d>", n)
	}
	s += g.alternation() + ")"
	g.closed = append(g.closed, n)
	return s
}

// fixed is a sequence of a fixed width, for a look-behind.
func (g *generator) fixed() string {
	var b strings.Builder
	for range g.IntN(3) {
		b.WriteString(g.single())
	}
	return b.String()
}

func (g *generator) pick(of ...string) string { return of[g.IntN(len(of))] }

func (g *generator) single() string {
	if !g.python {
		return g.pick("a", "b", "c", "ab", ".", "[ab]", "[^a]", "[b-d]", "^", "$", `\A`, "x", " ", "1", `[^\n]`, "aa")
	}
	return g.pick("a", "b", "c", "ab", ".", "[ab]", "[^a]", "[b-d]", "^", "$", `\b`, `\B`, `\A`, `\Z`, `\d`, `\w`, `\s`, `\D`,
		`\W`, `\S`, "é", "É", "[é-ü]", `\n`, "k", "S", "1", `[^\W\d]`, `[\s\w]`, " ", "a", "b", `\x61`, "[]a]", "i", "[^k]")
}

func (g *generator) text() []byte {
	letters := []string{"a", "b", "c", "d", "a", "b", "\n", " ", "1"}
	if g.python {
		letters = append(letters, "A", "é", "É", "\u212a", "k", "ſ", "s", "İ", "ı", "i", "٣", "\u00a0", "\x1c", "\xff", "\xe2\x82",
			"\xf0\x9f", "😀", "_", "²", "ß", "\u0301", "\n", "a", "b", "ab", "aa")
	}
	var b strings.Builder
	for range g.IntN(9) {
		b.WriteString(letters[g.IntN(len(letters))])
	}
	return []byte(b.String())
}
