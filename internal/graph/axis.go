package graph

import (
	"math"
	"strings"
	"time"
)

// scaleY is the vertical axis: the values between bottom and top, and where it has marks.
type scaleY struct {
	bottom, top float64
	log         bool
	ticks       []tickY
}

type tickY struct {
	value float64
	label string
}

// at is where a value stands, 0 at the bottom to 1 at the top. What is beyond stands at the edge.
func (s *scaleY) at(v float64) float64 {
	if s.log {
		if v <= s.bottom {
			return 0
		}
		return min(1, math.Log(v/s.bottom)/math.Log(s.top/s.bottom))
	}
	return max(0, min(1, (v-s.bottom)/(s.top-s.bottom)))
}

// spikes is how far beyond the highest average maxima may push the axis: farther ones are cut off, or a single spike would
// leave the rest flat.
const spikes = 2.5

// farthest is how far an axis goes at most: beyond, the distance of two values is no number any more.
const farthest = 1e250

// newScale makes an axis for averages from least to most, with maxima up to peak and minima down to pit.
func (g *Graph) newScale(least, most, pit, peak float64, zero bool, height int) scaleY {
	a := &g.args
	if least > most { // nothing is known
		least, most, pit, peak, zero = 0, 1, 0, 1, true
	}
	if a.log {
		return g.logScale(least, most, peak)
	}
	bottom, top := least, most
	if zero || least > 0 && most-least > most/4 {
		bottom, top = min(bottom, 0), max(top, 0)
	}
	size := max(math.Abs(bottom), math.Abs(top))
	top = max(top, min(peak, spikes*size))
	bottom = min(bottom, max(pit, -spikes*size))
	fixedBottom, fixedTop := false, false
	if !math.IsNaN(a.lower) && (a.rigid || a.lower <= bottom) {
		bottom, fixedBottom = a.lower, true
	}
	if !math.IsNaN(a.upper) && (a.rigid || a.upper >= top) {
		top, fixedTop = a.upper, true
	}
	bottom, top = max(-farthest, min(farthest, bottom)), max(-farthest, min(farthest, top))
	if top-bottom < 1/farthest || !(top > bottom) {
		top = bottom + max(math.Abs(bottom)/2, 1)
	}
	step := niceStep((top-bottom)/float64(max(2, height/30)), a.base)
	if !fixedTop && !a.tight && !a.tightTop {
		top = math.Ceil(top/(step/2)-1e-9) * step / 2
	}
	if !fixedBottom && !a.tight {
		bottom = math.Floor(bottom/(step/2)+1e-9) * step / 2
	}
	s := scaleY{bottom: bottom, top: top}
	write := g.axisWriter(max(math.Abs(bottom), math.Abs(top)), step)
	for i := math.Ceil(bottom/step - 1e-9); i*step <= top+step*1e-9 && len(s.ticks) < 100; i++ {
		s.ticks = append(s.ticks, tickY{i * step, write(i * step)})
	}
	return s
}

// axisWriter writes numbers of an axis up to most, all with the same prefix.
func (g *Graph) axisWriter(most, step float64) func(v float64) string {
	exponent := 0 // of base
	switch {
	case g.args.hasExponent:
		exponent = g.args.exponent / 3
	case most > 0:
		exponent = int(math.Floor(math.Log(most)/math.Log(g.args.base) + 1e-9))
		if exponent == -1 && most >= 0.1 && g.args.base == 1000 {
			exponent = 0 // 0.5, not 500 m
		}
		if unit := math.Pow(g.args.base, float64(exponent)); exponent == 1 && step < unit && most < 2*unit {
			exponent = 0 // 500 and 1000, not 0.5 k and 1.0 k
		}
	}
	unit := math.Pow(g.args.base, float64(exponent))
	return func(v float64) string {
		if v == 0 {
			return "0"
		}
		if most/unit >= 1e7 || most/unit < 1e-7 { // where no prefix is wanted
			return g.words.Decimal(strings.Replace(trimmed(v/unit), "e+", "e", 1))
		}
		return g.words.Decimal(plain(v/unit, step/unit)) + prefix(exponent)
	}
}

// niceStep is the least of 1, 2, 5, 10 .. (of 1, 2, 4, 8 .. with base 1024) that is rough or more.
func niceStep(rough, base float64) float64 {
	if base == 1024 && rough >= 1 {
		return math.Exp2(math.Ceil(math.Log2(rough) - 1e-9))
	}
	power := math.Pow(10, math.Floor(math.Log10(rough)))
	for _, n := range []float64{1, 2, 5} {
		if n*power >= rough*(1-1e-9) {
			return n * power
		}
	}
	return 10 * power
}

// logScale is an axis on which each step is ten times the one before.
func (g *Graph) logScale(least, most, peak float64) scaleY {
	a := &g.args
	bottom, top := least, max(most, peak)
	if a.lower > 0 && (a.rigid || a.lower < bottom || !(bottom > 0)) {
		bottom = a.lower
	}
	if a.upper > 0 && (a.rigid || a.upper > top) {
		top = a.upper
	}
	if !(top > 0) || math.IsInf(top, 0) {
		top = 1
	}
	if !(bottom > 0) || bottom >= top {
		bottom = top / 1000
	}
	from, to := math.Floor(math.Log10(bottom)+1e-9), math.Ceil(math.Log10(top)-1e-9)
	if to <= from {
		to = from + 1
	}
	s := scaleY{bottom: math.Pow(10, from), top: math.Pow(10, to), log: true}
	each := math.Ceil((to - from) / 8)
	for e := from; e <= to; e += each {
		v := math.Pow(10, e)
		n, p := scaled(v, 1000)
		if math.Round(n) == 1000 { // the logarithm of 1000 is not quite three
			n, p = 1, prefix(int(math.Round(e/3)))
		}
		if g.args.hasExponent {
			n, p = v, ""
		}
		s.ticks = append(s.ticks, tickY{v, g.words.Decimal(trimmed(n)) + p})
		for _, m := range []float64{2, 5} {
			if each == 1 && to-from <= 4 && e < to {
				s.ticks = append(s.ticks, tickY{value: m * v})
			}
		}
	}
	return s
}

// tickX is a mark of the horizontal axis. Strong ones begin a day, a month or a year.
type tickX struct {
	at     time.Time
	label  string
	strong bool
}

// pace is a distance of two marks: so many hours, days or months of the calendar, or a fixed duration below an hour.
type pace struct {
	short               time.Duration
	hours, days, months int
}

// length is about how long a pace is.
func (p pace) length() time.Duration {
	return p.short + time.Duration(p.hours)*time.Hour + time.Duration(p.days)*24*time.Hour + time.Duration(p.months)*30*24*time.Hour
}

var paces = []pace{
	{short: time.Second}, {short: 5 * time.Second}, {short: 15 * time.Second}, {short: 30 * time.Second},
	{short: time.Minute}, {short: 2 * time.Minute}, {short: 5 * time.Minute}, {short: 10 * time.Minute}, {short: 15 * time.Minute}, {short: 30 * time.Minute},
	{hours: 1}, {hours: 2}, {hours: 3}, {hours: 4}, {hours: 6}, {hours: 12},
	{days: 1}, {days: 2}, {days: 7}, {days: 14}, {months: 1}, {months: 2}, {months: 3}, {months: 6}, {months: 12}, {months: 24}, {months: 60}, {months: 120},
}

// ticksX are the marks between two times, at least gap apart.
func (g *Graph) ticksX(from, to time.Time, gap time.Duration) []tickX {
	p := paces[len(paces)-1]
	for _, q := range paces {
		if q.length() >= gap {
			p = q
			break
		}
	}
	zone := g.words.Zone()
	var all []tickX
	for t := p.start(from.In(zone)); !t.After(to) && len(all) < 500; {
		if !t.Before(from) {
			all = append(all, g.tick(t, p))
		}
		next := p.next(t)
		if !next.After(t) { // the clock was put back
			next = t.Add(time.Hour)
		}
		t = next
	}
	return all
}

// start is the mark at or before t.
func (p pace) start(t time.Time) time.Time {
	y, m, d := t.Date()
	switch {
	case p.months >= 12:
		years := p.months / 12
		return time.Date(y-y%years, 1, 1, 0, 0, 0, 0, t.Location())
	case p.months > 0:
		return time.Date(y, m-(m-1)%time.Month(p.months), 1, 0, 0, 0, 0, t.Location())
	case p.days >= 7: // weeks begin on Monday
		return time.Date(y, m, d-(int(t.Weekday())+6)%7, 0, 0, 0, 0, t.Location())
	case p.days > 0:
		return time.Date(y, m, d, 0, 0, 0, 0, t.Location())
	case p.hours > 0:
		return time.Date(y, m, d, t.Hour()-t.Hour()%p.hours, 0, 0, 0, t.Location())
	}
	return t.Truncate(p.short)
}

// next is the mark after t. Days and hours are those of the clock on the wall, so they have 23 or 25 hours at times.
func (p pace) next(t time.Time) time.Time {
	y, m, d := t.Date()
	switch {
	case p.months > 0:
		return time.Date(y, m+time.Month(p.months), 1, 0, 0, 0, 0, t.Location())
	case p.days > 0:
		return time.Date(y, m, d+p.days, 0, 0, 0, 0, t.Location())
	case p.hours > 1:
		return time.Date(y, m, d, t.Hour()-t.Hour()%p.hours+p.hours, 0, 0, 0, t.Location())
	case p.hours == 1:
		return t.Add(time.Hour)
	}
	return t.Add(p.short)
}

// tick names a mark.
func (g *Graph) tick(t time.Time, p pace) tickX {
	w := g.words
	midnight := t.Hour() == 0 && t.Minute() == 0 && t.Second() == 0
	switch {
	case p.months >= 12:
		return tickX{t, t.Format("2006"), true}
	case p.months > 0:
		if t.Month() == time.January {
			return tickX{t, t.Format("2006"), true}
		}
		return tickX{t, w.ShortMonth(t), false}
	case p.days >= 7:
		return tickX{t, w.Date(t, t), t.Day() <= 7}
	case p.days > 0:
		return tickX{t, w.ShortWeekday(t) + " " + t.Format("2"), t.Weekday() == time.Monday}
	case midnight:
		return tickX{t, w.ShortWeekday(t) + " " + t.Format("2"), true}
	case p.short > 0 && p.short < time.Minute:
		return tickX{t, w.ClockSeconds(t), false}
	}
	return tickX{t, w.Clock(t), false}
}
