package abuseipdb

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"time"
)

// MaxLimit is how many addresses may be asked for at once.
const MaxLimit = 2_000_000

// Bounds of a list, in bytes.
const (
	maxEntry   = 512      // mean of an address with all that JSON says of it, and then some
	maxRest    = 64 << 10 // what stands around the addresses
	maxOneItem = 1 << 20  // of JSON without an address in it, so that a reader's memory is bounded
	maxLine    = 256
)

// BlacklistQuery asks for the list of the worst addresses.
type BlacklistQuery struct {
	Limit      int  // addresses, 1 to MaxLimit; the server gives fewer if the plan says so
	Confidence int  // lowest score, 25 to 100; 0: the server's own, 100. A free plan gives 100 whatever is asked
	IPVersion  int  // 4 or 6; 0: both
	Plain      bool // addresses alone; a tenth of the bytes

	// What an earlier answer said. The server may then say that nothing is new.
	ETag, LastModified string
}

// List is what an answer says beside the addresses.
type List struct {
	NotModified        bool      // there is nothing newer than what was named in the query
	GeneratedAt        time.Time // zero: not told
	Count              int
	ETag, LastModified string // for the next query; "" if the server sends none
}

// Blacklist asks for the list and hands each address to each, in the server's order: the worst first. An error of each ends
// it and comes back wrapped.
//
// If Blacklist fails, what each was given is a part of something that may be no list: throw it away. It refuses whatever is
// not an address alone on its line or in its place (an *EntryError says where), more addresses than were asked for, and an
// answer that ends early.
func (c *Client) Blacklist(ctx context.Context, q BlacklistQuery, each func(Listed) error) (List, Meta, error) {
	r, err := q.request()
	if err != nil {
		return List{}, Meta{}, c.fail("blacklist", err)
	}
	ctx, cancel := context.WithTimeout(ctx, c.list)
	defer cancel()
	resp, key, err := c.send(ctx, r)
	if err != nil {
		return List{}, Meta{}, c.fail("blacklist", err)
	}
	defer resp.Body.Close()
	m := meta(resp.Header)
	switch resp.StatusCode {
	case http.StatusNotModified:
		if q.ETag != "" || q.LastModified != "" {
			return List{NotModified: true, ETag: q.ETag, LastModified: q.LastModified}, m, nil
		}
		return List{}, m, c.fail("blacklist", &ServerError{Status: resp.StatusCode, Detail: "not modified, though nothing was named"})
	case http.StatusOK:
	default:
		return List{}, m, c.fail("blacklist", refusal(resp, "blacklist", m, key))
	}
	p := listParser{limit: q.Limit, key: key, each: each}
	// A body that ends where the connection does may be a part: its last line must then be whole.
	p.whole = resp.ContentLength < 0 && len(resp.TransferEncoding) == 0 && !resp.Uncompressed
	list, err := p.read(resp.Body)
	if err != nil {
		if p.broken != nil {
			err = &NetworkError{Sent: true, Err: bare(p.broken)}
		} else if refused, ok := errors.AsType[*errorAnswer](err); ok {
			err = classify(refused.e.Status, refused.e, true, "blacklist", m, key)
		}
		return List{}, m, c.fail("blacklist", err)
	}
	list.ETag, list.LastModified = header(resp.Header, "ETag"), header(resp.Header, "Last-Modified")
	if at, err := parseTime(resp.Header.Get("X-Generated-At")); err == nil && list.GeneratedAt.IsZero() {
		list.GeneratedAt = at
	}
	return list, m, nil
}

// header is a header's value if it is fit to be kept and sent again.
func header(h http.Header, name string) string {
	if v := h.Get(name); len(v) <= 256 && v == printable(v) {
		return v
	}
	return ""
}

func (q *BlacklistQuery) request() (request, error) {
	switch {
	case q.Limit < 1 || q.Limit > MaxLimit:
		return request{}, fmt.Errorf("a list of %d addresses: ask for 1 to %d", q.Limit, MaxLimit)
	case q.Confidence != 0 && (q.Confidence < 25 || q.Confidence > 100):
		return request{}, fmt.Errorf("confidence %d: it goes from 25 to 100", q.Confidence)
	case q.IPVersion != 0 && q.IPVersion != 4 && q.IPVersion != 6:
		return request{}, fmt.Errorf("version %d of IP: there are 4 and 6", q.IPVersion)
	}
	v := url.Values{"limit": {strconv.Itoa(q.Limit)}}
	if q.Confidence != 0 {
		v.Set("confidenceMinimum", strconv.Itoa(q.Confidence))
	}
	if q.IPVersion != 0 {
		v.Set("ipVersion", strconv.Itoa(q.IPVersion))
	}
	if q.Plain {
		v.Set("plaintext", "1")
	}
	h := http.Header{}
	if q.ETag != "" {
		h.Set("If-None-Match", q.ETag)
	}
	if q.LastModified != "" {
		h.Set("If-Modified-Since", q.LastModified)
	}
	return request{endpoint: "blacklist", method: http.MethodGet, query: v, header: h}, nil
}

// EntryError is something in a list that is not what belongs there.
type EntryError struct {
	Line int // of a plain list, from 1; 0: the list is JSON
	Item int // of a JSON list's data, from 1; 0: beside it
	What string
}

func (e *EntryError) Error() string {
	switch {
	case e.Line > 0:
		return fmt.Sprintf("the answer is no list: line %d: %s", e.Line, e.What)
	case e.Item > 0:
		return fmt.Sprintf("the answer is no list: address %d: %s", e.Item, e.What)
	}
	return "the answer is no list: " + e.What
}

// errorAnswer is an error of APIv2 where a list was promised.
type errorAnswer struct{ e wireError }

func (e *errorAnswer) Error() string { return "an error in place of a list" }

// listParser reads one list.
type listParser struct {
	limit int
	key   string // what no error may repeat
	each  func(Listed) error
	whole bool // the last line must have its end

	count  int
	in     allowance
	broken error // what reading failed with, where that was not the end of the text
}

// read reads a list in whichever form it comes.
func (p *listParser) read(body io.Reader) (List, error) {
	p.in = allowance{r: body, left: int64(p.limit)*maxEntry + maxRest, item: maxOneItem, broken: &p.broken}
	r := bufio.NewReaderSize(&p.in, 32<<10)
	first, err := r.Peek(64)
	if err != nil && err != io.EOF {
		return List{}, err
	}
	list := List{}
	if bytes.HasPrefix(bytes.TrimSpace(first), []byte("{")) {
		err = p.json(r, &list)
	} else {
		err = p.plain(r)
	}
	list.Count = p.count
	return list, err
}

// add hands one address on.
func (p *listParser) add(l Listed) error {
	p.in.item = maxOneItem
	if p.count++; p.count > p.limit {
		return &EntryError{What: fmt.Sprintf("it holds more than the %d addresses asked for", p.limit)}
	}
	if err := p.each(l); err != nil {
		return fmt.Errorf("take address %d of the list: %w", p.count, err)
	}
	return nil
}

// plain reads one address a line, with LF or CRLF behind it. Empty lines are passed over.
func (p *listParser) plain(r *bufio.Reader) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, maxLine), maxLine)
	ended := true // the last line had its end
	lines.Split(func(data []byte, atEOF bool) (int, []byte, error) {
		n, token, err := bufio.ScanLines(data, atEOF)
		if n > 0 {
			ended = data[n-1] == '\n'
		}
		return n, token, err
	})
	n := 0
	for lines.Scan() {
		n++
		text := lines.Text()
		if text == "" {
			continue
		}
		addr, err := netip.ParseAddr(text)
		if err != nil || addr.Zone() != "" {
			return &EntryError{Line: n, What: "no address but " + kind(without(lines.Bytes(), p.key))}
		}
		if err := p.add(Listed{Addr: addr.Unmap()}); err != nil {
			return err
		}
	}
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return &EntryError{Line: n + 1, What: fmt.Sprintf("more than %d bytes", maxLine)}
	case err != nil:
		return err
	case p.whole && !ended:
		return &EntryError{Line: n, What: "it has no end, so that the list may be cut off here"}
	}
	return nil
}

// json reads {"meta":{"generatedAt":...},"data":[...]}, its parts in any order, unknown ones passed over.
func (p *listParser) json(r io.Reader, list *List) error {
	d := json.NewDecoder(r)
	if _, err := d.Token(); err != nil { // the brace
		return p.jsonError(err)
	}
	seen := false
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return p.jsonError(err)
		}
		if key == "data" {
			if err := p.jsonData(d); err != nil {
				return err
			}
			seen = true
			continue
		}
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return p.jsonError(err)
		}
		p.in.item = maxOneItem
		switch key {
		case "meta":
			var w wireMeta
			if json.Unmarshal(raw, &w) == nil && w.GeneratedAt != "" {
				if list.GeneratedAt, err = parseTime(w.GeneratedAt); err != nil {
					return &EntryError{What: "generatedAt: " + err.Error()}
				}
			}
		case "errors":
			if e, ok := firstError([]byte(`{"errors":` + string(raw) + `}`)); ok && e.Status >= 400 && e.Status < 600 {
				return &errorAnswer{e}
			}
		}
	}
	if _, err := d.Token(); err != nil { // the brace
		return p.jsonError(err)
	}
	if !seen {
		return &EntryError{What: "JSON without data"}
	}
	if _, err := d.Token(); err != io.EOF {
		return &EntryError{What: "there is something behind the JSON"}
	}
	return nil
}

// jsonData reads the addresses.
func (p *listParser) jsonData(d *json.Decoder) error {
	if t, err := d.Token(); err != nil {
		return p.jsonError(err)
	} else if t != json.Delim('[') {
		return &EntryError{What: "JSON whose data is no list"}
	}
	for d.More() {
		var w wireListed
		if err := d.Decode(&w); err != nil {
			return p.jsonError(err)
		}
		l, err := w.meaning()
		if err != nil {
			return &EntryError{Item: p.count + 1, What: err.Error()}
		}
		if err := p.add(l); err != nil {
			return err
		}
	}
	if _, err := d.Token(); err != nil { // the bracket
		return p.jsonError(err)
	}
	return nil
}

// jsonError says where JSON failed, unless it was reading that did.
func (p *listParser) jsonError(err error) error {
	if p.broken != nil {
		return p.broken
	}
	if e, ok := errors.AsType[*EntryError](err); ok {
		return e
	}
	what := "JSON of another form"
	if _, ok := errors.AsType[*json.SyntaxError](err); ok {
		what = "broken JSON"
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		what = "JSON that is cut off"
	}
	return &EntryError{Item: p.count + 1, What: what}
}

// allowance lets so many bytes of a stranger's text through: of the whole, and since the last item.
type allowance struct {
	r          io.Reader
	left, item int64
	broken     *error
}

func (a *allowance) Read(b []byte) (int, error) {
	if a.left <= 0 || a.item <= 0 {
		return 0, &EntryError{What: "it is too long for the addresses asked for"}
	}
	n, err := a.r.Read(b[:min(int64(len(b)), a.left, a.item)])
	a.left -= int64(n)
	a.item -= int64(n)
	if err != nil && err != io.EOF {
		*a.broken = err
	}
	return n, err
}
