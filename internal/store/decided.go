package store

import (
	"context"
	"errors"

	"tocsin"
)

// errStalled is the answer while a look for a decision that its caller gave up has not returned.
var errStalled = errors.New("the disk has not answered the last time yet")

// Decided says whether a ban with this trigger is kept or queued. It is false for a line that cannot be read twice.
//
// It returns with an error when ctx ends, whatever the disk does: SQLite itself looks at a context between its steps
// only, and a disk that does not answer lets it stand still within one. The read is left behind then, and until it has
// returned every further call fails at once, so there is never more than one.
func (s *Store) Decided(ctx context.Context, jail, id string, trigger tocsin.Line) (bool, error) {
	if trigger.Pos == (tocsin.Position{}) {
		return false, nil
	}
	if s.isQueued(&tocsin.Decision{Jail: jail, ID: id, Action: tocsin.Ban, Trigger: trigger}) {
		return true, nil
	}
	const what = "look for a decision"
	select {
	case s.asking <- struct{}{}:
		defer func() { <-s.asking }()
	case <-ctx.Done():
		return false, &readError{what, s.path, ctx.Err()}
	}
	if !s.looking.TryLock() { // nobody else asks, so whoever did has gone
		return false, &readError{what, s.path, errStalled}
	}
	var found bool
	var err error
	done := make(chan struct{})
	go func() {
		err = s.read(what, func(f *file) error {
			return each(func(func(...any) error) error { found = true; return nil },
				f.stmt.decided, jail, id, trigger.Source, int64(trigger.Pos.File), trigger.Pos.Offset)
		})
		s.looking.Unlock()
		close(done)
	}()
	select {
	case <-done:
		return found, err
	case <-ctx.Done():
		return false, &readError{what, s.path, ctx.Err()}
	}
}
