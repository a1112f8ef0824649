package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// This file measures programs that go on while they are measured.

// cpuClock is the processor time that a process has used, threads that have ended with it, to the nanosecond: the kernel has a
// clock for each process (clock_getcpuclockid(3)).
func cpuClock(pid int) (time.Duration, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|2), &ts); err != nil {
		return 0, fmt.Errorf("processor time of %d: %w", pid, err)
	}
	return time.Duration(ts.Nano()), nil
}

// statOf are the numbers that the kernel tells of a process, by their place in proc_pid_stat(5); the first two are no numbers.
func statOf(pid int) ([]int64, error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return nil, err
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	all := []int64{0, 0, 0} // they are counted from 1
	for _, f := range strings.Fields(rest) {
		n, _ := strconv.ParseInt(f, 10, 64) // one is a letter
		all = append(all, n)
	}
	if len(all) < 20 {
		return nil, fmt.Errorf("stat of %d has %d fields", pid, len(all))
	}
	return all, nil
}

// withChildren is what a process and the children that it has waited for have used, in ticks of 10 ms.
func withChildren(pid int) (time.Duration, error) {
	s, err := statOf(pid)
	if err != nil {
		return 0, err
	}
	return time.Duration(s[14]+s[15]+s[16]+s[17]) * 10 * time.Millisecond, nil
}

// family are a process and all that descend from it.
func family(pid int) (all []int) {
	all = []int{pid}
	for i := 0; i < len(all); i++ {
		files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", all[i]))
		for _, f := range files {
			text, _ := os.ReadFile(f) // the thread may have ended
			for _, word := range strings.Fields(string(text)) {
				if child, err := strconv.Atoi(word); err == nil && !slices.Contains(all, child) {
					all = append(all, child)
				}
			}
		}
	}
	return all
}

// proportional is the resident set of a process where what it shares counts for each in part, in KB (PSS of
// /proc/PID/smaps_rollup).
func proportional(pid int) (int64, error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "smaps_rollup"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "Pss:" {
			return strconv.ParseInt(f[1], 10, 64)
		}
	}
	return 0, fmt.Errorf("no Pss of %d", pid)
}

// watching is a watch process without a guard, as a hub is, that others ask over the network.
type watching struct {
	cmd    *exec.Cmd
	flags  []string
	tocsin string
	listen string // host:port
	opened time.Duration
}

// nobody is who the watch process runs as: it refuses to be root.
const nobody = 65533

// startWatching starts a watch process whose files lie in dir, and waits until it answers. dir may be used again.
func startWatching(ctx context.Context, b *bench, dir string) (*watching, error) {
	for _, d := range []string{b.dir, dir, filepath.Join(dir, "state"), filepath.Join(dir, "state", "watch")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, err
		}
		if err := os.Chmod(d, 0o755); err != nil {
			return nil, err
		}
	}
	if err := os.Chown(filepath.Join(dir, "state", "watch"), nobody, nobody); err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	w := &watching{tocsin: filepath.Join(b.dir, "tocsin"), listen: fmt.Sprintf("127.0.0.1:%d", port)}
	if _, err := os.Stat(w.tocsin); err != nil { // where everybody may run it
		text, err := os.ReadFile(b.tocsin)
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(w.tocsin, text, 0o755); err != nil {
			return nil, err
		}
	}
	config := filepath.Join(dir, "tocsin.toml")
	if err := os.WriteFile(config, fmt.Appendf(nil, "listen = %q\n[watch]\nname = \"hub\"\nmunin_plugins = \"\"\n", w.listen), 0o644); err != nil {
		return nil, err
	}
	w.flags = []string{"--state", filepath.Join(dir, "state"), "--socket", filepath.Join(dir, "guard.sock"), "--config", config}
	w.cmd = exec.CommandContext(ctx, w.tocsin, append(w.flags, "watch")...)
	w.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}, Pdeathsig: syscall.SIGKILL}
	log, err := os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	w.cmd.Stderr = log
	begin := time.Now()
	if err := w.cmd.Start(); err != nil {
		return nil, err
	}
	for {
		if r, err := http.Get("http://" + w.listen + "/healthz"); err == nil {
			r.Body.Close()
			if r.StatusCode == http.StatusOK {
				break
			}
		}
		if time.Since(begin) > 5*time.Minute {
			w.kill()
			text, _ := os.ReadFile(log.Name())
			return nil, fmt.Errorf("the watch process does not answer: %s", text)
		}
		time.Sleep(20 * time.Millisecond)
	}
	w.opened = time.Since(begin)
	return w, nil
}

func (w *watching) pid() int { return w.cmd.Process.Pid }

// kill ends it as a power cut would.
func (w *watching) kill() {
	_ = w.cmd.Process.Kill()
	_ = w.cmd.Wait() // it was killed
}

// token makes a token of a scope.
func (w *watching) token(ctx context.Context, scope string) (string, error) {
	out, err := exec.CommandContext(ctx, w.tocsin, append(w.flags, "token", "add", "bench-"+scope, "--scope", scope)...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("make a token: %w\n%s", err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// resident is what the process has resident now, and had at most.
func (w *watching) resident() string {
	now, err := statusOf(w.pid(), "VmRSS")
	most, err2 := statusOf(w.pid(), "VmHWM")
	if err != nil || err2 != nil {
		return "unknown"
	}
	return fmt.Sprintf("%.0f MB (peak %.0f)", float64(now)/1e3, float64(most)/1e3)
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// load is how busy the machine was in the last minute: wall times are worth as much as it is low.
func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "load unknown"
	}
	one, _, _ := strings.Cut(string(text), " ")
	return "load " + one
}
