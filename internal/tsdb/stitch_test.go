package tsdb

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	prom "github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// listed are points of a list.
type listed struct {
	all []elem
	i   int
}

type elem struct {
	t    int64
	v    float64
	span int64
}

func list(all []elem) *listed { return &listed{all: all, i: -1} }

func (l *listed) next() bool { l.i = min(l.i+1, len(l.all)); return l.i < len(l.all) }
func (l *listed) err() error { return nil }
func (l *listed) at() (int64, float64, int64) {
	e := l.all[l.i]
	return e.t, e.v, e.span
}

func (l *listed) seek(t int64) bool {
	l.i = max(l.i, 0)
	for l.i < len(l.all) && l.all[l.i].t < t {
		l.i++
	}
	return l.i < len(l.all)
}

func drain(p points) (all []elem) {
	for p.next() {
		t, v, span := p.at()
		all = append(all, elem{t, v, span})
	}
	return all
}

// covered says, by the definition alone, whether something of main stands for a part of what e stands for.
func covered(main []elem, e elem) bool {
	return slices.ContainsFunc(main, func(m elem) bool {
		if m.span == 0 && e.span == 0 {
			return m.t == e.t
		}
		// Two spans (a, b] share an instant; a sample stands for its own.
		return m.t-max(m.span, 1) < e.t && e.t-max(e.span, 1) < m.t
	})
}

// randomPoints are points of one span, with holes.
func randomPoints(r *rand.Rand, span, upTo int64) (all []elem) {
	step := max(span, 10_000)
	hole := false
	for t := step * r.Int64N(3); t <= upTo; t += step {
		if r.IntN(40) == 0 {
			hole = !hole
		}
		if hole {
			continue
		}
		at := t
		if span == 0 {
			at += r.Int64N(5000)
		}
		all = append(all, elem{at, float64(t), span})
	}
	return all
}

// What rest has and main covers in no part is there, what main has too, once, in order.
func TestFilled(t *testing.T) {
	spans := []int64{0, step5m, step1h}
	for seed := range uint64(400) {
		r := rand.New(rand.NewPCG(seed, 1))
		a, b := spans[r.IntN(3)], spans[r.IntN(3)]
		main, rest := randomPoints(r, a, 6*step1h), randomPoints(r, b, 8*step1h)
		want := slices.Clone(main)
		for _, e := range rest {
			if !covered(main, e) {
				want = append(want, e)
			}
		}
		slices.SortFunc(want, func(x, y elem) int { return int(x.t - y.t) })
		name := fmt.Sprintf("seed %d, spans %d and %d", seed, a, b)
		got := drain(&filled{main: list(main), rest: list(rest), restSpan: b})
		if !slices.Equal(got, want) {
			t.Fatalf("%s: %d points, want %d:\n%v\n%v", name, len(got), len(want), got, want)
		}
		// Seeking goes to where reading would.
		for range 10 {
			p := &filled{main: list(main), rest: list(rest), restSpan: b}
			to := int64(0)
			for range 4 {
				to += r.Int64N(3 * step1h)
				ok := p.seek(to)
				i := slices.IndexFunc(want, func(e elem) bool { return e.t >= to })
				if ok != (i >= 0) {
					t.Fatalf("%s: seek to %d says %v", name, to, ok)
				}
				if !ok {
					break
				}
				at, v, span := p.at()
				if (elem{at, v, span}) != want[i] {
					t.Fatalf("%s: seek to %d finds %v, want %v", name, to, elem{at, v, span}, want[i])
				}
				if r.IntN(2) == 0 && i+1 < len(want) {
					p.next()
					if at, v, span := p.at(); (elem{at, v, span}) != want[i+1] {
						t.Fatalf("%s: behind %d comes %v, want %v", name, to, elem{at, v, span}, want[i+1])
					}
					to = max(to, want[i+1].t)
				}
			}
		}
	}
}

// Three databases: no instant is told twice, and every instant that one of them tells is told.
func TestFilledFromTwo(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 2))
		parts := [][]elem{randomPoints(r, 0, 9*step1h), randomPoints(r, step5m, 8*step1h), randomPoints(r, step1h, 10*step1h)}
		r.Shuffle(3, func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
		p := fillFrom(fillFrom(list(parts[0]), list(parts[1]), spanOf(parts[1])), list(parts[2]), spanOf(parts[2]))
		got := drain(p)
		for i := 1; i < len(got); i++ {
			if got[i].t-max(got[i].span, 1) < got[i-1].t {
				t.Fatalf("seed %d: %v and then %v tell the same time", seed, got[i-1], got[i])
			}
		}
		for _, part := range parts {
			for _, e := range part {
				if !covered(got, e) {
					t.Fatalf("seed %d: nothing tells of %v", seed, e)
				}
			}
		}
	}
}

func spanOf(part []elem) int64 {
	if len(part) == 0 {
		return 0
	}
	return part[0].span
}

func TestCoarsened(t *testing.T) {
	fine := []elem{{1000, 1, 0}, {300_000, 3, 0}, {300_001, math.NaN(), 0}, {400_000, 5, 0}, {1_000_000, 7, 0}, {1_100_000, 9, 0}, {1_150_000, 2, 0}}
	for _, tt := range []struct {
		kind kind
		now  int64
		want []elem
	}{
		{average, 2_000_000, []elem{{300_000, 2, 300_000}, {600_000, 5, 300_000}, {1_200_000, 6, 300_000}}},
		{minimum, 2_000_000, []elem{{300_000, 1, 300_000}, {600_000, 5, 300_000}, {1_200_000, 2, 300_000}}},
		{maximum, 2_000_000, []elem{{300_000, 3, 300_000}, {600_000, 5, 300_000}, {1_200_000, 9, 300_000}}},
		{last, 2_000_000, []elem{{300_000, 3, 300_000}, {600_000, 5, 300_000}, {1_200_000, 2, 300_000}}},
		{average, 1_160_000, []elem{{300_000, 2, 300_000}, {600_000, 5, 300_000}, {1_150_000, 6, 250_000}}},
	} {
		c := func() points { return &coarsened{fine: list(fine), step: step5m, kind: tt.kind, now: tt.now} }
		if got := drain(c()); !slices.Equal(got, tt.want) {
			t.Errorf("kind %d at %d: %v, want %v", tt.kind, tt.now, got, tt.want)
		}
		for i, w := range tt.want {
			p := c()
			if !p.seek(w.t) {
				t.Fatalf("seek to %d finds nothing", w.t)
			}
			at, v, span := p.at()
			if (elem{at, v, span}) != tt.want[i] {
				t.Errorf("seek to %d finds %v, want %v", w.t, elem{at, v, span}, w)
			}
		}
	}
}

// A run of values ends with a marker when the last one no longer holds, and Seek finds what Next finds.
func TestHeld(t *testing.T) {
	all := []elem{{1000, 1, 0}, {2000, 2, 0}, {2000 + rawHold + 1, 3, 0}, {900_000, 4, step5m}, {1_400_000, 5, 0}}
	type sample struct {
		t     int64
		v     float64
		stale bool
	}
	want := []sample{{1000, 1, false}, {2000, 2, false}, {2000 + rawHold, 0, true}, {2001 + rawHold, 3, false},
		{2001 + 2*rawHold, 0, true}, {900_000, 4, false}, {1_400_000, 5, false}, {1_400_000 + rawHold, 0, true}}
	read := func(h *floats) sample {
		at, v := h.At()
		if prom.IsStaleNaN(v) {
			return sample{at, 0, true}
		}
		return sample{at, v, false}
	}
	var got []sample
	h := &floats{held{points: list(all), to: 10_000_000}}
	for h.Next() == chunkenc.ValFloat {
		got = append(got, read(h))
	}
	if !slices.Equal(got, want) {
		t.Fatalf("%v, want %v", got, want)
	}
	if h.Next() != chunkenc.ValNone || h.Seek(5) != chunkenc.ValNone {
		t.Error("there is something behind the end")
	}
	for step := int64(7001); step < 2_000_000; step += 51_234 {
		h := &floats{held{points: list(all), to: 10_000_000}}
		for at := int64(0); ; at += step {
			i := slices.IndexFunc(want, func(s sample) bool { return s.t >= at })
			found := h.Seek(at) == chunkenc.ValFloat
			if found != (i >= 0) {
				t.Fatalf("steps of %d: seek to %d says %v", step, at, found)
			}
			if !found {
				break
			}
			if got := read(h); got != want[i] {
				t.Fatalf("steps of %d: seek to %d finds %v, want %v", step, at, got, want[i])
			}
		}
	}
	h = &floats{held{points: list(all), from: 1500, to: 2500}}
	got = nil
	for h.Next() == chunkenc.ValFloat {
		got = append(got, read(h))
	}
	if !slices.Equal(got, want[1:2]) {
		t.Errorf("between 1500 and 2500: %v, want %v", got, want[1:2])
	}
}
