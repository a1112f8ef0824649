package fail2bancli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tocsin/internal/api"
)

// folder makes a folder of files, by name.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// small is a configuration of our own, with one jail.
func small() map[string]string {
	return map[string]string{
		"fail2ban.conf":      "[Definition]\nloglevel = info\nlogtarget = STDOUT\ndbfile = None\n",
		"jail.conf":          "[web]\nenabled = true\nfilter = web\nlogpath = /nonexistent/log\nbantime.increment = true\nbantime.factor = 3\nbantime.maxtime = 1w\nbantime.rndtime = 30\nbantime.multipliers = 1 2 4\nbantime.overalljails = true\n",
		"filter.d/web.conf":  "[Definition]\nfailregex = ^bad <ADDR>$\n",
		"action.d/none.conf": "[Definition]\n",
	}
}

func TestClientReadsTheConfiguration(t *testing.T) {
	good, broken := folder(t, small()), small()
	broken["jail.local"] = "[mail]\nenabled = true\nfilter = nosuch\n"
	bad := folder(t, broken)
	expr := small()
	expr["filter.d/web.conf"] = "[Definition]\nfailregex = ^bad (<ADDR>$\n"
	unclosed := folder(t, expr)
	g := &guard{jails: []api.JailDetail{{Jail: api.Jail{Name: "web"}, Growing: true}, {Jail: api.Jail{Name: "other"}}}}
	socket := g.serve(t)
	tests := []struct {
		name, dir, args string
		want            string // all of it, or with ... in front: a part
		code            int
	}{
		{"a good one", good, "-t", "...jail.conf:1: the jail has no action; who is found is counted, and nobody is kept out\nOK: configuration test is successful\n", 0},
		{"a good one and a command", good, "-t ping", "...OK: configuration test is successful\nServer replied: pong\n", 0},
		{"a jail that cannot run", bad, "--test", "...ERROR   Errors in jail 'mail'. Skipping...\nDATE fail2ban                [PID]: ERROR   ERROR: test configuration failed\n", 255},
		{"a filter with a broken expression", unclosed, "-t", "...web.conf:2: failregex: missing ), unterminated subpattern at character 6, at \"(<ADDR>$\"\nDATE fail2ban                [PID]: ERROR   Errors in jail 'web'. Skipping...\nDATE fail2ban                [PID]: ERROR   ERROR: test configuration failed\n", 255},
		{"the commands", good, "-d", "...['set', 'web', 'addfailregex', '^bad <ADDR>$']\n", 0},
		{"the commands of what can run", bad, "--dp", "...['start', 'web']\n", 0},
		{"no folder", filepath.Join(good, "none"), "-t", "...ERROR: read configuration of fail2ban", 255},
		{"no folder for a question", filepath.Join(good, "none"), "get loglevel", "...read configuration of fail2ban", 255},
		{"the level", good, "get loglevel", "Current logging level is 'INFO'\n", 0},
		{"no database", good, "get dbfile", "Database currently disabled\n", 0},
		{"no age", good, "get dbpurgeage", "Database currently disabled\n", 0},
		{"no matches", good, "get dbmaxmatches", "None\n", 0},
		{"the socket of syslog", good, "get syslogsocket", "Current syslog socket is:\n`- auto\n", 0},
		{"threads", good, "get thread", "{'stacksize': 0}\n", 0},
		{"growing", good, "get web bantime.increment", "True\n", 0},
		{"not growing", good, "get other bantime.increment", "None\n", 0},
		{"factor", good, "get web bantime.factor", "3\n", 0},
		{"of a jail that is not in the files", good, "get other bantime.factor", "None\n", 0},
		{"formula", good, "get web bantime.formula", "None\n", 0},
		{"multipliers", good, "get web bantime.multipliers", "1 2 4\n", 0},
		{"maxtime", good, "get web bantime.maxtime", "604800\n", 0},
		{"rndtime", good, "get web bantime.rndtime", "30\n", 0},
		{"overalljails", good, "get web bantime.overalljails", "True\n", 0},
		{"nonsense", good, "get web bantime.nonsense", "...no setting is named bantime.nonsense", 255},
		{"a setting of fail2ban.conf", good, "set loglevel DEBUG", "...set it in " + good + "/fail2ban.local, then fail2ban-client reload\n", 255},
		{"a setting of jail.conf", good, "set web bantime.factor 2", "...bantime.factor is not changed while the guard runs: set it in section [web] of " + good + "/jail.local", 255},
		{"stop", good, "stop", "...systemctl stop tocsin-guard", 255},
		{"stop of a jail", good, "stop web", "...enabled = false in its section of " + good + "/jail.local", 255},
		{"start of a jail", good, "start web", "...enabled = true in its section of " + good + "/jail.local", 255},
		{"add", good, "add mail auto", "...write its section into " + good + "/jail.local", 255},
		{"a bad time", good, "--str2sec 1x", "...is no time", 255},
		{"help", good, "--help", "...Usage: ", 0},
		{"nothing", good, "", "...Usage: ", 255},
		{"an unknown option", good, "--nonsense", "...Init of command line failed", 255},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			said, code := runClient(socket, tt.dir, "", strings.Fields(tt.args)...)
			part, isPart := strings.CutPrefix(tt.want, "...")
			if said = dated(said); code != tt.code || isPart && !strings.Contains(said, part) || !isPart && said != tt.want {
				t.Errorf("%s says, with exit code %d:\n%s\nwant %d:\n%s", tt.args, code, said, tt.code, tt.want)
			}
		})
	}
}

func TestClientChanges(t *testing.T) {
	at := time.Now().Add(-time.Minute).Truncate(time.Second)
	until := at.Add(time.Hour)
	g := &guard{
		jails: []api.JailDetail{{Jail: api.Jail{Name: "web"}, BanSeconds: 3600, Actions: []api.JailAction{{Name: "mail", Properties: map[string]string{"dest": "root", "actionban": "a\nb\x1b"}}}}, {Jail: api.Jail{Name: "mail"}, BanSeconds: 60}},
		banned: map[string][]api.BannedID{
			"web":  {{ID: "192.0.2.1", At: at, Until: &until}},
			"mail": {{ID: "192.0.2.1", At: at, Until: &until}},
		},
		now: time.Now(),
	}
	socket, dir := g.serve(t), folder(t, small())
	tests := []struct {
		args, want string
		code       int
	}{
		{"banned 192.0.2.1 192.0.2.2", "[['web', 'mail'], []]\n", 0},
		{"get web banned 192.0.2.1", "1\n", 0},
		{"get web banned 192.0.2.1 192.0.2.2", "[1, 0]\n", 0},
		{"get web banip --with-time", "192.0.2.1 \t" + at.Format(time.DateTime) + " + 3600 = " + until.Format(time.DateTime) + "\n", 0},
		{"set web banip 192.0.2.7 notanip", "DATE fail2ban                [PID]: ERROR   NOK: (\"'notanip' is no address\",)\n1\n'notanip' is no address; write it like 192.0.2.7\n", 255},
		{"get web banip ,", "192.0.2.1,192.0.2.7\n", 0},
		{"set web unbanip --report-absent 192.0.2.9", "DATE fail2ban                [PID]: ERROR   NOK: (\"not banned: ['192.0.2.9']\",)\nnot banned: ['192.0.2.9']\n", 255},
		{"unban 192.0.2.1", "2\n", 0},
		{"unban", "DATE fail2ban                [PID]: ERROR   NOK: ('Invalid command',)\nInvalid command\n", 255},
		{"set web addignoreip 127.0.0.1/8 192.0.2.1", "These IP addresses/networks are ignored:\n|- 127.0.0.0/8\n`- 192.0.2.1\n", 0},
		{"set web delignoreip 192.0.2.1", "These IP addresses/networks are ignored:\n`- 127.0.0.0/8\n", 0},
		{"get web ignoreself", "False\n", 0},
		{"get web action mail dest", "root\n", 0},
		{"get web action mail actionban", "a\nb" + `\x1b` + "\n", 0},
		{"get web action mail timeout", "60\n", 0},
		{"get web action mail colour", "DATE fail2ban                [PID]: ERROR   NOK: (\"'CommandAction' object has no attribute 'colour'\",)\n'CommandAction' object has no attribute 'colour'\n", 255},
		{"get web action other dest", "DATE fail2ban                [PID]: ERROR   NOK: ('Invalid Action name: other',)\n'Invalid Action name: other'\n", 255},
		{"get web actions", "The jail web has the following actions:\nmail\n", 0},
		{"get web actionproperties mail", "The jail web action mail has the following properties:\nactionban, dest\n", 0},
		{"get mail actions", "No actions for jail mail\n", 0},
		{"get web failregex", "No regular expression is defined\n", 0},
		{"get web logpath", "No file is currently monitored\n", 0},
		{"get web journalmatch", "No journal match filter set\n", 0},
		{"get web logencoding", "Current log encoding is set to:\nUTF-8\n", 0},
		{"reload --unban web", "OK\n", 0},
		{"banned", "[{'web': []}, {'mail': []}]\n", 0},
		{"reload web mail", "DATE fail2ban                [PID]: ERROR   NOK: (\"Unexpected argument(s) for reload: ['web', 'mail']\",)\nUnexpected argument(s) for reload: ['web', 'mail']\n", 255},
		{"flushlogs", "logs: rolled over\n", 0},
		{"ping 5", "Server replied: pong\n", 0},
		{"version", "1.0.2\n", 0},
		{"echo a b", "a b\n", 0},
		{"status web cymru x", "DATE fail2ban                [PID]: ERROR   NOK: ('Invalid command (no status)',)\nInvalid command (no status)\n", 255},
	}
	for _, tt := range tests {
		if said, code := runClient(socket, dir, "", strings.Fields(tt.args)...); dated(said) != tt.want || code != tt.code {
			t.Errorf("%s says, with exit code %d:\n%s\nwant %d:\n%s", tt.args, code, dated(said), tt.code, tt.want)
		}
	}
}

func TestReloadNamesJailsThatCannotRun(t *testing.T) {
	g := &guard{jails: []api.JailDetail{{Jail: api.Jail{Name: "web"}}}, failed: "\njail ftp cannot run: jail.local:3: no such filter\njail pop cannot run: x"}
	const want = "DATE fail2ban                [PID]: ERROR   jail ftp cannot run: jail.local:3: no such filter\n" +
		"DATE fail2ban                [PID]: ERROR   jail pop cannot run: x\nOK\n"
	if said, code := runClient(g.serve(t), folder(t, small()), "", "reload"); dated(said) != want || code != 0 {
		t.Errorf("reload says, with exit code %d:\n%s\nwant 0:\n%s", code, dated(said), want)
	}
}

// Fail2ban's own socket stands for the guard's: scripts name it out of habit.
func TestOldSocket(t *testing.T) {
	g := &guard{}
	if said, code := runClient(g.serve(t), t.TempDir(), "", "-s", "/var/run/fail2ban/fail2ban.sock", "ping"); code != exitOK {
		t.Errorf("ping says, with exit code %d: %s", code, said)
	}
}

func TestCommand(t *testing.T) {
	for name, known := range map[string]bool{"fail2ban-client": true, "fail2ban-regex": true, "fail2ban-server": true, "tocsin": false} {
		if got := Command(name) != nil; got != known {
			t.Errorf("Command(%q) answers: %v, want %v", name, got, known)
		}
	}
}
