package daemon

import (
	"context"
	"errors"
	"slices"
	"testing"

	"tocsin/internal/api"
)

func TestParseIgnored(t *testing.T) {
	tests := []struct{ text, want string }{
		{"192.0.2.7", "192.0.2.7/32"},
		{"127.0.0.1/8", "127.0.0.0/8"},
		{"192.0.2.7/255.255.255.0", "192.0.2.0/24"},
		{"192.0.2.7/255.0.255.0", ""},
		{"192.0.2.7/33", ""},
		{"192.0.2.7/-1", ""},
		{"0.0.0.0/0", "0.0.0.0/0"},
		{"::1", "::1/128"},
		{"[2001:db8::7]/64", "2001:db8::/64"},
		{"2001:db8::7/255.255.0.0", ""},
		{"::ffff:192.0.2.7", "192.0.2.7/32"},
		{"::ffff:192.0.2.7/120", "192.0.2.0/24"},
		{"fe80::1%eth0", ""},
		{"host.example.org", ""},
		{"", ""},
	}
	for _, tt := range tests {
		got := ""
		if p, ok := parseIgnored(tt.text); ok {
			got = p.String()
		}
		if got != tt.want {
			t.Errorf("parseIgnored(%q) = %q, want %q", tt.text, got, tt.want)
		}
	}
}

func TestIgnoredName(t *testing.T) {
	tests := []struct{ text, want string }{
		{"127.0.0.1/8", "127.0.0.0/8"},
		{"host.example.org", "host.example.org"},
		{"999.1.1.1", ""},
		{"a b", ""},
		{"$(reboot)", ""},
		{"", ""},
	}
	for _, tt := range tests {
		got, err := ignoredName(tt.text)
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("ignoredName(%q) = %q, %v, want %q", tt.text, got, err, tt.want)
		}
	}
}

func TestJailOverTheSocket(t *testing.T) {
	w := newWorld(t, "allow = [\"192.0.2.1\"]\n")
	w.start()
	ctx := context.Background()

	var e *api.Error
	if _, err := w.Jail(ctx, "nosuch"); !errors.As(err, &e) || e.Code != api.CodeNoJail {
		t.Errorf("Jail(nosuch) = %v, want code %s", err, api.CodeNoJail)
	}
	if _, err := w.Client.Banned(ctx, "nosuch"); !errors.As(err, &e) || e.Code != api.CodeNoJail {
		t.Errorf("Banned(nosuch) = %v, want code %s", err, api.CodeNoJail)
	}
	for _, r := range []api.BanRequest{{Prefix: "198.51.100.7", Jail: "sshd"}, {Prefix: "198.51.100.8", Jail: "sshd", Seconds: 60}, {Prefix: "198.51.100.9"}} {
		r.AcceptRisk = "lockout"
		if _, err := w.Ban(ctx, r); err != nil {
			t.Fatal(err)
		}
	}
	j, err := w.Jail(ctx, "sshd")
	if err != nil {
		t.Fatal(err)
	}
	if j.TotalBanned != 2 || j.BansNow != 2 || j.BanSeconds != 900 || j.FindSeconds != 600 || len(j.Failregex) == 0 || !slices.Equal(j.Files, []string{w.log}) {
		t.Errorf("Jail(sshd) = %+v", j)
	}
	b, err := w.Client.Banned(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, jail := range b.Jails {
		for _, id := range jail.Banned {
			got = append(got, jail.Name+" "+id.ID)
		}
	}
	if want := []string{"sshd 198.51.100.8", "sshd 198.51.100.7", "operator 198.51.100.9"}; !slices.Equal(got, want) {
		t.Errorf("Banned() = %q, want %q", got, want)
	}
	steps := []struct {
		prefix string
		remove bool
		want   []string
	}{
		{"10.0.0.1/8", false, []string{"192.0.2.1", "10.0.0.0/8"}},
		{"10.0.0.0/8", false, []string{"192.0.2.1", "10.0.0.0/8"}},
		{"host.example.org", false, []string{"192.0.2.1", "10.0.0.0/8", "host.example.org"}},
		{"10.0.0.0/8", true, []string{"192.0.2.1", "host.example.org"}},
		{"10.0.0.0/8", true, []string{"192.0.2.1", "host.example.org"}},
	}
	for _, s := range steps {
		if _, err := w.Allow(ctx, api.AllowRequest{Prefix: s.prefix, Jail: "sshd", Remove: s.remove}); err != nil {
			t.Fatal(err)
		}
		if j, err := w.Jail(ctx, "sshd"); err != nil || !slices.Equal(j.IgnoreIP, s.want) {
			t.Errorf("after %+v jail sshd ignores %q (%v), want %q", s, j.IgnoreIP, err, s.want)
		}
	}
}
