package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"tocsin"
	"tocsin/internal/api"
)

type nightCmd struct {
	Since string `placeholder:"TIME" help:"How far back, like 12h (default: since yesterday at 20:00)."`
}

func (*nightCmd) Help() string {
	return "Example: tocsin night\n\nWhat happened since yesterday evening: what went wrong, who was banned, which servers were restarted or upgraded."
}

func (k *nightCmd) Run(e *env) error {
	back, err := duration(k.Since)
	if err != nil {
		return err
	}
	watch, err := e.watch()
	if err != nil {
		return err
	}
	var since time.Time
	if back > 0 {
		since = time.Now().Add(-back)
	}
	n, err := watch.Night(e.ctx, since, language())
	if err != nil {
		return err
	}
	return e.print(n, func(w io.Writer) { printNight(w, &n) })
}

func printNight(w io.Writer, n *api.Night) {
	now := n.Until
	fmt.Fprintf(w, "since %s: ", when(n.Since, now))
	if len(n.Open) == 0 && len(n.Unknown) == 0 {
		fmt.Fprintf(w, "%s well\n", api.Count(n.Servers, "server is", "servers are"))
	} else {
		fmt.Fprintf(w, "%s to look at\n", api.Count(max(len(n.Open), len(n.Unknown)), "thing", "things"))
	}
	for i := range n.Open {
		a := &n.Open[i]
		fmt.Fprintf(w, "  #%d %s, since %s: %s\n", a.ID, levelOf(a), clock(a.Began, now), tocsin.Printable(a.Title))
	}
	for _, s := range n.Unknown {
		fmt.Fprintf(w, "  %s: unknown since %s\n", tocsin.Printable(s.Name), when(*s.Since, now))
	}
	if len(n.Over) > 0 {
		fmt.Fprintln(w, "over again")
		for i := range n.Over {
			a := &n.Over[i]
			fmt.Fprintf(w, "  #%d %s, %s to %s: %s\n", a.ID, a.Worst, clock(a.Began, now), clock(*a.Ended, now), tocsin.Printable(a.Title))
		}
	}
	if n.Bans >= 0 {
		var jails []string
		for _, j := range n.Jails {
			jails = append(jails, fmt.Sprintf("%s %d", tocsin.Printable(j.Jail), j.Bans))
		}
		fmt.Fprint(w, api.Count(n.Bans, "ban", "bans"))
		if len(jails) > 0 {
			fmt.Fprintf(w, ": %s", strings.Join(jails, ", "))
		}
		fmt.Fprintln(w)
	}
	for _, m := range n.Reboots {
		fmt.Fprintf(w, "%s was restarted at %s\n", tocsin.Printable(m.Server), clock(m.At, now))
	}
	for _, m := range n.Upgrades {
		fmt.Fprintf(w, "%s: %s upgraded, the last about %s\n", tocsin.Printable(m.Server), api.Count(m.Count, "package was", "packages were"), clock(m.At, now))
	}
	for _, p := range n.Problems {
		fmt.Fprintln(w, tocsin.Printable(p))
	}
}
