package list

import (
	"fmt"
	"testing"
	"time"
)

func TestDue(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skip("this machine has no time zones: ", err)
	}
	tests := []struct {
		name string
		at   string
		last string // RFC 3339, in Berlin; "" for never
		now  string
		want string // "now" if it is due
	}{
		{"never fetched", "03:30", "", "2026-11-22T12:00", "now"},
		{"tomorrow", "03:30", "2026-11-22T03:31", "2026-11-22T12:00", "2026-11-23T03:30"},
		{"today, fetched in the night", "03:30", "2026-11-22T01:00", "2026-11-22T02:00", "2026-11-22T03:30"},
		{"too soon behind the first fetch", "03:30", "2026-11-22T02:31", "2026-11-22T02:32", "2026-11-23T03:30"},
		{"an hour behind the first fetch", "03:30", "2026-11-22T02:30", "2026-11-22T02:32", "2026-11-22T03:30"},
		{"at the minute", "03:30", "2026-11-21T03:30", "2026-11-22T03:30", "now"},
		{"slept for a month", "03:30", "2026-10-22T03:30", "2026-11-22T12:00", "now"},
		{"an hour ahead", "03:30", "2026-11-22T13:00", "2026-11-22T12:00", "2026-11-23T03:30"},
		{"a year ahead", "03:30", "2027-11-22T12:00", "2026-11-22T12:00", "now"},
		{"the hour that is left out", "02:30", "2026-03-28T02:30", "2026-03-28T12:00", "2026-03-29T03:30"},
		{"the day of 25 hours", "04:00", "2026-10-24T04:00", "2026-10-24T12:00", "2026-10-25T04:00"},
	}
	for _, tt := range tests {
		var last time.Time
		if tt.last != "" {
			last = clock(t, tt.last, berlin)
		}
		now := clock(t, tt.now, berlin)
		got := Due("drop", "host", tt.at, last, now)
		text := got.Format("2006-01-02T15:04")
		if !got.After(now) {
			text = "now"
		}
		if text != tt.want {
			t.Errorf("%s: at %s, last %s, now %s: due %s, want %s", tt.name, tt.at, tt.last, tt.now, text, tt.want)
		}
	}
}

func clock(t *testing.T, s string, loc *time.Location) time.Time {
	t.Helper()
	at, err := time.ParseInLocation("2006-01-02T15:04", s, loc)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// A fleet of a thousand must be spread over the day: no hour has more than twice its share, and each machine keeps its time.
func TestDueSpreads(t *testing.T) {
	last := t0
	hours := map[int]int{}
	for i := range 1000 {
		host := fmt.Sprintf("web%d.example.org", i)
		due := Due("abuseipdb", host, "auto", last, last)
		if wait := due.Sub(last); wait < soonest || wait > day+soonest {
			t.Fatalf("%s is due after %s", host, wait)
		}
		hours[due.UTC().Hour()]++
		if next := Due("abuseipdb", host, "auto", due, due); !next.Equal(due.Add(day)) {
			t.Errorf("%s is due at %s, and then at %s", host, due, next)
		}
	}
	for h := range 24 {
		if hours[h] < 15 || hours[h] > 84 {
			t.Errorf("%d of 1000 machines come between %d and %d o'clock", hours[h], h, h+1)
		}
	}
	if a, b := Due("a", "h", "auto", last, last), Due("b", "h", "auto", last, last); a.Equal(b) {
		t.Errorf("two lists of a machine are both due at %s", a)
	}
}

// However the clock jumps between two looks, waiting for the turn ends.
func TestDueComes(t *testing.T) {
	for _, at := range []string{"03:30", "auto"} {
		for _, jump := range []time.Duration{0, -time.Minute, -59 * time.Minute, -time.Hour, -25 * time.Hour, -400 * day, time.Hour, 400 * day} {
			last, now := t0, t0.Add(jump)
			end := now.Add(longestWait + time.Minute)
			for Due("drop", "host", at, last, now).After(now) && now.Before(end) {
				now = now.Add(time.Minute)
			}
			if !now.Before(end) {
				t.Errorf("at %s, the clock jumped by %s: never due", at, jump)
			}
		}
	}
}

func TestRetry(t *testing.T) {
	tests := []struct {
		budget int
		want   string // of fetches that all fail, the hours after the first
	}{
		{0, "0.0 0.2 0.8 1.8 3.8 6.8 9.8 12.8"},
		{5, "0.0 0.2 0.8 8.5 16.2 24.0 27.0 30.0"},
		{1, "0.0 24.0 48.0 72.0 96.0 120.0 144.0 168.0"},
	}
	for _, tt := range tests {
		var tries []time.Time
		now, got := t0, ""
		for n := range 8 {
			tries = recent(append(tries, now), now)
			if tt.budget > 0 && len(tries) > tt.budget {
				t.Errorf("budget %d: %d fetches within a day", tt.budget, len(tries))
			}
			got += fmt.Sprintf(" %.1f", now.Sub(t0).Hours())
			now = retry(n+1, tries, tt.budget, now)
		}
		if got[1:] != tt.want {
			t.Errorf("budget %d: fetches after %s hours, want %s", tt.budget, got[1:], tt.want)
		}
	}
}
