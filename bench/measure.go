package main

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"time"
)

// usage is what one run of a program cost.
type usage struct {
	wall, cpu time.Duration
	peakKB    int64 // largest resident set
	stdout    []byte
}

// measure runs a program to its end on one core. time(1) stands between, because a child begins its life as large as its
// parent, and that counts as its peak.
func measure(ctx context.Context, stdin string, name string, args ...string) (usage, error) {
	peak, err := os.CreateTemp("", "peak")
	if err != nil {
		return usage{}, err
	}
	defer os.Remove(peak.Name())
	defer peak.Close()
	cmd := exec.CommandContext(ctx, "taskset", append([]string{"-c", "0", "time", "-f", "%M", "-o", peak.Name(), name}, args...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if stdin != "" {
		f, err := os.Open(stdin)
		if err != nil {
			return usage{}, err
		}
		defer f.Close()
		cmd.Stdin = f
	}
	start := time.Now()
	if err := cmd.Run(); err != nil {
		return usage{}, fmt.Errorf("%s: %w\n%s", name, err, errs.Bytes())
	}
	u := usage{wall: time.Since(start), cpu: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), stdout: out.Bytes()}
	if _, err := fmt.Fscan(peak, &u.peakKB); err != nil {
		return u, fmt.Errorf("read what time(1) says of %s: %w", name, err)
	}
	return u, nil
}

// best is the run of n that cost the least CPU: the one that others disturbed least.
func best(n int, f func() (usage, error)) (usage, error) {
	var least usage
	for i := range n {
		u, err := f()
		if err != nil {
			return u, err
		}
		if i == 0 || u.cpu < least.cpu {
			least = u
		}
	}
	return least, nil
}

// quantiles of durations: the median and the 99th percentile.
func quantiles(ds []time.Duration) (p50, p99 time.Duration) {
	if len(ds) == 0 {
		return 0, 0
	}
	slices.Sort(ds)
	return ds[len(ds)/2], ds[min(len(ds)-1, len(ds)*99/100)]
}

// prefix64 is the /64 around an IPv6 address, "" for others.
func prefix64(s string) string {
	a, err := netip.ParseAddr(s)
	if err != nil || a.Is4() {
		return ""
	}
	return netip.PrefixFrom(a, 64).Masked().String()
}
