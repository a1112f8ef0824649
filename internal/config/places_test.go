package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPlaces(t *testing.T) {
	tests := []struct {
		name, text    string
		state, socket string
	}{
		{"nothing", "", "", ""},
		{"well", "state = \"/srv/t\"\nsocket = \"/run/t.sock\"\n", "/srv/t", "/run/t.sock"},
		{"amid mistakes", "listen = \nbantme = 10x\n\tstate=\"/srv/t\" # here\n= =\nsocket = '/run/t.sock'\n[[jail]\n", "/srv/t", "/run/t.sock"},
		{"from Windows", "\ufeffstate = \"/srv/t\"\r\nsocket = /run/t.sock\r\n", "/srv/t", "/run/t.sock"},
		{"without quotes", "state = /srv/my state # here\n", "/srv/my state", ""},
		{"one quote", "state = \"/srv/t\nsocket = /run/t.sock'\n", "/srv/t", "/run/t.sock"},
		{"quoted keys", "\"state\" = \"/srv/t\"\n'socket' = \"/run/t.sock\"", "/srv/t", "/run/t.sock"},
		{"escapes", `state = "/srv/\u00fc \"t\""`, `/srv/ü "t"`, ""},
		{"escapes that Go has not", `state = "/srv/\e"`, `/srv/\e`, ""},
		{"a hash within", `state = "/srv/#1" # here`, "/srv/#1", ""},
		{"twice", "state = \"/srv/a\"\nstate = \"/srv/b\"\n", "/srv/a", ""},
		{"behind a header", "[guard]\nstate = \"/srv/t\"\n", "", ""},
		{"behind a broken header", "[[jail\nstate = \"/srv/t\"\n", "", ""},
		{"in a comment", "# state = \"/srv/t\"\n", "", ""},
		{"another key", "statex = \"/srv/t\"\nmy.state = \"/srv/t\"\n", "", ""},
		{"no whole path", "state = \"srv/t\"\nsocket = 7\n", "", ""},
		{"a path too long for a socket", "socket = \"/" + strings.Repeat("s", 107) + "\"\n", "", ""},
		{"a path as long as can be", "socket = \"/" + strings.Repeat("s", 106) + "\"\n", "", "/" + strings.Repeat("s", 106)},
		{"control characters", `state = "/srv/\n"`, "", ""},
		{"no value", "state =\nsocket", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "tocsin.toml")
			if err := os.WriteFile(file, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if state, socket := Places(file); state != tt.state || socket != tt.socket {
				t.Errorf("Places of %q = %q, %q; want %q, %q", tt.text, state, socket, tt.state, tt.socket)
			}
		})
	}
	for _, unreadable := range []string{filepath.Join(t.TempDir(), "absent.toml"), t.TempDir()} {
		if state, socket := Places(unreadable); state != "" || socket != "" {
			t.Errorf("Places(%s) = %q, %q; want nothing", unreadable, state, socket)
		}
	}
}

// Where a file has no mistake, a glance at its lines must find what the reader finds.
func FuzzPlaces(f *testing.F) {
	f.Add([]byte(whole))
	f.Add([]byte("state = \"/srv/t\"\nsocket = \"/run/t.sock\"\n"))
	f.Add([]byte("\"state\" = '/srv/t' # here\r\n[guard]\nobserve = true\n"))
	f.Add([]byte("state = /srv/t\nsocket = \"/run/t.sock"))
	f.Fuzz(func(t *testing.T, data []byte) {
		state, socket := places(data)
		if state != "" && checkPath(state) != nil || socket != "" && checkSocket(socket) != nil {
			t.Fatalf("places(%q) = %q, %q", data, state, socket)
		}
		c, err := Parse("", data)
		if err != nil {
			return
		}
		// Multi-line texts and escaped keys are for the reader alone; nobody writes a path so.
		if strings.Contains(string(data), `"""`) || strings.Contains(string(data), "'''") {
			return
		}
		if state != "" && state != c.State || socket != "" && socket != c.Socket {
			t.Fatalf("places(%q) = %q, %q; the reader finds %q, %q", data, state, socket, c.State, c.Socket)
		}
	})
}
