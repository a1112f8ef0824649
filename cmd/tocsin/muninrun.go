package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"tocsin"
	"tocsin/internal/api"
	"tocsin/internal/daemon"
	"tocsin/internal/exec"
	"tocsin/internal/probe"
)

type muninRunCmd struct {
	Plugin string `arg:"" help:"A file in /etc/munin/plugins."`
	Do     string `arg:"" optional:"" enum:"fetch,config,autoconf,suggest" default:"fetch" help:"fetch (the default), config, autoconf or suggest."`
}

func (*muninRunCmd) Help() string {
	return "Example: tocsin munin-run df config\n\nRuns one of Munin's plugins just as it is run for the graphs: by the runner, as the user and with the environment that plugin-conf.d says."
}

// muninRun is what `tocsin munin-run --json` prints.
type muninRun struct {
	Schema  string `json:"schema"`
	Plugin  string `json:"plugin"`
	Do      string `json:"do"`
	Code    int    `json:"code"`
	Output  string `json:"output"`
	Errors  string `json:"errors"`
	Problem string `json:"problem"`
}

func (k *muninRunCmd) Run(e *env) error {
	at, err := e.place()
	if err != nil {
		return err
	}
	path := daemon.RunnerSocket(at.socket)
	runner := exec.NewRunner(exec.DialSocket(path))
	defer runner.Close()
	r, err := runner.Do(e.ctx, exec.Job{Entry: "munin/" + k.Plugin, Do: k.Do})
	if errors.Is(err, exec.ErrUnreachable) {
		return api.Errorf(api.ExitUnreachable, "as root; it is started by `tocsin run`, or `systemctl start tocsin-runner`", fmt.Sprintf("no runner answers you on %s", path))
	}
	if err != nil {
		return err
	}
	var text []byte
	if r.Out != "" {
		if text, err = probe.UnpackText(r.Out); err != nil {
			return err
		}
	}
	out := muninRun{Schema: "tocsin.munin-run/1", Plugin: k.Plugin, Do: k.Do, Code: r.Code, Output: string(text), Errors: r.Err, Problem: r.Problem}
	err = e.print(out, func(w io.Writer) {
		printLines(w, string(text))
		printLines(e.stderr, r.Err)
	})
	switch {
	case err != nil:
		return err
	case r.Problem != "":
		return api.Errorf(api.ExitFailed, "", k.Plugin+": "+r.Problem)
	case r.Code != 0:
		return exitError(api.ExitFailed)
	}
	return nil
}

// printLines writes a stranger's text so that it does nothing to a terminal.
func printLines(w io.Writer, text string) {
	for line := range strings.Lines(text) {
		fmt.Fprintln(w, tocsin.Printable(strings.TrimRight(line, "\r\n")))
	}
}
