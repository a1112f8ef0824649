package daemon

import (
	"errors"
	"log/slog"
	"maps"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"tocsin/internal/api"
	"tocsin/internal/munin"
	"tocsin/internal/probe"
	"tocsin/internal/store"
)

// What was known is known after a restart: a server that does not answer too, with its services.
func TestCatalogueOutlivesARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "watch.db")
	at := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	open := func() (*store.Watch, *catalogue) {
		w, err := store.OpenWatch(path, nil)
		if err != nil {
			t.Fatal(err)
		}
		c, err := loadCatalogue(t.Context(), w, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return w, c
	}
	w, c := open()
	load := &munin.Service{Name: "load", Attrs: []munin.Attr{{Name: "graph_title", Value: "Load"}}, Fields: []munin.Field{{Name: "load", Attrs: []munin.Attr{{Name: "label", Value: "load"}}}}}
	key := serverKey{"Gandi", "web1"}
	c.take(key, &probe.Reading{Service: load, At: at, Values: []munin.Value{{Field: "load", V: 1}}})
	c.asked(key, "munin://192.0.2.10:4949", at.Add(time.Minute), "connection refused")
	c.asked(serverKey{"TTN", "web1"}, "munin://192.0.2.11:4949", at, "never answered")
	c.save(t.Context(), false)
	w.Close()

	w, c = open()
	defer w.Close()
	if keys := c.find("*", "web1"); !reflect.DeepEqual(keys, []serverKey{key, {"TTN", "web1"}}) {
		t.Errorf("found %v", keys)
	}
	if keys := c.find("TTN", "web1"); !reflect.DeepEqual(keys, []serverKey{{"TTN", "web1"}}) {
		t.Errorf("found %v in group TTN", keys)
	}
	s := c.servers[key]
	want := store.KnownNode{Group: "Gandi", Node: "web1", Address: "munin://192.0.2.10:4949", Seen: at, Since: at.Add(time.Minute), Why: "connection refused"}
	if got := s.KnownNode; !got.Seen.Equal(want.Seen) || !got.Since.Equal(want.Since) || got.Why != want.Why || got.Address != want.Address {
		t.Errorf("known %+v, want %+v", got, want)
	}
	if k := s.services["load"]; k == nil || !k.desc.Same(load) || !k.read.Equal(at) {
		t.Errorf("load is known as %+v", k)
	}

	// It is written again when its description changes, when it is an hour later, and at the end, not for each reading.
	written := func() bool {
		n, services, err := w.Known(t.Context())
		if err != nil || len(n) != 2 || len(services) != 1 {
			t.Fatal(n, services, err)
		}
		return services[0].Seen.Equal(s.services["load"].read)
	}
	for _, tt := range []struct {
		name string
		desc *munin.Service
		at   time.Duration
		all  bool
		want bool
	}{
		{"read again", load, time.Minute, false, false},
		{"described in other words", &munin.Service{Name: "load", Fields: load.Fields}, 2 * time.Minute, false, true},
		{"an hour later", &munin.Service{Name: "load", Fields: load.Fields}, 63 * time.Minute, false, true},
		{"a minute later", &munin.Service{Name: "load", Fields: load.Fields}, 64 * time.Minute, false, false},
		{"at the end", &munin.Service{Name: "load", Fields: load.Fields}, 65 * time.Minute, true, true},
	} {
		c.take(key, &probe.Reading{Service: tt.desc, At: at.Add(tt.at)})
		c.save(t.Context(), tt.all)
		if got := written(); got != tt.want {
			t.Errorf("%s: written %v, want %v", tt.name, got, tt.want)
		}
	}
	if ok, err := c.forget(t.Context(), key); !ok || err != nil {
		t.Errorf("forget: %v, %v", ok, err)
	}
	if keys := c.find("*", "web1"); len(keys) != 1 {
		t.Errorf("found %v after one was forgotten", keys)
	}
}

// A server that the configuration does not name any more is idle and no more unknown, and the name alone means the one that is
// still read.
func TestServersThatAreNotAskedAnyMore(t *testing.T) {
	began := time.Now()
	c := &catalogue{log: slog.New(slog.DiscardHandler), servers: map[serverKey]*knownServer{}}
	s := &supervisor{own: serverKey{"Gandi", "web1"}, began: began, known: c}
	load := &munin.Service{Name: "load", Fields: []munin.Field{{Name: "load"}}}
	read := func(group, name string, at time.Time) serverKey {
		key := serverKey{group, name}
		c.take(key, &probe.Reading{Service: load, At: at, Values: []munin.Value{{Field: "load", V: 1}}})
		return key
	}
	read("", "web1", began.Add(-time.Minute)) // this machine, before it was given a group
	read("Gandi", "web1", began.Add(time.Second))
	read("TTN", "behind", began.Add(time.Second)) // behind another node
	for _, name := range []string{"gone", "asked"} {
		c.asked(read("TTN", name, began.Add(-time.Minute)), "munin://192.0.2.10:4949", began, "connection refused")
	}
	c.asksOnly([]serverKey{{"TTN", "asked"}})
	c.asked(serverKey{"TTN", "asked"}, "munin://192.0.2.10:4949", began.Add(time.Hour), "still refused")
	if k := c.servers[serverKey{"TTN", "asked"}]; !k.Since.Equal(began) || k.Why != "still refused" {
		t.Errorf("known %+v; it was silent before this session too", k.KnownNode)
	}
	c.willAsk(serverKey{"TTN", "new"}, "munin://192.0.2.11:4949")
	all, err := s.servers()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, v := range all.Servers {
		got[v.Group+"/"+v.Name] = v.State
	}
	want := map[string]string{"/web1": "idle", "Gandi/web1": "ok", "TTN/behind": "ok", "TTN/gone": "idle", "TTN/asked": "unknown", "TTN/new": "unknown"}
	if !maps.Equal(got, want) {
		t.Errorf("states %v, want %v", got, want)
	}

	read("OVH", "behind", began.Add(time.Second))
	for _, tt := range []struct {
		group, name string
		want        serverKey
		hint        string
	}{
		{"*", "web1", serverKey{"Gandi", "web1"}, ""},
		{"", "web1", serverKey{"", "web1"}, ""},
		{"*", "behind", serverKey{}, "write OVH/behind or TTN/behind"},
		{"*", "nobody", serverKey{}, "tocsin servers shows which there are"},
	} {
		key, err := s.one(tt.group, tt.name)
		var refused *api.Error
		if errors.As(err, &refused); key != tt.want || (refused != nil) != (tt.hint != "") || refused != nil && refused.Hint != tt.hint {
			t.Errorf("%s of group %q: %v, %+v; want %v, %q", tt.name, tt.group, key, err, tt.want, tt.hint)
		}
	}
}
