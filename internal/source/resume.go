package source

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// place decides where the reading of t begins, and which of its lines are news.
//
//	with a mark                 news from the mark on
//	appeared while we ran       news from its first byte
//	at the first start          news from its present end on
//	other files have marks      it was made while we did not run: news from the last time we did
//
// What is no news begins at Since.
func (r *follower) place(t *tail, g glance) error {
	news := int64(0)
	var err error
	m, marked := r.markOf(t.fd, t.path, g)
	switch {
	case marked:
		t.rec.Pos.File, news = m.Pos.File, m.Pos.Offset
		t.admitted = m.Path == t.path || m.Pos.File == identity(g.ino, g.first)
	case r.begun || r.o.FromStart:
	case len(r.o.Marks) == 0:
		news, err = lastLine(t.fd, g.size)
	case r.o.DateOf != nil:
		news, err = firstSince(t.fd, g.size, r.lastRan(), r.o.DateOf)
	}
	if err != nil {
		return err
	}
	start := news
	if !r.o.Since.IsZero() {
		if start, err = firstSince(t.fd, news, r.o.Since, r.o.DateOf); err != nil {
			return err
		}
	}
	t.seenBelow = news
	return t.seek(start)
}

// identify takes a file's identity from a look at it.
func (t *tail) identify(g glance) { t.first, t.rec.Pos.File = g.first, identity(g.ino, g.first) }

// markOf finds the mark that belongs to an open file: its own under any name, or else that of a file whose content was
// copied to this name by copytruncate, or written to it again by an editor.
func (r *follower) markOf(fd int, path string, g glance) (mark Mark, ok bool) {
	for _, m := range r.o.Marks {
		own := m.Path == path || m.Pos.File == identity(g.ino, g.first)
		if (own || !ok && mayCopy(m.Path, path)) && matches(fd, g, m) {
			mark, ok = m, true
			if own {
				break
			}
		}
	}
	return mark, ok
}

// matches says whether the file holds, before the mark, what the marked file held.
func matches(fd int, g glance, m Mark) bool {
	if !g.known || g.size < m.Pos.Offset || m.Pos.Offset < 0 {
		return false
	}
	var buf [maxAnchor]byte
	anchor, err := anchorAt(fd, m.Pos.Offset, &buf)
	return err == nil && fingerprint(g.first, anchor) == m.Fingerprint
}

// lastRan is when the newest mark was made. Syslog's dates have whole seconds, so the second is given in full.
func (r *follower) lastRan() (at time.Time) {
	for _, m := range r.o.Marks {
		if m.At.After(at) {
			at = m.At
		}
	}
	return at.Truncate(time.Second)
}

// lastLine is where the last line of the first size bytes begins, if it is unfinished; otherwise size.
func lastLine(fd int, size int64) (int64, error) {
	buf := make([]byte, min(size, maxLine))
	n, err := pread(fd, buf, size-int64(len(buf)))
	if err != nil {
		return 0, err
	}
	if end := bytes.LastIndexByte(buf[:n], '\n'); end >= 0 {
		return size - int64(n-end-1), nil
	}
	if size == int64(n) {
		return 0, nil
	}
	return size, nil
}

// openRotated looks, at the start, for the marked files that were rotated away while we did not run. Their rest is news,
// and is read before that of the files in their place; what is younger than Since is read again.
func (r *follower) openRotated(now time.Time) {
	marks := slices.Clone(r.o.Marks)
	slices.SortFunc(marks, func(a, b Mark) int { return b.At.Compare(a.At) }) // each is put before those already open
	for _, m := range marks {
		if m.Path == "" || slices.ContainsFunc(r.tails, func(t *tail) bool { return t.rec.Pos.File == m.Pos.File }) {
			continue
		}
		for _, path := range relatives(m.Path) {
			if r.openMarked(path, m, now) {
				break
			}
		}
	}
}

// openMarked opens the file at path if m is its mark. It answers whether it was.
func (r *follower) openMarked(path string, m Mark, now time.Time) bool {
	t, g, ok := r.openTail(path, now)
	if !ok {
		return false
	}
	if !matches(t.fd, g, m) {
		unix.Close(t.fd)
		return false
	}
	t.rec.Pos.File, t.was = m.Pos.File, m.Path
	news := g.size > m.Pos.Offset || !r.o.Since.IsZero() && !g.modified().Before(r.o.Since)
	if !news || r.place(t, g) != nil {
		unix.Close(t.fd)
		return true
	}
	t.gone, t.replaced = now, true
	r.openings.Add(1)
	r.tails = slices.Insert(r.tails, 0, t)
	return true
}

// relatives lists the files beside path whose names begin like its own, up to the first dot.
func relatives(path string) (paths []string) {
	stem, _, _ := strings.Cut(filepath.Base(path), ".")
	entries, _ := os.ReadDir(filepath.Dir(path))
	for _, e := range entries {
		if e.Type().IsRegular() && strings.HasPrefix(e.Name(), stem) && !isCompressed(e.Name()) {
			paths = append(paths, filepath.Join(filepath.Dir(path), e.Name()))
		}
	}
	return paths
}
