package alert

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"tocsin"
	"tocsin/internal/config"
	"tocsin/internal/munin"
)

func TestMatch(t *testing.T) {
	for _, tt := range []struct {
		pattern, s string
		want       bool
	}{
		{"*", "", true}, {"*", "anything", true}, {"", "", true}, {"", "x", false}, {"web?", "web1", true}, {"web?", "web", false},
		{"web*", "web", true}, {"*_avgwait", "vda_avgwait", true}, {"*_avgwait", "vda_avgwaits", false}, {"a*b*c", "aXbYbZc", true},
		{"a*b*c", "aXcYb", false}, {"df", "df_abs", false}, {"**", "x", true}, {"?*", "", false},
	} {
		if got := match(tt.pattern, tt.s); got != tt.want {
			t.Errorf("match(%q, %q) = %t, want %t", tt.pattern, tt.s, got, tt.want)
		}
	}
}

func compile(t *testing.T, text string) (*Rules, config.Errors) {
	t.Helper()
	c, err := config.Parse("t.toml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return Compile(Shipped(), c.Rules)
}

func TestMistakesInRulesAreToldWithTheirPlace(t *testing.T) {
	_, wrong := compile(t, `[[rule]]
name = "a"
warning = "1e"
[[rule]]
name = "b"
warning = ":90"
clear_warning = ":95"
[[rule]]
name = "c"
[[rule]]
name = "d"
kind = "count"
warning = ":3"
[[rule]]
name = "e"
kind = "together"
of = ["nothing"]
[[rule]]
name = "f"
kind = "together"
of = ["outage"]
[[rule]]
name = "g"
warning = ":1"
holds = "*"
[[rule]]
name = "h"
kind = "forecast"
warning = "24:"
percent_of = ["a", "b"]
[[rule]]
name = "disk-space"
warning = ":95"
clear_warning = ":85"
server = "web1"
`)
	want := `
t.toml:3:11: rule "a": warning "1e" is no range
t.toml:7:17: rule "b": clear_warning lies outside of what is fine anyway
t.toml:8:1: rule "c": has neither warning nor critical
t.toml:10:1: rule "d": counts nothing without beyond
t.toml:22:1: rule "g": only a rule of kind together has of and holds
t.toml:30:14: rule "h": compares with history, which is not in percent of anything
t.toml:17:6: rule "e" is made of "nothing", which is no rule
t.toml:21:6: rule "f" is made of "outage", which is made of others itself`
	var got []string
	for _, e := range wrong {
		line, _, _ := strings.Cut(e.Error(), "\n")
		got = append(got, line)
	}
	if strings.Join(got, "\n") != strings.TrimSpace(want) {
		t.Errorf("got:\n%s\nwant:%s", strings.Join(got, "\n"), want)
	}
}

// A rule of the same name changes what it names, where it selects; the last one counts.
func TestOwnRulesChangeShippedOnes(t *testing.T) {
	rules, wrong := compile(t, `[[rule]]
name = "disk-space"
server = ["backup*"]
warning = ":97"
clear_warning = ":95"
[[rule]]
name = "disk-space"
group = "Test"
enabled = false
[[rule]]
name = "disk-space"
server = "backup2"
field = "_tmp"
for = "1h"
`)
	if len(wrong) > 0 {
		t.Fatal(wrong)
	}
	for _, tt := range []struct{ group, node, field, want string }{
		{"Gandi", "web1", "_var", `:90 :80 :98 1m true`},
		{"Gandi", "backup1", "_var", `:97 :95 :98 1m true`},
		{"Gandi", "backup2", "_var", `:97 :95 :98 1m true`},
		{"Gandi", "backup2", "_tmp", `:90 :80 :98 1h true`},
		{"Test", "backup1", "_var", `:90 :80 :98 1m false`},
	} {
		u, ok := rules.Of("disk-space", tt.group, tt.node, "df", tt.field)
		got := fmt.Sprintf("%s %s %s %s %t", u.Warning, u.ClearWarning, u.Critical, config.FormatDuration(u.For), u.Enabled)
		if !ok || got != tt.want {
			t.Errorf("%s/%s %s: %s, want %s", tt.group, tt.node, tt.field, got, tt.want)
		}
	}
	if _, ok := rules.Of("nothing", "", "", "", ""); ok {
		t.Error("there is a rule called nothing")
	}
	own := 0
	for _, d := range rules.All() {
		if d.Own {
			own++
			if len(d.Settings()) < 4 {
				t.Errorf("settings of %s: %v", d.Name, d.Settings())
			}
		}
	}
	if own != 3 {
		t.Errorf("%d rules are the operator's, want 3", own)
	}
}

// The limits of munin.conf go before shipped rules, those before the limits of plugins, and the operator's before all.
func TestWhoseLimitCounts(t *testing.T) {
	conf := munin.ParseMasterConf("munin.conf", []byte("[Gandi;web1]\n address 192.0.2.1\n df._var.warning :70\n notify_alias the web\n contacts ops\n[Gandi;web2]\n address 192.0.2.2\ncontact.ops.command cat\n"))
	w := newWorld(t, "[[rule]]\nname = \"disk-space\"\nserver = \"web3\"\nwarning = \":95\"\nfor = \"0s\"\n[[rule]]\nname = \"limit\"\nservice = \"calm\"\nfor = \"5m\"\n")
	w.e = w.engine("[[rule]]\nname = \"disk-space\"\nserver = \"web3\"\nwarning = \":95\"\nfor = \"0s\"\n[[rule]]\nname = \"limit\"\nservice = \"calm\"\nfor = \"5m\"\n", conf)
	df, calm := w.service("df", "_var warning=92", "_srv warning=92"), w.service("calm", "x warning=1")
	for range 4 {
		for _, name := range []string{"web1", "web2", "web3"} {
			s, _ := conf.Of("Gandi", name, df)
			w.give("Gandi", name, s, 75, 93)
			w.give("Gandi", name, calm, 2)
		}
		w.tick(time.Minute)
	}
	w.want(`
10-01 00:01 #1 began limit warning soon Gandi/web1 df._var 75 [:70]
10-01 00:03 #2 began disk-space warning soon Gandi/web1 df._srv 93 [:90]
10-01 00:03 #3 began disk-space warning soon Gandi/web2 df._srv 93 [:90]`)
	if c := w.kept[0]; c.Alias != "the web" || len(c.Contacts) > 1 {
		t.Errorf("alias %q, contacts %v", c.Alias, c.Contacts)
	}
}

func TestForecast(t *testing.T) {
	w := newWorld(t, "")
	s := w.service("df", "_srv")
	v := 50.0
	for i := range 12 * 60 {
		if i > 200 {
			v += 2.0 / 60 // 2 % an hour
		}
		if i == 30 {
			v += 10 // somebody copied something: a step is no trend
		}
		w.give("Gandi", "web1", s, v)
		w.tick(time.Minute)
	}
	w.want(`
10-01 04:51 #1 began disk-full warning soon Gandi/web1 df._srv 63 [:100]`)
	if full := w.kept[0].Full; full.Sub(w.kept[0].At) < 17*time.Hour || full.Sub(w.kept[0].At) > 20*time.Hour {
		t.Errorf("full at %s, told at %s", full, w.kept[0].At)
	}
}

// History that is recalled makes the line at once.
func TestForecastGoesOnAfterARestart(t *testing.T) {
	w := newWorld(t, "")
	s := w.service("df", "_srv")
	w.tick(0)
	w.give("Gandi", "web1", s, 80)
	wants := w.e.Wants(10)
	if len(wants) != 1 || wants[0].Service != "df" || len(wants[0].Spans) != 1 {
		t.Fatalf("wants: %+v", wants)
	}
	var points []Point
	for i := range 72 {
		points = append(points, Point{w.now.Add(time.Duration(i-72) * lineStep).UnixMilli(), 80 - float64(72-i)/12*4})
	}
	w.e.Recall(wants[0], points)
	for range 40 {
		w.tick(time.Minute)
		w.give("Gandi", "web1", s, 80)
	}
	w.want(`
10-01 00:32 #1 began disk-full critical urgent Gandi/web1 df._srv 80 [:100]`)
}

func TestSeason(t *testing.T) {
	w := newWorld(t, "[[rule]]\nname = \"unusual-traffic\"\nurgency = \"soon\"\n")
	s := w.service("if_eth0", "up")
	for i := range 26 * 60 {
		v := 1000.0
		if i > 24*60 {
			v = 9000
		}
		w.give("Gandi", "web1", s, v)
		w.tick(time.Minute)
		for _, want := range w.e.Wants(10) {
			var points []Point
			for _, span := range want.Spans {
				for at := span[0]; at.Before(span[1]); at = at.Add(want.Step) {
					points = append(points, Point{at.UnixMilli(), 1000})
				}
			}
			w.e.Recall(want, points)
		}
	}
	w.want(`
10-02 01:03 #1 began unusual-traffic warning soon Gandi/web1 if_eth0.up 9000 [200:1800]`)
}

func TestCount(t *testing.T) {
	w := newWorld(t, "")
	s, oom := w.service("systemd_units", "failed", "restarting"), w.service("oom", "oom_kill")
	for i := range 90 {
		restarting := 0.0
		if i < 30 && i%4 == 3 {
			restarting = 1
		}
		killed := 0.0
		if i == 50 {
			killed = 0.1
		}
		w.give("Gandi", "web1", s, 0, restarting)
		w.give("Gandi", "web1", oom, killed)
		w.tick(time.Minute)
	}
	w.want(`
10-01 00:20 #1 began units-restarting warning soon Gandi/web1 systemd_units.restarting 5 [:4]
10-01 00:43 #1 over units-restarting fine soon Gandi/web1 systemd_units.restarting 4
10-01 00:51 #2 began oom warning soon Gandi/web1 oom.oom_kill 1 [:0]`)
}

func TestShareOfTheProcessors(t *testing.T) {
	w := newWorld(t, "")
	s := w.service("cpu", "user", "idle", "steal")
	for range 40 {
		w.give("Gandi", "web1", s, 100, 220, 80) // four processors
		w.tick(time.Minute)
	}
	w.want(`
10-01 00:20 #1 began steal warning soon Gandi/web1 cpu.steal 20 [:10]`)
}

func TestAckAndSilence(t *testing.T) {
	w := newWorld(t, "")
	s := w.service("x", "a warning=:1 critical=:5", "b warning=:1")
	step := func(a, b float64) {
		for range 10 {
			w.give("Gandi", "web1", s, a, b)
			w.tick(time.Minute)
		}
	}
	step(2, 0)
	if _, err := w.e.Ack(7, tocsin.Ack{}); err == nil {
		t.Error("#7 could be taken")
	}
	c, err := w.e.Ack(1, tocsin.Ack{By: "marie", Note: "on it", At: w.now, Until: w.now.Add(75 * time.Minute)})
	if err != nil || c.Turn != tocsin.Acked || c.Tell || c.Ack.By != "marie" {
		t.Errorf("ack: %+v, %v", c, err)
	}
	for range 4 {
		step(2, 0)
	}
	step(0, 0) // it is over, and comes back while marie looks after it
	for range 3 {
		step(2, 0)
	}
	w.e.SetSilences([]Silence{{Group: "Gandi", Node: "web*", Until: w.now.Add(35 * time.Minute)}})
	step(9, 2)
	if h := w.e.Held(); len(h) != 1 || h[0].By != "silence" || h[0].Series.Field != "b" {
		t.Errorf("held: %+v", h)
	}
	step(9, 2)
	if o := w.e.Open(); len(o) != 1 || o[0].ID != 1 {
		t.Errorf("open: %+v", o)
	}
	for range 4 {
		step(9, 2)
	}
	w.want(`
10-01 00:01 #1 began limit warning soon Gandi/web1 x.a 2 [:1]
10-01 00:51 #1 over limit fine soon Gandi/web1 x.a 0
10-01 01:25 #1 again limit warning soon Gandi/web1 x.a 2 [:1]
10-01 02:05 #1 worsened limit critical urgent Gandi/web1 x.a 9 [:5]
10-01 02:05 #2 began limit warning soon Gandi/web1 x.b 2 [:1]`)
}

// What is not there any more is over.
func TestWhatGoesAwayIsOver(t *testing.T) {
	w := newWorld(t, "")
	s := w.service("df2", "_a warning=:1", "_b warning=:1")
	w.give("Gandi", "web1", s, 2, 2)
	w.give("Gandi", "web2", s, 2, 2)
	w.tick(time.Minute)
	w.give("Gandi", "web1", w.service("df2", "_a warning=:1"), 2)
	w.tick(time.Minute)
	w.e.Forget("Gandi", "web2")
	w.e.Forget("Gandi", "nobody")
	w.tick(time.Minute)
	w.want(`
10-01 00:01 #1 began limit warning soon Gandi/web1 df2._a 2 [:1]
10-01 00:01 #2 began limit warning soon Gandi/web1 df2._b 2 [:1]
10-01 00:01 #3 began limit warning soon Gandi/web2 df2._a 2 [:1]
10-01 00:01 #4 began limit warning soon Gandi/web2 df2._b 2 [:1]
10-01 00:02 #2 over limit fine soon Gandi/web1 df2._b 2
10-01 00:03 #3 over limit fine soon Gandi/web2 df2._a 2
10-01 00:03 #4 over limit fine soon Gandi/web2 df2._b 2`)
	if st := w.e.Stats(); st.Services != 1 || st.Nodes != 1 || st.Checks != 1 || st.Told != 7 {
		t.Errorf("stats: %+v", st)
	}
}

// A service that is not read any more has values that nobody knows, after ten minutes; its server still answers.
func TestServiceThatVanishes(t *testing.T) {
	w := newWorld(t, "")
	a, b := w.service("a", "x warning=:1"), w.service("b", "x")
	for i := range 30 {
		if i < 5 {
			w.give("Gandi", "web1", a, 0)
		}
		w.give("Gandi", "web1", b, 0)
		w.tick(time.Minute)
	}
	w.want(`
10-01 00:15 #1 began limit unknown digest Gandi/web1 a.x [:1]`)
}

func TestSnapshotOfANewEngineIsTheSame(t *testing.T) {
	w := newWorld(t, "")
	s := w.service("x", "a warning=:1 critical=:5")
	for i := range 20 {
		w.e.Asked("TTN", "mail1", time.Minute)
		w.e.Silent("TTN", "mail1", t0)
		w.give("Gandi", "web1", s, float64(i%7))
		w.tick(time.Minute)
	}
	before, err := w.e.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	next := w.engine("", nil)
	if err := next.Restore(before); err != nil {
		t.Fatal(err)
	}
	after, err := next.Snapshot()
	if err != nil || sorted(t, string(before)) != sorted(t, string(after)) {
		t.Errorf("%v\nbefore %s\nafter  %s", err, before, after)
	}
	for _, bad := range []string{"", "{}", "[]", `{"version":2}`, `{"version":1,"passed":-5}`} {
		if err := next.Restore([]byte(bad)); err == nil {
			t.Errorf("the state %q was taken", bad)
		}
	}
}

// sorted is a snapshot without what has no order.
func sorted(t *testing.T, text string) string {
	var s snapshot
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d %d %+v %d %d %d", s.Passed, s.Next, s.Checks, len(s.Incidents), len(s.Nodes), len(s.Groups))
}

func TestObserveDoesNotAllocate(t *testing.T) {
	w := newWorld(t, "")
	s := w.service("cpu", "user warning=:1000", "idle", "iowait", "steal")
	w.give("Gandi", "web1", s, 10, 300, 1, 1)
	w.tick(time.Minute)
	sample := tocsin.Sample{Series: tocsin.Series{Group: "Gandi", Node: "web1", Service: "cpu", Field: "user"}, Value: 12}
	if n := testing.AllocsPerRun(100, func() {
		sample.T = w.now.UnixMilli()
		w.e.Read("Gandi", "web1", s)
		w.e.Observe(&sample)
	}); n != 0 {
		t.Errorf("%v allocations for a sample", n)
	}
}

// FuzzLimits judges any text that a plugin may give as a limit.
func FuzzLimits(f *testing.F) {
	for _, s := range []string{":90", "1:", "1:2", "5", "-5", "1e6", ":", "", "nan", ":::", " 3 : 4 ", "٣"} {
		f.Add(s, s, 3.0)
	}
	f.Fuzz(func(t *testing.T, warning, critical string, v float64) {
		w := newWorld(t, "")
		s := &munin.Service{Name: "x", Fields: []munin.Field{{Name: "a", Attrs: []munin.Attr{{Name: "warning", Value: warning}, {Name: "critical", Value: critical}, {Name: "label", Value: warning}}}}}
		for range 3 {
			w.give("Gandi", "web1", s, v)
			w.tick(time.Minute)
		}
		want := tocsin.Fine
		for _, l := range []struct {
			text  string
			level tocsin.Level
		}{{warning, tocsin.Warning}, {critical, tocsin.Critical}} {
			if r, ok := munin.ParseRange(l.text); ok && !math.IsNaN(v) && !r.Holds(v) {
				want = l.level
			}
		}
		got := tocsin.Fine
		for _, in := range w.e.Open() {
			got = in.Level
		}
		if got != want && !math.IsNaN(v) {
			t.Errorf("warning %q critical %q value %v: %s, want %s", warning, critical, v, got, want)
		}
		if _, err := w.e.Snapshot(); err != nil {
			t.Errorf("snapshot: %v", err)
		}
	})
}

// FuzzMatch compares with a slow way to say the same.
func FuzzMatch(f *testing.F) {
	f.Add("a*b?c", "axxbyc")
	f.Add("**?", "x")
	f.Fuzz(func(t *testing.T, pattern, s string) {
		if len(pattern) > 12 || len(s) > 20 {
			return
		}
		if got, want := match(pattern, s), slowMatch(pattern, s); got != want {
			t.Errorf("match(%q, %q) = %t, want %t", pattern, s, got, want)
		}
	})
}

func slowMatch(p, s string) bool {
	switch {
	case p == "":
		return s == ""
	case p[0] == '*':
		return slowMatch(p[1:], s) || s != "" && slowMatch(p, s[1:])
	}
	return s != "" && (p[0] == '?' || p[0] == s[0]) && slowMatch(p[1:], s[1:])
}

// FuzzRestore takes any text for a state.
func FuzzRestore(f *testing.F) {
	w := &world{t: &testing.T{}, now: t0, descs: map[string]*munin.Service{}}
	f.Add([]byte(`{"version":1,"passed":1,"incidents":[{"Key":"a","Rule":"limit","ID":3,"judged":2}],"checks":[{"key":"a"}],"nodes":[{"node":"x"}],"groups":[{"key":"outage|Gandi"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		w := &world{t: t, now: t0, descs: w.descs}
		w.e = w.engine("", nil)
		if err := w.e.Restore(text); err != nil {
			return
		}
		s := &munin.Service{Name: "x", Fields: []munin.Field{{Name: "a", Attrs: []munin.Attr{{Name: "warning", Value: "1"}}}}}
		for range 3 {
			w.give("Gandi", "web1", s, 2)
			w.tick(time.Minute)
		}
		if _, err := w.e.Snapshot(); err != nil {
			t.Errorf("snapshot: %v", err)
		}
	})
}
