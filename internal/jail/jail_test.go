package jail

import (
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"tocsin"
)

var t0 = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

// options are the sshd jail's, with a limit of 3.
func options() Options {
	return Options{Name: "sshd", MaxRetry: 3, FindTime: 10 * time.Minute, BanTime: 15 * time.Minute, BanMemory: 30 * 24 * time.Hour}
}

func mustNew(t testing.TB, o Options) *Jail {
	t.Helper()
	j, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// failure makes the nth failure of a test.
func failure(addr, user string, at time.Time, n int) *tocsin.Failure {
	f := &tocsin.Failure{Filter: "sshd", ID: addr, User: user, At: at, Line: tocsin.Line{
		Source: "file:/var/log/auth.log", Pos: tocsin.Position{File: 7, Offset: int64(100 * n)}, At: at,
		Text: fmt.Sprintf("Failed password for %s from %s port %d ssh2", user, addr, 1000+n),
	}}
	if a, err := netip.ParseAddr(addr); err == nil {
		f.Prefix = netip.PrefixFrom(a, a.BitLen())
	}
	return f
}

// offset reads "90s" or "10m", after t0.
func offset(t *testing.T, s string) time.Time {
	t.Helper()
	d, err := time.ParseDuration(s)
	if err != nil {
		t.Fatal(err)
	}
	return t0.Add(d)
}

func TestWindow(t *testing.T) {
	tests := []struct {
		name string
		at   string // offsets of the failures from t0, in the order they arrive
		want string // offsets of those that led to a ban
	}{
		{"below maxretry", "0s 1s", ""},
		{"third failure bans", "0s 1s 2s", "2s"},
		{"three at once", "5s 5s 5s", "5s"},
		{"window edge counts", "0s 1s 600s", "600s"},
		{"first slides out", "0s 1s 601s", ""},
		{"first slides out by a microsecond", "0s 1s 600.000001s", ""},
		{"the window slides", "0s 300s 601s 900s", "900s"},
		{"slow attacker", "0s 301s 602s 903s 1204s", ""},
		{"the late one completes the window", "0s 2s 1s", "1s"},
		{"the late one completes an older window", "0s 599s 601s 1s", "1s"},
		{"late by findtime, at the edge", "600s 0s 1s", "1s"},
		{"late, and one too old by a second", "601s 0s 1s", ""},
		{"a later ban needs new failures", "0s 1s 2s 902s 903s 904s", "2s 904s"},
		{"failures of a running ban do not count", "0s 1s 2s 3s 4s 5s 901s 902s 903s", "2s"},
		{"the end of the ban counts", "0s 1s 2s 901.9s 902s 903s 904s", "2s 904s"},
		{"clock set back an hour: counted anew", "3600s 3601s 0s 1s 2s", "2s"},
		{"clock set back while banned: no peace", "3600s 3601s 3602s 0s 1s 2s", "3602s 2s"},
		{"clock set back a little while banned: late", "3600s 3601s 3602s 3002s 3003s 3004s", "3602s"},
		{"clock set back twice: nothing counts twice", "3600s 3601s 0s 3600.5s 1s", "3600.5s"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			j := mustNew(t, options())
			var bans []string
			for i, s := range strings.Fields(tt.at) {
				if len(j.Failure(nil, failure("192.0.2.1", "root", offset(t, s), i))) > 0 {
					bans = append(bans, s)
				}
			}
			if got := strings.Join(bans, " "); got != tt.want {
				t.Errorf("failures at %q: bans at %q, want %q", tt.at, got, tt.want)
			}
		})
	}
}

func TestDecision(t *testing.T) {
	o := options()
	o.Ports, o.Verdict = []uint16{2200, 22, 22}, tocsin.Reject
	j := mustNew(t, o)
	j.Failure(nil, failure("192.0.2.1", "root", t0, 1))
	j.Failure(nil, failure("192.0.2.1", "", t0.Add(40*time.Second), 2))
	j.Failure(nil, failure("192.0.2.2", "root", t0.Add(40*time.Second), 3))
	ds := j.Failure(nil, failure("192.0.2.1", "admin", t0.Add(30*time.Second), 4))
	if len(ds) != 1 {
		t.Fatalf("got %d decisions, want 1", len(ds))
	}
	d := ds[0]
	if d.Jail != "sshd" || d.ID != "192.0.2.1" || d.Prefix.String() != "192.0.2.1/32" || d.Verdict != tocsin.Reject ||
		tocsin.PortsString(d.Ports) != "22,2200" || d.Action != tocsin.Ban || d.Origin != tocsin.ByJail || d.Failures != 3 {
		t.Errorf("got %+v", d)
	}
	if want := "3 failures in 40 s (the limit is 3 in 10 min)"; d.Reason != want {
		t.Errorf("reason %q, want %q", d.Reason, want)
	}
	if !d.At.Equal(t0.Add(40*time.Second)) || d.Until.Sub(d.At) != 15*time.Minute {
		t.Errorf("from %v until %v, want from the newest failure for 15 minutes", d.At, d.Until)
	}
	if d.Trigger.Pos.Offset != 400 || d.Trigger.Source == "" || d.Trigger.Text != "" || !d.Trigger.At.Equal(t0.Add(30*time.Second)) {
		t.Errorf("trigger %+v, want the line that completed the evidence, without text", d.Trigger)
	}
	var got []string
	for _, e := range d.Evidence {
		got = append(got, fmt.Sprintf("%d %s", e.Pos.Offset, e.User))
	}
	if want := "[100 root 400 admin 200 ]"; fmt.Sprint(got) != want {
		t.Errorf("evidence %q, want %q", fmt.Sprint(got), want)
	}
}

func TestWhoIsCounted(t *testing.T) {
	tests := []struct {
		name   string
		ids    string
		prefix int
		want   string // prefix and id of the ban
	}{
		{"IPv4", "192.0.2.1 192.0.2.1 192.0.2.1", 0, "192.0.2.1/32 192.0.2.1"},
		{"IPv4 neighbours", "192.0.2.1 192.0.2.2 192.0.2.3", 0, ""},
		{"IPv4 in IPv6", "192.0.2.1 ::ffff:192.0.2.1 192.0.2.1", 0, "192.0.2.1/32 192.0.2.1"},
		{"one /64", "2001:db8::1 2001:db8::2 2001:db8::ffff:0:0:3", 0, "2001:db8::/64 2001:db8::/64"},
		{"two /64", "2001:db8::1 2001:db8:0:1::2 2001:db8::3", 0, ""},
		{"by address", "2001:db8::1 2001:db8::1 2001:db8::1", 128, "2001:db8::1/128 2001:db8::1"},
		{"by /48", "2001:db8:0:1::1 2001:db8:0:2::1 2001:db8:0:3::1", 48, "2001:db8::/48 2001:db8::/48"},
		{"no address", "mallory mallory mallory", 0, "invalid Prefix mallory"},
		{"no address, different", "mallory eve mallory", 0, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := options()
			o.IPv6Prefix = tt.prefix
			j := mustNew(t, o)
			got := ""
			for i, id := range strings.Fields(tt.ids) {
				for _, d := range j.Failure(nil, failure(id, "root", t0, i)) {
					got = d.Prefix.String() + " " + d.ID
				}
			}
			if got != tt.want {
				t.Errorf("failures of %q: ban of %q, want %q", tt.ids, got, tt.want)
			}
		})
	}
}

func TestBanTime(t *testing.T) {
	tests := []struct {
		name    string
		banTime time.Duration
		factor  float64
		max     time.Duration
		former  int
		want    time.Duration
	}{
		{"all equal", time.Hour, 0, 0, 9, time.Hour},
		{"first", time.Hour, 2, 0, 0, time.Hour},
		{"third", time.Hour, 2, 0, 2, 4 * time.Hour},
		{"at the maximum", time.Hour, 2, 4 * time.Hour, 2, 4 * time.Hour},
		{"over the maximum", time.Hour, 2, 4*time.Hour - 1, 2, 4*time.Hour - 1},
		{"far over the maximum", time.Hour, 1000, 0, maxFormer, maxBanTime},
		{"maximum below the ban time", time.Hour, 2, time.Minute, 3, time.Hour},
		{"for ever", 0, 2, time.Hour, 1, 0},
		{"negative is for ever", -1, 2, time.Hour, 1, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := options()
			o.BanTime, o.BanFactor, o.BanMax = tt.banTime, tt.factor, tt.max
			o, err := o.checked()
			if err != nil {
				t.Fatal(err)
			}
			if got := o.banTime(tt.former); got != tt.want {
				t.Errorf("ban number %d lasts %v, want %v", tt.former+1, got, tt.want)
			}
		})
	}
}

// attack lets an address fail n times, a second apart, and returns what was decided.
func attack(j *Jail, addr string, from time.Time, n int) (ds []tocsin.Decision) {
	for i := range n {
		ds = j.Failure(ds, failure(addr, "root", from.Add(time.Duration(i)*time.Second), i))
	}
	return ds
}

func TestGrowth(t *testing.T) {
	o := options()
	o.BanFactor, o.BanMax, o.BanMemory = 2, time.Hour, 24*time.Hour
	j := mustNew(t, o)
	start := t0
	for _, want := range []string{"15m0s", "30m0s", "1h0m0s", "1h0m0s"} {
		ds := attack(j, "192.0.2.1", start, 3)
		if len(ds) != 1 || ds[0].Until.Sub(ds[0].At).String() != want {
			t.Fatalf("attack at %v: got %+v, want a ban of %s", start, ds, want)
		}
		start = ds[0].Until
	}
	d := attack(j, "192.0.2.1", t0.Add(24*time.Hour+2*time.Second), 3)[0] // the first ban began a day and 2 s ago, the second is remembered
	if want := "3 failures in 2 s (the limit is 3 in 10 min); 3 former bans in 1 d made this ban last 1 h"; d.Reason != want {
		t.Errorf("reason %q, want %q", d.Reason, want)
	}
	if d := attack(j, "192.0.2.1", d.At.Add(25*time.Hour), 3)[0]; d.Until.Sub(d.At) != 15*time.Minute {
		t.Errorf("after all are forgotten: %v, want 15m", d.Until.Sub(d.At))
	}
}

func TestRestoredBans(t *testing.T) {
	o := options()
	o.BanFactor = 2
	j := mustNew(t, o)
	p := netip.MustParsePrefix("192.0.2.1/32")
	old := tocsin.Decision{Jail: "sshd", Prefix: p, At: t0.Add(-time.Hour), Until: t0.Add(-45 * time.Minute)}
	now := tocsin.Decision{Jail: "sshd", Prefix: p, At: t0, Until: t0.Add(time.Hour)}
	operator := tocsin.Decision{Jail: "sshd", Prefix: netip.MustParsePrefix("198.51.100.0/24"), At: t0, Origin: tocsin.ByOperator}
	attack(j, "192.0.2.1", t0.Add(-time.Second), 2)
	for _, d := range []*tocsin.Decision{&now, &old, &now, &operator, {Action: tocsin.Unban, Prefix: p, At: t0.Add(time.Hour)}, {ID: "mallory"}} {
		j.Banned(d)
	}
	if ds := attack(j, "192.0.2.1", t0.Add(time.Minute), 5); len(ds) > 0 {
		t.Errorf("banned again while the restored ban runs: %+v", ds)
	}
	if ds := attack(j, "198.51.100.77", t0.Add(240*time.Hour), 5); len(ds) > 0 {
		t.Errorf("banned though its subnet is, for ever: %+v", ds)
	}
	if ds := attack(j, "192.0.2.1", t0.Add(time.Hour), 3); len(ds) != 1 || ds[0].Until.Sub(ds[0].At) != time.Hour {
		t.Errorf("third ban: %+v, want one of 4 × 15 min", ds)
	}
}

func TestSubnet(t *testing.T) {
	o := options()
	o.SubnetBans, o.SubnetWithin = 3, time.Hour
	tests := []struct {
		name  string
		addrs string // each is banned, ten minutes after the other
		want  string // the subnet banned with the last
	}{
		{"three of a /24", "192.0.2.1 192.0.2.2 192.0.2.255", "192.0.2.0/24"},
		{"two of a /24", "192.0.2.1 192.0.2.2 192.0.3.1", ""},
		{"one of them twice", "192.0.2.1 192.0.2.2 192.0.2.1", ""},
		{"within the time", "192.0.2.1 192.0.2.2 10.0.0.1 10.0.0.2 10.1.0.3 10.2.0.4 192.0.2.3", "192.0.2.0/24"},
		{"too slow", "192.0.2.1 192.0.2.2 10.0.0.1 10.0.1.2 10.0.2.3 10.0.3.4 10.0.4.5 192.0.2.3", ""},
		{"three of a /48", "2001:db8:0:1::1 2001:db8:0:2::1 2001:db8:0:3::1", "2001:db8::/48"},
		{"three of one /64", "2001:db8:0:1::1 2001:db8:0:1::2 2001:db8:0:1::3", ""},
		{"ids", "a b c", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			j := mustNew(t, o)
			got, at := "", t0
			for _, a := range strings.Fields(tt.addrs) {
				for _, d := range attack(j, a, at, 3) {
					got = ""
					if d.Failures != 3 || len(d.Evidence) != 3 || d.Trigger.Source == "" {
						t.Errorf("ban of %s does not say what it rests on: %+v", d.ID, d)
					}
					if strings.Contains(d.Reason, "addresses of") {
						got = d.ID
					}
				}
				at = at.Add(10 * time.Minute)
			}
			if got != tt.want {
				t.Errorf("bans of %q: subnet %q, want %q", tt.addrs, got, tt.want)
			}
			if tt.want != "" {
				if s := j.Stats(); s.SubnetBans != 1 {
					t.Errorf("counted %d subnet bans, want 1", s.SubnetBans)
				}
				in := netip.MustParsePrefix(tt.want).Addr().Next()
				if s := j.Standing(in, at); s.Banned.String() != tt.want {
					t.Errorf("%v stands as %+v, want it banned with its subnet", in, s)
				}
			}
		})
	}
}

func TestLift(t *testing.T) {
	tests := []struct {
		name string
		lift string
		want int // bans of the three failures after the lift
	}{
		{"the address", "192.0.2.1/32", 1},
		{"its subnet", "192.0.2.0/24", 1},
		{"all", "0.0.0.0/0", 1},
		{"another", "192.0.2.2/32", 0},
		{"another subnet", "198.51.100.0/24", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			j := mustNew(t, options())
			attack(j, "192.0.2.1", t0, 3)
			attack(j, "192.0.2.9", t0, 2)
			j.Lift(netip.MustParsePrefix(tt.lift), t0.Add(time.Minute))
			if ds := attack(j, "192.0.2.1", t0.Add(50*time.Second), 10); len(ds) > 0 {
				t.Errorf("lines of before the lift banned again: %+v", ds)
			}
			if got := len(attack(j, "192.0.2.1", t0.Add(2*time.Minute), 3)); got != tt.want {
				t.Errorf("lift of %s: %d bans after it, want %d", tt.lift, got, tt.want)
			}
			got := len(attack(j, "192.0.2.9", t0.Add(2*time.Minute), 1))
			if want := map[bool]int{true: 0, false: 1}[netip.MustParsePrefix(tt.lift).Contains(netip.MustParseAddr("192.0.2.9"))]; got != want {
				t.Errorf("lift of %s: %d bans of its neighbour's third failure, want %d", tt.lift, got, want)
			}
		})
	}
	mustNew(t, options()).Lift(netip.Prefix{}, t0)
}

// A ban of ::/64, which failures from ::1 lead to, says nothing about IPv4.
func TestLoopbackHidesNobody(t *testing.T) {
	j := mustNew(t, options())
	for _, a := range []string{"::1", "192.0.2.1", "mallory", "2001:db8::1"} {
		if ds := attack(j, a, t0, 3); len(ds) != 1 {
			t.Errorf("attack of %s: %d bans, want 1", a, len(ds))
		}
	}
	for _, a := range []string{"::2", "192.0.2.1", "2001:db8::2"} {
		if s := j.Standing(netip.MustParseAddr(a), t0.Add(time.Minute)); !s.Banned.Contains(netip.MustParseAddr(a)) {
			t.Errorf("%s stands as %+v, want banned", a, s)
		}
	}
}

func TestBounds(t *testing.T) {
	o := options()
	o.MaxAddresses = 100
	o.BanFactor = 2
	j := mustNew(t, o)
	addr := func(i int) string { return fmt.Sprintf("10.0.%d.%d", i/256, i%256) }
	for i := range 101 {
		attack(j, addr(i), t0, 1)
	}
	if s := j.Stats(); s.Addresses != 100 || s.Evicted != 1 || s.Failures != 100 {
		t.Errorf("after 101 addresses: %+v, want 100 and 1 evicted", s)
	}
	if len(attack(j, addr(0), t0, 2)) != 0 {
		t.Error("the oldest was not forgotten")
	}
	if len(attack(j, addr(100), t0, 2)) != 1 {
		t.Error("the newest was forgotten")
	}
	for i := range 1000 {
		attack(j, addr(i), t0.Add(time.Duration(i)*time.Second), 3)
		j.Login(&tocsin.Login{Addr: netip.MustParseAddr(addr(i)), Port: 1, Opened: true, At: t0.Add(time.Duration(i) * time.Second)})
	}
	s := j.Stats()
	if s.BansRemembered > 100 || s.Known > 100 || s.Sessions > 100 || s.MemoryEvicted < 3*800 {
		t.Errorf("after 1000 bans and logins: %+v, want at most 100 of each and the rest counted", s)
	}
	if len(attack(j, addr(999), t0.Add(1001*time.Second), 9)) != 0 {
		t.Error("the newest ban was forgotten")
	}
	j.Failure(nil, failure("192.0.2.1", "", t0.Add(24*time.Hour), 0))
	for range 100 {
		j.Failure(nil, failure("192.0.2.1", "", t0.Add(24*time.Hour), 0))
	}
	if s := j.Stats(); s.Addresses != 0 || s.Failures != 0 {
		t.Errorf("a day later: %+v, want the table swept", s)
	}
}

// A log whose clock jumps about must not gather failures without end.
func TestTooManyFailuresOfOneAddress(t *testing.T) {
	j := mustNew(t, options())
	for i := range 1000 {
		at := t0.Add(-time.Duration(i) * time.Hour)
		if ds := j.Failure(nil, failure("192.0.2.1", "", at, i)); len(ds) > 0 {
			t.Fatalf("failures hours apart: %+v", ds)
		}
	}
	if s := j.Stats(); s.Failures > j.most || s.FailuresEvicted == 0 || s.Evicted > 0 {
		t.Errorf("%+v, want at most %d failures and the rest counted", s, j.most)
	}
}

func TestFailuresAreBounded(t *testing.T) {
	o := options()
	o.MaxRetry, o.MaxAddresses = 100, 10
	j := mustNew(t, o)
	for i := range 10 * 99 {
		j.Failure(nil, failure(fmt.Sprintf("192.0.2.%d", i%10), "", t0.Add(time.Duration(i)*time.Millisecond), i))
	}
	if s := j.Stats(); s.Failures > 80 || s.Evicted == 0 {
		t.Errorf("%+v, want at most 80 failures", s)
	}
}

func TestOptions(t *testing.T) {
	if _, err := New(options()); err != nil {
		t.Fatal(err)
	}
	o := Options{MaxRetry: -1, FindTime: 0, BanFactor: 0.5, IPv6Prefix: 129, KnownFactor: -1, SubnetBans: -1, MaxAddresses: -1, KnownFor: -1, EvidenceLines: -1}
	_, err := New(o)
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"name", "maxretry -1", "findtime 0s", "bantime_factor 0.5", "ipv6_prefix 129", "known_factor", "subnet_bans", "max_addresses", "known_for", "lines of evidence"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not name %q", err, want)
		}
	}
}

func TestWords(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "less than 1 s", time.Second - 1: "less than 1 s", time.Second: "1 s", 90 * time.Second: "1 min 30 s", 10 * time.Minute: "10 min",
		time.Hour + time.Second: "1 h", 26 * time.Hour: "1 d 2 h", 35 * 24 * time.Hour: "35 d",
	} {
		if got := words(d); got != want {
			t.Errorf("words(%v) = %q, want %q", d, got, want)
		}
	}
}

// The promise of the design: 100,000 failures from 100,000 addresses in under 20 MiB, their lines included.
func TestMemory(t *testing.T) {
	j := mustNew(t, Options{Name: "sshd", MaxRetry: 5, FindTime: 10 * time.Minute, BanTime: time.Hour})
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	f := failure("192.0.2.1", "root", t0, 1)
	for i := range 100_000 {
		f.Prefix = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32)
		f.At = t0.Add(time.Duration(i) * time.Millisecond)
		j.Failure(nil, f)
	}
	used := heap() - before
	if s := j.Stats(); s.Addresses != 100_000 || s.Evicted != 0 {
		t.Fatalf("%+v, want 100,000 addresses", s)
	}
	t.Logf("%d bytes an address, %.1f MiB in all", used/100_000, float64(used)/(1<<20))
	if used > 20<<20 {
		t.Errorf("%.1f MiB, want less than 20", float64(used)/(1<<20))
	}
	runtime.KeepAlive(j)
}

// A bare jail decides as any other, and says no more than whom, when and for how long.
func TestBare(t *testing.T) {
	o := options()
	o.BanFactor, o.SubnetBans, o.SubnetWithin = 2, 2, time.Hour
	whole := mustNew(t, o)
	o.Bare = true
	bare := mustNew(t, o)
	n := 0
	for i := range 200 {
		addr := fmt.Sprintf("192.0.2.%d", i%7)
		f := failure(addr, "root", t0.Add(time.Duration(i)*time.Minute/2), i)
		want, got := whole.Failure(nil, f), bare.Failure(nil, f)
		for k := range want {
			if want[k].Reason == "" || len(want[k].Evidence) == 0 {
				t.Errorf("failure %d: %+v lacks its reason", i, want[k])
			}
			want[k].Reason, want[k].Evidence, want[k].Fields, want[k].Trigger = "", nil, nil, tocsin.Line{}
			n++
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("failure %d: %+v, want %+v", i, got, want)
		}
	}
	if n < 3 || bare.Stats().EvidenceBytes != 0 {
		t.Errorf("%d decisions, %d bytes of lines kept, want some and none", n, bare.Stats().EvidenceBytes)
	}
}
