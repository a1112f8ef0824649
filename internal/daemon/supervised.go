package daemon

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"tocsin"
	"tocsin/internal/api"
	"tocsin/internal/munin"
	"tocsin/internal/probe"
	"tocsin/internal/tsdb"
)

// This file is what the watch process answers about what it supervises.

// supervision are the operations of the session that runs.
func (w *watcher) supervision() *api.SuperviseOperations {
	return &api.SuperviseOperations{
		Servers: func(context.Context) (api.Servers, error) { return with(w, (*supervisor).servers) },
		Server: func(_ context.Context, group, name string) (api.ServerDetail, error) {
			return with(w, func(s *supervisor) (api.ServerDetail, error) { return s.server(group, name) })
		},
		Forget: func(ctx context.Context, group, name string) (api.Change, error) {
			return with(w, func(s *supervisor) (api.Change, error) { return s.forget(ctx, group, name) })
		},
		Probes: func(context.Context) (api.Probes, error) { return with(w, (*supervisor).probes) },
		Graph: func(ctx context.Context, q api.GraphQuery) (api.Graph, error) {
			return with(w, func(s *supervisor) (api.Graph, error) { return s.graph(ctx, q) })
		},
		Tokens: func(ctx context.Context) (api.Tokens, error) {
			return with(w, func(s *supervisor) (api.Tokens, error) { return s.keys.list(ctx) })
		},
		AddToken: func(ctx context.Context, r api.TokenRequest) (api.NewToken, error) {
			return with(w, func(s *supervisor) (api.NewToken, error) { return s.keys.add(ctx, r) })
		},
		DropToken: func(ctx context.Context, r api.TokenRequest) (api.Change, error) {
			return with(w, func(s *supervisor) (api.Change, error) { return s.keys.drop(ctx, r) })
		},
		Import: func(ctx context.Context, body io.Reader) (api.History, error) {
			return with(w, func(s *supervisor) (api.History, error) { return s.importHistory(ctx, body) })
		},
		Questions: func() (*api.Samples, error) {
			return with(w, func(s *supervisor) (*api.Samples, error) { return s.questions(), nil })
		},
	}
}

// with asks the supervisor of the session that runs.
func with[T any](w *watcher, f func(*supervisor) (T, error)) (v T, err error) {
	s, err := w.current()
	if err != nil {
		return v, err
	}
	if s.supFailed != nil {
		return v, api.Errorf(api.ExitFailed, "look at the log; a reload tries again", "nothing is supervised: "+tocsin.Printable(s.supFailed.Error()))
	}
	if s.sup == nil {
		return v, api.Errorf(api.ExitUnreachable, "write enabled = true under [watch], then tocsin reload", "nothing is supervised: [watch] is switched off")
	}
	return f(s.sup)
}

func (s *supervisor) servers() (api.Servers, error) {
	out := api.Servers{Schema: api.SchemaServers, Servers: []api.Server{}}
	c := s.known
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, k := range c.servers {
		out.Servers = append(out.Servers, s.wireServer(key, k))
	}
	slices.SortFunc(out.Servers, func(a, b api.Server) int {
		return cmp.Or(strings.Compare(a.Group, b.Group), strings.Compare(a.Name, b.Name))
	})
	return out, nil
}

func (s *supervisor) wireServer(key serverKey, k *knownServer) api.Server {
	state := "ok"
	switch {
	case !k.Since.IsZero():
		state = "unknown"
	case key != s.own && k.Address == "" && time.Since(k.Seen) > 10*time.Minute:
		state = "idle"
	}
	return api.Server{Group: key.group, Name: key.name, Address: k.Address, State: state, Seen: api.Time(k.Seen), Since: api.Time(k.Since), Why: k.Why, Services: len(k.services)}
}

// one is the only server that is meant by a name.
func (s *supervisor) one(group, name string) (serverKey, error) {
	switch keys := s.known.find(group, name); len(keys) {
	case 1:
		return keys[0], nil
	case 0:
		return serverKey{}, api.Errorf(api.ExitFailed, "tocsin servers shows which there are", fmt.Sprintf("no server %.80q is known", name))
	default:
		return serverKey{}, api.Errorf(api.ExitUsage, fmt.Sprintf("write %s/%s", keys[0].group, name), fmt.Sprintf("%d groups have a server %.80q", len(keys), name))
	}
}

func (s *supervisor) server(group, name string) (api.ServerDetail, error) {
	key, err := s.one(group, name)
	if err != nil {
		return api.ServerDetail{}, err
	}
	last, err := s.lastOf(key)
	if err != nil {
		return api.ServerDetail{}, err
	}
	c := s.known
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.servers[key]
	if k == nil {
		return api.ServerDetail{}, api.Errorf(api.ExitTryLater, "", "it was forgotten just now")
	}
	out := api.ServerDetail{Schema: api.SchemaServer, Server: s.wireServer(key, k), Details: []api.Service{}}
	for name, v := range k.services {
		d := api.Service{Name: name, Title: attr(v.desc, "graph_title"), Category: attr(v.desc, "graph_category"), Seen: api.Time(v.read), Fields: []api.Field{}}
		for i := range v.desc.Fields {
			f := api.Field{Name: v.desc.Fields[i].Name}
			f.Label, _ = v.desc.Fields[i].Get("label")
			if l, ok := last[name+"\x00"+f.Name]; ok {
				f.Value, f.At = &l.V, api.Time(time.UnixMilli(l.T))
			}
			d.Fields = append(d.Fields, f)
		}
		out.Details = append(out.Details, d)
	}
	slices.SortFunc(out.Details, func(a, b api.Service) int {
		return cmp.Or(strings.Compare(a.Category, b.Category), strings.Compare(a.Name, b.Name))
	})
	return out, nil
}

func attr(s *munin.Service, name string) string {
	v, _ := s.Get(name)
	return v
}

// lastOf is the newest values of a server by service and field.
func (s *supervisor) lastOf(key serverKey) (map[string]tsdb.LastValue, error) {
	found, err := s.db.Last(context.Background(), matcher("__name__", tsdb.Metric), matcher("group", key.group), matcher("node", key.name))
	last := make(map[string]tsdb.LastValue, len(found))
	for _, v := range found {
		last[v.Labels.Get("service")+"\x00"+v.Labels.Get("field")] = v
	}
	return last, err
}

func matcher(name, value string) *labels.Matcher {
	return labels.MustNewMatcher(labels.MatchEqual, name, value)
}

func (s *supervisor) forget(ctx context.Context, group, name string) (api.Change, error) {
	key, err := s.one(group, name)
	if err != nil {
		return api.Change{}, err
	}
	if key == s.own {
		return api.Change{}, api.Errorf(api.ExitUsage, "write enabled = false under [watch] to supervise it no more", "that is this machine")
	}
	if _, err := s.known.forget(ctx, key); err != nil {
		return api.Change{}, err
	}
	return api.Change{Schema: api.SchemaChange, Changed: []string{name}, Text: "server " + name + " is forgotten until it answers again; its history stays"}, nil
}

func (s *supervisor) probes() (api.Probes, error) {
	out := api.Probes{Schema: api.SchemaProbes, Probes: []api.Probe{}}
	plugins := s.pluginStates()
	for _, st := range s.set.States() {
		p := wireProbe("built-in", &st)
		p.Doubles = slices.DeleteFunc(p.Doubles, func(name string) bool { return !runsHere(plugins, name) })
		out.Probes = append(out.Probes, p)
	}
	out.Probes = append(out.Probes, plugins...)
	for _, st := range s.nodes.States() {
		p := wireProbe("node", &st.State)
		p.Name = st.Node
		for _, plugin := range slices.Sorted(maps.Keys(st.Trouble)) {
			p.Why = strings.TrimPrefix(p.Why+"; "+tocsin.Printable(plugin+": "+st.Trouble[plugin]), "; ")
		}
		out.Probes = append(out.Probes, p)
	}
	return out, nil
}

// runsHere says whether a plugin is run here; a name that ends in "_" stands for all that begin so.
func runsHere(plugins []api.Probe, name string) bool {
	return slices.ContainsFunc(plugins, func(p api.Probe) bool {
		return p.Name == name || strings.HasSuffix(name, "_") && strings.HasPrefix(p.Name, name)
	})
}

// pluginStates are how Munin's plugins do.
func (s *supervisor) pluginStates() (all []api.Probe) {
	if s.plugins == nil {
		return nil
	}
	states, _, _ := s.plugins.States() // where nobody can tell, there are none
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range states {
		p := wireProbe("plugin", &st)
		if len(p.Services) > 0 && !slices.ContainsFunc(p.Services, func(name string) bool { return !s.builtIn[name] }) {
			p.Doubles = append(p.Doubles, "a built-in probe, whose values are kept")
		}
		all = append(all, p)
	}
	return all
}

func wireProbe(kind string, st *probe.State) api.Probe {
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	return api.Probe{
		Name: st.Name, Kind: kind, On: st.On, Why: tocsin.Printable(st.Why), Every: st.Interval.Seconds(), Cost: ms(st.CPU), Longest: ms(st.Longest),
		Readings: st.Readings, Failures: st.Failures, Skipped: st.Late,
		Doubles: append([]string{}, st.Doubles...), Services: append([]string{}, st.Services...),
	}
}

// graphSteps are the steps that a graph is drawn with: those of Munin's four, and finer ones.
var graphSteps = []time.Duration{10 * time.Second, 30 * time.Second, time.Minute, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 24 * time.Hour}

// mostPoints is how many points of a curve are drawn where nobody asks for a step: the pixels of a graph of Munin's.
const mostPoints = 400

func (s *supervisor) graph(ctx context.Context, q api.GraphQuery) (api.Graph, error) {
	key, err := s.one(q.Group, q.Server)
	if err != nil {
		return api.Graph{}, err
	}
	s.known.mu.Lock()
	var desc *munin.Service
	if k := s.known.servers[key]; k != nil && k.services[q.Service] != nil {
		desc = k.services[q.Service].desc
	}
	s.known.mu.Unlock()
	if desc == nil {
		return api.Graph{}, api.Errorf(api.ExitFailed, "tocsin server "+key.name+" shows what is measured", fmt.Sprintf("server %s has no service %.80q", key.name, q.Service))
	}
	step := q.Step
	for i := 0; step == 0; i++ {
		if i == len(graphSteps)-1 || q.To.Sub(q.From)/graphSteps[i] <= mostPoints {
			step = graphSteps[i]
		}
	}
	out := api.Graph{
		Schema: api.SchemaGraph, Group: key.group, Server: key.name, Service: q.Service, Step: step.Seconds(),
		Title: attr(desc, "graph_title"), Unit: cmp.Or(attr(desc, "graph_vlabel"), attr(desc, "graph_vtitle")), Fields: []api.GraphField{},
	}
	for i := range desc.Fields {
		f := api.GraphField{Name: desc.Fields[i].Name, Points: []api.GraphPoint{}}
		f.Label, _ = desc.Fields[i].Get("label")
		points, err := s.db.Read(ctx, tocsin.Series{Group: key.group, Node: key.name, Service: q.Service, Field: f.Name}, q.From, q.To, step)
		if err != nil {
			return api.Graph{}, asked(err)
		}
		for _, p := range points {
			f.Points = append(f.Points, api.GraphPoint{T: p.T / 1000, Avg: p.Avg, Min: p.Min, Max: p.Max})
		}
		out.Fields = append(out.Fields, f)
	}
	return out, nil
}

// mostBansRead is how many bans of a day are counted; what is over is not in the graphs.
const mostBansRead = 10_000

// guardNumbers asks the guard what it did, for the graphs of bans.
func (s *supervisor) guardNumbers(ctx context.Context) (*probe.Guard, error) {
	status, err := s.w.guard.Status(ctx)
	if err != nil {
		return nil, err
	}
	day, err := s.w.guard.Bans(ctx, api.BansQuery{All: true, Since: 24 * time.Hour, Limit: mostBansRead})
	if err != nil {
		return nil, err
	}
	now, err := s.w.guard.Bans(ctx, api.BansQuery{Limit: mostBansRead})
	if err != nil {
		return nil, err
	}
	lists, err := s.w.guard.Lists(ctx)
	if err != nil {
		return nil, err
	}
	g := &probe.Guard{}
	for _, j := range status.Jails {
		g.Jails = append(g.Jails, probe.GuardJail{Name: j.Name, Failures: uint64(j.Failures), Logins: uint64(j.Logins), Bans: uint64(j.Bans)})
	}
	yesterday := time.Now().Add(-24 * time.Hour)
	older := slices.DeleteFunc(now.Bans, func(b api.Ban) bool { return b.At.After(yesterday) })
	for _, b := range slices.Concat(day.Bans, older) {
		p, _ := netip.ParsePrefix(b.Prefix) // none: the id is no address
		g.Bans = append(g.Bans, probe.GuardBan{Jail: b.Jail, Prefix: p, Ports: b.Ports, At: b.At, Active: b.Active})
	}
	for _, l := range lists.Lists {
		g.Lists = append(g.Lists, probe.GuardList{Name: l.Name, Entries: l.Entries, Packets: l.Packets})
	}
	if ses := s.w.now.Load(); ses != nil && ses.reporter != nil {
		st := ses.reportState()
		g.Reports = probe.GuardReports{On: true, Sent: uint64(st.Sent), Waiting: st.Queued + st.Held}
	}
	return g, nil
}
