package regex

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func TestRequired(t *testing.T) {
	tests := []struct {
		pattern string
		want    string // texts of a clause are parted by |, clauses by a comma
	}{
		{`^Failed \S+ for `, `failed ,` + ` for `},
		{`(?i)FOO`, `foo`},                                            // both o's fold to ASCII only
		{`(?i)sk`, "sk|s\xe2\xa4\xaa|\xe5\xbfk|\xe5\xbf\xe2\xa4\xaa"}, // with the long s and the sign for kelvin
		{`[iI](?:llegal|nvalid) user`, `illegal user|invalid user`},
		{`a(?:b|bc)d?e`, `abe|abde|abce|abcde`},
		{`(?:ab){2}`, `abab`},
		{`(?:ab){2,3}c`, `ab,c`},
		{`x+y*z`, `x,z`},
		{`error(?: \w+)? end`, `error, end`},
		{`error(?:: PAM)? end`, `error end|error: pam end`},
		{`ab|cd|\d+efg`, `ab|cd|efg`},
		{`ab|\d+`, ``},
		{`a\nb`, `a,b`},
		{`(?=foo)bar(?!x)`, `bar`},
		{`(?P<q>["'])ab(?P=q)`, `"ab|'ab`},
		{`(x)?(?(1)ab|cd)`, `ab|cd`},
		{`[abcde]f`, `f`},
		{`\.*`, ``},
		{``, ``},
		{`a{0}b`, `b`},
		{"\ufffdab", `ab`},
	}
	for _, tt := range tests {
		re, err := Compile(tt.pattern, 0)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, c := range re.Required() {
			slices.Sort(c)
			got = append(got, strings.Join(c, "|"))
		}
		want := strings.Split(foldString(tt.want), ",")
		for i, w := range want {
			parts := strings.Split(w, "|")
			slices.Sort(parts)
			want[i] = strings.Join(parts, "|")
		}
		if tt.want == "" {
			want = nil
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%q requires %q, want %q", tt.pattern, got, want)
		}
	}
}

func foldString(s string) string {
	b := []byte(s)
	for i := range b {
		if b[i] != '|' && b[i] != ',' {
			b[i] = Fold(b[i])
		}
	}
	return string(b)
}

// TestRequiredIsNecessary matches random patterns: what they match must hold what they require.
func TestRequiredIsNecessary(t *testing.T) {
	g := &generator{Rand: rand.New(rand.NewPCG(rand.Uint64(), 2)), python: true}
	matched, clauses := 0, 0
	for range 20000 {
		re, err := Compile(g.pattern(), Flags(g.IntN(8)))
		if err != nil {
			continue
		}
		set, err := NewSet([]*Regexp{re}, Options{})
		if err != nil {
			t.Fatal(err)
		}
		m := set.NewMatcher()
		for range 4 {
			if text := g.text(); m.Match(text) == 0 {
				matched++
				clauses += holdsRequired(t, re, string(text))
			}
		}
	}
	t.Logf("%d matches, %d clauses", matched, clauses)
	if matched < 1000 || clauses < 1000 {
		t.Error("too few of them to prove anything")
	}
}

// holdsRequired says how many clauses there were.
func holdsRequired(t *testing.T, re *Regexp, text string) int {
	t.Helper()
	folded := []byte(text)
	for i := range folded {
		folded[i] = Fold(folded[i])
	}
	all := re.Required()
	for _, c := range all {
		if !slices.ContainsFunc(c, func(part string) bool { return strings.Contains(string(folded), part) }) {
			t.Errorf("%q matches %q, in which there is nothing of %q", re, text, c)
		}
	}
	return len(all)
}
