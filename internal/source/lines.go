package source

import (
	"bytes"

	"tocsin"
)

// lines cuts one stream of bytes into records. It keeps no bytes: what belongs to an unfinished line stays with the
// caller, who offers it again together with what follows.
type lines struct {
	lineCounts
	rec       tocsin.Record // the one record that is handed over again and again
	off       int64         // where the next byte that was not consumed stands in the stream
	seenBelow int64         // lines that begin before it were handled before a restart
	skipping  bool          // inside the rest of a line that was cut, or of one whose beginning is unknown
}

type lineCounts struct{ lines, seen, bytes, cut uint64 }

// minHole is how many NUL bytes at the beginning of an over-long line are taken for a hole. A writer that does not
// append leaves one when its file is truncated under it: the file begins with NULs up to the writer's old offset.
const minHole = 4 << 10

// feed hands over every line that ends in data and answers how many bytes it consumed. The data stands at l.off.
func (l *lines) feed(data []byte, record func(*tocsin.Record)) (used int) {
	for used < len(data) {
		rest := data[used:]
		end := bytes.IndexByte(rest, '\n')
		switch {
		case l.skipping:
			if end < 0 {
				end = len(rest) - 1
			} else {
				l.skipping = false
			}
			used += l.consume(end + 1)
		case end >= 0 && end <= maxLine:
			l.hand(trimCR(rest[:end]), record)
			used += l.consume(end + 1)
		case end < 0 && len(rest) <= maxLine+1:
			return used // unfinished: one more byte may be a CR, then a newline
		default:
			used += l.consume(l.overlong(rest, end, record))
		}
	}
	return used
}

// overlong deals with a line of more than maxLine bytes, whose newline stands at end or, if end is negative, is not
// there yet. It answers how many bytes of rest are done with.
func (l *lines) overlong(rest []byte, end int, record func(*tocsin.Record)) int {
	if hole := len(rest) - len(bytes.TrimLeft(rest, "\x00")); hole >= minHole {
		return hole
	}
	if end == maxLine+1 && rest[maxLine] == '\r' {
		l.hand(rest[:maxLine], record)
		return end + 1
	}
	l.cut++
	l.hand(rest[:maxLine], record)
	if end >= 0 {
		return end + 1
	}
	l.skipping = true
	return len(rest)
}

func (l *lines) hand(text []byte, record func(*tocsin.Record)) {
	l.rec.Text = text
	l.rec.Pos.Offset = l.off
	l.rec.Seen = l.off < l.seenBelow
	if l.rec.Seen {
		l.seen++
	}
	l.lines++
	record(&l.rec)
}

func (l *lines) consume(n int) int {
	l.off += int64(n)
	l.bytes += uint64(n)
	return n
}

func trimCR(text []byte) []byte {
	if n := len(text); n > 0 && text[n-1] == '\r' {
		return text[:n-1]
	}
	return text
}
