package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tocsin/internal/abuseipdb/fake"
	"tocsin/internal/api"
	"tocsin/internal/config"
	"tocsin/internal/report"
)

const canaryKey = "canarykey0123456789abcdefcanarykey"

// canaries are what no request may hold: a user, the host of the log, the words of its lines.
var canaries = []string{"canaryuser", "web1", "sshd[", "Failed password", "port 4"}

// sharing is a guard with a watch process beside it, and a service that it talks to.
type sharing struct {
	*world
	service *fake.Server
	url     string
	watch   *api.WatchClient
	stopped func()
	logged  *lockedBuffer
}

// share starts a guard and a watch process. settings come behind [report]; %s in them is the service's URL.
func share(t *testing.T, o fake.Options, settings string) *sharing {
	t.Helper()
	o.Accounts = []fake.Account{{Name: "us", Key: canaryKey, Plan: fake.FreePlan()}}
	o.Canaries = canaries
	s := &sharing{service: fake.New(o)}
	srv := httptest.NewServer(s.service)
	t.Cleanup(srv.Close)
	s.url = srv.URL + "/api/v2/"
	s.world = newWorld(t, strings.ReplaceAll(settings, "%s", s.url))
	s.world.start()
	s.watch = api.NewWatchClient(WatchSocket(s.dir))
	if _, err := StoreKey(s.dir, canaryKey); err != nil {
		t.Fatal(err)
	}
	s.begin()
	t.Cleanup(func() {
		s.halt()
		for _, v := range s.service.Violations() {
			t.Errorf("the service was not asked as it should be: %+v", v)
		}
		for name, text := range map[string]string{"watch process": s.logged.String(), "guard": s.said.String()} {
			if strings.Contains(text, canaryKey) {
				t.Errorf("the %s logged the key:\n%s", name, text)
			}
		}
		if t.Failed() {
			t.Logf("the watch process said:\n%s", s.logged)
		}
	})
	return s
}

// begin starts the watch process, with a hold that a test can wait for.
func (s *sharing) begin() {
	s.t.Helper()
	load := func() (*config.Config, string, error) {
		c, err := config.Load(s.conf)
		if err == nil {
			c.Report.Hold = 100 * time.Millisecond
			c.Watch.Enabled = false // what is supervised has tests of its own
		}
		return c, s.conf, err
	}
	c, _, err := load()
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	s.logged = &lockedBuffer{}
	go func() {
		done <- runWatch(ctx, WatchOptions{Config: c, Load: load, Version: "test", Log: slog.New(slog.NewTextHandler(s.logged, &slog.HandlerOptions{Level: slog.LevelDebug}))}, nil)
	}()
	s.stopped = func() {
		cancel()
		if err := <-done; err != nil {
			s.t.Errorf("RunWatch() = %v", err)
		}
	}
	s.until("the watch process answers", func() bool { _, err := s.watch.Reputation(context.Background()); return err == nil })
}

func (s *sharing) halt() {
	if s.stopped != nil {
		s.stopped()
		s.stopped = nil
	}
}

func (s *sharing) reputation() api.Reputation {
	s.t.Helper()
	r, err := s.watch.Reputation(context.Background())
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

// await waits as until does, for what takes a few rounds of the watch process.
func (s *sharing) await(what string, f func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !f(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("waited in vain: %s\nreports: %+v\nthe watch process said:\n%s", what, s.service.Reports(), s.logged)
		}
	}
}

// following waits until the watch process follows the guard, so that what happens now is reported.
func (s *sharing) following() {
	s.t.Helper()
	s.await("the guard is followed", func() bool {
		r, err := s.Decisions(context.Background(), api.DecisionsQuery{After: -1})
		return err == nil && r.Newest >= 0 && s.reports().Cursor != 0
	})
}

func (s *sharing) reports() api.ReportState { return s.reputation().Reports }

const reportSettings = `
[report]
enabled = true
url = "%s"
`

func TestBansAreReportedFromNumbers(t *testing.T) {
	s := share(t, fake.Options{}, reportSettings)
	ctx := context.Background()
	s.following()
	s.logsIn("1.2.3.9", "canaryuser")
	s.settled()
	if _, err := s.Ban(ctx, api.BanRequest{Prefix: "1.2.3.8", By: "canaryuser", Reason: "canaryuser"}); err != nil {
		t.Fatal(err)
	}
	s.fails(15, "1.2.3.9", "canaryuser") // a member: patience first, then a ban that is not reported
	s.fails(5, "10.1.2.3", "canaryuser")
	s.fails(5, "2a00:1450:1:2::7", "canaryuser")
	s.fails(5, "1.2.3.4", "canaryuser")
	s.banned("1.2.3.4")
	s.await("both are reported", func() bool { return s.reports().Sent == 2 }) // when the answer is known, not only the report
	for _, r := range s.service.Reports() {
		if r.Addr != netip.MustParseAddr("1.2.3.4") && r.Addr != netip.MustParseAddr("2a00:1450:1:2::7") {
			t.Errorf("%s was reported", r.Addr)
		}
		if !slices.Equal(r.Categories, []int{18, 22}) || !strings.HasPrefix(r.Comment, "5 ssh login failures in ") {
			t.Errorf("report %+v", r)
		}
	}
	st := s.reports()
	if st.Sent != 2 || st.LeftOut["not a public address"] == 0 || st.LeftOut["not by evidence"] == 0 || st.LeftOut["logged in"] == 0 {
		t.Errorf("what became of the bans: %+v", st)
	}

	// After a restart nothing is sent again.
	s.halt()
	s.begin()
	s.fails(5, "1.2.3.5", "canaryuser")
	s.await("the next is reported", func() bool { return len(s.service.Reports()) == 3 })

	d, err := DryRun(ctx, s.Client, &config.Config{Report: config.Report{URL: s.url, Enabled: true, Jails: map[string][]int{"sshd": {18, 22}}, Hold: time.Minute}})
	text, _ := json.Marshal(d)
	if err != nil || len(d.Reports) != 3 {
		t.Errorf("DryRun() = %s, %v; want the three", text, err)
	}
	for _, c := range append(canaries, canaryKey) {
		if strings.Contains(string(text), c) {
			t.Errorf("the dry run shows %q: %s", c, text)
		}
	}
}

func TestListComesFromTheService(t *testing.T) {
	var listed []fake.Listed
	for i := range 40 {
		listed = append(listed, fake.Listed{Addr: netip.MustParseAddr(fmt.Sprintf("1.2.3.%d", i+1)), Score: 100, Country: "FR"})
	}
	s := share(t, fake.Options{List: listed}, "[[list]]\nname = \"abuseipdb\"\nurl = \"abuseipdb:\"\n[report]\nurl = \"%s\"\n")
	s.await("the list is in force", func() bool { return s.list("abuseipdb").Entries == 40 })
	s.await("the watch process knows it", func() bool { l := s.reputation().Lists; return len(l) == 1 && l[0].Handed })
	r := s.reputation()
	if !r.Key || r.Lists[0].Entries != 40 || r.Lists[0].Next == nil || r.Lists[0].Next.Before(time.Now()) {
		t.Errorf("reputation %+v", r)
	}
	if r.Reports.Enabled {
		t.Error("reports are on, though nobody switched them on")
	}
	s.logsIn("1.2.3.4", "canaryuser")
	s.until("the member is let through", func() bool { l := s.list("abuseipdb"); return l.Members == 1 && l.Entries == 39 })
	for addr, want := range map[string]string{
		"1.2.3.4": "[{abuseipdb 1.2.3.4/32 [] false}]", "1.2.3.5": "[{abuseipdb 1.2.3.5/32 [] true}]", "1.2.4.5": "[]",
	} {
		if w, err := s.Why(context.Background(), netip.MustParseAddr(addr)); err != nil || fmt.Sprint(w.Listed) != want {
			t.Errorf("Why(%s) names the lists %v, %v; want %s", addr, w.Listed, err, want)
		}
	}

	// The watch process may be gone: the guard has the list, also after a restart.
	s.halt()
	s.again()
	if l := s.list("abuseipdb"); !l.InForce || l.Entries != 39 || l.Members != 1 {
		t.Errorf("without the watch process: %+v", l)
	}
	if n := len(s.service.Requests()); n != 1 {
		t.Errorf("the service was asked %d times, want once", n)
	}
}

// Whoever stores the right key shall not wait for hours because there was none before.
func TestListComesOnceThereIsAKey(t *testing.T) {
	listed := []fake.Listed{{Addr: netip.MustParseAddr("1.2.3.4"), Score: 100, Country: "FR"}}
	s := share(t, fake.Options{List: listed}, "[[list]]\nname = \"abuseipdb\"\nurl = \"abuseipdb:\"\n[report]\nurl = \"%s\"\n")
	s.await("the list is in force", func() bool { return s.list("abuseipdb").Entries == 1 })
	s.halt()
	if _, err := ForgetKey(s.dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(WatchFolder(s.dir), listFolder, "abuseipdb.state"), []byte(`{"version":1}`), 0o600); err != nil {
		t.Fatal(err)
	}
	s.begin()
	s.await("the key is missed", func() bool { l := s.reputation().Lists; return len(l) == 1 && l[0].Failures == 1 })
	if _, err := StoreKey(s.dir, canaryKey); err != nil {
		t.Fatal(err)
	}
	s.await("the list is fetched", func() bool {
		r, err := s.watch.Reputation(context.Background())
		return err == nil && len(r.Lists) == 1 && r.Lists[0].Fetched != nil && r.Lists[0].Error == ""
	})
}

func TestListFromAFileIsJudged(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "drop.txt")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("1.2.3.4\n1.2.3.5 ; comment\n1.2.4.0/24\n1.2.5.6\n")
	s := share(t, fake.Options{}, "[[list]]\nname = \"drop\"\nurl = \"file:"+file+"\"\n")
	ctx := context.Background()
	s.await("the list is in force", func() bool { return s.list("drop").Entries == 4 })

	s.halt()
	write("1.2.3.4\n")
	// A list has its turn once a day: as if it had never been asked for.
	if err := os.WriteFile(filepath.Join(WatchFolder(s.dir), listFolder, "drop.state"), []byte(`{"version":1}`), 0o600); err != nil {
		t.Fatal(err)
	}
	s.begin()
	s.await("the list is refused", func() bool { r := s.reputation(); return len(r.Lists) == 1 && len(r.Lists[0].Refused) == 1 })
	if l := s.list("drop"); l.Entries != 4 {
		t.Errorf("%d entries in force, want the 4 from before", l.Entries)
	}
	r := s.reputation()
	if f := WatchFindings(&r); len(f) != 1 || f[0].Code != "TOC-LST-004" || !strings.Contains(f[0].Fix, "tocsin reputation accept drop") {
		t.Errorf("findings %+v", f)
	}
	if _, err := s.watch.Accept(ctx, "drop"); err != nil {
		t.Fatal(err)
	}
	s.await("the accepted list is in force", func() bool { return s.list("drop").Entries == 1 })
	if r := s.reputation(); len(r.Lists[0].Refused) != 0 {
		t.Errorf("still refused: %+v", r.Lists[0])
	}
	if _, err := s.watch.Accept(ctx, "drop"); err == nil {
		t.Error("a list was accepted that nobody refused")
	}

	// The guard's reload brings the watch process a new configuration, too.
	more := filepath.Join(dir, "more.txt")
	if err := os.WriteFile(more, []byte("1.2.6.0/24\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	s.configure("[[list]]\nname = \"more\"\nurl = \"file:" + more + "\"\n")
	s.reloaded()
	s.await("the new list is in force", func() bool { return s.list("more").Entries == 1 })
	for _, folder := range []string{s.dir, WatchFolder(s.dir)} {
		s.await("nothing is left of the old one in "+folder, func() bool {
			left, err := filepath.Glob(filepath.Join(folder, listFolder, "drop.*"))
			return err == nil && (len(left) == 0 || len(left) == 1 && strings.HasSuffix(left[0], ".state"))
		})
	}
}

func TestCheckIsAskedOnce(t *testing.T) {
	s := share(t, fake.Options{List: []fake.Listed{{Addr: netip.MustParseAddr("1.2.3.4"), Score: 100, Country: "FR"}}}, reportSettings)
	ctx := context.Background()
	a := netip.MustParseAddr("1.2.3.4")
	first, err := s.watch.Check(ctx, a)
	if err != nil || first.Cached || first.Addr != "1.2.3.4" {
		t.Fatalf("Check() = %+v, %v", first, err)
	}
	again, err := s.watch.Check(ctx, a)
	if err != nil || !again.Cached || again.Score != first.Score {
		t.Errorf("Check() again = %+v, %v", again, err)
	}
	if n := len(s.service.Requests()); n != 1 {
		t.Errorf("the service was asked %d times, want once", n)
	}
}

func TestReportsByHand(t *testing.T) {
	s := share(t, fake.Options{}, reportSettings)
	ctx := context.Background()
	s.following()
	if _, err := s.watch.Report(ctx, api.AddrRequest{Addr: "127.0.0.1", Categories: []int{18}}); err == nil {
		t.Error("this machine was reported")
	}
	if _, err := s.Allow(ctx, api.AllowRequest{Prefix: "1.2.3.0/24", By: "root"}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.watch.Report(ctx, api.AddrRequest{Addr: "1.2.3.4", Categories: []int{18}}); err == nil || !strings.Contains(err.Error(), "allowed") {
		t.Errorf("an allowed address: %v", err)
	}
	if _, err := s.watch.Report(ctx, api.AddrRequest{Addr: "1.2.4.4", Categories: []int{99}}); err == nil {
		t.Error("a category that there is not was taken")
	}
	if _, err := s.watch.Report(ctx, api.AddrRequest{Addr: "1.2.4.4", Categories: []int{18}, By: "canaryuser"}); err != nil {
		t.Fatal(err)
	}
	s.await("it is reported", func() bool { return s.reports().Sent == 1 })
	c, err := s.watch.Forget(ctx, api.AddrRequest{Addr: "1.2.4.4"})
	if err != nil || !s.service.Reports()[0].Cleared {
		t.Errorf("Forget() = %+v, %v", c, err)
	}
}

func TestKeyIsKeptFromEverybody(t *testing.T) {
	dir := t.TempDir()
	path, err := StoreKey(dir, canaryKey)
	if err != nil {
		t.Fatal(err)
	}
	fi, err := os.Stat(path)
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("the key's file has mode %v, %v; want 0600", fi.Mode(), err)
	}
	for _, bad := range []string{"", "  ", canaryKey + "\n" + canaryKey, "schlüssel" + canaryKey} {
		if _, err := StoreKey(dir, bad); err == nil || strings.Contains(err.Error(), canaryKey) {
			t.Errorf("StoreKey(%q): %v", bad, err)
		}
	}
	if key, err := readKey(filepath.Join(dir, watchFolder)); err != nil || strings.Contains(fmt.Sprintf("%v %+v %#v", key, key, key), canaryKey) {
		t.Errorf("readKey() shows %v, %v", key, err)
	}
	handed := t.TempDir()
	t.Setenv("CREDENTIALS_DIRECTORY", handed)
	if err := os.WriteFile(filepath.Join(handed, credential), []byte("two words"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readKey(filepath.Join(dir, watchFolder)); err == nil {
		t.Error("the handed key does not come first")
	}
	if err := os.WriteFile(filepath.Join(handed, credential), []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readKey(filepath.Join(dir, watchFolder)); err != nil {
		t.Errorf("an empty handed key hides the stored one: %v", err)
	}
	if _, err := ForgetKey(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("the key is still there")
	}
}

// What the guard decides while reports are off is nobody's business, also when they are on again within the day.
func TestNothingOfTheTimeOffIsReported(t *testing.T) {
	s := share(t, fake.Options{}, reportSettings)
	s.following()
	s.fails(5, "1.2.3.4", "canaryuser")
	s.await("the first is reported", func() bool { return s.reports().Sent == 1 })

	s.configure("")
	s.reloaded()
	s.await("reports are off", func() bool {
		r, err := s.watch.Reputation(context.Background())
		return err == nil && !r.Reports.Enabled
	})
	s.fails(5, "1.2.3.5", "canaryuser")
	s.banned("1.2.3.5")
	s.again()
	s.fails(5, "1.2.3.6", "canaryuser")
	s.banned("1.2.3.6")

	// The log tells seconds: the next one begins with reports on.
	off := time.Now().Unix()
	s.until("the second is over", func() bool { return time.Now().Unix() > off+1 })
	s.configure(strings.ReplaceAll(reportSettings, "%s", s.url))
	s.reloaded()
	s.await("reports are on", func() bool {
		r, err := s.watch.Reputation(context.Background())
		return err == nil && r.Reports.Enabled
	})
	s.again() // since when is known over a restart
	s.fails(5, "1.2.3.7", "canaryuser")
	s.await("the last is reported", func() bool { return len(s.service.Reports()) == 2 })
	if last := s.service.Reports()[1]; last.Addr != netip.MustParseAddr("1.2.3.7") {
		t.Errorf("%s was reported", last.Addr)
	}
	if st := s.reports(); st.LeftOut["taken while reports were off"] != 2 {
		t.Errorf("what became of the bans: %+v", st)
	}
}

// Whoever wants something taken back need not have a watch process run.
func TestForgetAlone(t *testing.T) {
	s := share(t, fake.Options{}, reportSettings)
	ctx := context.Background()
	s.following()
	s.fails(5, "1.2.3.4", "canaryuser")
	s.await("it is reported", func() bool { return s.reports().Sent == 1 })
	o := WatchOptions{Version: "test", Log: slog.New(slog.DiscardHandler)}
	var err error
	if o.Config, err = config.Load(s.conf); err != nil {
		t.Fatal(err)
	}
	addr := netip.MustParseAddr("1.2.3.4")
	if _, err := forgetAlone(ctx, o, addr); !errors.Is(err, errInUse) && (err == nil || !strings.Contains(err.Error(), "another watch process")) {
		t.Errorf("beside a watch process: %v", err)
	}
	s.halt()

	// Another one waits: it is dropped with reports switched off, too.
	w, leave, err := newWatcher(o)
	if err != nil {
		t.Fatal(err)
	}
	n, err := w.newSession(ctx, o.Config)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	waits := report.Decision{N: n.reporter.Cursor() + 1, Jail: "sshd", Prefix: netip.MustParsePrefix("1.2.3.9/32"), Failures: 5, At: now, First: now, Last: now}
	if err := n.reporter.Take(ctx, []report.Decision{waits}, false); err != nil || n.reporter.Stats().Queued != 1 {
		t.Fatalf("Take() = %v, %+v", err, n.reporter.Stats())
	}
	leave()
	o.Config.Report.Enabled = false
	if c, err := forgetAlone(ctx, o, netip.MustParseAddr("1.2.3.9")); err != nil || !strings.Contains(c.Text, "one that waited is not sent") {
		t.Errorf("one that waits: %+v, %v", c, err)
	}
	c, err := forgetAlone(ctx, o, addr)
	if err != nil || !s.service.Reports()[0].Cleared || !strings.HasPrefix(c.Text, "1 report at 127.0.0.1") {
		t.Errorf("forgetAlone() = %+v, %v", c, err)
	}
}
