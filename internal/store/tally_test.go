package store

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	"tocsin"
)

func TestTallyBans(t *testing.T) {
	s := fresh(t)
	taken := func(n int, change func(*tocsin.Decision)) {
		t.Helper()
		d := ban(n, 0)
		change(&d)
		put(t, s, d)
	}
	now := t0.Add(48 * time.Hour)
	at := func(ago, lasts time.Duration) func(*tocsin.Decision) {
		return func(d *tocsin.Decision) { d.At, d.Until = now.Add(-ago), now.Add(lasts-ago) }
	}
	taken(1, at(time.Hour, 15*time.Minute))    // over
	taken(2, at(time.Hour, 2*time.Hour))       // in force
	taken(3, at(30*time.Hour, 400*time.Hour))  // in force, but not of this day
	taken(4, at(30*time.Hour, 15*time.Minute)) // neither
	taken(5, func(d *tocsin.Decision) {
		at(time.Hour, 2*time.Hour)(d)
		d.Jail, d.Ports, d.Prefix, d.ID = "mail", nil, netip.Prefix{}, "an id"
	})
	taken(6, func(d *tocsin.Decision) {
		at(24*time.Hour, 48*time.Hour)(d)
		d.Ports, d.Prefix = []uint16{22}, netip.MustParsePrefix("2001:db8::/64")
	})
	all, addrs, err := s.TallyBans(now.Add(-24*time.Hour), now, 3)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]BanTally{}
	for _, b := range all {
		got[b.Jail+" "+tocsin.PortsString(b.Ports)] = b
	}
	want := map[string]BanTally{
		"sshd 22,2200":                    {"sshd", []uint16{22, 2200}, 2, 2},
		"sshd 22":                         {"sshd", []uint16{22}, 1, 1},
		"mail " + tocsin.PortsString(nil): {"mail", nil, 1, 1},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("counted %+v, want %+v", got, want)
	}
	if len(addrs) != 3 {
		t.Errorf("%d addresses, want the 3 that were asked for", len(addrs))
	}
	_, addrs, err = s.TallyBans(now.Add(-24*time.Hour), now, 100)
	seen := map[string]TalliedAddr{}
	for _, a := range addrs {
		seen[a.Addr.String()] = a
	}
	for addr, want := range map[string][2]bool{"10.0.0.1": {false, true}, "10.0.0.2": {true, true}, "10.0.0.3": {true, false}, "2001:db8::": {true, true}} {
		if a, ok := seen[addr]; !ok || a.Active != want[0] || a.Taken != want[1] {
			t.Errorf("%s is %+v, want in force %v, taken %v", addr, a, want[0], want[1])
		}
	}
	if err != nil || len(addrs) != 4 {
		t.Errorf("addresses %+v, %v", addrs, err)
	}
}
