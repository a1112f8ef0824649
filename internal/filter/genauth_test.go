package filter

import (
	"bufio"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"tocsin"
)

// TestGeneratedAttack runs the generator named by TOCSIN_GENAUTH and compares who would be banned, after 5 failures
// within 10 minutes, with what it knows. Everybody with 5 lines "Failed ..." must be, and nobody but an attacker may be:
// some have fewer such lines and more connections that they closed before a password was refused, as an attempt with a
// key looks at LogLevel INFO.
func TestGeneratedAttack(t *testing.T) {
	gen := os.Getenv("TOCSIN_GENAUTH")
	if gen == "" {
		t.Skip("TOCSIN_GENAUTH is not set: no generator of an auth.log with its truth")
	}
	log, truth := generateAuth(t, gen, 200_000)
	times := countFailures(t, log)
	must, more := 0, 0
	for addr, p := range truth {
		got := banned(times[addr])
		switch {
		case p.max600 >= 5:
			must++
			if !got {
				t.Errorf("%s (%s): not banned with %d failed passwords in 10 minutes", addr, p.role, p.max600)
			}
		case got && p.role != "attacker":
			t.Errorf("%s (%s) is banned", addr, p.role)
		case got:
			more++
		}
	}
	for addr := range times {
		if _, ok := truth[addr]; !ok {
			t.Errorf("%s is blamed, and was never there", addr)
		}
	}
	t.Logf("%d offenders banned, and %d attackers for connections closed before a password was refused", must, more)
}

// peer is what the generator knows of an address.
type peer struct {
	role   string // attacker, legit, typo, monitor, decoy
	max600 int    // the most lines "Failed ..." within 10 minutes
}

// generateAuth writes an auth.log of n lines, and says what is known of each address in it.
func generateAuth(t *testing.T, gen string, n int) (log string, truth map[netip.Addr]peer) {
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
	truth = map[netip.Addr]peer{}
	for l := range strings.Lines(string(text)) {
		col := strings.Split(strings.TrimSpace(l), "\t") // addr family role .. max600 first last
		if col[0] == "addr" {
			continue
		}
		max600, err := strconv.Atoi(col[10])
		if err != nil {
			t.Fatalf("truth %q: %v", l, err)
		}
		truth[netip.MustParseAddr(col[0])] = peer{role: col[2], max600: max600}
	}
	return log, truth
}

// countFailures is when each address failed, by the shipped filter sshd.
func countFailures(t *testing.T, log string) map[netip.Addr][]time.Time {
	t.Helper()
	file, err := os.Open(log)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	f := sampleFilter(t, "sshd")
	times := map[netip.Addr][]time.Time{}
	for sc := bufio.NewScanner(file); sc.Scan(); {
		if r := f.Line(&tocsin.Record{Text: sc.Bytes()}); r.Kind == Failed {
			addr := r.Failure.Prefix.Addr()
			times[addr] = append(times[addr], r.Failure.At)
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
