package main

import (
	"errors"
	"io"
	"net/netip"
	"os"
	"strings"
	"time"

	"tocsin/internal/api"
	"tocsin/internal/config"
)

type banCmd struct {
	Prefix     string `arg:"" name:"address" help:"Address or prefix."`
	For        string `default:"1d" help:"How long: 15m, 1d, 4w, forever."`
	Jail       string `help:"On the ports of this jail only (default: all ports)."`
	Reason     string `help:"Why, for whoever asks later."`
	AcceptRisk string `enum:",lockout" default:"" placeholder:"lockout" help:"Ban although an ssh session from there is open."`
}

func (*banCmd) Help() string { return "Example: tocsin ban 192.0.2.7 --for 1d --reason \"mail flood\"" }

func (b *banCmd) Run(e *env, guard *api.Client) error {
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
	return e.change(guard.Ban(e.ctx, api.BanRequest{
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

func (u *unbanCmd) Run(e *env, guard *api.Client) error {
	if (u.Prefix == "") != u.All {
		return api.Errorf(api.ExitUsage, "tocsin unban 192.0.2.7", "unban needs an address or --all")
	}
	r := api.UnbanRequest{All: u.All, Jail: u.Jail, Reason: u.Reason, By: whoami()}
	if !u.All {
		p, err := prefixArg(u.Prefix)
		if err != nil { // of a jail that bans something else than addresses?
			r.Prefix = u.Prefix
			c, idErr := guard.Unban(e.ctx, r)
			if idErr != nil {
				return err
			}
			return e.change(c, nil)
		}
		r.Prefix = p.String()
	}
	return e.change(guard.Unban(e.ctx, r))
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

func (a *allowCmd) Run(e *env, guard *api.Client) error {
	if a.Prefix == "" {
		list, err := guard.Allowed(e.ctx)
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
	return e.change(guard.Allow(e.ctx, api.AllowRequest{
		Prefix: p.String(), Seconds: d.Seconds(), Note: a.Note, By: whoami(), Remove: a.Remove,
	}))
}

type reloadCmd struct{}

func (*reloadCmd) Help() string { return "Example: tocsin check && tocsin reload" }

func (*reloadCmd) Run(e *env, guard *api.Client) error { return e.change(guard.Reload(e.ctx)) }

func prefixArg(s string) (netip.Prefix, error) {
	if s == "me" {
		s, _, _ = strings.Cut(os.Getenv("SSH_CONNECTION"), " ")
		if s == "" {
			return netip.Prefix{}, api.Errorf(api.ExitUsage, "write the address", "\"me\" is the source of your ssh session, but SSH_CONNECTION is not set")
		}
	}
	p, err := config.ParsePrefix(s)
	var mistake *config.Error
	if errors.As(err, &mistake) {
		return p, api.Errorf(api.ExitUsage, mistake.Hint, mistake.Msg)
	}
	return p, err
}

// durationArg reads a duration, at most 100 years; 0 is for ever.
func durationArg(flag, s string) (time.Duration, error) {
	d, err := config.ParseDuration(s)
	var mistake *config.Error
	switch {
	case errors.As(err, &mistake):
		return 0, api.Errorf(api.ExitUsage, mistake.Hint, flag+" "+mistake.Msg)
	case d == config.Forever:
		return 0, nil
	}
	return d, err
}
