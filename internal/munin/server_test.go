package munin

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

// madeNode has one plugin of each kind.
func madeNode() *Node {
	service := func(name, typ string) *Service {
		return &Service{Name: name, Attrs: []Attr{{"graph_title", name}}, Fields: []Field{{Name: "a", Attrs: []Attr{{"label", "a"}, {"type", typ}}}}}
	}
	return &Node{
		Name: "Web1.Example", Version: "1.0",
		Plugins: func() []Plugin {
			return []Plugin{{Name: "load"}, {Name: "disk", Multigraph: true}, {Name: "dirty", Dirty: true}, {Name: "ping", Host: "Router.example"}, {Name: "broken"}}
		},
		Read: func(ctx context.Context, plugin string) ([]*Service, []Value, error) {
			switch plugin {
			case "load":
				return []*Service{service("load", "GAUGE")}, []Value{{"", "a", 0, 0.25}}, nil
			case "disk":
				return []*Service{service("disk", "DERIVE"), service("disk.vda", "DERIVE")}, []Value{{"disk", "a", 0, 7.6}, {"disk.vda", "a", 0, math.NaN()}}, nil
			case "dirty":
				return []*Service{service("dirty", "GAUGE")}, []Value{{"dirty", "a", 100, 1}}, nil
			case "ping":
				s := service("ping", "GAUGE")
				s.Host = "router.example"
				return []*Service{s}, nil, nil
			case "slow":
				return nil, nil, fmt.Errorf("ask: %w", context.DeadlineExceeded)
			case "broken":
				return []*Service{service("broken", "GAUGE")}, nil, errors.New("exit status 1")
			}
			return nil, nil, ErrUnknownService
		},
	}
}

// What is said to each command, as munin-node says it.
func TestServerCommands(t *testing.T) {
	const unknown = "# Unknown command. Try cap, list, nodes, config, fetch, version or quit\n"
	load := "graph_title load\na.label a\na.type GAUGE\n.\n"
	tests := []struct{ commands, want string }{
		{"", ""},
		{"cap multigraph dirtyconfig\n", "cap multigraph dirtyconfig\n"},
		{"CAP\r\n", "cap multigraph dirtyconfig\n"},
		{"list\n", "load broken\n"},
		{"list\r\n", "load broken\n"},
		{"list web1.example\n", "load broken\n"},
		{"List WEB1.EXAMPLE\n", "load broken\n"},
		{"list router.example\n", "ping\n"},
		{"list other\n", "\n"},
		{"cap multigraph\nlist\n", "cap multigraph dirtyconfig\nload disk broken\n"},
		{"cap multigraph dirtyconfig\r\nlist\n", "cap multigraph dirtyconfig\nload disk dirty broken\n"},
		{"cap multigraph\ncap\nlist\n", "cap multigraph dirtyconfig\ncap multigraph dirtyconfig\nload broken\n"},
		{"listrouter.example\n", "ping\n"},
		{"nodes\n", "web1.example\nrouter.example\n.\n"},
		{"version\n", "munins node on Web1.Example version: 1.0\n"},
		{"config load\n", load},
		{"config load and more\n", load},
		{"configload\n", load},
		{"config ping\n", "host_name router.example\ngraph_title ping\na.label a\na.type GAUGE\n.\n"},
		{"config disk\n", "multigraph disk\ngraph_title disk\na.label a\na.type DERIVE\nmultigraph disk.vda\ngraph_title disk.vda\na.label a\na.type DERIVE\n.\n"},
		{"config dirty\n", "graph_title dirty\na.label a\na.type GAUGE\n.\n"},
		{"cap dirtyconfig\nconfig dirty\n", "cap multigraph dirtyconfig\ngraph_title dirty\na.label a\na.type GAUGE\na.value 100:1\n.\n"},
		{"config broken\n", "graph_title broken\na.label a\na.type GAUGE\n.\n"},
		{"config nothing\n", "# Unknown service\n.\n"},
		{"config\n", "# Unknown service\n.\n"},
		{"fetch load\r\n", "a.value 0.25\n.\n"},
		{"fetch disk\n", "multigraph disk\na.value 8\nmultigraph disk.vda\na.value U\n.\n"},
		{"fetch ping\n", ".\n"},
		{"fetch slow\n", "# Timed out\n.\n"},
		{"fetch broken\n", "# Bad exit\n.\n"},
		{"fetch nothing\n", "# Unknown service\n.\n"},
		{"spoolfetch 5\n", unknown},
		{"STARTTLS\n", unknown},
		{"help\n", unknown},
		{"\n", unknown},
		{" list\n", unknown},
		{"quit\nversion\n", ""},
		{"QUIT now\nversion\n", ""},
		{".\nversion\n", ""},
		{"version" + strings.Repeat("x", maxCommand) + "\nversion\n", ""},
		{"version", ""},
	}
	_, a := serve(t, madeNode(), ServeOptions{})
	for _, tt := range tests {
		if got, want := say(t, a, tt.commands), "# munin node at Web1.Example\n"+tt.want; got != want {
			t.Errorf("%.60q: %q, want %q", tt.commands, got, want)
		}
	}
}

// say sends commands, says that it is done, and returns all that is answered.
func say(t *testing.T, a Address, commands string) string {
	t.Helper()
	conn, err := net.Dial("tcp", net.JoinHostPort(a.Host, fmt.Sprint(a.Port)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(patience))
	_, _ = io.WriteString(conn, commands)
	_ = conn.(*net.TCPConn).CloseWrite()
	got, err := io.ReadAll(conn)
	// Who hangs up on what he has not read resets the connection.
	if err != nil && !errors.Is(err, net.ErrClosed) && !strings.Contains(err.Error(), "reset") {
		t.Fatal(err)
	}
	return string(got)
}

func TestServerSpool(t *testing.T) {
	n := madeNode()
	n.Spool = func(_ context.Context, since int64, each func(*Service, []Value) error) error {
		if since == 7 {
			return errors.New("the store is gone")
		}
		s := &Service{Name: "disk.vda", Attrs: []Attr{{"graph_title", strings.Repeat("long ", 100)}}, Fields: []Field{{Name: "a", Attrs: []Attr{{"label", "a"}, {"type", "DERIVE"}}}}}
		for i := range int64(1000) {
			if err := each(s, []Value{{"disk.vda", "a", since + i + 1, float64(i)}}); err != nil {
				return err
			}
		}
		return nil
	}
	_, a := serve(t, n, ServeOptions{})
	c, err := Dial(t.Context(), a, DialOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if can, err := c.Cap(t.Context()); err != nil || !slices.Equal(can, []string{"multigraph", "dirtyconfig", "spool"}) {
		t.Errorf("Cap: %q, %v", can, err)
	}
	var got []Value
	problems, err := c.SpoolFetch(t.Context(), 1795360000, func(s Service, v []Value) error {
		if s.Name != "disk.vda" || len(s.Attrs) != 1 || s.Field("a").Type() != Derive {
			t.Errorf("service %+v", s)
		}
		got = append(got, v...)
		return nil
	})
	if err != nil || len(problems) > 0 || len(got) != 1000 || got[999] != (Value{"disk.vda", "a", 1795361000, 999}) {
		t.Errorf("SpoolFetch: %d values, %v, %v", len(got), problems, err)
	}
	if text := say(t, a, "spoolfetch 5\n"); strings.Count(text, "graph_title") != 1 || strings.Count(text, ".value") != 1000 {
		t.Errorf("%d descriptions and %d values, want 1 and 1000", strings.Count(text, "graph_title"), strings.Count(text, ".value"))
	}
	if _, err := c.SpoolFetch(t.Context(), 7, func(Service, []Value) error { return nil }); err == nil {
		t.Error("a spool that broke in the middle looks whole")
	}
}

// Who is not on the list hears nothing; nobody takes all connections; who says nothing is hung up on.
func TestServerLimits(t *testing.T) {
	s, a := serve(t, madeNode(), ServeOptions{Allow: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}})
	if got := say(t, a, "version\n"); got != "" {
		t.Errorf("a stranger hears %q", got)
	}
	if st := s.Stats(); st.Refused != 1 || st.Accepted != 0 {
		t.Errorf("%+v after one stranger", st)
	}

	s, a = serve(t, madeNode(), ServeOptions{Connections: 4})
	open := func() (net.Conn, string) {
		conn, err := net.Dial("tcp", net.JoinHostPort(a.Host, fmt.Sprint(a.Port)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		_ = conn.SetDeadline(time.Now().Add(patience))
		line, _ := bufio.NewReader(conn).ReadString('\n')
		return conn, line
	}
	first, _ := open()
	open()
	if _, line := open(); line != "" {
		t.Errorf("one address may have half of the connections, but the third of four is greeted %q", line)
	}
	if st := s.Stats(); st.Open != 2 || st.Full != 1 {
		t.Errorf("%+v with two open and one turned away", st)
	}
	_ = first.Close()
	for end := time.Now().Add(patience); s.Stats().Open > 1 && time.Now().Before(end); time.Sleep(time.Millisecond) {
	}
	if _, line := open(); line == "" {
		t.Error("no connection is free after one was closed")
	}

	_, a = serve(t, madeNode(), ServeOptions{Idle: 50 * time.Millisecond})
	conn, line := open()
	if rest, err := io.ReadAll(conn); line == "" || err != nil || len(rest) > 0 {
		t.Errorf("who says nothing hears %q, %v", rest, err)
	}
	_, a = serve(t, madeNode(), ServeOptions{Session: 100 * time.Millisecond})
	conn, _ = open()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if _, err := io.WriteString(conn, "version\n"); err != nil {
			return
		}
	}
	t.Error("a session goes on for ever")
}

func TestNewServerRefuses(t *testing.T) {
	n := madeNode()
	n.Name = "a b"
	if _, err := NewServer(n, ServeOptions{}); err == nil || !strings.Contains(err.Error(), `"a b" is no name of a node`) {
		t.Errorf("a name with a blank: %v", err)
	}
	if _, err := NewServer(madeNode(), ServeOptions{TLS: TLS{Mode: TLSEnabled, Verify: true}}); err == nil {
		t.Error("verify without certificates to verify with is taken")
	}
}

func FuzzServer(f *testing.F) {
	f.Add([]byte("cap multigraph dirtyconfig\nlist\nnodes\nconfig load\nfetch disk\nversion\nspoolfetch 5\nstarttls\nquit\n"))
	f.Add([]byte("LIST \r\n.\r\n"))
	n := madeNode()
	n.Spool = func(context.Context, int64, func(*Service, []Value) error) error { return nil }
	s, err := NewServer(n, ServeOptions{TLS: TLS{Mode: TLSAuto}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		newSession(s, &canned{r: bytes.NewReader(data)}).run(t.Context())
	})
}

// Munin's master takes a record of TLS for a line, so each line comes in one of its own.
func TestServerTLSLines(t *testing.T) {
	n := madeNode()
	long := strings.Repeat("x", 5000)
	n.Spool = func(_ context.Context, _ int64, each func(*Service, []Value) error) error {
		return each(&Service{Name: "a", Attrs: []Attr{{"graph_title", long}}, Fields: []Field{{Name: "b", Attrs: []Attr{{"label", "b"}}}}}, []Value{{"", "b", 5, 1}})
	}
	_, a := serve(t, n, ServeOptions{TLS: TLS{Mode: TLSAuto}})
	raw, err := net.Dial("tcp", net.JoinHostPort(a.Host, strconv.Itoa(int(a.Port))))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = raw.Close() }()
	_ = raw.SetDeadline(time.Now().Add(time.Minute))
	buf := make([]byte, 64<<10)
	say := func(c net.Conn, command string) string {
		t.Helper()
		if _, err := io.WriteString(c, command); err != nil {
			t.Fatal(err)
		}
		n, err := c.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		return string(buf[:n])
	}
	if _, err := raw.Read(buf); err != nil { // the banner
		t.Fatal(err)
	}
	if got := say(raw, "STARTTLS\n"); got != "TLS OK\n" {
		t.Fatalf("STARTTLS: %q", got)
	}
	c := tls.Client(raw, &tls.Config{InsecureSkipVerify: true})
	got := []string{say(c, "spoolfetch 0\n")}
	for got[len(got)-1] != ".\n" {
		n, err := c.Read(buf)
		if err != nil {
			t.Fatalf("%v behind %.200q", err, got)
		}
		got = append(got, string(buf[:n]))
	}
	if want := []string{"multigraph a\n", "graph_title " + long + "\n", "b.label b\n", "b.value 5:1\n", ".\n"}; !slices.Equal(got, want) {
		t.Errorf("records %.200q, want %.200q", got, want)
	}
	if _, err := io.WriteString(c, "quit\n"); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(buf); n != 0 || err != io.EOF { // without a good-bye it would be unexpected
		t.Errorf("behind quit: %d bytes, %v", n, err)
	}
}
