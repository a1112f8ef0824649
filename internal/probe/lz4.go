package probe

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
)

// lz4Reader unpacks an LZ4 frame (https://github.com/lz4/lz4/blob/dev/doc/lz4_Frame_format.md), as apt keeps its lists in images
// of containers. Checksums are not compared: a torn file ends in an error anyway.
type lz4Reader struct {
	r       *bufio.Reader
	begun   bool
	blocks  bool // each has a checksum behind it
	whole   bool // so has the frame
	most    int  // bytes that a block unpacks to
	packed  []byte
	out     []byte // what was unpacked: up to 64 KiB that were read already, for later blocks refer to them, and what was not
	at      int    // of out that was read
	pending error
}

var errLZ4 = errors.New("no LZ4 frame, or a torn one")

const (
	lz4Magic  = 0x184D2204
	lz4Window = 64 << 10
)

func (z *lz4Reader) Read(p []byte) (int, error) {
	for z.at == len(z.out) {
		if z.pending == nil {
			z.pending = z.block()
		}
		if z.pending != nil {
			return 0, z.pending
		}
	}
	n := copy(p, z.out[z.at:])
	z.at += n
	return n, nil
}

func (z *lz4Reader) uint32() (uint32, error) {
	var b [4]byte
	_, err := io.ReadFull(z.r, b[:])
	return binary.LittleEndian.Uint32(b[:]), err
}

// header reads what stands before the blocks.
func (z *lz4Reader) header() error {
	magic, err := z.uint32()
	if err != nil || magic != lz4Magic {
		return errLZ4
	}
	var d [2]byte // flags, size of a block
	if _, err := io.ReadFull(z.r, d[:]); err != nil || d[0]>>6 != 1 {
		return errLZ4
	}
	z.blocks, z.whole = d[0]&0x10 != 0, d[0]&0x04 != 0
	size := int(d[1] >> 4 & 7)
	if size < 4 {
		return errLZ4
	}
	z.most = 1 << (8 + 2*size) // 4: 64 KiB, 7: 4 MiB
	skip := 1                  // the header's checksum
	if d[0]&0x08 != 0 {
		skip += 8 // how long it is
	}
	if d[0]&0x01 != 0 {
		skip += 4 // a dictionary
	}
	_, err = z.r.Discard(skip)
	return err
}

// block unpacks the next one behind what a later block may refer to.
func (z *lz4Reader) block() error {
	if !z.begun {
		if err := z.header(); err != nil {
			return err
		}
		z.begun = true
	}
	size, err := z.uint32()
	if err != nil {
		return errLZ4
	}
	if size == 0 {
		return io.EOF
	}
	plain := size>>31 == 1
	n := int(size &^ (1 << 31))
	if n > z.most {
		return errLZ4
	}
	if cap(z.packed) < n {
		z.packed = make([]byte, n)
	}
	z.packed = z.packed[:n]
	if _, err := io.ReadFull(z.r, z.packed); err != nil {
		return errLZ4
	}
	if z.blocks {
		if _, err := z.r.Discard(4); err != nil {
			return errLZ4
		}
	}
	if over := len(z.out) - lz4Window; over > 0 {
		z.out = z.out[:copy(z.out, z.out[over:])]
	}
	z.at = len(z.out)
	if plain {
		z.out = append(z.out, z.packed...)
		return nil
	}
	return z.unpack(z.packed)
}

// unpack reads sequences: bytes as they are, and a piece of what was before.
func (z *lz4Reader) unpack(b []byte) error {
	end := len(z.out) + z.most
	for len(b) > 0 {
		token := b[0]
		n, rest, ok := lz4Length(int(token>>4), b[1:])
		if !ok || n > len(rest) || len(z.out)+n > end {
			return errLZ4
		}
		z.out = append(z.out, rest[:n]...)
		if b = rest[n:]; len(b) == 0 {
			return nil
		}
		if len(b) < 2 {
			return errLZ4
		}
		back := int(binary.LittleEndian.Uint16(b))
		n, rest, ok = lz4Length(int(token&15), b[2:])
		n += 4
		if !ok || back == 0 || back > len(z.out) || len(z.out)+n > end {
			return errLZ4
		}
		for range n { // the piece may reach into itself
			z.out = append(z.out, z.out[len(z.out)-back])
		}
		b = rest
	}
	return errLZ4
}

// lz4Length reads the bytes that make a length of 15 longer.
func lz4Length(n int, b []byte) (length int, rest []byte, ok bool) {
	if n < 15 {
		return n, b, true
	}
	for i, c := range b {
		n += int(c)
		if c != 255 {
			return n, b[i+1:], true
		}
	}
	return 0, nil, false
}
