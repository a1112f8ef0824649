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
		Notify:  w.notifying(),
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
		Warnings: w.notedWarnings(),
		Questions: func() (*api.Samples, error) {
			return with(w, func(s *supervisor) (*api.Samples, error) { return s.questions(), nil })
		},
		Accounts: w.accounts(),
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
	case !k.Since.IsZero(), k.Address != "" && k.Seen.IsZero():
		state = "unknown"
	case key == s.own || k.Address != "":
	case k.isVirtual():
		state = "virtual"
	case k.Seen.Before(s.began) || time.Since(k.Seen) > 10*time.Minute:
		state = "idle"
	}
	return api.Server{Group: key.group, Name: key.name, Address: k.Address, State: state, Seen: api.Time(k.Seen), Since: api.Time(k.Since), Why: k.Why, Services: len(k.services)}
}

// one is the only server that is meant by a name. One that is still read goes before those that are not: a server that was
// given another group.
func (s *supervisor) one(group, name string) (serverKey, error) {
	keys := s.known.find(group, name)
	if len(keys) == 0 {
		return serverKey{}, api.Errorf(api.ExitFailed, "tocsin servers shows which there are", fmt.Sprintf("no server %.80q is known", name))
	}
	if len(keys) == 1 {
		return keys[0], nil
	}
	if live := slices.DeleteFunc(slices.Clone(keys), s.isIdle); len(live) == 1 {
		return live[0], nil
	}
	return serverKey{}, api.Errorf(api.ExitUsage, fmt.Sprintf("write %s/%s or %[3]s/%[2]s", keys[0].group, name, keys[1].group), fmt.Sprintf("%d groups have a server %.80q", len(keys), name))
}

func (s *supervisor) isIdle(key serverKey) bool {
	s.known.mu.Lock()
	defer s.known.mu.Unlock()
	k := s.known.servers[key]
	return k != nil && s.wireServer(key, k).State == "idle"
}

func (s *supervisor) server(group, name string) (api.ServerDetail, error) {
	key, err := s.one(group, name)
	if err != nil {
		return api.ServerDetail{}, err
	}
	shown, last := s.known.shown(key), s.lastValues()
	if err := last.read(key); err != nil {
		return api.ServerDetail{}, err
	}
	s.known.mu.Lock()
	k := s.known.servers[key]
	if k == nil {
		s.known.mu.Unlock()
		return api.ServerDetail{}, api.Errorf(api.ExitTryLater, "", "it was forgotten just now")
	}
	out := api.ServerDetail{Schema: api.SchemaServer, Server: s.wireServer(key, k), Details: []api.Service{}}
	s.known.mu.Unlock()
	for name, v := range shown {
		d := api.Service{Name: name, Title: attr(v.Service, "graph_title"), Category: attr(v.Service, "graph_category"), Virtual: v.virtual, Seen: api.Time(v.read), Fields: []api.Field{}}
		for i := range v.Fields {
			f := api.Field{Name: v.Fields[i].Name}
			f.Label, _ = v.Fields[i].Get("label")
			from, virtual := v.sources[f.Name]
			if virtual {
				f.Expr = exprOf(from)
			} else {
				from = []tocsin.Series{{Group: key.group, Node: key.name, Service: name, Field: f.Name}}
			}
			l, ok, err := last.sum(from)
			if err != nil {
				return api.ServerDetail{}, err
			}
			if ok {
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

// exprOf asks for the sum of series in PromQL; "" without any.
func exprOf(all []tocsin.Series) string {
	var b strings.Builder
	for i, s := range all {
		if i > 0 {
			b.WriteString(" or ")
		}
		fmt.Fprintf(&b, "%s{group=%q,node=%q,service=%q,field=%q}", tsdb.Metric, s.Group, s.Node, s.Service, s.Field)
	}
	if len(all) < 2 {
		return b.String()
	}
	return "sum(" + b.String() + ")"
}

// lastValues are the newest values of series, read server by server.
type lastValues struct {
	db      *tsdb.DB
	servers map[serverKey]map[[2]string]tsdb.LastValue // by service and field
	since   int64                                      // older ones do not count for sums, Unix milliseconds
}

func (s *supervisor) lastValues() *lastValues {
	return &lastValues{db: s.db, servers: map[serverKey]map[[2]string]tsdb.LastValue{}}
}

// read reads those of a server, once.
func (l *lastValues) read(key serverKey) error {
	if l.servers[key] != nil {
		return nil
	}
	found, err := l.db.Last(context.Background(), matcher("__name__", tsdb.Metric), matcher("group", key.group), matcher("node", key.name))
	last := make(map[[2]string]tsdb.LastValue, len(found))
	for _, v := range found {
		last[[2]string{v.Labels.Get("service"), v.Labels.Get("field")}] = v
	}
	l.servers[key] = last
	return err
}

// sum is the sum of the newest values of series, with the newest of their times; ok is false if none has a value.
func (l *lastValues) sum(all []tocsin.Series) (sum tsdb.LastValue, ok bool, err error) {
	for _, s := range all {
		key := serverKey{s.Group, s.Node}
		if err := l.read(key); err != nil {
			return sum, false, err
		}
		if v, known := l.servers[key][[2]string{s.Service, s.Field}]; known && v.T >= l.since {
			sum.V += v.V
			sum.T = max(sum.T, v.T)
			ok = true
		}
	}
	return sum, ok, nil
}

func matcher(name, value string) *labels.Matcher {
	return labels.MustNewMatcher(labels.MatchEqual, name, value)
}

func (s *supervisor) forget(ctx context.Context, group, name string) (api.Change, error) {
	key, err := s.one(group, name)
	if err != nil {
		return api.Change{}, err
	}
	if s.known.virtual(key) {
		return api.Change{}, api.Errorf(api.ExitUsage, "take it out of "+s.conf.Watch.MuninConf+", then tocsin reload", "munin.conf alone knows of that server")
	}
	if key == s.own {
		return api.Change{}, api.Errorf(api.ExitUsage, "write enabled = false under [watch] to supervise it no more", "that is this machine")
	}
	if _, err := s.known.forget(ctx, key); err != nil {
		return api.Change{}, err
	}
	s.alerts.forget(key)
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
	for _, r := range s.known.repeated(s.own) {
		if i := slices.IndexFunc(out.Probes, func(p api.Probe) bool { return p.Name == r[0] }); i >= 0 {
			out.Probes[i].Repeats = append(out.Probes[i].Repeats, api.Repeat{Probe: r[0], Of: r[1]})
		}
	}
	for _, st := range s.nodes.States() {
		p := wireProbe("node", &st.State)
		p.Name = st.Node
		for _, plugin := range slices.Sorted(maps.Keys(st.Trouble)) {
			p.Why = strings.TrimPrefix(p.Why+"; "+tocsin.Printable(plugin+": "+st.Trouble[plugin]), "; ")
		}
		for _, r := range s.known.repeated(serverKey{st.Group, st.Node}) {
			p.Repeats = append(p.Repeats, api.Repeat{Probe: r[0], Of: r[1]})
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
		Doubles: append([]string{}, st.Doubles...), Repeats: []api.Repeat{}, Services: append([]string{}, st.Services...),
	}
}

// guardNumbers asks the guard what it did, for the graphs of bans.
func (s *supervisor) guardNumbers(ctx context.Context) (*probe.Guard, error) {
	status, err := s.w.guard.Status(ctx)
	if err != nil {
		return nil, err
	}
	tally, err := s.w.guard.Tally(ctx, s.conf.Watch.Country != "")
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
	for _, c := range tally.Counts {
		g.Bans = append(g.Bans, probe.GuardBans{Jail: c.Jail, Ports: c.Ports, Active: c.Active, Day: c.Day})
	}
	g.Addrs = func(yield func(probe.GuardAddr) bool) {
		tally.Addrs.All(func(addr netip.Addr, bits api.PackedBits) bool {
			return yield(probe.GuardAddr{Addr: addr, Active: bits.Active(), Day: bits.Day()})
		})
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
