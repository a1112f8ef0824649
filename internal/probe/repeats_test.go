package probe

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

const week = 7 * 24 * 12 // five-minute means

// curve is a busy server's: day and night, bursts of its own, some of a shared cause.
func curve(seed uint64, shared []float64) []float64 {
	r := rand.New(rand.NewPCG(seed, 1))
	c := make([]float64, week)
	for i := range c {
		c[i] = 100 + 60*math.Sin(float64(i)/288*2*math.Pi) + 20*r.ExpFloat64()
		if shared != nil {
			c[i] += 0.5 * shared[i]
		}
	}
	return c
}

func scaled(c []float64, scale, height, noise float64) []float64 {
	r := rand.New(rand.NewPCG(99, 1))
	out := make([]float64, len(c))
	for i, x := range c {
		out[i] = (x+noise*r.NormFloat64())*scale + height
	}
	return out
}

func constant(x float64) []float64 { return slices.Repeat([]float64{x}, week) }

// of are the values as FindRepeats reads them.
func of(values []float64) func(context.Context) ([]float64, error) {
	return func(context.Context) ([]float64, error) { return values, nil }
}

func TestRepeats(t *testing.T) {
	a := curve(1, nil)
	holes := slices.Clone(a)
	for i := 300; i < 800; i++ {
		holes[i] = math.NaN()
	}
	rare := constant(0)
	rare[77], rare[1500] = 5, 3
	tests := []struct {
		name string
		a, b []float64
		want bool
	}{
		{"itself", a, a, true},
		{"bits of bytes", a, scaled(a, 8, 0, 0), true},
		{"a little noise", a, scaled(a, 3, 1e6, 0.5), true},
		{"holes in one", a, holes, true},
		{"much noise", a, scaled(a, 1, 0, 30), false},
		{"the mirror", a, scaled(a, -1, 0, 0), false},
		{"the same day and night only", a, curve(2, nil), false},
		{"half the same cause", curve(3, a), a, false},
		{"both constant", constant(7), constant(7), false},
		{"one constant", a, constant(7), false},
		{"two rare events at the same time", rare, rare, false},
		{"too short", a[:minPairs-1], a[:minPairs-1], false},
		{"unknown", a, constant(math.NaN()), false},
		{"infinite", a, constant(math.Inf(1)), false},
		{"nothing", nil, nil, false},
	}
	for _, tt := range tests {
		if got := Repeats(tt.a, tt.b); got != tt.want {
			t.Errorf("%s: Repeats = %v, want %v", tt.name, got, tt.want)
		}
		if got := Repeats(tt.b, tt.a); got != tt.want {
			t.Errorf("%s, the other way round: Repeats = %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestFindRepeats(t *testing.T) {
	sent, size, queue := curve(1, nil), curve(2, nil), curve(3, nil)
	got, err := FindRepeats(t.Context(), []Curve{
		{"postfix", "postfix_mailstats.delivered", of(sent)},
		{"postfix", "postfix_mailvolume.volume", of(size)},
		{"postfix", "postfix_mailstats.again", of(sent)}, // a probe does not repeat itself
		{"postfix", "postfix_mailstats.rejects", of(constant(0))},
		{"sympa", "sympa.sent", of(scaled(sent, 12, 3, 0.2))},
		{"sympa", "sympa.bad", of(constant(0))},
		{"spool", "spool.bulk", of(queue)}, // one of two curves: it shows something else as well
		{"spool", "spool.sent", of(scaled(sent, 1, 0, 0))},
		{"mailgraph", "mailgraph.sent", of(sent)},
		{"mailgraph", "mailgraph.volume", of(size)},
		{"still", "still.x", of(constant(1))},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"sympa of postfix", "sympa of spool", "sympa of mailgraph", "mailgraph of postfix"}
	var names []string
	for _, r := range got {
		names = append(names, r.Probe+" of "+r.Of)
	}
	if !slices.Equal(names, want) {
		t.Fatalf("FindRepeats = %q, want %q", names, want)
	}
	if pairs := got[3].Curves; !slices.Equal(pairs, [][2]string{{"mailgraph.sent", "postfix_mailstats.delivered"}, {"mailgraph.sent", "postfix_mailstats.again"}, {"mailgraph.volume", "postfix_mailvolume.volume"}}) {
		t.Errorf("mailgraph repeats %q", pairs)
	}
	if got, err := FindRepeats(t.Context(), nil); got != nil || err != nil {
		t.Error("no curves have repetitions", err)
	}
	broken := Curve{"x", "x", func(context.Context) ([]float64, error) { return nil, errors.New("gone") }}
	if _, err := FindRepeats(t.Context(), []Curve{broken}); err == nil {
		t.Error("a curve that cannot be read was passed over")
	}
}

func BenchmarkFindRepeats(b *testing.B) {
	var curves []Curve
	for i := range 500 {
		curves = append(curves, Curve{Probe: string(rune('a' + i)), Name: "x", Values: of(curve(uint64(i), nil))})
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := FindRepeats(b.Context(), curves); err != nil {
			b.Fatal(err)
		}
	}
}
