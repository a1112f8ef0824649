package daemon

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tocsin"
	"tocsin/internal/api"
	"tocsin/internal/config"
	"tocsin/internal/fail2ban"
	"tocsin/internal/store"
)

// moveIn imports a database into the store of w, which has no guard.
func (w *world) moveIn(db *fail2ban.Database, now, written time.Time) *Imported {
	w.t.Helper()
	m := newMove(w.set(), db, now, written)
	if err := m.write(context.Background(), w.importOptions()); err != nil {
		w.t.Fatal(err)
	}
	return &m.out
}

func (w *world) importOptions() ImportOptions {
	c, err := config.Load(w.conf)
	if err != nil {
		w.t.Fatal(err)
	}
	return ImportOptions{Config: c, Log: slog.New(slog.DiscardHandler)}
}

func (w *world) set() *set {
	w.t.Helper()
	s, err := build(context.Background(), w.importOptions().Config, false)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// bannedRow is a row of fail2ban's database.
func bannedRow(id string, at time.Time, length time.Duration, count int) fail2ban.DatabaseBan {
	return fail2ban.DatabaseBan{Jail: "sshd", ID: id, At: at.Truncate(time.Second), Bantime: length, Count: count, Failures: 3,
		Matches: []string{"Nov 22 14:54:48 host sshd[101]: Failed password for ro\x1bot from " + id + " port 50001 ssh2"},
		Fields:  map[string]string{"user": "ro\x1bot"}}
}

// readTo is the row of w's log when n lines of it were read.
func (w *world) readTo(n int) fail2ban.DatabaseLog {
	w.t.Helper()
	text, err := os.ReadFile(w.log)
	if err != nil {
		w.t.Fatal(err)
	}
	lines := strings.SplitAfter(string(text), "\n")
	sum := sha1.Sum([]byte(lines[0]))
	return fail2ban.DatabaseLog{Jail: "sshd", Path: w.log, FirstLine: hex.EncodeToString(sum[:]), Offset: int64(len(strings.Join(lines[:n], "")))}
}

// TestImport: running bans keep their ends, former ones are history, what cannot be is told, and doing it twice changes
// nothing.
func TestImport(t *testing.T) {
	w := newWorld(t, "")
	now := time.Now()
	hourAgo := now.Add(-time.Hour).Truncate(time.Second)
	other := bannedRow("198.18.5.9", hourAgo, time.Hour, 1)
	other.Jail = "gone"
	db := &fail2ban.Database{
		Running: []fail2ban.DatabaseBan{
			bannedRow("198.18.5.1", hourAgo, 2*time.Hour, 2),
			bannedRow("198.18.5.2", hourAgo, -time.Second, 1), // without end
			bannedRow("2001:db8::5", hourAgo, 2*time.Hour, 1),
			bannedRow("198.18.6.0/28", hourAgo, 2*time.Hour, 1),
			bannedRow("198.18.5.3", hourAgo, time.Minute, 1), // over
			bannedRow("999.1.1.1", hourAgo, 2*time.Hour, 1),
			bannedRow("notanip", hourAgo, 2*time.Hour, 1),
			other,
		},
		History: []fail2ban.DatabaseBan{
			bannedRow("198.18.5.1", hourAgo.Add(-time.Hour), 3*time.Hour, 1), // the next ban took its place
			bannedRow("198.18.5.1", hourAgo, 2*time.Hour, 2),                 // the one that runs
			bannedRow("198.18.5.4", hourAgo, -time.Second, 1),                // lifted: no row among the latest
		},
		Skipped: 1,
	}
	for _, added := range []int{7, 0} {
		got := w.moveIn(db, now, now)
		want := []ImportedJail{
			{Name: "gone", Running: 1, WhyNotTaken: "the jail is not enabled"},
			{Name: "sshd", Running: 4, Former: 3, Added: added, NotBanned: []string{"999.1.1.1", "notanip"}, NNotBanned: 2},
		}
		if fmt.Sprintf("%+v", got.Jails) != fmt.Sprintf("%+v", want) || got.Broken != 1 {
			t.Errorf("imported %+v, %d broken\nwant %+v", got.Jails, got.Broken, want)
		}
	}
	st, err := store.Open(filepath.Join(w.importOptions().Config.State, storeName), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	bans, err := st.Active(now)
	if err := errors.Join(err, st.Close()); err != nil {
		t.Fatal(err)
	}
	for _, b := range bans { // <bancount> of an action goes on from it
		if want := map[string]int{"198.18.5.1": 1}[b.ID]; b.Former != want {
			t.Errorf("%s was banned %d times before, want %d", b.ID, b.Former, want)
		}
	}
	w.start()
	for addr, end := range map[string]time.Time{"198.18.5.1": hourAgo.Add(2 * time.Hour), "198.18.5.2": {}, "2001:db8::5": hourAgo.Add(2 * time.Hour)} {
		y := w.why(addr)
		if !y.Banned {
			t.Errorf("%s is not banned", addr)
			continue
		}
		b := y.Bans[len(y.Bans)-1]
		if (b.Until == nil) != end.IsZero() || b.Until != nil && !b.Until.Equal(end) {
			t.Errorf("%s is banned until %v, want %v", addr, b.Until, end)
		}
		if fmt.Sprint(b.Ports) != "[22 2200]" || len(b.Evidence) != 1 || !strings.Contains(b.Evidence[0].Text, `ro\x1bot`) || b.Failures != 3 {
			t.Errorf("%s: ban %+v", addr, b)
		}
	}
	for _, addr := range []string{"198.18.5.4", "198.18.5.99"} {
		if w.why(addr).Banned {
			t.Errorf("%s is banned", addr)
		}
	}
	if y := w.why("198.18.5.3"); y.FormerAll != 1 {
		t.Errorf("198.18.5.3 has %d former bans, want the one that is over", y.FormerAll)
	}
}

// A ban that was lifted by hand after the import does not come back with the next one, and what runs here longer stays.
func TestImportAgain(t *testing.T) {
	w := newWorld(t, "")
	now := time.Now()
	db := &fail2ban.Database{Running: []fail2ban.DatabaseBan{bannedRow(attacker, now.Add(-time.Minute), time.Hour, 1)}}
	w.moveIn(db, now, now)
	w.start()
	if _, err := w.Unban(context.Background(), api.UnbanRequest{Prefix: attacker, By: "marie"}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Ban(context.Background(), api.BanRequest{Prefix: "198.18.5.1", Jail: "sshd", Seconds: 7200, By: "marie"}); err != nil {
		t.Fatal(err)
	}
	w.end()
	db.Running = append(db.Running, bannedRow("198.18.5.1", now.Add(-time.Minute), time.Hour, 1))
	w.moveIn(db, time.Now(), now)
	w.start()
	if w.why(attacker).Banned {
		t.Error("what was lifted is banned again")
	}
	if y := w.why("198.18.5.1"); len(y.Bans) != 1 || time.Until(*y.Bans[0].Until) < 90*time.Minute {
		t.Errorf("the ban by hand was replaced by a shorter one: %+v", y.Bans)
	}
}

// The guard refuses nobody else its store, and an import says so.
func TestImportBesideAGuard(t *testing.T) {
	w := newWorld(t, "")
	w.start()
	m := newMove(w.set(), &fail2ban.Database{}, time.Now(), time.Now())
	err := m.write(context.Background(), w.importOptions())
	if e, ok := err.(*api.Error); !ok || !strings.Contains(e.Hint, "systemctl stop tocsin-guard") {
		t.Errorf("write() = %v, want what to do", err)
	}
}

// TestImportPosition: the guard goes on at the line where fail2ban stopped. What fail2ban has read is counted and bans nobody,
// what it has not bans.
func TestImportPosition(t *testing.T) {
	w := newWorld(t, "bantime = \"1h\"\n")
	w.fails(5, "198.18.2.1", "root") // read by fail2ban, which did not ban: it had lifted the ban, say
	w.fails(4, attacker, "root")
	read := w.readTo(9)
	w.fails(1, attacker, "root")
	w.fails(5, "198.18.2.3", "root")
	got := w.moveIn(&fail2ban.Database{Logs: []fail2ban.DatabaseLog{read}}, time.Now(), time.Now())
	if len(got.Logs) != 1 || got.Logs[0].Offset != read.Offset || got.Logs[0].Why != "" {
		t.Errorf("logs %+v, want to go on at %d", got.Logs, read.Offset)
	}
	w.start()
	w.banned(attacker)
	w.banned("198.18.2.3")
	w.settled()
	if w.why("198.18.2.1").Banned {
		t.Error("what fail2ban has read is decided again")
	}
	w.end()

	if again := w.moveIn(&fail2ban.Database{Logs: []fail2ban.DatabaseLog{read}}, time.Now(), time.Now()); !again.Logs[0].Kept {
		t.Error("a second import takes the guard back to where it has been")
	}
}

// Two jails have read one log to different places: what only one of them has read is not lost.
func TestImportPositionOfTwoJails(t *testing.T) {
	w := newWorld(t, "[[jail]]\nname = \"other\"\nfilter = \"sshd\"\nports = [22]\nsources = [\"file:PLACE\"]\n")
	text, err := os.ReadFile(w.conf)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(w.conf, []byte(strings.ReplaceAll(string(text), "PLACE", w.log)), 0o600); err != nil {
		t.Fatal(err)
	}
	w.fails(6, attacker, "root")
	far, near := w.readTo(6), w.readTo(2)
	far.Jail = "other"
	for _, logs := range [][]fail2ban.DatabaseLog{{far, near}, {near, far}} {
		m := newMove(w.set(), &fail2ban.Database{Logs: logs}, time.Now(), time.Now())
		if len(m.out.Logs) != 1 || m.out.Logs[0].Offset != near.Offset || len(m.marks) != 2 || m.marks[1].Pos.Offset != near.Offset {
			t.Errorf("logs %+v, marks %+v; want one to go on at %d", m.out.Logs, m.marks, near.Offset)
		}
	}
}

// A log that is another one by now is read on from when fail2ban wrote into its database last.
func TestImportOfAnotherLog(t *testing.T) {
	w := newWorld(t, "bantime = \"1h\"\n")
	written := time.Now().Add(-5 * time.Minute).Truncate(time.Microsecond)
	for i, addr := range []string{"198.18.2.1", attacker} {
		for n := range 5 {
			w.line(written.Add(time.Duration(i*2-1)*time.Minute+time.Duration(n)*time.Second), "Failed password for root from "+addr+" port 4711 ssh2")
		}
	}
	row := w.readTo(1)
	row.FirstLine = strings.Repeat("0", 40)
	got := w.moveIn(&fail2ban.Database{Logs: []fail2ban.DatabaseLog{row}}, time.Now(), written)
	if len(got.Logs) != 1 || !got.Logs[0].From.Equal(written) || got.Logs[0].Why == "" {
		t.Errorf("logs %+v, want to go on from %v", got.Logs, written)
	}
	w.start()
	w.banned(attacker)
	w.settled()
	if w.why("198.18.2.1").Banned {
		t.Error("what was written before is news")
	}
}

func TestImportJournalPosition(t *testing.T) {
	s := &set{cells: []*cell{{conf: &config.Jail{Name: "sshd"}, sources: []string{"journal:_SYSTEMD_UNIT=ssh.service"}}}}
	tests := []struct {
		iso  string
		want time.Time
	}{
		{"2026-11-22T14:54:48.123456", time.Date(2026, 11, 22, 14, 54, 48, 123456000, time.Local)},
		{"2026-11-22T14:54:48", time.Date(2026, 11, 22, 14, 54, 48, 0, time.Local)},
		{"another time", time.Date(2026, 11, 22, 14, 54, 48, 0, time.Local)},
	}
	for _, tt := range tests {
		row := fail2ban.DatabaseLog{Jail: "sshd", Path: "systemd-journal", FirstLine: tt.iso, Offset: time.Date(2026, 11, 22, 14, 54, 48, 0, time.Local).Unix()}
		m := newMove(s, &fail2ban.Database{Logs: []fail2ban.DatabaseLog{row}}, time.Now(), time.Now())
		if len(m.marks) != 1 || !m.marks[0].At.Equal(tt.want) || m.marks[0].Path != "" || m.marks[0].Cursor != "" {
			t.Errorf("%q: marks %+v, want one at %v", tt.iso, m.marks, tt.want)
		}
	}
}

// Where bans grow, those that fail2ban has counted and forgotten are counted too.
func TestImportOfGrowingBans(t *testing.T) {
	w := newWorld(t, "")
	now := time.Now()
	s := w.set()
	s.cells[0].options.BanTimes = []time.Duration{time.Minute, time.Hour, 24 * time.Hour, 48 * time.Hour}
	m := newMove(s, &fail2ban.Database{Running: []fail2ban.DatabaseBan{bannedRow(attacker, now.Add(-time.Hour), time.Minute, 3)}}, now, now)
	ds := m.bans[0]
	if len(ds) != 3 {
		t.Fatalf("%d former bans, want the one that is known and two that were counted", len(ds))
	}
	for i, d := range ds {
		if d.InForce(now) || d.Origin != tocsin.ByJail || i > 0 && !ds[i-1].At.Before(d.At) {
			t.Errorf("former ban %d: %+v", i, d)
		}
	}
}

// TestImportOfRealDatabase takes over a database that fail2ban 1.0.2 has written.
func TestImportOfRealDatabase(t *testing.T) {
	data := os.Getenv("TOCSIN_TESTDATA")
	if data == "" {
		t.Skip("TOCSIN_TESTDATA does not name the recorded data of fail2ban")
	}
	db, _, err := readDatabase(filepath.Join(data, "fail2ban/golden/sample.sqlite3"))
	if err != nil {
		t.Fatal(err)
	}
	s := &set{}
	for _, name := range []string{"recidive", "sshd"} {
		s.cells = append(s.cells, &cell{conf: &config.Jail{Name: name}})
	}
	now := time.Unix(1795359500, 0)
	m := newMove(s, db, now, now)
	want := []ImportedJail{{Name: "recidive", Running: 1}, {Name: "sshd", Running: 1, Former: 3, NotBanned: []string{"notanip"}, NNotBanned: 1}}
	if fmt.Sprintf("%+v", m.out.Jails) != fmt.Sprintf("%+v", want) {
		t.Errorf("imported %+v\nwant %+v", m.out.Jails, want)
	}
	var got []string
	for _, ds := range m.bans {
		for _, d := range ds {
			got = append(got, fmt.Sprintf("%s %s %d-%d %d %d", d.Jail, d.ID, d.At.Unix(), d.Until.Unix(), d.Failures, len(d.Evidence)))
		}
	}
	bans := []string{
		"recidive 192.0.2.77 1795359288-1795964088 3 3",
		"sshd 192.0.2.77 1795359272-1795359274 3 3",
		"sshd 192.0.2.77 1795359280-1795359284 3 3",
		"sshd 192.0.2.77 1795359288-1795359296 3 3",
		"sshd 192.0.2.1 1795359451-1795360051 0 0",
	}
	if !slices.Equal(got, bans) {
		t.Errorf("bans\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(bans, "\n"))
	}
	if text := m.bans[1][0].Evidence[0].Text; text != "Nov 22 14:54:32 host sshd[101]: Failed password for invalid user admin from 192.0.2.77 port 50001 ssh2" {
		t.Errorf("evidence %q", text)
	}
}
