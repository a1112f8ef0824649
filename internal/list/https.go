package list

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"tocsin"
)

const (
	fetchTimeout = 5 * time.Minute // of a whole list
	maxRedirects = 5
	maxTag       = 256 // bytes of an ETag or Last-Modified that is kept
)

// HTTPSOptions says where a list is.
type HTTPSOptions struct {
	URL     string         // https only; it may hold an account or a key, which no error shows
	Version string         // Tocsin's; it is sent as the user agent
	RootCAs *x509.CertPool // who may vouch for the server; nil: whom this system trusts
}

// HTTPS fetches a list from a web server.
type HTTPS struct {
	url   string
	agent string
	http  http.Client
}

// NewHTTPS checks o. Nothing is dialled.
func NewHTTPS(o HTTPSOptions) (*HTTPS, error) {
	u, err := url.Parse(o.URL)
	switch {
	case err != nil || u.Host == "":
		return nil, errors.New("the address of the list is no URL: write it like https://lists.example.org/drop.txt")
	case u.Scheme != "https":
		return nil, fmt.Errorf("%s: a list that anybody on the way could change is not taken: write https", SourceName(o.URL))
	}
	transport := &http.Transport{
		DialContext:            (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSHandshakeTimeout:    10 * time.Second,
		ResponseHeaderTimeout:  time.Minute,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.RootCAs},
		MaxResponseHeaderBytes: 64 << 10,
		ForceAttemptHTTP2:      true,
		DisableKeepAlives:      true, // the next fetch is tomorrow
	}
	return &HTTPS{o.URL, "tocsin/" + o.Version, http.Client{Transport: transport, CheckRedirect: onlyHTTPS}}, nil
}

// onlyHTTPS follows a few redirects, none of them to where a list could be changed on the way.
func onlyHTTPS(r *http.Request, via []*http.Request) error {
	switch {
	case r.URL.Scheme != "https":
		return fmt.Errorf("the server sends us on to %s, which is not https", tocsin.Printable(r.URL.Scheme+"://"+r.URL.Host))
	case len(via) > maxRedirects:
		return fmt.Errorf("the server sends us on more than %d times", maxRedirects)
	}
	r.Header.Del("Referer") // a key in the first URL is none of the other's business
	return nil
}

// Fetch asks for the list, and only for a newer one if p tells of one. It returns within five minutes.
func (h *HTTPS) Fetch(ctx context.Context, t Terms, p Previous) (*Fetched, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.url, nil)
	if err != nil {
		return nil, withoutURL(err)
	}
	req.Header.Set("User-Agent", h.agent)
	req.Header.Set("Accept", "text/plain, */*;q=0.1")
	if p.ETag != "" {
		req.Header.Set("If-None-Match", p.ETag)
	}
	if p.Modified != "" {
		req.Header.Set("If-Modified-Since", p.Modified)
	}
	resp, err := h.http.Do(req)
	if err != nil {
		return nil, notSent(withoutURL(err))
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		return read(resp, t)
	case http.StatusNotModified:
		return &Fetched{Unchanged: true}, nil
	default:
		return nil, refusal(resp)
	}
}

// read takes the list from an answer.
func read(resp *http.Response, t Terms) (*Fetched, error) {
	parsed, err := Parse(resp.Body, t.Limit)
	if err != nil {
		return nil, fmt.Errorf("the list broke off: %w", withoutURL(err))
	}
	unknown := resp.ProtoMajor == 1 && resp.ContentLength < 0 && len(resp.TransferEncoding) == 0 && !resp.Uncompressed
	if unknown && parsed.OpenEnd {
		parsed.Truncated = "its last line has no end, and the server did not say how long it is"
	}
	got := &Fetched{Parsed: parsed, ETag: tag(resp.Header, "ETag"), Modified: tag(resp.Header, "Last-Modified")}
	if at, err := http.ParseTime(got.Modified); err == nil {
		got.Generated = at
	}
	return got, nil
}

// tag is a header's value if it is fit to be kept and sent again.
func tag(h http.Header, name string) string {
	if v := h.Get(name); len(v) <= maxTag && v == tocsin.Printable(v) {
		return v
	}
	return ""
}

// maxRest bounds how long a server may ask to be left alone, so that the seconds that it writes fit into a duration.
const maxRest = 7 * day

// refusal is the error of an answer that holds no list.
func refusal(resp *http.Response) error {
	err := fmt.Errorf("the server answered with status %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	after := resp.Header.Get("Retry-After")
	if seconds, bad := strconv.Atoi(after); bad == nil && seconds > 0 {
		return &RestError{err, time.Duration(min(seconds, int(maxRest/time.Second))) * time.Second}
	}
	at, bad := http.ParseTime(after)
	date, none := http.ParseTime(resp.Header.Get("Date"))
	if bad == nil && none == nil {
		return &RestError{err, min(at.Sub(date), maxRest)}
	}
	return err
}

// withoutURL takes the URL out of an error of net/http, since it may hold a key.
func withoutURL(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

// notSent marks an error of a connection that did not come about.
func notSent(err error) error {
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return &UnsentError{err}
	}
	if e, ok := errors.AsType[*net.OpError](err); ok && e.Op == "dial" {
		return &UnsentError{err}
	}
	return err
}
