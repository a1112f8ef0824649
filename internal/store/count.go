package store

import (
	"context"
	"database/sql"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// FailureCount is how often an address failed on one day, whether it was banned or not.
type FailureCount struct {
	Day    time.Time // any moment of it; days are those of UTC
	Jail   string
	Prefix netip.Prefix
	N      int // how many more; CountFailures adds it
	Last   time.Time
	Users  []string // some of the names tried, the first few that came
}

// maxUsers is how many names a FailureCount keeps, of at most maxUserBytes each.
const (
	maxUsers     = 8
	maxUserBytes = 64
)

type countKey struct {
	day    int64
	jail   string
	prefix netip.Prefix
}

const day = 24 * 60 * 60 // seconds

func dayOf(t time.Time) int64 {
	s := t.Unix()
	if s < 0 {
		s -= day - 1 // division rounds towards zero
	}
	return s / day
}

// CountFailures adds to the counts. It does not wait; counts of the same day, jail and prefix are added up before they
// are written, and if too many are queued the rest are dropped and counted.
func (s *Store) CountFailures(cs ...FailureCount) {
	s.enqueue(func(b *batch) (dropped int) {
		for _, c := range cs {
			if !c.Prefix.IsValid() {
				continue
			}
			k := countKey{dayOf(c.Day), c.Jail, c.Prefix.Masked()}
			old, ok := b.counts[k]
			if !ok && len(b.counts) >= s.o.Queue {
				dropped++
				continue
			}
			c.Users = mergeUsers(old.Users, c.Users)
			c.N += old.N
			if old.Last.After(c.Last) {
				c.Last = old.Last
			}
			b.counts[k] = c
		}
		return dropped
	})
}

// mergeUsers returns the first maxUsers different names. It changes neither list.
func mergeUsers(old, more []string) []string {
	all := old[:len(old):len(old)]
	for _, u := range more {
		u = strings.ReplaceAll(u[:min(len(u), maxUserBytes)], "\n", " ")
		if len(all) < maxUsers && u != "" && !slices.Contains(all, u) {
			all = append(all, u)
		}
	}
	return all
}

func (f *file) putCount(ctx context.Context, c FailureCount) error {
	prefix, d := prefixBytes(c.Prefix), dayOf(c.Day)
	var users string
	err := f.stmt.countUsers.QueryRowContext(ctx, prefix, c.Jail, d).Scan(&users)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	all := strings.Join(mergeUsers(splitUsers(users), c.Users), "\n")
	_, err = f.stmt.putCount.ExecContext(ctx, prefix, c.Jail, d, c.N, micros(c.Last), all)
	return err
}

func splitUsers(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, "\n")
}

// Failures returns the counts of every prefix that contains addr, of the day of since and later, oldest first.
func (s *Store) Failures(addr netip.Addr, since time.Time) ([]FailureCount, error) {
	all := containing(addr)
	args := make([]any, 0, len(all)+1)
	for _, p := range all {
		args = append(args, p)
	}
	args = append(args, dayOf(since))
	var cs []FailureCount
	err := s.read("read counts of failures", func(f *file) error {
		rows, err := f.reader.Query(`SELECT prefix, jail, day, n, last, users FROM failure_count
			WHERE prefix IN (?`+strings.Repeat(",?", len(all)-1)+`) AND day >= ? ORDER BY day, jail, prefix`, args...)
		if err != nil {
			return err
		}
		return eachRow(rows, func(scan func(...any) error) error {
			var c FailureCount
			var prefix []byte
			var d, last int64
			var users string
			err := scan(&prefix, &c.Jail, &d, &c.N, &last, &users)
			if err != nil {
				return err
			}
			c.Day, c.Last, c.Users = time.Unix(d*day, 0).UTC(), fromMicros(last), splitUsers(users)
			c.Prefix, err = parsePrefix(prefix)
			cs = append(cs, c)
			return err
		})
	})
	return cs, err
}
