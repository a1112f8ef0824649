package munin

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// told is what a configuration says, in short lines.
func told(m *MasterConf) string {
	var b strings.Builder
	for _, h := range m.Hosts {
		fmt.Fprintf(&b, "host %s/%s %s:%d", h.Group, h.Name, h.Address, h.Port)
		for word, on := range map[string]bool{" noupdate": !h.Update} {
			if on {
				b.WriteString(word)
			}
		}
		if h.UseNodeName {
			b.WriteString(" nodename")
		}
		if h.UseDefaultNode {
			b.WriteString(" default")
		}
		fmt.Fprintf(&b, " (%d)\n", h.Line)
	}
	for _, c := range m.Contacts {
		fmt.Fprintf(&b, "contact %s %q %q %d\n", c.Name, c.Command, c.AlwaysSend, c.MaxMessages)
	}
	for _, s := range m.Settings {
		fmt.Fprintf(&b, "%d %s|%s|%s|%s=%s\n", s.Line, s.Group, s.Host, s.Path, s.Name, s.Value)
	}
	for _, p := range m.Problems {
		fmt.Fprintln(&b, p)
	}
	return b.String()
}

func TestParseMasterConf(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"what Debian installs", `
includedir /etc/munin/munin-conf.d
timeout_fetch_all_nodes 240
# a simple host tree
[localhost.localdomain]
    address 127.0.0.1
    use_node_name yes
`, `host localdomain/localhost.localdomain 127.0.0.1:4949 nodename (6)
2 |||includedir=/etc/munin/munin-conf.d
3 |||timeout_fetch_all_nodes=240
6 localdomain|localhost.localdomain||address=127.0.0.1
7 localdomain|localhost.localdomain||use_node_name=yes
`},
		{"sections", `
[web1]
address a
[G;web2.example]
 address b
 port 4950
 load.load.warning 10
[A;B;web3]
	address	[2001:db8::1]
[G;]
contacts none
web4:address ssh://munin@web4/usr/bin/nc localhost 4949
[G;web2.example:df]
_dev_vda.critical 98
graph_title Disks # not the title
[G;web2.example:df._dev_vda]
warning 92
[web5.example.org:load]
update no
[A;B;web3:disk]
:vda.graph_title of vda
`, `host web1/web1 a:4949 (3)
host G/web2.example b:4950 (5)
host A;B/web3 [2001:db8::1]:4949 (9)
host G/web4 ssh://munin@web4/usr/bin/nc localhost 4949:4949 (12)
host example.org/web5.example.org :4949 (19)
3 web1|web1||address=a
5 G|web2.example||address=b
6 G|web2.example||port=4950
7 G|web2.example|load.load|warning=10
9 A;B|web3||address=[2001:db8::1]
11 G|||contacts=none
12 G|web4||address=ssh://munin@web4/usr/bin/nc localhost 4949
14 G|web2.example|df._dev_vda|critical=98
15 G|web2.example|df|graph_title=Disks
17 G|web2.example|df._dev_vda|warning=92
19 example.org|web5.example.org|load|update=no
21 A;B|web3|disk.vda|graph_title=of vda
conf:19: host "web5.example.org" has no address: nothing can be fetched (write address, or update no)
`},
		{"whole paths", `
G;web1:address a
A;B;web2:address b
A;B;web2:load.load.label x
A;node_order web2
.C;web3:address c
[G;web9]
.C;web3:load.graph_title y
`, `host G/web1 a:4949 (2)
host A;B/web2 b:4949 (3)
host C/web3 c:4949 (6)
2 G|web1||address=a
3 A;B|web2||address=b
4 A;B|web2|load.load|label=x
5 A|||node_order=web2
6 C|web3||address=c
8 C|web3|load|graph_title=y
`},
		{"comments and long lines", "[G;h]\naddress a#b\nload.graph_info colour \\#fff # said\n" +
			"load.graph_order a \\ # goes on\n   b\nupdate no\\", `host G/h a:4949 (2)
2 G|h||address=a
3 G|h|load|graph_info=colour #fff
4 G|h|load|graph_order=a b
conf:6: the last line ends in a backslash: nothing follows
`},
		{"the later counts", "[G;h]\naddress a\naddress b\nupdate no\nupdate yes\n", `host G/h b:4949 (2)
2 G|h||address=a
3 G|h||address=b
4 G|h||update=no
5 G|h||update=yes
`},
		{"contacts", `
contacts me log
contact.me.command | mail -s "${var:worst}" me@example.org
contact.me.always_send warning critical
contact.log.command > logger
contact.log.max_messages 1
contact.log.text ${var:host}
contact.none.text x
contact.me.critical y
`, `contact me "mail -s \"${var:worst}\" me@example.org" ["warning" "critical"] 0
contact log "logger" [] 1
contact none "" [] 0
2 |||contacts=me log
3 ||contact.me|command=| mail -s "${var:worst}" me@example.org
4 ||contact.me|always_send=warning critical
5 ||contact.log|command=> logger
6 ||contact.log|max_messages=1
7 ||contact.log|text=${var:host}
8 ||contact.none|text=x
9 ||contact.me|critical=y
conf:9: a contact has no critical
conf:8: contact "none" has no command: nobody is told
`},
		{"mistakes", `
adress x
[G;web_1]
address a
[G;h]
load.load.color red
port http
update maybe
address
load..label x
[[x]
use_node_name yes
`, `host G/h :4949 noupdate (7)
7 G|h||port=http
8 G|h||update=maybe
conf:2: "adress" is no word of munin.conf; the line is left out
conf:4: the name "web_1" of a host may have letters, digits, - and . only
conf:6: "color" is no word of munin.conf; the line is left out
conf:7: port "http" is no number; 4949 is taken
conf:8: update "maybe" is neither yes nor no; no is taken
conf:9: "address" has no value
conf:10: a name is missing in "G;h:load..label"
conf:12: the name "[x" of a host may have letters, digits, - and . only
`},
		{"of all", "use_node_name yes\n[G;a]\naddress x\n[G;b]\naddress x\nuse_node_name no\n", `host G/a x:4949 nodename (3)
host G/b x:4949 (5)
1 |||use_node_name=yes
3 G|a||address=x
5 G|b||address=x
6 G|b||use_node_name=no
`},
		{"Latin-1", "[G;h]\naddress a\nload.graph_title caf\xe9\n", "host G/h a:4949 (2)\n2 G|h||address=a\n3 G|h|load|graph_title=café\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := told(ParseMasterConf("conf", []byte(tt.text))); got != tt.want {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want)
			}
		})
	}
}

func TestReadMasterConf(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("munin.conf", "includedir conf.d\n[G;h]\naddress a\nload.load.warning 1\n")
	write("conf.d/20-b.conf", "[G;h]\nload.load.warning 3\n")
	write("conf.d/10-a", "[G;h]\nload.load.warning 2\n[G;i]\naddress b\nincludedir /nowhere\n")
	write("conf.d/.hidden", "[G;x]\naddress x\n")
	write("conf.d/old~", "[G;x]\naddress x\n")
	write("conf.d/sub/x", "[G;x]\naddress x\n")
	m, err := ReadMasterConf(filepath.Join(dir, "munin.conf"))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"munin.conf", "conf.d/10-a", "conf.d/20-b.conf"}
	for i := range want {
		want[i] = filepath.Join(dir, want[i])
	}
	if !slices.Equal(m.Files, want) {
		t.Errorf("files %q, want %q", m.Files, want)
	}
	if s, _ := m.Get("G", "h", "load.load", "warning"); s.Value != "3" || s.File != want[2] || s.Line != 2 {
		t.Errorf("warning %+v, want that of the last file", s)
	}
	if len(m.Hosts) != 2 || m.Host("G", "i") == nil || m.Host("G", "x") != nil {
		t.Errorf("hosts %v", m.Hosts)
	}
	if got := said(m.Problems); len(got) != 1 || !strings.Contains(got[0], "munin.conf:1: includedir: read "+filepath.Join(dir, "conf.d/sub")+": it is not a regular file") {
		t.Errorf("problems %q", got)
	}
	write("munin.conf", "includedir none\n")
	if m, err := ReadMasterConf(filepath.Join(dir, "munin.conf")); err != nil || len(m.Problems) != 1 {
		t.Errorf("a folder that is not there: %v, %v", err, m.Problems)
	}
	if _, err := ReadMasterConf(filepath.Join(dir, "none.conf")); err == nil {
		t.Error("a file that is not there is read")
	}
}

func TestMasterConfGet(t *testing.T) {
	m := ParseMasterConf("conf", []byte(`
contacts all
graph_width 1
[A;]
contacts a
graph_width 2
[A;B;]
graph_width 3
[A;B;h]
address x
disk.graph_width 4
disk.vda.graph_width 5
disk.vda.wr.warning 9
`))
	tests := []struct {
		group, host, path, name, want string
	}{
		{"A;B", "h", "disk.vda.wr", "warning", "9"},
		{"A;B", "h", "disk.vda.rd", "warning", ""},
		{"A;B", "h", "disk.vda.wr", "graph_width", "5"},
		{"A;B", "h", "disk.vdb.wr", "graph_width", "4"},
		{"A;B", "h", "load.load", "graph_width", "3"},
		{"A;B", "other", "", "graph_width", "3"},
		{"A", "h", "load", "graph_width", "2"},
		{"C", "h", "load", "graph_width", "1"},
		{"A;B", "h", "load", "contacts", "a"},
		{"", "", "", "contacts", "all"},
		{"A;B", "h", "load", "address", "x"},
		{"", "", "", "address", ""},
	}
	for _, tt := range tests {
		if s, _ := m.Get(tt.group, tt.host, tt.path, tt.name); s.Value != tt.want {
			t.Errorf("Get(%q, %q, %q, %q) = %q, want %q", tt.group, tt.host, tt.path, tt.name, s.Value, tt.want)
		}
	}
}

func TestVirtuals(t *testing.T) {
	m := ParseMasterConf("conf", []byte(`
[G;web1]
address a
[G;mail1.example]
address b
[Other;web2]
address c
[A;B;deep]
address d
[A;B;Totals]
update no
all.graph_order -first=deep:load.load second=Other;web2:load.load third=B;deep:disk.vda.wr plain
all.graph_title All
all.first.label one
[G;Totals]
update no
sum.update no
sum.total.label all of them
sum.total.sum G;web1:load.load mail1.example:load.load x=Other;web2.load.load
stack.each.stack a=web1:load.load b=web1:cpu.user
own.twice.sum here load.load
`))
	var got strings.Builder
	for _, v := range m.Virtuals() {
		fmt.Fprintf(&got, "%s/%s %s %v %v (%d)\n", v.Group, v.Host, v.Service.Name, v.Service.Attrs, v.Service.Fields, v.Line)
		for _, c := range v.Curves {
			fmt.Fprintf(&got, "  %s %d", c.Field, c.Kind)
			for _, s := range c.Sources {
				fmt.Fprintf(&got, " %s=%s/%s:%s.%s", s.Name, s.Group, s.Node, s.Service, s.Field)
			}
			got.WriteString("\n")
		}
	}
	want := `A;B/Totals all [{graph_order -first=deep:load.load second=Other;web2:load.load third=B;deep:disk.vda.wr plain} {graph_title All}] [{first [{label one}]}] (12)
  first 0 =A;B/deep:load.load
  second 0 =Other/web2:load.load
  third 0 =A;B/deep:disk.vda.wr
G/Totals sum [{update no}] [{total [{label all of them} {sum G;web1:load.load mail1.example:load.load x=Other;web2.load.load}]}] (19)
  total 1 =G/web1:load.load =G/mail1.example:load.load =Other/web2:load.load
G/Totals stack [] [{each [{stack a=web1:load.load b=web1:cpu.user}]}] (20)
  each 2 a=G/web1:load.load b=G/web1:cpu.user
G/Totals own [] [{twice [{sum here load.load}]}] (21)
  twice 1 =G/Totals:own.here =G/Totals:load.load
`
	if got.String() != want {
		t.Errorf("got\n%s\nwant\n%s", got.String(), want)
	}
}

// TestRecordedMasterConf reads the configuration of the master whose tree and messages were recorded.
func TestRecordedMasterConf(t *testing.T) {
	data := os.Getenv("TOCSIN_TESTDATA")
	if data == "" {
		t.Skip("TOCSIN_TESTDATA is not set: recorded data is not part of the repository")
	}
	m, err := ReadMasterConf(filepath.Join(data, "munin", "captures", "masterconf.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range m.Problems {
		t.Error(p)
	}
	var hosts []string
	for _, h := range m.Hosts {
		hosts = append(hosts, fmt.Sprintf("%s/%s %s:%d %v %v", h.Group, h.Name, h.Address, h.Port, h.Update, h.UseNodeName))
	}
	want := []string{
		"Gandi/web1.asso.example 127.0.0.1:4950 true true",
		"Gandi/router.asso.example 127.0.0.1:4950 true false",
		"TTN/mail1.asso.example munin://127.0.0.1:4949 true true",
		"TTN/down1.asso.example 127.0.0.1:4999 true false",
		"asso;sites/deep1.asso.example 127.0.0.1:4950 true true",
		"asso/Totals :4949 false false",
	}
	if !slices.Equal(hosts, want) {
		t.Errorf("hosts\n%s\nwant\n%s", strings.Join(hosts, "\n"), strings.Join(want, "\n"))
	}
	if len(m.Contacts) != 2 || m.Contacts[1].Name != "mail" || m.Contacts[1].MaxMessages != 1 {
		t.Errorf("contacts %+v", m.Contacts)
	}
	if v := m.Virtuals(); len(v) != 3 || len(v[0].Curves[0].Sources) != 2 {
		t.Errorf("%d virtual services, want 3: %+v", len(v), v)
	}
	if s, ok := m.Get("Gandi", "web1.asso.example", "cpu", "contacts"); !ok || s.Value != "none" {
		t.Errorf("contacts of cpu: %+v", s)
	}
}

func FuzzParseMasterConf(f *testing.F) {
	f.Add("includedir x\n[G;h]\naddress a\\\nb\n:sub.label #\nx.graph_order a=G;h:b.c -d=e\n")
	f.Add("[a.b:c]\nd.sum e;f.g h:i\ncontact.x.command |y\n.A;b:c.label d")
	f.Fuzz(func(t *testing.T, text string) {
		m := ParseMasterConf("f", []byte(text))
		for _, s := range m.Settings {
			if got, ok := m.Get(s.Group, s.Host, s.Path, s.Name); !ok || got.Path != s.Path || got.Host != s.Host {
				t.Errorf("%+v is not found again: %+v", s, got)
			}
		}
		for _, v := range m.Virtuals() {
			s, sources := m.Of(v.Group, v.Host, &Service{Name: v.Service.Name})
			for field := range sources {
				m.Limits(v.Group, v.Host, s, s.Field(field))
			}
		}
	})
}
