package daemon

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"

	"tocsin"
	"tocsin/internal/config"
	"tocsin/internal/remotewrite"
	"tocsin/internal/tsdb"
)

// The rhythm of what is written to other stores.
const (
	remoteEvery  = 15 * time.Second
	remoteBehind = 5 * time.Second // samples of a moment come one after the other
	remoteWindow = 5 * time.Minute // of samples at a time, when there is much to catch up with
	remoteBatch  = 2000            // samples of a request, as Prometheus sends them
	remoteMost   = 5 * time.Minute // between two attempts
	maxToken     = 4 << 10
)

// remote writes every sample to another store, from our own: while that one is away nothing is lost but what grows older than
// our samples are kept as they came.
type remote struct {
	s      *supervisor
	client *remotewrite.Client
	name   string       // of the number that the store keeps
	passed atomic.Int64 // up to here (Unix ms) samples are written or being written; what comes later of that time is late
	late   lateQueue
	sent   atomic.Uint64
	refuse atomic.Uint64 // samples
	told   throttle
	vain   int // requests that were refused since one was taken
}

func (s *supervisor) newRemote(c *config.Remote) *remote {
	h := fnv.New64a()
	_, _ = h.Write([]byte(c.URL)) // it never fails (hash.Hash)
	return &remote{s: s, name: fmt.Sprintf("remote.%016x", h.Sum64()), client: remotewrite.NewClient(c.URL, s.w.o.Version, func() (string, error) { return readToken(c.TokenFile) })}
}

// readToken reads the file of a token; without a file there is none.
func readToken(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	text, err := os.ReadFile(path)
	if err == nil && len(text) > maxToken {
		err = fmt.Errorf("%s is no token: it has more than %d bytes", path, maxToken)
	}
	return strings.TrimSpace(string(text)), err
}

// run writes until ctx ends.
func (r *remote) run(ctx context.Context) {
	at := r.begin(ctx)
	r.passed.Store(at.UnixMilli())
	wait := remoteEvery
	for pause(ctx, wait) {
		wait = remoteEvery
		for until := time.Now().Add(-remoteBehind); at.Before(until) && ctx.Err() == nil; {
			next := at.Add(remoteWindow)
			if next.After(until) {
				next = until
			}
			r.passed.Store(next.UnixMilli())
			if err := r.window(ctx, at, next); err != nil {
				if ctx.Err() == nil && !errors.Is(err, tsdb.ErrOpening) { // the store tells of that itself
					r.told.say(time.Now(), func(int) { r.s.log.Warn("samples are not taken elsewhere, trying again", "err", err) })
				}
				break
			}
			at = next
			r.save(ctx, at)
		}
		r.sendLate(ctx)
	}
}

// begin is from when on samples have to be written: where we were, or now.
func (r *remote) begin(ctx context.Context) time.Time {
	now := time.Now()
	state, err := r.s.w.store.Reports(ctx)
	if err != nil {
		r.s.log.Error("what was written elsewhere is not known; going on from now", "err", err)
		return now
	}
	at, ok := state.Numbers[r.name]
	if !ok {
		return now
	}
	oldest := now.Add(-r.s.conf.Retention.Samples)
	if t := time.UnixMilli(at); t.After(oldest) && t.Before(now) {
		return t
	}
	return now
}

func (r *remote) save(ctx context.Context, at time.Time) {
	if _, err := r.s.w.store.Apply(ctx, tocsin.ReportChange{Numbers: map[string]int64{r.name: at.UnixMilli()}}); err != nil && ctx.Err() == nil {
		r.s.log.Error("what was written elsewhere could not be noted; after a restart some is sent again", "err", err)
	}
}

// window writes the samples of (from, to]. An error says that they have to be written again, all of them: doubles do no harm.
func (r *remote) window(ctx context.Context, from, to time.Time) error {
	// Minima and maxima of samples as they came are these samples again.
	found, err := r.s.db.Query(ctx, fmt.Sprintf(`{__name__=~".+",__name__!~".+:(min|max)"}[%dms]`, to.Sub(from).Milliseconds()), to)
	if err != nil {
		return err
	}
	all, _ := found.Value.(promql.Matrix)
	var batch []remotewrite.Series
	n := 0
	for i := range all {
		for points := all[i].Floats; len(points) > 0; {
			take := min(len(points), remoteBatch-n)
			batch = append(batch, remoteSeries(all[i].Metric, points[:take]))
			points, n = points[take:], n+take
			if n == remoteBatch {
				if err := r.send(ctx, batch); err != nil {
					return err
				}
				batch, n = batch[:0], 0
			}
		}
	}
	if n == 0 {
		return nil
	}
	return r.send(ctx, batch)
}

func remoteSeries(metric labels.Labels, points []promql.FPoint) (s remotewrite.Series) {
	metric.Range(func(l labels.Label) { s.Labels = append(s.Labels, remotewrite.Label{Name: l.Name, Value: l.Value}) })
	for _, p := range points {
		s.Points = append(s.Points, remotewrite.Point{T: p.T, V: p.F})
	}
	return s
}

// mostHalves is how often a batch that is refused is parted, and mostVain how many requests are refused in a row before none is.
const (
	mostHalves = 5
	mostVain   = 100
)

// send writes one batch, as long as it takes while the other store may take it later.
func (r *remote) send(ctx context.Context, batch []remotewrite.Series) error {
	return r.sendParts(ctx, batch, mostHalves)
}

// sendParts is send. Prometheus refuses a whole request for one sample that is older than what it has of that series, as after
// a restart of ours, when some are sent again. So what is refused is sent in two parts, the older and the newer samples, and
// each of them again, a few times. What the store will never take is counted.
func (r *remote) sendParts(ctx context.Context, batch []remotewrite.Series, parts int) error {
	refused, err := r.sendOnce(ctx, batch)
	if err != nil || refused == nil {
		return err
	}
	if first, last := spread(batch); parts > 0 && first < last && r.vain < mostVain {
		until, after := splitAt(batch, first+(last-first)/2)
		if err := r.sendParts(ctx, until, parts-1); err != nil {
			return err
		}
		return r.sendParts(ctx, after, parts-1)
	}
	r.refuse.Add(pointsOf(batch))
	r.told.say(time.Now(), func(int) {
		r.s.log.Error("samples are refused elsewhere", "n", r.refuse.Load(), "err", tocsin.Printable(refused.Error()))
	})
	return nil
}

func pointsOf(batch []remotewrite.Series) (n uint64) {
	for i := range batch {
		n += uint64(len(batch[i].Points))
	}
	return n
}

// sendOnce writes until the other store takes it or refuses it.
func (r *remote) sendOnce(ctx context.Context, batch []remotewrite.Series) (refused *remotewrite.RefusedError, err error) {
	wait := time.Second
	for {
		err := r.client.Send(ctx, batch)
		var later *remotewrite.LaterError
		switch {
		case err == nil:
			r.sent.Add(pointsOf(batch))
			r.vain = 0
			return nil, nil
		case errors.As(err, &refused):
			r.vain++
			return refused, nil
		case errors.As(err, &later):
			wait = max(wait, later.After)
		}
		r.told.say(time.Now(), func(int) { r.s.log.Warn("samples are not taken elsewhere, trying again", "err", err) })
		if !pause(ctx, wait) {
			return nil, ctx.Err()
		}
		wait = min(2*wait, remoteMost)
	}
}
