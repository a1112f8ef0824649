package filter

import (
	"math/bits"
	"slices"
	"time"

	"tocsin"
)

// Group takes the lines of one source through several filters, and shows a filter only those that it may want: texts that
// its expressions cannot do without are looked for in each line for all filters at once (gate). A line that concerns nobody
// is neither dated nor matched.
//
// The answers are those of Filter.Line, with one exception: a line that is not shown teaches nothing about the format of
// dates, where a date can be read in two ways. What needs lines that were not shown finds them in a past of some hundred
// lines: the date that a line without one takes over, and the lines before it that a match takes (maxlines).
//
// A Group, its filters and their Dates belong to one goroutine, and a filter to one Group only.
type Group struct {
	filters []*Filter
	gate    *gate
	checked []checkedDates
	rings   []int // filters whose matches may span several lines
	past    past
	lines   uint64
	tooLong uint64
	asked   int      // lines that the gate judged since it was weighed
	passed  int      // of them
	rest    int      // lines that it need not judge
	awake   []uint64 // scratch: a set of filters
	scratch []byte   // a line without its date
}

// checkedDates are filters that ask for texts which a date may divide, unless it stands at the start of the line.
type checkedDates struct {
	dates   *Dates
	filters []uint64 // a set, as in gate.met
}

// NewGroup makes a group of filters. Their order is that of the answers.
func NewGroup(filters []*Filter) *Group {
	g := &Group{filters: filters}
	var demands []demand
	for i, f := range filters {
		d := f.demand()
		demands = append(demands, d)
		f.peers = g
		if f.ring != nil {
			g.rings = append(g.rings, i)
		}
		if !f.noDate && !slices.Contains(g.past.dates, f.dates) {
			g.past.dates = append(g.past.dates, f.dates)
		}
		if f.cutting() == cutChecked {
			g.check(f.dates, i)
		}
	}
	g.gate = newGate(demands)
	g.awake = make([]uint64, g.gate.words)
	g.past.keep = minPastLines
	if len(g.rings) > 0 {
		g.past.keep = maxRingLines
	}
	return g
}

// check adds filter i to those whose dates are checked.
func (g *Group) check(d *Dates, i int) {
	at := slices.IndexFunc(g.checked, func(c checkedDates) bool { return c.dates == d })
	if at < 0 {
		at = len(g.checked)
		g.checked = append(g.checked, checkedDates{d, make([]uint64, (len(g.filters)+63)/64)})
	}
	g.checked[at].filters[i/64] |= 1 << (i % 64)
}

// Line passes r to every filter that may want it. found is called for each answer that is not Nothing, with the place of
// its filter in the group; what the answer points to holds until found returns.
func (g *Group) Line(r *tocsin.Record, found func(i int, r *tocsin.Record, res Result)) {
	g.lines++
	if len(r.Text) >= maxLine {
		g.tooLong++
		return
	}
	if g.rest > 0 {
		g.rest--
		if res := g.filters[0].tell(r, g.lines, true); res.Kind != Nothing {
			found(0, r, res)
		}
		return
	}
	some := g.gate.wanted(r.Text)
	g.weigh(some)
	if r.At.IsZero() {
		for i := range g.checked {
			if c := &g.checked[i]; !c.dates.atStart(r.Text) && g.lookAgain(c, r.Text) {
				some = true
			}
		}
	}
	for _, i := range g.rings {
		if g.filters[i].ring.wanted > 0 {
			some = true
		}
	}
	if some {
		g.show(r, found)
	}
	if len(g.rings) > 0 || r.At.IsZero() {
		g.past.add(r, g.lines)
	}
}

// weigh lets the gate rest if it is of little use: to one filter that wants many lines.
func (g *Group) weigh(some bool) {
	if len(g.filters) > 1 {
		return
	}
	if some {
		g.passed++
	}
	const sample = 1 << 10
	if g.asked++; g.asked < sample {
		return
	}
	if g.passed > sample/4 {
		g.rest = 63 * sample
	}
	g.asked, g.passed = 0, 0
}

// lookAgain judges anew which filters of c may want a line, if its date may divide what they look for. It answers whether
// some do.
func (g *Group) lookAgain(c *checkedDates, text []byte) (some bool) {
	_, from, to, _ := c.dates.read(g.lines, text)
	if isLead(text[:from]) {
		return false
	}
	before := g.awake
	copy(before, g.gate.met)
	g.scratch = append(append(g.scratch[:0], text[:from]...), text[to:]...)
	g.gate.wanted(g.scratch)
	for i, f := range c.filters {
		g.gate.met[i] = g.gate.met[i]&f | before[i]&^f
		some = some || g.gate.met[i] != 0
	}
	return some
}

// show takes r through the filters in gate.met, and those that a match over several lines keeps awake.
func (g *Group) show(r *tocsin.Record, found func(int, *tocsin.Record, Result)) {
	clear(g.awake)
	for _, i := range g.rings {
		if g.filters[i].ring.wanted > 0 {
			g.awake[i/64] |= 1 << (i % 64)
		}
	}
	for w := range g.gate.words {
		for set := g.gate.met[w] | g.awake[w]; set != 0; set &= set - 1 {
			bit := bits.TrailingZeros64(set)
			i := 64*w + bit
			if res := g.filters[i].tell(r, g.lines, g.gate.met[w]>>bit&1 != 0); res.Kind != Nothing {
				found(i, r, res)
			}
		}
	}
}

// past holds the last lines, so that what was not read of them in time can be read later.
type past struct {
	dates []*Dates // those that may have to read them
	text  []byte   // of all lines
	lines []pastLine
	keep  int // lines to keep when room is made
}

type pastLine struct {
	n   uint64
	end int // in past.text; it begins where the one before ends
	at  time.Time
	pos tocsin.Position
}

// Bounds of the past. Where room is made for more, the newest lines stay: as many as a ring may want, or as it takes to
// find a date.
const (
	maxPastBytes = 256 << 10
	maxPastLines = 1024
	minPastLines = 16
	lookBack     = 4        // lines that are read to find a date before they are gone, and nobody has asked for one
	minPastBytes = 96 << 10 // more than a ring holds: dates come off
)

// add keeps a line that was shown to whoever may want it.
func (p *past) add(r *tocsin.Record, n uint64) {
	if len(p.lines) == maxPastLines || len(p.text)+len(r.Text) > maxPastBytes {
		p.makeRoom()
	}
	p.text = append(p.text, r.Text...)
	p.lines = append(p.lines, pastLine{n, len(p.text), r.At, r.Pos})
}

func (p *past) makeRoom() {
	for _, d := range p.dates {
		p.date(d, lookBack)
	}
	from := max(0, len(p.lines)-p.keep)
	for len(p.text)-p.begin(from) > minPastBytes {
		from++
	}
	begin := p.begin(from)
	p.text = p.text[:copy(p.text, p.text[begin:])]
	p.lines = p.lines[:copy(p.lines, p.lines[from:])]
	for i := range p.lines {
		p.lines[i].end -= begin
	}
}

// begin is where line i begins.
func (p *past) begin(i int) int {
	if i == 0 {
		return 0
	}
	return p.lines[i-1].end
}

func (p *past) lineText(i int) []byte { return p.text[p.begin(i):p.lines[i].end] }

// date makes d.latest the date of the newest line of the past that has one. It looks at most lines that d has not seen.
func (p *past) date(d *Dates, most int) {
	for i := len(p.lines) - 1; i >= 0 && p.lines[i].n > d.upTo && most > 0; i-- {
		most--
		if !p.lines[i].at.IsZero() {
			continue
		}
		if at, _, _, ok := d.Find(p.lineText(i)); ok {
			d.latest = at
			break
		}
	}
	if n := len(p.lines); n > 0 {
		d.upTo = max(d.upTo, p.lines[n-1].n)
	}
}

// each hands over the lines of the past from number n on.
func (p *past) each(n uint64, f func(*tocsin.Record)) {
	i, _ := slices.BinarySearchFunc(p.lines, n, func(l pastLine, n uint64) int { return int(l.n) - int(n) })
	for ; i < len(p.lines); i++ {
		f(&tocsin.Record{Pos: p.lines[i].pos, At: p.lines[i].at, Text: p.lineText(i)})
	}
}
