package probe

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// SetOptions are what a Set needs.
type SetOptions struct {
	Host   *Host   // with the interval, 1 s to 1 h
	Probes []Probe // nil: the table
	// Deliver takes what was read, one call at a time. Everything waits for it, so it should only hand on.
	Deliver func([]Reading)
	// Root reads a probe marked Root, and says what processor time that took elsewhere; nil if we are root ourselves. An Off
	// error means the same as from a reader.
	Root func(ctx context.Context, name string) ([]Reading, time.Duration, error)
}

// Set runs the built-in probes.
type Set struct {
	deliver func([]Reading)
	mu      sync.Mutex // held while deliver runs
	turns   []*turns
}

// NewSet checks the options. It reads nothing yet.
func NewSet(o SetOptions) (*Set, error) {
	if o.Host == nil || o.Deliver == nil {
		return nil, errors.New("a set of probes needs a host, and somebody to deliver to")
	}
	usual := o.Host.interval()
	if usual < time.Second || usual > time.Hour {
		return nil, errors.New("the interval of probes is not within 1s and 1h")
	}
	if o.Probes == nil {
		o.Probes = Probes()
	}
	s := &Set{deliver: o.Deliver}
	for _, p := range o.Probes {
		interval := p.Interval
		if interval == 0 {
			interval = usual
		}
		t := &turns{
			name: p.Name, interval: interval, timeout: p.timeout(interval), take: (&held{p: &p, h: o.Host}).read,
			state: State{Name: p.Name, Interval: interval, Root: p.Root, Doubles: p.Doubles},
		}
		if p.Root && o.Root != nil {
			t.take = func(ctx context.Context) ([]Reading, error) {
				rs, used, err := o.Root(ctx, p.Name)
				t.spent.Add(int64(used))
				return rs, err
			}
		}
		s.turns = append(s.turns, t)
	}
	return s, nil
}

// Run reads the probes until ctx ends.
func (s *Set) Run(ctx context.Context) { runAll(ctx, s.turns, s.hand) }

func (s *Set) hand(rs []Reading) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deliver(rs)
}

func runAll(ctx context.Context, all []*turns, deliver func([]Reading)) {
	var wg sync.WaitGroup
	for _, t := range all {
		wg.Go(func() { t.run(ctx, deliver) })
	}
	wg.Wait()
}

// States says how each probe does, in the order of the table.
func (s *Set) States() []State {
	all := make([]State, len(s.turns))
	for i, t := range s.turns {
		all[i] = t.State()
		all[i].Services = slices.Clone(all[i].Services)
	}
	return all
}
