package store

import (
	"context"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestUsers(t *testing.T) {
	ctx := context.Background()
	w := openWatch(t, filepath.Join(t.TempDir(), "watch.db"))
	marie := User{Name: "marie", Role: "admin", Made: t0}
	paul := User{Name: "paul", Role: "support", Password: "x", Made: t0, Logged: t0.Add(time.Hour)}
	for _, tt := range []struct {
		user User
		want bool
	}{{paul, true}, {marie, true}, {User{Name: "paul", Role: "admin", Made: t0}, false}} {
		if ok, err := w.AddUser(ctx, tt.user); ok != tt.want || err != nil {
			t.Errorf("AddUser %s %s: %v, %v; want %v", tt.user.Name, tt.user.Role, ok, err, tt.want)
		}
	}
	marie.Password, marie.Logged = "y", t0.Add(time.Minute)
	if ok, err := w.PutUser(ctx, marie); !ok || err != nil {
		t.Errorf("PutUser: %v, %v", ok, err)
	}
	if ok, err := w.PutUser(ctx, User{Name: "nobody"}); ok || err != nil {
		t.Errorf("PutUser of nobody: %v, %v", ok, err)
	}
	if all, err := w.Users(ctx); err != nil || !reflect.DeepEqual(all, []User{marie, paul}) {
		t.Errorf("users: %+v, %v", all, err)
	}
	if err := w.PutSession(ctx, Session{Hash: [32]byte{1}, Name: "paul", Kind: "password", Made: t0, Seen: t0, Until: t0.Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []bool{true, false} {
		if ok, err := w.DropUser(ctx, "paul"); ok != want || err != nil {
			t.Errorf("DropUser: %v, %v; want %v", ok, err, want)
		}
	}
	if all, err := w.Sessions(ctx, t0); err != nil || len(all) != 0 {
		t.Errorf("sessions of an account that is gone: %+v, %v", all, err)
	}
}

func TestSessions(t *testing.T) {
	ctx := context.Background()
	w := openWatch(t, filepath.Join(t.TempDir(), "watch.db"))
	session := func(n byte, name string, until time.Duration) Session {
		return Session{Hash: [32]byte{n}, Name: name, Role: "admin", Kind: "password", Made: t0, Seen: t0.Add(time.Duration(n)), Until: t0.Add(until), Addr: "192.0.2.1", Agent: "curl"}
	}
	a, b, c := session(1, "marie", time.Hour), session(2, "marie", time.Hour), session(3, "paul", time.Minute)
	a.Seen, b.Seen, c.Seen = t0, t0.Add(time.Second), t0
	for _, s := range []Session{a, b, c} {
		if err := w.PutSession(ctx, s); err != nil {
			t.Fatal(err)
		}
	}
	if all, err := w.Sessions(ctx, t0); err != nil || !reflect.DeepEqual(all, []Session{b, a, c}) {
		t.Errorf("sessions: %+v, %v", all, err)
	}
	if all, err := w.Sessions(ctx, t0.Add(time.Minute)); err != nil || len(all) != 2 {
		t.Errorf("a session that has ended is still there: %+v, %v", all, err)
	}
	if err := w.DropSessions(ctx, "password", "marie", a.Hash); err != nil {
		t.Error(err)
	}
	if all, err := w.Sessions(ctx, t0); err != nil || !reflect.DeepEqual(all, []Session{a}) {
		t.Errorf("after all others were ended: %+v, %v", all, err)
	}
	for _, want := range []bool{true, false} {
		if ok, err := w.DropSession(ctx, a.Hash); ok != want || err != nil {
			t.Errorf("DropSession: %v, %v; want %v", ok, err, want)
		}
	}
}

func TestStarts(t *testing.T) {
	ctx := context.Background()
	w := openWatch(t, filepath.Join(t.TempDir(), "watch.db"))
	first, second := Start{[32]byte{1}, "marie", t0.Add(time.Minute)}, Start{[32]byte{2}, "marie", t0.Add(time.Minute)}
	for _, l := range []Start{first, second} {
		if ok, err := w.PutStart(ctx, l, t0); !ok || err != nil {
			t.Fatalf("PutStart: %v, %v", ok, err)
		}
	}
	if _, ok, err := w.FindStart(ctx, first.Hash, t0); ok || err != nil {
		t.Errorf("an older link for the same account is still good: %v, %v", ok, err)
	}
	if l, ok, err := w.FindStart(ctx, second.Hash, t0); !ok || err != nil || l != second {
		t.Errorf("FindStart: %+v, %v, %v", l, ok, err)
	}
	if _, ok, _ := w.FindStart(ctx, second.Hash, second.Until); ok {
		t.Error("a link is good at its end")
	}
	for _, want := range []bool{true, false} {
		if ok, err := w.UseStart(ctx, second.Hash, t0); ok != want || err != nil {
			t.Errorf("UseStart: %v, %v; want %v", ok, err, want)
		}
	}
	if ok, err := w.PutStart(ctx, second, t0); ok || err != nil {
		t.Errorf("a used link can be kept again: %v, %v", ok, err)
	}
	if _, ok, _ := w.FindStart(ctx, second.Hash, t0); ok {
		t.Error("a used link is good again")
	}
	// Those without a name stand beside each other: each was printed in a terminal of its own.
	for n := byte(3); n < 5; n++ {
		if ok, err := w.PutStart(ctx, Start{[32]byte{n}, "", t0.Add(time.Minute)}, t0); !ok || err != nil {
			t.Fatalf("PutStart: %v, %v", ok, err)
		}
	}
	if _, ok, _ := w.FindStart(ctx, [32]byte{3}, t0); !ok {
		t.Error("a second link of a terminal replaced the first")
	}
}

func TestSecrets(t *testing.T) {
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "watch.db")
	w := openWatch(t, path)
	for _, tt := range []struct{ given, want byte }{{1, 1}, {2, 1}} {
		if got, err := w.Secret(ctx, "links", [32]byte{tt.given}); err != nil || got != [32]byte{tt.want} {
			t.Errorf("Secret: %v, %v; want %d", got[0], err, tt.want)
		}
	}
	if err := w.NewSecret(ctx, "links", [32]byte{3}); err != nil {
		t.Fatal(err)
	}
	if got, err := w.Secret(ctx, "links", [32]byte{4}); err != nil || got != [32]byte{3} {
		t.Errorf("Secret: %v, %v; want 3", got[0], err)
	}
}

// TestLooksPushNoDeedOut: looks have a bound of their own.
func TestLooksPushNoDeedOut(t *testing.T) {
	ctx := context.Background()
	w := openWatch(t, filepath.Join(t.TempDir(), "watch.db"))
	put := func(what string) {
		t.Helper()
		if err := w.PutAction(ctx, Action{At: t0, Who: "marie", What: what, About: "192.0.2.7"}); err != nil {
			t.Fatal(err)
		}
	}
	fill := func(what string, n int) {
		t.Helper()
		if _, err := w.exec(ctx, "fill", `WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c WHERE i < ?) INSERT INTO action (at, who, what, about, note) SELECT ?, '', ?, '', '' FROM c`, n, micros(t0), what); err != nil {
			t.Fatal(err)
		}
	}
	count := func(condition string) (n int) {
		t.Helper()
		all, err := rows(ctx, w, "count", `SELECT count(*) FROM action WHERE what `+condition, func(scan func(...any) error) (n int, err error) { return n, scan(&n) })
		if err != nil {
			t.Fatal(err)
		}
		return all[0]
	}
	put("unban")
	fill(Look, mostLooks+mostActions)
	put(Look)
	if looks, deeds := count("= 'look'"), count("<> 'look'"); looks != mostLooks || deeds != 1 {
		t.Errorf("%d looks and %d deeds are kept, want %d and 1", looks, deeds, mostLooks)
	}
	fill("ban", mostActions)
	put("unban")
	if looks, deeds := count("= 'look'"), count("<> 'look'"); looks != mostLooks || deeds != mostActions {
		t.Errorf("%d looks and %d deeds are kept, want %d and %d", looks, deeds, mostLooks, mostActions)
	}
}

// TestKeptInANewFile: what is kept while the file turns out to be gone stands in the one that is begun.
func TestKeptInANewFile(t *testing.T) {
	ctx := context.Background()
	for _, tt := range []struct {
		name string
		put  func(*Watch) error
		kept func(*Watch) (bool, error)
	}{
		{"an account", func(w *Watch) error {
			ok, err := w.AddUser(ctx, User{Name: "marie", Role: "admin", Made: t0})
			if !ok {
				t.Error("the account is refused")
			}
			return err
		}, func(w *Watch) (bool, error) { all, err := w.Users(ctx); return len(all) == 1, err }},
		{"a session", func(w *Watch) error {
			return w.PutSession(ctx, Session{Name: "marie", Made: t0, Seen: t0, Until: t0.Add(time.Hour)})
		},
			func(w *Watch) (bool, error) { all, err := w.Sessions(ctx, t0); return len(all) == 1, err }},
		{"a link", func(w *Watch) error {
			_, err := w.PutStart(ctx, Start{Name: "marie", Until: t0.Add(time.Hour)}, t0)
			return err
		},
			func(w *Watch) (bool, error) { _, ok, err := w.FindStart(ctx, [32]byte{}, t0); return ok, err }},
		{"a secret", func(w *Watch) error { _, err := w.Secret(ctx, "links", [32]byte{1}); return err },
			func(w *Watch) (bool, error) {
				got, err := w.Secret(ctx, "links", [32]byte{2})
				return got == [32]byte{1}, err
			}},
		{"an action", func(w *Watch) error { return w.PutAction(ctx, Action{At: t0, Who: "marie", What: "ban"}) },
			func(w *Watch) (bool, error) { all, err := w.Actions(ctx, 0, 10); return len(all) == 1, err }},
	} {
		path := filepath.Join(t.TempDir(), "watch.db")
		w := openWatch(t, path)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := tt.put(w); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		if ok, err := tt.kept(w); !ok || err != nil {
			t.Errorf("%s is kept: %v, %v", tt.name, ok, err)
		}
		w.Close()
	}
}

func TestActions(t *testing.T) {
	ctx := context.Background()
	w := openWatch(t, filepath.Join(t.TempDir(), "watch.db"))
	for i := range 5 {
		a := Action{At: t0.Add(time.Duration(i) * time.Hour), Who: "marie", What: "unban", About: "192.0.2.7", Note: strings.Repeat("x", 2_000)}
		if err := w.PutAction(ctx, a); err != nil {
			t.Fatal(err)
		}
	}
	all, err := w.Actions(ctx, 0, 3)
	if err != nil || len(all) != 3 || all[0].N != 5 || len(all[0].Note) != maxActionText || !all[0].At.Equal(t0.Add(4*time.Hour)) {
		t.Fatalf("actions: %+v, %v", all, err)
	}
	if rest, err := w.Actions(ctx, all[2].N, 10); err != nil || len(rest) != 2 || rest[0].N != 2 {
		t.Errorf("the rest: %+v, %v", rest, err)
	}
	if err := w.PutAction(ctx, Action{At: t0.Add(keepActionsFor + 90*time.Minute), Who: "paul", What: "ban"}); err != nil {
		t.Fatal(err)
	}
	if all, _ := w.Actions(ctx, 0, 10); len(all) != 4 {
		t.Errorf("%d actions are kept; the two that are older than a year should be gone", len(all))
	}
}
