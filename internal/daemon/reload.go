package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"runtime/debug"
	"time"

	"tocsin"
)

// reload reads the configuration again, builds everything that it asks for, and only then swaps. On any mistake the old
// configuration stays in force and the mistake is returned.
func (g *Guard) reload(ctx context.Context) (*set, error) {
	g.reading.Lock()
	defer g.reading.Unlock()
	if g.reading.stopping {
		return nil, errEnded
	}
	// Who asked may give up while sshd is asked for its ports, and so may a guard that is told to stop.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(g.life, cancel)()
	// Two sets are there for a moment: collect often meanwhile, so that they take little more room than one.
	defer debug.SetGCPercent(debug.SetGCPercent(20))
	next, path, err := g.buildAgain(ctx)
	g.trouble.reload(err)
	if err != nil {
		return nil, err
	}
	if err := g.swapLocked(next); err != nil {
		return nil, err
	}
	g.lookAgain(ctx)
	since := g.reportsSince(next.conf, time.Now())
	err = g.do(context.Background(), func() { g.path, g.reporting = path, since; g.reloads.Add(1) })
	g.listsChanged()
	g.logFailed(next)
	g.log.Info("reloaded", "config", cmp.Or(path, next.conf.Fail2ban.Dir, "built-in"), "jails", len(next.cells))
	return next, err
}

func (g *Guard) buildAgain(ctx context.Context) (*set, string, error) {
	if g.o.Load == nil {
		return nil, "", errors.New("this guard has no configuration to read again")
	}
	c, path, err := g.o.Load()
	if err != nil {
		return nil, path, err
	}
	old := g.o.Config // state, socket and observe are those of the start
	if c.State != old.State || c.Socket != old.Socket || c.Guard.Observe != old.Guard.Observe {
		return nil, path, fmt.Errorf("state, socket and observe cannot change while the guard runs; restart it")
	}
	var b *builder
	if err := g.do(ctx, func() { b = newBuilder(true, g.set) }); err != nil {
		return nil, path, err
	}
	next, err := b.build(ctx, c)
	return next, path, err
}

// swap puts a set in force: the first one at the start, another one at a reload. Once begun it is carried through, whoever
// has stopped waiting for it: a guard without readers is blind.
func (g *Guard) swap(next *set) error {
	g.reading.Lock()
	defer g.reading.Unlock()
	return g.swapLocked(next)
}

func (g *Guard) swapLocked(next *set) error {
	ctx, now := context.Background(), time.Now()
	g.stopReaders()
	var active map[banKey]activeBan
	if err := g.do(ctx, func() {
		g.takeQueued() // what the old readers left, their last marks above all
		g.inherit(next)
		active = maps.Clone(g.active)
	}); err != nil {
		return err
	}
	for _, c := range next.cells {
		if c.rebuilding {
			g.teach(c, active, now)
		}
	}
	g.teachElsewhere(next, now)
	known, cancel := context.WithTimeout(ctx, firstWait)
	g.befriend(known, next.friendNames())
	cancel()
	g.trouble.forget(next.sources)
	readers := g.newReaders(next, now)
	if err := g.do(ctx, func() { g.use(next, readers) }); err != nil {
		return err
	}
	g.startReaders(readers)
	debug.FreeOSMemory() // to read and compile a configuration takes as much as to run it
	return nil
}

// inherit gives the jails of a set whose settings did not change what was counted. A new or a changed one begins like
// after a restart: it is taught what the store knows, and reads again the last findtime of its sources.
func (g *Guard) inherit(next *set) {
	for _, c := range next.cells {
		if old := g.cellLike(c); old != nil {
			c.jail, c.tally = old.jail, old.tally
		} else {
			c.rebuilding = true
		}
		g.useIgnoreCommand(c)
	}
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

// use makes a set the one in force.
func (g *Guard) use(next *set, readers []*reader) {
	first := g.set == nil
	g.set, g.running = next, readers
	if g.f2b.Use(next.f2bLog); first {
		g.f2bRestored()
	}
	g.shield.conf = next.conf.Guard.Allow
	g.shield.index()
	g.reshield()
	allowed := func(_ banKey, b activeBan) bool { _, ok := g.shield.covers(b.prefix); return ok }
	if _, err := g.lift(allowed, tocsin.Decision{By: "the configuration", Reason: "allowed by the configuration", At: time.Now()}); err != nil {
		g.complain("firewall", "cannot lift the bans of who is allowed now", err)
	}
	g.useActions(next)
}

// teachElsewhere tells the new jails whose bans grow by those of all jails what the store remembers of the others.
func (g *Guard) teachElsewhere(s *set, now time.Time) {
	var pupils []*cell
	var memory time.Duration
	for _, c := range s.cells {
		if c.rebuilding && c.options.Overall {
			pupils, memory = append(pupils, c), max(memory, c.options.BanMemory)
		}
	}
	if len(pupils) == 0 {
		return
	}
	for _, other := range s.cells {
		err := g.store.Former(other.conf.Name, now.Add(-memory), func(d tocsin.Decision) {
			for _, c := range pupils {
				if c != other {
					c.jail.Elsewhere(&d)
				}
			}
		})
		if err != nil {
			g.log.Warn("former bans of another jail are not known; they make no ban longer", "jail", other.conf.Name, "err", err)
		}
	}
}

// teach tells a new jail what the store remembers. Nobody else knows the jail yet.
func (g *Guard) teach(c *cell, active map[banKey]activeBan, now time.Time) {
	name, o := c.conf.Name, c.options
	if err := g.store.Former(name, now.Add(-max(o.BanMemory, o.SubnetWithin)), func(d tocsin.Decision) { c.jail.Banned(&d) }); err != nil {
		g.log.Warn("former bans are not known; growing bans begin anew", "jail", name, "err", err)
	}
	for k, b := range active {
		if k.jail == name && b.origin != tocsin.ByJail {
			d := b.decision(k)
			c.jail.Banned(&d)
		}
	}
	logins, err := g.store.KnownSince(now.Add(-o.KnownFor))
	if err != nil {
		g.log.Warn("former logins are not known; no patience with known addresses until they log in again", "jail", name, "err", err)
	}
	for i := range logins {
		// Known, but in no session: whether that one is still open stands in the log, if it is young, or is long past.
		l := &logins[i]
		c.jail.Login(l)
		l.Opened = false
		c.jail.Login(l)
	}
}
