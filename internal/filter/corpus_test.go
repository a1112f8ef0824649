package filter

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tocsin"
	"tocsin/internal/fail2ban"
)

// corpusNow is the clock that fail2ban's answers were recorded with.
var corpusNow = time.Unix(1124013600, 0)

// corpus reads the rows of a file of answers recorded from fail2ban 1.0.2; they are not part of the project.
func corpus[T any](t *testing.T, name string) []T {
	t.Helper()
	dir := os.Getenv("TOCSIN_TESTDATA")
	if dir == "" {
		t.Skip("TOCSIN_TESTDATA is not set: no recorded answers of fail2ban to compare with")
	}
	file, err := os.Open(filepath.Join(dir, "fail2ban", "corpus", name))
	if err != nil {
		t.Skipf("no recorded answers of fail2ban: %v", err)
	}
	defer file.Close()
	var rows []T
	sc := bufio.NewScanner(file)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		var row T
		if err := json.Unmarshal(sc.Bytes(), &row); err != nil {
			t.Fatal(err)
		}
		rows = append(rows, row)
	}
	return rows
}

func zurich(t *testing.T) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation("Europe/Zurich")
	if err != nil {
		t.Skipf("no time zones on this machine: %v", err)
	}
	return loc
}

func TestDatesLikeFail2ban(t *testing.T) {
	type row struct {
		Detector, Seq int
		Patterns      []string
		Zone          *int `json:"default_tz_minutes"`
		Line          string
		Matched       *string
		Span          []int
		Time          *float64
	}
	loc, agreed, n := zurich(t), 0, 0
	dates := map[int]*Dates{}
	for _, r := range corpus[row](t, "extra/dates.jsonl") {
		n++
		d := dates[r.Detector]
		if d == nil {
			var lines []fail2ban.Regex
			for _, p := range r.Patterns {
				lines = append(lines, fail2ban.Regex{Text: p})
			}
			var err error
			if d, err = ParseDatepattern(lines, loc, func() time.Time { return corpusNow }); err != nil {
				t.Errorf("detector %d, %q: %v", r.Detector, r.Patterns, err)
				continue
			}
			dates[r.Detector] = d
		}
		d.loc, d.hour, d.head.n = loc, hour{}, 0
		if r.Zone != nil {
			d.loc = time.FixedZone("", *r.Zone*60)
		}
		at, start, end, ok := d.Find([]byte(r.Line))
		switch {
		case !ok && r.Time == nil:
		case !ok:
			t.Errorf("detector %d.%d %q: Find(%q) found nothing, fail2ban %q", r.Detector, r.Seq, r.Patterns, r.Line, *r.Matched)
			continue
		case r.Time == nil:
			t.Errorf("detector %d.%d %q: Find(%q) = %q, fail2ban nothing", r.Detector, r.Seq, r.Patterns, r.Line, r.Line[start:end])
			continue
		case r.Line[start:end] != *r.Matched || start != r.Span[0]:
			t.Errorf("detector %d.%d %q: Find(%q) = %q at %d, fail2ban %q at %d", r.Detector, r.Seq, r.Patterns, r.Line, r.Line[start:end], start, *r.Matched, r.Span[0])
			continue
		case float64(at.Unix()) != math.Floor(*r.Time):
			t.Errorf("detector %d.%d %q: Find(%q) = %v, fail2ban %v", r.Detector, r.Seq, r.Patterns, r.Line, at, time.Unix(int64(*r.Time), 0).UTC())
			continue
		}
		agreed++
	}
	t.Logf("%d of %d dates read as fail2ban reads them", agreed, n)
}

// forget makes a filter new, but for its automata.
func forget(f *Filter) {
	f.sessions, f.dates.latest, f.dates.learnt = newSessions(len(f.names), f.told), time.Time{}, formatNone
	if f.ring != nil {
		f.ring.lines, f.ring.size, f.ring.wanted = nil, 0, 0
	}
}

// debianFilters is where Debian's package fail2ban puts its filters.
const debianFilters = "/etc/fail2ban/filter.d"

// TestDebianFilters feeds fail2ban's own samples to Debian's filters and compares what is found.
func TestDebianFilters(t *testing.T) {
	type row struct {
		ID      string
		Filter  string
		Options map[string]string `json:"filter_options"`
		Journal bool
		Lines   []string
		Match   bool
		Prod    []struct {
			ID       string
			Time     float64
			Attempts int
			Groups   map[string]any
		} `json:"f2b_prod"`
	}
	if _, err := os.Stat(debianFilters); err != nil {
		t.Skip("Debian's package fail2ban is not installed: no filters to try")
	}
	files, err := filepath.Glob(filepath.Join(os.Getenv("TOCSIN_TESTDATA"), "fail2ban", "corpus", "*.jsonl"))
	if err != nil || len(files) == 0 {
		t.Skip("TOCSIN_TESTDATA is not set: no recorded answers of fail2ban to compare with")
	}
	loc, agreed, n, filters := zurich(t), 0, 0, map[string]*Filter{}
	for _, file := range files {
		for _, r := range corpus[row](t, filepath.Base(file)) {
			n++
			dir := debianFilters
			if strings.HasPrefix(r.Filter, "zzz-") { // filters of fail2ban's own tests, not in Debian's package
				dir = filepath.Join(os.Getenv("TOCSIN_TESTDATA"), "fail2ban", "corpus", "testconfig", "filter.d")
			}
			key := fmt.Sprint(r.Filter, r.Options, r.Journal)
			f := filters[key]
			if f == nil {
				logtype := "file"
				if r.Journal {
					logtype = "journal"
				}
				def, err := fail2ban.LoadFilter(os.DirFS(dir), r.Filter, r.Options, logtype)
				if err != nil {
					t.Fatalf("%s: %v", r.ID, err)
				}
				if f, err = New(def, Options{Location: loc, Now: func() time.Time { return corpusNow }, NoDate: r.Journal}); err != nil {
					t.Fatalf("%s: %v", r.ID, err)
				}
				filters[key] = f
			}
			forget(f)
			var got Result
			for _, l := range r.Lines {
				got = f.Line(&tocsin.Record{Text: []byte(l)})
			}
			if got.Failure == nil != !r.Match {
				t.Errorf("%s: %q is %v, fail2ban's match is %v", r.ID, r.Lines, got.Kind, r.Match)
				continue
			}
			if r.Match {
				want := r.Prod[0]
				user, _ := want.Groups["user"].(string)
				sameTime := got.Failure.At.Unix() == int64(want.Time) || want.Time == 0 // 0: the line's date is in no calendar
				if lines := len(got.Failure.Context) + 1; got.Failure.ID != want.ID || got.Failure.User != user || !sameTime || lines != want.Attempts {
					t.Errorf("%s: %q blames %s (user %q) at %v for %d lines, fail2ban %s (user %q) at %v for %d", r.ID, r.Lines,
						got.Failure.ID, got.Failure.User, got.Failure.At, lines, want.ID, user, time.Unix(int64(want.Time), 0).UTC(), want.Attempts)
					continue
				}
			}
			agreed++
		}
	}
	t.Logf("%d of %d samples read as fail2ban reads them", agreed, n)
}
