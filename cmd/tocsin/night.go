package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"tocsin"
	"tocsin/internal/api"
)

type nightCmd struct {
	Since string `placeholder:"TIME" help:"How far back, like 12h (default: since yesterday at 20:00)."`
}

func (*nightCmd) Help() string {
	return "Example: tocsin night\n\nWhat happened since yesterday evening: what went wrong, who was banned, which servers were restarted or upgraded. The words are those of the digest in the morning."
}

func (k *nightCmd) Run(e *env) error {
	back, err := duration(k.Since)
	if err != nil {
		return err
	}
	watch, err := e.watch()
	if err != nil {
		return err
	}
	var since time.Time
	if back > 0 {
		since = time.Now().Add(-back)
	}
	n, err := watch.Night(e.ctx, since, language())
	if err != nil {
		return err
	}
	return e.print(n, func(w io.Writer) { printNight(w, &n) })
}

// printNight prints the words of the digest. What is missing in them stands below.
func printNight(w io.Writer, n *api.Night) {
	fmt.Fprintf(w, "%s\n\n", tocsin.Printable(n.Title))
	for line := range strings.Lines(n.Text) {
		fmt.Fprintln(w, tocsin.Printable(strings.TrimSuffix(line, "\n")))
	}
	if len(n.Problems) > 0 {
		fmt.Fprintln(w)
	}
	for _, p := range n.Problems {
		fmt.Fprintln(w, tocsin.Printable(p))
	}
}
