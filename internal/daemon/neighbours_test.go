package daemon

import (
	"log/slog"
	"slices"
	"testing"
	"time"

	"tocsin"
	"tocsin/internal/munin"
	"tocsin/internal/probe"
	"tocsin/internal/tsdb"
)

// A master gets what is stored since it asked last: steps that are over, each once, rates as gauges; of long ago a day at most.
func TestSpool(t *testing.T) {
	db, err := tsdb.Open(t.Context(), tsdb.Options{Dir: t.TempDir(), Every: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	own := serverKey{"Gandi", "web1"}
	s := &supervisor{own: own, db: db, known: &catalogue{log: slog.New(slog.DiscardHandler), servers: map[serverKey]*knownServer{}}}
	desc := &munin.Service{Name: "if_eth0", Attrs: []munin.Attr{{Name: "graph_title", Value: "eth0"}}, Fields: []munin.Field{
		{Name: "up", Attrs: []munin.Attr{{Name: "label", Value: "up"}, {Name: "type", Value: "DERIVE"}, {Name: "min", Value: "0"}}},
	}}
	s.known.take(own, &probe.Reading{Service: desc, At: time.Now(), Values: []munin.Value{{Field: "up", V: 1}}})
	s.known.take(own, &probe.Reading{Service: &munin.Service{Name: "silent"}, At: time.Now()})
	now := time.Now()
	var samples []tocsin.Sample
	for at := now.Add(-50 * time.Minute).Truncate(time.Minute).Add(5 * time.Second); at.Before(now); at = at.Add(10 * time.Second) {
		samples = append(samples, tocsin.Sample{Series: tocsin.Series{Group: "Gandi", Node: "web1", Service: "if_eth0", Field: "up"}, T: at.UnixMilli(), Value: float64(at.Minute())})
	}
	if taken, err := db.Append(t.Context(), samples); err != nil || taken.Dropped() > 0 {
		t.Fatalf("%+v, %v", taken, err)
	}
	tests := []struct {
		name      string
		since     int64
		step      int64 // seconds; 0: nothing comes
		from, end int   // how many there are at least, and at most
	}{
		{"a few minutes", now.Unix() - 600, 60, 7, 9},
		{"in the middle of a minute", now.Truncate(time.Minute).Unix() - 599, 60, 8, 10},
		{"of all time", 0, 300, 9, 15},
		{"of a number that is none", -5, 300, 9, 15},
		{"of now", now.Unix(), 0, 0, 0},
		{"of tomorrow", now.Unix() + 86400, 0, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := 0
			err := s.asSpool(t.Context(), tt.since, func(got *munin.Service, values []munin.Value) error {
				if f := got.Field("up"); got.Name != "if_eth0" || f.Type() != munin.Gauge || len(f.Attrs) != 3 {
					t.Errorf("service %+v", got)
				}
				for i, v := range values {
					n++
					minute := float64(time.Unix(v.At-1, 0).Minute())
					if v.Field != "up" || v.At%60 != 0 || v.At <= tt.since || v.At > now.Unix()-60 || i > 0 && v.At != values[i-1].At+tt.step && (v.At != values[i-1].At+60 || v.At < now.Unix()-400) || tt.step == 60 && v.V != minute {
						t.Errorf("value %d: %+v, want that of minute %v", i, v, minute)
					}
				}
				return nil
			})
			if err != nil || n < tt.from || n > tt.end {
				t.Errorf("%d values, %v; want %d to %d", n, err, tt.from, tt.end)
			}
		})
	}
	if desc.Fields[0].Type() != munin.Derive {
		t.Error("the description in the catalogue was changed")
	}
	if ps := s.asPlugins(); len(ps) != 1 || ps[0].Name != "if_eth0" {
		t.Errorf("plugins: %+v", ps)
	}
}

// A master that asks when no step is over yet gets the newest values, for it takes a node that says nothing for dead.
func TestSpoolOfTheFirstMinute(t *testing.T) {
	db, err := tsdb.Open(t.Context(), tsdb.Options{Dir: t.TempDir(), Every: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	own, now := serverKey{"Gandi", "web1"}, time.Now()
	s := &supervisor{own: own, db: db, known: &catalogue{log: slog.New(slog.DiscardHandler), servers: map[serverKey]*knownServer{}}}
	desc := &munin.Service{Name: "forks", Fields: []munin.Field{{Name: "forks", Attrs: []munin.Attr{{Name: "type", Value: "DERIVE"}}}, {Name: "silent"}}}
	s.known.take(own, &probe.Reading{Service: desc, At: now, Values: []munin.Value{{Field: "forks", V: 1000}}})
	series := tocsin.Series{Group: "Gandi", Node: "web1", Service: "forks", Field: "forks"}
	samples := []tocsin.Sample{{Series: series, T: now.UnixMilli() - 2000, Value: 3}, {Series: series, T: now.UnixMilli(), Value: 4}}
	if taken, err := db.Append(t.Context(), samples); err != nil || taken.Dropped() > 0 {
		t.Fatalf("%+v, %v", taken, err)
	}
	for _, tt := range []struct {
		since int64
		want  []munin.Value
	}{
		{0, []munin.Value{{Field: "forks", At: now.Unix(), V: 4}}},
		{now.Unix(), nil},
	} {
		var got []munin.Value
		err := s.asSpool(t.Context(), tt.since, func(d *munin.Service, values []munin.Value) error {
			if d.Fields[0].Type() != munin.Gauge {
				t.Errorf("the type is %v, what is given a rate", d.Fields[0].Type())
			}
			got = append(got, values...)
			return nil
		})
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("since %d: %+v, %v; want %+v", tt.since, got, err, tt.want)
		}
	}
}
