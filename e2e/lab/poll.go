package lab

import (
	"context"
	"errors"
	"time"
)

// ErrLate says that what was waited for did not come in time.
var ErrLate = errors.New("too late")

// Poll asks every few milliseconds until ok is true or an error comes, and answers ErrLate after within.
// It asks at least once.
func Poll(ctx context.Context, within time.Duration, ask func() (ok bool, err error)) error {
	late := time.After(within)
	for tick := time.Tick(5 * time.Millisecond); ; {
		if ok, err := ask(); ok || err != nil {
			return err
		}
		select {
		case <-tick:
		case <-late:
			return ErrLate
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
