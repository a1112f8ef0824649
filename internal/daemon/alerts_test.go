package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tocsin"
	"tocsin/internal/api"
	"tocsin/internal/config"
	"tocsin/internal/store"
	"tocsin/internal/tsdb"
)

const watchful = `listen = ""
[watch]
group = "Gandi"
name = "web1"
interval = "1s"
munin_plugins = ""
[[rule]]
name = "busy"
service = "load"
field = "load"
warning = "1000:"
[[rule]]
name = "idle"
service = "load"
field = "load15"
warning = "1000:"
`

// What a rule finds is an incident: listed, explained, taken by somebody, silenced, and the same after a restart.
func TestAlertsOfThisMachine(t *testing.T) {
	c, state, stop := supervising(t, watchful)
	ctx := t.Context()
	var first api.Alerts
	open := func(rule string) *api.Alert {
		all, err := c.Alerts(ctx, api.AlertsQuery{}, "fr")
		if err != nil {
			return nil
		}
		first = all
		if i := slices.IndexFunc(all.Alerts, func(a api.Alert) bool { return a.Rule == rule && a.State != "over" }); i >= 0 {
			return &all.Alerts[i]
		}
		return nil
	}
	within(t, "both alerts", func() bool { return open("busy") != nil && open("idle") != nil })
	a := *open("busy")
	if a.Group != "Gandi" || a.Server != "web1" || a.Service != "load" || a.Field != "load" || a.Level != "warning" || a.State != "open" ||
		a.Limit != "1000:" || a.Value == nil || !strings.Contains(a.Title, "load (load) à") || !strings.Contains(a.Text, "au moins 1") {
		t.Errorf("alert: %+v", a)
	}
	if _, err := c.AckAlert(ctx, api.AckRequest{ID: a.ID, For: 7200, Note: "looking", By: "marie"}); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []api.AckRequest{{ID: 1e6}, {ID: a.ID, For: -1}, {ID: a.ID, For: 1e12}, {ID: a.ID, Note: strings.Repeat("x", 501)}} {
		if _, err := c.AckAlert(ctx, bad); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
	d, err := c.Alert(ctx, a.ID, "en")
	if err != nil || d.State != "acknowledged" || d.Ack == nil || d.Ack.By != "marie" || d.Ack.Until == nil || len(d.Turns) != 2 ||
		d.Turns[0].Turn != "began" || !d.Turns[0].Tell || d.Turns[1].By != "marie" || d.Turns[1].Note != "looking" ||
		d.Why == nil || d.Why.Name != "busy" || !strings.Contains(d.Why.Where, "t.toml:9") {
		t.Errorf("detail: %+v, why %+v, %v", d, d.Why, err)
	}
	if _, err := c.Alert(ctx, 1e6, "en"); err == nil {
		t.Error("there is an alert #1000000")
	}
	for _, bad := range []api.SilenceRequest{{Server: "web1"}, {For: 60}, {Server: "web1", For: 1e12}, {End: 77}} {
		if _, err := c.Silence(ctx, bad); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
	if _, err := c.Silence(ctx, api.SilenceRequest{Server: "web1", Rule: "id*", For: 3600, Note: "moving", By: "marie"}); err != nil {
		t.Fatal(err)
	}
	n, err := c.Night(ctx, time.Now().Add(-time.Hour), "en")
	if err != nil || n.Servers != 1 || len(n.Open) < 2 || n.Bans != -1 || len(n.Problems) == 0 {
		t.Errorf("night: %+v, %v", n, err)
	}
	rules, err := c.Rules(ctx)
	if i := slices.IndexFunc(rules.Rules, func(r api.Rule) bool { return r.Name == "busy" && r.Own }); err != nil || i < 0 || len(rules.Rules) < 20 {
		t.Errorf("rules: %+v, %v", rules, err)
	}
	stop()

	c, _, stop = supervisingIn(t, state, watchful)
	within(t, "both alerts after the restart", func() bool { return open("busy") != nil && open("idle") != nil })
	if again := open("busy"); again.ID != a.ID || again.State != "acknowledged" || !again.Began.Equal(a.Began) || len(first.Silences) != 1 || first.Silences[0].Note != "moving" {
		t.Errorf("after the restart: %+v, silences %+v", again, first.Silences)
	}
	if _, err := c.Silence(ctx, api.SilenceRequest{End: first.Silences[0].ID}); err != nil {
		t.Error(err)
	}
	if d, err := c.Alert(ctx, a.ID, "en"); err != nil || len(d.Turns) != 2 {
		t.Errorf("turns after the restart: %+v, %v", d.Turns, err)
	}
	stop()
	checkNoted(t, state, []string{"marie ack #" + fmt.Sprint(a.ID) + " looking", "marie silence web1 id* moving", " silence-end " + fmt.Sprint(first.Silences[0].ID) + " "})

	c, _, _ = supervisingIn(t, state, strings.Replace(watchful, `warning = "1000:"`, `warning = ":1e9"`, 1))
	within(t, "the end", func() bool {
		d, err := c.Alert(ctx, a.ID, "en")
		return err == nil && d.State == "over" && d.Ended != nil && d.Turns[len(d.Turns)-1].Turn == "over"
	})
	all, err := c.Alerts(ctx, api.AlertsQuery{All: true, Since: time.Hour, Server: "web1", Group: "Gandi"}, "en")
	if i := slices.IndexFunc(all.Alerts, func(a api.Alert) bool { return a.Rule == "busy" && a.State == "over" }); err != nil || i < 0 {
		t.Errorf("all: %+v, %v", all, err)
	}
}

// checkNoted compares what was noted of people, the oldest first.
func checkNoted(t *testing.T, state string, want []string) {
	t.Helper()
	w, err := store.OpenWatch(filepath.Join(state, watchFolder, watchStore), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	all, err := w.Actions(t.Context(), 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, a := range slices.Backward(all) {
		got = append(got, a.Who+" "+a.What+" "+a.About+" "+a.Note)
	}
	if !slices.Equal(got, want) {
		t.Errorf("noted: %q, want %q", got, want)
	}
}

// supervisingIn is supervising once more in the same folder.
func supervisingIn(t *testing.T, state, settings string) (c *api.WatchClient, _ string, stop func()) {
	t.Helper()
	conf, err := config.Parse("t.toml", []byte("state = \""+state+"\"\nsocket = \""+state+"/guard.sock\"\n"+settings))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- runWatch(ctx, WatchOptions{Config: conf, Version: "1.2", Log: slog.New(slog.DiscardHandler)}, nil)
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return api.NewWatchClient(WatchSocket(state)), state, stop
}

// What is kept but was not handed on before the end is handed on at the next start, once.
func TestWhatWasNotToldIsToldAfterARestart(t *testing.T) {
	ctx := t.Context()
	w, err := store.OpenWatch(filepath.Join(t.TempDir(), "watch.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	turns := []store.Turn{
		{Change: tocsin.Change{Incident: tocsin.Incident{ID: 3, Rule: "busy", Level: tocsin.Warning, Began: time.Now()}, At: time.Now(), Tell: true}},
		{Change: tocsin.Change{Incident: tocsin.Incident{ID: 4, Rule: "busy", Level: tocsin.Warning, Began: time.Now()}, At: time.Now()}},
	}
	if err := w.PutTurns(ctx, turns, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	var told []int64
	a := &alerter{store: w, log: slog.New(slog.DiscardHandler), tell: func(_ context.Context, c tocsin.Change) error {
		told = append(told, c.ID)
		return nil
	}}
	for range 3 {
		a.resume(ctx)
	}
	if !slices.Equal(told, []int64{3}) {
		t.Errorf("told %v, want 3 once", told)
	}
}

func TestUpgradesAreFoundByWhatWaits(t *testing.T) {
	points := func(values ...float64) (all []tsdb.Point) {
		for i, v := range values {
			all = append(all, tsdb.Point{T: int64(i) * 600_000, Avg: v})
		}
		return all
	}
	for _, tt := range []struct {
		points []tsdb.Point
		count  int
		at     int64
	}{
		{nil, 0, 0}, {points(5, 5, 6), 0, 0}, {points(5, 5, 0, 0), 5, 1_200_000}, {points(8, 5, 6, 2), 7, 1_800_000},
	} {
		m, ok := upgraded(tt.points)
		if m.Count != tt.count || ok != (tt.count > 0) || ok && m.At.UnixMilli() != tt.at {
			t.Errorf("%v: %+v, %t; want %d at %d", tt.points, m, ok, tt.count, tt.at)
		}
	}
}

// A rule that is wrong is told with its place by whoever reads the configuration.
func TestCheckTellsOfRules(t *testing.T) {
	conf, err := config.Parse("t.toml", []byte("[[rule]]\nname = \"x\"\nwarning = \"high\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Check(t.Context(), conf); err == nil || !strings.Contains(err.Error(), `t.toml:3:11: rule "x": warning "high" is no range`) {
		t.Errorf("check: %v", err)
	}
}
