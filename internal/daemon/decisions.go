package daemon

import (
	"context"
	"net/netip"
	"os"
	"time"

	"tocsin"
	"tocsin/internal/api"
	"tocsin/internal/exec"
	"tocsin/internal/store"
)

const (
	// knownFor is how long a login keeps an address from being reported. The retention of logins may be shorter.
	knownFor = 90 * 24 * time.Hour
	// decisionTick is how often somebody who waits for a decision is looked after.
	decisionTick = 500 * time.Millisecond
	// watchGone is after how long without a question the watch process is taken for dead.
	watchGone = 3 * time.Minute
)

// decisions tells the decisions behind a number, and waits for one if it is asked to. It tells nothing that a stranger
// could have written: numbers, addresses, and the names of jails in the configuration.
func (g *Guard) decisions(ctx context.Context, q api.DecisionsQuery) (api.Decisions, error) {
	g.lists.mu.Lock()
	g.lists.asked = time.Now()
	g.lists.mu.Unlock()
	out := api.Decisions{Schema: api.SchemaDecisions, Decisions: []api.Decision{}}
	limit := q.Limit
	if q.After < 0 {
		limit = 0
	}
	var since time.Time
	if q.Since > 0 {
		since = time.Now().Add(-q.Since)
	}
	if err := g.do(ctx, func() { out.Reloads, out.Reports = g.reloads.Load(), api.Time(g.reporting) }); err != nil {
		return out, err
	}
	for ends := time.Now().Add(q.Wait); ; {
		rows, newest, err := g.store.After(q.After, since, limit)
		if err != nil {
			return out, err
		}
		out.Newest, out.Next = newest, min(max(q.After, 0), newest)
		if q.After < 0 {
			out.Next = newest
		}
		if len(rows) > 0 {
			out.Next = rows[len(rows)-1].N
			return out, g.addDecisions(ctx, &out, rows)
		}
		if q.After < 0 || !time.Now().Before(ends) || g.reloads.Load() != out.Reloads { // whoever asks has to look at the configuration
			return out, nil
		}
		select {
		case <-time.After(decisionTick):
		case <-ctx.Done():
			return out, nil
		case <-g.life.Done():
			return out, nil
		}
	}
}

// addDecisions puts those rows into an answer that are about addresses.
func (g *Guard) addDecisions(ctx context.Context, out *api.Decisions, rows []store.Numbered) error {
	known, err := g.membersWithin(knownFor)
	if err != nil {
		return err
	}
	return g.do(ctx, func() {
		for i := range rows {
			d := &rows[i]
			if !d.Prefix.IsValid() {
				continue
			}
			w := api.Decision{
				N: d.N, Jail: tocsin.Printable(d.Jail), Prefix: d.Prefix.String(), Action: d.Action.String(), Origin: d.Origin.String(),
				At: d.At.UTC(), Until: api.Time(d.Until), Failures: d.Failures, First: api.Time(d.First), Last: api.Time(d.Last),
				Ports: d.Ports, Known: known.overlaps(d.Prefix), Allowed: g.shield.table.overlaps(d.Prefix),
			}
			if d.Addr.IsValid() {
				w.Addr = d.Addr.String()
			}
			if w.Ports == nil {
				w.Ports = []uint16{}
			}
			if c := g.cellNamed(d.Jail); c != nil {
				w.MaxRetry = c.options.MaxRetry
				w.Allowed = w.Allowed || c.allow.overlaps(d.Prefix)
			}
			out.Decisions = append(out.Decisions, w)
		}
	})
}

// membersWithin are those who logged in within a time, IPv6 as the whole /64.
func (g *Guard) membersWithin(d time.Duration) (*prefixes, error) {
	logins, err := g.store.KnownSince(time.Now().Add(-d))
	if err != nil {
		return nil, err
	}
	p := &prefixes{}
	for _, l := range logins {
		p.add(memberPrefix(l.Addr), "logged in")
	}
	return p, nil
}

// spared says why nothing may be told about somebody, or blocked of them.
func (g *Guard) spared(ctx context.Context, p netip.Prefix) (api.Spared, error) {
	known, err := g.membersWithin(knownFor)
	if err != nil {
		return api.Spared{}, err
	}
	s := api.Spared{Schema: api.SchemaSpared, Prefix: p.String(), Known: known.overlaps(p)}
	err = g.do(ctx, func() {
		for _, f := range g.shield.fixed {
			s.Own = s.Own || f.Prefix.Overlaps(p)
		}
		s.Allowed = g.shield.table.overlaps(p)
		for _, c := range g.set.cells {
			s.Allowed = s.Allowed || c.allow.overlaps(p)
		}
	})
	return s, err
}

// reservedID is who the watch process is where the package did not make the user tocsin: a number that Debian's policy and
// systemd keep free, so that it is nobody else.
const reservedID = 65533

// watchUser is the account of the watch process.
func watchUser() exec.User {
	if u, err := exec.LookupUser("tocsin"); err == nil {
		return *u
	}
	u := exec.User{UID: reservedID, GID: reservedID}
	if gid := groupID("tocsin"); gid >= 0 {
		u.GID = uint32(gid)
	}
	return u
}

// mayShare says whether the watch process may run as this user.
func mayShare(uid uint32) bool {
	if os.Geteuid() != 0 {
		return int(uid) == os.Geteuid()
	}
	return uid == watchUser().UID
}
