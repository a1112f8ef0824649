package tsdb

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
)

// What is answered from memory is what the samples say: a series may have ended, begun, or have stopped a moment ago.
func TestPresent(t *testing.T) {
	c := &clock{t0}
	d := store(t, c)
	end := t0.Add(4 * time.Hour)
	feed(t, d, c, end, 40, func(i int, at time.Time) (float64, bool) {
		v, ok := noise(i, at)
		return v, ok && at.Before(end.Add(-time.Duration(i)*20*time.Second)) // the last of each is earlier than that of the one before
	})
	if err := d.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	ms := []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "__name__", "munin")}
	used := 0
	for _, at := range []time.Time{end, end.Add(time.Second), end.Add(90 * time.Second), end.Add(4*time.Minute + 49*time.Second), end.Add(5 * time.Minute), end.Add(6 * time.Minute), end.Add(time.Hour), end.Add(-time.Minute)} {
		c.t = at
		fast, err := d.Query(t.Context(), "munin", at)
		if err != nil {
			t.Fatal(err)
		}
		// A name that is not written plainly makes it read the samples.
		slow, err := d.Query(t.Context(), `{__name__=~"munin"}`, at)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := told(fast), told(slow); !slices.Equal(got, want) {
			t.Errorf("%s after the end: %d values, want %d:\n%v\n%v", at.Sub(end), len(got), len(want), got, want)
		}
		if set, ok, err := d.present(t.Context(), at.UnixMilli(), ms); err != nil {
			t.Fatal(err)
		} else if ok && set.Next() {
			used++
		}
	}
	if used < 4 {
		t.Errorf("memory answered %d times: this tests little", used)
	}
	if sum, err := d.Query(t.Context(), "count(munin offset 1h)", end); err != nil || told(sum)[0] != "{} 40" {
		t.Errorf("an hour before: %v %v", told(sum), err)
	}
}

func told(r *Result) (all []string) {
	for _, s := range r.Value.(promql.Vector) {
		all = append(all, fmt.Sprintf("%s %v", s.Metric, s.F))
	}
	slices.Sort(all)
	return all
}

func BenchmarkPresent(b *testing.B) {
	c := &clock{t0}
	d := store(b, c)
	feed(b, d, c, t0.Add(10*time.Minute), 10_000, noise)
	for _, expr := range []string{"munin", `{__name__=~"munin"}`, "sum by (node) (munin)"} {
		b.Run(expr, func(b *testing.B) {
			for b.Loop() {
				if r, err := d.Query(b.Context(), expr, c.t); err != nil || len(r.Value.(promql.Vector)) == 0 {
					b.Fatal(err)
				}
			}
		})
	}
}
