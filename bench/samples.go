package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"tocsin/internal/munin"
)

// Of a server that watches itself: when the start is over, and how long it is looked at.
const (
	watchSettles = 45 * time.Second
	watchSpan    = 2 * time.Minute
	scrapeEvery  = 10 * time.Second
)

// samples measures what a server costs that watches itself, every ten seconds, beside node_exporter asked as often and one poll of
// munin-node with the plugins that it has here. Munin's plugins are switched off on our side: the same is built in.
func samples(ctx context.Context, b *bench) error {
	g, err := startWith(ctx, b, guardedConfig+"[watch]\nmunin_plugins = \"\"\n")
	if err != nil {
		return err
	}
	defer g.close()
	exporter, err := startExporter(ctx)
	if err != nil {
		return err
	}
	defer exporter.stop()
	time.Sleep(watchSettles)
	ours := family(g.proc.Pid())
	before, err := readFamily(ours)
	if err != nil {
		return err
	}
	theirs, err := exporter.scrapes(ctx, watchSpan)
	if err != nil {
		return err
	}
	after, err := readFamily(family(g.proc.Pid()))
	if err != nil {
		return err
	}
	t := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "process\t% of a core\tRSS MB\tPSS MB\tchildren run\t")
	var cpu time.Duration
	var rss, pss int64
	for i, p := range after {
		if i >= len(before) || before[i].pid != p.pid {
			return errors.New("not the processes that ran at the beginning")
		}
		used := p.cpu - before[i].cpu
		cpu, rss, pss = cpu+used, rss+p.rss, pss+p.pss
		fmt.Fprintf(t, "%s\t%.3f\t%.1f\t%.1f\t%t\t\n", p.name, percent(used), mb(p.rss), mb(p.pss), p.children != before[i].children)
	}
	fmt.Fprintf(t, "tocsin, all\t%.3f\t%.1f\t%.1f\t\t\n", percent(cpu), mb(rss), mb(pss))
	fmt.Fprintf(t, "%s\t%.3f\t%.1f\t%.1f\t\t\n", exporter.name(), percent(theirs.cpu), mb(theirs.rss), mb(theirs.pss))
	if err := t.Flush(); err != nil {
		return err
	}
	if out, err := g.Victim.Run(ctx, guardedProgram, append(guardedFlags(), "--json", "probes")...); err == nil {
		fmt.Printf("%d probes are on, %s\n", strings.Count(out, `"on":true`), load())
	}
	return onePoll(ctx, b)
}

func percent(used time.Duration) float64 { return 100 * used.Seconds() / watchSpan.Seconds() }

func mb(kb int64) float64 { return float64(kb) / 1024 }

// member is one process of a family.
type member struct {
	pid      int
	name     string
	cpu      time.Duration
	rss, pss int64
	children int64 // page faults of children that were waited for: another number after one has run
}

func readFamily(pids []int) (all []member, err error) {
	for _, pid := range pids {
		m := member{pid: pid}
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil {
			return nil, err
		}
		for word := range strings.SplitSeq(string(text), "\x00") {
			switch word {
			case "run", "starter", "runner", "watch":
				m.name = word
			}
		}
		if m.cpu, err = cpuClock(pid); err != nil {
			return nil, err
		}
		if m.rss, err = rssOf(pid); err != nil {
			return nil, err
		}
		if m.pss, err = proportional(pid); err != nil {
			return nil, err
		}
		s, err := statOf(pid)
		if err != nil {
			return nil, err
		}
		m.children = s[11] + s[13]
		all = append(all, m)
	}
	return all, nil
}

// exporter is node_exporter, as Debian has it.
type exporter struct {
	cmd *exec.Cmd // nil: it is not installed
	url string
}

func startExporter(ctx context.Context) (*exporter, error) {
	const program = "prometheus-node-exporter"
	if _, err := exec.LookPath(program); err != nil {
		return &exporter{}, nil
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	at := fmt.Sprintf("127.0.0.1:%d", port)
	e := &exporter{cmd: exec.CommandContext(ctx, program, "--web.listen-address="+at), url: "http://" + at + "/metrics"}
	return e, e.cmd.Start()
}

func (e *exporter) name() string {
	if e.cmd == nil {
		return "node_exporter is not installed"
	}
	return "node_exporter"
}

func (e *exporter) stop() {
	if e.cmd != nil {
		_ = e.cmd.Process.Kill()
		_ = e.cmd.Wait()
	}
}

// scrapes asks every ten seconds for as long as span, and says what that cost the exporter.
func (e *exporter) scrapes(ctx context.Context, span time.Duration) (m member, err error) {
	if e.cmd == nil {
		time.Sleep(span)
		return m, nil
	}
	pid := e.cmd.Process.Pid
	before, err := cpuClock(pid)
	if err != nil {
		return m, err
	}
	for range span / scrapeEvery {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, e.url, nil)
		if err != nil {
			return m, err
		}
		r, err := http.DefaultClient.Do(req)
		if err != nil {
			return m, err
		}
		_, err = io.Copy(io.Discard, r.Body)
		r.Body.Close()
		if err != nil {
			return m, err
		}
		time.Sleep(scrapeEvery)
	}
	all, err := readFamily([]int{pid})
	if err != nil {
		return m, err
	}
	all[0].cpu -= before
	return all[0], nil
}

// onePoll measures what munin-node and its plugins cost for one poll, and what it would be every ten seconds.
func onePoll(ctx context.Context, b *bench) error {
	n, err := startMuninNode(ctx, filepath.Join(b.dir, "node"), 1)
	if errors.Is(err, exec.ErrNotFound) {
		fmt.Println("munin-node is not installed")
		return nil
	}
	if err != nil {
		return err
	}
	defer n.stop()
	before, err := withChildren(n.cmd.Process.Pid)
	if err != nil {
		return err
	}
	const polls = 3
	plugins := 0
	begin := time.Now()
	for range polls {
		c, err := munin.Dial(ctx, n.address, munin.DialOptions{})
		if err != nil {
			return err
		}
		if _, err := c.Cap(ctx); err != nil {
			return err
		}
		names, err := c.List(ctx, "")
		if err != nil {
			return err
		}
		plugins = len(names)
		for _, name := range names {
			for _, ask := range []func(context.Context, string) (munin.Answer, error){c.Config, c.Fetch} {
				if _, err := ask(ctx, name); err != nil {
					var bad *munin.ServiceError
					if !errors.As(err, &bad) {
						return err
					}
				}
			}
		}
		if err := c.Close(); err != nil {
			return err
		}
	}
	wall := time.Since(begin) / polls
	time.Sleep(time.Second) // the process of a connection is waited for a moment later
	after, err := withChildren(n.cmd.Process.Pid)
	if err != nil {
		return err
	}
	rss, err := rssOf(n.cmd.Process.Pid)
	if err != nil {
		return err
	}
	cpu := (after - before) / polls
	fmt.Printf("munin-node, one poll of %d plugins: %.2f s, %.2f s CPU; every 10 s that would be %.1f %% of a core; %.1f MB RSS idle, %s\n",
		plugins, wall.Seconds(), cpu.Seconds(), 100*cpu.Seconds()/scrapeEvery.Seconds(), mb(rss), load())
	return nil
}
