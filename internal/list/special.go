package list

import "net/netip"

// special4 are the blocks of IPv4 that are not public unicast: who blocks them blocks his own network, or nobody
// (https://www.iana.org/assignments/iana-ipv4-special-registry). Blocks that are reached from everywhere, such as those of
// AS112, are none.
var special4 = blocks4(
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
	"192.0.2.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
	"224.0.0.0/3", // multicast, and everything behind it is reserved
)

// public6 is all of IPv6 that was ever given out for public unicast; special6 are the blocks within it that are not
// (https://www.iana.org/assignments/iana-ipv6-special-registry). Teredo and 6to4 are left out of it: attackers do come from
// there.
var (
	public6  = netip.MustParsePrefix("2000::/3")
	special6 = []netip.Prefix{
		netip.MustParsePrefix("2001:2::/48"),
		netip.MustParsePrefix("2001:10::/28"),
		netip.MustParsePrefix("2001:20::/28"),
		netip.MustParsePrefix("2001:db8::/32"),
		netip.MustParsePrefix("3fff::/20"),
	}
)

type block4 struct{ first, last uint32 }

func blocks4(prefixes ...string) []block4 {
	var all []block4
	for _, s := range prefixes {
		p := netip.MustParsePrefix(s)
		first := uint32Of(p.Addr())
		all = append(all, block4{first, first | hostBits(p.Bits())})
	}
	return all
}

// hostBits are the bits of an IPv4 address behind the first n.
func hostBits(n int) uint32 { return uint32(1<<(32-n) - 1) }

// isSpecial4 says whether the block of IPv4 addresses touches one that is not public unicast.
func isSpecial4(first, last uint32) bool {
	for _, b := range special4 {
		if first <= b.last && b.first <= last {
			return true
		}
	}
	return false
}

// isSpecial says whether p touches addresses that are not public unicast.
func isSpecial(p netip.Prefix) bool {
	if p.Addr().Is4() {
		first := uint32Of(p.Addr())
		return isSpecial4(first, first|hostBits(p.Bits()))
	}
	if !public6.Contains(p.Addr()) || p.Bits() < public6.Bits() {
		return true
	}
	for _, s := range special6 {
		if s.Overlaps(p) {
			return true
		}
	}
	return false
}
