package config

import (
	"errors"
	"flag"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"tocsin"
)

var update = flag.Bool("update", false, "write the .want files anew")

// TestMistakes reads each testdata/*.toml and compares every word of its mistakes with the .want file beside it.
func TestMistakes(t *testing.T) {
	files, err := filepath.Glob("testdata/*.toml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files in testdata: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			if _, err := Parse("tocsin.toml", data); err != nil {
				got = err.Error() + "\n"
			}
			wantFile := strings.TrimSuffix(file, ".toml") + ".want"
			if *update {
				if err := os.WriteFile(wantFile, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(wantFile)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

// whole sets every key to something else than its default.
const whole = `
state = "/srv/tocsin"
socket = "/run/t.sock"
listen = ""
[guard]
observe = true
allow = ["198.51.100.0/24", "2001:db8:1::/48", "192.0.2.7", "::ffff:192.0.2.8"]
[fail2ban]
dir = "/etc/fail2ban"
log = "/var/log/fail2ban.log"
ipv6_prefix = 64
known_factor = 3
known_for = "5d"
clear_by_login = true
[[jail]]
name = "ssh"
enabled = false
filter = "sshd[mode=aggressive]"
sources = ["file:/var/log/auth.log", "journal:_SYSTEMD_UNIT=ssh.service", "syslog:udp://127.0.0.1:5514"]
ports = [2222, 22, 2200, 22]
verdict = "reject"
maxretry = 1_0
findtime = "1h30m"
bantime = "1d"
bantime_factor = 2
bantime_max = "forever"
bantime_memory = "1w"
ipv6_prefix = 0x38
known_factor = 1
known_for = "0s"
subnet_bans = 5
subnet_within = "2d"
allow = ["192.0.2.9"]
max_addresses = 1000
timezone = "UTC"
[[jail]]
name = "web"
ports = "all"
sources = "auto"
[[list]]
name = "abuseipdb"
url = "abuseipdb:"
at = "04:30"
confidence = 90
limit = 20_000
ports = [443, 22]
[[list]]
name = "drop-2"
url = "https://lists.example/drop.txt"
[report]
enabled = true
url = "https://hub.example/api/v2"
jails = { ssh = [22, 18, 18], "web" = [21] }
hold = "2m"
[watch]
enabled = false
group = "Gandi;Paris"
name = "web1.asso.example"
interval = "30s"
munin_plugins = ""
munin_node = "127.0.0.1:4949"
munin_allow = ["192.0.2.10"]
munin_conf = "/etc/munin/munin.conf"
capacity = { eth0 = "500M", ens3 = 1_000_000 }
country = "/var/lib/country.mmdb"
sites = ["https://asso.example/", "http://192.0.2.1:8080/x?y=z", "https://asso.example/"]
domains = ["asso.example"]
[[watch.node]]
name = "mail1"
group = "TTN"
address = "munin://192.0.2.10:4949"
[[watch.node]]
name = "mail1"
group = "Gandi"
address = "ssh://munin@mail1.example:2200/usr/bin/nc localhost 4949"
interval = "5m"
tls = true
tls_ca = "/etc/ca.pem"
tls_certificate = "/etc/cert.pem"
tls_key = "/etc/key.pem"
[[watch.remote]]
url = "https://prometheus.example/api/v1/write"
token_file = "/etc/tocsin/remote"
[web]
url = "https://tocsin.asso.example/"
title = "Association Exemple"
language = "fr"
proxies = ["127.0.0.1"]
proxy_secret_file = "/etc/tocsin/proxy-secret"
user_header = "Remote-User"
bans = false
[web.oidc]
issuer = "https://login.asso.example/realms/asso"
name = "Compte de l’asso"
client_id = "tocsin"
client_secret_file = "/etc/tocsin/oidc"
role_claim = "realm_access.roles"
admin = ["sysadmins"]
support = ["helpers"]
board = ["board", "members"]
[retention]
evidence = "30d"
bans = "60d"
logins = "10d"
samples = "7d"
samples_5m = "1y"
samples_1h = "5y"
`

func TestParseWhole(t *testing.T) {
	got, err := Parse("t.toml", []byte(whole))
	if err != nil {
		t.Fatal(err)
	}
	prefix := netip.MustParsePrefix
	const day = 24 * time.Hour
	want := &Config{
		File: "t.toml", State: "/srv/tocsin", Socket: "/run/t.sock", Listen: "",
		Guard: Guard{Observe: true, Allow: []netip.Prefix{
			prefix("198.51.100.0/24"), prefix("2001:db8:1::/48"), prefix("192.0.2.7/32"), prefix("192.0.2.8/32"),
		}},
		Fail2ban: Fail2ban{Dir: "/etc/fail2ban", Log: "/var/log/fail2ban.log", IPv6Prefix: 64, KnownFactor: 3, KnownFor: 5 * day, ClearByLogin: true},
		Jails: []Jail{{
			Name: "ssh", Filter: "sshd[mode=aggressive]", Enabled: false, Verdict: tocsin.Reject,
			Sources:  []string{"file:/var/log/auth.log", "journal:_SYSTEMD_UNIT=ssh.service", "syslog:udp://127.0.0.1:5514"},
			Ports:    Ports{List: []uint16{22, 2200, 2222}},
			MaxRetry: 10, FindTime: 90 * time.Minute,
			BanTime: day, BanFactor: 2, BanMax: Forever, BanMemory: 7 * day,
			IPv6Prefix: 56, KnownFactor: 1, KnownFor: 0,
			SubnetBans: 5, SubnetWithin: 2 * day,
			Allow: []netip.Prefix{prefix("192.0.2.9/32")}, MaxAddresses: 1000, Timezone: "UTC",
		}, {
			Name: "web", Filter: "web", Enabled: true, Ports: Ports{All: true},
			MaxRetry: 5, FindTime: 10 * time.Minute,
			BanTime: 15 * time.Minute, BanFactor: 1, BanMax: 35 * day, BanMemory: 30 * day,
			IPv6Prefix: 64, KnownFactor: 3, KnownFor: 10 * day, // not 30: logins are kept for 10
			SubnetWithin: day, MaxAddresses: 100000,
		}},
		Lists: []List{
			{Name: "abuseipdb", URL: "abuseipdb:", At: "04:30", Confidence: 90, Limit: 20000, Ports: Ports{List: []uint16{22, 443}}},
			{Name: "drop-2", URL: "https://lists.example/drop.txt", At: "auto", Confidence: 100, Limit: 10000, Ports: Ports{All: true}},
		},
		Report: Report{Enabled: true, URL: "https://hub.example/api/v2/", Jails: map[string][]int{"ssh": {18, 22}, "web": {21}}, Hold: 2 * time.Minute},
		Watch: Watch{
			Group: "Gandi;Paris", Name: "web1.asso.example", Interval: 30 * time.Second,
			MuninNode: "127.0.0.1:4949", MuninAllow: []netip.Prefix{prefix("192.0.2.10/32")}, MuninConf: "/etc/munin/munin.conf",
			Capacity: map[string]float64{"eth0": 62.5e6, "ens3": 125_000}, Country: "/var/lib/country.mmdb",
			Sites: []string{"https://asso.example/", "http://192.0.2.1:8080/x?y=z"}, Domains: []string{"asso.example"},
			Nodes: []Node{
				{Name: "mail1", Group: "TTN", Address: "munin://192.0.2.10:4949", Interval: time.Minute},
				{Name: "mail1", Group: "Gandi", Address: "ssh://munin@mail1.example:2200/usr/bin/nc localhost 4949", Interval: 5 * time.Minute,
					TLS: true, CA: "/etc/ca.pem", Certificate: "/etc/cert.pem", Key: "/etc/key.pem"},
			},
			Remotes: []Remote{{URL: "https://prometheus.example/api/v1/write", TokenFile: "/etc/tocsin/remote"}},
		},
		Mail: Mail{Server: "sendmail"},
		Web: Web{URL: "https://tocsin.asso.example", Title: "Association Exemple", Language: "fr", Proxies: []netip.Prefix{prefix("127.0.0.1/32")}, ProxySecretFile: "/etc/tocsin/proxy-secret", UserHeader: "Remote-User",
			OIDC: OIDC{Issuer: "https://login.asso.example/realms/asso", Name: "Compte de l’asso", ClientID: "tocsin", SecretFile: "/etc/tocsin/oidc",
				Claim: "realm_access.roles", Admin: []string{"sysadmins"}, Support: []string{"helpers"}, Board: []string{"board", "members"}}},
		Retention: Retention{Evidence: 30 * day, Bans: 60 * day, Logins: 10 * day, Samples: 7 * day, Samples5m: 365 * day, Samples1h: 5 * 365 * day},
	}
	places := got.where
	got.where = nil
	for i := range got.Jails {
		got.Jails[i].where = nil
	}
	for i := range got.Lists {
		got.Lists[i].where = nil
	}
	for i := range got.Watch.Nodes {
		got.Watch.Nodes[i].where = nil
	}
	for i := range got.Watch.Remotes {
		got.Watch.Remotes[i].where = nil
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if len(places) != 48 {
		t.Errorf("%d places outside the tables of which there are several, want those of 48 keys: %v", len(places), places)
	}
}

// documented is the shape that the manual promises, with every value at its default but the allow list, the filter, the
// sources and the ports.
const documented = `
state = "/var/lib/tocsin"          # also --state
socket = "/run/tocsin/guard.sock"
listen = "127.0.0.1:8044"
[guard]
observe = false
allow = ["198.51.100.0/24", "2001:db8:1::/48"]
[[jail]]
name = "sshd"
filter = "sshd"                    # or "sshd[mode=aggressive]"
sources = ["file:/var/log/auth.log", "journal:_SYSTEMD_UNIT=ssh.service", "syslog:udp://127.0.0.1:5514"]
ports = [22, 2222, 2200]           # "auto": where the daemon listens; "all"
maxretry = 5
findtime = "10m"
bantime = "15m"
bantime_factor = 1.0               # 2.0: doubles with each ban remembered
bantime_max = "5w"
bantime_memory = "30d"
ipv6_prefix = 64                   # failures counted and banned by this prefix
known_factor = 3                   # patience with addresses that logged in within known_for
known_for = "30d"
subnet_bans = 0
subnet_within = "1d"
allow = []                         # for this jail only
max_addresses = 100000
[retention]
evidence = "90d"
bans = "365d"
logins = "90d"
`

func TestDocumentedShape(t *testing.T) {
	got, err := Parse("", []byte(documented))
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Guard.Allow = got.Guard.Allow
	want.Jails[0].Sources, want.Jails[0].Ports = got.Jails[0].Sources, Ports{List: []uint16{22, 2200, 2222}}
	for _, c := range []*Config{got, want} {
		c.where, c.Jails[0].where = nil, nil
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// TestInlineTables checks that the other ways in which TOML writes a table mean the same.
func TestInlineTables(t *testing.T) {
	const text = `
retention = { evidence = "1d", logins = "2d" }
guard.observe = true
guard.allow = ["192.0.2.1"]
jail = [{ name = "a", maxretry = 3 }, { name = "b", ports = [80] }]
`
	c, err := Parse("", []byte("\ufeff"+text))
	if err != nil {
		t.Fatal(err)
	}
	if !c.Guard.Observe || len(c.Guard.Allow) != 1 || c.Retention.Logins != 48*time.Hour || c.Retention.Bans != year {
		t.Errorf("got %+v", c)
	}
	if len(c.Jails) != 2 || c.Jails[0].MaxRetry != 3 || c.Jails[1].Name != "b" || c.Jails[1].Ports.List[0] != 80 {
		t.Errorf("jails: got %+v", c.Jails)
	}
}

// TestDefault holds what a machine without a file gets. It is promised to users: a change here is a change for them.
func TestDefault(t *testing.T) {
	c := Default()
	if c.State != "/var/lib/tocsin" || c.Socket != "/run/tocsin/guard.sock" || c.Listen != "127.0.0.1:8044" || c.Guard.Observe {
		t.Errorf("got %+v", c)
	}
	if len(c.Jails) != 1 {
		t.Fatalf("%d jails, want 1", len(c.Jails))
	}
	j := c.Jails[0]
	if j.Name != "sshd" || j.Filter != "sshd" || j.Sources != nil || !j.Ports.Auto || !j.Enabled || j.Verdict != tocsin.Drop {
		t.Errorf("got %+v", j)
	}
	if j.MaxRetry != 5 || j.FindTime != 10*time.Minute || j.BanTime != 15*time.Minute {
		t.Errorf("%d failures within %v ban for %v, want 5 within 10m for 15m", j.MaxRetry, j.FindTime, j.BanTime)
	}
	if p := j.Pos("filter"); p != (Pos{}) {
		t.Errorf("place of the default jail: got %v, want none", p)
	}
}

func TestJailsOfFail2ban(t *testing.T) {
	tests := []struct {
		name, text, dir string
		want            []string
	}{
		{"off", "", "", []string{"sshd"}},
		{"in the file", "[fail2ban]\ndir = \"/etc/fail2ban\"\n", "", nil},
		{"by hand", "", "/etc/fail2ban", nil},
		{"with a jail of its own", "[[jail]]\nname = \"sshd\"\n", "/etc/fail2ban", []string{"sshd"}},
	}
	for _, tt := range tests {
		c, err := Parse("", []byte(tt.text))
		if err != nil {
			t.Fatal(err)
		}
		if tt.dir != "" {
			c.RunFail2ban(tt.dir)
		}
		var got []string
		for _, j := range c.Jails {
			got = append(got, j.Name)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: jails %q, want %q", tt.name, got, tt.want)
		}
	}
	for _, text := range []string{"dir = \"etc\"", "log = \"never\"", "log = \"\"", "ipv6_prefix = 129", "known_factor = 0", "known_for = \"2y\""} {
		if _, err := Parse("", []byte("[fail2ban]\n"+text)); err == nil {
			t.Errorf("%s is taken", text)
		}
	}
}

func TestPos(t *testing.T) {
	_, err := Parse("t.toml", []byte("state = \"/s\"\n[guard]\nobserve = true\n[[jail]]\n  name = \"é\" # no\n"))
	var e *Error
	if !errors.As(err, &e) || e.String() != "t.toml:5:10" {
		t.Errorf("bad name: got %v, want one mistake at 5:10", err)
	}
	c, err := Parse("t.toml", []byte("state = \"/s\"\nguard = { observe = true } # é\n[[jail]]\nname = \"a\"\nsources = [\n  \"file:/a\",\n  'file:/b']\n"))
	if err != nil {
		t.Fatal(err)
	}
	j := &c.Jails[0]
	tests := []struct {
		key  string
		got  Pos
		want string
	}{
		{"state", c.Pos("state"), "t.toml:1:9"},
		{"guard.observe", c.Pos("guard.observe"), "t.toml:2:21"},
		{"socket, not set", c.Pos("socket"), "t.toml"},
		{"name", j.Pos("name"), "t.toml:4:8"},
		{"sources", j.Pos("sources"), "t.toml:5:11"},
		{"sources[0]", j.Pos("sources[0]"), "t.toml:6:3"},
		{"sources[1]", j.Pos("sources[1]"), "t.toml:7:3"},
		{"filter, not set", j.Pos("filter"), "t.toml:3:1"},
	}
	for _, tt := range tests {
		if got := tt.got.String(); got != tt.want {
			t.Errorf("place of %s: got %s, want %s", tt.key, got, tt.want)
		}
	}
	c, err = Parse("t.toml", nil)
	if err != nil || c.Jails[0].Pos("name").String() != "t.toml" {
		t.Errorf("default jail of an empty file: got place %v, error %v; want the file", c.Jails[0].Pos("name"), err)
	}
}

// TestBounds tries each number on both sides of its bounds.
func TestBounds(t *testing.T) {
	tests := []struct {
		key          string
		low, high    string
		below, above string
	}{
		{"maxretry", "1", "10000", "0", "10001"},
		{"bantime_factor", "1.0", "100", "0.999", "100.001"},
		{"ipv6_prefix", "32", "128", "31", "129"},
		{"known_factor", "1", "100", "0", "101"},
		{"subnet_bans", "0", "10000", "-1", "10001"},
		{"max_addresses", "100", "10000000", "99", "10000001"},
		{"findtime", `"1s"`, `"1y"`, `"0s"`, `"366d"`},
		{"subnet_within", `"1s"`, `"365d"`, `""`, `"1y1s"`},
		{"bantime", `"1s"`, `"forever"`, `"0s"`, `"101y"`},
		{"bantime_max", `"15m"`, `"100y"`, `"899s"`, `"100y1s"`},
		{"bantime_memory", `"1s"`, `"365d"`, `"0s"`, `"366d"`},
		{"known_for", `"0s"`, `"90d"`, `"-1s"`, `"91d"`},
		{"ports", "[1]", "[65535]", "[0]", "[65536]"},
		{"maxretry", "0x1", "0o20", "nan", "99999999999999999999"},
		{"bantime_factor", "1", "1e2", "nan", "inf"},
	}
	for _, tt := range tests {
		for value, good := range map[string]bool{tt.low: true, tt.high: true, tt.below: false, tt.above: false} {
			_, err := Parse("", []byte("[[jail]]\nname = \"a\"\n"+tt.key+" = "+value))
			if (err == nil) != good {
				t.Errorf("%s = %s: got error %v, want good %v", tt.key, value, err, good)
			}
		}
	}
}

func TestLimits(t *testing.T) {
	jails := func(n int) string {
		var b strings.Builder
		for i := range n {
			b.WriteString("[[jail]]\nname = \"j" + strconv.Itoa(i) + "\"\n")
		}
		return b.String()
	}
	list := func(key, item string, n int) string {
		return jails(1) + key + " = [" + strings.Repeat(item+",", n) + "]"
	}
	tests := []struct {
		name, text string
		want       string // in the error; "" if there is none
	}{
		{"as many jails as there may be", jails(maxJails), ""},
		{"one jail more", jails(maxJails + 1), "more than 500 jails"},
		{"many jails more", jails(3 * maxJails), "more than 500 jails"},
		{"full allow list", list("allow", `"192.0.2.1"`, maxAllow), ""},
		{"one address more", list("allow", `"192.0.2.1"`, maxAllow+1), "more than 10000"},
		{"full list of ports", list("ports", "22", maxPorts), ""},
		{"one port more", list("ports", "22", maxPorts+1), "more than 256"},
		{"one source more", list("sources", `"file:/a"`, maxSources+1), "more than 100"},
		{"full file", strings.Repeat("#", maxFile), ""},
		{"one byte more", strings.Repeat("#", maxFile+1), "larger than 1 MiB"},
		{"deep lists", "state = " + strings.Repeat("[", 5000) + strings.Repeat("]", 5000), "state is a text, not a list"},
		{"deep tables", "state = " + strings.Repeat("{a=", 50) + "1" + strings.Repeat("}", 50), "state is a text, not a table"},
	}
	for _, tt := range tests {
		_, err := Parse("t.toml", []byte(tt.text))
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s: got error %.300v", tt.name, err)
		case tt.want != "" && (err == nil || strings.Count(err.Error(), tt.want) != 1):
			t.Errorf("%s: got error %.300v, want one %q", tt.name, err, tt.want)
		}
	}
}

// TestManyMistakes checks that the list of mistakes has an end, and that a bad file costs bounded time.
func TestManyMistakes(t *testing.T) {
	_, err := Parse("t.toml", []byte(strings.Repeat("x = 1\n", 5_000)))
	var es Errors
	if !errors.As(err, &es) || len(es) != maxErrors+1 {
		t.Fatalf("got %d mistakes, want %d and how many more", len(es), maxErrors)
	}
	if got, want := es[maxErrors].Error(), "t.toml: and 4900 more mistakes"; got != want {
		t.Errorf("last: got %q, want %q", got, want)
	}
	_, err = Parse("t.toml", []byte(strings.Repeat("a = \"\"\"\nb = \n", 20_000)))
	if !errors.As(err, &es) || len(es) > maxErrors+1 {
		t.Errorf("syntax errors: got %d mistakes", len(es))
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "tocsin.toml")
	if _, err := Load(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: got %v, want fs.ErrNotExist", err)
	}
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "read configuration") {
		t.Errorf("folder: got %v, want that it cannot be read", err)
	}
	if err := os.WriteFile(path, []byte("maxretry = 3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Load(path)
	if want := path + ":1:1: unknown key \"maxretry\"\n  hint: it belongs under a [[jail]]"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if err := os.WriteFile(path, []byte(strings.Repeat(" ", maxFile+1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("large file: got %v", err)
	}
}

// TestKeys holds what the manual relies on: a sentence for each key, and a default or what happens without.
func TestKeys(t *testing.T) {
	for _, k := range Keys() {
		if k.Doc == "" || !strings.HasSuffix(k.Doc, ".") {
			t.Errorf("%s %s: the doc %q is no sentence", k.Table, k.Name, k.Doc)
		}
		if (k.Default == "") != (k.Missing != "" && k.Example != "") {
			t.Errorf("%s %s: default %q, missing %q, example %q: want a default, or the other two", k.Table, k.Name, k.Default, k.Missing, k.Example)
		}
	}
}

func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.toml")
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(whole))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("t.toml", data)
		if err != nil {
			var es Errors
			if !errors.As(err, &es) || len(es) == 0 || len(es) > maxErrors+1 {
				t.Fatalf("the error is not a bounded list of mistakes: %v", err)
			}
			lines := strings.Count(string(data), "\n") + 1
			for _, e := range es {
				if e.Line < 0 || e.Line > lines || (e.Line > 0) != (e.Col > 0) || e.Msg == "" {
					t.Fatalf("mistake at an impossible place: %v", e)
				}
			}
			return
		}
		if len(c.Jails) == 0 || len(c.Jails) > maxJails || c.State == "" {
			t.Fatalf("accepted: %+v", c)
		}
		for _, j := range c.Jails {
			if j.Name == "" || j.MaxRetry < 1 || j.FindTime <= 0 || j.BanTime <= 0 || j.BanMax < j.BanTime {
				t.Fatalf("accepted the jail %+v", j)
			}
		}
	})
}

func BenchmarkParse(b *testing.B) {
	b.ReportAllocs()
	b.SetBytes(int64(len(whole)))
	for b.Loop() {
		if _, err := Parse("t.toml", []byte(whole)); err != nil {
			b.Fatal(err)
		}
	}
}

func TestNames(t *testing.T) {
	long := strings.Repeat("a", 300)
	tests := []struct {
		name string
		is   func(string) bool
		yes  []string
		no   []string
	}{
		{"a jail", isName, []string{"sshd", "1", "a_b.c-d", long[:48]}, []string{"", "-a", "_a", ".a", "a b", "é", "a[b]", long[:49]}},
		{"a filter", isFilter, []string{"sshd", long[:100], "sshd[mode=aggressive]", `a[b="é, c"]`, "a[" + strings.Repeat("é", 1000) + "]"},
			[]string{"", "-a", "a[]", "a[b", "a]", "a[b]c", "a[b][c]", "a[[b]]", "a[b\nc]", "[b]", long[:101], "a[" + strings.Repeat("é", 1001) + "]"}},
		{"a server", isNodeName, []string{"web1", "a", "web1.asso.example", "a--b", "1"}, []string{"", ".", "-a", "a-", "a.", ".a", "web_1", "a b", "é", long, "a/b"}},
		{"a group", isGroup, []string{"Gandi", "Gandi;Paris", "Hébergeur n° 1", "a;b;c;d;e;f;g;h"}, []string{"", ";", "a;", ";a", "a;;b", "..", "a/b", `a\b`, `a"b`, "a:b", "a\nb", long, "a;b;c;d;e;f;g;h;i"}},
		{"a domain", isDomain, []string{"asso.example", "a-b.c.de", "xn--80ak6aa92e.com"}, []string{"", "asso", "asso.e", "-a.example", "a-.example", "a..b", ".example", "example.", "a_b.example", "a b.example", long + ".example"}},
	}
	for _, tt := range tests {
		for _, s := range tt.yes {
			if !tt.is(s) {
				t.Errorf("%q is no name of %s", s, tt.name)
			}
		}
		for _, s := range tt.no {
			if tt.is(s) {
				t.Errorf("%.20q is a name of %s", s, tt.name)
			}
		}
	}
}
