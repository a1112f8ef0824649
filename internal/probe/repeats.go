package probe

import (
	"context"
	"math"
)

// Bounds of what counts as a repetition.
const (
	minPairs    = 1400 // points that both curves have: five days of a week
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
	Probe string // that draws it: a built-in probe, or a plugin
	Name  string // its service and field
	// Values reads it: at the same times as the other curves, NaN for none. It is read again for each curve that it is
	// compared with, for a week of many curves is more than should lie in memory.
	Values func(context.Context) ([]float64, error)
}

// Repetition says that a probe shows nothing that another one does not show too: each of its curves that changes at all has its
// like there. Which of the two is of more use the operator must decide.
type Repetition struct {
	Probe, Of string      // where both show the same, Of is the one that came first
	Curves    [][2]string // the names of the curves that are alike, of Probe and of Of
}

// maxCurves bounds FindRepeats, which looks at all pairs.
const maxCurves = 2000

// FindRepeats finds probes of one node that repeat others. Curves of one probe are not compared with each other. In memory are
// two curves, and a sixteenth of each other one, in which most pairs differ already. The error is one of reading a curve.
func FindRepeats(ctx context.Context, curves []Curve) ([]Repetition, error) {
	curves = curves[:min(len(curves), maxCurves)]
	changing := map[string]int{} // curves of a probe that change
	var order []string
	var live []Curve
	var thin [][]float64
	for _, c := range curves {
		values, err := c.Values(ctx)
		if err != nil {
			return nil, err
		}
		t := thinned(values)
		if t == nil {
			continue
		}
		live, thin = append(live, c), append(thin, t)
		if changing[c.Probe]++; changing[c.Probe] == 1 {
			order = append(order, c.Probe)
		}
	}
	like := map[[2]string][][2]string{} // by probes: names of curves
	for j := range live {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		var whole []float64 // of b
		for i := range j {
			a, b := &live[i], &live[j]
			if a.Probe == b.Probe || !roughly(thin[i], thin[j]) {
				continue
			}
			values, err := a.Values(ctx)
			if err == nil && whole == nil {
				whole, err = b.Values(ctx)
			}
			if err != nil {
				return nil, err
			}
			if !Repeats(values, whole) {
				continue
			}
			like[[2]string{a.Probe, b.Probe}] = append(like[[2]string{a.Probe, b.Probe}], [2]string{a.Name, b.Name})
			like[[2]string{b.Probe, a.Probe}] = append(like[[2]string{b.Probe, a.Probe}], [2]string{b.Name, a.Name})
		}
	}
	var found []Repetition
	for j, probe := range order {
		for i, of := range order {
			alike := like[[2]string{probe, of}]
			if i == j || named(alike) < changing[probe] {
				continue
			}
			if i > j && named(like[[2]string{of, probe}]) == changing[of] {
				continue // they show the same: the later one is named
			}
			found = append(found, Repetition{Probe: probe, Of: of, Curves: alike})
		}
	}
	return found, nil
}

// named counts the curves of the first that have their like.
func named(alike [][2]string) int {
	names := map[string]bool{}
	for _, pair := range alike {
		names[pair[0]] = true
	}
	return len(names)
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
