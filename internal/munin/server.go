package munin

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// ErrUnknownService is what Node.Read says of a plugin that is not there.
var ErrUnknownService = errors.New("unknown service")

// Node is what a master may ask. The functions are called by several goroutines at once.
type Node struct {
	Name    string // in the banner; a master that has no other name for us asks for its plugins
	Version string
	// Plugins are what can be asked for, in the order of the list.
	Plugins func() []Plugin
	// Read is how a plugin describes itself, and its values now. Of several services each begins with its "multigraph"
	// line; so does one whose name is not the plugin's. Value.Service may be "" where there is one. ErrUnknownService, an
	// end of ctx and any other error are told to the master in munin-node's words; services that come with an error are
	// described nevertheless. What is returned is not changed later.
	Read func(ctx context.Context, plugin string) ([]*Service, []Value, error)
	// Spool gives away everything since then (Unix seconds), service by service, the values of each with rising times. nil:
	// we keep nothing for masters.
	Spool func(ctx context.Context, since int64, each func(*Service, []Value) error) error
}

// Plugin is one word of the list.
type Plugin struct {
	Name       string
	Host       string // the virtual node that it belongs to; "" for the node itself
	Multigraph bool   // of several services: not listed to a master that does not know "multigraph"
	Dirty      bool   // answers "config" with its values too, and is listed only to a master that takes them from there
}

// ServeOptions are who may ask, and how much.
type ServeOptions struct {
	Allow       []netip.Prefix // whoever else connects is hung up on without a word
	Connections int            // at a time; default 64; half of them for one address at most
	Idle        time.Duration  // without a command; default 2 min
	Session     time.Duration  // a connection at most; default 15 min, munin-node's global_timeout
	TLS         TLS
	Log         *slog.Logger
}

// ServerStats are counted since NewServer.
type ServerStats struct {
	Open     int64 // connections now
	Accepted int64
	Refused  int64 // not on the list
	Full     int64 // turned away since too many were open
	Commands int64
}

// Server is a munin-node.
type Server struct {
	node *Node
	o    ServeOptions
	tls  *tls.Config // nil: no STARTTLS

	mu    sync.Mutex
	peers map[netip.Addr]int // open connections

	accepted, refused, full, commands atomic.Int64
}

// Bounds of a master's connection.
const (
	maxCommand  = 1024             // bytes
	pluginTime  = 60 * time.Second // for Node.Read, as munin-node's
	writeTime   = 60 * time.Second // for the master to take what it asked for
	spoolBuffer = 64 << 10
)

// NewServer checks the options.
func NewServer(n *Node, o ServeOptions) (*Server, error) {
	if err := o.TLS.check(); err != nil {
		return nil, err
	}
	if !IsHostName(n.Name) {
		return nil, fmt.Errorf("%s is no name of a node: letters, digits, - and . only", quoted(n.Name))
	}
	o.Connections = cmp.Or(o.Connections, 64)
	o.Idle = cmp.Or(o.Idle, 2*time.Minute)
	o.Session = cmp.Or(o.Session, 15*time.Minute)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{node: n, o: o, peers: map[netip.Addr]int{}}
	if !o.TLS.Mode.off() {
		config, err := o.TLS.config()
		if err != nil {
			return nil, err
		}
		s.tls = config
	}
	return s, nil
}

// Stats counts.
func (s *Server) Stats() ServerStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := ServerStats{Accepted: s.accepted.Load(), Refused: s.refused.Load(), Full: s.full.Load(), Commands: s.commands.Load()}
	for _, n := range s.peers {
		st.Open += int64(n)
	}
	return st
}

// Serve answers masters until ctx ends, which is no error, or l fails for good. It closes l, and returns when all
// connections are closed.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	defer func() { _ = l.Close() }()
	var open sync.WaitGroup
	defer open.Wait()
	defer cancel() // before the wait
	for wait := time.Duration(0); ; {
		conn, err := l.Accept()
		switch {
		case err == nil:
			wait = 0
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		default: // out of files, most likely
			wait = min(max(2*wait, 10*time.Millisecond), time.Second)
			s.o.Log.Warn("munin-node cannot accept a connection", "err", err)
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return nil
			}
			continue
		}
		peer, ok := s.admit(conn)
		if !ok {
			_ = conn.Close()
			continue
		}
		open.Go(func() {
			defer s.leave(peer)
			newSession(s, conn).run(ctx)
		})
	}
}

// admit says whether whoever connected may ask, and if so counts it.
func (s *Server) admit(conn net.Conn) (peer netip.Addr, ok bool) {
	if a, err := netip.ParseAddrPort(conn.RemoteAddr().String()); err == nil {
		peer = a.Addr().Unmap().WithZone("")
	}
	if !slices.ContainsFunc(s.o.Allow, func(p netip.Prefix) bool { return p.Contains(peer) }) {
		s.refused.Add(1)
		s.o.Log.Debug("munin-node hangs up on who is not on its list", "addr", peer)
		return peer, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	all := 0
	for _, n := range s.peers {
		all += n
	}
	if all >= s.o.Connections || s.peers[peer] >= max(1, s.o.Connections/2) {
		s.full.Add(1)
		return peer, false
	}
	s.peers[peer]++
	s.accepted.Add(1)
	return peer, true
}

func (s *Server) leave(peer netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.peers[peer]--; s.peers[peer] == 0 {
		delete(s.peers, peer)
	}
}

// session is one master's connection.
type session struct {
	s     *Server
	raw   net.Conn
	conn  net.Conn // raw, or TLS over it
	r     *bufio.Reader
	end   time.Time
	can   []string // the master's capabilities
	inTLS bool
	under *gathered // TLS
	out   []byte    // reused
}

func newSession(s *Server, conn net.Conn) *session {
	return &session{s: s, raw: conn, conn: conn, r: bufio.NewReaderSize(conn, maxCommand), end: time.Now().Add(s.o.Session)}
}

// errQuit ends a session in peace.
var errQuit = errors.New("quit")

func (c *session) run(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() { _ = c.raw.Close() })
	defer stop()
	defer c.close()
	err := c.write(append(append([]byte("# munin node at "), c.s.node.Name...), '\n'))
	for err == nil {
		_ = c.raw.SetReadDeadline(minTime(time.Now().Add(c.s.o.Idle), c.end))
		var line []byte
		if line, err = c.r.ReadSlice('\n'); err == nil {
			c.s.commands.Add(1)
			err = c.command(ctx, strings.TrimRight(string(line), "\r\n"))
		}
	}
	if !errors.Is(err, errQuit) && !errors.Is(err, io.EOF) && ctx.Err() == nil {
		c.s.o.Log.Debug("a master's connection ended", "addr", c.raw.RemoteAddr(), "err", err)
	}
}

// close hangs up, with TLS's good-bye where that is spoken; who has hung up does not hear it.
func (c *session) close() {
	if conn, ok := c.conn.(*tls.Conn); ok {
		_ = conn.CloseWrite()
		_ = c.raw.SetWriteDeadline(time.Now().Add(time.Second)) // CloseWrite lets it pass
		_ = c.under.w.Flush()
	}
	_ = c.raw.Close()
}

// The commands as Munin::Node::Server matches them, in its order.
var (
	listCommand     = regexp.MustCompile(`(?i)^list\s*([0-9a-zA-Z.-]+)?`)
	capCommand      = regexp.MustCompile(`(?i)^cap\s?(.*)`)
	quitCommand     = regexp.MustCompile(`(?i)^quit|^\.`)
	versionCommand  = regexp.MustCompile(`(?i)^version`)
	nodesCommand    = regexp.MustCompile(`(?i)^nodes`)
	fetchCommand    = regexp.MustCompile(`(?i)^fetch\s?(\S*)`)
	configCommand   = regexp.MustCompile(`(?i)^config\s?(\S*)`)
	spoolCommand    = regexp.MustCompile(`^spoolfetch (\d+)`)
	starttlsCommand = regexp.MustCompile(`(?i)^starttls\s*$`)
)

const commandsKnown = "# Unknown command. Try cap, list, nodes, config, fetch, version or quit\n"

// command answers one, in one write: a master that acknowledges late waits once, not for each line.
func (c *session) command(ctx context.Context, line string) error {
	if c.s.o.TLS.Mode.must() && !c.inTLS && !starttlsCommand.MatchString(line) {
		if err := c.write([]byte("# I require TLS. Closing.\n")); err != nil {
			return err
		}
		return errQuit
	}
	c.out = c.out[:0]
	if m := listCommand.FindStringSubmatch(line); m != nil {
		c.list(cmp.Or(m[1], c.s.node.Name))
	} else if m := capCommand.FindStringSubmatch(line); m != nil {
		c.capabilities(m[1])
	} else if quitCommand.MatchString(line) {
		return errQuit
	} else if versionCommand.MatchString(line) {
		c.out = fmt.Appendf(c.out, "munins node on %s version: %s\n", c.s.node.Name, c.s.node.Version) // sic
	} else if nodesCommand.MatchString(line) {
		c.nodes()
	} else if m := fetchCommand.FindStringSubmatch(line); m != nil {
		c.plugin(ctx, m[1], false)
	} else if m := configCommand.FindStringSubmatch(line); m != nil {
		c.plugin(ctx, m[1], true)
	} else if m := spoolCommand.FindStringSubmatch(line); m != nil && c.s.node.Spool != nil {
		return c.spool(ctx, m[1])
	} else if starttlsCommand.MatchString(line) && c.s.tls != nil && !c.inTLS {
		return c.startTLS(ctx)
	} else {
		c.out = append(c.out, commandsKnown...)
	}
	return c.write(c.out)
}

// write sends text. Munin's master takes what one record of TLS holds for one line, so there each line has its own.
func (c *session) write(text []byte) error {
	_ = c.raw.SetWriteDeadline(minTime(time.Now().Add(writeTime), c.end))
	if !c.inTLS {
		_, err := c.conn.Write(text)
		return err
	}
	for line := range bytes.Lines(text) {
		if _, err := c.conn.Write(line); err != nil {
			return err
		}
	}
	return c.under.w.Flush()
}

// gathered is a connection whose records go out together, at the latest when something is waited for.
type gathered struct {
	net.Conn
	r io.Reader
	w *bufio.Writer
}

func (c *gathered) Write(p []byte) (int, error) { return c.w.Write(p) }

func (c *gathered) Read(p []byte) (int, error) {
	if err := c.w.Flush(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// list is one line. Names are looked up in lower case, the node's own too: munin-node forgets that, and a master that
// asks a node with a capital in its name for "list" alone gets nothing.
func (c *session) list(host string) {
	for _, p := range c.s.node.Plugins() {
		switch {
		case !strings.EqualFold(host, cmp.Or(p.Host, c.s.node.Name)):
		case p.Multigraph && !slices.Contains(c.can, "multigraph"), p.Dirty && !slices.Contains(c.can, "dirtyconfig"):
		case !IsPluginName(p.Name):
		default:
			if len(c.out) > 0 {
				c.out = append(c.out, ' ')
			}
			c.out = append(c.out, p.Name...)
		}
	}
	c.out = append(c.out, '\n')
}

func (c *session) capabilities(words string) {
	c.can = strings.Fields(words)
	c.out = append(c.out, "cap multigraph dirtyconfig"...)
	if c.s.node.Spool != nil {
		c.out = append(c.out, " spool"...)
	}
	c.out = append(c.out, '\n')
}

// nodes begins with the node itself.
func (c *session) nodes() {
	names := []string{strings.ToLower(c.s.node.Name)}
	for _, p := range c.s.node.Plugins() {
		if name := strings.ToLower(p.Host); name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, name := range names {
		c.out = append(append(c.out, name...), '\n')
	}
	c.out = append(c.out, ".\n"...)
}

// plugin reads one and answers "config" or "fetch", or in munin-node's words what went wrong.
func (c *session) plugin(ctx context.Context, name string, config bool) {
	ctx, cancel := context.WithTimeout(ctx, pluginTime)
	defer cancel()
	services, values, err := c.s.node.Read(ctx, name)
	switch {
	case config && (err == nil || len(services) > 0):
		c.config(name, services, values)
	case err == nil:
		c.fetch(name, services, values)
	case errors.Is(err, ErrUnknownService):
		c.out = append(c.out, "# Unknown service\n"...)
	case errors.Is(err, context.DeadlineExceeded):
		c.out = append(c.out, "# Timed out\n"...)
	default:
		c.out = append(c.out, "# Bad exit\n"...)
	}
	c.out = append(c.out, ".\n"...)
}

// sections says whether the answer of a plugin names its services.
func sections(plugin string, services []*Service) bool {
	return len(services) != 1 || services[0].Name != ServiceName(plugin)
}

// config describes the services of a plugin. One that is listed as dirty gives its values at once to who takes them.
func (c *session) config(plugin string, services []*Service, values []Value) {
	dirty := slices.Contains(c.can, "dirtyconfig") &&
		slices.ContainsFunc(c.s.node.Plugins(), func(p Plugin) bool { return p.Name == plugin && p.Dirty })
	for _, s := range services {
		if sections(plugin, services) {
			c.out = appendSection(c.out, s)
		}
		c.out = AppendConfig(c.out, s)
		if dirty {
			c.out = AppendValues(c.out, s, values)
		}
	}
}

func (c *session) fetch(plugin string, services []*Service, values []Value) {
	for _, s := range services {
		if sections(plugin, services) {
			c.out = appendSection(c.out, s)
		}
		c.out = AppendValues(c.out, s, values)
	}
}

func appendSection(dst []byte, s *Service) []byte {
	return fmt.Appendf(dst, "%s %s\n", multigraph, s.Name)
}

// spool streams what is kept; its writes are as large as its buffer. Each service is described once: a master appends the
// fields to graph_order each time that it sees their labels.
func (c *session) spool(ctx context.Context, since string) error {
	seconds, err := strconv.ParseInt(since, 10, 64)
	if err != nil {
		return c.write([]byte(".\n"))
	}
	described := map[string]bool{}
	err = c.s.node.Spool(ctx, seconds, func(s *Service, values []Value) error {
		c.out = appendSection(c.out, s)
		if !described[s.Name] {
			c.out = AppendConfig(c.out, s)
			described[s.Name] = true
		}
		c.out = AppendValues(c.out, s, values)
		if len(c.out) < spoolBuffer {
			return nil
		}
		err := c.write(c.out)
		c.out = c.out[:0]
		return err
	})
	if err != nil {
		return fmt.Errorf("spoolfetch: %w", err) // a master must not take a part for the whole
	}
	return c.write(append(c.out, ".\n"...))
}

func (c *session) startTLS(ctx context.Context) error {
	if err := c.write([]byte("TLS OK\n")); err != nil {
		return err
	}
	_ = c.raw.SetDeadline(minTime(time.Now().Add(c.s.o.Idle), c.end))
	c.under = &gathered{c.raw, c.r, bufio.NewWriterSize(c.raw, spoolBuffer)}
	conn := tls.Server(c.under, c.s.tls)
	err := conn.HandshakeContext(ctx)
	if last := c.under.w.Flush(); err == nil { // nobody need answer the last of it, or why it failed
		err = last
	}
	if err != nil {
		return fmt.Errorf("begin TLS: %w", err)
	}
	c.conn, c.inTLS = conn, true
	c.r = bufio.NewReaderSize(conn, maxCommand)
	return nil
}
