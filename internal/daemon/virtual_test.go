package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tocsin"
	"tocsin/internal/api"
	"tocsin/internal/munin"
	"tocsin/internal/probe"
)

// What munin.conf says of services goes before what nodes say, and its sums, stacks and borrowed curves are services, with
// history: they are read from their parts.
func TestMuninConfIsLaidOver(t *testing.T) {
	dir := t.TempDir()
	conf := filepath.Join(dir, "munin.conf")
	text := `
[Gandi;web1]
update no
load.graph_title Our load
load.load.warning 3
[asso;Totals]
update no
total.graph_title Total load
total.all.label all of them
total.all.sum Gandi;web1:load.load TTN;mail1:load.load
total.again.sum total.all TTN;mail1:load.load
each.each.stack web=Gandi;web1:load.load mail=TTN;mail1:load.load
borrowed.graph_order b=Gandi;web1:load.load none=Gandi;web1:nothing.here
`
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	c, _, _ := supervising(t, fmt.Sprintf("listen = \"\"\n[watch]\nname = \"hub\"\nmunin_plugins = \"\"\nmunin_conf = %q\n", conf))
	within(t, "the watch process", func() bool { _, err := c.Servers(t.Context()); return err == nil })
	begin := time.Now().UTC().Truncate(time.Hour).Add(-10 * 24 * time.Hour)
	send := func(group, node string, hours int, value float64) {
		t.Helper()
		var b strings.Builder
		for i := range hours {
			fmt.Fprintf(&b, "%s,%g\n", begin.Add(time.Duration(i)*time.Hour).Format(time.RFC3339), value)
		}
		path := filepath.Join(dir, "load.csv")
		if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := SendCSV(t.Context(), c, path, tocsin.Series{Group: group, Node: node, Service: "load", Field: "load"}); err != nil {
			t.Fatal(err)
		}
	}
	send("Gandi", "web1", 20, 1)
	send("TTN", "mail1", 10, 2)

	all, err := c.Servers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range all.Servers {
		got = append(got, fmt.Sprintf("%s/%s %s %v", s.Group, s.Name, s.State, s.Services > 0))
	}
	if want := []string{"/hub ok true", "Gandi/web1 idle true", "TTN/mail1 idle true", "asso/Totals virtual true"}; !slices.Equal(got[1:], want[1:]) {
		t.Errorf("servers %q, want %q", got, want)
	}
	d, err := c.Server(t.Context(), "*", "web1")
	if err != nil || len(d.Details) != 1 || d.Details[0].Title != "Our load" || d.Details[0].Virtual {
		t.Errorf("web1: %+v, %v", d.Details, err)
	}
	d, err = c.Server(t.Context(), "asso", "Totals")
	if err != nil {
		t.Fatal(err)
	}
	got = nil
	for _, s := range d.Details {
		for _, f := range s.Fields {
			got = append(got, fmt.Sprintf("%s %v %s %q %s", s.Name, s.Virtual, f.Name, f.Label, f.Expr))
		}
	}
	web, mail := `munin{group="Gandi",node="web1",service="load",field="load"}`, `munin{group="TTN",node="mail1",service="load",field="load"}`
	want := []string{
		`borrowed true b "b" ` + web,
		`borrowed true none "none" munin{group="Gandi",node="web1",service="nothing",field="here"}`,
		`each true web "web" ` + web,
		`each true mail "mail" ` + mail,
		`total true all "all of them" sum(` + web + " or " + mail + ")",
		`total true again "" sum(` + web + " or " + mail + " or " + mail + ")",
	}
	if !slices.Equal(got, want) {
		t.Errorf("fields\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, tt := range []struct {
		service, field string
		n              int
		first, last    float64
	}{
		{"total", "all", 20, 3, 1},
		{"total", "again", 20, 5, 1},
		{"each", "mail", 10, 2, 2},
		{"borrowed", "b", 20, 1, 1},
		{"borrowed", "none", 0, 0, 0},
	} {
		g, err := c.Graph(t.Context(), api.GraphQuery{Group: "*", Server: "Totals", Service: tt.service, From: begin.Add(-time.Hour), To: begin.Add(40 * time.Hour), Step: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(g.Fields, func(f api.GraphField) bool { return f.Name == tt.field })
		if i < 0 || len(g.Fields[i].Points) != tt.n {
			t.Errorf("%s.%s: %+v, want %d points", tt.service, tt.field, g.Fields, tt.n)
			continue
		}
		if p := g.Fields[i].Points; tt.n > 0 && (p[0].Avg != tt.first || p[0].Max != tt.first || p[tt.n-1].Min != tt.last) {
			t.Errorf("%s.%s: from %+v to %+v, want %g to %g", tt.service, tt.field, p[0], p[tt.n-1], tt.first, tt.last)
		}
	}
	if _, err := c.ForgetServer(t.Context(), api.ServerRequest{Group: "asso", Name: "Totals"}); err == nil || !strings.Contains(err.Error(), "munin.conf alone") {
		t.Errorf("a server that munin.conf makes was forgotten: %v", err)
	}
}

// Another munin.conf is in force at once, and nothing of it is written over what nodes said.
func TestMuninConfIsReadAgain(t *testing.T) {
	c := &catalogue{servers: map[serverKey]*knownServer{}}
	key, at := serverKey{"G", "h"}, time.Now()
	load := &munin.Service{Name: "load", Attrs: []munin.Attr{{Name: "graph_title", Value: "Load"}}, Fields: []munin.Field{{Name: "load"}}}
	title := func() string { v, _ := c.shown(key)["load"].Get("graph_title"); return v }
	for _, tt := range []struct{ conf, want string }{
		{"[G;h]\nload.graph_title One\n", "One"},
		{"[G;h]\nload.graph_title Two\n[G;t]\nx.x.sum h:load.load\n", "Two"},
		{"", "Load"},
	} {
		c.use(munin.ParseMasterConf("conf", []byte(tt.conf)))
		for range 2 { // a node describes itself anew at each poll
			same := *load
			c.take(key, &probe.Reading{Service: &same, At: at, Values: []munin.Value{{Field: "load", V: 1}}})
			if got := title(); got != tt.want {
				t.Errorf("%q: the title is %q, want %q", tt.conf, got, tt.want)
			}
		}
		if got, _ := c.servers[key].services["load"].desc.Get("graph_title"); got != "Load" {
			t.Errorf("the node is thought to have said %q", got)
		}
	}
	// What is drawn of others has type and shape of what it is drawn of, unless it says itself.
	c.take(key, &probe.Reading{Service: &munin.Service{Name: "if", Fields: []munin.Field{{Name: "up", Attrs: []munin.Attr{{Name: "type", Value: "DERIVE"}, {Name: "draw", Value: "AREA"}}}}}, At: at})
	c.use(munin.ParseMasterConf("conf", []byte("[G;net]\nnet.graph_order up=h:if.up\nnet.up.draw LINE2\nloop.a.sum loop.a loop.b\nloop.b.sum loop.a h:if.up\n")))
	net := c.shown(serverKey{"G", "net"})
	f := net["net"].Field("up")
	kind, _ := f.Get("type")
	if draw, _ := f.Get("draw"); kind != "DERIVE" || draw != "LINE2" {
		t.Errorf("borrowed as %+v", f)
	}
	if n := len(net["loop"].sources["b"]); n == 0 || n > mostParts {
		t.Errorf("a sum of itself has %d parts", n)
	}
}
