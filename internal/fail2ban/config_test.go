package fail2ban

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

// small is a folder with one filter and two actions, to which a test adds its own jail.conf.
const small = `
-- filter.d/f.conf --
[Definition]
failregex = ^f <HOST> <word>$
word = w
-- action.d/a.conf --
[Definition]
actionban = ban <ip> <port>
[Init]
port = any
-- action.d/b.conf --
[Definition]
actionban = note <ip>
-- jail.conf --
[DEFAULT]
filter = f
action = a
`

// loadSmall reads small with more files laid over it.
func loadSmall(t *testing.T, files string) *Config {
	t.Helper()
	c, err := Load(LoadOptions{Dir: "/f2b", FS: folder(small + files), Glob: func(string) ([]string, error) { return nil, nil }})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// told lists what a configuration cannot do: "jail: place: what is wrong -> what happens instead".
func told(c *Config) []string {
	var all []string
	say := func(jail string, list []Problem) {
		for _, p := range list {
			all = append(all, fmt.Sprintf("%s%s: %s -> %s", jail, p.Pos, p.Msg, p.Instead))
		}
	}
	say("", c.Problems)
	for _, j := range c.Jails {
		say(j.Name+": ", j.Problems)
		if j.Err != nil {
			all = append(all, j.Name+": "+j.Err.Error())
		}
	}
	return all
}

func TestLoadTells(t *testing.T) {
	const on = "enabled = true\n"
	tests := []struct {
		name, files string
		want        []string // beginnings; every other jail than those named here runs
	}{
		{"nothing", "-- jail.local --\n[a]\n" + on, nil},
		{"option twice in jail.local", "-- jail.local --\n[a]\n" + on + "maxretry = 3\nmaxretry = 4\n  5\n[b]\n" + on,
			[]string{`/f2b/jail.local:4: option "maxretry" stands twice in section [a] -> the line is left out; fail2ban would not start`}},
		{"section twice in jail.local", "-- jail.local --\n[a]\n" + on + "[b]\n[a]\nmaxretry = 3\n",
			[]string{`/f2b/jail.local:4: section [a] stands twice in this file -> its keys are read as if`}},
		{"no equals sign", "-- jail.local --\n[a]\n" + on + "what\n",
			[]string{`/f2b/jail.local:3: "what" is neither a header nor key = value -> the line is left out`}},
		{"a header that is not closed", "-- jail.local --\n[a]\n" + on + "[b\nenabled = false\nlogpath = /b\n[c]\n" + on,
			[]string{`/f2b/jail.local:3: header "[b" is not closed -> the line and those up to the next header are left out`}},
		{"not UTF-8", "-- jail.local --\n[a]\n# gr\xfcn\n" + on + "logpath = \xfc\n",
			[]string{`/f2b/jail.local:4: the line is not UTF-8 -> the line is left out; fail2ban leaves out the whole file`}},
		{"byte order mark and CRLF", "-- jail.local --\n\uFEFF[a]\r\nenabled = true\r\n", nil},
		{"before the first section", "-- jail.local --\nx = 1\n[a]\n" + on,
			[]string{`/f2b/jail.local:1: "x = 1" stands before the first section -> the line is left out`}},
		{"unknown reference", "-- jail.local --\n[a]\n" + on + "logpath = %(nix)s\n[b]\n" + on,
			[]string{"a: /f2b/jail.local:3: %(nix)s names an option that nobody defines\n  hint: define it in [a] or [DEFAULT]"}},
		{"all unknown references of a jail", "-- jail.local --\n[a]\n" + on + "bantime = %(x)s\nlogpath = %(y)s\n",
			[]string{"a: /f2b/jail.local:3: %(x)s names an option that nobody defines\n  hint: define it in [a] or [DEFAULT], or correct the name\n/f2b/jail.local:4: %(y)s"}},
		{"a jail that is off may say anything", "-- jail.local --\n[a]\nfilter = %(nix)s\nlogpath = %\n[b]\n" + on, nil},
		{"references in a circle", "-- jail.local --\n[a]\n" + on + "logpath = %(x)s\nx = %(logpath)s\n[b]\n" + on,
			[]string{"a: /f2b/jail.local:3: more than 10 references inside each other"}},
		{"enabled cannot be read", "-- jail.local --\n[a]\nenabled = %(nix)s\n[b]\n" + on, []string{"a: /f2b/jail.local:2: %(nix)s"}},
		{"no such filter", "-- jail.local --\n[a]\nfilter = fx\n" + on + "[b]\n" + on, []string{"a: /f2b/jail.local:2: no such filter /f2b/filter.d/fx.conf\n  hint: near names: f"}},
		{"no filter of the jail's name", "-- jail.local --\n[DEFAULT]\nfilter = %(__name__)s\n[x]\n" + on, []string{"x: /f2b/jail.local:3: no such filter /f2b/filter.d/x.conf"}},
		{"filter syntax", "-- jail.local --\n[a]\nfilter = f[x\n" + on, []string{`a: /f2b/jail.local:2: filter "f[x": unexpected option syntax`}},
		{"a name that leaves the folder", "-- jail.local --\n[a]\nfilter = ../../x\n" + on, []string{`a: /f2b/jail.local:2: "../../x" is no name of a filter`}},
		{"a filter that is broken", "-- filter.d/g.conf --\n[Definition]\nx = 1\nx = 2\n-- jail.local --\n[a]\nfilter = g\n" + on + "[b]\n" + on,
			[]string{`a: /f2b/filter.d/g.conf:3: option "x" stands twice`}},
		{"a filter that is only included", "-- filter.d/g.conf --\n[DEFAULT]\nx = 1\n-- jail.local --\n[a]\nfilter = g\n" + on, []string{"a: /f2b/filter.d/g.conf:1: filter g has no section [Definition]"}},
		{"a mode that does not exist", "-- filter.d/g.conf --\n[Definition]\nfailregex = <re-<mode>>\nre-all = 1\nunused = <re-<mode>>\n-- jail.local --\n[a]\nfilter = g[mode=al]\n" + on + "[b]\nfilter=g[mode=all]\n" + on,
			[]string{"a: /f2b/filter.d/g.conf:2: <re-al> names an option that nobody defines\n  hint: there are: re-all"}},
		{"a tag nowhere, where it does not matter", "-- filter.d/g.conf --\n[Definition]\nfailregex = 1\nx = <re-<word>>\nword = w\n-- jail.local --\n[a]\nfilter = g\n" + on, nil},
		{"tags in a circle", "-- filter.d/g.conf --\n[Definition]\nfailregex = <x>\nx = <y>\ny = <x>\n-- jail.local --\n[a]\nfilter = g\n" + on, []string{"a: /f2b/filter.d/g.conf:"}},
		{"no such action", "-- jail.local --\n[a]\naction = a\n  ab[x=1]\n" + on, []string{"a: /f2b/jail.local:3: no such action /f2b/action.d/ab.conf\n  hint: near names: a"}},
		{"all actions are looked at", "-- jail.local --\n[a]\naction = x1\n  x2\n" + on, []string{"a: /f2b/jail.local:2: no such action /f2b/action.d/x1.conf\n/f2b/jail.local:3: no such action"}},
		{"action syntax", "-- jail.local --\n[a]\naction = a[b\n" + on, []string{`a: /f2b/jail.local:2: action "a[b": unexpected option syntax`}},
		{"a broken action", "-- action.d/c.conf --\n[Definition]\nactionban = %(nix)s\n-- jail.local --\n[a]\naction = c\n" + on + "[b]\n" + on, []string{"a: /f2b/action.d/c.conf:2: %(nix)s"}},
		{"tags of an action in a circle", "-- action.d/c.conf --\n[Definition]\nactionban = <x>\n[Init]\nx = <y>\ny = <x>\n-- jail.local --\n[a]\naction = c\n" + on, []string{"a: /f2b/action.d/c.conf:"}},
		{"two actions of one name", "-- jail.local --\n[a]\naction = b[x=1]\n  b[x=2]\n  b[x=3]\n" + on,
			[]string{"a: /f2b/jail.local:3: two actions have the name b -> this one is called b-2; fail2ban", "a: /f2b/jail.local:4: two actions have the name b -> this one is called b-3"}},
		{"a Python action", "-- jail.local --\n[a]\naction = smtp.py[dest=x]\n  a\n" + on, []string{"a: /f2b/jail.local:2: action smtp.py is written in Python, which only fail2ban can run -> the jail runs without it"}},
		{"no action", "-- jail.local --\n[a]\naction =\n" + on, []string{"a: /f2b/jail.local:2: the jail has no action -> "}},
		{"no filter", "-- jail.local --\n[a]\nfilter =\n" + on, []string{"a: /f2b/jail.local:1: the jail has no filter -> "}},
		{"numbers", "-- jail.local --\n[a]\nmaxretry = many\nmaxmatches = 1.5\nmaxlines = x\n" + on,
			[]string{`a: /f2b/jail.local:2: maxretry "many" is no number -> 3 is used`, `a: /f2b/jail.local:3: maxmatches "1.5" is no number -> 5 is used`,
				`a: /f2b/jail.local:4: maxlines "x" is no number -> 1 is used`}},
		{"times", "-- jail.local --\n[a]\nfindtime = soon\nbantime = 1x\n" + on,
			[]string{`a: /f2b/jail.local:2: findtime "soon" is no time like 600, 10m or 1d12h: `, `a: /f2b/jail.local:3: bantime "1x" is no time like`}},
		{"findtime of nothing", "-- jail.local --\n[a]\nfindtime = 0\n" + on, []string{`a: /f2b/jail.local:2: findtime "0" is no time to look back -> 10m is used`}},
		{"backend", "-- jail.local --\n[a]\nbackend = journald\n" + on, []string{`a: /f2b/jail.local:2: backend "journald" is none -> auto is used`}},
		{"usedns", "-- jail.local --\n[a]\nusedns = maybe\n" + on, []string{`a: /f2b/jail.local:2: usedns "maybe" is none of yes, warn, no, raw -> no is used`}},
		{"logpath", "-- jail.local --\n[a]\nlogpath = /a\n  /b c\n" + on, []string{`a: /f2b/jail.local:3: behind a log there may be head or tail, not "c" -> `}},
		{"mistyped", "-- jail.local --\n[DEFAULT]\nmaxretri = 3\nmine = 1\ncolour = 2\n[a]\nbantme = 1h\ncolour = red\nsecret = x\nlogpath = /%(mine)s/%(b/logs)s\n" + on + "[b]\nlogs = 1\nbantme = 1h\n",
			[]string{`/f2b/jail.local:2: a jail has no option "maxretri", and nothing refers to it -> it is left out; is maxretry meant?`,
				`a: /f2b/jail.local:6: a jail has no option "bantme", and nothing refers to it -> it is left out; is bantime meant?`,
				`a: /f2b/jail.local:7: a jail has no option "colour", and nothing refers to it -> it is left out`,
				`a: /f2b/jail.local:8: a jail has no option "secret"`}},
		{"journalmatch", "-- jail.local --\n[a]\njournalmatch = _COMM=\"x\n" + on, []string{`a: /f2b/jail.local:2: journalmatch `}},
		{"fail2ban.conf", "-- fail2ban.conf --\n[Definition]\nloglevel = LOUD\ndbmaxmatches = x\ndbpurgeage = x\nlogtarget = %(nix)s\nx\n",
			[]string{`/f2b/fail2ban.conf:6: "x" is neither`, "/f2b/fail2ban.conf:5: logtarget: %(nix)s names", `/f2b/fail2ban.conf:3: dbmaxmatches "x" is no number -> 10 is used`,
				`/f2b/fail2ban.conf:4: dbpurgeage "x" is no time -> 1d is used`, `/f2b/fail2ban.conf:2: loglevel "LOUD" is none -> INFO is used`}},
		{"an include from outside of what may be read", "-- jail.local --\n[INCLUDES]\nbefore = /etc/passwd\n[a]\n" + on, []string{`/f2b/jail.local:2: include "/etc/passwd" leaves the folder`}},
	}
	for _, tt := range tests {
		c := loadSmall(t, tt.files)
		got := told(c)
		ok := len(got) == len(tt.want)
		for i := range min(len(got), len(tt.want)) {
			ok = ok && strings.HasPrefix(got[i], tt.want[i])
		}
		if !ok {
			t.Errorf("%s: told\n%s\nwant\n%s", tt.name, strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
		}
	}
}

func TestLoadNothing(t *testing.T) {
	for _, tt := range []struct{ files, want string }{
		{"-- fail2ban.conf --\n[Definition]\n", "/f2b/jail.conf: there is neither jail.conf nor jail.local nor a file in jail.d\n  hint: name the folder"},
		{"-- jail.d/x.txt --\n", "/f2b/jail.conf: there is neither"},
	} {
		if _, err := Load(LoadOptions{Dir: "/f2b", FS: folder(tt.files)}); err == nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("Load of %q: error %v, want %s", tt.files, err, tt.want)
		}
	}
	if _, err := Load(LoadOptions{Dir: t.TempDir() + "/nix"}); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("Load of a folder that does not exist: %v", err)
	}
	for _, files := range []string{"-- jail.local --\n[a]\n", "-- jail.d/x.conf --\n[a]\n", "-- jail.d/x.local --\n[a]\n"} {
		c, err := Load(LoadOptions{Dir: "/f2b", FS: folder(files)})
		if err != nil || !slices.Equal(c.Disabled, []string{"a"}) {
			t.Errorf("Load of %q: %v", files, err)
		}
	}
}

func TestLoadFiles(t *testing.T) {
	c := loadSmall(t, "-- fail2ban.local --\n[Definition]\n-- jail.local --\n[INCLUDES]\nbefore = more/x.conf\n[a]\nenabled = 1\n-- more/x.conf --\n[DEFAULT]\n")
	if want := []string{"/f2b/jail.conf", "/f2b/more/x.conf", "/f2b/jail.local", "/f2b/fail2ban.local"}; !slices.Equal(c.Files, want) {
		t.Errorf("files %q, want %q", c.Files, want)
	}
}

// TestLoadOutside: fail2ban includes any file of the machine by its whole path, and so do we if a real folder is read.
func TestLoadOutside(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	write := func(file, text string) {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(other+"/x.conf", "[INCLUDES]\nafter = y.conf\n[DEFAULT]\nx = X\n")
	write(other+"/y.conf", "[DEFAULT]\ny = Y\n")
	write(dir+"/jail.local", "[INCLUDES]\nbefore = "+other+"/x.conf\nafter = "+dir+"/z.conf\n  ../"+filepath.Base(other)+"/nix.conf\n  filter.d\n[a]\nenabled = 1\nfilter =\naction =\nlogpath = /%(x)s%(y)s%(z)s\n")
	write(dir+"/z.conf", "[DEFAULT]\nz = Z\n")
	write(dir+"/filter.d/f.conf", "")
	c := load(t, dir)
	if want := []string{other + "/x.conf", other + "/y.conf", dir + "/jail.local", dir + "/z.conf"}; !slices.Equal(c.Files, want) {
		t.Errorf("files %q, want %q", c.Files, want)
	}
	if p := c.Jails[0].Logpaths; len(p) != 1 || p[0].Pattern != "/XYZ" {
		t.Errorf("logpath %v", p)
	}
	if len(c.Problems) != 1 || !strings.Contains(c.Problems[0].Msg, "filter.d: it is no regular file") || c.Problems[0].Instead != "the file is left out" {
		t.Errorf("problems %v", c.Problems)
	}
}

// TestLoadJail looks at every field of one jail.
func TestLoadJail(t *testing.T) {
	c := loadSmall(t, `
-- jail.local --
[one]
enabled = yes
backend = systemd[journalflags=4, namespace="x"]
maxretry = 0
findtime = 1h
bantime = -1
bantime.increment = on
bantime.factor = 2
bantime.formula = ban.Time * 3
bantime.maxtime = 5w
bantime.overalljails = true
ignoreip = 192.0.2.1 192.0.2.0/24,example.com
           ::1
ignoreself = no
ignorecommand = /bin/ask <ip>
ignorecache = key="<ip>"
logpath = /var/log/x
logtimezone = UTC+0200
usedns = Raw
journalmatch = _COMM=a + _COMM=b
  _COMM=c
datepattern = ^%%Y
  {^LN-BEG}
ignoreregex = ^i$
action = a[port="%(maxretry)s"]
[two]
enabled = yes
logpath = /var/log/a*.log tail
          /var/log/b
`)
	one, two := c.Jails[0], c.Jails[1]
	got := fmt.Sprintf("%s %s %s %v %s | %d %d %v %v %+v | %v %q %s %s | %s %s | %v",
		one.Name, one.Pos, one.Backend, one.BackendOptions, one.FilterSpec, one.Maxretry, one.Maxmatches, one.Findtime, one.Bantime, *one.Growth,
		one.Ignoreself, one.Ignoreip, one.Ignorecommand, one.Ignorecache, one.Logencoding, one.Logtimezone, one.Logpaths)
	want := "one /f2b/jail.local:1 systemd map[journalflags:4 namespace:x] f | 1 5 1h0m0s -1s " +
		"{Factor:2 Formula:ban.Time * 3 Multipliers: Maxtime:840h0m0s Rndtime:0s Overalljails:true Pos:/f2b/jail.local:7} | " +
		`false ["192.0.2.1" "192.0.2.0/24" "example.com" "::1"] /bin/ask <ip> key="<ip>" | auto UTC+0200 | []`
	if got != want {
		t.Errorf("jail one:\n%s\nwant\n%s", got, want)
	}
	f := one.Filter
	got = fmt.Sprintf("%s %s %s | %s | %s | %s | %q %d", f.Name, f.Logtype, f.Usedns, show(f.Failregex), show(f.Ignoreregex), show(f.Datepattern), f.Journalmatch, f.Maxlines)
	want = `f journal raw | ^f <HOST> w$ (/f2b/filter.d/f.conf:2) | ^i$ (/f2b/jail.local:24) | ^%Y (/f2b/jail.local:22)
{^LN-BEG} (/f2b/jail.local:23) | ["_COMM=a + _COMM=b" "_COMM=c"] 1`
	if got != want {
		t.Errorf("filter of jail one:\n%s\nwant\n%s", got, want)
	}
	a := one.Actions[0]
	if port, ok := a.Option("port"); port != "0" || !ok || a.Actname != "a" || a.Pos != (Pos{"/f2b/jail.local", 25}) || !slices.Equal(a.Files, []string{"/f2b/action.d/a.conf"}) {
		t.Errorf("action of jail one: %+v", a)
	}
	if ban, _ := a.Option("actionban"); ban != "ban <ip> 0" {
		t.Errorf("actionban = %q", ban)
	}
	if v, ok := a.Option("nix"); v != "" || ok {
		t.Errorf("Option(nix) = %q, %v", v, ok)
	}
	if want := []Logpath{{"/var/log/a*.log", true, Pos{"/f2b/jail.local", 28}, "tail"}, {"/var/log/b", false, Pos{"/f2b/jail.local", 29}, ""}}; !slices.Equal(two.Logpaths, want) {
		t.Errorf("logpaths of jail two: %v, want %v", two.Logpaths, want)
	}
	got = fmt.Sprintf("%s %d %d %v %v %v %v %s %s", two.Backend, two.Maxretry, two.Maxmatches, two.Findtime, two.Bantime, two.Growth, two.Ignoreself, two.Logencoding, two.Filter.Logtype)
	if want := "auto 3 5 10m0s 10m0s <nil> true auto file"; got != want {
		t.Errorf("jail two, by default: %s, want %s", got, want)
	}
	if c.Main.Dbpurgeage != 24*time.Hour || c.Main.Loglevel != "INFO" || c.Main.Socket != "/var/run/fail2ban/fail2ban.sock" {
		t.Errorf("without fail2ban.conf: %+v", c.Main)
	}
}

// TestLoadCondition: fail2ban takes a condition behind the name of an option from 1.1.1 on.
// Whoever tells of an option names the line it is written in, not that of the jail.
func TestWhere(t *testing.T) {
	j := loadSmall(t, `
-- jail.local --
[DEFAULT]
ignoreip = ::1
[j]
enabled = true
logencoding =
  latin-1
`).Jails[0]
	for option, want := range map[string]string{"ignoreip": "/f2b/jail.local:2", "logencoding": "/f2b/jail.local:5", "action": "/f2b/jail.conf:3", "maxretry": "/f2b/jail.local:3"} {
		if got := j.Where(option).String(); got != want {
			t.Errorf("%s is written at %s, want %s", option, got, want)
		}
	}
}

func TestLoadCondition(t *testing.T) {
	c := loadSmall(t, "-- jail.local --\n[one]\nenabled = 1\nskip_if_nologs = true\naction = a[port?family=inet6=\"v6\", port=v4] b\n")
	if problems := told(c); len(problems) > 0 || len(c.Jails[0].Actions) != 2 {
		t.Fatalf("told %v, jails %v", problems, c.Jails)
	}
	a := c.Jails[0].Actions[0]
	four, _ := a.Option("port")
	six, _ := a.Option("port?family=inet6")
	ban, _ := a.Option("actionban")
	if four != "v4" || six != "v6" || ban != "ban <ip> <port>" {
		t.Errorf("port %q, for IPv6 %q, actionban %q", four, six, ban)
	}
}

// TestLoadBounds: no configuration may eat the machine.
func TestLoadBounds(t *testing.T) {
	many := strings.Builder{}
	for i := range maxJails + 10 {
		fmt.Fprintf(&many, "[j%d]\nenabled = 1\n", i)
	}
	c := loadSmall(t, "-- jail.local --\n"+many.String())
	if len(c.Jails) != maxJails || len(c.Problems) != 1 || !strings.Contains(c.Problems[0].Msg, "more than 2000 jails") {
		t.Errorf("%d jails, problems %v", len(c.Jails), c.Problems)
	}
	c = loadSmall(t, "-- jail.local --\n[a]\nenabled = 1\naction = "+strings.Repeat("b ", maxActions+1)+"\n")
	if err := c.Jails[0].Err; err == nil || !strings.Contains(err.Error(), "more than 64 actions") {
		t.Errorf("65 actions: %v", err)
	}
	long := strings.Repeat("x", 900_000)
	c = loadSmall(t, "-- jail.local --\n[DEFAULT]\nignoreip = "+long+"\n"+many.String())
	last := c.Jails[len(c.Jails)-1]
	if err := last.Err; err == nil || !strings.Contains(err.Error(), "all files together") {
		t.Errorf("%d jails of 900 kB each: %v", len(c.Jails), err)
	}
}

func TestSplitSpecs(t *testing.T) {
	type row struct {
		Split  *string
		Result json.RawMessage
	}
	n := 0
	for _, r := range recorded[row](t, "optionsyntax.jsonl") {
		if r.Split == nil {
			continue
		}
		n++
		got, _, more := splitSpecs(*r.Split, 10)
		var want []string
		if err := json.Unmarshal(r.Result, &want); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, want) || more {
			t.Errorf("splitSpecs(%q) = %q, want %q", *r.Split, got, want)
		}
	}
	t.Logf("%d of %d lists equal", n, n)
}

// FuzzLoad: whatever stands in jail.conf, reading it ends, tells places, and leaves something to print.
func FuzzLoad(f *testing.F) {
	for _, s := range []string{
		"", "[a]\nenabled = true\n", "[DEFAULT]\nenabled = 1\n[a]\n[b]\nfilter=\n[a]\n",
		"[a]\nenabled = 1\naction = a[port=\"1,2\"] b[actname=x]\n b\nlogpath = /a tail\n /b x\n",
		"[a]\nenabled = 1\nx = %(y)s\ny = %(x)s\nlogpath = %(known/logpath)s %(a/x)s %(default/q)s\n",
		"[a]\nenabled=1\nfailregex = %(known/failregex)s\n <HOST> <word>\nfilter = f[word='<known/word>', failregex=\"<word>\"]\nmaxlines = 7\n",
		"[a]\nenabled = 1\nfilter = f[[[\naction = ]]][[ a[b=\"c\nbackend = systemd[\n",
		"[INCLUDES]\nbefore = jail.conf\nafter = filter.d/f.conf\n  ../x\n[Init?family=inet6]\nx = 1\n",
		"[a]\nenabled = 1\nbantime.increment = 1\nbantime = 1y1mo\nfindtime = 9**9**9\nmaxretry = 99999999999999999999\nignoreip = ,, ,\n",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		dir := folder(small)
		dir["jail.conf"] = &fstest.MapFile{Data: []byte(text)}
		c, err := Load(LoadOptions{Dir: "/f2b", FS: dir, Glob: func(string) ([]string, error) { return []string{"/x"}, nil }})
		if err != nil {
			t.Fatal(err)
		}
		for _, command := range c.Stream() {
			PythonValue(command)
		}
		for _, p := range c.Problems {
			if p.Pos.File == "" || p.Msg == "" || p.Instead == "" {
				t.Errorf("problem %+v", p)
			}
		}
		for _, j := range c.Jails {
			if e := Errors(j.Err); j.Err != nil && len(e) == 0 {
				t.Errorf("jail %s: an error without a place: %v", j.Name, j.Err)
			}
			for _, p := range j.Problems {
				if p.Pos.File == "" || p.Msg == "" || p.Instead == "" {
					t.Errorf("jail %s: problem %+v", j.Name, p)
				}
			}
			if j.Err == nil && (j.Maxretry < 1 || j.Findtime < time.Second || j.Filter.Maxlines < 1 || j.Backend == "") {
				t.Errorf("jail %s: %+v", j.Name, j)
			}
		}
	})
}

func TestErrorsOfJails(t *testing.T) {
	c := loadSmall(t, "-- jail.local --\n[a]\nenabled = 1\nfilter = x\n")
	var e *Error
	if !errors.As(c.Jails[0].Err, &e) || e.Pos != (Pos{"/f2b/jail.local", 3}) {
		t.Errorf("error of jail a: %v", c.Jails[0].Err)
	}
	got := PythonValue(c.Stream()[len(c.Stream())-1])
	if want := `['config-error', "Jail 'a' skipped, because of wrong configuration: Unable to read the filter 'x'"]`; got != want {
		t.Errorf("last command %s, want %s", got, want)
	}
}
