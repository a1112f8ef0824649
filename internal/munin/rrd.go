package munin

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"os"
	"strings"
	"time"
)

// Bounds of an RRD file. Munin's largest in the wild, ten seconds for a year in full, is a third of maxRRD.
const (
	maxRRD        = 256 << 20 // bytes, of an XML dump after unpacking too
	maxRRDSources = 1000
	maxRRDRRAs    = 1000
	maxRRDValues  = maxRRD / 8
	maxRRDSeconds = 1 << 40 // of a time or of a row; far beyond any clock, far below an overflow
)

// RRD is what a round robin database of rrdtool holds: the history that a Munin master keeps of one field.
type RRD struct {
	Version  string // of the file's format: "0003"
	Step     int64  // seconds of a primary data point
	Last     int64  // Unix seconds of the last update
	Sources  []RRDSource
	Archives []RRDArchive // in the order of the file
}

// RRDSource is one data source. Munin has one in a file and calls it "42".
type RRDSource struct {
	Name      string
	Kind      string  // "GAUGE", "COUNTER", "DERIVE", "ABSOLUTE", "DCOUNTER", "DDERIVE", "COMPUTE"
	Heartbeat int64   // seconds without an update after which the value is unknown
	Min, Max  float64 // of the rate; NaN: no bound
	Reading   string  // the last raw reading: "U" or a number
}

// RRDArchive is one consolidation of the sources: rows of a fixed length, without a gap.
type RRDArchive struct {
	CF     string // consolidation function: "AVERAGE", "MIN", "MAX", "LAST", or one of the Holt-Winters kind
	PerRow int64  // steps in a row
	Step   int64  // seconds in a row
	Newest int64  // Unix seconds at which the last row ends
	width  int    // sources
	values []float64
}

// Len is the number of rows.
func (a *RRDArchive) Len() int { return len(a.values) / a.width }

// Rows are the rows of one source from the oldest to the newest. The time, in Unix seconds, is the end of the row: the
// value stands for (t-Step, t]. It is a rate per second where the source counts, NaN where nothing is known.
func (a *RRDArchive) Rows(source int) iter.Seq2[int64, float64] {
	return func(yield func(int64, float64) bool) {
		n := a.Len()
		for i := range n {
			if !yield(a.Newest-int64(n-1-i)*a.Step, a.values[i*a.width+source]) {
				return
			}
		}
	}
}

// rrdTries is how often OpenRRD reads a file that changes under its hands.
const rrdTries = 5

// OpenRRD reads the file at path, or its XML dump, as ReadRRD does. A master may be writing to it: the head is read before
// and after the rest and compared, and a file that changed or makes no sense is read again.
func OpenRRD(path string) (*RRD, error) {
	var last error
	for try := range rrdTries {
		if try > 0 {
			time.Sleep(20 * time.Millisecond) // a writer is done in less than one
		}
		data, whole, err := readStill(path)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		if !whole {
			last = errors.New("it is being written without a pause")
			continue
		}
		r, err := parseRRD(data)
		if err == nil {
			return r, nil
		}
		last = err
		if !errors.Is(err, errTorn) {
			break
		}
	}
	return nil, fmt.Errorf("read %s: %w", path, last)
}

// readStill reads a file and says whether its head stayed the same meanwhile.
func readStill(path string) (data []byte, still bool, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, false, errors.Unwrap(err) // the caller names the path
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, false, err
	case !info.Mode().IsRegular():
		return nil, false, errors.New("it is not a regular file")
	case info.Size() > maxRRD:
		return nil, false, fmt.Errorf("it has %d bytes, more than the %d that are read", info.Size(), int64(maxRRD))
	}
	data = make([]byte, info.Size())
	if n, err := io.ReadFull(f, data); err != nil {
		data = data[:n] // it was cut meanwhile; parsing will tell
	}
	head := make([]byte, min(len(data), rrdHeadMost))
	if _, err := f.ReadAt(head, 0); err != nil && err != io.EOF {
		return nil, false, err
	}
	return data, bytes.Equal(head, data[:len(head)]), nil
}

// ReadRRD reads an RRD file of a 64-bit little-endian machine, the XML that "rrdtool dump" makes of any, or one of them
// packed by gzip. The error says why a file is refused and what to do.
func ReadRRD(r io.Reader) (*RRD, error) {
	data, err := readAllRRD(r)
	if err != nil {
		return nil, err
	}
	return parseRRD(data)
}

func readAllRRD(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxRRD+1))
	if err == nil && len(data) > maxRRD {
		err = fmt.Errorf("it has more than the %d bytes that are read", maxRRD)
	}
	return data, err
}

func parseRRD(data []byte) (*RRD, error) {
	if bytes.HasPrefix(data, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			return nil, err
		}
		if data, err = readAllRRD(z); err != nil {
			return nil, err
		}
	}
	switch {
	case bytes.HasPrefix(data, []byte("RRD\x00")):
		return parseRRDFile(data)
	case bytes.HasPrefix(bytes.TrimLeft(data, "\ufeff \t\r\n"), []byte("<")):
		return parseRRDXML(bufio.NewReader(bytes.NewReader(data)))
	}
	return nil, errors.New("it is neither an RRD file nor the XML of rrdtool dump")
}

// The file's parts (rrd_format.h of rrdtool 1.4 to 1.8 on x86-64 and arm64): integers of eight bytes, IEEE doubles, natural
// alignment.
const (
	rrdStatHead  = 128
	rrdDSDef     = 120
	rrdRRADef    = 120
	rrdPDPPrep   = 112
	rrdCDPPrep   = 80
	rrdHeadMost  = 8 << 10 // what OpenRRD compares: the whole head of what Munin makes
	rrdCookie    = 8.642135e130
	rrdCookieAt  = 16
	rrdCookie32  = 12 // where it lies if a double is aligned to four bytes
	askForXML    = `make XML of it where it was written ("rrdtool dump FILE > FILE.xml") and give that`
	rrdOldestVer = 1
	rrdNewestVer = 5
)

// errTorn is what a file that is being written looks like, and a damaged one.
var errTorn = errors.New("it is damaged or cut short")

func torn(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errTorn, fmt.Sprintf(format, args...))
}

// rrdBytes reads one field after the other. Its caller has looked whether they are there.
type rrdBytes []byte

func (b rrdBytes) float(at int) float64 {
	return math.Float64frombits(binary.LittleEndian.Uint64(b[at:]))
}
func (b rrdBytes) uint(at int) uint64 { return binary.LittleEndian.Uint64(b[at:]) }

// text is a string of at most n bytes that ends at a NUL.
func (b rrdBytes) text(at, n int) string {
	s, _, _ := strings.Cut(string(b[at:at+n]), "\x00")
	return strings.ToValidUTF8(s, "?")
}

func parseRRDFile(data []byte) (*RRD, error) {
	b := rrdBytes(data)
	if len(b) < rrdStatHead {
		return nil, torn("it has %d bytes, not even a head", len(b))
	}
	r := &RRD{Version: b.text(4, 5)}
	version := 0
	if _, err := fmt.Sscanf(r.Version, "%d", &version); err != nil || version < rrdOldestVer || version > rrdNewestVer {
		return nil, fmt.Errorf("its format has the version %q; 0001 to 0005 are known", r.Version)
	}
	if err := foreign(b); err != nil {
		return nil, err
	}
	sources, archives, step := b.uint(24), b.uint(32), b.uint(40)
	switch {
	case sources>>32 != 0 && sources>>32 <= maxRRDRRAs && sources&math.MaxUint32 <= maxRRDSources:
		return nil, errors.New("it was written on a 32-bit machine: " + askForXML) // both counts lie in what would be one
	case sources == 0 || sources > maxRRDSources:
		return nil, torn("it claims %d data sources", sources)
	case archives == 0 || archives > maxRRDRRAs:
		return nil, torn("it claims %d archives", archives)
	case step == 0 || step > maxRRDSeconds:
		return nil, torn("it claims a step of %d seconds", step)
	}
	r.Step = int64(step)
	live := 16
	if version < 3 {
		live = 8
	}
	nds, nrra := int(sources), int(archives)
	liveAt := rrdStatHead + nds*rrdDSDef + nrra*rrdRRADef
	ptrAt := liveAt + live + nds*rrdPDPPrep + nds*nrra*rrdCDPPrep
	dataAt := ptrAt + nrra*8
	if len(b) < dataAt {
		return nil, torn("it has %d bytes, its head alone needs %d", len(b), dataAt)
	}
	last := b.uint(liveAt)
	if last > maxRRDSeconds {
		return nil, torn("its last update is %d", int64(last))
	}
	r.Last = int64(last)
	for i := range nds {
		at, prep := rrdStatHead+i*rrdDSDef, liveAt+live+i*rrdPDPPrep
		r.Sources = append(r.Sources, RRDSource{
			Name: b.text(at, 20), Kind: b.text(at+20, 20), Heartbeat: int64(min(b.uint(at+40), maxRRDSeconds)),
			Min: b.float(at + 48), Max: b.float(at + 56), Reading: b.text(prep, 30),
		})
	}
	for i := range nrra {
		def := rrdStatHead + nds*rrdDSDef + i*rrdRRADef
		a, next, err := rrdArchive(b, def, ptrAt+i*8, dataAt, nds, r)
		if err != nil {
			return nil, err
		}
		dataAt = next
		r.Archives = append(r.Archives, a)
	}
	return r, nil
}

// rrdArchive reads the archive whose definition lies at def, its pointer at ptr and its rows at rows. next is where the rows
// of the next one lie.
func rrdArchive(b rrdBytes, def, ptr, rows, width int, r *RRD) (a RRDArchive, next int, err error) {
	a = RRDArchive{CF: b.text(def, 20), width: width}
	count, per, newest := b.uint(def+24), b.uint(def+32), b.uint(ptr)
	switch {
	case count == 0 || count > maxRRDValues/uint64(width):
		return a, 0, torn("an archive claims %d rows", count)
	case per == 0 || per > maxRRDSeconds/uint64(r.Step):
		return a, 0, torn("an archive claims %d steps a row", per)
	case newest >= count:
		return a, 0, torn("an archive of %d rows claims to be at row %d", count, newest)
	}
	n := int(count) * width
	if next = rows + n*8; len(b) < next {
		return a, 0, torn("it has %d bytes and needs %d or more", len(b), next)
	}
	a.PerRow, a.Step = int64(per), int64(per)*r.Step
	a.Newest = r.Last - r.Last%a.Step
	a.values = make([]float64, 0, n)
	split := rows + (int(newest)+1)*width*8 // the row after the newest is the oldest
	for _, part := range []rrdBytes{b[split:next], b[rows:split]} {
		for ; len(part) >= 8; part = part[8:] {
			a.values = append(a.values, part.float(0))
		}
	}
	return a, next, nil
}

// foreign says whether a file comes from another kind of machine, by where and how the cookie lies.
func foreign(b rrdBytes) error {
	if b.float(rrdCookieAt) == rrdCookie {
		return nil
	}
	if b.float(rrdCookie32) == rrdCookie {
		return errors.New("it was written on a 32-bit machine: " + askForXML)
	}
	for _, at := range []int{rrdCookieAt, rrdCookie32} {
		if math.Float64frombits(binary.BigEndian.Uint64(b[at:])) == rrdCookie {
			return errors.New("it was written on a machine with the other byte order: " + askForXML)
		}
	}
	return torn("the number is not there by which machines are told apart")
}
