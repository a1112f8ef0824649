package source

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tocsin"
)

// entryText is the nth entry of a journal, one a second, as journalctl exports it.
func entryText(n int, fields ...string) string {
	us := at(n).UnixMicro()
	return fmt.Sprintf("__CURSOR=s=5e9;i=%x;b=b007;m=3e8;t=%x;x=1\n__REALTIME_TIMESTAMP=%d\n__MONOTONIC_TIMESTAMP=12345678\n%s\n\n",
		n, us, us, strings.Join(fields, "\n"))
}

func cursorText(n int) string {
	return fmt.Sprintf("s=5e9;i=%x;b=b007;m=3e8;t=%x;x=1", n, at(n).UnixMicro())
}

// fakeJournal is a Journal on the double of journalctl, whose calls do what scripts say. The last stands for all others.
func fakeJournal(t *testing.T, o JournalOptions, scripts ...string) (j *Journal, dir string) {
	t.Helper()
	dir = t.TempDir()
	for i, s := range scripts {
		name := fmt.Sprintf("run.%d", i+1)
		if i == len(scripts)-1 {
			name = "run.last"
		}
		write(t, filepath.Join(dir, name), s)
	}
	double, err := filepath.Abs("testdata/journalctl")
	must(t, err)
	o.Name, o.Command, o.Args = "journal:test", double, append(o.Args, "--directory="+dir)
	j, err = NewJournal(o)
	must(t, err)
	j.backoff = time.Millisecond
	return j, dir
}

// printing is a script that writes entries; forever is one that then stays.
func printing(text string) string {
	return "cat <<'END' | head -c -1\n" + text + "\nEND\n" // as it is: a here-document ends in a newline
}

const forever = "exec sleep 1000\n"

func args(t *testing.T, dir string, n int) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("args.%d", n)))
	must(t, err)
	return string(b)
}

func TestJournalText(t *testing.T) {
	sized := func(name, value string) string {
		return name + "\n" + string(binary.LittleEndian.AppendUint64(nil, uint64(len(value)))) + value
	}
	long := strings.Repeat("x", maxLine+5)
	tests := []struct{ name, fields, want string }{
		{"sshd", "_HOSTNAME=v\nSYSLOG_IDENTIFIER=sshd\nSYSLOG_PID=7\n_PID=8\nMESSAGE=m", "v sshd[7]: m"},
		{"pid of the process", "_HOSTNAME=v\nSYSLOG_IDENTIFIER=sshd\n_PID=8\nMESSAGE=m", "v sshd[8]: m"},
		{"name of the process", "_HOSTNAME=v\n_COMM=sshd\n_PID=8\nMESSAGE=m", "v sshd[8]: m"},
		{"no pid", "_HOSTNAME=v\nSYSLOG_IDENTIFIER=x\nMESSAGE=m", "v x: m"},
		{"nobody", "MESSAGE=m", "m"},
		{"kernel", "_HOSTNAME=v\nSYSLOG_IDENTIFIER=kernel\nMESSAGE=m", "v kernel: [   12.345678] m"},
		{"kernel, source time", "_HOSTNAME=v\nSYSLOG_IDENTIFIER=kernel\n_SOURCE_MONOTONIC_TIMESTAMP=7\nMESSAGE=m", "v kernel: [    0.000007] m"},
		{"several lines", "_HOSTNAME=v\nSYSLOG_IDENTIFIER=x\n" + sized("MESSAGE", "a\nNov 22 sshd[1]: b\n"), `v x: a\nNov 22 sshd[1]: b`},
		{"hostile identifier", "_HOSTNAME=v\n" + sized("SYSLOG_IDENTIFIER", "a\nb") + "\nMESSAGE=m", `v a\nb: m`},
		{"the first of two", "MESSAGE=a\nMESSAGE=b", "a"},
		{"binary", sized("MESSAGE", "\x00\xff"), "\x00\xff"},
		{"too long", "MESSAGE=" + long, long[:maxLine] + "!"},
		{"too long, sized", sized("MESSAGE", long), long[:maxLine] + "!"},
		{"too long with its front", "_HOSTNAME=v\nMESSAGE=" + long[:maxLine], "v " + long[:maxLine-2] + "!"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			j, err := NewJournal(JournalOptions{Name: "journal:"})
			must(t, err)
			var got string
			r := newJournalRun(j, Sink{Record: func(r *tocsin.Record) { got = string(r.Text) }})
			x := &exportReader{r: bufio.NewReader(strings.NewReader(entryText(1, tt.fields)))}
			must(t, x.next())
			r.entry(x, 1)
			if j.Stats().Cut > 0 {
				got += "!"
			}
			if got != tt.want {
				t.Errorf("text %.80q, want %.80q", got, tt.want)
			}
			if err := x.next(); !errors.Is(err, io.EOF) {
				t.Errorf("behind the entry: %v", err)
			}
		})
	}
}

func TestExportErrors(t *testing.T) {
	big := binary.LittleEndian.AppendUint64([]byte("A\n"), 1<<40)
	tests := []struct {
		name, text string
		want       error
	}{
		{"empty", "", io.EOF},
		{"blank lines only", "\n\n\n", io.EOF},
		{"no end", "A=b\n", io.ErrUnexpectedEOF},
		{"within a name", "A=b\nAB", io.ErrUnexpectedEOF},
		{"within a value", "A=b", io.ErrUnexpectedEOF},
		{"within a length", "A\n\x01\x00", io.ErrUnexpectedEOF},
		{"within a sized value", "A\n\x05\x00\x00\x00\x00\x00\x00\x00ab", io.ErrUnexpectedEOF},
		{"no newline behind a value", "A\n\x01\x00\x00\x00\x00\x00\x00\x00abc", errExport},
		{"length beyond all", string(big), errExport},
		{"no name", "=b\n", errExport},
		{"name too long", strings.Repeat("A", 100) + "=b\n", errExport},
	}
	for _, tt := range tests {
		x := &exportReader{r: bufio.NewReader(strings.NewReader(tt.text))}
		if err := x.next(); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
	many := strings.Repeat("A=b\n", 10*maxFields) + "\nB=c\n\n"
	x := &exportReader{r: bufio.NewReader(strings.NewReader(many))}
	if err := x.next(); err != nil || len(x.fields) != maxFields || len(x.values) != 2*maxFields {
		t.Errorf("many fields: %v, %d fields, %d bytes", err, len(x.fields), len(x.values))
	}
	if err := x.next(); err != nil || !x.has("B", "c") {
		t.Errorf("behind many fields: %v", err)
	}
}

func FuzzExport(f *testing.F) {
	f.Add([]byte(entryText(1, "_HOSTNAME=v\nSYSLOG_IDENTIFIER=kernel\nMESSAGE=m")))
	f.Add([]byte("MESSAGE\n\x03\x00\x00\x00\x00\x00\x00\x00a\nb\n\n"))
	f.Add([]byte("A=b\n\n\nC\n\xff\xff\xff\xff\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, text []byte) {
		x := &exportReader{r: bufio.NewReaderSize(bytes.NewReader(text), 2*maxFieldName)}
		for {
			err := x.next()
			if x.read > uint64(len(text)) {
				t.Fatalf("%d of %d bytes read", x.read, len(text))
			}
			if err != nil {
				if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, errExport) {
					t.Fatalf("error %v", err)
				}
				return
			}
			if out := x.appendText(nil); bytes.IndexByte(out, '\n') >= 0 {
				t.Fatalf("text %q has a line end", out)
			}
		}
	})
}

func TestParseCursor(t *testing.T) {
	tests := []struct {
		text string
		ok   bool
	}{
		{cursorText(5), true},
		{"s=1;i=2;t=3", true},
		{"", false},
		{"s=1;i=2", false},
		{"s=1;i=x;t=3", false},
		{"s=1;i=-2;t=3", false},
		{"s=1;i=ffffffffffffffffff;t=3", false},
		{"s=1;i=2;t=3;x=" + strings.Repeat("0", maxCursor), false},
	}
	for _, tt := range tests {
		if c, ok := parseCursor([]byte(tt.text)); ok != tt.ok || ok && (c.text != tt.text || c.pos.File == 0) {
			t.Errorf("parseCursor(%q) = %+v, %v; want %v", tt.text, c, ok, tt.ok)
		}
	}
}

// TestJournalFaults: whatever becomes of journalctl, each entry comes once.
func TestJournalFaults(t *testing.T) {
	e := func(n ...int) (s string) {
		for _, n := range n {
			s += entryText(n, fmt.Sprintf("MESSAGE=%d", n))
		}
		return s
	}
	marks := func(n int) []Mark { return []Mark{{Cursor: cursorText(n), At: at(n)}} }
	all := time.Unix(1, 0)
	tests := []struct {
		name    string
		o       JournalOptions
		scripts []string
		want    string
		seen    string
		args    []string // what the nth call must hold
	}{
		{"goes on where it was", JournalOptions{Since: all},
			[]string{printing(e(1, 2)), printing(e(2, 3)) + forever}, "1 2 3", "sss",
			[]string{"--since=@1.000000", "--cursor=" + cursorText(2)}},
		{"dies within an entry", JournalOptions{Since: all},
			[]string{printing(e(1) + "__CURSOR=s=5e"), printing(e(1, 2)) + forever}, "1 2", "ss", nil},
		{"writes nonsense", JournalOptions{Since: all},
			[]string{"echo =nonsense; exec sleep 1000", printing(e(1)) + forever}, "1", "s", nil},
		{"fails", JournalOptions{Since: all},
			[]string{"echo no access >&2; exit 1", "kill -9 $$", printing(e(1)) + forever}, "1", "s", nil},
		{"saved cursor", JournalOptions{Marks: marks(2)},
			[]string{printing(e(2, 3)) + forever}, "3", "n", []string{"--cursor=" + cursorText(2)}},
		{"saved cursor, vacuumed", JournalOptions{Marks: marks(2)},
			[]string{printing(e(4, 5)) + forever}, "4 5", "nn", nil},
		{"saved cursor, since before it", JournalOptions{Marks: marks(2), Since: at(1)},
			[]string{printing(e(1, 2, 3)) + forever}, "1 2 3", "ssn",
			[]string{fmt.Sprintf("--since=@%d.000000", at(1).Unix())}},
		{"saved cursor, since behind it", JournalOptions{Marks: marks(2), Since: at(9)},
			[]string{printing(e(2, 3)) + forever}, "3", "n", []string{"--cursor="}},
		{"cursor refused", JournalOptions{Marks: marks(2)},
			[]string{"echo Failed to seek to cursor: Invalid argument >&2; exit 1", printing(e(2, 3)) + forever}, "3", "n",
			[]string{"--cursor=", fmt.Sprintf("--since=@%d.000000", at(2).Unix())}},
		{"required field", JournalOptions{Since: all, Match: []string{"A=b", "+", "C=d"}, Require: []string{"_UID=0"}},
			[]string{printing(entryText(1, "_UID=1000", "MESSAGE=forged")+entryText(2, "_UID=0", "MESSAGE=true")) + forever},
			"true", "s", []string{"A=b _UID=0 + C=d _UID=0"}},
		{"entries without a message or a cursor", JournalOptions{Since: all},
			[]string{printing(entryText(1, "A=b")+"MESSAGE=x\n\n"+e(2)) + forever}, "2", "s", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			j, dir := fakeJournal(t, tt.o, tt.scripts...)
			var g got
			stop := start(t, j, &g)
			g.want(t, tt.want)
			stop()
			if g.seen() != tt.seen {
				t.Errorf("seen %s, want %s", g.seen(), tt.seen)
			}
			for i, want := range tt.args {
				if got := args(t, dir, i+1); !strings.Contains(got, want) {
					t.Errorf("call %d has %q, want %q in it", i+1, got, want)
				}
			}
			if s := j.Stats(); s.Restarts != uint64(len(tt.scripts)-1) {
				t.Errorf("stats %+v, want %d restarts", s, len(tt.scripts)-1)
			}
			if m := g.marks[len(g.marks)-1]; m.Cursor == "" || m.Pos != g.recs[len(g.recs)-1].Pos {
				t.Errorf("last mark %+v, last record %+v", m, g.recs[len(g.recs)-1])
			}
		})
	}
}

func TestJournalMarksWhileItWaits(t *testing.T) {
	j, _ := fakeJournal(t, JournalOptions{Since: time.Unix(1, 0)}, printing(entryText(1, "MESSAGE=1")+entryText(2, "MESSAGE=2"))+forever)
	var g got
	start(t, j, &g)
	g.want(t, "1 2")
	eventually(t, "a mark of the second entry", func() bool {
		m := g.lastMarks()
		return len(m) == 1 && m[0].Pos.Offset == 2
	}, func() any { return g.lastMarks() })
}

// What was there at the start ends where an entry is younger, or where journalctl falls silent. It is told once.
func TestJournalCaughtUp(t *testing.T) {
	e := func(n ...int) (s string) {
		for _, n := range n {
			s += entryText(n, fmt.Sprintf("MESSAGE=%d", n))
		}
		return s
	}
	future := int(time.Since(at(0)).Seconds()) + 1000
	tests := []struct {
		name    string
		silence time.Duration
		scripts []string
		want    string // "|" where the past ends
	}{
		{"a younger entry", time.Hour, []string{printing(e(1, 2, future, future+1)) + forever}, fmt.Sprint("1 2 | ", future, " ", future+1)},
		{"an old entry", time.Hour, []string{printing(e(1, 2)) + forever}, "1 2"},
		{"silence", 5 * time.Second, []string{printing(e(1, 2)) + forever}, "1 2 |"},
		{"silence from the beginning", time.Millisecond, []string{forever}, "|"},
		{"silence, then a younger entry", 10 * time.Millisecond, []string{"sleep 3\n" + printing(e(future)) + forever}, fmt.Sprint("| ", future)},
		{"journalctl starts again", time.Hour, []string{printing(e(1)), printing(e(1, 2, future)), printing(e(future, future+1)) + forever},
			fmt.Sprint("1 2 | ", future, " ", future+1)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			j, _ := fakeJournal(t, JournalOptions{Since: time.Unix(1, 0)}, tt.scripts...)
			j.silence = tt.silence
			var g got
			s := g.sink()
			s.CaughtUp = func() {
				g.mu.Lock()
				defer g.mu.Unlock()
				g.texts = append(g.texts, "|")
			}
			stop := startSink(t, j, s)
			g.want(t, tt.want)
			stop()
			if got := g.lines(); got != tt.want {
				t.Errorf("in the end %q, want %q", got, tt.want)
			}
		})
	}
}

func TestJournalMissing(t *testing.T) {
	j, err := NewJournal(JournalOptions{Name: "journal:", Command: "/nonexistent/journalctl"})
	must(t, err)
	j.backoff = time.Millisecond
	start(t, j, new(got))
	eventually(t, "three attempts", func() bool { return j.Stats().Errors >= 3 }, func() any { return j.Stats() })
	if err := j.Replay(t.Context(), nil); err == nil {
		t.Error("Replay without journalctl succeeds")
	}
	for _, o := range []JournalOptions{{Match: []string{"x"}}, {Require: []string{"x"}}, {Require: []string{"A=b", "+", "C=d"}}} {
		if _, err := NewJournal(o); err == nil {
			t.Errorf("NewJournal(%+v) succeeds", o)
		}
	}
}

// realJournal writes entries to a journal file, as systemd does, and answers a function that adds more.
func realJournal(t *testing.T) (path string, add func(from, to int)) {
	t.Helper()
	const remote = "/lib/systemd/systemd-journal-remote"
	if _, err := os.Stat(remote); err != nil {
		t.Skip("Debian's systemd-journal-remote is not installed")
	}
	if _, err := exec.LookPath("journalctl"); err != nil {
		t.Skip("there is no journalctl")
	}
	path = filepath.Join(t.TempDir(), "test.journal")
	return path, func(from, to int) {
		t.Helper()
		var b strings.Builder
		for n := from; n <= to; n++ {
			fmt.Fprintf(&b, "__REALTIME_TIMESTAMP=%d\n__MONOTONIC_TIMESTAMP=%d\n_BOOT_ID=0123456789abcdef0123456789abcdef\n"+
				"_UID=%d\n_HOSTNAME=v\nSYSLOG_IDENTIFIER=sshd\n_PID=%d\nMESSAGE=%d\n\n", at(n).UnixMicro(), n, n%2, n, n)
		}
		cmd := exec.Command(remote, "--output="+path, "-")
		cmd.Stdin = strings.NewReader(b.String())
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", remote, err, out)
		}
	}
}

func TestRealJournal(t *testing.T) {
	path, add := realJournal(t)
	add(1, 3)
	options := func(o JournalOptions) *Journal {
		o.Name, o.Args = "journal:test", []string{"--file=" + path}
		j, err := NewJournal(o)
		must(t, err)
		return j
	}
	var g got
	stop := start(t, options(JournalOptions{Since: at(2)}), &g)
	g.want(t, "v sshd[2]: 2 v sshd[3]: 3")
	add(4, 4)
	g.want(t, "v sshd[2]: 2 v sshd[3]: 3 v sshd[4]: 4")
	stop()
	if !g.recs[0].At.Equal(at(2)) || g.recs[0].Pos.Offset != 2 {
		t.Errorf("record %+v", g.recs[0])
	}

	add(5, 5)
	var again got
	stop = start(t, options(JournalOptions{Marks: g.lastMarks()}), &again)
	again.want(t, "v sshd[5]: 5")
	stop()
	var rebuilt got
	stop = start(t, options(JournalOptions{Marks: g.lastMarks(), Since: at(4)}), &rebuilt)
	rebuilt.want(t, "v sshd[4]: 4 v sshd[5]: 5")
	stop()
	if rebuilt.seen() != "sn" || rebuilt.recs[0].Pos != g.recs[2].Pos {
		t.Errorf("seen %s at %v, want sn at %v", rebuilt.seen(), rebuilt.recs[0].Pos, g.recs[2].Pos)
	}
	var odd []string
	must(t, options(JournalOptions{Match: []string{"_HOSTNAME=v"}, Require: []string{"_UID=1"}}).Replay(t.Context(),
		func(r *tocsin.Record) { odd = append(odd, string(r.Text)) }))
	if got := strings.Join(odd, " "); got != "v sshd[1]: 1 v sshd[3]: 3 v sshd[5]: 5" {
		t.Errorf("replayed %q", got)
	}
}
