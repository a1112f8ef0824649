package exec

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// sh is a command for the tests, which may use a shell: the package does not.
func sh(script string) Command {
	return Command{Path: "/bin/sh", Args: []string{"-c", script}}
}

// enough is how long a command is given that is to be ended by its time: a shell must have begun by then, on any machine.
const enough = 3 * time.Second

func TestRun(t *testing.T) {
	tests := []struct {
		name    string
		command Command
		stdout  string
		err     string // "": none
	}{
		{"writes", sh("echo hello"), "hello\n", ""},
		{"reads", Command{Path: "/bin/cat", Stdin: strings.NewReader("in")}, "in", ""},
		{"reads nothing", Command{Path: "/bin/cat"}, "", ""},
		{"stands in the root", sh("pwd"), "/\n", ""},
		{"stands in its folder", Command{Path: "/bin/sh", Args: []string{"-c", "pwd"}, Dir: "/usr"}, "/usr\n", ""},
		{"no shell sees the arguments", Command{Path: "/bin/echo", Args: []string{"$HOME;*"}}, "$HOME;*\n", ""},
		{"fails", sh("echo out; echo first >&2; echo last >&2; exit 3"), "out\n", "sh: last (exit code 3)"},
		{"fails silently", sh("exit 4"), "", "sh: exit code 4"},
		{"fails in colour", sh(`printf 'red \033[31m\n' >&2; exit 1`), "", "sh: red  [31m (exit code 1)"},
		{"is killed by somebody", sh("kill -TERM $$"), "", "sh: ended by signal: terminated"},
		{"is no program", Command{Path: "/nonexistent/program"}, "", "start /nonexistent/program: no such program"},
		{"may not be run", Command{Path: "/etc/passwd"}, "", "start /etc/passwd: no such program"},
		{"is a relative path", Command{Path: "sh"}, "", `start "sh": the path is not absolute`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out, err := Run(t.Context(), tt.command)
			got := ""
			if err != nil {
				got = err.Error()
			}
			if got != tt.err {
				t.Errorf("got error %q, want %q", got, tt.err)
			}
			if string(out.Stdout) != tt.stdout {
				t.Errorf("got output %q, want %q", out.Stdout, tt.stdout)
			}
		})
	}
}

func TestRunMeasures(t *testing.T) {
	out, err := Run(t.Context(), sh("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done"))
	if err != nil || out.CPU <= 0 {
		t.Errorf("a busy loop took %v of processor time, %v", out.CPU, err)
	}
}

func TestRunErrors(t *testing.T) {
	if _, err := Run(t.Context(), Command{Path: "/nonexistent"}); !errors.Is(err, ErrMissing) {
		t.Errorf("missing program: got %v, want ErrMissing", err)
	}
	_, err := Run(t.Context(), sh("exit 7"))
	var exit *ExitError
	if !errors.As(err, &exit) || exit.Code != 7 || exit.Program != "sh" {
		t.Errorf("exit 7: got %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("we stop")
	cancel(reason)
	if _, err := Run(ctx, sh("true")); !errors.Is(err, reason) {
		t.Errorf("ended context: got %v, want its cause", err)
	}
}

func TestEnvironmentIsClean(t *testing.T) {
	t.Setenv("LD_PRELOAD_OF_A_STRANGER", "1")
	c := Command{Path: "/usr/bin/env", Env: []string{"MINE=1"}}
	out, err := Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(out.Stdout), "PATH="+folders+"\nLC_ALL=C\nMINE=1\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestTimeoutKillsTheGroup starts a shell whose own child would live on, and looks whether that child is gone.
func TestTimeoutKillsTheGroup(t *testing.T) {
	c := sh("sleep 1000 & echo $!; wait")
	c.Timeout = enough
	out, err := Run(t.Context(), c)
	if !errors.Is(err, ErrTimeout) {
		t.Errorf("got %v, want ErrTimeout", err)
	}
	waitGone(t, out.Stdout)
}

// TestEndKillsTheGroup checks that a child which leaves others behind does not leave them to the machine.
func TestEndKillsTheGroup(t *testing.T) {
	began := time.Now()
	out, err := Run(t.Context(), sh("sleep 1000 & echo $!"))
	if err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 100*time.Second {
		t.Errorf("took %v: waited for a grandchild that held the pipe", took)
	}
	waitGone(t, out.Stdout)
}

// TestDescendantOutsideTheGroup checks that one which left the group cannot hold Run up by keeping the pipe open.
func TestDescendantOutsideTheGroup(t *testing.T) {
	setsid, err := Find("setsid")
	if err != nil {
		t.Skip("no setsid on this machine")
	}
	// The shell ends when its descendant has left the group.
	left := filepath.Join(t.TempDir(), "left")
	script := fmt.Sprintf("%s sh -c 'echo $$; : >%s; exec sleep 1000' & while ! test -e %s; do :; done", setsid, left, left)
	out, err := Run(t.Context(), sh(script))
	if err != nil {
		t.Error(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(out.Stdout)))
	if err != nil {
		t.Fatalf("no pid in %q", out.Stdout)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Errorf("the descendant outside the group is gone: %v", err)
	}
}

func TestOutputIsBounded(t *testing.T) {
	c := Command{Path: "/usr/bin/yes", MaxOutput: 1000}
	out, err := Run(t.Context(), c)
	if !errors.Is(err, ErrTooLong) || len(out.Stdout) != 1000 {
		t.Errorf("got %d bytes and %v, want 1000 and ErrTooLong", len(out.Stdout), err)
	}
	c = sh("printf 1234567890")
	c.MaxOutput = 10
	if out, err = Run(t.Context(), c); err != nil || string(out.Stdout) != "1234567890" {
		t.Errorf("exactly the bound: got %q, %v", out.Stdout, err)
	}
	out, err = Run(t.Context(), sh("head -c 100000 /dev/zero | tr '\\0' x >&2; echo end >&2"))
	if err != nil || len(out.Stderr) != maxErrorText || !bytes.HasSuffix(out.Stderr, []byte("xend\n")) {
		t.Errorf("standard error: got %d bytes, %v; want the last %d", len(out.Stderr), err, maxErrorText)
	}
}

func TestStart(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	child, err := Start(ctx, sh("echo one; echo two >&2; exec sleep 1000"))
	if err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 4)
	if _, err := io.ReadFull(child.Stdout, line); err != nil || string(line) != "one\n" {
		t.Errorf("read %q, %v", line, err)
	}
	if group, err := syscall.Getpgid(child.Pid()); err != nil || group != child.Pid() {
		t.Errorf("process group %d, %v; want its own, %d", group, err, child.Pid())
	}
	reason := errors.New("source closed")
	cancel(reason)
	if _, err := io.ReadAll(child.Stdout); err != nil && !errors.Is(err, os.ErrClosed) {
		t.Errorf("read after the end: %v", err)
	}
	if err := child.Wait(); !errors.Is(err, reason) {
		t.Errorf("got %v, want the cause of the context", err)
	}
}

func TestStartEndsByItself(t *testing.T) {
	child, err := Start(t.Context(), sh("echo out; echo broken >&2; exit 2"))
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(child.Stdout)
	if err != nil || string(out) != "out\n" {
		t.Errorf("read %q, %v", out, err)
	}
	var exit *ExitError
	if err := child.Wait(); !errors.As(err, &exit) || exit.Code != 2 || exit.Stderr != "broken" {
		t.Errorf("got %v", err)
	}
}

// TestReaderWakesOnCancel checks that a descendant outside the group, which holds the pipe, does not hold the reader.
func TestReaderWakesOnCancel(t *testing.T) {
	setsid, err := Find("setsid")
	if err != nil {
		t.Skip("no setsid on this machine")
	}
	ctx, cancel := context.WithCancel(t.Context())
	child, err := Start(ctx, sh(setsid+` sh -c 'echo $$; exec sleep 1000' & wait`))
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 32)
	n, err := child.Stdout.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := io.ReadAll(child.Stdout); err == nil {
		t.Error("the pipe came to an end, although somebody holds it")
	}
	if err := child.Wait(); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	if pid, err := strconv.Atoi(strings.TrimSpace(string(buf[:n]))); err == nil {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// TestChildDiesWithUs starts this test binary anew, which starts a child and is killed.
func TestChildDiesWithUs(t *testing.T) {
	if os.Getenv("TOCSIN_TEST_PARENT") != "" {
		child, err := Start(t.Context(), sh("echo $$; exec sleep 1000"))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(os.Stdout, child.Stdout)
		return
	}
	parent := exec.Command(os.Args[0], "-test.run=^TestChildDiesWithUs$")
	parent.Env = append(os.Environ(), "TOCSIN_TEST_PARENT=1")
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 32)
	n, err := out.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	waitGone(t, buf[:n])
}

func TestFind(t *testing.T) {
	if path, err := Find("sh"); err != nil || !filepath.IsAbs(path) {
		t.Errorf("sh: got %q, %v", path, err)
	}
	if path, err := Find("no-such-program-of-tocsin"); !errors.Is(err, ErrMissing) {
		t.Errorf("got %q, %v; want ErrMissing", path, err)
	}
}

// waitGone waits until the process whose number is in text has ended. A zombie has: nobody may be there to reap it.
func waitGone(t *testing.T, text []byte) {
	t.Helper()
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatalf("no pid in %q", text)
	}
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		if ended(pid) {
			return
		}
		time.Sleep(time.Millisecond) // between two looks, not to wait for something
	}
	t.Errorf("process %d lives on", pid)
}

// ended says whether a process has ended, be it that nobody has reaped it yet.
func ended(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, after, ok := strings.Cut(string(stat), ") ")
	return ok && after[0] == 'Z'
}

func BenchmarkRun(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Run(b.Context(), Command{Path: "/bin/true"}); err != nil {
			b.Fatal(err)
		}
	}
}

func TestSession(t *testing.T) {
	c := Command{Path: "/bin/sh", Args: []string{"-c", "ps -o sid= -p $$; echo $$"}, Session: true}
	if _, err := Find("ps"); err != nil {
		t.Skip("no ps on this machine (scripts/setup.sh)")
	}
	out, err := Run(t.Context(), c)
	if words := strings.Fields(string(out.Stdout)); err != nil || len(words) != 2 || words[0] != words[1] {
		t.Errorf("session and process %q, %v; want the same twice", words, err)
	}
	c = sh("sleep 1000 & echo $!; wait")
	c.Session, c.Timeout = true, 100*time.Millisecond
	out, err = Run(t.Context(), c)
	if !errors.Is(err, ErrTimeout) {
		t.Errorf("got %v, want ErrTimeout", err)
	}
	waitGone(t, out.Stdout)
}

func TestGroups(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root may become somebody else")
	}
	out, err := Run(t.Context(), Command{Path: "/usr/bin/id", Args: []string{"-G"}, User: &User{UID: 65534, GID: 65534, Groups: []uint32{65534, 4}}})
	if got := strings.TrimSpace(string(out.Stdout)); err != nil || got != "65534 4" {
		t.Errorf("groups %q, %v", got, err)
	}
}

// What a Go program says when it crashes is kept from its first line on, however much follows.
func TestCrash(t *testing.T) {
	const stack = `goroutine 7 [running]:\nmain.read(...)\n\t/src/main.go:12 +0x1d\n`
	for _, tt := range []struct {
		name, script string
		first        string // "": no crash
	}{
		{"panic", `printf 'starting\npanic: index out of range [5]\n\n` + stack + `' >&2; exit 2`, "panic: index out of range [5]"},
		{"all goroutines", `printf 'fatal error: concurrent map writes\n\n` + stack + `' >&2; yes 'goroutine 8 [select]:' | head -c 100000 >&2; exit 2`, "fatal error: concurrent map writes"},
		{"in pieces", `printf 'a\npan' >&2; printf 'ic: tw' >&2; printf 'ice\n` + stack + `' >&2; exit 2`, "panic: twice"},
		{"another exit code", `printf 'panic: no\n' >&2; exit 1`, ""},
		{"in the middle of a line", `printf 'no panic: here\n' >&2; exit 2`, ""},
	} {
		_, err := Run(t.Context(), Command{Path: "/bin/sh", Args: []string{"-c", tt.script}})
		var exit *ExitError
		switch {
		case !errors.As(err, &exit):
			t.Errorf("%s: %v", tt.name, err)
		case tt.first == "":
			if exit.Crash != nil {
				t.Errorf("%s: %q is no crash", tt.name, exit.Crash)
			}
		default:
			size := 0
			for _, line := range exit.Crash {
				size += len(line) + 1
			}
			if exit.Stderr != tt.first || len(exit.Crash) < 4 || exit.Crash[0] != tt.first || exit.Crash[1] != "goroutine 7 [running]:" || exit.Crash[2] != "main.read(...)" || size > maxCrash {
				t.Errorf("%s: %q, %d bytes of %.300q", tt.name, exit.Stderr, size, exit.Crash)
			}
		}
	}
}
