package daemon

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tocsin/internal/firewall"
)

var exitNow = time.Date(2026, 11, 22, 14, 0, 0, 0, time.UTC)

func TestExitOpen(t *testing.T) {
	tests := []struct {
		name, text string
		until      time.Time
		open       bool
	}{
		{"for ever", "", time.Time{}, true},
		{"for ever, from an editor", "\n", time.Time{}, true},
		{"until later", "2026-11-22T14:00:01Z\n", exitNow.Add(time.Second), true},
		{"until now", "2026-11-22T14:00:00Z", exitNow, false},
		{"somebody's touch", "yes please", time.Time{}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, offFile), []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			until, open, err := ExitOpen(dir, exitNow)
			if !until.Equal(tt.until) || open != tt.open || err != nil {
				t.Errorf("ExitOpen with %q in the file = %v, %v, %v; want %v, %v", tt.text, until, open, err, tt.until, tt.open)
			}
		})
	}
}

// Only a file that is not there says that the exit is closed.
func TestExitOpenOfWhatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	if _, open, err := ExitOpen(dir, exitNow); open || err != nil {
		t.Errorf("ExitOpen without a file = %v, %v; want closed", open, err)
	}
	if err := os.Mkdir(filepath.Join(dir, offFile), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, open, err := ExitOpen(dir, exitNow); open || err == nil {
		t.Errorf("ExitOpen of a folder = %v, %v; want an error", open, err)
	}
}

func TestOpenFile(t *testing.T) {
	later := exitNow.Add(time.Hour)
	for _, until := range []time.Time{{}, later} {
		dir := filepath.Join(t.TempDir(), "made", "for", "it")
		lasts, err := openFile(dir, until)
		if err != nil || !lasts.Equal(until) {
			t.Fatalf("openFile(%v) = %v, %v", until, lasts, err)
		}
		got, open, err := ExitOpen(dir, exitNow)
		if !got.Equal(until) || !open || err != nil {
			t.Errorf("after openFile(%v): ExitOpen = %v, %v, %v", until, got, open, err)
		}
		if was, err := CloseExit(dir); !was || err != nil {
			t.Errorf("CloseExit = %v, %v; want that it was open", was, err)
		}
		if was, err := CloseExit(dir); was || err != nil {
			t.Errorf("CloseExit of a closed exit = %v, %v", was, err)
		}
	}
}

// A full disk has room for an empty file, which is without end.
func TestOpenFileOnAFullDisk(t *testing.T) {
	dir := fullDisk(t)
	if err := os.WriteFile(filepath.Join(dir, "one byte"), []byte("x"), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("writing one byte: %v, want that the disk is full", err)
	}
	lasts, err := openFile(dir, exitNow.Add(time.Hour))
	if err != nil || !lasts.IsZero() {
		t.Fatalf("openFile for an hour = %v, %v; want without end", lasts, err)
	}
	if until, open, err := ExitOpen(dir, exitNow); !until.IsZero() || !open || err != nil {
		t.Errorf("ExitOpen = %v, %v, %v; want open without end", until, open, err)
	}
}

// Where nothing can be written the guard holds the exit open in memory, and it must be possible to close that again.
func TestCloseExitOnAReadOnlyDisk(t *testing.T) {
	dir := fullDisk(t)
	remount := func(flags uintptr) {
		if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	remount(syscall.MS_RDONLY)
	if was, err := CloseExit(dir); was || err != nil {
		t.Errorf("CloseExit without a file = %v, %v; want that it was closed", was, err)
	}
	remount(0)
	if _, err := openFile(dir, time.Time{}); err != nil {
		t.Fatal(err)
	}
	remount(syscall.MS_RDONLY)
	if was, err := CloseExit(dir); was || !errors.Is(err, syscall.EROFS) {
		t.Errorf("CloseExit of a file that stays = %v, %v; want %v", was, err, syscall.EROFS)
	}
}

// fullDisk is a folder on a file system without a free block.
func fullDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("cannot mount a tmpfs here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	if err := os.WriteFile(filepath.Join(dir, "fill"), bytes.Repeat([]byte("x"), 1<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("filling the disk: %v", err)
	}
	return dir
}

// The table goes even if the file cannot be made, and the other way round.
func TestOpenExitDoesEachHalf(t *testing.T) {
	enterNetworkOfItsOwn(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenExit(filepath.Join(file, "under"), time.Time{}); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("OpenExit in a folder that cannot be made: %v, want that and nothing else", err)
	}
	dir := t.TempDir()
	if lasts, err := OpenExit(dir, exitNow); err != nil || !lasts.Equal(exitNow) {
		t.Errorf("OpenExit = %v, %v; want until %v", lasts, err, exitNow)
	}
}

// enterNetworkOfItsOwn keeps the rest of the test from touching the machine's firewall.
func enterNetworkOfItsOwn(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		home.Close()
		runtime.UnlockOSThread()
		t.Skipf("cannot make a network namespace here: %v", err) // a guard of an earlier test gave up what it takes
	}
	t.Cleanup(func() {
		if err := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); err != nil {
			t.Fatal(err) // the thread stays locked, so it ends with the test
		}
		home.Close()
		runtime.UnlockOSThread()
	})
	if err := firewall.Available(); err != nil {
		t.Skip(err)
	}
}
