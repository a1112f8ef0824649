package api

import (
	"context"
	"io"
	"net/netip"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestShareClientAndServerAgree(t *testing.T) {
	at := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	want := Decisions{Schema: SchemaDecisions, Newest: 9, Next: 8, Reloads: 2, Decisions: []Decision{{
		N: 8, Jail: "sshd", Prefix: "2001:db8::/64", Addr: "2001:db8::7", Action: "ban", Origin: "jail", At: at, Until: &at,
		Failures: 5, MaxRetry: 5, First: &at, Last: &at, Ports: []uint16{22}, Known: true, Allowed: true,
	}}}
	state := ListState{Name: "drop", Ports: []uint16{}, InForce: true, Entries: 3, Taken: &at}
	var gotQuery DecisionsQuery
	var gotList string
	var gotPrefix netip.Prefix
	path := serve(t, Operations{
		Decisions: func(_ context.Context, q DecisionsQuery) (Decisions, error) { gotQuery = q; return want, nil },
		Spared: func(_ context.Context, p netip.Prefix) (Spared, error) {
			gotPrefix = p
			return Spared{Known: true}, nil
		},
		Lists: func(context.Context) (ListStates, error) { return ListStates{Lists: []ListState{state}}, nil },
		TakeList: func(_ context.Context, name string, r io.Reader) (ListState, error) {
			text, err := io.ReadAll(r)
			gotList = name + ":" + string(text)
			return state, err
		},
		DropList: func(_ context.Context, name string) (Change, error) { return Change{Text: name}, nil },
		MayShare: func(uint32) bool { return false }, // root may all the same
	})
	c, ctx := NewClient(path), context.Background()

	q := DecisionsQuery{After: 7, Since: time.Hour, Limit: 3, Wait: 2 * time.Second}
	if got, err := c.Decisions(ctx, q); err != nil || !reflect.DeepEqual(got, want) || gotQuery != q {
		t.Errorf("Decisions(%+v) = %+v, %v, arrives as %+v", q, got, err, gotQuery)
	}
	if _, err := c.Decisions(ctx, DecisionsQuery{After: -1, Wait: time.Hour}); err != nil || gotQuery.After != -1 || gotQuery.Wait != maxWait || gotQuery.Limit != defaultDecisions {
		t.Errorf("the bounds: %+v, %v", gotQuery, err)
	}
	if _, err := c.Decisions(ctx, DecisionsQuery{Limit: maxDecisions + 1}); exitOf(err) != ExitUsage {
		t.Errorf("a limit above the bound: %v", err)
	}
	p := netip.MustParsePrefix("2001:db8::/64")
	if got, err := c.Spared(ctx, p); err != nil || !got.Known || gotPrefix != p {
		t.Errorf("Spared(%s) = %+v, %v", p, got, err)
	}
	if got, err := c.Lists(ctx); err != nil || len(got.Lists) != 1 || !reflect.DeepEqual(got.Lists[0], state) {
		t.Errorf("Lists() = %+v, %v", got, err)
	}
	long := strings.Repeat("192.0.2.1\n", 100_000)
	if got, err := c.GiveList(ctx, "drop", strings.NewReader(long)); err != nil || got.Name != "drop" || gotList != "drop:"+long {
		t.Errorf("GiveList() = %+v, %v; %d bytes arrive", got, err, len(gotList))
	}
	if got, err := c.DropList(ctx, "drop"); err != nil || got.Text != "drop" {
		t.Errorf("DropList() = %+v, %v", got, err)
	}
}

func TestWatchClientAndServerAgree(t *testing.T) {
	var got AddrRequest
	var accepted string
	dir := t.TempDir()
	path := filepath.Join(dir, "watch.sock")
	l, err := Listen(path, -1)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- Serve(ctx, l, WatchHandler(WatchOperations{
			Reputation: func(context.Context) (Reputation, error) { return Reputation{Service: "hub.example"}, nil },
			Check:      func(_ context.Context, a netip.Addr) (Check, error) { return Check{Addr: a.String(), Score: 7}, nil },
			Report:     func(_ context.Context, r AddrRequest) (Change, error) { got = r; return Change{}, nil },
			Forget:     func(_ context.Context, r AddrRequest) (Change, error) { return Change{Text: r.Addr}, nil },
			Accept:     func(_ context.Context, name string) (Change, error) { accepted = name; return Change{}, nil },
		}, nil))
	}()
	defer func() { stop(); <-done }()
	c := NewWatchClient(path)
	if r, err := c.Reputation(ctx); err != nil || r.Service != "hub.example" {
		t.Errorf("Reputation() = %+v, %v", r, err)
	}
	a := netip.MustParseAddr("2001:db8::7")
	if r, err := c.Check(ctx, a); err != nil || r.Addr != a.String() || r.Score != 7 {
		t.Errorf("Check(%s) = %+v, %v", a, r, err)
	}
	want := AddrRequest{Addr: a.String(), Categories: []int{18, 22}, By: "root"}
	if _, err := c.Report(ctx, want); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("Report(%+v) arrives as %+v, %v", want, got, err)
	}
	if r, err := c.Forget(ctx, want); err != nil || r.Text != a.String() {
		t.Errorf("Forget() = %+v, %v", r, err)
	}
	if _, err := c.Accept(ctx, "drop"); err != nil || accepted != "drop" {
		t.Errorf("Accept() arrives as %q, %v", accepted, err)
	}
	_, err = NewWatchClient(filepath.Join(dir, "nobody.sock")).Reputation(ctx)
	if e, ok := err.(*Error); !ok || e.Exit != ExitUnreachable || !strings.HasPrefix(e.Msg, "no watch process is running") {
		t.Errorf("without a watch process: %v", err)
	}
}
