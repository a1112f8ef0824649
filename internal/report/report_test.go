package report

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"tocsin"
)

var t0 = time.Date(2026, 11, 22, 6, 0, 0, 0, time.UTC)

func options() Options {
	return Options{Jails: map[string]Jail{"sshd": {Categories: []int{22, 18}}, "web": {Categories: []int{21}}, "sqli": {Categories: []int{16, 21}}},
		Account: 1, Rand: func() float64 { return 0.5 }}
}

func TestEligible(t *testing.T) {
	o := options()
	own, allowed, member := netip.MustParsePrefix("5.5.5.5/32"), netip.MustParsePrefix("9.9.0.0/16"), netip.MustParsePrefix("2a00:1:2:3::7/128")
	o.Spare = func(p netip.Prefix) Why {
		switch {
		case p.Overlaps(own):
			return Own
		case p.Overlaps(allowed):
			return Allowed
		case p.Overlaps(member):
			return LoggedIn
		}
		return Yes
	}
	o, err := o.checked()
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name         string
		prefix, addr string
		change       func(*Decision)
		want         string
	}{
		{"a ban by evidence", "1.2.3.4/32", "", nil, "1.2.3.4 yes"},
		{"a /64, and who failed in it", "2a00:9:2:3::/64", "2a00:9:2:3::77", nil, "2a00:9:2:3::77 yes"},
		{"a single IPv6 address", "2a00:9:2:3::77/128", "", nil, "2a00:9:2:3::77 yes"},
		{"a /64, and nobody knows who", "2a00:9:2:3::/64", "", nil, "no single address"},
		{"a /64, and somebody from elsewhere", "2a00:9:2:3::/64", "2a00:9:2:4::1", nil, "no single address"},
		{"a /48", "2a00:9:2::/48", "2a00:9:2:3::77", nil, "no single address"},
		{"a /24", "1.2.3.0/24", "1.2.3.4", nil, "no single address"},
		{"no address", "", "", nil, "no single address"},
		{"by an operator", "1.2.3.4/32", "", func(d *Decision) { d.Origin = tocsin.ByOperator }, "not by evidence"},
		{"by a list", "1.2.3.4/32", "", func(d *Decision) { d.Origin = tocsin.ByList }, "not by evidence"},
		{"by another server", "1.2.3.4/32", "", func(d *Decision) { d.Origin = tocsin.ByFleet }, "not by evidence"},
		{"another jail", "1.2.3.4/32", "", func(d *Decision) { d.Jail = "members.example.org" }, "jail not reported"},
		{"one failure less than maxretry", "1.2.3.4/32", "", func(d *Decision) { d.Failures = 4 }, "too few failures"},
		{"a single failure, though maxretry is 1", "1.2.3.4/32", "", func(d *Decision) { d.MaxRetry, d.Failures = 1, 1 }, "too few failures"},
		{"two of them", "1.2.3.4/32", "", func(d *Decision) { d.MaxRetry, d.Failures = 1, 2 }, "1.2.3.4 yes"},
		{"two of them, and the jail is gone", "1.2.3.4/32", "", func(d *Decision) { d.MaxRetry, d.Failures = 0, 2 }, "1.2.3.4 yes"},
		{"while reports were off", "1.2.3.4/32", "", func(d *Decision) { d.WhileOff = true }, "taken while reports were off"},
		{"private", "192.168.1.4/32", "", nil, "not a public address"},
		{"shared by a provider", "100.64.1.4/32", "", nil, "not a public address"},
		{"for documents", "203.0.113.9/32", "", nil, "not a public address"},
		{"multicast", "224.0.0.1/32", "", nil, "not a public address"},
		{"local IPv6", "fe80::1/128", "", nil, "not a public address"},
		{"private IPv6", "fd00::1/128", "", nil, "not a public address"},
		{"tunnelled", "2002:102:304::1/128", "", nil, "not a public address"},
		{"allowed, the guard says", "1.2.3.4/32", "", func(d *Decision) { d.Allowed = true }, "allowed"},
		{"allowed here", "9.9.1.1/32", "", nil, "allowed"},
		{"own", "5.5.5.5/32", "", nil, "own address"},
		{"logged in, the guard says", "1.2.3.4/32", "", func(d *Decision) { d.Known = true }, "logged in"},
		{"a neighbour in the /64 logged in", "2a00:1:2:3::9/128", "", nil, "logged in"},
		{"a day ago", "1.2.3.4/32", "", func(d *Decision) { d.At = t0.Add(-day) }, "too old"},
		{"less than a day ago", "1.2.3.4/32", "", func(d *Decision) { d.At = t0.Add(time.Second - day) }, "1.2.3.4 yes"},
	}
	for _, tt := range tests {
		d := Decision{N: 1, Jail: "sshd", At: t0, Failures: 5, MaxRetry: 5}
		if tt.prefix != "" {
			d.Prefix = netip.MustParsePrefix(tt.prefix)
		}
		if tt.addr != "" {
			d.Addr = netip.MustParseAddr(tt.addr)
		}
		if tt.change != nil {
			tt.change(&d)
		}
		addr, why := o.Eligible(&d, t0)
		got := why.String()
		if why == Yes {
			got = addr.String() + " yes"
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestComment(t *testing.T) {
	ssh := uint8(ServiceOf("sshd", []int{18, 22}))
	tests := []struct {
		service  uint8
		failures int
		in       time.Duration
		want     string
	}{
		{ssh, 5, 41 * time.Second, "5 ssh login failures in 41 s"},
		{ssh, 1, 0, "1 ssh login failure in less than 1 s"},
		{uint8(ServiceOf("a-jail-named-after-us.example.org", []int{18})), 12, 4*time.Minute + 5*time.Second, "12 login failures in 4 min 5 s"},
		{uint8(ServiceOf("x", []int{15})), 2, time.Hour, "2 failures in 1 h"},
		{uint8(ServiceOf("dovecot", []int{18})), 7, 26 * time.Hour, "7 mail login failures in 1 d 2 h"},
		{uint8(Several), 9, time.Hour + time.Second, "9 failures at several services in 1 h"},
		{255, 3, time.Second, "3 failures in 1 s"},
		{ssh, 0, 0, "reported by hand by an operator"},
	}
	for _, tt := range tests {
		r := tocsin.Report{Service: tt.service, Failures: tt.failures, First: t0, Last: t0.Add(tt.in)}
		if got := Comment(r); got != tt.want {
			t.Errorf("%d failures: %q, want %q", tt.failures, got, tt.want)
		}
	}
}

// No text of a log, of an operator or of a configuration can be in a comment, because none is in what it is made of.
func TestNoTextInAReport(t *testing.T) {
	var find func(reflect.Type, string) string
	find = func(typ reflect.Type, path string) string {
		switch typ.Kind() {
		case reflect.String, reflect.Interface, reflect.Map, reflect.Pointer:
			return path
		case reflect.Slice, reflect.Array:
			return find(typ.Elem(), path+"[]")
		case reflect.Struct:
			if typ == reflect.TypeFor[time.Time]() {
				return ""
			}
			for i := range typ.NumField() {
				if found := find(typ.Field(i).Type, path+"."+typ.Field(i).Name); found != "" {
					return found
				}
			}
		}
		return ""
	}
	if found := find(reflect.TypeFor[tocsin.Report](), "Report"); found != "" {
		t.Errorf("%s may hold a text", found)
	}
	for s := range services {
		if serviceWords[s] == "" {
			t.Errorf("service %d has no word", s)
		}
	}
	d := Decision{Jail: "canary.example.org", Failures: 5, First: t0, Last: t0.Add(41 * time.Second)}
	if got := Comment(d.report(Jail{Categories: []int{22, 18, 22}}, t0.Add(time.Hour))); strings.Contains(got, "canary") || got != "5 ssh login failures in 41 s" {
		t.Errorf("comment %q", got)
	}
}

func TestMerge(t *testing.T) {
	a := tocsin.Report{Categories: []int{18, 22}, Service: uint8(SSH), Failures: 5, First: t0, Last: t0.Add(time.Minute), Queued: t0}
	b := tocsin.Report{Categories: []int{21}, Service: uint8(Web), Failures: 2, First: t0.Add(-time.Hour), Last: t0.Add(-time.Minute), Queued: t0.Add(time.Hour)}
	want := tocsin.Report{Categories: []int{18, 21, 22}, Service: uint8(Several), Failures: 7, First: b.First, Last: a.Last, Queued: b.Queued}
	if got := merge(a, b); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	hand := tocsin.Report{Categories: []int{15}, First: t0, Last: t0, Queued: t0}
	if got := merge(hand, a); got.Service != uint8(SSH) || got.Failures != 5 {
		t.Errorf("by hand and by evidence: %+v", got)
	}
	if got := merge(tocsin.Report{}, a); !reflect.DeepEqual(got, a) {
		t.Errorf("with nothing: %+v", got)
	}
}

func TestOptions(t *testing.T) {
	o := options()
	o.Jails["bad"] = Jail{Categories: []int{99}}
	o.Hold = 2 * time.Hour
	_, err := New(o, tocsin.ReportState{}, t0)
	if err == nil || !strings.Contains(err.Error(), "jail bad") || !strings.Contains(err.Error(), "hold") {
		t.Errorf("%v, want both mistakes", err)
	}
}
