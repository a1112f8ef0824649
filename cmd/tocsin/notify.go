package main

import (
	"fmt"
	"io"

	"tocsin"
	"tocsin/internal/api"
)

// notifyCmd is about who is told.
type notifyCmd struct {
	Test notifyTestCmd `cmd:"" help:"Send a message to a contact, or to all, and tell each step."`
	List notifyListCmd `cmd:"" default:"1" help:"Who is told, how, and whether that works."`
}

func (*notifyCmd) Help() string {
	return "Example: tocsin notify test admins\n\nContacts stand in the configuration: tocsin explain \"who is told\""
}

type notifyTestCmd struct {
	Name string `arg:"" optional:"" help:"The contact (default: all)."`
}

func (k *notifyTestCmd) Run(e *env) error {
	watch, err := e.watch()
	if err != nil {
		return err
	}
	t, err := watch.TestNotify(e.ctx, api.NotifyTestRequest{Contact: k.Name, By: whoami()})
	if err != nil {
		return err
	}
	bad := false
	for _, one := range t.Trials {
		bad = bad || one.Problem != ""
	}
	if err := e.print(t, func(w io.Writer) { printTrials(w, &t) }); err != nil {
		return err
	}
	if bad {
		return exitError(api.ExitFailed)
	}
	return nil
}

func printTrials(w io.Writer, t *api.NotifyTest) {
	for i, one := range t.Trials {
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "%s, %s\n", tocsin.Printable(one.Contact), tocsin.Printable(one.To))
		for _, step := range one.Steps {
			fmt.Fprintf(w, "  %s\n", tocsin.Printable(step))
		}
		if one.Problem != "" {
			fmt.Fprintf(w, "  failed: %s\n", tocsin.Printable(one.Problem))
		}
	}
}

type notifyListCmd struct{}

func (*notifyListCmd) Run(e *env) error {
	watch, err := e.watch()
	if err != nil {
		return err
	}
	c, err := watch.Contacts(e.ctx)
	if err != nil {
		return err
	}
	return e.print(c, func(w io.Writer) { printContacts(w, &c) })
}

func printContacts(w io.Writer, c *api.Contacts) {
	if len(c.Receivers) == 0 {
		fmt.Fprintln(w, "nobody is told: the configuration names no contact")
		return
	}
	t := table(w)
	fmt.Fprintln(t, "CONTACT\tBY\tWAITING\tSTATE")
	for _, r := range c.Receivers {
		state := "nothing was sent yet"
		switch {
		case r.Since != nil:
			state = "fails: " + r.Problem
		case r.GaveUp != nil && (r.Sent == nil || r.Sent.Before(*r.GaveUp)):
			state = "refused: " + r.Problem
		case r.Sent != nil:
			state = "ok"
		}
		fmt.Fprintf(t, "%s\t%s\t%d\t%s\n", tocsin.Printable(r.Contact), tocsin.Printable(r.Via), r.Waiting, tocsin.Printable(state))
	}
	t.Flush()
}
