package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// Retention is how long things are kept. 0 keeps them for ever, up to the bounds below.
type Retention struct {
	Evidence time.Duration // evidence and counts of failures
	Bans     time.Duration // bans that are over; one that runs is kept whatever its age
	Logins   time.Duration // logins, and read positions that nobody has moved since
}

// limits is how many of the things that strangers make are kept, however long they may be kept. The oldest go first.
type limits struct{ decisions, counts, logins int }

// mostKept makes a file of a few hundred megabytes.
var mostKept = limits{decisions: 1_000_000, counts: 1_000_000, logins: 1_000_000}

// pruneStep is how many rows go in one transaction, so that a decision never waits long behind them.
const pruneStep = 500

// pruning is one kind of rows to delete. The statements run one after the other in one transaction; ?1 is the time before
// which rows go, ?2 is now, ?3 is pruneStep. The last tells how many went; fewer than pruneStep means that none are left.
type pruning struct {
	what       string
	keep       time.Duration
	limit      int
	nth        string // finds the time of the newest row that is one too many
	unit       int64  // microseconds in one unit of the time column
	statements []string
}

const (
	withEvidence = `SELECT n FROM decision WHERE at < ?1 AND lines > 0 ORDER BY at LIMIT ?3`
	over         = `SELECT n FROM decision WHERE at < ?1 AND (action = 1 OR ended IS NOT NULL OR until <= ?2) ORDER BY at LIMIT ?3`
)

func (r *Retention) prunings(most limits) []pruning {
	return []pruning{
		{what: "evidence", keep: r.Evidence, unit: 1, statements: []string{
			`DELETE FROM evidence WHERE decision IN (` + withEvidence + `)`,
			`UPDATE decision SET lines = 0 WHERE n IN (` + withEvidence + `)`}},
		{what: "bans", keep: r.Bans, unit: 1,
			limit: most.decisions, nth: `SELECT at FROM decision ORDER BY at DESC LIMIT 1 OFFSET ?`, statements: []string{
				`DELETE FROM evidence WHERE decision IN (` + over + `)`,
				`DELETE FROM decision WHERE n IN (` + over + `)`}},
		{what: "counts", keep: r.Evidence, unit: day * 1e6,
			limit: most.counts, nth: `SELECT day FROM failure_count ORDER BY day DESC LIMIT 1 OFFSET ?`, statements: []string{
				`DELETE FROM failure_count WHERE (prefix, jail, day) IN
					(SELECT prefix, jail, day FROM failure_count WHERE day < ?1 ORDER BY day LIMIT ?3)`}},
		{what: "logins", keep: r.Logins, unit: 1,
			limit: most.logins, nth: `SELECT at FROM login ORDER BY at DESC LIMIT 1 OFFSET ?`, statements: []string{
				`DELETE FROM login WHERE n IN (SELECT n FROM login WHERE at < ?1 ORDER BY at LIMIT ?3)`}},
		{what: "known addresses", keep: r.Logins, unit: 1,
			limit: most.logins, nth: `SELECT at FROM known ORDER BY at DESC LIMIT 1 OFFSET ?`, statements: []string{
				`DELETE FROM known WHERE addr IN (SELECT addr FROM known WHERE at < ?1 ORDER BY at LIMIT ?3)`}},
		{what: "marks", keep: r.Logins, unit: 1, statements: []string{
			`DELETE FROM mark WHERE (source, path) IN (SELECT source, path FROM mark WHERE at < ?1 LIMIT ?3)`}},
		{what: "allow list", keep: 1, unit: 1, statements: []string{ // what has ended goes at once
			`DELETE FROM allow WHERE prefix IN (SELECT prefix FROM allow WHERE ?1 <= ?2 AND until <= ?2 LIMIT ?3)`}},
	}
}

// Prune deletes what is older than r says, and returns how many rows that were. It works in small steps between the other
// writes, and gives the space back to the disk.
func (s *Store) Prune(ctx context.Context, now time.Time, r Retention) (n int, err error) {
	for _, p := range r.prunings(s.most) {
		m, err := s.prune(ctx, p, now)
		n += m
		if err != nil {
			return n, fmt.Errorf("prune %s: %w", p.what, err)
		}
	}
	if n == 0 {
		return 0, nil
	}
	return n, s.wait(ctx, &request{do: func(ctx context.Context, f *file) error {
		_, err := f.conn.ExecContext(ctx, "PRAGMA incremental_vacuum(2000)")
		return err
	}})
}

func (s *Store) prune(ctx context.Context, p pruning, now time.Time) (n int, err error) {
	before, err := s.cutoff(p, now)
	if err != nil || before == keepAll {
		return 0, err
	}
	for {
		step := make(chan int, 1) // the write may outlive this call
		err := s.wait(ctx, &request{do: func(ctx context.Context, f *file) error {
			var m int64
			for _, text := range p.statements {
				res, err := f.conn.ExecContext(ctx, text, before, micros(now), pruneStep)
				if err != nil {
					return err
				}
				if m, err = res.RowsAffected(); err != nil {
					return err
				}
			}
			select {
			case <-step: // of an attempt that was not committed
			default:
			}
			step <- int(m)
			return nil
		}})
		if err != nil {
			return n, err
		}
		m := <-step
		if n += m; m < pruneStep {
			return n, nil
		}
	}
}

const keepAll = -forEver

// cutoff is the time before which rows of p go, in the unit of their column.
func (s *Store) cutoff(p pruning, now time.Time) (int64, error) {
	before := int64(keepAll)
	if p.keep > 0 {
		before = micros(now.Add(-p.keep)) / p.unit
	}
	if p.nth == "" {
		return before, nil
	}
	err := s.read("count "+p.what, func(f *file) error {
		var nth int64
		err := f.reader.QueryRow(p.nth, p.limit).Scan(&nth)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		before = max(before, nth+1)
		return err
	})
	return before, err
}
