package api

import (
	"math"
	"net/netip"
)

// Internet is the space of addresses that somebody may have.
const Internet = "Internet"

// spaces are the networks that nobody's machine on the internet has
// (https://www.iana.org/assignments/iana-ipv4-special-registry, iana-ipv6-special-registry). The networks for documentation
// 198.51.100.0/24, 203.0.113.0/24 and 2001:db8::/32 are not among them, so that a hub can be tried out with addresses whose
// score hurts nobody; 192.0.2.0/24 is, as AbuseIPDB answers it.
var spaces = []struct {
	prefix netip.Prefix
	name   string
}{
	{netip.MustParsePrefix("0.0.0.0/8"), "Current Network"},
	{netip.MustParsePrefix("10.0.0.0/8"), "Private"},
	{netip.MustParsePrefix("100.64.0.0/10"), "Shared Address Space"},
	{netip.MustParsePrefix("127.0.0.0/8"), "Loopback"},
	{netip.MustParsePrefix("169.254.0.0/16"), "Link-local"},
	{netip.MustParsePrefix("172.16.0.0/12"), "Private"},
	{netip.MustParsePrefix("192.0.0.0/24"), "Reserved"},
	{netip.MustParsePrefix("192.0.2.0/24"), "Reserved"},
	{netip.MustParsePrefix("192.88.99.0/24"), "Reserved"},
	{netip.MustParsePrefix("192.168.0.0/16"), "Private"},
	{netip.MustParsePrefix("198.18.0.0/15"), "Reserved"},
	{netip.MustParsePrefix("224.0.0.0/4"), "Multicast"},
	{netip.MustParsePrefix("240.0.0.0/4"), "Reserved"},
	{netip.MustParsePrefix("2001::/23"), "Reserved"},
	{netip.MustParsePrefix("2002::/16"), "Reserved"},
	{netip.MustParsePrefix("3fff::/20"), "Reserved"},
	{netip.MustParsePrefix("::1/128"), "Loopback"},
	{netip.MustParsePrefix("fc00::/7"), "Private"},
	{netip.MustParsePrefix("fe80::/10"), "Link-local"},
	{netip.MustParsePrefix("ff00::/8"), "Multicast"},
}

var globalIPv6 = netip.MustParsePrefix("2000::/3")

// SpaceOf says to what an address belongs, Internet for those that may be somebody's.
func SpaceOf(a netip.Addr) string {
	for i := range spaces {
		if spaces[i].prefix.Contains(a) {
			return spaces[i].name
		}
	}
	if a.Is6() && !globalIPv6.Contains(a) {
		return "Reserved"
	}
	return Internet
}

// IsPublic says whether an address may be somebody's on the internet.
func IsPublic(a netip.Addr) bool { return SpaceOf(a) == Internet }

// hostsOf gives the first and the last host of a network and how many there are.
func hostsOf(p netip.Prefix) (first, last netip.Addr, n float64) {
	bytes := p.Addr().AsSlice()
	for i := p.Bits(); i < len(bytes)*8; i++ {
		bytes[i/8] |= 1 << (7 - i%8)
	}
	first = p.Addr()
	last, _ = netip.AddrFromSlice(bytes)
	free := p.Addr().BitLen() - p.Bits()
	if free < 2 {
		return first, last, math.Exp2(float64(free))
	}
	return first.Next(), last.Prev(), math.Exp2(float64(free)) - 2
}

// netmask is the mask of a network, written as an address.
func netmask(p netip.Prefix) string {
	bytes := make([]byte, p.Addr().BitLen()/8)
	for i := range p.Bits() {
		bytes[i/8] |= 1 << (7 - i%8)
	}
	a, _ := netip.AddrFromSlice(bytes)
	return a.String()
}
