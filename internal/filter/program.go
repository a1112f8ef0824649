package filter

import (
	"errors"
	"reflect"
	"slices"
	"time"

	"tocsin/internal/fail2ban"
	"tocsin/internal/regex"
)

// Program is a compiled filter. It is immutable and may be shared by goroutines; each source takes a Filter of its own of
// it, which follows that source's dates and sessions.
type Program struct {
	def         fail2ban.Filter
	names       []string // of the groups, by slot
	told        []slot   // those whose text matters, and that some rule has
	fills       []fills  // by rule
	port        slot     // of a group that is simply named port, for logins; -1: none
	rules       struct{ prefix, fail, ignore *rules }
	content     int // the group of prefix that is the content; 0: the whole line
	ignoreFirst bool
	dates       []datePattern
}

// Compile compiles a filter. Every mistake in it is told at once, each with the file and line of the expression and the
// place inside it (fail2ban.Errors lists them).
func Compile(def fail2ban.Filter) (*Program, error) {
	p := &Program{def: def}
	c := newCompiler(def)
	var err error
	if p.dates, err = parsePatterns(def.Datepattern); err != nil {
		c.errs = append(c.errs, err)
	}
	p.compile(c)
	if len(c.errs) > 0 {
		return nil, errors.Join(c.errs...)
	}
	p.names, p.port = c.names, slices.Index(c.names, "port")
	for i := range p.names {
		if tells(i) && c.used[i] {
			p.told = append(p.told, i)
		}
	}
	for i := range p.rules.fail.groups {
		p.fills = append(p.fills, p.fillsOf(i))
	}
	return p, nil
}

// compile sets the rules of p.
func (p *Program) compile(c *compiler) {
	def := &p.def
	if len(def.Failregex) == 0 {
		c.errs = append(c.errs, errors.New("filter "+def.Name+" has no failregex"))
		return
	}
	named := false
	if def.Prefregex.Text != "" {
		named = true
		if r := c.list("prefregex", []fail2ban.Regex{def.Prefregex}, 0); r != nil {
			p.rules.prefix = r
			named = r.groups[0].identifies()
			p.content = r.groups[0].group(slotContent)
		}
	}
	var flags regex.Flags
	if def.Maxlines > 1 {
		flags = regex.Multiline
	}
	fail := c.list("failregex", def.Failregex, flags)
	p.rules.fail, p.rules.ignore = fail, c.list("ignoreregex", def.Ignoreregex, 0)
	p.ignoreFirst = len(def.Ignoreregex) > 0 && len(def.Ignoreregex) < len(def.Failregex)-2
	for i, re := range def.Failregex {
		if fail != nil && !named && !fail.groups[i].identifies() {
			c.fail(re, "failregex", "nothing in it says who is to blame", "write <HOST> or <ADDR> where the address stands, or tie lines together with <F-MLFID>")
		}
	}
}

// Of says whether p was compiled of this filter.
func (p *Program) Of(def *fail2ban.Filter) bool { return reflect.DeepEqual(&p.def, def) }

// Rules are the failregex as they were written, in the order of Result.Rule.
func (p *Program) Rules() []string {
	texts := make([]string, len(p.def.Failregex))
	for i, re := range p.def.Failregex {
		texts[i] = re.Text
	}
	return texts
}

// Dates returns a Dates for the filter's datepattern. loc and now are those of NewDates.
func (p *Program) Dates(loc *time.Location, now func() time.Time) *Dates {
	d := NewDates(loc, now)
	d.use(p.dates)
	return d
}

// Filter returns a Filter for one source.
func (p *Program) Filter(o Options) *Filter {
	f := &Filter{Program: p, now: o.Now, noDate: o.NoDate, noLines: o.NoLines, dates: o.Dates}
	if f.now == nil {
		f.now = time.Now
	}
	if f.dates == nil {
		f.dates = p.Dates(o.Location, o.Now)
	}
	if p.def.Maxlines > 1 {
		f.ring = &ring{most: min(p.def.Maxlines, maxRingLines)}
	}
	f.prefix, f.fail, f.ignore = p.rules.prefix.work(), p.rules.fail.work(), p.rules.ignore.work()
	f.spans, f.values = make([]span, len(p.names)), make(parts, len(p.names))
	for i := range f.spans {
		f.spans[i] = unset
	}
	f.sessions = newSessions(len(p.names), p.told)
	if o.Groups {
		f.groups = &found{}
	}
	return f
}
