package fail2ban

import (
	"bytes"
	"math"
	"os/exec"
	"path"
	"testing"
)

func TestPythonValue(t *testing.T) {
	tests := []struct {
		v    any
		want string
	}{
		{nil, "None"}, {true, "True"}, {false, "False"}, {0, "0"}, {int64(-5), "-5"},
		{1.0, "1.0"}, {0.5, "0.5"}, {1e16, "1e+16"}, {1e15, "1000000000000000.0"}, {0.0001, "0.0001"}, {0.00001, "1e-05"}, {math.Inf(-1), "-inf"}, {math.NaN(), "nan"},
		{"", "''"}, {"a", "'a'"}, {"it's", `"it's"`}, {`a"b`, `'a"b'`}, {`'"`, `'\'"'`}, {"a\\b\n\t\r\x00\x1f\x7f", `'a\\b\n\t\r\x00\x1f\x7f'`},
		{"ü €\u00a0\u200b\U0001F600", `'ü €\xa0\u200b😀'`}, {"\uFFFD\U000E0001", `'�\U000e0001'`},
		{"\xff\xef", `'\udcff\udcef'`},
		{[]any{}, "[]"}, {[]any{1, "a", nil, []any{true}}, "[1, 'a', None, [True]]"}, {[]string{"a", "b"}, "['a', 'b']"}, {[]string(nil), "[]"},
		{Tuple{}, "()"}, {Tuple{1}, "(1,)"}, {Tuple{1, "a"}, "(1, 'a')"},
		{map[string]any{}, "{}"}, {map[string]any{"b": 1, "a": []string{"x"}}, "{'a': ['x'], 'b': 1}"},
	}
	for _, tt := range tests {
		if got := PythonValue(tt.v); got != tt.want {
			t.Errorf("PythonValue(%#v) = %s, want %s", tt.v, got, tt.want)
		}
	}
}

// TestPythonValueOfPython lets Python read what was written, and write it again.
func TestPythonValueOfPython(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3 here to compare with")
	}
	var list []any
	for r := rune(0); r < 0x800; r++ {
		list = append(list, string(r)+"'x")
	}
	for _, f := range []float64{0, 1, 1.5, 123456.789, 1e-7, 1e22, 0.1, 1.0 / 3, 5e-324, math.MaxFloat64, 12345678901234567} {
		list = append(list, f)
	}
	want := PythonValue(list)
	cmd := exec.CommandContext(t.Context(), python, "-c", "import sys, ast; sys.stdout.buffer.write(repr(ast.literal_eval(sys.stdin.buffer.read().decode())).encode())")
	cmd.Stdin = bytes.NewReader([]byte(want))
	got, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if i := differ(string(got), want); i >= 0 {
		t.Errorf("Python writes %.60q, we %.60q", string(got)[i:], want[i:])
	}
}

// differ is the place where a and b first differ, or -1.
func differ(a, b string) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return max(i-10, 0)
		}
	}
	if len(a) != len(b) {
		return min(len(a), len(b))
	}
	return -1
}

// TestGoPattern: what Python's glob finds by a pattern, path.Match must find by ours.
func TestGoPattern(t *testing.T) {
	tests := []struct {
		pattern, name string
		want          bool
	}{
		{"/var/log/a*.log", "/var/log/abc.log", true},
		{"/var/log/*", "/var/log/a/b", false},
		{"a?c", "abc", true},
		{"[ab]x", "bx", true},
		{"[!ab]x", "bx", false},
		{"[!ab]x", "cx", true},
		{"[^ab]x", "^x", true},
		{"[^ab]x", "cx", false},
		{"[]a]x", "]x", true},
		{"[!]a]x", "]x", false},
		{"[!]a]x", "bx", true},
		{"[a", "[a", true},
		{"[", "[", true},
		{"[!", "[!", true},
		{"a]", "a]", true},
		{`a\b`, `a\b`, true},
		{`[\]x`, `\x`, true},
		{`a\*`, `a\b`, true},
		{"[a-c]", "b", true},
		{"[-a]x", "-x", true},
		{"[a-]x", "-x", true},
		{"[!-a]x", "bx", true},
		{"[!-a]x", "-x", false},
		{"[b-a]x", "ax", false},
	}
	for _, tt := range tests {
		got, err := path.Match(GoPattern(tt.pattern), tt.name)
		if got != tt.want || err != nil {
			t.Errorf("Match(GoPattern(%q) = %q, %q) = %v, %v, want %v", tt.pattern, GoPattern(tt.pattern), tt.name, got, err, tt.want)
		}
	}
}

func FuzzGoPattern(f *testing.F) {
	for _, s := range []string{"/var/log/*.log", "[!a]", "[]", "[!]", "[]-a]", `\`, `[\`, "[a-", "[--]", "[b-a]", "[!^-]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, pattern string) {
		if _, err := path.Match(GoPattern(pattern), "/var/log/a.log"); err != nil {
			t.Errorf("GoPattern(%q) = %q: %v", pattern, GoPattern(pattern), err)
		}
	})
}

func TestShellWords(t *testing.T) {
	tests := []struct {
		s      string
		want   string
		closed bool
	}{
		{"_COMM=a + _COMM=b", "['_COMM=a', '+', '_COMM=b']", true},
		{"", "[]", true},
		{`a="b c" 'd'"e"`, "['a=b c', 'de']", true},
		{`a\ b "c\"d\e" '\'`, `['a b', 'c"d\\e', '\\']`, true},
		{`'' x`, "['', 'x']", true},
		{`a 'b`, "['a', 'b']", false},
	}
	for _, tt := range tests {
		words, closed := shellWords(tt.s)
		if got := PythonValue(words); got != tt.want || closed != tt.closed {
			t.Errorf("shellWords(%q) = %s, %v, want %s, %v", tt.s, got, closed, tt.want, tt.closed)
		}
	}
}
