package daemon

import (
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"testing"
	"time"

	"tocsin"
	"tocsin/internal/api"
	"tocsin/internal/config"
	"tocsin/internal/munin"
	"tocsin/internal/tsdb"
)

// readySupervisor is one that reads nothing.
func readySupervisor(t *testing.T, settings string) *supervisor {
	t.Helper()
	state, err := os.MkdirTemp("", "w") // the path of a socket is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(state) })
	conf, err := config.Parse("t.toml", fmt.Appendf(nil, "state = %q\nsocket = %q\nlisten = \"\"\n%s", state, state+"/guard.sock", settings))
	if err != nil {
		t.Fatal(err)
	}
	w, leave, err := newWatcher(WatchOptions{Config: conf, Version: "1.2", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(leave)
	s, err := newSupervisor(t.Context(), w, conf, "hub")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	return s
}

// A list server's mail is its mail server's: a week of both tells, and `tocsin probes` says so, after a restart too.
func TestRepeatsAreFound(t *testing.T) {
	s := readySupervisor(t, "[watch]\nname = \"hub\"\nmunin_plugins = \"\"\n[[watch.node]]\nname = \"mail1\"\ngroup = \"TTN\"\naddress = \"munin://127.0.0.1:1\"\n")
	now := time.Now()
	end := now.Truncate(5 * time.Minute)
	key := serverKey{"TTN", "mail1"}
	busy := func(seed uint64) []float64 {
		r := rand.New(rand.NewPCG(seed, 1))
		values := make([]float64, 8*288)
		for i := range values {
			values[i] = 100 + 60*math.Sin(float64(i)/288*2*math.Pi) + 20*r.ExpFloat64()
		}
		return values
	}
	mail := busy(1)
	put := func(service, field string, values []float64) {
		t.Helper()
		desc := &munin.Service{Name: service, Fields: []munin.Field{{Name: field}}}
		s.known.describe(key, desc)
		h := tsdb.History{Series: tocsin.Series{Group: key.group, Node: key.name, Service: service, Field: field}}
		a := tsdb.Archive{Step: 5 * time.Minute, Of: tsdb.Average}
		for i, v := range values {
			a.Rows = append(a.Rows, tsdb.Row{T: end.Add(time.Duration(i+1-len(values)) * 5 * time.Minute).UnixMilli(), V: v})
		}
		h.Archives = []tsdb.Archive{a}
		if _, err := s.db.Import(t.Context(), func(yield func(tsdb.History, error) bool) { yield(h, nil) }); err != nil {
			t.Fatal(err)
		}
	}
	twelvefold := make([]float64, len(mail))
	for i, v := range mail {
		twelvefold[i] = 12*v + 3
	}
	put("postfix_mailvolume", "volume", mail)
	put("postfix_mailstats", "delivered", busy(2))
	put("postfix_mailstats", "rejected", slices.Repeat([]float64{0}, len(mail)))
	put("sympa", "sent", twelvefold)
	put("young", "sent", mail[len(mail)-3*288:])
	put("load", "load", busy(3))
	s.known.save(t.Context(), false)

	if due := s.known.due(now.Add(-compareAgain)); !slices.Contains(due, key) {
		t.Fatalf("due: %v, without %v", due, key)
	}
	if err := s.compareServer(t.Context(), key, now, 0); err != nil {
		t.Fatal(err)
	}
	if due := s.known.due(now.Add(-compareAgain)); slices.Contains(due, key) {
		t.Error("it is due again at once")
	}
	want := []api.Repeat{{Probe: "sympa", Of: "postfix_mailvolume"}}
	found := func(s *supervisor) []api.Repeat {
		all, err := s.probes()
		i := slices.IndexFunc(all.Probes, func(p api.Probe) bool { return p.Kind == "node" && p.Name == "mail1" })
		if err != nil || i < 0 {
			t.Fatalf("no mail1 among the probes: %+v, %v", all, err)
		}
		return all.Probes[i].Repeats
	}
	if got := found(s); !reflect.DeepEqual(got, want) {
		t.Errorf("repeats %+v, want %+v", got, want)
	}
	again, err := loadCatalogue(t.Context(), s.w.store, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s.known = again
	if got := found(s); !reflect.DeepEqual(got, want) {
		t.Errorf("after a restart repeats %+v, want %+v", got, want)
	}
	if _, err := s.known.forget(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	if got := found(s); len(got) > 0 {
		t.Errorf("of a server that was forgotten: %+v", got)
	}
}
