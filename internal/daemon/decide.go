package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/coreos/go-systemd/v22/daemon"

	"tocsin"
	"tocsin/internal/f2blog"
	"tocsin/internal/fail2ban"
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
			g.takeWith(e, together)
		case f := <-g.calls:
			f()
			g.carryOutDue()
		case now := <-tick.C:
			g.tick(now)
		case <-stop:
			g.drain()
			return
		}
	}
}

func (g *Guard) drain() {
	for deadline := time.Now().Add(drainTime); time.Now().Before(deadline); {
		select {
		case e := <-g.events:
			g.takeWith(e, together)
		default:
			g.flushTally()
			return
		}
	}
}

// together is how many events are taken before what was decided from them is carried out. Under a flood of attackers one
// write to the disk and one message to the kernel then serve for many bans; alone, nobody waits for company.
const together = 64

// takeWith takes e, and of what waits behind it as much as may come along.
func (g *Guard) takeWith(e event, most int) {
	g.take(e)
	for n := 1; n < most && len(g.events) > 0; n++ {
		g.take(<-g.events)
	}
	g.carryOutDue()
}

// takeQueued takes what is in the queue now.
func (g *Guard) takeQueued() {
	for n := len(g.events); n > 0; n -= together {
		g.takeWith(<-g.events, min(n, together))
	}
}

var errEnded = errors.New("the guard is ending")

// do runs f in the decider and returns when it is done. It gives up, without running f, when ctx or the decider ends
// first.
func (g *Guard) do(ctx context.Context, f func()) error {
	done := make(chan struct{})
	select {
	case g.calls <- func() { defer close(done); f() }:
		<-done
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the guard is busy: %w", ctx.Err())
	case <-g.ended:
		return errEnded
	}
}

// take does what an event asks for.
func (g *Guard) take(e event) {
	switch {
	case e.mark != nil:
		g.carryOutDue() // what the lines before the mark led to
		g.store.PutMark(storeMark(*e.mark))
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
	if e.login.Opened && !e.seen {
		e.cell.tally.logins++
	}
	if e.login.Opened {
		g.listsChanged() // a list must not lock out who has just logged in
	}
	// One from before the first start is seen, and yet nobody has kept it. What is kept already is kept once.
	g.store.PutLogin(*e.login)
}

func (g *Guard) takeFailure(e event) {
	c, f := e.cell, e.failure
	switch {
	case f.Prefix.IsValid():
	case f.Host && (c.def.Usedns == "yes" || c.def.Usedns == "warn"):
		g.takeName(e)
		return
	case !c.acts, f.Host && c.def.Usedns != "raw", len(f.ID) > maxID:
		// An id that is no address reaches actions only.
		c.tally.badIDs++
		return
	default:
		f.ID = tocsin.Printable(f.ID) // from here on people see it, and type it
	}
	if why, spared := g.spares(c, f.Prefix); spared {
		c.tally.spared++
		by := "ip"
		if g.shield.ofTheMachine(f.Prefix.Addr()) {
			by = "ignoreself rule"
			g.trouble.spared(f.Prefix.Addr(), why)
		} else if _, ok := g.friendIn(c, f.Prefix); ok {
			by = "dns"
		}
		if !e.seen {
			g.f2bIgnored(c, f.ID, by)
		}
		return
	}
	if !e.seen {
		c.tally.failures++
		g.count(c, f)
		g.f2bFound(c, f)
	}
	late := c.jail.Stats().Late
	ds := c.jail.Failure(nil, f)
	if !e.seen && c.jail.Stats().Late > late {
		g.carryOutDue() // the ban that it came too late for
		g.f2bLate(c, f)
	}
	for _, d := range ds {
		if f.Prefix.IsSingleIP() {
			d.Addr = f.Prefix.Addr()
		}
		if wide := d.Prefix; wide.IsValid() && g.shield.narrow(&d, f.Prefix) {
			c.jail.Lift(wide, d.At) // or the jail would believe that the neighbours are banned too
		}
		g.decideByJail(c, d, e.seen)
	}
}

// maxID is how long an id that is no address may be, in bytes.
const maxID = 1024

// lift makes the jail forget what it counted of somebody, and that they are banned.
func (c *cell) lift(p netip.Prefix, id string, at time.Time) {
	if p.IsValid() {
		c.jail.Lift(p, at)
	} else {
		c.jail.LiftID(id, at)
	}
}

// decideByJail carries a jail's decision out unless that was done before a restart.
func (g *Guard) decideByJail(c *cell, d tocsin.Decision, seen bool) {
	if seen || g.wasDecided(&d) {
		// If it was lifted since then, the jail must know.
		if _, runs := g.active[banKey{d.Jail, d.ID}]; !runs {
			c.lift(d.Prefix, d.ID, d.At)
		}
		return
	}
	if !g.asksFirst(c, &d) {
		g.carryOut(c, d)
	}
}

// carryOut has a jail's decision carried out, with the others of this turn.
func (g *Guard) carryOut(c *cell, d tocsin.Decision) {
	// Escaped once, before it is stored: whatever shows it later cannot be hurt by it.
	d.Evidence = slices.Clone(d.Evidence)
	for i := range d.Evidence {
		e := &d.Evidence[i]
		e.Text, e.User = clip(tocsin.Printable(e.Text)), clip(tocsin.Printable(e.User))
	}
	c.tally.bans++
	g.tellJails(&d)
	g.due = append(g.due, d)
}

// carryOutDue carries out what jails decided since the last time.
func (g *Guard) carryOutDue() {
	if len(g.due) == 0 {
		return
	}
	due := g.due
	g.due = nil
	if err := g.decide(due...); err != nil {
		g.complain("firewall", "bans are not complete", err, "addr", due[0].ID, "jail", due[0].Jail, "n", len(due))
	}
}

// evidenceBytes is how much of a line is kept, escapes included.
const evidenceBytes = 500

// clip cuts printable text, at the beginning of a letter, and says so.
func clip(s string) string {
	const mark = "…"
	if len(s) <= evidenceBytes {
		return s
	}
	end := evidenceBytes - len(mark)
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + mark
}

// wasDecided says whether a former guard took this decision, and had no time left to note how far it had read. Only what
// was written before this guard began can have been decided by another.
func (g *Guard) wasDecided(d *tocsin.Decision) bool {
	if d.Trigger.At.After(g.started) {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), storeWait)
	defer cancel()
	was, err := g.store.Decided(ctx, d.Jail, d.ID, d.Trigger)
	if err != nil {
		g.complain("store", "cannot tell whether this was decided before; deciding", err, "addr", d.ID, "jail", d.Jail)
	}
	return was
}

// complain notes an error, and logs it unless the like of it was logged a moment ago.
func (g *Guard) complain(part, text string, err error, args ...any) {
	g.trouble.add(part, err)
	t := &g.wallLog
	if part == "store" {
		t = &g.storeLog
	}
	t.say(time.Now(), func(dropped int) {
		if dropped > 0 {
			args = append(args, "dropped", dropped)
		}
		g.log.Error(text, append(args, "err", err)...)
	})
}

// decide is the one door through which every ban and unban goes: the store, then the firewall, then the others. The
// allow list was asked before a failure was counted (takeFailure) and before a person's wish was accepted (change.go);
// the kernel asks it once more for each packet.
//
// It waits for the store 50 ms at most: a stalled disk is just when attacks must still be stopped. The write goes on
// behind it. If the firewall fails, the store still knows and the next tick repairs.
func (g *Guard) decide(ds ...tocsin.Decision) error {
	g.storeSoon(ds...)
	now := time.Now()
	var bans, unbans []tocsin.Decision
	for i := range ds {
		d := &ds[i]
		switch {
		case d.Action == tocsin.Unban:
			delete(g.active, banKey{d.Jail, d.ID})
			unbans = append(unbans, *d)
			g.f2bDecided(d)
		case d.InForce(now):
			_, known := g.active[banKey{d.Jail, d.ID}]
			g.remember(d)
			bans = append(bans, *d)
			g.f2bDecided(d)
			g.actOnBan(d, known)
		default:
			g.f2b.Say(fail2ban.FromActions, f2blog.Info, fail2ban.LogExpired(d.Jail, d.ID))
		}
		g.tell(d)
	}
	g.actOnUnbans(unbans)
	// While the emergency exit is open the firewall is not touched.
	if g.off() {
		return nil
	}
	var errs []error // of two calls that do not depend on each other
	if len(bans) > 0 {
		errs = append(errs, g.wall.Ban(bans...))
	}
	if len(unbans) > 0 {
		errs = append(errs, g.wall.Unban(unbans...))
	}
	return errors.Join(errs...)
}

// storeSoon puts decisions into the store and waits a little.
func (g *Guard) storeSoon(ds ...tocsin.Decision) {
	wait := storeWait
	if g.late {
		wait = lateWait
	}
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	err := g.store.Put(ctx, ds...)
	switch {
	case err == nil:
		g.late = false
	case errors.Is(err, context.DeadlineExceeded):
		if !g.late {
			g.log.Warn("the store does not answer in time; banning first, writing later")
		}
		g.late = true
	default:
		g.complain("store", "cannot store decision", err)
	}
}

// tellJails tells of a jail's ban the other jails whose bans grow by those of all.
func (g *Guard) tellJails(d *tocsin.Decision) {
	for _, c := range g.set.cells {
		if c.options.Overall && c.conf.Name != d.Jail {
			c.jail.Elsewhere(d)
		}
	}
}

// tell says what was decided.
func (g *Guard) tell(d *tocsin.Decision) {
	verb := "banned"
	switch {
	case d.Action == tocsin.Unban:
		verb = "unbanned"
	case !d.InForce(time.Now()):
		verb = "would have banned, but that is over already"
	case !g.enforces || g.off():
		verb = "would ban"
	}
	args := []any{"addr", d.ID, "jail", d.Jail, "origin", d.Origin.String(), "reason", tocsin.Printable(d.Reason)}
	if d.Action == tocsin.Ban {
		if dur, ends := d.Duration(); ends {
			args = append(args, "for", dur.String(), "until", d.Until.Format(time.RFC3339))
		}
	}
	if d.By != "" {
		args = append(args, "by", tocsin.Printable(d.By))
	}
	g.log.Info(verb, args...)
}

// remember keeps a running ban at hand. Their number is bounded by the firewall, which refuses more than a million.
func (g *Guard) remember(d *tocsin.Decision) {
	k, at := banKey{d.Jail, d.ID}, d.At
	if was, known := g.active[k]; known {
		at = was.at // one that is banned already only ends later, as with fail2ban
	} else {
		if len(g.active) >= maxActive {
			return
		}
		g.banned[d.Jail]++
	}
	g.active[k] = activeBan{at: at, until: d.Until, prefix: d.Prefix, origin: d.Origin, former: d.Former}
	if !d.Until.IsZero() && (g.nextEnd.IsZero() || d.Until.Before(g.nextEnd)) {
		g.nextEnd = d.Until
	}
}

// decision is what is kept at hand of the decision that k was banned by.
func (b activeBan) decision(k banKey) tocsin.Decision {
	return tocsin.Decision{Jail: k.jail, ID: k.id, Prefix: b.prefix, Origin: b.origin, At: b.at, Until: b.until, Former: b.former}
}

// maxActive is how many running bans are kept at hand, as many as the firewall takes.
const maxActive = 1 << 20

// tick does what comes round every second.
func (g *Guard) tick(now time.Time) {
	notify(daemon.SdNotifyWatchdog)
	g.flushTally()
	g.endBans(now)
	if err := g.wall.Sync(now); err != nil && !g.off() {
		g.complain("firewall", "the firewall does not take what is decided; trying again", err)
	}
	g.adopt(g.wall.Adopted())
	if g.shield.forget(now) {
		g.reshield()
	}
	g.moveExit(now)
}

// endBans forgets the bans that have run out. It looks at them only when one must have.
func (g *Guard) endBans(now time.Time) {
	if g.nextEnd.IsZero() || now.Before(g.nextEnd) {
		return
	}
	g.nextEnd = time.Time{}
	var ended []tocsin.Decision
	for k, b := range g.active {
		switch {
		case b.until.IsZero():
		case !now.Before(b.until):
			delete(g.active, k)
			g.f2bUnban(k.jail, k.id)
			d := b.decision(k)
			d.Action = tocsin.Unban
			ended = append(ended, d)
			g.log.Info("ban ended", "addr", k.id, "jail", k.jail)
		case g.nextEnd.IsZero() || b.until.Before(g.nextEnd):
			g.nextEnd = b.until
		}
	}
	g.actOnUnbans(ended)
	g.noteEnds(now)
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
	prefix := f.Prefix
	if !prefix.IsValid() {
		return // the store counts by address
	}
	if a := prefix.Addr(); a.Is6() {
		prefix = netip.PrefixFrom(a, min(c.options.IPv6Prefix, prefix.Bits())).Masked()
	}
	k := tallyKey{c.conf.Name, prefix}
	n := g.tally[k]
	if n == nil {
		if len(g.tally) >= maxTally {
			g.flushTally()
		}
		n = &store.FailureCount{Day: f.At, Jail: c.conf.Name, Prefix: prefix}
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
