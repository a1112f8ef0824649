package fail2ban

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// TestDatabaseAsRecorded reads a database that fail2ban 1.0.2 wrote.
func TestDatabaseAsRecorded(t *testing.T) {
	d, err := ReadDatabase(filepath.Join(recordedDumps(t), "sample.sqlite3"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, b := range d.Running {
		got = append(got, fmt.Sprintf("%s %s %d %s %d, %d lines, %d failures, user %q", b.Jail, b.ID, b.At.Unix(), b.Bantime, b.Count, len(b.Matches), b.Failures, b.Fields["user"]))
	}
	want := []string{
		`sshd 192.0.2.1 1795359451 10m0s 1, 0 lines, 0 failures, user ""`,
		`recidive 192.0.2.77 1795359288 168h0m0s 1, 3 lines, 3 failures, user ""`,
		`sshd 192.0.2.77 1795359288 8s 3, 3 lines, 3 failures, user "admin"`,
		`sshd notanip 1795359237 1h0m0s 1, 0 lines, 0 failures, user ""`,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("running:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if d.Version != 4 || !reflect.DeepEqual(d.Jails, []string{"sshd", "recidive"}) || len(d.Logs) != 3 || len(d.History) != 6 || d.Skipped != 0 {
		t.Errorf("version %d, jails %q, %d logs, %d bans, %d skipped", d.Version, d.Jails, len(d.Logs), len(d.History), d.Skipped)
	}
	if l := d.Logs[0]; l.Jail != "sshd" || l.Offset != 1738 || l.FirstLine != "5cfdf492870ebd1a64b1eb2408b1254e8909f659" {
		t.Errorf("first log: %+v", l)
	}
	second := d.History[1]
	if second.Count != 1 || second.Bantime != 2*time.Second || second.Fields["ip4"] != "192.0.2.77" || second.Fields["users"] != "['admin']" {
		t.Errorf("second ban: %+v", second)
	}
	if want := "Nov 22 14:54:32 host sshd[101]: Failed password for invalid user admin from 192.0.2.77 port 50001 ssh2"; second.Matches[0] != want {
		t.Errorf("its first line: %q, want %q", second.Matches[0], want)
	}
}

// makeDatabase runs statements on a new file.
func makeDatabase(t testing.TB, statements ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a b%20?x#y.sqlite3")
	db, err := sql.Open("sqlite", strings.TrimSuffix(databaseName(path, ""), "mode=ro")+"mode=rwc")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, s := range append([]string{"PRAGMA query_only=0"}, statements...) {
		if _, err := db.Exec(s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
	return path
}

// tables4 are the tables of version 4.
var tables4 = []string{
	"CREATE TABLE fail2banDb(version INTEGER)", "INSERT INTO fail2banDb VALUES(4)",
	"CREATE TABLE jails(name TEXT NOT NULL UNIQUE, enabled INTEGER NOT NULL DEFAULT 1)",
	"CREATE TABLE logs(jail TEXT NOT NULL, path TEXT, firstlinemd5 TEXT, lastfilepos INTEGER DEFAULT 0)",
	"CREATE TABLE bans(jail TEXT NOT NULL, ip TEXT, timeofban INTEGER NOT NULL, bantime INTEGER NOT NULL, bancount INTEGER NOT NULL default 1, data JSON)",
	"CREATE TABLE bips(ip TEXT NOT NULL, jail TEXT NOT NULL, timeofban INTEGER NOT NULL, bantime INTEGER NOT NULL, bancount INTEGER NOT NULL default 1, data JSON, PRIMARY KEY(ip, jail))",
}

func TestReadDatabaseRows(t *testing.T) {
	d, err := ReadDatabase(makeDatabase(t, append(tables4,
		"PRAGMA journal_mode=wal",
		"INSERT INTO jails VALUES('sshd', 1), ('', 1)",
		"INSERT INTO logs VALUES('sshd', 'systemd-journal', '', 1700000000), ('sshd', '/x', NULL, -1)",
		`INSERT INTO bips VALUES('192.0.2.1', 'sshd', 1700000000, -1, 2, '{"matches": ["a", ["b", "c", "d"], 7, null], "failures": 3, "user": null, "port": 22}')`,
		`INSERT INTO bips VALUES('192.0.2.2', 'sshd', 1700000001, 600.0, 1, X'7b226661696c75726573223a2039397d')`,
		`INSERT INTO bips VALUES('192.0.2.3', 'sshd', 1700000002, 600, 1, 'no JSON')`,
		`INSERT INTO bips VALUES('192.0.2.4', 'sshd', 'soon', 600, 1, NULL)`,
		`INSERT INTO bips VALUES('192.0.2.5', 'sshd', 1700000003, -7, 1, NULL)`,
		`INSERT INTO bips VALUES('192.0.2.6', 'sshd', 1700000004, 99999999999999, 1, hex(zeroblob(200000)))`,
		`INSERT INTO bips VALUES('', 'sshd', 1700000005, 600, 1, NULL)`,
	)...))
	if err != nil {
		t.Fatal(err)
	}
	at := func(n int64) time.Time { return time.Unix(1700000000+n, 0) }
	want := []DatabaseBan{
		{Jail: "sshd", ID: "192.0.2.6", At: at(4), Bantime: time.Duration(maxSeconds) * time.Second, Count: 1},
		{Jail: "sshd", ID: "192.0.2.3", At: at(2), Bantime: 10 * time.Minute, Count: 1},
		{Jail: "sshd", ID: "192.0.2.2", At: at(1), Bantime: 10 * time.Minute, Count: 1, Failures: 99},
		{Jail: "sshd", ID: "192.0.2.1", At: at(0), Bantime: -time.Second, Count: 2, Matches: []string{"a", "bcd", "", ""}, Failures: 3, Fields: map[string]string{"port": "22"}},
	}
	if !reflect.DeepEqual(d.Running, want) {
		t.Errorf("running %+v\nwant %+v", d.Running, want)
	}
	if d.Skipped != 5 || len(d.Jails) != 1 || !reflect.DeepEqual(d.Logs, []DatabaseLog{{"sshd", "systemd-journal", "", 1700000000}}) {
		t.Errorf("%d rows skipped, jails %q, logs %+v", d.Skipped, d.Jails, d.Logs)
	}
}

// Files of fail2ban 0.9 and 0.10 know neither the length nor the number of a ban.
func TestReadDatabaseOld(t *testing.T) {
	d, err := ReadDatabase(makeDatabase(t, "CREATE TABLE fail2banDb(version INTEGER)", "INSERT INTO fail2banDb VALUES(2)",
		"CREATE TABLE jails(name TEXT, enabled INTEGER)",
		"CREATE TABLE bans(jail TEXT NOT NULL, ip TEXT, timeofban INTEGER NOT NULL, data JSON)",
		`INSERT INTO bans VALUES('sshd', '192.0.2.1', 1700000000, '{}'), ('sshd', '192.0.2.1', 1700000600, '{"failures": 4}'), ('web', '192.0.2.1', 1700000300, '{}')`))
	if err != nil {
		t.Fatal(err)
	}
	if len(d.History) != 3 || len(d.Running) != 2 || d.Running[0].Failures != 4 || d.Running[0].Bantime != UnknownBantime || d.Running[1].Jail != "web" {
		t.Errorf("history %+v\nrunning %+v", d.History, d.Running)
	}
}

func TestReadDatabaseRefuses(t *testing.T) {
	dir := t.TempDir()
	garbage := filepath.Join(dir, "garbage")
	if err := os.WriteFile(garbage, []byte(strings.Repeat("SQLite format 3\x00 and nothing behind", 300)), 0o600); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(makeDatabase(t, tables4...))
	if err != nil {
		t.Fatal(err)
	}
	cut := filepath.Join(dir, "cut")
	if err := os.WriteFile(cut, whole[:len(whole)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct{ name, path, want string }{
		{"missing", filepath.Join(dir, "missing"), "no such file"},
		{"a folder", dir, "it is not a file"},
		{"garbage", garbage, "as a database of fail2ban"},
		{"cut off", cut, "as a database of fail2ban"},
		{"another program's", makeDatabase(t, "CREATE TABLE x(y)"), "no table fail2banDb"},
		{"newer", makeDatabase(t, "CREATE TABLE fail2banDb(version INTEGER)", "INSERT INTO fail2banDb VALUES(5)"), "version 5, which is newer"},
		{"a view that never ends", makeDatabase(t, "CREATE VIEW fail2banDb AS WITH RECURSIVE n(version) AS (SELECT 1 UNION ALL SELECT version+1 FROM n) SELECT * FROM n"), "no table fail2banDb"},
	}
	for _, tt := range tests {
		if d, err := ReadDatabase(tt.path); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %+v, %v, want the error %q", tt.name, d, err, tt.want)
		}
	}
	if left, _ := os.ReadDir(dir); len(left) != 2 {
		t.Errorf("reading left files behind: %v", left)
	}
}

// FuzzReadDatabase damages a database: reading it must end, with an error or with the rows that are left.
func FuzzReadDatabase(f *testing.F) {
	whole, err := os.ReadFile(makeDatabase(f, append(tables4,
		`INSERT INTO bips VALUES('192.0.2.1', 'sshd', 1700000000, -1, 2, '{"matches": ["a"], "failures": 3}')`, "INSERT INTO jails VALUES('sshd', 1)")...))
	if err != nil {
		f.Fatal(err)
	}
	for _, at := range []int{0, 16, 24, 100, 4096, 8192} {
		f.Add(at, []byte{0xff, 0, 0x80})
	}
	f.Fuzz(func(t *testing.T, at int, damage []byte) {
		data := append([]byte(nil), whole...)
		if at >= 0 && at < len(data) {
			copy(data[at:], damage)
		}
		path := filepath.Join(t.TempDir(), "db")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if d, err := ReadDatabase(path); err == nil && d == nil {
			t.Error("neither a database nor an error")
		}
	})
}
