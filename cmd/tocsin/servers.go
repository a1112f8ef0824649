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
	"tocsin/internal/config"
)

// serversCmd is about which servers are known.
type serversCmd struct {
	List   serversListCmd   `cmd:"" default:"1" help:"All servers that are supervised."`
	Forget serversForgetCmd `cmd:"" help:"Take a server out of the list; its history stays."`
}

func (*serversCmd) Help() string {
	return "Example: tocsin servers\n\nAll servers that are supervised, by group. One that does not answer stays in the list until it is forgotten."
}

type serversForgetCmd struct {
	Name string `arg:"" help:"The server, or GROUP/SERVER where several have the name."`
	Yes  bool   `help:"Although it still answers."`
}

func (*serversForgetCmd) Help() string {
	return "Example: tocsin servers forget mail1\n\nTakes a server that is no more out of the list. Its history stays, as long as samples are kept, and is there again with the server if it comes back."
}

func (k *serversForgetCmd) Run(e *env) error {
	watch, err := e.watch()
	if err != nil {
		return err
	}
	group, name := serverName(k.Name)
	d, err := watch.Server(e.ctx, group, name)
	if err != nil {
		return err
	}
	if d.State == "ok" && !k.Yes {
		return api.Errorf(api.ExitFindings, "ask it no more first: take it out of the configuration, then tocsin reload; to forget it all the same: --yes",
			tocsin.Printable(d.Name)+" still answers, and would be back with its next answer")
	}
	return e.change(watch.ForgetServer(e.ctx, api.ServerRequest{Group: d.Group, Name: d.Name, By: whoami()}))
}

type serversListCmd struct{}

func (*serversListCmd) Run(e *env) error {
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

// How many letters of a note are shown to a person. Those of built-in probes say what to add to whose configuration.
const (
	mostOfNote = 100
	mostOfOurs = 240
)

func printProbes(w io.Writer, all []api.Probe) {
	kinds := []string{"built-in", "plugin", "node"}
	slices.SortStableFunc(all, func(a, b api.Probe) int {
		return cmp.Or(cmp.Compare(slices.Index(kinds, a.Kind), slices.Index(kinds, b.Kind)), strings.Compare(a.Name, b.Name))
	})
	t := table(w)
	fmt.Fprintln(t, "PROBE\tKIND\tEVERY\tCOST\tLONGEST\tFAILED\tNOTE")
	for _, p := range all {
		cost := fmt.Sprintf("%.2f ms", p.Cost)
		if p.Kind == "node" {
			cost = "-" // is not measured
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%.2f ms\t%d\t%s\n", tocsin.Printable(p.Name), p.Kind, config.FormatDuration(time.Duration(p.Every*float64(time.Second))), cost, p.Longest, p.Failures, noteOf(&p))
	}
	t.Flush()
}

// noteOf is what there is to say of a probe, what was found before what went wrong.
func noteOf(p *api.Probe) string {
	var notes []string
	for _, r := range p.Repeats {
		text := "repeats " + r.Of
		if p.Kind == "node" {
			text = r.Probe + " " + text // of the node's plugins
		}
		notes = append(notes, text)
	}
	if len(p.Doubles) > 0 {
		notes = append(notes, "doubles "+strings.Join(p.Doubles, ", "))
	}
	switch {
	case !p.On:
		notes = append([]string{"off: " + cmp.Or(p.Why, "not read yet")}, notes...)
	case p.Why != "":
		notes = append(notes, p.Why)
	}
	note := []rune(tocsin.Printable(strings.Join(notes, "; ")))
	most := mostOfNote
	if p.Kind == "built-in" {
		most = mostOfOurs
	}
	if len(note) > most {
		note = append(note[:most-3], '.', '.', '.') // --json has all
	}
	return string(note)
}
