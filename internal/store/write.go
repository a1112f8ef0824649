package store

import (
	"cmp"
	"context"
	"errors"
	"time"
)

// The writer tries again after these pauses.
const (
	firstPause = 50 * time.Millisecond
	lastPause  = 2 * time.Second
)

// write is the writer: the only goroutine that changes the file.
func (s *Store) write(ctx context.Context, f *file) {
	defer close(s.done)
	for s.next() {
		if f = s.commit(ctx, f); f == nil {
			return // given up
		}
	}
}

// next waits for work and moves what one transaction shall hold to s.flight: what somebody waits for, and in turn with it
// a little of the rest. It is false when the store is closed and nothing is left to write.
func (s *Store) next() bool {
	for {
		s.mu.Lock()
		if len(s.waiting.requests) > 0 && !s.owed {
			s.flight = s.waiting.hurried()
			s.owed = s.waiting.others()
		} else {
			s.flight = s.waiting.some()
			s.owed = false
		}
		closed := s.closed
		s.mu.Unlock()
		if !s.flight.empty() || s.damaged.Load() != nil {
			return true
		}
		if closed {
			return false
		}
		select {
		case <-s.wake:
		case <-s.later:
			s.linger()
		}
	}
}

// linger waits for company, or for somebody in a hurry.
func (s *Store) linger() {
	timer := time.NewTimer(s.o.Delay)
	defer timer.Stop()
	select {
	case <-s.wake:
	case <-timer.C:
	}
}

// commit writes what is in flight, again and again until it succeeds or the store gives up. It returns the file that is
// in use then, which is another if the first was damaged, and nil if it gave up.
func (s *Store) commit(ctx context.Context, f *file) *file {
	pause, began := firstPause, time.Now()
	for tries := 1; ; tries++ {
		err := s.attempt(ctx, &f)
		s.result(err)
		switch {
		case err == nil && tries > 1:
			s.o.Log.Info("store written again", "n", tries, "dur", time.Since(began))
			return f
		case err == nil:
			return f
		case tries == 1: // the others are counted
			s.o.Log.Warn("store not written, trying again", "err", err)
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-s.giveUp:
			timer.Stop()
			s.land(err)
			return nil
		}
		pause = min(2*pause, lastPause)
	}
}

// attempt writes what is in flight once. The error is one that may pass.
func (s *Store) attempt(ctx context.Context, f **file) error {
	if *f != nil && s.damaged.Swap(nil) == *f {
		if err := (*f).check(ctx); unusable(err) {
			return s.abandon(f, err)
		}
	}
	if *f == nil {
		fresh, err := s.begin(ctx)
		if unusable(err) { // still there, or damaged again
			return cmp.Or(s.setAside(err), err)
		}
		if err != nil {
			return err
		}
		*f = fresh
	}
	if (*f).isGone() {
		return s.abandon(f, errGone)
	}
	err := (*f).transaction(ctx, func() error { return s.flight.write(ctx, *f) })
	switch {
	case err == nil:
		s.land(nil)
		return nil
	case unusable(err):
		return s.abandon(f, err)
	case passing(err):
		return err
	}
	return s.singly(ctx, *f)
}

// abandon gives up a file that is damaged or gone; the next attempt opens it anew.
func (s *Store) abandon(f **file, cause error) error {
	s.rescue(*f)
	*f = nil
	return cmp.Or(s.setAside(cause), cause)
}

// singly writes what is in flight one request at a time, so that what cannot be stored at all fails alone and is not
// tried again.
func (s *Store) singly(ctx context.Context, f *file) error {
	for len(s.flight.requests) > 0 {
		r := s.flight.requests[0]
		err := f.transaction(ctx, func() error { return r.write(ctx, f) })
		if unusable(err) || passing(err) {
			return err
		}
		r.done <- err
		s.mu.Lock()
		s.flight.requests = s.flight.requests[1:]
		s.flight.decisions -= len(r.decisions)
		if err == nil {
			s.stats.Written += uint64(len(r.decisions))
		} else {
			s.fail(err)
		}
		s.mu.Unlock()
	}
	err := f.transaction(ctx, func() error { return s.flight.write(ctx, f) })
	if unusable(err) || passing(err) {
		return err
	}
	if err != nil {
		s.mu.Lock()
		s.fail(err)
		s.mu.Unlock()
	}
	s.land(nil)
	return nil
}

func (s *Store) fail(err error) {
	s.stats.Failed++
	s.o.Log.Error("store cannot keep this", "err", err)
}

// write writes a batch in one transaction.
func (b *batch) write(ctx context.Context, f *file) error {
	for _, r := range b.requests {
		if err := r.write(ctx, f); err != nil {
			return err
		}
	}
	for i := range b.logins {
		if err := f.putLogin(ctx, &b.logins[i]); err != nil {
			return err
		}
	}
	for _, c := range b.counts {
		if err := f.putCount(ctx, c); err != nil {
			return err
		}
	}
	for _, m := range b.marks {
		if err := f.putMark(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

func (r *request) write(ctx context.Context, f *file) error {
	if r.do != nil {
		return r.do(ctx, f)
	}
	for i := range r.decisions {
		if err := f.putDecision(ctx, &r.decisions[i]); err != nil {
			return err
		}
	}
	return nil
}

// land ends the flight: everybody who waits is told.
func (s *Store) land(err error) {
	s.mu.Lock()
	b := s.flight
	if err == nil {
		s.flight = newBatch()
		s.stats.Written += uint64(b.decisions)
	}
	s.mu.Unlock()
	for _, r := range b.requests {
		r.done <- err
	}
}

// result notes how an attempt to write ended.
func (s *Store) result(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.LastError = ""
	if err != nil {
		s.stats.Errors++
		s.stats.LastError = err.Error()
	}
}

// read runs a read on the file in use. If the file turns out to be damaged, the writer is told to look.
func (s *Store) read(what string, do func(*file) error) error {
	f := s.file.Load()
	err := do(f)
	if err == nil {
		return nil
	}
	s.mu.Lock()
	s.stats.Errors++
	closed := s.closed
	s.mu.Unlock()
	if closed {
		err = errors.Join(ErrClosed, err)
	}
	if unusable(err) {
		s.damaged.Store(f)
		poke(s.wake)
	}
	return &readError{what, s.path, err}
}

type readError struct {
	what, path string
	err        error
}

func (e *readError) Error() string { return "store " + e.path + ": " + e.what + ": " + e.err.Error() }
func (e *readError) Unwrap() error { return e.err }
