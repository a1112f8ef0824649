package e2e

import (
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"tocsin/internal/api"
)

// The configuration of fail2ban in these tests, on the victim.
const (
	actorDir = "/run/lab/f2b"
	actorLog = "/run/lab/attack.log"
	actorOut = "/run/lab/out" // what the actions write
)

// actors writes a folder of fail2ban with a jail for each action, and the log that all of them read.
func (s *scene) actors(actions map[string]string) {
	s.t.Helper()
	s.write(actorDir+"/filter.d/any.conf", "[Definition]\nfailregex = ^\\s*failure of <HOST>$\n", 0o644)
	jails := "[DEFAULT]\nenabled = true\nfilter = any\nmaxretry = 3\nbackend = polling\nlogpath = " + actorLog + "\n"
	for name, text := range actions {
		s.write(actorDir+"/action.d/"+name+".conf", text, 0o644)
		jails += fmt.Sprintf("[%s]\naction = nftables-allports[name=%s]\n  %s\n", name, name, name)
	}
	if _, err := s.Victim.Run(s.ctx, "sh", "-c", "cp /etc/fail2ban/action.d/nftables*.conf "+actorDir+"/action.d/"); err != nil {
		s.t.Skipf("the actions of Debian's fail2ban are not installed: %v", err)
	}
	s.write(actorDir+"/jail.local", jails, 0o644)
	s.write(actorLog, "", 0o644)
}

// attacked lets an address fail often enough for all jails.
func (s *scene) attacked(addr string) {
	s.t.Helper()
	script := fmt.Sprintf("for i in 1 2 3; do echo \"$(date '+%%F %%T') failure of %s\" >>%s; done", addr, actorLog)
	if _, err := s.Victim.Script(s.ctx, script); err != nil {
		s.t.Fatal(err)
	}
}

func (s *scene) wrote(want string) {
	s.t.Helper()
	s.within(answer, fmt.Sprintf("the actions to write %q", want), func() (bool, error) {
		text, _ := s.Victim.Read(actorOut)
		return strings.Contains(text, want), nil
	})
}

// living lists the processes on the victim that are alive and whose command line has a text.
func (s *scene) living(text string) (all []string) {
	s.t.Helper()
	out, err := s.Victim.Run(s.ctx, "ps", "-eo", "pid,stat,user,args", "-ww")
	if err != nil {
		s.t.Fatal(err)
	}
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) > 3 && !strings.HasPrefix(f[1], "Z") && strings.Contains(strings.Join(f[3:], " "), text) {
			all = append(all, line)
		}
	}
	return all
}

// An action that hangs holds up neither its own jail's ban in the firewall, nor another jail, nor the control socket; and
// kill -9 of the guard leaves neither the runner nor anything that it ran.
func TestHangingAction(t *testing.T) {
	s := newScene(t, time.Minute)
	need(t, "nft", "ps")
	s.actors(map[string]string{
		"hang": "[Definition]\nactionban = sleep 4321 & echo hangs >>" + actorOut + "; sleep 4321; wait\n",
		"rec":  "[Definition]\nactionban = echo rec <ip> >>" + actorOut + "\nactionunban = echo lifted <ip> >>" + actorOut + "\n",
	})
	s.run("--fail2ban", actorDir)
	s.attacked("192.0.2.77")
	s.wrote("hangs\n")
	s.wrote("rec 192.0.2.77\n")
	began := time.Now()
	if bans := ask[api.Bans](s, "bans"); len(bans.Bans) != 2 {
		t.Errorf("bans while an action hangs: %+v, want those of both jails", bans.Bans)
	}
	s.attacked("192.0.2.78")
	s.wrote("rec 192.0.2.78\n")
	s.must("unban", "192.0.2.78")
	s.wrote("lifted 192.0.2.78\n")
	t.Logf("beside an action that hangs, three commands took %v", time.Since(began))
	if rules, err := s.Victim.Run(s.ctx, "nft", "list", "table", "inet", "tocsin"); err != nil || !strings.Contains(rules, "192.0.2.77") {
		t.Errorf("192.0.2.77 is not in the firewall: %v\n%s", err, rules)
	}
	if len(s.living("sleep 4321")) == 0 || len(s.living("runner --fail2ban")) == 0 {
		t.Fatal("nothing hangs")
	}
	if err := s.guard.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s.within(answer, "the runner and what it ran to be gone", func() (bool, error) {
		return len(s.living("sleep 4321"))+len(s.living("runner --fail2ban"))+len(s.living("tocsin run")) == 0, nil
	})
}

// sandbox is what is left of root in the guard's unit.
var sandbox = []string{
	"setpriv", "--bounding-set", "-all,+net_admin,+dac_read_search", "--inh-caps", "-all", "--no-new-privs", "--regid", "4243", "--clear-groups",
}

// As systemd runs them: the runner with root's power, the guard with two capabilities of it, and a socket between.
func TestRunnerAsAService(t *testing.T) {
	s := newScene(t, time.Minute)
	need(t, "setpriv", "ps")
	s.actors(map[string]string{
		"rec": "[Definition]\nactionban = grep CapEff /proc/self/status >>" + actorOut + "; echo restored=<restored> <ip> >>" + actorOut + "\nactionstop = echo stopped >>" + actorOut + "\n",
	})
	runner, err := s.Victim.Start(exec.Command(program, "runner", "--fail2ban", actorDir, "--listen", "/run/lab/runner.sock"))
	if err != nil {
		t.Fatal(err)
	}
	s.within(answer, "the runner to listen", func() (bool, error) {
		return strings.Contains(runner.Output(), "waiting for a guard"), nil
	})
	s.under = sandbox
	s.run("--fail2ban", actorDir)
	s.within(answer, "the one runner that listens", func() (bool, error) { return len(s.living("runner --fail2ban")) == 1, nil })
	s.attacked("192.0.2.77")
	s.wrote("restored=0 192.0.2.77\n")
	if text, _ := s.Victim.Read(actorOut); strings.Contains(text, "CapEff:\t0000000000001004") {
		t.Errorf("the action has the guard's capabilities: %s", text)
	}
	// A runner that was away is found again, and nothing is lost.
	if err := runner.Stop(answer); err != nil {
		t.Fatal(err)
	}
	s.attacked("192.0.2.78")
	if runner, err = s.Victim.Start(exec.Command(program, "runner", "--fail2ban", actorDir, "--listen", "/run/lab/runner.sock")); err != nil {
		t.Fatal(err)
	}
	s.wrote("restored=0 192.0.2.78\n")
	s.stop()
	s.wrote("stopped\n")
	if err := runner.Stop(answer); err != nil {
		t.Fatal(err)
	}
}

// The sandbox of the guard's unit is no place for the user's commands: without a runner they do not run, and that is said.
func TestNoRunnerForASandboxedGuard(t *testing.T) {
	s := newScene(t, time.Minute)
	need(t, "setpriv")
	s.actors(map[string]string{"rec": "[Definition]\nactionban = echo rec <ip> >>" + actorOut + "\n"})
	s.under = sandbox
	s.run("--fail2ban", actorDir)
	s.attacked("192.0.2.77")
	s.within(answer, "the ban", func() (bool, error) { return s.banned()["192.0.2.77/32"], nil })
	said, code := s.try("doctor")
	if code != api.ExitFindings || !strings.Contains(said, "tocsin-runner") {
		t.Errorf("doctor: code %d: %s; want that it tells how to get a runner", code, said)
	}
	if text, err := s.Victim.Read(actorOut); err == nil {
		t.Errorf("the action ran: %s", text)
	}
	s.stop()
}

// Debian's own mail action, as people have it: the lines of the log reach the mail as they are, nothing of them is run, and
// a restart mails nobody's ban again.
func TestMailOfDebiansAction(t *testing.T) {
	s := newScene(t, time.Minute)
	if _, err := s.Victim.Run(s.ctx, "test", "-d", "/etc/fail2ban/action.d"); err != nil {
		t.Skipf("Debian's fail2ban is not installed: %v", err)
	}
	const mails, trap = "/run/lab/mails", "/run/lab/trapped"
	s.write("/run/lab/sendmail", "#!/bin/sh\n{ echo \"to $*\"; cat; echo; } >>"+mails+"\n", 0o755)
	if _, err := s.Victim.Run(s.ctx, "sh", "-c", "cp -r /etc/fail2ban "+actorDir+" && rm -f "+actorDir+"/jail.d/*"); err != nil {
		t.Fatal(err)
	}
	s.write(actorDir+"/action.d/sendmail-common.local", "[Init]\nmailcmd = /run/lab/sendmail -f \"<sender>\" \"<dest>\"\n", 0o644)
	s.write(actorDir+"/jail.local", "[sshd]\nenabled = true\nbackend = polling\nlogpath = "+actorLog+"\ndestemail = root@example.org\naction = %(action_mwl)s\n", 0o644)
	s.write(actorLog, "", 0o644)
	s.run("--fail2ban", actorDir)
	user := "$(touch " + trap + ")`touch " + trap + "`'\";|&"
	lines := fmt.Sprintf("for i in 1 2 3 4 5; do echo \"$(date '+%%F %%T') h sshd[$i]: Failed password for invalid user \"'%s'\" from 192.0.2.9 port 4000 ssh2\" >>%s; done",
		strings.ReplaceAll(user, "'", `'\''`), actorLog)
	if _, err := s.Victim.Script(s.ctx, lines); err != nil {
		t.Fatal(err)
	}
	mail := func() string { text, _ := s.Victim.Read(mails); return text }
	const subject = "Subject: [Fail2Ban] sshd: banned 192.0.2.9 from "
	s.within(answer, "the whole mail", func() (bool, error) {
		_, banned, ok := strings.Cut(mail(), subject)
		return ok && strings.Contains(banned, "Regards,"), nil // its end; a mail is written piece by piece
	})
	for _, want := range []string{"root@example.org\n", "5 attempts against sshd.", "invalid user " + user + " from 192.0.2.9"} {
		if !strings.Contains(mail(), want) {
			t.Errorf("%q is not in the mail:\n%s", want, mail())
		}
	}
	s.stop()
	s.again()
	s.within(answer, "the second start's mail", func() (bool, error) { return strings.Count(mail(), "sshd: started on ") == 2, nil })
	s.stop()
	if n := strings.Count(mail(), subject); n != 1 {
		t.Errorf("%d mails of one ban:\n%s", n, mail())
	}
	if _, err := s.Victim.Read(trap); err == nil {
		t.Error("text of the log was run")
	}
}
