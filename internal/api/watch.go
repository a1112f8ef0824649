package api

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"time"
)

// This file holds what the watch process answers about what it supervises, on its own socket.

// Schemas of what is supervised.
const (
	SchemaServers = "tocsin.servers/1"
	SchemaServer  = "tocsin.server/1"
	SchemaProbes  = "tocsin.probes/1"
	SchemaGraph   = "tocsin.graph/1"
	SchemaToken   = "tocsin.token/1"
	SchemaTokens  = "tocsin.tokens/1"
)

// Servers are all servers that are known, by group and name.
type Servers struct {
	Schema  string   `json:"schema"`
	Servers []Server `json:"servers"`
}

// Server is one server. It stays known while it does not answer.
type Server struct {
	Group    string     `json:"group"` // levels with ; between, "" for none
	Name     string     `json:"name"`
	Address  string     `json:"address"` // where it is asked; "" for this machine, and for what was imported or written
	State    string     `json:"state"`   // ok; unknown: it does not answer; idle: nothing is asked of it any more; virtual: it draws others' curves
	Seen     *time.Time `json:"seen"`    // when something was read of it last; null: never
	Since    *time.Time `json:"since"`   // unknown since; null if it answers
	Why      string     `json:"why"`     // it does not answer
	Services int        `json:"services"`
}

// ServerDetail is one server with what is measured on it.
type ServerDetail struct {
	Schema string `json:"schema"`
	Server
	Details []Service `json:"details"` // by category and name
}

// Service is what one probe or plugin measures.
type Service struct {
	Name     string     `json:"name"`
	Title    string     `json:"title"`
	Category string     `json:"category"`
	Virtual  bool       `json:"virtual"` // munin.conf draws it of other services
	Seen     *time.Time `json:"seen"`
	Fields   []Field    `json:"fields"`
}

// Field is one curve with its last value.
type Field struct {
	Name  string     `json:"name"`
	Label string     `json:"label"`
	Value *float64   `json:"value"` // null: unknown
	At    *time.Time `json:"at"`    // of the value
	// Expr asks for it in PromQL, where it is no series of its own but drawn of others.
	Expr string `json:"expr,omitempty"`
}

// Probes are the probes of this machine and the nodes that are asked.
type Probes struct {
	Schema string  `json:"schema"`
	Probes []Probe `json:"probes"`
}

// Probe is one probe, plugin or node.
type Probe struct {
	Name     string   `json:"name"`
	Kind     string   `json:"kind"`    // built-in, plugin, node
	On       bool     `json:"on"`      // it has something to read
	Why      string   `json:"why"`     // it is off, or what went wrong last
	Every    float64  `json:"every"`   // seconds
	Cost     float64  `json:"cost_ms"` // of a reading, in the mean
	Longest  float64  `json:"longest_ms"`
	Readings uint64   `json:"readings"`
	Failures uint64   `json:"failures"`
	Skipped  uint64   `json:"skipped"`  // turns that came while it was still being read
	Doubles  []string `json:"doubles"`  // plugins of this machine that show the same, by their name
	Repeats  []Repeat `json:"repeats"`  // what was found to show nothing that another one does not show too, for a week
	Services []string `json:"services"` // what it measures
}

// Repeat says that a probe shows nothing that another one of its server does not show too. Of a node they are its services.
type Repeat struct {
	Probe string `json:"probe"`
	Of    string `json:"of"`
}

// GraphQuery says what is drawn.
type GraphQuery struct {
	Group, Server, Service string
	From, To               time.Time
	Step                   time.Duration // 0: as fine as some 400 points are
	Marks                  bool          // with what happened
}

// Graph is what is drawn: one service over a time.
type Graph struct {
	Schema  string       `json:"schema"`
	Group   string       `json:"group"`
	Server  string       `json:"server"`
	Service string       `json:"service"`
	Title   string       `json:"title"`
	Unit    string       `json:"unit"` // what the vertical axis says
	Step    float64      `json:"step"` // seconds
	Fields  []GraphField `json:"fields"`

	From       time.Time   `json:"from"`
	To         time.Time   `json:"to"`
	Attributes []Attribute `json:"attributes"` // of the graph, as its source says; the first of a name counts
	Marks      []GraphMark `json:"marks"`
}

// Attribute is what Munin's plugins say of a graph or a field.
type Attribute struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// GraphMark is something that happened.
type GraphMark struct {
	At   time.Time `json:"at"`
	Kind string    `json:"kind"` // one of the marks below
	N    int       `json:"n"`    // of what, where that is counted
	Text string    `json:"text"`
}

// The kinds of marks.
const (
	MarkBans    = "bans"
	MarkReboot  = "reboot"
	MarkUpgrade = "upgrade"
	MarkAlert   = "alert"
)

// GraphField is one curve.
type GraphField struct {
	Name   string       `json:"name"`
	Label  string       `json:"label"`
	Points []GraphPoint `json:"points"`

	Attributes []Attribute `json:"attributes"` // the last of a name counts
}

// GraphPoint stands for the time of one step that ends at T.
type GraphPoint struct {
	T   int64   `json:"t"` // Unix seconds
	Avg float64 `json:"avg"`
	Min float64 `json:"min"`
	Max float64 `json:"max"`
}

// TokenRequest asks for a token, or for its end.
type TokenRequest struct {
	Name  string `json:"name"`
	Scope string `json:"scope,omitempty"`
	By    string `json:"by"`
}

// NewToken is a token. It is shown this once.
type NewToken struct {
	Schema string `json:"schema"`
	Name   string `json:"name"`
	Scope  string `json:"scope"`
	Token  string `json:"token"`
}

// Tokens are all tokens, without what is secret of them.
type Tokens struct {
	Schema string  `json:"schema"`
	Tokens []Token `json:"tokens"`
}

// Token is one token.
type Token struct {
	Name  string    `json:"name"`
	Scope string    `json:"scope"`
	Made  time.Time `json:"made"`
}

// SuperviseOperations are what the watch process's handler calls about what it supervises. Every field must be set, but
// Warnings and Notify may be nil.
type SuperviseOperations struct {
	Servers   func(context.Context) (Servers, error)
	Server    func(ctx context.Context, group, name string) (ServerDetail, error) // group "*": any, if there is one of that name
	Forget    func(ctx context.Context, group, name string) (Change, error)
	Probes    func(context.Context) (Probes, error)
	Graph     func(context.Context, GraphQuery) (Graph, error)
	Tokens    func(context.Context) (Tokens, error)
	AddToken  func(context.Context, TokenRequest) (NewToken, error)
	DropToken func(context.Context, TokenRequest) (Change, error)
	// Import takes the history of an older system, as ReadHistory reads it.
	Import func(context.Context, io.Reader) (History, error)
	// Questions are Prometheus's; an error says why nobody can be asked now.
	Questions func() (*Samples, error)
	Warnings  *AlertOperations
	Accounts  UserOperations
	Notify    *NotifyOperations
}

// superviseHandlers serves them to whoever may reach the socket.
func superviseHandlers(mux *http.ServeMux, op *SuperviseOperations) {
	look(mux, "GET /v1/servers", func(r *http.Request) (any, error) { return op.Servers(r.Context()) })
	look(mux, "GET /v1/server", func(r *http.Request) (any, error) {
		return op.Server(r.Context(), r.URL.Query().Get("group"), r.URL.Query().Get("name"))
	})
	look(mux, "GET /v1/probes", func(r *http.Request) (any, error) { return op.Probes(r.Context()) })
	look(mux, "GET /v1/graph", func(r *http.Request) (any, error) {
		q, err := parseGraphQuery(r.URL.Query())
		if err != nil {
			return nil, err
		}
		return op.Graph(r.Context(), q)
	})
	look(mux, "GET /v1/tokens", func(r *http.Request) (any, error) {
		if err := mayChange(r.Context()); err != nil {
			return nil, err
		}
		return op.Tokens(r.Context())
	})
	change(mux, "POST /v1/tokens/add", op.AddToken)
	change(mux, "POST /v1/tokens/revoke", op.DropToken)
	change(mux, "POST /v1/server/forget", func(ctx context.Context, r ServerRequest) (Change, error) { return op.Forget(ctx, r.Group, r.Name) })
	mux.HandleFunc("PUT "+importPath, importHandler(op.Import))
	samplesHandlers(mux, op.Questions)
	if op.Warnings != nil {
		alertHandlers(mux, op.Warnings)
	}
	if op.Notify != nil {
		notifyHandlers(mux, op.Notify)
	}
}

// ServerRequest names a server.
type ServerRequest struct {
	Group string `json:"group"`
	Name  string `json:"name"`
	By    string `json:"by"`
}

func parseGraphQuery(v url.Values) (q GraphQuery, err error) {
	q.Group, q.Server, q.Service = v.Get("group"), v.Get("server"), v.Get("service")
	for name, field := range map[string]*time.Time{"from": &q.From, "to": &q.To} {
		if *field, err = time.Parse(time.RFC3339, v.Get(name)); err != nil {
			return q, Errorf(ExitUsage, "write it like 2026-11-22T10:00:00Z", name+" is not a time")
		}
	}
	if s := v.Get("step"); s != "" {
		if q.Step, err = time.ParseDuration(s); err != nil || q.Step <= 0 {
			return q, Errorf(ExitUsage, "write it like 5m", "step is not a positive duration")
		}
	}
	q.Marks = v.Get("marks") != ""
	if !q.To.After(q.From) {
		return q, Errorf(ExitUsage, "", "the time to draw ends before it begins")
	}
	return q, nil
}

func (q GraphQuery) values() url.Values {
	v := url.Values{"group": {q.Group}, "server": {q.Server}, "service": {q.Service},
		"from": {q.From.Format(time.RFC3339)}, "to": {q.To.Format(time.RFC3339)}}
	if q.Step > 0 {
		v.Set("step", q.Step.String())
	}
	if q.Marks {
		v.Set("marks", "1")
	}
	return v
}

// Servers asks which servers are known.
func (w *WatchClient) Servers(ctx context.Context) (Servers, error) {
	return get[Servers](ctx, w.c, "/v1/servers", nil)
}

// Server asks what is measured on a server; group "*" is any.
func (w *WatchClient) Server(ctx context.Context, group, name string) (ServerDetail, error) {
	return get[ServerDetail](ctx, w.c, "/v1/server", url.Values{"group": {group}, "name": {name}})
}

// ForgetServer takes a server out of what is known. Its history stays.
func (w *WatchClient) ForgetServer(ctx context.Context, r ServerRequest) (Change, error) {
	return post(ctx, w.c, "/v1/server/forget", r)
}

// Probes asks how the probes do.
func (w *WatchClient) Probes(ctx context.Context) (Probes, error) {
	return get[Probes](ctx, w.c, "/v1/probes", nil)
}

// Graph asks for what is drawn.
func (w *WatchClient) Graph(ctx context.Context, q GraphQuery) (Graph, error) {
	return get[Graph](ctx, w.c, "/v1/graph", q.values())
}

// Tokens asks who may ask over the network.
func (w *WatchClient) Tokens(ctx context.Context) (Tokens, error) {
	return get[Tokens](ctx, w.c, "/v1/tokens", nil)
}

// AddToken lets somebody ask over the network.
func (w *WatchClient) AddToken(ctx context.Context, r TokenRequest) (NewToken, error) {
	return postFor[NewToken](ctx, w.c, "/v1/tokens/add", r)
}

// DropToken revokes a token.
func (w *WatchClient) DropToken(ctx context.Context, r TokenRequest) (Change, error) {
	return post(ctx, w.c, "/v1/tokens/revoke", r)
}

// PromQL asks one of Prometheus's questions, such as "query", and returns what it answers, whole.
func (w *WatchClient) PromQL(ctx context.Context, question string, v url.Values) (json.RawMessage, error) {
	return get[json.RawMessage](ctx, w.c, "/api/v1/"+question, v)
}
