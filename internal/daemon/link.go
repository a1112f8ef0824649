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
	child  *exec.Child // nil: another service's
	ended  chan struct{}
	kill   context.CancelFunc
	why    string // why there is no runner, "" if there is
}

// A runner that is told to end has this long, commands included.
const runnerTime = 2 * time.Second

// linkUp finds the runner that listens, or starts one as a child. It must be done before privileges are given up: the
// runner keeps what the guard does not need. Without a runner bans go on; whom the user's actions would have told is not.
func (g *Guard) linkUp(s *set) {
	if !s.needsRunner() {
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

// startRunner starts this very program as the runner. It ends when it sees that we have, and kills what it runs; that is
// why the kernel must not kill it first.
func (g *Guard) startRunner(s *set) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the program to start the runner: %w", err)
	}
	ours, childs, err := exec.Pair()
	if err != nil {
		return err
	}
	defer childs.Close()
	ctx, kill := context.WithCancel(context.Background())
	child, err := exec.Start(ctx, exec.Command{
		Path: self, Args: []string{"runner", "--fail2ban", s.conf.Fail2ban.Dir, "--fd", "3"},
		Files: []*os.File{childs}, Orphan: true,
	})
	if err != nil {
		kill()
		_ = ours.Close()
		return fmt.Errorf("start the runner: %w", err)
	}
	g.link = link{runner: exec.RunnerOn(ours), child: child, ended: make(chan struct{}), kill: kill}
	go func() {
		defer close(g.link.ended)
		_ = child.Stdout.Close()
		if err := child.Wait(); err != nil && ctx.Err() == nil {
			g.log.Error("the runner ended; actions do not run until the guard is started again", "err", err)
			g.trouble.add("actions", fmt.Errorf("the runner ended: %w", err))
		}
	}()
	return nil
}

// linkDown lets the runner end.
func (g *Guard) linkDown() {
	if g.link.runner == nil {
		return
	}
	_ = g.link.runner.Close()
	if g.link.child == nil {
		return
	}
	select {
	case <-g.link.ended:
	case <-time.After(runnerTime):
	}
	g.link.kill()
	<-g.link.ended
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
