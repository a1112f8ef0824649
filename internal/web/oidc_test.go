package web

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

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

func TestNoOIDC(t *testing.T) {
	b := newSite(t).browser()
	for _, path := range []string{"/oidc/begin", "/oidc?state=x&code=y"} {
		if a := b.get(path); a.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %s", path, a.Status)
		}
	}
}
