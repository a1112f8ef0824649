package list

import (
	"cmp"
	"encoding/binary"
	"iter"
	"net/netip"
	"slices"
)

// Set is a list's entries: addresses and networks, sorted, without doubles. It does not change once it is made, and holds
// an IPv4 address in 4 bytes. The zero Set is empty.
//
// An address that also lies in a network of the set stays an entry of its own.
type Set struct {
	one4 []uint32
	net4 []uint64 // address<<8 | length
	one6 []addr6
	net6 []net6
}

type addr6 struct{ hi, lo uint64 }

type net6 struct {
	addr addr6
	bits uint8
}

// NewSet makes a set of prefixes in any order. IPv4 in IPv6 becomes IPv4, and bits beyond a prefix's length are cleared.
// Prefixes that are not valid are left out.
func NewSet(prefixes iter.Seq[netip.Prefix]) *Set {
	var s Set
	for p := range prefixes {
		if p, ok := plain(p); ok {
			s.add(p)
		}
	}
	s.sort()
	return &s
}

// plain clears what lies beyond the length of p, and makes IPv4 of IPv4 in IPv6. It is not ok if p is not valid, or wider
// than all of IPv4 in IPv6 but within it.
func plain(p netip.Prefix) (netip.Prefix, bool) {
	if !p.IsValid() || p.Addr().Zone() != "" {
		return netip.Prefix{}, false
	}
	if p.Addr().Is4In6() {
		if p.Bits() < 96 {
			return netip.Prefix{}, false
		}
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked(), true
}

// add takes a masked prefix; sort must follow.
func (s *Set) add(p netip.Prefix) {
	a := p.Addr()
	switch {
	case a.Is4() && p.IsSingleIP():
		s.one4 = append(s.one4, uint32Of(a))
	case a.Is4():
		s.net4 = append(s.net4, net4Of(p))
	case p.IsSingleIP():
		s.one6 = append(s.one6, addr6Of(a))
	default:
		s.net6 = append(s.net6, net6{addr6Of(a), uint8(p.Bits())})
	}
}

// sort brings the set into order and gives back memory that its growth took and it does not need.
func (s *Set) sort() {
	slices.Sort(s.one4)
	slices.Sort(s.net4)
	slices.SortFunc(s.one6, addr6.compare)
	slices.SortFunc(s.net6, net6.compare)
	s.one4, s.net4 = tight(slices.Compact(s.one4)), tight(slices.Compact(s.net4))
	s.one6, s.net6 = tight(slices.Compact(s.one6)), tight(slices.Compact(s.net6))
}

func tight[T any](s []T) []T {
	if cap(s)-len(s) > len(s)/8 {
		return append(make([]T, 0, len(s)), s...)
	}
	return s
}

// Len is the number of entries.
func (s *Set) Len() int { return len(s.one4) + len(s.net4) + len(s.one6) + len(s.net6) }

// Networks is how many entries are more than one address.
func (s *Set) Networks() int { return len(s.net4) + len(s.net6) }

// All yields every entry in the order of their addresses, IPv4 first, of two with the same address the wider first.
func (s *Set) All() iter.Seq[netip.Prefix] {
	return func(yield func(netip.Prefix) bool) {
		_ = merged(s.net4, s.one4, func(n uint64, a uint32) bool { return uint32(n>>8) <= a },
			func(n uint64) bool { return yield(prefix4(n)) },
			func(a uint32) bool { return yield(netip.PrefixFrom(addrOf4(a), 32)) },
		) && merged(s.net6, s.one6, func(n net6, a addr6) bool { return n.addr.compare(a) <= 0 },
			func(n net6) bool { return yield(n.prefix()) },
			func(a addr6) bool { return yield(netip.PrefixFrom(a.addr(), 128)) },
		)
	}
}

// merged walks through two sorted slices as if they were one. It returns false once one of the functions did.
func merged[N, A any](nets []N, ones []A, before func(N, A) bool, net func(N) bool, one func(A) bool) bool {
	for len(nets) > 0 || len(ones) > 0 {
		if len(ones) == 0 || len(nets) > 0 && before(nets[0], ones[0]) {
			if !net(nets[0]) {
				return false
			}
			nets = nets[1:]
			continue
		}
		if !one(ones[0]) {
			return false
		}
		ones = ones[1:]
	}
	return true
}

// Covers finds the narrowest entry that holds all of p.
func (s *Set) Covers(p netip.Prefix) (entry netip.Prefix, ok bool) {
	p, ok = plain(p)
	if !ok {
		return netip.Prefix{}, false
	}
	a := p.Addr()
	for bits := p.Bits(); bits >= 0; bits-- {
		if q := netip.PrefixFrom(a, bits).Masked(); s.has(q) {
			return q, true
		}
	}
	return netip.Prefix{}, false
}

// has says whether p, masked, is an entry.
func (s *Set) has(p netip.Prefix) (found bool) {
	a := p.Addr()
	switch {
	case a.Is4() && p.IsSingleIP():
		_, found = slices.BinarySearch(s.one4, uint32Of(a))
	case a.Is4():
		_, found = slices.BinarySearch(s.net4, net4Of(p))
	case p.IsSingleIP():
		_, found = slices.BinarySearchFunc(s.one6, addr6Of(a), addr6.compare)
	default:
		_, found = slices.BinarySearchFunc(s.net6, net6{addr6Of(a), uint8(p.Bits())}, net6.compare)
	}
	return found
}

// Overlaps says whether the set and p have an address in common.
func (s *Set) Overlaps(p netip.Prefix) bool {
	p, ok := plain(p)
	if !ok {
		return false
	}
	if _, ok := s.Covers(p); ok {
		return true
	}
	return s.within(p)
}

// within says whether an entry lies in p, which is masked.
func (s *Set) within(p netip.Prefix) bool {
	if p.Addr().Is4() {
		first := uint32Of(p.Addr())
		last := first | hostBits(p.Bits())
		i, _ := slices.BinarySearch(s.one4, first)
		j, _ := slices.BinarySearch(s.net4, net4Of(p)) // wider networks of the same address sort before
		return i < len(s.one4) && s.one4[i] <= last || j < len(s.net4) && uint32(s.net4[j]>>8) <= last
	}
	first := net6{addr6Of(p.Addr()), uint8(p.Bits())}
	i, _ := slices.BinarySearchFunc(s.one6, first.addr, addr6.compare)
	j, _ := slices.BinarySearchFunc(s.net6, first, net6.compare)
	return i < len(s.one6) && p.Contains(s.one6[i].addr()) || j < len(s.net6) && p.Contains(s.net6[j].addr.addr())
}

// Without takes away from the set. Networks are split around what lies in them. The second result are those of away that
// had an address in common with the set, in their order.
func (s *Set) Without(away []netip.Prefix) (rest *Set, met []netip.Prefix) {
	for _, p := range away {
		if s.Overlaps(p) {
			met = append(met, p)
		}
	}
	if met == nil {
		return s, nil
	}
	gone := NewSet(slices.Values(met))
	rest = &Set{}
	for p := range s.All() {
		rest.addWithout(p, gone)
	}
	rest.sort()
	return rest, met
}

// addWithout adds p but for what gone holds of it, in as few pieces as there can be.
func (s *Set) addWithout(p netip.Prefix, gone *Set) {
	if _, ok := gone.Covers(p); ok {
		return
	}
	if p.IsSingleIP() || !gone.within(p) {
		s.add(p)
		return
	}
	low, high := halves(p)
	s.addWithout(low, gone)
	s.addWithout(high, gone)
}

// halves splits a masked prefix of more than one address.
func halves(p netip.Prefix) (low, high netip.Prefix) {
	b := p.Addr().AsSlice()
	b[p.Bits()/8] |= 0x80 >> (p.Bits() % 8)
	a, _ := netip.AddrFromSlice(b)
	return netip.PrefixFrom(p.Addr(), p.Bits()+1), netip.PrefixFrom(a, p.Bits()+1)
}

// Diff counts the entries that after has and before has not, and the other way round.
func Diff(before, after *Set) (added, removed int) {
	both := common(before.one4, after.one4, cmp.Compare) + common(before.net4, after.net4, cmp.Compare) +
		common(before.one6, after.one6, addr6.compare) + common(before.net6, after.net6, net6.compare)
	return after.Len() - both, before.Len() - both
}

// common counts what two sorted slices without doubles both hold.
func common[T any](a, b []T, compare func(T, T) int) (n int) {
	for len(a) > 0 && len(b) > 0 {
		switch c := compare(a[0], b[0]); {
		case c < 0:
			a = a[1:]
		case c > 0:
			b = b[1:]
		default:
			n, a, b = n+1, a[1:], b[1:]
		}
	}
	return n
}

func uint32Of(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

func addrOf4(a uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], a)
	return netip.AddrFrom4(b)
}

func net4Of(p netip.Prefix) uint64 { return uint64(uint32Of(p.Addr()))<<8 | uint64(p.Bits()) }

func prefix4(n uint64) netip.Prefix { return netip.PrefixFrom(addrOf4(uint32(n>>8)), int(n&0xff)) }

func addr6Of(a netip.Addr) addr6 {
	b := a.As16()
	return addr6{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

func (a addr6) addr() netip.Addr {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], a.hi)
	binary.BigEndian.PutUint64(b[8:], a.lo)
	return netip.AddrFrom16(b)
}

func (a addr6) compare(b addr6) int { return cmp.Or(cmp.Compare(a.hi, b.hi), cmp.Compare(a.lo, b.lo)) }

func (n net6) prefix() netip.Prefix { return netip.PrefixFrom(n.addr.addr(), int(n.bits)) }

func (n net6) compare(m net6) int { return cmp.Or(n.addr.compare(m.addr), cmp.Compare(n.bits, m.bits)) }
