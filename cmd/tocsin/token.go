package main

import (
	"fmt"
	"io"
	"time"

	"tocsin/internal/api"
)

// tokenCmd is about who may ask over the network.
type tokenCmd struct {
	Add    tokenAddCmd    `cmd:"" help:"Make a token; it is shown once."`
	List   tokenListCmd   `cmd:"" default:"1" help:"Which tokens there are."`
	Revoke tokenRevokeCmd `cmd:"" help:"Let nobody in with a token any more."`
}

func (*tokenCmd) Help() string {
	return "Example: tocsin token add grafana --scope read\n\nPrograms that ask the watch process over the network show a token: Authorization: Bearer TOKEN"
}

type tokenAddCmd struct {
	Name  string `arg:"" help:"What it is for."`
	Scope string `enum:"read,write" default:"read" help:"read: ask; write: hand over samples."`
}

func (k *tokenAddCmd) Run(e *env) error {
	watch, err := e.watch()
	if err != nil {
		return err
	}
	t, err := watch.AddToken(e.ctx, api.TokenRequest{Name: k.Name, Scope: k.Scope, By: whoami()})
	if err != nil {
		return err
	}
	return e.print(t, func(w io.Writer) { fmt.Fprintln(w, t.Token) })
}

type tokenListCmd struct{}

func (*tokenListCmd) Run(e *env) error {
	watch, err := e.watch()
	if err != nil {
		return err
	}
	all, err := watch.Tokens(e.ctx)
	if err != nil {
		return err
	}
	return e.print(all, func(w io.Writer) {
		if len(all.Tokens) == 0 {
			fmt.Fprintln(w, "there is no token: nobody may ask over the network")
			return
		}
		t := table(w)
		fmt.Fprintln(t, "NAME\tSCOPE\tMADE")
		for _, k := range all.Tokens {
			fmt.Fprintf(t, "%s\t%s\t%s\n", k.Name, k.Scope, k.Made.Local().Format(time.DateTime))
		}
		t.Flush()
	})
}

type tokenRevokeCmd struct {
	Name string `arg:"" help:"The token."`
}

func (k *tokenRevokeCmd) Run(e *env) error {
	watch, err := e.watch()
	if err != nil {
		return err
	}
	c, err := watch.DropToken(e.ctx, api.TokenRequest{Name: k.Name, By: whoami()})
	return e.change(c, err)
}
