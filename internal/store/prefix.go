package store

import (
	"errors"
	"net/netip"
)

// A prefix is stored as its address, 4 or 16 bytes, and one byte for its length. All prefixes that contain an address can
// then be asked for in one indexed query, because there are only 33 or 129 of them.

func prefixBytes(p netip.Prefix) []byte {
	if !p.IsValid() {
		return nil
	}
	p = p.Masked()
	return append(p.Addr().AsSlice(), byte(p.Bits()))
}

var errPrefix = errors.New("not a stored prefix")

// parsePrefix reads what prefixBytes wrote; nothing is the zero prefix.
func parsePrefix(b []byte) (netip.Prefix, error) {
	if len(b) == 0 {
		return netip.Prefix{}, nil
	}
	a, ok := netip.AddrFromSlice(b[:len(b)-1])
	p := netip.PrefixFrom(a, int(b[len(b)-1]))
	if !ok || !p.IsValid() {
		return netip.Prefix{}, errPrefix
	}
	return p, nil
}

// containing lists every prefix that contains a, as stored.
func containing(a netip.Addr) [][]byte {
	a = a.Unmap().WithZone("")
	all := make([][]byte, 0, a.BitLen()+1)
	for bits := range a.BitLen() + 1 {
		all = append(all, prefixBytes(netip.PrefixFrom(a, bits)))
	}
	return all
}
