package main

import (
	"bytes"
	"math"
	"strings"
	"testing"
	"time"

	"tocsin/internal/api"
)

func TestPrintFound(t *testing.T) {
	tests := []struct{ answer, want string }{
		{`{"status":"success","data":{"resultType":"vector","result":[{"metric":{"__name__":"munin","node":"a\u001b[31m","field":"x"},"value":[1.5,"0.25"]}]}}`, `munin{field="x",node="a\x1b[31m"}  0.25` + "\n"},
		{`{"status":"success","data":{"resultType":"vector","result":[]}}`, "nothing found\n"},
		{`{"status":"success","data":{"resultType":"scalar","result":[1.5,"7"]}}`, "7\n"},
	}
	for _, tt := range tests {
		var b bytes.Buffer
		if err := printFound(&b, []byte(tt.answer)); err != nil || b.String() != tt.want {
			t.Errorf("%s prints %q, %v; want %q", tt.answer, b.String(), err, tt.want)
		}
	}
	for _, bad := range []string{``, `{`, `{"data":{"resultType":"vector","result":7}}`} {
		if err := printFound(new(bytes.Buffer), []byte(bad)); err == nil {
			t.Errorf("%q was taken for an answer", bad)
		}
	}
}

func TestScaled(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 0.25: "250m", 1: "1", 999: "999", 12500: "12.5k", -3.4e6: "-3.4M", 1e10: "10G", 2e-5: "20u", 1e-9: "1e-09", math.Inf(1): "+Inf"} {
		if got := scaled(v); got != want {
			t.Errorf("scaled(%g) = %q, want %q", v, got, want)
		}
	}
}

func TestWriteCSV(t *testing.T) {
	g := &api.Graph{Fields: []api.GraphField{
		{Name: "a", Points: []api.GraphPoint{{T: 300, Avg: 1, Min: 0.5, Max: 2}, {T: 600, Avg: 3, Min: 3, Max: 3}}},
		{Name: "b", Points: []api.GraphPoint{{T: 600, Avg: -1e20, Min: -1e20, Max: 7}}},
	}}
	want := "time,a,a:min,a:max,b,b:min,b:max\n1970-01-01T00:05:00Z,1,0.5,2,,,\n1970-01-01T00:10:00Z,3,3,3,-1e+20,-1e+20,7\n"
	var b bytes.Buffer
	if err := writeCSV(&b, g); err != nil || b.String() != want {
		t.Errorf("CSV %q, %v; want %q", b.String(), err, want)
	}
}

// A chart is as wide as it says, and a line that rises ends in its upper right corner.
func TestDrawChart(t *testing.T) {
	var points []api.GraphPoint
	for i := range int64(100) {
		points = append(points, api.GraphPoint{T: i * 10, Avg: float64(i), Min: float64(i), Max: float64(i)})
	}
	points = append(points, api.GraphPoint{T: 5, Avg: math.Inf(1)}, api.GraphPoint{T: 2000, Avg: 5})
	var b strings.Builder
	drawChart(&b, points, 0, 990, 0, 99)
	lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	if len(lines) != chartHeight {
		t.Fatalf("%d lines, want %d:\n%s", len(lines), chartHeight, b.String())
	}
	for i, line := range lines {
		if n := len([]rune(line)); n != chartWidth+10 {
			t.Errorf("line %d has %d letters, want %d", i, n, chartWidth+10)
		}
	}
	first, last := []rune(lines[0]), []rune(lines[chartHeight-1])
	if first[10] != 0x2800 || first[len(first)-1] == 0x2800 || last[10] == 0x2800 || last[len(last)-1] != 0x2800 {
		t.Errorf("the line does not rise:\n%s", b.String())
	}
	var out strings.Builder
	printGraph(&out, &api.Graph{Server: "web1", Service: "load", Title: "Load", Fields: []api.GraphField{{Name: "load", Points: points[:100]}, {Name: "none"}}}, time.Unix(0, 0), time.Unix(990, 0))
	for _, want := range []string{"web1 load: Load", "cur 99  min 0  avg 49.5  max 99", "nothing known"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the graph does not say %q:\n%s", want, out.String())
		}
	}
}
