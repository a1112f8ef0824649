package probe

import (
	"crypto/sha1"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestSites(t *testing.T) {
	secure := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") }))
	defer secure.Close()
	open := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/moved":
			http.Redirect(w, r, "/loop", http.StatusMovedPermanently)
		case "/endless":
			io.CopyN(w, zeros{}, maxSitePage+1<<20)
		default:
			http.Error(w, "no", http.StatusInternalServerError)
		}
	}))
	defer open.Close()
	dead := "http://" + unused(t) + "/"
	sites, err := siteList([]string{secure.URL + "/", open.URL + "/moved", open.URL + "/broken", open.URL + "/endless", dead, dead})
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(secure.Certificate())
	rs, err := newHTTPReader(sites, &tls.Config{RootCAs: roots}).Read(t.Context())
	if err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("a site that does not answer: %v", err)
	}
	values := map[string]float64{}
	for _, r := range rs {
		for _, v := range r.Values {
			values[r.Service.Name+" "+v.Field] = v.V
		}
	}
	for site, want := range map[string]float64{secure.URL + "/": 200, open.URL + "/moved": 301, open.URL + "/broken": 500, open.URL + "/endless": 200, dead: 0} {
		field := fieldName(site)
		if got := values["http_status "+field]; got != want {
			t.Errorf("%s: status %v, want %v", site, got, want)
		}
		total := values["http_loadtime "+field]
		if (want == 0) != math.IsNaN(total) || total < 0 {
			t.Errorf("%s: took %v", site, total)
		}
		if hello := values["http_loadtime."+field+" tls"]; math.IsNaN(hello) == strings.HasPrefix(site, "https") {
			t.Errorf("%s: TLS took %v", site, hello)
		}
		if wait := values["http_loadtime."+field+" wait"]; want != 0 && !(wait >= 0 && wait <= total) {
			t.Errorf("%s: %v to the first byte of %v", site, wait, total)
		}
	}
	// Whose certificate nobody knows does not answer.
	rs, err = newHTTPReader([]string{secure.URL + "/"}, nil).Read(t.Context())
	if err == nil || rs[len(rs)-1].Values[0].V != 0 {
		t.Errorf("an unknown certificate: %v", err)
	}

	for _, bad := range [][]string{nil, {"example.org"}, {"ftp://example.org/"}, {"https://"}, {"http://[::1"}} {
		_, err := siteList(bad)
		if why, off := IsOff(err); !off || why == "" {
			t.Errorf("siteList(%q): %v", bad, err)
		}
	}
}

func TestCertificates(t *testing.T) {
	s := httptest.NewTLSServer(http.NotFoundHandler())
	defer s.Close()
	dead := unused(t)
	h := hostAt(t.TempDir())
	// The test's own certificate is good from 1970 to 2084.
	now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	h.Now = func() time.Time { return now }
	h.Sites = []string{s.URL + "/", s.URL + "/other", "https://" + dead + "/", "http://example.org/"}
	made, err := tlsProbe.New(h)
	if err != nil {
		t.Fatal(err)
	}
	r := made.(*tlsReader)
	if len(r.servers) != 2 {
		t.Fatalf("servers %q", r.servers)
	}
	read := func() (days, good float64) {
		t.Helper()
		rs, err := r.Read(t.Context())
		if err == nil || !strings.Contains(err.Error(), dead) {
			t.Errorf("a server that does not answer: %v", err)
		}
		if v := rs[0].Values[1].V; !math.IsNaN(v) {
			t.Errorf("a server that does not answer has %v days left", v)
		}
		return rs[0].Values[0].V, rs[1].Values[0].V
	}
	want := math.Round(s.Certificate().NotAfter.Sub(now).Hours()/24*100) / 100
	if days, good := read(); days != want || good != 0 {
		t.Errorf("an unknown certificate: %v days, good %v; want %v, 0", days, good, want)
	}
	r.roots = x509.NewCertPool()
	r.roots.AddCert(s.Certificate())
	now = now.Add(2 * time.Hour)
	if _, good := read(); good != 1 {
		t.Errorf("a known certificate: good %v", good)
	}
	// A server that is away for a while leaves what was known.
	s.Close()
	now = now.Add(2 * time.Hour)
	if days, good := read(); days != math.Round(s.Certificate().NotAfter.Sub(now).Hours()/24*100)/100 || good != 1 {
		t.Errorf("from a server that went: %v days, good %v", days, good)
	}
	now = s.Certificate().NotAfter.Add(time.Hour)
	if days, good := read(); days >= 0 || good != 0 {
		t.Errorf("after its time: %v days, good %v", days, good)
	}
	h.Sites = []string{"http://example.org/"}
	if _, err := tlsProbe.New(h); err == nil {
		t.Error("on without https")
	}
}

func TestDomains(t *testing.T) {
	var mu sync.Mutex
	var paths []string
	asked := func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(paths)
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		paths = append(paths, r.URL.Path)
		mu.Unlock()
		switch r.URL.Path {
		case "/dns.json":
			fmt.Fprintf(w, `{"version":"1.0","services":[[["org","example"],["ftp://x/","http://%[1]s/org/"]],[["co.uk"],["http://%[1]s/couk"]],[["bad"],["gopher://x/"]],[["odd"]]]}`, r.Host)
		case "/org/domain/good.org":
			http.Redirect(w, r, "/moved", http.StatusFound)
		case "/moved":
			io.WriteString(w, `{"objectClassName":"domain","events":[{"eventAction":"registration","eventDate":"2001-01-01T00:00:00Z"},{"eventAction":"expiration","eventDate":"2027-01-25T08:00:00Z"}]}`)
		case "/couk/domain/shop.co.uk":
			io.WriteString(w, `{"events":[{"eventAction":"expiration","eventDate":"soon\u0007"}]}`)
		case "/org/domain/loop.org":
			http.Redirect(w, r, r.URL.Path, http.StatusFound)
		case "/org/domain/huge.org":
			io.CopyN(w, zeros{}, maxRDAP+1)
		default:
			http.NotFound(w, r)
		}
	}))
	defer s.Close()
	h := hostAt(t.TempDir())
	now := time.Unix(1_800_000_000, 0) // 2027-01-15 08:00 UTC
	h.Now = func() time.Time { return now }
	h.Domains = []string{"Good.ORG.", "shop.co.uk", "loop.org", "huge.org", "www.none.org", "x.bad"}
	made, err := domainProbe.New(h)
	if err != nil {
		t.Fatal(err)
	}
	r := made.(*domainReader)
	r.bootstrap, r.scheme, r.pause = s.URL+"/dns.json", "http", 0
	rs, err := r.Read(t.Context())
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{`has no date, but "soon?"`, "elsewhere too often", "answers more than 4 MiB", "is it a registered domain", "x.bad: its registry does not tell by RDAP"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
	for _, v := range rs[0].Values {
		if v.Field == "good_org" && v.V != 10 || v.Field != "good_org" && !math.IsNaN(v.V) {
			t.Errorf("%s has %v days left", v.Field, v.V)
		}
	}
	n := len(asked())
	now = now.Add(time.Hour)
	if rs, _ := r.Read(t.Context()); len(asked()) != n || rs[0].Values[0].V != 9.96 {
		t.Errorf("an hour later %q were asked, and %v days are left", asked()[n:], rs[0].Values[0].V)
	}
	now = now.Add(23 * time.Hour)
	if r.Read(t.Context()); len(asked()) <= n || asked()[n] != "/org/domain/good.org" {
		t.Errorf("a day later %q were asked", asked()[n:])
	}
	for _, bad := range []string{"", "org", "exa mple.org", "a..org", "-a.org", "http://example.org", "dömain.org", strings.Repeat("a", 64) + ".org"} {
		h.Domains = []string{bad}
		if _, err := domainProbe.New(h); err == nil {
			t.Errorf("%q is taken for a domain", bad)
		}
	}
}

const bbbAnswer = `<response><returncode>SUCCESS</returncode><meetings>
<meeting><meetingName>Secret talk</meetingName><participantCount>5</participantCount><listenerCount>1</listenerCount><voiceParticipantCount>3</voiceParticipantCount><videoCount>2</videoCount><recording>true</recording><isBreakout>false</isBreakout><attendees><attendee><fullName>Ann</fullName></attendee></attendees></meeting>
<meeting><participantCount>2</participantCount><listenerCount>0</listenerCount><voiceParticipantCount>2</voiceParticipantCount><videoCount>0</videoCount><recording>false</recording><isBreakout>true</isBreakout></meeting>
</meetings></response>`

func TestBigBlueButton(t *testing.T) {
	dir := t.TempDir()
	h := hostAt(dir)
	if _, err := bbbProbe.New(h); err == nil {
		t.Error("on without a server")
	}
	sum1, sum256 := sha1.Sum([]byte("getMeetingss3cret")), sha256.Sum256([]byte("getMeetingss3cret"))
	right, answer := hex.EncodeToString(sum1[:]), bbbAnswer
	var mu sync.Mutex
	set := func(f func()) {
		mu.Lock()
		defer mu.Unlock()
		f()
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if r.URL.Path != "/bigbluebutton/api/getMeetings" || r.URL.Query().Get("checksum") != right {
			io.WriteString(w, "<response><returncode>FAILED</returncode><messageKey>checksumError</messageKey></response>")
			return
		}
		io.WriteString(w, answer)
	}))
	defer s.Close()
	put(t, dir+"/root", map[string]string{
		"usr/share/bbb-web/WEB-INF/classes/bigbluebutton.properties": "# securitySalt=no\nsecuritySalt=old\n", "etc/bigbluebutton/bbb-web.properties": "securitySalt=s3cret\n",
		"var/bigbluebutton/published/presentation/a/x": "", "var/bigbluebutton/published/presentation/b/x": "", "var/bigbluebutton/recording/status/recorded/c.done": "",
	})
	made, err := bbbProbe.New(h)
	if err != nil {
		t.Fatal(err)
	}
	r := made.(*bbbReader)
	r.api = s.URL + "/bigbluebutton/api/"
	rs, err := r.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/services/bbb.read", dump(rs))
	if text := dump(rs); strings.Contains(text, "Secret") || strings.Contains(text, "Ann") {
		t.Error("names of meetings or people are told")
	}
	r.sha256 = true
	set(func() { right = hex.EncodeToString(sum256[:]) })
	if _, err := r.Read(t.Context()); err != nil {
		t.Errorf("SHA-256: %v", err)
	}
	for name, a := range map[string]string{"empty": "", "torn": bbbAnswer[:300], "html": "<html>", "refused": "<response><returncode>FAILED</returncode><messageKey>x</messageKey></response>"} {
		set(func() { answer = a })
		if rs, err := r.Read(t.Context()); err == nil {
			t.Errorf("%s: %d readings and no error", name, len(rs))
		}
	}
	set(func() { right = "other" })
	_, err = r.Read(t.Context())
	if why, off := IsOff(err); !off || !strings.Contains(why, "bbb-conf --secret") {
		t.Errorf("another secret: %v", err)
	}
	s.Close()
	_, err = r.Read(t.Context())
	if why, off := IsOff(err); !off || why != "BigBlueButton is installed, but does not run" {
		t.Errorf("nobody listens: %v", err)
	}
	h.BigBlueButton = "/opt"
	if _, err := bbbProbe.New(h); err == nil || !strings.Contains(err.Error(), "/opt") {
		t.Errorf("a folder without properties: %v", err)
	}
}

func FuzzRegistries(f *testing.F) {
	f.Add([]byte(bbbAnswer))
	f.Add([]byte(`{"events":[{"eventAction":"expiration","eventDate":"2027-01-25T08:00:00Z"}]}`))
	f.Add([]byte(`{"services":[[["org"],["https://x/"]]]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if rs, err := parseBBB(text); err == nil {
			dump(rs)
		}
		parseRDAP(text)
		if servers, err := parseBootstrap(text, "https"); err == nil {
			for end, s := range servers {
				if !strings.HasPrefix(strings.ToLower(s), "https:") || !strings.HasSuffix(s, "/") {
					t.Errorf("server %q of %q", s, end)
				}
			}
		}
		isDomain(string(text))
	})
}
