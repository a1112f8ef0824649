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
	"net"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Bounds of what a node may send, beyond those of one answer.
const (
	maxListLine   = 1 << 20   // bytes of the one line that answers "list"
	maxPlugins    = 2000      // in that line
	maxGreeting   = 64 << 10  // bytes before the banner: what sshd and a login shell have to say
	maxAnswers    = 32 << 20  // bytes of all answers of one conversation but spoolfetch
	maxSpool      = 512 << 20 // bytes of one spoolfetch
	spoolPlugin   = "__root__"
	clientBuffer  = 16 << 10
	commandLength = 1024
)

// DialOptions are how a node is asked. The zero value will do.
type DialOptions struct {
	ConnectTimeout time.Duration // until TCP answers; default 15 s
	ReadTimeout    time.Duration // for each bit of an answer: a plugin may take its time; default 2 min, as Munin's
	Timeout        time.Duration // for the whole conversation; default 3 min, as Munin's timeout_fetch_one_node
	Local          netip.Addr    // local_address; zero: any
	SSH            []string      // ssh and its options; default ssh -T -o BatchMode=yes
	TLS            TLS           // for munin:// only
}

// Client is a conversation with one munin-node. It is for one goroutine at a time. After any error but a *[ServiceError]
// it is of no use any more, and repeats that error.
type Client struct {
	conn     net.Conn // TLS, where it is spoken
	raw      net.Conn // under it: deadlines
	r        *bufio.Reader
	o        DialOptions
	end      time.Time
	stopped  atomic.Bool // the context of a call has ended
	name     string
	line     []byte // reused
	text     []byte // reused
	err      error
	greeting int // bytes before the banner
	received int // bytes of answers
}

// ServiceError is a node's word that it has no answer about one service; the others are not concerned.
type ServiceError struct {
	Service string // as it was asked for
	Text    string // as the node says it: "Unknown service", "Timed out", "Bad exit"
}

func (e *ServiceError) Error() string {
	return fmt.Sprintf("service %s: the node says %s", quoted(e.Service), quoted(e.Text))
}

// ErrWantsTLS is what a node says that talks over TLS only.
var ErrWantsTLS = errors.New("the node requires TLS: set tls")

// Dial connects, waits for the banner and begins TLS. The context bounds that, not what follows.
func Dial(ctx context.Context, a Address, o DialOptions) (*Client, error) {
	if err := o.TLS.check(); err != nil {
		return nil, err
	}
	o.ConnectTimeout = cmp.Or(o.ConnectTimeout, 15*time.Second)
	conn, err := connect(ctx, a, &o)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", a, err)
	}
	if a.Scheme != "munin" {
		o.TLS.Mode = TLSDisabled // ssh encrypts, and a program is here
	}
	c, err := NewClient(ctx, conn, o)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", a, err)
	}
	return c, nil
}

// NewClient is Dial for a connection that is open already. It closes conn if it fails.
func NewClient(ctx context.Context, conn net.Conn, o DialOptions) (*Client, error) {
	o.ReadTimeout = cmp.Or(o.ReadTimeout, 2*time.Minute)
	o.Timeout = cmp.Or(o.Timeout, 3*time.Minute)
	c := &Client{conn: conn, raw: conn, o: o, end: time.Now().Add(o.Timeout)}
	c.r = bufio.NewReaderSize(reading{c}, clientBuffer)
	err := c.during(ctx, func() error {
		if err := c.hello(); err != nil {
			return err
		}
		if o.TLS.Mode.off() {
			return nil
		}
		return c.startTLS(ctx)
	})
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return c, nil
}

// Name is what the node calls itself in its banner.
func (c *Client) Name() string { return c.name }

// Close says good-bye and hangs up.
func (c *Client) Close() error {
	if c.err == nil {
		_ = c.raw.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = c.conn.Write([]byte("quit\n")) // a node that hears nothing hangs up too
	}
	_ = c.raw.SetDeadline(time.Now().Add(time.Second)) // for TLS's own good-bye
	return c.conn.Close()
}

// reading sets the deadline before each read.
type reading struct{ c *Client }

func (r reading) Read(p []byte) (int, error) {
	c := r.c
	ends := time.Now().Add(c.o.ReadTimeout)
	if ends.After(c.end) {
		ends = c.end
	}
	_ = c.raw.SetDeadline(ends) // a connection that has none is closed; the read will tell
	if c.stopped.Load() {
		_ = c.raw.SetDeadline(time.Unix(1, 0))
	}
	return c.conn.Read(p)
}

// during runs one exchange with the node, until it is done or ctx ends.
func (c *Client) during(ctx context.Context, exchange func() error) error {
	if c.err != nil {
		return c.err
	}
	stop := context.AfterFunc(ctx, func() {
		c.stopped.Store(true)
		_ = c.raw.SetDeadline(time.Unix(1, 0))
	})
	err := exchange()
	stop()
	var one *ServiceError
	if err == nil || errors.As(err, &one) {
		return err
	}
	c.err = c.explain(ctx, err)
	return c.err
}

// explain says what an error of the connection means.
func (c *Client) explain(ctx context.Context, err error) error {
	child, isProgram := c.raw.(*program)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, os.ErrDeadlineExceeded) && !time.Now().Before(c.end):
		return fmt.Errorf("not done after %v", c.o.Timeout)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("no answer for %v", c.o.ReadTimeout)
	case isProgram:
		if why := child.why(); why != "" {
			return fmt.Errorf("the program ended: %s", why)
		}
	case errors.Is(err, io.EOF) && c.name == "" && c.greeting == 0:
		return errors.New("it hung up without a word: does its allow list name this server?")
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("the node hung up: %w", err)
	}
	return err
}

var banner = regexp.MustCompile(`(?i)#.*(?:lrrd|munin) (?:client|node) at (\S+)`)

// hello waits for the banner. Over ssh a login may have something to say before.
func (c *Client) hello() error {
	var first string
	for {
		line, err := c.readLine(maxGreeting)
		if err != nil {
			return err
		}
		if m := banner.FindSubmatch(line); m != nil {
			c.name = plainText(m[1])
			return nil
		}
		if c.greeting == 0 {
			first = string(line)
		}
		if c.greeting += len(line) + 1; c.greeting > maxGreeting {
			return fmt.Errorf("no munin-node answers there, but something that says %s", quoted(first))
		}
	}
}

// startTLS encrypts the connection. A node with a key is the TLS server; one without says "TLS MAYBE" and is the client.
func (c *Client) startTLS(ctx context.Context) error {
	if err := c.ask("STARTTLS"); err != nil {
		return err
	}
	line, err := c.readLine(maxLine)
	if err != nil {
		return err
	}
	config, err := c.o.TLS.config()
	if err != nil {
		return err
	}
	var conn *tls.Conn
	held, _ := c.r.Peek(c.r.Buffered())
	under := &afterBuffer{c.raw, io.MultiReader(bytes.NewReader(bytes.Clone(held)), c.raw)}
	switch {
	case bytes.HasPrefix(line, []byte("TLS OK")):
		conn = tls.Client(under, config)
	case bytes.HasPrefix(bytes.ToUpper(line), []byte("TLS MAYBE")):
		conn = tls.Server(under, config)
	case c.o.TLS.Mode.must():
		return fmt.Errorf("the node does not speak TLS; it says %s", quoted(line))
	default:
		return nil
	}
	_ = c.raw.SetDeadline(minTime(time.Now().Add(c.o.ReadTimeout), c.end))
	if err := conn.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("begin TLS: %w", err)
	}
	c.conn = conn
	c.r.Reset(reading{c})
	return nil
}

func minTime(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// ask sends a command.
func (c *Client) ask(command ...string) error {
	line := strings.Join(command, " ")
	if len(line) > commandLength || strings.ContainsAny(line, "\r\n") {
		return fmt.Errorf("BUG: command %s", quoted(line))
	}
	_ = c.raw.SetDeadline(minTime(time.Now().Add(c.o.ReadTimeout), c.end))
	if c.stopped.Load() {
		return context.Canceled
	}
	_, err := io.WriteString(c.conn, line+"\n")
	return err
}

// readLine reads a line without its end; it is good until the next. A last line without an end is io.ErrUnexpectedEOF.
func (c *Client) readLine(most int) ([]byte, error) {
	c.line = c.line[:0]
	for {
		part, err := c.r.ReadSlice('\n')
		if len(c.line)+len(part) > most {
			return nil, fmt.Errorf("a line of more than %d bytes", most)
		}
		if err == nil && len(c.line) == 0 {
			return bytes.TrimRight(part, "\r\n"), nil
		}
		c.line = append(c.line, part...)
		switch {
		case err == nil:
			return bytes.TrimRight(c.line, "\r\n"), nil
		case errors.Is(err, io.EOF) && len(c.line) > 0:
			return nil, io.ErrUnexpectedEOF
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		}
	}
}

// unknownCommand begins the one line that a node answers to what it does not know; no "." follows.
var unknownCommand = []byte("# Unknown command")

// readAnswer reads the lines up to the ".". They are good until the next.
func (c *Client) readAnswer() ([]byte, error) {
	c.text = c.text[:0]
	for {
		line, err := c.readLine(maxText)
		c.received += len(line) + 1
		switch {
		case errors.Is(err, io.EOF):
			return nil, io.ErrUnexpectedEOF
		case err != nil:
			return nil, err
		case c.received > maxAnswers:
			return nil, fmt.Errorf("answers of more than %d bytes in one conversation", maxAnswers)
		case string(line) == ".":
			return c.text, nil
		case len(c.text) == 0 && bytes.HasPrefix(line, unknownCommand):
			return line, nil
		case len(c.text) == 0 && isWantsTLS(line):
			return nil, ErrWantsTLS
		case len(c.text)+len(line) >= maxText:
			return nil, fmt.Errorf("an answer of more than %d bytes", maxText)
		}
		c.text = append(append(c.text, line...), '\n')
	}
}

func isWantsTLS(line []byte) bool { return string(line) == "# I require TLS. Closing." }

// exchangeLine asks for something that is answered with one line.
func (c *Client) exchangeLine(ctx context.Context, most int, command ...string) (answer string, err error) {
	err = c.during(ctx, func() error {
		if err := c.ask(command...); err != nil {
			return err
		}
		line, err := c.readLine(most)
		if err == nil && isWantsTLS(line) {
			err = ErrWantsTLS
		}
		answer = string(line)
		return err
	})
	return answer, err
}

// Cap tells the node what we can and returns what it can; nothing if it is too old for that. Without words we can
// "multigraph" and "dirtyconfig".
func (c *Client) Cap(ctx context.Context, words ...string) ([]string, error) {
	if len(words) == 0 {
		words = []string{"multigraph", "dirtyconfig"}
	}
	line, err := c.exchangeLine(ctx, maxLine, append([]string{"cap"}, words...)...)
	if err != nil {
		return nil, err
	}
	if _, after, ok := strings.Cut(line, "cap "); ok {
		return strings.Fields(after), nil
	}
	return nil, nil
}

// List is the plugins of a node, real or virtual, "" for the node's own. Names that no plugin can have are left out, and
// what is more than two thousand.
//
// A munin-node whose name holds a capital finds nothing under its own: then it is asked by name, which it does look up in
// lower case.
func (c *Client) List(ctx context.Context, node string) ([]string, error) {
	if node != "" && !IsHostName(node) {
		return nil, fmt.Errorf("%s is no name of a node: letters, digits, - and . only", quoted(node))
	}
	line, err := c.exchangeLine(ctx, maxListLine, strings.TrimSpace("list "+node))
	if err != nil {
		return nil, err
	}
	if node == "" && strings.TrimSpace(line) == "" && c.name != strings.ToLower(c.name) && IsHostName(c.name) {
		return c.List(ctx, c.name)
	}
	if strings.HasPrefix(line, "#") {
		return nil, nil
	}
	names := slices.DeleteFunc(strings.Fields(line), func(s string) bool { return !IsPluginName(s) })
	return names[:min(len(names), maxPlugins)], nil
}

// Nodes is the node's names, its own and those of virtual nodes.
func (c *Client) Nodes(ctx context.Context) (names []string, err error) {
	err = c.during(ctx, func() error {
		if err := c.ask("nodes"); err != nil {
			return err
		}
		text, err := c.readAnswer()
		for name := range strings.FieldsSeq(string(text)) {
			if IsHostName(name) && len(names) < maxPlugins {
				names = append(names, name)
			}
		}
		return err
	})
	return names, err
}

// Version is the version of the node's software.
func (c *Client) Version(ctx context.Context) (string, error) {
	line, err := c.exchangeLine(ctx, maxLine, "version")
	if _, after, ok := strings.Cut(line, "version:"); ok {
		line = after
	}
	return plainText([]byte(strings.TrimSpace(line))), err
}

// Config asks how a plugin describes itself. See [ParseConfig]; a *[ServiceError] if the node could not ask it.
func (c *Client) Config(ctx context.Context, plugin string) (Answer, error) {
	return c.exchange(ctx, "config", plugin, ParseConfig)
}

// Fetch asks for a plugin's values. See [ParseFetch]; a *[ServiceError] if the node could not ask it.
func (c *Client) Fetch(ctx context.Context, plugin string) (Answer, error) {
	return c.exchange(ctx, "fetch", plugin, ParseFetch)
}

func (c *Client) exchange(ctx context.Context, command, plugin string, parse func(string, []byte) Answer) (a Answer, err error) {
	if !IsPluginName(plugin) {
		return a, &ServiceError{plugin, "no name of a plugin"}
	}
	err = c.during(ctx, func() error {
		if err := c.ask(command, plugin); err != nil {
			return err
		}
		text, err := c.readAnswer()
		if err != nil {
			return err
		}
		if said := refusal(text); said != "" {
			return &ServiceError{plugin, said}
		}
		a = parse(plugin, text)
		return nil
	})
	return a, err
}

// refusal is what the node says in place of an answer, "" if it is one. A comment of a plugin is none: of munin-node's own
// words nothing but one line is sent. "# timeout" is that of old nodes.
func refusal(text []byte) string {
	line, rest, _ := bytes.Cut(bytes.Trim(text, "\n"), []byte("\n"))
	said, isComment := strings.CutPrefix(string(line), "# ")
	if !isComment || len(rest) > 0 {
		return ""
	}
	for _, known := range []string{"Unknown service", "Timed out", "Bad exit", "timeout", "Unknown command"} {
		if strings.HasPrefix(said, known) {
			return said[:min(len(said), maxQuoted)]
		}
	}
	return ""
}

// SpoolFetch asks a node that can "spool" for everything it has kept since then (Unix seconds), and gives it away section
// by section, as it comes: a service, and values of it or none. An error of each ends it. What a plugin says of several
// services comes twice, first as descriptions and then as values; these come with the description that was last given.
func (c *Client) SpoolFetch(ctx context.Context, since int64, each func(Service, []Value) error) (problems []Problem, err error) {
	known := map[string]Service{}
	give := func(section []byte) error {
		a := ParseConfig(spoolPlugin, section)
		if room := maxProblems - len(problems); room > 0 {
			problems = append(problems, a.Problems[:min(room, len(a.Problems))]...)
		}
		for _, s := range a.Services {
			if s.Name == spoolPlugin {
				continue // before the first "multigraph", of no service
			}
			if before, ok := known[s.Name]; ok && !s.described() {
				s = before
			} else if ok || len(known) < maxServices {
				known[s.Name] = s
			}
			if err := each(s, a.Values); err != nil {
				return err
			}
		}
		return nil
	}
	err = c.during(ctx, func() error {
		if err := c.ask("spoolfetch", strconv.FormatInt(since, 10)); err != nil {
			return err
		}
		return c.readSpool(give)
	})
	return problems, err
}

// readSpool cuts the stream into sections of one service each.
func (c *Client) readSpool(give func([]byte) error) error {
	c.text = c.text[:0]
	for total := 0; ; {
		line, err := c.readLine(maxText)
		total += len(line) + 1
		switch {
		case errors.Is(err, io.EOF):
			return io.ErrUnexpectedEOF
		case err != nil:
			return err
		case total == len(line)+1 && bytes.HasPrefix(line, unknownCommand):
			return errors.New("the node keeps nothing that could be fetched")
		case total > maxSpool:
			return fmt.Errorf("an answer of more than %d bytes", maxSpool)
		case len(c.text)+len(line) >= maxText:
			return fmt.Errorf("a section of more than %d bytes", maxText)
		}
		ends := string(line) == "."
		if len(c.text) > 0 && (ends || isSection(line)) {
			if err := give(c.text); err != nil {
				return err
			}
			c.text = c.text[:0]
		}
		if ends {
			return nil
		}
		c.text = append(append(c.text, line...), '\n')
	}
}
