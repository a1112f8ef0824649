// Package store keeps what must survive: decisions with their evidence, logins, counts of failures, the allow list, and
// how far each source was read. It is one SQLite file, described in docs/format/store.md.
//
// It decides nothing, knows no configuration, and keeps no copy in memory of what it has written.
//
// The one thing to know: one goroutine writes, and everything goes to it through a bounded queue. Put waits until its
// decisions are on the disk, everything else is written along with them or within a second. A disk that stalls or is full
// makes Put wait and nobody else: reads have connections of their own and see what is still queued, the writer tries again
// until it succeeds. A file that is damaged is moved aside and a new one begun, with the bans in force and the allow list
// as far as they could be read.
package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"tocsin"
)

// The errors that callers may test for.
var (
	ErrFull   = errors.New("store: the queue is full, the decision will be lost when the program ends")
	ErrClosed = errors.New("store: closed")
)

// Options are a store's settings.
type Options struct {
	Log         *slog.Logger  // nil: silent
	Queue       int           // calls of Put that may wait for a slow disk, default 10,000, about 2 KiB a ban; as many logins and counts wait beside them
	Delay       time.Duration // how long logins, counts and marks wait for company, default 1 s
	CloseWithin time.Duration // how long Close waits for a slow disk, default 4 s

	small int64 // up to this size a file is checked before it is used; tests change it
}

const smallFile = 128 << 20

// Store is one open file. Its methods may be called by several goroutines at once.
type Store struct {
	path string
	o    Options
	most limits               // mostKept but in tests
	file atomic.Pointer[file] // replaced by the writer when the file is damaged

	mu      sync.Mutex
	waiting batch // not yet taken by the writer
	flight  batch // being written
	owed    bool  // to what nobody waits for, because it was passed over
	closed  bool
	stats   Stats

	wake    chan struct{}        // something to write now; holds one
	later   chan struct{}        // something to write within Delay; holds one
	giveUp  chan struct{}        // closed when Close has waited long enough
	done    chan struct{}        // closed when the writer has ended
	damaged atomic.Pointer[file] // a reader found this file at fault

	checking  sync.WaitGroup // of a large file
	stopCheck context.CancelFunc

	rescued rescued // the writer's

	asking  chan struct{} // holds one while somebody waits for Decided
	looking sync.Mutex    // held while Decided reads, even if nobody waits for it any more
}

// rescued is what could be read of a damaged file.
type rescued struct {
	bans    []tocsin.Decision
	allowed []AllowEntry
}

// Stats are the store's counters.
type Stats struct {
	Pending    int    // decisions not yet on the disk
	Written    uint64 // decisions written; repeated ones count again
	Refused    uint64 // decisions refused because the queue was full
	Dropped    uint64 // logins, counts and marks dropped because the queue was full
	Failed     uint64 // writes given up because the data could not be stored, whatever the disk did
	Errors     uint64 // attempts to write or read that failed
	LastError  string // why the last attempt to write failed, "" if it succeeded
	MovedAside string // see Store.MovedAside
	Size       int64  // bytes on the disk
}

// Open opens the store at path, an absolute name, and makes it with mode 0600 if it does not exist.
//
// A file that is damaged, is no store or is from a newer version of the program is moved aside to
// path.corrupt-YYYYMMDDTHHMMSS and a new one is begun: MovedAside says so. Open fails if the file cannot be read or made at
// all, or if another process holds it.
func Open(path string, o Options) (*Store, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Queue <= 0 {
		o.Queue = 10_000
	}
	if o.Delay <= 0 {
		o.Delay = time.Second
	}
	if o.CloseWithin <= 0 {
		o.CloseWithin = 4 * time.Second
	}
	if o.small == 0 {
		o.small = smallFile
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", path, err)
	}
	s := &Store{
		path: path, o: o, most: mostKept,
		waiting: newBatch(), flight: newBatch(),
		wake: make(chan struct{}, 1), later: make(chan struct{}, 1),
		giveUp: make(chan struct{}), done: make(chan struct{}),
		asking: make(chan struct{}, 1),
	}
	f, err := openFile(context.Background(), path, o.small)
	if unusable(err) {
		if err = s.setAside(err); err == nil {
			f, err = s.begin(context.Background())
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", path, err)
	}
	s.file.Store(f)
	go s.write(context.Background(), f)
	ctx, cancel := context.WithCancel(context.Background())
	s.stopCheck = cancel
	if !f.isSmall() {
		s.checking.Go(func() { s.examine(ctx, f) })
	}
	return s, nil
}

// examine checks a file that is in use already.
func (s *Store) examine(ctx context.Context, f *file) {
	if err := f.check(ctx); unusable(err) {
		s.damaged.Store(f)
		poke(s.wake)
	}
}

// Close writes what is queued and closes the file. If the disk does not take it within Options.CloseWithin, Close
// returns an error that says how many decisions were lost.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	s.stopCheck()
	poke(s.wake)
	timer := time.NewTimer(s.o.CloseWithin)
	defer timer.Stop()
	select {
	case <-s.done:
		s.checking.Wait()
		return s.file.Load().close()
	case <-timer.C:
	}
	close(s.giveUp)
	return fmt.Errorf("close store %s: %d decisions could not be written: %s", s.path, s.Stats().Pending, s.Stats().LastError)
}

// MovedAside returns the name that a damaged file was given, at Open or since, the last if there were several, and "" if
// there was none. It does not touch the disk.
func (s *Store) MovedAside() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats.MovedAside
}

// Stats returns the counters.
func (s *Store) Stats() Stats {
	s.mu.Lock()
	st := s.stats
	st.Pending = s.waiting.decisions + s.flight.decisions
	s.mu.Unlock()
	for _, name := range []string{s.path, s.path + "-wal"} {
		if info, err := os.Stat(name); err == nil {
			st.Size += info.Size()
		}
	}
	return st
}

// rescue closes a file that is at fault. What it still tells of the bans in force and the allow list is kept for begin.
func (s *Store) rescue(f *file) {
	now := time.Now()
	s.rescued.bans, _ = f.active(now) // as much as could be read
	s.rescued.allowed, _ = f.allowed(now)
	f.close()
}

// setAside gives a file that is at fault another name, unless somebody else has removed it already.
func (s *Store) setAside(cause error) error {
	if errors.Is(cause, errGone) {
		s.o.Log.Error("store removed, beginning anew", "file", s.path, "n", len(s.rescued.bans))
		return nil
	}
	to, err := moveAside(s.path, time.Now())
	if err != nil {
		return fmt.Errorf("move the damaged store aside: %w", err)
	}
	s.o.Log.Error("store damaged, moved aside", "file", to, "err", cause, "n", len(s.rescued.bans))
	s.mu.Lock()
	s.stats.MovedAside = to
	s.mu.Unlock()
	return nil
}

// begin opens the file anew and writes into it what was rescued.
func (s *Store) begin(ctx context.Context) (*file, error) {
	f, err := openFile(ctx, s.path, s.o.small)
	if err != nil {
		return nil, err
	}
	err = f.transaction(ctx, func() error {
		for i := range s.rescued.bans {
			if err := f.putDecision(ctx, &s.rescued.bans[i]); err != nil {
				return err
			}
		}
		for _, e := range s.rescued.allowed {
			if err := f.allow(ctx, e); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, f.close())
	}
	s.rescued = rescued{}
	s.file.Store(f)
	return f, nil
}

// poke puts something into a channel that holds one, if it is empty.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
