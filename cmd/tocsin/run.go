package main

import (
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"tocsin/internal/daemon"
)

type runCmd struct {
	Observe bool `help:"Watch, decide and show; never touch the firewall."`
	Clean   bool `help:"At the end, remove every ban from the firewall."`
	Debug   bool `help:"Log more."`
}

func (*runCmd) Help() string {
	return "Example: tocsin run --observe\n\nWithout a configuration it finds sshd's ports and log by itself and bans an address for 15 minutes after 5 failures within 10 minutes."
}

func (r *runCmd) Run(e *env) error {
	c, path, err := e.config()
	if err != nil {
		return err
	}
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	defer signal.Stop(reload)
	return daemon.Run(e.ctx, daemon.Options{
		Config: c, Path: path, Load: e.config,
		Observe: r.Observe, Clean: r.Clean, Version: version(),
		Say: e.stdout, Log: e.logger(r.Debug),
	}, reload)
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
	return slog.New(slog.NewTextHandler(e.stderr, &o))
}
