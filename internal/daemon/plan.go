package daemon

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"tocsin"
	"tocsin/internal/config"
	"tocsin/internal/fail2ban"
)

// Plan is what a configuration was understood to mean, for `tocsin check`.
type Plan struct {
	Jails    []JailPlan
	Dir      string    // of fail2ban's configuration, "" without
	Disabled []string  // its jails that are not enabled
	Problems []Problem // those of no single jail
	Log      string    // that is written in fail2ban's format, "" if none is
}

// JailPlan is what one jail was understood to mean.
type JailPlan struct {
	Jail     string
	Filter   string
	Rules    int
	Sources  []string
	Waits    []string // those of sources that are not there yet
	Ports    []uint16
	Proto    tocsin.Proto
	Verdict  tocsin.Verdict
	MaxRetry int
	FindTime time.Duration
	BanTime  time.Duration
	Longest  time.Duration // of bans that grow; 0: they do not
	Found    []string

	// Of a jail of fail2ban's only.
	Errors   []string  // why it cannot run; then nothing else but Jail and Problems is known
	Problems []Problem // what differs from what its files say
	Native   []string  // actions that our own firewall does
	Actions  []string  // actions that are run as they are
}

// Problem is something that the files of fail2ban say and that is done otherwise.
type Problem struct {
	File    string
	Line    int // 0: of the file as a whole
	Text    string
	Instead string
}

// Check builds everything that the configuration asks for and starts nothing. Jails of fail2ban's that cannot run are in
// the plan; every other mistake is an error.
func Check(ctx context.Context, c *config.Config) (*Plan, error) {
	b := newBuilder(true, nil)
	s := b.set(ctx, c)
	errs := b.errs
	if len(s.cells) == 0 && len(s.failed) == 0 && len(errs) == 0 {
		errs = s.noneRuns()
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if len(errs) > 0 {
		return nil, errs
	}
	p := &Plan{Log: s.f2bLog.Path}
	for _, c := range s.cells {
		p.Jails = append(p.Jails, c.plan())
	}
	if s.f2b == nil {
		return p, nil
	}
	p.Dir, p.Disabled, p.Problems = s.f2b.Dir, s.f2b.Disabled, problems(s.f2b.Problems)
	for _, f := range s.failed {
		p.Jails = append(p.Jails, JailPlan{Jail: f.name, Errors: errorsOf(f.err), Problems: problems(f.problems)})
	}
	return p, nil
}

func (c *cell) plan() JailPlan {
	p := JailPlan{
		Jail: c.conf.Name, Filter: c.conf.Filter, Rules: len(c.def.Failregex), Sources: c.sources,
		Ports: c.options.Ports, Proto: c.options.Proto, Verdict: c.options.Verdict,
		MaxRetry: c.options.MaxRetry, FindTime: c.options.FindTime, BanTime: c.conf.BanTime, Found: c.found,
		Problems: problems(c.problems), Native: actionNames(c.native), Actions: actionNames(c.actions),
	}
	for _, d := range c.options.BanTimes {
		p.Longest = max(p.Longest, d)
	}
	for _, name := range c.sources {
		pattern, isFile := strings.CutPrefix(name, "file:")
		if files, err := filepath.Glob(pattern); isFile && err == nil && len(files) == 0 {
			p.Waits = append(p.Waits, name)
		}
	}
	return p
}

func actionNames(actions []*fail2ban.Action) (names []string) {
	for _, a := range actions {
		names = append(names, a.Actname)
	}
	return names
}

// problems takes over what is not done as it says, each once, in the order of the files.
func problems(list []fail2ban.Problem) (all []Problem) {
	for _, p := range list {
		one := Problem{File: p.Pos.File, Line: p.Pos.Line, Text: p.Msg, Instead: p.Instead}
		if !slices.Contains(all, one) {
			all = append(all, one)
		}
	}
	return all
}
