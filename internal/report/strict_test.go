package report

import (
	"net/http/httptest"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"tocsin"
	"tocsin/internal/abuseipdb/fake"
)

// TestStrictDays plays days against the strict fake of AbuseIPDB, over HTTP: every report arrives once, and the server has
// nothing to blame us for.
func TestStrictDays(t *testing.T) {
	hours := func(from, to float64, k fake.Kind) fake.Fault {
		at := func(h float64) time.Time { return t0.Add(time.Duration(h * float64(time.Hour))) }
		return fake.Fault{Kind: k, From: at(from), Until: at(to)}
	}
	tests := []struct {
		name   string
		faults []fake.Fault
		noon   bool // somebody else uses up the quota six hours into the day
		wrong  time.Duration
		bans   int
		run    time.Duration
		want   string
	}{
		{"a quiet day", nil, false, 0, 50, 13 * time.Hour, "sent 50"},
		{"the quota runs out at noon", nil, true, 0, 120, day, "sent 120"},
		{"the same, our clock an hour fast", nil, true, time.Hour, 120, day, "sent 120"},
		{"the same, our clock an hour slow", nil, true, -time.Hour, 120, day, "sent 120"},
		{"500s for six hours", []fake.Fault{hours(2, 8, fake.Error500)}, false, 0, 100, day, "sent 100"},
		{"503s in HTML for six hours", []fake.Fault{hours(2, 8, fake.ErrorHTML)}, false, 0, 100, day, "sent 100"},
		{"too many requests, says the machine before it", []fake.Fault{hours(1, 2, fake.Busy)}, false, 0, 50, 13 * time.Hour, "sent 50"},
		{"an answer lost before", []fake.Fault{{Kind: fake.CutBefore, From: t0.Add(time.Hour), Times: 1}}, false, 0, 50, 13 * time.Hour, "sent 50"},
		{"an answer lost behind", []fake.Fault{{Kind: fake.CutAfter, From: t0.Add(time.Hour), Times: 1}}, false, 0, 50, 13 * time.Hour, "sent 49, duplicates 1"},
		{"half an answer", []fake.Fault{{Kind: fake.CutHalf, From: t0.Add(time.Hour), Times: 1}}, false, 0, 50, 13 * time.Hour, "sent 49, duplicates 1"},
		{"done, but a gateway says 504", []fake.Fault{{Kind: fake.ErrorAfter, From: t0.Add(time.Hour), Times: 1}}, false, 0, 50, 13 * time.Hour, "sent 49, duplicates 1"},
		{"a storm, in bulk", nil, false, 0, 3000, day, "sent 3000"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := &world{t: t, now: t0, wrong: tt.wrong, events: spread(tt.bans, 12*time.Hour)}
			var called atomic.Int64 // when the server was asked last: after a cut answer it may look at its clock once more
			f := fake.New(fake.Options{Now: func() time.Time { return time.Unix(0, called.Load()) }, Canaries: []string{"canary"},
				Accounts: []fake.Account{{Name: "us", Key: "canary0123456789", Plan: fake.FreePlan()}}})
			for _, fault := range tt.faults {
				f.Inject(fault)
			}
			http := httptest.NewServer(f)
			defer http.Close()
			c, err := client(http.URL + "/api/v2/")
			if err != nil {
				t.Fatal(err)
			}
			if w.q, err = New(options(), tocsin.ReportState{}, w.clock()); err != nil {
				t.Fatal(err)
			}
			noon := tt.noon
			w.call = func(j Job) Answer {
				called.Store(w.now.UnixNano())
				if noon && w.now.Sub(t0) >= 6*time.Hour {
					f.UseUp("us", fake.ReportOne)
					noon = false
				}
				return c.Send(t.Context(), j)
			}
			w.run(tt.run)
			if got := w.check(); got != tt.want {
				t.Errorf("%s, want %s: %+v", got, tt.want, w.q.Stats(w.clock()))
			}
			for _, v := range f.Violations() {
				t.Errorf("%s: %s: %s", v.At, v.Endpoint, v.What)
			}
			times := map[netip.Addr]int{}
			for _, r := range f.Reports() {
				times[r.Addr]++
				if r.Comment != "5 ssh login failures in 41 s" || len(r.Categories) != 2 || r.At.After(r.Received) || r.Received.Sub(r.At) > day {
					t.Fatalf("the server has %+v", r)
				}
			}
			if len(times) != tt.bans || len(f.Reports()) != tt.bans {
				t.Errorf("%d reports of %d addresses, want %d", len(f.Reports()), len(times), tt.bans)
			}
		})
	}
}
