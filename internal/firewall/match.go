package firewall

import (
	"encoding/binary"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"tocsin"
)

// The expressions of our rules. All of them work in register 1; a rule stops at the first comparison that fails.

const reg = 1

// match joins what is asked of a packet with what then happens.
func match(asked []expr.Any, then ...expr.Any) []expr.Any {
	return append(asked[:len(asked):len(asked)], then...)
}

func verdict(kind expr.VerdictKind, chain ...string) *expr.Verdict {
	v := &expr.Verdict{Kind: kind}
	if len(chain) > 0 {
		v.Chain = chain[0]
	}
	return v
}

// fromAddr asks for a source address in a set.
func fromAddr(f family, set string) []expr.Any {
	nfproto, offset, length := byte(unix.NFPROTO_IPV4), uint32(12), uint32(4)
	if f == v6 {
		nfproto, offset, length = unix.NFPROTO_IPV6, 8, 16
	}
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: reg},
		equal(nfproto),
		&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length},
		&expr.Lookup{SourceRegister: reg, SetName: set},
	}
}

// fromPrefix asks for a source address whose first bits are in a set; an interval set wants the whole address.
func fromPrefix(k kind, set string) []expr.Any {
	exprs := fromAddr(k.family(), set)
	if k == hash64 {
		mask := make([]byte, 16)
		for i := range 8 {
			mask[i] = 0xff
		}
		lookup := exprs[len(exprs)-1]
		exprs[len(exprs)-1] = &expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: 16, Mask: mask, Xor: make([]byte, 16)}
		exprs = append(exprs, lookup)
	}
	return exprs
}

// protocols are the numbers of what a Proto covers. The two of TCPAndUDP get a rule each.
var protocols = [...][]byte{
	tocsin.TCP:       {unix.IPPROTO_TCP},
	tocsin.UDP:       {unix.IPPROTO_UDP},
	tocsin.TCPAndUDP: {unix.IPPROTO_TCP, unix.IPPROTO_UDP},
}

// toPorts asks for a destination port of one protocol in a set.
func toPorts(number byte, set string) []expr.Any {
	return append(proto(number),
		&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Lookup{SourceRegister: reg, SetName: set})
}

func proto(number byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg}, equal(number)}
}

func equal(data ...byte) expr.Any {
	return &expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: data}
}

// toOthers asks for a destination address that is none of this host's. A published port of a container is: the packet
// still bears the address that the client asked for.
var toOthers = []expr.Any{
	&expr.Fib{Register: reg, FlagDADDR: true, ResultADDRTYPE: true},
	&expr.Cmp{Op: expr.CmpOpNeq, Register: reg, Data: native(unix.RTN_LOCAL)},
}

// neighbour asks for the messages of IPv6 by which hosts on the same link find each other. No connection tells that they
// are answers, and without them we could not speak to a banned neighbour ourselves. They cannot come from farther away.
var neighbour = match(proto(unix.IPPROTO_ICMPV6),
	&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1},
	&expr.Cmp{Op: expr.CmpOpGte, Register: reg, Data: []byte{135}}, // neighbour solicitation
	&expr.Cmp{Op: expr.CmpOpLte, Register: reg, Data: []byte{136}}, // neighbour advertisement
)

// ctOriginal asks for packets of the side that opened the connection.
var ctOriginal = []expr.Any{
	&expr.Ct{Key: expr.CtKeyDIRECTION, Register: reg},
	equal(0), // IP_CT_DIR_ORIGINAL
}

// ctNone asks for packets that belong to no connection: untracked ones, and those that conntrack calls invalid, which
// have no direction either.
var ctNone = []expr.Any{
	&expr.Ct{Key: expr.CtKeySTATE, Register: reg},
	&expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: 4,
		Mask: native(expr.CtStateBitINVALID | expr.CtStateBitUNTRACKED), Xor: make([]byte, 4)},
	&expr.Cmp{Op: expr.CmpOpNeq, Register: reg, Data: make([]byte, 4)},
}

// native is a number as the kernel holds it in a register.
func native(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }
