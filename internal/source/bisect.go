package source

import (
	"bytes"
	"time"
)

// DateOf reads the time a line claims; ok is false if it claims none.
type DateOf = func(line []byte) (at time.Time, ok bool)

// scanWindow is how far a file is read on to find a line with a date, and when bisecting gives way to reading.
const scanWindow = 64 << 10

// firstSince finds where the first line begins whose date is not before since, among those of the first size bytes of a
// file. It answers size if there is none. A log's dates are taken to rise; where they fall back for a moment the answer
// is off by as much. It reads some 64 KiB for each halving: 20 reads for 64 GB.
func firstSince(fd int, size int64, since time.Time, dateOf DateOf) (int64, error) {
	buf := make([]byte, scanWindow)
	found, lo, hi := size, int64(0), size // dated lines that begin before lo are older, those at or behind hi are not
	for hi-lo > scanWindow {
		mid := lo + (hi-lo)/2
		n, err := pread(fd, buf[:min(scanWindow, size-mid)], mid)
		if err != nil {
			return 0, err
		}
		line := int64(bytes.IndexByte(buf[:n], '\n')) + 1 // 0: no line begins here, so none has a date
		at, where, ok := firstDate(buf[:n], line, dateOf)
		switch {
		case line == 0 || !ok || mid+where >= hi:
			hi = mid
		case at.Before(since):
			lo = mid + where
		default:
			hi, found = mid, mid+where
		}
	}
	return scanSince(fd, lo, found, size, since, dateOf)
}

// scanSince reads the lines from lo on, which begins one, until one is not before since. What begins at found is such.
func scanSince(fd int, lo, found, size int64, since time.Time, dateOf DateOf) (int64, error) {
	buf := make([]byte, 2*scanWindow)
	n, err := pread(fd, buf[:min(int64(len(buf)), size-lo)], lo)
	if err != nil {
		return 0, err
	}
	for where := int64(0); lo+where < found; {
		at, next, ok := firstDate(buf[:n], where, dateOf)
		if !ok {
			break
		}
		if !at.Before(since) {
			return min(found, lo+next), nil
		}
		end := bytes.IndexByte(buf[next:n], '\n')
		where = next + int64(end) + 1
	}
	return found, nil
}

// firstDate finds the first finished line at or behind where that has a date.
func firstDate(b []byte, where int64, dateOf DateOf) (at time.Time, start int64, ok bool) {
	for {
		end := bytes.IndexByte(b[where:], '\n')
		if end < 0 {
			return time.Time{}, 0, false
		}
		if at, ok := dateOf(trimCR(b[where:][:min(end, maxLine)])); ok {
			return at, where, true
		}
		where += int64(end) + 1
	}
}
