package source

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// FileOptions says which files are read, and from where.
type FileOptions struct {
	Name    string // how records and marks name the source: "file:/var/log/auth.log"
	Pattern string // an absolute path; * ? and [..] in any part of it are looked up again whenever something changes

	// Marks are those of the last run. A file with a mark is read on from it, under whatever name it has now. Without
	// any mark this is the first start: what the files hold already is not news.
	Marks []Mark

	// Since is from where the lines before a mark are handed over again, flagged Seen, so that what was counted can be
	// counted again. At the first start that is every line up to the present end. Zero: none. It needs DateOf.
	Since  time.Time
	DateOf DateOf

	FromStart bool // read files without a mark from their first byte, as news
	Poll      bool // never use inotify

	// MaxFiles bounds how many files, and how many directories on the way to them, the pattern may lead to. Default 1024.
	// More names are refused and counted; each file costs a descriptor and a watch.
	MaxFiles int

	Log *slog.Logger // nil: silent
}

// File follows a file, or all files whose names match a pattern, through rotations.
type File struct {
	counters
	o       FileOptions
	pattern pattern
}

// NewFile checks the options. A file that does not exist is waited for, so it opens nothing.
func NewFile(o FileOptions) (*File, error) {
	if !filepath.IsAbs(o.Pattern) {
		return nil, fmt.Errorf("source %s: %q is no absolute path", o.Name, o.Pattern)
	}
	if _, err := filepath.Match(o.Pattern, ""); err != nil {
		return nil, fmt.Errorf("source %s: pattern %q: %w", o.Name, o.Pattern, err)
	}
	if !o.Since.IsZero() && o.DateOf == nil {
		return nil, fmt.Errorf("source %s: reading again since %s needs DateOf", o.Name, o.Since)
	}
	if o.MaxFiles <= 0 {
		o.MaxFiles = 1024
	}
	o.Log = logger(o.Log)
	return &File{o: o, pattern: newPattern(o.Pattern)}, nil
}

const (
	// pollEvery is how often files are looked at that inotify does not watch.
	pollEvery = 200 * time.Millisecond

	// sweepEvery is how often names are looked up although nothing told of a change: what inotify cannot see (a link
	// in the middle of a path, a network file system) is found then.
	sweepEvery = 2 * time.Second
)

// Run reads until ctx ends, and then returns nil; an error means that the kernel refused even an event descriptor. Files
// that cannot be opened are logged, counted and tried again. Run must not be called twice at a time.
func (f *File) Run(ctx context.Context, s Sink) error {
	bell, err := newAlarm(ctx)
	if err != nil {
		return fmt.Errorf("source %s: %w", f.o.Name, err)
	}
	defer bell.close()
	r := newFollower(f, s)
	defer r.close()
	if err := r.run(ctx, bell); err != nil {
		return fmt.Errorf("source %s: %w", f.o.Name, err)
	}
	return nil
}

// run is one turn after the other of reading, looking where the names lead, and waiting.
func (r *follower) run(ctx context.Context, bell alarm) error {
	r.sweep(time.Now())
	for ctx.Err() == nil {
		now := time.Now()
		more := r.read(now)
		if r.lookAgain || now.After(r.nextSweep) {
			r.sweep(now)
			more = true
		}
		r.sayMarks(now)
		wait := time.Duration(0)
		if !more {
			r.caughtUp()
			wait = r.patience(now)
		}
		if err := r.wait(bell, wait); err != nil {
			return err
		}
	}
	r.sayAllMarks(time.Now())
	return nil
}

// follower is one run of a File: everything of it belongs to the reader's goroutine.
type follower struct {
	*File
	sink  Sink
	buf   []byte  // nil until there is a file to read: most logs that a set of jails names are not there
	tails []*tail // older files first, so that a rotated one is read to its end before the one in its place

	in      *inotify // nil: polling
	watches map[int][]watched
	blind   bool // something is not watched: look at everything every pollEvery

	lookAgain bool // names have changed
	begun     bool // the files that existed at the start have been opened
	caught    bool // they have been read to their ends
	nextSweep time.Time
	nextMark  time.Time
	done      []*tail           // what was read of files that were truncated or closed, at most MaxFiles
	complaint map[string]string // by path, the last error that was logged
}

// watched is what an inotify watch stands for: a file, or the names of a place that lead on.
type watched struct {
	tail *tail
	place
}

func newFollower(f *File, s Sink) *follower {
	r := &follower{
		File:      f,
		sink:      s,
		watches:   make(map[int][]watched),
		complaint: make(map[string]string),
	}
	if !f.o.Poll {
		in, err := newInotify()
		if err != nil {
			f.o.Log.Warn("polling files", "source", f.o.Name, "err", err)
		}
		r.in = in
	}
	return r
}

func (r *follower) caughtUp() {
	if !r.caught {
		r.caught = true
		r.sink.caughtUp()
	}
}

func (r *follower) close() {
	for _, t := range r.tails {
		unix.Close(t.fd)
	}
	r.files.Store(0)
	if r.in != nil {
		r.in.close()
	}
}

// read takes one buffer from each file that may have news, older files to their end first. It answers whether there is
// more at once.
func (r *follower) read(now time.Time) (more bool) {
	for _, t := range r.tails {
		if !t.ready && !r.blind {
			continue
		}
		t.ready = false
		if ok, again := r.admit(t, now); !ok {
			more = more || again
			continue
		}
		if r.buf == nil {
			r.buf = make([]byte, bufSize)
		}
		again, err := t.read(r.buf, now, r.sink.Record)
		t.failed = err != nil && !errors.Is(err, errTruncated)
		r.add(&t.lines)
		switch {
		case errors.Is(err, errTruncated):
			r.truncated(t, now)
			return true // what was put before t comes first
		case err != nil:
			r.complain(t.path, err)
			r.lookAgain = true // a stale handle of a network file system: the name may lead to another file
		case again:
			t.ready, more = true, true
			if !t.gone.IsZero() {
				return true
			}
		}
	}
	return more
}

// wait sleeps until something happens, and takes note of what it was.
func (r *follower) wait(bell alarm, d time.Duration) error {
	if r.in == nil {
		return bell.pollFor(-1, d)
	}
	if err := bell.pollFor(r.in.fd, d); err != nil {
		return err
	}
	return r.in.events(r.event)
}

func (r *follower) event(wd int, mask uint32, name []byte) {
	switch {
	case mask&unix.IN_Q_OVERFLOW != 0:
		r.lookAgain = true
		for _, t := range r.tails {
			t.ready = true
		}
	case mask&unix.IN_IGNORED != 0: // the kernel took the watch away: the directory is deleted, or unmounted
		for _, w := range r.watches[wd] {
			r.lookAgain = true
			if w.tail != nil {
				w.tail.wd = -1
			}
		}
		delete(r.watches, wd)
	}
	for _, w := range r.watches[wd] {
		switch {
		case w.tail != nil:
			w.tail.ready = true
			r.lookAgain = r.lookAgain || mask&^unix.IN_MODIFY != 0
		case len(name) == 0 || matchName(w.name, string(name)):
			r.lookAgain = true
		}
	}
}

// patience is how long nothing may happen before something has to be done unasked.
func (r *follower) patience(now time.Time) time.Duration {
	d := r.nextSweep.Sub(now)
	if slices.ContainsFunc(r.tails, func(t *tail) bool { return t.unsaid }) {
		d = min(d, r.nextMark.Sub(now))
	}
	if r.blind {
		d = min(d, pollEvery)
	}
	return max(d, 0)
}

// sayMarks tells how far the files were read, at most once in markEvery.
func (r *follower) sayMarks(now time.Time) {
	if now.Before(r.nextMark) {
		return
	}
	for _, t := range r.tails {
		if t.unsaid {
			r.sayMark(t, now)
			r.nextMark = now.Add(markEvery)
		}
	}
}

func (r *follower) sayAllMarks(now time.Time) {
	for _, t := range r.tails {
		r.sayMark(t, now)
	}
}

func (r *follower) sayMark(t *tail, now time.Time) {
	if m, ok := t.mark(now); ok {
		r.sink.mark(m)
	}
	t.unsaid = false
}

// complain logs and counts an error, once until it changes or is over.
func (r *follower) complain(path string, err error) {
	r.errors.Add(1)
	if r.complaint[path] == err.Error() || len(r.complaint) > r.o.MaxFiles {
		return
	}
	r.complaint[path] = err.Error()
	r.o.Log.Warn("cannot read", "source", r.o.Name, "path", path, "err", err)
}
