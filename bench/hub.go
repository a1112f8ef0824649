package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"

	"tocsin"
	"tocsin/internal/remotewrite"
	"tocsin/internal/tsdb"
)

// hubStart is where the time of a store begins that has a time of its own.
var hubStart = time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)

// A hub of many servers.
const (
	hubServers = 1000
	hubSeries  = 200
	hubRound   = 10 * time.Second
	hubSenders = 8 // at a time
)

// hub measures a hub that 1,000 servers with 200 series each write to, one request each every ten seconds of their time, as fast
// as it takes them; then what is there and how long it takes to open after kill -9; and beside it what queries cost and how much
// the disk holds.
func hub(ctx context.Context, b *bench) error {
	dir := filepath.Join(b.dir, "hub")
	w, err := startWatching(ctx, b, dir)
	if err != nil {
		return err
	}
	defer func() { w.kill() }()
	write, err := w.token(ctx, "write")
	if err != nil {
		return err
	}
	read, err := w.token(ctx, "read")
	if err != nil {
		return err
	}
	// What is older than an hour is too late, so all of it must have come before.
	rounds := b.minutes * 6
	if rounds > 300 {
		return errors.New("at most 50 minutes: the hub takes samples that are an hour late")
	}
	begin := time.Now().Truncate(hubRound).Add(-time.Duration(rounds) * hubRound)
	servers := newServers(hubServers)
	start, before, own := time.Now(), must(cpuClock(w.pid())), cpuTime()
	if err := sendRounds(ctx, w, write, servers, begin, 0, rounds); err != nil {
		return err
	}
	cpu, data := must(cpuClock(w.pid()))-before, time.Duration(rounds)*hubRound
	fmt.Printf("%d series: %s of samples, %d in a second of it, taken in %s; CPU %.1f s (the senders' %.1f s): %.3f of a core\n", hubServers*hubSeries, data,
		hubServers*hubSeries/int(hubRound.Seconds()), time.Since(start).Round(time.Second), cpu.Seconds(), (cpuTime() - own).Seconds(), cpu.Seconds()/data.Seconds())
	fmt.Printf("resident %s; %s\n", w.resident(), load())

	// It is killed while it takes more.
	more, stop := context.WithCancel(ctx)
	sending := make(chan error, 1)
	go func() { sending <- sendRounds(more, w, write, servers, begin, rounds, rounds+60) }()
	time.Sleep(500 * time.Millisecond)
	w.kill()
	stop()
	<-sending // it failed, as it should
	if w, err = startWatching(ctx, b, dir); err != nil {
		return err
	}
	opening := must(cpuClock(w.pid()))
	end := begin.Add(time.Duration(rounds-1) * hubRound)
	there := 0
	for i := range hubServers {
		v, err := w.ask(ctx, read, fmt.Sprintf(`sum(count_over_time({node="s%04d",__name__=~"m[0-9]+"}[%ds]))`, i, rounds*int(hubRound.Seconds())), end)
		if err != nil {
			return err
		}
		for _, x := range v {
			there += int(x)
		}
	}
	fmt.Printf("after kill -9: open after %.1f s, %.1f s CPU; %d of %d acknowledged samples are there; resident %s; %s\n",
		w.opened.Seconds(), opening.Seconds(), there, rounds*hubServers*hubSeries, w.resident(), load())
	if there < rounds*hubServers*hubSeries {
		return errors.New("acknowledged samples are lost")
	}
	for range 3 {
		before, start := must(cpuClock(w.pid())), time.Now()
		v, err := w.ask(ctx, read, `{node=~"s00[0-4].",__name__=~"m[0-9]+"}`, end)
		if err != nil {
			return err
		}
		fmt.Printf("last values of 50 servers through HTTP, %d: %.1f ms, %.1f ms CPU\n", len(v), time.Since(start).Seconds()*1e3, (must(cpuClock(w.pid()))-before).Seconds()*1e3)
	}
	for _, what := range []string{"blocks", "year", "small"} {
		if err := hubProcess(ctx, filepath.Join(b.dir, what), what).Run(); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	return nil
}

// must is for what cannot fail while the process runs.
func must(d time.Duration, err error) time.Duration {
	if err != nil {
		panic(err)
	}
	return d
}

// sendRounds sends rounds [from, to), each whole before the next one.
func sendRounds(ctx context.Context, w *watching, token string, servers []*server, begin time.Time, from, to int) error {
	for round := from; round < to; round++ {
		at := begin.Add(time.Duration(round) * hubRound)
		next := make(chan *server)
		failed := make(chan error, hubSenders)
		var wg sync.WaitGroup
		for range hubSenders {
			wg.Go(func() {
				for s := range next {
					if err := w.send(ctx, token, s.scrape(round, at)); err != nil {
						select {
						case failed <- err:
						default:
						}
					}
				}
			})
		}
		for _, s := range servers {
			next <- s
		}
		close(next)
		wg.Wait()
		select {
		case err := <-failed:
			return err
		default:
		}
	}
	return nil
}

// send is one request of Prometheus's remote write.
func (w *watching) send(ctx context.Context, token string, series []remotewrite.Series) error {
	return remotewrite.NewClient("http://"+w.listen+"/api/v1/write", "bench", func() (string, error) { return token, nil }).Send(ctx, series)
}

// ask asks in PromQL about one moment, and gives the values.
func (w *watching) ask(ctx context.Context, token, expr string, at time.Time) (values []float64, err error) {
	q := url.Values{"query": {expr}, "time": {strconv.FormatInt(at.Unix(), 10)}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+w.listen+"/api/v1/query?"+q.Encode(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	r, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	var said struct {
		Error string
		Data  struct {
			Result []struct{ Value [2]any }
		}
	}
	if err := json.Unmarshal(text, &said); err != nil || said.Error != "" {
		return nil, fmt.Errorf("%s: %s: %.200s", expr, r.Status, text)
	}
	for _, s := range said.Data.Result {
		text, _ := s.Value[1].(string)
		v, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, err
		}
		values = append(values, v)
	}
	return values, nil
}

// Of a store that is filled until its blocks have been put together for the second time.
const (
	blockServers = 50
	blockRounds  = 4320 // twelve hours
)

// blocks says how much a sample takes on the disk when it lies in blocks, and how fast last values are found.
func blocks(ctx context.Context, dir string) error {
	now := hubStart
	d, err := tsdb.Open(ctx, tsdb.Options{Dir: dir, Now: func() time.Time { return now }, Every: -1})
	if err != nil {
		return err
	}
	defer d.Close()
	servers := newServers(blockServers)
	begin := cpuTime()
	for round := range blockRounds {
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
		if round%6 == 5 {
			if err := d.Maintain(ctx); err != nil {
				return err
			}
		}
	}
	cpu := cpuTime() - begin
	fmt.Printf("blocks: %d series for %s, %.1f s CPU with blocks and five minutes: %.3f of a core for 1,000 servers\n", blockServers*hubSeries, blockRounds*hubRound,
		cpu.Seconds(), cpu.Seconds()/(blockRounds*hubRound).Seconds()*hubServers/blockServers)
	fifty := labels.MustNewMatcher(labels.MatchRegexp, "node", "s00[0-4].")
	last, n, err := least(5, func() (int, error) {
		all, err := d.Last(ctx, fifty)
		return len(all), err
	})
	if err != nil {
		return err
	}
	query, n2, err := least(5, func() (int, error) {
		r, err := d.Query(ctx, `{node=~"s00[0-4].",__name__=~"m[0-9]+"}`, now)
		if err != nil {
			return 0, err
		}
		return len(r.Value.(promql.Vector)), nil
	})
	if err != nil {
		return err
	}
	fmt.Printf("last values of 50 servers: %d for a page in %.1f ms, %d through PromQL in %.1f ms\n", n, last.Seconds()*1e3, n2, query.Seconds()*1e3)
	return diskOf(dir, d.Stats())
}

// least is the shortest time of n tries, and how much was found.
func least(n int, f func() (int, error)) (shortest time.Duration, found int, err error) {
	for i := range n {
		begin := time.Now()
		if found, err = f(); err != nil {
			return 0, 0, err
		}
		if took := time.Since(begin); i == 0 || took < shortest {
			shortest = took
		}
	}
	return shortest, found, nil
}

// hubProcess runs a part of the measuring in a process of its own, for its memory.
func hubProcess(ctx context.Context, dir string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", append([]string{"-store", dir}, args...)...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd
}

// storePart is what the process of hubProcess does.
func storePart(ctx context.Context, dir string, args []string) error {
	switch args[0] {
	case "nodes":
		return cheapNodes(ctx, dir)
	case "poll":
		return pollAll(ctx, dir, args[1:])
	case "blocks":
		return blocks(ctx, dir)
	case "year":
		return year(ctx, dir)
	case "small":
		return small(ctx, dir)
	}
	return fmt.Errorf("no part %q", args[0])
}

// server sends what a server with many gauges and counters sends.
type server struct {
	series []remotewrite.Series
	random *rand.Rand
}

func newServers(n int) (all []*server) {
	for i := range n {
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
