package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"

	"tocsin"
	"tocsin/internal/api"
	"tocsin/internal/daemon"
)

// This file imports history into the store of samples.

type importMuninCmd struct {
	Dir    string `arg:"" default:"/var/lib/munin" help:"The master's folder (dbdir in munin.conf)."`
	DryRun bool   `help:"Say what would be taken over, and write nothing."`
}

func (*importMuninCmd) Help() string {
	return "Example: tocsin import munin /var/lib/munin --dry-run\n\nTakes over all of a year that the RRD files hold: averages, minima and maxima. The master's files are only read, and it may go on. Its groups, nodes and services keep their names, so that history and what is measured from now on are one curve where the names are the same."
}

// importedTree is what `tocsin import munin --json` prints.
type importedTree struct {
	Schema   string       `json:"schema"`
	From     string       `json:"from"`
	Files    int          `json:"files"`
	Servers  []string     `json:"servers"`
	DryRun   bool         `json:"dry_run"`
	Problems []string     `json:"problems"`
	History  *api.History `json:"history"` // null: nothing was written
}

func (k *importMuninCmd) Run(e *env) error {
	files, problems, err := daemon.HistoryTree(k.Dir)
	if err != nil {
		return err
	}
	out := importedTree{Schema: "tocsin.import-munin/1", From: k.Dir, Files: len(files), Servers: []string{}, DryRun: k.DryRun, Problems: []string{}}
	for _, p := range problems {
		out.Problems = append(out.Problems, p.String())
	}
	last := ""
	for _, f := range files {
		if name := strings.TrimPrefix(f.Group+"/"+f.Node, "/"); name != last {
			out.Servers = append(out.Servers, name)
			last = name
		}
	}
	if len(files) == 0 {
		return api.Errorf(api.ExitData, "the folder is dbdir in munin.conf, usually /var/lib/munin", "no RRD file lies in "+k.Dir)
	}
	if !k.DryRun {
		watch, err := e.watch()
		if err != nil {
			return err
		}
		h, err := daemon.SendHistory(e.ctx, watch, files, func(err error) { out.Problems = append(out.Problems, err.Error()) })
		if err != nil {
			return err
		}
		out.History = &h
	}
	return e.print(out, func(w io.Writer) { printImportedTree(w, &out) })
}

// mostShown is how many problems are shown to a person.
const mostShown = 20

func printImportedTree(w io.Writer, r *importedTree) {
	fmt.Fprintf(w, "%s in %s, of %s:\n", api.Count(r.Files, "file", "files"), r.From, api.Count(len(r.Servers), "server", "servers"))
	for _, s := range r.Servers {
		fmt.Fprintf(w, "  %s\n", tocsin.Printable(s))
	}
	for i, p := range r.Problems {
		if i == mostShown {
			fmt.Fprintf(w, "... and %d more; --json shows all\n", len(r.Problems)-i)
			break
		}
		fmt.Fprintf(w, "left out: %s\n", tocsin.Printable(p))
	}
	if r.History == nil {
		fmt.Fprintln(w, "Nothing was written (--dry-run).")
		return
	}
	printHistory(w, r.History)
}

func printHistory(w io.Writer, h *api.History) {
	fmt.Fprintf(w, "%s of %s are new", api.Count(h.Points, "point", "points"), api.Count(h.Series, "series", "series"))
	if h.Known > 0 {
		fmt.Fprintf(w, ", %d were there already", h.Known)
	}
	if h.Old > 0 {
		fmt.Fprintf(w, ", %s are older than what is kept", api.Count(h.Old, "row", "rows"))
	}
	if h.Ahead > 0 {
		fmt.Fprintf(w, ", %s lie in the future", api.Count(h.Ahead, "row", "rows"))
	}
	fmt.Fprintln(w)
}

// seriesFlag is --as.
type seriesFlag struct {
	As string `required:"" placeholder:"GROUP/NODE/SERVICE/FIELD" help:"What it is the history of."`
}

func (f *seriesFlag) series() (s tocsin.Series, err error) {
	parts := strings.Split(f.As, "/")
	if len(parts) == 3 {
		parts = append([]string{""}, parts...)
	}
	if len(parts) != 4 || parts[1] == "" || parts[2] == "" || parts[3] == "" {
		return s, api.Errorf(api.ExitUsage, "write it like Gandi/web1/load/load, or web1/load/load without a group", fmt.Sprintf("%.80q does not name a field", f.As))
	}
	return tocsin.Series{Group: parts[0], Node: parts[1], Service: parts[2], Field: parts[3]}, nil
}

// take has one series imported by send, and says what is new.
func (f *seriesFlag) take(e *env, send func(*api.WatchClient, tocsin.Series) (api.History, error)) error {
	as, err := f.series()
	if err != nil {
		return err
	}
	watch, err := e.watch()
	if err != nil {
		return err
	}
	h, err := send(watch, as)
	if err != nil {
		return err
	}
	return e.print(h, func(w io.Writer) { printHistory(w, &h) })
}

type importRRDCmd struct {
	File string `arg:"" help:"The RRD file."`
	seriesFlag
}

func (*importRRDCmd) Help() string {
	return "Example: tocsin import rrd load.rrd --as Gandi/web1/load/load\n\nOf a file with several sources the first is taken."
}

func (k *importRRDCmd) Run(e *env) error {
	return k.take(e, func(watch *api.WatchClient, as tocsin.Series) (api.History, error) {
		var unread error
		h, err := daemon.SendHistory(e.ctx, watch, []daemon.HistoryFile{{Path: k.File, Series: as}}, func(err error) { unread = err })
		return h, cmp.Or(unread, err)
	})
}

type importCSVCmd struct {
	File string `arg:"" help:"The CSV file: a time and a value in each row."`
	seriesFlag
}

func (*importCSVCmd) Help() string {
	return "Example: tocsin import csv load.csv --as Gandi/web1/load/load\n\nA time is RFC 3339 or seconds since 1970, in order; a heading is passed over. What tocsin graph -o writes can be read."
}

func (k *importCSVCmd) Run(e *env) error {
	return k.take(e, func(watch *api.WatchClient, as tocsin.Series) (api.History, error) {
		return daemon.SendCSV(e.ctx, watch, k.File, as)
	})
}
