package daemon

import (
	"bytes"
	"context"
	"fmt"
	"image/png"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tocsin"
	"tocsin/internal/api"
	"tocsin/internal/config"
	"tocsin/internal/locale"
)

// idle is a watch process that answers, but reads nothing by itself, and its supervisor.
func idle(t *testing.T, settings string) (*api.WatchClient, *supervisor) {
	t.Helper()
	state, err := os.MkdirTemp("", "w") // the path of a socket is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(state) })
	conf, err := config.Parse("t.toml", fmt.Appendf(nil, "state = %q\nsocket = %q\nlisten = \"\"\n[watch]\nname = \"web1\"\nmunin_plugins = \"\"\n%s", state, state+"/guard.sock", settings))
	if err != nil {
		t.Fatal(err)
	}
	w, leave, err := newWatcher(WatchOptions{Config: conf, Version: "1.2", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(leave)
	session, err := w.newSession(t.Context(), conf)
	if err != nil {
		t.Fatal(err)
	}
	if session.sup, err = newSupervisor(t.Context(), w, conf, "web1"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(session.sup.close)
	w.now.Store(session)
	l, err := listenForOwn(WatchSocket(state))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- api.Serve(ctx, l, api.WatchHandler(w.operations(), w.supervision())) }()
	t.Cleanup(func() { stop(); <-served })
	return api.NewWatchClient(WatchSocket(state)), session.sup
}

func TestUsual(t *testing.T) {
	for _, tt := range []struct {
		nights []int
		want   [2]int
	}{
		{nil, [2]int{}}, {[]int{1, 2, 3, 4}, [2]int{}}, {[]int{90, 80, 120, 100, 95}, [2]int{80, 120}},
		{[]int{9000, 80, 120, 0, 100, 95, 99}, [2]int{80, 120}},
	} {
		if got := usual(tt.nights); got != tt.want {
			t.Errorf("usual of %v: %v, want %v", tt.nights, got, tt.want)
		}
	}
}

// What is usual comes from the curves of past nights, the words of the command and of the digest are the same, and the picture
// is a small PNG.
func TestNight(t *testing.T) {
	c, s := idle(t, "")
	now := time.Now().UTC().Truncate(time.Hour)
	send := func(service, field string, value func(hour int) float64) {
		t.Helper()
		var b strings.Builder
		for i := range 24 * 20 {
			fmt.Fprintf(&b, "%s,%g\n", now.Add(time.Duration(i-24*20)*time.Hour).Format(time.RFC3339), value(i))
		}
		path := filepath.Join(t.TempDir(), "x.csv")
		if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := SendCSV(t.Context(), c, path, tocsin.Series{Node: "web1", Service: service, Field: field}); err != nil {
			t.Fatal(err)
		}
	}
	send("bans", "sshd", func(hour int) float64 { return float64(8+hour/24%3) / 3600 }) // 8 to 10 an hour
	send("bans_day", "sshd", func(hour int) float64 { return float64(200 + hour%24) })
	from, to := now.Add(-11*time.Hour), now.Add(-time.Hour)
	g, err := s.gather(t.Context(), from, to)
	if err != nil || g.Servers != 1 || g.Bans != -1 || len(g.problems) != 1 || !strings.Contains(g.problems[0], "the guard cannot be asked") {
		t.Errorf("gathered %+v, %v", g, err)
	}
	if low, high := g.Usual[0], g.Usual[1]; low < 80 || low > 90 || high < 90 || high > 100 || low > high {
		t.Errorf("usual %v, want 80 to 100 for ten hours", g.Usual)
	}
	if n, part, err := s.counted(t.Context(), from, to, s.bansSeries()); err != nil || n < 79 || n > 101 || part < 0.9 || part > 1.1 {
		t.Errorf("counted %d in %g of the night, %v", n, part, err)
	}
	n, err := c.Night(t.Context(), from, "fr")
	if err != nil || n.Schema != "tocsin.night/1" || n.Usual == nil {
		t.Fatalf("night: %+v, %v", n, err)
	}
	g.To = n.Until
	if g, err = s.gather(t.Context(), n.Since, n.Until); err != nil {
		t.Fatal(err)
	}
	g.Bans, g.Usual = 96, [2]int{80, 120}
	title, text := g.Text(locale.Get("fr"), "")
	if !strings.HasSuffix(title, "96 adresses bannies cette nuit") || !strings.Contains(text, "96 adresses bannies (d’habitude 80 à 120).") {
		t.Errorf("title %q, text\n%s", title, text)
	}
	g.Bans = -1
	if title, text := g.Text(locale.Get("fr"), ""); title != n.Title || text != n.Text {
		t.Errorf("the command says %q\n%s\nthe digest %q\n%s", n.Title, n.Text, title, text)
	}

	data, err := s.bansPicture(t.Context(), locale.Get("fr"), now)
	if err != nil || len(data) == 0 || len(data) > 15<<10 {
		t.Fatalf("picture of %d bytes, %v", len(data), err)
	}
	if img, err := png.Decode(bytes.NewReader(data)); err != nil || img.Bounds().Dx() != pictureWidth {
		t.Errorf("picture: %v", err)
	}
	if dir := os.Getenv("TOCSIN_PICTURES"); dir != "" {
		if err := os.WriteFile(filepath.Join(dir, "digest.png"), data, 0o644); err != nil {
			t.Error(err)
		}
	}
}

// More than a day is no night, and nothing is usual of it.
func TestLongNight(t *testing.T) {
	_, s := idle(t, "")
	g := gathered{}
	g.From, g.To = time.Now().Add(-72*time.Hour), time.Now()
	if err := s.nightUsual(t.Context(), &g); err != nil || g.Usual != [2]int{} {
		t.Errorf("usual %v, %v", g.Usual, err)
	}
	if data, err := s.bansPicture(t.Context(), locale.Get("en"), time.Now()); err != nil || data != nil {
		t.Errorf("picture without bans: %d bytes, %v", len(data), err)
	}
}

// Limits on sums and borrowed curves of munin.conf are judged by the newest values of their parts.
func TestLimitsOnSums(t *testing.T) {
	conf := filepath.Join(t.TempDir(), "munin.conf")
	if err := os.WriteFile(conf, []byte(`
[asso;Totals]
update no
total.graph_title Total load
total.all.sum Gandi;web1:load.load TTN;mail1:load.load
total.all.warning 10
total.none.sum Gandi;nobody:load.load
total.none.warning 10
total.none.unknown_limit 1
`), 0o644); err != nil {
		t.Fatal(err)
	}
	_, s := idle(t, fmt.Sprintf("munin_conf = %q\n", conf))
	now := time.Now()
	add := func(group, node string, at time.Time, value float64) {
		t.Helper()
		if _, err := s.db.Append(t.Context(), []tocsin.Sample{{Series: tocsin.Series{Group: group, Node: node, Service: "load", Field: "load"}, T: at.UnixMilli(), Value: value}}); err != nil {
			t.Fatal(err)
		}
	}
	look := func(at time.Time) string {
		t.Helper()
		s.alerts.takeDrawn(at)
		s.alerts.tick(t.Context(), at)
		all, _ := s.alerts.open()
		var lines []string
		for _, in := range all {
			lines = append(lines, fmt.Sprintf("%s/%s %s.%s %s %g", in.Group, in.Node, in.Series.Service, in.Series.Field, in.Level, in.Value))
		}
		return strings.Join(lines, ", ")
	}
	add("Gandi", "web1", now.Add(-30*time.Second), 8)
	add("TTN", "mail1", now.Add(-20*time.Minute), 5) // too old to count
	if got := look(now); got != "" {
		t.Errorf("8 of 10: %s", got)
	}
	add("TTN", "mail1", now, 5)
	if got, want := look(now.Add(time.Second)), "asso/Totals total.all warning 13, asso/Totals total.none unknown NaN"; got != want {
		t.Errorf("13 of 10: %q, want %q", got, want)
	}
	if got := look(now.Add(11 * time.Minute)); !strings.Contains(got, "warning 13") {
		t.Errorf("nothing more is known, once: %q", got)
	}
	for i := range 4 {
		look(now.Add(time.Duration(12+i) * time.Minute))
	}
	if got := look(now.Add(17 * time.Minute)); !strings.Contains(got, "total.all unknown NaN") {
		t.Errorf("nothing more is known: %q", got)
	}
}
