package source

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"tocsin"
)

// A packed log that is damaged is never taken for one that ends there.
func TestOldDamaged(t *testing.T) {
	text := strings.Repeat("a line of a log, of which there are many\n", 20_000)
	gz, zst := gzipped(t, text), zstded(t, text)
	mangled := func(s string) string { return s[:len(s)/2] + "garbage" + s[len(s)/2+len("garbage"):] }
	tests := []struct {
		name, content string
		damaged       bool
	}{
		{"whole.gz", gz, false},
		{"whole.zst", zst, false},
		{"one in the place of the other.gz", zst, false},
		{"plain", "not packed\n", false},
		{"packed, by another name", gz, false},
		{"only the magic.gz", gz[:2], true},
		{"only the magic.zst", zst[:4], true},
		{"within the header.gz", gz[:9], true},
		{"within the header.zst", zst[:5], true},
		{"first half.gz", gz[:len(gz)/2], true},
		{"first half.zst", zst[:len(zst)/2], true},
		{"without the end.gz", gz[:len(gz)-1], true},
		{"without the end.zst", zst[:len(zst)-1], true},
		{"first half, by another name", gz[:len(gz)/2], true},
		{"garbage within.gz", mangled(gz), true},
		{"garbage within.zst", mangled(zst), true},
		{"garbage behind the magic.gz", gz[:2] + "garbage that is long enough\n", true},
		{"garbage behind the magic.zst", zst[:4] + "garbage that is long enough\n", true},
		{"garbage behind the end.gz", gz + "garbage that is long enough\n", true},
		{"garbage behind the end.zst", zst + "garbage that is long enough\n", true},
		{"another sum.gz", gz[:len(gz)-8] + "sum?" + gz[len(gz)-4:], true},
		{"text.gz", "not packed\n", true},
		{"text.zst", "not packed\n", true},
		{"empty.gz", "", true},
	}
	dir := t.TempDir()
	for _, tt := range tests {
		path := filepath.Join(dir, tt.name)
		write(t, path, tt.content)
		stats, err := Old(t.Context(), []string{path}, nil, func(*tocsin.Record) {})
		if errors.Is(err, ErrDamaged) != tt.damaged || !tt.damaged && err != nil {
			t.Errorf("%s: %d lines, error %v, want damaged %v", tt.name, stats.Lines, err, tt.damaged)
		}
		if tt.damaged && (!strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "damaged") || stats.Errors != 1) {
			t.Errorf("%s: error %q does not name the file and its damage, or is not counted (%+v)", tt.name, err, stats)
		}
	}
}

// What is no fault of the data is not called damage.
func TestNotDamaged(t *testing.T) {
	for _, err := range []error{&fs.PathError{Op: "read", Path: "x", Err: fs.ErrPermission}, zstd.ErrWindowSizeExceeded} {
		if got := damaged(err); !errors.Is(got, err) || errors.Is(got, ErrDamaged) {
			t.Errorf("damaged(%v) = %v", err, got)
		}
	}
}
