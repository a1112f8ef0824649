package daemon

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"tocsin/internal/api"
	"tocsin/internal/config"
	"tocsin/internal/exec"
	"tocsin/internal/fail2ban"
	"tocsin/internal/host"
	"tocsin/internal/probe"
)

// RunnerOptions are what the runner is started with.
type RunnerOptions struct {
	Dir   string       // the folder of fail2ban's configuration; "": there are no actions to run
	Munin MuninOptions // whose plugins are run
	Watch bool         // a watch process asks for what only root may read
	// Config reads the configuration, for the commands of contacts; nil: none is run.
	Config func() (*config.Config, error)
	// Conn is the guard that started us; nil: listen at Socket, for root, user tocsin and our own user.
	Conn   net.Conn
	Socket string
	Log    *slog.Logger
}

// Bounds of what the runner does at once, and of what a command may say.
const (
	maxCommands   = 64
	maxAsksByJail = 8 // commands of one jail that are asked whether to ignore somebody
	maxSaid       = 4 << 10
	maxVersions   = 4           // of one entry that are remembered: the guard stops an action as it was started
	reloadPause   = time.Second // between two readings of the configuration
	ignoreTime    = 60 * time.Second
)

// askIgnore is what a jail can be asked: whether to ignore somebody. Exit code 0 is yes.
const askIgnore = "ignorecommand"

// onlyCommand is the name under which ignoreAction has its command.
const onlyCommand = "actionban"

// actionCommands are what can be done with an action: nothing else in its file is a command.
var actionCommands = []string{
	"actionstart", "actionstop", "actioncheck", "actionrepair", "actionflush", "actionreload",
	"actionban", "actionreban", "actionprolong", "actionunban",
}

// runner is the process that runs the user's commands. It knows them from the configuration on the disk; who asks names
// them and brings values.
type runner struct {
	o     RunnerOptions
	root  bool // what others than root may write is refused
	slots chan struct{}
	names *exec.Runner // the resolver
	munin *plugins
	probe *probe.Rooted // the built-in probes that only root may read
	tells *teller

	mu      sync.Mutex
	entries map[string][]*entry // by name, newest version first
	read    time.Time           // when the configuration was read last
	failed  error               // why it could not be
}

// entry is one action of a jail, or what a jail asks.
type entry struct {
	version string
	action  *fail2ban.Action
	asks    bool // it is no action, but what the jail asks
	timeout time.Duration
	problem string        // why it must not be run, "" if it may
	turn    chan struct{} // as many as may run at once; the versions of an entry share it
}

// has says whether an entry may be asked to do something.
func (e *entry) has(do string) bool {
	if e.asks {
		return do == askIgnore
	}
	return slices.Contains(actionCommands, do)
}

// RunRunner serves until ctx ends, or until the guard that started us does. Whatever runs then is killed.
func RunRunner(ctx context.Context, o RunnerOptions) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := &runner{o: o, root: os.Geteuid() == 0, slots: make(chan struct{}, maxCommands), entries: map[string][]*entry{}}
	r.munin, r.probe = newPlugins(o.Munin), probe.NewRooted(probe.NewHost())
	r.tells = newTeller(o.Config)
	r.names = exec.NewRunner(func(context.Context) (net.Conn, error) { return r.startResolver(ctx) })
	defer r.names.Close()
	if o.Dir != "" {
		r.look()
	}
	if o.Conn != nil {
		defer r.alsoListen(ctx)()
		return exec.Serve(ctx, o.Conn, r.do)
	}
	if o.Dir == "" && !o.Watch {
		o.Log.Info("there is nothing to run: the configuration names no folder of fail2ban, and supervision is off")
		notify(daemon.SdNotifyReady) // systemd takes an end before that for a failure
		return nil
	}
	l, err := listenForGuard(o.Socket)
	if err != nil {
		return err
	}
	notify(daemon.SdNotifyReady)
	o.Log.Info("waiting for a guard", "file", o.Socket, "fail2ban", o.Dir, "munin", o.Munin.Plugins)
	return exec.ServeAll(ctx, l, mayAsk(), r.do, o.Log)
}

// alsoListen answers the watch process on the socket, for the guard that started us keeps its line for itself. The function that
// it returns waits for the end of that.
func (r *runner) alsoListen(ctx context.Context) (wait func()) {
	if r.o.Socket == "" {
		return func() {}
	}
	l, err := listenForGuard(r.o.Socket)
	if err != nil {
		r.o.Log.Error("what only root may read is not supervised", "err", err)
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := exec.ServeAll(ctx, l, mayAsk(), r.do, r.o.Log); err != nil {
			r.o.Log.Error("what only root may read is not supervised any more", "err", err)
		}
	}()
	return func() { cancel(); <-done }
}

// mayAsk says who may ask: root, the user of the watch process, and whoever runs the runner.
func mayAsk() func(uid uint32) bool {
	allowed := []uint32{0, watchUser().UID, uint32(os.Geteuid())}
	return func(uid uint32) bool { return slices.Contains(allowed, uid) }
}

// do is what is done for each job.
func (r *runner) do(ctx context.Context, j exec.Job) exec.Result {
	if plugin, ok := r.munin.mine(j); ok {
		return r.munin.do(ctx, plugin, j)
	}
	if r.tells.mine(j) {
		return r.tells.do(ctx, j)
	}
	if name, ok := strings.CutPrefix(j.Entry, "probe/"); ok && j.Do == "read" {
		out, used := r.probe.ReadPacked(ctx, name)
		return exec.Result{Ran: true, Out: out, CPU: int64(used)}
	}
	if j.Do == askForward || j.Do == askReverse {
		result, err := r.names.Do(ctx, exec.Job{Do: j.Do, Values: j.Values})
		if err != nil {
			return exec.Result{Problem: "the resolver: " + err.Error()}
		}
		return result
	}
	if r.o.Dir == "" {
		return exec.Result{Problem: fmt.Sprintf("%s is not run: the configuration names no folder of fail2ban", j.Entry)}
	}
	e, err := r.entry(ctx, j.Entry, j.Version)
	if err != nil {
		return exec.Result{Problem: err.Error()}
	}
	if e.problem != "" {
		return exec.Result{Problem: e.problem}
	}
	if !e.has(j.Do) {
		return exec.Result{Problem: fmt.Sprintf("%q is no command of %s", j.Do, j.Entry)}
	}
	command := j.Do
	if e.asks {
		command = onlyCommand
	}
	script, ok, err := e.action.Command(command, j.Family, j.Values)
	if err != nil {
		return exec.Result{Problem: err.Error()}
	}
	if !ok {
		return exec.Result{}
	}
	return r.run(ctx, e, script)
}

// run runs one script when its turn has come.
func (r *runner) run(ctx context.Context, e *entry, s fail2ban.Script) exec.Result {
	for _, turn := range []chan struct{}{e.turn, r.slots} {
		select {
		case turn <- struct{}{}:
			defer func() { <-turn }()
		case <-ctx.Done():
			return exec.Result{Problem: context.Cause(ctx).Error()}
		}
	}
	out, err := exec.Run(ctx, exec.Command{
		Path: "/bin/sh", Args: append([]string{"-c", s.Text}, s.Args...), Timeout: e.timeout,
		// Log lines are UTF-8, and people's scripts look for their settings at home.
		Env:       []string{"HOME=" + home(), "LC_ALL=C.UTF-8"},
		MaxOutput: maxSaid, Cut: true, Leaves: true,
	})
	result := exec.Result{Ran: true, Out: string(out.Stdout), Err: string(out.Stderr)}
	var exit *exec.ExitError
	switch {
	case err == nil:
	case errors.Is(err, exec.ErrTimeout):
		result.Code, result.Problem = -1, fmt.Sprintf("took longer than %v and was killed with all that it had started", e.timeout)
	case errors.As(err, &exit) && exit.Signal != "":
		result.Code, result.Problem = -1, "was ended by signal: "+exit.Signal
	case errors.As(err, &exit):
		result.Code = exit.Code
		if exit.Code == 127 {
			result.Problem = "a command was not found (exit code 127): are all programs of the action installed, and in " + exec.Path + "?"
		}
	default:
		result.Ran, result.Code, result.Problem = false, -1, err.Error()
	}
	return result
}

func home() string {
	if u, err := user.Current(); err == nil && u.HomeDir != "" {
		return u.HomeDir
	}
	return "/"
}

// entry finds an entry as the asking side read it. If it is not known like that, the configuration is read again: it may
// have changed.
func (r *runner) entry(ctx context.Context, name, version string) (*entry, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.known(name, version)
	if e == nil {
		r.pause(ctx)
		e = r.known(name, version) // others may have read it meanwhile
	}
	if (e == nil || e.problem != "") && time.Since(r.read) >= reloadPause {
		r.readAgain()
		e = r.known(name, version)
	}
	switch {
	case e != nil:
		return e, nil
	case r.failed != nil:
		return nil, fmt.Errorf("%s is not run: %w", name, r.failed)
	case len(r.entries[name]) > 0:
		return nil, fmt.Errorf("%s is not run: the files in %s are not those that the guard read; tocsin reload", name, r.o.Dir)
	}
	return nil, fmt.Errorf("%s is not run: there is none in %s; tocsin reload", name, r.o.Dir)
}

// pause waits, without the lock, until the configuration may be read again.
func (r *runner) pause(ctx context.Context) {
	wait := time.Until(r.read.Add(reloadPause))
	if wait <= 0 {
		return
	}
	r.mu.Unlock()
	defer r.mu.Lock()
	select {
	case <-time.After(wait):
	case <-ctx.Done():
	}
}

func (r *runner) known(name, version string) *entry {
	for _, e := range r.entries[name] {
		if e.version == version {
			return e
		}
	}
	return nil
}

func (r *runner) look() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.readAgain()
}

// readAgain reads the configuration. What was known before is kept, up to a bound.
func (r *runner) readAgain() {
	defer func() { r.read = time.Now() }()
	c, err := fail2ban.Load(fail2ban.LoadOptions{Dir: r.o.Dir, Glob: noLogs})
	if r.failed = err; err != nil {
		r.o.Log.Error("cannot read the configuration of fail2ban", "file", r.o.Dir, "err", err)
		return
	}
	whole := untrusted(r.root, append(jailFiles(r.o.Dir), c.Files...)...)
	for _, j := range c.Jails {
		if j.Err != nil {
			continue
		}
		common := errors.Join(whole, untrusted(r.root, j.Filter.Files...)) // an action may say %(known/option)s
		if a := ignoreAction(j); a != nil {
			r.add(j.Name, &entry{version: fingerprint(a), action: a, asks: true, timeout: ignoreTime, problem: problem(j.Name, common)}, maxAsksByJail)
		}
		for _, a := range j.Actions {
			if a.Python {
				continue
			}
			name := j.Name + "/" + a.Actname
			e := &entry{version: fingerprint(a), action: a, problem: problem(name, errors.Join(common, untrusted(r.root, a.Files...)))}
			if e.timeout, err = a.Timeout(); err != nil {
				e.problem = fmt.Sprintf("%s is not run: %v", name, err)
			}
			r.add(name, e, 1)
		}
	}
}

// noLogs finds no log: whoever only runs commands has no use for them.
func noLogs(string) ([]string, error) { return nil, nil }

func problem(name string, err error) string {
	if err == nil {
		return ""
	}
	return fmt.Sprintf("%s is not run: %v", name, err)
}

// add puts a version in front of the others.
func (r *runner) add(name string, e *entry, atOnce int) {
	all := r.entries[name]
	if e.turn = make(chan struct{}, atOnce); len(all) > 0 {
		e.turn = all[0].turn
	}
	all = slices.DeleteFunc(all, func(old *entry) bool { return old.version == e.version })
	all = slices.Insert(all, 0, e)
	r.entries[name] = all[:min(len(all), maxVersions)]
	if e.problem != "" {
		r.o.Log.Error("an action is refused", "err", e.problem)
	}
}

// ignoreAction is the ignorecommand of a jail in the form of an action, nil if it has none.
func ignoreAction(j *fail2ban.Jail) *fail2ban.Action {
	if strings.TrimSpace(j.Ignorecommand) == "" {
		return nil
	}
	return &fail2ban.Action{
		Name: askIgnore, Actname: askIgnore, Pos: j.Pos,
		Options: []fail2ban.Option{{Name: onlyCommand, Value: j.Ignorecommand, Pos: j.Pos}},
	}
}

// fingerprint tells two versions of an action apart.
func fingerprint(a *fail2ban.Action) string {
	h := sha256.New()
	field := func(s string) { h.Write([]byte(strconv.Itoa(len(s)) + ":" + s)) } // no two lists are written alike
	field(a.Name)
	field(a.Actname)
	for _, o := range a.Options {
		field(o.Name)
		field(o.Value)
	}
	return hex.EncodeToString(h.Sum(nil)[:12])
}

// jailFiles are the files that say which actions a jail has.
func jailFiles(dir string) (files []string) {
	for _, pattern := range []string{"*.conf", "*.local", "jail.d/*.conf", "jail.d/*.local"} {
		found, _ := filepath.Glob(filepath.Join(dir, pattern)) // the pattern is well formed
		files = append(files, found...)
	}
	return append(files, dir)
}

// untrusted says which of some files somebody else than root may change, for a runner that is root: whoever may change them
// may otherwise become root. A runner of anybody else can do nothing that its user cannot.
func untrusted(root bool, files ...string) error {
	if !root {
		return nil
	}
	seen := map[string]bool{}
	for _, f := range files {
		whole, err := filepath.Abs(f)
		if err == nil {
			err = host.RootOnly(whole, seen)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// listenForGuard makes the runner's socket. Only root and the group tocsin get to it, and each is asked for its user.
func listenForGuard(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make folder of the runner's socket: %w", err)
	}
	gid := -1
	if os.Geteuid() == 0 {
		gid = int(watchUser().GID)
	}
	l, err := api.Listen(path, gid)
	if err != nil {
		return nil, fmt.Errorf("the runner's socket: %w", err)
	}
	return l, nil
}
