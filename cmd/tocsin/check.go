package main

import (
	"fmt"
	"io"

	"tocsin"
	"tocsin/internal/api"
	"tocsin/internal/config"
	"tocsin/internal/daemon"
)

type checkCmd struct {
	File string `arg:"" optional:"" help:"Configuration to check (default: the one that the guard reads)."`
}

func (*checkCmd) Help() string { return "Example: tocsin check && tocsin reload" }

// checked is what `tocsin check --json` prints.
type checked struct {
	Schema string        `json:"schema"`
	File   string        `json:"file"` // "" for the built-in configuration
	Jails  []checkedJail `json:"jails"`
}

type checkedJail struct {
	Name     string   `json:"name"`
	Filter   string   `json:"filter"`
	Rules    int      `json:"rules"`
	Sources  []string `json:"sources"`
	Ports    []uint16 `json:"ports"` // empty: all
	MaxRetry int      `json:"maxretry"`
	FindTime string   `json:"findtime"`
	BanTime  string   `json:"bantime"`
	Found    []string `json:"found"` // how ports and sources were found
}

func (k *checkCmd) Run(e *env) error {
	if k.File != "" {
		e.flags.Config = k.File
	}
	c, path, err := e.config()
	if err != nil {
		return err
	}
	plans, err := daemon.Check(e.ctx, c)
	if err != nil {
		return err
	}
	out := checked{Schema: "tocsin.check/1", File: path, Jails: []checkedJail{}}
	for _, p := range plans {
		j := checkedJail{
			Name: p.Jail, Filter: p.Filter, Rules: p.Rules, Sources: p.Sources, Ports: p.Ports, MaxRetry: p.MaxRetry,
			FindTime: config.FormatDuration(p.FindTime), BanTime: config.FormatDuration(p.BanTime), Found: p.Found,
		}
		if j.Ports == nil {
			j.Ports = []uint16{}
		}
		if j.Found == nil {
			j.Found = []string{}
		}
		out.Jails = append(out.Jails, j)
	}
	return e.print(out, func(w io.Writer) { printChecked(w, &out) })
}

func printChecked(w io.Writer, c *checked) {
	file := c.File
	if file == "" {
		file = "no configuration file: the built-in one"
	}
	fmt.Fprintf(w, "%s: no mistakes\n", file)
	for _, j := range c.Jails {
		fmt.Fprintf(w, "\njail %s: filter %s, %s\n", j.Name, j.Filter, api.Count(j.Rules, "rule", "rules"))
		for _, s := range j.Sources {
			fmt.Fprintf(w, "  reads  %s\n", tocsin.Printable(s))
		}
		fmt.Fprintf(w, "  bans   for %s after %s within %s, on %s\n", j.BanTime, api.Count(j.MaxRetry, "failure", "failures"), j.FindTime, api.PortsText(j.Ports))
		for _, f := range j.Found {
			fmt.Fprintf(w, "  found  %s\n", tocsin.Printable(f))
		}
	}
}

type versionCmd struct{}

func (*versionCmd) Help() string { return "Example: tocsin version --json" }

func (*versionCmd) Run(e *env) error {
	v := struct {
		Schema  string `json:"schema"`
		Version string `json:"version"`
	}{"tocsin.version/1", version()}
	return e.print(v, func(w io.Writer) { fmt.Fprintln(w, "tocsin", v.Version) })
}
