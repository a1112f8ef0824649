package store

import (
	"context"
	"strings"
	"time"
)

// Bounds of accounts. What is over is refused, but of actions and sessions the oldest go.
const (
	mostUsers      = 1_000
	mostSessions   = 10_000
	mostStarts     = 1_000
	mostActions    = 100_000
	mostLooks      = 50_000
	maxActionText  = 1_000 // bytes of one text of an action
	keepActionsFor = 365 * 24 * time.Hour
)

// usersSchema are the tables of accounts.
const usersSchema = `
CREATE TABLE user (
	name     TEXT    NOT NULL PRIMARY KEY,
	role     TEXT    NOT NULL,
	password TEXT    NOT NULL,
	made     INTEGER NOT NULL,
	logged   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE session (
	hash  BLOB    NOT NULL PRIMARY KEY,
	name  TEXT    NOT NULL,
	role  TEXT    NOT NULL,
	kind  TEXT    NOT NULL,
	made  INTEGER NOT NULL,
	seen  INTEGER NOT NULL,
	until INTEGER NOT NULL,
	addr  TEXT    NOT NULL,
	agent TEXT    NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE start (
	hash  BLOB    NOT NULL PRIMARY KEY,
	name  TEXT    NOT NULL,
	until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE secret (
	name  TEXT NOT NULL PRIMARY KEY,
	value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE action (
	n     INTEGER PRIMARY KEY,
	at    INTEGER NOT NULL,
	who   TEXT    NOT NULL,
	what  TEXT    NOT NULL,
	about TEXT    NOT NULL,
	note  TEXT    NOT NULL
) STRICT;
`

// User is a local account. Password is what is kept of its password, "" before one was chosen.
type User struct {
	Name     string
	Role     string
	Password string
	Made     time.Time
	Logged   time.Time // when it logged in last; zero: never
}

// Session is somebody who is logged in. Only the hash of what the browser shows is kept.
type Session struct {
	Hash  [32]byte
	Name  string
	Role  string // as it was at the login; that of a local account is asked anew each time
	Kind  string // how they logged in: password, oidc, terminal
	Made  time.Time
	Seen  time.Time
	Until time.Time
	Addr  string // from where, "" if that is not known
	Agent string // what the browser calls itself; hostile
}

// Start is a link that is good once: for the account Name to choose a password, or, with the Name "", to log its reader in
// for a while.
type Start struct {
	Hash  [32]byte
	Name  string
	Until time.Time
}

// Action is something that a person changed.
type Action struct {
	N     int64
	At    time.Time
	Who   string
	What  string // a fixed word
	About string
	Note  string
}

// twice runs one transaction, and once more where the file was lost and a new one begun: what is to be kept is kept there.
func (w *Watch) twice(ctx context.Context, what string, do func() error) error {
	renewed, err := w.do(ctx, what, do)
	if renewed && err == nil {
		_, err = w.do(ctx, what, do)
	}
	return err
}

// exec runs one statement in a transaction of its own, and says whether it changed anything.
func (w *Watch) exec(ctx context.Context, what, statement string, args ...any) (ok bool, err error) {
	err = w.twice(ctx, what, func() error {
		r, err := w.f.conn.ExecContext(ctx, statement, args...)
		if err != nil {
			return err
		}
		ok, err = changed(r)
		return err
	})
	return ok, err
}

// rows reads all rows of a question.
func rows[T any](ctx context.Context, w *Watch, what, question string, read func(scan func(...any) error) (T, error), args ...any) (all []T, err error) {
	_, err = w.do(ctx, what, func() error {
		all = nil
		found, err := w.f.conn.QueryContext(ctx, question, args...)
		if err != nil {
			return err
		}
		defer found.Close()
		for found.Next() {
			one, err := read(found.Scan)
			if err != nil {
				return err
			}
			all = append(all, one)
		}
		return found.Err()
	})
	return all, err
}

// AddUser keeps a new account. ok is false if there is one of that name, which stays, or a thousand in all.
func (w *Watch) AddUser(ctx context.Context, u User) (ok bool, err error) {
	return w.exec(ctx, "keep an account", `INSERT OR IGNORE INTO user (name, role, password, made, logged) SELECT ?,?,?,?,? WHERE (SELECT count(*) FROM user) < ?`,
		u.Name, u.Role, u.Password, micros(u.Made), maybeMicros(u.Logged), mostUsers)
}

// PutUser keeps an account that is there already; ok is false if it is not.
func (w *Watch) PutUser(ctx context.Context, u User) (ok bool, err error) {
	return w.exec(ctx, "keep an account", `UPDATE user SET role = ?, password = ?, logged = ? WHERE name = ?`, u.Role, u.Password, maybeMicros(u.Logged), u.Name)
}

// DropUser removes an account with its links and its sessions, but none of somebody of that name who logs in elsewhere. ok is false if there is none.
func (w *Watch) DropUser(ctx context.Context, name string) (ok bool, err error) {
	_, err = w.do(ctx, "remove an account", func() error {
		r, err := w.f.conn.ExecContext(ctx, `DELETE FROM user WHERE name = ?`, name)
		if err != nil {
			return err
		}
		if ok, err = changed(r); err != nil {
			return err
		}
		for _, statement := range []string{`DELETE FROM start WHERE name = ?`, `DELETE FROM session WHERE name = ? AND kind = 'password'`} {
			if _, err := w.f.conn.ExecContext(ctx, statement, name); err != nil {
				return err
			}
		}
		return nil
	})
	return ok, err
}

// Users returns all accounts by name.
func (w *Watch) Users(ctx context.Context) ([]User, error) {
	return rows(ctx, w, "read the accounts", `SELECT name, role, password, made, logged FROM user ORDER BY name`, func(scan func(...any) error) (u User, err error) {
		var made, logged int64
		err = scan(&u.Name, &u.Role, &u.Password, &made, &logged)
		u.Made, u.Logged = fromMicros(made), fromMaybe(logged)
		return u, err
	})
}

// PutSession keeps a session, in place of the one with its hash. Beyond ten thousand those that were seen longest ago go.
func (w *Watch) PutSession(ctx context.Context, s Session) error {
	return w.twice(ctx, "keep a session", func() error {
		_, err := w.f.conn.ExecContext(ctx, `INSERT OR REPLACE INTO session (hash, name, role, kind, made, seen, until, addr, agent) VALUES (?,?,?,?,?,?,?,?,?)`,
			s.Hash[:], s.Name, s.Role, s.Kind, micros(s.Made), micros(s.Seen), micros(s.Until), s.Addr, clipped(s.Agent, 200))
		if err == nil {
			_, err = w.f.conn.ExecContext(ctx, `DELETE FROM session WHERE hash IN (SELECT hash FROM session ORDER BY seen DESC, hash LIMIT -1 OFFSET ?)`, mostSessions)
		}
		return err
	})
}

// DropSession ends a session; ok is false if there is none.
func (w *Watch) DropSession(ctx context.Context, hash [32]byte) (ok bool, err error) {
	return w.exec(ctx, "end a session", `DELETE FROM session WHERE hash = ?`, hash[:])
}

// DropSessions ends all sessions of a name that logged in by a kind, but for the one with the hash but.
func (w *Watch) DropSessions(ctx context.Context, kind, name string, but [32]byte) error {
	_, err := w.exec(ctx, "end sessions", `DELETE FROM session WHERE kind = ? AND name = ? AND hash <> ?`, kind, name, but[:])
	return err
}

// Sessions returns all sessions that have not ended at now, and forgets the others.
func (w *Watch) Sessions(ctx context.Context, now time.Time) ([]Session, error) {
	if _, err := w.exec(ctx, "forget sessions", `DELETE FROM session WHERE until <= ?`, micros(now)); err != nil {
		return nil, err
	}
	return rows(ctx, w, "read the sessions", `SELECT hash, name, role, kind, made, seen, until, addr, agent FROM session ORDER BY name, seen DESC`, func(scan func(...any) error) (s Session, err error) {
		var hash []byte
		var made, seen, until int64
		if err = scan(&hash, &s.Name, &s.Role, &s.Kind, &made, &seen, &until, &s.Addr, &s.Agent); err != nil {
			return s, err
		}
		if len(hash) != len(s.Hash) {
			return s, damage("a session without its hash")
		}
		copy(s.Hash[:], hash)
		s.Made, s.Seen, s.Until = fromMicros(made), fromMicros(seen), fromMicros(until)
		return s, nil
	})
}

// PutStart keeps a link that is good once, in place of any other for the same account. Those that have ended at now go.
// ok is false if there are a thousand, or this one is there already, used or not.
func (w *Watch) PutStart(ctx context.Context, l Start, now time.Time) (ok bool, err error) {
	err = w.twice(ctx, "keep a link", func() error {
		if _, err := w.f.conn.ExecContext(ctx, `DELETE FROM start WHERE until <= ? OR name = ? AND name <> ''`, micros(now), l.Name); err != nil {
			return err
		}
		r, err := w.f.conn.ExecContext(ctx, `INSERT OR IGNORE INTO start (hash, name, until) SELECT ?,?,? WHERE (SELECT count(*) FROM start) < ?`, l.Hash[:], l.Name, micros(l.Until), mostStarts)
		if err != nil {
			return err
		}
		ok, err = changed(r)
		return err
	})
	return ok, err
}

// FindStart looks for a link that is good at now; ok is false if there is none.
func (w *Watch) FindStart(ctx context.Context, hash [32]byte, now time.Time) (l Start, ok bool, err error) {
	all, err := rows(ctx, w, "look for a link", `SELECT name, until FROM start WHERE hash = ? AND until > ? AND name <> ?`, func(scan func(...any) error) (Start, error) {
		l := Start{Hash: hash}
		var until int64
		err := scan(&l.Name, &until)
		l.Until = fromMicros(until)
		return l, err
	}, hash[:], micros(now), usedUp)
	if err != nil || len(all) == 0 {
		return l, false, err
	}
	return all[0], true, nil
}

// usedUp stands in the place of the name of a link that was used, so that it cannot be kept once more.
const usedUp = "\x00"

// UseStart uses a link up; ok is false if it is not good any more at now: of two who use it at once one does.
func (w *Watch) UseStart(ctx context.Context, hash [32]byte, now time.Time) (ok bool, err error) {
	return w.exec(ctx, "use a link", `UPDATE start SET name = ? WHERE hash = ? AND until > ? AND name <> ?`, usedUp, hash[:], micros(now), usedUp)
}

// Secret is what is kept by a name: made, the first time, by what is given.
func (w *Watch) Secret(ctx context.Context, name string, made [32]byte) (secret [32]byte, err error) {
	err = w.twice(ctx, "keep a secret", func() error {
		if _, err := w.f.conn.ExecContext(ctx, `INSERT OR IGNORE INTO secret (name, value) VALUES (?,?)`, name, made[:]); err != nil {
			return err
		}
		var value []byte
		if err := w.f.conn.QueryRowContext(ctx, `SELECT value FROM secret WHERE name = ?`, name).Scan(&value); err != nil {
			return err
		}
		if len(value) != len(secret) {
			return damage("a secret of another length")
		}
		copy(secret[:], value)
		return nil
	})
	return secret, err
}

// NewSecret puts another in the place of what is kept by a name.
func (w *Watch) NewSecret(ctx context.Context, name string, secret [32]byte) error {
	_, err := w.exec(ctx, "keep a secret", `INSERT OR REPLACE INTO secret (name, value) VALUES (?,?)`, name, secret[:])
	return err
}

// Look is what is noted of somebody who looked at an address and changed nothing.
const Look = "look"

// PutAction notes what somebody changed, or looked at. What is older than a year goes, and so do the oldest changes beyond
// 100,000 and the oldest looks beyond 50,000: however much is looked at, what was changed stays.
func (w *Watch) PutAction(ctx context.Context, a Action) error {
	most := mostActions
	if a.What == Look {
		most = mostLooks
	}
	return w.twice(ctx, "note an action", func() error {
		_, err := w.f.conn.ExecContext(ctx, `INSERT INTO action (at, who, what, about, note) VALUES (?,?,?,?,?)`,
			micros(a.At), clipped(a.Who, maxActionText), a.What, clipped(a.About, maxActionText), clipped(a.Note, maxActionText))
		if err == nil {
			_, err = w.f.conn.ExecContext(ctx, `DELETE FROM action WHERE at < ? OR n IN (SELECT n FROM action WHERE (what = ?) = ? ORDER BY n DESC LIMIT -1 OFFSET ?)`,
				micros(a.At.Add(-keepActionsFor)), Look, a.What == Look, most)
		}
		return err
	})
}

// Actions returns what was noted, newest first, at most limit with numbers below before; 0: the newest.
func (w *Watch) Actions(ctx context.Context, before int64, limit int) ([]Action, error) {
	return rows(ctx, w, "read the actions", `SELECT n, at, who, what, about, note FROM action WHERE ? = 0 OR n < ? ORDER BY n DESC LIMIT ?`, func(scan func(...any) error) (a Action, err error) {
		var at int64
		err = scan(&a.N, &at, &a.Who, &a.What, &a.About, &a.Note)
		a.At = fromMicros(at)
		return a, err
	}, before, before, limit)
}

// clipped cuts a stranger's text to n bytes of UTF-8.
func clipped(s string, n int) string {
	return strings.ToValidUTF8(s[:min(len(s), n)], "")
}
