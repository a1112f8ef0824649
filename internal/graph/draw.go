package graph

import (
	"math"
	"slices"
	"strings"
	"time"
)

// canvas is what a picture is drawn on: an SVG or a PNG.
type canvas interface {
	rect(x, y, w, h float64, fill ink)
	area(p outline, fill ink, opacity float64)
	stroke(p outline, s pen)
	text(x, y float64, words string, f font)
	begin(title string) // what follows shows a title
	end()
}

type point struct{ x, y float64 }

// outline is lines from point to point, or shapes; each run stands for itself.
type outline [][]point

type pen struct {
	ink
	width   float64
	opacity float64 // 0: 1
	dash    string  // lengths of stroke and gap in pixels, "4 3"; "" for none
	crisp   bool    // along the pixels
}

type font struct {
	ink
	size   float64
	bold   bool
	anchor anchor
}

type anchor uint8

const (
	left anchor = iota
	middle
	right
)

// The sizes of the picture, in pixels.
const (
	pad       = 12.0
	titleSize = 15.0
	textSize  = 13.0
	smallSize = 12.0
	rowHeight = 19.0
	markSize  = 4.0
	labelRoom = 110.0 // a legend whose labels have less puts the numbers below them
)

// box is the space for the curves.
type box struct{ x, y, w, h float64 }

// layer is one side of a curve, in columns.
type layer struct {
	ink
	area          bool
	stacked       bool
	width         float64
	avg, low, top []float64 // top and low are the extremes of the column
}

// picture is a graph with the places of everything.
type picture struct {
	*Graph
	plot   box
	scale  scaleY
	xs     []float64 // of the columns
	layers []layer
	ghosts []layer
	rows   []Row
	height float64
	lower  float64 // where the legend begins
}

// layout finds the places.
func (g *Graph) layout() *picture {
	p := &picture{Graph: g, rows: g.Rows()}
	p.plot = box{y: pad, w: float64(g.o.Width), h: float64(g.o.Height)}
	if !g.o.Bare {
		p.plot.y += titleSize + 5
	}
	if g.label != "" || g.o.Subtitle != "" {
		p.plot.y += smallSize + 4
	}
	p.plot.y += 8
	p.columns(int(p.plot.w - 60))
	least, most, pit, peak, zero := p.extent()
	p.scale = g.newScale(least, most, pit, peak, zero, g.o.Height)
	widest := 20.0
	for _, t := range p.scale.ticks {
		widest = max(widest, width(t.label, smallSize, false))
	}
	p.plot.x = pad + math.Ceil(widest) + 6
	p.plot.w -= p.plot.x + pad
	p.columns(int(p.plot.w))
	p.lower = p.plot.y + p.plot.h + smallSize + 12
	p.height = p.legend(nil) + 4
	return p
}

// columns brings all curves into at most most columns, each with the mean and the extremes of its steps.
func (p *picture) columns(most int) {
	n := p.grid.n
	from, span := float64(p.d.From.Unix()), p.d.To.Sub(p.d.From).Seconds()
	place := func(i int) float64 { // of a step's middle, 0 to 1
		return max(0, min(1, (float64(p.grid.first+int64(i)*p.grid.step)-float64(p.grid.step)/2-from)/span))
	}
	var column []int
	p.xs = p.xs[:0]
	if n <= most {
		for i := range n {
			p.xs = append(p.xs, place(i)*p.plot.w)
		}
	} else {
		column = make([]int, n)
		for i := range n {
			column[i] = min(most-1, int(place(i)*float64(most)))
		}
		for i := range most {
			p.xs = append(p.xs, (float64(i)+0.5)/float64(most)*p.plot.w)
		}
	}
	p.layers, p.ghosts = p.layers[:0], p.ghosts[:0]
	for _, side := range []float64{1, -1} {
		for i := range p.curves {
			c := &p.curves[i]
			v := &c.values
			if side < 0 {
				if v = c.negative; v == nil {
					continue
				}
			}
			l := layer{ink: inkOf(c.colour, c.area), area: c.area, stacked: c.stacked, width: c.width}
			l.take(v, side, column, len(p.xs))
			p.pile(&l)
			p.layers = append(p.layers, l)
		}
	}
	if p.total != nil {
		for _, side := range []float64{1, -1} {
			if v := &p.total.values; side > 0 || p.total.negative != nil {
				if side < 0 {
					v = p.total.negative
				}
				l := layer{ink: letters, width: 1}
				l.take(v, side, column, len(p.xs))
				l.low, l.top = l.avg, l.avg // the curves' extremes were not at the same time
				p.layers = append(p.layers, l)
			}
		}
	}
	p.shadows(column)
}

// take fills a layer's columns.
func (l *layer) take(v *values, side float64, column []int, n int) {
	if column == nil {
		l.avg, l.low, l.top = multiplied(v.avg, side), multiplied(v.min, side), multiplied(v.max, side)
		l.order()
		return
	}
	all := make([]float64, 3*n)
	for i := range all {
		all[i] = math.NaN()
	}
	l.avg, l.low, l.top = all[:n], all[n:2*n], all[2*n:]
	count := make([]int, n)
	for i, at := range column {
		avg := side * v.avg[i]
		if math.IsNaN(avg) {
			continue
		}
		if count[at]++; count[at] == 1 {
			l.avg[at] = 0
		}
		l.avg[at] += avg
		for _, e := range [2]float64{side * v.min[i], side * v.max[i]} {
			if !(l.low[at] <= e) {
				l.low[at] = e
			}
			if !(l.top[at] >= e) {
				l.top[at] = e
			}
		}
	}
	for at, c := range count {
		if c > 1 {
			l.avg[at] /= float64(c)
		}
	}
	l.order()
}

// order brings low below the mean and top above it: a cdef may have turned them round, or made them unknown.
func (l *layer) order() {
	wrong := func(i int) bool { return !math.IsNaN(l.avg[i]) && !(l.low[i] <= l.avg[i] && l.avg[i] <= l.top[i]) }
	i := 0
	for i < len(l.avg) && !wrong(i) {
		i++
	}
	if i == len(l.avg) {
		return
	}
	low, top := slices.Clone(l.low), slices.Clone(l.top)
	for ; i < len(l.avg); i++ {
		all := []float64{l.low[i], l.top[i], l.avg[i]}
		all = slices.DeleteFunc(all, math.IsNaN)
		if len(all) > 0 {
			low[i], top[i] = slices.Min(all), slices.Max(all)
		}
	}
	l.low, l.top = low, top
}

// pile puts a stacked layer upon the one before.
func (p *picture) pile(l *layer) {
	if !l.stacked {
		return
	}
	if len(p.layers) == 0 {
		l.stacked = false
		return
	}
	below := p.layers[len(p.layers)-1].avg
	avg, low, top := make([]float64, len(below)), make([]float64, len(below)), make([]float64, len(below))
	for i, b := range below {
		switch own := l.avg[i]; {
		case math.IsNaN(b):
			avg[i], low[i], top[i] = own, l.low[i], l.top[i]
		case math.IsNaN(own):
			avg[i], low[i], top[i] = b, b, b
		default:
			avg[i], low[i], top[i] = b+own, b+l.low[i], b+l.top[i]
		}
	}
	l.avg, l.low, l.top = avg, low, top
}

// shadows are the ghosts of what is drawn: of a stack only its top.
func (p *picture) shadows(column []int) {
	if len(p.d.Ghost) == 0 {
		return
	}
	shadow := *p.Graph
	shadow.d = &Data{Service: p.d.Service, From: p.d.From, To: p.d.To, Step: p.d.Step, Points: p.d.Ghost}
	shadow.curves, shadow.total, shadow.levels, shadow.Notes, shadow.work = nil, nil, nil, nil, 0
	shadow.plan()
	q := &picture{Graph: &shadow}
	for _, side := range []float64{1, -1} {
		for i := range shadow.curves {
			c := &shadow.curves[i]
			v := &c.values
			if side < 0 {
				if v = c.negative; v == nil {
					continue
				}
			}
			l := layer{stacked: c.stacked}
			l.take(v, side, column, len(p.xs))
			q.pile(&l)
			if l.stacked && len(q.layers) > 0 {
				q.layers = q.layers[:len(q.layers)-1]
			}
			q.layers = append(q.layers, l)
		}
	}
	p.ghosts = q.layers
}

// extent is the least and greatest of what is drawn, of averages and of all; zero says that there are areas, which begin
// there.
func (p *picture) extent() (least, most, pit, peak float64, zero bool) {
	least, most, pit, peak = math.Inf(1), math.Inf(-1), math.Inf(1), math.Inf(-1)
	for _, l := range slices.Concat(p.layers, p.ghosts) {
		zero = zero || l.area
		for i, v := range l.avg {
			if math.IsNaN(v) || math.IsInf(v, 0) || p.args.log && v <= 0 {
				continue
			}
			least, most = min(least, v), max(most, v)
			if (l.area || len(p.layers) <= mostBands) && !l.stacked && !math.IsInf(l.low[i], 0) && !math.IsInf(l.top[i], 0) {
				pit, peak = min(pit, l.low[i]), max(peak, l.top[i])
			}
		}
	}
	return least, most, pit, peak, zero
}

func (p *picture) y(v float64) float64 { return p.plot.y + p.plot.h*(1-p.scale.at(v)) }

// draw draws everything.
func (p *picture) draw(c canvas) {
	p.head(c)
	p.gridLines(c)
	p.paint(c)
	p.lines(c)
	p.marks(c)
	if !p.o.NoLegend {
		p.legend(c)
	}
}

func (p *picture) head(c canvas) {
	y, full := pad, float64(p.o.Width)-2*pad
	if !p.o.Bare {
		y += titleSize - 2
		c.text(pad, y, fit(p.title, full, titleSize, true), font{ink: letters, size: titleSize, bold: true})
		y += 5
	}
	y += smallSize + 1
	room := full
	if s := shown(p.o.Subtitle); s != "" {
		s = fit(s, full/2, smallSize, false)
		c.text(pad+full, y, s, font{ink: muted, size: smallSize, anchor: right})
		room -= width(s, smallSize, false) + 12
	}
	if p.label != "" {
		c.text(pad, y, fit(p.label, room, smallSize, false), font{ink: muted, size: smallSize})
	}
}

func (p *picture) gridLines(c canvas) {
	b := p.plot
	var across, strong, ticks outline
	for _, t := range p.scale.ticks {
		y := half(p.y(t.value))
		across = append(across, []point{{b.x, y}, {b.x + b.w, y}})
		if t.label != "" {
			c.text(b.x-6, y+smallSize*0.36, t.label, font{ink: muted, size: smallSize, anchor: right})
		}
	}
	marks := p.ticksX(p.d.From, p.d.To, time.Duration(float64(p.d.To.Sub(p.d.From))*50/b.w))
	free := -1.0 // where the last label ended
	for _, t := range marks {
		x := p.x(t.at)
		if line := []point{{half(x), b.y}, {half(x), b.y + b.h}}; t.strong {
			strong = append(strong, line)
		} else {
			across = append(across, line)
		}
		ticks = append(ticks, []point{{half(x), b.y + b.h}, {half(x), b.y + b.h + 4}})
		w := width(t.label, smallSize, false) / 2
		if x-w < free+6 || x+w > b.x+b.w+pad-1 || x-w < 2 {
			continue
		}
		free = x + w
		c.text(x, b.y+b.h+smallSize+6, t.label, font{ink: muted, size: smallSize, anchor: middle})
	}
	c.stroke(across, pen{ink: faint, width: 1, crisp: true})
	c.stroke(strong, pen{ink: stronger, width: 1, crisp: true})
	base := half(b.y + b.h)
	c.stroke(append(ticks, []point{{b.x, base}, {b.x + b.w, base}}), pen{ink: frame, width: 1, crisp: true})
}

func half(v float64) float64 { return math.Floor(v) + 0.5 }

// x is where a time stands.
func (p *picture) x(t time.Time) float64 {
	return p.plot.x + p.plot.w*float64(t.Sub(p.d.From))/float64(p.d.To.Sub(p.d.From))
}

// paint draws the curves: areas of a stack from the top one down, so that each covers what is below it.
func (p *picture) paint(c canvas) {
	for i := 0; i < len(p.layers); {
		j := i + 1
		for j < len(p.layers) && p.layers[j].stacked {
			j++
		}
		group := p.layers[i:j]
		if group[0].area {
			p.paintAreas(c, group)
		} else {
			p.paintLines(c, group)
		}
		i = j
	}
	for i := range p.ghosts {
		c.stroke(p.through(p.ghosts[i].avg), pen{ink: pale, width: 1.2, dash: "2 2"})
	}
	if p.scale.bottom < 0 && p.scale.top > 0 {
		y := half(p.y(0))
		c.stroke(outline{{{p.plot.x, y}, {p.plot.x + p.plot.w, y}}}, pen{ink: frame, width: 1, crisp: true})
	}
}

func (p *picture) paintAreas(c canvas, group []layer) {
	if len(group) == 1 {
		l := &group[0]
		far := l.top
		if sum(l.avg) < 0 {
			far = l.low
		}
		if p.apart(l.avg, far) {
			c.area(p.under(far, nil), l.ink, 0.3)
		}
	}
	for i := range slices.Backward(group) {
		c.area(p.under(group[i].avg, nil), group[i].ink, 1)
	}
	// A layer's extremes are drawn within what is above it; beyond the top nobody knows what the others were. What is more
	// than half of the whole is what the others leave over ("idle"): its extremes say nothing new.
	if len(group) > 1 {
		whole := group[len(group)-1].avg
		before := 0.0
		for i := range group[:len(group)-1] {
			l := &group[i]
			reached := sum(l.avg)
			own := reached - before
			if before = reached; math.Abs(own) > math.Abs(sum(whole))/2 {
				continue
			}
			far := make([]float64, len(l.avg))
			for k := range far {
				far[k] = min(l.top[k], max(whole[k], l.avg[k]))
				if whole[k] < 0 {
					far[k] = max(l.low[k], min(whole[k], l.avg[k]))
				}
			}
			if p.apart(l.avg, far) {
				c.area(p.under(far, l.avg), l.ink, 0.4)
			}
		}
	}
}

// mostBands is with how many curves the extremes of lines are still drawn: more would hide each other.
const mostBands = 8

func (p *picture) paintLines(c canvas, group []layer) {
	for i := range group {
		if l := &group[i]; !l.stacked && len(p.layers) <= mostBands && p.apart(l.low, l.top) {
			c.area(p.under(l.top, l.low), l.ink, 0.22)
		}
	}
	for i := range group {
		l := &group[i]
		c.stroke(p.through(l.avg), pen{ink: l.ink, width: max(l.width, 0.5) + 0.25})
	}
}

func sum(v []float64) (s float64) {
	for _, f := range v {
		if !math.IsNaN(f) {
			s += f
		}
	}
	return s
}

// apart says whether a band between two curves would be seen.
func (p *picture) apart(a, b []float64) bool {
	for i := range a {
		if math.Abs(p.scale.at(a[i])-p.scale.at(b[i]))*p.plot.h > 0.8 {
			return true
		}
	}
	return false
}

// knownRun is the first run of columns from i on that have a value.
func knownRun(v []float64, i int) (from, to int) {
	for i < len(v) && math.IsNaN(v[i]) {
		i++
	}
	from = i
	for i < len(v) && !math.IsNaN(v[i]) {
		i++
	}
	return from, i
}

// reach is half of a column's width: what is known for a single column is still seen.
func (p *picture) reach() float64 {
	return max(0.5, p.plot.w/float64(max(1, len(p.xs)))/2)
}

// through is the line through the columns. Where a column is unknown it ends.
func (p *picture) through(v []float64) (o outline) {
	for from, to := knownRun(v, 0); from < len(v); from, to = knownRun(v, to) {
		run := make([]point, 0, to-from)
		for i := from; i < to; i++ {
			run = append(run, point{p.plot.x + p.xs[i], p.y(v[i])})
		}
		if len(run) == 1 {
			run = []point{{run[0].x - p.reach(), run[0].y}, {run[0].x + p.reach(), run[0].y}}
		}
		o = append(o, run)
	}
	return o
}

// under is the shape between a curve and another one, or zero where that is nil.
func (p *picture) under(v, other []float64) (o outline) {
	for from, to := knownRun(v, 0); from < len(v); from, to = knownRun(v, to) {
		run := make([]point, 0, 2*(to-from))
		for i := from; i < to; i++ {
			run = append(run, point{p.plot.x + p.xs[i], p.y(v[i])})
		}
		zero := p.y(0)
		if p.scale.log {
			zero = p.plot.y + p.plot.h
		}
		if to-from == 1 {
			r := run[0]
			run = []point{{r.x - p.reach(), r.y}, {r.x + p.reach(), r.y}}
		}
		switch {
		case other == nil || to-from == 1:
			if other != nil {
				zero = p.y(other[from])
			}
			run = append(run, point{run[len(run)-1].x, zero}, point{run[0].x, zero})
		default:
			for i := to - 1; i >= from; i-- {
				run = append(run, point{p.plot.x + p.xs[i], p.y(other[i])})
			}
		}
		o = append(o, run)
	}
	return o
}

// lines draws rules and limits.
func (p *picture) lines(c canvas) {
	draw := func(v float64, s pen) {
		if p.scale.log && v <= 0 || v < p.scale.bottom || v > p.scale.top || math.IsNaN(v) {
			return
		}
		y := half(p.y(v))
		c.stroke(outline{{{p.plot.x, y}, {p.plot.x + p.plot.w, y}}}, s)
	}
	for i := range p.curves {
		for _, r := range p.curves[i].rules {
			draw(r.value, pen{ink: inkOf(r.colour, false), width: 1, crisp: true})
		}
	}
	for _, l := range p.levels {
		draw(l.Value, levelPen(l.Critical))
	}
}

func levelPen(critical bool) pen {
	if critical {
		return pen{ink: red, width: 1.2, dash: "6 3"}
	}
	return pen{ink: amber, width: 1.2, dash: "4 4"}
}

// marks draws what happened: a thin line with a shape at its top. What falls together is one mark.
func (p *picture) marks(c canvas) {
	all := slices.Clone(p.o.Marks[:min(len(p.o.Marks), maxMarks)])
	slices.SortStableFunc(all, func(a, b Mark) int { return a.At.Compare(b.At) })
	last := [markKinds]float64{-100, -100, -100, -100}
	for i := 0; i < len(all); i++ {
		m := all[i]
		x := half(p.x(m.At))
		if m.Kind >= markKinds || x < p.plot.x || x > p.plot.x+p.plot.w || x < last[m.Kind]+4 {
			continue
		}
		last[m.Kind] = x
		var titles []string
		for _, n := range all[i:] {
			if n.Kind == m.Kind && p.x(n.At) < x+4 && len(titles) < 10 {
				titles = append(titles, p.words.Date(n.At, p.d.To)+" "+p.words.Clock(n.At)+" "+p.said(n))
			}
		}
		c.begin(strings.Join(titles, "\n"))
		c.stroke(outline{{{x, p.plot.y}, {x, p.plot.y + p.plot.h}}}, pen{ink: markInk(m.Kind), width: 1, opacity: 0.55, dash: "1 2"})
		c.area(outline{markShape(m.Kind, x, p.plot.y-1)}, markInk(m.Kind), 1)
		c.end()
	}
}

// markKeys are what the legend says of each kind.
var markKeys = [markKinds]string{"graph.bans", "graph.reboot", "graph.upgrade", "graph.alert"}

// said is what a mark says.
func (p *picture) said(m Mark) string {
	switch {
	case m.Text != "":
		return shown(m.Text)
	case m.N > 0 && m.Kind == MarkBans:
		return p.words.T("graph.nbans", "n", m.N)
	case m.N > 0 && m.Kind == MarkUpgrade:
		return p.words.T("graph.nupgrades", "n", m.N)
	}
	return p.words.T(markKeys[m.Kind])
}

func markInk(k MarkKind) ink {
	if k == MarkAlert {
		return red
	}
	return muted
}

// markShape is the sign of a kind, around a point.
func markShape(k MarkKind, x, y float64) []point {
	const r = markSize
	switch k {
	case MarkReboot:
		return []point{{x, y - r - 0.5}, {x + r + 0.5, y}, {x, y + r + 0.5}, {x - r - 0.5, y}}
	case MarkUpgrade:
		return []point{{x - r + 0.5, y - r + 0.5}, {x + r - 0.5, y - r + 0.5}, {x + r - 0.5, y + r - 0.5}, {x - r + 0.5, y + r - 0.5}}
	case MarkAlert:
		return []point{{x, y - r - 0.5}, {x + r + 0.5, y + r - 0.5}, {x - r - 0.5, y + r - 0.5}}
	}
	var circle []point
	for i := range 12 {
		s, c := math.Sincos(float64(i) * math.Pi / 6)
		circle = append(circle, point{x + r*c, y + r*s})
	}
	return circle
}
