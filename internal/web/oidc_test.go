package web

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"tocsin/internal/account"
	"tocsin/internal/account/fake"
)

// TestOIDCLogin goes to a provider and back with a browser.
func TestOIDCLogin(t *testing.T) {
	p := fake.New("tocsin", "secret")
	defer p.Close()
	s := newSite(t, func(o *Options) {
		p.Redirect = o.Origin + "/oidc"
		o.OIDCName = "the association"
		o.OIDC = account.NewOIDC(account.OIDCOptions{
			Issuer: p.URL, ClientID: "tocsin", ClientSecret: func() (string, error) { return "secret", nil }, Redirect: p.Redirect,
			Claim: "groups", Roles: map[string]account.Role{"helpers": account.Support},
		})
	})
	// through is the way over the provider, as far as the browser's return.
	through := func(b *browser, to string) (back string) {
		t.Helper()
		a := b.get("/oidc/begin?to=" + url.QueryEscape(to))
		if a.StatusCode != http.StatusSeeOther || !strings.HasPrefix(a.Header.Get("Location"), p.URL) {
			t.Fatalf("begin: %s to %s", a.Status, a.Header.Get("Location"))
		}
		resp, err := b.client.Get(a.Header.Get("Location"))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return strings.TrimPrefix(resp.Header.Get("Location"), s.http.URL)
	}
	b := s.browser()
	if a := b.get("/login"); !strings.Contains(a.text, "Log in with the association") {
		t.Error("the login does not offer it")
	}
	p.Claims = map[string]any{"preferred_username": "zoe", "groups": []string{"helpers"}}
	back := through(b, "/alerts")
	if a := b.get(back); a.StatusCode != http.StatusSeeOther || a.Header.Get("Location") != "/alerts" {
		t.Fatalf("back: %s %s %s", a.Status, a.Header.Get("Location"), a.text)
	}
	if a := b.get("/account"); !strings.Contains(a.text, "zoe") || !strings.Contains(a.text, "Role: support.") || strings.Contains(a.text, `name="old"`) {
		t.Errorf("who she is: %s", a.text)
	}
	if a := b.get("/users"); a.StatusCode != http.StatusForbidden {
		t.Errorf("support manages accounts: %s", a.Status)
	}
	for _, tt := range []struct {
		name   string
		change func(b *browser, back string) string
		want   string
	}{
		{"a second time", func(b *browser, back string) string { b.get(back); return back }, "took too long"},
		{"another browser", func(b *browser, back string) string { b.client = s.browser().client; return back }, "took too long"},
		{"another state", func(_ *browser, back string) string {
			return strings.Replace(back, "state=", "state=x", 1)
		}, "took too long"},
		{"another code", func(_ *browser, back string) string {
			return strings.Replace(back, "code=", "code=x", 1)
		}, "did not answer as it should"},
	} {
		b := s.browser()
		a := b.get(tt.change(b, through(b, "/")))
		checkPage(t, tt.name, a)
		if a.StatusCode != http.StatusForbidden || !strings.Contains(a.text, tt.want) {
			t.Errorf("%s: %s, want %q", tt.name, a.Status, tt.want)
		}
	}
	p.Refuses = "access_denied"
	b = s.browser()
	if a := b.get(through(b, "/")); a.StatusCode != http.StatusForbidden || !strings.Contains(a.text, "refused the login") {
		t.Errorf("the provider refuses: %s", a.Status)
	}
	p.Claims["groups"] = []string{"others"}
	b = s.browser()
	if a := b.get(through(b, "/")); a.StatusCode != http.StatusForbidden || !strings.Contains(a.text, "no role here") {
		t.Errorf("nobody's role: %s", a.Status)
	}
	if m := p.Mistakes(); len(m) > 0 {
		t.Errorf("the provider was asked wrongly: %q", m)
	}
}

// TestManyLoginsBegun: whoever begins logins by the thousand pushes out nobody's that is on its way.
func TestManyLoginsBegun(t *testing.T) {
	p := fake.New("tocsin", "secret")
	defer p.Close()
	s := newSite(t, func(o *Options) {
		p.Redirect = o.Origin + "/oidc"
		o.OIDC = account.NewOIDC(account.OIDCOptions{
			Issuer: p.URL, ClientID: "tocsin", ClientSecret: func() (string, error) { return "secret", nil }, Redirect: p.Redirect,
			Claim: "groups", Roles: map[string]account.Role{"helpers": account.Support},
		})
	})
	p.Claims = map[string]any{"preferred_username": "zoe", "groups": []string{"helpers"}}
	b := s.browser()
	a := b.get("/oidc/begin?to=" + strings.Repeat("/x", 2_000))
	for _, c := range a.Cookies() {
		if len(c.Name)+len(c.Value) > 4_096 {
			t.Errorf("a cookie of %d bytes", len(c.Value))
		}
	}
	resp, err := b.client.Get(a.Header.Get("Location"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	for range 1_001 {
		r := httptest.NewRequest("GET", s.http.URL+"/oidc/begin", nil)
		w := httptest.NewRecorder()
		if s.pages.ServeHTTP(w, r); w.Code != http.StatusSeeOther {
			t.Fatalf("begin: %d", w.Code)
		}
	}
	if a := b.get(strings.TrimPrefix(resp.Header.Get("Location"), s.http.URL)); a.StatusCode != http.StatusSeeOther || a.Header.Get("Location") != "/" {
		t.Errorf("back: %s to %q", a.Status, a.Header.Get("Location"))
	}
}

// TestRoundEnds: a login that took too long, or that was sealed under another key, is begun anew.
func TestRoundEnds(t *testing.T) {
	s := newSite(t).pages
	now := time.Now()
	r := httptest.NewRequest("GET", s.o.Origin+"/oidc", nil)
	r.AddCookie(&http.Cookie{Name: s.cookieName(r, cookieRound), Value: s.sealRound(round{account.Round{State: "s"}, "/alerts", now.Add(roundFor)})})
	if one, ok := s.openRound(r, now); !ok || one.State != "s" || one.To != "/alerts" {
		t.Errorf("at once: %+v, %v", one, ok)
	}
	if _, ok := s.openRound(r, now.Add(roundFor)); ok {
		t.Error("it is good for ever")
	}
	s.signer.now.Store(&account.Signer{Key: [32]byte{1}})
	if _, ok := s.openRound(r, now); ok {
		t.Error("it is good under another key")
	}
}

func TestNoOIDC(t *testing.T) {
	b := newSite(t).browser()
	for _, path := range []string{"/oidc/begin", "/oidc?state=x&code=y"} {
		if a := b.get(path); a.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %s", path, a.Status)
		}
	}
}
