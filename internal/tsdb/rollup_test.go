package tsdb

import (
	"fmt"
	"log/slog"
	"math"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	promtsdb "github.com/prometheus/prometheus/tsdb"

	"tocsin"
)

// plain is Prometheus's own database with every sample, and its own engine with its own lookback.
type plain struct {
	db     *promtsdb.DB
	engine *promql.Engine
}

func newPlain(t *testing.T) *plain {
	t.Helper()
	o := promtsdb.DefaultOptions()
	o.OutOfOrderTimeWindow = window1h
	o.RetentionDuration = 1000 * window1h
	db, err := promtsdb.Open(t.TempDir(), slog.New(slog.DiscardHandler), nil, o, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return &plain{db, promql.NewEngine(promql.EngineOpts{MaxSamples: 50_000_000, Timeout: time.Minute})}
}

func (p *plain) append(t *testing.T, samples []tocsin.Sample) {
	t.Helper()
	app := p.db.Appender(t.Context())
	b := labels.NewScratchBuilder(5)
	for _, s := range samples {
		if _, err := app.Append(0, seriesLabels(&b, Metric, s.Series), s.T, s.Value); err != nil {
			t.Fatal(err)
		}
	}
	if err := app.Commit(); err != nil {
		t.Fatal(err)
	}
}

func (p *plain) rangeOf(t *testing.T, expr string, from, to time.Time, step time.Duration) promql.Matrix {
	t.Helper()
	q, err := p.engine.NewRangeQuery(t.Context(), p.db, nil, expr, from, to, step)
	if err != nil {
		t.Fatal(err)
	}
	r := q.Exec(t.Context())
	if r.Err != nil {
		t.Fatal(r.Err)
	}
	return r.Value.(promql.Matrix)
}

// gappy is a value at most times: each series pauses now and then, one of them ends and another begins late.
func gappy(i int, at time.Time) (float64, bool) {
	v, _ := noise(i, at)
	minute := int(at.Sub(t0).Minutes())
	switch {
	case i == 1 && minute > 30*60, i == 2 && minute < 20*60:
		return 0, false
	case i == 3 && minute%200 < 47:
		return 0, false
	case i == 4 && minute%1700 > 1500:
		return 0, false
	}
	return v, true
}

// both is a store and a plain database that got the same.
func both(t *testing.T, hours int) (*DB, *plain, *clock) {
	t.Helper()
	c := &clock{t0}
	d, p := store(t, c), newPlain(t)
	for c.t.Before(t0.Add(time.Duration(hours) * time.Hour)) {
		var samples []tocsin.Sample
		for range 30 {
			c.t = c.t.Add(10 * time.Second)
			for i := range 5 {
				if v, ok := gappy(i, c.t); ok {
					samples = append(samples, tocsin.Sample{Series: series(i), T: c.t.UnixMilli(), Value: v})
				}
			}
		}
		if taken, err := d.Append(t.Context(), samples); err != nil || taken.Stored != len(samples) {
			t.Fatal(taken, err)
		}
		p.append(t, samples)
	}
	return d, p, c
}

// What ours has at a step, plain has too if it is asked for it in its words. A value of ours may hold a little longer.
func compare(t *testing.T, d *DB, p *plain, ours, theirs string, from, to time.Time, step time.Duration) {
	t.Helper()
	got, want := values(rangeOf(t, d, ours, from, to, step)), values(p.rangeOf(t, theirs, from, to, step))
	matched := 0
	for key, w := range want {
		g, ok := got[key]
		if !ok {
			t.Errorf("%s every %s: nothing at %s, want %v", ours, step, key, w)
			return
		}
		if math.Abs(g-w) > 1e-9*math.Max(1, math.Abs(w)) {
			t.Errorf("%s every %s: %v at %s, %s says %v", ours, step, g, key, theirs, w)
			return
		}
		matched++
	}
	t.Logf("%s every %s: %d values equal to %s, %d held longer", ours, step, matched, theirs, len(got)-matched)
	if len(got)-matched > len(got)/20 {
		t.Errorf("%s every %s: %d values more than %s has", ours, step, len(got)-matched, theirs)
	}
}

func values(m promql.Matrix) map[string]float64 {
	all := map[string]float64{}
	for _, s := range m {
		for _, p := range s.Floats {
			all[fmt.Sprintf("%s %s", s.Metric.Get("field"), time.UnixMilli(p.T).UTC().Format("02 15:04:05"))] = p.F
		}
	}
	return all
}

func TestEqualToPrometheus(t *testing.T) {
	d, p, c := both(t, 54)
	check := func(when string) {
		t.Log(when)
		from, to := t0.Add(time.Hour), t0.Add(52*time.Hour)
		compare(t, d, p, `munin`, `avg_over_time(munin[5m])`, from, to, 5*time.Minute)
		compare(t, d, p, `munin:min`, `min_over_time(munin[5m])`, from, to, 5*time.Minute)
		compare(t, d, p, `munin:max`, `max_over_time(munin[5m])`, from, to, 5*time.Minute)
		compare(t, d, p, `munin`, `avg_over_time(avg_over_time(munin[5m])[1h:5m])`, from, to, time.Hour)
		compare(t, d, p, `munin:min`, `min_over_time(munin[1h])`, from, to, time.Hour)
		compare(t, d, p, `munin:max`, `max_over_time(munin[1h])`, from, to, time.Hour)
		compare(t, d, p, `avg_over_time(munin[30m])`, `avg_over_time(avg_over_time(munin[5m])[30m:5m])`, from, to, 5*time.Minute)
		compare(t, d, p, `max_over_time(munin:max[6h])`, `max_over_time(munin[6h])`, t0.Add(6*time.Hour), to, time.Hour)
		compare(t, d, p, `min_over_time(munin:min[1d])`, `min_over_time(munin[1d])`, t0.Add(24*time.Hour), to, time.Hour)
		compare(t, d, p, `sum(munin{field="f0"})`, `sum(avg_over_time(munin{field="f0"}[5m]))`, from, to, 5*time.Minute)
		// What is asked for finely is answered from the samples themselves.
		compare(t, d, p, `munin`, `munin`, from, c.t, 10*time.Second)
		compare(t, d, p, `rate(munin[5m])`, `rate(munin[5m])`, from, c.t, time.Minute)
		compare(t, d, p, `munin offset 3h`, `munin offset 3h`, t0.Add(5*time.Hour), c.t, time.Minute)
		compare(t, d, p, `munin:max`, `munin`, from, c.t, time.Minute)
	}
	expr, from, to := `munin:max`, t0, c.t
	before := values(rangeOf(t, d, expr, from, to, time.Hour))
	check("before anything was rolled up")
	if err := d.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(d.levels[hours].list()); n == 0 {
		t.Fatal("nothing was rolled up")
	}
	check("rolled up")
	after := values(rangeOf(t, d, expr, from, to, time.Hour))
	if fmt.Sprint(before) != fmt.Sprint(after) {
		t.Errorf("rolling up changed what a graph shows: %d points, then %d", len(before), len(after))
	}
}

// A series that ended is seen for five minutes, not for as long as coarser ones hold.
func TestSeriesEnds(t *testing.T) {
	c := &clock{t0}
	d := store(t, c)
	feed(t, d, c, t0.Add(time.Hour), 1, noise)
	for _, tt := range []struct {
		after time.Duration
		want  int
	}{{0, 1}, {4*time.Minute + 59*time.Second, 1}, {5 * time.Minute, 0}, {time.Hour, 0}} {
		r, err := d.Query(t.Context(), "munin", c.t.Add(tt.after))
		if err != nil {
			t.Fatal(err)
		}
		if n := len(r.Value.(promql.Vector)); n != tt.want {
			t.Errorf("%s after the last sample %d series are there, want %d", tt.after, n, tt.want)
		}
	}
}

func TestRetention(t *testing.T) {
	c := &clock{t0}
	d := store(t, c, func(o *Options) { o.Raw, o.FiveMinutes, o.Hours = 12*time.Hour, 72*time.Hour, 15*24*time.Hour })
	one := func() {
		c.t = c.t.Add(5 * time.Minute)
		if _, err := d.Append(t.Context(), []tocsin.Sample{{Series: series(0), T: c.t.UnixMilli(), Value: float64(c.t.Unix())}}); err != nil {
			t.Fatal(err)
		}
		if c.t.Minute() == 0 {
			if err := d.Maintain(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	// Three hours of each day.
	const days = 24
	for day := range days {
		c.t = t0.Add(time.Duration(day) * 24 * time.Hour)
		for range 36 {
			one()
		}
	}
	back := func(l level) (from time.Duration) {
		f := int64(math.MaxInt64)
		for _, b := range d.levels[l].list() {
			f = min(f, b.MinTime())
		}
		return c.t.Sub(time.UnixMilli(f))
	}
	if got := c.t.Sub(time.UnixMilli(d.raw.BlockMetas()[0].MinTime)); got > 40*time.Hour || got < 2*time.Hour+55*time.Minute {
		t.Errorf("raw reaches back for %s, want all of today and at most a block more", got)
	}
	if got := back(fiveMinutes); got > 15*24*time.Hour || got < 72*time.Hour {
		t.Errorf("five minutes reach back for %s, want 72h and at most a block more", got)
	}
	if got := back(hours); got < 15*24*time.Hour {
		t.Errorf("hours reach back for %s, want 15 days", got)
	}
	// Each day is told, whichever database still has it.
	told := func() {
		t.Helper()
		for day := days - 15; day < days; day++ {
			at := t0.Add(time.Duration(day)*24*time.Hour + 2*time.Hour)
			r, err := d.Query(t.Context(), "munin", at)
			if err != nil {
				t.Fatal(err)
			}
			v := r.Value.(promql.Vector)
			if len(v) != 1 {
				t.Errorf("nothing at %s", at)
			} else if off := float64(at.Unix()) - v[0].F; off < 0 || off > 3600 {
				t.Errorf("the value at %s is of %v s before", at, off)
			}
		}
	}
	told()

	// The clock leaps ahead by years, and nothing goes until it stays there for a day.
	oldest := func() [3]int64 {
		return [3]int64{d.raw.BlockMetas()[0].MinTime, d.levels[fiveMinutes].list()[0].MinTime(), d.levels[hours].list()[0].MinTime()}
	}
	was, right := oldest(), c.t
	c.t = c.t.Add(11 * 365 * 24 * time.Hour)
	if err := d.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := oldest(); got != was {
		t.Errorf("a leap of the clock cost what lay before %v, it was there from %v on", got, was)
	}
	c.t = right
	one()
	told()
}

// The clock was wrong by three hours and is set back: what comes then is taken and rolled up, and nothing is told twice.
func TestClockSetBack(t *testing.T) {
	c := &clock{t0}
	d := store(t, c)
	feed(t, d, c, t0.Add(10*time.Hour), 2, noise)
	c.t = c.t.Add(3 * time.Hour) // wrong from here on
	feed(t, d, c, c.t.Add(4*time.Hour), 2, noise)
	c.t = c.t.Add(-7*time.Hour + 5*time.Second) // put right: 10:00:05
	feed(t, d, c, c.t.Add(20*time.Hour), 2, noise)
	if s := d.Stats(); s.TooOld+s.TooNew+s.Double != 0 {
		t.Errorf("samples were dropped: %+v", s)
	}
	for _, step := range []time.Duration{5 * time.Minute, time.Hour} {
		m := rangeOf(t, d, `munin{field="f1"}`, t0.Add(step), t0.Add(29*time.Hour), step)
		if want := int(29 * time.Hour / step); len(m) != 1 || len(m[0].Floats) != want {
			t.Errorf("steps of %s: %d series with %d points, want %d", step, len(m), len(m[0].Floats), want)
		}
	}
	// 11:00 to 12:00 was rolled up empty while the clock was wrong.
	q, err := d.levels[fiveMinutes].Querier(t0.Add(11*time.Hour).UnixMilli()+1, t0.Add(12*time.Hour).UnixMilli())
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	set := q.Select(t.Context(), true, nil, labels.MustNewMatcher(labels.MatchEqual, model.MetricNameLabel, Metric))
	for set.Next() {
		n := 0
		for it := set.At().Iterator(nil); it.Next() != 0; {
			n++
		}
		if n != 12 {
			t.Errorf("%s has %d points of five minutes from 11 to 12, want 12", set.At().Labels(), n)
		}
	}
}

func TestRollTo(t *testing.T) {
	for _, tt := range []struct{ t, step, floor, ceil int64 }{
		{0, 10, 0, 0}, {1, 10, 0, 10}, {9, 10, 0, 10}, {10, 10, 10, 10}, {-1, 10, -10, 0}, {-10, 10, -10, -10}, {-11, 10, -20, -10},
	} {
		if f, c := floorTo(tt.t, tt.step), ceilTo(tt.t, tt.step); f != tt.floor || c != tt.ceil {
			t.Errorf("%d in steps of %d: between %d and %d, want %d and %d", tt.t, tt.step, f, c, tt.floor, tt.ceil)
		}
	}
}

func TestKindOf(t *testing.T) {
	for name, want := range map[string]kind{
		"munin": average, "munin:min": minimum, "munin:max": maximum, "http_requests_total": last, "x_count": last, "x_sum": last,
		"x_bucket": last, "total": average, "x_total:max": maximum,
	} {
		if got := kindOf(name); got != want {
			t.Errorf("%s is rolled up as %d, want %d", name, got, want)
		}
	}
}
