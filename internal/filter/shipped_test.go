package filter

import (
	"strings"
	"testing"
)

func TestLoadSpecs(t *testing.T) {
	tests := []struct {
		spec string
		want string // in the error, "" if there is none
	}{
		{"sshd", ""},
		{"sshd[mode=normal]", ""},
		{"sshd[mode=aggressive]", ""},
		{"wordpress[xmlrpc=ignore]", ""},
		{"nosuch", "there is no filter"},
		{"common", "there is no filter"},
		{"sshd[moed=aggressive]", `no option "moed"; it has: mode`},
		{"vsftpd[mode=x]", "it has: none"},
		{"sshd[mode=agressive]", `no mode "agressive"; it has: aggressive, normal`},
		{"sshd[mode", "mode"},
	}
	for _, tt := range tests {
		f, err := Load(tt.spec)
		switch {
		case tt.want == "" && (err != nil || len(f.Failregex) == 0):
			t.Errorf("Load(%q) = %d rules, %v", tt.spec, len(f.Failregex), err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("Load(%q) = %v, want an error with %q", tt.spec, err, tt.want)
		}
	}
}

func TestOnlyOptionsAreSettable(t *testing.T) {
	want := map[string]string{"sshd": "mode", "wordpress": "xmlrpc"}
	for _, name := range Shipped() {
		f, err := Load(name)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(settable(f), " "); got != want[name] {
			t.Errorf("%s has the options %q, want %q", name, got, want[name])
		}
	}
}
