package source

import (
	"bytes"
	"strconv"
	"time"

	"tocsin"
)

// cursor is a place in the journal as journalctl writes it: "s=..;i=..;b=..;m=..;t=..;x=..", of which s is the id of the
// file's sequence, i the entry's number in it and t the time in microseconds, both in hexadecimal
// (systemd, sd_journal_get_cursor(3), src/libsystemd/sd-journal/sd-journal.c).
type cursor struct {
	text string
	pos  tocsin.Position // of s and i
	us   int64           // t
}

// maxCursor bounds what is kept as a cursor; systemd's own have some 170 bytes.
const maxCursor = 512

func parseCursor(text []byte) (c cursor, ok bool) {
	if len(text) == 0 || len(text) > maxCursor {
		return c, false
	}
	var have int
	for part := range bytes.SplitSeq(text, []byte{';'}) {
		key, value, _ := bytes.Cut(part, []byte{'='})
		switch string(key) {
		case "s":
			c.pos.File = max(hashOf(value), 1)
			have |= 1
		case "i", "t":
			n, err := strconv.ParseInt(string(value), 16, 64)
			if err != nil || n < 0 {
				return cursor{}, false
			}
			if key[0] == 'i' {
				c.pos.Offset = n
				have |= 2
			} else {
				c.us = n
				have |= 4
			}
		}
	}
	if have != 7 {
		return cursor{}, false
	}
	c.text = string(text)
	return c, true
}

func (c cursor) isZero() bool    { return c.text == "" }
func (c cursor) time() time.Time { return time.UnixMicro(c.us) }

// after says whether c stands behind o. Sequence numbers of two journals do not compare; their times do.
func (c cursor) after(o cursor) bool {
	if c.pos.File == o.pos.File {
		return c.pos.Offset > o.pos.Offset
	}
	return c.us > o.us
}
