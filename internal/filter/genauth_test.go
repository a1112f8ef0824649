package filter

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"tocsin"
)

// generateAuth writes an auth.log of n lines, and says for each address in it whether 5 failures within 10 minutes are
// to be found.
func generateAuth(t *testing.T, gen string, n int) (log string, truth map[string]bool) {
	t.Helper()
	dir := t.TempDir()
	log = filepath.Join(dir, "auth.log")
	table := filepath.Join(dir, "truth.tsv")
	cmd := exec.Command("python3", gen, "--lines", strconv.Itoa(n), "--out", log, "--truth", table)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
	text, err := os.ReadFile(table)
	if err != nil {
		t.Fatal(err)
	}
	truth = map[string]bool{}
	for l := range strings.Lines(string(text)) {
		col := strings.Split(strings.TrimSpace(l), "\t") // addr family role .. max600 first last
		if col[0] == "addr" {
			continue
		}
		max600, err := strconv.Atoi(col[10])
		if err != nil {
			t.Fatalf("truth %q: %v", l, err)
		}
		truth[col[0]] = col[2] == "attacker" && max600 >= 5
	}
	return log, truth
}

// countFailures is when each address failed, by the shipped filter sshd.
func countFailures(t *testing.T, log string) map[string][]time.Time {
	t.Helper()
	file, err := os.Open(log)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	f := sampleFilter(t, "sshd")
	times := map[string][]time.Time{}
	for sc := bufio.NewScanner(file); sc.Scan(); {
		if r := f.Line(&tocsin.Record{Text: sc.Bytes()}); r.Kind == Failed {
			times[r.Failure.ID] = append(times[r.Failure.ID], r.Failure.At)
		}
	}
	return times
}

// banned says whether 5 of the times, which are in order, lie within 10 minutes.
func banned(times []time.Time) bool {
	for i := 4; i < len(times); i++ {
		if times[i].Sub(times[i-4]) <= 10*time.Minute {
			return true
		}
	}
	return false
}
