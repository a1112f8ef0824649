package config

import (
	"cmp"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Web says how people reach the pages, and who they may be.
type Web struct {
	URL             string         // as people write it, without a slash at its end; "": by the address of Listen
	Title           string         // of all pages
	Language        string         // "auto", "fr" or "en"
	Proxies         []netip.Prefix // whose word about clients counts
	ProxySecretFile string         // path; "": their address alone is believed
	UserHeader      string         // where such a proxy names the account; "": nowhere
	Bans            bool           // people of the pages may change bans, by their roles
	OIDC            OIDC
}

// OIDC says which provider of OpenID Connect is asked, and what its roles are here.
type OIDC struct {
	Issuer     string // "": none
	Name       string // what the button says
	ClientID   string
	SecretFile string // path; "": a public client
	Claim      string // levels with a point between
	Admin      []string
	Support    []string
	Board      []string
}

// Origin is where people reach the pages: their URL without a path.
func (c *Config) Origin() string {
	if c.Web.URL != "" {
		return c.Web.URL
	}
	at := c.Listen
	if a, err := netip.ParseAddrPort(at); err == nil && a.Addr().IsUnspecified() {
		at = "127.0.0.1:" + strconv.Itoa(int(a.Port()))
	}
	return "http://" + cmp.Or(at, "localhost")
}

// finishWeb does what needs the whole of [web] and [web.oidc].
func (r *reader) finishWeb() {
	w := &r.config.Web
	w.URL = strings.TrimSuffix(w.URL, "/")
	if at, ok := r.singles["web"].seen["user_header"]; ok && w.UserHeader != "" {
		switch {
		case len(w.Proxies) == 0:
			r.fail(at, `name the proxy too, like proxies = ["127.0.0.1"]`, "user_header would be believed from anybody")
		case w.ProxySecretFile == "" && slices.ContainsFunc(w.Proxies, holdsLoopback):
			r.fail(at, "write proxy_secret_file too, and let the proxy send what stands in it in the header Tocsin-Proxy", "user_header would be believed from anybody who has a shell on this machine")
		}
	}
	o, seen := &w.OIDC, r.singles["web.oidc"].seen
	at, ok := seen["issuer"]
	switch {
	case !ok || o.Issuer == "":
	case o.ClientID == "":
		r.fail(at, "the provider gave it to you", "issuer without a client_id")
	case w.URL == "":
		r.fail(at, `write url = "https://tocsin.asso.example" under [web]`, "issuer, but the provider would not know where to send people back to")
	case len(o.Admin)+len(o.Support)+len(o.Board) == 0:
		r.fail(at, `write it like admin = ["sysadmins"]: what stands in the claim, for each role`, "issuer, but nobody would have a role")
	}
}

// holdsLoopback says whether a program on this machine may have an address of p.
func holdsLoopback(p netip.Prefix) bool {
	return p.Overlaps(netip.MustParsePrefix("127.0.0.0/8")) || p.Overlaps(netip.MustParsePrefix("::1/128"))
}

func checkURL(s string) error {
	if s == "" {
		return nil
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" || len(s) > 500:
		return &Error{Msg: fmt.Sprintf("%q is not where pages can be", clip(s)), Hint: `write it like "https://tocsin.asso.example", without a path`}
	case u.Scheme == "http" && !ownHost(u.Hostname()):
		return &Error{Msg: fmt.Sprintf("%q is not protected on its way: passwords go there", clip(s)), Hint: "write https://"}
	}
	return nil
}

func checkIssuer(s string) error {
	if s == "" {
		return nil
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || len(s) > 500:
		return &Error{Msg: fmt.Sprintf("%q is no provider of OpenID Connect", clip(s)), Hint: `write it like "https://login.asso.example/realms/asso"`}
	case u.Scheme == "http" && !ownHost(u.Hostname()):
		return &Error{Msg: fmt.Sprintf("%q is not protected on its way", clip(s)), Hint: "write https://"}
	}
	return nil
}

func checkPageLanguage(s string) error {
	if s == "auto" || s == "fr" || s == "en" {
		return nil
	}
	return &Error{Msg: fmt.Sprintf("%q is no language", clip(s)), Hint: `there are "fr", "en" and "auto", which asks the browser`}
}

// checkLine wants a short text of one line.
func checkLine(s string) error {
	if utf8.RuneCountInString(s) > 100 || strings.ContainsFunc(s, func(c rune) bool { return !unicode.IsPrint(c) }) {
		return &Error{Msg: fmt.Sprintf("%q is not a line of up to 100 letters", clip(s))}
	}
	return nil
}

func checkHeader(s string) error {
	if len(s) <= 60 && !strings.ContainsFunc(s, func(c rune) bool {
		return !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-')
	}) {
		return nil
	}
	return &Error{Msg: fmt.Sprintf("%q is no name of a header", clip(s)), Hint: `write it like "Remote-User"`}
}
