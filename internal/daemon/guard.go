// Package daemon lays the pipes between the rooms, and nothing but pipes: what is started in which order, what flows
// from where to where, who waits for whom. Every thought about logs, counts, rules or rows lives in a room.
//
// The one thing to know: a single goroutine, the decider, owns every jail and takes every decision. Whoever wants to
// know or change something sends it a function.
package daemon

import (
	"cmp"
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
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"

	"tocsin"
	"tocsin/internal/api"
	"tocsin/internal/config"
	"tocsin/internal/f2blog"
	"tocsin/internal/firewall"
	"tocsin/internal/host"
	"tocsin/internal/store"
)

// Options are what the command line says to the guard.
type Options struct {
	Config *config.Config // to begin with
	Path   string         // its file, "" for the built-in configuration
	// Load reads the configuration again, for a reload, and says which file it found. nil: there is no reload.
	Load    func() (c *config.Config, path string, err error)
	Observe bool // decide and show, never touch the firewall
	// BesideFail2ban bans by the configuration of a fail2ban that is running too.
	BesideFail2ban bool
	Watch          bool // start the watch process, where there is anything for it to do
	Clean          bool // remove the firewall table at the end
	Version        string
	Name           string    // how the program is called at this terminal; default tocsin
	Say            io.Writer // the few lines for the person at the terminal
	Terminal       bool      // a person reads them: they get a link to the pages
	Log            *slog.Logger
}

// Guard is the running guard.
type Guard struct {
	o       Options
	log     *slog.Logger
	state   string // the state folder of the configuration, where the emergency exit is
	started time.Time

	store    *store.Store
	wall     wall
	enforces bool    // the wall is the kernel's
	observes string  // why it is not, "" if it is
	exit     exit    // safe for use by everybody
	trouble  trouble // safe for use by everybody

	pages string // the link of the person at the terminal, "" if there is none

	// What is done beside the flow, by others.
	lookup      lookup        // of the runner; nil: nobody can be asked
	ask         question      // likewise
	newFriends  chan struct{} // jails ignore host names that nobody has asked for
	f2b         *f2blog.Log
	startsWatch bool         // the watch process is ours to start
	link        link         // to the runner
	acts        *acting      // the user's actions
	lists       lists        // other people's
	starter     *starter     // nil: nothing is started
	kept        []*kept      // what runs beside us
	reloads     atomic.Int64 // another number after each start and each reload
	reporting   time.Time    // the decider's: since when reports are switched on; zero: they are off

	events chan event      // from the readers
	calls  chan func()     // from the control socket and the watchers
	ended  chan struct{}   // closed when the decider has ended
	life   context.Context // ends when the guard is to stop

	// Owned by the decider.
	set      *set // the jails of the configuration in force
	running  []*reader
	path     string // of the configuration in force
	shield   *shield
	active   map[banKey]activeBan
	due      []tocsin.Decision // of jails, to be carried out at the end of this turn
	banned   map[string]uint64 // bans by jail since the start, whoever took them, those restored included
	nextEnd  time.Time         // no ban of active ends before
	tally    map[tallyKey]*store.FailureCount
	names    names
	friends  friends
	asks     asks
	wasOff   bool
	late     bool // the store let the last decision wait too long
	storeLog throttle
	wallLog  throttle

	// Owned by whoever holds the lock: the readers are stopped and started by one at a time.
	reading struct {
		sync.Mutex
		stop     context.CancelFunc // nil: nothing is read
		wg       sync.WaitGroup
		stopping bool // for good
	}
}

// wall is a firewall: the kernel's, or one that only remembers.
type wall interface {
	Restore(bans []tocsin.Decision, allow []netip.Prefix, now time.Time) ([]tocsin.Decision, error)
	Ban(ds ...tocsin.Decision) error
	Unban(ds ...tocsin.Decision) error
	SetAllow(ps []netip.Prefix) error
	Sync(now time.Time) error
	Adopted() []tocsin.Decision
	Standing() bool
	Clear() error
	Close() error
	SetList(l firewall.List) error
	DropList(name string) error
	Watch(ctx context.Context, lost func() (restore bool)) error
	Stats() firewall.Stats
}

type banKey struct{ jail, id string }

type activeBan struct {
	at, until time.Time
	prefix    netip.Prefix
	origin    tocsin.Origin
	former    int // bans before it, as in Decision
	late      int // failures since, as far as fail2ban's log wants to know
}

// Bounds of the pipes and of a stop. What a stop takes adds up to 5 s, and as much for slow
// actions: systemd and people do not wait for ever.
const (
	eventQueue = 1024 // failures on their way to the decider; a line is at most 16 KiB
	storeWait  = 50 * time.Millisecond
	lateWait   = time.Millisecond // the same while the store is known to be stalled
	tickTime   = time.Second
	drainTime  = 2 * time.Second // to decide what was read
	stopTime   = 3 * time.Second // for readers, decider and socket together
	closeTime  = 2 * time.Second // for the store
)

// Run starts the guard, guards until ctx ends, and stops it again. A value on reload makes it read its configuration anew.
func Run(ctx context.Context, o Options, reload <-chan os.Signal) error {
	if err := refuseBeside(&o); err != nil {
		return err
	}
	g := newGuard(ctx, o)
	first, err := build(ctx, o.Config, true)
	if err != nil {
		return err
	}
	leave, err := g.settle()
	if err != nil {
		return err
	}
	defer leave()
	socket, err := g.listen()
	if err != nil {
		return err
	}
	defer socket.Close()
	g.chooseWall()
	defer g.leaveWall()
	g.restore()
	g.reporting = g.reportsSince(o.Config, time.Now())
	defer g.stopStarter()
	g.linkUp(first)
	defer g.linkDown()
	g.startWatch(first)
	if err := g.dropPrivileges(); err != nil {
		return err
	}
	g.sayWhatItWillDo(first)
	g.logFailed(first)
	return g.serve(socket, first, reload)
}

func newGuard(ctx context.Context, o Options) *Guard {
	o.Name = cmp.Or(o.Name, "tocsin")
	g := &Guard{
		o: o, log: o.Log, state: o.Config.State, started: time.Now(), life: ctx, path: o.Path,
		events: make(chan event, eventQueue), calls: make(chan func()), ended: make(chan struct{}),
		active: map[banKey]activeBan{}, banned: map[string]uint64{}, tally: map[tallyKey]*store.FailureCount{},
		names: newNames(), newFriends: make(chan struct{}, 1), asks: asks{waiting: map[banKey]*tocsin.Decision{}},
		acts: newActing(ctx), lists: newLists(), startsWatch: startsWatch(&o),
	}
	g.f2b = g.newF2BLog()
	g.reloads.Store(g.started.UnixMilli())
	return g
}

// serve runs every goroutine of the guard and returns when all of them have ended.
func (g *Guard) serve(socket net.Listener, first *set, reload <-chan os.Signal) error {
	rest, stopRest := context.WithCancel(context.WithoutCancel(g.life))
	defer stopRest()
	defer g.killActions()
	var wg sync.WaitGroup
	spawn := func(what string, f func(context.Context) error) {
		wg.Go(func() {
			if err := f(rest); err != nil && !errors.Is(err, context.Canceled) {
				g.log.Error("stopped working", "part", what, "err", err)
				g.trouble.add(what, err)
			}
		})
	}
	stopDecider := make(chan struct{})
	go func() { defer close(g.ended); g.decideUntil(stopDecider) }()
	if err := g.swap(first); err != nil { // before anybody can ask about it
		return err
	}
	spawn("control socket", func(ctx context.Context) error { return api.Serve(ctx, socket, api.Handler(g.operations())) })
	spawn("firewall watch", func(ctx context.Context) error { return g.wall.Watch(ctx, g.mayRestore) })
	spawn("address watch", func(ctx context.Context) error { return host.Watch(ctx, func() { g.lookAgain(ctx) }) })
	spawn("exit watch", g.watchExit)
	spawn("upkeep", g.upkeep)
	spawn("fail2ban's log", g.f2b.Run)
	spawn("host names", g.askNames)
	spawn("ignored host names", g.watchFriends)
	spawn("lists", g.watchLists)

	notify(daemon.SdNotifyReady)
	for g.life.Err() == nil {
		select {
		case <-g.life.Done():
		case <-reload:
			notify(fmt.Sprintf("%s\nMONOTONIC_USEC=%d", daemon.SdNotifyReloading, monotonicMicros()))
			if _, err := g.reload(g.life); err != nil {
				g.log.Error("reload failed, the old configuration stays", "err", err)
			}
			notify(daemon.SdNotifyReady)
		}
	}
	notify(daemon.SdNotifyStopping)

	// The readers stop first, then the decider takes what they left. A disk that does not answer ends the patience.
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		g.stopReading()
		close(stopDecider)
		<-g.ended
	}()
	select {
	case <-stopped:
		g.stopActions()
	case <-time.After(stopTime):
		g.log.Warn("not everything could be decided before the end", "n", len(g.events))
	}
	stopRest()
	wg.Wait()
	g.asks.wg.Wait()
	g.log.Info("stopped; what is banned in the kernel stays so until its time", "n", len(g.active), "clean", g.o.Clean)
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

func (g *Guard) leaveWall() {
	var err error
	if g.o.Clean {
		err = g.wall.Clear()
	}
	if err := errors.Join(err, g.wall.Close()); err != nil {
		g.log.Error("cannot leave the firewall as asked", "err", err)
	}
}

// restore makes the firewall what it was when the last guard stopped.
func (g *Guard) restore() {
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
	for i := range bans {
		g.remember(&bans[i])
	}
	g.loadLists(now)
	if g.wasOff = g.lookAtExit(now); g.wasOff {
		g.log.Warn(offText)
		return
	}
	adopted, err := g.wall.Restore(bans, g.shield.prefixes(), now)
	if err != nil {
		g.log.Error("cannot put the bans into the kernel; trying again every second", "err", err)
		g.trouble.add("firewall", err)
		return
	}
	g.adopt(adopted)
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
	g.storeSoon(ds...)
}

func (g *Guard) listen() (net.Listener, error) {
	path := g.o.Config.Socket
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make folder of the control socket: %w", err)
	}
	gid := groupID("tocsin")
	if gid < 0 && g.startsWatch && mayGive() {
		gid = int(watchUser().GID)
	}
	return api.Listen(path, gid)
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

// upkeep does what comes round rarely: every ten minutes it looks at what this machine is, for resolvers change without a
// word, and every hour it forgets what is older than the retention allows.
func (g *Guard) upkeep(ctx context.Context) error {
	tick := time.NewTicker(10 * time.Minute)
	defer tick.Stop()
	g.lookAgain(ctx) // what changed before the watch began
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			g.lookAgain(ctx)
			if n%6 == 1 { // the first time soon: some guards do not live for an hour
				g.prune(ctx, now)
			}
		}
	}
}

func (g *Guard) prune(ctx context.Context, now time.Time) {
	var r config.Retention
	if err := g.do(ctx, func() { r = g.set.conf.Retention }); err != nil {
		return // the guard is ending
	}
	n, err := g.store.Prune(ctx, now, store.Retention{Evidence: r.Evidence, Bans: r.Bans, Logins: r.Logins})
	if err != nil {
		g.log.Warn("forget old rows", "err", err)
		return
	}
	g.log.Info("forgot old rows", "n", n)
}

// lookAgain asks what this machine is now. It may wait for the kernel, so it does not ask in the decider.
func (g *Guard) lookAgain(ctx context.Context) {
	fixed, err := host.Protect()
	if err != nil {
		g.log.Warn("cannot tell all addresses of this machine", "err", err)
	}
	if err := g.do(ctx, func() { g.refreshShield(fixed, err == nil) }); err != nil && ctx.Err() == nil {
		g.log.Warn("cannot take over changed addresses", "err", err)
	}
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

func notify(state string) {
	_, _ = daemon.SdNotify(false, state) // without systemd there is nobody to tell
}
