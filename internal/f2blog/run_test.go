package f2blog

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tocsin/internal/fail2ban"
)

// has waits until the file holds as many lines as wanted texts, each with its text.
func has(t *testing.T, path string, want ...string) {
	t.Helper()
	var text []byte
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		var err error
		if text, err = os.ReadFile(path); err != nil {
			continue // not yet
		}
		if lines := strings.SplitAfter(string(text), "\n"); len(lines)-1 == len(want) {
			for i, w := range want {
				if !strings.Contains(lines[i], w) {
					t.Fatalf("line %d of %s is %q, want %q in it", i+1, path, lines[i], w)
				}
			}
			return
		}
	}
	t.Fatalf("%s holds %q, want %d lines", path, text, len(want))
}

// The log follows its file when somebody moves it away, by itself and when it is told, and loses no line over it.
func TestRun(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fail2ban.log")
	l := New(func(path string, err error) { t.Errorf("lines for %s are lost: %v", path, err) })
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- l.Run(ctx) }()
	l.Say(fail2ban.FromActions, Notice, "to nobody")
	l.Use(Target{Path: path, Level: Info})
	l.Say(fail2ban.FromActions, Debug, "too much")
	l.Say(fail2ban.FromActions, Notice, fail2ban.LogBan("sshd", "192.0.2.1"))
	has(t, path, "NOTICE  [sshd] Ban 192.0.2.1")

	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	has(t, path) // made anew within a second, empty
	l.Say(fail2ban.FromActions, Notice, fail2ban.LogBan("sshd", "192.0.2.2"))
	has(t, path, "Ban 192.0.2.2")

	if err := os.Rename(path, path+".2"); err != nil {
		t.Fatal(err)
	}
	if told := l.Reopen(); told != path {
		t.Errorf("Reopen() = %q, want %q", told, path)
	}
	l.Say(fail2ban.FromFilter, Info, "the last one")
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run() = %v", err)
	}
	has(t, path, "INFO    the last one")
	has(t, path+".1", "Ban 192.0.2.1")
	has(t, path+".2", "Ban 192.0.2.2")
	if n := l.Lost(); n != 0 {
		t.Errorf("%d lines are lost", n)
	}
}
