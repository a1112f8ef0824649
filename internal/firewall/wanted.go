package firewall

import (
	"container/heap"
	"net/netip"
	"slices"
	"strings"
	"time"

	"tocsin"
)

// maxBans bounds the bans that are held at once; each costs about 400 bytes here and 150 in the kernel. Strangers feed
// this table, one ban an address at most. What it refuses is counted in Stats.Refused.
const maxBans = 1 << 20

// owner is the key of a ban: lifting one jail's ban leaves another's.
type owner struct{ jail, id string }

// hold is one ban's claim on a target.
type hold struct {
	owner
	until time.Time // zero: without end
}

// target is a prefix that is banned in a group, by one ban or by several.
type target struct {
	group  *group
	kind   kind // of set
	prefix netip.Prefix
	holds  []hold // few; in the order in which they came
}

// until tells when the last hold ends; zero: never. Without holds it ended long ago.
func (t *target) until() time.Time {
	last := time.Unix(0, 0)
	for _, h := range t.holds {
		if h.until.IsZero() {
			return time.Time{}
		}
		if h.until.After(last) {
			last = h.until
		}
	}
	return last
}

// jails lists the jails that hold t, for the element's comment.
func (t *target) jails() string {
	if len(t.holds) == 1 {
		return t.holds[0].jail
	}
	var names []string
	for _, h := range t.holds {
		if h.jail != "" && !slices.Contains(names, h.jail) {
			names = append(names, h.jail)
		}
	}
	s := strings.Join(names, ",")
	if len(s) > maxComment {
		s = s[:max(strings.LastIndexByte(s[:maxComment], ','), 0)]
	}
	return s
}

func (t *target) release(o owner) {
	t.holds = slices.DeleteFunc(t.holds, func(h hold) bool { return h.owner == o })
}

// hold adds a hold or gives it another end, and says whether anything changed.
func (t *target) hold(o owner, until time.Time) bool {
	for i := range t.holds {
		if h := &t.holds[i]; h.owner == o {
			if h.until.Equal(until) {
				return false
			}
			h.until = until
			return true
		}
	}
	t.holds = append(t.holds, hold{o, until})
	return true
}

// element is what the kernel holds for t.
func (t *target) element(now time.Time) element {
	return element{key: t.prefix.Addr().AsSlice(), timeout: timeout(t.until(), now), comment: t.jails()}
}

// ended says whether something that ends at until is over at now.
func ended(until, now time.Time) bool { return !until.IsZero() && !now.Before(until) }

// wanted is the state that the kernel should have. It does no I/O and knows no clock.
type wanted struct {
	groups  map[string]*group // by their key
	bans    map[owner]*target
	ends    endings
	allow   []netip.Prefix
	refused uint64
	lists   map[string]*list // by name
	gen     uint64           // of the last list that was given
	keyBuf  []byte
}

func newWanted() wanted {
	return wanted{groups: map[string]*group{}, bans: map[owner]*target{}, lists: map[string]*list{}}
}

// replace forgets everything but the lists and the count of refusals, and wants those of bans that are in force at now.
func (w *wanted) replace(bans []tocsin.Decision, allow []netip.Prefix, now time.Time) {
	old := *w
	*w = newWanted()
	w.refused, w.lists, w.gen, w.allow = old.refused, old.lists, old.gen, slices.Clone(allow)
	for i := range bans {
		if bans[i].InForce(now) {
			w.ban(&bans[i], now)
		}
	}
}

// groupOf finds the group for what d covers, or makes it.
func (w *wanted) groupOf(s scope) *group {
	w.keyBuf = s.appendKey(w.keyBuf[:0])
	g, ok := w.groups[string(w.keyBuf)]
	if !ok {
		g = newGroup(s)
		w.groups[string(w.keyBuf)] = g
	}
	return g
}

// plain brings a prefix into the one form that it has here: masked, IPv4 as IPv4.
func plain(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked()
}

// ban records d and returns the targets that changed: the one that d holds, and the one that the same ban held before if
// that is another. Both are nil if there is nothing to hold: the id is no address, or the ban lets packets
// pass, or is over, or there are too many.
func (w *wanted) ban(d *tocsin.Decision, now time.Time) (held, before *target) {
	o := owner{d.Jail, d.ID}
	before = w.bans[o]
	if !d.Prefix.IsValid() || d.Verdict == tocsin.Pass || ended(d.Until, now) {
		w.unban(o)
		return nil, before
	}
	if before == nil && len(w.bans) >= maxBans {
		w.refused++
		return nil, nil
	}
	held = w.groupOf(scopeOf(d)).target(plain(d.Prefix))
	if held.hold(o, d.Until) && !d.Until.IsZero() {
		heap.Push(&w.ends, hold{o, d.Until})
	}
	w.bans[o] = held
	if before == held {
		return held, nil
	}
	if before != nil {
		before.release(o)
		before.group.forget(before)
	}
	return held, before
}

// unban forgets a ban and returns the target that it held, nil if it held none.
func (w *wanted) unban(o owner) *target {
	t := w.bans[o]
	if t == nil {
		return nil
	}
	delete(w.bans, o)
	t.release(o)
	t.group.forget(t)
	return t
}

// covers says whether what d bans in the kernel is wanted: its target has a ban, or one around it in an interval set does.
func (w *wanted) covers(d *tocsin.Decision) bool {
	g := w.groups[string(scopeOf(d).appendKey(nil))]
	if g == nil {
		return false
	}
	k := kindOf(d.Prefix)
	if k.hash() {
		return g.targets[k][d.Prefix] != nil
	}
	for bits := d.Prefix.Bits(); bits >= 0; bits-- {
		outer := netip.PrefixFrom(d.Prefix.Addr(), bits).Masked()
		if g.targets[k][outer] != nil {
			return true
		}
	}
	return false
}

// holds says whether the ban d is wanted just as it is.
func (w *wanted) holds(d *tocsin.Decision) bool {
	o := owner{d.Jail, d.ID}
	t := w.bans[o]
	return t != nil && t.group == w.groups[string(scopeOf(d).appendKey(nil))] && slices.Contains(t.holds, hold{o, d.Until})
}

// expire forgets what is over at now. It costs nothing while nothing ends.
func (w *wanted) expire(now time.Time) {
	for len(w.ends) > 0 && ended(w.ends[0].until, now) {
		end := heap.Pop(&w.ends).(hold)
		if t := w.bans[end.owner]; t != nil && slices.Contains(t.holds, end) {
			w.unban(end.owner)
		}
	}
}

// endings is a heap of the ends of bans, the earliest first. An entry that no ban has any more, because it was lifted or
// got another end, stays until its time comes.
type endings []hold

func (e endings) Len() int           { return len(e) }
func (e endings) Less(i, j int) bool { return e[i].until.Before(e[j].until) }
func (e endings) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *endings) Push(x any)        { *e = append(*e, x.(hold)) }
func (e *endings) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

// before counts the entries that end by t. It looks at no others but their neighbours.
func (e endings) before(t time.Time) int {
	var count func(i int) int
	count = func(i int) int {
		if i >= len(e) || e[i].until.After(t) {
			return 0
		}
		return 1 + count(2*i+1) + count(2*i+2)
	}
	return count(0)
}

// group is what is banned within one scope. It has its own chain and sets.
type group struct {
	scope
	name    string // of its chain
	sets    [kinds]string
	built   bool // the kernel has them
	targets [kinds]map[netip.Prefix]*target
}

func newGroup(s scope) *group {
	s.ports = slices.Clone(s.ports) // they are the caller's
	g := &group{scope: s, name: s.name()}
	for k := range kinds {
		g.sets[k] = g.name + k.suffix()
		g.targets[k] = map[netip.Prefix]*target{}
	}
	return g
}

// target finds the target of a prefix, or makes it.
func (g *group) target(p netip.Prefix) *target {
	k := kindOf(p)
	t := g.targets[k][p]
	if t == nil {
		t = &target{group: g, kind: k, prefix: p}
		g.targets[k][p] = t
	}
	return t
}

// forget drops a target that nobody holds.
func (g *group) forget(t *target) {
	if len(t.holds) == 0 {
		delete(g.targets[t.kind], t.prefix)
	}
}

// empty says whether nobody is banned in the group.
func (g *group) empty() bool {
	for _, ts := range g.targets {
		if len(ts) > 0 {
			return false
		}
	}
	return true
}

// spans lists what is in an interval set.
func (g *group) spans(k kind) []span {
	var all []span
	for p, t := range g.targets[k] {
		all = append(all, span{first: p.Addr(), last: lastAddr(p), until: t.until(), comment: t.jails()})
	}
	return disjoint(all)
}
