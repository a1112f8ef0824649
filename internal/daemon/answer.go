package daemon

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"tocsin"
	"tocsin/internal/api"
	"tocsin/internal/config"
	"tocsin/internal/jail"
	"tocsin/internal/store"
)

// Bounds of an answer.
const (
	maxHistory = 200 // bans of one address that are looked at
	maxFormer  = 20
	maxLogins  = 10
	maxUsers   = 20
)

func (g *Guard) mode() (mode, reason string, until *time.Time) {
	switch {
	case g.off():
		end, _, _ := ExitOpen(g.state, time.Now()) // that it is open is known; the file only adds until when
		return api.ModeOff, "the emergency exit is open; tocsin on closes it", api.Time(end)
	case !g.enforces:
		return api.ModeObserving, g.observes, nil
	}
	return api.ModeEnforcing, "", nil
}

func (g *Guard) status(ctx context.Context) (api.Status, error) {
	s := api.Status{Schema: api.SchemaStatus, Version: g.o.Version, Started: g.started.UTC(), Jails: []api.Jail{}, Sources: []api.Source{}}
	s.Mode, s.ModeReason, s.OffUntil = g.mode()
	var readers []*reader
	if err := g.do(ctx, func() {
		now := make(map[string]int)
		for k := range g.active {
			now[k.jail]++
		}
		s.BansNow = len(g.active)
		s.Config = g.path
		for _, c := range g.set.cells {
			s.Jails = append(s.Jails, c.status(now[c.conf.Name]))
		}
		readers = g.running
	}); err != nil {
		return s, api.Errorf(api.ExitTryLater, "", err.Error())
	}
	for _, r := range readers {
		s.Sources = append(s.Sources, r.status())
	}
	var err error
	if s.BansDay, err = g.store.CountBans(time.Now().Add(-24 * time.Hour)); err != nil {
		return s, fmt.Errorf("count today's bans: %w", err)
	}
	s.Warnings = slices.DeleteFunc(g.findings(ctx), func(f api.Finding) bool { return f.Severity == api.SeverityNote })
	return s, nil
}

func (c *cell) status(bansNow int) api.Jail {
	st := c.jail.Stats()
	ports := c.options.Ports
	if ports == nil {
		ports = []uint16{}
	}
	return api.Jail{
		Name: c.conf.Name, Filter: c.conf.Filter, Sources: c.sources, Ports: ports,
		MaxRetry: c.options.MaxRetry, FindTime: config.FormatDuration(c.options.FindTime), BanTime: config.FormatDuration(c.conf.BanTime),
		Addresses: st.Addresses, Failures: c.tally.failures, Logins: c.tally.logins, Bans: c.tally.bans,
		Spared: c.tally.spared, BansNow: bansNow, Verdict: c.options.Verdict.String(),
	}
}

func (r *reader) status() api.Source {
	out := api.Source{Name: r.name, CaughtUp: r.live.Load()}
	if r.src != nil {
		st := r.src.Stats()
		out.Lines, out.Bytes, out.Cut, out.Dropped = st.Lines, st.Bytes, st.Cut, st.Dropped
	}
	if us := r.lastLine.Load(); us != 0 {
		out.LastLine = api.Time(time.UnixMicro(us))
	}
	if text := r.stopped.Load(); text != nil {
		out.Error = *text
	}
	return out
}

func (g *Guard) bans(_ context.Context, q api.BansQuery) (api.Bans, error) {
	now := time.Now()
	sq := store.Query{Addr: q.Addr, Jail: q.Jail, Active: !q.All, Now: now, Limit: q.Limit + 1, WithEvidence: q.Detail}
	if q.Since > 0 {
		sq.Since = now.Add(-q.Since)
	}
	rows, err := g.store.Bans(sq)
	if err != nil {
		return api.Bans{}, fmt.Errorf("read bans: %w", err)
	}
	mode, _, _ := g.mode()
	return api.Bans{Schema: api.SchemaBans, Mode: mode, Bans: wireBans(rows[:min(q.Limit, len(rows))], now), More: len(rows) > q.Limit}, nil
}

// mostTallied is of how many bans it is said whom they are about: 1 MB of addresses.
const mostTallied = 200_000

// tallyBans counts the bans in force and those of the last 24 hours.
func (g *Guard) tallyBans(_ context.Context, addrs bool) (api.Tally, error) {
	now, most := time.Now(), 0
	if addrs {
		most = mostTallied
	}
	counts, about, err := g.store.TallyBans(now.Add(-24*time.Hour), now, most)
	if err != nil {
		return api.Tally{}, fmt.Errorf("count bans: %w", err)
	}
	out := api.Tally{Schema: api.SchemaTally, Counts: make([]api.BanCount, len(counts))}
	for i, c := range counts {
		out.Counts[i] = api.BanCount{Jail: c.Jail, Ports: append([]uint16{}, c.Ports...), Active: c.Active, Day: c.Taken}
	}
	for _, a := range about {
		out.Addrs.Add(a.Addr, a.Active, a.Taken)
	}
	return out, nil
}

func wireBans(rows []store.Ban, now time.Time) []api.Ban {
	out := make([]api.Ban, 0, len(rows))
	for i := range rows {
		out = append(out, wireBan(&rows[i], now))
	}
	return out
}

func wireBan(row *store.Ban, now time.Time) api.Ban {
	b := api.BanOf(&row.Decision, now)
	if !row.Ended.IsZero() {
		b.Active = false
		b.EndedAt, b.EndedBy, b.EndReason = api.Time(row.Ended), row.EndedBy, row.EndReason
	}
	return b
}

func (g *Guard) allowed(ctx context.Context) (api.Allowed, error) {
	out := api.Allowed{Schema: api.SchemaAllowed, Allowed: []api.Allow{}}
	err := g.do(ctx, func() {
		for _, e := range g.shield.entries {
			out.Allowed = append(out.Allowed, wireAllow(e))
		}
		for _, p := range g.shield.conf {
			out.Allowed = append(out.Allowed, api.Allow{Prefix: p.String(), Origin: "configuration"})
		}
		for _, c := range g.set.cells {
			for _, p := range c.conf.Allow {
				out.Allowed = append(out.Allowed, api.Allow{Prefix: p.String(), Origin: "configuration", Jail: c.conf.Name})
			}
		}
		for _, p := range g.shield.fixed {
			out.Allowed = append(out.Allowed, api.Allow{Prefix: p.Prefix.String(), Origin: p.Reason})
		}
	})
	if err != nil {
		return out, api.Errorf(api.ExitTryLater, "", err.Error())
	}
	return out, nil
}

func wireAllow(e store.AllowEntry) api.Allow {
	return api.Allow{Prefix: e.Prefix.String(), Origin: "operator", Until: api.Time(e.Until), By: e.By, Note: e.Note}
}

// newWhy is the answer about somebody of whom nothing is known.
func (g *Guard) newWhy(who string) api.Why {
	w := api.Why{Schema: api.SchemaWhy, Addr: who, Standing: []api.Standing{}, Bans: []api.Ban{}, Former: []api.Ban{}, Logins: []api.Login{}, Users: []string{}, Listed: []api.Listed{}}
	w.Mode, _, _ = g.mode()
	return w
}

// whyID gathers what is known of an id that is no address: bans and what counts now.
func (g *Guard) whyID(ctx context.Context, id string) (api.Why, error) {
	now, w, users := time.Now(), g.newWhy(tocsin.Printable(id)), userList{}
	if err := g.do(ctx, func() {
		for _, c := range g.set.cells {
			if st := c.jail.StandingID(id, now); st.Failures > 0 {
				w.Standing = append(w.Standing, wireStanding(c, &st))
				users.add(st.Users...)
			}
		}
	}); err != nil {
		return w, api.Errorf(api.ExitTryLater, "", err.Error())
	}
	rows, err := g.store.Bans(store.Query{ID: id, Now: now, Limit: maxHistory, WithEvidence: true})
	if err != nil {
		return w, fmt.Errorf("read bans of %q: %w", id, err)
	}
	addBans(&w, rows, now, &users)
	w.Users, w.Banned, w.Next = users.sorted(), len(w.Bans) > 0, []string{}
	return w, nil
}

// why gathers everything that is known of one address.
func (g *Guard) why(ctx context.Context, addr netip.Addr) (api.Why, error) {
	now, w := time.Now(), g.newWhy(addr.String())
	var standings []jail.Standing
	var cells []*cell
	if err := g.do(ctx, func() {
		g.flushTally()
		w.Allowed = g.allowedAs(addr)
		for _, c := range g.set.cells {
			standings = append(standings, c.jail.Standing(addr, now))
			cells = append(cells, c)
		}
	}); err != nil {
		return w, api.Errorf(api.ExitTryLater, "", err.Error())
	}
	users := userList{}
	for i, st := range standings {
		if st.Failures > 0 {
			w.Standing = append(w.Standing, wireStanding(cells[i], &st))
			users.add(st.Users...)
		}
	}
	if err := g.whyFromStore(&w, addr, now, &users); err != nil {
		return w, err
	}
	w.Users = users.sorted()
	w.Banned = len(w.Bans) > 0
	w.Listed = g.listed(addr)
	w.Next = whatNext(&w)
	return w, nil
}

func (g *Guard) allowedAs(addr netip.Addr) *api.Allow {
	for _, e := range g.shield.entries {
		if e.Prefix.Contains(addr) {
			a := wireAllow(e)
			return &a
		}
	}
	if why, ok := g.shield.table.has(addr); ok {
		return &api.Allow{Prefix: addr.String(), Origin: why}
	}
	var jails []string
	for _, c := range g.set.cells {
		if _, ok := c.allow.has(addr); ok {
			jails = append(jails, c.conf.Name)
		}
	}
	if len(jails) == 0 {
		return nil
	}
	if len(jails) > 1 && len(jails) == len(g.set.cells) {
		jails = nil // all of them, as ignoreip under [DEFAULT] has it
	}
	return &api.Allow{Prefix: addr.String(), Origin: "configuration", Jail: strings.Join(jails, ", ")}
}

func (g *Guard) whyFromStore(w *api.Why, addr netip.Addr, now time.Time, users *userList) error {
	// What was counted a moment ago belongs to the answer, unless the disk is slow.
	fresh, cancel := context.WithTimeout(context.Background(), storeWait)
	defer cancel()
	_ = g.store.Flush(fresh)
	rows, err := g.store.Bans(store.Query{Addr: addr, Now: now, Limit: maxHistory, WithEvidence: true})
	if err != nil {
		return fmt.Errorf("read bans of %s: %w", addr, err)
	}
	addBans(w, rows, now, users)
	counts, err := g.store.Failures(addr, now)
	if err != nil {
		return fmt.Errorf("read failures of %s: %w", addr, err)
	}
	for _, c := range counts {
		w.Today = max(w.Today, c.N) // several jails may count the same line
		users.add(c.Users...)
	}
	logins, err := g.store.Logins(addr, now.Add(-loginsAsked))
	if err != nil {
		return fmt.Errorf("read logins of %s: %w", addr, err)
	}
	for _, l := range slices.Backward(logins) {
		if l.Opened && len(w.Logins) < maxLogins {
			w.Logins = append(w.Logins, api.Login{At: l.At.UTC(), User: tocsin.Printable(l.User)})
		}
	}
	return nil
}

// addBans adds bans to an answer: all that run, and the newest of those that are over.
func addBans(w *api.Why, rows []store.Ban, now time.Time, users *userList) {
	for i := range rows {
		b := wireBan(&rows[i], now)
		if !ofManyPeople(rows[i].Prefix) {
			for _, e := range rows[i].Evidence {
				users.add(e.User)
			}
		}
		if b.Active {
			w.Bans = append(w.Bans, b)
			continue
		}
		if w.FormerAll++; len(w.Former) < maxFormer {
			if len(w.Former) > 0 {
				b.Evidence = []api.Evidence{}
			}
			w.Former = append(w.Former, b)
		}
	}
}

// patienceText says why an address may fail more often than others.
var patienceText = map[jail.Patience]string{jail.Known: "it logged in before", jail.Session: "it holds an open session"}

// ofManyPeople says whether a prefix is wider than what one person is given: what was tried from elsewhere in it says
// nothing about this address.
func ofManyPeople(p netip.Prefix) bool {
	return p.IsValid() && (p.Addr().Is4() && p.Bits() < 32 || p.Addr().Is6() && p.Bits() < 64)
}

func wireStanding(c *cell, st *jail.Standing) api.Standing {
	out := api.Standing{
		Jail: c.conf.Name, Failures: st.Failures, More: st.More, MaxRetry: st.Limit, FindTime: config.FormatDuration(c.options.FindTime),
		Last: api.Time(st.Last), Evidence: api.EvidenceOf(st.Lines),
	}
	if st.Patience != jail.NoPatience {
		out.Patience = patienceText[st.Patience]
	}
	return out
}

// whatNext says what a person is likely to want to type now.
func whatNext(w *api.Why) []string {
	switch {
	case w.Banned:
		return []string{"tocsin unban " + w.Addr, "tocsin allow " + w.Addr + " --for 7d"}
	case w.Allowed != nil && w.Allowed.Origin == "operator":
		return []string{"tocsin allow --remove " + w.Allowed.Prefix}
	case w.Allowed != nil:
		return []string{}
	case len(w.Standing) > 0 || w.FormerAll > 0:
		return []string{"tocsin ban " + w.Addr + " --for 1d", "tocsin allow " + w.Addr + " --for 7d"}
	}
	return []string{"tocsin bans", "tocsin status"}
}

// userList collects user names that were tried, each once, at most maxUsers.
type userList []string

func (u *userList) add(names ...string) {
	for _, n := range names {
		if n = tocsin.Printable(n); n != "" && len(*u) < maxUsers && !slices.Contains(*u, n) {
			*u = append(*u, n)
		}
	}
}

func (u userList) sorted() []string {
	slices.Sort(u)
	return u
}
