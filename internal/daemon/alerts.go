package daemon

import (
	"cmp"
	"context"
	"log/slog"
	"math"
	"sync"
	"time"

	"tocsin"
	"tocsin/internal/alert"
	"tocsin/internal/munin"
	"tocsin/internal/probe"
	"tocsin/internal/store"
)

// This file is the pipe of warnings: samples go to the room of rules, what it says about incidents goes to the store and
// from there to whoever tells people.

// The rhythm of warnings.
const (
	alertTick     = 10 * time.Second // or as often as the probes read
	alertSave     = 5 * time.Minute  // of the state, where nothing happens
	alertDrawn    = time.Minute      // between two looks at what munin.conf draws of others
	recallsAtOnce = 50               // curves whose history is read in one tick
	mostUnkept    = 10_000           // turns that wait while the store cannot write
)

// alerter judges what is read.
type alerter struct {
	s     *supervisor
	log   *slog.Logger
	store *store.Watch
	rules *alert.Rules
	// tell hands a change on to those who tell people; nil: nobody does.
	tell func(context.Context, tocsin.Change) error

	mu     sync.Mutex
	e      *alert.Engine
	unkept []store.Turn // that the store has not taken yet
	saved  time.Time
	told   throttle

	writing sync.Mutex // held while the state is written, so that none overtakes another
}

// newAlerter goes on where the last one stopped.
func newAlerter(ctx context.Context, s *supervisor) (*alerter, error) {
	rules, wrong := alert.Compile(alert.Shipped(), s.conf.Rules)
	if len(wrong) > 0 {
		return nil, wrong
	}
	a := &alerter{s: s, log: s.log, store: s.w.store, rules: rules, saved: time.Now()}
	state, last, err := a.store.AlertState(ctx)
	if err != nil {
		return nil, err
	}
	if a.e, err = a.engine(last); err != nil {
		return nil, err
	}
	if len(state) > 0 {
		if err := a.e.Restore(state); err != nil {
			a.log.Error("warnings begin anew", "err", err)
			if a.e, err = a.engine(last); err != nil {
				return nil, err
			}
		}
	}
	return a, a.loadSilences(ctx)
}

func (a *alerter) engine(last int64) (*alert.Engine, error) {
	return alert.New(alert.Options{
		Rules: a.rules, Conf: a.s.master, Own: alert.Node{Group: a.s.own.group, Name: a.s.own.name}, Zone: time.Local, Next: last + 1,
	})
}

func (a *alerter) loadSilences(ctx context.Context) error {
	known, err := a.store.Silences(ctx, time.Now())
	if err != nil {
		return err
	}
	all := make([]alert.Silence, len(known))
	for i, k := range known {
		all[i] = alert.Silence{ID: k.ID, Group: k.Group, Node: k.Node, Rule: k.Rule, By: k.By, Note: k.Note, Made: k.Made, Until: k.Until}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.e.SetSilences(all)
	return nil
}

// take judges what was read of one service: its samples, and those of its values that are unknown.
func (a *alerter) take(key serverKey, desc *munin.Service, r *probe.Reading, samples []tocsin.Sample) {
	if desc == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.e.Read(key.group, key.name, desc)
	if r.Service.Host != "" {
		a.e.Behind(key.group, key.name, cmp.Or(r.Node, a.s.own.name))
	}
	for i := range samples {
		a.e.Observe(&samples[i])
	}
	for i := range r.Values {
		if v := &r.Values[i]; v.V != v.V { // no number: "U"
			a.e.Observe(&tocsin.Sample{
				Series: tocsin.Series{Group: key.group, Node: key.name, Service: cmp.Or(v.Service, r.Service.Name), Field: v.Field},
				T:      r.At.UnixMilli(), Value: v.V,
			})
		}
	}
}

// takeDrawn judges what munin.conf draws of others' curves, by their newest values. A part that nobody knows counts as 0, as it
// is drawn; of what no part is known, that is unknown.
func (a *alerter) takeDrawn(now time.Time) {
	all := a.s.known.drawn()
	if len(all) == 0 {
		return
	}
	last := a.s.lastValues()
	last.since = now.Add(-drawnFor).UnixMilli()
	for _, d := range all {
		samples := make([]tocsin.Sample, 0, len(d.sources))
		for field, of := range d.sources {
			sum, ok, err := last.sum(of)
			if err != nil {
				a.complain("sums of munin.conf cannot be judged", "service", d.desc.Name, "node", d.key.name, "err", err)
				return
			}
			if !ok {
				sum.T, sum.V = now.UnixMilli(), math.NaN()
			}
			samples = append(samples, tocsin.Sample{Series: tocsin.Series{Group: d.key.group, Node: d.key.name, Service: d.desc.Name, Field: field}, T: sum.T, Value: sum.V})
		}
		a.mu.Lock()
		if d.virtual {
			a.e.Drawn(d.key.group, d.key.name, d.desc)
		}
		for i := range samples {
			a.e.Observe(&samples[i])
		}
		a.mu.Unlock()
	}
}

// drawnFor is how old a value may be that is still a part of a sum.
const drawnFor = 10 * time.Minute

// run lets time pass until ctx ends.
func (a *alerter) run(ctx context.Context) {
	a.resume(ctx)
	var looked time.Time
	for {
		if time.Since(looked) >= alertDrawn {
			looked = time.Now()
			a.takeDrawn(looked)
		}
		a.tick(ctx, time.Now())
		a.recall(ctx)
		if !pause(ctx, min(alertTick, a.s.conf.Watch.Interval)) {
			break
		}
	}
	a.keep(context.WithoutCancel(ctx), nil, true)
}

// resume hands on what was kept, but not handed on before the end of the last run.
func (a *alerter) resume(ctx context.Context) {
	if a.tell == nil {
		return
	}
	turns, err := a.store.WaitingTurns(ctx)
	if err != nil {
		a.log.Error("what was not told before the restart cannot be read", "err", err)
		return
	}
	a.hand(ctx, turns)
}

// tick judges the time that has passed, and keeps and hands on what came of it.
func (a *alerter) tick(ctx context.Context, now time.Time) {
	states := a.s.nodes.States()
	a.mu.Lock()
	for i := range states {
		n := &states[i]
		a.e.Asked(n.Group, n.Node, n.Interval)
		switch {
		case !n.FailedAt.IsZero():
			a.e.Silent(n.Group, n.Node, n.FailedAt)
		case !n.Last.IsZero():
			a.e.Answers(n.Group, n.Node)
		}
	}
	changes := a.e.Tick(now)
	a.mu.Unlock()
	turns := make([]store.Turn, len(changes))
	for i, c := range changes {
		turns[i] = store.Turn{Change: c}
		a.log.Info("incident "+c.Turn.String(), "n", c.ID, "rule", c.Rule, "node", c.Node, "group", c.Group, "service", c.Series.Service, "field", c.Series.Field, "level", c.Level.String())
	}
	a.keep(ctx, turns, now.Sub(a.savedAt()) >= alertSave)
}

func (a *alerter) savedAt() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.saved
}

// keep writes turns, and the state with them, and then hands on what is to be told. What cannot be written waits for the next
// time; people are told all the same.
func (a *alerter) keep(ctx context.Context, turns []store.Turn, always bool) {
	a.writing.Lock()
	defer a.writing.Unlock()
	a.mu.Lock()
	all := append(a.unkept, turns...)
	a.unkept = nil
	if len(all) == 0 && !always {
		a.mu.Unlock()
		return
	}
	state, err := a.e.Snapshot()
	a.saved = time.Now()
	a.mu.Unlock()
	if err == nil {
		err = a.store.PutTurns(ctx, all, state)
	}
	if err != nil {
		a.complain("incidents could not be kept, trying again", "n", len(all), "err", err)
	}
	a.hand(ctx, all)
	if err != nil {
		a.mu.Lock()
		a.unkept = all[max(0, len(all)-mostUnkept):]
		a.mu.Unlock()
	}
}

// complain logs an error, but not every ten seconds.
func (a *alerter) complain(msg string, args ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.told.say(time.Now(), func(int) { a.log.Error(msg, args...) })
}

// hand gives turns to those who tell people.
func (a *alerter) hand(ctx context.Context, turns []store.Turn) {
	if a.tell == nil {
		return
	}
	var done []int64
	for i := range turns {
		t := &turns[i]
		if !t.Tell || t.Handed {
			continue
		}
		t.Handed = true
		if err := a.tell(ctx, t.Change); err != nil {
			a.log.Error("somebody could not be told", "n", t.ID, "err", err)
		}
		if t.N != 0 {
			done = append(done, t.N)
		}
	}
	if len(done) == 0 {
		return
	}
	if err := a.store.Handed(ctx, done); err != nil {
		a.log.Error("what was told may be told again after a restart", "n", len(done), "err", err)
	}
}

// recall reads the history that rules compare with.
func (a *alerter) recall(ctx context.Context) {
	a.mu.Lock()
	wants := a.e.Wants(recallsAtOnce)
	a.mu.Unlock()
	for _, w := range wants {
		var points []alert.Point
		for _, span := range w.Spans {
			found, err := a.s.db.Read(ctx, w.Series, span[0], span[1], w.Step)
			if err != nil {
				a.complain("the history that a rule compares with cannot be read", "service", w.Service, "node", w.Node, "err", err)
				break
			}
			for _, p := range found {
				points = append(points, alert.Point{T: p.T, Value: p.Avg})
			}
		}
		a.mu.Lock()
		a.e.Recall(w, points)
		a.mu.Unlock()
	}
}

// forget takes a server out.
func (a *alerter) forget(key serverKey) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.e.Forget(key.group, key.name)
}
