package main

import (
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"tocsin/internal/api"
	"tocsin/internal/config"
)

func TestOffText(t *testing.T) {
	usual := config.Default().State
	later := time.Date(2026, 11, 22, 15, 0, 0, 0, time.Local)
	tests := []struct {
		name         string
		state        string
		until, lasts time.Time
		want         string
	}{
		{"without end", usual, time.Time{}, time.Time{}, "off: everybody is let in until `tocsin on`"},
		{"for a time", usual, later, later, "off: everybody is let in until 2026-11-22 15:00:00, or `tocsin on`"},
		{"on a full disk", usual, later, time.Time{}, "off: everybody is let in until `tocsin on`: the disk has no room for a time"},
		{"elsewhere", "/srv/t", time.Time{}, time.Time{}, "off (state folder /srv/t): everybody is let in until `tocsin on`"},
	}
	for _, tt := range tests {
		if got := offText(tt.state, tt.until, tt.lasts); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestOffError(t *testing.T) {
	here := fmt.Errorf("write: %w", os.ErrPermission)
	tests := []struct {
		name     string
		err, at  error // here, and at the guard
		exit     int
		wantHint string
	}{
		{"all is well", nil, nil, 0, ""},
		{"no guard runs", nil, api.Errorf(api.ExitUnreachable, "start it", "no guard"), 0, ""},
		{"the guard hangs", nil, api.Errorf(api.ExitTryLater, "", "no answer"), api.ExitTryLater, "see whether the table stays away: nft list table inet tocsin"},
		{"the guard refuses", nil, api.Errorf(api.ExitPermission, "sudo", "only root"), api.ExitFailed, "sudo"},
		{"only the guard could", here, nil, api.ExitPermission, "the guard keeps off while it runs; the next one may not"},
		{"nobody could", here, api.Errorf(api.ExitPermission, "", "only root"), api.ExitPermission, "try again with sudo"},
		{"a full disk and no guard", errors.New("disk full"), api.Errorf(api.ExitUnreachable, "", "no guard"), api.ExitFailed, "a guard that runs or starts may bring the firewall table back"},
	}
	for _, tt := range tests {
		err := offError(tt.err, tt.at)
		if tt.exit == 0 {
			if err != nil {
				t.Errorf("%s: got %v, want no error", tt.name, err)
			}
			continue
		}
		if e := errorOf(err); e.Exit != tt.exit || e.Hint != tt.wantHint {
			t.Errorf("%s: got exit code %d with hint %q, want %d with %q", tt.name, e.Exit, e.Hint, tt.exit, tt.wantHint)
		}
	}
}
