package web

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"tocsin/internal/account"
	"tocsin/internal/api"
	"tocsin/internal/store"
)

// site is a server of pages for a test, with people in it.
type site struct {
	t      *testing.T
	pages  *Server
	http   *httptest.Server
	store  *store.Watch
	logged []string // what the guard would read
}

const (
	password = "correct horse battery"
	evil     = "<img src=x onerror=alert(1)>\u202e\x1b[2Kevil"
)

// newSite makes pages with the accounts marie (admin), paul (support) and bea (board).
func newSite(t *testing.T, change ...func(*Options)) *site {
	t.Helper()
	w, err := store.OpenWatch(filepath.Join(t.TempDir(), "watch.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	s := &site{t: t, store: w}
	hash, err := account.NewPasswords().Hash(t.Context(), password)
	if err != nil {
		t.Fatal(err)
	}
	for name, role := range map[string]string{"marie": "admin", "paul": "support", "bea": "board"} {
		if ok, err := w.AddUser(t.Context(), store.User{Name: name, Role: role, Password: hash, Made: time.Now()}); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	s.http = httptest.NewUnstartedServer(nil)
	o := Options{
		Origin: "http://" + s.http.Listener.Addr().String(), Title: "Association Exemple", Language: "en", Store: w, Log: slog.New(slog.DiscardHandler), Version: "1.2.3",
		Token: func(token string) string { return map[string]string{"reads": "read", "writes": "write"}[token] },
		Failed: func(name string, addr netip.Addr) {
			s.logged = append(s.logged, fmt.Sprintf("failed %q %v", name, addr))
		},
		Entered: func(name string, addr netip.Addr) {
			s.logged = append(s.logged, fmt.Sprintf("entered %q %v", name, addr))
		},
		Data: testData(t), GuardData: testGuardData(), Guard: newGuard().client(t),
	}
	for _, f := range change {
		f(&o)
	}
	if s.pages, err = New(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	s.http.Config.Handler = s.pages
	s.http.Start()
	t.Cleanup(s.http.Close)
	return s
}

// browser is somebody who follows no redirect by themselves, and keeps cookies.
type browser struct {
	*site
	client *http.Client
	header http.Header
}

func (s *site) browser() *browser {
	jar, _ := cookiejar.New(nil)
	return &browser{s, &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, http.Header{}}
}

type answer struct {
	*http.Response
	text string
}

func (b *browser) do(method, path string, form url.Values) answer {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), method, b.http.URL+path, strings.NewReader(form.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header = b.header.Clone()
	if host := r.Header.Get("Host"); host != "" {
		r.Host = host
	}
	if method == "POST" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := b.client.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return answer{resp, string(body)}
}

func (b *browser) get(path string) answer { b.t.Helper(); return b.do("GET", path, nil) }
func (b *browser) post(path string, pairs ...string) answer {
	b.t.Helper()
	form := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		form.Set(pairs[i], pairs[i+1])
	}
	return b.do("POST", path, form)
}

// as is a browser in which somebody has logged in.
func (s *site) as(name string) *browser {
	s.t.Helper()
	b := s.browser()
	if a := b.post("/login", "name", name, "password", password); a.StatusCode != http.StatusSeeOther {
		s.t.Fatalf("%s cannot log in: %s", name, a.Status)
	}
	return b
}

func testData(*testing.T) Data {
	day := make([]float64, 48)
	for i := range day {
		day[i] = 20 + 15*math.Sin(float64(i)/7)
	}
	nan := math.NaN()
	o := &Overview{At: time.Now(), Banned: 214, Rows: []Row{
		{Group: "OVH", Name: "web1", State: "ok", CPU: Meter{12, day}, Network: Meter{4e6, day}, Bans: Meter{31, day}, Memory: 48, Disk: 61, DiskOf: "/"},
		{Group: "OVH", Name: "web3", State: "ok", CPU: Meter{37, day}, Network: Meter{6e6, day}, Bans: Meter{22, day}, Memory: 71, Disk: 91, DiskOf: evil},
		{Group: evil, Name: "a", State: "idle", CPU: Meter{nan, nil}, Network: Meter{nan, nil}, Bans: Meter{nan, nil}, Memory: nan, Disk: nan},
		{Group: "Scaleway;Paris", Name: "mail2", State: "unknown", Seen: time.Now().Add(-12 * time.Minute), Since: time.Now().Add(-11 * time.Minute)},
	}}
	soon, began := time.Now().Add(time.Hour), time.Now().Add(-12*time.Minute)
	alerts := []api.Alert{
		{ID: 1042, Rule: "silent", Group: "Scaleway;Paris", Server: "mail2", State: "open", Level: "critical", Urgency: "urgent", Began: began, Title: "mail2: no news", Text: "No news of mail2. " + evil},
		{ID: 1038, Rule: "disk-space", Group: "OVH", Server: "web3", Service: "df", Field: "_var", Label: evil, State: "acknowledged", Level: "warning", Urgency: "soon",
			Began: began.Add(-48 * time.Hour), Title: "web3: /var is full soon", Text: "91% of /var.", Ack: &api.AlertAck{By: "paul", Note: evil, At: began, Until: &soon}},
		{ID: 1001, Rule: "load", Group: "OVH", Server: "web1", State: "over", Level: "fine", Urgency: "soon", Began: began.Add(-30 * time.Hour), Ended: &began, Title: "web1: load", Text: "It was high."},
	}
	one := func(id int64) (*api.Alert, error) {
		for i := range alerts {
			if alerts[i].ID == id {
				return &alerts[i], nil
			}
		}
		return nil, api.Errorf(api.ExitFailed, "", "no such alert")
	}
	return Data{
		Overview: func(context.Context) (*Overview, error) { return o, nil },
		Server: func(_ context.Context, group, name string) (api.ServerDetail, error) {
			for _, row := range o.Rows {
				if row.Group == group && row.Name == name {
					now := time.Now()
					d := api.ServerDetail{Server: api.Server{Group: group, Name: name, State: row.State, Seen: &now, Why: evil}}
					for _, c := range []struct{ category, name, title string }{{"disk", "df", "Disk usage in percent"}, {"network", "if_eth0", "eth0 traffic"}, {evil, "weird", evil}, {"system", "cpu", "CPU usage"}, {"system", "memory", "Memory usage"}} {
						d.Details = append(d.Details, api.Service{Name: c.name, Title: c.title, Category: c.category})
					}
					return d, nil
				}
			}
			return api.ServerDetail{}, api.Errorf(api.ExitFailed, "", "no server "+name)
		},
		Forget:   func(context.Context, string, string) (api.Change, error) { return api.Change{}, nil },
		Graph:    testGraph,
		Measures: func(_, server, service string) bool { return server != "a" && service == "cpu" },
		Alerts: &api.AlertOperations{
			Alerts: func(_ context.Context, q api.AlertsQuery, _ string) (api.Alerts, error) {
				return api.Alerts{Alerts: alerts, Silences: []api.Silence{{ID: 3, Server: "web*", By: evil, Note: evil, Made: began, Until: soon}}}, nil
			},
			Alert: func(_ context.Context, id int64, _ string) (api.AlertDetail, error) {
				a, err := one(id)
				if err != nil {
					return api.AlertDetail{}, err
				}
				value := 91.0
				return api.AlertDetail{
					Alert: *a, Turns: []api.AlertTurn{{At: began, Turn: "began", Level: "warning", Value: &value, Note: evil}}, Told: []api.AlertTold{{At: began, Contact: "admins", State: "sent", Detail: evil + " no such user admin@asso.example"}},
					Why: &api.Rule{Name: a.Rule, Where: "shipped", Set: []api.RuleSetting{{Key: "warning", Value: ":90"}}},
				}, nil
			},
			Ack: func(_ context.Context, r api.AckRequest) (api.Change, error) {
				a, err := one(r.ID)
				if err != nil {
					return api.Change{}, err
				}
				if a.Ack = nil; !r.Drop {
					end := time.Now().Add(time.Duration(r.For * float64(time.Second)))
					a.Ack = &api.AlertAck{By: r.By, Note: r.Note, At: time.Now(), Until: &end}
				}
				return api.Change{}, nil
			},
			Silence: func(context.Context, api.SilenceRequest) (api.Change, error) { return api.Change{}, nil },
		},
		Reputation: func(context.Context) (api.Reputation, error) {
			left, limit := 842, 1000
			return api.Reputation{Service: "api.abuseipdb.com", Key: true, Lists: []api.FetchedList{
				{Name: "abuseipdb", Source: "api.abuseipdb.com", Entries: 10000, Fetched: &began, Next: &soon, Handed: true}, {Name: "other", Source: evil, Error: evil, Refused: []string{evil}}, {Name: "late", Error: evil, Failures: 2}},
				Reports: api.ReportState{Enabled: true, Sent: 158, Quota: &left, Limit: &limit, Doubles: 2, Unknown: 1, RestsUntil: &soon, Stopped: evil,
					LeftOut: map[string]int64{"logged in": 3, "jail not reported": 12, evil: 1}}}, nil
		},
	}
}

// testGraph draws curves of anything, for the server web1 to web3 and mail2.
func testGraph(_ context.Context, q api.GraphQuery) (api.Graph, error) {
	if !regexp.MustCompile(`^(web\d|mail2)$`).MatchString(q.Server) {
		return api.Graph{}, api.Errorf(api.ExitFailed, "", "no such server")
	}
	step := q.Step
	if step == 0 {
		step = max(q.To.Sub(q.From)/400, 10*time.Second).Truncate(time.Second)
	}
	attr := func(pairs ...string) (all []api.Attribute) {
		for i := 0; i < len(pairs); i += 2 {
			all = append(all, api.Attribute{Name: pairs[i], Value: pairs[i+1]})
		}
		return all
	}
	g := api.Graph{Group: q.Group, Server: q.Server, Service: q.Service, Title: "CPU usage", Unit: "%", Step: step.Seconds(), From: q.From, To: q.To,
		Attributes: attr("graph_title", "CPU usage", "graph_vlabel", "%", "graph_args", "--lower-limit 0 --upper-limit 100", "graph_scale", "no")}
	for i, name := range []string{"system", "user", "iowait"} {
		f := api.GraphField{Name: name, Label: name, Attributes: attr("label", name, "draw", "AREASTACK")}
		for t := q.From.Truncate(step).Add(step); !t.After(q.To); t = t.Add(step) {
			v := 12/float64(i+1) + 8*math.Sin(float64(t.Unix())/9000+float64(i))
			f.Points = append(f.Points, api.GraphPoint{T: t.Unix(), Avg: max(0, v), Min: max(0, v-3), Max: max(0, v) + 4})
		}
		g.Fields = append(g.Fields, f)
	}
	if q.Marks {
		g.Marks = []api.GraphMark{{At: q.To.Add(-q.To.Sub(q.From) / 3), Kind: api.MarkReboot}}
	}
	return g, nil
}

func TestNobodySeesAnythingWithoutAnAccount(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	for _, p := range s.pages.paths() {
		method, path, _ := strings.Cut(p.pattern, " ")
		path = filled(path)
		a := b.do(method, path, nil)
		if method == "GET" && (a.StatusCode != http.StatusSeeOther || !strings.HasPrefix(a.Header.Get("Location"), "/login")) ||
			method == "POST" && a.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s is answered with %s", p.pattern, a.Status)
		}
		if strings.Contains(a.text, "web1") {
			t.Errorf("%s tells of servers", p.pattern)
		}
	}
	if a := b.get("/no/such/page"); a.StatusCode != http.StatusSeeOther {
		t.Errorf("a page that there is not: %s", a.Status)
	}
}

// filled puts something that is there into the pattern of a path.
func filled(pattern string) string {
	return strings.NewReplacer("{$}", "", "{group}", "OVH", "{server}", "web3", "{service}", "cpu", "{id}", "1038").Replace(pattern)
}

// TestRoles asks for every page as every role: what is not allowed is refused.
func TestRoles(t *testing.T) {
	s := newSite(t)
	for name, role := range map[string]account.Role{"bea": account.Board, "paul": account.Support, "marie": account.Admin} {
		b := s.as(name)
		for _, p := range s.pages.paths() {
			method, path, _ := strings.Cut(p.pattern, " ")
			path = filled(path)
			a := b.do(method, path, nil)
			if refused := a.StatusCode == http.StatusForbidden; refused == account.May(role, p.what) {
				t.Errorf("%s as %s: %s", p.pattern, role, a.Status)
			}
			if method == "GET" {
				checkPage(t, path, a)
			}
		}
	}
}

var (
	inline   = regexp.MustCompile(`(?i)<style|<script[^>]*>[^<]|<[a-z][^<>"]*(?:"[^"]*"[^<>"]*)*\s(?:on[a-z]+|style)=|="javascript:`)
	external = regexp.MustCompile(`(?i)(src|href|action)="(https?:)?//`)
	ids      = regexp.MustCompile(` id="([^"]*)"`)
	fors     = regexp.MustCompile(` (?:for|aria-labelledby|aria-describedby)="([^"]*)"`)
	fields   = regexp.MustCompile(`<(?:input|select|textarea)[^>]*>`)
	tables   = regexp.MustCompile(`(?s)<table.*?</table>`)
)

// checkPage holds what is true of every page.
func checkPage(t *testing.T, name string, a answer) {
	t.Helper()
	if a.Header.Get("Content-Security-Policy") != policy || a.Header.Get("X-Content-Type-Options") != "nosniff" || a.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%s: headers %v", name, a.Header)
	}
	if !strings.HasPrefix(a.Header.Get("Content-Type"), "text/html") || a.StatusCode/100 == 3 {
		return
	}
	if m := inline.FindString(a.text); m != "" {
		t.Errorf("%s has something inline: %q", name, m)
	}
	if m := external.FindString(a.text); m != "" {
		t.Errorf("%s leads elsewhere: %q", name, m)
	}
	if strings.Contains(a.text, "<img src=x") || strings.ContainsAny(a.text, "\u202e\x1b") {
		t.Errorf("%s shows hostile text as it is", name)
	}
	if strings.Count(a.text, "<h1") != 1 || !strings.Contains(a.text, `lang="`) || !strings.Contains(a.text, "<main") {
		t.Errorf("%s: not one heading, or no language", name)
	}
	there := map[string]bool{}
	for _, m := range ids.FindAllStringSubmatch(a.text, -1) {
		if there[m[1]] {
			t.Errorf("%s: two elements with id %q", name, m[1])
		}
		there[m[1]] = true
	}
	labelled := map[string]bool{}
	for _, m := range fors.FindAllStringSubmatch(a.text, -1) {
		if labelled[m[1]] = true; !there[m[1]] {
			t.Errorf("%s: a label for %q, which is not there", name, m[1])
		}
	}
	for _, f := range fields.FindAllString(a.text, -1) {
		m := ids.FindStringSubmatch(f)
		if !strings.Contains(f, `type="hidden"`) && !strings.Contains(f, "aria-label=") && (m == nil || !labelled[m[1]]) {
			t.Errorf("%s: a field without label: %s", name, f)
		}
	}
	for _, table := range tables.FindAllString(a.text, -1) {
		if !strings.Contains(table, "<caption") || !strings.Contains(table, `scope="col"`) {
			t.Errorf("%s: a table without caption or headings: %.80s", name, table)
		}
	}
}

func TestLogin(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	if a := b.get("/server/OVH/web1?x=1"); a.Header.Get("Location") != "/login?to=%2Fserver%2FOVH%2Fweb1%3Fx%3D1" {
		t.Errorf("sent to %s", a.Header.Get("Location"))
	}
	a := b.get("/login?to=/server/OVH/web1")
	checkPage(t, "login", a)
	if !strings.Contains(a.text, `value="/server/OVH/web1"`) {
		t.Error("the login forgets where to go")
	}
	a = b.post("/login", "name", "marie", "password", "wrong", "to", "/x")
	if a.StatusCode != http.StatusUnauthorized || !strings.Contains(a.text, "Wrong name or password.") || strings.Contains(a.text, `value="wrong"`) {
		t.Errorf("a wrong password: %s", a.Status)
	}
	checkPage(t, "a wrong login", a)
	a = b.post("/login", "name", evil, "password", "x")
	checkPage(t, "a hostile name", a)
	if a := b.post("/login", "name", "marie", "password", password, "to", "/server/OVH/web1"); a.StatusCode != http.StatusSeeOther || a.Header.Get("Location") != "/server/OVH/web1" {
		t.Errorf("a right password: %s to %s", a.Status, a.Header.Get("Location"))
	} else if c := a.Header.Get("Set-Cookie"); !strings.HasPrefix(c, "tocsin=") || !strings.Contains(c, "HttpOnly") || !strings.Contains(c, "SameSite=Lax") {
		t.Errorf("cookie %q", c)
	}
	if a := b.get("/"); a.StatusCode != http.StatusOK || !strings.Contains(a.text, "1 server is well, 2 want attention. 214 addresses banned since yesterday.") {
		t.Errorf("the overview: %s %.3000s", a.Status, a.text)
	}
	if a := b.get("/login?to=/account"); a.Header.Get("Location") != "/account" {
		t.Errorf("the login of somebody who is logged in: %s", a.Status)
	}
	if a := b.post("/logout"); a.StatusCode != http.StatusSeeOther {
		t.Errorf("logout: %s", a.Status)
	}
	if a := b.get("/"); a.StatusCode != http.StatusSeeOther {
		t.Errorf("after the logout: %s", a.Status)
	}
	// On loopback nobody can be named: what stands there may be a proxy.
	if got := strings.Join(s.logged, "; "); !strings.HasPrefix(got, `failed "marie" invalid IP; failed "<img`) || !strings.HasSuffix(got, `entered "marie" invalid IP`) {
		t.Errorf("logged: %s", got)
	}
}

func TestNobodyIsSentElsewhere(t *testing.T) {
	for to, want := range map[string]string{
		"/": "/", "/server/a/b?x=y": "/server/a/b?x=y", "": "/", "//evil.example": "/", "/\\evil.example": "/", "https://evil.example": "/", "javascript:alert(1)": "/",
		"/\t/evil.example": "/", "evil": "/", "/%2f/evil.example": "/%2f/evil.example",
	} {
		if got := localPath(to); got != want {
			t.Errorf("localPath(%q): %q, want %q", to, got, want)
		}
	}
}

func TestGuessingIsSlowedDown(t *testing.T) {
	s := newSite(t)
	b := s.browser()
	for i := range 5 {
		if a := b.post("/login", "name", "marie", "password", "wrong"); a.StatusCode != http.StatusUnauthorized {
			t.Fatalf("failure %d: %s", i, a.Status)
		}
	}
	a := b.post("/login", "name", "marie", "password", password)
	if a.StatusCode != http.StatusTooManyRequests || a.Header.Get("Retry-After") == "" {
		t.Errorf("behind five failures: %s", a.Status)
	}
	if a := b.post("/login", "name", "paul", "password", password); a.StatusCode != http.StatusSeeOther {
		t.Errorf("somebody else has to wait too: %s", a.Status)
	}
	if len(s.logged) != 6 {
		t.Errorf("logged: %q", s.logged)
	}
}

// TestManyNamesAreSlowedDown: guessing goes by many names as it goes by one, from one address or from nobody's.
func TestManyNamesAreSlowedDown(t *testing.T) {
	s, now := newSite(t).pages, time.Now()
	for _, tt := range []struct {
		name string
		addr func(i int) netip.Addr
		free int
	}{
		{"an address", func(int) netip.Addr { return netip.MustParseAddr("198.51.100.7") }, freeOfAddress},
		{"a /64", func(i int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", i+1)) }, freeOfAddress},
		{"nobody named", func(int) netip.Addr { return netip.Addr{} }, freeUnnamed},
	} {
		for i := range tt.free {
			if wait := s.newTry(fmt.Sprint("name", i), tt.addr(i)).begin(now); wait != 0 {
				t.Fatalf("%s: try %d waits %v", tt.name, i, wait)
			}
			own := s.newTry("own", tt.addr(i)) // a good login between opens nothing
			if wait := own.begin(now); wait != 0 {
				break
			}
			own.succeeded()
		}
		if wait := s.newTry("another", tt.addr(0)).begin(now); wait == 0 {
			t.Errorf("%s: goes on after %d names", tt.name, tt.free)
		}
		if wait := s.newTry("another", tt.addr(0)).begin(now.Add(time.Minute)); wait != 0 {
			t.Errorf("%s: a minute later it waits %v", tt.name, wait)
		}
	}
	if wait := s.newTry("name1", netip.MustParseAddr("203.0.113.9")).begin(now); wait != 0 {
		t.Errorf("who comes from elsewhere waits %v", wait)
	}
}

func TestForeignPagesCannotAct(t *testing.T) {
	s := newSite(t)
	b := s.as("marie")
	for _, h := range []struct{ name, value string }{{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.example"}} {
		b.header = http.Header{h.name: {h.value}}
		a := b.post("/users/add", "name", "eve", "role", "admin")
		if a.StatusCode != http.StatusForbidden {
			t.Errorf("%s: %s is answered with %s", h.name, h.value, a.Status)
		}
	}
	if _, ok := s.pages.people.user("eve"); ok {
		t.Error("another page made an account")
	}
}

func TestHost(t *testing.T) {
	s := newSite(t, func(o *Options) { o.Origin = "https://tocsin.asso.example" })
	b := s.browser()
	for host, want := range map[string]int{
		"tocsin.asso.example": 200, "TOCSIN.asso.example": 200, "tocsin.asso.example:443": 200, "localhost:8044": 200, "127.0.0.1": 200, "[::1]:8044": 200,
		"evil.example": 421, "evil.example:8044": 421, "tocsin.asso.example.evil.example": 421, "127.0.0.1.evil.example": 421, "a/b": 421,
	} {
		b.header.Set("Host", host)
		if host == "a/b" {
			if s.pages.isOurs(host) {
				t.Error("a host with a slash is ours")
			}
			continue
		}
		a := b.get("/login")
		if a.StatusCode != want {
			t.Errorf("host %s: %d, want %d", host, a.StatusCode, want)
		}
		if a.Header.Get("Strict-Transport-Security") == "" {
			t.Error("TLS is not asked for")
		}
	}
	// Behind TLS the cookie is one that nobody else can set.
	b.header.Set("Host", "tocsin.asso.example")
	a := b.post("/login", "name", "marie", "password", password)
	if c := a.Header.Get("Set-Cookie"); !strings.HasPrefix(c, "__Host-tocsin=") || !strings.Contains(c, "Secure") || !strings.Contains(c, "Path=/") || strings.Contains(c, "Domain") {
		t.Errorf("cookie %q", c)
	}
}

func TestStart(t *testing.T) {
	s := newSite(t)
	link, err := s.pages.AddUser(t.Context(), api.UserRequest{Name: "Zoé", Role: "admin", By: "root"})
	if err != nil {
		t.Fatal(err)
	}
	path := strings.TrimPrefix(link.URL, s.pages.o.Origin)
	b := s.browser()
	a := b.get(path)
	checkPage(t, "start", a)
	if !strings.Contains(a.text, "Welcome, Zoé") {
		t.Errorf("%s %s", a.Status, a.text)
	}
	for _, tt := range []struct{ password, again, want string }{
		{"short", "short", "too short"},
		{"a long password", "another password", "differ"},
		{strings.Repeat("x", 1025), strings.Repeat("x", 1025), "too long"},
	} {
		if a := b.post(path, "password", tt.password, "again", tt.again); a.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(a.text, tt.want) {
			t.Errorf("%.20q and %.20q: %s, want %q", tt.password, tt.again, a.Status, tt.want)
		}
	}
	if a := b.post(path, "password", "a long password", "again", "a long password"); a.StatusCode != http.StatusSeeOther {
		t.Fatalf("a good password: %s %s", a.Status, a.text)
	}
	if a := b.get("/users"); a.StatusCode != http.StatusOK || !strings.Contains(a.text, "Zoé") {
		t.Errorf("after it: %s", a.Status)
	}
	if a := s.browser().get(path); a.StatusCode != http.StatusNotFound {
		t.Errorf("the link a second time: %s", a.Status)
	}
	if a := s.browser().post(path, "password", "another long one", "again", "another long one"); a.StatusCode != http.StatusNotFound {
		t.Errorf("the link a second time: %s", a.Status)
	}
	if a := s.browser().post("/login", "name", "Zoé", "password", "a long password"); a.StatusCode != http.StatusSeeOther {
		t.Errorf("the login with it: %s", a.Status)
	}
}

// TestReset: a new password ends what was begun with the old one, and not before it is chosen.
func TestReset(t *testing.T) {
	s := newSite(t)
	thief := s.as("paul")
	link, err := s.pages.ResetUser(t.Context(), api.UserRequest{Name: "paul", By: "root"})
	if err != nil {
		t.Fatal(err)
	}
	if a := thief.get("/"); a.StatusCode != http.StatusOK {
		t.Errorf("before: %s", a.Status)
	}
	if a := s.browser().post(strings.TrimPrefix(link.URL, s.pages.o.Origin), "password", "another password", "again", "another password"); a.StatusCode != http.StatusSeeOther {
		t.Fatal(a.Status)
	}
	if a := thief.get("/"); a.StatusCode != http.StatusSeeOther {
		t.Errorf("after: %s", a.Status)
	}
}

func TestTerminal(t *testing.T) {
	s := newSite(t)
	link, err := s.pages.Terminal(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	path := strings.TrimPrefix(link.URL, s.pages.o.Origin)
	b := s.browser()
	checkPage(t, "terminal", b.get(path))
	if a := b.get("/"); a.StatusCode != http.StatusSeeOther {
		t.Errorf("looking at a link lets in: %s", a.Status)
	}
	if a := b.post(path); a.StatusCode != http.StatusSeeOther {
		t.Fatalf("the link: %s", a.Status)
	}
	if a := b.get("/users"); a.StatusCode != http.StatusOK {
		t.Errorf("accounts: %s", a.Status)
	}
	if a := b.get("/account"); strings.Contains(a.text, `name="old"`) {
		t.Error("a password is offered to nobody's account")
	}
	for _, one := range s.pages.people.sessionsOf(byTerminal, "terminal", time.Now()) {
		if left := time.Until(one.Until); left > terminalFor || left < terminalFor-time.Minute {
			t.Errorf("it lasts for %v", left)
		}
	}
	if len(s.pages.people.sessionsOf(byTerminal, "terminal", time.Now().Add(terminalFor+time.Second))) != 0 {
		t.Error("it lasts for ever")
	}
}

func TestSessionsEnd(t *testing.T) {
	s := newSite(t)
	one, two := s.as("marie"), s.as("marie")
	a := one.get("/account")
	if n := strings.Count(a.text, `name="session"`); n != 3 {
		t.Errorf("%d buttons, want two sessions and all others", n)
	}
	if a := one.post("/account/end", "session", "others"); a.StatusCode != http.StatusSeeOther {
		t.Fatal(a.Status)
	}
	if a := two.get("/"); a.StatusCode != http.StatusSeeOther {
		t.Errorf("the other one: %s", a.Status)
	}
	if a := one.get("/account?done=ended"); a.StatusCode != http.StatusOK || !strings.Contains(a.text, "It is closed.") {
		t.Errorf("this one: %s", a.Status)
	}
	// Another's session cannot be ended so.
	paul := s.as("paul")
	id := sessionID(s.pages.people.sessionsOf(byPassword, "paul", time.Now())[0].Hash)
	one.post("/account/end", "session", id)
	if a := paul.get("/"); a.StatusCode != http.StatusOK {
		t.Errorf("paul's session was ended by marie: %s", a.Status)
	}
	// They last over a restart, and end when nobody uses them.
	again, err := loadPeople(t.Context(), s.store, time.Now())
	if err != nil || len(again.sessionsOf("", "", time.Now())) != 2 {
		t.Errorf("after a restart: %v, %v", again.sessionsOf("", "", time.Now()), err)
	}
	if n := len(again.sessionsOf("", "", time.Now().Add(idleFor+time.Hour))); n != 0 {
		t.Errorf("%d sessions are good that nobody has used for a week", n)
	}
}

// TestNamesOfOtherKinds: whoever a provider calls marie is not the account of that name, and an administrator can put them out.
func TestNamesOfOtherKinds(t *testing.T) {
	s := newSite(t)
	ctx, now, p := t.Context(), time.Now(), s.pages.people
	enter := func() (secret string) {
		t.Helper()
		secret, err := p.enter(ctx, store.Session{Name: "marie", Role: "admin", Kind: byOIDC, Made: now, Seen: now, Until: now.Add(time.Hour), Agent: evil}, "")
		if err != nil {
			t.Fatal(err)
		}
		return secret
	}
	secret := enter()
	own := s.as("marie")
	if err := p.leaveAll(ctx, "marie", [32]byte{}); err != nil {
		t.Fatal(err)
	}
	if p.find(ctx, secret, now) == nil || own.get("/account").StatusCode != http.StatusSeeOther {
		t.Error("the end of an account's sessions ends somebody else's, or not its own")
	}
	admin := s.as("marie")
	if users, err := s.pages.Users(ctx); err != nil || users.Users[slices.IndexFunc(users.Users, func(u api.User) bool { return u.Name == "marie" })].Sessions != 1 {
		t.Errorf("sessions are counted with somebody else's: %+v, %v", users, err)
	}
	a := admin.get("/users")
	checkPage(t, "users", a)
	id := sessionID(account.HashOf(secret))
	if !strings.Contains(a.text, "marie (oidc)") || !strings.Contains(a.text, id) {
		t.Errorf("the sessions are not listed: %s", a.text)
	}
	if a := s.as("paul").post("/users/end", "session", id); a.StatusCode != http.StatusForbidden || p.find(ctx, secret, now) == nil {
		t.Errorf("support ends a session: %s", a.Status)
	}
	for range 2 { // once more, it is over already
		if a := admin.post("/users/end", "session", id); a.StatusCode != http.StatusSeeOther || p.find(ctx, secret, now) != nil {
			t.Errorf("an end: %s", a.Status)
		}
	}
	if ended := actionsAbout(t, s, "session-end"); len(ended) != 1 || ended[0].About != "marie (oidc)" || ended[0].Who != "marie" {
		t.Errorf("noted: %+v", ended)
	}
	secret = enter()
	if _, err := p.drop(ctx, "marie"); err != nil {
		t.Fatal(err)
	}
	again, err := loadPeople(ctx, s.store, now)
	if err != nil || p.find(ctx, secret, now) == nil || again.find(ctx, secret, now) == nil || len(again.sessionsOf(byPassword, "marie", now)) != 0 {
		t.Errorf("the account is gone; of the sessions stay %+v, %v", again.sessionsOf("", "", now), err)
	}
}

func TestUsersPage(t *testing.T) {
	s := newSite(t)
	b := s.as("marie")
	a := b.post("/users/add", "name", "luc", "role", "board")
	checkPage(t, "users", a)
	if a.StatusCode != http.StatusOK || !strings.Contains(a.text, s.pages.o.Origin+"/start/") {
		t.Fatalf("add: %s %s", a.Status, a.text)
	}
	for _, tt := range []struct {
		path, name, role string
		code             int
		want             string
	}{
		{"/users/add", "luc", "board", 422, "exists already"},
		{"/users/add", evil, "board", 422, "no name for an account"},
		{"/users/add", "x", "root", 422, ""},
		{"/users/role", "luc", "support", 303, ""},
		{"/users/role", "nobody", "support", 404, ""},
		{"/users/role", "marie", "board", 422, "last account"},
		{"/users/drop", "marie", "", 422, "last account"},
		{"/users/reset", "luc", "", 200, "/start/"},
		{"/users/reset", "nobody", "", 404, ""},
		{"/users/drop", "luc", "", 303, ""},
		{"/users/drop", "luc", "", 404, ""},
	} {
		a := b.post(tt.path, "name", tt.name, "role", tt.role)
		if a.StatusCode != tt.code || !strings.Contains(a.text, tt.want) {
			t.Errorf("%s %s %s: %s, want %d with %q", tt.path, tt.name, tt.role, a.Status, tt.code, tt.want)
		}
		checkPage(t, tt.path, a)
	}
	a = b.get("/actions")
	for _, want := range []string{"made an account", "changed a role", "removed an account", "gave a new link"} {
		if !strings.Contains(a.text, want) {
			t.Errorf("the journal does not tell %q", want)
		}
	}
	// A role that is taken away is gone at once.
	paul := s.as("paul")
	b.post("/users/role", "name", "paul", "role", "admin")
	if a := paul.get("/users"); a.StatusCode != http.StatusOK {
		t.Errorf("as admin: %s", a.Status)
	}
	b.post("/users/role", "name", "paul", "role", "board")
	if a := paul.get("/users"); a.StatusCode != http.StatusForbidden {
		t.Errorf("as board: %s", a.Status)
	}
}

func TestChangePassword(t *testing.T) {
	s := newSite(t)
	b, other := s.as("bea"), s.as("bea")
	for _, tt := range []struct {
		old, password, again string
		code                 int
	}{
		{"wrong", "another password", "another password", 422},
		{password, "short", "short", 422},
		{password, "another password", "another password", 303},
	} {
		if a := b.post("/account/password", "old", tt.old, "password", tt.password, "again", tt.again); a.StatusCode != tt.code {
			t.Errorf("%q to %q: %s, want %d", tt.old, tt.password, a.Status, tt.code)
		}
	}
	if a := other.get("/"); a.StatusCode != http.StatusSeeOther {
		t.Errorf("the other session: %s", a.Status)
	}
	if a := b.get("/"); a.StatusCode != http.StatusOK {
		t.Errorf("this session: %s", a.Status)
	}
}

func TestProxyHeader(t *testing.T) {
	for _, tt := range []struct {
		name    string
		proxies []netip.Prefix
		user    string
		code    int
	}{
		{"a listed proxy", []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, "marie", 200},
		{"a listed proxy, nobody logged in", []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, "", 303},
		{"a listed proxy, no such account", []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, "eve", 403},
		{"somebody else", []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, "marie", 403},
	} {
		s := newSite(t, func(o *Options) { o.Proxies, o.UserHeader = tt.proxies, "Remote-User" })
		b := s.browser()
		if tt.user != "" {
			b.header.Set("Remote-User", tt.user)
		}
		if a := b.get("/"); a.StatusCode != tt.code {
			t.Errorf("%s: %s, want %d", tt.name, a.Status, tt.code)
		}
	}
	// Whoever asks from the proxy's address without its secret is not the proxy.
	for secret, want := range map[string]int{"hush": 200, "guess": 403, "": 403} {
		b := newSite(t, func(o *Options) {
			o.Proxies, o.UserHeader, o.ProxySecret = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, "Remote-User", "hush"
		}).browser()
		b.header.Set("Remote-User", "marie")
		b.header.Set("X-Forwarded-For", "192.0.2.7")
		b.header.Set("Tocsin-Proxy", secret)
		if a := b.get("/"); a.StatusCode != want {
			t.Errorf("with the secret %q: %s, want %d", secret, a.Status, want)
		}
		b.header.Del("Remote-User")
		b.post("/login", "name", "marie", "password", "wrong")
		if named := strings.Contains(b.logged[len(b.logged)-1], "192.0.2.7"); named != (want == 200) {
			t.Errorf("with the secret %q: %q", secret, b.logged)
		}
	}
	// Behind a listed proxy a failure has an address.
	s := newSite(t, func(o *Options) { o.Proxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} })
	b := s.browser()
	b.header.Set("X-Forwarded-For", "198.51.100.1, 192.0.2.7")
	b.post("/login", "name", "marie", "password", "wrong")
	if len(s.logged) != 1 || s.logged[0] != `failed "marie" 192.0.2.7` {
		t.Errorf("logged: %q", s.logged)
	}
}

func TestLanguageAndTheme(t *testing.T) {
	s := newSite(t, func(o *Options) { o.Language = "auto" })
	b := s.browser()
	b.header.Set("Accept-Language", "fr-FR,fr;q=0.9")
	if a := b.get("/login"); !strings.Contains(a.text, `<html lang="fr">`) || !strings.Contains(a.text, "Mot de passe") {
		t.Error("a French browser gets no French page")
	}
	if a := b.post("/settings", "language", "en", "back", "/login"); a.Header.Get("Location") != "/login" {
		t.Errorf("back to %s", a.Header.Get("Location"))
	}
	b.post("/settings", "theme", "dark", "back", "//evil.example")
	if a := b.get("/login"); !strings.Contains(a.text, `<html lang="en" data-theme="dark">`) {
		t.Errorf("%.200s", a.text)
	}
	b.post("/settings", "theme", "<b>", "language", "xx")
	if a := b.get("/login"); !strings.Contains(a.text, `data-theme="dark"`) {
		t.Error("a theme that there is not was taken")
	}
}

func TestSearch(t *testing.T) {
	b := newSite(t).as("marie")
	for q, want := range map[string]string{
		"192.0.2.7": "/address/192.0.2.7", " 2001:db8::7 ": "/address/2001:db8::7", "192.0.2.0/24": "/bans?net=192.0.2.0%2F24", "web1": "/server/OVH/web1", "WEB1": "/server/OVH/web1",
		"mail": "/server/Scaleway%3BParis/mail2", "": "/",
	} {
		if a := b.get("/search?q=" + url.QueryEscape(q)); a.Header.Get("Location") != want {
			t.Errorf("%q leads to %q, want %q", q, a.Header.Get("Location"), want)
		}
	}
	for _, q := range []string{"web", "nothing", evil + "x"} {
		a := b.get("/search?q=" + url.QueryEscape(q))
		checkPage(t, q, a)
		if a.StatusCode != http.StatusOK {
			t.Errorf("%q: %s", q, a.Status)
		}
	}
}
