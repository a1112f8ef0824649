package api

import (
	"context"
	"errors"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestSuperviseClientAndServerAgree(t *testing.T) {
	at, value := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC), 0.5
	servers := Servers{Schema: SchemaServers, Servers: []Server{{Group: "Gandi", Name: "web1", State: "unknown", Since: &at, Why: "refused", Services: 3}}}
	detail := ServerDetail{Schema: SchemaServer, Server: servers.Servers[0], Details: []Service{{Name: "load", Title: "Load", Seen: &at, Fields: []Field{{Name: "load", Value: &value, At: &at}, {Name: "u"}}}}}
	probes := Probes{Schema: SchemaProbes, Probes: []Probe{{Name: "cpu", Kind: "built-in", On: true, Every: 10, Cost: 0.25, Doubles: []string{"cpu"}, Services: []string{"cpu"}}}}
	graph := Graph{Schema: SchemaGraph, Server: "web1", Service: "load", Step: 300, Fields: []GraphField{{Name: "load", Points: []GraphPoint{{T: 1, Avg: 2, Min: 1, Max: 3}}}}}
	var gotQuery GraphQuery
	var gotToken TokenRequest
	var gotServer [2]string
	c := NewWatchClient(serveHandler(t, WatchHandler(WatchOperations{}, &SuperviseOperations{
		Servers: func(context.Context) (Servers, error) { return servers, nil },
		Server: func(_ context.Context, group, name string) (ServerDetail, error) {
			gotServer = [2]string{group, name}
			return detail, nil
		},
		Forget: func(_ context.Context, group, name string) (Change, error) {
			gotServer = [2]string{group, name}
			return Change{Text: "forgotten"}, nil
		},
		Probes: func(context.Context) (Probes, error) { return probes, nil },
		Graph:  func(_ context.Context, q GraphQuery) (Graph, error) { gotQuery = q; return graph, nil },
		Tokens: func(context.Context) (Tokens, error) {
			return Tokens{Tokens: []Token{{Name: "a", Scope: ScopeRead, Made: at}}}, nil
		},
		AddToken: func(_ context.Context, r TokenRequest) (NewToken, error) {
			gotToken = r
			return NewToken{Name: r.Name, Scope: r.Scope, Token: "secret"}, nil
		},
		DropToken: func(_ context.Context, r TokenRequest) (Change, error) {
			gotToken = r
			return Change{Text: "gone"}, nil
		},
		Questions: func() (*Samples, error) { return samples(new(asked)), nil },
	})))
	ctx := t.Context()
	check := func(what string, got, want any, err error) {
		t.Helper()
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v\nwant %+v", what, got, err, want)
		}
	}
	s, err := c.Servers(ctx)
	check("servers", s, servers, err)
	d, err := c.Server(ctx, "*", "web1")
	check("server", d, detail, err)
	check("server asked for", gotServer, [2]string{"*", "web1"}, nil)
	p, err := c.Probes(ctx)
	check("probes", p, probes, err)
	q := GraphQuery{Group: "Gandi;Paris", Server: "web1", Service: "a.b", From: at, To: at.Add(time.Hour), Step: 5 * time.Minute, Marks: true}
	g, err := c.Graph(ctx, q)
	check("graph", g, graph, err)
	check("graph asked for", gotQuery, q, nil)
	if _, err := c.Graph(ctx, GraphQuery{From: at, To: at}); err == nil {
		t.Error("a graph of no time was drawn")
	}
	n, err := c.AddToken(ctx, TokenRequest{Name: "a", Scope: ScopeRead, By: "root"})
	check("new token", n, NewToken{Name: "a", Scope: ScopeRead, Token: "secret"}, err)
	ch, err := c.DropToken(ctx, TokenRequest{Name: "a", By: "root"})
	check("revoked", ch, Change{Text: "gone"}, err)
	check("revoked", gotToken, TokenRequest{Name: "a", By: "root"}, nil)
	ts, err := c.Tokens(ctx)
	check("tokens", ts, Tokens{Tokens: []Token{{Name: "a", Scope: ScopeRead, Made: at}}}, err)
	ch, err = c.ForgetServer(ctx, ServerRequest{Group: "Gandi", Name: "web1"})
	check("forgotten", ch, Change{Text: "forgotten"}, err)
	check("forgotten", gotServer, [2]string{"Gandi", "web1"}, nil)

	answer, err := c.PromQL(ctx, "query", url.Values{"query": {"1"}, "time": {"1"}})
	check("query", string(answer), `{"status":"success","data":{"resultType":"scalar","result":[1.500,"1"]}}`, err)
	var e *Error
	if _, err = c.PromQL(ctx, "query", url.Values{"query": {"sum("}}); !errors.As(err, &e) || e.Exit != ExitUsage || !strings.Contains(e.Msg, "parse error") {
		t.Errorf("a question that cannot be read: %v", err)
	}
}
