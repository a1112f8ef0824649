package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"tocsin/internal/api"
	"tocsin/internal/config"
)

// world is a guard with real files, a real store and a real socket. Its firewall is the one that only remembers: packets
// are the end-to-end tests' matter.
type world struct {
	t    *testing.T
	dir  string
	log  string
	conf string
	*api.Client

	stop   func()
	said   *lockedBuffer
	reload chan os.Signal
	pid    int // of the last line's sshd
}

type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newWorld(t *testing.T, settings string) *world {
	t.Helper()
	dir, err := os.MkdirTemp("", "guard") // t.TempDir is too long for a socket's name
	if err != nil {
		t.Fatal(err)
	}
	w := &world{
		t: t, dir: dir, log: filepath.Join(dir, "auth.log"), conf: filepath.Join(dir, "tocsin.toml"),
		Client: api.NewClient(filepath.Join(dir, "guard.sock")), pid: 1000,
	}
	w.configure(settings)
	w.write("")
	t.Cleanup(func() {
		w.end()
		os.RemoveAll(dir)
	})
	return w
}

func (w *world) configure(settings string) {
	w.t.Helper()
	text := fmt.Sprintf("state = %q\nsocket = %q\n[guard]\nobserve = true\n[[jail]]\nname = \"sshd\"\nfilter = \"sshd\"\nsources = [\"file:%s\"]\nports = [22, 2200]\n%s",
		w.dir, filepath.Join(w.dir, "guard.sock"), w.log, settings)
	if err := os.WriteFile(w.conf, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// start runs a guard and returns when it answers.
func (w *world) start() {
	w.t.Helper()
	c, err := config.Load(w.conf)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	w.said = &lockedBuffer{}
	w.reload = make(chan os.Signal)
	go func() {
		done <- Run(ctx, Options{
			Config: c, Path: w.conf, Load: func() (*config.Config, string, error) { c, err := config.Load(w.conf); return c, w.conf, err },
			Version: "test", Say: w.said, Log: slog.New(slog.NewTextHandler(w.said, nil)),
		}, w.reload)
	}()
	w.stop = func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("Run() = %v", err)
		}
		if w.t.Failed() {
			w.t.Logf("the guard said:\n%s", w.said)
		}
	}
	w.until("the guard answers", func() bool {
		select {
		case err := <-done:
			w.t.Fatalf("Run() = %v\n%s", err, w.said)
		default:
		}
		s, err := w.Status(context.Background())
		return err == nil && len(s.Sources) > 0 && s.Sources[0].CaughtUp
	})
}

func (w *world) end() {
	if w.stop != nil {
		w.stop()
		w.stop = nil
	}
}

func (w *world) again() {
	w.t.Helper()
	w.end()
	w.start()
}

func (w *world) until(what string, f func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(time.Minute); !f(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("waited in vain: %s\nthe guard said:\n%s", what, w.said)
		}
	}
}

func (w *world) write(text string) {
	w.t.Helper()
	f, err := os.OpenFile(w.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		w.t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.WriteString(f, text); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) line(at time.Time, message string) {
	w.t.Helper()
	w.pid++
	w.write(fmt.Sprintf("%s web1 sshd[%d]: %s\n", at.Format("2006-01-02T15:04:05.000000-07:00"), w.pid, message))
}

func (w *world) fails(n int, addr, user string) {
	w.t.Helper()
	for range n {
		w.line(time.Now(), fmt.Sprintf("Failed password for %s from %s port %d ssh2", user, addr, 4000+w.pid%1000))
	}
}

func (w *world) logsIn(addr, user string) {
	w.t.Helper()
	w.line(time.Now(), fmt.Sprintf("Accepted password for %s from %s port %d ssh2", user, addr, 4000+w.pid%1000))
}

func (w *world) why(addr string) api.Why {
	w.t.Helper()
	y, err := w.Why(context.Background(), netip.MustParseAddr(addr))
	if err != nil {
		w.t.Fatal(err)
	}
	return y
}

// counted waits until the jail has counted n failures of the address.
func (w *world) counted(addr string, n int) {
	w.t.Helper()
	w.until(fmt.Sprintf("%d failures of %s are counted", n, addr), func() bool {
		y := w.why(addr)
		return len(y.Standing) == 1 && y.Standing[0].Failures == n
	})
}

func (w *world) banned(addr string) {
	w.t.Helper()
	w.until(addr+" is banned", func() bool { return w.why(addr).Banned })
}

// settled returns when everything that was written before has been decided: a failure of another address, written last,
// is counted.
func (w *world) settled() {
	w.t.Helper()
	addr := fmt.Sprintf("198.18.4.%d", w.pid%256)
	w.fails(1, addr, "last")
	w.until("what was written is read", func() bool { return w.why(addr).Today > 0 })
}

const attacker = "198.18.2.7"

func TestFiveFailuresBan(t *testing.T) {
	w := newWorld(t, "")
	w.start()
	w.fails(4, attacker, "root")
	w.counted(attacker, 4)
	if y := w.why(attacker); y.Banned || y.Standing[0].More != 1 || len(y.Standing[0].Evidence) != 4 {
		t.Errorf("after four failures: banned %v, %d more would ban, %d lines", y.Banned, y.Standing[0].More, len(y.Standing[0].Evidence))
	}
	w.fails(1, attacker, "ad\x1bmin")
	w.banned(attacker)
	y := w.why(attacker)
	b := y.Bans[0]
	if got := b.Until.Sub(b.At); got != 15*time.Minute {
		t.Errorf("the ban lasts %v, want 15m", got)
	}
	if len(b.Evidence) != 5 || b.Failures != 5 || b.Jail != "sshd" || fmt.Sprint(b.Ports) != "[22 2200]" {
		t.Errorf("ban = %+v", b)
	}
	if got := fmt.Sprint(y.Users); got != `[ad\x1bmin root]` {
		t.Errorf("users tried = %s", got)
	}
	if last := b.Evidence[4].Text; strings.Contains(last, "\x1b") || !strings.Contains(last, `ad\x1bmin`) {
		t.Errorf("last line of the evidence = %q, want the escape character escaped", last)
	}
	s, err := w.Status(context.Background())
	if err != nil || s.BansNow != 1 || s.Mode != "observing" || s.Jails[0].Failures != 5 {
		t.Errorf("Status() = %+v, %v", s, err)
	}
}

func TestRestart(t *testing.T) {
	w := newWorld(t, "")
	w.start()
	w.fails(4, attacker, "root")
	w.fails(5, "198.18.2.8", "root")
	w.banned("198.18.2.8")
	w.counted(attacker, 4)
	w.again()
	w.counted(attacker, 4)
	w.fails(1, attacker, "root")
	w.banned(attacker)
	w.again()
	for _, addr := range []string{attacker, "198.18.2.8"} {
		if y := w.why(addr); len(y.Bans) != 1 || y.FormerAll != 0 {
			t.Errorf("after two restarts %s has %d bans and %d former ones, want the one it had", addr, len(y.Bans), y.FormerAll)
		}
	}
}

// What was written while no guard was running is decided at the start, each line at its own time.
func TestWrittenMeanwhile(t *testing.T) {
	w := newWorld(t, "bantime = \"1h\"\n")
	w.start()
	w.settled()
	w.end()
	past := time.Now().Add(-30 * time.Minute)
	for i := range 5 {
		w.line(past.Add(time.Duration(i)*time.Second), "Failed password for root from "+attacker+" port 4711 ssh2")
	}
	w.start()
	w.banned(attacker)
	if b := w.why(attacker).Bans[0]; time.Until(*b.Until) > 31*time.Minute {
		t.Errorf("the ban of half an hour ago ends in %v, want in half an hour", time.Until(*b.Until))
	}
}

// A clock set back in the log must not make bans that are over before they begin.
func TestForgedDate(t *testing.T) {
	for _, off := range []time.Duration{-3 * time.Hour, 3 * time.Hour} {
		w := newWorld(t, "")
		w.start()
		w.settled()
		for range 5 {
			w.line(time.Now().Add(off), "Failed password for root from "+attacker+" port 4711 ssh2")
		}
		w.banned(attacker)
		if b := w.why(attacker).Bans[0]; time.Since(b.At) > time.Minute || time.Until(b.At) > time.Minute {
			t.Errorf("lines %v off make a ban at %v, want now", off, b.At)
		}
		w.end()
	}
}

func TestUnbanStaysUnbanned(t *testing.T) {
	w := newWorld(t, "")
	w.start()
	w.fails(5, attacker, "root")
	w.banned(attacker)
	c, err := w.Unban(context.Background(), api.UnbanRequest{Prefix: attacker, By: "marie"})
	if err != nil || len(c.Changed) != 1 || !strings.Contains(c.Undo, "tocsin ban "+attacker) {
		t.Fatalf("Unban() = %+v, %v", c, err)
	}
	check := func(when string) {
		t.Helper()
		if y := w.why(attacker); y.Banned || y.FormerAll != 1 || y.Former[0].EndedBy != "marie" {
			t.Errorf("%s: %+v", when, y)
		}
	}
	check("after the unban")
	w.again()
	w.settled()
	check("after a restart")
	w.fails(4, attacker, "root")
	w.counted(attacker, 4)
	w.fails(1, attacker, "root")
	w.banned(attacker)
}

func TestPatienceAndForgiveness(t *testing.T) {
	w := newWorld(t, "")
	w.start()
	const marie, eve = "198.18.3.1", "198.18.3.2"
	w.fails(3, marie, "marie")
	w.counted(marie, 3)
	w.logsIn(marie, "marie")
	w.until("the login forgives", func() bool { return len(w.why(marie).Standing) == 0 })
	w.fails(14, marie, "marie")
	w.counted(marie, 14)
	if y := w.why(marie); y.Banned || y.Standing[0].Patience == "" || len(y.Logins) != 1 {
		t.Errorf("14 failures of a known address: %+v", y)
	}
	w.fails(1, marie, "marie")
	w.banned(marie)

	w.fails(4, eve, "root")
	w.counted(eve, 4)
	w.logsIn(eve, "eve")
	w.settled()
	if y := w.why(eve); y.Standing[0].Failures != 4 {
		t.Errorf("eve's login wiped out what was tried on root: %d failures left", y.Standing[0].Failures)
	}
	w.again()
	w.counted(eve, 4)
	if y := w.why(eve); y.Standing[0].Patience == "" {
		t.Error("who logged in before a restart is not known after it")
	}
}

func TestAllow(t *testing.T) {
	w := newWorld(t, "allow = [\"198.18.3.0/24\"]\n")
	w.start()
	ctx := context.Background()
	w.fails(6, "198.18.3.9", "root")
	w.fails(5, attacker, "root")
	w.banned(attacker)
	if y := w.why("198.18.3.9"); y.Banned || y.Allowed == nil || y.Allowed.Jail != "sshd" {
		t.Errorf("an address that the jail allows: %+v", y)
	}
	c, err := w.Allow(ctx, api.AllowRequest{Prefix: attacker, Seconds: 3600, Note: "Marie", By: "root"})
	if err != nil || !strings.Contains(c.Text, "its ban is lifted") {
		t.Fatalf("Allow() = %+v, %v", c, err)
	}
	w.fails(6, attacker, "root")
	w.settled()
	if y := w.why(attacker); y.Banned || y.Allowed == nil || y.Allowed.Note != "Marie" {
		t.Errorf("an allowed address: %+v", y)
	}
	if _, err := w.Ban(ctx, api.BanRequest{Prefix: attacker}); exitOf(err) != api.ExitFindings {
		t.Errorf("ban of an allowed address = %v, want a refusal", err)
	}
	w.again()
	list, err := w.Allowed(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var origins []string
	for _, a := range list.Allowed {
		origins = append(origins, a.Origin)
	}
	for _, want := range []string{"operator", "configuration", "loopback"} {
		if !strings.Contains(strings.Join(origins, " "), want) {
			t.Errorf("allow list has origins %v, want %s among them", origins, want)
		}
	}
	if c, err := w.Allow(ctx, api.AllowRequest{Prefix: attacker, Remove: true}); err != nil || len(c.Changed) != 1 {
		t.Errorf("Allow(remove) = %+v, %v", c, err)
	}
	if _, err := w.Allow(ctx, api.AllowRequest{Prefix: "127.0.0.1", Remove: true}); exitOf(err) != api.ExitFindings {
		t.Errorf("taking loopback off the allow list = %v, want a refusal", err)
	}
	w.fails(5, attacker, "root")
	w.banned(attacker)
}

func exitOf(err error) int {
	var e *api.Error
	if errors.As(err, &e) {
		return e.Exit
	}
	return 0
}

func TestByHand(t *testing.T) {
	w := newWorld(t, "")
	w.start()
	ctx := context.Background()
	for _, tt := range []struct {
		name string
		r    api.BanRequest
		want int
	}{
		{"an address", api.BanRequest{Prefix: "198.18.2.1", Seconds: 60, By: "root", Reason: "mail flood"}, 0},
		{"without end", api.BanRequest{Prefix: "198.18.2.2"}, 0},
		{"on a jail's ports", api.BanRequest{Prefix: "198.18.2.3", Jail: "sshd", Seconds: 60}, 0},
		{"the widest prefix", api.BanRequest{Prefix: "100.0.0.0/8", Seconds: 60}, 0},
		{"too wide", api.BanRequest{Prefix: "100.0.0.0/7"}, api.ExitFindings},
		{"the widest IPv6 prefix", api.BanRequest{Prefix: "2400::/19", Seconds: 60}, 0},
		{"too wide IPv6", api.BanRequest{Prefix: "2400::/18"}, api.ExitFindings},
		{"loopback", api.BanRequest{Prefix: "127.0.0.1"}, api.ExitFindings},
		{"no address", api.BanRequest{Prefix: "example.org"}, api.ExitUsage},
		{"no jail", api.BanRequest{Prefix: "198.18.2.4", Jail: "nosuch"}, api.ExitUsage},
	} {
		if _, err := w.Ban(ctx, tt.r); exitOf(err) != tt.want {
			t.Errorf("%s: Ban(%+v) = %v (exit %d), want exit %d", tt.name, tt.r, err, exitOf(err), tt.want)
		}
	}
	list, err := w.Bans(ctx, api.BansQuery{})
	if err != nil || len(list.Bans) != 5 {
		t.Fatalf("Bans() = %d bans, %v; want 5", len(list.Bans), err)
	}
	tally, err := w.Tally(ctx, true)
	active, of := 0, 0
	for _, c := range tally.Counts {
		active += c.Active
	}
	for range tally.Addrs.All {
		of++
	}
	if err != nil || active != 5 || of != 5 {
		t.Errorf("Tally() counts %d bans of %d addresses, %v; want 5", active, of, err)
	}
	if y := w.why("198.18.2.2"); !y.Banned || y.Bans[0].Until != nil {
		t.Errorf("a ban without end: %+v", y.Bans)
	}
	if y := w.why("100.64.3.77"); !y.Banned {
		t.Error("an address inside a banned prefix is not banned")
	}
	if _, err := w.Unban(ctx, api.UnbanRequest{Prefix: "198.18.2.3", Jail: "operator"}); err != nil || !w.why("198.18.2.3").Banned {
		t.Errorf("an unban of another jail lifted sshd's ban (%v)", err)
	}
	if c, err := w.Unban(ctx, api.UnbanRequest{All: true}); err != nil || len(c.Changed) != 5 {
		t.Errorf("Unban(all) = %+v, %v", c, err)
	}
	if c, err := w.Unban(ctx, api.UnbanRequest{Prefix: "198.18.2.3"}); err != nil || len(c.Changed) != 0 {
		t.Errorf("Unban of nobody = %+v, %v", c, err)
	}
}

func TestReload(t *testing.T) {
	w := newWorld(t, "")
	w.start()
	ctx := context.Background()
	w.fails(3, attacker, "root")
	w.counted(attacker, 3)

	w.configure("maxretry = \"many\"\n")
	if _, err := w.Reload(ctx); exitOf(err) != api.ExitFindings || !strings.Contains(err.Error(), "tocsin.toml:") {
		t.Errorf("reload of a bad file = %v, want its mistakes with their places", err)
	}
	if s, err := w.Status(ctx); err != nil || !strings.Contains(fmt.Sprint(s.Warnings), "TOC-CFG-001") {
		t.Errorf("warnings after a bad reload = %+v, %v", s.Warnings, err)
	}
	w.counted(attacker, 3)

	w.configure("[retention]\nbans = \"10d\"\n")
	if _, err := w.Reload(ctx); err != nil {
		t.Fatalf("Reload() = %v", err)
	}
	w.counted(attacker, 3) // the jail is the same and keeps its count

	w.configure("maxretry = 4\n")
	w.reload <- os.Interrupt
	w.until("the new limit holds", func() bool {
		s, err := w.Status(ctx)
		return err == nil && s.Jails[0].MaxRetry == 4 && !strings.Contains(fmt.Sprint(s.Warnings), "TOC-CFG-001")
	})
	w.counted(attacker, 3) // the jail is another and has read its log again
	w.fails(1, attacker, "root")
	w.banned(attacker)

	w.configure("")
	if err := os.WriteFile(w.conf, []byte("state = \"/nowhere\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Reload(ctx); err == nil {
		t.Error("the state folder may change while the guard runs")
	}
}

func TestExit(t *testing.T) {
	w := newWorld(t, "")
	ctx := context.Background()
	if err := writeOff(filepath.Join(w.dir, offFile), time.Now().Add(time.Hour).UTC().Format(time.RFC3339)); err != nil {
		t.Fatal(err)
	}
	w.start()
	if s, err := w.Status(ctx); err != nil || s.Mode != "off" || s.OffUntil == nil {
		t.Errorf("Status() with the exit open = %+v, %v", s, err)
	}
	w.fails(5, attacker, "root")
	w.banned(attacker)
	if was, err := CloseExit(w.dir); err != nil || !was {
		t.Errorf("CloseExit() = %v, %v", was, err)
	}
	if c, err := w.Off(ctx, api.OffRequest{On: true}); err != nil || !strings.HasPrefix(c.Text, "on, but the guard only observes") {
		t.Errorf("Off(on) = %+v, %v", c, err)
	}
	if was, err := CloseExit(w.dir); err != nil || was {
		t.Errorf("CloseExit() of a closed exit = %v, %v", was, err)
	}
}

func TestDoctorAndMetrics(t *testing.T) {
	w := newWorld(t, "")
	w.start()
	ctx := context.Background()
	w.fails(5, "127.0.0.1", "root")
	w.settled()
	d, err := w.Doctor(ctx)
	if err != nil {
		t.Fatal(err)
	}
	codes := map[string]string{}
	for _, f := range d.Findings {
		codes[f.Code] = f.Severity
	}
	for code, severity := range map[string]string{"TOC-FW-001": "warning", "TOC-NAT-001": "warning", "TOC-SRC-002": "note"} {
		if codes[code] != severity {
			t.Errorf("finding %s has severity %q, want %q; all: %v", code, codes[code], severity, codes)
		}
	}
	var page strings.Builder
	if err := w.Metrics(ctx, &page); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"tocsin_enforcing 0\n", `tocsin_spared_failures_total{jail="sshd"} 5`, `tocsin_failures_total{jail="sshd"} 1`, `tocsin_info{version="test"} 1`} {
		if !strings.Contains(page.String(), want) {
			t.Errorf("metrics lack %q:\n%s", want, page.String())
		}
	}
}

func TestOneGuardAState(t *testing.T) {
	w := newWorld(t, "")
	w.start()
	c, err := config.Load(w.conf)
	if err != nil {
		t.Fatal(err)
	}
	err = Run(context.Background(), Options{Config: c, Say: io.Discard, Log: slog.New(slog.DiscardHandler)}, nil)
	if err == nil || !strings.Contains(err.Error(), "another guard") {
		t.Errorf("a second guard on the same state = %v", err)
	}
}

// Every mistake that only the rooms can see is reported too, with its place.
func TestCheckMistakes(t *testing.T) {
	c, err := config.Parse("t.toml", []byte(`[[jail]]
name = "a"
filter = "nosuch"
ports = [1]
sources = ["file:/x"]
[[jail]]
name = "b"
filter = "sshd"
sources = ["file:relative", "pigeon:1"]
[[jail]]
name = "c"
filter = "vsftpd"
`))
	if err != nil {
		t.Fatal(err)
	}
	_, err = Check(context.Background(), c)
	var mistakes config.Errors
	if !errors.As(err, &mistakes) {
		t.Fatalf("Check() = %v, want mistakes", err)
	}
	var places []string
	for _, m := range mistakes {
		places = append(places, fmt.Sprint(m.Pos))
	}
	if got, want := strings.Join(places, " "), "t.toml:3:10 t.toml:9:12 t.toml:9:29 t.toml:11:8"; got != want {
		t.Errorf("mistakes at %s, want %s:\n%v", got, want, err)
	}
}

// A ban of many addresses that would hold somebody of the allow list becomes one of the address that failed.
func TestNeighboursOfTheAllowed(t *testing.T) {
	w := newWorld(t, "")
	conf, err := os.ReadFile(w.conf)
	if err != nil {
		t.Fatal(err)
	}
	conf = []byte(strings.Replace(string(conf), "[guard]", "[guard]\nallow = [\"2001:db8:1:1::1\"]", 1))
	if err := os.WriteFile(w.conf, conf, 0o600); err != nil {
		t.Fatal(err)
	}
	w.start()
	w.fails(5, "2001:db8:1:1::bad", "root")
	w.fails(5, "2001:db8:1:2::bad", "root")
	w.banned("2001:db8:1:1::bad")
	w.banned("2001:db8:1:2::bad")
	for addr, want := range map[string]bool{"2001:db8:1:1::2": false, "2001:db8:1:2::2": true} {
		if got := w.why(addr).Banned; got != want {
			t.Errorf("neighbour %s is banned: %v, want %v", addr, got, want)
		}
	}
}

// What the store cannot take within its time is banned all the same, and written later.
func TestStoreOnFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount a small disk")
	}
	w := newWorld(t, "")
	if err := unix.Mount("tmpfs", w.dir, "tmpfs", 0, "size=16m"); err != nil {
		t.Skipf("cannot mount a small disk: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(w.dir, unix.MNT_DETACH) })
	w.configure("")
	w.log = filepath.Join(t.TempDir(), "auth.log") // the log lies on another disk
	w.configure("")
	w.write("")
	w.start()
	fill := filepath.Join(w.dir, "fill")
	f, err := os.Create(fill)
	if err != nil {
		t.Fatal(err)
	}
	for buf := make([]byte, 4096); err == nil; _, err = f.Write(buf) {
	}
	f.Close()
	for i := range 200 {
		w.fails(5, fmt.Sprintf("198.18.5.%d", i), strings.Repeat("u", 400))
	}
	w.banned("198.18.5.199")
	w.until("the trouble is told", func() bool {
		d, err := w.Doctor(context.Background())
		return err == nil && strings.Contains(fmt.Sprint(d.Findings), "TOC-STO-001")
	})
	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}
	w.until("everything is written when there is room", func() bool {
		d, err := w.Doctor(context.Background())
		return err == nil && !strings.Contains(fmt.Sprint(d.Findings), "TOC-STO-001")
	})
	w.again()
	if s, err := w.Status(context.Background()); err != nil || s.BansNow != 200 {
		t.Errorf("%d bans after a restart (%v), want 200", s.BansNow, err)
	}
}

// The clockwork of a running guard: what ends, ends without being asked.
func TestEndings(t *testing.T) {
	w := newWorld(t, "bantime = \"5s\"\n") // long enough to be seen on a busy machine, as is the exit below
	w.start()
	ctx := context.Background()
	w.fails(5, attacker, "root")
	w.banned(attacker)
	if _, err := w.Allow(ctx, api.AllowRequest{Prefix: "198.18.3.3", Seconds: 0.5}); err != nil {
		t.Fatal(err)
	}
	if err := writeOff(filepath.Join(w.dir, offFile), time.Now().Add(6*time.Second).UTC().Format(time.RFC3339)); err != nil {
		t.Fatal(err)
	}
	w.until("the exit is noticed", func() bool { return strings.Contains(w.said.String(), "the firewall is not touched") })
	w.until("the exit closes by itself", func() bool { return strings.Contains(w.said.String(), "on again") })
	w.until("the allowance ends", func() bool { return w.why("198.18.3.3").Allowed == nil })
	w.until("the ban ends", func() bool { return strings.Contains(w.said.String(), "ban ended") && !w.why(attacker).Banned })
}

// A guard that is given nothing guards sshd; its sources and ports are found on the machine.
func TestBuiltIn(t *testing.T) {
	w := newWorld(t, "")
	c := config.Default()
	c.State, c.Socket = w.dir, filepath.Join(w.dir, "guard.sock")
	s, err := build(context.Background(), c, true)
	if err != nil {
		t.Fatal(err)
	}
	if one := s.cells[0]; len(s.cells) != 1 || one.conf.Name != "sshd" || len(one.sources) == 0 || len(one.options.Ports) == 0 || len(one.found) == 0 {
		t.Errorf("the built-in configuration makes %+v", s.cells)
	}
}

func TestBridges(t *testing.T) {
	dir := t.TempDir()
	for _, p := range []string{"br0/bridge", "br0/brif/veth1", "br1/bridge", "br1/brif", "eth0"} {
		if err := os.MkdirAll(filepath.Join(dir, p), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var f findings
	findBridges(&f, dir)
	if len(f) != 1 || !strings.Contains(f[0].Text, "br0") {
		t.Errorf("findings = %+v, want one about br0", f)
	}
}

// A reload must not count again what a jail that goes on has counted.
func TestReloadCountsNothingTwice(t *testing.T) {
	w := newWorld(t, "")
	w.start()
	ctx := context.Background()
	for n := 1; n <= 4; n++ {
		w.fails(1, attacker, "root")
		w.counted(attacker, n)
		if _, err := w.Reload(ctx); err != nil {
			t.Fatal(err)
		}
	}
	w.settled()
	if y := w.why(attacker); y.Banned || y.Standing[0].Failures != 4 {
		t.Errorf("four failures and four reloads: banned %v, %d counted", y.Banned, y.Standing[0].Failures)
	}
}

// Who gives up waiting for a reload must not leave a guard without readers.
func TestReloadGivenUp(t *testing.T) {
	w := newWorld(t, "")
	w.start()
	for d := time.Millisecond; d < 40*time.Millisecond; d += 3 * time.Millisecond {
		ctx, cancel := context.WithTimeout(context.Background(), d)
		_, _ = w.Reload(ctx) // whether it was in time is all the same
		cancel()
	}
	w.fails(5, attacker, "root")
	w.banned(attacker)
}

func TestUnbannedCanBeBannedAgain(t *testing.T) {
	w := newWorld(t, "subnet_bans = 2\nbantime = \"forever\"\n")
	w.start()
	ctx := context.Background()
	for _, r := range []api.UnbanRequest{{All: true}, {Prefix: "198.18.2.8"}, {Prefix: "198.18.2.0/24"}} {
		w.fails(5, attacker, "root")
		w.fails(5, "198.18.2.8", "root")
		w.until("the /24 is banned", func() bool { return w.why("198.18.2.99").Banned })
		if c, err := w.Unban(ctx, r); err != nil || len(c.Changed) == 0 {
			t.Fatalf("Unban(%+v) = %+v, %v", r, c, err)
		}
		if _, err := w.Unban(ctx, api.UnbanRequest{All: true}); err != nil {
			t.Fatal(err)
		}
		w.fails(5, "198.18.2.50", "root")
		w.banned("198.18.2.50")
		if _, err := w.Unban(ctx, api.UnbanRequest{All: true}); err != nil {
			t.Fatal(err)
		}
	}
}

// A ban that was narrowed says nothing about the neighbours: each is counted and banned for itself.
func TestNarrowedLeavesNoHole(t *testing.T) {
	w := newWorld(t, "")
	w.start()
	if _, err := w.Allow(context.Background(), api.AllowRequest{Prefix: "2001:db8:1:1::1"}); err != nil {
		t.Fatal(err)
	}
	for _, addr := range []string{"2001:db8:1:1::a", "2001:db8:1:1::b"} {
		w.fails(5, addr, "root")
		w.banned(addr)
	}
}

// A log that is born while no guard runs is read by the next one.
func TestLogBornMeanwhile(t *testing.T) {
	w := newWorld(t, "")
	if err := os.Remove(w.log); err != nil {
		t.Fatal(err)
	}
	w.start()
	w.end()
	w.fails(5, attacker, "root")
	w.start()
	w.banned(attacker)
}

// The guard's own word about its exit counts: on a state folder that takes no file it keeps the exit open in memory.
func TestExitHeld(t *testing.T) {
	w := newWorld(t, "")
	w.start()
	ctx := context.Background()
	if err := os.Mkdir(filepath.Join(w.dir, offFile+".new"), 0o700); err != nil { // the file cannot be written beside it
		t.Fatal(err)
	}
	if c, err := w.Off(ctx, api.OffRequest{}); err != nil || !strings.HasPrefix(c.Text, "off") {
		t.Fatalf("Off() = %+v, %v", c, err)
	}
	if s, err := w.Status(ctx); err != nil || s.Mode != "off" {
		t.Errorf("mode %q (%v), want off", s.Mode, err)
	}
	if c, err := w.Off(ctx, api.OffRequest{On: true}); err != nil || !strings.HasPrefix(c.Text, "on") {
		t.Errorf("Off(on) = %+v, %v", c, err)
	}
}

func TestBadDurations(t *testing.T) {
	w := newWorld(t, "")
	w.start()
	for _, s := range []float64{-1, 1e300, 101 * 365.25 * 24 * 3600} {
		if _, err := w.Ban(context.Background(), api.BanRequest{Prefix: "198.18.2.1", Seconds: s}); exitOf(err) != api.ExitUsage {
			t.Errorf("Ban for %g s = %v, want a refusal", s, err)
		}
		if _, err := w.Allow(context.Background(), api.AllowRequest{Prefix: "198.18.2.1", Seconds: s}); exitOf(err) != api.ExitUsage {
			t.Errorf("Allow for %g s = %v, want a refusal", s, err)
		}
	}
}

func TestClip(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want int
	}{{strings.Repeat("a", 500), 500}, {strings.Repeat("a", 501), 500}, {strings.Repeat("é", 300), 499}} {
		if got := clip(tt.in); len(got) != tt.want || !utf8.ValidString(got) {
			t.Errorf("clip of %d bytes has %d, want %d", len(tt.in), len(got), tt.want)
		}
	}
}
