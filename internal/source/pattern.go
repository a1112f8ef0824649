package source

import (
	"os"
	"path/filepath"
	"strings"
)

// pattern is an absolute path of which any part may hold * ? and [..].
type pattern []string // its parts, below the root

func newPattern(path string) pattern {
	return strings.Split(strings.TrimPrefix(filepath.Clean(path), "/"), "/")
}

// place is a directory on the way to a pattern, and the names in it that lead on.
type place struct{ dir, name string }

// walk is what a pattern leads to at the moment.
type walk struct {
	files  []string // names that match, whatever they are; sorted within each directory
	places []place  // directories that exist, whose changes may change the answer
	max    int      // bound on each of them
	over   int      // how many names did not fit
}

// expand walks down the pattern. Directories that do not exist yet are no error: their parents are among the places.
func (p pattern) expand(limit int) *walk {
	w := &walk{max: limit}
	w.descend("/", p)
	return w
}

func (w *walk) descend(dir string, parts []string) {
	if len(w.places) >= w.max {
		w.over++
		return
	}
	w.places = append(w.places, place{dir, parts[0]})
	names := []string{parts[0]}
	if strings.ContainsAny(parts[0], `*?[\`) {
		names = matching(dir, parts[0])
	}
	for _, name := range names {
		path := filepath.Join(dir, name)
		switch info, err := os.Stat(path); {
		case err != nil: // not there yet, or a link to nowhere
		case len(parts) > 1 && info.IsDir():
			w.descend(path, parts[1:])
		case len(parts) > 1 || info.IsDir():
		case len(w.files) >= w.max:
			w.over++
		default:
			w.files = append(w.files, path)
		}
		if len(parts) == 1 {
			w.followLink(path)
		}
	}
}

// followLink adds the directory in which the target of a symbolic link lies, so that its rotation is seen too.
func (w *walk) followLink(path string) {
	if info, err := os.Lstat(path); err != nil || info.Mode()&os.ModeSymlink == 0 || len(w.places) >= w.max {
		return
	}
	if target, err := filepath.EvalSymlinks(path); err == nil {
		w.places = append(w.places, place{filepath.Dir(target), escapeMeta(filepath.Base(target))})
	}
}

// matching lists the names in dir that match. As in a shell, a leading dot must be written: what rsync and editors
// leave for a moment is no log. Compressed logs hold no lines.
func matching(dir, part string) []string {
	entries, _ := os.ReadDir(dir) // sorted; what could be read before an error counts
	var names []string
	for _, e := range entries {
		if matchName(part, e.Name()) && !isCompressed(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names
}

func matchName(part, name string) bool {
	ok, err := filepath.Match(part, name)
	return ok && err == nil && (name[0] != '.' || part[0] == '.')
}

func escapeMeta(name string) string {
	return strings.NewReplacer(`*`, `\*`, `?`, `\?`, `[`, `\[`, `\`, `\\`).Replace(name)
}
