package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"tocsin"
	"tocsin/internal/api"
	"tocsin/internal/daemon"
)

// hubCmd is a hub, and its members.
type hubCmd struct {
	Serve hubServeCmd `cmd:"" default:"withargs" hidden:"" help:"Take members' reports and answer for them."`
	Org   hubOrgCmd   `cmd:"" help:"The organisations that report."`
	Key   hubKeyCmd   `cmd:"" help:"Their keys."`
}

func (*hubCmd) Help() string {
	return "Example: tocsin hub --listen 127.0.0.1:8045 --state /var/lib/tocsin\n\nIt speaks AbuseIPDB's APIv2 under /api/v2/: clients need another base URL and a key of tocsin hub key add."
}

type hubServeCmd struct {
	Listen    string `default:"127.0.0.1:8045" placeholder:"HOST:PORT" help:"Where it answers (default ${default})."`
	URL       string `name:"url" placeholder:"URL" help:"The hub as its clients see it, behind a proxy: https://hub.example.org."`
	Cert      string `placeholder:"FILE" help:"Certificate, PEM; with --cert-key it speaks TLS."`
	CertKey   string `placeholder:"FILE" help:"Key of the certificate, PEM."`
	Countries string `placeholder:"FILE" help:"Countries of addresses, in MaxMind's format."`
	Debug     bool   `help:"Log more."`
}

func (k *hubServeCmd) Run(e *env) error {
	if (k.Cert == "") != (k.CertKey == "") {
		return api.Errorf(api.ExitUsage, "give both, or none", "--cert and --cert-key belong together")
	}
	at, err := e.place()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(e.ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	return daemon.RunHub(ctx, daemon.HubOptions{State: at.state, Listen: k.Listen, URL: k.URL, Cert: k.Cert, Key: k.CertKey, Countries: k.Countries, Log: e.logger(k.Debug)})
}

// hubDo asks the hub, or its file where none runs.
func hubDo[T any](e *env, do func(api.HubPeople) (T, error)) (v T, err error) {
	at, err := e.place()
	if err != nil {
		return v, err
	}
	op, done, err := daemon.HubPeople(e.ctx, at.state)
	if err != nil {
		return v, err
	}
	v, err = do(op)
	if cerr := done(); err == nil {
		err = cerr
	}
	return v, err
}

type hubOrgCmd struct {
	Add  hubOrgAddCmd  `cmd:"" help:"Make an organisation."`
	List hubOrgListCmd `cmd:"" default:"1" help:"Which organisations and keys there are."`
}

type hubOrgAddCmd struct {
	Name     string `arg:"" help:"What it is called."`
	Admitted bool   `help:"You know it as a body of its own. Without, it is on probation, and lists nothing by itself."`
	ASN      uint32 `name:"asn" placeholder:"NUMBER" help:"The network that it reports from."`
	Country  string `placeholder:"XX" help:"The country of that network."`
	Sponsor  string `placeholder:"ORG" help:"The organisation that brought it, and answers for it."`
}

func (k *hubOrgAddCmd) Run(e *env) error {
	o, err := hubDo(e, func(op api.HubPeople) (api.HubOrg, error) {
		return op.AddOrg(e.ctx, api.HubOrgRequest{Name: k.Name, Admitted: k.Admitted, ASN: k.ASN, Country: k.Country, Sponsor: k.Sponsor, By: whoami()})
	})
	if err != nil {
		return err
	}
	return e.print(o, func(w io.Writer) {
		fmt.Fprintf(w, "%s is %s\n  next: tocsin hub key add %q --name NAME --scope read,report\n", tocsin.Printable(o.Org), standing(o.Admitted), o.Org)
	})
}

func standing(admitted bool) string {
	if admitted {
		return "admitted"
	}
	return "on probation"
}

type hubOrgListCmd struct{}

func (*hubOrgListCmd) Run(e *env) error {
	all, err := hubDo(e, func(op api.HubPeople) (api.HubOrgs, error) { return op.Orgs(e.ctx) })
	if err != nil {
		return err
	}
	return e.print(all, func(w io.Writer) {
		if len(all.Orgs) == 0 {
			fmt.Fprintln(w, "there is no organisation: tocsin hub org add NAME --admitted makes the first")
			return
		}
		t := table(w)
		fmt.Fprintln(t, "ORGANISATION\tSTANDING\tKEY\tSCOPE\tPLAN\tREPORTER\tMADE\tREVOKED")
		for _, o := range all.Orgs {
			fmt.Fprintf(t, "%s\t%s\t\t\t\t\t%s\t\n", tocsin.Printable(o.Org), standing(o.Admitted), o.Made.Local().Format(time.DateTime))
			for _, key := range o.Keys {
				revoked := ""
				if key.Revoked != nil {
					revoked = key.Revoked.Local().Format(time.DateTime)
				}
				fmt.Fprintf(t, "\t\t%s\t%s\t%s\t%d\t%s\t%s\n", tocsin.Printable(key.Name), strings.Join(key.Scope, ","), key.Plan, key.Reporter, key.Made.Local().Format(time.DateTime), revoked)
			}
		}
		t.Flush()
	})
}

type hubKeyCmd struct {
	Add    hubKeyAddCmd    `cmd:"" help:"Make a key; it is shown once."`
	Revoke hubKeyRevokeCmd `cmd:"" help:"Let nobody in with a key any more."`
}

type hubKeyAddCmd struct {
	Org   string         `arg:"" help:"Whose it is: name or number."`
	Name  string         `required:"" placeholder:"NAME" help:"What it is for, such as the server that reports with it."`
	Scope []string       `default:"read,report" placeholder:"WORDS" help:"read, report, admin; several with commas (default ${default})."`
	Plan  string         `enum:"standard,basic,premium" default:"standard" help:"What it may ask in a day, as AbuseIPDB's plans: standard, basic, premium."`
	Quota map[string]int `mapsep:"," placeholder:"ENDPOINT=N" help:"Requests a day that differ from the plan: check=1000."`
}

func (k *hubKeyAddCmd) Run(e *env) error {
	r := api.HubKeyRequest{Org: k.Org, Name: k.Name, Plan: k.Plan, Quota: k.Quota, By: whoami()}
	for _, word := range k.Scope {
		if word = strings.TrimSpace(word); word != "" && !slices.Contains(r.Scope, word) {
			r.Scope = append(r.Scope, word)
		}
	}
	key, err := hubDo(e, func(op api.HubPeople) (api.HubKey, error) { return op.AddKey(e.ctx, r) })
	if err != nil {
		return err
	}
	return e.print(key, func(w io.Writer) { fmt.Fprintln(w, key.Key) })
}

type hubKeyRevokeCmd struct {
	Org  string `arg:"" help:"Whose it is: name or number."`
	Name string `arg:"" help:"The key's name."`
}

func (k *hubKeyRevokeCmd) Run(e *env) error {
	c, err := hubDo(e, func(op api.HubPeople) (api.Change, error) {
		return op.RevokeKey(e.ctx, api.HubKeyRequest{Org: k.Org, Name: k.Name, By: whoami()})
	})
	return e.change(c, err)
}
