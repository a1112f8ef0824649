package store

// hubApplicationID marks the file of a hub: "TcsH".
const hubApplicationID = 0x54637348

// hubMigrations are the hub file's, as migrations are the store's. Its columns are explained in docs/format/hub.md.
var hubMigrations = []string{`
CREATE TABLE org (
	n       INTEGER PRIMARY KEY,
	name    TEXT    NOT NULL UNIQUE,
	kind    INTEGER NOT NULL,
	asn     INTEGER NOT NULL,
	country TEXT    NOT NULL,
	sponsor INTEGER NOT NULL,
	made    INTEGER NOT NULL
) STRICT;

CREATE TABLE key (
	n         INTEGER PRIMARY KEY,
	org       INTEGER NOT NULL,
	name      TEXT    NOT NULL,
	scope     TEXT    NOT NULL,
	plan      TEXT    NOT NULL,
	quota     TEXT    NOT NULL,
	hash      BLOB    NOT NULL UNIQUE,
	pseudonym INTEGER NOT NULL UNIQUE,
	made      INTEGER NOT NULL,
	revoked   INTEGER NOT NULL,
	good      INTEGER NOT NULL,
	bad       INTEGER NOT NULL,
	day       INTEGER NOT NULL,
	UNIQUE (org, name)
) STRICT;

CREATE TABLE report (
	n          INTEGER PRIMARY KEY,
	id         BLOB    NOT NULL UNIQUE,
	reporter   INTEGER NOT NULL,
	key        INTEGER NOT NULL,
	addr       BLOB    NOT NULL,
	at         INTEGER NOT NULL,
	received   INTEGER NOT NULL,
	categories INTEGER NOT NULL
) STRICT;
CREATE INDEX report_key      ON report (key, at);
CREATE INDEX report_received ON report (received);

CREATE TABLE comment (
	report INTEGER PRIMARY KEY,
	text   TEXT NOT NULL
) STRICT;

CREATE TABLE evidence (
	key        INTEGER NOT NULL,
	reporter   INTEGER NOT NULL,
	day        INTEGER NOT NULL,
	second     INTEGER NOT NULL,
	count      INTEGER NOT NULL,
	categories INTEGER NOT NULL,
	quality    INTEGER NOT NULL,
	public     INTEGER NOT NULL,
	PRIMARY KEY (key, reporter, day)
) STRICT, WITHOUT ROWID;
CREATE INDEX evidence_day ON evidence (day);

CREATE TABLE listing (
	key       INTEGER PRIMARY KEY,
	since     INTEGER NOT NULL,
	until     INTEGER NOT NULL,
	times     INTEGER NOT NULL,
	stay      INTEGER NOT NULL,
	helped    INTEGER NOT NULL,
	helped_by INTEGER NOT NULL,
	held      INTEGER NOT NULL,
	confirmed INTEGER NOT NULL
) STRICT;

CREATE TABLE brake (
	org       INTEGER NOT NULL,
	other     INTEGER NOT NULL,
	confirmed INTEGER NOT NULL,
	today     INTEGER NOT NULL,
	held      INTEGER NOT NULL,
	told      INTEGER NOT NULL,
	PRIMARY KEY (org, other)
) STRICT, WITHOUT ROWID;

CREATE TABLE quota (
	key      INTEGER NOT NULL,
	endpoint TEXT    NOT NULL,
	day      INTEGER NOT NULL,
	used     INTEGER NOT NULL,
	PRIMARY KEY (key, endpoint, day)
) STRICT, WITHOUT ROWID;

CREATE TABLE number (
	name  TEXT    NOT NULL PRIMARY KEY,
	value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE action (
	n     INTEGER PRIMARY KEY,
	at    INTEGER NOT NULL,
	who   TEXT    NOT NULL,
	what  TEXT    NOT NULL,
	about TEXT    NOT NULL,
	note  TEXT    NOT NULL
) STRICT;
`}
