package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"tocsin"
	"tocsin/internal/abuseipdb"
	"tocsin/internal/api"
	"tocsin/internal/daemon"
)

// reputationCmd is about other people's lists and what they are told.
type reputationCmd struct {
	Show   reputationShowCmd   `cmd:"" default:"withargs" help:"Lists in force, and what became of the reports."`
	Key    reputationKeyCmd    `cmd:"" help:"Store the API key, from standard input."`
	Check  reputationCheckCmd  `cmd:"" help:"Ask the service about an address."`
	Report reputationReportCmd `cmd:"" help:"Report an address by hand."`
	Forget reputationForgetCmd `cmd:"" help:"Take back what was reported about an address."`
	Accept reputationAcceptCmd `cmd:"" help:"Use a list that was refused."`
}

func (*reputationCmd) Help() string {
	return "Example: tocsin reputation\n\nLists and reports are switched on in the configuration; nothing leaves this machine before. tocsin explain share"
}

type reputationShowCmd struct {
	DryRun bool `name:"dry-run" help:"Show what would be reported of the bans of the last 24 hours, and where to; send nothing."`
}

func (*reputationShowCmd) Help() string { return "Example: tocsin reputation --dry-run" }

// reputation is what `tocsin reputation --json` prints: what the guard and the watch process each know.
type reputation struct {
	Schema string          `json:"schema"`
	Guard  *api.ListStates `json:"guard"` // null: no guard answers
	Watch  *api.Reputation `json:"watch"` // null: no watch process answers
}

func (k *reputationShowCmd) Run(e *env, guard *api.Client) error {
	if k.DryRun {
		return dryRun(e, guard)
	}
	out := reputation{Schema: "tocsin.reputation-status/1"}
	lists, noGuard := guard.Lists(e.ctx)
	if noGuard == nil {
		out.Guard = &lists
	}
	watch, err := e.watch()
	if err != nil {
		return err
	}
	r, noWatch := watch.Reputation(e.ctx)
	if noWatch == nil {
		out.Watch = &r
	}
	if noGuard != nil && noWatch != nil {
		return noGuard
	}
	if err := e.print(out, func(w io.Writer) { printReputation(w, &out, time.Now()) }); err != nil {
		return err
	}
	if noGuard != nil {
		e.warn(noGuard.Error())
	}
	if noWatch != nil && (noGuard != nil || len(lists.Lists) > 0) {
		e.warn(noWatch.Error())
	}
	return nil
}

// watch makes a client of the watch process.
func (e *env) watch() (*api.WatchClient, error) {
	at, err := e.place()
	if err != nil {
		return nil, err
	}
	return api.NewWatchClient(daemon.WatchSocket(at.state)), nil
}

func printReputation(w io.Writer, r *reputation, now time.Time) {
	fetched := map[string]*api.FetchedList{}
	if r.Watch != nil {
		for i := range r.Watch.Lists {
			fetched[r.Watch.Lists[i].Name] = &r.Watch.Lists[i]
		}
	}
	if r.Guard != nil && len(r.Guard.Lists) == 0 {
		fmt.Fprintln(w, "no list is configured")
	}
	if r.Guard != nil && len(r.Guard.Lists) > 0 {
		t := table(w)
		fmt.Fprintln(t, "LIST\tIN FORCE\tAGE\tPORTS\tDROPPED\tNEXT")
		for _, l := range r.Guard.Lists {
			entries, age, next := "no", "-", "-"
			if l.InForce {
				entries = strconv.Itoa(l.Entries)
			}
			if at := cmp.Or(l.Generated, l.Fetched); at != nil {
				age = roughly(now.Sub(*at))
			}
			if f := fetched[l.Name]; f != nil && f.Next != nil {
				next = clock(*f.Next, now)
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", l.Name, entries, age, portsCell(l.Ports, "drop"), api.Count(int(l.Packets), "packet", "packets"), next)
		}
		t.Flush()
		for _, l := range r.Guard.Lists {
			printListNotes(w, &l, fetched[l.Name], now)
		}
	}
	if r.Watch != nil {
		printReports(w, r.Watch, now)
	}
}

// oldAge is how long ago the last fetch of a list may be before it is mentioned.
const oldAge = 72 * time.Hour

// printListNotes says what is to be known of a list beside its figures.
func printListNotes(w io.Writer, l *api.ListState, f *api.FetchedList, now time.Time) {
	say := func(format string, args ...any) {
		fmt.Fprintf(w, "  %s: %s\n", l.Name, tocsin.Printable(fmt.Sprintf(format, args...)))
	}
	if l.Members > 0 {
		say("%s, and let through", api.Count(l.Members, "address of your members is in it", "addresses of your members are in it"))
	}
	if l.Allowed > 0 {
		say("%s addresses in it, which are let through", api.Count(l.Allowed, "entry of the allow list has", "entries of the allow list have"))
	}
	switch {
	case l.Problem != "":
		say("not in force as it should be: %s", l.Problem)
	case l.Dropped:
		say("taken out of force by hand; it comes back when it is delivered again")
	case l.Fetched == nil:
		say("has not come yet")
	case now.Sub(*l.Fetched) > oldAge:
		say("fetched %s; it stays in force until a newer one comes", when(*l.Fetched, now))
	}
	if f == nil {
		return
	}
	if len(f.Refused) > 0 {
		say("a newer one is not used: %s", strings.Join(f.Refused, "; "))
		say("to use it all the same: tocsin reputation accept %s", l.Name)
	} else if f.Error != "" {
		say("not fetched, %s in a row: %s", api.Count(f.Failures, "time", "times"), f.Error)
	}
}

func printReports(w io.Writer, r *api.Reputation, now time.Time) {
	s := &r.Reports
	if !s.Enabled {
		fmt.Fprintln(w, "\nreports are off: nothing is told to anybody")
		return
	}
	fmt.Fprintf(w, "\nreports to %s: %d sent, %d waiting, %d held\n", tocsin.Printable(r.Service), s.Sent, s.Queued, s.Held)
	for _, c := range []struct {
		n    int64
		text string
	}{
		{s.Doubles, "the service had already"}, {s.Refused, "refused by the service"}, {s.Unknown, "without an answer, not sent again"},
		{s.GivenUp, "given up after 24 hours"}, {s.Withdrawn, "not sent, for the ban was lifted or somebody logged in"},
	} {
		if c.n > 0 {
			fmt.Fprintf(w, "  %d %s\n", c.n, c.text)
		}
	}
	for _, why := range slices.Sorted(maps.Keys(s.LeftOut)) {
		fmt.Fprintf(w, "  %s not reported: %s\n", api.Count(int(s.LeftOut[why]), "ban", "bans"), why)
	}
	if s.Quota != nil && s.Limit != nil {
		fmt.Fprintf(w, "  %d of %d left today\n", *s.Quota, *s.Limit)
	}
	if s.RestsUntil != nil {
		fmt.Fprintf(w, "  resting until %s\n", clock(*s.RestsUntil, now))
	}
	if s.Stopped != "" {
		fmt.Fprintf(w, "  stopped: %s\n", s.Stopped)
	}
}

// dryRun shows what would be sent, word for word.
func dryRun(e *env, guard *api.Client) error {
	c, _, err := e.config()
	if err != nil {
		return err
	}
	d, err := daemon.DryRun(e.ctx, guard, c)
	if err != nil {
		return err
	}
	return e.print(d, func(w io.Writer) {
		fmt.Fprintf(w, "%s\n\n", daemon.SharingText(c))
		for _, r := range d.Reports {
			fmt.Fprintf(w, "POST %sreport  ip=%s categories=%s timestamp=%s comment=%q\n", d.URL, r.Addr, categoriesText(r.Categories), r.At.Format(time.RFC3339), r.Comment)
		}
		fmt.Fprintf(w, "%s of the last 24 hours would be reported\n", api.Count(len(d.Reports), "ban", "bans"))
		for _, why := range slices.Sorted(maps.Keys(d.LeftOut)) {
			fmt.Fprintf(w, "  %s not: %s\n", api.Count(int(d.LeftOut[why]), "ban", "bans"), why)
		}
	})
}

func categoriesText(ids []int) string {
	var all []string
	for _, id := range ids {
		all = append(all, strconv.Itoa(id))
	}
	return strings.Join(all, ",")
}

type reputationKeyCmd struct {
	Remove bool `help:"Remove the stored key."`
}

func (*reputationKeyCmd) Help() string {
	return "Example: tocsin reputation key < key.txt\n\nAt a terminal it asks for the key and does not show it. It is kept in a file that only the watch process can read, and never taken from the command line, which everybody can see."
}

func (k *reputationKeyCmd) Run(e *env) error {
	at, err := e.place()
	if err != nil {
		return err
	}
	if k.Remove {
		path, err := daemon.ForgetKey(at.state)
		return e.change(api.Change{Schema: api.SchemaChange, Changed: []string{path}, Text: "no key is stored any more"}, err)
	}
	text, err := readSecret(e)
	if err != nil {
		return err
	}
	path, err := daemon.StoreKey(at.state, text)
	return e.change(api.Change{Schema: api.SchemaChange, Changed: []string{path}, Text: "the key is stored in " + path, Undo: "tocsin reputation key --remove"}, err)
}

// maxSecret is more than any key has.
const maxSecret = 4096

// readSecret reads the key, without showing it at a terminal.
func readSecret(e *env) (string, error) {
	if f, ok := e.stdin.(*os.File); ok {
		if old, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS); err == nil {
			quiet := *old
			quiet.Lflag &^= unix.ECHO
			if err := unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, &quiet); err != nil {
				return "", fmt.Errorf("hide what is typed: %w", err)
			}
			fmt.Fprint(e.stderr, "API key (not shown): ")
			defer func() {
				_ = unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, old)
				fmt.Fprintln(e.stderr)
			}()
			return readLine(f)
		}
	}
	text, err := io.ReadAll(io.LimitReader(e.stdin, maxSecret+1))
	if err != nil {
		return "", fmt.Errorf("read the key: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

// readLine reads one line from a terminal, which hands over no more.
func readLine(r io.Reader) (string, error) {
	buf := make([]byte, maxSecret)
	n, err := r.Read(buf)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read the key: %w", err)
	}
	return strings.TrimSpace(string(buf[:n])), nil
}

type reputationCheckCmd struct {
	Addr string `arg:"" name:"address" help:"IP address."`
}

func (*reputationCheckCmd) Help() string {
	return "Example: tocsin reputation check 192.0.2.7\n\nThe service learns which address is of interest here. Its answer is used again for 24 hours."
}

func (k *reputationCheckCmd) Run(e *env) error {
	addr, err := addrArg(k.Addr)
	if err != nil {
		return err
	}
	watch, err := e.watch()
	if err != nil {
		return err
	}
	c, err := watch.Check(e.ctx, addr)
	if err != nil {
		return err
	}
	return e.print(c, func(w io.Writer) { printCheck(w, &c, time.Now()) })
}

func printCheck(w io.Writer, c *api.Check, now time.Time) {
	fmt.Fprintf(w, "%s: score %d of 100 at %s\n", c.Addr, c.Score, tocsin.Printable(c.Service))
	fmt.Fprintf(w, "  %s by %s in 90 days", api.Count(c.Reports, "report", "reports"), api.Count(c.Users, "reporter", "reporters"))
	if c.Last != nil {
		fmt.Fprintf(w, ", the last %s", when(*c.Last, now))
	}
	fmt.Fprintln(w)
	var about []string
	for _, s := range []string{c.Country, c.Usage, c.Provider, c.Domain} {
		if s != "" {
			about = append(about, tocsin.Printable(s))
		}
	}
	if c.Tor {
		about = append(about, "a Tor exit")
	}
	if len(about) > 0 {
		fmt.Fprintf(w, "  %s\n", strings.Join(about, ", "))
	}
	if c.Cached {
		fmt.Fprintf(w, "  asked %s\n", when(c.Asked, now))
	}
}

type reputationReportCmd struct {
	Addr     string `arg:"" name:"address" help:"IP address."`
	Category string `default:"15" help:"What it did, as AbuseIPDB's numbers: 18,22 is guessing passwords over ssh, 15 any intrusion."`
}

func (*reputationReportCmd) Help() string {
	return "Example: tocsin reputation report 192.0.2.7 --category 18,22\n\nIt says \"reported by hand by an operator\" and nothing else."
}

func (k *reputationReportCmd) Run(e *env) error {
	addr, err := addrArg(k.Addr)
	if err != nil {
		return err
	}
	categories, err := abuseipdb.ParseCategories(k.Category)
	if err != nil {
		return api.Errorf(api.ExitUsage, "write them like --category 18,22", err.Error())
	}
	watch, err := e.watch()
	if err != nil {
		return err
	}
	return e.change(watch.Report(e.ctx, api.AddrRequest{Addr: addr.String(), Categories: categories, By: whoami()}))
}

type reputationForgetCmd struct {
	Addr string `arg:"" name:"address" help:"IP address."`
}

func (*reputationForgetCmd) Help() string {
	return "Example: tocsin reputation forget 192.0.2.7\n\nA report that waits is not sent, and the service is asked to delete what it was told before. It needs no watch process."
}

func (k *reputationForgetCmd) Run(e *env) error {
	addr, err := addrArg(k.Addr)
	if err != nil {
		return err
	}
	at, err := e.place()
	if err != nil {
		return err
	}
	path := daemon.WatchSocket(at.state)
	if conn, err := net.Dial("unix", path); err == nil {
		_ = conn.Close()
	} else if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED) {
		return e.change(k.alone(e, addr))
	}
	return e.change(api.NewWatchClient(path).Forget(e.ctx, api.AddrRequest{Addr: addr.String(), By: whoami()}))
}

// alone does without a watch process, which would have to be started first: whoever wants something taken back must not
// have to begin to share again.
func (k *reputationForgetCmd) alone(e *env, addr netip.Addr) (api.Change, error) {
	c, _, err := e.config()
	if err != nil {
		return api.Change{}, err
	}
	return daemon.ForgetAlone(e.ctx, daemon.WatchOptions{Config: c, Version: version(), Log: slog.New(slog.DiscardHandler)}, addr)
}

type reputationAcceptCmd struct {
	List string `arg:"" help:"Name of the list."`
}

func (*reputationAcceptCmd) Help() string { return "Example: tocsin reputation accept abuseipdb" }

func (k *reputationAcceptCmd) Run(e *env) error {
	watch, err := e.watch()
	if err != nil {
		return err
	}
	return e.change(watch.Accept(e.ctx, k.List))
}

// addrArg is a single address of the command line.
func addrArg(s string) (netip.Addr, error) {
	p, err := prefixArg(s)
	if err != nil {
		return netip.Addr{}, err
	}
	if !p.IsSingleIP() {
		return netip.Addr{}, api.Errorf(api.ExitUsage, "name one address of it", p.String()+" is a whole network")
	}
	return p.Addr(), nil
}
