package tsdb

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	promtsdb "github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// What is added to a metric's name for its minimum and its maximum.
const (
	suffixMin = ":min"
	suffixMax = ":max"
)

// kind is how the values of a series become one.
type kind uint8

const (
	average kind = iota
	minimum
	maximum
	last // of a counter
)

// kindOf is how a series of that name is rolled up. Its minimum and maximum become series of their own if it is an average.
func kindOf(name string) kind {
	switch {
	case strings.HasSuffix(name, suffixMin):
		return minimum
	case strings.HasSuffix(name, suffixMax):
		return maximum
	case isCounter(name):
		return last
	}
	return average
}

// isCounter says whether Prometheus's naming makes a name one of a counter (https://prometheus.io/docs/practices/naming/).
func isCounter(name string) bool {
	for _, suffix := range []string{"_total", "_count", "_sum", "_bucket"} {
		if strings.HasSuffix(name, suffix) {
			return true
		}
	}
	return false
}

// hasExtremes says whether a series of that name has a minimum and a maximum beside it.
func hasExtremes(name string) bool { return kindOf(name) == average }

// slots are the points of one series and one window, made of finer ones: the point at t stands for (t-step, t].
type slots struct {
	step          int64
	avg, min, max []point
	n             float64 // values in the slot that grows
}

func (s *slots) reset() { s.avg, s.min, s.max, s.n = s.avg[:0], s.min[:0], s.max[:0], 0 }

// add takes the next value; times rise.
func (s *slots) add(t int64, v float64, k kind) {
	t = ceilTo(t, s.step)
	i := len(s.avg) - 1
	if i < 0 || s.avg[i].t != t {
		s.finish()
		s.avg, s.min, s.max, s.n = append(s.avg, point{t, v}), append(s.min, point{t, v}), append(s.max, point{t, v}), 1
		return
	}
	if k == last {
		s.avg[i].v = v
		return
	}
	s.n++
	s.avg[i].v += v
	s.min[i].v = math.Min(s.min[i].v, v)
	s.max[i].v = math.Max(s.max[i].v, v)
}

// finish makes the average of the slot that grew.
func (s *slots) finish() {
	if i := len(s.avg) - 1; i >= 0 && s.n > 1 {
		s.avg[i].v /= s.n
	}
	s.n = 0
}

// of are the points of that kind, after finish.
func (s *slots) of(k kind) []point {
	switch k {
	case minimum:
		return s.min
	case maximum:
		return s.max
	}
	return s.avg
}

// rollWindow makes one block of dst, for [from, to), of what src has. The source is raw where extremes is set: minimum and
// maximum are made of the values then, else they are series already.
func rollWindow(ctx context.Context, src storage.Queryable, dst *blocks, from, to, step int64, extremes bool) error {
	q, err := src.Querier(from-step+1, to-step)
	if err != nil {
		return err
	}
	defer q.Close()
	w := newBlockWriter(dst.dir)
	if err := rollSeries(ctx, q, w, step, extremes); err != nil {
		return err
	}
	if err := w.close(ctx, from, to); err != nil || len(w.series) == 0 {
		return err
	}
	if err := dst.reload(); err != nil {
		return err
	}
	// A window that was rolled up before (the clock went back, or the process ended before it could remember) is replaced.
	return dst.remove(func(b *promtsdb.Block) bool {
		m := b.Meta()
		return m.ULID != w.meta.ULID && m.MinTime == from && m.MaxTime == to &&
			m.Compaction.Level == 1 && !slices.Contains(m.Compaction.Hints, imported)
	})
}

func rollSeries(ctx context.Context, q storage.Querier, w *blockWriter, step int64, extremes bool) error {
	all := labels.MustNewMatcher(labels.MatchNotEqual, model.MetricNameLabel, "")
	set := q.Select(ctx, false, nil, all)
	s := slots{step: step}
	var it chunkenc.Iterator
	for set.Next() {
		l := set.At().Labels()
		name := l.Get(model.MetricNameLabel)
		k := kindOf(name)
		s.reset()
		it = set.At().Iterator(it)
		for it.Next() == chunkenc.ValFloat {
			if t, v := it.At(); !math.IsNaN(v) {
				s.add(t, v, k)
			}
		}
		if err := it.Err(); err != nil {
			return fmt.Errorf("read %s: %w", l, err)
		}
		s.finish()
		if err := w.add(l, s.of(k)); err != nil {
			return err
		}
		if !extremes || k != average {
			continue
		}
		if err := w.add(rename(l, name+suffixMin), s.min); err != nil {
			return err
		}
		if err := w.add(rename(l, name+suffixMax), s.max); err != nil {
			return err
		}
	}
	return set.Err()
}

func rename(l labels.Labels, name string) labels.Labels {
	return labels.NewBuilder(l).Set(model.MetricNameLabel, name).Labels()
}

// ceilTo is the first multiple of step at or after t.
func ceilTo(t, step int64) int64 { return -floorTo(-t, step) }

// floorTo is the last multiple of step at or before t.
func floorTo(t, step int64) int64 {
	r := t % step
	if r < 0 {
		r += step
	}
	return t - r
}

// rolled is up to where the coarse databases were written, in ms; 0: never. It is kept in rolled.json. Where that is lost
// everything that the finer database still has is rolled up again, which changes nothing.
type rolled struct {
	FiveMinutes int64 `json:"5m"`
	Hours       int64 `json:"1h"`
}

// rollUp writes every window that is settled at now.
func (d *DB) rollUp(ctx context.Context, now int64) error {
	r := d.rolledTo()
	if r.FiveMinutes > now {
		// The clock went back: what lies ahead of it now was rolled up too early.
		r.FiveMinutes, r.Hours = floorTo(now, window5m), min(r.Hours, floorTo(now, window1h))
		if err := d.setRolled(r); err != nil {
			return err
		}
	}
	settled := now - d.o.Lateness.Milliseconds()
	for ctx.Err() == nil {
		from, ok := d.nextRaw(r.FiveMinutes)
		if !ok || from+window5m > settled {
			break
		}
		if err := rollWindow(ctx, d.source(raw), d.levels[fiveMinutes], from, from+window5m, step5m, true); err != nil {
			return fmt.Errorf("roll up five minutes of %s: %w", stamp(from), err)
		}
		if r.Hours == 0 {
			r.Hours = floorTo(from, window1h)
		}
		r.FiveMinutes = from + window5m
		if err := d.setRolled(r); err != nil {
			return err
		}
	}
	for r.Hours != 0 && r.Hours+window1h <= r.FiveMinutes && ctx.Err() == nil {
		if err := rollWindow(ctx, d.levels[fiveMinutes], d.levels[hours], r.Hours, r.Hours+window1h, step1h, false); err != nil {
			return fmt.Errorf("roll up the hours of %s: %w", stamp(r.Hours), err)
		}
		r.Hours += window1h
		if err := d.setRolled(r); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// nextRaw is the start of the first window of 5m at or after t for which raw has samples.
func (d *DB) nextRaw(t int64) (from int64, ok bool) {
	raw := d.rawDB()
	spans := [][2]int64{{raw.Head().MinTime(), raw.Head().MaxTime()}, {raw.Head().MinOOOTime(), raw.Head().MaxOOOTime()}}
	for _, m := range raw.BlockMetas() {
		spans = append(spans, [2]int64{m.MinTime, m.MaxTime - 1})
	}
	from = math.MaxInt64
	for _, s := range spans {
		// The point at t stands for what is before it: a sample at the very start of a window may belong to the one before.
		if s[0] > s[1] || ceilTo(s[1], step5m) < t {
			continue
		}
		from = min(from, max(t, floorTo(ceilTo(s[0], step5m), window5m)))
	}
	return from, from != math.MaxInt64
}

func stamp(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02 15:04") }
