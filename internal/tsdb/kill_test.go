package tsdb

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql"

	"tocsin"
)

// childDir and childFrom make a child of the test binary: the folder of its store, and its first round.
const (
	childDir  = "TOCSIN_TSDB_CHILD_DIR"
	childFrom = "TOCSIN_TSDB_CHILD_FROM"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		from, _ := strconv.Atoi(os.Getenv(childFrom))
		fmt.Println(child(context.Background(), dir, from))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

const (
	childSeries = 20
	childRound  = time.Minute
)

// child appends a sample to each series every minute of a time that passes quickly, from a round on, says so when it is
// acknowledged, and rolls up, merges and removes all the while, until it is killed.
func child(ctx context.Context, dir string, from int) error {
	c := &clock{t0.Add(time.Duration(from) * childRound)}
	d, err := Open(ctx, Options{Dir: dir, Now: c.now, Every: -1})
	if err != nil {
		return err
	}
	for round := from; ; round++ {
		c.t = t0.Add(time.Duration(round) * childRound)
		var samples []tocsin.Sample
		for i := range childSeries {
			samples = append(samples, tocsin.Sample{Series: series(i), T: c.t.UnixMilli(), Value: float64(round)})
		}
		if taken, err := d.Append(ctx, samples); err != nil || taken.Stored+taken.Double != childSeries {
			return fmt.Errorf("%+v: %w", taken, err)
		}
		fmt.Println("acknowledged", round)
		if round%30 == 0 {
			if err := d.Maintain(ctx); err != nil {
				return err
			}
		}
	}
}

// Killed at any moment, in the middle of writing, rolling up and merging: what was acknowledged is there, once.
func TestKilled(t *testing.T) {
	dir := t.TempDir()
	acknowledged := -1
	for life := range 6 {
		cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
		cmd.Env = append(os.Environ(), childDir+"="+dir, childFrom+"="+strconv.Itoa(acknowledged+1))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// Each life ends at another moment: behind some rounds, and a little later.
		goal := acknowledged + 150 + life*37
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			round := 0
			if n, _ := fmt.Sscanf(lines.Text(), "acknowledged %d", &round); n != 1 {
				t.Fatalf("life %d: %s", life, lines.Text())
			}
			acknowledged = round
			if round == goal {
				time.AfterFunc(time.Duration(life)*7*time.Millisecond, func() { cmd.Process.Kill() })
			}
		}
		cmd.Wait()
	}
	t.Logf("acknowledged %d rounds in six lives", acknowledged+1)
	end := t0.Add(time.Duration(acknowledged) * childRound)
	c := &clock{end}
	d := store(t, c, func(o *Options) { o.Dir = dir })
	check := func() {
		t.Helper()
		for i := range childSeries {
			expr := fmt.Sprintf(`munin{node="web%d",field="f%d"}`, i/10, i%10)
			m := rangeOf(t, d, expr, t0, end, childRound)
			if len(m) != 1 || len(m[0].Floats) != acknowledged+1 {
				t.Fatalf("%s: %d series, want %d rounds", expr, len(m), acknowledged+1)
			}
			for round, p := range m[0].Floats {
				if p.F != float64(round) {
					t.Fatalf("%s: round %d is %v", expr, round, p.F)
				}
			}
		}
		r, err := d.Query(t.Context(), fmt.Sprintf(`sum(count_over_time(munin[%dm]))`, acknowledged+10), end)
		if err != nil {
			t.Fatal(err)
		}
		if n := int(r.Value.(promql.Vector)[0].F); n != (acknowledged+1)*childSeries {
			t.Errorf("%d samples, want %d", n, (acknowledged+1)*childSeries)
		}
	}
	check()
	if err := d.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	check()
	for _, sub := range []string{"raw", "5m", "1h"} {
		left, err := filepath.Glob(filepath.Join(dir, sub, "*.tmp-*"))
		if err != nil || len(left) > 0 {
			t.Errorf("left behind: %v %v", left, err)
		}
	}
}

func TestDamagedBlock(t *testing.T) {
	for _, file := range []string{"index", "meta.json", "chunks/000001"} {
		t.Run(file, func(t *testing.T) {
			c := &clock{t0}
			dir := t.TempDir()
			d := store(t, c, func(o *Options) { o.Dir = dir })
			feed(t, d, c, t0.Add(7*time.Hour), 1, noise)
			block := d.levels[fiveMinutes].list()[0].Dir()
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(block, file), []byte("{garbage"), 0o600); err != nil {
				t.Fatal(err)
			}
			var log logged
			again := store(t, c, func(o *Options) { o.Dir = dir }, log.option)
			if lines := log.lines(); len(lines) != 1 || lines[0] == "" {
				t.Errorf("logged %q, want one line", lines)
			}
			if s := again.Stats(); s.Damaged != 1 {
				t.Errorf("%d damaged blocks, want 1", s.Damaged)
			}
			if moved, _ := filepath.Glob(filepath.Join(dir, "damaged", "5m-*")); len(moved) != 1 {
				t.Errorf("moved aside: %v", moved)
			}
			// What raw still has is rolled up again.
			if err := again.Maintain(t.Context()); err != nil {
				t.Fatal(err)
			}
			m := rangeOf(t, again, "munin", t0.Add(5*time.Minute), t0.Add(6*time.Hour), 5*time.Minute)
			if len(m) != 1 || len(m[0].Floats) != 72 || again.levels[fiveMinutes].list()[0].MinTime() != t0.UnixMilli() {
				t.Error("the damaged block was not made anew")
			}
		})
	}
}

func TestDamagedLog(t *testing.T) {
	c := &clock{t0}
	dir := t.TempDir()
	d := store(t, c, func(o *Options) { o.Dir = dir })
	feed(t, d, c, t0.Add(time.Hour), 5, noise)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	segments, err := filepath.Glob(filepath.Join(dir, "raw", "wal", "0*"))
	if err != nil || len(segments) == 0 {
		t.Fatal(segments, err)
	}
	text, err := os.ReadFile(segments[0])
	if err != nil {
		t.Fatal(err)
	}
	end := len(bytes.TrimRight(text, "\x00")) // the last page is not full
	for i := end * 3 / 4; i < end*3/4+50; i++ {
		text[i] ^= 0x55
	}
	if err := os.WriteFile(segments[0], text, 0o600); err != nil {
		t.Fatal(err)
	}
	var log logged
	again := store(t, c, func(o *Options) { o.Dir = dir }, log.option)
	if lines := log.lines(); len(lines) != 1 || lines[0] == "" {
		t.Errorf("logged %q, want one line", lines)
	}
	r, err := again.Query(t.Context(), `sum(count_over_time(munin[1h]))`, c.t)
	if err != nil {
		t.Fatal(err)
	}
	if n := r.Value.(promql.Vector)[0].F; n < 900 || n >= 1800 {
		t.Errorf("%v of 1800 samples are there, want most of the part before the damage", n)
	}
	if _, err := again.Append(t.Context(), one(c.t.Add(time.Second), 1)); err != nil {
		t.Error(err)
	}
}

// Closed and opened over and over, between any two samples.
func TestRestarts(t *testing.T) {
	c := &clock{t0}
	dir := t.TempDir()
	for i := range 8 {
		d := store(t, c, func(o *Options) { o.Dir = dir })
		feed(t, d, c, c.t.Add(50*time.Minute+time.Duration(i)*10*time.Second), 2, noise)
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
	d := store(t, c, func(o *Options) { o.Dir = dir })
	for _, step := range []time.Duration{10 * time.Second, 5 * time.Minute} {
		m := rangeOf(t, d, `munin{field="f1"}`, t0.Add(step), c.t, step)
		if want := int(c.t.Sub(t0) / step); len(m) != 1 || len(m[0].Floats) != want {
			t.Errorf("steps of %s: %d points, want %d", step, len(m[0].Floats), want)
		}
	}
}
