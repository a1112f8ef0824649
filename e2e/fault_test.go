package e2e

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tocsin/e2e/lab"
	"tocsin/internal/api"
)

// The guard is killed twenty times while addresses attack. Those with five failures are banned in the end, each once;
// those with four are not; and no ban that was ever told is gone after a restart.
func TestKillNineTwentyTimes(t *testing.T) {
	s := guarded(t, 4*time.Minute, sshd)
	const kills, each, workers = 20, 12, 4
	var tries []netip.Addr
	want := map[string]bool{}
	for i := range each {
		guilty, innocent := attacker(100+i), attacker(200+i)
		s.addresses(guilty, innocent)
		want[guilty.String()+"/32"] = true
		tries = append(tries, slices.Repeat([]netip.Addr{guilty}, 5)...)
		tries = append(tries, slices.Repeat([]netip.Addr{innocent}, 4)...)
	}
	// Mixed, so that the failures of each address lie around several kills. The seed is fixed: a failure can be had again.
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(tries), func(i, j int) { tries[i], tries[j] = tries[j], tries[i] })

	queue := make(chan netip.Addr, len(tries))
	for _, from := range tries {
		queue <- from
	}
	close(queue)
	attacked := make(chan struct{})
	errs := make(chan error, workers)
	go func() {
		defer close(attacked)
		var wg sync.WaitGroup
		for range workers {
			wg.Go(func() {
				for from := range queue {
					l := wrong(lab.VictimAttacker, 2200)
					l.From = from
					if end, err := s.Attacker.SSH(s.ctx, l); err != nil || end != lab.Denied {
						errs <- fmt.Errorf("a try from %s ended %v, %v", from, end, err)
						return
					}
				}
			})
		}
		wg.Wait()
	}()

	told := map[string]bool{}
	for range kills {
		time.Sleep(time.Duration(50+rand.IntN(250)) * time.Millisecond) // the kill must not keep step with anything
		maps.Copy(told, s.banned())
		s.guard.Kill()
		s.again()
		now := s.banned()
		for prefix := range told {
			if !now[prefix] {
				t.Errorf("the ban of %s is lost", prefix)
			}
		}
	}
	<-attacked
	select {
	case err := <-errs:
		t.Fatal(err)
	default:
	}

	s.bannedAre(want)
	times := map[string]int{}
	for _, b := range ask[api.Bans](s, "bans", "--all").Bans {
		if times[b.Prefix]++; times[b.Prefix] > 1 {
			t.Errorf("%s was banned %d times", b.Prefix, times[b.Prefix])
		}
	}
	rules, err := s.Victim.Run(s.ctx, "nft", "list", "table", "inet", "tocsin")
	if err != nil {
		t.Fatal(err)
	}
	for prefix := range want {
		if !strings.Contains(rules, strings.TrimSuffix(prefix, "/32")) {
			t.Errorf("%s is banned, and not in the kernel", prefix)
		}
	}
}

// bannedAre fails the test unless those who are banned soon are those of want.
func (s *scene) bannedAre(want map[string]bool) {
	s.t.Helper()
	var got map[string]bool
	err := lab.Poll(s.ctx, answer, func() (bool, error) {
		got = s.banned()
		return maps.Equal(got, want), nil
	})
	if err != nil {
		s.t.Errorf("banned: %v\nwant:   %v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
}

// attacker is one more address of the attacker.
func attacker(n int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(n)}) }

// Four failures before a kill and the fifth after it ban.
func TestFifthFailureAfterAKill(t *testing.T) {
	s := guarded(t, time.Minute, sshd)
	s.guess(s.Attacker, 4, wrong(lab.VictimAttacker, 2200))
	s.guard.Kill()
	s.again()
	if s.why(lab.Attacker).Banned {
		t.Error("banned after four failures and a restart")
	}
	s.guess(s.Attacker, 1, wrong(lab.VictimAttacker, 2200))
	s.shutOut(s.Attacker, lab.VictimAttacker, lab.Ports...)
	if b := s.why(lab.Attacker).Bans; len(b) != 1 || len(b[0].Evidence) != 5 {
		t.Errorf("why: %+v, want one ban with five lines", b)
	}
}

// What was logged while no guard ran counts when one starts, however short the life of the one before was.
func TestAttackWhileTheGuardWasDead(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(*scene)
	}{
		{"stopped", (*scene).stop},
		{"killed right after its first start", func(s *scene) { s.guard.Kill() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := guarded(t, time.Minute, sshd)
			tt.end(s)
			s.guess(s.Attacker, 6, wrong(lab.VictimAttacker, 2200))
			s.again()
			s.shutOut(s.Attacker, lab.VictimAttacker, lab.Ports...)
		})
	}
}

// Bans stay when the guard ends, and go when it was told to clean up.
func TestStopLeavesBans(t *testing.T) {
	s := guarded(t, time.Minute, sshd)
	s.guess(s.Attacker, 5, wrong(lab.VictimAttacker, 2200))
	s.shutOut(s.Attacker, lab.VictimAttacker, 22)
	s.stop()
	s.shutOut(s.Attacker, lab.VictimAttacker, lab.Ports...)

	s.run("--config", configFile, "--clean")
	s.shutOut(s.Attacker, lab.VictimAttacker, 22)
	s.stop()
	s.reaches(s.Attacker, lab.VictimAttacker, lab.Ports...)
}

func TestFlushRulesetRepaired(t *testing.T) {
	s := guarded(t, time.Minute, sshd)
	s.guess(s.Attacker, 5, wrong(lab.VictimAttacker, 2200))
	s.shutOut(s.Attacker, lab.VictimAttacker, lab.Ports...)
	for _, damage := range []string{
		"flush ruleset",
		"delete table inet tocsin",
		"flush table inet tocsin",
	} {
		s.script("nft " + damage)
		s.shutOut(s.Attacker, lab.VictimAttacker, lab.Ports...)
		s.reaches(s.Honest, lab.VictimHonest, 22)
	}
	// What it put back still ends in its time.
	rules, err := s.Victim.Run(s.ctx, "nft", "list", "table", "inet", "tocsin")
	if err != nil || !strings.Contains(rules, "192.0.2.66") || !strings.Contains(rules, "expires") {
		t.Errorf("the repaired table has no element of the attacker with its time: %v\n%s", err, rules)
	}
	s.must("unban", lab.Attacker.String())
	s.reaches(s.Attacker, lab.VictimAttacker, lab.Ports...)
}

func TestLogrotateBothModes(t *testing.T) {
	for _, tt := range []struct{ name, mode string }{
		{"create", "create 0640 root adm\n postrotate\n  kill -HUP $(cat /run/rsyslogd.pid)\n endscript"},
		{"copytruncate", "copytruncate"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := guarded(t, time.Minute, sshd)
			s.write("/etc/logrotate.test", fmt.Sprintf("%s {\n rotate 9\n size 1\n %s\n}\n", lab.AuthLog, tt.mode), 0o644)
			for _, tries := range []int{2, 2} {
				before := s.logged("Failed password")
				s.guess(s.Attacker, tries, wrong(lab.VictimAttacker, 2200))
				// copytruncate itself loses what is written between its two steps: that is not ours to prove.
				s.within(answer, "the log to be written", func() (bool, error) {
					return s.logged("Failed password") == before+tries, nil
				})
				s.script("logrotate --force --state /run/lab/logrotate.state /etc/logrotate.test")
				// Like sshd, rsyslogd learns of it by a signal, which it handles in its own time.
				s.within(answer, "rsyslogd to write to the new file", func() (bool, error) {
					return s.logged("rotated") > 0, s.Victim.Log(s.ctx, "lab", "rotated")
				})
			}
			if s.why(lab.Attacker).Banned {
				t.Error("banned after four failures and two rotations")
			}
			s.guess(s.Attacker, 1, wrong(lab.VictimAttacker, 2200))
			s.shutOut(s.Attacker, lab.VictimAttacker, lab.Ports...)
			if b := s.why(lab.Attacker).Bans; len(b) != 1 || len(b[0].Evidence) != 5 {
				t.Errorf("why: %+v, want one ban with five lines", b)
			}
		})
	}
}

// The log is rotated again and again while addresses attack: no failure may fall between two files. Not so with
// copytruncate, which itself loses what is written between its two steps.
func TestLogrotateUnderAttack(t *testing.T) {
	s := guarded(t, 2*time.Minute, sshd)
	s.write("/etc/logrotate.test", lab.AuthLog+" {\n rotate 1000\n size 1\n create 0640 root adm\n"+
		" postrotate\n  kill -HUP $(cat /run/rsyslogd.pid)\n endscript\n}\n", 0o644)
	want := map[string]bool{}
	var wg sync.WaitGroup
	errs := make(chan error, 2)
	for worker := range 2 {
		var from []netip.Addr
		for i := range 4 {
			a := attacker(100 + 10*worker + i)
			from = append(from, a)
			want[a.String()+"/32"] = true
		}
		s.addresses(from...)
		wg.Go(func() {
			for i := range 5 * len(from) {
				l := wrong(lab.VictimAttacker, 2200)
				l.From = from[i%len(from)]
				if end, err := s.Attacker.SSH(s.ctx, l); err != nil || end != lab.Denied {
					errs <- fmt.Errorf("a try from %s ended %v, %v", l.From, end, err)
					return
				}
			}
		})
	}
	attacked := make(chan struct{})
	go func() { wg.Wait(); close(attacked) }()
	rotations := 0
	for over := false; !over; rotations++ {
		s.script("logrotate --force --state /run/lab/logrotate.state /etc/logrotate.test")
		select {
		case <-attacked:
			over = true
		case <-time.After(50 * time.Millisecond):
		}
	}
	select {
	case err := <-errs:
		t.Fatal(err)
	default:
	}
	t.Logf("%d rotations", rotations)
	s.bannedAre(want)
}

func TestLateLogFile(t *testing.T) {
	s := newScene(t, time.Minute)
	s.stopLog()
	s.script("rm -f " + lab.AuthLog)
	s.configure(sshd)
	s.run("--config", configFile)
	if st := ask[api.Status](s, "status"); len(st.Sources) != 1 || st.Mode != "enforcing" {
		t.Errorf("status without the file: mode %s, sources %+v", st.Mode, st.Sources)
	}
	s.startLog(lab.ISO)
	s.guess(s.Attacker, 5, wrong(lab.VictimAttacker, 22))
	s.shutOut(s.Attacker, lab.VictimAttacker, lab.Ports...)
}

func TestFullDisk(t *testing.T) {
	s := newScene(t, 2*time.Minute)
	s.script("mkdir " + stateDir + "; mount -t tmpfs -o size=3m state " + stateDir)
	s.configure(sshd)
	s.run("--config", configFile)

	filler := stateDir + "/filler"
	fill := "dd if=/dev/zero of=" + filler + " bs=4k status=none 2>/dev/null || true"
	s.script(fill)
	s.guess(s.Attacker, 5, wrong(lab.VictimAttacker, 2200))
	s.shutOut(s.Attacker, lab.VictimAttacker, lab.Ports...)
	// SQLite may have had a page in hand for the first ban; there is none for so many.
	more := attacker(101)
	s.addresses(more)
	s.script(fill)
	for i := range 100 {
		s.forge(netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}), 5, time.Now())
	}
	l := wrong(lab.VictimAttacker, 22)
	l.From = more
	s.guess(s.Attacker, 5, l)
	s.within(answer, "the second address to be shut out", func() (bool, error) {
		end, err := s.Attacker.SSH(s.ctx, l)
		return end == lab.Cut, err
	})
	s.reaches(s.Honest, lab.VictimHonest, lab.Ports...)

	s.within(answer, "doctor to say that the disk is full", func() (bool, error) {
		return s.finds("TOC-STO-001"), nil
	})
	s.script("rm " + filler)
	s.within(2*answer, "the store to catch up", func() (bool, error) {
		return !s.finds("TOC-STO-001"), nil
	})

	// What was decided while the disk was full is there after a restart, with its evidence.
	s.stop()
	s.again()
	for _, a := range []netip.Addr{lab.Attacker, more, netip.MustParseAddr("203.0.113.99")} {
		if b := s.why(a).Bans; len(b) != 1 || len(b[0].Evidence) != 5 {
			t.Errorf("why %s after the restart: %+v, want one ban with five lines", a, b)
		}
	}
}

// The store is damaged while no guard runs: the bans that the kernel still holds are taken over.
func TestDamagedStore(t *testing.T) {
	s := guarded(t, time.Minute, sshd)
	s.guess(s.Attacker, 5, wrong(lab.VictimAttacker, 2200))
	s.shutOut(s.Attacker, lab.VictimAttacker, 22)
	s.stop()
	s.script("cd " + stateDir + "; rm -f *-wal *-shm; dd if=/dev/urandom of=guard.sqlite bs=4k count=8 status=none")
	s.again()
	s.shutOut(s.Attacker, lab.VictimAttacker, lab.Ports...)
	if w := s.why(lab.Attacker); !w.Banned {
		t.Error("the ban that the kernel holds is not known")
	}
	if !s.finds("TOC-STO-002") {
		t.Error("doctor does not say that the store was damaged")
	}
	s.must("unban", lab.Attacker.String())
	s.reaches(s.Attacker, lab.VictimAttacker, lab.Ports...)
}

func (s *scene) finds(code string) bool {
	s.t.Helper()
	return slices.ContainsFunc(ask[api.Doctor](s, "doctor").Findings, func(f api.Finding) bool { return f.Code == code })
}

// The state lies on a file system that lets no write through for half a minute, as a disk does that is about to die.
func TestStalledDisk(t *testing.T) {
	t.Parallel() // it waits half a minute
	const stall = 30 * time.Second
	s := newScene(t, 3*time.Minute)
	_, err := s.Victim.Script(s.ctx, `
mkdir `+stateDir+`
dd if=/dev/zero of=/run/lab/disk bs=1M count=16 status=none
mkfs.ext4 -q /run/lab/disk
mount -o loop /run/lab/disk `+stateDir)
	if err != nil {
		t.Skipf("no loop device here: %v", err)
	}
	s.configure(sshd)
	s.run("--config", configFile)

	thaw := s.freeze(stateDir, 2*stall)
	defer thaw()
	began := time.Now()
	s.guess(s.Attacker, 5, wrong(lab.VictimAttacker, 2200))
	s.shutOut(s.Attacker, lab.VictimAttacker, lab.Ports...)
	s.reaches(s.Honest, lab.VictimHonest, 22)

	// The same at the end of the stall, from another address.
	more := attacker(101)
	s.addresses(more)
	l := wrong(lab.VictimAttacker, 22)
	l.From = more
	time.Sleep(time.Until(began.Add(stall))) // what is waited for is the time itself
	s.guess(s.Attacker, 5, l)
	s.within(answer, "the second address to be shut out", func() (bool, error) {
		end, err := s.Attacker.SSH(s.ctx, l)
		return end == lab.Cut, err
	})

	thaw()
	s.within(2*answer, "both bans to be stored with their lines", func() (bool, error) {
		for _, a := range []netip.Addr{lab.Attacker, more} {
			if b := s.why(a).Bans; len(b) != 1 || len(b[0].Evidence) != 5 {
				return false, nil
			}
		}
		return true, nil
	})
	s.guard.Kill()
	s.again()
	if got := s.banned(); len(got) != 2 {
		t.Errorf("after a kill: %v, want both", got)
	}
}

// freeze stalls every write to the victim's file system until thaw is called, at the latest after most. The process
// that thaws it then is outside of the lab, so that the end of this test's process leaves no frozen file system behind.
func (s *scene) freeze(dir string, most time.Duration) (thaw func()) {
	s.t.Helper()
	fuse := exec.Command("nsenter", "--mount="+s.Victim.Path("/proc/1/ns/mnt"), "sh", "-c",
		fmt.Sprintf("fsfreeze -f %s && echo frozen && sleep %.0f; fsfreeze -u %s", dir, most.Seconds(), dir))
	fuse.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	said, err := fuse.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	fuse.Stderr = os.Stderr
	if err := fuse.Start(); err != nil {
		s.t.Fatal(err)
	}
	if _, err := said.Read(make([]byte, 16)); err != nil {
		s.t.Fatalf("freeze %s: %v", dir, err)
	}
	return sync.OnceFunc(func() {
		if out, err := s.Victim.Run(s.ctx, "fsfreeze", "-u", dir); err != nil {
			s.t.Errorf("thaw %s: %v: %s", dir, err, out)
		}
		syscall.Kill(-fuse.Process.Pid, syscall.SIGKILL) // its session: the shell and its sleep
		fuse.Wait()
	})
}

func TestOffWithTheDaemonDead(t *testing.T) {
	s := guarded(t, time.Minute, sshd)
	s.guess(s.Attacker, 5, wrong(lab.VictimAttacker, 2200))
	s.shutOut(s.Attacker, lab.VictimAttacker, lab.Ports...)
	s.guard.Kill()
	s.shutOut(s.Attacker, lab.VictimAttacker, lab.Ports...) // the kernel holds the bans

	s.must("off")
	s.reaches(s.Attacker, lab.VictimAttacker, lab.Ports...)
	s.again()
	if st := ask[api.Status](s, "status"); st.Mode != "off" {
		t.Errorf("after a restart the mode is %s, want off", st.Mode)
	}
	s.guess(s.Attacker, 6, wrong(lab.VictimAttacker, 2200))
	s.reaches(s.Attacker, lab.VictimAttacker, lab.Ports...)
	if out, err := s.Victim.Run(s.ctx, "nft", "list", "table", "inet", "tocsin"); err == nil {
		t.Errorf("off, and yet there is a table:\n%s", out)
	}

	s.must("on")
	s.shutOut(s.Attacker, lab.VictimAttacker, lab.Ports...)
	if st := ask[api.Status](s, "status"); st.Mode != "enforcing" {
		t.Errorf("after on the mode is %s, want enforcing", st.Mode)
	}
}

// The exit that ends by itself.
func TestOffForAWhile(t *testing.T) {
	s := guarded(t, time.Minute, sshd)
	s.guess(s.Attacker, 5, wrong(lab.VictimAttacker, 2200))
	s.shutOut(s.Attacker, lab.VictimAttacker, 22)
	s.must("off", "--for", "8s") // longer than the look at it takes
	s.reaches(s.Attacker, lab.VictimAttacker, lab.Ports...)
	s.within(answer, "the exit to close", func() (bool, error) {
		return s.dropped(s.Attacker, lab.At(lab.VictimAttacker, 22)), nil
	})
}

// Lines whose dates lie hours before and years after the present: the failures count, the ban is one of now.
func TestClockSetBackInTheLog(t *testing.T) {
	for _, tt := range []struct {
		name string
		off  time.Duration
	}{
		{"set back", -3 * time.Hour},
		{"set ahead", 20 * 365 * 24 * time.Hour},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := guarded(t, time.Minute, sshd)
			s.guess(s.Attacker, 2, wrong(lab.VictimAttacker, 2200))
			start := time.Now()
			s.forge(lab.Attacker, 3, start.Add(tt.off))
			s.shutOut(s.Attacker, lab.VictimAttacker, lab.Ports...)
			bans := s.why(lab.Attacker).Bans
			if len(bans) != 1 || bans[0].Until == nil {
				t.Fatalf("bans %+v, want one with an end", bans)
			}
			if left := bans[0].Until.Sub(start); left < 14*time.Minute || left > 16*time.Minute {
				t.Errorf("the ban ends in %v, want 15 minutes", left)
			}
		})
	}
}

func TestReloadBadConfigKeepsOld(t *testing.T) {
	s := guarded(t, time.Minute, sshd)
	s.configure(strings.Replace(sshd, `findtime = "10m"`, "findtime = \"soon\"\nbantme = 1", 1))
	said, code := s.try("reload")
	if code != api.ExitFindings {
		t.Errorf("reload of a bad file: code %d, want %d", code, api.ExitFindings)
	}
	for _, want := range []string{configFile + ":8", "findtime", configFile + ":9", "bantme"} {
		if !strings.Contains(said, want) {
			t.Errorf("reload does not say %q: %s", want, said)
		}
	}
	if !s.finds("TOC-CFG-001") {
		t.Error("doctor does not say that the last reload failed")
	}
	// The same by signal, which nobody waits for.
	if err := s.guard.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	s.within(answer, "the log to say so", func() (bool, error) {
		return strings.Contains(s.guard.Output(), "reload failed"), nil
	})
	s.guess(s.Attacker, 4, wrong(lab.VictimAttacker, 2200)) // counted by the old jail, and by the new one later

	s.configure(strings.Replace(sshd, "maxretry = 5", "maxretry = 6", 1))
	s.must("reload")
	if j := ask[api.Status](s, "status").Jails; len(j) != 1 || j[0].MaxRetry != 6 {
		t.Errorf("after the reload the jails are %+v", j)
	}
	if s.finds("TOC-CFG-001") {
		t.Error("doctor still says that the last reload failed")
	}
	s.guess(s.Attacker, 1, wrong(lab.VictimAttacker, 2200))
	if s.why(lab.Attacker).Banned {
		t.Error("banned after five failures, six were allowed")
	}
	s.guess(s.Attacker, 1, wrong(lab.VictimAttacker, 2200))
	s.shutOut(s.Attacker, lab.VictimAttacker, lab.Ports...)
}
