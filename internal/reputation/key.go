package reputation

import (
	"encoding/binary"
	"net/netip"
)

// Key is what has a score: one IPv4 address, or one IPv6 network of 64 bits, which is what one line or one machine has.
// An IPv4 address is its 32 bits, a network its upper 64; what lies in ::/32 is nobody's and has the key 0.
type Key uint64

// KeyOf is the key of an address; 0 for what has none.
func KeyOf(a netip.Addr) Key {
	switch a = a.Unmap(); {
	case a.Is4():
		b := a.As4()
		return Key(binary.BigEndian.Uint32(b[:]))
	case a.Is6():
		b := a.As16()
		if k := Key(binary.BigEndian.Uint64(b[:])); k>>32 != 0 {
			return k
		}
	}
	return 0
}

// Is4 says that the key is an IPv4 address.
func (k Key) Is4() bool { return k>>32 == 0 }

// Prefix is the address or network.
func (k Key) Prefix() netip.Prefix {
	if k.Is4() {
		return netip.PrefixFrom(k.addr(), 32)
	}
	return netip.PrefixFrom(k.addr(), 64)
}

func (k Key) addr() netip.Addr {
	if k.Is4() {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(k))
		return netip.AddrFrom4(b)
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], uint64(k))
	return netip.AddrFrom16(b)
}

// within is the network of so many bits (48 or 56) that a network of 64 bits lies in.
func (k Key) within(bits int) Key { return k &^ (1<<(64-bits) - 1) }
