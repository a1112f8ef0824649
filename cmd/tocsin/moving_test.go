package main

import (
	"crypto/sha1"
	"database/sql"
	"encoding/hex"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// fail2banTables are those of fail2ban 1.0.2, as far as they are read.
const fail2banTables = `
CREATE TABLE fail2banDb(version INTEGER);
CREATE TABLE jails(name TEXT NOT NULL UNIQUE, enabled INTEGER NOT NULL DEFAULT 1);
CREATE TABLE logs(jail TEXT NOT NULL, path TEXT, firstlinemd5 TEXT, lastfilepos INTEGER DEFAULT 0, UNIQUE(jail, path));
CREATE TABLE bans(jail TEXT NOT NULL, ip TEXT, timeofban INTEGER NOT NULL, bantime INTEGER NOT NULL, bancount INTEGER NOT NULL default 1, data JSON);
CREATE TABLE bips(ip TEXT NOT NULL, jail TEXT NOT NULL, timeofban INTEGER NOT NULL, bantime INTEGER NOT NULL, bancount INTEGER NOT NULL default 1, data JSON, PRIMARY KEY(ip, jail));
INSERT INTO fail2banDb(version) VALUES(4);
`

// fail2banDatabase makes a database as a fail2ban leaves it that has read some lines of a log: database FILE LOG LINES
// [JAIL;ID;SECONDS_AGO;BANTIME...]. Each ban has five failures and one line.
func fail2banDatabase(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: database file log lines [jail;id;ago;bantime...]")
	}
	db, err := sql.Open("sqlite", "file:"+ts.MkAbs(args[0]))
	ts.Check(err)
	defer db.Close()
	_, err = db.Exec(fail2banTables)
	ts.Check(err)
	lines := strings.SplitAfter(ts.ReadFile(args[1]), "\n")
	n, err := strconv.Atoi(args[2])
	ts.Check(err)
	sum := sha1.Sum([]byte(lines[0]))
	_, err = db.Exec("INSERT INTO logs(jail, path, firstlinemd5, lastfilepos) VALUES('sshd', ?, ?, ?)",
		ts.MkAbs(args[1]), hex.EncodeToString(sum[:]), len(strings.Join(lines[:n], "")))
	ts.Check(err)
	for _, ban := range args[3:] {
		f := strings.Split(ban, ";")
		ago, err := strconv.ParseInt(f[2], 10, 64)
		ts.Check(err)
		data := `{"matches": [["", "Nov 22 14:54:48", " host sshd[101]: Failed password for root from ` + f[1] + `"]], "failures": 5, "ip4": "` + f[1] + `"}`
		for _, table := range []string{"bips", "bans"} {
			_, err = db.Exec("INSERT INTO "+table+"(jail, ip, timeofban, bantime, bancount, data) VALUES(?, ?, ?, ?, 1, ?)",
				f[0], f[1], time.Now().Unix()-ago, f[3], []byte(data))
			ts.Check(err)
		}
	}
}
