package daemon

import (
	"cmp"
	"context"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/common/model"

	"tocsin"
	"tocsin/internal/remotewrite"
)

// This file is about samples that come behind what another store has already: of a node whose poll took long, of an agent that
// catches up. What is written window by window has passed them, so they wait in a queue of their own, and are sent in requests
// of their own: a store that takes nothing late refuses a whole request.

const (
	mostLate = 50_000    // samples that wait for one store; more are counted and not sent
	lateFor  = time.Hour // what is older is not taken by our own store either
)

// noteLate queues those samples of ours that were kept after their time had been written elsewhere.
func (s *supervisor) noteLate(samples []tocsin.Sample) {
	for _, r := range s.remotes {
		passed, oldest := r.passed.Load(), time.Now().Add(-lateFor).UnixMilli()
		for i := range samples {
			if t := samples[i].T; t <= passed && t >= oldest && !math.IsNaN(samples[i].Value) {
				r.late.add(remotewrite.Series{Labels: labelsOf(samples[i].Series), Points: []remotewrite.Point{{T: t, V: samples[i].Value}}})
			}
		}
	}
}

// noteLateSeries is noteLate for what others wrote to us.
func (s *supervisor) noteLateSeries(series []remotewrite.Series) {
	for _, r := range s.remotes {
		passed, oldest := r.passed.Load(), time.Now().Add(-lateFor).UnixMilli()
		for i := range series {
			for _, p := range series[i].Points {
				if p.T <= passed && p.T >= oldest && !math.IsNaN(p.V) {
					r.late.add(remotewrite.Series{Labels: series[i].Labels, Points: []remotewrite.Point{p}})
				}
			}
		}
	}
}

// labelsOf are the labels that our store gives a series, in order.
func labelsOf(s tocsin.Series) (ls []remotewrite.Label) {
	ls = append(ls, remotewrite.Label{Name: model.MetricNameLabel, Value: "munin"})
	for _, l := range [...]remotewrite.Label{{Name: "field", Value: s.Field}, {Name: "group", Value: s.Group}, {Name: "node", Value: s.Node}, {Name: "service", Value: s.Service}} {
		if l.Value != "" {
			ls = append(ls, l)
		}
	}
	return ls
}

// lateQueue holds late samples, each as a series of one point, until they are sent.
type lateQueue struct {
	mu      sync.Mutex
	all     []remotewrite.Series
	dropped uint64
}

func (q *lateQueue) add(one remotewrite.Series) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.all) >= mostLate {
		q.dropped++
		return
	}
	q.all = append(q.all, one)
}

// take takes the n oldest samples out, in order of time.
func (q *lateQueue) take(n int) []remotewrite.Series {
	q.mu.Lock()
	defer q.mu.Unlock()
	slices.SortStableFunc(q.all, func(a, b remotewrite.Series) int { return cmp.Compare(a.Points[0].T, b.Points[0].T) })
	batch := slices.Clone(q.all[:min(n, len(q.all))])
	q.all = slices.Delete(q.all, 0, len(batch))
	return batch
}

func (q *lateQueue) lost() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.dropped
}

// sendLate sends what came late. While the other store does not answer it waits there; the queue ends with the process.
func (r *remote) sendLate(ctx context.Context) {
	for ctx.Err() == nil {
		batch := r.late.take(remoteBatch)
		if len(batch) == 0 {
			return
		}
		if err := r.send(ctx, batch); err != nil {
			return
		}
	}
}

// spread are the earliest and the latest time in a batch.
func spread(batch []remotewrite.Series) (first, last int64) {
	first, last = math.MaxInt64, math.MinInt64
	for _, s := range batch {
		for _, p := range s.Points {
			first, last = min(first, p.T), max(last, p.T)
		}
	}
	return first, last
}

// splitAt parts a batch into what is up to a time and what is after it.
func splitAt(batch []remotewrite.Series, t int64) (until, after []remotewrite.Series) {
	for _, s := range batch {
		n, _ := slices.BinarySearchFunc(s.Points, t+1, func(p remotewrite.Point, t int64) int { return cmp.Compare(p.T, t) })
		if n > 0 {
			until = append(until, remotewrite.Series{Labels: s.Labels, Points: s.Points[:n]})
		}
		if n < len(s.Points) {
			after = append(after, remotewrite.Series{Labels: s.Labels, Points: s.Points[n:]})
		}
	}
	return until, after
}
