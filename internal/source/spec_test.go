package source

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	tests := []struct{ spec, want string }{
		{"file:/var/log/auth.log", "file /var/log/auth.log"},
		{"file:/var/log/../log//*.log", "file /var/log/*.log"},
		{"journal:", "journal []"},
		{"journal:_SYSTEMD_UNIT=ssh.service", "journal [_SYSTEMD_UNIT=ssh.service]"},
		{"journal:_COMM=sshd  _UID=0 + _COMM=x", "journal [_COMM=sshd _UID=0 + _COMM=x]"},
		{"syslog:udp://127.0.0.1:5514", "syslog udp 127.0.0.1:5514 []"},
		{"syslog:tcp://[::1]:5514", "syslog tcp [::1]:5514 []"},
		{"syslog:udp://0.0.0.0:514?allow=192.0.2.7/24,2001:db8::7", "syslog udp 0.0.0.0:514 [192.0.2.0/24 2001:db8::7/128]"},
		{"syslog:unix:///run/tocsin/log", "syslog unix /run/tocsin/log 600"},
		{"syslog:unix:///run/tocsin/log?mode=0666", "syslog unix /run/tocsin/log 666"},
		{"/var/log/auth.log", "no kind before a colon"},
		{"fille:/var/log/auth.log", `unknown kind "fille"`},
		{"file:auth.log", "no absolute path"},
		{"file:/var/log/", "ends in a slash"},
		{"file:/var/log/[a", "not closed"},
		{"file:/var/log/a\x00", "NUL"},
		{"journal:ssh.service", "no journal match"},
		{"journal:--file=/etc/shadow", "no journal match"},
		{"journal:_comm=x", "no journal match"},
		{"journal:_COMM=", "has no value"},
		{"journal:+ A=b", "no match before it"},
		{"journal:A=b +", "no match behind it"},
		{"syslog:127.0.0.1:514", "no network"},
		{"syslog:sctp://127.0.0.1:514", `unknown network "sctp"`},
		{"syslog:udp://localhost:514", "no address with a port"},
		{"syslog:udp://127.0.0.1", "no address with a port"},
		{"syslog:udp://[fe80::1%eth0]:514", "zone"},
		{"syslog:udp://0.0.0.0:514", "nobody is said to be allowed"},
		{"syslog:udp://127.0.0.1:514?allow=x", `"x" is no address`},
		{"syslog:udp://127.0.0.1:514?allov=192.0.2.1", `unknown setting "allov"`},
		{"syslog:udp://127.0.0.1:514?mode=0600", `unknown setting "mode"`},
		{"syslog:unix://run/log", "no absolute path"},
		{"syslog:unix:///" + strings.Repeat("x", 107), "no absolute path of at most"},
		{"syslog:unix:///run/log?mode=999", "no permissions"},
	}
	for _, tt := range tests {
		s, err := Parse(tt.spec)
		var got string
		switch {
		case err != nil:
			var se *SpecError
			if !errors.As(err, &se) || se.Hint == "" {
				t.Errorf("Parse(%q): error %v has no hint", tt.spec, err)
			}
			got = err.Error()
		case s.Kind == KindFile:
			got = fmt.Sprint(s.Kind, " ", s.Path)
		case s.Kind == KindJournal:
			got = fmt.Sprint(s.Kind, " ", s.Match)
		case s.Network == "unix":
			got = fmt.Sprintf("%v unix %s %o", s.Kind, s.Path, s.Mode)
		default:
			got = fmt.Sprint(s.Kind, " ", s.Network, " ", s.Addr, " ", s.Allow)
		}
		if err == nil && got != tt.want || !strings.Contains(got, tt.want) {
			t.Errorf("Parse(%q) = %s, want %s", tt.spec, got, tt.want)
		}
	}
	if got := Kind(9).String(); got != "kind(9)" {
		t.Errorf("Kind(9) = %s", got)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"file:/a[b]*", "journal:A=b + C=d", "syslog:udp://[::1]:1?allow=::/0", "syslog:unix:///x?mode=0600"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if s, err := Parse(text); err == nil && (s.Kind == 0 || s.Text != text) {
			t.Errorf("Parse(%q) = %+v", text, s)
		}
	})
}

func TestIsRotated(t *testing.T) {
	tests := []struct {
		base, name string
		want       bool
	}{
		{"auth.log", "auth.log.1", true},
		{"auth.log", "auth.log-20261122", true},
		{"auth.log", "auth.log-2026-11-22T17:00", true},
		{"auth.log", "auth.log.old", true},
		{"auth.log", "auth.log~", true},
		{"auth.log", "auth-20261122.log", true},
		{"auth.log", "auth.1.log", true},
		{"auth.log", "auth.log", false},
		{"auth.log", "auth.log.1.gz", false},
		{"auth.log", "auth-ssl.log", false},
		{"auth.log", "auth.log.", false},
		{"syslog", "syslog-ng.log", false},
		{"syslog", "syslog.1", true},
		{"syslog", "syslog1", false},
	}
	for _, tt := range tests {
		if got := isRotated(tt.base, tt.name); got != tt.want {
			t.Errorf("isRotated(%q, %q) = %v, want %v", tt.base, tt.name, got, tt.want)
		}
	}
}
