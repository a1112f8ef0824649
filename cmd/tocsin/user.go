package main

import (
	"fmt"
	"io"
	"time"

	"tocsin"
	"tocsin/internal/api"
)

// userCmd is about who may see the pages.
type userCmd struct {
	Add   userAddCmd   `cmd:"" help:"Make an account; prints a link for its password, good once."`
	Reset userResetCmd `cmd:"" help:"Give an account a link for a new password."`
	List  userListCmd  `cmd:"" default:"1" help:"Which accounts there are."`
	Drop  userDropCmd  `cmd:"" help:"Remove an account and end its sessions."`
}

func (*userCmd) Help() string {
	return "Example: tocsin user add marie --role admin\n\nThe pages ask everybody for an account. board sees counts and graphs, support one address at a time, admin everything."
}

type userAddCmd struct {
	Name string `arg:"" help:"What the account is called."`
	Role string `enum:"board,support,admin" default:"board" help:"board: counts and graphs; support: one address at a time, unban, acknowledge; admin: everything."`
}

func (k *userAddCmd) Run(e *env) error {
	watch, err := e.watch()
	if err != nil {
		return err
	}
	l, err := watch.AddUser(e.ctx, api.UserRequest{Name: k.Name, Role: k.Role, By: whoami()})
	return e.userLink(l, err)
}

type userResetCmd struct {
	Name string `arg:"" help:"The account."`
}

func (k *userResetCmd) Run(e *env) error {
	watch, err := e.watch()
	if err != nil {
		return err
	}
	l, err := watch.ResetUser(e.ctx, api.UserRequest{Name: k.Name, By: whoami()})
	return e.userLink(l, err)
}

// userLink prints a link that is good once: the link alone, so that it can be handed on.
func (e *env) userLink(l api.UserLink, err error) error {
	if err != nil {
		return err
	}
	return e.print(l, func(w io.Writer) {
		fmt.Fprintln(w, l.URL)
		fmt.Fprintf(e.stderr, "%s (%s) chooses a password there; good once, until %s\n", tocsin.Printable(l.Name), l.Role, l.Until.Local().Format("15:04"))
	})
}

type userListCmd struct{}

func (*userListCmd) Run(e *env) error {
	watch, err := e.watch()
	if err != nil {
		return err
	}
	all, err := watch.Users(e.ctx)
	if err != nil {
		return err
	}
	return e.print(all, func(w io.Writer) {
		if len(all.Users) == 0 {
			fmt.Fprintln(w, "there is no account: tocsin user add NAME --role admin makes the first")
			return
		}
		t := table(w)
		fmt.Fprintln(t, "NAME\tROLE\tSESSIONS\tLOGGED IN")
		for _, u := range all.Users {
			logged := "never"
			switch {
			case u.Waits:
				logged = "has no password yet"
			case u.Logged != nil:
				logged = u.Logged.Local().Format(time.DateTime)
			}
			fmt.Fprintf(t, "%s\t%s\t%d\t%s\n", tocsin.Printable(u.Name), u.Role, u.Sessions, logged)
		}
		t.Flush()
	})
}

type userDropCmd struct {
	Name string `arg:"" help:"The account."`
}

func (k *userDropCmd) Run(e *env) error {
	watch, err := e.watch()
	if err != nil {
		return err
	}
	c, err := watch.DropUser(e.ctx, api.UserRequest{Name: k.Name, By: whoami()})
	return e.change(c, err)
}
