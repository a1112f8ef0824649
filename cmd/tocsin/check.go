package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"tocsin"
	"tocsin/internal/api"
	"tocsin/internal/config"
	"tocsin/internal/daemon"
)

type checkCmd struct {
	File     string `arg:"" optional:"" help:"Configuration to check (default: the one that the guard reads)."`
	Fail2ban string `name:"fail2ban" placeholder:"DIR" help:"Check the jails of fail2ban's configuration in this folder, such as /etc/fail2ban."`
}

func (*checkCmd) Help() string {
	return "Example: tocsin check && tocsin reload\n\nWith --fail2ban every jail is listed with what was understood and, for each thing that was not, its place and what will happen instead. The exit code is 78 if a jail cannot run."
}

// checked is what `tocsin check --json` prints.
type checked struct {
	Schema   string           `json:"schema"`
	File     string           `json:"file"` // "" for the built-in configuration
	Jails    []checkedJail    `json:"jails"`
	Reports  []string         `json:"reports"`  // what is told to others, in words; none while reports are off
	Fail2ban *checkedFail2ban `json:"fail2ban"` // null without --fail2ban
	Munin    *checkedMunin    `json:"munin"`    // null without munin_conf
	Warnings *checkedWarnings `json:"warnings"` // null without contacts and rules
}

type checkedWarnings struct {
	Rules    int              `json:"rules"` // of the configuration
	Contacts []checkedContact `json:"contacts"`
	Problems []muninProblem   `json:"problems"`
}

type checkedContact struct {
	Name string   `json:"name"`
	By   []string `json:"by"`
}

type checkedMunin struct {
	File     string         `json:"file"`
	Nodes    []string       `json:"nodes"`    // that are asked
	Virtual  []string       `json:"virtual"`  // services that are drawn of others
	Contacts []string       `json:"contacts"` // who have a command
	Problems []muninProblem `json:"problems"`
}

type muninProblem struct {
	File string `json:"file"`
	Line int    `json:"line"` // 0: of the file as a whole
	Text string `json:"text"`
}

type checkedFail2ban struct {
	Dir      string           `json:"dir"`
	Disabled []string         `json:"disabled"` // jails that are not enabled
	Problems []checkedProblem `json:"problems"` // those of no single jail
	Log      string           `json:"log"`      // written in fail2ban's format; "": none is
}

type checkedJail struct {
	Name     string           `json:"name"`
	Filter   string           `json:"filter"`
	Rules    int              `json:"rules"`
	Sources  []string         `json:"sources"`
	Ports    []uint16         `json:"ports"` // empty: all
	MaxRetry int              `json:"maxretry"`
	FindTime string           `json:"findtime"`
	BanTime  string           `json:"bantime"`
	Found    []string         `json:"found"`     // how ports and sources were found
	Waits    []string         `json:"waits_for"` // those of sources that are not there yet
	Proto    string           `json:"proto"`
	Verdict  string           `json:"verdict"` // pass: nobody is kept out, only actions are told
	Longest  string           `json:"longest"` // of bans that grow, "" if they do not
	Native   []string         `json:"native"`  // actions that our own firewall does
	Actions  []string         `json:"actions"` // actions that are run as they are
	Errors   []string         `json:"errors"`  // why it cannot run
	Problems []checkedProblem `json:"problems"`
}

type checkedProblem struct {
	File    string `json:"file"`
	Line    int    `json:"line"` // 0: of the file as a whole
	Text    string `json:"text"`
	Instead string `json:"instead"` // what happens instead
}

func (k *checkCmd) Run(e *env) error {
	if k.File != "" {
		e.flags.Config = k.File
	}
	e.fail2ban = k.Fail2ban
	c, path, err := e.config()
	if err != nil {
		return err
	}
	plan, err := daemon.Check(e.ctx, c)
	if err != nil {
		return err
	}
	out := wirePlan(path, plan)
	out.Reports = reportsText(c, out.Jails)
	out.Munin, out.Warnings = wireMunin(daemon.CheckMunin(c)), wireWarnings(daemon.CheckWarnings(c))
	if err := e.print(out, func(w io.Writer) { printChecked(w, &out) }); err != nil {
		return err
	}
	for _, j := range plan.Jails {
		if len(j.Errors) > 0 {
			return exitError(api.ExitFindings)
		}
	}
	return nil
}

func wirePlan(path string, p *daemon.Plan) checked {
	out := checked{Schema: "tocsin.check/1", File: path, Jails: []checkedJail{}}
	for i := range p.Jails {
		out.Jails = append(out.Jails, wireJailPlan(&p.Jails[i]))
	}
	if p.Dir != "" {
		out.Fail2ban = &checkedFail2ban{Dir: p.Dir, Disabled: orEmpty(p.Disabled), Problems: wireProblems(p.Problems), Log: p.Log}
	}
	return out
}

func wireMunin(p *daemon.MuninPlan) *checkedMunin {
	if p == nil {
		return nil
	}
	out := &checkedMunin{File: p.File, Nodes: orEmpty(p.Nodes), Virtual: orEmpty(p.Virtual), Contacts: orEmpty(p.Contacts), Problems: []muninProblem{}}
	for _, problem := range p.Problems {
		out.Problems = append(out.Problems, muninProblem{problem.File, problem.Line, problem.Msg})
	}
	return out
}

func wireWarnings(p *daemon.WarningsPlan) *checkedWarnings {
	if p == nil {
		return nil
	}
	out := &checkedWarnings{Rules: p.Rules, Contacts: []checkedContact{}, Problems: []muninProblem{}}
	for _, c := range p.Contacts {
		out.Contacts = append(out.Contacts, checkedContact{c.Name, orEmpty(c.By)})
	}
	for _, problem := range p.Problems {
		out.Problems = append(out.Problems, muninProblem{problem.File, problem.Line, problem.Msg})
	}
	return out
}

// reportsText says what is told to others, and what is asked for in vain. Nothing is said while reports are off.
func reportsText(c *config.Config, jails []checkedJail) []string {
	if !c.Report.Enabled {
		return []string{}
	}
	all := []string{daemon.SharingText(c)}
	for _, name := range slices.Sorted(maps.Keys(c.Report.Jails)) {
		if !slices.ContainsFunc(jails, func(j checkedJail) bool { return j.Name == name }) {
			all = append(all, fmt.Sprintf("there is no jail %q: nothing of it is reported", name))
		}
	}
	return all
}

// years is from where on the length of a ban is told in whole years.
const years = 2 * 365 * 24 * time.Hour

func wireJailPlan(p *daemon.JailPlan) checkedJail {
	j := checkedJail{
		Name: p.Jail, Filter: p.Filter, Rules: p.Rules, Sources: orEmpty(p.Sources), Waits: orEmpty(p.Waits), Ports: orEmpty(p.Ports), MaxRetry: p.MaxRetry,
		Found: orEmpty(p.Found), Native: orEmpty(p.Native), Actions: orEmpty(p.Actions), Errors: orEmpty(p.Errors), Problems: wireProblems(p.Problems),
	}
	if len(p.Errors) > 0 {
		return j
	}
	j.Proto, j.Verdict = p.Proto.String(), p.Verdict.String()
	j.FindTime, j.BanTime = config.FormatDuration(p.FindTime), config.FormatDuration(p.BanTime)
	if p.Longest > 0 {
		longest := p.Longest
		if longest > years {
			longest = longest.Truncate(365 * 24 * time.Hour) // nobody counts the hours of 39 years
		}
		j.Longest = config.FormatDuration(longest)
	}
	return j
}

func wireProblems(list []daemon.Problem) []checkedProblem {
	out := []checkedProblem{}
	for _, p := range list {
		out = append(out, checkedProblem(p))
	}
	return out
}

// orEmpty makes a list that JSON writes as one.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func printChecked(w io.Writer, c *checked) {
	broken := 0
	for i := range c.Jails {
		if len(c.Jails[i].Errors) > 0 {
			broken++
		}
	}
	file := c.File
	if file == "" {
		file = "no configuration file: the built-in one"
	}
	if c.Fail2ban == nil {
		fmt.Fprintf(w, "%s: no mistakes\n", file)
	} else {
		printFail2ban(w, c, broken)
	}
	for i := range c.Jails {
		printCheckedJail(w, &c.Jails[i])
	}
	if len(c.Reports) > 0 {
		fmt.Fprintln(w, "\nreports")
		for _, text := range c.Reports {
			fmt.Fprintf(w, "  %s\n", tocsin.Printable(text))
		}
	}
	if c.Munin != nil {
		printMunin(w, c.Munin)
	}
	if c.Warnings != nil {
		printWarnings(w, c.Warnings)
	}
}

func printWarnings(w io.Writer, c *checkedWarnings) {
	fmt.Fprintf(w, "\nwarnings: %s, %s\n", api.Count(c.Rules, "rule of your own", "rules of your own"), api.Count(len(c.Contacts), "contact", "contacts"))
	for _, one := range c.Contacts {
		fmt.Fprintf(w, "  tells  %s by %s\n", tocsin.Printable(one.Name), tocsin.Printable(strings.Join(one.By, "; ")))
	}
	printNotes(w, c.Problems)
}

func printMunin(w io.Writer, m *checkedMunin) {
	fmt.Fprintf(w, "\n%s: %s, %s drawn of others\n", tocsin.Printable(m.File), api.Count(len(m.Nodes), "node", "nodes"), api.Count(len(m.Virtual), "service", "services"))
	for _, n := range m.Nodes {
		fmt.Fprintf(w, "  asks   %s\n", tocsin.Printable(n))
	}
	for _, v := range m.Virtual {
		fmt.Fprintf(w, "  draws  %s\n", tocsin.Printable(v))
	}
	printNotes(w, m.Problems)
}

func printNotes(w io.Writer, problems []muninProblem) {
	for _, p := range problems {
		place := ""
		if p.Line > 0 {
			place = fmt.Sprintf("%s:%d: ", p.File, p.Line)
		}
		fmt.Fprintf(w, "  note   %s\n", tocsin.Printable(place+p.Text))
	}
}

func printFail2ban(w io.Writer, c *checked, broken int) {
	f := c.Fail2ban
	fmt.Fprintf(w, "%s: %s", f.Dir, api.Count(len(c.Jails)-broken, "jail runs", "jails run"))
	if broken > 0 {
		fmt.Fprintf(w, ", %d cannot", broken)
	}
	fmt.Fprintf(w, ", %d not enabled\n", len(f.Disabled))
	if f.Log != "" {
		fmt.Fprintf(w, "  log    %s is written in fail2ban's format\n", tocsin.Printable(f.Log))
	}
	printProblems(w, f.Problems)
}

func printCheckedJail(w io.Writer, j *checkedJail) {
	if len(j.Errors) > 0 {
		fmt.Fprintf(w, "\njail %s: cannot run\n", tocsin.Printable(j.Name))
		for _, text := range j.Errors {
			fmt.Fprintf(w, "  error  %s\n", tocsin.Printable(text))
		}
		printProblems(w, j.Problems)
		return
	}
	fmt.Fprintf(w, "\njail %s: filter %s, %s\n", tocsin.Printable(j.Name), tocsin.Printable(j.Filter), api.Count(j.Rules, "rule", "rules"))
	for _, s := range j.Sources {
		waits := ""
		if slices.Contains(j.Waits, s) {
			waits = " (waits for it)"
		}
		fmt.Fprintf(w, "  reads  %s%s\n", tocsin.Printable(s), waits)
	}
	fmt.Fprintf(w, "  bans   %s\n", banPlan(j))
	if len(j.Actions) > 0 {
		fmt.Fprintf(w, "  runs   %s\n", tocsin.Printable(strings.Join(j.Actions, ", ")))
	}
	for _, f := range j.Found {
		fmt.Fprintf(w, "  found  %s\n", tocsin.Printable(f))
	}
	printProblems(w, j.Problems)
}

// banPlan says in a sentence when a jail bans, and what.
func banPlan(j *checkedJail) string {
	length := "for " + j.BanTime
	if j.BanTime == config.FormatDuration(config.Forever) {
		length = "without end"
	}
	if j.Longest != "" {
		length += ", growing up to " + j.Longest + ","
	}
	when := fmt.Sprintf("%s after %s within %s", length, api.Count(j.MaxRetry, "failure", "failures"), j.FindTime)
	when += ", " + api.WhereText(j.Ports, j.Verdict)
	var how []string
	if len(j.Ports) > 0 && j.Proto != tocsin.TCP.String() {
		how = append(how, j.Proto)
	}
	if j.Verdict == tocsin.Reject.String() {
		how = append(how, j.Verdict)
	}
	if len(how) > 0 {
		when += " (" + strings.Join(how, ", ") + ")"
	}
	return when
}

// printProblems tells what differs from what the files say. What happens instead has a line of its own.
func printProblems(w io.Writer, problems []checkedProblem) {
	for _, p := range problems {
		place := p.File
		if p.Line > 0 {
			place += fmt.Sprintf(":%d", p.Line)
		}
		fmt.Fprintf(w, "  note   %s: %s\n         instead: %s\n", tocsin.Printable(place), tocsin.Printable(p.Text), tocsin.Printable(p.Instead))
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
