package host

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Protected is a prefix that is never banned, and the reason: "loopback", "own address of eth0", "gateway", "resolver".
type Protected struct {
	Prefix netip.Prefix
	Reason string
}

// Protect lists every prefix that no jail may ban on this machine, without doubles; of several reasons the first holds.
// If a part of it could not be found out the error says so, and the rest is there all the same.
//
// IPv6 failures are counted by /64: whoever compares must ask whether the prefixes overlap, not whether they are equal.
func Protect() ([]Protected, error) { return this().protect() }

func (m *machine) protect() ([]Protected, error) {
	all := []Protected{
		{netip.MustParsePrefix("127.0.0.0/8"), "loopback"},
		{netip.MustParsePrefix("::1/128"), "loopback"},
	}
	add := func(a netip.Addr, reason string) {
		p := netip.PrefixFrom(a, a.BitLen())
		if !slices.ContainsFunc(all, func(q Protected) bool { return q.Prefix.Overlaps(p) }) {
			all = append(all, Protected{p, reason})
		}
	}
	own, err1 := interfaceAddrs()
	for _, a := range own {
		add(a.addr, "own address of "+a.name)
	}
	gateways, err2 := Gateways()
	for _, a := range gateways {
		add(a, "gateway")
	}
	for _, a := range m.resolvers() {
		add(a, "resolver")
	}
	return all, errors.Join(err1, err2)
}

// Addrs is every address of every interface, loopback included, sorted, without zones.
func Addrs() ([]netip.Addr, error) {
	own, err := interfaceAddrs()
	addrs := make([]netip.Addr, len(own))
	for i, a := range own {
		addrs[i] = a.addr
	}
	return sorted(addrs), err
}

// Gateways is the next hop of every default route, in every table, sorted, without zones.
func Gateways() ([]netip.Addr, error) {
	var found []netip.Addr
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		request := make([]byte, unix.SizeofRtMsg)
		request[0] = family
		err := dump(unix.NETLINK_ROUTE, unix.RTM_GETROUTE, request, func(data []byte) {
			found = append(found, defaultGateways(data)...)
		})
		if err != nil {
			return sorted(found), fmt.Errorf("list routes: %w", err)
		}
	}
	return sorted(found), nil
}

// Resolvers is every name server that this machine asks: those of /etc/resolv.conf, and those behind the stub of
// systemd-resolved. Sorted, without zones.
func Resolvers() []netip.Addr { return this().resolvers() }

func (m *machine) resolvers() []netip.Addr {
	var found []netip.Addr
	for _, path := range []string{"/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"} {
		text, err := m.read(path)
		if err != nil {
			continue // a machine without resolvers has none to protect
		}
		for scan := bufio.NewScanner(bytes.NewReader(text)); scan.Scan(); {
			words := strings.Fields(scan.Text())
			if len(words) < 2 || words[0] != "nameserver" {
				continue
			}
			if a, err := netip.ParseAddr(words[1]); err == nil {
				found = append(found, a.Unmap().WithZone(""))
			}
		}
	}
	return sorted(found)
}

// namedAddr is an address of an interface.
type namedAddr struct {
	addr netip.Addr
	name string
}

func interfaceAddrs() ([]namedAddr, error) {
	names := map[uint32]string{}
	err := dump(unix.NETLINK_ROUTE, unix.RTM_GETLINK, make([]byte, unix.SizeofIfInfomsg), func(data []byte) {
		if len(data) < unix.SizeofIfInfomsg {
			return
		}
		index := binary.NativeEndian.Uint32(data[4:])
		eachAttribute(data[unix.SizeofIfInfomsg:], func(kind uint16, value []byte) {
			if kind == unix.IFLA_IFNAME {
				names[index] = string(bytes.TrimRight(value, "\x00"))
			}
		})
	})
	if err != nil {
		return nil, fmt.Errorf("list network interfaces: %w", err)
	}
	var found []namedAddr
	err = dump(unix.NETLINK_ROUTE, unix.RTM_GETADDR, make([]byte, unix.SizeofIfAddrmsg), func(data []byte) {
		if a, index, ok := ownAddr(data); ok {
			found = append(found, namedAddr{a, names[index]})
		}
	})
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	return found, nil
}

// ownAddr reads a struct ifaddrmsg with its attributes. On a point-to-point link IFA_ADDRESS is the other end and
// IFA_LOCAL is ours; IPv6 has IFA_LOCAL there only (linux/if_addr.h).
func ownAddr(data []byte) (a netip.Addr, index uint32, ok bool) {
	if len(data) < unix.SizeofIfAddrmsg {
		return a, 0, false
	}
	index = binary.NativeEndian.Uint32(data[4:])
	var local netip.Addr
	eachAttribute(data[unix.SizeofIfAddrmsg:], func(kind uint16, value []byte) {
		switch kind {
		case unix.IFA_ADDRESS:
			a, _ = netip.AddrFromSlice(value)
		case unix.IFA_LOCAL:
			local, _ = netip.AddrFromSlice(value)
		}
	})
	if local.IsValid() {
		a = local
	}
	return a.Unmap(), index, a.IsValid()
}

// defaultGateways reads a struct rtmsg with its attributes and answers the next hops if it is a default route.
func defaultGateways(data []byte) []netip.Addr {
	if len(data) < unix.SizeofRtMsg || data[1] != 0 || data[7] != unix.RTN_UNICAST { // rtm_dst_len, rtm_type
		return nil
	}
	return nextHops(data[unix.SizeofRtMsg:], nil)
}

// nextHops appends the gateways among the attributes of a route. A route over several links has a list of next hops, each
// with attributes of its own (struct rtnexthop, linux/rtnetlink.h).
func nextHops(attributes []byte, found []netip.Addr) []netip.Addr {
	eachAttribute(attributes, func(kind uint16, value []byte) {
		switch kind {
		case unix.RTA_GATEWAY:
			if a, ok := netip.AddrFromSlice(value); ok {
				found = append(found, a.Unmap())
			}
		case unix.RTA_VIA: // struct rtvia: a gateway of the other family
			if len(value) > 2 {
				if a, ok := netip.AddrFromSlice(value[2:]); ok {
					found = append(found, a.Unmap())
				}
			}
		case unix.RTA_MULTIPATH:
			for len(value) >= unix.SizeofRtNexthop {
				n := int(binary.NativeEndian.Uint16(value))
				if n < unix.SizeofRtNexthop || n > len(value) {
					return
				}
				found = nextHops(value[unix.SizeofRtNexthop:n], found)
				value = value[min(len(value), (n+3)&^3):]
			}
		}
	})
	return found
}

// sorted sorts addresses and drops doubles.
func sorted(addrs []netip.Addr) []netip.Addr {
	slices.SortFunc(addrs, netip.Addr.Compare)
	return slices.Compact(addrs)
}

// dump asks the kernel for all of something and hands over the data of each message.
func dump(protocol int, request uint16, data []byte, each func(data []byte)) error {
	c, err := netlink.Dial(protocol, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	m := netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(request), Flags: netlink.Request | netlink.Dump},
		Data:   data,
	}
	if _, err := c.Send(m); err != nil {
		return err
	}
	for m, err := range c.ReceiveIter() {
		if err != nil {
			return err
		}
		each(m.Data)
	}
	return nil
}

// eachAttribute walks the attributes of a netlink message; it stops at one that does not fit.
func eachAttribute(b []byte, each func(kind uint16, value []byte)) {
	for len(b) >= unix.SizeofNlAttr {
		n := int(binary.NativeEndian.Uint16(b))
		if n < unix.SizeofNlAttr || n > len(b) {
			return
		}
		each(binary.NativeEndian.Uint16(b[2:])&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), b[unix.SizeofNlAttr:n])
		b = b[min(len(b), (n+unix.NLA_ALIGNTO-1)&^(unix.NLA_ALIGNTO-1)):]
	}
}
