package api

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"tocsin"
)

// This file holds what the pages may change: the watch process asks for it, which talks to the internet and is not believed. So
// it may do what a person of the pages does, and no more: the allow list of root's stays, an open ssh session is never closed,
// nothing is without end, and everybody at once is nobody.

// Bounds of what the pages may change.
const (
	PagesLongest = 366 * 24 * time.Hour
	pagesWidest4 = 24
	pagesWidest6 = 48
	maxBy        = 200 // bytes
)

// pageHandlers are the changes that the pages may make too, where the configuration lets them.
func pageHandlers(mux *http.ServeMux, op *Operations) {
	changeIf(mux, "POST /v1/ban", op.mayManage, bounded(op.Ban, boundBan))
	changeIf(mux, "POST /v1/unban", op.mayManage, bounded(op.Unban, boundUnban))
	changeIf(mux, "POST /v1/allow", op.mayManage, bounded(op.Allow, boundAllow))
}

func boundBan(r *BanRequest) error {
	switch {
	case r.AcceptRisk != "":
		return rootOnly("to close an open session")
	case r.Jail != "":
		return rootOnly("to ban for a jail")
	}
	return bound(r.By, r.Prefix, r.Seconds)
}

func boundUnban(r *UnbanRequest) error {
	if r.All {
		return rootOnly("to unban everybody")
	}
	if p, err := netip.ParsePrefix(r.Prefix); err == nil { // or else it is one address, or an id that is none
		if err := boundWidth(p); err != nil {
			return err
		}
	}
	return boundBy(r.By)
}

func boundAllow(r *AllowRequest) error {
	switch {
	case r.Remove:
		return rootOnly("to take somebody off the allow list")
	case r.Jail != "":
		return rootOnly("to allow for a jail")
	}
	return bound(r.By, r.Prefix, r.Seconds)
}

// mayManage lets the watch process change bans, beside those who may change anything.
func (op *Operations) mayManage(ctx context.Context) error {
	err := mayChange(ctx)
	if err == nil {
		return nil
	}
	if uid, ok := ctx.Value(peerKey{}).(uint32); !ok || !op.MayShare(uid) {
		return err
	}
	if !op.ForPages(ctx) {
		return Errorf(ExitPermission, "bans = true under [web] lets them; tocsin unban, allow and ban go on working", "the pages may not change bans here")
	}
	return nil
}

// bounded is f, for whoever may not change anything within the bounds of the pages.
func bounded[Req any](f func(context.Context, Req) (Change, error), within func(*Req) error) func(context.Context, Req) (Change, error) {
	return func(ctx context.Context, r Req) (Change, error) {
		if mayChange(ctx) != nil {
			if err := within(&r); err != nil {
				return Change{}, err
			}
		}
		return f(ctx, r)
	}
}

func rootOnly(what string) error {
	return Errorf(ExitPermission, "use the command, with sudo", "the pages have no right "+what)
}

func boundBy(by string) error {
	if by == "" || len(by) > maxBy || tocsin.Printable(by) != by {
		return Errorf(ExitUsage, "", "the pages have to say who wants it")
	}
	return nil
}

// bound holds who is banned or allowed, and for how long.
func bound(by, prefix string, seconds float64) error {
	if err := boundBy(by); err != nil {
		return err
	}
	if !(seconds > 0 && seconds <= PagesLongest.Seconds()) { // not so for NaN
		return Errorf(ExitPermission, "for longer: use the command, with sudo", fmt.Sprintf("the pages may do so for %d days at most", PagesLongest/(24*time.Hour)))
	}
	p, err := netip.ParsePrefix(prefix)
	if err != nil {
		addr, err := netip.ParseAddr(prefix)
		if err != nil {
			return Errorf(ExitUsage, "", fmt.Sprintf("%.80q is no address", prefix))
		}
		p = netip.PrefixFrom(addr, addr.BitLen())
	}
	return boundWidth(p)
}

// boundWidth holds how many are meant at once. IPv4 in the clothes of IPv6 is IPv4, as it is for the guard.
func boundWidth(p netip.Prefix) error {
	least, bits := pagesWidest6, p.Bits()
	switch {
	case p.Addr().Is4():
		least = pagesWidest4
	case p.Addr().Is4In6():
		least, bits = pagesWidest4, bits-96
	}
	if bits < least {
		return Errorf(ExitPermission, "for a wider one: use the command, with sudo", fmt.Sprintf("the pages may do so for no network wider than /%d", least))
	}
	return nil
}
