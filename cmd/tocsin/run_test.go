package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A guard takes its leave at the first signal; whoever does not want to wait for it sends another one.
func TestSecondSignalEndsAtOnce(t *testing.T) {
	dir, err := os.MkdirTemp("", "tocsin") // t.TempDir is too long for a socket's name
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	conf := filepath.Join(dir, "guard.toml")
	if err := os.WriteFile(conf, fmt.Appendf(nil, guardConfig, dir, dir, dir), 0o600); err != nil {
		t.Fatal(err)
	}
	guard := exec.Command(os.Args[0], "--config="+conf, "run")
	guard.Args[0] = "tocsin" // by this name the test binary is the command
	if err := guard.Start(); err != nil {
		t.Fatal(err)
	}
	defer guard.Process.Kill()

	// A request that never becomes whole makes it linger.
	deadline := time.Now().Add(time.Minute)
	conn, err := net.Dial("unix", filepath.Join(dir, "guard.sock"))
	for ; err != nil; conn, err = net.Dial("unix", filepath.Join(dir, "guard.sock")) {
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /v1/sta"); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- guard.Wait() }()
	for range time.Tick(20 * time.Millisecond) {
		if err := guard.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Fatal(err)
		}
		select {
		case err := <-ended:
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
				t.Errorf("the guard ended with %v, want by the second signal", err)
			}
			return
		default:
		}
		if time.Now().After(deadline) {
			t.Fatal("the guard does not end")
		}
	}
}

func TestSayJSON(t *testing.T) {
	var out strings.Builder
	if _, err := io.WriteString(sayJSON{&out}, "found     sshd on port 22\nobserving the firewall is not touched\n"); err != nil {
		t.Fatal(err)
	}
	want := `{"schema":"tocsin.run/1","what":"found","text":"sshd on port 22"}` + "\n" +
		`{"schema":"tocsin.run/1","what":"observing","text":"the firewall is not touched"}` + "\n"
	if out.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", out.String(), want)
	}
}
