package main

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"time"

	"tocsin/internal/api"
	"tocsin/internal/config"
	"tocsin/internal/daemon"
)

type banCmd struct {
	Prefix     string `arg:"" name:"address" help:"Address or prefix."`
	For        string `default:"1d" help:"How long: 15m, 1d, 4w, forever."`
	Jail       string `help:"On the ports of this jail only (default: all ports)."`
	Reason     string `help:"Why, for whoever asks later."`
	AcceptRisk string `enum:",lockout" default:"" placeholder:"lockout" help:"Ban although an ssh session from there is open."`
}

func (*banCmd) Help() string { return "Example: tocsin ban 192.0.2.7 --for 1d --reason \"mail flood\"" }

func (b *banCmd) Run(e *env) error {
	p, err := prefixArg(b.Prefix)
	if err != nil {
		return err
	}
	d, err := durationArg("--for", b.For)
	if err != nil {
		return err
	}
	if b.AcceptRisk == "" && isOwnSession(p) {
		return api.Errorf(api.ExitFindings, "to ban it all the same: --accept-risk=lockout", "you are connected from "+p.String()+"; banning it would lock you out")
	}
	return e.change(e.client().Ban(e.ctx, api.BanRequest{
		Prefix: p.String(), Jail: b.Jail, Seconds: d.Seconds(), Reason: b.Reason, By: whoami(), AcceptRisk: b.AcceptRisk,
	}))
}

// isOwnSession says whether the person at the keyboard is connected from p (sshd(8), SSH_CONNECTION).
func isOwnSession(p netip.Prefix) bool {
	from, _, _ := strings.Cut(os.Getenv("SSH_CONNECTION"), " ")
	addr, err := netip.ParseAddr(from)
	return err == nil && p.Contains(addr.Unmap())
}

type unbanCmd struct {
	Prefix string `arg:"" optional:"" name:"address" help:"Address or prefix."`
	All    bool   `help:"Every ban."`
	Jail   string `help:"Only bans of this jail."`
	Reason string `help:"Why, for whoever asks later."`
}

func (*unbanCmd) Help() string { return "Example: tocsin unban 192.0.2.7" }

func (u *unbanCmd) Run(e *env) error {
	if (u.Prefix == "") != u.All {
		return api.Errorf(api.ExitUsage, "tocsin unban 192.0.2.7", "unban needs an address or --all")
	}
	r := api.UnbanRequest{All: u.All, Jail: u.Jail, Reason: u.Reason, By: whoami()}
	if !u.All {
		p, err := prefixArg(u.Prefix)
		if err != nil {
			return err
		}
		r.Prefix = p.String()
	}
	return e.change(e.client().Unban(e.ctx, r))
}

type allowCmd struct {
	Prefix string `arg:"" optional:"" name:"address" help:"Address or prefix; none lists them."`
	For    string `default:"forever" help:"How long: 7d, 4w, forever."`
	Remove bool   `help:"Take it off the list."`
	Note   string `help:"Whose address it is."`
}

func (*allowCmd) Help() string {
	return "Example: tocsin allow 198.51.100.4 --for 7d --note \"Marie at home\""
}

func (a *allowCmd) Run(e *env) error {
	if a.Prefix == "" {
		list, err := e.client().Allowed(e.ctx)
		if err != nil {
			return err
		}
		return e.print(list, func(w io.Writer) { printAllowed(w, list) })
	}
	p, err := prefixArg(a.Prefix)
	if err != nil {
		return err
	}
	d, err := durationArg("--for", a.For)
	if err != nil {
		return err
	}
	return e.change(e.client().Allow(e.ctx, api.AllowRequest{
		Prefix: p.String(), Seconds: d.Seconds(), Note: a.Note, By: whoami(), Remove: a.Remove,
	}))
}

type reloadCmd struct{}

func (*reloadCmd) Help() string { return "Example: tocsin check && tocsin reload" }

func (*reloadCmd) Run(e *env) error { return e.change(e.client().Reload(e.ctx)) }

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
	var until time.Time
	text := "off: everybody is let in until `tocsin on`"
	if d > 0 {
		until = time.Now().Add(d)
		text = "off: everybody is let in until " + until.Format(time.DateTime) + ", or `tocsin on`"
	}
	if _, err := daemon.OpenExit(e.state(), until); err != nil {
		return err
	}
	// A guard that runs sees it within a second; being told it sees it now. That it may not run is no mistake.
	_, _ = e.client().Off(e.ctx, api.OffRequest{})
	return e.change(api.Change{Schema: api.SchemaChange, Changed: []string{}, Text: text, Undo: "tocsin on"}, nil)
}

type onCmd struct{}

func (*onCmd) Help() string { return "Example: tocsin on" }

func (*onCmd) Run(e *env) error {
	was, err := daemon.CloseExit(e.state())
	if err != nil {
		return err
	}
	c, err := e.client().Off(e.ctx, api.OffRequest{On: true})
	switch {
	case err == nil:
		return e.change(c, nil)
	case was:
		return e.change(api.Change{Schema: api.SchemaChange, Changed: []string{}, Text: "on: a guard will ban again when it starts", Undo: "tocsin off"}, nil)
	}
	return e.change(api.Change{Schema: api.SchemaChange, Changed: []string{}, Text: "it was not off; no guard is running"}, nil)
}

// state is the state folder, also when the configuration has mistakes: the emergency exit must work then too.
func (e *env) state() string {
	c, _, err := e.config()
	if err != nil {
		c = config.Default()
		e.adjust(c)
	}
	return c.State
}

func prefixArg(s string) (netip.Prefix, error) {
	if s == "me" {
		s, _, _ = strings.Cut(os.Getenv("SSH_CONNECTION"), " ")
		if s == "" {
			return netip.Prefix{}, api.Errorf(api.ExitUsage, "write the address", "\"me\" is the source of your ssh session, but SSH_CONNECTION is not set")
		}
	}
	p, err := config.ParsePrefix(s)
	if err != nil {
		return p, api.Errorf(api.ExitUsage, "write it like 192.0.2.7, 192.0.2.0/24 or 2001:db8::/64", err.Error())
	}
	return p, nil
}

// durationArg reads a duration; 0 is for ever.
func durationArg(flag, s string) (time.Duration, error) {
	if s == "forever" {
		return 0, nil
	}
	d, err := config.ParseDuration(s)
	if err != nil || d <= 0 {
		return 0, api.Errorf(api.ExitUsage, "write it like 15m, 1h30m, 7d or forever", fmt.Sprintf("%s %q is not a positive duration", flag, s))
	}
	return d, nil
}
