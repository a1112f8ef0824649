package daemon

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"tocsin"
	"tocsin/internal/config"
	"tocsin/internal/munin"
	"tocsin/internal/probe"
	"tocsin/internal/tsdb"
)

// This file is how we speak with other servers in Munin's language: their nodes are asked, and an old master may ask us.

// nodeTick is how often it is noted which nodes answer.
const nodeTick = 10 * time.Second

// nodesOf are the nodes that the configuration names, its own and those of munin.conf. What of them cannot be used is told;
// the others are asked.
func (s *supervisor) nodesOf(c *config.Watch) []probe.Node {
	var all []probe.Node
	for i := range c.Nodes {
		n := &c.Nodes[i]
		if (serverKey{n.Group, n.Name}) == s.own {
			s.log.Error("a node is not asked", "node", n.Name, "err", fmt.Errorf("%s: this machine has that name and group itself", n.Pos("name")))
			continue
		}
		a, err := munin.ParseAddress(n.Address)
		if err != nil {
			s.log.Error("a node is not asked", "node", n.Name, "err", fmt.Errorf("%s: address %w", n.Pos("address"), err))
			continue
		}
		dial, err := dialOptions(n)
		if err != nil {
			s.log.Error("a node is not asked", "node", n.Name, "err", err)
			continue
		}
		all = append(all, probe.Node{Group: n.Group, Name: n.Name, Address: a, AskBanner: true, Virtual: true, Interval: n.Interval, Dial: dial})
	}
	if c.MuninConf == "" {
		return all
	}
	conf, err := munin.ReadMasterConf(c.MuninConf)
	if err != nil {
		s.log.Error("the nodes of munin.conf are not asked", "err", err)
		return all
	}
	s.master = conf
	nodes, problems := probe.NodesOf(conf)
	for _, p := range slices.Concat(conf.Problems, problems) {
		s.log.Warn("munin.conf is not understood whole", "file", p.File, "line", p.Line, "err", tocsin.Printable(p.Msg))
	}
	for _, n := range nodes {
		same := func(o probe.Node) bool { return o.Group == n.Group && o.Name == n.Name }
		if slices.ContainsFunc(all, same) {
			continue // tocsin.toml says it better
		}
		if (serverKey{n.Group, n.Name}) == s.own {
			s.log.Info("a node of munin.conf is this machine, which is read without it", "node", n.Name)
			continue // the same curves twice would be neither's
		}
		all = append(all, n)
	}
	return all
}

// dialOptions reads the files of TLS that a node names.
func dialOptions(n *config.Node) (o munin.DialOptions, err error) {
	if !n.TLS {
		return o, nil
	}
	o.TLS.Mode = munin.TLSEnabled
	if n.CA != "" {
		text, err := os.ReadFile(n.CA)
		if err != nil {
			return o, fmt.Errorf("%s: tls_ca: %w", n.Pos("tls_ca"), err)
		}
		o.TLS.Roots, o.TLS.Verify = x509.NewCertPool(), true
		if !o.TLS.Roots.AppendCertsFromPEM(text) {
			return o, fmt.Errorf("%s: tls_ca: no certificate in %s", n.Pos("tls_ca"), n.CA)
		}
	}
	if n.Certificate != "" {
		pair, err := tls.LoadX509KeyPair(n.Certificate, n.Key)
		if err != nil {
			return o, fmt.Errorf("%s: tls_certificate: %w", n.Pos("tls_certificate"), err)
		}
		o.TLS.Certificate = &pair
	}
	return o, nil
}

// newestOf is when the newest sample of a server was taken, zero if there is none.
func (s *supervisor) newestOf(group, node string) (newest time.Time) {
	all, err := s.db.Last(context.Background(), matcher("__name__", tsdb.Metric), matcher("group", group), matcher("node", node))
	if err != nil {
		return newest // then it is asked for more than is needed
	}
	for _, v := range all {
		if t := time.UnixMilli(v.T); t.After(newest) {
			newest = t
		}
	}
	return newest
}

// noteNodes keeps in the catalogue which nodes answer, until ctx ends.
func (s *supervisor) noteNodes(ctx context.Context) {
	for {
		for _, n := range s.nodes.States() {
			key := serverKey{n.Group, n.Node}
			if n.Readings == 0 {
				s.known.willAsk(key, n.Address)
				continue
			}
			s.known.asked(key, n.Address, n.FailedAt, tocsin.Printable(n.Why))
		}
		if !pause(ctx, nodeTick) {
			return
		}
	}
}

// beNode answers an old master, and tries again where it cannot.
func (s *supervisor) beNode(ctx context.Context) {
	server, err := munin.NewServer(&munin.Node{Name: s.own.name, Version: s.w.o.Version, Plugins: s.asPlugins, Read: s.asPlugin, Spool: s.asSpool},
		munin.ServeOptions{Allow: s.conf.Watch.MuninAllow, TLS: munin.TLS{Mode: munin.TLSAuto}, Log: s.log})
	if err != nil {
		s.log.Error("no master can ask us", "err", err)
		return
	}
	for ctx.Err() == nil {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.conf.Watch.MuninNode)
		if err == nil {
			err = server.Serve(ctx, l)
		}
		if err != nil && ctx.Err() == nil {
			s.log.Error("no master can ask us", "err", err)
			pause(ctx, sessionAgain)
		}
	}
}

// asPlugins are our services as a munin-node lists plugins: a service with children is one of several graphs.
func (s *supervisor) asPlugins() []munin.Plugin {
	c := s.known
	c.mu.Lock()
	defer c.mu.Unlock()
	parents := map[string]*munin.Plugin{}
	for name, k := range c.servers[s.own].services {
		parent, _, child := strings.Cut(name, ".")
		if k.desc == nil || k.values == nil {
			continue // drawn of others, or not read since we began
		}
		p := parents[parent]
		if p == nil {
			p = &munin.Plugin{Name: parent}
			parents[parent] = p
		}
		p.Multigraph = p.Multigraph || child
	}
	all := make([]munin.Plugin, 0, len(parents))
	for _, p := range parents {
		all = append(all, *p)
	}
	slices.SortFunc(all, func(a, b munin.Plugin) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// asPlugin is one of them with its values as they were read last.
func (s *supervisor) asPlugin(_ context.Context, plugin string) (services []*munin.Service, values []munin.Value, err error) {
	c := s.known
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, k := range c.servers[s.own].services {
		if k.values == nil || name != plugin && !strings.HasPrefix(name, plugin+".") {
			continue
		}
		services = append(services, k.desc)
		for _, v := range k.values {
			v.Service = cmp.Or(v.Service, name)
			values = append(values, v)
		}
	}
	if services == nil {
		return nil, nil, munin.ErrUnknownService
	}
	slices.SortFunc(services, func(a, b *munin.Service) int { return cmp.Compare(a.Name, b.Name) })
	return services, values, nil
}

// What an old master gets of our history. It draws steps of five minutes, and keeps a day finer than an hour.
const (
	spoolDay    = 24 * time.Hour   // at most
	spoolRecent = 2 * time.Hour    // if it asked within that it gets minutes; else five of them at a time, but for the last ones
	spoolSettle = 90 * time.Second // until a minute is over for plugins too, which are read once in it
)

// asSpool gives away what is stored of this machine since then, in steps that are over. What is stored are rates, so counters
// are described as gauges: behind a master's RRD files that is the same.
//
// A master that gets nothing takes the node for dead, so the first one to ask, when no step is over yet, gets the newest values.
func (s *supervisor) asSpool(ctx context.Context, since int64, each func(*munin.Service, []munin.Value) error) error {
	now := time.Now()
	over := now.Add(-spoolSettle).Truncate(time.Minute)
	from, recent := time.Unix(min(max(since, 0), now.Unix()), 0), time.Unix(0, 0)
	if now.Sub(from) > spoolRecent {
		recent = over.Truncate(5 * time.Minute)
	}
	if now.Sub(from) > spoolDay {
		from = now.Add(-spoolDay)
	}
	services, given := s.readServices(), false
	for _, desc := range services {
		var values []munin.Value
		for _, f := range desc.Fields {
			for _, span := range []struct {
				from, to time.Time
				step     time.Duration
			}{{from, recent, 5 * time.Minute}, {latest(from, recent), over, time.Minute}} {
				if !span.to.After(span.from) {
					continue
				}
				points, err := s.db.Read(ctx, tocsin.Series{Group: s.own.group, Node: s.own.name, Service: desc.Name, Field: f.Name}, span.from, span.to, span.step)
				if err != nil {
					return err
				}
				for _, p := range points {
					values = append(values, munin.Value{Field: f.Name, At: p.T / 1000, V: p.Avg})
				}
			}
		}
		if len(values) == 0 {
			continue
		}
		given = true
		if err := each(asGauges(desc), values); err != nil {
			return err
		}
	}
	if given {
		return nil
	}
	return s.asNewest(services, since, each)
}

// asNewest gives away the newest value of each field, of those that are newer than since.
func (s *supervisor) asNewest(services []*munin.Service, since int64, each func(*munin.Service, []munin.Value) error) error {
	newest := s.lastValues()
	if err := newest.read(s.own); err != nil {
		return err
	}
	for _, desc := range services {
		var values []munin.Value
		for _, f := range desc.Fields {
			v, ok := newest.servers[s.own][[2]string{desc.Name, f.Name}]
			if at := v.T / 1000; ok && at > since {
				values = append(values, munin.Value{Field: f.Name, At: at, V: v.V})
			}
		}
		if len(values) == 0 {
			continue
		}
		if err := each(asGauges(desc), values); err != nil {
			return err
		}
	}
	return nil
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// readServices are the services of this machine that were read since we began, by name.
func (s *supervisor) readServices() (all []*munin.Service) {
	c := s.known
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range c.servers[s.own].services {
		if k.desc != nil && k.values != nil {
			all = append(all, k.desc)
		}
	}
	slices.SortFunc(all, func(a, b *munin.Service) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// asGauges is the service with rates in the place of counters.
func asGauges(s *munin.Service) *munin.Service {
	own := *s
	own.Fields = slices.Clone(s.Fields)
	for i := range own.Fields {
		f := &own.Fields[i]
		if f.Type() != munin.Gauge {
			f.Attrs = slices.DeleteFunc(slices.Clone(f.Attrs), func(a munin.Attr) bool { return a.Name == "type" })
			f.Attrs = append(f.Attrs, munin.Attr{Name: "type", Value: "GAUGE"})
		}
	}
	return &own
}
