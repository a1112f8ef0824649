package daemon

import (
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/gaissmai/bart"

	"tocsin"
	"tocsin/internal/config"
	"tocsin/internal/host"
	"tocsin/internal/store"
)

// prefixes is a set of prefixes, each with the reason why it is in.
type prefixes struct{ t bart.Table[string] }

func (p *prefixes) add(pfx netip.Prefix, why string) { p.t.Insert(pfx.Masked(), why) }

func (p *prefixes) has(a netip.Addr) (why string, ok bool) { return p.t.Lookup(a.Unmap()) }

func (p *prefixes) covers(pfx netip.Prefix) (why string, ok bool) { return p.t.LookupPrefix(pfx) }

func (p *prefixes) overlaps(pfx netip.Prefix) bool { return p.t.OverlapsPrefix(pfx) }

// shield is the allow list: whom nobody bans. It is owned by the decider.
type shield struct {
	fixed   []host.Protected   // the machine itself, its gateways and resolvers
	conf    []netip.Prefix     // [guard] allow
	entries []store.AllowEntry // tocsin allow
	table   prefixes           // all of them
}

// newShield gathers the allow list. What is known of it is there also where the error says that something is missing.
func newShield(c *config.Config, s *store.Store, now time.Time) (*shield, error) {
	sh := &shield{conf: c.Guard.Allow}
	var err, stored error
	sh.entries, stored = s.Allowed(now)
	// A part that cannot be found out leaves the rest.
	sh.fixed, err = host.Protect()
	sh.index()
	return sh, errors.Join(stored, err)
}

func (s *shield) index() {
	s.table = prefixes{}
	for _, e := range s.entries {
		s.table.add(e.Prefix, "on the allow list")
	}
	for _, p := range s.conf {
		s.table.add(p, "allowed by the configuration")
	}
	for _, p := range s.fixed {
		s.table.add(p.Prefix, p.Reason)
	}
}

// prefixes are those that the kernel must let through.
func (s *shield) prefixes() []netip.Prefix {
	var ps []netip.Prefix
	for p := range s.table.t.All() {
		ps = append(ps, p)
	}
	return ps
}

// covers says whether a prefix lies wholly inside an allowed one, and why that is allowed.
func (s *shield) covers(p netip.Prefix) (why string, ok bool) { return s.table.covers(p) }

// ofTheMachine says whether an address is the machine's own or belongs to its surroundings.
func (s *shield) ofTheMachine(a netip.Addr) bool {
	return slices.ContainsFunc(s.fixed, func(p host.Protected) bool { return p.Prefix.Contains(a) })
}

// entry finds the entry of the operator's allow list that covers a prefix.
func (s *shield) entry(p netip.Prefix) (store.AllowEntry, bool) {
	for _, e := range s.entries {
		if e.Prefix.Bits() <= p.Bits() && e.Prefix.Contains(p.Addr()) {
			return e, true
		}
	}
	return store.AllowEntry{}, false
}

// narrow makes a ban of many addresses one of the address that failed, where the many hold somebody of the allow list:
// neighbours in the machine's own network must not be banned for one of them.
func (s *shield) narrow(d *tocsin.Decision, failed netip.Prefix) (narrowed bool) {
	if d.Prefix.IsSingleIP() || !s.table.overlaps(d.Prefix) {
		return false
	}
	d.Prefix, d.ID = failed, tocsin.PrefixString(failed)
	return true
}

// set puts an entry on the allow list, in place of one for the same prefix.
func (s *shield) set(e store.AllowEntry) {
	s.unset(e.Prefix)
	s.entries = append(s.entries, e)
	s.index()
}

func (s *shield) unset(p netip.Prefix) (had bool) {
	n := len(s.entries)
	s.entries = slices.DeleteFunc(s.entries, func(e store.AllowEntry) bool { return e.Prefix == p })
	s.index()
	return len(s.entries) < n
}

// forget takes off what has run out and says whether there was something.
func (s *shield) forget(now time.Time) (changed bool) {
	over := func(e store.AllowEntry) bool { return !e.Until.IsZero() && !now.Before(e.Until) }
	if !slices.ContainsFunc(s.entries, over) {
		return false
	}
	s.entries = slices.DeleteFunc(s.entries, over)
	s.index()
	return true
}

// spares says whether failures of somebody are not counted by this jail, and why. A network is spared if anybody in it is;
// the zero prefix is nobody.
func (g *Guard) spares(c *cell, p netip.Prefix) (why string, ok bool) {
	for _, list := range []*prefixes{&g.shield.table, &c.allow} {
		if why, ok = list.has(p.Addr()); ok {
			return why, true
		}
		if !p.IsSingleIP() && p.IsValid() && list.overlaps(p) {
			return "somebody in this network is allowed", true
		}
	}
	if name, ok := g.friendIn(c, p); ok {
		return "an address of " + name, true
	}
	return "", false
}

// reshield puts the allow list into the kernel. While the emergency exit is open nothing is touched; coming back brings it.
func (g *Guard) reshield() {
	g.listsChanged()
	if g.off() {
		return
	}
	if err := g.wall.SetAllow(g.shield.prefixes()); err != nil {
		g.complain("firewall", "cannot put the allow list into the kernel", err)
	}
}

// refreshShield takes over what this machine is now. Where not all could be found out, what was known before stays.
func (g *Guard) refreshShield(fixed []host.Protected, whole bool) {
	if !whole {
		for _, p := range g.shield.fixed {
			if !slices.Contains(fixed, p) {
				fixed = append(fixed, p)
			}
		}
	}
	if slices.Equal(fixed, g.shield.fixed) {
		return
	}
	g.log.Info("addresses of this machine changed", "n", len(fixed))
	g.shield.fixed = fixed
	g.shield.index()
	g.reshield()
}
