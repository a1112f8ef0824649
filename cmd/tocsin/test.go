package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"tocsin"
	"tocsin/internal/api"
	"tocsin/internal/fail2ban"
	"tocsin/internal/filter"
	"tocsin/internal/source"
)

type testCmd struct {
	Filter   string `arg:"" help:"A filter we ship, or one of --fail2ban, with its options: sshd, sshd[mode=aggressive]."`
	File     string `arg:"" optional:"" default:"-" help:"Log to read; - is standard input."`
	Line     string `help:"One line instead of a file."`
	Fail2ban string `name:"fail2ban" placeholder:"DIR" help:"Take the filter from this folder, such as /etc/fail2ban."`
	UseDNS   string `name:"usedns" enum:"raw,no" default:"raw" help:"With --fail2ban: what becomes of host names: raw finds them as they stand, no passes them over. Nothing is resolved."`
	Journal  bool   `help:"The lines are those of a journal and carry no date."`
	Now      string `placeholder:"RFC3339" help:"The present, for dates without a year (default: now)."`
	TZ       string `name:"tz" placeholder:"ZONE" help:"Time zone of dates without one, like Europe/Paris or CET-1CEST,M3.5.0,M10.5.0/3 (default: the machine's)."`
	Quiet    bool   `short:"q" help:"Only the sums."`
}

func (*testCmd) Help() string {
	return "Example: tocsin test sshd /var/log/auth.log\n\nWith --json, one object for each line of the file, in order."
}

// testedLine is what `tocsin test --json` prints for each line.
type testedLine struct {
	Schema  string         `json:"schema"`
	N       int            `json:"n"`
	Match   bool           `json:"match"`
	Counted bool           `json:"counted"` // false for the helper lines of a session
	Kind    string         `json:"kind"`
	ID      string         `json:"id"`
	Time    *time.Time     `json:"time"`
	User    string         `json:"user"`
	Groups  map[string]any `json:"groups"` // texts; "users" of a session is a list
	Pattern string         `json:"pattern"`
	Ban     *string        `json:"ban"` // null where the id cannot be banned
}

func (t *testCmd) Run(e *env) error {
	f, err := t.filter()
	if err != nil {
		return err
	}
	path, in := t.File, e.stdin
	if t.Line != "" {
		path, in = "-", strings.NewReader(t.Line)
	}
	out := bufio.NewWriter(e.stdout)
	defer out.Flush()
	show := showTested(out)
	switch {
	case e.flags.JSON:
		enc := json.NewEncoder(out)
		enc.SetEscapeHTML(false)
		show = func(l *testedLine, _ []byte) error { return enc.Encode(l) }
	case t.Quiet:
		show = func(*testedLine, []byte) error { return nil }
	}
	counts := map[filter.Kind]int{}
	n := 0
	var failed error
	if _, err := source.Old(e.ctx, []string{path}, in, func(r *tocsin.Record) {
		if failed != nil {
			return
		}
		n++
		res := f.Line(r)
		l := tested(n, res)
		if t.Fail2ban != "" && res.Failure != nil {
			l.Groups = f.Groups()
		}
		counts[res.Kind]++
		failed = show(&l, r.Text)
	}); err != nil {
		return err
	}
	if failed != nil || e.flags.JSON {
		return failed
	}
	fmt.Fprintf(out, "\n%s: %s, %s, %s, %d ignored, %d with an id that is no address, %d of no interest\n", api.Count(n, "line", "lines"),
		api.Count(counts[filter.Failed], "failure", "failures"), api.Count(counts[filter.LoggedIn], "login", "logins"), api.Count(counts[filter.Helper], "helper line", "helper lines"), counts[filter.Ignored], counts[filter.BadID], counts[filter.Nothing])
	return nil
}

func (t *testCmd) filter() (*filter.Filter, error) {
	o := filter.Options{Location: time.Local, Now: time.Now}
	if t.Now != "" {
		now, err := time.Parse(time.RFC3339, t.Now)
		if err != nil {
			return nil, api.Errorf(api.ExitUsage, "write it like 2026-11-22T14:00:00Z", fmt.Sprintf("--now %q is no time", t.Now))
		}
		o.Now = func() time.Time { return now }
	}
	if t.TZ != "" {
		loc, err := zone(t.TZ)
		if err != nil {
			return nil, api.Errorf(api.ExitUsage, "write it like Europe/Paris", fmt.Sprintf("--tz %q is no time zone", t.TZ))
		}
		o.Location = loc
	}
	def, err := t.definition()
	if err != nil {
		return nil, err
	}
	o.Groups = t.Fail2ban != ""
	o.NoDate = t.Journal || def.Logtype == "journal"
	f, err := filter.New(def, o)
	if err != nil && t.Fail2ban != "" {
		return nil, api.Errorf(api.ExitFindings, "", err.Error())
	}
	return f, err
}

func (t *testCmd) definition() (fail2ban.Filter, error) {
	if t.Fail2ban == "" {
		def, err := filter.Load(t.Filter)
		if err != nil {
			return def, api.Errorf(api.ExitUsage, "filters: "+strings.Join(filter.Shipped(), ", "), err.Error())
		}
		return def, nil
	}
	name, options, err := fail2ban.ParseSpec(t.Filter)
	if err != nil {
		return fail2ban.Filter{}, api.Errorf(api.ExitUsage, `write it like sshd[mode=aggressive]`, err.Error())
	}
	logtype := "file"
	if t.Journal {
		logtype = "journal"
	}
	dir := filepath.Join(t.Fail2ban, "filter.d")
	def, err := fail2ban.LoadFilter(os.DirFS(dir), name, options, logtype)
	if err != nil {
		return def, api.Errorf(api.ExitFindings, "", fmt.Sprintf("filter %s in %s: %v", name, dir, err))
	}
	def.Usedns = t.UseDNS
	return def, nil
}

// zone finds a time zone by its name in the database, or makes the one that a TZ variable describes (POSIX 8.3).
func zone(name string) (*time.Location, error) {
	loc, err := time.LoadLocation(name)
	if err == nil || strings.Contains(name, "\n") {
		return loc, err
	}
	// A file of the database (RFC 8536) with one type, which its last line, that very description, stands over.
	const head = "TZif2\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x04"
	const body = "\x00\x00\x00\x00\x00\x00" + noZone + "\x00"
	loc, bad := time.LoadLocationFromTZData(name, []byte(head+body+head+body+"\n"+name+"\n"))
	if bad != nil {
		return nil, err
	}
	if is, _ := time.Now().In(loc).Zone(); is == noZone {
		return nil, err
	}
	return loc, nil
}

// noZone is the name of the zone that holds where a description cannot be read.
const noZone = "???"

func tested(n int, r filter.Result) testedLine {
	l := testedLine{Schema: "tocsin.test/1", N: n, Kind: r.Kind.String(), Groups: map[string]any{}}
	l.Match = r.Kind != filter.Nothing && r.Kind != filter.Ignored
	l.Counted = r.Kind == filter.Failed || r.Kind == filter.BadID
	if r.Rule >= 0 && l.Match {
		l.Pattern = fmt.Sprintf("failregex %d", r.Rule+1)
	}
	switch {
	case r.Failure != nil:
		f := r.Failure
		l.ID, l.User, l.Time = f.ID, f.User, api.Time(f.At)
		for _, field := range f.Fields {
			l.Groups[field.Name] = field.Value
		}
		if f.Prefix.IsValid() {
			p := f.Prefix.String()
			l.Ban = &p
		}
	case r.Login != nil:
		l.ID, l.User, l.Time = r.Login.Addr.String(), r.Login.User, api.Time(r.Login.At)
	}
	return l
}

// showTested prints a line as a person reads it: the verdict, then the line.
func showTested(w io.Writer) func(*testedLine, []byte) error {
	return func(l *testedLine, text []byte) error {
		verdict := l.Kind
		if l.ID != "" {
			verdict += " " + tocsin.Printable(l.ID)
		}
		if l.User != "" {
			verdict += " user " + tocsin.Printable(l.User)
		}
		if l.Pattern != "" {
			verdict += " (" + l.Pattern + ")"
		}
		_, err := fmt.Fprintf(w, "%-10s %s\n           %s\n", fmt.Sprintf("line %d:", l.N), verdict, tocsin.Printable(string(text)))
		return err
	}
}
