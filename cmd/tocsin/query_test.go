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

func TestQuestions(t *testing.T) {
	now := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	tests := []struct {
		cmd  queryCmd
		want string // the question, or the error
	}{
		{queryCmd{Expr: "up"}, "query query=up"},
		{queryCmd{Expr: "up", End: "2026-11-21T00:00:00Z"}, "query query=up&time=2026-11-21T00%3A00%3A00Z"},
		{queryCmd{Expr: "up", Range: "day"}, "query_range end=2026-11-22T10%3A00%3A00Z&query=up&start=2026-11-21T10%3A00%3A00Z&step=4320"},
		{queryCmd{Expr: "up", Range: "1h", Step: "10s", End: "2026-11-21T02:00:00+01:00"}, "query_range end=2026-11-21T02%3A00%3A00%2B01%3A00&query=up&start=2026-11-21T01%3A00%3A00%2B01%3A00&step=10"},
		{queryCmd{Expr: "up", Range: "5s"}, "query_range end=2026-11-22T10%3A00%3A00Z&query=up&start=2026-11-22T09%3A59%3A55Z&step=1"},
		{queryCmd{Expr: "up", Range: "often"}, `range "often" is no time`},
		{queryCmd{Expr: "up", Range: "0s"}, `range "0s" is no time`},
		{queryCmd{Expr: "up", Range: "day", Step: "x"}, `step "x" is no duration`},
		{queryCmd{Expr: "up", Step: "1m"}, "--step needs --range"},
		{queryCmd{Expr: "up", End: "noon"}, `end "noon" is no time`},
	}
	for _, tt := range tests {
		question, v, err := tt.cmd.question(now)
		got := question + " " + v.Encode()
		if err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%+v asks %q, want %q", tt.cmd, got, tt.want)
		}
	}
}

func TestPrintProbes(t *testing.T) {
	var b strings.Builder
	printProbes(&b, []api.Probe{
		{Name: "mail1", Kind: "node", On: true, Every: 60, Repeats: []api.Repeat{{Probe: "sympa", Of: "postfix_mailvolume"}}},
		{Name: "df", Kind: "plugin", On: true, Every: 60, Cost: 13.2, Longest: 20, Doubles: []string{"a built-in probe, whose values are kept"}},
		{Name: "sympa", Kind: "built-in", On: true, Every: 60, Repeats: []api.Repeat{{Probe: "sympa", Of: "postfix"}}, Why: "one\nspool"},
		{Name: "apache", Kind: "plugin", Every: 10, Why: strings.Repeat("é", 200)},
		{Name: "bind", Kind: "built-in", Every: 10},
	})
	want := "PROBE   KIND      EVERY  COST      LONGEST   FAILED  NOTE\n" +
		"bind    built-in  10s    0.00 ms   0.00 ms   0       off: not read yet\n" +
		"sympa   built-in  1m     0.00 ms   0.00 ms   0       repeats postfix; one\\nspool\n" +
		"apache  plugin    10s    0.00 ms   0.00 ms   0       off: " + strings.Repeat("é", 92) + "...\n" +
		"df      plugin    1m     13.20 ms  20.00 ms  0       doubles a built-in probe, whose values are kept\n" +
		"mail1   node      1m     -         0.00 ms   0       sympa repeats postfix_mailvolume\n"
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}
