package e2e

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"tocsin/e2e/lab"
	"tocsin/internal/api"
)

func TestCommandsAndExitCodes(t *testing.T) {
	s := guarded(t, 2*time.Minute, sshd)
	s.write("/run/lab/bad.toml", "findtime = 10x\n", 0o644)
	session, err := s.Honest.Open(s.ctx, lab.Login{To: lab.VictimHonest})
	if err != nil {
		t.Fatal(err)
	}
	if err := session.Type(s.ctx, lab.Password, answer); err != nil {
		t.Fatal(err)
	}
	if err := session.Echo(s.ctx, "in", answer); err != nil {
		t.Fatal(err)
	}
	s.within(answer, "the login to be known", func() (bool, error) { return len(s.why(lab.Honest).Logins) > 0, nil })

	const root, marie = 0, 4242
	tests := []struct {
		name   string
		uid    uint32
		args   string
		code   int
		want   string // in one of the outputs
		schema string // of the one JSON object on standard output, "" for text
	}{
		{"bare", root, "", 0, "enforcing", ""},
		{"status", root, "status --json", 0, "", "tocsin.status/1"},
		{"version", root, "version", 0, "tocsin", ""},
		{"no ban yet", root, "bans", 0, "nobody is banned", ""},
		{"no ban yet, for a script", root, "bans --json", 0, `"bans":[]`, "tocsin.bans/1"},
		{"ban", root, "ban 203.0.113.7 --for 1h --reason flood", 0, "undo", ""},
		{"ban for a script", root, "ban 203.0.113.8 --json", 0, "", "tocsin.change/1"},
		{"bans", root, "bans", 0, "203.0.113.7", ""},
		{"why banned", root, "why 203.0.113.7", 0, "flood", ""},
		{"why not", root, "why 203.0.113.99 --json", 0, `"banned":false`, "tocsin.why/1"},
		{"unban", root, "unban 203.0.113.7", 0, "", ""},
		{"allow", root, "allow 203.0.113.20 --for 7d", 0, "", ""},
		{"allow lists", root, "allow --json", 0, "203.0.113.20", "tocsin.allowed/1"},
		{"ban of somebody allowed", root, "ban 203.0.113.20", 78, "allow", ""},
		{"ban of ourselves", root, "ban 192.0.2.1", 78, "", ""},
		{"ban of a session's source", root, "ban 198.51.100.10", 78, "lockout", ""},
		{"ban of half the world", root, "ban 0.0.0.0/1", 78, "", ""},
		{"ban of a short IPv6 prefix", root, "ban 2001::/18", 78, "", ""},
		{"allow no more", root, "allow 203.0.113.20 --remove", 0, "", ""},
		{"metrics", root, "metrics", 0, "# TYPE tocsin_", ""},
		{"check", root, "check " + configFile, 0, "", ""},
		{"check of a bad file", root, "check /run/lab/bad.toml", 78, "bad.toml:1:", ""},
		{"check of no file", root, "check /run/lab/none.toml", 66, "none.toml", ""},
		{"replay", root, "replay --json " + lab.AuthLog, 0, "", "tocsin.replay/1"},
		{"replay of no file", root, "replay /run/lab/none.log", 66, "none.log", ""},
		{"doctor", root, "doctor --json", 0, "", "tocsin.doctor/1"},
		{"no such command", root, "bam 203.0.113.7", 64, "", ""},
		{"no such flag", root, "bans --alll", 64, "", ""},
		{"no address", root, "why 203.0.113.700", 64, "", ""},
		{"help", root, "why --help", 0, "Example: tocsin why", ""},
		{"somebody else may not ask", marie, "bans", 77, "", ""},
		{"somebody else may not ban", marie, "ban 203.0.113.9", 77, "", ""},
		{"somebody else may ask for the version", marie, "version", 0, "tocsin", ""},
		{"nobody answers", root, "bans --socket /run/lab/none.sock", 69, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			stdout, stderr, code := s.command(tt.uid, strings.Fields(tt.args)...)
			if code != tt.code {
				t.Errorf("tocsin %s: code %d, want %d\n%s%s", tt.args, code, tt.code, stdout, stderr)
			}
			if !strings.Contains(stdout+stderr, tt.want) {
				t.Errorf("tocsin %s: %q is not in\n%s%s", tt.args, tt.want, stdout, stderr)
			}
			if tt.code != 0 && tt.code != api.ExitFindings && (stdout != "" || stderr == "") {
				t.Errorf("tocsin %s: an error belongs on standard error, with nothing on standard output: %q, %q", tt.args, stdout, stderr)
			}
			if tt.schema == "" {
				return
			}
			var object struct{ Schema string }
			if err := json.Unmarshal([]byte(stdout), &object); err != nil || object.Schema != tt.schema {
				t.Errorf("tocsin %s: schema %q (%v), want %q", tt.args, object.Schema, err, tt.schema)
			}
		})
	}
	if err := session.Echo(s.ctx, "still", answer); err != nil {
		t.Errorf("the session that could not be banned: %v", err)
	}
}

// A ban by hand cuts on all ports, an unban lets in, and who may be locked out by it must be meant.
func TestBanByHand(t *testing.T) {
	s := guarded(t, time.Minute, sshd)
	stop, err := s.Victim.Listen(netip.AddrPortFrom(lab.VictimAttacker, 80), "web")
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	s.must("ban", lab.Attacker.String(), "--for", "1h")
	s.shutOut(s.Attacker, lab.VictimAttacker, 22, 80)
	s.must("unban", lab.Attacker.String())
	s.reaches(s.Attacker, lab.VictimAttacker, 22, 80)
	s.must("ban", "192.0.2.64/26")
	s.shutOut(s.Attacker, lab.VictimAttacker, 22, 80)
	s.must("unban", lab.Attacker.String())
	s.reaches(s.Attacker, lab.VictimAttacker, 22, 80)

	// An unban forgets what was counted: the next typing error does not ban again.
	s.guess(s.Attacker, 5, wrong(lab.VictimAttacker, 2200))
	s.shutOut(s.Attacker, lab.VictimAttacker, 22)
	s.must("unban", lab.Attacker.String())
	s.guess(s.Attacker, 4, wrong(lab.VictimAttacker, 2200))
	s.reaches(s.Attacker, lab.VictimAttacker, 22)
}

// Whoever is on the allow list is not banned, and comes under the rule again when the entry ends.
func TestAllowed(t *testing.T) {
	s := guarded(t, time.Minute, sshd)
	s.must("allow", lab.Attacker.String(), "--note", "a scanner of ours")
	s.guess(s.Attacker, 7, wrong(lab.VictimAttacker, 2200))
	s.reaches(s.Attacker, lab.VictimAttacker, lab.Ports...)
	if w := s.why(lab.Attacker); w.Banned || w.Allowed == nil {
		t.Errorf("why: banned %v, allowed %v", w.Banned, w.Allowed)
	}
	s.must("allow", lab.Attacker.String(), "--remove")
	s.guess(s.Attacker, 5, wrong(lab.VictimAttacker, 2200))
	s.shutOut(s.Attacker, lab.VictimAttacker, lab.Ports...)
}

// Without the right to touch the firewall, or asked not to, it watches, decides and says so.
func TestObserve(t *testing.T) {
	s := newScene(t, time.Minute)
	s.configure(sshd)
	s.run("--config", configFile, "--observe")
	s.guess(s.Attacker, 5, wrong(lab.VictimAttacker, 2200))
	s.within(answer, "the decision", func() (bool, error) { return s.why(lab.Attacker).Banned, nil })
	s.reaches(s.Attacker, lab.VictimAttacker, lab.Ports...)
	if out, err := s.Victim.Run(s.ctx, "nft", "list", "table", "inet", "tocsin"); err == nil {
		t.Errorf("observing, and yet there is a table:\n%s", out)
	}
	if said, code := s.try("doctor"); code != api.ExitFindings || !strings.Contains(said, "observ") {
		t.Errorf("doctor: code %d, want %d; it said %s", code, api.ExitFindings, said)
	}
}

// Two guards on one state folder would undo each other's work.
func TestSecondGuardRefuses(t *testing.T) {
	s := guarded(t, time.Minute, sshd)
	said, code := s.try("run", "--config", configFile)
	if code == 0 || !strings.Contains(said, "another guard") {
		t.Errorf("a second guard: code %d: %s", code, said)
	}
	s.must("status")
}
