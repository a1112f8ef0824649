package source

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"tocsin"
)

// SyslogOptions says where syslog messages are listened for.
type SyslogOptions struct {
	Name     string         // how records name the source: "syslog:udp://127.0.0.1:5514"; it is also where to listen
	Location *time.Location // of dates without a zone; default time.Local

	// MaxConnections bounds the TCP connections, default 64. A connection beyond it takes the place of the one that has
	// been silent for longest, so that nobody can lock others out by holding connections.
	MaxConnections int

	Log *slog.Logger // nil: silent
}

// Syslog listens for syslog messages on a UDP, TCP or unix datagram socket. Its records have no position and it says no
// marks: what came over a socket cannot be read again.
//
// Whoever reaches the socket can write any line, in anybody's name.
type Syslog struct {
	counters
	o    SyslogOptions
	spec Spec
	host []byte // this machine's name
}

// NewSyslog checks the options. It opens nothing.
func NewSyslog(o SyslogOptions) (*Syslog, error) {
	spec, err := Parse(o.Name)
	if err != nil {
		return nil, err
	}
	if spec.Kind != KindSyslog {
		return nil, &SpecError{o.Name, "no syslog source", syslogHint}
	}
	if o.Location == nil {
		o.Location = time.Local
	}
	if o.MaxConnections <= 0 {
		o.MaxConnections = 64
	}
	o.Log = logger(o.Log)
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	return &Syslog{o: o, spec: spec, host: []byte(host)}, nil
}

const (
	// idlePatience is how long a connection may be silent between two messages, framePatience within one.
	idlePatience  = time.Hour
	framePatience = 30 * time.Second

	// socketBuffer is what the kernel keeps for us while we do not run: a second of 40,000 messages of 100 bytes.
	socketBuffer = 4 << 20

	// retryAfter is how long a socket that fails is left alone.
	retryAfter = 100 * time.Millisecond
)

// Run listens until ctx ends, and then returns nil once all that was received has been handed over. It returns an error
// if the address cannot be listened on.
func (y *Syslog) Run(ctx context.Context, s Sink) error {
	l, err := y.listen()
	if err != nil {
		return fmt.Errorf("source %s: %w", y.o.Name, err)
	}
	s.caughtUp()
	return y.serve(ctx, l, s)
}

// listener is an open socket: one of the two is nil.
type listener struct {
	datagrams net.Conn
	streams   net.Listener
}

func (l listener) close() {
	if l.streams != nil {
		l.streams.Close()
		return
	}
	l.datagrams.Close()
}

func (y *Syslog) listen() (l listener, err error) {
	switch y.spec.Network {
	case "udp":
		c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(y.spec.Addr))
		if err != nil {
			return l, err
		}
		growBuffer(c)
		return listener{datagrams: c}, nil
	case "unix":
		c, err := y.listenUnix()
		if err != nil {
			return l, err
		}
		growBuffer(c)
		return listener{datagrams: c}, nil
	}
	n, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(y.spec.Addr))
	return listener{streams: n}, err
}

// listenUnix puts a socket in the place of one that nobody listens on any more. A file of another kind stays.
func (y *Syslog) listenUnix() (*net.UnixConn, error) {
	addr := &net.UnixAddr{Name: y.spec.Path, Net: "unixgram"}
	if info, err := os.Lstat(y.spec.Path); err == nil && info.Mode()&os.ModeSocket != 0 {
		if c, err := net.DialUnix("unixgram", nil, addr); err == nil {
			c.Close()
			return nil, &net.OpError{Op: "listen", Net: "unixgram", Addr: addr, Err: syscall.EADDRINUSE}
		}
		if err := os.Remove(y.spec.Path); err != nil {
			return nil, err
		}
	}
	c, err := net.ListenUnixgram("unixgram", addr)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(y.spec.Path, os.FileMode(y.spec.Mode)); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// growBuffer asks for more than the system's bound, which a process with CAP_NET_ADMIN gets, or else for what it gets.
func growBuffer(c interface {
	SyscallConn() (syscall.RawConn, error)
	SetReadBuffer(bytes int) error
}) {
	c.SetReadBuffer(socketBuffer)
	if raw, err := c.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) {
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, socketBuffer)
		})
	}
}

// serve hands over what the socket's goroutines queue.
func (y *Syslog) serve(ctx context.Context, l listener, s Sink) error {
	q := newQueue()
	var wg sync.WaitGroup
	stop := context.AfterFunc(ctx, l.close)
	wg.Go(func() {
		if l.streams != nil {
			y.accept(ctx, l.streams, q)
		} else {
			y.receive(ctx, l.datagrams, q)
		}
	})
	ended := make(chan struct{})
	go func() { wg.Wait(); close(ended) }()

	rec := tocsin.Record{Source: y.o.Name}
	var b batch
	for open := true; open; {
		select {
		case <-q.ready:
		case <-ended:
			open = false
		}
		q.swap(&b)
		y.hand(&b, &rec, s.Record)
	}
	stop()
	l.close()
	if y.spec.Network == "unix" {
		os.Remove(y.spec.Path) // the listener removes a stream socket, not this one
	}
	return nil
}

func (y *Syslog) hand(b *batch, rec *tocsin.Record, record func(*tocsin.Record)) {
	begin := 0
	for _, m := range b.messages {
		rec.Text, rec.At = b.text[begin:m.end], m.at
		record(rec)
		begin = m.end
	}
	y.lines.Add(uint64(len(b.messages)))
}

// queueMessage puts one message as it came into the queue, or counts why it does not. It answers the scratch buffer.
func (y *Syslog) queueMessage(q *queue, scratch, msg, peer []byte, cut bool) []byte {
	y.bytes.Add(uint64(len(msg)))
	text, at, ok := appendSyslog(scratch[:0], msg, peer, time.Now(), y.o.Location)
	if !ok {
		y.malformed.Add(1)
	}
	if cut || len(text) > maxLine {
		y.cut.Add(1)
	}
	if !q.put(text[:min(len(text), maxLine)], at) {
		y.dropped.Add(1)
	}
	return text
}

// receive reads datagrams until the socket is closed.
func (y *Syslog) receive(ctx context.Context, c net.Conn, q *queue) {
	buf := make([]byte, maxFrame+1)
	var scratch, peer []byte
	for {
		n, from, err := readFrom(c, buf)
		switch {
		case ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			y.fail(ctx, err)
			continue
		case n == 0: // someone looked whether the socket is alive
			continue
		case from.IsValid() && !y.allowed(from.Addr()):
			y.refused.Add(1)
			continue
		}
		if peer = append(peer[:0], y.host...); from.IsValid() {
			peer = from.Addr().Unmap().AppendTo(peer[:0])
		}
		scratch = y.queueMessage(q, scratch, buf[:min(n, maxFrame)], peer, n > maxFrame)
	}
}

// readFrom reads a datagram and, over UDP, where it came from.
func readFrom(c net.Conn, buf []byte) (n int, from netip.AddrPort, err error) {
	if u, ok := c.(*net.UDPConn); ok {
		return u.ReadFromUDPAddrPort(buf)
	}
	n, err = c.Read(buf)
	return n, from, err
}

// allowed says whether a peer may send. A spoofed UDP source passes: allow keeps out mistakes, not attackers on the path.
func (y *Syslog) allowed(a netip.Addr) bool {
	a = a.Unmap()
	if len(y.spec.Allow) == 0 {
		return a.IsLoopback()
	}
	return slices.ContainsFunc(y.spec.Allow, func(p netip.Prefix) bool { return p.Contains(a) })
}

func (y *Syslog) fail(ctx context.Context, err error) {
	y.errors.Add(1)
	y.o.Log.Warn("cannot receive", "source", y.o.Name, "err", err, "dur", retryAfter)
	select {
	case <-ctx.Done():
	case <-time.After(retryAfter):
	}
}

// accept takes connections until the listener is closed, and waits for them to end.
func (y *Syslog) accept(ctx context.Context, n net.Listener, q *queue) {
	var set connections
	var wg sync.WaitGroup
	defer wg.Wait()
	defer set.closeAll()
	for {
		c, err := n.Accept()
		switch {
		case ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			if c != nil {
				c.Close()
			}
			return
		case err != nil:
			y.fail(ctx, err)
			continue
		}
		from, err := netip.ParseAddrPort(c.RemoteAddr().String())
		if err != nil || !y.allowed(from.Addr()) {
			y.refused.Add(1)
			c.Close()
			continue
		}
		conn := &connection{Conn: c}
		conn.heard.Store(time.Now().UnixNano())
		if set.add(conn, y.o.MaxConnections) {
			y.refused.Add(1)
		}
		y.connections.Add(1)
		wg.Go(func() {
			defer y.connections.Add(^uint64(0))
			defer set.remove(conn)
			y.stream(conn, q, from.Addr().Unmap().AppendTo(nil))
		})
	}
}

// stream reads one connection to its end.
func (y *Syslog) stream(c *connection, q *queue, peer []byte) {
	f := newFramer(c)
	var scratch []byte
	for {
		now := time.Now()
		if f.r.Buffered() == 0 {
			c.SetReadDeadline(now.Add(idlePatience))
			if _, err := f.r.Peek(1); err != nil {
				return
			}
			now = time.Now()
		}
		c.heard.Store(now.UnixNano())
		c.SetReadDeadline(now.Add(framePatience))
		msg, cut, err := f.next()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				y.malformed.Add(1)
			}
			return
		}
		if len(msg) > 0 {
			scratch = y.queueMessage(q, scratch, msg, peer, cut)
		}
	}
}

// connection is a sender and when it was heard last.
type connection struct {
	net.Conn
	heard atomic.Int64 // Unix nanoseconds
}

// connections are those that are open.
type connections struct {
	mu     sync.Mutex
	open   []*connection
	closed bool
}

// add takes in a connection. If there are most already, the one that was silent for longest is closed.
func (s *connections) add(c *connection, most int) (evicted bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		c.Close()
		return false
	}
	if len(s.open) >= most {
		oldest := slices.MinFunc(s.open, func(a, b *connection) int { return int(a.heard.Load() - b.heard.Load()) })
		oldest.Close()
		s.open = slices.DeleteFunc(s.open, func(o *connection) bool { return o == oldest })
		evicted = true
	}
	s.open = append(s.open, c)
	return evicted
}

func (s *connections) remove(c *connection) {
	c.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = slices.DeleteFunc(s.open, func(o *connection) bool { return o == c })
}

func (s *connections) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, c := range s.open {
		c.Close()
	}
}
