package tsdb

import (
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql"

	"tocsin"
)

// t0 is a Monday, at midnight.
var t0 = time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)

// clock is a clock that tests set.
type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

// store opens a store whose time is c's.
func store(t testing.TB, c *clock, change ...func(*Options)) *DB {
	t.Helper()
	o := Options{Dir: t.TempDir(), Now: c.now, Every: -1}
	for _, f := range change {
		f(&o)
	}
	d, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func series(i int) tocsin.Series {
	return tocsin.Series{Group: "TTN", Node: fmt.Sprintf("web%d", i/10), Service: "load", Field: fmt.Sprintf("f%d", i%10)}
}

// feed lets time pass: n series every 10 s until the clock shows to, with maintenance every 30 minutes.
func feed(t testing.TB, d *DB, c *clock, to time.Time, n int, value func(i int, at time.Time) (float64, bool)) {
	t.Helper()
	for next := c.t.Add(30 * time.Minute); c.t.Before(to); {
		c.t = c.t.Add(10 * time.Second)
		var samples []tocsin.Sample
		for i := range n {
			if v, ok := value(i, c.t); ok {
				samples = append(samples, tocsin.Sample{Series: series(i), T: c.t.UnixMilli(), Value: v})
			}
		}
		if _, err := d.Append(t.Context(), samples); err != nil {
			t.Fatal(err)
		}
		if !c.t.Before(next) {
			next = c.t.Add(30 * time.Minute)
			if err := d.Maintain(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// noise is a value that depends on series and time alone.
func noise(i int, at time.Time) (float64, bool) {
	r := rand.New(rand.NewPCG(uint64(i), uint64(at.Unix())))
	return math.Round(1000*r.Float64()) / 8, true
}

func rangeOf(t testing.TB, d *DB, expr string, from, to time.Time, step time.Duration) promql.Matrix {
	t.Helper()
	r, err := d.QueryRange(t.Context(), expr, from, to, step)
	if err != nil {
		t.Fatal(err)
	}
	return r.Value.(promql.Matrix)
}

func TestADayOfSamples(t *testing.T) {
	c := &clock{t0}
	d := store(t, c, func(o *Options) { o.Log = slog.New(slog.NewTextHandler(t.Output(), nil)) })
	feed(t, d, c, t0.Add(50*time.Hour), 3, noise)
	s := d.Stats()
	t.Logf("%+v", s)
	m := rangeOf(t, d, `munin{node="web0",field="f1"}`, t0, c.t, 5*time.Minute)
	if len(m) != 1 || len(m[0].Floats) != 600 {
		t.Errorf("steps of five minutes: %d series, %d points, want 600", len(m), len(m[0].Floats))
	}
	m = rangeOf(t, d, `munin:max{node="web0",field="f1"}`, t0.Add(time.Hour), c.t, time.Hour)
	for i, p := range m[0].Floats {
		end := t0.Add(time.Duration(i+1) * time.Hour)
		want := math.Inf(-1)
		if end.After(t0.Add(48 * time.Hour)) {
			break
		}
		for at := end.Add(-time.Hour + 10*time.Second); !at.After(end); at = at.Add(10 * time.Second) {
			v, _ := noise(1, at)
			want = max(want, v)
		}
		if p.T != end.UnixMilli() || p.F != want {
			t.Errorf("maximum of the hour to %s is %v at %s, want %v", end, p.F, time.UnixMilli(p.T).UTC(), want)
		}
	}
}
