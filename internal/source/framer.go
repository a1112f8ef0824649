package source

import (
	"bufio"
	"errors"
	"fmt"
	"io"
)

// framer cuts a TCP stream into syslog messages. Each may be framed in either way of RFC 6587: with its length before it
// ("11 <13>message"), or with a newline behind it. A message begins with "<", so a digit tells the first.
type framer struct {
	r    *bufio.Reader
	long []byte // a message that is longer than the read buffer
}

const (
	// maxFrame leaves room for a header before maxLine bytes of text.
	maxFrame = maxLine + 1<<10

	// maxOctets is the longest message whose rest is read over. A sender that announces more has lost its place.
	maxOctets = 1 << 20
)

var errFrame = errors.New("bad syslog frame")

func newFramer(r io.Reader) *framer {
	return &framer{r: bufio.NewReaderSize(r, maxFrame)}
}

// next reads one message, without its frame. What is beyond maxFrame is read over and cut is true. The message is valid
// until the next call. A stream that ends within a message ends with io.ErrUnexpectedEOF, and that message is lost.
func (f *framer) next() (msg []byte, cut bool, err error) {
	octets, ok, err := f.octets()
	switch {
	case err != nil:
		return nil, false, err
	case !ok:
		return f.line()
	case octets > maxOctets:
		return nil, false, fmt.Errorf("%w: %d bytes announced", errFrame, octets)
	}
	n := min(octets, maxFrame)
	if msg, err = f.r.Peek(n); err != nil {
		return nil, false, noEOF(err)
	}
	f.long = append(f.long[:0], msg...)
	_, err = f.r.Discard(octets)
	return f.long, octets > n, noEOF(err)
}

// octets reads a length and the space behind it. If there is none it reads nothing.
func (f *framer) octets() (n int, ok bool, err error) {
	const most = 8 // digits and the space
	for i := 1; i <= most; i++ {
		b, err := f.r.Peek(i)
		switch {
		case err != nil && i == 1:
			return 0, false, err
		case err != nil && errors.Is(err, io.EOF):
			return 0, false, nil
		case err != nil:
			return 0, false, err
		}
		switch c := b[i-1]; {
		case c == ' ' && i > 1:
			f.r.Discard(i)
			return n, true, nil
		case c < '0' || c > '9' || i == 1 && c == '0':
			return 0, false, nil
		default:
			n = n*10 + int(c-'0')
		}
	}
	return 0, false, nil
}

// line reads up to a newline.
func (f *framer) line() (msg []byte, cut bool, err error) {
	msg, err = f.r.ReadSlice('\n')
	if err == nil {
		return msg[:len(msg)-1], false, nil
	}
	if !errors.Is(err, bufio.ErrBufferFull) {
		if len(msg) > 0 {
			err = noEOF(err)
		}
		return nil, false, err
	}
	f.long = append(f.long[:0], msg...)
	for errors.Is(err, bufio.ErrBufferFull) {
		_, err = f.r.ReadSlice('\n')
	}
	return f.long, true, noEOF(err)
}
