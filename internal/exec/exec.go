// Package exec runs child programs and makes sure that they end.
//
// It owns deadlines, process groups, users, bounded output and a clean environment, and the protocol in which the guard
// asks the runner (Serve, Runner). It runs no shell, inherits no environment, and knows nothing of what the programs are
// for.
//
// The one thing to know: a child leads a process group of its own, and the whole group is killed when the child ends, when
// its time is up or its context ends, unless Command says otherwise. If this program itself dies, the kernel kills the
// child.
package exec

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Bounds where a Command names none.
const (
	defaultTimeout   = 30 * time.Second
	defaultMaxOutput = 1 << 20 // bytes
)

// Path is the PATH of every child.
const Path = folders

// folders are searched by Find, in this order, and are the PATH of every child. A daemon's own PATH often lacks sbin,
// where sshd lives.
const folders = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Command says what to run and how much of it to bear.
type Command struct {
	Path      string        // absolute
	Args      []string      // without the program's name
	Env       []string      // "NAME=VALUE", beside PATH and LC_ALL=C; nothing is inherited
	Dir       string        // where it runs; "": /
	Stdin     io.Reader     // nil: empty
	Timeout   time.Duration // for Run; 0: 30 s
	MaxOutput int           // for Run: bytes of standard output; 0: 1 MiB
	Cut       bool          // for Run: what comes beyond MaxOutput is thrown away, and the program goes on

	User  *User      // who it runs as, without capabilities; nil: as this program
	Files []*os.File // open in the child as descriptors 3 and up

	// Leaves says that what the program left running when it ended by itself goes on: people's scripts put slow things
	// into the background. When its time is up or its context ends the whole group is killed all the same.
	Leaves bool
	// Session makes the child the leader of a session of its own (setsid(2)), and so of its process group: no terminal is its.
	Session bool
	// Orphan says that the child notices by itself when this program dies, and ends what it began before it ends. The
	// kernel then does not kill it.
	Orphan bool
}

// User is an account to run a program as.
type User struct {
	UID, GID uint32
	Groups   []uint32 // other groups
}

// LookupUser finds an account by its name.
func LookupUser(name string) (*User, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return nil, fmt.Errorf("look up user %s: %w", name, err)
	}
	uid, uerr := strconv.ParseUint(u.Uid, 10, 32)
	gid, gerr := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(uerr, gerr); err != nil {
		return nil, fmt.Errorf("look up user %s: %w", name, err)
	}
	return &User{UID: uint32(uid), GID: uint32(gid)}, nil
}

// Output is what a program wrote. Of standard error the last 4 KiB are kept.
type Output struct {
	Stdout, Stderr []byte
	CPU            time.Duration // processor time of the program, and of those that it started and waited for
}

// What keeps a program from running or from ending well, beside an ExitError. Callers test for them with errors.Is.
var (
	ErrMissing = errors.New("no such program") // Path does not exist or may not be executed
	ErrTimeout = errors.New("took too long")   // longer than Command.Timeout; it was killed
	ErrTooLong = errors.New("wrote too much")  // more than Command.MaxOutput; it was killed
)

// ExitError says that a program ended by itself, and badly.
type ExitError struct {
	Program string // its name, without the folder
	Code    int    // -1: ended by Signal
	Signal  string // "" if it exited
	Stderr  string // the last line it wrote to standard error, without control characters; of a crash the first
	// Crash is what a Go program said when it crashed, line by line, 8 KiB at most, without control characters; none if it did not.
	Crash []string
}

// Error is "sshd: no hostkeys available (exit code 1)".
func (e *ExitError) Error() string {
	how := fmt.Sprintf("exit code %d", e.Code)
	if e.Signal != "" {
		how = "ended by signal: " + e.Signal
	}
	if e.Stderr == "" {
		return e.Program + ": " + how
	}
	return fmt.Sprintf("%s: %s (%s)", e.Program, e.Stderr, how)
}

// Find is the absolute path of a program in the usual folders of a Linux system. The error is ErrMissing.
func Find(name string) (string, error) {
	for _, dir := range filepath.SplitList(folders) {
		path := filepath.Join(dir, name)
		if s, err := os.Stat(path); err == nil && s.Mode().IsRegular() && s.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("find %s: %w", name, ErrMissing)
}

// Run runs a program to its end. The error is nil if it exited with 0; otherwise it is ErrMissing, ErrTimeout, ErrTooLong,
// the cause of ctx, an [*ExitError], or what kept the program from starting. Output is what it wrote in every case.
func Run(ctx context.Context, c Command) (Output, error) {
	timeout, limit := c.Timeout, c.MaxOutput
	if timeout <= 0 {
		timeout = defaultTimeout
	}
	if limit <= 0 {
		limit = defaultMaxOutput
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("%w, more than %v", ErrTimeout, timeout))
	defer cancel()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)

	stdout := &head{limit: limit}
	if !c.Cut {
		stdout.full = func() { stop(fmt.Errorf("%w, more than %d bytes", ErrTooLong, limit)) }
	}
	child, err := start(ctx, c, stdout)
	if err != nil {
		return Output{}, err
	}
	err = child.Wait()
	out := Output{Stdout: stdout.buf, Stderr: child.stderr.bytes()}
	if state := child.cmd.ProcessState; state != nil {
		out.CPU = state.UserTime() + state.SystemTime()
	}
	return out, err
}

// start starts the program with its standard output going to stdout, or into the pipe Child.Stdout where that is nil.
func start(ctx context.Context, c Command, stdout io.Writer) (*Child, error) {
	if !filepath.IsAbs(c.Path) {
		return nil, fmt.Errorf("start %q: the path is not absolute", c.Path)
	}
	cmd := exec.CommandContext(ctx, c.Path, c.Args...)
	cmd.Env = append([]string{"PATH=" + folders, "LC_ALL=C"}, c.Env...)
	cmd.Dir = c.Dir
	if cmd.Dir == "" {
		cmd.Dir = "/"
	}
	child := &Child{ctx: ctx, cmd: cmd, leaves: c.Leaves, ended: make(chan struct{})}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.Stdin, stdout, &child.stderr
	if stdout == nil {
		pipe, err := cmd.StdoutPipe()
		if err != nil {
			return nil, fmt.Errorf("start %s: %w", c.Path, err)
		}
		child.Stdout = pipe
	}
	cmd.ExtraFiles = c.Files
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: !c.Session, Setsid: c.Session}
	if !c.Orphan {
		cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	}
	if c.User != nil {
		// Whoever stops being root by a change of the user loses every capability (capabilities(7)).
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: c.User.UID, Gid: c.User.GID, Groups: c.User.Groups}
	}
	cmd.Cancel = child.cancel
	cmd.WaitDelay = drainTime
	if c.Leaves {
		cmd.WaitDelay = leaveTime
	}
	if err := cmd.Start(); err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("start %s: %w", c.Path, context.Cause(ctx))
		}
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) && !errors.Is(err, syscall.EPERM) { // EPERM: we may not become c.User
			return nil, fmt.Errorf("start %s: %w", c.Path, ErrMissing)
		}
		return nil, fmt.Errorf("start %s: %w", c.Path, err)
	}
	go child.watch()
	return child, nil
}

// goCrashed is the exit code of a Go program that panicked (src/runtime/panic.go).
const goCrashed = 2

// exitError describes how a program ended that did not exit with 0.
func (c *Child) exitError(state *os.ProcessState) error {
	e := &ExitError{Program: filepath.Base(c.cmd.Path), Code: state.ExitCode(), Stderr: c.stderr.lastLine()}
	if s, ok := state.Sys().(syscall.WaitStatus); ok && s.Signaled() {
		e.Signal = s.Signal().String()
	}
	if lines := c.stderr.crashed(); len(lines) > 0 && (e.Code == goCrashed || e.Signal != "") {
		e.Stderr, e.Crash = lines[0], lines
	}
	return e
}

// printable is s without control characters, which could speak to a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || 0x80 <= r && r < 0xa0 {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}
