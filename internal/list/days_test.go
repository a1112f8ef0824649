package list

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tocsin/internal/abuseipdb"
	"tocsin/internal/abuseipdb/fake"
)

// listed is the fake's list of n addresses, the first of them 8.0.0.0 plus from.
func listed(from, n int) []fake.Listed {
	all := make([]fake.Listed, n)
	for i := range all {
		all[i] = fake.Listed{Addr: addrOf4(8<<24 | uint32(from+i)), Country: "FR", Score: 100}
	}
	return all
}

// TestDays plays days with a server that is as strict as AbuseIPDB. Whatever goes wrong, a list is in force, no more is asked
// than the free plan grants, and what is whole again is in force within the hours that the plan allows.
func TestDays(t *testing.T) {
	at := func(hours float64) time.Time { return t0.Add(time.Duration(hours * float64(time.Hour))) }
	hours := func(kind fake.Kind, from, until float64) func(*fake.Server) {
		return func(s *fake.Server) { s.Inject(fake.Fault{Kind: kind, From: at(from), Until: at(until)}) }
	}
	// The list of day 0 is 1000 addresses from 0; that of day 1 is 1000 from 500. The machine's turn is at 03:30.
	tests := []struct {
		name   string
		from   float64 // when it begins, hours
		happen func(*fake.Server)
		news   int           // addresses of the list of day 1
		within float64       // hours behind from until the list of day 1 is in force; 0: never on that day
		off    time.Duration // by which our clock is wrong until hour 24
		why    string        // what is told at the end of the day, if the list is not
	}{
		{"nothing", 20, func(*fake.Server) {}, 1000, 5, 0, ""},
		{"server errors for six hours", 20, hours(fake.Error500, 24, 30), 1000, 14, 0, ""},
		{"server down for six hours", 20, hours(fake.CutBefore, 24, 30), 1000, 14, 0, ""},
		{"pages for three hours", 20, hours(fake.PageHTML, 24, 27), 1000, 14, 0, ""},
		{"answers that break off for an hour", 20, hours(fake.CutHalf, 24, 24.9), 1000, 6, 0, ""},
		{"quota used up by others", 20, func(s *fake.Server) { s.UseUp("us", fake.Blacklist) }, 1000, 8, 0, ""},
		{"half", 20, func(*fake.Server) {}, 500, 5, 0, ""},
		{"clock an hour ahead", 20, func(*fake.Server) {}, 1000, 5, time.Hour, ""},
		{"clock an hour behind", 20, func(*fake.Server) {}, 1000, 5, -time.Hour, ""},
		{"clock a year ahead", 20, func(*fake.Server) {}, 1000, 5, 365 * day, ""},
		{"clock of 1970", 20, func(*fake.Server) {}, 1000, 5, time.Unix(0, 0).Sub(t0), ""},
		{"less than half", 20, func(*fake.Server) {}, 499, 0, 0, "less than half"},
		{"empty", 20, func(*fake.Server) {}, 0, 0, 0, "it is empty"},
		{"suspended", 20, hours(fake.Suspended, 20, 48), 1000, 0, 0, "forbid"},
	}
	for _, tt := range tests {
		now := t0
		var called atomic.Int64 // when the server was asked last: after a cut answer it may look at its clock once more
		server := fake.New(fake.Options{
			Now:      func() time.Time { return time.Unix(0, called.Load()) },
			Accounts: []fake.Account{{Name: "us", Key: canary, Plan: fake.FreePlan()}},
			List:     listed(0, 1000),
		})
		web := httptest.NewServer(server)
		client, err := abuseipdb.New(abuseipdb.Options{URL: web.URL + "/api/v2/", Version: "1.0", Key: func() (abuseipdb.Secret, error) { return abuseipdb.NewSecret(canary) }})
		must(t, err)
		f := folder(t)
		o := Order{
			Name: "abuseipdb", Host: "h", At: "03:30", Budget: 5, Fetcher: &AbuseIPDB{client},
			Terms: Terms{Source: "abuseipdb:", Limit: 10000, Confidence: 100},
		}
		ours := func() time.Time {
			if now.Before(at(24)) {
				return now.Add(tt.off)
			}
			return now
		}
		update := func() (Outcome, error) {
			called.Store(now.UnixNano())
			return f.Update(t.Context(), o, ours())
		}
		if _, err := update(); err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		server.SetList(listed(500, tt.news))
		tt.happen(server)
		arrived := 0.0
		for now = at(tt.from); now.Before(at(47)); now = now.Add(time.Minute) {
			if f.Next(o, ours()).After(ours()) {
				continue
			}
			if out, err := update(); err == nil && out.Accepted != nil && arrived == 0 {
				arrived = now.Sub(at(tt.from)).Hours()
			}
		}
		if arrived == 0 != (tt.within == 0) || arrived > tt.within {
			t.Errorf("%s: the list of the day came after %.1f hours, want %.1f", tt.name, arrived, tt.within)
		}
		want := 1000
		if tt.within > 0 {
			want = tt.news
		}
		k, err := f.Load("abuseipdb")
		if err != nil || k.Set.Len() != want {
			t.Errorf("%s: in force is %+v, %v, want %d entries", tt.name, k, err, want)
		}
		if s := f.State("abuseipdb"); tt.why == "" && s.Error != "" || !strings.Contains(s.Error, tt.why) {
			t.Errorf("%s: at the end it says %q, want %q", tt.name, s.Error, tt.why)
		}
		for _, v := range server.Violations() {
			t.Errorf("%s: %v", tt.name, v)
		}
		if text := requestsIn24Hours(server.Requests()); text != "" {
			t.Errorf("%s: %s", tt.name, text)
		}
		web.Close()
	}
}

// requestsIn24Hours says where more than five came.
func requestsIn24Hours(all []fake.Request) string {
	for i := 5; i < len(all); i++ {
		if all[i].At.Sub(all[i-5].At) < day {
			return fmt.Sprintf("six requests from %s to %s", all[i-5].At, all[i].At)
		}
	}
	return ""
}
