package daemon

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"tocsin"
	"tocsin/internal/f2blog"
)

// Where a filter finds a host name and the jail's usedns wants its addresses, the failure waits beside the flow until they
// are known; the decider does not. Names are what strangers put into their own reverse zone, so everything is bounded: a
// name that cannot be asked for now is dropped and counted, as if the line had named nobody.
const (
	nameTime    = 5 * time.Minute // how long an answer is remembered, that there is none included; as in fail2ban
	maxNames    = 1000            // answers remembered
	maxWaiting  = 4 << 20         // bytes of failures that wait for an answer, about 10,000 of them
	maxNameAsks = 4096            // names that wait to be asked for
	nameAskers  = 8               // names asked for at once
	nameWait    = 10 * time.Second
	maxOfName   = 16  // addresses of one name
	maxName     = 253 // bytes (https://www.rfc-editor.org/rfc/rfc1035#section-2.3.4)
)

// lookup asks for the addresses of a host name.
type lookup func(ctx context.Context, name string) ([]netip.Addr, error)

// names are the host names that failures wait for. All but the queue is owned by the decider.
type names struct {
	queue   chan string
	known   map[string]named
	waiting map[string][]event // by name
	held    int                // bytes in waiting
	warned  map[string]time.Time
	dropped uint64 // failures whose name nobody had time to ask for
	log     throttle
}

// named is the answer for a name: no address if there is none.
type named struct {
	addrs []netip.Addr
	until time.Time
}

func newNames() names {
	return names{
		queue: make(chan string, maxNameAsks), known: map[string]named{}, waiting: map[string][]event{}, warned: map[string]time.Time{},
	}
}

// takeName makes failures of its addresses of the failure of a host name: now if they are known, later if not. Late ones
// keep their time, so that they count in the window they belong to.
func (g *Guard) takeName(e event) {
	n, name := &g.names, nameKey(e.failure.ID)
	if a, ok := n.known[name]; ok && time.Now().Before(a.until) {
		g.takeNamed(e, a.addrs)
		return
	}
	list, asked := n.waiting[name]
	if g.lookup == nil || n.held+heldBytes(&e) > maxWaiting || len(name) > maxName || !asked && !n.ask(name) {
		n.drop(g)
		return
	}
	n.waiting[name] = append(list, e)
	n.held += heldBytes(&e)
}

// heldBytes is about how much memory a failure takes while it waits.
func heldBytes(e *event) int {
	n := 300 + len(e.failure.Line.Text)
	for i := range e.failure.Context {
		n += 100 + len(e.failure.Context[i].Text)
	}
	return n
}

func nameKey(name string) string { return strings.TrimSuffix(strings.ToLower(name), ".") }

// ask puts a name into the queue, if there is room.
func (n *names) ask(name string) bool {
	select {
	case n.queue <- name:
		return true
	default:
		return false
	}
}

func (n *names) drop(g *Guard) {
	n.dropped++
	n.log.say(time.Now(), func(int) {
		why := "too many names at once"
		if g.lookup == nil {
			why = "nobody is there to ask for addresses"
		}
		g.log.Warn("failures of host names are not counted", "reason", why, "n", n.dropped)
	})
}

// takeNamed takes the failure of a name as one of each of its addresses.
func (g *Guard) takeNamed(e event, addrs []netip.Addr) {
	c := g.cellNamed(e.cell.conf.Name) // a reload may have come between
	if c == nil {
		return
	}
	if len(addrs) == 0 {
		c.tally.badIDs++
		return
	}
	if c.def.Usedns == "warn" {
		g.names.warn(g, e.failure.ID, addrs)
	}
	for _, a := range addrs {
		f := *e.failure
		f.ID, f.Prefix, f.Host = a.String(), netip.PrefixFrom(a, a.BitLen()), false
		f.Fields = append(slices.Clone(f.Fields), tocsin.Field{Name: "dns", Value: e.failure.ID})
		g.takeFailure(event{cell: c, failure: &f, seen: e.seen})
	}
}

// warn tells once a day of a name that somebody is blamed by: whoever owns its zone chooses who that is.
func (n *names) warn(g *Guard, name string, addrs []netip.Addr) {
	now := time.Now()
	if at, ok := n.warned[name]; ok && now.Sub(at) < 24*time.Hour {
		return
	}
	if len(n.warned) >= maxNames {
		clear(n.warned)
	}
	n.warned[name] = now
	g.log.Warn("determined address by host name", "name", tocsin.Printable(name), "addr", addrs)
	texts := make([]string, len(addrs))
	for i, a := range addrs {
		texts[i] = "'" + a.String() + "'"
	}
	g.f2b.Say("fail2ban.ipdns", f2blog.Warning, "Determined IP using DNS Lookup: "+tocsin.Printable(name)+" = {"+strings.Join(texts, ", ")+"}")
}

// answered takes over the addresses of a name, and the failures that waited for them, oldest first.
func (g *Guard) answered(name string, addrs []netip.Addr) {
	n, now := &g.names, time.Now()
	if len(n.known) >= maxNames {
		n.forget(now)
	}
	n.known[name] = named{addrs: addrs, until: now.Add(nameTime)}
	list := n.waiting[name]
	delete(n.waiting, name)
	for _, e := range list {
		n.held -= heldBytes(&e)
		g.takeNamed(e, addrs)
	}
}

// forget makes room: all answers that are too old, and if none is, the one that will be next.
func (n *names) forget(now time.Time) {
	var next string
	for name, a := range n.known {
		if !now.Before(a.until) {
			delete(n.known, name)
		} else if next == "" || a.until.Before(n.known[next].until) {
			next = name
		}
	}
	if len(n.known) >= maxNames {
		delete(n.known, next)
	}
}

// askNames asks for the names in the queue until ctx ends.
func (g *Guard) askNames(ctx context.Context) error {
	var wg sync.WaitGroup
	for range nameAskers {
		wg.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case name := <-g.names.queue:
					addrs, err := g.addrsOf(ctx, name)
					if err != nil {
						g.log.Debug("a host name has no address", "name", tocsin.Printable(name), "err", err)
					}
					_ = g.do(ctx, func() { g.answered(name, addrs) }) // an error is the end
				}
			}
		})
	}
	wg.Wait()
	return nil
}

var errNoLookup = errors.New("nobody is there to ask for addresses")

// addrsOf asks for the addresses of a name, sorted, each once.
func (g *Guard) addrsOf(ctx context.Context, name string) ([]netip.Addr, error) {
	if g.lookup == nil {
		return nil, errNoLookup
	}
	ctx, cancel := context.WithTimeout(ctx, nameWait)
	defer cancel()
	found, err := g.lookup(ctx, name)
	var addrs []netip.Addr
	for _, a := range found {
		if a = a.Unmap().WithZone(""); a.IsValid() {
			addrs = append(addrs, a)
		}
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	addrs = slices.Compact(addrs)
	return addrs[:min(len(addrs), maxOfName)], err
}

// Host names of ignoreip. Their addresses change, and so are asked for again and again; while a name has no answer the
// addresses that it had stay.
const (
	friendTime = nameTime
	firstWait  = 3 * time.Second // for all of them together, before the first line is read
	maxFriends = 256             // names of one configuration; the rest is not asked for
)

// friends are the addresses of the host names that jails ignore, by name. Owned by the decider.
type friends map[string][]netip.Addr

// watchFriends asks for the names that jails ignore every few minutes, and at once when a reload or a person names more.
func (g *Guard) watchFriends(ctx context.Context) error {
	tick := time.NewTicker(friendTime)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-g.newFriends:
		}
		var all []string
		if err := g.do(ctx, func() { all = g.set.friendNames() }); err != nil {
			return nil // the guard is ending
		}
		g.befriend(ctx, all)
	}
}

// askForFriends has the names that jails ignore asked for soon. It does not wait.
func (g *Guard) askForFriends() {
	select {
	case g.newFriends <- struct{}{}:
	default:
	}
}

// friendNames are the host names that the jails of a set ignore, each once.
func (s *set) friendNames() []string {
	var all []string
	for _, c := range s.cells {
		all = append(all, c.names...)
	}
	slices.Sort(all)
	all = slices.Compact(all)
	return all[:min(len(all), maxFriends)]
}

// befriend asks for names, several at once, and tells the decider of those that have addresses.
func (g *Guard) befriend(ctx context.Context, all []string) {
	if len(all) == 0 {
		return
	}
	var mu sync.Mutex
	found := friends{}
	queue := make(chan string, len(all))
	for _, name := range all {
		queue <- name
	}
	close(queue)
	var wg sync.WaitGroup
	for range nameAskers {
		wg.Go(func() {
			for name := range queue {
				addrs, err := g.addrsOf(ctx, name)
				if len(addrs) == 0 {
					g.log.Warn("a host name of ignoreip has no address; what it had stays ignored", "name", name, "err", cmp.Or(err, errNoAddress))
					continue
				}
				mu.Lock()
				found[name] = addrs
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	_ = g.do(context.WithoutCancel(ctx), func() { g.meet(found, all) })
}

var errNoAddress = errors.New("the answer is empty")

// meet takes over the addresses of friends. Names that nobody ignores, neither now nor after a reload under way, are
// forgotten.
func (g *Guard) meet(found friends, all []string) {
	next := friends{}
	if g.set != nil {
		all = append(all, g.set.friendNames()...)
	}
	for _, name := range all {
		if addrs, ok := found[name]; ok {
			next[name] = addrs
		} else if old, ok := g.friends[name]; ok {
			next[name] = old
		}
	}
	g.friends = next
}

// friendIn says whether p holds an address of a host name that the jail ignores, and which.
func (g *Guard) friendIn(c *cell, p netip.Prefix) (name string, ok bool) {
	i := slices.IndexFunc(c.names, func(name string) bool { return slices.ContainsFunc(g.friends[name], p.Contains) })
	if i < 0 {
		return "", false
	}
	return c.names[i], true
}
