package regex

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

const longest = 16 << 10 // the longest line a source hands over

// stretch makes a text hostile: it puts filler into it at each place where a word begins, until the text is as long as a
// line can be.
func stretch(text []byte, filler string) [][]byte {
	var out [][]byte
	fill := bytes.Repeat([]byte(filler), (longest-len(text))/len(filler))
	for i := range text {
		if i == 0 || text[i-1] == ' ' || text[i-1] == '<' || text[i-1] == '(' || text[i-1] == '"' {
			out = append(out, slices.Concat(text[:i], fill, text[i:]))
		}
	}
	return append(out, slices.Concat(text, fill))
}

// TestShippedBounds gives every pattern of fail2ban's filters its own samples, stretched to the longest line. None may run
// out of steps, meet a bound of the automaton, or leave its cache.
func TestShippedBounds(t *testing.T) {
	worst, worstDirect := map[string]uint64{}, 0
	for _, p := range corpusPatterns(t) {
		if p.Kind == "datepattern" {
			continue
		}
		re, err := Compile(p.Regex, p.flags())
		if err != nil {
			t.Fatal(err)
		}
		if re.Regular() && testing.Short() {
			continue
		}
		set, err := NewSet([]*Regexp{re}, Options{})
		if err != nil {
			t.Fatal(err)
		}
		m := set.NewMatcher()
		texts := matching(m, corpusTexts(t, p.Filter), 2)
		fillers := []string{"a", "a ", " from ", "1.2.3.4 ", ":", "\"", "é", "[1]: ", "(", "<x@y> "}
		if re.Regular() {
			fillers = fillers[:4]
		}
		for _, text := range texts {
			for _, filler := range fillers {
				for _, hostile := range stretch(text, filler) {
					before := m.Stats().Steps
					m.Match(hostile)
					worst[p.Filter] = max(worst[p.Filter], m.Stats().Steps-before)
				}
			}
		}
		s := m.Stats()
		if s.OutOfSteps+s.TooMany > 0 {
			t.Errorf("%s: %+v of %q", p.Filter, s, p.Regex)
		}
		if s.Direct > 0 {
			worstDirect++
		}
	}
	for f, n := range worst {
		if n > 0 {
			t.Logf("%s: at most %d steps", f, n)
		}
	}
	t.Logf("%d patterns were finished without the cache for some text", worstDirect)
}

// matching picks up to n texts that the matcher's rule matches, and one it does not.
func matching(m *Matcher, texts [][]byte, n int) [][]byte {
	var hits, others [][]byte
	for _, text := range texts {
		if len(text) > longest/2 || len(text) < 20 {
			continue
		}
		if m.Match(text) >= 0 {
			hits = append(hits, text)
		} else {
			others = append(others, text)
		}
	}
	return append(hits[:min(n, len(hits))], others[:min(1, len(others))]...)
}

// TestDomino is the line that stopped fail2ban's own filter for good: each word doubled the time
// (https://github.com/fail2ban/fail2ban/security/advisories/GHSA-33wh-ccjc-p397).
func TestDomino(t *testing.T) {
	m := mustSet(t, Options{}, `^(?:\[\])?\s*smtp: (?:[^\[]+ )*\[?`+host+`\]? authentication failure using internet password\s*$`).NewMatcher()
	for _, words := range []int{10, 100, 5000, 10000} {
		text := []byte("smtp: " + strings.Repeat("a ", words) + "! failed")
		if got := m.Match(text); got != -1 {
			t.Fatalf("%d words: rule %d, want -1", words, got)
		}
	}
	if s := m.Stats(); s.Built > 100 || s.Steps > 0 || s.Direct > 0 {
		t.Errorf("stats %+v: want few states, and none but them", s)
	}
}
