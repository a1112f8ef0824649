package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"tocsin"
)

// importStep is how many decisions of another program are written in one transaction.
const importStep = 1000

// Import keeps decisions that another program took, and returns how many of them were not here yet; Put says which are the
// same. They are on the disk when it returns.
//
// Those in force at now take the place of what is in force here, as with Put. Those that are over are history and end
// nothing: the caller says in Until when they really ended. After an error, what was added so far stays.
func (s *Store) Import(ctx context.Context, now time.Time, ds []tocsin.Decision) (added int, err error) {
	for part := range slices.Chunk(ds, importStep) {
		done := make(chan int, 1) // the write may outlive this call
		err := s.wait(ctx, &request{do: func(ctx context.Context, f *file) error {
			n, err := f.importDecisions(ctx, now, part)
			select {
			case <-done: // of an attempt that was not committed
			default:
			}
			done <- n
			return err
		}})
		if err != nil {
			return added, fmt.Errorf("import decisions: %w", err)
		}
		added += <-done
	}
	return added, nil
}

func (f *file) importDecisions(ctx context.Context, now time.Time, ds []tocsin.Decision) (added int, err error) {
	for i := range ds {
		d := &ds[i]
		n, err := f.insertDecision(ctx, d)
		if err == nil && n != 0 && d.InForce(now) {
			err = f.end(ctx, d, n)
		}
		if err != nil {
			return added, err
		}
		if n != 0 {
			added++
		}
	}
	return added, nil
}
