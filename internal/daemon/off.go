package daemon

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"tocsin/internal/firewall"
)

// The emergency exit is a file in the state folder, so that it works without any guard and survives restarts. It holds
// the time until which it is open (RFC 3339), or nothing.

const offFile = "off"

// OpenExit opens the emergency exit: it writes the file and removes our firewall table, and does each of the two even if the
// other fails. It needs no running guard. A zero until is without end; so is lasts, which tells until when the exit is
// really open, where the disk has no room for the time.
func OpenExit(state string, until time.Time) (lasts time.Time, err error) {
	lasts, ferr := openFile(state, until)
	if ferr != nil {
		ferr = fmt.Errorf("keep the emergency exit open: %w", ferr)
	}
	if err := firewall.Remove(firewall.Options{}); err != nil {
		return lasts, errors.Join(err, ferr)
	}
	return lasts, ferr
}

// openFile writes the file of the emergency exit, without the time if that finds no room: an empty file needs none.
func openFile(state string, until time.Time) (lasts time.Time, err error) {
	if err := os.MkdirAll(state, 0o750); err != nil {
		return time.Time{}, fmt.Errorf("make state folder: %w", err)
	}
	path := filepath.Join(state, offFile)
	if !until.IsZero() && writeOff(path, until.UTC().Format(time.RFC3339)) == nil {
		return until, nil
	}
	if err := writeOff(path, ""); err != nil {
		return time.Time{}, err
	}
	return time.Time{}, nil
}

// writeOff writes the file so that it is either there whole or not at all, also after a power cut.
func writeOff(path, text string) error {
	tmp := path + ".new"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// CloseExit closes the emergency exit and says whether it was open.
func CloseExit(state string) (was bool, err error) {
	path := filepath.Join(state, offFile)
	err = os.Remove(path)
	// A read-only disk refuses to remove even what is not there (unlink(2), EROFS).
	if _, gone := os.Lstat(path); err != nil && errors.Is(gone, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// ExitOpen says whether the emergency exit is open at now, and until when; a zero until is without end. On an error nobody
// knows: a file that cannot be read may well say that it is open.
func ExitOpen(state string, now time.Time) (until time.Time, open bool, err error) {
	text, err := os.ReadFile(filepath.Join(state, offFile))
	switch {
	case errors.Is(err, os.ErrNotExist):
		return time.Time{}, false, nil
	case err != nil:
		return time.Time{}, false, fmt.Errorf("look at emergency exit: %w", err)
	}
	s := strings.TrimSpace(string(text))
	if s == "" {
		return time.Time{}, true, nil
	}
	until, err = time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}, true, nil // somebody's touch: take it for what it was meant to be
	}
	return until, now.Before(until), nil
}
