package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tocsin/internal/config"
)

const oldLog = `2026-11-01T00:00:01+00:00 web1 sshd[1]: Failed password for root from 192.0.2.7 port 1 ssh2
2026-11-01T00:00:02+00:00 web1 sshd[2]: Failed password for root from 192.0.2.7 port 2 ssh2
2026-11-01T00:00:03+00:00 web1 sshd[3]: Failed password for root from 2001:db8:1:2::3 port 3 ssh2
2026-11-01T00:00:04+00:00 web1 sshd[4]: Failed password for root from 2001:db8:1:2::4 port 3 ssh2
2026-11-01T00:00:05+00:00 web1 sshd[5]: Accepted password for marie from 2001:db8:1:2::5 port 3 ssh2
2026-11-01T00:00:06+00:00 web1 sshd[6]: Failed password for root from 198.51.100.1 port 1 ssh2
2026-11-01T00:00:07+00:00 web1 sshd[7]: Failed password for root from 198.51.100.1 port 1 ssh2
2026-11-01T00:00:08+00:00 web1 sshd[8]: Failed password for root from 127.0.0.1 port 1 ssh2
2026-11-01T00:00:09+00:00 web1 sshd[9]: Failed password for root from 127.0.0.1 port 1 ssh2
2026-11-01T01:00:00+00:00 web1 sshd[10]: Failed password for root from 192.0.2.7 port 1 ssh2
2026-11-01T01:00:01+00:00 web1 sshd[11]: Failed password for root from 192.0.2.7 port 2 ssh2
`

func TestReplay(t *testing.T) {
	path := filepath.Join(t.TempDir(), "auth.log")
	if err := os.WriteFile(path, []byte(oldLog), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Parse("t.toml", []byte("[guard]\nallow = [\"198.51.100.0/24\"]\n[[jail]]\nname = \"sshd\"\nfilter = \"sshd\"\nmaxretry = 2\n"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := Replay(context.Background(), ReplayOptions{Config: c, Logs: []string{path, "-"}, Stdin: strings.NewReader(""), Until: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	if r.Lines != 11 || r.Failures != 10 || r.Spared != 4 || int(r.Bytes) != len(oldLog) {
		t.Errorf("%d lines, %d bytes, %d failures, %d spared; want 11, %d, 10, 4", r.Lines, r.Bytes, r.Failures, r.Spared, len(oldLog))
	}
	var bans []string
	for _, b := range r.Bans {
		bans = append(bans, fmt.Sprintf("%s %d times, %d failures, first %s, succeeded %v", b.Prefix, b.Times, b.Failures, b.First.UTC().Format(time.TimeOnly), b.Succeeded))
	}
	want := "192.0.2.7/32 2 times, 4 failures, first 00:00:02, succeeded false\n" +
		"2001:db8:1:2::/64 1 times, 2 failures, first 00:00:04, succeeded true"
	if got := strings.Join(bans, "\n"); got != want {
		t.Errorf("bans:\n%s\nwant:\n%s", got, want)
	}
	if len(r.Rules) != 1 || r.Rules[0].N != 10 || !strings.HasPrefix(r.Rules[0].Rule, "^Failed") {
		t.Errorf("rules = %+v, want the one for failed passwords, ten times", r.Rules)
	}
}

func TestReplayMistakes(t *testing.T) {
	c := config.Default()
	if _, err := Replay(context.Background(), ReplayOptions{Config: c, Logs: []string{"/nowhere/auth.log"}}); err == nil {
		t.Error("a log that does not exist can be replayed")
	}
	c.Jails[0].Filter = "nosuch"
	if _, err := Replay(context.Background(), ReplayOptions{Config: c}); err == nil {
		t.Error("a filter that does not exist can be replayed")
	}
}

func TestCheck(t *testing.T) {
	c, err := config.Parse("t.toml", []byte(`[[jail]]
name = "sshd"
filter = "sshd"
sources = ["file:/x", "syslog:udp://127.0.0.1:5514", "journal:_SYSTEMD_UNIT=ssh.service"]
bantime = "forever"
[[jail]]
name = "mail"
filter = "postfix-sasl"
sources = ["file:/y"]
[[jail]]
name = "all"
filter = "vsftpd"
sources = ["file:/y"]
ports = "all"
[[jail]]
name = "off"
filter = "vsftpd"
enabled = false
`))
	if err != nil {
		t.Fatal(err)
	}
	plan, err := Check(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	plans := plan.Jails
	if len(plans) != 3 {
		t.Fatalf("%d jails, want the three that are enabled", len(plans))
	}
	for i, want := range []string{"sshd 3 sources", "mail 1 sources [25 465 587]", "all 1 sources []"} {
		p := plans[i]
		got := fmt.Sprintf("%s %d sources", p.Jail, len(p.Sources))
		if i > 0 {
			got += fmt.Sprint(" ", p.Ports)
		}
		if got != want || p.Rules == 0 {
			t.Errorf("jail %d = %s with %d rules, want %s", i, got, p.Rules, want)
		}
	}
}

// Mistakes of every kind are told at once, in the order of the file.
func TestMistakesOfEveryKind(t *testing.T) {
	c, err := config.Parse("t.toml", []byte(`[[jail]]
name = "a"
filter = "nosuch"
maxretry = "many"
ports = [1]
sources = ["pigeon:1"]
[[jail]]
name = "b"
filter = "sshd"
findtime = "10x"
`))
	var found config.Errors
	if !errors.As(err, &found) {
		t.Fatalf("Parse() = %v, want mistakes", err)
	}
	var places []string
	for _, e := range Mistakes(c, found) {
		places = append(places, e.Pos.String())
	}
	if got, want := strings.Join(places, " "), "t.toml:3:10 t.toml:4:12 t.toml:6:12 t.toml:10:12"; got != want {
		t.Errorf("mistakes at %s, want %s", got, want)
	}
}

func TestEverySourceOpens(t *testing.T) {
	for _, name := range []string{"file:/var/log/auth.log", "syslog:udp://127.0.0.1:5514", "journal:_SYSTEMD_UNIT=ssh.service"} {
		src, err := openSource(name, sourceOptions{})
		if err != nil || src == nil {
			t.Errorf("openSource(%q) = %v, %v", name, src, err)
		}
	}
	if _, err := openSource("pigeon:1", sourceOptions{}); err == nil {
		t.Error("a pigeon can be read")
	}
}
