package daemon

import (
	"context"
	"net/netip"
	"os/user"
	"strconv"

	"tocsin/internal/probe"
	"tocsin/internal/web"
)

// The user ids that Debian gives to people (policy, 9.2.2).
const leastPerson, mostPerson = 1000, 59999

// guardData is what the guard's pages show beside the guard's own answers.
func (s *supervisor) guardData() web.GuardData {
	lands := probe.NewCountries(s.conf.Watch.Country)
	return web.GuardData{
		Country:  lands.Of,
		Person:   isPerson,
		Own:      func() (group, server string) { return s.own.group, s.own.name },
		Reported: s.reported,
	}
}

// isPerson says whether a name is that of a person with an account on this machine. A stranger has tried the name.
func isPerson(name string) bool {
	u, err := user.Lookup(name)
	if err != nil {
		return false
	}
	id, err := strconv.Atoi(u.Uid)
	return err == nil && id >= leastPerson && id <= mostPerson
}

// reported is what became of reports about an address in the last day.
func (s *supervisor) reported(ctx context.Context, addr netip.Addr) (web.Reported, error) {
	if !s.conf.Report.Enabled {
		return web.Reported{}, nil
	}
	r, err := s.w.reputation(ctx)
	if err != nil {
		return web.Reported{}, err
	}
	out := web.Reported{To: r.Service}
	state, err := s.w.store.Reports(ctx)
	if err != nil {
		return out, err
	}
	for i := range state.Sent {
		if state.Sent[i].Addr == addr {
			out.Sent = state.Sent[i].At
		}
	}
	for i := range state.Queued {
		out.Waiting = out.Waiting || state.Queued[i].Addr == addr
	}
	return out, nil
}
