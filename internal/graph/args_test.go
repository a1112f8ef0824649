package graph

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"tocsin/internal/locale"
	"tocsin/internal/munin"
)

func TestParseArgs(t *testing.T) {
	tests := []struct{ text, want string }{
		{"", "1000 NaN NaN"},
		{"--base 1024 -l 0", "1024 0 NaN"},
		{"--base=1024 --lower-limit=-5 --upper-limit=1e3", "1024 -5 1000"},
		{"-l0 -u100 -b1024", "1024 0 100"},
		{"--base 1000 -r --lower-limit 0 --upper-limit 200", "1000 0 200 rigid"},
		{"-o --rigid", "1000 NaN NaN rigid log"},
		{"--logarithmic -A", "1000 NaN NaN log tight"},
		{"-M --units-exponent 3", "1000 NaN NaN tightTop 3"},
		{`--vertical-label "bits per second" -l '0'`, `1000 0 NaN "bits per second"`},
		{"-X 99 --units-exponent x -l Inf -u", "1000 NaN NaN"},
		{"--alt-y-grid --unknown 5 -l 1", "1000 1 NaN"},
		{"--base 512", "1000 NaN NaN"},
	}
	for _, tt := range tests {
		a := parseArgs(tt.text)
		got := fmt.Sprint(a.base, a.lower, a.upper)
		for name, is := range map[string]bool{"rigid": a.rigid, "log": a.log, "tight": a.tight, "tightTop": a.tightTop} {
			if is != slices.Contains(strings.Fields(tt.want), name) {
				t.Errorf("%s: %s is %v", tt.text, name, is)
			}
		}
		want := tt.want
		for _, name := range []string{" rigid", " log", " tightTop", " tight"} {
			want = strings.Replace(want, name, "", 1)
		}
		if a.label != "" {
			got += fmt.Sprintf(" %q", a.label)
		}
		if a.hasExponent {
			got += fmt.Sprint(" ", a.exponent)
		}
		if got != want {
			t.Errorf("%s: %s, want %s", tt.text, got, want)
		}
	}
}

func FuzzArgs(f *testing.F) {
	for _, text := range []string{"--base 1024 -l 0", `-v "a b\" c' -u 1e300 -r`, "-l -1e308 -u 1e308 -r -o", "-X 18 -l 5 -u 4 -r"} {
		f.Add(text, "%6.2lf", 1.5)
	}
	f.Add("", "%3.0lf%%", -1e-300)
	f.Add("-A", "a%%b%5.1lf %S", 1e300)
	f.Fuzz(func(t *testing.T, text, format string, v float64) {
		s := describe(t, "graph_title x\na.label a\nb.label b\nb.draw AREA\na.negative b")
		s.Attrs = append(s.Attrs, munin.Attr{Name: "graph_args", Value: text}, munin.Attr{Name: "graph_printf", Value: format})
		d := Data{Service: s, From: noon.Add(-time.Hour), To: noon, Step: 5 * time.Minute, Points: map[string][]Point{
			"a": {{noon.Unix(), v, v, v}, {noon.Unix() - 300, 1, 0, 2}}, "b": {{noon.Unix(), -v, -2 * v, v * 1e10}}}}
		g, err := New(d, Options{})
		if err != nil {
			t.Fatal(err)
		}
		elements(t, svgOf(t, g))
	})
}

func TestPrint(t *testing.T) {
	tests := []struct {
		printf string
		base   float64
		scale  bool
		v      float64
		want   string
	}{
		{"", 1000, true, 0, "0.00"}, {"", 1000, true, 999.994, "999.99"}, {"", 1000, true, 1000, "1.00k"}, {"", 1000, true, -1500, "-1.50k"},
		{"", 1024, true, 1023, "1023.00"}, {"", 1024, true, 1 << 30, "1.00G"}, {"", 1000, true, 0.002, "2.00m"}, {"", 1000, true, 1e-21, "1.00?"}, {"", 1000, true, 5e21, "5.00?"},
		{"", 1000, false, 123456789, "123456789.00"}, {"%.0lf", 1000, true, 1234, "1k"}, {"%5.1lf%%", 1000, false, 12.34, "12.3%"}, {"%d", 1000, false, 12.7, "13"},
		{"%6.2le", 1000, false, 12345, "1.23e+04"}, {"%lg", 1000, false, 0.5, "0.5"}, {"%n", 1000, false, 1, "1.00"}, {"%s%s%s", 1000, false, 1, "1.00"}, {"%999lf", 1000, false, 1, "1.00"},
		{"%6.1lf %S", 1000, false, 12345, "12.3k"}, {"", 1000, true, math.NaN(), "–"}, {"", 1000, true, math.Inf(1), "∞"}, {"", 1000, true, math.Inf(-1), "-∞"},
	}
	for _, tt := range tests {
		if got := parseFormat(tt.printf, tt.base, tt.scale).print(tt.v, tt.base).String(); got != tt.want {
			t.Errorf("%q of %g: %q, want %q", tt.printf, tt.v, got, tt.want)
		}
	}
}

func TestScaleY(t *testing.T) {
	tests := []struct {
		args                   string
		least, most, pit, peak float64
		zero                   bool
		want                   string // bottom, top and the labels
	}{
		{"", 0, 10, 0, 10, true, "0 10 [0 5 10]"},
		{"", 1, 9.5, 1, 9.5, false, "0 10 [0 5 10]"},
		{"", 95, 100, 95, 100, false, "95 100 [96 98 100]"},
		{"-l 0", 95, 100, 95, 100, false, "0 100 [0 50 100]"},
		{"-l 0", -5, 10, -5, 10, false, "-5 10 [-5 0 5 10]"},
		{"-l 0 -r", -5, 10, -5, 10, false, "0 10 [0 5 10]"},
		{"-u 100", 0, 60, 0, 60, true, "0 100 [0 50 100]"},
		{"-u 50", 0, 60, 0, 60, true, "0 60 [0 20 40 60]"},
		{"-u 50 -r", 0, 60, 0, 60, true, "0 50 [0 20 40]"},
		{"", 0, 1, 0, 100, true, "0 2.5 [0 1 2]"},
		{"", 0, 1.5e6, 0, 1.5e6, true, "0 1.5e+06 [0 0.5M 1.0M 1.5M]"},
		{"", 0, 1500, 0, 1500, true, "0 1500 [0 500 1000 1500]"},
		{"", 0, 0.004, 0, 0.004, true, "0 0.004 [0 1m 2m 3m 4m]"},
		{"--base 1024", 0, 3 << 30, 0, 3 << 30, true, "0 3.221225472e+09 [0 1G 2G 3G]"},
		{"--units-exponent 6", 0, 4e6, 0, 4e6, true, "0 4e+06 [0 1M 2M 3M 4M]"},
		{"--units-exponent 0", 0, 4e12, 0, 4e12, true, "0 4e+12 [0 1e12 2e12 3e12 4e12]"},
		{"-A", 3.3, 7.7, 3.3, 7.7, true, "0 7.7 [0 2 4 6]"},
		{"", 5, 5, 5, 5, false, "5 7.5 [5 6 7]"},
		{"", 0, 0, 0, 0, true, "0 1 [0 0.5 1.0]"},
		{"", math.Inf(1), math.Inf(-1), 0, 0, false, "0 1 [0 0.5 1.0]"},
		{"--logarithmic", 0.02, 30, 0.02, 30, false, "0.01 100 [10m 100m 1 10 100]"},
		{"--logarithmic -l 1", 2, 300, 2, 300, false, "1 1000 [1 10 100 1k]"},
		{"--logarithmic", math.Inf(1), math.Inf(-1), 0, 0, false, "0.001 1 [1m 10m 100m 1]"},
		{"--logarithmic", 5, 5, 5, 5, false, "0.001 10 [1m 10m 100m 1 10]"},
	}
	for _, tt := range tests {
		g := &Graph{args: parseArgs(tt.args), words: locale.Get("en")}
		s := g.newScale(tt.least, tt.most, tt.pit, tt.peak, tt.zero, 140)
		var labels []string
		for _, tick := range s.ticks {
			if tick.label != "" {
				labels = append(labels, tick.label)
			}
		}
		if got := fmt.Sprint(s.bottom, " ", s.top, " ", labels); got != tt.want {
			t.Errorf("%s %g..%g: %s, want %s", tt.args, tt.least, tt.most, got, tt.want)
		}
	}
	g := &Graph{args: parseArgs(""), words: locale.Get("en")}
	for _, v := range []float64{1e308, -1e308, 5e-324, 1e-200} {
		s := g.newScale(min(v, 0), max(v, 0), min(v, 0), max(v, 0), true, 140)
		if at := s.at(v); math.IsNaN(at) || len(s.ticks) > 100 {
			t.Errorf("%g stands at %g on an axis with %d marks", v, at, len(s.ticks))
		}
	}
}

func TestTicksX(t *testing.T) {
	g := &Graph{words: locale.Get("en").In(paris)}
	fr := &Graph{words: locale.Get("fr").In(paris)}
	at := func(s string) time.Time {
		v, err := time.ParseInLocation("2006-01-02 15:04:05", s, paris)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	tests := []struct {
		g        *Graph
		from, to string
		gap      time.Duration
		want     string
	}{
		{g, "2026-11-20 04:45:00", "2026-11-21 14:05:00", 4 * time.Hour, "08:00 12:00 16:00 20:00 *Sat 21* 04:00 08:00 12:00"},
		{g, "2026-10-24 20:00:00", "2026-10-25 09:00:00", 2 * time.Hour, "20:00 22:00 *Sun 25* 02:00 04:00 06:00 08:00"},
		{g, "2026-10-25 01:00:00", "2026-10-25 04:00:00", time.Hour, "01:00 02:00 02:00 03:00 04:00"},
		{g, "2026-03-29 00:00:00", "2026-03-29 05:00:00", time.Hour, "*Sun 29* 01:00 03:00 04:00 05:00"},
		{g, "2026-10-23 00:00:00", "2026-10-27 00:00:00", 20 * time.Hour, "Fri 23 Sat 24 Sun 25 *Mon 26* Tue 27"},
		{g, "2026-10-01 00:00:00", "2026-11-05 00:00:00", 5 * 24 * time.Hour, "*5 Oct* 12 Oct 19 Oct 26 Oct *2 Nov*"},
		{g, "2025-10-15 00:00:00", "2026-11-20 00:00:00", 45 * 24 * time.Hour, "Nov *2026* Mar May Jul Sep Nov"},
		{fr, "2025-10-15 00:00:00", "2026-11-20 00:00:00", 80 * 24 * time.Hour, "*2026* avr. juill. oct."},
		{g, "2001-01-01 00:00:00", "2026-01-01 00:00:00", 4 * 365 * 24 * time.Hour, "*2005* *2010* *2015* *2020* *2025*"},
		{g, "2026-11-21 14:00:00", "2026-11-21 14:01:00", 12 * time.Second, "14:00:00 14:00:15 14:00:30 14:00:45 14:01:00"},
	}
	for _, tt := range tests {
		var got []string
		for _, tick := range tt.g.ticksX(at(tt.from), at(tt.to), tt.gap) {
			label := tick.label
			if tick.strong {
				label = "*" + label + "*"
			}
			got = append(got, label)
		}
		if got := strings.Join(got, " "); got != tt.want {
			t.Errorf("%s to %s: %s, want %s", tt.from, tt.to, got, tt.want)
		}
	}
}

func TestFit(t *testing.T) {
	for _, text := range []string{"short", "a label that is far too long to be shown here", "ééééééééééééééééééééééé", "日本語日本語日本語日本語"} {
		got := fit(text, 100, 13, false)
		if width(got, 13, false) > 100 || got != text && !strings.HasSuffix(got, "…") {
			t.Errorf("%q has %.0f of 100 pixels", got, width(got, 13, false))
		}
	}
	if got := fit("abc", 1, 13, true); got != "…" {
		t.Errorf("%q", got)
	}
}
