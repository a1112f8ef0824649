package filter

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"tocsin"
	"tocsin/internal/fail2ban"
)

// debianDefs are all filters of Debian's fail2ban as its jails use them, its hardest sshd among them.
func debianDefs(tb testing.TB) (defs []fail2ban.Filter) {
	tb.Helper()
	files, err := filepath.Glob(debianFilters + "/*.conf")
	if err != nil || len(files) == 0 {
		tb.Skip("Debian's package fail2ban is not installed: no filters to try")
	}
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".conf")
		if def, err := fail2ban.LoadFilter(os.DirFS(debianFilters), name, nil, "file"); err == nil && len(def.Failregex) > 0 {
			defs = append(defs, def) // others are only included
		}
	}
	return append(defs, debianSshd(tb))
}

func debianSshd(tb testing.TB) fail2ban.Filter {
	tb.Helper()
	if _, err := os.Stat(debianFilters); err != nil {
		tb.Skip("Debian's package fail2ban is not installed: no filters to try")
	}
	def, err := fail2ban.LoadFilter(os.DirFS(debianFilters), "sshd", map[string]string{"mode": "aggressive"}, "file")
	if err != nil {
		tb.Fatal(err)
	}
	return def
}

// filtersOf compiles filters that share what they find of dates, as those of one source do.
func filtersOf(tb testing.TB, defs []fail2ban.Filter, o Options) (fs []*Filter) {
	tb.Helper()
	o.Location, o.Now = time.UTC, func() time.Time { return time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) }
	shared := map[string]*Dates{}
	for _, def := range defs {
		var key strings.Builder
		for _, p := range def.Datepattern {
			key.WriteString(p.Text + "\n")
		}
		o.Dates = shared[key.String()]
		f, err := New(def, o)
		if err != nil {
			tb.Fatal(err)
		}
		shared[key.String()] = f.dates
		fs = append(fs, f)
	}
	return fs
}

// answer is a Result with what it points to.
type answer struct {
	filter  string
	kind    Kind
	rule    int
	failure tocsin.Failure
	login   tocsin.Login
}

func answerOf(f *Filter, r Result) answer {
	a := answer{filter: f.def.Name, kind: r.Kind, rule: r.Rule}
	if r.Failure != nil {
		a.failure = *r.Failure
	}
	if r.Login != nil {
		a.login = *r.Login
	}
	return a
}

// compareGroup asks filters one by one, and others of the same definitions as a group.
func compareGroup(t *testing.T, alone []*Filter, together *Group, lines [][]byte) {
	t.Helper()
	found, mistakes := 0, 0
	for n, l := range lines {
		rec := tocsin.Record{Source: "file:/log", Pos: tocsin.Position{File: 1, Offset: int64(n)}, Text: l}
		var want, got []answer
		for _, f := range alone {
			if r := f.Line(&rec); r.Kind != Nothing {
				want = append(want, answerOf(f, r))
			}
		}
		together.Line(&rec, func(i int, _ *tocsin.Record, r Result) { got = append(got, answerOf(together.filters[i], r)) })
		found += len(want)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("line %d, %.300q:\n together %v\n alone    %v", n, l, got, want)
			if mistakes++; mistakes == 5 {
				return
			}
		}
	}
	for i, f := range alone {
		want, got := f.Stats(), together.filters[i].Stats()
		want.Undated, got.Undated, want.Dropped, got.Dropped = 0, 0, 0, 0 // of lines that were shown
		if got != want {
			t.Errorf("%s counts %+v together, %+v alone", f.def.Name, got, want)
		}
	}
	t.Logf("%d lines, %d filters: %d answers", len(lines), len(alone), found)
}

// TestGroup compares a group with its filters one by one, on lines of every kind.
func TestGroup(t *testing.T) {
	defs := debianDefs(t)
	both := func(defs []fail2ban.Filter, lines [][]byte) func(*testing.T) {
		return func(t *testing.T) {
			compareGroup(t, filtersOf(t, defs, Options{}), NewGroup(filtersOf(t, defs, Options{})), lines)
		}
	}
	t.Run("auth.log", both(defs, madeLog(5000)))
	t.Run("one filter", both([]fail2ban.Filter{debianSshd(t)}, madeLog(5000)))
	t.Run("strange", both(defs, strangeLines()))
	t.Run("shipped", func(t *testing.T) {
		var own []fail2ban.Filter
		var lines [][]byte
		for _, name := range Shipped() {
			def, err := Load(name)
			if err != nil {
				t.Fatal(err)
			}
			own = append(own, def)
			sample, err := os.ReadFile("filters/" + name + ".txtar")
			if err != nil {
				t.Fatal(err)
			}
			lines = append(lines, bytes.Split(sample, []byte("\n"))...)
		}
		both(own, lines)(t)
		both(defs, lines)(t)
	})
	t.Run("samples", func(t *testing.T) { both(defs, corpusLines(t))(t) })
	t.Run("samples, one filter each", func(t *testing.T) {
		lines := corpusLines(t)
		for _, def := range defs {
			both([]fail2ban.Filter{def}, lines)(t)
		}
	})
	t.Run("generated", func(t *testing.T) {
		gen := os.Getenv("TOCSIN_GENAUTH")
		if gen == "" {
			t.Skip("TOCSIN_GENAUTH is not set: no generator of an auth.log with its truth")
		}
		log, _ := generateAuth(t, gen, 20_000)
		text, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		both(defs, bytes.Split(text, []byte("\n")))(t)
	})
}

// corpusLines are the lines of all samples, those of one filter after those of another.
func corpusLines(t *testing.T) (lines [][]byte) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(os.Getenv("TOCSIN_TESTDATA"), "fail2ban", "corpus", "*.jsonl"))
	if err != nil || len(files) == 0 {
		t.Skip("TOCSIN_TESTDATA is not set: no recorded answers of fail2ban to compare with")
	}
	for _, file := range files {
		for _, r := range corpus[struct{ Lines []string }](t, filepath.Base(file)) {
			for _, l := range r.Lines {
				lines = append(lines, []byte(l))
			}
		}
	}
	return lines
}

// strangeLines are lines that a gate could get wrong: dates in the midst of what is looked for, none at all, lines that
// make sense only together, long ones and bytes that are no text.
func strangeLines() (lines [][]byte) {
	add := func(l string) { lines = append(lines, []byte(l)) }
	const fail = "web1 sshd[7]: Failed password for root from 192.0.2.1 port 22 ssh2"
	for i := range len(fail) {
		add(fail[:i] + "Nov 22 10:00:00" + fail[i:])
		add(fail[:i] + " 1/Nov/2026:10:00:00" + fail[i:])
		add(fail[:i] + "2026-11-22T10:00:00.123+01:00" + fail[i:])
	}
	for _, lead := range []string{"", " ", "[", "[[", "- ", "«", "«»", "a", "a ", "  x"} {
		add(lead + "Nov 22 10:00:01 " + fail)
		add(lead + "2026-11-22 10:00:01 " + fail)
		add(lead + "Nov 22 10:00:01] " + fail)
		add(lead + "Nov 22 10:61:01 " + fail)
		add(lead + "Nov 22 10:00:01x " + fail)
	}
	add("Nov 22 10:00:02 " + fail)
	for range 3 {
		add("nothing here has a date")
	}
	add(fail)
	add("Nov 22 10:00:03 nobody wants this")
	add(fail)
	for range 1500 { // more than the past holds
		add("Nov 22 10:00:04 nobody wants this either, nor the next")
	}
	add(fail)
	add(strings.ToUpper(fail))
	add("Nov 22 10:00:05 " + strings.Repeat("x", maxLine))
	add("Nov 22 10:00:05 " + strings.Repeat("x", maxLine-100) + fail)
	add("Nov 22 10:00:05 " + fail + strings.Repeat(" ", maxLine-100))
	add("Nov 22 10:00:06 web1 sshd[7]: Failed password for \xff\xfe\u2028 from 192.0.2.1 port 22 ssh2")
	add("")
	add("\x00\x00\x00")
	for _, wait := range []int{0, 1, 3, 9, 10, 20, 150} {
		add("2026-11-22T10:00:07.000 [conn1234] Failed to authenticate test@db with mechanism MONGODB-CR: AuthenticationFailed UserNotFound")
		for range wait {
			add("2026-11-22T10:00:08.000 [conn99] something else")
		}
		add("2026-11-22T10:00:09.000 [conn1234] end connection 192.0.2.1:53276 (1 connection now open)")
	}
	for range 20 {
		add("apr 16, 2013 8:32:28 AM org.slf4j.impl.JCLLoggerAdapter warn")
	}
	add("WARNING: Authentication attempt from 192.0.2.0 for user \"pippo\" failed.")
	for range 20 {
		add("=INFO REPORT==== 2013-07-14 17:53:40 ===")
		add("I(<0.370.0>:ejabberd_listener:281) : (#Port<0.6910>) Accepted connection")
	}
	add("I(<0.1438.0>:ejabberd_c2s:813) : ({socket_state,gen_tcp,#Port<0.9718>,<0.1431.0>}) Failed authentication for user@example.com from IP 192.0.2.1 ({{192,0,2,1},12716})")
	return lines
}

// FuzzGroup compares a group with its filters on lines that somebody else wrote.
func FuzzGroup(f *testing.F) {
	defs := debianDefs(f)
	for _, l := range slices.Concat(strangeLines()[:250], madeLog(20)) {
		f.Add(l, l)
	}
	alone, together := filtersOf(f, defs, Options{}), NewGroup(filtersOf(f, defs, Options{}))
	f.Fuzz(func(t *testing.T, one, two []byte) {
		one, two = bytes.ReplaceAll(one, []byte("\n"), nil), bytes.ReplaceAll(two, []byte("\n"), nil)
		for i := range alone {
			forget(alone[i])
			forget(together.filters[i])
		}
		compareGroup(t, alone, together, [][]byte{one, two})
	})
}
