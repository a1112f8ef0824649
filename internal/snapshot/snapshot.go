// Package snapshot is the list of addresses as a file that anybody may copy: sorted, packed, signed, and as the difference
// to the file before. Who has the signer's key can take it from any web server or mirror.
//
// A file is a header, the packed body and an Ed25519 signature (RFC 8032) of both. docs/format/snapshot.md describes it
// byte by byte.
package snapshot

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/flate"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"time"
)

// MaxKeys is the most that a set may have.
const MaxKeys = 16 << 20

// MaxFile is the most bytes that a file may have.
const MaxFile = 64 << 20

// Set is what a list holds: IPv4 addresses, and IPv6 networks of 64 bits by their upper half. Both rise, and nothing is there
// twice.
type Set struct {
	V4 []uint32
	V6 []uint64
}

// Add puts an address, or the network that it lies in, at the end; Sort makes a set of it.
func (s *Set) Add(a netip.Addr) {
	if a = a.Unmap(); a.Is4() {
		b := a.As4()
		s.V4 = append(s.V4, binary.BigEndian.Uint32(b[:]))
		return
	}
	b := a.As16()
	s.V6 = append(s.V6, binary.BigEndian.Uint64(b[:]))
}

// Sort brings a set into order.
func (s *Set) Sort() {
	slices.Sort(s.V4)
	s.V4 = slices.Compact(s.V4)
	slices.Sort(s.V6)
	s.V6 = slices.Compact(s.V6)
}

// Len is how many it has.
func (s *Set) Len() int { return len(s.V4) + len(s.V6) }

// Hash is the SHA-256 of all that a set holds: the number of IPv4 addresses and then each, the same for IPv6, big endian.
func (s *Set) Hash() [sha256.Size]byte {
	h := sha256.New()
	var buf [4096]byte
	b := binary.BigEndian.AppendUint64(buf[:0], uint64(len(s.V4)))
	flush := func(room int) {
		if len(b)+room > len(buf) {
			h.Write(b)
			b = b[:0]
		}
	}
	for _, v := range s.V4 {
		flush(4)
		b = binary.BigEndian.AppendUint32(b, v)
	}
	flush(8)
	b = binary.BigEndian.AppendUint64(b, uint64(len(s.V6)))
	for _, v := range s.V6 {
		flush(8)
		b = binary.BigEndian.AppendUint64(b, v)
	}
	h.Write(b)
	return [sha256.Size]byte(h.Sum(nil))
}

// Prefixes gives each member: /32 and /64.
func (s *Set) Prefixes(each func(netip.Prefix)) {
	for _, v := range s.V4 {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], v)
		each(netip.PrefixFrom(netip.AddrFrom4(b), 32))
	}
	for _, v := range s.V6 {
		var b [16]byte
		binary.BigEndian.PutUint64(b[:], v)
		each(netip.PrefixFrom(netip.AddrFrom16(b), 64))
	}
}

// Meta is what a file says of itself.
type Meta struct {
	Generation uint64 // rises from file to file
	From       uint64 // the generation that a difference begins at; 0: a whole set
	At         time.Time
	Score      uint8             // the least score of what it holds
	Hash       [sha256.Size]byte // of the whole set of that generation
}

// The header: magic, generation, from, seconds, score, hash, four counts.
const (
	magic      = "TOCLIST\x01"
	headerSize = len(magic) + 8 + 8 + 8 + 1 + sha256.Size + 4*4
)

// Errors of files.
var (
	ErrFile      = errors.New("not a list of addresses, or damaged")
	ErrSignature = errors.New("the signature is not of the key that is expected")
	ErrBase      = errors.New("the difference does not begin at this set")
)

// Whole writes a set as a file. m.From and m.Hash are filled in.
func Whole(s *Set, m Meta, key ed25519.PrivateKey) ([]byte, error) {
	m.From = 0
	return encode(m, s, &Set{}, s.Hash(), key)
}

// Difference writes what makes a set of the one before. m.Hash is filled in.
func Difference(before, now *Set, m Meta, key ed25519.PrivateKey) ([]byte, error) {
	if m.From == 0 || m.From >= m.Generation {
		return nil, fmt.Errorf("a difference from generation %d to %d", m.From, m.Generation)
	}
	added := &Set{without(now.V4, before.V4), without(now.V6, before.V6)}
	gone := &Set{without(before.V4, now.V4), without(before.V6, now.V6)}
	return encode(m, added, gone, now.Hash(), key)
}

// without are the members of a that b lacks.
func without[T cmp.Ordered](a, b []T) (rest []T) {
	for _, v := range a {
		for len(b) > 0 && b[0] < v {
			b = b[1:]
		}
		if len(b) == 0 || b[0] != v {
			rest = append(rest, v)
		}
	}
	return rest
}

func encode(m Meta, added, gone *Set, hash [sha256.Size]byte, key ed25519.PrivateKey) ([]byte, error) {
	if added.Len() > MaxKeys || gone.Len() > MaxKeys {
		return nil, fmt.Errorf("a list of more than %d addresses", MaxKeys)
	}
	b := []byte(magic)
	b = binary.BigEndian.AppendUint64(b, m.Generation)
	b = binary.BigEndian.AppendUint64(b, m.From)
	b = binary.BigEndian.AppendUint64(b, uint64(m.At.Unix()))
	b = append(b, m.Score)
	b = append(b, hash[:]...)
	for _, n := range []int{len(added.V4), len(added.V6), len(gone.V4), len(gone.V6)} {
		b = binary.BigEndian.AppendUint32(b, uint32(n))
	}
	out := bytes.NewBuffer(b)
	w, err := flate.NewWriter(out, flate.BestCompression)
	if err != nil {
		return nil, err
	}
	var steps []byte
	steps = appendSteps(steps, added.V4)
	steps = appendSteps(steps, added.V6)
	steps = appendSteps(steps, gone.V4)
	steps = appendSteps(steps, gone.V6)
	if _, err := w.Write(steps); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return append(out.Bytes(), ed25519.Sign(key, out.Bytes())...), nil
}

// appendSteps writes rising numbers as the steps between them, less one, for none is there twice; the first as it is.
func appendSteps[T uint32 | uint64](b []byte, all []T) []byte {
	var last T
	for i, v := range all {
		if i == 0 {
			b = binary.AppendUvarint(b, uint64(v))
		} else {
			b = binary.AppendUvarint(b, uint64(v-last-1))
		}
		last = v
	}
	return b
}

// Read checks a file's signature and says what it is. It reads nothing that is not signed.
func Read(file []byte, key ed25519.PublicKey) (Meta, error) {
	if len(file) < headerSize+ed25519.SignatureSize || len(file) > MaxFile || !bytes.HasPrefix(file, []byte(magic)) {
		return Meta{}, ErrFile
	}
	signed := file[:len(file)-ed25519.SignatureSize]
	if len(key) != ed25519.PublicKeySize || !ed25519.Verify(key, signed, file[len(signed):]) {
		return Meta{}, ErrSignature
	}
	b := file[len(magic):]
	m := Meta{
		Generation: binary.BigEndian.Uint64(b), From: binary.BigEndian.Uint64(b[8:]),
		At: time.Unix(int64(binary.BigEndian.Uint64(b[16:])), 0).UTC(), Score: b[24],
	}
	copy(m.Hash[:], b[25:])
	return m, nil
}

// Apply makes the set that a file stands for; before is what a difference begins at, and nil for a whole set. The file's
// signature is checked, and the hash of what comes out: a set that is returned is the one that was signed.
func Apply(file []byte, key ed25519.PublicKey, before *Set) (*Set, Meta, error) {
	m, err := Read(file, key)
	if err != nil {
		return nil, m, err
	}
	if before == nil {
		before = &Set{}
		if m.From != 0 {
			return nil, m, ErrBase
		}
	}
	counts := file[headerSize-16 : headerSize]
	var parts [4]int
	for i := range parts {
		if parts[i] = int(binary.BigEndian.Uint32(counts[4*i:])); parts[i] > MaxKeys {
			return nil, m, ErrFile
		}
	}
	body := bufio.NewReader(flate.NewReader(bytes.NewReader(file[headerSize : len(file)-ed25519.SignatureSize])))
	var added, gone Set
	if added.V4, err = readSteps[uint32](body, parts[0]); err == nil {
		added.V6, err = readSteps[uint64](body, parts[1])
	}
	if err == nil {
		gone.V4, err = readSteps[uint32](body, parts[2])
	}
	if err == nil {
		gone.V6, err = readSteps[uint64](body, parts[3])
	}
	if err != nil {
		return nil, m, err
	}
	now := &Set{merge(before.V4, added.V4, gone.V4), merge(before.V6, added.V6, gone.V6)}
	if now.Hash() != m.Hash {
		if m.From != 0 {
			return nil, m, ErrBase
		}
		return nil, m, ErrFile
	}
	return now, m, nil
}

// merge is a with added and without gone.
func merge[T cmp.Ordered](a, added, gone []T) []T {
	all := make([]T, 0, len(a)+len(added))
	for len(a) > 0 || len(added) > 0 {
		switch {
		case len(a) == 0 || len(added) > 0 && added[0] < a[0]:
			all, added = append(all, added[0]), added[1:]
		case len(added) > 0 && added[0] == a[0]:
			added = added[1:]
		default:
			all, a = append(all, a[0]), a[1:]
		}
	}
	return without(all, gone)
}

func readSteps[T uint32 | uint64](r io.ByteReader, n int) ([]T, error) {
	all := make([]T, 0, min(n, 1<<16)) // a header may promise more than comes
	var last T
	for i := range n {
		step, err := binary.ReadUvarint(r)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrFile, err)
		}
		v := T(step)
		if i > 0 {
			v = last + T(step) + 1
		}
		if uint64(T(step)) != step || i > 0 && v <= last {
			return nil, ErrFile
		}
		all = append(all, v)
		last = v
	}
	return all, nil
}
