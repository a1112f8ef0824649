package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"

	"tocsin"
	"tocsin/internal/api"
)

// silenceCmd keeps warnings back for a time.
type silenceCmd struct {
	Server string `arg:"" optional:"" help:"The server, or GROUP/SERVER; * and ? stand for anything."`
	Group  string `help:"A group, with all that is in it."`
	Rule   string `help:"Only this rule."`
	For    string `placeholder:"TIME" help:"For how long, like 2h."`
	Note   string `help:"Why, for the others."`
	List   bool   `help:"Which silences there are."`
	End    int64  `placeholder:"N" help:"End a silence."`
}

func (*silenceCmd) Help() string {
	return "Example: tocsin silence web1 --for 2h --note \"new disk\"\n\nNothing is told of a server, a group or a rule for a time. What is still wrong at its end is told then; the end of what was told before is told at once."
}

func (k *silenceCmd) Run(e *env) error {
	length, err := duration(k.For)
	if err != nil {
		return err
	}
	watch, err := e.watch()
	if err != nil {
		return err
	}
	selects := k.Server != "" || k.Group != "" || k.Rule != ""
	switch {
	case k.End != 0:
		c, err := watch.Silence(e.ctx, api.SilenceRequest{End: k.End, By: whoami()})
		return e.change(c, err)
	case k.List || !selects && k.For == "":
		all, err := watch.Alerts(e.ctx, api.AlertsQuery{}, language())
		if err != nil {
			return err
		}
		out := silences{"tocsin.silences/1", all.Silences}
		return e.print(out, func(w io.Writer) { printSilences(w, all.Silences, time.Now()) })
	case k.For == "":
		return api.Errorf(api.ExitUsage, "write it like --for 2h", "it is not said for how long")
	}
	r := api.SilenceRequest{Group: k.Group, Server: k.Server, Rule: k.Rule, For: length.Seconds(), Note: k.Note, By: whoami()}
	if i := strings.LastIndexByte(k.Server, '/'); i >= 0 {
		r.Group, r.Server = k.Server[:i], k.Server[i+1:]
	}
	c, err := watch.Silence(e.ctx, r)
	return e.change(c, err)
}

// silences is what `tocsin silence --list --json` prints.
type silences struct {
	Schema   string        `json:"schema"`
	Silences []api.Silence `json:"silences"`
}

func printSilences(w io.Writer, all []api.Silence, now time.Time) {
	if len(all) == 0 {
		fmt.Fprintln(w, "there is no silence")
		return
	}
	for i := range all {
		fmt.Fprintf(w, "%d: %s\n", all[i].ID, silenceText(&all[i], now))
	}
}

// silenceText says what a silence keeps back, until when, and whose it is.
func silenceText(s *api.Silence, now time.Time) string {
	var what []string
	for _, p := range []struct{ name, pattern string }{{"group", s.Group}, {"server", s.Server}, {"rule", s.Rule}} {
		if p.pattern != "" {
			what = append(what, p.name+" "+tocsin.Printable(p.pattern))
		}
	}
	text := fmt.Sprintf("%s until %s, by %s", cmp.Or(strings.Join(what, ", "), "everything"), clock(s.Until, now), tocsin.Printable(s.By))
	if s.Note != "" {
		text += ": " + tocsin.Printable(s.Note)
	}
	return text
}
