package graph

import (
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode"

	fonts "golang.org/x/image/font"
	"golang.org/x/image/font/gofont/gobold"
	"golang.org/x/image/font/gofont/goregular"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/font/sfnt"
	"golang.org/x/image/math/fixed"
	"golang.org/x/image/vector"
)

// raster is a picture as pixels.
type raster struct {
	img   *image.RGBA
	theme Theme
	faces map[face]typeface
	base  map[rgb]bool // colours that are drawn with
	err   error
}

type face struct {
	size float64
	bold bool
}

type typeface struct {
	fonts.Face
	letters *opentype.Font
}

// shown is text in letters that the typeface has.
func (t *typeface) shown(words string) string {
	var b sfnt.Buffer
	return strings.Map(func(r rune) rune {
		switch i, err := t.letters.GlyphIndex(&b, r); {
		case err == nil && i != 0:
			return r
		case unicode.IsSpace(r):
			return ' '
		}
		return '?'
	}, words)
}

// PNG writes the picture with a palette of at most 256 colours.
func (g *Graph) PNG(w io.Writer) error {
	p := g.layout()
	r := &raster{img: image.NewRGBA(image.Rect(0, 0, g.o.Width, int(math.Ceil(p.height)))), theme: g.o.Theme, faces: map[face]typeface{}, base: map[rgb]bool{}}
	r.rect(0, 0, float64(g.o.Width), math.Ceil(p.height), paper)
	p.draw(r)
	if r.err != nil {
		return fmt.Errorf("draw %s: %w", g.title, r.err)
	}
	return png.Encode(w, r.paletted())
}

func (r *raster) colour(k ink, opacity float64) color.RGBA {
	c := k.light
	if r.theme == Dark {
		c = k.dark
	}
	back := paper.light
	if r.theme == Dark {
		back = paper.dark
	}
	r.base[c.mix(back, 1-opacity)] = true
	a := math.Round(opacity * 255)
	part := func(v uint8) uint8 { return uint8(math.Round(float64(v) * a / 255)) }
	return color.RGBA{part(c[0]), part(c[1]), part(c[2]), uint8(a)}
}

func (r *raster) rect(x, y, w, h float64, fill ink) {
	r.area(outline{{{x, y}, {x + w, y}, {x + w, y + h}, {x, y + h}}}, fill, 1)
}

func (r *raster) area(p outline, fill ink, opacity float64) {
	var shape shape
	for _, run := range p {
		shape.add(run)
	}
	r.fill(&shape, r.colour(fill, opacity))
}

// shape is polygons and the pixels they touch.
type shape struct {
	polygons [][]point
	x, y     span
}

type span struct {
	from, to float64
	any      bool
}

func (s *span) add(v float64) {
	if !s.any {
		*s = span{v, v, true}
		return
	}
	s.from, s.to = min(s.from, v), max(s.to, v)
}

func (s *shape) add(polygon []point) {
	for _, p := range polygon {
		s.x.add(p.x)
		s.y.add(p.y)
	}
	s.polygons = append(s.polygons, polygon)
}

// fill fills what lies within the polygons. What they share is filled once, if they turn the same way.
func (r *raster) fill(s *shape, c color.RGBA) {
	box := image.Rect(int(math.Floor(s.x.from)), int(math.Floor(s.y.from)), int(math.Ceil(s.x.to)), int(math.Ceil(s.y.to))).Intersect(r.img.Bounds())
	if box.Empty() {
		return
	}
	z := vector.NewRasterizer(box.Dx(), box.Dy())
	at := func(p point) (float32, float32) {
		return float32(p.x - float64(box.Min.X)), float32(p.y - float64(box.Min.Y))
	}
	for _, polygon := range s.polygons {
		z.MoveTo(at(polygon[0]))
		for _, p := range polygon[1:] {
			z.LineTo(at(p))
		}
		z.ClosePath()
	}
	z.Draw(r.img, box, image.NewUniform(c), image.Point{})
}

func (r *raster) stroke(p outline, k pen) {
	opacity := k.opacity
	if opacity == 0 {
		opacity = 1
	}
	c := r.colour(k.ink, opacity)
	if k.dash != "" {
		p = dashed(p, k.dash)
	}
	var s shape
	for _, run := range p {
		for i := 1; i < len(run); i++ {
			if q := bar(run[i-1], run[i], k.width); q != nil {
				s.add(q)
			}
		}
	}
	r.fill(&s, c)
}

// bar is a piece of a line with its width, a little longer than from a to b so that it meets the next. It always turns the
// same way.
func bar(a, b point, width float64) []point {
	dx, dy := b.x-a.x, b.y-a.y
	length := math.Hypot(dx, dy)
	if length == 0 {
		return nil
	}
	dx, dy = dx/length*width/2, dy/length*width/2
	reach := 0.5
	if dx == 0 || dy == 0 { // along the pixels: exactly
		reach = 0
	}
	a, b = point{a.x - dx*reach, a.y - dy*reach}, point{b.x + dx*reach, b.y + dy*reach}
	return []point{{a.x + dy, a.y - dx}, {b.x + dy, b.y - dx}, {b.x - dy, b.y + dx}, {a.x - dy, a.y + dx}}
}

// dashed cuts lines into dashes.
func dashed(p outline, dash string) (out outline) {
	on, off, _ := strings.Cut(dash, " ")
	stroke, _ := strconv.ParseFloat(on, 64)
	gap, _ := strconv.ParseFloat(off, 64)
	for _, run := range p {
		left, drawing := stroke, true
		piece := []point{run[0]}
		for i := 1; i < len(run); i++ {
			a, b := run[i-1], run[i]
			length := math.Hypot(b.x-a.x, b.y-a.y)
			at := 0.0
			for length-at > left {
				at += left
				q := point{a.x + (b.x-a.x)*at/length, a.y + (b.y-a.y)*at/length}
				if drawing {
					out = append(out, append(piece, q))
				}
				piece, drawing = []point{q}, !drawing
				if left = stroke; !drawing {
					left = gap
				}
			}
			left -= length - at
			if drawing {
				piece = append(piece, b)
			}
		}
		if drawing && len(piece) > 1 {
			out = append(out, piece)
		}
	}
	return out
}

func (r *raster) text(x, y float64, words string, f font) {
	use, err := r.face(face{f.size, f.bold})
	if err != nil {
		r.err = err
		return
	}
	d := fonts.Drawer{Dst: r.img, Src: image.NewUniform(r.colour(f.ink, 1)), Face: use.Face}
	words = use.shown(words)
	switch w := float64(d.MeasureString(words)) / 64; f.anchor {
	case middle:
		x -= w / 2
	case right:
		x -= w
	}
	d.Dot = fixed.Point26_6{X: fixed.Int26_6(math.Round(x * 64)), Y: fixed.I(int(math.Round(y)))}
	d.DrawString(words)
}

func (r *raster) face(f face) (typeface, error) {
	if have, ok := r.faces[f]; ok {
		return have, nil
	}
	ttf := goregular.TTF
	if f.bold {
		ttf = gobold.TTF
	}
	parsed, err := opentype.Parse(ttf)
	if err != nil {
		return typeface{}, err
	}
	have := typeface{letters: parsed}
	have.Face, err = opentype.NewFace(parsed, &opentype.FaceOptions{Size: f.size, DPI: 72, Hinting: fonts.HintingVertical})
	if err == nil {
		r.faces[f] = have
	}
	return have, err
}

func (r *raster) begin(string) {}
func (r *raster) end()         {}

// blends are how many shades between a colour and the paper a PNG has: the edges of lines and letters.
const blends = 2

// paletted is the picture with few colours: those that were drawn with and shades of them, the nearest for each pixel.
func (r *raster) paletted() *image.Paletted {
	back := paper.light
	if r.theme == Dark {
		back = paper.dark
	}
	palette := color.Palette{color.RGBA{back[0], back[1], back[2], 255}}
	for share := range blends {
		for _, c := range sortedColours(r.base) {
			c = c.mix(back, float64(share)/blends)
			if len(palette) < 256 && c != back {
				palette = append(palette, color.RGBA{c[0], c[1], c[2], 255})
			}
		}
	}
	out := image.NewPaletted(r.img.Bounds(), palette)
	known := map[rgb]uint8{}
	last, index := back, uint8(0)
	for i := range out.Pix {
		if k := rgb(r.img.Pix[4*i : 4*i+3]); k != last {
			var ok bool
			if index, ok = known[k]; !ok {
				index = uint8(palette.Index(color.RGBA{k[0], k[1], k[2], 255}))
				known[k] = index
			}
			last = k
		}
		out.Pix[i] = index
	}
	return out
}
