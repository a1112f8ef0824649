package daemon

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"tocsin/internal/abuseipdb"
	"tocsin/internal/api"
	"tocsin/internal/config"
	"tocsin/internal/host"
	"tocsin/internal/list"
	"tocsin/internal/report"
	"tocsin/internal/store"
)

// WatchOptions are what the watch process is started with.
type WatchOptions struct {
	Config *config.Config
	// Load reads the configuration again, for a reload. nil: there is no reload.
	Load    func() (*config.Config, string, error)
	Version string
	Link    string // what the guard tells of the link to the pages that it printed; "": none
	Log     *slog.Logger

	dialGuard func(context.Context) (net.Conn, error)                           // in the place of the socket, for tests
	dial      func(ctx context.Context, network, addr string) (net.Conn, error) // in the place of the network
}

// The rhythm of the watch process.
const (
	guardAgain   = 5 * time.Second // after the guard could not be asked
	sessionAgain = 10 * time.Second
	listTick     = time.Minute // how often a list that waits for its turn is looked after
)

// watcher is the process that alone talks to networks. It has no privilege, and nobody believes it: the guard checks what
// it brings.
type watcher struct {
	o       WatchOptions
	log     *slog.Logger
	dir     string
	started time.Time
	guard   *api.Client
	folder  *list.Folder
	store   *store.Watch
	now     atomic.Pointer[session] // nil between two
	asides  sync.Mutex              // held while something is changed beside the session
	reloads int64                   // what the guard told last, before the configuration was read; negative: nothing yet
}

// session is the watch process between two readings of its configuration.
type session struct {
	w        *watcher
	conf     *config.Config
	client   *abuseipdb.Client
	account  uint64           // of the key and the service
	reporter *report.Reporter // nil: reports are off
	sup      *supervisor      // nil: nothing is supervised
	// supFailed is why, where the operator wants it.
	supFailed error
	host      string

	mu     sync.Mutex
	handed map[string]bool      // the guard has what is kept
	poked  map[string]chan bool // lists that were accepted by hand
	heard  time.Time            // when the guard answered last; zero: it did not when it was asked last
	unsure bool                 // it did not say whether somebody is spared, whom the next job may be about
	known  map[string]report.Why

	met   chan struct{} // closed when the guard has answered for the first time
	meets func()        // closes it
}

// errReload ends a session that is to begin anew.
var errReload = errors.New("the configuration is to be read again")

// RunWatch fetches lists, hands them to the guard, and reports, until ctx ends. A value on reload makes it read its
// configuration anew, and so does a reload of the guard.
func RunWatch(ctx context.Context, o WatchOptions, reload <-chan os.Signal) error {
	if os.Geteuid() == 0 {
		return api.Errorf(api.ExitUsage, "tocsin run starts it as it should be; or: sudo -u tocsin tocsin watch", "the watch process talks to the internet and does not run as root")
	}
	if !o.Config.Watches() {
		o.Log.Info("there is nothing to do: the configuration names no list, reports are off, and nothing is supervised")
		tidyUp(o)
		notify(daemon.SdNotifyReady) // systemd takes an end before that for a failure
		return nil
	}
	if mayDropPrivileges {
		if err := host.DropTo(); err != nil {
			return fmt.Errorf("drop privileges: %w", err)
		}
	}
	return runWatch(ctx, o, reload)
}

// tidyUp takes the lists away that were kept by a process that had something to do.
func tidyUp(o WatchOptions) {
	dir := filepath.Join(WatchFolder(o.Config.State), listFolder)
	if _, err := os.Stat(dir); err != nil {
		return
	}
	folder, err := list.OpenFolder(dir)
	if err == nil {
		err = folder.Tidy(nil, time.Now())
	}
	if err != nil {
		o.Log.Error("a list that nobody asks for any more is still kept", "err", err)
	}
}

// runWatch is RunWatch with whatever privileges this process has.
func runWatch(ctx context.Context, o WatchOptions, reload <-chan os.Signal) error {
	w, leave, err := newWatcher(o)
	if err != nil {
		return err
	}
	defer leave()
	l, err := listenForOwn(WatchSocket(o.Config.State))
	if err != nil {
		return err
	}
	served := make(chan error, 1)
	serving, stop := context.WithCancel(ctx)
	go func() { served <- api.Serve(serving, l, api.WatchHandler(w.operations(), w.supervision())) }()
	defer func() { stop(); <-served }()

	notify(daemon.SdNotifyReady)
	w.follow(ctx, reload)
	notify(daemon.SdNotifyStopping)
	return nil
}

// follow does what the configuration asks for, one session after the other.
func (w *watcher) follow(ctx context.Context, reload <-chan os.Signal) {
	conf := w.o.Config
	for ctx.Err() == nil {
		err := w.session(ctx, conf, reload)
		switch {
		case ctx.Err() != nil:
		case errors.Is(err, errReload):
			conf = w.loadAgain(conf)
		default:
			w.log.Error("beginning anew", "err", err)
			pause(ctx, sessionAgain)
		}
	}
}

func newWatcher(o WatchOptions) (w *watcher, leave func(), err error) {
	w = &watcher{o: o, log: o.Log, started: time.Now(), guard: api.NewClient(o.Config.Socket), reloads: -1}
	if o.dialGuard != nil {
		w.guard = api.NewClientOn(o.Config.Socket, o.dialGuard)
	}
	if w.dir, err = makeWatchFolder(o.Config.State); err != nil {
		return nil, nil, err
	}
	unlock, err := lock(w.dir)
	if err != nil {
		if errors.Is(err, errInUse) {
			err = errors.New("another watch process uses it")
		}
		return nil, nil, fmt.Errorf("lock %s: %w", w.dir, err)
	}
	if w.folder, err = list.OpenFolder(filepath.Join(w.dir, listFolder)); err == nil {
		w.store, err = store.OpenWatch(filepath.Join(w.dir, watchStore), o.Log)
	}
	if err != nil {
		unlock()
		return nil, nil, err
	}
	return w, func() {
		if err := w.store.Close(); err != nil {
			w.log.Error("close store", "err", err)
		}
		unlock()
	}, nil
}

// listenForOwn makes the socket of the watch process. Who may enter its folder may look; root and its user may change.
func listenForOwn(path string) (net.Listener, error) {
	l, err := api.Listen(path, -1)
	if err != nil {
		return nil, fmt.Errorf("the socket of the watch process: %w", err)
	}
	return l, nil
}

// loadAgain reads the configuration; one with mistakes changes nothing.
func (w *watcher) loadAgain(old *config.Config) *config.Config {
	if w.o.Load == nil {
		return old
	}
	c, _, err := w.o.Load()
	switch {
	case err != nil:
		w.log.Error("reload failed, the old configuration stays", "err", err)
		return old
	case c.State != old.State || c.Socket != old.Socket:
		w.log.Error("state and socket cannot change while the watch process runs; restart it")
		return old
	}
	w.log.Info("reloaded", "n", len(c.Lists), "reports", c.Report.Enabled)
	return c
}

// session does what a configuration asks for. It returns errReload where that may have changed.
func (w *watcher) session(ctx context.Context, conf *config.Config, reload <-chan os.Signal) error {
	s, err := w.newSession(ctx, conf)
	if err != nil {
		return err
	}
	if conf.Watch.Enabled {
		if s.sup, s.supFailed = newSupervisor(ctx, w, conf, s.host); s.supFailed != nil {
			w.log.Error("nothing is supervised", "err", s.supFailed) // lists and reports go on
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	// spawn starts what runs as long as the session; where it ends before, the session does.
	spawn := func(f func(context.Context) error) {
		wg.Go(func() {
			if err := f(ctx); err != nil {
				cancel(err)
			}
		})
	}
	w.now.Store(s)
	w.tidy(conf)
	for _, c := range conf.Lists {
		spawn(func(ctx context.Context) error { return s.followList(ctx, c) })
	}
	spawn(s.followGuard)
	if s.reporter != nil {
		spawn(s.sendReports)
	}
	if s.sup != nil {
		defer s.sup.close()
		spawn(s.sup.run)
	}
	select {
	case <-ctx.Done():
	case <-reload:
		cancel(errReload)
	}
	w.now.Store(nil)
	wg.Wait()
	return context.Cause(ctx)
}

// tidy takes away what was kept of lists that the configuration names no more.
func (w *watcher) tidy(conf *config.Config) {
	if err := w.folder.Tidy(namesOf(conf.Lists), time.Now()); err != nil {
		w.log.Error("a list that nobody asks for any more is still kept", "err", err)
	}
}

func (w *watcher) newSession(ctx context.Context, conf *config.Config) (*session, error) {
	s := &session{
		w: w, conf: conf, handed: map[string]bool{}, poked: map[string]chan bool{}, known: map[string]report.Why{},
		met: make(chan struct{}),
	}
	s.meets = sync.OnceFunc(func() { close(s.met) })
	var err error
	if s.host, err = os.Hostname(); err != nil {
		w.log.Warn("this machine has no name: lists are fetched at the same time as on others without one", "err", err)
	}
	s.account = w.account(conf)
	if s.client, err = abuseipdb.New(abuseipdb.Options{
		URL: conf.Report.URL, Version: w.o.Version,
		Key:  func() (abuseipdb.Secret, error) { return readKey(w.dir) },
		Dial: w.o.dial,
	}); err != nil {
		return nil, err
	}
	for _, c := range conf.Lists {
		s.poked[c.Name] = make(chan bool, 1)
	}
	if conf.Report.Enabled {
		if s.reporter, err = s.openReports(ctx); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// account tells one key and service from another, and neither of them.
func (w *watcher) account(conf *config.Config) uint64 {
	h := sha256.New()
	fmt.Fprintf(h, "%s\x00", conf.Report.URL)
	for _, path := range keyPaths(w.dir) {
		if text, err := os.ReadFile(path); err == nil && !isBlank(text) {
			h.Write(text)
			break
		}
	}
	return binary.BigEndian.Uint64(h.Sum(nil))
}

// pause waits, and says whether it was not ended by ctx.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// order is what the list room is asked for.
func (s *session) order(c config.List) (list.Order, error) {
	o := list.Order{Name: c.Name, Host: s.host, At: c.At, Terms: list.Terms{Source: list.SourceName(c.URL), Limit: c.Limit}}
	var err error
	switch scheme, _, _ := strings.Cut(c.URL, ":"); scheme {
	case "abuseipdb":
		// The key's account is shared with people who try things out.
		o.Terms.Source, o.Terms.Confidence, o.Budget = list.SourceName(s.conf.Report.URL), c.Confidence, 4
		o.Fetcher = &list.AbuseIPDB{Client: s.client}
	case "file":
		o.Fetcher, err = list.NewFile(c.URL)
	default:
		o.Fetcher, err = list.NewHTTPS(list.HTTPSOptions{URL: c.URL, Version: s.w.o.Version})
	}
	return o, err
}

// followList keeps one list fresh, and the guard supplied with it.
func (s *session) followList(ctx context.Context, c config.List) error {
	o, err := s.order(c)
	if err != nil {
		s.w.log.Error("a list cannot be fetched", "node", c.Name, "err", err)
		return nil
	}
	for ctx.Err() == nil {
		if now := time.Now(); !s.w.folder.Next(o, now).After(now) {
			s.fetch(ctx, o, now)
		}
		s.supply(ctx, c.Name)
		wait := min(time.Until(s.w.folder.Next(o, time.Now())), listTick)
		if !s.isHanded(c.Name) {
			wait = min(wait, guardAgain)
		}
		t := time.NewTimer(max(wait, time.Second))
		select {
		case <-t.C:
		case <-s.poked[c.Name]:
		case <-ctx.Done():
		}
		t.Stop()
	}
	return nil
}

// fetch fetches a list that is due.
func (s *session) fetch(ctx context.Context, o list.Order, now time.Time) {
	log := s.w.log.With("node", o.Name)
	out, err := s.w.folder.Update(ctx, o, now)
	switch {
	case ctx.Err() != nil:
		return
	case out.Accepted != nil:
		log.Info("list fetched", "n", out.Accepted.Set.Len(), "added", out.Added, "removed", out.Removed)
		s.setHanded(o.Name, false)
	case out.Refused != nil:
		for _, r := range out.Refused.Refused {
			log.Error("list refused, the former one stays in force; tocsin reputation accept "+o.Name+" uses it", "err", r.Text)
		}
	case out.Unchanged:
		log.Info("list has not changed")
		s.setHanded(o.Name, false) // the guard has to know that it is not old
	}
	if err != nil {
		log.Warn("list not fetched, trying again", "until", s.w.folder.Next(o, time.Now()).Format(time.DateTime), "err", err)
	}
}

func (s *session) isHanded(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.handed[name]
}

func (s *session) setHanded(name string, handed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handed[name] = handed
}

// supply gives the guard the list that is kept, unless it has it.
func (s *session) supply(ctx context.Context, name string) {
	states, err := s.w.guard.Lists(ctx)
	if err != nil {
		s.setHanded(name, false)
		return // followGuard tells
	}
	i := slices.IndexFunc(states.Lists, func(l api.ListState) bool { return l.Name == name })
	if i < 0 {
		return // its configuration is older, or newer, than ours
	}
	has := states.Lists[i]
	if has.Dropped || s.isHanded(name) && has.Taken != nil {
		return
	}
	k, err := s.w.folder.Load(name)
	if err != nil {
		if !errors.Is(err, os.ErrNotExist) {
			s.w.log.Error("a list that was kept cannot be used", "node", name, "err", err)
		}
		return
	}
	if has.Taken != nil && has.Fetched != nil && has.Fetched.Equal(k.Fetched) && has.Delivered == k.Set.Len() {
		s.setHanded(name, true)
		return
	}
	got, err := s.give(ctx, k)
	if err != nil {
		s.w.log.Error("the guard does not take a list", "node", name, "err", err)
		return
	}
	s.setHanded(name, true)
	s.w.log.Info("list handed to the guard", "node", name, "n", got.Entries)
	if got.Members > 0 {
		s.w.log.Warn(membersText(got.Members), "node", name)
	}
}
