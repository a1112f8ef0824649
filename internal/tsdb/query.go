package tsdb

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	prom "github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	promtsdb "github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

func (d *DB) newEngine() {
	d.engine = promql.NewEngine(promql.EngineOpts{
		Logger:                   slog.New(slog.DiscardHandler),
		MaxSamples:               d.o.QuerySamples,
		Timeout:                  d.o.QueryTime,
		LookbackDelta:            time.Duration(lookback) * time.Millisecond,
		ActiveQueryTracker:       make(turns, d.o.Queries),
		NoStepSubqueryIntervalFn: func(int64) int64 { return time.Minute.Milliseconds() },
		EnableAtModifier:         true,
		EnableNegativeOffset:     true,
	})
}

// turns bounds how many queries run at once.
type turns chan struct{}

func (t turns) GetMaxConcurrent() int { return cap(t) }
func (t turns) Delete(int)            { <-t }
func (t turns) Close() error          { return nil }

func (t turns) Insert(ctx context.Context, _ string) (int, error) {
	select {
	case t <- struct{}{}:
		return 0, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// Result is the answer to a query.
type Result struct {
	Value    parser.Value // promql.Vector, promql.Matrix, promql.Scalar or promql.String
	Warnings []string
	Infos    []string
}

// Kinds of errors of a query, for errors.Is; each has a text that says more.
var (
	ErrQuery   = errors.New("the query is not understood") // what was asked makes no sense
	ErrTooMuch = errors.New("the query asks for too much") // more samples than Options.QuerySamples, or more than Options.QueryTime
)

// maxExpr is how long an expression may be: what is read of it is evaluated by recursion.
const maxExpr = 32 << 10

var errLong = fmt.Errorf("%w: it is longer than %d bytes", ErrQuery, maxExpr)

// Query answers a PromQL expression for one instant.
func (d *DB) Query(ctx context.Context, expr string, at time.Time) (*Result, error) {
	if len(expr) > maxExpr {
		return nil, errLong
	}
	end, err := d.begin()
	if err != nil {
		return nil, err
	}
	defer end()
	q, err := d.engine.NewInstantQuery(ctx, queryable{d}, nil, expr, at)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrQuery, err)
	}
	return answer(ctx, q, expr)
}

// QueryRange answers a PromQL expression for every step from the first instant to the last one.
func (d *DB) QueryRange(ctx context.Context, expr string, from, to time.Time, step time.Duration) (*Result, error) {
	if len(expr) > maxExpr {
		return nil, errLong
	}
	if step < time.Millisecond || to.Before(from) {
		return nil, fmt.Errorf("%w: a range needs a step, and an end that is not before its start", ErrQuery)
	}
	end, err := d.begin()
	if err != nil {
		return nil, err
	}
	defer end()
	q, err := d.engine.NewRangeQuery(ctx, queryable{d}, nil, expr, from, to, step)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrQuery, err)
	}
	return answer(ctx, q, expr)
}

func answer(ctx context.Context, q promql.Query, expr string) (*Result, error) {
	r := q.Exec(ctx)
	// The query is not closed: that would hand the values, which leave with the result, to the next one.
	if r.Err != nil {
		var tooMany promql.ErrTooManySamples
		var tooLong promql.ErrQueryTimeout
		var failed promql.ErrStorage
		var canceled promql.ErrQueryCanceled
		switch {
		case errors.As(r.Err, &tooMany), errors.As(r.Err, &tooLong):
			return nil, fmt.Errorf("%w: %w", ErrTooMuch, r.Err)
		case errors.As(r.Err, &failed), errors.As(r.Err, &canceled), ctx.Err() != nil:
			return nil, fmt.Errorf("query the samples: %w", r.Err)
		}
		return nil, fmt.Errorf("%w: %w", ErrQuery, r.Err)
	}
	warnings, infos := r.Warnings.AsStrings(expr, 10, 10)
	return &Result{Value: r.Value, Warnings: warnings, Infos: infos}, nil
}

// ParseSelector reads a PromQL selector such as munin{node="web1"}.
func ParseSelector(text string) ([]*labels.Matcher, error) {
	if len(text) > maxExpr {
		return nil, errLong
	}
	ms, err := parser.NewParser(parser.Options{}).ParseMetricSelector(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrQuery, err)
	}
	return ms, nil
}

// Series are the labels of the series that any of the selectors matches between two instants, in order; at most limit (0:
// 100,000) of them. complete is false where there are more.
func (d *DB) Series(ctx context.Context, selectors [][]*labels.Matcher, from, to time.Time, limit int) (found []labels.Labels, complete bool, err error) {
	end, err := d.begin()
	if err != nil {
		return nil, false, err
	}
	defer end()
	if limit <= 0 || limit > maxFound {
		limit = maxFound
	}
	q := &querier{d: d, mint: from.UnixMilli(), maxt: to.UnixMilli()}
	defer q.Close()
	hints := &storage.SelectHints{Start: q.mint, End: q.maxt, Func: seriesOnly}
	var sets []storage.SeriesSet
	for _, ms := range selectors {
		sets = append(sets, q.Select(ctx, true, hints, ms...))
	}
	set := storage.NewMergeSeriesSet(sets, 0, func(s ...storage.Series) storage.Series { return s[0] })
	for set.Next() {
		if len(found) == limit {
			return found, false, nil
		}
		// The text of the labels lies in a mapped file that may be gone when the querier is closed.
		found = append(found, set.At().Labels().Copy())
	}
	if err := set.Err(); err != nil {
		return nil, false, fmt.Errorf("find series: %w", err)
	}
	return found, true, nil
}

const maxFound = 100_000 // series or values that one question is answered with

// LabelNames are the names of labels between two instants, of the series that any selector matches, or of all without one.
func (d *DB) LabelNames(ctx context.Context, selectors [][]*labels.Matcher, from, to time.Time) ([]string, error) {
	return d.labels(selectors, from, to, func(q *querier, ms []*labels.Matcher) ([]string, error) {
		names, _, err := q.LabelNames(ctx, nil, ms...)
		return names, err
	})
}

// LabelValues are the values of one label, as LabelNames.
func (d *DB) LabelValues(ctx context.Context, name string, selectors [][]*labels.Matcher, from, to time.Time) ([]string, error) {
	return d.labels(selectors, from, to, func(q *querier, ms []*labels.Matcher) ([]string, error) {
		values, _, err := q.LabelValues(ctx, name, nil, ms...)
		return values, err
	})
}

func (d *DB) labels(selectors [][]*labels.Matcher, from, to time.Time, ask func(*querier, []*labels.Matcher) ([]string, error)) ([]string, error) {
	end, err := d.begin()
	if err != nil {
		return nil, err
	}
	defer end()
	q := &querier{d: d, mint: from.UnixMilli(), maxt: to.UnixMilli()}
	defer q.Close()
	if len(selectors) == 0 {
		selectors = [][]*labels.Matcher{nil}
	}
	var all []string
	for _, ms := range selectors {
		found, err := ask(q, ms)
		if err != nil {
			return nil, fmt.Errorf("find labels: %w", err)
		}
		all = append(all, found...)
	}
	slices.Sort(all)
	all = slices.Compact(all)
	all = all[:min(len(all), maxFound)]
	for i, s := range all {
		all[i] = string([]byte(s)) // it lies in a mapped file that may be gone when the querier is closed
	}
	return all, nil
}

// LastValue is the newest value of a series.
type LastValue struct {
	Labels labels.Labels
	T      int64 // Unix milliseconds; at most two hours ago
	V      float64
}

// Last are the newest values of the series that the matchers select, all without matchers, in no order, from memory. A series
// that was ended by its sender is not among them.
func (d *DB) Last(ctx context.Context, ms ...*labels.Matcher) ([]LastValue, error) {
	end, err := d.begin()
	if err != nil {
		return nil, err
	}
	defer end()
	ix, err := d.raw.Head().Index()
	if err != nil {
		return nil, fmt.Errorf("find last values: %w", err)
	}
	defer ix.Close()
	if len(ms) == 0 {
		ms = []*labels.Matcher{labels.MustNewMatcher(labels.MatchNotEqual, model.MetricNameLabel, "")}
	}
	refs, err := promtsdb.PostingsForMatchers(ctx, ix, ms...)
	if err != nil {
		return nil, fmt.Errorf("find last values: %w", err)
	}
	oldest := d.now() - lookback
	var all []LastValue
	var b labels.ScratchBuilder
	d.mu.Lock()
	defer d.mu.Unlock()
	for refs.Next() {
		v, ok := d.last[refs.At()]
		if !ok || v.t < oldest || prom.IsStaleNaN(v.v) {
			continue
		}
		if err := ix.Series(refs.At(), &b, nil); err != nil {
			continue // it was forgotten meanwhile
		}
		all = append(all, LastValue{Labels: b.Labels(), T: v.t, V: v.v})
	}
	numberOf, done := numbers(ctx, d.raw)
	defer done()
	for ref, l := range d.quiet {
		v := d.last[ref]
		if v.t >= oldest && !prom.IsStaleNaN(v.v) && matches(l, ms) && numberOf(l) == 0 {
			all = append(all, LastValue{Labels: l, T: v.t, V: v.v})
		}
	}
	return all, refs.Err()
}

func matches(l labels.Labels, ms []*labels.Matcher) bool {
	return !slices.ContainsFunc(ms, func(m *labels.Matcher) bool { return !m.Matches(l.Get(m.Name)) })
}

// numbers answers which number a series has in memory, 0: none. done must be called.
func numbers(ctx context.Context, raw *promtsdb.DB) (numberOf func(labels.Labels) storage.SeriesRef, done func()) {
	app := raw.Appender(ctx) // nothing is appended
	g, ok := app.(storage.GetRef)
	if !ok {
		panic("BUG: the numbers of series cannot be asked for")
	}
	return func(l labels.Labels) storage.SeriesRef {
		ref, _ := g.GetRef(l, l.Hash())
		return ref
	}, func() { _ = app.Rollback() } // there is nothing to take back
}

// recall fills the last values after a start, from what the write-ahead log brought back. Nobody else uses the store yet.
func (d *DB) recall(ctx context.Context, raw *promtsdb.DB) error {
	h := raw.Head()
	if h.MinTime() > h.MaxTime() {
		return nil
	}
	newest := min(h.MaxTime(), d.now()+maxAhead)
	ix, err := h.Index()
	if err != nil {
		return err
	}
	defer ix.Close()
	q, err := promtsdb.NewBlockQuerier(promtsdb.NewRangeHead(h, newest-rawHold, newest), newest-rawHold, newest)
	if err != nil {
		return err
	}
	defer q.Close()
	numberOf, done := numbers(ctx, raw)
	defer done()
	set := q.Select(ctx, false, nil, labels.MustNewMatcher(labels.MatchNotEqual, model.MetricNameLabel, ""))
	var it chunkenc.Iterator
	for set.Next() {
		var v lastValue
		it = set.At().Iterator(it)
		for it.Next() == chunkenc.ValFloat {
			v.t, v.v = it.At()
		}
		if ref := numberOf(set.At().Labels()); ref != 0 && v.t != 0 {
			d.last[ref] = v
		}
	}
	return set.Err()
}
