package web

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"tocsin/internal/api"
)

func TestAddressByRole(t *testing.T) {
	s, g := guarded(t)
	g.logins = []api.Login{{At: time.Now().Add(-time.Hour), User: "zoraide"}}
	admin, support := s.as("marie").get("/address/192.0.2.7"), s.as("paul").get("/address/192.0.2.7")
	checkPage(t, "an address", admin)
	checkPage(t, "an address for support", support)
	for text, who := range map[string]string{
		"192.0.2.7 is banned on ports 22, 2222 until":                                                     "both",
		"by jail sshd, because 3 failed logins were seen within 41 s (the jail permits 2 within 10 min).": "both",
		"Failed password for root from 192.0.2.7 port 50122":                                              "both",
		"Failed password for marianne from 192.0.2.7 port 50123 ssh2; marianne2":                          "admin",
		"Failed password for ma…ne from 192.0.2.7 port 50123 ssh2; marianne2":                             "support",
		"User names tried: root, marianne, ":                                                              "admin",
		"User names tried: root, ma…ne, ":                                                                 "support",
		"Successful login from this address: zoraide":                                                     "admin",
		"Jail sshd: 1 failure within 10 min; 2 more and it bans.":                                         "both",
		"4 failures today.":                             "both",
		"Lines recognised by filter sshd of jail sshd.": "both",
		"Who did what":                                  "admin",
		"Reported by us to abuseipdb.com":               "both",
		"Country of the network: NL.":                   "both",
		`action="/address/192.0.2.7/unban"`:             "both",
		`action="/address/192.0.2.7/allow"`:             "both",
		`action="/address/192.0.2.7/ban"`:               "admin",
		"lifted":                                        "both",
		"&lt;img src=x onerror=alert(1)&gt;\\u202e\\x1b[2Kevil from 192.0.2.7 port 50131": "both",
	} {
		if got := strings.Contains(admin.spaced(), text); got != (who != "support") {
			t.Errorf("the administrator is told %q: %t", text, got)
		}
		if got := strings.Contains(support.spaced(), text); got != (who != "admin") {
			t.Errorf("support is told %q: %t", text, got)
		}
	}
	if a := s.as("bea").get("/address/192.0.2.7"); a.StatusCode != http.StatusForbidden {
		t.Errorf("the board looks at an address: %s", a.Status)
	}
	if a := s.as("paul").get("/address/mallory"); a.StatusCode != http.StatusNotFound {
		t.Errorf("support looks for what is no address: %s", a.Status)
	}
	if a := s.as("marie").get("/address/192.0.2.0%2F25"); a.Header.Get("Location") != "/bans?net=192.0.2.0%2F25" {
		t.Errorf("a network leads to %s", a.Header.Get("Location"))
	}
	// A network of IPv4 in the clothes of IPv6 is not one subscriber's.
	for _, path := range []string{"/address/" + segment("::ffff:192.0.2.0/120"), "/address/" + segment("::ffff:0.0.0.0/96")} {
		if a := s.as("paul").post(path+"/allow", "days", "7"); a.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %s", path, a.Status)
		}
	}
	if a := s.as("marie").get("/address/%ff"); a.StatusCode != http.StatusNotFound {
		t.Errorf("no text at all: %s", a.Status)
	}
	// Each looked once, and again within a quarter of an hour: one row each.
	_ = s.as("paul").get("/address/192.0.2.7?print=1")
	if looked := actionsAbout(t, s, "look"); len(looked) != 2 || looked[0].About != "192.0.2.7" {
		t.Errorf("looks that are noted: %+v", looked)
	}
}

func TestPrintedVersionTellsNothingOfOthers(t *testing.T) {
	s, g := guarded(t)
	g.logins = []api.Login{{At: time.Now(), User: "zoraide"}}
	g.listed = []api.Listed{{List: "drop", Entry: "192.0.2.0/24", Blocked: true}}
	a := s.as("marie").get("/address/192.0.2.7?print=1")
	checkPage(t, "the printed version", a)
	for _, secret := range []string{"zoraide", "marianne", "Failed password", "abuseipdb", "drop", "Who did what", "paul", "a member", "<form method=\"post\" action=\"/address"} {
		if strings.Contains(a.text, secret) {
			t.Errorf("the printed version tells %q", secret)
		}
	}
	g.allow = &api.Allow{Prefix: "203.0.113.9/32", Origin: "operator", By: "zoraide", Note: "secret"}
	for _, path := range []string{"/address/203.0.113.9?print=1"} {
		b := s.as("marie").get(path)
		if strings.Contains(b.text, "zoraide") || strings.Contains(b.text, "secret") || strings.Contains(b.text, "paul") || !strings.Contains(b.text, "by a decision of the administrators") {
			t.Error("the printed version tells who decided")
		}
	}
	if !strings.Contains(a.spaced(), "3 failed logins were seen within 41 s") {
		t.Error("the printed version does not say why")
	}
}

func TestAddressThatIsAllowedOrListed(t *testing.T) {
	s, g := guarded(t)
	b := s.as("marie")
	until := time.Now().Add(48 * time.Hour)
	for _, tt := range []struct {
		name   string
		allow  *api.Allow
		listed []api.Listed
		want   []string
	}{
		{"by hand", &api.Allow{Prefix: "198.51.100.4/32", Origin: "operator", By: "root", Note: evil, Until: &until}, nil, []string{"is never banned: allowed by root until", "tocsin allow --remove 198.51.100.4", "state good"}},
		{"by the configuration", &api.Allow{Prefix: "198.51.100.4/32", Origin: "configuration", Jail: "sshd, dovecot"}, nil, []string{"the configuration allows it (jails sshd, dovecot)"}},
		{"its own", &api.Allow{Prefix: "198.51.100.4/32", Origin: "own address"}, nil, []string{"is never banned: own address"}},
		{"listed", nil, []api.Listed{{List: "drop", Entry: "198.51.100.0/24", Blocked: true}}, []string{"List drop has it (198.51.100.0/24): blocked, ports: all.", "on a list", "No evidence is kept here."}},
		{"listed and spared", nil, []api.Listed{{List: "drop", Entry: "198.51.100.0/24"}}, []string{"but it is let through", "not banned"}},
	} {
		g.allow, g.listed = tt.allow, tt.listed
		a := b.get("/address/198.51.100.4")
		checkPage(t, tt.name, a)
		for _, want := range tt.want {
			if !strings.Contains(a.text, want) {
				t.Errorf("%s: the page does not say %q", tt.name, want)
			}
		}
	}
}

func TestOneAddressIsChanged(t *testing.T) {
	s, g := guarded(t)
	for _, tt := range []struct {
		who, do string
		form    []string
		code    int
		want    string
	}{
		{"paul", "unban", nil, 303, "unban 192.0.2.7 paul"},
		{"paul", "unban", []string{"allow", "7"}, 303, "unban 192.0.2.7 paul; allow 192.0.2.7 7 paul"},
		{"paul", "allow", []string{"days", "7"}, 303, "allow 192.0.2.7 7 paul"},
		{"paul", "allow", []string{"days", "30"}, 422, ""},
		{"paul", "allow", nil, 422, ""},
		{"paul", "ban", []string{"days", "1"}, 403, ""},
		{"bea", "unban", nil, 403, ""},
		{"bea", "allow", []string{"days", "7"}, 403, ""},
		{"marie", "allow", []string{"days", "365"}, 303, "allow 192.0.2.7 365 marie"},
		{"marie", "ban", []string{"days", "30", "reason", "again \u202eand again"}, 303, "ban 192.0.2.7 30 marie again \\u202eand again"},
		{"marie", "ban", []string{"days", "4000"}, 422, ""},
	} {
		g.mu.Lock()
		g.asked = nil
		g.mu.Unlock()
		a := s.as(tt.who).post("/address/192.0.2.7/"+tt.do, tt.form...)
		if a.StatusCode != tt.code || g.changes() != tt.want {
			t.Errorf("%s: %s %q is answered with %s, the guard was asked %q, want %d and %q", tt.who, tt.do, tt.form, a.Status, g.changes(), tt.code, tt.want)
		}
		if tt.code == 303 && a.Header.Get("Location") != "/address/192.0.2.7?done="+tt.do {
			t.Errorf("%s leads to %s", tt.do, a.Header.Get("Location"))
		}
	}
	if got := len(actionsAbout(t, s, "allow")); got != 3 {
		t.Errorf("%d times is noted that somebody allowed", got)
	}
	text := s.as("marie").get("/address/192.0.2.7?done=ban").text
	for _, want := range []string{"The address is banned.", "banned (30d again", "allowed (7d)"} {
		if !strings.Contains(text, want) {
			t.Errorf("after it the page does not say %q", want)
		}
	}
	g.refuse = "192.0.2.7"
	a := s.as("marie").post("/address/192.0.2.7/ban", "days", "1")
	checkPage(t, "a refusal", a)
	if a.StatusCode != http.StatusConflict || !strings.Contains(a.text, "the guard refused (an ssh session of &lt;img") {
		t.Errorf("a refusal: %s", a.Status)
	}
	if a := s.as("marie").post("/address/"+segment("mallory")+"/ban", "days", "1"); a.StatusCode != http.StatusNotFound {
		t.Errorf("what is no address is banned: %s", a.Status)
	}
}

func TestNamesAreShortened(t *testing.T) {
	a := answerer{persons: []string{"marie", "jo"}}
	for text, want := range map[string]string{
		"for marie from":              "for ma…ie from",
		"marie":                       "ma…ie",
		"marie2 xmarie marie_ maries": "marie2 xmarie marie_ maries",
		"user=marie;jo@x.example":     "user=ma…ie;j…@x.example",
		"joker":                       "joker",
	} {
		if got := a.shortenIn(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
	if got := short("é"); got != "é…" {
		t.Errorf("a short name becomes %q", got)
	}
}

func TestLooksAreBounded(t *testing.T) {
	k, now := &looks{}, time.Now()
	if !k.isNew("a", "x", now) || k.isNew("a", "x", now.Add(time.Minute)) || !k.isNew("b", "x", now) || !k.isNew("a", "x", now.Add(lookedAgain)) {
		t.Error("a look is not noted once in a quarter of an hour")
	}
	for i := range uint32(mostLooked + 10) {
		k.isNew("a", netip.AddrFrom4([4]byte{byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)}).String(), now)
	}
	if len(k.last) > mostLooked {
		t.Errorf("%d looks are kept", len(k.last))
	}
}
