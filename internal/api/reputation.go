package api

import (
	"context"
	"net/http"
	"net/netip"
	"net/url"
	"time"
)

// This file holds what the watch process answers on its own socket.

// Schemas of the watch process.
const (
	SchemaReputation = "tocsin.reputation/1"
	SchemaCheck      = "tocsin.reputation-check/1"
	SchemaDryRun     = "tocsin.reputation-dry-run/1"
)

// Reputation is what the watch process does with lists and reports.
type Reputation struct {
	Schema     string        `json:"schema"`
	Version    string        `json:"version"`
	Started    time.Time     `json:"started"`
	Service    string        `json:"service"`     // who is asked and told: the host of [report] url
	Key        bool          `json:"key"`         // there is an API key
	KeyProblem string        `json:"key_problem"` // why it cannot be used, "" if it can
	Lists      []FetchedList `json:"lists"`
	Reports    ReportState   `json:"reports"`
}

// FetchedList is one list as the watch process fetches it.
type FetchedList struct {
	Name      string     `json:"name"`
	Source    string     `json:"source"`
	Entries   int        `json:"entries"`   // of the list that is kept
	Generated *time.Time `json:"generated"` // when its source made it
	Fetched   *time.Time `json:"fetched"`   // when it was fetched last with success
	Next      *time.Time `json:"next"`      // when it is fetched again
	Failures  int        `json:"failures"`  // fetches that failed since
	Error     string     `json:"error"`     // why the last one did
	Refused   []string   `json:"refused"`   // why a newer list is not used; tocsin reputation accept uses it
	Handed    bool       `json:"handed"`    // the guard has it
}

// ReportState is what became of the reports.
type ReportState struct {
	Cursor     int64            `json:"cursor"` // the number of the decision of the guard that was taken in last; 0: none yet
	Enabled    bool             `json:"enabled"`
	Jails      map[string][]int `json:"jails"`     // with their categories
	Held       int              `json:"held"`      // bans that are younger than hold
	Queued     int              `json:"queued"`    // reports that wait to be sent
	Sent       int64            `json:"sent"`      // since the queue was made, as are the others
	Doubles    int64            `json:"doubles"`   // the service had them already
	Refused    int64            `json:"refused"`   // by the service, for good
	Unknown    int64            `json:"unknown"`   // whose answer was lost
	GivenUp    int64            `json:"given_up"`  // within 24 h
	Withdrawn  int64            `json:"withdrawn"` // unbanned, allowed or logged in before they were sent
	LeftOut    map[string]int64 `json:"left_out"`  // bans that are not reported, by why
	Quota      *int             `json:"quota"`     // reports left today; null if not known
	Limit      *int             `json:"limit"`     // of a day
	RestsUntil *time.Time       `json:"rests_until"`
	Stopped    string           `json:"stopped"` // why nothing is sent until somebody acts, "" if it is
}

// AddrRequest asks about, or for, one address.
type AddrRequest struct {
	Addr       string `json:"addr"`
	Categories []int  `json:"categories,omitempty"`
	By         string `json:"by"`
}

// Check is what the service says about an address.
type Check struct {
	Schema   string     `json:"schema"`
	Addr     string     `json:"addr"`
	Service  string     `json:"service"`
	Asked    time.Time  `json:"asked"`  // when the service said it
	Cached   bool       `json:"cached"` // it was asked before, and not now
	Score    int        `json:"score"`  // 0 to 100
	Reports  int        `json:"reports"`
	Users    int        `json:"users"` // who made them
	Last     *time.Time `json:"last"`
	Country  string     `json:"country"`
	Usage    string     `json:"usage"`
	Provider string     `json:"provider"`
	Domain   string     `json:"domain"`
	Tor      bool       `json:"tor"`
	Trusted  bool       `json:"trusted"` // the service's own allow list has it
}

// DryRun is what would be reported of the bans of the last day.
type DryRun struct {
	Schema  string           `json:"schema"`
	URL     string           `json:"url"`     // where it would go
	Enabled bool             `json:"enabled"` // reports are switched on
	Reports []PlannedReport  `json:"reports"`
	LeftOut map[string]int64 `json:"left_out"` // bans that would not be reported, by why
}

// PlannedReport is one report, whole: nothing else would be sent but the key.
type PlannedReport struct {
	Addr       string    `json:"ip"`
	Categories []int     `json:"categories"`
	Comment    string    `json:"comment"`
	At         time.Time `json:"timestamp"` // of the first failure, to the minute
}

// WatchOperations are what the watch process's handler calls. Every field must be set.
type WatchOperations struct {
	Reputation func(context.Context) (Reputation, error)
	Check      func(context.Context, netip.Addr) (Check, error)
	Report     func(context.Context, AddrRequest) (Change, error)
	Forget     func(context.Context, AddrRequest) (Change, error)
	Accept     func(ctx context.Context, list string) (Change, error)
}

// WatchHandler serves the operations of the watch process, through a server made by Serve; sup is nil if it supervises
// nothing. Asking the service about somebody tells it who is of interest here, so that is for root too.
func WatchHandler(op WatchOperations, sup *SuperviseOperations) http.Handler {
	mux := http.NewServeMux()
	if sup != nil {
		superviseHandlers(mux, sup)
		userHandlers(mux, &sup.Accounts)
	}
	look(mux, "GET /v1/reputation", func(r *http.Request) (any, error) { return op.Reputation(r.Context()) })
	look(mux, "GET /v1/reputation/check", func(r *http.Request) (any, error) {
		if err := mayChange(r.Context()); err != nil {
			return nil, err
		}
		addr, err := parseAddr(r.URL.Query().Get("addr"))
		if err != nil {
			return nil, err
		}
		return op.Check(r.Context(), addr)
	})
	change(mux, "POST /v1/reputation/report", op.Report)
	change(mux, "POST /v1/reputation/forget", op.Forget)
	mux.HandleFunc("POST /v1/reputation/accept/{list}", func(w http.ResponseWriter, r *http.Request) {
		err := mayChange(r.Context())
		var v Change
		if err == nil {
			v, err = op.Accept(r.Context(), r.PathValue("list"))
		}
		answer(w, v, err)
	})
	return mux
}

// NewWatchClient makes a client for the socket of the watch process at path.
func NewWatchClient(path string) *WatchClient {
	c := NewClient(path)
	c.who = "watch process"
	c.start = "start it with `tocsin run`, or `systemctl start tocsin-watch`"
	return &WatchClient{c}
}

// WatchClient asks the watch process over its socket. Its errors are those of Client.
type WatchClient struct{ c *Client }

// Reputation asks what is done with lists and reports.
func (w *WatchClient) Reputation(ctx context.Context) (Reputation, error) {
	return get[Reputation](ctx, w.c, "/v1/reputation", nil)
}

// Check asks what the service says about an address.
func (w *WatchClient) Check(ctx context.Context, addr netip.Addr) (Check, error) {
	return get[Check](ctx, w.c, "/v1/reputation/check", url.Values{"addr": {addr.String()}})
}

// Report has an address reported.
func (w *WatchClient) Report(ctx context.Context, r AddrRequest) (Change, error) {
	return post(ctx, w.c, "/v1/reputation/report", r)
}

// Forget takes back what was reported about an address.
func (w *WatchClient) Forget(ctx context.Context, r AddrRequest) (Change, error) {
	return post(ctx, w.c, "/v1/reputation/forget", r)
}

// Accept uses a list that was refused.
func (w *WatchClient) Accept(ctx context.Context, list string) (Change, error) {
	return post(ctx, w.c, "/v1/reputation/accept/"+url.PathEscape(list), struct{}{})
}
