package source

import (
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"tocsin"
)

// Place is how far another program has read a file, as fail2ban notes it in its database.
type Place struct {
	Path      string
	FirstLine string // SHA-1 of the first line with its newline, in hexadecimal; "" while it was not finished
	Offset    int64
	At        time.Time // when this was noted; lines of what was made later are news
}

// ErrOtherFile says that neither a file nor one that was rotated away from its name begins as a Place says, or that it is
// shorter by now: what was read is gone.
var ErrOtherFile = errors.New("it is no longer the file that was read")

// maxFirstLine bounds what is read to recognise a file by its first line.
const maxFirstLine = 1 << 20

// MarkAt makes the mark by which the source called name reads on where another program stopped.
//
// The file is looked for under its name first, then under those that logrotate gives it. Where it is under such a name the
// rest of it is read before the file that took its place. The error is ErrOtherFile where there is none that fits.
func MarkAt(name string, p Place) (Mark, error) {
	for _, path := range append([]string{p.Path}, relatives(p.Path)...) {
		m, err := markIn(path, p)
		if err == nil {
			m.Source, m.Path = name, p.Path
			return m, nil
		}
		if path == p.Path && !errors.Is(err, ErrOtherFile) && !errors.Is(err, os.ErrNotExist) {
			return Mark{}, fmt.Errorf("%s: %w", path, err)
		}
	}
	return Mark{}, fmt.Errorf("%s: %w", p.Path, ErrOtherFile)
}

// markIn makes the mark if path is the file of p.
func markIn(path string, p Place) (Mark, error) {
	fd, err := openLog(path)
	if err != nil {
		return Mark{}, err
	}
	defer unix.Close(fd)
	g, err := glanceAt(fd)
	if err != nil {
		return Mark{}, err
	}
	hash, err := firstLineSHA1(fd)
	unread := p.FirstLine == "" && p.Offset == 0 && path == p.Path // it was empty: all of what is in it now is news
	switch {
	case err != nil:
		return Mark{}, err
	case !g.known || hash != p.FirstLine && !unread || p.Offset < 0 || g.size < p.Offset:
		return Mark{}, ErrOtherFile
	}
	var buf [maxAnchor]byte
	anchor, err := anchorAt(fd, p.Offset, &buf)
	if err != nil {
		return Mark{}, err
	}
	return Mark{
		Pos:         tocsin.Position{File: identity(g.ino, g.first), Offset: p.Offset},
		Fingerprint: fingerprint(g.first, anchor),
		At:          p.At,
	}, nil
}

// firstLineSHA1 is the SHA-1 of the first line with its newline, "" while it is not finished.
func firstLineSHA1(fd int) (string, error) {
	h := sha1.New()
	buf := make([]byte, 4096)
	for off := int64(0); off < maxFirstLine; {
		n, err := pread(fd, buf, off)
		if err != nil {
			return "", err
		}
		if end := bytes.IndexByte(buf[:n], '\n'); end >= 0 {
			h.Write(buf[:end+1])
			return hex.EncodeToString(h.Sum(nil)), nil
		}
		if n < len(buf) {
			break
		}
		h.Write(buf[:n])
		off += int64(n)
	}
	return "", nil
}

// Beyond says whether m tells more than o, a mark of the same source and path: it stands further on in the same file, or was
// made later than that of another.
func (m Mark) Beyond(o Mark) bool {
	if m.Pos.File != 0 && m.Pos.File == o.Pos.File {
		return m.Pos.Offset > o.Pos.Offset
	}
	return m.At.After(o.At)
}
