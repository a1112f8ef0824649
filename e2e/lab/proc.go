package lab

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Proc is a program that runs on a host. Somebody always waits for it, so that the host can end.
type Proc struct {
	cmd  *exec.Cmd
	out  *os.File // in memory; a pipe would keep us waiting for grandchildren
	done chan struct{}
	err  error // valid once done is closed
}

// Start starts cmd on the host, with both outputs kept in memory unless cmd says otherwise.
func (h *Host) Start(cmd *exec.Cmd) (*Proc, error) {
	fd, err := unix.MemfdCreate("output", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make room for the output of %s: %w", cmd.Path, err)
	}
	p := &Proc{cmd: cmd, out: os.NewFile(uintptr(fd), "output"), done: make(chan struct{})}
	if cmd.Dir == "" {
		cmd.Dir = "/"
	}
	if cmd.Stdout == nil {
		cmd.Stdout = p.out
	}
	if cmd.Stderr == nil {
		cmd.Stderr = p.out
	}
	if err := h.Do(cmd.Start); err != nil {
		p.out.Close()
		return nil, fmt.Errorf("start %s on %s: %w", cmd.Path, h.Name, err)
	}
	go func() {
		defer close(p.done)
		p.err = cmd.Wait()
	}()
	return p, nil
}

// Wait returns when the program has ended, with the error of exec.Cmd.Wait.
func (p *Proc) Wait() error {
	<-p.done
	return p.err
}

// Done is closed when the program has ended.
func (p *Proc) Done() <-chan struct{} { return p.done }

// Pid is the process id as this program sees it, not as the host does.
func (p *Proc) Pid() int { return p.cmd.Process.Pid }

// Code is the exit code, -1 while the program runs and after a signal.
func (p *Proc) Code() int {
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	default:
		return -1
	}
}

// Output is what the program has written so far.
func (p *Proc) Output() string {
	text, err := io.ReadAll(io.NewSectionReader(p.out, 0, 1<<30))
	if err != nil {
		return fmt.Sprintf("(output cannot be read: %v)", err)
	}
	return string(text)
}

// Signal sends sig to the program and to nobody else.
func (p *Proc) Signal(sig syscall.Signal) error { return p.cmd.Process.Signal(sig) }

// Kill ends the program at once and returns when it is gone.
func (p *Proc) Kill() {
	p.cmd.Process.Kill() // it may have ended by itself
	<-p.done
}

// Stop sends SIGTERM, and says whether the program ended within the time. It is killed if it did not.
func (p *Proc) Stop(within time.Duration) error {
	p.Signal(syscall.SIGTERM) // it may have ended by itself
	select {
	case <-p.done:
		return nil
	case <-time.After(within):
		p.Kill()
		return fmt.Errorf("%s did not end within %v of SIGTERM", p.cmd.Path, within)
	}
}
