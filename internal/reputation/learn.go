package reputation

import (
	"cmp"
	"maps"
	"slices"
)

// What a reporter earns, in thousandths.
const (
	goodPoint       = 1_000
	canaryFirst     = 2_000
	canaryPenalty   = 20_000
	appealPenalty   = 10_000
	neverPenalty    = 2_000
	honestPenalty   = 500
	sponsorShare    = 30 // percent of a penalty
	learnDays       = 3
	corroborated    = One * 14 / 10
	corroborateMost = 5 // good points a day that one organisation can give one reporter
)

// lesson is a first report, to be looked at when others had time to see the same.
type lesson struct {
	key      Key
	at       int64
	reporter uint32
}

// learnLater notes a first report. A reporter learns from so many a day only: no more points can come of them.
func (b *Book) learnLater(r *reporter, k Key, at int64) {
	if r.org.Kind == Feed || b.lessons[r.ID] >= maxLearning {
		return
	}
	b.lessons[r.ID]++
	b.learning[day(at)] = append(b.learning[day(at)], lesson{k, at, r.ID})
}

// learn gives good points for what others saw too, and makes trust anew.
func (b *Book) learn(now int64) {
	p := b.people.Load()
	clear(b.lessons)
	earned := map[uint32]int64{}
	erred := map[uint32]int64{}
	given := map[pair]int{} // by reporter and organisation
	for _, d := range slices.Sorted(maps.Keys(b.learning)) {
		if int(d)+learnDays >= int(day(now)) {
			continue
		}
		lessons := b.learning[d]
		delete(b.learning, d)
		slices.SortFunc(lessons, func(a, c lesson) int { return cmp.Or(cmp.Compare(a.reporter, c.reporter), cmp.Compare(a.key, c.key)) })
		clear(given)
		for _, l := range lessons {
			b.grade(p, l, given, earned, erred)
		}
	}
	var rs []Reporter
	today := day(now)
	for _, r := range p.list() {
		n := r.Reporter
		days := int(today) - int(n.Day)
		n.Good, n.Bad, n.Day = fade(n.Good, days)+earned[n.ID], fade(n.Bad, days)+erred[n.ID], today
		rs = append(rs, n)
	}
	b.people.Store(p.with(rs))
}

// grade looks at one first report three days later.
func (b *Book) grade(p *people, l lesson, given map[pair]int, earned, erred map[uint32]int64) {
	r := p.reporters[l.reporter]
	if r == nil {
		return
	}
	s := b.of(l.key)
	s.mu.RLock()
	defer s.mu.RUnlock()
	e := s.find(l.key)
	if e == nil {
		return
	}
	x := &b.x
	x.clear(l.key, l.at)
	x.gather(p, s, e, l.at, r.org.ID)
	now := max(l.at, x.last()) // others are heard as loud as they were when they had spoken
	x.clear(l.key, now)
	x.gather(p, s, e, now, r.org.ID)
	x.assemble(p)
	x.total(p, s, e, now)
	var helped []uint32
	for i := range x.Orgs {
		if o := &x.Orgs[i]; o.Kind != Feed && o.Counts >= weakest && given[pair{l.reporter, o.Org}] < corroborateMost {
			helped = append(helped, o.Org)
		}
	}
	switch {
	case x.Sum-x.Feeds >= corroborated && len(helped) >= 2:
		earned[r.ID] += goodPoint
		for _, o := range helped {
			given[pair{l.reporter, o}]++
		}
	case len(x.Orgs) == 0 && len(x.Vouchers) >= 2:
		erred[r.ID] += honestPenalty
	}
}

// with are the same organisations with other counters.
func (p *people) with(rs []Reporter) *people {
	n := &people{orgs: p.orgs, reporters: make(map[uint32]*reporter, len(rs))}
	for _, r := range rs {
		n.reporters[r.ID] = n.newReporter(r)
	}
	return n
}

// penalise takes trust at once, and a part of it from who brought the organisation.
func (b *Book) penalise(r *reporter, bad int64) {
	p := b.people.Load()
	n := &people{orgs: p.orgs, reporters: maps.Clone(p.reporters)}
	worse := func(r *reporter, bad int64) {
		c := r.Reporter
		c.Bad += bad
		n.reporters[c.ID] = n.newReporter(c)
	}
	worse(n.reporters[r.ID], bad)
	if r.org.Sponsor != 0 {
		for _, other := range p.list() {
			if other.org.ID == r.org.Sponsor {
				worse(n.reporters[other.ID], bad*sponsorShare/100)
			}
		}
	}
	b.people.Store(n)
}

// caught is what a reporter said of canaries: addresses that nobody uses and nobody can know of.
type caught struct {
	key Key
	day uint16
}

// Canary makes a key a canary: who reports it did not see what it says.
func (b *Book) Canary(k Key) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.canaries[k] = struct{}{}
}

// sing takes trust for the report of a canary: once a day, and little for the first one, for a packet with a forged
// source may frame somebody honest.
func (b *Book) sing(r *reporter, k Key, at int64) {
	c := b.caught[r.ID]
	switch d := day(at); {
	case c == nil:
		b.caught[r.ID] = &caught{k, d}
		b.penalise(r, canaryFirst)
	case c.day == d:
	case c.key == k:
		c.day = d
		b.penalise(r, canaryFirst)
	default:
		c.day = d
		b.penalise(r, canaryPenalty)
	}
}

// Clear makes everything that was said of a key until then count for nothing: an appeal was right, or a day went by
// without a report. Where blame is set, whoever had said it loses trust.
func (b *Book) Clear(k Key, at int64, blame bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.of(k)
	var said []uint32
	s.mu.Lock()
	before := s.cleared[k]
	s.cleared[k] = at
	if e := s.find(k); e != nil {
		for r := range s.of(e) {
			if at := r.at(); at > before && (len(said) == 0 || said[len(said)-1] != r.reporter) {
				said = append(said, r.reporter)
			}
		}
		if l := b.listing[k]; l != nil {
			if e.state&listed != 0 {
				b.take(e, l, at)
			}
			e.state &^= held
			b.changed[k] = struct{}{}
			l.stay = min(30*daySeconds, max(daySeconds, 2*l.stay)) // each time that it comes back it stays longer
		}
	}
	s.mu.Unlock()
	if blame {
		for _, id := range said {
			if r := b.people.Load().reporters[id]; r != nil {
				b.penalise(r, appealPenalty)
			}
		}
	}
}
