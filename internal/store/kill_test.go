package store

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// childStore names the store that a child of this test binary writes to until it is killed.
const childStore = "TOCSIN_TEST_STORE"

func TestMain(m *testing.M) {
	if path := os.Getenv(childStore); path != "" {
		if err := putForEver(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// putForEver puts decisions from several goroutines, tells of each before it tries and after it was acknowledged.
func putForEver(path string) error {
	s, err := Open(path, Options{})
	if err != nil {
		return err
	}
	start := bans4(s) * 4
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			for n := start + worker; ; n += 4 {
				d := ban(n, 3)
				fmt.Printf("try %s\n", d.ID)
				if err := s.Put(ctx, d); err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
				fmt.Printf("done %s\n", d.ID)
			}
		})
	}
	wg.Wait()
	return nil
}

// bans4 is a number above that of every decision in s.
func bans4(s *Store) int {
	all, _ := s.Bans(Query{Limit: 1})
	if len(all) == 0 {
		return 0
	}
	a := all[0].Prefix.Addr().As4()
	return (int(a[1])<<16+int(a[2])<<8+int(a[3]))/4 + 2
}

// TestKill kills a writing process 20 times at random moments. What it was told is on the disk must be there, and nothing
// that it did not put.
func TestKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	tried, done := map[string]bool{}, map[string]bool{}
	for range 20 {
		killOnce(t, path, tried, done)
	}
	s := open(t, path, Options{})
	if s.MovedAside() != "" {
		t.Fatalf("the file was damaged: %s", s.MovedAside())
	}
	found := map[string]bool{}
	for _, b := range bans(t, s, Query{WithEvidence: true}) {
		found[b.ID] = true
		if !tried[b.ID] {
			t.Errorf("%s was never put", b.ID)
		}
		if len(b.Evidence) != 3 {
			t.Errorf("%s has %d lines, want all 3", b.ID, len(b.Evidence))
		}
	}
	for id := range done {
		if !found[id] {
			t.Errorf("%s was acknowledged and is lost", id)
		}
	}
	t.Logf("%d tried, %d acknowledged, %d found", len(tried), len(done), len(found))
	if len(done) < 20 {
		t.Errorf("only %d decisions were acknowledged", len(done))
	}
}

func killOnce(t *testing.T, path string, tried, done map[string]bool) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childStore+"="+path)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var kill *time.Timer
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		what, id, _ := strings.Cut(lines.Text(), " ")
		switch what {
		case "try":
			tried[id] = true
		case "done":
			done[id] = true
			if kill == nil {
				kill = time.AfterFunc(time.Duration(rand.IntN(50_000))*time.Microsecond, func() { cmd.Process.Kill() })
			}
		}
	}
	cmd.Wait() // always "killed"
	if kill == nil {
		t.Fatal("the child acknowledged nothing")
	}
}
