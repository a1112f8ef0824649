package munin

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// node runs a made-up node at the other end of a connection; it hangs up when f returns. Time is synctest's where the
// test runs in a bubble.
func node(t testing.TB, f func(r *bufio.Reader, w io.Writer)) net.Conn {
	t.Helper()
	ours, theirs := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { _ = theirs.Close() }()
		f(bufio.NewReader(theirs), theirs)
	}()
	t.Cleanup(func() {
		_ = ours.Close()
		<-done
	})
	return ours
}

// answers is a node that answers any command with the text of its first word, and "" with nothing at all.
func answers(said map[string]string) func(*bufio.Reader, io.Writer) {
	return func(r *bufio.Reader, w io.Writer) {
		_, _ = io.WriteString(w, "# munin node at web1\n")
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			line = strings.TrimSuffix(line, "\n")
			word, _, _ := strings.Cut(line, " ")
			text, ok := said[line]
			if !ok {
				text, ok = said[word]
			}
			if !ok {
				return
			}
			if _, err := io.WriteString(w, text); err != nil {
				return
			}
		}
	}
}

func TestClientGreeting(t *testing.T) {
	tests := []struct{ said, name, err string }{
		{said: "# munin node at web1.example\n", name: "web1.example"},
		{said: "Welcome!\n\nLast login: today\n# lrrd client at Web1\r\n", name: "Web1"},
		{said: "# Munin Node AT x y\n", name: "x"},
		{said: "", err: "hung up without a word: does its allow list name this server?"},
		{said: "SSH-2.0-OpenSSH_9.2\n", err: "the node hung up: EOF"},
		{said: "# munin node at", err: "the node hung up: unexpected EOF"},
		{said: "220 mail\n" + strings.Repeat("x\n", maxGreeting), err: `no munin-node answers there, but something that says "220 mail"`},
		{said: strings.Repeat("x", maxGreeting+1), err: "a line of more than 65536 bytes"},
	}
	for _, tt := range tests {
		conn := node(t, func(_ *bufio.Reader, w io.Writer) { _, _ = io.WriteString(w, tt.said) })
		c, err := NewClient(t.Context(), conn, DialOptions{})
		switch {
		case tt.err == "" && (err != nil || c.Name() != tt.name):
			t.Errorf("greeting %.40q: %v, want the name %q", tt.said, err, tt.name)
		case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
			t.Errorf("greeting %.40q: %v, want %q", tt.said, err, tt.err)
		}
	}
}

func TestClientAnswers(t *testing.T) {
	said := map[string]string{
		"cap":              "# Unknown command. Try list, nodes, config, fetch, version or quit\n",
		"list":             "cpu if_eth0 bad;name df zz-a.b@c:d\n",
		"list other":       "\n",
		"nodes":            "web1\r\nbad_name\nrouter.example\n.\r\n",
		"version":          "munins node on web1 version: 1.4.5\n",
		"config cpu":       "graph_title CPU\n# a comment\nidle.label idle\n.\n",
		"config empty":     ".\n",
		"config gone":      "# Unknown service\n.\n",
		"config comment":   "# Unknown service, but more follows\na.label a\n.\n",
		"fetch cpu":        "idle.value 5\r\n\r\n.\r\n",
		"fetch slow":       "# Timed out\n.\n",
		"fetch old":        "# timeout on plugin old\n.\n",
		"fetch bad":        "# Bad exit\n.\n",
		"fetch unknown":    "# Unknown command. Try cap\n",
		"fetch dots":       "a.value 1\n..\n. \nb.value 2\n.\n",
		"spoolfetch 5":     "lost.label before any\nlost.value 1:1\nmultigraph a\nx.label x\nx.value 10:1\nx.value 11:2\nmultigraph b\ny.label y\nmultigraph a\nx.value 12:3\nmultigraph b..c\nmultigraph a\nx.label new\nx.value 13:U\n.\n",
		"spoolfetch 6":     "# Unknown command. Try cap\n",
		"spoolfetch 7":     ".\n",
		"config has-dash.": "graph_title x\n.\n",
	}
	c, err := NewClient(t.Context(), node(t, answers(said)), DialOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	if got, err := c.Cap(ctx); err != nil || len(got) > 0 {
		t.Errorf("Cap of an old node: %q, %v", got, err)
	}
	if got, err := c.List(ctx, ""); err != nil || !slices.Equal(got, []string{"cpu", "if_eth0", "df", "zz-a.b@c:d"}) {
		t.Errorf("List: %q, %v", got, err)
	}
	if got, err := c.List(ctx, "other"); err != nil || len(got) > 0 {
		t.Errorf("List of one that is not there: %q, %v", got, err)
	}
	if _, err := c.List(ctx, "a b\nquit"); err == nil {
		t.Error("List takes a name that is none")
	}
	if got, err := c.Nodes(ctx); err != nil || !slices.Equal(got, []string{"web1", "router.example"}) {
		t.Errorf("Nodes: %q, %v", got, err)
	}
	if got, err := c.Version(ctx); err != nil || got != "1.4.5" {
		t.Errorf("Version: %q, %v", got, err)
	}
	tests := []struct{ command, plugin, want, refused string }{
		{"config", "cpu", "service cpu\n  graph_title=CPU\n  idle: label=idle\n", ""},
		{"config", "empty", "", ""},
		{"config", "gone", "", "Unknown service"},
		{"config", "comment", "service comment\n  a: label=a\n", ""},
		{"config", "has-dash.", "service has_dash_\n  graph_title=x\n", ""},
		{"fetch", "cpu", "cpu.idle 0:5\n", ""},
		{"fetch", "slow", "", "Timed out"},
		{"fetch", "old", "", "timeout on plugin old"},
		{"fetch", "bad", "", "Bad exit"},
		{"fetch", "unknown", "", "Unknown command. Try cap"},
		{"fetch", "dots", "dots.a 0:1\ndots.b 0:2\n! line 2: neither a value nor a comment: \"..\"\n! line 3: neither a value nor a comment: \". \"\n", ""},
		{"fetch", "cpu\nquit", "", "no name of a plugin"},
		{"fetch", "", "", "no name of a plugin"},
	}
	for _, tt := range tests {
		ask := c.Config
		if tt.command == "fetch" {
			ask = c.Fetch
		}
		got, err := ask(ctx, tt.plugin)
		var no *ServiceError
		if tt.refused != "" && (!errors.As(err, &no) || no.Text != tt.refused) {
			t.Errorf("%s %q: %v, want %q", tt.command, tt.plugin, err, tt.refused)
		}
		if tt.refused == "" && err != nil || show(got) != tt.want {
			t.Errorf("%s %q: %v\n%swant\n%s", tt.command, tt.plugin, err, show(got), tt.want)
		}
	}

	var spooled strings.Builder
	spool := func(s Service, values []Value) error {
		label := ""
		if len(s.Fields) > 0 {
			label, _ = s.Fields[0].Get("label")
		}
		fmt.Fprintf(&spooled, "%s(%s)%v\n", s.Name, label, values)
		return nil
	}
	problems, err := c.SpoolFetch(ctx, 5, spool)
	want := "a(x)[{a x 10 1} {a x 11 2}]\nb(y)[]\na(x)[{a x 12 3}]\na(new)[{a x 13 NaN}]\n"
	if err != nil || spooled.String() != want || len(problems) != 1 {
		t.Errorf("SpoolFetch: %v, %v\n%swant\n%s", err, problems, spooled.String(), want)
	}
	if _, err := c.SpoolFetch(ctx, 7, spool); err != nil {
		t.Errorf("SpoolFetch of nothing: %v", err)
	}
	if _, err := c.SpoolFetch(ctx, 6, spool); err == nil || !strings.Contains(err.Error(), "keeps nothing") {
		t.Errorf("SpoolFetch of a node that keeps nothing: %v", err)
	}
	if _, again := c.List(ctx, ""); again == nil {
		t.Error("after an error of the connection the client goes on")
	}
}

// A node with a capital in its name answers a bare "list" with nothing.
func TestClientCapitals(t *testing.T) {
	for _, name := range []string{"Web1.Example", "web1.example"} {
		conn := node(t, func(r *bufio.Reader, w io.Writer) {
			_, _ = fmt.Fprintf(w, "# munin node at %s\n", name)
			for {
				switch line, _ := r.ReadString('\n'); line {
				case "list\n":
					_, _ = io.WriteString(w, "\n")
				case "list Web1.Example\n":
					_, _ = io.WriteString(w, "cpu load\n")
				default:
					return
				}
			}
		})
		c, err := NewClient(t.Context(), conn, DialOptions{})
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.List(t.Context(), "")
		if want := map[string]int{"Web1.Example": 2, "web1.example": 0}[name]; err != nil || len(got) != want {
			t.Errorf("list of %s: %q, %v; want %d", name, got, err, want)
		}
	}
}

// What never ends is cut off, and after that the client is of no use.
func TestClientBounds(t *testing.T) {
	long := strings.Repeat("x", 1000)
	endless := func(line string) func(*bufio.Reader, io.Writer) {
		return func(r *bufio.Reader, w io.Writer) {
			_, _ = io.WriteString(w, "# munin node at web1\n")
			_, _ = r.ReadString('\n')
			for {
				if _, err := io.WriteString(w, line); err != nil {
					return
				}
			}
		}
	}
	config := func(c *Client) error { _, err := c.Config(t.Context(), "cpu"); return err }
	list := func(c *Client) error { _, err := c.List(t.Context(), ""); return err }
	tests := []struct {
		name, line string
		do         func(*Client) error
		want       string
	}{
		{"answer", long + "\n", config, "an answer of more than 4194304 bytes"},
		{"line of an answer", long, config, "a line of more than 4194304 bytes"},
		{"list", long, list, "a line of more than 1048576 bytes"},
		{"section of a spool", long + "\n", func(c *Client) error {
			_, err := c.SpoolFetch(t.Context(), 1, func(Service, []Value) error { return nil })
			return err
		}, "a section of more than 4194304 bytes"},
	}
	for _, tt := range tests {
		c, err := NewClient(t.Context(), node(t, endless(tt.line)), DialOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if err := tt.do(c); err == nil || err.Error() != tt.want {
			t.Errorf("endless %s: %v, want %q", tt.name, err, tt.want)
		}
		if err := tt.do(c); err == nil || err.Error() != tt.want {
			t.Errorf("after an endless %s: %v, want %q again", tt.name, err, tt.want)
		}
		_ = c.Close()
	}
}

// A node that has much to say about everything is cut off too.
func TestClientAllAnswers(t *testing.T) {
	text := strings.Repeat("a.info "+strings.Repeat("x", 1000)+"\n", 1000) + ".\n"
	c, err := NewClient(t.Context(), node(t, answers(map[string]string{"config": text})), DialOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var n int
	for n = 0; n < 40 && err == nil; n++ {
		_, err = c.Config(t.Context(), "a")
	}
	if want := maxAnswers/len(text) + 1; err == nil || !strings.Contains(err.Error(), "in one conversation") || n != want {
		t.Errorf("%v after %d answers, want it with number %d", err, n, want)
	}
}

func TestClientTime(t *testing.T) {
	// drip says a byte every minute.
	drip := func(r *bufio.Reader, w io.Writer) {
		_, _ = io.WriteString(w, "# munin node at web1\n")
		_, _ = r.ReadString('\n')
		for {
			time.Sleep(time.Minute)
			if _, err := io.WriteString(w, "x"); err != nil {
				return
			}
		}
	}
	silent := func(r *bufio.Reader, w io.Writer) {
		_, _ = io.WriteString(w, "# munin node at web1\n")
		_, _ = r.ReadString('\n')
		_, _ = r.ReadString('\n') // until we hang up
	}
	tests := []struct {
		name  string
		node  func(*bufio.Reader, io.Writer)
		o     DialOptions
		give  time.Duration // context
		want  string
		after time.Duration
	}{
		{"no answer", silent, DialOptions{}, time.Hour, "no answer for 2m0s", 2 * time.Minute},
		{"no answer, as set", silent, DialOptions{ReadTimeout: time.Second}, time.Hour, "no answer for 1s", time.Second},
		{"never done", drip, DialOptions{}, time.Hour, "not done after 3m0s", 3 * time.Minute},
		{"never done, as set", drip, DialOptions{Timeout: 90 * time.Second}, time.Hour, "not done after 1m30s", 90 * time.Second},
		{"the context ends", drip, DialOptions{}, 61 * time.Second, "context deadline exceeded", 61 * time.Second},
	}
	for _, tt := range tests {
		synctest.Test(t, func(t *testing.T) {
			c, err := NewClient(t.Context(), node(t, tt.node), tt.o)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), tt.give)
			defer cancel()
			start := time.Now()
			_, err = c.Config(ctx, "cpu")
			if took := time.Since(start); err == nil || err.Error() != tt.want || took != tt.after {
				t.Errorf("%s: %v after %v, want %q after %v", tt.name, err, took, tt.want, tt.after)
			}
			_ = c.Close()
		})
	}
}

// A program is spoken to on its pipes, and nothing of it is left when we are done.
func TestClientProgram(t *testing.T) {
	dial := func(text string, o DialOptions) (*Client, error) {
		a, err := ParseAddress(text)
		if err != nil {
			t.Fatal(err)
		}
		return Dial(t.Context(), a, o)
	}
	const talk = `echo "# munin node at $name"; while read command plugin; do case $command in fetch) echo "a.value 5"; echo .;; quit) exit;; esac; done`

	c, err := dial("cmd:///bin/sh -c 'name=here; "+talk+"'", DialOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.Fetch(t.Context(), "x"); err != nil || show(got) != "x.a 0:5\n" || c.Name() != "here" {
		t.Errorf("over cmd: %v, %s of %q", err, show(got), c.Name())
	}
	if err := c.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}

	// ssh -p 22 -l me -- web1 COMMAND: the words become those of the shell.
	c, err = dial("ssh://me@web1:22/usr/bin/node --all", DialOptions{SSH: []string{"/bin/sh", "-c", `name=$(echo "$*" | tr " " _); ` + talk, "ssh"}})
	if err != nil {
		t.Fatal(err)
	}
	if want := "-p_22_-l_me_--_web1_/usr/bin/node_--all"; c.Name() != want {
		t.Errorf("ssh is called with %q, want %q", c.Name(), want)
	}
	_ = c.Close()

	for _, tt := range []struct{ address, want string }{
		{"cmd:///nonexistent/program", "no such file"},
		{"cmd:///bin/sh -c 'echo first >&2; echo Permission denied >&2; exit 3'", `the program ended: exit status 3: it says "Permission denied"`},
		{"cmd:///bin/true", "the node hung up: EOF"},
	} {
		if _, err := dial(tt.address, DialOptions{}); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.address, err, tt.want)
		}
	}

	// One that does not go, with a child that does not either.
	c, err = dial(`cmd:///bin/sh -c 'trap "" TERM HUP PIPE; sleep 1000 & echo "# munin node at $!"; while :; do sleep 1000; done'`, DialOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	waitGone(t, c.Name())
}

// waitGone waits until no process of that number runs.
func waitGone(t *testing.T, pid string) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		stat, err := os.ReadFile("/proc/" + pid + "/stat")
		if err != nil || bytes.Contains(stat, []byte(") Z ")) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("process %s runs on: %s", pid, stat)
		}
	}
}

func TestDialRefused(t *testing.T) {
	a, err := ParseAddress("127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Dial(t.Context(), a, DialOptions{}); err == nil || !strings.HasPrefix(err.Error(), "connect to munin://127.0.0.1:") {
		t.Errorf("Dial where nobody listens: %v", err)
	}
	if _, err := Dial(t.Context(), a, DialOptions{TLS: TLS{Mode: "perhaps"}}); err == nil || !strings.Contains(err.Error(), `tls "perhaps" is none of`) {
		t.Errorf("Dial with a mode that is none: %v", err)
	}
}

// canned is a connection on which everything has been said already.
type canned struct {
	net.Conn
	r *bytes.Reader
}

func (c *canned) Read(p []byte) (int, error)       { return c.r.Read(p) }
func (c *canned) Write(p []byte) (int, error)      { return len(p), nil }
func (c *canned) Close() error                     { return nil }
func (c *canned) SetDeadline(time.Time) error      { return nil }
func (c *canned) SetReadDeadline(time.Time) error  { return nil }
func (c *canned) SetWriteDeadline(time.Time) error { return nil }
func (c *canned) RemoteAddr() net.Addr             { return programAddr{} }

func FuzzClient(f *testing.F) {
	f.Add([]byte("# munin node at web1\ncap multigraph dirtyconfig spool\ncpu load\nweb1\n.\nmunins node on web1 version: 2\ngraph_title a\nf.label b\n.\nf.value 1\n.\nmultigraph a\nb.value 1:2\n.\n"))
	f.Add([]byte("motd\r\n# lrrd client at X\r\n# Unknown command\n\n\ncpu\n.\n\n# Timed out\n.\n# Bad exit\n.\n.\n"))
	f.Add([]byte("# munin node at \xff\n\n# I require TLS. Closing.\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := NewClient(t.Context(), &canned{r: bytes.NewReader(data)}, DialOptions{})
		if err != nil {
			return
		}
		defer func() { _ = c.Close() }()
		ctx := t.Context()
		_, _ = c.Cap(ctx)
		names, _ := c.List(ctx, "")
		for _, name := range names {
			if !IsPluginName(name) {
				t.Fatalf("listed %q", name)
			}
		}
		_, _ = c.Nodes(ctx)
		_, _ = c.Version(ctx)
		_, _ = c.Config(ctx, "a")
		_, _ = c.Fetch(ctx, "a")
		_, _ = c.SpoolFetch(ctx, 1, func(s Service, values []Value) error {
			for _, v := range values {
				if v.Service != s.Name {
					t.Fatalf("value %+v in the section of %s", v, s.Name)
				}
			}
			return nil
		})
	})
}
