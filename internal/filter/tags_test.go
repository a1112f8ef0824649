package filter

import (
	"errors"
	"strings"
	"testing"

	"tocsin/internal/fail2ban"
	"tocsin/internal/regex"
)

func TestExpand(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"no tag", `^a b$`, `^a b$`},
		{"host", `^<HOST>$`, `^` + exprHost + `$`},
		{"address", `<ADDR>`, exprAddr},
		{"subnet", `<SUBNET>`, exprNet},
		{"field", `<F-USER>\S+</F-USER>`, `(?P<user>\S+)`},
		{"nested", `<F-MLFFORGET><F-MLFGAINED>a</F-MLFGAINED></F-MLFFORGET>`, `(?P<mlfforget>(?P<mlfgained>a))`},
		{"id and port", `<F-ID>\d+</F-ID> <F-PORT/>`, `(?P<fid>\d+) ` + exprPort},
		{"port of its own", `<F-PORT>\d+</F-PORT>`, `(?P<fport>\d+)`},
		{"skiplines", `a<SKIPLINES>b<SKIPLINES>c`, `a\n(?P<skiplines0>(?:(?:.*\n)*?))b\n(?P<skiplines1>(?:(?:.*\n)*?))c`},
		{"close without open", `a</F-USER>`, `a</F-USER>`},
		{"open without close", `<F-USER>a`, `<F-USER>a`},
		{"no tag of ours", `<NOSRV> <a> <> <HOST`, `<NOSRV> <a> <> <HOST`},
		{"lower case", `<host>`, `<host>`},
		{"group with a name", `(?P<user>x)`, `(?P<user>x)`},
		{"old flags", `^((?i)x)y`, `^(?i:x)y`},
		{"old flags, no group", `(?:(?iu)x)`, `(?iu:x)`},
		{"escaped parenthesis", `\((?i)`, `\((?i)`},
	}
	for _, tt := range tests {
		got, err := expand(tt.in, true)
		if err != nil || got.text != tt.want {
			t.Errorf("%s: expand(%q) = %q, %v, want %q", tt.name, tt.in, got.text, err, tt.want)
		}
	}
	if got, _ := expand("<HOST>", false); got.text != exprAddr {
		t.Errorf("without names <HOST> is %q, want %q", got.text, exprAddr)
	}
}

func TestExpandMistakes(t *testing.T) {
	for _, in := range []string{`<F-A><F-B></F-A></F-B>`, strings.Repeat("<HOST>", 1000)} {
		if got, err := expand(in, true); err == nil {
			t.Errorf("expand(%.40q) = %.40q, want a mistake", in, got.text)
		}
	}
}

// The place of a mistake is told in what the user wrote, not in what became of it.
func TestMistakesTellTheirPlace(t *testing.T) {
	at := func(line int, text string) fail2ban.Regex {
		return fail2ban.Regex{Text: text, Pos: fail2ban.Pos{File: "bad.conf", Line: line}}
	}
	_, err := New(fail2ban.Filter{
		Name: "bad",
		Failregex: []fail2ban.Regex{
			at(3, `^<HOST> (a$`), at(4, `^fine <HOST>$`), at(5, `^nobody$`), at(6, `^(?P<host>\S+) <F-ID/>$`), at(7, `<F-A><F-B></F-A></F-B>`),
		},
		Ignoreregex: []fail2ban.Regex{at(9, `*`)},
		Datepattern: []fail2ban.Regex{at(11, `%Y(`)},
	}, Options{})
	var lines []int
	for _, e := range fail2ban.Errors(err) {
		lines = append(lines, e.Pos.Line)
	}
	if want := "[11 3 6 7 9]"; sprint(lines) != want {
		t.Errorf("mistakes in lines %v, want %s:\n%v", lines, want, err)
	}
	if want := `at character 9, at "(a$"`; !strings.Contains(err.Error(), want) {
		t.Errorf("mistakes %q do not say %q", err, want)
	}
}

func TestNewRefuses(t *testing.T) {
	tests := []struct {
		name, want string
		def        fail2ban.Filter
	}{
		{"no failregex", "has no failregex", fail2ban.Filter{Name: "a"}},
		{"nobody to blame", "who is to blame", fail2ban.Filter{Name: "a", Failregex: list("^a$")}},
	}
	for _, tt := range tests {
		if _, err := New(tt.def, Options{}); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want one that says %q", tt.name, err, tt.want)
		}
	}
}

// FuzzExpand checks that tags never make an expression of what was none, or the other way about, by accident: what
// expand accepts either compiles or fails with a place inside the text that the user wrote.
func FuzzExpand(f *testing.F) {
	for _, s := range []string{"^<HOST>$", "<F-USER>.*</F-USER> from <ADDR>", "((?i)a)<SUBNET>", "<SKIPLINES>", "<F-ID/><F-PORT/>", "</F-X><F-X>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		e, err := expand(s, true)
		if err != nil || len(e.text) > 4096 {
			return
		}
		var syntax *regex.SyntaxError
		if _, err := regex.Compile(e.text, 0); errors.As(err, &syntax) {
			if at := e.source(syntax.Offset); at < 0 || at > len(s) {
				t.Errorf("the mistake in %q stands at %d", s, at)
			}
		}
	})
}
