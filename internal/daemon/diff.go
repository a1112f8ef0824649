package daemon

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"

	"tocsin"
	"tocsin/internal/config"
	"tocsin/internal/fail2ban"
)

// DiffOptions say what to compare.
type DiffOptions struct {
	Config       *config.Config // its [fail2ban] dir is the configuration whose jails are compared
	Logs         []string       // read by every jail in place of its own logs; none: those that the jails name
	Since, Until time.Time      // bans of this span are compared; what was logged before only counts
	Database     string         // what fail2ban really did stands there; "" for the one that its fail2ban.conf names
}

// Diff is who fail2ban and Tocsin would each ban by the same logs.
type Diff struct {
	Dir          string
	Since, Until time.Time
	Logs         []string // what was read
	Lines        uint64
	Failures     uint64
	Really       bool // fail2ban's database was read: rows say what it really did
	Jails        []DiffJail
	Rows         []DiffRow // everybody whom anybody bans
	Notes        []string  // what could not be read or compared
}

// DiffJail counts who is banned by one jail.
type DiffJail struct {
	Name                           string
	Both, OnlyFail2ban, OnlyTocsin int
	Really                         int // by fail2ban, as its database has it
}

// DiffRow is one id in one jail.
type DiffRow struct {
	Jail, ID                 string
	Prefix                   netip.Prefix // what Tocsin would ban; zero if nothing
	Fail2ban, Tocsin, Really *DiffBan     // nil: not banned
	Why                      []string     // why the two differ; none: they do not
}

// DiffBan is how somebody is banned.
type DiffBan struct {
	First    time.Time
	Times    int
	Failures int // that led to the first ban
}

// Differs says whether the two would not do the same.
func (r *DiffRow) Differs() bool { return (r.Fail2ban == nil) != (r.Tocsin == nil) || len(r.Why) > 0 }

// CompareFail2ban reads the logs of the span once, through our filters, and counts what they find twice: as Tocsin does, by
// the exact window, and as fail2ban does, by its rate estimate of what the filter found as text. It bans nobody.
func CompareFail2ban(ctx context.Context, o DiffOptions) (*Diff, error) {
	s, err := build(ctx, o.Config, len(o.Logs) == 0)
	if err != nil {
		return nil, err
	}
	s.cells = slices.DeleteFunc(s.cells, func(c *cell) bool { return c.f2b == nil || len(c.def.Failregex) == 0 })
	d := &Diff{Dir: s.f2b.Dir, Since: o.Since, Until: o.Until}
	for _, f := range s.failed {
		d.note("jail %s cannot run, and is left out: tocsin check --fail2ban %s", f.name, d.Dir)
	}
	done := d.readDatabase(&s.f2b.Main, o.Database)
	return d, d.compare(ctx, s, &o, done)
}

// compare fills in d. done is what fail2ban did, by jail.
func (d *Diff) compare(ctx context.Context, s *set, o *DiffOptions, done map[string][]fail2ban.DatabaseBan) error {
	found := newCollected(s, d)
	if err := found.read(ctx, o); err != nil {
		return err
	}
	own, spares := spared(o.Config)
	for _, l := range found.logs {
		c := counting{collected: found, log: l, since: o.Since, own: own, spares: spares, done: done[l.cell.conf.Name]}
		if err := c.count(); err != nil {
			return err
		}
		d.add(l.cell.conf.Name, c.rows())
	}
	return nil
}

// add takes over the rows of one jail.
func (d *Diff) add(jail string, rows []DiffRow) {
	j := DiffJail{Name: jail}
	for i := range rows {
		r := &rows[i]
		switch {
		case r.Fail2ban != nil && r.Tocsin != nil:
			j.Both++
		case r.Fail2ban != nil:
			j.OnlyFail2ban++
		case r.Tocsin != nil:
			j.OnlyTocsin++
		}
		if r.Really != nil {
			j.Really++
		}
	}
	d.Jails, d.Rows = append(d.Jails, j), append(d.Rows, rows...)
}

// note tells once of something that could not be compared.
func (d *Diff) note(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(d.Notes, text) {
		d.Notes = append(d.Notes, text)
	}
}

// readDatabase reads what fail2ban did within the span, by jail. Without its database there is nothing to tell.
func (d *Diff) readDatabase(main *fail2ban.Main, given string) map[string][]fail2ban.DatabaseBan {
	path, err := databasePath(main, given)
	if err != nil {
		return nil
	}
	db, _, err := readDatabase(path)
	if err != nil {
		if given != "" || !os.IsNotExist(err) {
			d.note("what fail2ban really did is not known: %v", err)
		}
		return nil
	}
	d.Really = true
	if keeps := main.Dbpurgeage; keeps > 0 && d.Since.Before(d.Until.Add(-keeps)) {
		d.note("fail2ban forgets its bans after %s (dbpurgeage): what it really did before that is not known", config.FormatDuration(keeps))
	}
	done := map[string][]fail2ban.DatabaseBan{}
	for _, b := range db.History {
		if !b.At.Before(d.Since) && !b.At.After(d.Until) {
			done[b.Jail] = append(done[b.Jail], b)
		}
	}
	return done
}

// counting counts the failures of one jail in both ways.
type counting struct {
	*collected
	log    *jailLog
	since  time.Time
	own    *prefixes // our own addresses: with ignoreself, fail2ban spares them too
	spares *prefixes // whom Tocsin spares
	done   []fail2ban.DatabaseBan

	theirs map[uint32]*theirCount
	ours   map[string]*ourBan // by the id of the decision
	notes  map[uint32]*caseNotes
}

// theirCount is what fail2ban knows of one id.
type theirCount struct {
	estimate fail2ban.Estimate
	n        int       // failures since the estimate began
	first    time.Time // the first of them
	scaled   bool      // the estimate was scaled down since then
	weight   int       // the most that one of them counted for
	former   int       // bans before
	until    time.Time // end of the ban that runs
	ban      *DiffBan  // within the span
	how      string    // how the first ban of the span came about
}

// ourBan is what Tocsin would ban.
type ourBan struct {
	DiffBan
	prefix netip.Prefix
	theirs int // what fail2ban's estimate stood at
}

// caseNotes are what is special about an id.
type caseNotes struct {
	spared string // why Tocsin never bans it
	off    int    // failures whose date was off
	login  bool   // somebody logged in from there
}

func (c *counting) noteOf(who uint32) *caseNotes {
	if c.notes[who] == nil {
		c.notes[who] = &caseNotes{}
	}
	return c.notes[who]
}

func (c *counting) count() error {
	c.theirs, c.ours, c.notes = map[uint32]*theirCount{}, map[string]*ourBan{}, map[uint32]*caseNotes{}
	ours, err := c.log.newJail()
	if err != nil {
		return err
	}
	var decisions []tocsin.Decision
	for i := range c.log.events {
		e := &c.log.events[i]
		who := &c.ids[e.who]
		if e.kind == loginEvent {
			l := tocsin.Login{Addr: who.prefix.Addr(), Port: e.port, User: c.users[e.user], At: e.time(), Opened: e.opened}
			ours.Login(&l)
			c.noteOf(e.who).login = true
			continue
		}
		if c.ignored(who) {
			continue
		}
		if e.off {
			c.noteOf(e.who).off++
		}
		estimate := c.theirFailure(e)
		if why, spared := c.spared(who); spared {
			c.noteOf(e.who).spared = why
			continue
		}
		f := tocsin.Failure{ID: who.text, Prefix: who.prefix, Host: who.host, User: c.users[e.user], At: e.time()}
		decisions = ours.Failure(decisions[:0], &f)
		for i := range decisions {
			c.ourDecision(&decisions[i], estimate)
		}
	}
	return nil
}

// ignored says whether both leave somebody out: ignoreip, ignoreself.
func (c *counting) ignored(who *foundID) bool {
	if !who.prefix.IsValid() {
		return false
	}
	if _, ok := c.log.cell.allow.covers(who.prefix); ok {
		return true
	}
	_, ok := c.own.covers(who.prefix)
	return ok && c.log.cell.f2b.Ignoreself
}

// spared says why Tocsin never bans somebody whom fail2ban may ban.
func (c *counting) spared(who *foundID) (why string, ok bool) {
	switch {
	case who.bad:
		return fmt.Sprintf("id %s is no address", tocsin.Printable(who.text)), true
	case who.host:
		return "", false // its addresses are asked for, by both
	case !who.prefix.IsValid() && !c.log.cell.acts:
		return fmt.Sprintf("id %s is no address, and the jail has no action that takes it", tocsin.Printable(who.text)), true
	case !who.prefix.IsValid():
		return "", false
	}
	if why, ok = c.spares.covers(who.prefix); ok {
		why = "on the allow list: " + why
	}
	return why, ok
}

// theirFailure counts a failure as fail2ban does and returns what its estimate stands at.
func (c *counting) theirFailure(e *foundEvent) int {
	j, at := c.log.cell.f2b, e.time().Truncate(time.Second)
	t := c.theirs[e.who]
	if t == nil {
		t = &theirCount{}
		c.theirs[e.who] = t
	}
	if t.n > 0 && t.estimate.Swept(at, j.Findtime) {
		t.forget()
	}
	if t.n == 0 {
		t.first = at
	}
	t.n++
	t.scaled = t.scaled || at.Sub(t.first) > j.Findtime
	weight := 1
	if j.Growth != nil {
		weight = fail2ban.FailureWeight(t.former, j.Maxretry)
	}
	t.weight = max(t.weight, weight)
	count := 0
	for range weight {
		count = t.estimate.Add(at, j.Findtime)
	}
	if count >= j.Maxretry {
		c.theirBan(t, at, count)
	}
	return count
}

func (t *theirCount) forget() {
	t.estimate.Reset()
	t.n, t.scaled, t.weight = 0, false, 0
}

// theirBan is what fail2ban does when its count is full: a ban, or a longer end for the one that runs.
func (c *counting) theirBan(t *theirCount, at time.Time, count int) {
	j := c.log.cell.f2b
	n, span, scaled, weight := t.n, at.Sub(t.first), t.scaled, t.weight
	t.forget()
	running := !t.until.IsZero() && !at.After(t.until)
	length, endless := j.Bantime, j.Bantime < 0
	if times := c.log.cell.options.BanTimes; len(times) > 0 {
		length = times[min(t.former, len(times)-1)]
		endless = length <= 0
	}
	until := at.Add(length)
	if endless {
		until = at.AddDate(1000, 0, 0)
	}
	if until.After(t.until) {
		t.until = until
	}
	if running {
		return
	}
	t.former++
	if at.Before(c.since) {
		return
	}
	if t.ban != nil {
		t.ban.Times++
		return
	}
	t.ban = &DiffBan{First: at, Times: 1, Failures: n}
	switch {
	case scaled:
		t.how = fmt.Sprintf("rate estimate: %d failures in %.0f s counted as %d in %.0f s", n, span.Seconds(), count, j.Findtime.Seconds())
	case weight > 1:
		t.how = fmt.Sprintf("bans of growing length: each of its failures counted for up to %d", weight)
	}
}

// ourDecision notes a decision of ours, and what fail2ban's estimate stood at.
func (c *counting) ourDecision(d *tocsin.Decision, estimate int) {
	if d.At.Before(c.since) {
		return
	}
	b := c.ours[d.ID]
	if b == nil {
		b = &ourBan{DiffBan: DiffBan{First: d.At, Failures: d.Failures}, prefix: d.Prefix, theirs: estimate}
		c.ours[d.ID] = b
	}
	b.Times++
}

// rows puts together who is banned by whom, and why they differ.
func (c *counting) rows() []DiffRow {
	jail := c.log.cell.conf.Name
	byID := map[string]*DiffRow{}
	row := func(id string) *DiffRow {
		if byID[id] == nil {
			byID[id] = &DiffRow{Jail: jail, ID: id}
		}
		return byID[id]
	}
	idOf := map[string]uint32{}
	for who, t := range c.theirs {
		text := c.ids[who].text
		idOf[text] = who
		if t.ban != nil {
			row(text).Fail2ban = t.ban
		}
	}
	for _, b := range c.done {
		r := row(b.ID)
		if r.Really == nil {
			r.Really = &DiffBan{First: b.At, Failures: b.Failures}
		}
		r.Really.Times++
		if b.At.Before(r.Really.First) {
			r.Really.First, r.Really.Failures = b.At, b.Failures
		}
	}
	for id, b := range c.ours {
		c.place(b, id, row, byID)
	}
	rows := make([]DiffRow, 0, len(byID))
	for _, r := range byID {
		r.Why = c.why(r, idOf)
		rows = append(rows, *r)
	}
	slices.SortFunc(rows, func(a, b DiffRow) int {
		return cmp.Or(a.first().Compare(b.first()), cmp.Compare(a.ID, b.ID))
	})
	return rows
}

// place puts a ban of ours beside those that fail2ban takes of the same addresses: a prefix may cover several of them.
func (c *counting) place(b *ourBan, id string, row func(string) *DiffRow, byID map[string]*DiffRow) {
	ban, covered := b.DiffBan, false
	if b.prefix.IsValid() && !b.prefix.IsSingleIP() {
		for text, r := range byID {
			if a, err := netip.ParseAddr(text); err == nil && b.prefix.Contains(a) && (r.Fail2ban != nil || r.Really != nil) {
				r.Tocsin, r.Prefix, covered = &ban, b.prefix, true
			}
		}
	}
	if !covered {
		r := row(id)
		r.Tocsin, r.Prefix = &ban, b.prefix
	}
}

func (r *DiffRow) first() (first time.Time) {
	for _, b := range []*DiffBan{r.Fail2ban, r.Tocsin, r.Really} {
		if b != nil && (first.IsZero() || b.First.Before(first)) {
			first = b.First
		}
	}
	return first
}

// why says why a row differs.
func (c *counting) why(r *DiffRow, idOf map[string]uint32) (why []string) {
	wide := r.Prefix.IsValid() && !r.Prefix.IsSingleIP() && r.ID != r.Prefix.String()
	if wide {
		why = append(why, fmt.Sprintf("IPv6 /%d: Tocsin counts and bans %s", r.Prefix.Bits(), r.Prefix))
	}
	who, known := idOf[r.ID]
	if known {
		if n := c.noteOf(who); n.off > 0 && (r.Fail2ban == nil) != (r.Tocsin == nil) {
			why = append(why, fmt.Sprintf("date off by more than 60 s in %d of its lines: counted at the time of the line before, live at that of arrival", n.off))
		}
	}
	switch {
	case r.Fail2ban != nil && r.Tocsin == nil:
		why = append(why, c.whyOnlyTheirs(who)...)
	case r.Fail2ban == nil && r.Tocsin != nil:
		why = append(why, c.whyOnlyOurs(r))
	case r.Fail2ban == nil && r.Really.Failures == 0:
		why = append(why, "banned by hand")
	case r.Fail2ban == nil:
		why = append(why, "fail2ban did it by what these logs do not show: other logs, earlier lines, settings of then")
	}
	return why
}

func (c *counting) whyOnlyTheirs(who uint32) (why []string) {
	t, n := c.theirs[who], c.noteOf(who)
	o := &c.log.cell.options
	if n.spared != "" {
		return []string{n.spared}
	}
	if t.how != "" {
		why = append(why, t.how)
	}
	if n.login && o.KnownFactor > 1 {
		why = append(why, "patience: somebody logged in from there, known_factor "+fmt.Sprint(o.KnownFactor))
	}
	if n.login && !o.KeepOnLogin {
		why = append(why, "failures cleared by a login")
	}
	if len(why) == 0 && n.off == 0 {
		why = []string{"whole seconds: fail2ban leaves out the fractions"}
	}
	return why
}

func (c *counting) whyOnlyOurs(r *DiffRow) string {
	b := c.ours[r.ID]
	if b == nil {
		b = c.ours[r.Prefix.String()]
	}
	findtime := c.log.cell.options.FindTime
	if n := c.addressesIn(b.prefix); n > 1 {
		return fmt.Sprintf("IPv6 /%d: %d addresses of it counted together", b.prefix.Bits(), n)
	}
	return fmt.Sprintf("rate estimate: fail2ban's stood at %d when there were %d failures within %.0f s", b.theirs, b.Failures, findtime.Seconds())
}

// addressesIn counts the addresses of a prefix that failed.
func (c *counting) addressesIn(p netip.Prefix) (n int) {
	if !p.IsValid() || p.IsSingleIP() {
		return 0
	}
	for who := range c.theirs {
		if a := c.ids[who].prefix; a.IsValid() && p.Contains(a.Addr()) {
			n++
		}
	}
	return n
}
