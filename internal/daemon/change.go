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

// The widest prefixes that may be banned by hand. RIRs give out nothing wider to one holder (IPv4 /8, IPv6 /19); a
// mistyped length must not take a part of the internet off the air.
const (
	widestIPv4 = 8
	widestIPv6 = 19
)

func (g *Guard) operations() api.Operations {
	return api.Operations{
		Status: g.status, Doctor: g.doctor, Bans: g.bans, Why: g.why, Allowed: g.allowed, Metrics: g.metrics,
		Ban: g.ban, Unban: g.unban, Allow: g.allow, Off: g.exitMoved, Reload: g.reloadNow,
	}
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
		return api.Change{}, err
	}
	if widest := widestOf(p); p.Bits() < widest {
		return api.Change{}, refused("ban several narrower prefixes, if it must be", "%s is too wide: nothing wider than /%d is banned by hand", p, widest)
	}
	if r.AcceptRisk != "lockout" {
		if err := g.refuseOpenSession(ctx, p); err != nil {
			return api.Change{}, err
		}
	}
	return decided(ctx, g, func() (api.Change, error) { return g.banNow(p, r) })
}

func widestOf(p netip.Prefix) int {
	if p.Addr().Is4() {
		return widestIPv4
	}
	return widestIPv6
}

// refuseOpenSession refuses to ban the source of an ssh session that somebody is working in. A connection counts as one
// if a login from its port is known, or if nothing bad is known of its address (its login may be older than our logs).
func (g *Guard) refuseOpenSession(ctx context.Context, p netip.Prefix) error {
	sessions, err := host.Sessions(g.sshPorts(ctx))
	if err != nil {
		g.log.Warn("cannot look for open ssh sessions", "err", err)
		return nil
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

func (g *Guard) sshPorts(ctx context.Context) (ports []uint16) {
	_ = g.do(ctx, func() { // without an answer there are no ports to look at
		for _, c := range g.set.cells {
			if c.def.Name == "sshd" {
				ports = append(ports, c.options.Ports...)
			}
		}
	})
	return tocsin.SortPorts(ports)
}

func (g *Guard) banNow(p netip.Prefix, r api.BanRequest) (api.Change, error) {
	if why, ok := g.shield.covers(p); ok {
		return api.Change{}, refused("take it off first: tocsin allow --remove "+tocsin.PrefixString(p), "%s is never banned: %s", tocsin.PrefixString(p), why)
	}
	now := time.Now()
	d := tocsin.Decision{
		Jail: operatorJail, ID: tocsin.PrefixString(p), Prefix: p, Action: tocsin.Ban, Origin: tocsin.ByOperator,
		By: r.By, Reason: cmp.Or(r.Reason, "banned by hand"), At: now,
	}
	if r.Seconds > 0 {
		d.Until = now.Add(time.Duration(r.Seconds * float64(time.Second)))
	}
	if r.Jail != "" {
		c := g.cellNamed(r.Jail)
		if c == nil {
			return api.Change{}, api.Errorf(api.ExitUsage, "the jails are: "+g.jailNames(), fmt.Sprintf("no jail is named %q", r.Jail))
		}
		d.Jail, d.Ports, d.Verdict = r.Jail, c.options.Ports, c.options.Verdict
		c.jail.Banned(&d)
	}
	if err := g.decide(d); err != nil {
		return api.Change{}, api.Errorf(api.ExitFailed, "see tocsin doctor", fmt.Sprintf("%s is decided and will be banned, but the firewall refused it just now: %v", d.ID, err))
	}
	return change(fmt.Sprintf("%s is %s on %s %s", d.ID, g.word("banned", "noted as banned"), portsText(d.Ports), untilText(&d)),
		"tocsin unban "+d.ID, d.ID), nil
}

// word chooses what to say while the firewall is touched and while it is not.
func (g *Guard) word(enforcing, otherwise string) string {
	if g.enforces && !g.wasOff {
		return enforcing
	}
	return otherwise
}

func (g *Guard) unban(ctx context.Context, r api.UnbanRequest) (api.Change, error) {
	var p netip.Prefix
	if !r.All {
		var err error
		if p, err = parsePrefix(r.Prefix); err != nil {
			return api.Change{}, err
		}
	}
	return decided(ctx, g, func() (api.Change, error) { return g.unbanNow(p, r) })
}

func (g *Guard) unbanNow(p netip.Prefix, r api.UnbanRequest) (api.Change, error) {
	now := time.Now()
	var lifted []string
	var undo []string
	for k, b := range g.active {
		if r.Jail != "" && r.Jail != k.jail || !r.All && !p.Overlaps(b.prefix) {
			continue
		}
		d := tocsin.Decision{
			Jail: k.jail, ID: k.id, Prefix: b.prefix, Action: tocsin.Unban, Origin: tocsin.ByOperator,
			By: r.By, Reason: cmp.Or(r.Reason, "unbanned by hand"), At: now,
		}
		if err := g.decide(d); err != nil {
			return api.Change{}, api.Errorf(api.ExitFailed, "see tocsin doctor", fmt.Sprintf("unban %s: %v", k.id, err))
		}
		lifted = append(lifted, k.id)
		undo = append(undo, undoUnban(k, b, now))
	}
	forgotten := g.forgive(p, r, now)
	slices.Sort(lifted)
	switch {
	case len(lifted) > 1:
		return change(fmt.Sprintf("%d bans are lifted", len(lifted)), "", lifted...), nil
	case len(lifted) == 1:
		return change(lifted[0]+" is no longer banned", undo[0], lifted...), nil
	case r.All:
		return change("nobody was banned", ""), nil
	case forgotten > 0:
		return change(fmt.Sprintf("%s was not banned; its %s forgotten", tocsin.PrefixString(p), plural(forgotten, "failure is", "failures are")), ""), nil
	}
	return change(tocsin.PrefixString(p)+" was not banned", ""), nil
}

// forgive makes the jails forget what they counted, so that the next mistake does not ban at once.
func (g *Guard) forgive(p netip.Prefix, r api.UnbanRequest, now time.Time) (failures int) {
	for _, c := range g.set.cells {
		if r.All || r.Jail != "" && r.Jail != c.conf.Name {
			continue
		}
		failures += c.jail.Standing(p.Addr(), now).Failures
		c.jail.Lift(p, now)
	}
	return failures
}

func undoUnban(k banKey, b activeBan, now time.Time) string {
	cmd := "tocsin ban " + k.id
	if k.jail != operatorJail {
		cmd += " --jail " + k.jail
	}
	if b.until.IsZero() {
		return cmd + " --for forever"
	}
	return cmd + " --for " + b.until.Sub(now).Round(time.Second).String()
}

func (g *Guard) allow(ctx context.Context, r api.AllowRequest) (api.Change, error) {
	p, err := parsePrefix(r.Prefix)
	if err != nil {
		return api.Change{}, err
	}
	if widest := widestOf(p); p.Bits() < widest && !r.Remove {
		return api.Change{}, refused("", "%s is too wide: an allow list that holds the internet guards nothing (at least /%d)", p, widest)
	}
	return decided(ctx, g, func() (api.Change, error) {
		if r.Remove {
			return g.disallowNow(p)
		}
		return g.allowNow(p, r)
	})
}

func (g *Guard) allowNow(p netip.Prefix, r api.AllowRequest) (api.Change, error) {
	now, name := time.Now(), tocsin.PrefixString(p)
	e := store.AllowEntry{Prefix: p, By: r.By, Note: r.Note, At: now}
	text := name + " is never banned"
	if r.Seconds > 0 {
		e.Until = now.Add(time.Duration(r.Seconds * float64(time.Second)))
		text += " until " + e.Until.Format(time.DateTime)
	}
	if err := g.store.Allow(e); err != nil {
		return api.Change{}, fmt.Errorf("store allow list: %w", err)
	}
	g.shield.set(e)
	g.reshield()
	for k, b := range g.active {
		if p.Bits() <= b.prefix.Bits() && p.Contains(b.prefix.Addr()) {
			d := tocsin.Decision{
				Jail: k.jail, ID: k.id, Prefix: b.prefix, Action: tocsin.Unban, Origin: tocsin.ByOperator,
				By: r.By, Reason: "put on the allow list", At: now,
			}
			if err := g.decide(d); err != nil {
				return api.Change{}, fmt.Errorf("lift the ban of %s: %w", k.id, err)
			}
			text += "; its ban is lifted"
		}
	}
	g.forgive(p, api.UnbanRequest{}, now)
	g.log.Info("allowed", "addr", name, "by", r.By)
	return change(text, "tocsin allow --remove "+name, name), nil
}

func (g *Guard) disallowNow(p netip.Prefix) (api.Change, error) {
	name := tocsin.PrefixString(p)
	had, err := g.store.Disallow(p)
	if err != nil {
		return api.Change{}, fmt.Errorf("store allow list: %w", err)
	}
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
}

// exitMoved looks at the emergency exit at once instead of at the next tick.
func (g *Guard) exitMoved(ctx context.Context, r api.OffRequest) (api.Change, error) {
	return decided(ctx, g, func() (api.Change, error) {
		g.watchExit(time.Now())
		if g.wasOff {
			return change("off: watching and deciding, nobody is banned", "tocsin on"), nil
		}
		return change(fmt.Sprintf("on: %s in force", plural(len(g.active), "ban is", "bans are")), "tocsin off"), nil
	})
}

func (g *Guard) reloadNow(ctx context.Context) (api.Change, error) {
	next, err := g.reload(ctx)
	if err != nil {
		return api.Change{}, api.Errorf(api.ExitFindings, "the old configuration stays in force", err.Error())
	}
	names := make([]string, 0, len(next.cells))
	for _, c := range next.cells {
		names = append(names, c.conf.Name)
	}
	return change("reloaded: "+strings.Join(names, ", "), "", names...), nil
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
