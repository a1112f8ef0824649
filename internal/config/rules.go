package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Bounds of rules.
const (
	maxRuleTime = 7 * 24 * time.Hour
	maxPatterns = 200 // of one key
	maxPattern  = 300 // bytes
)

// Rule is one [[rule]]: what is judged, and from when on somebody is told. A key that the file does not name has its
// default, or that of an earlier rule of the same name: Has tells which were named.
type Rule struct {
	Name    string
	Enabled bool
	Kind    string // one of ruleKinds

	Group, Server, Service, Field []string // patterns; never empty

	Warning, Critical, ClearWarning, ClearCritical string // in Munin's range words; "": none
	For, ClearFor, Mean                            time.Duration
	PercentOf                                      []string // fields
	Over                                           time.Duration
	Full                                           float64
	Weeks                                          int
	Beyond                                         string
	Of                                             []string // names of rules
	Servers, Share                                 int
	Holds                                          []string // patterns of services
	Urgency, CriticalUrgency                       string   // one of urgencies

	where map[string]Pos
}

var (
	ruleKinds = []string{"limit", "forecast", "season", "count", "silent", "together"}
	urgencies = []string{"none", "digest", "soon", "urgent"}
)

// Has says whether the file names a key of this rule.
func (u *Rule) Has(key string) bool { _, ok := u.where[key]; return ok }

// Pos is where the value of a key of this rule stands; for a key that is left at its default it is where the rule begins.
func (u *Rule) Pos(key string) Pos { return placeOf(u.where, key) }

// Beneath is this rule as it changes another of its name, or one that is like it: the keys that it names are its own, all
// others are the other's.
func (u *Rule) Beneath(other *Rule) Rule {
	merged := *other
	merged.where = map[string]Pos{"": u.Pos("")}
	for key, pos := range other.where {
		if key != "" {
			merged.where[key] = pos
		}
	}
	for i := range keys {
		k := &keys[i]
		if k.Table != "rule" || !u.Has(k.Name) {
			continue
		}
		u.copyKey(&merged, k.Name)
		merged.where[k.Name] = u.where[k.Name]
	}
	return merged
}

// copyKey gives to the value of a key.
func (u *Rule) copyKey(to *Rule, key string) {
	switch key {
	case "name":
		to.Name = u.Name
	case "enabled":
		to.Enabled = u.Enabled
	case "kind":
		to.Kind = u.Kind
	case "group":
		to.Group = u.Group
	case "server":
		to.Server = u.Server
	case "service":
		to.Service = u.Service
	case "field":
		to.Field = u.Field
	case "warning":
		to.Warning = u.Warning
	case "critical":
		to.Critical = u.Critical
	case "clear_warning":
		to.ClearWarning = u.ClearWarning
	case "clear_critical":
		to.ClearCritical = u.ClearCritical
	case "for":
		to.For = u.For
	case "clear_for":
		to.ClearFor = u.ClearFor
	case "mean":
		to.Mean = u.Mean
	case "percent_of":
		to.PercentOf = u.PercentOf
	case "over":
		to.Over = u.Over
	case "full":
		to.Full = u.Full
	case "weeks":
		to.Weeks = u.Weeks
	case "beyond":
		to.Beyond = u.Beyond
	case "of":
		to.Of = u.Of
	case "servers":
		to.Servers = u.Servers
	case "share":
		to.Share = u.Share
	case "holds":
		to.Holds = u.Holds
	case "urgency":
		to.Urgency = u.Urgency
	case "critical_urgency":
		to.CriticalUrgency = u.CriticalUrgency
	default:
		panic("BUG: the key " + key + " of a rule is not copied")
	}
}

// Setting is one key with its value as it would be written.
type Setting struct{ Key, Value string }

// Settings are the keys that the rule, or what it is made of, names, in the order of the manual.
func (u *Rule) Settings() (all []Setting) {
	for i := range keys {
		if k := &keys[i]; k.Table == "rule" && u.Has(k.Name) {
			all = append(all, Setting{k.Name, u.text(k.Name)})
		}
	}
	return all
}

// text writes the value of a key.
func (u *Rule) text(key string) string {
	switch key {
	case "enabled":
		return strconv.FormatBool(u.Enabled)
	case "group":
		return quotedList(u.Group)
	case "server":
		return quotedList(u.Server)
	case "service":
		return quotedList(u.Service)
	case "field":
		return quotedList(u.Field)
	case "percent_of":
		return quotedList(u.PercentOf)
	case "of":
		return quotedList(u.Of)
	case "holds":
		return quotedList(u.Holds)
	case "for":
		return strconv.Quote(FormatDuration(u.For))
	case "clear_for":
		return strconv.Quote(FormatDuration(u.ClearFor))
	case "mean":
		return strconv.Quote(FormatDuration(u.Mean))
	case "over":
		return strconv.Quote(FormatDuration(u.Over))
	case "full":
		return strconv.FormatFloat(u.Full, 'g', -1, 64)
	case "weeks":
		return strconv.Itoa(u.Weeks)
	case "servers":
		return strconv.Itoa(u.Servers)
	case "share":
		return strconv.Itoa(u.Share)
	}
	return strconv.Quote(map[string]string{
		"name": u.Name, "kind": u.Kind, "warning": u.Warning, "critical": u.Critical, "clear_warning": u.ClearWarning,
		"clear_critical": u.ClearCritical, "beyond": u.Beyond, "urgency": u.Urgency, "critical_urgency": u.CriticalUrgency,
	}[key])
}

// quotedList writes one text, or a list of them.
func quotedList(all []string) string {
	words := make([]string, len(all))
	for i, s := range all {
		words[i] = strconv.Quote(s)
	}
	if len(words) == 1 {
		return words[0]
	}
	return "[" + strings.Join(words, ", ") + "]"
}

// newRule begins another rule; nil if there are too many.
func (r *reader) newRule(at int) *section {
	return r.begin("rule", at, &r.rules, maxRules, target{rule: &Rule{where: r.beginning(at)}})
}

// finishRules does what needs a whole [[rule]]. What a rule takes over from another of its name is not known here.
func (r *reader) finishRules() {
	for _, s := range r.rules {
		if _, ok := s.seen["name"]; !ok {
			r.fail(s.at, `write it like name = "disk-space"`, "rule without a name")
		}
		r.config.Rules = append(r.config.Rules, *s.target.rule)
	}
}

// plainText takes any short text; what it means the room of warnings knows.
func plainText(s string) error {
	if len(s) <= maxPattern {
		return nil
	}
	return &Error{Msg: fmt.Sprintf("%q is too long", clip(s))}
}

func checkRuleName(s string) error {
	if isName(s) {
		return nil
	}
	return &Error{Msg: fmt.Sprintf("%q is not a name for a rule", clip(s)), Hint: "up to 48 letters, digits, and _ . - behind the first"}
}

func checkFieldName(s string) error {
	if s != "" && len(s) <= 200 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == "" {
		return nil
	}
	return &Error{Msg: fmt.Sprintf("%q is not the name of a field", clip(s)), Hint: "letters, digits and _; tocsin server NAME shows them"}
}

func checkRuleKind(s string) error { return oneOf(s, "kind of rule", ruleKinds) }

func checkUrgency(s string) error { return oneOf(s, "urgency", urgencies) }

func oneOf(s, what string, words []string) error {
	if slices.Contains(words, s) {
		return nil
	}
	return &Error{Msg: fmt.Sprintf("%q is no %s", clip(s), what), Hint: "write one of " + strings.Join(words, ", ")}
}

// patterns takes a text or a list of texts with * and ? in them.
func patterns(field func(target) *[]string) setter {
	return func(a *assignment, v value) {
		items := []value{v}
		switch {
		case v.kind == list && !a.fits(v, maxPatterns):
			return
		case v.kind == list:
			items = v.items
		case v.kind != text:
			a.fail(v, `write it like "web*" or ["web1", "web2"]`, "is a text or a list of texts, not %s", described(v))
			return
		}
		all := []string{}
		for _, item := range items {
			switch {
			case item.kind != text:
				a.fail(item, "write each between quotes", "holds texts, not %s", described(item))
			case len(item.text) > maxPattern || strings.ContainsFunc(item.text, func(c rune) bool { return c < ' ' || c == 0x7f }):
				a.fail(item, "", "holds %q, which is no pattern", clip(item.text))
			default:
				all = append(all, item.text)
			}
		}
		if v.kind == list && len(all) == 0 && a.key.Name != "holds" {
			a.fail(v, `for all write "*"`, "is an empty list: the rule would select nothing")
			return
		}
		*field(a.target) = all
	}
}
