package account_test

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tocsin/internal/account"
	"tocsin/internal/account/fake"
)

const redirect = "https://tocsin.asso.example/oidc"

// login goes to the provider and back, as a browser does.
func login(t *testing.T, c *account.OIDC) (round account.Round, code string) {
	t.Helper()
	to, round, err := c.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Get(to)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	back, err := url.Parse(resp.Header.Get("Location"))
	if err != nil || !strings.HasPrefix(back.String(), redirect+"?") || back.Query().Get("state") != round.State {
		t.Fatalf("sent back to %s, %v", back, err)
	}
	return round, back.Query().Get("code")
}

func TestOIDC(t *testing.T) {
	p := fake.New("tocsin", "secret")
	defer p.Close()
	p.Redirect = redirect
	roles := map[string]account.Role{"sysadmins": account.Admin, "helpers": account.Support, "members": account.Board}
	good := func(groups any) map[string]any {
		return map[string]any{"preferred_username": "marie", "groups": groups}
	}
	tests := []struct {
		name   string
		claim  string
		claims map[string]any
		who    string
		role   account.Role
	}{
		{"a list", "groups", good([]string{"members", "sysadmins"}), "marie", account.Admin},
		{"one", "groups", good("helpers"), "marie", account.Support},
		{"none of ours", "groups", good([]string{"others"}), "marie", account.Nobody},
		{"no claim", "groups", map[string]any{"email": "marie@asso.example"}, "marie@asso.example", account.Nobody},
		{"numbers", "groups", good([]int{1}), "marie", account.Nobody},
		{"deeper", "realm_access.roles", map[string]any{"realm_access": map[string]any{"roles": []string{"members"}}}, "248289761001", account.Board},
		{"not as deep", "groups.x", good("helpers"), "marie", account.Nobody},
		{"a hostile name", "groups", map[string]any{"preferred_username": "<b>\u202e", "name": "Marie É", "groups": "members"}, "Marie É", account.Board},
	}
	for _, tt := range tests {
		c := account.NewOIDC(account.OIDCOptions{Issuer: p.URL, ClientID: "tocsin", ClientSecret: func() (string, error) { return "secret", nil }, Redirect: redirect, Claim: tt.claim, Roles: roles})
		p.Claims = tt.claims
		round, code := login(t, c)
		who, err := c.Finish(t.Context(), round, code)
		if err != nil || who.Name != tt.who || who.Role != tt.role || who.Subject != "248289761001" {
			t.Errorf("%s: %+v, %v; want %s %v", tt.name, who, err, tt.who, tt.role)
		}
	}
	if m := p.Mistakes(); len(m) > 0 {
		t.Errorf("the provider was asked wrongly: %q", m)
	}
}

// slow is a provider that answers when it is told to.
type slow struct {
	asked  atomic.Int64
	answer chan struct{} // closed: it fails
}

func (s *slow) RoundTrip(*http.Request) (*http.Response, error) {
	s.asked.Add(1)
	<-s.answer
	return nil, errors.New("it is down")
}

// TestProviderThatIsDown: many who come while it is down ask it once, do not wait for each other, and once more later.
func TestProviderThatIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slow{answer: make(chan struct{})}
		c := account.NewOIDC(account.OIDCOptions{Issuer: "https://id.example", ClientID: "tocsin", Redirect: redirect, Client: &http.Client{Transport: s}})
		errs := make(chan error, 20)
		for range cap(errs) {
			go func() { _, _, err := c.Begin(t.Context()); errs <- err }()
		}
		synctest.Wait()
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if _, _, err := c.Begin(gone); !errors.Is(err, context.Canceled) {
			t.Errorf("who waits no more: %v", err)
		}
		close(s.answer)
		for range cap(errs) {
			if err := <-errs; err == nil || !strings.Contains(err.Error(), "it is down") {
				t.Errorf("while it is asked: %v", err)
			}
		}
		time.Sleep(9 * time.Second)
		if _, _, err := c.Begin(t.Context()); err == nil || s.asked.Load() != 1 {
			t.Errorf("a while later: %v, asked %d times", err, s.asked.Load())
		}
		time.Sleep(2 * time.Second)
		if _, _, err := c.Begin(t.Context()); err == nil || s.asked.Load() != 2 {
			t.Errorf("later: %v, asked %d times", err, s.asked.Load())
		}
	})
}

func TestOIDCRefuses(t *testing.T) {
	p := fake.New("tocsin", "secret")
	defer p.Close()
	p.Redirect = redirect
	secret, unread := "secret", error(nil)
	c := account.NewOIDC(account.OIDCOptions{Issuer: p.URL, ClientID: "tocsin", ClientSecret: func() (string, error) { return secret, unread }, Redirect: redirect, Claim: "groups"})
	for _, tt := range []struct {
		name   string
		change func(*account.Round)
		want   string
	}{
		{"another nonce", func(*account.Round) { p.Nonce = "other" }, "another login"},
		{"another verifier", func(r *account.Round) { r.Verifier = strings.Repeat("x", 43) }, "invalid_grant"},
		{"signed by somebody else", func(*account.Round) { p.Stolen = true }, "check the id_token"},
		{"too old", func(*account.Round) { p.Claims = map[string]any{"exp": time.Now().Add(-time.Hour).Unix()} }, "check the id_token"},
		{"for somebody else", func(*account.Round) { p.Claims = map[string]any{"aud": "other"} }, "check the id_token"},
		{"of somebody else", func(*account.Round) { p.Claims = map[string]any{"iss": "https://evil.example"} }, "check the id_token"},
		{"a wrong secret", func(*account.Round) { secret = "wrong" }, "show"},
		{"no secret", func(*account.Round) { unread = errors.New("no such file") }, "no such file"},
	} {
		p.Nonce, p.Stolen, p.Claims, secret, unread = "", false, nil, "secret", nil
		round, code := login(t, c)
		tt.change(&round)
		if who, err := c.Finish(t.Context(), round, code); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %+v, %v; want an error with %q", tt.name, who, err, tt.want)
		}
	}
	p.Nonce, p.Stolen, p.Claims, secret, unread = "", false, nil, "secret", nil
	round, code := login(t, c)
	if _, err := c.Finish(t.Context(), round, code); err != nil {
		t.Errorf("a good one: %v", err)
	}
	if _, err := c.Finish(t.Context(), round, code); err == nil {
		t.Error("a code is good twice")
	}
	p.Close()
	gone := account.NewOIDC(account.OIDCOptions{Issuer: p.URL, ClientID: "tocsin", Redirect: redirect})
	if _, _, err := gone.Begin(t.Context()); err == nil {
		t.Error("a provider that is gone")
	}
	if _, err := gone.Finish(t.Context(), account.Round{}, "x"); err == nil {
		t.Error("a provider that is gone")
	}
}
