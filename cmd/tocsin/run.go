package main

import (
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"tocsin/internal/config"
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
	level := slog.LevelInfo
	if r.Debug {
		level = slog.LevelDebug
	}
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	defer signal.Stop(reload)
	return daemon.Run(e.ctx, daemon.Options{
		ConfigPath: path, Config: c, Adjust: func(c *config.Config) { e.adjust(c) },
		Observe: r.Observe, Clean: r.Clean, Version: version(),
		Say: e.stdout, Log: slog.New(slog.NewTextHandler(e.stderr, &slog.HandlerOptions{Level: level})),
	}, reload)
}
