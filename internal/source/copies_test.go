package source

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestCopiesInEveryOrder: a log is copied, truncated and renamed under a pattern that matches all its names, and the
// reader looks or does not look after each step: no line is lost, none doubled, whichever of these orders it is. What
// stands in a copy only can be had from there.
func TestCopiesInEveryOrder(t *testing.T) {
	type step = func(t *testing.T, log string)
	add := func(suffix, text string) step {
		return func(t *testing.T, log string) { write(t, log+suffix, text) }
	}
	put := func(suffix, text string) step { // as cp does it: the same file, emptied and written
		return func(t *testing.T, log string) { must(t, os.WriteFile(log+suffix, []byte(text), 0o600)) }
	}
	move := func(from, to string) step {
		return func(t *testing.T, log string) { must(t, os.Rename(log+from, log+to)) }
	}
	truncate := func(t *testing.T, log string) { must(t, os.Truncate(log, 0)) }
	tests := []struct {
		name  string
		steps []step // after "a1"
		want  string // sorted
	}{
		{"copied, truncated, renamed", []step{
			add(".1", ""), add(".1", "a"), add(".1", "1\n"), truncate, add("", "b1\n"),
			move(".1", ".2"), move("", ".1"), add("", "c1\n"), add(".1", "b2\n"),
		}, "a1 b1 b2 c1"},
		{"written to before the copy", []step{
			add("", "a2\n"), add(".1", "a1\n"), add(".1", "a2\n"), truncate, add("", "b1\n"), add("", "b2\n"), move(".1", ".2"),
		}, "a1 a2 b1 b2"},
		{"written to before the copy, copied to its end at once", []step{
			add("", "a2\na"), add("", "3\n"), put(".1", "a1\na2\na3\n"), truncate, add("", "b1\n"), move(".1", ".2"),
		}, "a1 a2 a3 b1"},
		{"copied twice", []step{
			put(".1", "a1\n"), put(".bak", "a1\n"), put(".old", "a1\n"), truncate, add("", "b1\n"), move(".1", ".2"),
		}, "a1 b1"},
		{"copied, never truncated", []step{
			put(".bak", "a1\n"), add("", "a2\n"), put(".old", "a1\na2\n"), move("", ".1"), add("", "b1\n"), move(".old", ".2"),
		}, "a1 a2 b1"},
		{"copied over the last copy", []step{
			put(".1", "a1\n"), truncate, add("", "b1\n"), put(".1", "b1\n"), truncate, add("", "c1\n"),
		}, "a1 b1 c1"},
		{"copied and truncated twice", []step{
			put(".1", "a1\n"), truncate, add("", "b1\n"),
			move(".1", ".2"), put(".1", "b1\n"), truncate, add("", "c1\n"),
		}, "a1 b1 c1"},
		{"renamed, then copied", []step{
			move("", ".1"), add("", "b1\n"), move(".1", ".2"), put(".1", "b1\n"), truncate, add("", "c1\n"),
		}, "a1 b1 c1"},
		{"renamed twice", []step{
			move("", ".1"), add("", "b1\n"), move(".1", ".2"), move("", ".1"), add("", "c1\n"), add(".2", "a2\n"),
		}, "a1 a2 b1 c1"},
		{"logrotate's extension", []step{
			func(t *testing.T, log string) { write(t, strings.TrimSuffix(log, ".log")+"-20261122.log", "a1\n") },
			truncate, add("", "b1\n"),
		}, "a1 b1"},
	}
	for _, tt := range tests {
		for _, poll := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/poll=%v", tt.name, poll), func(t *testing.T) {
				t.Parallel()
				for order := range 1 << len(tt.steps) {
					f, log := following(t, poll)
					for i, s := range tt.steps {
						s(t, log)
						if order&(1<<i) != 0 {
							f.turn(t)
						}
					}
					f.settle(t)
					f.close()
					if lines := f.sorted(); lines != tt.want {
						t.Fatalf("looking after the steps of %b: lines %q, sorted %q; want %q", order, f.got.lines(), lines, tt.want)
					}
				}
			})
		}
	}
}

// TestSameFirstLine: logs that begin with the same heading are no copies of each other.
func TestSameFirstLine(t *testing.T) {
	for _, poll := range []bool{false, true} {
		f, log := following(t, poll)
		defer f.close()
		for _, s := range []func(){
			func() { write(t, log, "b1\n") },
			func() { must(t, os.Rename(log, log+".1")) },
			func() { write(t, log, "a1\n") },
			func() { write(t, log, "c1\n") },
			func() { must(t, os.Truncate(log, 0)) },
			func() { write(t, log, "a1\n") },
			func() { write(t, log, "d1\n") },
			func() { write(t, log+".0", "a1\n") },
			func() { write(t, log+".0", "e1\n") },
		} {
			s()
			f.settle(t)
		}
		if want := "a1 b1 a1 c1 a1 d1 a1 e1"; f.got.lines() != want {
			t.Errorf("poll=%v: lines %q, want %q", poll, f.got.lines(), want)
		}
	}
}

// TestTruncatedToLinesThatEndAlike: a file that was truncated, and has grown beyond the old position before anybody
// looked, is noticed although the bytes before that position are the same.
func TestTruncatedToLinesThatEndAlike(t *testing.T) {
	f, log := following(t, false)
	defer f.close()
	end := strings.Repeat("_", maxAnchor) + "\n"
	must(t, os.WriteFile(log, []byte("b1"+end+"b2"+end), 0o600))
	f.settle(t)
	must(t, os.WriteFile(log, []byte("c1"+end+"c2"+end+"c3"+end), 0o600))
	f.settle(t)
	if got := strings.ReplaceAll(f.got.lines(), end[:maxAnchor], ""); got != "a1 b1 b2 c1 c2 c3" {
		t.Errorf("lines %q, want a1 b1 b2 c1 c2 c3", got)
	}
}

// stepped is a follower that runs when it is told to.
type stepped struct {
	*follower
	got  got
	bell alarm
}

// following makes one that has read "a1" of a log, under a pattern that matches the log's copies too.
func following(t *testing.T, poll bool) (*stepped, string) {
	t.Helper()
	dir, err := os.MkdirTemp(t.TempDir(), "")
	must(t, err)
	log := filepath.Join(dir, "auth.log")
	write(t, log, "a1\n")
	s := &stepped{}
	s.start(t, FileOptions{Pattern: filepath.Join(dir, "auth*"), FromStart: true, Poll: poll})
	return s, log
}

// start begins to follow what is there.
func (s *stepped) start(t *testing.T, o FileOptions) {
	t.Helper()
	s.follower = newFollower(newFile(t, o), s.got.sink())
	var err error
	s.bell, err = newAlarm(t.Context())
	must(t, err)
	s.settle(t)
}

func (s *stepped) close() {
	s.follower.close()
	s.bell.close()
}

// turn is one turn of run, with all that has happened.
func (s *stepped) turn(t *testing.T) {
	t.Helper()
	now := time.Now()
	must(t, s.wait(s.bell, 0))
	s.read(now)
	if s.lookAgain || s.in == nil {
		s.sweep(now)
	}
}

// settle runs until there is nothing more to do, next sweep included.
func (s *stepped) settle(t *testing.T) {
	t.Helper()
	for range 3 {
		s.sweep(time.Now())
		for turns := 0; ; turns++ {
			must(t, s.wait(s.bell, 0))
			more := s.read(time.Now())
			if !more && !s.lookAgain {
				break
			}
			if turns == 100 {
				t.Fatalf("it does not come to rest: lines %q", s.got.lines())
			}
			if s.lookAgain {
				s.sweep(time.Now())
			}
		}
	}
}

func (s *stepped) sorted() string {
	words := strings.Fields(s.got.lines())
	slices.Sort(words)
	return strings.Join(words, " ")
}

func TestMayCopy(t *testing.T) {
	tests := []struct {
		of, path string
		want     bool
	}{
		{"/var/log/auth.log", "/var/log/auth.log.1", true},
		{"/var/log/auth.log", "/var/log/auth.log-20261122", true},
		{"/var/log/auth.log", "/var/log/auth-20261122.log", true},
		{"/var/log/auth.log", "/var/log/auth.log.bak", true},
		{"/var/log/auth.log.1", "/var/log/auth.log.2", true},
		{"/var/log/auth.log.10", "/var/log/auth.log.9", true},
		{"/var/log/auth.log", "/var/log/auth.log", false},
		{"/var/log/auth.log.1", "/var/log/auth.log", false},
		{"/var/log/auth.log", "/var/log/mail.log.1", false},
		{"/var/log/auth.log", "/var/log/old/auth.log.1", false},
		{"", "/var/log/auth.log", false},
	}
	for _, tt := range tests {
		if got := mayCopy(tt.of, tt.path); got != tt.want {
			t.Errorf("mayCopy(%q, %q) = %v, want %v", tt.of, tt.path, got, tt.want)
		}
	}
}

// TestCopiesAcrossRestarts: the same, with a stop after each step and a start after each later one.
func TestCopiesAcrossRestarts(t *testing.T) {
	type step = func(t *testing.T, log string)
	add := func(suffix, text string) step {
		return func(t *testing.T, log string) { write(t, log+suffix, text) }
	}
	move := func(from, to string) step {
		return func(t *testing.T, log string) { must(t, os.Rename(log+from, log+to)) }
	}
	truncate := func(t *testing.T, log string) { must(t, os.Truncate(log, 0)) }
	steps := []step{
		add("", "1_a\n"), add(".1", "1_a\n"), truncate, add("", "2_b\n"), add("", "3_c\n"),
		move(".1", ".2"), add(".1", "2_b\n"), add(".1", "3_c\n"), truncate, add("", "4_d\n"),
		move(".2", ".3"), move(".1", ".2"), move("", ".1"), add("", "5_e\n"), add(".1", "6_f\n"),
	}
	const want = "1_a 2_b 3_c 4_d 5_e 6_f"
	for _, since := range []time.Time{{}, at(1)} {
		for stop := range steps {
			for begin := stop; begin < len(steps); begin++ {
				log := filepath.Join(t.TempDir(), "auth.log")
				o := FileOptions{Pattern: log + "*", DateOf: secondsOf, FromStart: true}
				var f, again stepped
				f.start(t, o)
				for _, s := range steps[:stop+1] {
					s(t, log)
					f.settle(t)
				}
				words := strings.Fields(f.sorted())
				last, _ := secondsOf([]byte(words[len(words)-1]))
				f.sayAllMarks(last)
				f.close()
				for _, s := range steps[stop+1 : begin+1] {
					s(t, log)
				}
				o.FromStart, o.Marks, o.Since = false, f.got.lastMarks(), since
				for i := range o.Marks {
					o.Marks[i].At = last // the log's clock is not the wall's in this test
				}
				again.start(t, o)
				for _, s := range steps[begin+1:] {
					s(t, log)
					again.settle(t)
				}
				again.close()
				seen := again.got.seen()
				for i, line := range strings.Fields(again.got.lines()) {
					if seen[i] == 'n' {
						words = append(words, line)
					}
				}
				slices.Sort(words)
				if all := again.sorted(); !since.IsZero() && all != want {
					t.Errorf("stopped after step %d, begun after %d: lines %q, want %q", stop, begin, all, want)
				}
				if got := strings.Join(words, " "); got != want {
					t.Errorf("stopped after step %d, begun after %d, since %v: news %q, want %q; marks %v", stop, begin, since, got, want, o.Marks)
				}
			}
		}
	}
}
