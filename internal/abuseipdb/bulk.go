package abuseipdb

import (
	"bytes"
	"errors"
	"strings"
)

// Bounds of one bulk report. The server takes 10,000 physical lines with the headings, and less than 2 MB.
const (
	maxBulkLines = 9000
	maxBulkBytes = 1_900_000
)

const bulkHeadings = "IP,Categories,ReportDate,Comment\n"

// Bulk is the rows of one bulk report, in the server's form of CSV (https://www.abuseipdb.com/bulk-report). The zero Bulk is
// empty and ready.
type Bulk struct {
	buf  bytes.Buffer
	rows int
}

// Add puts a report behind the others. It says false if that would be more than one request may hold: the row then belongs
// to the next one. A row needs a time.
func (b *Bulk) Add(r Report) (bool, error) {
	addr, err := r.check()
	if err != nil {
		return false, err
	}
	if r.At.IsZero() {
		return false, errors.New("a row of a bulk report needs a time")
	}
	if b.buf.Len() == 0 {
		b.buf.WriteString(bulkHeadings)
	}
	row := addr.String() + `,"` + joinCategories(r.Categories) + `",` + stamp(r.At) + `,"` + bulkComment(r.Comment) + "\"\n"
	// One line is a row: bulkComment lets no line break through.
	if 1+b.rows+1 > maxBulkLines || b.buf.Len()+len(row) > maxBulkBytes {
		return false, nil
	}
	b.buf.WriteString(row)
	b.rows++
	return true, nil
}

// Rows is how many reports were added.
func (b *Bulk) Rows() int { return b.rows }

// Bytes is what is sent. It is valid until the next Add.
func (b *Bulk) Bytes() []byte { return b.buf.Bytes() }

// bulkComment makes a comment fit between quotes. The server reads \" as a quote, and \\ as two signs, so that a comment
// cannot hold a backslash before a quote: it becomes a slash. Line breaks are allowed, but would make the numbers of rows
// and of lines differ: they become spaces.
func bulkComment(text string) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case r == '\\':
			return '/'
		case r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029':
			return ' '
		}
		return r
	}, comment(text))
	return strings.ReplaceAll(text, `"`, `\"`)
}
