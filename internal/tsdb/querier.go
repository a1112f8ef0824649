package tsdb

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/util/annotations"
)

// level is one of the three databases.
type level int

// The databases, the finest first.
const (
	raw level = iota
	fiveMinutes
	hours
	levels
)

// Times of the databases in milliseconds.
const (
	step5m = int64(5 * time.Minute / time.Millisecond)
	step1h = int64(time.Hour / time.Millisecond)

	window5m = int64(2 * time.Hour / time.Millisecond) // what one block of 5m holds when it is new
	window1h = int64(24 * time.Hour / time.Millisecond)

	rawHold  = step5m     // a sample as it came counts as the present value for so long
	lookback = 2 * step1h // how far back PromQL looks: as long as the coarsest value holds
)

// span is what a point of the database stands for, 0 in raw.
func (l level) span() int64 { return [levels]int64{0, step5m, step1h}[l] }

// choose is the rule which database a selector reads: the coarsest whose step is not longer than the step of the query, or a
// quarter of the range, where the selector has one (functions over a range want some points in it). Functions that look at
// single samples read raw.
func choose(hints *storage.SelectHints) level {
	if hints == nil {
		return raw
	}
	switch hints.Func {
	case "count_over_time", "changes", "resets":
		return raw
	}
	need := hints.Step
	if hints.Range > 0 {
		need = hints.Range / 4
	}
	switch {
	case need >= step1h:
		return hours
	case need >= step5m:
		return fiveMinutes
	}
	return raw
}

// queryable is the three databases as one, for PromQL.
type queryable struct{ d *DB }

func (q queryable) Querier(mint, maxt int64) (storage.Querier, error) {
	return &querier{d: q.d, mint: mint, maxt: maxt}, nil
}

// querier reads [mint, maxt]. It opens the databases as a selector needs them, and keeps them open until it is closed.
type querier struct {
	d          *DB
	mint, maxt int64
	open       []storage.Querier
}

func (q *querier) Close() error {
	var errs []error
	for _, o := range q.open {
		errs = append(errs, o.Close())
	}
	q.open = nil
	return errors.Join(errs...)
}

// at opens one database for [mint, maxt].
func (q *querier) at(l level, mint, maxt int64) (storage.Querier, error) {
	sq, err := q.d.source(l).Querier(mint, maxt)
	if err != nil {
		return nil, err
	}
	if l == raw {
		sq = rawQuerier{sq}
	}
	q.open = append(q.open, sq)
	return sq, nil
}

// Select answers with each series once, stitched of what the databases have of it.
func (q *querier) Select(ctx context.Context, _ bool, hints *storage.SelectHints, ms ...*labels.Matcher) storage.SeriesSet {
	mint, maxt := q.mint, q.maxt
	if hints != nil {
		mint, maxt = hints.Start, hints.End
	}
	instant := hints != nil && hints.Range == 0 && hints.Func != seriesOnly
	return q.between(ctx, mint, maxt, instant, hints, ms...)
}

// between is Select in [mint, maxt]; instant says that mint lies a lookback before the first instant that is asked for.
func (q *querier) between(ctx context.Context, mint, maxt int64, instant bool, hints *storage.SelectHints, ms ...*labels.Matcher) storage.SeriesSet {
	chosen, now := choose(hints), q.d.now()
	mint, pieces := q.d.pieces(mint, maxt, instant, chosen)
	if instant && hints.Step == 0 && chosen == raw && slices.Equal(pieces, []level{raw}) {
		switch set, ok, err := q.d.present(ctx, maxt, ms); {
		case err != nil:
			return storage.ErrSeriesSet(err)
		case ok:
			return set
		}
	}

	// Where several databases meet, a point beside the range tells which of them a time at its edge belongs to; and a coarse
	// point is made of all that its step has.
	margin := int64(0)
	if len(pieces) > 1 || chosen != raw {
		margin = step1h
	}
	var sets []storage.SeriesSet
	for _, l := range pieces {
		from, to := mint-margin, maxt+margin
		if l == raw && chosen != raw && len(pieces) > 1 {
			from = max(from, q.d.rolledTo().FiveMinutes-step1h) // before that raw has nothing that the others lack
		}
		if from > to {
			continue
		}
		sq, err := q.at(l, from, to)
		if err != nil {
			return storage.ErrSeriesSet(err)
		}
		var h *storage.SelectHints
		if hints != nil {
			c := *hints
			c.Start, c.End = from, to
			h = &c
		}
		sets = append(sets, &pieceSet{SeriesSet: sq.Select(ctx, true, h, ms...), level: l, chosen: chosen, from: mint, to: maxt, now: now})
	}
	return storage.NewMergeSeriesSet(sets, 0, join)
}

// seriesOnly is Prometheus's hint that nobody wants samples.
const seriesOnly = "series"

// pieces are the databases that have something between mint and maxt. For a selector without a range mint lies as far back as
// the longest hold; where only finer databases are there it need not, and the start that is enough is returned.
func (d *DB) pieces(mint, maxt int64, instant bool, chosen level) (start int64, ls []level) {
	first := mint + lookback // the first instant that is asked for
	for l := hours; l >= raw; l-- {
		start = mint
		if instant && len(ls) == 0 {
			start = max(mint, first-hold(max(l, chosen).span()))
		}
		if d.has(l, start, maxt) {
			ls = append(ls, l)
		}
		if instant && len(ls) > 0 {
			instant, mint = false, start
		}
	}
	return start, ls
}

// pieceSet marks series with the database that they come from.
type pieceSet struct {
	storage.SeriesSet
	level, chosen level
	from, to, now int64
}

func (s *pieceSet) At() storage.Series {
	series := s.SeriesSet.At()
	whole := &stitched{labels: series.Labels(), chosen: s.chosen, from: s.from, to: s.to, now: s.now}
	whole.pieces[s.level] = series
	return whole
}

// join makes one series of those that the databases have.
func join(series ...storage.Series) storage.Series {
	whole := *series[0].(*stitched)
	for _, s := range series[1:] {
		for l, p := range s.(*stitched).pieces {
			if p != nil {
				whole.pieces[l] = p
			}
		}
	}
	return &whole
}

// stitched is one series, of up to three databases.
type stitched struct {
	labels   labels.Labels
	chosen   level
	from, to int64
	now      int64
	pieces   [levels]storage.Series
}

func (s *stitched) Labels() labels.Labels { return s.labels }

func (s *stitched) Iterator(old chunkenc.Iterator) chunkenc.Iterator {
	h, ok := old.(*floats)
	if !ok {
		h = &floats{}
	}
	h.held = held{points: s.points(), from: s.from, to: s.to}
	return h
}

// points stitches: the chosen database first; what it lacks comes from the others, the nearer one before the farther. What a
// finer one has to add looks as it will when it is rolled up, so that a graph does not change by that.
func (s *stitched) points() points {
	k := kindOf(s.labels.Get(model.MetricNameLabel))
	coarsen := func(p points, l level) points {
		if p == nil {
			return nil
		}
		return &coarsened{fine: p, step: l.span(), kind: k, now: s.now}
	}
	switch s.chosen {
	case raw:
		return fillFrom(fillFrom(s.leaf(raw), s.leaf(fiveMinutes), step5m), s.leaf(hours), step1h)
	case fiveMinutes:
		fine := fillFrom(s.leaf(fiveMinutes), coarsen(s.leaf(raw), fiveMinutes), step5m)
		return fillFrom(fine, s.leaf(hours), step1h)
	}
	fine := fillFrom(s.leaf(fiveMinutes), coarsen(s.leaf(raw), fiveMinutes), step5m)
	return fillFrom(s.leaf(hours), coarsen(fine, hours), step1h)
}

func (s *stitched) leaf(l level) points {
	if s.pieces[l] == nil {
		return nil
	}
	return &leaf{it: s.pieces[l].Iterator(nil), span: l.span()}
}

// fillFrom is main with its holes filled from rest; either may be nil.
func fillFrom(main, rest points, restSpan int64) points {
	switch {
	case main == nil:
		return rest
	case rest == nil:
		return main
	}
	return &filled{main: main, rest: rest, restSpan: restSpan}
}

// LabelValues are those of all databases.
func (q *querier) LabelValues(ctx context.Context, name string, hints *storage.LabelHints, ms ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return q.collect(func(sq storage.Querier) ([]string, annotations.Annotations, error) {
		return sq.LabelValues(ctx, name, hints, ms...)
	})
}

// LabelNames are those of all databases.
func (q *querier) LabelNames(ctx context.Context, hints *storage.LabelHints, ms ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return q.collect(func(sq storage.Querier) ([]string, annotations.Annotations, error) {
		return sq.LabelNames(ctx, hints, ms...)
	})
}

func (q *querier) collect(ask func(storage.Querier) ([]string, annotations.Annotations, error)) ([]string, annotations.Annotations, error) {
	var all []string
	var warn annotations.Annotations
	_, pieces := q.d.pieces(q.mint, q.maxt, false, raw)
	for _, l := range pieces {
		sq, err := q.at(l, q.mint, q.maxt)
		if err != nil {
			return nil, nil, err
		}
		values, w, err := ask(sq)
		if err != nil {
			return nil, nil, err
		}
		all = append(all, slices.Clone(values)...)
		warn.Merge(w)
	}
	slices.Sort(all)
	return slices.Compact(all), warn, nil
}
