// Command demo shows the guard at work to somebody with an empty machine, in under a minute.
//
// It takes the path of the tocsin binary. In namespaces of its own it starts a real sshd on 22, 2222 and 2200, lets an
// attacker and an honest user at it, and prints what happens as it happens. The machine itself is not touched, and
// nothing is left behind however the demonstration ends.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"tocsin/e2e/lab"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	err := run(ctx, os.Args[1:])
	cancel()
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return errors.New("usage: demo PATH-OF-TOCSIN")
	}
	binary, err := filepath.Abs(args[0])
	if err != nil {
		return err
	}
	if why := lab.Missing(); why != "" {
		return fmt.Errorf("cannot run here: %s", why)
	}
	l, err := lab.New(ctx)
	if err != nil {
		return err
	}
	defer l.Close()
	s := &show{Lab: l, ctx: ctx, binary: binary}
	for _, scene := range []func() error{s.setting, s.guard, s.honest, s.attack, s.explain, s.others, s.unban, s.end} {
		if err := s.pause(); err != nil {
			return err
		}
		if err := scene(); err != nil {
			if s.proc != nil {
				err = fmt.Errorf("%w\nthe guard said:\n%s", err, s.proc.Output())
			}
			return err
		}
	}
	return nil
}

// show is the demonstration: its scenes in the order in which they are played.
type show struct {
	*lab.Lab

	ctx     context.Context
	binary  string
	proc    *lab.Proc    // the guard
	shown   int          // how much of what the guard wrote has been printed
	session *lab.Session // the honest user's
}

// patience is how long anything may take before the demonstration gives up.
const patience = 10 * time.Second

func (s *show) setting() error {
	say("Three hosts, each in namespaces of its own on this machine; nothing else of it is touched.")
	note("victim    real sshd on ports 22, 2222 and 2200, logging through a real rsyslogd")
	note("attacker  %s", lab.Attacker)
	note("honest    %s", lab.Honest)
	return nil
}

func (s *show) guard() error {
	say("The victim is guarded without any configuration.")
	command("tocsin run")
	if _, err := s.Victim.Script(s.ctx, "mkdir -p /run/tocsin /run/lab/state"); err != nil {
		return err
	}
	var err error
	s.proc, err = s.Victim.Start(exec.CommandContext(s.ctx, s.binary, "run", "--state", "/run/lab/state"))
	if err != nil {
		return err
	}
	err = s.wait("the guard did not start", func() bool {
		select {
		case <-s.proc.Done():
			return true // what follows says so
		default:
		}
		_, err := s.Victim.Run(s.ctx, s.binary, "status")
		return err == nil
	})
	s.heard()
	return err
}

func (s *show) honest() error {
	say("An honest user mistypes the password twice, then gets in, and stays.")
	var err error
	if s.session, err = s.Honest.Open(s.ctx, lab.Login{To: lab.VictimHonest, Port: 2200}); err != nil {
		return err
	}
	for _, password := range []string{"corect horse", "correct hors", lab.Password} {
		if err := s.session.Type(s.ctx, password, patience); err != nil {
			return err
		}
		note("honest    ssh -p 2200 %s@%s, password %q", lab.User, lab.VictimHonest, password)
	}
	return s.stillThere()
}

// stillThere shows that the honest user's session goes on.
func (s *show) stillThere() error {
	err := s.session.Echo(s.ctx, fmt.Sprintf("echo %d", time.Now().UnixNano()), patience)
	if err != nil {
		return fmt.Errorf("the honest user's session: %w", err)
	}
	note("honest    the session answers")
	return nil
}

func (s *show) attack() error {
	say("The attacker guesses passwords.")
	for _, user := range []string{"root", "admin", "root", "oracle", "root"} {
		end, err := s.Attacker.SSH(s.ctx, lab.Login{User: user, To: lab.VictimAttacker, Port: 2200, Password: "123456"})
		if err != nil {
			return err
		}
		result := map[lab.End]string{lab.In: "logged in", lab.Denied: "Permission denied", lab.Cut: "no answer"}[end]
		note("attacker  ssh -p 2200 %s@%s  ->  %s", user, lab.VictimAttacker, result)
	}
	err := s.wait("the attacker was not banned", func() bool { return strings.Contains(s.proc.Output(), "msg=banned") })
	if err != nil {
		return err
	}
	s.heard()
	for _, port := range lab.Ports {
		s.knock("attacker", s.Attacker, lab.At(lab.VictimAttacker, port))
	}
	return nil
}

func (s *show) explain() error {
	say("Why? The log lines that led to the ban, and what to type next.")
	return s.tocsin("why", lab.Attacker.String())
}

func (s *show) others() error {
	say("Everybody else goes on as before.")
	if err := s.stillThere(); err != nil {
		return err
	}
	for _, port := range lab.Ports {
		s.knock("honest", s.Honest, lab.At(lab.VictimHonest, port))
	}
	return s.tocsin()
}

func (s *show) unban() error {
	say("It was a mistake? One command lifts the ban.")
	if err := s.tocsin("unban", lab.Attacker.String()); err != nil {
		return err
	}
	err := s.wait("the attacker stayed banned", func() bool {
		return s.Attacker.Connect(lab.At(lab.VictimAttacker, 22), time.Second) == nil
	})
	s.knock("attacker", s.Attacker, lab.At(lab.VictimAttacker, 22))
	return err
}

func (s *show) end() error {
	if err := s.proc.Stop(5 * time.Second); err != nil {
		return err
	}
	if err := s.Close(); err != nil {
		return err
	}
	say("That was all. The three hosts are gone; this machine is as it was. To guard it: make run")
	return nil
}

// knock tries a port, and prints whether somebody opens.
func (s *show) knock(name string, from *lab.Host, to netip.AddrPort) {
	result := "open"
	if from.Connect(to, time.Second/2) != nil {
		result = "no answer"
	}
	note("%-8s  connect %s  ->  %s", name, to, result)
}

// tocsin runs a command on the victim and prints what it says.
func (s *show) tocsin(args ...string) error {
	command(strings.Join(append([]string{"tocsin"}, args...), " "))
	out, err := s.Victim.Run(s.ctx, s.binary, args...)
	for line := range strings.Lines(out) {
		fmt.Print("    ", line)
	}
	if err != nil {
		return fmt.Errorf("tocsin %s: %w", strings.Join(args, " "), err)
	}
	return nil
}

// wait polls until ok.
func (s *show) wait(otherwise string, ok func() bool) error {
	if err := lab.Poll(s.ctx, patience, func() (bool, error) { return ok(), nil }); err != nil {
		return fmt.Errorf("%s: %w", otherwise, err)
	}
	return nil
}

// heard prints what the guard has written since it was printed last.
func (s *show) heard() {
	out := s.proc.Output()
	for line := range strings.Lines(out[s.shown:]) {
		fmt.Print("    ", line)
	}
	s.shown = len(out)
}

// pause gives the person at a terminal time to read what was printed.
func (s *show) pause() error {
	if fi, err := os.Stdout.Stat(); err != nil || fi.Mode()&os.ModeCharDevice == 0 {
		return nil
	}
	select {
	case <-time.After(3 * time.Second):
		return nil
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}

func say(text string)              { fmt.Printf("\n%s\n", text) }
func note(format string, a ...any) { fmt.Printf("  "+format+"\n", a...) }
func command(text string)          { fmt.Printf("  victim# %s\n", text) }
