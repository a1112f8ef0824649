package firewall

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"tocsin"
)

// List is somebody else's list of dangerous addresses.
type List struct {
	Name     string         // 1 to 32 of a-z, 0-9 and -
	Ports    []uint16       // of TCP and UDP; empty: all ports and protocols
	Prefixes []netip.Prefix // in any order; doubles and overlaps are joined
	Verdict  tocsin.Verdict // Drop or Reject
}

// The bounds of what all lists may hold together. An entry costs 4 bytes here if it is an IPv4 address, 8 if it is an IPv6
// /64, 16 if it is another IPv6 address, and in the kernel about 60.
const (
	maxLists    = 16
	maxEntries  = 2_000_000
	maxListName = 32
)

// ListStats is what is known of a list.
type ListStats struct {
	Entries int       // single addresses, /64s and ranges, without doubles and overlaps
	Packets uint64    // dropped or rejected since Since
	Bytes   uint64    // of those packets
	Since   time.Time // when this process was first given the list
	Problem string    // why the kernel refused it when the table was made, "" if it did not; SetList tries again
}

// SetList puts a list in force, in place of the one with the same name if there is one: a packet meets the old list or the
// new one, whole, and a process that is killed leaves one of them. The counters go on. A list that is in force already
// costs nothing.
//
// The allow list stands before it, and own connections pass as they do with bans. Lists are held until DropList: Restore
// and Clear do not forget them, so a list that is set before the first Restore is in force with it.
//
// While the firewall is off the list is remembered and the answer is ErrOff. It returns ErrFull if there is no room for
// it. On any other error the old list stays; only where the table itself had to be made anew, and that failed, is the new
// one wanted already, and comes with the table by the next Sync or Watch. One that the kernel then refuses is told by Stats.
func (f *Firewall) SetList(l List) error {
	n, err := newList(&l)
	if err != nil {
		return err
	}
	f.swapping.Lock()
	defer f.swapping.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.want.roomFor(n, len(l.Prefixes)); err != nil {
		return fmt.Errorf("set list %s of inet %s: %w", n.name, f.o.Table, err)
	}
	old := f.want.lists[n.name]
	if f.standing && f.made {
		held := old // by the kernel
		if old != nil && old.refused != nil {
			held = nil
		}
		if held != nil && !f.stale && held.equal(n) {
			return nil
		}
		restores := f.stats.Restores
		others := func() bool {
			f.mu.Unlock()
			f.mu.Lock()
			return f.standing && f.stats.Restores == restores
		}
		stale := f.stale
		if err := f.fill(n, others); err != nil {
			f.unfill(n, stale)
			return err
		}
		if f.standing && f.stats.Restores == restores {
			n.inherit(old)
			return f.swap(held, n)
		}
		// While it was filled others made the table anew, or switched it off.
	}
	n.inherit(old)
	f.want.lists[n.name] = n
	if !f.standing {
		return ErrOff
	}
	if err := f.remake(time.Now()); err != nil {
		return err
	}
	return n.refused
}

// fill makes the sets of a list and fills them, piece by piece. In between it calls others, which lets them use the firewall
// and says whether to go on: not if the table is not the same any more.
//
// Nothing refers to the sets yet. That is not only for bans that come meanwhile: newer kernels let an interval set answer
// with its new elements at the end of a transaction, long after they let the new rules ask it. Of a list that was filled
// and referred to in one transaction, a hundred connections came through with every swap (Linux 6.18).
func (f *Firewall) fill(l *list, others func() bool) error {
	r := f.begin()
	r.listSets(l)
	if err := f.commit("add the sets of list " + l.name + " to"); err != nil {
		return err
	}
	if err := f.remember(); err != nil {
		return err
	}
	r = f.begin()
	piece := min(pieceSize, f.sock.room/2)
	r.grow(min(l.wireSize(), piece+maxList))
	for set, e := range l.elements() {
		if len(f.batch.buf) >= piece && !e.end {
			if err := f.commitUnheard("fill list " + l.name + " of"); err != nil {
				return err
			}
			if !others() {
				return nil
			}
			r = f.begin()
		}
		r.add(set, e)
	}
	return f.commitUnheard("fill list " + l.name + " of")
}

// pieceSize is how large, in bytes, the transactions are that fill a list: about 40,000 addresses and 30 ms.
const pieceSize = 640 << 10

// fits says whether all lists fit into the transaction that makes the table.
func (f *Firewall) fits() bool {
	size := 0
	for _, l := range f.want.lists {
		size += l.wireSize()
	}
	return size <= f.sock.room/2
}

// addLists adds all lists to a table that has none, as far as the kernel takes them.
func (f *Firewall) addLists() error {
	for _, l := range f.want.listsInOrder() {
		l.refused = f.fill(l, func() bool { return true })
		if l.refused == nil {
			l.refused = f.swap(nil, l)
		}
		if l.refused != nil {
			f.o.Log.Error("the kernel does not take a list; what else is in force stays so", "node", l.name, "n", l.entries(), "err", l.refused)
			f.unfill(l, false)
		}
	}
	return f.remember()
}

// unfill takes away the sets of a list that could not be filled, as far as they were made. If that can be done, or there are
// none, the table is as it was before: it need not be made anew.
func (f *Firewall) unfill(l *list, stale bool) {
	r := f.begin()
	r.delListSets(l)
	_ = f.sock.commit(f.batch) // the first set may be what was refused
	f.batch.reset()
	if there, err := f.sock.hasTable(f.o.Table); err == nil && there && f.remember() == nil {
		f.stale = stale
	}
}

// allListsIn says that the kernel took every list.
func (w *wanted) allListsIn() {
	for _, l := range w.lists {
		l.refused = nil
	}
}

// swap lets n be asked in place of old, which is nil if there was none.
func (f *Firewall) swap(old, n *list) error {
	if old != nil && old.end() != n.end() {
		f.count() // the counter goes with its chain
		defer n.begin()
	}
	n.inherit(old)
	r := f.begin()
	r.list(old, n)
	if err := f.commit("swap list " + n.name + " of"); err != nil {
		return err
	}
	f.want.lists[n.name] = n
	return f.remember()
}

// DropList takes a list out of force and forgets it and its counters. That there is none is no error.
func (f *Firewall) DropList(name string) error {
	f.swapping.Lock()
	defer f.swapping.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.want.lists[name]
	if l == nil {
		return nil
	}
	delete(f.want.lists, name)
	if !f.standing {
		return ErrOff
	}
	if l.refused != nil {
		return nil // it is not in the kernel
	}
	r := f.begin()
	r.dropList(l)
	if err := f.commit("drop list " + name + " of"); err != nil {
		return err // the next Sync or Watch makes the table without it
	}
	return f.remember()
}

// list is a List as it is held: sorted, without doubles and overlaps, and small, for it may have a million entries.
type list struct {
	name    string
	ports   []uint16
	verdict tocsin.Verdict
	gen     uint64 // tells the sets of this list from those of the one that it replaces

	v4    []uint32
	v6    [][16]byte
	v6n64 []uint64 // the first halves
	net4  []bounds[uint32]
	net6  []bounds[[16]byte]

	since        time.Time
	before, seen tally // counted by chains that are gone, and by the one that stands
	refused      error // why the kernel has not got it; nil if it has
}

// tally is what a counter of the kernel counted.
type tally struct{ packets, bytes uint64 }

func (t tally) plus(u tally) tally { return tally{t.packets + u.packets, t.bytes + u.bytes} }

// bounds is a range of addresses, both ends included.
type bounds[A any] struct{ first, last A }

func newList(l *List) (*list, error) {
	if err := checkListName(l.Name); err != nil {
		return nil, err
	}
	if l.Verdict != tocsin.Drop && l.Verdict != tocsin.Reject {
		return nil, fmt.Errorf("list %s: the verdict %s is neither drop nor reject", l.Name, l.Verdict)
	}
	if len(l.Prefixes) > maxEntries {
		return nil, fmt.Errorf("list %s has %d entries: %w", l.Name, len(l.Prefixes), ErrFull)
	}
	n := &list{name: l.Name, ports: tocsin.SortPorts(slices.Clone(l.Ports)), verdict: l.Verdict, since: time.Now()}
	n.reserve(l.Prefixes)
	for i, p := range l.Prefixes {
		if !p.IsValid() {
			return nil, fmt.Errorf("list %s: entry %d is no prefix", l.Name, i+1)
		}
		n.add(plain(p))
	}
	n.tidy()
	return n, nil
}

func checkListName(name string) error {
	strange := func(c rune) bool { return (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' }
	if name == "" || len(name) > maxListName || strings.ContainsFunc(name, strange) {
		return fmt.Errorf("the list's name %q is not 1 to %d of a-z, 0-9 and -", tocsin.Printable(name), maxListName)
	}
	return nil
}

// reserve makes room for ps at once: slices that grow leave as much again behind.
func (l *list) reserve(ps []netip.Prefix) {
	var n [kinds]int
	for _, p := range ps {
		if p.IsValid() {
			n[kindOf(plain(p))]++
		}
	}
	l.v4 = make([]uint32, 0, n[hash4])
	l.v6 = make([][16]byte, 0, n[hash6])
	l.v6n64 = make([]uint64, 0, n[hash64])
	l.net4 = make([]bounds[uint32], 0, n[net4])
	l.net6 = make([]bounds[[16]byte], 0, n[net6])
}

func (l *list) add(p netip.Prefix) {
	first := p.Addr().As16()
	switch kindOf(p) {
	case hash4:
		l.v4 = append(l.v4, number4(p.Addr()))
	case hash6:
		l.v6 = append(l.v6, first)
	case hash64:
		l.v6n64 = append(l.v6n64, binary.BigEndian.Uint64(first[:]))
	case net4:
		l.net4 = append(l.net4, bounds[uint32]{number4(p.Addr()), number4(lastAddr(p))})
	case net6:
		l.net6 = append(l.net6, bounds[[16]byte]{first, lastAddr(p).As16()})
	}
}

func number4(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

func (l *list) tidy() {
	slices.Sort(l.v4)
	l.v4 = slices.Compact(l.v4)
	slices.SortFunc(l.v6, compare16)
	l.v6 = slices.Compact(l.v6)
	slices.Sort(l.v6n64)
	l.v6n64 = slices.Compact(l.v6n64)
	l.net4 = joined(l.net4, cmp.Compare, func(a uint32) (uint32, bool) { return a + 1, a+1 != 0 })
	l.net6 = joined(l.net6, compare16, func(a [16]byte) ([16]byte, bool) {
		next := netip.AddrFrom16(a).Next()
		return next.As16(), next.IsValid()
	})
}

func compare16(a, b [16]byte) int { return bytes.Compare(a[:], b[:]) }

// joined sorts ranges and joins those that overlap or lie side by side, which an interval set would refuse. It works in
// place. next tells which address comes after a, if any does.
func joined[A any](rs []bounds[A], compare func(a, b A) int, next func(a A) (A, bool)) []bounds[A] {
	slices.SortFunc(rs, func(a, b bounds[A]) int { return compare(a.first, b.first) })
	n := 0 // of ranges that are done
	for _, r := range rs {
		if n > 0 {
			last := &rs[n-1].last
			if after, ok := next(*last); !ok || compare(r.first, after) <= 0 {
				if compare(r.last, *last) > 0 {
					*last = r.last
				}
				continue
			}
		}
		rs[n] = r
		n++
	}
	return rs[:n]
}

func (l *list) equal(o *list) bool {
	return slices.Equal(l.ports, o.ports) && l.verdict == o.verdict && slices.Equal(l.v4, o.v4) && slices.Equal(l.v6, o.v6) &&
		slices.Equal(l.v6n64, o.v6n64) && slices.Equal(l.net4, o.net4) && slices.Equal(l.net6, o.net6)
}

// size tells how much is in the set of a kind.
func (l *list) size(k kind) int {
	return [kinds]int{hash4: len(l.v4), hash6: len(l.v6), hash64: len(l.v6n64), net4: len(l.net4), net6: len(l.net6)}[k]
}

func (l *list) entries() (n int) {
	for k := range kinds {
		n += l.size(k)
	}
	return n
}

// wireSize is about how many bytes the list takes in a transaction.
func (l *list) wireSize() (n int) {
	for k, one := range [kinds]int{hash4: 16, hash6: 28, hash64: 28, net4: 40, net6: 64} {
		n += one * l.size(kind(k))
	}
	return n + n/256 + 8<<10
}

// The names of a list's chains and sets. Those of groups do not begin so, and a list's name has no underscore.

func (l *list) chain() string { return "list_" + l.name }
func (l *list) dport() string { return l.chain() + dportSuffix }

// hook is the base chain, of which the priority depends on the ports.
func (l *list) hook() string {
	if len(l.ports) > 0 {
		return l.chain() + "_ports"
	}
	return l.chain() + "_all"
}

// end is the chain that drops or rejects, and counts.
func (l *list) end() string {
	if l.verdict == tocsin.Reject {
		return l.chain() + "_reject"
	}
	return l.chain() + "_drop"
}

func (l *list) set(k kind) string {
	return l.chain() + "_" + strconv.FormatUint(l.gen, 10) + k.suffix()
}

// list puts l, of which the sets are there, where old was, which is nil if there was none.
//
// The base chain stays in its place: a packet that has passed a new one before the transaction and comes to an old one
// behind it would meet neither list. Within the base chain a packet keeps to the rules that it began with, and the sets
// that those ask keep their elements until it is gone.
func (r ruleset) list(old, l *list) {
	if old == nil {
		r.chain(l.chain(), "")
	} else {
		r.flushChain(l.chain())
	}
	if old == nil || old.end() != l.end() {
		r.verdictChain(l.end(), l.verdict)
	}
	for k := range kinds {
		if l.size(k) > 0 {
			r.rule(l.chain(), "", match(fromPrefix(k, l.set(k)), verdict(expr.VerdictGoto, l.end()))...)
		}
	}
	switch {
	case old == nil:
		r.listHook(l)
	case old.hook() != l.hook():
		r.listHook(l)
		r.dropHook(old)
	case !slices.Equal(old.ports, l.ports):
		r.flush(l.dport())
		r.addPorts(l.dport(), l.ports)
	}
	if old == nil {
		return
	}
	if old.end() != l.end() {
		r.flushChain(old.end())
		r.delChain(old.end())
	}
	r.delListSets(old)
}

// listSets makes the sets. Those that would be empty are not made, so that no packet asks them.
func (r ruleset) listSets(l *list) {
	for k := range kinds {
		n := l.size(k)
		if n == 0 {
			continue
		}
		if k.hash() {
			r.sizedSet(l.set(k), addrType(k.family()), 0, uint32(n), "")
		} else {
			r.newSet(l.set(k), addrType(k.family()), unix.NFT_SET_INTERVAL, "")
		}
	}
}

// elements yields what is in the sets of a list, one set after the other. A key is valid until the next is yielded.
func (l *list) elements() iter.Seq2[string, element] {
	return func(yield func(string, element) bool) {
		_ = l.addresses(yield) && l.ranges4(yield) && l.ranges6(yield)
	}
}

// addresses yields the elements of the hash sets, and says whether more are wanted. So do the others.
func (l *list) addresses(yield func(string, element) bool) bool {
	var key [16]byte
	set := l.set(hash4)
	for _, a := range l.v4 {
		binary.BigEndian.PutUint32(key[:], a)
		if !yield(set, element{key: key[:4]}) {
			return false
		}
	}
	set = l.set(hash6)
	for i := range l.v6 {
		if !yield(set, element{key: l.v6[i][:]}) {
			return false
		}
	}
	set, key = l.set(hash64), [16]byte{}
	for _, a := range l.v6n64 {
		binary.BigEndian.PutUint64(key[:], a)
		if !yield(set, element{key: key[:]}) {
			return false
		}
	}
	return true
}

// As in span, the end of a range is an element behind it, which one that reaches the highest address has not.

func (l *list) ranges4(yield func(string, element) bool) bool {
	var key [4]byte
	set := l.set(net4)
	for _, b := range l.net4 {
		binary.BigEndian.PutUint32(key[:], b.first)
		if !yield(set, element{key: key[:]}) {
			return false
		}
		if next := b.last + 1; next != 0 {
			binary.BigEndian.PutUint32(key[:], next)
			if !yield(set, element{key: key[:], end: true}) {
				return false
			}
		}
	}
	return true
}

func (l *list) ranges6(yield func(string, element) bool) bool {
	set := l.set(net6)
	for i := range l.net6 {
		if !yield(set, element{key: l.net6[i].first[:]}) {
			return false
		}
		if next := netip.AddrFrom16(l.net6[i].last).Next(); next.IsValid() {
			key := next.As16()
			if !yield(set, element{key: key[:], end: true}) {
				return false
			}
		}
	}
	return true
}

// listHook adds the base chain of a list, and the way from there. A list of ports covers TCP and UDP: who does not want an
// address at port 443 does not want it there by QUIC either.
func (r ruleset) listHook(l *list) {
	jump := verdict(expr.VerdictJump, l.chain())
	if len(l.ports) > 0 {
		r.baseChain(l.hook(), portsPriority, "the list "+l.name+", before conntrack and DNAT")
		r.newSet(l.dport(), portType, 0, "")
		r.addPorts(l.dport(), l.ports)
		for _, number := range protocols[tocsin.TCPAndUDP] {
			r.rule(l.hook(), "", match(toPorts(number, l.dport()), jump)...)
		}
		return
	}
	r.baseChain(l.hook(), allPriority, "the list "+l.name+"; answers to our own connections pass")
	r.rule(l.hook(), "", match(ctOriginal, jump)...)
	r.rule(l.hook(), "", match(ctNone, jump)...)
}

func (r ruleset) dropHook(l *list) {
	r.flushChain(l.hook())
	r.delChain(l.hook())
	if len(l.ports) > 0 {
		r.delSet(l.dport())
	}
}

func (r ruleset) delListSets(l *list) {
	for k := range kinds {
		if l.size(k) > 0 {
			r.delSet(l.set(k))
		}
	}
}

// dropList removes all of a list, from the way there to what is asked last: what is referred to cannot be deleted.
func (r ruleset) dropList(l *list) {
	r.dropHook(l)
	for _, chain := range []string{l.chain(), l.end()} {
		r.flushChain(chain)
		r.delChain(chain)
	}
	r.delListSets(l)
}

// roomFor says whether there is room for n, of which so many entries were given, and gives it its number.
func (w *wanted) roomFor(n *list, given int) error {
	held, others := given, 0
	for name, l := range w.lists {
		if name != n.name {
			held += l.entries()
			others++
		}
	}
	if others >= maxLists {
		return fmt.Errorf("there are %d lists: %w", others, ErrFull)
	}
	if held > maxEntries {
		return fmt.Errorf("all lists would have %d entries: %w", held, ErrFull)
	}
	w.gen++
	n.gen = w.gen
	return nil
}

// inherit takes over the counts of the list that l replaces, if there is one.
func (l *list) inherit(old *list) {
	if old != nil {
		l.since, l.before, l.seen = old.since, old.before, old.seen
	}
}

// listsInOrder lists them by name.
func (w *wanted) listsInOrder() []*list {
	return slices.SortedFunc(maps.Values(w.lists), func(a, b *list) int { return strings.Compare(a.name, b.name) })
}

// count reads the counters of the lists. What cannot be read stays as it was last seen, and so does what others removed
// since.
func (f *Firewall) count() {
	if !f.standing || len(f.want.lists) == 0 {
		return
	}
	now := map[string]tally{}
	err := f.sock.listTable(unix.NFT_MSG_GETRULE, f.o.Table, "", func(m message) {
		if belongs(m, f.o.Table) {
			chain, t := counted(m)
			now[chain] = now[chain].plus(t)
		}
	}, func() { clear(now) })
	if err != nil {
		return
	}
	for _, l := range f.want.lists {
		l.saw(now[l.end()])
	}
}

// saw takes what the counter shows. One that went back began anew.
func (l *list) saw(t tally) {
	if t.packets < l.seen.packets {
		l.begin()
	}
	l.seen = t
}

// begin says that the counter begins at zero.
func (l *list) begin() { l.before, l.seen = l.before.plus(l.seen), tally{} }

func (w *wanted) beginCounters() {
	for _, l := range w.lists {
		l.begin()
	}
}

// counted reads the chain of a rule and what its counter counted.
func counted(m message) (chain string, t tally) {
	for typ, data := range m.attrs() {
		switch typ {
		case unix.NFTA_RULE_CHAIN:
			chain = cString(data)
		case unix.NFTA_RULE_EXPRESSIONS:
			for _, e := range attrs(data) {
				t = t.plus(counter(e))
			}
		}
	}
	return chain, t
}

// counter reads an expression; one that is no counter counted nothing.
func counter(expression []byte) (t tally) {
	name := ""
	for typ, data := range attrs(expression) {
		switch {
		case typ == unix.NFTA_EXPR_NAME:
			name = cString(data)
		case typ == unix.NFTA_EXPR_DATA && name == "counter":
			for typ, value := range attrs(data) {
				switch typ {
				case unix.NFTA_COUNTER_BYTES:
					t.bytes = beUint64(value)
				case unix.NFTA_COUNTER_PACKETS:
					t.packets = beUint64(value)
				}
			}
		}
	}
	return t
}
