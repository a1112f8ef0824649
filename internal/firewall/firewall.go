// Package firewall makes the kernel drop the packets of the banned.
//
// It owns the nftables table "inet tocsin" and nothing else of the firewall: it never reads or changes what others made.
// It decides nothing: who is banned, and for how long, comes in as tocsin.Decision.
//
// The one thing to know: the truth is the wanted state in memory, keyed by (jail, id); the kernel's table is made equal
// to it in transactions, and can at any time be made anew from it. The kernel holds the timers: every element carries its
// timeout, so bans end even if the program is gone.
//
// The table as an admin sees it:
//
//	chain ports          prerouting, priority raw (-300): before conntrack, so a flood costs no entry, and before DNAT,
//	                     so a container's published port is seen as the client asked for it
//	    tcp dport @ports_22_2200_dport jump ports_22_2200
//	chain all            prerouting, priority mangle (-150): behind conntrack, made with the first ban of all ports
//	    ct direction original jump all_ports
//	    ct state invalid,untracked jump all_ports
//	chain ports_22_2200  a group: what is banned from the same ports with the same verdict
//	    ip saddr @ports_22_2200_v4 goto banned_drop           single addresses: hash sets
//	    ip6 saddr @ports_22_2200_v6 goto banned_drop
//	    ip6 saddr & ffff:ffff:ffff:ffff:: @ports_22_2200_v6_64 goto banned_drop
//	    ip saddr @ports_22_2200_v4_net goto banned_drop       other prefixes: small interval sets, replaced whole
//	    ip6 saddr @ports_22_2200_v6_net goto banned_drop
//	chain list_abuseipdb_all   one for each list: prerouting, as "all"; with ports list_abuseipdb_ports, as "ports"
//	    ct direction original jump list_abuseipdb
//	    ct state invalid,untracked jump list_abuseipdb
//	chain list_abuseipdb
//	    ip saddr @list_abuseipdb_7_v4 goto list_abuseipdb_drop   the sets of this list's seventh edition
//	chain list_abuseipdb_drop  as banned_drop, with a counter of its own
//	chain banned_drop    asked only by packets of the banned
//	    ip saddr @allow_v4 return
//	    ip6 saddr @allow_v6 return
//	    icmpv6 type 135, 136 return                           neighbour discovery
//	    fib daddr type != local return
//	    counter drop
//
// Packets of the banned are dropped whatever the state of their connections. Answers to our own connections do not match
// in "ports", because their destination is an ephemeral port, and pass in "all", because their direction is reply. A
// local port that the kernel chooses for an outgoing connection is never one that a daemon has bound, so it equals a
// protected port only while nobody listens there; the answers of a banned peer to that one connection are then dropped.
//
// The transactions are encoded here, over one lasting socket. github.com/google/nftables serves for the expressions of
// rules only: its element lists overflow silently, it wants an acknowledgement for each message, and its dumps take 66 s
// for 500,000 elements.
package firewall

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"tocsin"
)

// Options are the settings of a firewall.
type Options struct {
	Table        string       // default "tocsin"
	NetNS        int          // descriptor of a network namespace; 0: the own one
	RoutedGuests bool         // also protects what is routed through this host; default: only the host's own addresses
	Log          *slog.Logger // default: nothing is logged
}

func (o *Options) fill() error {
	if o.Table == "" {
		o.Table = "tocsin"
	}
	if len(o.Table) > maxName {
		return fmt.Errorf("the table's name %q is longer than %d bytes", o.Table, maxName)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	return nil
}

// ErrOff says that the table does not stand, so nobody was banned: Restore was not called, or Clear was, or the table
// vanished and nobody wanted it back. The next Restore is told everything that is to hold.
var ErrOff = errors.New("the firewall is off")

// ErrFull says that a ban was refused because a million are in force, or a list because of the bounds of all lists.
var ErrFull = errors.New("the firewall is full")

// Firewall is our table in the kernel. Its methods may be called from several goroutines.
type Firewall struct {
	o Options

	swapping sync.Mutex // held while a list is set or dropped; locked before mu

	mu       sync.Mutex // guards what follows
	sock     *socket
	batch    *batch
	want     wanted
	standing bool // our table should be in the kernel
	made     bool // it was, since Restore
	stale    bool // a transaction failed, so the kernel differs from what is wanted
	noReject bool
	shape    string            // of our table as we made it, see shape.go
	adopted  []tocsin.Decision // by restore, not handed over yet
	stats    Stats
	monitor  *monitor // of the running Watch, nil without one

	stirred chan struct{} // wakes Watch after a failure; holds one
}

// Open makes a lasting connection to the kernel's nf_tables. It changes no rules.
//
// It fails if nf_tables cannot be used, for the reasons that Available gives.
func Open(o Options) (*Firewall, error) {
	if err := o.fill(); err != nil {
		return nil, fmt.Errorf("open the firewall: %w", err)
	}
	s, err := dial(o.NetNS)
	if err != nil {
		return nil, fmt.Errorf("open the firewall: %w", explain(err))
	}
	if err := probe(s, false); err != nil {
		s.close()
		return nil, fmt.Errorf("open the firewall: %w", err)
	}
	return &Firewall{
		o:        o,
		sock:     s,
		batch:    newBatch(o.Table),
		want:     newWanted(),
		noReject: probe(s, true) != nil,
		stirred:  make(chan struct{}, 1),
	}, nil
}

// Close gives the connection back. The table stays, and its bans end by themselves; see Clear.
func (f *Firewall) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sock.close()
}

// Restore makes the kernel equal to bans, allow and the lists, in one transaction. Bans and the allow list that were wanted
// before are forgotten; lists are not, see SetList.
//
// Elements that the kernel still holds and bans does not know (the store was lost, or had no time to write) are kept and
// returned, with the jails that their comments name and the Reason "found in the kernel". An element in its last second is
// not: that second is only the rounding of its timeout.
//
// If Restore fails, the kernel is as it was, and the next Sync or Watch tries again; what they adopt is told by Adopted.
func (f *Firewall) Restore(bans []tocsin.Decision, allow []netip.Prefix, now time.Time) (adopted []tocsin.Decision, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.want.replace(bans, allow, now)
	f.standing, f.made, f.adopted = true, false, nil
	if err := f.restore(now); err != nil {
		return nil, err
	}
	return f.handOver(), nil
}

// Adopted returns the bans that Sync and Watch found in the kernel after a Restore that failed, as far as they still hold,
// each of them once. Restore returns its own. While there are none it costs nothing, so it may be called every second.
func (f *Firewall) Adopted() []tocsin.Decision {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.handOver()
}

// handOver forgets what was adopted and returns what of it still holds: some may have been lifted, or banned anew, or
// found no room.
func (f *Firewall) handOver() []tocsin.Decision {
	ds := slices.DeleteFunc(f.adopted, func(d tocsin.Decision) bool { return !f.want.holds(&d) })
	f.adopted = nil
	f.stats.Adopted += uint64(len(ds))
	return ds
}

// restore adopts what only the kernel knows and makes the table.
func (f *Firewall) restore(now time.Time) error {
	held, err := f.sock.list(f.o.Table, now)
	if err != nil {
		return f.failed("list the table", err)
	}
	held = slices.DeleteFunc(held, func(d tocsin.Decision) bool { return f.want.covers(&d) })
	for i := range held {
		f.want.ban(&held[i], now)
	}
	f.adopted = append(f.adopted, held...)
	return f.install(now)
}

// install makes the table anew from what is wanted: in one transaction, unless the lists are too large for it, as in a
// guest that may not enlarge its buffers, or are what the kernel refuses, for lack of memory above all. Then the bans come
// first, and each list by itself: nobody who is banned is let in for the sake of a list.
func (f *Firewall) install(now time.Time) error {
	f.count()
	whole := f.fits()
	err := f.makeTable(now, whole)
	if err != nil && whole && len(f.want.lists) > 0 {
		whole = false
		err = f.makeTable(now, whole)
	}
	if err != nil {
		return err
	}
	f.want.beginCounters()
	f.stale, f.made = false, true
	f.stats.Restores++
	if err := f.remember(); err != nil {
		return err
	}
	if whole {
		f.want.allListsIn()
		return nil
	}
	return f.addLists()
}

func (f *Firewall) makeTable(now time.Time, withLists bool) error {
	r := f.begin()
	r.everything(&f.want, now)
	if withLists {
		r.lists(&f.want)
	}
	return f.commitUnheard("make the table")
}

// begin starts a transaction.
func (f *Firewall) begin() ruleset {
	f.batch.reset()
	return ruleset{batch: f.batch, routed: f.o.RoutedGuests, noReject: f.noReject}
}

// commit sends the transaction that begin started.
func (f *Firewall) commit(what string) error {
	if f.batch.empty() {
		return nil
	}
	err := f.sock.commit(f.batch)
	f.batch.reset()
	if err != nil {
		return f.failed(what, err)
	}
	return nil
}

// commitUnheard is commit for a transaction of very many elements. While anybody listens the kernel writes an event for
// each of them, with a page of memory, before it sends any: 500,000 elements then take 4.2 s instead of 0.3 s. So our own
// monitor stops its ears meanwhile. Nobody else can change the rules during a transaction, but just before and after it,
// so Watch looks at the table afterwards.
func (f *Firewall) commitUnheard(what string) error {
	if f.monitor == nil || len(f.batch.buf) < unheardSize {
		return f.commit(what)
	}
	f.monitor.pause()
	defer f.monitor.resume()
	defer signal(f.stirred)
	return f.commit(what)
}

// unheardSize is how large a transaction is, in bytes, of which it is worth not to hear.
const unheardSize = 64 << 10

// failed counts an error and wakes Watch, which looks whether the table is still there.
func (f *Firewall) failed(what string, err error) error {
	f.stale = true
	f.stats.Errors++
	err = fmt.Errorf("%s inet %s: %w", what, f.o.Table, err)
	f.stats.LastError = err.Error()
	signal(f.stirred)
	return err
}

// Ban puts bans in force, all of them in one transaction. A ban that holds already gets the new end, ports and verdict.
// Decisions whose id is no address, or whose verdict is Pass, are none of the firewall's business and are skipped.
//
// On an error the bans are remembered, and done by the next Sync or Watch. It returns ErrOff if the table does not stand,
// and ErrFull if some were refused; those that found room are in force then.
func (f *Firewall) Ban(ds ...tocsin.Decision) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	now, refused := time.Now(), f.want.refused
	c := f.change(now)
	for i := range ds {
		held, before := f.want.ban(&ds[i], now)
		c.touch(before)
		c.touch(held)
	}
	if err := c.commit("ban in"); err != nil {
		return err
	}
	if n := f.want.refused - refused; n > 0 {
		return fmt.Errorf("ban in inet %s: %d of %d refused: %w", f.o.Table, n, len(ds), ErrFull)
	}
	return nil
}

// Unban lifts the bans with the keys (Jail, ID) of ds; nothing else of them matters. An element stays in the kernel while
// another ban holds it. Lifting a ban that is unknown or over is no error.
func (f *Firewall) Unban(ds ...tocsin.Decision) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.change(time.Now())
	for i := range ds {
		c.touch(f.want.unban(owner{ds[i].Jail, ds[i].ID}))
	}
	return c.commit("unban in")
}

// change is a transaction about bans.
type change struct {
	f      *Firewall
	r      ruleset
	now    time.Time
	places map[place]bool
	grew   bool // a group was added
}

func (f *Firewall) change(now time.Time) *change {
	return &change{f: f, r: f.begin(), now: now, places: map[place]bool{}}
}

// touch marks a target as changed.
func (c *change) touch(t *target) {
	if t == nil || !c.f.standing {
		return
	}
	if !t.group.built {
		c.r.group(t.group)
		t.group.built, c.grew = true, true
	}
	p := place{t.group, t.kind, t.prefix}
	if !t.kind.hash() {
		p.prefix = netip.Prefix{}
	}
	c.places[p] = true
}

func (c *change) commit(what string) error {
	if !c.f.standing {
		return ErrOff
	}
	c.r.update(c.places, c.now)
	if err := c.f.commit(what); err != nil {
		return err
	}
	if c.grew {
		return c.f.remember()
	}
	return nil
}

// SetAllow replaces the allow list. Its prefixes may overlap.
func (f *Firewall) SetAllow(ps []netip.Prefix) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.want.allow = slices.Clone(ps)
	if !f.standing {
		return ErrOff
	}
	r := f.begin()
	for _, set := range allowSets {
		r.flush(set)
	}
	r.allowed(ps)
	return f.commit("set the allow list of")
}

// Clear removes the table and forgets all bans. Until the next Restore, which brings the lists back, the firewall is off.
func (f *Firewall) Clear() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.count()
	f.want.replace(nil, nil, time.Time{})
	f.standing, f.stale, f.adopted = false, false, nil
	r := f.begin()
	r.remove()
	if err := f.commit("remove the table"); err != nil {
		return err
	}
	f.want.beginCounters()
	return nil
}

// Remove removes the table without any state: the emergency exit, when no program is running. That there is no table is no
// error.
func Remove(o Options) error {
	if err := o.fill(); err != nil {
		return fmt.Errorf("remove the firewall: %w", err)
	}
	s, err := dial(o.NetNS)
	if err != nil {
		return fmt.Errorf("remove the firewall: %w", explain(err))
	}
	defer s.close()
	r := ruleset{batch: newBatch(o.Table)}
	r.remove()
	if err := s.commit(r.batch); err != nil {
		return fmt.Errorf("remove the table inet %s: %w", o.Table, explain(err))
	}
	return nil
}

// remove deletes the table, which is added first in case there is none.
func (r ruleset) remove() {
	r.addTable("")
	r.delTable()
}

// Sync forgets what was over before now, and makes the table anew if a transaction failed. It does not bring back a table
// that has vanished: that may be the will of an operator, so Watch asks first. While there is nothing to do it costs
// nothing, so it may be called every second.
func (f *Firewall) Sync(now time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.want.expire(now.Add(-rounding))
	if !f.standing || !f.stale {
		return nil
	}
	if !f.made {
		return f.remake(now)
	}
	there, err := f.sock.hasTable(f.o.Table)
	if err != nil {
		return f.failed("look for the table", err)
	}
	if !there {
		return f.failed("repair the table", syscall.Errno(unix.ENOENT))
	}
	return f.remake(now)
}

// remake makes the table again, or for the first time if Restore failed.
func (f *Firewall) remake(now time.Time) error {
	if f.made {
		return f.install(now)
	}
	return f.restore(now)
}

// rounding is how much longer than wanted the kernel may keep an element. So long it is not forgotten, so that a ban that
// is lifted in its last second is lifted.
const rounding = 2 * time.Second

// Stats is what the firewall holds and what befell it.
type Stats struct {
	Standing     bool           // the table is in the kernel, or should be
	Wanted       int            // bans in force, by (jail, id)
	Elements     map[string]int // wanted elements by set; in interval sets, ranges
	Allowed      int            // prefixes of the allow list, as given
	Adopted      uint64         // bans that only the kernel knew
	Restores     uint64         // how often the whole table was made
	Repairs      uint64         // of those, because others had changed it
	Refused      uint64         // bans for which there was no room
	Errors       uint64         // transactions and lists that failed
	LastError    string         // why the kernel is not as wanted, "" once that was mended
	Lists        map[string]ListStats
	RejectAsDrop bool // this kernel cannot reject before routing, so a reject is carried out as a drop
}

// Standing says whether the table is in the kernel, or should be. It costs nothing.
func (f *Firewall) Standing() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.standing
}

// Stats tells how the firewall is. If there are lists it asks the kernel for their counters.
func (f *Firewall) Stats() Stats {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.stats
	s.Standing, s.RejectAsDrop = f.standing, f.noReject
	if !f.stale {
		s.LastError = ""
	}
	f.count()
	f.want.describe(&s)
	return s
}

func (w *wanted) describe(s *Stats) {
	s.Wanted, s.Allowed, s.Refused = len(w.bans), len(w.allow), w.refused
	s.Elements = map[string]int{}
	for _, g := range w.groups {
		for k := range net4 {
			s.Elements[g.sets[k]] = len(g.targets[k])
		}
		for k := net4; k < kinds; k++ {
			s.Elements[g.sets[k]] = len(g.spans(k))
		}
	}
	s.Lists = map[string]ListStats{}
	for _, l := range w.lists {
		n := l.before.plus(l.seen)
		s.Lists[l.name] = ListStats{Entries: l.entries(), Packets: n.packets, Bytes: n.bytes, Since: l.since}
		if l.refused != nil {
			st := s.Lists[l.name]
			st.Problem = l.refused.Error()
			s.Lists[l.name] = st
		}
	}
}
