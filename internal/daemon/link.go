package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"tocsin/internal/exec"
	"tocsin/internal/fail2ban"
)

// runnerName is the runner's socket, beside the guard's.
const runnerName = "runner.sock"

// RunnerSocket is where the runner listens for a guard whose control socket is given.
func RunnerSocket(guard string) string { return filepath.Join(filepath.Dir(guard), runnerName) }

// link is the guard's connection to who runs the user's commands. The zero link has nobody at the other end.
type link struct {
	runner *exec.Runner
	next   chan net.Conn // to a runner of ours that was just started; nil: it is another service's
	why    string        // why there is no runner, "" if there is
}

// linkUp finds the runner that listens, or starts one as a child. It must be done before privileges are given up: the
// runner keeps what the guard does not need. Without a runner bans go on; whom the user's actions would have told is not.
func (g *Guard) linkUp(s *set) {
	if !s.needsRunner() {
		g.startRunnerForWatch(s)
		g.link.why = "the configuration asked for no command when the guard started; restart it"
		return
	}
	g.lookup, g.ask = g.addresses, g.askCommand
	path := RunnerSocket(g.o.Config.Socket)
	if conn, err := net.DialTimeout("unix", path, time.Second); err == nil {
		_ = conn.Close()
		g.link.runner = exec.NewRunner(exec.DialSocket(path))
		return
	}
	if missing := bounded(); missing != "" {
		g.link.why = "this service may not run the commands of actions (no " + missing + "), and no runner listens at " + path + "; systemctl enable --now tocsin-runner"
	} else if err := g.startRunner(s); err != nil {
		g.link.why = err.Error()
	}
	if g.link.why != "" {
		g.lookup, g.ask = nil, nil
		g.log.Error("the actions of the configuration do not run", "err", g.link.why)
		g.trouble.add("actions", errors.New(g.link.why))
	}
}

// startRunnerForWatch starts a runner for what is supervised, where nobody else needs one: Munin's plugins, and what only
// root may read. Without it the rest is supervised.
func (g *Guard) startRunnerForWatch(s *set) {
	if !g.startsWatch || !s.conf.Watch.Enabled || os.Geteuid() != 0 {
		return
	}
	if conn, err := net.DialTimeout("unix", RunnerSocket(g.o.Config.Socket), time.Second); err == nil {
		_ = conn.Close()
		return
	}
	if err := g.startRunner(s); err != nil {
		g.log.Error("what only root may read is not supervised", "err", err)
	}
}

// needsRunner says whether there is anything that the guard cannot do by itself.
func (s *set) needsRunner() bool {
	for _, c := range s.cells {
		if c.f2b != nil { // its filter may find host names
			return true
		}
	}
	return false
}

// bounded names a capability of root that this process can never have, "" if there is none or it is not root: a sandbox
// was put around it, in which the user's commands would fail in odd ways.
func bounded() string {
	if os.Geteuid() != 0 {
		return ""
	}
	for c, name := range map[uintptr]string{unix.CAP_SETUID: "CAP_SETUID", unix.CAP_DAC_OVERRIDE: "CAP_DAC_OVERRIDE"} {
		if has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0); err == nil && has == 0 {
			return name
		}
	}
	return ""
}

// startRunner starts this very program as the runner, and again whenever it ends. It ends when it sees that we have, and
// kills what it runs.
func (g *Guard) startRunner(s *set) error {
	st, err := g.useStarter(s)
	if err != nil {
		return fmt.Errorf("start the runner: %w", err)
	}
	next := make(chan net.Conn, 1)
	g.link = link{next: next, runner: exec.NewRunner(func(context.Context) (net.Conn, error) {
		select {
		case conn := <-next:
			return conn, nil
		default:
			return nil, errors.New("it ended, and is started again")
		}
	})}
	g.keep(&kept{name: theRunner, what: "the runner", lacks: "the user's actions do not run, and what only root may read is not supervised", start: func() (<-chan error, error) {
		ours, childs, err := exec.Pair()
		if err != nil {
			return nil, err
		}
		defer childs.Close()
		ended, err := st.start(theRunner, childs)
		if err != nil {
			_ = ours.Close()
			return nil, err
		}
		g.link.leave() // the line to one that ended before anybody asked it
		next <- ours
		return ended, nil
	}})
	return nil
}

// leave closes a line that nobody took into use.
func (l *link) leave() {
	select {
	case conn := <-l.next:
		_ = conn.Close()
	default:
	}
}

// linkDown lets the runner end: it sees that its line did.
func (g *Guard) linkDown() {
	if g.link.runner == nil {
		return
	}
	_ = g.link.runner.Close()
	g.link.leave()
}

// command has the runner do something.
func (g *Guard) command(ctx context.Context, j exec.Job) (exec.Result, error) {
	if g.link.runner == nil {
		return exec.Result{}, fmt.Errorf("%w: %s", exec.ErrUnreachable, g.link.why)
	}
	return g.link.runner.Do(ctx, j)
}

// addresses asks the resolver for the addresses of a host name; none is no error. It waits for somebody's name servers:
// never call it in the decider.
func (g *Guard) addresses(ctx context.Context, name string) ([]netip.Addr, error) {
	r, err := g.command(ctx, exec.Job{Do: askForward, Values: map[string]string{"name": name}})
	if err == nil && r.Problem != "" {
		err = errors.New(r.Problem)
	}
	if err != nil {
		return nil, fmt.Errorf("look up %s: %w", name, err)
	}
	var addrs []netip.Addr
	for line := range strings.Lines(r.Out) {
		if a, err := netip.ParseAddr(strings.TrimSpace(line)); err == nil && len(addrs) < maxAnswers {
			addrs = append(addrs, a.Unmap())
		}
	}
	return addrs, nil
}

// hostOf asks the resolver for the name of an address, "" if it has none. It waits as addresses does.
func (g *Guard) hostOf(ctx context.Context, a netip.Addr) (string, error) {
	r, err := g.command(ctx, exec.Job{Do: askReverse, Values: map[string]string{"addr": a.String()}})
	if err == nil && r.Problem != "" {
		err = errors.New(r.Problem)
	}
	if err != nil {
		return "", fmt.Errorf("look up %s: %w", a, err)
	}
	name, _, _ := strings.Cut(r.Out, "\n")
	return hostName(name), nil
}

// ignoredByCommand asks a jail's ignorecommand about somebody. An error says that it gave no answer.
func (g *Guard) ignoredByCommand(ctx context.Context, j *fail2ban.Jail, family string, values fail2ban.Values) (bool, error) {
	r, err := g.command(ctx, exec.Job{Entry: j.Name, Version: fingerprint(ignoreAction(j)), Do: askIgnore, Family: family, Values: values})
	switch {
	case err != nil:
		return false, fmt.Errorf("ask ignorecommand of jail %s: %w", j.Name, err)
	case !r.Ran || r.Problem != "":
		return false, fmt.Errorf("ask ignorecommand of jail %s: %s", j.Name, r.Problem)
	}
	return r.Code == 0, nil
}
