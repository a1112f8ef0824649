package daemon

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"tocsin"
	"tocsin/internal/api"
	"tocsin/internal/config"
)

// sayWhatItWillDo tells the person at the terminal, in a few lines, what was found, what is watched, what will happen, what is
// measured and where the emergency exit is.
func (g *Guard) sayWhatItWillDo(s *set) {
	w := g.o.Say
	if s.f2b != nil {
		g.sayJails(s)
		return
	}
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
	g.sayExit()
}

func (g *Guard) sayExit() {
	g.sayWhatIsMeasured(g.o.Config)
	g.sayWhatIsShared(g.o.Config)
	if g.pages != "" {
		fmt.Fprintf(g.o.Say, "pages     %s lets you in for 15 minutes, once; for longer: %s user add NAME --role admin\n", g.pages, g.o.Name)
	}
	fmt.Fprintf(g.o.Say, "exit      %s off [--for 1h] lets everybody in at once, %s on ends it\n", g.o.Name, g.o.Name)
}

// sayWhatIsMeasured tells which servers the watch process that comes along will supervise.
func (g *Guard) sayWhatIsMeasured(c *config.Config) {
	if !g.startsWatch || !c.Watch.Enabled {
		return
	}
	whom := "this machine every " + config.FormatDuration(c.Watch.Interval)
	if n := len(c.Watch.Nodes); n > 0 {
		whom += ", " + api.Count(n, "other server", "other servers")
	}
	if c.Watch.MuninConf != "" {
		whom += ", the nodes of " + c.Watch.MuninConf
	}
	host, _ := os.Hostname()
	fmt.Fprintf(g.o.Say, "measuring %s (%s server %s shows it)\n", whom, g.o.Name, nodeName(c.Watch.Name, host))
}

// sayJails tells the same where fail2ban's jails are run, which may be many: a line for each.
func (g *Guard) sayJails(s *set) {
	w := g.o.Say
	fmt.Fprintf(w, "fail2ban  %s: %s, %d not enabled\n", s.f2b.Dir, api.Count(len(s.f2b.Jails), "jail", "jails"), len(s.f2b.Disabled))
	for _, c := range s.cells {
		fmt.Fprintf(w, "jail      %s\n", tocsin.Printable(c.sentence()))
	}
	for _, f := range s.failed {
		fmt.Fprintf(w, "cannot    %s: %s\n", tocsin.Printable(f.name), tocsin.Printable(strings.Join(errorsOf(f.err), "; ")))
	}
	if n := s.differences(); n > 0 {
		fmt.Fprintf(w, "differs   in %s, each told by: %s check --fail2ban %s\n", api.Count(n, "thing", "things"), g.o.Name, s.f2b.Dir)
	}
	switch inForce := api.Count(len(g.active), "ban", "bans") + " in force"; {
	case !g.enforces:
		fmt.Fprintf(w, "observing the firewall is not touched (%s); %s\n", g.observes, inForce)
	case g.wasOff:
		fmt.Fprintf(w, "off       the emergency exit is open, nobody is banned until: %s on\n", g.o.Name)
	default:
		fmt.Fprintf(w, "banning   %s (%s allow lists who is never banned)\n", inForce, g.o.Name)
	}
	g.sayExit()
}

// sentence says what a jail does.
func (c *cell) sentence() string {
	text := c.conf.Name + " reads nothing"
	if len(c.sources) > 0 {
		text = c.conf.Name + " reads " + strings.Join(c.sources, ", ")
	}
	text += fmt.Sprintf("; bans %s after %s within %s", banText(c.conf.BanTime), api.Count(c.options.MaxRetry, "failure", "failures"), config.FormatDuration(c.options.FindTime))
	text += " " + api.WhereText(c.options.Ports, c.options.Verdict.String())
	if names := actionNames(c.actions); len(names) > 0 {
		text += "; runs " + strings.Join(names, ", ")
	}
	return text
}

// differences is how many things are done otherwise than the files of fail2ban say.
func (s *set) differences() int {
	n := len(problems(s.f2b.Problems))
	for _, c := range s.cells {
		n += len(problems(c.problems))
	}
	return n
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
