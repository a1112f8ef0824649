package source

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// epoch is the second at the front of the test's lines: "1000 text".
var epoch = time.Date(2026, 11, 22, 17, 0, 0, 0, time.UTC)

func secondsOf(line []byte) (time.Time, bool) {
	text, _, _ := bytes.Cut(line, []byte{'_'})
	n, err := strconv.Atoi(string(text))
	return epoch.Add(time.Duration(n) * time.Second), err == nil
}

func at(second int) time.Time { return epoch.Add(time.Duration(second) * time.Second) }

// TestResume: what is read again and what is news after a stop, in which step is done. Before it, "1_a 2_b 3_c" was
// read. The letters of seen stand for the lines of want: s read again, n news.
func TestResume(t *testing.T) {
	tests := []struct {
		name  string
		since int // 0: none
		step  func(t *testing.T, log string)
		want  string
		seen  string
	}{
		{"nothing new", 0, func(t *testing.T, log string) {}, "", ""},
		{"news only", 0, func(t *testing.T, log string) { write(t, log, "4_d\n") }, "4_d", "n"},
		{"since the second line", 2, func(t *testing.T, log string) { write(t, log, "4_d\n") }, "2_b 3_c 4_d", "ssn"},
		{"since behind the mark", 9, func(t *testing.T, log string) { write(t, log, "4_d\n") }, "4_d", "n"},
		{"renamed", 0, func(t *testing.T, log string) {
			write(t, log, "4_d\n")
			must(t, os.Rename(log, log+".1"))
			write(t, log, "5_e\n")
		}, "4_d 5_e", "nn"},
		{"renamed, since", 3, func(t *testing.T, log string) {
			write(t, log, "4_d\n")
			must(t, os.Rename(log, log+".1"))
			write(t, log, "5_e\n")
		}, "3_c 4_d 5_e", "snn"},
		{"renamed to another name, no new file", 0, func(t *testing.T, log string) {
			write(t, log, "4_d\n")
			must(t, os.Rename(log, filepath.Join(filepath.Dir(log), "auth-kept")))
		}, "4_d", "n"},
		{"copied and truncated", 0, func(t *testing.T, log string) {
			write(t, log, "4_d\n")
			b, err := os.ReadFile(log)
			must(t, err)
			must(t, os.WriteFile(log+".1", b, 0o600))
			must(t, os.WriteFile(log, []byte("5_e\n"), 0o600))
		}, "4_d 5_e", "nn"},
		{"truncated to the same length", 0, func(t *testing.T, log string) {
			must(t, os.WriteFile(log, []byte("4_d\n5_e\n6_f\n"), 0o600))
		}, "4_d 5_e 6_f", "nnn"},
		{"written anew with the same lines", 0, func(t *testing.T, log string) {
			b, err := os.ReadFile(log)
			must(t, err)
			must(t, os.WriteFile(log+"~", append(b, "4_d\n"...), 0o600))
			must(t, os.Rename(log+"~", log))
		}, "4_d", "n"},
		{"deleted and made anew", 0, func(t *testing.T, log string) {
			must(t, os.Remove(log))
			write(t, log, "4_d\n")
		}, "4_d", "n"},
		{"stopped within a line", 0, func(t *testing.T, log string) { write(t, log, "4_") }, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			log := filepath.Join(t.TempDir(), "auth.log")
			write(t, log, "1_a\n2_b\n3_c\n")
			var first got
			stop := start(t, newFile(t, FileOptions{Pattern: log, FromStart: true}), &first)
			first.want(t, "1_a 2_b 3_c")
			stop()
			marks := first.lastMarks()
			for i := range marks {
				marks[i].At = at(3) // the log's clock is not the wall's in this test
			}

			tt.step(t, log)
			o := FileOptions{Pattern: log, Marks: marks, DateOf: secondsOf}
			if tt.since > 0 {
				o.Since = at(tt.since)
			}
			var again got
			start(t, newFile(t, o), &again)
			write(t, log, "\n7_last\n")
			eventually(t, "the last line", func() bool { return strings.HasSuffix(again.lines(), "7_last") },
				func() any { return again.lines() })
			lines := strings.TrimSpace(strings.TrimSuffix(again.lines(), "7_last"))
			want := tt.want
			if tt.name == "stopped within a line" {
				want = "4_"
			}
			if lines != want || !strings.HasPrefix(again.seen(), tt.seen) {
				t.Errorf("lines %q (%s), want %q (%s)", lines, again.seen(), want, tt.seen)
			}
		})
	}
}

// TestPositionsLast: a line has the same position whenever and under whatever name it is read.
func TestPositionsLast(t *testing.T) {
	log := filepath.Join(t.TempDir(), "auth.log")
	write(t, log, "1_a\n2_b\n")
	var first got
	stop := start(t, newFile(t, FileOptions{Pattern: log, FromStart: true}), &first)
	first.want(t, "1_a 2_b")
	stop()
	must(t, os.Rename(log, log+".1"))
	write(t, log, "3_c\n")

	var again got
	stop = start(t, newFile(t, FileOptions{Pattern: log, Marks: first.lastMarks(), Since: at(1), DateOf: secondsOf}), &again)
	again.want(t, "1_a 2_b 3_c")
	stop()
	for i := range 2 {
		if again.recs[i].Pos != first.recs[i].Pos {
			t.Errorf("line %d: position %v, then %v", i, first.recs[i].Pos, again.recs[i].Pos)
		}
	}
	if again.recs[2].Pos.File == again.recs[0].Pos.File {
		t.Errorf("the new file has the identity of the old one")
	}
}

// TestFirstStart: without marks nothing that is there already is news.
func TestFirstStart(t *testing.T) {
	tests := []struct {
		name  string
		since int
		want  string
		seen  string
	}{
		{"since a time", 2, "2_b 3_c 4_d", "ssn"},
		{"without", 0, "4_d", "n"},
		{"since before all", 1, "1_a 2_b 3_c 4_d", "sssn"},
		{"since after all", 4, "4_d", "n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			log := filepath.Join(t.TempDir(), "auth.log")
			write(t, log, "1_a\n2_b\n3_c\n4_")
			o := FileOptions{Pattern: log, DateOf: secondsOf}
			if tt.since > 0 {
				o.Since = at(tt.since)
			}
			f := newFile(t, o)
			var g got
			start(t, f, &g)
			eventually(t, "open", func() bool { return f.Stats().Files == 1 }, func() any { return f.Stats() })
			write(t, log, "d\n")
			g.want(t, tt.want)
			if g.seen() != tt.seen {
				t.Errorf("seen %s, want %s", g.seen(), tt.seen)
			}
		})
	}
}

// TestKilledAtAnyLine: whatever mark was saved last, what is behind it is news once, what is before is not.
func TestKilledAtAnyLine(t *testing.T) {
	log := filepath.Join(t.TempDir(), "auth.log")
	var all []string
	for i := range 40 {
		all = append(all, fmt.Sprintf("%d_%s", i+1, strings.Repeat("x", i)))
	}
	write(t, log, strings.Join(all, "\n")+"\n")
	fd, err := openLog(log)
	must(t, err)
	g, err := glanceAt(fd)
	must(t, err)
	off := int64(0)
	for i := range all {
		var buf [maxAnchor]byte
		anchor, err := anchorAt(fd, off, &buf)
		must(t, err)
		m := Mark{Path: log, Fingerprint: fingerprint(g.first, anchor), At: time.Now()}
		m.Pos.File, m.Pos.Offset = identity(g.ino, g.first), off
		var now got
		stop := start(t, newFile(t, FileOptions{Pattern: log, Marks: []Mark{m}}), &now)
		now.want(t, strings.Join(all[i:], " "))
		stop()
		off += int64(len(all[i])) + 1
	}
}

func TestFirstSince(t *testing.T) {
	long := strings.Repeat("x", 200)
	var big strings.Builder
	for i := range 5000 { // 1 MB: bisected, not only scanned
		fmt.Fprintf(&big, "%d_%s\n", i, long)
	}
	tests := []struct {
		name  string
		text  string
		since int
		want  string // what the line found begins with; "": none
	}{
		{"empty", "", 1, ""},
		{"first", "1_a\n2_b\n", 1, "1_a"},
		{"before all", "1_a\n2_b\n", 0, "1_a"},
		{"middle", "1_a\n2_b\n3_c\n", 2, "2_b"},
		{"none", "1_a\n2_b\n", 3, ""},
		{"equal dates: the first of them", "1_a\n2_b\n2_c\n", 2, "2_b"},
		{"undated lines between", "1_a\nx\ny\n2_b\nz\n3_c\n", 2, "2_b"},
		{"undated only", "x\ny\n", 1, ""},
		{"unfinished last line does not count", "1_a\n2_b", 2, ""},
		{"big, first", big.String(), 0, "0_"},
		{"big, middle", big.String(), 2500, "2500_"},
		{"big, last", big.String(), 4999, "4999_"},
		{"big, none", big.String(), 5000, ""},
		{"big, undated", strings.Repeat("no date\n", 1<<17), 1, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "log")
			write(t, path, tt.text)
			fd, err := openLog(path)
			must(t, err)
			off, err := firstSince(fd, int64(len(tt.text)), at(tt.since), secondsOf)
			if err != nil || !strings.HasPrefix(tt.text[off:], tt.want) || tt.want == "" && off != int64(len(tt.text)) {
				t.Errorf("firstSince(%d) = %d (%.20q), %v; want %q", tt.since, off, tt.text[off:], err, tt.want)
			}
		})
	}
	// Every place in a big file, lines of every length.
	t.Run("everywhere", func(t *testing.T) {
		var b strings.Builder
		starts := []int{}
		for i := range 3000 {
			starts = append(starts, b.Len())
			fmt.Fprintf(&b, "%d_%s\n", i, strings.Repeat("y", i%400))
		}
		path := filepath.Join(t.TempDir(), "log")
		write(t, path, b.String())
		fd, err := openLog(path)
		must(t, err)
		for i := 0; i < 3000; i += 7 {
			if off, err := firstSince(fd, int64(b.Len()), at(i), secondsOf); err != nil || off != int64(starts[i]) {
				t.Fatalf("firstSince(%d) = %d, %v; want %d", i, off, err, starts[i])
			}
		}
	})
}

// TestBornWhileNobodyLooked: a mark that names no file tells only when the source was watched first. What appears while
// nobody runs is news to the next run from then on, and nothing that is older.
func TestBornWhileNobodyLooked(t *testing.T) {
	first := Mark{At: at(3).Add(700 * time.Millisecond)} // in the middle of a second
	born := "1_a\n2_b\n3_c\n4_d\n5_e\n"
	tests := []struct {
		name    string
		pattern string
		before  map[string]string // read by the first run
		while   map[string]string // written between the runs
		since   int               // 0: none
		want    string
		seen    string
	}{
		{"five lines, all after the mark", "auth.log", nil, map[string]string{"auth.log": "4_a\n5_b\n6_c\n7_d\n8_e\n"}, 0, "4_a 5_b 6_c 7_d 8_e", "nnnnn"},
		{"older lines are not news", "auth.log", nil, map[string]string{"auth.log": born}, 0, "3_c 4_d 5_e", "nnn"},
		{"older lines are read again", "auth.log", nil, map[string]string{"auth.log": born}, 2, "2_b 3_c 4_d 5_e", "snnn"},
		{"all are older", "auth.log", nil, map[string]string{"auth.log": "1_a\n2_b\n"}, 1, "1_a 2_b", "ss"},
		{"a second file of a pattern", "*.log", map[string]string{"a.log": "1_x\n"}, map[string]string{"b.log": "4_a\n5_b\n6_c\n7_d\n8_e\n"}, 0, "4_a 5_b 6_c 7_d 8_e", "nnnnn"},
		{"a second file of a pattern, and news in the first", "*.log", map[string]string{"a.log": "1_x\n"}, map[string]string{"a.log": "4_y\n", "b.log": born}, 0, "4_y 3_c 4_d 5_e", "nnnn"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			o := FileOptions{Pattern: filepath.Join(dir, tt.pattern), DateOf: secondsOf, FromStart: true}
			f := &stepped{}
			f.start(t, o)
			for name, text := range tt.before {
				write(t, filepath.Join(dir, name), text)
			}
			f.settle(t)
			f.sayAllMarks(at(3))
			f.close()

			for name, text := range tt.while {
				write(t, filepath.Join(dir, name), text)
			}
			o.FromStart = false
			o.Marks = append([]Mark{first}, f.got.lastMarks()...)
			if tt.since > 0 {
				o.Since = at(tt.since)
			}
			again := &stepped{}
			again.start(t, o)
			defer again.close()
			again.settle(t)
			if again.got.lines() != tt.want || again.got.seen() != tt.seen {
				t.Errorf("lines %q (%s), want %q (%s)", again.got.lines(), again.got.seen(), tt.want, tt.seen)
			}
		})
	}
}

// TestFirstMarkOnly: a file that was there at the first start, and brought nothing before the guard was killed, is no
// news to the second.
func TestFirstMarkOnly(t *testing.T) {
	log := filepath.Join(t.TempDir(), "auth.log")
	write(t, log, "1_a\n2_b\n")
	f := &stepped{}
	f.start(t, FileOptions{Pattern: log, DateOf: secondsOf, Since: at(2), Marks: []Mark{{At: at(9)}}})
	defer f.close()
	write(t, log, "10_c\n")
	f.settle(t)
	if f.got.lines() != "2_b 10_c" || f.got.seen() != "sn" {
		t.Errorf("lines %q (%s), want the old one seen, the new one news", f.got.lines(), f.got.seen())
	}
}
