package alert

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tocsin"
	"tocsin/internal/munin"
)

// limited is one curve with its limits, as both programs get it.
type limited struct {
	attrs  string    // "warning 3:5"
	values []float64 // raw, one for each run; NaN: "U"
}

var unknown = math.NaN()

var limitedCurves = []limited{
	{"warning 3:5", []float64{4, 3, 5, 2.99, 5.01, 4, 6, 6}},
	{"warning :5\ncritical :10", []float64{4, 6, 11, 10, 5, 12, 6, 5}},
	{"warning 5:\ncritical 2:", []float64{6, 5, 4, 2, 1, 0, -3, 8}},
	{"warning 5", []float64{-100, 5, 5.5, 4, 6, 6, 4, 0}},
	{"critical -5", []float64{-6, -5, -4, -3, 0, -5.5, 9, -9}},
	{"warning -3:-1", []float64{-2, -4, 0, -1, -3, -3.5, -0.5, -2}},
	{"warning  2:4 \ncritical 1:5", []float64{3, 1.5, 0.5, 4.5, 5.5, 3, 5, 1}},
	{"warning :5", []float64{4, unknown, unknown, unknown, unknown, 4, unknown, 6}},
	{"warning :5", []float64{6, unknown, unknown, unknown, 6, unknown, unknown, 4}},
	{"warning :5\nunknown_limit 0", []float64{4, unknown, 6, unknown, unknown, 4, 6, unknown}},
	{"warning :5\nunknown_limit 1", []float64{4, unknown, 6, unknown, unknown, 4, unknown, unknown}},
	{"warning :2\ntype DERIVE\ncdef x,8,*", []float64{300, 600, 1200, 2400, 2400, 2100, unknown, 3000}},
	{"warning :2\ntype ABSOLUTE", []float64{300, 600, 660, 900, 0, 606, 600, 300}},
	{"warning 0:\ntype DERIVE", []float64{300, 600, 500, 2400, 2400, 2100, 2100, 3000}},
	{"warning 0.5:1.5\ncritical 0:2", []float64{1, 0.25, 1.75, 2.5, -1, 1.5, 0.5, 1}},
}

// Where the two differ on purpose: what munin-limits rounds away, and what it cannot read.
var limitedOtherwise = []limited{
	{"warning 0.003", []float64{0.001, 0.004, 0.006, 0.002, 0, 0, 0, 0}},
	{"warning 1e6", []float64{5, 2e6, 0, 5, 5, 5, 5, 5}},
	{"warning 2 : 4", []float64{3, 5, 0, 3, 3, 3, 3, 3}},
}

// Munin's own munin-limits and the engine give every value the same state.
func TestLimitsAreMunins(t *testing.T) {
	const program = "/usr/share/munin/munin-limits"
	if _, err := os.Stat(program); err != nil {
		t.Skip("Debian's munin is not installed: no munin-limits to compare with")
	}
	dir := t.TempDir()
	curves := slices.Concat(limitedCurves, limitedOtherwise)
	theirs := make([][]string, len(curves))
	for run := range curves[0].values {
		states := muninLimits(t, program, dir, curves, run)
		for i := range curves {
			theirs[i] = append(theirs[i], states[fmt.Sprintf("f%d", i)])
		}
	}
	equal, all := 0, 0
	for i := range limitedCurves {
		ours := engineLimits(t, &limitedCurves[i])
		for run := range ours {
			all++
			if ours[run] == theirs[i][run] {
				equal++
			} else {
				t.Errorf("%q, run %d of %v: we say %s, munin-limits says %s", limitedCurves[i].attrs, run+1, limitedCurves[i].values, ours[run], theirs[i][run])
			}
		}
	}
	for i := range limitedOtherwise {
		c := &limitedOtherwise[i]
		if ours := engineLimits(t, c); slices.Equal(ours, theirs[len(limitedCurves)+i]) {
			t.Errorf("%q: munin-limits has the same states %v: it does not round or misread any more, and the manual says it does", c.attrs, ours)
		}
	}
	t.Logf("%d of %d states are those of munin-limits", equal, all)
}

// muninLimits runs munin-limits once with the values of a run, and returns the state of each field.
func muninLimits(t *testing.T, program, dir string, curves []limited, run int) map[string]string {
	t.Helper()
	conf := filepath.Join(dir, "munin.conf")
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("munin.conf", fmt.Sprintf("dbdir %[1]s\nlogdir %[1]s\nrundir %[1]s\nhtmldir %[1]s\ntmpldir %[1]s\n[Gandi;web1]\n address 127.0.0.1\n", dir))
	var data, state strings.Builder
	fmt.Fprint(&data, "Gandi;web1:svc.graph_title Things\nGandi;web1:svc.graph_order")
	for i := range curves {
		fmt.Fprintf(&data, " f%d", i)
	}
	fmt.Fprintln(&data)
	now := time.Now().Unix()
	fmt.Fprintf(&state, "use Storable; use Munin::Master::Utils; open(my $f, '<', '%[1]s/datafile') or die; my @lines = <$f>;"+
		"Storable::nstore(Munin::Master::Utils::munin_parse_config(\\@lines), '%[1]s/datafile.storable'); Storable::nstore({value => {", dir)
	for i, c := range curves {
		fmt.Fprintf(&data, "Gandi;web1:svc.f%d.label f%d\n", i, i)
		letter := "g"
		for line := range strings.Lines(c.attrs) {
			name, value, _ := strings.Cut(strings.TrimRight(line, "\n"), " ")
			fmt.Fprintf(&data, "Gandi;web1:svc.f%d.%s %s\n", i, name, value)
			if name == "type" {
				letter = strings.ToLower(value[:1])
			}
		}
		raw := func(run int) string {
			if run < 0 || math.IsNaN(c.values[run]) {
				return "'U'"
			}
			return fmt.Sprint(c.values[run])
		}
		fmt.Fprintf(&state, "'%s/Gandi/web1-svc-f%d-%s.rrd:42' => {current => [%d, %s], previous => [%d, %s]},", dir, i, letter, now, raw(run), now-300, raw(run-1))
	}
	fmt.Fprintf(&state, "}}, '%s/state-Gandi-web1.storable');", dir)
	write("datafile", data.String())
	if out, err := exec.Command("perl", "-e", state.String()).CombinedOutput(); err != nil {
		t.Fatalf("write the state: %v\n%s", err, out)
	}
	if out, err := exec.Command(program, "--config", conf, "--force-run-as-root").CombinedOutput(); err != nil {
		t.Fatalf("munin-limits: %v\n%s", err, out)
	}
	text, err := os.ReadFile(filepath.Join(dir, "limits"))
	if err != nil {
		t.Fatal(err)
	}
	states := map[string]string{}
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		if parts := strings.Split(words[0], ";"); len(words) == 2 && parts[len(parts)-1] == "state" {
			states[parts[len(parts)-2]] = words[1]
		} else if place, ok := strings.CutSuffix(words[0], ".state"); ok && len(words) == 2 {
			states[place[strings.LastIndexByte(place, '.')+1:]] = words[1]
		}
	}
	return states
}

// engineLimits gives the engine the same values, five minutes apart.
func engineLimits(t *testing.T, c *limited) (states []string) {
	w := newWorld(t, "")
	f := munin.Field{Name: "x", Attrs: []munin.Attr{{Name: "label", Value: "x"}}}
	kind := "GAUGE"
	for line := range strings.Lines(c.attrs) {
		name, value, _ := strings.Cut(strings.TrimRight(line, "\n"), " ")
		f.Attrs = append(f.Attrs, munin.Attr{Name: name, Value: value})
		if name == "type" {
			kind = value
		}
	}
	s := &munin.Service{Name: "svc", Fields: []munin.Field{f}}
	before := math.NaN()
	for _, v := range c.values {
		rate := v
		switch kind {
		case "DERIVE":
			rate = (v - before) / 300
		case "ABSOLUTE":
			rate = v / 300
			if math.IsNaN(before) {
				rate = math.NaN() // to munin-limits
			}
		}
		before = v
		w.give("Gandi", "web1", s, rate)
		for range 5 {
			w.tick(time.Minute)
		}
		state := tocsin.Fine
		for _, in := range w.e.open {
			state = in.level
		}
		states = append(states, strings.Replace(state.String(), "fine", "ok", 1))
	}
	return states
}
