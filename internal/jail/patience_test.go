package jail

import (
	"net/netip"
	"testing"
	"time"

	"tocsin"
)

func TestPatience(t *testing.T) {
	const addr = "192.0.2.1"
	login := func(from string, after time.Duration, port uint16, user string, opened bool) tocsin.Login {
		return tocsin.Login{Addr: netip.MustParseAddr(from), Port: port, User: user, At: t0.Add(after), Opened: opened}
	}
	day := 24 * time.Hour
	tests := []struct {
		name   string
		logins []tocsin.Login
		at     time.Duration // of the first of the failures, a second apart, as root
		want   int           // how many ban
	}{
		{"stranger", nil, 0, 3},
		{"logged in 30 days ago", []tocsin.Login{login(addr, 0, 0, "marie", true), login(addr, 1, 0, "", false)}, 30*day - 10*time.Second, 9},
		{"logged in 30 days ago, at the edge", []tocsin.Login{login(addr, 0, 0, "marie", true), login(addr, 1, 0, "", false)}, 30*day - 8*time.Second, 9},
		{"the login is forgotten on the way", []tocsin.Login{login(addr, 0, 0, "marie", true), login(addr, 1, 0, "", false)}, 30*day - 7*time.Second, 9},
		{"logged in longer ago", []tocsin.Login{login(addr, 0, 0, "marie", true), login(addr, 1, 0, "", false)}, 30*day + time.Second, 3},
		{"session open", []tocsin.Login{login(addr, 0, 1000, "marie", true)}, 40 * day, 9},
		{"session closed", []tocsin.Login{login(addr, 0, 1000, "marie", true), login(addr, 1, 1000, "marie", false)}, 40 * day, 3},
		{"another session closed", []tocsin.Login{login(addr, 0, 1000, "marie", true), login(addr, 1, 1001, "marie", false)}, 40 * day, 9},
		{"closed without a port", []tocsin.Login{login(addr, 0, 1000, "marie", true), login(addr, 1, 0, "", false)}, 40 * day, 3},
		{"closed without a port, of another user", []tocsin.Login{login(addr, 0, 1000, "marie", true), login(addr, 1, 0, "paul", false)}, 40 * day, 9},
		{"opened without a port", []tocsin.Login{login(addr, 0, 0, "marie", true), login(addr, 1, 1000, "marie", false)}, 40 * day, 3},
		{"another address", []tocsin.Login{login("192.0.2.2", 0, 0, "marie", true)}, 0, 3},
		{"mapped address", []tocsin.Login{login("::ffff:192.0.2.1", 0, 0, "marie", true)}, 0, 9},
		{"opened twice, closed once", []tocsin.Login{login(addr, 0, 1000, "marie", true), login(addr, 5, 1000, "marie", true), login(addr, 9, 1000, "marie", false)}, 40 * day, 3},
		{"no address", []tocsin.Login{{Opened: true}}, 0, 3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := options()
			o.KnownFor = 30 * day
			j := mustNew(t, o)
			for i := range tt.logins {
				j.Login(&tt.logins[i])
			}
			n := 0
			for n < 50 {
				at := t0.Add(tt.at + time.Duration(n)*time.Second)
				s := j.Standing(netip.MustParseAddr(addr), at)
				n++
				if len(j.Failure(nil, failure(addr, "root", at, n))) > 0 {
					if s.More != 1 {
						t.Errorf("before the last failure: %d more would ban, want 1", s.More)
					}
					break
				}
			}
			if n != tt.want {
				t.Errorf("banned after %d failures, want %d", n, tt.want)
			}
		})
	}
}

// A session protects only if it is older than the first failure: who guesses and succeeds has not earned patience by it.
func TestSessionOpenedAfterTheFirstFailure(t *testing.T) {
	for _, tt := range []struct {
		name   string
		opened time.Duration
		want   int
	}{
		{"before", -time.Second, 0},
		{"at the same time", 0, 1},
		{"after", time.Second, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			j := mustNew(t, options()) // KnownFor is 0: only sessions count
			j.Failure(nil, failure("192.0.2.1", "root", t0, 0))
			j.Login(&tocsin.Login{Addr: netip.MustParseAddr("192.0.2.1"), Port: 1, User: "marie", At: t0.Add(tt.opened), Opened: true})
			j.Failure(nil, failure("192.0.2.1", "root", t0.Add(2*time.Second), 1))
			ds := j.Failure(nil, failure("192.0.2.1", "root", t0.Add(3*time.Second), 2))
			if len(ds) != tt.want {
				t.Errorf("session opened %v after the first failure: %d bans, want %d", tt.opened, len(ds), tt.want)
			}
		})
	}
}

func TestLoginClears(t *testing.T) {
	for _, tt := range []struct {
		name string
		user string // who logs in, between the second and the third failure of root
		want int
	}{
		{"the same user", "root", 0},
		{"another user", "marie", 1},
		{"nobody named", "", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := options()
			o.KnownFactor = 1
			j := mustNew(t, o)
			attack(j, "192.0.2.1", t0, 2)
			j.Login(&tocsin.Login{Addr: netip.MustParseAddr("192.0.2.1"), User: tt.user, At: t0.Add(5 * time.Second), Opened: true})
			if got := len(attack(j, "192.0.2.1", t0.Add(10*time.Second), 1)); got != tt.want {
				t.Errorf("login of %q: %d bans, want %d", tt.user, got, tt.want)
			}
		})
	}
}

func TestPatienceReasons(t *testing.T) {
	o := options()
	o.KnownFor = time.Hour
	j := mustNew(t, o)
	j.Login(&tocsin.Login{Addr: netip.MustParseAddr("192.0.2.1"), At: t0.Add(-time.Minute), Opened: true})
	d := attack(j, "192.0.2.1", t0, 9)[0]
	if want := "9 failures in 8 s (the limit is 9 in 10 min for an address that logged in within 1 h)"; d.Reason != want {
		t.Errorf("reason %q, want %q", d.Reason, want)
	}
	d = attack(j, "192.0.2.1", t0.Add(2*time.Hour), 9)[0]
	if want := "9 failures in 8 s (the limit is 9 in 10 min for an address with an open session)"; d.Reason != want {
		t.Errorf("reason %q, want %q", d.Reason, want)
	}
	if got := NoPatience.String() + " " + Known.String() + " " + Session.String() + " " + Patience(9).String(); got != "none known session session" {
		t.Errorf("patience is written %q", got)
	}
}

func TestSessionsOfOneAddressAreBounded(t *testing.T) {
	j := mustNew(t, options())
	for i := range 2 * maxSessions {
		j.Login(&tocsin.Login{Addr: netip.MustParseAddr("192.0.2.1"), Port: uint16(i + 1), At: t0.Add(time.Duration(i)), Opened: true})
	}
	if s := j.Stats(); s.Sessions != maxSessions || s.MemoryEvicted != maxSessions {
		t.Errorf("%+v, want %d sessions and as many dropped", s, maxSessions)
	}
}

func TestStanding(t *testing.T) {
	o := options()
	o.KnownFor = time.Hour
	j := mustNew(t, o)
	a := netip.MustParseAddr("192.0.2.1")
	if s := j.Standing(a, t0); s.Failures != 0 || s.More != 3 || s.Limit != 3 || s.Banned.IsValid() || !s.First.IsZero() {
		t.Errorf("a stranger stands as %+v", s)
	}
	j.Failure(nil, failure("192.0.2.1", "root", t0, 0))
	j.Failure(nil, failure("192.0.2.1", "admin", t0.Add(time.Minute), 1))
	s := j.Standing(a, t0.Add(10*time.Minute))
	if s.Failures != 2 || s.More != 1 || !s.First.Equal(t0) || !s.Last.Equal(t0.Add(time.Minute)) || len(s.Lines) != 2 ||
		len(s.Users) != 2 || s.Users[0] != "admin" {
		t.Errorf("after two failures: %+v", s)
	}
	if s := j.Standing(a, t0.Add(10*time.Minute+time.Microsecond)); s.Failures != 1 || s.More != 2 {
		t.Errorf("after the first slid out: %+v", s)
	}
	if s := j.Standing(a, t0.Add(time.Hour)); s.Failures != 0 || s.More != 3 || s.Lines != nil {
		t.Errorf("an hour later: %+v", s)
	}
	j.Login(&tocsin.Login{Addr: a, Port: 5, At: t0.Add(2 * time.Minute), Opened: true})
	if s := j.Standing(a, t0.Add(3*time.Minute)); s.Limit != 9 || s.Patience != Known || s.Sessions != 1 || !s.LastLogin.Equal(t0.Add(2*time.Minute)) {
		t.Errorf("after a login: %+v", s)
	}
	attack(j, "2001:db8::1", t0, 3)
	s = j.Standing(netip.MustParseAddr("2001:db8::2"), t0.Add(time.Minute))
	if s.Banned.String() != "2001:db8::/64" || !s.Since.Equal(t0.Add(2*time.Second)) || s.Until.Sub(s.Since) != 15*time.Minute {
		t.Errorf("a neighbour in a banned /64: %+v", s)
	}
	if s := j.Standing(netip.Addr{}, t0); s.Limit != 0 {
		t.Errorf("nobody stands as %+v", s)
	}
}
