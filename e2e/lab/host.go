package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// spaces are the namespaces that every host has for itself.
const spaces = unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC

// Host is one machine of a lab: its own network, mounts, processes and name on the kernel that all share.
//
// Its first process is cat reading a pipe that only this program holds. When the program ends, however it ends, cat
// sees the end of its input and exits, and the kernel kills every other process of the host and takes its namespaces
// away. So nothing is left behind, even by kill -9.
type Host struct {
	Name string

	init  *exec.Cmd
	stdin io.Closer
	pidfd int
}

// private gives a new host what it must not share with the machine: its process table, /run, logs, and /etc.
const private = `
mount --make-rprivate /
mount -t proc proc /proc
mount -t tmpfs -o mode=755 run /run
mount -t tmpfs -o mode=755 log /var/log
mkdir -m 755 /run/lab /run/lab/etc
cp -a /etc/. /run/lab/etc/
mount --bind /run/lab/etc /etc
ip link set lo up
`

func newHost(ctx context.Context, name string) (*Host, error) {
	h := &Host{Name: name, init: exec.Command("cat"), pidfd: -1}
	h.init.Dir = "/"
	h.init.SysProcAttr = &syscall.SysProcAttr{Cloneflags: spaces, PidFD: &h.pidfd}
	stdin, err := h.init.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start host %s: %w", name, err)
	}
	h.stdin = stdin
	if err := h.init.Start(); err != nil {
		return nil, fmt.Errorf("start host %s: %w", name, err)
	}
	rename := func() error { return unix.Sethostname([]byte(name)) }
	if err := h.Do(rename); err != nil {
		return nil, errors.Join(fmt.Errorf("name host %s: %w", name, err), h.close())
	}
	if _, err := h.Script(ctx, private); err != nil {
		return nil, errors.Join(fmt.Errorf("set up host %s: %w", name, err), h.close())
	}
	return h, nil
}

// close ends the host with every process on it, and returns when they are gone.
func (h *Host) close() error {
	defer unix.Close(h.pidfd)
	err := errors.Join(h.stdin.Close(), h.init.Process.Kill(), h.init.Wait())
	var killed *exec.ExitError
	if errors.As(err, &killed) || errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// Do runs fn on a thread inside the host, for what a system call does there: open a socket, read /proc/sys.
// Goroutines that fn starts are outside again. Files can be reached without it, see Path.
func (h *Host) Do(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread, which no other goroutine may get, ends with this one
		done <- func() error {
			// A thread that shares its working directory with others may not change its mount namespace.
			if err := unix.Unshare(unix.CLONE_FS); err != nil {
				return fmt.Errorf("leave the threads' common directory: %w", err)
			}
			if err := unix.Setns(h.pidfd, spaces); err != nil {
				return fmt.Errorf("enter host %s: %w", h.Name, err)
			}
			return fn()
		}()
	}()
	return <-done
}

// Path is the name under which this program reaches a file of the host.
func (h *Host) Path(name string) string {
	return filepath.Join("/proc", fmt.Sprint(h.init.Process.Pid), "root", name)
}

// Write puts a file onto the host, with its folders.
func (h *Host) Write(name, text string, mode os.FileMode) error {
	path := h.Path(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	// A child that is forked while the file is open for writing holds it open until it runs its own program, and a file
	// that somebody holds so cannot be run (execve(2), ETXTBSY).
	syscall.ForkLock.RLock()
	err := os.WriteFile(path, []byte(text), mode)
	syscall.ForkLock.RUnlock()
	if err != nil {
		return err
	}
	return os.Chmod(path, mode) // whatever the umask says
}

// Read is the text of a file of the host.
func (h *Host) Read(name string) (string, error) {
	text, err := os.ReadFile(h.Path(name))
	return string(text), err
}

// Run runs a program on the host and returns what it wrote to both outputs. The error is an *exec.ExitError where the
// program ran and failed.
func (h *Host) Run(ctx context.Context, name string, args ...string) (string, error) {
	p, err := h.Start(exec.CommandContext(ctx, name, args...))
	if err != nil {
		return "", err
	}
	err = p.Wait()
	return p.Output(), err
}

// Script runs a shell script on the host; it stops at the first command that fails.
func (h *Host) Script(ctx context.Context, script string) (string, error) {
	out, err := h.Run(ctx, "sh", "-eu", "-c", script)
	if err != nil {
		err = fmt.Errorf("%w: %s", err, strings.TrimSpace(out))
	}
	return out, err
}

// Connect opens a TCP connection from the host and closes it again.
func (h *Host) Connect(to netip.AddrPort, timeout time.Duration) error {
	conn, err := h.Dial(to, timeout)
	if err != nil {
		return err
	}
	return conn.Close()
}

// Dial opens a TCP connection from the host.
func (h *Host) Dial(to netip.AddrPort, timeout time.Duration) (conn net.Conn, err error) {
	err = h.Do(func() error {
		conn, err = net.DialTimeout("tcp", to.String(), timeout)
		return err
	})
	return conn, err
}

// Listen opens a TCP port on the host and greets everyone who connects with one line. It ends with stop.
func (h *Host) Listen(at netip.AddrPort, greeting string) (stop func() error, err error) {
	var l net.Listener
	err = h.Do(func() error {
		l, err = net.Listen("tcp", at.String())
		return err
	})
	if err != nil {
		return nil, err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return // closed
			}
			io.WriteString(conn, greeting+"\n")
			conn.Close()
		}
	}()
	return func() error {
		err := l.Close()
		<-done
		return err
	}, nil
}
