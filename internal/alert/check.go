package alert

import (
	"math"
	"slices"
	"time"

	"tocsin"
	"tocsin/internal/munin"
)

// check is one rule applied to one curve.
type check struct {
	key            string
	svc            *service
	rule           *rule
	field          string
	label, extra   string // a plugin's words
	contacts       []string
	alias          string
	warn, crit     munin.Range
	okWarn, okCrit munin.Range
	tellsUnknown   bool
	unknownLimit   int

	value     float64 // the last one, as it came
	judged    float64 // what was compared
	at        int64   // of the last value, Unix milliseconds
	step      int64   // between the last two
	unknowns  int     // in a row
	raisedW   latch
	raisedC   latch
	began     time.Time // when it went beyond
	level     tocsin.Level
	parts     []*part
	mean      *mean
	line      *line
	band      *band
	crossings *crossings
}

// shape makes what the kind of rule needs.
func (c *check) shape() {
	if c.rule.Mean > 0 {
		c.mean = newMean(c.rule.Mean)
	}
	switch c.rule.kind {
	case forecasts:
		c.line = newLine(c.rule.Over)
	case seasons:
		c.band = &band{}
	case counts:
		c.crossings = &crossings{}
	}
}

// goOn takes over what is known from the check that judged the same curve by the same rule before. Levels may have changed.
func (c *check) goOn(o *check) {
	c.value, c.judged, c.at, c.step, c.unknowns = o.value, o.judged, o.at, o.step, o.unknowns
	c.raisedW, c.raisedC, c.began, c.level = o.raisedW, o.raisedC, o.began, o.level
	if c.rule == o.rule {
		c.mean, c.line, c.band, c.crossings = o.mean, o.line, o.band, o.crossings
	}
}

// gap is how long nothing may be read before it is unknown.
func (c *check) gap() time.Duration {
	return max(staleAfter, 3*time.Duration(c.step)*time.Millisecond)
}

// latch is raised when its condition has held for a time, and falls when it has not for another.
type latch struct {
	on    bool
	raw   bool          // the condition held when it was looked at last
	since time.Duration // raw is what it is
}

// see looks at the condition at a time.
func (l *latch) see(raw bool, now, rise, fall time.Duration) {
	if raw != l.raw {
		l.raw, l.since = raw, now
	}
	if l.raw == l.on {
		return
	}
	wait := rise
	if l.on {
		wait = fall
	}
	if now-l.since >= wait {
		l.on = l.raw
	}
}

// judge takes a value of a check.
func (e *Engine) judge(c *check, v float64, at int64) {
	e.stats.Judged++
	if !e.now.IsZero() && e.now.UnixMilli()-at > staleAfter.Milliseconds() {
		return // history that a node hands over after it could not be asked
	}
	if math.IsNaN(v) {
		if c.tellsUnknown {
			e.unknown(c)
		}
		return
	}
	if c.at != 0 && at > c.at {
		c.step = at - c.at
	}
	c.at, c.value, c.unknowns = at, v, 0
	x, ok := e.transform(c, v, at)
	if !ok {
		return
	}
	c.judged = x
	r := c.rule
	was := c.raisedW.raw || c.raisedC.raw
	c.raisedC.see(beyond(c.crit, c.okCrit, c.raisedC.on, x), e.passed, r.For, r.ClearFor)
	c.raisedW.see(beyond(c.warn, c.okWarn, c.raisedW.on, x), e.passed, r.For, r.ClearFor)
	if !was && (c.raisedW.raw || c.raisedC.raw) {
		c.began = time.UnixMilli(at)
	}
	e.report(c, c.raised())
}

// raised is the level of the latches.
func (c *check) raised() tocsin.Level {
	switch {
	case c.raisedC.on:
		return tocsin.Critical
	case c.raisedW.on:
		return tocsin.Warning
	}
	return tocsin.Fine
}

// beyond says whether a value is outside of what is fine; once it is, only what clears it is fine.
func beyond(fine, clears munin.Range, raised bool, x float64) bool {
	if raised {
		return !clears.Holds(x)
	}
	return !fine.Holds(x)
}

// unknown takes a value that is unknown: the state stays what it is until there were more of them in a row than the limit.
func (e *Engine) unknown(c *check) {
	if c.unknowns++; c.unknowns <= c.unknownLimit {
		return
	}
	e.missing(c)
}

// missing says that nobody knows the value any more.
func (e *Engine) missing(c *check) {
	if c.level == tocsin.Unknown {
		return
	}
	c.value, c.began = math.NaN(), e.now
	c.raisedW, c.raisedC = latch{}, latch{}
	e.report(c, tocsin.Unknown)
}

// report says what level a check has.
func (e *Engine) report(c *check, level tocsin.Level) {
	if c.rule.quiet {
		c.level = level
		return
	}
	if level == tocsin.Fine && c.level == tocsin.Fine {
		return
	}
	c.level = level
	in := e.incident(c.key, level)
	if in == nil {
		return
	}
	in.svc, in.rule = c.svc, c.rule
	in.Began = firstOf(in.Began, c.began)
	e.describeIncident(in, c)
	in.level = level
}

func firstOf(a, b time.Time) time.Time {
	if a.IsZero() {
		return b
	}
	return a
}

// describeIncident gives an incident the values of its check.
func (e *Engine) describeIncident(in *incident, c *check) {
	k := c.svc.key
	in.Rule, in.Group, in.Node = c.rule.Name, k.group, k.node
	in.Series = tocsin.Series{Group: k.group, Node: k.node, Service: k.service, Field: c.field}
	in.Label, in.Extra, in.contacts, in.alias = c.label, c.extra, c.contacts, c.alias
	in.Value = c.value
	if c.rule.kind != forecasts && c.rule.kind != seasons && !math.IsNaN(c.value) {
		in.Value = c.judged
	}
	switch {
	case c.level == tocsin.Fine:
		return // it is over as what it was
	case c.level == tocsin.Critical:
		in.Limit, in.Urgency = rangeText(c.crit), c.rule.critical
	case c.warn.Bounded():
		in.Limit, in.Urgency = rangeText(c.warn), c.rule.urgency
	default:
		in.Limit, in.Urgency = rangeText(c.crit), c.rule.urgency
	}
	if c.level == tocsin.Unknown {
		in.Urgency = tocsin.Digest
	}
	switch c.rule.kind {
	case forecasts:
		in.Full = time.Time{}
		if c.judged < 24*365 {
			in.Full = time.UnixMilli(c.at).Add(time.Duration(c.judged * float64(time.Hour))).Truncate(time.Second)
		}
		in.Limit = rangeText(munin.Range{Least: math.Inf(-1), Most: c.rule.Full})
	case seasons:
		width := c.warn.Most
		if math.IsInf(width, 0) {
			width = c.crit.Most
		}
		in.Limit = rangeText(c.band.usual(width))
	}
}

// refresh gives an open incident the words of a description that changed.
func (e *Engine) refresh(c *check) {
	if in := e.open[c.key]; in != nil && !in.over() {
		in.Label, in.Extra, in.svc, in.rule, in.contacts, in.alias = c.label, c.extra, c.svc, c.rule, c.contacts, c.alias
	}
}

// transform makes of a value what the rule compares; not ok: nothing can be said yet.
func (e *Engine) transform(c *check, v float64, at int64) (x float64, ok bool) {
	if len(c.parts) > 0 {
		sum := 0.0
		for _, p := range c.parts {
			sum += p.value
		}
		if !(sum > 0) {
			return 0, false // one is not known yet, or nothing happened at all
		}
		v = 100 * v / sum
	}
	if c.mean != nil {
		if v, ok = c.mean.add(at, v); !ok {
			return 0, false
		}
	}
	switch c.rule.kind {
	case forecasts:
		c.line.add(at, v)
		return c.line.hours(v, c.rule.Full)
	case seasons:
		e.wantSeason(c, at)
		return c.band.distance(v)
	case counts:
		return float64(c.crossings.add(e.passed, !c.rule.beyond.Holds(v), c.rule.Over)), true
	}
	return v, true
}

// meanParts is in how many pieces the time of a mean is cut.
const meanParts = 10

// mean is the mean of the last values, in the time of the values, exact to a tenth of its length.
type mean struct {
	width int64 // of a part, milliseconds
	parts [meanParts]struct {
		number int64 // which part of time since 1970
		sum    float64
		n      int64
	}
	first int64 // the first value, Unix milliseconds
}

func newMean(d time.Duration) *mean { return &mean{width: max(1, d.Milliseconds()/meanParts)} }

// add takes a value and returns the mean; not ok until the time is full of values.
func (m *mean) add(at int64, v float64) (x float64, ok bool) {
	number := at / m.width
	p := &m.parts[number%meanParts]
	if p.number != number {
		p.number, p.sum, p.n = number, 0, 0
	}
	p.sum += v
	p.n++
	var sum float64
	var n int64
	for i := range m.parts {
		if q := &m.parts[i]; q.n > 0 && q.number > number-meanParts && q.number <= number {
			sum += q.sum
			n += q.n
		}
	}
	if m.first == 0 || at < m.first {
		m.first = at
	}
	return sum / float64(n), at-m.first >= (meanParts-1)*m.width
}

// mostCrossings is how many are remembered.
const mostCrossings = 100

// crossings are when a value left the range, the oldest first.
type crossings struct {
	out   bool
	times []time.Duration
}

// add takes whether the value is out, and returns how often it went out within the time. A value that stays out counts once.
func (c *crossings) add(now time.Duration, out bool, within time.Duration) int {
	if out && !c.out && len(c.times) < mostCrossings {
		c.times = append(c.times, now)
	}
	c.out = out
	c.times = slices.DeleteFunc(c.times, func(t time.Duration) bool { return now-t > within })
	n := len(c.times)
	if n == 0 && out {
		n = 1 // it is still out
	}
	return n
}
