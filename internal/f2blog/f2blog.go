// Package f2blog writes a log in fail2ban's format, which recidive, log watchers and dashboards go on reading.
//
// It owns the file: how it is opened, followed when somebody moves it away, and written without holding anybody up. What
// the lines say is package fail2ban's (Log..), and when they are said the guard's.
//
// The one thing to know: whoever can write this file can make recidive ban anybody, so it is opened only where nobody else
// could have put it.
package f2blog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"tocsin/internal/fail2ban"
)

// Log is the log. It holds up nobody: lines wait in memory, bounded, for Run to write them. Its methods may be called by
// several goroutines.
type Log struct {
	failed  func(path string, err error)
	target  atomic.Pointer[Target]
	anew    atomic.Bool   // open the file anew
	wake    chan struct{} // something is to be done
	mu      sync.Mutex
	waiting []byte        // whole lines
	dropped uint64        // lines for which there was no room, since the last time that this was said
	lost    atomic.Uint64 // lines that never came to the disk
}

// Target is where the log goes, and from which level. An empty path is nowhere.
type Target struct {
	Path  string
	Level Level
}

// Level is a level of Python's logging.
type Level int

// The levels that are written.
const (
	Debug   Level = 10
	Info    Level = 20
	Notice  Level = 25
	Warning Level = 30
	nothing Level = 100
)

// levels are those of fail2ban.conf. Of those above WARNING nothing is written, those below DEBUG tell no more.
var levels = map[string]Level{
	"CRITICAL": nothing, "ERROR": nothing, "WARNING": Warning, "NOTICE": Notice, "INFO": Info, "MSG": Info - 2,
	"DEBUG": Debug, "TRACEDEBUG": Debug, "HEAVYDEBUG": Debug,
}

// ParseLevel reads a loglevel of fail2ban.conf, a name or a number.
func ParseLevel(text string) Level {
	if level, ok := levels[strings.ToUpper(text)]; ok {
		return level
	}
	if n, err := strconv.Atoi(text); err == nil {
		return Level(n)
	}
	return Info
}

func (l Level) String() string {
	switch l {
	case Debug:
		return "DEBUG"
	case Info:
		return "INFO"
	case Notice:
		return "NOTICE"
	}
	return "WARNING"
}

// maxWaiting is how many bytes of lines wait for the disk, about 80,000 lines.
const maxWaiting = 8 << 20

// New makes a log that goes nowhere until Use. failed is told, by Run, each time that lines are lost.
func New(failed func(path string, err error)) *Log {
	l := &Log{failed: failed, wake: make(chan struct{}, 1)}
	l.target.Store(&Target{})
	return l
}

// Use says where to write from now on.
func (l *Log) Use(t Target) {
	l.target.Store(&t)
	l.rouse()
}

// Reopen opens the file anew, soon: somebody has moved it away. It returns the path, "" if nothing is written.
func (l *Log) Reopen() (path string) {
	l.anew.Store(true)
	l.rouse()
	return l.target.Load().Path
}

func (l *Log) rouse() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Writes says whether lines of a level are written.
func (l *Log) Writes(level Level) bool {
	t := l.target.Load()
	return t.Path != "" && level >= t.Level
}

// Say writes a line soon. It does not wait. component is fail2ban's name of who says it (fail2ban.From..).
func (l *Log) Say(component string, level Level, msg string) {
	if !l.Writes(level) {
		return
	}
	l.mu.Lock()
	if len(l.waiting) < maxWaiting {
		l.waiting = fail2ban.AppendLog(l.waiting, time.Now(), os.Getpid(), component, level.String(), msg)
	} else {
		l.dropped++
		l.lost.Add(1)
	}
	l.mu.Unlock()
	l.rouse()
}

// Lost is how many lines never came to the disk.
func (l *Log) Lost() uint64 { return l.lost.Load() }

// Run writes until ctx ends, and then what is left.
func (l *Log) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var out file
	defer out.close()
	for {
		select {
		case <-ctx.Done():
			l.write(&out)
			return nil
		case <-tick.C:
			out.follow()
		case <-l.wake:
		}
		l.write(&out)
	}
}

// write brings what waits to the file. What cannot be written is dropped: it would be old news when the disk is back.
func (l *Log) write(out *file) {
	l.mu.Lock()
	lines, dropped := l.waiting, l.dropped
	l.waiting, l.dropped = nil, 0
	l.mu.Unlock()
	path := l.target.Load().Path
	if l.anew.Swap(false) || path != out.path {
		out.close()
	}
	var err error
	switch out.path = path; {
	case path == "":
		return
	case out.f == nil:
		err = out.open()
	}
	if err == nil && len(lines) > 0 {
		_, err = out.f.Write(lines)
	}
	if dropped > 0 && err == nil {
		err = fmt.Errorf("%d lines came faster than they could be written", dropped)
	}
	if err != nil {
		l.lost.Add(uint64(bytes.Count(lines, []byte("\n"))))
		l.failed(path, err)
	}
}

// file is the file of the log.
type file struct {
	path string
	f    *os.File // nil: not open
	info os.FileInfo
}

func (o *file) close() {
	if o.f != nil {
		_ = o.f.Close() // every line is written when it comes
	}
	o.f, o.info = nil, nil
}

// follow closes a file that was moved away or removed, so that the next line opens its successor.
func (o *file) follow() {
	if o.f == nil {
		return
	}
	if now, err := os.Lstat(o.path); err != nil || !os.SameFile(now, o.info) {
		o.close()
	}
}

// open opens the file, or makes it. In a folder where others may write, they may have put something in its place: a link
// to a file of the system, a pipe that never ends. Nothing of that kind is written to.
func (o *file) open() error {
	f, err := os.OpenFile(o.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o640)
	if errors.Is(err, unix.ELOOP) {
		return fmt.Errorf("%s is a symbolic link; name the file that it leads to", o.path)
	}
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil {
		err = check(info)
	}
	if err != nil {
		_ = f.Close()
		return fmt.Errorf("%s: %w", o.path, err)
	}
	o.f, o.info = f, info
	return nil
}

func check(info os.FileInfo) error {
	if !info.Mode().IsRegular() {
		return errors.New("not a file")
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return errors.New("cannot tell whose file it is")
	}
	if st.Nlink > 1 {
		return errors.New("it has a second name, which may be a file of the system")
	}
	if st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("it belongs to user %d, who could make it tell of bans that never were", st.Uid)
	}
	return nil
}
