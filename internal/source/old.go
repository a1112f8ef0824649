package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"tocsin"
)

// maxZstdWindow is how far back a zstd stream may refer, and so what reading it may cost in memory: "zstd --long" needs
// as much, "zstd --ultra --long=31" is refused.
const maxZstdWindow = 128 << 20

// Old reads old logs, one after the other in the order given, and returns. A path of "-" is stdin. Plain, gzip and zstd
// are told apart by their first bytes, not by their names; but what is called .gz or .zst and is not packed is damaged, and
// so is what cannot be unpacked to its end: ErrDamaged. A last line without a newline counts.
//
// It is the replay path: one read buffer, a record a line, no allocation. What has been handed over when an error comes
// was handed over; the error names the path. The context is looked at once a buffer.
func Old(ctx context.Context, paths []string, stdin io.Reader, record func(*tocsin.Record)) (Stats, error) {
	var c counters
	buf := make([]byte, bufSize)
	for _, path := range paths {
		if err := oldFile(ctx, path, stdin, buf, &c, record); err != nil {
			c.errors.Add(1)
			return c.Stats(), err
		}
	}
	return c.Stats(), nil
}

func oldFile(ctx context.Context, path string, stdin io.Reader, buf []byte, c *counters, record func(*tocsin.Record)) error {
	var l lines
	raw, ino := stdin, uint64(0)
	if path == "-" {
		l.rec.Source = "stdin"
		hand := record
		record = func(r *tocsin.Record) { r.Pos = tocsin.Position{}; hand(r) }
	} else {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		var st unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &st); err == nil {
			ino = st.Ino
		}
		l.rec.Source = "file:" + filepath.Clean(path)
		raw = f
	}
	defer func() { c.add(&l) }()
	c.openings.Add(1)
	r, closeIt, err := decompress(raw)
	if _, plain := r.(*prefixed); plain && namedPacked(path) {
		err = fmt.Errorf("%w: it begins with something else", ErrDamaged)
	}
	if err == nil {
		err = cutAll(ctx, r, ino, buf, &l, record)
		closeIt()
	}
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return err
}

// cutAll hands over every line of r.
func cutAll(ctx context.Context, r io.Reader, ino uint64, buf []byte, l *lines, record func(*tocsin.Record)) error {
	kept := 0 // bytes of an unfinished line at the beginning of buf
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := r.Read(buf[kept:])
		data := buf[:kept+n]
		if l.rec.Pos.File == 0 {
			first, _ := firstLine(data)
			l.rec.Pos.File = identity(ino, first)
		}
		used := l.feed(data, record)
		kept = copy(buf, data[used:])
		switch {
		case errors.Is(err, io.EOF):
			if kept > 0 {
				l.feedLast(buf[:kept], record)
			}
			return nil
		case err != nil:
			return err
		}
	}
}

// feedLast hands over a last line that has no newline.
func (l *lines) feedLast(data []byte, record func(*tocsin.Record)) {
	text := trimCR(data)
	if len(text) > maxLine {
		text = text[:maxLine]
		l.cut++
	}
	l.hand(text, record)
	l.consume(len(data))
}

var (
	gzipMagic = []byte{0x1f, 0x8b}
	zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}
)

// decompress answers a reader of what raw holds, whatever it is packed in.
func decompress(raw io.Reader) (r io.Reader, closeIt func(), err error) {
	var head [4]byte
	n, err := io.ReadFull(raw, head[:])
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, nil, err
	}
	whole := &prefixed{head: head[:n], r: raw}
	switch {
	case bytes.HasPrefix(head[:n], gzipMagic):
		z, err := gzip.NewReader(whole)
		if err != nil {
			return nil, nil, damaged(err)
		}
		return unpacker{z}, func() { z.Close() }, nil
	case bytes.HasPrefix(head[:n], zstdMagic):
		z, err := zstd.NewReader(whole, zstd.WithDecoderMaxWindow(maxZstdWindow), zstd.WithDecoderConcurrency(2))
		if err != nil {
			return nil, nil, damaged(err)
		}
		return unpacker{z}, z.Close, nil
	}
	return whole, func() {}, nil
}

// prefixed gives back what was read to look at it, and then is r itself: io.MultiReader would do, and copy no more.
type prefixed struct {
	head []byte
	r    io.Reader
}

func (p *prefixed) Read(b []byte) (int, error) {
	if len(p.head) > 0 {
		n := copy(b, p.head)
		p.head = p.head[n:]
		return n, nil
	}
	return p.r.Read(b)
}
