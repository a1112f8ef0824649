package source

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"tocsin"
)

// tail is one open file that is read to its end, and on from there.
type tail struct {
	lines
	inode
	fd     int
	path   string // the name that leads to it
	was    string // the name of the pattern that led to it last
	wd     int    // its inotify watch, -1 without one
	first  uint64 // hash of its first line, once it is finished
	anchor []byte // the bytes before lines.off, at most maxAnchor
	store  [maxAnchor]byte

	named    time.Time // when a name of the pattern was last seen to lead to it
	intact   time.Time // when its content was last seen to be what was read before
	gone     time.Time // since when no name of the pattern leads to it; zero: one does
	replaced bool      // gone, and another file stands where it was
	grew     time.Time // when it last had something new
	end      int64     // where it ended then

	admitted bool // it has an identity, and is no copy: its lines may be handed over
	anew     bool // truncated while it was open: what it holds now is no copy of what it held
	failed   bool // the last read did
	ready    bool // it may have something new
	unsaid   bool // read since its last mark
}

// errTruncated says that the bytes before the read position are not those that were read: the file was truncated, in
// place or by logrotate's copytruncate, or written anew.
var errTruncated = errors.New("truncated")

// read hands over the next buffer of lines. It answers whether there is more at once.
//
// Each read begins a little before the position, with bytes that are known, and the first line is looked at again behind
// it. That notices a truncated file even if it has grown beyond the old position before anybody looked, which its size
// does not tell.
func (t *tail) read(buf []byte, now time.Time, record func(*tocsin.Record)) (more bool, err error) {
	known := len(t.anchor)
	n, err := unix.Pread(t.fd, buf, t.off-int64(known))
	switch {
	case errors.Is(err, unix.EINTR):
		return true, nil
	case err != nil:
		return false, os.NewSyscallError("pread", err)
	case n < known || !bytes.Equal(buf[:known], t.anchor):
		return false, errTruncated
	}
	if same, err := t.beginsAsBefore(); err != nil {
		return false, err
	} else if !same {
		return false, errTruncated
	}
	t.intact = now
	if end := t.off - int64(known) + int64(n); end != t.end {
		t.end, t.grew = end, now
	}
	data := buf[known:n]
	if len(data) == 0 {
		return false, nil
	}
	used := t.feed(data, record)
	if used > 0 {
		t.unsaid = true
		t.setAnchor(buf[:known+used])
	}
	return n == len(buf), nil
}

func (t *tail) setAnchor(before []byte) {
	n := copy(t.store[:], before[max(0, len(before)-maxAnchor):])
	t.anchor = t.store[:n]
}

// seek goes to off. If that is not where a line begins, the rest of that line is skipped: half a line may name another
// address than the whole one.
func (t *tail) seek(off int64) error {
	anchor, err := anchorAt(t.fd, off, &t.store)
	if err != nil {
		return err
	}
	t.anchor, t.off, t.end = anchor, off, off
	t.skipping = off > 0 && anchor[len(anchor)-1] != '\n'
	return nil
}

// restart goes back to the beginning of a file that was truncated: it is another file now.
func (t *tail) restart() {
	t.off, t.end, t.seenBelow, t.skipping = 0, 0, 0, false
	t.anchor, t.first, t.rec.Pos.File = nil, 0, 0
	t.admitted, t.anew = false, true
}

// follow goes to where the reading of another file ended, of which t holds what was read.
func (t *tail) follow(other *tail) error {
	if err := t.seek(other.off); err != nil {
		return err
	}
	t.seenBelow, t.skipping, t.unsaid = other.seenBelow, other.skipping, true
	if other.fd < 0 {
		t.rec.Pos.File = other.rec.Pos.File // it is the same content: its lines keep their positions
	}
	return nil
}

// isIntact says whether the beginning of the file, and the bytes before the read position, are still those that were read.
func (t *tail) isIntact() bool {
	var buf [maxAnchor]byte
	n, err := pread(t.fd, buf[:len(t.anchor)], t.off-int64(len(t.anchor)))
	if err != nil || !bytes.Equal(buf[:n], t.anchor) {
		return false
	}
	same, err := t.beginsAsBefore()
	return err == nil && same
}

// beginsAsBefore says whether the first line is still the one that identifies the file. The bytes before the read position
// may be the same in what a file holds after a truncation: lines of one length often end alike. Asked after a read, it
// also tells that the file was not truncated during it.
func (t *tail) beginsAsBefore() (bool, error) {
	var head [maxFirst]byte
	n, err := pread(t.fd, head[:], 0)
	first, ok := firstLine(head[:n])
	return ok && first == t.first, err
}

// mark is how far the file was read; not ok while it has no identity.
func (t *tail) mark(at time.Time) (Mark, bool) {
	return Mark{
		Source:      t.rec.Source,
		Path:        t.path,
		Pos:         tocsin.Position{File: t.rec.Pos.File, Offset: t.off},
		Fingerprint: fingerprint(t.first, t.anchor),
		At:          at,
	}, t.admitted
}

// rename takes the name that a file has which was rotated away. A deleted one keeps its last.
func (t *tail) rename() {
	path, err := os.Readlink(procPath(t.fd))
	if err == nil && !strings.HasSuffix(path, " (deleted)") {
		t.path = path
	}
}
