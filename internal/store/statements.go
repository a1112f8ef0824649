package store

import (
	"context"
	"database/sql"
	"errors"
	"strings"
)

// statements are what is prepared once a file. Those named put, end and drop run on the writer's connection.
type statements struct {
	putDecision, putEvidence, endFormer *sql.Stmt
	putLogin, putKnown                  *sql.Stmt
	countUsers, putCount                *sql.Stmt
	putAllow, dropAllow, putMark        *sql.Stmt
	decided, active, former, evidence   *sql.Stmt
	logins, known, allowed, marks       *sql.Stmt
	after, newest                       *sql.Stmt

	prepared []*sql.Stmt
}

const decisionColumns = `jail, id, prefix, verdict, ports, proto, action, origin, reason, by, at, until, failures,
	source, file, "offset", line_at, addr, former`

func (s *statements) prepare(ctx context.Context, conn *sql.Conn, reader *sql.DB) error {
	type preparer interface {
		PrepareContext(context.Context, string) (*sql.Stmt, error)
	}
	for _, p := range []struct {
		stmt **sql.Stmt
		on   preparer
		text string
	}{
		{&s.putDecision, conn, `INSERT INTO decision (` + decisionColumns + `, once, lines)
			VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT DO NOTHING`},
		{&s.putEvidence, conn, `INSERT INTO evidence (decision, i, source, file, "offset", at, text, user) VALUES (?,?,?,?,?,?,?,?)`},
		{&s.endFormer, conn, `UPDATE decision SET ended = ?1, ended_by = ?2, end_reason = ?3
			WHERE jail = ?4 AND id = ?5 AND action = 0 AND ended IS NULL AND until > ?1 AND n <> ?6`},
		{&s.putLogin, conn, `INSERT INTO login (addr, port, user, source, at, opened) VALUES (?,?,?,?,?,?) ON CONFLICT DO NOTHING`},
		{&s.putKnown, conn, `INSERT INTO known (addr, port, user, source, at) VALUES (?,?,?,?,?)
			ON CONFLICT (addr) DO UPDATE SET port = excluded.port, user = excluded.user, source = excluded.source, at = excluded.at
			WHERE excluded.at > known.at`},
		{&s.countUsers, conn, `SELECT users FROM failure_count WHERE prefix = ? AND jail = ? AND day = ?`},
		{&s.putCount, conn, `INSERT INTO failure_count (prefix, jail, day, n, last, users) VALUES (?,?,?,?,?,?)
			ON CONFLICT DO UPDATE SET n = n + excluded.n, last = max(last, excluded.last), users = excluded.users`},
		{&s.putAllow, conn, `INSERT OR REPLACE INTO allow (prefix, until, by, note, at) VALUES (?,?,?,?,?)`},
		{&s.dropAllow, conn, `DELETE FROM allow WHERE prefix = ?`},
		{&s.putMark, conn, `INSERT OR REPLACE INTO mark (source, path, file, "offset", fingerprint, cursor, at) VALUES (?,?,?,?,?,?,?)`},
		{&s.decided, reader, `SELECT 1 FROM decision
			WHERE jail = ? AND id = ? AND action = 0 AND source = ? AND file = ? AND "offset" = ? AND once = 0`},
		{&s.active, reader, `SELECT ` + decisionColumns + ` FROM decision WHERE action = 0 AND ended IS NULL AND until > ?`},
		{&s.former, reader, `SELECT ` + strings.Replace(decisionColumns, "until", "coalesce(ended, until)", 1) + ` FROM decision
			WHERE at >= ? AND jail = ? AND action = 0 AND origin = 0 ORDER BY at, n`},
		{&s.evidence, reader, `SELECT source, file, "offset", at, text, user FROM evidence WHERE decision = ? ORDER BY i`},
		{&s.after, reader, `SELECT ` + decisionColumns + `, n,
			(SELECT min(at) FROM evidence WHERE decision = n), (SELECT max(at) FROM evidence WHERE decision = n)
			FROM decision WHERE n > ? AND at >= ? ORDER BY n LIMIT ?`},
		{&s.newest, reader, `SELECT coalesce(max(n), 0) FROM decision`},
		{&s.logins, reader, `SELECT addr, port, user, source, at, opened FROM login WHERE addr = ? AND at >= ? ORDER BY at, n`},
		{&s.known, reader, `SELECT addr, port, user, source, at, 1 FROM known WHERE at >= ? ORDER BY at`},
		{&s.allowed, reader, `SELECT prefix, until, by, note, at FROM allow WHERE until > ? ORDER BY length(prefix), prefix`},
		{&s.marks, reader, `SELECT source, path, file, "offset", fingerprint, cursor, at FROM mark WHERE source = ? ORDER BY path`},
	} {
		var err error
		if *p.stmt, err = p.on.PrepareContext(ctx, p.text); err != nil {
			return err
		}
		s.prepared = append(s.prepared, *p.stmt)
	}
	return nil
}

// close closes the statements. Those of a sql.Conn are not closed with it, and would keep the file open.
func (s *statements) close() error {
	var errs []error
	for _, stmt := range s.prepared {
		errs = append(errs, stmt.Close())
	}
	return errors.Join(errs...)
}

// each runs a query and calls row for each of its rows.
func each(row func(scan func(...any) error) error, q *sql.Stmt, args ...any) error {
	rows, err := q.Query(args...)
	if err != nil {
		return err
	}
	return eachRow(rows, row)
}

func eachRow(rows *sql.Rows, row func(scan func(...any) error) error) error {
	defer rows.Close()
	for rows.Next() {
		if err := row(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}
