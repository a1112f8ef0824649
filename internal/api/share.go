package api

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"time"
)

// This file holds what the guard and the watch process tell each other: decisions one way, lists the other.

// Schemas of what the watch process and the guard tell each other.
const (
	SchemaDecisions = "tocsin.decisions/1"
	SchemaLists     = "tocsin.lists/1"
	SchemaSpared    = "tocsin.spared/1"
)

// Bounds of an answer and of a list. The text of a list of two million networks of IPv6 fits.
const (
	defaultDecisions, maxDecisions = 500, 2000
	// maxWait is how long a question for decisions may wait for one. It is shorter than what a connection may take to be
	// read, which would end the wait.
	maxWait = 8 * time.Second
	maxList = 128 << 20
)

// Decisions are decisions about addresses in the order of their numbers. Decisions about anything else are left out.
//
// They carry numbers and addresses only: no line of a log, no user name, and no id that is no address. Whoever follows
// them speaks to the world outside.
type Decisions struct {
	Schema    string     `json:"schema"`
	Newest    int64      `json:"newest"`  // the highest number in use; lower than one seen before if the store was lost
	Next      int64      `json:"next"`    // where to go on
	Reloads   int64      `json:"reloads"` // another number once the guard was started, or has read its configuration, anew
	Reports   *time.Time `json:"reports"` // since when reports are switched on; null: they are off
	Decisions []Decision `json:"decisions"`
}

// Decision is a ban of an address or network, or its lifting.
type Decision struct {
	N        int64      `json:"n"`
	Jail     string     `json:"jail"`
	Prefix   string     `json:"prefix"` // always with its length
	Addr     string     `json:"addr"`   // who failed last, "" if nobody in particular did
	Action   string     `json:"action"` // ban, unban
	Origin   string     `json:"origin"` // jail, operator, fleet, list
	At       time.Time  `json:"at"`
	Until    *time.Time `json:"until"` // null: without end
	Failures int        `json:"failures"`
	MaxRetry int        `json:"maxretry"` // of the jail now; 0 if it is gone
	First    *time.Time `json:"first"`    // when the first failure was logged; null if that is not known any more
	Last     *time.Time `json:"last"`
	Ports    []uint16   `json:"ports"`   // empty: all
	Known    bool       `json:"known"`   // somebody logged in from there within 90 days
	Allowed  bool       `json:"allowed"` // it is on the allow list now, or the machine's own
}

// DecisionsQuery says which decisions are asked for.
type DecisionsQuery struct {
	After int64         // the number behind which they begin; negative: none, only what Newest is
	Since time.Duration // taken within this time; 0: at any time
	Limit int           // 0: 500
	Wait  time.Duration // for one to come, 8 s at most
}

// ListState is one list of other people's as the guard has it in force.
type ListState struct {
	Name      string     `json:"name"`
	Ports     []uint16   `json:"ports"`     // empty: all
	InForce   bool       `json:"in_force"`  // false: it waits for its first delivery, or the firewall is off
	Entries   int        `json:"entries"`   // blocked now
	Delivered int        `json:"delivered"` // in the list as it came
	Allowed   int        `json:"allowed"`   // entries of the allow list that have addresses in it; they are let through
	Members   int        `json:"members"`   // addresses in it from which somebody logged in within 30 days; they are let through
	Generated *time.Time `json:"generated"` // when its source made it; null if that is not known
	Fetched   *time.Time `json:"fetched"`   // when the watch process got it
	Dropped   bool       `json:"dropped"`   // somebody took it out of force; the next delivery brings it back
	Taken     *time.Time `json:"taken"`     // when the guard got it
	Packets   uint64     `json:"packets"`   // dropped, since Since
	Bytes     uint64     `json:"bytes"`
	Since     *time.Time `json:"since"`
	Problem   string     `json:"problem"` // why it is not in force as it should be, "" if it is
}

// ListStates are all lists that the guard's configuration names.
type ListStates struct {
	Schema string      `json:"schema"`
	Lists  []ListState `json:"lists"`
}

// Spared says whether somebody is spared: nothing is reported about them.
type Spared struct {
	Schema  string `json:"schema"`
	Prefix  string `json:"prefix"`
	Own     bool   `json:"own"`     // the machine's own, its gateway's or a resolver's
	Allowed bool   `json:"allowed"` // on the allow list, or that of a jail
	Known   bool   `json:"known"`   // somebody logged in from there within 90 days
}

// shareHandlers are what the watch process asks of the guard.
func shareHandlers(mux *http.ServeMux, op *Operations) {
	look(mux, "GET /v1/decisions", func(r *http.Request) (any, error) {
		q, err := parseDecisionsQuery(r.URL.Query())
		if err != nil {
			return nil, err
		}
		return op.Decisions(r.Context(), q)
	})
	look(mux, "GET /v1/spared", func(r *http.Request) (any, error) {
		p, err := netip.ParsePrefix(r.URL.Query().Get("prefix"))
		if err != nil {
			return nil, Errorf(ExitUsage, "write it like 192.0.2.7/32", "that is no prefix")
		}
		return op.Spared(r.Context(), p.Masked())
	})
	look(mux, "GET /v1/lists", func(r *http.Request) (any, error) { return op.Lists(r.Context()) })
	mux.HandleFunc("PUT /v1/lists/{name}", func(w http.ResponseWriter, r *http.Request) {
		if err := mayShare(r.Context(), op); err != nil {
			answer(w, nil, err)
			return
		}
		v, err := op.TakeList(r.Context(), r.PathValue("name"), http.MaxBytesReader(w, r.Body, maxList))
		answer(w, v, err)
	})
	mux.HandleFunc("POST /v1/lists/{name}/drop", func(w http.ResponseWriter, r *http.Request) {
		if err := mayShare(r.Context(), op); err != nil {
			answer(w, nil, err)
			return
		}
		v, err := op.DropList(r.Context(), r.PathValue("name"))
		answer(w, v, err)
	})
}

// mayShare lets the watch process hand over lists, beside those who may change anything.
func mayShare(ctx context.Context, op *Operations) error {
	if uid, ok := ctx.Value(peerKey{}).(uint32); ok && op.MayShare(uid) {
		return nil
	}
	if mayChange(ctx) == nil {
		return nil
	}
	return Errorf(ExitPermission, "try again with sudo", "only root and the watch process may hand over lists")
}

func parseDecisionsQuery(v url.Values) (q DecisionsQuery, err error) {
	q.Limit = defaultDecisions
	if s := v.Get("after"); s != "" {
		if q.After, err = strconv.ParseInt(s, 10, 64); err != nil {
			return q, Errorf(ExitUsage, "", fmt.Sprintf("after %q is not a number", s))
		}
	}
	if s := v.Get("limit"); s != "" {
		if q.Limit, err = strconv.Atoi(s); err != nil || q.Limit < 1 || q.Limit > maxDecisions {
			return q, Errorf(ExitUsage, "", fmt.Sprintf("limit %q is not a number from 1 to %d", s, maxDecisions))
		}
	}
	for name, field := range map[string]*time.Duration{"since": &q.Since, "wait": &q.Wait} {
		s := v.Get(name)
		if s == "" {
			continue
		}
		if *field, err = time.ParseDuration(s); err != nil || *field < 0 {
			return q, Errorf(ExitUsage, "write it like 24h", fmt.Sprintf("%s %q is not a duration", name, s))
		}
	}
	q.Wait = min(q.Wait, maxWait)
	return q, nil
}

func (q DecisionsQuery) values() url.Values {
	v := url.Values{"after": {strconv.FormatInt(q.After, 10)}}
	if q.Limit > 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	if q.Since > 0 {
		v.Set("since", q.Since.String())
	}
	if q.Wait > 0 {
		v.Set("wait", q.Wait.String())
	}
	return v
}

// Decisions asks for decisions by their numbers.
func (c *Client) Decisions(ctx context.Context, q DecisionsQuery) (Decisions, error) {
	return get[Decisions](ctx, c, "/v1/decisions", q.values())
}

// Spared asks whether somebody is spared.
func (c *Client) Spared(ctx context.Context, p netip.Prefix) (Spared, error) {
	return get[Spared](ctx, c, "/v1/spared", url.Values{"prefix": {p.String()}})
}

// Lists asks which lists of other people's are in force.
func (c *Client) Lists(ctx context.Context) (ListStates, error) {
	return get[ListStates](ctx, c, "/v1/lists", nil)
}

// GiveList hands over a list in its kept form (docs/format/list.md), and says what the guard made of it.
func (c *Client) GiveList(ctx context.Context, name string, kept io.Reader) (v ListState, err error) {
	resp, err := c.send(ctx, http.MethodPut, "/v1/lists/"+url.PathEscape(name), nil, kept)
	if err != nil {
		return v, err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&v); err != nil {
		return v, Errorf(ExitUnreachable, "", fmt.Sprintf("read the guard's answer: %v", err))
	}
	return v, nil
}

// DropList takes a list out of force.
func (c *Client) DropList(ctx context.Context, name string) (Change, error) {
	return post(ctx, c, "/v1/lists/"+url.PathEscape(name)+"/drop", struct{}{})
}
