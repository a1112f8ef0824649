package alert

import (
	"math"
	"slices"
	"time"

	"tocsin"
	"tocsin/internal/munin"
)

// Point is the mean of one step of a curve's history.
type Point struct {
	T     int64 // Unix milliseconds
	Value float64
}

// Want is history that a check needs and has not seen. Whoever has it gives it to Recall.
type Want struct {
	tocsin.Series
	Spans [][2]time.Time // from which to which time
	Step  time.Duration
	key   string
	hour  int64
}

// maxWants bounds how much is asked for at once; what is not asked for is asked for later.
const maxWants = 1000

// Wants are at most n curves whose history is needed. They are not asked for again before the next hour.
func (e *Engine) Wants(n int) []Want {
	n = min(n, len(e.wants))
	w := slices.Clone(e.wants[:n])
	e.wants = slices.Delete(e.wants, 0, n)
	return w
}

func (e *Engine) want(w Want) bool {
	if len(e.wants) >= maxWants {
		return false
	}
	e.wants = append(e.wants, w)
	return true
}

// Recall takes history that was wanted, the oldest first.
func (e *Engine) Recall(w Want, points []Point) {
	svc := e.services[serviceKey{w.Group, w.Node, w.Service}]
	if svc == nil {
		return
	}
	for _, c := range svc.checks {
		switch {
		case c.key != w.key:
		case c.line != nil:
			c.line.recall(points)
		case c.band != nil && c.band.hour == w.hour:
			c.band.learn(points)
		}
	}
}

// lineStep is the distance of the points of a line.
const lineStep = 5 * time.Minute

// line is a straight line through the last hours of a curve.
type line struct {
	span   int64
	points []Point // means of lineStep, the oldest first
	sum    float64 // of the step that is not over
	n      int
	step   int64   // which it is
	slope  float64 // per millisecond; NaN: nothing can be said
}

func newLine(over time.Duration) *line {
	return &line{span: over.Milliseconds(), slope: math.NaN()}
}

func (l *line) empty() bool { return math.IsNaN(l.slope) }

// add takes a value.
func (l *line) add(at int64, v float64) {
	ended, step := false, at/lineStep.Milliseconds()
	if step != l.step {
		if step < l.step { // the clock was set back
			l.points, l.n = slices.DeleteFunc(l.points, func(p Point) bool { return p.T > at }), 0
		}
		if l.n > 0 {
			l.points = append(l.points, Point{(l.step*2 + 1) * lineStep.Milliseconds() / 2, l.sum / float64(l.n)})
			ended = true
		}
		l.step, l.sum, l.n = step, 0, 0
	}
	l.sum += v
	l.n++
	if ended || l.empty() {
		l.fit(at)
	}
}

func (l *line) recall(points []Point) {
	if len(l.points) > 0 {
		points = slices.DeleteFunc(slices.Clone(points), func(p Point) bool { return p.T >= l.points[0].T })
	}
	l.points = append(slices.Clone(points), l.points...)
	if n := len(l.points); n > 0 {
		l.fit(l.points[n-1].T)
	}
}

// leastLine is of how many points a half of a line is made.
const leastLine = 6

// fit draws the line anew: through all points, and through the last quarter of the time, for what has only begun. Of both
// the steeper one counts.
func (l *line) fit(now int64) {
	first := slices.IndexFunc(l.points, func(p Point) bool { return now-p.T <= l.span })
	if first < 0 {
		first = len(l.points)
	}
	l.points = slices.Delete(l.points, 0, first)
	last := slices.IndexFunc(l.points, func(p Point) bool { return now-p.T <= l.span/4 })
	l.slope = slope(l.points)
	if last < 0 {
		return
	}
	if s := slope(l.points[last:]); math.IsNaN(l.slope) || math.Abs(s) > math.Abs(l.slope) {
		l.slope = s
	}
}

// slope is how a curve rises, as both halves of the points bear out: a single step lies in one of them and is no trend. NaN:
// there are too few points.
func slope(points []Point) float64 {
	half := len(points) / 2
	if half < leastLine {
		return math.NaN()
	}
	a, b := leastSquares(points[:half]), leastSquares(points[half:])
	if a*b <= 0 {
		return 0
	}
	return math.Copysign(min(math.Abs(a), math.Abs(b)), a)
}

// leastSquares is the slope of the straight line through points.
func leastSquares(points []Point) float64 {
	var meanX, meanY, xx, xy float64
	for i, p := range points {
		dx := float64(p.T-points[0].T) - meanX
		meanX += dx / float64(i+1)
		meanY += (p.Value - meanY) / float64(i+1)
		xx += dx * (float64(p.T-points[0].T) - meanX)
		xy += dx * (p.Value - meanY)
	}
	if xx == 0 {
		return 0
	}
	return xy / xx
}

// never is more hours than anybody waits.
const never = 1e6

// hours is when the line reaches full, beginning at v.
func (l *line) hours(v, full float64) (h float64, ok bool) {
	switch {
	case l.empty():
		return 0, false
	case v == full:
		return 0, true
	}
	if ms := (full - v) / l.slope; ms > 0 && ms < never*float64(time.Hour.Milliseconds()) {
		return ms / float64(time.Hour.Milliseconds()), true
	}
	return never, true
}

// band is what a curve was in the same hour of past weeks: its middle and its usual distance from that.
type band struct {
	hour        int64 // which hour it is of, since 1970; 0: none yet
	known       bool
	mid, spread float64
}

// leastSeason is of how many points a band is made.
const leastSeason = 12

// learn makes the band of the points of past weeks.
func (b *band) learn(points []Point) {
	if b.known = len(points) >= leastSeason; !b.known {
		return
	}
	all := make([]float64, len(points))
	for i, p := range points {
		all[i] = p.Value
	}
	b.mid = median(all)
	for i := range all {
		all[i] = math.Abs(all[i] - b.mid)
	}
	// 1.4826 median deviations are one standard deviation of what is normal; a curve that hardly moves gets a tenth of itself.
	b.spread = max(1.4826*median(all), math.Abs(b.mid)/10, 1e-9)
}

func median(all []float64) float64 {
	slices.Sort(all)
	n := len(all)
	return (all[(n-1)/2] + all[n/2]) / 2
}

// distance is how many usual distances a value is from the middle.
func (b *band) distance(v float64) (x float64, ok bool) {
	if !b.known {
		return 0, false
	}
	return (v - b.mid) / b.spread, true
}

// usual is what lies within so many distances.
func (b *band) usual(width float64) munin.Range {
	return munin.Range{Least: round3(b.mid - width*b.spread), Most: round3(b.mid + width*b.spread)}
}

// round3 keeps three digits: the rest says nothing to anybody.
func round3(v float64) float64 {
	if v == 0 || math.IsInf(v, 0) {
		return v
	}
	scale := math.Pow(10, 2-math.Floor(math.Log10(math.Abs(v))))
	return math.Round(v*scale) / scale
}

// wantSeason asks for the band of the hour that a value is of. The hour is that of people: a week ago at the same time by
// the clock on the wall, whatever was done to it in between.
func (e *Engine) wantSeason(c *check, at int64) {
	t := time.UnixMilli(at).In(e.o.Zone)
	hour := at / time.Hour.Milliseconds()
	if hour == c.band.hour {
		return
	}
	w := Want{Series: tocsin.Series{Group: c.svc.key.group, Node: c.svc.key.node, Service: c.svc.key.service, Field: c.field}, Step: lineStep, key: c.key, hour: hour}
	for week := c.rule.Weeks; week > 0; week-- {
		then := time.Date(t.Year(), t.Month(), t.Day()-7*week, t.Hour(), 0, 0, 0, e.o.Zone)
		w.Spans = append(w.Spans, [2]time.Time{then, then.Add(time.Hour)})
	}
	if e.want(w) {
		c.band.hour, c.band.known = hour, false
	}
}

// wantLine asks for the hours before a line begins.
func (e *Engine) wantLine(c *check) {
	if e.now.IsZero() {
		return
	}
	e.want(Want{
		Series: tocsin.Series{Group: c.svc.key.group, Node: c.svc.key.node, Service: c.svc.key.service, Field: c.field},
		Spans:  [][2]time.Time{{e.now.Add(-c.rule.Over), e.now}}, Step: lineStep, key: c.key,
	})
}
