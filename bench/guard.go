package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"tocsin/e2e/lab"
)

// guarded is a lab whose victim runs the guard on a log of our own.
type guarded struct {
	*lab.Lab
	proc *lab.Proc
	log  *os.File
}

const (
	guardedProgram = "/run/lab/bin/tocsin"
	guardedLog     = "/var/log/bench.log"
	guardedConfig  = `
[[jail]]
name = "sshd"
filter = "sshd"
sources = ["file:` + guardedLog + `"]
ports = [4022]
`
)

func startGuarded(ctx context.Context, b *bench) (*guarded, error) {
	return startWith(ctx, b, guardedConfig+"[watch]\nenabled = false\n")
}

// startWith starts a guard with a configuration.
func startWith(ctx context.Context, b *bench, config string) (g *guarded, err error) {
	if why := lab.Missing(); why != "" {
		return nil, fmt.Errorf("cannot build a lab: %s", why)
	}
	l, err := lab.New(ctx)
	if err != nil {
		return nil, err
	}
	g = &guarded{Lab: l}
	defer func() {
		if err != nil {
			g.close()
		}
	}()
	text, err := os.ReadFile(b.tocsin)
	if err != nil {
		return nil, err
	}
	for _, f := range []struct {
		name, text string
		mode       os.FileMode
	}{{guardedProgram, string(text), 0o755}, {"/run/lab/tocsin.toml", config, 0o644}, {guardedLog, "", 0o640}} {
		if err := l.Victim.Write(f.name, f.text, f.mode); err != nil {
			return nil, err
		}
	}
	if g.log, err = os.OpenFile(l.Victim.Path(guardedLog), os.O_WRONLY|os.O_APPEND, 0); err != nil {
		return nil, err
	}
	flags := guardedFlags()
	if g.proc, err = l.Victim.Start(exec.Command(guardedProgram, append(flags, "run")...)); err != nil {
		return nil, err
	}
	return g, lab.Poll(ctx, 10*time.Second, func() (bool, error) {
		select {
		case <-g.proc.Done():
			return false, fmt.Errorf("the guard ended: %s", g.proc.Output())
		default:
		}
		_, err := l.Victim.Run(ctx, guardedProgram, append(flags, "status")...)
		return err == nil, nil
	})
}

func guardedFlags() []string {
	return []string{"--state", "/run/lab/state", "--socket", "/run/lab/tocsin.sock", "--config", "/run/lab/tocsin.toml"}
}

func (g *guarded) close() {
	if g.proc != nil {
		_ = g.proc.Stop(5 * time.Second)
	}
	if g.log != nil {
		g.log.Close()
	}
	if err := g.Close(); err != nil {
		fmt.Fprintln(os.Stderr, "bench: close the lab:", err)
	}
}

// idle measures what a guard costs that has nothing to do.
func idle(ctx context.Context, b *bench) error {
	g, err := startGuarded(ctx, b)
	if err != nil {
		return err
	}
	defer g.close()
	const span = 30 * time.Second
	time.Sleep(2 * time.Second) // the start is not idle
	before, err := cpuOf(g.proc.Pid())
	if err != nil {
		return err
	}
	time.Sleep(span)
	after, err := cpuOf(g.proc.Pid())
	if err != nil {
		return err
	}
	rss, err := rssOf(g.proc.Pid())
	if err != nil {
		return err
	}
	fmt.Printf("over %s: %.2f %% of a core, %.1f MB resident\n", span, 100*(after-before).Seconds()/span.Seconds(), float64(rss)/1024)
	return nil
}

// cpuOf is the processor time that a process has used (proc_pid_stat(5), utime and stime in ticks of 10 ms).
func cpuOf(pid int) (time.Duration, error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, fmt.Errorf("stat of %d has %d fields", pid, len(fields))
	}
	var ticks int
	for _, f := range fields[11:13] {
		n, err := strconv.Atoi(f)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}

// rssOf is the resident set of a process in KB.
func rssOf(pid int) (int64, error) { return statusOf(pid, "VmRSS") }

// statusOf is what the kernel tells of a process under a name, in KB (proc_pid_status(5)).
func statusOf(pid int, name string) (int64, error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, name+":"); ok {
			return strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(v), " kB"), 10, 64)
		}
	}
	return 0, fmt.Errorf("no %s of %d", name, pid)
}
