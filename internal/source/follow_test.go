package source

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tocsin"
)

// TestAppears: what does not exist yet is waited for, and is news from its first byte.
func TestAppears(t *testing.T) {
	tests := []struct {
		name, pattern string
		step          func(t *testing.T, dir string)
		want          string // in any order
	}{
		{"file", "auth.log", func(t *testing.T, dir string) { write(t, dir+"/auth.log", "a\n") }, "a"},
		{"file, moved there", "auth.log", func(t *testing.T, dir string) {
			write(t, dir+"/x", "a\n")
			must(t, os.Rename(dir+"/x", dir+"/auth.log"))
		}, "a"},
		{"directories", "x/y/auth.log", func(t *testing.T, dir string) {
			must(t, os.MkdirAll(dir+"/x/y", 0o700))
			write(t, dir+"/x/y/auth.log", "a\n")
		}, "a"},
		{"directory under another name first", "x/auth.log", func(t *testing.T, dir string) {
			must(t, os.Mkdir(dir+"/new", 0o700))
			write(t, dir+"/new/auth.log", "a\n")
			must(t, os.Rename(dir+"/new", dir+"/x"))
		}, "a"},
		{"link to nowhere, then its target", "auth.log", func(t *testing.T, dir string) {
			must(t, os.Symlink("target", dir+"/auth.log"))
			write(t, dir+"/target", "a\n")
		}, "a"},
		{"names that match", "*.log", func(t *testing.T, dir string) {
			for _, n := range []string{"a.log", "b.log", ".hidden.log", "c.txt", "d.log.gz"} {
				write(t, dir+"/"+n, n[:1]+"\n")
			}
		}, "a b"},
		{"directories that match", "web*/*.log", func(t *testing.T, dir string) {
			for _, n := range []string{"web1", "web2", "other"} {
				must(t, os.Mkdir(dir+"/"+n, 0o700))
				write(t, dir+"/"+n+"/access.log", n+"\n")
			}
		}, "web1 web2"},
		{"two names of one file", "*.log", func(t *testing.T, dir string) {
			write(t, dir+"/a.log", "a\n")
			must(t, os.Link(dir+"/a.log", dir+"/b.log"))
			must(t, os.Symlink("a.log", dir+"/c.log"))
		}, "a"},
		{"a directory, a pipe, then a file", "*.log", func(t *testing.T, dir string) {
			must(t, os.Mkdir(dir+"/a.log", 0o700))
			must(t, unix.Mkfifo(dir+"/b.log", 0o600))
			write(t, dir+"/c.log", "c\n")
		}, "c"},
		{"a copy under a name that matches", "auth.log*", func(t *testing.T, dir string) {
			write(t, dir+"/auth.log", "a\nb\n")
		}, "a b"},
	}
	for _, tt := range tests {
		for _, poll := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/poll=%v", tt.name, poll), func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				f := newFile(t, FileOptions{Pattern: filepath.Join(dir, tt.pattern), Poll: poll, FromStart: true})
				var g got
				stop := start(t, f, &g)
				tt.step(t, dir)
				sorted := func() string {
					words := strings.Fields(g.lines())
					slices.Sort(words)
					return strings.Join(words, " ")
				}
				eventually(t, tt.want, func() bool { return len(sorted()) >= len(tt.want) }, func() any { return sorted() })
				stop()
				if sorted() != tt.want || strings.Contains(g.seen(), "s") {
					t.Errorf("lines %q (%s), want %q, all news", sorted(), g.seen(), tt.want)
				}
			})
		}
	}
}

// TestRotatedNamesMatch: a pattern that matches rotated names too brings no line twice.
func TestRotatedNamesMatch(t *testing.T) {
	dir := t.TempDir()
	log := filepath.Join(dir, "auth.log")
	f := newFile(t, FileOptions{Pattern: log + "*", FromStart: true})
	var g got
	start(t, f, &g)
	write(t, log, "a1\n")
	g.want(t, "a1")
	b, err := os.ReadFile(log)
	must(t, err)
	must(t, os.WriteFile(log+".1", b, 0o600)) // copytruncate
	must(t, os.WriteFile(log, []byte("b1\n"), 0o600))
	g.want(t, "a1 b1")
	must(t, os.Rename(log+".1", log+".2"))
	must(t, os.Rename(log, log+".1")) // rename
	write(t, log, "c1\n")
	g.want(t, "a1 b1 c1")
	write(t, log+".1", "b2\n")
	g.want(t, "a1 b1 c1 b2")
}

func TestPartialLineWaits(t *testing.T) {
	log := filepath.Join(t.TempDir(), "auth.log")
	f := newFile(t, FileOptions{Pattern: log, FromStart: true})
	var g got
	start(t, f, &g)
	for _, part := range []string{"on", "e", " line\ntw", "o\n"} {
		write(t, log, part)
		eventually(t, "to be read", func() bool { return f.Stats().Files == 1 }, func() any { return f.Stats() })
	}
	g.want(t, "one line two")
	if g.count() != 2 {
		t.Errorf("%d lines, want 2", g.count())
	}
}

// TestUnfinishedLineOfARotatedFile is never handed over: half an address may be another one.
func TestUnfinishedLineOfARotatedFile(t *testing.T) {
	log := filepath.Join(t.TempDir(), "auth.log")
	write(t, log, "a\nfrom 192.0.2.1")
	f := newFile(t, FileOptions{Pattern: log, FromStart: true, Poll: true})
	var g got
	r := newFollower(f, g.sink())
	defer r.close()
	now := time.Now()
	turn := func() {
		r.sweep(now)
		for r.read(now) {
		}
	}
	turn()
	must(t, os.Rename(log, log+".1"))
	write(t, log, "b\n")
	turn()
	for _, after := range []time.Duration{quietReplaced, 2 * time.Second} {
		now = now.Add(after)
		turn()
	}
	if g.lines() != "a b" || len(r.tails) != 1 || f.Stats().Unfinished != 1 {
		t.Errorf("lines %q, %d files, %+v", g.lines(), len(r.tails), f.Stats())
	}
}

func TestGoneFilesAreBounded(t *testing.T) {
	log := filepath.Join(t.TempDir(), "auth.log")
	f := newFile(t, FileOptions{Pattern: log, FromStart: true, Poll: true})
	var g got
	r := newFollower(f, g.sink())
	defer r.close()
	now := time.Now()
	var want []string
	for i := range 2 * maxGone {
		now = now.Add(time.Second)
		want = append(want, fmt.Sprint(i))
		write(t, log, want[i]+"\n")
		r.sweep(now)
		for r.read(now) {
		}
		must(t, os.Remove(log))
	}
	r.sweep(now)
	r.read(now)
	r.sweep(now)
	if g.lines() != strings.Join(want, " ") || len(r.tails) > maxGone {
		t.Errorf("lines %q, %d files open", g.lines(), len(r.tails))
	}
}

// TestInotifyExhausted: files that the kernel has no watch for are polled, and nothing else changes.
func TestInotifyExhausted(t *testing.T) {
	log := filepath.Join(t.TempDir(), "auth.log")
	f := newFile(t, FileOptions{Pattern: log, FromStart: true})
	var g got
	ctx, cancel := context.WithCancel(t.Context())
	bell, err := newAlarm(ctx)
	must(t, err)
	defer bell.close()
	r := newFollower(f, g.sink())
	defer r.close()
	unix.Close(r.in.fd) // in its place, a descriptor that refuses every watch and never has an event
	r.in.fd, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	must(t, err)
	done := make(chan error)
	go func() { done <- r.run(ctx, bell) }()
	write(t, log, "a\n")
	g.want(t, "a")
	must(t, os.Rename(log, log+".1"))
	write(t, log, "b\n")
	g.want(t, "a b")
	if s := f.Stats(); !s.Polling || s.Errors == 0 {
		t.Errorf("stats %+v, want polling", s)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestEventQueueOverflow(t *testing.T) {
	r := &follower{File: &File{}, tails: []*tail{{}, {}}}
	r.event(-1, unix.IN_Q_OVERFLOW, nil)
	if !r.lookAgain || !r.tails[0].ready || !r.tails[1].ready {
		t.Error("not everything is looked at again")
	}
}

func TestTooManyFiles(t *testing.T) {
	dir := t.TempDir()
	for i := range 10 {
		write(t, filepath.Join(dir, fmt.Sprintf("%d.log", i)), "x\n")
	}
	f := newFile(t, FileOptions{Pattern: dir + "/*.log", MaxFiles: 6, FromStart: true})
	var g got
	start(t, f, &g)
	eventually(t, "six files", func() bool { return g.count() == 6 }, func() any { return g.count() })
	if s := f.Stats(); s.Files != 6 || s.Refused < 4 {
		t.Errorf("stats %+v, want 6 files, 4 refused", s)
	}
}

func TestMarks(t *testing.T) {
	log := filepath.Join(t.TempDir(), "auth.log")
	f := newFile(t, FileOptions{Pattern: log, FromStart: true})
	var g got
	start(t, f, &g)
	write(t, log, "a\n")
	g.want(t, "a")
	write(t, log, "b\n")
	eventually(t, "a mark behind both lines while it waits", func() bool {
		m := g.lastMarks()
		return len(m) == 1 && m[0].Pos.Offset == 4 && m[0].Path == log
	}, func() any { return g.lastMarks() })
	must(t, os.Rename(log, log+".1"))
	eventually(t, "a mark under the new name", func() bool {
		return slices.ContainsFunc(g.lastMarks(), func(m Mark) bool { return m.Path == log+".1" && m.Pos.Offset == 4 })
	}, func() any { return g.lastMarks() })
}

func TestNewFileRefuses(t *testing.T) {
	for _, o := range []FileOptions{
		{Pattern: "auth.log"},
		{Pattern: "/var/log/[a"},
		{Pattern: "/var/log/auth.log", Since: time.Now()},
	} {
		if _, err := NewFile(o); err == nil {
			t.Errorf("NewFile(%+v) succeeds", o)
		}
	}
}

// TestConformance is what every source keeps: order, the bound of a line, line ends, and an end when it is asked for.
func TestConformance(t *testing.T) {
	long := strings.Repeat("x", maxLine+10)
	messages := []string{"one", "two", long, "with\ttab and \x1b[31m", "last"}
	sources := map[string]func(t *testing.T, g *got) (y runner, stop func()){
		"file": func(t *testing.T, g *got) (runner, func()) {
			log := filepath.Join(t.TempDir(), "auth.log")
			f := newFile(t, FileOptions{Pattern: log, FromStart: true})
			stop := start(t, f, g)
			write(t, log, strings.Join(messages, "\n")+"\n")
			return f, stop
		},
		"journal": func(t *testing.T, g *got) (runner, func()) {
			var text strings.Builder
			for i, m := range messages {
				text.WriteString(entryText(i+1, "MESSAGE="+m))
			}
			j, _ := fakeJournal(t, JournalOptions{Since: time.Unix(1, 0)}, printing(text.String())+forever)
			return j, start(t, j, g)
		},
		"syslog": func(t *testing.T, g *got) (runner, func()) {
			y, _, addr, stop := listeningWith(t, "syslog:tcp://127.0.0.1:0", SyslogOptions{}, g)
			c := dial(t, "tcp", addr)
			for _, m := range messages {
				fmt.Fprintf(c, "<38>%s\n", m)
			}
			return y, stop
		},
	}
	for name, begin := range sources {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var g got
			y, stop := begin(t, &g)
			eventually(t, "all messages", func() bool { return g.count() == len(messages) }, func() any { return g.count() })
			stop()
			for i, m := range messages {
				text := strings.TrimPrefix(g.texts[i], "127.0.0.1 ")
				if len(g.texts[i]) > maxLine || !strings.HasPrefix(m, text) || len(text) < min(len(m), maxLine-10) {
					t.Errorf("message %d is %.40q (%d bytes), want %.40q", i, text, len(text), m)
				}
			}
			if s := y.Stats(); s.Lines != uint64(len(messages)) || s.Cut != 1 || s.Bytes == 0 {
				t.Errorf("stats %+v", s)
			}
		})
	}
}

// BenchmarkTail reads a file that is there already, as a follower does.
func BenchmarkTail(b *testing.B) {
	log := filepath.Join(b.TempDir(), "auth.log")
	line := "Nov 22 17:00:00 victim sshd[4711]: Failed password for invalid user admin from 192.0.2.7 port 4711 ssh2\n"
	if err := os.WriteFile(log, []byte(strings.Repeat(line, 1_000_000)), 0o600); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(1_000_000 * len(line)))
	b.ReportAllocs()
	for b.Loop() {
		f, err := NewFile(FileOptions{Name: "file:" + log, Pattern: log, FromStart: true})
		if err != nil {
			b.Fatal(err)
		}
		ctx, cancel := context.WithCancel(b.Context())
		n := 0
		err = f.Run(ctx, Sink{Record: func(*tocsin.Record) {
			if n++; n == 1_000_000 {
				cancel()
			}
		}})
		if err != nil || n != 1_000_000 {
			b.Fatal(n, err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "Mlines/s")
}

// BenchmarkWakeUp is the time from a write to the call of the sink, with the reader asleep before.
func BenchmarkWakeUp(b *testing.B) {
	log := filepath.Join(b.TempDir(), "auth.log")
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		b.Fatal(err)
	}
	defer out.Close()
	f, err := NewFile(FileOptions{Name: "file:" + log, Pattern: log, FromStart: true})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	arrived, done := make(chan time.Time), make(chan error)
	go func() {
		done <- f.Run(ctx, Sink{Record: func(*tocsin.Record) { arrived <- time.Now() }})
	}()
	line := []byte("Nov 22 17:00:00 victim sshd[4711]: Failed password for root from 192.0.2.7 port 4711 ssh2\n")
	var took []time.Duration
	for b.Loop() {
		time.Sleep(200 * time.Microsecond) // until the reader sleeps: this is what is measured
		at := time.Now()
		out.Write(line)
		took = append(took, (<-arrived).Sub(at))
	}
	cancel()
	<-done
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Nanoseconds())/1e3, "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds())/1e3, "p99-µs")
}
