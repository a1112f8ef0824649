// Package source brings lines from the world: files, the journal, syslog sockets and old logs.
//
// It owns where a line begins and ends, how far each source has been read, and how to go on after a rotation, a restart
// or a fault. It does not know what a line means: dates are asked of the caller, and only to find a place to start.
//
// The one thing to know: a Record's Text is a view into the read buffer. It is handed over in the reader's goroutine and
// is valid only during the call. A file's reader may be made to wait (the bytes stay on the disk); a socket's reader
// never waits, it counts what it drops.
package source

import (
	"log/slog"
	"sync/atomic"
	"time"

	"tocsin"
)

const (
	// maxLine is the bound of tocsin.Record: what is longer is cut, and the rest of that line is skipped.
	maxLine = 16 << 10

	// bufSize is one read. Measured on a 100-byte log: 64 KiB costs a tenth of the throughput, 1 MiB leaves the cache.
	bufSize = 256 << 10

	// markEvery is how often a source tells how far it has read while it reads.
	markEvery = time.Second
)

// Mark is how far a source was read. The caller saves it and gives it back at the next start.
//
// A file has one mark for each path, a journal has one, a socket has none (what came over it cannot be read again).
type Mark struct {
	Source      string          // the Name of the source
	Path        string          // of a file; a rotated file's path is its new name
	Pos         tocsin.Position // where the first unread line begins; of a journal, the last entry that was read
	Fingerprint uint64          // of a file's first line and of the bytes before Pos.Offset: recognises a re-used inode
	Cursor      string          // of a journal
	At          time.Time       // when the mark was made, by the wall clock
}

// Sink takes what a source brings. Both functions are called from the reader's goroutine, never at the same time.
type Sink struct {
	Record func(*tocsin.Record)

	// Mark is called at least once a second while something is read, when a file is rotated, and at the end of Run.
	// Every record before the mark has been handed over. It may be nil.
	Mark func(Mark)

	// CaughtUp is called once in a Run, when everything that was there at the start has been handed over: what comes from
	// then on is written at this moment, whatever date it claims. A journal, which does not tell where its past ends, calls
	// it before the first entry that is younger than the start, or after a second of silence; that is right for telling an
	// operator, and its dates cannot be forged. It may be nil.
	CaughtUp func()
}

func (s Sink) mark(m Mark) {
	if s.Mark != nil {
		s.Mark(m)
	}
}

func (s Sink) caughtUp() {
	if s.CaughtUp != nil {
		s.CaughtUp()
	}
}

// Stats is what a source has done since it was made. Only Files, Connections and Polling can fall.
type Stats struct {
	Lines       uint64 // handed over, those read again included
	Seen        uint64 // of Lines, read again after a restart
	Bytes       uint64 // of the lines and their ends, as they stood in the source
	Cut         uint64 // lines longer than 16 KiB, cut there
	Unfinished  uint64 // last lines without a newline in files that were rotated away: never handed over
	Dropped     uint64 // messages that found the queue full
	Refused     uint64 // messages, connections or files beyond a bound or from an address that is not allowed
	Malformed   uint64 // messages that followed no format: handed over as text if they had any
	Rotations   uint64 // files found under a new name or deleted
	Truncations uint64 // files found shorter than they were, or with other content
	Openings    uint64 // files opened, first time included
	Restarts    uint64 // journalctl started again, or a socket opened again
	Errors      uint64 // reads, opens and children that failed
	Files       int    // open at the moment
	Connections int    // open at the moment
	Polling     bool   // inotify is exhausted or switched off
}

// counters is Stats while others may look. The hot path adds to it once a buffer, not once a line.
type counters struct {
	lines, seen, bytes, cut, unfinished, dropped, refused, malformed       atomic.Uint64
	rotations, truncations, openings, restarts, errors, files, connections atomic.Uint64
	polling                                                                atomic.Bool
}

func (c *counters) Stats() Stats {
	return Stats{
		Lines:       c.lines.Load(),
		Seen:        c.seen.Load(),
		Bytes:       c.bytes.Load(),
		Cut:         c.cut.Load(),
		Unfinished:  c.unfinished.Load(),
		Dropped:     c.dropped.Load(),
		Refused:     c.refused.Load(),
		Malformed:   c.malformed.Load(),
		Rotations:   c.rotations.Load(),
		Truncations: c.truncations.Load(),
		Openings:    c.openings.Load(),
		Restarts:    c.restarts.Load(),
		Errors:      c.errors.Load(),
		Files:       int(c.files.Load()),
		Connections: int(c.connections.Load()),
		Polling:     c.polling.Load(),
	}
}

// add takes over what a lines has counted since the last call.
func (c *counters) add(l *lines) {
	c.lines.Add(l.lines)
	c.seen.Add(l.seen)
	c.bytes.Add(l.bytes)
	c.cut.Add(l.cut)
	l.lineCounts = lineCounts{}
}

func logger(l *slog.Logger) *slog.Logger {
	if l == nil {
		return slog.New(slog.DiscardHandler)
	}
	return l
}
