package host

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// Session is an established TCP connection. For an address in the log it tells whether that connection is still there, not
// whether anybody has logged in on it.
type Session struct {
	Local, Remote netip.AddrPort
}

// Sessions is every established TCP connection that came in on one of ports. It asks sock_diag(7), which knows sockets
// but not the processes that hold them.
func Sessions(ports []uint16) ([]Session, error) {
	var found []Session
	for _, port := range ports {
		err := dumpTCP(1<<tcpEstablished, port, func(s Session) { found = append(found, s) })
		if err != nil {
			return nil, fmt.Errorf("list connections to port %d: %w", port, err)
		}
	}
	return found, nil
}

// Listening is every address and port on which somebody waits for TCP connections, sorted. Sockets that take IPv4 and IPv6
// show as [::].
func Listening() ([]netip.AddrPort, error) {
	var found []netip.AddrPort
	err := dumpTCP(1<<tcpListen, 0, func(s Session) { found = append(found, s.Local) })
	if err != nil {
		return nil, fmt.Errorf("list listening sockets: %w", err)
	}
	slices.SortFunc(found, netip.AddrPort.Compare)
	return slices.Compact(found), nil
}

func listeningPorts() (map[uint16]bool, error) {
	all, err := Listening()
	ports := map[uint16]bool{}
	for _, a := range all {
		ports[a.Port()] = true
	}
	return ports, err
}

// States of a TCP socket (net/tcp_states.h), as bits of the request.
const (
	tcpEstablished = 1
	tcpListen      = 10
)

// Sizes in linux/inet_diag.h.
const (
	sizeofRequest = 56 // struct inet_diag_req_v2
	sizeofAnswer  = 72 // struct inet_diag_msg
)

// dumpTCP hands over every TCP socket, IPv4 and IPv6, in one of states (bits) with the local port, or any for 0.
func dumpTCP(states uint32, port uint16, each func(Session)) error {
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		request := make([]byte, sizeofRequest)
		request[0], request[1] = family, unix.IPPROTO_TCP
		binary.NativeEndian.PutUint32(request[4:], states)
		binary.BigEndian.PutUint16(request[8:], port)
		err := dump(unix.NETLINK_SOCK_DIAG, unix.SOCK_DIAG_BY_FAMILY, request, func(answer []byte) {
			if s, ok := parseSocket(answer); ok && (port == 0 || s.Local.Port() == port) {
				each(s)
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// parseSocket reads a struct inet_diag_msg: family at 0, then from 4 the ports and at 8 and 24 the addresses, these four
// in network order. IPv4 connections of an IPv6 socket come out as IPv4.
func parseSocket(b []byte) (s Session, ok bool) {
	if len(b) < sizeofAnswer {
		return s, false
	}
	size := 4
	if b[0] == unix.AF_INET6 {
		size = 16
	}
	local, _ := netip.AddrFromSlice(b[8 : 8+size])
	remote, _ := netip.AddrFromSlice(b[24 : 24+size])
	return Session{
		Local:  netip.AddrPortFrom(local.Unmap(), binary.BigEndian.Uint16(b[4:])),
		Remote: netip.AddrPortFrom(remote.Unmap(), binary.BigEndian.Uint16(b[6:])),
	}, true
}
