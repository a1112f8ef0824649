package graph

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"tocsin"
	"tocsin/internal/munin"
)

// curve is a field as it is drawn.
type curve struct {
	name, label string
	area        bool
	width       float64 // of the line
	stacked     bool    // upon the one before
	colour      rgb
	values      values
	negative    *values // mirrored below zero with the same colour
	rules       []rule
}

// values are those of a field at each step, after cdef. NaN is unknown.
type values struct{ avg, min, max []float64 }

// rule is a horizontal line that a field asks for.
type rule struct {
	value  float64
	colour rgb
	label  string
}

// plan makes curves of the service's fields, as munin-graph makes arguments for rrdtool of them.
func (g *Graph) plan() {
	s := g.d.Service
	period := attr(s, "graph_period")
	if period != "minute" && period != "hour" {
		period = "second"
	}
	word := func(text string) string {
		return strings.ReplaceAll(text, "${graph_period}", period)
	}
	if g.title = g.o.Title; g.title == "" {
		g.title = shown(word(attr(s, "graph_title")))
	}
	if g.title == "" {
		g.title = shown(s.Name)
	}
	g.args = parseArgs(attr(s, "graph_args"))
	vlabel, ok := s.Get("graph_vlabel")
	if !ok {
		vlabel, ok = s.Get("graph_vtitle")
	}
	if !ok {
		vlabel = g.args.label
	}
	g.label = shown(word(vlabel))

	scale := isOn(s.Get, "graph_scale", !isOn(s.Get, "graph_noscale", false))
	if !scale && !g.args.hasExponent {
		g.args.hasExponent = true // 0: no prefix on the axis
	}
	g.format = parseFormat(attr(s, "graph_printf"), g.args.base, scale)
	g.mean = parseFormat("", g.args.base, scale)
	g.fields(period, word)
	if label, ok := s.Get("graph_total"); ok && label != "undef" {
		g.sum(shown(label))
	}
	g.levels = append(g.levels, g.o.Levels...)
	slices.SortFunc(g.levels, func(a, b Level) int { return int(truth(b.Critical) - truth(a.Critical)) })
	g.levels = slices.CompactFunc(g.levels, func(a, b Level) bool { return a == b })
	g.levels = g.levels[:min(len(g.levels), maxLevels)]
}

// fields works the values out and decides what is drawn how.
func (g *Graph) fields(period string, word func(string) string) {
	s := g.d.Service
	order, hidden := fieldOrder(s)
	now := make(map[string]values, len(order)) // what a name in a cdef means by now
	for _, f := range order {
		now[f.Name] = g.grid.spread(g.d.Points[f.Name])
	}
	known := func(name string) bool { _, ok := now[name]; return ok }
	changes := make(map[string]func(*values), len(order))
	for _, f := range order {
		change := g.change(f, period, now, known)
		changes[f.Name] = change
		v := now[f.Name]
		change(&v)
		now[f.Name] = v
	}

	palette := palettes[g.o.Palette]
	if palette == nil {
		palette = palettes["default"]
	}
	auto := false // AREASTACK or LINESTACK has begun
	for _, f := range order {
		if hidden[f.Name] || !drawn(f) {
			continue
		}
		c := curve{name: f.Name, values: now[f.Name]}
		if c.label = shown(word(fieldAttr(f, "label"))); c.label == "" {
			c.label = shown(f.Name)
		}
		auto = g.draw(&c, fieldAttr(f, "draw"), auto)
		c.colour = fieldColour(fieldAttr(f, "colour"), palette, len(g.curves))
		var mirror *munin.Field
		if name := munin.FieldName(fieldAttr(f, "negative")); name != f.Name && known(name) {
			v := now[name]
			c.negative, mirror = &v, s.Field(name)
		}
		g.limits(f, &c, changes[f.Name], 1)
		if mirror != nil {
			g.limits(mirror, &c, changes[mirror.Name], -1)
		}
		g.curves = append(g.curves, c)
	}
}

// Fields are the fields that a graph of a service works with, by name: of thousands those that come first.
func Fields(s *munin.Service) map[string]bool {
	order, _ := fieldOrder(s)
	names := make(map[string]bool, len(order))
	for _, f := range order {
		names[f.Name] = true
	}
	return names
}

// fieldOrder is the fields in the order of graph_order, then of the configuration. hidden are those that it does not show.
func fieldOrder(s *munin.Service) (order []*munin.Field, hidden map[string]bool) {
	hidden = map[string]bool{}
	seen := map[string]bool{}
	add := func(name string) {
		if f := s.Field(name); f != nil && !seen[name] && len(order) < maxFields {
			seen[name] = true
			order = append(order, f)
		}
	}
	for name := range strings.FieldsSeq(attr(s, "graph_sources")) {
		hidden[name] = true
		add(name)
	}
	for item := range strings.FieldsSeq(attr(s, "graph_order")) {
		name, _, _ := strings.Cut(item, "=")
		if bare, ok := strings.CutPrefix(name, "-"); ok {
			name = bare
			hidden[name] = true
		}
		add(name)
	}
	for i := range s.Fields {
		add(s.Fields[i].Name)
	}
	return order, hidden
}

// change is what graph_period and cdef make of a field's values.
func (g *Graph) change(f *munin.Field, period string, now map[string]values, known func(string) bool) func(*values) {
	factor := 1.0
	switch {
	case f.Type() == munin.Gauge:
	case period == "minute":
		factor = 60
	case period == "hour":
		factor = 3600
	}
	var calc *rpn
	if text := fieldAttr(f, "cdef"); text != "" {
		var err error
		if calc, err = parseRPN(text, known); err != nil {
			g.Notes = append(g.Notes, shown(f.Name+": "+err.Error()))
		} else if !g.affords(calc) {
			calc = nil
			g.Notes = append(g.Notes, shown(f.Name+": the cdefs of this graph together are too much work"))
		}
	}
	// Each kind of value goes through the calculation for itself, as munin-graph does it: of "100,idle,-" the
	// minimum is thus the greatest value. The names mean what they mean at this field's turn.
	return func(v *values) {
		for _, kind := range []func(*values) *[]float64{average, minimum, maximum} {
			own := multiplied(*kind(v), factor)
			if calc != nil {
				own = calc.run(len(own), machine{first: g.grid.first, step: float64(g.grid.step), zone: g.words.Zone(), values: func(name string) []float64 {
					if name == f.Name {
						return own
					}
					other := now[name]
					return *kind(&other)
				}})
			}
			*kind(v) = own
		}
	}
}

// affords says whether there is time for a calculation of each kind of value, and of four limits. Hostile services have
// thousands of words in hundreds of fields.
func (g *Graph) affords(calc *rpn) bool {
	cost := calc.cost * int64(g.grid.n) * 3 * 5
	if g.work+cost > maxWork {
		return false
	}
	g.work += cost
	return true
}

func average(v *values) *[]float64 { return &v.avg }
func minimum(v *values) *[]float64 { return &v.min }
func maximum(v *values) *[]float64 { return &v.max }

func multiplied(v []float64, factor float64) []float64 {
	if factor == 1 {
		return v
	}
	out := make([]float64, len(v))
	for i := range v {
		out[i] = v[i] * factor
	}
	return out
}

// spread puts points into their steps.
func (g grid) spread(points []Point) values {
	all := make([]float64, 3*g.n)
	for i := range all {
		all[i] = math.NaN()
	}
	v := values{all[:g.n:g.n], all[g.n : 2*g.n : 2*g.n], all[2*g.n:]}
	for _, p := range points {
		i := (p.T - g.first + g.step - 1) / g.step // a time within a step belongs to its end
		if p.T > g.first-g.step && i < int64(g.n) {
			v.avg[i], v.min[i], v.max[i] = p.Avg, p.Min, p.Max
		}
	}
	return v
}

// draw sets how a curve is drawn; auto says whether curves pile up by themselves already.
func (g *Graph) draw(c *curve, how string, auto bool) bool {
	how = strings.ToUpper(strings.TrimSpace(how))
	c.width = 1
	if how == "AREASTACK" {
		how = "STACK"
		if !auto {
			how, auto = "AREA", true
		}
	}
	if width, ok := strings.CutPrefix(how, "LINESTACK"); ok {
		how = "STACK"
		if !auto {
			how, auto = "LINE"+width, true
		}
	}
	switch {
	case how == "AREA":
		c.area = true
	case how == "STACK" && len(g.curves) > 0: // the first has nothing below it
		before := g.curves[len(g.curves)-1]
		c.stacked, c.area, c.width = true, before.area, before.width
	default:
		if w, err := strconv.ParseFloat(strings.TrimPrefix(how, "LINE"), 64); err == nil && w > 0 && w <= 10 {
			c.width = w
		}
	}
	return auto
}

// limits notes the line that a field asks for or else its limits. They are of the values as measured: what the field's
// cdef makes of them is drawn, where it makes one number of one number.
func (g *Graph) limits(f *munin.Field, c *curve, change func(*values), sign float64) {
	if text := fieldAttr(f, "line"); text != "" {
		value, rest, _ := strings.Cut(text, ":")
		colour, label, _ := strings.Cut(rest, ":")
		if v := argNumber(value); !math.IsNaN(v) && len(c.rules) < maxLevels {
			r := rule{value: v, colour: c.colour, label: shown(label)}
			if own, ok := parseColour(colour); ok {
				r.colour = own
			}
			c.rules = append(c.rules, r)
		}
		return
	}
	for _, name := range []string{"warning", "critical"} {
		least, most, ranged := strings.Cut(fieldAttr(f, name), ":")
		if !ranged {
			least, most = "", least
		}
		for _, bound := range []string{least, most} {
			v := argNumber(strings.TrimSpace(bound))
			if math.IsNaN(v) || len(g.levels) >= 10*maxLevels {
				continue
			}
			at := slices.Repeat([]float64{v}, g.grid.n)
			drawn := values{at, at, at}
			change(&drawn)
			if least, most := slices.Min(drawn.avg), slices.Max(drawn.avg); least == most && !math.IsInf(most, 0) {
				g.levels = append(g.levels, Level{Value: sign * most, Critical: name == "critical"})
			}
		}
	}
}

// sum makes the curve of graph_total: what is drawn, added up, above and below zero apart.
func (g *Graph) sum(label string) {
	mirrored := slices.ContainsFunc(g.curves, func(c curve) bool { return c.negative != nil })
	total := curve{name: "total", label: label, width: 1, colour: black}
	add := func(to **values, v *values) {
		if *to == nil {
			*to = &values{slices.Clone(v.avg), slices.Clone(v.min), slices.Clone(v.max)}
			return
		}
		for _, kind := range []func(*values) *[]float64{average, minimum, maximum} {
			sum, more := *kind(*to), *kind(v)
			for i := range sum {
				switch {
				case math.IsNaN(sum[i]):
					sum[i] = more[i]
				case !math.IsNaN(more[i]):
					sum[i] += more[i]
				}
			}
		}
	}
	var above, below *values
	for i := range g.curves {
		add(&above, &g.curves[i].values)
		if mirrored && g.curves[i].negative != nil {
			add(&below, g.curves[i].negative)
		}
	}
	if above == nil {
		return
	}
	total.values, total.negative = *above, below
	g.total = &total
}

func attr(s *munin.Service, name string) string {
	v, _ := s.Get(name)
	return v
}

func fieldAttr(f *munin.Field, name string) string {
	v, _ := f.Get(name)
	return v
}

func drawn(f *munin.Field) bool {
	return isOn(f.Get, "graph", true) && !isOn(f.Get, "skipdraw", false)
}

// isOn reads Munin's yes and no.
func isOn(get func(string) (string, bool), name string, without bool) bool {
	v, ok := get(name)
	if !ok {
		return without
	}
	switch strings.ToLower(strings.TrimSpace(v)) {
	case "yes", "true", "on", "enable", "enabled", "1":
		return true
	case "no", "false", "off", "disable", "disabled", "0":
		return false
	}
	return without
}

// shown is hostile text as it may be shown: printable, in bounds.
func shown(text string) string {
	text = cut(text, 8*maxLabel)
	text = strings.Join(strings.Fields(tocsin.Printable(text)), " ")
	if utf8.RuneCountInString(text) > maxLabel {
		text = string([]rune(text)[:maxLabel-1]) + "…"
	}
	return text
}

// periodOf is the length of a step in words.
func (g *Graph) periodOf() string {
	return g.words.Duration(time.Duration(g.grid.step) * time.Second)
}
