package api

import (
	"errors"
	"net"
	"net/netip"
	"testing"
)

// calls is a listener that hands out connections from given addresses.
type calls struct {
	net.Listener
	from []string
	made []*aCall
}

type aCall struct {
	net.Conn
	from   net.Addr
	closed bool
}

func (c *aCall) RemoteAddr() net.Addr { return c.from }
func (c *aCall) Close() error         { c.closed = true; return nil }

var errNoMore = errors.New("nobody calls")

func (c *calls) Accept() (net.Conn, error) {
	if len(c.from) == 0 {
		return nil, errNoMore
	}
	one := &aCall{from: net.TCPAddrFromAddrPort(netip.MustParseAddrPort(c.from[0]))}
	c.from = c.from[1:]
	c.made = append(c.made, one)
	return one, nil
}

func TestPerAddress(t *testing.T) {
	proxies := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	for _, tt := range []struct {
		name string
		from []string
		want int // that are let in, of at most two of a network
	}{
		{"one address", []string{"198.51.100.1:1", "198.51.100.1:2", "198.51.100.1:3", "198.51.100.2:1"}, 3},
		{"mapped is the same", []string{"198.51.100.1:1", "[::ffff:198.51.100.1]:2", "[::ffff:198.51.100.1]:3"}, 2},
		{"one /64", []string{"[2001:db8::1]:1", "[2001:db8::2]:1", "[2001:db8::3]:1", "[2001:db8:0:1::1]:1"}, 3},
		{"this machine", []string{"127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3", "[::1]:1", "[::1]:2", "[::1]:3"}, 6},
		{"a proxy", []string{"192.0.2.7:1", "192.0.2.7:2", "192.0.2.7:3"}, 3},
	} {
		below := &calls{from: tt.from}
		l := &perAddress{Listener: below, most: 2, free: proxies}
		var in []net.Conn
		for {
			c, err := l.Accept()
			if err != nil {
				break
			}
			in = append(in, c)
		}
		if len(in) != tt.want {
			t.Errorf("%s: %d are let in, want %d", tt.name, len(in), tt.want)
		}
		closed := 0
		for _, c := range below.made {
			if c.closed {
				closed++
			}
		}
		if closed != len(tt.from)-tt.want {
			t.Errorf("%s: %d are closed, want %d", tt.name, closed, len(tt.from)-tt.want)
		}
		for _, c := range in { // the server closes some of them twice
			_, _ = c.Close(), c.Close()
		}
		if len(l.count) != 0 {
			t.Errorf("%s: all are gone, and %v are counted", tt.name, l.count)
		}
		below.from = tt.from[:1]
		if _, err := l.Accept(); err != nil {
			t.Errorf("%s: nobody is let in after that: %v", tt.name, err)
		}
	}
}
