package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Client asks the guard over its socket. Its errors are *Error, with the exit code that the command should end with.
type Client struct {
	path  string
	http  http.Client
	who   string // answers there
	start string // what to do if nobody does
}

// NewClient makes a client for the socket at path. Nothing is dialled yet.
func NewClient(path string) *Client {
	var d net.Dialer
	return NewClientOn(path, func(ctx context.Context) (net.Conn, error) { return d.DialContext(ctx, "unix", path) })
}

// NewClientOn makes a client that connects with connect; path is what its errors call that.
func NewClientOn(path string, connect func(context.Context) (net.Conn, error)) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) { return connect(ctx) }
	return &Client{
		path: path, who: "guard",
		start: "start it with `tocsin run`, or `systemctl start tocsin-guard`; bans in the kernel go on until their time, `tocsin off` lifts them all",
		http: http.Client{
			Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true},
			Timeout:   requestTime + 5*time.Second,
		},
	}
}

// Status asks what the guard is doing.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return get[Status](ctx, c, "/v1/status", nil)
}

// Doctor asks what the guard would have somebody look at.
func (c *Client) Doctor(ctx context.Context) (Doctor, error) {
	return get[Doctor](ctx, c, "/v1/doctor", nil)
}

// Allowed asks for the allow list.
func (c *Client) Allowed(ctx context.Context) (Allowed, error) {
	return get[Allowed](ctx, c, "/v1/allowed", nil)
}

// Bans asks for bans.
func (c *Client) Bans(ctx context.Context, q BansQuery) (Bans, error) {
	return get[Bans](ctx, c, "/v1/bans", q.values())
}

// Tally counts the bans in force and those of the last 24 hours; with addrs it says whom they are about.
func (c *Client) Tally(ctx context.Context, addrs bool) (Tally, error) {
	v := url.Values{}
	if addrs {
		v.Set("addrs", "1")
	}
	return get[Tally](ctx, c, "/v1/bans/tally", v)
}

// Jail asks for one jail with everything it was told. The error of a jail that is not there has CodeNoJail.
func (c *Client) Jail(ctx context.Context, name string) (JailDetail, error) {
	return get[JailDetail](ctx, c, "/v1/jails/"+url.PathEscape(name), nil)
}

// Banned asks who is banned now, in few words: by one jail, or by all of them if jail is "". The error of a jail that is
// not there has CodeNoJail.
func (c *Client) Banned(ctx context.Context, jail string) (Banned, error) {
	q := url.Values{}
	if jail != "" {
		q.Set("jail", jail)
	}
	return get[Banned](ctx, c, "/v1/banned", q)
}

// Why asks about one address.
func (c *Client) Why(ctx context.Context, addr netip.Addr) (Why, error) {
	return get[Why](ctx, c, "/v1/why", url.Values{"addr": {addr.String()}})
}

// WhyID asks about somebody by an id that is no address.
func (c *Client) WhyID(ctx context.Context, id string) (Why, error) {
	return get[Why](ctx, c, "/v1/why", url.Values{"id": {id}})
}

// Ban bans by hand.
func (c *Client) Ban(ctx context.Context, r BanRequest) (Change, error) {
	return post(ctx, c, "/v1/ban", r)
}

// Unban lifts bans.
func (c *Client) Unban(ctx context.Context, r UnbanRequest) (Change, error) {
	return post(ctx, c, "/v1/unban", r)
}

// Allow changes the allow list.
func (c *Client) Allow(ctx context.Context, r AllowRequest) (Change, error) {
	return post(ctx, c, "/v1/allow", r)
}

// Off tells the guard that the emergency exit was opened or closed.
func (c *Client) Off(ctx context.Context, r OffRequest) (Change, error) {
	return post(ctx, c, "/v1/off", r)
}

// Reload makes the guard read its configuration again.
func (c *Client) Reload(ctx context.Context) (Change, error) {
	return post(ctx, c, "/v1/reload", struct{}{})
}

// Reopen makes the guard open the log anew that it writes in fail2ban's format: somebody has moved it away.
func (c *Client) Reopen(ctx context.Context) (Change, error) {
	return post(ctx, c, "/v1/reopen", struct{}{})
}

// Metrics copies the guard's metrics to w, in Prometheus' text format.
func (c *Client) Metrics(ctx context.Context, w io.Writer) error {
	resp, err := c.do(ctx, http.MethodGet, "/metrics", nil, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(w, resp.Body); err != nil {
		return Errorf(ExitUnreachable, "", fmt.Sprintf("read metrics: %v", err))
	}
	return nil
}

func get[T any](ctx context.Context, c *Client, path string, q url.Values) (T, error) {
	return call[T](ctx, c, http.MethodGet, path, q, nil)
}

func post(ctx context.Context, c *Client, path string, req any) (Change, error) {
	return postFor[Change](ctx, c, path, req)
}

func postFor[T any](ctx context.Context, c *Client, path string, req any) (v T, err error) {
	body, err := json.Marshal(req)
	if err != nil {
		return v, Errorf(ExitFailed, "", err.Error())
	}
	return call[T](ctx, c, http.MethodPost, path, nil, body)
}

func call[T any](ctx context.Context, c *Client, method, path string, q url.Values, body []byte) (v T, err error) {
	resp, err := c.do(ctx, method, path, q, body)
	if err != nil {
		return v, err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&v); err != nil {
		return v, Errorf(ExitUnreachable, "", fmt.Sprintf("read the %s's answer: %v", c.who, err))
	}
	return v, nil
}

func (c *Client) do(ctx context.Context, method, path string, q url.Values, body []byte) (*http.Response, error) {
	return c.send(ctx, method, path, q, bytes.NewReader(body))
}

// send sends one request; every answer but 200 becomes an *Error. path is escaped already.
func (c *Client) send(ctx context.Context, method, path string, q url.Values, body io.Reader) (*http.Response, error) {
	target := "http://guard" + path
	if len(q) > 0 {
		target += "?" + q.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, Errorf(ExitFailed, "", err.Error())
	}
	ends := time.Now().Add(c.http.Timeout)
	if d, ok := ctx.Deadline(); ok && d.Before(ends) {
		ends = d
	}
	req.Header.Set(deadlineHeader, ends.UTC().Format(time.RFC3339Nano))
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	e := &Error{}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxBody)).Decode(e); err != nil || e.Exit == 0 {
		if e.Msg != "" { // one of Prometheus's interface
			return nil, Errorf(ExitUsage, "", e.Msg)
		}
		return nil, Errorf(ExitUnreachable, "", "the "+c.who+" answered "+resp.Status)
	}
	return nil, e
}

func (c *Client) unreachable(err error) *Error {
	switch {
	case errors.Is(err, os.ErrPermission):
		return Errorf(ExitPermission, "use sudo, or join the group tocsin", fmt.Sprintf("the %s's socket %s is closed to you", c.who, c.path))
	case errors.Is(err, os.ErrNotExist), errors.Is(err, unix.ECONNREFUSED):
		return Errorf(ExitUnreachable, c.start, fmt.Sprintf("no %s is running (nobody answers on %s)", c.who, c.path))
	case os.IsTimeout(err):
		return Errorf(ExitTryLater, "", "the "+c.who+" does not answer in time")
	}
	return Errorf(ExitUnreachable, "", fmt.Sprintf("ask the %s: %v", c.who, err))
}
