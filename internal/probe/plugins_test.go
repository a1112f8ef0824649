package probe

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tocsin/internal/exec"
)

// stageRunner is a runner made up for tests: what plugins print, by name.
type stageRunner struct {
	mu      sync.Mutex
	plugins map[string]func(ctx context.Context, do string) (string, string) // text, problem
	rates   map[string]time.Duration
	asked   []string // "config load", in order
	times   []time.Time
	busy    map[string]bool
	most    int // at once
	now     int
	twice   []string // plugins that ran twice at a time
	gone    error
}

func (r *stageRunner) do(ctx context.Context, j exec.Job) (exec.Result, error) {
	r.mu.Lock()
	if r.gone != nil {
		defer r.mu.Unlock()
		return exec.Result{}, r.gone
	}
	if j.Entry == "munin" {
		defer r.mu.Unlock()
		var l PluginList
		for name := range r.plugins {
			l.Plugins = append(l.Plugins, Plugin{Name: name, Rate: r.rates[name]})
		}
		return exec.Result{Ran: true, Out: EncodePlugins(l)}, nil
	}
	name := strings.TrimPrefix(j.Entry, "munin/")
	if r.plugins[name] == nil { // its turn had come when it went
		defer r.mu.Unlock()
		return exec.Result{Problem: "there is no plugin " + name}, nil
	}
	r.asked = append(r.asked, j.Do+" "+name)
	r.times = append(r.times, time.Now())
	if r.busy[name] {
		r.twice = append(r.twice, name)
	}
	r.busy[name] = true
	r.now++
	r.most = max(r.most, r.now)
	plugin := r.plugins[name]
	r.mu.Unlock()
	text, problem := plugin(ctx, j.Do)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.busy[name] = false
	r.now--
	result := exec.Result{Ran: true, Out: PackText([]byte(text)), Problem: problem, CPU: int64(3 * time.Millisecond)}
	if problem != "" {
		result.Code = 1
	}
	return result, nil
}

// count is how often a plugin was asked something.
func (r *stageRunner) count(what string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range r.asked {
		if a == what {
			n++
		}
	}
	return n
}

// gaps are the times between two questions of the kind.
func (r *stageRunner) gaps(what string) (gaps []time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var last time.Time
	for i, a := range r.asked {
		if a != what {
			continue
		}
		if !last.IsZero() {
			gaps = append(gaps, r.times[i].Sub(last))
		}
		last = r.times[i]
	}
	return gaps
}

// says is a plugin that prints the same every time.
func says(config, fetch string) func(context.Context, string) (string, string) {
	return func(_ context.Context, do string) (string, string) {
		if do == "config" {
			return config, ""
		}
		return fetch, ""
	}
}

// perform runs plugins for a while of made-up time and returns what was delivered, and how the plugins did in the end.
func perform(t *testing.T, r *stageRunner, while time.Duration) (got []Reading, states map[string]State) {
	t.Helper()
	r.busy = map[string]bool{}
	ps, err := NewPlugins(PluginsOptions{Do: r.do, Deliver: func(rs []Reading) { got = append(got, rs...) }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { ps.Run(ctx); close(done) }()
	time.Sleep(while)
	synctest.Wait()
	all, _, _ := ps.States()
	cancel()
	<-done
	states = map[string]State{}
	for _, s := range all {
		states[s.Name] = s
	}
	return got, states
}

const aLoad = "graph_title Load\nload.label load\n"

func TestPluginsTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &stageRunner{
			plugins: map[string]func(context.Context, string) (string, string){
				"load":  says(aLoad, "load.value 1\n"),
				"dirty": says("graph_title d\na.label a\na.value 1\n", "a.value 2\n"),
				"slow5": says("graph_title s\nupdate_rate 300\na.label a\n", "a.value 1\n"),
				"slow7": says("graph_title s\na.label a\n", "a.value 1\n"),
				"hang":  func(ctx context.Context, _ string) (string, string) { <-ctx.Done(); return "", "killed" },
				"fail":  func(context.Context, string) (string, string) { return "", "exit code 1" },
				"empty": says("", ""),
				"lost":  says("graph_title l\na.label a\n", "b.value 1\n"),
			},
			rates: map[string]time.Duration{"slow7": 7 * time.Minute},
		}
		got, states := perform(t, r, 4*time.Hour)
		for what, want := range map[string]int{
			"config load": 4, "fetch load": 240, "config dirty": 240, "fetch dirty": 0, "fetch slow5": 48, "fetch slow7": 34,
		} {
			if n := r.count(what); n < want-2 || n > want+2 {
				t.Errorf("%s: %d times, want about %d", what, n, want)
			}
		}
		for what, want := range map[string]time.Duration{"fetch load": time.Minute, "fetch slow5": 5 * time.Minute, "fetch slow7": 7 * time.Minute} {
			gaps := r.gaps(what)
			for _, gap := range gaps[1:] { // the first may be shorter
				if gap < want-time.Second || gap > want+time.Second {
					t.Errorf("%s: %v after the one before, want %v", what, gap, want)
				}
			}
		}
		if n := r.count("config fail"); n > 35 || n < 20 {
			t.Errorf("one that fails was asked %d times in four hours, want one each ten minutes after some tries", n)
		}
		if n := r.count("config lost"); n < 15 || n > 50 {
			t.Errorf("one whose values fit no description was asked for that %d times", n)
		}
		if len(r.twice) > 0 || r.most > pluginsAtOnce {
			t.Errorf("twice at a time: %q; %d at once", r.twice, r.most)
		}
		for name, want := range map[string]string{
			"load": "", "dirty": "", "fail": "config: exit code 1", "empty": "it printed no description",
			"lost": "it printed no value that fits its description",
		} {
			s := states[name]
			if s.Why != want || s.On != (want == "") {
				t.Errorf("%s: %+v, want %q", name, s, want)
			}
		}
		if s := states["hang"]; s.Late == 0 || s.On {
			t.Errorf("hang: %+v, want some turns missed", s)
		}
		if s := states["dirty"]; s.CPU != 3*time.Millisecond {
			t.Errorf("dirty: a reading costs %v, want 3ms", s.CPU)
		}
		if s := states["slow5"]; s.Interval != 5*time.Minute {
			t.Errorf("slow5: interval %v", s.Interval)
		}
		names := map[string]int{}
		for _, rd := range got {
			names[rd.Service.Name]++
			if rd.At.IsZero() || len(rd.Values) != 1 {
				t.Fatalf("reading %+v", rd)
			}
		}
		if names["load"] < 238 || names["dirty"] < 238 || len(names) != 4 {
			t.Errorf("readings %v", names)
		}
	})
}

func TestPluginsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &stageRunner{plugins: map[string]func(context.Context, string) (string, string){}}
		for i := range 40 {
			r.plugins[fmt.Sprint("p", i)] = func(_ context.Context, do string) (string, string) {
				time.Sleep(3 * time.Second)
				if do == "config" {
					return aLoad, ""
				}
				return "load.value 1\n", ""
			}
		}
		_, states := perform(t, r, time.Hour)
		if r.most != pluginsAtOnce || len(r.twice) > 0 {
			t.Errorf("%d at once, want %d; twice at a time: %q", r.most, pluginsAtOnce, r.twice)
		}
		for name, s := range states {
			if s.Readings < 55 || s.Failures > 0 {
				t.Errorf("%s: %+v", name, s)
			}
		}
	})
}

// A plugin that changes its fields is described anew, one that does not keeps its description.
func TestPluginsDescribeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		r := &stageRunner{plugins: map[string]func(context.Context, string) (string, string){
			"disk": func(_ context.Context, do string) (string, string) {
				two := time.Since(start) > 30*time.Minute
				switch {
				case do == "config" && two:
					return "multigraph disk\ngraph_title D\na.label a\nmultigraph disk.b\ngraph_title B\nb.label b\n", ""
				case do == "config":
					return "multigraph disk\ngraph_title D\na.label a\n", ""
				case two:
					return "multigraph disk\na.value 1\na.extinfo now\nmultigraph disk.b\nb.value 2\n", ""
				}
				return "multigraph disk\na.value 1\n", ""
			},
		}}
		got, _ := perform(t, r, 50*time.Minute)
		if n := r.count("config disk"); n != 2 {
			t.Errorf("described %d times, want twice", n)
		}
		var services []string
		described := 0
		var last any
		for _, rd := range got {
			if !slices.Contains(services, rd.Service.Name) {
				services = append(services, rd.Service.Name)
			}
			if rd.Service.Name == "disk" && last != any(rd.Service) {
				last = rd.Service
				described++
			}
		}
		if !slices.Equal(services, []string{"disk", "disk.b"}) {
			t.Errorf("services %q", services)
		}
		if described != 2 {
			t.Errorf("disk has %d descriptions, want one without the text and one with it", described)
		}
		if x, _ := got[len(got)-2].Service.Field("a").Get("extinfo"); x != "now" {
			t.Errorf("extinfo %q", x)
		}
	})
}

func TestPluginsComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &stageRunner{gone: errors.New("no runner"), busy: map[string]bool{}, plugins: map[string]func(context.Context, string) (string, string){"a": says(aLoad, "load.value 1\n")}}
		ps, err := NewPlugins(PluginsOptions{Do: r.do, Deliver: func([]Reading) {}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { ps.Run(ctx); close(done) }()
		time.Sleep(time.Minute)
		if _, _, err := ps.States(); err == nil || err.Error() != "no runner" {
			t.Errorf("without a runner: %v", err)
		}
		r.mu.Lock()
		r.gone = nil
		r.mu.Unlock()
		time.Sleep(5 * time.Minute)
		if states, _, err := ps.States(); err != nil || len(states) != 1 || !states[0].On {
			t.Errorf("with one: %+v, %v", states, err)
		}
		r.mu.Lock()
		delete(r.plugins, "a")
		r.plugins["b"] = says(aLoad, "load.value 1\n")
		r.mu.Unlock()
		time.Sleep(10 * time.Minute)
		if states, _, _ := ps.States(); len(states) != 1 || states[0].Name != "b" {
			t.Errorf("another: %+v", states)
		}
		before := r.count("fetch a")
		time.Sleep(10 * time.Minute)
		if after := r.count("fetch a"); after != before {
			t.Errorf("one that is gone was asked %d times", after-before)
		}
		cancel()
		<-done
	})
}

func TestPluginsOptions(t *testing.T) {
	do := func(context.Context, exec.Job) (exec.Result, error) { return exec.Result{}, nil }
	deliver := func([]Reading) {}
	for _, o := range []PluginsOptions{{}, {Do: do}, {Deliver: deliver}, {Do: do, Deliver: deliver, Interval: time.Millisecond}, {Do: do, Deliver: deliver, Interval: 2 * time.Hour}} {
		if _, err := NewPlugins(o); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
}

func FuzzUnpackText(f *testing.F) {
	f.Add(PackText([]byte("load.value 1\n")))
	f.Add(EncodePlugins(PluginList{Plugins: []Plugin{{Name: "load", Rate: time.Minute}}}))
	f.Fuzz(func(t *testing.T, word string) {
		if text, err := UnpackText(word); err == nil && len(text) > maxPluginText {
			t.Errorf("%d bytes", len(text))
		}
		_, _ = DecodePlugins(word)
	})
}
