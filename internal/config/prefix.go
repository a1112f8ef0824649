package config

import (
	"fmt"
	"net/netip"
	"strings"
)

// ParsePrefix reads an address, which stands for itself alone, or a prefix such as "198.51.100.0/24". IPv4 addresses in
// IPv6 clothes ("::ffff:192.0.2.1") come out as IPv4, for that is how they reach the firewall. Bits beyond the prefix are a
// mistake: whoever writes 192.0.2.7/24 may mean one address or all of them. The error is an [*Error] without place.
func ParsePrefix(s string) (netip.Prefix, error) {
	text, _, slash := strings.Cut(s, "/")
	if !slash {
		addr, err := netip.ParseAddr(s)
		if err != nil {
			return netip.Prefix{}, notPrefix(s, text)
		}
		if addr.Zone() != "" {
			return netip.Prefix{}, &Error{
				Msg:  fmt.Sprintf("%q names a network interface", clip(s)),
				Hint: fmt.Sprintf("write %s; it holds on every interface", addr.WithZone("")),
			}
		}
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, notPrefix(s, text)
	}
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	if p != p.Masked() {
		return netip.Prefix{}, &Error{
			Msg:  fmt.Sprintf("%q has bits set beyond its /%d", s, p.Bits()),
			Hint: fmt.Sprintf("write %s for the network, or %s for the one address", p.Masked(), p.Addr()),
		}
	}
	return p, nil
}

func notPrefix(s, addr string) error {
	e := &Error{
		Msg:  fmt.Sprintf("%q is not an address or prefix", clip(s)),
		Hint: "write it like 192.0.2.7, 198.51.100.0/24 or 2001:db8:1::/48",
	}
	if strings.ContainsFunc(addr, func(c rune) bool { return 'g' <= c|0x20 && c|0x20 <= 'z' }) {
		e.Hint = "names are not looked up; " + e.Hint
	}
	return e
}

// WidestPrefix is the length of the widest prefix that may be banned or allowed as a whole: registries give out nothing
// wider to one holder, and a mistyped length must neither take a part of the internet off the air nor let it all in.
func WidestPrefix(a netip.Addr) int {
	if a.Is4() {
		return 8
	}
	return 19
}
