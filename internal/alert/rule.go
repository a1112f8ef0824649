package alert

import (
	_ "embed"
	"fmt"
	"math"
	"slices"
	"strconv"

	"tocsin"
	"tocsin/internal/config"
	"tocsin/internal/munin"
)

// shippedText are the rules that come with the program, in the configuration's own words.
//
//go:embed shipped.toml
var shippedText []byte

// Shipped are the rules that come with the program, before what the operator says.
func Shipped() []config.Rule {
	c, err := config.Parse("shipped.toml", shippedText)
	if err != nil {
		panic("BUG: the shipped rules cannot be read: " + err.Error())
	}
	return c.Rules
}

// ByAttributes is the name of the rule that takes its levels from what plugins and munin.conf say (warning, critical).
const ByAttributes = "limit"

// kind is what a rule judges.
type kind uint8

const (
	limits kind = iota
	forecasts
	seasons
	counts
	silences
	togethers
)

var kindNames = []string{"limit", "forecast", "season", "count", "silent", "together"}

// rule is one variant of a rule: what holds for the servers that it selects.
type rule struct {
	config.Rule
	kind              kind
	own               bool // the operator wrote or changed it
	variant           int  // among those of its name
	warn, crit        munin.Range
	okWarn, okCrit    munin.Range // within which it is over
	beyond            munin.Range
	urgency, critical tocsin.Urgency
	quiet             bool // nothing is told: other rules are made of it
}

// Rules are a set of rules that fit together.
type Rules struct {
	families   []*family
	byName     map[string]*family
	attributes *family // the rule ByAttributes
}

// family is all rules of one name; of those that select something the last counts.
type family struct {
	name     string
	variants []*rule
}

// of is the rule of this name for a server's service and field, nil if there is none or it is switched off.
func (f *family) of(group, node, service, field string) *rule {
	for _, r := range slices.Backward(f.variants) {
		if matches(r.Group, group) && matches(r.Server, node) && matches(r.Service, service) && matches(r.Field, field) {
			return r
		}
	}
	return nil
}

// ofNode is the rule of this name for a server, nil if there is none or it is switched off.
func (f *family) ofNode(group, node string) *rule {
	for _, r := range slices.Backward(f.variants) {
		if matches(r.Group, group) && matches(r.Server, node) {
			if !r.Enabled {
				return nil
			}
			return r
		}
	}
	return nil
}

func matches(patterns []string, s string) bool {
	for _, p := range patterns {
		if match(p, s) {
			return true
		}
	}
	return false
}

// match says whether s is what the pattern says: * is any text, ? one byte. The time is bounded by the product of both
// lengths, and each has few hundred bytes.
func match(pattern, s string) bool {
	p, i, star, from := 0, 0, -1, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, from = p, i
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == s[i]):
			p++
			i++
		case star >= 0:
			from++
			p, i = star+1, from
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// Compile makes a set of the shipped rules and the operator's own. Mistakes are told all at once, each with its place; the
// set is then of the rules that are in order.
func Compile(shipped, own []config.Rule) (*Rules, config.Errors) {
	rs := &Rules{byName: map[string]*family{}}
	var wrong config.Errors
	for i, all := range [][]config.Rule{shipped, own} {
		for j := range all {
			u := all[j]
			if u.Name == "" {
				continue // the configuration has told of it
			}
			f := rs.byName[u.Name]
			if f == nil {
				f = &family{name: u.Name}
			} else {
				u = u.Beneath(&f.variants[0].Rule)
			}
			r, mistakes := newRule(u)
			if len(mistakes) > 0 {
				wrong = append(wrong, mistakes...)
				continue
			}
			r.own, r.variant = i == 1, len(f.variants)
			f.variants = append(f.variants, r)
			if rs.byName[u.Name] == nil {
				rs.byName[u.Name] = f
				rs.families = append(rs.families, f)
			}
		}
	}
	rs.attributes = rs.byName[ByAttributes]
	for _, f := range rs.families {
		for _, r := range f.variants {
			wrong = append(wrong, rs.checkParts(r)...)
		}
	}
	return rs, wrong
}

// checkParts wants rules of which others are made to be there, and to be simple ones.
func (rs *Rules) checkParts(r *rule) (wrong config.Errors) {
	for _, name := range r.Of {
		f := rs.byName[name]
		switch {
		case f == nil:
			wrong = append(wrong, mistake(r, "of", "tocsin explain rules lists them", "rule %q is made of %q, which is no rule", r.Name, name))
		case f.variants[0].kind == togethers:
			wrong = append(wrong, mistake(r, "of", "name the rules that are in of there", "rule %q is made of %q, which is made of others itself", r.Name, name))
		}
	}
	return wrong
}

func mistake(r *rule, key, hint, format string, args ...any) *config.Error {
	return &config.Error{Pos: r.Pos(key), Msg: fmt.Sprintf(format, args...), Hint: hint}
}

func newRule(u config.Rule) (*rule, config.Errors) {
	r := &rule{Rule: u, kind: kind(max(0, slices.Index(kindNames, u.Kind)))}
	var wrong config.Errors
	fail := func(key, hint, format string, args ...any) {
		wrong = append(wrong, mistake(r, key, hint, "rule %q: "+format, append([]any{u.Name}, args...)...))
	}
	for _, k := range []struct {
		key, text string
		to        *munin.Range
	}{
		{"warning", u.Warning, &r.warn}, {"critical", u.Critical, &r.crit},
		{"clear_warning", u.ClearWarning, &r.okWarn}, {"clear_critical", u.ClearCritical, &r.okCrit}, {"beyond", u.Beyond, &r.beyond},
	} {
		*k.to = everything
		if k.text == "" {
			continue
		}
		var ok bool
		if *k.to, ok = munin.ParseRange(k.text); !ok || !k.to.Bounded() || k.to.Least > k.to.Most {
			fail(k.key, `write what is fine: "LEAST:MOST", "LEAST:", ":MOST" or "MOST"`, "%s %q is no range", k.key, k.text)
			*k.to = everything
		}
	}
	for _, k := range []struct {
		key         string
		ok, allowed *munin.Range
	}{{"clear_warning", &r.okWarn, &r.warn}, {"clear_critical", &r.okCrit, &r.crit}} {
		if !k.ok.Bounded() {
			*k.ok = *k.allowed
		} else if k.ok.Least < k.allowed.Least || k.ok.Most > k.allowed.Most {
			fail(k.key, "it clears at a level that is better than the one that raises it", "%s lies outside of what is fine anyway", k.key)
		}
	}
	levels := r.warn.Bounded() || r.crit.Bounded()
	switch {
	case len(wrong) > 0:
	case r.kind <= counts && !levels && u.Enabled && !(r.kind == limits && u.Name == ByAttributes):
		fail("warning", `write it like warning = ":90"`, "has neither warning nor critical")
	case r.kind == counts && !r.beyond.Bounded() && u.Enabled:
		fail("beyond", `write it like beyond = ":0"`, "counts nothing without beyond")
	case r.kind == togethers && len(u.Of) == 0 && u.Enabled:
		fail("of", `write it like of = ["disk-slow"]`, "is made of no rule")
	case (r.kind == forecasts || r.kind == seasons) && len(u.PercentOf) > 0:
		fail("percent_of", "", "compares with history, which is not in percent of anything")
	case r.kind != togethers && (len(u.Of) > 0 || len(u.Holds) > 0):
		fail("of", `write kind = "together"`, "only a rule of kind together has of and holds")
	}
	r.quiet = u.Urgency == "none"
	r.urgency, r.critical = urgencyOf(u.Urgency), urgencyOf(u.CriticalUrgency)
	return r, wrong
}

func urgencyOf(word string) tocsin.Urgency {
	switch word {
	case "urgent":
		return tocsin.Urgent
	case "soon":
		return tocsin.Soon
	}
	return tocsin.Digest
}

// everything is the range without bounds.
var everything = munin.Range{Least: math.Inf(-1), Most: math.Inf(1)}

// rangeText writes a range as Munin does; "" without bounds.
func rangeText(r munin.Range) string {
	bound := func(v float64) string {
		if math.IsInf(v, 0) {
			return ""
		}
		return strconv.FormatFloat(v, 'g', -1, 64)
	}
	if !r.Bounded() {
		return ""
	}
	return bound(r.Least) + ":" + bound(r.Most)
}

// Described is one rule for people: its variants in the order in which they were written, the last that selects something
// counts.
type Described struct {
	config.Rule
	Own bool // the operator's, or changed by the operator
}

// All are the rules of the set, by name in the order in which they came.
func (rs *Rules) All() (all []Described) {
	for _, f := range rs.families {
		for _, r := range f.variants {
			all = append(all, Described{r.Rule, r.own})
		}
	}
	return all
}

// Of is the rule of a name as it holds for a server's service and field; ok is false if there is none.
func (rs *Rules) Of(name, group, node, service, field string) (u config.Rule, ok bool) {
	f := rs.byName[name]
	if f == nil {
		return u, false
	}
	r := f.of(group, node, service, field)
	if r == nil {
		r = f.variants[0]
	}
	return r.Rule, true
}
