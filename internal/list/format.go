package list

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"tocsin"
	"tocsin/internal/config"
)

// Kept is a list as it is kept on the disk and handed to the guard.
type Kept struct {
	Name      string
	Terms     Terms
	Generated time.Time // when the source made it; zero if it did not say. In whole seconds
	Fetched   time.Time // in whole seconds
	ETag      string
	Modified  string
	Refused   []Reason // why it was not applied; none: it was accepted
	Set       *Set
}

const (
	magic     = "tocsin-list 1"
	maxHeader = 1024 // bytes of a line of the header
	maxEntry  = len("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128\n")
)

// MaxEncoded bounds what Encode writes for a list of n entries, in bytes.
func MaxEncoded(n int) int64 { return int64(20*maxHeader) + int64(n)*int64(maxEntry) }

// header is the lines before the entries but for the last one, which holds their SHA-256.
func (k *Kept) header() (lines []string, err error) {
	add := func(key, value string) {
		line := key + " " + value
		if value == "" || len(line) >= maxHeader || tocsin.Printable(value) != value || strings.TrimSpace(value) != value {
			err = errors.Join(err, fmt.Errorf("the list's %s does not fit into a line: \"%s\"", key, tocsin.Printable(value[:min(len(value), maxShown)])))
		}
		lines = append(lines, line)
	}
	optional := func(key, value string) {
		if value != "" {
			add(key, value)
		}
	}
	moment := func(key string, t time.Time) {
		if !t.IsZero() {
			add(key, t.UTC().Format(time.RFC3339))
		}
	}
	lines = append(lines, magic)
	add("name", k.Name)
	add("source", k.Terms.Source)
	optional("plan", k.Terms.Plan)
	add("limit", strconv.Itoa(k.Terms.Limit))
	add("confidence", strconv.Itoa(k.Terms.Confidence))
	moment("generated", k.Generated)
	moment("fetched", k.Fetched)
	optional("etag", k.ETag)
	optional("modified", k.Modified)
	for _, r := range k.Refused {
		add("refused", string(r.Kind)+" "+r.Text)
	}
	add("entries", strconv.Itoa(k.Set.Len()))
	return lines, err
}

// Encode writes k in the form of docs/format/list.md. Equal lists give equal bytes.
func (k *Kept) Encode(w io.Writer) error {
	header, err := k.header()
	if err != nil {
		return err
	}
	// The sum stands before the entries, so that they are written twice: text of two million entries is not to be held.
	sum := sha256.New()
	if err := k.write(sum, header, ""); err != nil {
		return err
	}
	return k.write(w, header, "sha256 "+hex.EncodeToString(sum.Sum(nil))+"\n\n")
}

func (k *Kept) write(w io.Writer, header []string, between string) error {
	out := bufio.NewWriterSize(w, 64<<10)
	for _, line := range header {
		out.WriteString(line + "\n")
	}
	out.WriteString(between)
	for p := range k.Set.All() {
		text := out.AvailableBuffer()
		if p.IsSingleIP() {
			text = p.Addr().AppendTo(text)
		} else {
			text = p.AppendTo(text)
		}
		if _, err := out.Write(append(text, '\n')); err != nil {
			return err
		}
	}
	return out.Flush()
}

// FormatError says what is wrong with a text that should be a kept list.
type FormatError struct {
	Line int
	Msg  string
}

func (e *FormatError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Msg) }

// Decode reads what Encode wrote, and nothing else: every entry public, narrow enough, in its place and in its one form,
// as many as the header says, with the sum that it says. It believes nothing that a stranger could have written there.
// A [*FormatError] says that the text is not a kept list; any other error is r's.
func Decode(r io.Reader) (*Kept, error) {
	d := decoder{in: bufio.NewReaderSize(r, 64<<10), sum: sha256.New(), kept: &Kept{Set: &Set{}}}
	if err := d.header(); err != nil {
		return nil, err
	}
	if err := d.entries(); err != nil {
		return nil, err
	}
	return d.kept, nil
}

type decoder struct {
	in   *bufio.Reader
	line int
	sum  hash.Hash
	kept *Kept
	n    int    // entries promised
	want string // the sum promised
	head []string
	last netip.Prefix
}

func (d *decoder) wrong(format string, args ...any) error {
	return &FormatError{d.line, fmt.Sprintf(format, args...)}
}

// next returns the next line without its end, valid until the next call.
func (d *decoder) next() ([]byte, error) {
	d.line++
	line, err := d.in.ReadSlice('\n')
	switch {
	case err == nil && len(line) <= maxHeader:
		return line[:len(line)-1], nil
	case err == nil || errors.Is(err, bufio.ErrBufferFull):
		return nil, d.wrong("it is longer than %d bytes", maxHeader)
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return nil, d.wrong("the list breaks off")
	default:
		return nil, fmt.Errorf("read line %d: %w", d.line, err)
	}
}

// header reads all lines up to the empty one.
func (d *decoder) header() error {
	line, err := d.next()
	if err != nil {
		return err
	}
	if string(line) != magic {
		return d.wrong("this is no list, or one of a newer version: it does not begin with %q", magic)
	}
	d.keep(line)
	for d.want == "" {
		if line, err = d.next(); err != nil {
			return err
		}
		key, value, _ := strings.Cut(string(line), " ")
		if err := d.field(key, value); err != nil {
			return err
		}
		if d.want == "" {
			d.keep(line)
		}
		if d.line > 20 {
			return d.wrong("the header does not end")
		}
	}
	if line, err = d.next(); err != nil {
		return err
	}
	if len(line) > 0 {
		return d.wrong("an empty line belongs here")
	}
	return nil
}

// keep adds a line of the header to the sum, and remembers it.
func (d *decoder) keep(line []byte) {
	d.head = append(d.head, string(line))
	d.hash(line)
}

func (d *decoder) hash(line []byte) {
	d.sum.Write(line)
	d.sum.Write([]byte{'\n'})
}

// field takes one line of the header.
func (d *decoder) field(key, value string) error {
	if value == "" || tocsin.Printable(value) != value {
		return d.wrong("nothing that can be read behind \"%s\"", tocsin.Printable(key))
	}
	k, ok := d.kept, true
	switch key {
	case "name":
		k.Name, ok = value, ValidName(value)
	case "source":
		k.Terms.Source = value
	case "plan":
		k.Terms.Plan = value
	case "limit":
		k.Terms.Limit, ok = number(value, MaxEntries)
	case "confidence":
		k.Terms.Confidence, ok = number(value, 100)
	case "generated":
		k.Generated, ok = moment(value)
	case "fetched":
		k.Fetched, ok = moment(value)
	case "etag":
		k.ETag = value
	case "modified":
		k.Modified = value
	case "refused":
		kind, text, _ := strings.Cut(value, " ")
		k.Refused, ok = append(k.Refused, Reason{Kind(kind), text}), slices.Contains(kinds, Kind(kind)) && text != ""
	case "entries":
		d.n, ok = number(value, MaxEntries)
	case "sha256":
		d.want, ok = value, len(value) == 2*sha256.Size
	default:
		return d.wrong("unknown word \"%s\"", tocsin.Printable(key))
	}
	if !ok {
		return d.wrong("\"%s\" is no %s of a list", value, key)
	}
	return nil
}

// number reads what strconv.Itoa wrote, from 0 to most.
func number(s string, most int) (int, bool) {
	n, err := strconv.Atoi(s)
	return n, err == nil && 0 <= n && n <= most && strconv.Itoa(n) == s
}

func moment(s string) (time.Time, bool) {
	t, err := time.Parse(time.RFC3339, s)
	return t, err == nil && t.UTC().Format(time.RFC3339) == s
}

// entries reads all that follows the header.
func (d *decoder) entries() error {
	if d.kept.Name == "" || d.kept.Terms.Source == "" || d.kept.Fetched.IsZero() {
		return d.wrong("the header lacks a name, a source or the time of the fetch")
	}
	for range d.n {
		line, err := d.next()
		if err != nil {
			return err
		}
		if err := d.entry(line); err != nil {
			return err
		}
		d.hash(line)
	}
	d.line++
	if _, err := d.in.ReadByte(); err == nil {
		return d.wrong("something follows the %d entries", d.n)
	} else if !errors.Is(err, io.EOF) {
		return fmt.Errorf("read line %d: %w", d.line, err)
	}
	if got := hex.EncodeToString(d.sum.Sum(nil)); got != d.want {
		return d.wrong("the list was changed or damaged: its SHA-256 is %s, its header says %s", got, d.want)
	}
	d.kept.Set.sort()
	if header, err := d.kept.header(); err != nil || !slices.Equal(header, d.head) {
		return d.wrong("the header is not in its one form")
	}
	return nil
}

// entry takes one address or network.
func (d *decoder) entry(line []byte) error {
	var p netip.Prefix
	if a, ok := address4(line); ok {
		p = netip.PrefixFrom(addrOf4(a), 32)
	} else {
		text := string(line)
		if p, ok = prefixOf(text); !ok || tocsin.PrefixString(p) != text {
			return d.wrong("\"%s\" is no address or network in its shortest form", tocsin.Printable(text[:min(len(text), maxShown)]))
		}
	}
	switch {
	case p.Bits() < config.WidestPrefix(p.Addr()):
		return d.wrong("%s is too wide to be blocked as a whole", p)
	case isSpecial(p):
		return d.wrong("%s is no public address", tocsin.PrefixString(p))
	case d.last.IsValid() && d.last.Compare(p) >= 0:
		return d.wrong("%s does not belong behind %s", tocsin.PrefixString(p), tocsin.PrefixString(d.last))
	}
	d.last = p
	d.kept.Set.add(p)
	return nil
}
