package tsdb

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"

	"tocsin/internal/remotewrite"
)

func TestChoose(t *testing.T) {
	minute, hour := int64(60_000), int64(3_600_000)
	for _, tt := range []struct {
		step, window int64
		f            string
		want         level
	}{
		{0, 0, "", raw}, {5*minute - 1, 0, "", raw}, {5 * minute, 0, "", fiveMinutes}, {hour - 1, 0, "", fiveMinutes}, {hour, 0, "sum", hours},
		{hour, 5 * minute, "rate", raw}, {0, 20 * minute, "rate", fiveMinutes}, {0, 20*minute - 1, "rate", raw}, {10, 4 * hour, "avg_over_time", hours},
		{hour, 24 * hour, "count_over_time", raw},
	} {
		if got := choose(&storage.SelectHints{Step: tt.step, Range: tt.window, Func: tt.f}); got != tt.want {
			t.Errorf("step %d, range %d, %s: database %d, want %d", tt.step, tt.window, tt.f, got, tt.want)
		}
	}
}

// strangers are series of other names, some of which end like ours.
func strangers(t *testing.T, d *DB, at time.Time, v float64) {
	t.Helper()
	var all []remotewrite.Series
	for _, name := range []string{"munin", "node_load1", "http_requests_total", "job:latency:max", "a", "a!"} {
		all = append(all, remotewrite.Series{
			Labels: []remotewrite.Label{{Name: "__name__", Value: name}, {Name: "node", Value: "x"}},
			Points: []remotewrite.Point{{T: at.UnixMilli(), V: v}},
		})
	}
	if taken, err := d.AppendLabels(t.Context(), all); err != nil || taken.Dropped() > 0 {
		t.Fatal(taken, err)
	}
}

// Minimum and maximum are there under every kind of selector, before and after they were rolled up.
func TestNames(t *testing.T) {
	c := &clock{t0}
	d := store(t, c)
	for ; c.t.Before(t0.Add(30 * time.Hour)); c.t = c.t.Add(time.Minute) {
		strangers(t, d, c.t, float64(c.t.Unix()))
	}
	c.t = c.t.Add(-time.Minute)
	all := []string{"a", "a!", "a!:max", "a!:min", "a:max", "a:min", "http_requests_total", "job:latency:max",
		"munin", "munin:max", "munin:min", "node_load1", "node_load1:max", "node_load1:min"}
	check := func() {
		t.Helper()
		for _, tt := range []struct {
			selector string
			want     []string
		}{
			{`munin`, []string{"munin"}}, {`munin:max`, []string{"munin:max"}}, {`munin:max{node="y"}`, nil},
			{`http_requests_total:max`, nil}, {`job:latency:max`, []string{"job:latency:max"}}, {`job:latency:max:max`, nil},
			{`{node="x"}`, all}, {`{__name__=~".*:min"}`, []string{"a!:min", "a:min", "munin:min", "node_load1:min"}},
			{`{__name__=~"munin.*",__name__!="munin"}`, []string{"munin:max", "munin:min"}},
			{`{__name__="munin:max",__name__!~".*:max"}`, nil},
		} {
			ms, err := ParseSelector(tt.selector)
			if err != nil {
				t.Fatal(err)
			}
			found, complete, err := d.Series(t.Context(), [][]*labels.Matcher{ms}, t0, c.t, 0)
			if err != nil || !complete {
				t.Fatal(err)
			}
			var names []string
			for _, l := range found {
				names = append(names, l.Get("__name__"))
			}
			if !slices.Equal(names, tt.want) {
				t.Errorf("series %s: %q, want %q", tt.selector, names, tt.want)
			}
			for _, at := range []time.Time{c.t, t0.Add(3 * time.Hour)} {
				for _, step := range []time.Duration{time.Minute, 5 * time.Minute, time.Hour} {
					names = nil
					for _, s := range rangeOf(t, d, tt.selector, at, at.Add(time.Second), step) {
						names = append(names, s.Metric.Get("__name__"))
					}
					slices.Sort(names)
					if !slices.Equal(names, tt.want) {
						t.Errorf("query %s at %s every %s: %q, want %q", tt.selector, at, step, names, tt.want)
					}
				}
			}
			names, err = d.LabelValues(t.Context(), "__name__", [][]*labels.Matcher{ms}, t0, c.t)
			if err != nil || !slices.Equal(names, tt.want) {
				t.Errorf("names of %s: %q, %v, want %q", tt.selector, names, err, tt.want)
			}
			nodes, err := d.LabelValues(t.Context(), "node", [][]*labels.Matcher{ms}, t0, c.t)
			if err != nil || (len(nodes) == 1) != (len(tt.want) > 0) {
				t.Errorf("nodes of %s: %q, %v", tt.selector, nodes, err)
			}
			labelNames, err := d.LabelNames(t.Context(), [][]*labels.Matcher{ms}, t0, c.t)
			if err != nil || (len(labelNames) == 2) != (len(tt.want) > 0) {
				t.Errorf("labels of %s: %q, %v", tt.selector, labelNames, err)
			}
		}
		if names, err := d.LabelValues(t.Context(), "__name__", nil, t0, c.t); err != nil || !slices.Equal(names, all) {
			t.Errorf("all names: %q, %v", names, err)
		}
		if found, complete, err := d.Series(t.Context(), [][]*labels.Matcher{oneMatcher("node", "x")}, t0, c.t, 3); err != nil || complete || len(found) != 3 {
			t.Errorf("at most three series: %d, complete %v, %v", len(found), complete, err)
		}
	}
	check()
	if err := d.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	check()
	// A counter keeps its last value.
	m := rangeOf(t, d, `http_requests_total`, t0.Add(2*time.Hour), t0.Add(20*time.Hour), time.Hour)
	for _, p := range m[0].Floats {
		if p.F != float64(p.T)/1000 {
			t.Fatalf("the counter at %d is %v", p.T, p.F)
		}
	}
}

func oneMatcher(name, value string) []*labels.Matcher {
	return []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, name, value)}
}

func TestQueryErrors(t *testing.T) {
	c := &clock{t0}
	d := store(t, c, func(o *Options) { o.QuerySamples = 1000; o.Queries = 1 })
	feed(t, d, c, t0.Add(20*time.Minute), 20, noise)
	for _, tt := range []struct {
		expr string
		want error
	}{
		{`munin{`, ErrQuery}, {`sum(munin) by`, ErrQuery}, {`munin + on(node) munin`, ErrQuery}, {`1 +`, ErrQuery}, {``, ErrQuery},
		{strings.Repeat("(", 10_000), ErrQuery}, {strings.Repeat("-", maxExpr) + "1", ErrQuery}, {`sum(munin[5m])`, ErrQuery}, {`munin[19m]`, ErrTooMuch},
	} {
		_, err := d.Query(t.Context(), tt.expr, c.t)
		if !errors.Is(err, tt.want) {
			t.Errorf("%.40s: %v, want %v", tt.expr, err, tt.want)
		}
	}
	if _, err := d.QueryRange(t.Context(), "munin", c.t, c.t.Add(-1), time.Minute); !errors.Is(err, ErrQuery) {
		t.Errorf("an end before the start: %v", err)
	}
	if _, err := d.QueryRange(t.Context(), "munin", t0, c.t, 0); !errors.Is(err, ErrQuery) {
		t.Errorf("no step: %v", err)
	}
	if _, err := ParseSelector(`sum(munin)`); !errors.Is(err, ErrQuery) {
		t.Errorf("not a selector: %v", err)
	}
	// Others wait for their turn, as long as they like.
	turn := d.o.Queries
	tracker := make(turns, turn)
	if _, err := tracker.Insert(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := tracker.Insert(ctx, ""); !errors.Is(err, context.Canceled) {
		t.Errorf("a second query while one may run: %v", err)
	}
	tracker.Delete(0)
	if _, err := tracker.Insert(t.Context(), ""); err != nil {
		t.Error(err)
	}
}

// Any query in any place over a seam gives values that rise in time and never two at one.
func TestSeams(t *testing.T) {
	c := &clock{t0.Add(200 * 24 * time.Hour)}
	d := store(t, c)
	start := c.t
	if _, err := d.Import(t.Context(), from(muninFile(series(0), start), muninFile(series(1), start))); err != nil {
		t.Fatal(err)
	}
	feed(t, d, c, c.t.Add(29*time.Hour), 2, noise)
	r := rand.New(rand.NewPCG(1, 1))
	steps := []time.Duration{10 * time.Second, time.Minute, 5 * time.Minute, 17 * time.Minute, time.Hour, 6 * time.Hour}
	for i := range 60 {
		step := steps[r.IntN(len(steps))]
		to := c.t.Add(-time.Duration(r.Int64N(int64(60 * time.Hour))))
		from := to.Add(-step * time.Duration(1+r.IntN(500)))
		expr := []string{"munin", "munin:max", "avg_over_time(munin[1h])", "max_over_time(munin:max[6h])", "munin offset 1d"}[i%5]
		for _, s := range rangeOf(t, d, expr, from, to, step) {
			if n := int(to.Sub(from)/step) + 1; len(s.Floats) != n {
				t.Errorf("%s from %s to %s every %s: %d points, want %d", expr, from, to, step, len(s.Floats), n)
			}
			if !slices.IsSortedFunc(s.Floats, func(a, b promql.FPoint) int { return int(a.T - b.T) }) {
				t.Errorf("%s from %s to %s every %s is not in order", expr, from, to, step)
			}
		}
		// The points themselves, without PromQL's looking back.
		q := &querier{d: d, mint: from.UnixMilli(), maxt: to.UnixMilli()}
		hints := &storage.SelectHints{Start: q.mint, End: q.maxt, Step: step.Milliseconds(), Range: 1}
		hints.Range = 4 * step.Milliseconds()
		set := q.Select(t.Context(), true, hints, oneMatcher("__name__", Metric)...)
		n := 0
		for ; set.Next(); n++ {
			all := drain(set.At().(*stitched).points())
			for k := 1; k < len(all); k++ {
				if all[k].t-max(all[k].span, 1) < all[k-1].t {
					t.Fatalf("every %s: %v and then %v tell the same time", step, all[k-1], all[k])
				}
			}
		}
		if n != 2 {
			t.Errorf("%d series, want each of two once", n)
		}
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	}
}
