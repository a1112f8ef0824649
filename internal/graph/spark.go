package graph

import "math"

// Spark is a tiny curve as SVG, for a line of text: w by h pixels, in the colour of the text around it. The scale begins at
// zero. Points lie side by side whatever their times; NaN is a gap. label is what it is called for those who do not see it;
// "" hides it from them, where a number beside says the same.
func Spark(points []float64, w, h int, label string) string {
	s := svg{inline: true}
	s.add(`<svg class="spark" viewBox="0 0 `, num(float64(w)), " ", num(float64(h)), `" width="`, num(float64(w)), `" height="`, num(float64(h)), `"`)
	if label == "" {
		s.add(` aria-hidden="true">`)
	} else {
		s.add(` role="img" aria-label="`, escape(shown(label)), `">`)
	}
	points = narrowed(points, w/2)
	most := 0.0
	for _, v := range points {
		if !math.IsNaN(v) && !math.IsInf(v, 0) {
			most = max(most, v)
		}
	}
	if most == 0 {
		most = 1
	}
	p := picture{plot: box{x: 0.5, y: 1, w: float64(w) - 1, h: float64(h) - 2}, scale: scaleY{top: most}}
	for i := range points {
		p.xs = append(p.xs, math.Round((float64(i)+0.5)/float64(len(points))*p.plot.w))
		if !math.IsNaN(points[i]) { // whole pixels are enough, and short
			points[i] = most * math.Round(p.scale.at(points[i])*p.plot.h) / p.plot.h
		}
	}
	if line := p.through(points); len(line) > 0 {
		s.add(`<path fill="none" stroke="currentColor" d="`)
		s.path(line, false)
		s.add(`"/>`)
	}
	s.add(`</svg>`)
	return string(s.body)
}

// narrowed is at most n values, the greatest of those that fall together.
func narrowed(points []float64, n int) []float64 {
	out := make([]float64, min(len(points), max(n, 1)))
	for i := range out {
		from, to := i*len(points)/len(out), (i+1)*len(points)/len(out)
		out[i] = math.NaN()
		for _, v := range points[from:to] {
			if !(out[i] >= v) && !math.IsNaN(v) {
				out[i] = v
			}
		}
	}
	return out
}
