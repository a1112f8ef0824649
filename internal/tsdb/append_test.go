package tsdb

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	prom "github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"golang.org/x/sys/unix"

	"tocsin"
	"tocsin/internal/remotewrite"
)

func one(at time.Time, v float64) []tocsin.Sample {
	return []tocsin.Sample{{Series: series(0), T: at.UnixMilli(), Value: v}}
}

func TestAppend(t *testing.T) {
	now := t0.Add(24 * time.Hour)
	c := &clock{now}
	d := store(t, c)
	for _, tt := range []struct {
		name string
		at   time.Time
		v    float64
		want Taken
	}{
		{"the first", now, 1, Taken{Stored: 1}},
		{"the same again", now, 1, Taken{Double: 1}},
		{"another of that time", now, 2, Taken{Double: 1}},
		{"the next", now.Add(10 * time.Second), 3, Taken{Stored: 1}},
		{"late", now.Add(-59 * time.Minute), 4, Taken{Stored: 1, Late: 1}},
		{"an hour late", now.Add(-time.Hour), 4, Taken{Stored: 1, Late: 1}},
		{"too late", now.Add(-time.Hour - time.Millisecond), 5, Taken{TooOld: 1}},
		{"a little ahead", now.Add(10 * time.Minute), 6, Taken{Stored: 1}},
		{"far ahead", now.Add(10*time.Minute + time.Millisecond), 7, Taken{TooNew: 1}},
		{"unknown", now.Add(time.Minute), math.NaN(), Taken{}},
		{"infinite", now.Add(time.Minute), math.Inf(1), Taken{Stored: 1, Late: 1}},
	} {
		got, err := d.Append(t.Context(), one(tt.at, tt.v))
		if err != nil {
			t.Fatal(err)
		}
		if got.Dropped() > 0 != (got.First != "") && tt.want.Double == 0 {
			t.Errorf("%s: dropped %d, and says %q", tt.name, got.Dropped(), got.First)
		}
		got.First = ""
		if got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
	r, err := d.Query(t.Context(), "count_over_time(munin[2h])", now.Add(10*time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	if v := r.Value.(promql.Vector); len(v) != 1 || v[0].F != 6 {
		t.Errorf("%v, want 6 samples", v)
	}
	s := d.Stats()
	if s.Appended != 6 || s.Late != 3 || s.Double != 2 || s.TooOld != 1 || s.TooNew != 1 {
		t.Errorf("%+v", s)
	}
}

func TestAppendLabels(t *testing.T) {
	c := &clock{t0}
	d := store(t, c, func(o *Options) { o.MaxSeries = 4 })
	ms := t0.UnixMilli()
	many := func(n int) (ls []remotewrite.Label) {
		ls = append(ls, remotewrite.Label{Name: "__name__", Value: "many"})
		for i := range n - 1 {
			ls = append(ls, remotewrite.Label{Name: fmt.Sprintf("l%03d", i), Value: "v"})
		}
		return ls
	}
	l := func(pairs ...string) (ls []remotewrite.Label) {
		for i := 0; i < len(pairs); i += 2 {
			ls = append(ls, remotewrite.Label{Name: pairs[i], Value: pairs[i+1]})
		}
		return ls
	}
	for _, tt := range []struct {
		name   string
		labels []remotewrite.Label
		want   Taken
	}{
		{"out of order", l("z", "1", "__name__", "up", "a", "2"), Taken{Stored: 1}},
		{"UTF-8 in name and value", l("__name__", "température", "straße", "ü"), Taken{Stored: 1}},
		{"as many labels as may be", many(maxLabels), Taken{Stored: 1}},
		{"one more", many(maxLabels + 1), Taken{Bad: 1}},
		{"no labels", nil, Taken{Bad: 1}},
		{"no name", l("a", "b"), Taken{Bad: 1}},
		{"twice", l("__name__", "up", "a", "1", "a", "2"), Taken{Bad: 1}},
		{"no label name", l("__name__", "up", "", "2"), Taken{Bad: 1}},
		{"not UTF-8", l("__name__", "up", "a", "\xff"), Taken{Bad: 1}},
		{"a long value", l("__name__", "up", "a", strings.Repeat("x", maxLabelValue+1)), Taken{Bad: 1}},
		{"a long name", l("__name__", "up", strings.Repeat("x", maxLabelName+1), "a"), Taken{Bad: 1}},
		{"a fourth series", l("__name__", "up", "b", "1"), Taken{Stored: 1}},
		{"too many series", l("__name__", "up", "c", "1"), Taken{TooMany: 1}},
		{"one that is known", l("__name__", "up", "b", "1"), Taken{Double: 1}},
	} {
		got, err := d.AppendLabels(t.Context(), []remotewrite.Series{{Labels: tt.labels, Points: []remotewrite.Point{{T: ms, V: 1}}}})
		if err != nil {
			t.Fatal(err)
		}
		if got.First = ""; got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
	// A stale marker ends a series at once.
	stale := []remotewrite.Series{{Labels: l("__name__", "up", "b", "1"), Points: []remotewrite.Point{{T: ms + 1, V: math.Float64frombits(prom.StaleNaN)}}}}
	if got, err := d.AppendLabels(t.Context(), stale); err != nil || got.Stored != 1 {
		t.Fatal(got, err)
	}
	r, err := d.Query(t.Context(), `up`, t0.Add(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if v := r.Value.(promql.Vector); len(v) != 1 || v[0].Metric.Get("a") != "2" {
		t.Errorf("%v, want only the series that was not ended", v)
	}
	all, err := d.Last(t.Context())
	if err != nil || len(all) != 3 {
		t.Errorf("%d last values (%v), want 3", len(all), err)
	}
}

func TestLast(t *testing.T) {
	c := &clock{t0}
	dir := t.TempDir()
	d := store(t, c, func(o *Options) { o.Dir = dir })
	feed(t, d, c, t0.Add(time.Minute), 30, noise)
	check := func(d *DB) {
		t.Helper()
		got, err := d.Last(t.Context(), labels.MustNewMatcher(labels.MatchEqual, "node", "web1"))
		if err != nil || len(got) != 10 {
			t.Fatalf("%d values (%v), want 10", len(got), err)
		}
		for _, v := range got {
			var i int
			fmt.Sscanf(v.Labels.Get("field"), "f%d", &i)
			if want, _ := noise(10+i, c.t); v.V != want || v.T != c.t.UnixMilli() {
				t.Errorf("%s: %v at %d, want %v", v.Labels, v.V, v.T, want)
			}
		}
	}
	check(d)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	again := store(t, c, func(o *Options) { o.Dir = dir })
	check(again)
	c.t = c.t.Add(3 * time.Hour)
	if got, err := again.Last(t.Context()); err != nil || len(got) != 0 {
		t.Errorf("after three hours %d values are the last ones (%v), want none", len(got), err)
	}
}

// What is measured once an hour has a last value all the time, though memory forgets it between; also when it comes again.
func TestLastOfSeldomSeries(t *testing.T) {
	c := &clock{t0}
	d := store(t, c)
	seldom := func(value float64) {
		t.Helper()
		if _, err := d.Append(t.Context(), []tocsin.Sample{{Series: series(11), T: c.t.UnixMilli(), Value: value}}); err != nil {
			t.Fatal(err)
		}
	}
	forgotten := false
	feed(t, d, c, t0.Add(40*time.Minute), 2, noise)
	for hour := range 5 {
		seldom(float64(hour))
		if hour == 3 {
			seldom(3) // told twice: it stays one
		}
		for range 4 {
			feed(t, d, c, c.t.Add(15*time.Minute), 2, noise)
			if err := d.Maintain(t.Context()); err != nil {
				t.Fatal(err)
			}
			forgotten = forgotten || d.Stats().Series == 2
			for _, tt := range []struct {
				node string
				want int
			}{{"web1", 1}, {"web0", 2}, {"web.", 3}, {"web2", 0}} {
				got, err := d.Last(t.Context(), labels.MustNewMatcher(labels.MatchRegexp, "node", tt.node))
				if err != nil || len(got) != tt.want {
					t.Fatalf("%s after %s: %d values (%v), want %d", tt.node, c.t.Sub(t0), len(got), err, tt.want)
				}
				if tt.node == "web1" && got[0].V != float64(hour) {
					t.Errorf("after %s the value is %v, want %d", c.t.Sub(t0), got[0].V, hour)
				}
			}
		}
	}
	if !forgotten {
		t.Error("memory forgot nothing: this tests nothing")
	}
	feed(t, d, c, c.t.Add(2*time.Hour), 2, noise)
	if err := d.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := d.Last(t.Context()); err != nil || len(got) != 2 {
		t.Errorf("%d values (%v), want 2: one ended three hours ago", len(got), err)
	}
	if len(d.quiet) != 0 {
		t.Errorf("%d series are still noted", len(d.quiet))
	}
}

// A store whose journal takes long to read is there at once, says that it reads, and then has everything.
func TestPatience(t *testing.T) {
	c := &clock{t0}
	dir := t.TempDir()
	d := store(t, c, func(o *Options) { o.Dir = dir })
	feed(t, d, c, t0.Add(20*time.Minute), 300, noise)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	var log logged
	d = store(t, c, func(o *Options) { o.Dir, o.Patience = dir, time.Nanosecond }, log.option)
	busy := 0
	for end := time.Now().Add(time.Minute); ; {
		if time.Now().After(end) {
			t.Fatal("it is still opening")
		}
		_, err := d.Query(t.Context(), "1", c.t)
		if err == nil {
			break
		}
		if !errors.Is(err, ErrOpening) {
			t.Fatal(err)
		}
		if _, err := d.Append(t.Context(), one(c.t, 1)); err != nil && !errors.Is(err, ErrOpening) {
			t.Fatal(err)
		}
		d.Stats()
		busy++
		time.Sleep(time.Millisecond)
	}
	if busy == 0 {
		t.Error("it was open before anybody asked: this tests nothing")
	}
	r, err := d.Query(t.Context(), `sum(count_over_time(munin{field!="none"}[1h]))`, c.t)
	if err != nil {
		t.Fatal(err)
	}
	if n := int(r.Value.(promql.Vector)[0].F); n < 120*300 {
		t.Errorf("%d samples are there, want %d", n, 120*300)
	}
	if all, err := d.Last(t.Context()); err != nil || len(all) < 300 {
		t.Errorf("%d last values (%v), want 300", len(all), err)
	}
}

// Closed while it still reads its journal, a store waits and leaves nothing behind.
func TestCloseWhileOpening(t *testing.T) {
	c := &clock{t0}
	dir := t.TempDir()
	d := store(t, c, func(o *Options) { o.Dir = dir })
	feed(t, d, c, t0.Add(10*time.Minute), 100, noise)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		d := store(t, c, func(o *Options) { o.Dir, o.Patience = dir, time.Nanosecond })
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Query(t.Context(), "1", c.t); !errors.Is(err, errClosed) {
			t.Errorf("asked a closed store: %v", err)
		}
	}
}

// Many append, ask and tidy up at once.
func TestAtOnce(t *testing.T) {
	c := &clock{t0}
	d := store(t, c)
	feed(t, d, c, t0.Add(4*time.Hour), 5, noise)
	var wg sync.WaitGroup
	for k := range 4 {
		wg.Go(func() {
			for i := range 100 {
				s := []tocsin.Sample{{Series: series(100 + k), T: c.t.UnixMilli() + int64(i), Value: float64(i)}}
				if taken, err := d.Append(t.Context(), s); err != nil || taken.Stored != 1 {
					t.Error(taken, err)
				}
			}
		})
	}
	for range 2 {
		wg.Go(func() {
			for range 20 {
				if _, err := d.QueryRange(t.Context(), `sum by (node) (munin)`, t0, c.t, 5*time.Minute); err != nil {
					t.Error(err)
				}
				if _, err := d.Last(t.Context()); err != nil {
					t.Error(err)
				}
				d.Stats()
			}
		})
	}
	wg.Go(func() {
		for range 3 {
			if err := d.Maintain(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	r, err := d.Query(t.Context(), `sum(count_over_time(munin{node=~"web1."}[1m]))`, c.t.Add(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if v := r.Value.(promql.Vector); len(v) != 1 || v[0].F != 400 {
		t.Errorf("%v, want 400", v)
	}
}

func TestSecondProcess(t *testing.T) {
	c := &clock{t0}
	dir := t.TempDir()
	d := store(t, c, func(o *Options) { o.Dir = dir })
	if _, err := Open(t.Context(), Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "another process has it open") {
		t.Errorf("a second store in the same folder: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Append(t.Context(), one(t0, 1)); !errors.Is(err, errClosed) {
		t.Errorf("appended to a closed store: %v", err)
	}
	if _, err := d.Query(t.Context(), "1", t0); !errors.Is(err, errClosed) {
		t.Errorf("asked a closed store: %v", err)
	}
}

func TestOptions(t *testing.T) {
	for _, o := range []Options{{}, {Dir: "x", Raw: time.Hour}, {Dir: "x", FiveMinutes: time.Hour}, {Dir: "x", Lateness: 4 * time.Hour}} {
		o.Dir = strings.ReplaceAll(o.Dir, "x", t.TempDir())
		if d, err := Open(t.Context(), o); err == nil {
			d.Close()
			t.Errorf("%+v is accepted", o)
		}
	}
}

// logged collects what is logged.
type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logged) lines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Split(strings.TrimSpace(l.buf.String()), "\n")
}

func (l *logged) option(o *Options) { o.Log = slog.New(slog.NewTextHandler(l, nil)) }

func TestFull(t *testing.T) {
	c := &clock{t0}
	var log logged
	d := store(t, c, log.option)
	free := int64(1 << 30)
	d.free = func() (int64, int64, error) { return free, 100 << 30, nil }
	look := func() { d.mu.Lock(); d.space.looked = time.Time{}; d.mu.Unlock() }
	for i, tt := range []struct {
		free int64
		err  error
	}{{1 << 30, nil}, {256 << 20, nil}, {256<<20 - 1, ErrFull}, {0, ErrFull}, {257 << 20, ErrFull}, {280 << 20, nil}, {257 << 20, nil}} {
		free = tt.free
		look()
		if _, err := d.Append(t.Context(), one(t0.Add(time.Duration(i)*time.Second), 1)); !errors.Is(err, tt.err) {
			t.Errorf("%d bytes free: %v, want %v", tt.free, err, tt.err)
		}
	}
	if lines := log.lines(); len(lines) != 2 || !strings.Contains(lines[0], "nearly full") || !strings.Contains(lines[1], "room on the disk again") {
		t.Errorf("logged %q, want one warning and its end", lines)
	}
	if s := d.Stats(); s.Refused != 3 || s.Full {
		t.Errorf("%+v", s)
	}
}

// The disk is full in earnest: what was acknowledged stays, and when there is room it goes on.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=12m"); err != nil {
		t.Skip("no small file system can be mounted here: ", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	c := &clock{t0}
	var log logged
	o := func(o *Options) { o.Dir, o.MinFree = filepath.Join(dir, "samples"), 1 }
	d := store(t, c, o, log.option)
	acknowledged, failed := 0, 0
	round := func(d *DB) error {
		c.t = c.t.Add(10 * time.Second)
		d.mu.Lock()
		d.space.looked = time.Time{}
		d.mu.Unlock()
		var samples []tocsin.Sample
		for i := range 200 {
			v, _ := noise(i, c.t)
			samples = append(samples, tocsin.Sample{Series: series(i), T: c.t.UnixMilli(), Value: v})
		}
		taken, err := d.Append(t.Context(), samples)
		acknowledged += taken.Stored
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "ballast"), make([]byte, 11<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2000 {
		if err := round(d); err != nil {
			if failed++; failed > 20 {
				break
			}
		}
	}
	if failed == 0 {
		t.Fatal("the disk was never full")
	}
	if err := os.Remove(filepath.Join(dir, "ballast")); err != nil {
		t.Fatal(err)
	}
	for range 30 {
		if err := round(d); err != nil {
			t.Fatalf("there is room again: %v", err)
		}
	}
	count := func(d *DB) int {
		r, err := d.Query(t.Context(), `sum(count_over_time(munin[2d]))`, c.t)
		if err != nil {
			t.Fatal(err)
		}
		return int(r.Value.(promql.Vector)[0].F)
	}
	if n := count(d); n < acknowledged {
		t.Errorf("%d samples, %d were acknowledged", n, acknowledged)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	again := store(t, c, o)
	if n := count(again); n < acknowledged {
		t.Errorf("after a restart %d samples, %d were acknowledged", n, acknowledged)
	}
	full := 0
	for _, l := range log.lines() {
		if strings.Contains(l, "nearly full") {
			full++
		}
	}
	if full == 0 || full > 3 {
		t.Errorf("told %d times that the disk is full:\n%s", full, strings.Join(log.lines(), "\n"))
	}
}
