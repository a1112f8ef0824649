package daemon

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tocsin/internal/api"
	"tocsin/internal/config"
	"tocsin/internal/firewall"
)

// TestRefuseBeside: a guard that would ban beside a running fail2ban refuses, says who runs and what to do, and one that only
// watches does not.
func TestRefuseBeside(t *testing.T) {
	if err := firewall.Available(); err != nil {
		t.Skip("a guard cannot ban here, and so refuses nothing: ", err)
	}
	dir, err := os.MkdirTemp("", "f2b") // t.TempDir is too long for a socket's name
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "f.sock")
	for name, text := range map[string]string{
		"fail2ban.conf": fmt.Sprintf("[Definition]\nsocket = %s\npidfile = %s/none.pid\n", socket, dir),
		"jail.conf":     "[DEFAULT]\nbantime = 10m\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	with := func(change func(*Options)) *Options {
		o := &Options{Config: config.Default()}
		o.Config.RunFail2ban(dir)
		change(o)
		return o
	}
	tests := []struct {
		name    string
		o       *Options
		refuses bool
	}{
		{"would ban", with(func(o *Options) {}), true},
		{"observes", with(func(o *Options) { o.Observe = true }), false},
		{"observes by its configuration", with(func(o *Options) { o.Config.Guard.Observe = true }), false},
		{"asked to", with(func(o *Options) { o.BesideFail2ban = true }), false},
		{"has jails of its own", with(func(o *Options) { o.Config.Fail2ban.Dir = "" }), false},
	}
	for _, tt := range tests {
		err := refuseBeside(tt.o)
		if (err != nil) != tt.refuses {
			t.Errorf("%s: %v, want a refusal: %v", tt.name, err, tt.refuses)
			continue
		}
		if err == nil {
			continue
		}
		e := err.(*api.Error)
		if e.Exit != api.ExitFindings || !strings.Contains(e.Msg, fmt.Sprintf("process %d ", os.Getpid())) ||
			!strings.Contains(e.Hint, "--observe") || !strings.Contains(e.Hint, "--beside-fail2ban") || !strings.Contains(e.Hint, "systemctl disable --now fail2ban") {
			t.Errorf("%s: exit %d, %q, hint %q", tt.name, e.Exit, e.Msg, e.Hint)
		}
	}
	l.Close()
	if err := refuseBeside(with(func(o *Options) {})); err != nil {
		t.Errorf("fail2ban has stopped: %v", err)
	}
}
