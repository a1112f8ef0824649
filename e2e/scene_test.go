package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"tocsin/e2e/lab"
	"tocsin/internal/api"
)

var (
	binary   string // tocsin as it was built for these tests
	noReason string // why there can be no scene here
)

func TestMain(m *testing.M) {
	os.Exit(func() int {
		if noReason = lab.Missing(); noReason != "" {
			return m.Run()
		}
		removeLeft()
		dir := leftPrefix + strconv.Itoa(os.Getpid())
		if err := os.Mkdir(dir, 0o755); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		binary = filepath.Join(dir, "tocsin")
		build := exec.Command("go", "build", "-trimpath", "-o", binary, "tocsin/cmd/tocsin")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build tocsin: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

// leftPrefix and a process id are the name of the one folder that these tests have on the machine, for the binary.
var leftPrefix = filepath.Join(os.TempDir(), "tocsin-e2e-")

// removeLeft removes what runs that were killed have left.
func removeLeft() {
	dirs, err := filepath.Glob(leftPrefix + "[0-9]*")
	if err != nil {
		panic("BUG: " + err.Error())
	}
	for _, dir := range dirs {
		pid, err := strconv.Atoi(strings.TrimPrefix(dir, leftPrefix))
		if err == nil && syscall.Kill(pid, 0) == syscall.ESRCH {
			os.RemoveAll(dir)
		}
	}
}

// Where things lie on the victim. The first three are in memory, and each test has its own.
const (
	program    = "/run/lab/bin/tocsin"
	configFile = "/run/lab/tocsin.toml"
	stateDir   = "/run/lab/state"
	socket     = "/run/lab/tocsin.sock"
)

// sshd is the configuration of most tests: the jail of the manual, with every default written out that they rely on.
const sshd = `
[[jail]]
name = "sshd"
filter = "sshd"
sources = ["file:/var/log/auth.log"]
ports = [22, 2222, 2200]
maxretry = 5
findtime = "10m"
bantime = "15m"
`

// scene is a lab with a guard on the victim.
type scene struct {
	*lab.Lab

	t     *testing.T
	ctx   context.Context
	guard *lab.Proc
	under []string // a program that starts the guard, with its arguments
	env   []string // what the guard's environment has besides
	args  []string // those of `tocsin run`
}

// newScene builds a lab for the test, without a guard. The test has limit to end, and on a busy machine several times that.
func newScene(t *testing.T, limit time.Duration) *scene {
	t.Helper()
	if noReason != "" {
		t.Skip(noReason)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 4*limit)
	t.Cleanup(cancel)
	l, err := lab.New(ctx)
	if err != nil {
		t.Fatal(err)
	}
	s := &scene{Lab: l, t: t, ctx: ctx}
	t.Cleanup(func() {
		if t.Failed() {
			s.tellMore()
		}
		if err := l.Close(); err != nil {
			t.Errorf("close the lab: %v", err)
		}
	})
	text, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	s.write(program, string(text), 0o755)
	return s
}

// tellMore says what one wants to know when a test has failed.
func (s *scene) tellMore() {
	if s.guard != nil {
		s.t.Logf("the guard said:\n%s", s.guard.Output())
	}
	log, _ := s.Victim.Read(lab.AuthLog)
	s.t.Logf("%s:\n%s", lab.AuthLog, log)
	rules, _ := s.Victim.Run(s.ctx, "nft", "list", "ruleset")
	s.t.Logf("nft list ruleset:\n%s", rules)
}

// guarded builds a lab whose victim is guarded with the configuration.
func guarded(t *testing.T, limit time.Duration, config string) *scene {
	t.Helper()
	s := newScene(t, limit)
	s.configure(config)
	s.run("--config", configFile)
	return s
}

func (s *scene) configure(text string) {
	s.t.Helper()
	s.write(configFile, text, 0o644)
}

func (s *scene) write(name, text string, mode os.FileMode) {
	s.t.Helper()
	if err := s.Victim.Write(name, text, mode); err != nil {
		s.t.Fatal(err)
	}
}

// run starts the guard and returns when it answers.
func (s *scene) run(args ...string) {
	s.t.Helper()
	s.args = append([]string{"run", "--state", stateDir, "--socket", socket}, args...)
	s.again()
}

// again starts the guard as it was started before.
func (s *scene) again() {
	s.t.Helper()
	line := slices.Concat(s.under, []string{program}, s.args)
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Env = append(os.Environ(), s.env...)
	var err error
	if s.guard, err = s.Victim.Start(cmd); err != nil {
		s.t.Fatal(err)
	}
	s.within(answer, "the guard to answer", func() (bool, error) {
		select {
		case <-s.guard.Done():
			return false, fmt.Errorf("it ended: %w", s.guard.Wait())
		default:
		}
		_, code := s.try("status")
		return code == api.ExitDone, nil
	})
}

// stop ends the guard as systemd does.
func (s *scene) stop() {
	s.t.Helper()
	if err := s.guard.Stop(answer); err != nil {
		s.t.Error(err)
	}
	if code := s.guard.Code(); code != api.ExitDone {
		s.t.Errorf("the guard ended with code %d after SIGTERM, want 0", code)
	}
}

// within fails the test if ask is not true within the time.
func (s *scene) within(limit time.Duration, what string, ask func() (bool, error)) {
	s.t.Helper()
	if err := lab.Poll(s.ctx, limit, ask); err != nil {
		s.t.Fatalf("waited %v for %s: %v", limit, what, err)
	}
}

// command runs a tocsin command on the victim, as root or as somebody else.
func (s *scene) command(uid uint32, args ...string) (stdout, stderr string, code int) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, 2*answer)
	defer cancel()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, program, append([]string{"--state", stateDir, "--socket", socket}, args...)...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	p, err := s.Victim.Start(cmd)
	if err != nil {
		s.t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := p.Wait(); err != nil && !errors.As(err, &exit) {
		s.t.Fatalf("tocsin %s: %v", strings.Join(args, " "), err)
	}
	return out.String(), errs.String(), p.Code()
}

// try runs a command as root that may fail.
func (s *scene) try(args ...string) (said string, code int) {
	s.t.Helper()
	stdout, stderr, code := s.command(0, args...)
	return stdout + stderr, code
}

// must runs a command as root that may not fail.
func (s *scene) must(args ...string) string {
	s.t.Helper()
	stdout, stderr, code := s.command(0, args...)
	if code != api.ExitDone {
		s.t.Fatalf("tocsin %s: code %d: %s%s", strings.Join(args, " "), code, stdout, stderr)
	}
	return stdout
}

// ask runs a command with --json and reads its one object.
func ask[T any](s *scene, args ...string) T {
	s.t.Helper()
	var v T
	stdout, stderr, _ := s.command(0, append(args, "--json")...)
	if err := json.Unmarshal([]byte(stdout), &v); err != nil {
		s.t.Fatalf("tocsin %s --json: %v: %s%s", strings.Join(args, " "), err, stdout, stderr)
	}
	return v
}

func (s *scene) why(a netip.Addr) api.Why {
	s.t.Helper()
	return ask[api.Why](s, "why", a.String())
}

// banned are the prefixes that are banned now.
func (s *scene) banned() map[string]bool {
	s.t.Helper()
	all := map[string]bool{}
	for _, b := range ask[api.Bans](s, "bans").Bans {
		all[b.Prefix] = true
	}
	return all
}

// login is a try to get in from the attacker; wrong makes its password a wrong one.
func wrong(to netip.Addr, port uint16) lab.Login {
	return lab.Login{To: to, Port: port, Password: "wrong"}
}

func right(to netip.Addr, port uint16) lab.Login {
	return lab.Login{To: to, Port: port, Password: lab.Password}
}

// tries runs a client several times and fails the test unless each ends as wanted.
func (s *scene) tries(n int, want lab.End, try func() (lab.End, error)) {
	s.t.Helper()
	for i := range n {
		end, err := try()
		if err != nil {
			s.t.Fatal(err)
		}
		if end != want {
			s.t.Fatalf("try %d of %d ended %v, want %v", i+1, n, end, want)
		}
	}
}

// guess tries a login over ssh several times; the server must answer each.
func (s *scene) guess(from *lab.Host, n int, l lab.Login) {
	s.t.Helper()
	s.tries(n, lab.Denied, func() (lab.End, error) { return from.SSH(s.ctx, l) })
}

// letIn says that a login succeeds.
func (s *scene) letIn(from *lab.Host, l lab.Login) {
	s.t.Helper()
	s.tries(1, lab.In, func() (lab.End, error) { return from.SSH(s.ctx, l) })
}

// silent is how long a connection must stay without any answer to count as dropped: on these links an answer takes
// microseconds. answer is how long is waited for what must come, however busy the machine is. soon is how long a ban may
// take on a machine that has time for it; one that takes longer is told of.
const (
	silent = 300 * time.Millisecond
	answer = 30 * time.Second
	soon   = time.Second
)

// shutOut fails the test unless the host is cut off, on every port given, and stays so.
func (s *scene) shutOut(from *lab.Host, to netip.Addr, ports ...uint16) {
	s.t.Helper()
	start := time.Now()
	for !s.dropped(from, lab.At(to, ports[0])) {
		if time.Since(start) > answer {
			s.t.Fatalf("%s still connects to port %d after %v", from.Name, ports[0], time.Since(start))
		}
		time.Sleep(10 * time.Millisecond) // each connection is a process of sshd: leave something for the others
	}
	if took := time.Since(start) - silent; took > soon {
		s.t.Logf("%s was cut off after %v", from.Name, took)
	}
	for _, port := range ports[1:] {
		if !s.dropped(from, lab.At(to, port)) {
			s.t.Errorf("%s is banned, and connects to port %d", from.Name, port)
		}
	}
}

// dropped says whether a host's packets get no answer. Where the time was over long ago when we were told of it, we were
// held up ourselves, and may have overslept the answer: then it is asked again.
func (s *scene) dropped(from *lab.Host, to netip.AddrPort) bool {
	s.t.Helper()
	for range 10 {
		start := time.Now()
		if from.Connect(to, silent) == nil {
			return false
		}
		if time.Since(start) < silent*5/4 {
			break
		}
	}
	return true
}

// reaches fails the test unless the host can connect to every port.
func (s *scene) reaches(from *lab.Host, to netip.Addr, ports ...uint16) {
	s.t.Helper()
	for _, port := range ports {
		if err := from.Connect(lab.At(to, port), answer); err != nil {
			s.t.Errorf("%s cannot connect to port %d: %v", from.Name, port, err)
		}
	}
}

// logged is how many lines of the log hold the text.
func (s *scene) logged(text string) int {
	s.t.Helper()
	log, err := s.Victim.Read(lab.AuthLog)
	if err != nil {
		s.t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(log) {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

// script runs a shell script on the victim.
func (s *scene) script(text string) {
	s.t.Helper()
	if _, err := s.Victim.Script(s.ctx, text); err != nil {
		s.t.Fatal(err)
	}
}

// addresses gives the attacker more addresses.
func (s *scene) addresses(as ...netip.Addr) {
	s.t.Helper()
	var b strings.Builder
	for _, a := range as {
		nodad := ""
		if a.Is6() {
			nodad = "nodad"
		}
		fmt.Fprintf(&b, "ip addr add %s dev victim %s\n", lab.Network(a), nodad)
	}
	if _, err := s.Attacker.Script(s.ctx, b.String()); err != nil {
		s.t.Fatal(err)
	}
}

func (s *scene) stopLog() {
	s.t.Helper()
	if err := s.Victim.StopLog(); err != nil {
		s.t.Fatal(err)
	}
}

func (s *scene) startLog(format lab.LogFormat) {
	s.t.Helper()
	if err := s.Victim.StartLog(s.ctx, format); err != nil {
		s.t.Fatal(err)
	}
}

// forge writes failures of an address into the log as sshd would, with the time that they claim.
func (s *scene) forge(from netip.Addr, n int, at time.Time) {
	s.t.Helper()
	log, err := os.OpenFile(s.Victim.Path(lab.AuthLog), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	for i := range n {
		_, err := fmt.Fprintf(log, "%s victim sshd[%d]: Failed password for root from %s port %d ssh2\n",
			at.Format("2006-01-02T15:04:05.000000-07:00"), 9000+i, from, 40000+i)
		if err != nil {
			s.t.Fatal(err)
		}
	}
}
