package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"tocsin"
	"tocsin/internal/api"
	"tocsin/internal/config"
	"tocsin/internal/firewall"
	"tocsin/internal/list"
)

// listFolder holds the lists in the state folder.
const listFolder = "lists"

// Who is let through although he is on a list, and how often that is looked at again.
const (
	memberFor   = 30 * 24 * time.Hour // after a login
	recheckTime = 10 * time.Minute
	recheckWait = 2 * time.Second // what changed is then in the store, and more of it comes together
)

// lists are other people's lists of dangerous addresses, as the guard has them. They come from the watch process, which
// may be a stranger's by now: they are checked once more, only those that the configuration names are taken, and nobody
// who is allowed or one of the members is ever blocked by them.
type lists struct {
	folder  *list.Folder  // where they are kept; nil if there is none
	changed chan struct{} // who is to be let through changed; holds one

	mu    sync.Mutex // held while one is put in force, which may take a second
	held  map[string]*heldList
	asked time.Time // when the watch process asked for decisions last
}

// heldList is one list that is in force, or should be.
type heldList struct {
	conf    config.List
	kept    *list.Kept
	taken   time.Time
	dropped bool           // somebody took it out of force
	away    []netip.Prefix // of those who are let through, who has addresses in it
	allowed int            // of these, entries of the allow list
	entries int            // in force
	err     error          // why it is not in force as it should be
}

func newLists() lists {
	return lists{changed: make(chan struct{}, 1), held: map[string]*heldList{}}
}

// exempt are those that no list may block.
type exempt struct{ allow, members []netip.Prefix }

// whoIsSpared gathers those that no list may block: the allow list, and who logged in within 30 days. With IPv6 it is the
// whole /64, which is one customer's.
func (g *Guard) whoIsSpared(allow []netip.Prefix, now time.Time) (s exempt, err error) {
	s.allow = allow
	logins, err := g.store.KnownSince(now.Add(-memberFor))
	for _, l := range logins {
		s.members = append(s.members, memberPrefix(l.Addr))
	}
	slices.SortFunc(s.members, netip.Prefix.Compare)
	s.members = slices.Compact(s.members)
	return s, err
}

func memberPrefix(a netip.Addr) netip.Prefix {
	a = a.Unmap()
	if a.Is6() {
		return netip.PrefixFrom(a, 64).Masked()
	}
	return netip.PrefixFrom(a, 32)
}

// in says who of those spared has addresses in a list.
func (s *exempt) in(set *list.Set) (away []netip.Prefix, allowed int) {
	for _, p := range s.allow {
		if set.Overlaps(p) {
			away = append(away, p)
		}
	}
	allowed = len(away)
	for _, p := range s.members {
		if set.Overlaps(p) {
			away = append(away, p)
		}
	}
	return away, allowed
}

// loadLists puts the lists in force that were kept, before anything else. It runs before the decider does.
func (g *Guard) loadLists(now time.Time) {
	g.tidyLists(g.o.Config.Lists)
	who, err := g.whoIsSpared(g.shield.prefixes(), now)
	if err != nil {
		g.log.Error("cannot tell who logged in; no list is put in force until that is known", "err", err)
		g.trouble.add("lists", err)
		return
	}
	for _, conf := range g.o.Config.Lists {
		k, err := g.keptList(conf.Name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			g.log.Error("a list that was kept cannot be used; it is waited for", "node", conf.Name, "err", err)
			g.trouble.add("list "+conf.Name, err)
		default:
			g.putInForce(&heldList{conf: conf, kept: k, taken: k.Fetched}, who)
		}
	}
}

// tidyLists takes away what was kept of lists that the configuration names no more.
func (g *Guard) tidyLists(confs []config.List) {
	if g.lists.folder == nil {
		return
	}
	if err := g.lists.folder.Tidy(namesOf(confs), time.Now()); err != nil {
		g.complain("lists", "a list that nobody asks for any more is still kept", err)
	}
}

func (g *Guard) keptList(name string) (*list.Kept, error) {
	if g.lists.folder == nil {
		return nil, fs.ErrNotExist
	}
	return g.lists.folder.Load(name)
}

// putInForce gives a list to the firewall, without those who are spared. Whoever calls it holds the lock, or is alone.
func (g *Guard) putInForce(h *heldList, who exempt) {
	h.away, h.allowed = who.in(h.kept.Set)
	rest, _ := h.kept.Set.Without(h.away)
	h.entries = rest.Len()
	h.err = g.wall.SetList(firewall.List{
		Name: h.conf.Name, Ports: h.conf.Ports.List, Prefixes: slices.AppendSeq(make([]netip.Prefix, 0, rest.Len()), rest.All()),
	})
	if errors.Is(h.err, firewall.ErrOff) { // it is remembered, and comes with what else the firewall is told
		h.err = nil
	}
	g.lists.held[h.conf.Name] = h
	if h.err != nil {
		g.complain("list "+h.conf.Name, "the list is not in force; trying again", h.err)
		return
	}
	g.log.Info("list in force", "node", h.conf.Name, "n", h.entries, "spared", len(h.away))
	if n := len(h.away) - h.allowed; n > 0 {
		g.log.Warn(membersText(n), "node", h.conf.Name)
	}
}

// membersText says that people of the house are on a list.
func membersText(n int) string {
	return api.Count(n, "address of your members is in it", "addresses of your members are in it")
}

// sparedNow asks the decider for the allow list, and the store for the logins.
func (g *Guard) sparedNow(ctx context.Context) (who exempt, lists []config.List, err error) {
	var allow []netip.Prefix
	if err := g.do(ctx, func() {
		allow = g.shield.prefixes()
		lists = g.set.conf.Lists
	}); err != nil {
		return who, nil, err
	}
	who, err = g.whoIsSpared(allow, time.Now())
	return who, lists, err
}

// watchLists makes the lists follow who is let through and what the configuration says.
func (g *Guard) watchLists(ctx context.Context) error {
	tick := time.NewTicker(recheckTime)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-g.lists.changed:
			select {
			case <-time.After(recheckWait):
			case <-ctx.Done():
				return nil
			}
		}
		if err := g.recheckLists(ctx); err != nil && ctx.Err() == nil {
			g.complain("lists", "cannot tell who is to be let through; the lists stay as they are", err)
		}
	}
}

// listsChanged says that who is let through, or the configuration, may have changed.
func (g *Guard) listsChanged() {
	select {
	case g.lists.changed <- struct{}{}:
	default:
	}
}

// recheckLists puts every list in force again whose matters changed, and takes those away that nobody names any more.
func (g *Guard) recheckLists(ctx context.Context) error {
	who, confs, err := g.sparedNow(ctx)
	if err != nil {
		return err
	}
	stats := g.wall.Stats().Lists
	g.lists.mu.Lock()
	defer g.lists.mu.Unlock()
	for name, h := range g.lists.held {
		i := slices.IndexFunc(confs, func(c config.List) bool { return c.Name == name })
		if i < 0 {
			if err := g.takeAway(name); err != nil {
				g.complain("list "+name, "cannot take a list away", err)
			}
			continue
		}
		if h.kept == nil {
			continue
		}
		away, _ := who.in(h.kept.Set)
		if h.err != nil || stats[name].Problem != "" || !slices.Equal(away, h.away) || !slices.Equal(h.conf.Ports.List, confs[i].Ports.List) {
			h.conf = confs[i]
			g.putInForce(h, who)
		}
	}
	g.tidyLists(confs) // one that could not be used is in no other way known
	return nil
}

// takeAway takes a list out of force, and forgets it for good.
func (g *Guard) takeAway(name string) error {
	if err := g.wall.DropList(name); err != nil && !errors.Is(err, firewall.ErrOff) {
		return err
	}
	delete(g.lists.held, name)
	g.log.Info("list taken away", "node", name)
	if g.lists.folder == nil {
		return nil
	}
	return g.lists.folder.Remove(name)
}

// takeList takes a list from the watch process: it checks it as if a stranger had written it, keeps it, and puts it in
// force.
func (g *Guard) takeList(ctx context.Context, name string, kept io.Reader) (api.ListState, error) {
	who, confs, err := g.sparedNow(ctx)
	if err != nil {
		return api.ListState{}, api.Errorf(api.ExitTryLater, "", err.Error())
	}
	i := slices.IndexFunc(confs, func(c config.List) bool { return c.Name == name })
	if i < 0 {
		return api.ListState{}, refused("add a [[list]] with this name, and tocsin reload", "the configuration names no list %q", tocsin.Printable(name))
	}
	k, err := list.Decode(io.LimitReader(kept, list.MaxEncoded(confs[i].Limit)))
	switch {
	case err != nil:
		return api.ListState{}, api.Errorf(api.ExitData, "", fmt.Sprintf("list %s is not taken: %v", name, err))
	case k.Name != name:
		return api.ListState{}, api.Errorf(api.ExitData, "", fmt.Sprintf("list %s is not taken: it calls itself %q", name, k.Name))
	case k.Set.Len() > confs[i].Limit:
		return api.ListState{}, api.Errorf(api.ExitData, "", fmt.Sprintf("list %s is not taken: %d entries, the limit is %d", name, k.Set.Len(), confs[i].Limit))
	case len(k.Refused) > 0 || k.Set.Len() == 0:
		return api.ListState{}, api.Errorf(api.ExitData, "", fmt.Sprintf("list %s is not taken: it was refused, or is empty", name))
	}
	g.lists.mu.Lock()
	defer g.lists.mu.Unlock()
	if err := g.keepList(k); err != nil {
		// It is in force all the same: the disk is full just when attackers fill logs.
		g.complain("list "+name, "cannot keep the list; after a restart the former one is in force", err)
	} else {
		g.trouble.forget([]string{"list " + name})
	}
	h := &heldList{conf: confs[i], kept: k, taken: time.Now()}
	g.putInForce(h, who)
	if h.err != nil {
		return g.listState(h, firewall.ListStats{}), api.Errorf(api.ExitFailed, "see tocsin doctor", fmt.Sprintf("the firewall does not take list %s: %v", name, h.err))
	}
	return g.listState(h, g.wall.Stats().Lists[name]), nil
}

func (g *Guard) keepList(k *list.Kept) error {
	if g.lists.folder == nil {
		return errors.New("there is no folder for it")
	}
	return g.lists.folder.Keep(k)
}

func (g *Guard) dropList(ctx context.Context, name string) (api.Change, error) {
	g.lists.mu.Lock()
	defer g.lists.mu.Unlock()
	h := g.lists.held[name]
	if h == nil || h.kept == nil {
		return api.Change{}, refused("tocsin reputation shows them", "no list %q is in force", tocsin.Printable(name))
	}
	if err := g.takeAway(name); err != nil {
		return api.Change{}, api.Errorf(api.ExitFailed, "see tocsin doctor", err.Error())
	}
	g.lists.held[name] = &heldList{conf: h.conf, dropped: true}
	return change("list "+name+" is out of force until it is delivered again", "", name), nil
}

// listed are the lists that name an address.
func (g *Guard) listed(addr netip.Addr) []api.Listed {
	all := []api.Listed{}
	stats := g.wall.Stats().Lists
	g.lists.mu.Lock()
	defer g.lists.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(g.lists.held)) {
		h := g.lists.held[name]
		if h.kept == nil {
			continue
		}
		entry, ok := h.kept.Set.Covers(netip.PrefixFrom(addr, addr.BitLen()))
		if !ok {
			continue
		}
		spared := slices.ContainsFunc(h.away, func(p netip.Prefix) bool { return p.Contains(addr) })
		s := g.listState(h, stats[name])
		all = append(all, api.Listed{List: name, Entry: entry.String(), Ports: s.Ports, Blocked: s.InForce && !spared})
	}
	return all
}

// listStates are all lists that the configuration names.
func (g *Guard) listStates(ctx context.Context) (api.ListStates, error) {
	all := api.ListStates{Schema: api.SchemaLists, Lists: []api.ListState{}}
	var confs []config.List
	if err := g.do(ctx, func() { confs = g.set.conf.Lists }); err != nil {
		return all, api.Errorf(api.ExitTryLater, "", err.Error())
	}
	stats := g.wall.Stats().Lists
	g.lists.mu.Lock()
	defer g.lists.mu.Unlock()
	for _, c := range confs {
		h := g.lists.held[c.Name]
		if h == nil {
			h = &heldList{conf: c}
		}
		all.Lists = append(all.Lists, g.listState(h, stats[c.Name]))
	}
	slices.SortStableFunc(all.Lists, func(a, b api.ListState) int { return cmp.Compare(a.Name, b.Name) })
	return all, nil
}

func (g *Guard) listState(h *heldList, st firewall.ListStats) api.ListState {
	s := api.ListState{
		Name: h.conf.Name, Ports: h.conf.Ports.List, InForce: h.kept != nil && h.err == nil && !g.off(), Entries: h.entries,
		Allowed: h.allowed, Members: len(h.away) - h.allowed, Taken: api.Time(h.taken), Dropped: h.dropped,
		Packets: st.Packets, Bytes: st.Bytes, Since: api.Time(st.Since),
	}
	if s.Ports == nil {
		s.Ports = []uint16{}
	}
	if h.kept != nil {
		s.Delivered, s.Generated, s.Fetched = h.kept.Set.Len(), api.Time(h.kept.Generated), api.Time(h.kept.Fetched)
	}
	switch {
	case h.err != nil:
		s.Problem = tocsin.Printable(h.err.Error())
	case st.Problem != "": // it was refused when the table was made
		s.InForce, s.Problem = false, tocsin.Printable(st.Problem)
	}
	return s
}

// oldList is how old a list may be before somebody is told: its addresses are other people's by then. It stays in force all
// the same. A source that was lost would otherwise open the door to everybody on it, without a word, at the worst time.
const oldList = 72 * time.Hour

// findLists tells of lists that are old or not in force, and of a watch process that does not answer.
func (g *Guard) findLists(ctx context.Context, f *findings) {
	var shares bool
	_ = g.do(ctx, func() { shares = g.set.conf.Shares() })
	if !shares {
		return
	}
	g.lists.mu.Lock()
	asked := g.lists.asked
	g.lists.mu.Unlock()
	if last := maxTime(asked, g.started); time.Since(last) > watchGone {
		f.add("TOC-WCH-001", api.SeverityError, "systemctl restart tocsin-watch, or restart tocsin run",
			"the watch process has not asked for %s: lists get old, and nothing is reported; the guard goes on", time.Since(last).Round(time.Minute))
	}
	states, err := g.listStates(ctx)
	if err != nil {
		return
	}
	for _, s := range states.Lists {
		switch {
		case s.Problem != "":
			f.add("TOC-LST-001", api.SeverityError, "look at the log", "list %s is not in force: %s", s.Name, s.Problem)
		case s.Taken == nil && time.Since(g.started) > watchGone:
			f.add("TOC-LST-002", api.SeverityWarning, "tocsin reputation says why", "list %s has not come yet", s.Name)
		case s.Fetched != nil && time.Since(*s.Fetched) > oldList:
			f.add("TOC-LST-002", api.SeverityWarning, "tocsin reputation says why", "list %s was fetched %s ago, more than %s; it stays in force until a newer one comes",
				s.Name, api.Count(int(time.Since(*s.Fetched)/(24*time.Hour)), "day", "days"), config.FormatDuration(oldList))
		}
		if s.Members > 0 {
			f.add("TOC-LST-003", api.SeverityNote, "nothing; they are let through", "%s: list %s", membersText(s.Members), s.Name)
		}
	}
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// listNames are the names of some lists, for people.
func listNames(ls []config.List) string { return strings.Join(namesOf(ls), ", ") }

func namesOf(ls []config.List) (names []string) {
	for _, l := range ls {
		names = append(names, l.Name)
	}
	return names
}
