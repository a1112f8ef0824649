package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tocsin"
	"tocsin/internal/api"
	"tocsin/internal/config"
	"tocsin/internal/f2blog"
	"tocsin/internal/fail2ban"
	"tocsin/internal/filter"
)

// A configuration of fail2ban in few lines: its filters and actions are those that fail2ban's users know by name.
const (
	loginFilter = `[Definition]
failregex = ^ login: bad password of <F-USER>\S+</F-USER> from <HOST>$
journalmatch = _SYSTEMD_UNIT=login.service
`
	mailAction = `[Definition]
actionban = echo "<ip>" >> /nonexistent
`
)

// etc writes a folder like /etc/fail2ban with that jail.conf, in which LOG stands for a log in the folder.
func etc(t *testing.T, jails string) (dir, log string) {
	t.Helper()
	dir = t.TempDir()
	log = filepath.Join(dir, "login.log")
	files := map[string]string{
		"jail.conf":            strings.ReplaceAll(jails, "LOG", log),
		"filter.d/login.conf":  loginFilter,
		"filter.d/broken.conf": "[Definition]\nfailregex = ^(\n",
		"action.d/mail.conf":   mailAction,
	}
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir, log
}

// built makes the set of a configuration whose [fail2ban] dir is that folder.
func built(t *testing.T, dir, settings string) (*set, error) {
	t.Helper()
	c, err := config.Parse("t.toml", []byte(fmt.Sprintf("[fail2ban]\ndir = %q\n%s", dir, settings)))
	if err != nil {
		t.Fatal(err)
	}
	return build(context.Background(), c, false)
}

func compiled(t *testing.T, def fail2ban.Filter) *filter.Program {
	t.Helper()
	p, err := filter.Compile(def)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// A reload compiles only what is new: two sets of all filters would take twice the room.
func TestReloadTakesOverFilters(t *testing.T) {
	dir, _ := etc(t, `
[same]
enabled = true
filter = login
logpath = LOG
[other]
enabled = true
filter = login
maxlines = 2
logpath = LOG
`)
	before, err := built(t, dir, "")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "jail.conf")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(string(text), "maxlines = 2", "maxlines = 3")), 0o644); err != nil {
		t.Fatal(err)
	}
	after, err := newBuilder(false, before).build(context.Background(), before.conf)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{true, false} {
		if old, c := before.cells[i], after.cells[i]; (old.program == c.program) != want {
			t.Errorf("jail %s has its program of before: %v, want %v", c.conf.Name, !want, want)
		}
	}
}

// Among them are the rows bantime-zero, own-addresses, recidive-journal, tail, journal-elsewhere, encoding, timezone, ban-memory and
// broken-jail of what differs (docs/manual/from-fail2ban.md).
func TestJailsOfFail2ban(t *testing.T) {
	dir, log := etc(t, `[DEFAULT]
enabled = true
filter = login
logpath = LOG
maxretry = 3
findtime = 5m
bantime = 1h

[plain]

[endless]
bantime = -1

[moment]
bantime = 0

[growing]
bantime.increment = true
bantime.maxtime = 3h
bantime.rndtime = 30
bantime.overalljails = true

[long]
bantime.increment = true
bantime.maxtime = 3d

[mails]
action = mail[name=x]

[ignoring]
ignoreip = 127.0.0.1/8, 10.1.2.3 host.example.org 999.9.9.9
ignoreself = false

[elsewhere]
logtimezone = UTC+0200

[paris]
logtimezone = Europe/Paris

[nowhere]
logtimezone = Middle-earth
logencoding = latin-1

[tailed]
logpath = LOG tail
  LOG.2

[journal]
backend = systemd[journalflags=1]

[again]
backend = systemd
journalmatch = _SYSTEMD_UNIT=fail2ban.service PRIORITY=5

[hand]
filter =
logpath =

[off]
enabled = false

[broken]
filter = broken

[missing]
filter = nosuch

[relative]
logpath = login.log

[namespace]
backend = systemd[namespace=other]
`)
	s, err := built(t, dir, "")
	if err != nil {
		t.Fatal(err)
	}
	cells := map[string]*cell{}
	for _, c := range s.cells {
		cells[c.conf.Name] = c
	}
	plain := cells["plain"]
	if plain == nil {
		t.Fatalf("jail plain cannot run: %+v", s.failed)
	}
	if o := plain.options; o.MaxRetry != 3 || o.FindTime != 5*time.Minute || o.BanTime != time.Hour || o.IPv6Prefix != 128 ||
		o.KnownFactor != 1 || !o.KeepOnLogin || o.Weigh || len(o.BanTimes) > 0 || o.Verdict != tocsin.Pass {
		t.Errorf("plain counts by %+v", o)
	}
	if want := []string{"file:" + log}; !slices.Equal(plain.sources, want) {
		t.Errorf("plain reads %q, want %q", plain.sources, want)
	}
	if o := cells["endless"].options; o.BanTime > 0 || cells["endless"].conf.BanTime != config.Forever {
		t.Errorf("endless bans for %v", o.BanTime)
	}
	if o := cells["moment"].options; o.BanTime != time.Second {
		t.Errorf("a bantime of 0 bans for %v, want a second: 0 is without end to a jail", o.BanTime)
	}
	if o := cells["growing"].options; !o.Weigh || !o.Overall || o.BanJitter != 30*time.Second || len(o.BanTimes) < 3 ||
		!slices.Equal(o.BanTimes[:3], []time.Duration{time.Hour, 2 * time.Hour, 3 * time.Hour}) || o.BanMemory != 33*time.Hour {
		t.Errorf("growing counts by %+v", o)
	}
	// What is remembered is at least as much as fail2ban does.
	if o := cells["plain"].options; o.BanMemory != 27*time.Hour {
		t.Errorf("plain remembers bans for %v, want dbpurgeage and three hours", o.BanMemory)
	}
	if o := cells["long"].options; o.BanMemory != 10*24*time.Hour {
		t.Errorf("long remembers bans for %v, want dbpurgeage and three times the longest", o.BanMemory)
	}
	if c := cells["mails"]; len(c.actions) != 1 || !c.acts || c.options.Verdict != tocsin.Pass {
		t.Errorf("mails: %d actions, verdict %v; want one, and pass", len(c.actions), c.options.Verdict)
	}
	if c := cells["ignoring"]; !slices.Equal(c.ignored, []string{"127.0.0.0/8", "10.1.2.3", "host.example.org"}) || !slices.Equal(c.names, []string{"host.example.org"}) {
		t.Errorf("ignoring ignores %q, of which %q are names", c.ignored, c.names)
	}
	if _, offset := time.Now().In(cells["elsewhere"].loc).Zone(); offset != 7200 {
		t.Errorf("elsewhere is %d s east, want 7200", offset)
	}
	if got := cells["paris"].loc.String(); got != "Europe/Paris" {
		t.Errorf("paris is in zone %s", got)
	}
	if got := cells["tailed"].sources; len(got) != 2 {
		t.Errorf("tailed reads %q, want two logs", got)
	}
	if got, want := cells["journal"].sources, []string{"journal:_SYSTEMD_UNIT=login.service"}; !slices.Equal(got, want) {
		t.Errorf("journal reads %q, want %q", got, want)
	}
	if c := cells["hand"]; c == nil || len(c.sources) > 0 {
		t.Errorf("hand is %+v, want a jail that reads nothing", c)
	}
	if cells["off"] != nil || !slices.Equal(s.f2b.Disabled, []string{"off"}) {
		t.Errorf("disabled are %q, want off", s.f2b.Disabled)
	}
	failed := map[string]string{}
	for _, f := range s.failed {
		failed[f.name] = strings.Join(errorsOf(f.err), "; ")
	}
	for name, want := range map[string]string{
		"broken": "filter.d/broken.conf:2: failregex", "missing": "nosuch", "relative": "no absolute path", "namespace": "only the machine's own journal",
	} {
		if !strings.Contains(failed[name], want) {
			t.Errorf("jail %s cannot run because %q, want %q in it", name, failed[name], want)
		}
	}
	if len(failed) != 4 {
		t.Errorf("%d jails cannot run, want 4: %v", len(failed), failed)
	}
	for name, want := range map[string]string{
		"ignoring ": "ignoreself", "nowhere ": "latin-1", "moment": "bantime is 0", "ignoring": "999.9.9.9", "nowhere": "Middle-earth", "tailed": "tail", "journal": "journalflags", "again": "own messages", "hand": "no filter",
	} {
		name = strings.TrimSpace(name)
		if !slices.ContainsFunc(cells[name].problems, func(p fail2ban.Problem) bool {
			return strings.Contains(p.Msg, want) && p.Instead != "" && p.Pos.Line > 0
		}) {
			t.Errorf("jail %s has the problems %+v, want one about %q", name, cells[name].problems, want)
		}
	}
}

// What [fail2ban] sets is added to fail2ban's jails, and jails of tocsin.toml stand beside them.
func TestFail2banBesideOwnJails(t *testing.T) {
	dir, log := etc(t, "[login]\nenabled = true\nlogpath = LOG\nfilter = login\n")
	s, err := built(t, dir, "ipv6_prefix = 64\nknown_factor = 3\nclear_by_login = true\n[[jail]]\nname = \"web\"\nfilter = \"nginx-auth\"\nsources = [\"file:/x\"]\n")
	if err != nil {
		t.Fatal(err)
	}
	if len(s.cells) != 2 || s.cells[0].conf.Name != "web" || s.cells[1].conf.Name != "login" {
		t.Fatalf("%d jails, want web and login", len(s.cells))
	}
	if o := s.cells[1].options; o.IPv6Prefix != 64 || o.KnownFactor != 3 || o.KeepOnLogin || o.KnownFor != 30*24*time.Hour {
		t.Errorf("login counts by %+v", o)
	}
	if want := []string{"file:/x", "file:" + log}; !slices.Equal(s.sources, want) {
		t.Errorf("sources %q, want %q", s.sources, want)
	}
	s, err = built(t, dir, "[[jail]]\nname = \"login\"\nfilter = \"nginx-auth\"\nsources = [\"file:/x\"]\n")
	if err != nil || len(s.cells) != 1 || len(s.failed) != 1 || !strings.Contains(s.failed[0].err.Error(), "another jail has this name") {
		t.Errorf("two jails of a name: %v, %+v; want fail2ban's refused", err, s.failed)
	}
}

func TestNoJailOfFail2banRuns(t *testing.T) {
	broken, _ := etc(t, "[broken]\nenabled = true\nlogpath = LOG\nfilter = nosuch\n")
	none, _ := etc(t, "[login]\nenabled = false\n")
	for dir, want := range map[string]string{broken: "jail broken cannot run: ", none: "no jail is enabled", filepath.Join(none, "absent"): "absent", t.TempDir(): "jail.conf"} {
		_, err := built(t, dir, "")
		var errs config.Errors
		if !errors.As(err, &errs) || !strings.Contains(err.Error(), want) {
			t.Errorf("build with %s: %v, want %q", dir, err, want)
		}
	}
}

func TestLogOfFail2ban(t *testing.T) {
	const conf = "[Definition]\nlogtarget = /var/log/fail2ban.log[padding=off]\nloglevel = NOTICE\n"
	tests := []struct {
		name, jails, settings string
		want                  f2blog.Target
	}{
		{"nobody reads it", "logpath = LOG", "", f2blog.Target{}},
		{"a jail reads it", "logpath = /var/log/fail2ban.log*", "", f2blog.Target{Path: "/var/log/fail2ban.log", Level: f2blog.Notice}},
		{"observing", "logpath = /var/log/fail2ban.log*", "[guard]\nobserve = true\n", f2blog.Target{}},
		{"off", "logpath = /var/log/fail2ban.log*", "log = \"off\"\n", f2blog.Target{}},
		{"elsewhere", "logpath = LOG", "log = \"/tmp/x.log\"\n", f2blog.Target{Path: "/tmp/x.log", Level: f2blog.Notice}},
	}
	for _, tt := range tests {
		dir, _ := etc(t, "[login]\nenabled = true\nfilter = login\n"+tt.jails+"\n")
		if err := os.WriteFile(filepath.Join(dir, "fail2ban.conf"), []byte(conf), 0o644); err != nil {
			t.Fatal(err)
		}
		s, err := built(t, dir, tt.settings)
		if err != nil {
			t.Fatal(err)
		}
		if s.f2bLog != tt.want {
			t.Errorf("%s: the log is %+v, want %+v", tt.name, s.f2bLog, tt.want)
		}
	}
}

// guardFail2ban runs a guard of the folder dir only; its log is read by somebody.
func guardFail2ban(t *testing.T, dir string) *world {
	t.Helper()
	w := newWorld(t, "")
	text := fmt.Sprintf("state = %q\nsocket = %q\n[guard]\nobserve = true\n[fail2ban]\ndir = %q\n", w.dir, filepath.Join(w.dir, "guard.sock"), dir)
	if err := os.WriteFile(w.conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	w.start()
	return w
}

func appendTo(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

// A jail that cannot run keeps no other from it, a log that is not there is waited for, and a reload takes the mended
// files into use.
func TestGuardOfFail2ban(t *testing.T) {
	const good = "[DEFAULT]\nenabled = true\nlogpath = LOG\nmaxretry = 2\n[login]\nfilter = login\nignoreip = 198.18.9.9\n"
	dir, log := etc(t, good+"[second]\nfilter = broken\n")
	w := guardFail2ban(t, dir)
	ctx := context.Background()
	for _, want := range []string{"fail2ban  " + dir + ": 2 jails, 0 not enabled", "jail      login reads file:" + log, "cannot    second: " + dir} {
		if !strings.Contains(w.said.String(), want) {
			t.Errorf("the guard said\n%swant %q in it", w.said, want)
		}
	}
	finds := func(code string) bool {
		d, err := w.Doctor(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(d.Findings, func(f api.Finding) bool { return f.Code == code })
	}
	if !finds("TOC-F2B-001") || !finds("TOC-SRC-001") {
		t.Error("doctor tells neither of the jail that cannot run nor of the log that is waited for")
	}

	now := time.Now().Format(time.DateTime)
	for _, addr := range []string{attacker, attacker, "198.18.9.9", "198.18.9.9"} {
		appendTo(t, log, now+" login: bad password of eve from "+addr+"\n")
	}
	w.until(attacker+" is banned", func() bool { j, err := w.Jail(ctx, "login"); return err == nil && j.BansNow == 1 && j.Spared == 2 })
	j, err := w.Jail(ctx, "login")
	if err != nil {
		t.Fatal(err)
	}
	if j.UseDNS != "warn" || j.MaxRetry != 2 || j.BanSeconds != 600 || j.TotalBanned != 1 || !slices.Equal(j.Files, []string{log}) ||
		!slices.Equal(j.IgnoreIP, []string{"198.18.9.9"}) || len(j.Failregex) != 1 || !strings.Contains(j.Failregex[0], "(?P<ip4>") {
		t.Errorf("jail login = %+v", j)
	}

	mended := strings.ReplaceAll(good+"[second]\nfilter = login\n", "LOG", log)
	if err := os.WriteFile(filepath.Join(dir, "jail.conf"), []byte(mended), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Reload(ctx); err != nil {
		t.Fatal(err)
	}
	w.until("the mended jail runs", func() bool { _, err := w.Jail(ctx, "second"); return err == nil })
	if finds("TOC-F2B-001") {
		t.Error("doctor still tells of a jail that cannot run")
	}
	if b := w.why(attacker); len(b.Bans) == 0 || b.Bans[0].Jail != "login" || b.Bans[0].Verdict != "pass" {
		t.Errorf("bans of %s after the reload: %+v", attacker, b.Bans)
	}

	// A slip of the pen in an edit leaves nothing unguarded: the jail runs on as it was, with what it counted.
	slip := strings.Replace(mended, "filter = login\nignoreip", "filter = lgoin\nignoreip", 1)
	if err := os.WriteFile(filepath.Join(dir, "jail.conf"), []byte(slip), 0o644); err != nil {
		t.Fatal(err)
	}
	appendTo(t, log, now+" login: bad password of eve from 198.18.7.7\n")
	w.until("the failure is counted", func() bool { return len(w.why("198.18.7.7").Standing) > 0 })
	c, err := w.Reload(ctx)
	if err != nil || !strings.Contains(c.Text, "jail login runs as before, what is written now cannot: "+dir) {
		t.Errorf("reload said %q, %v", c.Text, err)
	}
	if !finds("TOC-F2B-001") {
		t.Error("doctor does not tell of the jail that runs as before")
	}
	appendTo(t, log, now+" login: bad password of eve from 198.18.7.7\n")
	w.until("the second failure bans", func() bool { return w.why("198.18.7.7").Banned })
}

func TestIsLogOf(t *testing.T) {
	tests := []struct {
		name, source string
		want         bool
	}{
		{"file:/var/log/auth.log", "file:/var/log/auth.log", true},
		{"file:/var/log/auth.log.1", "file:/var/log/auth.log", true},
		{"file:/var/log/auth.log.12.gz", "file:/var/log/auth.log", true},
		{"file:/var/log/auth.log-20261122.zst", "file:/var/log/auth.log", true},
		{"file:/var/log/apache2/other.error.log.2.gz", "file:/var/log/apache2/*error.log", true},
		{"file:/var/log/auth.log.old", "file:/var/log/auth.log", false},
		{"file:/srv/auth.log", "file:/var/log/auth.log", false},
		{"stdin", "file:/var/log/auth.log", false},
		{"file:/var/log/auth.log", "journal:_COMM=sshd", false},
	}
	for _, tt := range tests {
		if got := isLogOf(tt.name, tt.source); got != tt.want {
			t.Errorf("isLogOf(%q, %q) = %v", tt.name, tt.source, got)
		}
	}
}

// A log of some jail is read by that jail; a log of nobody is read by all.
func TestReplayOfFail2ban(t *testing.T) {
	dir, log := etc(t, "[DEFAULT]\nenabled = true\nfilter = login\nmaxretry = 2\nbantime.increment = true\nbantime.overalljails = true\n[one]\nlogpath = LOG\n[other]\nlogpath = LOG.other\n[hand]\nfilter =\n[broken]\nfilter = broken\nlogpath = LOG\n")
	line := "2026-11-22 12:00:00 login: bad password of eve from 192.0.2.7\n"
	copied := filepath.Join(dir, "copied")
	for _, path := range []string{log + ".1", log + ".other", copied} {
		appendTo(t, path, line+line)
	}
	tests := []struct {
		logs []string
		want string
	}{
		{[]string{log + ".1"}, "192.0.2.7/32 one 1"},
		{[]string{log + ".other"}, "192.0.2.7/32 other 1"},
		{[]string{copied}, "192.0.2.7/32 one 1, 192.0.2.7/32 other 1"},
		{[]string{log + ".1", log + ".other"}, "192.0.2.7/32 one 1, 192.0.2.7/32 other 1"},
	}
	for _, tt := range tests {
		c, err := config.Parse("t.toml", []byte(fmt.Sprintf("[fail2ban]\ndir = %q\n", dir)))
		if err != nil {
			t.Fatal(err)
		}
		r, err := Replay(context.Background(), ReplayOptions{Config: c, Logs: tt.logs, Until: time.Date(2026, 11, 22, 13, 0, 0, 0, time.Local)})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, b := range r.Bans {
			got = append(got, fmt.Sprint(b.Prefix, " ", b.Jail, " ", b.Times))
		}
		if strings.Join(got, ", ") != tt.want {
			t.Errorf("replay of %q bans %q, want %q", tt.logs, got, tt.want)
		}
	}
}

// Every jail that Debian ships runs, whatever does the bans, and all but one are our firewall's.
func TestAllJailsOfDebian(t *testing.T) {
	const debian = "/etc/fail2ban"
	if _, err := os.Stat(filepath.Join(debian, "jail.conf")); err != nil {
		t.Skip("Debian's package fail2ban is not installed")
	}
	for _, action := range []string{"iptables-multiport", "iptables-ipset-proto6", "nftables", "firewallcmd-ipset", "ufw"} {
		t.Run(action, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(debian)); err != nil {
				t.Fatal(err)
			}
			local := "[DEFAULT]\nenabled = true\nbanaction = " + action + "\nbanaction_allports = " + action + "\n"
			if err := os.WriteFile(filepath.Join(dir, "jail.local"), []byte(local), 0o644); err != nil {
				t.Fatal(err)
			}
			s, err := built(t, dir, "")
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range s.failed {
				t.Errorf("jail %s cannot run: %v", f.name, f.err)
			}
			if len(s.cells) != 91 {
				t.Errorf("%d jails run, want 91", len(s.cells))
			}
			for _, c := range s.cells {
				native := c.options.Verdict != tocsin.Pass && len(c.actions) == 0
				if lets := c.conf.Name == "pass2allow-ftp"; native == lets { // it lets in who is banned
					t.Errorf("jail %s is our firewall's: %v; it runs %q", c.conf.Name, native, actionNames(c.actions))
				}
				if len(c.sources) == 0 {
					t.Errorf("jail %s reads nothing", c.conf.Name)
				}
			}
		})
	}
}

// One ban covers what all ban actions of a jail ask for (several-walls).
func TestSeveralBanActions(t *testing.T) {
	const debian = "/etc/fail2ban"
	if _, err := os.Stat(filepath.Join(debian, "jail.conf")); err != nil {
		t.Skip("Debian's package fail2ban is not installed")
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(debian)); err != nil {
		t.Fatal(err)
	}
	const local = "[DEFAULT]\nlogpath = /nonexistent/log\nfilter = sshd\n" +
		"[two]\nenabled = true\naction = iptables-multiport[actname=a, port=\"22,80\"]\n  iptables-multiport[actname=b, port=\"22,53\", protocol=udp, blocktype=DROP]\n" +
		"[all]\nenabled = true\naction = iptables-multiport[actname=a, port=22]\n  iptables-allports[actname=b]\n"
	if err := os.WriteFile(filepath.Join(dir, "jail.local"), []byte(local), 0o644); err != nil {
		t.Fatal(err)
	}
	s, err := built(t, dir, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range s.cells {
		want := map[string]string{"two": "[22 53 80] tcp,udp reject 1", "all": "[] tcp reject 0"}[c.conf.Name]
		notes := slices.DeleteFunc(slices.Clone(c.problems), func(p fail2ban.Problem) bool { return !strings.Contains(p.Msg, "in different ways") })
		if got := fmt.Sprint(c.options.Ports, " ", c.options.Proto, " ", c.options.Verdict, " ", len(notes)); want != "" && got != want {
			t.Errorf("jail %s bans on %s, want %s", c.conf.Name, got, want)
		}
	}
}

// A jail that reads the journal in place of logs that do not exist has a filter for lines of the journal
// (journal-instead).
func TestJournalInsteadOfLogs(t *testing.T) {
	dir, _ := etc(t, "[DEFAULT]\nenabled = true\nfilter = login\nlogpath = LOG\n[login]\n[other]\n")
	loaded, err := fail2ban.Load(fail2ban.LoadOptions{Dir: dir, Journals: []string{"login"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, j := range loaded.Jails {
		want := map[string]string{"login": "systemd journal", "other": "auto file"}[j.Name]
		if got := j.Backend + " " + j.Filter.Logtype; j.Err != nil || got != want {
			t.Errorf("jail %s is %q (%v), want %q", j.Name, got, j.Err, want)
		}
	}
}
