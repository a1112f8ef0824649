package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"tocsin/internal/exec"
	"tocsin/internal/munin"
	"tocsin/internal/probe"
)

// MuninOptions say where Munin's plugins are, and where they may keep what they remember.
type MuninOptions struct {
	// Plugins is the folder of the plugins, such as /etc/munin/plugins; "": none is run. How they are run stand in
	// plugin-conf.d and munin-node.conf beside it.
	Plugins string
	// State is a folder of root's that everybody may enter: each user that plugins run as has one of their own in it.
	State string
}

// PluginState is the folder for what plugins remember, by that of the program: beside it, for plugins run as users who
// may not enter that.
func PluginState(state string) string { return filepath.Clean(state) + "-plugins" }

// Bounds of a plugin.
const (
	maxPluginsAtOnce = 16 // more wait, so that actions of bans always find room
	maxPluginText    = 4 << 20
	maxPluginTime    = 15 * time.Minute // as long as munin-node serves a master
)

// What plugins are run as if nothing is said, as in Munin.
const (
	pluginUser  = "nobody"
	pluginGroup = "munin"
)

// pluginMaster is who the plugins believe to be asked by. Some remember what they told by that name: an old master that
// polls this machine too has a memory of its own.
const pluginMaster = "tocsin"

// pluginWords are what a plugin may be asked, with the argument that it gets.
var pluginWords = map[string][]string{"config": {"config"}, "fetch": nil, "autoconf": {"autoconf"}, "suggest": {"suggest"}}

// plugins runs Munin's plugins for the runner.
type plugins struct {
	o     MuninOptions
	root  bool // what others than root may write is refused
	slots chan struct{}

	mu     sync.Mutex
	read   time.Time // when the configuration was read last
	node   *munin.NodeConf
	conf   *munin.PluginConf
	failed error // why plugins are not run
}

func newPlugins(o MuninOptions) *plugins {
	return &plugins{o: o, root: os.Geteuid() == 0, slots: make(chan struct{}, maxPluginsAtOnce)}
}

// mine says whether a job is one about plugins. A jail may be called munin too; what it is asked is something else.
func (p *plugins) mine(j exec.Job) (plugin string, ok bool) {
	if j.Entry == "munin" && j.Do == "list" {
		return "", true
	}
	plugin, ok = strings.CutPrefix(j.Entry, "munin/")
	if _, known := pluginWords[j.Do]; !ok || !known {
		return "", false
	}
	return plugin, true
}

func (p *plugins) do(ctx context.Context, plugin string, j exec.Job) exec.Result {
	if p.o.Plugins == "" {
		return exec.Result{Problem: `no plugin of Munin is run: munin_plugins is ""`}
	}
	node, conf, err := p.configuration(j.Do == "list")
	if err != nil {
		return exec.Result{Problem: err.Error()}
	}
	if j.Do == "list" {
		return p.list(node, conf)
	}
	if !munin.IsPlugin(p.o.Plugins, plugin, node) {
		return exec.Result{Problem: fmt.Sprintf("there is no plugin %q in %s", plugin, p.o.Plugins)}
	}
	if err := untrusted(p.root, filepath.Join(p.o.Plugins, plugin)); err != nil {
		return exec.Result{Problem: "it is not run: " + err.Error()}
	}
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-ctx.Done():
		return exec.Result{Problem: context.Cause(ctx).Error()}
	}
	result := p.run(ctx, plugin, j.Do, node, conf.For(plugin))
	result.Out = probe.PackText([]byte(result.Out))
	return result
}

// list tells what plugins there are.
func (p *plugins) list(node *munin.NodeConf, conf *munin.PluginConf) exec.Result {
	names, err := munin.Plugins(p.o.Plugins, node)
	if err != nil && len(names) == 0 {
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("there is no folder %s", p.o.Plugins)
		}
		return exec.Result{Problem: err.Error()}
	}
	l := probe.PluginList{Problems: problemLines(node.Problems, conf.Problems)}
	if err != nil {
		l.Problems = append(l.Problems, err.Error())
	}
	for _, name := range names {
		s := conf.For(name)
		l.Plugins = append(l.Plugins, probe.Plugin{Name: name, Rate: s.UpdateRate, Timeout: p.timeout(node, s)})
	}
	return exec.Result{Ran: true, Out: probe.EncodePlugins(l)}
}

// problemLines is what problems say, one line each.
func problemLines(all ...[]munin.Problem) (lines []string) {
	for _, problems := range all {
		for _, p := range problems {
			lines = append(lines, p.String())
		}
	}
	return lines
}

// configuration is what munin-node.conf and plugin-conf.d say, read again if that was more than a moment ago.
func (p *plugins) configuration(again bool) (*munin.NodeConf, *munin.PluginConf, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.read.IsZero() || again || time.Since(p.read) >= reloadPause {
		p.node, p.conf, p.failed = p.readConfiguration()
		p.read = time.Now()
	}
	return p.node, p.conf, p.failed
}

func (p *plugins) readConfiguration() (*munin.NodeConf, *munin.PluginConf, error) {
	etc := filepath.Dir(filepath.Clean(p.o.Plugins))
	nodePath, confPath := filepath.Join(etc, "munin-node.conf"), filepath.Join(etc, "plugin-conf.d")
	node, err := munin.ReadNodeConf(nodePath)
	if errors.Is(err, fs.ErrNotExist) {
		node, err = munin.UsualNodeConf(), nil
	}
	if err != nil {
		return nil, nil, err
	}
	// Who may write there may say that a plugin runs as root.
	files, err := os.ReadDir(confPath)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	trust := []string{nodePath, confPath, p.o.Plugins}
	for _, f := range files {
		trust = append(trust, filepath.Join(confPath, f.Name()))
	}
	if err := untrusted(p.root, trust...); err != nil {
		return nil, nil, fmt.Errorf("no plugin is run: %w", err)
	}
	conf, err := munin.ReadPluginConf(confPath, node)
	return node, conf, err
}

func (p *plugins) timeout(node *munin.NodeConf, s munin.PluginSettings) time.Duration {
	t := s.Timeout
	if t == 0 {
		t = node.Timeout
	}
	return min(t, maxPluginTime)
}

// run runs one plugin as its settings say. What it printed is in Out as it is.
func (p *plugins) run(ctx context.Context, plugin, do string, node *munin.NodeConf, s munin.PluginSettings) exec.Result {
	who, name, err := p.who(s)
	if err != nil {
		return exec.Result{Problem: err.Error()}
	}
	state, err := p.stateOf(name, who)
	if err != nil {
		return exec.Result{Problem: err.Error()}
	}
	argv := pluginArgv(filepath.Join(p.o.Plugins, plugin), pluginWords[do], s.Command)
	timeout := p.timeout(node, s)
	out, err := exec.Run(ctx, exec.Command{
		// Files that a plugin makes are for its group too, as under munin-node. The mask is the process's, not ours to change.
		Path: "/bin/sh", Args: append([]string{"-c", `umask 0002; exec "$@"`, plugin}, argv...),
		Env: pluginEnv(plugin, state, node, s), User: who, Session: true, Timeout: timeout, MaxOutput: maxPluginText,
	})
	result := exec.Result{Ran: true, Out: string(out.Stdout), Err: string(out.Stderr), CPU: int64(out.CPU)}
	var exit *exec.ExitError
	switch {
	case err == nil && s.HostName != "" && do == "config":
		result.Out = "host_name " + s.HostName + "\n" + result.Out // the first one counts
	case err == nil:
	case errors.Is(err, exec.ErrTimeout):
		result.Code, result.Problem = -1, fmt.Sprintf("took longer than %v and was killed with all that it had started", timeout)
	case errors.Is(err, exec.ErrTooLong):
		result.Code, result.Problem = -1, fmt.Sprintf("printed more than %d MiB and was killed", maxPluginText>>20)
	case errors.As(err, &exit) && exit.Signal != "":
		result.Code, result.Problem = -1, "was ended by signal: "+exit.Signal
	case errors.As(err, &exit):
		result.Code, result.Problem = exit.Code, exit.Error()
	default:
		result.Ran, result.Code, result.Problem = false, -1, err.Error()
	}
	return result
}

// pluginArgv is the plugin with its argument, or the command that stands for it. It ends up behind /bin/sh's exec, which
// looks for no option in it: a plugin's path is absolute.
func pluginArgv(path string, args, command []string) []string {
	own := append([]string{path}, args...)
	if len(command) == 0 {
		return own
	}
	var argv []string
	for _, word := range command {
		if word == "%c" {
			argv = append(argv, own...)
		} else {
			argv = append(argv, word)
		}
	}
	return argv
}

// who is the account that a plugin runs as, nil if that is ours.
func (p *plugins) who(s munin.PluginSettings) (who *exec.User, name string, err error) {
	wanted := s.User
	if wanted == "" && p.root {
		wanted = pluginUser
	}
	if wanted == "" {
		return nil, strconv.Itoa(os.Geteuid()), nil
	}
	u, err := lookupUser(wanted)
	if err != nil {
		return nil, "", fmt.Errorf("plugin-conf.d wants it to run as user %s, who does not exist here", wanted)
	}
	uid, uerr := strconv.ParseUint(u.Uid, 10, 32)
	gid, gerr := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(uerr, gerr); err != nil {
		return nil, "", err
	}
	if !p.root {
		if int(uid) != os.Geteuid() {
			return nil, "", fmt.Errorf("plugin-conf.d wants it to run as user %s, which only root can do", wanted)
		}
		return nil, u.Username, nil
	}
	who = &exec.User{UID: uint32(uid), GID: uint32(gid)}
	groups := s.Groups
	if len(groups) == 0 {
		groups = []munin.PluginGroup{{Name: pluginGroup, Optional: true}} // without Munin installed there is none: the user's own
	}
	for _, g := range groups {
		id, err := lookupGroup(g.Name)
		switch {
		case err == nil:
			who.Groups = append(who.Groups, id)
		case !g.Optional:
			return nil, "", fmt.Errorf("plugin-conf.d wants it to run as group %s, which does not exist here", g.Name)
		}
	}
	if len(who.Groups) > 0 {
		who.GID = who.Groups[0]
	}
	return who, u.Username, nil
}

func lookupUser(name string) (*user.User, error) {
	if _, err := strconv.ParseUint(name, 10, 32); err == nil {
		return user.LookupId(name)
	}
	return user.Lookup(name)
}

func lookupGroup(name string) (uint32, error) {
	look := user.LookupGroup
	if _, err := strconv.ParseUint(name, 10, 32); err == nil {
		look = user.LookupGroupId
	}
	g, err := look(name)
	if err != nil {
		return 0, err
	}
	id, err := strconv.ParseUint(g.Gid, 10, 32)
	return uint32(id), err
}

// stateOf makes the folder in which the plugins of one user remember things.
func (p *plugins) stateOf(name string, who *exec.User) (string, error) {
	if strings.ContainsAny(name, "/\x00") || strings.HasPrefix(name, ".") {
		return "", fmt.Errorf("user %q has a name that no folder can have", name)
	}
	if err := os.MkdirAll(p.o.State, 0o755); err != nil {
		return "", fmt.Errorf("make the folder of plugins' state: %w", err)
	}
	if err := untrusted(p.root, p.o.State); err != nil {
		return "", fmt.Errorf("the folder of plugins' state: %w", err)
	}
	dir := filepath.Join(p.o.State, name)
	err := os.Mkdir(dir, 0o755)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("make the folder of plugins' state: %w", err)
	}
	if who == nil {
		return dir, nil
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return "", err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.IsDir() {
		return "", fmt.Errorf("%s is no folder: take it away", dir)
	}
	if st.Uid != who.UID {
		if err := os.Lchown(dir, int(who.UID), 0); err != nil { // the folder above is root's alone, so this is what was looked at
			return "", fmt.Errorf("give user %s the folder of its plugins' state: %w", name, err)
		}
	}
	return dir, nil
}

// pluginEnv is the environment of a plugin, as munin-node of Debian gives it.
func pluginEnv(plugin, state string, node *munin.NodeConf, s munin.PluginSettings) []string {
	name := node.HostName
	if name == "" {
		name, _ = os.Hostname()
	}
	env := append([]string{
		"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "LANG=C", "PYTHONIOENCODING=utf8:replace",
		"FQDN=" + name, "MUNIN_HOSTNAME=" + name, "MUNIN_DEBUG=0",
		"MUNIN_MASTER_IP=" + pluginMaster, "MUNIN_CAP_MULTIGRAPH=1", "MUNIN_CAP_DIRTYCONFIG=1",
		"MUNIN_PLUGSTATE=" + state, "MUNIN_STATEFILE=" + filepath.Join(state, plugin+"-"+pluginMaster),
	}, pluginConstants...)
	for _, e := range s.Env {
		env = append(env, e.Name+"="+e.Value) // of a name that is there twice the last one counts
	}
	return env
}

// pluginConstants are where Debian's Munin has its parts. Plugins look for theirs in MUNIN_LIBDIR.
var pluginConstants = []string{
	"MUNIN_PREFIX=/usr", "MUNIN_CONFDIR=/etc/munin", "MUNIN_BINDIR=/usr/bin", "MUNIN_SBINDIR=/usr/sbin", "MUNIN_DOCDIR=/usr/doc",
	"MUNIN_LIBDIR=/usr/share/munin", "MUNIN_HTMLDIR=/var/cache/munin/www", "MUNIN_CGIDIR=/usr/lib/munin/cgi", "MUNIN_CGITMPDIR=",
	"MUNIN_DBDIR=/var/lib/munin", "MUNIN_SPOOLDIR=/var/lib/munin-async", "MUNIN_MANDIR=/usr/share/man", "MUNIN_LOGDIR=/var/log/munin",
	"MUNIN_STATEDIR=/var/run/munin", "MUNIN_USER=munin", "MUNIN_GROUP=munin", "MUNIN_PLUGINUSER=nobody", "MUNIN_VERSION=2.0.73",
	"MUNIN_PERL=/usr/bin/perl", "MUNIN_PERLLIB=/usr/share/perl5", "MUNIN_GOODSH=/bin/sh", "MUNIN_BASH=/bin/bash",
	"MUNIN_PYTHON=/usr/bin/env python3", "MUNIN_RUBY=/usr/bin/env ruby", "MUNIN_OSTYPE=linux", "MUNIN_HASSETR=1",
	"MUNIN_MKTEMP=mktemp -p /tmp/",
}
