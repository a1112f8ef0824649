package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"tocsin/internal/api"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"tocsin": main, "fail2ban-client": main, "fail2ban-regex": main, "fail2ban-server": main})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			// A socket's name may have 107 bytes; a test's folder is longer.
			dir, err := os.MkdirTemp("", "tocsin")
			if err != nil {
				return err
			}
			e.Defer(func() { os.RemoveAll(dir) })
			e.Setenv("S", dir)
			e.Setenv("TZ", "UTC")
			for name, conf := range map[string]string{
				"guard.toml":  fmt.Sprintf(guardConfig, dir, dir, e.WorkDir),
				"broken.toml": fmt.Sprintf(brokenConfig, dir, dir),
				"watch.toml":  fmt.Sprintf(watchConfig, dir, dir),
			} {
				if err := os.WriteFile(filepath.Join(e.WorkDir, name), []byte(conf), 0o600); err != nil {
					return err
				}
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "until": waitUntil, "append": appendTo, "answers": answers, "watches": watches, "database": fail2banDatabase},
		Condition: func(name string) (bool, error) {
			if name != "netns" {
				return false, fmt.Errorf("unknown condition %q", name)
			}
			return exec.Command("unshare", "--net", "true").Run() == nil, nil
		},
	})
}

// guardConfig is for scripts that run a guard: it reads auth.log of the script's folder and touches no firewall.
const guardConfig = `state = "%s"
socket = "%s/guard.sock"
[guard]
observe = true
[[jail]]
name = "sshd"
filter = "sshd"
sources = ["file:%s/auth.log"]
ports = [22, 2200]
`

// brokenConfig is one that somebody has just spoilt, while a guard runs with what it said before.
const brokenConfig = `bantme = "1h"
state = "%s/broken"
socket = %s/broken/guard.sock
[[jail]
`

// watchConfig is for scripts that run a watch process alone. Nobody guards, and nobody listens on the network.
const watchConfig = `state = "%s"
socket = "%s/guard.sock"
listen = ""
[web]
url = "https://tocsin.example.org"
[watch]
group = "Gandi"
name = "web1"
interval = "1s"
munin_plugins = ""
[[rule]]
name = "busy"
service = "uptime"
field = "uptime"
warning = ":-1"
[[contact]]
name = "ops"
urgency = "urgent"
ntfy = "http://127.0.0.1:9/topic"
`

// watchesAs is the user of a watch process where the test is root: nobody else's.
const watchesAs = 64321

// watches starts a watch process of watch.toml, which ends with the script: watches.
func watches(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: watches")
	}
	dir := ts.Getenv("S")
	ts.Check(os.Mkdir(filepath.Join(dir, "watch"), 0o750))
	program := ""
	for _, bin := range filepath.SplitList(ts.Getenv("PATH")) {
		if path := filepath.Join(bin, "tocsin"); program == "" {
			if _, err := os.Stat(path); err == nil {
				program = path
			}
		}
	}
	cmd := &exec.Cmd{Path: program, Args: []string{"tocsin"}}
	if os.Geteuid() == 0 { // it refuses to be root, and nobody else gets to the folders of a test
		ts.Check(os.Chown(filepath.Join(dir, "watch"), watchesAs, watchesAs))
		ts.Check(os.Chmod(dir, 0o711))
		text, err := os.ReadFile(cmd.Path)
		ts.Check(err)
		cmd.Path = filepath.Join(dir, "tocsin")
		ts.Check(os.WriteFile(cmd.Path, text, 0o755))
		conf, err := os.ReadFile(ts.MkAbs("watch.toml"))
		ts.Check(err)
		ts.Check(os.WriteFile(filepath.Join(dir, "watch.toml"), conf, 0o644))
		cmd.Args = append(cmd.Args, "--config", filepath.Join(dir, "watch.toml"), "watch")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: watchesAs, Gid: watchesAs}}
	} else {
		cmd.Args = append(cmd.Args, "--config", ts.MkAbs("watch.toml"), "watch")
	}
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "TZ=UTC")
	ts.Check(cmd.Start())
	ts.Defer(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
}

// waitUntil runs a program again and again until its output matches: until REGEXP PROGRAM [ARGUMENT...].
func waitUntil(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until regexp program [argument...]")
	}
	want, err := regexp.Compile(args[0])
	ts.Check(err)
	var out string
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		_ = ts.Exec(args[1], args[2:]...) // it may fail at first; what counts is what it says in the end
		if out = ts.ReadFile("stdout"); want.MatchString(out) {
			return
		}
	}
	ts.Fatalf("no match for %q in the last output:\n%s", args[0], out)
}

// appendTo adds failed logins to a log, dated now: append FILE ADDRESS COUNT [USER].
func appendTo(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: append file address count [user]")
	}
	n, err := strconv.Atoi(args[2])
	ts.Check(err)
	user := append(args, "root")[3]
	f, err := os.OpenFile(ts.MkAbs(args[0]), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	ts.Check(err)
	defer f.Close()
	for i := range n {
		_, err := fmt.Fprintf(f, "%s web1 sshd[%d]: Failed password for %s from %s port %d ssh2\n", time.Now().UTC().Format(time.RFC3339), 1000+i, user, args[1], 4000+i)
		ts.Check(err)
	}
}

// answers is a guard on a socket that refuses everything, or never answers: answers SOCKET EXIT TEXT, answers SOCKET never.
func answers(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 && len(args) != 3 {
		ts.Fatalf("usage: answers socket exit text")
	}
	l, err := net.Listen("unix", args[0])
	ts.Check(err)
	ts.Defer(func() { l.Close() })
	if args[1] == "never" {
		return // the kernel accepts, and nobody reads
	}
	exit, err := strconv.Atoi(args[1])
	ts.Check(err)
	go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusConflict)
		_ = encode(w, api.Errorf(exit, "", args[2]))
	}))
}

// exits runs a program and asserts its exit code: exits CODE PROGRAM [ARGUMENT...]. Its output is kept for stdout and
// stderr.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits code program [argument...]")
	}
	want, err := strconv.Atoi(args[0])
	if err != nil {
		ts.Fatalf("exits %s: no exit code", args[0])
	}
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		got = exit.ExitCode()
	case err != nil:
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}
