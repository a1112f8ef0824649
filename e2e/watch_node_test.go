package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"tocsin/e2e/lab"
	"tocsin/internal/api"
)

// apiAt is where the watch process answers programs, on the victim's loopback.
const apiAt = "127.0.0.1:8054"

// watching is a scene in which `tocsin run` supervises the victim.
type watching struct {
	*scene

	client http.Client
	token  string
}

// watch makes a scene with an account for the watch process. Nothing runs yet. These tests wait for minutes to pass, more than
// they work, and so run two at a time.
func watch(t *testing.T, limit time.Duration) *watching {
	t.Helper()
	t.Parallel()
	s := &watching{scene: newScene(t, limit)}
	accounts, err := s.Victim.Read("/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	s.write("/etc/passwd", fmt.Sprintf("%stocsin:x:%d:4243::/:/bin/false\n", regexp.MustCompile(`(?m)^tocsin:.*\n`).ReplaceAllString(accounts, ""), watchUser), 0o644)
	s.client.Transport = &http.Transport{DialContext: func(_ context.Context, _, addr string) (net.Conn, error) {
		to, err := netip.ParseAddrPort(addr)
		if err != nil {
			return nil, err
		}
		return s.Victim.Dial(to, answer)
	}}
	t.Cleanup(func() {
		s.client.CloseIdleConnections()
		if t.Failed() && s.token != "" {
			for _, command := range []string{"servers", "probes"} {
				said, _ := s.try(command)
				t.Logf("tocsin %s:\n%s", command, said)
			}
		}
	})
	return s
}

// begin starts the program with the settings, and asks for a token.
func (s *watching) begin(settings string) {
	s.t.Helper()
	s.configure("listen = \"" + apiAt + "\"\n" + settings)
	s.run("--config", configFile)
	s.within(answer, "the watch process to answer", func() (bool, error) {
		said, code := s.try("token", "add", "test", "--scope", "read", "--json")
		var made api.NewToken
		if code == api.ExitDone && json.Unmarshal([]byte(said), &made) == nil {
			s.token = made.Token
		}
		return s.token != "", nil
	})
}

// curve is one series of an answer.
type curve struct {
	Metric map[string]string
	Value  [2]any
	Values [][2]any
}

func number(v [2]any) (at, value float64) {
	at, _ = v[0].(float64)
	text, _ := v[1].(string)
	value, err := strconv.ParseFloat(text, 64)
	if err != nil {
		value = math.NaN()
	}
	return at, value
}

// query asks over HTTP, as Grafana does.
func (s *watching) query(expr string) []curve {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.ctx, "GET", "http://"+apiAt+"/api/v1/query?"+url.Values{"query": {expr}}.Encode(), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.token)
	resp, err := s.client.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		s.t.Fatalf("query %s: %d, %v: %s", expr, resp.StatusCode, err, text)
	}
	var found struct{ Data struct{ Result []curve } }
	if err := json.Unmarshal(text, &found); err != nil {
		s.t.Fatalf("query %s: %v: %s", expr, err, text)
	}
	return found.Data.Result
}

// server is one line of `tocsin servers`.
func (s *watching) server(name string) (found api.Server) {
	s.t.Helper()
	for _, one := range ask[api.Servers](s.scene, "servers").Servers {
		if one.Name == name {
			return one
		}
	}
	return found
}

// probes are the lines of `tocsin probes` of one kind, by name.
func (s *watching) probes(kind string) map[string]api.Probe {
	s.t.Helper()
	all := map[string]api.Probe{}
	for _, p := range ask[api.Probes](s.scene, "probes").Probes {
		if p.Kind == kind {
			all[p.Name] = p
		}
	}
	return all
}

// hostile are plugins that nobody wants, and what tocsin probes has to say of each.
var hostile = []struct{ name, script, why string }{
	{"zz_hang", "sleep 5432", "took longer than 3s and was killed with all that it had started"},
	{"zz_children", "sleep 5432 & (sleep 5432 & sleep 5432) & wait", "took longer than 3s and was killed with all that it had started"},
	{"zz_deaf", "trap '' TERM INT HUP; sleep 5432 & sleep 5432", "took longer than 3s and was killed with all that it had started"},
	{"zz_flood", "yes 'a.label 100 MB' | head -c 104857600", "printed more than 4 MiB and was killed"},
	{"zz_garbage", "head -c 100000 /dev/urandom", "it printed no"},
	{"zz_words", "echo graph_title x; echo a.label a; echo a.value many", "it printed no value that fits its description"},
	{"zz_fails", "echo 'no \033[31mserver' >&2; exit 3", "server (exit code 3)"},
	{"zz_user", "echo a.value 1", "wants it to run as user nosuchuser, who does not exist here"},
	{"zz_theirs", "echo a.value 1", "it is not run: "},
}

// Plugins that hang, fork, flood, babble, or could be anybody's are killed or refused and named by the whole program; none
// of them delays one that is well, and nothing of them is left.
func TestHostilePlugins(t *testing.T) {
	s := watch(t, 3*time.Minute)
	need(t, "ps", "yes", "head")
	s.script("mkdir -p /etc/munin/plugin-conf.d; rm -rf /etc/munin/plugins /etc/munin/plugin-conf.d/*; mkdir /etc/munin/plugins; chmod 755 /etc/munin /etc/munin/plugins")
	s.write("/etc/munin/plugin-conf.d/test", "[zz_*]\ntimeout 3\n[zz_flood]\ntimeout 60\n[zz_user]\nuser nosuchuser\n", 0o644)
	const well = "if [ \"$1\" = config ]; then echo graph_title well; echo a.label a; else echo a.value 7; fi"
	for _, name := range []string{"aa_well", "zzz_well"} {
		s.write("/etc/munin/plugins/"+name, "#!/bin/sh\n"+well+"\n", 0o755)
	}
	s.write("/etc/munin/plugins/zz_leaves", "#!/bin/sh\nsleep 5432 >/dev/null 2>&1 &\n"+well+"\n", 0o755)
	for _, h := range hostile {
		s.write("/etc/munin/plugins/"+h.name, "#!/bin/sh\n"+h.script+"\n", 0o755)
	}
	s.script("chown 4242 /etc/munin/plugins/zz_theirs")
	began := time.Now()
	s.begin("[watch]\nname = \"victim\"\n")

	s.within(3*answer, "two values of each plugin that is well", func() (bool, error) {
		for _, name := range []string{"aa_well", "zzz_well", "zz_leaves"} {
			if found := s.query(`count_over_time(munin{service="` + name + `"}[10m])`); len(found) != 1 {
				return false, nil
			} else if _, n := number(found[0].Value); n < 2 {
				return false, nil
			}
		}
		return true, nil
	})
	t.Logf("two values of each after %v", time.Since(began).Round(time.Second))
	for _, c := range s.query(`munin{service=~".*_well"}[10m]`) {
		for i, v := range c.Values {
			at, value := number(v)
			if value != 7 {
				t.Errorf("%v: %v, want 7", c.Metric, value)
			}
			if i == 0 {
				continue
			}
			if before, _ := number(c.Values[i-1]); at-before > 75 {
				t.Errorf("%v: %v s between two values, want 60", c.Metric, at-before)
			}
		}
	}
	for _, h := range hostile {
		s.within(answer, "a word on "+h.name, func() (bool, error) {
			p := s.probes("plugin")[h.name]
			return !p.On && p.Failures > 0 && strings.Contains(p.Why, h.why) && !strings.Contains(p.Why, "\033"), nil
		})
	}
	if p := s.probes("plugin")["aa_well"]; !p.On || p.Failures > 0 || p.Cost <= 0 {
		t.Errorf("one that is well: %+v", p)
	}
	s.within(answer, "nothing of the plugins to be left", func() (bool, error) {
		return len(s.living("sleep 5432"))+len(s.living("a.label 100 MB")) == 0, nil
	})
	s.stop()
	if left := slices.Concat(s.living(program), s.living("sleep 5432")); len(left) > 0 {
		t.Errorf("left behind:\n%s", strings.Join(left, ""))
	}
}

// TestMasterPollsUs lets Debian's munin-update ask us over a link, and looks into its RRD files: a day of history, and what we
// read since, are there as we have them.
func TestMasterPollsUs(t *testing.T) {
	s := watch(t, 5*time.Minute)
	need(t, "rrdtool", "setpriv")
	const update, masterLog = "/usr/share/munin/munin-update", "/var/log/munin/munin-update.log"
	if _, err := os.Stat(update); err != nil {
		t.Skip("munin is not installed")
	}
	master := s.Honest
	s.begin(fmt.Sprintf("[watch]\ngroup = \"Gandi\"\nname = \"victim.example\"\ninterval = \"5s\"\nmunin_plugins = \"\"\nmunin_node = \"%s:4949\"\nmunin_allow = [\"%s/32\"]\n", lab.VictimHonest, lab.Honest))

	// Yesterday, as another system told it.
	history := map[int64]float64{}
	var rows strings.Builder
	for at := time.Now().Add(-20 * time.Hour).Truncate(5 * time.Minute); at.Before(time.Now().Add(-time.Hour)); at = at.Add(5 * time.Minute) {
		v := float64(at.Unix()/300%97) / 4
		history[at.Unix()] = v
		fmt.Fprintf(&rows, "%d,%v\n", at.Unix(), v)
	}
	s.write("/run/lab/load.csv", rows.String(), 0o644)
	s.must("import", "csv", "/run/lab/load.csv", "--as", "Gandi/victim.example/load/load")

	if _, err := master.Script(s.ctx, `
mount -t tmpfs master /var/lib/munin
mkdir -p /run/munin /var/log/munin
chown munin:munin /var/lib/munin /run/munin /var/log/munin
rm -rf /etc/munin/munin-conf.d`); err != nil {
		t.Skipf("no account munin: %v", err)
	}
	if err := master.Write("/etc/munin/munin.conf", "graph_strategy cron\ntls enabled\n[Gandi;victim.example]\naddress "+lab.VictimHonest.String()+"\n", 0o644); err != nil {
		t.Fatal(err)
	}
	poll := func() {
		t.Helper()
		if out, err := master.Run(s.ctx, "setpriv", "--reuid", "munin", "--regid", "munin", "--clear-groups", update); err != nil {
			t.Fatalf("munin-update: %v: %s", err, out)
		}
	}
	rrd := func(name string) string { return "/var/lib/munin/Gandi/victim.example-" + name + ".rrd" }
	tool := func(args ...string) string {
		t.Helper()
		out, err := master.Run(s.ctx, "rrdtool", args...)
		if err != nil {
			t.Fatalf("rrdtool %q: %v: %s", args, err, out)
		}
		return out
	}
	// At first there is nothing for a master. Then come the minutes that are over, of all that is read each minute.
	s.within(6*answer, "RRD files of the master", func() (bool, error) {
		poll()
		for _, name := range []string{"cpu-user-g", "if_honest-up-g", "processes-processes-g"} {
			if _, err := os.Stat(master.Path(rrd(name))); err != nil {
				time.Sleep(5 * time.Second) // a master asks every five minutes
				return false, nil
			}
		}
		return true, nil
	})

	log, err := master.Read(masterLog)
	if err != nil {
		t.Fatal(err)
	}
	before := len(log)
	last := regexp.MustCompile(`(\d+): (\S+)\s*$`)

	same, gaps := 0, 0
	for line := range strings.Lines(tool("fetch", rrd("load-load-g"), "AVERAGE", "-r", "300", "-s", "-19h", "-e", "-2h")) {
		at, text, ok := strings.Cut(strings.TrimSpace(line), ": ")
		if !ok {
			continue
		}
		when, err := strconv.ParseInt(at, 10, 64)
		if err != nil {
			continue
		}
		v, err := strconv.ParseFloat(text, 64)
		switch {
		case err != nil || math.IsNaN(v):
			gaps++
		case math.Abs(v-history[when]) > 1e-6:
			t.Errorf("the master has %v at %d, want %v", v, when, history[when])
		default:
			same++
		}
	}
	if same < 200 || gaps > 1 {
		t.Errorf("of yesterday the master has %d rows as we have them, and %d gaps", same, gaps)
	}

	s.within(6*answer, "the next minute", func() (bool, error) {
		found := s.query(`timestamp(munin{service="load",field="load"})`)
		_, now := number(found[0].Value)
		first := last.FindStringSubmatch(tool("lastupdate", rrd("load-load-g")))
		at, err := strconv.ParseFloat(first[1], 64)
		return now-at > 155, err // a minute, and what plugins may take
	})
	poll() // nothing is doubled, and nothing is wrong a second time
	values := 0
	files, err := master.Script(s.ctx, "ls /var/lib/munin/Gandi/")
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]bool{}
	name := regexp.MustCompile(`^victim\.example-(.+)-(.+)-g\.rrd$`)
	for file := range strings.FieldsSeq(files) {
		m := name.FindStringSubmatch(file)
		if m == nil {
			t.Errorf("file %s: not of a gauge", file)
			continue
		}
		at := last.FindStringSubmatch(tool("lastupdate", "/var/lib/munin/Gandi/"+file))
		if at == nil {
			t.Errorf("file %s has no values", file)
			continue
		}
		// A child's dots are dashes in a file's name.
		of := fmt.Sprintf(`{group="Gandi",node="victim.example",service=~%q,field=%q}[1m] @ %s)`, strings.ReplaceAll(regexp.QuoteMeta(m[1]), "-", "[-.]"), m[2], at[1])
		v, err := strconv.ParseFloat(at[2], 64)
		if err != nil {
			if got := s.query("count_over_time(munin" + strings.Replace(of, "[1m]", "[10m]", 1)); at[2] != "U" || len(got) > 0 {
				t.Errorf("file %s: the last value is %s, and we have %v", file, at[2], got)
			}
			continue
		}
		least, most := s.query("min_over_time(munin"+of), s.query("max_over_time(munin"+of)
		if len(least) == 0 { // what is measured once an hour is told with the time at which it was asked for
			hour := strings.Replace(of, "[1m]", "[15m]", 1)
			least, most = s.query("min_over_time(munin"+hour), s.query("max_over_time(munin"+hour)
		}
		if len(least) != 1 || len(most) != 1 {
			t.Errorf("file %s has %v at %s, and we have nothing of that minute: %v", file, v, at[1], least)
			continue
		}
		_, low := number(least[0].Value)
		_, high := number(most[0].Value)
		if slack := 1e-6 * math.Max(math.Abs(low), math.Abs(high)); v < low-slack || v > high+slack {
			t.Errorf("file %s has %v at %s; in that minute we read %v to %v", file, v, at[1], low, high)
		}
		kinds[m[1]] = true
		values++
	}
	for _, want := range []string{"load", "cpu", "memory", "df", "df_inode", "if_honest", "if_err_honest", "processes", "uptime", "swap", "forks", "interrupts", "open_files", "threads"} {
		if !kinds[want] {
			t.Errorf("the master knows no %s", want)
		}
	}
	if values < 80 {
		t.Errorf("the master has values in %d files", values)
	}
	if log, err = master.Read(masterLog); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(log[before:]) {
		if strings.Contains(line, "[ERROR]") || strings.Contains(line, "lines had errors") {
			t.Errorf("munin-update says: %s", line)
		}
	}
	t.Logf("%d rows of history, the last values of %d files of %d services", same, values, len(kinds))
	s.stop()
}

// A recorder stands between the watch process and a node, and notes what the node says.
type recorder struct {
	mu   sync.Mutex
	said []exchange
}

// exchange is a command and what the node answered.
type exchange struct {
	command string
	answer  bytes.Buffer
	at      time.Time // when the answer was whole, as far as we can tell
}

// record listens on the victim's loopback and hands everything on to a node.
func (s *watching) record(at string, to netip.AddrPort) *recorder {
	s.t.Helper()
	r := &recorder{}
	var l net.Listener
	if err := s.Victim.Do(func() (err error) { l, err = net.Listen("tcp", at); return err }); err != nil {
		s.t.Fatal(err)
	}
	var all sync.WaitGroup
	s.t.Cleanup(func() { _ = l.Close(); all.Wait() })
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // closed
			}
			node, err := s.Victim.Dial(to, answer)
			if err != nil {
				_ = conn.Close()
				continue
			}
			all.Go(func() { r.up(conn, node) })
			all.Go(func() { r.down(conn, node) })
		}
	})
	return r
}

// up hands on what the master asks. It waits for each answer, so a piece is a command.
func (r *recorder) up(master, node net.Conn) {
	defer node.Close()
	defer master.Close()
	buf := make([]byte, 4096)
	for {
		n, err := master.Read(buf)
		if err != nil {
			return
		}
		r.mu.Lock()
		r.said = append(r.said, exchange{command: strings.TrimSpace(string(buf[:n]))})
		r.mu.Unlock()
		if _, err := node.Write(buf[:n]); err != nil {
			return
		}
	}
}

func (r *recorder) down(master, node net.Conn) {
	defer node.Close()
	defer master.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := node.Read(buf)
		if err != nil {
			return
		}
		r.mu.Lock()
		if len(r.said) > 0 {
			last := &r.said[len(r.said)-1]
			last.answer.Write(buf[:n])
			last.at = time.Now()
		}
		r.mu.Unlock()
		if _, err := master.Write(buf[:n]); err != nil {
			return
		}
	}
}

// told is one value that the node gave.
type told struct {
	at    time.Time
	value float64
}

// values are what the node said of each field, "service.field", and of which type each is. It is read here by other means than
// those that are on trial.
func (r *recorder) values() (all map[string][]told, types map[string]string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	all, types = map[string][]told{}, map[string]string{}
	value, kind := regexp.MustCompile(`^(\w+)\.value (\S+)\s*$`), regexp.MustCompile(`^(\w+)\.type (\w+)`)
	for i := range r.said {
		e := &r.said[i]
		_, plugin, ok := strings.Cut(e.command, " ")
		if !ok || !strings.HasPrefix(e.command, "fetch ") && !strings.HasPrefix(e.command, "config ") {
			continue
		}
		service := regexp.MustCompile(`\W`).ReplaceAllString(plugin, "_")
		for line := range strings.Lines(e.answer.String()) {
			line = strings.TrimSuffix(line, "\n")
			if name, ok := strings.CutPrefix(line, "multigraph "); ok {
				service = name
			} else if m := kind.FindStringSubmatch(line); m != nil {
				types[service+"."+m[1]] = m[2]
			} else if m := value.FindStringSubmatch(line); m != nil {
				v, err := strconv.ParseFloat(m[2], 64)
				if err != nil {
					v = math.NaN()
				}
				all[service+"."+m[1]] = append(all[service+"."+m[1]], told{e.at, v})
			}
		}
	}
	return all, types
}

// munin-node's configuration; what differs is added.
const nodeConf = `log_level 4
log_file /var/log/munin/munin-node.log
pid_file /run/munin/munin-node.pid
background 0
setsid 0
user root
group root
host_name %s
cidr_allow 127.0.0.0/8
cidr_allow %s/32
host *
port 4949
ignore_file ~$
`

// muninNode starts Debian's munin-node on a host.
func (s *watching) muninNode(h *lab.Host, name string, of netip.Addr, more string) *lab.Proc {
	s.t.Helper()
	if err := h.Write("/etc/munin/munin-node.conf", fmt.Sprintf(nodeConf, name, of)+more, 0o644); err != nil {
		s.t.Fatal(err)
	}
	s.onHost(h, "mkdir -p /run/munin /var/log/munin")
	return s.daemon(h, "munin-node", "--foreground")
}

func (s *watching) onHost(h *lab.Host, script string) {
	s.t.Helper()
	if _, err := h.Script(s.ctx, script); err != nil {
		s.t.Fatal(err)
	}
}

// daemon starts a program on a host; what it says is told when the test has failed.
func (s *watching) daemon(h *lab.Host, name string, args ...string) *lab.Proc {
	s.t.Helper()
	path, err := lab.Look(name)
	if err != nil {
		s.t.Skip(err)
	}
	p, err := h.Start(exec.Command(path, args...))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		if s.t.Failed() {
			s.t.Logf("%s on %s said:\n%s", name, h.Name, p.Output())
		}
	})
	return p
}

// servers starts Debian's servers on a host, as far as they are installed, and returns the plugins for them.
func (s *watching) servers(h *lab.Host) (plugins []string) {
	s.t.Helper()
	put := func(name, text string) {
		if err := h.Write(name, text, 0o644); err != nil {
			s.t.Fatal(err)
		}
	}
	has := func(programs ...string) bool {
		for _, p := range programs {
			if _, err := lab.Look(p); err != nil {
				s.t.Logf("%v", err)
				return false
			}
		}
		return true
	}
	conf := "[nginx*]\nenv.url http://127.0.0.1/nginx_status\n[apache_*]\nenv.ports 81\n" +
		"[unbound*]\nuser root\nenv.unbound_conf /run/lab/unbound.conf\nenv.unbound_control /usr/sbin/unbound-control\n"
	if has("nginx") {
		put("/run/lab/nginx.conf", "daemon off; pid /run/lab/nginx.pid; error_log /var/log/nginx.err; user root; events {}\nhttp { access_log off; server { listen 127.0.0.1:80; location = /nginx_status { stub_status; } } }\n")
		s.daemon(h, "nginx", "-c", "/run/lab/nginx.conf", "-e", "/var/log/nginx.err")
		plugins = append(plugins, "nginx_request", "nginx_status")
	}
	if has("apache2") {
		put("/run/lab/apache.conf", `ServerRoot /run/lab
PidFile /run/lab/apache.pid
ErrorLog /var/log/apache.err
ServerName localhost
User www-data
Group www-data
Listen 127.0.0.1:81
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule authz_host_module /usr/lib/apache2/modules/mod_authz_host.so
LoadModule status_module /usr/lib/apache2/modules/mod_status.so
ExtendedStatus On
<Location /server-status>
SetHandler server-status
Require local
</Location>
`)
		s.daemon(h, "apache2", "-DFOREGROUND", "-f", "/run/lab/apache.conf")
		plugins = append(plugins, "apache_accesses", "apache_processes", "apache_volume")
	}
	if has("mariadbd", "mariadb-install-db", "mysqladmin") {
		s.onHost(h, `mkdir -p /run/mysqld /run/lab/db; chmod 755 /run/lab; chown mysql /run/mysqld /run/lab/db
mariadb-install-db --no-defaults --user=mysql --datadir=/run/lab/db --auth-root-authentication-method=socket --skip-test-db`)
		s.daemon(h, "mariadbd", "--no-defaults", "--user=mysql", "--datadir=/run/lab/db", "--socket=/run/mysqld/mysqld.sock", "--skip-networking",
			"--pid-file=/run/lab/db/pid", "--innodb-buffer-pool-size=16M")
		plugins = append(plugins, "mysql_bytes", "mysql_queries", "mysql_slowqueries", "mysql_threads")
	}
	if out, err := h.Script(s.ctx, `d=$(ls -d /usr/lib/postgresql/*/bin | tail -1); echo $d
install -d -o postgres /run/postgresql /run/lab/pg
cd /; setpriv --reuid postgres --regid postgres --clear-groups $d/initdb -D /run/lab/pg -A trust -U postgres --no-sync >/dev/null`); err != nil {
		s.t.Logf("no PostgreSQL: %v", err)
	} else {
		s.daemon(h, "setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups", strings.TrimSpace(out)+"/postgres", "-D", "/run/lab/pg", "-k", "/run/postgresql",
			"-c", "listen_addresses=", "-c", "fsync=off")
		plugins = append(plugins, "postgres_connections_ALL", "postgres_connections_db", "postgres_locks_ALL", "postgres_size_ALL", "postgres_users", "postgres_transactions_ALL")
	}
	if has("unbound", "unbound-control") {
		put("/run/lab/unbound.conf", `server:
  directory: "/run/lab"
  chroot: ""
  username: ""
  interface: 127.0.0.1
  pidfile: /run/lab/unbound.pid
  use-syslog: no
  logfile: /var/log/unbound.log
  extended-statistics: yes
  module-config: "iterator"
remote-control:
  control-enable: yes
  control-interface: /run/lab/unbound.ctl
`)
		s.daemon(h, "unbound", "-d", "-c", "/run/lab/unbound.conf")
		plugins = append(plugins, "unbound_munin_hits", "unbound_munin_memory", "unbound_munin_queue")
	}
	if has("postfix", "sendmail") {
		// A mail for nobody in reach waits.
		if _, err := h.Script(s.ctx, `mount -t tmpfs -o mode=755 mail /var/spool/postfix; mount -t tmpfs -o mode=755 mail /var/lib/postfix; chown postfix /var/lib/postfix
postconf -e inet_interfaces=127.0.0.1 inet_protocols=ipv4 myhostname=mail.example mydestination=localhost maillog_file=/var/log/mail.log smtp_tls_security_level=none smtpd_tls_security_level=none
touch /var/log/mail.log; chmod 644 /var/log/mail.log
postfix set-permissions >/dev/null 2>&1 || true
postfix start
echo hello | sendmail -f root@mail.example somebody@192.0.2.200.example`); err != nil {
			s.t.Logf("no Postfix: %v", err)
		} else {
			conf += "[postfix_mailvolume]\ngroup root\nuser root\nenv.logfile mail.log\n[postfix_mailstats]\nuser root\ngroup root\n"
			plugins = append(plugins, "postfix_mailqueue", "postfix_mailvolume")
		}
	}
	put("/etc/munin/plugin-conf.d/zz-test", conf)
	links := "mkdir -p /var/lib/munin-node\nmount -t tmpfs node /var/lib/munin-node\nmkdir -m 777 /var/lib/munin-node/plugin-state\ncd /etc/munin/plugins\nrm -f munin_stats\n"
	for _, p := range append([]string{"if_victim", "if_err_victim", "tcp", "df_abs"}, plugins...) {
		links += fmt.Sprintf("for f in %[1]s $(echo %[1]s | sed 's/[^_]*$//'); do [ ! -e /usr/share/munin/plugins/$f ] || { ln -sf /usr/share/munin/plugins/$f %[1]s; break; }; done\n", p)
	}
	s.onHost(h, links)
	return plugins
}

// TestPollsRealNode asks Debian's munin-node, with its default plugins and those of real servers, over a link: what is stored is
// what the node said. When the node dies the server stays and is unknown since then; when it is back it is read again.
func TestPollsRealNode(t *testing.T) {
	s := watch(t, 5*time.Minute)
	need(t, "munin-node")
	node := s.Honest
	plugins := s.servers(node)
	first := s.muninNode(node, "web1.example", lab.VictimHonest, "")
	r := s.record("127.0.0.1:4950", lab.At(lab.Honest, 4949))
	s.begin("[watch]\nname = \"victim\"\nmunin_plugins = \"\"\n[[watch.node]]\nname = \"web1\"\ngroup = \"Gandi\"\naddress = \"munin://127.0.0.1:4950\"\ninterval = \"10s\"\n")
	s.within(4*answer, "four polls", func() (bool, error) {
		found := s.query(`count_over_time(munin{node="web1",service="load",field="load"}[10m])`)
		if len(found) != 1 {
			return false, nil
		}
		_, n := number(found[0].Value)
		return n >= 4, nil
	})
	curves := s.query(`munin{group="Gandi",node="web1"}[10m]`) // first: what is told from here on need not be stored yet
	s.compare(r, curves, append([]string{"cpu", "df", "diskstats", "load", "memory", "if_victim", "processes", "uptime", "vmstat"}, plugins...))

	if got := s.server("web1"); got.State != "ok" || got.Since != nil || got.Services < 20 {
		t.Errorf("while it answers: %+v", got)
	}
	first.Kill()
	s.within(4*answer, "the node to be unknown", func() (bool, error) { return s.server("web1").State == "unknown", nil })
	if got := s.server("web1"); got.Since == nil || got.Why == "" || got.Services < 20 {
		t.Errorf("while it is dead: %+v", got)
	}
	second := s.muninNode(node, "web1.example", lab.VictimHonest, "")
	s.within(8*answer, "the node to be back", func() (bool, error) { return s.server("web1").State == "ok", nil })
	if err := second.Stop(answer); err != nil {
		t.Log(err)
	}
	s.stop()
}

// compare says whether what is stored is what the node said.
func (s *watching) compare(r *recorder, curves []curve, services []string) {
	s.t.Helper()
	all, types := r.values()
	stored := map[string]int{} // values by service
	gauges, rates := 0, 0
	for _, c := range curves {
		name := c.Metric["service"] + "." + c.Metric["field"]
		said := all[name]
		if len(said) == 0 {
			s.t.Errorf("%s is stored, and the node never said it", name)
			continue
		}
		i := 0
		for _, v := range c.Values {
			at, value := number(v)
			stored[c.Metric["service"]]++
			for i < len(said) && math.Abs(float64(said[i].at.UnixMilli())/1000-at) > 4 {
				i++
			}
			switch kind := types[name]; {
			case i == len(said):
				s.t.Errorf("%s: the node said nothing when %v is stored of it", name, time.UnixMilli(int64(at*1000)))
			case kind == "" || kind == "GAUGE":
				gauges++
				if math.Abs(said[i].value-value) > 1e-9*math.Abs(value) {
					s.t.Errorf("%s is %v, and the node said %v", name, value, said[i].value)
				}
			case i > 0 && (kind == "DERIVE" || kind == "COUNTER"):
				rates++
				want := (said[i].value - said[i-1].value) / said[i].at.Sub(said[i-1].at).Seconds()
				if math.Abs(want-value) > 0.2*math.Abs(want)+1e-9 {
					s.t.Errorf("%s is %v a second, and the node said %v, then %v after %v: %v", name, value, said[i-1].value, said[i].value, said[i].at.Sub(said[i-1].at), want)
				}
			}
			if i == len(said) {
				break
			}
		}
	}
	for _, name := range services {
		if !slices.ContainsFunc(curves, func(c curve) bool {
			return c.Metric["service"] == name || strings.HasPrefix(c.Metric["service"], name+"_") || strings.HasPrefix(c.Metric["service"], name+".")
		}) {
			s.t.Errorf("nothing is stored of %s; the node said %q", name, r.answerTo("fetch "+name))
		}
	}
	if gauges < 300 || rates < 150 {
		s.t.Errorf("only %d gauges and %d rates were compared", gauges, rates)
	}
	s.t.Logf("%d series of %d services: %d gauges and %d rates are what the node said", len(curves), len(stored), gauges, rates)
}

// answerTo is the last answer to a command.
func (r *recorder) answerTo(command string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range slices.Backward(r.said) {
		if r.said[i].command == command {
			return r.said[i].answer.String()
		}
	}
	return ""
}

// ticking is a plugin that says what time it is.
const ticking = "#!/bin/sh\nif [ \"$1\" = config ]; then echo graph_title Clock; echo now.label now; echo ticks.label ticks; echo ticks.type DERIVE; else s=$(date +%s); echo now.value $s; echo ticks.value $s; fi\n"

// cmdNode is a munin-node of a few lines, to be run as a command.
const cmdNode = `#!/bin/sh
echo "# munin node at cmd1"
while read -r word rest; do
	case $word in
	cap) echo "cap multigraph dirtyconfig" ;;
	list) echo clock ;;
	nodes) printf 'cmd1\n.\n' ;;
	config) /run/lab/clock config; echo . ;;
	fetch) /run/lab/clock; echo . ;;
	quit) exit ;;
	*) echo "# Unknown command." ;;
	esac
done
`

// TestPollsOtherWays asks one munin-node over TLS, a program of this machine, and Debian's munin-async over ssh. When the network
// is down for a while, what munin-asyncd read meanwhile comes in later, with its own times.
func TestPollsOtherWays(t *testing.T) {
	s := watch(t, 5*time.Minute)
	const asyncd, async = "/usr/share/munin/munin-asyncd", "/usr/share/munin/munin-async"
	need(t, "munin-node", "openssl", "ssh", "sshd", asyncd)
	node := s.Attacker
	s.onHost(node, `rm -rf /etc/munin/plugins; mkdir -p /etc/munin/plugins /run/lab/spool
mkdir -p /var/lib/munin-node; mount -t tmpfs node /var/lib/munin-node; mkdir -m 777 /var/lib/munin-node/plugin-state
cd /run/lab; openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=mail1 -keyout key.pem -out cert.pem -days 2 2>/dev/null
rm -rf /etc/ssh/sshd_config.d /etc/ssh/ssh_host_*; mkdir -p /run/sshd; ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key`)
	if err := node.Write("/etc/munin/plugins/clock", ticking, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := node.Write("/etc/ssh/sshd_config", "Port 22\nUsePAM no\nStrictModes no\nPermitRootLogin prohibit-password\nAuthorizedKeysFile /run/lab/authorized\n", 0o644); err != nil {
		t.Fatal(err)
	}
	s.script(fmt.Sprintf("ssh-keygen -q -t ed25519 -N '' -f /run/lab/watch-key; chown %d /run/lab/watch-key", watchUser))
	key, err := s.Victim.Read("/run/lab/watch-key.pub")
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Write("/run/lab/authorized", "restrict "+key, 0o644); err != nil {
		t.Fatal(err)
	}
	host, err := node.Read("/etc/ssh/ssh_host_ed25519_key.pub")
	if err != nil {
		t.Fatal(err)
	}
	s.write("/run/lab/known_hosts", lab.Attacker.String()+" "+host, 0o644)
	s.write("/etc/ssh/ssh_config", "Host "+lab.Attacker.String()+"\n\tIdentityFile /run/lab/watch-key\n\tUserKnownHostsFile /run/lab/known_hosts\n\tConnectTimeout 5\n", 0o644)
	s.write("/run/lab/clock", ticking, 0o755)
	s.write("/run/lab/cmdnode", cmdNode, 0o755)

	s.muninNode(node, "mail1.example", lab.VictimAttacker, "tls auto\ntls_private_key /run/lab/key.pem\ntls_certificate /run/lab/cert.pem\n")
	s.daemon(node, "sshd", "-D")
	s.within(answer, "munin-node", func() (bool, error) { return s.Victim.Connect(lab.At(lab.Attacker, 4949), answer) == nil, nil })
	s.daemon(node, asyncd, "--host", "127.0.0.1:4949", "--spooldir", "/run/lab/spool", "--minrate", "10")
	ca, err := node.Read("/run/lab/cert.pem")
	if err != nil {
		t.Fatal(err)
	}
	s.write("/run/lab/ca.pem", ca, 0o644)
	s.begin(fmt.Sprintf(`[watch]
name = "victim"
munin_plugins = ""
[[watch.node]]
name = "tls1"
address = "munin://%[1]s:4949"
tls = true
tls_ca = "/run/lab/ca.pem"
interval = "10s"
[[watch.node]]
name = "cmd1"
address = "cmd:///run/lab/cmdnode"
interval = "10s"
[[watch.node]]
name = "async1"
address = "ssh://root@%[1]s%[2]s --spooldir /run/lab/spool --spoolfetch"
interval = "10s"
`, lab.Attacker, async))

	// clock is what is stored of the clock of a server.
	clock := func(name, field string) (at, values []float64) {
		t.Helper()
		for _, c := range s.query(`munin{node="` + name + `",service="clock",field="` + field + `"}[15m]`) { // of a longer range there would be steps of five minutes
			for _, v := range c.Values {
				when, value := number(v)
				at, values = append(at, when), append(values, value)
			}
		}
		return at, values
	}
	for _, name := range []string{"tls1", "cmd1", "async1"} {
		s.within(4*answer, "three values of "+name, func() (bool, error) { at, _ := clock(name, "now"); return len(at) >= 3, nil })
	}

	s.onHost(node, "nft add table inet cut; nft add chain inet cut input '{ type filter hook input priority 0; }'; nft add rule inet cut input iifname victim drop")
	cut := time.Now()
	s.within(4*answer, "the server to be unknown", func() (bool, error) { return s.server("async1").State == "unknown", nil })
	for time.Since(cut) < 40*time.Second {
		time.Sleep(time.Second) // it is as long as it must be for a gap to be seen
	}
	s.onHost(node, "nft delete table inet cut")
	whole := time.Now()
	s.within(8*answer, "the server to be back", func() (bool, error) {
		at, _ := clock("async1", "now")
		return s.server("async1").State == "ok" && at[len(at)-1] > float64(whole.Unix()), nil
	})

	during := 0
	at, values := clock("async1", "now")
	for i := range at {
		if math.Abs(values[i]-at[i]) > 10 {
			t.Errorf("a value of %v is stored as of %v", values[i], at[i])
		}
		if i > 0 && at[i]-at[i-1] > 45 {
			t.Errorf("nothing is stored of %v s", at[i]-at[i-1])
		}
		if at[i] > float64(cut.Unix()+5) && at[i] < float64(whole.Unix()-5) {
			during++
		}
	}
	if during < 1 {
		t.Errorf("nothing of the %v without a network; %d values", whole.Sub(cut), len(at))
	}
	for _, name := range []string{"tls1", "cmd1", "async1"} {
		_, rates := clock(name, "ticks")
		for _, v := range rates {
			if v < 0.7 || v > 1.4 {
				t.Errorf("%s: %v ticks a second", name, v)
			}
		}
		if len(rates) < 2 {
			t.Errorf("%s: %d rates", name, len(rates))
		}
	}
	t.Logf("%d values of %v without a network came in later", during, whole.Sub(cut).Round(time.Second))
	s.stop()
}
