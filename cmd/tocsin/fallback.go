package main

import (
	"os"
	"path/filepath"

	"tocsin/internal/config"
)

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
		if _, err := os.Stat(c.Socket); err != nil {
			c.Socket = filepath.Join(c.State, "guard.sock")
		}
	}
}

func userFolder(variable, underHome string) string {
	if dir := os.Getenv(variable); filepath.IsAbs(dir) {
		return dir
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, underHome)
}
