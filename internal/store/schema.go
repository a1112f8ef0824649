package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// applicationID marks our files (https://www.sqlite.org/pragma.html#pragma_application_id): "Tcsn".
const applicationID = 0x5463736e

// migrations bring a file from version i to i+1, each in one transaction. A migration that was released is never changed.
// The columns are explained in docs/format/store.md.
var migrations = []string{`
CREATE TABLE decision (
	n          INTEGER PRIMARY KEY,
	jail       TEXT    NOT NULL,
	id         TEXT    NOT NULL,
	prefix     BLOB,
	verdict    INTEGER NOT NULL,
	ports      TEXT    NOT NULL,
	proto      INTEGER NOT NULL,
	action     INTEGER NOT NULL,
	origin     INTEGER NOT NULL,
	reason     TEXT    NOT NULL,
	by         TEXT    NOT NULL,
	at         INTEGER NOT NULL,
	until      INTEGER NOT NULL,
	failures   INTEGER NOT NULL,
	source     TEXT    NOT NULL,
	file       INTEGER NOT NULL,
	"offset"   INTEGER NOT NULL,
	line_at    INTEGER NOT NULL,
	once       INTEGER NOT NULL,
	lines      INTEGER NOT NULL,
	ended      INTEGER,
	ended_by   TEXT    NOT NULL DEFAULT '',
	end_reason TEXT    NOT NULL DEFAULT ''
) STRICT;
CREATE UNIQUE INDEX decision_once   ON decision (jail, id, action, source, file, "offset", once);
CREATE INDEX decision_at            ON decision (at);
CREATE INDEX decision_key           ON decision (jail, id, at);
CREATE INDEX decision_prefix        ON decision (prefix, at);
CREATE INDEX decision_running       ON decision (until) WHERE action = 0 AND ended IS NULL;
CREATE INDEX decision_with_evidence ON decision (at) WHERE lines > 0;

CREATE TABLE evidence (
	decision INTEGER NOT NULL,
	i        INTEGER NOT NULL,
	source   TEXT    NOT NULL,
	file     INTEGER NOT NULL,
	"offset" INTEGER NOT NULL,
	at       INTEGER NOT NULL,
	text     TEXT    NOT NULL,
	user     TEXT    NOT NULL,
	PRIMARY KEY (decision, i)
) STRICT, WITHOUT ROWID;

CREATE TABLE login (
	n      INTEGER PRIMARY KEY,
	addr   BLOB    NOT NULL,
	port   INTEGER NOT NULL,
	user   TEXT    NOT NULL,
	source TEXT    NOT NULL,
	at     INTEGER NOT NULL,
	opened INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX login_once ON login (addr, at, port, opened, user, source);
CREATE INDEX login_at          ON login (at);

CREATE TABLE known (
	addr   BLOB    NOT NULL PRIMARY KEY,
	port   INTEGER NOT NULL,
	user   TEXT    NOT NULL,
	source TEXT    NOT NULL,
	at     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX known_at ON known (at);

CREATE TABLE failure_count (
	prefix BLOB    NOT NULL,
	jail   TEXT    NOT NULL,
	day    INTEGER NOT NULL,
	n      INTEGER NOT NULL,
	last   INTEGER NOT NULL,
	users  TEXT    NOT NULL,
	PRIMARY KEY (prefix, jail, day)
) STRICT, WITHOUT ROWID;
CREATE INDEX failure_count_day ON failure_count (day);

CREATE TABLE allow (
	prefix BLOB    NOT NULL PRIMARY KEY,
	until  INTEGER NOT NULL,
	by     TEXT    NOT NULL,
	note   TEXT    NOT NULL,
	at     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE mark (
	source      TEXT    NOT NULL,
	path        TEXT    NOT NULL,
	file        INTEGER NOT NULL,
	"offset"    INTEGER NOT NULL,
	fingerprint INTEGER NOT NULL,
	cursor      TEXT    NOT NULL,
	at          INTEGER NOT NULL,
	PRIMARY KEY (source, path)
) STRICT, WITHOUT ROWID;
`, `
ALTER TABLE decision ADD COLUMN addr BLOB;
`, `
ALTER TABLE decision ADD COLUMN former INTEGER NOT NULL DEFAULT 0;
`}

// The files that Open moves aside, beside damaged ones.
var (
	errNewer   = errors.New("written by a newer version")
	errForeign = errors.New("not a store")
)

// migrate brings the file to the newest version. It writes nothing if there is nothing to do, so that a store on a full
// disk can be opened.
func migrate(ctx context.Context, conn *sql.Conn, applicationID int, migrations []string) error {
	var id, version, tables int
	err := conn.QueryRowContext(ctx, `SELECT (SELECT application_id FROM pragma_application_id),
		(SELECT user_version FROM pragma_user_version), (SELECT count(*) FROM sqlite_schema)`).Scan(&id, &version, &tables)
	switch {
	case err != nil:
		return err
	case id != applicationID && tables > 0:
		return errForeign
	case version > len(migrations):
		return fmt.Errorf("%w: version %d, this program knows %d", errNewer, version, len(migrations))
	}
	for ; version < len(migrations); version++ {
		script := fmt.Sprintf("BEGIN IMMEDIATE; %s PRAGMA application_id = %d; PRAGMA user_version = %d; COMMIT",
			migrations[version], applicationID, version+1)
		if _, err := conn.ExecContext(ctx, script); err != nil {
			conn.ExecContext(ctx, "ROLLBACK") // fails where BEGIN failed
			return fmt.Errorf("migrate to version %d: %w", version+1, err)
		}
	}
	return nil
}
