package main

import "tocsin/internal/daemon"

type restoreCmd struct{}

func (*restoreCmd) Help() string {
	return "Example: systemctl enable tocsin-restore\n\nBans and lists come back into the firewall from what the last guard kept, and the program ends. At boot that is before the network is up, while the guard waits for sshd."
}

func (*restoreCmd) Run(e *env) error {
	c, path, err := e.config()
	if err != nil {
		return err
	}
	return e.change(daemon.Restore(e.ctx, daemon.Options{Config: c, Path: path, Version: version(), Say: e.stdout, Log: e.logger(false)}))
}
