package main

import (
	"fmt"
	"io"
	"net/netip"
	"runtime/debug"
	"strings"
	"time"

	"tocsin"
	"tocsin/internal/api"
	"tocsin/internal/daemon"
)

type diffCmd struct {
	From     string   `arg:"" enum:"fail2ban" help:"fail2ban."`
	Logs     []string `arg:"" optional:"" name:"log" help:"Files that every jail reads in place of its own logs."`
	Since    string   `default:"24h" help:"How far back bans are compared."`
	Fail2ban string   `name:"fail2ban" placeholder:"DIR" help:"Its configuration (default: the one that [fail2ban] names, or /etc/fail2ban)."`
	Database string   `placeholder:"FILE" help:"Its database, for what it really did (default: the one that its fail2ban.conf names)."`
	All      bool     `help:"List those too whom both would ban, and every difference, not the first 50."`
}

func (*diffCmd) Help() string {
	return "Example: tocsin diff fail2ban --since 24h\n\nReads the logs of fail2ban's jails once, rotated and packed ones too, and says who fail2ban and who Tocsin would ban by them, and why they differ. Bans nobody; fail2ban may be running."
}

// compared is what `tocsin diff fail2ban --json` prints.
type compared struct {
	Schema   string         `json:"schema"`
	Folder   string         `json:"folder"`
	Since    time.Time      `json:"since"`
	Until    time.Time      `json:"until"`
	Logs     []string       `json:"logs"`
	Lines    uint64         `json:"lines"`
	Failures uint64         `json:"failures"`
	Really   bool           `json:"really_known"`
	Jails    []comparedJail `json:"jails"`
	Rows     []comparedRow  `json:"rows"`
	Notes    []string       `json:"notes"`
}

type comparedJail struct {
	Jail         string `json:"jail"`
	Both         int    `json:"both"`
	OnlyFail2ban int    `json:"only_fail2ban"`
	OnlyTocsin   int    `json:"only_tocsin"`
	Really       int    `json:"really"`
}

type comparedRow struct {
	Jail     string       `json:"jail"`
	ID       string       `json:"id"`
	Prefix   string       `json:"prefix"`
	Fail2ban *comparedBan `json:"fail2ban"`
	Tocsin   *comparedBan `json:"tocsin"`
	Really   *comparedBan `json:"really"`
	Why      []string     `json:"why"`
}

type comparedBan struct {
	First    time.Time `json:"first"`
	Times    int       `json:"times"`
	Failures int       `json:"failures"`
}

func (d *diffCmd) Run(e *env) error {
	c, err := e.fail2banConfig(d.Fail2ban)
	if err != nil {
		return err
	}
	since, err := durationArg("--since", d.Since)
	if err != nil {
		return err
	}
	debug.SetGCPercent(200) // what lives long is small beside what is read
	now := time.Now()
	var from time.Time // zero: from the beginning
	if since > 0 {
		from = now.Add(-since)
	}
	got, err := daemon.CompareFail2ban(e.ctx, daemon.DiffOptions{Config: c, Logs: d.Logs, Since: from, Until: now, Database: d.Database})
	if err != nil {
		return err
	}
	for _, note := range got.Notes {
		e.warn(note)
	}
	out := wireDiff(got)
	return e.print(out, func(w io.Writer) { printDiff(w, &out, d.All) })
}

func wireDiff(got *daemon.Diff) compared {
	out := compared{
		Schema: "tocsin.diff/1", Folder: got.Dir, Since: got.Since.UTC(), Until: got.Until.UTC(), Logs: append([]string{}, got.Logs...),
		Lines: got.Lines, Failures: got.Failures, Really: got.Really,
		Jails: []comparedJail{}, Rows: []comparedRow{}, Notes: append([]string{}, got.Notes...),
	}
	for _, j := range got.Jails {
		out.Jails = append(out.Jails, comparedJail{Jail: j.Name, Both: j.Both, OnlyFail2ban: j.OnlyFail2ban, OnlyTocsin: j.OnlyTocsin, Really: j.Really})
	}
	for i := range got.Rows {
		r := &got.Rows[i]
		out.Rows = append(out.Rows, comparedRow{
			Jail: r.Jail, ID: r.ID, Prefix: prefixText(r.Prefix), Why: append([]string{}, r.Why...),
			Fail2ban: wireComparedBan(r.Fail2ban), Tocsin: wireComparedBan(r.Tocsin), Really: wireComparedBan(r.Really),
		})
	}
	return out
}

func prefixText(p netip.Prefix) string {
	if !p.IsValid() {
		return ""
	}
	return p.String()
}

func wireComparedBan(b *daemon.DiffBan) *comparedBan {
	if b == nil {
		return nil
	}
	return &comparedBan{b.First.UTC(), b.Times, b.Failures}
}

// maxDifferences is how many rows are shown unasked.
const maxDifferences = 50

func printDiff(w io.Writer, d *compared, all bool) {
	fmt.Fprintf(w, "%s to %s: %d lines of %s, %s\n", d.Since.Local().Format(time.DateTime), d.Until.Local().Format(time.DateTime),
		d.Lines, api.Count(len(d.Logs), "log", "logs"), api.Count(int(d.Failures), "failure", "failures"))
	t := table(w)
	really := func(s string) string {
		if !d.Really {
			return ""
		}
		return "\t" + s
	}
	fmt.Fprintf(t, "\nJAIL\tBOTH\tONLY FAIL2BAN\tONLY TOCSIN%s\n", really("REALLY BANNED"))
	differ := 0
	for _, j := range d.Jails {
		fmt.Fprintf(t, "%s\t%d\t%d\t%d%s\n", tocsin.Printable(j.Jail), j.Both, j.OnlyFail2ban, j.OnlyTocsin, really(fmt.Sprint(j.Really)))
	}
	t.Flush()
	var rows []comparedRow
	for _, r := range d.Rows {
		if len(r.Why) > 0 {
			differ++
		}
		if len(r.Why) > 0 || all {
			rows = append(rows, r)
		}
	}
	if differ == 0 {
		fmt.Fprintln(w, "\nBoth would ban the same.")
	}
	shown := rows
	if !all && len(shown) > maxDifferences {
		shown = shown[:maxDifferences]
	}
	if len(shown) > 0 {
		fmt.Fprintf(t, "\nJAIL\tWHO\tFAIL2BAN\tTOCSIN%s\tWHY\n", really("REALLY"))
		for _, r := range shown {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s%s\t%s\n", tocsin.Printable(r.Jail), shortened(tocsin.Printable(r.ID), 60),
				banWord(r.Fail2ban), banWord(r.Tocsin), really(banWord(r.Really)), strings.Join(r.Why, "; "))
		}
		t.Flush()
	}
	if len(shown) < len(rows) {
		fmt.Fprintf(w, "and %d more: --all\n", len(rows)-len(shown))
	}
}

// banWord says when somebody is banned first.
func banWord(b *comparedBan) string {
	if b == nil {
		return "no"
	}
	return b.First.Local().Format(time.DateTime)
}
