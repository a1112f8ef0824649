package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"tocsin/internal/exec"
)

// This file is the starter. The guard gives up root's power at its start, and could never start the watch process or the
// runner again. So it leaves a process behind that keeps that power, and can do nothing with it but start those two, with
// arguments that it was given before.

// What the starter starts.
const (
	theWatch  = "watch"
	theRunner = "runner"
	noMore    = "end" // the guard is ending, and wants nothing to be started any more
)

// StarterOptions are what the starter is started with.
type StarterOptions struct {
	Guard net.Conn // where the guard asks; it ends when that does
	// Watch and Runner are the arguments of the two.
	Watch, Runner []string
	Output        *os.File // where the watch process logs, as its descriptor 3
	Log           *slog.Logger
}

// ended is what the starter tells when something that it started has ended, or could not be started.
type ended struct {
	What  string `json:"what"`
	Error string `json:"error"` // "": it ended by itself, and well
}

const (
	maxMessage = 1024 // bytes of a message between guard and starter
	// watchEnds is how long a watch process that is told to end may take: a report that is under way gets its answer.
	watchEnds = 3500 * time.Millisecond
	// runnerEnds is how long a runner may take, commands included.
	runnerEnds = 2 * time.Second
)

// RunStarter starts what the guard asks for, each once at a time, until the guard ends. Then it ends what it started.
func RunStarter(o StarterOptions) error {
	guard, ok := o.Guard.(*net.UnixConn)
	if !ok {
		return errors.New("the stream to the guard is no unix socket")
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the program to start: %w", err)
	}
	s := starting{o: o, self: self, guard: guard, running: map[string]*started{}}
	defer s.endAll()
	for {
		what, file, err := receive(guard)
		if err != nil {
			return nil // the guard has ended
		}
		s.take(what, file)
		if file != nil {
			_ = file.Close()
		}
	}
}

// starting is the starter at work.
type starting struct {
	o     StarterOptions
	self  string
	guard *net.UnixConn

	mu      sync.Mutex
	running map[string]*started
	no      bool // nothing is started any more
}

// started is a child of the starter.
type started struct {
	life *os.File // closed when it is to end; nil if it notices otherwise
	kill context.CancelFunc
	done chan struct{}
}

// take does what the guard asks for. What it asks for twice, or too late, is not done again.
func (s *starting) take(what string, file *os.File) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if what == noMore {
		s.no = true
		s.endWatch()
		return
	}
	if s.no {
		return
	}
	var err error
	switch {
	case s.running[what] != nil:
		err = errors.New("it runs already")
	case what == theWatch:
		err = s.startWatch()
	case what == theRunner && file != nil:
		err = s.start(theRunner, exec.Command{Path: s.self, Args: s.o.Runner, Files: []*os.File{file}, Orphan: true}, nil)
	default:
		err = fmt.Errorf("asked for %q", what)
	}
	if err != nil {
		s.tell(what, err)
	}
}

// startWatch starts the watch process as its own user. It ends when its line, the descriptor 4, does.
func (s *starting) startWatch() error {
	theirs, ours, err := os.Pipe()
	if err != nil {
		return err
	}
	defer theirs.Close()
	c := exec.Command{Path: s.self, Args: s.o.Watch, Files: []*os.File{s.o.Output, theirs}}
	if os.Geteuid() == 0 {
		u := watchUser()
		c.User = &u
	}
	if err := s.start(theWatch, c, ours); err != nil {
		_ = ours.Close()
		return err
	}
	return nil
}

func (s *starting) start(what string, c exec.Command, life *os.File) error {
	ctx, kill := context.WithCancel(context.Background())
	child, err := exec.Start(ctx, c)
	if err != nil {
		kill()
		return err
	}
	p := &started{life: life, kill: kill, done: make(chan struct{})}
	s.running[what] = p
	go func() {
		defer close(p.done)
		defer kill()
		_ = child.Stdout.Close()
		err := child.Wait()
		if life != nil {
			_ = life.Close()
		}
		s.logCrash(what, err)
		s.mu.Lock()
		delete(s.running, what)
		s.mu.Unlock()
		s.tell(what, err)
	}()
	return nil
}

// mostCrashLines is how much of a crash is logged: what went wrong, and where.
const mostCrashLines = 40

// logCrash logs what a program of ours said when it crashed, which nobody can ask for again.
func (s *starting) logCrash(what string, err error) {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return
	}
	for _, line := range exit.Crash[:min(len(exit.Crash), mostCrashLines)] {
		s.o.Log.Error("crashed", "service", what, "err", line)
	}
}

// tell tells the guard, if it still listens.
func (s *starting) tell(what string, err error) {
	e := ended{What: what}
	if err != nil {
		e.Error = err.Error()
		e.Error = e.Error[:min(len(e.Error), maxMessage/4)]
	}
	text, err := json.Marshal(e)
	if err == nil {
		_, err = s.guard.Write(text)
	}
	if err != nil && !errors.Is(err, syscall.EPIPE) {
		s.o.Log.Warn("the guard was not told what ended", "service", what, "err", err)
	}
}

// endWatch tells the watch process to end.
func (s *starting) endWatch() {
	if p := s.running[theWatch]; p != nil {
		_ = p.life.Close()
	}
}

// endAll waits until everything has ended, and kills what does not. The runner has seen by itself that the guard is gone.
func (s *starting) endAll() {
	s.mu.Lock()
	s.no = true
	s.endWatch()
	running := map[string]*started{theWatch: s.running[theWatch], theRunner: s.running[theRunner]}
	s.mu.Unlock()
	watch, runner := time.After(watchEnds), time.After(runnerEnds)
	for what, patience := range map[string]<-chan time.Time{theWatch: watch, theRunner: runner} {
		p := running[what]
		if p == nil {
			continue
		}
		select {
		case <-p.done:
		case <-patience:
			p.kill()
			<-p.done
		}
	}
}

// send sends a message, and a file with it if there is one.
func send(conn *net.UnixConn, what string, file *os.File) error {
	var rights []byte
	if file != nil {
		rights = unix.UnixRights(int(file.Fd()))
	}
	_, _, err := conn.WriteMsgUnix([]byte(what), rights, nil)
	return err
}

// receive receives a message of send.
func receive(conn *net.UnixConn) (what string, file *os.File, err error) {
	buf, rights := make([]byte, maxMessage), make([]byte, unix.CmsgSpace(4))
	n, rn, _, _, err := conn.ReadMsgUnix(buf, rights)
	if err != nil {
		return "", nil, err
	}
	if n == 0 {
		return "", nil, net.ErrClosed
	}
	if messages, err := unix.ParseSocketControlMessage(rights[:rn]); err == nil && len(messages) == 1 {
		if fds, err := unix.ParseUnixRights(&messages[0]); err == nil && len(fds) == 1 {
			unix.CloseOnExec(fds[0])
			file = os.NewFile(uintptr(fds[0]), "received")
		}
	}
	return string(buf[:n]), file, nil
}

// packets makes a line on which messages keep their bounds; a child gets one end of it as a file.
func packets() (ours *net.UnixConn, childs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make socket pair: %w", err)
	}
	mine := os.NewFile(uintptr(fds[0]), "ours")
	defer mine.Close() // FileConn has its own
	childs = os.NewFile(uintptr(fds[1]), "the starter's")
	conn, err := net.FileConn(mine)
	if err != nil {
		_ = childs.Close()
		return nil, nil, fmt.Errorf("make socket pair: %w", err)
	}
	return conn.(*net.UnixConn), childs, nil
}
