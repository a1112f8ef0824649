package daemon

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"

	"tocsin/internal/api"
	"tocsin/internal/host"
	"tocsin/internal/reputation"
	"tocsin/internal/store"
)

// HubOptions are what a hub is started with.
type HubOptions struct {
	State     string // folder of what must survive
	Listen    string // host:port
	URL       string // of the hub as its clients see it; "": as they ask
	Cert, Key string // files of a certificate and its key; "": no TLS
	Countries string // file of MaxMind's format; "": countries are unknown
	Log       *slog.Logger

	now func() time.Time // in the place of the clock, for tests
}

// The rhythm of a hub.
const (
	hubSave  = time.Minute
	hubTick  = 10 * time.Minute
	hubPrune = 6 * time.Hour
)

// hubKeeps is how long what is kept (docs/manual/privacy.md).
var hubKeeps = store.HubKeeps{Comments: 30 * 24 * time.Hour, Names: 90 * 24 * time.Hour, Counts: 365 * 24 * time.Hour}

// hub is the process that takes members' reports and answers for them.
type hub struct {
	o     HubOptions
	log   *slog.Logger
	store *store.Hub
	book  *reputation.Book
	// intake is held for reading from the moment that a report is written until the book knows it.
	intake sync.RWMutex
	told   atomic.Uint64 // grows with everything that may change the list
	lists  [2]hubList
	lands  lands

	mu      sync.RWMutex
	byHash  map[[32]byte]*hubMember
	members map[uint32]*hubMember
}

// RunHub answers members until ctx ends. As root it becomes another user first; whatever else it may do it gives up.
func RunHub(ctx context.Context, o HubOptions) error {
	dir, err := makeHubFolder(o.State)
	if err != nil {
		return err
	}
	l, err := listenHub(o)
	if err != nil {
		return err
	}
	defer l.Close()
	if err := becomeNobody(); err != nil {
		return err
	}
	return runHub(ctx, o, dir, l)
}

// listenHub opens the port, and reads the key of the certificate, while that is allowed.
func listenHub(o HubOptions) (net.Listener, error) {
	var conf *tls.Config
	if o.Cert != "" || o.Key != "" {
		pair, err := tls.LoadX509KeyPair(o.Cert, o.Key)
		if err != nil {
			return nil, fmt.Errorf("certificate: %w", err)
		}
		conf = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	}
	l, err := net.Listen("tcp", o.Listen)
	if err != nil {
		return nil, api.Errorf(api.ExitOpen, "choose another with --listen", err.Error())
	}
	if conf != nil {
		l = tls.NewListener(l, conf)
	}
	return l, nil
}

// becomeNobody gives up root, and every capability: a hub is open to the internet.
func becomeNobody() error {
	if os.Geteuid() == 0 {
		if mayDropPrivileges { // the bounding set goes while there is the privilege to change it
			if err := host.DropTo(unix.CAP_SETUID, unix.CAP_SETGID); err != nil {
				return fmt.Errorf("drop privileges: %w", err)
			}
		}
		u := watchUser()
		if err := errors.Join(syscall.Setgroups([]int{int(u.GID)}), syscall.Setgid(int(u.GID)), syscall.Setuid(int(u.UID))); err != nil {
			return api.Errorf(api.ExitUsage, "start it as another user: sudo -u tocsin tocsin hub", fmt.Sprintf("a hub does not run as root, and cannot become user %d: %v", u.UID, err))
		}
	}
	if !mayDropPrivileges {
		return nil
	}
	if err := host.DropTo(); err != nil {
		return fmt.Errorf("drop privileges: %w", err)
	}
	return nil
}

// runHub is RunHub with whatever privileges this process has.
func runHub(ctx context.Context, o HubOptions, dir string, l net.Listener) error {
	unlock, err := lock(dir)
	if err != nil {
		if errors.Is(err, errInUse) {
			err = errors.New("another hub uses it")
		}
		return fmt.Errorf("lock %s: %w", dir, err)
	}
	defer unlock()
	s, err := store.OpenHub(filepath.Join(dir, hubStore), o.Log)
	if err != nil {
		return err
	}
	defer func() {
		if err := s.Close(); err != nil {
			o.Log.Error("close store", "err", err)
		}
	}()
	h, err := newHub(o, s)
	if err != nil {
		return err
	}
	socket, err := api.Listen(filepath.Join(dir, hubSocket), -1)
	if err != nil {
		return fmt.Errorf("the socket of the hub: %w", err)
	}
	serving, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	failed := make(chan error, 2)
	wg.Go(func() { failed <- api.Serve(serving, socket, api.HubPeopleHandler(h.people().operations())) })
	wg.Go(func() { failed <- api.ServeHub(serving, l, api.HubHandler(h.operations())) })
	o.Log.Info("the hub answers", "addr", l.Addr().String(), "n", len(h.members))
	notify(daemon.SdNotifyReady)
	err = h.tend(ctx, failed)
	notify(daemon.SdNotifyStopping)
	stop()
	wg.Wait()
	h.save()
	return err
}

// tend does what is due with time until ctx ends or nothing can be answered any more.
func (h *hub) tend(ctx context.Context, failed <-chan error) error {
	save, tick, prune := time.NewTicker(hubSave), time.NewTicker(hubTick), time.NewTicker(hubPrune)
	defer save.Stop()
	defer tick.Stop()
	defer prune.Stop()
	for {
		select {
		case <-save.C:
			h.save()
		case <-tick.C:
			h.tick()
		case <-prune.C:
			if err := h.store.Prune(ctx, hubKeeps, h.now()); err != nil && ctx.Err() == nil {
				h.log.Error("what is old could not be forgotten", "err", err)
			}
		case err := <-failed:
			return err
		case <-ctx.Done():
			return nil
		}
	}
}

// newHub makes the book again of what is kept.
func newHub(o HubOptions, s *store.Hub) (*hub, error) {
	h := &hub{o: o, log: o.Log, store: s, byHash: map[[32]byte]*hubMember{}, members: map[uint32]*hubMember{}, lands: lands{path: o.Countries}}
	if err := h.lands.refresh(); err != nil {
		return nil, err
	}
	orgs, err := s.Orgs()
	if err != nil {
		return nil, err
	}
	keys, err := s.Keys()
	if err != nil {
		return nil, err
	}
	options := reputation.Options{Never: isNever, Reserved: func(k reputation.Key) bool { return !api.IsPublic(k.Prefix().Addr()) }}
	byID := map[uint32]store.Org{}
	for _, o := range orgs {
		byID[o.ID] = o
		options.Orgs = append(options.Orgs, bookOrg(o))
	}
	for _, k := range keys {
		options.Reporters = append(options.Reporters, reputation.Reporter{ID: k.ID, Org: k.Org, Good: k.Good, Bad: k.Bad, Day: k.Day})
		if err := h.welcome(k, byID[k.Org]); err != nil {
			return nil, err
		}
	}
	h.book = reputation.New(options)
	return h, h.load()
}

func bookOrg(o store.Org) reputation.Org {
	out := reputation.Org{ID: o.ID, Kind: reputation.Kind(o.Kind), ASN: o.ASN, Sponsor: o.Sponsor}
	copy(out.Country[:], o.Country)
	return out
}

// load tells the book what was said before, and puts the list where it was.
func (h *hub) load() error {
	began := time.Now()
	kept, err := h.store.State()
	if err != nil {
		return err
	}
	fresh, err := h.store.Fresh()
	if err != nil {
		return err
	}
	n := 0
	var failed error
	evidence := h.store.Evidence(&failed)
	h.book.Restore(iter.Seq[reputation.Row](func(yield func(reputation.Row) bool) {
		for e := range evidence {
			n++
			if !yield(reputation.Row{Reporter: e.Reporter, Key: reputation.Key(e.Key), At: e.At, Count: e.Count, Cats: e.Cats, Quality: e.Quality, Public: e.Public}) {
				return
			}
		}
	}), kept.Day)
	if failed != nil {
		return fmt.Errorf("read the evidence: %w", failed)
	}
	st := reputation.State{Day: kept.Day}
	for _, l := range kept.Listings {
		st.Listings = append(st.Listings, reputation.Listing{Key: reputation.Key(l.Key), Since: l.Since, Until: l.Until, Times: l.Times, Stay: l.Stay, Helped: l.Helped, Held: l.Held, Confirmed: l.Confirmed})
	}
	for _, b := range kept.Brakes {
		st.Brakes = append(st.Brakes, reputation.Brake{Orgs: b.Orgs, Confirmed: reputation.Points(b.Confirmed), Today: b.Today, Held: b.Held, Told: b.Told})
	}
	keys := make([]reputation.Key, len(fresh))
	for i, k := range fresh {
		keys[i] = reputation.Key(k)
	}
	h.book.Resume(st, keys, h.now().Unix())
	for _, q := range kept.Quotas {
		if m := h.members[q.Key]; m != nil {
			m.resume(q)
		}
	}
	h.tick()
	h.log.Info("evidence read", "n", n, "dur", time.Since(began).Round(time.Millisecond).String())
	return nil
}

func (h *hub) now() time.Time {
	if h.o.now != nil {
		return h.o.now()
	}
	return time.Now()
}

// tick does what is due with time, and tells people where somebody tries to bend the list.
func (h *hub) tick() {
	h.book.Tick(h.now().Unix())
	h.told.Add(1)
	for _, a := range h.book.Alarms() {
		h.log.Error("a few organisations list unusually many addresses that nobody else saw: held back for six hours", "n", a.Count, "node", h.orgNames(a.Orgs))
	}
	if err := h.lands.refresh(); err != nil {
		h.log.Error("countries are those of the former file", "err", err)
	}
}

// orgNames names one or two organisations.
func (h *hub) orgNames(ids [2]uint32) (names []string) {
	all, err := h.store.Orgs()
	if err != nil {
		return []string{fmt.Sprint(ids)}
	}
	for _, o := range all {
		if o.ID == ids[0] || o.ID == ids[1] {
			names = append(names, o.Name)
		}
	}
	return names
}

// save keeps what changed of list, trust and quotas. Reports are kept when they come.
func (h *hub) save() {
	h.intake.Lock() // so that the book knows every report that is kept
	upTo, err := h.store.Newest()
	if err != nil {
		h.intake.Unlock()
		h.log.Error("the list is not kept", "err", err)
		return
	}
	c := h.book.Changes()
	h.intake.Unlock()
	s := store.HubState{Day: c.Day, Quotas: h.quotas()}
	for _, l := range c.Listings {
		s.Listings = append(s.Listings, store.HubListing{Key: uint64(l.Key), Since: l.Since, Until: l.Until, Times: l.Times, Stay: l.Stay, Helped: l.Helped, Held: l.Held, Confirmed: l.Confirmed})
	}
	for _, k := range c.Gone {
		s.Gone = append(s.Gone, uint64(k))
	}
	for _, b := range c.Brakes {
		s.Brakes = append(s.Brakes, store.HubBrake{Orgs: b.Orgs, Confirmed: int64(b.Confirmed), Today: b.Today, Held: b.Held, Told: b.Told})
	}
	for _, r := range c.Reporters {
		s.Trust = append(s.Trust, store.HubTrust{Reporter: r.ID, Good: r.Good, Bad: r.Bad, Day: r.Day})
	}
	if err := h.store.SaveState(s, upTo); err != nil { // it is told by the store
		h.book.Unkept(c)
	}
}

// people are the members to be changed by the hub's own people.
func (h *hub) people() *hubPeople {
	orgs := map[uint32]store.Org{}
	if all, err := h.store.Orgs(); err == nil {
		for _, o := range all {
			orgs[o.ID] = o
		}
	}
	return &hubPeople{
		store: h.store,
		orgCame: func(o store.Org) {
			orgs[o.ID] = o
			h.book.PutOrg(bookOrg(o))
		},
		keyCame: func(k store.Key) error {
			h.book.PutReporter(reputation.Reporter{ID: k.ID, Org: k.Org, Day: k.Day})
			return h.welcome(k, orgs[k.Org])
		},
		revoked: func(id uint32) {
			h.mu.Lock()
			defer h.mu.Unlock()
			if m := h.members[id]; m != nil {
				delete(h.byHash, m.hash)
			}
		},
	}
}

// hubMember is one key.
type hubMember struct {
	api.HubMember
	hash      [32]byte
	pseudonym uint32
	country   string // of its organisation

	mu   sync.Mutex
	day  int64
	used map[string]int // requests that day by endpoint
	kept map[string]int // as they were kept last
}

// welcome makes a key good, unless it was revoked.
func (h *hub) welcome(k store.Key, o store.Org) error {
	plan, err := planOf(k.Plan, k.Quota)
	if err != nil {
		return fmt.Errorf("key %s/%s: %w", o.Name, k.Name, err)
	}
	m := &hubMember{hash: k.Hash, pseudonym: k.Pseudonym, country: o.Country, used: map[string]int{}, kept: map[string]int{}}
	scopes := strings.Split(k.Scope, ",")
	m.HubMember = api.HubMember{ID: k.ID, Plan: plan, Read: slices.Contains(scopes, "read"), Report: slices.Contains(scopes, "report")}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.members[k.ID] = m
	if k.Revoked.IsZero() {
		h.byHash[k.Hash] = m
	}
	return nil
}

func (h *hub) member(id uint32) *hubMember {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.members[id]
}

const secondsOfDay = 86400

func (m *hubMember) resume(q store.HubQuota) {
	if q.Day < m.day {
		return
	}
	if q.Day > m.day {
		m.day, m.used, m.kept = q.Day, map[string]int{}, map[string]int{}
	}
	m.used[q.Endpoint], m.kept[q.Endpoint] = q.Used, q.Used
}

// spend counts a request, or says that the day's are used up.
func (m *hubMember) spend(endpoint string, now time.Time, count bool) api.HubSpent {
	m.mu.Lock()
	defer m.mu.Unlock()
	if day := now.Unix() / secondsOfDay; day != m.day {
		m.day = day
		clear(m.used)
		clear(m.kept)
	}
	s := api.HubSpent{Limit: m.Plan.Quota[endpoint], Reset: time.Unix((m.day+1)*secondsOfDay, 0)}
	if count {
		if s.Refused = m.used[endpoint] >= s.Limit; !s.Refused {
			m.used[endpoint]++
		}
	}
	s.Left = max(0, s.Limit-m.used[endpoint])
	return s
}

// quotas are the counts that changed. That a save fails costs nobody more than a minute's.
func (h *hub) quotas() (all []store.HubQuota) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for id, m := range h.members {
		m.mu.Lock()
		for endpoint, n := range m.used {
			if m.kept[endpoint] != n {
				m.kept[endpoint] = n
				all = append(all, store.HubQuota{Key: id, Endpoint: endpoint, Day: m.day, Used: n})
			}
		}
		m.mu.Unlock()
	}
	return all
}

// never are networks of services that everybody needs and that attack nobody: public resolvers and the root name servers.
var never = func() (all []netip.Prefix) {
	for _, p := range []string{
		"1.1.1.1/32", "1.0.0.1/32", "8.8.8.8/32", "8.8.4.4/32", "9.9.9.9/32", "149.112.112.112/32", "208.67.222.222/32", "208.67.220.220/32",
		"80.67.169.12/32", "80.67.169.40/32", "193.110.81.0/32", "185.253.5.0/32",
		"2606:4700:4700::/64", "2001:4860:4860::/64", "2620:fe::/64", "2620:119:35::/64", "2620:119:53::/64", "2001:910:800::/64",
		"198.41.0.4/32", "170.247.170.2/32", "192.33.4.12/32", "199.7.91.13/32", "192.203.230.10/32", "192.5.5.241/32", "192.112.36.4/32",
		"198.97.190.53/32", "192.36.148.17/32", "192.58.128.30/32", "193.0.14.129/32", "199.7.83.42/32", "202.12.27.33/32",
	} {
		all = append(all, netip.MustParsePrefix(p))
	}
	return all
}()

var neverKeys = func() map[reputation.Key]bool {
	keys := map[reputation.Key]bool{}
	for _, p := range never {
		keys[reputation.KeyOf(p.Addr())] = true
	}
	return keys
}()

func isNever(k reputation.Key) bool { return neverKeys[k] }
