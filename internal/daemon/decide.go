package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"tocsin"
	"tocsin/internal/store"
)

// decideUntil is the decider: the one goroutine that owns the jails. It ends when stop is closed and what the readers
// left behind is decided.
func (g *Guard) decideUntil(stop <-chan struct{}) {
	tick := time.NewTicker(tickTime)
	defer tick.Stop()
	for {
		select {
		case e := <-g.events:
			g.take(e)
		case f := <-g.calls:
			f()
		case now := <-tick.C:
			g.tick(now)
		case <-stop:
			g.drain()
			return
		}
	}
}

func (g *Guard) drain() {
	deadline := time.Now().Add(drainTime)
	for time.Now().Before(deadline) {
		select {
		case e := <-g.events:
			g.take(e)
		default:
			g.flushTally()
			return
		}
	}
}

// do runs f in the decider and returns when it is done. It gives up, without running f, when ctx ends first.
func (g *Guard) do(ctx context.Context, f func()) error {
	done := make(chan struct{})
	select {
	case g.calls <- func() { defer close(done); f() }:
		<-done
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the guard is busy: %w", ctx.Err())
	}
}

// take does what an event asks for.
func (g *Guard) take(e event) {
	switch {
	case e.mark != nil:
		g.store.PutMark(store.Mark{
			Source: e.mark.Source, Path: e.mark.Path, File: e.mark.Pos.File, Offset: e.mark.Pos.Offset,
			Fingerprint: e.mark.Fingerprint, Cursor: e.mark.Cursor, At: e.mark.At,
		})
		if e.first {
			g.flushFirst()
		}
	case e.seen && !e.cell.rebuilding:
		// A jail that went through a reload has counted it already.
	case e.login != nil:
		g.takeLogin(e)
	case e.failure != nil:
		g.takeFailure(e)
	case e.badID:
		e.cell.tally.badIDs++
	}
}

// flushFirst waits until the first mark of a source is on the disk. Without it a guard that is killed within a second would
// start for the first time again and again, and what is logged between two of its lives would be news to none of them.
func (g *Guard) flushFirst() {
	ctx, cancel := context.WithTimeout(context.Background(), storeWait)
	defer cancel()
	if err := g.store.Flush(ctx); err != nil {
		g.log.Warn("the first mark is not stored yet", "err", err)
	}
}

func (g *Guard) takeLogin(e event) {
	e.cell.jail.Login(e.login)
	if e.seen {
		return
	}
	if e.login.Opened {
		e.cell.tally.logins++
	}
	g.store.PutLogin(*e.login)
}

func (g *Guard) takeFailure(e event) {
	c, f := e.cell, e.failure
	if !f.Prefix.IsValid() {
		// An id that is no address reaches actions only, and the guard has none of these by itself.
		c.tally.badIDs++
		return
	}
	if why, spared := g.spares(c, f.Prefix.Addr()); spared {
		c.tally.spared++
		g.trouble.spared(f.Prefix.Addr(), why)
		return
	}
	if !e.seen {
		c.tally.failures++
		g.count(c, f)
	}
	for _, d := range c.jail.Failure(nil, f) {
		g.shield.narrow(&d, f.Prefix)
		g.decideByJail(c, d, e.seen)
	}
}

// decideByJail carries a jail's decision out unless that was done before a restart.
func (g *Guard) decideByJail(c *cell, d tocsin.Decision, seen bool) {
	if !seen {
		ctx, cancel := context.WithTimeout(context.Background(), storeWait)
		decided, err := g.store.Decided(ctx, d.Jail, d.ID, d.Trigger)
		cancel()
		if err != nil {
			g.log.Warn("cannot tell whether this was decided before; deciding", "addr", d.Prefix, "jail", d.Jail, "err", err)
		}
		seen = decided
	}
	if seen {
		// Decided before the restart. If it was lifted since then, the jail must know.
		if _, runs := g.active[banKey{d.Jail, d.ID}]; !runs {
			c.jail.Lift(d.Prefix, d.At)
		}
		return
	}
	for i := range d.Evidence {
		// Escaped once, before it is stored: whatever shows it later cannot be hurt by it.
		d.Evidence[i].Text, d.Evidence[i].User = tocsin.Printable(d.Evidence[i].Text), tocsin.Printable(d.Evidence[i].User)
	}
	c.tally.bans++
	if err := g.decide(d); err != nil {
		g.log.Error("ban is not complete", "addr", d.Prefix, "jail", d.Jail, "err", err)
	}
}

// decide is the one door through which every ban and unban goes: the store, then the firewall, then the others. The
// allow list was asked before a failure was counted (takeFailure) and before a person's wish was accepted (change.go);
// the kernel asks it once more for each packet.
//
// It waits for the store 50 ms at most: a stalled disk is just when attacks must still be stopped. The write goes on
// behind it. If the firewall fails, the store still knows and the next tick repairs.
func (g *Guard) decide(d tocsin.Decision) error {
	g.storeSoon(d)
	if d.Action == tocsin.Unban {
		delete(g.active, banKey{d.Jail, d.ID})
	} else if d.InForce(time.Now()) {
		g.remember(&d)
	}
	err := g.enforce(d)
	g.tell(&d)
	return err
}

func (g *Guard) storeSoon(d tocsin.Decision) {
	wait := storeWait
	if g.late {
		wait = lateWait
	}
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	err := g.store.Put(ctx, d)
	switch {
	case err == nil:
		g.late = false
	case errors.Is(err, context.DeadlineExceeded):
		if !g.late {
			g.log.Warn("the store does not answer in time; banning first, writing later")
		}
		g.late = true
	default:
		g.trouble.add("store", err)
		g.log.Error("cannot store decision", "addr", d.Prefix, "jail", d.Jail, "err", err)
	}
}

// enforce changes the firewall. While the emergency exit is open nothing is touched.
func (g *Guard) enforce(d tocsin.Decision) error {
	if now := time.Now(); g.isOff(now) || d.Action == tocsin.Ban && !d.InForce(now) {
		return nil
	}
	var err error
	if d.Action == tocsin.Unban {
		err = g.wall.Unban(d)
	} else {
		err = g.wall.Ban(d)
	}
	if err != nil {
		g.trouble.add("firewall", err)
	}
	return err
}

// tell says what was decided.
func (g *Guard) tell(d *tocsin.Decision) {
	verb := "banned"
	switch {
	case d.Action == tocsin.Unban:
		verb = "unbanned"
	case !d.InForce(time.Now()):
		verb = "would have banned, but that is over already"
	case !g.enforces || g.wasOff:
		verb = "would ban"
	}
	args := []any{"addr", d.ID, "jail", d.Jail, "origin", d.Origin.String(), "reason", tocsin.Printable(d.Reason)}
	if d.Action == tocsin.Ban {
		if dur, ends := d.Duration(); ends {
			args = append(args, "for", dur.String(), "until", d.Until.Format(time.RFC3339))
		}
	}
	g.log.Info(verb, args...)
}

// remember keeps a running ban at hand.
func (g *Guard) remember(d *tocsin.Decision) {
	g.active[banKey{d.Jail, d.ID}] = activeBan{at: d.At, until: d.Until, prefix: d.Prefix, origin: d.Origin}
}

// tick does what comes round every second.
func (g *Guard) tick(now time.Time) {
	notify(daemon.SdNotifyWatchdog)
	g.flushTally()
	for k, b := range g.active {
		if !b.until.IsZero() && !now.Before(b.until) {
			delete(g.active, k)
			g.log.Info("ban ended", "addr", k.id, "jail", k.jail)
		}
	}
	if err := g.wall.Sync(now); err != nil {
		g.trouble.add("firewall", err)
	}
	if g.shield.forget(now) {
		g.reshield()
	}
	g.watchExit(now)
}

type tallyKey struct {
	jail   string
	prefix netip.Prefix
}

// maxTally bounds the failures' counts that wait for the next tick.
const maxTally = 20000

// usersCounted is how many of the names tried on one day are kept for each address.
const usersCounted = 5

// count notes a failure for the daily counts that `why` shows.
func (g *Guard) count(c *cell, f *tocsin.Failure) {
	k := tallyKey{c.conf.Name, f.Prefix}
	n := g.tally[k]
	if n == nil {
		if len(g.tally) >= maxTally {
			g.flushTally()
		}
		n = &store.FailureCount{Day: f.At, Jail: c.conf.Name, Prefix: f.Prefix}
		g.tally[k] = n
	}
	n.N++
	n.Last = f.At
	if f.User != "" && len(n.Users) < usersCounted && !slices.Contains(n.Users, f.User) {
		n.Users = append(n.Users, f.User)
	}
}

func (g *Guard) flushTally() {
	if len(g.tally) == 0 {
		return
	}
	counts := make([]store.FailureCount, 0, len(g.tally))
	for _, n := range g.tally {
		counts = append(counts, *n)
	}
	clear(g.tally)
	g.store.CountFailures(counts...)
}
