package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"tocsin/internal/api"
	"tocsin/internal/config"
	"tocsin/internal/daemon"
)

// The emergency exit must open whatever else is broken: the configuration, the disk, the guard. So the commands do by
// themselves what can be done without a guard, say so, and only then tell the guard, for which they do not wait long.

// guardTime is how long a guard may take to follow.
const guardTime = 2 * time.Second

type offCmd struct {
	For string `default:"forever" help:"How long: 1h, 1d (default: until tocsin on)."`
}

func (*offCmd) Help() string {
	return "Example: tocsin off --for 1h\n\nRemoves our firewall table at once, whether a guard runs or not, and keeps it away across restarts."
}

func (o *offCmd) Run(e *env) error {
	d, err := durationArg("--for", o.For)
	if err != nil {
		return err
	}
	at, err := e.place()
	if err != nil {
		e.warn(fmt.Sprintf("%v; the usual folders are used", err))
		at = e.placeOf(config.Default())
	}
	var until time.Time
	if d > 0 {
		until = time.Now().Add(d)
	}
	lasts, err := daemon.OpenExit(at.state, until)
	var unsaid error
	if err == nil {
		c := api.Change{Schema: api.SchemaChange, Changed: []string{}, Text: offText(at.state, until, lasts), Undo: "tocsin on"}
		unsaid = e.change(c, nil)
	}
	_, gerr := e.tell(at, api.OffRequest{Until: api.Time(lasts)})
	if err := offError(err, gerr); err != nil {
		return err
	}
	return unsaid
}

// offText says what was done: lasts is until when the exit is open, until is what was asked for.
func offText(state string, until, lasts time.Time) string {
	s := "off"
	if state != config.Default().State {
		s += " (state folder " + state + ")"
	}
	s += ": everybody is let in "
	switch {
	case !lasts.IsZero():
		return s + "until " + lasts.Format(time.DateTime) + ", or `tocsin on`"
	case !until.IsZero():
		return s + "until `tocsin on`: the disk has no room for a time"
	}
	return s + "until `tocsin on`"
}

// offError puts together what went wrong here and at the guard. That no guard runs is no mistake.
func offError(err, gerr error) error {
	var guard *api.Error
	errors.As(gerr, &guard)
	switch {
	case err != nil && gerr == nil:
		return api.Errorf(errorOf(err).Exit, "the guard keeps off while it runs; the next one may not", err.Error())
	case err != nil:
		e := errorOf(err)
		return api.Errorf(e.Exit, cmp.Or(e.Hint, "a guard that runs or starts may bring the firewall table back"), e.Msg)
	case guard == nil || guard.Exit == api.ExitUnreachable:
		return nil
	case guard.Exit == api.ExitTryLater:
		return api.Errorf(api.ExitTryLater, "see whether the table stays away: nft list table inet tocsin",
			fmt.Sprintf("the guard did not answer within %.0f s; it looks at the exit as soon as it moves again", guardTime.Seconds()))
	}
	return api.Errorf(api.ExitFailed, guard.Hint, "the guard does not follow: "+guard.Msg)
}

type onCmd struct{}

func (*onCmd) Help() string { return "Example: tocsin on" }

func (*onCmd) Run(e *env) error {
	at, err := e.place()
	if err != nil {
		return err
	}
	was, err := daemon.CloseExit(at.state)
	if err != nil {
		return err
	}
	c, err := e.tell(at, api.OffRequest{On: true})
	var guard *api.Error
	switch {
	case err == nil:
		return e.change(c, nil)
	case !errors.As(err, &guard):
		return err
	case guard.Exit == api.ExitTryLater:
		return api.Errorf(api.ExitTryLater, "tocsin status", "the emergency exit is closed, but "+guard.Msg)
	case guard.Exit != api.ExitUnreachable:
		return err
	case was:
		return e.change(api.Change{Schema: api.SchemaChange, Changed: []string{}, Text: "on: a guard will ban again when it starts", Undo: "tocsin off"}, nil)
	}
	return e.change(api.Change{Schema: api.SchemaChange, Changed: []string{}, Text: "it was not off; no guard is running"}, nil)
}

// tell tells the guard that the exit has moved.
func (e *env) tell(at place, r api.OffRequest) (api.Change, error) {
	ctx, cancel := context.WithTimeout(e.ctx, guardTime)
	defer cancel()
	return api.NewClient(at.socket).Off(ctx, r)
}

// change prints what was changed and how to take it back.
func (e *env) change(c api.Change, err error) error {
	if err != nil {
		return err
	}
	return e.print(c, func(w io.Writer) {
		fmt.Fprintln(w, c.Text)
		if c.Undo != "" {
			fmt.Fprintf(w, "  undo: %s\n", c.Undo)
		}
	})
}
