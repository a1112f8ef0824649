package filter

import (
	"bytes"
	"net/netip"
	"strconv"
	"strings"
)

// The widest networks that <SUBNET> may name. A line that blames a /0 is an attack on the one who reads it.
const (
	minBits4 = 8
	minBits6 = 19
)

// identity is who a line blames.
type identity struct {
	id     string // "" if the line blames nobody
	prefix netip.Prefix
	addr   netip.Addr // the peer's address; differs from prefix where <F-ID> names something else
	host   bool       // id is a host name where an address may stand
	bad    bool       // id stands where an address belongs, and is none
}

// identify reads the groups of a line, or of a session, by slot: ip4, else ip6 with its cidr, else the host name; <F-ID>
// comes before them all. Addresses are parsed strictly: 192.030.0.6 and 1.2.3 are read as different addresses by
// different programs, so they are no addresses here, and a zone (fe80::1%eth0) makes no sense on another machine.
func identify(values parts) identity {
	var who identity
	text := values[slotIP4]
	if len(text) == 0 {
		text = values[slotIP6]
	}
	switch {
	case len(text) > 0:
		who = parseAddr(text, values[slotCIDR])
	case len(values[slotDNS]) > 0:
		who = parseName(string(values[slotDNS]))
	}
	if id := values[slotID]; len(id) > 0 && string(id) != who.id {
		own := parseAddr(bytes.Trim(id, "[]"), nil)
		if own.bad {
			own = identity{id: string(id)}
		}
		if !who.addr.IsValid() {
			who.addr = own.addr
		}
		who.id, who.prefix, who.host, who.bad = own.id, own.prefix, false, false
	}
	return who
}

func parseAddr(text, bits []byte) identity {
	id := string(text)
	addr, err := netip.ParseAddr(id)
	if err != nil || addr.Zone() != "" {
		return identity{id: id, bad: true}
	}
	addr = addr.Unmap()
	n := addr.BitLen()
	if len(bits) > 0 {
		least := minBits4
		if addr.Is6() {
			least = minBits6
		}
		if n, err = strconv.Atoi(string(bits)); err != nil || n < least || n > addr.BitLen() {
			return identity{id: id + "/" + string(bits), bad: true}
		}
	}
	prefix := netip.PrefixFrom(addr, n)
	if prefix.IsSingleIP() {
		return identity{id: canonical(id, addr), prefix: prefix, addr: addr}
	}
	prefix = prefix.Masked()
	return identity{id: prefix.String(), prefix: prefix, addr: prefix.Addr()}
}

// canonical is the text of addr: the text that was found, if that is the way addr is written.
func canonical(text string, addr netip.Addr) string {
	if strings.IndexByte(text, ':') < 0 {
		return text // netip takes an IPv4 address in one way only
	}
	var buf [48]byte
	if b := addr.AppendTo(buf[:0]); string(b) != text {
		return string(b)
	}
	return text
}

// parseName takes a host name. A name whose last label is a number is none: it is what is left of an address that was
// mangled, and a resolver would read it as one.
func parseName(name string) identity {
	last := name[strings.LastIndexByte(name, '.')+1:]
	for i := range len(last) {
		if !isDigit(last[i]) {
			return identity{id: name, host: true}
		}
	}
	return identity{id: name, bad: true}
}

// parsePort is the peer's port, 0 if text is none.
func parsePort(text []byte) uint16 {
	n, err := strconv.ParseUint(string(text), 10, 16)
	if err != nil {
		return 0
	}
	return uint16(n)
}
