package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tocsin/e2e/lab"
	"tocsin/internal/api"
	"tocsin/internal/remotewrite"
)

// Where the stores listen, all on the victim's own loopback.
const (
	ours         = "127.0.0.1:8044"
	receiverAt   = "127.0.0.1:9090" // a Prometheus that others write to
	victoriaAt   = "127.0.0.1:8428"
	prometheusAt = "127.0.0.1:9091" // a Prometheus that writes to us
	agentAt      = "127.0.0.1:9092" // one that keeps nothing itself
)

// storing is a scene with a watch process.
type storing struct {
	*scene

	proc   *lab.Proc // where it does not run as the guard's child
	client *http.Client
	tokens map[string]string // by scope
}

// watchScene makes a scene in which a watch process can run. There is none yet.
func watchScene(t *testing.T, limit time.Duration) *storing {
	t.Helper()
	w := &storing{scene: newScene(t, limit), tokens: map[string]string{}}
	w.client = &http.Client{Timeout: answer, Transport: &http.Transport{
		DialContext: func(_ context.Context, _, addr string) (net.Conn, error) {
			at, err := netip.ParseAddrPort(addr)
			if err != nil {
				return nil, err
			}
			return w.Victim.Dial(at, answer)
		},
	}}
	t.Cleanup(func() {
		w.client.CloseIdleConnections()
		if t.Failed() && w.proc != nil {
			t.Logf("the watch process said:\n%s", w.proc.Output())
		}
	})
	accounts, err := w.Victim.Read("/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	w.write("/etc/passwd", fmt.Sprintf("%stocsin:x:%d:4243::/:/bin/false\n", regexp.MustCompile(`(?m)^tocsin:.*\n`).ReplaceAllString(accounts, ""), watchUser), 0o644)
	w.script("mkdir -p " + stateDir)
	return w
}

// alone makes the folder of a watch process that nobody else starts.
func (w *storing) alone() {
	w.t.Helper()
	w.script(fmt.Sprintf("install -d -m 710 -g 4243 %[1]s; install -d -m 750 -o %[2]d -g 4243 %[1]s/watch", stateDir, watchUser))
}

// start starts the watch process alone, and returns when it answers over the network.
func (w *storing) start() {
	w.t.Helper()
	cmd := exec.Command(program, "--config", configFile, "--state", stateDir, "--socket", socket, "watch")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: watchUser, Gid: 4243}}
	var err error
	if w.proc, err = w.Victim.Start(cmd); err != nil {
		w.t.Fatal(err)
	}
	w.answers()
}

func (w *storing) answers() {
	w.t.Helper()
	w.within(2*answer, "the watch process to answer", func() (bool, error) { return w.healthy(), nil })
}

func (w *storing) healthy() bool {
	resp, err := w.client.Get("http://" + ours + "/healthz")
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// token is a token of that scope, made when it is asked for first.
func (w *storing) token(scope string) string {
	w.t.Helper()
	if w.tokens[scope] == "" {
		w.tokens[scope] = ask[struct{ Token string }](w.scene, "token", "add", "test-"+scope, "--scope", scope).Token
	}
	if w.tokens[scope] == "" {
		w.t.Fatal("there is no token")
	}
	return w.tokens[scope]
}

// service starts a program of Debian's as a service of the victim.
func (w *storing) service(name string, args ...string) {
	w.t.Helper()
	p, err := w.Victim.Start(exec.Command(name, args...))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if w.t.Failed() {
			said := p.Output()
			w.t.Logf("%s said:\n%s", name, said[max(0, len(said)-4000):])
		}
	})
}

// post writes samples to our store, and answers with the code, 0 where there was none.
func (w *storing) post(ctx context.Context, token string, all []remotewrite.Series) int {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+ours+"/api/v1/write", bytes.NewReader(remotewrite.Encode(all)))
	if err != nil {
		return 0
	}
	req.Header.Set("Content-Encoding", "snappy")
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := w.client.Do(req)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return 0
	}
	return resp.StatusCode
}

// found is what a store answered: by series, by time in milliseconds.
type found map[string]map[int64]float64

// prom asks a store, in Prometheus's way.
func (w *storing) prom(at, path string, form url.Values) (found, error) {
	req, err := http.NewRequestWithContext(w.ctx, http.MethodGet, "http://"+at+"/api/v1/"+path+"?"+form.Encode(), nil)
	if err != nil {
		return nil, err
	}
	if at == ours {
		req.Header.Set("Authorization", "Bearer "+w.token(api.ScopeRead))
	}
	resp, err := w.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var out struct {
		Error string
		Data  struct {
			Result []struct {
				Metric map[string]string
				Value  []any
				Values [][]any
			}
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil || resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %d %s (%v)", at, resp.StatusCode, out.Error, err)
	}
	all := found{}
	for _, r := range out.Data.Result {
		name := fmt.Sprint(r.Metric) // maps are printed in order
		all[name] = map[int64]float64{}
		if r.Value != nil {
			r.Values = append(r.Values, r.Value)
		}
		for _, p := range r.Values {
			v, err := strconv.ParseFloat(p[1].(string), 64)
			if err != nil {
				return nil, err
			}
			all[name][int64(math.Round(p[0].(float64)*1000))] = v
		}
	}
	return all, nil
}

// differs says how two answers differ, "" if they are the same but for a relative error.
func differs(got, want found, tolerance float64) string {
	if len(got) != len(want) {
		return fmt.Sprintf("%d series, want %d", len(got), len(want))
	}
	for name, points := range want {
		if len(got[name]) != len(points) {
			return fmt.Sprintf("%s: %d points, want %d", name, len(got[name]), len(points))
		}
		for t, v := range points {
			g, ok := got[name][t]
			if !ok || math.Abs(g-v) > tolerance*math.Abs(v) {
				return fmt.Sprintf("%s at %d: %v, %t, want %v", name, t, g, ok, v)
			}
		}
	}
	return ""
}

// Our remote write reaches Debian's Prometheus and VictoriaMetrics, and what a Prometheus and its agent scrape reaches us: all
// answer the same questions with the same numbers. What comes late to us reaches the others too.
func TestStoresAgree(t *testing.T) {
	w := watchScene(t, 4*time.Minute)
	need(t, "prometheus", "victoria-metrics")
	w.alone()
	w.configure(`listen = "` + ours + `"
[watch]
name = "web1"
group = "Gandi"
interval = "1s"
munin_plugins = ""
[[watch.remote]]
url = "http://` + receiverAt + `/api/v1/write"
[[watch.remote]]
url = "http://` + victoriaAt + `/api/v1/write"
`)
	w.write("/run/lab/receiver.yml", "storage:\n  tsdb:\n    out_of_order_time_window: 1h\n", 0o644)
	w.service("prometheus", "--config.file=/run/lab/receiver.yml", "--storage.tsdb.path=/run/lab/receiver", "--web.listen-address="+receiverAt, "--web.enable-remote-write-receiver")
	w.service("victoria-metrics", "-storageDataPath=/run/lab/victoria", "-httpListenAddr="+victoriaAt, "-search.latencyOffset=0s", "-retentionPeriod=1y")
	w.start()
	w.write("/run/lab/token", w.token(api.ScopeWrite), 0o600)
	scrapes := func(job, target string) string {
		return "global: {scrape_interval: 1s}\nscrape_configs: [{job_name: " + job + ", static_configs: [{targets: ['" + target + "']}]}]\n" +
			"remote_write: [{url: 'http://" + ours + "/api/v1/write', authorization: {credentials_file: /run/lab/token}}]\n"
	}
	w.write("/run/lab/prometheus.yml", scrapes("victoria", victoriaAt), 0o644)
	w.write("/run/lab/agent.yml", scrapes("agent", receiverAt), 0o644)
	w.service("prometheus", "--config.file=/run/lab/prometheus.yml", "--storage.tsdb.path=/run/lab/prometheus", "--web.listen-address="+prometheusAt)
	w.service("prometheus", "--enable-feature=agent", "--config.file=/run/lab/agent.yml", "--storage.agent.path=/run/lab/agent", "--web.listen-address="+agentAt)

	have := func(at, expr string, atLeast int) bool {
		got, err := w.prom(at, "query", url.Values{"query": {fmt.Sprintf("count_over_time(%s[10m])", expr)}})
		if err != nil || len(got) != 1 {
			return false
		}
		for _, points := range got {
			for _, n := range points {
				return n >= float64(atLeast)
			}
		}
		return false
	}
	const load = `munin{node="web1",service="load",field="load"}`
	began := time.Now()
	w.within(3*answer, "samples everywhere", func() (bool, error) {
		time.Sleep(200 * time.Millisecond) // the stores have enough to do
		return have(receiverAt, load, 25) && have(victoriaAt, load, 25) && have(ours, `up{job="victoria"}`, 25) && have(ours, `up{job="agent"}`, 10), nil
	})
	t.Logf("samples everywhere after %s", time.Since(began))

	// Both ends are times between two samples, so that it does not matter on which side a range is closed; and they are past
	// for everybody: what is under way has arrived.
	until := time.Now()
	middle := func(expr string) time.Time {
		t.Helper()
		got, err := w.prom(ours, "query", url.Values{"query": {expr + "[20s]"}, "time": {fmt.Sprintf("%.3f", float64(until.UnixMilli())/1000)}})
		if err != nil || len(got) != 1 {
			t.Fatalf("%s: %v, %v", expr, got, err)
		}
		last := int64(0)
		for _, points := range got {
			for at := range points {
				last = max(last, at)
			}
		}
		return time.UnixMilli(last + 500)
	}
	agree := func(a, b string, tolerance float64, end time.Time, exprs ...string) {
		t.Helper()
		for _, expr := range exprs {
			for _, step := range []int{1, 5} {
				form := url.Values{"query": {expr}, "start": {fmt.Sprintf("%.3f", float64(end.UnixMilli())/1000-20)},
					"end": {fmt.Sprintf("%.3f", float64(end.UnixMilli())/1000)}, "step": {strconv.Itoa(step)}, "nocache": {"1"}}
				var got, want found
				err := lab.Poll(w.ctx, answer, func() (bool, error) {
					time.Sleep(100 * time.Millisecond)
					var ea, eb error
					got, ea = w.prom(a, "query_range", form)
					want, eb = w.prom(b, "query_range", form)
					return ea == nil && eb == nil && len(want) > 0 && differs(got, want, tolerance) == "", nil
				})
				if err != nil {
					t.Errorf("%s in steps of %d s: %s and %s differ: %s", expr, step, a, b, differs(got, want, tolerance))
				}
			}
		}
	}
	ofUs := []string{load, `munin{service="memory"}`, `max by (field) (max_over_time(munin{service="cpu",field=~"user|idle"}[10s]))`, `sum by (group, service) (munin{service=~"load|memory"})`,
		`topk(1, munin{service="cpu"})`, `count(munin{service="memory"})`}
	end := middle(load)
	agree(receiverAt, ours, 1e-13, end, ofUs...) // sums are not added up in the same order
	agree(victoriaAt, ours, 1e-9, end, ofUs...)
	end = middle(`up{job="victoria"}`)
	agree(ours, prometheusAt, 0, end, `up{job="victoria"}`, `go_goroutines{job="victoria"}`, `go_memstats_alloc_bytes_total{job="victoria"}`,
		`max_over_time(go_memstats_alloc_bytes{job="victoria"}[10s])`, `sum by (job) (go_memstats_alloc_bytes{job="victoria"})`)
	agree(ours, prometheusAt, 1e-9, end, `rate(process_cpu_seconds_total{job="victoria"}[10s])`, `increase(go_memstats_alloc_bytes_total{job="victoria"}[10s])`)

	// Late samples: of a time that was written elsewhere long ago.
	at := time.Now().Add(-3 * time.Minute)
	late := []remotewrite.Series{{Labels: []remotewrite.Label{{Name: "__name__", Value: "late"}, {Name: "node", Value: "web9"}}}}
	for i := range 10 {
		late[0].Points = append(late[0].Points, remotewrite.Point{T: at.Add(time.Duration(i) * time.Second).UnixMilli(), V: float64(i) + 0.25})
	}
	if code := w.post(w.ctx, w.token(api.ScopeWrite), late); code != http.StatusNoContent {
		t.Fatalf("late samples: code %d", code)
	}
	for _, store := range []string{receiverAt, victoriaAt} {
		w.within(2*answer, "late samples at "+store, func() (bool, error) {
			time.Sleep(200 * time.Millisecond)
			return have(store, `late{node="web9"}`, 10), nil
		})
	}
}

// The watch process is killed fifteen times while four senders write as fast as they can: whatever was answered with success
// is there in the end, once.
func TestKillNineOfTheWatch(t *testing.T) {
	w := watchScene(t, 4*time.Minute)
	w.alone()
	w.configure("listen = \"" + ours + "\"\n[watch]\nname = \"web1\"\nmunin_plugins = \"\"\n")
	w.start()
	const kills, senders, series = 15, 4, 50
	token := w.token(api.ScopeWrite)
	ctx, stop := context.WithCancel(w.ctx)
	defer stop()
	var wg sync.WaitGroup
	acked := make([][]int64, senders) // times, whose last three digits are the sender's own
	tries := make([]int, senders)
	for k := range senders {
		wg.Go(func() {
			last := int64(0)
			for ctx.Err() == nil {
				at := max(time.Now().UnixMilli(), last+1)
				last = at
				var batch []remotewrite.Series
				for i := range series {
					batch = append(batch, remotewrite.Series{
						Labels: []remotewrite.Label{{Name: "__name__", Value: "sent"}, {Name: "i", Value: strconv.Itoa(i)}, {Name: "sender", Value: strconv.Itoa(k)}},
						Points: []remotewrite.Point{{T: at, V: float64(at % 100_000)}},
					})
				}
				// As Prometheus does: again and again until it is taken.
				for ctx.Err() == nil {
					tries[k]++
					if w.post(ctx, token, batch) == http.StatusNoContent {
						acked[k] = append(acked[k], at)
						break
					}
					select {
					case <-time.After(20 * time.Millisecond):
					case <-ctx.Done():
					}
				}
			}
		})
	}
	for range kills {
		time.Sleep(time.Duration(200+rand.IntN(900)) * time.Millisecond) // the kill must not keep step with anything
		w.proc.Kill()
		w.start()
	}
	stop()
	wg.Wait()
	w.proc.Kill()
	w.start()

	total := 0
	for k := range senders {
		// Of a range of less than 20 minutes the samples are told as they came.
		// A sender that posts more often than once in a millisecond runs ahead of the clock.
		end := float64(max(time.Now().UnixMilli(), acked[k][len(acked[k])-1])+1000) / 1000
		got, err := w.prom(ours, "query", url.Values{"query": {fmt.Sprintf(`sent{sender="%d"}[19m]`, k)}, "time": {strconv.FormatFloat(end, 'f', 3, 64)}})
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != series {
			t.Errorf("sender %d: %d series, want %d", k, len(got), series)
		}
		for name, points := range got {
			missing := 0
			for i, at := range acked[k] {
				if v, ok := points[at]; !ok || v != float64(at%100_000) {
					if missing++; missing == 1 {
						t.Errorf("%s: the sample of %d, %d of %d that were acknowledged, is %v, %t", name, at, i+1, len(acked[k]), v, ok)
					}
				}
			}
			if missing > 1 {
				t.Errorf("%s: and %d more", name, missing-1)
			}
			if len(points) > tries[k] {
				t.Errorf("%s: %d samples of %d tries", name, len(points), tries[k])
			}
		}
		if len(acked[k]) < kills {
			t.Errorf("sender %d: only %d requests were taken", k, len(acked[k]))
		}
		total += len(acked[k]) * series
	}
	t.Logf("%d acknowledged samples", total)
}

// The disk is full: sampling stops with one warning, bans go on, and samples come again when there is room.
func TestWatchOnAFullDisk(t *testing.T) {
	w := watchScene(t, 3*time.Minute)
	w.script("mount -t tmpfs -o size=64m,mode=755 state " + stateDir)
	w.configure("listen = \"" + ours + "\"\n" + "[watch]\nname = \"web1\"\ninterval = \"1s\"\nmunin_plugins = \"\"\n" + sshd)
	w.run("--config", configFile)
	w.answers()
	const load = `munin{node="web1",service="load",field="load"}`
	newest := func() (at time.Time) {
		got, err := w.prom(ours, "query", url.Values{"query": {"timestamp(" + load + ")"}})
		if err != nil {
			return at
		}
		for _, points := range got {
			for _, v := range points {
				at = time.UnixMilli(int64(v * 1000))
			}
		}
		return at
	}
	w.within(answer, "samples", func() (bool, error) { return !newest().IsZero(), nil })
	w.token(api.ScopeWrite) // there is no room for one later

	full := "the disk is nearly full: no samples are taken until there is room"
	w.script("dd if=/dev/zero of=" + stateDir + "/filler bs=4k status=none 2>/dev/null || true")
	w.within(answer, "the warning", func() (bool, error) { return strings.Contains(w.guard.Output(), full), nil })
	w.within(answer, "healthz to say so", func() (bool, error) { return !w.healthy(), nil })
	stopped := newest()
	if code := w.post(w.ctx, w.token(api.ScopeWrite), []remotewrite.Series{{Labels: []remotewrite.Label{{Name: "__name__", Value: "up"}}, Points: []remotewrite.Point{{T: time.Now().UnixMilli(), V: 1}}}}); code != http.StatusServiceUnavailable {
		t.Errorf("remote write is answered with %d, want 503", code)
	}

	// The guard never notices.
	w.guess(w.Attacker, 5, wrong(lab.VictimAttacker, 2200))
	w.shutOut(w.Attacker, lab.VictimAttacker, lab.Ports...)
	w.reaches(w.Honest, lab.VictimHonest, lab.Ports...)

	time.Sleep(5 * time.Second) // several turns of every probe
	if now := newest(); now.After(stopped) {
		t.Errorf("there is a sample of %s, after %s", now, stopped)
	}
	if n := strings.Count(w.guard.Output(), full); n != 1 {
		t.Errorf("the warning was given %d times, want once", n)
	}
	if n := strings.Count(w.guard.Output(), "samples could not be kept"); n != 0 {
		t.Errorf("%d other complaints of samples that could not be kept", n)
	}

	w.script("rm " + stateDir + "/filler")
	removed := time.Now()
	w.within(answer, "samples again", func() (bool, error) { return newest().After(removed), nil })
	w.within(answer, "healthz to say so", func() (bool, error) { return w.healthy(), nil })
	if out := w.guard.Output(); strings.Contains(out, "crashed") || strings.Contains(out, "starting it again") {
		t.Error("a process did not survive the full disk")
	}
	if _, err := w.prom(ours, "query", url.Values{"query": {"count_over_time(" + load + "[10m])"}}); err != nil {
		t.Error(err)
	}
	var exit *exec.ExitError
	if err := w.guard.Stop(answer); err != nil && !errors.As(err, &exit) {
		t.Error(err)
	}
}
