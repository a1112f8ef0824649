package main

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"tocsin"
	"tocsin/internal/api"
)

type serversCmd struct{}

func (*serversCmd) Help() string {
	return "Example: tocsin servers\n\nAll servers that are supervised, by group. One that does not answer stays in the list."
}

func (*serversCmd) Run(e *env) error {
	watch, err := e.watch()
	if err != nil {
		return err
	}
	all, err := watch.Servers(e.ctx)
	if err != nil {
		return err
	}
	return e.print(all, func(w io.Writer) { printServers(w, all.Servers, time.Now()) })
}

func printServers(w io.Writer, all []api.Server, now time.Time) {
	if len(all) == 0 {
		fmt.Fprintln(w, "no server is supervised")
		return
	}
	t := table(w)
	fmt.Fprintln(t, "GROUP\tSERVER\tSTATE\tREAD\tSERVICES")
	for _, s := range all {
		seen := "never"
		if s.Seen != nil {
			seen = clock(*s.Seen, now)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\n", cmp.Or(tocsin.Printable(s.Group), "-"), tocsin.Printable(s.Name), s.State, seen, s.Services)
	}
	t.Flush()
	for _, s := range all {
		if s.Since != nil {
			fmt.Fprintf(w, "%s: unknown since %s: %s\n", tocsin.Printable(s.Name), when(*s.Since, now), tocsin.Printable(s.Why))
		}
	}
}

type serverCmd struct {
	Name  string `arg:"" help:"The server, or GROUP/SERVER where several have the name."`
	Match string `arg:"" optional:"" help:"Only services whose name has this in it."`
}

func (*serverCmd) Help() string {
	return "Example: tocsin server web1 disk\n\nWhat is measured on a server, with the last values."
}

func (k *serverCmd) Run(e *env) error {
	watch, err := e.watch()
	if err != nil {
		return err
	}
	group, name := serverName(k.Name)
	d, err := watch.Server(e.ctx, group, name)
	if err != nil {
		return err
	}
	d.Details = slices.DeleteFunc(d.Details, func(s api.Service) bool { return !strings.Contains(s.Name, k.Match) })
	return e.print(d, func(w io.Writer) { printServer(w, &d, time.Now()) })
}

// serverName is the group and name of a server as people write it: without a group it is any.
func serverName(s string) (group, name string) {
	if i := strings.LastIndexByte(s, '/'); i >= 0 {
		return s[:i], s[i+1:]
	}
	return "*", s
}

func printServer(w io.Writer, d *api.ServerDetail, now time.Time) {
	fmt.Fprint(w, tocsin.Printable(d.Name))
	if d.Group != "" {
		fmt.Fprintf(w, " (%s)", tocsin.Printable(d.Group))
	}
	if d.Since != nil {
		fmt.Fprintf(w, ": unknown since %s: %s\n", when(*d.Since, now), tocsin.Printable(d.Why))
	} else {
		fmt.Fprintf(w, ": %s\n", d.State)
	}
	t := table(w)
	for _, s := range d.Details {
		title := tocsin.Printable(s.Title)
		if s.Virtual {
			title += " (drawn of others)"
		}
		fmt.Fprintf(t, "%s\t%s\n", tocsin.Printable(s.Name), title)
		for _, f := range s.Fields {
			value := "unknown"
			if f.Value != nil {
				value = scaled(*f.Value)
			}
			fmt.Fprintf(t, "  %s\t%s\t%s\n", tocsin.Printable(f.Name), value, tocsin.Printable(f.Label))
		}
	}
	t.Flush()
}

// scaled is a number in few digits, as Munin writes it: 1.25, 12.5k, 3.40M.
func scaled(v float64) string {
	if math.IsInf(v, 0) || math.IsNaN(v) {
		return fmt.Sprint(v)
	}
	for _, u := range []struct {
		size   float64
		suffix string
	}{{1e15, "P"}, {1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e3, "k"}, {1, ""}, {1e-3, "m"}, {1e-6, "u"}} {
		if a := max(v, -v); a >= u.size {
			return fmt.Sprintf("%.4g%s", v/u.size, u.suffix)
		}
	}
	return fmt.Sprintf("%.3g", v)
}

type probesCmd struct{}

func (*probesCmd) Help() string {
	return "Example: tocsin probes\n\nWhat is read on this machine, what it costs, and what shows the same twice. A probe without a source is off, says why, and costs nothing."
}

func (*probesCmd) Run(e *env) error {
	watch, err := e.watch()
	if err != nil {
		return err
	}
	all, err := watch.Probes(e.ctx)
	if err != nil {
		return err
	}
	return e.print(all, func(w io.Writer) { printProbes(w, all.Probes) })
}

func printProbes(w io.Writer, all []api.Probe) {
	t := table(w)
	fmt.Fprintln(t, "PROBE\tKIND\tEVERY\tCOST\tLONGEST\tFAILED\tNOTE")
	for _, p := range all {
		note := tocsin.Printable(p.Why)
		if !p.On {
			note = "off: " + cmp.Or(note, "not read yet")
		}
		if len(p.Doubles) > 0 {
			note = strings.TrimPrefix(note+"; doubles "+tocsin.Printable(strings.Join(p.Doubles, ", ")), "; ")
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%.2f ms\t%.2f ms\t%d\t%s\n", tocsin.Printable(p.Name), p.Kind, time.Duration(p.Every*float64(time.Second)), p.Cost, p.Longest, p.Failures, note)
	}
	t.Flush()
}
