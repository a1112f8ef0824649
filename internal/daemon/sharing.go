package daemon

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"tocsin/internal/config"
)

// SharingText is the one sentence about what leaves this machine, and where it goes.
func SharingText(c *config.Config) string {
	if !c.Report.Enabled {
		return fmt.Sprintf("reports are off; switched on, %s", sharingText(c))
	}
	return sharingText(c)
}

func sharingText(c *config.Config) string {
	host := c.Report.URL
	if u, err := url.Parse(host); err == nil {
		host = u.Host
	}
	return fmt.Sprintf("the address, the time to the minute, the kind and the number of failures of whom %s %s bans go to %s, which publishes them; no log line, no user or host name",
		jailsText(len(c.Report.Jails)), strings.Join(slices.Sorted(maps.Keys(c.Report.Jails)), ", "), host)
}

func jailsText(n int) string {
	if n == 1 {
		return "jail"
	}
	return "any of the jails"
}

// sayWhatIsShared tells the person at the terminal, and the log, what leaves this machine.
func (g *Guard) sayWhatIsShared(c *config.Config) {
	if c.Report.Enabled {
		fmt.Fprintf(g.o.Say, "sharing   %s\n", sharingText(c))
	}
	if len(c.Lists) > 0 {
		fmt.Fprintf(g.o.Say, "blocking  who is on the lists: %s; never your allow list, nor who logged in within 30 days\n", listNames(c.Lists))
	}
}
