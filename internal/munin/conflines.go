package munin

import (
	"fmt"
	"io"
	"os"
	"unicode/utf8"
)

// problems collects what was not understood.
type problems []Problem

func (p *problems) add(file string, line int, format string, args ...any) {
	switch {
	case len(*p) < maxProblems:
		*p = append(*p, Problem{file, line, fmt.Sprintf(format, args...)})
	case len(*p) == maxProblems:
		*p = append(*p, Problem{File: file, Msg: "and more of the kind"})
	}
}

// readFile reads a regular file of at most the given size.
func readFile(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("read %s: it is not a regular file", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(data)) > most {
		err = fmt.Errorf("read %s: it has more than the %d bytes that are read", path, most)
	}
	return data, err
}

// asUTF8 is s as UTF-8; what is not is taken for Latin-1.
func asUTF8(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return plainText([]byte(s))
}
