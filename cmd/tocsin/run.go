package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"tocsin/internal/config"
	"tocsin/internal/daemon"
)

type runCmd struct {
	Observe bool `help:"Watch, decide and show; never touch the firewall."`
	Clean   bool `help:"At the end, remove every ban from the firewall."`
	Debug   bool `help:"Log more."`

	Fail2ban       string `name:"fail2ban" placeholder:"DIR" help:"Run the jails of fail2ban's configuration in this folder, such as /etc/fail2ban."`
	BesideFail2ban bool   `name:"beside-fail2ban" help:"Run fail2ban's jails although fail2ban is running too."`
}

func (*runCmd) Help() string {
	return "Example: tocsin run --observe\n\nWithout a configuration it finds sshd's ports and log by itself and bans an address for 15 minutes after 5 failures within 10 minutes.\n\nWith --fail2ban every enabled jail of fail2ban's own configuration runs in place of that. tocsin check --fail2ban says what that means."
}

func (r *runCmd) Run(e *env) error {
	e.fail2ban = r.Fail2ban
	load := func() (*config.Config, string, error) {
		c, path, err := e.config()
		if err == nil && r.Observe {
			c.Guard.Observe = true
		}
		return c, path, err
	}
	c, path, err := load()
	if err != nil {
		return err
	}
	// A second ^C ends the program at once: stop gives the signals back what they do by themselves.
	ctx, stop := signal.NotifyContext(e.ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	defer staySlim()()
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	defer signal.Stop(reload)
	say := e.stdout
	if e.flags.JSON {
		say = sayJSON{e.stdout}
	}
	return daemon.Run(ctx, daemon.Options{
		Config: c, Path: path, Load: load,
		Observe: r.Observe, Clean: r.Clean, Watch: true, BesideFail2ban: r.BesideFail2ban, Version: version(), Name: calledAs(),
		Say: say, Terminal: isTerminal(e.stdout) && !e.flags.JSON, Log: e.logger(r.Debug),
	}, reload)
}

// isTerminal says whether a person reads what is written to w.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// sayJSON makes an object of each line that the guard says at its start: its first word, and the rest.
type sayJSON struct{ w io.Writer }

func (s sayJSON) Write(p []byte) (int, error) {
	for line := range strings.Lines(string(p)) {
		word, text, _ := strings.Cut(strings.TrimSpace(line), " ")
		if err := encode(s.w, said{"tocsin.run/1", word, strings.TrimSpace(text)}); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// said is what `tocsin run --json` prints for each line.
type said struct {
	Schema string `json:"schema"`
	What   string `json:"what"` // found, watching, banning, observing, off, measuring, sharing, blocking, exit, pages
	Text   string `json:"text"`
}

// calledAs is what the person at this terminal has to type to call the program: its name where the shell would find this
// very file, else the way they called it.
func calledAs() string {
	const name = "tocsin"
	self, err := os.Executable()
	if err != nil {
		return name
	}
	if found, err := exec.LookPath(name); err == nil {
		if found, err = filepath.EvalSymlinks(found); err == nil && found == self {
			return name
		}
	}
	return os.Args[0]
}

// logger logs to standard error, without the time where systemd adds its own (systemd.exec(5), JOURNAL_STREAM).
func (e *env) logger(debug bool) *slog.Logger {
	o := slog.HandlerOptions{Level: slog.LevelInfo}
	if debug {
		o.Level = slog.LevelDebug
	}
	if os.Getenv("JOURNAL_STREAM") != "" {
		o.ReplaceAttr = func(groups []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey && len(groups) == 0 {
				return slog.Attr{}
			}
			return a
		}
	}
	if e.flags.JSON {
		return slog.New(slog.NewJSONHandler(e.stderr, &o))
	}
	return slog.New(slog.NewTextHandler(e.stderr, &o))
}
