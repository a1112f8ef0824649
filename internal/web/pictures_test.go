package web

import (
	"bytes"
	"image/png"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"
)

// TestPictures asks for pictures as everybody may: by a session, a token and a signed link, at our addresses and Munin's.
func TestPictures(t *testing.T) {
	s := newSite(t)
	nobody, bea := s.browser(), s.as("bea")
	tests := []struct {
		path, kind, starts string
		code               int
	}{
		{"/graph/OVH/web1/cpu/day.svg", "image/svg+xml; charset=utf-8", "<svg", 200},
		{"/graph/OVH/web1/cpu/week.png", "image/png", "\x89PNG", 200},
		{"/graph/OVH/web1/cpu/year.csv", "text/csv; charset=utf-8", "time,", 200},
		{"/graph/Scaleway%3BParis/mail2/cpu/month.png?theme=dark&width=700", "image/png", "\x89PNG", 200},
		{"/graph/OVH/web1/cpu/zoom.svg?from=1700000000&to=1700003600", "image/svg+xml; charset=utf-8", "<svg", 200},
		{"/graph/OVH/web1/cpu/day.svg?behind=7&lang=fr", "image/svg+xml; charset=utf-8", "<svg", 200},
		{"/munin/OVH/web1/cpu-day.png", "image/png", "\x89PNG", 200},
		{"/munin-cgi/munin-cgi-graph/Scaleway/Paris/mail2/cpu-week.png", "image/png", "\x89PNG", 200},
		{"/cgi-bin/munin-cgi-graph/OVH/web1/diskstats_latency/vda-day.png", "image/png", "\x89PNG", 200},
		{"/graph/OVH/nobody/cpu/day.svg", "", "", 404},
		{"/graph/OVH/web1/cpu/hour.svg", "", "", 404},
		{"/graph/OVH/web1/cpu/day.gif", "", "", 404},
		{"/munin/OVH/web1/cpu-hour.png", "", "", 404},
		{"/munin/cpu-day.png", "", "", 404},
		{"/graph/OVH/web1/cpu/zoom.svg?from=1700003600&to=1700000000", "", "", 400},
		{"/graph/OVH/web1/cpu/zoom.svg?from=x&to=1700000000", "", "", 400},
		{"/graph/OVH/web1/cpu/zoom.svg?from=0&to=99999999999999", "", "", 400},
		{"/graph/OVH/web1/cpu/day.svg?width=x", "", "", 400},
		{"/graph/OVH/web1/cpu/day.svg?behind=-1", "", "", 400},
	}
	for _, tt := range tests {
		if a := nobody.get(tt.path); a.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s without an account: %s", tt.path, a.Status)
		}
		a := bea.get(tt.path)
		if a.StatusCode != tt.code || tt.code == 200 && (a.Header.Get("Content-Type") != tt.kind || !strings.HasPrefix(a.text, tt.starts)) {
			t.Errorf("%s: %s %s %.20q, want %d %s", tt.path, a.Status, a.Header.Get("Content-Type"), a.text, tt.code, tt.kind)
		}
		if tt.code == 200 && (a.Header.Get("ETag") == "" || !strings.Contains(a.Header.Get("Cache-Control"), "max-age=") || !strings.Contains(a.Header.Get("Content-Security-Policy"), "sandbox")) {
			t.Errorf("%s: headers %v", tt.path, a.Header)
		}
		if tt.kind == "image/png" {
			if _, err := png.Decode(bytes.NewReader([]byte(a.text))); err != nil {
				t.Errorf("%s: %v", tt.path, err)
			}
		}
	}
	const path = "/graph/OVH/web1/cpu/week.png"
	for token, want := range map[string]int{"reads": 200, "writes": 401, "none": 401, "": 401} {
		b := s.browser()
		b.header.Set("Authorization", "Bearer "+token)
		if a := b.get(path); a.StatusCode != want {
			t.Errorf("token %q: %s, want %d", token, a.Status, want)
		}
	}
	// A signed link opens its picture and no other.
	link := s.pages.signer.sign(path, time.Now().Add(time.Hour))
	for p, want := range map[string]int{link: 200, strings.Replace(link, "web1", "web2", 1): 401, link + "&theme=dark": 200, strings.Replace(link, "week.png", "week.svg", 1): 401, s.pages.signer.sign(path, time.Now().Add(-time.Second)): 401} {
		if a := nobody.get(p); a.StatusCode != want {
			t.Errorf("%s: %s, want %d", p, a.Status, want)
		}
	}
	same := false
	for range 10 { // the time goes on between the two
		same = same || nobody.get(link+"&behind=7").Header.Get("ETag") == nobody.get(link).Header.Get("ETag")
	}
	if !same {
		t.Error("a link shows another time than its own")
	}
	if a := s.as("marie").post("/users/links"); a.StatusCode != http.StatusSeeOther {
		t.Fatal(a.Status)
	}
	if a := nobody.get(link); a.StatusCode != http.StatusUnauthorized {
		t.Errorf("a revoked link: %s", a.Status)
	}
	// Links to Munin's own paths can be opened as pages.
	nobody.header.Set("Accept", "text/html")
	if a := nobody.get(path); a.StatusCode != http.StatusSeeOther {
		t.Errorf("a picture that is opened as a page: %s", a.Status)
	}
}

// TestEmbeddedLinks uses the links that the page offers.
func TestEmbeddedLinks(t *testing.T) {
	s := newSite(t)
	if a := s.as("bea").get("/graph/OVH/web1/cpu?range=week"); strings.Contains(a.text, "sign=") {
		t.Error("the board may give pictures away")
	}
	for _, path := range []string{"/graph/OVH/web1/cpu?range=week", "/graph/Scaleway%3BParis/mail2/cpu?range=day"} {
		a := s.as("paul").get(path)
		n := 0
		for _, part := range strings.Split(a.text, `<code class="copy">`)[1:] {
			link, _, _ := strings.Cut(part, "</code>")
			link = strings.ReplaceAll(link, "&amp;", "&")
			n++
			if got := s.browser().get(strings.TrimPrefix(link, s.http.URL)); got.StatusCode != http.StatusOK || got.Header.Get("Content-Type") != "image/png" {
				t.Errorf("%s: %s", link, got.Status)
			} else if policy := got.Header.Get("Cross-Origin-Resource-Policy"); policy != "cross-origin" {
				t.Errorf("%s: may stand elsewhere: %q", link, policy)
			}
		}
		if n != 3 {
			t.Errorf("%s offers %d links, want 3", path, n)
		}
	}
}

// TestPicturesOfASessionStayHere: no page elsewhere shows what its reader's session opens.
func TestPicturesOfASessionStayHere(t *testing.T) {
	a := newSite(t).as("paul").get("/graph/OVH/web1/cpu/day.png")
	if policy := a.Header.Get("Cross-Origin-Resource-Policy"); a.StatusCode != http.StatusOK || policy != "same-origin" {
		t.Errorf("%s, may stand elsewhere: %q", a.Status, policy)
	}
}

func TestPictureIsNotSentTwice(t *testing.T) {
	b := newSite(t).as("bea")
	const path = "/graph/OVH/web1/cpu/zoom.svg?from=1700000000&to=1700086400"
	a := b.get(path)
	b.header.Set("If-None-Match", a.Header.Get("ETag"))
	if again := b.get(path); again.StatusCode != http.StatusNotModified || again.text != "" {
		t.Errorf("the same picture again: %s", again.Status)
	}
	b.header.Set("If-None-Match", `"other"`)
	if again := b.get(path); again.StatusCode != http.StatusOK {
		t.Errorf("another one: %s", again.Status)
	}
}

func TestMuninPath(t *testing.T) {
	for path, want := range map[string][]place{
		"OVH/web1/cpu-day.png":                 {{"OVH", "web1", "cpu"}, {"", "OVH", "web1.cpu"}},
		"web1/cpu-day.png":                     {{"", "web1", "cpu"}},
		"A/B/web1/disk/vda-day.png":            {{"A;B;web1", "disk", "vda"}, {"A;B", "web1", "disk.vda"}, {"A", "B", "web1.disk.vda"}, {"", "A", "B.web1.disk.vda"}},
		"OVH/web1/if_eth0-x-day.png":           {{"OVH", "web1", "if_eth0-x"}, {"", "OVH", "web1.if_eth0-x"}},
		"OVH/web1/cpu-day.svg":                 nil,
		"OVH/web1/cpu.png":                     nil,
		"cpu-day.png":                          nil,
		strings.Repeat("a/", 30) + "b-day.png": nil,
	} {
		got, window, ok := muninPath(path)
		if ok != (want != nil) || ok && (!reflect.DeepEqual(got, want) || window != "day") {
			t.Errorf("%s: %v %q %v, want %v", path, got, window, ok, want)
		}
	}
}

// TestGraphPages reads what the pages of graphs say in both languages.
func TestGraphPages(t *testing.T) {
	s := newSite(t)
	b := s.as("marie")
	for _, lang := range []string{"fr", "en"} {
		b.post("/settings", "language", lang)
		for _, p := range []string{"/", "/server/OVH/web3", "/server/OVH/web3?range=year", "/graph/OVH/web3/cpu", "/graph/OVH/web3/cpu?range=week", "/graph/OVH/web3/cpu?range=week&behind=364",
			"/graph/OVH/web3/cpu?from=1700000000&to=1700086400", "/compare/OVH/cpu?range=month", "/compare/-/cpu", "/alerts", "/alert/1042", "/alert/1038", "/alert/1001", "/reputation", "/users", "/account", "/actions"} {
			a := b.get(p)
			checkPage(t, lang+" "+p, a)
			if a.StatusCode != http.StatusOK {
				t.Errorf("%s in %s: %s", p, lang, a.Status)
			}
			if strings.Contains(a.text, "page.") && strings.Contains(a.text, ">page.") {
				t.Errorf("%s in %s shows the name of a sentence", p, lang)
			}
		}
	}
	for p, want := range map[string]int{"/server/OVH/nobody": 404, "/graph/OVH/nobody/cpu": 404, "/graph/OVH/web3/cpu?from=x": 400, "/alert/7": 404, "/alert/x": 404} {
		if a := b.get(p); a.StatusCode != want {
			t.Errorf("%s: %s, want %d", p, a.Status, want)
		}
	}
}

func TestAcknowledge(t *testing.T) {
	s := newSite(t)
	paul := s.as("paul")
	for _, tt := range []struct {
		name string
		path string
		form url.Values
		code int
	}{
		{"urgent without a time", "/alert/1042", url.Values{"note": {"I am looking"}}, 422},
		{"urgent for too long", "/alert/1042", url.Values{"for": {"604800"}}, 422},
		{"a time that is none", "/alert/1042", url.Values{"for": {"x"}}, 422},
		{"a negative time", "/alert/1042", url.Values{"for": {"-5"}}, 422},
		{"urgent", "/alert/1042", url.Values{"for": {"7200"}}, 303},
		{"neither note nor time", "/alert/1038", url.Values{}, 422},
		{"a note is enough", "/alert/1038", url.Values{"note": {"on Thursday"}}, 303},
		{"taken up again", "/alert/1038", url.Values{"drop": {"1"}}, 303},
		{"no such alert", "/alert/7", url.Values{"for": {"7200"}}, 404},
		{"silence", "/silence", url.Values{"server": {"web1"}, "for": {"3600"}}, 303},
		{"silence of everything", "/silence", url.Values{"server": {"*"}, "for": {"3600"}}, 422},
		{"silence without end", "/silence", url.Values{"server": {"web1"}}, 422},
		{"silence of nothing", "/silence", url.Values{"for": {"3600"}}, 422},
		{"end of silence", "/silence", url.Values{"end": {"3"}}, 303},
	} {
		if a := paul.do("POST", tt.path, tt.form); a.StatusCode != tt.code {
			t.Errorf("%s: %s, want %d", tt.name, a.Status, tt.code)
		}
	}
	a := s.as("marie").get("/actions")
	for _, want := range []string{"acknowledged an alert", "#1042", "took an alert up again", "began a silence", "ended a silence"} {
		if !strings.Contains(a.text, want) {
			t.Errorf("the journal does not tell %q", want)
		}
	}
	if a := s.as("bea").do("POST", "/alert/1042", url.Values{"for": {"7200"}}); a.StatusCode != http.StatusForbidden {
		t.Errorf("the board acknowledges: %s", a.Status)
	}
}

// TestServerPageTellsItsAlerts: the state of a server is the same on its own page as on the first.
func TestServerPageTellsItsAlerts(t *testing.T) {
	b := newSite(t).as("marie")
	for path, want := range map[string]string{
		"/server/OVH/web3":                `<span class="state warning">`,
		"/server/OVH/web1":                `<span class="state good">`,
		"/server/Scaleway;Paris/mail2":    `<span class="state late">`,
		"/server/" + segment(evil) + "/a": `<span class="state idle">`,
	} {
		a := b.get(path)
		_, heading, _ := strings.Cut(a.text, "<h1>")
		heading, _, _ = strings.Cut(heading, "</h1>")
		if !strings.Contains(heading, want) {
			t.Errorf("%s: %q, want %s", path, heading, want)
		}
		if wants := strings.Contains(path, "web3") || strings.Contains(path, "mail2"); strings.Contains(a.text, `<a href="/alert/`) != wants {
			t.Errorf("%s: a link to its alert is %t, want %t", path, !wants, wants)
		}
	}
}

// TestBoardSeesNoMailAddress: what a server of mail said of a message names whom it was for.
func TestBoardSeesNoMailAddress(t *testing.T) {
	s := newSite(t)
	for who, want := range map[string]bool{"marie": true, "paul": true, "bea": false} {
		if a := s.as(who).get("/alert/1042"); a.StatusCode != http.StatusOK || strings.Contains(a.text, "admin@asso.example") != want {
			t.Errorf("%s: %s, is told the address: %v", who, a.Status, !want)
		}
	}
}
