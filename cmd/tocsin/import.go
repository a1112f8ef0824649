package main

import (
	"fmt"
	"io"
	"time"

	"tocsin"
	"tocsin/internal/api"
	"tocsin/internal/config"
	"tocsin/internal/daemon"
)

// usualFail2ban is where fail2ban's configuration lies unless somebody says otherwise.
const usualFail2ban = "/etc/fail2ban"

// importCmd takes over what an older system knows.
type importCmd struct {
	Fail2ban importFail2banCmd `cmd:"" name:"fail2ban" help:"Take over running bans, history and read positions from fail2ban."`
	Munin    importMuninCmd    `cmd:"" help:"Take over the history that a Munin master keeps."`
	RRD      importRRDCmd      `cmd:"" name:"rrd" help:"Take over the history of one RRD file, or of its XML dump."`
	CSV      importCSVCmd      `cmd:"" name:"csv" help:"Take over times and values of one CSV file."`
}

func (*importCmd) Help() string {
	return "Example: tocsin import munin /var/lib/munin\n\nWhat is there already stays as it is: importing twice changes nothing."
}

type importFail2banCmd struct {
	Fail2ban string `name:"fail2ban" placeholder:"DIR" help:"Its configuration (default: the one that [fail2ban] names, or /etc/fail2ban)."`
	Database string `placeholder:"FILE" help:"Its database (default: the one that its fail2ban.conf names)."`
	DryRun   bool   `help:"Say what would be taken over, and write nothing."`
}

func (*importFail2banCmd) Help() string {
	return "Example: tocsin import fail2ban --dry-run\n\nTakes over running bans with their end, former bans with their lines, and how far each log was read. Fail2ban's files are only read. Importing twice changes nothing."
}

// imported is what `tocsin import fail2ban --json` prints.
type imported struct {
	Schema   string         `json:"schema"`
	From     string         `json:"from"`
	Folder   string         `json:"folder"`
	Database string         `json:"database"`
	Written  time.Time      `json:"written"`
	DryRun   bool           `json:"dry_run"`
	Running  *runningBeside `json:"running"`
	Jails    []importedJail `json:"jails"`
	Logs     []importedLog  `json:"logs"`
	Broken   int            `json:"broken"`
	Next     []string       `json:"next"`
	Back     []string       `json:"back"`
}

type runningBeside struct {
	PID int    `json:"pid"`
	How string `json:"how"`
}

type importedJail struct {
	Jail       string   `json:"jail"`
	Running    int      `json:"running"`
	Former     int      `json:"former"`
	Added      int      `json:"added"`
	NotBanned  []string `json:"not_banned"`
	NNotBanned int      `json:"not_banned_count"`
	LeftOut    string   `json:"left_out"`
}

type importedLog struct {
	Source string     `json:"source"`
	Path   string     `json:"path"`
	Offset int64      `json:"offset"`
	From   *time.Time `json:"from"`
	Why    string     `json:"why"`
	Kept   bool       `json:"kept"`
}

func (i *importFail2banCmd) Run(e *env) error {
	c, err := e.fail2banConfig(i.Fail2ban)
	if err != nil {
		return err
	}
	got, err := daemon.Import(e.ctx, daemon.ImportOptions{Config: c, Database: i.Database, DryRun: i.DryRun, Log: e.logger(false)})
	if err != nil {
		return err
	}
	if got.Beside != nil {
		e.warn(daemon.BesideText(got.Beside) + ": it goes on banning, and what it reads from now on is read here again. Stop it first: systemctl disable --now fail2ban")
	}
	out := wireImport(got, i.DryRun)
	return e.print(out, func(w io.Writer) { printImport(w, &out) })
}

// fail2banConfig is the configuration with the jails of a fail2ban: those of dir, or of the folder that it names, or of the
// usual one.
func (e *env) fail2banConfig(dir string) (*config.Config, error) {
	e.fail2ban = dir
	c, _, err := e.config()
	if err == nil && c.Fail2ban.Dir == "" {
		c.RunFail2ban(usualFail2ban)
	}
	return c, err
}

func wireImport(got *daemon.Imported, dry bool) imported {
	out := imported{
		Schema: "tocsin.import/1", From: "fail2ban", Folder: got.Dir, Database: got.Database, Written: got.Written.UTC(), DryRun: dry,
		Jails: []importedJail{}, Logs: []importedLog{}, Broken: got.Broken,
		Next: []string{"systemctl disable --now fail2ban", "tocsin run --fail2ban " + got.Dir},
		Back: []string{"systemctl disable --now tocsin-guard", "tocsin off", "systemctl enable --now fail2ban"},
	}
	if got.Beside != nil {
		out.Running = &runningBeside{got.Beside.PID, got.Beside.How}
	}
	for _, j := range got.Jails {
		out.Jails = append(out.Jails, importedJail{
			Jail: j.Name, Running: j.Running, Former: j.Former, Added: j.Added,
			NotBanned: append([]string{}, j.NotBanned...), NNotBanned: j.NNotBanned, LeftOut: j.WhyNotTaken,
		})
	}
	for _, l := range got.Logs {
		out.Logs = append(out.Logs, importedLog{Source: l.Source, Path: l.Path, Offset: l.Offset, From: api.Time(l.From), Why: l.Why, Kept: l.Kept})
	}
	return out
}

func printImport(w io.Writer, r *imported) {
	fmt.Fprintf(w, "%s, written last %s\n", tocsin.Printable(r.Database), r.Written.Local().Format(time.DateTime))
	t := table(w)
	fmt.Fprintln(t, "\nJAIL\tRUNNING\tFORMER\tNEW HERE")
	for _, j := range r.Jails {
		switch {
		case j.LeftOut != "":
			continue
		case r.DryRun:
			fmt.Fprintf(t, "%s\t%d\t%d\t-\n", tocsin.Printable(j.Jail), j.Running, j.Former)
		default:
			fmt.Fprintf(t, "%s\t%d\t%d\t%d\n", tocsin.Printable(j.Jail), j.Running, j.Former, j.Added)
		}
	}
	t.Flush()
	printLeftOut(w, r)
	if len(r.Logs) > 0 {
		fmt.Fprintln(t, "\nLOG\tREAD ON")
		for _, l := range r.Logs {
			fmt.Fprintf(t, "%s\t%s\n", tocsin.Printable(l.Path), readOnText(&l))
		}
		t.Flush()
	}
	if r.DryRun {
		fmt.Fprintln(w, "\nNothing was written (--dry-run).")
		return
	}
	fmt.Fprintf(w, "\nnext  %s\n      %s\n", r.Next[0], r.Next[1])
	fmt.Fprintf(w, "back  %s\n      %s\n      %s\n", r.Back[0], r.Back[1], r.Back[2])
	fmt.Fprintln(w, "      Nothing of fail2ban was changed: it goes on with the bans of its own database.")
}

// printLeftOut tells what was not taken over.
func printLeftOut(w io.Writer, r *imported) {
	for _, j := range r.Jails {
		name := tocsin.Printable(j.Jail)
		if j.LeftOut != "" {
			fmt.Fprintf(w, "left out of %s: %s: %s in %s\n", name, api.Count(j.Running+j.Former, "row", "rows"), j.LeftOut, r.Folder)
		}
		if j.NNotBanned == 0 {
			continue
		}
		fmt.Fprintf(w, "left out of %s: %s:", name, api.Count(j.NNotBanned, "id that is no address", "ids that are no addresses"))
		for _, id := range j.NotBanned {
			fmt.Fprintf(w, " %s", shortened(tocsin.Printable(id), 60))
		}
		if j.NNotBanned > len(j.NotBanned) {
			fmt.Fprint(w, " ...")
		}
		fmt.Fprintln(w)
	}
	if r.Broken > 0 {
		fmt.Fprintf(w, "left out: %s that could not be read\n", api.Count(r.Broken, "row", "rows"))
	}
}

// readOnText says from where a log is read on.
func readOnText(l *importedLog) string {
	s := fmt.Sprintf("at byte %d", l.Offset)
	if l.From != nil {
		s = "from " + l.From.Local().Format(time.DateTime)
	}
	if l.Why != "" {
		s += ": " + tocsin.Printable(l.Why)
	}
	if l.Kept {
		s += " (known here already)"
	}
	return s
}
