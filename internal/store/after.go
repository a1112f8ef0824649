package store

import (
	"time"

	"tocsin"
)

// Numbered is a decision with its number, and when the first and the last of its evidence were logged; zero if it has none.
type Numbered struct {
	tocsin.Decision
	N           int64
	First, Last time.Time
}

// After returns the decisions with a number above after that were taken since then, the lowest first, without their
// evidence, and at most limit of them. What is still queued has no number yet.
//
// newest is the highest number in use, 0 if there is none. It is lower than a number given out before if the file was
// lost since then.
func (s *Store) After(after int64, since time.Time, limit int) (all []Numbered, newest int64, err error) {
	err = s.read("read decisions by number", func(f *file) error {
		all = all[:0]
		if err := each(func(scan func(...any) error) error { return scan(&newest) }, f.stmt.newest); err != nil {
			return err
		}
		return each(func(scan func(...any) error) error {
			var r decisionRow
			var d Numbered
			var first, last *int64
			err := scan(append(r.columns(), &d.N, &first, &last)...)
			if err != nil {
				return err
			}
			if first != nil && last != nil {
				d.First, d.Last = fromMicros(*first), fromMicros(*last)
			}
			d.Decision, err = r.decision()
			all = append(all, d)
			return err
		}, f.stmt.after, after, atLeast(since), limit)
	})
	return all, newest, err
}

// atLeast is the time from which on something counts; the zero time lets everything count.
func atLeast(t time.Time) int64 {
	if t.IsZero() {
		return -forEver
	}
	return micros(t)
}
