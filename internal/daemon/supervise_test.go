package daemon

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tocsin"
	"tocsin/internal/api"
	"tocsin/internal/config"
	"tocsin/internal/munin"
	"tocsin/internal/remotewrite"
)

// supervising starts a watch process that supervises this machine; settings come behind the top of its configuration.
func supervising(t *testing.T, settings string) (c *api.WatchClient, state string, stop func()) {
	t.Helper()
	state, err := os.MkdirTemp("", "w") // the path of a socket is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(state) })
	conf, err := config.Parse("t.toml", fmt.Appendf(nil, "state = %q\nsocket = %q\n%s", state, state+"/guard.sock", settings))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- runWatch(ctx, WatchOptions{Config: conf, Version: "1.2", Log: slog.New(slog.DiscardHandler)}, nil)
	}()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return api.NewWatchClient(WatchSocket(state)), state, stop
}

// within waits until ok answers true, for long enough on a busy machine.
func within(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("%s did not come", what)
}

// freePort is a port of loopback that nobody listens on now.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// A machine is supervised without any setting: its services have values, which can be asked for on the socket, with a token
// over the network, and by an old master.
func TestSupervises(t *testing.T) {
	listen, node := freePort(t), freePort(t)
	c, _, _ := supervising(t, fmt.Sprintf("listen = %q\n[watch]\ngroup = \"Gandi\"\nname = \"web1\"\ninterval = \"1s\"\nmunin_plugins = \"\"\nmunin_node = %q\n", listen, node))
	ctx := t.Context()
	within(t, "the load of this machine", func() bool {
		d, err := c.Server(ctx, "*", "web1")
		if err != nil {
			return false
		}
		i := slices.IndexFunc(d.Details, func(s api.Service) bool { return s.Name == "load" })
		return i >= 0 && len(d.Details[i].Fields) > 0 && d.Details[i].Fields[0].Value != nil
	})
	all, err := c.Servers(ctx)
	if err != nil || len(all.Servers) != 1 || all.Servers[0].Group != "Gandi" || all.Servers[0].State != "ok" || all.Servers[0].Services == 0 {
		t.Errorf("servers: %+v, %v", all, err)
	}
	probes, err := c.Probes(ctx)
	if i := slices.IndexFunc(probes.Probes, func(p api.Probe) bool { return p.Name == "load" && p.On && p.Readings > 0 }); err != nil || i < 0 {
		t.Errorf("probes: %+v, %v", probes, err)
	}
	answer, err := c.PromQL(ctx, "query", url.Values{"query": {`munin{group="Gandi",node="web1",service="load",field="load"}`}})
	if err != nil || !strings.Contains(string(answer), `"resultType":"vector","result":[{"metric"`) {
		t.Errorf("query: %s, %v", answer, err)
	}
	if _, err := c.Server(ctx, "TTN", "web1"); err == nil {
		t.Error("web1 was found in a group that it is not of")
	}
	g, err := c.Graph(ctx, api.GraphQuery{Group: "*", Server: "web1", Service: "load", From: time.Now().Add(-time.Hour), To: time.Now().Add(time.Minute), Step: time.Second, Marks: true})
	if err != nil || len(g.Fields) == 0 || len(g.Fields[0].Points) == 0 || g.Title == "" {
		t.Errorf("graph: %+v, %v", g, err)
	}

	t.Run("over the network", func(t *testing.T) { asksOverTheNetwork(t, c, "http://"+listen) })
	t.Run("as a munin-node", func(t *testing.T) { asksAsAMaster(t, node) })
	if _, err := c.ForgetServer(ctx, api.ServerRequest{Group: "Gandi", Name: "web1"}); err == nil {
		t.Error("this machine was forgotten")
	}
}

func asksOverTheNetwork(t *testing.T, c *api.WatchClient, base string) {
	read, err := c.AddToken(t.Context(), api.TokenRequest{Name: "grafana", Scope: api.ScopeRead})
	if err != nil {
		t.Fatal(err)
	}
	write, err := c.AddToken(t.Context(), api.TokenRequest{Name: "agent", Scope: api.ScopeWrite})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.AddToken(t.Context(), api.TokenRequest{Name: "agent", Scope: api.ScopeRead}); err == nil {
		t.Error("a second token of one name was made")
	}
	ask := func(method, path, token, body string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, base+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0, err.Error()
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Error(err)
		}
		return resp.StatusCode, string(text)
	}
	within(t, "the network", func() bool { code, _ := ask("GET", "/healthz", "", ""); return code == 200 })
	now := time.Now().UnixMilli()
	body := string(remotewrite.Encode([]remotewrite.Series{{Labels: []remotewrite.Label{{Name: "__name__", Value: "up"}, {Name: "job", Value: "agent"}}, Points: []remotewrite.Point{{T: now, V: 1}}}}))
	old := string(remotewrite.Encode([]remotewrite.Series{{Labels: []remotewrite.Label{{Name: "__name__", Value: "up"}}, Points: []remotewrite.Point{{T: now - 7*24*3600*1000, V: 1}}}}))
	for _, tt := range []struct {
		method, path, token, body string
		code                      int
		want                      string
	}{
		{"GET", "/metrics", "", "", 200, "tocsin_samples_series "},
		{"GET", "/api/v1/query?query=up", "", "", 401, "token"},
		{"GET", "/api/v1/query?query=up", "tocsin_guess", "", 401, "token"},
		{"POST", "/api/v1/write", read.Token, body, 403, "scope"},
		{"POST", "/api/v1/write", write.Token, body, 204, ""},
		{"POST", "/api/v1/write", write.Token, old, 400, "old"},
		{"GET", "/api/v1/query?query=up", read.Token, "", 200, `"job":"agent"},"value":[`},
		{"GET", "/federate?match[]=up", read.Token, "", 200, `up{job="agent"} 1 `},
		{"GET", "/api/v1/label/service/values", read.Token, "", 200, `"load"`},
	} {
		if code, text := ask(tt.method, tt.path, tt.token, tt.body); code != tt.code || !strings.Contains(text, tt.want) {
			t.Errorf("%s %s: %d %s\nwant %d with %q", tt.method, tt.path, code, text, tt.code, tt.want)
		}
	}
	if _, err := c.DropToken(t.Context(), api.TokenRequest{Name: "grafana"}); err != nil {
		t.Error(err)
	}
	if code, _ := ask("GET", "/api/v1/query?query=up", read.Token, ""); code != 401 {
		t.Errorf("with a revoked token: %d, want 401", code)
	}
}

func asksAsAMaster(t *testing.T, at string) {
	a, err := munin.ParseAddress("munin://" + netip.MustParseAddrPort(at).String())
	if err != nil {
		t.Fatal(err)
	}
	c, err := munin.Dial(t.Context(), a, munin.DialOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	hidden, err := munin.Dial(t.Context(), a, munin.DialOptions{TLS: munin.TLS{Mode: munin.TLSEnabled}})
	if err != nil {
		t.Fatalf("a master that insists on TLS: %v", err)
	}
	_ = hidden.Close()
	if _, err := c.Cap(t.Context(), "multigraph"); err != nil {
		t.Fatal(err)
	}
	within(t, "cpu and load in the list", func() bool {
		names, err := c.List(t.Context(), "web1")
		if err != nil {
			t.Fatal(err)
		}
		return slices.Contains(names, "load") && slices.Contains(names, "cpu")
	})
	conf, err := c.Config(t.Context(), "load")
	if err != nil || len(conf.Services) != 1 || conf.Services[0].Field("load") == nil {
		t.Errorf("config load: %+v, %v", conf, err)
	}
	got, err := c.Fetch(t.Context(), "load")
	if err != nil || !slices.ContainsFunc(got.Values, func(v munin.Value) bool { return v.Field == "load" }) {
		t.Errorf("fetch load: %+v, %v", got, err)
	}
}

// A node that is asked is a server of ours; one that does not answer stays, and says since when and why.
func TestAsksNodes(t *testing.T) {
	node, nobody := freePort(t), freePort(t)
	_, _, stop := supervising(t, fmt.Sprintf("listen = \"\"\n[watch]\nname = \"web1\"\ninterval = \"1s\"\nmunin_plugins = \"\"\nmunin_node = %q\n", node))
	hub, _, _ := supervising(t, fmt.Sprintf("listen = \"\"\n[watch]\nname = \"hub\"\nmunin_plugins = \"\"\n[[watch.node]]\nname = \"web1\"\ngroup = \"TTN\"\naddress = \"munin://%s\"\ninterval = \"10s\"\n[[watch.node]]\nname = \"gone\"\ngroup = \"TTN\"\naddress = \"munin://%s\"\ninterval = \"10s\"\n", node, nobody))
	find := func(name string) (s api.Server, ok bool) {
		all, err := hub.Servers(t.Context())
		if err != nil {
			return s, false
		}
		i := slices.IndexFunc(all.Servers, func(s api.Server) bool { return s.Name == name && s.Group == "TTN" })
		if i < 0 {
			return s, false
		}
		return all.Servers[i], true
	}
	within(t, "the services of web1", func() bool { s, ok := find("web1"); return ok && s.State == "ok" && s.Services > 5 })
	within(t, "the state of a server that is not there", func() bool {
		s, ok := find("gone")
		return ok && s.State == "unknown" && strings.Contains(s.Why, "refused")
	})
	stop()
	within(t, "the state of a server that went away", func() bool { s, ok := find("web1"); return ok && s.State == "unknown" && s.Services > 5 })
}

// The person who starts the guard is told what the watch process beside it measures, and where to look.
func TestSaysWhatIsMeasured(t *testing.T) {
	conf := &config.Config{Watch: config.Watch{Enabled: true, Name: "web1", Interval: 10 * time.Second}}
	many := &config.Config{Watch: config.Watch{Enabled: true, Name: "web1", Interval: time.Minute, MuninConf: "/etc/munin/munin.conf", Nodes: make([]config.Node, 2)}}
	tests := []struct {
		name   string
		conf   *config.Config
		starts bool
		want   string
	}{
		{"this machine", conf, true, "measuring this machine every 10s (./tocsin server web1 shows it)\n"},
		{"others", many, true, "measuring this machine every 1m, 2 other servers, the nodes of /etc/munin/munin.conf (./tocsin server web1 shows it)\n"},
		{"another unit does it", conf, false, ""},
		{"switched off", &config.Config{}, true, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var b strings.Builder
			g := &Guard{o: Options{Say: &b, Name: "./tocsin"}, startsWatch: tt.starts}
			if g.sayWhatIsMeasured(tt.conf); b.String() != tt.want {
				t.Errorf("said %q, want %q", b.String(), tt.want)
			}
		})
	}
}

// A node with the name and group of this machine is not asked: its values would lie among our own.
func TestAsksNotItself(t *testing.T) {
	path := filepath.Join(t.TempDir(), "munin.conf")
	text := "[Gandi;web1]\naddress 127.0.0.1\n[Gandi;web2]\naddress 192.0.2.2\n[TTN;web1]\naddress 192.0.2.3\n"
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	s := &supervisor{log: slog.New(slog.DiscardHandler), own: serverKey{"Gandi", "web1"}}
	conf := config.Watch{MuninConf: path, Nodes: []config.Node{
		{Group: "Gandi", Name: "web1", Address: "munin://127.0.0.1:4949"}, {Name: "web1", Address: "munin://192.0.2.4:4949"},
	}}
	var got []string
	for _, n := range s.nodesOf(&conf) {
		got = append(got, n.Group+"/"+n.Name)
	}
	if want := []string{"/web1", "Gandi/web2", "TTN/web1"}; !slices.Equal(got, want) {
		t.Errorf("asked: %q, want %q", got, want)
	}

	plan := CheckMunin(&config.Config{Watch: config.Watch{Enabled: true, Group: "Gandi", Name: "web1", MuninConf: path}})
	if want := []string{"Gandi/web2 at munin://192.0.2.2:4949", "TTN/web1 at munin://192.0.2.3:4949"}; !slices.Equal(plan.Nodes, want) {
		t.Errorf("said to be asked: %q, want %q", plan.Nodes, want)
	}
	if len(plan.Problems) != 1 || plan.Problems[0].Msg != "Gandi/web1 is this machine, which is read without being asked" {
		t.Errorf("said besides: %+v", plan.Problems)
	}
}

// History of older systems is found by the same names, and imported once however often it is.
func TestImportsHistory(t *testing.T) {
	c, _, _ := supervising(t, "listen = \"\"\n[watch]\nname = \"hub\"\nmunin_plugins = \"\"\n")
	within(t, "the watch process", func() bool { _, err := c.Servers(t.Context()); return err == nil })
	begin := time.Now().UTC().Truncate(time.Hour).Add(-10 * 24 * time.Hour)
	var b strings.Builder
	b.WriteString("time,value\n")
	for i := range 200 {
		fmt.Fprintf(&b, "%s,%d\n", begin.Add(time.Duration(i)*time.Hour).Format(time.RFC3339), i)
	}
	path := filepath.Join(t.TempDir(), "load.csv")
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	as := tocsin.Series{Group: "Gandi", Node: "web1", Service: "load", Field: "load"}
	for _, want := range []bool{true, false} {
		h, err := SendCSV(t.Context(), c, path, as)
		if err != nil || (h.Points > 0) != want || (h.Series == 1) != want {
			t.Errorf("imported %+v, %v; anything new: %v", h, err, want)
		}
	}
	g, err := c.Graph(t.Context(), api.GraphQuery{Group: "*", Server: "web1", Service: "load", From: begin.Add(-time.Hour), To: begin.Add(200 * time.Hour), Step: time.Hour})
	if err != nil || len(g.Fields) != 1 || len(g.Fields[0].Points) != 200 || g.Fields[0].Points[7].Avg != 7 {
		t.Errorf("graph: %+v, %v", g, err)
	}
	for text, want := range map[string]string{
		"":                                "1: no row",
		"time,value\n":                    "1: no row",
		"1,2\nnever,3\n":                  "2: \"never\" is no time",
		"1,2\n2,much\n":                   "2: \"much\" is no number",
		"2,2\n1,2\n":                      "2: 1 is not later",
		"time\n":                          "1: a row is",
		"2026-01-01,1\n2026-01-02,2\n\"a": "parse error",
		"time,value\n2026-01-01,U\n":      "1: no row",
	} {
		if _, err := readCSV(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// A Munin master's folder is taken over whole, and stays as it was.
func TestImportsMunin(t *testing.T) {
	data := os.Getenv("TOCSIN_TESTDATA")
	if data == "" {
		t.Skip("TOCSIN_TESTDATA is not set: no recorded history of Munin")
	}
	dir := t.TempDir()
	if out, err := exec.Command("tar", "--no-same-owner", "-xzf", filepath.Join(data, "munin/rrd-sample.tar.gz"), "-C", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	root := ""
	if err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Name() == "datafile" {
			root = filepath.Dir(path)
		}
		return err
	}); err != nil || root == "" {
		t.Fatal("no datafile in the recorded tree", err)
	}
	files, _, err := HistoryTree(root)
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	c, _, _ := supervising(t, "listen = \"\"\n[watch]\nname = \"hub\"\nmunin_plugins = \"\"\n")
	within(t, "the watch process", func() bool { _, err := c.Servers(t.Context()); return err == nil })
	var first api.History
	for i := range 2 {
		h, err := SendHistory(t.Context(), c, files, func(err error) { t.Error(err) })
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = h
		} else if h.Points != 0 || h.Known != first.Points+first.Known {
			t.Errorf("imported again: %+v after %+v", h, first)
		}
	}
	t.Logf("%d files: %+v", len(files), first)
	if first.Points == 0 {
		t.Error("nothing of the recorded history is kept any more")
	}
	for _, f := range files[:1] {
		d, err := c.Server(t.Context(), f.Group, f.Node)
		if err != nil || !slices.ContainsFunc(d.Details, func(s api.Service) bool { return s.Name == f.Service && s.Title != "" }) {
			t.Errorf("%s of %s is not known: %+v, %v", f.Service, f.Node, d, err)
		}
	}
}

// Every sample is written to another store too, once that takes it, and what it refuses holds nothing up.
func TestWritesElsewhere(t *testing.T) {
	var mu sync.Mutex
	got, asked := map[string]int{}, 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		if asked++; asked == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		if r.Header.Get("Authorization") != "Bearer the-token" {
			t.Errorf("Authorization is %q", r.Header.Get("Authorization"))
		}
		if err := remotewrite.Decode(body, func(s *remotewrite.Series) error {
			for _, l := range s.Labels {
				got[l.Name+"="+l.Value] += len(s.Points)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	}))
	defer server.Close()
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("the-token\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	supervising(t, fmt.Sprintf("listen = \"\"\n[watch]\nname = \"web1\"\ninterval = \"1s\"\nmunin_plugins = \"\"\n[[watch.remote]]\nurl = %q\ntoken_file = %q\n", server.URL+"/api/v1/write", token))
	within(t, "samples of load elsewhere", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return got["service=load"] > 5
	})
	mu.Lock()
	defer mu.Unlock()
	if got["__name__=munin"] == 0 || got["__name__=munin:max"] > 0 || got["node=web1"] != got["__name__=munin"] {
		t.Errorf("written elsewhere: %d of munin, %d of munin:max, %d of web1", got["__name__=munin"], got["__name__=munin:max"], got["node=web1"])
	}
}
