package source

import (
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func sha1Of(text string) string {
	sum := sha1.Sum([]byte(text))
	return hex.EncodeToString(sum[:])
}

// TestMarkAt: another program has read "1_a 2_b" of "1_a 2_b 3_c", then step is done. No line is read twice or lost.
func TestMarkAt(t *testing.T) {
	tests := []struct {
		name string
		step func(t *testing.T, log string)
		want string // news; "" with no mark: the error is ErrOtherFile
	}{
		{"as it was", func(t *testing.T, log string) {}, "3_c"},
		{"written on", func(t *testing.T, log string) { write(t, log, "4_d\n") }, "3_c 4_d"},
		{"renamed", func(t *testing.T, log string) {
			must(t, os.Rename(log, log+".1"))
			write(t, log, "5_e\n")
		}, "3_c 5_e"},
		{"renamed, nothing new", func(t *testing.T, log string) { must(t, os.Rename(log, log+".1")) }, "3_c"},
		{"copied and truncated", func(t *testing.T, log string) {
			b, err := os.ReadFile(log)
			must(t, err)
			must(t, os.WriteFile(log+".1", b, 0o600))
			must(t, os.WriteFile(log, []byte("5_e\n"), 0o600))
		}, "3_c 5_e"},
		{"gone", func(t *testing.T, log string) { must(t, os.Remove(log)) }, ""},
		{"another one", func(t *testing.T, log string) { must(t, os.WriteFile(log, []byte("5_e\n"), 0o600)) }, ""},
		{"truncated", func(t *testing.T, log string) { must(t, os.Truncate(log, 4)) }, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			log := filepath.Join(t.TempDir(), "auth.log")
			write(t, log, "1_a\n2_b\n3_c\n")
			tt.step(t, log)
			m, err := MarkAt("file:"+log, Place{Path: log, FirstLine: sha1Of("1_a\n"), Offset: 8, At: at(3)})
			if tt.want == "" {
				if !errors.Is(err, ErrOtherFile) {
					t.Errorf("mark %v, error %v; want ErrOtherFile", m, err)
				}
				return
			}
			must(t, err)
			var got got
			start(t, newFile(t, FileOptions{Name: "file:" + log, Pattern: log, Marks: []Mark{m}, DateOf: secondsOf}), &got)
			write(t, log, "7_last\n")
			eventually(t, "the last line", func() bool { return strings.HasSuffix(got.lines(), "7_last") }, func() any { return got.lines() })
			if lines := strings.TrimSuffix(got.lines(), " 7_last"); lines != tt.want || strings.Contains(got.seen(), "s") {
				t.Errorf("news %q (%s), want %q", lines, got.seen(), tt.want)
			}
		})
	}
}

// A log that was empty when another program looked at it is all news.
func TestMarkAtEmptyLog(t *testing.T) {
	log := filepath.Join(t.TempDir(), "auth.log")
	write(t, log, "1_a\n")
	m, err := MarkAt("file:"+log, Place{Path: log, At: at(0)})
	must(t, err)
	var got got
	start(t, newFile(t, FileOptions{Pattern: log, Marks: []Mark{m}}), &got)
	got.want(t, "1_a")
}

func TestMarkBeyond(t *testing.T) {
	mark := func(file uint64, offset int64, second int) (m Mark) {
		m.Pos.File, m.Pos.Offset, m.At = file, offset, at(second)
		return m
	}
	tests := []struct {
		name string
		m, o Mark
		want bool
	}{
		{"the same", mark(1, 10, 5), mark(1, 10, 5), false},
		{"further on, made earlier", mark(1, 11, 4), mark(1, 10, 5), true},
		{"behind, made later", mark(1, 9, 9), mark(1, 10, 5), false},
		{"another file, later", mark(2, 0, 6), mark(1, 10, 5), true},
		{"another file, earlier", mark(2, 99, 4), mark(1, 10, 5), false},
		{"of a journal, later", mark(0, 0, 6), mark(0, 0, 5), true},
	}
	for _, tt := range tests {
		if got := tt.m.Beyond(tt.o); got != tt.want {
			t.Errorf("%s: beyond = %v, want %v", tt.name, got, tt.want)
		}
	}
}

// A journal whose mark has only a time is read on behind the entries that claim this time or an earlier one.
func TestJournalFromTime(t *testing.T) {
	entry := func(n int) string { return entryText(n, "MESSAGE=m") }
	j, dir := fakeJournal(t, JournalOptions{Marks: []Mark{{At: at(2)}}, Since: at(1)}, printing(entry(1)+entry(2)+entry(3))+forever)
	var got got
	start(t, j, &got)
	got.want(t, "m m m")
	if got.seen() != "ssn" {
		t.Errorf("seen %q, want ssn", got.seen())
	}
	if a := args(t, dir, 1); !strings.Contains(a, sinceArg(at(1))) {
		t.Errorf("journalctl was called with %s", a)
	}
}
