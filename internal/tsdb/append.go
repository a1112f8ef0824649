package tsdb

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"
	"unicode/utf8"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"golang.org/x/sys/unix"

	"tocsin"
	"tocsin/internal/remotewrite"
)

// Metric is the name of every series in Munin's words: munin{group=,node=,service=,field=}.
const Metric = "munin"

// Bounds of what a stranger may send.
const (
	maxLabels     = 64
	maxLabelName  = 256
	maxLabelValue = 2048
	maxAhead      = int64(10 * time.Minute / time.Millisecond)
)

// Taken says what became of the samples of one call. What was not stored is dropped for good.
type Taken struct {
	Stored  int
	Late    int // of Stored: they came after a newer one of the same series
	Double  int // there is one of that time already
	TooOld  int
	TooNew  int
	Bad     int    // labels too many, too long or not valid
	TooMany int    // of new series beyond Options.MaxSeries
	First   string // the first sample that was dropped, and why; hostile
}

// Dropped is how many samples were not stored.
func (t *Taken) Dropped() int { return t.Double + t.TooOld + t.TooNew + t.Bad + t.TooMany }

// Append stores samples. When it returns without an error they are in the write-ahead log: a process killed then has not lost
// them. Samples that are late by more than Options.Lateness, ahead of the clock, doubles or unknown (NaN) are dropped and
// counted; only ErrFull, ErrOpening and errors of the disk are errors, and then none of the samples was taken.
func (d *DB) Append(ctx context.Context, samples []tocsin.Sample) (Taken, error) {
	b := labels.NewScratchBuilder(5)
	return d.append(ctx, len(samples), func(take func(labels.Labels, int64, float64)) {
		for i := range samples {
			s := &samples[i]
			if math.IsNaN(s.Value) {
				continue
			}
			take(seriesLabels(&b, Metric, s.Series), s.T, s.Value)
		}
	})
}

// AppendLabels stores series of any labels, as remote write sends them; stale markers are kept too. It is as Append else.
func (d *DB) AppendLabels(ctx context.Context, series []remotewrite.Series) (Taken, error) {
	b := labels.NewScratchBuilder(16)
	n := 0
	for i := range series {
		n += len(series[i].Points)
	}
	return d.append(ctx, n, func(take func(labels.Labels, int64, float64)) {
		for i := range series {
			l := foreignLabels(&b, series[i].Labels)
			for _, p := range series[i].Points {
				if !math.IsNaN(p.V) || value.IsStaleNaN(p.V) {
					take(l, p.T, p.V)
				}
			}
		}
	})
}

// seriesLabels are the labels of a series in Munin's words; they are in order.
func seriesLabels(b *labels.ScratchBuilder, name string, s tocsin.Series) labels.Labels {
	b.Reset()
	b.Add(model.MetricNameLabel, name)
	for _, l := range [...]labels.Label{{Name: "field", Value: s.Field}, {Name: "group", Value: s.Group}, {Name: "node", Value: s.Node}, {Name: "service", Value: s.Service}} {
		if l.Value != "" {
			b.Add(l.Name, l.Value)
		}
	}
	return b.Labels()
}

// foreignLabels are a stranger's labels, in order; none if there are too many. One without a value is none.
func foreignLabels(b *labels.ScratchBuilder, ls []remotewrite.Label) labels.Labels {
	b.Reset()
	if len(ls) > maxLabels {
		return labels.EmptyLabels()
	}
	for _, l := range ls {
		if l.Value != "" {
			b.Add(l.Name, l.Value)
		}
	}
	b.Sort()
	return b.Labels()
}

func (d *DB) append(ctx context.Context, n int, each func(take func(labels.Labels, int64, float64))) (Taken, error) {
	if !d.hasRoom() {
		d.refuse(n)
		return Taken{}, ErrFull
	}
	if err := d.mend(); err != nil {
		d.refuse(n)
		return Taken{}, err
	}
	end, err := d.begin()
	if err != nil {
		d.refuse(n)
		return Taken{}, err
	}
	defer end()

	b := &batch{d: d, app: d.raw.Appender(ctx), known: d.raw.Head().NumSeries() < uint64(d.o.MaxSeries)}
	now := d.now()
	b.oldest, b.newest = now-d.o.Lateness.Milliseconds(), now+maxAhead
	b.news = make([]news, 0, n)
	each(b.take)
	if err := b.app.Commit(); err != nil {
		d.refuse(n)
		d.broken.Store(true)
		if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
			d.mu.Lock()
			d.setFull(true, "err", err)
			d.mu.Unlock()
			return Taken{}, ErrFull
		}
		return Taken{}, fmt.Errorf("store samples: %w", err)
	}
	d.count(b)
	return b.taken, nil
}

// batch is one call of Append on its way.
type batch struct {
	d              *DB
	app            storage.Appender
	known          bool // there is room for new series
	oldest, newest int64
	taken          Taken
	news           []news
}

// news is a sample that was taken.
type news struct {
	ref storage.SeriesRef
	lastValue
}

func (b *batch) take(l labels.Labels, t int64, v float64) {
	switch {
	case !b.valid(l):
		b.drop(&b.taken.Bad, l, t, "its labels are not valid, too many or too long")
		return
	case t < b.oldest:
		b.drop(&b.taken.TooOld, l, t, "it is too old")
		return
	case t > b.newest:
		b.drop(&b.taken.TooNew, l, t, "it is ahead of the clock")
		return
	case !b.known && !b.exists(l):
		b.drop(&b.taken.TooMany, l, t, "there are too many series")
		return
	}
	ref, err := b.app.Append(0, l, t, v)
	switch {
	case err == nil:
		b.news = append(b.news, news{ref, lastValue{t, v}})
	case errors.Is(err, storage.ErrDuplicateSampleForTimestamp):
		b.drop(&b.taken.Double, l, t, "there is one of that time")
	case errors.Is(err, storage.ErrTooOldSample), errors.Is(err, storage.ErrOutOfBounds), errors.Is(err, storage.ErrOutOfOrderSample):
		b.drop(&b.taken.TooOld, l, t, "it is out of order")
	default:
		b.drop(&b.taken.Bad, l, t, err.Error())
	}
}

// valid says whether labels are within our bounds. They are in order.
func (b *batch) valid(l labels.Labels) bool {
	named := false
	before := ""
	err := l.Validate(func(l labels.Label) error {
		if l.Name == "" || l.Name == before || len(l.Name) > maxLabelName || len(l.Value) > maxLabelValue ||
			!utf8.ValidString(l.Name) || !utf8.ValidString(l.Value) {
			return errBounds
		}
		before, named = l.Name, named || l.Name == model.MetricNameLabel
		return nil
	})
	return err == nil && named
}

var errBounds = errors.New("out of bounds")

func (b *batch) exists(l labels.Labels) bool {
	g, ok := b.app.(storage.GetRef)
	if !ok {
		return false
	}
	ref, _ := g.GetRef(l, l.Hash())
	return ref != 0
}

func (b *batch) drop(counter *int, l labels.Labels, t int64, why string) {
	*counter++
	if b.taken.First == "" {
		b.taken.First = fmt.Sprintf("%s at %s: %s", l, time.UnixMilli(t).UTC().Format(time.RFC3339), why)
	}
}

// count remembers the last values and what became of the samples.
func (d *DB) count(b *batch) {
	d.mu.Lock()
	defer d.mu.Unlock()
	t := &b.taken
	for _, n := range b.news {
		old, ok := d.last[n.ref]
		switch {
		case ok && old.t == n.t:
			t.Double++
			continue
		case ok && old.t > n.t && old.t <= b.newest:
			t.Late++
		default:
			d.last[n.ref] = n.lastValue
		}
		t.Stored++
	}
	s := &d.stats
	s.Appended += int64(t.Stored)
	s.Late += int64(t.Late)
	s.Double += int64(t.Double)
	s.TooOld += int64(t.TooOld)
	s.TooNew += int64(t.TooNew)
	s.Bad += int64(t.Bad)
	s.TooMany += int64(t.TooMany)
}

func (d *DB) refuse(n int) {
	d.mu.Lock()
	d.stats.Refused += int64(n)
	d.mu.Unlock()
}

// mend opens raw anew after its write-ahead log failed, for the log may end in half a record: what is written behind that
// would be lost at the next start.
func (d *DB) mend() error {
	if !d.broken.Load() {
		return nil
	}
	d.use.Lock()
	defer d.use.Unlock()
	if !d.broken.Load() || d.closed {
		return nil
	}
	if err := d.closeRaw(); err != nil {
		d.o.Log.Debug("the store of samples was closed after a failure", "err", err)
	}
	if d.raw, d.failed = d.openRaw(); d.failed != nil {
		d.failed = fmt.Errorf("open the samples again after the disk failed; the next sample tries it again: %w", d.failed)
		return d.failed
	}
	d.broken.Store(false)
	d.mu.Lock()
	clear(d.last) // the numbers of series are new
	clear(d.quiet)
	d.mu.Unlock()
	return nil
}
