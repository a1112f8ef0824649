package tsdb

import (
	"errors"
	"iter"
	"math"
	"testing"
	"time"

	"tocsin"
)

// from is a sequence of histories.
func from(all ...History) iter.Seq2[History, error] {
	return func(yield func(History, error) bool) {
		for _, h := range all {
			if !yield(h, nil) {
				return
			}
		}
	}
}

// rows are n rows of one step up to end; the newest is the last.
func rows(end time.Time, step time.Duration, n int, value func(at time.Time) float64) (all []Row) {
	for i := n - 1; i >= 0; i-- {
		at := end.Add(-time.Duration(i) * step)
		all = append(all, Row{T: at.UnixMilli(), V: value(at)})
	}
	return all
}

// muninFile is what one of Munin's files holds: the average is hours since t0, minimum and maximum one less and more.
func muninFile(s tocsin.Series, end time.Time) History {
	h := History{Series: s}
	for _, t := range []struct {
		step time.Duration
		rows int
	}{{24 * time.Hour, 450}, {5 * time.Minute, 576}, {30 * time.Minute, 432}, {2 * time.Hour, 540}} {
		for of, off := range map[Consolidation]float64{Average: 0, Min: -1, Max: 1} {
			value := func(at time.Time) float64 { return at.Sub(t0).Hours() + off }
			h.Archives = append(h.Archives, Archive{Step: t.step, Of: of, Rows: rows(end.Truncate(t.step), t.step, t.rows, value)})
		}
	}
	return h
}

func TestImportMunin(t *testing.T) {
	end := t0.Add(500 * 24 * time.Hour)
	c := &clock{end}
	d := store(t, c)
	files := from(muninFile(series(0), end), muninFile(series(11), end))
	first, err := d.Import(t.Context(), files)
	if err != nil {
		t.Fatal(err)
	}
	if first.Series != 2 || first.Known+first.Old+first.Ahead != 0 || first.Points < 2*3*(450*24) {
		t.Errorf("first: %+v", first)
	}
	check := func() {
		t.Helper()
		for _, tt := range []struct {
			name string
			at   time.Time
			rows time.Duration // of the rows that tell of that time
		}{
			{"five minutes", end.Add(-47 * time.Hour), 5 * time.Minute},
			{"half an hour", end.Add(-8*24*time.Hour - 10*time.Minute), 30 * time.Minute},
			{"two hours", end.Add(-44*24*time.Hour - time.Hour), 2 * time.Hour},
			{"a day", end.Add(-440*24*time.Hour - 5*time.Hour), 24 * time.Hour},
		} {
			row := tt.at.Add(tt.rows - time.Nanosecond).Truncate(tt.rows)
			want := row.Sub(t0).Hours()
			step := 5 * time.Minute
			if tt.rows >= time.Hour {
				step = time.Hour
			}
			got, err := d.Read(t.Context(), series(11), tt.at.Add(-step), tt.at, step)
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != 1 || got[0].Avg != want || got[0].Min != want-1 || got[0].Max != want+1 {
				t.Errorf("%s: %v, want %v", tt.name, got, want)
			}
		}
	}
	check()
	again, err := d.Import(t.Context(), files)
	if err != nil {
		t.Fatal(err)
	}
	if again.Points != 0 || again.Series != 0 || again.Known != first.Points {
		t.Errorf("again: %+v, want nothing but %d known", again, first.Points)
	}
	// Three days later Munin's files have more, and so has the new system.
	feed(t, d, c, end.Add(5*time.Hour), 12, noise)
	later, err := d.Import(t.Context(), from(muninFile(series(0), c.t), muninFile(series(400), c.t)))
	if err != nil {
		t.Fatal(err)
	}
	if later.Series != 1 || later.Known == 0 {
		t.Errorf("later: %+v, want one new series", later)
	}
	if err := d.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	check()
	// The seam: every five minutes from the old system's to ours, once.
	m := rangeOf(t, d, `munin{node="web1",field="f1"}`, end.Add(-40*time.Hour), c.t, 5*time.Minute)
	if len(m) != 1 || len(m[0].Floats) != 45*12+1 {
		t.Fatalf("%d series over the seam, want one of %d points", len(m), 45*12+1)
	}
	for _, p := range m[0].Floats {
		at := time.UnixMilli(p.T)
		if want := at.Sub(t0).Hours(); !at.After(end) && math.Abs(p.F-want) > 1e-9 || at.After(end) && p.F > 125 {
			t.Fatalf("%v at %s", p.F, at.UTC())
		}
	}
}

func TestImportOddRows(t *testing.T) {
	end := t0.Add(100 * 24 * time.Hour)
	c := &clock{end}
	d := store(t, c, func(o *Options) { o.Hours = 200 * 24 * time.Hour })
	at := end.Add(-30 * 24 * time.Hour)
	h := History{Series: series(0), Archives: []Archive{
		{Step: time.Minute, Rows: []Row{ // not in order, not on the minute, with an unknown one
			{at.Add(4*time.Minute + 7*time.Second).UnixMilli(), 4}, {at.Add(2 * time.Minute).UnixMilli(), 2}, {at.Add(3 * time.Minute).UnixMilli(), math.NaN()}}},
		{Step: time.Hour, Rows: []Row{
			{at.UnixMilli(), 10}, {at.Add(2 * time.Hour).UnixMilli(), 12},
			{end.Add(time.Hour).UnixMilli(), 99}, {end.Add(-300 * 24 * time.Hour).UnixMilli(), 98}}},
	}}
	sum, err := d.Import(t.Context(), from(h))
	if err != nil {
		t.Fatal(err)
	}
	// Of five minutes one point, of hours three, each thrice.
	if sum.Points != 12 || sum.Ahead != 1 || sum.Old != 1 {
		t.Errorf("%+v", sum)
	}
	got, err := d.Read(t.Context(), series(0), at.Add(-time.Hour), at.Add(2*time.Hour), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	want := []Point{{at.UnixMilli(), 10, 10, 10}, {at.Add(time.Hour).UnixMilli(), 3, 2, 4}, {at.Add(2 * time.Hour).UnixMilli(), 12, 12, 12}}
	if len(got) != 3 || got[0] != want[0] || got[1].Avg != 3 || got[2] != want[2] {
		t.Errorf("%v, want %v", got, want)
	}

	broken := errors.New("cut short")
	sum, err = d.Import(t.Context(), func(yield func(History, error) bool) {
		if yield(muninFile(series(1), end), nil) {
			yield(History{Series: series(2)}, broken)
		}
	})
	if !errors.Is(err, broken) || sum.Series != 1 {
		t.Errorf("%+v, %v", sum, err)
	}
	if got, err := d.Read(t.Context(), series(1), end.Add(-time.Hour), end, time.Hour); err != nil || len(got) != 1 {
		t.Errorf("what came before the error: %v, %v", got, err)
	}
	if _, err := d.Import(t.Context(), from(History{Series: series(3), Archives: []Archive{{Step: time.Millisecond}}})); err == nil {
		t.Error("rows of a millisecond are accepted")
	}
}

func TestRead(t *testing.T) {
	c := &clock{t0}
	d := store(t, c)
	feed(t, d, c, t0.Add(30*time.Hour), 1, noise)
	for _, tt := range []struct {
		from, to, step time.Duration
	}{
		{0, time.Hour, 10 * time.Second}, {0, 30 * time.Hour, 5 * time.Minute}, {0, 24 * time.Hour, time.Hour}, {2 * time.Hour, 8 * time.Hour, 30 * time.Minute},
		{26 * time.Hour, 30 * time.Hour, 2 * time.Hour},
	} {
		got, err := d.Read(t.Context(), series(0), t0.Add(tt.from), t0.Add(tt.to), tt.step)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != int((tt.to-tt.from)/tt.step) {
			t.Errorf("%v: %d points", tt, len(got))
			continue
		}
		for i, p := range got {
			end := t0.Add(tt.from + time.Duration(i+1)*tt.step)
			want := Point{T: end.UnixMilli(), Min: math.Inf(1), Max: math.Inf(-1)}
			n := 0.0
			for at := end.Add(-tt.step + 10*time.Second); !at.After(end); at = at.Add(10 * time.Second) {
				v, _ := noise(0, at)
				want.Avg, want.Min, want.Max, n = want.Avg+v, min(want.Min, v), max(want.Max, v), n+1
			}
			if want.Avg /= n; p.T != want.T || p.Min != want.Min || p.Max != want.Max || math.Abs(p.Avg-want.Avg) > 1e-9 {
				t.Fatalf("%v: %v, want %v", tt, p, want)
			}
		}
	}
	// Coarse points in fine steps: each step that they cover.
	c.t = t0.Add(40 * 24 * time.Hour)
	if _, err := d.Import(t.Context(), from(History{Series: series(7), Archives: []Archive{{Step: time.Hour, Rows: rows(t0.Add(10*time.Hour), time.Hour, 3, func(time.Time) float64 { return 5 })}}})); err != nil {
		t.Fatal(err)
	}
	got, err := d.Read(t.Context(), series(7), t0.Add(6*time.Hour), t0.Add(12*time.Hour), time.Minute)
	if err != nil || len(got) != 180 || got[0].T != t0.Add(7*time.Hour+time.Minute).UnixMilli() || got[179].T != t0.Add(10*time.Hour).UnixMilli() {
		t.Errorf("%d points, %v; want 180", len(got), err)
	}
	if got, err := d.Read(t.Context(), series(99), t0, t0.Add(time.Hour), time.Minute); err != nil || len(got) != 0 {
		t.Errorf("a series that is not there: %v, %v", got, err)
	}
	if _, err := d.Read(t.Context(), series(0), t0, c.t, time.Millisecond); !errors.Is(err, ErrQuery) {
		t.Errorf("too many steps: %v", err)
	}
}

// The step that is not over shows what it has: a server of an hour has a point in the graph of its year.
func TestReadUnfinishedStep(t *testing.T) {
	c := &clock{t0.Add(10 * time.Hour)}
	d := store(t, c)
	feed(t, d, c, c.t.Add(47*time.Minute), 1, noise)
	for _, step := range []time.Duration{time.Minute, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 24 * time.Hour} {
		to := c.t.Add(-13 * time.Second)
		got, err := d.Read(t.Context(), series(0), c.t.Add(-365*24*time.Hour), to, step)
		if err != nil {
			t.Fatal(err)
		}
		if want := int((47*time.Minute-13*time.Second)/step) + 1; step < 2*time.Hour && len(got) != want || step >= 2*time.Hour && len(got) != 1 {
			t.Errorf("steps of %s: %d points", step, len(got))
			continue
		}
		last := got[len(got)-1]
		want := Point{T: to.UnixMilli(), Min: math.Inf(1), Max: math.Inf(-1)}
		for at := t0.Add(10*time.Hour + 10*time.Second); !at.After(to); at = at.Add(10 * time.Second) {
			if v, _ := noise(0, at); at.After(to.Truncate(step)) {
				want.Min, want.Max = min(want.Min, v), max(want.Max, v)
			}
		}
		if last.T != want.T || last.Min != want.Min || last.Max != want.Max {
			t.Errorf("steps of %s: the last is %+v, want %+v", step, last, want)
		}
	}
}
