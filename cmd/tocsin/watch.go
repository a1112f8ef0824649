package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"tocsin/internal/config"
	"tocsin/internal/daemon"
)

type watchCmd struct {
	LogFD  int    `name:"log-fd" hidden:"" help:"Where it logs instead of standard error."`
	LifeFD int    `name:"life-fd" hidden:"" help:"It ends when the other end of this pipe does."`
	Link   string `hidden:"" help:"What the guard tells of the link to the pages that it printed."`
	Debug  bool   `help:"Log more."`
}

func (*watchCmd) Help() string {
	return "Example: systemctl enable --now tocsin-watch\n\nIt fetches the lists of the configuration and hands them to the guard, and reports whom the guard banned if that is switched on. It alone talks to the network, and has no privilege. tocsin run starts it itself; as services they are two."
}

func (k *watchCmd) Run(e *env) error {
	load := func() (*config.Config, string, error) { return e.config() }
	c, _, err := load()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(e.ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	defer staySlim()()
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	defer signal.Stop(reload)
	if k.LogFD > 0 {
		e.stderr = os.NewFile(uintptr(k.LogFD), "log")
	}
	if k.LifeFD > 0 {
		life := os.NewFile(uintptr(k.LifeFD), "life")
		go func() {
			_, _ = io.Copy(io.Discard, life) // it says nothing; it ends
			stop()
		}()
	}
	return daemon.RunWatch(ctx, daemon.WatchOptions{Config: c, Load: load, Version: version(), Link: k.Link, Log: e.logger(k.Debug)}, reload)
}
