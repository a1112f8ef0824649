package graph

import (
	"math"
	"slices"
)

// staleAfter is after how many seconds without news nothing is current any more, as for Munin.
const staleAfter = 900

// Row is a line of the legend: a curve, and what it was over the time.
type Row struct {
	Name  string // of the field; "total" of the total
	Label string
	// Cur, Min, Avg, Max are written as rrdtool writes them; of a mirrored pair as "below/above".
	Cur, Min, Avg, Max string

	cells [4]cell
	curve *curve
}

// cell is a number of the legend, and that of the field that is mirrored.
type cell struct {
	value    number
	below    number
	mirrored bool
}

func (c cell) String() string {
	if c.mirrored {
		return c.below.String() + "/" + c.value.String()
	}
	return c.value.String()
}

// Rows is the legend, with numbers in the reader's language.
func (g *Graph) Rows() []Row {
	var rows []Row
	for i := range g.curves {
		rows = append(rows, g.row(&g.curves[i]))
	}
	if g.total != nil {
		rows = append(rows, g.row(g.total))
	}
	return rows
}

func (g *Graph) row(c *curve) Row {
	r := Row{Name: c.name, Label: c.label, curve: c}
	above := g.summary(&c.values)
	for i := range r.cells {
		f := g.format
		if i == 2 {
			f = g.mean
		}
		r.cells[i].value = g.spoken(f.print(above[i], g.args.base))
		if c.negative != nil {
			below := g.summary(c.negative)
			r.cells[i].mirrored = true
			r.cells[i].below = g.spoken(f.print(below[i], g.args.base))
		}
	}
	r.Cur, r.Min, r.Avg, r.Max = r.cells[0].String(), r.cells[1].String(), r.cells[2].String(), r.cells[3].String()
	return r
}

// spoken is a number as the reader's language writes it.
func (g *Graph) spoken(n number) number {
	n.text = g.words.Decimal(n.text)
	return n
}

// summary is the last, least, mean and greatest of what is known, as rrdtool's GPRINT finds them: the least of the minima,
// the mean of the means, the greatest of the maxima. What is infinite does not count.
func (g *Graph) summary(v *values) [4]float64 {
	out := [4]float64{math.NaN(), math.NaN(), math.NaN(), math.NaN()}
	finite := func(f float64) bool { return !math.IsNaN(f) && !math.IsInf(f, 0) }
	sum, n := 0.0, 0
	for i, avg := range v.avg {
		if finite(avg) {
			out[0] = avg
			sum += avg
			n++
		}
		if least := v.min[i]; finite(least) && !(out[1] <= least) {
			out[1] = least
		}
		if most := v.max[i]; finite(most) && !(out[3] >= most) {
			out[3] = most
		}
	}
	if n > 0 {
		out[2] = sum / float64(n)
	}
	if fresh := int(max(1, (staleAfter+g.grid.step-1)/g.grid.step)) + 1; fresh < len(v.avg) && !slices.ContainsFunc(v.avg[len(v.avg)-fresh:], finite) {
		out[0] = math.NaN()
	}
	return out
}
