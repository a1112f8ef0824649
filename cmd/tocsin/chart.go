package main

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"tocsin"
	"tocsin/internal/api"
)

// The size of a chart in letters. A letter of Braille holds two dots across and four down.
const (
	chartWidth  = 72
	chartHeight = 6
)

// dots are the bits of the letter U+2800 by row and column (Unicode, Braille Patterns).
var dots = [4][2]rune{{0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}}

// printGraph draws each field with what Munin writes below: the last value, minimum, average, maximum.
func printGraph(w io.Writer, g *api.Graph, from, to time.Time) {
	fmt.Fprintf(w, "%s %s: %s", tocsin.Printable(g.Server), tocsin.Printable(g.Service), cmp.Or(tocsin.Printable(g.Title), "no title"))
	if g.Unit != "" {
		fmt.Fprintf(w, " (%s)", tocsin.Printable(g.Unit))
	}
	fmt.Fprintln(w)
	for _, f := range g.Fields {
		fmt.Fprintf(w, "\n%s\n", cmp.Or(tocsin.Printable(f.Label), tocsin.Printable(f.Name)))
		if len(f.Points) == 0 {
			fmt.Fprintln(w, "  nothing known")
			continue
		}
		least, most := span(f.Points)
		drawChart(w, f.Points, from.Unix(), to.Unix(), least, most)
		fmt.Fprintf(w, "%9s cur %s  min %s  avg %s  max %s\n", "", scaled(f.Points[len(f.Points)-1].Avg), scaled(least), scaled(mean(f.Points)), scaled(most))
	}
	fmt.Fprintf(w, "\n%9s %s%*s\n", "", from.Local().Format("2006-01-02 15:04"), chartWidth-16, to.Local().Format("2006-01-02 15:04"))
}

func span(points []api.GraphPoint) (least, most float64) {
	least, most = math.Inf(1), math.Inf(-1)
	for _, p := range points {
		least, most = min(least, p.Min), max(most, p.Max)
	}
	return least, most
}

func mean(points []api.GraphPoint) float64 {
	sum := 0.0
	for _, p := range points {
		sum += p.Avg / float64(len(points))
	}
	return sum
}

// drawChart draws averages as dots, with zero on the axis unless all values are far from it.
func drawChart(w io.Writer, points []api.GraphPoint, from, to int64, least, most float64) {
	bottom, top := min(least, 0), max(most, 0)
	if least > 0 && most-least < most/4 {
		bottom = least
	}
	if top == bottom {
		top = bottom + 1
	}
	var cells [chartHeight][chartWidth]rune
	for _, p := range points {
		if p.T < from || p.T > to {
			continue
		}
		x := int(float64(p.T-from) / float64(to-from+1) * 2 * chartWidth)
		y := int((top - p.Avg) / (top - bottom) * (4*chartHeight - 1))
		if y < 0 || y >= 4*chartHeight {
			continue // infinity
		}
		cells[y/4][x/2] |= dots[y%4][x%2]
	}
	for row := range cells {
		label := ""
		switch row {
		case 0:
			label = scaled(top)
		case chartHeight - 1:
			label = scaled(bottom)
		}
		var line strings.Builder
		for _, c := range cells[row] {
			line.WriteRune(0x2800 + c)
		}
		fmt.Fprintf(w, "%9s %s\n", label, line.String())
	}
}
