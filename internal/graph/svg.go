package graph

import (
	"bytes"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

// svg is a picture as SVG.
type svg struct {
	body   []byte
	theme  Theme
	inline bool
	inks   []ink // of the style's classes, where the theme is the reader's
}

// SVG writes the picture. It has no script and, inline, no style: then it takes the page's colour of text. Loaded as an
// image it follows the reader's theme.
func (g *Graph) SVG(w io.Writer) error {
	p := g.layout()
	s := &svg{theme: g.o.Theme, inline: g.o.Inline}
	p.draw(s)
	var b bytes.Buffer
	size := " " + num(float64(g.o.Width)) + " " + num(math.Ceil(p.height))
	b.WriteString(`<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0` + size + `" width="` + num(float64(g.o.Width)) + `" height="` + num(math.Ceil(p.height)) + `" font-family="system-ui,sans-serif">`)
	b.WriteString("<title>" + escape(p.spokenTitle()) + "</title><desc>" + escape(p.description()) + "</desc>")
	s.style(&b)
	if !s.inline {
		b.WriteString(`<rect width="100%" height="100%"` + s.attr("fill", paper) + "/>")
	}
	b.Write(s.body)
	b.WriteString("</svg>\n")
	_, err := w.Write(b.Bytes())
	return err
}

// spokenTitle is what the picture is called for those who do not see it.
func (g *Graph) spokenTitle() string {
	if s := shown(g.o.Subtitle); s != "" {
		return g.title + ", " + s
	}
	return g.title
}

// mostSpoken is how many curves a description names.
const mostSpoken = 20

// description is the legend in a sentence for each curve.
func (p *picture) description() string {
	var b strings.Builder
	if p.label != "" {
		b.WriteString(p.label + ". ")
	}
	for i, r := range p.rows {
		if i == mostSpoken {
			b.WriteString("…")
			break
		}
		b.WriteString(p.words.T("graph.spoken", "label", r.Label, "cur", r.Cur, "min", r.Min, "avg", r.Avg, "max", r.Max) + " ")
	}
	return strings.TrimSpace(b.String())
}

// style writes what the classes mean in each theme.
func (s *svg) style(b *bytes.Buffer) {
	if s.inline || s.theme != Auto {
		return
	}
	s.class(paper)
	b.WriteString("<style>")
	for i, k := range s.inks {
		b.WriteString("." + className(i) + "{color:" + k.light.hex() + "}")
	}
	b.WriteString("@media(prefers-color-scheme:dark){")
	for i, k := range s.inks {
		if k.dark != k.light {
			b.WriteString("." + className(i) + "{color:" + k.dark.hex() + "}")
		}
	}
	b.WriteString("}</style>")
}

func className(i int) string { return "c" + strconv.Itoa(i) }

func (s *svg) class(k ink) string {
	i := slices.Index(s.inks, k)
	if i < 0 {
		i = len(s.inks)
		s.inks = append(s.inks, k)
	}
	return className(i)
}

// faded are the inks that, within a page, are its colour of text with less strength.
var faded = map[ink]string{letters: "", muted: ".72", faint: ".12", stronger: ".25", frame: ".5", pale: ".55"}

// attr is the attribute fill or stroke.
func (s *svg) attr(name string, k ink) string {
	switch {
	case s.theme == Light:
		return " " + name + `="` + k.light.hex() + `"`
	case s.theme == Dark:
		return " " + name + `="` + k.dark.hex() + `"`
	case !s.inline:
		return ` class="` + s.class(k) + `" ` + name + `="currentColor"`
	}
	if opacity, ok := faded[k]; ok {
		out := " " + name + `="currentColor"`
		if opacity != "" {
			out += " " + name + `-opacity="` + opacity + `"`
		}
		return out
	}
	return " " + name + `="` + k.light.against(paper.dark, white, 2).hex() + `"`
}

func (s *svg) rect(x, y, w, h float64, fill ink) {
	s.add(`<rect x="`, num(x), `" y="`, num(y), `" width="`, num(w), `" height="`, num(h), `"`, s.attr("fill", fill), "/>")
}

func (s *svg) area(p outline, fill ink, opacity float64) {
	if len(p) == 0 {
		return
	}
	s.add(`<path`, s.attr("fill", fill))
	if opacity < 1 {
		s.add(` opacity="`, num2(opacity), `"`)
	}
	s.add(` d="`)
	if opacity < 1 { // a band need not be finer than a pixel
		p = whole(p)
	}
	s.path(p, true)
	s.add(`"/>`)
}

func (s *svg) stroke(p outline, k pen) {
	if len(p) == 0 {
		return
	}
	s.add(`<path fill="none"`, s.attr("stroke", k.ink))
	if k.width != 1 {
		s.add(` stroke-width="`, num2(k.width), `"`)
	}
	if k.opacity != 0 {
		s.add(` opacity="`, num2(k.opacity), `"`)
	}
	if k.dash != "" {
		s.add(` stroke-dasharray="`, k.dash, `"`)
	}
	if k.crisp {
		s.add(` shape-rendering="crispEdges"`)
	} else if k.dash == "" {
		s.add(` stroke-linejoin="round"`)
	}
	s.add(` d="`)
	s.path(p, false)
	s.add(`"/>`)
}

func (s *svg) text(x, y float64, words string, f font) {
	if words == "" {
		return
	}
	s.add(`<text x="`, num(x), `" y="`, num(y), `" font-size="`, num(f.size), `"`)
	if f.bold {
		s.add(` font-weight="600"`)
	}
	switch f.anchor {
	case middle:
		s.add(` text-anchor="middle"`)
	case right:
		s.add(` text-anchor="end"`)
	}
	s.add(s.attr("fill", f.ink), `>`, escape(words), `</text>`)
}

func (s *svg) begin(title string) { s.add(`<g><title>`, escape(title), `</title>`) }
func (s *svg) end()               { s.add(`</g>`) }

func (s *svg) add(parts ...string) {
	for _, p := range parts {
		s.body = append(s.body, p...)
	}
}

// path writes an outline in tenths of a pixel, relative from point to point. Points on a horizontal line are left out.
func (s *svg) path(p outline, closed bool) {
	for _, run := range p {
		x, y := tenths(run[0].x), tenths(run[0].y)
		s.add("M")
		s.pair(x, y)
		s.add("l")
		start := len(s.body)
		for i := 1; i < len(run); i++ {
			nx, ny := tenths(run[i].x), tenths(run[i].y)
			if nx == x && ny == y || ny == y && i+1 < len(run) && tenths(run[i+1].y) == y && (run[i].x < run[i+1].x) == (x < nx) {
				continue
			}
			if len(s.body) > start && nx >= x {
				s.body = append(s.body, ' ')
			}
			s.pair(nx-x, ny-y)
			x, y = nx, ny
		}
		if len(s.body) == start { // all in one place
			s.add("0 0")
		}
		if closed {
			s.add("z")
		}
	}
}

// whole is an outline in whole pixels.
func whole(p outline) outline {
	out := make(outline, len(p))
	for i, run := range p {
		out[i] = make([]point, len(run))
		for j, q := range run {
			out[i][j] = point{math.Round(q.x), math.Round(q.y)}
		}
	}
	return out
}

func tenths(v float64) int { return int(math.Round(v * 10)) }

func (s *svg) pair(x, y int) {
	s.body = appendTenths(s.body, x)
	if y >= 0 {
		s.body = append(s.body, ' ')
	}
	s.body = appendTenths(s.body, y)
}

func appendTenths(b []byte, v int) []byte {
	if v < 0 {
		b, v = append(b, '-'), -v
	}
	if v >= 10 || v == 0 {
		b = strconv.AppendInt(b, int64(v/10), 10)
	}
	if v%10 != 0 {
		b = append(b, '.', byte('0'+v%10))
	}
	return b
}

// num writes a coordinate.
func num(v float64) string { return string(appendTenths(nil, tenths(v))) }

func num2(v float64) string {
	return strings.TrimPrefix(strconv.FormatFloat(math.Round(v*100)/100, 'f', -1, 64), "0")
}

// escape writes text for XML. Printable text has no character that XML does not allow.
func escape(s string) string { return escaper.Replace(s) }

var escaper = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&#34;", "'", "&#39;")
