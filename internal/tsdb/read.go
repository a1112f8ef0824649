package tsdb

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"

	"tocsin"
)

// Point is what a series was during one step.
type Point struct {
	T             int64 // the end of the step, Unix milliseconds: a multiple of the step, or the end of what was asked for
	Avg, Min, Max float64
}

// maxPoints is how many points Read answers with.
const maxPoints = 1_000_000

// Read reads a series in steps, for a graph or a table: the points whose time lies in (from, to], each for the step that ends
// there; the last one, which to may cut short, stands for what it has until then. Steps without a value are left out. Which
// database answers is the rule of queries. A point of a coarser database counts for every step that it covers, so a day of last
// year in steps of a minute has them all, an hour at a time alike.
func (d *DB) Read(ctx context.Context, s tocsin.Series, from, to time.Time, step time.Duration) ([]Point, error) {
	width := step.Milliseconds()
	if width <= 0 || to.Before(from) || to.Sub(from)/step > maxPoints {
		return nil, fmt.Errorf("%w: read %s in steps of %s: it takes a step of at least 1ms and no more than %d of them", ErrQuery, s.Field, step, maxPoints)
	}
	end, err := d.begin()
	if err != nil {
		return nil, err
	}
	defer end()
	begin, stop := floorTo(from.UnixMilli(), width), to.UnixMilli()
	g := grid{from: begin, step: width, to: stop, cells: make([]cell, (ceilTo(stop, width)-begin)/width)}
	q := &querier{d: d, mint: begin + 1, maxt: stop}
	defer q.Close()
	var b labels.ScratchBuilder
	for k, name := range []string{average: Metric, minimum: Metric + suffixMin, maximum: Metric + suffixMax} {
		if err := g.fill(ctx, q, seriesLabels(&b, name, s), kind(k)); err != nil {
			return nil, fmt.Errorf("read %s: %w", s.Field, err)
		}
	}
	return g.points(), nil
}

// usual is what a first sample counts for: how often most probes read.
const usual = int64(10 * time.Second / time.Millisecond)

// grid is a series in steps.
type grid struct {
	from, step int64
	to         int64 // where the last step ends, if not at its own end
	cells      []cell
}

type cell struct {
	sum, weight float64 // of the average, weighted with time
	min, max    float64
	hasMin      bool
	hasMax      bool
}

func (g *grid) fill(ctx context.Context, q *querier, l labels.Labels, k kind) error {
	// Points beside the range: a sample counts for the time since the one before, and a coarse point may reach into it.
	begin := q.mint - rawHold
	set := q.between(ctx, begin, q.maxt+step1h, false, &storage.SelectHints{Step: g.step}, matchersOf(l)...)
	for set.Next() {
		s := set.At().(*stitched)
		if !labels.Equal(s.labels, l) {
			continue
		}
		p := s.points()
		before := int64(never)
		for ok := p.seek(begin); ok; ok = p.next() {
			t, v, span := p.at()
			weight := span
			if span == 0 {
				weight, span = min(t-before, rawHold), 1
				if before == never {
					weight = usual
				}
			}
			before = t
			if t-span >= q.maxt {
				break
			}
			if !math.IsNaN(v) {
				g.add(t, span, float64(weight), v, k)
			}
		}
		if err := p.err(); err != nil {
			return err
		}
	}
	return set.Err()
}

// add counts a point, which stands for (t-span, t], in every step that it reaches into.
func (g *grid) add(t, span int64, weight, v float64, k kind) {
	if t <= g.from {
		return
	}
	first := max(t-span-g.from, 0) / g.step
	last := (t - g.from - 1) / g.step
	for i := first; i <= last && i < int64(len(g.cells)); i++ {
		c := &g.cells[i]
		switch k {
		case average:
			c.sum += v * weight
			c.weight += weight
		case minimum:
			if !c.hasMin || v < c.min {
				c.min, c.hasMin = v, true
			}
		case maximum:
			if !c.hasMax || v > c.max {
				c.max, c.hasMax = v, true
			}
		}
	}
}

func (g *grid) points() []Point {
	var all []Point
	for i, c := range g.cells {
		if c.weight == 0 {
			continue
		}
		p := Point{T: min(g.from+int64(i+1)*g.step, g.to), Avg: c.sum / c.weight}
		p.Min, p.Max = p.Avg, p.Avg
		if c.hasMin {
			p.Min = c.min
		}
		if c.hasMax {
			p.Max = c.max
		}
		all = append(all, p)
	}
	return all
}

// matchersOf select the series of these labels, and those that have more.
func matchersOf(l labels.Labels) (ms []*labels.Matcher) {
	for _, name := range []string{model.MetricNameLabel, "field", "group", "node", "service"} {
		ms = append(ms, labels.MustNewMatcher(labels.MatchEqual, name, l.Get(name)))
	}
	return ms
}
