package regex

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// testdata opens a file of the fail2ban test data, which is not part of the repository, line by line.
func testdata(t testing.TB, name string, each func(line []byte)) {
	t.Helper()
	dir := os.Getenv("TOCSIN_TESTDATA")
	if dir == "" {
		t.Skip("TOCSIN_TESTDATA is not set: fail2ban's patterns and log samples are not part of the repository")
	}
	f, err := os.Open(filepath.Join(dir, "fail2ban", name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, 64<<20)
	for sc.Scan() {
		each(sc.Bytes())
	}
	if err := sc.Err(); err != nil {
		t.Fatal(err)
	}
}

type corpusPattern struct {
	Filter, Kind, Regex string
	Multiline           bool
	Variants            []json.RawMessage
}

func (p corpusPattern) flags() Flags {
	if p.Multiline {
		return Multiline
	}
	return 0
}

func corpusPatterns(t testing.TB) []corpusPattern {
	var all []corpusPattern
	testdata(t, "regexes.jsonl", func(line []byte) {
		var p corpusPattern
		if err := json.Unmarshal(line, &p); err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	})
	return all
}

// corpusTexts gives the sample lines of a filter, each also without its first words, where a date and a name stand.
func corpusTexts(t testing.TB, filter string) [][]byte {
	var texts [][]byte
	name := filepath.Join("corpus", filter+".jsonl")
	if _, err := os.Stat(filepath.Join(os.Getenv("TOCSIN_TESTDATA"), "fail2ban", name)); err != nil {
		return nil
	}
	testdata(t, name, func(line []byte) {
		var row struct{ Lines []string }
		if err := json.Unmarshal(line, &row); err != nil {
			t.Fatal(err)
		}
		texts = append(texts, []byte(joinLines(row.Lines)))
		for _, l := range row.Lines {
			rest := []byte(l)
			for range 8 {
				texts = append(texts, rest)
				i := bytes.IndexByte(rest, ' ')
				if i < 0 {
					break
				}
				if i > 0 {
					texts = append(texts, rest[i:])
				}
				rest = rest[i+1:]
			}
		}
	})
	return texts
}

func joinLines(lines []string) string {
	var b bytes.Buffer
	for i, l := range lines {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(l)
	}
	return b.String()
}

// TestCorpusPatterns asks Python about every pattern of fail2ban's filters, on the sample lines of its filter.
func TestCorpusPatterns(t *testing.T) {
	patterns := corpusPatterns(t)
	o := newOracle(t)
	texts := map[string][][]byte{}
	regular, compiled := 0, 0
	for _, p := range patterns {
		if _, ok := texts[p.Filter]; !ok {
			texts[p.Filter] = corpusTexts(t, p.Filter)
		}
		if !o.compare(t, p.Regex, p.flags(), texts[p.Filter], Options{}) {
			continue
		}
		compiled++
		re, _ := Compile(p.Regex, p.flags())
		if re.Regular() {
			regular++
		} else if p.Kind != "datepattern" {
			t.Logf("%s needs the exact matcher: %.200s", p.Filter, p.Regex)
		}
	}
	t.Logf("%d of %d patterns compile, %d are decided by the automaton alone", compiled, len(patterns), regular)
}

// TestCorpusSearches repeats every search that fail2ban made over its own samples.
func TestCorpusSearches(t *testing.T) {
	searches, hits := 0, 0
	testdata(t, "corpus/extra/searches.jsonl", func(line []byte) {
		var row struct {
			Regex     string
			Multiline bool
			Cases     [][2]json.RawMessage
		}
		if err := json.Unmarshal(line, &row); err != nil {
			t.Fatal(err)
		}
		p := corpusPattern{Multiline: row.Multiline}
		re, err := Compile(row.Regex, p.flags())
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range []Options{{}, {CacheBytes: 1}} {
			set, err := NewSet([]*Regexp{re}, o)
			if err != nil {
				t.Fatal(err)
			}
			m := set.NewMatcher()
			for _, c := range row.Cases {
				var text string
				var want map[string]*string
				if err := json.Unmarshal(c[0], &text); err != nil {
					t.Fatal(err)
				}
				if err := json.Unmarshal(c[1], &want); err != nil {
					t.Fatal(err)
				}
				searches++
				got := m.Search([]byte(text)) == 0
				if got != (want != nil) {
					t.Fatalf("%q on %q: %v, want %v", row.Regex, text, got, want)
				}
				if !got {
					continue
				}
				hits++
				holdsRequired(t, re, text)
				for g, name := range re.GroupNames() {
					if name == "" {
						continue
					}
					start, end := m.Group(g)
					switch w := want[name]; {
					case w == nil && start >= 0, w != nil && start < 0:
						t.Fatalf("%q on %q: group %s at %d, want %v", row.Regex, text, name, start, w)
					case w != nil && text[start:end] != *w:
						t.Fatalf("%q on %q: group %s is %q, want %q", row.Regex, text, name, text[start:end], *w)
					}
				}
			}
		}
	})
	t.Logf("%d searches, %d hits", searches, hits)
}

// BenchmarkSshd is BenchmarkLog with the rules of fail2ban's own sshd filter.
func BenchmarkSshd(b *testing.B) {
	var prefix string
	var rules []string
	for _, p := range corpusPatterns(b) {
		if p.Filter != "sshd" || !slices.ContainsFunc(p.Variants, func(v json.RawMessage) bool { return string(v) == "{}" }) {
			continue
		}
		switch p.Kind {
		case "prefregex":
			prefix = p.Regex
		case "failregex":
			rules = append(rules, p.Regex)
		}
	}
	benchmarkLog(b, prefix, rules)
}
