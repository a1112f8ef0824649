package store

import (
	"context"
	"fmt"
	"time"

	"tocsin"
)

// batch is work for the writer.
type batch struct {
	requests  []*request // in the order they came
	decisions int        // in requests
	flushes   []*request // answered when nothing else is left
	logins    []tocsin.Login
	counts    map[countKey]FailureCount
	marks     map[markKey]Mark
}

// request is work that somebody waits for.
type request struct {
	decisions []tocsin.Decision
	do        func(context.Context, *file) error // instead of decisions
	last      bool                               // when nothing else is left
	done      chan error                         // holds one: the writer never waits for whom has gone
}

func newBatch() batch {
	return batch{counts: make(map[countKey]FailureCount), marks: make(map[markKey]Mark)}
}

func (b *batch) empty() bool {
	return len(b.requests) == 0 && len(b.flushes) == 0 && !b.others()
}

// others says whether there is work that nobody waits for.
func (b *batch) others() bool { return len(b.logins) > 0 || len(b.counts) > 0 || len(b.marks) > 0 }

// smallBatch is how many logins and counts are written in one transaction: a few milliseconds. A decision that comes
// meanwhile waits for no more than that.
const smallBatch = 64

// hurried takes out what somebody waits for, and the marks, which are few.
func (b *batch) hurried() batch {
	out := newBatch()
	out.requests, out.decisions = b.requests, b.decisions
	out.marks, b.marks = b.marks, out.marks
	b.requests, b.decisions = nil, 0
	return out
}

// some takes out a small part of the rest: logins and counts first, then the marks, then those who wait for the end of it.
// Marks come out only while no decision waits, so that none overtakes a decision that was put before it.
func (b *batch) some() batch {
	out := newBatch()
	n := min(smallBatch, len(b.logins))
	out.logins, b.logins = b.logins[:n], b.logins[n:]
	for k, c := range b.counts {
		if n++; n > smallBatch {
			return out
		}
		out.counts[k] = c
		delete(b.counts, k)
	}
	if len(b.logins) > 0 || len(b.requests) > 0 {
		return out
	}
	out.marks, b.marks = b.marks, out.marks
	out.requests, b.flushes = b.flushes, nil
	return out
}

// Put keeps decisions. They are on the disk when it returns nil; those of one call are written together or not at all.
//
// If ctx ends first Put returns its error, and the write goes on behind the caller's back. If Options.Queue calls wait
// already, Put returns ErrFull at once and keeps nothing. A decision with the same Jail, ID, Action and place of the
// trigger as one before is the same decision, and is kept once; decisions without such a place are told apart by At.
//
// A ban takes the place of one that is in force for the same Jail and ID; an unban ends it. Nobody may change the slices
// inside ds afterwards.
func (s *Store) Put(ctx context.Context, ds ...tocsin.Decision) error {
	if len(ds) == 0 {
		return nil
	}
	return s.wait(ctx, &request{decisions: append([]tocsin.Decision(nil), ds...)})
}

// maxChanges is how many requests other than decisions may wait beside those.
const maxChanges = 100

// wait hands a request to the writer and waits for its answer.
func (s *Store) wait(ctx context.Context, r *request) error {
	r.done = make(chan error, 1)
	room := s.o.Queue
	if r.do != nil {
		room += maxChanges
	}
	s.mu.Lock()
	switch {
	case s.closed:
		s.mu.Unlock()
		return ErrClosed
	case len(s.waiting.requests)+len(s.waiting.flushes)+len(s.flight.requests) >= room:
		s.stats.Refused += uint64(len(r.decisions))
		s.mu.Unlock()
		return ErrFull
	}
	if r.last {
		s.waiting.flushes = append(s.waiting.flushes, r)
	} else {
		s.waiting.requests = append(s.waiting.requests, r)
		s.waiting.decisions += len(r.decisions)
	}
	s.mu.Unlock()
	poke(s.wake)
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// patience is how long calls without a context wait for the disk.
const patience = 5 * time.Second

// change does something small for an operator, who waits for it.
func (s *Store) change(what string, do func(context.Context, *file) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := s.wait(ctx, &request{do: do})
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("%s: the disk is slow, it will be done when the disk answers: %w", what, err)
	default:
		return fmt.Errorf("%s: %w", what, err)
	}
}

// Flush waits until everything that was queued before the call is on the disk. While ever more comes it may wait long.
func (s *Store) Flush(ctx context.Context) error {
	return s.wait(ctx, &request{do: func(context.Context, *file) error { return nil }, last: true})
}

// enqueue adds to what is written along. add is called under the lock and says how many entries it had to drop.
func (s *Store) enqueue(add func(*batch) (dropped int)) {
	s.mu.Lock()
	dropped := 0
	if !s.closed {
		dropped = add(&s.waiting)
	}
	s.stats.Dropped += uint64(dropped)
	s.mu.Unlock()
	poke(s.later)
}

// queued returns the decisions that are not on the disk yet, oldest first.
func (s *Store) queued() []tocsin.Decision {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting.decisions+s.flight.decisions == 0 {
		return nil
	}
	var ds []tocsin.Decision
	for _, b := range []*batch{&s.flight, &s.waiting} {
		for _, r := range b.requests {
			ds = append(ds, r.decisions...)
		}
	}
	return ds
}
