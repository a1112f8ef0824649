package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

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
	return fmt.Sprintf("whom %s %s bans is reported to %s, which publishes it: address, kind and number of failures, time to the minute; never a log line, a user or a host name",
		jailsText(len(c.Report.Jails)), strings.Join(slices.Sorted(maps.Keys(c.Report.Jails)), ", "), host)
}

// reportsFile says in the state folder since when reports are switched on.
const reportsFile = "reports-since"

// reportsSince tells since when a configuration has had reports switched on, also before a restart; the zero time says that
// they are off. Nobody is reported who was banned before. It waits for the disk.
func (g *Guard) reportsSince(c *config.Config, now time.Time) time.Time {
	path := filepath.Join(g.state, reportsFile)
	if !c.Report.Enabled {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			g.complain("reports", "cannot note that reports are off", err)
		}
		return time.Time{}
	}
	if text, err := os.ReadFile(path); err == nil {
		since, err := time.Parse(time.RFC3339, strings.TrimSpace(string(text)))
		if err == nil && !since.After(now) {
			return since
		}
	}
	since := now.UTC().Truncate(time.Second) // logs tell no more
	if err := replaceFile(path, []byte(since.Format(time.RFC3339)+"\n")); err != nil {
		g.complain("reports", "cannot note since when reports are on", err)
	}
	return since
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
