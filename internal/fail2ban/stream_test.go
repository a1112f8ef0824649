package fail2ban

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"
)

// overlay is a folder with a few files laid over it.
type overlay struct {
	below fs.FS
	over  fstest.MapFS
}

func (o overlay) Open(name string) (fs.File, error) {
	if o.over[name] != nil {
		return o.over.Open(name)
	}
	return o.below.Open(name)
}

// recordedDumps is the folder with what fail2ban 1.0.2 answered to Debian's own /etc/fail2ban.
func recordedDumps(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("TOCSIN_TESTDATA")
	if dir == "" {
		t.Skip("TOCSIN_TESTDATA is not set: no recorded answers of fail2ban to compare with")
	}
	if _, err := os.Stat("/etc/fail2ban/jail.conf"); err != nil {
		t.Skip("no /etc/fail2ban/jail.conf: install Debian's package fail2ban to test against it")
	}
	return filepath.Join(dir, "fail2ban", "golden")
}

// readStream reads the commands of a recorded dump.
func readStream(t *testing.T, file string) [][]any {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var all [][]any
	for l := range bytes.Lines(data) {
		var c []any
		if err := json.Unmarshal(l, &c); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all = append(all, c)
	}
	return all
}

// recordedLogs finds the log files that the machine had on which the dump was made; nothing else of a dump depends on it.
func recordedLogs(stream [][]any) func(string) ([]string, error) {
	var logs []string
	seen := map[string]bool{}
	for _, c := range stream {
		if len(c) == 5 && c[2] == "addlogpath" && !seen[c[3].(string)] {
			seen[c[3].(string)] = true
			logs = append(logs, c[3].(string))
		}
	}
	return func(pattern string) ([]string, error) {
		var found []string
		for _, l := range logs {
			if ok, err := path.Match(GoPattern(pattern), l); err != nil {
				return nil, err
			} else if ok {
				found = append(found, l)
			}
		}
		return found, nil
	}
}

// plain turns a command into what reading its JSON yields.
func plain(t *testing.T, c []any) []any {
	t.Helper()
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var out []any
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestStreamRecorded compares what Load makes of Debian's /etc/fail2ban with what fail2ban-client -d printed: by default,
// and with all jails enabled under five ways to ban. Every command must be equal, in the same order.
func TestStreamRecorded(t *testing.T) {
	golden := recordedDumps(t)
	dumps, _ := filepath.Glob(filepath.Join(golden, "dump_*.jsonl"))
	if len(dumps) != 6 {
		t.Fatalf("%d recorded dumps in %s, want 6", len(dumps), golden)
	}
	equal, total := 0, 0
	for _, dump := range dumps {
		want := readStream(t, dump)
		name := strings.TrimSuffix(filepath.Base(dump), ".jsonl")
		over := fstest.MapFS{}
		if _, banaction, ok := strings.Cut(name, "."); ok {
			data, err := os.ReadFile(filepath.Join(golden, "jail.local."+banaction))
			if err != nil {
				t.Fatal(err)
			}
			over["jail.local"] = &fstest.MapFile{Data: data}
		}
		c, err := Load(LoadOptions{Dir: "/etc/fail2ban", FS: overlay{os.DirFS("/etc/fail2ban"), over}, Glob: recordedLogs(want)})
		if err != nil {
			t.Fatal(err)
		}
		if len(c.Problems) > 0 {
			t.Errorf("%s: problems %v", name, c.Problems)
		}
		for _, j := range c.Jails {
			if j.Err != nil || len(j.Problems) > 0 {
				t.Errorf("%s: jail %s: error %v, problems %v", name, j.Name, j.Err, j.Problems)
			}
		}
		got := c.Stream()
		total += len(want)
		for i, w := range want {
			if i < len(got) && reflect.DeepEqual(plain(t, got[i]), w) {
				equal++
			} else if i < len(got) {
				t.Errorf("%s: command %d:\n%s\nwant\n%s", name, i, PythonValue(got[i]), PythonValue(w))
			}
		}
		if len(got) != len(want) {
			t.Errorf("%s: %d commands, want %d", name, len(got), len(want))
		}
		text, err := os.ReadFile(strings.TrimSuffix(dump, "jsonl") + "txt")
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		for _, c := range got {
			b.WriteString(PythonValue(c) + "\n")
		}
		if b.String() != string(text) {
			t.Errorf("%s: the text of fail2ban-client -d differs", name)
		}
	}
	t.Logf("%d of %d commands equal in %d dumps", equal, total, len(dumps))
}
