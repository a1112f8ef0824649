package munin

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tocsin"
)

func TestParseDatafile(t *testing.T) {
	text := "version 2.0.73\n" +
		"Gandi;web1.example:load.graph_title Load average\n" +
		"Gandi;web1.example:load.load.label load\\#1\n" +
		"Gandi;web1.example:load.load.update_rate 300\n" +
		"Gandi;web1.example:load.load.graph_data_size normal\n" +
		"Gandi;web1.example:disk.graph_title Disks\n" +
		"Gandi;web1.example:disk.vda_wr.type DERIVE\n" +
		"Gandi;web1.example:disk.vda.graph_title vda\n" +
		"Gandi;web1.example:disk.vda.wr.label caf\xe9\n" +
		"Gandi;web1.example:disk.vda.wr.info ends in \\\\\n" +
		"asso;sites;deep1:load.load.label load\n" +
		"asso;sites;deep1:address 192.0.2.1\n" +
		"Gandi;node_order web1.example\n" +
		"dbdir /var/lib/munin\n" +
		"Gandi;web1!:load.load.label x\n" +
		"Gandi;web1.example:load..label x\n" +
		"Gandi;web1.example:" + strings.Repeat("a.", 20) + "label x\n" +
		"\n" +
		"noeol:x.y.label z"
	d := ParseDatafile("datafile", []byte(text))
	got := "version " + d.Version + "\n"
	for _, n := range d.Nodes {
		for _, s := range n.Services {
			got += fmt.Sprintf("%s/%s %s %v %v\n", n.Group, n.Name, s.Name, s.Attrs, s.Fields)
		}
	}
	want := `version 2.0.73
Gandi/web1.example load [{graph_title Load average}] [{load [{label load#1} {update_rate 300} {graph_data_size normal}]}]
Gandi/web1.example disk [{graph_title Disks}] [{vda_wr [{type DERIVE}]}]
Gandi/web1.example disk.vda [{graph_title vda}] [{wr [{label café} {info ends in \}]}]
asso;sites/deep1 load [] [{load [{label load}]}]
/noeol x [] [{y [{label z}]}]
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	wrong := []string{
		`datafile:15: the name "web1!" of a host may have letters, digits, - and . only`,
		`datafile:16: a name is missing in "Gandi;web1.example:load..label"`,
		`datafile:17: "Gandi;web1.example:a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.label" is nested too deeply`,
	}
	if got := said(d.Problems); !slices.Equal(got, wrong) {
		t.Errorf("problems %q, want %q", got, wrong)
	}
}

// said is what problems say.
func said(p []Problem) (lines []string) {
	for _, p := range p {
		lines = append(lines, p.String())
	}
	return lines
}

// TestRecordedTree looks into the tree of a real master: every file is told apart, by the datafile and nothing else, and
// every field with a file has it.
func TestRecordedTree(t *testing.T) {
	for _, tt := range []struct {
		archive, dir   string
		files, guessed int
	}{
		{"rrd-sample", "rrd-sample/db", 582, 0},
		{"synth", "db", 20, 0},
	} {
		dir := filepath.Join(unpacked(t, tt.archive), tt.dir)
		tree, err := ReadTree(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range tree.Problems {
			t.Errorf("%s: %v", tt.archive, p)
		}
		guessed, seen := 0, map[tocsin.Series]bool{}
		for _, f := range tree.Files {
			if f.Guessed {
				guessed++
			} else if f.Service == nil || f.Service.Field(f.Field) == nil {
				t.Errorf("%s: no description of %v", f.Path, f.Series)
			}
			if RRDName(f.Series, f.Type) != strings.TrimPrefix(f.Path, dir+"/") {
				t.Errorf("%s: the name of %v would be %s", f.Path, f.Series, RRDName(f.Series, f.Type))
			}
			if seen[f.Series] && !f.Former {
				t.Errorf("%v is there twice", f.Series)
			}
			seen[f.Series] = true
			r, err := OpenRRD(f.Path)
			if err != nil {
				t.Error(err)
				continue
			}
			if kinds := [...]string{"GAUGE", "COUNTER", "DERIVE", "ABSOLUTE"}; r.Sources[0].Kind != kinds[f.Type] {
				t.Errorf("%s: type %s, want %s", f.Path, r.Sources[0].Kind, kinds[f.Type])
			}
		}
		if len(tree.Files) != tt.files || guessed != tt.guessed {
			t.Errorf("%s: %d files, %d of them guessed; want %d, %d", tt.archive, len(tree.Files), guessed, tt.files, tt.guessed)
		}

		// The same without the datafile: how often is the guess right?
		if err := os.Remove(filepath.Join(dir, "datafile")); err != nil {
			t.Fatal(err)
		}
		blind, err := ReadTree(dir)
		if err != nil {
			t.Fatal(err)
		}
		right := 0
		for i, f := range blind.Files {
			if f.Guessed && f.Series == tree.Files[i].Series && f.Type == tree.Files[i].Type {
				right++
			}
		}
		t.Logf("%s: %d files; without the datafile %d are guessed right", tt.archive, len(tree.Files), right)
		if right != len(tree.Files) {
			t.Errorf("%s: %d of %d are guessed right without the datafile", tt.archive, right, len(tree.Files))
		}
	}
}

func TestGuess(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("datafile", "version 2.0.73\nG;web-1:load.load.label x\nG;web-1:load.load.type GAUGE\nG;web:d.vda.x.label y\n")
	files := map[string]string{ // path: what it holds
		"G/web-1-load-load-g.rrd":               "G web-1 load load 0",
		"G/web-1-load-load-d.rrd":               "G web-1 load load 2 former",
		"G/web-1-cpu-user-d.rrd":                "G web-1 cpu user 2 guessed",
		"G/web-d-vda-x-g.rrd":                   "G web d.vda x 0",
		"G/web-d-vdb-x-c.rrd":                   "G web d.vdb x 1 guessed",
		"G/gone.example.org-d-vdb-x-a.rrd":      "G gone.example.org d.vdb x 3 guessed",
		"H/sub/srv-2-load-load-g.rrd":           "H;sub srv-2 load load 0 guessed",
		"H/sub/srv-2-iops-vda-rd-g.rrd":         "H;sub srv-2 iops.vda rd 0 guessed",
		"top-load-load-g.rrd":                   " top load load 0 guessed",
		"G/web-1-load-load-x.rrd":               "",
		"G/load-g.rrd":                          "",
		"G/.rrd":                                "",
		"G/" + strings.Repeat("-", 50) + ".rrd": "",
	}
	var want, got []string
	for name, what := range files {
		write(name, "")
		if what != "" {
			want = append(want, name+": "+what)
		}
	}
	tree, err := ReadTree(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range tree.Files {
		line := fmt.Sprintf("%s: %s %s %s %s %d", strings.TrimPrefix(f.Path, dir+"/"), f.Group, f.Node, f.Series.Service, f.Field, f.Type)
		if f.Former {
			line += " former"
		}
		if f.Guessed {
			line += " guessed"
		}
		got = append(got, line)
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if len(tree.Problems) != 4 {
		t.Errorf("problems %q, want 4", said(tree.Problems))
	}
	if _, err := ReadTree(filepath.Join(dir, "none")); err == nil {
		t.Error("a tree that is not there is read")
	}
}

// BenchmarkReadTree reads a tree of ten nodes and 1,590 files to the last row.
func BenchmarkReadTree(b *testing.B) {
	from := filepath.Join(unpacked(b, "synth"), "db", "Gandi", "web1.asso.example-load-load-g.rrd")
	data, err := os.ReadFile(from)
	if err != nil {
		b.Fatal(err)
	}
	dir := b.TempDir()
	var text strings.Builder
	text.WriteString("version 2.0.73\n")
	for n := range 10 {
		if err := os.MkdirAll(filepath.Join(dir, "G"), 0o755); err != nil {
			b.Fatal(err)
		}
		for i := range 159 {
			name := fmt.Sprintf("G/n%d.example-s%d-f-g.rrd", n, i)
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
				b.Fatal(err)
			}
			fmt.Fprintf(&text, "G;n%d.example:s%d.graph_title t\nG;n%d.example:s%d.f.label l\n", n, i, n, i)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "datafile"), []byte(text.String()), 0o644); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		tree, err := ReadTree(dir)
		if err != nil || len(tree.Files) != 1590 {
			b.Fatal(len(tree.Files), err)
		}
		for _, f := range tree.Files {
			if f.Guessed {
				b.Fatal(f.Path)
			}
			r, err := OpenRRD(f.Path)
			if err != nil {
				b.Fatal(err)
			}
			for _, a := range r.Archives {
				for range a.Rows(0) {
				}
			}
		}
	}
}

func FuzzParseDatafile(f *testing.F) {
	f.Add("version 2\nG;h:s.f.label x\nG;h:s.t.f.label x\\\\\n")
	f.Add("a;b;c:d.e.f.g.graph_title \xff\n;:.. \n")
	f.Fuzz(func(t *testing.T, text string) {
		d := ParseDatafile("f", []byte(text))
		for name, file := range d.files() {
			if RRDName(file.Series, file.Type) != name {
				t.Errorf("%q is named %q", file.Series, name)
			}
		}
	})
}
