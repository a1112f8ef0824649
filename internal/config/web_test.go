package config

import (
	"strings"
	"testing"
)

func TestWebMistakes(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"a path", `url = "https://asso.example/tocsin"`, "not where pages can be"},
		{"no TLS", `url = "http://tocsin.asso.example"`, "not protected on its way"},
		{"no TLS on this machine", `url = "http://localhost:8044"`, ""},
		{"another scheme", `url = "javascript:alert(1)"`, "not where pages can be"},
		{"a language", `language = "de"`, "is no language"},
		{"a title of two lines", `title = "a\nb"`, "not a line"},
		{"a title that turns", `title = "a\u202eb"`, "not a line"},
		{"a header", `user_header = "Remote User"`, "no name of a header"},
		{"a header without a proxy", `user_header = "Remote-User"`, "believed from anybody"},
		{"a header with a proxy", "proxies = [\"192.0.2.7\"]\nuser_header = \"Remote-User\"", ""},
		{"a header with a proxy here", "proxies = [\"192.0.2.7\", \"127.0.0.1\"]\nuser_header = \"Remote-User\"", "has a shell on this machine"},
		{"a header with a proxy here, IPv6", "proxies = [\"::1\"]\nuser_header = \"Remote-User\"", "has a shell on this machine"},
		{"a header with a proxy here and a secret", "proxies = [\"127.0.0.1\"]\nuser_header = \"Remote-User\"\nproxy_secret_file = \"/etc/tocsin/proxy-secret\"", ""},
		{"a key of the other table", `issuer = "https://login.example"`, "unknown key"},
		{"issuer without client", "url = \"https://t.example\"\n[web.oidc]\nissuer = \"https://login.example\"", "without a client_id"},
		{"issuer without url", "[web.oidc]\nissuer = \"https://login.example\"\nclient_id = \"x\"", "where to send people back"},
		{"issuer without roles", "url = \"https://t.example\"\n[web.oidc]\nissuer = \"https://login.example\"\nclient_id = \"x\"", "nobody would have a role"},
		{"issuer", "url = \"https://t.example\"\n[web.oidc]\nissuer = \"https://login.example\"\nclient_id = \"x\"\nboard = [\"all\"]", ""},
		{"issuer without TLS", "[web.oidc]\nissuer = \"http://login.example\"", "not protected on its way"},
		{"issuer that is none", "[web.oidc]\nissuer = \"login.example\"", "no provider of OpenID Connect"},
		{"twice", "[web.oidc]\n[web.oidc]", "stands twice"},
	}
	for _, tt := range tests {
		_, err := Parse("t.toml", []byte("[web]\n"+tt.text+"\n"))
		if got := err != nil; got != (tt.want != "") || got && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

func TestOrigin(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"", "http://127.0.0.1:8044"},
		{`listen = ""`, "http://localhost"},
		{`listen = "localhost:80"`, "http://localhost:80"},
		{`listen = "0.0.0.0:8044"`, "http://127.0.0.1:8044"},
		{`listen = "[::]:8044"`, "http://127.0.0.1:8044"},
		{`listen = "[2001:db8::1]:8044"`, "http://[2001:db8::1]:8044"},
		{"[web]\nurl = \"https://t.example/\"", "https://t.example"},
	} {
		c, err := Parse("t.toml", []byte(tt.text))
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Origin(); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.text, got, tt.want)
		}
	}
}
