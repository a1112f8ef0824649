package e2e

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"tocsin/e2e/lab"
	"tocsin/internal/api"
)

// fail2banJails is what an admin would have written beside Debian's own files: six jails, bans that end soon enough for
// an address to be banned again and again, and times that are short, so that the test is.
const fail2banJails = `
[DEFAULT]
banaction = nftables
banaction_allports = nftables[type=allports]
backend = polling
findtime = 30
bantime = 6
maxretry = 5
usedns = no
[sshd]
enabled = true
backend = polling
[recidive]
enabled = true
bantime = 1h
findtime = 1h
maxretry = 3
[postfix-sasl]
enabled = true
backend = polling
bantime = 1h
[dovecot]
enabled = true
backend = polling
bantime = 1h
[apache-auth]
enabled = true
bantime = 1h
[nginx-http-auth]
enabled = true
bantime = 1h
`

const fail2banLocal = `
[Definition]
dbfile = /run/lab/fail2ban.sqlite3
socket = /run/lab/fail2ban.sock
pidfile = /run/lab/fail2ban.pid
`

// The logs that the six jails read on Debian.
const (
	mailLog   = "/var/log/mail.log"
	apacheLog = "/var/log/apache2/error.log"
	nginxLog  = "/var/log/nginx/error.log"
)

// service is one that logs failed logins: how a line of it looks at that moment, and in which log.
type service struct {
	jail, log string
	line      func(from string, at time.Time, n int) string
}

var services = []service{
	{"sshd", lab.AuthLog, func(from string, at time.Time, n int) string {
		return fmt.Sprintf("%s victim sshd[%d]: Failed password for root from %s port %d ssh2",
			at.Format("2006-01-02T15:04:05.000000-07:00"), 9000+n, from, 40000+n)
	}},
	{"postfix-sasl", mailLog, func(from string, at time.Time, n int) string {
		return fmt.Sprintf("%s victim postfix/smtpd[%d]: warning: unknown[%s]: SASL LOGIN authentication failed: authentication failure",
			at.Format(time.Stamp), 700+n, from)
	}},
	{"dovecot", mailLog, func(from string, at time.Time, n int) string {
		return fmt.Sprintf("%s victim dovecot: imap-login: Disconnected: Inactivity (auth failed, 1 attempts in 5 secs): "+
			"user=<anna>, method=PLAIN, rip=%s, lip=192.0.2.1, TLS, session=<q%d>", at.Format(time.Stamp), from, n)
	}},
	{"apache-auth", apacheLog, func(from string, at time.Time, n int) string {
		return fmt.Sprintf("[%s] [auth_basic:error] [pid %d:tid 1] [client %s:%d] AH01617: user anna: authentication failure for \"/\": Password Mismatch",
			at.Format("Mon Jan 02 15:04:05.000000 2006"), 300+n, from, 50000+n)
	}},
	{"nginx-http-auth", nginxLog, func(from string, at time.Time, n int) string {
		return fmt.Sprintf("%s [error] 12#12: *%d user \"anna\": password mismatch, client: %s, server: www, request: \"GET / HTTP/1.1\", host: \"www\"",
			at.Format("2006/01/02 15:04:05"), n, from)
	}},
}

// duel is the same configuration on two hosts: Tocsin guards one, Debian's fail2ban the other.
type duel struct {
	*scene
	other *lab.Host
	n     int
}

func newDuel(t *testing.T, limit time.Duration) *duel {
	t.Helper()
	s := newScene(t, limit)
	if _, err := lab.Look("fail2ban-server"); err != nil {
		t.Skip("fail2ban is not installed (scripts/setup.sh installs it)")
	}
	s.stopLog() // the lines are ours
	other, err := s.Add(s.ctx, "fail2ban")
	if err != nil {
		t.Fatal(err)
	}
	d := &duel{scene: s, other: other}
	for _, h := range []*lab.Host{s.Victim.Host, other} {
		for name, text := range map[string]string{
			"/etc/fail2ban/jail.local": fail2banJails, "/etc/fail2ban/fail2ban.local": fail2banLocal,
			lab.AuthLog: "", mailLog: "", apacheLog: "", nginxLog: "", "/var/log/fail2ban.log": "",
		} {
			if err := h.Write(name, text, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	return d
}

// fail2ban starts Debian's server and waits until it has read its logs.
func (d *duel) fail2ban() {
	d.t.Helper()
	if _, err := d.other.Start(exec.Command("fail2ban-server", "-xf", "start")); err != nil {
		d.t.Fatal(err)
	}
	d.within(2*answer, "fail2ban to answer", func() (bool, error) {
		out, err := d.client("status")
		return err == nil && strings.Contains(out, "recidive"), nil
	})
}

func (d *duel) client(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(d.ctx, 2*answer)
	defer cancel()
	return d.other.Run(ctx, "fail2ban-client", args...)
}

// fails logs failures of an address on both hosts, each line at the same moment and with the same text.
func (d *duel) fails(at service, from string, times int) {
	d.t.Helper()
	for range times {
		d.n++
		line := at.line(from, time.Now(), d.n)
		for _, h := range d.hosts() {
			appendTo(d.t, h, at.log, line+"\n")
		}
	}
}

func appendTo(t *testing.T, h *lab.Host, name, text string) {
	t.Helper()
	f, err := os.OpenFile(h.Path(name), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

// hosts are the two that are attacked.
func (d *duel) hosts() []*lab.Host { return []*lab.Host{d.Victim.Host, d.other} }

// said counts what a fail2ban.log tells of an id.
func (d *duel) said(h *lab.Host, jail, what, id string) int {
	d.t.Helper()
	text, err := h.Read("/var/log/fail2ban.log")
	if err != nil {
		d.t.Fatal(err)
	}
	return strings.Count(text, fmt.Sprintf("NOTICE  [%s] %s %s\n", jail, what, id))
}

var banLine = regexp.MustCompile(`NOTICE\s+\[([^\]]+)\] Ban (\S+)`)

// bans are the bans that a fail2ban.log tells of, "JAIL ID", each once.
func (d *duel) bans(h *lab.Host) []string {
	d.t.Helper()
	text, err := h.Read("/var/log/fail2ban.log")
	if err != nil {
		d.t.Fatal(err)
	}
	all := map[string]bool{}
	for _, m := range banLine.FindAllStringSubmatch(text, -1) {
		all[m[1]+" "+m[2]] = true
	}
	return slices.Sorted(maps.Keys(all))
}

// The same configuration, the same lines at the same moment: the same addresses are banned by the same jails, but for
// those that `tocsin diff fail2ban` explains. The jail recidive reads the log that Tocsin writes in fail2ban's form.
func TestBesideFail2ban(t *testing.T) {
	t.Parallel() // it waits for fail2ban
	d := newDuel(t, 4*time.Minute)
	d.fail2ban()
	d.run("--fail2ban", "/etc/fail2ban")

	var want []string
	for i, at := range services {
		v4, v6 := fmt.Sprintf("203.0.113.%d", i+1), fmt.Sprintf("2001:db8:bad::%d", i+1)
		want = append(want, at.jail+" "+v4, at.jail+" "+v6)
		d.fails(at, v4, 5)
		d.fails(at, fmt.Sprintf("203.0.113.%d", 100+i), 4)
		d.fails(at, v6, 5)
		for neighbour := range 2 { // of one /64; each has too few
			d.fails(at, fmt.Sprintf("2001:db8:bad:%d::%d", i+1, neighbour+1), 3)
		}
	}
	ssh := services[0]
	const again, slow, mangled = "203.0.113.222", "203.0.113.200", "999.1.1.1"
	d.fails(ssh, mangled, 5)

	for round := range 3 { // banned three times: recidive
		d.fails(ssh, again, 5)
		for _, h := range d.hosts() {
			d.within(2*answer, h.Name+" to ban "+again+" and to lift the ban", func() (bool, error) {
				return d.said(h, "sshd", "Ban", again) > round && d.said(h, "sshd", "Unban", again) > round, nil
			})
		}
	}
	want = append(want, "sshd "+again, "recidive "+again)

	// Five failures in 33 seconds, none of the pauses long enough for fail2ban to forget the first ones: its rate estimate
	// makes five within thirty seconds of them, the window holds two.
	began := time.Now()
	d.fails(ssh, slow, 3)
	for _, after := range []time.Duration{24 * time.Second, 33 * time.Second} {
		time.Sleep(time.Until(began.Add(after)))
		d.fails(ssh, slow, 1)
	}

	d.within(2*answer, "both to have decided", func() (bool, error) {
		return d.said(d.other, "recidive", "Ban", again) > 0 && d.said(d.Victim.Host, "recidive", "Ban", again) > 0 &&
			d.said(d.other, "sshd", "Ban", slow) > 0, nil
	})
	slices.Sort(want)
	if ours := d.bans(d.Victim.Host); !slices.Equal(ours, want) {
		t.Errorf("Tocsin banned\n%s\nwant\n%s", strings.Join(ours, "\n"), strings.Join(want, "\n"))
	}
	theirs := slices.Concat(want, []string{"sshd " + slow, "sshd " + mangled})
	slices.Sort(theirs)
	if got := d.bans(d.other); !slices.Equal(got, theirs) {
		t.Errorf("fail2ban banned\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(theirs, "\n"))
	}
	said := d.must("diff", "fail2ban", "--fail2ban", "/etc/fail2ban", "--since", "1h")
	for id, why := range map[string]string{slow: "estimate", mangled: "no address"} {
		if !explains(said, id, why) {
			t.Errorf("tocsin diff does not explain %s by %q:\n%s", id, why, said)
		}
	}
}

// explains says whether a line of the text tells of id and why, or the line behind it does.
func explains(text, id, why string) bool {
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		if strings.Contains(l, id) && (strings.Contains(l, why) || i+1 < len(lines) && strings.Contains(lines[i+1], why)) {
			return true
		}
	}
	return false
}

// A restart with 20,000 bans: all are in force again at once, where fail2ban runs 20,000 commands.
func TestRestartWithManyBans(t *testing.T) {
	const many = 20_000
	s := newScene(t, 3*time.Minute)
	if _, err := os.Stat("/etc/fail2ban/jail.conf"); err != nil {
		t.Skip("fail2ban is not installed (scripts/setup.sh installs it)")
	}
	s.stopLog()
	s.write("/etc/fail2ban/jail.local", "[DEFAULT]\nbanaction = nftables\nbantime = 1h\nbackend = polling\n", 0o644)
	s.write(lab.AuthLog, "", 0o644)
	s.run("--fail2ban", "/etc/fail2ban")
	var b strings.Builder
	for i := range many {
		for n := range 5 {
			b.WriteString(services[0].line(fmt.Sprintf("10.%d.%d.%d", 1+i>>16, i>>8&255, i&255), time.Now(), n))
			b.WriteByte('\n')
		}
	}
	appendTo(t, s.Victim.Host, lab.AuthLog, b.String())
	s.within(4*answer, "all to be banned", func() (bool, error) {
		return ask[api.Status](s, "status").BansNow == many, nil
	})
	s.stop()
	s.script("nft delete table inet tocsin") // as after a reboot
	began := time.Now()
	s.again()
	s.within(2*answer, "all bans to be in force again", func() (bool, error) {
		out, err := s.Victim.Run(s.ctx, "nft", "list", "table", "inet", "tocsin")
		return strings.Count(out, "expires") >= many, err
	})
	t.Logf("%d bans in force %v after the start", many, time.Since(began).Round(10*time.Millisecond))
}
