package host

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// processes makes a machine of which only /proc matters. A process is "PID COMM CMDLINE NAMESPACE"; self is in net:[1].
func processes(t *testing.T, list ...string) *machine {
	t.Helper()
	root := t.TempDir()
	for _, p := range append([]string{"self tocsin tocsin net:[1]"}, list...) {
		f := strings.Fields(p)
		dir := filepath.Join(root, "proc", f[0])
		if err := os.MkdirAll(filepath.Join(dir, "ns"), 0o700); err != nil {
			t.Fatal(err)
		}
		for name, text := range map[string]string{"comm": f[1] + "\n", "cmdline": "/usr/bin/python3\x00" + f[2] + "\x00-xf\x00start\x00"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink(f[3], filepath.Join(dir, "ns/net")); err != nil {
			t.Fatal(err)
		}
	}
	return &machine{root: root}
}

func TestFail2ban(t *testing.T) {
	const server = "/usr/bin/fail2ban-server"
	tests := []struct {
		name      string
		processes []string
		pidfile   string // its text; "": there is none
		want      int    // 0: none is found
	}{
		{"none", nil, "", 0},
		{"others only", []string{"7 nginx nginx net:[1]", "8 fail2ban-client /usr/bin/fail2ban-client net:[1]"}, "", 0},
		{"by its name", []string{"7 nginx nginx net:[1]", "8 fail2ban-server " + server + " net:[1]"}, "", 8},
		{"in a container", []string{"8 fail2ban-server " + server + " net:[2]"}, "", 0},
		{"by its pid file", []string{"8 python3 " + server + " net:[1]"}, "8\n", 8},
		{"pid file of a dead one", nil, "8\n", 0},
		{"pid given to another", []string{"8 nginx nginx net:[1]"}, "8\n", 0},
		{"pid file of a container", []string{"8 python3 " + server + " net:[2]"}, "8\n", 0},
		{"pid file with nonsense", []string{"8 python3 " + server + " net:[1]"}, "-8 ../x\n", 0},
	}
	for _, tt := range tests {
		m := processes(t, tt.processes...)
		if tt.pidfile != "" {
			if err := os.WriteFile(filepath.Join(m.root, "fail2ban.pid"), []byte(tt.pidfile), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		got, ok := m.fail2ban("/fail2ban.sock", "/fail2ban.pid")
		if ok != (tt.want > 0) || got.PID != tt.want || ok && got.How == "" {
			t.Errorf("%s: %+v, %v; want pid %d", tt.name, got, ok, tt.want)
		}
	}
}

// A socket that nobody listens on any more is left behind by a server that was killed.
func TestFail2banSocket(t *testing.T) {
	m := processes(t, fmt.Sprintf("%d python3 x net:[1]", os.Getpid()))
	path := filepath.Join(m.root, "f.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if got, ok := m.fail2ban("/f.sock", ""); !ok || got.PID != os.Getpid() {
		t.Errorf("somebody listens: %+v, %v; want our own pid", got, ok)
	}
	l.Close()
	if got, ok := m.fail2ban("/f.sock", ""); ok {
		t.Errorf("nobody listens: %+v is found", got)
	}
}
