package fail2ban

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Address is an id as fail2ban sees it (IPAddr): an address, a network, or any other text.
type Address struct {
	Text   string       // its normal form; as it was given where it is neither
	Prefix netip.Prefix // masked; zero if it is neither
	Single bool         // one address, written without a length or with the longest one
}

// ParseAddress reads an id. Brackets around it are cut, a length may be written as a mask, ::ffff:192.0.2.1 is 192.0.2.1.
// A length that is too long is none, but what has one is no single address; both as in fail2ban.
func ParseAddress(text string) Address {
	raw := text
	if len(raw) > 2 && raw[0] == '[' && raw[len(raw)-1] == ']' {
		raw = raw[1 : len(raw)-1]
	}
	host, length, network := strings.Cut(raw, "/")
	bits, ok := maskBits(length)
	if network && !ok {
		return Address{Text: text}
	}
	addr, err := netip.ParseAddr(host)
	if err != nil || addr.Zone() != "" {
		return Address{Text: host}
	}
	if !network {
		addr = addr.Unmap()
		bits = addr.BitLen()
	}
	a := Address{Single: bits == addr.BitLen()}
	a.Prefix, _ = addr.Prefix(min(bits, addr.BitLen()))
	a.Text = addressText(a.Prefix.Addr())
	if 0 < bits && bits < addr.BitLen() {
		a.Text += "/" + strconv.Itoa(bits)
	}
	return a
}

// maskBits reads the length of a network: "24", "255.255.255.0", "ffff:ffff::".
func maskBits(s string) (int, bool) {
	if !strings.ContainsAny(s, ".:") {
		n, err := strconv.ParseUint(s, 10, 16)
		return int(n), err == nil
	}
	mask, err := netip.ParseAddr(s)
	if err != nil || mask.Zone() != "" {
		return 0, false
	}
	for n := range mask.BitLen() + 1 {
		if p, _ := allOnes(mask).Prefix(n); p.Addr() == mask {
			return n, true
		}
	}
	return 0, false
}

// allOnes is the highest address of a's family.
func allOnes(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.AddrFrom4([4]byte{255, 255, 255, 255})
	}
	var b [16]byte
	for i := range b {
		b[i] = 255
	}
	return netip.AddrFrom16(b)
}

// addressText writes an address as inet_ntop of glibc does, which has an IPv4 address at the end of ::192.0.2.1 too.
func addressText(a netip.Addr) string {
	if a.Is4() {
		return a.String()
	}
	b := a.As16()
	if [12]byte(b[:12]) == [12]byte{} && (b[12] != 0 || b[13] != 0) {
		return "::" + netip.AddrFrom4([4]byte(b[12:])).String()
	}
	return a.String()
}

// Family is "inet4", "inet6", or "" for what is no address.
func (a Address) Family() string {
	switch addr := a.Prefix.Addr(); {
	case !a.Prefix.IsValid():
		return ""
	case addr.Is4():
		return "inet4"
	}
	return "inet6"
}

// Rev is the address backwards with a full stop at its end, as DNS has it: tag <ip-rev>. "" for what is no address.
// The length of an IPv4 network stays in it ("0/24.2.0.192."), as in fail2ban.
func (a Address) Rev() string {
	var parts []string
	switch a.Family() {
	case "":
		return ""
	case "inet4":
		parts = strings.Split(a.Text, ".")
	default:
		b := a.Prefix.Addr().As16()
		parts = strings.Split(fmt.Sprintf("%x", b[:]), "")
	}
	var rev strings.Builder
	for i := len(parts) - 1; i >= 0; i-- {
		rev.WriteString(parts[i] + ".")
	}
	return rev.String()
}
