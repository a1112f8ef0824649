package daemon

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"tocsin"
	"tocsin/internal/api"
	"tocsin/internal/graph"
	"tocsin/internal/munin"
	"tocsin/internal/tsdb"
)

// graphSteps are the steps that a graph is drawn with: those of Munin's four, and finer ones.
var graphSteps = []time.Duration{10 * time.Second, 30 * time.Second, time.Minute, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 24 * time.Hour}

// mostPoints is how many points of a curve are drawn where nobody asks for a step: the pixels of a graph of Munin's.
const mostPoints = 400

func (s *supervisor) graph(ctx context.Context, q api.GraphQuery) (api.Graph, error) {
	q.To = q.To.Truncate(time.Second) // points are told to the second
	key, err := s.one(q.Group, q.Server)
	if err != nil {
		return api.Graph{}, err
	}
	services := s.known.shown(key)
	desc, ok := services[q.Service]
	if !ok {
		return api.Graph{}, api.Errorf(api.ExitFailed, "tocsin server "+key.name+" shows what is measured", fmt.Sprintf("server %s has no service %.80q", key.name, q.Service))
	}
	var parents []*munin.Service
	for name := q.Service; strings.Contains(name, "."); {
		name = name[:strings.LastIndexByte(name, '.')]
		if p, ok := services[name]; ok {
			parents = append(parents, p.Service)
		}
	}
	desc.Service = graph.Inherit(desc.Service, parents...)
	step := q.Step
	if step == 0 {
		step = drawingStep(q.From, q.To)
	}
	out := api.Graph{
		Schema: api.SchemaGraph, Group: key.group, Server: key.name, Service: q.Service, Step: step.Seconds(),
		Title: attr(desc.Service, "graph_title"), Unit: cmp.Or(attr(desc.Service, "graph_vlabel"), attr(desc.Service, "graph_vtitle")), Fields: []api.GraphField{},
		From: q.From, To: q.To, Attributes: attributes(desc.Attrs), Marks: []api.GraphMark{},
	}
	worked := graph.Fields(desc.Service)
	for i := range desc.Fields {
		if !worked[desc.Fields[i].Name] {
			continue // nothing is read that would not be drawn
		}
		f := api.GraphField{Name: desc.Fields[i].Name, Points: []api.GraphPoint{}, Attributes: attributes(desc.Fields[i].Attrs)}
		f.Label, _ = desc.Fields[i].Get("label")
		from, virtual := desc.sources[f.Name]
		if !virtual {
			from = []tocsin.Series{{Group: key.group, Node: key.name, Service: q.Service, Field: f.Name}}
		}
		points, err := s.sumOf(ctx, from, q.From, q.To, step)
		if err != nil {
			return api.Graph{}, asked(err)
		}
		for _, p := range points {
			f.Points = append(f.Points, api.GraphPoint{T: p.T / 1000, Avg: p.Avg, Min: p.Min, Max: p.Max})
		}
		out.Fields = append(out.Fields, f)
	}
	if q.Marks {
		if out.Marks, err = s.marks(ctx, key, q.Service, q.From, q.To); err != nil {
			return api.Graph{}, asked(err)
		}
	}
	return out, nil
}

// sumOf reads the sum of series. A part that is unknown for a time counts as 0, as in Munin, but what is unknown of all of them
// is unknown. Minimum and maximum are the sums of those of the parts: the sum was never beyond them.
func (s *supervisor) sumOf(ctx context.Context, all []tocsin.Series, from, to time.Time, step time.Duration) ([]tsdb.Point, error) {
	if len(all) == 1 {
		return s.db.Read(ctx, all[0], from, to, step)
	}
	sums := map[int64]tsdb.Point{}
	for _, one := range all {
		points, err := s.db.Read(ctx, one, from, to, step)
		if err != nil {
			return nil, err
		}
		for _, p := range points {
			sum := sums[p.T]
			sums[p.T] = tsdb.Point{T: p.T, Avg: sum.Avg + p.Avg, Min: sum.Min + p.Min, Max: sum.Max + p.Max}
		}
	}
	points := slices.Collect(maps.Values(sums))
	slices.SortFunc(points, func(a, b tsdb.Point) int { return cmp.Compare(a.T, b.T) })
	return points, nil
}

func attributes(all []munin.Attr) []api.Attribute {
	out := make([]api.Attribute, len(all))
	for i, a := range all {
		out[i] = api.Attribute{Name: a.Name, Value: a.Value}
	}
	return out
}

// Bounds of marks.
const (
	mostMarks = 50 // of a kind
	burstBans = 10 // within a step, and five times what is usual
	burstMore = 5
)

// marks are what happened on a server: bans by the dozen, restarts, upgrades of packages, alerts about it or the service. All but
// alerts are read of its measurements, so a server that is only asked has them too.
func (s *supervisor) marks(ctx context.Context, key serverKey, service string, from, to time.Time) ([]api.GraphMark, error) {
	step := drawingStep(from, to)
	read := func(service, field string) ([]tsdb.Point, error) {
		return s.db.Read(ctx, tocsin.Series{Group: key.group, Node: key.name, Service: service, Field: field}, from, to, step)
	}
	uptime, err := read("uptime", "uptime")
	if err != nil {
		return nil, err
	}
	pending, err := read("apt", "pending")
	if err != nil {
		return nil, err
	}
	marks := append(restarts(uptime), upgrades(pending)...)
	if bans, ok := s.known.shown(key)["bans"]; ok {
		var all []tocsin.Series
		for i := range bans.Fields {
			all = append(all, tocsin.Series{Group: key.group, Node: key.name, Service: "bans", Field: bans.Fields[i].Name})
		}
		points, err := s.sumOf(ctx, all, from, to, step)
		if err != nil {
			return nil, err
		}
		marks = append(marks, bursts(points, step)...)
	}
	alerts, err := s.alertMarks(ctx, key, service, from)
	if err != nil {
		return nil, err
	}
	marks = append(marks, alerts...)
	marks = slices.DeleteFunc(marks, func(m api.GraphMark) bool { return m.At.Before(from) || m.At.After(to) })
	return append([]api.GraphMark{}, marks...), nil
}

// alertMarks are the beginnings of alerts about the service or its whole server.
func (s *supervisor) alertMarks(ctx context.Context, key serverKey, service string, from time.Time) (all []api.GraphMark, err error) {
	open, err := s.w.store.OpenIncidents(ctx)
	if err != nil {
		return nil, err
	}
	ended, err := s.w.store.EndedIncidents(ctx, from, key.group, key.name, 10*mostMarks)
	if err != nil {
		return nil, err
	}
	for _, in := range append(open, ended...) {
		if in.Group == key.group && in.Node == key.name && (in.Series.Service == "" || in.Series.Service == service) && len(all) < mostMarks {
			all = append(all, api.GraphMark{At: in.Began.UTC(), Kind: api.MarkAlert, Text: fmt.Sprintf("#%d %s", in.ID, tocsin.Printable(cmp.Or(in.Label, in.Rule)))})
		}
	}
	return all, nil
}

// drawingStep is the step of a graph where nobody asks for one.
func drawingStep(from, to time.Time) time.Duration {
	for _, step := range graphSteps {
		if to.Sub(from)/step <= mostPoints {
			return step
		}
	}
	return graphSteps[len(graphSteps)-1]
}

// restarts are when the days of being up began anew.
func restarts(uptime []tsdb.Point) (all []api.GraphMark) {
	for i := 1; i < len(uptime) && len(all) < mostMarks; i++ {
		if p := uptime[i]; p.Min < uptime[i-1].Max-0.001 { // a day's thousandth: clocks are set
			at := time.UnixMilli(p.T).Add(-time.Duration(min(p.Max, uptimeMost) * 24 * float64(time.Hour)))
			if p.Max >= uptime[i-1].Max {
				at = time.UnixMilli(p.T) // in the middle of the step
			}
			all = append(all, api.GraphMark{At: at.UTC(), Kind: api.MarkReboot})
		}
	}
	return all
}

// uptimeMost is how many days of being up are believed.
const uptimeMost = 36500

// upgrades are when fewer packages waited than before.
func upgrades(pending []tsdb.Point) (all []api.GraphMark) {
	for i := 1; i < len(pending) && len(all) < mostMarks; i++ {
		if n := int(math.Round(min(pending[i-1].Min-pending[i].Min, 1e6))); n > 0 {
			all = append(all, api.GraphMark{At: time.UnixMilli(pending[i].T).UTC(), Kind: api.MarkUpgrade, N: n})
		}
	}
	return all
}

// bursts are the steps with far more bans than usual, of rates per second.
func bursts(bans []tsdb.Point, step time.Duration) (all []api.GraphMark) {
	mean := 0.0
	for _, p := range bans {
		mean += p.Avg / float64(len(bans))
	}
	least := max(burstBans/step.Seconds(), burstMore*mean)
	for _, p := range bans {
		if p.Avg >= least {
			all = append(all, api.GraphMark{At: time.UnixMilli(p.T).Add(-step / 2).UTC(), Kind: api.MarkBans, N: int(math.Round(p.Avg * step.Seconds()))})
		}
	}
	slices.SortStableFunc(all, func(a, b api.GraphMark) int { return cmp.Compare(b.N, a.N) })
	return all[:min(len(all), mostMarks)]
}
