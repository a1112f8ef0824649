package main

import (
	"strings"
	"testing"
	"time"

	"tocsin/internal/api"
)

var lookNow = time.Date(2026, 11, 22, 14, 0, 0, 0, time.Local)

func TestHowABanEnds(t *testing.T) {
	past, later := lookNow.Add(-time.Hour), lookNow.Add(time.Hour)
	tests := []struct {
		name        string
		ban         api.Ban
		until, long string // in a table, in a story; "" where that does not ask
	}{
		{"running", api.Ban{Active: true, Until: &later}, "15:00:00 (60 min left)", ""},
		{"without end", api.Ban{Active: true}, "without end", ""},
		{"ran out", api.Ban{Until: &past}, "13:00:00", ""},
		{"lifted", api.Ban{Until: &later, EndedAt: &past, EndedBy: "root", EndReason: "a mistake"}, "lifted 13:00:00", "lifted by root 13:00:00: a mistake"},
		{"lifted without a word", api.Ban{EndedAt: &past, EndedBy: "ro\x1bot"}, "lifted 13:00:00", `lifted by ro\x1bot 13:00:00`},
		{"replaced by a jail", api.Ban{EndedAt: &past, EndReason: "replaced by a newer ban"}, "replaced by a newer ban 13:00:00", "replaced by a newer ban 13:00:00"},
		{"nobody knows", api.Ban{EndedAt: &past}, "lifted 13:00:00", "lifted 13:00:00"},
	}
	for _, tt := range tests {
		if got := until(&tt.ban, lookNow); got != tt.until {
			t.Errorf("%s: until = %q, want %q", tt.name, got, tt.until)
		}
		if tt.long == "" {
			continue
		}
		if got := endText(&tt.ban, lookNow); got != tt.long {
			t.Errorf("%s: endText = %q, want %q", tt.name, got, tt.long)
		}
	}
}

// What a guard says may hold what attackers and disks wrote: it must not touch the terminal.
func TestStatusIsPrintable(t *testing.T) {
	const evil = "a\x1b[2Jb\u202e"
	s := api.Status{
		Mode: "observing", ModeReason: evil, Started: lookNow,
		Sources:  []api.Source{{Name: evil, Error: evil}},
		Warnings: []api.Finding{{Code: "TOC-CFG-001", Severity: "error", Text: evil + "\n  hint: " + evil, Fix: evil}},
	}
	var out strings.Builder
	printStatus(&out, &s, lookNow)
	if strings.ContainsAny(out.String(), "\x1b\u202e") {
		t.Errorf("status shows control characters:\n%q", out.String())
	}
	if want := "TOC-CFG-001  error: a\\x1b[2Jb\\u202e\n  hint: a\\x1b[2Jb"; !strings.Contains(out.String(), want) {
		t.Errorf("status:\n%s\nlacks\n%s", out.String(), want)
	}
}
