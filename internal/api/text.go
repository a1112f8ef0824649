package api

import (
	"fmt"
	"strings"

	"tocsin"
)

// Phrases that the guard and the commands both use, so that one thing has one wording.

// WhereText says where a ban holds, in a sentence: "on port 22"; "in no firewall", if only actions are told of it.
func WhereText(ports []uint16, verdict string) string {
	if verdict == tocsin.Pass.String() {
		return "in no firewall"
	}
	return "on " + PortsText(ports)
}

// PortsText names a sorted set of ports in a sentence: "port 22", "ports 22,2200", "ports 25,27000-27015", "all ports".
func PortsText(ports []uint16) string {
	switch len(ports) {
	case 0:
		return "all ports"
	case 1:
		return "port " + tocsin.PortsString(ports)
	}
	var parts []string
	for i := 0; i < len(ports); {
		n := 1
		for i+n < len(ports) && int(ports[i+n]) == int(ports[i])+n {
			n++
		}
		if n < 3 {
			parts = append(parts, tocsin.PortsString(ports[i:i+n]))
		} else {
			parts = append(parts, fmt.Sprintf("%d-%d", ports[i], ports[i+n-1]))
		}
		i += n
	}
	return "ports " + strings.Join(parts, ",")
}

// Count says how many of something there are: Count(1, "ban", "bans") is "1 ban".
func Count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
