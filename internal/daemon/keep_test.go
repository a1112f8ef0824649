package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tocsin/internal/exec"
)

// What ends is started again: after a second, then after twice as long each time, and at once seldom after it was well.
func TestKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		began := time.Now()
		var mu sync.Mutex
		var starts []time.Duration
		lives := func(n int) time.Duration {
			if n == 9 {
				return time.Hour
			}
			return 0
		}
		idle := false
		k := &kept{name: "x", what: "the x process", lacks: "nothing works", log: slog.New(slog.DiscardHandler)}
		k.wanted = func() bool {
			mu.Lock()
			defer mu.Unlock()
			return !idle
		}
		k.start = func() (<-chan error, error) {
			mu.Lock()
			defer mu.Unlock()
			starts = append(starts, time.Since(began))
			n := len(starts)
			if n == 3 {
				return nil, errors.New("no such program")
			}
			ended := make(chan error, 1)
			time.AfterFunc(lives(n), func() {
				mu.Lock()
				idle = n == 11
				mu.Unlock()
				ended <- nil
			})
			return ended, nil
		}
		done := make(chan struct{})
		go func() { defer close(done); k.run(ctx, k.begin()) }()
		time.Sleep(2 * time.Hour)
		mu.Lock()
		want := "[0s 1s 3s 7s 15s 31s 1m3s 2m3s 3m3s 1h3m4s 1h3m6s]"
		if got := fmt.Sprint(starts); got != want {
			t.Errorf("started after %s, want %s", got, want)
		}
		if n, _, _, last := k.look(); n != 10 || last == nil {
			t.Errorf("%d ends, the last %v; want 10 that nobody wanted", n, last)
		}
		idle = false
		mu.Unlock()
		time.Sleep(time.Minute)
		mu.Lock()
		if len(starts) < 12 {
			t.Error("not started again when there was something to do")
		}
		mu.Unlock()
		cancel()
		<-done
	})
}

func TestKeptWithoutStarter(t *testing.T) {
	k := &kept{what: "the x process", lacks: "nothing works", log: slog.New(slog.DiscardHandler)}
	k.start = func() (<-chan error, error) { return nil, errStarterGone }
	k.run(t.Context(), k.begin()) // it returns: nobody can help
	g := &Guard{kept: []*kept{k}}
	var f findings
	if g.findKept(&f); len(f) != 1 || f[0].Code != "TOC-RUN-003" || f[0].Fix != "start the guard again" {
		t.Errorf("findings %+v", f)
	}
}

// The starter starts what it was told before, each once at a time, and hands over the line of a runner.
func TestStarter(t *testing.T) {
	conn, childs, err := packets()
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := exec.Inherited(dup(t, childs))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		// The tests' program can be a resolver, which takes its line as a runner does.
		done <- RunStarter(StarterOptions{Guard: theirs, Runner: []string{"resolver"}, Log: slog.New(slog.DiscardHandler)})
	}()
	s := newStarter(conn)
	if ended, err := s.start("a shell", nil); err != nil || !strings.Contains(fmt.Sprint(<-ended), "asked for") {
		t.Errorf("something else was started: %v", err)
	}
	start := func() (net.Conn, <-chan error) {
		t.Helper()
		ours, file, err := exec.Pair()
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		ended, err := s.start(theRunner, file)
		if err != nil {
			t.Fatal(err)
		}
		return ours, ended
	}
	for range 2 {
		line, ended := start()
		if _, err := s.start(theRunner, nil); err == nil {
			t.Error("a second one was started")
		}
		_ = line.Close()
		if err := <-ended; err != nil {
			t.Errorf("ended with %v, want well", err)
		}
	}
	line, ended := start()
	_ = conn.CloseWrite() // as if the guard had ended
	_ = line.Close()
	if err := <-done; err != nil {
		t.Errorf("RunStarter() = %v", err)
	}
	_ = theirs.Close()
	<-ended
	if _, err := s.start(theRunner, nil); err == nil {
		t.Error("started without a starter")
	}
}

// What a program said when it crashed is logged from its first line on; what merely ended badly said its reason already.
func TestLogCrash(t *testing.T) {
	var log strings.Builder
	s := starting{o: StarterOptions{Log: slog.New(slog.NewTextHandler(&log, nil))}}
	s.logCrash(theWatch, &exec.ExitError{Program: "tocsin", Code: 1, Stderr: "no room"})
	if log.Len() > 0 {
		t.Errorf("logged %s", log.String())
	}
	lines := make([]string, 3*mostCrashLines)
	lines[0], lines[1] = "panic: index out of range [5]", "goroutine 7 [running]:"
	s.logCrash(theWatch, fmt.Errorf("run: %w", &exec.ExitError{Program: "tocsin", Code: 2, Crash: lines}))
	got := strings.Split(strings.TrimSpace(log.String()), "\n")
	if len(got) != mostCrashLines || !strings.HasSuffix(got[0], `msg=crashed service=watch err="panic: index out of range [5]"`) || !strings.Contains(got[1], "goroutine 7") {
		t.Errorf("%d lines, the first two %q", len(got), got[:min(2, len(got))])
	}
}
