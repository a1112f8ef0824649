package source

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tocsin"
)

// got collects what a source brings, for another goroutine to look at.
type got struct {
	mu    sync.Mutex
	texts []string
	recs  []tocsin.Record // without Text
	marks []Mark
}

func (g *got) sink() Sink {
	return Sink{
		Record: func(r *tocsin.Record) {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.texts = append(g.texts, string(r.Text))
			c := *r
			c.Text = nil
			g.recs = append(g.recs, c)
		},
		Mark: func(m Mark) {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.marks = append(g.marks, m)
		},
	}
}

func (g *got) lines() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return strings.Join(g.texts, " ")
}

// seen writes which lines were read again, one letter each: s for seen, n for news.
func (g *got) seen() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var b strings.Builder
	for _, r := range g.recs {
		if r.Seen {
			b.WriteByte('s')
		} else {
			b.WriteByte('n')
		}
	}
	return b.String()
}

// lastMarks are the newest marks, one a path.
func (g *got) lastMarks() (marks []Mark) {
	g.mu.Lock()
	defer g.mu.Unlock()
	at := make(map[string]int)
	for _, m := range g.marks {
		if i, ok := at[m.Path]; ok {
			marks[i] = m
			continue
		}
		at[m.Path] = len(marks)
		marks = append(marks, m)
	}
	return marks
}

// runner is what every source is.
type runner interface {
	Run(context.Context, Sink) error
	Stats() Stats
}

// start runs a source until the test ends or stop is called, which waits for it.
func start(t *testing.T, r runner, g *got) (stop func()) {
	t.Helper()
	return startSink(t, r, g.sink())
}

func startSink(t *testing.T, r runner, s Sink) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx, s) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run = %v, want nil", err)
			}
		case <-time.After(time.Minute):
			t.Error("Run does not end")
		}
	})
	t.Cleanup(stop)
	return stop
}

// eventually waits until ok holds, and says what was there if it does not.
func eventually(t *testing.T, what string, ok func() bool, state func() any) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within a minute; have %v", what, state())
		}
	}
}

func (g *got) want(t *testing.T, want string) {
	t.Helper()
	eventually(t, "lines "+want, func() bool { return len(g.lines()) >= len(want) }, func() any { return g.lines() })
	if g.lines() != want {
		t.Fatalf("lines %q, want %q", g.lines(), want)
	}
}

func (g *got) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.texts)
}

func newFile(t *testing.T, o FileOptions) *File {
	t.Helper()
	o.Name = "file:" + o.Pattern
	f, err := NewFile(o)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func write(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestRotations: each way in which a file at a path becomes another one. The step runs when "a1 a2" has been read.
func TestRotations(t *testing.T) {
	tests := []struct {
		name string
		step func(t *testing.T, dir, log string)
		want string
	}{
		{"appended", func(t *testing.T, dir, log string) { write(t, log, "b1\n") }, "a1 a2 b1"},
		{"renamed, created", func(t *testing.T, dir, log string) {
			must(t, os.Rename(log, log+".1"))
			write(t, log, "b1\n")
		}, "a1 a2 b1"},
		{"writer goes on in the old file", func(t *testing.T, dir, log string) {
			f, err := os.OpenFile(log, os.O_APPEND|os.O_WRONLY, 0)
			must(t, err)
			defer f.Close()
			must(t, os.Rename(log, log+".1"))
			f.WriteString("a3\n")
			write(t, log, "b1\n")
		}, "a1 a2 a3 b1"},
		{"renamed, created twice", func(t *testing.T, dir, log string) {
			must(t, os.Rename(log, log+".2"))
			write(t, log, "b1\n")
			must(t, os.Rename(log, log+".1"))
			write(t, log, "c1\n")
		}, "a1 a2 b1 c1"},
		{"copied, truncated", func(t *testing.T, dir, log string) {
			b, err := os.ReadFile(log)
			must(t, err)
			must(t, os.WriteFile(log+".1", b, 0o600))
			must(t, os.Truncate(log, 0))
			write(t, log, "b1\n")
		}, "a1 a2 b1"},
		{"truncated and grown beyond the old end at once", func(t *testing.T, dir, log string) {
			must(t, os.WriteFile(log, []byte("b1\nb2\nb3\nb4\n"), 0o600))
		}, "a1 a2 b1 b2 b3 b4"},
		{"truncated to a hole", func(t *testing.T, dir, log string) {
			f, err := os.OpenFile(log, os.O_WRONLY, 0)
			must(t, err)
			defer f.Close()
			must(t, os.Truncate(log, 0))
			_, err = f.WriteAt([]byte("b1\n"), 100<<10)
			must(t, err)
		}, "a1 a2 b1"},
		{"deleted, created", func(t *testing.T, dir, log string) {
			must(t, os.Remove(log))
			write(t, log, "b1\n")
		}, "a1 a2 b1"},
		{"link switched", func(t *testing.T, dir, log string) {
			must(t, os.Rename(log, filepath.Join(dir, "old")))
			write(t, filepath.Join(dir, "new"), "b1\n")
			must(t, os.Symlink("new", filepath.Join(dir, "link")))
			must(t, os.Rename(filepath.Join(dir, "link"), log))
		}, "a1 a2 b1"},
		{"target of the link rotated", func(t *testing.T, dir, log string) {
			sub := filepath.Join(dir, "sub")
			must(t, os.Mkdir(sub, 0o700))
			write(t, filepath.Join(sub, "x"), "b1\n")
			must(t, os.Remove(log))
			must(t, os.Symlink("sub/x", log))
			must(t, os.Rename(filepath.Join(sub, "x"), filepath.Join(sub, "x.1")))
			write(t, filepath.Join(sub, "x"), "c1\n")
		}, ""},
		{"directory made anew", func(t *testing.T, dir, log string) {
			must(t, os.Rename(dir, dir+".old"))
			must(t, os.Mkdir(dir, 0o700))
			write(t, log, "b1\n")
		}, "a1 a2 b1"},
	}
	for _, tt := range tests {
		for _, poll := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/poll=%v", tt.name, poll), func(t *testing.T) {
				t.Parallel()
				dir := filepath.Join(t.TempDir(), "log")
				must(t, os.Mkdir(dir, 0o700))
				log := filepath.Join(dir, "auth.log")
				write(t, log, "a1\na2\n")
				f := newFile(t, FileOptions{Pattern: log, FromStart: true, Poll: poll})
				var g got
				start(t, f, &g)
				g.want(t, "a1 a2")
				tt.step(t, dir, log)
				if tt.want == "" { // what was read in between depends on who was faster
					eventually(t, "c1", func() bool { return strings.HasSuffix(g.lines(), "c1") }, func() any { return g.lines() })
					return
				}
				g.want(t, tt.want)
			})
		}
	}
}
