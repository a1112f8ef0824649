// Package graph draws one service over a time: curves, axes, marks and a legend, as SVG, PNG, table or CSV.
//
// It honours Munin's attributes, and prints the legend's numbers as rrdtool prints them. What is given is drawn: it reads
// no store and asks no clock. Labels come from strangers: they are bounded, and written so that they stay text.
//
// The one thing to know: New works everything out once (Graph); SVG, PNG, Rows and CSV then only write it down.
package graph

import (
	"errors"
	"fmt"
	"time"

	"tocsin/internal/locale"
	"tocsin/internal/munin"
)

// Point is what a field was during one step.
type Point struct {
	T             int64 // the end of the step, Unix seconds
	Avg, Min, Max float64
}

// Data is what is drawn.
type Data struct {
	Service  *munin.Service
	From, To time.Time
	Step     time.Duration
	Points   map[string][]Point // by field, in the order of time; steps without a value are left out
	Ghost    map[string][]Point // those of another time, moved to this one: drawn pale
}

// Options say how it is drawn.
type Options struct {
	Width     int            // of the picture in pixels, 280 to 2000; 0: 500
	Height    int            // of the space for the curves, 40 to 1200; 0: 175, as Munin's
	Title     string         // "": the service's
	Subtitle  string         // stands right of the title: "web1 · week"
	Bare      bool           // no title: the page has one
	NoLegend  bool           // only the curves and the axes
	Theme     Theme          //
	Inline    bool           // the SVG becomes a part of a page whose policy forbids style elements
	Locale    *locale.Locale // language and time zone; nil: English, UTC
	Palette   string         // "old" is Munin's of before; everything else is "default"
	Marks     []Mark         //
	Levels    []Level        // beside those of the fields' warning and critical
	GhostName string         // what Ghost is: "last year"
}

// Theme is light or dark.
type Theme uint8

// The themes.
const (
	Auto  Theme = iota // what the reader's system says; a PNG is light
	Light              //
	Dark               //
)

// Mark is something that happened.
type Mark struct {
	At   time.Time
	Kind MarkKind
	N    int    // of what, where that is counted
	Text string // is shown when the pointer rests on the mark; "": what its kind and N say
}

// MarkKind is a kind of mark. Each has its own shape.
type MarkKind uint8

// The kinds.
const (
	MarkBans    MarkKind = iota // a circle: many bans
	MarkReboot                  // a diamond
	MarkUpgrade                 // a square: packages
	MarkAlert                   // a triangle
	markKinds
)

// Level is a limit, drawn dashed.
type Level struct {
	Value    float64 // as the curve is drawn, after cdef
	Critical bool    // or else a warning
}

// The bounds of what is drawn. Hostile services have many fields and long labels.
const (
	maxSteps  = 200_000
	maxFields = 500
	maxLabel  = 200 // letters
	maxMarks  = 500
	maxLevels = 8
	maxCells  = 20_000_000  // steps of all fields
	maxWork   = 200_000_000 // additions that all cdefs together cost: about a second
)

// ErrData is wrapped by errors about a time that cannot be drawn.
var ErrData = errors.New("nothing can be drawn")

// Graph is a picture that is worked out.
type Graph struct {
	o      Options
	d      *Data
	words  *locale.Locale
	args   args
	format format // of current, minimum and maximum
	mean   format // of the average: graph_printf does not count for it
	title  string
	label  string // of the vertical axis
	grid   grid
	curves []curve // in the order of drawing
	total  *curve
	levels []Level
	work   int64    // of maxWork that the cdefs have cost
	Notes  []string // what was not understood of the service's attributes
}

// grid is the time in steps.
type grid struct {
	first int64 // Unix seconds at which the first step ends
	step  int64 // seconds
	n     int
}

// New works a picture out.
func New(d Data, o Options) (*Graph, error) {
	g := &Graph{o: o, d: &d, words: o.Locale}
	if g.words == nil {
		g.words = locale.Get("en").In(time.UTC)
	}
	step, from, to := int64(d.Step/time.Second), d.From.Unix(), d.To.Unix()
	if step < 1 || to <= from || (to-from)/step > maxSteps || (to-from)/step*int64(len(d.Service.Fields)) > maxCells {
		return nil, fmt.Errorf("%w: from %s to %s in steps of %s", ErrData, d.From.Format(time.RFC3339), d.To.Format(time.RFC3339), d.Step)
	}
	first := from - from%step + step
	g.grid = grid{first: first, step: step, n: int((to-first+step-1)/step) + 1} // the last may be cut short
	g.o.Width = between(orElse(o.Width, 500), 280, 2000)
	g.o.Height = between(orElse(o.Height, 175), 40, 1200)
	g.plan()
	return g, nil
}

// Window is one of Munin's times, "day", "week", "month" or "year": how long it is and in which steps it is drawn. Each has
// 400 steps.
func Window(name string) (length, step time.Duration, ok bool) {
	switch name {
	case "day":
		step = 5 * time.Minute
	case "week":
		step = 30 * time.Minute
	case "month":
		step = 2 * time.Hour
	case "year":
		step = 24 * time.Hour
	}
	return 400 * step, step, step > 0
}

func between(v, least, most int) int { return max(least, min(most, v)) }

func orElse(v, other int) int {
	if v == 0 {
		return other
	}
	return v
}

// Title is the graph's title.
func (g *Graph) Title() string { return g.title }

// VLabel is what the vertical axis says.
func (g *Graph) VLabel() string { return g.label }

// Span is where the time begins and ends in the picture, in its pixels from the left: what lies between can be pointed at.
func (g *Graph) Span() (left, right float64) {
	p := g.layout()
	return p.plot.x, p.plot.x + p.plot.w
}
