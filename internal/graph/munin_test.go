package graph

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"tocsin"
	"tocsin/internal/munin"
)

// TestAsMunin lets Debian's munin-graph build its commands for rrdtool over real files, lets rrdtool print the legends of
// them, and compares every label and number with ours of the same files.
func TestAsMunin(t *testing.T) {
	data := os.Getenv("TOCSIN_TESTDATA")
	if data == "" {
		t.Skip("TOCSIN_TESTDATA names no folder of recorded data: there are no files of a Munin master")
	}
	const program = "/usr/share/munin/munin-graph"
	rrdtool, err := exec.LookPath("rrdtool")
	if err != nil {
		t.Skip("rrdtool is not installed: nothing to compare with")
	}
	if _, err := os.Stat(program); err != nil {
		t.Skip("munin-graph is not installed: nothing to compare with")
	}
	for _, from := range []struct {
		archive, db string
		every       int // so many services: one with all windows, the others with the day alone
		least       int // pictures that are compared
	}{{"rrd-sample.tar.gz", "rrd-sample/db", 10, 150}, {"synth.tar.gz", "db", 1, 40}} {
		t.Run(from.archive, func(t *testing.T) {
			dir := t.TempDir()
			command(t, "tar", "-xzf", filepath.Join(data, "munin", from.archive), "-C", dir)
			m := master{dir: dir, db: filepath.Join(dir, from.db), rrdtool: rrdtool}
			m.run(t, program)
			right, all, numbers := 0, 0, 0
			for i, p := range m.pictures {
				for _, window := range []string{"day", "week", "month", "year"} {
					if window != "day" && i%from.every > 0 {
						continue
					}
					got, want, ok := m.compare(t, p, window)
					if !ok {
						continue
					}
					all++
					numbers += len(want)
					if slices.Equal(got, want) {
						right++
						continue
					}
					t.Errorf("%s, %s:\n got %q\nwant %q", p.path, window, got, want)
				}
			}
			t.Logf("%d of %d legends as Munin's, %d labels and numbers", right, all, numbers)
			if all < from.least {
				t.Errorf("only %d legends were compared, want at least %d", all, from.least)
			}
		})
	}
}

// master is a Munin master's folder.
type master struct {
	dir, db, rrdtool string
	commands         map[string][]string // of rrdtool, by the picture's path below htmldir
	pictures         []muninPicture
}

type muninPicture struct {
	path    string // "/Group/host/service-day.png"
	group   string
	node    string
	service *munin.Service
	parents []*munin.Service // the nearest first
}

func (m *master) run(t *testing.T, program string) {
	t.Helper()
	tree, err := munin.ReadDatafile(filepath.Join(m.db, "datafile"))
	if err != nil {
		t.Fatal(err)
	}
	var wanted strings.Builder
	for _, n := range tree.Nodes {
		for _, s := range n.Services {
			if attr(s, "graph_title") == "" || strings.Contains(attr(s, "graph_order"), "=") || slices.ContainsFunc(s.Fields, func(f munin.Field) bool { return fieldAttr(&f, "sum")+fieldAttr(&f, "stack") != "" }) {
				continue // drawn of others: that is worked out before
			}
			p := muninPicture{path: "/" + strings.ReplaceAll(n.Group, ";", "/") + "/" + n.Name + "/" + strings.ReplaceAll(s.Name, ".", "/") + "-day.png", group: n.Group, node: n.Name, service: s}
			for name := s.Name; strings.Contains(name, "."); {
				name = name[:strings.LastIndexByte(name, '.')]
				if i := slices.IndexFunc(n.Services, func(o *munin.Service) bool { return o.Name == name }); i >= 0 {
					p.parents = append(p.parents, n.Services[i])
				}
			}
			m.pictures = append(m.pictures, p)
			fmt.Fprintln(&wanted, p.path)
		}
	}
	conf := filepath.Join(m.dir, "munin.conf")
	text := ""
	for _, name := range []string{"htmldir", "logdir", "rundir", "cgitmpdir"} {
		folder := filepath.Join(m.dir, name)
		if err := os.Mkdir(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		text += name + " " + folder + "\n"
	}
	write := func(path string, data []byte) {
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(conf, []byte(text+"dbdir "+m.db+"\n"))
	storable := command(t, "/usr/share/munin/munin-datafile2storable", filepath.Join(m.db, "datafile"))
	write(filepath.Join(m.db, "datafile.storable"), storable)
	write(filepath.Join(m.db, "graphs"), []byte(wanted.String()))
	command(t, program, "--config", conf, "--force-run-as-root", "--debug", "--log-file", filepath.Join(m.dir, "logdir", "x"))
	log, err := os.ReadFile(filepath.Join(m.dir, "logdir", "munin-graph.log"))
	if err != nil {
		t.Fatal(err)
	}
	m.commands = map[string][]string{}
	for _, part := range bytes.Split(log, []byte("rrdtool 'graph' '"))[1:] {
		line, _, _ := strings.Cut(string(part), "'\n\n")
		line, _, _ = strings.Cut(line, "'\n2") // the next line of the log
		args := strings.Split(line, "' \\\n\t'")
		m.commands[strings.TrimPrefix(args[0], filepath.Join(m.dir, "htmldir"))] = args[1:]
	}
}

var mirroredNumber = regexp.MustCompile(`^(-?[0-9.]+ ?[afpnumkMGTPE?]?|-?nan ?)$`)

var legendLine = regexp.MustCompile(`(?m)^legend\[\d+\] = "(.*)"$`)

// compare prints the legend of a picture twice: as rrdtool does, and as we do.
func (m *master) compare(t *testing.T, p muninPicture, window string) (got, want []string, ok bool) {
	t.Helper()
	args := slices.Clone(m.commands[p.path])
	if args == nil {
		return nil, nil, false
	}
	length, step, _ := Window(window)
	d := Data{Service: p.service, Step: step, Points: map[string][]Point{}}
	if len(p.service.Fields) == 0 {
		return nil, nil, false
	}
	for i := range p.service.Fields {
		f := &p.service.Fields[i]
		name := munin.RRDName(tocsin.Series{Group: p.group, Node: p.node, Service: p.service.Name, Field: f.Name}, f.Type())
		if !slices.ContainsFunc(args, func(a string) bool { return strings.HasSuffix(a, name+":42:AVERAGE") }) {
			return nil, nil, false // the datafile of made-up files lets Munin look for others
		}
		r, err := munin.OpenRRD(filepath.Join(m.db, name))
		if err != nil {
			return nil, nil, false
		}
		if d.To.IsZero() {
			d.To = time.Unix(r.Last-r.Last%int64(step/time.Second), 0)
			d.From = d.To.Add(-length)
		}
		if d.Points[f.Name], ok = archived(r, d.From.Unix(), d.To.Unix(), int64(step/time.Second)); !ok {
			return nil, nil, false // Munin would read another archive than the one of this window
		}
	}
	for i, a := range args {
		args[i] = strings.ReplaceAll(a, ",POP,UNKN", "") // what munin-graph adds where a file is old by the clock
		switch a {
		case "--start":
			args[i+1] = fmt.Sprint(d.From.Unix())
		case "--end":
			args[i+1] = fmt.Sprint(d.To.Unix())
		}
	}
	out := command(t, m.rrdtool, append([]string{"graphv", "-", "--end", fmt.Sprint(d.To.Unix())}, args...)...)
	if image := bytes.Index(out, []byte("image = BLOB")); image >= 0 {
		out = out[:image]
	}
	for _, match := range legendLine.FindAllSubmatch(out, -1) {
		word := strings.TrimSpace(string(match[1]))
		if n := strings.TrimSuffix(word, "/"); mirroredNumber.MatchString(n) {
			word = n
		}
		switch word = strings.TrimSpace(word); word {
		case "nan", "-nan":
			word = unknown
		case "", "Cur:", "Min:", "Avg:", "Max:", "Cur (-/+)", "Min (-/+)", "Avg (-/+)", "Max (-/+)":
			continue
		}
		if !strings.HasPrefix(word, "Last update:") && !strings.HasPrefix(word, "Data last") {
			want = append(want, strings.ReplaceAll(strings.Join(strings.Fields(word), " "), "Ã©", "é")) // Munin spoils the labels of one plugin, in Latin-1
		}
	}
	d.Service = Inherit(p.service, p.parents...)
	g, err := New(d, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range g.Rows() {
		row := []string{strings.TrimSpace(r.Label)}
		for _, text := range []string{r.Cur, r.Min, r.Avg, r.Max} {
			row = append(row, strings.Split(text, "/")...)
		}
		if attr(p.service, "graph_order") == "" && len(got)+len(row) <= len(want) {
			if i := slices.Index(want[len(got):], row[0]); i > 0 && i+len(row) <= len(want)-len(got) { // in Perl's random order
				moved := slices.Clone(want[len(got)+i : len(got)+i+len(row)])
				want = slices.Insert(slices.Delete(want, len(got)+i, len(got)+i+len(row)), len(got), moved...)
			}
		}
		got = append(got, row...)
	}
	return got, want, true
}

// archived are the points of a file in steps, from the archives of that very step.
func archived(r *munin.RRD, from, to, step int64) (points []Point, ok bool) {
	kinds := map[string]map[int64]float64{}
	for i := range r.Archives {
		if a := &r.Archives[i]; a.Step == step {
			rows := map[int64]float64{}
			for at, v := range a.Rows(0) {
				rows[at] = v
			}
			kinds[a.CF] = rows
		}
	}
	if len(kinds) < 3 {
		return nil, false
	}
	for at := from + step; at <= to; at += step {
		avg, known := kinds["AVERAGE"][at]
		if !known {
			avg = math.NaN()
		}
		p := Point{T: at, Avg: avg, Min: kinds["MIN"][at], Max: kinds["MAX"][at]}
		if !known || math.IsNaN(p.Min) {
			p.Min = math.NaN()
		}
		if !known || math.IsNaN(p.Max) {
			p.Max = math.NaN()
		}
		points = append(points, p)
	}
	return points, true
}
