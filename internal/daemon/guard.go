// Package daemon lays the pipes between the rooms, and nothing but pipes: what is started in which order, what flows
// from where to where, who waits for whom. Every thought about logs, counts, rules or rows lives in a room.
//
// The one thing to know: a single goroutine, the decider, owns every jail and takes every decision. Whoever wants to
// know or change something sends it a function.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"

	"tocsin"
	"tocsin/internal/api"
	"tocsin/internal/config"
	"tocsin/internal/firewall"
	"tocsin/internal/host"
	"tocsin/internal/store"
)

// Options are what the command line says to the guard.
type Options struct {
	ConfigPath string // "" for the built-in configuration
	Config     *config.Config
	Observe    bool                 // decide and show, never touch the firewall
	Clean      bool                 // remove the firewall table at the end
	Adjust     func(*config.Config) // puts the command line over a configuration that was read again; nil: nothing
	Version    string
	Say        io.Writer // the few lines for the person at the terminal
	Log        *slog.Logger
}

// Guard is the running guard.
type Guard struct {
	o       Options
	log     *slog.Logger
	state   string // the state folder
	started time.Time

	store    *store.Store
	wall     wall
	enforces bool   // the wall is the kernel's
	observes string // why it is not, "" if it is

	trouble trouble // safe for use by everybody

	events chan event  // from the readers
	calls  chan func() // from the control socket and the watchers

	// Owned by the decider.
	set     *set // the jails and readers of the configuration in force
	shield  *shield
	active  map[banKey]activeBan
	tally   map[tallyKey]*store.FailureCount
	wasOff  bool
	late    bool // the store let the last decision wait too long
	running []*reader

	reloading sync.Mutex // one reload at a time
	readers   sync.WaitGroup
	stopRead  context.CancelFunc
}

// wall is a firewall: the kernel's, or one that only remembers.
type wall interface {
	Restore(bans []tocsin.Decision, allow []netip.Prefix, now time.Time) ([]tocsin.Decision, error)
	Ban(ds ...tocsin.Decision) error
	Unban(ds ...tocsin.Decision) error
	SetAllow(ps []netip.Prefix) error
	Sync(now time.Time) error
	Clear() error
	Watch(ctx context.Context, lost func() (restore bool)) error
	Stats() firewall.Stats
}

type banKey struct{ jail, id string }

type activeBan struct {
	at, until time.Time
	prefix    netip.Prefix
	origin    tocsin.Origin
}

// Bounds of the pipes.
const (
	eventQueue = 1024 // failures on their way to the decider; a line is at most 16 KiB
	storeWait  = 50 * time.Millisecond
	lateWait   = time.Millisecond // the same while the store is known to be stalled
	drainTime  = 5 * time.Second
	tickTime   = time.Second
)

// Run starts the guard, guards until ctx ends or reload is closed, and stops it again. A value on reload makes it read its
// configuration anew.
func Run(ctx context.Context, o Options, reload <-chan os.Signal) error {
	g := &Guard{
		o: o, log: o.Log, state: o.Config.State, started: time.Now(),
		events: make(chan event, eventQueue), calls: make(chan func()),
		active: map[banKey]activeBan{}, tally: map[tallyKey]*store.FailureCount{},
	}
	set, err := build(ctx, o.Config, true)
	if err != nil {
		return err
	}
	unlock, err := lockState(o.Config.State)
	if err != nil {
		return err
	}
	defer unlock()
	if err := g.openStore(); err != nil {
		return err
	}
	defer g.closeStore()

	g.chooseWall()
	if err := g.restore(set); err != nil {
		return err
	}
	if o.Clean {
		defer g.clean()
	}

	socket, err := g.listen()
	if err != nil {
		return err
	}
	defer socket.Close()
	if err := g.dropPrivileges(); err != nil {
		return err
	}
	g.sayWhatItWillDo(set)

	return g.serve(ctx, set, socket, reload)
}

// serve runs every goroutine of the guard and returns when all of them have ended.
func (g *Guard) serve(ctx context.Context, first *set, socket net.Listener, reload <-chan os.Signal) error {
	// The readers stop first, then the decider takes what they left, then everything else.
	rest, stopRest := context.WithCancel(context.WithoutCancel(ctx))
	defer stopRest()
	var wg sync.WaitGroup
	spawn := func(what string, f func(context.Context) error) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := f(rest); err != nil && !errors.Is(err, context.Canceled) {
				g.log.Error("stopped working", "part", what, "err", err)
				g.trouble.add(what, err)
			}
		}()
	}
	decided := make(chan struct{})
	stopDecider := make(chan struct{})
	go func() { defer close(decided); g.decideUntil(stopDecider) }()

	// Before anybody can ask about it.
	g.do(rest, func() { g.use(first) })
	spawn("control socket", func(ctx context.Context) error { return api.Serve(ctx, socket, api.Handler(g.operations())) })
	spawn("firewall watch", func(ctx context.Context) error { return g.wall.Watch(ctx, g.mayRestore) })
	spawn("address watch", func(ctx context.Context) error { return host.Watch(ctx, func() { g.lookAgain(ctx) }) })
	spawn("store upkeep", g.pruneHourly)

	notify(daemon.SdNotifyReady)
	for running := true; running; {
		select {
		case <-ctx.Done():
			running = false
		case <-reload:
			notify(fmt.Sprintf("%s\nMONOTONIC_USEC=%d", daemon.SdNotifyReloading, monotonicMicros()))
			if _, err := g.reload(rest); err != nil {
				g.log.Error("reload failed, the old configuration stays", "err", err)
			}
			notify(daemon.SdNotifyReady)
		}
	}
	notify(daemon.SdNotifyStopping)

	g.stopReaders()
	close(stopDecider)
	select {
	case <-decided:
	case <-time.After(drainTime):
		g.log.Warn("not everything could be decided before the end", "n", len(g.events))
	}
	stopRest()
	wg.Wait()
	return nil
}

// chooseWall takes the kernel's firewall if it may be used and says why not otherwise.
func (g *Guard) chooseWall() {
	g.wall = firewall.NewDry()
	switch err := firewall.Available(); {
	case g.o.Observe || g.o.Config.Guard.Observe:
		g.observes = "asked to"
	case err != nil:
		g.observes = err.Error()
	default:
		fw, err := firewall.Open(firewall.Options{Log: g.log})
		if err != nil {
			g.observes = err.Error()
			return
		}
		g.wall, g.enforces = fw, true
	}
}

// restore makes jails and firewall what they were when the last guard stopped.
func (g *Guard) restore(s *set) error {
	now := time.Now()
	bans, err := g.store.Active(now)
	if err != nil {
		g.log.Error("cannot read the bans in force; the kernel's stay", "err", err)
		g.trouble.add("store", err)
	}
	if g.shield, err = newShield(g.o.Config, g.store, now); err != nil {
		g.log.Error("the allow list may not be whole", "err", err)
		g.trouble.add("allow list", err)
	}
	for _, d := range bans {
		g.remember(&d)
	}
	if g.wasOff = g.isOff(now); g.wasOff {
		g.log.Warn("off: watching and deciding, the firewall is not touched until `tocsin on`")
		return nil
	}
	adopted, err := g.wall.Restore(bans, g.shield.prefixes(), now)
	if err != nil {
		g.log.Error("cannot put the bans into the kernel; trying again every second", "err", err)
		g.trouble.add("firewall", err)
		return nil
	}
	g.adopt(adopted)
	return nil
}

// adopt takes over bans that only the kernel knew: the store was lost, or had no time to write.
func (g *Guard) adopt(ds []tocsin.Decision) {
	if len(ds) == 0 {
		return
	}
	g.log.Info("adopted bans that only the kernel knew", "n", len(ds))
	for i := range ds {
		g.remember(&ds[i])
	}
	ctx, cancel := context.WithTimeout(context.Background(), storeWait)
	defer cancel()
	if err := g.store.Put(ctx, ds...); err != nil {
		g.log.Warn("adopted bans are not stored yet", "err", err)
	}
}

func (g *Guard) listen() (net.Listener, error) {
	path := g.o.Config.Socket
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make folder of the control socket: %w", err)
	}
	return api.Listen(path, groupID("tocsin"))
}

// dropPrivileges keeps what a guard needs: to change the firewall, and to read logs of any owner.
func (g *Guard) dropPrivileges() error {
	if os.Geteuid() != 0 {
		return nil
	}
	if !mayDropPrivileges {
		g.log.Warn("built with cgo: all of root's privileges are kept; build with CGO_ENABLED=0")
		return nil
	}
	if err := host.DropTo(unix.CAP_NET_ADMIN, unix.CAP_DAC_READ_SEARCH); err != nil {
		return fmt.Errorf("drop privileges: %w", err)
	}
	return nil
}

func (g *Guard) clean() {
	if err := g.wall.Clear(); err != nil {
		g.log.Error("cannot remove the firewall table", "err", err)
	}
}

func (g *Guard) closeStore() {
	if err := g.store.Close(); err != nil {
		g.log.Error("close store", "err", err)
	}
}

// openStore opens the store. On a disk that is full from the start, where not even an empty one can be made, it takes a
// store in memory, beside the socket: the attackers do not wait until somebody has made room.
func (g *Guard) openStore() (err error) {
	const name = "guard.sqlite"
	o := store.Options{Log: g.log}
	if g.store, err = store.Open(filepath.Join(g.state, name), o); err != nil {
		instead := filepath.Join(filepath.Dir(g.o.Config.Socket), name)
		g.log.Error("cannot open the store; what is decided now is forgotten at the next boot", "file", instead, "err", err)
		g.trouble.add("store", err)
		g.trouble.storeElsewhere = instead
		if err := os.MkdirAll(filepath.Dir(instead), 0o755); err != nil {
			return fmt.Errorf("make folder of the store: %w", err)
		}
		if g.store, err = store.Open(instead, o); err != nil {
			return fmt.Errorf("open store: %w", err)
		}
	}
	g.noteMovedAside()
	return nil
}

func (g *Guard) noteMovedAside() {
	if name := g.store.MovedAside(); name != "" {
		g.log.Error("the store was damaged and moved aside; a new one is in use", "file", name)
		g.trouble.movedAside = name
	}
}

// pruneHourly forgets what is older than the retention allows.
func (g *Guard) pruneHourly(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-time.After(time.Hour):
			var r config.Retention
			if err := g.do(ctx, func() { r = g.set.conf.Retention }); err != nil {
				return nil
			}
			n, err := g.store.Prune(ctx, now, store.Retention{Evidence: r.Evidence, Bans: r.Bans, Logins: r.Logins})
			if err != nil {
				g.log.Warn("forget old rows", "err", err)
				continue
			}
			g.log.Info("forgot old rows", "n", n)
		}
	}
}

// lockState makes the state folder and makes sure that one guard uses it.
func lockState(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("make state folder: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock state folder: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock state folder %s: another guard uses it", dir)
	}
	return func() { _ = f.Close() }, nil
}

// groupID is the number of a group, -1 if there is none of this name.
func groupID(name string) int {
	gr, err := user.LookupGroup(name)
	if err != nil {
		return -1
	}
	id, err := strconv.Atoi(gr.Gid)
	if err != nil {
		return -1
	}
	return id
}

// monotonicMicros is the clock that systemd wants with a reload (sd_notify(3)).
func monotonicMicros() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0
	}
	return ts.Nano() / 1000
}

// lookAgain asks what this machine is now.
func (g *Guard) lookAgain(ctx context.Context) {
	if err := g.do(ctx, func() {
		if err := g.refreshShield(); err != nil {
			g.log.Warn("cannot tell the addresses of this machine", "err", err)
		}
	}); err != nil {
		g.log.Warn("cannot take over changed addresses", "err", err)
	}
}

func notify(state string) {
	_, _ = daemon.SdNotify(false, state) // without systemd there is nobody to tell
}
