// Package alert holds the limits and rules of warnings: samples go in, changes of incidents come out.
//
// It has no clock, does no I/O and starts no goroutine: the time is that of Tick, so a month of samples in a second gives the
// same messages as a month. How long something lasts is counted in the time that passes between two Ticks, at most a minute
// each, so that a clock that is set ends no waiting and begins none.
//
// The one thing to know: whatever was told as begun is told as over, once, whatever happens in between.
package alert

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"tocsin"
	"tocsin/internal/munin"
)

// Bounds. What is beyond is left out and counted.
const (
	maxServices  = 200_000
	maxChecks    = 500_000
	maxNodes     = 20_000
	maxIncidents = 10_000
	maxMembers   = 1_000
	maxText      = 500 // bytes of a label or of what a plugin adds
)

// Times of the engine.
const (
	longestStep   = time.Minute      // that passes between two Ticks
	staleAfter    = 10 * time.Minute // a value older than this is unknown, as in Munin
	sweepEvery    = 10 * time.Second
	forgetAfter   = 24 * time.Hour // what was not read for so long is forgotten
	unaskedAfter  = 10 * time.Minute
	memoryOfEnded = time.Hour // within which an incident that begins again keeps its number
)

// Options are what the engine is made of.
type Options struct {
	Rules *Rules
	// Conf is munin.conf, whose limits go before the shipped rules; nil: there is none.
	Conf *munin.MasterConf
	Own  Node // this machine, which is never silent
	// Zone is where an hour of the day is the same hour of the day a week ago; nil: UTC.
	Zone *time.Location
	Next int64 // the number of the first incident, if the snapshot knows no higher one; 0 is 1
}

// Node names a server.
type Node struct{ Group, Name string }

// Engine is all that is judged. It must be used by one goroutine at a time.
type Engine struct {
	o        Options
	now      time.Time
	passed   time.Duration // as Tick tells it, restarts included
	started  time.Duration // what passed was when this engine began
	swept    time.Duration
	services map[serviceKey]*service
	nodes    map[Node]*node
	checks   int
	open     map[string]*incident // by key, those that ended within the last hour included
	byID     map[int64]*incident
	next     int64
	silences []Silence
	groups   map[groupKey]*together
	restored map[serviceKey]map[string]savedCheck // states of checks of services that were not read yet
	parts    []*family                            // of which rules of kind together are made
	wants    []Want
	stats    Stats
}

// Stats count what the engine holds, and what it had to leave out.
type Stats struct {
	Services, Checks, Nodes, Incidents int
	Judged                             uint64 // values
	Dropped                            uint64 // services, checks, servers and incidents beyond the bounds
	Wrong                              uint64 // limits of plugins that are no ranges
	Told                               uint64
}

type serviceKey struct{ group, node, service string }

// service is one service of a server with what is judged of it.
type service struct {
	key    serviceKey
	node   *node
	desc   *munin.Service
	read   time.Duration // when it was read last
	fields map[string]*field
	checks []*check
}

// field is what one curve is needed for.
type field struct {
	checks []*check
	parts  []*part // of sums
}

// part is one field of a sum of which another is a percentage.
type part struct{ value float64 }

// New begins with nothing known.
func New(o Options) (*Engine, error) {
	if o.Rules == nil {
		return nil, errors.New("warnings need rules")
	}
	if o.Zone == nil {
		o.Zone = time.UTC
	}
	e := &Engine{
		o: o, next: max(o.Next, 1), services: map[serviceKey]*service{}, nodes: map[Node]*node{}, open: map[string]*incident{},
		byID: map[int64]*incident{}, groups: map[groupKey]*together{}, restored: map[serviceKey]map[string]savedCheck{},
	}
	for _, f := range o.Rules.families {
		for _, r := range f.variants {
			for _, name := range r.Of {
				if part := o.Rules.byName[name]; part != nil && !slices.Contains(e.parts, part) {
					e.parts = append(e.parts, part)
				}
			}
		}
	}
	return e, nil
}

// Stats tells how much there is.
func (e *Engine) Stats() Stats {
	s := e.stats
	s.Services, s.Checks, s.Nodes, s.Incidents = len(e.services), e.checks, len(e.nodes), len(e.open)
	return s
}

// Read says that a service of a server was read, and how it is described now. The description must not change afterwards.
// Its values come by Observe.
func (e *Engine) Read(group, name string, s *munin.Service) {
	if svc := e.service(group, name, s); svc != nil {
		svc.node.read, svc.node.known, svc.node.failing = e.passed, true, false
	}
}

// Drawn says that a service of munin.conf is made of others' curves, which were looked at now. That is no news of the server
// that it stands under: there may be none.
func (e *Engine) Drawn(group, name string, s *munin.Service) {
	if svc := e.service(group, name, s); svc != nil {
		svc.node.drawn = max(e.passed, 1)
	}
}

// service is one that was read now, and is described like this; nil if there are too many.
func (e *Engine) service(group, name string, s *munin.Service) *service {
	key := serviceKey{group, name, s.Name}
	svc := e.services[key]
	if svc == nil {
		n := e.node(Node{group, name})
		if n == nil || len(e.services) >= maxServices {
			e.stats.Dropped++
			return nil
		}
		svc = &service{key: key, node: n}
		e.services[key] = svc
		n.services = append(n.services, svc)
	}
	svc.read = e.passed
	if svc.desc == s {
		return svc
	}
	if svc.desc == nil || !svc.desc.Same(s) {
		e.describe(svc, s)
	}
	svc.desc = s
	return svc
}

// Observe takes one value; NaN is a value that was read as unknown. It does not allocate.
func (e *Engine) Observe(s *tocsin.Sample) {
	svc := e.services[serviceKey{s.Group, s.Node, s.Service}]
	if svc == nil {
		return
	}
	f := svc.fields[s.Field]
	if f == nil {
		return
	}
	if !math.IsNaN(s.Value) {
		for _, p := range f.parts {
			p.value = s.Value
		}
	}
	for _, c := range f.checks {
		e.judge(c, s.Value, s.T)
	}
}

// describe makes the checks of a service anew. What was judged before goes on as it was.
func (e *Engine) describe(svc *service, s *munin.Service) {
	old := svc.checks
	svc.checks, svc.fields = nil, make(map[string]*field)
	seen := map[string]bool{}
	for i := range s.Fields {
		f := &s.Fields[i]
		if seen[f.Name] {
			continue
		}
		seen[f.Name] = true
		for _, c := range e.checksOf(svc, s, f) {
			if at := slices.IndexFunc(old, func(o *check) bool { return o.key == c.key }); at >= 0 {
				c.goOn(old[at])
				old = slices.Delete(old, at, at+1)
			} else if e.checks >= maxChecks {
				e.stats.Dropped++
				continue
			} else {
				e.checks++
				e.adopt(c)
			}
			svc.add(c, s)
			e.refresh(c)
		}
	}
	for _, c := range old {
		e.checks--
		e.gone(c.key)
	}
	for key := range e.restored[svc.key] { // of rules that are no more
		e.gone(key)
	}
	delete(e.restored, svc.key)
	svc.node.forgetConditions()
}

// add enters a check where its values come in.
func (svc *service) add(c *check, s *munin.Service) {
	at := func(name string) *field {
		f := svc.fields[name]
		if f == nil {
			f = &field{}
			svc.fields[name] = f
		}
		return f
	}
	svc.checks = append(svc.checks, c)
	f := at(c.field)
	f.checks = append(f.checks, c)
	c.parts = c.parts[:0]
	for _, name := range c.rule.PercentOf {
		if s.Field(name) == nil {
			continue
		}
		p := &part{math.NaN()}
		c.parts = append(c.parts, p)
		of := at(name)
		of.parts = append(of.parts, p)
	}
}

// checksOf is what has to be judged of a field: the rules that select it, and its own limits where no rule has levels for it.
func (e *Engine) checksOf(svc *service, s *munin.Service, f *munin.Field) (all []*check) {
	k := svc.key
	own, said := e.ownLimits(svc, s, f)
	covered := false
	for _, fam := range e.o.Rules.families {
		if fam == e.o.Rules.attributes {
			continue
		}
		r := fam.of(k.group, k.node, k.service, f.Name)
		if r == nil || r.kind >= silences {
			continue
		}
		if r.kind == limits && !r.quiet {
			if said && !r.own {
				continue // munin.conf knows better than what is shipped
			}
			covered = true
		}
		if r.Enabled {
			all = append(all, e.newCheck(svc, s, f, r))
		}
	}
	if own != nil && !covered {
		all = append(all, own)
	}
	return all
}

// ownLimits is the check of the limits that a field has itself, nil if there is none. said: they come from munin.conf.
func (e *Engine) ownLimits(svc *service, s *munin.Service, f *munin.Field) (c *check, said bool) {
	if e.o.Rules.attributes == nil {
		return nil, false
	}
	k := svc.key
	r := e.o.Rules.attributes.of(k.group, k.node, k.service, f.Name)
	if r == nil || !r.Enabled {
		return nil, false
	}
	l := e.o.Conf.Limits(k.group, k.node, s, f)
	e.stats.Wrong += uint64(len(l.Wrong))
	if !l.Warning.Bounded() && !l.Critical.Bounded() {
		return nil, false
	}
	if e.o.Conf != nil {
		_, warns := e.o.Conf.Get(k.group, k.node, k.service+"."+f.Name, "warning")
		_, criticals := e.o.Conf.Get(k.group, k.node, k.service+"."+f.Name, "critical")
		said = warns || criticals
	}
	c = e.newCheck(svc, s, f, r)
	c.warn, c.okWarn, c.crit, c.okCrit = l.Warning, l.Warning, l.Critical, l.Critical
	if r.warn.Bounded() {
		c.warn, c.okWarn = r.warn, r.okWarn // the operator gave all of them one level
	}
	if r.crit.Bounded() {
		c.crit, c.okCrit = r.crit, r.okCrit
	}
	c.unknownLimit, c.tellsUnknown = l.Unknown, true
	return c, said
}

func (e *Engine) newCheck(svc *service, s *munin.Service, f *munin.Field, r *rule) *check {
	k := svc.key
	c := &check{
		key: r.Name + "|" + k.group + "|" + k.node + "|" + k.service + "|" + f.Name,
		svc: svc, rule: r, field: f.Name, warn: r.warn, crit: r.crit, okWarn: r.okWarn, okCrit: r.okCrit, value: math.NaN(),
	}
	label, _ := f.Get("label")
	extra, _ := f.Get("extinfo")
	c.label, c.extra = cut(label), cut(extra)
	if e.o.Conf != nil {
		c.contacts = contactsOf(e.o.Conf, k, s)
		if v, ok := e.o.Conf.Get(k.group, k.node, "", "notify_alias"); ok {
			c.alias = cut(v.Value)
		}
	}
	c.shape()
	return c
}

// contactsOf are the names that "contacts" gives at the nearest place; nil where nothing is said.
func contactsOf(m *munin.MasterConf, k serviceKey, s *munin.Service) []string {
	_, said := s.Get("contacts")
	if _, ok := m.Get(k.group, k.node, k.service, "contacts"); !ok && !said {
		return nil
	}
	names := []string{}
	for _, c := range m.ContactsOf(k.group, k.node, s) {
		names = append(names, c.Name)
	}
	return names
}

// cut bounds a stranger's text.
func cut(s string) string {
	if len(s) <= maxText {
		return s
	}
	n := maxText
	for n > 0 && s[n]&0xc0 == 0x80 {
		n--
	}
	return s[:n] + "…"
}

// Tick lets time pass until now, and returns what there is to tell and to keep.
func (e *Engine) Tick(now time.Time) []tocsin.Change {
	if !e.now.IsZero() {
		switch d := now.Sub(e.now); {
		case d < 0:
		case d > longestStep:
			e.passed += longestStep
		default:
			e.passed += d
		}
	}
	e.now = now
	if e.passed-e.swept >= sweepEvery || e.swept > e.passed {
		e.swept = e.passed
		e.sweep()
	}
	e.judgeNodes()
	e.judgeGroups()
	return e.settle()
}

// sweep looks for what was not read for long.
func (e *Engine) sweep() {
	for key, svc := range e.services {
		since := e.passed - svc.read
		switch {
		case since > forgetAfter:
			e.dropService(key, svc)
		case since > staleAfter && !svc.node.silent() && svc.node.read != svc.read:
			for _, c := range svc.checks {
				if c.tellsUnknown && c.step > 0 && since > max(c.gap(), 3*svc.node.interval) {
					e.missing(c)
				}
			}
		}
	}
	if e.passed-e.started > forgetAfter {
		for _, of := range e.restored {
			for key := range of {
				e.gone(key)
			}
		}
		clear(e.restored)
	}
	for key, n := range e.nodes {
		asked := n.asked != 0 && e.passed-n.asked <= longestStep
		switch {
		case n.wasAsked && !asked && !n.known && e.passed-e.started > unaskedAfter,
			!asked && e.passed-max(n.read, n.drawn) > forgetAfter:
			e.drop(key, n)
		}
	}
}

func (e *Engine) dropService(key serviceKey, svc *service) {
	for _, c := range svc.checks {
		e.checks--
		e.gone(c.key)
	}
	delete(e.services, key)
	svc.node.services = slices.DeleteFunc(svc.node.services, func(o *service) bool { return o == svc })
	svc.node.forgetConditions()
}

// Forget takes a server out with all that is wrong with it.
func (e *Engine) Forget(group, name string) {
	if n := e.nodes[Node{group, name}]; n != nil {
		e.drop(n.key, n)
	}
}

func (e *Engine) drop(key Node, n *node) {
	for _, svc := range slices.Clone(n.services) {
		e.dropService(svc.key, svc)
	}
	for k, in := range e.open {
		if in.Group == key.Group && in.Node == key.Name {
			e.gone(k)
		}
	}
	delete(e.nodes, key)
}

// Ack notes that somebody looks after an incident; the zero Ack takes that back. It returns the incident and what there is
// to keep.
func (e *Engine) Ack(id int64, a tocsin.Ack) (tocsin.Change, error) {
	in := e.byID[id]
	if in == nil || in.over() {
		return tocsin.Change{}, fmt.Errorf("no incident #%d is open", id)
	}
	in.Ack = a
	in.Changed = a.At
	return in.change(tocsin.Acked, a.At, false), nil
}

// Open are the incidents that are not over and were told, or would be but for an acknowledgement, the oldest first.
func (e *Engine) Open() (all []tocsin.Incident) {
	for _, in := range e.open {
		if in.ID != 0 && !in.over() {
			all = append(all, in.copied())
		}
	}
	slices.SortFunc(all, func(a, b tocsin.Incident) int { return int(a.ID - b.ID) })
	return all
}

// Held is one that is wrong but not told, and why.
type Held struct {
	tocsin.Incident
	By string // silence, server, group
}

// Held are those that are not told because of something else: a silence, or a server or group that is out as a whole.
func (e *Engine) Held() (all []Held) {
	for _, in := range e.open {
		if by := e.heldBy(in); in.ID == 0 && in.level > tocsin.Fine && by != "" {
			all = append(all, Held{in.copied(), by})
		}
	}
	slices.SortFunc(all, func(a, b Held) int {
		if a.Began.Equal(b.Began) {
			return slices.Compare([]string{a.Key}, []string{b.Key})
		}
		return a.Began.Compare(b.Began)
	})
	return all
}
