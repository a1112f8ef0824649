package store

import (
	"context"
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

// Marks returns the marks of a source that are on the disk, in the order of their paths.
func (s *Store) Marks(source string) ([]Mark, error) {
	var ms []Mark
	err := s.read("read marks", func(f *file) error {
		return each(func(scan func(...any) error) error {
			var m Mark
			var file, fingerprint, at int64
			err := scan(&m.Source, &m.Path, &file, &m.Offset, &fingerprint, &m.Cursor, &at)
			m.File, m.Fingerprint, m.At = uint64(file), uint64(fingerprint), fromMicros(at)
			ms = append(ms, m)
			return err
		}, f.stmt.marks, source)
	})
	return ms, err
}
