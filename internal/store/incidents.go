package store

import (
	"context"
	"database/sql"
	"errors"
	"math"
	"strings"
	"time"

	"tocsin"
)

// Bounds of incidents. Of those that are over the oldest go.
const (
	mostIncidents     = 20_000
	keepIncidentsFor  = 400 * 24 * time.Hour
	mostTurns         = 200_000 // the newest; what is to be told is kept until it was
	pruneTurns        = 1_000   // after so many turns what is over is looked for
	mostTurnsRead     = 1_000   // of one incident, the newest
	mostSilences      = 1_000
	maxIncidentText   = 1_000 // bytes of a label, a note, a name
	maxIncidentMember = 64 << 10
	mostWaitingTurns  = 10_000
)

// incidentsSchema are the tables of warnings.
const incidentsSchema = `
CREATE TABLE incident (
	id        INTEGER PRIMARY KEY,
	key       TEXT    NOT NULL,
	rule      TEXT    NOT NULL,
	grp       TEXT    NOT NULL,
	node      TEXT    NOT NULL,
	service   TEXT    NOT NULL,
	field     TEXT    NOT NULL,
	level     INTEGER NOT NULL,
	worst     INTEGER NOT NULL,
	urgency   INTEGER NOT NULL,
	value     REAL,
	lim       TEXT    NOT NULL,
	label     TEXT    NOT NULL,
	extra     TEXT    NOT NULL,
	members   TEXT    NOT NULL,
	full      INTEGER NOT NULL,
	began     INTEGER NOT NULL,
	changed   INTEGER NOT NULL,
	ended     INTEGER NOT NULL,
	flaps     INTEGER NOT NULL,
	ack_by    TEXT    NOT NULL,
	ack_note  TEXT    NOT NULL,
	ack_at    INTEGER NOT NULL,
	ack_until INTEGER NOT NULL
) STRICT;
CREATE INDEX incident_ended ON incident (ended, id);

CREATE TABLE turn (
	n        INTEGER PRIMARY KEY AUTOINCREMENT,
	incident INTEGER NOT NULL,
	at       INTEGER NOT NULL,
	turn     INTEGER NOT NULL,
	level    INTEGER NOT NULL,
	value    REAL,
	lim      TEXT    NOT NULL,
	tell     INTEGER NOT NULL,
	handed   INTEGER NOT NULL,
	who      TEXT    NOT NULL,
	note     TEXT    NOT NULL,
	contacts TEXT,
	alias    TEXT    NOT NULL
) STRICT;
CREATE INDEX turn_incident ON turn (incident, n);
CREATE INDEX turn_waiting  ON turn (n) WHERE tell = 1 AND handed = 0;

CREATE TABLE silence (
	id    INTEGER PRIMARY KEY AUTOINCREMENT,
	grp   TEXT    NOT NULL,
	node  TEXT    NOT NULL,
	rule  TEXT    NOT NULL,
	who   TEXT    NOT NULL,
	note  TEXT    NOT NULL,
	made  INTEGER NOT NULL,
	until INTEGER NOT NULL
) STRICT;

CREATE TABLE kept (
	name  TEXT NOT NULL PRIMARY KEY,
	value BLOB NOT NULL
) STRICT, WITHOUT ROWID;
`

// keptAlerts is the name under which the state of warnings is kept.
const keptAlerts = "alerts"

// Turn is one thing that an incident did, as it was kept.
type Turn struct {
	N int64 // its number
	tocsin.Change
	By, Note string // who did it, where somebody did
	Handed   bool   // it was handed on to those who tell people
}

// KnownSilence is a time in which nothing is told of what the patterns select.
type KnownSilence struct {
	ID                int64
	Group, Node, Rule string
	By, Note          string
	Made, Until       time.Time
}

const incidentColumns = `id, key, rule, grp, node, service, field, level, worst, urgency, value, lim, label, extra, members, full, began, changed,
	ended, flaps, ack_by, ack_note, ack_at, ack_until`

// PutTurns keeps what incidents did, each turn with its number, and the state of the room of warnings, whose meaning it does
// not know; all of it or nothing. A turn that is to be told waits until Handed. It may be given nothing but the state.
func (w *Watch) PutTurns(ctx context.Context, turns []Turn, state []byte) error {
	put := func() error {
		for i := range turns {
			if err := w.putTurn(ctx, &turns[i]); err != nil {
				return err
			}
			if turns[i].N%pruneTurns == 0 {
				if err := w.pruneIncidents(ctx); err != nil {
					return err
				}
			}
		}
		_, err := w.f.conn.ExecContext(ctx, `INSERT OR REPLACE INTO kept (name, value) VALUES (?,?)`, keptAlerts, state)
		return err
	}
	renewed, err := w.do(ctx, "keep incidents", put)
	if renewed && err == nil {
		_, err = w.do(ctx, "keep incidents", put)
	}
	return err
}

func (w *Watch) putTurn(ctx context.Context, t *Turn) error {
	in := &t.Incident
	if _, err := w.f.conn.ExecContext(ctx, `INSERT OR REPLACE INTO incident (`+incidentColumns+`) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)`,
		in.ID, in.Key, in.Rule, in.Group, in.Node, in.Series.Service, in.Series.Field, in.Level, in.Worst, in.Urgency, maybeNumber(in.Value),
		clipped(in.Limit, maxIncidentText), clipped(in.Label, maxIncidentText), clipped(in.Extra, maxIncidentText),
		clipped(strings.Join(in.Members, "\n"), maxIncidentMember), maybeMicros(in.Full), maybeMicros(in.Began), maybeMicros(in.Changed),
		maybeMicros(in.Ended), in.Flaps, clipped(in.Ack.By, maxIncidentText), clipped(in.Ack.Note, maxIncidentText),
		maybeMicros(in.Ack.At), maybeMicros(in.Ack.Until)); err != nil {
		return err
	}
	contacts := sql.NullString{String: strings.Join(t.Contacts, "\n"), Valid: t.Contacts != nil}
	r, err := w.f.conn.ExecContext(ctx, `INSERT INTO turn (incident, at, turn, level, value, lim, tell, handed, who, note, contacts, alias) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)`,
		in.ID, maybeMicros(t.At), t.Turn, in.Level, maybeNumber(in.Value), clipped(in.Limit, maxIncidentText), t.Tell, t.Handed,
		clipped(t.By, maxIncidentText), clipped(t.Note, maxIncidentText), contacts, clipped(t.Alias, maxIncidentText))
	if err == nil {
		t.N, err = r.LastInsertId()
	}
	return err
}

// maybeNumber is a number that may be none.
func maybeNumber(v float64) any {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return v
}

func fromNumber(v sql.NullFloat64) float64 {
	if !v.Valid {
		return math.NaN()
	}
	return v.Float64
}

// AlertState returns what PutTurns kept last as the state, nil if there is none, and the highest number of an incident. It
// forgets what is over for long, as PutTurns does now and then.
func (w *Watch) AlertState(ctx context.Context) (state []byte, last int64, err error) {
	_, err = w.do(ctx, "read the state of warnings", func() error {
		state, last = nil, 0
		if err := w.pruneIncidents(ctx); err != nil {
			return err
		}
		err := w.f.conn.QueryRowContext(ctx, `SELECT value FROM kept WHERE name = ?`, keptAlerts).Scan(&state)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		return w.f.conn.QueryRowContext(ctx, `SELECT coalesce(max(id), 0) FROM incident`).Scan(&last)
	})
	return state, last, err
}

func (w *Watch) pruneIncidents(ctx context.Context) error {
	for _, q := range []struct {
		text string
		args []any
	}{
		{`DELETE FROM incident WHERE ended <> 0 AND ended < ?`, []any{micros(time.Now().Add(-keepIncidentsFor))}},
		{`DELETE FROM incident WHERE ended <> 0 AND id <= (SELECT max(id) FROM incident) - ?`, []any{mostIncidents}},
		{`DELETE FROM turn WHERE incident NOT IN (SELECT id FROM incident)`, nil},
		{`DELETE FROM turn WHERE n <= (SELECT max(n) FROM turn) - ? AND (tell = 0 OR handed = 1)`, []any{mostTurns}},
		{`DELETE FROM silence WHERE until < ?`, []any{micros(time.Now().Add(-keepIncidentsFor))}},
	} {
		if _, err := w.f.conn.ExecContext(ctx, q.text, q.args...); err != nil {
			return err
		}
	}
	return nil
}

// OpenIncidents returns those that are not over, the oldest first.
func (w *Watch) OpenIncidents(ctx context.Context) ([]tocsin.Incident, error) {
	return rows(ctx, w, "read incidents", `SELECT `+incidentColumns+` FROM incident WHERE ended = 0 ORDER BY id`, readIncident)
}

// EndedIncidents returns those that ended since, the newest first, at most n. Group and node are "" for all.
func (w *Watch) EndedIncidents(ctx context.Context, since time.Time, group, node string, n int) ([]tocsin.Incident, error) {
	return rows(ctx, w, "read incidents", `SELECT `+incidentColumns+` FROM incident WHERE ended <> 0 AND ended >= ? AND (? = '' OR grp = ?) AND (? = '' OR node = ?)
		ORDER BY ended DESC, id DESC LIMIT ?`, readIncident, maybeMicros(since), group, group, node, node, n)
}

// Incident returns one with what it did, the oldest first; ok is false if there is none of that number.
func (w *Watch) Incident(ctx context.Context, id int64) (in tocsin.Incident, turns []Turn, ok bool, err error) {
	all, err := rows(ctx, w, "read an incident", `SELECT `+incidentColumns+` FROM incident WHERE id = ?`, readIncident, id)
	if err != nil || len(all) == 0 {
		return in, nil, false, err
	}
	turns, err = rows(ctx, w, "read an incident", `SELECT * FROM (SELECT `+turnColumns+` FROM turn WHERE incident = ? ORDER BY n DESC LIMIT ?) ORDER BY n`, readTurn, id, mostTurnsRead)
	return all[0], turns, true, err
}

const turnColumns = `n, incident, at, turn, level, value, lim, tell, who, note, contacts, alias`

func readTurn(scan func(...any) error) (t Turn, err error) {
	var at int64
	var value sql.NullFloat64
	var contacts sql.NullString
	err = scan(&t.N, &t.ID, &at, &t.Turn, &t.Level, &value, &t.Limit, &t.Tell, &t.By, &t.Note, &contacts, &t.Alias)
	t.At, t.Value = fromMaybe(at), fromNumber(value)
	if contacts.Valid {
		t.Contacts = splitLines(contacts.String)
	}
	return t, err
}

func readIncident(scan func(...any) error) (in tocsin.Incident, err error) {
	var full, began, changed, ended, ackAt, ackUntil int64
	var value sql.NullFloat64
	var members string
	err = scan(&in.ID, &in.Key, &in.Rule, &in.Group, &in.Node, &in.Series.Service, &in.Series.Field, &in.Level, &in.Worst, &in.Urgency, &value,
		&in.Limit, &in.Label, &in.Extra, &members, &full, &began, &changed, &ended, &in.Flaps, &in.Ack.By, &in.Ack.Note, &ackAt, &ackUntil)
	if in.Series.Service != "" {
		in.Series.Group, in.Series.Node = in.Group, in.Node
	}
	in.Value = fromNumber(value)
	if members != "" {
		in.Members = splitLines(members)
	}
	in.Full, in.Began, in.Changed, in.Ended = fromMaybe(full), fromMaybe(began), fromMaybe(changed), fromMaybe(ended)
	in.Ack.At, in.Ack.Until = fromMaybe(ackAt), fromMaybe(ackUntil)
	return in, err
}

// splitLines is the texts that were joined with line ends; none of nothing.
func splitLines(s string) []string {
	if s == "" {
		return []string{}
	}
	return strings.Split(s, "\n")
}

// WaitingTurns returns the turns that are to be told and were not handed on, each with its incident as it is now but for
// level, value and limit, which are those of the turn; the oldest first.
func (w *Watch) WaitingTurns(ctx context.Context) ([]Turn, error) {
	turns, err := rows(ctx, w, "read turns", `SELECT `+turnColumns+` FROM turn WHERE tell = 1 AND handed = 0 ORDER BY n LIMIT ?`, readTurn, mostWaitingTurns)
	if err != nil {
		return nil, err
	}
	known := map[int64]tocsin.Incident{}
	var found []Turn
	for _, t := range turns {
		in, ok := known[t.ID]
		if !ok {
			var err error
			if in, _, ok, err = w.Incident(ctx, t.ID); err != nil {
				return nil, err
			}
			known[t.ID] = in
		}
		if !ok {
			continue
		}
		in.Level, in.Value, in.Limit = t.Level, t.Value, t.Limit
		t.Incident = in
		found = append(found, t)
	}
	return found, nil
}

// Handed notes that turns were handed on to those who tell people.
func (w *Watch) Handed(ctx context.Context, numbers []int64) error {
	_, err := w.do(ctx, "note what was told", func() error {
		for _, n := range numbers {
			if _, err := w.f.conn.ExecContext(ctx, `UPDATE turn SET handed = 1 WHERE n = ?`, n); err != nil {
				return err
			}
		}
		return nil
	})
	return err
}

// AddSilence keeps a silence and returns its number; 0 if there are a thousand already.
func (w *Watch) AddSilence(ctx context.Context, s KnownSilence) (id int64, err error) {
	_, err = w.do(ctx, "keep a silence", func() error {
		id = 0
		var n int
		if err := w.f.conn.QueryRowContext(ctx, `SELECT count(*) FROM silence WHERE until > ?`, micros(s.Made)).Scan(&n); err != nil || n >= mostSilences {
			return err
		}
		r, err := w.f.conn.ExecContext(ctx, `INSERT INTO silence (grp, node, rule, who, note, made, until) VALUES (?,?,?,?,?,?,?)`,
			clipped(s.Group, maxIncidentText), clipped(s.Node, maxIncidentText), clipped(s.Rule, maxIncidentText),
			clipped(s.By, maxIncidentText), clipped(s.Note, maxIncidentText), micros(s.Made), micros(s.Until))
		if err == nil {
			id, err = r.LastInsertId()
		}
		return err
	})
	return id, err
}

// EndSilence ends a silence at a time; ok is false if there is none of that number that lasts longer.
func (w *Watch) EndSilence(ctx context.Context, id int64, at time.Time) (ok bool, err error) {
	return w.exec(ctx, "end a silence", `UPDATE silence SET until = ? WHERE id = ? AND until > ?`, micros(at), id, micros(at))
}

// Silences returns those that last longer than a time, the first to end first.
func (w *Watch) Silences(ctx context.Context, at time.Time) ([]KnownSilence, error) {
	return rows(ctx, w, "read silences", `SELECT id, grp, node, rule, who, note, made, until FROM silence WHERE until > ? ORDER BY until, id`,
		func(scan func(...any) error) (s KnownSilence, err error) {
			var made, until int64
			err = scan(&s.ID, &s.Group, &s.Node, &s.Rule, &s.By, &s.Note, &made, &until)
			s.Made, s.Until = fromMicros(made), fromMicros(until)
			return s, err
		}, micros(at))
}
