package graph

import (
	"slices"
	"strings"
)

// columnsOf says how wide the four columns of the legend are.
type columnsOf struct {
	number, prefix float64 // of one number
	gap            float64
	pair           bool // mirrored numbers stand side by side; otherwise one below the other
	below          bool // the numbers stand below the label
	label          float64
}

func (p *picture) legendColumns() columnsOf {
	k := columnsOf{gap: 12}
	mirrored := false
	for _, r := range p.rows {
		for _, c := range r.cells {
			for _, n := range [2]number{c.value, c.below} {
				k.number = max(k.number, width(n.text, textSize, false))
				if n.prefix != "" {
					k.prefix = max(k.prefix, width(n.prefix, textSize, false)+1)
				}
			}
			mirrored = mirrored || c.mirrored
		}
	}
	for _, name := range p.heads() {
		k.number = max(k.number, width(name, smallSize, false)-k.prefix)
	}
	longest := 0.0
	for i := range p.rows {
		longest = max(longest, width(p.rows[i].Label, textSize, false))
	}
	full := float64(p.o.Width) - 2*pad
	k.label = full - 20 - 4*(k.number+k.prefix+k.gap)
	if pair := full - 20 - 4*(2*k.number+2*k.prefix+8+k.gap); mirrored && pair >= min(longest, labelRoom) {
		k.pair, k.label = true, pair
	} else if mirrored {
		k.label -= signRoom
	}
	if k.label < min(longest, labelRoom) {
		k.below, k.label = true, full-20
		k.gap = max(4, min(k.gap, (full-20)/4-k.number-k.prefix))
	}
	return k
}

// step is from one column to the next.
func (k *columnsOf) step() float64 {
	if k.pair {
		return 2*k.number + 2*k.prefix + 8 + k.gap
	}
	return k.number + k.prefix + k.gap
}

// signRoom is for the sign before mirrored numbers that stand one below the other.
const signRoom = 14

// heads are the words above the columns.
func (p *picture) heads() []string {
	return []string{p.words.T("graph.cur"), p.words.T("graph.min"), p.words.T("graph.avg"), p.words.T("graph.max")}
}

// legend draws the legend and what the signs mean, and says where it ends. Without a canvas it only says that.
func (p *picture) legend(c canvas) float64 {
	y := p.lower
	if p.o.NoLegend {
		return y
	}
	if len(p.rows) > 0 {
		y = p.table(c, y+smallSize+4)
	}
	return p.keys(c, y)
}

// table draws the curves' numbers, the first line of it at y.
func (p *picture) table(c canvas, y float64) float64 {
	k := p.legendColumns()
	edge := float64(p.o.Width) - pad // right side of the last column
	if c != nil {
		for i, name := range p.heads() {
			c.text(edge-float64(3-i)*k.step(), y, name, font{ink: muted, size: smallSize, anchor: right})
		}
	}
	y += 4
	for i := range p.rows {
		y += rowHeight
		r := &p.rows[i]
		if c != nil {
			p.swatch(c, r, y)
			c.text(pad+20, y, fit(r.Label, k.label, textSize, false), font{ink: letters, size: textSize})
		}
		if k.below {
			y += rowHeight - 2
		}
		if c != nil {
			if r.cells[0].mirrored && !k.pair {
				x := edge - 4*k.step() + k.gap - 4
				c.text(x, y, "−", font{ink: muted, size: textSize, anchor: right})
				c.text(x, y+rowHeight-3, "+", font{ink: muted, size: textSize, anchor: right})
			}
			for j := range r.cells {
				p.cell(c, &k, &r.cells[j], edge-float64(3-j)*k.step(), y)
			}
		}
		if r.cells[0].mirrored && !k.pair {
			y += rowHeight - 3
		}
	}
	return y + 10
}

// cell draws a number, or two, that end at x.
func (p *picture) cell(c canvas, k *columnsOf, n *cell, x, y float64) {
	put := func(v number, x, y float64) {
		c.text(x-k.prefix, y, v.text, font{ink: letters, size: textSize, anchor: right})
		if v.prefix != "" {
			c.text(x-k.prefix+1, y, v.prefix, font{ink: muted, size: textSize})
		}
	}
	switch {
	case !n.mirrored:
		put(n.value, x, y)
	case k.pair:
		put(n.below, x-k.number-k.prefix-8, y)
		c.text(x-k.number-k.prefix-4, y, "/", font{ink: muted, size: textSize, anchor: middle})
		put(n.value, x, y)
	default:
		put(n.below, x, y)
		put(n.value, x, y+rowHeight-3)
	}
}

// swatch shows a curve's colour: an area as a square, a line as a line.
func (p *picture) swatch(c canvas, r *Row, y float64) {
	colour := inkOf(r.curve.colour, r.curve.area)
	if r.curve.area {
		c.rect(pad, y-10, 12, 11, colour)
		return
	}
	h := max(2, r.curve.width+1)
	c.rect(pad, y-4.5-h/2, 12, h, colour)
}

// sign is what a sign of the picture means.
type sign struct {
	words string
	show  func(c canvas, x, y float64) // around the middle of 14 pixels
}

func (p *picture) signs() (all []sign) {
	line := func(s pen) func(canvas, float64, float64) {
		return func(c canvas, x, y float64) { c.stroke(outline{{{x, half(y)}, {x + 14, half(y)}}}, s) }
	}
	if len(p.ghosts) > 0 && p.o.GhostName != "" {
		all = append(all, sign{shown(p.o.GhostName), line(pen{ink: pale, width: 1.2, dash: "2 2"})})
	}
	for i := range p.curves {
		for _, r := range p.curves[i].rules {
			if r.label != "" {
				all = append(all, sign{r.label, line(pen{ink: inkOf(r.colour, false), width: 1, crisp: true})})
			}
		}
	}
	for _, critical := range []bool{false, true} {
		of := slices.DeleteFunc(slices.Clone(p.levels), func(l Level) bool { return l.Critical != critical })
		if len(of) == 0 {
			continue
		}
		words := p.words.T("graph.warning")
		if critical {
			words = p.words.T("graph.critical")
		}
		if len(of) <= 2 {
			var values []string
			for _, l := range of {
				v, prefix := l.Value, ""
				if p.format.scale {
					v, prefix = scaled(v, p.args.base)
				}
				values = append(values, p.words.Decimal(trimmed(v))+prefix)
			}
			words += " " + strings.Join(values, ", ")
		}
		all = append(all, sign{words, line(levelPen(critical))})
	}
	for k, key := range markKeys {
		if kind := MarkKind(k); slices.ContainsFunc(p.o.Marks, func(m Mark) bool { return m.Kind == kind && !m.At.Before(p.d.From) && !m.At.After(p.d.To) }) {
			all = append(all, sign{p.words.T(key), func(c canvas, x, y float64) { c.area(outline{markShape(kind, x+8, y)}, markInk(kind), 1) }})
		}
	}
	return all
}

// keys draws what the signs mean, and how long a point is.
func (p *picture) keys(c canvas, y float64) float64 {
	edge := float64(p.o.Width) - pad
	note := p.words.T("graph.point", "step", p.periodOf())
	x := pad
	y += smallSize
	for _, s := range p.signs() {
		s.words = fit(s.words, edge-pad-20, smallSize, false)
		w := 20 + width(s.words, smallSize, false)
		if x > pad && x+w > edge {
			x, y = pad, y+rowHeight-2
		}
		if c != nil {
			s.show(c, x, y-4)
			c.text(x+20, y, s.words, font{ink: muted, size: smallSize})
		}
		x += w + 14
	}
	w := width(note, smallSize, false)
	if x > pad && x+w > edge {
		y += rowHeight - 2
	}
	if c != nil {
		c.text(edge, y, note, font{ink: muted, size: smallSize, anchor: right})
	}
	return y + 4
}
