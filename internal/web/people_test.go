package web

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"tocsin/internal/store"
)

// TestChangesAtOnce: whoever loses a role and chooses a password at the same time loses the role.
func TestChangesAtOnce(t *testing.T) {
	s := newSite(t)
	p := s.pages.people
	for i := range 20 {
		role, hash := []string{"board", "support"}[i%2], fmt.Sprint("hash ", i)
		var both sync.WaitGroup
		for _, change := range []func(*store.User){func(u *store.User) { u.Role = role }, func(u *store.User) { u.Password = hash }} {
			both.Go(func() {
				if _, ok, err := p.change(t.Context(), "marie", change); !ok || err != nil {
					t.Error(ok, err)
				}
			})
		}
		both.Wait()
		if u, _ := p.user("marie"); u.Role != role || u.Password != hash {
			t.Fatalf("marie has %q and %q, want %q and %q", u.Role, u.Password, role, hash)
		}
	}
}

// TestOldPasswordIsOut: a session is not begun with a password that was changed since it was checked, nor for who is gone.
func TestOldPasswordIsOut(t *testing.T) {
	s := newSite(t)
	p, now := s.pages.people, time.Now()
	session := store.Session{Name: "marie", Role: "admin", Kind: byPassword, Made: now, Seen: now, Until: now.Add(time.Hour)}
	old, _ := p.user("marie")
	if _, err := p.enter(t.Context(), session, old.Password); err != nil {
		t.Fatal(err)
	}
	if _, _, err := p.change(t.Context(), "marie", func(u *store.User) { u.Password = "another" }); err != nil {
		t.Fatal(err)
	}
	if _, err := p.enter(t.Context(), session, old.Password); !errors.Is(err, errChanged) {
		t.Errorf("with the old password: %v", err)
	}
	if _, err := p.drop(t.Context(), "marie"); err != nil {
		t.Fatal(err)
	}
	if _, err := p.enter(t.Context(), session, "another"); !errors.Is(err, errChanged) {
		t.Errorf("without an account: %v", err)
	}
}

// TestLinksAreNotLogged: what goes wrong with a link that is good once is logged without it.
func TestLinksAreNotLogged(t *testing.T) {
	var log bytes.Buffer
	s := newSite(t, func(o *Options) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	_ = s.store.Close()
	if a := s.browser().get("/start/verysecret"); a.StatusCode != http.StatusInternalServerError {
		t.Errorf("without a store: %s", a.Status)
	}
	s.http.Close() // and waits for its handlers
	if log.Len() == 0 || strings.Contains(log.String(), "verysecret") {
		t.Errorf("logged: %s", &log)
	}
}
