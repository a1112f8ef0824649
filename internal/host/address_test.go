package host

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// tree is a file system for a machine of a test: paths and what they hold. A text that begins with "-> " is a link.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for path, text := range files {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, link := strings.CutPrefix(text, "-> "); link {
			err = os.Symlink(target, path)
		} else {
			err = os.WriteFile(path, []byte(text), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// texts is how a list of addresses is written in the tables.
func texts(addrs []netip.Addr) string {
	return strings.Trim(fmt.Sprint(addrs), "[]")
}

func TestResolvers(t *testing.T) {
	tests := []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"no file", nil, ""},
		{"two families", map[string]string{"/etc/resolv.conf": "# mine\nsearch example.org\nnameserver 192.0.2.53\n\tnameserver\t2001:db8::53 # second\n"}, "192.0.2.53 2001:db8::53"},
		{"behind the stub", map[string]string{
			"/etc/resolv.conf":                 "nameserver 127.0.0.53\noptions edns0",
			"/run/systemd/resolve/resolv.conf": "nameserver 192.0.2.54\nnameserver fe80::1%eth0\n",
		}, "127.0.0.53 192.0.2.54 fe80::1"},
		{"nonsense", map[string]string{"/etc/resolv.conf": "nameserver\nnameserver nobody\n;nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.2"}, "192.0.2.2"},
	}
	for _, tt := range tests {
		m := &machine{root: tree(t, tt.files)}
		if got := texts(m.resolvers()); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestAddresses(t *testing.T) {
	ns := newNamespace(t)
	ns.ip(t,
		"link add wan type veth peer name other",
		"link set wan addrgenmode none up",
		"link set other up",
		"addr add 192.0.2.10/24 dev wan",
		"addr add 198.51.100.1 peer 198.51.100.2 dev wan",
		"addr add 2001:db8::10/64 dev wan nodad",
		"addr add fe80::10/64 dev wan nodad",
		"route add default via 192.0.2.1",
		"route add default metric 10 nexthop via 192.0.2.2 dev wan nexthop via 192.0.2.3 dev wan weight 2",
		"route add default metric 20 via inet6 fe80::9 dev wan",
		"route add default via 192.0.2.4 table 100",
		"route add 203.0.113.0/24 via 192.0.2.5",
		"route add blackhole default metric 900",
		"-6 route add default via fe80::1 dev wan",
	)
	ns.do(func() {
		addrs, err := Addrs()
		var wan []netip.Addr
		for _, a := range addrs {
			if !a.IsLoopback() && (!a.IsLinkLocalUnicast() || a == netip.MustParseAddr("fe80::10")) {
				wan = append(wan, a)
			}
		}
		if got, want := texts(wan), "192.0.2.10 198.51.100.1 2001:db8::10 fe80::10"; got != want || err != nil {
			t.Errorf("addresses: got %q, %v; want %q", got, err, want)
		}
		gateways, err := Gateways()
		if got, want := texts(gateways), "192.0.2.1 192.0.2.2 192.0.2.3 192.0.2.4 fe80::1 fe80::9"; got != want || err != nil {
			t.Errorf("gateways: got %q, %v; want %q", got, err, want)
		}
		m := &machine{root: tree(t, map[string]string{"/etc/resolv.conf": "nameserver 127.0.0.53\nnameserver 192.0.2.53\nnameserver 192.0.2.1\n"})}
		protected, err := m.protect()
		if err != nil {
			t.Error(err)
		}
		for prefix, want := range map[string]string{
			"127.0.0.0/8":      "loopback",
			"::1/128":          "loopback",
			"192.0.2.10/32":    "own address of wan",
			"2001:db8::10/128": "own address of wan",
			"192.0.2.1/32":     "gateway",
			"192.0.2.53/32":    "resolver",
		} {
			i := slices.IndexFunc(protected, func(p Protected) bool { return p.Prefix == netip.MustParsePrefix(prefix) })
			if i < 0 || protected[i].Reason != want {
				t.Errorf("protected: want %s as %s in %v", prefix, want, protected)
			}
		}
	})
}

func TestWatch(t *testing.T) {
	ns := newNamespace(t)
	ns.ip(t, "link add wan type veth peer name other", "link set wan addrgenmode none up", "link set other addrgenmode none up")
	ctx, cancel := context.WithCancel(t.Context())
	told := make(chan struct{}, 100)
	done := make(chan error, 1)
	go ns.do(func() { done <- Watch(ctx, func() { told <- struct{}{} }) })

	// A change is made and taken back until the watcher, which may not listen yet, has told about one of them.
	await := func(what string, within time.Duration, changes ...string) {
		t.Helper()
		for i := range 20 {
			ns.ip(t, changes[i%len(changes)])
			select {
			case <-told:
				return
			case <-time.After(within):
			}
		}
		t.Fatalf("not told about %s", what)
	}
	rest := func() { // what was stirred up before is told
		for {
			select {
			case <-told:
			case <-time.After(5 * settleTime):
				return
			}
		}
	}
	await("an address", 5*settleTime, "addr add 192.0.2.10/24 dev wan", "addr del 192.0.2.10/24 dev wan")
	ns.ip(t, "addr replace 192.0.2.10/24 dev wan", "addr add 2001:db8::10/64 dev wan nodad")
	rest()
	await("a gateway", 30*time.Second, "route add default via 192.0.2.1", "route del default")
	rest()

	// What is said again, and routes to others, are not told.
	ns.ip(t, "addr replace 2001:db8::10/64 dev wan nodad", "route add 203.0.113.0/24 via 192.0.2.1")
	select {
	case <-told:
		t.Error("told although nothing changed")
	case <-time.After(2 * settleTime):
	}

	cancel()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want context.Canceled", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("did not end with its context")
	}
}

func TestSettled(t *testing.T) {
	if got := settled(time.Time{}); !got.IsZero() {
		t.Errorf("nothing pending: told at %v, want never", got)
	}
	before := time.Now()
	at, after := settled(before), time.Now()
	if at.Before(before.Add(settleTime)) || at.After(after.Add(settleTime)) {
		t.Errorf("fresh change: told in %v, want in %v", at.Sub(before), settleTime)
	}
	if wait := time.Until(settled(time.Now().Add(-settleMost))); wait > 0 {
		t.Errorf("a network that never rests: told in %v, want at once", wait)
	}
}

// TestTornMessages checks that messages which end too early are passed over.
func TestTornMessages(t *testing.T) {
	address := append(make([]byte, unix.SizeofIfAddrmsg), attribute(unix.IFA_ADDRESS, []byte{192, 0, 2, 1})...)
	if a, _, ok := ownAddr(address); !ok || a.String() != "192.0.2.1" {
		t.Fatalf("whole message: got %v, %v", a, ok)
	}
	for n := range address {
		if a, _, ok := ownAddr(address[:n]); ok {
			t.Errorf("%d bytes of %d: got %v", n, len(address), a)
		}
	}
	route := make([]byte, unix.SizeofRtMsg)
	route[7] = unix.RTN_UNICAST
	hop := make([]byte, unix.SizeofRtNexthop)
	hop = append(hop, attribute(unix.RTA_GATEWAY, []byte{192, 0, 2, 1})...)
	binary.NativeEndian.PutUint16(hop, uint16(len(hop)))
	route = append(route, attribute(unix.RTA_MULTIPATH, hop)...)
	if got := texts(defaultGateways(route)); got != "192.0.2.1" {
		t.Fatalf("whole route: got %q", got)
	}
	for n := range route {
		if got := defaultGateways(route[:n]); len(got) > 0 {
			t.Errorf("%d bytes of %d: got %v", n, len(route), got)
		}
	}
	if got := defaultGateways(append(route[:unix.SizeofRtMsg:unix.SizeofRtMsg], attribute(unix.RTA_MULTIPATH, make([]byte, 16))...)); len(got) > 0 {
		t.Errorf("a next hop of no length: got %v", got)
	}
}

// attribute is a netlink attribute as the kernel writes it.
func attribute(kind uint16, value []byte) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(unix.SizeofNlAttr+len(value)))
	return append(binary.NativeEndian.AppendUint16(b, kind), value...)
}
