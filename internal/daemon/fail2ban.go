package daemon

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"tocsin"
	"tocsin/internal/config"
	"tocsin/internal/f2blog"
	"tocsin/internal/fail2ban"
	"tocsin/internal/filter"
	"tocsin/internal/jail"
	"tocsin/internal/source"
)

// failedJail is a jail of fail2ban's configuration that cannot run as it is written. It keeps no other from running.
type failedJail struct {
	name     string
	err      error
	problems []fail2ban.Problem
	kept     bool // it runs on as it was before a reload
}

// how says what became of the jail.
func (f *failedJail) how() string {
	if f.kept {
		return "runs as before, what is written now cannot"
	}
	return "cannot run"
}

// fail2ban makes cells of the jails of fail2ban's configuration, beside those of tocsin.toml that are in s already.
func (b *builder) fail2ban(s *set) {
	c := s.conf
	loaded, err := b.loadFail2ban(c.Fail2ban.Dir)
	if err != nil {
		b.errs = append(b.errs, &config.Error{Pos: c.Pos("fail2ban.dir"), Msg: err.Error()})
		return
	}
	s.f2b = loaded
	b.services = fail2ban.Services(fail2ban.ServicesFile)
	for _, j := range loaded.Jails {
		one := &cell{f2b: j, problems: slices.Clone(j.Problems)}
		err := j.Err
		if err == nil {
			err = b.fill(one, c, loaded)
		}
		if err == nil && slices.ContainsFunc(s.cells, func(other *cell) bool { return other.conf.Name == j.Name }) {
			err = &fail2ban.Error{Pos: j.Pos, Msg: "another jail has this name", Hint: "bans are kept by the name of their jail: rename the [[jail]] of tocsin.toml"}
		}
		if err == nil {
			s.add(one)
			continue
		}
		failed := failedJail{name: j.Name, err: err, problems: one.problems}
		if before := b.before(j.Name, c, loaded); before != nil {
			failed.kept = true
			s.add(before)
		}
		s.failed = append(s.failed, failed)
	}
	s.f2bLog = logTarget(c, loaded)
}

// before makes the cell of a jail as it was read when it could run, nil if it never did: a slip of the pen in an edit must
// not leave a service unguarded until somebody notices.
func (b *builder) before(name string, conf *config.Config, all *fail2ban.Config) *cell {
	if b.old == nil {
		return nil
	}
	i := slices.IndexFunc(b.old.cells, func(c *cell) bool { return c.f2b != nil && c.conf.Name == name })
	if i < 0 {
		return nil
	}
	j := b.old.cells[i].f2b
	c := &cell{f2b: j, problems: slices.Clone(j.Problems)}
	if err := b.fill(c, conf, all); err != nil {
		return nil
	}
	return c
}

// loadFail2ban reads the configuration. The filter of a jail whose logs are not there, but whose journal is, is read as
// one for the journal, which its lines look different in.
func (b *builder) loadFail2ban(dir string) (*fail2ban.Config, error) {
	loaded, err := fail2ban.Load(fail2ban.LoadOptions{Dir: dir})
	if err != nil || !b.look || b.noJournal != "" {
		return loaded, err
	}
	var journals []string
	for _, j := range loaded.Jails {
		if j.Err == nil && j.Backend == "auto" && len(j.Filter.Journalmatch) > 0 && len(j.Logpaths) > 0 && !logsExist(j) {
			journals = append(journals, j.Name)
		}
	}
	if len(journals) == 0 {
		return loaded, nil
	}
	again, err := fail2ban.Load(fail2ban.LoadOptions{Dir: dir, Journals: journals})
	if err != nil {
		return nil, err
	}
	for _, j := range again.Jails {
		if slices.Contains(journals, j.Name) {
			j.Problems = append(j.Problems, fail2ban.Problem{Pos: j.Where("logpath"), Msg: "none of its logs exists", Instead: "the journal is read"})
		}
	}
	return again, nil
}

func logsExist(j *fail2ban.Jail) bool {
	return slices.ContainsFunc(j.Logpaths, func(p fail2ban.Logpath) bool {
		files, err := filepath.Glob(fail2ban.GoPattern(p.Pattern))
		return err == nil && len(files) > 0
	})
}

// logTarget is where fail2ban's own log is written: where the settings say, or the file that fail2ban would write if one of
// its jails reads that. Whoever only observes leaves fail2ban's file to fail2ban.
func logTarget(conf *config.Config, all *fail2ban.Config) f2blog.Target {
	t := f2blog.Target{Path: conf.Fail2ban.Log, Level: f2blog.ParseLevel(all.Main.Loglevel)}
	switch t.Path {
	case "off":
		return f2blog.Target{}
	case "auto":
	default:
		return t
	}
	t.Path, _, _ = strings.Cut(all.Main.Logtarget, "[") // what follows says how a line looks
	if !filepath.IsAbs(t.Path) || conf.Guard.Observe {
		return f2blog.Target{}
	}
	for _, j := range all.Jails {
		for _, p := range j.Logpaths {
			if ok, err := filepath.Match(fail2ban.GoPattern(p.Pattern), t.Path); ok && err == nil {
				return t
			}
		}
	}
	return f2blog.Target{}
}

// fill makes a jail of fail2ban's ready to run, in a cell that has f2b and problems. The error says why it cannot.
func (b *builder) fill(c *cell, conf *config.Config, all *fail2ban.Config) error {
	j := c.f2b
	c.def = j.Filter
	if c.def.Name == "" {
		c.def.Name = j.Name // failregex stands in the jail itself
	}
	if len(c.def.Failregex) > 0 {
		var err error
		if c.program, err = b.compile(&c.def); err != nil {
			return err
		}
		if err := c.readFrom(); err != nil {
			return err
		}
	}
	c.loc = time.Local
	if j.Logtimezone != "" {
		if c.loc = zoneNamed(j.Logtimezone); c.loc == nil {
			c.loc = time.Local
			c.problem(j.Where("logtimezone"), fmt.Sprintf("logtimezone %q is no time zone", j.Logtimezone), "the machine's is used")
		}
	}
	switch strings.ToLower(j.Logencoding) {
	case "auto", "utf-8", "utf8", "ascii", "us-ascii", "":
	default:
		c.problem(j.Where("logencoding"), fmt.Sprintf("logs in %s are not converted", j.Logencoding), "lines are read as UTF-8: what is not ASCII may not match")
	}
	if !j.Ignoreself {
		c.problem(j.Where("ignoreself"), "ignoreself = false", "this machine's own addresses, gateways and resolvers are never banned all the same")
	}
	c.ignoreAll(j.Ignoreip)
	c.setOptions(conf, all)
	c.actOn(b.services)
	c.conf = &config.Jail{
		Name: j.Name, Filter: cmp.Or(j.FilterSpec, c.def.Name), Sources: c.sources, Enabled: true, Verdict: c.options.Verdict,
		Ports:    config.Ports{All: len(c.options.Ports) == 0, List: c.options.Ports},
		MaxRetry: c.options.MaxRetry, FindTime: c.options.FindTime, BanTime: c.options.BanTime, BanFactor: 1, BanMemory: c.options.BanMemory,
		IPv6Prefix: c.options.IPv6Prefix, KnownFactor: c.options.KnownFactor, KnownFor: c.options.KnownFor,
	}
	if c.options.BanTime <= 0 {
		c.conf.BanTime = config.Forever
	}
	var err error
	c.jail, err = jail.New(c.options)
	return err
}

func (c *cell) problem(pos fail2ban.Pos, msg, instead string) {
	c.problems = append(c.problems, fail2ban.Problem{Pos: pos, Msg: msg, Instead: instead})
}

// zoneNamed is the zone of a logtimezone, nil if there is none of this name. fail2ban knows fixed ones only; names of the
// time zone database are taken as well.
func zoneNamed(name string) *time.Location {
	if loc, ok := filter.FixedZone(name); ok {
		return loc
	}
	if loc, err := time.LoadLocation(name); err == nil {
		return loc
	}
	return nil
}

// readFrom finds the sources of a jail.
func (c *cell) readFrom() error {
	j := c.f2b
	if j.Backend == "systemd" {
		return c.readJournal()
	}
	for _, p := range j.Logpaths {
		name := "file:" + fail2ban.GoPattern(p.Pattern)
		if _, err := source.Parse(name); err != nil {
			return &fail2ban.Error{Pos: p.Pos, Msg: withoutHint(err), Hint: "write the whole path of a log"}
		}
		if p.Tail {
			c.problem(p.Pos, "tail", "a log that was never read is read from one findtime ago, as with head")
		}
		if !slices.Contains(c.sources, name) {
			c.sources = append(c.sources, name)
		}
	}
	if len(c.sources) == 0 {
		c.problem(j.Pos, "the jail has no logpath", "it finds nobody; people can be banned by hand")
	}
	return nil
}

// withoutHint is an error without the line that says what to do, where there is a better one to say.
func withoutHint(err error) string {
	msg, _, _ := strings.Cut(err.Error(), "\n")
	return msg
}

// readJournal makes a source of the jail's journal matches. Several lines of them are alternatives.
func (c *cell) readJournal() error {
	j := c.f2b
	for _, name := range []string{"journalpath", "journalfiles", "namespace"} {
		if j.BackendOptions[name] != "" {
			return &fail2ban.Error{Pos: j.Where("backend"), Msg: fmt.Sprintf("backend systemd[%s=...]: only the machine's own journal can be read", name)}
		}
	}
	if flags := j.BackendOptions["journalflags"]; flags != "" {
		c.problem(j.Where("backend"), "journalflags="+flags, "what this user may read of the journal is read")
	}
	var alternatives []string
	for _, m := range j.Filter.Journalmatch { // there may be quotes around a term
		alternatives = append(alternatives, strings.Join(fail2ban.JournalTerms(m), " "))
	}
	match := strings.Join(alternatives, " + ")
	name := "journal:" + match
	if _, err := source.Parse(name); err != nil {
		return &fail2ban.Error{Pos: j.Pos, Msg: fmt.Sprintf("journalmatch %q: %s", match, withoutHint(err)), Hint: "write it like journalmatch = _SYSTEMD_UNIT=ssh.service + _COMM=sshd"}
	}
	c.sources = []string{name}
	if strings.Contains(match, "_SYSTEMD_UNIT=fail2ban.service") {
		c.problem(j.Pos, "fail2ban's own messages in the journal are read", "nobody writes them: read the log of [fail2ban] with backend = auto and a logpath")
	}
	if match == "" {
		c.problem(j.Pos, "the filter has no journalmatch", "every entry of the journal is read")
	}
	return nil
}

// ignoreAll takes over ignoreip.
func (c *cell) ignoreAll(texts []string) {
	for _, text := range texts {
		name, err := ignoredName(text)
		switch {
		case err != nil:
			c.problem(c.f2b.Where("ignoreip"), fmt.Sprintf("ignoreip: %v", err), "it is left out")
		case slices.Contains(c.ignored, name):
		case len(c.ignored) >= maxIgnored:
			c.problem(c.f2b.Where("ignoreip"), fmt.Sprintf("ignoreip has more than %d entries", maxIgnored), "those from "+name+" on are left out")
			c.indexIgnored()
			return
		default:
			c.ignored = append(c.ignored, name)
		}
	}
	c.indexIgnored()
}

// The longest times and the most failures that a jail takes.
const (
	mostRetries = 10_000
	longestFind = 10 * 365 * 24 * time.Hour
	longestBan  = 100 * 365 * 24 * time.Hour
)

// setOptions sets how the jail counts and for how long it bans.
func (c *cell) setOptions(conf *config.Config, all *fail2ban.Config) {
	j, f := c.f2b, &conf.Fail2ban
	c.options = jail.Options{
		Name: j.Name, MaxRetry: min(j.Maxretry, mostRetries), FindTime: min(j.Findtime, longestFind), BanTime: banLength(j.Bantime),
		IPv6Prefix: f.IPv6Prefix, KnownFactor: f.KnownFactor, KnownFor: f.KnownFor, KeepOnLogin: !f.ClearByLogin,
		MaxAddresses: 100_000, EvidenceLines: min(j.Maxmatches, 1000),
		BanMemory: all.Main.Dbpurgeage,
	}
	if j.Maxretry > mostRetries {
		c.problem(j.Pos, fmt.Sprintf("maxretry %d is more than %d", j.Maxretry, mostRetries), "that many failures ban")
	}
	switch {
	case j.Bantime == 0:
		c.problem(j.Where("bantime"), "bantime is 0", "a ban lasts for a second")
	case j.Bantime > 0 && j.Growth != nil:
		c.grow(j.Growth)
	}
	// fail2ban forgets a ban dbpurgeage after three times its length is over (Fail2BanDb._purge_bips).
	longest := c.options.BanTime
	for _, d := range c.options.BanTimes {
		longest = max(longest, d)
	}
	kept := conf.Retention.Bans
	c.options.BanMemory = min(c.options.BanMemory+3*min(longest, longestBan/3), longestBan)
	if kept != config.Forever && c.options.BanMemory > kept {
		c.options.BanMemory = kept
		if j.Growth != nil {
			c.problem(j.Growth.Pos, "former bans are kept for "+config.FormatDuration(kept)+" (bans under [retention] in tocsin.toml)", "older ones make no ban longer; set bantime.maxtime if bans need not grow without end")
		}
	}
}

// banLength translates fail2ban's length of a ban into jail's, where 0 is without end.
func banLength(d time.Duration) time.Duration {
	if d < 0 {
		return 0
	}
	return max(time.Second, min(d, longestBan))
}

// grow lets bans grow.
func (c *cell) grow(g *fail2ban.Growth) {
	times, err := g.Times(c.f2b.Bantime)
	if err != nil {
		c.problem(g.Pos, fmt.Sprintf("bantime.increment: %v", err), "every ban is as long as the first")
		return
	}
	for _, d := range times {
		c.options.BanTimes = append(c.options.BanTimes, banLength(d))
	}
	c.options.BanJitter = min(max(g.Rndtime, 0), longestBan)
	c.options.Weigh, c.options.Overall = true, g.Overalljails
}

// actOn sorts the actions of a jail into those that our own firewall does and those that are run.
func (c *cell) actOn(services map[string]uint16) {
	var walls []fail2ban.Native
	for _, a := range c.f2b.Actions {
		n, notes, ok := a.Native(services)
		c.problems = append(c.problems, notes...)
		switch {
		case ok:
			walls = append(walls, n)
			c.native = append(c.native, a)
		case !a.Python:
			c.actions = append(c.actions, a)
		}
	}
	c.acts = len(c.actions) > 0
	o := &c.options
	if len(walls) == 0 {
		o.Verdict = tocsin.Pass // nobody asked for a firewall
		return
	}
	o.Verdict, o.Proto = walls[0].Verdict, walls[0].Proto
	everything := false
	for _, n := range walls {
		everything = everything || n.All
		o.Ports = append(o.Ports, n.Ports...)
		if n.Proto != o.Proto {
			o.Proto = tocsin.TCPAndUDP
		}
		if n.Verdict != o.Verdict {
			c.problem(c.f2b.Where("action"), "its actions answer the packets of the banned in different ways", "they all "+o.Verdict.String())
		}
	}
	if everything {
		o.Ports, o.Proto = nil, tocsin.TCP // all ports cover every protocol
	}
	o.Ports = tocsin.SortPorts(o.Ports)
}

// logFailed logs which jails cannot run.
func (g *Guard) logFailed(s *set) {
	for _, f := range s.failed {
		g.log.Error("jail "+f.how(), "jail", f.name, "err", strings.Join(errorsOf(f.err), "; "))
	}
}

// errorsOf lists what is wrong with a jail, each with its place.
func errorsOf(err error) []string {
	var texts []string
	for _, e := range fail2ban.Errors(err) {
		text := e.Pos.String() + ": " + e.Msg
		if e.Hint != "" {
			text += " (" + e.Hint + ")"
		}
		texts = append(texts, text)
	}
	if len(texts) == 0 {
		texts = append(texts, err.Error())
	}
	return texts
}
