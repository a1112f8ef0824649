package main

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// A year of a large Munin.
const (
	treeFiles = 1590
	treeKinds = 20 // files that differ
	treeYear  = 450 * 24 * time.Hour
)

// importYear measures the import of a Munin master's files: as many as a large one has, made by rrdtool as Munin makes them and
// filled for 450 days.
func importYear(ctx context.Context, b *bench) error {
	tree := filepath.Join(b.dir, "munin")
	if err := makeTree(ctx, tree); err != nil {
		return err
	}
	dir := filepath.Join(b.dir, "imports")
	w, err := startWatching(ctx, b, dir)
	if err != nil {
		return err
	}
	defer w.kill()
	for i := range 2 {
		before, err := cpuClock(w.pid())
		if err != nil {
			return err
		}
		cmd := exec.CommandContext(ctx, w.tocsin, append(w.flags, "import", "munin", tree)...)
		begin := time.Now()
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("import: %w\n%s", err, out)
		}
		wall := time.Since(begin)
		after, err := cpuClock(w.pid())
		if err != nil {
			return err
		}
		lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
		fmt.Printf("import %d: %d files in %.1f s; CPU of the command %.1f s, of the watch process %.1f s, which has %s resident; %s\n  %s\n", i+1, treeFiles, wall.Seconds(),
			(cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds(), (after - before).Seconds(), w.resident(), load(), lines[len(lines)-1])
	}
	return nil
}

// makeTree has rrdtool make some files, and copies them.
func makeTree(ctx context.Context, dir string) error {
	if _, err := exec.LookPath("rrdtool"); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(dir, "bench"), 0o755); err != nil {
		return err
	}
	var commands bytes.Buffer
	end := time.Now().Truncate(5 * time.Minute)
	begin := end.Add(-treeYear)
	r := rand.New(rand.NewPCG(3, 4))
	kind := func(i int) string { return filepath.Join(dir, fmt.Sprint("kind", i)) }
	for i := range treeKinds {
		fmt.Fprintf(&commands, "create %s --step 300 --start %d DS:42:GAUGE:600:U:U", kind(i), begin.Unix())
		for _, rra := range []string{"1:576", "6:432", "24:540", "288:450"} { // Munin's graph_data_size normal
			for _, cf := range []string{"AVERAGE", "MIN", "MAX"} {
				fmt.Fprintf(&commands, " RRA:%s:0.5:%s", cf, rra)
			}
		}
		fmt.Fprint(&commands, "\n")
		n := 0
		for at := begin.Add(5 * time.Minute); !at.After(end); at = at.Add(5 * time.Minute) {
			if n%500 == 0 {
				fmt.Fprintf(&commands, "\nupdate %s", kind(i))
			}
			n++
			fmt.Fprintf(&commands, " %d:%.2f", at.Unix(), 50+40*math.Sin(float64(at.Unix())/13750)+r.Float64()*10)
		}
		fmt.Fprint(&commands, "\n")
	}
	cmd := exec.CommandContext(ctx, "rrdtool", "-")
	cmd.Stdin = &commands
	if out, err := cmd.Output(); err != nil || bytes.Contains(out, []byte("ERROR")) {
		return fmt.Errorf("rrdtool: %w\n%.500s", err, out)
	}
	for i := range treeFiles {
		text, err := os.ReadFile(kind(i % treeKinds))
		if err != nil {
			return err
		}
		name := filepath.Join(dir, "bench", fmt.Sprintf("n%d-s%d-f%d-g.rrd", i/159, i%159/5, i%5))
		if err := os.WriteFile(name, text, 0o644); err != nil {
			return err
		}
	}
	for i := range treeKinds {
		if err := os.Remove(kind(i)); err != nil {
			return err
		}
	}
	return nil
}
