package firewall

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"tocsin"
)

func TestScopeName(t *testing.T) {
	many := make([]uint16, 100)
	for i := range many {
		many[i] = uint16(60000 + i)
	}
	tests := []struct {
		scope scope
		want  string // "..." is a hash
	}{
		{scope{}, "all_ports"},
		{scope{verdict: tocsin.Reject}, "all_ports_reject"},
		{scope{ports: []uint16{22}}, "ports_22"},
		{scope{ports: []uint16{22, 2200}}, "ports_22_2200"},
		{scope{ports: []uint16{53}, proto: tocsin.UDP}, "ports_udp_53"},
		{scope{ports: []uint16{53}, proto: tocsin.UDP, verdict: tocsin.Reject}, "ports_udp_reject_53"},
		{scope{ports: []uint16{53, 853}, proto: tocsin.TCPAndUDP}, "ports_tcpudp_53_853"},
		{scope{ports: []uint16{53}, proto: tocsin.TCPAndUDP, verdict: tocsin.Reject}, "ports_tcpudp_reject_53"},
		{scope{ports: many}, "ports_x..."},
		{scope{ports: many, proto: tocsin.UDP, verdict: tocsin.Reject}, "ports_udp_reject_x..."},
	}
	for _, tt := range tests {
		got := tt.scope.name()
		if head, hashed := strings.CutSuffix(tt.want, "..."); got != tt.want && !(hashed && strings.HasPrefix(got, head)) {
			t.Errorf("name of %v = %q, want %q", tt.scope, got, tt.want)
		}
		s, ports, ok := parseScope(got)
		if !ok || s.proto != tt.scope.proto || s.verdict != tt.scope.verdict || ports != (len(tt.scope.ports) > 0) {
			t.Errorf("parseScope(%q) = %v, ports %v, ok %v; want %v", got, s, ports, ok, tt.scope)
		}
		for k := range kinds {
			if got2, group, ok := parseSet(got + k.suffix()); !ok || got2 != k || group != got {
				t.Errorf("parseSet(%q) = %v, %q, %v; want %v, %q", got+k.suffix(), got2, group, ok, k, got)
			}
		}
		if n := len(got) + len("_v6_64"); n > 255 {
			t.Errorf("%q makes names of %d bytes", got, n)
		}
	}
}

func TestParseScopeRefuses(t *testing.T) {
	for _, name := range []string{"", "ports", "port_22", "all", "all_ports_22", "all_portsx", "ports22", "allow", "portsx_22"} {
		if s, _, ok := parseScope(name); ok {
			t.Errorf("parseScope(%q) = %v, want none of ours", name, s)
		}
	}
}

func TestKindOf(t *testing.T) {
	tests := []struct{ prefix, want string }{
		{"192.0.2.1/32", "_v4"},
		{"192.0.2.0/31", "_v4_net"},
		{"0.0.0.0/0", "_v4_net"},
		{"2001:db8::1/128", "_v6"},
		{"2001:db8::/64", "_v6_64"},
		{"2001:db8::/63", "_v6_net"},
		{"2001:db8::/65", "_v6_net"},
	}
	for _, tt := range tests {
		if got := kindOf(netip.MustParsePrefix(tt.prefix)).suffix(); got != tt.want {
			t.Errorf("kindOf(%s) = %s, want %s", tt.prefix, got, tt.want)
		}
	}
}

func TestPlain(t *testing.T) {
	tests := []struct{ in, want string }{
		{"192.0.2.7/24", "192.0.2.0/24"},
		{"2001:db8::7/64", "2001:db8::/64"},
		{"::ffff:192.0.2.7/128", "192.0.2.7/32"},
		{"::ffff:192.0.2.7/120", "192.0.2.0/24"},
		{"::/90", "::/90"},
	}
	for _, tt := range tests {
		if got := plain(netip.MustParsePrefix(tt.in)).String(); got != tt.want {
			t.Errorf("plain(%s) = %s, want %s", tt.in, got, tt.want)
		}
	}
}

// The comment names the jails that hold an element, as many as fit and none of them cut.
func TestJails(t *testing.T) {
	long := strings.Repeat("x", 60)
	tests := []struct{ jails, want string }{
		{"sshd", "sshd"},
		{"sshd web sshd", "sshd,web"},
		{long + "a " + long + "b c", long + "a," + long + "b,c"},
		{long + "a " + long + "b cdefg", long + "a," + long + "b"},
	}
	for _, tt := range tests {
		var tg target
		for i, name := range strings.Fields(tt.jails) {
			tg.holds = append(tg.holds, hold{owner: owner{name, string(rune('a' + i))}})
		}
		if got := tg.jails(); got != tt.want {
			t.Errorf("jails of %q = %q, want %q", tt.jails, got, tt.want)
		}
	}
	if got := (&target{holds: []hold{{owner: owner{"", "x"}}, {owner: owner{"", "y"}}}}).jails(); got != "" {
		t.Errorf("jails of none = %q", got)
	}
}

func FuzzParseSet(f *testing.F) {
	for k := range kinds {
		f.Add("ports_udp_reject_22" + k.suffix())
		f.Add("ports_tcpudp_22" + k.suffix())
		f.Add("all_ports" + k.suffix())
	}
	f.Fuzz(func(t *testing.T, name string) {
		k, group, ok := parseSet(name)
		if !ok {
			return
		}
		if group+k.suffix() != name {
			t.Errorf("parseSet(%q) = %q and %q", name, group, k.suffix())
		}
		if s, ports, ok := parseScope(group); ok && !ports && !slices.Contains([]string{"all_ports", "all_ports_reject"}, s.name()) {
			t.Errorf("parseScope(%q) = %v", group, s)
		}
	})
}
