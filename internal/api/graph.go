package api

import (
	"time"

	"tocsin/internal/graph"
	"tocsin/internal/munin"
)

// Data is what is to be drawn, as the room that draws wants it.
func (g *Graph) Data() graph.Data {
	s := &munin.Service{Name: g.Service, Attrs: attrs(g.Attributes)}
	for _, f := range g.Fields {
		s.Fields = append(s.Fields, munin.Field{Name: f.Name, Attrs: attrs(f.Attributes)})
	}
	return graph.Data{Service: s, From: g.From, To: g.To, Step: time.Duration(g.Step * float64(time.Second)), Points: g.Points(0)}
}

func attrs(all []Attribute) []munin.Attr {
	out := make([]munin.Attr, len(all))
	for i, a := range all {
		out[i] = munin.Attr{Name: a.Name, Value: a.Value}
	}
	return out
}

// Points are those of each field, moved to a later time: what was a week ago is drawn behind what is.
func (g *Graph) Points(later time.Duration) map[string][]graph.Point {
	out := make(map[string][]graph.Point, len(g.Fields))
	for _, f := range g.Fields {
		points := make([]graph.Point, len(f.Points))
		for i, p := range f.Points {
			points[i] = graph.Point{T: p.T + int64(later/time.Second), Avg: p.Avg, Min: p.Min, Max: p.Max}
		}
		out[f.Name] = points
	}
	return out
}

// DrawnMarks are the marks, as the room that draws wants them.
func (g *Graph) DrawnMarks() (all []graph.Mark) {
	kinds := map[string]graph.MarkKind{MarkBans: graph.MarkBans, MarkReboot: graph.MarkReboot, MarkUpgrade: graph.MarkUpgrade, MarkAlert: graph.MarkAlert}
	for _, m := range g.Marks {
		if kind, ok := kinds[m.Kind]; ok {
			all = append(all, graph.Mark{At: m.At, Kind: kind, N: m.N, Text: m.Text})
		}
	}
	return all
}
