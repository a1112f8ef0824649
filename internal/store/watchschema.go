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
`, `
CREATE TABLE node (
	grp     TEXT    NOT NULL,
	node    TEXT    NOT NULL,
	address TEXT    NOT NULL,
	seen    INTEGER NOT NULL,
	since   INTEGER NOT NULL,
	why     TEXT    NOT NULL,
	PRIMARY KEY (grp, node)
) STRICT, WITHOUT ROWID;

CREATE TABLE service (
	n         INTEGER PRIMARY KEY,
	grp       TEXT    NOT NULL,
	node      TEXT    NOT NULL,
	service   TEXT    NOT NULL,
	described BLOB    NOT NULL,
	seen      INTEGER NOT NULL,
	UNIQUE (grp, node, service)
) STRICT;

CREATE TABLE token (
	name  TEXT    NOT NULL PRIMARY KEY,
	scope TEXT    NOT NULL,
	hash  BLOB    NOT NULL,
	made  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
`, usersSchema, outboxSchema, repeatsSchema, incidentsSchema}
