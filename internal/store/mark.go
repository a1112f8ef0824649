package store

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"
)

// Mark is how far a source was read.
type Mark struct {
	Source      string // as written in the configuration
	Path        string // the file, where the source names several; with Source it names the mark
	File        uint64 // which file it was: it survives a rename
	Offset      int64
	Fingerprint uint64 // of the beginning of the file
	Cursor      string // of a journal
	At          time.Time
}

type markKey struct{ source, path string }

// PutMark keeps marks. It does not wait. A mark reaches the disk together with, or after, every decision that was put
// before it, so what it says was read was also decided.
func (s *Store) PutMark(ms ...Mark) {
	s.enqueue(func(b *batch) (dropped int) {
		for _, m := range ms {
			k := markKey{m.Source, m.Path}
			if _, ok := b.marks[k]; !ok && len(b.marks) >= s.o.Queue {
				dropped++
				continue
			}
			b.marks[k] = m
		}
		return dropped
	})
}

func (f *file) putMark(ctx context.Context, m Mark) error {
	_, err := f.stmt.putMark.ExecContext(ctx, m.Source, m.Path, int64(m.File), m.Offset, int64(m.Fingerprint), m.Cursor, micros(m.At))
	return err
}

// Marks returns the marks of a source, in the order of their paths: every mark that was put before the call, whether it is
// on the disk or still queued.
func (s *Store) Marks(source string) ([]Mark, error) {
	queued := s.queuedMarks(source) // before the file is read: what is written meanwhile must not be missed
	var ms []Mark
	err := s.read("read marks", func(f *file) error {
		return each(func(scan func(...any) error) error {
			var m Mark
			var file, fingerprint, at int64
			err := scan(&m.Source, &m.Path, &file, &m.Offset, &fingerprint, &m.Cursor, &at)
			m.File, m.Fingerprint, m.At = uint64(file), uint64(fingerprint), fromMicros(at)
			if _, ok := queued[m.Path]; !ok {
				ms = append(ms, m)
			}
			return err
		}, f.stmt.marks, source)
	})
	ms = slices.AppendSeq(ms, maps.Values(queued))
	slices.SortFunc(ms, func(a, b Mark) int { return strings.Compare(a.Path, b.Path) })
	return ms, err
}

// queuedMarks returns the marks of a source that are not on the disk yet, the last one of each path.
func (s *Store) queuedMarks(source string) map[string]Mark {
	s.mu.Lock()
	defer s.mu.Unlock()
	ms := map[string]Mark{}
	for _, b := range []*batch{&s.flight, &s.waiting} {
		for k, m := range b.marks {
			if k.source == source {
				ms[k.path] = m
			}
		}
	}
	return ms
}
