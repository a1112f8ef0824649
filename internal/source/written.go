package source

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// maxWritten bounds the files that Written lists.
const maxWritten = 4096

// Written lists the files that hold what was written since then under the names of pattern, an absolute path in which * ?
// and [..] may stand: those that it leads to now, and those that were rotated away from them, packed by gzip or zstd or not.
// The order is that in which they were written last.
func Written(pattern string, since time.Time) []string {
	type file struct {
		path string
		at   time.Time
	}
	var files []file
	take := func(path string) {
		info, err := os.Stat(path)
		if err != nil || !info.Mode().IsRegular() || info.ModTime().Before(since) || len(files) >= maxWritten ||
			slices.ContainsFunc(files, func(f file) bool { return f.path == path }) {
			return
		}
		files = append(files, file{path, info.ModTime()})
	}
	for _, path := range newPattern(pattern).expand(maxWritten).files {
		take(path)
		entries, _ := os.ReadDir(filepath.Dir(path)) // what could be read before an error counts
		for _, e := range entries {
			if isRotated(filepath.Base(path), strings.TrimSuffix(strings.TrimSuffix(e.Name(), ".gz"), ".zst")) {
				take(filepath.Join(filepath.Dir(path), e.Name()))
			}
		}
	}
	slices.SortStableFunc(files, func(a, b file) int { return a.at.Compare(b.at) })
	paths := make([]string, len(files))
	for i, f := range files {
		paths[i] = f.path
	}
	return paths
}
