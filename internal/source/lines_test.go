package source

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"tocsin"
)

// feedAll offers text in pieces of n bytes, as reads bring them, and collects what comes out.
func feedAll(l *lines, text []byte, n int) (out []string) {
	var pending []byte
	for len(text) > 0 {
		n := min(n, len(text))
		pending = append(pending, text[:n]...)
		text = text[n:]
		used := l.feed(pending, func(r *tocsin.Record) { out = append(out, string(r.Text)) })
		pending = slices.Delete(pending, 0, used)
	}
	return out
}

func TestFeed(t *testing.T) {
	x := func(n int) string { return strings.Repeat("x", n) }
	tests := []struct {
		name string
		text string
		want []string
		cut  uint64
	}{
		{"nothing", "", nil, 0},
		{"unfinished", "abc", nil, 0},
		{"two", "a\nb\n", []string{"a", "b"}, 0},
		{"empty lines", "\n\n", []string{"", ""}, 0},
		{"CR before LF", "a\r\nb\r\r\n", []string{"a", "b\r"}, 0},
		{"CR within", "a\rb\n", []string{"a\rb"}, 0},
		{"NUL passes", "a\x00b\n", []string{"a\x00b"}, 0},
		{"invalid UTF-8 passes", "\xff\xfe\n", []string{"\xff\xfe"}, 0},
		{"as long as may be", x(maxLine) + "\n", []string{x(maxLine)}, 0},
		{"as long as may be, CR", x(maxLine) + "\r\n", []string{x(maxLine)}, 0},
		{"one too long", x(maxLine+1) + "\nb\n", []string{x(maxLine), "b"}, 1},
		{"one too long, CR", x(maxLine+1) + "\r\nb\n", []string{x(maxLine), "b"}, 1},
		{"much too long", x(10*maxLine) + "\nb\n", []string{x(maxLine), "b"}, 1},
		{"much too long, unfinished", x(3 * maxLine), []string{x(maxLine)}, 1},
		{"hole before a line", strings.Repeat("\x00", 5*maxLine) + "a\nb\n", []string{"a", "b"}, 0},
	}
	for _, tt := range tests {
		for _, n := range []int{1, 7, 4096, 1 << 20} {
			if n == 1 && len(tt.text) > 2*maxLine {
				continue // quadratic in the test's own buffer
			}
			if strings.HasPrefix(tt.name, "hole") && n < minHole {
				continue
			}
			t.Run(fmt.Sprintf("%s/%d", tt.name, n), func(t *testing.T) {
				var l lines
				got := feedAll(&l, []byte(tt.text), n)
				if !slices.Equal(got, tt.want) || l.cut != tt.cut {
					t.Errorf("%d lines %.60q, %d cut; want %d %.60q, %d", len(got), got, l.cut, len(tt.want), tt.want, tt.cut)
				}
			})
		}
	}
}

// FuzzFeed: however a text is cut into reads, the lines are those of the plain definition, and each one's offset points
// at it.
func FuzzFeed(f *testing.F) {
	f.Add([]byte("a\nb\r\n\nc"), uint16(3))
	f.Add([]byte("\x00\x00\x00\nx\r\r\n"), uint16(1))
	f.Add(bytes.Repeat([]byte("longer "), 3000), uint16(999))
	f.Fuzz(func(t *testing.T, text []byte, n uint16) {
		text = bytes.TrimLeft(text, "\x00") // holes are dropped by how much of them is there at once
		if bytes.Contains(text, make([]byte, minHole)) {
			t.Skip()
		}
		var want []string
		for line := range bytes.Lines(text) {
			end := bytes.HasSuffix(line, []byte("\n"))
			line = bytes.TrimSuffix(line, []byte("\n"))
			if !end && len(line) <= maxLine+1 {
				break
			}
			if end {
				line = bytes.TrimSuffix(line, []byte("\r"))
			}
			want = append(want, string(line[:min(len(line), maxLine)]))
		}
		var l lines
		var pending []byte
		got := 0
		for rest := text; len(rest) > 0; {
			step := min(int(n)+1+len(text)/64, len(rest))
			pending = append(pending, rest[:step]...)
			rest = rest[step:]
			used := l.feed(pending, func(r *tocsin.Record) {
				if got >= len(want) || string(r.Text) != want[got] {
					t.Fatalf("line %d is %.60q, want %.60q", got, r.Text, want[min(got, len(want)-1)])
				}
				if !bytes.HasPrefix(text[r.Pos.Offset:], r.Text) {
					t.Fatalf("line %d does not stand at %d", got, r.Pos.Offset)
				}
				got++
			})
			pending = append(pending[:0], pending[used:]...)
		}
		if got != len(want) || l.off+int64(len(pending)) != int64(len(text)) {
			t.Errorf("%d lines to offset %d, want %d to %d", got, l.off, len(want), len(text))
		}
	})
}
