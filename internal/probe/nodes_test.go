package probe

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"tocsin/internal/munin"
)

// said is a munin-node of fixed answers by command; a missing one is an unknown service. It counts the commands.
type said struct {
	banner string
	mu     sync.Mutex
	answer map[string]string
	asked  map[string]int
	hangUp string                   // at this command
	spool  func(since int64) string // what it kept; nil: it keeps nothing
	also   string                   // what it can besides that
}

func (n *said) say(command, answer string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.answer[command] = answer
}

// count is how often each command came since the last count.
func (n *said) count() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []string
	for _, c := range slices.Sorted(maps.Keys(n.asked)) {
		if c != "cap multigraph dirtyconfig" && c != "quit" {
			out = append(out, fmt.Sprintf("%s x%d", c, n.asked[c]))
		}
	}
	n.asked = map[string]int{}
	return strings.Join(out, ", ")
}

func (n *said) serve(c net.Conn) {
	defer c.Close()
	if _, err := fmt.Fprintf(c, "# munin node at %s\n", n.banner); err != nil {
		return
	}
	r := bufio.NewScanner(c)
	for r.Scan() {
		command := strings.TrimSpace(r.Text())
		n.mu.Lock()
		if n.asked == nil {
			n.asked = map[string]int{}
		}
		n.asked[command]++
		text, ok := n.answer[command]
		hang := n.hangUp
		n.mu.Unlock()
		word, _, _ := strings.Cut(command, " ")
		switch {
		case command == "quit" || hang != "" && hang == command:
			return
		case word == "cap":
			text = "cap multigraph dirtyconfig\n"
			if n.spool != nil {
				text = "cap spool" + n.also + "\n"
			}
		case word == "spoolfetch" && n.spool != nil:
			var since int64
			_, _ = fmt.Sscanf(command, "spoolfetch %d", &since)
			text = n.spool(since) + ".\n"
		case !ok && (word == "config" || word == "fetch"):
			text = "# Unknown service\n.\n"
		case word == "list":
			text += "\n"
		default:
			text += ".\n"
		}
		if _, err := io.WriteString(c, text); err != nil {
			return
		}
	}
}

// dial connects to it without a network.
func (n *said) dial(ctx context.Context, _ munin.Address, o munin.DialOptions) (*munin.Client, error) {
	here, there := net.Pipe()
	go n.serve(there)
	return munin.NewClient(ctx, here, o)
}

// polled makes the poll of one node, whose clock is in the test's hand.
func polled(t *testing.T, n *said, node Node) (p *poll, pass func(time.Duration)) {
	t.Helper()
	now := 100 * time.Hour
	start := time.Unix(1_700_000_000, 0)
	h := &Host{Now: func() time.Time { return start.Add(now) }, Boot: func() time.Duration { return now }}
	nodes, err := NewNodes(NodesOptions{Host: h, Nodes: []Node{node}, Deliver: func([]Reading) {}, Dial: n.dial})
	if err != nil {
		t.Fatal(err)
	}
	return nodes.polls[0], func(d time.Duration) { now += d }
}

// toldBy writes readings as "node/service.field=value".
func toldBy(rs []Reading) string {
	var out []string
	for _, rd := range rs {
		for _, v := range rd.Values {
			out = append(out, fmt.Sprintf("%s/%s.%s=%v", nodeName(rd.Group, rd.Node), rd.Service.Name, v.Field, v.V))
		}
	}
	return strings.Join(out, " ")
}

func take(t *testing.T, p *poll) []Reading {
	t.Helper()
	rs, err := p.take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return rs
}

func TestPoll(t *testing.T) {
	n := &said{banner: "web1.example", answer: map[string]string{
		"list":          "load disk seldom dirty gone",
		"config load":   "graph_title Load\nload.label load\n",
		"fetch load":    "load.value 1.5\n",
		"config disk":   "multigraph disk\ngraph_title Disks\nvda.label vda\nmultigraph disk.vda\ngraph_title vda\nio.label io\nio.type DERIVE\n",
		"fetch disk":    "multigraph disk\nvda.value 7\nmultigraph disk.vda\nio.value 100\n",
		"config seldom": "graph_title Seldom\nupdate_rate 300\nx.label x\n",
		"fetch seldom":  "x.value 9\n",
		"config dirty":  "graph_title Dirty\ny.label y\ny.value 3\n",
	}}
	p, pass := polled(t, n, Node{Group: "Gandi", Name: "web1"})
	first := take(t, p)
	if got, want := toldBy(first), "Gandi;web1/load.load=1.5 Gandi;web1/disk.vda=7 Gandi;web1/disk.vda.io=100 Gandi;web1/seldom.x=9 Gandi;web1/dirty.y=3"; got != want {
		t.Errorf("the first poll told %q, want %q", got, want)
	}
	if got, want := n.count(), "config dirty x1, config disk x1, config gone x1, config load x1, config seldom x1, fetch disk x1, fetch load x1, fetch seldom x1, list x1"; got != want {
		t.Errorf("the first poll asked %q, want %q", got, want)
	}
	if s := p.said(); s.Banner != "web1.example" || s.Plugins != 5 || s.Troubles != 1 || !strings.Contains(s.Trouble["gone"], "Unknown service") {
		t.Errorf("said %+v, want the trouble with gone", s)
	}
	if rd := first[0]; rd.Since != 100*time.Hour || rd.At.IsZero() {
		t.Errorf("the reading is of %v, %v", rd.At, rd.Since)
	}

	pass(time.Minute)
	n.say("fetch load", "load.value 2\n")
	second := take(t, p)
	if got, want := toldBy(second), "Gandi;web1/load.load=2 Gandi;web1/disk.vda=7 Gandi;web1/disk.vda.io=100 Gandi;web1/dirty.y=3"; got != want {
		t.Errorf("the second poll told %q, want %q", got, want)
	}
	if got, want := n.count(), "config dirty x1, config gone x1, fetch disk x1, fetch load x1, list x1"; got != want {
		t.Errorf("the second poll asked %q, want %q: descriptions are kept, and what comes seldom is passed over", got, want)
	}
	if first[0].Service != second[0].Service {
		t.Error("a description that stayed the same is another one in memory")
	}

	pass(4 * time.Minute) // five since the first
	if got := toldBy(take(t, p)); !strings.Contains(got, "seldom.x=9") {
		t.Errorf("after five minutes %q, want what comes every five minutes again", got)
	}
	n.count()
	pass(2 * time.Hour)
	third := take(t, p)
	if got := n.count(); !strings.Contains(got, "config load x1") || !strings.Contains(got, "config disk x1") {
		t.Errorf("after two hours %q, want descriptions asked for again", got)
	}
	if first[0].Service != third[0].Service {
		t.Error("a description that was told again in the same words is another one in memory")
	}
}

func TestPollDescriptionThatDoesNotFit(t *testing.T) {
	n := &said{banner: "n", answer: map[string]string{"list": "a", "config a": "graph_title A\nx.label x\n", "fetch a": "x.value 1\n"}}
	p, pass := polled(t, n, Node{Name: "n"})
	take(t, p)
	n.say("fetch a", "x.value 2\nnew.value 5\n")
	n.say("config a", "graph_title A\nx.label x\nnew.label new\n")
	pass(misfitAge + time.Minute)
	if got, want := toldBy(take(t, p)), "n/a.x=2"; got != want {
		t.Errorf("told %q, want %q: what is not described does not count", got, want)
	}
	pass(time.Minute)
	if got, want := toldBy(take(t, p)), "n/a.x=2 n/a.new=5"; got != want {
		t.Errorf("told %q, want %q: the description was asked for again", got, want)
	}
	// One that never fits is not asked for its description all the time.
	n.say("fetch a", "x.value 2\nnever.value 5\n")
	n.count()
	for range 30 {
		pass(time.Minute)
		take(t, p)
	}
	if got, want := n.count(), "config a x2, fetch a x30, list x30"; got != want {
		t.Errorf("half an hour asked %q, want %q", got, want)
	}
}

func TestPollNames(t *testing.T) {
	answers := map[string]string{
		"list": "own", "list web1.example": "own", "list router": "snmp", "nodes": "web1.example\nrouter\n",
		"config own": "graph_title Own\nx.label x\n", "fetch own": "x.value 1\n",
		"config snmp": "host_name router\ngraph_title S\ny.label y\n", "fetch snmp": "y.value 2\n",
	}
	for _, tt := range []struct {
		node Node
		want string
	}{
		{Node{Name: "w"}, "w/own.x=1"},
		{Node{Name: "w", AskBanner: true}, "w/own.x=1"},
		{Node{Name: "r", Ask: "router"}, "r/snmp.y=2"},
		{Node{Group: "g", Name: "w", Virtual: true}, "g;w/own.x=1 g;router/snmp.y=2"},
	} {
		p, _ := polled(t, &said{banner: "web1.example", answer: answers}, tt.node)
		rs := take(t, p)
		if got := toldBy(rs); got != tt.want {
			t.Errorf("%+v told %q, want %q", tt.node, got, tt.want)
		}
		var samples []string
		r := NewRates(RatesOptions{Node: "here"})
		for i := range rs {
			for _, s := range r.Samples(nil, &rs[i]) {
				samples = append(samples, nodeName(s.Group, s.Node)+"/"+s.Service)
			}
		}
		for i, s := range samples {
			if !strings.HasPrefix(strings.Fields(tt.want)[i], s) {
				t.Errorf("%+v: a sample of %s, want one of %s", tt.node, s, tt.want)
			}
		}
	}
	p, _ := polled(t, &said{banner: "n", answer: map[string]string{"list other": ""}}, Node{Name: "n", Ask: "other"})
	if _, err := p.take(t.Context()); err == nil || !strings.Contains(err.Error(), "other") {
		t.Errorf("a name that the node does not serve: %v", err)
	}
}

func TestPollThatBreaksOff(t *testing.T) {
	n := &said{banner: "n", hangUp: "fetch b", answer: map[string]string{"list": "a b c", "config a": "graph_title A\nx.label x\n", "fetch a": "x.value 1\n", "config b": "graph_title B\nx.label x\n"}}
	p, _ := polled(t, n, Node{Name: "n"})
	rs, err := p.take(t.Context())
	if got := toldBy(rs); err == nil || got != "n/a.x=1" {
		t.Errorf("told %q, %v; want what came before the end", got, err)
	}
}

func TestUnknownSince(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &said{banner: "up", answer: map[string]string{"list": "a", "config a": "graph_title A\nx.label x\n", "fetch a": "x.value 1\n"}}
		start := time.Now()
		h := &Host{Now: time.Now, Boot: func() time.Duration { return time.Hour + time.Since(start) }}
		delivered := map[string]int{}
		tries := 0
		nodes, err := NewNodes(NodesOptions{
			Host: h, Deliver: func(rs []Reading) { delivered[rs[0].Node]++ },
			Nodes: []Node{{Name: "up", Address: munin.Address{Host: "up"}}, {Name: "down", Address: munin.Address{Host: "down"}}, {Name: "mute", Address: munin.Address{Host: "mute"}}},
			Dial: func(ctx context.Context, a munin.Address, o munin.DialOptions) (*munin.Client, error) {
				switch a.Host {
				case "down":
					tries++
					return nil, errors.New("connection refused")
				case "mute":
					<-ctx.Done()
					return nil, ctx.Err()
				}
				return n.dial(ctx, a, o)
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		nodes.Run(ctx)
		states := map[string]NodeState{}
		for _, s := range nodes.States() {
			states[s.Node] = s
		}
		if s := states["up"]; !s.On || delivered["up"] < 59 || s.Banner != "up" {
			t.Errorf("up is %+v with %d polls, want one a minute", s, delivered["up"])
		}
		if s := states["down"]; s.On || s.Why != "connection refused" || s.FailedAt.Sub(start) > soon || tries < 8 || tries > 12 {
			t.Errorf("down is %+v after %d tries, want unknown since the beginning, tried ever more seldom", s, tries)
		}
		if s := states["mute"]; s.On || s.Longest != nodeTime || s.Late == 0 {
			t.Errorf("mute is %+v, want given up after three minutes", s)
		}
	})
}

func TestNewNodesRefuses(t *testing.T) {
	h, deliver := &Host{}, func([]Reading) {}
	for _, nodes := range [][]Node{{{}}, {{Name: "a"}, {Name: "a"}}, {{Name: "a", Interval: -1}}, {{Name: "a", Interval: time.Millisecond}}, make([]Node, maxNodes+1)} {
		if _, err := NewNodes(NodesOptions{Host: h, Deliver: deliver, Nodes: nodes}); err == nil {
			t.Errorf("NewNodes took %d nodes that it must not", len(nodes))
		}
	}
	if _, err := NewNodes(NodesOptions{Host: h, Deliver: deliver, Nodes: []Node{{Name: "a"}, {Group: "g", Name: "a"}}}); err != nil {
		t.Errorf("the same name in two groups: %v", err)
	}
}

func TestNodesOf(t *testing.T) {
	conf := munin.ParseMasterConf("munin.conf", []byte(`timeout 20
tls enabled
local_address 192.0.2.7
ssh_options -o ConnectTimeout=5
[Gandi;web1.example]
  address 192.0.2.1
  use_node_name yes
[Gandi;router.example]
  address 192.0.2.1
  port 4950
[TTN;mail1.example]
  address munin://mail1.example:4951
  tls disabled
  use_default_node yes
  update_rate 10
[Sum;all]
  update no
[bad.example]
  address ssh://
`))
	nodes, problems := NodesOf(conf)
	var got []string
	for _, n := range nodes {
		got = append(got, fmt.Sprintf("%s %s ask=%q banner=%v %v tls=%s local=%v", nodeName(n.Group, n.Name), n.Address, n.Ask, n.AskBanner, n.Dial.ConnectTimeout, n.Dial.TLS.Mode, n.Dial.Local))
	}
	want := []string{
		`Gandi;web1.example munin://192.0.2.1:4949 ask="" banner=true 20s tls=enabled local=192.0.2.7`,
		`Gandi;router.example munin://192.0.2.1:4950 ask="router.example" banner=false 20s tls=enabled local=192.0.2.7`,
		`TTN;mail1.example munin://mail1.example:4951 ask="" banner=false 20s tls=disabled local=192.0.2.7`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("nodes\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if len(problems) != 1 || !strings.Contains(problems[0].String(), "munin.conf:") {
		t.Errorf("problems %v, want one with its line", problems)
	}
}

// BenchmarkFiftyNodes polls 50 nodes of 30 plugins over TCP, each of which takes 13 ms, as Munin's do. It counts the time of
// both sides together: the nodes here are cheap.
func BenchmarkFiftyNodes(b *testing.B) {
	const plugins, delay = 30, 13 * time.Millisecond
	var names []munin.Plugin
	for i := range plugins {
		names = append(names, munin.Plugin{Name: fmt.Sprint("plugin", i)})
	}
	service := func(name string) *munin.Service {
		return describe(name, "graph_title T\ngraph_category system\na.label a\nb.label b\nb.type DERIVE\nb.min 0\nc.label c")
	}
	node := &munin.Node{Name: "n", Version: "1", Plugins: func() []munin.Plugin { return names },
		Read: func(_ context.Context, plugin string) ([]*munin.Service, []munin.Value, error) {
			time.Sleep(delay)
			return []*munin.Service{service(plugin)}, []munin.Value{{Field: "a", V: 1}, {Field: "b", V: 2}, {Field: "c", V: 3}}, nil
		}}
	ctx, cancel := context.WithCancel(b.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	var nodes []Node
	for i := range 50 {
		s, err := munin.NewServer(node, munin.ServeOptions{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
		if err != nil {
			b.Fatal(err)
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		wg.Go(func() { _ = s.Serve(ctx, l) })
		port := l.Addr().(*net.TCPAddr).Port
		nodes = append(nodes, Node{Name: fmt.Sprint("node", i), Address: munin.Address{Scheme: "munin", Host: "127.0.0.1", Port: uint16(port)}})
	}
	n, err := NewNodes(NodesOptions{Host: NewHost(), Deliver: func([]Reading) {}, Nodes: nodes})
	if err != nil {
		b.Fatal(err)
	}
	round := func() (readings int) {
		var all sync.WaitGroup
		var mu sync.Mutex
		for _, p := range n.polls {
			all.Go(func() {
				rs, err := p.take(b.Context())
				if err != nil {
					b.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				readings += len(rs)
			})
		}
		all.Wait()
		return readings
	}
	begin := time.Now()
	if got := round(); got != 50*plugins {
		b.Fatalf("%d readings, want %d", got, 50*plugins)
	}
	b.ReportMetric(time.Since(begin).Seconds(), "s/first-poll")
	used := processTime(b)
	b.ReportAllocs()
	for b.Loop() {
		round()
	}
	b.ReportMetric((processTime(b)-used).Seconds()/float64(b.N), "cpu-s/poll")
}

func processTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
