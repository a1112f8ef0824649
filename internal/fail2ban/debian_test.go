package fail2ban

import (
	"bufio"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// debianFilters is where Debian's package fail2ban puts its filters. Reading them needs no running fail2ban.
const debianFilters = "/etc/fail2ban/filter.d"

func debian(t *testing.T) []string {
	t.Helper()
	files, _ := filepath.Glob(debianFilters + "/*.conf")
	if len(files) == 0 {
		t.Skipf("no filters in %s: install Debian's package fail2ban to test against them", debianFilters)
	}
	var names []string
	for _, f := range files {
		names = append(names, strings.TrimSuffix(filepath.Base(f), ".conf"))
	}
	return names
}

// includeOnly are Debian's files that others include; they are no filters themselves.
var includeOnly = []string{"apache-common", "botsearch-common", "common", "exim-common", "selinux-common"}

func TestDebianFiltersLoad(t *testing.T) {
	fsys := os.DirFS(debianFilters)
	n := 0
	for _, name := range debian(t) {
		if slices.Contains(includeOnly, name) {
			continue
		}
		n++
		for _, logtype := range []string{"file", "journal"} {
			f, err := LoadFilter(fsys, name, nil, logtype)
			if err != nil {
				t.Errorf("LoadFilter(%s, %s): %v", name, logtype, err)
				continue
			}
			if len(f.Failregex) == 0 {
				t.Errorf("LoadFilter(%s, %s) found no failregex", name, logtype)
			}
			for _, re := range f.Failregex {
				if _, err := os.Stat(filepath.Join(debianFilters, re.Pos.File)); err != nil || re.Pos.Line == 0 {
					t.Errorf("LoadFilter(%s): %q stands at %q, no place in the files", name, re.Text, re.Pos)
				}
			}
		}
	}
	t.Logf("%d filters", n)
}

// golden is one row of regexes.jsonl: an expression as fail2ban 1.0.2 sees it before it expands <HOST> and its like.
type golden struct {
	Filter, Kind, Source string
	Variants             []map[string]string
}

func goldens(t *testing.T) []golden {
	t.Helper()
	dir := os.Getenv("TOCSIN_TESTDATA")
	if dir == "" {
		t.Skip("TOCSIN_TESTDATA is not set: no recorded answers of fail2ban to compare with")
	}
	file, err := os.Open(filepath.Join(dir, "fail2ban", "regexes.jsonl"))
	if err != nil {
		t.Skipf("no recorded answers of fail2ban: %v", err)
	}
	defer file.Close()
	var all []golden
	for sc := bufio.NewScanner(file); sc.Scan(); {
		var g golden
		if err := json.Unmarshal(sc.Bytes(), &g); err != nil {
			t.Fatal(err)
		}
		all = append(all, g)
	}
	return all
}

// refused are the sets of options that fail2ban takes and we do not: it leaves a tag in the expression that nobody
// defines, and the filter then matches nothing.
var refused = []string{"znc-adminlogmap[logtype:rfc5424]"}

// TestDebianRegexes compares every expression of every filter, in every set of options that was recorded, with what
// fail2ban makes of the same files: the same expressions, in the same order of kinds, none missing, none more.
func TestDebianRegexes(t *testing.T) {
	names := debian(t)
	want := map[string]map[string]int{} // "filter[options]" -> "kind: text" -> how often
	options := map[string]map[string]string{}
	for _, g := range goldens(t) {
		if !slices.Contains(names, g.Filter) {
			continue // the date lists, and filters that only fail2ban's own tests have
		}
		for _, v := range g.Variants {
			key := g.Filter + fmt.Sprint(v)
			if want[key] == nil {
				want[key], options[key] = map[string]int{}, v
			}
			if g.Source == "Epoch" {
				g.Source = "EPOCH" // recorded by its name for people
			}
			want[key][g.Kind+": "+g.Source]++
		}
	}
	fsys, compared := os.DirFS(debianFilters), 0
	for _, key := range slices.Sorted(maps.Keys(want)) {
		name, _, _ := strings.Cut(key, "map[")
		f, err := LoadFilter(fsys, name, options[key], "file")
		if slices.Contains(refused, key) {
			if err == nil || !strings.Contains(err.Error(), "names an option that nobody defines") {
				t.Errorf("LoadFilter(%s): error %v, want it refused", key, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("LoadFilter(%s): %v", key, err)
			continue
		}
		got := map[string]int{}
		for kind, list := range map[string][]Regex{"failregex": f.Failregex, "ignoreregex": f.Ignoreregex, "datepattern": f.Datepattern, "prefregex": {f.Prefregex}} {
			for _, re := range list {
				if re.Text != "" {
					got[kind+": "+re.Text]++
					compared++
				}
			}
		}
		for _, text := range slices.Sorted(maps.Keys(want[key])) {
			if got[text] == 0 {
				t.Errorf("%s: missing %s", key, text)
			}
		}
		for _, text := range slices.Sorted(maps.Keys(got)) {
			if want[key][text] == 0 {
				t.Errorf("%s: not in fail2ban: %s", key, text)
			}
		}
	}
	t.Logf("%d expressions in %d sets of options", compared, len(want))
}
