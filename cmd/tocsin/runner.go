package main

import (
	"os"
	"os/signal"
	"slices"
	"syscall"

	"tocsin/internal/api"
	"tocsin/internal/config"
	"tocsin/internal/daemon"
	"tocsin/internal/exec"
)

type runnerCmd struct {
	Fail2ban string `name:"fail2ban" placeholder:"DIR" help:"Folder of fail2ban's configuration (default: that of the configuration)."`
	Listen   string `placeholder:"PATH" help:"Where the guard finds it (default: runner.sock beside the guard's socket)."`
	FD       int    `name:"fd" hidden:"" help:"The stream to the guard that started it."`
}

func (*runnerCmd) Help() string {
	return "Example: systemctl enable --now tocsin-runner\n\nThe guard gives up root's power and runs no shell. This process keeps it, and does what the guard names: the commands of fail2ban's actions, and only those that root alone can write."
}

func (k *runnerCmd) Run(e *env) error {
	ctx, stop := signal.NotifyContext(e.ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	defer staySlim()()
	o := daemon.RunnerOptions{Dir: k.Fail2ban, Socket: k.Listen, Log: e.logger(false)}
	if k.FD > 0 {
		var err error
		if o.Conn, err = exec.Inherited(k.FD); err != nil {
			return err
		}
		// The guard began with this configuration. One that was broken since leaves the actions that it names.
		if c, _, err := e.config(); err == nil && c.Watch.Enabled {
			o.Socket, o.Munin, o.Watch, o.Config = daemon.RunnerSocket(c.Socket), muninOptions(c), true, e.reread
		}
		return daemon.RunRunner(ctx, o)
	}
	c, _, err := e.config()
	if err != nil {
		return err
	}
	if o.Dir == "" {
		o.Dir = c.Fail2ban.Dir
	}
	if o.Socket == "" {
		o.Socket = daemon.RunnerSocket(c.Socket)
	}
	o.Munin, o.Watch, o.Config = muninOptions(c), c.Watch.Enabled, e.reread
	return daemon.RunRunner(ctx, o)
}

// reread reads the configuration as it is now.
func (e *env) reread() (*config.Config, error) {
	c, _, err := e.config()
	return c, err
}

func muninOptions(c *config.Config) daemon.MuninOptions {
	return daemon.MuninOptions{Plugins: c.Watch.MuninPlugins, State: daemon.PluginState(c.State)}
}

// resolverCmd is the runner's child that asks name servers.
type resolverCmd struct {
	FD int `name:"fd" required:"" help:"The stream to the runner."`
}

func (k *resolverCmd) Run(e *env) error {
	conn, err := exec.Inherited(k.FD)
	if err != nil {
		return api.Errorf(api.ExitUsage, "the runner starts it itself", err.Error())
	}
	return daemon.RunResolver(e.ctx, conn)
}

// starterCmd is the guard's child that starts the watch process and the runner.
type starterCmd struct {
	FD       int    `name:"fd" required:"" help:"The stream to the guard."`
	LogFD    int    `name:"log-fd" required:"" help:"Where the watch process logs."`
	Fail2ban string `name:"fail2ban" help:"Folder of fail2ban's configuration, for the runner."`
	Link     string `name:"link" help:"What the watch process is told of the link to the pages."`
}

func (k *starterCmd) Run(e *env) error {
	defer staySlim()()
	// It ends when the guard does. Signals that it ignored its children would ignore too.
	signal.Notify(make(chan os.Signal, 1), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	conn, err := exec.Inherited(k.FD)
	if err != nil {
		return api.Errorf(api.ExitUsage, "tocsin run starts it itself", err.Error())
	}
	places := []string{"--state", e.flags.State, "--socket", e.flags.Socket}
	if e.flags.Config != "" {
		places = append(places, "--config", e.flags.Config)
	}
	watch := slices.Concat(places, []string{"watch", "--log-fd", "3", "--life-fd", "4"})
	if k.Link != "" {
		watch = append(watch, "--link", k.Link)
	}
	return daemon.RunStarter(daemon.StarterOptions{
		Guard: conn, Output: os.NewFile(uintptr(k.LogFD), "log"), Log: e.logger(false),
		Watch:  watch,
		Runner: slices.Concat(places, []string{"runner", "--fail2ban", k.Fail2ban, "--fd", "3"}),
	})
}
