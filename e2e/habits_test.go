package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"
)

// withHabits builds a lab whose victim runs fail2ban's configuration, and where fail2ban-client is a link to us.
func withHabits(t *testing.T, jails string) *scene {
	t.Helper()
	if _, err := os.Stat("/etc/fail2ban/jail.conf"); err != nil {
		t.Skip("fail2ban's configuration is not installed")
	}
	s := newScene(t, time.Minute)
	s.script(`
rm -rf /etc/fail2ban/jail.d /etc/fail2ban/*.local
mkdir -p /etc/tocsin
echo 'socket = "` + socket + `"' >/etc/tocsin/tocsin.toml
ln -s tocsin /run/lab/bin/fail2ban-client
ln -s tocsin /run/lab/bin/fail2ban-regex
touch /var/log/mail.log /var/log/auth.log`)
	s.write("/etc/fail2ban/jail.local", jails, 0o644)
	s.run("--fail2ban", "/etc/fail2ban")
	return s
}

// habit runs a program on the victim that finds fail2ban's commands in its PATH.
func (s *scene) habit(env []string, name string, args ...string) (said string, code int) {
	s.t.Helper()
	cmd := exec.CommandContext(s.ctx, "/usr/bin/env", append(append([]string{"PATH=/run/lab/bin:" + os.Getenv("PATH")}, env...), append([]string{name}, args...)...)...)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	p, err := s.Victim.Start(cmd)
	if err != nil {
		s.t.Fatal(err)
	}
	_ = p.Wait() // the code is what matters
	return out.String(), p.Code()
}

const twoJails = `
[DEFAULT]
banaction = nftables
bantime = 1h
ignoreip =
[sshd]
enabled = true
port = 22,2222,2200
logpath = /var/log/auth.log
maxretry = 3
[postfix]
enabled = true
logpath = /var/log/mail.log
`

// The plugin is Debian's own, run unchanged: it asks fail2ban-client for ping, status and status JAIL.
func TestMuninPlugin(t *testing.T) {
	const plugin = "/usr/share/munin/plugins/fail2ban"
	if _, err := os.Stat(plugin); err != nil {
		t.Skip("Debian's munin-plugins-core is not installed")
	}
	s := withHabits(t, twoJails)
	munin := func(args ...string) string {
		t.Helper()
		said, code := s.habit([]string{"client=/run/lab/bin/fail2ban-client", "MUNIN_LIBDIR=/usr/share/munin"}, plugin, args...)
		if code != 0 {
			t.Fatalf("munin's plugin ends with code %d: %s", code, said)
		}
		return said
	}
	if said := munin("autoconf"); said != "yes\n" {
		t.Errorf("autoconf says %q, want yes", said)
	}
	want := `graph_title Hosts blacklisted by fail2ban
graph_info This graph shows the number of host blacklisted by fail2ban
graph_category network
graph_vlabel Number of hosts
graph_args --base 1000 -l 0
graph_total total
postfix.label postfix
sshd.label sshd
`
	if said := munin("config"); said != want {
		t.Errorf("config says\n%s\nwant\n%s", said, want)
	}
	if said, want := munin(), "postfix.value 0\nsshd.value 0\n"; said != want {
		t.Errorf("before any ban the plugin says\n%s\nwant\n%s", said, want)
	}
	for i := range 4 {
		s.forge(netip.MustParseAddr(fmt.Sprintf("203.0.113.%d", 10+i)), 3, time.Now())
	}
	s.within(answer, "four bans", func() (bool, error) { return len(s.banned()) == 4, nil })
	if said, want := munin(), "postfix.value 0\nsshd.value 4\n"; said != want {
		t.Errorf("after four bans the plugin says\n%s\nwant\n%s", said, want)
	}
}

// Nagios' plugin comes with Debian's fail2ban, as an example.
func TestNagiosPlugin(t *testing.T) {
	const plugin = "/usr/share/doc/fail2ban/examples/nagios/check_fail2ban"
	if _, err := os.Stat(plugin); err != nil {
		t.Skip("the documentation of Debian's fail2ban is not installed")
	}
	s := withHabits(t, twoJails)
	check := func(want string, wantCode int) {
		t.Helper()
		said, code := s.habit(nil, "perl", plugin, "-p", "-w", "1", "-c", "3", "-P", "/run/lab/bin/fail2ban-client")
		if said != want || code != wantCode {
			t.Errorf("nagios' plugin ends with code %d:\n%s\nwant %d:\n%s", code, said, wantCode, want)
		}
	}
	check("CHECK FAIL2BAN ACTIVITY - OK - 2 detected jails with 0 current banned IP(s) | postfix.currentBannedIP=0 sshd.currentBannedIP=0 ", 0)
	s.habit(nil, "fail2ban-client", "set", "sshd", "banip", "198.51.100.7", "198.51.100.8")
	s.habit(nil, "fail2ban-client", "set", "postfix", "banip", "198.51.100.7")
	check("CHECK FAIL2BAN ACTIVITY - CRITICAL - 2 detected jails with 3 current banned IP(s) | postfix.currentBannedIP=1 sshd.currentBannedIP=2 ", 2)
}

// What people type every day, against a real guard.
func TestFail2banClient(t *testing.T) {
	s := withHabits(t, twoJails)
	tests := []struct {
		args, want string
		code       int
	}{
		{"ping", "Server replied: pong\n", 0},
		{"status", "Status\n|- Number of jail:\t2\n`- Jail list:\tpostfix, sshd\n", 0},
		{"set sshd banip 198.51.100.7 2001:db8:7::5", "2\n", 0},
		{"set sshd banip 198.51.100.7", "0\n", 0}, // its ban only ends later
		{"set postfix banip 203.0.113.0/24", "1\n", 0},
		{"get sshd banip", "2001:db8:7::5 198.51.100.7\n", 0},
		{"status sshd", "Status for the jail: sshd\n|- Filter\n|  |- Currently failed:\t0\n|  |- Total failed:\t0\n|  `- File list:\t/var/log/auth.log\n`- Actions\n" +
			"   |- Currently banned:\t2\n   |- Total banned:\t2\n   `- Banned IP list:\t198.51.100.7 2001:db8:7::5\n", 0},
		{"banned 198.51.100.7 203.0.113.0/24 9.9.9.9", "[['sshd'], ['postfix'], []]\n", 0},
		{"get sshd bantime", "3600\n", 0},
		{"get sshd maxretry", "3\n", 0},
		{"get sshd logpath", "Current monitored log file(s):\n`- /var/log/auth.log\n", 0},
		{"set sshd addignoreip 127.0.0.1/8", "These IP addresses/networks are ignored:\n`- 127.0.0.0/8\n", 0},
		{"set sshd delignoreip 127.0.0.0/8", "No IP address/network is ignored\n", 0},
		{"set sshd unbanip 198.51.100.7", "1\n", 0},
		{"unban 198.51.100.7", "0\n", 0},
		{"reload", "OK\n", 0},
		{"reload sshd", "OK\n", 0},
		{"unban --all", "2\n", 0},
		{"banned", "[{'sshd': []}, {'postfix': []}]\n", 0},
		{"-t", "OK: configuration test is successful\n", 0},
		{"flushlogs", "logs: rolled over\n", 0},
	}
	for _, tt := range tests {
		if said, code := s.habit(nil, "fail2ban-client", strings.Fields(tt.args)...); said != tt.want || code != tt.code {
			t.Errorf("fail2ban-client %s says, with exit code %d:\n%s\nwant %d:\n%s", tt.args, code, said, tt.code, tt.want)
		}
	}
	if said, code := s.habit(nil, "fail2ban-client", "status", "nosuch"); code != 255 || !strings.HasSuffix(said, "Sorry but the jail 'nosuch' does not exist\n") {
		t.Errorf("status of a jail that is not there says, with exit code %d:\n%s", code, said)
	}
	if said, code := s.habit(nil, "fail2ban-regex", "2026-11-22 10:11:12 h sshd[1]: Invalid user x from 192.0.2.1", "sshd"); code != 0 || !strings.Contains(said, "\nLines: 1 lines, 0 ignored, 1 matched, 0 missed\n") {
		t.Errorf("fail2ban-regex says, with exit code %d:\n%s", code, said)
	}
}

// The real fail2ban runs beside the guard with the same configuration, and both clients are asked the same.
func TestClientLikeFail2bans(t *testing.T) {
	need(t, "fail2ban-server", "fail2ban-client")
	s := withHabits(t, twoJails+`
action = %(action_)s
         %(mta)s-whois-lines[sender="root@localhost", logpath="%(logpath)s"]
bantime.increment = true
bantime.factor = 2
usedns = no
logtimezone = UTC+0200
ignoreip = 192.0.2.0/24
`)
	s.script("mkdir -p /run/fail2ban; sed -i 's|^dbfile.*|dbfile = :memory:|; s|^logtarget.*|logtarget = /run/fail2ban/log|' /etc/fail2ban/fail2ban.conf")
	server, err := s.Victim.Start(exec.Command("fail2ban-server", "-xf", "start"))
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop(answer)
	s.within(2*answer, "fail2ban to answer", func() (bool, error) {
		said, err := s.Victim.Run(s.ctx, "/usr/bin/fail2ban-client", "status")
		return err == nil && strings.Contains(said, "postfix, sshd"), nil
	})
	for _, args := range []string{
		"status", "status sshd", "status postfix short", "get sshd bantime", "get sshd findtime", "get sshd maxretry",
		"get sshd maxmatches", "get postfix maxlines", "get postfix usedns", "get postfix ignoreip", "get sshd ignoreself",
		"get sshd ignorecache", "get postfix logtimezone", "get sshd logencoding", "get sshd journalmatch", "get sshd datepattern",
		"get sshd prefregex", "get sshd failregex", "get postfix failregex", "get sshd ignoreregex", "get postfix actions",
		"get sshd action nftables actionban", "get sshd action nftables timeout", "get postfix bantime.increment",
		"get postfix bantime.factor", "get postfix bantime.maxtime", "get loglevel", "get logtarget", "get dbfile", "get dbpurgeage",
		"set sshd banip 198.51.100.7 198.51.100.8", "set sshd banip 198.51.100.7", "banned 198.51.100.7 9.9.9.9", "set sshd unbanip 198.51.100.7",
		"status sshd", "unban --all", "set postfix unbanip --report-absent 198.51.100.7", "get nosuch bantime", "get sshd action nosuch x", "get sshd",
	} {
		words := strings.Fields(args)
		said, code := s.habit(nil, "fail2ban-client", words...)
		want, wantCode := s.habit(nil, "/usr/bin/fail2ban-client", words...)
		if plain(said) != plain(want) || code != wantCode {
			t.Errorf("fail2ban-client %s says, with exit code %d:\n%s\nfail2ban's says %d:\n%s", args, code, said, wantCode, want)
		}
	}
}

var logLine = regexp.MustCompile(`(?m)^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (\S+ +)\[\d+\]`)

// plain is what a client said without the time of day and the process.
func plain(said string) string { return logLine.ReplaceAllString(said, "$1[]") }
