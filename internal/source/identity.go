package source

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A file is known by two things: its inode, and how its first line reads. The inode survives a rename, the first line
// tells a new file from the old one whose inode it was given. The device number is left out on purpose: btrfs, overlay
// and LVM hand out new ones at each boot, and a mark must outlive a reboot.
//
// What cannot be told apart is a file that was truncated and now begins with the very same line; a log whose lines carry
// the time never does.

const (
	maxFirst  = 1024 // of the first line, as much as identifies the file
	maxAnchor = 64   // bytes before the read position that must still be there at the next read
)

// inode names an open file while this program runs.
type inode struct{ dev, ino uint64 }

func inodeOf(st *unix.Stat_t) inode { return inode{uint64(st.Dev), st.Ino} }

// firstLine hashes the first line of a file of which head is the beginning. It is not ok while that line is unfinished.
func firstLine(head []byte) (hash uint64, ok bool) {
	head = head[:min(len(head), maxFirst)]
	if end := bytes.IndexByte(head, '\n'); end >= 0 {
		return hashOf(head[:end+1]), true
	}
	return hashOf(head), len(head) == maxFirst
}

// identity is a file's Position.File. It is never 0, which stands for "cannot be read again".
func identity(ino, first uint64) uint64 {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:], ino)
	binary.LittleEndian.PutUint64(b[8:], first)
	return max(hashOf(b[:]), 1)
}

// fingerprint is a mark's: of the first line and of the bytes that stand before the mark.
func fingerprint(first uint64, anchor []byte) uint64 {
	return hashOf(binary.LittleEndian.AppendUint64(bytes.Clone(anchor), first))
}

// hashOf is FNV-1a, which is the same in every process and every release, unlike maphash.
func hashOf(b []byte) uint64 {
	h := uint64(14695981039346656037)
	for _, c := range b {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return h
}

// glance is what a look at an open file tells of it.
type glance struct {
	inode
	size    int64
	modTime unix.Timespec
	first   uint64
	known   bool // first is: the first line is finished
}

func (g glance) modified() time.Time { return time.Unix(g.modTime.Unix()) }

func glanceAt(fd int) (g glance, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return g, os.NewSyscallError("fstat", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return g, errNotRegular
	}
	var head [maxFirst]byte
	n, err := pread(fd, head[:], 0)
	if err != nil {
		return g, err
	}
	g = glance{inode: inodeOf(&st), size: st.Size, modTime: st.Mtim}
	g.first, g.known = firstLine(head[:n])
	return g, nil
}

var errNotRegular = errors.New("no regular file")

// anchorAt reads the bytes before off into buf, as many as an anchor has.
func anchorAt(fd int, off int64, buf *[maxAnchor]byte) ([]byte, error) {
	want := int(min(off, maxAnchor))
	n, err := pread(fd, buf[:want], off-int64(want))
	if err == nil && n < want {
		err = io.ErrUnexpectedEOF
	}
	return buf[:n], err
}

// openLog opens a file for reading only. A FIFO in its place does not hold us up, and is refused by glanceAt.
func openLog(path string) (fd int, err error) {
	for {
		fd, err = unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return fd, nil
}

// pread fills b from off, as far as the file goes.
func pread(fd int, b []byte, off int64) (n int, err error) {
	for n < len(b) {
		m, err := unix.Pread(fd, b[n:], off+int64(n))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return n, os.NewSyscallError("pread", err)
		}
		if m == 0 {
			break
		}
		n += m
	}
	return n, nil
}

// isRotated says whether name is what a rotation makes of base: auth.log.1, auth.log-20261122, auth.log.old, and with
// logrotate's "extension" auth-20261122.log or auth.1.log. Compressed files are not: they hold no lines.
func isRotated(base, name string) bool {
	if isCompressed(name) {
		return false
	}
	if rest, ok := strings.CutPrefix(name, base); ok {
		return rest == ".old" || rest == "~" || isCounter(rest)
	}
	ext := filepath.Ext(base)
	rest, ok := strings.CutPrefix(name, strings.TrimSuffix(base, ext))
	if !ok || ext == "" {
		return false
	}
	rest, ok = strings.CutSuffix(rest, ext)
	return ok && isCounter(rest)
}

// isCounter takes what stands between a name and its end after a rotation: a separator, then a number or a date.
func isCounter(s string) bool {
	return len(s) >= 2 && strings.IndexByte(".-_", s[0]) >= 0 && '0' <= s[1] && s[1] <= '9' &&
		strings.Trim(s[1:], "0123456789-_.T:") == ""
}

func isCompressed(name string) bool {
	switch filepath.Ext(name) {
	case ".gz", ".xz", ".bz2", ".zst", ".lz4", ".Z", ".lzma", ".zip":
		return true
	}
	return false
}
