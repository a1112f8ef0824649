package regex

import (
	"errors"
	"strings"
	"testing"
)

// TestErrors has what is refused, with the byte it is refused at. The messages are Python's where it refuses too, which
// TestErrorsAgainstPython checks.
func TestErrors(t *testing.T) {
	tests := []struct {
		pattern string
		offset  int
		msg     string
		python  bool // Python refuses it too
	}{
		{`*a`, 0, "nothing to repeat", true},
		{`a|*`, 2, "nothing to repeat", true},
		{`^*`, 1, "nothing to repeat", true},
		{`a**`, 2, "multiple repeat", true},
		{`a{2}{3}`, 4, "multiple repeat", true},
		{`a{3,2}`, 2, "min repeat greater than max repeat", true},
		{`(a`, 0, "missing ), unterminated subpattern", true},
		{`a)`, 1, "unbalanced parenthesis", true},
		{`é)`, 2, "unbalanced parenthesis", true},
		{`[a`, 0, "unterminated character set", true},
		{`[z-a]`, 1, "bad character range z-a", true},
		{`[a-\d]`, 1, `bad character range a-\d`, true},
		{`\q`, 0, `bad escape \q`, true},
		{`[\8]`, 1, `bad escape \8`, true},
		{`a\`, 1, "bad escape (end of pattern)", true},
		{`\x1`, 0, `incomplete or bad escape \x1`, true},
		{`\u12`, 0, `incomplete or bad escape \u12`, true},
		{`\U00110000`, 0, `incomplete or bad escape \U00110000`, true},
		{`\400`, 0, `octal escape value \400 outside of range 0-0o377`, true},
		{`\1`, 1, "invalid group reference 1", true},
		{`(a\1)`, 3, "cannot refer to an open group", true},
		{`(?P=x)`, 4, `unknown group name "x"`, true},
		{`(?P<1>a)`, 4, `bad character in group name "1"`, true},
		{`(?P<a>b)(?P<a>c)`, 8, `redefinition of group name "a"`, true},
		{`(?P<>a)`, 4, "missing group name", true},
		{`(?P<a`, 4, "missing >, unterminated name", true},
		{`(?Px)`, 1, "unknown extension ?Px", true},
		{`(?P`, 3, "unexpected end of pattern", true},
		{`(?`, 2, "unexpected end of pattern", true},
		{`(?<a>b)`, 1, "unknown extension ?<a", true},
		{`(?;a)`, 1, "unknown extension ?;", true},
		{`(?(2)a)(b)`, 3, "invalid group reference 2", true},
		{`(?(0)a)`, 3, "bad group number", true},
		{`(?(x)a)`, 3, `unknown group name "x"`, true},
		{`(a)(?(1)a|b|c)`, 11, "conditional backref with more than two branches", true},
		{`(?<=a+)b`, 0, "look-behind requires fixed-width pattern", true},
		{`(?<=a|bc)`, 0, "look-behind requires fixed-width pattern", true},
		{`(?<=(a)\1)b`, 8, "cannot refer to group defined in the same lookbehind subpattern", true},
		{`a(?i)b`, 1, "global flags not at the start of the expression", true},
		{`(?iz)`, 3, "unknown flag", true},
		{`(?-i)`, 4, "missing :", true},
		{`(?i`, 3, "missing -, : or )", true},
		{`(?i-:a)`, 4, "missing flag", true},
		{`(?i-i:a)`, 5, "bad inline flags: flag turned on and off", true},
		{`(?L)a`, 2, "bad inline flags: cannot use 'L' flag with a str pattern", true},
		{`(?au)b`, 3, "bad inline flags: flags 'a', 'u' and 'L' are incompatible", true},
		{`(?#x`, 0, "missing ), unterminated comment", true},
		{`\N{DIGIT ONE}`, 0, `\N{name} is not supported`, false},
		{`(a(?(1)b))`, 5, "a conditional cannot ask for the group it stands in", false},
		{`a{70000}`, 2, "the repeat count is larger than 65536", false},
		{`(?:a{256}){257}`, 0, "the pattern is too large: more than 65536 instructions", false},
		{`(?:(?:(?:){9999}){9999}){9999}`, 0, "the pattern is too large: more than 65536 instructions", false},
		{strings.Repeat("(?:", 201) + strings.Repeat(")", 201), 600, "more than 200 groups within one another", false},
		{strings.Repeat("()", 501), 1000, "more than 500 groups", false},
		{strings.Repeat("a", maxPattern+1), maxPattern, "the pattern has 65537 bytes, more than 65536", false},
	}
	for _, tt := range tests {
		_, err := Compile(tt.pattern, 0)
		var se *SyntaxError
		if !errors.As(err, &se) {
			t.Errorf("Compile(%.40q): %v, want a SyntaxError", tt.pattern, err)
			continue
		}
		if se.Offset != tt.offset || se.Msg != tt.msg || se.Pattern != tt.pattern {
			t.Errorf("Compile(%.40q): at %d %q, want at %d %q", tt.pattern, se.Offset, se.Msg, tt.offset, tt.msg)
		}
		if !strings.Contains(err.Error(), tt.msg) {
			t.Errorf("error %q does not say %q", err, tt.msg)
		}
	}
}

// TestErrorsAgainstPython asks Python about the patterns that both refuse, and both edges of what is taken.
func TestErrorsAgainstPython(t *testing.T) {
	o := newOracle(t)
	for _, p := range []string{
		`*a`, `a**`, `a{2}{3}`, `a{3,2}`, `(a`, `a)`, `[a`, `[z-a]`, `[a-\d]`, `\q`, `[\8]`, `a\`, `\x1`, `\u12`, `\400`, `\1`,
		`(a\1)`, `(?P=x)`, `(?P<1>a)`, `(?P<>a)`, `(?P<a`, `(?Px)`, `(?<a>b)`, `(?(2)a)(b)`, `(?(0)a)`, `(a)(?(1)a|b|c)`,
		`(?<=a+)b`, `(?<=(a)\1)b`, `a(?i)b`, `(?iz)`, `(?-i)`, `(?i`, `(?i-:a)`, `(?i-i:a)`, `(?L)a`, `(?au)b`, `(?#x`,
		// taken
		`a{`, `a{}`, `a{,}`, `a{1`, `a{1,2`, `a{x}`, `{1}a|`, `[]a]`, `[^]a]`, `[a-]`, `[-a]`, `[\w-]`, `[\]]`, `[[a]`, `()*`,
		`(?:^)*`, `(?:a*)*`, `(?=a)*b`, `\0`, `\01`, `\377`, `[\377]`, `(a)\1`, `(a)(b)(c)(d)(e)(f)(g)(h)(i)(j)\10`, `(?(1)a)(b)`,
		`(?P<x>a)(?P=x)(?(x)b|c)`, `(?<=ab|cd)e`, `(?<!a)b`, `(?i)a`, `(?i)(?m)^a`, `(?#c)(?i)a`, `(?i:a)b`, `(?-i:a)`, `(?s-i:.)`,
		`(?x) a b # c`, `a (?x: b c ) d`, `(?a)\w`, `(?u)\w`, `(?a:\w)\w`, `(?!)`, `(?=)`, `a|`, `|`, ``, `(|a)+`, `a??`, `a*+b`,
		`(?>a|ab)c`, `\$\.\-\ \é`, `[\b]`, `\a\f\n\r\t\v`, `\x41\u00e9\U0001F600`, `(?<=(a))b\1`, `x{0}`, `x{2,}`, `(?iu)É`,
	} {
		o.compare(t, p, 0, [][]byte{nil, []byte("a"), []byte("aabbcdefghij"), []byte("\x00\x01\xff é É😀"), []byte("ab ab\nab")}, Options{})
	}
}

func TestRegular(t *testing.T) {
	tests := []struct {
		pattern string
		want    bool
	}{
		{`^a(b|c)*$`, true},
		{`(?<=:):`, true},
		{`(?<!a)b`, true},
		{`a(?=b)`, true},
		{`a(?=\b|\W|$)`, true},
		{`(?:(?! from ).)*`, true},
		{`(<)?a(?(1)>)`, true},
		{`a(?=bc)`, false},
		{`(?<=ab)c`, false},
		{`(a)\1`, false},
		{`(?>a*)b`, false},
		{`a*+b`, false},
		{`(?!(?!ab)c)d`, false},
		{`(?=(a))(?(1)b)`, false},
	}
	for _, tt := range tests {
		re, err := Compile(tt.pattern, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := re.Regular(); got != tt.want {
			t.Errorf("%q is regular: %v, want %v", tt.pattern, got, tt.want)
		}
		if re.String() != tt.pattern {
			t.Errorf("String() = %q, want %q", re, tt.pattern)
		}
	}
}
