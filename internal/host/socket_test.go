package host

import (
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"
)

func TestSockets(t *testing.T) {
	ns := newNamespace(t)
	ns.do(func() {
		listen := func(network, addr string) net.Listener {
			l, err := net.Listen(network, addr)
			if err != nil {
				t.Fatal(err)
			}
			return l
		}
		four := listen("tcp4", "127.0.0.1:2200")
		both := listen("tcp", "[::]:2222")
		defer four.Close()
		defer both.Close()

		got, err := Listening()
		want := []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:2200"), netip.MustParseAddrPort("[::]:2222")}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("listening: got %v, %v; want %v", got, err, want)
		}

		dial := func(l net.Listener, addr string) (net.Conn, Session) {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			// The client is connected before the server is.
			s, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { s.Close() })
			remote, local := c.LocalAddr().(*net.TCPAddr).AddrPort(), c.RemoteAddr().(*net.TCPAddr).AddrPort()
			return c, Session{Local: local, Remote: remote}
		}
		c1, s1 := dial(four, "127.0.0.1:2200")
		c2, s2 := dial(both, "127.0.0.1:2222") // IPv4 on an IPv6 socket
		c3, s3 := dial(both, "[::1]:2222")
		defer c1.Close()
		defer c2.Close()
		has := func(sessions []Session, s Session) bool { return slices.Contains(sessions, s) }

		sessions, err := Sessions([]uint16{2200})
		if err != nil || len(sessions) != 1 || !has(sessions, s1) {
			t.Errorf("sessions of 2200: got %v, %v; want %v", sessions, err, s1)
		}
		sessions, err = Sessions([]uint16{2200, 2222, 22})
		if err != nil || len(sessions) != 3 || !has(sessions, s1) || !has(sessions, s2) || !has(sessions, s3) {
			t.Errorf("all sessions: got %v, %v; want %v, %v, %v", sessions, err, s1, s2, s3)
		}
		if none, err := Sessions(nil); err != nil || len(none) != 0 {
			t.Errorf("sessions of no port: got %v, %v", none, err)
		}

		c3.Close()
		for deadline := time.Now().Add(time.Minute); has(sessions, s3); {
			if time.Now().After(deadline) {
				t.Fatal("a closed session is still shown")
			}
			if sessions, err = Sessions([]uint16{2222}); err != nil {
				t.Fatal(err)
			}
		}
		if !has(sessions, s2) {
			t.Errorf("after one closed: got %v, want %v", sessions, s2)
		}
	})
}

func TestParseSocketTorn(t *testing.T) {
	for n := range sizeofAnswer {
		if s, ok := parseSocket(make([]byte, n)); ok {
			t.Errorf("%d bytes: got %v", n, s)
		}
	}
}

func BenchmarkSessions(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Sessions([]uint16{22, 2200, 2222}); err != nil {
			b.Fatal(err)
		}
	}
}
