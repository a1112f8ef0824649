package jail

import (
	"encoding/binary"
	"time"
	"unicode/utf8"

	"tocsin"
)

const (
	chunkSize = 64 << 10 // bytes of lines that are forgotten together
	lineCost  = 48       // most bytes a line takes beside its text
	maxUser   = 128      // bytes kept of a user name; Linux allows 32
	maxLine   = 4096     // highest EvidenceLineBytes
	ellipsis  = "…"
)

// lines keeps the text of failures that led to no ban yet, in chunks of bytes that are filled one after the other. When
// there are enough chunks the oldest is filled anew, and the failures that refer to it lose their lines.
type lines struct {
	chunks    []chunk // oldest first
	max       int     // chunks
	first     uint64  // how many chunks were forgotten before chunks[0]
	lineBytes int
	evicted   uint64

	// The names of sources come from the configuration, so this table needs no bound.
	sources []string
	source  map[string]uint64
	last    uint64 // the source of the last line, most often that of the next
}

type chunk struct {
	bytes []byte
	n     int // failures in it
}

func newLines(size, lineBytes int) lines {
	return lines{max: max(2, (size+chunkSize-1)/chunkSize), lineBytes: lineBytes, source: make(map[string]uint64)}
}

// add keeps the lines of f and returns where they are. Of a long context the newest lines are kept that fit a chunk.
func (l *lines) add(f *tocsin.Failure) (ref uint64) {
	size := binary.MaxVarintLen64 + maxUser + lineCost + min(len(f.Line.Text), l.lineBytes)
	from := len(f.Context)
	for from > 0 {
		more := lineCost + min(len(f.Context[from-1].Text), l.lineBytes)
		if size+more > chunkSize {
			break
		}
		size += more
		from--
	}
	c := l.room(size)
	ref = (l.first+uint64(len(l.chunks)))<<16 | uint64(len(c.bytes))
	b := binary.AppendUvarint(c.bytes, uint64(len(f.Context)-from))
	for i := from; i < len(f.Context); i++ {
		b = l.append(b, &f.Context[i])
	}
	b = l.append(b, &f.Line)
	c.bytes = appendText(b, f.User, maxUser)
	c.n++
	return ref
}

// room returns a chunk with that many bytes left.
func (l *lines) room(size int) *chunk {
	if n := len(l.chunks); n > 0 {
		if c := &l.chunks[n-1]; cap(c.bytes)-len(c.bytes) >= size {
			return c
		}
	}
	var bytes []byte
	if len(l.chunks) < l.max {
		bytes = make([]byte, 0, chunkSize)
	} else {
		bytes = l.chunks[0].bytes[:0]
		l.evicted += uint64(l.chunks[0].n)
		copy(l.chunks, l.chunks[1:])
		l.chunks = l.chunks[:len(l.chunks)-1]
		l.first++
	}
	l.chunks = append(l.chunks, chunk{bytes: bytes})
	return &l.chunks[len(l.chunks)-1]
}

func (l *lines) append(b []byte, line *tocsin.Line) []byte {
	b = binary.AppendUvarint(b, l.number(line.Source))
	b = binary.LittleEndian.AppendUint64(b, line.Pos.File)
	b = binary.AppendVarint(b, line.Pos.Offset)
	b = binary.AppendVarint(b, micros(line.At))
	return appendText(b, line.Text, l.lineBytes)
}

func (l *lines) number(source string) uint64 {
	if l.last < uint64(len(l.sources)) && l.sources[l.last] == source {
		return l.last
	}
	id, ok := l.source[source]
	if !ok {
		id = uint64(len(l.sources))
		l.sources = append(l.sources, source)
		l.source[source] = id
	}
	l.last = id
	return id
}

// appendText writes the length of s and s, of which it keeps at most limit bytes: a longer one is cut between two
// characters and ends in an ellipsis.
func appendText(b []byte, s string, limit int) []byte {
	if len(s) <= limit {
		return append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	end := limit - len(ellipsis)
	for back := 0; back < utf8.UTFMax-1 && end > 0 && !utf8.RuneStart(s[end]); back++ {
		end--
	}
	b = binary.AppendUvarint(b, uint64(end+len(ellipsis)))
	return append(append(b, s[:end]...), ellipsis...)
}

// get appends what is kept at ref, context first; ok is false if it was forgotten.
func (l *lines) get(dst []tocsin.Evidence, ref uint64) (_ []tocsin.Evidence, ok bool) {
	i := ref>>16 - 1 - l.first // below first it wraps around to a large number
	if i >= uint64(len(l.chunks)) {
		return dst, false
	}
	r := reader{l.chunks[i].bytes[ref&(chunkSize-1):]}
	for n := r.uvarint() + 1; n > 0; n-- {
		var e tocsin.Evidence
		e.Source = l.sources[r.uvarint()]
		e.Pos.File = binary.LittleEndian.Uint64(r.bytes(8))
		e.Pos.Offset = r.varint()
		e.At = fromMicros(r.varint())
		e.Text = string(r.bytes(r.uvarint()))
		dst = append(dst, e)
	}
	dst[len(dst)-1].User = string(r.bytes(r.uvarint()))
	return dst, true
}

// reader reads back what lines wrote; it has nothing to check.
type reader struct{ b []byte }

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	r.b = r.b[n:]
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	r.b = r.b[n:]
	return v
}

func (r *reader) bytes(n uint64) []byte {
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

// farthest is the largest time the jail reckons with, in Unix microseconds: 36,000 years, so that sums do not overflow.
const farthest = 1 << 60

func micros(t time.Time) int64 { return max(-farthest, min(t.UnixMicro(), farthest)) }

func fromMicros(us int64) time.Time { return time.UnixMicro(us).UTC() }
