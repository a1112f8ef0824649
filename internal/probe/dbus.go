package probe

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// As much of D-Bus as one question to systemd needs (https://dbus.freedesktop.org/doc/dbus-specification.html).

// maxBusMessage bounds one message; the protocol's own bound is 128 MiB.
const maxBusMessage = 16 << 20

// bus is a connection to a D-Bus daemon, or to a program that speaks it itself.
type bus struct {
	conn   net.Conn
	r      *bufio.Reader
	serial uint32
	name   bool // it is a daemon: messages name whom they are for
}

// dialBus connects to a socket and says who we are.
func dialBus(ctx context.Context, socket string, daemon bool) (*bus, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	if end, ok := ctx.Deadline(); ok {
		err = conn.SetDeadline(end)
	} else {
		err = conn.SetDeadline(time.Now().Add(10 * time.Second))
	}
	b := &bus{conn: conn, r: bufio.NewReader(conn), name: daemon}
	if err == nil {
		err = b.greet()
	}
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("%s: %w", socket, err)
	}
	return b, nil
}

func (b *bus) Close() error { return b.conn.Close() }

func (b *bus) greet() error {
	uid := hex.EncodeToString([]byte(strconv.Itoa(os.Getuid())))
	if _, err := io.WriteString(b.conn, "\x00AUTH EXTERNAL "+uid+"\r\n"); err != nil {
		return err
	}
	line, err := b.r.ReadSlice('\n')
	if err != nil {
		return err
	}
	if !strings.HasPrefix(string(line), "OK ") {
		return fmt.Errorf("refused: %.100q", line)
	}
	if _, err := io.WriteString(b.conn, "BEGIN\r\n"); err != nil {
		return err
	}
	if !b.name {
		return nil
	}
	_, err = b.call("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "Hello", "", nil)
	return err
}

// busWriter writes values as D-Bus aligns them.
type busWriter []byte

func (w *busWriter) align(n int) {
	for len(*w)%n != 0 {
		*w = append(*w, 0)
	}
}

func (w *busWriter) uint32(n uint32) {
	w.align(4)
	*w = binary.LittleEndian.AppendUint32(*w, n)
}

func (w *busWriter) string(s string) {
	w.uint32(uint32(len(s)))
	*w = append(append(*w, s...), 0)
}

func (w *busWriter) signature(s string) { *w = append(append(append(*w, byte(len(s))), s...), 0) }

// header writes a field of the header: its number, its type, and a string.
func (w *busWriter) header(field byte, typ, s string) {
	w.align(8)
	*w = append(*w, field)
	w.signature(typ)
	if typ == "g" {
		w.signature(s)
		return
	}
	w.string(s)
}

// The types of messages and the numbers of fields of the header.
const (
	busCall   = 1
	busReturn = 2
	busError  = 3

	busPath        = 1
	busInterface   = 2
	busMember      = 3
	busErrorName   = 4
	busReplySerial = 5
	busDestination = 6
	busSignature   = 8
)

// call calls a method and returns what its answer holds.
func (b *bus) call(to, path, iface, method, signature string, body []byte) (busReader, error) {
	b.serial++
	w := busWriter{'l', busCall, 0, 1}
	w.uint32(uint32(len(body)))
	w.uint32(b.serial)
	w.uint32(0) // the length of the fields, below
	w.header(busPath, "o", path)
	w.header(busInterface, "s", iface)
	w.header(busMember, "s", method)
	if b.name {
		w.header(busDestination, "s", to)
	}
	if signature != "" {
		w.header(busSignature, "g", signature)
	}
	binary.LittleEndian.PutUint32(w[12:], uint32(len(w)-16))
	w.align(8)
	if _, err := b.conn.Write(append(w, body...)); err != nil {
		return busReader{}, err
	}
	for range 1000 { // others may be said in between
		m, err := readBusMessage(b.r)
		if err != nil {
			return busReader{}, err
		}
		if m.reply != b.serial {
			continue
		}
		switch m.typ {
		case busReturn:
			return m.body, nil
		case busError:
			return busReader{}, fmt.Errorf("%s says %.100q", method, m.name)
		}
	}
	return busReader{}, errors.New("no answer among a thousand messages")
}

type busMessage struct {
	typ   byte
	reply uint32
	name  string // of an error
	body  busReader
}

var errBus = errors.New("no D-Bus message")

func readBusMessage(r io.Reader) (m busMessage, err error) {
	var head [16]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return m, err
	}
	var order binary.ByteOrder
	switch head[0] {
	case 'l':
		order = binary.LittleEndian
	case 'B':
		order = binary.BigEndian
	default:
		return m, errBus
	}
	body, fields := order.Uint32(head[4:]), order.Uint32(head[12:])
	if head[3] != 1 || body > maxBusMessage || fields > 64<<10 {
		return m, errBus
	}
	padded := (fields + 7) &^ 7
	text := make([]byte, padded+body)
	if _, err := io.ReadFull(r, text); err != nil {
		return m, err
	}
	m.typ = head[1]
	f := busReader{text: text[:fields], order: order}
	for f.at < len(f.text) {
		f.align(8)
		field, typ := f.byte(), f.signature()
		switch typ {
		case "s", "o":
			s := f.string()
			if field == busErrorName {
				m.name = s
			}
		case "u":
			n := f.uint32()
			if field == busReplySerial {
				m.reply = n
			}
		case "g":
			f.signature()
		default:
			return m, errBus
		}
		if f.bad {
			return m, errBus
		}
	}
	m.body = busReader{text: text[padded:], order: order}
	return m, nil
}

// busReader reads values. What is past the end is bad, and so is all that follows.
type busReader struct {
	text  []byte
	at    int
	order binary.ByteOrder
	bad   bool
}

func (r *busReader) align(n int) { r.at = (r.at + n - 1) / n * n }

// take returns the next n bytes, nil if there are not so many.
func (r *busReader) take(n int) []byte {
	if r.bad || n < 0 || n > len(r.text)-r.at {
		r.bad = true
		return nil
	}
	r.at += n
	return r.text[r.at-n : r.at]
}

func (r *busReader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *busReader) uint32() uint32 {
	r.align(4)
	if b := r.take(4); b != nil {
		return r.order.Uint32(b)
	}
	return 0
}

func (r *busReader) string() string {
	n := r.uint32()
	if n > maxBusMessage {
		r.bad = true
	}
	s := r.take(int(n) + 1)
	if len(s) == 0 {
		return ""
	}
	return string(s[:n])
}

func (r *busReader) signature() string {
	s := r.take(int(r.byte()) + 1)
	if len(s) == 0 {
		return ""
	}
	return string(s[:len(s)-1])
}
