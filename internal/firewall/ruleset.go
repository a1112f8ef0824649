package firewall

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"tocsin"
)

// The chains that every table has. Their names and those of the groups do not collide.
const (
	portsChain  = "ports" // sees packets before conntrack and DNAT: bans of a set of ports
	allChain    = "all"   // sees packets behind conntrack, before DNAT: bans of all ports
	dropChain   = "banned_drop"
	rejectChain = "banned_reject"
	allowV4     = "allow_v4"
	allowV6     = "allow_v6"
)

// Where the base chains stand among the hooks of prerouting (include/uapi/linux/netfilter_ipv4.h): defragmentation is at
// -400, raw at -300, conntrack at -200, mangle at -150, DNAT at -100.
const (
	portsPriority = -300
	allPriority   = -150
)

const tableComment = "made by tocsin, which guards this host; remove it with: tocsin off"

// ruleset writes our table. It does not know what is in the kernel.
type ruleset struct {
	*batch
	routed   bool // also packets that are only passing through
	noReject bool // the kernel cannot reject here: drop
}

// base replaces the table, whatever it was, by one without groups.
func (r ruleset) base(allow []netip.Prefix) {
	r.addTable(tableComment) // so that there is one to delete
	r.delTable()
	r.addTable(tableComment)
	for f, name := range allowSets {
		r.newSet(name, addrType(family(f)), unix.NFT_SET_INTERVAL, "never banned")
	}
	r.allowed(allow)
	r.verdictChain(dropChain, tocsin.Drop)
	r.verdictChain(rejectChain, tocsin.Reject)
	r.baseChain(portsChain, portsPriority, "bans of some ports, before conntrack and DNAT")
}

var allowSets = [...]string{v4: allowV4, v6: allowV6}

// allowed fills the allow list.
func (r ruleset) allowed(ps []netip.Prefix) {
	for f, name := range allowSets {
		for _, s := range merged(ps, family(f)) {
			r.span(name, s, time.Time{})
		}
	}
}

// verdictChain is where the packets of the banned end up. What could save them is asked here, behind the match, because
// then only their packets pay for it. A packet that returns goes on in the base chain, whose policy accepts it.
func (r ruleset) verdictChain(name string, v tocsin.Verdict) {
	r.chain(name, "")
	r.rule(name, "the allow list stands before every ban", match(fromAddr(v4, allowV4), verdict(expr.VerdictReturn))...)
	r.rule(name, "", match(fromAddr(v6, allowV6), verdict(expr.VerdictReturn))...)
	r.rule(name, "how our own connections find a neighbour", match(neighbour, verdict(expr.VerdictReturn))...)
	if !r.routed {
		r.rule(name, "not for this host", match(toOthers, verdict(expr.VerdictReturn))...)
	}
	if v == tocsin.Reject && !r.noReject {
		r.rule(name, "", match(proto(unix.IPPROTO_TCP), &expr.Counter{}, &expr.Reject{Type: unix.NFT_REJECT_TCP_RST})...)
		r.rule(name, "", &expr.Counter{},
			&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_ADMIN_PROHIBITED})
		return
	}
	r.rule(name, "", &expr.Counter{}, verdict(expr.VerdictDrop))
}

// group adds a group's sets and chain, and the way there.
func (r ruleset) group(g *group) {
	for k, set := range g.sets {
		r.newSet(set, addrType(kind(k).family()), kind(k).flags(), "")
	}
	end := verdict(expr.VerdictGoto, dropChain)
	if g.verdict == tocsin.Reject {
		end = verdict(expr.VerdictGoto, rejectChain)
	}
	r.chain(g.name, "")
	for k, set := range g.sets {
		r.rule(g.name, "", match(fromPrefix(kind(k), set), end)...)
	}
	jump := verdict(expr.VerdictJump, g.name)
	if len(g.ports) > 0 {
		// The set has a name, so that adopting finds the ports of a group again.
		set := g.name + dportSuffix
		r.newSet(set, portType, 0, "")
		r.addPorts(set, g.ports)
		for _, number := range protocols[g.proto] {
			r.rule(portsChain, "", match(toPorts(number, set), jump)...)
		}
		return
	}
	// The chain is made with the first ban of all ports and not before, since it needs conntrack, and a host that has none
	// running should not get one for nothing. Adding it a second time changes nothing.
	r.baseChain(allChain, allPriority, "bans of all ports; answers to our own connections pass")
	r.rule(allChain, "", match(ctOriginal, jump)...)
	r.rule(allChain, "", match(ctNone, jump)...)
}

// addPorts fills a set of ports.
func (r ruleset) addPorts(set string, ports []uint16) {
	for _, p := range ports {
		r.add(set, element{key: []byte{byte(p >> 8), byte(p)}})
	}
}

// place is where in the kernel something of the wanted state changed: an element of a hash set, or, with a zero prefix, a
// whole interval set.
type place struct {
	group  *group
	kind   kind
	prefix netip.Prefix
}

func (p place) set() string { return p.group.sets[p.kind] }

// update makes the kernel equal to what is wanted at places, whatever it holds there.
//
// A timeout cannot be changed in place before Linux 6.12, and deleting an element that has timed out would fail the whole
// transaction. So every element is added, deleted, and added anew with its time.
func (r ruleset) update(places map[place]bool, now time.Time) {
	for p := range places {
		if p.kind.hash() {
			r.add(p.set(), element{key: p.prefix.Addr().AsSlice()})
		}
	}
	for p := range places {
		if p.kind.hash() {
			r.del(p.set(), element{key: p.prefix.Addr().AsSlice()})
		} else {
			r.flush(p.set())
		}
	}
	for p := range places {
		if !p.kind.hash() {
			r.nets(p.group, p.kind, now)
		} else if t := p.group.targets[p.kind][p.prefix]; t != nil {
			r.add(p.set(), t.element(now))
		}
	}
}

// nets fills an interval set.
func (r ruleset) nets(g *group, k kind, now time.Time) {
	for _, s := range g.spans(k) {
		if !ended(s.until, now) {
			r.span(g.sets[k], s, now)
		}
	}
}

// span adds a range to an interval set: an element where it begins and one behind its end, which a range that reaches the
// highest address has not.
func (r ruleset) span(set string, s span, now time.Time) {
	r.add(set, element{key: s.first.AsSlice(), timeout: timeout(s.until, now), comment: s.comment})
	if next := s.last.Next(); next.IsValid() {
		r.add(set, element{key: next.AsSlice(), end: true})
	}
}

// everything writes the whole wanted state but the lists.
func (r ruleset) everything(w *wanted, now time.Time) {
	r.base(w.allow)
	for key, g := range w.groups {
		if g.empty() {
			delete(w.groups, key)
		}
	}
	for _, g := range w.inOrder() {
		r.group(g)
		g.built = true
		r.elements(g, now)
	}
}

// lists writes the lists.
func (r ruleset) lists(w *wanted) {
	for _, l := range w.listsInOrder() {
		r.grow(l.wireSize())
		r.listSets(l)
		for set, e := range l.elements() {
			r.add(set, e)
		}
		r.list(nil, l)
	}
}

// elements fills the sets of a new group, one set after the other so that elements share messages.
func (r ruleset) elements(g *group, now time.Time) {
	for k := range net4 {
		for _, t := range g.targets[k] {
			if !ended(t.until(), now) {
				r.add(g.sets[k], t.element(now))
			}
		}
	}
	r.nets(g, net4, now)
	r.nets(g, net6, now)
}

// inOrder lists the groups by name, so that the same state always gives the same rules.
func (w *wanted) inOrder() []*group {
	var gs []*group
	for _, g := range w.groups {
		gs = append(gs, g)
	}
	slices.SortFunc(gs, func(a, b *group) int { return strings.Compare(a.name, b.name) })
	return gs
}

// timeout is what the kernel counts down, in milliseconds: the time left, rounded up to a whole second, because its clock
// tick may be as coarse as 10 ms and a ban must not end early. 0 is without end.
func timeout(until, now time.Time) uint64 {
	if until.IsZero() {
		return 0
	}
	seconds := (until.Sub(now) + time.Second - 1) / time.Second
	return uint64(max(seconds, 1)) * 1000
}
