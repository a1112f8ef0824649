package fail2ban

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"golang.org/x/tools/txtar"
)

// folder makes a filter.d of a txtar archive.
func folder(archive string) fstest.MapFS {
	dir := fstest.MapFS{}
	for _, f := range txtar.Parse([]byte(archive)).Files {
		dir[f.Name] = &fstest.MapFile{Data: f.Data}
	}
	return dir
}

// show writes expressions with their places: "text (file:line)".
func show(list []Regex) string {
	var out []string
	for _, re := range list {
		out = append(out, fmt.Sprintf("%s (%s)", re.Text, re.Pos))
	}
	return strings.Join(out, "\n")
}

func TestLoadFilter(t *testing.T) {
	tests := []struct {
		name    string
		files   string
		options map[string]string
		want    string // the failregex
	}{
		{"plain", "-- f.conf --\n[Definition]\nfailregex = ^a <HOST>$\n  ^b <HOST>$\n", nil, "^a <HOST>$ (f.conf:2)\n^b <HOST>$ (f.conf:3)"},
		{"empty lines drop out", "-- f.conf --\n[Definition]\nfailregex =\n  ^a$\n\n  ^b$\n", nil, "^a$ (f.conf:3)\n^b$ (f.conf:5)"},
		{"layers", "-- f.conf --\n[Definition]\nfailregex = 1\na = conf\nb = conf\nc = conf\nd = conf\n-- f.d/10.conf --\n[Definition]\na = 10\nb = 10\nc = 10\n-- f.d/20.conf --\n[Definition]\nb = 20\nc = 20\n-- f.local --\n[Definition]\nc = local\nfailregex = <a> <b> <c> <d> <e>\n-- f.d/5.local --\n[Definition]\ne = 5\n", nil, "10 20 local conf 5 (f.local:3)"},
		{"a .local alone is a filter", "-- f.local --\n[Definition]\nfailregex = 1\n", nil, "1 (f.local:2)"},
		{"known extends", "-- f.conf --\n[Definition]\nfailregex = 1\n-- f.local --\n[Definition]\nfailregex = %(known/failregex)s\n  2\n", nil, "1 (f.conf:2)\n2 (f.local:3)"},
		{"includes", "-- f.conf --\n[INCLUDES]\nbefore = a.conf\nafter = b.conf\n  missing.conf\n[Definition]\nfailregex = %(a)s %(b)s %(c)s\nb = f\n-- a.conf --\n[DEFAULT]\na = a\nb = a\n-- b.conf --\n[DEFAULT]\nb = b\n[Definition]\nb = b\n-- a.local --\n[DEFAULT]\nc = local\n", nil,
			"a b local (f.conf:6)"},
		{"a loop of includes is cut", "-- f.conf --\n[INCLUDES]\nbefore = a.conf\n[Definition]\nfailregex = %(a)s\n-- a.conf --\n[INCLUDES]\nbefore = f.conf\n[DEFAULT]\na = 1\n", nil, "1 (a.conf:4)"},
		{"a loop through a .local twin is cut", "-- f.conf --\n[INCLUDES]\nbefore = a.conf\n[Definition]\nfailregex = %(a)s %(b)s\n-- a.conf --\n[DEFAULT]\na = 1\n-- a.local --\n[INCLUDES]\nbefore = a.conf\n[DEFAULT]\nb = 2\n", nil, "1 2 (f.conf:4)"},
		{"include from a folder", "-- f.conf --\n[INCLUDES]\nbefore = sub/a.conf\n[Definition]\nfailregex = %(a)s\n-- sub/a.conf --\n[INCLUDES]\nbefore = b.conf\n-- sub/b.conf --\n[DEFAULT]\na = 1\n", nil, "1 (sub/b.conf:2)"},
		{"interpolation", "-- f.conf --\n[DEFAULT]\nd = D\n[Definition]\nx = X%(d)s\nfailregex = %(x)s %(X)s %% %(__name__)s\n", nil, "XD XD % Definition (f.conf:5)"},
		{"section/option and default/option", "-- f.conf --\n[DEFAULT]\nd = D\n[other]\no = O\n[Definition]\nd = own\nfailregex = %(other/o)s %(default/d)s %(other/d)s\n", nil, "O D D (f.conf:7)"},
		{"a reference of several lines inside a line", "-- f.conf --\n[Definition]\nx = 1\n  2\nfailregex = a%(x)sb\n  %(x)s\n", nil, "a1 (f.conf:4)\n2b (f.conf:4)\n1 (f.conf:2)\n2 (f.conf:3)"},
		{"options win, Init wins over Definition", "-- f.conf --\n[Definition]\na = def\nb = def\nfailregex = <a> <b> <c>\n[Init]\na = init\nb = init\nc = init\n", map[string]string{"a": "arg"}, "arg init init (f.conf:4)"},
		{"options are seen by references", "-- f.conf --\n[Definition]\nmode = normal\nfailregex = %(mode)s <mode>\n", map[string]string{"mode": "x"}, "x x (f.conf:3)"},
		{"an option replaces the expressions", "-- f.conf --\n[Definition]\nfailregex = 1\n", map[string]string{"failregex": "2\n3"}, "2 (option failregex)\n3 (option failregex)"},
		{"tags inside tags", "-- f.conf --\n[Definition]\nmode = normal\nfailregex = <re-<mode>>\nre-normal = n\nre-all = <re-normal>\n  a\n", map[string]string{"mode": "all"}, "n (f.conf:4)\na (f.conf:6)"},
		{"a tag of several lines inside a line", "-- f.conf --\n[Definition]\nx = 1\n  2\nfailregex = a<x>b<HOST>\n", nil, "a1 (f.conf:4)\n2b<HOST> (f.conf:4)"},
		{"tags of sections, by logtype", "-- f.conf --\n[lt_file]\np = file\n[lt_journal]\np = journal\n[Definition]\nfailregex = <lt_<logtype>/p>\n", nil, "file (f.conf:2)"},
		{"logtype of the filter wins over the source's", "-- f.conf --\n[lt_file]\np = file\n[lt_journal]\np = journal\n[Definition]\nlogtype = journal\nfailregex = <lt_<logtype>/p>\n", nil, "journal (f.conf:4)"},
		{"known of Init", "-- f.conf --\n[Definition]\nfailregex = <x>\n[Init]\nx = init\n", map[string]string{"x": "<known/x>+"}, "init+ (option x)"},
		{"known of a layer", "-- f.conf --\n[Definition]\nx = old\nfailregex = <x> <known/x> <default/d>\n[DEFAULT]\nd = D\n-- f.local --\n[Definition]\nx = new\n", nil, "new old D (f.conf:3)"},
		{"known of a layer that did not say", "-- f.conf --\n[DEFAULT]\nx = D\n[Definition]\nfailregex = <known/x>\n-- f.local --\n[Definition]\nx = new\n", nil, "D (f.conf:2)"},
		{"known of one file is what it says", "-- f.conf --\n[DEFAULT]\nx = D\n[Definition]\nfailregex = <known/x>\nx = own\n", nil, "own (f.conf:5)"},
		{"unknown tags stay", "-- f.conf --\n[Definition]\nfailregex = <HOST> <a b> <> < <x/y> <known/z> <F-USER>.*</F-USER>\n", nil, "<HOST> <a b> <> < <x/y> <known/z> <F-USER>.*</F-USER> (f.conf:2)"},
		{"brackets around a tag are no tag", "-- f.conf --\n[Definition]\nx = [^>]+\nfailregex = user=<<x>>\n", nil, "user=<[^>]+> (f.conf:3)"},
		{"conditional sections", "-- f.conf --\n[Definition]\nfailregex = <x> <y>\n[Init]\nx = 4\ny = 1\n[Init?family=inet6]\nx = 6\n", nil, "<x> 1 (f.conf:2)"},
		{"DEFAULT is in every section", "-- f.conf --\n[DEFAULT]\nfailregex = 1\n[Definition]\n", nil, "1 (f.conf:2)"},
	}
	for _, tt := range tests {
		f, err := LoadFilter(folder(tt.files), "f", tt.options, "file")
		if err != nil {
			t.Errorf("%s: LoadFilter: %v", tt.name, err)
		} else if got := show(f.Failregex); got != tt.want {
			t.Errorf("%s: failregex\n%s\nwant\n%s", tt.name, got, tt.want)
		}
	}
}

func TestLoadFilterOptions(t *testing.T) {
	f, err := LoadFilter(folder(`
-- f.conf --
[Definition]
prefregex = ^x <F-CONTENT>.+</F-CONTENT>$
failregex = a
ignoreregex = b
  c
datepattern = %%Y
maxlines = 3
usedns = no
journalmatch = _A=1 + _B=2
  _C=3
own = <usedns>
`), "f", nil, "journal")
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprintf("%s | %s | %s | %d %s %s %q %s %s %s", show([]Regex{f.Prefregex}), show(f.Ignoreregex), show(f.Datepattern),
		f.Maxlines, f.Usedns, f.Logtype, f.Journalmatch, f.Options["own"], f.Name, f.Files)
	want := `^x <F-CONTENT>.+</F-CONTENT>$ (f.conf:2) | b (f.conf:4)
c (f.conf:5) | %Y (f.conf:6) | 3 no journal ["_A=1 + _B=2" "_C=3"] no f [f.conf]`
	if got != want {
		t.Errorf("LoadFilter:\n%s\nwant\n%s", got, want)
	}
}

func TestLoadFilterMistakes(t *testing.T) {
	long := strings.Repeat("x", 1000)
	tests := []struct {
		name, files string
		want        []string // the beginnings of the mistakes
	}{
		{"missing", "-- sshd-x.conf --\n", []string{"f.conf: no such filter"}},
		{"only included", "-- f.conf --\n[DEFAULT]\nx = 1\n", []string{"f.conf:1: filter f has no section [Definition]"}},
		{"syntax, in all files", "-- f.conf --\n[Definition]\nx\n-- f.local --\ny = 1\n", []string{"f.conf:2: ", "f.local:1: "}},
		{"unknown references, all of them", "-- f.conf --\n[Definition]\nfailregex = a\n  %(nix)s\nb = %(x/y)s\n", []string{`f.conf:3: %(nix)s names an option`, "f.conf:4: %(x/y)s names"}},
		{"single per cent sign", "-- f.conf --\n[Definition]\nx = 5% of\n", []string{`f.conf:2: "% of": a single per cent sign`}},
		{"broken reference", "-- f.conf --\n[Definition]\nx = %(y)d\n", []string{`f.conf:2: "%(y)d" is no %(reference)s`}},
		{"references in a circle", "-- f.conf --\n[Definition]\nx = %(y)s\ny = %(x)s\n", []string{"f.conf:", "f.conf:"}},
		{"known of two layers refers to itself", "-- f.conf --\n[Definition]\nx = 1\n-- f.d/1.conf --\n[Definition]\nx = %(known/x)s\n-- f.local --\n[Definition]\nx = %(known/x)s\n", []string{"f.d/1.conf:2: more than 10 references"}},
		{"tags in a circle", "-- f.conf --\n[Definition]\nfailregex = <x>\nx = <y>\ny = <x>\n", []string{"f.conf:"}},
		{"tag of itself", "-- f.conf --\n[Definition]\nx = a<x>\n", []string{"f.conf:2: <x> leads back to itself"}},
		{"references that multiply", "-- f.conf --\n[Definition]\na = " + long + "\n" + multiply("%%(%s)s") + "\n", []string{"f.conf:"}},
		{"tags that multiply", "-- f.conf --\n[Definition]\na = " + long + "\n" + multiply("<%s>") + "\n", []string{"f.conf:"}},
		{"a mode that does not exist", "-- f.conf --\n[Definition]\nmode = agressive\nfailregex = x\n  <re-<mode>>\nre-normal = 1\nre-aggressive = 2\n", []string{"f.conf:4: <re-agressive> names an option that nobody defines\n  hint: there are: re-aggressive, re-normal"}},
		{"a section that does not exist", "-- f.conf --\n[Definition]\nfailregex = <lt_<logtype>/p>\n", []string{"f.conf:2: <lt_file/p> names"}},
		{"maxlines", "-- f.conf --\n[Definition]\nmaxlines = many\n", []string{`f.conf:2: maxlines "many" is no number`}},
		{"include from outside", "-- f.conf --\n[INCLUDES]\nbefore = ../a.conf\n  /etc/a.conf\n[Definition]\n", []string{`f.conf:2: include "../a.conf" leaves`, `f.conf:3: include "/etc/a.conf"`}},
		{"mistake in a section/option tag", "-- f.conf --\n[a]\nx = %(nix)s\n[Definition]\nfailregex = <a/x>\n", []string{"f.conf:2: %(nix)s"}},
	}
	for _, tt := range tests {
		_, err := LoadFilter(folder(tt.files), "f", nil, "file")
		got := Errors(err)
		ok := len(got) >= len(tt.want) && (len(got) == len(tt.want) || strings.HasSuffix(tt.name, "multiply"))
		for i := range min(len(got), len(tt.want)) {
			ok = ok && strings.HasPrefix(got[i].Error(), tt.want[i])
		}
		if !ok {
			t.Errorf("%s: LoadFilter: %v, want %q", tt.name, err, tt.want)
		}
	}
}

// multiply defines b..h, each four times the one before.
func multiply(reference string) string {
	var b strings.Builder
	for c := 'b'; c <= 'h'; c++ {
		fmt.Fprintf(&b, "%c = %s\n", c, strings.Repeat(fmt.Sprintf(reference, string(c-1)), 4))
	}
	return b.String()
}

func TestLoadFilterNames(t *testing.T) {
	dir := folder("-- a_b-c.d1.conf --\n[Definition]\n-- sshd.conf --\n[Definition]\n")
	for _, name := range []string{"a_b-c.d1", "sshd "} {
		if _, err := LoadFilter(dir, name, nil, "file"); err != nil {
			t.Errorf("LoadFilter(%q): %v", name, err)
		}
	}
	for _, name := range []string{"", "../sshd", "a/b", ".sshd", "a*", "a b"} {
		if _, err := LoadFilter(dir, name, nil, "file"); err == nil {
			t.Errorf("LoadFilter(%q) found something", name)
		}
	}
	_, err := LoadFilter(dir, "sshd-session", nil, "file")
	if e := Errors(err); len(e) != 1 || e[0].Hint != "near names: sshd" {
		t.Errorf("LoadFilter(sshd-session): %v", err)
	}
}

func TestIncludesThatMultiply(t *testing.T) {
	dir := fstest.MapFS{"f.conf": {Data: []byte("[INCLUDES]\nbefore = 0.conf\n[Definition]\n")}}
	for i := range 12 { // each includes the next one twice: 2^12 files to read
		dir[fmt.Sprintf("%d.conf", i)] = &fstest.MapFile{Data: fmt.Appendf(nil, "[INCLUDES]\nbefore = %d.conf\nafter = %d.conf\n", i+1, i+1)}
	}
	_, err := LoadFilter(dir, "f", nil, "file")
	if err == nil || !strings.Contains(err.Error(), "more than 1000 files") {
		t.Errorf("LoadFilter: %v, want a bound on files", err)
	}
}

func TestUnreadableFile(t *testing.T) {
	dir := folder("-- f.conf --\n[INCLUDES]\nbefore = sub\n[Definition]\n-- sub/a.conf --\n")
	if _, err := LoadFilter(dir, "f", nil, "file"); err == nil || !strings.Contains(err.Error(), "f.conf:2: read sub") {
		t.Errorf("LoadFilter: %v, want the place of the include", err)
	}
}

func TestErrors(t *testing.T) {
	a, b := &Error{Pos: Pos{"a", 1}, Msg: "x", Hint: "y"}, &Error{Pos: Pos{"b", 0}, Msg: "z"}
	if got := Errors(errors.Join(a, errors.New("other"), errors.Join(b))); !slices.Equal(got, []*Error{a, b}) {
		t.Errorf("Errors = %v", got)
	}
	if got := Errors(nil); got != nil {
		t.Errorf("Errors(nil) = %v", got)
	}
	if got := a.Error() + "|" + b.Error(); got != "a:1: x\n  hint: y|b: z" {
		t.Errorf("Error() = %q", got)
	}
}

// FuzzFilter: two files of any text load or are refused, within the bounds, and every expression has its place.
func FuzzFilter(f *testing.F) {
	f.Add("[INCLUDES]\nbefore = g.conf\n[Definition]\nmode = a\nfailregex = <re-<mode>>\n  %(x)s\nre-a = ^<HOST>$\n", "[DEFAULT]\nx = 1\n  2\n")
	f.Add("[Definition]\nfailregex = <x>\nx = <y>\ny = <x>\n", "")
	f.Add("[Definition]\na = xxxxxxxxxx\nb = %(a)s%(a)s\nc = <b><b>\nfailregex = <c><c> %(known/b)s\n", "[Init?family=inet6]\nx = <a\n")
	f.Add("[INCLUDES]\nafter = f.conf\n  g.conf\n[Definition]\nfailregex = <known/failregex>%%", "[Definition]\nfailregex = <Definition/failregex>\n")
	f.Fuzz(func(t *testing.T, one, two string) {
		dir := fstest.MapFS{"f.conf": {Data: []byte(one)}, "g.conf": {Data: []byte(two)}, "f.local": {Data: []byte(two)}}
		flt, err := LoadFilter(dir, "f", map[string]string{"mode": "b"}, "file")
		if err != nil {
			return
		}
		for _, list := range [][]Regex{flt.Failregex, flt.Ignoreregex, flt.Datepattern} {
			for _, re := range list {
				if re.Text == "" || re.Pos.File == "" {
					t.Errorf("expression %q at %v", re.Text, re.Pos)
				}
			}
		}
		for k, v := range flt.Options {
			if len(v) > 4*maxValue {
				t.Errorf("option %q has %d bytes", k, len(v))
			}
		}
	})
}

func BenchmarkLoadFilter(b *testing.B) {
	dir := folder("-- f.conf --\n[INCLUDES]\nbefore = common.conf\n[Definition]\nmode = normal\nfailregex = ^%(__prefix)s <re-<mode>>$\nre-normal = a <HOST>\n-- common.conf --\n[DEFAULT]\n__prefix = x\n")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := LoadFilter(dir, "f", nil, "file"); err != nil {
			b.Fatal(err)
		}
	}
}
