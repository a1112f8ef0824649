package regex

import (
	"bytes"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// seeds are patterns for the fuzzers to begin with.
var seeds = []struct{ pattern, text string }{
	{`^Failed \S+ for (?P<user>.*) from (\d+(?:\.\d+){3})`, "Failed password for a from b from 1.2.3.4 port 22"},
	{`(a*)*(b|ab)+?c{2,3}$`, "aababccc"},
	{`(?i:fOO)(?=\b)|x(?!y)[^\W\d_]{1,2}`, "xz foo"},
	{`(?P<q>["'])(.*?)(?P=q)`, `say "it's"`},
	{`(<)?a(?(1)>|b)`, "<a> ab"},
	{`(?<=ab)c|(?<!a)b(?>c+)c?`, "abc bcc"},
	{`(?s)(.+?)\n(?m:^)(\w+)(?m:$)`, "é\xff\n\u0663\n"},
	{"(?x) a b # comment\n | c", "ab"},
	{`[]a-c\-x][^]\n]\x41\u00e9\0\101`, "]bAé\x00A"},
	{`(?:(?!ab).)*$`, "xxabxx"},
	{`\b(?:a|ab|abc)(?:c|cd)??\B`, "abcd"},
	{`host`, "host"},
}

// FuzzAgainstGo compares with the standard library where both mean the same: ASCII, no newline at the end, and no repeat
// of what can be empty, of which Go keeps another round than Python.
func FuzzAgainstGo(f *testing.F) {
	for _, s := range seeds {
		f.Add(s.pattern, s.text)
	}
	g := &generator{Rand: rand.New(rand.NewPCG(1, 2))}
	for range 100 {
		f.Add(g.pattern(), string(g.text()))
	}
	f.Fuzz(func(t *testing.T, pattern, text string) { againstGo(t, pattern, text) })
}

// TestAgainstGo is FuzzAgainstGo with random patterns.
func TestAgainstGo(t *testing.T) {
	g := &generator{Rand: rand.New(rand.NewPCG(rand.Uint64(), 2))}
	compared := 0
	for range 4000 {
		pattern := g.pattern()
		for range 3 {
			if againstGo(t, pattern, string(g.text())) {
				compared++
			}
		}
	}
	t.Logf("%d compared", compared)
	if compared < 2000 {
		t.Errorf("only %d of 12000 could be compared", compared)
	}
}

// onlyGo are spellings that mean something else to Go, or that only Go knows.
var onlyGo = regexp.MustCompile(`\\[zpPQECXK0-9xuU]|\[\[|\[:|\(\?<[^=!]|\(\?[a-zA-Z-]*U|\(\?[ims-]*\)|\{,|\{\d*,?0\d|\\[8-9]`)

func againstGo(t *testing.T, pattern, text string) bool {
	t.Helper()
	if len(pattern) > 200 || strings.HasSuffix(text, "\n") || onlyGo.MatchString(pattern) || !plain(text) || !plain(pattern) {
		return false
	}
	std, err := regexp.Compile(pattern)
	if err != nil {
		return false
	}
	re, err := Compile(pattern, 0)
	if err != nil || repeatsEmpty(re.root) || asksBoundary(re.root) && text == "" {
		return false
	}
	set, err := NewSet([]*Regexp{re}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	m := set.NewMatcher()
	want := std.FindStringSubmatchIndex(text)
	var got []int
	if m.Search([]byte(text)) == 0 {
		for i := range re.GroupNames() {
			start, end := m.Group(i)
			got = append(got, start, end)
		}
	}
	if !slices.Equal(got, want) {
		t.Fatalf("%q on %q: %v, Go says %v", pattern, text, got, want)
	}
	return true
}

// plain tells whether Go's and Python's classes agree on all characters of s.
func plain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c >= 0x80 || c < ' ' && c != '\n' && c != '\t' {
			return false
		}
	}
	return true
}

// repeatsEmpty tells whether a repeat's body can match nothing.
func repeatsEmpty(n *node) bool {
	return n.kind == kRepeat && n.subs[0].nullable() || slices.ContainsFunc(n.subs, repeatsEmpty)
}

func asksBoundary(n *node) bool {
	return n.kind == kAssert && n.set != nil || slices.ContainsFunc(n.subs, asksBoundary)
}

// outcome is what a matcher said: the rule, and all groups.
func outcome(m *Matcher, rule int) []int {
	out := []int{rule}
	if rule >= 0 {
		for g := range m.set.res[rule].names {
			start, end := m.Group(g)
			out = append(out, start, end)
		}
	}
	return out
}

// FuzzAgreement compares the automaton with a roomy cache, with a small one, with none, and the exact matcher.
func FuzzAgreement(f *testing.F) {
	for _, s := range seeds {
		f.Add(s.pattern, s.text)
	}
	g := &generator{Rand: rand.New(rand.NewPCG(3, 4)), python: true}
	for range 100 {
		f.Add(g.pattern(), string(g.text()))
	}
	f.Fuzz(func(t *testing.T, pattern, text string) {
		if len(pattern) > 200 || len(text) > 500 {
			return
		}
		agree(t, strings.Split(pattern, "\x00"), []byte(text))
	})
}

// agree compares all ways to match a text with a set of patterns.
func agree(t *testing.T, patterns []string, text []byte) {
	t.Helper()
	var res []*Regexp
	for _, p := range patterns {
		re, err := Compile(p, 0)
		if err != nil {
			continue
		}
		res = append(res, re)
	}
	var want []int
	for i, size := range []int{0, 3000, 1} {
		set, err := NewSet(res, Options{CacheBytes: size})
		if err != nil {
			return
		}
		if len(set.insts) > 5000 {
			return // right, but slow without a cache: the fuzzer can write many repeats in few bytes
		}
		m := set.NewMatcher()
		for range 2 {
			got := outcome(m, m.Match(text))
			if m.Stats().OutOfSteps > 0 {
				return
			}
			if want == nil {
				want = got
			}
			if !slices.Equal(got, want) {
				t.Fatalf("%q on %q: %v with a cache of %d, %v without a bound", patterns, text, got, size, want)
			}
		}
		if i > 0 {
			continue
		}
		got := outcome(m, m.matchExact(text, 0, true))
		if m.Stats().OutOfSteps == 0 && !slices.Equal(got, want) {
			t.Fatalf("%q on %q: %v by the exact matcher, %v by the automaton", patterns, text, got, want)
		}
	}
}

// TestAgreement is FuzzAgreement with random sets of several patterns.
func TestAgreement(t *testing.T) {
	g := &generator{Rand: rand.New(rand.NewPCG(rand.Uint64(), 2)), python: true}
	for range 100 {
		var patterns []string
		for range 1 + g.IntN(4) {
			patterns = append(patterns, g.pattern())
		}
		text := bytes.Join([][]byte{g.text(), g.text(), g.text()}, nil)
		agree(t, patterns, text)
	}
}
