package daemon

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"tocsin"
	"tocsin/internal/config"
	"tocsin/internal/filter"
	"tocsin/internal/jail"
	"tocsin/internal/source"
)

// ReplayOptions say what to replay.
type ReplayOptions struct {
	Config *config.Config
	Jail   string   // "" for every jail of the configuration
	Logs   []string // files; "-" is Stdin, "journal" is the journal
	Stdin  io.Reader
	Since  time.Time // from where the journal is read
	Until  time.Time // the present of the logs: it chooses the year where they name none
}

// journalLog names the journal among the logs to replay. Of it sshd's units are read, as Debian and others call them.
const journalLog = "journal"

var sshUnits = []string{"_SYSTEMD_UNIT=ssh.service", "+", "_SYSTEMD_UNIT=sshd.service"}

// Replayed is what would have happened.
type Replayed struct {
	Lines, Bytes uint64
	Failures     uint64
	Spared       uint64 // failures of addresses that the configuration allows
	First, Last  time.Time
	Rules        []RuleCount // the most often matched first
	Bans         []ReplayedBan
}

// RuleCount tells how often a rule matched.
type RuleCount struct {
	Jail, Rule string
	N          uint64
}

// ReplayedBan tells of one prefix that would have been banned.
type ReplayedBan struct {
	Prefix    netip.Prefix
	Jail      string
	Times     int
	First     time.Time
	Failures  int
	Succeeded bool // somebody logged in from there at some time in the log
}

// Replay takes old logs through the whole guard in log time and bans nobody. It needs no running guard and no store.
func Replay(ctx context.Context, o ReplayOptions) (*Replayed, error) {
	s, err := build(ctx, o.Config, false)
	if err != nil {
		return nil, err
	}
	p := replay{bans: map[banPrefix]*ReplayedBan{}, logins: map[netip.Addr]struct{}{}}
	for _, a := range o.Config.Guard.Allow {
		p.allow.add(a, "allowed by the configuration")
	}
	now := func() time.Time { return o.Until }
	var cells []*cell
	for _, c := range s.cells {
		if c.program != nil && (o.Jail == "" || c.conf.Name == o.Jail) {
			cells = append(cells, c)
		}
	}
	filters := newFilters(cells, filter.Options{Now: now, NoLines: true})
	for i, c := range cells {
		bare := c.options
		bare.Bare = true
		j, err := jail.New(bare)
		if err != nil {
			return nil, err
		}
		p.taps = append(p.taps, replayTap{cell: c, filter: filters[i], jail: j, rules: make([]uint64, len(c.def.Failregex))})
	}
	if len(p.taps) == 0 {
		return &p.out, nil
	}
	p.group = filter.NewGroup(filters)
	st, err := eachRecord(ctx, &o, s, p.record)
	if err != nil {
		return nil, err
	}
	return p.result(st), nil
}

// eachRecord hands over the records of all logs: files in the order of their dates, then standard input, then the journal.
func eachRecord(ctx context.Context, o *ReplayOptions, s *set, record func(*tocsin.Record)) (source.Stats, error) {
	var files, rest []string
	journal := false
	for _, name := range o.Logs {
		switch name {
		case journalLog:
			journal = true
		case "-":
			rest = append(rest, name)
		default:
			files = append(files, name)
		}
	}
	if err := byDate(ctx, files, s.cells[0].loc, o.Until); err != nil {
		return source.Stats{}, err
	}
	sum, err := source.Old(ctx, append(files, rest...), o.Stdin, record)
	if err != nil || !journal {
		return sum, err
	}
	for _, one := range s.journals() {
		j, err := source.NewJournal(source.JournalOptions{Name: one.name, Match: one.match, Require: one.require, Since: o.Since})
		if err != nil {
			return sum, err
		}
		if err := j.Replay(ctx, record); err != nil {
			return sum, err
		}
		st := j.Stats()
		sum.Lines, sum.Bytes = sum.Lines+st.Lines, sum.Bytes+st.Bytes
	}
	return sum, nil
}

// journal is one to replay.
type journal struct {
	name           string
	match, require []string
}

// journals are those that the jails read, or sshd's where they read none.
func (s *set) journals() (all []journal) {
	for _, name := range s.sources {
		if spec, err := source.Parse(name); err == nil && spec.Kind == source.KindJournal {
			all = append(all, journal{name, spec.Match, s.require(name)})
		}
	}
	if len(all) == 0 {
		all = append(all, journal{journalLog, sshUnits, rootsOwn})
	}
	return all
}

// byDate sorts logs by the first date in each, as far as one is found at its beginning: a pattern of the shell names
// auth.log before the auth.log.1 that is older, and failures would be counted in a time that runs backwards.
func byDate(ctx context.Context, files []string, loc *time.Location, until time.Time) error {
	if len(files) < 2 {
		return nil
	}
	first := map[string]time.Time{}
	for _, name := range files {
		dates := filter.NewDates(loc, func() time.Time { return until })
		peek, enough := context.WithCancel(ctx) // the source looks at it once a buffer
		_, err := source.Old(peek, []string{name}, nil, func(rec *tocsin.Record) {
			if _, found := first[name]; found {
				return
			}
			if t, _, _, ok := dates.Find(rec.Text); ok {
				first[name] = t
				enough()
			}
		})
		enough()
		if err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
	}
	slices.SortStableFunc(files, func(a, b string) int { return first[a].Compare(first[b]) })
	return ctx.Err()
}

type replay struct {
	taps      []replayTap
	source    string        // of the last line
	chosen    []bool        // which taps read it
	group     *filter.Group // of the taps' filters
	allow     prefixes
	bans      map[banPrefix]*ReplayedBan
	logins    map[netip.Addr]struct{}
	decisions []tocsin.Decision // scratch
	out       Replayed
}

type replayTap struct {
	cell   *cell
	filter *filter.Filter
	jail   *jail.Jail // like the cell's, but keeps no lines: nobody will ask why
	rules  []uint64
}

type banPrefix struct {
	jail   string
	prefix netip.Prefix
}

// maxReplayLogins bounds the addresses of which a replay remembers that they logged in.
const maxReplayLogins = 1 << 20

func (p *replay) record(rec *tocsin.Record) {
	p.group.Line(rec, p.found)
	if p.out.First.IsZero() {
		p.out.First = p.taps[0].filter.Last()
	}
}

// found takes what a filter says of a line.
func (p *replay) found(i int, rec *tocsin.Record, res filter.Result) {
	if rec.Source != p.source || p.chosen == nil {
		p.source, p.chosen = rec.Source, p.choose(rec.Source)
	}
	if !p.chosen[i] {
		return
	}
	t := &p.taps[i]
	switch res.Kind {
	case filter.Failed:
		p.failure(t, res)
	case filter.LoggedIn, filter.LoggedOut:
		t.jail.Login(res.Login)
		if res.Login.Opened && len(p.logins) < maxReplayLogins {
			p.logins[res.Login.Addr] = struct{}{}
		}
	}
}

// choose says which jails read a log: all of tocsin.toml, and of fail2ban's those whose logs it is one of, as it is or
// rotated. If it is nobody's, all of these read it too.
func (p *replay) choose(name string) []bool {
	chosen, named := make([]bool, len(p.taps)), false
	for i := range p.taps {
		c := p.taps[i].cell
		chosen[i] = c.f2b == nil || c.reads(name) || slices.ContainsFunc(c.sources, func(source string) bool { return isLogOf(name, source) })
		named = named || chosen[i] && c.f2b != nil
	}
	if !named {
		for i := range chosen {
			chosen[i] = true
		}
	}
	return chosen
}

// rotated is what rotation and packing add to the name of a log.
var rotated = regexp.MustCompile(`(?:[.-][0-9]{1,12})?(?:\.(?:gz|zst))?$`)

// isLogOf says whether the log called name is what source reads, or was.
func isLogOf(name, source string) bool {
	pattern, isFile := strings.CutPrefix(source, "file:")
	path, ok := strings.CutPrefix(name, "file:")
	if !isFile || !ok {
		return false
	}
	if whole, err := filepath.Abs(path); err == nil {
		path = whole
	}
	for _, path := range []string{path, rotated.ReplaceAllString(path, "")} {
		if is, err := filepath.Match(pattern, path); is && err == nil {
			return true
		}
	}
	return false
}

func (p *replay) failure(t *replayTap, res filter.Result) {
	f := res.Failure
	p.out.Failures++
	t.rules[res.Rule]++
	if !f.Prefix.IsValid() {
		return
	}
	if p.spared(t.cell, f.Prefix.Addr()) {
		p.out.Spared++
		return
	}
	p.decisions = t.jail.Failure(p.decisions[:0], f)
	for i := range p.decisions {
		d := &p.decisions[i]
		p.ban(d)
		for k := range p.taps {
			if other := &p.taps[k]; other.cell.options.Overall && other != t {
				other.jail.Elsewhere(d)
			}
		}
	}
}

func (p *replay) spared(c *cell, a netip.Addr) bool {
	if a.IsLoopback() {
		return true
	}
	if _, ok := p.allow.has(a); ok {
		return true
	}
	_, ok := c.allow.has(a)
	return ok
}

func (p *replay) ban(d *tocsin.Decision) {
	k := banPrefix{d.Jail, d.Prefix}
	b := p.bans[k]
	if b == nil {
		b = &ReplayedBan{Prefix: d.Prefix, Jail: d.Jail, First: d.At}
		p.bans[k] = b
	}
	b.Times++
	b.Failures += d.Failures
}

func (p *replay) result(st source.Stats) *Replayed {
	r := &p.out
	r.Lines, r.Bytes, r.Last = st.Lines, st.Bytes, p.taps[0].filter.Last()
	for i := range p.taps {
		t := &p.taps[i]
		for rule, n := range t.rules {
			if n > 0 {
				r.Rules = append(r.Rules, RuleCount{Jail: t.cell.conf.Name, Rule: t.filter.Rules()[rule], N: n})
			}
		}
	}
	slices.SortStableFunc(r.Rules, func(a, b RuleCount) int { return cmp.Compare(b.N, a.N) })
	loggedIn := prefixesOf(p.logins)
	for _, b := range p.bans {
		b.Succeeded = loggedIn.overlaps(b.Prefix)
		r.Bans = append(r.Bans, *b)
	}
	slices.SortFunc(r.Bans, func(a, b ReplayedBan) int {
		return cmp.Or(cmp.Compare(b.Times, a.Times), cmp.Compare(b.Failures, a.Failures), a.Prefix.Compare(b.Prefix), cmp.Compare(a.Jail, b.Jail))
	})
	return r
}

func prefixesOf(addrs map[netip.Addr]struct{}) *prefixes {
	p := &prefixes{}
	for a := range addrs {
		p.add(netip.PrefixFrom(a, a.BitLen()), "")
	}
	return p
}
