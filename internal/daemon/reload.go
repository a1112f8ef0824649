package daemon

import (
	"context"
	"fmt"
	"reflect"
	"time"

	"tocsin"
	"tocsin/internal/config"
)

// reload reads the configuration again, builds everything that it asks for, and only then swaps. On any mistake the old
// configuration stays in force and the mistake is returned.
func (g *Guard) reload(ctx context.Context) (*set, error) {
	g.reloading.Lock()
	defer g.reloading.Unlock()
	next, err := g.buildAgain(ctx)
	g.trouble.reload(err)
	if err != nil {
		return nil, err
	}
	g.stopReaders() // not in the decider: it must go on taking what they still send
	if err := g.do(ctx, func() { g.use(next) }); err != nil {
		return nil, err
	}
	g.log.Info("reloaded", "config", g.o.ConfigPath, "n", len(next.cells))
	return next, nil
}

func (g *Guard) buildAgain(ctx context.Context) (*set, error) {
	c := config.Default()
	if g.o.ConfigPath != "" {
		var err error
		if c, err = config.Load(g.o.ConfigPath); err != nil {
			return nil, err
		}
	}
	if g.o.Adjust != nil {
		g.o.Adjust(c)
	}
	old := g.o.Config // state, socket and observe are those of the start
	if c.State != old.State || c.Socket != old.Socket || c.Guard.Observe != old.Guard.Observe {
		return nil, fmt.Errorf("state, socket and observe cannot change while the guard runs; restart it")
	}
	return build(ctx, c, true)
}

// use puts a set in force: the first one at the start, another one at a reload. The decider calls it, while no reader runs.
//
// A jail whose settings did not change keeps what it counted. A new or a changed one starts like after a restart: it knows
// former bans and logins from the store, and reads again the last findtime of its sources.
func (g *Guard) use(next *set) {
	now := time.Now()
	for _, c := range next.cells {
		if old := g.cellLike(c); old != nil {
			c.jail, c.tally = old.jail, old.tally
			continue
		}
		c.rebuilding = true
		g.teach(c, now)
	}
	g.set = next
	g.shield.conf = next.conf.Guard.Allow
	g.shield.index()
	if !g.wasOff {
		g.reshield()
	}
	g.running = g.startReaders(next, now)
}

// cellLike finds the jail in force that counts by the same rules from the same sources.
func (g *Guard) cellLike(c *cell) *cell {
	if g.set == nil {
		return nil
	}
	for _, old := range g.set.cells {
		if reflect.DeepEqual(old.options, c.options) && reflect.DeepEqual(old.def, c.def) && reflect.DeepEqual(old.sources, c.sources) {
			return old
		}
	}
	return nil
}

// teach tells a new jail what the store remembers.
func (g *Guard) teach(c *cell, now time.Time) {
	name, o := c.conf.Name, c.options
	if err := g.store.Former(name, now.Add(-max(o.BanMemory, o.SubnetWithin)), func(d tocsin.Decision) { c.jail.Banned(&d) }); err != nil {
		g.log.Warn("former bans are not known; growing bans begin anew", "jail", name, "err", err)
	}
	for k, b := range g.active {
		if k.jail == name && b.origin != tocsin.ByJail {
			c.jail.Banned(&tocsin.Decision{Jail: name, ID: k.id, Prefix: b.prefix, Origin: b.origin, At: b.at, Until: b.until})
		}
	}
	logins, err := g.store.KnownSince(now.Add(-o.KnownFor))
	if err != nil {
		g.log.Warn("former logins are not known; no patience with known addresses until they log in again", "jail", name, "err", err)
	}
	for i := range logins {
		c.jail.Login(&logins[i])
	}
}
