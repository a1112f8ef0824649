package graph

import (
	"bytes"
	"compress/gzip"
	"encoding/xml"
	"errors"
	"fmt"
	"image/png"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tocsin/internal/locale"
	"tocsin/internal/munin"
)

func svgOf(t testing.TB, g *Graph) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := g.SVG(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zipped(t testing.TB, data []byte) int {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Len()
}

func TestGolden(t *testing.T) {
	for _, m := range demos {
		t.Run(m.name, func(t *testing.T) {
			got := svgOf(t, m.graph(t))
			name := filepath.Join("testdata", m.name+".svg")
			if *update {
				if err := os.WriteFile(name, got, 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				i := 0
				for i < min(len(got), len(want)) && got[i] == want[i] {
					i++
				}
				t.Errorf("the picture differs from %s at byte %d: %.60q, want %.60q (go test -update writes it anew: look at it)", name, i, got[i:], want[i:])
			}
		})
	}
}

// elements reads a picture as XML and counts its elements; it fails on what no picture may have.
func elements(t testing.TB, picture []byte) map[string]int {
	t.Helper()
	count := map[string]int{}
	d := xml.NewDecoder(bytes.NewReader(picture))
	for {
		token, err := d.Token()
		if err == io.EOF {
			return count
		}
		if err != nil {
			t.Fatalf("no XML: %v", err)
		}
		e, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		count[e.Name.Local]++
		for _, a := range e.Attr {
			if a.Name.Local == "style" || a.Name.Local == "href" || strings.HasPrefix(a.Name.Local, "on") {
				t.Errorf("<%s> has the attribute %s", e.Name.Local, a.Name.Local)
			}
			if strings.Contains(a.Value, "NaN") || strings.Contains(a.Value, "Inf") {
				t.Errorf("<%s %s> is %.80q", e.Name.Local, a.Name.Local, a.Value)
			}
		}
	}
}

var allowed = []string{"svg", "title", "desc", "style", "rect", "path", "text", "g"}

func TestPicturesHoldWhatTheyMay(t *testing.T) {
	for _, m := range demos {
		for _, inline := range []bool{false, true} {
			d, o := m.make(t)
			o.Inline, o.Theme = inline, Auto
			g, err := New(d, o)
			if err != nil {
				t.Fatal(err)
			}
			count := elements(t, svgOf(t, g))
			for name := range count {
				if !slices.Contains(allowed, name) {
					t.Errorf("%s holds <%s>", m.name, name)
				}
			}
			if want := 1; (count["style"] == want) == inline {
				t.Errorf("%s, inline %v: %d style elements", m.name, inline, count["style"])
			}
			if count["title"] < 1 || count["desc"] != 1 {
				t.Errorf("%s has %d titles and %d descriptions", m.name, count["title"], count["desc"])
			}
		}
	}
}

// TestWeights holds what a year's picture may weigh.
func TestWeights(t *testing.T) {
	for _, m := range demos {
		if m.length != year {
			continue
		}
		g := m.graph(t)
		if n := zipped(t, svgOf(t, g)); n > 10_000 {
			t.Errorf("%s: %d bytes of SVG after gzip, want at most 10000", m.name, n)
		}
		var b bytes.Buffer
		if err := g.PNG(&b); err != nil {
			t.Fatal(err)
		}
		if b.Len() > 15_000 {
			t.Errorf("%s: %d bytes of PNG, want at most 15000", m.name, b.Len())
		}
		img, err := png.Decode(&b)
		if err != nil {
			t.Fatal(err)
		}
		if size := img.Bounds().Size(); size.X != 500 || size.Y < 300 {
			t.Errorf("%s is %v", m.name, size)
		}
	}
}

func TestHostileText(t *testing.T) {
	evil := "</title><script>alert(1)</script>\x1b[31m\u202etxet\x00\xff&\"' " + strings.Repeat("A", 10<<20)
	s := &munin.Service{Name: "evil", Attrs: []munin.Attr{
		{Name: "graph_title", Value: evil}, {Name: "graph_vlabel", Value: evil}, {Name: "graph_args", Value: "--base 1024 -l " + evil},
		{Name: "graph_total", Value: evil}, {Name: "graph_printf", Value: "%99999999999.999lf" + evil}, {Name: "graph_order", Value: evil + " a=x;y:z.w -b c b"},
	}}
	for _, name := range []string{"a", "b", "c"} {
		s.Fields = append(s.Fields, munin.Field{Name: name, Attrs: []munin.Attr{
			{Name: "label", Value: evil}, {Name: "colour", Value: evil}, {Name: "draw", Value: "LINE1e300"}, {Name: "cdef", Value: evil},
			{Name: "line", Value: "1:ff0000:" + evil}, {Name: "negative", Value: name}, {Name: "warning", Value: evil},
		}})
	}
	points := []Point{{T: noon.Unix(), Avg: 1, Min: 1, Max: 1}, {T: noon.Unix() - 300, Avg: math.Inf(1), Min: math.Inf(-1), Max: math.NaN()}, {T: math.MinInt64 + 1}, {T: math.MaxInt64}}
	g, err := New(Data{Service: s, From: noon.Add(-day), To: noon, Step: 5 * time.Minute, Points: map[string][]Point{"a": points, "b": points, "c": points}},
		Options{Subtitle: evil, Marks: []Mark{{At: noon.Add(-time.Hour), Kind: 200, Text: evil}, {At: noon.Add(-time.Hour), Kind: MarkAlert, Text: evil}}, GhostName: evil})
	if err != nil {
		t.Fatal(err)
	}
	picture := svgOf(t, g)
	count := elements(t, picture)
	if count["script"] > 0 {
		t.Error("the picture has a script")
	}
	if len(picture) > 20_000 {
		t.Errorf("%d bytes", len(picture))
	}
	for _, r := range string(picture) {
		if r == '\u202e' || r < ' ' && r != '\n' {
			t.Errorf("the picture holds %q", r)
		}
	}
	var b bytes.Buffer
	if err := g.PNG(&b); err != nil {
		t.Error(err)
	}
	if len(g.Notes) != 3 {
		t.Errorf("notes %.80q, want one of each cdef", g.Notes)
	}
}

func TestNewRefuses(t *testing.T) {
	s := describe(t, "graph_title x\na.label a")
	for _, d := range []Data{
		{Service: s, From: noon, To: noon, Step: time.Minute},
		{Service: s, From: noon, To: noon.Add(-time.Hour), Step: time.Minute},
		{Service: s, From: noon.Add(-time.Hour), To: noon, Step: time.Millisecond},
		{Service: s, From: noon.Add(-time.Hour), To: noon},
		{Service: s, From: noon.Add(-100 * year), To: noon, Step: time.Second},
	} {
		if _, err := New(d, Options{}); !errors.Is(err, ErrData) {
			t.Errorf("from %s to %s in %s: %v, want ErrData", d.From, d.To, d.Step, err)
		}
	}
}

// flat is a service over two hours in steps of five minutes with the same value throughout.
func flat(t *testing.T, config string, values map[string]float64, o Options) *Graph {
	t.Helper()
	d := Data{Service: describe(t, config), From: noon.Add(-2 * time.Hour), To: noon, Step: 5 * time.Minute, Points: map[string][]Point{}}
	for name, v := range values {
		for at := d.From.Add(d.Step); !at.After(noon); at = at.Add(d.Step) {
			d.Points[name] = append(d.Points[name], Point{at.Unix(), v, v, v})
		}
	}
	g, err := New(d, o)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestAttributes(t *testing.T) {
	tests := []struct {
		name, config string
		values       map[string]float64
		want         string // label cur/…: the legend
	}{
		{"plain", "graph_title x\na.label A", map[string]float64{"a": 1234.5}, "A 1.23k"},
		{"base 1024", "graph_title x\ngraph_args --base 1024\na.label A", map[string]float64{"a": 1048576}, "A 1.00M"},
		{"no scale", "graph_title x\ngraph_scale no\na.label A", map[string]float64{"a": 1234.5}, "A 1234.50"},
		{"legacy noscale", "graph_title x\ngraph_noscale true\na.label A", map[string]float64{"a": 1234.5}, "A 1234.50"},
		{"printf", "graph_title x\ngraph_printf %3.0lf\na.label A", map[string]float64{"a": 12.6}, "A 13"},
		{"hidden field", "graph_title x\na.label A\nb.label B\nb.graph no", map[string]float64{"a": 1, "b": 2}, "A 1.00"},
		{"skipdraw", "graph_title x\na.label A\nb.label B\nb.skipdraw 1", map[string]float64{"a": 1, "b": 2}, "A 1.00"},
		{"hidden by the order", "graph_title x\ngraph_order b -a\na.label A\nb.label B", map[string]float64{"a": 1, "b": 2}, "B 2.00"},
		{"order, then the rest", "graph_title x\ngraph_order c a c\na.label A\nb.label B\nc.label C", map[string]float64{"a": 1, "b": 2, "c": 3}, "C 3.00, A 1.00, B 2.00"},
		{"borrowed", "graph_title x\ngraph_order b=web1:load.load\na.label A\nb.label B", map[string]float64{"a": 1, "b": 2}, "B 2.00, A 1.00"},
		{"cdef", "graph_title x\na.label A\na.cdef a,8,*", map[string]float64{"a": 2}, "A 16.00"},
		{"cdef of another", "graph_title x\na.label A\nb.label B\nb.graph no\na.cdef a,b,/,100,*", map[string]float64{"a": 2, "b": 8}, "A 25.00"},
		{"cdef after the other's cdef", "graph_title x\nb.label B\na.label A\nb.cdef b,2,*\na.cdef a,b,+", map[string]float64{"a": 1, "b": 8}, "B 16.00, A 17.00"},
		{"cdef before the other's cdef", "graph_title x\na.label A\nb.label B\nb.cdef b,2,*\na.cdef a,b,+", map[string]float64{"a": 1, "b": 8}, "A 9.00, B 16.00"},
		{"a bad cdef", "graph_title x\na.label A\na.cdef a,8", map[string]float64{"a": 2}, "A 2.00"},
		{"per minute", "graph_title x\ngraph_period minute\na.label per ${graph_period}\na.type DERIVE", map[string]float64{"a": 2}, "per minute 120.00"},
		{"per hour then cdef", "graph_title x\ngraph_period hour\na.label A\na.type COUNTER\na.cdef a,2,/", map[string]float64{"a": 2}, "A 3.60k"},
		{"a gauge has no period", "graph_title x\ngraph_period hour\na.label A", map[string]float64{"a": 2}, "A 2.00"},
		{"mirrored", "graph_title x\ndown.label D\ndown.graph no\nup.label U\nup.negative down", map[string]float64{"up": 1, "down": 2000}, "U 2.00k/1.00"},
		{"total", "graph_title x\ngraph_total all\na.label A\nb.label B", map[string]float64{"a": 1, "b": 2}, "A 1.00, B 2.00, all 3.00"},
		{"total of what is known", "graph_title x\ngraph_total all\na.label A\nb.label B", map[string]float64{"a": 1}, "A 1.00, B –, all 1.00"},
		{"total of both sides", "graph_title x\ngraph_total all\nd.label D\nd.graph no\nu.label U\nu.negative d\nv.label V", map[string]float64{"d": 5, "u": 1, "v": 2}, "U 5.00/1.00, V 2.00, all 5.00/3.00"},
		{"no total", "graph_title x\ngraph_total undef\na.label A", map[string]float64{"a": 1}, "A 1.00"},
		{"without a label", "graph_title x\na.draw AREA", map[string]float64{"a": 1}, "a 1.00"},
	}
	for _, tt := range tests {
		var got []string
		for _, r := range flat(t, tt.config, tt.values, Options{}).Rows() {
			got = append(got, r.Label+" "+r.Cur)
			if r.Cur != r.Min || r.Cur != r.Avg && tt.name != "printf" || r.Cur != r.Max {
				t.Errorf("%s: %s %s %s %s", tt.name, r.Cur, r.Min, r.Avg, r.Max)
			}
		}
		if got := strings.Join(got, ", "); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestDraw(t *testing.T) {
	tests := []struct {
		draws string
		want  string // area, line and its width; + for stacked
	}{
		{"LINE1", "l1"}, {"LINE", "l1"}, {"", "l1"}, {"line2", "l2"}, {"LINE0.5", "l0.5"}, {"LINE99", "l1"}, {"AREA", "a"}, {"nonsense", "l1"},
		{"STACK", "l1"}, {"AREA STACK STACK", "a +a +a"}, {"LINE2 STACK", "l2 +l2"}, {"AREASTACK AREASTACK AREASTACK", "a +a +a"},
		{"LINESTACK LINESTACK", "l1 +l1"}, {"LINESTACK3 LINESTACK3 AREA", "l3 +l3 a"}, {"AREA STACK LINE1 STACK", "a +a l1 +l1"},
	}
	for _, tt := range tests {
		config := "graph_title x\n"
		for i, draw := range strings.Split(tt.draws, " ") {
			name := string(rune('a' + i))
			config += name + ".label x\n" + name + ".draw " + draw + "\n"
		}
		var got []string
		for _, c := range flat(t, config, nil, Options{}).curves {
			how := ""
			if c.stacked {
				how = "+"
			}
			if c.area {
				how += "a"
			} else {
				how += "l" + trimmed(c.width)
			}
			got = append(got, how)
		}
		if got := strings.Join(got, " "); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.draws, got, tt.want)
		}
	}
}

func TestStackTops(t *testing.T) {
	g := flat(t, "graph_title x\na.label a\na.draw AREA\nb.label b\nb.draw STACK\nc.label c\nc.draw STACK", map[string]float64{"a": 1, "c": 3}, Options{})
	p := g.layout()
	for i, want := range []float64{1, 1, 4} { // b is unknown
		if got := p.layers[i].avg[3]; got != want {
			t.Errorf("top of layer %d is %g, want %g", i, got, want)
		}
	}
}

func TestColours(t *testing.T) {
	g := flat(t, "graph_title x\na.label a\nb.label b\nb.colour 123456\nc.label c\nc.colour COLOUR30\nd.label d\nd.colour nonsense", nil, Options{})
	for i, want := range []string{"#0c0", "#123456", "#0066b3", "#fc0"} {
		if got := g.curves[i].colour.hex(); got != want {
			t.Errorf("curve %d is %s, want %s", i, got, want)
		}
	}
	if got := flat(t, "graph_title x\na.label a", nil, Options{Palette: "old"}).curves[0].colour.hex(); got != "#2f2" {
		t.Errorf("the old palette begins with %s", got)
	}
	for _, c := range palettes["default"] {
		line := inkOf(c, false)
		if got := contrast(line.light, paper.light); got < 1.6 {
			t.Errorf("%s has contrast %.2f on white", c.hex(), got)
		}
		if got := contrast(line.dark, paper.dark); got < 2.5 {
			t.Errorf("%s has contrast %.2f on the dark paper", c.hex(), got)
		}
	}
	for _, k := range []ink{letters, muted} {
		if contrast(k.light, paper.light) < 4.5 || contrast(k.dark, paper.dark) < 4.5 {
			t.Errorf("text of %v cannot be read", k)
		}
	}
}

func TestLevels(t *testing.T) {
	g := flat(t, "graph_title x\na.label a\na.cdef a,8,*\na.warning 5:10\na.critical :20\nd.label d\nd.graph no\nu.label u\nu.negative d\nd.warning 3\nb.label b\nb.cdef b,a,/\nb.warning 7\nc.label c\nc.warning 7\nc.line 4:00ff00:four", map[string]float64{"a": 1, "b": 2}, Options{Levels: []Level{{Value: 50, Critical: true}}})
	want := []Level{{160, true}, {50, true}, {40, false}, {80, false}, {-3, false}, {0.875, false}}
	if !slices.Equal(g.levels, want) {
		t.Errorf("levels %v, want %v", g.levels, want)
	}
	if got := g.curves[len(g.curves)-1].rules; len(got) != 1 || got[0].value != 4 || got[0].label != "four" {
		t.Errorf("rules %v", got)
	}
}

func TestSummaryIsStale(t *testing.T) {
	g := flat(t, "graph_title x\na.label a", nil, Options{})
	v := g.grid.spread([]Point{{T: noon.Unix() - 1200, Avg: 1, Min: 1, Max: 1}})
	if got := g.summary(&v); !math.IsNaN(got[0]) || got[2] != 1 {
		t.Errorf("%v: what is 20 minutes old is not current", got)
	}
	v = g.grid.spread([]Point{{T: noon.Unix() - 900, Avg: 1, Min: 1, Max: 1}})
	if got := g.summary(&v); got[0] != 1 {
		t.Errorf("%v: what is 15 minutes old is current", got)
	}
}

func TestTableAndCSV(t *testing.T) {
	d := Data{Service: describe(t, "graph_title x\nd.label in\nd.graph no\nu.label traffic\nu.negative d\nu.cdef u,8,*"), From: noon.Add(-15 * time.Minute), To: noon, Step: 5 * time.Minute,
		Points: map[string][]Point{"u": {{noon.Unix() - 600, 1, 0.5, 2}, {noon.Unix(), 3, 3, 3}}, "d": {{noon.Unix(), 7, 6, 8}}}}
	g, err := New(d, Options{})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := g.CSV(&b); err != nil {
		t.Fatal(err)
	}
	want := `time,u:negative,u:negative:min,u:negative:max,u,u:min,u:max
2026-11-21T13:55:00Z,,,,8,4,16
2026-11-21T14:05:00Z,7,6,8,24,24,24
`
	if b.String() != want {
		t.Errorf("%s, want %s", b.String(), want)
	}
	if got := g.Table().Labels; !slices.Equal(got, []string{"traffic (−)", "traffic"}) {
		t.Errorf("labels %q", got)
	}
}

func TestFrench(t *testing.T) {
	g := flat(t, "graph_title x\na.label a", map[string]float64{"a": 1234.5}, Options{Locale: locale.Get("fr").In(paris)})
	if got := g.Rows()[0].Cur; got != "1,23k" {
		t.Errorf("%q", got)
	}
	picture := string(svgOf(t, g))
	for _, want := range []string{"actuel", "moyenne", "a : actuel 1,23k", "14:", "1 point = 5\u202fmin"} {
		if !strings.Contains(strings.ReplaceAll(picture, "\u202f:", " :"), want) {
			t.Errorf("%q is not in the picture", want)
		}
	}
}

func TestSpark(t *testing.T) {
	nan := math.NaN()
	got := Spark([]float64{0, 1, 2, nan, 4, 4, 4}, 70, 16, `cpu <"1">`)
	want := `<svg class="spark" viewBox="0 0 70 16" width="70" height="16" role="img" aria-label="cpu &lt;&#34;1&#34;&gt;"><path fill="none" stroke="currentColor" d="M5.5 15l10-4 10-3M44.5 1l20 0"/></svg>`
	if got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	for _, points := range [][]float64{nil, {nan, nan}, {0, 0}, {math.Inf(1), 1}, {-5, -3}, {5}} {
		elements(t, []byte(Spark(points, 70, 16, "")))
	}
	var page []byte
	for i := range 150 {
		var points []float64
		for _, p := range made(i, noon.Add(-24*time.Hour), noon, 30*time.Minute) {
			points = append(points, p.Avg)
		}
		page = append(page, Spark(points, 96, 20, "")...)
	}
	if n := zipped(t, page); n > 25_000 {
		t.Errorf("150 sparklines are %d bytes after gzip, want at most 25000", n)
	}
}

func TestInherit(t *testing.T) {
	parent := describe(t, "graph_title parent\ngraph_scale no\ngraph_args --base 1024\ngraph_order x\na.label a")
	child := describe(t, "graph_title child\ngraph_args --base 1000\na.label a")
	got := Inherit(child, parent)
	for name, want := range map[string]string{"graph_title": "child", "graph_scale": "no", "graph_args": "--base 1000", "graph_order": ""} {
		if v := attr(got, name); v != want {
			t.Errorf("%s is %q, want %q", name, v, want)
		}
	}
	if len(child.Attrs) != 2 {
		t.Errorf("the child was changed: %v", child.Attrs)
	}
	if Inherit(child) != child {
		t.Error("a service without parents was copied")
	}
}

// TestFieldsAreThoseThatAreDrawn: of thousands of fields only those are worked with that come first, by the order asked for.
func TestFieldsAreThoseThatAreDrawn(t *testing.T) {
	text := "graph_title x\ngraph_order f1999 -f1998"
	for i := range 2000 {
		text += fmt.Sprintf("\nf%d.label %d", i, i)
	}
	names := Fields(describe(t, text))
	if len(names) != maxFields || !names["f1999"] || !names["f1998"] || !names["f0"] || names["f1000"] {
		t.Errorf("%d fields", len(names))
	}
	if few := Fields(describe(t, "graph_title x\na.label a\nb.label b\nb.graph no")); len(few) != 2 {
		t.Errorf("of few: %v", few)
	}
}
