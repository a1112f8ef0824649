package munin

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// patience is for what a busy machine may delay; nothing waits that long where all is well.
const patience = time.Minute

// exchange is a command of a recorded dialogue and the lines that answered it.
type exchange struct {
	command string
	answer  []string
}

// dialogue is one connection as it was recorded: what the node said first, and the exchanges.
type dialogue struct {
	name     string
	greeting []string
	said     []exchange
}

// captures is the folder of the recorded dialogues.
func captures(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("TOCSIN_TESTDATA")
	if dir == "" {
		t.Skip("TOCSIN_TESTDATA is not set: no recorded dialogues of munin-node")
	}
	return filepath.Join(dir, "munin", "captures")
}

// readDialogues reads a file of lines "> what the master says" and "< what the node says". In tls.txt each connection
// begins with a line "## title".
func readDialogues(t testing.TB, path string) []dialogue {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var all []dialogue
	d := dialogue{name: filepath.Base(path)}
	end := func() {
		if len(d.said) > 0 {
			all = append(all, d)
		}
	}
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "## "):
			end()
			d = dialogue{name: d.name, greeting: nil}
		case strings.HasPrefix(line, "> "):
			d.said = append(d.said, exchange{command: line[2:]})
		case strings.HasPrefix(line, "< ") && len(d.said) == 0:
			d.greeting = append(d.greeting, line[2:])
		case strings.HasPrefix(line, "< "):
			last := &d.said[len(d.said)-1]
			last.answer = append(last.answer, line[2:])
		}
	}
	end()
	return all
}

// recordedDialogues are all that were recorded in plain text.
func recordedDialogues(t testing.TB) []dialogue {
	dir := captures(t)
	var all []dialogue
	for _, name := range []string{"default/_session.txt", "default-nocap/_session.txt", "full/_session.txt", "full-nocap/_session.txt", "full-multigraph-only/_session.txt", "master-dialogue.txt", "tls.txt"} {
		for _, d := range readDialogues(t, filepath.Join(dir, name)) {
			d.name = name
			all = append(all, d)
		}
	}
	return all
}

// answerTo is what was answered to a command, as text.
func (d *dialogue) answerTo(command string) (text string, ok bool) {
	for _, e := range d.said {
		if strings.TrimSpace(e.command) == command {
			return strings.TrimSuffix(strings.Join(e.answer, "\n")+"\n", ".\n"), true
		}
	}
	return "", false
}

// replay is a node that says what was recorded, each line in a write of its own as munin-node does, and expects the same
// commands in the same order.
func replay(t testing.TB, conn net.Conn, d dialogue) {
	defer func() { _ = conn.Close() }()
	r := bufio.NewReader(conn)
	for _, line := range d.greeting {
		fmt.Fprintf(conn, "%s\n", line)
	}
	for _, e := range d.said {
		got, err := r.ReadString('\n')
		if err != nil {
			t.Errorf("%s: the client said nothing, want %q: %v", d.name, e.command, err)
			return
		}
		if strings.TrimSpace(got) != strings.TrimSpace(e.command) {
			t.Errorf("%s: the client said %q, want %q", d.name, got, e.command)
			return
		}
		for _, line := range e.answer {
			fmt.Fprintf(conn, "%s\n", line)
		}
	}
}

// Every recorded dialogue, with us as the master: the same commands, and of the answers what is recorded.
func TestReplayAsClient(t *testing.T) {
	var commands, services, values, refused int
	for _, d := range recordedDialogues(t) {
		if slices.ContainsFunc(d.said, func(e exchange) bool { return strings.TrimSpace(e.command) == "STARTTLS" }) {
			d.said = d.said[1:] // what follows was encrypted; the encryption is tested for itself
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		ours, theirs := tcpPair(t)
		done := make(chan struct{})
		go func() { defer close(done); replay(t, theirs, d) }()
		c, err := NewClient(ctx, ours, DialOptions{})
		if err != nil {
			t.Fatalf("%s: %v", d.name, err)
		}
		if want := strings.Fields(d.greeting[0])[4]; c.Name() != want {
			t.Errorf("%s: the node is %q, want %q", d.name, c.Name(), want)
		}
		for _, e := range d.said {
			commands++
			word, rest, _ := strings.Cut(strings.TrimSpace(e.command), " ")
			switch word {
			case "cap":
				got, err := c.Cap(ctx, strings.Fields(rest)...)
				if want := strings.Fields(e.answer[0])[1:]; err != nil || !slices.Equal(got, want) {
					t.Errorf("%s: %s: %q, %v; want %q", d.name, e.command, got, err, want)
				}
			case "list":
				got, err := c.List(ctx, rest)
				if strings.HasPrefix(e.answer[0], "# I require TLS") {
					if !errors.Is(err, ErrWantsTLS) {
						t.Errorf("%s: %s: %v, want ErrWantsTLS", d.name, e.command, err)
					}
				} else if want := strings.Fields(e.answer[0]); err != nil || !slices.Equal(got, want) {
					t.Errorf("%s: %s: %q, %v; want %q", d.name, e.command, got, err, want)
				}
			case "nodes":
				got, err := c.Nodes(ctx)
				if want := e.answer[:len(e.answer)-1]; err != nil || !slices.Equal(got, want) {
					t.Errorf("%s: %s: %q, %v; want %q", d.name, e.command, got, err, want)
				}
			case "version":
				if got, err := c.Version(ctx); err != nil || got != "2.0.73" {
					t.Errorf("%s: %s: %q, %v", d.name, e.command, got, err)
				}
			case "config", "fetch":
				ask := c.Config
				if word == "fetch" {
					ask = c.Fetch
				}
				got, err := ask(ctx, rest)
				var no *ServiceError
				if len(e.answer) == 2 && slices.Contains([]string{"# Timed out", "# Bad exit", "# Unknown service"}, e.answer[0]) {
					if !errors.As(err, &no) || "# "+no.Text != e.answer[0] {
						t.Errorf("%s: %s: %v, want %q", d.name, e.command, err, e.answer[0])
					}
					refused++
				} else if err != nil {
					t.Fatalf("%s: %s: %v", d.name, e.command, err)
				} else if len(got.Problems) > 0 && !strings.Contains(rest, "postgres_connections_ALL") {
					t.Errorf("%s: %s: %v", d.name, e.command, got.Problems)
				}
				services += len(got.Services)
				values += len(got.Values)
				checkLines(t, d.name, e, got)
			case "quit":
				if err := c.Close(); err != nil {
					t.Errorf("%s: quit: %v", d.name, err)
				}
			default:
				t.Fatalf("%s: the test knows no %q", d.name, e.command)
			}
		}
		_ = c.Close()
		<-done
		cancel()
	}
	t.Logf("%d commands: %d services, %d values, %d refusals", commands, services, values, refused)
}

// checkLines counts what a plugin printed by the plainest of means, and compares.
func checkLines(t *testing.T, name string, e exchange, a Answer) {
	t.Helper()
	values, labels, titles := 0, map[string]bool{}, 0
	section := ""
	for _, line := range e.answer {
		word, rest, _ := strings.Cut(line, " ")
		switch {
		case strings.HasPrefix(line, "#"):
		case word == "multigraph":
			section = rest
		case word == "graph_title":
			titles++
		case strings.HasSuffix(word, ".value"):
			values++
		case strings.HasSuffix(word, ".label") && rest != "":
			labels[section+"/"+FieldName(strings.TrimSuffix(word, ".label"))] = true
		}
	}
	gotLabels, gotTitles := 0, 0
	for _, s := range a.Services {
		if _, ok := s.Get("graph_title"); ok {
			gotTitles++
		}
		for _, f := range s.Fields {
			if _, ok := f.Get("label"); ok {
				gotLabels++
			}
		}
	}
	if len(a.Values) != values || gotLabels != len(labels) || gotTitles != titles {
		t.Errorf("%s: %s: %d values, %d labels, %d titles; want %d, %d, %d", name, e.command, len(a.Values), gotLabels, gotTitles, values, len(labels), titles)
	}
}

// The odd ones, one by one.
func TestOddCaptures(t *testing.T) {
	dir := captures(t)
	get := func(plugin, command string) Answer {
		text := ""
		for _, d := range readDialogues(t, filepath.Join(dir, "full", plugin+".txt")) {
			if got, ok := d.answerTo(command + " " + plugin); ok {
				text = got
			}
		}
		if text == "" {
			t.Fatalf("%s is not recorded for %s", command, plugin)
		}
		if command == "config" {
			return ParseConfig(plugin, []byte(text))
		}
		return ParseFetch(plugin, []byte(text))
	}
	tests := []struct{ plugin, command, want string }{
		{"zz_latin1", "config", "service zz_latin1\n  graph_title=Café (latin-1) et cafÃ© (utf-8)\n  a: label=débit\n"},
		{"zz_crlf", "config", "service zz_crlf\n  graph_title=CRLF plugin\n  a: label=a\n"},
		{"zz_crlf", "fetch", "zz_crlf.a 0:5\n"},
		{"zz-name.with@odd:chars", "fetch", "zz_name_with_odd_chars.a 0:1\n"},
		{"zz_env", "fetch", "zz_env.a 0:1\n"},
	}
	for _, tt := range tests {
		if got := show(get(tt.plugin, tt.command)); got != tt.want {
			t.Errorf("%s %s:\n%swant\n%s", tt.command, tt.plugin, got, tt.want)
		}
	}

	dirty := get("zz_dirty", "config")
	if len(dirty.Values) != 2 || dirty.Values[0].V != 42.5 || len(dirty.Services[0].Fields) != 2 {
		t.Errorf("zz_dirty: %s", show(dirty))
	}
	multi := get("zz_multi", "config")
	var names []string
	for _, s := range multi.Services {
		names = append(names, s.Name)
	}
	if want := []string{"zz_containers", "zz_containers.web", "zz_containers.web.tcp"}; !slices.Equal(names, want) {
		t.Errorf("zz_multi: services %q, want %q", names, want)
	}
	super := get("zz_super", "fetch").Values
	if len(super) != 30 || super[0].At != 1795361490 || super[29].At-super[0].At != 290 {
		t.Errorf("zz_super: %v", super)
	}
	types := get("zz_types", "config").Services[0]
	if f := types.Field("_bad_name"); f == nil {
		t.Error("zz_types: no field _bad_name")
	}
	if f := types.Field("empty"); f != nil {
		t.Errorf("zz_types: the field empty has only an empty label, but is %v", f)
	}
	fetched := get("zz_types", "fetch")
	if want := []Extinfo{{"zz_types", "stamped", "from fetch"}}; !slices.Equal(fetched.Extinfo, want) || len(fetched.Problems) > 0 {
		t.Errorf("zz_types: %+v, %v; want %+v", fetched.Extinfo, fetched.Problems, want)
	}
}

// The stream of a spool, with us as the master.
func TestReplaySpool(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(captures(t), "async-spoolfetch-raw.txt"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(data), "\n")
	begin := slices.IndexFunc(lines, func(s string) bool { return strings.HasPrefix(s, "multigraph ") })
	var stream []string
	values := 0
	for _, line := range lines[begin:] {
		if line == ".\n" || line == "" {
			break
		}
		if strings.Contains(line, ".value ") {
			values++
		}
		stream = append(stream, strings.TrimSuffix(line, "\n"))
	}
	d := dialogue{name: "spool", greeting: []string{strings.TrimSuffix(lines[0], "\n")}, said: []exchange{
		{"cap multigraph dirtyconfig", []string{strings.TrimSuffix(lines[1], "\n")}},
		{"spoolfetch 1795360000", append(stream, ".")},
	}}
	ours, theirs := tcpPair(t)
	done := make(chan struct{})
	go func() { defer close(done); replay(t, theirs, d) }()
	c, err := NewClient(t.Context(), ours, DialOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if can, err := c.Cap(t.Context()); err != nil || !slices.Contains(can, "spool") {
		t.Errorf("cap: %q, %v", can, err)
	}
	got, sections := 0, 0
	last := map[string]int64{}
	problems, err := c.SpoolFetch(t.Context(), 1795360000, func(s Service, vs []Value) error {
		sections++
		for _, v := range vs {
			key := v.Service + "." + v.Field
			if v.Service != s.Name || s.Field(v.Field) == nil || v.At <= last[key] {
				t.Errorf("value %+v in the section of %s, after %d", v, s.Name, last[key])
			}
			last[key] = v.At
			got++
		}
		return nil
	})
	if err != nil || len(problems) > 0 || got != values || sections == 0 {
		t.Errorf("%d values in %d sections, %v, %v; want %d values", got, sections, problems, err, values)
	}
	<-done
	t.Logf("%d sections, %d values", sections, got)
}

// tcpPair is a connection and its other end, as Dial makes them.
func tcpPair(t testing.TB) (ours, theirs net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	theirs, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = conn.Close(), theirs.Close() })
	return acknowledgeAtOnce(conn.(*net.TCPConn)), theirs
}

// recordedNode is a node of our own with the plugins of a recorded dialogue.
func recordedNode(d *dialogue) *Node {
	var plugins []Plugin
	list, ok := d.answerTo("list")
	if !ok {
		list, _ = d.answerTo("list vm")
	}
	for _, name := range strings.Fields(list) {
		config, _ := d.answerTo("config " + name)
		plugins = append(plugins, Plugin{Name: name, Multigraph: strings.HasPrefix(config, "multigraph "), Dirty: strings.Contains(config, ".value ")})
	}
	if nodes, _ := d.answerTo("nodes"); strings.Contains(nodes, "router") {
		plugins = append(plugins, Plugin{Name: "zz_virtual", Host: "Router.asso.example"})
	}
	return &Node{
		Name: strings.Fields(d.greeting[0])[4], Version: "2.0.73",
		Plugins: func() []Plugin { return plugins },
		Read: func(_ context.Context, plugin string) ([]*Service, []Value, error) {
			config, described := d.answerTo("config " + plugin)
			fetched, wasFetched := d.answerTo("fetch " + plugin)
			var err error
			switch said := config + fetched; {
			case !described && !wasFetched, strings.HasPrefix(said, "# Unknown service"):
				return nil, nil, ErrUnknownService
			case strings.Contains(said, "# Timed out\n"):
				err = context.DeadlineExceeded
			case strings.Contains(said, "# Bad exit\n"):
				err = errors.New("exit status 1")
			}
			a := ParseConfig(plugin, []byte(config))
			values := a.Values
			if wasFetched {
				values = ParseFetch(plugin, []byte(fetched)).Values
			}
			var services []*Service
			for i := range a.Services {
				services = append(services, &a.Services[i])
			}
			// A service that is fetched and not described, as some plugins have.
			for _, v := range values {
				if !slices.ContainsFunc(services, func(s *Service) bool { return s.Name == v.Service }) {
					services = append(services, &Service{Name: v.Service})
				}
			}
			return services, values, err
		},
	}
}

// serve is a server of node on loopback, and how to reach it.
func serve(t testing.TB, node *Node, o ServeOptions) (*Server, Address) {
	t.Helper()
	if o.Allow == nil {
		o.Allow = loopback
	}
	s, err := NewServer(node, o)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	a, err := ParseAddress(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return s, a
}

// Every recorded dialogue, with us as the node: the same commands, and our answers mean the same. Lines that are not the
// text of a plugin are the same to the byte.
func TestReplayAsServer(t *testing.T) {
	var same, commands int
	for _, d := range recordedDialogues(t) {
		if d.name == "tls.txt" {
			continue
		}
		_, a := serve(t, recordedNode(&d), ServeOptions{})
		conn, err := net.Dial("tcp", net.JoinHostPort(a.Host, fmt.Sprint(a.Port)))
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(patience))
		r := bufio.NewReader(conn)
		readLine := func() string {
			line, err := r.ReadString('\n')
			if err != nil {
				t.Fatalf("%s: %v", d.name, err)
			}
			return strings.TrimSuffix(line, "\n")
		}
		if got := readLine(); got != d.greeting[0] {
			t.Errorf("%s: greeting %q, want %q", d.name, got, d.greeting[0])
		}
		for _, e := range d.said {
			if len(e.answer) == 0 {
				continue
			}
			commands++
			fmt.Fprintf(conn, "%s\n", e.command)
			answer := []string{readLine()}
			for e.answer[len(e.answer)-1] == "." && answer[len(answer)-1] != "." {
				answer = append(answer, readLine())
			}
			if sameMeaning(t, d.name, e, answer) {
				same++
			}
		}
		_ = conn.Close()
	}
	t.Logf("%d of %d answers mean the same", same, commands)
	if same != commands {
		t.Errorf("%d answers differ", commands-same)
	}
}

// sameMeaning compares our answer with the recorded one.
func sameMeaning(t *testing.T, name string, e exchange, got []string) bool {
	t.Helper()
	word, plugin, _ := strings.Cut(strings.TrimSpace(e.command), " ")
	text := func(lines []string) []byte { return []byte(strings.Join(lines, "\n") + "\n") }
	switch word {
	case "nodes":
		slices.Sort(got)
		want := slices.Sorted(slices.Values(e.answer))
		if !slices.Equal(got, want) {
			t.Errorf("%s: %s: %q, want %q", name, e.command, got, want)
			return false
		}
		return true
	case "config", "fetch":
		got, want := got[:len(got)-1], e.answer[:len(e.answer)-1]
		if len(want) == 1 && strings.HasPrefix(want[0], "# ") {
			if !slices.Equal(got, want) {
				t.Errorf("%s: %s: %q, want %q", name, e.command, got, want)
			}
			return slices.Equal(got, want)
		}
		if word == "config" {
			a, b := ParseConfig(plugin, text(got)), ParseConfig(plugin, text(want))
			if len(a.Services) != len(b.Services) || fmt.Sprint(a.Values) != fmt.Sprint(b.Values) {
				t.Errorf("%s: %s:\n%swant\n%s", name, e.command, show(a), show(b))
				return false
			}
			for i := range a.Services {
				if !sameService(a.Services[i], b.Services[i]) {
					t.Errorf("%s: %s:\n%swant\n%s", name, e.command, show(a), show(b))
					return false
				}
			}
			return true
		}
		a, b := ParseFetch(plugin, text(got)), ParseFetch(plugin, text(want))
		for _, of := range []Answer{a, b} { // we keep the order of the description
			slices.SortStableFunc(of.Values, func(x, y Value) int { return cmp.Or(cmp.Compare(x.Service, y.Service), cmp.Compare(x.Field, y.Field)) })
		}
		if fmt.Sprint(a.Values) != fmt.Sprint(b.Values) {
			t.Errorf("%s: %s:\n%swant\n%s", name, e.command, show(a), show(b))
			return false
		}
		return true
	}
	if !slices.Equal(got, e.answer) {
		t.Errorf("%s: %s: %q, want %q", name, e.command, got, e.answer)
		return false
	}
	return true
}
