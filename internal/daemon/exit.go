package daemon

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"tocsin/internal/api"
)

// exit is what the running guard knows of its emergency exit. It is safe for use by several goroutines: the decider, which
// must never wait for a disk, reads it; others look at the file.
type exit struct {
	file atomic.Bool // the file said so when it was looked at last
	held atomic.Bool // somebody opened it over the socket, and the file could not be written
}

const offText = "off: watching and deciding, the firewall is not touched until `tocsin on`"

// off says whether the firewall must be left alone.
func (g *Guard) off() bool { return g.exit.file.Load() || g.exit.held.Load() }

// lookAtExit asks the file whether the exit is open. If the file cannot be read, what was known stays.
func (g *Guard) lookAtExit(now time.Time) bool {
	until, open, err := ExitOpen(g.state, now)
	if err != nil {
		g.trouble.add("emergency exit", err)
		return g.off()
	}
	g.exit.file.Store(open)
	if !open && !until.IsZero() {
		// It has run out. A clock that begins in the past at the next boot must not find it open again.
		if err := os.Remove(filepath.Join(g.state, offFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
			g.trouble.add("emergency exit", err)
		}
	}
	return g.off()
}

// mayRestore is asked when somebody else removed our table: `tocsin off` writes its file first.
func (g *Guard) mayRestore() bool { return !g.lookAtExit(time.Now()) }

// watchExit notices that the exit was opened or closed, by hand, by another process or because its time ran out.
func (g *Guard) watchExit(ctx context.Context) error {
	tick := time.NewTicker(tickTime / 2)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			g.lookAtExit(now)
		}
	}
}

// moveExit makes the firewall follow the exit.
func (g *Guard) moveExit(now time.Time) {
	off := g.off()
	stands := g.wall.Standing()
	switch {
	case off && !g.wasOff:
		g.log.Warn(offText)
	case !off && (g.wasOff || g.enforces && !stands): // the latter: opened and closed between two looks
		if !g.comeBack(now) {
			return
		}
	}
	if off && stands && g.enforces {
		// Opened by hand, with nobody to remove the table; or made again by a watcher that did not know yet.
		if err := g.wall.Clear(); err != nil {
			g.complain("firewall", "cannot remove the firewall table", err)
		}
	}
	moved := off != g.wasOff
	if g.wasOff = off; moved && g.set != nil {
		g.useActions(g.set) // they let everybody in too, and are told again who is banned
	}
}

// comeBack puts everything into the firewall again.
func (g *Guard) comeBack(now time.Time) bool {
	bans, err := g.store.Active(now)
	if err == nil {
		adopted, rerr := g.wall.Restore(bans, g.shield.prefixes(), now)
		if err = rerr; err == nil {
			g.adopt(adopted)
		}
	}
	if err != nil {
		g.complain("firewall", "cannot put the bans back; trying again", err)
		return false
	}
	g.log.Info("on again", "bans", len(g.active))
	return true
}

// moveExitBy opens or closes the exit for somebody at the socket. The guard's word counts more than the file: on a full or
// read-only disk it keeps the exit open in memory.
func (g *Guard) moveExitBy(ctx context.Context, r api.OffRequest) (api.Change, error) {
	if r.On {
		if _, err := CloseExit(g.state); err != nil {
			return api.Change{}, err
		}
		g.exit.held.Store(false)
	} else {
		g.openExit(r.Until)
	}
	g.lookAtExit(time.Now())
	return decided(ctx, g, func() (api.Change, error) {
		g.moveExit(time.Now())
		if g.wasOff {
			return change("off: watching and deciding, nobody is banned", "tocsin on"), nil
		}
		if !g.enforces {
			return change("on, but the guard only observes ("+g.observes+"): nobody is kept out", "tocsin off"), nil
		}
		return change("on: "+api.Count(len(g.active), "ban is", "bans are")+" in force", "tocsin off"), nil
	})
}

func (g *Guard) openExit(until *time.Time) {
	var end time.Time
	if until != nil {
		end = *until
	}
	if _, err := openFile(g.state, end); err != nil {
		g.exit.held.Store(true)
		g.trouble.add("emergency exit", err)
	}
}
