package main

import (
	"bytes"
	"context"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tocsin/internal/api"
	"tocsin/internal/daemon"
)

// TestPicture draws what a watch process tells.
func TestPicture(t *testing.T) {
	state, err := os.MkdirTemp("", "tocsin") // short, for the socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(state) })
	path := daemon.WatchSocket(state)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := api.Listen(path, -1)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	var asked []api.GraphQuery
	h := api.WatchHandler(api.WatchOperations{}, &api.SuperviseOperations{Graph: func(_ context.Context, q api.GraphQuery) (api.Graph, error) {
		asked = append(asked, q)
		g := api.Graph{Server: q.Server, Service: q.Service, Step: 1800, From: q.From, To: q.To, Attributes: []api.Attribute{{Name: "graph_title", Value: "Load average"}},
			Fields: []api.GraphField{{Name: "load", Attributes: []api.Attribute{{Name: "label", Value: "load"}, {Name: "cdef", Value: "load,nonsense"}}}}}
		for at := q.From.Unix() - q.From.Unix()%1800 + 1800; at <= q.To.Unix(); at += 1800 {
			g.Fields[0].Points = append(g.Fields[0].Points, api.GraphPoint{T: at, Avg: 1, Min: 0.5, Max: 2})
		}
		return g, nil
	}})
	go func() { done <- api.Serve(ctx, l, h) }()
	draw := func(args ...string) (stderr string) {
		t.Helper()
		var out, errs bytes.Buffer
		if code := run(append([]string{"--state", state, "graph", "web1", "load", "--range", "week"}, args...), nil, &out, &errs); code != 0 {
			t.Fatalf("%q: code %d\n%s", args, code, &errs)
		}
		return errs.String()
	}
	dir := t.TempDir()
	notes := draw("-o", filepath.Join(dir, "x.svg"), "--behind", "7d", "--lang", "fr", "--dark", "--width", "700")
	if !strings.Contains(notes, "nonsense") {
		t.Errorf("a cdef that is not understood: %q", notes)
	}
	svg, err := os.ReadFile(filepath.Join(dir, "x.svg"))
	if err != nil {
		t.Fatal(err)
	}
	picture := strings.ReplaceAll(string(svg), "\u202f", " ")
	for _, want := range []string{"7 j avant", "Load average", "web1", "moyenne", `width="700"`} {
		if !strings.Contains(picture, want) {
			t.Errorf("the SVG does not say %q", want)
		}
	}
	draw("-o", filepath.Join(dir, "x.png"))
	f, err := os.Open(filepath.Join(dir, "x.png"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := png.Decode(f); err != nil {
		t.Error(err)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if len(asked) != 3 || asked[0].To.Sub(asked[0].From) != 12000*time.Minute || asked[0].To.Sub(asked[1].To) != 7*24*time.Hour || !asked[0].Marks || asked[1].Marks {
		t.Errorf("asked for %+v", asked)
	}
}
