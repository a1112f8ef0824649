package api

import (
	"fmt"

	"tocsin"
)

// Phrases that the guard and the commands both use, so that one thing has one wording.

// PortsText names a set of ports in a sentence: "port 22", "ports 22,2200", "all ports".
func PortsText(ports []uint16) string {
	switch len(ports) {
	case 0:
		return "all ports"
	case 1:
		return "port " + tocsin.PortsString(ports)
	}
	return "ports " + tocsin.PortsString(ports)
}

// Count says how many of something there are: Count(1, "ban", "bans") is "1 ban".
func Count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
