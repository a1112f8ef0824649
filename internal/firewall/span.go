package firewall

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/gaissmai/bart"
)

// span is a range of addresses, both ends included.
type span struct {
	first, last netip.Addr
	until       time.Time // zero: without end
	comment     string
}

// lastAddr is the highest address in a masked prefix.
func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// disjoint cuts spans that come from prefixes into pieces that do not overlap, since an interval set refuses those that
// do. Every address keeps the longest time that any span gives it.
//
// Prefixes are nested or apart, so one walk with a stack of the spans around the current address is enough.
func disjoint(all []span) []span {
	slices.SortFunc(all, func(a, b span) int {
		return cmp.Or(a.first.Compare(b.first), b.last.Compare(a.last)) // the outer one first
	})
	var pieces, around []span
	emit := func(first, last netip.Addr, s span) {
		if first.Compare(last) <= 0 {
			pieces = append(pieces, span{first, last, s.until, s.comment})
		}
	}
	var at netip.Addr // where the innermost span around goes on
	leave := func() {
		s := around[len(around)-1]
		around = around[:len(around)-1]
		if at.IsValid() {
			emit(at, s.last, s)
		}
		at = s.last.Next()
	}
	for _, s := range all {
		for len(around) > 0 && around[len(around)-1].last.Less(s.first) {
			leave()
		}
		if n := len(around); n > 0 {
			outer := around[n-1]
			if !longer(s.until, outer.until) {
				continue // the outer one holds at least as long
			}
			if at.Less(s.first) {
				emit(at, s.first.Prev(), outer)
			}
		}
		around = append(around, s)
		at = s.first
	}
	for len(around) > 0 {
		leave()
	}
	return pieces
}

// longer says whether something until a holds longer than something until b.
func longer(a, b time.Time) bool {
	switch {
	case b.IsZero():
		return false
	case a.IsZero():
		return true
	}
	return a.After(b)
}

// prefixesOf cuts a range into the fewest prefixes.
func prefixesOf(first, last netip.Addr) []netip.Prefix {
	var ps []netip.Prefix
	for first.IsValid() && first.Compare(last) <= 0 {
		bits := first.BitLen()
		for bits > 0 {
			p := netip.PrefixFrom(first, bits-1)
			if p.Masked().Addr() != first || last.Less(lastAddr(p)) {
				break
			}
			bits--
		}
		p := netip.PrefixFrom(first, bits)
		ps = append(ps, p)
		first = lastAddr(p).Next()
	}
	return ps
}

// merged joins prefixes that overlap or lie side by side, and returns those of one family.
func merged(ps []netip.Prefix, f family) []span {
	var table bart.Lite
	for _, p := range ps {
		if p.IsValid() && familyOf(plain(p)) == f {
			table.Insert(plain(p))
		}
	}
	table.Aggregate()
	var all []span
	for p := range table.AllSorted() {
		all = append(all, span{first: p.Addr(), last: lastAddr(p)})
	}
	return all
}
