package daemon

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"tocsin/internal/api"
	"tocsin/internal/list"
	"tocsin/internal/store"
)

// storeName is the store's file in the state folder.
const storeName = "guard.sqlite"

var errInUse = errors.New("another guard uses it")

// settle moves into the state folder: it makes it, makes sure that no other guard is there, and opens the store. Where that
// cannot be done, on a disk that is full or read-only from the start, it moves in beside the socket, in memory: the
// attackers do not wait until somebody has made room.
func (g *Guard) settle() (leave func(), err error) {
	leave, err = g.settleIn(g.state)
	instead := filepath.Dir(g.o.Config.Socket)
	if errors.Is(err, errInUse) {
		return nil, api.Errorf(api.ExitFailed, "look at it with `tocsin`; stop it with ^C or `systemctl stop tocsin-guard`", err.Error())
	}
	if err == nil || instead == g.state {
		return leave, err
	}
	g.log.Error("cannot use the state folder; what is decided now is forgotten at the next boot", "file", instead, "err", err)
	g.trouble.elsewhere(instead, err)
	return g.settleIn(instead)
}

func (g *Guard) settleIn(dir string) (leave func(), err error) {
	if g.store, leave, err = openState(dir, g.log); err != nil {
		return nil, err
	}
	var bad error
	if g.lists.folder, bad = list.OpenFolder(filepath.Join(dir, listFolder)); bad != nil {
		g.log.Error("lists are not kept", "err", bad)
		g.trouble.add("lists", bad)
	}
	return leave, nil
}

// openState opens the store in a state folder, which is made if need be. errInUse says that a guard has it open.
func openState(dir string, log *slog.Logger) (s *store.Store, leave func(), err error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, nil, fmt.Errorf("make state folder: %w", err)
	}
	unlock, err := lock(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("lock state folder %s: %w", dir, err)
	}
	if s, err = store.Open(filepath.Join(dir, storeName), store.Options{Log: log, CloseWithin: closeTime}); err != nil {
		unlock()
		return nil, nil, fmt.Errorf("open store: %w", err)
	}
	if name := s.MovedAside(); name != "" {
		log.Error("the store was damaged and moved aside; a new one is in use", "file", name)
	}
	return s, func() {
		if err := s.Close(); err != nil {
			log.Error("close store", "err", err)
		}
		unlock()
	}, nil
}

// lock makes sure that one guard uses a folder. The lock goes with the process, however that ends.
func lock(dir string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = errInUse
		}
		return nil, err
	}
	return func() { _ = f.Close() }, nil
}
