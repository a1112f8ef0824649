package probe

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/fcgi"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestPages reads what real servers of Debian 12 answered.
func TestPages(t *testing.T) {
	for name, parse := range map[string]func([]byte, place) ([]Reading, error){
		"nginx": parseNginx, "apache": parseApache, "bind": parseBind,
		"unbound": func(b []byte, _ place) ([]Reading, error) { return parseUnbound(b) },
	} {
		text, err := os.ReadFile("testdata/services/" + name)
		if err != nil {
			t.Fatal(err)
		}
		rs, err := parse(text, place{url: "http://127.0.0.1:18081/server-status?auto"})
		if err != nil {
			t.Fatal(err)
		}
		golden(t, "testdata/services/"+name+".read", dump(rs))
		for _, bad := range []string{"", "<html>It works!</html>", "{}", "null", "error not allowed\n", strings.Repeat("x", 1<<16)} {
			if rs, err := parse([]byte(bad), place{url: "http://127.0.0.1/"}); err == nil {
				t.Errorf("%s of %.20q: %d readings and no error", name, bad, len(rs))
			}
		}
	}
}

// put writes files below a folder.
func put(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// unused is an address of loopback on which nobody listens, and which nobody else is given while the test runs. A server that
// the test starts can have it.
func unused(t *testing.T) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	err = errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	if err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", name.(*unix.SockaddrInet4).Port)
}

func TestNginx(t *testing.T) {
	page, err := os.ReadFile("testdata/services/nginx")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex // held by the handler and by whoever changes or reads these
	var asked []string
	answer := func(w http.ResponseWriter, r *http.Request) { w.Write(page) }
	from := func(f func(w http.ResponseWriter, r *http.Request)) {
		mu.Lock()
		defer mu.Unlock()
		answer = f
	}
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { t.Error("somebody followed a redirect") }))
	defer elsewhere.Close()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked = append(asked, r.Host+r.URL.Path)
		f := answer
		mu.Unlock()
		f(w, r)
	}))
	defer s.Close()
	dir := t.TempDir()
	h := hostAt(dir)
	if _, err := nginxProbe.New(h); err == nil {
		t.Error("nginx is on where there is none")
	}
	put(t, dir+"/root", map[string]string{"etc/nginx/sites-enabled/x": `
		# server { listen 1; location /no { stub_status; } }
		server { listen ` + unused(t) + `; location /dead { stub_status; } }
		server {
			listen unix:/run/x.sock; listen ` + s.Listener.Addr().String() + ` default_server;
			server_name "status.example" other;
			location ~ \.php$ { fastcgi_pass unix:/x; }
			location = /numbers { stub_status on; allow 127.0.0.1; deny all; }
		}`})
	r, err := nginxProbe.New(h)
	if err != nil {
		t.Fatal(err)
	}
	rs, err := r.Read(t.Context())
	mu.Lock()
	if err != nil || len(rs) != 3 || !slices.Equal(asked, []string{"status.example/numbers", "status.example/numbers"}) {
		t.Errorf("%d readings, %v, asked for %q", len(rs), err, asked)
	}
	mu.Unlock()
	for name, a := range map[string]func(w http.ResponseWriter, r *http.Request){
		"403":      func(w http.ResponseWriter, r *http.Request) { http.Error(w, "no", http.StatusForbidden) },
		"redirect": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, http.StatusFound) },
		"too long": func(w http.ResponseWriter, r *http.Request) { io.CopyN(w, zeros{}, maxStatusPage+1) },
		"html":     func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "<html>") },
		"hung up":  func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) },
		"cut short": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "100")
			w.Write(page[:20])
		},
	} {
		from(a)
		if rs, err := r.Read(t.Context()); err == nil {
			t.Errorf("%s: %d readings and no error", name, len(rs))
		}
	}
	from(func(w http.ResponseWriter, r *http.Request) { w.Write(page) })
	if rs, err := r.Read(t.Context()); err != nil || len(rs) != 3 {
		t.Errorf("after all that: %d readings, %v", len(rs), err)
	}
	s.Close()
	if _, err := r.Read(t.Context()); err == nil || !strings.Contains(err.Error(), "no nginx listens at http://"+s.Listener.Addr().String()+"/numbers any more") {
		t.Errorf("a server that went: %v", err)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func TestNginxPlaces(t *testing.T) {
	tests := []struct{ conf, want string }{
		{"server { location /s { stub_status; } }", "http://127.0.0.1/s"},
		{"http { server { listen 8080; location = /s { allow all; stub_status; } } }", "http://127.0.0.1:8080/s"},
		{"server { listen [::]:81; location /s { stub_status; } }", "http://[::1]:81/s"},
		{"server { listen 443 ssl; server_name a.example; location /s { stub_status; } }", "https://127.0.0.1:443/s a.example"},
		{"server { listen 80; server_name _; location /s { stub_status; } }", "http://127.0.0.1/s"},
		{"server { listen 192.0.2.1:80; location /s { stub_status; } }", "http://192.0.2.1/s"},
		{"server { listen unix:/x; location /s { stub_status; } }", ""},
		{"server { location ~ s { stub_status; } }", ""},
		{"# server { location /s { stub_status; } }", ""},
		{"server { location /s { return 200 '{ stub_status; }'; } }", ""},
		{"}}}; server { ; stub_status; }", ""},
		{"server { location /s { stub_status", ""},
	}
	for _, tt := range tests {
		got := ""
		for _, p := range nginxPlaces([][]byte{[]byte(tt.conf)}) {
			got += strings.TrimSpace(p.url + " " + p.host)
		}
		if got != tt.want {
			t.Errorf("%s\n leads to %q, want %q", tt.conf, got, tt.want)
		}
	}
}

func TestApache(t *testing.T) {
	page, err := os.ReadFile("testdata/services/apache")
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.String() != "/server-status?auto" || r.Host != "localhost" {
			http.NotFound(w, r)
			return
		}
		w.Write(page)
	}))
	defer s.Close()
	dir := t.TempDir()
	put(t, dir+"/root", map[string]string{"etc/apache2/apache2.conf": "", "etc/apache2/ports.conf": "# Listen 1\nListen " + unused(t) + "\n<IfModule ssl_module>\n\tListen " + s.Listener.Addr().String() + "\n</IfModule>\n"})
	r, err := apacheProbe.New(hostAt(dir))
	if err != nil {
		t.Fatal(err)
	}
	rs, err := r.Read(t.Context())
	u, _ := url.Parse(s.URL)
	if err != nil || len(rs) != 4 || rs[0].Values[0].Field != "accesses"+u.Port() || rs[0].Values[0].V != 3 {
		t.Errorf("%v, %s", err, dump(rs))
	}
	s.Close()
	r.Read(t.Context())
	if _, err := r.Read(t.Context()); err == nil || err.Error() != "Apache is installed, but does not listen" {
		t.Errorf("nobody listens: %v", err)
	}
}

func TestBindPlaces(t *testing.T) {
	tests := []struct{ conf, want string }{
		{"statistics-channels { inet 127.0.0.1 port 8053 allow { 127.0.0.1; }; };", "http://127.0.0.1:8053/json/v1/server"},
		{"statistics-channels { inet * port 8053 allow { any; }; inet ::1 port 8054; }; controls { inet 127.0.0.1 port 953; };", "http://127.0.0.1:8053/json/v1/server http://[::1]:8054/json/v1/server"},
		{"statistics-channels { inet 127.0.0.1; };", "http://127.0.0.1/json/v1/server"},
		{"// statistics-channels { inet 127.0.0.1; };\n/* statistics-channels { inet 127.0.0.1; }; */", ""},
		{"controls { inet 127.0.0.1 port 953 allow { localhost; }; };", ""},
		{"statistics-channels { inet", ""},
	}
	for _, tt := range tests {
		var got []string
		for _, p := range bindPlaces([][]byte{[]byte(tt.conf)}) {
			got = append(got, p.url)
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%s\n leads to %q, want %q", tt.conf, got, tt.want)
		}
	}
}

func TestPHPFPM(t *testing.T) {
	dir := t.TempDir()
	h := hostAt(dir)
	answer := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/status" || r.URL.RawQuery != "json" {
			http.NotFound(w, r)
			return
		}
		io.WriteString(w, `{"pool":"www","process manager":"dynamic","start time":1795391548,"start since":5,"accepted conn":7,"listen queue":1,"max listen queue":2,"listen queue len":511,"idle processes":1,"active processes":3,"total processes":4,"max active processes":3,"max children reached":5,"slow requests":6}`)
	}
	for _, pool := range []string{"www", "shop"} {
		put(t, dir+"/root", map[string]string{"etc/php/8.2/fpm/pool.d/" + pool + ".conf": "; comment\n[global]\nlisten = /no\n[" + pool + "]\nuser = x\nlisten = /$pool.sock ; here\npm.status_path = /status\n"})
		l, err := net.Listen("unix", dir+"/root/"+pool+".sock")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go fcgi.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { answer(w, r) }))
	}
	r, err := phpfpmProbe.New(h)
	if err != nil {
		t.Fatal(err)
	}
	rs, err := r.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/services/phpfpm.read", dump(rs))

	if err := os.Remove(dir + "/root/shop.sock"); err != nil {
		t.Fatal(err)
	}
	if rs, err := r.Read(t.Context()); err == nil || !strings.Contains(err.Error(), "pool shop") || len(rs) != 6 {
		t.Errorf("with a pool that is gone: %d readings, %v", len(rs), err)
	}
	if err := os.Remove(dir + "/root/www.sock"); err != nil {
		t.Fatal(err)
	}
	_, err = r.Read(t.Context())
	if why, off := IsOff(err); !off || !strings.Contains(why, "no pool of PHP-FPM answers") {
		t.Errorf("without any pool: %v", err)
	}

	put(t, dir+"/root", map[string]string{"etc/php/8.2/fpm/pool.d/www.conf": "[www]\nlisten=/x\n;pm.status_path = /status\n", "etc/php/8.2/fpm/pool.d/shop.conf": ""})
	_, err = phpfpmProbe.New(h)
	if why, off := IsOff(err); !off || !strings.Contains(why, "pm.status_path = /status") {
		t.Errorf("without a status path: %v", err)
	}
}

// TestFastCGIHostile has servers that answer nonsense, and one that never stops.
func TestFastCGIHostile(t *testing.T) {
	record := func(kind byte, content string) string {
		return string([]byte{1, kind, 0, 1, byte(len(content) >> 8), byte(len(content)), 0, 0}) + content
	}
	for name, answer := range map[string]string{
		"nothing": "", "torn": "\x01\x06\x00", "torn content": "\x01\x06\x00\x01\x00\xff\x00\x00x",
		"no head": record(fcgiStdout, "{}") + record(fcgiEnd, "\x00\x00\x00\x00\x00\x00\x00\x00"),
		"404":     record(fcgiStdout, "Status: 404 Not Found\r\n\r\nFile not found.") + record(fcgiEnd, ""),
		"no JSON": record(fcgiStdout, "Status: 200 OK\r\n\r\n<html>") + record(fcgiEnd, ""),
		"empty":   record(fcgiStdout, "A: b\r\n\r\n{}") + record(fcgiEnd, ""),
		"endless": strings.Repeat(record(fcgiStderr, strings.Repeat("x", 60000)), 20),
	} {
		a, b := net.Pipe()
		go func() {
			go io.Copy(io.Discard, b)
			io.WriteString(b, answer)
			b.Close()
		}()
		body, err := askFastCGI(a, "/status", "json")
		if err == nil {
			_, err = parseFPM(body)
		}
		if err == nil {
			t.Errorf("%s: no error", name)
		}
		a.Close()
	}
}

func TestUnbound(t *testing.T) {
	text, err := os.ReadFile("testdata/services/unbound")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	h := hostAt(dir)
	conf := map[string]string{"etc/unbound/unbound.conf": "server:\n  port: 53\nremote-control:\n  control-enable: no\n"}
	put(t, dir+"/root", conf)
	if _, err := unboundProbe.New(h); err == nil || !strings.Contains(err.Error(), "control-enable: yes") {
		t.Errorf("switched off: %v", err)
	}
	put(t, dir+"/root", map[string]string{"etc/unbound/unbound.conf.d/control.conf": "remote-control: control-enable: yes\n  control-interface: \"/ub.ctl\" # here\n"})
	r, err := unboundProbe.New(h)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(t.Context()); err == nil {
		t.Error("no error although nobody listens")
	} else if _, off := IsOff(err); !off {
		t.Errorf("nobody listens: %v", err)
	}
	l, err := net.Listen("unix", dir+"/root/ub.ctl")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if line, _ := bufio.NewReader(c).ReadString('\n'); line == "UBCT1 stats_noreset\n" {
				c.Write(text)
			} else {
				io.WriteString(c, "error "+line)
			}
			c.Close()
		}
	}()
	rs, err := r.Read(t.Context())
	if err != nil || len(rs) != 5 {
		t.Errorf("%d readings, %v", len(rs), err)
	}
	if got := parseUnboundConf([][]byte{[]byte("remote-control:\n control-enable: yes\n control-interface: 0.0.0.0\n control-port: 8955\n control-use-cert: no")}); got.address != "127.0.0.1:8955" || !got.plain || got.socket != "" || !got.enabled {
		t.Errorf("%+v", got)
	}
}

// fakeMySQL answers like a server: method "" lets everybody in, another one is asked for first.
func fakeMySQL(t *testing.T, socket, method string, refuse bool, tables map[string][][2]string) (asked func() []string) {
	t.Helper()
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	var mu sync.Mutex
	var questions []string
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				in := bufio.NewReader(c)
				seq := byte(0)
				send := func(p string) {
					c.Write([]byte{byte(len(p)), byte(len(p) >> 8), byte(len(p) >> 16), seq})
					io.WriteString(c, p)
					seq++
				}
				read := func() (string, bool) {
					var head [4]byte
					if _, err := io.ReadFull(in, head[:]); err != nil {
						return "", false
					}
					p := make([]byte, int(head[0])|int(head[1])<<8|int(head[2])<<16)
					_, err := io.ReadFull(in, p)
					if head[3] != seq {
						t.Errorf("packet %d where %d was due", head[3], seq)
					}
					seq = head[3] + 1
					return string(p), err == nil
				}
				text := func(s string) string {
					if len(s) > 250 {
						return string(append([]byte{0xfc}, binary.LittleEndian.AppendUint16(nil, uint16(len(s)))...)) + s
					}
					return string([]byte{byte(len(s))}) + s
				}
				send("\x0a5.5.5-10.11.19-MariaDB\x00\x01\x00\x00\x00abcdefgh\x00\xfe\xf7\x21\x02\x00\xff\x81\x15" + strings.Repeat("\x00", 10) + "ijklmnopqrst\x00mysql_native_password\x00")
				login, ok := read()
				if !ok || !strings.Contains(login, "mysql_native_password") {
					t.Errorf("login %q", login)
				}
				if method != "" {
					send("\xfe" + method + "\x00")
					if answer, _ := read(); answer != "" {
						t.Errorf("a password of %d bytes", len(answer))
					}
				}
				if refuse {
					send("\xff\x15\x04#28000Access denied for user")
					return
				}
				send("\x00\x00\x00\x02\x00\x00\x00")
				for {
					seq = 0
					q, ok := read()
					if !ok {
						return
					}
					mu.Lock()
					questions = append(questions, q[1:])
					mu.Unlock()
					rows, ok := tables[q[1:]]
					if !ok {
						send("\xff\x28\x04#42000You have an error")
						continue
					}
					send("\x02")
					for _, column := range []string{"Variable_name", "Value"} {
						send(text("def") + text("") + text("") + text("") + text(column) + text(column) + "\x0c\x21\x00\x00\x02\x00\x00\xfd\x01\x00\x00\x00\x00")
					}
					send("\xfe\x00\x00\x22\x00")
					for _, row := range rows {
						send(text(row[0]) + text(row[1]))
					}
					send("\xfe\x00\x00\x22\x00")
				}
			}()
		}
	}()
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(questions)
	}
}

func TestMariaDB(t *testing.T) {
	dir := t.TempDir()
	h := hostAt(dir)
	if _, err := mariadbProbe.New(h); err == nil {
		t.Error("on without a server")
	}
	socket := dir + "/root/run/mysqld/mysqld.sock"
	put(t, dir+"/root", map[string]string{"run/mysqld/mysqld.pid": "1"})
	const vars = "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('max_connections', 'table_open_cache')"
	asked := fakeMySQL(t, socket, "unix_socket", false, map[string][][2]string{
		"SHOW GLOBAL STATUS": {
			{"Com_select", "12"}, {"Bytes_sent", "18446744073709551615"}, {"Rsa_public_key", strings.Repeat("x", 451)}, {"Threads_connected", "1"},
			{"Innodb_buffer_pool_pages_total", "8112"}, {"Slow_queries", "not a number"}, {"Uptime", "5"},
		},
		vars: {{"max_connections", "151"}},
	})
	r, err := mariadbProbe.New(h)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		rs, err := r.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		golden(t, "testdata/services/mariadb.read", dump(rs))
	}
	if want := []string{"SHOW GLOBAL STATUS", vars, "SHOW GLOBAL STATUS"}; !slices.Equal(asked(), want) {
		t.Errorf("asked %q, want %q over one connection", asked(), want)
	}
	r.(*mariadbReader).close()

	if err := os.Remove(socket); err != nil {
		t.Fatal(err)
	}
	_, err = r.Read(t.Context())
	if why, off := IsOff(err); !off || !strings.Contains(why, "nobody listens at ") {
		t.Errorf("nobody listens: %v", err)
	}
	fakeMySQL(t, socket, "", true, nil)
	_, err = r.Read(t.Context())
	if why, off := IsOff(err); !off || !strings.Contains(why, "IDENTIFIED VIA unix_socket") {
		t.Errorf("no account: %v", err)
	}
}

// TestMySQLHostile has servers that say what they should not.
func TestMySQLHostile(t *testing.T) {
	packet := func(seq byte, p string) string {
		return string([]byte{byte(len(p)), byte(len(p) >> 8), byte(len(p) >> 16), seq}) + p
	}
	for name, says := range map[string]string{
		"nothing": "", "huge": "\xff\xff\xff\x00", "empty": "\x00\x00\x00\x00", "error": packet(0, "\xff\x10\x04Too many connections"), "short error": packet(0, "\xff"),
		"old":           packet(0, "\x09x"),
		"asks for ever": packet(0, "\x0a") + strings.Repeat(packet(2, "\xfex\x00"), 9),
		"torn":          packet(0, "\x0a5.5")[:6],
	} {
		a, b := net.Pipe()
		go func() {
			go io.Copy(io.Discard, b)
			io.WriteString(b, says)
			b.Close()
		}()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		if _, err := newMySQL(ctx, a, "root"); err == nil {
			t.Errorf("%s: no error", name)
		}
		cancel()
		a.Close()
	}
}

func FuzzServers(f *testing.F) {
	for _, name := range []string{"nginx", "apache", "bind", "unbound"} {
		text, err := os.ReadFile("testdata/services/" + name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte("server { listen 80; location /s { stub_status; } } statistics-channels { inet ::1 port 8; };"))
	f.Add([]byte("[www]\nlisten = 127.0.0.1:9000\npm.status_path = /s\n"))
	f.Add([]byte("X: y\r\n\r\n{}"))
	f.Add([]byte("\xfc\x01\x00a\x01b"))
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, parse := range []func([]byte, place) ([]Reading, error){parseNginx, parseApache, parseBind} {
			if rs, err := parse(text, place{url: "http://127.0.0.1:81/"}); err == nil {
				dump(rs)
			}
		}
		parseUnbound(text)
		parseUnboundConf([][]byte{text})
		parseFPM(text)
		fpmPools([][]byte{text})
		for _, p := range append(nginxPlaces([][]byte{text}), bindPlaces([][]byte{text})...) {
			if u, err := url.Parse(p.url); err != nil || u.Host == "" {
				t.Errorf("place %q: %v", p.url, err)
			}
		}
		mysqlText(text)
		c := &mysqlConn{in: bufio.NewReader(bytes.NewReader(text))}
		c.packet()
		local(string(text))
	})
}
