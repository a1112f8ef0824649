package notify

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tocsin"
)

// strict is a server that takes JSON objects of one kind and notes whatever else is wrong.
type strict struct {
	*httptest.Server
	mu    sync.Mutex
	got   []map[string]any
	heads []http.Header
	paths []string
	raw   []string
}

func newStrict(t *testing.T, answer func(n int, w http.ResponseWriter) bool) *strict {
	s := &strict{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, err := io.ReadAll(r.Body)
		var v map[string]any
		d := json.NewDecoder(strings.NewReader(string(text)))
		d.UseNumber()
		if err != nil || d.Decode(&v) != nil || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %s, content type %q, body %.100q", r.Method, r.URL, r.Header.Get("Content-Type"), text)
		}
		s.mu.Lock()
		s.got, s.heads, s.paths, s.raw = append(s.got, v), append(s.heads, r.Header), append(s.paths, r.URL.String()), append(s.raw, string(text))
		n := len(s.got)
		s.mu.Unlock()
		if answer == nil || !answer(n, w) {
			fmt.Fprint(w, `{"id":"abc"}`)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *strict) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.got)
}

func secretFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestNtfy(t *testing.T) {
	s := newStrict(t, nil)
	c := contact("phone")
	c.Ntfy, c.NtfyToken = s.URL+"/sub/tocsin-x", secretFile(t, "tk_1\n")
	n := running(t, Options{Contacts: []Contact{c}, URL: "https://tocsin.exemple.org", Host: "hub"})
	for i, turned := range []tocsin.Change{turn(tocsin.Began, began), turn(tocsin.Over, began.Add(12*time.Minute))} {
		if err := n.Tell(t.Context(), turned); err != nil {
			t.Fatal(err)
		}
		until(t, "ntfy", func() bool { return s.count() == i+1 })
	}
	first, over := s.got[0], s.got[1]
	if s.paths[0] != "/sub/" || s.heads[0].Get("Authorization") != "Bearer tk_1" {
		t.Errorf("path %q, token %q", s.paths[0], s.heads[0].Get("Authorization"))
	}
	for key, want := range map[string]string{
		"topic": "tocsin-x", "title": "mail2.exemple.org sans nouvelles", "priority": "4", "tags": "[rotating_light]", "click": "https://tocsin.exemple.org/alert/1042",
		"actions": "[map[action:view label:Acquitter url:https://tocsin.exemple.org/alert/1042]]", "sequence_id": "incident-1042-1795269900",
	} {
		if got := fmt.Sprint(first[key]); got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	if over["sequence_id"] != first["sequence_id"] || fmt.Sprint(over["tags"]) != "[white_check_mark]" || over["actions"] != nil || fmt.Sprint(over["priority"]) != "3" {
		t.Errorf("the end: %v", over)
	}
}

func TestWebhook(t *testing.T) {
	s := newStrict(t, nil)
	c := contact("hub")
	c.Webhook, c.Secret = s.URL+"/hook?token=secret", secretFile(t, "key")
	n := running(t, Options{Contacts: []Contact{c}, Host: "hub"})
	in := turn(tocsin.Began, began)
	in.Members, in.Label = []string{"a", "b"}, "x\x1b[2J\u202e<b>"
	if err := n.Tell(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	until(t, "the webhook", func() bool { return s.count() == 1 })
	got, head := s.got[0], s.heads[0]
	incident, ok := got["incident"].(map[string]any)
	if !ok || got["schema"] != "tocsin.notice/1" || got["kind"] != "began" || fmt.Sprint(incident["id"]) != "1042" || incident["value"] != nil ||
		incident["level"] != "critical" || fmt.Sprint(incident["servers"]) != "[a b]" || incident["server"] != "mail2.exemple.org" {
		t.Errorf("body %v", got)
	}
	at, sum, _ := strings.Cut(head.Get("X-Tocsin-Signature"), ",v1=")
	mac := hmac.New(sha256.New, []byte("key"))
	fmt.Fprintf(mac, "%s.%s", strings.TrimPrefix(at, "t="), s.raw[0])
	if sum != hex.EncodeToString(mac.Sum(nil)) {
		t.Errorf("signature %q", head.Get("X-Tocsin-Signature"))
	}
	if head.Get("Idempotency-Key") == "" || head.Get("User-Agent") != "tocsin/0" {
		t.Errorf("headers %v", head)
	}
	trial := n.Test(t.Context(), "hub")[0]
	if trial.Err != nil || !strings.Contains(strings.Join(trial.Steps, "\n"), "accepted: 200 OK") || strings.Contains(strings.Join(trial.Steps, "\n"), "secret") {
		t.Errorf("trial %+v", trial)
	}
}

func TestAnswers(t *testing.T) {
	tests := []struct {
		name   string
		answer func(w http.ResponseWriter)
		state  tocsin.NoticeState
		least  time.Duration // until the next try
		said   string
	}{
		{"500", func(w http.ResponseWriter) { http.Error(w, "oops\x1b[31m", 500) }, tocsin.Waiting, 25 * time.Second, "500 Internal Server Error oops"},
		{"429 later", func(w http.ResponseWriter) { w.Header().Set("Retry-After", "900"); w.WriteHeader(429) }, tocsin.Waiting, 14 * time.Minute, "429"},
		{"503 at a date", func(w http.ResponseWriter) {
			w.Header().Set("Retry-After", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat))
			w.WriteHeader(503)
		}, tocsin.Waiting, 55 * time.Minute, "503"},
		{"429 for ever", func(w http.ResponseWriter) { w.Header().Set("Retry-After", "2000000000"); w.WriteHeader(429) }, tocsin.Waiting, 5 * time.Hour, "429"},
		{"redirect", func(w http.ResponseWriter) { w.Header().Set("Location", "http://192.0.2.1/steal"); w.WriteHeader(307) }, tocsin.Waiting, 25 * time.Second, "somewhere else"},
		{"gone", func(w http.ResponseWriter) { w.WriteHeader(410) }, tocsin.Failed, 0, "410 Gone"},
		{"wrong key", func(w http.ResponseWriter) { w.WriteHeader(403) }, tocsin.Waiting, 25 * time.Second, "403"},
		{"long", func(w http.ResponseWriter) { w.WriteHeader(500); fmt.Fprint(w, strings.Repeat("é", 100_000)) }, tocsin.Waiting, 25 * time.Second, "éé"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newStrict(t, func(_ int, w http.ResponseWriter) bool { tt.answer(w); return true })
			c := contact("x")
			c.Webhook = s.URL
			b := newBox()
			n := running(t, Options{Contacts: []Contact{c}, Outbox: b})
			if err := n.Tell(t.Context(), turn(tocsin.Began, began)); err != nil {
				t.Fatal(err)
			}
			until(t, "the answer", func() bool { return len(b.some(func(m tocsin.Notice) bool { return m.Tries == 1 })) == 1 })
			m := b.some(func(tocsin.Notice) bool { return true })[0]
			if m.State != tt.state || !strings.Contains(m.Said, tt.said) || strings.Contains(m.Said, "\x1b") || len(m.Said) > 1000 {
				t.Errorf("%s, said %q", m.State, m.Said)
			}
			if wait := m.Due.Sub(m.Made); tt.state == tocsin.Waiting && wait < tt.least || wait > 7*time.Hour {
				t.Errorf("tried again after %s, want %s at least", wait, tt.least)
			}
			if s.count() != 1 {
				t.Errorf("asked %d times", s.count())
			}
		})
	}
}

// A receiver that hangs delays no other, and the end of the program does not wait for it.
func TestSlowReceiverDelaysNobody(t *testing.T) {
	stop := make(chan struct{})
	hanging := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-stop:
		case <-r.Context().Done():
		}
	}))
	defer hanging.Close()
	defer close(stop)
	quick := newStrict(t, nil)
	slow, fast, dead := contact("slow"), contact("fast"), contact("dead")
	slow.Webhook, fast.Webhook, dead.Webhook = hanging.URL, quick.URL, "http://127.0.0.1:1/"
	b := newBox()
	n, err := New(t.Context(), Options{Contacts: []Contact{slow, fast, dead}, Outbox: b})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); n.Run(ctx) }()
	for i := range 3 {
		in := turn(tocsin.Began, began)
		in.ID += int64(i)
		if err := n.Tell(t.Context(), in); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "the quick one", func() bool { return quick.count() == 3 })
	cancel()
	<-done
	waiting := b.some(func(m tocsin.Notice) bool { return m.Contact == "slow" && m.State == tocsin.Waiting && m.Tries == 0 })
	if len(waiting) != 3 {
		t.Errorf("%d messages wait for the slow one", len(waiting))
	}
}

func TestDeadman(t *testing.T) {
	var mu sync.Mutex
	asked := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if asked++; r.Method != http.MethodGet || r.URL.Path != "/ping/1" {
			t.Errorf("%s %s", r.Method, r.URL)
		}
	}))
	defer s.Close()
	running(t, Options{Deadman: s.URL + "/ping/1"})
	until(t, "the ping", func() bool { mu.Lock(); defer mu.Unlock(); return asked == 1 })
	n, err := New(t.Context(), Options{Outbox: newBox(), Alive: func() error { return fmt.Errorf("nothing was read") }})
	if err != nil {
		t.Fatal(err)
	}
	h, err := n.newHook(nil, s.URL+"/ping/1", "")
	if err != nil {
		t.Fatal(err)
	}
	if err := n.ping(t.Context(), h); err == nil || !strings.Contains(err.Error(), "nothing was read") {
		t.Errorf("asked though something is wrong: %v", err)
	}
	h.url = s.URL + "/other"
	gone := httptest.NewServer(http.NotFoundHandler())
	defer gone.Close()
	h.url = gone.URL
	if err := n.pingOnce(t.Context(), h); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("not found: %v", err)
	}
}
