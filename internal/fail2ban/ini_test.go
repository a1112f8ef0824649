package fail2ban

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// dump writes a file as "[section] key=value@line", lines of a value joined by "|".
func dump(f *file) string {
	var out []string
	show := func(section string, keys options) {
		for k, v := range keys {
			var text []string
			for _, l := range v {
				text = append(text, fmt.Sprintf("%s@%d", l.text, l.pos.Line))
			}
			out = append(out, fmt.Sprintf("[%s] %s=%s", section, k, strings.Join(text, "|")))
		}
	}
	show("DEFAULT", f.defaults)
	for _, s := range f.order {
		show(s, f.sections[s])
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}

func TestParseINI(t *testing.T) {
	tests := []struct {
		name, text, want string
	}{
		{"key and value", "[A]\nx = 1\n", "[A] x=1@2"},
		{"colon", "[A]\nx: 1\n", "[A] x=1@2"},
		{"the first of = and : ends the key", "[A]\nx = a:b=c\ny: a=b\n", "[A] x=a:b=c@2\n[A] y=a=b@3"},
		{"keys are lower-cased, sections are not", "[Aa]\nXy = Z\n", "[Aa] xy=Z@2"},
		{"empty value", "[A]\nx =\ny=\n", "[A] x=@2\n[A] y=@3"},
		{"continuation", "[A]\nx = 1\n  2\n\t3\n", "[A] x=1@2|2@3|3@4"},
		{"value begins on the next line", "[A]\nx =\n  1\n  2\n", "[A] x=@2|1@3|2@4"},
		{"blank lines inside a value belong to it", "[A]\nx = 1\n\n  2\n\n\ny = 3\n", "[A] x=1@2|@3|2@4\n[A] y=3@7"},
		{"comments", "# c\n; c\n[A]\n# c\nx = 1\n  # c\n  2\n", "[A] x=1@5|2@7"},
		{"inline comment needs a blank and a semicolon", "[A]\nx = 1 ; c\ny = 1;2\nz = 1 # 2\n", "[A] x=1@2\n[A] y=1;2@3\n[A] z=1 # 2@4"},
		{"a line that is a comment does not end a value", "[A]\nx = 1\n# c\n  2\n", "[A] x=1@2|2@4"},
		{"an indented key after a header is a key", "[A]\n  x = 1\n  y = 2\n", "[A] x=1@2\n[A] y=2@3"},
		{"an indented header is a value", "[A]\nx = 1\n  [B]\n", "[A] x=1@2|[B]@3"},
		{"header with brackets inside", "[A]\nx = 1\n[B]]\ny = 2\n", "[A] x=1@2\n[B]] y=2@4"},
		{"DEFAULT may come twice", "[DEFAULT]\nx = 1\n[A]\n[DEFAULT]\ny = 2\n", "[DEFAULT] x=1@2\n[DEFAULT] y=2@5"},
		{"CRLF", "[A]\r\nx = 1\r\n  2\r\n", "[A] x=1@2|2@3"},
		{"no newline at the end", "[A]\nx = 1", "[A] x=1@2"},
		{"percent and tags are left alone", "[A]\nx = %%Y %(y)s <z>\n", "[A] x=%%Y %(y)s <z>@2"},
		{"empty file", "", ""},
	}
	for _, tt := range tests {
		f, errs := parseINI("x.conf", tt.text)
		if len(errs) > 0 {
			t.Errorf("%s: parseINI(%q): %v", tt.name, tt.text, errs[0])
		}
		if got := dump(f); got != tt.want {
			t.Errorf("%s: parseINI(%q) =\n%s\nwant\n%s", tt.name, tt.text, got, tt.want)
		}
	}
}

func TestParseINIMistakes(t *testing.T) {
	tests := []struct {
		name, text string
		want       []string // beginnings
	}{
		{"key twice", "[A]\nx = 1\nX = 2\n", []string{`x.conf:3: option "x" stands twice in section [A]`}},
		{"key twice in DEFAULT", "[DEFAULT]\nx = 1\n[DEFAULT]\nx = 2\n", []string{`x.conf:4: option "x" stands twice in section [DEFAULT]`}},
		{"section twice", "[A]\n[B]\n[A]\n", []string{"x.conf:3: section [A] stands twice in this file"}},
		{"key in a section that stands twice", "[A]\nx = 1\n[A]\nx = 2\n", []string{"x.conf:3: ", `x.conf:4: option "x"`}},
		{"before the first section", "x = 1\n", []string{`x.conf:1: "x = 1" stands before the first section`}},
		{"no equals sign", "[A]\nwhat\n", []string{`x.conf:2: "what" is neither`}},
		{"empty header", "[]\n", []string{`x.conf:1: "[]" stands before`}},
		{"no key", "[A]\n= 1\n", []string{"x.conf:2: "}},
		{"not UTF-8", "[A]\nx = \xff\ny = 1\n", []string{"x.conf:2: the line is not UTF-8"}},
		{"all at once", "x\n[A]\ny\nz = 1\nz = 2\n", []string{"x.conf:1: ", "x.conf:3: ", "x.conf:5: "}},
		{"too big", strings.Repeat("#", maxFileSize+1), []string{"x.conf:1: the file has"}},
	}
	for _, tt := range tests {
		_, errs := parseINI("x.conf", tt.text)
		ok := len(errs) == len(tt.want)
		for i := range tt.want {
			ok = ok && strings.HasPrefix(errs[i].Error(), tt.want[i])
		}
		if !ok {
			t.Errorf("%s: parseINI: mistakes %v, want %q", tt.name, errs, tt.want)
		}
	}
}

// FuzzINI: no text may make the reader of one file panic, lose the place of a line, or grow beyond the text.
func FuzzINI(f *testing.F) {
	for _, s := range []string{"", "[A]\nx = 1\n  2\n\n  3 ; c\n# c\n", "[DEFAULT]\na: b\n[Init?family=inet6]\nc = d\n", "[A]\nx\n= 1\n[A]\nx = \xff\n", "[A]\r\nx=1\r\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		file, errs := parseINI("f", text)
		lines := strings.Count(text, "\n") + 1
		size := 0
		check := func(keys options) {
			for k, v := range keys {
				if k == "" || len(v) == 0 {
					t.Errorf("key %q has %d lines", k, len(v))
				}
				for _, l := range v {
					size += len(l.text)
					if l.pos.Line < 1 || l.pos.Line > lines || strings.Contains(l.text, "\n") {
						t.Errorf("key %q: line %q at %v of %d lines", k, l.text, l.pos, lines)
					}
				}
			}
		}
		check(file.defaults)
		for _, keys := range file.sections {
			check(keys)
		}
		for _, e := range errs {
			if e.Pos.Line < 1 || e.Pos.Line > lines {
				t.Errorf("mistake at %v of %d lines", e.Pos, lines)
			}
		}
		if size > len(text) {
			t.Errorf("%d bytes of values from %d bytes", size, len(text))
		}
	})
}
