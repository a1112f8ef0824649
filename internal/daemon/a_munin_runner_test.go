package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tocsin/internal/exec"
	"tocsin/internal/host"
	"tocsin/internal/munin"
	"tocsin/internal/probe"
)

// These tests need root's capabilities, which other tests of this package give up: see TestWhatDiffersByRoot.

// puppets is a folder with plugins made up for a test.
type puppets struct {
	t   *testing.T
	dir string
	p   *plugins
}

func newPuppets(t *testing.T) *puppets {
	t.Helper()
	dir := t.TempDir()
	if os.Geteuid() == 0 {
		if !host.Have(unix.CAP_SETUID) || !host.Have(unix.CAP_CHOWN) {
			t.Skip("root without its capabilities: this process, or a test before this one, gave them up")
		}
		if err := host.RootOnly(dir, map[string]bool{}); err != nil {
			t.Skipf("the tests' folders can be changed by others than root: %v", err)
		}
		// The plugins run as nobody.
		for d := dir; d != "/" && d != os.TempDir(); d = filepath.Dir(d) {
			if err := os.Chmod(d, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "etc/plugins"), 0o755); err != nil {
		t.Fatal(err)
	}
	return &puppets{t: t, dir: dir, p: newPlugins(MuninOptions{Plugins: filepath.Join(dir, "etc/plugins"), State: filepath.Join(dir, "state")})}
}

// plugin makes a plugin of a shell script.
func (s *puppets) plugin(name, script string) {
	s.t.Helper()
	path := filepath.Join(s.dir, "etc/plugins", name)
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		s.t.Fatal(err)
	}
}

// conf writes plugin-conf.d/name.
func (s *puppets) conf(name, text string) {
	s.t.Helper()
	dir := filepath.Join(s.dir, "etc/plugin-conf.d")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

// ask has a plugin do something.
func (s *puppets) ask(name, do string) (exec.Result, string) {
	s.t.Helper()
	s.p.read = time.Time{}
	result := s.p.do(s.t.Context(), name, exec.Job{Entry: "munin/" + name, Do: do})
	if result.Out == "" {
		return result, ""
	}
	text, err := probe.UnpackText(result.Out)
	if err != nil {
		s.t.Fatal(err)
	}
	return result, string(text)
}

func TestPluginWorld(t *testing.T) {
	s := newPuppets(t)
	s.plugin("world", `echo "args $# $1"; echo "zero $0"; pwd; umask; env | sort; readlink /proc/self/fd/0; echo oops >&2`)
	s.conf("a", "[world]\nenv.NAME  two  words \"quoted\" $HOME `id`\nenv.PATH /bin\n")
	result, text := s.ask("world", "config")
	if !result.Ran || !result.OK() || result.Err != "oops\n" {
		t.Errorf("%+v", result)
	}
	user := "nobody"
	if os.Geteuid() != 0 {
		user = strconv.Itoa(os.Geteuid())
	}
	state := filepath.Join(s.dir, "state", user)
	lines := strings.Split(text, "\n")
	for _, want := range []string{
		"args 1 config", "zero " + filepath.Join(s.dir, "etc/plugins/world"), "/", "0002", "/dev/null",
		"NAME=two  words \"quoted\" $HOME `id`", "PATH=/bin", "LC_ALL=C", "LANG=C", "MUNIN_LIBDIR=/usr/share/munin",
		"MUNIN_MASTER_IP=tocsin", "MUNIN_PLUGSTATE=" + state, "MUNIN_STATEFILE=" + filepath.Join(state, "world-tocsin"),
		"MUNIN_CAP_MULTIGRAPH=1", "MUNIN_CAP_DIRTYCONFIG=1", "MUNIN_DEBUG=0",
	} {
		if !slices.Contains(lines, want) {
			t.Errorf("no line %q in\n%s", want, text)
		}
	}
	if _, text := s.ask("world", "fetch"); !strings.HasPrefix(text, "args 0 \n") {
		t.Errorf("fetch has arguments: %s", text)
	}
	if info, err := os.Stat(state); err != nil || os.Geteuid() == 0 && info.Sys().(*syscall.Stat_t).Uid != 65534 {
		t.Errorf("the folder of nobody's state: %v, %v", info, err)
	}
}

func TestPluginSettings(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root may become somebody else")
	}
	s := newPuppets(t)
	for _, name := range []string{"plain", "root", "groups", "optional", "nouser", "nogroup", "command", "hosted", "number", "badexit", "signal", "latin", "gone"} {
		s.plugin(name, "id -u; id -g; id -G; touch $MUNIN_PLUGSTATE/x && echo kept")
	}
	s.plugin("command", `echo "$@"`)
	s.plugin("hosted", "echo host_name other")
	s.plugin("badexit", "echo a.value 1; echo because >&2; exit 3")
	s.plugin("signal", "kill -9 $$")
	s.plugin("latin", `printf 'a.label caf\351\n\000\377\n'`)
	s.conf("a", `
[root]
user root
[groups]
group adm, daemon (nonesuch)
[optional]
group (nonesuch)
[nouser]
user nonesuch
[nogroup]
group nonesuch
[number]
user 1
[command]
command /bin/echo before %c after
[hosted]
host_name virtual.example
`)
	munin := "65534"
	if id, err := lookupGroup("munin"); err == nil {
		munin = strconv.Itoa(int(id))
	}
	tests := []struct {
		name, do, out, problem string
		ran                    bool
	}{
		{"plain", "fetch", "65534\n" + munin + "\n" + munin + "\nkept\n", "", true},
		{"root", "fetch", "0\n" + munin + "\n" + munin + "\nkept\n", "", true},
		{"groups", "fetch", "65534\n4\n4 1\nkept\n", "", true},
		{"optional", "fetch", "65534\n65534\n65534\nkept\n", "", true},
		{"number", "fetch", "1\n" + munin + "\n" + munin + "\nkept\n", "", true},
		{"nouser", "fetch", "", "plugin-conf.d wants it to run as user nonesuch, who does not exist here", false},
		{"nogroup", "fetch", "", "plugin-conf.d wants it to run as group nonesuch, which does not exist here", false},
		{"command", "config", "before " + filepath.Join(s.dir, "etc/plugins/command") + " config after\n", "", true},
		{"hosted", "config", "host_name virtual.example\nhost_name other\n", "", true},
		{"badexit", "fetch", "a.value 1\n", "because (exit code 3)", true},
		{"signal", "fetch", "", "was ended by signal: killed", true},
		{"latin", "config", "a.label caf\xe9\n\x00\xff\n", "", true},
		{"none", "fetch", "", `there is no plugin "none" in `, false},
		{"../plugins/plain", "fetch", "", "there is no plugin", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			result, text := s.ask(tt.name, tt.do)
			if result.Ran != tt.ran || text != tt.out || !strings.Contains(result.Problem, tt.problem) || tt.problem == "" && result.Problem != "" {
				t.Errorf("%+v %q, want %q, %q", result, text, tt.out, tt.problem)
			}
		})
	}
}

func TestPluginRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root has something to refuse")
	}
	s := newPuppets(t)
	s.plugin("mine", "echo a.value 1")
	s.plugin("theirs", "echo a.value 1")
	path := filepath.Join(s.dir, "etc/plugins/theirs")
	if err := os.Chown(path, 1234, 0); err != nil {
		t.Fatal(err)
	}
	if result, _ := s.ask("theirs", "fetch"); result.Ran || !strings.Contains(result.Problem, path+" belongs to user 1234; chown root") {
		t.Errorf("somebody else's plugin: %+v", result)
	}
	if result, _ := s.ask("mine", "fetch"); !result.OK() {
		t.Errorf("beside it: %+v", result)
	}
	// A link of root's to what somebody else may change is no better.
	away := filepath.Join(s.dir, "away")
	if err := os.WriteFile(away, []byte("#!/bin/sh\n"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(away, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(away, filepath.Join(s.dir, "etc/plugins/linked")); err != nil {
		t.Fatal(err)
	}
	if result, _ := s.ask("linked", "fetch"); result.Ran || !strings.Contains(result.Problem, "can be written by everybody") {
		t.Errorf("a link to what everybody may write: %+v", result)
	}
	s.conf("theirs", "[*]\nuser root\n")
	if err := os.Chmod(filepath.Join(s.dir, "etc/plugin-conf.d/theirs"), 0o666); err != nil {
		t.Fatal(err)
	}
	if result, _ := s.ask("mine", "fetch"); result.Ran || !strings.Contains(result.Problem, "no plugin is run: ") {
		t.Errorf("a configuration that everybody may write: %+v", result)
	}
}

// TestHostilePlugins runs what must not hold anybody up.
func TestHostilePlugins(t *testing.T) {
	s := newPuppets(t)
	pids := filepath.Join(s.dir, "pids")
	if err := os.WriteFile(pids, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(pids, 0o666); err != nil {
		t.Fatal(err)
	}
	s.conf("a", "[hang]\ntimeout 1\n[children]\ntimeout 1\n")
	s.plugin("hang", "trap '' HUP TERM INT; echo $$ >>"+pids+"; echo a.value 1; while :; do sleep 1000; done")
	s.plugin("children", "for i in 1 2 3; do (trap '' HUP; sleep 1000) & echo $! >>"+pids+"; done; sleep 1000")
	s.plugin("leaves", "sleep 1000 & echo $! >>"+pids+"; echo a.value 1")
	s.plugin("holds", "setsid sh -c 'echo $$ >>"+pids+"; exec sleep 60' & echo a.value 1")
	s.plugin("flood", "exec head -c 100000000 /dev/zero")
	s.plugin("garbage", "head -c 1000000 /dev/urandom")
	s.plugin("stderr", "head -c 10000000 /dev/zero >&2; echo a.value 1")
	tests := []struct{ name, problem string }{
		{"hang", "took longer than 1s and was killed with all that it had started"},
		{"children", "took longer than 1s and was killed with all that it had started"},
		{"leaves", ""},
		{"holds", ""},
		{"flood", "printed more than 4 MiB and was killed"},
		{"garbage", ""},
		{"stderr", ""},
	}
	var wg sync.WaitGroup
	for _, tt := range tests {
		wg.Go(func() {
			began := time.Now()
			result := s.p.do(t.Context(), tt.name, exec.Job{Entry: "munin/" + tt.name, Do: "fetch"})
			if result.Problem != tt.problem || !result.Ran {
				t.Errorf("%s: problem %q, want %q", tt.name, result.Problem, tt.problem)
			}
			if took := time.Since(began); took > 45*time.Second {
				t.Errorf("%s took %v", tt.name, took)
			}
			if text, err := probe.UnpackText(result.Out); err != nil || len(text) > maxPluginText {
				t.Errorf("%s: %d bytes, %v", tt.name, len(text), err)
			}
			if len(result.Err) > 4<<10 {
				t.Errorf("%s: %d bytes of standard error", tt.name, len(result.Err))
			}
		})
	}
	wg.Wait()
	text, err := os.ReadFile(pids)
	if err != nil {
		t.Fatal(err)
	}
	alive := 0
	for _, pid := range strings.Fields(string(text)) {
		n, err := strconv.Atoi(pid)
		if err != nil {
			t.Fatal(err)
		}
		deadline := time.Now().Add(30 * time.Second)
		for running(n) && time.Now().Before(deadline) {
			time.Sleep(10 * time.Millisecond)
			if strings.Contains(commandOf(n), "sleep\x0060") {
				break // left its session on purpose, as daemons do
			}
		}
		if running(n) {
			alive++
			_ = syscall.Kill(n, syscall.SIGKILL)
		}
	}
	if alive > 1 {
		t.Errorf("%d processes of plugins live on", alive)
	}
}

// running says whether a process is there and no zombie.
func running(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}

func commandOf(pid int) string {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return string(text)
}

func TestPluginJobs(t *testing.T) {
	s := newPuppets(t)
	s.plugin("load", "echo a.value 1")
	s.plugin("old.bak", "")
	s.conf("a", "[load]\nupdate_rate 300\ntimeout 7\n")
	s.conf("b", "nonsense\n")
	result := s.p.do(t.Context(), "", exec.Job{Entry: "munin", Do: "list"})
	l, err := probe.DecodePlugins(result.Out)
	want := []probe.Plugin{{Name: "load", Rate: 5 * time.Minute, Timeout: 7 * time.Second}}
	if err != nil || !slices.Equal(l.Plugins, want) || len(l.Problems) != 1 {
		t.Errorf("list %+v, %v; want %+v and one problem", l, err, want)
	}
	for _, tt := range []struct {
		entry, do, plugin string
		mine              bool
	}{
		{"munin", "list", "", true}, {"munin/load", "config", "load", true}, {"munin/load", "fetch", "load", true},
		{"munin/mail", "actionban", "", false}, {"munin", "ignorecommand", "", false}, {"sshd/x", "config", "", false}, {"munin/load", "list", "", false},
	} {
		if plugin, mine := s.p.mine(exec.Job{Entry: tt.entry, Do: tt.do}); plugin != tt.plugin || mine != tt.mine {
			t.Errorf("%s %s: %q, %v", tt.entry, tt.do, plugin, mine)
		}
	}
	s.p.o.Plugins = filepath.Join(s.dir, "none")
	s.p.read = time.Time{}
	if r := s.p.do(t.Context(), "", exec.Job{Entry: "munin", Do: "list"}); !strings.Contains(r.Problem, "there is no folder") {
		t.Errorf("no folder: %+v", r)
	}
	if r := newPlugins(MuninOptions{}).do(t.Context(), "load", exec.Job{Entry: "munin/load", Do: "fetch"}); !strings.Contains(r.Problem, "no plugin of Munin is run") {
		t.Errorf("switched off: %+v", r)
	}
}

// TestDebianPlugins runs Debian's plugins through a runner and a schedule, beside one that hangs and one that fails.
func TestDebianPlugins(t *testing.T) {
	const share = "/usr/share/munin/plugins"
	if _, err := os.Stat(filepath.Join(share, "load")); err != nil {
		t.Skip("munin-plugins-core is not installed (scripts/setup.sh)")
	}
	s := newPuppets(t)
	want := map[string]string{ // by plugin: a field that it has everywhere
		"load": "load.load", "cpu": "cpu.user", "memory": "memory.free", "uptime": "uptime.uptime", "processes": "processes.processes",
		"forks": "forks.forks", "if_lo": "if_lo.up", "interrupts": "interrupts.intr", "open_files": "open_files.used", "swap": "swap.swap_in",
	}
	for name := range want {
		target := name
		if name == "if_lo" {
			target = "if_"
		}
		if err := os.Symlink(filepath.Join(share, target), filepath.Join(s.p.o.Plugins, name)); err != nil {
			t.Fatal(err)
		}
	}
	s.plugin("zz_hang", "sleep 1000")
	s.plugin("zz_fail", "echo broken >&2; exit 1")
	s.plugin("zz_dirty", "echo 'graph_title x'; echo 'host_name virtual'; echo 'a.label a'; echo 'a.value 7'")

	ours, childs, err := exec.Pair()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := exec.Inherited(dup(t, childs))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := RunRunner(ctx, RunnerOptions{Munin: s.p.o, Conn: conn, Log: slog.New(slog.DiscardHandler)}); err != nil {
			t.Errorf("RunRunner() = %v", err)
		}
	})
	runner := exec.RunnerOn(ours)
	var mu sync.Mutex
	got := map[string]munin.Value{}
	hosts := map[string]string{}
	ps, err := probe.NewPlugins(probe.PluginsOptions{Do: runner.Do, Interval: time.Second, Deliver: func(rs []probe.Reading) {
		mu.Lock()
		defer mu.Unlock()
		for _, r := range rs {
			hosts[r.Service.Name] = r.Service.Host
			for _, v := range r.Values {
				got[r.Service.Name+"."+v.Field] = v
			}
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	wg.Go(func() { ps.Run(ctx) })
	defer func() { cancel(); _ = runner.Close(); wg.Wait() }()

	missing := func() (names []string) {
		mu.Lock()
		defer mu.Unlock()
		for _, field := range want {
			if _, ok := got[field]; !ok {
				names = append(names, field)
			}
		}
		if got["zz_dirty.a"].V != 7 || hosts["zz_dirty"] != "virtual" {
			names = append(names, "zz_dirty.a of virtual")
		}
		return names
	}
	for deadline := time.Now().Add(90 * time.Second); len(missing()) > 0 && time.Now().Before(deadline); {
		time.Sleep(20 * time.Millisecond)
	}
	if names := missing(); len(names) > 0 {
		t.Errorf("no value of %q", names)
	}
	states, problems, err := ps.States()
	if err != nil || len(problems) != 0 || len(states) != len(want)+3 {
		t.Errorf("%d plugins, %q, %v; want %d", len(states), problems, err, len(want)+3)
	}
	for _, st := range states {
		switch st.Name {
		case "zz_fail":
			if st.On || !strings.Contains(st.Why, "broken (exit code 1)") {
				t.Errorf("%+v", st)
			}
		case "zz_hang":
			if st.On || st.Busy.IsZero() {
				t.Errorf("%+v", st)
			}
		default:
			if !st.On || st.Why != "" || st.CPU <= 0 {
				t.Errorf("%+v", st)
			}
		}
	}
}

// A runner without a folder of fail2ban and without plugins reads what only root may; one that nobody watches with ends.
func TestRunnerForProbesAlone(t *testing.T) {
	tests := []struct {
		name  string
		watch bool
	}{{"supervision", true}, {"none", false}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "runner.sock")
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() {
				done <- RunRunner(ctx, RunnerOptions{Socket: path, Watch: tt.watch, Log: slog.New(slog.DiscardHandler)})
			}()
			if !tt.watch {
				if err := <-done; err != nil {
					t.Errorf("RunRunner() = %v, want that it ends in peace", err)
				}
				cancel()
				return
			}
			runner := exec.NewRunner(exec.DialSocket(path))
			r, err := runner.Do(ctx, exec.Job{Entry: "probe/load", Do: "read"})
			for deadline := time.Now().Add(30 * time.Second); errors.Is(err, exec.ErrUnreachable) && time.Now().Before(deadline); {
				time.Sleep(10 * time.Millisecond)
				r, err = runner.Do(ctx, exec.Job{Entry: "probe/load", Do: "read"})
			}
			if err != nil || !r.Ran {
				t.Errorf("a probe read by the runner: %+v, %v", r, err)
			}
			_ = runner.Close()
			cancel()
			if err := <-done; err != nil {
				t.Errorf("RunRunner() = %v", err)
			}
		})
	}
}
