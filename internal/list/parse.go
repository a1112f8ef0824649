package list

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/netip"

	"tocsin/internal/config"
)

const (
	textPerStep = 8 << 20 // bytes of text for each started 100,000 entries asked for
	step        = 100_000
	maxLine     = 4096 // bytes; ipset's comments have 255
	maxBad      = 100  // lines that are no entry before reading stops
	maxShown    = 80   // bytes of such a line that are kept
)

// Parsed is what was read of a text, and what was odd about it. What can be used of it is in Set whatever else is told.
type Parsed struct {
	Set        *Set
	Duplicates int     // entries that stood there more than once
	Special    Skipped // addresses that are not public unicast
	Wide       Skipped // networks that are too wide to be blocked as a whole
	Bad        Skipped // lines that are neither entry nor comment
	Page       bool    // the text is a web page
	NoList     string  // why the source's own form of a list was not followed; "" if it was
	More       bool    // there is more than was asked for, and the rest was not read
	Truncated  string  // why the text is not whole; "" if it is
	TooLong    bool    // reading stopped at the bound for what was asked for
	OpenEnd    bool    // the last line has no end; where nothing else tells how long the text is, some of it may be missing
}

// Skipped are lines that were left out.
type Skipped struct {
	N    int
	Line int    // the number of the first of them
	Text string // the first of them, shortened; hostile
}

func (s *Skipped) add(line int, text []byte) {
	if s.N++; s.N == 1 {
		s.Line, s.Text = line, string(text[:min(len(text), maxShown)])
	}
}

// textBound is how many bytes of text are read for a list of limit entries.
func textBound(limit int) int64 {
	return int64((limitOf(limit)+step-1)/step) * textPerStep
}

// limitOf is how many entries a list may have that was asked for with limit.
func limitOf(limit int) int {
	if limit <= 0 {
		return MaxEntries
	}
	return min(limit, MaxEntries)
}

// parser collects what a text says.
type parser struct {
	*Parsed
	line int
}

// Parse reads a list as text: one address or network a line, comments behind "#" or ";", or what "ipset save" prints.
// Bits beyond a network's length are cleared, and IPv4 in IPv6 becomes IPv4. Line ends may be LF or CRLF, the text may be
// compressed with gzip. limit is [Terms].Limit: it bounds how much is read.
//
// A text that breaks off is told in Parsed; the error is any other that r returned, and nothing is returned with it.
// Parse takes linear time, and memory for the entries only.
func Parse(r io.Reader, limit int) (*Parsed, error) {
	p := parser{Parsed: &Parsed{Set: &Set{}}}
	in := bufio.NewReaderSize(r, 64<<10)
	if magic, _ := in.Peek(2); string(magic) == "\x1f\x8b" {
		unzip, err := gzip.NewReader(in)
		if err != nil {
			return p.end(err)
		}
		in = bufio.NewReaderSize(unzip, 64<<10)
	}
	if head, _ := in.Peek(512); isPage(head) {
		p.Page = true
	}
	return p.end(p.read(in, textBound(limit)))
}

// read takes lines until the text ends, the bound is reached, or it is clear that this is no list.
func (p *parser) read(in *bufio.Reader, bound int64) error {
	for {
		line, err := in.ReadSlice('\n')
		if bound -= int64(len(line)); bound < 0 {
			p.TooLong = true
			return nil
		}
		p.line++
		switch {
		case errors.Is(err, bufio.ErrBufferFull) || len(line) > maxLine:
			p.Bad.add(p.line, line)
			return nil // no list has such lines, and whatever follows them is none either
		case err == nil || errors.Is(err, io.EOF):
			p.take(line)
			p.OpenEnd = err != nil && len(line) > 0
		}
		if err != nil || p.Bad.N > maxBad || p.Page {
			return err
		}
		if p.Set.Len() > MaxEntries {
			p.TooLong = true
			return nil
		}
	}
}

// end sorts what was read. The half line before a text broke off is left out: 192.0.2.1 may have been 192.0.2.123.
func (p *parser) end(err error) (*Parsed, error) {
	switch {
	case err == nil || errors.Is(err, io.EOF):
	case errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, gzip.ErrHeader) || errors.Is(err, gzip.ErrChecksum) || isCorrupt(err):
		p.Truncated = err.Error()
	default:
		return nil, err
	}
	n := p.Set.Len()
	p.Set.sort()
	p.Duplicates = n - p.Set.Len()
	return p.Parsed, nil
}

// isPage says whether a text begins like HTML or XML.
func isPage(head []byte) bool {
	return bytes.HasPrefix(bytes.TrimLeft(bytes.TrimPrefix(head, bom), " \t\r\n"), []byte("<"))
}

var bom = []byte("\uFEFF")

// take reads one line.
func (p *parser) take(line []byte) {
	if p.line == 1 {
		line = bytes.TrimPrefix(line, bom)
	}
	line = bytes.TrimSpace(line)
	if len(line) == 0 || line[0] == '#' || line[0] == ';' || bytes.HasPrefix(line, []byte("create ")) {
		return
	}
	if a, ok := address4(line); ok { // most lines are
		p.add4(a, line)
		return
	}
	entry, ok := p.entry(line)
	if !ok {
		p.Bad.add(p.line, line)
		return
	}
	prefix, ok := prefixOf(string(entry))
	switch {
	case !ok:
		p.Bad.add(p.line, line)
	case prefix.Bits() < config.WidestPrefix(prefix.Addr()) && !wholly(prefix):
		p.Wide.add(p.line, entry)
	case isSpecial(prefix):
		p.Special.add(p.line, entry)
	default:
		p.Set.add(prefix)
	}
}

func (p *parser) add4(a uint32, text []byte) {
	if isSpecial4(a, a) {
		p.Special.add(p.line, text)
		return
	}
	p.Set.one4 = append(p.Set.one4, a)
}

// wholly says whether a prefix that is too wide lies in addresses that are not public: lists of such networks name
// 224.0.0.0/3 or fc00::/7, which would harm nobody.
func wholly(p netip.Prefix) bool {
	if p.Addr().Is6() {
		return !public6.Overlaps(p)
	}
	first := uint32Of(p.Addr())
	last := first | hostBits(p.Bits())
	for _, b := range special4 {
		if b.first <= first && last <= b.last {
			return true
		}
	}
	return false
}

// entry is the part of a line that is an address or network: all before a comment, or the second word behind ipset's "add".
func (p *parser) entry(line []byte) ([]byte, bool) {
	if rest, ok := bytes.CutPrefix(line, []byte("add ")); ok {
		_, rest, _ = bytes.Cut(bytes.TrimLeft(rest, " "), []byte(" "))
		entry, options, _ := bytes.Cut(bytes.TrimLeft(rest, " "), []byte(" "))
		// An entry with "nomatch" is an exception: to block it would be the opposite of what the list says.
		options, _, _ = bytes.Cut(options, []byte(`"`))
		return entry, !bytes.Contains(options, []byte("nomatch"))
	}
	if i := bytes.IndexAny(line, "#; \t"); i >= 0 {
		rest := bytes.TrimLeft(line[i:], " \t")
		if len(rest) > 0 && rest[0] != '#' && rest[0] != ';' {
			return nil, false
		}
		line = line[:i]
	}
	return line, true
}

// address4 reads an IPv4 address as [netip.ParseAddr] does, without making a string of it.
func address4(text []byte) (a uint32, ok bool) {
	if len(text) < len("0.0.0.0") || len(text) > len("255.255.255.255") {
		return 0, false
	}
	part, digits, dots := uint32(0), 0, 0
	for _, c := range text {
		switch {
		case '0' <= c && c <= '9':
			if digits > 0 && part == 0 {
				return 0, false
			}
			part = part*10 + uint32(c-'0')
			if digits++; part > 255 {
				return 0, false
			}
		case c == '.' && digits > 0 && dots < 3:
			a, part, digits, dots = a<<8|part, 0, 0, dots+1
		default:
			return 0, false
		}
	}
	return a<<8 | part, dots == 3 && digits > 0
}

// prefixOf reads an address or network.
func prefixOf(s string) (netip.Prefix, bool) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return netip.Prefix{}, false
		}
		p = netip.PrefixFrom(a.WithZone(""), a.BitLen())
		if a.Zone() != "" {
			return netip.Prefix{}, false
		}
	}
	return plain(p)
}
