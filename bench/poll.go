package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"tocsin"
	"tocsin/internal/munin"
	"tocsin/internal/probe"
	"tocsin/internal/tsdb"
)

// polledNodes is how many munin-nodes are polled.
const polledNodes = 50

// poll measures how fast munin-nodes are polled, by us and by Debian's munin-update: real ones, whose plugins take this machine's
// processors, and then as many that say what a real one said, and take as long for it without working.
func poll(ctx context.Context, b *bench) error {
	var real []*muninNode
	defer func() {
		for _, n := range real {
			n.stop()
		}
	}()
	for i := range polledNodes {
		n, err := startMuninNode(ctx, filepath.Join(b.dir, fmt.Sprint("node", i)), i+1)
		if errors.Is(err, exec.ErrNotFound) {
			fmt.Println("munin-node is not installed")
			return nil
		}
		if err != nil {
			return err
		}
		real = append(real, n)
	}
	heard, err := listen(ctx, real[0].address)
	if err != nil {
		return err
	}
	fmt.Printf("%d nodes with %d plugins each; one alone answers everything in %.2f s, line by line\n", len(real), len(heard.plugins), heard.took().Seconds())
	file := filepath.Join(b.dir, "heard")
	if err := heard.write(file); err != nil {
		return err
	}
	cheap := hubProcess(ctx, file, "nodes")
	if err := cheap.Start(); err != nil {
		return err
	}
	defer func() { _ = cheap.Process.Kill(); _ = cheap.Wait() }()
	var theirs []munin.Address
	for i := range polledNodes {
		theirs = append(theirs, cheapAddress(i))
	}
	if err := answers(ctx, theirs[polledNodes-1]); err != nil {
		return err
	}
	var ours []munin.Address
	for _, n := range real {
		ours = append(ours, n.address)
	}
	for _, kind := range []struct {
		name string
		at   []munin.Address
		real []*muninNode
	}{{"real", ours, real}, {"idle", theirs, nil}} {
		before := costOf(kind.real)
		fmt.Printf("%s nodes, %s\n", kind.name, load())
		cmd := hubProcess(ctx, filepath.Join(b.dir, "polled-"+kind.name), append([]string{"poll"}, texts(kind.at)...)...)
		if err := cmd.Run(); err != nil {
			return err
		}
		if kind.real != nil {
			time.Sleep(time.Second) // processes of connections are waited for a moment later
			fmt.Printf("  the nodes: %.1f s CPU for both\n", (costOf(kind.real) - before).Seconds())
		}
		if err := muninUpdate(ctx, b, kind.name, kind.at); err != nil {
			return err
		}
	}
	return nil
}

func texts(all []munin.Address) (s []string) {
	for _, a := range all {
		s = append(s, a.String())
	}
	return s
}

// costOf is the processor time of nodes and their plugins.
func costOf(all []*muninNode) (sum time.Duration) {
	for _, n := range all {
		used, _ := withChildren(n.cmd.Process.Pid) // it runs
		sum += used
	}
	return sum
}

// muninNode is Debian's munin-node with the plugins of this machine.
type muninNode struct {
	cmd     *exec.Cmd
	address munin.Address
}

// startMuninNode starts one at an address of its own, which loopback has many of.
func startMuninNode(ctx context.Context, dir string, number int) (*muninNode, error) {
	program, err := exec.LookPath("munin-node")
	if err != nil {
		return nil, exec.ErrNotFound
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	n := &muninNode{address: munin.Address{Scheme: "munin", Host: fmt.Sprintf("127.1.0.%d", number), Port: munin.Port}}
	config := filepath.Join(dir, "munin-node.conf")
	text := fmt.Sprintf("log_level 1\nlog_file %s/log\npid_file %s/pid\nbackground 0\nsetsid 0\nuser root\ngroup root\nhost %s\nport %d\nallow ^127\\.0\\.0\\.1$\nallow ^127\\.1\\.\nhost_name n%d.example\n",
		dir, dir, n.address.Host, n.address.Port, number)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		return nil, err
	}
	n.cmd = exec.CommandContext(ctx, program, "--config", config)
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := n.cmd.Start(); err != nil {
		return nil, err
	}
	if err := answers(ctx, n.address); err != nil {
		n.stop()
		return nil, err
	}
	return n, nil
}

func (n *muninNode) stop() {
	_ = syscall.Kill(-n.cmd.Process.Pid, syscall.SIGKILL)
	_ = n.cmd.Wait() // it was killed
}

// answers waits until somebody answers there.
func answers(ctx context.Context, a munin.Address) error {
	for begin := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		c, err := munin.Dial(ctx, a, munin.DialOptions{})
		if err == nil {
			return c.Close()
		}
		if time.Since(begin) > time.Minute {
			return err
		}
	}
}

// heard is what a node said, and how long it took for each answer.
type heard struct {
	banner  string
	plugins []string
	answers map[string]answer // by the command
}

type answer struct {
	text string
	took time.Duration
}

// listen asks a node for everything three times, and keeps what it said last and took least.
func listen(ctx context.Context, a munin.Address) (*heard, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", fmt.Sprintf("%s:%d", a.Host, a.Port))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	r := bufio.NewReader(conn)
	h := &heard{answers: map[string]answer{}}
	if h.banner, err = r.ReadString('\n'); err != nil {
		return nil, err
	}
	line := func(command string) (string, error) {
		if _, err := fmt.Fprintf(conn, "%s\n", command); err != nil {
			return "", err
		}
		return r.ReadString('\n')
	}
	for _, command := range []string{"cap multigraph dirtyconfig", "list"} {
		text, err := line(command)
		if err != nil {
			return nil, err
		}
		h.answers[strings.Fields(command)[0]] = answer{text: text}
	}
	h.plugins = strings.Fields(h.answers["list"].text)
	for range 3 {
		for _, p := range h.plugins {
			for _, what := range []string{"config", "fetch"} {
				begin := time.Now()
				one, err := line(what + " " + p)
				took := time.Since(begin) // until the first line: the others wait for our acknowledgements
				text := one
				for err == nil && one != ".\n" {
					one, err = r.ReadString('\n')
					text += one
				}
				if err != nil {
					return nil, err
				}
				if old, ok := h.answers[what+" "+p]; ok {
					took = min(took, old.took)
				}
				h.answers[what+" "+p] = answer{text, took}
			}
		}
	}
	return h, nil
}

func (h *heard) took() (sum time.Duration) {
	for _, a := range h.answers {
		sum += a.took
	}
	return sum
}

// write writes what was heard for the process that says it again: command, time and number of bytes in a line, then the text.
func (h *heard) write(file string) error {
	var b bytes.Buffer
	put := func(command string, a answer) { fmt.Fprintf(&b, "%q %d %d\n%s", command, a.took, len(a.text), a.text) }
	put("", answer{text: h.banner})
	for command, a := range h.answers {
		put(command, a)
	}
	return os.WriteFile(file, b.Bytes(), 0o644)
}

// cheapAddress is where the nodes listen that only say what was heard.
func cheapAddress(i int) munin.Address {
	return munin.Address{Scheme: "munin", Host: fmt.Sprintf("127.2.0.%d", i+1), Port: munin.Port}
}

// cheapNodes are nodes that say what was heard, as long after the question as then.
func cheapNodes(ctx context.Context, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	said := map[string]answer{}
	for r := bytes.NewReader(text); r.Len() > 0; {
		var command string
		var a answer
		var n int
		if _, err := fmt.Fscanf(r, "%q %d %d\n", &command, &a.took, &n); err != nil {
			return err
		}
		b := make([]byte, n)
		if _, err := r.Read(b); err != nil {
			return err
		}
		a.text = string(b)
		said[command] = a
	}
	var wg sync.WaitGroup
	for i := range polledNodes {
		a := cheapAddress(i)
		l, err := net.Listen("tcp", fmt.Sprintf("%s:%d", a.Host, a.Port))
		if err != nil {
			return err
		}
		stop := context.AfterFunc(ctx, func() { _ = l.Close() })
		defer stop()
		wg.Go(func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				wg.Go(func() { say(conn.(*net.TCPConn), said) })
			}
		})
	}
	wg.Wait()
	return nil
}

// say holds one conversation. Each line is written by itself, and waits for the acknowledgement of the one before, as munin-node's
// do.
func say(conn *net.TCPConn, said map[string]answer) {
	defer conn.Close()
	_ = conn.SetNoDelay(false)
	lines := func(text string) bool {
		for l := range strings.Lines(text) {
			if _, err := conn.Write([]byte(l)); err != nil {
				return false
			}
		}
		return true
	}
	if !lines(said[""].text) {
		return
	}
	for s := bufio.NewScanner(conn); s.Scan(); {
		command := s.Text()
		if first, _, _ := strings.Cut(command, " "); first == "cap" || first == "list" {
			command = first
		}
		if command == "quit" {
			return
		}
		a, ok := said[command]
		if !ok {
			a.text = "# Unknown service\n.\n"
		}
		time.Sleep(a.took)
		if !lines(a.text) {
			return
		}
	}
}

// pollAll polls nodes three times, all beginning at once, makes samples and keeps them, as the watch process does. The first time
// everything is asked for its description too, as munin-update does every time.
func pollAll(ctx context.Context, dir string, addresses []string) error {
	db, err := tsdb.Open(ctx, tsdb.Options{Dir: dir, Every: -1})
	if err != nil {
		return err
	}
	defer db.Close()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	g := &gate{nodes: len(addresses), open: make(chan struct{})}
	rates := probe.NewRates(probe.RatesOptions{})
	o := probe.NodesOptions{Host: probe.NewHost(), Dial: g.dial}
	var samples []tocsin.Sample
	answered, rounds := map[string]bool{}, 0
	o.Deliver = func(rs []probe.Reading) {
		samples = samples[:0]
		for i := range rs {
			answered[rs[i].Node] = true
			samples = rates.Samples(samples, &rs[i])
		}
		if _, err := db.Append(ctx, samples); err != nil {
			fmt.Fprintln(os.Stderr, "bench: keep samples:", err)
		}
		g.services, g.samples = g.services+len(rs), g.samples+len(samples)
		if len(answered) < len(addresses) {
			return
		}
		rounds++
		fmt.Printf("  tocsin, poll %d: %.2f s, %.2f s CPU; %d services, %d samples\n",
			rounds, time.Since(g.begin).Seconds(), (cpuTime() - g.cpu).Seconds(), g.services, g.samples)
		clear(answered)
		g.services, g.samples = 0, 0
		if rounds == 3 {
			cancel()
		}
	}
	for i, text := range addresses {
		a, err := munin.ParseAddress(text)
		if err != nil {
			return err
		}
		o.Nodes = append(o.Nodes, probe.Node{Group: "bench", Name: fmt.Sprint("n", i), Address: a, Interval: time.Second})
	}
	nodes, err := probe.NewNodes(o)
	if err != nil {
		return err
	}
	nodes.Run(ctx)
	fmt.Printf("  tocsin: resident %s\n", memory())
	if rounds < 3 {
		for _, s := range nodes.States() {
			if s.Why != "" {
				return fmt.Errorf("%s: %s", s.Name, s.Why)
			}
		}
		return errors.New("not all nodes answered")
	}
	return nil
}

// gate lets polls begin together, when all nodes are to be asked.
type gate struct {
	nodes int

	mu    sync.Mutex
	there int
	open  chan struct{}
	begin time.Time
	cpu   time.Duration

	services, samples int // of a round; only Deliver, which runs alone, touches them
}

func (g *gate) dial(ctx context.Context, a munin.Address, o munin.DialOptions) (*munin.Client, error) {
	g.mu.Lock()
	open := g.open
	if g.there++; g.there == g.nodes {
		g.there, g.open = 0, make(chan struct{})
		g.begin, g.cpu = time.Now(), cpuTime()
		close(open)
	}
	g.mu.Unlock()
	select {
	case <-open:
		return munin.Dial(ctx, a, o)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// muninUpdate measures Munin's own master on the same nodes, when it has made its files.
func muninUpdate(ctx context.Context, b *bench, name string, nodes []munin.Address) error {
	const program = "/usr/share/munin/munin-update"
	if _, err := os.Stat(program); err != nil {
		fmt.Println("  munin-update is not installed")
		return nil
	}
	dir := filepath.Join(b.dir, "master-"+name)
	var text strings.Builder
	for _, kind := range []string{"db", "log", "run", "html"} {
		fmt.Fprintf(&text, "%sdir %s/%s\n", kind, dir, kind)
		if err := os.MkdirAll(filepath.Join(dir, kind), 0o755); err != nil {
			return err
		}
	}
	for i, a := range nodes {
		fmt.Fprintf(&text, "[bench;n%d]\n  address %s\n  port %d\n  use_node_name yes\n", i, a.Host, a.Port)
	}
	config := filepath.Join(dir, "munin.conf")
	if err := os.WriteFile(config, []byte(text.String()), 0o644); err != nil {
		return err
	}
	if err := os.Chmod(b.dir, 0o755); err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, "chown", "-R", "munin:", dir).CombinedOutput(); err != nil {
		return fmt.Errorf("give %s to munin: %w\n%s", dir, err, out)
	}
	for i := range 2 {
		cmd := exec.CommandContext(ctx, "runuser", "-u", "munin", "--", program, "--config_file", config)
		begin := time.Now()
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("munin-update: %w\n%s", err, out)
		}
		wall := time.Since(begin)
		files, err := filepath.Glob(filepath.Join(dir, "db", "*", "*.rrd"))
		if err != nil {
			return err
		}
		fmt.Printf("  munin-update, %s time: %.1f s, %.2f s CPU; %d RRD files\n", []string{"first", "second"}[i],
			wall.Seconds(), (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds(), len(slices.Clip(files)))
	}
	return nil
}
