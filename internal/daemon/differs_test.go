package daemon

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tocsin"
	"tocsin/internal/api"
	"tocsin/internal/fail2ban"
	"tocsin/internal/filter"
	"tocsin/internal/host"
	"tocsin/internal/jail"
)

// The table "What differs" of docs/manual/from-fail2ban.md is a promise: each of its rows has a test here that fails if
// Tocsin does something else, and, where fail2ban is installed and can be asked without a stage of its own, if fail2ban
// does. differences are those tests by the ids of the rows.
var differences = map[string]func(*testing.T){
	"window":            differsWindow,
	"seconds":           differsSeconds,
	"sessions":          differsSessions,
	"unban-memory":      differsUnbanMemory,
	"ban-memory":        differsBanMemory,
	"jitter":            differsJitter,
	"address":           differsAddress,
	"wide":              differsWide,
	"long-id":           differsLongID,
	"log-id":            differsLogID,
	"own-addresses":     differsAllow,
	"ssh-session":       differsSSHSession,
	"by-hand":           differsByHand,
	"ignored-by-hand":   differsIgnoredByHand,
	"names-wait":        differsNamesWait,
	"names-many":        differsNamesMany,
	"ignoreip-names":    differsIgnoreipNames,
	"bounds":            differsBounds,
	"client-methods":    differsClientMethods,
	"ignorecommand":     differsIgnoreCommand,
	"missing-log":       differsMissingLog,
	"journal-instead":   differsJournal,
	"journal-elsewhere": differsJournalFiles,
	"broken-jail":       differsBrokenRegex,
	"broken-line":       differsTwice,
	"broken-header":     differsBrokenHeader,
	"actname":           differsSameAction,
	"bad-value":         differsNoNumber,
	"python-action":     differsPythonAction,
	"mode":              differsNoSuchMode,
	"mistyped":          differsTypo,
	"formula":           differsFormula,
	"bantime-zero":      differsBantime0,
	"encoding":          differsEncoding,
	"tail":              differsTail,
	"first-start":       differsFirstStart,
	"rotated":           differsRotated,
	"glob":              differsGlob,
	"long-line":         differsLongLine,
	"years":             differsYears,
	"steps":             differsSteps,
	"log-file":          differsLogFile,
	"stop":              differsStop,
	"stop-keeps":        differsStopActions,
	"own-table":         differsOwnTable,
	"all-ports":         differsAllPorts,
	"open":              differsOpen,
	"answers":           differsAnswers,
	"log-packets":       differsLogPackets,
	"chain":             differsChain,
	"blocktype":         differsBlocktype,
	"single-quotes":     differsSingleQuotes,
	"blanks":            differsBlanks,
	"programs":          differsPrograms,
	"mail":              differsMail,
	"raw-ticket":        differsRawTicket,
	"actions-apart":     differsParallel,
	"root-only":         differsWritable,
	"not-utf8":          differsNotUTF8,
	"off-jail":          differsOffJail,
	"no-definition":     differsNoDefinition,
	"known-percent":     differsKnownPercent,
	"condition":         differsCondition,
	"timezone":          differsTimezone,
	"recidive-journal":  differsRecidiveJournal,
	"several-walls":     differsSeveralWalls,
	"repaired":          differsRepaired,
	"actionreload":      differsActionreload,
	"control":           differsControl,
	"client-settings":   differsClientSettings,
	"client-stop":       differsClientStop,
	"client-attempt":    differsClientAttempt,
	"client-reload":     differsClientReload,
	"reload-bans":       differsReloadBans,
	"socket":            differsSocket,
}

func TestWhatDiffers(t *testing.T) {
	page, err := os.ReadFile("../../docs/manual/from-fail2ban.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]bool{}
	for line := range strings.Lines(string(page)) {
		m := regexp.MustCompile(`<!-- id: ([\w-]+) -->`).FindStringSubmatch(line)
		switch {
		case m == nil:
		case rows[m[1]]:
			t.Errorf("the page has two rows called %s", m[1])
		case strings.Count(line, "|") != 4:
			t.Errorf("%s is no row of three columns: %s", m[1], line)
		default:
			rows[m[1]] = true
		}
	}
	for _, id := range slices.Sorted(maps.Keys(rows)) {
		hold := differences[id]
		if hold == nil {
			t.Errorf("no test holds the row %s", id)
			continue
		}
		t.Run(id, hold)
	}
	for id := range differences {
		if !rows[id] {
			t.Errorf("the page has no row called %s", id)
		}
	}
}

// theirs runs a Python script that has fail2ban's classes at hand, and compares what it prints.
func theirs(t *testing.T, script, want string) {
	t.Helper()
	const dist = "/usr/lib/python3/dist-packages"
	if _, err := os.Stat(dist + "/fail2ban"); err != nil {
		t.Log("what fail2ban does is not looked at: ", err)
		return
	}
	said(t, "", want, "python3", "-c", "import sys; sys.path.insert(0, '"+dist+"')\n"+script)
}

// said runs a program of fail2ban, which must say want, among other things; with an empty want anything will do. What it
// said is returned, "" where it is not installed.
func said(t *testing.T, stdin, want, name string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Log("what fail2ban does is not looked at: ", err)
		return ""
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, _ := cmd.CombinedOutput() // the exit code says less than the text
	if !strings.Contains(string(out), want) {
		t.Errorf("%s %q says\n%s\nwant %q in it", name, args, out, want)
	}
	return string(out)
}

// serverStops starts fail2ban's server with a configuration: it must end by itself, having said want. It runs in a network
// of its own, so that no guard finds it beside itself.
func serverStops(t *testing.T, dir, want string) {
	t.Helper()
	server, err := exec.LookPath("fail2ban-server")
	if err != nil || !host.Have(unix.CAP_SYS_ADMIN) {
		t.Log("what fail2ban does is not looked at: it is not installed, or may not have a network of its own")
		return
	}
	put(t, dir, "fail2ban.conf", "[Definition]\nloglevel = INFO\ndbfile = None\n")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, server, "-c", dir, "-s", dir+"/sock", "-p", dir+"/pid", "--logtarget", "STDOUT", "-xf", "start")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	if err == nil || ctx.Err() != nil || !strings.Contains(string(out), want) {
		t.Errorf("fail2ban-server: %v\n%s\nwant that it stops and says %q", err, out, want)
	}
}

// put writes a file of a folder like /etc/fail2ban.
func put(t *testing.T, dir, name, text string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// cellsOf are the jails of a folder that can run, by name; those that cannot are in failed.
func cellsOf(t *testing.T, dir string) (cells map[string]*cell, failed map[string]string) {
	t.Helper()
	s, err := built(t, dir, "")
	if err != nil {
		t.Fatal(err)
	}
	cells, failed = map[string]*cell{}, map[string]string{}
	for _, c := range s.cells {
		cells[c.conf.Name] = c
	}
	for _, f := range s.failed {
		failed[f.name] = strings.Join(errorsOf(f.err), "; ")
	}
	return cells, failed
}

// tells checks that a jail tells of something that is not done as it is written, with its place and what happens instead.
func tells(t *testing.T, c *cell, msg, instead string) {
	t.Helper()
	if c == nil {
		t.Fatal("the jail does not run")
	}
	if !slices.ContainsFunc(c.problems, func(p fail2ban.Problem) bool {
		return strings.Contains(p.Msg, msg) && strings.Contains(p.Instead, instead) && p.Pos.Line > 0
	}) {
		t.Errorf("the jail tells of %+v, want of %q, and %q instead", c.problems, msg, instead)
	}
}

// loginJail is a jail.conf with one jail, which counts what loginFilter finds.
const loginJail = "[login]\nenabled = true\nfilter = login\nlogpath = LOG\nmaxretry = 3\n"

// loginFails are n lines of LOG.
func loginFails(addr string, n int) string {
	line := time.Now().Format(time.DateTime) + " login: bad password of eve from " + addr + "\n"
	return strings.Repeat(line, n)
}

// wantDiff compares what a log leads to, as tocsin diff counts it.
func wantDiff(t *testing.T, change func(*cell), want string, log ...string) {
	t.Helper()
	d := diffOf(t, diffCell(t, change), logOf(t, log...))
	var got []string
	for i := range d.Rows {
		got = append(got, d.Rows[i].words())
	}
	if s := strings.Join(got, "\n"); s != want {
		t.Errorf("rows:\n%s\nwant:\n%s", s, want)
	}
}

// Counting.

func differsWindow(t *testing.T) {
	wantDiff(t, nil, "198.18.2.7 fail2ban: rate estimate: 5 failures in 700 s counted as 5 in 600 s", "0,590,591,650,700 failure from 198.18.2.7")
	theirs(t, `from fail2ban.server.failmanager import FailManager
from fail2ban.server.ticket import FailTicket
m = FailManager(); m.setMaxTime(600)
print([m.addFailure(FailTicket('198.18.2.7', 1795341600 + s)) for s in (0, 590, 591, 650, 700)])`, "[1, 2, 3, 4, 5]")
}

func differsSeconds(t *testing.T) {
	wantDiff(t, nil, "198.18.2.7 fail2ban: whole seconds: fail2ban leaves out the fractions", "0.1,1,2,3,600.9 failure from 198.18.2.7")
	theirs(t, `from fail2ban.server.datedetector import DateDetector
d = DateDetector(); d.addDefaultTemplate()
print(d.getTime('2026-11-22 10:00:00.900 x')[0])`, "00.0\n")
}

// filterOf is a filter with these rules, as fail2ban's files say them.
func filterOf(t *testing.T, rules ...string) *filter.Filter {
	t.Helper()
	def := fail2ban.Filter{Name: "test"}
	for _, text := range rules {
		def.Failregex = append(def.Failregex, fail2ban.Regex{Text: text})
	}
	f, err := filter.New(def, filter.Options{Location: time.Local})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func lineOf(text string) *tocsin.Record { return &tocsin.Record{Source: "file:x", Text: []byte(text)} }

func differsSessions(t *testing.T) {
	rules := []string{`^ d\[<F-MLFID>\d+</F-MLFID>\]: bad <F-USER>\S+</F-USER>$`, `^ d\[<F-MLFID>\d+</F-MLFID>\]: <F-NOFAIL>help</F-NOFAIL> <ADDR>$`}
	for at, want := range map[string]filter.Kind{"10:05:00": filter.Failed, "10:05:01": filter.Helper} {
		f := filterOf(t, rules...)
		f.Line(lineOf("2026-11-22 10:00:00 d[7]: bad x"))
		if got := f.Line(lineOf("2026-11-22 " + at + " d[7]: help 192.0.2.1")).Kind; got != want {
			t.Errorf("a line of the session at %s is %v, want %v", at, got, want)
		}
	}
	dir := t.TempDir()
	put(t, dir, "s.conf", "[Definition]\nfailregex = "+strings.Join(rules, "\n ")+"\n")
	put(t, dir, "s.log", "2026-11-22 10:00:00 d[7]: bad x\n2026-11-22 23:00:00 d[7]: help 192.0.2.1\n")
	said(t, "", "192.0.2.1", "fail2ban-regex", "-o", "ip", dir+"/s.log", dir+"/s.conf")
}

func differsUnbanMemory(t *testing.T) {
	c := testCell(t, jail.Options{Name: "grows", BanTimes: []time.Duration{time.Hour, 2 * time.Hour}, BanMemory: 24 * time.Hour})
	d := newDecider(t, c)
	d.fail(c, "192.0.2.1", 3)
	d.wantBans("grows 192.0.2.1")
	if _, err := d.unban(context.Background(), api.UnbanRequest{Prefix: "192.0.2.1"}); err != nil {
		t.Fatal(err)
	}
	d.wantBans("")
	d.at = time.Now().Add(time.Second)
	d.fail(c, "192.0.2.1", 3)
	d.in(func() {
		if b := d.active[banKey{"grows", "192.0.2.1"}]; b.until.Sub(b.at) != 2*time.Hour {
			t.Errorf("the ban after one that was lifted lasts %v, want 2h", b.until.Sub(b.at))
		}
	})
	theirs(t, `from fail2ban.server.database import Fail2BanDb
from fail2ban.server.ticket import BanTicket
from fail2ban.server.mytime import MyTime
class J:
    name, database = 'j', None
    class actions: getBanTime = staticmethod(lambda: 600)
import logging; logging.disable(logging.CRITICAL)
db = Fail2BanDb(':memory:'); j = J(); db.addJail(j)
t = BanTicket('192.0.2.1', MyTime.time()); t.setBanTime(600)
db.addBan(j, t)
before = len(list(db.getBan('192.0.2.1', j)))
db.delBan(j, '192.0.2.1')
print(before, len(list(db.getBan('192.0.2.1', j))))`, "1 0")
}

func differsBanMemory(t *testing.T) {
	dir, _ := etc(t, loginJail+"bantime = 1h\nbantime.increment = true\nbantime.multipliers = 1 100\n")
	cells, _ := cellsOf(t, dir)
	if got := cells["login"].options.BanMemory; got != 324*time.Hour {
		t.Errorf("former bans are remembered for %v, want a day and three times the longest, 324h", got)
	}
}

func differsJitter(t *testing.T) {
	lengths := func(id string) (all []time.Duration) {
		c := testCell(t, jail.Options{Name: "j", MaxRetry: 1, BanTimes: []time.Duration{time.Minute}, BanMemory: 24 * time.Hour, BanJitter: time.Hour})
		for i := range 3 {
			f := &tocsin.Failure{ID: id, At: t0.Add(time.Duration(i) * 3 * time.Hour)}
			for _, d := range c.jail.Failure(nil, f) {
				all = append(all, d.Until.Sub(d.At))
			}
		}
		return all
	}
	one, again, other := lengths("a"), lengths("a"), lengths("b")
	if len(one) != 3 || !slices.Equal(one, again) || slices.Equal(one, other) || one[1] == one[2] {
		t.Errorf("bans of one id last %v, and once more %v; of another %v: want the same, and different ones", one, again, other)
	}
}

// Who is banned.

func differsAddress(t *testing.T) {
	for _, acts := range []bool{false, true} {
		wantDiff(t, func(c *cell) { c.acts = acts }, "999.1.1.1 fail2ban: id 999.1.1.1 is no address", "0,1,2,3,4 failure from 999.1.1.1")
	}
	res := filterOf(t, "^ failure from <HOST>$").Line(lineOf("2026-11-22 10:00:00 failure from 999.1.1.1"))
	if res.Kind != filter.BadID || res.Failure.ID != "999.1.1.1" {
		t.Errorf("the filter finds %+v, want an id that is none", res)
	}
	said(t, "", "999.1.1.1", "fail2ban-regex", "-o", "ip", "2026-11-22 10:00:00 failure from 999.1.1.1", "from <HOST>$")
}

func differsWide(t *testing.T) {
	f := filterOf(t, "^ failure from <SUBNET>$")
	for net, want := range map[string]filter.Kind{"10.0.0.0/8": filter.Failed, "10.0.0.0/7": filter.BadID, "2400::/19": filter.Failed, "2400::/18": filter.BadID} {
		if got := f.Line(lineOf("2026-11-22 10:00:00 failure from " + net)).Kind; got != want {
			t.Errorf("a line that blames %s is %v, want %v", net, got, want)
		}
	}
	theirs(t, "from fail2ban.server.ipdns import IPAddr\nprint(IPAddr('0.0.0.0/1'))", "0.0.0.0/1")
}

func differsLongID(t *testing.T) {
	c := testCell(t, jail.Options{Name: "acts"})
	d := newDecider(t, c)
	short := strings.Repeat("x", maxID)
	d.fail(c, short, 3)
	d.fail(c, short+"y", 3)
	d.wantBans("acts " + short)
}

func differsLogID(t *testing.T) {
	const id = "x] Ban 203.0.113.1"
	if got, want := fail2ban.LogBan("sshd", id), `[sshd] Ban "x]\x20Ban\x20203.0.113.1"`; got != want {
		t.Errorf("the log says %s, want %s", got, want)
	}
	said(t, "", "203.0.113.1", "fail2ban-regex", "-o", "ip",
		"2026-11-22 14:53:48,372 fail2ban.actions        [15757]: NOTICE  [sshd] Ban "+id, "recidive")
}

func differsAllow(t *testing.T) {
	dir, log := etc(t, loginJail+"ignoreself = false\n")
	cells, _ := cellsOf(t, dir)
	tells(t, cells["login"], "ignoreself = false", "never banned all the same")
	w := guardFail2ban(t, dir)
	appendTo(t, log, loginFails("127.0.0.1", 3)+loginFails(attacker, 3))
	w.banned(attacker)
	if j, err := w.Jail(t.Context(), "login"); err != nil || j.Spared != 3 || j.BansNow != 1 {
		t.Errorf("%d failures spared, %d bans (%v), want 3 and 1", j.Spared, j.BansNow, err)
	}
	if said, code := w.client(dir, "set", "login", "banip", "127.0.0.1"); code == 0 || !strings.Contains(said, "127.0.0.1") {
		t.Errorf("a ban of our own by hand: %d, %s", code, said)
	}
}

func differsByHand(t *testing.T) {
	dir, _ := etc(t, loginJail)
	w := guardFail2ban(t, dir)
	for _, id := range []string{"notanip", "999.1.1.1", "0.0.0.0/0"} {
		if said, code := w.client(dir, "set", "login", "banip", id); code != 255 || strings.Contains(said, "1\n"+id) {
			t.Errorf("banip %s: %d, %s", id, code, said)
		}
	}
	if b, err := w.Client.Banned(t.Context(), "login"); err != nil || len(b.Jails[0].Banned) > 0 {
		t.Errorf("banned are %+v, %v", b, err)
	}
}

func differsIgnoredByHand(t *testing.T) {
	dir, _ := etc(t, loginJail+"ignoreip = 198.51.100.7\n")
	w := guardFail2ban(t, dir)
	if said, code := w.client(dir, "set", "login", "banip", "198.51.100.7"); code != 255 || !strings.Contains(said, "never banned by jail login") {
		t.Errorf("a ban by hand of an address of ignoreip: %d, %s", code, said)
	}
	if said, code := w.client(dir, "set", "login", "delignoreip", "198.51.100.7"); code != 0 {
		t.Fatalf("delignoreip: %d, %s", code, said)
	}
	if said, code := w.client(dir, "set", "login", "banip", "198.51.100.7"); code != 0 || said != "1\n" {
		t.Errorf("the same after delignoreip: %d, %s", code, said)
	}
}

func differsBrokenHeader(t *testing.T) {
	dir, _ := etc(t, loginJail+"[other\nenabled = true\nmaxretry = 9\nlogpath = /nonexistent\n")
	cells, _ := cellsOf(t, dir)
	if c := cells["login"]; c == nil || c.options.MaxRetry != 3 || len(cells) != 1 {
		t.Errorf("jails are %v, want login alone, as its own lines have it", cells)
	}
}

func differsNamesWait(t *testing.T) {
	c := testCell(t, jail.Options{Name: "dns"})
	c.def.Usedns = "warn"
	d := newDecider(t, c)
	var asked atomic.Int64
	hold := make(chan struct{})
	d.asking(zone(&asked, hold))
	d.host(c, "two.example.org", 3)
	d.fail(c, "203.0.113.9", 3)
	d.wantBans("dns 203.0.113.9") // the line behind does not wait
	close(hold)
	d.until("all names are answered", d.quiet)
	d.wantBans("dns 192.0.2.1, dns 2001:db8::1, dns 203.0.113.9")
}

func differsNamesMany(t *testing.T) {
	c := testCell(t, jail.Options{Name: "dns"})
	c.def.Usedns = "yes"
	d := newDecider(t, c)
	var asked atomic.Int64
	d.asking(zone(&asked, open()))
	d.host(c, "crowd.example.org", 3) // has 200
	d.until("all names are answered", d.quiet)
	if got := strings.Count(d.bansNow(), "198.51.100."); got != 16 {
		t.Errorf("%d addresses of one name are banned, want 16", got)
	}
}

func differsIgnoreCommand(t *testing.T) {
	c := askingCell(t, "")
	d := newDecider(t, c)
	o := &oracle{hold: open()}
	d.ask = o.ask
	d.fail(c, "203.0.113.9", 2)
	d.in(func() {})
	if o.count() != 0 {
		t.Errorf("asked %d times before a ban was due", o.count())
	}
	d.fail(c, "203.0.113.9", 1)
	d.until("it is asked", func() bool { return o.count() == 1 && d.allAnswered() })
	d.wantBans("ask 203.0.113.9")
}

func differsIgnoreipNames(t *testing.T) {
	c := testCell(t, jail.Options{Name: "sshd"})
	c.ignored = []string{"friend.example.org"}
	c.indexIgnored()
	d := newDecider(t, c)
	var asked atomic.Int64
	d.lookup = zone(&asked, open())
	d.befriend(t.Context(), d.set.friendNames())
	d.fail(c, "192.0.2.77", 3)
	d.fail(c, "192.0.2.1", 3)
	d.wantBans("sshd 192.0.2.1")
	if n := asked.Load(); n != 1 || friendTime != 5*time.Minute {
		t.Errorf("asked %d times for six failures, and then every %v, want once and every 5m", n, friendTime)
	}
	d.lookup = func(context.Context, string) ([]netip.Addr, error) { return nil, errors.New("timeout") }
	d.befriend(t.Context(), d.set.friendNames())
	d.at = d.at.Add(time.Minute)
	d.fail(c, "192.0.2.77", 3)
	d.wantBans("sshd 192.0.2.1")
}

func differsBounds(t *testing.T) {
	dir, _ := etc(t, strings.Replace(loginJail, "= 3", "= 50000", 1)+"maxmatches = 50000\n")
	cells, _ := cellsOf(t, dir)
	if o := cells["login"].options; o.MaxAddresses != 100_000 || o.MaxRetry != 10_000 || o.EvidenceLines != 1000 {
		t.Errorf("the jail keeps %+v", o)
	}
	tells(t, cells["login"], "maxretry 50000 is more than 10000", "that many failures ban")
}

// The configuration.

func differsMissingLog(t *testing.T) {
	dir, log := etc(t, loginJail)
	serverStops(t, dir, "Have not found any log file for login jail")
	w := guardFail2ban(t, dir)
	if !strings.Contains(w.said.String(), "jail      login reads file:"+log) {
		t.Errorf("the guard said\n%s", w.said)
	}
	appendTo(t, log, loginFails(attacker, 3))
	w.banned(attacker)
}

func differsJournal(t *testing.T) {
	dir, log := etc(t, loginJail+"backend = auto\n")
	read := func() string {
		b := builder{look: true}
		all, err := b.loadFail2ban(dir)
		if err != nil {
			t.Fatal(err)
		}
		return all.Jails[0].Backend
	}
	if got := read(); got != "systemd" {
		t.Errorf("without a log the backend is %s, want systemd", got)
	}
	appendTo(t, log, "")
	if got := read(); got == "systemd" {
		t.Error("the journal is read although the log is there")
	}
	theirs(t, `from fail2ban.server.jail import Jail
print('systemd' in Jail._BACKENDS[:3])`, "False")
}

func differsJournalFiles(t *testing.T) {
	dir, _ := etc(t, loginJail+"[far]\nenabled = true\nfilter = login\nbackend = systemd[journalpath=/srv/journal]\n")
	cells, failed := cellsOf(t, dir)
	if cells["login"] == nil || !strings.Contains(failed["far"], "only the machine's own journal") {
		t.Errorf("jails %v run, %v do not", cells, failed)
	}
}

func differsBrokenRegex(t *testing.T) {
	dir, log := etc(t, loginJail+"[second]\nenabled = true\nfilter = broken\nlogpath = LOG\n")
	put(t, dir, "filter.d/broken.conf", "[Definition]\nfailregex = ^(<HOST>\n")
	appendTo(t, log, "")
	cells, failed := cellsOf(t, dir)
	if cells["login"] == nil || !strings.Contains(failed["second"], "filter.d/broken.conf:2: ") {
		t.Errorf("jails %v run, %v do not", cells, failed)
	}
	serverStops(t, dir, "Unable to compile regular expression")
}

func differsTwice(t *testing.T) {
	dir, log := etc(t, loginJail+"maxretry = 4\n")
	appendTo(t, log, "")
	c, err := fail2ban.Load(fail2ban.LoadOptions{Dir: dir})
	if err != nil || len(c.Problems) != 1 || c.Problems[0].Pos.Line != 6 || !strings.Contains(c.Problems[0].Msg, "stands twice") {
		t.Fatalf("Load tells of %+v, %v", c.Problems, err)
	}
	if c.Jails[0].Err != nil || c.Jails[0].Maxretry != 3 {
		t.Errorf("the jail: %+v, want that it runs with the first value", c.Jails[0])
	}
	serverStops(t, dir, "already exists")
}

func differsSameAction(t *testing.T) {
	dir, log := etc(t, loginJail+"action = mail[x=1]\n  mail[x=2]\n")
	appendTo(t, log, "")
	cells, _ := cellsOf(t, dir)
	tells(t, cells["login"], "two actions have the name mail", "this one is called mail-2")
	if n := len(cells["login"].actions); n != 2 {
		t.Errorf("%d actions are run, want both", n)
	}
	serverStops(t, dir, "Action mail already exists")
}

func differsNoNumber(t *testing.T) {
	dir, log := etc(t, strings.Replace(loginJail, "= 3", "= many", 1)+"findtime = soon\n")
	appendTo(t, log, "")
	cells, _ := cellsOf(t, dir)
	tells(t, cells["login"], `maxretry "many" is no number`, "3 is used")
	tells(t, cells["login"], `findtime "soon" is no time`, "is used")
	serverStops(t, dir, "NOK")
}

func differsPythonAction(t *testing.T) {
	dir, _ := etc(t, loginJail+"action = smtp.py[dest=x]\n  mail\n")
	cells, _ := cellsOf(t, dir)
	tells(t, cells["login"], "smtp.py is written in Python", "the jail runs without it")
	if a := cells["login"].actions; len(a) != 1 || a[0].Name != "mail" {
		t.Errorf("actions %+v, want mail alone", a)
	}
}

func differsNoSuchMode(t *testing.T) {
	dir, log := etc(t, loginJail+"[second]\nenabled = true\nfilter = moody[mode=al]\nlogpath = LOG\n")
	put(t, dir, "filter.d/moody.conf", "[Definition]\nfailregex = <re-<mode>>\nre-all = from <HOST>\n")
	appendTo(t, log, "")
	cells, failed := cellsOf(t, dir)
	if cells["login"] == nil || !strings.Contains(failed["second"], "<re-al> names an option that nobody defines") {
		t.Errorf("jails %v run, %v do not", cells, failed)
	}
	said(t, "", "['set', 'second', 'addfailregex', '<re-al>']", "fail2ban-client", "-c", dir, "-d")
}

func differsTypo(t *testing.T) {
	dir, log := etc(t, loginJail+"bantme = 1h\n")
	appendTo(t, log, "")
	cells, _ := cellsOf(t, dir)
	tells(t, cells["login"], `a jail has no option "bantme"`, "is bantime meant?")
	if out := said(t, "", "['start', 'login']", "fail2ban-client", "-c", dir, "-d"); strings.Contains(out, "bantme") {
		t.Errorf("fail2ban tells of it too:\n%s", out)
	}
}

func differsFormula(t *testing.T) {
	dir, _ := etc(t, loginJail+"bantime.increment = true\nbantime.formula = ban.Time * random.random()\n")
	cells, _ := cellsOf(t, dir)
	tells(t, cells["login"], "bantime.", "every ban is as long as the first")
}

func differsBantime0(t *testing.T) {
	dir, _ := etc(t, loginJail+"bantime = 0\n")
	cells, _ := cellsOf(t, dir)
	tells(t, cells["login"], "bantime is 0", "a ban lasts for a second")
	if got := cells["login"].options.BanTime; got != time.Second {
		t.Errorf("a ban lasts for %v", got)
	}
}

func differsEncoding(t *testing.T) {
	dir, _ := etc(t, loginJail+"logencoding = latin-1\n")
	cells, _ := cellsOf(t, dir)
	tells(t, cells["login"], "latin-1 are not converted", "lines are read as UTF-8")
	put(t, dir, "filter.d/gruen.conf", "[Definition]\nfailregex = ^ gr\u00fcn from <HOST>$\n")
	put(t, dir, "latin.log", "2026-11-22 10:00:00 gr\xfcn from 192.0.2.1\n")
	def, err := fail2ban.LoadFilter(os.DirFS(dir+"/filter.d"), "gruen", nil, "file")
	if err != nil {
		t.Fatal(err)
	}
	f, err := filter.New(def, filter.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got := f.Line(lineOf("2026-11-22 10:00:00 gr\xfcn from 192.0.2.1")).Kind; got != filter.Nothing {
		t.Errorf("a line of Latin-1 is %v", got)
	}
	said(t, "", "192.0.2.1", "fail2ban-regex", "-e", "latin-1", "-o", "ip", dir+"/latin.log", dir+"/filter.d/gruen.conf")
}

// reads is what -d prints of a configuration of one jail, which is on, and what its other files say.
func reads(t *testing.T, jails string, files map[string]string) (printed string, c *fail2ban.Config) {
	t.Helper()
	dir, log := etc(t, jails)
	appendTo(t, log, "")
	for name, text := range files {
		put(t, dir, name, text)
	}
	c, err := fail2ban.Load(fail2ban.LoadOptions{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range c.Stream() {
		printed += fail2ban.PythonValue(command) + "\n"
	}
	return printed, c
}

func differsNotUTF8(t *testing.T) {
	got, c := reads(t, loginJail, map[string]string{"jail.local": "# gr\xfcn\n[login]\nfindtime = 1\xfc\nmaxmatches = 7\n"})
	if !strings.Contains(got, "['set', 'login', 'maxmatches', 7]") || len(c.Problems) != 1 || c.Problems[0].Pos.Line != 3 {
		t.Errorf("told is %+v, and read\n%s", c.Problems, got)
	}
	out := said(t, "", "['start', 'login']", "fail2ban-client", "-c", c.Dir, "-d")
	if strings.Contains(out, "maxmatches', 7") {
		t.Errorf("fail2ban reads it too:\n%s", out)
	}
}

func differsOffJail(t *testing.T) {
	got, c := reads(t, loginJail+"[second]\nfilter = %(nix)s\n", nil)
	if !strings.Contains(got, "['start', 'login']") || len(c.Problems) > 0 || c.Jails[0].Err != nil {
		t.Errorf("told is %+v, and read\n%s", c.Problems, got)
	}
}

func differsNoDefinition(t *testing.T) {
	_, c := reads(t, strings.Replace(loginJail, "= login", "= none", 1), map[string]string{"filter.d/none.conf": "[DEFAULT]\nfailregex = ^<HOST>\n"})
	if err := c.Jails[0].Err; err == nil || !strings.Contains(err.Error(), "filter.d/none.conf:1: filter none has no section [Definition]") {
		t.Errorf("the jail's error is %v", err)
	}
}

func differsKnownPercent(t *testing.T) {
	got, c := reads(t, strings.Replace(loginJail, "= login", "= cent", 1)+"failregex = %(known/failregex)s$\n", map[string]string{"filter.d/cent.conf": "[Definition]\nfailregex = ^100%% <HOST>\n"})
	if !strings.Contains(got, "'^100% <HOST>$'") {
		t.Errorf("read is\n%s", got)
	}
	if out := said(t, "", "", "fail2ban-client", "-c", c.Dir, "-d"); strings.Contains(out, "['start'") {
		t.Errorf("fail2ban reads it too:\n%s", out)
	}
}

func differsCondition(t *testing.T) {
	got, c := reads(t, loginJail+"action = mail[port?family=inet6=six]\n", nil)
	if !strings.Contains(got, "['port?family=inet6', 'six']") {
		t.Errorf("read is\n%s", got)
	}
	if out := said(t, "", "", "fail2ban-client", "-c", c.Dir, "-d"); strings.Contains(out, "['port?family=inet6', 'six']") {
		t.Logf("fail2ban reads it too, as 1.1.1 does:\n%s", out)
	}
}

func differsTimezone(t *testing.T) {
	dir, _ := etc(t, loginJail+"logtimezone = Europe/Paris\n")
	cells, _ := cellsOf(t, dir)
	if got := cells["login"].loc.String(); got != "Europe/Paris" {
		t.Errorf("the zone is %s", got)
	}
	theirs(t, `from fail2ban.server.strptime import validateTimeZone
try: print(validateTimeZone('Europe/Paris'))
except ValueError as e: print('no zone')`, "no zone")
}

func differsRecidiveJournal(t *testing.T) {
	dir, _ := etc(t, loginJail+"backend = systemd\njournalmatch = _SYSTEMD_UNIT=fail2ban.service PRIORITY=5\n")
	cells, _ := cellsOf(t, dir)
	tells(t, cells["login"], "fail2ban's own messages", "nobody writes them")
}

// Logs.

func differsTail(t *testing.T) {
	dir, log := etc(t, strings.Replace(loginJail, "LOG", "LOG tail", 1))
	appendTo(t, log, loginFails(attacker, 2))
	cells, _ := cellsOf(t, dir)
	tells(t, cells["login"], "tail", "read from one findtime ago")
	w := guardFail2ban(t, dir)
	w.counted(attacker, 2)
	appendTo(t, log, loginFails(attacker, 1))
	w.banned(attacker)
}

func differsFirstStart(t *testing.T) {
	dir, log := etc(t, loginJail)
	appendTo(t, log, loginFails(attacker, 5))
	w := guardFail2ban(t, dir)
	appendTo(t, log, loginFails("198.18.2.8", 1))
	w.counted("198.18.2.8", 1) // what stands before it is read
	if w.why(attacker).Banned {
		t.Error("what was there at the first start bans")
	}
	appendTo(t, log, loginFails(attacker, 3))
	w.banned(attacker)
}

// What was written to a log that was moved away while nobody looked is read as well.
func differsRotated(t *testing.T) {
	dir, log := etc(t, loginJail)
	w := guardFail2ban(t, dir)
	appendTo(t, log, loginFails("198.18.2.8", 1))
	w.counted("198.18.2.8", 1)
	w.end()
	appendTo(t, log, loginFails(attacker, 2))
	if err := os.Rename(log, log+".1"); err != nil {
		t.Fatal(err)
	}
	appendTo(t, log, loginFails(attacker, 1))
	w.start()
	w.banned(attacker)
}

func differsGlob(t *testing.T) {
	dir, log := etc(t, strings.Replace(loginJail, "LOG", "LOG.site-*", 1))
	w := guardFail2ban(t, dir)
	appendTo(t, log+".site-new", loginFails(attacker, 3)) // no reload
	w.banned(attacker)
}

func differsLongLine(t *testing.T) {
	f := filterOf(t, `^ x.* from <HOST>$`)
	for n, want := range map[int]filter.Kind{16_000: filter.Failed, 20_000: filter.Nothing} {
		if got := f.Line(lineOf("2026-11-22 10:00:00 " + strings.Repeat("x", n) + " from 192.0.2.7")).Kind; got != want {
			t.Errorf("a line with %d letters is %v, want %v", n, got, want)
		}
	}
	dir := t.TempDir()
	put(t, dir, "log", "2026-11-22 10:00:00 "+strings.Repeat("x", 20_000)+" from 192.0.2.7\n")
	said(t, "", "192.0.2.7", "fail2ban-regex", "-o", "ip", dir+"/log", `^ x.* from <HOST>$`)
}

func differsYears(t *testing.T) {
	const line, rule = "2087-11-22 10:00:00 failure from 192.0.2.1", "^ failure from <HOST>$"
	if got := filterOf(t, rule).Line(lineOf(line)).Kind; got != filter.Failed {
		t.Errorf("a line of 2087 is %v", got)
	}
	said(t, "", "1 missed", "fail2ban-regex", line, rule)
}

func differsSteps(t *testing.T) {
	f := filterOf(t, `^ (?:(?P<a>x+)+)+(?P=a)z from <HOST>$`)
	began := time.Now()
	res := f.Line(lineOf("2026-11-22 10:00:00 " + strings.Repeat("x", 10_000) + "yz from 192.0.2.7"))
	if res.Kind != filter.Nothing || f.Stats().OutOfStep == 0 {
		t.Errorf("the line is %v, and the matcher gave up %d times; want nothing, and once at least", res.Kind, f.Stats().OutOfStep)
	}
	t.Logf("that took %v", time.Since(began))
}

func differsLogFile(t *testing.T) {
	for logs, want := range map[string]string{"LOG": "", "LOG\n  /var/log/fail2ban.log": "/var/log/fail2ban.log"} {
		dir, _ := etc(t, strings.Replace(loginJail, "LOG", logs, 1))
		put(t, dir, "fail2ban.conf", "[Definition]\nlogtarget = /var/log/fail2ban.log\n")
		s, err := built(t, dir, "")
		if err != nil {
			t.Fatal(err)
		}
		if s.f2bLog.Path != want {
			t.Errorf("with logs %q, %q is written, want %q", logs, s.f2bLog.Path, want)
		}
	}
}
