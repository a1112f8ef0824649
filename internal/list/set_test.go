package list

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"tocsin"
)

// set makes a set of prefixes and addresses separated by spaces.
func set(text string) *Set { return NewSet(slices.Values(prefixes(text))) }

func prefixes(text string) []netip.Prefix {
	var all []netip.Prefix
	for _, s := range strings.Fields(text) {
		p, ok := prefixOf(s)
		if !ok {
			panic(s)
		}
		all = append(all, p)
	}
	return all
}

func TestSetCovers(t *testing.T) {
	s := set("1.1.1.1 8.8.0.0/16 8.8.8.0/24 2a00::/32 2a00:0:1::1")
	tests := []struct{ of, want string }{
		{"1.1.1.1", "1.1.1.1"},
		{"1.1.1.0/31", ""},
		{"8.8.8.8", "8.8.8.0/24"},
		{"8.8.9.0/24", "8.8.0.0/16"},
		{"8.9.0.0", ""},
		{"2a00:0:1::1", "2a00:0:1::1"},
		{"2a00:0:1::2", "2a00::/32"},
		{"2a01::", ""},
		{"::ffff:1.1.1.1", "1.1.1.1"},
	}
	for _, tt := range tests {
		got, ok := s.Covers(prefixes(tt.of)[0])
		if ok != (tt.want != "") || ok && tocsin.PrefixString(got) != tt.want {
			t.Errorf("Covers(%s) = %s %t, want %q", tt.of, got, ok, tt.want)
		}
	}
}

func TestSetWithout(t *testing.T) {
	tests := []struct{ name, of, away, rest, met string }{
		{"nothing in common", "1.1.1.1 8.8.8.0/24", "9.9.9.9 7.0.0.0/8", "1.1.1.1 8.8.8.0/24", ""},
		{"an address", "1.1.1.1 1.1.1.2", "1.1.1.1", "1.1.1.2", "1.1.1.1"},
		{"addresses in a network", "1.1.1.1 1.1.1.2 1.1.2.1", "1.1.1.0/24", "1.1.2.1", "1.1.1.0/24"},
		{"a whole network", "8.8.8.0/24", "8.8.0.0/16", "", "8.8.0.0/16"},
		{"the same network", "8.8.8.0/24", "8.8.8.0/24", "", "8.8.8.0/24"},
		{"around an address", "8.8.8.0/30", "8.8.8.1", "8.8.8.0 8.8.8.2/31", "8.8.8.1"},
		{"around two", "8.8.8.0/29", "8.8.8.7 8.8.8.0/31", "8.8.8.2/31 8.8.8.4/31 8.8.8.6", "8.8.8.7 8.8.8.0/31"},
		{"nested", "8.8.8.0/30", "8.8.8.0/31 8.8.8.1", "8.8.8.2/31", "8.8.8.0/31 8.8.8.1"},
		{"ipv6", "2a00::/126 2a00::9", "2a00::2 2a00::9", "2a00::/127 2a00::3", "2a00::2 2a00::9"},
	}
	for _, tt := range tests {
		rest, met := set(tt.of).Without(prefixes(tt.away))
		var hit []string
		for _, p := range met {
			hit = append(hit, tocsin.PrefixString(p))
		}
		if join(rest) != tt.rest || strings.Join(hit, " ") != tt.met {
			t.Errorf("%s: %s without %s = %q, met %q; want %q, met %q", tt.name, tt.of, tt.away, join(rest), hit, tt.rest, tt.met)
		}
	}
}

// A model of addresses one by one must agree with the set, whatever the networks are.
func TestSetAgainstModel(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	random := func() (ps []netip.Prefix) {
		for range r.IntN(12) {
			ps = append(ps, netip.PrefixFrom(addrOf4(8<<24|r.Uint32N(64)), 26+r.IntN(7)).Masked())
		}
		return ps
	}
	for range 2000 {
		have, away := random(), random()
		s := NewSet(slices.Values(have))
		rest, _ := s.Without(away)
		for a := range uint32(64) {
			p := netip.PrefixFrom(addrOf4(8<<24|a), 32)
			in := func(ps []netip.Prefix) bool {
				return slices.ContainsFunc(ps, func(q netip.Prefix) bool { return q.Contains(p.Addr()) })
			}
			if got := s.Overlaps(p); got != in(have) {
				t.Fatalf("%v: Overlaps(%s) = %t", have, p, got)
			}
			if got := rest.Overlaps(p); got != (in(have) && !in(away)) {
				t.Fatalf("%v without %v: Overlaps(%s) = %t", have, away, p, got)
			}
		}
		for _, q := range away {
			want := slices.ContainsFunc(have, q.Overlaps)
			if got := s.Overlaps(q); got != want {
				t.Fatalf("%v: Overlaps(%s) = %t, want %t", have, q, got, want)
			}
		}
		if all := slices.Collect(s.All()); !slices.IsSortedFunc(all, netip.Prefix.Compare) || len(all) != s.Len() {
			t.Fatalf("%v: All is %v", have, all)
		}
	}
}

func TestDiff(t *testing.T) {
	tests := []struct {
		before, after  string
		added, removed int
	}{
		{"", "", 0, 0},
		{"", "1.1.1.1 8.8.8.0/24 2a00::1 2a00::/32", 4, 0},
		{"1.1.1.1 8.8.8.0/24 2a00::1 2a00::/32", "", 0, 4},
		{"1.1.1.1 8.8.8.0/24 2a00::1 2a00::/32", "1.1.1.1 8.8.8.0/25 2a00::1 2a00::/33", 2, 2},
	}
	for _, tt := range tests {
		if added, removed := Diff(set(tt.before), set(tt.after)); added != tt.added || removed != tt.removed {
			t.Errorf("Diff(%q, %q) = %d, %d, want %d, %d", tt.before, tt.after, added, removed, tt.added, tt.removed)
		}
	}
}
