package probe

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// maxFile bounds what is read of one file of /proc or /sys; /proc/net/tcp is not among them.
const maxFile = 4 << 20

// NewHost is the machine that the program runs on.
func NewHost() *Host { return &Host{Proc: "/proc", Sys: "/sys", Root: "/", Now: time.Now, Boot: Boot} }

// Boot is CLOCK_BOOTTIME: the time since the machine was started, sleep included.
func Boot() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0 // no such clock: elapsed time comes from the wall clock
	}
	return time.Duration(ts.Nano())
}

// at is a file below Root, proc one below Proc, sys one below Sys.
func (h *Host) at(name string) string   { return filepath.Join(h.Root, name) }
func (h *Host) proc(name string) string { return filepath.Join(h.Proc, name) }
func (h *Host) sys(name string) string  { return filepath.Join(h.Sys, name) }

// file reads one file again and again into the same memory.
type file struct {
	path string
	buf  []byte
}

// read returns the whole file; the bytes hold until the next call. An Off error says that it is not there or may not be read.
func (f *file) read() ([]byte, error) {
	fd, err := os.Open(f.path)
	if err != nil {
		return nil, missing(f.path, err)
	}
	defer fd.Close()
	if f.buf == nil {
		f.buf = make([]byte, 4<<10)
	}
	for n := 0; ; {
		m, err := fd.Read(f.buf[n:])
		n += m
		switch {
		case errors.Is(err, io.EOF):
			return f.buf[:n], nil
		case err != nil:
			return nil, missing(f.path, err)
		case n == maxFile:
			return nil, &Off{Why: fmt.Sprintf("%s is larger than %d MiB", f.path, maxFile>>20)}
		case n == len(f.buf):
			f.buf = append(f.buf, make([]byte, min(len(f.buf), maxFile-n))...)
		}
	}
}

// missing makes an Off of an error that will not go away by itself soon.
func missing(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ENODEV):
		return &Off{Why: "no " + path}
	case errors.Is(err, fs.ErrPermission):
		return &Off{Why: path + " may not be read"}
	case errors.Is(err, unix.ENOTSUP), errors.Is(err, errors.ErrUnsupported):
		return &Off{Why: path + " is switched off in this kernel"}
	}
	return err
}

// strange is the Off of a file that does not look as its documentation says.
func strange(path, what string) error {
	return &Off{Why: fmt.Sprintf("%s has changed its shape: %s", path, what)}
}

// nextLine cuts the first line off b.
func nextLine(b []byte) (line, rest []byte) {
	line, rest, _ = bytes.Cut(b, newline)
	return line, rest
}

var newline = []byte("\n")

// nextWord cuts the first word off b, which is nil at the end.
func nextWord(b []byte) (word, rest []byte) {
	i := 0
	for i < len(b) && (b[i] == ' ' || b[i] == '\t') {
		i++
	}
	j := i
	for j < len(b) && b[j] != ' ' && b[j] != '\t' {
		j++
	}
	if i == j {
		return nil, nil
	}
	return b[i:j], b[j:]
}

// number reads a whole number without a sign, as /proc prints them.
func number(b []byte) (n uint64, ok bool) {
	if len(b) == 0 || len(b) > 20 {
		return 0, false
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		d := uint64(c - '0')
		if n > (1<<64-1-d)/10 {
			return 0, false
		}
		n = n*10 + d
	}
	return n, true
}

// numbers reads words of b as whole numbers into dst and says how many there were before the first that is none.
func numbers(b []byte, dst []uint64) int {
	for i := range dst {
		var word []byte
		word, b = nextWord(b)
		n, ok := number(word)
		if !ok {
			return i
		}
		dst[i] = n
	}
	return len(dst)
}

// oneNumber reads a file that holds nothing but one number, signed or not.
func (f *file) oneNumber() (float64, error) {
	b, err := f.read()
	if err != nil {
		return 0, err
	}
	word, _ := nextWord(bytes.TrimSpace(b))
	n, err := strconv.ParseFloat(string(word), 64)
	if err != nil {
		return 0, strange(f.path, "no number")
	}
	return n, nil
}

// firstNumber reads the first word of b as a whole number into n.
func firstNumber(b []byte, n *uint64) (ok bool) {
	word, _ := nextWord(b)
	*n, ok = number(word)
	return ok
}

// oneLine is the first line of b.
func oneLine(b []byte) []byte {
	line, _ := nextLine(b)
	return line
}

// exists says whether a path leads anywhere.
func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// interval is that of probes that have none of their own.
func (h *Host) interval() time.Duration {
	if h.Interval > 0 {
		return h.Interval
	}
	return 10 * time.Second
}
