package reputation

import (
	"slices"
	"sync"
)

// listing is what is known of a key that is or was on the list.
type listing struct {
	since, until int64 // 0: it is on the list
	times        int   // that it was put there
	stay         int64 // seconds that it stays at least
	helped       pair  // the two organisations that put it there, where they were all
	held         int64 // it waits until then, because of a brake; 0: it does not
	confirmed    bool  // a third admitted organisation spoke of it
}

const (
	publicFor = daySeconds // after it left the list copies of it are still about
	shortest  = 3600       // seconds on the list
)

// public says whether the key could be read on the list at that time.
func (l *listing) public(at int64) bool {
	return l != nil && l.since != 0 && at > l.since && (l.until == 0 || at < l.until+publicFor)
}

// reconsider puts a key on the list if that is due. It never takes one off: that is Tick's.
func (b *Book) reconsider(k Key, now int64) {
	s := b.of(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.find(k)
	if e == nil {
		return
	}
	b.x.judge(b.people.Load(), s, e, now)
	l := b.listing[k]
	if l != nil && e.state&(listed|held) != 0 && !l.confirmed && l.helped != (pair{}) && b.x.pair() == (pair{}) {
		l.confirmed = true
		b.changed[k] = struct{}{}
		b.brake.confirm(l.helped)
		if e.state&held != 0 {
			e.state &^= held
			b.x.judge(b.people.Load(), s, e, now)
		}
	}
	if e.state&(listed|held) != 0 || b.x.Score < listScore {
		return
	}
	if l == nil {
		l = &listing{stay: shortest}
		b.listing[k] = l
	}
	b.changed[k] = struct{}{}
	l.helped = b.x.pair()
	l.confirmed = l.helped == (pair{})
	if !l.confirmed && !b.brake.allows(l.helped, k, now) {
		b.trip(l.helped, now)
		l.held = now + holdFor
		e.state |= held
		return
	}
	b.put(e, l, now)
}

func (b *Book) put(e *entry, l *listing, now int64) {
	e.state = e.state&^held | listed
	b.changed[e.key] = struct{}{}
	l.since, l.until, l.held = now, 0, 0
	l.times++
	b.lifts.add(e.key, now)
}

func (b *Book) take(e *entry, l *listing, now int64) {
	e.state &^= listed
	b.changed[e.key] = struct{}{}
	l.until = now
	b.lifts.drop(e.key)
}

// Tick does what is due with time: what has faded leaves the list, what was held back is looked at again, and once a day
// trust is learnt and old evidence goes. It is to be called at least every hour.
func (b *Book) Tick(now int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if d := day(now); d != b.today {
		b.today = d
		b.learn(now)
		b.shorten(d)
	}
	keys := make([]Key, 0, len(b.listing))
	for k := range b.listing {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		b.review(k, now)
	}
	b.brake.tick(now)
}

func (b *Book) review(k Key, now int64) {
	s, l := b.of(k), b.listing[k]
	s.mu.Lock()
	e := s.find(k)
	due := false
	switch {
	case e == nil:
		if now > l.until+countsKept*daySeconds {
			delete(b.listing, k)
			b.changed[k] = struct{}{}
		}
	case e.state&listed != 0:
		b.x.judge(b.people.Load(), s, e, now)
		if b.x.Score < keepScore && now >= l.since+l.stay {
			b.take(e, l, now)
		}
	case e.state&held != 0 && now >= l.held:
		e.state &^= held
		due = true
	}
	s.mu.Unlock()
	if due {
		b.brake.forgive(l.helped, k)
		b.reconsider(k, now)
	}
}

// Listed is one key of the list.
type Listed struct {
	Key   Key
	Score int
	Last  int64 // newest report
}

// List gives every key with at least that score, in no order. It reads all evidence where the score is below 100.
func (b *Book) List(least int, now int64, each func(Listed)) {
	p := b.people.Load()
	var x Explanation
	for i := range b.shard {
		s := &b.shard[i]
		s.mu.RLock()
		for j := range s.entries {
			e := &s.entries[j]
			if e.head == 0 || least >= listScore && e.state&listed == 0 || b.never(e.key) || b.reserved(e.key) {
				continue
			}
			x.judge(p, s, e, now)
			if x.Score >= least {
				each(Listed{e.key, x.Score, x.last()})
			}
		}
		s.mu.RUnlock()
	}
}

func (x *Explanation) last() (at int64) {
	for i := range x.Voices {
		at = max(at, x.Voices[i].Last)
	}
	return at
}

// shorten drops what is older than it may be kept.
func (b *Book) shorten(today uint16) {
	for i := range b.shard {
		s := &b.shard[i]
		s.mu.Lock()
		s.shorten(today-namesKept, today-countsKept)
		s.mu.Unlock()
	}
}

// Lifts: a provider gives one customer a /56 or a /48, who can change the /64 at will.
const (
	liftAt   = 4              // listed networks in one of the next size
	liftSpan = 7 * daySeconds // within that time
)

// lifts are the networks with several listed ones in them.
type lifts struct {
	mu    sync.RWMutex
	under map[Key]map[Key]int64 // /56 by its listed /64, and when they came; /48 (with its lowest bit set) by its lifted /56
}

func (l *lifts) add(k Key, now int64) {
	if k.Is4() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if k56 := k.within(56); l.note(k56, k, now) {
		l.note(k.within(48)|1, k56, now)
	}
}

// note says whether enough lie in that network now.
func (l *lifts) note(in, k Key, now int64) bool {
	m := l.under[in]
	if m == nil {
		m = map[Key]int64{}
		l.under[in] = m
	}
	m[k] = now
	return len(m) >= liftAt && l.count(in, now) >= liftAt
}

func (l *lifts) count(in Key, now int64) (n int) {
	for _, at := range l.under[in] {
		if now-at <= liftSpan {
			n++
		}
	}
	return n
}

func (l *lifts) drop(k Key) {
	if k.Is4() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, in := range []Key{k.within(56), k.within(48) | 1} {
		delete(l.under[in], k)
		delete(l.under[in], k.within(56))
		if len(l.under[in]) == 0 {
			delete(l.under, in)
		}
	}
}

func (l *lifts) lifted(k Key, now int64) bool {
	if k.Is4() {
		return false
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.count(k.within(56), now) >= liftAt || l.count(k.within(48)|1, now) >= liftAt
}
