package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"tocsin"
	"tocsin/internal/api"
	"tocsin/internal/daemon"
	"tocsin/internal/firewall"
)

type doctorCmd struct{}

func (*doctorCmd) Help() string {
	return "Example: tocsin doctor && echo well\n\nExit code 78 if there is a warning or an error, 0 if there are notes at most."
}

func (*doctorCmd) Run(e *env, guard *api.Client) error {
	d, err := guard.Doctor(e.ctx)
	var refused *api.Error
	switch {
	case errors.As(err, &refused) && refused.Exit == api.ExitPermission:
		return err // the guard is there; it is the asker who may not ask
	case err != nil:
		d = withoutGuard(e, err)
	}
	if watch, err := e.watch(); err == nil {
		if r, err := watch.Reputation(e.ctx); err == nil { // where it does not answer the guard says so
			d.Findings = append(d.Findings, daemon.WatchFindings(&r)...)
		}
		if c, err := watch.Contacts(e.ctx); err == nil {
			d.Findings = append(d.Findings, daemon.NotifyFindings(&c)...)
		}
	}
	if err := e.print(d, func(w io.Writer) { printDoctor(w, &d) }); err != nil {
		return err
	}
	if slices.ContainsFunc(d.Findings, func(f api.Finding) bool { return f.Severity != api.SeverityNote }) {
		return exitError(api.ExitFindings)
	}
	return nil
}

// withoutGuard says what can be seen when nobody answers on the socket.
func withoutGuard(e *env, err error) api.Doctor {
	d := api.Doctor{Schema: api.SchemaDoctor, Checked: []string{"guard", "configuration", "firewall"}, Findings: []api.Finding{}}
	add := func(code, fix, text string) {
		d.Findings = append(d.Findings, api.Finding{Code: code, Severity: api.SeverityError, Text: text, Fix: fix})
	}
	var ae *api.Error
	if errors.As(err, &ae) {
		add("TOC-RUN-002", ae.Hint, ae.Msg)
	}
	if _, _, err := e.config(); err != nil {
		add("TOC-CFG-002", "tocsin check", "the configuration has mistakes: "+strings.TrimSpace(err.Error()))
	}
	if err := firewall.Available(); err != nil {
		fix := "use a kernel with nf_tables, or watch only"
		if os.Geteuid() != 0 {
			fix = "try again with sudo"
		}
		add("TOC-FW-001", fix, "the firewall cannot be used: "+err.Error())
	}
	return d
}

func printDoctor(w io.Writer, d *api.Doctor) {
	if len(d.Findings) == 0 {
		fmt.Fprintf(w, "all is well; checked: %s\n", strings.Join(d.Checked, ", "))
		return
	}
	printFindings(w, d.Findings)
}

func printFindings(w io.Writer, fs []api.Finding) {
	for _, f := range fs {
		fmt.Fprintf(w, "\n%s  %s: ", f.Code, f.Severity)
		for line := range strings.Lines(f.Text) {
			fmt.Fprintln(w, tocsin.Printable(strings.TrimRight(line, "\n")))
		}
		if f.Fix != "" {
			fmt.Fprintf(w, "  do: %s\n", tocsin.Printable(f.Fix))
		}
	}
}
