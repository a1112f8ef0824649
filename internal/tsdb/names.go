package tsdb

import (
	"context"
	"regexp"
	"slices"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"
)

// rawQuerier reads raw as if it had minimum and maximum of every series: each is the sample itself.
type rawQuerier struct{ storage.Querier }

func (q rawQuerier) Select(ctx context.Context, sorted bool, hints *storage.SelectHints, ms ...*labels.Matcher) storage.SeriesSet {
	sets := []storage.SeriesSet{q.Querier.Select(ctx, true, hints, ms...)}
	names, others := splitNames(ms)
	for _, suffix := range []string{suffixMin, suffixMax} {
		bases, err := q.bases(ctx, suffix, names, others)
		if err != nil {
			return storage.ErrSeriesSet(err)
		}
		if len(bases) > 0 {
			set := q.Querier.Select(ctx, true, hints, append(slices.Clip(others), oneOf(bases))...)
			sets = append(sets, renamed(set, suffix, len(bases) > 1))
		}
	}
	if len(sets) == 1 {
		return sets[0]
	}
	return storage.NewMergeSeriesSet(sets, 0, storage.ChainedSeriesMerge)
}

// bases are the names in raw that, with the suffix behind them, are what names ask for.
func (q rawQuerier) bases(ctx context.Context, suffix string, names, others []*labels.Matcher) ([]string, error) {
	var all []string
	if i := slices.IndexFunc(names, func(m *labels.Matcher) bool { return m.Type == labels.MatchEqual }); i >= 0 {
		base, ok := strings.CutSuffix(names[i].Value, suffix)
		if !ok {
			return nil, nil
		}
		all = []string{base}
	} else {
		var err error
		if all, _, err = q.Querier.LabelValues(ctx, model.MetricNameLabel, nil, others...); err != nil {
			return nil, err
		}
	}
	var bases []string
	for _, base := range all {
		asked := func(m *labels.Matcher) bool { return !m.Matches(base + suffix) }
		if hasExtremes(base) && !slices.ContainsFunc(names, asked) {
			bases = append(bases, base)
		}
	}
	return bases, nil
}

// LabelValues knows of the names that Select answers to.
func (q rawQuerier) LabelValues(ctx context.Context, name string, hints *storage.LabelHints, ms ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	values, warn, err := q.Querier.LabelValues(ctx, name, hints, ms...)
	if err != nil {
		return nil, nil, err
	}
	names, others := splitNames(ms)
	for _, suffix := range []string{suffixMin, suffixMax} {
		bases, err := q.bases(ctx, suffix, names, others)
		if err != nil {
			return nil, nil, err
		}
		// Without a matcher of the name the values of other labels are there already.
		if len(bases) == 0 || name != model.MetricNameLabel && len(names) == 0 {
			continue
		}
		more, _, err := q.Querier.LabelValues(ctx, name, hints, append(slices.Clip(others), oneOf(bases))...)
		if err != nil {
			return nil, nil, err
		}
		for _, v := range more {
			if name == model.MetricNameLabel {
				v += suffix
			}
			values = append(values, v)
		}
	}
	slices.Sort(values)
	return slices.Compact(values), warn, nil
}

// LabelNames knows of the names that Select answers to.
func (q rawQuerier) LabelNames(ctx context.Context, hints *storage.LabelHints, ms ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	found, warn, err := q.Querier.LabelNames(ctx, hints, ms...)
	names, others := splitNames(ms)
	if err != nil || len(names) == 0 {
		return found, warn, err
	}
	for _, suffix := range []string{suffixMin, suffixMax} {
		bases, err := q.bases(ctx, suffix, names, others)
		if err != nil {
			return nil, nil, err
		}
		if len(bases) == 0 {
			continue
		}
		more, _, err := q.Querier.LabelNames(ctx, hints, append(slices.Clip(others), oneOf(bases))...)
		if err != nil {
			return nil, nil, err
		}
		found = append(found, more...)
	}
	slices.Sort(found)
	return slices.Compact(found), warn, nil
}

func splitNames(ms []*labels.Matcher) (names, others []*labels.Matcher) {
	for _, m := range ms {
		if m.Name == model.MetricNameLabel {
			names = append(names, m)
		} else {
			others = append(others, m)
		}
	}
	return names, others
}

// oneOf matches the metrics of these names.
func oneOf(names []string) *labels.Matcher {
	if len(names) == 1 {
		return labels.MustNewMatcher(labels.MatchEqual, model.MetricNameLabel, names[0])
	}
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = regexp.QuoteMeta(n)
	}
	return labels.MustNewMatcher(labels.MatchRegexp, model.MetricNameLabel, strings.Join(quoted, "|"))
}

// renamed gives the series of a set another name. Series of one name keep their order; of several they must be sorted again.
func renamed(set storage.SeriesSet, suffix string, sort bool) storage.SeriesSet {
	r := &renamedSet{SeriesSet: set, suffix: suffix}
	if !sort {
		return r
	}
	var all []storage.Series
	for r.Next() {
		all = append(all, r.At())
	}
	if err := r.Err(); err != nil {
		return storage.ErrSeriesSet(err)
	}
	slices.SortFunc(all, func(a, b storage.Series) int { return labels.Compare(a.Labels(), b.Labels()) })
	return newListSet(all)
}

type renamedSet struct {
	storage.SeriesSet
	suffix string
}

func (s *renamedSet) At() storage.Series {
	series := s.SeriesSet.At()
	l := series.Labels()
	return &renamedSeries{Series: series, labels: rename(l, l.Get(model.MetricNameLabel)+s.suffix)}
}

type renamedSeries struct {
	storage.Series
	labels labels.Labels
}

func (s *renamedSeries) Labels() labels.Labels { return s.labels }

// listSet is a set of series that are known already.
type listSet struct {
	series []storage.Series
	at     int
}

func newListSet(series []storage.Series) *listSet { return &listSet{series: series, at: -1} }

func (s *listSet) Next() bool                        { s.at++; return s.at < len(s.series) }
func (s *listSet) At() storage.Series                { return s.series[s.at] }
func (s *listSet) Err() error                        { return nil }
func (s *listSet) Warnings() annotations.Annotations { return nil }
