package alert

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"tocsin"
	"tocsin/internal/config"
	"tocsin/internal/munin"
)

// world is an engine with servers that a test makes values for.
type world struct {
	t     *testing.T
	e     *Engine
	now   time.Time
	descs map[string]*munin.Service
	told  []string
	kept  []tocsin.Change
}

var t0 = time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC)

func newWorld(t *testing.T, own string) *world {
	t.Helper()
	w := &world{t: t, now: t0, descs: map[string]*munin.Service{}}
	w.e = w.engine(own, nil)
	return w
}

func (w *world) engine(own string, conf *munin.MasterConf) *Engine {
	w.t.Helper()
	c, err := config.Parse("tocsin.toml", []byte(own))
	if err != nil {
		w.t.Fatal(err)
	}
	rules, wrong := Compile(Shipped(), c.Rules)
	if len(wrong) > 0 {
		w.t.Fatal(wrong)
	}
	zone, err := time.LoadLocation("Europe/Paris")
	if err != nil {
		w.t.Fatal(err)
	}
	e, err := New(Options{Rules: rules, Conf: conf, Zone: zone, Own: Node{"Asso", "hub"}})
	if err != nil {
		w.t.Fatal(err)
	}
	return e
}

// service makes a description once: "warning=:3" behind a field is an attribute.
func (w *world) service(name string, fields ...string) *munin.Service {
	id := name + strings.Join(fields, " ")
	if s := w.descs[id]; s != nil {
		return s
	}
	s := &munin.Service{Name: name, Attrs: []munin.Attr{{Name: "graph_title", Value: name}}}
	for _, f := range fields {
		words := strings.Fields(f)
		field := munin.Field{Name: words[0], Attrs: []munin.Attr{{Name: "label", Value: words[0]}}}
		for _, a := range words[1:] {
			key, value, _ := strings.Cut(a, "=")
			field.Attrs = append(field.Attrs, munin.Attr{Name: key, Value: value})
		}
		s.Fields = append(s.Fields, field)
	}
	w.descs[id] = s
	return s
}

// give reads a service of a server with its values.
func (w *world) give(group, node string, s *munin.Service, values ...float64) {
	w.e.Read(group, node, s)
	for i, v := range values {
		w.e.Observe(&tocsin.Sample{Series: tocsin.Series{Group: group, Node: node, Service: s.Name, Field: s.Fields[i].Name}, T: w.now.UnixMilli(), Value: v})
	}
}

// tick lets d pass.
func (w *world) tick(d time.Duration) {
	w.now = w.now.Add(d)
	for _, c := range w.e.Tick(w.now) {
		w.kept = append(w.kept, c)
		if c.Tell {
			w.told = append(w.told, w.line(c))
		}
	}
}

func (w *world) line(c tocsin.Change) string {
	s := fmt.Sprintf("%s #%d %s %s %s %s", c.At.UTC().Format("01-02 15:04"), c.ID, c.Turn, c.Rule, c.Level, c.Urgency)
	where := c.Group
	if c.Node != "" {
		where += "/" + c.Node
	}
	if c.Series.Service != "" {
		where += " " + c.Series.Service + "." + c.Series.Field
	}
	s += " " + where
	if !math.IsNaN(c.Value) && c.Series.Service != "" {
		s += fmt.Sprintf(" %.4g", c.Value)
	}
	if c.Limit != "" && c.Turn != tocsin.Over {
		s += " [" + c.Limit + "]"
	}
	if len(c.Members) > 0 {
		s += " " + strings.Join(c.Members, ",")
	}
	return s
}

func (w *world) want(want string) {
	w.t.Helper()
	got := strings.Join(w.told, "\n")
	if want = strings.TrimSpace(want); got != want {
		w.t.Errorf("told:\n%s\nwant:\n%s", got, want)
	}
}

func TestShippedRulesFitTogether(t *testing.T) {
	if _, wrong := Compile(Shipped(), nil); len(wrong) > 0 {
		t.Fatal(wrong)
	}
}

func TestLimitsOfPlugins(t *testing.T) {
	w := newWorld(t, "")
	s := w.service("load2", "load warning=:4 critical=8", "other")
	for _, v := range []float64{1, 4, 4.001, 5, 9, 5, 3, math.NaN(), math.NaN(), math.NaN(), 2} {
		w.give("Gandi", "web1", s, v, v)
		w.tick(time.Minute)
	}
	w.want(`
10-01 00:03 #1 began limit warning soon Gandi/web1 load2.load 4.001 [:4]
10-01 00:05 #1 worsened limit critical urgent Gandi/web1 load2.load 9 [:8]
10-01 00:07 #1 over limit fine soon Gandi/web1 load2.load 3`)
	for range 60 {
		w.give("Gandi", "web1", s, 2, 1)
		w.tick(time.Minute)
	}
	for range 4 {
		w.give("Gandi", "web1", s, math.NaN(), 1)
		w.tick(time.Minute)
	}
	if got, want := w.told[len(w.told)-1], "10-01 01:15 #2 began limit unknown digest Gandi/web1 load2.load [:4]"; got != want {
		t.Errorf("after four unknown values: %s, want %s", got, want)
	}
}

func TestHysteresisAndFor(t *testing.T) {
	w := newWorld(t, "[[rule]]\nname = \"queue\"\nservice = \"q\"\nwarning = \":90\"\nclear_warning = \":80\"\nfor = \"3m\"\nclear_for = \"2m\"\n")
	s := w.service("q", "n")
	for _, v := range []float64{95, 95, 70, 95, 95, 95, 95, 85, 85, 85, 79, 85, 79, 79, 79, 79} {
		w.give("Gandi", "web1", s, v)
		w.tick(time.Minute)
	}
	w.want(`
10-01 00:07 #1 began queue warning soon Gandi/web1 q.n 95 [:90]
10-01 00:15 #1 over queue fine soon Gandi/web1 q.n 79`)
}

func TestOneSilentServerIsOneMessage(t *testing.T) {
	w := newWorld(t, "")
	s := w.service("x", "a warning=:1", "b warning=:1")
	for i := range 60 {
		for n := range 4 {
			w.e.Asked("TTN", fmt.Sprint("mail", n), time.Minute)
			if n == 2 && i >= 10 && i < 40 {
				w.e.Silent("TTN", "mail2", t0.Add(10*time.Minute))
				continue
			}
			w.give("TTN", fmt.Sprint("mail", n), s, 0, 0)
		}
		w.tick(time.Minute)
	}
	w.want(`
10-01 00:16 #1 began server-silent critical urgent TTN/mail2
10-01 00:41 #1 over server-silent fine urgent TTN/mail2`)
}

func TestProviderOutageIsOneMessage(t *testing.T) {
	w := newWorld(t, "")
	s := w.service("x", "a warning=:1")
	for i := range 90 {
		for n := range 4 {
			name := fmt.Sprint("mail", n)
			w.e.Asked("TTN", name, time.Minute)
			if i >= 10+n && i < 40+2*n {
				w.e.Silent("TTN", name, w.now)
				continue
			}
			w.give("TTN", name, s, 0)
		}
		w.tick(time.Minute)
	}
	w.want(`
10-01 00:16 #1 began outage critical urgent TTN [:1] mail0,mail1,mail2,mail3
10-01 00:48 #1 over outage fine urgent TTN mail0,mail1,mail2,mail3`)
}

func TestFlappingIsToldOnce(t *testing.T) {
	w := newWorld(t, "")
	s := w.service("x", "a warning=:1")
	for i := range 240 {
		v := 0.0
		if i < 100 && i%5 >= 3 {
			v = 2
		}
		w.give("Gandi", "web1", s, v)
		w.tick(time.Minute)
	}
	w.want(`
10-01 00:04 #1 began limit warning soon Gandi/web1 x.a 2 [:1]
10-01 00:06 #1 over limit fine soon Gandi/web1 x.a 0
10-01 00:09 #1 began limit warning soon Gandi/web1 x.a 2 [:1]
10-01 00:11 #1 unstable limit fine soon Gandi/web1 x.a 0 [:1]
10-01 02:41 #1 over limit fine soon Gandi/web1 x.a 0`)
}

// What is read through a server is without news while that one is, and is told of only where it alone is.
func TestServersBehindAServer(t *testing.T) {
	w := newWorld(t, "")
	s := w.service("x", "a")
	for i := range 120 {
		w.e.Asked("TTN", "gate", time.Minute)
		if i >= 10 && i < 50 {
			w.e.Silent("TTN", "gate", w.now)
		} else {
			w.give("TTN", "gate", s, 0)
			for _, name := range []string{"switch1", "switch2"} {
				if name == "switch2" && i >= 80 {
					continue
				}
				w.give("TTN", name, s, 0)
				w.e.Behind("TTN", name, "gate")
			}
		}
		w.tick(time.Minute)
	}
	w.want(`
10-01 00:16 #1 began server-silent critical urgent TTN/gate
10-01 00:51 #1 over server-silent fine urgent TTN/gate
10-01 01:30 #2 began server-silent critical urgent TTN/switch2`)
}

// Servers that stand in no group are one group: one message of an outage, not one for each.
func TestServersWithoutAGroupAreOne(t *testing.T) {
	w := newWorld(t, "")
	s := w.service("x", "a")
	for i := range 60 {
		for n := range 4 {
			name := fmt.Sprint("web", n)
			w.e.Asked("", name, time.Minute)
			if i >= 10 && i < 30 && n < 3 {
				w.e.Silent("", name, w.now)
				continue
			}
			w.give("", name, s, 0)
		}
		w.tick(time.Minute)
	}
	if len(w.told) != 2 || !strings.Contains(w.told[0], "began outage critical urgent  [:1] web0,web1,web2") || !strings.Contains(w.told[1], "over outage") {
		t.Errorf("told:\n%s", strings.Join(w.told, "\n"))
	}
}

// What munin.conf draws of others has limits too, for days on end. Its server, which nobody asks, is never without news, and is
// no server of its group.
func TestDrawnServices(t *testing.T) {
	w := newWorld(t, "")
	total, own := w.service("total", "load warning=:10"), w.service("x", "a")
	for i := range 30 * 60 {
		v := 5.0
		if i >= 60 && i < 29*60 {
			v = 20
		}
		w.e.Drawn("Asso", "Totals", total)
		w.e.Observe(&tocsin.Sample{Series: tocsin.Series{Group: "Asso", Node: "Totals", Service: "total", Field: "load"}, T: w.now.UnixMilli(), Value: v})
		for _, name := range []string{"web1", "web2", "web3"} {
			w.e.Asked("Asso", name, time.Minute)
			if name == "web1" && i >= 600 && i < 630 {
				w.e.Silent("Asso", name, w.now)
				continue
			}
			w.give("Asso", name, own, 0)
		}
		w.tick(time.Minute)
	}
	if n := w.e.nodes[Node{"Asso", "Totals"}]; n == nil || n.silent() {
		t.Errorf("the server of the sums: %+v", n)
	}
	for _, g := range w.e.groups {
		if g.rule.Name == "outage" && g.total != 3 {
			t.Errorf("the group has %d servers, want 3", g.total)
		}
	}
	w.want(`
10-01 01:01 #1 began limit warning soon Asso/Totals total.load 20 [:10]
10-01 10:06 #2 began server-silent critical urgent Asso/web1
10-01 10:31 #2 over server-silent fine urgent Asso/web1
10-02 05:01 #1 over limit fine soon Asso/Totals total.load 5`)
}
