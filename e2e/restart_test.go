package e2e

import (
	"strings"
	"testing"
	"time"

	"tocsin/internal/api"
)

// killed kills the one process of the victim whose command line has a text, and waits for another one.
func (s *scene) killed(text string) {
	s.t.Helper()
	var before []string
	s.within(answer, "one process with "+text, func() (bool, error) { // a child that begins looks like its parent
		before = s.living(text)
		return len(before) == 1, nil
	})
	pid := strings.Fields(before[0])[0]
	if _, err := s.Victim.Run(s.ctx, "kill", "-9", pid); err != nil {
		s.t.Fatal(err)
	}
	s.within(answer, "another process with "+text, func() (bool, error) {
		now := s.living(text)
		return len(now) == 1 && strings.Fields(now[0])[0] != pid, nil
	})
}

// The guard has no power to start anybody, and yet what it needs beside it comes back: the watch process as its own user, and
// the runner with root's power, to which actions find the way again.
func TestProcessesAreStartedAgain(t *testing.T) {
	s := newScene(t, 2*time.Minute)
	need(t, "nft", "ps")
	s.actors(map[string]string{"rec": "[Definition]\nactionban = echo rec <ip> >>" + actorOut + "\n"})
	s.write("/run/lab/l.txt", "1.2.3.4\n", 0o644)
	s.configure("[[list]]\nname = \"drop\"\nurl = \"file:/run/lab/l.txt\"\n")
	s.run("--config", configFile, "--fail2ban", actorDir)
	inForce := func() (bool, error) {
		r := ask[struct {
			Guard *api.ListStates
			Watch *api.Reputation
		}](s, "reputation")
		return r.Guard != nil && r.Watch != nil && len(r.Guard.Lists) == 1 && r.Guard.Lists[0].InForce, nil
	}
	s.within(answer, "the list to be in force", inForce)
	s.attacked("192.0.2.77")
	s.wrote("rec 192.0.2.77\n")
	if all := s.living("watch --log-fd"); len(all) != 1 || strings.Fields(all[0])[2] == "root" {
		t.Errorf("the watch process: %q", all)
	}
	s.killed("watch --log-fd")
	s.killed("runner --fail2ban")
	s.attacked("192.0.2.78")
	s.wrote("rec 192.0.2.78\n")
	s.within(answer, "the watch process to answer", inForce)
	told := 0
	for _, f := range ask[api.Doctor](s, "doctor").Findings {
		if f.Code == "TOC-RUN-003" && strings.Contains(f.Text, "ended 1 time") {
			told++
		}
	}
	if told != 2 {
		t.Errorf("doctor tells of %d processes that ended, want both", told)
	}
	s.stop()
	s.within(answer, "the others to end", func() (bool, error) {
		return len(s.living("runner --fail2ban"))+len(s.living("watch --log-fd"))+len(s.living("starter")) == 0, nil
	})
}

// At boot the kernel knows nothing. Before the network is up bans and lists are back, and the guard takes them over.
func TestRestoreAtBoot(t *testing.T) {
	s := newScene(t, 2*time.Minute)
	need(t, "nft", "ps")
	s.write("/run/lab/l.txt", "41.0.0.66\n41.1.0.0/16\n", 0o644)
	s.configure(sshd + "[[list]]\nname = \"drop\"\nurl = \"file:/run/lab/l.txt\"\n")
	s.run("--config", configFile)
	s.must("ban", "192.0.2.99")
	s.must("allow", "192.0.2.7")
	s.within(answer, "the list to be in force", func() (bool, error) {
		rules, err := s.Victim.Run(s.ctx, "nft", "list", "table", "inet", "tocsin")
		return strings.Contains(rules, "41.0.0.66"), err
	})
	if said, code := s.try("--config", configFile, "restore"); code == api.ExitDone {
		t.Errorf("restored beside a guard: %s", said)
	}
	s.stop()
	if _, err := s.Victim.Run(s.ctx, "nft", "flush", "ruleset"); err != nil {
		t.Fatal(err)
	}
	if said := s.must("--config", configFile, "restore"); !strings.Contains(said, "1 ban and 1 list in force again") {
		t.Errorf("restore said %q", said)
	}
	rules, err := s.Victim.Run(s.ctx, "nft", "list", "table", "inet", "tocsin")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"192.0.2.99 timeout", "192.0.2.7", "41.0.0.66", "41.1.0.0/16", "chain list_drop_all"} {
		if !strings.Contains(rules, want) {
			t.Errorf("%q is not in force:\n%s", want, rules)
		}
	}
	s.again()
	if bans := ask[api.Bans](s, "bans"); len(bans.Bans) != 1 {
		t.Errorf("bans of the guard that follows: %+v, want the one", bans.Bans)
	}
	s.must("off")
	s.stop()
	if said := s.must("--config", configFile, "restore"); !strings.Contains(said, "the emergency exit is open") {
		t.Errorf("restore with the exit open said %q", said)
	}
}
