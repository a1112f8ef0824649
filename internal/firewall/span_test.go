package firewall

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestDisjoint(t *testing.T) {
	t0 := time.Unix(1e9, 0)
	tests := []struct {
		name string
		in   string // prefix@seconds from t0, 0 is without end
		want string // first-last@seconds
	}{
		{"nothing", "", ""},
		{"one", "10.0.0.0/8@1", "10.0.0.0-10.255.255.255@1"},
		{"apart", "10.0.0.0/8@1 12.0.0.0/8@2", "10.0.0.0-10.255.255.255@1 12.0.0.0-12.255.255.255@2"},
		{"side by side", "10.0.0.0/8@1 11.0.0.0/8@1", "10.0.0.0-10.255.255.255@1 11.0.0.0-11.255.255.255@1"},
		{"inner one ends earlier", "10.0.0.0/8@2 10.1.0.0/16@1", "10.0.0.0-10.255.255.255@2"},
		{"inner one ends with it", "10.0.0.0/8@2 10.1.0.0/16@2", "10.0.0.0-10.255.255.255@2"},
		{"inner one ends later", "10.0.0.0/8@1 10.1.0.0/16@2",
			"10.0.0.0-10.0.255.255@1 10.1.0.0-10.1.255.255@2 10.2.0.0-10.255.255.255@1"},
		{"inner one at the begin", "10.0.0.0/8@1 10.0.0.0/16@2", "10.0.0.0-10.0.255.255@2 10.1.0.0-10.255.255.255@1"},
		{"inner one at the end", "10.0.0.0/8@1 10.255.0.0/16@2", "10.0.0.0-10.254.255.255@1 10.255.0.0-10.255.255.255@2"},
		{"inner one without end", "10.0.0.0/8@1 10.255.0.0/16@0", "10.0.0.0-10.254.255.255@1 10.255.0.0-10.255.255.255@0"},
		{"outer one without end", "10.0.0.0/8@0 10.255.0.0/16@2", "10.0.0.0-10.255.255.255@0"},
		{"three deep", "10.0.0.0/8@1 10.1.0.0/16@2 10.1.1.0/24@3",
			"10.0.0.0-10.0.255.255@1 10.1.0.0-10.1.0.255@2 10.1.1.0-10.1.1.255@3 10.1.2.0-10.1.255.255@2 10.2.0.0-10.255.255.255@1"},
		{"highest address", "128.0.0.0/1@1 255.0.0.0/8@2", "128.0.0.0-254.255.255.255@1 255.0.0.0-255.255.255.255@2"},
		{"everything", "::/0@1 ffff::/16@2", "::-fffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff@1 ffff::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff@2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var in []span
			for field := range strings.FieldsSeq(tt.in) {
				text, seconds, _ := strings.Cut(field, "@")
				p := netip.MustParsePrefix(text)
				in = append(in, span{first: p.Addr(), last: lastAddr(p), until: at(t0, seconds)})
			}
			var got []string
			for _, s := range disjoint(in) {
				seconds := "0"
				if !s.until.IsZero() {
					seconds = fmt.Sprint(int(s.until.Sub(t0).Seconds()))
				}
				got = append(got, fmt.Sprintf("%s-%s@%s", s.first, s.last, seconds))
			}
			if got := strings.Join(got, " "); got != tt.want {
				t.Errorf("disjoint(%q) = %q, want %q", tt.in, got, tt.want)
			}
		})
	}
}

func at(t0 time.Time, seconds string) time.Time {
	if seconds == "0" {
		return time.Time{}
	}
	d, err := time.ParseDuration(seconds + "s")
	if err != nil {
		panic(err)
	}
	return t0.Add(d)
}

// Every address has the longest time of the prefixes around it, and no two pieces overlap.
func TestDisjointAtRandom(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		longest := map[byte]int{} // within 10.0.0.0/24
		unique := map[netip.Prefix]int{}
		for range rnd.IntN(8) {
			p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(rnd.Uint32())}), 24+rnd.IntN(9)).Masked()
			unique[p] = 1 + rnd.IntN(5)
		}
		var in []span
		for p, seconds := range unique {
			in = append(in, span{first: p.Addr(), last: lastAddr(p), until: time.Unix(int64(seconds), 0)})
			for a := p.Addr(); p.Contains(a); a = a.Next() {
				longest[a.As4()[3]] = max(longest[a.As4()[3]], seconds)
			}
		}
		got := map[byte]int{}
		for _, s := range disjoint(in) {
			for a := s.first; a.Compare(s.last) <= 0; a = a.Next() {
				if got[a.As4()[3]] != 0 {
					t.Fatalf("%v: %s is in two pieces", unique, a)
				}
				got[a.As4()[3]] = int(s.until.Unix())
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(longest) {
			t.Fatalf("%v: got %v, want %v", unique, got, longest)
		}
	}
}

func TestPrefixesOf(t *testing.T) {
	tests := []struct{ first, last, want string }{
		{"10.0.0.0", "10.0.0.0", "[10.0.0.0/32]"},
		{"10.0.0.0", "10.255.255.255", "[10.0.0.0/8]"},
		{"10.0.0.1", "10.0.0.6", "[10.0.0.1/32 10.0.0.2/31 10.0.0.4/31 10.0.0.6/32]"},
		{"0.0.0.0", "255.255.255.255", "[0.0.0.0/0]"},
		{"255.255.255.254", "255.255.255.255", "[255.255.255.254/31]"},
		{"2001:db8::", "2001:db8:2:ffff:ffff:ffff:ffff:ffff", "[2001:db8::/47 2001:db8:2::/48]"},
		{"::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "[::/0]"},
		{"10.0.0.2", "10.0.0.1", "[]"},
	}
	for _, tt := range tests {
		if got := fmt.Sprint(prefixesOf(netip.MustParseAddr(tt.first), netip.MustParseAddr(tt.last))); got != tt.want {
			t.Errorf("prefixesOf(%s, %s) = %s, want %s", tt.first, tt.last, got, tt.want)
		}
	}
}

func TestTimeout(t *testing.T) {
	now := time.Unix(1e9, 0)
	tests := []struct {
		left time.Duration
		want uint64 // milliseconds
	}{
		{time.Nanosecond, 1000},
		{time.Second, 1000},
		{time.Second + 1, 2000},
		{15 * time.Minute, 900_000},
		{15*time.Minute - time.Millisecond, 900_000},
		{0, 1000},
		{-time.Hour, 1000},
		{400 * 24 * time.Hour, 34_560_000_000},
	}
	for _, tt := range tests {
		if got := timeout(now.Add(tt.left), now); got != tt.want {
			t.Errorf("timeout with %v left = %d, want %d", tt.left, got, tt.want)
		}
	}
	if got := timeout(time.Time{}, now); got != 0 {
		t.Errorf("timeout without end = %d, want 0", got)
	}
}
