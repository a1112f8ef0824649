package probe

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// realServer is a server of Debian's that is started in a folder of its own. $D in its files and words is that folder, $P a
// free port.
type realServer struct {
	name   string
	needs  []string // programs; a pattern's newest
	probe  *Probe
	files  map[string]string
	before []string                    // a command to be run first
	run    []string                    // stays in the foreground
	want   []string                    // fields with a value that must be read
	after  func(t *testing.T, h *Host) // what more is to be tried
	as     string                      // user that it runs as, "" for root
}

var realServers = []realServer{
	{
		name: "nginx", needs: []string{"nginx"}, probe: &nginxProbe,
		files: map[string]string{
			"etc/nginx/conf.d/x.conf": "server { listen 127.0.0.1:$P; location = /numbers { stub_status; } }",
			"main":                    "daemon off; pid $D/pid; error_log $D/err; user root; events {}\nhttp { access_log off; include $D/etc/nginx/conf.d/*.conf; }",
		},
		run: []string{"$0", "-c", "$D/main", "-e", "$D/err"}, want: []string{"nginx_request request", "nginx_status writing"},
	}, {
		name: "Apache", needs: []string{"apache2"}, probe: &apacheProbe,
		files: map[string]string{
			"etc/apache2/ports.conf": "Listen 127.0.0.1:$P\n",
			"etc/apache2/apache2.conf": `ServerRoot $D
PidFile $D/pid
ErrorLog $D/err
ServerName localhost
User www-data
Group www-data
Include $D/etc/apache2/ports.conf
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule authz_host_module /usr/lib/apache2/modules/mod_authz_host.so
LoadModule status_module /usr/lib/apache2/modules/mod_status.so
ExtendedStatus On
<Location /server-status>
SetHandler server-status
Require local
</Location>
`,
		},
		run: []string{"$0", "-DFOREGROUND", "-f", "$D/etc/apache2/apache2.conf"}, want: []string{"apache_accesses accesses$P", "apache_processes busy$P"},
	}, {
		name: "PHP-FPM", needs: []string{"/usr/sbin/php-fpm*"}, probe: &phpfpmProbe,
		files: map[string]string{
			"etc/php/1/fpm/pool.d/www.conf": "[www]\nuser=www-data\nlisten=/fpm.sock\npm=static\npm.max_children=2\npm.status_path=/status\n",
			"main":                          "[global]\npid=$D/pid\nerror_log=$D/err\ndaemonize=no\n[www]\nuser=www-data\nlisten=$D/fpm.sock\npm=static\npm.max_children=2\npm.status_path=/status\n",
		},
		run: []string{"$0", "-n", "-y", "$D/main"}, want: []string{"php_fpm_status total", "phpfpm_connections www"},
	}, {
		name: "MariaDB", needs: []string{"mariadbd", "mariadb-install-db"}, probe: &mariadbProbe,
		files:  map[string]string{"run/mysqld/x": ""},
		before: []string{"$1", "--no-defaults", "--user=root", "--datadir=$D/data", "--auth-root-authentication-method=socket", "--skip-test-db"},
		run:    []string{"$0", "--no-defaults", "--user=root", "--datadir=$D/data", "--socket=$D/run/mysqld/mysqld.sock", "--skip-networking", "--pid-file=$D/pid", "--innodb-buffer-pool-size=16M"},
		want:   []string{"mysql_commands Com_select", "mysql_connections max_connections", "mysql_connections Threads_connected", "mysql_innodb_bpool ib_bpool_size"},
	}, {
		name: "Unbound", needs: []string{"unbound"}, probe: &unboundProbe,
		files: map[string]string{"etc/unbound/unbound.conf": "remote-control: control-enable: yes\n control-interface: /ub.ctl\n", "main": `server:
  directory: "$D"
  chroot: ""
  username: ""
  interface: 127.0.0.1@$P
  pidfile: $D/pid
  use-syslog: no
  logfile: $D/err
  extended-statistics: yes
  module-config: "iterator"
remote-control:
  control-enable: yes
  control-interface: $D/ub.ctl
`},
		run: []string{"$0", "-d", "-c", "$D/main"}, want: []string{"unbound_munin_hits t_n_queries", "unbound_munin_memory m_c_rrset", "unbound_munin_by_rcode n_a_r_NOERROR"},
	}, {
		name: "Unbound with certificates", needs: []string{"unbound", "unbound-control-setup", "openssl"}, probe: &unboundProbe,
		files: map[string]string{
			"etc/unbound/unbound.conf": "remote-control:\n control-enable: yes\n control-port: $P\n server-cert-file: /unbound_server.pem\n control-key-file: /unbound_control.key\n control-cert-file: /unbound_control.pem\n",
			"main": `server:
  directory: "$D"
  chroot: ""
  username: ""
  interface: 127.0.0.1@$P
  do-tcp: no
  pidfile: $D/pid
  use-syslog: no
  logfile: $D/err
  module-config: "iterator"
remote-control:
  control-enable: yes
  control-interface: 127.0.0.1
  control-port: $P
  server-key-file: $D/unbound_server.key
  server-cert-file: $D/unbound_server.pem
  control-key-file: $D/unbound_control.key
  control-cert-file: $D/unbound_control.pem
`,
		},
		before: []string{"$1", "-d", "$D"},
		run:    []string{"$0", "-d", "-c", "$D/main"}, want: []string{"unbound_munin_hits t_n_queries", "unbound_munin_queue t_ql_max"},
		after: func(t *testing.T, h *Host) {
			other, err := os.ReadFile(h.at("unbound_control.pem"))
			if err != nil {
				t.Fatal(err)
			}
			put(t, h.Root, map[string]string{"unbound_server.pem": string(other)})
			r, err := unboundProbe.New(h)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := r.Read(t.Context()); err == nil || !strings.Contains(err.Error(), "somebody else than Unbound listens there") {
				t.Errorf("with another certificate than the one on disk: %v", err)
			}
		},
	}, {
		name: "BIND", needs: []string{"named"}, probe: &bindProbe,
		files: map[string]string{"etc/bind/named.conf": `options { directory "$D"; listen-on { none; }; listen-on-v6 { none; }; pid-file "$D/pid"; session-keyfile none; recursion no; dnssec-validation no; };
controls { };
statistics-channels { inet 127.0.0.1 port $P allow { 127.0.0.1; }; };
`},
		run: []string{"$0", "-f", "-c", "$D/etc/bind/named.conf"}, want: []string{"bind9_rndc query_requests", "bind_cache hits"},
	}, {
		name: "PostgreSQL", needs: []string{"/usr/lib/postgresql/*/bin/postgres", "/usr/lib/postgresql/*/bin/initdb"}, probe: &postgresqlProbe, as: "postgres",
		files:  map[string]string{"run/postgresql/x": ""},
		before: []string{"$1", "-D", "$D/data", "-A", "trust", "-U", "root", "--no-sync"},
		run:    []string{"$0", "-D", "$D/data", "-k", "$D/run/postgresql", "-c", "listen_addresses=", "-c", "fsync=off"},
		want:   []string{"postgres_connections_ALL active", "postgres_transactions_ALL commit", "postgres_size_ALL postgres", "postgres_xlog segments", "postgres_bgwriter buffers_alloc"},
	},
}

// TestRealServers starts each server that is installed, and reads it.
func TestRealServers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("servers are started as root")
	}
	if testing.Short() {
		t.Skip("starting servers takes long")
	}
	for _, s := range realServers {
		t.Run(s.name, func(t *testing.T) { s.test(t) })
	}
}

func (s *realServer) test(t *testing.T) {
	var programs []string
	for _, n := range s.needs {
		path, err := exec.LookPath(n)
		if found, _ := filepath.Glob(n); len(found) > 0 {
			path, err = found[len(found)-1], nil
		}
		if err != nil {
			t.Skipf("%s is not installed", n)
		}
		programs = append(programs, path)
	}
	// Names of sockets are short.
	dir, err := os.MkdirTemp("/tmp", "tocsin")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	_, port, _ := net.SplitHostPort(unused(t))
	words := []string{"$D", dir, "$P", port}
	for i, p := range programs {
		words = append(words, fmt.Sprintf("$%d", i), p)
	}
	fill := strings.NewReplacer(words...)
	files := map[string]string{}
	for name, text := range s.files {
		files[name] = fill.Replace(text)
	}
	put(t, dir, files)
	attr := &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if s.as != "" {
		u, err := user.Lookup(s.as)
		if err != nil {
			t.Skip(err)
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := filepath.Walk(dir, func(path string, _ os.FileInfo, err error) error { return errors.Join(err, os.Chown(path, uid, gid)) }); err != nil {
			t.Fatal(err)
		}
	} else if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	command := func(args []string) *exec.Cmd {
		var filled []string
		for _, a := range args {
			filled = append(filled, fill.Replace(a))
		}
		cmd := exec.Command(filled[0], filled[1:]...)
		cmd.SysProcAttr, cmd.Dir = attr, dir
		return cmd
	}
	if s.before != nil {
		if out, err := command(s.before).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", s.before[0], err, out)
		}
	}
	cmd := command(s.run)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		cmd.Wait()
		if t.Failed() {
			err, _ := os.ReadFile(dir + "/err")
			t.Logf("%s said: %s%s", s.name, out.String(), err)
		}
	})
	h := NewHost()
	h.Root = dir
	s.await(t, h, fill)
	if s.after != nil {
		s.after(t, h)
	}
}

// await reads until the server answers, and then once more.
func (s *realServer) await(t *testing.T, h *Host, fill *strings.Replacer) {
	var r Reader
	var err error
	for deadline := time.Now().Add(5 * time.Minute); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if r, err = s.probe.New(h); err != nil {
			continue
		}
		if _, err = r.Read(t.Context()); err == nil {
			break
		}
	}
	if err != nil {
		t.Fatalf("it is not read: %v", err)
	}
	rs, err := r.Read(t.Context())
	if err != nil {
		t.Fatalf("it is not read again: %v", err)
	}
	values := map[string]float64{}
	for _, r := range rs {
		for _, v := range r.Values {
			values[r.Service.Name+" "+v.Field] = v.V
		}
	}
	for _, want := range s.want {
		if v, ok := values[fill.Replace(want)]; !ok || v != v {
			t.Errorf("%s is %v, known: %v", fill.Replace(want), v, ok)
		}
	}
	t.Logf("%d values in %d services", len(values), len(rs))
}
