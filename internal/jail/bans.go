package jail

import (
	"math"
	"net/netip"
	"slices"
	"time"

	"tocsin"
)

const (
	forEver   = math.MaxInt64
	maxFormer = 64 // bans counted of one address for the growth of the next
)

// ban is the last ban of a block, running or over.
type ban struct {
	at, until int64
	starts    []int64 // the beginnings of this and former bans that make the next one longer, ascending; empty where bans do not grow
}

// bans remembers bans by what they cover. Only a few lengths of prefix are in use, so a look-up is one a length.
type bans struct {
	memory[block, ban]
	lengths []uint64
}

// banned is one address banned in a subnet.
type banned struct {
	key key
	at  int64
}

func newBans(limit int) bans {
	return bans{memory: newMemory[block](limit, ban.when)}
}

// when is the last time at which the ban mattered.
func (b ban) when() int64 {
	if n := len(b.starts); n > 0 {
		return max(b.until, b.starts[n-1])
	}
	return b.until
}

func (b *bans) put(k block, v ban) {
	if b.memory.put(k, v) {
		b.lengths = b.lengths[:0]
		for k := range b.m {
			b.note(k.bits)
		}
		return
	}
	b.note(k.bits)
}

func (b *bans) note(bits uint64) {
	if !slices.Contains(b.lengths, bits) {
		b.lengths = append(b.lengths, bits)
	}
}

func lastBanned(l []banned) int64 { return l[len(l)-1].at }

// late says whether a failure of k at that time belongs to a ban that was taken already: before the ban ended, but no
// more than one findtime before it began. A time still earlier means that the log's clock was set back, and an attacker
// must not have peace until it has caught up.
func (j *Jail) late(k key, at int64) bool {
	_, _, ok := j.running(k, at)
	return ok
}

func (j *Jail) running(k key, at int64) (block, ban, bool) {
	for _, bits := range j.bans.lengths {
		if bits < 96 && k.isIPv4() || bits < 128 && k.isID() {
			continue // a prefix of IPv6
		}
		on := block{k.mask(int(bits)), bits}
		if b, ok := j.bans.m[on]; ok && b.at-j.findTime <= at && at < b.until {
			return on, b, true
		}
	}
	return block{}, ban{}, false
}

// ban turns the failures of a window into a decision and forgets them.
func (j *Jail) ban(dst []tocsin.Decision, f *tocsin.Failure, k key, e uint32, w window) []tocsin.Decision {
	at := j.at(w.newest)
	on := block{k, 128}
	prefix := j.prefix(f)
	if prefix.IsValid() {
		on = prefixBlock(prefix)
	}
	id := f.ID
	if prefix.IsValid() {
		id = tocsin.PrefixString(prefix)
	}
	d := j.decision(on, id, at)
	d.Prefix = prefix
	d.Failures = w.n
	if !j.o.Bare {
		d.Evidence = j.evidence(w)
		d.Trigger = tocsin.Line{Source: f.Line.Source, Pos: f.Line.Pos, At: f.Line.At}
		d.Reason = j.reason(w) + j.growth(&d)
		d.Fields = fields(f)
	}
	j.table.remove(e)
	j.remember(on, &d, true)
	j.stats.Bans++
	dst = append(dst, d)
	if net, ok := j.subnet(on, at); ok {
		dst = append(dst, j.banSubnet(&d, net, at))
	}
	return dst
}

// decision is a ban of on, called id, without what it rests on.
func (j *Jail) decision(on block, id string, at int64) tocsin.Decision {
	d := tocsin.Decision{
		Jail:    j.o.Name,
		ID:      id,
		Verdict: j.o.Verdict,
		Ports:   j.o.Ports,
		Proto:   j.o.Proto,
		Action:  tocsin.Ban,
		Origin:  tocsin.ByJail,
		At:      fromMicros(at),
		Former:  j.former(on, at),
	}
	t := j.o.banTime(d.Former)
	if t > 0 && d.Former > 0 {
		t += j.o.jitter(id, at)
	}
	if t > 0 {
		d.Until = d.At.Add(t)
	}
	return d
}

// fields are what a failure tells beside its id, the user's name first.
func fields(f *tocsin.Failure) []tocsin.Field {
	if f.User == "" {
		return slices.Clone(f.Fields)
	}
	return append([]tocsin.Field{{Name: "user", Value: f.User}}, f.Fields...)
}

// evidence collects the lines of a window, oldest first: the newest EvidenceLines of them, each once.
func (j *Jail) evidence(w window) []tocsin.Evidence {
	var all []tocsin.Evidence
	for i := w.oldest; i >= w.newest; i-- {
		all, _ = j.lines.get(all, j.table.nodes[j.run[i]].ref)
	}
	type place struct {
		source string
		pos    tocsin.Position
	}
	seen := make(map[place]bool, len(all))
	all = slices.DeleteFunc(all, func(e tocsin.Evidence) bool { // failures of one session share their context
		p := place{e.Source, e.Pos}
		again := seen[p] && e.Pos != tocsin.Position{}
		seen[p] = true
		return again
	})
	return slices.Clone(all[max(0, len(all)-j.o.EvidenceLines):])
}

// growing says whether former bans matter: they make bans longer, or failures heavier.
func (j *Jail) growing() bool {
	grows := j.o.BanFactor > 1 && j.o.BanTime > 0
	return j.o.BanMemory > 0 && (grows || len(j.o.BanTimes) > 1 || j.o.BanJitter > 0 || j.o.Weigh)
}

// former counts the bans of on that are remembered at that time.
func (j *Jail) former(on block, at int64) int {
	n := 0
	for _, start := range j.bans.m[on].starts {
		if start >= at-j.o.BanMemory.Microseconds() {
			n++
		}
	}
	return n
}

// remember notes a ban. Noting the same ban twice changes nothing.
func (j *Jail) remember(on block, d *tocsin.Decision, mine bool) {
	old, again := j.bans.m[on]
	b := ban{at: micros(d.At), until: forEver, starts: old.starts}
	if !d.Until.IsZero() {
		b.until = micros(d.Until)
	}
	if mine && j.growing() {
		b.started(b.at)
	}
	if again && old.at > b.at { // an older ban told later says nothing about now
		b.at, b.until = old.at, old.until
	}
	j.bans.put(on, b)
}

// started notes the beginning of a ban.
func (b *ban) started(at int64) {
	if i, found := slices.BinarySearch(b.starts, at); !found {
		b.starts = slices.Insert(slices.Clone(b.starts), i, at)
		b.starts = b.starts[max(0, len(b.starts)-maxFormer):]
	}
}

// Elsewhere tells the jail of a ban that another jail took. It makes the next ban of the same id longer where Overall is
// set, and changes nothing otherwise: the id is not banned here.
func (j *Jail) Elsewhere(d *tocsin.Decision) {
	if d.Action != tocsin.Ban || !j.o.Overall || !j.growing() {
		return
	}
	on := j.block(d.Prefix, d.ID)
	if on.bits < j.bits(on.key) {
		return // of many, not of this one
	}
	b, known := j.bans.m[on]
	if !known {
		b.at, b.until = -farthest, -farthest // it runs at no time
	}
	b.started(micros(d.At))
	j.bans.put(on, b)
}

// block is what a ban of a prefix, or of an id that is no address, covers here: no less than what failures are counted by.
func (j *Jail) block(p netip.Prefix, id string) block {
	if !p.IsValid() {
		return block{j.idKey(id), 128}
	}
	on := prefixBlock(unmapped(p))
	if width := j.bits(on.key); on.bits > width {
		on = block{on.mask(int(width)), width}
	}
	return on
}

// Banned tells the jail of a ban it did not just decide: one from the store, an operator's, the fleet's. While it runs its
// addresses are not banned again. If the jail itself took it once, it counts for the growth of later bans and for the
// subnet rule. Decisions that are no ban change nothing.
func (j *Jail) Banned(d *tocsin.Decision) {
	if d.Action != tocsin.Ban {
		return
	}
	on := block{j.idKey(d.ID), 128}
	if d.Prefix.IsValid() {
		on = prefixBlock(unmapped(d.Prefix))
	}
	mine := d.Origin == tocsin.ByJail && d.Jail == j.o.Name
	j.remember(on, d, mine)
	if e, _ := j.table.find(on.key); e != 0 && on.bits >= j.bits(on.key) && d.InForce(fromMicros(j.table.entries[e].touched)) {
		j.table.remove(e)
	}
	if mine {
		j.subnet(on, micros(d.At)) // what it says was said when the ban was new
	}
}

// bits is the length by which k is counted.
func (j *Jail) bits(k key) uint64 {
	if k.isIPv4() || k.isID() {
		return 128
	}
	return uint64(j.o.IPv6Prefix)
}

// Lift forgets the failures of everybody in p, and that they are banned. Failures from before at that arrive later do not
// count any more. Former bans stay remembered, and a ban wider than p goes on.
func (j *Jail) Lift(p netip.Prefix, at time.Time) {
	if !p.IsValid() {
		return
	}
	on, end := j.block(p, ""), micros(at)
	if on.bits == j.bits(on.key) {
		j.liftOne(on, end)
		return
	}
	for k := range j.bans.m {
		if k.bits >= on.bits && on.contains(k.key) {
			j.lift(k, end)
		}
	}
	for e := j.table.first; e != 0; {
		newer := j.table.entries[e].newer
		if k := j.table.entries[e].key; on.contains(k) {
			j.table.remove(e)
			j.lift(block{k, j.bits(k)}, end)
		}
		e = newer
	}
	delete(j.nets.m, on)
}

// LiftID is Lift for an id that is no address.
func (j *Jail) LiftID(id string, at time.Time) { j.liftOne(block{j.idKey(id), 128}, micros(at)) }

// liftOne forgets the failures of one key, and lifts its ban.
func (j *Jail) liftOne(on block, at int64) {
	if e, _ := j.table.find(on.key); e != 0 {
		j.table.remove(e)
	}
	j.lift(on, at)
}

// lift ends the ban of on at that time. Somebody not banned gets a ban of no length, so that lines of before are late.
func (j *Jail) lift(on block, at int64) {
	b, ok := j.bans.m[on]
	if !ok || b.until <= at {
		b.at = at
	}
	b.until = at
	j.bans.put(on, b)
}

func unmapped(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p
}
