package store

// watchApplicationID marks the file of the watch process: "TcsW".
const watchApplicationID = 0x54637357

// watchMigrations are the watch file's, as migrations are the store's. Its columns are explained in docs/format/watch.md.
var watchMigrations = []string{`
CREATE TABLE report (
	addr       BLOB    NOT NULL PRIMARY KEY,
	categories TEXT    NOT NULL,
	service    INTEGER NOT NULL,
	failures   INTEGER NOT NULL,
	first      INTEGER NOT NULL,
	last       INTEGER NOT NULL,
	queued     INTEGER NOT NULL,
	hold       INTEGER NOT NULL,
	due        INTEGER NOT NULL,
	attempt    INTEGER NOT NULL,
	tried      INTEGER NOT NULL,
	tries      INTEGER NOT NULL,
	bulk       INTEGER NOT NULL,
	withdrawn  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE next (
	addr       BLOB    NOT NULL PRIMARY KEY,
	categories TEXT    NOT NULL,
	service    INTEGER NOT NULL,
	failures   INTEGER NOT NULL,
	first      INTEGER NOT NULL,
	last       INTEGER NOT NULL,
	queued     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE sent (
	addr BLOB    NOT NULL PRIMARY KEY,
	at   INTEGER NOT NULL,
	same INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX sent_at ON sent (at);

CREATE TABLE refused (
	n       INTEGER PRIMARY KEY,
	addr    BLOB    NOT NULL,
	at      INTEGER NOT NULL,
	detail  TEXT    NOT NULL,
	comment TEXT    NOT NULL
) STRICT;

CREATE TABLE number (
	name  TEXT    NOT NULL PRIMARY KEY,
	value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE checked (
	addr   BLOB    NOT NULL PRIMARY KEY,
	at     INTEGER NOT NULL,
	answer TEXT    NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX checked_at ON checked (at);
`}
