package exec

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// pair is both ends of a stream, as a parent and its child hold them.
func pair(t *testing.T) (ours, childs net.Conn) {
	t.Helper()
	ours, file, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := syscall.Dup(int(file.Fd())) // what file is, it closes itself
	if err != nil {
		t.Fatal(err)
	}
	file.Close()
	if childs, err = Inherited(fd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close(); childs.Close() })
	return ours, childs
}

// serving starts a runner that does what do says, and returns who asks it.
func serving(t *testing.T, do func(context.Context, Job) Result) *Runner {
	t.Helper()
	ours, childs := pair(t)
	r := RunnerOn(ours)
	var served sync.WaitGroup
	served.Go(func() {
		if err := Serve(context.Background(), childs, do); err != nil {
			t.Errorf("Serve() = %v", err)
		}
	})
	t.Cleanup(func() { r.Close(); served.Wait() })
	return r
}

func TestRunner(t *testing.T) {
	hostile := "'; rm -rf / #`id`$(id)\n\x00\x1b[31m\u2028\"\\"
	r := serving(t, func(_ context.Context, j Job) Result {
		return Result{Ran: true, Code: len(j.Values), Out: j.Entry + j.Version + j.Do + j.Family + j.Values["v"], Problem: "p"}
	})
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			j := Job{Entry: fmt.Sprint("jail/", i), Version: "1", Do: "actionban", Family: "inet4", Values: map[string]string{"v": hostile}}
			got, err := r.Do(t.Context(), j)
			want := Result{Ran: true, Code: 1, Out: fmt.Sprint("jail/", i, "1actionbaninet4", hostile), Problem: "p"}
			if got != want || err != nil {
				t.Errorf("Do(%v) = %+v, %v", j, got, err)
			}
		})
	}
	wg.Wait()
}

func TestRunnerAnswersInAnyOrder(t *testing.T) {
	slow := make(chan struct{})
	r := serving(t, func(_ context.Context, j Job) Result {
		if j.Do == "slow" {
			<-slow
		}
		return Result{Out: j.Do}
	})
	done := make(chan Result, 1)
	go func() { result, _ := r.Do(context.Background(), Job{Do: "slow"}); done <- result }()
	if got, err := r.Do(t.Context(), Job{Do: "quick"}); got.Out != "quick" || err != nil {
		t.Errorf("beside a slow job: %+v, %v", got, err)
	}
	close(slow)
	if got := <-done; got.Out != "slow" {
		t.Errorf("the slow job: %+v", got)
	}
}

func TestRunnerStopsWhatNobodyWaitsFor(t *testing.T) {
	began, ended := make(chan struct{}), make(chan struct{})
	r := serving(t, func(ctx context.Context, _ Job) Result {
		close(began)
		<-ctx.Done()
		close(ended)
		return Result{}
	})
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("enough")
	go func() { <-began; cancel(reason) }()
	if _, err := r.Do(ctx, Job{}); !errors.Is(err, reason) {
		t.Errorf("Do() = %v, want the cause", err)
	}
	<-ended
}

func TestRunnerGone(t *testing.T) {
	ours, childs := pair(t)
	r := RunnerOn(ours)
	defer r.Close()
	go func() {
		_, _ = childs.Read(make([]byte, 1))
		childs.Close()
	}()
	if _, err := r.Do(t.Context(), Job{}); !errors.Is(err, ErrGone) {
		t.Errorf("a runner that dies: %v, want ErrGone", err)
	}
	if _, err := r.Do(t.Context(), Job{}); !errors.Is(err, ErrUnreachable) {
		t.Errorf("a runner that is dead: %v, want ErrUnreachable", err)
	}
}

func TestRunnerTooBig(t *testing.T) {
	r := serving(t, func(context.Context, Job) Result { return Result{Out: strings.Repeat("x", maxAnswer)} })
	if _, err := r.Do(t.Context(), Job{Do: strings.Repeat("x", maxMessage)}); !errors.Is(err, ErrTooBig) {
		t.Errorf("values beyond the bound: %v, want ErrTooBig", err)
	}
	if got, err := r.Do(t.Context(), Job{}); err != nil || got.Problem == "" {
		t.Errorf("an answer beyond the bound: %+v, %v, want a problem", got, err)
	}
}

// Everything that was begun for a connection ends with it.
func TestServeEndsJobsWithTheConnection(t *testing.T) {
	ours, childs := pair(t)
	began := make(chan struct{})
	done := make(chan error, 1)
	go func() {
		done <- Serve(context.Background(), childs, func(ctx context.Context, _ Job) Result {
			close(began)
			_, err := Run(ctx, sh("sleep 100"))
			return Result{Problem: err.Error()}
		})
	}()
	_, _ = io.WriteString(ours, `{"id":1,"job":{"entry":"a/b","do":"actionban"}}`+"\n")
	<-began
	ours.Close()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("Serve() = %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Error("a job outlived its connection")
	}
}

func TestServeRefusesNonsense(t *testing.T) {
	for _, text := range []string{"hello\n", `{"id":-1}` + "\n", strings.Repeat(" ", maxMessage+1)} {
		ours, childs := pair(t)
		done := make(chan error, 1)
		go func() {
			done <- Serve(context.Background(), childs, func(context.Context, Job) Result { return Result{} })
		}()
		go func() { _, _ = io.WriteString(ours, text) }()
		if err := <-done; err == nil {
			t.Errorf("Serve() took %.20q", text)
		}
	}
}

func TestServeAll(t *testing.T) {
	dir, err := os.MkdirTemp("", "run") // t.TempDir is too long for a socket's name
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	for _, tt := range []struct {
		name string
		in   bool
	}{{"allowed", true}, {"a stranger", false}} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(dir, "s")
			l, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			allowed := func(uid uint32) bool { return tt.in && int(uid) == os.Getuid() }
			do := func(context.Context, Job) Result { return Result{Out: "done"} }
			go func() { done <- ServeAll(ctx, l, allowed, do, slog.New(slog.DiscardHandler)) }()
			r := NewRunner(DialSocket(path))
			got, err := r.Do(t.Context(), Job{})
			if ok := err == nil && got.Out == "done"; ok != tt.in {
				t.Errorf("Do() = %+v, %v", got, err)
			}
			r.Close()
			cancel()
			if err := <-done; err != nil {
				t.Errorf("ServeAll() = %v", err)
			}
		})
	}
}

func TestReconnect(t *testing.T) {
	conns := make(chan net.Conn, 2)
	for range 2 {
		ours, childs := pair(t)
		conns <- ours
		go func() {
			_ = Serve(context.Background(), childs, func(context.Context, Job) Result {
				defer childs.Close()
				return Result{Out: "once"}
			})
		}()
	}
	r := NewRunner(func(context.Context) (net.Conn, error) { return <-conns, nil })
	defer r.Close()
	for i := 0; i < 2; {
		if _, err := r.Do(t.Context(), Job{}); err == nil || errors.Is(err, ErrGone) {
			i++
		} else {
			t.Fatalf("Do() = %v", err)
		}
	}
}

func TestUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root may become somebody else")
	}
	nobody, err := LookupUser("nobody")
	if err != nil {
		t.Skip(err)
	}
	c := sh("id -u; id -G; grep -E 'Cap(Prm|Eff|Amb)' /proc/self/status | tr -d '\\t'")
	c.User = nobody
	out, err := Run(t.Context(), c)
	none := strings.Repeat("0", 16)
	want := fmt.Sprintf("%d\n%d\nCapPrm:%s\nCapEff:%s\nCapAmb:%s\n", nobody.UID, nobody.GID, none, none, none)
	if err != nil || string(out.Stdout) != want {
		t.Errorf("as nobody: %q, %v; want %q", out.Stdout, err, want)
	}
}

func TestLeaves(t *testing.T) {
	for _, tt := range []struct {
		name   string
		leaves bool
		script string // says which process is its background
		limit  time.Duration
		want   bool // the background goes on
	}{
		{"killed", false, "sleep 1000 >/dev/null 2>&1 & echo $!", time.Minute, false},
		{"left", true, "sleep 1000 >/dev/null 2>&1 & echo $!", time.Minute, true},
		{"left, but its time is up", true, "sleep 1000 >/dev/null 2>&1 & echo $!; sleep 1000", enough, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := sh(tt.script)
			c.Leaves, c.Timeout = tt.leaves, tt.limit
			out, _ := Run(t.Context(), c)
			if !tt.want {
				waitGone(t, out.Stdout)
				return
			}
			time.Sleep(300 * time.Millisecond) // what is to be seen is that nothing happens
			pid, err := strconv.Atoi(strings.TrimSpace(string(out.Stdout)))
			if err != nil {
				t.Fatalf("no pid in %q", out.Stdout)
			}
			if ended(pid) {
				t.Error("the background was ended")
			}
			_ = syscall.Kill(pid, syscall.SIGKILL)
		})
	}
}

func TestCut(t *testing.T) {
	c := sh("yes | head -c 100000; echo end >&2")
	c.MaxOutput, c.Cut = 10, true
	out, err := Run(t.Context(), c)
	if err != nil || string(out.Stdout) != "y\ny\ny\ny\ny\n" || string(out.Stderr) != "end\n" {
		t.Errorf("got %q, %q, %v", out.Stdout, out.Stderr, err)
	}
}

func FuzzServe(f *testing.F) {
	f.Add([]byte(`{"id":1,"job":{"entry":"a/b","do":"actionban","values":{"ip":"192.0.2.1"}}}` + "\n" + `{"id":1}` + "\n"))
	f.Add([]byte(`{"id":1,"job":{}}` + "\n" + `{"id":1,"job":{}}` + "\n"))
	f.Add([]byte("null\n[]\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		ours, childs := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, ours) }()
		go func() { _, _ = ours.Write(text); ours.Close() }()
		_ = Serve(context.Background(), childs, func(_ context.Context, j Job) Result { return Result{Out: j.Do} })
	})
}
