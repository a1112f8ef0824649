package fake

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Bounds of a report, a bulk report and a comment.
const (
	maxAge        = 60 * 24 * time.Hour
	maxCategories = 30
	lastCategory  = 23
	maxComment    = 1024
	maxBulkLines  = 10_000
	maxBulkBytes  = 2_000_000 // less than 2 MB
)

// Addresses for the tests of clients: the first may be reported at any time, the second never.
var (
	testAccepted = netip.MustParseAddr("127.0.0.1")
	testRefused  = netip.MustParseAddr("127.0.0.2")
)

func (c *call) report() answer {
	addr, refused := c.address("ip")
	if refused != nil {
		return *refused
	}
	ids, ok := categories(c.values.Get("categories"))
	if !ok {
		return apiError(http.StatusUnprocessableEntity, "categories", "The categories must be 1 to 30 ids from https://www.abuseipdb.com/categories, with commas between.")
	}
	at := c.now
	if text := c.values.Get("timestamp"); text != "" {
		t, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return apiError(http.StatusUnprocessableEntity, "timestamp", "The timestamp is not a valid date of ISO 8601.")
		}
		at = t
	}
	if !c.accept(Report{Addr: addr, Categories: ids, Comment: c.values.Get("comment"), At: at}) {
		return apiError(http.StatusTooManyRequests, "ip", fmt.Sprintf("You can only report the same IP address (`%s`) once in 15 minutes.", addr))
	}
	return granted(map[string]any{"ipAddress": addr.String(), "abuseConfidenceScore": c.score(addr)})
}

// accept takes a report, unless the same account reported the address less than Window ago.
func (c *call) accept(r Report) bool {
	r.Account, r.Received, r.Bulk = c.account.Name, c.now, c.endpoint == BulkReport
	r.Comment = strings.ToValidUTF8(r.Comment, "\uFFFD")
	if len(r.Comment) > maxComment {
		n := maxComment
		for !utf8.RuneStart(r.Comment[n]) {
			n--
		}
		r.Comment = r.Comment[:n]
	}
	key := reported{r.Account, r.Addr}
	last, before := c.s.last[key]
	if r.Addr != testAccepted && r.Addr != testRefused {
		if !public(r.Addr) {
			c.violate("%s was reported, which is nobody's on the internet", r.Addr)
		}
		if before && c.now.Sub(last.at) < Window {
			if last.answered && !c.s.o.Deaths {
				c.violate("%s was reported %s after a report that was accepted, and the client told so", r.Addr, c.now.Sub(last.at))
			}
			c.s.last[key] = seen{last.at, last.answered || c.answered}
			return false
		}
	}
	if r.At.Before(c.now.Add(-maxAge)) {
		c.violate("%s was reported for %s, more than 60 days ago", r.Addr, stamp(r.At))
	}
	if r.Addr == testRefused {
		return false
	}
	c.s.last[key] = seen{c.now, c.answered}
	c.s.reports = append(c.s.reports, r)
	return true
}

// categories reads ids with commas between; ok is false if there is none, one is unknown, or there are too many.
func categories(text string) (ids []int, ok bool) {
	for word := range strings.SplitSeq(text, ",") {
		id, err := strconv.Atoi(strings.TrimSpace(word))
		if err != nil || id < 1 || id > lastCategory || len(ids) == maxCategories {
			return nil, false
		}
		ids = append(ids, id)
	}
	return ids, true
}

func (c *call) bulkReport() answer {
	if c.csv == nil {
		return apiError(http.StatusUnprocessableEntity, "csv", "The csv field is required.")
	}
	if len(c.csv) >= maxBulkBytes {
		c.violate("a bulk report of %d bytes", len(c.csv))
		return apiError(http.StatusUnprocessableEntity, "csv", "The csv may not be greater than 2 MB.")
	}
	lines := bytes.Count(c.csv, []byte("\n"))
	if !bytes.HasSuffix(c.csv, []byte("\n")) {
		lines++
	}
	if lines > maxBulkLines {
		c.violate("a bulk report of %d lines", lines)
		return apiError(http.StatusUnprocessableEntity, "csv", fmt.Sprintf("File uploaded has %d lines which exceeds the line limit of 10,000 lines.", lines))
	}
	rows, ok := records(string(c.csv))
	if !ok {
		c.violate("the CSV of a bulk report has a quote in the wrong place")
		return apiError(http.StatusUnprocessableEntity, "csv", "The file uploaded is not valid CSV.")
	}
	if len(rows) == 0 || !slices.Equal(rows[0], []string{"IP", "Categories", "ReportDate", "Comment"}) {
		c.violate("the headings of a bulk report are not IP,Categories,ReportDate,Comment")
		return apiError(http.StatusUnprocessableEntity, "csv", "The headings of the file uploaded must be IP,Categories,ReportDate,Comment.")
	}
	saved, invalid := 0, []any{}
	for i, row := range rows[1:] {
		if what, input := c.bulkRow(row); what != "" {
			invalid = append(invalid, map[string]any{"error": what, "input": input, "rowNumber": i + 2})
		} else {
			saved++
		}
	}
	return granted(map[string]any{"savedReports": saved, "invalidReports": invalid})
}

// bulkRow takes one row, or says what is wrong with what.
func (c *call) bulkRow(row []string) (what, input string) {
	addr, err := netip.ParseAddr(row[0])
	if err != nil || addr.Zone() != "" {
		return "Invalid IP", row[0]
	}
	if len(row) != 4 {
		return "Invalid Row", row[0]
	}
	ids, ok := categories(row[1])
	if !ok {
		return "Invalid Category", row[1]
	}
	at, err := time.Parse(time.RFC3339, row[2])
	if err != nil {
		if at, err = time.Parse("2006-01-02 15:04:05", row[2]); err != nil {
			return "Invalid Date", row[2]
		}
		c.violate("a time without a zone is taken for one of the east coast: %q", row[2])
		at = at.Add(5 * time.Hour)
	}
	if !c.accept(Report{Addr: addr.Unmap(), Categories: ids, Comment: row[3], At: at}) {
		return "Duplicate IP", row[0]
	}
	return "", ""
}

// records reads CSV in the server's form: fields in quotes may hold commas and line breaks, \" is a quote, and a backslash
// before anything else is one. Empty lines are no records. It says false where a quote is left open or does not end its field.
func records(text string) ([][]string, bool) {
	var all [][]string
	for text != "" {
		if text[0] == '\r' || text[0] == '\n' {
			text = text[1:]
			continue
		}
		var row []string
		for more := true; more; {
			var field string
			var ok bool
			if field, text, ok = csvField(text); !ok {
				return nil, false
			}
			row = append(row, field)
			text, more = strings.CutPrefix(text, ",")
		}
		all = append(all, row)
	}
	return all, true
}

// csvField takes one field off text, and leaves the comma or line break behind it.
func csvField(text string) (field, rest string, ok bool) {
	if !strings.HasPrefix(text, `"`) {
		n := strings.IndexAny(text, ",\r\n")
		if n < 0 {
			n = len(text)
		}
		return text[:n], text[n:], !strings.Contains(text[:n], `"`)
	}
	var b strings.Builder
	for i := 1; i < len(text); i++ {
		switch {
		case text[i] == '\\' && i+1 < len(text) && text[i+1] == '"':
			b.WriteByte('"')
			i++
		case text[i] == '"':
			rest = text[i+1:]
			return b.String(), rest, rest == "" || strings.ContainsAny(rest[:1], ",\r\n")
		default:
			b.WriteByte(text[i])
		}
	}
	return "", "", false
}

// parameters reads what a request names, wherever it does: in its query, or else in its body as a form, a form of several
// parts, or JSON. csv is the part of that name, nil if there is none. Empty parameters are none, flags aside.
func parameters(r *http.Request, body []byte) (values url.Values, csv []byte, err error) {
	values = r.URL.Query()
	kind, options, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	more := url.Values{}
	switch {
	case len(body) == 0:
	case kind == "application/json":
		more, err = jsonValues(body)
	case kind == "multipart/form-data":
		more, csv, err = parts(body, options["boundary"])
	default:
		more, err = url.ParseQuery(string(body))
	}
	for name, v := range more {
		if !values.Has(name) {
			values[name] = v
		}
	}
	return values, csv, err
}

func parts(body []byte, boundary string) (values url.Values, csv []byte, err error) {
	values = url.Values{}
	for form := multipart.NewReader(bytes.NewReader(body), boundary); ; {
		p, err := form.NextPart()
		if err == io.EOF {
			return values, csv, nil
		}
		if err != nil {
			return values, csv, err
		}
		text, err := io.ReadAll(p)
		if err != nil {
			return values, csv, err
		}
		if p.FormName() == "csv" {
			csv = append([]byte{}, text...)
			continue
		}
		values.Add(p.FormName(), string(text))
	}
}

// jsonValues reads an object of texts, numbers, and lists of them.
func jsonValues(body []byte) (url.Values, error) {
	var object map[string]any
	if err := json.Unmarshal(body, &object); err != nil {
		return nil, fmt.Errorf("it says that it is JSON: %w", err)
	}
	values := url.Values{}
	for name, v := range object {
		list, ok := v.([]any)
		if !ok {
			list = []any{v}
		}
		var words []string
		for _, one := range list {
			words = append(words, fmt.Sprint(one))
		}
		values.Set(name, strings.Join(words, ","))
	}
	return values, nil
}
