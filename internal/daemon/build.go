package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"tocsin"
	"tocsin/internal/alert"
	"tocsin/internal/config"
	"tocsin/internal/f2blog"
	"tocsin/internal/fail2ban"
	"tocsin/internal/filter"
	"tocsin/internal/host"
	"tocsin/internal/jail"
	"tocsin/internal/source"
)

// set is everything that one configuration asks for, built but not started.
type set struct {
	conf    *config.Config
	cells   []*cell
	sources []string // each once, in the order of the jails

	f2b    *fail2ban.Config // nil: no jails of fail2ban's
	failed []failedJail     // those that cannot run
	f2bLog f2blog.Target    // where its log is written
}

// add adds a cell to the set.
func (s *set) add(c *cell) {
	s.cells = append(s.cells, c)
	for _, name := range c.sources {
		if !slices.Contains(s.sources, name) {
			s.sources = append(s.sources, name)
		}
	}
}

// cell is one jail with what it is fed and what it guards. Once it is in use the decider owns it.
type cell struct {
	conf    *config.Jail
	options jail.Options
	def     fail2ban.Filter
	program *filter.Program // of def; nil: it has no failregex
	loc     *time.Location
	sources []string
	found   []string // how ports and sources were found, for people

	// What fail2ban's jails ask for beside.
	acts    bool               // it has actions, which ids that are no address reach too
	actions []*fail2ban.Action // those whose commands the runner runs, because our firewall does not do what they do
	asks    *ignoreCommand     // asked before it bans; nil: it has none

	jail       *jail.Jail
	f2b        *fail2ban.Jail // nil: a jail of tocsin.toml
	problems   []fail2ban.Problem
	native     []*fail2ban.Action // those that our firewall does
	ignored    []string           // whom this jail never bans: addresses, networks, host names
	allow      prefixes           // those of ignored that are no names
	names      []string           // those that are
	rebuilding bool               // counts records that were seen before a restart
	tally      struct{ failures, logins, bans, spared, badIDs uint64 }
}

// usualPorts are the ports that "auto" means for the filters we ship; sshd's are looked up on the machine.
var usualPorts = map[string][]uint16{
	"postfix-sasl": {25, 465, 587},
	"dovecot":      {110, 143, 993, 995, 4190},
	"sympa":        {80, 443},
	"apache-auth":  {80, 443},
	"apache-scan":  {80, 443},
	"nginx-auth":   {80, 443},
	"nginx-scan":   {80, 443},
	"wordpress":    {80, 443},
	"spip":         {80, 443},
	"galette":      {80, 443},
	"roundcube":    {80, 443},
	"vsftpd":       {21, 990},
	"proftpd":      {21, 990},
}

// builder turns a configuration into a set. With look it asks the machine where sshd listens and logs; a replay of other
// machines' logs does not.
type builder struct {
	look      bool
	noJournal string // why there is no journal to read; "": there is one
	old       *set   // in force, whose compiled filters are taken where they are the same; nil: none
	errs      config.Errors

	services map[string]uint16 // the names of ports
	ssh      struct {
		asked         bool
		ports         []uint16
		sources       []string
		portsFound    []string
		sourcesReason string
	}
}

func newBuilder(look bool, old *set) *builder {
	return &builder{look: look, old: old, noJournal: host.NoJournal()}
}

// build makes the set that a configuration asks for. All mistakes are reported at once, each with its place.
func build(ctx context.Context, c *config.Config, look bool) (*set, error) {
	return newBuilder(look, nil).build(ctx, c)
}

func (b *builder) build(ctx context.Context, c *config.Config) (*set, error) {
	s := b.set(ctx, c)
	errs := b.errs
	if len(s.cells) == 0 && len(errs) == 0 {
		errs = s.noneRuns()
	}
	if err := ctx.Err(); err != nil {
		return nil, err // half a look at the machine is none
	}
	if len(errs) > 0 {
		return nil, errs
	}
	return s, nil
}

// set makes the set even if no jail of it can run.
func (b *builder) set(ctx context.Context, c *config.Config) *set {
	s := &set{conf: c}
	for i := range c.Jails {
		if !c.Jails[i].Enabled {
			continue
		}
		s.add(b.cell(ctx, &c.Jails[i]))
	}
	if c.Fail2ban.Dir != "" {
		b.fail2ban(s)
	}
	_, wrong := alert.Compile(alert.Shipped(), c.Rules)
	b.errs = append(b.errs, wrong...)
	return s
}

// noneRuns says why a set is empty.
func (s *set) noneRuns() (errs config.Errors) {
	if s.f2b == nil {
		return config.Errors{{Pos: config.Pos{File: s.conf.File}, Msg: "no jail is enabled: nothing would be guarded", Hint: "set enabled = true in one of them"}}
	}
	if len(s.failed) == 0 {
		return config.Errors{{Pos: config.Pos{File: s.f2b.Dir}, Msg: "no jail is enabled: nothing would be guarded", Hint: "write enabled = true under one of them in jail.local"}}
	}
	for _, f := range s.failed {
		errs = append(errs, &config.Error{Pos: config.Pos{File: s.f2b.Dir}, Msg: fmt.Sprintf("jail %s cannot run: %s", f.name, strings.Join(errorsOf(f.err), "; "))})
	}
	return errs
}

// Mistakes adds to the mistakes of a configuration those that only the rooms can see: filters that do not exist, sources
// that cannot be read. Everything that is wrong with a file is so told at once.
func Mistakes(c *config.Config, found config.Errors) config.Errors {
	var more config.Errors
	if _, err := build(context.Background(), c, false); !errors.As(err, &more) {
		return found
	}
	return found.With(more)
}

func (b *builder) wrong(j *config.Jail, key string, err error) {
	e := &config.Error{Pos: j.Pos(key), Msg: fmt.Sprintf("jail %q: %v", j.Name, err)}
	var spec *source.SpecError
	if errors.As(err, &spec) {
		e.Hint = spec.Hint
	}
	b.errs = append(b.errs, e)
}

func (b *builder) cell(ctx context.Context, j *config.Jail) *cell {
	c := &cell{conf: j, loc: time.Local}
	var err error
	if c.def, err = filter.Load(j.Filter); err != nil {
		b.wrong(j, "filter", err)
	} else if c.program, err = b.compile(&c.def); err != nil {
		b.wrong(j, "filter", err)
	}
	if j.Timezone != "" {
		if c.loc, err = time.LoadLocation(j.Timezone); err != nil {
			b.wrong(j, "timezone", err)
		}
	}
	c.options = jail.Options{
		Name: j.Name, MaxRetry: j.MaxRetry, FindTime: j.FindTime,
		BanTime: endless(j.BanTime), BanFactor: j.BanFactor, BanMax: endless(j.BanMax), BanMemory: j.BanMemory,
		IPv6Prefix: j.IPv6Prefix, KnownFactor: j.KnownFactor, KnownFor: j.KnownFor,
		SubnetBans: j.SubnetBans, SubnetWithin: j.SubnetWithin, MaxAddresses: j.MaxAddresses,
		Verdict: j.Verdict, Ports: b.ports(ctx, j, c),
	}
	if c.jail, err = jail.New(c.options); err != nil {
		b.wrong(j, "name", err)
	}
	for _, p := range j.Allow {
		c.ignored = append(c.ignored, tocsin.PrefixString(p))
	}
	c.indexIgnored()
	c.sources = b.sourceNames(ctx, j, c)
	for i, name := range c.sources {
		if _, err := source.Parse(name); err != nil {
			b.wrong(j, fmt.Sprintf("sources[%d]", i), err)
		}
	}
	return c
}

// endless translates config's duration without end into jail's.
func endless(d time.Duration) time.Duration {
	if d == config.Forever {
		return 0
	}
	return d
}

func (b *builder) ports(ctx context.Context, j *config.Jail, c *cell) []uint16 {
	name := c.def.Name
	switch {
	case j.Ports.All:
		return nil
	case !j.Ports.Auto:
		return tocsin.SortPorts(slices.Clone(j.Ports.List))
	case name == "sshd" && b.look:
		b.lookForSSH(ctx)
		c.found = append(c.found, b.ssh.portsFound...)
		return b.ssh.ports
	case name == "sshd":
		return []uint16{22}
	case usualPorts[name] != nil:
		return slices.Clone(usualPorts[name])
	}
	if name != "" {
		b.errs = append(b.errs, &config.Error{
			Pos: j.Pos("ports"), Msg: fmt.Sprintf("jail %q: where %s listens is not known", j.Name, name),
			Hint: `write the ports, like ports = [80, 443], or ports = "all"`,
		})
	}
	return nil
}

func (b *builder) sourceNames(ctx context.Context, j *config.Jail, c *cell) []string {
	switch {
	case len(j.Sources) > 0:
		return j.Sources
	case !b.look:
		return nil
	case c.def.Name == "sshd":
		b.lookForSSH(ctx)
		c.found = append(c.found, b.ssh.sourcesReason)
		return b.ssh.sources
	}
	b.errs = append(b.errs, &config.Error{
		Pos: j.Pos("name"), Msg: fmt.Sprintf("jail %q has no sources", j.Name),
		Hint: `write where it logs, like sources = ["file:/var/log/nginx/error.log"]`,
	})
	return nil
}

func (b *builder) lookForSSH(ctx context.Context) {
	if b.ssh.asked {
		return
	}
	b.ssh.asked = true
	var err error
	if b.ssh.ports, b.ssh.portsFound, err = host.SSHPorts(ctx); err != nil {
		b.ssh.portsFound = append(b.ssh.portsFound, err.Error())
	}
	b.ssh.sources, b.ssh.sourcesReason = host.SSHLog()
}

// compile compiles a filter, unless the set in force has it: at a reload few filters are new, and to compile all those of
// fail2ban takes more memory for a moment than to run them.
func (b *builder) compile(def *fail2ban.Filter) (*filter.Program, error) {
	if b.old != nil {
		for _, c := range b.old.cells {
			if c.program != nil && c.program.Of(def) {
				return c.program, nil
			}
		}
	}
	return filter.Compile(*def)
}

// newFilters makes a filter for each cell, through which the records of one source are taken: a filter follows sessions, so
// that no two sources share one. Those that look for dates in the same way share what they find, so that the date of each
// line is looked for once.
func newFilters(cells []*cell, o filter.Options) []*filter.Filter {
	var filters []*filter.Filter
	dates := map[dateKey]*filter.Dates{}
	for _, c := range cells {
		k := c.datedAs()
		if dates[k] == nil {
			dates[k] = c.program.Dates(c.loc, o.Now)
		}
		o.Location, o.Dates = c.loc, dates[k]
		filters = append(filters, c.program.Filter(o))
	}
	return filters
}

// dateKey says how dates are looked for: two jails with the same key find the same.
type dateKey struct {
	zone, pattern string
}

func (c *cell) datedAs() dateKey {
	k := dateKey{zone: c.loc.String()}
	for _, p := range c.def.Datepattern {
		k.pattern += p.Text + "\n"
	}
	return k
}

// openSource makes a source by its name, to be read on from the marks.
func openSource(name string, o sourceOptions) (reading, error) {
	spec, err := source.Parse(name)
	if err != nil {
		return nil, err
	}
	switch spec.Kind {
	case source.KindFile:
		return source.NewFile(source.FileOptions{Name: name, Pattern: spec.Path, Marks: o.marks, Since: o.since, DateOf: o.dateOf, Log: o.log})
	case source.KindJournal:
		return source.NewJournal(source.JournalOptions{Name: name, Match: spec.Match, Require: o.require, Marks: o.marks, Since: o.since, Log: o.log})
	case source.KindSyslog:
		return source.NewSyslog(source.SyslogOptions{Name: name, Location: o.loc, Log: o.log})
	}
	panic("BUG: source of unknown kind " + spec.Kind.String())
}
