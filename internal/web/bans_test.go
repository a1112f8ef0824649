package web

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tocsin/internal/api"
	"tocsin/internal/store"
)

// fakeGuard answers on a socket as the guard does, of bans that the test gives it.
type fakeGuard struct {
	mu     sync.Mutex
	bans   []api.Ban
	asked  []string // changes, in their order
	refuse string   // of whom no change is taken
	mode   string
	lists  []api.ListState
	listed []api.Listed
	allow  *api.Allow
	logins []api.Login
}

// ended is a time as the wire has it.
func ended(t time.Time) *time.Time { return &t }

// newGuard has a ban by a jail with hostile lines, one by hand, one of a network, one that is over, and one of no address.
func newGuard() *fakeGuard {
	now := time.Now().UTC().Truncate(time.Second)
	line := func(ago time.Duration, user, text string) api.Evidence {
		return api.Evidence{At: now.Add(-ago), Source: "file:/var/log/auth.log", User: user, Text: text}
	}
	day := now.Add(24 * time.Hour)
	return &fakeGuard{mode: api.ModeEnforcing, bans: []api.Ban{
		{Jail: "sshd", ID: "192.0.2.7", Prefix: "192.0.2.7/32", Active: true, At: now.Add(-10 * time.Minute), Until: ended(now.Add(5 * time.Minute)), Verdict: "drop", Ports: []uint16{22, 2222}, Origin: "jail", Failures: 3,
			Reason: "3 failures in 41 s (the limit is 3 in 10 minutes)", Evidence: []api.Evidence{
				line(651*time.Second, "root", "sshd[4711]: Failed password for root from 192.0.2.7 port 50122 ssh2"),
				line(630*time.Second, "marianne", "sshd[4712]: Failed password for marianne from 192.0.2.7 port 50123 ssh2; marianne2"),
				line(610*time.Second, evil, "sshd[4713]: Failed password for invalid user "+evil+" from 192.0.2.7 port 50131 ssh2"),
			}},
		{Jail: "operator", ID: "203.0.113.9", Prefix: "203.0.113.9/32", Active: true, At: now.Add(-time.Hour), Until: &day, Verdict: "drop", Ports: []uint16{}, Origin: "operator", By: "paul", Reason: evil},
		{Jail: "dovecot", ID: "2001:db8:7::/64", Prefix: "2001:db8:7::/64", Active: true, At: now.Add(-2 * time.Hour), Verdict: "drop", Ports: []uint16{143, 993}, Origin: "jail", Failures: 5},
		{Jail: evil, ID: "mallory" + evil, Active: true, At: now.Add(-3 * time.Hour), Until: &day, Verdict: "pass", Ports: []uint16{}, Origin: "jail", Failures: 1},
		{Jail: "sshd", ID: "192.0.2.7", Prefix: "192.0.2.7/32", At: now.Add(-40 * time.Hour), Until: ended(now.Add(-39 * time.Hour)), EndedAt: ended(now.Add(-39 * time.Hour)), EndedBy: "paul", EndReason: "a member", Verdict: "drop", Ports: []uint16{22}, Origin: "jail", Failures: 5},
		{Jail: "list:drop", ID: "198.51.100.0/24", Prefix: "198.51.100.0/24", Active: true, At: now, Ports: []uint16{}, Origin: "list"},
	}, lists: []api.ListState{
		{Name: "abuseipdb", InForce: true, Entries: 1500, Ports: []uint16{}, Packets: 4212, Members: 3, Allowed: 1, Fetched: ended(now.Add(-96 * time.Hour))},
		{Name: "late", Ports: []uint16{25}}, {Name: "torn", Problem: evil}, {Name: "out", Dropped: true}}}
}

// client serves the guard until the test ends.
func (g *fakeGuard) client(t *testing.T) *api.Client {
	t.Helper()
	dir, err := os.MkdirTemp("", "web")
	if err != nil {
		t.Fatal(err)
	}
	l, err := api.Listen(filepath.Join(dir, "guard.sock"), -1)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- api.Serve(ctx, l, api.Handler(g.operations())) }()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
		_ = os.RemoveAll(dir)
	})
	return api.NewClient(filepath.Join(dir, "guard.sock"))
}

func (g *fakeGuard) operations() api.Operations {
	changed := func(what, who string) (api.Change, error) {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.asked = append(g.asked, what)
		if who == g.refuse {
			return api.Change{}, api.Errorf(api.ExitFindings, "", "an ssh session of "+evil+" is open")
		}
		return api.Change{Text: what}, nil
	}
	return api.Operations{
		Status: func(context.Context) (api.Status, error) { return api.Status{Mode: g.mode}, nil },
		Lists:  func(context.Context) (api.ListStates, error) { return api.ListStates{Lists: g.lists}, nil },
		Tally: func(context.Context, bool) (api.Tally, error) {
			return api.Tally{Counts: []api.BanCount{{Jail: "sshd", Active: 1234, Day: 60}, {Jail: "dovecot", Active: 2, Day: 2}}}, nil
		},
		Bans: func(_ context.Context, q api.BansQuery) (api.Bans, error) {
			g.mu.Lock()
			defer g.mu.Unlock()
			out := api.Bans{Mode: g.mode}
			for _, b := range g.bans {
				if (q.All || b.Active) && (q.Since == 0 || time.Since(b.At) < q.Since) && len(out.Bans) < q.Limit {
					b.Evidence = nil
					out.Bans = append(out.Bans, b)
				}
			}
			return out, nil
		},
		Jail: func(_ context.Context, name string) (api.JailDetail, error) {
			return api.JailDetail{Jail: api.Jail{Name: name, Filter: name, MaxRetry: 3}, FindSeconds: 600}, nil
		},
		Why: func(_ context.Context, addr netip.Addr) (api.Why, error) {
			return g.why(addr.String(), func(b *api.Ban) bool {
				p, err := netip.ParsePrefix(b.Prefix)
				return err == nil && p.Contains(addr) && b.Origin != "list"
			}), nil
		},
		WhyID: func(_ context.Context, id string) (api.Why, error) {
			return g.why(id, func(b *api.Ban) bool { return b.ID == id && b.Prefix == "" }), nil
		},
		Ban: func(_ context.Context, r api.BanRequest) (api.Change, error) {
			return changed(fmt.Sprintf("ban %s %g %s %s", r.Prefix, r.Seconds/86400, r.By, r.Reason), r.Prefix)
		},
		Unban: func(_ context.Context, r api.UnbanRequest) (api.Change, error) {
			return changed(fmt.Sprintf("unban %s %s", r.Prefix, r.By), r.Prefix)
		},
		Allow: func(_ context.Context, r api.AllowRequest) (api.Change, error) {
			return changed(fmt.Sprintf("allow %s %g %s", r.Prefix, r.Seconds/86400, r.By), r.Prefix)
		},
	}
}

func (g *fakeGuard) why(name string, of func(*api.Ban) bool) api.Why {
	y := api.Why{Addr: name, Mode: g.mode, Allowed: g.allow, Listed: g.listed, Logins: g.logins}
	for _, b := range g.bans {
		switch {
		case !of(&b):
		case b.Active:
			y.Bans, y.Banned = append(y.Bans, b), true
			for _, e := range b.Evidence {
				y.Users = append(y.Users, e.User)
			}
		default:
			y.Former = append(y.Former, b)
			y.FormerAll++
		}
	}
	if name == "192.0.2.7" {
		y.Standing, y.Today = []api.Standing{{Jail: "sshd", Failures: 1, More: 2, MaxRetry: 3, FindTime: "10m"}}, 4
	}
	return y
}

func (g *fakeGuard) changes() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return strings.Join(g.asked, "; ")
}

func testGuardData() GuardData {
	return GuardData{
		Country: func(a netip.Addr) string { return map[bool]string{true: "NL", false: ""}[a.Is4()] },
		Person:  func(name string) bool { return name == "marianne" },
		Own:     func() (string, string) { return "OVH", "web1" },
		Reported: func(_ context.Context, a netip.Addr) (Reported, error) {
			return Reported{To: "abuseipdb.com", Sent: time.Now().Add(-time.Hour), Waiting: true}, nil
		},
	}
}

// guarded is a site with a guard.
func guarded(t *testing.T, change ...func(*Options)) (*site, *fakeGuard) {
	t.Helper()
	g := newGuard()
	client := g.client(t)
	return newSite(t, append([]func(*Options){func(o *Options) { o.Guard = client }}, change...)...), g
}

func TestBansByRole(t *testing.T) {
	s, _ := guarded(t)
	for name, sees := range map[string]bool{"bea": false, "paul": false, "marie": true} {
		b := s.as(name)
		for _, path := range []string{"/bans", "/bans?when=week", "/bans?jail=sshd&when=week", "/bans?net=192.0.2.7/32", "/bans?port=22", "/bans?country=NL", "/bans?page=9", "/bans?when=nonsense&page=-1&net=x&port=x&country=xx"} {
			a := b.get(path)
			checkPage(t, path+" as "+name, a)
			if a.StatusCode != http.StatusOK {
				t.Fatalf("%s as %s: %s", path, name, a.Status)
			}
			for _, secret := range []string{">192.0.2.7<", ">203.0.113.9<", "mallory", "2001:db8:7::/64", "192.0.2.7/32"} {
				if !sees && strings.Contains(a.text, secret) && !strings.Contains(path, secret) {
					t.Errorf("%s shows %s to %s", path, secret, name)
				}
			}
			if strings.Contains(a.text, "198.51.100.") {
				t.Errorf("%s mixes lists with bans", path)
			}
			if got := strings.Contains(a.text, `type="checkbox"`); got != (sees && strings.Contains(a.text, "<tbody>") && path != "/bans?page=9") {
				t.Errorf("%s as %s: several may be changed at once: %t", path, name, got)
			}
		}
		a := b.get("/bans")
		for _, want := range []string{"Bans of web1", "1,236", "62", "192.0.2.0/24", "1 list from elsewhere blocks 1,500 addresses"} {
			if !strings.Contains(a.text, want) {
				t.Errorf("%s is not told %q", name, want)
			}
		}
	}
	for path, want := range map[string]int{"/bans?when=week&jail=sshd": 2, "/bans?port=143": 1, "/bans?port=all": 2, "/bans?country=-": 2, "/bans?net=2001:db8::/32": 1, "/bans?net=203.0.113.0/24": 1, "/bans?country=FR": 0} {
		if got := strings.Count(s.as("marie").get(path).text, `name="id"`); got != want {
			t.Errorf("%s lists %d bans, want %d", path, got, want)
		}
	}
}

func TestSearchOfBans(t *testing.T) {
	s, _ := guarded(t)
	for _, tt := range []struct{ who, q, want string }{
		{"marie", "192.0.2.7", "/address/192.0.2.7"},
		{"paul", "192.0.2.7", "/address/192.0.2.7"},
		{"paul", "2001:db8::7/128", "/address/2001:db8::7"},
		{"bea", "192.0.2.7", "/bans?net=192.0.2.0%2F24"},
		{"bea", "192.0.2.9/30", "/bans?net=192.0.2.0%2F24"},
		{"paul", "2001:db8:7:8::/64", "/bans?net=2001%3Adb8%3A7%3A%3A%2F48"},
		{"marie", "192.0.2.9/30", "/bans?net=192.0.2.8%2F30"},
		{"marie", "mallory", ""},
	} {
		for _, path := range []string{"/bans?q=", "/search?q="} {
			a := s.as(tt.who).get(path + tt.q)
			if tt.want == "" {
				if path == "/bans?q=" && (a.StatusCode != http.StatusOK || !strings.Contains(a.text, "neither an address nor a network")) {
					t.Errorf("%s looks for %s: %s", tt.who, tt.q, a.Status)
				}
				continue
			}
			if got := a.Header.Get("Location"); got != tt.want {
				t.Errorf("%s looks with %s for %s and comes to %q, want %q", tt.who, path, tt.q, got, tt.want)
			}
		}
	}
}

func TestManyAreChangedOnceSomebodyIsSure(t *testing.T) {
	s, g := guarded(t)
	b := s.as("marie")
	form := []string{"back", "/bans?jail=sshd", "do", "ban"}
	a := b.post("/bans", form...)
	if a.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(a.text, "Choose addresses first") {
		t.Errorf("without an address: %s", a.Status)
	}
	a = b.do("POST", "/bans", map[string][]string{"back": {"/bans?jail=sshd"}, "do": {"ban"}, "id": {"192.0.2.7", "203.0.113.9", "203.0.113.9"}})
	checkPage(t, "the question", a)
	if a.StatusCode != http.StatusOK || !strings.Contains(a.text, "Ban 2 addresses for longer") || !strings.Contains(a.text, `name="sure"`) || g.changes() != "" {
		t.Errorf("before somebody is sure: %s, the guard was asked %q", a.Status, g.changes())
	}
	sure := func(do string, more ...string) answer {
		f := map[string][]string{"back": {"/bans?jail=sshd"}, "do": {do}, "id": {"192.0.2.7", "203.0.113.9"}, "sure": {"1"}}
		for i := 0; i < len(more); i += 2 {
			f[more[i]] = []string{more[i+1]}
		}
		return b.do("POST", "/bans", f)
	}
	if a := sure("ban", "days", "3"); a.StatusCode != http.StatusUnprocessableEntity {
		t.Errorf("a time that is not offered: %s", a.Status)
	}
	if a := sure("cancel"); a.Header.Get("Location") != "/bans?jail=sshd" || g.changes() != "" {
		t.Errorf("cancelled: %s to %s, asked %q", a.Status, a.Header.Get("Location"), g.changes())
	}
	for _, tt := range []struct{ do, days, want string }{
		{"ban", "30", "ban 192.0.2.7 30 marie too much; ban 203.0.113.9 30 marie too much"},
		{"allow", "7", "allow 192.0.2.7 7 marie; allow 203.0.113.9 7 marie"},
		{"unban", "", "unban 192.0.2.7 marie; unban 203.0.113.9 marie"},
	} {
		g.asked = nil
		a := sure(tt.do, "days", tt.days, "reason", "too much")
		if a.StatusCode != http.StatusSeeOther || a.Header.Get("Location") != "/bans?done="+tt.do+"s&jail=sshd" || g.changes() != tt.want {
			t.Errorf("%s: %s to %s; the guard was asked %q, want %q", tt.do, a.Status, a.Header.Get("Location"), g.changes(), tt.want)
		}
		if text := b.get("/bans?done=" + tt.do + "s").text; !strings.Contains(text, `class="flash"`) {
			t.Errorf("%s is not told", tt.do)
		}
	}
	noted, err := s.store.Actions(t.Context(), 0, 100)
	if err != nil || len(noted) != 6 || noted[5].Who != "marie" || noted[5].What != "ban" || noted[5].About != "192.0.2.7" || noted[5].Note != "30d too much" {
		t.Errorf("noted: %+v, %v", noted, err)
	}
	g.asked, g.refuse = nil, "192.0.2.7"
	a = sure("ban", "days", "1")
	checkPage(t, "a refusal", a)
	if a.StatusCode != http.StatusConflict || !strings.Contains(a.text, "192.0.2.7: the guard refused") || !strings.Contains(g.changes(), "203.0.113.9") {
		t.Errorf("refused: %s, asked %q", a.Status, g.changes())
	}
}

func TestGuardThatDoesNotAnswer(t *testing.T) {
	gone := api.NewClientOn("/nowhere", func(context.Context) (net.Conn, error) { return nil, os.ErrNotExist })
	s := newSite(t, func(o *Options) { o.Guard = gone })
	b := s.as("marie")
	for _, path := range []string{"/bans", "/address/192.0.2.7"} {
		a := b.get(path)
		checkPage(t, path, a)
		if a.StatusCode != http.StatusServiceUnavailable || !strings.Contains(a.text, "no guard is running") {
			t.Errorf("%s without a guard: %s", path, a.Status)
		}
	}
	if a := b.post("/address/192.0.2.7/unban"); a.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("an unban without a guard: %s", a.Status)
	}
	a := b.post("/bans", "id", "192.0.2.7", "do", "unban", "sure", "1")
	if a.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("several unbans without a guard: %s", a.Status)
	}
}

// TestGuardPagesInFrench asks in French, and for what is counted: every sentence is there, or T panics.
func TestGuardPagesInFrench(t *testing.T) {
	s, g := guarded(t, func(o *Options) {
		o.Language = "fr"
		o.Measures = func(_, server, service string) bool { return server == "web1" && service == "bans_day" }
	})
	b := s.as("marie")
	for path, want := range map[string][]string{
		"/bans":                               {"Bannissements sur web1", "1 236", "Par pays", "/graph/OVH/web1/bans_day/week.svg?lang=fr"},
		"/bans?when=month":                    {"30 jours", "levé", "par paul"},
		"/address/192.0.2.7":                  {"192.0.2.7 est bannie des ports 22, 2222 jusqu’à", "par la règle sshd, parce que 3 échecs de connexion ont été vus en 41 s (la règle en permet 2 en 10 min).", "Signalée par nous"},
		"/address/203.0.113.9":                {"203.0.113.9 est bannie de tous les ports jusqu’à demain", "par paul"},
		"/address/2001:db8:7::1":              {"2001:db8:7::1 (dans 2001:db8:7::/64) est bannie des ports 143, 993, sans fin."},
		"/address/198.51.100.4":               {"n’est pas bannie, et ne l’a jamais été ici"},
		"/address/2001:db8:7::%2F64":          {"2001:db8:7::/64 est bannie"},
		"/address/192.0.2.7?print=1":          {"192.0.2.7 est bannie", "Association Exemple"},
		"/address/" + segment("mallory"+evil): {"est bannie de tous les ports"},
	} {
		a := b.get(path)
		checkPage(t, path, a)
		for _, part := range want {
			if !strings.Contains(a.spaced(), part) {
				t.Errorf("%s (%s) does not say %q", path, a.Status, part)
			}
		}
	}
	for _, mode := range []string{api.ModeObserving, api.ModeOff} {
		g.mode = mode
		for _, path := range []string{"/bans", "/address/192.0.2.7"} {
			if a := b.get(path); !strings.Contains(a.text, `class="note"`) {
				t.Errorf("%s does not say that the guard is %s", path, mode)
			}
		}
	}
}

// TestWeightsOfTheGuard holds what a full page of bans weighs.
func TestWeightsOfTheGuard(t *testing.T) {
	s, g := guarded(t)
	now := time.Now()
	for i := range 9_000 {
		addr := netip.AddrFrom4([4]byte{203, byte(i / 250), byte(i % 250), 7})
		g.bans = append(g.bans, api.Ban{Jail: fmt.Sprintf("jail%d", i%20), ID: addr.String(), Prefix: addr.String() + "/32", Active: true, At: now, Until: ended(now.Add(time.Hour)), Ports: []uint16{uint16(i % 30)}, Origin: "jail"})
	}
	a := s.as("marie").get("/bans")
	var packed bytes.Buffer
	z, _ := gzip.NewWriterLevel(&packed, gzip.BestSpeed)
	_, _ = z.Write([]byte(a.text))
	_ = z.Close()
	t.Logf("%d bytes compressed, %d raw", packed.Len(), len(a.text))
	if packed.Len() > 15<<10 || strings.Count(a.text, `name="id"`) != bansOfPage {
		t.Errorf("a page of bans weighs %d bytes with %d rows", packed.Len(), strings.Count(a.text, `name="id"`))
	}
	if !strings.Contains(a.text, `rel="next"`) || !strings.Contains(a.text, "1 to 50 of 9,004") {
		t.Error("the older ones cannot be reached")
	}
}

func TestBansAreAskedOnceInAWhile(t *testing.T) {
	s, g := guarded(t)
	b := s.as("marie")
	_ = b.get("/bans")
	g.mu.Lock()
	g.bans = g.bans[1:]
	g.mu.Unlock()
	if a := b.get("/bans"); !strings.Contains(a.text, ">192.0.2.7<") {
		t.Error("the guard is asked for each look")
	}
	_ = b.post("/bans", "id", "192.0.2.7", "do", "unban", "sure", "1")
	if a := b.get("/bans"); strings.Contains(a.text, ">192.0.2.7<") {
		t.Error("a change is not seen at once")
	}
}

func actionsAbout(t *testing.T, s *site, what string) []store.Action {
	t.Helper()
	all, err := s.store.Actions(t.Context(), 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(all, func(a store.Action) bool { return a.What != what })
}

// spaced is the text of an answer with plain spaces.
func (a answer) spaced() string {
	return strings.NewReplacer("\u202f", " ", "\u00a0", " ").Replace(a.text)
}
