package daemon

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"tocsin"
	"tocsin/internal/api"
	"tocsin/internal/f2blog"
	"tocsin/internal/fail2ban"
	"tocsin/internal/filter"
	"tocsin/internal/jail"
)

// logging has the decider write fail2ban's log until the test ends, and returns its path.
func (d *decider) logging(level f2blog.Level) string {
	d.t.Helper()
	path := filepath.Join(d.t.TempDir(), "fail2ban.log")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = d.f2b.Run(ctx) }()
	d.t.Cleanup(func() { cancel(); <-done })
	d.in(func() { d.enforces = true; d.f2b.Use(f2blog.Target{Path: path, Level: level}) })
	return path
}

// readF2B waits until the log has n lines, and returns them without their beginnings.
func readF2B(t *testing.T, path string, n int) []string {
	t.Helper()
	head := regexp.MustCompile(`^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (fail2ban\.\w+ +)\[\d+\]: (.*)$`)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(2 * time.Millisecond) {
		text, err := os.ReadFile(path)
		lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
		if len(text) > 0 && len(lines) >= n {
			for i, line := range lines {
				m := head.FindStringSubmatch(line)
				if m == nil || len(m[1]) != 24 {
					t.Fatalf("%q is no line of fail2ban", line)
				}
				lines[i] = strings.TrimSpace(m[1]) + " " + m[2]
			}
			return lines
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %d lines: %q, %v", n, text, err)
		}
	}
}

func TestF2BLog(t *testing.T) {
	c := testCell(t, jail.Options{Name: "sshd", BanTimes: []time.Duration{time.Hour, 90 * time.Minute}, BanMemory: 24 * time.Hour, Weigh: true})
	c.ignored = []string{"192.0.2.77", "friend.example.org"}
	c.indexIgnored()
	d := newDecider(t, c)
	d.in(func() { d.friends = friends{"friend.example.org": {netip.MustParseAddr("192.0.2.78")}} })
	path := d.logging(f2blog.Info)
	var want []string
	found := func(id string) {
		want = append(want, fmt.Sprintf("fail2ban.filter INFO    [sshd] Found %s - %s", id, d.at.Format(time.DateTime)))
		d.fail(c, id, 1)
	}
	foundBad := func() {
		at := d.at.Format(time.DateTime)
		found("192.0.2.1")
		want = append(want, fmt.Sprintf("fail2ban.observer INFO    [sshd] Found 192.0.2.1, bad - %s, 1 # -> 2.0", at))
	}
	add := func(format string, args ...any) { want = append(want, fmt.Sprintf(format, args...)) }
	for range 3 {
		found("192.0.2.1")
	}
	d.in(func() {}) // what was queued together is carried out together
	add("fail2ban.actions NOTICE  [sshd] Ban 192.0.2.1")
	d.fail(c, "192.0.2.77", 1)
	add("fail2ban.filter INFO    [sshd] Ignore 192.0.2.77 by ip")
	d.fail(c, "192.0.2.78", 1)
	add("fail2ban.filter INFO    [sshd] Ignore 192.0.2.78 by dns")
	d.at = d.at.Add(8 * time.Second)
	for range 3 {
		foundBad()
	}
	add("fail2ban.actions NOTICE  [sshd] 192.0.2.1 already banned")
	d.in(func() {})
	if _, err := d.unban(context.Background(), api.UnbanRequest{Prefix: "192.0.2.1"}); err != nil {
		t.Fatal(err)
	}
	add("fail2ban.actions NOTICE  [sshd] Unban 192.0.2.1")
	d.at = time.Now()
	for range 2 {
		foundBad()
	}
	d.in(func() {})
	add("fail2ban.actions NOTICE  [sshd] Ban 192.0.2.1")
	add("fail2ban.observer NOTICE  [sshd] Increase Ban 192.0.2.1 (2 # 1h 30m -> %s)", d.at.Add(90*time.Minute-time.Second).Format(time.DateTime))
	found("bob] Ban 192.0.2.9\n2026")
	want[len(want)-1] = strings.ReplaceAll(want[len(want)-1], "bob] Ban 192.0.2.9\n2026", `"bob]\x20Ban\x20192.0.2.9\\n2026"`)
	got := readF2B(t, path, len(want))
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			t.Fatalf("line %d:\ngot  %q\nwant %q", i, got[min(i, len(got)-1):], want[min(i, len(want)-1):])
		}
	}
}

// Who only observes must not tell of bans: a fail2ban that runs beside may read the same log.
func TestF2BLogObserving(t *testing.T) {
	c := testCell(t, jail.Options{Name: "sshd"})
	d := newDecider(t, c)
	path := d.logging(f2blog.Info)
	d.in(func() { d.enforces = false })
	d.fail(c, "192.0.2.1", 3)
	d.wantBans("sshd 192.0.2.1")
	if _, err := d.unban(context.Background(), api.UnbanRequest{All: true}); err != nil {
		t.Fatal(err)
	}
	d.fail(c, "192.0.2.2", 1)
	if got := strings.Join(readF2B(t, path, 4), "\n"); strings.Contains(got, "NOTICE") {
		t.Errorf("it tells:\n%s", got)
	}
}

func TestF2BLogLevel(t *testing.T) {
	c := testCell(t, jail.Options{Name: "sshd"})
	d := newDecider(t, c)
	path := d.logging(f2blog.Notice)
	d.fail(c, "192.0.2.1", 3)
	if got := readF2B(t, path, 1); len(got) != 1 || got[0] != "fail2ban.actions NOTICE  [sshd] Ban 192.0.2.1" {
		t.Errorf("got %q", got)
	}
}

// The file is followed when it is moved away, removed or emptied, and opened anew when somebody asks.
func TestF2BLogRotation(t *testing.T) {
	d := newDecider(t)
	path := d.logging(f2blog.Info)
	say := func(n int) { d.f2b.Say("fail2ban.actions", f2blog.Notice, fmt.Sprintf("[sshd] Ban 192.0.2.%d", n)) }
	say(1)
	readF2B(t, path, 1)
	for i, away := range []func() error{
		func() error { return os.Rename(path, path+".1") },
		func() error { return os.Remove(path) },
		func() error { return os.Truncate(path, 0) },
		func() error { err := os.Rename(path, path+".2"); d.f2b.Reopen(); return err },
	} {
		if err := away(); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
			say(2)
			if text, _ := os.ReadFile(path); strings.Contains(string(text), "Ban 192.0.2.2") {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d: the new file stays empty", i)
			}
		}
	}
}

// A log that cannot be written is told of.
func TestF2BLogLost(t *testing.T) {
	d := newDecider(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	d.f2b.Use(f2blog.Target{Path: "/nonexistent/fail2ban.log", Level: f2blog.Info})
	d.f2b.Say(fail2ban.FromActions, f2blog.Notice, "[sshd] Ban 192.0.2.1")
	if err := d.f2b.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if _, told := d.trouble.look().parts["fail2ban's log"]; !told || d.f2b.Lost() != 1 || !strings.Contains(d.said.String(), "fail2ban's log is not whole") {
		t.Errorf("doctor is told: %t; %d lines lost; the log says %s", told, d.f2b.Lost(), d.said.String())
	}
}

// writesF2B sends fail2ban's log to a file that nobody writes until the returned function asks what is in it.
func (d *decider) writesF2B(level f2blog.Level) (said func() string) {
	path := filepath.Join(d.t.TempDir(), "fail2ban.log")
	d.f2b.Use(f2blog.Target{Path: path, Level: level})
	return func() string {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := d.f2b.Run(ctx); err != nil {
			d.t.Fatal(err)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			d.t.Fatal(err)
		}
		return string(text)
	}
}

// recidiveFilter is Debian's.
func recidiveFilter(t *testing.T) fail2ban.Filter {
	t.Helper()
	def, err := fail2ban.LoadFilter(os.DirFS("/etc/fail2ban"), "recidive", nil, "file")
	if err != nil {
		t.Skipf("Debian's fail2ban is not installed: %v", err)
	}
	return def
}

// Nobody's name makes recidive see a ban that never was.
func TestF2BLogForged(t *testing.T) {
	d := newDecider(t)
	said := d.writesF2B(f2blog.Debug)
	d.in(func() { d.enforces = true })
	ids := []string{
		"x] Ban 203.0.113.1", "x\n2026-11-22 14:53:48,372 fail2ban.actions        [1]: NOTICE  [sshd] Ban 203.0.113.1",
		"[x] Ban 203.0.113.1", "x\rfail2ban.actions [1]: NOTICE [sshd] Ban 203.0.113.1", "\u2028[sshd] Ban 203.0.113.1", "x]\tBan\t203.0.113.1",
	}
	c := testCell(t, jail.Options{Name: "sshd"})
	for _, id := range ids {
		f := &tocsin.Failure{ID: id, At: time.Now()}
		d.f2bFound(c, f)
		d.f2bIgnored(c, id, "command")
		d.f2bDecided(&tocsin.Decision{Jail: "sshd", ID: id, Former: 1, At: time.Now(), Until: time.Now().Add(time.Hour)})
		d.f2bUnban("sshd", id)
	}
	d.f2bDecided(&tocsin.Decision{Jail: "sshd", ID: "192.0.2.1"})
	f, err := filter.New(recidiveFilter(t), filter.Options{Location: time.Local})
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for line := range strings.Lines(said()) {
		res := f.Line(&tocsin.Record{Source: "file:fail2ban.log", Text: []byte(strings.TrimSuffix(line, "\n"))})
		if res.Kind == filter.Failed {
			found = append(found, res.Failure.ID)
		}
	}
	if !slices.Equal(found, []string{"192.0.2.1"}) {
		t.Errorf("recidive found %q, want the one true ban", found)
	}
}

// Bans of one jail lead to a ban by recidive, through the log on the disk.
func TestRecidive(t *testing.T) {
	dir := t.TempDir()
	own, auth := filepath.Join(dir, "fail2ban.log"), filepath.Join(dir, "auth.log")
	sshd := testCell(t, jail.Options{Name: "sshd", BanTime: time.Second})
	sshd.def = fail2ban.Filter{Name: "sshd", Failregex: []fail2ban.Regex{{Text: `bad <ADDR>$`}}}
	recidive := testCell(t, jail.Options{Name: "recidive", MaxRetry: 2})
	recidive.def = recidiveFilter(t)
	sshd.program, recidive.program = compiled(t, sshd.def), compiled(t, recidive.def)
	sshd.loc, recidive.loc = time.Local, time.Local
	sshd.sources, recidive.sources = []string{"file:" + auth}, []string{"file:" + own}
	d := newDecider(t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = d.f2b.Run(ctx) }()
	defer func() { cancel(); <-done }()
	d.in(func() { d.enforces = true })
	next := &set{conf: d.o.Config, cells: []*cell{sshd, recidive}, sources: []string{"file:" + auth, "file:" + own}, f2bLog: f2blog.Target{Path: own, Level: f2blog.Info}}
	if err := d.swap(next); err != nil {
		t.Fatal(err)
	}
	defer d.stopReading()
	log, err := os.OpenFile(auth, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	attack := func() {
		for range 3 {
			fmt.Fprintf(log, "%s bad 192.0.2.1\n", time.Now().Format("2006-01-02 15:04:05.000"))
		}
	}
	attack()
	d.until("it is banned once", func() bool { return d.banned["sshd"] == 1 })
	d.in(func() {
		if recidive.tally.failures > 1 {
			t.Errorf("recidive counts %d", recidive.tally.failures)
		}
	})
	d.until("that ban ends", func() bool { return len(d.active) == 0 })
	attack()
	d.until("recidive bans it", func() bool { return d.banned["recidive"] == 1 })
	if got := d.bansNow(); !strings.Contains(got, "recidive 192.0.2.1") {
		t.Errorf("banned are %q", got)
	}
}
