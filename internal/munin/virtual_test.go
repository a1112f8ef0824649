package munin

import (
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// configOf is a service as a plugin would answer, with the sources of its fields behind.
func configOf(s *Service, sources map[string][]string) string {
	text := string(AppendConfig(nil, s))
	for _, field := range slices.Sorted(maps.Keys(sources)) {
		text += field + " = " + strings.Join(sources[field], " + ") + "\n"
	}
	return text
}

func of(m *MasterConf, group, host string, s *Service) string {
	whole, from := m.Of(group, host, s)
	names := map[string][]string{}
	for field, all := range from {
		for _, s := range all {
			names[field] = append(names[field], fmt.Sprintf("%s/%s:%s.%s", s.Group, s.Node, s.Service, s.Field))
		}
	}
	return configOf(whole, names)
}

func TestOf(t *testing.T) {
	conf := ParseMasterConf("conf", []byte(`
graph_width 500
[G;]
graph_period minute
[G;web1]
address a
load.graph_title Our load
load.load.warning 3
load.load.label how much
load.laod.warning 5
load.extra.sum cpu.user cpu.system
disk.vda.graph_title The first disk
disk.graph_args --base 1000
cpu.graph_order system user -all=load.load more=mail1:load.load
cpu.more.label mail
[G;mail1]
address b
[T;Totals]
update no
each.graph_title Each
each.graph_order what both
each.what.stack web1=G;web1:load.load mail1=G;mail1:load.load third=Other;nobody:load.load
each.what.draw AREA
each.what.cdef what,8,*
each.web1.colour 00ff00
each.both.sum G;web1:load.load G;mail1:load.load
each.none.label nothing
`))
	load := "graph_title Load\nload.label load\nload.warning 9\n"
	tests := []struct {
		name, host, service, text, want string
	}{
		{"overrides", "G/web1", "load", load, `graph_title Our load
graph_period minute
graph_width 500
load.label load
load.warning 9
load.warning 3
load.label how much
extra.sum cpu.user cpu.system
extra = G/web1:cpu.user + G/web1:cpu.system
`},
		{"of all and of the group", "G/mail1", "load", load, "graph_title Load\ngraph_period minute\ngraph_width 500\nload.label load\nload.warning 9\n"},
		{"another group", "X/web1", "load", load, "graph_title Load\ngraph_width 500\nload.label load\nload.warning 9\n"},
		{"a child is no field", "G/web1", "disk", "wr.label w\n", "graph_args --base 1000\ngraph_period minute\ngraph_width 500\nwr.label w\n"},
		{"a child", "G/web1", "disk.vda", "graph_title vda\nwr.label w\n", "graph_title The first disk\ngraph_args --base 1000\ngraph_period minute\ngraph_width 500\nwr.label w\n"},
		{"borrowed", "G/web1", "cpu", "graph_period second\nuser.label u\n", `graph_period second
graph_order system user -all more
graph_width 500
user.label u
more.label mail
all.label all
all = G/web1:load.load
more = G/mail1:load.load
`},
		{"all of others", "T/Totals", "each", "", `graph_title Each
graph_order web1 mail1 third both
graph_width 500
web1.colour 00ff00
web1.label web1
web1.draw AREA
web1.cdef web1,8,*
both.sum G;web1:load.load G;mail1:load.load
mail1.label mail1
mail1.draw STACK
mail1.cdef mail1,8,*
third.label third
third.draw STACK
third.cdef third,8,*
both = G/web1:load.load + G/mail1:load.load
mail1 = G/mail1:load.load
third = Other/nobody:load.load
web1 = G/web1:load.load
`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			group, host, _ := strings.Cut(tt.host, "/")
			s := &Service{Name: tt.service}
			if a := ParseConfig(tt.service, []byte(tt.text)); len(a.Services) > 0 {
				s = &a.Services[0]
				s.Name = tt.service // a child's
			}
			before := configOf(s, nil)
			if got := of(conf, group, host, s); got != tt.want {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want)
			}
			if after := configOf(s, nil); after != before {
				t.Errorf("what the node said was changed to\n%s", after)
			}
		})
	}
}

// A plugin may borrow curves of its own node, with and without a munin.conf.
func TestOfBorrowsByItself(t *testing.T) {
	s := &ParseConfig("memory", []byte("graph_order a=cpu.user b\nb.label b\n")).Services[0]
	want := "graph_order a b\nb.label b\na.label a\na = G/h:cpu.user\n"
	var none *MasterConf
	for _, m := range []*MasterConf{none, ParseMasterConf("conf", nil)} {
		if got := of(m, "G", "h", s); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	}
	plain := &Service{Name: "load", Fields: s.Fields}
	if whole, sources := none.Of("G", "h", plain); whole != plain || sources != nil {
		t.Errorf("%+v of %v, of a service that nobody says anything of", whole, sources)
	}
}

func TestOfIsBounded(t *testing.T) {
	var order strings.Builder
	for i := range 2 * maxVirtualCurves {
		fmt.Fprintf(&order, " f%d=load.load", i)
	}
	s := &Service{Name: "x", Attrs: []Attr{{"graph_order", order.String()}}, Fields: []Field{
		{Name: "sum", Attrs: []Attr{{"sum", strings.Repeat("load.load ", 2*maxVirtualSources)}}},
	}}
	var m *MasterConf
	whole, sources := m.Of("", "h", s)
	if len(sources) != maxVirtualCurves || len(whole.Fields) != maxVirtualCurves+1 {
		t.Errorf("%d fields, %d of them with sources", len(whole.Fields), len(sources))
	}
}

// Ten thousand services of one host are looked up, not searched for.
func TestManyVirtuals(t *testing.T) {
	var conf strings.Builder
	conf.WriteString("[G;h]\n")
	const n = 10_000
	for i := range n {
		fmt.Fprintf(&conf, "s%d.a.sum load.load\ns%d.a.label x\ns%d.graph_title y\n", i, i, i)
	}
	m := ParseMasterConf("conf", []byte(conf.String()))
	all := m.Virtuals()
	if len(all) != n || len(all[n-1].Service.Attrs) != 1 || len(all[n-1].Service.Fields[0].Attrs) != 2 {
		t.Errorf("%d virtual services, the last of them %+v", len(all), all[len(all)-1])
	}
}

func TestParseRange(t *testing.T) {
	inf := math.Inf(1)
	tests := []struct {
		text string
		want Range
		ok   bool
	}{
		{"92", Range{-inf, 92}, true},
		{"-5", Range{-inf, -5}, true},
		{"1:9.5", Range{1, 9.5}, true},
		{" 1 : 9 ", Range{1, 9}, true},
		{"3:", Range{3, inf}, true},
		{":3", Range{-inf, 3}, true},
		{":", Range{-inf, inf}, true},
		{"1e6", Range{-inf, 1e6}, true},
		{"", Range{-inf, inf}, false},
		{"U", Range{-inf, inf}, false},
		{"high", Range{-inf, inf}, false},
		{"1:2:3", Range{-inf, inf}, false},
		{"1:x", Range{-inf, inf}, false},
	}
	for _, tt := range tests {
		if got, ok := ParseRange(tt.text); got != tt.want || ok != tt.ok {
			t.Errorf("ParseRange(%q) = %v, %v, want %v, %v", tt.text, got, ok, tt.want, tt.ok)
		}
	}
	r := Range{1, 2}
	for v, want := range map[float64]bool{0.999: false, 1: true, 2: true, 2.001: false} {
		if r.Holds(v) != want {
			t.Errorf("1:2 holds %v: %v", v, !want)
		}
	}
	if !r.Holds(math.NaN()) || !r.Bounded() || (Range{-inf, inf}).Bounded() {
		t.Error("what is unknown is no trouble of a range, and nothing is outside of everything")
	}
}

func TestLimits(t *testing.T) {
	m := ParseMasterConf("conf", []byte(`
unknown_limit 5
contact.a.command x
contact.b.command y
contact.mute.text z
[G;]
warning 50
[G;h]
address a
load.load.critical 4:
load.contacts b mute
cpu.unknown_limit 0
cpu.contacts none
df.critical :95
df.full.warning high
`))
	services := map[string]string{
		"load":    "load.label l\nload.warning 3\nload.critical 9\n",
		"cpu":     "user.label u\n",
		"df":      "graph_title df\nwarning 90\nfull.label f\nroot.label r\n",
		"df.part": "a.label a\n",
	}
	tests := []struct{ group, service, field, want string }{
		{"G", "load", "load", "-Inf:3 4:+Inf 5 b"},
		{"X", "load", "load", "-Inf:3 -Inf:9 5 a b"},
		{"G", "cpu", "user", "-Inf:50 -Inf:+Inf 0"},
		{"G", "df", "root", "-Inf:90 -Inf:95 5 a b"},
		{"G", "df", "full", `-Inf:+Inf -Inf:95 5 a b [warning: "high" is no range]`},
		{"G", "df.part", "a", "-Inf:50 -Inf:95 5 a b"},
	}
	for _, tt := range tests {
		said := &ParseConfig(tt.service, []byte(services[tt.service])).Services[0]
		said.Name = tt.service
		s, _ := m.Of(tt.group, "h", said)
		l := m.Limits(tt.group, "h", s, s.Field(tt.field))
		got := fmt.Sprintf("%v:%v %v:%v %d", l.Warning.Least, l.Warning.Most, l.Critical.Least, l.Critical.Most, l.Unknown)
		for _, c := range m.ContactsOf(tt.group, "h", s) {
			got += " " + c.Name
		}
		if l.Wrong != nil {
			got += fmt.Sprint(" ", l.Wrong)
		}
		if got != tt.want {
			t.Errorf("%s of %s: %s, want %s", tt.service, tt.group, got, tt.want)
		}
	}
	var none *MasterConf
	s := &Service{Fields: []Field{{Name: "f", Attrs: []Attr{{"critical", "1:"}, {"unknown_limit", "many"}}}}}
	l := none.Limits("", "h", s, &s.Fields[0])
	if l.Warning.Bounded() || l.Critical.Least != 1 || l.Unknown != usualUnknown || len(l.Wrong) != 1 || none.ContactsOf("", "h", s) != nil {
		t.Errorf("without a munin.conf: %+v", l)
	}
}

// TestRecordedOverrides asks what the recorded master's configuration makes of services.
func TestRecordedOverrides(t *testing.T) {
	data := os.Getenv("TOCSIN_TESTDATA")
	if data == "" {
		t.Skip("TOCSIN_TESTDATA is not set: recorded data is not part of the repository")
	}
	m, err := ReadMasterConf(filepath.Join(data, "munin", "captures", "masterconf.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ host, service, field, want string }{
		{"Gandi/web1.asso.example", "df", "_dev_vda", "-Inf:10 -Inf:98 log mail"},
		{"Gandi/web1.asso.example", "cpu", "_dev_vda", "-Inf:92 -Inf:+Inf"},
		{"Gandi/router.asso.example", "df", "_dev_vda", "-Inf:92 -Inf:+Inf log mail"},
	} {
		group, host, _ := strings.Cut(tt.host, "/")
		s, _ := m.Of(group, host, &ParseConfig(tt.service, []byte("_dev_vda.label /\n_dev_vda.warning 92\n")).Services[0])
		l := m.Limits(group, host, s, s.Field(tt.field))
		got := fmt.Sprintf("%v:%v %v:%v", l.Warning.Least, l.Warning.Most, l.Critical.Least, l.Critical.Most)
		for _, c := range m.ContactsOf(group, host, s) {
			got += " " + c.Name
		}
		if got != tt.want {
			t.Errorf("%s of %s: %s, want %s", tt.service, tt.host, got, tt.want)
		}
	}
	var got []string
	for _, v := range m.Virtuals() {
		_, sources := m.Of(v.Group, v.Host, &Service{Name: v.Service.Name})
		for _, field := range slices.Sorted(maps.Keys(sources)) {
			got = append(got, fmt.Sprintf("%s.%s %d", v.Service.Name, field, len(sources[field])))
		}
	}
	want := []string{"load_total.sumload 2", "load_stack.mail1 1", "load_stack.web1 1", "net_borrow.mail1 1", "net_borrow.web1 1"}
	if !slices.Equal(got, want) {
		t.Errorf("virtual fields %q, want %q", got, want)
	}
}
