package daemon

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"tocsin"
	"tocsin/internal/api"
	"tocsin/internal/config"
)

// sayWhatItWillDo tells the person at the terminal, in four lines, what was found, what is watched, what will happen and
// where the emergency exit is.
func (g *Guard) sayWhatItWillDo(s *set) {
	w := g.o.Say
	var guards, does []string
	for _, c := range s.cells {
		what := c.conf.Name + " on " + api.PortsText(c.options.Ports)
		if how := foundText(c.found); how != "" {
			what += " (" + how + ")"
		}
		guards = append(guards, what)
		does = append(does, fmt.Sprintf("%s after %s within %s", banText(c.conf.BanTime), api.Count(c.options.MaxRetry, "failure", "failures"), config.FormatDuration(c.options.FindTime)))
	}
	fmt.Fprintf(w, "found     %s\n", strings.Join(guards, "; "))
	fmt.Fprintf(w, "watching  %s\n", strings.Join(s.sources, ", "))
	switch {
	case !g.enforces:
		fmt.Fprintf(w, "observing the firewall is not touched (%s); would ban %s\n", g.observes, strings.Join(does, "; "))
	case g.wasOff:
		fmt.Fprintf(w, "off       the emergency exit is open, nobody is banned until: tocsin on\n")
	default:
		fmt.Fprintf(w, "banning   %s; %s in force (tocsin allow lists who is never banned)\n", strings.Join(does, "; "), api.Count(len(g.active), "ban", "bans"))
	}
	fmt.Fprintf(w, "exit      %s off [--for 1h] lets everybody in at once, %s on ends it\n", g.o.Name, g.o.Name)
}

// foundText says how ports and sources were found. Ports that were found in the same way are told together: what makes
// the list long is then what differs.
func foundText(found []string) string {
	var out []string
	for _, note := range found {
		if _, how, ok := strings.Cut(note, ": "); ok && sameHow(found, how) {
			note = how
		}
		if !slices.Contains(out, note) {
			out = append(out, note)
		}
	}
	return strings.Join(out, "; ")
}

func sameHow(found []string, how string) bool {
	for _, note := range found {
		if _, other, ok := strings.Cut(note, ": "); ok && other != how {
			return false
		}
	}
	return true
}

// banText says how long a jail bans, after "bans".
func banText(d time.Duration) string {
	if d == config.Forever {
		return "without end"
	}
	return "for " + config.FormatDuration(d)
}

func untilText(d *tocsin.Decision) string {
	if d.Until.IsZero() {
		return "without end"
	}
	return "until " + d.Until.Local().Format(time.DateTime)
}
