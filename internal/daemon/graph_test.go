package daemon

import (
	"slices"
	"testing"
	"time"

	"tocsin/internal/api"
	"tocsin/internal/tsdb"
)

func TestMarks(t *testing.T) {
	at := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	points := func(values ...float64) (all []tsdb.Point) {
		for i, v := range values {
			all = append(all, tsdb.Point{T: at.Add(time.Duration(i) * time.Hour).UnixMilli(), Avg: v, Min: v, Max: v})
		}
		return all
	}
	hour := func(n int) time.Time { return at.Add(time.Duration(n) * time.Hour) }
	tests := []struct {
		name      string
		got, want []api.GraphMark
	}{
		{"up all the time", restarts(points(1, 1.04, 1.08)), nil},
		{"a clock that was set", restarts(points(1, 0.9995)), nil},
		{"restarted a quarter of an hour before", restarts(points(41, 41.04, 0.25/24, 1.25/24)), []api.GraphMark{{At: hour(2).Add(-15 * time.Minute), Kind: api.MarkReboot}}},
		{"within a long step", restarts([]tsdb.Point{{T: at.UnixMilli(), Min: 0, Max: 1}, {T: hour(24).UnixMilli(), Min: 0, Max: 1.5}}), []api.GraphMark{{At: hour(24), Kind: api.MarkReboot}}},
		{"no packages", upgrades(points(3, 3, 5)), nil},
		{"packages", upgrades(points(14, 14, 2, 2, 0)), []api.GraphMark{{At: hour(2), Kind: api.MarkUpgrade, N: 12}, {At: hour(4), Kind: api.MarkUpgrade, N: 2}}},
		{"a few bans", bursts(points(1/3600., 9/3600., 2/3600.), time.Hour), nil},
		{"as many as ever", bursts(points(20/3600., 25/3600., 22/3600.), time.Hour), nil},
		{"a burst", bursts(points(1/3600., 0, 0, 0, 0, 0, 0, 40/3600.), time.Hour), []api.GraphMark{{At: hour(7).Add(-30 * time.Minute), Kind: api.MarkBans, N: 40}}},
		{"nothing", slices.Concat(bursts(nil, time.Hour), restarts(nil), upgrades(nil)), nil},
	}
	for _, tt := range tests {
		if !slices.Equal(tt.got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, tt.got, tt.want)
		}
	}
}
