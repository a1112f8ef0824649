package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// stall makes every write of s wait, as a disk does that does not answer, until the function it returns is called.
func stall(t testing.TB, s *Store) (release func()) {
	t.Helper()
	db, err := sql.Open("sqlite", dsn(s.path))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := db.Conn(ctx)
	if err == nil {
		_, err = conn.ExecContext(ctx, "BEGIN IMMEDIATE")
	}
	if err != nil {
		t.Fatal(err)
	}
	done := false
	release = func() {
		if done {
			return
		}
		done = true
		conn.ExecContext(ctx, "ROLLBACK")
		conn.Close()
		db.Close()
	}
	return release
}

// putShort puts a decision for which the disk has no time, and says what came back.
func putShort(s *Store, n int) error {
	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	return s.Put(short, ban(n, 2))
}

func TestLockedFile(t *testing.T) {
	s := fresh(t)
	put(t, s, ban(0, 0))
	release := stall(t, s)
	defer release()
	short, cancel := context.WithTimeout(ctx, time.Millisecond)
	defer cancel()
	for n := range 10 {
		if err := s.Put(short, ban(n+1, 0)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Put says %v", err)
		}
	}
	release()
	if err := s.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if st := s.Stats(); st.Written != 11 {
		t.Errorf("%+v, want 11 written", st)
	}
}

func TestFullQueue(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "s.db"), Options{Queue: 3})
	release := stall(t, s)
	defer release()
	for n := range 3 {
		if err := putShort(s, n); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Put %d says %v", n, err)
		}
		s.PutMark(Mark{Source: fmt.Sprint(n)}, Mark{Source: fmt.Sprint(n, "again")})
	}
	if err := putShort(s, 3); !errors.Is(err, ErrFull) {
		t.Errorf("Put into a full queue says %v, want ErrFull", err)
	}
	if st := s.Stats(); st.Refused != 1 || st.Pending != 3 || st.Dropped == 0 {
		t.Errorf("%+v, want one refused, three pending, marks dropped", st)
	}
	release()
	if err := s.Flush(ctx); err != nil {
		t.Error(err)
	}
}

func TestCloseOnStalledDisk(t *testing.T) {
	s, err := Open(filepath.Join(t.TempDir(), "s.db"), Options{CloseWithin: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	release := stall(t, s)
	putShort(s, 1)
	if err := s.Close(); err == nil || !strings.Contains(err.Error(), "1 decisions could not be written") {
		t.Errorf("Close says %v, want what is lost", err)
	}
	release()
	<-s.done
}

func needRoot(t *testing.T, programs ...string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting a small disk needs root")
	}
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("%s is not installed", p)
		}
	}
}

func TestFullDisk(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"); err != nil {
		t.Skipf("cannot mount a tmpfs here: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	path, filler := filepath.Join(dir, "state.db"), filepath.Join(dir, "filler")
	fill := func() {
		f, err := os.Create(filler)
		if err != nil {
			t.Fatal(err)
		}
		for size := 64 << 10; size > 0; size /= 2 {
			for err = nil; err == nil; {
				_, err = f.Write(make([]byte, size))
			}
		}
		f.Close()
	}
	s := open(t, path, Options{})
	put(t, s, ban(1, 2))
	fill()
	wal, _ := os.Stat(path + "-wal")
	n := 2
	for ; s.Stats().Errors == 0; n++ { // the write-ahead log has some room of its own
		if err := putShort(s, n); err != nil && !errors.Is(err, context.DeadlineExceeded) || n > 1000 {
			t.Fatalf("decision %d: %v; the log had %v", n, err, wal.Size())
		}
	}
	st := s.Stats()
	if st.Pending == 0 || !strings.Contains(st.LastError, "full") {
		t.Errorf("%+v, want decisions pending and the reason", st)
	}
	runtime.GC()
	if got, err := s.Active(t0.Add(time.Minute)); len(got) != n-1 || err != nil {
		t.Errorf("%d bans in force, %v, want %d", len(got), err, n-1)
	}
	os.Remove(filler)
	if err := s.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if st := s.Stats(); st.Pending != 0 || st.LastError != "" || st.Written != uint64(n-1) {
		t.Errorf("after the disk was emptied: %+v, want %d written", st, n-1)
	}
}

// A store can be opened and read on a disk that has no room left.
func TestOpenOnFullDisk(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("cannot mount a tmpfs here: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	path := filepath.Join(dir, "state.db")
	s, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, ban(1, 2))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(dir, "filler"))
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	f.Close()
	s, err = Open(path, Options{CloseWithin: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.Active(t0.Add(time.Minute)); len(got) != 1 || err != nil {
		t.Errorf("%d bans in force, %v, want 1", len(got), err)
	}
	if err := putShort(s, 2); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Put says %v", err)
	}
	os.Remove(f.Name())
	if err := s.Flush(ctx); err != nil {
		t.Error(err)
	}
	s.Close()
}

// A read that does not return is left behind, and nobody waits for it or makes a second one.
func TestDecidedEndsWithContext(t *testing.T) {
	s := fresh(t)
	d := ban(1, 0)
	put(t, s, d)
	var busy []*sql.Conn
	release := func() {
		for _, c := range busy {
			c.Close()
		}
		busy = nil
	}
	defer release()
	for range readers { // a read waits for one of these as for a disk
		c, err := s.file.Load().reader.Conn(ctx)
		if err != nil {
			t.Fatal(err)
		}
		busy = append(busy, c)
	}
	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	if yes, err := s.Decided(short, d.Jail, d.ID, d.Trigger); yes || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("decided %v, %v, want the context's error", yes, err)
	}
	for range 100 {
		if yes, err := s.Decided(ctx, d.Jail, d.ID, d.Trigger); yes || !errors.Is(err, errStalled) {
			t.Fatalf("decided %v, %v behind a read that hangs, want errStalled at once", yes, err)
		}
	}
	put(t, s, ban(2, 2)) // does not hang behind the read
	release()
	for deadline := time.Now().Add(time.Minute); ; runtime.Gosched() {
		yes, err := s.Decided(ctx, d.Jail, d.ID, d.Trigger)
		if yes && err == nil {
			return
		}
		if !errors.Is(err, errStalled) || time.Now().After(deadline) {
			t.Fatalf("decided %v, %v when the disk answers again", yes, err)
		}
	}
}

// The real thing: a disk that takes nothing at all until it is thawed. Every thread that writes to it stands still.
func TestFrozenDisk(t *testing.T) {
	needRoot(t, "mkfs.ext4", "mount", "umount", "fsfreeze")
	dir, image := t.TempDir(), filepath.Join(t.TempDir(), "disk")
	run := func(name string, args ...string) error {
		out, err := exec.Command(name, args...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s: %s: %w", name, bytes.TrimSpace(out), err)
		}
		return nil
	}
	if err := errors.Join(os.WriteFile(image, nil, 0o600), os.Truncate(image, 16<<20), run("mkfs.ext4", "-q", image), run("mount", "-o", "loop", image, dir)); err != nil {
		t.Skipf("cannot mount a disk of our own here: %v", err)
	}
	t.Cleanup(func() { run("umount", dir) })
	s := open(t, filepath.Join(dir, "state.db"), Options{})
	put(t, s, ban(0, 0))
	if err := run("fsfreeze", "-f", dir); err != nil {
		t.Skipf("cannot freeze it: %v", err)
	}
	thawed := false
	thaw := func() {
		if !thawed {
			thawed = true
			run("fsfreeze", "-u", dir)
		}
	}
	defer thaw()
	began := time.Now()
	for n := 1; n < 11; n++ {
		if err := putShort(s, n); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Put says %v", err)
		}
		runtime.GC() // stops the world: no thread may be stuck where the scheduler cannot see it
		d := ban(n, 0)
		if yes, err := s.Decided(ctx, d.Jail, d.ID, d.Trigger); !yes || err != nil {
			t.Errorf("decided %v, %v, want true", yes, err)
		}
		if got, err := s.Active(t0.Add(time.Minute)); len(got) != n+1 || err != nil {
			t.Errorf("%d bans in force, %v, want %d", len(got), err, n+1)
		}
		s.CountFailures(FailureCount{Day: t0, Prefix: d.Prefix, N: 1})
	}
	t.Logf("ten decisions took %v", time.Since(began)) // and do not wait for the disk, which would be for ever
	thaw()
	if err := s.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if st := s.Stats(); st.Written != 11 || st.Pending != 0 {
		t.Errorf("%+v, want 11 written", st)
	}
}

func TestMovedAside(t *testing.T) {
	tests := []struct {
		name   string
		damage func(path string, content []byte) error
		moved  bool
	}{
		{"nothing", func(string, []byte) error { return nil }, false},
		{"empty", func(path string, _ []byte) error { return os.Truncate(path, 0) }, false},
		{"truncated", func(path string, b []byte) error { return os.Truncate(path, int64(len(b)/2)) }, true},
		{"truncated inside a page", func(path string, b []byte) error { return os.Truncate(path, int64(len(b)-100)) }, true},
		{"garbage header", func(path string, b []byte) error { copy(b, "garbage"); return os.WriteFile(path, b, 0o600) }, true},
		{"all garbage", func(path string, b []byte) error { return os.WriteFile(path, noise(len(b)), 0o600) }, true},
		{"a text", func(path string, b []byte) error { return os.WriteFile(path, []byte("hello"), 0o600) }, true},
		{"garbage pages in the middle", func(path string, b []byte) error {
			copy(b[len(b)/2&^4095:], noise(8192))
			return os.WriteFile(path, b, 0o600)
		}, true},
		{"a newer version", func(path string, _ []byte) error { return pragma(path, "user_version = 999") }, true},
		{"somebody else's", func(path string, _ []byte) error { return pragma(path, "application_id = 1") }, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state.db")
			s, err := Open(path, Options{})
			if err != nil {
				t.Fatal(err)
			}
			for n := range 20 {
				put(t, s, ban(n, 20))
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := tt.damage(path, content); err != nil {
				t.Fatal(err)
			}
			s = open(t, path, Options{})
			to := s.MovedAside()
			if (to != "") != tt.moved {
				t.Fatalf("moved aside to %q, want %v", to, tt.moved)
			}
			if tt.moved {
				if _, err := os.Stat(to); err != nil || !strings.HasPrefix(to, path+".corrupt-20") {
					t.Errorf("moved to %q: %v", to, err)
				}
			}
			put(t, s, ban(1000, 1))
			if got := bans(t, s, Query{Limit: 1, WithEvidence: true}); len(got) != 1 || got[0].ID != "10.0.3.232/32" {
				t.Errorf("the new store answers %+v", got)
			}
		})
	}
}

func noise(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	r.Read(b)
	return b
}

func pragma(path, set string) error {
	db, err := sql.Open("sqlite", dsn(path))
	if err != nil {
		return err
	}
	defer db.Close()
	_, err = db.Exec("PRAGMA " + set)
	return err
}

// A file that is damaged while it is in use: the next one to notice has it moved aside, and the store goes on with the
// bans and the allow list that could still be read.
func TestDamagedWhileOpen(t *testing.T) {
	for _, how := range []string{"a read notices", "a write notices"} {
		t.Run(how, func(t *testing.T) {
			s := fresh(t)
			for n := range 300 {
				put(t, s, ban(n, 20))
			}
			if err := s.Allow(AllowEntry{Prefix: netip.MustParsePrefix("192.0.2.0/24"), At: t0}); err != nil {
				t.Fatal(err)
			}
			damageOpen(t, s)
			deadline := time.Now().Add(time.Minute)
			for n := 1000; s.MovedAside() == ""; n++ {
				if how == "a read notices" {
					s.Bans(Query{WithEvidence: true})
				} else if err := s.Put(ctx, ban(n, 20)); err != nil {
					t.Fatal(err)
				}
				if time.Now().After(deadline) {
					t.Fatal("nobody noticed")
				}
			}
			if _, err := os.Stat(s.MovedAside()); err != nil {
				t.Error(err)
			}
			put(t, s, ban(5000, 1))
			if got := bans(t, s, Query{Addr: ban(5000, 0).Prefix.Addr()}); len(got) != 1 {
				t.Errorf("the new store answers %+v", got)
			}
		})
	}
}

// A damaged file that cannot be moved aside: nothing that waits is lost, and it is tried again.
func TestDamagedAndImmovable(t *testing.T) {
	needRoot(t, "mount", "umount")
	s := fresh(t)
	for n := range 300 {
		put(t, s, ban(n, 20))
	}
	if out, err := exec.Command("mount", "--bind", s.path, s.path).CombinedOutput(); err != nil {
		t.Skipf("cannot mount the file on itself: %v: %s", err, out)
	}
	mounted := true
	umount := func() {
		if mounted {
			mounted = false
			if out, err := exec.Command("umount", "-l", s.path).CombinedOutput(); err != nil {
				t.Errorf("umount: %v: %s", err, out)
			}
		}
	}
	defer umount()
	damageOpen(t, s)
	put := make(chan error, 1)
	go func() {
		for {
			if err := s.Put(ctx, ban(1000, 20)); err != nil || s.MovedAside() != "" {
				put <- err
				return
			}
			s.Bans(Query{WithEvidence: true}) // notices
		}
	}()
	failed := func() bool {
		return s.Stats().Errors > 4 && strings.Contains(s.Stats().LastError, "move the damaged store aside")
	}
	for deadline := time.Now().Add(time.Minute); !failed(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("no failure seen: %+v", s.Stats())
		}
	}
	umount()
	select {
	case err := <-put:
		if err != nil {
			t.Errorf("Put says %v", err)
		}
	case <-time.After(time.Minute):
		t.Fatalf("not written: %+v", s.Stats())
	}
	if st := s.Stats(); st.Failed != 0 || st.MovedAside == "" || st.MovedAside != s.MovedAside() {
		t.Errorf("%+v, want nothing given up and the file moved", st)
	}
	if got := bans(t, s, Query{Addr: ban(1000, 0).Prefix.Addr(), WithEvidence: true}); len(got) != 1 || len(got[0].Evidence) != 20 {
		t.Errorf("the new file holds %v, want what waited", got)
	}
}

// A file that somebody removes under the store is written anew, with the bans in force and the allow list.
func TestRemovedWhileOpen(t *testing.T) {
	s := fresh(t)
	d := ban(1, 1)
	d.Until = time.Time{}
	put(t, s, d)
	if err := s.Allow(AllowEntry{Prefix: netip.MustParsePrefix("192.0.2.0/24"), At: t0}); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(s.path); err != nil {
		t.Fatal(err)
	}
	put(t, s, ban(2, 1))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, s.path, Options{})
	if got := ids(bans(t, s, Query{}), func(b Ban) string { return b.ID }); got != "10.0.0.2/32 10.0.0.1/32" {
		t.Errorf("bans %q, want both", got)
	}
	if got, err := s.Allowed(t0); len(got) != 1 || err != nil {
		t.Errorf("allowed %v, %v, want one", got, err)
	}
}

// A large file is used at once and checked beside.
func TestDamagedLargeFile(t *testing.T) {
	s := fresh(t)
	for n := range 300 {
		put(t, s, ban(n, 20))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(s.path)
	if err != nil {
		t.Fatal(err)
	}
	copy(content[len(content)/2&^4095:], noise(40<<10))
	if err := os.WriteFile(s.path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	s = open(t, s.path, Options{small: 1})
	for deadline := time.Now().Add(time.Minute); s.MovedAside() == ""; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("nobody noticed")
		}
	}
	if err := s.Flush(ctx); err != nil {
		t.Error(err)
	}
}

// damageOpen writes noise over the evidence in the file and makes every connection forget what it holds of it.
func damageOpen(t *testing.T, s *Store) {
	t.Helper()
	f := s.file.Load()
	if _, err := f.reader.Exec("PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
		t.Fatal(err)
	}
	raw, err := os.OpenFile(s.path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	info, err := raw.Stat()
	if err != nil {
		t.Fatal(err)
	}
	for at := int64(128 << 10); at < info.Size(); at += 4096 {
		if _, err := raw.WriteAt(noise(4096), at); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSecondProcess(t *testing.T) {
	s := fresh(t)
	put(t, s, ban(1, 1))
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childStore+"="+s.path)
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "locked") {
		t.Errorf("a second process says %q, %v, want that the store is locked", out, err)
	}
	if s.MovedAside() != "" {
		t.Error("moved aside for it")
	}
}

func TestParsePrefix(t *testing.T) {
	for _, tt := range []struct {
		stored string
		want   string
	}{
		{"", "invalid Prefix"},
		{"\xc0\x00\x02\x00\x18", "192.0.2.0/24"},
		{"\xc0\x00\x02\x00\x20", "192.0.2.0/32"},
		{"\xc0\x00\x02\x00\x21", "not a stored prefix"},
		{"\x18", "not a stored prefix"},
		{"\xc0\x00\x02\x18", "not a stored prefix"},
	} {
		p, err := parsePrefix([]byte(tt.stored))
		got := p.String()
		if err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%x is %q, want %q", tt.stored, got, tt.want)
		}
	}
}
