package account

import (
	"net/http"
	"net/netip"
	"strings"
)

// Peer is who asks.
type Peer struct {
	Addr    netip.Addr // zero: nobody can be named
	Listed  bool       // a proxy of the operator's brought it, so that what it adds may be believed
	Secured bool       // it came to that proxy over TLS
}

// mostHops bounds how many proxies are looked through.
const mostHops = 16

// PeerOf says who asks: the peer of the connection; behind a listed proxy the last address that none of them has. Nobody
// is named where a proxy that is not listed stands between, or one of this machine may: their address is not who fails.
func PeerOf(r *http.Request, listed []netip.Prefix) Peer {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return Peer{}
	}
	peer := ap.Addr().Unmap()
	forwarded := r.Header.Values("X-Forwarded-For")
	if !within(peer, listed) {
		if len(forwarded) > 0 || r.Header.Get("Forwarded") != "" || r.Header.Get("Via") != "" || peer.IsLoopback() {
			return Peer{}
		}
		return Peer{Addr: peer}
	}
	p := Peer{Listed: true, Secured: r.Header.Get("X-Forwarded-Proto") == "https"}
	hops := strings.Split(strings.Join(forwarded, ","), ",")
	for i := len(hops) - 1; i >= max(0, len(hops)-mostHops); i-- {
		a, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
		if err != nil {
			return p
		}
		if a = a.Unmap().WithZone(""); !within(a, listed) {
			p.Addr = a
			return p
		}
	}
	return p
}

// NetworkOf is the network that counts as one: a customer has a whole /64 of IPv6.
func NetworkOf(a netip.Addr) netip.Prefix {
	bits := 64
	if a.Is4() {
		bits = 32
	}
	return netip.PrefixFrom(a, bits).Masked()
}

func within(a netip.Addr, all []netip.Prefix) bool {
	for _, p := range all {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
