package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"tocsin"
	"tocsin/internal/api"
	"tocsin/internal/config"
)

// alertsCmd is about what is wrong.
type alertsCmd struct {
	List alertsListCmd `cmd:"" default:"withargs" help:"What is wrong now; with a number, all that is known of one alert."`
	Ack  alertsAckCmd  `cmd:"" help:"Say that you look after an alert."`
}

func (*alertsCmd) Help() string {
	return "Example: tocsin alerts ack 1042 --for 2h --note \"ticket at the provider's\"\n\nWhat is wrong with the servers. With a number: which rule, which numbers, since when, and who was told."
}

type alertsListCmd struct {
	ID     string        `arg:"" optional:"" help:"An alert's number."`
	All    bool          `help:"What is over, too."`
	Since  time.Duration `help:"With --all: what ended within this time, like 24h."`
	Server string        `help:"Only of this server."`
	Group  string        `help:"Only of this group."`
}

// language is that of the environment, in which alerts are told; the command itself speaks English.
func language() string {
	for _, name := range []string{"LC_ALL", "LC_MESSAGES", "LANG"} {
		if v := os.Getenv(name); v != "" {
			if strings.HasPrefix(v, "fr") {
				return "fr"
			}
			break
		}
	}
	return "en"
}

func (k *alertsListCmd) Run(e *env) error {
	watch, err := e.watch()
	if err != nil {
		return err
	}
	if k.ID != "" {
		id, err := alertNumber(k.ID)
		if err != nil {
			return err
		}
		d, err := watch.Alert(e.ctx, id, language())
		if err != nil {
			return err
		}
		return e.print(d, func(w io.Writer) { printAlert(w, &d, time.Now()) })
	}
	all, err := watch.Alerts(e.ctx, api.AlertsQuery{All: k.All, Since: k.Since, Server: k.Server, Group: k.Group}, language())
	if err != nil {
		return err
	}
	return e.print(all, func(w io.Writer) { printAlerts(w, &all, time.Now()) })
}

// alertNumber reads "1042" or "#1042".
func alertNumber(s string) (id int64, err error) {
	if err := json.Unmarshal([]byte(strings.TrimPrefix(s, "#")), &id); err != nil || id < 1 {
		return 0, api.Errorf(api.ExitUsage, "tocsin alerts shows them", fmt.Sprintf("%q is no number of an alert", s))
	}
	return id, nil
}

func printAlerts(w io.Writer, all *api.Alerts, now time.Time) {
	if len(all.Alerts) == 0 {
		fmt.Fprintln(w, "nothing is wrong")
	} else {
		t := table(w)
		fmt.Fprintln(t, "ALERT\tLEVEL\tSINCE\tSTATE\tWHAT")
		for i := range all.Alerts {
			a := &all.Alerts[i]
			state := a.State
			if a.Ended != nil {
				state += " " + clock(*a.Ended, now)
			}
			if a.Ack != nil && a.Ended == nil {
				state = "with " + tocsin.Printable(a.Ack.By)
			}
			fmt.Fprintf(t, "#%d\t%s\t%s\t%s\t%s\n", a.ID, cmp.Or(levelOf(a), "-"), clock(a.Began, now), state, tocsin.Printable(a.Title))
		}
		t.Flush()
	}
	if n := len(all.Held); n > 0 {
		fmt.Fprintf(w, "%s held back:\n", api.Count(n, "more is", "more are"))
		for i := range all.Held {
			fmt.Fprintf(w, "  %s (%s)\n", tocsin.Printable(all.Held[i].Title), heldText(all.Held[i].HeldBy))
		}
	}
	for _, s := range all.Silences {
		fmt.Fprintf(w, "silence %d: %s\n", s.ID, silenceText(&s, now))
	}
}

// levelOf is how bad an alert is, or was at its worst.
func levelOf(a *api.Alert) string {
	if a.Ended != nil || a.Level == tocsin.Fine.String() {
		return a.Worst
	}
	return a.Level
}

// heldText says why something is held back.
func heldText(by string) string {
	switch by {
	case "silence":
		return "a silence"
	case "server":
		return "the whole server is without news"
	case "group":
		return "it belongs to what is wrong with the group, or may do so"
	}
	return by
}

func printAlert(w io.Writer, d *api.AlertDetail, now time.Time) {
	fmt.Fprintf(w, "#%d %s: %s\n%s\n", d.ID, d.State, tocsin.Printable(d.Title), tocsin.Printable(d.Text))
	t := table(w)
	line := func(key, value string) {
		if value != "" {
			fmt.Fprintf(t, "  %s\t%s\n", key, tocsin.Printable(value))
		}
	}
	line("level", d.Level+", at worst "+d.Worst+", "+d.Urgency)
	if d.Group != "" {
		line("group", d.Group)
	}
	line("server", d.Server)
	if d.Service != "" {
		line("curve", d.Service+"."+d.Field)
	}
	if d.Value != nil {
		line("value", scaled(*d.Value))
	}
	line("fine would be", d.Limit)
	line("servers", strings.Join(d.Members, ", "))
	if d.Full != nil {
		line("full about", clock(*d.Full, now))
	}
	line("since", when(d.Began, now))
	if d.Ended != nil {
		line("over", when(*d.Ended, now))
	}
	if d.Ack != nil {
		text := d.Ack.By + ", " + when(d.Ack.At, now)
		if d.Ack.Until != nil {
			text += ", until " + clock(*d.Ack.Until, now)
		}
		if d.Ack.Note != "" {
			text += ": " + d.Ack.Note
		}
		line("looked after by", text)
	}
	t.Flush()
	if d.Why != nil {
		fmt.Fprintf(w, "rule %s (%s, %s)\n", tocsin.Printable(d.Why.Name), d.Why.Kind, tocsin.Printable(d.Why.Where))
		for _, s := range d.Why.Set {
			fmt.Fprintf(w, "  %s = %s\n", s.Key, tocsin.Printable(s.Value))
		}
	}
	fmt.Fprintln(w, "what happened")
	for _, turn := range d.Turns {
		value := ""
		if turn.Value != nil {
			value = " at " + scaled(*turn.Value)
		}
		kept := ""
		if !turn.Tell {
			kept = ", not told"
		}
		by := ""
		if turn.By != "" {
			by = " by " + tocsin.Printable(turn.By)
		}
		if turn.Note != "" {
			by += ": " + tocsin.Printable(turn.Note)
		}
		fmt.Fprintf(w, "  %s  %s%s (%s%s)%s\n", turn.At.Local().Format(time.DateTime), turn.Turn, value, turn.Level, kept, by)
	}
	if len(d.Told) == 0 {
		fmt.Fprintln(w, "nobody was told")
		return
	}
	fmt.Fprintln(w, "who was told")
	for _, m := range d.Told {
		fmt.Fprintf(w, "  %s  %s by %s: %s %s\n", m.At.Local().Format(time.DateTime), tocsin.Printable(m.Contact), m.Way, m.State, tocsin.Printable(m.Detail))
	}
}

type alertsAckCmd struct {
	ID   string `arg:"" help:"The alert's number."`
	For  string `placeholder:"TIME" help:"For how long, like 2h; then it is told again (default: until it is over)."`
	Note string `help:"For the others."`
	Drop bool   `help:"Nobody looks after it any more."`
}

func (k *alertsAckCmd) Run(e *env) error {
	id, err := alertNumber(k.ID)
	if err != nil {
		return err
	}
	length, err := duration(k.For)
	if err != nil {
		return err
	}
	watch, err := e.watch()
	if err != nil {
		return err
	}
	c, err := watch.AckAlert(e.ctx, api.AckRequest{ID: id, For: length.Seconds(), Note: k.Note, Drop: k.Drop, By: whoami()})
	return e.change(c, err)
}

// duration reads how long something is to last, 0 for "".
func duration(s string) (time.Duration, error) {
	if s == "" {
		return 0, nil
	}
	d, err := config.ParseDuration(s)
	if err != nil || d == config.Forever {
		return 0, api.Errorf(api.ExitUsage, "write it like 2h or 1d", fmt.Sprintf("%q is no time with an end", s))
	}
	return d, nil
}
