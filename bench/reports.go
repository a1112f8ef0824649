package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"tocsin"
	"tocsin/internal/api"
	"tocsin/internal/daemon"
	"tocsin/internal/store"
)

// queued is how many reports wait when the watch process is started.
const queued = 100_000

// reports measures the start of a watch process whose queue is long: until its socket tells how many reports wait.
func reports(ctx context.Context, b *bench) error {
	dir := filepath.Join(b.dir, "reports")
	state := filepath.Join(dir, "state")
	conf := fmt.Sprintf("state = %q\nsocket = %q\n[report]\nenabled = true\n", state, filepath.Join(dir, "no-guard"))
	if err := errors.Join(os.MkdirAll(state, 0o755), os.WriteFile(filepath.Join(dir, "tocsin.toml"), []byte(conf), 0o644)); err != nil {
		return err
	}
	if err := fillQueue(ctx, state); err != nil {
		return err
	}
	program := b.tocsin
	if os.Geteuid() == 0 { // it does not run as root, and somebody else may not look into our folders
		program = filepath.Join(dir, "tocsin")
		if out, err := exec.Command("install", "-m", "755", b.tocsin, program).CombinedOutput(); err != nil {
			return fmt.Errorf("copy the program: %w: %s", err, out)
		}
		if out, err := exec.Command("chown", "-R", strconv.Itoa(stranger), state).CombinedOutput(); err != nil {
			return fmt.Errorf("give the files away: %w: %s", err, out)
		}
		if err := os.Chmod(b.dir, 0o755); err != nil {
			return err
		}
	}
	u, err := best(5, func() (usage, error) { return startWatch(ctx, program, dir) })
	if err != nil {
		return err
	}
	fmt.Printf("start with %d reports in the queue: %.3f s, CPU %.2f s, peak %.1f MB resident\n", queued, u.wall.Seconds(), u.cpu.Seconds(), float64(u.peakKB)/1024)
	return nil
}

// stranger is a user that nobody is.
const stranger = 65533

// fillQueue writes the queue of a day on which much happened and nothing could be sent: half of the reports are still held.
func fillQueue(ctx context.Context, state string) error {
	folder := daemon.WatchFolder(state)
	if err := os.MkdirAll(folder, 0o750); err != nil {
		return err
	}
	w, err := store.OpenWatch(filepath.Join(folder, "watch.db"), nil)
	if err != nil {
		return err
	}
	now := time.Now()
	c := tocsin.ReportChange{Numbers: map[string]int64{"cursor": queued, "why.yes": queued}}
	for i, p := range spread(queued, 7001, 32) {
		at := now.Add(-time.Duration(i) * time.Second / 2)
		r := tocsin.QueuedReport{Addr: p.Addr(), Report: tocsin.Report{Categories: []int{18, 22}, Service: 1, Failures: 5, First: at, Last: at, Queued: at}}
		if i%2 == 0 {
			r.Hold = now.Add(time.Hour)
		}
		c.Put = append(c.Put, r)
	}
	_, err = w.Apply(ctx, c)
	return errors.Join(err, w.Close())
}

// startWatch starts a watch process on one core and ends it once it has answered.
func startWatch(ctx context.Context, program, dir string) (u usage, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "taskset", "-c", "0", program, "--config", filepath.Join(dir, "tocsin.toml"), "watch")
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: stranger, Gid: stranger}}
	}
	client := api.NewWatchClient(daemon.WatchSocket(filepath.Join(dir, "state")))
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		return u, err
	}
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if werr := cmd.Wait(); err == nil && werr != nil {
			err = fmt.Errorf("the watch process: %w", werr)
		}
	}()
	for {
		r, err := client.Reputation(ctx)
		if err == nil {
			u.wall = time.Since(begin)
			if n := r.Reports.Queued + r.Reports.Held; n != queued {
				return u, fmt.Errorf("%d reports wait, want %d", n, queued)
			}
			break
		}
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return u, fmt.Errorf("the watch process does not answer: %w", err)
		}
	}
	if u.cpu, err = cpuOf(cmd.Process.Pid); err != nil {
		return u, err
	}
	u.peakKB, err = statusOf(cmd.Process.Pid, "VmHWM")
	return u, err
}
