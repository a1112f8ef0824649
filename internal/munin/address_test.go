package munin

import (
	"slices"
	"strings"
	"testing"
)

func TestParseAddress(t *testing.T) {
	tests := []struct {
		text string
		want Address
	}{
		{"web1.example", Address{Scheme: "munin", Host: "web1.example"}},
		{" 192.0.2.7:4950 ", Address{Scheme: "munin", Host: "192.0.2.7", Port: 4950}},
		{"2001:db8::1", Address{Scheme: "munin", Host: "2001:db8::1"}},
		{"[2001:db8::1]", Address{Scheme: "munin", Host: "2001:db8::1"}},
		{"munin://[2001:db8::1]:4949", Address{Scheme: "munin", Host: "2001:db8::1", Port: 4949}},
		{"munin://web1/", Address{Scheme: "munin", Host: "web1"}},
		{"ssh://web1", Address{Scheme: "ssh", Host: "web1"}},
		{"ssh://munin@web1:2222/usr/share/munin/munin-async --spoolfetch", Address{Scheme: "ssh", User: "munin", Host: "web1", Port: 2222, Command: "/usr/share/munin/munin-async --spoolfetch"}},
		{"ssh://web1/", Address{Scheme: "ssh", Host: "web1"}},
		{"ssh://web1/bin/sh -c 'echo $HOME'", Address{Scheme: "ssh", Host: "web1", Command: "/bin/sh -c 'echo $HOME'"}},
		{"cmd:///usr/bin/nc 192.0.2.7 4949", Address{Scheme: "cmd", Command: "/usr/bin/nc 192.0.2.7 4949"}},
		{"cmd://me@here/bin/true", Address{Scheme: "cmd", Command: "/bin/true"}},
	}
	for _, tt := range tests {
		got, err := ParseAddress(tt.text)
		if err != nil || got != tt.want {
			t.Errorf("ParseAddress(%q) = %+v, %v; want %+v", tt.text, got, err, tt.want)
			continue
		}
		if again, err := ParseAddress(got.String()); err != nil || again != got {
			t.Errorf("ParseAddress(%q) as it is shown: %+v, %v; want %+v", got, again, err, got)
		}
	}
}

func TestParseAddressRefuses(t *testing.T) {
	tests := []struct{ text, want string }{
		{"", `"" is no name of a host`},
		{"http://web1", `"http" is none of munin, ssh and cmd`},
		{"web1:0", "no number from 1 to 65535"},
		{"web1:4949:4949", "no host and port"},
		{"web1 --option", "no name of a host"},
		{"web1/path", "no name of a host"},
		{"ssh://-oProxyCommand=id/x", "no name of a host"},
		{"ssh://-l@web1/x", `the user "-l" is none`},
		{"ssh://a b@web1/x", "the user"},
		{"ssh://web1/x\ny", "control character"},
		{"cmd://", "no command is named"},
		{"cmd:///bin/cat /etc/passwd | mail", "no shell runs the command: | means nothing"},
		{"cmd:///bin/echo $HOME", "no shell runs the command: $ means nothing"},
		{`cmd:///bin/echo "$HOME"`, "inside double quotes"},
		{"cmd:///bin/echo 'a", "not closed"},
		{`cmd:///bin/echo \`, "a backslash at the end"},
	}
	for _, tt := range tests {
		if got, err := ParseAddress(tt.text); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("ParseAddress(%q) = %+v, %v; want an error with %q", tt.text, got, err, tt.want)
		}
	}
}

func TestSplitWords(t *testing.T) {
	tests := []struct {
		text string
		want []string
	}{
		{"/bin/true", []string{"/bin/true"}},
		{"/bin/sh  -c\t'echo $1; exit' \"a b\"c d\\ e ''", []string{"/bin/sh", "-c", "echo $1; exit", "a bc", "d e", ""}},
	}
	for _, tt := range tests {
		if got, err := splitWords(tt.text); err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("splitWords(%q) = %q, %v; want %q", tt.text, got, err, tt.want)
		}
	}
}

func FuzzParseAddress(f *testing.F) {
	for _, s := range []string{"web1", "munin://[::1]:4949", "ssh://a@b:1/c d", "cmd:///a 'b c'", "::ffff:1.2.3.4", "fe80::1%eth0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		a, err := ParseAddress(text)
		if err != nil {
			return
		}
		if again, err := ParseAddress(a.String()); err != nil || again != a {
			t.Fatalf("%q is %+v, and as shown (%q) %+v, %v", text, a, a, again, err)
		}
	})
}
