package daemon

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

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
	store *store.Watch
	log   *slog.Logger

	mu      sync.Mutex
	servers map[serverKey]*knownServer
}

type knownServer struct {
	store.KnownNode
	services map[string]*knownService
	changed  bool // since it was written
}

type knownService struct {
	desc    *munin.Service
	values  []munin.Value // as they were read last; nil if they were not since we began
	read    time.Time
	written time.Time // what was written as the time it was read; zero: the description is not written yet
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
	for _, k := range services {
		if a := munin.ParseConfig(k.Service, k.Described); len(a.Services) == 1 {
			c.server(serverKey{k.Group, k.Node}).services[k.Service] = &knownService{desc: &a.Services[0], read: k.Seen, written: k.Seen}
		}
	}
	return c, nil
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

// take notes what was read of the server key.
func (c *catalogue) take(key serverKey, r *probe.Reading) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.server(key)
	if s == nil {
		return
	}
	s.Seen = r.At
	k := s.services[r.Service.Name]
	if k == nil {
		if len(s.services) >= mostOfServer {
			return
		}
		k = &knownService{}
		s.services[r.Service.Name] = k
	}
	if k.desc != r.Service && (k.desc == nil || !k.desc.Same(r.Service)) {
		k.written = time.Time{}
	}
	k.desc, k.values, k.read = r.Service, r.Values, r.At
}

// asked notes where a server is asked, and whether it answers: since is zero if it does.
func (c *catalogue) asked(key serverKey, address string, since time.Time, why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.server(key); s != nil && (s.Address != address || !s.Since.Equal(since) || s.Why != why) {
		s.Address, s.Since, s.Why, s.changed = address, since, why, true
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
