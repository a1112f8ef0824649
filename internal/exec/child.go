package exec

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// drainTime is how long the output of an ended child may stay open. A descendant that left the process group can hold it.
const drainTime = time.Second

// leaveTime is the same where descendants are meant to stay: they are not waited for, only what was written is.
const leaveTime = 100 * time.Millisecond

// Child is a program that runs beside us until it ends or its context does.
type Child struct {
	// Stdout is what the program writes. Read it to its end, or to the first error, before Wait. When the context ends
	// it is closed and what was not read is lost.
	Stdout io.ReadCloser

	ctx    context.Context // of Start; asked for the cause when the child has ended
	cmd    *exec.Cmd
	stderr tail
	leaves bool // Command.Leaves

	ended chan struct{} // closed when the child has ended and its group is killed
	mu    sync.Mutex
	gone  bool // the group is killed for good; its number may soon be somebody else's
}

// Start starts a program that is to run for long. Whoever starts it calls Wait. Command.Timeout and MaxOutput mean nothing
// here: the context ends it, and the reader of Stdout bounds what it takes.
//
// The kernel kills the child when the thread dies that started it (prctl(2), PR_SET_PDEATHSIG): do not call Start from a
// goroutine that is locked to its thread and ends before the child.
func Start(ctx context.Context, c Command) (*Child, error) {
	return start(ctx, c, nil)
}

// Pid is the child's process and process group.
func (c *Child) Pid() int { return c.cmd.Process.Pid }

// Wait waits until the child has ended and frees what it held. The errors are those of [Run].
func (c *Child) Wait() error {
	<-c.ended
	err := c.cmd.Wait()
	state := c.cmd.ProcessState
	switch {
	case state != nil && state.Success() && (err == nil || errors.Is(err, exec.ErrWaitDelay)):
		return nil
	case c.ctx.Err() != nil:
		return fmt.Errorf("run %s: %w", c.cmd.Path, context.Cause(c.ctx))
	case state != nil && !state.Success():
		return c.exitError(state)
	}
	return fmt.Errorf("run %s: %w", c.cmd.Path, err)
}

// watch waits for the child to end and then kills what is left of its group, unless that may go on. It leaves the child a zombie (WNOWAIT), so
// that its number, which is the group's too, cannot have been given to another process when the signal goes out.
func (c *Child) watch() {
	defer close(c.ended)
	for {
		err := unix.Waitid(unix.P_PID, c.Pid(), nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	c.kill(true)
}

// cancel is what os/exec does when the context ends.
func (c *Child) cancel() error {
	c.kill(false)
	if c.Stdout != nil {
		c.Stdout.Close() // wakes a reader even if a descendant outside the group holds the other end
	}
	return nil
}

// kill kills the group, unless that was done for the last time. The last time spares what may go on.
func (c *Child) kill(last bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		return
	}
	if !last || !c.leaves || c.ctx.Err() != nil {
		_ = syscall.Kill(-c.Pid(), syscall.SIGKILL) // ESRCH: it has ended, as it should
	}
	c.gone = last
}
