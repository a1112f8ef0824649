package regex

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestLeaps walks lines that begin alike with a matcher that leaps, and with one made for each line, which has not yet
// learnt to: they must agree about the rule and every group.
func TestLeaps(t *testing.T) {
	set := mustSet(t, Options{},
		`^(\w+) (?:failed|closed) (pass)?word for (.*) from (\d+)\.(\d+)$`,
		`(?<=:)(b+)(c)(d)(e)(f)(g)(h)(i)?`,
		`^(a)(a)(a)(a)(a)(a)(a)(a)(.*)ü$`,
		`(x+)\n(y+)$`,
	)
	pieces := []string{"sshd failed ", "sshd closed ", "password for ", "word for ", "root", "invalid user x", " from ", "12.34",
		"1.2", ":bbbbcdefghi", "aaaaaaaaaaaa", "aaaaaaaa", "ü", "xxxxxxxx\nyyyyyyyy", "\n", "\x00\x00\x00\x00\x00\x00\x00\x00", "\xff"}
	r := rand.New(rand.NewPCG(3, 4))
	leaping := set.NewMatcher()
	for i := range 5_000 {
		var text []byte
		for range 1 + r.IntN(6) {
			text = append(text, pieces[r.IntN(len(pieces))]...)
		}
		if i%2 == 0 {
			text = fmt.Appendf(nil, "sshd failed password for u%d from 1.%d", r.IntN(3), r.IntN(1000))
		}
		rule, groups := ruleAndGroups(leaping, text)
		if r, g := ruleAndGroups(set.NewMatcher(), text); r != rule || !slices.Equal(g, groups) {
			t.Fatalf("line %d, %q: rule %d at %v; without leaps rule %d at %v", i, text, rule, groups, r, g)
		}
	}
	learnt, writing := 0, 0
	for _, l := range leaping.cache.leaps {
		if l.from != noRow {
			learnt++
			writing += int(min(l.n, 1))
		}
	}
	if learnt < 10 || writing < 3 {
		t.Errorf("%d leaps were learnt, %d of them write captures: too few to prove anything", learnt, writing)
	}
	leaping.flush()
	if slices.ContainsFunc(leaping.cache.leaps[:], func(l leap) bool { return l.from != noRow }) {
		t.Error("leaps outlived the rows that they name")
	}
}

// ruleAndGroups is the rule that matches and where its groups are.
func ruleAndGroups(m *Matcher, text []byte) (rule int, groups []int) {
	if rule = m.Match(text); rule < 0 {
		return rule, nil
	}
	for g := range m.set.res[rule].names {
		from, to := m.Group(g)
		groups = append(groups, from, to)
	}
	return rule, groups
}
