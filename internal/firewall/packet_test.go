package firewall

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"tocsin"
)

// patience is how long is waited for what must come, be the machine ever so busy, and silence for a packet that must not
// get through: each of those costs a test this long.
const (
	patience = 30 * time.Second
	silence  = 300 * time.Millisecond
)

// waiting is how long is waited for an outcome.
func waiting(want string) time.Duration {
	if want == "dropped" {
		return silence
	}
	return patience
}

// The addresses of the lab. Each of the attacker's has a neighbour in the same networks.
const (
	victim4, victim6     = "10.9.0.1", "2001:db8:9::1"
	attacker4, attacker6 = "10.9.0.66", "2001:db8:9:0:6::66"
	honest4, honest6     = "10.9.0.7", "2001:db8:9:1::7"
	guest4               = "10.10.0.2" // behind the victim
)

// lab is a victim with an attacker and a guest, on two cables. The attacker's host has the honest addresses, too.
type lab struct {
	t                       *testing.T
	victim, attacker, guest *host
}

func newLab(t *testing.T) *lab {
	l := &lab{t: t, victim: newHost(t), attacker: newHost(t), guest: newHost(t)}
	cable(l.victim, "out", l.attacker)
	cable(l.victim, "in", l.guest)
	l.victim.run("sh", "-ec", `
		ip addr add 10.9.0.1/24 dev out
		ip addr add 2001:db8:9::1/48 dev out nodad
		ip addr add 10.10.0.1/24 dev in
		echo 1 > /proc/sys/net/ipv4/ip_forward`)
	l.attacker.run("sh", "-ec", `
		ip addr add 10.9.0.66/24 dev eth0
		ip addr add 10.9.0.7/24 dev eth0
		ip addr add 2001:db8:9:0:6::66/48 dev eth0 nodad
		ip addr add 2001:db8:9:0:6::67/48 dev eth0 nodad
		ip addr add 2001:db8:9:1::7/48 dev eth0 nodad
		ip route add 10.10.0.0/24 via 10.9.0.1`)
	l.guest.run("sh", "-ec", `
		ip addr add 10.10.0.2/24 dev eth0
		ip route add default via 10.10.0.1`)
	return l
}

// cable joins two hosts; the far end is called eth0.
func cable(a *host, name string, b *host) {
	a.t.Helper()
	// The namespaces have no names, so ip is told of the far one by a process's descriptor.
	a.run("sh", "-ec", fmt.Sprintf(`
		ip link set lo up
		ip link add %s type veth peer name eth0 netns /proc/%d/fd/%d
		ip link set %s up`, name, os.Getpid(), b.ns.Fd(), name))
	b.run("sh", "-ec", "ip link set lo up; ip link set eth0 up")
}

// listen answers connections to a TCP port of the host until the test ends.
func (h *host) listen(port int) {
	h.t.Helper()
	var l net.Listener
	var err error
	h.do(func() { l, err = net.Listen("tcp", fmt.Sprintf(":%d", port)) })
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go echo(c)
		}
	}()
}

func echo(c net.Conn) {
	defer c.Close()
	buf := make([]byte, 64)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		c.Write(buf[:n])
	}
}

// dial connects from one of the host's addresses, to see whether the outcome is as wanted.
func (h *host) dial(network, from, to string, port int, want string) (c net.Conn, err error) {
	h.t.Helper()
	h.do(func() {
		var local net.Addr = &net.TCPAddr{IP: net.ParseIP(from)}
		if network == "udp" {
			local = &net.UDPAddr{IP: net.ParseIP(from)}
		}
		d := net.Dialer{LocalAddr: local, Timeout: waiting(want)}
		c, err = d.Dial(network, netip.AddrPortFrom(netip.MustParseAddr(to), uint16(port)).String())
	})
	if err == nil {
		h.t.Cleanup(func() { c.Close() })
	}
	return c, err
}

// answer says how the peer takes what is written to it.
func answer(c net.Conn, want string) string {
	c.SetDeadline(time.Now().Add(waiting(want)))
	if _, err := c.Write([]byte("hello")); err != nil {
		return outcome(err)
	}
	_, err := c.Read(make([]byte, 64))
	return outcome(err)
}

func outcome(err error) string {
	switch {
	case err == nil:
		return "passes"
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EHOSTUNREACH):
		return "rejected"
	}
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		return "dropped"
	}
	return err.Error()
}

// try connects, to see whether the outcome is as wanted, and says what it was.
func (h *host) try(from, to string, port int, want string) string {
	h.t.Helper()
	c, err := h.dial("tcp", from, to, port, want)
	if err != nil {
		return outcome(err)
	}
	return answer(c, want)
}

// outcomeIn is what a list of outcomes, "from@port outcome, ...", says of one of them. What is not in it passes.
func outcomeIn(list, at string) string {
	for item := range strings.SplitSeq(list, ", ") {
		if o, ok := strings.CutPrefix(item, at+" "); ok {
			return o
		}
	}
	return "passes"
}

func TestPackets(t *testing.T) {
	l := newLab(t)
	for _, port := range []int{22, 80, 2200} {
		l.victim.listen(port)
	}
	f := l.victim.firewall()
	tests := []struct {
		name  string
		bans  []tocsin.Decision
		allow string
		want  string // from@port outcome, of everything that does not pass
	}{
		{"nobody banned", nil, "", ""},
		{"one address, one port", []tocsin.Decision{ban(attacker4)}, "", "a4@22 dropped"},
		{"several ports", []tocsin.Decision{ban(attacker4, ports(22, 2200))}, "", "a4@22 dropped, a4@2200 dropped"},
		{"all ports", []tocsin.Decision{ban(attacker4, ports())}, "", "a4@22 dropped, a4@80 dropped, a4@2200 dropped"},
		{"IPv6 address", []tocsin.Decision{ban(attacker6)}, "", "a6@22 dropped"},
		{"IPv6 /64 bans the neighbour", []tocsin.Decision{ban("2001:db8:9::/64")}, "", "a6@22 dropped, n6@22 dropped"},
		{"IPv6 /64, all ports", []tocsin.Decision{ban("2001:db8:9::/64", ports())}, "",
			"a6@22 dropped, a6@80 dropped, a6@2200 dropped, n6@22 dropped, n6@80 dropped, n6@2200 dropped"},
		{"other prefix", []tocsin.Decision{ban("10.9.0.64/30")}, "", "a4@22 dropped"},
		{"prefix beside", []tocsin.Decision{ban("10.9.0.68/30"), ban("10.9.0.60/30")}, "", ""},
		{"prefix up to the highest address", []tocsin.Decision{ban("0.0.0.0/1"), ban("128.0.0.0/1")}, "", "a4@22 dropped, h4@22 dropped"},
		{"IPv6 prefix", []tocsin.Decision{ban("2001:db8:9:0:6::/112")}, "", "a6@22 dropped, n6@22 dropped"},
		{"overlapping prefixes", []tocsin.Decision{ban("10.9.0.64/26"), ban("10.9.0.64/30"), ban("10.9.0.66/31"), ban("10.9.0.0/25")}, "",
			"a4@22 dropped, h4@22 dropped"},
		{"the allow list stands before", []tocsin.Decision{ban(attacker4), ban("10.9.0.0/24", ports())}, "10.9.0.64/29",
			"h4@22 dropped, h4@80 dropped, h4@2200 dropped"},
		{"allowed IPv6", []tocsin.Decision{ban("2001:db8:9::/64")}, "2001:db8:9:0:6::66/128", "n6@22 dropped"},
		{"reject", []tocsin.Decision{ban(attacker4, rejected)}, "", "a4@22 rejected"},
		{"reject IPv6", []tocsin.Decision{ban(attacker6, rejected)}, "", "a6@22 rejected"},
		{"reject all ports", []tocsin.Decision{ban(attacker4, rejected, ports())}, "", "a4@22 rejected, a4@80 rejected, a4@2200 rejected"},
		{"two groups", []tocsin.Decision{ban(attacker4), ban(attacker4, jail("web"), ports(80), rejected)}, "", "a4@22 dropped, a4@80 rejected"},
		{"UDP ports are others", []tocsin.Decision{ban(attacker4, udp)}, "", ""},
		{"TCP of TCP and UDP", []tocsin.Decision{ban(attacker4, tcpAndUDP), ban(attacker6, tcpAndUDP, ports(80), rejected)}, "",
			"a4@22 dropped, a6@80 rejected"},
		{"over", []tocsin.Decision{ban(attacker4, lasting(-time.Second))}, "", ""},
		{"a ban of actions only", []tocsin.Decision{ban(attacker4, passed, ports())}, "", ""},
		{"an id that is no address", []tocsin.Decision{ban("root")}, "", ""},
		{"IPv4 within IPv6", []tocsin.Decision{ban("::ffff:10.9.0.66")}, "", "a4@22 dropped"},
	}
	sources := []struct{ name, from, to string }{
		{"a4", attacker4, victim4}, {"h4", honest4, victim4},
		{"a6", attacker6, victim6}, {"n6", "2001:db8:9:0:6::67", victim6}, {"h6", honest6, victim6},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var allow []netip.Prefix
			if tt.allow != "" {
				allow = append(allow, netip.MustParsePrefix(tt.allow))
			}
			if err := f.Clear(); err != nil {
				t.Fatal(err)
			}
			if _, err := f.Restore(tt.bans, allow, time.Now()); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, s := range sources {
				for _, port := range []int{22, 80, 2200} {
					at := fmt.Sprintf("%s@%d", s.name, port)
					if o := l.attacker.try(s.from, s.to, port, outcomeIn(tt.want, at)); o != "passes" {
						got = append(got, at+" "+o)
					}
				}
			}
			if got := strings.Join(got, ", "); got != tt.want {
				t.Errorf("bans %v, allowed %q: %q, want %q\n%s", tt.bans, tt.allow, got, tt.want, l.victim.run("nft", "list", "ruleset"))
			}
		})
	}
}

// A connection that is still guessing is cut by the ban, and goes on when it is lifted.
func TestEstablishedConnectionIsCut(t *testing.T) {
	for _, tt := range []struct {
		name string
		ban  tocsin.Decision
	}{
		{"some ports", ban(attacker4)},
		{"all ports", ban(attacker4, ports())},
		{"by prefix", ban("10.9.0.64/27", ports())},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab(t)
			l.victim.listen(22)
			f := l.victim.firewall(ban("192.0.2.1"), ban("192.0.2.1", ports(), jail("all")))
			c, err := l.attacker.dial("tcp", attacker4, victim4, 22, "passes")
			if err != nil {
				t.Fatal(err)
			}
			if got := answer(c, "passes"); got != "passes" {
				t.Fatalf("before the ban: %s", got)
			}
			if err := f.Ban(tt.ban); err != nil {
				t.Fatal(err)
			}
			if got := answer(c, "dropped"); got != "dropped" {
				t.Errorf("after the ban: %s, want dropped", got)
			}
			if err := f.Unban(tt.ban); err != nil {
				t.Fatal(err)
			}
			if got := l.attacker.try(attacker4, victim4, 22, "passes"); got != "passes" {
				t.Errorf("after the unban: %s, want passes", got)
			}
		})
	}
}

// Answers to our own connections come from a banned address and still pass.
func TestOwnConnectionsPass(t *testing.T) {
	l := newLab(t)
	l.attacker.listen(80)
	l.victim.listen(22)
	f := l.victim.firewall()
	tests := []struct {
		us, them string
		ban      tocsin.Decision
	}{
		{victim4, attacker4, ban(attacker4)},
		{victim4, attacker4, ban(attacker4, ports())},
		{victim4, attacker4, ban("10.9.0.64/27", ports())},
		{victim6, attacker6, ban(attacker6)},
		{victim6, attacker6, ban(attacker6, ports())},
		{victim6, attacker6, ban("2001:db8:9::/64", ports())},
	}
	for _, tt := range tests {
		must(t, f.Clear())
		if _, err := f.Restore([]tocsin.Decision{tt.ban}, nil, time.Now()); err != nil {
			t.Fatal(err)
		}
		l.victim.run("ip", "neigh", "flush", "all") // the banned neighbour has to be found first
		if got := l.victim.try(tt.us, tt.them, 80, "passes"); got != "passes" {
			t.Errorf("our connection to banned %s, ports %s: %s, want passes", tt.ban.Prefix, tocsin.PortsString(tt.ban.Ports), got)
		}
		if got := l.attacker.try(tt.them, tt.us, 22, "dropped"); got != "dropped" {
			t.Errorf("connection from banned %s, ports %s: %s, want dropped", tt.ban.Prefix, tocsin.PortsString(tt.ban.Ports), got)
		}
	}
}

// A container's port that is published by DNAT is covered under the number that the client asks for.
func TestPublishedPort(t *testing.T) {
	l := newLab(t)
	l.guest.listen(22)
	l.victim.run("nft", "add table ip nat; add chain ip nat pre { type nat hook prerouting priority -100; };"+
		"add rule ip nat pre iif out tcp dport 2222 dnat to 10.10.0.2:22")
	f := l.victim.firewall()
	if got := l.attacker.try(attacker4, victim4, 2222, "passes"); got != "passes" {
		t.Fatalf("published port before the ban: %s", got)
	}
	for _, d := range []tocsin.Decision{ban(attacker4, ports(2222)), ban(attacker4, ports())} {
		if err := f.Ban(d); err != nil {
			t.Fatal(err)
		}
		if got := l.attacker.try(attacker4, victim4, 2222, "dropped"); got != "dropped" {
			t.Errorf("published port, banned from %s: %s, want dropped", tocsin.PortsString(d.Ports), got)
		}
		if got := l.attacker.try(honest4, victim4, 2222, "passes"); got != "passes" {
			t.Errorf("published port for others, banned from %s: %s, want passes", tocsin.PortsString(d.Ports), got)
		}
	}
}

// What is only routed through the host is covered by setting.
func TestRoutedGuests(t *testing.T) {
	for _, tt := range []struct {
		routed bool
		want   string
	}{{false, "passes"}, {true, "dropped"}} {
		l := newLab(t)
		l.guest.listen(22)
		o := l.victim.options()
		o.RoutedGuests = tt.routed
		f := l.victim.open(o)
		if _, err := f.Restore([]tocsin.Decision{ban(attacker4)}, nil, time.Now()); err != nil {
			t.Fatal(err)
		}
		if got := l.attacker.try(attacker4, guest4, 22, tt.want); got != tt.want {
			t.Errorf("to a routed guest, RoutedGuests %v: %s, want %s", tt.routed, got, tt.want)
		}
	}
}

// Packets that conntrack is told to leave alone have no direction, and a ban of all ports covers them.
func TestUntracked(t *testing.T) {
	l := newLab(t)
	l.victim.listen(22)
	l.victim.run("nft", "add table inet other; add chain inet other pre { type filter hook prerouting priority -300; };"+
		"add rule inet other pre tcp dport 22 notrack")
	l.victim.firewall(ban(attacker4, ports()))
	if got := l.attacker.try(attacker4, victim4, 22, "dropped"); got != "dropped" {
		t.Errorf("untracked packet of a banned address: %s, want dropped", got)
	}
	if got := l.attacker.try(honest4, victim4, 22, "passes"); got != "passes" {
		t.Errorf("untracked packet of another address: %s, want passes", got)
	}
}

func TestUDP(t *testing.T) {
	l := newLab(t)
	var server net.PacketConn
	var err error
	l.victim.do(func() { server, err = net.ListenPacket("udp", ":53") })
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	go func() {
		buf := make([]byte, 64)
		for {
			n, from, err := server.ReadFrom(buf)
			if err != nil {
				return
			}
			server.WriteTo(buf[:n], from)
		}
	}()
	f := l.victim.firewall()
	for _, tt := range []struct {
		ban  tocsin.Decision
		want string
	}{
		{ban(attacker4, ports(53)), "passes"}, // TCP
		{ban(attacker4, ports(53), udp), "dropped"},
		{ban(attacker4, ports(53), tcpAndUDP), "dropped"},
		{ban(attacker4, ports(53), tcpAndUDP, rejected), "rejected"},
		{ban(attacker4, ports(54), tcpAndUDP), "passes"},
		{ban(attacker4, ports(53), udp, rejected), "rejected"},
		{ban(attacker4, ports()), "dropped"},
		{ban(attacker4, ports(), udp, rejected), "rejected"},
	} {
		if err := f.Clear(); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Restore([]tocsin.Decision{tt.ban}, nil, time.Now()); err != nil {
			t.Fatal(err)
		}
		c, err := l.attacker.dial("udp", attacker4, victim4, 53, tt.want)
		if err != nil {
			t.Fatal(err)
		}
		if got := answer(c, tt.want); got != tt.want {
			t.Errorf("UDP with ban of %s ports %s, %s: %s, want %s", tt.ban.Proto, tocsin.PortsString(tt.ban.Ports), tt.ban.Verdict, got, tt.want)
		}
	}
}
