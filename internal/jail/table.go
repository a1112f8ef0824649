package jail

import (
	"encoding/binary"
	"hash/maphash"
	"net/netip"
)

// key is whom failures are counted for, in 128 bits: an IPv6 prefix as it is, an IPv4 address in the last 32 bits of
// 00fe::/16, an id that is no address as a hash in 00ff::/16. Nobody sends from these parts of 0000::/8
// (https://www.iana.org/assignments/ipv6-address-space). IPv4 is not written as ::ffff:a.b.c.d, because a ban of ::/64,
// which is what failures from ::1 lead to, would contain all of it.
type key struct{ hi, lo uint64 }

// block is a key and how many of its 128 leading bits count; an IPv4 /24 is 120 here. A number as wide as the others
// leaves no gap at the end, so that maps hash a block in one go.
type block struct {
	key
	bits uint64
}

const (
	ipv4 = 0x00fe << 48 // the upper half of a key
	noIP = 0x00ff << 48
)

func addrKey(a netip.Addr) key {
	if a.Is4() {
		b := a.As4()
		return key{ipv4, uint64(binary.BigEndian.Uint32(b[:]))}
	}
	b := a.As16()
	return key{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

func (k key) isIPv4() bool { return k.hi == ipv4 }

func (k key) isID() bool { return k.hi>>48 == noIP>>48 }

func prefixBlock(p netip.Prefix) block {
	a, bits := p.Addr(), p.Bits()
	if a.Is4() {
		bits += 96
	}
	return block{addrKey(a).mask(bits), uint64(bits)}
}

// mask keeps the leading bits of k.
func (k key) mask(bits int) key {
	if bits >= 64 {
		return key{k.hi, k.lo &^ (^uint64(0) >> (bits - 64))} // a shift by 64 gives 0 in Go
	}
	return key{k.hi &^ (^uint64(0) >> bits), 0}
}

// prefix is what a block stands for; it is no id.
func (b block) prefix() netip.Prefix {
	var raw [16]byte
	binary.BigEndian.PutUint64(raw[:8], b.hi)
	binary.BigEndian.PutUint64(raw[8:], b.lo)
	if b.isIPv4() {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte(raw[12:])), int(b.bits)-96)
	}
	return netip.PrefixFrom(netip.AddrFrom16(raw), int(b.bits))
}

func (b block) contains(k key) bool { return k.mask(int(b.bits)) == b.key }

// node is one failure. The nodes of an address form a list, newest first.
type node struct {
	at   int64  // Unix microseconds, log time
	ref  uint64 // its line in lines
	user uint32 // seeded hash of the user name; 0 if the line names none
	next uint32 // the next older failure, 0 at the end
}

// entry is one address with failures. All entries form a list by arrival of their last failure.
type entry struct {
	key     key
	touched int64  // the log's newest time when the last failure arrived
	newer   uint32 // towards the entry that was touched last
	older   uint32 // towards the entry that was touched longest ago; links the free entries too
	failure uint32 // the newest failure
	n       uint32 // how many failures
}

// table maps keys to entries, by open addressing with linear probing. Nothing in it is a pointer, so the garbage
// collector does not look inside: 40 bytes an address, 24 a failure, 11 to 22 a slot. Index 0 of entries and nodes is
// never used, so that 0 can mean none.
type table struct {
	seed      maphash.Seed // addresses are chosen by strangers, who must not be able to choose their slots
	slots     []uint64     // upper half: upper half of the hash; lower half: index of the entry, 0 if the slot is empty
	entries   []entry
	nodes     []node
	freeEntry uint32
	freeNode  uint32
	last      uint32 // touched last
	first     uint32 // touched longest ago
	used      int    // entries in use
	failures  int    // nodes in use
}

const minSlots = 64

func newTable(seed maphash.Seed) table {
	return table{seed: seed, slots: make([]uint64, minSlots), entries: make([]entry, 1), nodes: make([]node, 1)}
}

// home is the slot where the search for a tag begins. Slots keep the tag, so that growing needs no second hashing.
func (t *table) home(tag uint32) int { return int(tag) & (len(t.slots) - 1) }

func (t *table) tag(k key) uint32 { return uint32(maphash.Comparable(t.seed, k) >> 32) }

// find returns the entry of k, 0 if there is none, and the tag of k for add.
func (t *table) find(k key) (e, tag uint32) {
	tag = t.tag(k)
	for i := t.home(tag); ; i = (i + 1) & (len(t.slots) - 1) {
		s := t.slots[i]
		if uint32(s) == 0 {
			return 0, tag
		}
		if uint32(s>>32) == tag && t.entries[uint32(s)].key == k {
			return uint32(s), tag
		}
	}
}

// add makes an entry for k, which must not have one. It needs the tag that find returned.
func (t *table) add(k key, tag uint32, touched int64) uint32 {
	if 4*(t.used+1) > 3*len(t.slots) {
		t.grow()
	}
	e := t.freeEntry
	if e == 0 {
		e = uint32(len(t.entries))
		t.entries = append(t.entries, entry{})
	} else {
		t.freeEntry = t.entries[e].older
	}
	t.entries[e] = entry{key: k}
	t.used++
	t.place(uint64(tag)<<32 | uint64(e))
	t.link(e, touched)
	return e
}

func (t *table) place(slot uint64) {
	i := t.home(uint32(slot >> 32))
	for uint32(t.slots[i]) != 0 {
		i = (i + 1) & (len(t.slots) - 1)
	}
	t.slots[i] = slot
}

func (t *table) grow() {
	old := t.slots
	t.slots = make([]uint64, 2*len(old))
	for _, s := range old {
		if uint32(s) != 0 {
			t.place(s)
		}
	}
}

// remove forgets an entry and its failures.
func (t *table) remove(e uint32) {
	t.vacate(e)
	t.unlink(e)
	t.filter(e, func(node) bool { return false })
	t.entries[e] = entry{older: t.freeEntry}
	t.freeEntry = e
	t.used--
}

// vacate empties the slot of e and moves later slots of the run back, so that no probe ends too early.
func (t *table) vacate(e uint32) {
	wrap := len(t.slots) - 1
	hole := t.home(t.tag(t.entries[e].key))
	for uint32(t.slots[hole]) != e {
		hole = (hole + 1) & wrap
	}
	for i := (hole + 1) & wrap; uint32(t.slots[i]) != 0; i = (i + 1) & wrap {
		home := t.home(uint32(t.slots[i] >> 32))
		if (i-home)&wrap >= (i-hole)&wrap { // the hole lies between its home and where it stands
			t.slots[hole] = t.slots[i]
			hole = i
		}
	}
	t.slots[hole] = 0
}

// touch notes that a failure of e arrived.
func (t *table) touch(e uint32, touched int64) {
	if t.last == e {
		t.entries[e].touched = touched
		return
	}
	t.unlink(e)
	t.link(e, touched)
}

func (t *table) link(e uint32, touched int64) {
	x := &t.entries[e]
	x.touched, x.newer, x.older = touched, 0, t.last
	if t.last != 0 {
		t.entries[t.last].newer = e
	} else {
		t.first = e
	}
	t.last = e
}

func (t *table) unlink(e uint32) {
	x := &t.entries[e]
	if x.newer != 0 {
		t.entries[x.newer].older = x.older
	} else {
		t.last = x.older
	}
	if x.older != 0 {
		t.entries[x.older].newer = x.newer
	} else {
		t.first = x.newer
	}
}

// insert adds a failure to e at its place in time; of two at the same time the one that arrived later counts as newer.
func (t *table) insert(e uint32, f node) {
	n := t.freeNode
	if n == 0 {
		n = uint32(len(t.nodes))
		t.nodes = append(t.nodes, node{})
	} else {
		t.freeNode = t.nodes[n].next
	}
	at := &t.entries[e].failure
	for *at != 0 && t.nodes[*at].at > f.at {
		at = &t.nodes[*at].next
	}
	f.next = *at
	*at = n
	t.nodes[n] = f
	t.entries[e].n++
	t.failures++
}

// cut forgets the failures of e behind its failure n.
func (t *table) cut(e, n uint32) {
	for m := t.nodes[n].next; m != 0; {
		m = t.release(e, m)
	}
	t.nodes[n].next = 0
}

// filter forgets the failures of e that keep does not want.
func (t *table) filter(e uint32, keep func(node) bool) {
	at := &t.entries[e].failure
	for *at != 0 {
		if keep(t.nodes[*at]) {
			at = &t.nodes[*at].next
		} else {
			*at = t.release(e, *at)
		}
	}
}

// release gives a node back and returns the one behind it.
func (t *table) release(e, n uint32) (next uint32) {
	next = t.nodes[n].next
	t.nodes[n] = node{next: t.freeNode}
	t.freeNode = n
	t.entries[e].n--
	t.failures--
	return next
}
