package graph

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"tocsin/internal/munin"
)

// rpnTests are cdefs on a = 1 2 U 4 5 6 7 8 and b = 3 each, in steps of 300 seconds
var rpnTests = []string{
	"a", "a,8,*", "a,b,+", "a,b,-", "a,b,/", "a,b,%", "b,0,/", "a,b,ADDNAN", "UNKN,UNKN,ADDNAN", "a,b,MIN", "a,b,MAX", "a,b,MINNAN", "a,b,MAXNAN",
	"a,UN", "a,UN,0,a,IF", "a,UN,-1,*", "a,4,LT", "a,4,LE", "a,4,GT", "a,4,GE", "a,4,EQ", "a,4,NE", "UNKN,1,2,IF", "0,1,2,IF",
	"a,DUP,*", "a,b,EXC,-", "a,b,POP", "a,2,5,LIMIT", "a,UNKN,5,LIMIT", "a,-1,*,ABS", "INF", "NEGINF", "a,INF,GT", "INF,ISINF",
	"PREV(a)", "a,PREV(a),-", "PREV,UN,0,PREV,IF,1,+", "PREV,UN,a,PREV,a,ADDNAN,IF", "a,LOG", "a,EXP", "a,SQRT", "a,2.5,/,FLOOR", "a,2.5,/,CEIL", "a,SIN", "a,COS", "a,ATAN",
	"a,b,ATAN2", "a,DEG2RAD", "a,RAD2DEG", "TIME", "TIME,1000000500,GT,a,0,IF", "a,600,TREND", "a,600,TRENDNAN", "a,500,TRENDNAN", "b,900,TREND", "a,300,TREND",
	"a,b,2,AVG", "a,b,1,3,AVG", "b,9,1,3,SORT,-,-", "b,9,1,3,REV,-,-", "1e3,a,*", "-2.5,a,*", "COUNT", "a,300,TRENDNAN",
}

func evaluate(t testing.TB, text string, series map[string][]float64) []float64 {
	t.Helper()
	r, err := parseRPN(text, func(name string) bool { return series[name] != nil })
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return r.run(len(series["a"]), machine{first: 1000000200, step: 300, zone: time.UTC, values: func(name string) []float64 { return series[name] }})
}

func TestRPNAsRRDtool(t *testing.T) {
	rrdtool, err := exec.LookPath("rrdtool")
	if err != nil {
		t.Skip("rrdtool is not installed: nothing to compare with")
	}
	nan := math.NaN()
	series := map[string][]float64{"a": {1, 2, nan, 4, 5, 6, 7, 8}, "b": slices.Repeat([]float64{3}, 8)}
	rrd := filepath.Join(t.TempDir(), "x.rrd")
	command(t, rrdtool, "create", rrd, "--start", "999999900", "--step", "300", "DS:a:GAUGE:600:U:U", "DS:b:GAUGE:600:U:U", "RRA:AVERAGE:0.5:1:100")
	for i := range series["a"] {
		v := strconv.FormatFloat(series["a"][i], 'g', -1, 64)
		if math.IsNaN(series["a"][i]) {
			v = "U"
		}
		command(t, rrdtool, "update", rrd, fmt.Sprintf("%d:%s:3", 1000000200+300*i, v))
	}
	right := 0
	for _, text := range rpnTests {
		out := command(t, rrdtool, "xport", "--start", "999999900", "--end", "1000002300", "--step", "300", "DEF:a="+rrd+":a:AVERAGE", "DEF:b="+rrd+":b:AVERAGE", "CDEF:c="+text+",a,POP", "XPORT:c")
		want := exported(t, out)
		got := evaluate(t, text, series)
		if len(want) < len(got) {
			t.Fatalf("%s: %d rows of rrdtool: %s", text, len(want), out)
		}
		same := true
		for i := range got {
			if !(got[i] == want[i] || math.IsNaN(got[i]) && math.IsNaN(want[i]) || math.Abs(got[i]-want[i]) < 1e-9*math.Abs(want[i])) {
				same = false
			}
		}
		if !same {
			t.Errorf("%s: %v, rrdtool %v", text, got, want[:len(got)])
			continue
		}
		right++
	}
	t.Logf("%d of %d calculations as rrdtool has them", right, len(rpnTests))
}

func command(t testing.TB, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(cmd.Environ(), "LC_ALL=C.UTF-8", "TZ=UTC")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, &stderr)
	}
	return out
}

// exported reads the values of rrdtool xport.
func exported(t testing.TB, out []byte) (rows []float64) {
	t.Helper()
	for _, part := range bytes.Split(out, []byte("<v>"))[1:] {
		word, _, _ := strings.Cut(string(part), "<")
		v, err := strconv.ParseFloat(word, 64)
		if strings.HasSuffix(word, "nan") || strings.HasSuffix(word, "NaN") {
			v, err = math.NaN(), nil
		}
		if err != nil {
			t.Fatalf("%q of rrdtool is no number", word)
		}
		rows = append(rows, v)
	}
	return rows
}

func TestRPNMistakes(t *testing.T) {
	known := func(name string) bool { return name == "a" }
	for _, text := range []string{"", "a,", "a,b", "+", "a,+", "a,a", "a,POP", "a,PREV(x),+", "PREV(", "a,1,TREND,x", "1,1,TREND", "a,TREND", "a,a,+,300,TREND", "a,0x1,*", "a,1_0,*",
		"a,NaN,*", "a,INFINITY,*", "a,a,9e99,AVG", "a,a,AVG", "a,-1,SORT", strings.Repeat("a,", 2000) + "a", strings.Repeat("a,", 999) + "a"} {
		if _, err := parseRPN(text, known); err == nil {
			t.Errorf("%.60q is understood", text)
		}
	}
}

func TestLTIME(t *testing.T) {
	r, err := parseRPN("LTIME,TIME,-", func(string) bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	if got := r.run(1, machine{first: noon.Unix(), step: 300, zone: paris}); got[0] != 3600 {
		t.Errorf("%v, want an hour", got)
	}
}

func FuzzRPN(f *testing.F) {
	for _, text := range rpnTests {
		f.Add(text)
	}
	series := map[string][]float64{"a": make([]float64, 50), "b": make([]float64, 50)}
	r := rand.New(rand.NewPCG(1, 2))
	for i := range series["a"] {
		series["a"][i], series["b"][i] = r.NormFloat64(), math.NaN()
	}
	f.Fuzz(func(t *testing.T, text string) {
		calc, err := parseRPN(text, func(name string) bool { return series[name] != nil })
		if err != nil {
			return
		}
		if got := calc.run(50, machine{first: 600, step: 300, zone: time.UTC, values: func(name string) []float64 { return series[name] }}); len(got) != 50 {
			t.Errorf("%d results", len(got))
		}
	})
}

// TestWorkIsBounded draws services whose calculations would take minutes.
func TestWorkIsBounded(t *testing.T) {
	sorted := strings.Repeat("1,", 200) + strings.Repeat("200,SORT,", 290) + strings.Repeat("POP,", 199) + "a,+"
	added := strings.Repeat("a,", 499) + "a" + strings.Repeat(",+", 499)
	for name, cdef := range map[string]string{"sorted": sorted, "added": added} {
		var config strings.Builder
		for i := range maxFields {
			fmt.Fprintf(&config, "f%d.cdef %s\nf%d.warning 1:2\nf%d.critical 3:4\n", i, strings.ReplaceAll(cdef, "a", fmt.Sprint("f", i)), i, i)
		}
		s := &munin.ParseConfig("x", []byte(config.String())).Services[0]
		g, err := New(Data{Service: s, From: noon.Add(-day), To: noon, Step: 5 * time.Minute}, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if n := len(g.Notes); n == 0 || g.work > maxWork {
			t.Errorf("%s: %d of %d cdefs are left out, work %d", name, n, maxFields, g.work)
		}
	}
}
