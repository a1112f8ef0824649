package source

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// exportReader reads the Journal Export Format: an entry is a run of fields, an empty line ends it. A field is
// NAME=value and a newline or, where the value is not plain text, NAME, a newline, its length as 64 bits in little
// endian, the value, a newline (https://systemd.io/JOURNAL_EXPORT_FORMATS).
//
// An entry is kept in one buffer that is used again for the next one: reading does not allocate.
type exportReader struct {
	r      *bufio.Reader
	values []byte
	fields []exportField
	read   uint64 // bytes of the stream so far
}

type exportField struct {
	nameEnd, end int // in values: the name begins where the field before ends, the value follows it
	cut          bool
}

const (
	maxFields    = 256 // of an entry; more are skipped. journald itself allows 1024, we ask for a dozen
	maxFieldName = 64  // journald's own bound
)

var errExport = errors.New("not the journal export format")

// next reads one entry. It answers io.EOF at the end of the stream between two entries. A value of more than maxLine
// bytes is cut there.
func (x *exportReader) next() error {
	x.values, x.fields = x.values[:0], x.fields[:0]
	for {
		begin, within := len(x.values), len(x.fields) > 0
		name, binaryValue, err := x.name()
		switch {
		case err != nil && (within || !errors.Is(err, io.EOF)):
			return noEOF(err)
		case err != nil:
			return io.EOF
		case len(name) == 0 && !binaryValue && within:
			return nil
		case len(name) == 0: // blank lines before an entry mean nothing
			continue
		}
		x.values = append(x.values, name...)
		f := exportField{nameEnd: len(x.values)}
		if binaryValue {
			f.cut, err = x.sized()
		} else {
			f.cut, err = x.plain()
		}
		if err != nil {
			return noEOF(err)
		}
		if f.end = len(x.values); len(x.fields) < maxFields {
			x.fields = append(x.fields, f)
		} else {
			x.values = x.values[:begin]
		}
	}
}

// name reads up to the "=" or the newline behind a field's name. An empty line is an empty name without "=".
func (x *exportReader) name() (name []byte, binaryValue bool, err error) {
	for n := 1; ; n++ {
		b, err := x.r.Peek(n)
		if err != nil {
			if n > 1 && errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, false, err
		}
		switch c := b[n-1]; {
		case c == '\n' || c == '=':
			if c == '=' && n == 1 {
				return nil, false, fmt.Errorf("%w: a field without a name", errExport)
			}
			x.discard(n)
			return b[:n-1], c == '\n' && n > 1, nil
		case n > maxFieldName:
			return nil, false, fmt.Errorf("%w: a field name of more than %d bytes", errExport, maxFieldName)
		}
	}
}

// plain reads a value up to its newline.
func (x *exportReader) plain() (cut bool, err error) {
	begin := len(x.values)
	for {
		part, err := x.r.ReadSlice('\n')
		x.read += uint64(len(part))
		if err == nil {
			part = part[:len(part)-1]
		} else if !errors.Is(err, bufio.ErrBufferFull) {
			return cut, err
		}
		room := begin + maxLine - len(x.values)
		cut = cut || len(part) > room
		x.values = append(x.values, part[:min(len(part), room)]...)
		if err == nil {
			return cut, nil
		}
	}
}

// sized reads a value that tells its length.
func (x *exportReader) sized() (cut bool, err error) {
	b, err := x.r.Peek(8)
	if err != nil {
		return false, err
	}
	size := binary.LittleEndian.Uint64(b)
	x.discard(8)
	if size > 1<<30 { // journald refuses entries of more than 768 MiB
		return false, fmt.Errorf("%w: a value of %d bytes", errExport, size)
	}
	for left := int(size); left > 0; {
		part, err := x.r.Peek(min(left, x.r.Size()))
		if err != nil {
			return cut, err
		}
		room := max(0, maxLine-(int(size)-left))
		cut = cut || len(part) > room
		x.values = append(x.values, part[:min(len(part), room)]...)
		left -= x.discard(len(part))
	}
	if b, err = x.r.Peek(1); err != nil {
		return cut, err
	}
	if b[0] != '\n' {
		return cut, fmt.Errorf("%w: no newline behind a value", errExport)
	}
	x.discard(1)
	return cut, nil
}

// discard skips what was peeked at.
func (x *exportReader) discard(n int) int {
	n, _ = x.r.Discard(n) // it is buffered: it cannot fail
	x.read += uint64(n)
	return n
}

// field answers the first value of that name; ok is false if there is none. It is valid until the next entry.
func (x *exportReader) field(name string) (value []byte, ok bool) {
	begin := 0
	for _, f := range x.fields {
		if string(x.values[begin:f.nameEnd]) == name {
			return x.values[f.nameEnd:f.end], true
		}
		begin = f.end
	}
	return nil, false
}

// has says whether any value of that name is the wanted one.
func (x *exportReader) has(name, want string) bool {
	begin := 0
	for _, f := range x.fields {
		if string(x.values[begin:f.nameEnd]) == name && string(x.values[f.nameEnd:f.end]) == want {
			return true
		}
		begin = f.end
	}
	return false
}

// wasCut says whether the first value of that name was longer than maxLine.
func (x *exportReader) wasCut(name string) bool {
	begin := 0
	for _, f := range x.fields {
		if string(x.values[begin:f.nameEnd]) == name {
			return f.cut
		}
		begin = f.end
	}
	return false
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// appendText writes an entry as syslog would have: HOST IDENT[PID]: MESSAGE. Line ends within a value become "\n" as two
// characters, so that one entry is one line whatever a program logs.
func (x *exportReader) appendText(b []byte) []byte {
	if host, ok := x.field("_HOSTNAME"); ok {
		b = appendEscaped(b, host)
		b = append(b, ' ')
	}
	ident, _ := x.field("SYSLOG_IDENTIFIER")
	if len(ident) == 0 {
		ident, _ = x.field("_COMM")
	}
	if len(ident) > 0 {
		b = x.appendTag(b, ident)
	}
	message, _ := x.field("MESSAGE")
	return appendEscaped(b, bytes.TrimRight(message, "\r\n"))
}

// appendTag writes "IDENT[PID]: ", and behind the kernel's, which has no pid, the time since boot as dmesg does.
func (x *exportReader) appendTag(b, ident []byte) []byte {
	b = appendEscaped(b, ident)
	pid, ok := x.field("SYSLOG_PID")
	if !ok {
		pid, _ = x.field("_PID")
	}
	if len(pid) > 0 {
		b = append(b, '[')
		b = appendEscaped(b, pid)
		return append(b, "]: "...)
	}
	b = append(b, ": "...)
	if string(ident) == "kernel" {
		if us, ok := x.microseconds("_SOURCE_MONOTONIC_TIMESTAMP", "__MONOTONIC_TIMESTAMP"); ok {
			b = fmt.Appendf(b, "[%5d.%06d] ", us/1e6, us%1e6)
		}
	}
	return b
}

// microseconds reads the first of the named fields that holds a number.
func (x *exportReader) microseconds(names ...string) (us int64, ok bool) {
	for _, name := range names {
		if v, ok := x.field(name); ok {
			if us, ok := decimal(v); ok {
				return us, true
			}
		}
	}
	return 0, false
}

// decimal reads digits without allocating; ok is false for anything else and for more than an int64 holds.
func decimal(b []byte) (n int64, ok bool) {
	for _, c := range b {
		if c < '0' || c > '9' || n > (math.MaxInt64-9)/10 {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, len(b) > 0
}

// appendEscaped copies text without line ends, up to the bound of a record and a little more, by which the reader sees
// that it has to be cut.
func appendEscaped(b, text []byte) []byte {
	for len(b) <= maxLine {
		end := bytes.IndexByte(text, '\n')
		if end < 0 {
			return append(b, text...)
		}
		b = append(b, text[:end]...)
		b = append(b, `\n`...)
		text = text[end+1:]
	}
	return b
}
