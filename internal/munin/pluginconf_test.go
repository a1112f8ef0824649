package munin

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// howRun is how a plugin is run, in one line.
func howRun(s PluginSettings) string {
	var b strings.Builder
	if s.User != "" {
		fmt.Fprintf(&b, "user %s ", s.User)
	}
	for _, g := range s.Groups {
		fmt.Fprintf(&b, "group %s ", g.Name)
		if g.Optional {
			b.WriteString("(optional) ")
		}
	}
	if s.Command != nil {
		fmt.Fprintf(&b, "command %q ", s.Command)
	}
	if s.HostName != "" {
		fmt.Fprintf(&b, "host %s ", s.HostName)
	}
	if s.Timeout != 0 {
		fmt.Fprintf(&b, "timeout %v ", s.Timeout)
	}
	if s.UpdateRate != 0 {
		fmt.Fprintf(&b, "rate %v ", s.UpdateRate)
	}
	for _, e := range s.Env {
		fmt.Fprintf(&b, "%s=%s ", e.Name, e.Value)
	}
	return strings.TrimSpace(b.String())
}

func TestParsePluginConf(t *testing.T) {
	tests := []struct {
		name, text string
		want       map[string]string // by plugin
		problems   []string
	}{
		{"one after the other", `
# how plugins are run
[apt]
user root
[postfix_mailvolume]
group adm, (Debian-exim)  proxy
env.logfile mail.log
env.greeting  two  words "quoted" \# # said
[slow]
timeout 120
update_rate 5m aligned
host_name router.example
command ssh -x %c host
`, map[string]string{
			"apt":                "user root",
			"postfix_mailvolume": `group adm group Debian-exim (optional) group proxy greeting=two  words "quoted" # logfile=mail.log`,
			"slow":               `command ["ssh" "-x" "%c" "host"] host router.example timeout 2m0s rate 5m0s`,
			"other":              "",
		}, nil},
		{"precedence", `
[*]
user all
env.a all
env.z all
[if_*]
user root
env.a if
[if_err_*]
user nobody
env.b err
[if_err_eth0]
env.b exact
[*_eth0]
group eth
[*ail]
user m.il
[p.stfix*]
user dot
`, map[string]string{
			"if_eth0":     "user root group eth a=if z=all",
			"if_err_lo":   "user nobody a=if b=err z=all",
			"if_err_eth0": "user nobody group eth a=if b=exact z=all",
			"load":        "user all a=all z=all",
			"postfix_x":   "user dot a=all z=all",
			"mail":        "user m.il a=all z=all",
		}, nil},
		{"the later line counts", "[a]\nuser x\nenv.a 1\n[b]\nuser y\n[a]\nuser z\nenv.b 2\n", map[string]string{"a": "user z a=1 b=2"}, nil},
		{"nothing before a section", "user root\n[a]\nuser b\n", map[string]string{"a": ""}, []string{`f:1: it stands before the first [plugin]; the rest of the file is left out`}},
		{"the old form", "[a]\nuser b\nenv x=y\nuser c\n[d]\nuser e\n", map[string]string{"a": "user b", "d": ""},
			[]string{`f:3: "env x=y" is the old form; write "env.NAME value"; the rest of the file is left out`}},
		{"an unknown word", "[a]\nlogfile x\n", map[string]string{"a": ""}, []string{`f:2: "logfile" is no setting of a plugin; should it be env.logfile?; the rest of the file is left out`}},
		{"no value", "[a]\nuser\n", map[string]string{"a": ""}, []string{`f:2: "user" is not a name and a value; the rest of the file is left out`}},
		{"no time", "[a]\ntimeout soon\n", map[string]string{"a": ""}, []string{`f:2: timeout "soon" is no number of seconds; the rest of the file is left out`}},
		{"no pattern", "[if(*]\nuser a\n", map[string]string{"if(x": "user a", "if_": ""},
			[]string{"[if(*]: it is taken as it stands, for it is no regular expression: error parsing regexp: missing closing ): `^if(`"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := ParsePluginConf("f", []byte(tt.text))
			for plugin, want := range tt.want {
				if got := howRun(c.For(plugin)); got != want {
					t.Errorf("%s: %s, want %s", plugin, got, want)
				}
			}
			if got := said(c.Problems); !slices.Equal(got, tt.problems) {
				t.Errorf("problems %q, want %q", got, tt.problems)
			}
		})
	}
}

// fill makes files below dir; one whose name ends in ! may be executed and one in @ leads to its text.
func fill(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		mode := os.FileMode(0o644)
		link := strings.HasSuffix(name, "@")
		if strings.HasSuffix(name, "!") {
			mode = 0o755
		}
		path := filepath.Join(dir, strings.TrimRight(name, "!@"))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if link {
			err = os.Symlink(text, path)
		} else {
			err = os.WriteFile(path, []byte(text), mode)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestReadPluginConf(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, map[string]string{
		"10-first":     "[a]\nuser one\nenv.x 1\n",
		"20-second":    "[a]\nuser two\n",
		"30-broken":    "[a]\nenv.y 1\nnonsense\nuser three\n",
		"40-after":     "[b]\nuser four\n",
		".hidden":      "[a]\nuser hidden\n",
		"old.dpkg-old": "[a]\nuser old\n",
		"strange,name": "[a]\nuser strange\n",
		"sub/file":     "[a]\nuser sub\n",
		"linked@":      "40-after",
	})
	node := ParseNodeConf("n", []byte("ignore_file \\.dpkg-(tmp|new|old|dist)$\n"))
	c, err := ReadPluginConf(dir, node)
	if err != nil {
		t.Fatal(err)
	}
	if got := howRun(c.For("a")); got != "user two x=1 y=1" {
		t.Errorf("a: %s", got)
	}
	if got := howRun(c.For("b")); got != "user four" {
		t.Errorf("b: %s", got)
	}
	if got := said(c.Problems); len(got) != 1 || !strings.Contains(got[0], "30-broken:3: ") {
		t.Errorf("problems %q", got)
	}
	if c, err := ReadPluginConf(dir, nil); err != nil || howRun(c.For("a")) != "user old x=1 y=1" {
		t.Errorf("without munin-node.conf: %v %v", err, c)
	}
	if c, err := ReadPluginConf(filepath.Join(dir, "none"), nil); err != nil || howRun(c.For("a")) != "" {
		t.Errorf("no folder: %v", err)
	}
}

func TestParseUpdateRate(t *testing.T) {
	tests := map[string]time.Duration{
		"300": 5 * time.Minute, "10s": 10 * time.Second, "5m aligned": 5 * time.Minute, "1h": time.Hour, "1d": 24 * time.Hour,
		"2w": 14 * 24 * time.Hour, "1t": 31 * 24 * time.Hour, "1y": 365 * 24 * time.Hour, " 60 ": time.Minute,
		"": 0, "0": 0, "-1": 0, "x": 0, "m": 0, "aligned": 0, "1.5": 0, "11y": 0, "4294967295y": 0, "99999999999": 0,
	}
	for text, want := range tests {
		if got, ok := ParseUpdateRate(text); got != want || ok != (want > 0) {
			t.Errorf("ParseUpdateRate(%q) = %v, %v; want %v", text, got, ok, want)
		}
	}
}

func TestParseNodeConf(t *testing.T) {
	c := ParseNodeConf("f", []byte(`
log_level 4
host_name	web1.example.org
host *
host 127.0.0.1
port 4950
timeout 30
default_plugin_user munin
allow ^127\.0\.0\.1$
allow ^::1$
cidr_allow 192.0.2.0/24
cidr_deny 192.0.2.42/32
deny 203\.0\.113\..*
ignore_file [\#~]$
ignore_file \.bak$
allow (
cidr_allow 192.0.2.1
port none
timeout 0
`))
	if c.HostName != "web1.example.org" || !slices.Equal(c.Listen, []string{"*", "127.0.0.1"}) || c.Port != 4950 || c.Timeout != 30*time.Second || c.User != "munin" {
		t.Errorf("%+v", c)
	}
	for addr, want := range map[string]bool{
		"127.0.0.1": true, "::ffff:127.0.0.1": true, "::1": true, "127.0.0.11": false, "192.0.2.1": true, "192.0.2.42": false, "203.0.113.9": false, "2001:db8::1": false,
	} {
		if got := c.Allows(netip.MustParseAddr(addr)); got != want {
			t.Errorf("Allows(%s) = %v, want %v", addr, got, want)
		}
	}
	for name, want := range map[string]bool{"load~": true, "load#": true, "load.bak": true, "load": false} {
		if got := c.ignores(name); got != want {
			t.Errorf("ignores(%s) = %v, want %v", name, got, want)
		}
	}
	if len(c.Problems) != 4 {
		t.Errorf("problems %q, want 4", said(c.Problems))
	}
	if everybody := ParseNodeConf("f", nil); !everybody.Allows(netip.MustParseAddr("192.0.2.1")) || everybody.Port != 4949 || everybody.Timeout != time.Minute {
		t.Errorf("without a word: %+v", everybody)
	}
}

func TestPlugins(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, map[string]string{
		"load!": "", "if_eth0@": "load", "odd@name:x.y-z!": "", // the last has an @ within
		"plain": "", ".hidden!": "", "x.conf!": "", "white space!": "", "saved.bak!": "", "gone@": "nowhere", "folder/x": "",
	})
	got, err := Plugins(dir, ParseNodeConf("f", []byte(`ignore_file \.bak$`)))
	if want := []string{"if_eth0", "load", "odd@name:x.y-z"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("Plugins = %q, %v; want %q", got, err, want)
	}
	if _, err := Plugins(filepath.Join(dir, "none"), nil); err == nil {
		t.Error("a folder that is not there has plugins")
	}
}

// TestDebianConf reads what Debian installs, where it is installed.
func TestDebianConf(t *testing.T) {
	if _, err := os.Stat("/etc/munin/plugin-conf.d/munin-node"); err != nil {
		t.Skip("munin-node is not installed (scripts/setup.sh)")
	}
	node, err := ReadNodeConf("/etc/munin/munin-node.conf")
	if err != nil {
		t.Fatal(err)
	}
	c, err := ReadPluginConf("/etc/munin/plugin-conf.d", node)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range append(c.Problems, node.Problems...) {
		t.Error(p)
	}
	for plugin, want := range map[string]string{
		"if_eth0":         "user root",
		"if_err_eth0":     "user nobody",
		"load":            "",
		"df":              "critical=98 exclude_re=^/run/user warning=92",
		"exim_mailqueue":  "group adm group Debian-exim (optional)",
		"postgres_size_x": "user postgres PGPORT=5432 PGUSER=postgres",
	} {
		if got := howRun(c.For(plugin)); got != want {
			t.Errorf("%s: %s, want %s", plugin, got, want)
		}
	}
}

func FuzzParsePluginConf(f *testing.F) {
	f.Add("[a*]\nuser x\nenv.y z \\# # c\ngroup a,(b)\ntimeout 1\n[*b]\ncommand %c x\n")
	f.Add("[(*]\nupdate_rate 5m aligned\nhost_name h\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, e := range ParsePluginConf("f", []byte(text)).For("ab").Env {
			if e.Name == "" || strings.ContainsAny(e.Name, "=\x00 ") || strings.Contains(e.Value, "\x00") {
				t.Errorf("environment %q=%q", e.Name, e.Value)
			}
		}
	})
}

func FuzzParseNodeConf(f *testing.F) {
	f.Add("allow ^127$\nport 1\nignore_file ~$\ncidr_allow ::/0\n")
	f.Fuzz(func(t *testing.T, text string) {
		c := ParseNodeConf("f", []byte(text))
		c.Allows(netip.MustParseAddr("192.0.2.1"))
		c.ignores("x")
	})
}
