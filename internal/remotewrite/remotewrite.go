// Package remotewrite is Prometheus's remote write, version 1.0: it reads a body, makes one, and sends it.
//
// One call is one request; what is sent when, and again, is for the caller to decide
// (https://prometheus.io/docs/specs/prw/remote_write_spec/). Histograms, exemplars and metadata are passed over: they are
// counted by nobody, for senders send them beside what matters.
package remotewrite

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/klauspost/compress/snappy"
)

// Bounds of a request. Prometheus sends 2,000 samples at a time, in well under 1 MiB.
const (
	MaxBody    = 8 << 20  // bytes as sent
	maxPlain   = 32 << 20 // bytes behind the compression
	maxLabels  = 64
	maxName    = 1 << 10 // bytes
	maxValue   = 4 << 10
	maxSeries  = 100_000
	maxSamples = 1_000_000
)

// Label is one name and value of a series.
type Label struct{ Name, Value string }

// Point is one sample.
type Point struct {
	T int64 // Unix milliseconds
	V float64
}

// Series are samples of one series.
type Series struct {
	Labels []Label // sorted by name, __name__ among them
	Points []Point // in order of time
}

// ErrInvalid is what Decode finds in a body that is not as it should be. It is the sender's fault, and will not get better.
var ErrInvalid = errors.New("not a remote write request")

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}

// Decode reads a body as it is sent, and hands over its series one by one; one is valid only during the call. It stops at the
// first error, that of each or its own, which is ErrInvalid: what was handed over before stays handed over.
func Decode(body []byte, each func(*Series) error) error {
	if n, err := snappy.DecodedLen(body); err != nil {
		return invalid("not compressed with snappy")
	} else if n > maxPlain {
		return invalid("%d bytes, more than %d", n, maxPlain)
	}
	plain, err := snappy.Decode(nil, body)
	if err != nil {
		return invalid("not compressed with snappy")
	}
	var s Series
	series, samples := 0, 0
	return fields(plain, func(number int, f field) error {
		if number != 1 {
			return nil
		}
		if f.kind != bytesKind {
			return invalid("a series of the wrong type")
		}
		if series++; series > maxSeries {
			return invalid("more than %d series", maxSeries)
		}
		if err := s.read(f.bytes); err != nil {
			return err
		}
		if samples += len(s.Points); samples > maxSamples {
			return invalid("more than %d samples", maxSamples)
		}
		if len(s.Points) == 0 {
			return nil // it carries what we do not keep
		}
		return each(&s)
	})
}

// read reads a TimeSeries in place of what s held.
func (s *Series) read(message []byte) error {
	s.Labels, s.Points = s.Labels[:0], s.Points[:0]
	err := fields(message, func(number int, f field) error {
		switch {
		case number != 1 && number != 2:
			return nil
		case f.kind != bytesKind:
			return invalid("a label or sample of the wrong type")
		case number == 2:
			return s.readPoint(f.bytes)
		case len(s.Labels) == maxLabels:
			return invalid("more than %d labels", maxLabels)
		}
		return s.readLabel(f.bytes)
	})
	if err != nil {
		return err
	}
	return s.check()
}

func (s *Series) readLabel(message []byte) error {
	var l Label
	err := fields(message, func(number int, f field) error {
		switch {
		case number != 1 && number != 2:
			return nil
		case f.kind != bytesKind:
			return invalid("a label that is no text")
		case len(f.bytes) > maxName && number == 1, len(f.bytes) > maxValue:
			return invalid("a label of %d bytes", len(f.bytes))
		case !utf8.Valid(f.bytes):
			return invalid("a label that is not UTF-8")
		case number == 1:
			l.Name = string(f.bytes)
		default:
			l.Value = string(f.bytes)
		}
		return nil
	})
	if l.Value != "" { // one without a value is as good as none
		s.Labels = append(s.Labels, l)
	}
	return err
}

func (s *Series) readPoint(message []byte) error {
	var p Point
	err := fields(message, func(number int, f field) error {
		switch {
		case number == 1 && f.kind == fixed64Kind:
			p.V = math.Float64frombits(f.number)
		case number == 2 && f.kind == varintKind:
			p.T = int64(f.number)
		case number == 1 || number == 2:
			return invalid("a sample of the wrong type")
		}
		return nil
	})
	s.Points = append(s.Points, p)
	return err
}

// check puts labels and points in order and refuses what is no series.
func (s *Series) check() error {
	if !slices.IsSortedFunc(s.Labels, byName) {
		slices.SortFunc(s.Labels, byName)
	}
	named := false
	for i, l := range s.Labels {
		switch {
		case l.Name == "":
			return invalid("a label without a name")
		case i > 0 && l.Name == s.Labels[i-1].Name:
			return invalid("label %.60q twice", l.Name)
		case l.Name == "__name__":
			named = true
		}
	}
	if !named && len(s.Points) > 0 {
		return invalid("a series without a name")
	}
	byTime := func(a, b Point) int { return compare(a.T, b.T) }
	if !slices.IsSortedFunc(s.Points, byTime) {
		slices.SortStableFunc(s.Points, byTime)
	}
	return nil
}

func byName(a, b Label) int { return strings.Compare(a.Name, b.Name) }

func compare(a, b int64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// Encode makes the body of a request.
func Encode(all []Series) []byte {
	var plain, series, inner []byte
	for i := range all {
		series = series[:0]
		for _, l := range all[i].Labels {
			inner = appendBytes(inner[:0], 1, l.Name)
			inner = appendBytes(inner, 2, l.Value)
			series = appendBytes(series, 1, inner)
		}
		for _, p := range all[i].Points {
			inner = append(inner[:0], 1<<3|fixed64Kind)
			inner = binary.LittleEndian.AppendUint64(inner, math.Float64bits(p.V))
			inner = append(inner, 2<<3|varintKind)
			inner = binary.AppendUvarint(inner, uint64(p.T))
			series = appendBytes(series, 2, inner)
		}
		plain = appendBytes(plain, 1, series)
	}
	return snappy.Encode(nil, plain)
}

func appendBytes[T string | []byte](dst []byte, number byte, value T) []byte {
	dst = append(dst, number<<3|bytesKind)
	dst = binary.AppendUvarint(dst, uint64(len(value)))
	return append(dst, value...)
}

// The kinds of fields of a message (https://protobuf.dev/programming-guides/encoding/).
const (
	varintKind  = 0
	fixed64Kind = 1
	bytesKind   = 2
	fixed32Kind = 5
)

// field is one field of a message: a number, or bytes that lie in the message.
type field struct {
	kind   byte
	number uint64
	bytes  []byte
}

// fields hands over the fields of a message one by one.
func fields(message []byte, each func(number int, f field) error) error {
	for len(message) > 0 {
		tag, n := binary.Uvarint(message)
		if n <= 0 || tag>>3 == 0 || tag>>3 > 1<<29-1 {
			return invalid("torn")
		}
		message = message[n:]
		f := field{kind: byte(tag & 7)}
		size := 0
		switch f.kind {
		case varintKind:
			if f.number, size = binary.Uvarint(message); size <= 0 {
				return invalid("torn")
			}
		case fixed64Kind, fixed32Kind:
			if size = 8; f.kind == fixed32Kind {
				size = 4
			}
			if len(message) < size {
				return invalid("torn")
			}
			if f.kind == fixed64Kind {
				f.number = binary.LittleEndian.Uint64(message)
			}
		case bytesKind:
			length, n := binary.Uvarint(message)
			if n <= 0 || length > uint64(len(message)-n) {
				return invalid("torn")
			}
			f.bytes = message[n : n+int(length)]
			size = n + int(length)
		default:
			return invalid("a field of an unknown kind")
		}
		message = message[size:]
		if err := each(int(tag>>3), f); err != nil {
			return err
		}
	}
	return nil
}
