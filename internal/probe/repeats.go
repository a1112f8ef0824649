package probe

import "math"

// Bounds of what counts as a repetition.
const (
	minPairs    = 500  // points that both curves have
	minChanging = 0.05 // share of them at which a curve must change, or it says too little to be compared
	alikeLevel  = 0.98 // correlation of the values
	alikeChange = 0.90 // correlation of the changes: two curves that only share day and night do not pass this
)

// Repeats says whether one curve repeats the other, but for its scale and height: both hold values of the same times, NaN where
// there is none; a week of five-minute means is what it was made for. It looks at each value once.
func Repeats(a, b []float64) bool {
	n := min(len(a), len(b))
	var level, change pairs
	prevA, prevB := math.NaN(), math.NaN()
	changesA, changesB := 0, 0
	for i := range n {
		x, y := a[i], b[i]
		level.add(x, y)
		change.add(x-prevA, y-prevB)
		if !math.IsNaN(x) && x != prevA {
			changesA++
		}
		if !math.IsNaN(y) && y != prevB {
			changesB++
		}
		prevA, prevB = x, y
	}
	enough := minChanging * float64(level.n)
	return level.n >= minPairs && float64(changesA) >= enough && float64(changesB) >= enough &&
		level.correlation() >= alikeLevel && change.correlation() >= alikeChange
}

// pairs sums up pairs of values, with running means so that large numbers lose nothing (Welford).
type pairs struct {
	n            int
	meanX, meanY float64
	xx, yy, xy   float64
}

func (p *pairs) add(x, y float64) {
	if math.IsNaN(x) || math.IsNaN(y) || math.IsInf(x, 0) || math.IsInf(y, 0) {
		return
	}
	p.n++
	dx, dy := x-p.meanX, y-p.meanY
	p.meanX += dx / float64(p.n)
	p.meanY += dy / float64(p.n)
	p.xx += dx * (x - p.meanX)
	p.yy += dy * (y - p.meanY)
	p.xy += dx * (y - p.meanY)
}

// correlation is Pearson's; 0 if one of the two never changes.
func (p *pairs) correlation() float64 {
	if p.xx <= 0 || p.yy <= 0 {
		return 0
	}
	return p.xy / math.Sqrt(p.xx*p.yy)
}

// Curve is one series over some time, for FindRepeats.
type Curve struct {
	Service, Field string
	Values         []float64 // at the same times as those of the other curves; NaN for none
}

// Repetition says that two services of one node show the same. Neither is the other's original: the operator decides.
type Repetition struct {
	A, B   string      // services; A is the one that came first
	Fields [][2]string // the curves that are alike, of A and of B; at most one for each field of B
}

// maxCurves bounds FindRepeats, which looks at all pairs.
const maxCurves = 2000

// FindRepeats finds the services of one node whose curves repeat those of another: each changing curve of one of the two has its
// like in the other. Curves of one service are not compared with each other. Over a week of five-minute means and 500 curves it
// takes a fraction of a second, for most pairs already differ in every sixteenth point.
func FindRepeats(curves []Curve) []Repetition {
	curves = curves[:min(len(curves), maxCurves)]
	changing := map[string]int{} // curves of a service that change
	var live []Curve
	var thin [][]float64
	for _, c := range curves {
		if t := thinned(c.Values); t != nil {
			live, thin = append(live, c), append(thin, t)
			changing[c.Service]++
		}
	}
	var found []Repetition
	index := map[[2]string]int{}
	for j := range live {
		for i := range j {
			if live[i].Service == live[j].Service || !roughly(thin[i], thin[j]) || !Repeats(live[i].Values, live[j].Values) {
				continue
			}
			key := [2]string{live[i].Service, live[j].Service}
			k, ok := index[key]
			if !ok {
				k = len(found)
				index[key] = k
				found = append(found, Repetition{A: key[0], B: key[1]})
			}
			found[k].Fields = append(found[k].Fields, [2]string{live[i].Field, live[j].Field})
		}
	}
	whole := found[:0]
	for _, r := range found {
		if covers(r, 0) == changing[r.A] || covers(r, 1) == changing[r.B] {
			whole = append(whole, r)
		}
	}
	return whole
}

// covers counts the fields of one side that have their like.
func covers(r Repetition, side int) int {
	fields := map[string]bool{}
	for _, f := range r.Fields {
		fields[f[side]] = true
	}
	return len(fields)
}

// thinned takes every sixteenth value; nil if the curve hardly changes.
func thinned(values []float64) []float64 {
	if len(values) < minPairs {
		return nil
	}
	changes, last := 0, math.NaN()
	var thin []float64
	for i, x := range values {
		if !math.IsNaN(x) && x != last {
			changes++
			last = x
		}
		if i%16 == 0 {
			thin = append(thin, x)
		}
	}
	if float64(changes) < minChanging*float64(len(values)) {
		return nil
	}
	return thin
}

// roughly says whether it is worth while to compare two curves whole.
func roughly(a, b []float64) bool {
	var p pairs
	for i := range min(len(a), len(b)) {
		p.add(a[i], b[i])
	}
	return p.correlation() > 0.9
}
