// Package jail counts failures and decides bans.
//
// It is a pure function of what it is given: no clock, no I/O, no goroutine, no lock. Time is the time in the log line,
// so replaying a log gives the same bans. One goroutine owns a Jail. Carrying a decision out, keeping it, and the allow
// list are other rooms' work.
//
// The one thing to know is the window. A failure at t bans when it lies, with enough others, within one findtime: when
// some time span of that length, both ends included, holds t and at least maxretry failures of the address. Lines may
// arrive in any order as long as none is more than one findtime older than the newest line before it; the answer is then
// the same as if everything ever seen had been kept. Older lines still count where they can, and never twice.
package jail

import (
	"hash/maphash"
	"net/netip"
	"time"

	"tocsin"
)

// Jail is one jail's count of failures, and what it remembers about bans and logins.
type Jail struct {
	o        Options
	findTime int64 // microseconds, as all times inside
	knownFor int64
	patient  int // how many failures ban somebody known
	least    int // failures below which nobody is banned
	most     int // failures kept of one address
	seeds    [2]maphash.Seed
	table    table
	lines    lines
	newest   int64 // the newest time that the log named so far
	bans     bans
	nets     memory[block, []banned]
	known    memory[key, int64]
	sessions sessions
	run      []uint32 // filled by gather: failures of one address, newest first
	stats    Stats
}

// Stats are the jail's counters and sizes.
type Stats struct {
	Addresses       int    // addresses that have failures now
	Failures        int    // failures kept now
	Known           int    // addresses whose last login is remembered
	Sessions        int    // sessions that are open as far as the jail was told
	BansRemembered  int    // bans remembered, running or over
	EvidenceBytes   int    // memory taken by lines not yet part of a ban
	Counted         uint64 // failures given to the jail
	Late            uint64 // of these: of an address whose ban was running, or before it was lifted
	Bans            uint64 // bans decided
	SubnetBans      uint64 // of these: bans of a whole /24 or /48
	Evicted         uint64 // addresses forgotten for lack of room (max_addresses), oldest first
	FailuresEvicted uint64 // failures of one address forgotten because it had too many at odd times
	EvidenceEvicted uint64 // failures whose line was forgotten for lack of room
	MemoryEvicted   uint64 // bans, logins and sessions forgotten for lack of room
}

// New makes a jail. The error names every setting out of bounds.
func New(o Options) (*Jail, error) {
	o, err := o.checked()
	if err != nil {
		return nil, err
	}
	j := &Jail{
		o:        o,
		findTime: o.FindTime.Microseconds(),
		knownFor: o.KnownFor.Microseconds(),
		patient:  o.MaxRetry * o.KnownFactor,
		seeds:    [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()},
		lines:    newLines(o.EvidenceBytes, o.EvidenceLineBytes),
		newest:   -farthest,
		bans:     newBans(o.MaxAddresses),
		nets:     newMemory[block](o.MaxAddresses, lastBanned),
		known:    newMemory[key](o.MaxAddresses, func(at int64) int64 { return at }),
		sessions: newSessions(o.MaxAddresses),
	}
	// Somebody not banned has fewer than patient failures in any span of one findtime, and the window needs three of
	// them: two behind the line at hand and one before it, for lines out of order.
	j.most = 3 * j.patient
	j.least = o.MaxRetry
	if o.Weigh {
		j.least = 1
	}
	j.table = newTable(j.seeds[0])
	return j, nil
}

// Failure counts f and appends the decisions that follow to dst: none, a ban, or a ban and that of its subnet.
//
// A ban begins at the newest of the failures it rests on, which is f unless lines come out of order; its trigger is f's
// line. Ports is shared by all decisions of the jail, nobody may change it. A failure of somebody whose ban is running
// counts as late and nothing else. Failure keeps no reference to f; it allocates only when it bans or a table grows.
func (j *Jail) Failure(dst []tocsin.Decision, f *tocsin.Failure) []tocsin.Decision {
	j.stats.Counted++
	at := micros(f.At)
	j.newest = max(j.newest, at)
	j.sweep()
	k := j.key(f)
	if j.late(k, at) {
		j.stats.Late++
		return dst
	}
	e, tag := j.table.find(k)
	if e == 0 {
		if j.table.used >= j.o.MaxAddresses {
			j.evict()
		}
		e = j.table.add(k, tag, j.newest)
	} else {
		j.table.touch(e, j.newest)
	}
	if j.table.failures >= maxFailures*j.o.MaxAddresses && j.table.first != e {
		j.evict()
	}
	var ref uint64
	if !j.o.Bare {
		ref = j.lines.add(f)
	}
	j.table.insert(e, node{at: at, ref: ref, user: j.user(f.User)})
	if int(j.table.entries[e].n) < j.least {
		return dst
	}
	kept := j.gather(e, at)
	w := j.fullest(k, at)
	if w.n >= w.limit {
		return j.ban(dst, f, k, e, w)
	}
	j.table.cut(e, kept)
	if int(j.table.entries[e].n) > j.most {
		j.thin(e, at)
	}
	return dst
}

// maxFailures is how many failures are kept an address, on average over MaxAddresses.
const maxFailures = 8

// sweep forgets at most two addresses whose failures can be part of no window any more: the log has gone on by two
// findtimes since they were last heard of, and no line in order comes from before one findtime ago. Each failure adds
// one address at most, so sweeping keeps up, and costs the same each time.
func (j *Jail) sweep() {
	for range 2 {
		e := j.table.first
		if e == 0 || j.newest-j.table.entries[e].touched <= 2*j.findTime {
			return
		}
		j.table.remove(e)
	}
}

func (j *Jail) evict() {
	j.table.remove(j.table.first)
	j.stats.Evicted++
}

// thin forgets the failure of e that lies farthest from at. Only a log whose clock jumps about gathers so many.
func (j *Jail) thin(e uint32, at int64) {
	x := &j.table.entries[e]
	head := x.failure
	oldest := j.table.nodes[head]
	for oldest.next != 0 {
		oldest = j.table.nodes[oldest.next]
	}
	drop := oldest.at
	if j.table.nodes[head].at-at > at-oldest.at {
		drop = j.table.nodes[head].at
	}
	dropped := false
	j.table.filter(e, func(n node) bool {
		if dropped || n.at != drop {
			return true
		}
		dropped = true
		return false
	})
	j.stats.FailuresEvicted++
}

// window is a span of time of one findtime, both ends included, and what it holds of one address.
type window struct {
	newest, oldest int // its failures, as indexes into Jail.run
	n              int // how many: oldest-newest+1
	limit          int // how many ban
	patience       Patience
}

// fullest looks at every window that contains at and returns the one with the fewest failures missing to its limit, the
// newest of equals. The failures are those that gather found. A window worth looking at ends at one of them, or at at.
func (j *Jail) fullest(k key, at int64) window {
	best, end := window{}, 0
	for i := range len(j.run) + 1 {
		to := at // the end of the window
		if i < len(j.run) {
			to = max(to, j.at(i))
		}
		for end < len(j.run) && j.at(end) >= to-j.findTime {
			end++
		}
		w := window{newest: i, oldest: end - 1, n: end - i}
		first := to
		if w.n > 0 {
			first = j.at(w.oldest)
		}
		w.limit, w.patience = j.limit(k, first, at)
		if i == 0 || w.n-w.limit > best.n-best.limit {
			best = w
		}
		if to == at {
			return best
		}
	}
	return best
}

// gather fills run with the failures of e that can share a window with at, newest first. It returns the oldest failure
// that may still matter: those behind it are more than two findtimes older than at.
func (j *Jail) gather(e uint32, at int64) (kept uint32) {
	j.run = j.run[:0]
	for n := j.table.entries[e].failure; n != 0; n = j.table.nodes[n].next {
		d := j.table.nodes[n].at - at
		if d < -2*j.findTime {
			break
		}
		if -j.findTime <= d && d <= j.findTime {
			j.run = append(j.run, n)
		}
		kept = n
	}
	return kept
}

func (j *Jail) at(i int) int64 { return j.table.nodes[j.run[i]].at }

// key says for whom f counts.
func (j *Jail) key(f *tocsin.Failure) key {
	if f.Prefix.IsValid() {
		return j.addr(f.Prefix.Addr())
	}
	return j.idKey(f.ID)
}

// idKey is the key of an id that is no address.
func (j *Jail) idKey(id string) key {
	return key{noIP | maphash.String(j.seeds[0], id)>>16, maphash.String(j.seeds[1], id)}
}

func (j *Jail) addr(a netip.Addr) key {
	a = a.Unmap()
	k := addrKey(a)
	if a.Is6() {
		k = k.mask(j.o.IPv6Prefix)
	}
	return k
}

// prefix is what a ban of f covers: zero if its id is no address, all of a network that the filter found.
func (j *Jail) prefix(f *tocsin.Failure) netip.Prefix {
	if !f.Prefix.IsValid() {
		return netip.Prefix{}
	}
	p := unmapped(f.Prefix)
	if p.Addr().Is6() {
		p = netip.PrefixFrom(p.Addr(), min(j.o.IPv6Prefix, p.Bits()))
	}
	return p.Masked()
}

// user hashes a user name to 32 bits. Two names of one address that collide, one chance in four thousand million and
// not to be chosen, would be cleared by one login.
func (j *Jail) user(name string) uint32 {
	if name == "" {
		return 0
	}
	return uint32(maphash.String(j.seeds[0], name)) | 1
}

// Weight says how much f counts, and because of how many remembered bans. It changes nothing.
func (j *Jail) Weight(f *tocsin.Failure) (weight, former int) {
	k := j.key(f)
	former = j.former(block{k, j.bits(k)}, micros(f.At))
	return j.o.weight(former), former
}

// Stats returns the counters.
func (j *Jail) Stats() Stats {
	s := j.stats
	s.Addresses, s.Failures = j.table.used, j.table.failures
	s.Known, s.Sessions = len(j.known.m), j.sessions.n
	s.BansRemembered = len(j.bans.m)
	s.EvidenceBytes, s.EvidenceEvicted = len(j.lines.chunks)*chunkSize, j.lines.evicted
	s.MemoryEvicted = j.bans.evicted + j.nets.evicted + j.known.evicted + j.sessions.evicted
	return s
}

// span is how long that many microseconds are.
func span(us int64) time.Duration { return time.Duration(min(us, farthest/1000)) * time.Microsecond }
