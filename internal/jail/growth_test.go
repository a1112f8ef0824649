package jail

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"tocsin"
)

// banAt lets id fail at that time until it is banned, and returns the decision and how many failures it took.
func banAt(t *testing.T, j *Jail, id string, at time.Time) (tocsin.Decision, int) {
	t.Helper()
	for n := 1; n < 100; n++ {
		if ds := j.Failure(nil, failure(id, "root", at, n)); len(ds) > 0 {
			return ds[0], n
		}
	}
	t.Fatalf("%s is not banned at %v", id, at)
	panic("not reached")
}

func TestBanTimes(t *testing.T) {
	tests := []struct {
		name  string
		times string
		want  string // of the first ban and those that follow
	}{
		{"table", "10m 20m 1h", "10_min 20_min 1_h 1_h 1_h"},
		{"one", "10m", "10_min 10_min 10_min"},
		{"without end", "10m 0s", "10_min for_ever"},
		{"shrinking", "1h 1m", "1_h 1_min 1_min"},
	}
	for _, tt := range tests {
		for _, id := range []string{"192.0.2.1", "2001:db8::1", "mallory"} {
			t.Run(tt.name+" "+id, func(t *testing.T) {
				o := options()
				o.BanTime, o.BanFactor = 7*time.Minute, 3 // both without effect
				for s := range strings.FieldsSeq(tt.times) {
					d, err := time.ParseDuration(s)
					if err != nil {
						t.Fatal(err)
					}
					o.BanTimes = append(o.BanTimes, d)
				}
				j := mustNew(t, o)
				at := t0
				for i, want := range strings.Fields(tt.want) {
					d, _ := banAt(t, j, id, at)
					got := "for ever"
					if dur, ends := d.Duration(); ends {
						got = words(dur)
					}
					if got != strings.ReplaceAll(want, "_", " ") {
						t.Errorf("ban %d lasts %s, want %s", i, got, want)
					}
					if i != d.Former && len(o.BanTimes) > 1 {
						t.Errorf("ban %d has %d former ones", i, d.Former)
					}
					at = at.Add(2 * time.Hour)
				}
			})
		}
	}
}

func TestBanJitter(t *testing.T) {
	o := options()
	o.BanTimes, o.BanJitter = []time.Duration{time.Minute, time.Hour}, 10*time.Minute
	lengths := map[time.Duration]bool{}
	for n := range 100 {
		id := fmt.Sprintf("192.0.2.%d", n)
		var again [2]time.Duration
		for i := range again {
			j := mustNew(t, o)
			if d, _ := banAt(t, j, id, t0); d.Until.Sub(d.At) != time.Minute {
				t.Fatalf("the first ban lasts %v, want what bantime says", d.Until.Sub(d.At))
			}
			d, _ := banAt(t, j, id, t0.Add(time.Hour))
			again[i] = d.Until.Sub(d.At)
		}
		if again[0] != again[1] || again[0] < time.Hour || again[0] > time.Hour+o.BanJitter {
			t.Errorf("the second ban of %s lasts %v and %v, want the same of 1 h and up to 10 min", id, again[0], again[1])
		}
		lengths[again[0]] = true
	}
	if len(lengths) < 95 {
		t.Errorf("%d different lengths of 100", len(lengths))
	}
}

// The rule of fail2ban's observer: a failure of somebody banned n times counts like 2^n/2+1.
func TestWeigh(t *testing.T) {
	tests := []struct {
		maxRetry int
		want     string // failures to the first ban and to those that follow
	}{
		{5, "5 3 2 1 1"},
		{3, "3 2 1 1"},
		{1, "1 1 1"},
		{20, "20 10 7 4 3 2 1"},
	}
	for _, tt := range tests {
		for _, id := range []string{"192.0.2.1", "2001:db8::1", "mallory"} {
			o := options()
			o.MaxRetry, o.Weigh = tt.maxRetry, true
			j := mustNew(t, o)
			var got []string
			for i := range strings.Fields(tt.want) {
				f := failure(id, "root", t0.Add(time.Duration(i)*time.Hour), 0)
				weight, former := j.Weight(f)
				_, n := banAt(t, j, id, f.At)
				if former != i || weight > tt.maxRetry || n != (tt.maxRetry+weight-1)/weight {
					t.Errorf("maxretry %d: after %d bans a failure weighs %d, and %d ban", tt.maxRetry, former, weight, n)
				}
				got = append(got, fmt.Sprint(n))
			}
			if strings.Join(got, " ") != tt.want {
				t.Errorf("maxretry %d: bans of %s after %v failures, want %s", tt.maxRetry, id, got, tt.want)
			}
		}
	}
}

func TestElsewhere(t *testing.T) {
	for _, id := range []string{"192.0.2.1", "2001:db8::1", "mallory"} {
		for _, overall := range []bool{false, true} {
			o := options()
			o.BanTimes, o.Overall = []time.Duration{time.Minute, 2 * time.Minute, 3 * time.Minute}, overall
			j := mustNew(t, o)
			other := tocsin.Decision{Jail: "recidive", ID: id, At: t0, Until: t0.Add(time.Hour)}
			if a, err := netip.ParseAddr(id); err == nil {
				other.Prefix = netip.PrefixFrom(a, a.BitLen())
			}
			j.Elsewhere(&other)
			j.Elsewhere(&other) // told twice, at a reload
			want := 0
			if overall {
				want = 1
			}
			for range 2 { // it is not banned here, and our own bans count as before
				d, n := banAt(t, j, id, t0.Add(time.Duration(10*want)*time.Minute))
				if n != 3 || d.Former != want || d.Until.Sub(d.At) != o.BanTimes[want] {
					t.Errorf("%s, overall %t: banned after %d failures for %v with %d former bans", id, overall, n, d.Until.Sub(d.At), d.Former)
				}
				want++
			}
		}
	}
}

func TestKeepOnLogin(t *testing.T) {
	for _, keep := range []bool{false, true} {
		o := options()
		o.KeepOnLogin, o.KnownFactor = keep, 1
		j := mustNew(t, o)
		for i := range 2 {
			j.Failure(nil, failure("192.0.2.1", "root", t0, i))
		}
		j.Login(&tocsin.Login{Addr: netip.MustParseAddr("192.0.2.1"), Port: 9, User: "root", At: t0, Opened: true})
		if banned := len(j.Failure(nil, failure("192.0.2.1", "root", t0, 2))) > 0; banned != keep {
			t.Errorf("keep on login %t: banned %t", keep, banned)
		}
	}
}

// What is no address is counted, banned and lifted by its text.
func TestID(t *testing.T) {
	o := options()
	o.BanFactor = 2
	j := mustNew(t, o)
	d, _ := banAt(t, j, "mallory", t0)
	if d.ID != "mallory" || d.Prefix.IsValid() {
		t.Errorf("got %+v", d)
	}
	if ds := j.Failure(nil, failure("mallory", "", t0.Add(time.Minute), 9)); len(ds) > 0 || j.Stats().Late != 1 {
		t.Errorf("banned twice: %+v", ds)
	}
	if s := j.StandingID("mallory", t0.Add(time.Minute)); !s.Since.Equal(t0) || !s.Until.Equal(t0.Add(15*time.Minute)) || s.Former != 1 {
		t.Errorf("it stands at %+v", s)
	}
	j.LiftID("mallory", t0.Add(2*time.Minute))
	if ds := j.Failure(nil, failure("mallory", "", t0.Add(time.Minute), 10)); len(ds) > 0 || j.Stats().Late != 2 {
		t.Errorf("a line from before the lifting counts")
	}
	d, n := banAt(t, j, "mallory", t0.Add(3*time.Minute))
	if n != 3 || d.Former != 1 {
		t.Errorf("banned again after %d failures as number %d", n, d.Former)
	}
	if s := j.StandingID("alice", t0); s.Failures != 0 || !s.Since.IsZero() {
		t.Errorf("somebody else stands at %+v", s)
	}
	again := mustNew(t, o)
	again.Banned(&d)
	if ds := again.Failure(nil, failure("mallory", "", d.At.Add(time.Second), 1)); len(ds) > 0 || again.Stats().Late != 1 {
		t.Errorf("a ban that the store knew is forgotten")
	}
}

func TestNetwork(t *testing.T) {
	for net, want := range map[string]string{"192.0.2.0/24": "192.0.2.0/24", "2001:db8::/48": "2001:db8::/48", "2001:db8::/96": "2001:db8::/64"} {
		j := mustNew(t, options())
		var ds []tocsin.Decision
		for i := range 3 {
			f := failure(net, "", t0, i)
			f.Prefix = netip.MustParsePrefix(net)
			ds = j.Failure(ds, f)
		}
		if len(ds) != 1 || ds[0].Prefix.String() != want || ds[0].ID != want {
			t.Errorf("failures of %s: %+v", net, ds)
		}
	}
}

func TestFieldsOfTheLastFailure(t *testing.T) {
	j := mustNew(t, options())
	var ds []tocsin.Decision
	for i, user := range []string{"a", "b", "c"} {
		f := failure("192.0.2.1", user, t0, i)
		f.Fields = []tocsin.Field{{Name: "port", Value: fmt.Sprint(i)}}
		ds = j.Failure(ds, f)
	}
	if want := "[{user c} {port 2}]"; len(ds) != 1 || fmt.Sprint(ds[0].Fields) != want {
		t.Errorf("got %+v, want fields %s", ds, want)
	}
}
