package store

import (
	"context"
	"net/netip"
	"time"
)

// AllowEntry is a prefix that an operator put on the allow list.
type AllowEntry struct {
	Prefix netip.Prefix
	Until  time.Time // zero: without end
	By     string
	Note   string
	At     time.Time
}

// Allow puts e on the allow list, in the place of an entry for the same prefix. It waits for the disk, at most 5 s: after
// that it returns an error that wraps context.DeadlineExceeded, and the entry is written when the disk answers.
func (s *Store) Allow(e AllowEntry) error {
	return s.change("allow "+e.Prefix.String(), func(ctx context.Context, f *file) error { return f.allow(ctx, e) })
}

func (f *file) allow(ctx context.Context, e AllowEntry) error {
	_, err := f.stmt.putAllow.ExecContext(ctx, prefixBytes(e.Prefix), untilMicros(e.Until), e.By, e.Note, micros(e.At))
	return err
}

// Disallow takes the entry for exactly this prefix off the allow list and says whether there was one. It waits as Allow
// does.
func (s *Store) Disallow(p netip.Prefix) (was bool, err error) {
	found := make(chan bool, 1) // the write may outlive this call
	err = s.change("disallow "+p.String(), func(ctx context.Context, f *file) error {
		res, err := f.stmt.dropAllow.ExecContext(ctx, prefixBytes(p))
		if err != nil {
			return err
		}
		n, err := res.RowsAffected()
		select {
		case <-found: // of an attempt that was not committed
		default:
		}
		found <- n > 0
		return err
	})
	if err != nil {
		return false, err
	}
	return <-found, nil
}

// Allowed returns the entries that hold at now, IPv4 first, in the order of their prefixes.
func (s *Store) Allowed(now time.Time) ([]AllowEntry, error) {
	var es []AllowEntry
	err := s.read("read the allow list", func(f *file) (err error) {
		es, err = f.allowed(now)
		return err
	})
	return es, err
}

func (f *file) allowed(now time.Time) ([]AllowEntry, error) {
	var es []AllowEntry
	err := each(func(scan func(...any) error) error {
		var e AllowEntry
		var prefix []byte
		var until, at int64
		if err := scan(&prefix, &until, &e.By, &e.Note, &at); err != nil {
			return err
		}
		var err error
		e.Prefix, err = parsePrefix(prefix)
		e.Until, e.At = fromUntil(until), fromMicros(at)
		es = append(es, e)
		return err
	}, f.stmt.allowed, micros(now))
	return es, err
}
