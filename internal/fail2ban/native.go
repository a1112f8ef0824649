package fail2ban

import (
	"strings"

	"tocsin"
)

// Native is what a ban action means to our own firewall.
type Native struct {
	All     bool // every port and protocol
	Ports   []uint16
	Proto   tocsin.Proto
	Verdict tocsin.Verdict
}

// Native says whether our own firewall can do what the action does, and what that is. notes tell what is done otherwise.
func (a *Action) Native() (n Native, notes []Problem, ok bool) {
	for _, name := range []string{"iptables", "nftables", "firewallcmd", "ufw", "shorewall", "route"} {
		if strings.HasPrefix(a.Name, name) {
			return Native{All: true}, nil, true
		}
	}
	return Native{}, nil, false
}
