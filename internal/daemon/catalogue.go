package daemon

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"tocsin"
	"tocsin/internal/munin"
	"tocsin/internal/probe"
	"tocsin/internal/store"
)

// Bounds and rhythm of the catalogue.
const (
	mostServers    = 10_000
	mostOfServer   = 5_000 // services
	catalogueEvery = time.Minute
	seenAgain      = time.Hour // how often it is written that a service was read again
)

// serverKey names a server.
type serverKey struct{ group, name string }

func (a serverKey) compare(b serverKey) int {
	return cmp.Or(strings.Compare(a.group, b.group), strings.Compare(a.name, b.name))
}

// catalogue is what is known of servers and their services, whether they answer or not. It is kept in the watch's file, for
// a server that vanished is just the one that somebody looks for.
type catalogue struct {
	store  *store.Watch
	log    *slog.Logger
	master *munin.MasterConf // goes before what nodes say; nil: none

	mu      sync.Mutex
	servers map[serverKey]*knownServer
}

type knownServer struct {
	store.KnownNode
	services map[string]*knownService
	repeats  store.Repeats
	changed  bool // since it was written
}

type knownService struct {
	desc    *munin.Service             // as its source says; nil: munin.conf alone knows of it
	whole   *munin.Service             // with what munin.conf says; what is shown
	sources map[string][]tocsin.Series // of the fields that are drawn of others
	values  []munin.Value              // as they were read last; nil if they were not since we began
	read    time.Time
	written time.Time // what was written as the time it was read; zero: the description is not written yet
}

// isVirtual says whether munin.conf alone knows of the server: all its graphs are drawn of others.
func (s *knownServer) isVirtual() bool {
	for _, k := range s.services {
		if k.desc != nil {
			return false
		}
	}
	return len(s.services) > 0 && s.Address == ""
}

// loadCatalogue reads what was known before.
func loadCatalogue(ctx context.Context, w *store.Watch, log *slog.Logger) (*catalogue, error) {
	nodes, services, err := w.Known(ctx)
	if err != nil {
		return nil, err
	}
	c := &catalogue{store: w, log: log, servers: map[serverKey]*knownServer{}}
	for _, n := range nodes {
		s := c.server(serverKey{n.Group, n.Node})
		s.KnownNode, s.changed = n, false
	}
	repeats, err := w.Repeats(ctx)
	if err != nil {
		return nil, err
	}
	for _, r := range repeats {
		if s := c.servers[serverKey{r.Group, r.Node}]; s != nil {
			s.repeats = r
		}
	}
	for _, k := range services {
		if a := munin.ParseConfig(k.Service, k.Described); len(a.Services) == 1 {
			desc := &a.Services[0]
			desc.Name = k.Service // of a child too
			c.server(serverKey{k.Group, k.Node}).services[k.Service] = &knownService{desc: desc, whole: desc, read: k.Seen, written: k.Seen}
		}
	}
	return c, nil
}

// use lays a munin.conf over what is known, and makes known what it draws of others. It is called once, before anything is
// taken.
func (c *catalogue) use(m *munin.MasterConf) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.master = m
	for key, s := range c.servers {
		for _, k := range s.services {
			if k.desc != nil {
				c.shape(key, k, k.desc)
			}
		}
	}
	for _, v := range m.Virtuals() {
		key := serverKey{v.Group, v.Host}
		before := c.servers[key]
		s := c.server(key)
		if s == nil || s.services[v.Service.Name] != nil || len(s.services) >= mostOfServer {
			continue
		}
		k := &knownService{}
		if c.shape(key, k, &munin.Service{Name: v.Service.Name}); k.sources != nil {
			s.services[v.Service.Name] = k
		}
		if before == nil {
			s.changed = false // munin.conf knows of it, the file need not
		}
	}
}

// shape makes what is shown of what a source says of a service.
func (c *catalogue) shape(key serverKey, k *knownService, desc *munin.Service) {
	k.whole, k.sources = c.master.Of(key.group, key.name, desc)
}

// server is what is known of a server, which is known from now on; nil if there are too many.
func (c *catalogue) server(key serverKey) *knownServer {
	s := c.servers[key]
	if s == nil && len(c.servers) < mostServers {
		s = &knownServer{KnownNode: store.KnownNode{Group: key.group, Node: key.name}, services: map[string]*knownService{}, changed: true}
		c.servers[key] = s
	}
	return s
}

// take notes what was read of the server key, and returns how the service is described, munin.conf included; nil if it cannot
// be noted.
func (c *catalogue) take(key serverKey, r *probe.Reading) *munin.Service {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.server(key)
	if s == nil {
		return nil
	}
	s.Seen = r.At
	k := s.services[r.Service.Name]
	if k == nil {
		if len(s.services) >= mostOfServer {
			return nil
		}
		k = &knownService{}
		s.services[r.Service.Name] = k
	}
	if k.desc != r.Service {
		if k.desc == nil || !k.desc.Same(r.Service) {
			k.written = time.Time{}
			c.shape(key, k, r.Service)
		} else if k.whole == k.desc {
			k.whole = r.Service // one description in memory is enough
		}
	}
	k.desc, k.values, k.read = r.Service, r.Values, r.At
	return k.whole
}

// asked notes where a server is asked, and whether it answers: since is zero if it does. It may have been silent before
// somebody began to ask, in the session before this one.
func (c *catalogue) asked(key serverKey, address string, since time.Time, why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.server(key)
	if s != nil && !since.IsZero() && !s.Since.IsZero() && s.Since.Before(since) {
		since = s.Since
	}
	if s != nil && (s.Address != address || !s.Since.Equal(since) || s.Why != why) {
		s.Address, s.Since, s.Why, s.changed = address, since, why, true
	}
}

// asksOnly forgets where servers were asked that are asked no more, and that they did not answer.
func (c *catalogue) asksOnly(asked []serverKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, s := range c.servers {
		if (s.Address != "" || !s.Since.IsZero()) && !slices.Contains(asked, key) {
			s.Address, s.Since, s.Why, s.changed = "", time.Time{}, "", true
		}
	}
}

// willAsk notes where a server is asked of which nothing is known yet.
func (c *catalogue) willAsk(key serverKey, address string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.server(key); s != nil && s.Address == "" {
		s.Address, s.changed = address, true
	}
}

// run writes what has changed, until ctx ends and once more then.
func (c *catalogue) run(ctx context.Context) error {
	for pause(ctx, catalogueEvery) {
		c.save(ctx, false)
	}
	c.save(context.WithoutCancel(ctx), true)
	return nil
}

// save writes what has changed; with all the times too at which things were read last.
func (c *catalogue) save(ctx context.Context, all bool) {
	var nodes []store.KnownNode
	var services []store.KnownService
	c.mu.Lock()
	for key, s := range c.servers {
		before := len(services)
		for name, k := range s.services {
			if k.desc == nil {
				continue
			}
			if all && k.read.After(k.written) || k.written.IsZero() || k.read.Sub(k.written) >= seenAgain {
				k.written = k.read
				services = append(services, store.KnownService{Group: key.group, Node: key.name, Service: name, Described: munin.AppendConfig(nil, k.desc), Seen: k.read})
			}
		}
		if s.changed || len(services) > before {
			s.changed = false
			nodes = append(nodes, s.KnownNode)
		}
	}
	c.mu.Unlock()
	if len(nodes) == 0 {
		return
	}
	if err := c.store.PutKnown(ctx, nodes, services); err != nil {
		c.log.Error("what is known of servers could not be written", "n", len(nodes), "err", err)
	}
}

// forget takes a server out; ok is false if it was not in.
func (c *catalogue) forget(ctx context.Context, key serverKey) (ok bool, err error) {
	c.mu.Lock()
	delete(c.servers, key)
	c.mu.Unlock()
	return c.store.ForgetNode(ctx, key.group, key.name)
}

// virtual says whether munin.conf alone knows of a server.
func (c *catalogue) virtual(key serverKey) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.servers[key]
	return s != nil && s.isVirtual()
}

// find is the servers of a name, in one group or, for "*", in any.
func (c *catalogue) find(group, name string) (keys []serverKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key := range c.servers {
		if key.name == name && (group == "*" || group == key.group) {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, serverKey.compare)
	return keys
}

// shownService is a service as it is shown. It stays as it is when the catalogue changes.
type shownService struct {
	*munin.Service
	sources map[string][]tocsin.Series // of the fields that are the sum of others
	virtual bool                       // nothing of it is measured
	read    time.Time
}

// shown are the services of a server by name; nil if it is not known.
func (c *catalogue) shown(key serverKey) map[string]shownService {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.servers[key]
	if s == nil {
		return nil
	}
	all := make(map[string]shownService, len(s.services))
	for name, k := range s.services {
		all[name] = c.show(k)
	}
	return all
}

// drawnService is a service of which curves are drawn of others. It stays as it is when the catalogue changes.
type drawnService struct {
	key     serverKey
	desc    *munin.Service
	sources map[string][]tocsin.Series // of the fields that are the sum of others that are measured
	virtual bool                       // nothing of it is measured
}

// drawn are all services of which curves are drawn of others.
func (c *catalogue) drawn() (all []drawnService) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.master == nil {
		return nil
	}
	for key, s := range c.servers {
		for _, k := range s.services {
			if k.sources == nil {
				continue
			}
			d := drawnService{key, k.whole, make(map[string][]tocsin.Series, len(k.sources)), k.desc == nil}
			for field, from := range k.sources {
				left := mostParts
				d.sources[field] = c.parts(nil, from, 0, &left)
			}
			all = append(all, d)
		}
	}
	return all
}

// show is one service as it is shown. What munin.conf does not say of a curve that is drawn of others, those say.
func (c *catalogue) show(k *knownService) shownService {
	out := shownService{Service: k.whole, sources: k.sources, virtual: k.desc == nil, read: k.read}
	if k.sources == nil {
		return out
	}
	whole := *k.whole
	whole.Fields = slices.Clone(whole.Fields)
	out.Service, out.sources = &whole, make(map[string][]tocsin.Series, len(k.sources))
	for i := range whole.Fields {
		f := &whole.Fields[i]
		from, ok := k.sources[f.Name]
		if !ok {
			continue
		}
		left := mostParts
		out.sources[f.Name] = c.parts(nil, from, 0, &left)
		if of := c.field(from[0]); of != nil {
			f.Attrs = slices.Clone(f.Attrs)
			for _, name := range []string{"type", "draw", "info"} {
				_, said := f.Get(name)
				if v, ok := of.Get(name); ok && !said {
					f.Attrs = append(f.Attrs, munin.Attr{Name: name, Value: v})
				}
			}
		}
	}
	return out
}

// Bounds of curves that are drawn of others that are drawn of others.
const (
	mostNested = 5
	mostParts  = 10_000 // of one curve, looked at
)

// parts adds the series that are measured of which the sum of from is made. left is how many may still be looked at.
func (c *catalogue) parts(all, from []tocsin.Series, nested int, left *int) []tocsin.Series {
	for _, s := range from {
		if *left--; *left < 0 {
			break
		}
		k := c.serviceOf(s)
		switch {
		case k == nil || k.sources[s.Field] == nil:
			all = append(all, s)
		case nested < mostNested:
			all = c.parts(all, k.sources[s.Field], nested+1, left)
		}
	}
	return all
}

func (c *catalogue) serviceOf(s tocsin.Series) *knownService {
	server := c.servers[serverKey{s.Group, s.Node}]
	if server == nil {
		return nil
	}
	return server.services[s.Service]
}

func (c *catalogue) field(s tocsin.Series) *munin.Field {
	if k := c.serviceOf(s); k != nil {
		return k.whole.Field(s.Field)
	}
	return nil
}
