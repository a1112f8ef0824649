package api

import (
	"net"
	"net/netip"
	"slices"
	"sync"

	"tocsin/internal/account"
)

// perAddress closes what comes from a network that has its most connections already, so that one stranger's leave room for
// everybody else's. This machine, and the proxies through which many come, are not counted.
type perAddress struct {
	net.Listener
	most int
	free []netip.Prefix

	mu    sync.Mutex
	count map[netip.Prefix]int // of open connections; no more entries than the listener below has slots
}

func (l *perAddress) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from, counted := l.networkOf(c.RemoteAddr())
		switch {
		case !counted:
			return c, nil
		case l.enter(from):
			return &countedConn{Conn: c, leave: sync.OnceFunc(func() { l.leave(from) })}, nil
		}
		_ = c.Close() // it has others
	}
}

// networkOf is what counts as one; false: it is not counted.
func (l *perAddress) networkOf(a net.Addr) (netip.Prefix, bool) {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}, false
	}
	addr := tcp.AddrPort().Addr().Unmap().WithZone("")
	if addr.IsLoopback() || slices.ContainsFunc(l.free, func(p netip.Prefix) bool { return p.Contains(addr) }) {
		return netip.Prefix{}, false
	}
	return account.NetworkOf(addr), true
}

func (l *perAddress) enter(from netip.Prefix) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.count == nil {
		l.count = map[netip.Prefix]int{}
	}
	if l.count[from] >= l.most {
		return false
	}
	l.count[from]++
	return true
}

func (l *perAddress) leave(from netip.Prefix) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.count[from]--; l.count[from] <= 0 {
		delete(l.count, from)
	}
}

type countedConn struct {
	net.Conn
	leave func()
}

func (c *countedConn) Close() error {
	c.leave()
	return c.Conn.Close()
}
