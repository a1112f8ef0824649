package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"tocsin/internal/api"
	"tocsin/internal/exec"
)

// This file is the guard's side of the starter: what runs beside the guard is started again when it ends.

// starter is the guard's line to the process that starts others.
type starter struct {
	conn  *net.UnixConn
	child *exec.Child
	kill  context.CancelFunc
	done  chan struct{} // closed when it has ended

	mu      sync.Mutex
	waiting map[string]chan error // for the end of what was started; each holds one
	gone    bool
}

var errStarterGone = errors.New("the process that would start it has ended; start the guard again")

// useStarter returns the line to the process that starts others. The first time it starts that one, which must be done before
// privileges are given up.
func (g *Guard) useStarter(s *set) (*starter, error) {
	if g.starter != nil {
		return g.starter, nil
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find the program to start: %w", err)
	}
	conn, childs, err := packets()
	if err != nil {
		return nil, err
	}
	defer childs.Close()
	args, err := g.places()
	if err != nil {
		return nil, err
	}
	args = append(args, "starter", "--fd", "3", "--log-fd", "4")
	if g.o.Terminal {
		args = append(args, "--link", g.newPagesLink(s.conf))
	}
	if s.conf.Fail2ban.Dir != "" {
		args = append(args, "--fail2ban", s.conf.Fail2ban.Dir)
	}
	// It ends when it sees that we have, once it has ended the others.
	ctx, kill := context.WithCancel(context.Background())
	child, err := exec.Start(ctx, exec.Command{Path: self, Args: args, Files: []*os.File{childs, os.Stderr}, Orphan: true})
	if err != nil {
		kill()
		_ = conn.Close()
		return nil, err
	}
	st := newStarter(conn)
	st.child, st.kill = child, kill
	go func() {
		defer close(st.done)
		_ = child.Stdout.Close()
		if err := child.Wait(); err != nil && g.life.Err() == nil {
			g.log.Error("what ends now is not started again", "err", err)
		}
	}()
	g.starter = st
	return st, nil
}

// places are the flags that lead another process to our files from wherever it runs.
func (g *Guard) places() (args []string, err error) {
	for _, p := range []struct{ flag, path string }{{"--state", g.state}, {"--socket", g.o.Config.Socket}, {"--config", g.o.Path}} {
		if p.path == "" {
			continue
		}
		path, err := filepath.Abs(p.path)
		if err != nil {
			return nil, fmt.Errorf("find %s: %w", p.path, err)
		}
		args = append(args, p.flag, path)
	}
	return args, nil
}

func newStarter(conn *net.UnixConn) *starter {
	s := &starter{conn: conn, done: make(chan struct{}), waiting: map[string]chan error{}}
	go s.listen()
	return s
}

// start has something started, and tells when it has ended and why; nil is well. One thing at a time may be started under a
// name.
func (s *starter) start(what string, file *os.File) (<-chan error, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		return nil, errStarterGone
	}
	if s.waiting[what] != nil {
		return nil, errors.New("it runs already")
	}
	if err := send(s.conn, what, file); err != nil {
		return nil, fmt.Errorf("%w (%w)", errStarterGone, err)
	}
	s.waiting[what] = make(chan error, 1)
	return s.waiting[what], nil
}

// listen hears what has ended, until the starter itself has.
func (s *starter) listen() {
	for {
		text, file, err := receive(s.conn)
		if file != nil {
			_ = file.Close()
		}
		var e ended
		switch {
		case err != nil:
			s.tellAll()
			return
		case json.Unmarshal([]byte(text), &e) == nil:
			s.tell(e)
		}
	}
}

func (s *starter) tell(e ended) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.waiting[e.What]; c != nil {
		delete(s.waiting, e.What)
		if e.Error == "" {
			c <- nil
		} else {
			c <- errors.New(e.Error)
		}
	}
}

// tellAll says that nobody knows any more what runs.
func (s *starter) tellAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone = true
	for what, c := range s.waiting {
		delete(s.waiting, what)
		c <- errStarterGone
	}
}

// stopStarter ends what was started, and who started it.
func (g *Guard) stopStarter() {
	if g.starter == nil {
		return
	}
	_ = g.starter.conn.Close()
	select {
	case <-g.starter.done:
	case <-time.After(watchEnds + time.Second):
		g.log.Warn("what runs beside the guard takes long to end, and is left behind")
	}
	g.starter.kill()
}

// How long to wait before something that ended is started again: twice as long each time in a row.
const (
	firstAgain = time.Second
	lastAgain  = time.Minute // who ran for so long was well
	idleLook   = 5 * time.Second
)

// kept is a process beside the guard that is started again whenever it ends.
type kept struct {
	name  string // one word
	what  string // for people
	lacks string // what is missing while it does not run
	start func() (ended <-chan error, err error)
	// wanted says whether there is anything for it to do; nil: always.
	wanted func() bool
	log    *slog.Logger

	mu   sync.Mutex
	up   bool
	ends int
	last error
	at   time.Time
}

// keep runs a process until ctx ends. Only the first start is waited for.
func (g *Guard) keep(k *kept) {
	k.log = g.log
	g.kept = append(g.kept, k)
	ended := k.begin()
	go k.run(g.life, ended)
}

// begin starts the process; one that cannot be started has ended.
func (k *kept) begin() <-chan error {
	ended, err := k.start()
	if err != nil {
		failed := make(chan error, 1)
		failed <- err
		return failed
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.up = true
	return ended
}

func (k *kept) run(ctx context.Context, ended <-chan error) {
	wait := firstAgain
	for began := time.Now(); ; began = time.Now() {
		var err error
		select {
		case err = <-ended:
		case <-ctx.Done():
			return
		}
		if ctx.Err() != nil {
			return // it was told to
		}
		if time.Since(began) >= lastAgain {
			wait = firstAgain
		}
		if k.idle() {
			k.log.Info(k.what + " has nothing to do, and ended")
		} else {
			n := k.fell(err)
			if errors.Is(err, errStarterGone) {
				k.log.Error(k.what+" does not run any more: "+k.lacks, "err", err)
				return
			}
			k.log.Error(k.what+" ended: "+k.lacks+"; starting it again", "err", err, "dur", wait, "n", n)
			if !pause(ctx, wait) {
				return
			}
			wait = min(2*wait, lastAgain)
		}
		for k.idle() {
			if !pause(ctx, idleLook) {
				return
			}
		}
		ended = k.begin()
	}
}

func (k *kept) idle() bool { return k.wanted != nil && !k.wanted() }

// fell notes an end that nobody wanted.
func (k *kept) fell(err error) (n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err == nil {
		err = errors.New("it ended by itself")
	}
	k.up, k.last, k.at = false, err, time.Now()
	k.ends++
	return k.ends
}

// look tells how it stands with the process.
func (k *kept) look() (ends int, up bool, at time.Time, last error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.ends, k.up, k.at, k.last
}

// findKept tells of processes beside the guard that ended.
func (g *Guard) findKept(f *findings) {
	for _, k := range g.kept {
		switch n, up, at, last := k.look(); {
		case n == 0:
		case up:
			f.add("TOC-RUN-003", api.SeverityWarning, "look at the log", "%s ended %s, the last at %s, and was started again: %s",
				k.what, api.Count(n, "time", "times"), at.Local().Format(time.DateTime), last)
		default:
			fix := "look at the log; it is started again within a minute"
			if errors.Is(last, errStarterGone) {
				fix = "start the guard again"
			}
			f.add("TOC-RUN-003", api.SeverityError, fix, "%s does not run, %s; it ended %s, the last at %s: %s",
				k.what, k.lacks, api.Count(n, "time", "times"), at.Local().Format(time.DateTime), last)
		}
	}
}
