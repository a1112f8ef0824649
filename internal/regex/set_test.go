package regex

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func TestMatch(t *testing.T) {
	tests := []struct {
		name   string
		rules  []string
		text   string
		want   int
		groups string // of the rule, as start-end; - for none
	}{
		{"no rules", nil, "a", -1, ""},
		{"first rule wins, though the second matches earlier", []string{`b`, `a`}, "ab", 0, "1-2"},
		{"second rule", []string{`x`, `(a)(x)?`}, "ab", 1, "0-1 0-1 -"},
		{"refused by the exact matcher, the next is asked", []string{`(.)\1`, `(?<=ab)c`, `a`}, "abab", 2, "0-1"},
		{"the newline is there", []string{`a\s`}, "a", 0, "0-1"},
		{"dollar before the newline", []string{`a$`}, "a", 0, "0-1"},
		{"dollar before the second newline only", []string{`a$`}, "a\n", -1, ""},
		{"end is behind the newline", []string{`a\Z`}, "a", -1, ""},
		{"a dot is no newline", []string{`a.`}, "a", -1, ""},
		{"an empty text", []string{`^$`}, "", 0, "0-0"},
		{"an empty round keeps its capture", []string{`(a*)*`}, "aa", 0, "0-2 2-2"},
		{"alternatives in their order", []string{`(a|ab)(c|bcd)`}, "abcd", 0, "0-4 0-1 1-4"},
		{"lazy", []string{`^(.*?) from (.*)$`}, "a from b from c", 0, "0-15 0-1 7-15"},
		{"greedy", []string{`^(.*) from (.*)$`}, "a from b from c", 0, "0-15 0-8 14-15"},
		{"an invalid sequence is one character", []string{`^a.b$`}, "a\xe2\x82b", 0, "0-4"},
		{"two invalid bytes are two", []string{`^a.b$`}, "a\xff\xffb", -1, ""},
		{"the replacement character itself", []string{"^\ufffd"}, "\xff", 0, "0-1"},
		{"watched to the end", []string{`a(?!b$)`, `b`}, "ab", 1, "1-2"},
		{"watched across a match", []string{`a(?!bbbc)`, `c`}, "abbbc", 1, "4-5"},
		{"not broken", []string{`a(?!bbbc)`, `c`}, "abbbb", 0, "0-1"},
		{"a back-reference ignoring case", []string{`(?i)^(é)\1$`}, "éÉ", 0, "0-4 0-2"},
		{"a back-reference ignoring ASCII case", []string{`(?ai)^(é)\1$`, `(?ai)^(k)\1`}, "kK", 1, "0-2 0-1"},
		{"the Kelvin sign", []string{`(?i)^k$`}, "\u212a", 0, "0-3"},
		{"a broken sequence of four", []string{`^.$`}, "\xf0\x9f\x98", 0, "0-3"},
		{"a surrogate is three characters", []string{`^...$`}, "\xed\xa0\x80", 0, "0-3"},
		{"conditional", []string{`^(<)?a(?(1)>|$)`}, "<a", -1, ""},
	}
	for _, tt := range tests {
		for _, size := range []int{0, 1} {
			m := mustSet(t, Options{CacheBytes: size}, tt.rules...).NewMatcher()
			got := m.Match([]byte(tt.text))
			if got != tt.want {
				t.Errorf("%s: rules %q on %q: %d, want %d", tt.name, tt.rules, tt.text, got, tt.want)
				continue
			}
			if got < 0 {
				if start, end := m.Group(0); start != -1 || end != -1 {
					t.Errorf("%s: group 0 is %d-%d without a match", tt.name, start, end)
				}
				continue
			}
			if groups := groupsOf(m, got); groups != tt.groups {
				t.Errorf("%s: rules %q on %q: groups %s, want %s", tt.name, tt.rules, tt.text, groups, tt.groups)
			}
			if spans := spansOf(m, got); spans != tt.groups {
				t.Errorf("%s: rules %q on %q: spans %s, want %s", tt.name, tt.rules, tt.text, spans, tt.groups)
			}
		}
	}
}

func groupsOf(m *Matcher, rule int) string {
	var all []string
	for g := range m.set.res[rule].names {
		if start, end := m.Group(g); start < 0 {
			all = append(all, "-")
		} else {
			all = append(all, fmt.Sprintf("%d-%d", start, end))
		}
	}
	return strings.Join(all, " ")
}

// spansOf is groupsOf by way of Spans, but for group 0.
func spansOf(m *Matcher, rule int) string {
	const offset = 7
	n := len(m.set.res[rule].names)
	spans, captures := make([]Span, n), []Capture{}
	for g := 1; g < n; g++ {
		captures = append(captures, Capture{Group: g, Slot: n - g})
	}
	m.Spans(spans, captures, offset)
	start, end := m.Group(0)
	all := []string{fmt.Sprintf("%d-%d", start, end)}
	for _, c := range captures {
		if s := spans[c.Slot]; s.From < 0 {
			all = append(all, "-")
		} else {
			all = append(all, fmt.Sprintf("%d-%d", s.From-offset, s.To-offset))
		}
	}
	return strings.Join(all, " ")
}

func TestMatchFrom(t *testing.T) {
	m := mustSet(t, Options{}, `a`, `b`, `(a)\1`, `b`).NewMatcher()
	for from, want := range []int{0, 1, 3, 3, -1} {
		if got := m.MatchFrom([]byte("ab"), from); got != want {
			t.Errorf("from rule %d: %d, want %d", from, got, want)
		}
	}
	if start, end := m.Group(9); start != -1 || end != -1 {
		t.Errorf("a group that is not there: %d-%d", start, end)
	}
}

func TestNewSetRefuses(t *testing.T) {
	re, err := Compile(`a{60000}`, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewSet(slices.Repeat([]*Regexp{re}, 20), Options{}); err == nil {
		t.Error("a set of 1,200,000 instructions was taken")
	}
	if _, err := NewSet(nil, Options{CacheBytes: -1}); err == nil {
		t.Error("a negative cache was taken")
	}
}

// TestCacheBounds gives a small cache more states than it holds, and finds its answers the same and its size bounded.
func TestCacheBounds(t *testing.T) {
	pattern := `(?:a|b)*a(?:a|b){8}(c)` // its automaton has 2^9 states and more
	text := []byte(strings.Repeat("abaababbababbbabaabbabbbabababaabbbabababbaaabab", 40) + "c")
	for _, size := range []int{0, 100 << 10, 20 << 10, 1} {
		m := mustSet(t, Options{CacheBytes: size}, pattern).NewMatcher()
		for range 3 {
			if got := m.Match(text); got != 0 {
				t.Fatalf("cache of %d: rule %d, want 0", size, got)
			}
			if start, _ := m.Group(1); start != len(text)-1 {
				t.Fatalf("cache of %d: group 1 at %d, want %d", size, start, len(text)-1)
			}
		}
		s := m.Stats()
		if size > 0 && s.Bytes > size+2000 {
			t.Errorf("cache of %d takes %d bytes", size, s.Bytes)
		}
		if size == 0 && (s.Flushes > 0 || s.Direct > 0) {
			t.Errorf("stats %+v: want no flush with the default cache", s)
		}
		if size == 1 && s.Direct == 0 {
			t.Errorf("stats %+v: want texts finished without the cache", s)
		}
	}
}

// TestFlush lets a cache fill slowly, so that emptying it is worth while.
func TestFlush(t *testing.T) {
	m := mustSet(t, Options{CacheBytes: 30 << 10}, `^x(?:a|b)*a(?:a|b){7}(?!cde)(c)`).NewMatcher()
	for i := range 3000 {
		b := []byte("x" + strings.Repeat("a", 50))
		for j := range 9 {
			if i>>j&1 != 0 {
				b = append(b, 'b')
			} else {
				b = append(b, 'a')
			}
		}
		want := 0
		if b[len(b)-8] != 'a' {
			want = -1
		}
		if got := m.Match(append(b, "cd"...)); got != want {
			t.Fatalf("%q: %d, want %d", b, got, want)
		}
		if got := m.Match(append(b, "cde"...)); got != -1 {
			t.Fatalf("%q: %d, want -1", b, got)
		}
	}
	if s := m.Stats(); s.Flushes == 0 {
		t.Errorf("stats %+v: want flushes", s)
	}
}

// TestLinear counts the exact matcher's steps on texts that make a plain backtracking matcher take exponential or square
// time: doubled texts may not take much more than double the steps.
func TestLinear(t *testing.T) {
	tests := []struct{ pattern, text string }{
		{`(?:a|aa)*(?=bc)b`, "a"},
		{`(?:(?=.*cd).)*e`, "ab"},
		{`(?:a*)*(?<=ab)c`, "a"},
		{`(?:(?!(?!.*z)x).)*z(?=yy)`, "ab"},
		{`.*.*.*(?<=ab)=`, "a"},
	}
	for _, tt := range tests {
		re, err := Compile(tt.pattern, 0)
		if err != nil {
			t.Fatal(err)
		}
		if re.Regular() {
			t.Fatalf("%q needs no exact matcher", tt.pattern)
		}
		steps := func(n int) uint64 {
			e := newExact(1 << 24)
			e.search(re, bytes.Repeat([]byte(tt.text), n), true)
			if e.outOfSteps > 0 {
				t.Fatalf("%q out of steps at %d", tt.pattern, n)
			}
			return e.taken
		}
		if a, b := steps(1000), steps(2000); b > a*2+a/2 {
			t.Errorf("%q: %d steps for 1000, %d for 2000", tt.pattern, a, b)
		}
	}
}

func TestOutOfSteps(t *testing.T) {
	m := mustSet(t, Options{Steps: 10000}, `^(a*)*\1b$`, `c`).NewMatcher()
	if got := m.Match([]byte(strings.Repeat("a", 40) + "c")); got != 1 {
		t.Errorf("rule %d, want 1: a rule that runs out of steps does not match", got)
	}
	if s := m.Stats(); s.Confirmations > 0 && s.OutOfSteps != 1 {
		t.Errorf("stats %+v: want one text out of steps", s)
	}
}

// TestLongTexts walks 20 KB of everything.
func TestLongTexts(t *testing.T) {
	m := mustSet(t, Options{}, expand(sshdRules)...).NewMatcher()
	for _, begin := range []string{"", "Failed password for ", "Failed password for invalid user ", "User ", "Connection closed by "} {
		for _, fill := range []string{"a", " ", "a ", " from ", " from 1.2.3.4", "::", "1.2.3.4 port 22 ", "é", "\xff", "\n", "\x00"} {
			text := []byte(begin + strings.Repeat(fill, 20000/len(fill)))
			before := m.Stats()
			m.Match(text)
			m.Match(append(text, " from 1.2.3.4 port 22 ssh2"...))
			if s := m.Stats(); s.Built-before.Built > 500 || s.Direct+s.TooMany+s.OutOfSteps > 0 {
				t.Errorf("%q and %q repeated: %+v after %+v", begin, fill, s, before)
			}
		}
	}
}

// TestNoAllocation matches lines the automaton knows.
func TestNoAllocation(t *testing.T) {
	m := mustSet(t, Options{}, expand(sshdRules)...).NewMatcher()
	line := []byte("Failed password for invalid user admin from 203.0.113.7 port 4711 ssh2")
	if n := testing.AllocsPerRun(100, func() { m.Match(line) }); n > 0 {
		t.Errorf("%v allocations for a line", n)
	}
	if got := groupsOf(m, 3); !strings.HasPrefix(got, "0-") {
		t.Errorf("groups %s", got)
	}
}

// TestTooMany makes the automaton give up, with more sets of watched places than it keeps, and recover.
func TestTooMany(t *testing.T) {
	m := mustSet(t, Options{Steps: 1 << 26}, `^(?:[ab](?!(?:a|b)*a(?:a|b){16}c))*d`, `x`).NewMatcher()
	r := rand.New(rand.NewPCG(1, 1))
	text := make([]byte, 60000)
	for i := range text {
		text[i] = "ab"[r.IntN(2)]
	}
	text = append(text, 'd')
	if got := m.Match(text); got != 0 {
		t.Errorf("rule %d, want 0", got)
	}
	if s := m.Stats(); s.TooMany != 1 {
		t.Errorf("stats %+v: want one text that was too much", s)
	}
	for range 100 {
		m.Match(text[:2000])
	}
	before := m.Stats()
	if got := m.Match([]byte("abbad")); got != 0 {
		t.Errorf("rule %d afterwards, want 0", got)
	}
	if s := m.Stats(); s.Flushes == 0 || s.TooMany > before.TooMany {
		t.Errorf("stats %+v: want it flushed and well again", s)
	}
}

// TestManyCaptures has more captures in hand than there are registers.
func TestManyCaptures(t *testing.T) {
	pattern := "^" + strings.Repeat("(a?)", 250) + strings.Repeat("a", 250) + "$"
	m := mustSet(t, Options{Steps: 1 << 24}, pattern).NewMatcher()
	for _, n := range []int{249, 250, 400, 500, 501} {
		want := -1
		if n >= 250 && n <= 500 {
			want = 0
		}
		if got := m.Match(bytes.Repeat([]byte("a"), n)); got != want {
			t.Errorf("%d characters: rule %d, want %d", n, got, want)
		}
		if start, end := m.Group(1); want == 0 && (start != 0 || end != min(1, n-250)) {
			t.Errorf("%d characters: group 1 is %d-%d", n, start, end)
		}
	}
	if s := m.Stats(); s.TooMany == 0 || s.OutOfSteps > 0 {
		t.Errorf("stats %+v: want texts that were too much, and enough steps", s)
	}
}
