package api

import (
	"strings"
	"testing"
	"time"

	"tocsin/internal/graph"
)

func TestGraphIsDrawn(t *testing.T) {
	at := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	g := Graph{
		Server: "web1", Service: "if_eth0", Step: 300, From: at.Add(-time.Hour), To: at,
		Attributes: []Attribute{{"graph_title", "eth0"}, {"graph_args", "--base 1000"}, {"graph_title", "the first counts"}},
		Fields: []GraphField{{Name: "up", Label: "sent", Attributes: []Attribute{{"label", "old"}, {"label", "sent"}, {"cdef", "up,8,*"}},
			Points: []GraphPoint{{T: at.Unix(), Avg: 2, Min: 1, Max: 3}}}},
		Marks: []GraphMark{{At: at.Add(-time.Minute), Kind: MarkBans, N: 12}, {At: at, Kind: "of a later version"}},
	}
	d := g.Data()
	d.Ghost = g.Points(-30 * time.Minute)
	p, err := graph.New(d, graph.Options{Marks: g.DrawnMarks(), GhostName: "before"})
	if err != nil {
		t.Fatal(err)
	}
	if r := p.Rows(); p.Title() != "eth0" || len(r) != 1 || r[0].Label != "sent" || r[0].Cur != "16.00" || r[0].Min != "8.00" || r[0].Max != "24.00" {
		t.Errorf("%s: %+v", p.Title(), r)
	}
	if d.Ghost["up"][0].T != at.Add(-30*time.Minute).Unix() {
		t.Errorf("the ghost stands at %v", d.Ghost["up"])
	}
	var svg strings.Builder
	if err := p.SVG(&svg); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"12 bans", "before", "stroke-dasharray"} {
		if !strings.Contains(svg.String(), want) {
			t.Errorf("the picture does not say %q", want)
		}
	}
}
