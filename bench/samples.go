package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"iter"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"

	"tocsin"
	"tocsin/internal/remotewrite"
	"tocsin/internal/tsdb"
)

// A hub of many servers, as the store of samples sees it.
const (
	hubServers = 1000
	hubSeries  = 200
	hubRound   = 10 * time.Second
)

var hubStart = time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)

// samples measures the store of samples: a hub of 1,000 servers with 200 series each for minutes of its time, again after
// kill -9, then queries, an import and a store that has next to nothing to do.
func samples(ctx context.Context, b *bench) error {
	dir := filepath.Join(b.dir, "hub")
	rounds := b.minutes * 6
	acked, err := killedHub(ctx, dir, rounds)
	if err != nil {
		return err
	}
	fmt.Printf("killed with -9 after round %d was acknowledged\n", acked)
	for _, args := range [][]string{{"check", fmt.Sprint(acked)}, {"run", fmt.Sprint(acked + 6), fmt.Sprint(acked + rounds)}} {
		if err := hubProcess(ctx, dir, args...).Run(); err != nil {
			return fmt.Errorf("the hub after kill -9: %w", err)
		}
	}
	if err := hubProcess(ctx, dir, "check", fmt.Sprint(acked)).Run(); err != nil {
		return err
	}
	for _, what := range []string{"year", "import", "small"} {
		if err := hubProcess(ctx, filepath.Join(b.dir, what), what).Run(); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	return nil
}

// hubProcess runs a part of the measuring in a process of its own, for its memory.
func hubProcess(ctx context.Context, dir string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", append([]string{"-store", dir}, args...)...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd
}

// killedHub runs the hub and kills it when it acknowledged the last round.
func killedHub(ctx context.Context, dir string, rounds int) (acked int, err error) {
	cmd := hubProcess(ctx, dir, "run", "0", fmt.Sprint(rounds+1000))
	cmd.Stdout = nil
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	for s := bufio.NewScanner(out); s.Scan(); {
		if n, _ := fmt.Sscanf(s.Text(), "acknowledged %d", &acked); n == 1 && acked >= rounds {
			break
		}
	}
	err = cmd.Process.Kill()
	cmd.Wait()
	return acked, err
}

// storePart is what the process of hubProcess does.
func storePart(ctx context.Context, dir string, args []string) error {
	switch args[0] {
	case "run":
		var from, to int
		fmt.Sscan(strings.Join(args[1:], " "), &from, &to)
		return hub(ctx, dir, from, to)
	case "check":
		var rounds int
		fmt.Sscan(args[1], &rounds)
		return hubCheck(ctx, dir, rounds)
	case "year":
		return year(ctx, dir)
	case "import":
		return importTree(ctx, dir)
	case "small":
		return small(ctx, dir)
	}
	return fmt.Errorf("no part %q", args[0])
}

// hub appends rounds [from, to) as fast as it can and says what that cost.
func hub(ctx context.Context, dir string, from, to int) error {
	now := hubStart
	begin := time.Now()
	d, err := tsdb.Open(ctx, tsdb.Options{Dir: dir, Now: func() time.Time { return now }, Every: -1})
	if err != nil {
		return err
	}
	opened := time.Since(begin)
	servers := newServers()
	cpu := cpuTime()
	for round := from; round < to; round++ {
		now = hubStart.Add(time.Duration(round) * hubRound)
		for _, s := range servers {
			taken, err := d.AppendLabels(ctx, s.scrape(round, now))
			if err != nil {
				return err
			}
			if taken.Dropped() > 0 {
				return fmt.Errorf("dropped %d: %s", taken.Dropped(), taken.First)
			}
		}
		fmt.Println("acknowledged", round+1)
		if round%6 == 5 {
			if err := d.Maintain(ctx); err != nil {
				return err
			}
		}
	}
	cpu = cpuTime() - cpu
	data := time.Duration(to-from) * hubRound
	s := d.Stats()
	fmt.Printf("hub: %d series, opened in %.1f s; %s of samples cost %.1f s CPU (the sender's too): %.3f of a core at %d samples/s\n",
		s.Series, opened.Seconds(), data, cpu.Seconds(), cpu.Seconds()/data.Seconds(), hubServers*hubSeries/int(hubRound.Seconds()))
	fmt.Printf("hub: resident %s\n", memory())
	begin = time.Now()
	ms := []*labels.Matcher{labels.MustNewMatcher(labels.MatchRegexp, "node", "s00[0-4].")}
	last, err := d.Last(ctx, ms...)
	if err != nil {
		return err
	}
	fmt.Printf("hub: the last values of 50 servers, %d, in %.1f ms\n", len(last), time.Since(begin).Seconds()*1e3)
	if err := d.Close(); err != nil {
		return err
	}
	s = d.Stats()
	return diskOf(dir, s)
}

// hubCheck counts what is there of the first rounds.
func hubCheck(ctx context.Context, dir string, rounds int) error {
	end := hubStart.Add(time.Duration(rounds-1) * hubRound)
	begin, cpu := time.Now(), cpuTime()
	d, err := tsdb.Open(ctx, tsdb.Options{Dir: dir, Now: func() time.Time { return end }, Every: -1})
	if err != nil {
		return err
	}
	defer d.Close()
	opened, cpu := time.Since(begin), cpuTime()-cpu
	total := 0
	for i := range hubServers {
		expr := fmt.Sprintf(`sum(count_over_time({node="s%04d",__name__=~"m[0-9]+"}[%ds]))`, i, rounds*int(hubRound.Seconds()))
		r, err := d.Query(ctx, expr, end)
		if err != nil {
			return err
		}
		for _, v := range r.Value.(promql.Vector) {
			total += int(v.F)
		}
	}
	fmt.Printf("check: opened in %.1f s, %.1f s CPU; %d of %d acknowledged samples are there; resident %s\n",
		opened.Seconds(), cpu.Seconds(), total, rounds*hubServers*hubSeries, memory())
	if total < rounds*hubServers*hubSeries {
		return fmt.Errorf("acknowledged samples are lost")
	}
	return nil
}

// server sends what a server with many gauges and counters sends.
type server struct {
	series []remotewrite.Series
	random *rand.Rand
}

func newServers() (all []*server) {
	for i := range hubServers {
		s := &server{random: rand.New(rand.NewPCG(1, uint64(i)))}
		for k := range hubSeries {
			s.series = append(s.series, remotewrite.Series{
				Labels: []remotewrite.Label{
					{Name: "__name__", Value: fmt.Sprintf("m%d", k/10)}, {Name: "device", Value: fmt.Sprintf("d%d", k)}, {Name: "group", Value: fmt.Sprintf("hoster%d", i%7)},
					{Name: "job", Value: "node"}, {Name: "node", Value: fmt.Sprintf("s%04d", i)},
				},
				Points: make([]remotewrite.Point, 1),
			})
		}
		all = append(all, s)
	}
	return all
}

// scrape is one round: of ten series four stand still, three are counters that rise by whole numbers, two are gauges of whole
// numbers, and one is any number.
func (s *server) scrape(round int, at time.Time) []remotewrite.Series {
	for k := range s.series {
		p := &s.series[k].Points[0]
		p.T = at.UnixMilli()
		switch k % 10 {
		case 0, 1, 2, 3:
			p.V = float64(k)
		case 4, 5, 6:
			p.V = float64(round*50+k) + math.Floor(s.random.Float64()*20)
		case 7, 8:
			p.V = 1000 + math.Floor(s.random.NormFloat64()*8)
		case 9:
			p.V = s.random.Float64()
		}
	}
	return s.series
}

// year reads a year of one series in steps of five minutes.
func year(ctx context.Context, dir string) error {
	now := hubStart.Add(365 * 24 * time.Hour)
	d, err := tsdb.Open(ctx, tsdb.Options{Dir: dir, Now: func() time.Time { return now }, Every: -1})
	if err != nil {
		return err
	}
	defer d.Close()
	r := rand.New(rand.NewPCG(1, 2))
	all := func(yield func(tsdb.History, error) bool) {
		for i := range 20 {
			h := tsdb.History{Series: tocsin.Series{Node: "web", Service: "load", Field: fmt.Sprint("f", i)}}
			var rows []tsdb.Row
			for at := hubStart; at.Before(now); at = at.Add(5 * time.Minute) {
				rows = append(rows, tsdb.Row{T: at.UnixMilli(), V: r.Float64()})
			}
			h.Archives = []tsdb.Archive{{Step: 5 * time.Minute, Rows: rows}}
			if !yield(h, nil) {
				return
			}
		}
	}
	if _, err := d.Import(ctx, all); err != nil {
		return err
	}
	for _, expr := range []string{`munin{field="f7"}`, `munin:max{field="f7"}`, `avg_over_time(munin{field="f7"}[1h])`} {
		var least, cost time.Duration
		n := 0
		for i := range 5 {
			begin, cpu := time.Now(), cpuTime()
			res, err := d.QueryRange(ctx, expr, hubStart, now, 5*time.Minute)
			if err != nil {
				return err
			}
			took, cpu := time.Since(begin), cpuTime()-cpu
			if i == 0 {
				least, cost = took, cpu
			}
			least, cost = min(least, took), min(cost, cpu)
			n = res.Value.(promql.Matrix).TotalSamples()
		}
		fmt.Printf("year: %-40s %d points in %.1f ms, %.1f ms CPU\n", expr, n, least.Seconds()*1e3, cost.Seconds()*1e3)
	}
	return nil
}

// importTree imports as many files as a large Munin has, with the rows that Munin's files have.
func importTree(ctx context.Context, dir string) error {
	now := hubStart
	d, err := tsdb.Open(ctx, tsdb.Options{Dir: dir, Now: func() time.Time { return now }, Every: -1})
	if err != nil {
		return err
	}
	defer d.Close()
	for i := range 2 {
		begin, cpu := time.Now(), cpuTime()
		sum, err := d.Import(ctx, muninTree(now))
		if err != nil {
			return err
		}
		fmt.Printf("import %d: 1,590 files in %.1f s, %.1f s CPU: %+v; resident %s\n", i+1, time.Since(begin).Seconds(), (cpuTime() - cpu).Seconds(), sum, memory())
	}
	if err := d.Maintain(ctx); err != nil {
		return err
	}
	return diskOf(dir, d.Stats())
}

func muninTree(now time.Time) iter.Seq2[tsdb.History, error] {
	return func(yield func(tsdb.History, error) bool) {
		r := rand.New(rand.NewPCG(3, 4))
		for i := range 1590 {
			h := tsdb.History{Series: tocsin.Series{Group: "g", Node: fmt.Sprint("n", i/100), Service: fmt.Sprint("s", i/5%20), Field: fmt.Sprint("f", i%5)}}
			for _, t := range []struct {
				step time.Duration
				rows int
			}{{5 * time.Minute, 576}, {30 * time.Minute, 432}, {2 * time.Hour, 540}, {24 * time.Hour, 450}} {
				for of := tsdb.Average; of <= tsdb.Max; of++ {
					a := tsdb.Archive{Step: t.step, Of: of}
					for k := range t.rows {
						a.Rows = append(a.Rows, tsdb.Row{T: now.Truncate(t.step).Add(-time.Duration(k) * t.step).UnixMilli(), V: r.Float64() * 100})
					}
					h.Archives = append(h.Archives, a)
				}
			}
			if !yield(h, nil) {
				return
			}
		}
	}
}

// small is a server that watches itself: 300 series.
func small(ctx context.Context, dir string) error {
	before := memory()
	now := hubStart
	d, err := tsdb.Open(ctx, tsdb.Options{Dir: dir, Now: func() time.Time { return now }, Every: -1})
	if err != nil {
		return err
	}
	defer d.Close()
	opened := memory()
	cpu := cpuTime()
	for range 6 * 60 * 24 {
		now = now.Add(hubRound)
		var samples []tocsin.Sample
		for i := range 300 {
			v := float64(i)
			if i%2 == 0 {
				v = math.Round(rand.Float64() * 1000)
			}
			samples = append(samples, tocsin.Sample{Series: tocsin.Series{Node: "web1", Service: fmt.Sprint("s", i/10), Field: fmt.Sprint("f", i%10)}, T: now.UnixMilli(), Value: v})
		}
		if _, err := d.Append(ctx, samples); err != nil {
			return err
		}
		if now.Unix()%600 == 0 {
			if err := d.Maintain(ctx); err != nil {
				return err
			}
		}
	}
	fmt.Printf("small: 300 series for a day: resident before %s, opened %s, at the end %s; %.1f s CPU for the day\n", before, opened, memory(), (cpuTime() - cpu).Seconds())
	return diskOf(dir, d.Stats())
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// memory is what the process has resident: now, of that its own, and at most.
func memory() string {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return "unknown"
	}
	kb := map[string]int{}
	for line := range strings.Lines(string(text)) {
		name, rest, _ := strings.Cut(line, ":")
		var n int
		if _, err := fmt.Sscan(rest, &n); err == nil {
			kb[name] = n
		}
	}
	return fmt.Sprintf("%.0f MB (own %.0f, peak %.0f)", float64(kb["VmRSS"])/1e3, float64(kb["RssAnon"])/1e3, float64(kb["VmHWM"])/1e3)
}

// diskOf says what the blocks of raw take a sample, and what everything takes.
func diskOf(dir string, s tsdb.Stats) error {
	sizes := map[string]int64{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		parts := strings.Split(rel, "/")
		what := parts[0]
		if what == "raw" && len(parts) > 1 {
			what += "/" + map[bool]string{true: "blocks", false: parts[1]}[len(parts[1]) == 26]
		}
		sizes[what] += info.Size()
		return nil
	})
	if err != nil {
		return err
	}
	fmt.Printf("disk: %v bytes; appended %d, imported %d\n", sizes, s.Appended, s.Imported)
	metas, err := filepath.Glob(filepath.Join(dir, "raw", "*", "meta.json"))
	if err != nil {
		return err
	}
	var inBlocks int64
	for _, path := range metas {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var meta struct{ Stats struct{ NumSamples int64 } }
		if err := json.Unmarshal(text, &meta); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		inBlocks += meta.Stats.NumSamples
	}
	if inBlocks > 0 {
		fmt.Printf("disk: %.2f bytes a sample in the blocks of raw, their index with it\n", float64(sizes["raw/blocks"])/float64(inBlocks))
	}
	return nil
}
