package store

import (
	"context"
	"fmt"
	"time"

	"tocsin"
)

// Bounds of the outbox.
const (
	mostNotices  = 10_000   // that wait
	mostEnded    = 20_000   // that were sent or given up, the newest
	maxNotice    = 64 << 10 // bytes of a body
	maxSaid      = 500      // bytes of what a receiver answered
	keepEndedFor = 90 * 24 * time.Hour
)

// outboxSchema is the table of messages to people.
const outboxSchema = `
CREATE TABLE outbox (
	n        INTEGER PRIMARY KEY AUTOINCREMENT,
	contact  TEXT    NOT NULL,
	via      TEXT    NOT NULL,
	incident INTEGER NOT NULL,
	kind     TEXT    NOT NULL,
	urgency  INTEGER NOT NULL,
	made     INTEGER NOT NULL,
	due      INTEGER NOT NULL,
	tries    INTEGER NOT NULL,
	fold     INTEGER NOT NULL,
	state    INTEGER NOT NULL,
	ended    INTEGER NOT NULL,
	said     TEXT    NOT NULL,
	body     BLOB    NOT NULL
) STRICT;
CREATE INDEX outbox_waiting  ON outbox (n) WHERE state = 0;
CREATE INDEX outbox_incident ON outbox (incident, n) WHERE incident <> 0;
CREATE INDEX outbox_ended    ON outbox (ended) WHERE state <> 0;
`

const noticeColumns = `n, contact, via, incident, kind, urgency, made, due, tries, fold, state, ended, said, body`

// AddNotices keeps new notices and gives each its number; they are on the disk, all of them, when it returns nil. What was
// sent or given up long ago is forgotten meanwhile. It refuses what would be more than 10,000 that wait.
func (w *Watch) AddNotices(ctx context.Context, all []tocsin.Notice) error {
	for _, n := range all {
		if len(n.Body) > maxNotice {
			return fmt.Errorf("keep a notice of %d bytes: at most %d are kept", len(n.Body), maxNotice)
		}
	}
	renewed, err := w.do(ctx, "keep notices", func() error { return w.addNotices(ctx, all) })
	if renewed && err == nil {
		_, err = w.do(ctx, "keep notices", func() error { return w.addNotices(ctx, all) })
	}
	return err
}

func (w *Watch) addNotices(ctx context.Context, all []tocsin.Notice) error {
	var waiting int
	if err := w.f.conn.QueryRowContext(ctx, `SELECT count(*) FROM outbox WHERE state = 0`).Scan(&waiting); err != nil {
		return err
	}
	if waiting+len(all) > mostNotices {
		return fmt.Errorf("%d notices wait, more than %d are not kept", waiting, mostNotices)
	}
	for i := range all {
		n := &all[i]
		r, err := w.f.conn.ExecContext(ctx, `INSERT INTO outbox (contact, via, incident, kind, urgency, made, due, tries, fold, state, ended, said, body)
			VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)`, n.Contact, n.Via, n.Incident, n.Kind, n.Urgency, micros(n.Made), micros(n.Due), n.Tries, n.Fold,
			n.State, maybeMicros(n.Ended), clipped(n.Said, maxSaid), n.Body)
		if err == nil {
			n.ID, err = r.LastInsertId()
		}
		if err != nil {
			return err
		}
	}
	_, err := w.f.conn.ExecContext(ctx, `DELETE FROM outbox WHERE state <> 0 AND (ended < ? OR n IN
		(SELECT n FROM outbox WHERE state <> 0 ORDER BY ended DESC, n DESC LIMIT -1 OFFSET ?))`, micros(time.Now().Add(-keepEndedFor)), mostEnded)
	return err
}

// PutNotices keeps how far notices came: when they are due, how often they were tried, their state and what was said. It
// drops those whose numbers are in drop. One that is not there any more stays away.
func (w *Watch) PutNotices(ctx context.Context, all []tocsin.Notice, drop []int64) error {
	_, err := w.do(ctx, "keep notices", func() error {
		for _, n := range all {
			if _, err := w.f.conn.ExecContext(ctx, `UPDATE outbox SET due = ?, tries = ?, fold = ?, state = ?, ended = ?, said = ?, body = ? WHERE n = ?`,
				micros(n.Due), n.Tries, n.Fold, n.State, maybeMicros(n.Ended), clipped(n.Said, maxSaid), n.Body, n.ID); err != nil {
				return err
			}
		}
		for _, id := range drop {
			if _, err := w.f.conn.ExecContext(ctx, `DELETE FROM outbox WHERE n = ?`, id); err != nil {
				return err
			}
		}
		return nil
	})
	return err
}

// WaitingNotices returns those that wait, in the order in which they were made.
func (w *Watch) WaitingNotices(ctx context.Context) ([]tocsin.Notice, error) {
	return rows(ctx, w, "read notices", `SELECT `+noticeColumns+` FROM outbox WHERE state = 0 ORDER BY n`, readNotice)
}

// EndedNotices returns those that were sent or given up since, oldest first.
func (w *Watch) EndedNotices(ctx context.Context, since time.Time) ([]tocsin.Notice, error) {
	return rows(ctx, w, "read notices", `SELECT `+noticeColumns+` FROM outbox WHERE state <> 0 AND ended >= ? ORDER BY n`, readNotice, micros(since))
}

// NoticesOf returns all that is known of who was told about an incident, oldest first.
func (w *Watch) NoticesOf(ctx context.Context, incident int64) ([]tocsin.Notice, error) {
	return rows(ctx, w, "read notices", `SELECT `+noticeColumns+` FROM outbox WHERE incident = ? AND incident <> 0 ORDER BY n`, readNotice, incident)
}

func readNotice(scan func(...any) error) (n tocsin.Notice, err error) {
	var made, due, ended int64
	err = scan(&n.ID, &n.Contact, &n.Via, &n.Incident, &n.Kind, &n.Urgency, &made, &due, &n.Tries, &n.Fold, &n.State, &ended, &n.Said, &n.Body)
	n.Made, n.Due, n.Ended = fromMicros(made), fromMicros(due), fromMaybe(ended)
	return n, err
}
