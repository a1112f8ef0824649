package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"tocsin/internal/exec"
)

// watchChild is the watch process that `tocsin run` starts itself. The zero one was not started.
type watchChild struct {
	life  *os.File // closed when it is to end
	ended chan struct{}
	kill  context.CancelFunc
}

// A watch process that is told to end has this long; then the kernel ends it with the guard.
const watchEnds = time.Second

// startWatch starts the watch process as its own user, if there is anything for it to do and nobody else does it. It must
// be done before privileges are given up. What it is able to do does not matter to the guard, so that a failure is told
// and nothing more.
func (g *Guard) startWatch() {
	if !g.startsWatch() {
		return
	}
	if conn, err := net.DialTimeout("unix", WatchSocket(g.state), time.Second); err == nil {
		_ = conn.Close()
		return
	}
	if err := g.startWatchChild(); err != nil {
		g.log.Error("the watch process does not run: lists get old, and nothing is reported", "err", err)
		g.trouble.add("watch process", err)
	}
}

// startsWatch says whether the watch process is this guard's to start. Where a sandbox is around us another unit does.
func (g *Guard) startsWatch() bool { return g.o.Watch && g.o.Config.Shares() && bounded() == "" }

func (g *Guard) startWatchChild() error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the program to start the watch process: %w", err)
	}
	if _, err := makeWatchFolder(g.state); err != nil {
		return err
	}
	theirs, ours, err := os.Pipe()
	if err != nil {
		return err
	}
	defer theirs.Close()
	c := exec.Command{
		Path: self, Args: []string{"--state", g.state, "--socket", g.o.Config.Socket, "watch", "--log-fd", "3", "--life-fd", "4"},
		Files: []*os.File{os.Stderr, theirs},
	}
	if g.o.Path != "" {
		c.Args = append([]string{"--config", g.o.Path}, c.Args...)
	}
	if os.Geteuid() == 0 {
		u := watchUser()
		c.User = &u
	}
	ctx, kill := context.WithCancel(context.Background())
	child, err := exec.Start(ctx, c)
	if err != nil {
		kill()
		_ = ours.Close()
		return fmt.Errorf("start the watch process: %w", err)
	}
	g.watch = watchChild{life: ours, ended: make(chan struct{}), kill: kill}
	go func() {
		defer close(g.watch.ended)
		_ = child.Stdout.Close()
		err := child.Wait()
		if g.life.Err() != nil {
			return
		}
		if err == nil {
			err = errors.New("it ended by itself")
		}
		g.log.Error("the watch process ended: lists get old, and nothing is reported, until the guard is started again", "err", err)
		g.trouble.add("watch process", err)
	}()
	return nil
}

// stopWatch lets the watch process end. It runs as somebody else, whom we may not signal: it sees its line cut, and the
// kernel ends it when we do.
func (g *Guard) stopWatch() {
	if g.watch.life == nil {
		return
	}
	_ = g.watch.life.Close()
	select {
	case <-g.watch.ended:
	case <-time.After(watchEnds):
	}
	g.watch.kill()
}
