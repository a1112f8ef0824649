package locale

import (
	"math"
	"strconv"
	"strings"

	"tocsin"
)

// Level is the word for a level.
func (l *Locale) Level(v tocsin.Level) string { return l.T("level." + v.String()) }

// Urgency is the word for an urgency.
func (l *Locale) Urgency(v tocsin.Urgency) string { return l.T("urgency." + v.String()) }

// Limit writes a range of Munin's, which says what is fine: "entre 10 et 90", "au plus 90". "" stays "". Numbers that are
// none stay as they are: Munin's attributes are strangers' text, and are made harmless.
func (l *Locale) Limit(limit string) string { return l.limit(limit, "") }

// limit writes the numbers in one of the forms of placeholders.
func (l *Locale) limit(limit, form string) string {
	low, high, ranged := strings.Cut(strings.TrimSpace(limit), ":")
	if !ranged {
		low, high = "", low
	}
	low, high = l.bound(low, form), l.bound(high, form)
	switch {
	case low != "" && high != "":
		return l.T("limit.between", "low", low, "high", high)
	case low != "":
		return l.T("limit.least", "low", low)
	case high != "":
		return l.T("limit.most", "high", high)
	}
	return ""
}

func (l *Locale) bound(s, form string) string {
	s = strings.TrimSpace(s)
	n, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return tocsin.Printable(s)
	}
	return l.form(form, n)
}

// Where says what an incident is about, as shortly as is clear: the server, or the group.
func (l *Locale) Where(in *tocsin.Incident) string {
	switch {
	case in.Node != "":
		return tocsin.Printable(in.Node)
	case in.Group != "":
		return tocsin.Printable(in.Group)
	}
	return l.T("alert.everywhere")
}

// maxMembers is how many servers one sentence names.
const maxMembers = 12

// Incident writes what an incident is: a title that fits into a subject, and a sentence or two that say the numbers.
//
// Both come from alert.RULE.title and alert.RULE.text; where there is no value from alert.RULE.unknown, if there is such a
// sentence. A rule of the user's own, which has no sentences, gets those of its kind, as far as the incident tells:
// forecast, together, silent or limit.
//
// The sentences may use {where}, {node}, {group}, {what} (service and curve), {service}, {field}, {label}, {extra}, {rule},
// {value}, {limit} (in words; both take a form, as in {limit:percent}), {members}, {n} (of members), {full} and {since}.
func Incident(l *Locale, in tocsin.Incident) (title, text string) {
	return l.Incident(&in)
}

// Incident is the function of that name.
func (l *Locale) Incident(in *tocsin.Incident) (title, text string) {
	base := "alert." + in.Rule
	if !l.Has(base + ".title") {
		base = "alert." + kind(in)
	}
	if math.IsNaN(in.Value) && l.Has(base+".unknown.title") {
		base += ".unknown"
	}
	return l.about(base+".title", in), l.about(base+".text", in)
}

// kind guesses the kind of rule from what it left in the incident.
func kind(in *tocsin.Incident) string {
	switch {
	case len(in.Members) > 0:
		return "together"
	case !in.Full.IsZero():
		return "forecast"
	case in.Series == tocsin.Series{}:
		return "silent"
	case in.Limit == "":
		return "other"
	}
	return "limit"
}

func (l *Locale) about(key string, in *tocsin.Incident) string {
	what := in.Series.Service
	switch {
	case in.Label != "" && in.Label != in.Series.Service:
		what += " (" + in.Label + ")"
	case in.Series.Field != "":
		what += " (" + in.Series.Field + ")"
	}
	return strings.TrimSpace(l.T(key, "where", l.Where(in), "node", in.Node, "group", in.Group, "what", what, "rule", in.Rule,
		"service", in.Series.Service, "field", in.Series.Field, "label", firstOf(in.Label, in.Series.Field), "extra", in.Extra,
		"value", in.Value, "limit", limitText(in.Limit), "members", l.AndMore(in.Members, maxMembers), "n", len(in.Members),
		"full", in.Full, "since", in.Began))
}

// limitText is a limit as a value of a placeholder: its numbers take the placeholder's form.
type limitText string

func firstOf(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
