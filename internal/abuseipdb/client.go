package abuseipdb

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Bounds of an answer, in bytes. A list has bounds of its own (Client.Blacklist).
const (
	maxAnswer     = 1 << 20
	maxBulkAnswer = 4 << 20 // every row may be refused by name
	maxError      = 64 << 10
	maxHeader     = 64 << 10
)

// Options says whom to talk to, and how.
type Options struct {
	// URL is the base of the API; "": DefaultURL. It must be https, unless it names this machine or PlainHTTP is set.
	URL string
	// Key gives the key for each call, so that a new one counts at once.
	Key func() (Secret, error)
	// Version is Tocsin's; it is sent as the user agent.
	Version string

	Timeout     time.Duration // of a whole call; 0: 30 s
	ListTimeout time.Duration // of a whole list; 0: 5 min

	PlainHTTP bool           // send the key unencrypted to other machines too
	RootCAs   *x509.CertPool // who may vouch for the server; nil: whom this system trusts

	// Dial connects in the place of the network, for tests.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// Client asks one server. Its methods may be called by several goroutines.
//
// Every call is one request on a connection of its own, is never repeated, follows no redirect, and has one of this
// package's errors, with the call and the server's name before it.
type Client struct {
	base    *url.URL
	key     func() (Secret, error)
	agent   string
	timeout time.Duration
	list    time.Duration
	http    http.Client
}

// New makes a client. Nothing is dialled, and the key is not asked for yet.
func New(o Options) (*Client, error) {
	if o.URL == "" {
		o.URL = DefaultURL
	}
	base, err := baseURL(o.URL, o.PlainHTTP)
	if err != nil {
		return nil, err
	}
	if o.Key == nil {
		return nil, errors.New("a client of AbuseIPDB needs a key")
	}
	if o.Timeout == 0 {
		o.Timeout = 30 * time.Second
	}
	if o.ListTimeout == 0 {
		o.ListTimeout = 5 * time.Minute
	}
	if o.Dial == nil {
		o.Dial = (&net.Dialer{Timeout: 10 * time.Second}).DialContext
	}
	transport := &http.Transport{
		DialContext:            o.Dial,
		TLSHandshakeTimeout:    10 * time.Second,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.RootCAs},
		MaxResponseHeaderBytes: maxHeader,
		// net/http repeats requests by itself on a connection that it kept, and in HTTP/2.
		DisableKeepAlives: true,
		Protocols:         new(http.Protocols),
	}
	transport.Protocols.SetHTTP1(true)
	return &Client{
		base: base, key: o.Key, agent: "tocsin/" + o.Version, timeout: o.Timeout, list: o.ListTimeout,
		http: http.Client{
			Transport:     transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// baseURL checks the base of the API. Its errors do not repeat a text that may hold a password or a key.
func baseURL(text string, plain bool) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil, u.Host == "", u.Opaque != "":
		return nil, errors.New("the address of the API is no URL: write it like " + DefaultURL)
	case u.User != nil, u.RawQuery != "", u.ForceQuery, u.Fragment != "":
		return nil, errors.New("the address of the API holds a password, a query or a fragment: write it like " + DefaultURL + " and store the key with `tocsin reputation key`")
	case u.Scheme == "http" && !plain && !loopback(u.Hostname()):
		return nil, fmt.Errorf("http://%s would send the API key unencrypted: write https", printable(u.Host))
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, errors.New("the address of the API is neither https nor http: write it like " + DefaultURL)
	}
	if !strings.HasSuffix(u.Path, "/") {
		u.Path += "/"
	}
	return u, nil
}

func loopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}

// Host is the server's name, for people.
func (c *Client) Host() string { return c.base.Host }

// Quota is what an answer's headers say about the rest of the account's day at one endpoint.
type Quota struct {
	Known      bool // Limit and Remaining were told
	Limit      int  // requests a day
	Remaining  int
	Reset      time.Time     // when Remaining is Limit again, on the server's clock; zero: not told
	RetryAfter time.Duration // 0: not told
}

// Meta is what stands around every answer, granted or not. It is zero if there was no answer.
type Meta struct {
	Quota Quota
	Date  time.Time // the server's clock; zero: not told
}

// CheckQuery asks for what is known of an address.
type CheckQuery struct {
	Addr   netip.Addr
	MaxAge int // days of reports that count, 1 to 365; 0: the server's own, 30
}

// Check asks what is known of an address. It tells the server who is of interest here (docs/manual/privacy.md).
func (c *Client) Check(ctx context.Context, q CheckQuery) (Check, Meta, error) {
	addr, err := address(q.Addr)
	if err != nil {
		return Check{}, Meta{}, c.fail("check", err)
	}
	v := url.Values{"ipAddress": {addr.String()}}
	if q.MaxAge != 0 {
		v.Set("maxAgeInDays", strconv.Itoa(q.MaxAge))
	}
	var w wireCheck
	m, err := c.call(ctx, request{endpoint: "check", method: http.MethodGet, query: v}, &w)
	if err != nil {
		return Check{}, m, err
	}
	check, err := w.meaning()
	if err != nil {
		return Check{}, m, c.fail("check", &ServerError{Status: http.StatusOK, Detail: err.Error()})
	}
	return check, m, nil
}

// Report is what is told about an address.
type Report struct {
	Addr       netip.Addr
	Categories []int
	Comment    string    // everybody can read it; the server keeps MaxComment bytes
	At         time.Time // of the attack; zero: now
}

func (r *Report) check() (netip.Addr, error) {
	addr, err := address(r.Addr)
	if err != nil {
		return addr, err
	}
	return addr, CheckCategories(r.Categories)
}

// Report tells of one address, and gives its score behind it.
func (c *Client) Report(ctx context.Context, r Report) (score int, m Meta, err error) {
	addr, err := r.check()
	if err != nil {
		return 0, Meta{}, c.fail("report", err)
	}
	v := url.Values{"ip": {addr.String()}, "categories": {joinCategories(r.Categories)}}
	if r.Comment != "" {
		v.Set("comment", comment(r.Comment))
	}
	if !r.At.IsZero() {
		v.Set("timestamp", stamp(r.At))
	}
	var w wireReport
	m, err = c.call(ctx, request{endpoint: "report", method: http.MethodPost, kind: "application/x-www-form-urlencoded", body: []byte(v.Encode())}, &w)
	if err != nil {
		return 0, m, err
	}
	if w.AbuseConfidenceScore == nil {
		return 0, m, c.fail("report", &ServerError{Status: http.StatusOK, Detail: "an answer without a score"})
	}
	return *w.AbuseConfidenceScore, m, nil
}

// BulkAnswer is what became of a bulk report.
type BulkAnswer struct {
	Saved   int
	Invalid []InvalidRow
}

// InvalidRow is a row that was not taken.
type InvalidRow struct {
	Row   int    // counted from 0 in the order of Bulk.Add; -1 if the server named none or the headings
	Error string // "Duplicate IP", "Invalid IP", "Invalid Category"; printable
	Input string // what was wrong; printable
}

// BulkReport sends the rows of b as one request.
func (c *Client) BulkReport(ctx context.Context, b *Bulk) (BulkAnswer, Meta, error) {
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	part, err := form.CreatePart(textproto.MIMEHeader{
		"Content-Disposition": {`form-data; name="csv"; filename="report.csv"`},
		"Content-Type":        {"text/csv"},
	})
	if err == nil {
		_, err = part.Write(b.Bytes())
	}
	if err = errors.Join(err, form.Close()); err != nil {
		return BulkAnswer{}, Meta{}, c.fail("bulk-report", err)
	}
	var w wireBulk
	m, err := c.call(ctx, request{endpoint: "bulk-report", method: http.MethodPost, kind: form.FormDataContentType(), body: body.Bytes(), most: maxBulkAnswer}, &w)
	if err != nil {
		return BulkAnswer{}, m, err
	}
	if w.SavedReports == nil {
		return BulkAnswer{}, m, c.fail("bulk-report", &ServerError{Status: http.StatusOK, Detail: "an answer without a number of saved reports"})
	}
	a := BulkAnswer{Saved: *w.SavedReports}
	for _, r := range w.InvalidReports {
		row := r.RowNumber - 2 // the server counts from 1, and the headings are row 1
		if row < 0 || row >= b.Rows() {
			row = -1
		}
		a.Invalid = append(a.Invalid, InvalidRow{Row: row, Error: printable(r.Error), Input: printable(fmt.Sprint(r.Input))})
	}
	return a, m, nil
}

// ClearAddress takes back every report that this account made about an address, and says how many there were.
func (c *Client) ClearAddress(ctx context.Context, addr netip.Addr) (deleted int, m Meta, err error) {
	if addr, err = address(addr); err != nil {
		return 0, Meta{}, c.fail("clear-address", err)
	}
	var w wireClear
	m, err = c.call(ctx, request{endpoint: "clear-address", method: http.MethodDelete, query: url.Values{"ipAddress": {addr.String()}}}, &w)
	if err != nil {
		return 0, m, err
	}
	if w.NumReportsDeleted == nil {
		return 0, m, c.fail("clear-address", &ServerError{Status: http.StatusOK, Detail: "an answer without a number of deleted reports"})
	}
	return *w.NumReportsDeleted, m, nil
}

// request is one call before it is sent.
type request struct {
	endpoint string
	method   string
	query    url.Values
	header   http.Header
	kind     string // of the body
	body     []byte
	most     int64 // bytes of a granted answer; 0: maxAnswer
}

// call sends r and reads the data of a granted answer into v.
func (c *Client) call(ctx context.Context, r request, v any) (Meta, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	resp, key, err := c.send(ctx, r)
	if err != nil {
		return Meta{}, c.fail(r.endpoint, err)
	}
	defer resp.Body.Close()
	m := meta(resp.Header)
	if resp.StatusCode != http.StatusOK {
		return m, c.fail(r.endpoint, refusal(resp, r.endpoint, m, key))
	}
	if r.most == 0 {
		r.most = maxAnswer
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, r.most+1))
	switch {
	case err != nil:
		return m, c.fail(r.endpoint, &NetworkError{Sent: true, Err: bare(err)})
	case int64(len(body)) > r.most:
		return m, c.fail(r.endpoint, &ServerError{Status: resp.StatusCode, Detail: fmt.Sprintf("an answer of more than %d bytes", r.most)})
	}
	body = without(body, key)
	if e, ok := firstError(body); ok && e.Status >= 400 && e.Status < 600 {
		return m, c.fail(r.endpoint, classify(e.Status, e, true, r.endpoint, m, key)) // some servers say 200 to everything
	}
	if err := data(body, v); err != nil {
		return m, c.fail(r.endpoint, &ServerError{Status: resp.StatusCode, Detail: scrub(err.Error(), key)})
	}
	return m, nil
}

// send sends one request and gives the answer, whatever its status.
func (c *Client) send(ctx context.Context, r request) (*http.Response, string, error) {
	secret, err := c.key()
	if err != nil {
		return nil, "", fmt.Errorf("read the API key: %w", err)
	}
	key := secret.text()
	if key == "" {
		return nil, "", ErrKey
	}
	var connected bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected = true }})
	target := c.base.JoinPath(r.endpoint)
	target.RawQuery = r.query.Encode()
	req, err := http.NewRequestWithContext(ctx, r.method, target.String(), bytes.NewReader(r.body))
	if err != nil {
		return nil, "", bare(err)
	}
	for name, values := range r.header {
		req.Header[name] = values
	}
	req.Header.Set("Accept", "application/json") // without it errors are pages of HTML
	req.Header.Set("User-Agent", c.agent)
	req.Header.Set("Key", key)
	if r.kind != "" {
		req.Header.Set("Content-Type", r.kind)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, "", &NetworkError{Sent: connected, Err: bare(err)}
	}
	return resp, key, nil
}

// fail puts the call and the server's name before an error.
func (c *Client) fail(endpoint string, err error) error {
	return fmt.Errorf("ask %s for %s: %w", c.base.Host, endpoint, err)
}

// bare takes the URL away from an error of net/http: it says who was asked about.
func bare(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

// without takes the key out of what a server sent, which may be an echo.
func without(body []byte, key string) []byte {
	return bytes.ReplaceAll(body, []byte(key), []byte(hiddenKey))
}

// scrub takes the key out of a server's words and makes them printable. JSON can hide a key from without.
func scrub(detail, key string) string {
	return printable(strings.ReplaceAll(detail, key, hiddenKey))
}

// refusal reads an answer that is not 200.
func refusal(resp *http.Response, endpoint string, m Meta, key string) error {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxError)) // cut off, the status still tells what happened
	body = without(body, key)
	e, ok := firstError(body)
	if !ok {
		e.Detail = refusalDetail(resp, body)
	}
	return classify(resp.StatusCode, e, ok, endpoint, m, key)
}

// refusalDetail says what an answer is that is no error of APIv2.
func refusalDetail(resp *http.Response, body []byte) string {
	if resp.StatusCode >= 300 && resp.StatusCode < 400 {
		where, err := resp.Location()
		if err != nil {
			return "a redirect, which is not followed"
		}
		return "a redirect to " + where.Scheme + "://" + where.Host + ", which is not followed: the key goes to nobody else"
	}
	var w struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(body, &w) == nil && w.Message != "" {
		return w.Message
	}
	return kind(body)
}

// classify turns a refusal into one of this package's errors. spoken says that the body was an error in APIv2's form.
func classify(status int, e wireError, spoken bool, endpoint string, m Meta, key string) error {
	detail := scrub(e.Detail, key)
	wrap := func(err error) error {
		if detail == "" {
			return err
		}
		return fmt.Errorf("%w (%s)", err, detail)
	}
	switch status {
	case http.StatusUnauthorized:
		return ErrKey // the server's words on it are known, and may be about the key
	case http.StatusPaymentRequired:
		return wrap(ErrPlan)
	case http.StatusForbidden:
		return wrap(ErrForbidden)
	case http.StatusUnprocessableEntity:
		return &ParameterError{Parameter: scrub(e.Source.Parameter, key), Detail: detail}
	case http.StatusTooManyRequests:
		switch {
		case m.Quota.RetryAfter > 0, strings.Contains(e.Detail, "Daily rate limit"), spoken && endpoint != "report":
			return &QuotaError{Quota: m.Quota, Date: m.Date, Detail: detail}
		case spoken:
			return wrap(ErrDuplicate)
		}
		// Somebody before the server counts requests: the report was not looked at.
	}
	return &ServerError{Status: status, Detail: detail}
}

// meta reads the headers that stand around an answer.
func meta(h http.Header) Meta {
	var m Meta
	if t, err := http.ParseTime(h.Get("Date")); err == nil {
		m.Date = t
	}
	limit, okLimit := count(h.Get("X-RateLimit-Limit"))
	remaining, okRemaining := count(h.Get("X-RateLimit-Remaining"))
	if okLimit && okRemaining {
		m.Quota.Known, m.Quota.Limit, m.Quota.Remaining = true, limit, remaining
	}
	if at, ok := count(h.Get("X-RateLimit-Reset")); ok && at > 0 {
		m.Quota.Reset = time.Unix(int64(at), 0).UTC()
	}
	after := h.Get("Retry-After")
	if n, ok := count(after); ok {
		m.Quota.RetryAfter = time.Duration(n) * time.Second
	} else if t, err := http.ParseTime(after); err == nil && !m.Date.IsZero() {
		m.Quota.RetryAfter = max(t.Sub(m.Date), 0)
	}
	return m
}

// count reads a number of a header: not negative, at most the seconds until the year 2100.
func count(text string) (int, bool) {
	n, err := strconv.Atoi(strings.TrimSpace(text))
	return n, err == nil && n >= 0 && n <= 4_102_444_800
}
