package main

import (
	"reflect"
	"strings"
	"testing"

	"tocsin/internal/api"
)

func TestParseMetrics(t *testing.T) {
	tests := []struct {
		name, page string
		want       []metric // nil: refused
	}{
		{"nothing", "", []metric{}},
		{"comments", "# HELP a As.\n# TYPE a gauge\n", []metric{}},
		{"plain", "a 1\n", []metric{{"a", map[string]string{}, 1}}},
		{"labels", `a:b_total{jail="sshd",x=""} 2.5e+06`, []metric{{"a:b_total", map[string]string{"jail": "sshd", "x": ""}, 2.5e6}}},
		{"escapes", `a{x="q\"b\\nn\nc, y=\"}"} -0.5`, []metric{{"a", map[string]string{"x": "q\"b\\nn\nc, y=\"}"}, -0.5}}},
		{"no value", "a\n", nil},
		{"no number", "a b\n", nil},
		{"not finite", "a NaN\n", nil},
		{"infinite", "a +Inf\n", nil},
		{"too large", "a 1e999\n", nil},
		{"a time", "a 1 1700000000000\n", nil},
		{"a bad name", "1a 1\n", nil},
		{"a label without quotes", "a{x=1} 1\n", nil},
		{"no comma", `a{x="1"y="2"} 1`, nil},
		{"a label twice", `a{x="1",x="2"} 1`, nil},
		{"an open brace", `a{x="1" 1`, nil},
		{"an unknown escape", `a{x="\t"} 1`, nil},
		{"half a page", "a 1\nb", nil},
	}
	for _, tt := range tests {
		got, err := parseMetrics(tt.page)
		if !reflect.DeepEqual(got, tt.want) || (err != nil) != (tt.want == nil) {
			t.Errorf("%s: parseMetrics(%q) = %v, %v; want %v", tt.name, tt.page, got, err, tt.want)
		}
	}
}

// What is understood must come out the same when it is written and read again.
func FuzzParseMetrics(f *testing.F) {
	f.Add("# HELP a As.\n# TYPE a gauge\na 0.5\nb_total{jail=\"a\\\"b\\\\c\\nd\",x=\"y\"} 2\n")
	f.Add("a{x=\"1\",} 1e6\n")
	f.Add("a{} 0x1p-2")
	f.Fuzz(func(t *testing.T, page string) {
		ms, err := parseMetrics(page)
		if err != nil {
			return
		}
		for _, m := range ms {
			var again strings.Builder
			w := api.NewMetrics(&again)
			var labels []string
			for name, value := range m.Labels {
				labels = append(labels, name, value)
			}
			w.Gauge(m.Name, "", m.Value, labels...)
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
			got, err := parseMetrics(again.String())
			if err != nil || len(got) != 1 || !reflect.DeepEqual(got[0], m) {
				t.Fatalf("%v is written as %q, which reads as %v, %v", m, again.String(), got, err)
			}
		}
	})
}
