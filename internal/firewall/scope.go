package firewall

import (
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"tocsin"
)

// scope is what a ban covers: ports of a protocol or everything, and what happens to the packets.
type scope struct {
	ports   []uint16 // sorted; empty: all ports and protocols
	proto   tocsin.Proto
	verdict tocsin.Verdict
}

func scopeOf(d *tocsin.Decision) scope {
	s := scope{ports: d.Ports, verdict: d.Verdict}
	if len(d.Ports) > 0 && int(d.Proto) < len(protoParts) {
		s.proto = d.Proto // all ports cover every protocol
	}
	return s
}

// The parts of names. A group's chain is called after what it covers: ports_22_2200, ports_udp_53, ports_tcpudp_53,
// ports_reject_22, all_ports, all_ports_reject.
const (
	portsPrefix = "ports"
	allPrefix   = "all_ports"
	rejectPart  = "_reject"
	dportSuffix = "_dport" // the set of the ports themselves
)

// protoParts are the parts of names by protocol. TCP, the usual one, has none.
var protoParts = [...]string{tocsin.TCP: "", tocsin.UDP: "_udp", tocsin.TCPAndUDP: "_tcpudp"}

// maxName is the longest readable name of a group; one with many ports gets a hash instead of their list. The kernel
// takes 255 bytes, an admin's eye less.
const maxName = 48

// appendKey appends the readable name in full, which identifies the scope.
func (s scope) appendKey(b []byte) []byte {
	if len(s.ports) == 0 {
		b = append(b, allPrefix...)
	} else {
		b = append(b, portsPrefix...)
		b = append(b, protoParts[s.proto]...)
	}
	if s.verdict == tocsin.Reject {
		b = append(b, rejectPart...)
	}
	for _, p := range s.ports {
		b = append(b, '_')
		b = strconv.AppendUint(b, uint64(p), 10)
	}
	return b
}

// name is what the scope's chain is called.
func (s scope) name() string {
	key := string(s.appendKey(nil))
	if len(key) <= maxName {
		return key
	}
	sum := sha256.Sum256([]byte(key))
	head := string(scope{ports: []uint16{0}, proto: s.proto, verdict: s.verdict}.appendKey(nil))
	return strings.TrimSuffix(head, "0") + "x" + hex.EncodeToString(sum[:8])
}

// parseScope reads a group's name from the kernel. The ports are not read from it, since they may be hashed: they stand in
// the set called after it. ok is false if the name is none of ours.
func parseScope(name string) (s scope, ports, ok bool) {
	rest, found := strings.CutPrefix(name, allPrefix)
	if !found {
		ports = true
		if rest, found = strings.CutPrefix(name, portsPrefix); !found {
			return s, false, false
		}
		for p := tocsin.UDP; int(p) < len(protoParts); p++ {
			if after, found := strings.CutPrefix(rest, protoParts[p]); found {
				rest, s.proto = after, p
				break
			}
		}
	}
	if rest, found = strings.CutPrefix(rest, rejectPart); found {
		s.verdict = tocsin.Reject
	}
	return s, ports, ports == strings.HasPrefix(rest, "_") && (ports || rest == "")
}

// family is IPv4 or IPv6.
type family uint8

const (
	v4 family = iota
	v6
)

func familyOf(p netip.Prefix) family {
	if p.Addr().Is4() {
		return v4
	}
	return v6
}

// kind is one of the sets that every group has, in the order in which a packet asks them.
//
// A hash set costs a packet and a ban the same however large it is; one more prefix in a large interval set costs 12 to
// 68 ms, so only prefixes of a rare length go there.
type kind int

const (
	hash4 kind = iota
	hash6
	hash64
	net4
	net6
	kinds
)

var setKinds = [kinds]struct {
	suffix string
	family family
	bits   int // of the prefixes in a hash set; an interval set has those of any other length
}{
	hash4:  {"_v4", v4, 32},
	hash6:  {"_v6", v6, 128},
	hash64: {"_v6_64", v6, 64},
	net4:   {"_v4_net", v4, 0},
	net6:   {"_v6_net", v6, 0},
}

// kindOf tells which set a prefix belongs to.
func kindOf(p netip.Prefix) kind {
	switch bits := p.Bits(); {
	case p.Addr().Is4() && bits == 32:
		return hash4
	case p.Addr().Is4():
		return net4
	case bits == 128:
		return hash6
	case bits == 64:
		return hash64
	}
	return net6
}

func (k kind) suffix() string { return setKinds[k].suffix }
func (k kind) family() family { return setKinds[k].family }
func (k kind) bits() int      { return setKinds[k].bits }
func (k kind) hash() bool     { return k < net4 }

func (k kind) flags() uint32 {
	if k.hash() {
		return unix.NFT_SET_TIMEOUT
	}
	return unix.NFT_SET_TIMEOUT | unix.NFT_SET_INTERVAL
}

func addrType(f family) keyType {
	if f == v4 {
		return keyType{7, 4} // ipv4_addr
	}
	return keyType{8, 16} // ipv6_addr
}
