package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log"
	"mime"
	"mime/multipart"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"tocsin/internal/abuseipdb"
)

// This file reads what clients of APIv2 send. They put parameters into the query, a form, a form of several parts or JSON,
// whatever the method; lists are x=1,2, x[]=1, x[0]=1 or JSON; and an empty value means none.

// params are the parameters of a request, wherever they were.
type params struct {
	values map[string]string // lists with commas between
	csv    []byte            // of a bulk report
}

// maxParts bounds a form of several parts.
const maxParts = 64

func readParams(r *http.Request, body []byte, bulk bool) (p params, err error) {
	p.values = map[string]string{}
	p.addAll(r.URL.Query())
	kind, options, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	start := bytes.TrimLeft(body, " \t\r\n")
	switch {
	case len(start) == 0:
	case kind == "multipart/form-data":
		err = p.addParts(body, options["boundary"])
	case bulk && (kind == "text/csv" || kind == "text/plain"):
		p.csv = body
	case kind == "application/json" || start[0] == '{':
		err = p.addJSON(body)
	default:
		values, _ := url.ParseQuery(string(body)) // what cannot be read of it is left out, as PHP does
		p.addAll(values)
	}
	if csv, ok := p.values["csv"]; ok && p.csv == nil && csv != "" {
		p.csv = []byte(csv)
	}
	return p, err
}

// addAll adds parameters that are not there yet.
func (p *params) addAll(values url.Values) {
	found := map[string][]string{}
	for name, vs := range values {
		base := name
		if n := strings.IndexByte(name, '['); n > 0 && strings.HasSuffix(name, "]") {
			base = name[:n]
		}
		found[base] = append(found[base], vs...)
	}
	for name, vs := range found {
		p.add(name, strings.Join(vs, ","))
	}
}

func (p *params) add(name, value string) {
	if p.values[name] == "" {
		p.values[name] = value
	}
}

func (p *params) addParts(body []byte, boundary string) error {
	broken := refuse(unprocessable, "", "The request body is not a complete multipart form.")
	values := url.Values{}
	form := multipart.NewReader(bytes.NewReader(body), boundary)
	for range maxParts {
		part, err := form.NextPart()
		if err == io.EOF {
			p.addAll(values)
			return nil
		}
		if err != nil {
			return broken
		}
		text, err := io.ReadAll(part)
		if err != nil {
			return broken
		}
		if name := part.FormName(); name == "csv" {
			p.csv = text
		} else if name != "" {
			values.Add(name, string(text))
		}
	}
	return refuse(unprocessable, "", "The multipart form has too many parts.")
}

func (p *params) addJSON(body []byte) error {
	var object map[string]any
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	if err := dec.Decode(&object); err != nil {
		return refuse(unprocessable, "", "The request body is not a JSON object.")
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return refuse(unprocessable, "", "The request body is more than one JSON object.")
	}
	for name, v := range object {
		var words []string
		list, ok := v.([]any)
		if !ok {
			list = []any{v}
		}
		for _, one := range list {
			if text, ok := scalar(one); ok {
				words = append(words, text)
			}
		}
		if len(words) > 0 {
			p.add(name, strings.Join(words, ","))
		}
	}
	return nil
}

// scalar is a JSON value as text; null and what has parts are none.
func scalar(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case json.Number:
		return v.String(), true
	case bool:
		return strconv.FormatBool(v), true
	}
	return "", false
}

func (p *params) get(name string) string { return strings.TrimSpace(p.values[name]) }

// has says whether a flag is set: it is by being there, whatever it says.
func (p *params) has(name string) bool { _, ok := p.values[name]; return ok }

func (p *params) address(name string) (netip.Addr, error) {
	a, ok := addressOf(p.get(name))
	if !ok {
		return a, refuse(unprocessable, name, "The ip address must be a valid IPv4 or IPv6 address (e.g. 8.8.8.8 or 2001:4860:4860::8888).")
	}
	return a, nil
}

func addressOf(text string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(strings.TrimSpace(text))
	return a.Unmap(), err == nil && a.Zone() == ""
}

func (p *params) number(name string, missing, least, most int, detail string) (int, error) {
	text := p.get(name)
	if text == "" {
		return missing, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n > most {
		return 0, refuse(unprocessable, name, detail)
	}
	return n, nil
}

func (p *params) days() (int, error) {
	return p.number("maxAgeInDays", 30, 1, 365, "The max age in days must be between 1 and 365.")
}

// maxCountries bounds a list of countries: there are not 300.
const maxCountries = 300

func (p *params) countries(name string) (all []string) {
	for word := range strings.SplitSeq(p.get(name), ",") {
		if word = strings.ToUpper(strings.TrimSpace(word)); word != "" && len(all) < maxCountries {
			all = append(all, word)
		}
	}
	return all
}

// categoriesOf reads ids with commas between; ok is false if there is none, one is unknown, or there are too many.
func categoriesOf(text string) (ids []int, ok bool) {
	for word := range strings.SplitSeq(text, ",") {
		id, err := strconv.Atoi(strings.TrimSpace(word))
		if err != nil || len(ids) == abuseipdb.MaxCategories {
			return nil, false
		}
		ids = append(ids, id)
	}
	return ids, abuseipdb.CheckCategories(ids) == nil
}

// dates are the forms of dates that are read, ISO 8601 first. Those of strtotime that somebody was seen to send follow.
var dates = []string{
	time.RFC3339, "2006-01-02T15:04:05Z0700", "2006-01-02T15:04:05", "2006-01-02T15:04Z07:00", "2006-01-02T15:04",
	"2006-01-02 15:04:05", "2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05 Z07:00", "2006-01-02 15:04:05 -0700", "2006-01-02 15:04:05 MST",
	"2006-01-02 15:04", "2006-01-02", "20060102T150405Z07:00",
	time.RFC1123Z, time.RFC1123, time.RFC850, time.ANSIC, time.UnixDate, "Mon, 2 Jan 2006 15:04:05 -0700", "2 Jan 2006 15:04:05",
	"02/Jan/2006:15:04:05 -0700", "Jan 2, 2006 15:04:05", "Jan 2 2006 15:04:05", "01/02/2006 15:04:05", "01/02/2006 15:04", "01/02/2006",
}

// tolerance is how far in the future a report may be that is taken for one of now: clocks are wrong, and so are zones.
const tolerance = 24 * time.Hour

// earliest is the year from which on a date is believed to be one.
const earliest = 2000

// when reads the time of a report; ok is false for what is no time, or none that can have been.
func when(text string, zone *time.Location, now time.Time) (t time.Time, ok bool) {
	text = strings.TrimSpace(text)
	if len(text) > 64 {
		return t, false
	}
	if seconds, isEpoch := strings.CutPrefix(text, "@"); isEpoch {
		n, err := strconv.ParseInt(seconds, 10, 64)
		if err != nil || n < 0 || n > now.Add(tolerance).Unix() {
			return t, false
		}
		return bent(time.Unix(n, 0), now)
	}
	for _, layout := range dates {
		if t, err := time.ParseInLocation(layout, text, zone); err == nil {
			return bent(t, now)
		}
	}
	// A plus that was not escaped in a form came as a space: 2023-10-18T11:25:11 04:00.
	if n := strings.LastIndexByte(text, ' '); n > 0 && strings.Contains(text[:n], "T") {
		for _, layout := range dates[:2] {
			if t, err := time.Parse(layout, text[:n]+"+"+text[n+1:]); err == nil {
				return bent(t, now)
			}
		}
	}
	return t, false
}

func bent(t, now time.Time) (time.Time, bool) {
	if t.Year() < earliest || t.After(now.Add(tolerance)) {
		return t, false
	}
	if t.After(now) {
		t = now
	}
	return t.UTC(), true
}

// eastern is the zone of a bulk report's dates without one, as AbuseIPDB documents (https://www.abuseipdb.com/bulk-report).
var eastern = sync.OnceValue(func() *time.Location {
	if l, err := time.LoadLocation("America/New_York"); err == nil {
		return l
	}
	return time.FixedZone("EST", -5*3600)
})

// bulkRow is one good row of a bulk report.
type bulkRow struct {
	HubReport
	row int // the headings are row 1
}

// bulkError is a row that is not kept, as it is answered.
type bulkError struct {
	Error     string `json:"error"`
	Input     string `json:"input"`
	RowNumber int    `json:"rowNumber"`
}

// bulkRows reads the CSV of a bulk report.
func bulkRows(csv []byte, now time.Time) (rows []bulkRow, invalid []bulkError, err error) {
	invalid = []bulkError{}
	if csv == nil {
		return nil, nil, refuse(unprocessable, "csv", "The csv field is required.")
	}
	if len(csv) > maxBulkCSV {
		return nil, nil, refuse(unprocessable, "csv", "The csv may not be greater than 2 MB.")
	}
	lines := bytes.Count(csv, []byte("\n"))
	if !bytes.HasSuffix(csv, []byte("\n")) {
		lines++
	}
	if lines > maxBulkLines {
		return nil, nil, refuse(unprocessable, "csv", "File uploaded has %d lines which exceeds the line limit of 10,000 lines.", lines)
	}
	text := strings.TrimPrefix(strings.ToValidUTF8(string(csv), "\uFFFD"), "\ufeff")
	records, ok := csvRecords(text)
	if !ok {
		return nil, nil, refuse(unprocessable, "csv", "The file uploaded is not valid CSV: a quote is not closed, or does not end its field.")
	}
	column := map[string]int{}
	if len(records) > 0 {
		for i, name := range records[0] {
			column[strings.ToLower(strings.TrimSpace(name))] = i + 1
		}
	}
	for _, name := range []string{"ip", "categories", "reportdate"} {
		if column[name] == 0 {
			return nil, nil, refuse(unprocessable, "csv", "The headings of the file uploaded must be IP,Categories,ReportDate,Comment.")
		}
	}
	for i, record := range records[1:] {
		get := func(name string) string {
			if n := column[name]; n > 0 && n <= len(record) {
				return strings.TrimSpace(record[n-1])
			}
			return ""
		}
		bad := func(what, input string) { invalid = append(invalid, bulkError{what, CutComment(input), i + 2}) }
		addr, ok := addressOf(get("ip"))
		if !ok {
			bad("Invalid IP", get("ip"))
			continue
		}
		ids, ok := categoriesOf(get("categories"))
		if !ok {
			bad("Invalid Category", get("categories"))
			continue
		}
		at, ok := when(get("reportdate"), eastern(), now)
		if !ok {
			bad("Invalid Date", get("reportdate"))
			continue
		}
		rows = append(rows, bulkRow{HubReport{addr, ids, CutComment(get("comment")), at}, i + 2})
	}
	return rows, invalid, nil
}

// csvRecords reads CSV in AbuseIPDB's form: fields in quotes may hold commas and line breaks, \" is a quote, and so is "" as
// others write it. Empty lines are no records. It says false where a quote is left open or does not end its field.
func csvRecords(text string) ([][]string, bool) {
	var all [][]string
	for text != "" {
		if text[0] == '\r' || text[0] == '\n' {
			text = text[1:]
			continue
		}
		var record []string
		for more := true; more; {
			var field string
			var ok bool
			if field, text, ok = csvField(text); !ok {
				return nil, false
			}
			record = append(record, field)
			text, more = strings.CutPrefix(text, ",")
		}
		all = append(all, record)
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
		return text[:n], text[n:], true
	}
	var b strings.Builder
	for i := 1; i < len(text); i++ {
		switch {
		case (text[i] == '"' || text[i] == '\\') && i+1 < len(text) && text[i+1] == '"':
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

// silent is for a server whose clients are strangers: what they do wrong is nobody's news, and may hold a key.
func silent() *log.Logger { return log.New(io.Discard, "", 0) }
