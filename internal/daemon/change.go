package daemon

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"tocsin"
	"tocsin/internal/api"
	"tocsin/internal/config"
	"tocsin/internal/host"
	"tocsin/internal/store"
)

// operatorJail is the jail that bans by hand belong to unless they name another.
const operatorJail = "operator"

func (g *Guard) operations() api.Operations {
	return api.Operations{
		Status: g.status, Doctor: g.doctor, Bans: g.bans, Tally: g.tallyBans, Why: g.why, WhyID: g.whyID, Allowed: g.allowed, Metrics: g.metrics,
		Ban: g.ban, Unban: g.unban, Allow: g.allow, Off: g.moveExitBy, Reload: g.reloadNow,
		Jail: g.jailDetail, Banned: g.bannedNow, Reopen: g.reopen,
		Decisions: g.decisions, Spared: g.spared, Lists: g.listStates, TakeList: g.takeList, DropList: g.dropList, MayShare: mayShare, ForPages: g.forPages,
	}
}

// forPages says whether the pages may change bans: where the configuration lets them, and somebody could ask them to.
func (g *Guard) forPages(ctx context.Context) (yes bool) {
	_ = g.do(ctx, func() { yes = g.set.conf.Web.Bans && g.set.conf.Watch.Enabled && g.set.conf.Listen != "" })
	return yes
}

func refused(hint, format string, args ...any) *api.Error {
	return api.Errorf(api.ExitFindings, hint, fmt.Sprintf(format, args...))
}

func parsePrefix(s string) (netip.Prefix, error) {
	p, err := config.ParsePrefix(s)
	if err != nil {
		return p, api.Errorf(api.ExitUsage, "write it like 192.0.2.7, 192.0.2.0/24 or 2001:db8::/64", err.Error())
	}
	return p, nil
}

func change(text, undo string, changed ...string) api.Change {
	if changed == nil {
		changed = []string{}
	}
	return api.Change{Schema: api.SchemaChange, Changed: changed, Text: text, Undo: undo}
}

// decided runs f in the decider and passes its answer on.
func decided[T any](ctx context.Context, g *Guard, f func() (T, error)) (v T, err error) {
	if derr := g.do(ctx, func() { v, err = f() }); derr != nil {
		return v, api.Errorf(api.ExitTryLater, "", derr.Error())
	}
	return v, err
}

func (g *Guard) ban(ctx context.Context, r api.BanRequest) (api.Change, error) {
	p, err := parsePrefix(r.Prefix)
	if err != nil {
		return g.banID(ctx, r, err)
	}
	if widest := config.WidestPrefix(p.Addr()); p.Bits() < widest {
		return api.Change{}, refused("ban several narrower prefixes, if it must be", "%s is too wide: nothing wider than /%d is banned by hand", p, widest)
	}
	if err := checkSeconds(r.Seconds); err != nil {
		return api.Change{}, err
	}
	if r.AcceptRisk != "lockout" {
		if err := g.refuseOpenSession(ctx, p); err != nil {
			return api.Change{}, err
		}
	}
	return decided(ctx, g, func() (api.Change, error) { return g.banNow(p, r) })
}

// banID bans an id that is no address, where r names a jail that takes such ids; notOne is the answer otherwise.
func (g *Guard) banID(ctx context.Context, r api.BanRequest, notOne error) (api.Change, error) {
	if r.Jail == "" || r.Prefix == "" || len(r.Prefix) > maxID || tocsin.Printable(r.Prefix) != r.Prefix {
		return api.Change{}, notOne
	}
	if err := checkSeconds(r.Seconds); err != nil {
		return api.Change{}, err
	}
	return decided(ctx, g, func() (api.Change, error) {
		if c := g.cellNamed(r.Jail); c != nil && !c.acts {
			return api.Change{}, notOne
		}
		return g.banNow(netip.Prefix{}, r)
	})
}

// checkSeconds refuses a duration that is none. 0 is without end.
func checkSeconds(s float64) error {
	const century = 100 * 365.25 * 24 * 3600
	if s >= 0 && s <= century { // not so for NaN
		return nil
	}
	return api.Errorf(api.ExitUsage, "0 is without end", fmt.Sprintf("%g is not a duration of at most 100 years", s))
}

// refuseOpenSession refuses to ban the source of an ssh session that somebody is working in. A connection counts as one
// if a login from its port is known, or if nothing bad is known of its address (its login may be older than our logs).
func (g *Guard) refuseOpenSession(ctx context.Context, p netip.Prefix) error {
	ports, err := g.sshPorts(ctx)
	if err != nil {
		return api.Errorf(api.ExitTryLater, "", err.Error())
	}
	sessions, err := host.Sessions(ports)
	if err != nil {
		return refused("to ban without looking: --accept-risk=lockout", "cannot tell whether somebody works over ssh from %s: %v", p, err)
	}
	now := time.Now()
	for _, s := range sessions {
		addr := s.Remote.Addr().Unmap()
		if !p.Contains(addr) {
			continue
		}
		if user, open := g.holdsSession(addr, s.Remote.Port(), now); open {
			who := ""
			if user != "" {
				who = " of " + tocsin.Printable(user)
			}
			return refused("to ban it all the same: --accept-risk=lockout", "an ssh session%s from %s is open; banning it may lock you out", who, addr)
		}
	}
	return nil
}

// loginsAsked is how far back logins matter to an answer; older ones are forgotten sooner or later.
const loginsAsked = 90 * 24 * time.Hour

func (g *Guard) holdsSession(addr netip.Addr, port uint16, now time.Time) (user string, open bool) {
	logins, err := g.store.Logins(addr, now.Add(-loginsAsked))
	if err == nil {
		for _, l := range logins {
			if l.Opened && l.Port == port {
				return l.User, true
			}
		}
	}
	failures, err := g.store.Failures(addr, now.Add(-24*time.Hour))
	return "", err == nil && len(failures) == 0
}

// sshPorts are those on which a session may be open: the jails' and, where a jail covers all ports, sshd's own.
func (g *Guard) sshPorts(ctx context.Context) (ports []uint16, err error) {
	if err := g.do(ctx, func() {
		for _, c := range g.set.cells {
			if c.def.Name == "sshd" {
				ports = append(ports, c.options.Ports...)
			}
		}
	}); err != nil {
		return nil, err
	}
	if len(ports) == 0 {
		ports, _, err = host.SSHPorts(ctx)
	}
	return tocsin.SortPorts(ports), err
}

// banNow bans p, or r.Prefix by its text if p is zero.
func (g *Guard) banNow(p netip.Prefix, r api.BanRequest) (api.Change, error) {
	now, name := time.Now(), r.Prefix
	if p.IsValid() {
		name = tocsin.PrefixString(p)
	}
	d := tocsin.Decision{
		Jail: operatorJail, ID: name, Prefix: p, Action: tocsin.Ban, Origin: tocsin.ByOperator,
		By: r.By, Reason: cmp.Or(r.Reason, "banned by hand"), At: now,
	}
	if why, ok := g.shield.covers(p); ok {
		hint := ""
		if e, ok := g.shield.entry(p); ok {
			hint = "take it off first: tocsin allow --remove " + tocsin.PrefixString(e.Prefix)
		}
		return api.Change{}, refused(hint, "%s is never banned: %s", d.ID, why)
	}
	if r.Seconds > 0 {
		d.Until = now.Add(time.Duration(r.Seconds * float64(time.Second)))
	}
	if r.Jail != "" {
		c := g.cellNamed(r.Jail)
		if c == nil {
			return api.Change{}, api.NoJail(r.Jail, "the jails are: "+g.jailNames())
		}
		if why, ok := c.allow.covers(p); ok {
			return api.Change{}, refused("", "%s is never banned by jail %s: %s", d.ID, r.Jail, why)
		}
		d.Jail, d.Ports, d.Proto, d.Verdict = r.Jail, c.options.Ports, c.options.Proto, c.options.Verdict
		c.jail.Banned(&d)
	}
	if err := g.decide(d); err != nil {
		return api.Change{}, api.Errorf(api.ExitFailed, "see tocsin doctor", fmt.Sprintf("%s is decided and will be banned, but the firewall refused it just now: %v", d.ID, err))
	}
	return change(fmt.Sprintf("%s is %s %s %s", d.ID, g.word("banned", "noted as banned"), api.WhereText(d.Ports, d.Verdict.String()), untilText(&d)),
		undoBan(&d), d.ID), nil
}

// undoBan is the command that lifts a ban, "" where nobody should type it.
func undoBan(d *tocsin.Decision) string {
	if !d.Prefix.IsValid() && !typable(d.ID) {
		return ""
	}
	return "tocsin unban " + d.ID
}

// typable says whether a shell takes an id as it is.
func typable(id string) bool {
	odd := func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-@:+", r))
	}
	return id != "" && id[0] != '-' && !strings.ContainsFunc(id, odd)
}

// word chooses what to say while the firewall is touched and while it is not.
func (g *Guard) word(enforcing, otherwise string) string {
	if g.enforces && !g.off() {
		return enforcing
	}
	return otherwise
}

func (g *Guard) unban(ctx context.Context, r api.UnbanRequest) (api.Change, error) {
	if r.All {
		return decided(ctx, g, func() (api.Change, error) { return g.unbanNow(netip.Prefix{}, r) })
	}
	p, notOne := parsePrefix(r.Prefix)
	return decided(ctx, g, func() (api.Change, error) {
		if notOne != nil && !g.knowsID(r.Prefix, r.Jail) { // a prefix mistyped rather than an id that is none
			return api.Change{}, notOne
		}
		return g.unbanNow(p, r)
	})
}

// knowsID says whether somebody by this name, which is no address, is banned or has failures that are counted.
func (g *Guard) knowsID(id, only string) bool {
	for k, b := range g.active {
		if k.id == id && !b.prefix.IsValid() && (only == "" || only == k.jail) {
			return true
		}
	}
	return slices.ContainsFunc(g.set.cells, func(c *cell) bool {
		return (only == "" || only == c.conf.Name) && c.acts && c.jail.StandingID(id, time.Now()).Failures > 0
	})
}

// unbanNow lifts the bans of all of p, of everybody, or of r.Prefix by its text if p is zero.
func (g *Guard) unbanNow(p netip.Prefix, r api.UnbanRequest) (api.Change, error) {
	now, name := time.Now(), r.Prefix
	if p.IsValid() {
		name = tocsin.PrefixString(p)
	}
	chosen := func(k banKey, b activeBan) bool {
		inside := p.Overlaps(b.prefix) || !p.IsValid() && !b.prefix.IsValid() && k.id == name
		return (r.Jail == "" || r.Jail == k.jail) && (r.All || inside)
	}
	var undo string
	for k, b := range g.active {
		if chosen(k, b) {
			undo = undoUnban(k, b, now)
		}
	}
	lifted, err := g.lift(chosen, tocsin.Decision{By: r.By, Reason: cmp.Or(r.Reason, "unbanned by hand"), At: now})
	if err != nil {
		return api.Change{}, api.Errorf(api.ExitFailed, "see tocsin doctor", fmt.Sprintf("unban: %v", err))
	}
	var forgotten int
	if !r.All {
		forgotten = g.forgive(p, name, r.Jail, now)
	}
	switch {
	case len(lifted) > 1:
		return change(fmt.Sprintf("%d bans are lifted", len(lifted)), "", lifted...), nil
	case len(lifted) == 1:
		return change(lifted[0]+" is no longer banned", undo, lifted...), nil
	case r.All:
		return change("nobody was banned", ""), nil
	case forgotten > 0:
		return change(name+" was not banned; its "+api.Count(forgotten, "failure is", "failures are")+" forgotten", ""), nil
	}
	return change(name+" was not banned", ""), nil
}

// lift ends the chosen bans, all of them with one write and one transaction, and tells the jails that took them. It
// returns their ids in order.
func (g *Guard) lift(chosen func(banKey, activeBan) bool, like tocsin.Decision) ([]string, error) {
	g.forgetAsked(chosen)
	var ds []tocsin.Decision
	var ids []string
	for k, b := range g.active {
		if !chosen(k, b) {
			continue
		}
		d := like
		d.Jail, d.ID, d.Prefix, d.Action, d.Origin, d.Former = k.jail, k.id, b.prefix, tocsin.Unban, tocsin.ByOperator, b.former
		ds, ids = append(ds, d), append(ids, k.id)
		if c := g.cellNamed(k.jail); c != nil {
			c.lift(b.prefix, k.id, like.At)
		}
	}
	if len(ds) == 0 {
		return nil, nil
	}
	slices.Sort(ids)
	return ids, g.decide(ds...)
}

// forgive makes the jails forget what they counted of p, or of id if p is zero, so that the next mistake does not ban at
// once.
func (g *Guard) forgive(p netip.Prefix, id, only string, now time.Time) (failures int) {
	for _, c := range g.set.cells {
		if only != "" && only != c.conf.Name {
			continue
		}
		if p.IsValid() {
			failures += c.jail.Standing(p.Addr(), now).Failures
		} else {
			failures += c.jail.StandingID(id, now).Failures
		}
		c.lift(p, id, now)
	}
	return failures
}

// undoUnban is the command that bans again, "" where the id comes from a log and is nothing to put into a shell.
func undoUnban(k banKey, b activeBan, now time.Time) string {
	if !b.prefix.IsValid() && !typable(k.id) {
		return ""
	}
	cmd := "tocsin ban " + k.id
	if k.jail != operatorJail {
		cmd += " --jail " + k.jail
	}
	if b.until.IsZero() {
		return cmd + " --for forever"
	}
	return cmd + " --for " + config.FormatDuration(max(time.Second, b.until.Sub(now)))
}

func (g *Guard) allow(ctx context.Context, r api.AllowRequest) (api.Change, error) {
	if r.Jail != "" {
		return g.ignore(ctx, r)
	}
	p, err := parsePrefix(r.Prefix)
	if err != nil {
		return api.Change{}, err
	}
	if widest := config.WidestPrefix(p.Addr()); p.Bits() < widest && !r.Remove {
		return api.Change{}, refused("", "%s is too wide: an allow list that holds the internet guards nothing (at least /%d)", p, widest)
	}
	if err := checkSeconds(r.Seconds); err != nil {
		return api.Change{}, err
	}
	if r.Remove {
		return g.disallow(ctx, p)
	}
	now, name := time.Now(), tocsin.PrefixString(p)
	e := store.AllowEntry{Prefix: p, By: r.By, Note: r.Note, At: now}
	text := name + " is never banned"
	if r.Seconds > 0 {
		e.Until = now.Add(time.Duration(r.Seconds * float64(time.Second)))
		text += " until " + e.Until.Format(time.DateTime)
	}
	// The store may wait for the disk, and the decider must not.
	if err := g.store.Allow(e); err != nil {
		return api.Change{}, fmt.Errorf("store allow list: %w", err)
	}
	return decided(ctx, g, func() (api.Change, error) {
		g.shield.set(e)
		g.reshield()
		inside := func(_ banKey, b activeBan) bool { return p.Bits() <= b.prefix.Bits() && p.Contains(b.prefix.Addr()) }
		lifted, err := g.lift(inside, tocsin.Decision{By: r.By, Reason: "put on the allow list", At: now})
		if err != nil {
			return api.Change{}, fmt.Errorf("lift bans: %w", err)
		}
		switch len(lifted) {
		case 0:
		case 1:
			text += "; its ban is lifted"
		default:
			text += fmt.Sprintf("; %d bans are lifted", len(lifted))
		}
		g.forgive(p, "", "", now)
		g.log.Info("allowed", "addr", name, "by", r.By)
		return change(text, "tocsin allow --remove "+name, name), nil
	})
}

func (g *Guard) disallow(ctx context.Context, p netip.Prefix) (api.Change, error) {
	name := tocsin.PrefixString(p)
	had, err := g.store.Disallow(p)
	if err != nil {
		return api.Change{}, fmt.Errorf("store allow list: %w", err)
	}
	return decided(ctx, g, func() (api.Change, error) {
		if !had {
			if why, ok := g.shield.covers(p); ok {
				return api.Change{}, refused("", "%s is never banned (%s); only what `tocsin allow` put on the list can be taken off", name, why)
			}
			return change(name+" was not on the allow list", ""), nil
		}
		g.shield.unset(p)
		g.reshield()
		g.log.Info("no longer allowed", "addr", name)
		return change(name+" is off the allow list", "tocsin allow "+name, name), nil
	})
}

// manyJails are too many to be named in a sentence.
const manyJails = 20

func (g *Guard) reloadNow(ctx context.Context) (api.Change, error) {
	var before bool
	if err := g.do(ctx, func() { before = g.set.conf.Report.Enabled }); err != nil {
		return api.Change{}, api.Errorf(api.ExitTryLater, "", err.Error())
	}
	next, err := g.reload(ctx)
	if err != nil {
		return api.Change{}, api.Errorf(api.ExitFindings, "the old configuration stays in force", err.Error())
	}
	names := make([]string, 0, len(next.cells))
	for _, c := range next.cells {
		names = append(names, c.conf.Name)
	}
	text := "reloaded: " + strings.Join(names, ", ")
	if len(names) > manyJails {
		text = fmt.Sprintf("reloaded: %d jails", len(names))
	}
	for _, f := range next.failed {
		text += fmt.Sprintf("\njail %s %s: %s", f.name, f.how(), strings.Join(errorsOf(f.err), "; "))
	}
	if next.conf.Report.Enabled && !before {
		text += "\nreports are switched on: " + sharingText(next.conf)
	}
	return change(text, "", names...), nil
}

func (g *Guard) cellNamed(name string) *cell {
	for _, c := range g.set.cells {
		if c.conf.Name == name {
			return c
		}
	}
	return nil
}

func (g *Guard) jailNames() string {
	var names []string
	for _, c := range g.set.cells {
		names = append(names, c.conf.Name)
	}
	return strings.Join(names, ", ")
}
