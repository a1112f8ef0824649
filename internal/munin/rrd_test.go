package munin

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/csv"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// unpacked is a folder with what the recorded archive holds, "rrd-sample" or "synth".
func unpacked(t testing.TB, name string) string {
	t.Helper()
	data := os.Getenv("TOCSIN_TESTDATA")
	if data == "" {
		t.Skip("TOCSIN_TESTDATA is not set: recorded data is not part of the repository")
	}
	f, err := os.Open(filepath.Join(data, "munin", name+".tar.gz"))
	if err != nil {
		t.Skipf("no recorded data: %v", err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			return dir
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, h.Name)
		if h.Typeflag == tar.TypeDir {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// csvOf are the records of a CSV file without its head, packed or not.
func csvOf(t *testing.T, path string) [][]string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var r io.Reader = f
	if strings.HasSuffix(path, ".gz") {
		if r, err = gzip.NewReader(f); err != nil {
			t.Fatal(err)
		}
	}
	all, err := csv.NewReader(r).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	return all[1:]
}

// printed is a value as rrdtool prints it, "" for an unknown one.
func printed(v float64) string {
	if math.IsNaN(v) {
		return ""
	}
	return strconv.FormatFloat(v, 'e', 10, 64)
}

// TestRRDRows compares every row of every archive with what rrdtool said when the files were made.
func TestRRDRows(t *testing.T) {
	dir := unpacked(t, "synth")
	files, err := filepath.Glob(filepath.Join(dir, "truth", "*.csv.gz"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no truth: %v", err)
	}
	good, bad := 0, 0
	for _, file := range files {
		// Gandi__web1-load-load-g.MAX.7200s.csv.gz
		parts := strings.Split(strings.TrimSuffix(filepath.Base(file), "s.csv.gz"), ".")
		n := len(parts)
		name, cf, seconds := strings.Join(parts[:n-2], "."), parts[n-2], parts[n-1]
		r, err := OpenRRD(filepath.Join(dir, "db", strings.ReplaceAll(name, "__", "/")+".rrd"))
		if err != nil {
			t.Errorf("OpenRRD: %v", err)
			continue
		}
		want := csvOf(t, file)
		found := false
		for _, a := range r.Archives {
			if a.CF != cf || strconv.FormatInt(a.Step, 10) != seconds {
				continue
			}
			found = true
			if a.Len() != len(want) {
				t.Errorf("%s: %d rows, want %d", file, a.Len(), len(want))
				continue
			}
			i := 0
			for at, v := range a.Rows(0) {
				if strconv.FormatInt(at, 10) == want[i][0] && printed(v) == want[i][1] {
					good++
				} else if bad++; bad < 10 {
					t.Errorf("%s row %d: %d %s, want %v", file, i, at, printed(v), want[i])
				}
				i++
			}
		}
		if !found {
			t.Errorf("%s: no archive %s of %s s", name, cf, seconds)
		}
	}
	t.Logf("%d rows as rrdtool has them, %d others", good, bad)
}

// TestRRDSampleRows looks into the tree that a real master wrote.
func TestRRDSampleRows(t *testing.T) {
	dir := unpacked(t, "rrd-sample")
	rows := map[string]map[string]string{} // by file and time
	n := 0
	for _, r := range csvOf(t, filepath.Join(dir, "rrd-sample", "truth.csv")) {
		if rows[r[0]] == nil {
			rows[r[0]] = map[string]string{}
		}
		rows[r[0]][r[1]+" "+r[2]] = r[3]
		n++
	}
	for file, want := range rows {
		r, err := OpenRRD(filepath.Join(dir, "rrd-sample", "db", file+".rrd"))
		if err != nil {
			t.Error(err)
			continue
		}
		for _, a := range r.Archives {
			if a.PerRow != 1 {
				continue
			}
			for at, v := range a.Rows(0) {
				key := fmt.Sprint(a.CF, " ", at)
				if w, ok := want[key]; ok && w != printed(v) {
					t.Errorf("%s %s: %s, want %s", file, key, printed(v), w)
				}
				delete(want, key)
			}
		}
		if len(want) > 0 {
			t.Errorf("%s: %d rows were not there", file, len(want))
		}
	}
	t.Logf("%d rows of %d files", n, len(rows))
}

// TestRRDTool compares every row of every file of both trees with what rrdtool fetch says here and now.
func TestRRDTool(t *testing.T) {
	if _, err := exec.LookPath("rrdtool"); err != nil {
		t.Skip("rrdtool is not installed (scripts/setup.sh)")
	}
	var files []string
	for _, name := range []string{"rrd-sample", "synth"} {
		err := filepath.WalkDir(unpacked(t, name), func(path string, _ os.DirEntry, err error) error {
			if strings.HasSuffix(path, ".rrd") {
				files = append(files, path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	fetch := newFetcher(t)
	good, bad := 0, 0
	for _, file := range files {
		r, err := OpenRRD(file)
		if err != nil {
			t.Error(err)
			continue
		}
		for _, a := range r.Archives {
			oldest := a.Newest - int64(a.Len())*a.Step
			want := fetch.rows(t, file, a.CF, a.Step, oldest, a.Newest)
			if len(want) < a.Len() {
				t.Errorf("%s %s %d: rrdtool has %d rows, we have %d", file, a.CF, a.Step, len(want), a.Len())
				continue
			}
			for at, v := range a.Rows(0) {
				if want[0].at == at && want[0].v == printed(v) {
					good++
				} else if bad++; bad < 10 {
					t.Errorf("%s %s %d at %d: %q, rrdtool %v", file, a.CF, a.Step, at, printed(v), want[0])
				}
				want = want[1:]
			}
		}
	}
	t.Logf("%d files: %d rows as rrdtool fetch prints them, %d others", len(files), good, bad)
}

// fetcher is one rrdtool that answers over a pipe.
type fetcher struct {
	in  io.WriteCloser
	out *bufio.Reader
}

func newFetcher(t *testing.T) *fetcher {
	cmd := exec.Command("rrdtool", "-")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); _ = cmd.Wait() })
	return &fetcher{in, bufio.NewReader(out)}
}

// fetched is one row; v is "" for an unknown value.
type fetched struct {
	at int64
	v  string
}

func (f *fetcher) rows(t *testing.T, file, cf string, step, from, to int64) (rows []fetched) {
	t.Helper()
	fmt.Fprintf(f.in, "fetch %s %s -r %d -s %d -e %d\n", file, cf, step, from, to)
	for {
		line, err := f.out.ReadSlice('\n')
		if err != nil || bytes.HasPrefix(line, []byte("ERROR")) {
			t.Fatalf("rrdtool: %q %v", line, err)
		}
		if bytes.HasPrefix(line, []byte("OK")) {
			return rows
		}
		when, v, ok := bytes.Cut(bytes.TrimSpace(line), []byte(": "))
		if at, err := strconv.ParseInt(string(when), 10, 64); ok && err == nil {
			row := fetched{at: at}
			if !bytes.HasSuffix(v, []byte("nan")) {
				row.v = string(v)
			}
			rows = append(rows, row)
		}
	}
}

func TestRRDXML(t *testing.T) {
	dir := filepath.Join(unpacked(t, "rrd-sample"), "rrd-sample")
	dumps, _ := filepath.Glob(filepath.Join(dir, "dump", "*.xml.gz"))
	if len(dumps) != 10 {
		t.Fatalf("%d dumps, want 10", len(dumps))
	}
	for _, dump := range dumps {
		x, err := OpenRRD(dump)
		if err != nil {
			t.Error(err)
			continue
		}
		name := strings.TrimSuffix(filepath.Base(dump), ".xml.gz")
		file, err := OpenRRD(filepath.Join(dir, "db", "Gandi", name+".rrd"))
		if err != nil {
			t.Error(err)
			continue
		}
		if got, want := described(x), described(file); got != want {
			t.Errorf("%s: the dump gives\n%s\nwant\n%s", name, got, want)
		}
	}
}

// described is everything that an RRD holds, values as rrdtool prints them.
func described(r *RRD) string {
	var b strings.Builder
	fmt.Fprintln(&b, r.Version, r.Step, r.Last)
	for _, s := range r.Sources {
		fmt.Fprintln(&b, s.Name, s.Kind, s.Heartbeat, printed(s.Min), printed(s.Max), s.Reading)
	}
	for _, a := range r.Archives {
		fmt.Fprintln(&b, a.CF, a.PerRow, a.Step, a.Newest, a.Len())
		for i := range r.Sources {
			for at, v := range a.Rows(i) {
				fmt.Fprint(&b, at, "=", printed(v), " ")
			}
		}
	}
	return b.String()
}

// madeUp is a small file as rrdtool would write it: one archive of rows, width sources, at row newest.
func madeUp(version string, width int, newest uint64, values ...float64) []byte {
	var b bytes.Buffer
	put := func(v any) { _ = binary.Write(&b, binary.LittleEndian, v) }
	text := func(s string, n int) { b.WriteString(s); b.Write(make([]byte, n-len(s))) }
	text("RRD\x00"+version, 16)
	put(rrdCookie)
	put([]uint64{uint64(width), 1, 300})
	text("", rrdStatHead-b.Len())
	for i := range width {
		text(fmt.Sprint("ds", i), 20)
		text("GAUGE", 20)
		put(uint64(600))
		put([]float64{0, math.NaN()})
		text("", 56)
	}
	text("AVERAGE", 24)
	put([]uint64{uint64(len(values) / width), 2})
	put(0.5)
	text("", 72)
	put(uint64(1_000_000_301))
	if version >= "0003" {
		put(uint64(0))
	}
	for range width {
		text("12.5", rrdPDPPrep)
	}
	text("", width*rrdCDPPrep)
	put(newest)
	put(values)
	return b.Bytes()
}

func TestRRDMadeUp(t *testing.T) {
	for _, version := range []string{"0001", "0002", "0003", "0004", "0005"} {
		r, err := ReadRRD(bytes.NewReader(madeUp(version, 2, 1, 5, 50, 6, 60, math.NaN(), 40)))
		if err != nil {
			t.Errorf("version %s: %v", version, err)
			continue
		}
		want := version + " 300 1000000301\n" +
			"ds0 GAUGE 600 0.0000000000e+00  12.5\nds1 GAUGE 600 0.0000000000e+00  12.5\n" +
			"AVERAGE 2 600 1000000200 3\n" +
			"999999000= 999999600=5.0000000000e+00 1000000200=6.0000000000e+00 " +
			"999999000=4.0000000000e+01 999999600=5.0000000000e+01 1000000200=6.0000000000e+01 "
		if got := described(r); got != want {
			t.Errorf("version %s:\n%s\nwant\n%s", version, got, want)
		}
	}
}

func TestRRDRefused(t *testing.T) {
	whole := madeUp("0003", 1, 2, 1, 2, 3, 4)
	set := func(at int, v uint64) []byte {
		b := bytes.Clone(whole)
		binary.LittleEndian.PutUint64(b[at:], v)
		return b
	}
	swapped := bytes.Clone(whole)
	binary.BigEndian.PutUint64(swapped[16:], math.Float64bits(rrdCookie))
	i386 := bytes.Clone(whole)
	copy(i386[12:], whole[16:24])
	binary.LittleEndian.PutUint32(i386[20:], 1)
	const ptr = rrdStatHead + rrdDSDef + rrdRRADef + 16 + rrdPDPPrep + rrdCDPPrep
	tests := []struct {
		name string
		data []byte
		want string // part of the reason
	}{
		{"nothing", nil, "neither an RRD file nor"},
		{"a picture", []byte("\x89PNG\r\n"), "neither an RRD file nor"},
		{"a head cut short", whole[:100], "it has 100 bytes, not even a head"},
		{"definitions cut short", whole[:200], "its head alone needs"},
		{"rows cut short", whole[:len(whole)-1], "needs"},
		{"a version to come", madeUp("0006", 1, 0, 1), `"0006"`},
		{"no version", madeUp("x", 1, 0, 1), `version "x"`},
		{"big endian", swapped, "other byte order: make XML"},
		{"i386", i386, "32-bit machine: make XML"},
		{"32-bit ARM", set(24, 12<<32|1), "32-bit machine: make XML"},
		{"no cookie", set(16, 0), "number is not there"},
		{"no source", set(24, 0), "claims 0 data sources"},
		{"many sources", set(24, 1<<20), "data sources"},
		{"no archive", set(32, 0), "claims 0 archives"},
		{"many archives", set(32, 1<<20), "archives"},
		{"no step", set(40, 0), "a step of 0"},
		{"rows beyond the file", set(rrdStatHead+rrdDSDef+24, 5), "needs"},
		{"rows beyond everything", set(rrdStatHead+rrdDSDef+24, 1<<61+1), "claims"},
		{"long rows", set(rrdStatHead+rrdDSDef+32, math.MaxUint64/300), "steps a row"},
		{"a pointer behind the end", set(ptr, 4), "claims to be at row 4"},
		{"a last update in no year", set(rrdStatHead+rrdDSDef+rrdRRADef, 1<<63), "last update"},
		{"no XML", []byte("<html><body/></html>"), "not with <rrd>"},
		{"XML cut short", []byte("<rrd><step>300</step><ds><name>a"), "ends within <name>"},
		{"XML of nothing", []byte("<rrd></rrd>"), "lacks the step"},
		{"XML with a short row", []byte("<rrd><step>1</step><ds></ds><rra><pdp_per_row>1</pdp_per_row><database><row></row></database></rra></rrd>"), "a row has 0 values"},
		{"XML with a word for a number", []byte("<rrd><step>x</step></rrd>"), "no number of seconds"},
		{"XML nested", []byte("<rrd>" + strings.Repeat("<a>", 100)), "nested too deeply"},
		{"XML without rows", []byte("<rrd><step>1</step><ds></ds><rra><pdp_per_row>1</pdp_per_row></rra></rrd>"), "lacks its steps a row or its rows"},
		{"gzip of nothing", []byte{0x1f, 0x8b}, "EOF"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ReadRRD(bytes.NewReader(tt.data))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q in it", err, tt.want)
			}
		})
	}
}

func TestOpenRRDErrors(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "torn.rrd"), madeUp("0003", 1, 0, 1, 2)[:500], 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"none.rrd": "none.rrd: no such file",
		".":        "not a regular file",
		"torn.rrd": "torn.rrd: it is damaged or cut short",
	} {
		if _, err := OpenRRD(filepath.Join(dir, name)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("OpenRRD(%s): %v, want %q in it", name, err, want)
		}
	}
}

// TestRRDWhileWritten lets rrdtool update a file while it is read: what is read must be whole at all times.
func TestRRDWhileWritten(t *testing.T) {
	if _, err := exec.LookPath("rrdtool"); err != nil {
		t.Skip("rrdtool is not installed (scripts/setup.sh)")
	}
	path := filepath.Join(t.TempDir(), "x.rrd")
	out, err := exec.Command("rrdtool", "create", path, "--start", "1000000000", "-s", "1", "DS:42:GAUGE:10:U:U", "RRA:AVERAGE:0.5:1:100").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	f := newFetcher(t)
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(done)
		for i := 1; i <= 3000; i++ { // the value is the time of its row
			fmt.Fprintf(f.in, "update %s %d:%d\n", path, 1_000_000_000+i, i)
			if _, err := f.out.ReadString('\n'); err != nil {
				return
			}
		}
	})
	reads := 0
	for more := true; more; reads++ {
		select {
		case <-done:
			more = false
		default:
		}
		r, err := OpenRRD(path)
		if err != nil {
			if strings.Contains(err.Error(), "without a pause") {
				continue
			}
			t.Fatal(err)
		}
		for at, v := range r.Archives[0].Rows(0) {
			if !math.IsNaN(v) && v != float64(at-1_000_000_000) {
				t.Fatalf("at %d: %v", at, v)
			}
		}
	}
	wg.Wait()
	t.Logf("%d times read beside 3000 updates", reads)
}

func BenchmarkOpenRRD(b *testing.B) {
	dir := unpacked(b, "synth")
	path := filepath.Join(dir, "db", "Gandi", "web1.asso.example-load-load-g.rrd")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := OpenRRD(path); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzReadRRD(f *testing.F) {
	f.Add(madeUp("0003", 1, 2, 1, 2, 3, 4))
	f.Add(madeUp("0001", 2, 0, 1, 2))
	f.Add([]byte("<rrd><version>0003</version><step>300</step><lastupdate>1</lastupdate><ds><name> 42 </name><min>NaN</min></ds>" +
		"<rra><cf>MAX</cf><pdp_per_row>1</pdp_per_row><database><row><v>1e0</v></row></database></rra></rrd>"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if bytes.HasPrefix(data, []byte{0x1f, 0x8b}) {
			return // gzip is not ours
		}
		began := time.Now()
		r, err := ReadRRD(bytes.NewReader(data))
		if err == nil {
			for _, a := range r.Archives {
				for i := range r.Sources {
					n := 0
					for at, v := range a.Rows(i) {
						n++
						_, _ = at, v
					}
					if n != a.Len() || n == 0 {
						t.Errorf("%d rows of %d", n, a.Len())
					}
				}
			}
		}
		if took := time.Since(began); took > 30*time.Second {
			t.Errorf("took %v for %d bytes", took, len(data))
		}
	})
}
