package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// corpusRow is one answer of fail2ban: to the last of its lines, which one filter was fed in the order of Seq with all
// others of the same instance.
type corpusRow struct {
	ID       string
	Filter   string
	Options  map[string]string `json:"filter_options"`
	Instance string
	Seq      int
	Journal  bool
	Lines    []string
	Match    bool
	Helper   bool `json:"f2b_helper"`
	Prod     []struct {
		ID     string
		Time   float64
		Regex  int
		Groups map[string]any
	} `json:"f2b_prod"`
}

// TestCorpus puts every sample of fail2ban through `tocsin test` and compares what is found: whom, when, with which groups
// and by which expression.
func TestCorpus(t *testing.T) {
	if _, err := os.Stat("/etc/fail2ban/filter.d"); err != nil {
		t.Skip("Debian's package fail2ban is not installed: no filters to try")
	}
	folder := filepath.Join(os.Getenv("TOCSIN_TESTDATA"), "fail2ban", "corpus")
	files, err := filepath.Glob(filepath.Join(folder, "*.jsonl"))
	if err != nil || os.Getenv("TOCSIN_TESTDATA") == "" || len(files) == 0 {
		t.Skip("TOCSIN_TESTDATA is not set: no recorded answers of fail2ban to compare with")
	}
	agreed, all := map[string]int{}, map[string]int{}
	sum := 0
	for _, file := range files {
		instances := map[string][]corpusRow{}
		for _, r := range readCorpus(t, file) {
			key := fmt.Sprint(r.Filter, r.Instance, r.Options, r.Journal)
			instances[key] = append(instances[key], r)
			all[r.Filter]++
		}
		for _, rows := range instances {
			slices.SortFunc(rows, func(a, b corpusRow) int { return a.Seq - b.Seq })
			for i, got := range testRows(t, folder, rows) {
				r := &rows[i]
				if wrong := r.compare(got); wrong != "" {
					t.Errorf("%s: %s: %q", r.ID, wrong, r.Lines)
					continue
				}
				agreed[r.Filter]++
				sum++
			}
		}
	}
	total := 0
	for _, name := range slices.Sorted(maps.Keys(all)) {
		t.Logf("%4d of %4d  %s", agreed[name], all[name], name)
		total += all[name]
	}
	if sum != total || total != 1627 {
		t.Errorf("%d of %d samples agree, want 1627", sum, total)
	}
	t.Logf("%d of %d samples read as fail2ban reads them", sum, total)
}

func readCorpus(t *testing.T, file string) (rows []corpusRow) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		var r corpusRow
		if err := json.Unmarshal(sc.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		rows = append(rows, r)
	}
	if err := sc.Err(); err != nil {
		t.Fatal(err)
	}
	return rows
}

// testRows puts the rows of one instance through one `tocsin test` and returns its answers, one a row.
func testRows(t *testing.T, folder string, rows []corpusRow) (answers []testedLine) {
	t.Helper()
	r := &rows[0]
	dir := "/etc/fail2ban"
	if strings.HasPrefix(r.Filter, "zzz-") { // filters of fail2ban's own tests, not in Debian's package
		dir = filepath.Join(folder, "testconfig")
	}
	spec := r.Filter
	for _, name := range slices.Sorted(maps.Keys(r.Options)) {
		spec += fmt.Sprintf("[%s=%q]", name, r.Options[name])
	}
	args := []string{"test", spec, "-", "--fail2ban", dir, "--now", "2005-08-14T12:00:00+02:00", "--tz", "CET-01CEST-02,M3.5.0,M10.5.0", "--json"}
	if r.Journal {
		args = append(args, "--journal")
	}
	var text strings.Builder
	for i := range rows {
		fmt.Fprintln(&text, rows[i].Lines[len(rows[i].Lines)-1])
	}
	var stdout, stderr bytes.Buffer
	if code := run(args, strings.NewReader(text.String()), &stdout, &stderr); code != 0 {
		t.Errorf("%s: exit code %d: %s", spec, code, &stderr)
		return nil
	}
	for line := range strings.Lines(stdout.String()) {
		var got testedLine
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Fatalf("%s: %v", spec, err)
		}
		answers = append(answers, got)
	}
	if len(answers) != len(rows) {
		t.Errorf("%s: %d answers to %d lines", spec, len(answers), len(rows))
		return nil
	}
	return answers
}

// compare says where an answer differs from fail2ban's; "" if it does not.
func (r *corpusRow) compare(got testedLine) string {
	if got.Counted != r.Match {
		return fmt.Sprintf("counted is %v, fail2ban's match %v", got.Counted, r.Match)
	}
	if !r.Match {
		if got.Match != r.Helper {
			return fmt.Sprintf("match is %v, that it is a helper line %v", got.Match, r.Helper)
		}
		return ""
	}
	want := r.Prod[0]
	user, _ := want.Groups["user"].(string)
	switch {
	case got.ID != want.ID:
		return fmt.Sprintf("id %q, fail2ban %q", got.ID, want.ID)
	case got.User != user:
		return fmt.Sprintf("user %q, fail2ban %q", got.User, user)
	case want.Time != 0 && got.Time.Unix() != int64(want.Time): // 0: the line's date is in no calendar
		return fmt.Sprintf("time %v, fail2ban %v", got.Time, time.Unix(int64(want.Time), 0))
	case got.Pattern != fmt.Sprintf("failregex %d", want.Regex+1):
		return fmt.Sprintf("%s, fail2ban %d", got.Pattern, want.Regex+1)
	case !reflect.DeepEqual(got.Groups, want.Groups):
		return fmt.Sprintf("groups %v, fail2ban %v", got.Groups, want.Groups)
	}
	return ""
}

func TestZone(t *testing.T) {
	tests := []struct {
		name string
		at   string // UTC
		want string // "" if the zone is refused
	}{
		{"Europe/Paris", "2026-07-01T12:00:00Z", "2026-07-01T14:00:00+02:00"},
		{"CET-01CEST-02,M3.5.0,M10.5.0", "2026-07-01T12:00:00Z", "2026-07-01T14:00:00+02:00"},
		{"CET-01CEST-02,M3.5.0,M10.5.0", "2026-12-01T12:00:00Z", "2026-12-01T13:00:00+01:00"},
		{"CET-01CEST-02,M3.5.0,M10.5.0", "2005-08-14T10:00:00Z", "2005-08-14T12:00:00+02:00"},
		{"EST5", "2026-07-01T12:00:00Z", "2026-07-01T07:00:00-05:00"},
		{"<+0330>-3:30", "2026-07-01T12:00:00Z", "2026-07-01T15:30:00+03:30"},
		{"Paris/Europe", "2026-07-01T12:00:00Z", ""},
		{"nonsense\nEST5", "2026-07-01T12:00:00Z", ""},
		{"5", "2026-07-01T12:00:00Z", ""},
	}
	for _, tt := range tests {
		at, err := time.Parse(time.RFC3339, tt.at)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if loc, err := zone(tt.name); err == nil {
			got = at.In(loc).Format(time.RFC3339)
		}
		if got != tt.want {
			t.Errorf("%s in zone %q: got %q, want %q", tt.at, tt.name, got, tt.want)
		}
	}
}
