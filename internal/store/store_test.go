package store

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"tocsin"
)

var (
	t0  = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	ctx = context.Background()
)

// open opens a store that the test closes at its end.
func open(t testing.TB, path string, o Options) *Store {
	t.Helper()
	s, err := Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func fresh(t testing.TB) *Store {
	return open(t, filepath.Join(t.TempDir(), "state.db"), Options{})
}

// ban makes the nth decision of a test, with so many lines of evidence.
func ban(n, lines int) tocsin.Decision {
	p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}), 32)
	d := tocsin.Decision{
		Jail: "sshd", ID: p.String(), Prefix: p, Ports: []uint16{22, 2200}, Reason: "5 failures in 41 s (the limit is 5 in 10 min)",
		At: t0.Add(time.Duration(n) * time.Second), Until: t0.Add(time.Duration(n)*time.Second + 15*time.Minute), Failures: 5, Former: n % 3,
	}
	d.Trigger = tocsin.Line{Source: "file:/var/log/auth.log", Pos: tocsin.Position{File: 1<<63 + 7, Offset: int64(100 * n)}, At: d.At}
	for i := range lines {
		e := tocsin.Evidence{Line: d.Trigger, User: "root"}
		e.Pos.Offset += int64(i)
		e.Text = fmt.Sprintf("Failed password for root from %v port %d ssh2", p.Addr(), 1000+i)
		d.Evidence = append(d.Evidence, e)
	}
	return d
}

// unban lifts d by hand so long after it was taken.
func unban(d tocsin.Decision, after time.Duration) tocsin.Decision {
	d.Action, d.At, d.Origin, d.By, d.Reason, d.Trigger = tocsin.Unban, d.At.Add(after), tocsin.ByOperator, "root", "mistake", tocsin.Line{}
	return d
}

func put(t testing.TB, s *Store, ds ...tocsin.Decision) {
	t.Helper()
	if err := s.Put(ctx, ds...); err != nil {
		t.Fatal(err)
	}
}

func bans(t testing.TB, s *Store, q Query) []Ban {
	t.Helper()
	bs, err := s.Bans(q)
	if err != nil {
		t.Fatal(err)
	}
	return bs
}

func ids[T any](all []T, id func(T) string) string {
	var s []string
	for _, x := range all {
		s = append(s, id(x))
	}
	return strings.Join(s, " ")
}

// What strangers write must come back byte by byte, from the file of a second opening too.
func TestRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a b%20?x#y.db")
	hostile := "\x00 \xff\xfe \x1b[31m ' \" -- \u2028 é"
	full := ban(1, 2)
	full.Verdict, full.Proto, full.Origin, full.By, full.Reason = tocsin.Reject, tocsin.UDP, tocsin.ByOperator, "marie (sudo)", hostile
	full.Evidence[1].Text, full.Evidence[1].User = hostile, hostile
	id := tocsin.Decision{Jail: "x", ID: hostile, At: t0.Add(time.Minute + time.Microsecond)}
	v6 := tocsin.Decision{Jail: "sshd", ID: "2001:db8::/64", Prefix: netip.MustParsePrefix("2001:db8::/64"), At: t0.Add(time.Hour)}
	v6.Trigger.At, id.Trigger.At = t0, t0

	s, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, full, id, v6)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, path, Options{})
	want := []Ban{{Decision: v6}, {Decision: id}, {Decision: full}}
	if got := bans(t, s, Query{WithEvidence: true}); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if s.MovedAside() != "" {
		t.Errorf("a good file was moved aside to %s", s.MovedAside())
	}
	for _, name := range []string{path, path + "-wal"} {
		if info, err := os.Stat(name); err == nil && info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, want 0600", name, info.Mode())
		}
	}
	if _, err := os.Stat(path + "-shm"); err == nil {
		t.Error("the index of the write-ahead log is a mapped file")
	}
}

func TestPutIsIdempotent(t *testing.T) {
	s := fresh(t)
	d := ban(1, 3)
	put(t, s, d, d)
	put(t, s, d)
	moved := d
	moved.Trigger.Source = "journal:"
	lifted := d
	lifted.Action = tocsin.Unban
	operator := ban(2, 0)
	operator.Trigger = tocsin.Line{}
	later := operator
	later.At = later.At.Add(time.Second)
	put(t, s, operator, operator, later)
	if got := bans(t, s, Query{}); len(got) != 3 {
		t.Errorf("%d bans, want 3", len(got))
	}
	put(t, s, moved, lifted, lifted)
	if got := bans(t, s, Query{}); len(got) != 4 {
		t.Errorf("%d bans, want 4", len(got))
	}
}

// Lifting all bans is one call and one transaction: a reader sees none of them lifted or all.
func TestPutMany(t *testing.T) {
	const n = 10_000
	s := open(t, filepath.Join(t.TempDir(), "s.db"), Options{Queue: 2})
	var all, unbans []tocsin.Decision
	for i := range n {
		all, unbans = append(all, ban(i, 0)), append(unbans, unban(ban(i, 0), time.Minute))
	}
	put(t, s, all...)
	done := make(chan error)
	go func() { done <- s.Put(ctx, unbans...) }()
	for {
		var lifted int
		err := s.file.Load().reader.QueryRow("SELECT count(*) FROM decision WHERE ended IS NOT NULL").Scan(&lifted)
		if err != nil || lifted != 0 && lifted != n {
			t.Fatalf("%d of %d are lifted, %v", lifted, n, err)
		}
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			if got, err := s.Active(t0); len(got) != 0 || err != nil {
				t.Errorf("%d bans are left, %v, want none", len(got), err)
			}
			return
		default:
		}
	}
}

func TestDecided(t *testing.T) {
	s := fresh(t)
	d := ban(1, 0)
	put(t, s, d)
	other := d.Trigger
	other.Pos.Offset++
	for _, tt := range []struct {
		name, jail, id string
		trigger        tocsin.Line
		want           bool
	}{
		{"the same", d.Jail, d.ID, d.Trigger, true},
		{"another line", d.Jail, d.ID, other, false},
		{"another jail", "x", d.ID, d.Trigger, false},
		{"another address", d.Jail, "x", d.Trigger, false},
		{"a line that cannot be read twice", d.Jail, d.ID, tocsin.Line{Source: d.Trigger.Source}, false},
	} {
		if got, err := s.Decided(ctx, tt.jail, tt.id, tt.trigger); got != tt.want || err != nil {
			t.Errorf("%s: decided %v, %v, want %v", tt.name, got, err, tt.want)
		}
	}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if got, err := s.Decided(ctx, d.Jail, d.ID, d.Trigger); !got || err != nil {
				t.Errorf("twenty at once: decided %v, %v", got, err)
			}
		})
	}
	wg.Wait()
}

func TestActive(t *testing.T) {
	again := func(d tocsin.Decision, after, lasts time.Duration) tocsin.Decision {
		d.At, d.Until, d.Trigger = d.At.Add(after), d.At.Add(after+lasts), tocsin.Line{}
		return d
	}
	one, forEver := ban(0, 1), ban(1, 1)
	forEver.Until = time.Time{}
	other := one
	other.Jail = "dovecot"
	tests := []struct {
		name  string
		puts  []tocsin.Decision
		at    time.Duration
		want  string // jail and id of the bans in force
		ended string // how the bans ended, newest first
	}{
		{"running", []tocsin.Decision{one}, 15*time.Minute - time.Microsecond, "sshd 10.0.0.0/32", ""},
		{"over", []tocsin.Decision{one}, 15 * time.Minute, "", ""},
		{"for ever", []tocsin.Decision{forEver}, 1e6 * time.Hour, "sshd 10.0.0.1/32", ""},
		{"lifted", []tocsin.Decision{one, unban(one, time.Minute)}, 2 * time.Minute, "", "root: mistake"},
		{"lifted and banned again", []tocsin.Decision{one, unban(one, time.Minute), again(one, 2*time.Minute, time.Hour)}, 3 * time.Minute, "sshd 10.0.0.0/32", ", root: mistake"},
		{"lifted after it was over", []tocsin.Decision{one, unban(one, time.Hour)}, 2 * time.Hour, "", ""},
		{"two jails, one lifted", []tocsin.Decision{one, other, unban(one, time.Minute)}, 2 * time.Minute, "dovecot 10.0.0.0/32", ", root: mistake"},
		{"replaced by a shorter one", []tocsin.Decision{one, again(one, time.Minute, time.Minute)}, 3 * time.Minute, "", ", : replaced by a newer ban"},
	}
	for _, tt := range tests {
		for _, how := range []string{"written", "queued"} {
			t.Run(tt.name+", "+how, func(t *testing.T) {
				s := fresh(t)
				if how == "queued" {
					defer stall(t, s)()
				}
				for _, d := range tt.puts {
					short, cancel := context.WithTimeout(ctx, map[string]time.Duration{"written": time.Minute, "queued": time.Millisecond}[how])
					if err := s.Put(short, d); (err != nil) != (how == "queued") {
						t.Fatal(err)
					}
					cancel()
				}
				now := t0.Add(tt.at)
				active, err := s.Active(now)
				if got := ids(active, func(d tocsin.Decision) string { return d.Jail + " " + d.ID }); got != tt.want || err != nil {
					t.Errorf("in force: %q, %v, want %q", got, err, tt.want)
				}
				for _, d := range active {
					if d.Evidence != nil {
						t.Error("evidence came along")
					}
				}
				got := bans(t, s, Query{Active: true, Now: now})
				if got := ids(got, func(b Ban) string { return b.Jail + " " + b.ID }); got != tt.want {
					t.Errorf("bans in force: %q, want %q", got, tt.want)
				}
				var ended []string
				for _, b := range bans(t, s, Query{}) {
					e := ""
					if !b.Ended.IsZero() {
						e = b.EndedBy + ": " + b.EndReason
					}
					ended = append(ended, e)
				}
				if tt.name == "two jails, one lifted" && strings.Join(ended, ", ") == "root: mistake, " { // both began at once
					ended = []string{"", "root: mistake"}
				}
				if got := strings.Join(ended, ", "); got != tt.ended {
					t.Errorf("ended: %q, want %q", got, tt.ended)
				}
			})
		}
	}
}

func TestBansQuery(t *testing.T) {
	s := fresh(t)
	for i, p := range []string{"192.0.2.7/32", "192.0.2.0/24", "192.0.0.0/16", "192.0.3.0/24", "2001:db8::/64", "2001:db8::/32", "0.0.0.0/0"} {
		d := ban(i, 1)
		d.ID, d.Prefix = p, netip.MustParsePrefix(p)
		if i == 1 {
			d.Jail = "dovecot"
		}
		put(t, s, d)
	}
	put(t, s, tocsin.Decision{Jail: "sshd", ID: "mallory", At: t0.Add(time.Minute)})
	tests := []struct {
		name string
		q    Query
		want string
	}{
		{"all", Query{}, "mallory 0.0.0.0/0 2001:db8::/32 2001:db8::/64 192.0.3.0/24 192.0.0.0/16 192.0.2.0/24 192.0.2.7/32"},
		{"containing", Query{Addr: netip.MustParseAddr("192.0.2.7")}, "0.0.0.0/0 192.0.0.0/16 192.0.2.0/24 192.0.2.7/32"},
		{"containing a neighbour", Query{Addr: netip.MustParseAddr("192.0.2.8")}, "0.0.0.0/0 192.0.0.0/16 192.0.2.0/24"},
		{"mapped", Query{Addr: netip.MustParseAddr("::ffff:192.0.2.7"), Limit: 2}, "0.0.0.0/0 192.0.0.0/16"},
		{"IPv6", Query{Addr: netip.MustParseAddr("2001:db8::1")}, "2001:db8::/32 2001:db8::/64"},
		{"IPv6 beside", Query{Addr: netip.MustParseAddr("2001:db8:0:1::1")}, "2001:db8::/32"},
		{"jail", Query{Jail: "dovecot"}, "192.0.2.0/24"},
		{"since", Query{Since: t0.Add(5 * time.Second)}, "mallory 0.0.0.0/0 2001:db8::/32"},
		{"limit", Query{Limit: 1}, "mallory"},
		{"jail and address", Query{Jail: "sshd", Addr: netip.MustParseAddr("192.0.2.8"), Since: t0.Add(3 * time.Second)}, "0.0.0.0/0"},
	}
	for _, tt := range tests {
		got := bans(t, s, tt.q)
		if got := ids(got, func(b Ban) string { return b.ID }); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
	// The same questions about decisions that are still queued.
	defer stall(t, s)()
	d := ban(100, 2)
	short, cancel := context.WithTimeout(ctx, time.Millisecond)
	defer cancel()
	if err := s.Put(short, d); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	for _, q := range []Query{{}, {Addr: d.Prefix.Addr()}, {Jail: "sshd", Limit: 1}, {Since: d.At}, {Active: true, Now: d.At}} {
		q.WithEvidence = true
		if got := bans(t, s, q); len(got) == 0 || got[0].ID != d.ID || len(got[0].Evidence) != 2 {
			t.Errorf("%+v does not find the queued ban: %+v", q, got)
		}
	}
	for _, q := range []Query{{Addr: d.Prefix.Addr().Next()}, {Jail: "x"}, {Since: d.At.Add(1)}, {Active: true, Now: d.Until}} {
		if got := bans(t, s, q); len(got) > 0 && got[0].ID == d.ID {
			t.Errorf("%+v finds the queued ban", q)
		}
	}
}

func TestFormer(t *testing.T) {
	s := fresh(t)
	operator, other := ban(2, 0), ban(3, 0)
	operator.Origin, other.Jail = tocsin.ByOperator, "dovecot"
	put(t, s, ban(0, 1), ban(4, 1), ban(1, 1), operator, other)
	var got []string
	err := s.Former("sshd", t0.Add(time.Second), func(d tocsin.Decision) { got = append(got, d.ID) })
	if want := "[10.0.0.1/32 10.0.0.4/32]"; fmt.Sprint(got) != want || err != nil {
		t.Errorf("former bans %v, %v, want %s", got, err, want)
	}
}

func TestLogins(t *testing.T) {
	s := fresh(t)
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	l := func(addr netip.Addr, after time.Duration, user string, opened bool) tocsin.Login {
		return tocsin.Login{Source: "journal:", Addr: addr, Port: 65535, User: user, At: t0.Add(after), Opened: opened}
	}
	all := []tocsin.Login{l(a, 0, "marie", true), l(a, time.Minute, "marie", false), l(a, time.Hour, "paul", true), l(b, time.Second, "root", true)}
	s.PutLogin(all...)
	s.PutLogin(all[0], tocsin.Login{Opened: true}, l(netip.MustParseAddr("::ffff:192.0.2.1"), time.Minute, "marie", false))
	if err := s.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Logins(a, t0); !reflect.DeepEqual(got, all[:3]) || err != nil {
		t.Errorf("got %+v, %v, want %+v", got, err, all[:3])
	}
	if got, err := s.Logins(a, t0.Add(time.Second)); !reflect.DeepEqual(got, all[1:3]) || err != nil {
		t.Errorf("since a second later: %+v, %v", got, err)
	}
	if got, err := s.KnownSince(t0); !reflect.DeepEqual(got, []tocsin.Login{all[3], all[2]}) || err != nil {
		t.Errorf("known %+v, %v, want the last login of both", got, err)
	}
	if got, err := s.KnownSince(t0.Add(time.Minute)); len(got) != 1 || err != nil {
		t.Errorf("known since a minute later: %+v, %v, want one", got, err)
	}
}

func TestCountFailures(t *testing.T) {
	s := fresh(t)
	p := netip.MustParsePrefix("192.0.2.1/32")
	count := func(after time.Duration, n int, users ...string) FailureCount {
		return FailureCount{Day: t0.Add(after), Jail: "sshd", Prefix: p, N: n, Last: t0.Add(after), Users: users}
	}
	s.CountFailures(count(time.Hour, 2, "root", "admin"), count(0, 1, "root", ""), FailureCount{N: 5})
	if err := s.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	s.CountFailures(count(2*time.Hour, 3, "a\nb", "c", "d", "e", "f", "g", "h", "i"), count(24*time.Hour, 1))
	if err := s.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	got, err := s.Failures(p.Addr(), t0)
	day := t0.Truncate(24 * time.Hour)
	want := []FailureCount{
		{Day: day, Jail: "sshd", Prefix: p, N: 6, Last: t0.Add(2 * time.Hour), Users: []string{"root", "admin", "a b", "c", "d", "e", "f", "g"}},
		{Day: day.AddDate(0, 0, 1), Jail: "sshd", Prefix: p, N: 1, Last: t0.Add(24 * time.Hour)},
	}
	if !reflect.DeepEqual(got, want) || err != nil {
		t.Errorf("got  %+v, %v\nwant %+v", got, err, want)
	}
	if got, err := s.Failures(p.Addr(), t0.AddDate(0, 0, 1)); len(got) != 1 || err != nil {
		t.Errorf("since the next day: %+v, %v, want one", got, err)
	}
	if got := dayOf(time.Unix(-1, 0)); got != -1 {
		t.Errorf("the second before 1970 is on day %d, want -1", got)
	}
}

func TestAllow(t *testing.T) {
	s := fresh(t)
	p, q := netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/48")
	entries := []AllowEntry{{Prefix: q, Until: t0.Add(time.Hour), By: "root", Note: "the office", At: t0}, {Prefix: p, At: t0}}
	for _, e := range append(entries, entries...) {
		if err := s.Allow(e); err != nil {
			t.Fatal(err)
		}
	}
	get := func(after time.Duration) string {
		es, err := s.Allowed(t0.Add(after))
		if err != nil {
			t.Fatal(err)
		}
		return ids(es, func(e AllowEntry) string { return e.Prefix.String() })
	}
	if got, err := s.Allowed(t0); len(got) != 2 || !reflect.DeepEqual(got[1], entries[0]) || got[0].Prefix != p || err != nil {
		t.Errorf("got %+v, %v, want both", got, err)
	}
	if got := get(time.Hour); got != p.String() {
		t.Errorf("after an hour: %q, want %v", got, p)
	}
	for i, want := range []bool{true, false} {
		if was, err := s.Disallow(p); was != want || err != nil {
			t.Errorf("disallow number %d: %v, %v, want %v", i+1, was, err, want)
		}
	}
	if got := get(0); got != q.String() {
		t.Errorf("after disallow: %q, want %v", got, q)
	}
}

func TestMarks(t *testing.T) {
	s := fresh(t)
	m := Mark{Source: "file:/var/log/*.log", Path: "/var/log/auth.log", File: 1 << 63, Offset: 1 << 40, Fingerprint: 1<<64 - 1, Cursor: "s=1;i=2", At: t0}
	second := m
	second.Path = "/var/log/b.log"
	s.PutMark(Mark{Source: m.Source, Path: m.Path}, second)
	s.PutMark(m, Mark{Source: "journal:", At: t0})
	if err := s.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Marks(m.Source); !reflect.DeepEqual(got, []Mark{m, second}) || err != nil {
		t.Errorf("got %+v, %v, want %+v", got, err, m)
	}
}

// A mark is seen as soon as it is put: while it waits, while it is being written, and when it is on the disk.
func TestQueuedMarks(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "s.db"), Options{Delay: time.Millisecond})
	mark := func(path string, offset int64) Mark { return Mark{Source: "x", Path: path, Offset: offset, At: t0} }
	want := func(when string, want ...Mark) {
		t.Helper()
		if got, err := s.Marks("x"); !reflect.DeepEqual(got, want) || err != nil {
			t.Errorf("%s: got %+v, %v, want %+v", when, got, err, want)
		}
	}
	s.PutMark(mark("b", 1), mark("d", 1))
	if err := s.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	want("written", mark("b", 1), mark("d", 1))

	release := stall(t, s)
	defer release()
	s.PutMark(mark("b", 2), mark("c", 2))
	if err := putShort(s, 1); !errors.Is(err, context.DeadlineExceeded) { // takes the marks along
		t.Fatalf("a stalled disk says %v", err)
	}
	want("in flight", mark("b", 2), mark("c", 2), mark("d", 1))
	s.PutMark(mark("c", 3), mark("a", 3), Mark{Source: "y", Path: "b", Offset: 3})
	want("in flight and waiting", mark("a", 3), mark("b", 2), mark("c", 3), mark("d", 1))

	release()
	if err := s.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	want("written again", mark("a", 3), mark("b", 2), mark("c", 3), mark("d", 1))
}

// Without anybody in a hurry, what is queued is on the disk after Options.Delay.
func TestDelayedWrites(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "s.db"), Options{Delay: time.Millisecond})
	s.PutMark(Mark{Source: "x", At: t0})
	for deadline := time.Now().Add(time.Minute); ; runtime.Gosched() {
		if got, err := s.Marks("x"); len(s.queuedMarks("x")) == 0 && len(got) == 1 && err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the mark was not written")
		}
	}
}

func TestPrune(t *testing.T) {
	s := fresh(t)
	day := 24 * time.Hour
	now := t0.Add(400 * day)
	aged := func(n int, age time.Duration) tocsin.Decision {
		d := ban(n, 2)
		d.At, d.Until = now.Add(-age), now.Add(-age+time.Hour)
		return d
	}
	forEver := aged(4, 366*day)
	forEver.Until = time.Time{}
	put(t, s, aged(1, 366*day), aged(2, 91*day), aged(3, 89*day), forEver)
	addr := netip.MustParseAddr("192.0.2.1")
	s.PutLogin(tocsin.Login{Addr: addr, At: now.Add(-91 * day), Opened: true}, tocsin.Login{Addr: addr.Next(), At: now.Add(-89 * day), Opened: true})
	s.CountFailures(FailureCount{Day: now.Add(-92 * day), Prefix: netip.PrefixFrom(addr, 32), N: 1}, FailureCount{Day: now, Prefix: netip.PrefixFrom(addr, 32), N: 1})
	s.PutMark(Mark{Source: "x", Path: "old", At: now.Add(-91 * day)}, Mark{Source: "x", Path: "new", At: now})
	if err := errors.Join(s.Allow(AllowEntry{Prefix: netip.PrefixFrom(addr, 32), Until: now.Add(-1)}), s.Allow(AllowEntry{Prefix: netip.PrefixFrom(addr, 24)})); err != nil {
		t.Fatal(err)
	}
	if err := s.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	n, err := s.Prune(ctx, now, Retention{Evidence: 90 * day, Bans: 365 * day, Logins: 90 * day})
	if err != nil {
		t.Fatal(err)
	}
	if want := 3 + 1 + 1 + 2 + 1 + 1; n != want { // evidence of three, a ban, a count, a login twice, a mark, an entry
		t.Errorf("pruned %d rows, want %d", n, want)
	}
	got := bans(t, s, Query{WithEvidence: true})
	if got := ids(got, func(b Ban) string { return fmt.Sprint(b.ID, len(b.Evidence)) }); got != "10.0.0.3/322 10.0.0.2/320 10.0.0.4/320" {
		t.Errorf("left: %s", got)
	}
	logins, _ := s.KnownSince(time.Time{})
	counts, _ := s.Failures(addr, time.Time{})
	marks, _ := s.Marks("x")
	allowed, _ := s.Allowed(now)
	if len(logins) != 1 || len(counts) != 1 || len(marks) != 1 || len(allowed) != 1 {
		t.Errorf("left: %v, %v, %v, %v, want one each", logins, counts, marks, allowed)
	}
	if n, err := s.Prune(ctx, now, Retention{Evidence: 90 * day, Bans: 365 * day, Logins: 90 * day}); n != 0 || err != nil {
		t.Errorf("pruned again: %d, %v, want nothing left to do", n, err)
	}
}

func TestPruneBounds(t *testing.T) {
	s := fresh(t)
	s.most = limits{decisions: 10, counts: 10, logins: 10}
	for i := range 30 {
		put(t, s, ban(i, 1))
		a := netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})
		s.PutLogin(tocsin.Login{Addr: a, At: t0.Add(time.Duration(i) * time.Second), Opened: true})
		s.CountFailures(FailureCount{Day: t0.AddDate(0, 0, i), Prefix: netip.PrefixFrom(a, 32), N: 1})
	}
	if err := s.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	size := s.Stats().Size
	if n, err := s.Prune(ctx, t0.AddDate(1, 0, 0), Retention{}); n != 80 || err != nil {
		t.Errorf("pruned %d, %v, want 20 of each", n, err)
	}
	if got := bans(t, s, Query{}); len(got) != 10 || got[9].ID != "10.0.0.20/32" {
		t.Errorf("%d bans are left, want the 10 newest", len(got))
	}
	if s.Stats().Size > size+1<<20 {
		t.Errorf("the file grew from %d to %d bytes", size, s.Stats().Size)
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	s.most.decisions = 1
	if _, err := s.Prune(cancelled, t0.AddDate(1, 0, 0), Retention{}); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled prune says %v", err)
	}
}

func TestClosed(t *testing.T) {
	s, err := Open(filepath.Join(t.TempDir(), "s.db"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	s.PutMark(Mark{Source: "x"})
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	s.PutMark(Mark{Source: "y"})
	if err := s.Put(ctx, ban(1, 1)); !errors.Is(err, ErrClosed) {
		t.Errorf("Put says %v", err)
	}
	if _, err := s.Active(t0); !errors.Is(err, ErrClosed) {
		t.Errorf("Active says %v", err)
	}
	if err := s.Put(ctx); err != nil {
		t.Errorf("nothing put says %v", err)
	}
	s = open(t, s.path, Options{})
	if got, err := s.Marks("x"); len(got) != 1 || err != nil {
		t.Errorf("Close did not write what was queued: %v, %v", got, err)
	}
}

// Decisions are not kept waiting by what nobody waits for, and what nobody waits for is not forgotten because of them.
func TestTurns(t *testing.T) {
	b := newBatch()
	for i := range 3 * smallBatch {
		a := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		b.counts[countKey{prefix: netip.PrefixFrom(a, 32)}] = FailureCount{N: 1}
	}
	b.logins = make([]tocsin.Login, 10)
	b.marks[markKey{"x", ""}] = Mark{}
	b.requests, b.decisions = []*request{{decisions: make([]tocsin.Decision, 2)}}, 2
	b.flushes = []*request{{last: true}}

	out := b.hurried()
	if len(out.requests) != 1 || out.decisions != 2 || len(out.marks) != 1 || len(out.logins)+len(out.counts) != 0 || b.decisions != 0 {
		t.Errorf("in a hurry: %+v", out)
	}
	var rows, rounds, flushed int
	for ; !b.empty(); rounds++ {
		out := b.some()
		if n := len(out.logins) + len(out.counts); n > smallBatch {
			t.Errorf("round %d writes %d rows, want at most %d", rounds, n, smallBatch)
		}
		rows += len(out.logins) + len(out.counts)
		if flushed += len(out.requests); flushed > 0 && !b.empty() {
			t.Error("a flush is answered before everything is written")
		}
	}
	if rows != 3*smallBatch+10 || flushed != 1 {
		t.Errorf("%d rows and %d flushes in %d rounds, want %d and 1", rows, flushed, rounds, 3*smallBatch+10)
	}
}
