package alert

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"tocsin"
)

// decideWithin is how long what happens on one server waits for the others, before it is taken for its own trouble.
const decideWithin = 5 * time.Minute

// node is one server.
type node struct {
	key      Node
	services []*service
	read     time.Duration // when something was read of it last
	known    bool          // something was read since we began
	drawn    time.Duration // when services of munin.conf were looked at last that are drawn under its name; 0: never
	asked    time.Duration // when it was said last that it is asked; 0: never
	wasAsked bool          // before we began, too
	interval time.Duration // how often it is asked
	failing  bool          // it was asked and did not answer
	behind   *node         // through whom it is read; nil: it is asked itself
	since    time.Time     // since when there is no news
	out      latch         // raw: there is no news
	quiets   []silentRule
	member   []membership
	conds    [][]*check // of e.parts, made when they are needed
}

// silentRule is one rule about servers without news as it is applied to one.
type silentRule struct {
	rule  *rule
	latch latch
	key   string
}

// membership is what a server is to a rule about several.
type membership struct {
	t       *together
	touched latch // raw: at least one of its conditions begins to hold
	holds   bool  // all that it has do
}

// young says that it may still turn out to be part of something larger.
func (m *membership) young(now time.Duration) bool {
	return m.touched.raw && now-m.touched.since < decideWithin
}

type groupKey struct {
	rule  *rule
	group string
}

// together is one rule about several servers, in one group. Servers that stand in no group are one group: nobody who names none
// wants thirty messages of one outage.
type together struct {
	rule       *rule
	group, key string
	ofSilent   bool
	latch      latch
	total      int     // servers that it is about
	members    []*node // on which it holds
	candidates int     // on which it holds or may soon
	named      map[string]bool
	began      time.Time
}

// silent says that there is no news of the server.
func (n *node) silent() bool { return n.out.raw }

func (n *node) forgetConditions() { n.conds = nil }

// node is a server, which is known from now on; nil if there are too many.
func (e *Engine) node(key Node) *node {
	n := e.nodes[key]
	if n != nil {
		return n
	}
	if len(e.nodes) >= maxNodes {
		return nil
	}
	n = &node{key: key, read: e.passed}
	for _, f := range e.o.Rules.families {
		r := f.ofNode(key.Group, key.Name)
		switch {
		case r == nil:
		case r.kind == silences && key != e.o.Own:
			n.quiets = append(n.quiets, silentRule{rule: r, key: r.Name + "|" + key.Group + "|" + key.Name})
		case r.kind == togethers:
			n.member = append(n.member, membership{t: e.together(r, key.Group)})
		}
	}
	e.nodes[key] = n
	return n
}

// together is a rule in a group.
func (e *Engine) together(r *rule, group string) *together {
	k := groupKey{r, group}
	t := e.groups[k]
	if t == nil {
		t = &together{rule: r, group: group, key: r.Name + "|" + group, named: map[string]bool{}}
		if r.variant > 0 {
			t.key += "|" + strconv.Itoa(r.variant)
		}
		t.ofSilent = slices.ContainsFunc(r.Of, func(name string) bool { return e.o.Rules.byName[name].variants[0].kind == silences })
		e.groups[k] = t
	}
	return t
}

// Asked says that a server is asked every so often. It must be said again at least every minute.
func (e *Engine) Asked(group, name string, every time.Duration) {
	if n := e.node(Node{group, name}); n != nil {
		n.asked, n.wasAsked, n.interval = max(e.passed, 1), true, every
	}
}

// Behind says that a server is read through another one, as devices behind a plugin are: while that one is without news, so
// are all behind it.
func (e *Engine) Behind(group, name, through string) {
	n, t := e.node(Node{group, name}), e.node(Node{group, through})
	if n != nil && t != nil && n != t && t.behind == nil {
		n.behind = t
	}
}

// Silent says that a server was asked and does not answer, since then. What is read of it ends that.
func (e *Engine) Silent(group, name string, since time.Time) {
	if n := e.node(Node{group, name}); n != nil {
		n.failing = true
		if !n.out.raw {
			n.since = since
		}
	}
}

// Answers says that a server was asked and answered.
func (e *Engine) Answers(group, name string) {
	if n := e.node(Node{group, name}); n != nil {
		n.failing, n.known, n.read = false, true, e.passed
	}
}

// judgeNodes looks which servers are without news.
func (e *Engine) judgeNodes() {
	for _, n := range e.nodes {
		if n.key == e.o.Own {
			continue
		}
		stale := n.known && e.passed-n.read > max(staleAfter, 3*n.interval)
		if was := n.out.raw; was != (n.failing || stale) {
			n.out.raw, n.out.since = !was, e.passed
			if !n.failing && stale {
				n.since, n.out.since = e.now.Add(n.read-e.passed), n.read
			}
		}
		for i := range n.quiets {
			s := &n.quiets[i]
			if s.latch.raw != n.out.raw {
				s.latch.raw, s.latch.since = n.out.raw, n.out.since
			}
			s.latch.see(n.out.raw, e.passed, s.rule.For, s.rule.ClearFor)
			e.reportSilent(n, s)
		}
	}
}

func (e *Engine) reportSilent(n *node, s *silentRule) {
	if s.rule.quiet {
		return
	}
	level := tocsin.Fine
	if s.latch.on {
		level = tocsin.Critical
	} else if e.open[s.key] == nil {
		return
	}
	in := e.incident(s.key, level)
	if in == nil {
		return
	}
	in.rule, in.level = s.rule, level
	if level == tocsin.Fine {
		return
	}
	in.Rule, in.Group, in.Node, in.Value, in.Urgency = s.rule.Name, n.key.Group, n.key.Name, math.NaN(), s.rule.critical
	in.Began = firstOf(in.Began, n.since)
	if e.o.Conf != nil {
		if v, ok := e.o.Conf.Get(n.key.Group, n.key.Name, "", "notify_alias"); ok {
			in.alias = cut(v.Value)
		}
	}
}

// conditions are the checks of a server that a rule about several is made of.
func (e *Engine) conditions(n *node) [][]*check {
	if n.conds == nil {
		n.conds = make([][]*check, len(e.parts))
		for _, svc := range n.services {
			for _, c := range svc.checks {
				if i := slices.IndexFunc(e.parts, func(f *family) bool { return f.name == c.rule.Name }); i >= 0 {
					n.conds[i] = append(n.conds[i], c)
				}
			}
		}
	}
	return n.conds
}

// judgeGroups looks what is wrong with several servers of a group at once.
func (e *Engine) judgeGroups() {
	for _, t := range e.groups {
		t.total, t.candidates, t.members = 0, 0, t.members[:0]
	}
	for _, n := range e.nodes {
		if len(n.member) == 0 || e.silenced(n.key.Group, n.key.Name, "") {
			continue
		}
		for i := range n.member {
			e.judgeMember(n, &n.member[i])
		}
	}
	for _, t := range e.groups {
		e.judgeGroup(t)
	}
}

// judgeMember looks whether a rule about several holds on a server.
func (e *Engine) judgeMember(n *node, m *membership) {
	t := m.t
	if t.ofSilent && n.behind != nil {
		return // whom it is read through counts
	}
	has, any, all := false, false, true
	if t.ofSilent {
		if n.key == e.o.Own || n.drawn != 0 && !n.known && !n.wasAsked {
			return // no news is expected of it
		}
		has, any = true, n.out.raw
		all = any && e.passed-n.out.since >= t.rule.For
	} else if !n.out.raw {
		for i, f := range e.parts {
			if checks := e.conditions(n)[i]; len(checks) > 0 && slices.Contains(t.rule.Of, f.name) {
				raw, on := false, false
				for _, c := range checks {
					raw = raw || c.raisedW.raw || c.raisedC.raw
					on = on || c.level >= tocsin.Warning
				}
				has, any, all = true, any || raw || on, all && on
			}
		}
	}
	if !has {
		return
	}
	m.touched.see(any, e.passed, 0, 0)
	m.holds = all
	t.total++
	if m.holds {
		t.members = append(t.members, n)
	}
	if m.holds || t.ofSilent && any || m.young(e.passed) {
		t.candidates++
	}
}

// enough says whether so many servers are what the rule asks for.
func (t *together) enough(n int) bool { return n >= t.rule.Servers && n*100 >= t.rule.Share*t.total }

func (e *Engine) judgeGroup(t *together) {
	raw := t.enough(len(t.members))
	if t.latch.on {
		raw = len(t.members) >= 2
	}
	rise := t.rule.For
	if t.ofSilent && t.candidates == len(t.members) {
		rise = 0 // each server has waited, and no other is about to be named
	}
	if raw && !t.latch.raw {
		t.began = e.now
	}
	t.latch.see(raw, e.passed, rise, t.rule.ClearFor)
	if t.rule.quiet {
		return
	}
	if !t.latch.on {
		if in := e.open[t.key]; in != nil {
			in.level = tocsin.Fine
		}
		clear(t.named)
		return
	}
	level, urgency := tocsin.Warning, t.rule.urgency
	if t.ofSilent {
		level, urgency = tocsin.Critical, t.rule.critical
	}
	in := e.incident(t.key, level)
	if in == nil {
		return
	}
	for _, n := range t.members {
		if len(t.named) < maxMembers && !t.named[n.key.Name] {
			t.named[n.key.Name] = true
			in.altered = true
		}
	}
	in.Members = in.Members[:0:0]
	for name := range t.named {
		in.Members = append(in.Members, name)
	}
	slices.SortFunc(in.Members, natural)
	in.rule, in.level, in.Rule, in.Group, in.Urgency = t.rule, level, t.rule.Name, t.group, urgency
	in.Value, in.Limit = float64(len(t.members)), ":"+strconv.Itoa(t.rule.Servers-1)
	in.Began = firstOf(in.Began, t.began)
}

// natural puts web2 before web10.
func natural(a, b string) int {
	if i, j := strings.TrimRight(a, "0123456789"), strings.TrimRight(b, "0123456789"); i == j && len(a) != len(b) {
		return len(a) - len(b)
	}
	return strings.Compare(a, b)
}

// heldBy says why nothing is told of an incident; "": it is told.
func (e *Engine) heldBy(in *incident) string {
	if e.silenced(in.Group, in.Node, in.Rule) {
		return "silence"
	}
	n := e.nodes[Node{in.Group, in.Node}]
	if in.Node == "" || n == nil {
		return ""
	}
	silent := in.rule != nil && in.rule.kind == silences
	if silent && n.behind != nil && n.behind.silent() {
		return "server"
	}
	if n.silent() && !silent {
		return "server"
	}
	for i := range n.member {
		m := &n.member[i]
		switch {
		case silent && !slices.Contains(m.t.rule.Of, in.Rule):
		case silent && (m.t.latch.on || m.t.enough(m.t.candidates)):
			return "group"
		case silent:
		case !matches(m.t.rule.Holds, in.Series.Service) && !slices.Contains(m.t.rule.Of, in.Rule):
		case m.t.latch.on, m.young(e.passed), m.holds && m.t.enough(m.t.candidates):
			return "group"
		}
	}
	return ""
}
