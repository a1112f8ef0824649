package source

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"tocsin"
)

func gzipped(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := w.Write([]byte(text))
	must(t, errors.Join(err, w.Close()))
	return b.String()
}

func zstded(t *testing.T, text string) string {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	must(t, err)
	return string(w.EncodeAll([]byte(text), nil))
}

func TestOld(t *testing.T) {
	dir := t.TempDir()
	put := func(name, text string) string {
		path := filepath.Join(dir, name)
		write(t, path, text)
		return path
	}
	big := strings.Repeat(strings.Repeat("x", 99)+"\n", 50_000)
	plain := put("plain", "a\nb\r\nc")
	empty := put("empty", "")
	gz := put("named-plain", gzipped(t, "d\n")+gzipped(t, "e\n")) // two members, as "cat a.gz b.gz" makes
	zst := put("zst", zstded(t, "f\ng\n"))
	bigGz := put("big.gz", gzipped(t, big))
	short := put("short.gz", gzipped(t, big)[:1000])

	tests := []struct {
		name  string
		paths []string
		stdin string
		want  string
		err   bool
	}{
		{"nothing", nil, "", "", false},
		{"plain, last line unfinished", []string{plain}, "", "a b c", false},
		{"several in their order", []string{zst, empty, gz, plain}, "", "f g d e a b c", false},
		{"stdin", []string{"-"}, "x\ny\n", "x y", false},
		{"stdin packed", []string{"-", plain}, gzipped(t, "x\n"), "x a b c", false},
		{"one missing", []string{plain, dir + "/none"}, "", "a b c", true},
		{"a directory", []string{dir}, "", "", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			stats, err := Old(t.Context(), tt.paths, strings.NewReader(tt.stdin), func(r *tocsin.Record) {
				got = append(got, string(r.Text))
			})
			if strings.Join(got, " ") != tt.want || (err != nil) != tt.err || stats.Lines != uint64(len(got)) {
				t.Errorf("Old(%q) = %q, %+v, %v; want %q", tt.paths, got, stats, err, tt.want)
			}
		})
	}
	t.Run("big", func(t *testing.T) {
		stats, err := Old(t.Context(), []string{bigGz}, nil, func(*tocsin.Record) {})
		if err != nil || stats.Lines != 50_000 || stats.Bytes != uint64(len(big)) {
			t.Errorf("Old(big.gz) = %+v, %v", stats, err)
		}
	})
	t.Run("cut short", func(t *testing.T) {
		if _, err := Old(t.Context(), []string{short}, nil, func(*tocsin.Record) {}); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("Old(short.gz) = %v, want %v", err, io.ErrUnexpectedEOF)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		n := 0
		_, err := Old(ctx, []string{bigGz}, nil, func(*tocsin.Record) { n++; cancel() })
		if !errors.Is(err, context.Canceled) || n == 50_000 {
			t.Errorf("Old, cancelled = %v after %d lines", err, n)
		}
	})
	t.Run("broken stdin", func(t *testing.T) {
		_, err := Old(t.Context(), []string{"-"}, iotest.ErrReader(io.ErrClosedPipe), func(*tocsin.Record) {})
		if !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("Old = %v, want %v", err, io.ErrClosedPipe)
		}
	})
	t.Run("over-long last line from a slow reader", func(t *testing.T) {
		text := "a\n" + strings.Repeat("y", maxLine+1)
		var lens []int
		stats, err := Old(t.Context(), []string{"-"}, iotest.HalfReader(strings.NewReader(text)), func(r *tocsin.Record) {
			lens = append(lens, len(r.Text))
		})
		if err != nil || !slices.Equal(lens, []int{1, maxLine}) || stats.Cut != 1 {
			t.Errorf("Old = lengths %v, %+v, %v", lens, stats, err)
		}
	})
}

// TestOldPositions: a file's lines have the same positions in a replay and when it is followed; stdin's have none.
func TestOldPositions(t *testing.T) {
	log := filepath.Join(t.TempDir(), "auth.log")
	write(t, log, "1_a\n2_b\n")
	var live got
	stop := start(t, newFile(t, FileOptions{Pattern: log, FromStart: true}), &live)
	live.want(t, "1_a 2_b")
	stop()
	in, err := os.Open(log)
	must(t, err)
	defer in.Close()
	var pos []tocsin.Position
	_, err = Old(t.Context(), []string{log, "-"}, in, func(r *tocsin.Record) { pos = append(pos, r.Pos) })
	want := []tocsin.Position{live.recs[0].Pos, live.recs[1].Pos, {}, {}}
	if err != nil || !slices.Equal(pos, want) {
		t.Errorf("positions %v, %v; want %v", pos, err, want)
	}
}

func BenchmarkOld(b *testing.B) {
	line := "Nov 22 17:00:00 victim sshd[4711]: Failed password for invalid user admin from 192.0.2.7 port 4711 ssh2\n"
	text := strings.Repeat(line, 1_000_000)
	gz, zst := new(bytes.Buffer), new(bytes.Buffer)
	gw := gzip.NewWriter(gz)
	gw.Write([]byte(text))
	gw.Close()
	zw, _ := zstd.NewWriter(zst)
	zw.Write([]byte(text))
	zw.Close()
	for _, tt := range []struct{ name, text string }{{"plain", text}, {"gzip", gz.String()}, {"zstd", zst.String()}} {
		b.Run(tt.name, func(b *testing.B) {
			path := filepath.Join(b.TempDir(), "log")
			if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			n := uint64(0)
			for b.Loop() {
				stats, err := Old(b.Context(), []string{path}, nil, func(r *tocsin.Record) { n += uint64(len(r.Text)) })
				if err != nil || stats.Lines != 1_000_000 {
					b.Fatal(stats, err)
				}
			}
			b.ReportMetric(float64(b.N)*1e6/b.Elapsed().Seconds()/1e6, "Mlines/s")
		})
	}
}
