package main

import (
	"cmp"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"text/tabwriter"
	"time"

	"tocsin"
	"tocsin/internal/api"
)

type statusCmd struct{}

func (*statusCmd) Help() string { return "Example: tocsin status --json | jq .bans_now" }

func (*statusCmd) Run(e *env, guard *api.Client) error {
	s, err := guard.Status(e.ctx)
	if err != nil {
		return err
	}
	return e.print(s, func(w io.Writer) { printStatus(w, &s, time.Now()) })
}

func printStatus(w io.Writer, s *api.Status, now time.Time) {
	mode := s.Mode
	if s.ModeReason != "" {
		mode += " (" + tocsin.Printable(s.ModeReason) + ")"
	}
	fmt.Fprintf(w, "tocsin %s is %s, since %s\n", s.Version, mode, when(s.Started, now))
	fmt.Fprintf(w, "%d banned now, %d in the last 24 hours\n", s.BansNow, s.BansDay)
	t := table(w)
	fmt.Fprintln(t, "\nJAIL\tPORTS\tRULE\tBANNED\tFAILURES\tLOGINS")
	for _, j := range s.Jails {
		fmt.Fprintf(t, "%s\t%s\t%d in %s: %s\t%d\t%d\t%d\n", tocsin.Printable(j.Name), portsCell(j.Ports, j.Verdict), j.MaxRetry, j.FindTime, j.BanTime, j.BansNow, j.Failures, j.Logins)
	}
	fmt.Fprintln(t, "\nSOURCE\tLINES\tLAST")
	for _, src := range s.Sources {
		last := "nothing yet"
		if src.LastLine != nil {
			last = when(*src.LastLine, now)
		}
		if src.Error != "" {
			last = tocsin.Printable(src.Error)
		}
		fmt.Fprintf(t, "%s\t%d\t%s\n", tocsin.Printable(src.Name), src.Lines, last)
	}
	t.Flush()
	printFindings(w, s.Warnings)
}

type bansCmd struct {
	All    bool   `help:"Also those that are over."`
	Since  string `placeholder:"24h" help:"Only those that began within this time."`
	Jail   string `help:"Only those of this jail."`
	Limit  int    `placeholder:"N" help:"At most so many, the newest first (default: 1000, with --detail 100)."`
	Detail bool   `help:"With the log lines."`
}

func (*bansCmd) Help() string { return "Example: tocsin bans --all --since 24h" }

func (b *bansCmd) Run(e *env, guard *api.Client) error {
	if b.Limit < 0 {
		return api.Errorf(api.ExitUsage, "leave it out for as many as usual", fmt.Sprintf("--limit %d is less than nothing", b.Limit))
	}
	q := api.BansQuery{Jail: b.Jail, All: b.All, Limit: b.Limit, Detail: b.Detail}
	if b.Since != "" {
		d, err := durationArg("--since", b.Since)
		if err != nil {
			return err
		}
		q.Since = d
	}
	list, err := guard.Bans(e.ctx, q)
	if err != nil {
		return err
	}
	return e.print(list, func(w io.Writer) { b.print(w, &list, time.Now()) })
}

func (b *bansCmd) print(w io.Writer, list *api.Bans, now time.Time) {
	switch {
	case len(list.Bans) > 0:
		printBans(w, list, b.Detail, now)
	case b.All || b.Since != "" || b.Jail != "":
		fmt.Fprintln(w, "there is no such ban")
	default:
		fmt.Fprintln(w, "nobody is banned")
	}
}

func printBans(w io.Writer, list *api.Bans, detail bool, now time.Time) {
	t := table(w)
	fmt.Fprintln(t, "ADDRESS\tJAIL\tSINCE\tUNTIL\tPORTS\tREASON")
	for i := range list.Bans {
		b := &list.Bans[i]
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", tocsin.Printable(b.ID), b.Jail, clock(b.At, now), until(b, now), portsCell(b.Ports, b.Verdict), tocsin.Printable(b.Reason))
		if detail {
			for _, e := range b.Evidence {
				fmt.Fprintf(t, "  %s\n", e.Text)
			}
		}
	}
	t.Flush()
	if list.More {
		fmt.Fprintln(w, "there are older ones: raise --limit, or choose with --since and --jail")
	}
	if list.Mode != api.ModeEnforcing {
		fmt.Fprintf(w, "the guard is %s: nobody is really kept out\n", list.Mode)
	}
}

type whyCmd struct {
	Addr string `arg:"" name:"address" help:"IP address; \"me\" is where you are connected from."`
}

func (*whyCmd) Help() string { return "Example: tocsin why 192.0.2.7" }

func (y *whyCmd) Run(e *env, guard *api.Client) error {
	p, err := prefixArg(y.Addr)
	if err != nil { // of a jail that bans something else than addresses?
		if a, idErr := guard.WhyID(e.ctx, y.Addr); idErr == nil && len(a.Standing)+len(a.Bans)+a.FormerAll > 0 {
			return e.print(a, func(w io.Writer) { printWhy(w, &a, time.Now()) })
		}
		return err
	}
	if !p.IsSingleIP() {
		return api.Errorf(api.ExitUsage, "ask for one address of it: tocsin why "+p.Addr().String(), p.String()+" is a whole network")
	}
	a, err := guard.Why(e.ctx, p.Addr())
	if err != nil {
		return err
	}
	return e.print(a, func(w io.Writer) { printWhy(w, &a, time.Now()) })
}

func printWhy(w io.Writer, y *api.Why, now time.Time) {
	for i := range y.Bans {
		printBan(w, y, &y.Bans[i], now)
	}
	if !y.Banned {
		fmt.Fprintf(w, "%s is not banned\n", y.Addr)
	}
	for i := range y.Listed {
		fmt.Fprintf(w, "  %s\n", listedText(y, &y.Listed[i]))
	}
	if y.Allowed != nil {
		fmt.Fprintf(w, "  never banned: %s\n", allowText(y.Allowed, now))
	}
	for i := range y.Standing {
		printStanding(w, &y.Standing[i])
	}
	if y.Today > 0 {
		fmt.Fprintf(w, "  %s today\n", api.Count(y.Today, "failure", "failures"))
	}
	if len(y.Users) > 0 {
		fmt.Fprintf(w, "  user names tried: %s\n", strings.Join(y.Users, ", "))
	}
	if len(y.Logins) > 0 {
		fmt.Fprintf(w, "  logged in: %s\n", loginsText(y.Logins, now))
	}
	printFormer(w, y, now)
	if !y.Banned && y.Allowed == nil && len(y.Standing) == 0 && y.Today == 0 && y.FormerAll == 0 && len(y.Logins)+len(y.Listed) == 0 {
		fmt.Fprintln(w, "  nothing is known of it")
	}
	if len(y.Next) > 0 {
		fmt.Fprintf(w, "\n  next: %s\n", strings.Join(y.Next, "\n        "))
	}
}

// listedText says what a list of other people's does about an address.
func listedText(y *api.Why, l *api.Listed) string {
	as := ""
	if p, err := netip.ParsePrefix(l.Entry); err == nil && !p.IsSingleIP() {
		as = ", in " + l.Entry
	}
	switch {
	case !l.Blocked:
		return fmt.Sprintf("list %s has it%s, and does not block it", l.List, as)
	case y.Mode != api.ModeEnforcing:
		return fmt.Sprintf("list %s has it%s, and would block it %s (the guard is %s)", l.List, as, api.WhereText(l.Ports, ""), y.Mode)
	}
	return fmt.Sprintf("list %s has it%s: blocked %s", l.List, as, api.WhereText(l.Ports, ""))
}

func printBan(w io.Writer, y *api.Why, b *api.Ban, now time.Time) {
	verb := "is banned"
	if y.Mode != api.ModeEnforcing {
		verb = "would be banned (the guard is " + y.Mode + ")"
	}
	who := y.Addr
	if p, err := netip.ParsePrefix(b.Prefix); err == nil && !p.IsSingleIP() {
		who += " (in " + b.Prefix + ")"
	}
	end := until(b, now)
	if b.Until != nil {
		end = "until " + end
	}
	fmt.Fprintf(w, "%s %s %s %s\n", who, verb, api.WhereText(b.Ports, b.Verdict), end)
	fmt.Fprintf(w, "  since %s, by %s: %s\n", when(b.At, now), byText(b), tocsin.Printable(b.Reason))
	if b.Verdict == "reject" {
		fmt.Fprintln(w, "  its packets are answered with a refusal")
	}
	for _, e := range b.Evidence {
		fmt.Fprintf(w, "    %s\n", e.Text)
	}
}

func printStanding(w io.Writer, s *api.Standing) {
	fmt.Fprintf(w, "  %s: %s within %s now, the %s would ban", s.Jail, api.Count(s.Failures, "failure", "failures"), s.FindTime, ordinal(s.Failures+s.More))
	if s.Patience != "" {
		fmt.Fprintf(w, " (%s)", s.Patience)
	}
	fmt.Fprintln(w)
	for _, e := range s.Evidence {
		fmt.Fprintf(w, "    %s\n", e.Text)
	}
}

func printFormer(w io.Writer, y *api.Why, now time.Time) {
	if y.FormerAll == 0 {
		return
	}
	fmt.Fprintf(w, "  %s before:\n", api.Count(y.FormerAll, "ban", "bans"))
	for i := range y.Former {
		b := &y.Former[i]
		end := "ran out"
		if b.EndedAt != nil {
			end = endText(b, now)
		}
		fmt.Fprintf(w, "    %s by %s: %s (%s)\n", clock(b.At, now), byText(b), tocsin.Printable(b.Reason), end)
		for _, e := range b.Evidence {
			fmt.Fprintf(w, "      %s\n", e.Text)
		}
	}
	if y.FormerAll > len(y.Former) {
		fmt.Fprintf(w, "    and %d older ones\n", y.FormerAll-len(y.Former))
	}
}

// endText says how a ban ended early: somebody lifted it, or something else came in its place.
func endText(b *api.Ban, now time.Time) string {
	at, reason := clock(*b.EndedAt, now), tocsin.Printable(b.EndReason)
	switch {
	case b.EndedBy != "" && reason != "":
		return "lifted by " + tocsin.Printable(b.EndedBy) + " " + at + ": " + reason
	case b.EndedBy != "":
		return "lifted by " + tocsin.Printable(b.EndedBy) + " " + at
	}
	return cmp.Or(reason, "lifted") + " " + at
}

func byText(b *api.Ban) string {
	switch {
	case b.By != "" && b.Origin == "jail": // of another program that was moved in here
		return tocsin.Printable(b.By) + ", jail " + b.Jail
	case b.By != "":
		return tocsin.Printable(b.By)
	case b.Origin == "jail":
		return "jail " + b.Jail
	}
	return b.Origin
}

func loginsText(ls []api.Login, now time.Time) string {
	var out []string
	for _, l := range ls {
		out = append(out, l.User+" "+clock(l.At, now))
	}
	return strings.Join(out, ", ")
}

func printAllowed(w io.Writer, list api.Allowed) {
	t := table(w)
	fmt.Fprintln(t, "NEVER BANNED\tWHY\tUNTIL")
	for i := range list.Allowed {
		a := &list.Allowed[i]
		end := "always"
		if a.Until != nil {
			end = clock(*a.Until, time.Now())
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", bare(a.Prefix), whyAllowed(a), end)
	}
	t.Flush()
}

func allowText(a *api.Allow, now time.Time) string {
	s := bare(a.Prefix) + " is " + whyAllowed(a)
	if a.Until != nil {
		s += ", until " + clock(*a.Until, now)
	}
	return s
}

func whyAllowed(a *api.Allow) string {
	var s string
	switch a.Origin {
	case "operator":
		s = "allowed by " + tocsin.Printable(a.By)
		if a.Note != "" {
			s += " (" + tocsin.Printable(a.Note) + ")"
		}
	case "configuration":
		s = "allowed in the configuration"
	default:
		s = a.Origin
	}
	switch {
	case strings.Contains(a.Jail, ", "):
		s += ", in jails " + a.Jail
	case a.Jail != "":
		s += ", in jail " + a.Jail
	}
	return s
}

func table(w io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(w, 0, 8, 2, ' ', 0) }

func until(b *api.Ban, now time.Time) string {
	switch {
	case b.EndedAt != nil && b.EndedBy == "":
		return endText(b, now)
	case b.EndedAt != nil:
		return "lifted " + clock(*b.EndedAt, now)
	case b.Until == nil:
		return "without end"
	case b.Active:
		return clock(*b.Until, now) + " (" + roughly(b.Until.Sub(now)) + " left)"
	}
	return clock(*b.Until, now)
}

// clock is a local time, without the date if that is today.
func clock(t, now time.Time) string {
	t, now = t.Local(), now.Local()
	if t.Year() == now.Year() && t.YearDay() == now.YearDay() {
		return t.Format("15:04:05")
	}
	return t.Format("2006-01-02 15:04:05")
}

// when is a local time with how long ago that is.
func when(t, now time.Time) string {
	return clock(t, now) + " (" + roughly(now.Sub(t)) + " ago)"
}

// roughly is a duration as people say it.
func roughly(d time.Duration) string {
	switch {
	case d < 0:
		return "0 s"
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

func ordinal(n int) string {
	suffix := "th"
	if n%100 < 11 || n%100 > 13 {
		switch n % 10 {
		case 1:
			suffix = "st"
		case 2:
			suffix = "nd"
		case 3:
			suffix = "rd"
		}
	}
	return fmt.Sprintf("%d%s", n, suffix)
}

// bare is a prefix as people write it: without the length if it is a single address.
func bare(prefix string) string {
	if p, err := netip.ParsePrefix(prefix); err == nil {
		return tocsin.PrefixString(p)
	}
	return prefix
}

// portsCell says where a ban holds, for a column of a table: as much of a set of ports as tells it from others.
func portsCell(ports []uint16, verdict string) string {
	switch {
	case verdict == tocsin.Pass.String():
		return "none"
	case len(ports) == 0:
		return "all"
	}
	_, list, _ := strings.Cut(api.PortsText(ports), " ")
	return shortened(list, 30)
}
