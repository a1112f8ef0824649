package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"tocsin/e2e/lab"
	"tocsin/internal/api"
)

func TestFiveWrongPasswordsOver2200(t *testing.T) {
	t.Parallel() // it waits for the end of a ban
	s := guarded(t, 2*time.Minute, strings.Replace(sshd, `"15m"`, `"25s"`, 1))

	// The attacker sits before one more connection, at which nothing was tried yet.
	guessing, err := s.Attacker.Open(s.ctx, lab.Login{To: lab.VictimAttacker, Port: 22})
	if err != nil {
		t.Fatal(err)
	}
	if err := guessing.Asked(s.ctx, answer); err != nil {
		t.Fatalf("the connection that goes on guessing: %v", err)
	}

	s.guess(s.Attacker, 4, wrong(lab.VictimAttacker, 2200))
	if w := s.why(lab.Attacker); w.Banned {
		t.Errorf("banned after four failures")
	}
	s.guess(s.Attacker, 1, wrong(lab.VictimAttacker, 2200))
	s.shutOut(s.Attacker, lab.VictimAttacker, 22, 2222, 2200)

	w := s.why(lab.Attacker)
	if !w.Banned || len(w.Bans) != 1 {
		t.Fatalf("why: banned %v by %d bans, want true by 1", w.Banned, len(w.Bans))
	}
	b := w.Bans[0]
	if b.Jail != "sshd" || b.Prefix != "192.0.2.66/32" || b.Failures != 5 || !slices.Equal(b.Ports, []uint16{22, 2200, 2222}) {
		t.Errorf("why: jail %s, prefix %s, %d failures, ports %v", b.Jail, b.Prefix, b.Failures, b.Ports)
	}
	if len(b.Evidence) != 5 {
		t.Errorf("why shows %d lines, want the five", len(b.Evidence))
	}
	for _, e := range b.Evidence {
		if !strings.Contains(e.Text, "from 192.0.2.66 port") || e.User != lab.User {
			t.Errorf("why: user %q in line %q", e.User, e.Text)
		}
	}
	if text := s.must("why", lab.Attacker.String()); strings.Count(text, "from 192.0.2.66 port") < 5 {
		t.Errorf("the text of why does not show the five lines:\n%s", text)
	}

	// The connection was there before the ban. Its next password reaches nobody.
	if err := guessing.Type(s.ctx, "wrong", answer); err != nil {
		t.Fatal(err)
	}
	if err := guessing.Asked(s.ctx, time.Second); !errors.Is(err, lab.ErrLate) {
		t.Errorf("the connection that goes on guessing: %v, want %v", err, lab.ErrLate)
	}
	if n := s.logged("Failed password"); n != 5 {
		t.Errorf("sshd answered %d passwords, want 5", n)
	}

	s.reaches(s.Honest, lab.VictimHonest, 22, 2222, 2200)
	s.letIn(s.Honest, right(lab.VictimHonest, 2200))

	var opened time.Time
	s.within(time.Until(*b.Until)+answer, "the ban to end", func() (bool, error) {
		opened = time.Now()
		return s.Attacker.Connect(lab.At(lab.VictimAttacker, 22), silent) == nil, nil
	})
	if early := b.Until.Sub(opened); early > time.Second {
		t.Errorf("the ban ended %v before its time", early)
	}
	s.letIn(s.Attacker, right(lab.VictimAttacker, 2200))
}

// With no configuration at all the guard finds sshd's ports and its log by itself.
func TestNoConfiguration(t *testing.T) {
	s := newScene(t, time.Minute)
	s.run()
	st := ask[api.Status](s, "status")
	if st.Schema != api.SchemaStatus || st.Mode != "enforcing" || len(st.Jails) != 1 {
		t.Fatalf("status: schema %s, mode %s (%s), %d jails", st.Schema, st.Mode, st.ModeReason, len(st.Jails))
	}
	j := st.Jails[0]
	if j.Name != "sshd" || j.MaxRetry != 5 || !slices.Equal(j.Ports, []uint16{22, 2200, 2222}) {
		t.Errorf("jail %s, maxretry %d, ports %v", j.Name, j.MaxRetry, j.Ports)
	}
	if !slices.Contains(j.Sources, "file:"+lab.AuthLog) {
		t.Errorf("sources %q, want file:%s among them", j.Sources, lab.AuthLog)
	}
	s.guess(s.Attacker, 5, wrong(lab.VictimAttacker, 2222))
	s.shutOut(s.Attacker, lab.VictimAttacker, lab.Ports...)
	s.reaches(s.Honest, lab.VictimHonest, lab.Ports...)
}

// The same with the log format that Debian had until 11: no year, no zone, whole seconds.
func TestClassicLogFormat(t *testing.T) {
	s := newScene(t, time.Minute)
	s.stopLog()
	s.startLog(lab.Classic)
	s.configure(sshd)
	s.run("--config", configFile)
	s.guess(s.Attacker, 5, wrong(lab.VictimAttacker, 22))
	s.shutOut(s.Attacker, lab.VictimAttacker, lab.Ports...)
}

// The log comes over the network, from a syslog daemon on the same machine.
func TestSyslogSources(t *testing.T) {
	for _, tt := range []struct{ name, source, forward string }{
		{"udp", "syslog:udp://127.0.0.1:5514", `protocol="udp" template="RSYSLOG_TraditionalForwardFormat"`},
		{"tcp", "syslog:tcp://127.0.0.1:5514", `protocol="tcp" template="RSYSLOG_SyslogProtocol23Format"`},
		{"tcp, counted", "syslog:tcp://127.0.0.1:5514", `protocol="tcp" template="RSYSLOG_ForwardFormat" tcp_framing="octet-counted"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newScene(t, time.Minute)
			s.configure(strings.Replace(sshd, "file:"+lab.AuthLog, tt.source, 1))
			s.run("--config", configFile)
			s.stopLog()
			s.write(lab.LogExtra, `action(type="omfwd" target="127.0.0.1" port="5514" `+tt.forward+")\n", 0o644)
			s.startLog(lab.ISO)
			s.guess(s.Attacker, 5, wrong(lab.VictimAttacker, 2200))
			s.shutOut(s.Attacker, lab.VictimAttacker, lab.Ports...)
		})
	}
}

// A real journald, read through a journalctl child that runs with the guard's few rights, and comes back when it is
// killed.
func TestJournal(t *testing.T) {
	s := newScene(t, time.Minute)
	s.stopLog()
	if err := s.Victim.StartJournal(s.ctx); err != nil {
		t.Skipf("no journald here: %v", err)
	}
	s.configure(strings.Replace(sshd, "file:"+lab.AuthLog, "journal:_COMM=sshd", 1))
	s.run("--config", configFile)
	// Nobody is told when the child begins to read. What is logged before is not news at a first start.
	child := func() (pid int) {
		out, err := s.Victim.Run(s.ctx, "pgrep", "-x", "journalctl")
		if err == nil {
			pid, err = strconv.Atoi(strings.TrimSpace(out))
		}
		if err != nil {
			return 0
		}
		return pid
	}
	s.within(answer, "journalctl to run", func() (bool, error) { return child() != 0, nil })
	counted := func(n int) {
		t.Helper()
		s.within(answer, fmt.Sprintf("%d failures to be counted", n), func() (bool, error) {
			w := s.why(lab.Attacker)
			return len(w.Standing) == 1 && w.Standing[0].Failures == n, nil
		})
	}
	s.guess(s.Attacker, 2, wrong(lab.VictimAttacker, 2200))
	counted(2)

	killed := child()
	s.script(fmt.Sprintf("kill -9 %d", killed))
	s.guess(s.Attacker, 2, wrong(lab.VictimAttacker, 2200))
	counted(4) // what was logged while nobody read is read from the saved cursor
	if now := child(); now == killed {
		t.Errorf("journalctl was killed, and is still process %d", now)
	}
	s.guess(s.Attacker, 1, wrong(lab.VictimAttacker, 2200))
	s.shutOut(s.Attacker, lab.VictimAttacker, lab.Ports...)
	if b := s.why(lab.Attacker).Bans; len(b) != 1 || len(b[0].Evidence) != 5 {
		t.Errorf("why: %+v, want one ban with five lines", b)
	}
}

func TestHonestSessionWithThreeTypos(t *testing.T) {
	s := guarded(t, time.Minute, sshd)
	// PAM lets nobody go on in a connection with three mistakes, so one of them is made before.
	s.guess(s.Honest, 1, wrong(lab.VictimHonest, 2200))
	session, err := s.Honest.Open(s.ctx, lab.Login{To: lab.VictimHonest, Port: 2200})
	if err != nil {
		t.Fatal(err)
	}
	for _, password := range []string{"corect horse", "correct hors", lab.Password} {
		if err := session.Type(s.ctx, password, answer); err != nil {
			t.Fatalf("type %q: %v", password, err)
		}
	}
	if err := session.Echo(s.ctx, "first", answer); err != nil {
		t.Fatalf("the session does not begin: %v", err)
	}
	// The login has cleared these three. Beside a session that was open before the next failure there is patience:
	// three times five.
	s.guess(s.Honest, 3, wrong(lab.VictimHonest, 22))
	if err := session.Echo(s.ctx, "second", answer); err != nil {
		t.Errorf("after three typing errors beside it: %v", err)
	}
	s.guess(s.Honest, 11, wrong(lab.VictimHonest, 22))
	s.within(answer, "fourteen failures to be counted", func() (bool, error) {
		w := s.why(lab.Honest)
		return len(w.Standing) == 1 && w.Standing[0].Failures == 14 && w.Standing[0].MaxRetry == 15, nil
	})
	if err := session.Echo(s.ctx, "third", answer); err != nil {
		t.Errorf("after 14 failures beside it: %v", err)
	}
	s.guess(s.Honest, 1, wrong(lab.VictimHonest, 22))
	s.shutOut(s.Honest, lab.VictimHonest, lab.Ports...)
}

func TestIPv6ChangingInside64(t *testing.T) {
	s := guarded(t, time.Minute, sshd)
	var from []netip.Addr
	for i := range 6 {
		from = append(from, netip.MustParseAddr(fmt.Sprintf("2001:db8:66::%x:%x", 0xa0+i, 0xb0+i)))
	}
	s.addresses(from...)
	for _, a := range from[:5] {
		l := wrong(lab.VictimAttacker6, 2200)
		l.From = a
		s.guess(s.Attacker, 1, l)
	}
	s.shutOut(s.Attacker, lab.VictimAttacker6, lab.Ports...)
	l := wrong(lab.VictimAttacker6, 22)
	l.From = from[5] // which did nothing yet, but belongs to the same customer
	s.tries(1, lab.Cut, func() (lab.End, error) { return s.Attacker.SSH(s.ctx, l) })

	if !s.banned()["2001:db8:66::/64"] {
		t.Errorf("bans: %v, want 2001:db8:66::/64", s.banned())
	}
	if w := s.why(from[5]); !w.Banned {
		t.Errorf("why %s: not banned", from[5])
	}
	s.reaches(s.Honest, lab.VictimHonest6, lab.Ports...)
	s.reaches(s.Attacker, lab.VictimAttacker, lab.Ports...) // its IPv4 address did nothing
}

func TestSftp(t *testing.T) {
	s := guarded(t, time.Minute, sshd)
	s.tries(5, lab.Denied, func() (lab.End, error) {
		return s.Attacker.SFTP(s.ctx, wrong(lab.VictimAttacker, 2200))
	})
	s.shutOut(s.Attacker, lab.VictimAttacker, lab.Ports...)
	s.tries(1, lab.In, func() (lab.End, error) { return s.Honest.SFTP(s.ctx, right(lab.VictimHonest, 2200)) })
}

func TestInvalidUsers(t *testing.T) {
	s := guarded(t, time.Minute, sshd)
	// The last name is an attempt to have somebody else banned.
	users := []string{"oracle", "admin", "x y", "ubuntu", "root from 198.51.100.10 port 22 ssh2"}
	for i, user := range users {
		if s.why(lab.Attacker).Banned {
			t.Fatalf("banned after %d failures", i)
		}
		l := wrong(lab.VictimAttacker, 2222)
		l.User = user
		// sshd says "Invalid user" before it is told a password: the fifth may be cut before it is answered.
		end, err := s.Attacker.SSH(s.ctx, l)
		if err != nil || end != lab.Denied && i < len(users)-1 {
			t.Fatalf("try %d ended %v, %v", i+1, end, err)
		}
	}
	s.shutOut(s.Attacker, lab.VictimAttacker, lab.Ports...)
	w := s.why(lab.Attacker)
	for _, user := range users {
		if !slices.Contains(w.Users, user) {
			t.Errorf("why does not name the user %q: %q", user, w.Users)
		}
	}
	if w := s.why(lab.Honest); w.Banned || len(w.Standing) > 0 && w.Standing[0].Failures > 0 {
		t.Errorf("a user name had failures counted against %s: %+v", lab.Honest, w.Standing)
	}
	s.letIn(s.Honest, right(lab.VictimHonest, 22))
}

func TestKeyOnly(t *testing.T) {
	s := guarded(t, time.Minute, sshd)
	key, err := s.Attacker.Key(s.ctx, "id")
	if err != nil {
		t.Fatal(err)
	}
	s.tries(5, lab.Denied, func() (lab.End, error) {
		return s.Attacker.Keys(s.ctx, lab.Login{To: lab.VictimAttacker, Port: 2200}, key)
	})
	s.shutOut(s.Attacker, lab.VictimAttacker, lab.Ports...)
}

// A limit of five and four clients at once: what got through before the ban must be near the limit.
func TestAttemptsInParallel(t *testing.T) {
	s := guarded(t, time.Minute, sshd)
	// On a machine that has time for the guard eight get through; without a guard it would be eighty.
	const clients, most, enough = 4, 40, 20
	// Once one is cut the others are too: they need not find that out each by itself.
	ctx, cut := context.WithCancel(s.ctx)
	defer cut()
	var wg sync.WaitGroup
	errs := make(chan error, clients)
	for range clients {
		wg.Go(func() {
			defer cut()
			for range enough {
				end, err := s.Attacker.SSH(ctx, wrong(lab.VictimAttacker, 22))
				if err != nil {
					errs <- err
				}
				if err != nil || end == lab.Cut {
					return
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
	s.shutOut(s.Attacker, lab.VictimAttacker, lab.Ports...)
	got := s.logged("Failed password for marie from 192.0.2.66")
	t.Logf("%d passwords were tried before the ban", got)
	if got < 5 || got > most {
		t.Errorf("%d passwords were tried before the ban, want 5 to %d", got, most)
	}
}

func TestPublishedPortOfAContainer(t *testing.T) {
	s := newScene(t, time.Minute)
	container, err := s.Add(s.ctx, "container")
	if err != nil {
		t.Fatal(err)
	}
	inside, outside := netip.MustParseAddr("203.0.113.2"), netip.MustParseAddr("203.0.113.1")
	if err := s.Link(s.ctx, container, s.Victim.Host, lab.Ends{From: []netip.Addr{inside}, To: []netip.Addr{outside}}); err != nil {
		t.Fatal(err)
	}
	if _, err := container.Script(s.ctx, "ip route add default via 203.0.113.1"); err != nil {
		t.Fatal(err)
	}
	stop, err := container.Listen(netip.MustParseAddrPort("0.0.0.0:22"), "SSH-2.0-container")
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	s.script(`echo 1 >/proc/sys/net/ipv4/ip_forward
nft 'table ip docker {
	chain in { type nat hook prerouting priority dstnat; fib daddr type local tcp dport 8022 dnat to 203.0.113.2:22; }
}'`)
	s.configure(strings.Replace(sshd, "2200]", "2200, 8022]", 1))
	s.run("--config", configFile)

	s.reaches(s.Attacker, lab.VictimAttacker, 8022)
	s.guess(s.Attacker, 5, wrong(lab.VictimAttacker, 22))
	s.shutOut(s.Attacker, lab.VictimAttacker, 8022, 22)
	s.reaches(s.Honest, lab.VictimHonest, 8022, 22)
}

func TestOwnOutgoingConnections(t *testing.T) {
	for _, tt := range []struct{ name, ports string }{
		{"ports", "ports = [22, 2222, 2200]"},
		{"all ports", `ports = "all"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := guarded(t, time.Minute, strings.Replace(sshd, "ports = [22, 2222, 2200]", tt.ports, 1))
			// The banned host offers services of its own, one of them on a port that is banned here.
			for _, port := range []uint16{22, 8080} {
				stop, err := s.Attacker.Listen(lab.At(lab.Attacker, port), "hello")
				if err != nil {
					t.Fatal(err)
				}
				defer stop()
			}
			s.guess(s.Attacker, 5, wrong(lab.VictimAttacker, 2200))
			s.shutOut(s.Attacker, lab.VictimAttacker, lab.Ports...)
			for _, port := range []uint16{22, 8080} {
				conn, err := s.Victim.Dial(lab.At(lab.Attacker, port), answer)
				if err != nil {
					t.Errorf("our own connection to port %d: %v", port, err)
					continue
				}
				conn.SetReadDeadline(time.Now().Add(answer))
				buf := make([]byte, 16)
				if n, err := conn.Read(buf); err != nil || string(buf[:n]) != "hello\n" {
					t.Errorf("our own connection to port %d: read %q, %v", port, buf[:n], err)
				}
				conn.Close()
			}
		})
	}
}
