package remotewrite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Client writes to one store.
type Client struct {
	url     string
	version string
	token   func() (string, error)
	http    *http.Client
}

// sendTime is how long a store may take over one request.
const sendTime = 30 * time.Second

// NewClient makes a client. token answers what is sent as a bearer token, "" for none; it is asked before each request, so
// that a new one is used without a restart.
func NewClient(url, version string, token func() (string, error)) *Client {
	return &Client{url: url, version: version, token: token, http: &http.Client{
		Timeout: sendTime,
		// A redirect would take the token elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// RefusedError is the answer of a store that will not take these samples, whatever one does.
type RefusedError struct {
	Code   int
	Answer string // its beginning; a stranger's text
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("refused with %d %s: %s", e.Code, http.StatusText(e.Code), e.Answer)
}

// LaterError is the answer of a store that may take the samples later.
type LaterError struct {
	Code  int
	After time.Duration // not before; 0 if it does not say
}

func (e *LaterError) Error() string {
	return fmt.Sprintf("not now: %d %s", e.Code, http.StatusText(e.Code))
}

// Send writes samples once. The error is a RefusedError, a LaterError, or that of the network. 401, 403 and 404 are told as
// LaterError too: they come from the configuration of one of the two sides, and samples are worth to be kept meanwhile.
func (c *Client) Send(ctx context.Context, all []Series) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(Encode(all)))
	if err != nil {
		return errors.New("make request: the url cannot be used")
	}
	req.Header.Set("Content-Encoding", "snappy")
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("X-Prometheus-Remote-Write-Version", "0.1.0")
	req.Header.Set("User-Agent", "tocsin/"+c.version)
	token, err := c.token()
	if err != nil {
		return fmt.Errorf("read token: %w", err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10)) // for the message only
	switch code := resp.StatusCode; {
	case code/100 == 2:
		return nil
	case code/100 == 5, code == http.StatusTooManyRequests, code == http.StatusUnauthorized, code == http.StatusForbidden, code == http.StatusNotFound, code/100 == 3:
		return &LaterError{Code: code, After: retryAfter(resp.Header.Get("Retry-After"), time.Now())}
	default:
		return &RefusedError{Code: code, Answer: strings.ToValidUTF8(string(answer[:min(len(answer), 300)]), "")}
	}
}

// retryAfter reads the header in both its forms, at most an hour (RFC 9110, 10.2.3).
func retryAfter(header string, now time.Time) time.Duration {
	var d time.Duration
	if n, err := strconv.Atoi(header); err == nil {
		d = time.Duration(min(n, 3600)) * time.Second
	} else if at, err := http.ParseTime(header); err == nil {
		d = at.Sub(now)
	}
	return min(max(d, 0), time.Hour)
}
