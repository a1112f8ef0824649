package f2blog

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// What others put in the place of the file is not written to.
func TestPlanted(t *testing.T) {
	tests := []struct {
		name  string
		plant func(path, victim string) error
		want  string
	}{
		{"symbolic link", func(path, victim string) error { return os.Symlink(victim, path) }, "symbolic link"},
		{"dangling link", func(path, victim string) error { return os.Symlink(victim+"2", path) }, "symbolic link"},
		{"second name", func(path, victim string) error { return os.Link(victim, path) }, "second name"},
		{"pipe", func(path, victim string) error { return unix.Mkfifo(path, 0o666) }, ""},
		{"folder", func(path, victim string) error { return os.Mkdir(path, 0o777) }, ""},
		{"somebody else's", func(path, victim string) error {
			if err := os.WriteFile(path, nil, 0o666); err != nil {
				return err
			}
			return os.Chown(path, 65534, 65534)
		}, "belongs to user 65534"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			path, victim := filepath.Join(dir, "fail2ban.log"), filepath.Join(dir, "victim")
			if err := os.WriteFile(victim, []byte("as it was"), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := tt.plant(path, victim); err != nil {
				if errors.Is(err, unix.EPERM) { // also where a guard of another test dropped root's privileges
					t.Skipf("only root can plant it: %v", err)
				}
				t.Fatal(err)
			}
			out := file{path: path}
			err := out.open()
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("open() = %v, want an error that tells of %q", err, tt.want)
			}
			if out.f != nil {
				t.Error("it is open")
			}
			if text, err := os.ReadFile(victim); err != nil || string(text) != "as it was" {
				t.Errorf("the victim holds %q, %v", text, err)
			}
			if _, err := os.Stat(victim + "2"); err == nil {
				t.Error("a file was made through the link")
			}
		})
	}
}

// A disk that does not take the log holds up nobody and fills no memory.
func TestBounds(t *testing.T) {
	var failed string
	l := New(func(path string, _ error) { failed = path })
	l.Use(Target{"/nonexistent/fail2ban.log", Info})
	for range 200_000 {
		l.Say("fail2ban.actions", Notice, "[sshd] Ban 192.0.2.1")
	}
	if n := len(l.waiting); n > maxWaiting+4096 || l.dropped == 0 {
		t.Errorf("%d bytes wait, %d lines dropped", n, l.dropped)
	}
	var out file
	l.write(&out)
	if len(l.waiting) > 0 || failed != "/nonexistent/fail2ban.log" || l.Lost() < 200_000 {
		t.Errorf("%d bytes wait, %d lines lost, told of %q", len(l.waiting), l.Lost(), failed)
	}
}

func TestParseLevel(t *testing.T) {
	for text, want := range map[string]Level{"INFO": Info, "notice": Notice, "WARNING": Warning, "DEBUG": Debug, "CRITICAL": nothing, "25": Notice, "loud": Info} {
		if got := ParseLevel(text); got != want {
			t.Errorf("ParseLevel(%q) = %d, want %d", text, got, want)
		}
	}
}
