package store

import (
	"crypto/sha256"
	"database/sql"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestCatalogueKeeps(t *testing.T) {
	path := filepath.Join(t.TempDir(), "watch.db")
	w := openWatch(t, path)
	nodes := []KnownNode{
		{Group: "Gandi", Node: "web1", Address: "munin://192.0.2.10:4949", Seen: t0, Since: t0.Add(time.Hour), Why: "connection refused"},
		{Group: "TTN", Node: "web1"},
	}
	services := []KnownService{
		{Group: "Gandi", Node: "web1", Service: "load", Described: []byte("graph_title Load\n"), Seen: t0},
		{Group: "TTN", Node: "web1", Service: "load", Described: []byte("graph_title Other\n"), Seen: t0},
	}
	if err := w.PutKnown(ctx, nodes, services); err != nil {
		t.Fatal(err)
	}
	nodes[0].Since, nodes[0].Why, services[0].Described = time.Time{}, "", []byte("graph_title Load average\n")
	if err := w.PutKnown(ctx, nodes[:1], services[:1]); err != nil {
		t.Fatal(err)
	}
	w.Close()
	w = openWatch(t, path)
	gotNodes, gotServices, err := w.Known(ctx)
	if err != nil || !reflect.DeepEqual(gotNodes, nodes) || !reflect.DeepEqual(gotServices, services) {
		t.Errorf("known: %+v\n%+v\n%v\nwant %+v\n%+v", gotNodes, gotServices, err, nodes, services)
	}
	for _, want := range []bool{true, false} {
		if ok, err := w.ForgetNode(ctx, "Gandi", "web1"); ok != want || err != nil {
			t.Errorf("ForgetNode: %v, %v; want %v", ok, err, want)
		}
	}
	gotNodes, gotServices, err = w.Known(ctx)
	if err != nil || !reflect.DeepEqual(gotNodes, nodes[1:]) || !reflect.DeepEqual(gotServices, services[1:]) {
		t.Errorf("known after forgetting: %+v %+v %v", gotNodes, gotServices, err)
	}
}

// One service that nobody describes keeps no other from being written.
func TestCatalogueKeepsWhatIsNotDescribed(t *testing.T) {
	w := openWatch(t, filepath.Join(t.TempDir(), "watch.db"))
	if err := w.PutKnown(ctx, []KnownNode{{Node: "a"}}, []KnownService{{Node: "a", Service: "b", Seen: t0}}); err != nil {
		t.Fatal(err)
	}
	if _, services, err := w.Known(ctx); err != nil || len(services) != 1 {
		t.Errorf("known: %+v, %v", services, err)
	}
}

func TestCatalogueIsBounded(t *testing.T) {
	w := openWatch(t, filepath.Join(t.TempDir(), "watch.db"))
	err := w.PutKnown(ctx, nil, []KnownService{{Node: "a", Service: "b", Described: make([]byte, maxDescribed+1)}})
	if err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("a description beyond the bound: %v", err)
	}
	many := make([]KnownNode, mostNodes+1)
	for i := range many {
		many[i].Node = fmt.Sprint(i)
	}
	if err := w.PutKnown(ctx, many, nil); err == nil {
		t.Error("more nodes than the bound were kept")
	}
	if err := w.PutKnown(ctx, many[:mostNodes], nil); err != nil {
		t.Errorf("as many nodes as the bound: %v", err)
	}
	if nodes, _, err := w.Known(ctx); len(nodes) != mostNodes || err != nil {
		t.Errorf("%d nodes, %v", len(nodes), err)
	}
}

func TestTokens(t *testing.T) {
	w := openWatch(t, filepath.Join(t.TempDir(), "watch.db"))
	a := Token{Name: "grafana", Scope: "read", Hash: sha256.Sum256([]byte("secret")), Made: t0}
	b := Token{Name: "agent", Scope: "write", Hash: sha256.Sum256([]byte("other")), Made: t0}
	for _, tt := range []struct {
		token Token
		want  bool
	}{{a, true}, {b, true}, {Token{Name: "agent", Scope: "read", Made: t0}, false}} {
		if ok, err := w.PutToken(ctx, tt.token); ok != tt.want || err != nil {
			t.Errorf("PutToken %s: %v, %v; want %v", tt.token.Name, ok, err, tt.want)
		}
	}
	if all, err := w.Tokens(ctx); err != nil || !reflect.DeepEqual(all, []Token{b, a}) {
		t.Errorf("tokens: %+v, %v", all, err)
	}
	for _, want := range []bool{true, false} {
		if ok, err := w.DropToken(ctx, "agent"); ok != want || err != nil {
			t.Errorf("DropToken: %v, %v; want %v", ok, err, want)
		}
	}
	if all, err := w.Tokens(ctx); err != nil || !reflect.DeepEqual(all, []Token{a}) {
		t.Errorf("tokens: %+v, %v", all, err)
	}
}

// A file of the version before gets what is new, and keeps what it has.
func TestWatchMigrates(t *testing.T) {
	path := filepath.Join(t.TempDir(), "watch.db")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	old := fmt.Sprintf("%s INSERT INTO number VALUES ('cursor', 7); PRAGMA application_id = %d; PRAGMA user_version = 1", watchMigrations[0], watchApplicationID)
	if _, err := db.Exec(old); err != nil {
		t.Fatal(err)
	}
	db.Close()
	w := openWatch(t, path)
	if n := reports(t, w).Numbers["cursor"]; n != 7 || w.MovedAside() != "" {
		t.Errorf("cursor %d, moved aside %q; want 7 and nothing", n, w.MovedAside())
	}
	if ok, err := w.PutToken(ctx, Token{Name: "a", Scope: "read", Made: t0}); !ok || err != nil {
		t.Errorf("a token in a migrated file: %v, %v", ok, err)
	}
}
