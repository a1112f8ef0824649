package probe

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"tocsin"
	"tocsin/internal/munin"
)

// rated feeds raw values of one field, given as "second raw", and returns the samples as "second value".
func rated(t *testing.T, attrs, values string) string {
	t.Helper()
	r := NewRates(RatesOptions{Group: "Gandi", Node: "web1"})
	desc := describe("s", strings.ReplaceAll("f.label f;"+attrs, ";", "\n"))
	start := time.Unix(1_700_000_000, 0)
	var out []string
	for pair := range strings.SplitSeq(values, ", ") {
		sec, text, _ := strings.Cut(pair, " ")
		var at int64
		if _, err := fmt.Sscan(sec, &at); err != nil {
			t.Fatal(err)
		}
		raw, ok := munin.ParseValue(text)
		if !ok {
			t.Fatalf("%q is no value", text)
		}
		rd := Reading{Service: desc, At: start.Add(time.Duration(at) * time.Second), Since: time.Hour + time.Duration(at)*time.Second, Values: []munin.Value{v("f", raw)}}
		for _, s := range r.Samples(nil, &rd) {
			if s.Series != (tocsin.Series{Group: "Gandi", Node: "web1", Service: "s", Field: "f"}) {
				t.Errorf("the sample is of %+v", s.Series)
			}
			out = append(out, fmt.Sprint((s.T-start.UnixMilli())/1000, " ", s.Value))
		}
	}
	return strings.Join(out, ", ")
}

func TestRates(t *testing.T) {
	tests := []struct{ name, attrs, values, want string }{
		{"gauge", "", "0 5, 10 7, 20 -3", "0 5, 10 7, 20 -3"},
		{"gauge, unknown", "", "0 5, 10 U, 20 6", "0 5, 20 6"},
		{"gauge, bounds are in", "f.min 0;f.max 100", "0 0, 10 100, 20 100.1, 30 -0.1, 40 50", "0 0, 10 100, 40 50"},
		{"slip of the pen", "f.type GAGUE", "0 5", "0 5"},
		{"derive", "f.type DERIVE", "0 100, 10 150, 20 150, 30 140", "10 5, 20 0, 30 -1"},
		{"derive with min 0", "f.type DERIVE;f.min 0", "0 100, 10 150, 20 20, 30 40", "10 5, 30 2"},
		{"derive with max", "f.type DERIVE;f.min 0;f.max 10", "0 0, 10 100, 20 201, 30 251", "10 10, 30 5"},
		{"derive, unknown forgets", "f.type DERIVE", "0 100, 10 U, 20 150, 30 160", "30 1"},
		{"derive of decimals", "f.type DERIVE", "0 0.5, 10 1.5", "10 0.1"},
		{"the real time", "f.type DERIVE", "0 0, 10 100, 17 170, 47 470", "10 10, 17 10, 47 10"},
		{"counter", "f.type COUNTER", "0 100, 10 150", "10 5"},
		{"counter of 32 bits overflows", "f.type COUNTER", "0 4294967000, 10 704, 20 804", "10 100, 20 10"},
		{"counter of 64 bits overflows", "f.type COUNTER", "0 18446744073709500000, 10 48384", "10 9958.4"},
		{"counter began anew", "f.type COUNTER", "0 1000000, 10 50, 20 60", "20 1"},
		{"large counter began anew", "f.type COUNTER", "0 9000000000, 10 50, 20 60", "20 1"},
		{"counter fell, max allows the overflow", "f.type COUNTER;f.max 300000000", "0 2000000000, 10 1000, 20 1010", "10 2.294968296e+08, 20 1"},
		{"counter fell, max forbids it", "f.type COUNTER;f.max 1000", "0 2000000000, 10 1000, 20 1010", "20 1"},
		{"absolute", "f.type ABSOLUTE", "0 50, 10 50, 30 50", "10 5, 30 2.5"},
		{"a gap too long for a mean", "f.type DERIVE", "0 0, 600 600, 1201 1200, 1211 1210", "600 1, 1211 1"},
		{"seldom by its own word", "update_rate 3600;f.type DERIVE", "0 0, 3600 3600, 10800 10800, 18001 18001", "3600 1, 10800 1"},
		{"boot time went back: another machine", "f.type DERIVE", "100 0, 50 100, 60 110", "60 1"},
	}
	for _, tt := range tests {
		if got := rated(t, tt.attrs, tt.values); got != tt.want {
			t.Errorf("%s: samples %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestRatesClockJumps(t *testing.T) {
	r := NewRates(RatesOptions{Node: "n"})
	desc := describe("s", "f.type DERIVE")
	start := time.Unix(1_700_000_000, 0)
	var got []float64
	for i, wall := range []time.Duration{0, 10, 20 + 3600, 30 + 3600, 40, 50} {
		rd := Reading{Service: desc, At: start.Add(wall * time.Second), Since: time.Duration(i+1) * 10 * time.Second, Values: []munin.Value{v("f", float64(i*100))}}
		for _, s := range r.Samples(nil, &rd) {
			got = append(got, s.Value)
		}
	}
	if fmt.Sprint(got) != "[10 10 10 10 10]" {
		t.Errorf("rates over jumps of the wall clock are %v, want 10 all through", got)
	}
}

func TestRatesSupersampled(t *testing.T) {
	r := NewRates(RatesOptions{})
	desc := describe("s", "f.type DERIVE\ng.label g")
	at := time.Unix(1_700_000_300, 0)
	rd := Reading{Node: "n", Service: desc, At: at, Since: time.Hour, Values: []munin.Value{
		{Field: "f", At: 1_700_000_000, V: 100}, {Field: "f", At: 1_700_000_100, V: 200}, {Field: "f", At: 1_700_000_100, V: 900},
		{Field: "f", At: 1_700_000_050, V: 900}, {Field: "f", At: 1_700_000_200, V: 400}, {Field: "f", At: 1_800_000_000, V: 900},
		{Field: "g", At: 1_700_000_200, V: 7}, {Field: "nobody", V: 7}, {Service: "elsewhere", Field: "f", V: 7},
	}}
	got := r.Samples(nil, &rd)
	want := []tocsin.Sample{
		{Series: tocsin.Series{Node: "n", Service: "s", Field: "f"}, T: 1_700_000_100_000, Value: 1},
		{Series: tocsin.Series{Node: "n", Service: "s", Field: "f"}, T: 1_700_000_200_000, Value: 2},
		{Series: tocsin.Series{Node: "n", Service: "s", Field: "g"}, T: 1_700_000_200_000, Value: 7},
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("samples %+v, want %+v", got, want)
	}
	if s := r.Stats(); s.Stale != 3 || s.Strange != 2 || s.Unknown != 1 || s.Samples != 3 || s.Series != 2 {
		t.Errorf("Stats = %+v, want 3 stale, 2 strange, 1 unknown, 3 samples of 2 series", s)
	}
}

func TestRatesKeepsPlaces(t *testing.T) {
	r := NewRates(RatesOptions{Group: "own", Node: "here"})
	at := time.Unix(1_700_000_000, 0)
	tests := []struct {
		rd   Reading
		want tocsin.Series
	}{
		{Reading{Service: describe("s", "f.label f")}, tocsin.Series{Group: "own", Node: "here", Service: "s", Field: "f"}},
		{Reading{Group: "TTN", Node: "mail1", Service: describe("s", "f.label f")}, tocsin.Series{Group: "TTN", Node: "mail1", Service: "s", Field: "f"}},
		{Reading{Node: "alone", Service: describe("s", "f.label f")}, tocsin.Series{Node: "alone", Service: "s", Field: "f"}},
		{Reading{Service: &munin.Service{Name: "s", Host: "router", Fields: []munin.Field{{Name: "f"}}}}, tocsin.Series{Group: "own", Node: "router", Service: "s", Field: "f"}},
	}
	for _, tt := range tests {
		tt.rd.At, tt.rd.Values = at, []munin.Value{v("f", 1)}
		if got := r.Samples(nil, &tt.rd); len(got) != 1 || got[0].Series != tt.want {
			t.Errorf("samples %+v, want one of %+v", got, tt.want)
		}
	}
}

func TestRatesFollowsDescriptions(t *testing.T) {
	r := NewRates(RatesOptions{Node: "n"})
	at := time.Unix(1_700_000_000, 0)
	read := func(sec int, text string, raw float64) int {
		now := time.Duration(sec) * time.Second
		rd := Reading{Service: describe("s", text), At: at.Add(now), Since: time.Hour + now, Values: []munin.Value{v("f", raw)}}
		return len(r.Samples(nil, &rd))
	}
	for _, step := range []struct {
		sec  int
		text string
		raw  float64
		want int
	}{
		{0, "f.type DERIVE", 100, 0},
		{10, "f.type DERIVE", 200, 1},                                 // the same words from elsewhere
		{20, "f.type DERIVE\nf.max 5\nother.label o", 300, 0},         // a max that came holds at once
		{30, "f.type DERIVE\nother.label o", 400, 1},                  // the value was kept
		{40, "f.type COUNTER", 500, 0},                                // another type begins anew
		{50, "other.label o", 600, 0}, {60, "f.type COUNTER", 700, 0}, // a field that went and came begins anew
	} {
		if got := read(step.sec, step.text, step.raw); got != step.want {
			t.Errorf("at %d: %d samples, want %d", step.sec, got, step.want)
		}
	}
	if s := r.Stats(); s.Series != 1 {
		t.Errorf("%d series are remembered, want 1", s.Series)
	}
}

func TestRatesForgets(t *testing.T) {
	r := NewRates(RatesOptions{Node: "n"})
	at := time.Unix(1_700_000_000, 0)
	read := func(now time.Duration, service, text string) {
		r.Samples(nil, &Reading{Service: describe(service, text), At: at.Add(now), Values: []munin.Value{v("f", 1)}})
	}
	read(0, "gone", "f.label f")
	read(0, "daily", "update_rate 1d\nf.label f")
	for now := time.Duration(0); now < 3*time.Hour; now += 10 * time.Second {
		read(now, "stays", "f.label f")
	}
	if s := r.Stats(); s.Series != 2 || len(r.services) != 2 {
		t.Errorf("%d series of %d services are remembered after three hours, want 2 of 2: the daily one and the one that stays", s.Series, len(r.services))
	}
}

func TestUpdateRate(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"300": 5 * time.Minute, "10s": 10 * time.Second, "5m": 5 * time.Minute, "1h aligned": time.Hour, "1d": 24 * time.Hour, "1w": 168 * time.Hour,
		"1t": 744 * time.Hour, "1y": 8760 * time.Hour, "": 0, "often": 0, "99999999999999999999d": 366 * 24 * time.Hour,
	} {
		if got := updateRate(text); got != want {
			t.Errorf("updateRate(%q) = %v, want %v", text, got, want)
		}
	}
}

func FuzzRates(f *testing.F) {
	f.Add("COUNTER", "0", "10", 4294967295.0, 3.0, int64(1700000000), int64(1700000010))
	f.Add("DERIVE", "", "", 1.0, math.Inf(1), int64(0), int64(-5))
	f.Add("ABSOLUTE", "x", "-1", -1.0, math.NaN(), int64(1<<62), int64(0))
	f.Fuzz(func(t *testing.T, typ, least, most string, a, b float64, at, bt int64) {
		desc := &munin.Service{Name: "s", Fields: []munin.Field{{Name: "f", Attrs: []munin.Attr{{Name: "type", Value: typ}, {Name: "min", Value: least}, {Name: "max", Value: most}}}}}
		r := NewRates(RatesOptions{})
		low, high := desc.Fields[0].Bounds()
		for i, raw := range []float64{a, b, a} {
			rd := Reading{Service: desc, At: time.Unix(1_700_000_000+int64(i), 0), Values: []munin.Value{{Field: "f", At: []int64{at, bt, 0}[i], V: raw}}}
			for _, s := range r.Samples(nil, &rd) {
				if math.IsNaN(s.Value) || math.IsInf(s.Value, 0) || s.Value < low || s.Value > high {
					t.Errorf("a sample of %v within %v and %v", s.Value, low, high)
				}
			}
		}
	})
}

// BenchmarkRates is a reading of 200 fields, a quarter of them counters.
func BenchmarkRates(b *testing.B) {
	desc := &munin.Service{Name: "s"}
	rd := Reading{Service: desc}
	for i := range 200 {
		f := munin.Field{Name: fmt.Sprint("f", i)}
		if i%4 == 0 {
			f.Attrs = []munin.Attr{{Name: "type", Value: "DERIVE"}}
		}
		desc.Fields = append(desc.Fields, f)
		rd.Values = append(rd.Values, v(f.Name, 0))
	}
	r := NewRates(RatesOptions{Node: "n"})
	var dst []tocsin.Sample
	at := time.Unix(1_700_000_000, 0)
	b.ReportAllocs()
	for b.Loop() {
		at = at.Add(10 * time.Second)
		rd.At = at
		dst = r.Samples(dst[:0], &rd)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/200, "ns/value")
}
