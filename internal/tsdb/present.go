package tsdb

import (
	"context"
	"slices"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	prom "github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	promtsdb "github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// present answers what an instant query asks of raw from the last values in memory, which is some thirty times cheaper than
// to unpack each series' last chunk. It answers only what it can answer exactly: ok is false where a series has a value
// newer than that instant, or where the name asked for may be one of those that raw makes up (see rawQuerier).
func (d *DB) present(ctx context.Context, at int64, ms []*labels.Matcher) (set storage.SeriesSet, ok bool, err error) {
	if !slices.ContainsFunc(ms, func(m *labels.Matcher) bool {
		return m.Name == model.MetricNameLabel && m.Type == labels.MatchEqual && !strings.Contains(m.Value, ":")
	}) {
		return nil, false, nil
	}
	ix, err := d.raw.Head().Index()
	if err != nil {
		return nil, false, err
	}
	defer ix.Close()
	refs, err := promtsdb.PostingsForMatchers(ctx, ix, ms...)
	if err != nil {
		return nil, false, err
	}
	var all []storage.Series
	var b labels.ScratchBuilder
	d.mu.Lock()
	defer d.mu.Unlock()
	for refs.Next() {
		v, known := d.last[refs.At()]
		if !known || v.t > at {
			return nil, false, nil
		}
		if v.t <= at-rawHold || prom.IsStaleNaN(v.v) {
			continue
		}
		if err := ix.Series(refs.At(), &b, nil); err != nil {
			continue // it was forgotten meanwhile
		}
		all = append(all, &presentSeries{b.Labels(), v})
	}
	return newListSet(all), refs.Err() == nil, refs.Err()
}

// presentSeries is a series of one sample.
type presentSeries struct {
	labels labels.Labels
	lastValue
}

func (s *presentSeries) Labels() labels.Labels { return s.labels }

func (s *presentSeries) Iterator(old chunkenc.Iterator) chunkenc.Iterator {
	h, ok := old.(*floats)
	if !ok {
		h = &floats{}
	}
	h.held = held{points: &single{lastValue: s.lastValue}, from: s.t, to: s.t}
	return h
}

// single is one point.
type single struct {
	lastValue
	steps int // 0: before the point, 1: on it, 2: behind it
}

func (s *single) next() bool {
	s.steps = min(2, s.steps+1)
	return s.steps == 1
}

func (s *single) seek(t millis) bool {
	if s.steps == 1 && s.t >= t || s.steps == 0 && s.next() && s.t >= t {
		return true
	}
	s.steps = 2
	return false
}

func (s *single) at() (int64, float64, int64) { return s.t, s.v, 0 }
func (s *single) err() error                  { return nil }
