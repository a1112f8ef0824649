package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"tocsin/internal/api"
	"tocsin/internal/config"
	"tocsin/internal/daemon"
)

// defaultConfig is read if it is there and no other is named.
const defaultConfig = "/etc/tocsin/tocsin.toml"

// config reads the configuration that the command line names, or else the usual one or none, and lets the command line have
// the last word. path is the file, "" for the built-in configuration.
func (e *env) config() (c *config.Config, path string, err error) {
	path = e.flags.Config
	if path == "" {
		if _, err := os.Stat(defaultConfig); err == nil {
			path = defaultConfig
		}
	}
	c = config.Default()
	if path != "" {
		var mistakes config.Errors
		switch c, err = config.Load(path); {
		case errors.As(err, &mistakes) && c != nil:
			return nil, path, daemon.Mistakes(c, mistakes)
		case err != nil:
			return nil, path, err
		}
	}
	e.adjust(c)
	if e.fail2ban != "" {
		dir, err := filepath.Abs(e.fail2ban)
		if err != nil {
			return nil, path, fmt.Errorf("find folder %s: %w", e.fail2ban, err)
		}
		c.RunFail2ban(dir)
	}
	return c, path, nil
}

// adjust puts the flags over the configuration.
func (e *env) adjust(c *config.Config) {
	fallBack(c)
	c.State = cmp.Or(e.flags.State, c.State)
	c.Socket = cmp.Or(e.flags.Socket, c.Socket)
}

// place is where a guard keeps its state and where it answers.
type place struct{ state, socket string }

// place finds the guard that the command line or the configuration means. A configuration with mistakes must not keep
// anybody from asking, and neither must one that only root may read; one that was named and cannot be opened is a mistake
// on the command line: the answer would come from another guard.
func (e *env) place() (place, error) {
	c, path, err := e.config()
	var mistakes config.Errors
	switch {
	case err == nil:
		return place{c.State, c.Socket}, nil
	case errors.As(err, &mistakes):
		c = config.Default()
		state, socket := config.Places(path)
		c.State, c.Socket = cmp.Or(state, c.State), cmp.Or(socket, c.Socket)
		return e.placeOf(c), nil
	case e.flags.Config == "":
		return e.placeOf(config.Default()), nil
	}
	return place{}, err
}

// placeOf is the place that a configuration and the command line name.
func (e *env) placeOf(c *config.Config) place {
	e.adjust(c)
	return place{c.State, c.Socket}
}

// client is handed to the commands that ask a guard.
func (e *env) client() (*api.Client, error) {
	at, err := e.place()
	if err != nil {
		return nil, err
	}
	return api.NewClient(at.socket), nil
}

// fallBack moves state and socket to the user's own folders where the usual ones are for root only, so that somebody
// without root can try the program with no setting at all. What the configuration says explicitly stays.
func fallBack(c *config.Config) {
	if os.Geteuid() == 0 {
		return
	}
	usual := config.Default()
	if c.State == usual.State {
		if dir := userFolder("XDG_STATE_HOME", ".local/state"); dir != "" {
			c.State = filepath.Join(dir, "tocsin")
		}
	}
	if c.Socket == usual.Socket {
		// A socket that may not be looked at belongs to a guard, and its refusal is the answer to give.
		if _, err := os.Stat(c.Socket); errors.Is(err, fs.ErrNotExist) {
			c.Socket = filepath.Join(c.State, "guard.sock")
		}
	}
}

// userFolder is where the user's programs keep their state. Accounts of services have no home that exists: they get a
// folder of their own among the temporary files.
func userFolder(variable, underHome string) string {
	if dir := os.Getenv(variable); filepath.IsAbs(dir) {
		return dir
	}
	if home, err := os.UserHomeDir(); err == nil {
		if fi, err := os.Stat(home); err == nil && fi.IsDir() {
			return filepath.Join(home, underHome)
		}
	}
	return temporaryFolder()
}

// temporaryFolder is a folder with a known name that is certainly ours, "" if somebody else was there first.
func temporaryFolder() string {
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("tocsin-%d", os.Getuid()))
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return ""
	}
	fi, err := os.Lstat(dir)
	if err != nil || !fi.IsDir() || fi.Mode().Perm()&0o077 != 0 {
		return ""
	}
	if st, ok := fi.Sys().(*syscall.Stat_t); !ok || int(st.Uid) != os.Getuid() {
		return ""
	}
	return dir
}
