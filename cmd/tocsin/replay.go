package main

import (
	"fmt"
	"io"
	"math"
	"os"
	"runtime/debug"
	"time"

	"tocsin/internal/api"
	"tocsin/internal/config"
	"tocsin/internal/daemon"
)

type replayCmd struct {
	Logs  []string `arg:"" name:"log" help:"Files (plain, gzip, zstd), - for standard input, journal for the journal."`
	Jail  string   `help:"Only this jail of the configuration."`
	Since string   `default:"1d" help:"How far back to read the journal."`
	All   bool     `help:"List every address, not the first 20."`

	Fail2ban string `name:"fail2ban" placeholder:"DIR" help:"Replay the jails of fail2ban's configuration in this folder, such as /etc/fail2ban."`
}

func (*replayCmd) Help() string {
	return "Example: tocsin replay /var/log/auth.log.1 /var/log/auth.log\n\nBans nobody and needs no running guard. Without a configuration it replays the default sshd jail."
}

// Replayed is what `tocsin replay --json` prints.
type replayed struct {
	Schema   string         `json:"schema"`
	Lines    uint64         `json:"lines"`
	Bytes    uint64         `json:"bytes"`
	Seconds  float64        `json:"seconds"`
	First    *time.Time     `json:"first"`
	Last     *time.Time     `json:"last"`
	Failures uint64         `json:"failures"`
	Spared   uint64         `json:"spared"`
	Patterns []replayedRule `json:"patterns"`
	Bans     []replayedBan  `json:"bans"`
}

type replayedRule struct {
	Jail     string `json:"jail"`
	Pattern  string `json:"pattern"`
	Failures uint64 `json:"failures"`
}

type replayedBan struct {
	Prefix    string    `json:"prefix"`
	Jail      string    `json:"jail"`
	Times     int       `json:"times"`
	First     time.Time `json:"first"`
	Failures  int       `json:"failures"`
	Succeeded bool      `json:"succeeded"`
}

func (r *replayCmd) Run(e *env) error {
	e.fail2ban = r.Fail2ban
	c, err := e.replayConfig(r.Jail)
	if err != nil {
		return err
	}
	since, err := durationArg("--since", r.Since)
	if err != nil {
		return err
	}
	// A replay allocates nothing that lives long: collect rarely, within a bound.
	debug.SetGCPercent(400)
	debug.SetMemoryLimit(40 << 20)
	start := time.Now()
	var from time.Time // zero: from the beginning
	if since > 0 {
		from = start.Add(-since)
	}
	got, err := daemon.Replay(e.ctx, daemon.ReplayOptions{
		Config: c, Jail: r.Jail, Logs: r.Logs, Stdin: e.stdin, Since: from, Until: presentOf(r.Logs, start),
	})
	if err != nil {
		return err
	}
	out := wireReplay(got, time.Since(start))
	return e.print(out, func(w io.Writer) { printReplay(w, &out, r.All) })
}

// replayConfig is the configuration, or the default sshd jail where there is none.
func (e *env) replayConfig(jail string) (*config.Config, error) {
	c, _, err := e.config()
	if err != nil || jail == "" {
		return c, err
	}
	for i := range c.Jails {
		if c.Jails[i].Name == jail {
			return c, nil
		}
	}
	return nil, api.Errorf(api.ExitUsage, "", fmt.Sprintf("no jail is named %q in the configuration", jail))
}

// presentOf is the time at which the newest log was written last: lines without a year are not younger.
func presentOf(logs []string, now time.Time) time.Time {
	var newest time.Time
	for _, path := range logs {
		fi, err := os.Stat(path)
		if err != nil || !fi.Mode().IsRegular() {
			return now
		}
		if fi.ModTime().After(newest) {
			newest = fi.ModTime()
		}
	}
	return newest
}

func wireReplay(r *daemon.Replayed, took time.Duration) replayed {
	out := replayed{
		Schema: "tocsin.replay/1", Lines: r.Lines, Bytes: r.Bytes, Seconds: math.Round(took.Seconds()*1e6) / 1e6,
		First: api.Time(r.First), Last: api.Time(r.Last), Failures: r.Failures, Spared: r.Spared,
		Patterns: []replayedRule{}, Bans: []replayedBan{},
	}
	for _, c := range r.Rules {
		out.Patterns = append(out.Patterns, replayedRule{Jail: c.Jail, Pattern: c.Rule, Failures: c.N})
	}
	for _, b := range r.Bans {
		out.Bans = append(out.Bans, replayedBan{
			Prefix: b.Prefix.String(), Jail: b.Jail, Times: b.Times, First: b.First.UTC(), Failures: b.Failures, Succeeded: b.Succeeded,
		})
	}
	return out
}

func printReplay(w io.Writer, r *replayed, all bool) {
	fmt.Fprintf(w, "%d lines (%.1f MB) in %.2f s", r.Lines, float64(r.Bytes)/1e6, r.Seconds)
	if r.Seconds > 0 {
		fmt.Fprintf(w, ", %.1f million lines/s", float64(r.Lines)/r.Seconds/1e6)
	}
	fmt.Fprintln(w)
	if r.First != nil {
		fmt.Fprintf(w, "log from %s to %s\n", r.First.Local().Format(time.DateTime), r.Last.Local().Format(time.DateTime))
	}
	fmt.Fprintf(w, "\n%s\n", api.Count(int(r.Failures), "failure", "failures"))
	for _, p := range r.Patterns {
		fmt.Fprintf(w, "%9d  %s  %s\n", p.Failures, p.Jail, shortened(p.Pattern, 100))
	}
	succeeded := 0
	for _, b := range r.Bans {
		if b.Succeeded {
			succeeded++
		}
	}
	if r.Failures == 0 {
		fmt.Fprintln(w, "No line fits a rule of the jails. Is it the log that they read? `tocsin test FILTER FILE` shows each line.")
		return
	}
	fmt.Fprintf(w, "\nTocsin would have banned %s. %s\n", api.Count(len(r.Bans), "address", "addresses"), successText(succeeded))
	shown := r.Bans
	if !all && len(shown) > 20 {
		shown = shown[:20]
	}
	if len(shown) > 0 {
		t := table(w)
		fmt.Fprintln(t, "ADDRESS\tJAIL\tTIMES\tFAILURES\tFIRST\tLOGGED IN")
		for _, b := range shown {
			in := "never"
			if b.Succeeded {
				in = "yes"
			}
			fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%s\t%s\n", bare(b.Prefix), b.Jail, b.Times, b.Failures, b.First.Local().Format(time.DateTime), in)
		}
		t.Flush()
	}
	if len(shown) < len(r.Bans) {
		fmt.Fprintf(w, "and %d more: --all\n", len(r.Bans)-len(shown))
	}
}

func successText(n int) string {
	if n == 0 {
		return "None of them ever logged in successfully."
	}
	return fmt.Sprintf("%s of them logged in successfully at some time: look at these first.", api.Count(n, "address", "addresses"))
}

// shortened is the beginning of an expression: as much as tells it from others.
func shortened(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}
