package report

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"tocsin"
)

// sender makes one call for a job and says what became of it. It repeats nothing.
type sender interface {
	Send(context.Context, Job) Answer
}

// keeper keeps what changed, on the disk when it returns. renewed says that the file was lost: everything has to be given again.
type keeper interface {
	Reports(context.Context) (tocsin.ReportState, error)
	Apply(context.Context, tocsin.ReportChange) (renewed bool, err error)
}

// Reporter runs a queue: it keeps what changes and sends what is due.
//
// Its clock starts at the machine's and goes on by itself, so that a clock that is set does not move it; over a restart it
// never goes back. Times that it is given and that it tells are the machine's.
type Reporter struct {
	keep   keeper
	send   sender
	log    *slog.Logger
	wall   func() time.Time // time.Now but in tests
	start  time.Time        // of wall
	offset time.Duration    // our clock less wall at start

	spare func(netip.Prefix) Why // Options.Spare, which is asked without the lock
	o     Options                // as the queue's, but for Spare

	mu     sync.Mutex           // held while the disk is waited for
	told   map[netip.Prefix]Why // by spare, for the change under way
	q      *Queue
	broken error // what could not be kept: the queue is ahead of the disk
	stats  atomic.Pointer[Stats]
	wake   chan struct{} // something was put in; holds one
}

// NewReporter reads what was kept. Nothing is sent before Run.
func NewReporter(ctx context.Context, o Options, keep keeper, send sender, log *slog.Logger) (*Reporter, error) {
	return newReporter(ctx, o, keep, send, log, time.Now)
}

func newReporter(ctx context.Context, o Options, keep keeper, send sender, log *slog.Logger, wall func() time.Time) (*Reporter, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s, err := keep.Reports(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the reports: %w", err)
	}
	r := &Reporter{keep: keep, send: send, log: log, wall: wall, start: wall(), wake: make(chan struct{}, 1)}
	if last := Clock(s); last.After(r.start) {
		r.offset = last.Sub(r.start)
	}
	if o, err = o.checked(); err != nil {
		return nil, fmt.Errorf("reports: %w", err)
	}
	r.spare = o.Spare
	o.Spare = func(p netip.Prefix) Why {
		if why, ok := r.told[p]; ok {
			return why
		}
		return unasked
	}
	r.o = o
	now := r.now()
	if r.q, err = New(o, s, now); err != nil {
		return nil, err
	}
	r.tell(now)
	return r, nil
}

// now is our clock: the time since the start is counted by the machine's steady clock.
func (r *Reporter) now() time.Time {
	return r.start.Round(0).Add(r.wall().Sub(r.start) + r.offset).UTC()
}

// ours brings a time of the machine's clock onto ours, behind is that backwards.
func ours(t time.Time, behind time.Duration) time.Time {
	if t.IsZero() {
		return t
	}
	return t.Round(0).Add(behind)
}

// behind is our clock less the machine's now.
func (r *Reporter) behind(now time.Time) time.Duration { return now.Sub(r.wall().Round(0)) }

// ask asks Spare, which may take its time, about each prefix once.
func (r *Reporter) ask(ctx context.Context, ps []netip.Prefix) map[netip.Prefix]Why {
	told := make(map[netip.Prefix]Why, len(ps))
	for _, p := range ps {
		if _, known := told[p]; !known && ctx.Err() == nil {
			told[p] = r.spare(p)
		}
	}
	return told
}

// doTold is do with the answers of Spare that the change asks for.
func (r *Reporter) doTold(ctx context.Context, told map[netip.Prefix]Why, change func(now time.Time)) error {
	return r.do(ctx, func(now time.Time) {
		r.told = told
		change(now)
		r.told = nil
	})
}

// do changes the queue and keeps the change. It waits for the disk as long as ctx lasts; if that ends first the reporter is
// broken, for what is kept is no longer what is known, and everything fails from then on.
func (r *Reporter) do(ctx context.Context, change func(now time.Time)) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.broken != nil {
		return r.broken
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	now := r.now()
	change(now)
	defer r.tell(now)
	c, empty := r.q.Changes(now)
	if empty {
		return nil
	}
	pause := 50 * time.Millisecond
	for tries := 1; ; tries++ {
		renewed, err := r.keep.Apply(ctx, c)
		switch {
		case err == nil && renewed:
			c = r.q.everything(now)
			continue
		case err == nil:
			if tries > 1 {
				r.log.Info("reports kept again", "n", tries)
			}
			return nil
		case tries == 1:
			r.log.Warn("reports not kept, nothing is sent until they are", "err", err)
		}
		if renewed {
			c = r.q.everything(now)
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			r.broken = fmt.Errorf("keep the reports: %w", errors.Join(err, ctx.Err()))
			return r.broken
		}
		pause = min(2*pause, 10*time.Second)
	}
}

func (r *Reporter) tell(now time.Time) {
	s := r.q.Stats(now)
	behind := r.behind(now)
	for _, e := range []*EndpointStats{&s.Single, &s.Bulk} {
		e.Reset, e.Rest = ours(e.Reset, -behind), ours(e.Rest, -behind)
	}
	s.Skew += behind
	r.stats.Store(&s)
}

// Stats returns the counters as of the last change. It never waits.
func (r *Reporter) Stats() Stats { return *r.stats.Load() }

// Begin sets the cursor of a reporter that has taken in nothing yet: the guard's decisions up to n are not reported.
func (r *Reporter) Begin(ctx context.Context, n int64) error {
	return r.do(ctx, func(time.Time) { r.q.Begin(n) })
}

// Cursor is the number of the guard's last decision that is known and kept.
func (r *Reporter) Cursor() int64 { return r.Stats().Cursor }

// Take takes in decisions as Queue.Take does, with times of the machine's clock. When it returns nil they are kept, together
// with the cursor: the same decisions taken again change nothing. ctx is the program's: if it ends while the disk does not
// answer, the reporter is of no more use.
func (r *Reporter) Take(ctx context.Context, ds []Decision, complete bool) error {
	var ps []netip.Prefix
	moved := make([]Decision, len(ds))
	now := r.now()
	behind, cursor := r.behind(now), r.Cursor()
	for i, d := range ds {
		d.At, d.First, d.Last = ours(d.At, behind), ours(d.First, behind), ours(d.Last, behind)
		moved[i] = d
		if d.N <= cursor || d.Action == tocsin.Unban {
			continue
		}
		if addr, why := r.o.byItself(&d, now); why == Yes {
			asked := d.asked(addr)
			ps = append(ps, asked[:]...)
		}
	}
	err := r.doTold(ctx, r.ask(ctx, ps), func(now time.Time) { r.q.Take(now, moved, complete) })
	r.poke()
	return err
}

// Report queues a report that an operator asks for, as Queue.ByHand does.
func (r *Reporter) Report(ctx context.Context, addr netip.Addr, categories []int) (why Why, err error) {
	var wrong error
	var ps []netip.Prefix
	if addr = addr.Unmap().WithZone(""); addr.IsValid() {
		ps = append(ps, keyOf(addr))
	}
	err = r.doTold(ctx, r.ask(ctx, ps), func(now time.Time) { why, wrong = r.q.ByHand(now, addr, categories) })
	r.poke()
	return why, errors.Join(wrong, err)
}

// Forget drops what was not sent yet about an address, and says whether there was anything.
func (r *Reporter) Forget(ctx context.Context, addr netip.Addr) (was bool, err error) {
	err = r.do(ctx, func(now time.Time) { was = r.q.Forget(now, addr) })
	return was, err
}

// List is what waits, as it would be sent, the oldest first, at most n.
func (r *Reporter) List(n int) []Out {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.q.List(r.now(), n)
}

func (r *Reporter) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// finish is how long a call that is under way may go on, and its answer be kept, when the program ends.
const finish = 3 * time.Second

// Run sends until ctx ends. A call that is under way then gets 3 s more, so that its answer is not lost for nothing.
func (r *Reporter) Run(ctx context.Context) error {
	late, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(finish, cancel) })
	defer stop()
	for {
		wait, err := r.step(ctx, late)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-r.wake:
			timer.Stop()
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
	}
}

// step sends what is due, if there is anything, and says how long to wait for the next step.
func (r *Reporter) step(ctx, late context.Context) (wait time.Duration, err error) {
	var j Job
	err = r.doTold(ctx, r.ask(ctx, r.ahead()), func(now time.Time) {
		var wake time.Time
		j, wake = r.q.Next(now)
		wait = max(wake.Sub(now), 0)
	})
	if err != nil || len(j.Reports) == 0 {
		return wait, err
	}
	a := r.send.Send(late, j)
	before := r.Stats()
	err = r.do(late, func(now time.Time) { r.q.Answer(now, j, a) })
	r.log.Debug("reported", "n", len(j.Reports), "err", a.Detail)
	r.say(j, before, r.Stats(), a)
	return 0, err
}

// ahead is Queue.Ahead. What it moves on is kept with the next change; until then nothing is sent.
func (r *Reporter) ahead() []netip.Prefix {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.q.Ahead(r.now())
}

// say logs what somebody should know: that reports stopped, and that a quota ran out.
func (r *Reporter) say(j Job, before, after Stats, a Answer) {
	what, ep := "reports", after.Single
	if j.Bulk {
		what, ep = "bulk reports", after.Bulk
	}
	switch {
	case after.Stopped != 0 && before.Stopped == 0:
		r.log.Error("no reports are sent any more until the key or the account is set right", "err", a.Detail)
	case a.Outcome == Exhausted:
		r.log.Info("the day's quota is used up", "service", what, "until", ep.Rest)
	case (a.Outcome == Failed || a.Outcome == Lost) && ep.Fails == 1:
		r.log.Warn("a report was not answered, trying again", "service", what, "err", a.Detail)
	case a.Outcome == Refused:
		r.log.Warn("a report was refused and put aside", "service", what, "err", a.Detail)
	}
}
