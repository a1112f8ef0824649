package reputation

// pair are one or two organisations, the smaller number first, 0 for none.
type pair [2]uint32

// The brake: what only one or two admitted organisations say may be one person's who took them over. If they put far more
// addresses on the list than a third ever confirmed, these are held back, and somebody is told.
const (
	brakeLeast = 4  // listings a day that two organisations may make together whoever they are
	brakeOne   = 8  // and one with strangers
	alarmAt    = 10 // held back on one day, from which on somebody is told
	brakeTimes = 5  // as many a day as a third confirmed in the mean
	holdFor    = 6 * 3600
	weakest    = One / 5 // less from an organisation does not make it one of those who list
)

// record is what two organisations put on the list together.
type record struct {
	recent    []when
	confirmed Points // a day, of the last weeks
	today     int
	held      int // today
	told      int64
}

const maxAlarms = 1000

type when struct {
	key Key
	at  int64
}

type brake struct {
	pairs map[pair]*record
	day   uint16
}

// Alarm says that the list was protected from somebody.
type Alarm struct {
	At    int64
	Orgs  [2]uint32
	Count int // addresses that were held back
}

// pair are the admitted organisations without which the score would not be, if they are at most two. Strangers beside
// them do not count: whoever takes over one organisation may have trained some.
func (x *Explanation) pair() (p pair) {
	n := 0
	for i := range x.Orgs {
		if o := &x.Orgs[i]; o.Kind == Admitted && o.Counts >= weakest {
			if n == 2 {
				return pair{}
			}
			p[n] = o.Org
			n++
		}
	}
	if p[0] > p[1] {
		p[0], p[1] = p[1], p[0]
	}
	return p
}

// allows notes that two organisations list one more key, and says whether they may.
func (b *brake) allows(p pair, k Key, now int64) bool {
	r := b.pairs[p]
	if r == nil {
		r = &record{}
		b.pairs[p] = r
	}
	for len(r.recent) > 0 && now-r.recent[0].at > daySeconds {
		r.recent = r.recent[1:]
	}
	r.recent = append(r.recent, when{k, now})
	least := brakeLeast
	if p[0] == 0 {
		least = brakeOne
	}
	return len(r.recent) <= max(least, int(r.confirmed*brakeTimes/One))
}

// confirm notes that a third organisation spoke of what two had listed.
func (b *brake) confirm(p pair) {
	if r := b.pairs[p]; r != nil {
		r.today++
	}
}

// forgive takes a key out of the count.
func (b *brake) forgive(p pair, k Key) {
	r := b.pairs[p]
	if r == nil {
		return
	}
	for i := range r.recent {
		if r.recent[i].key == k {
			r.recent = append(r.recent[:i], r.recent[i+1:]...)
			return
		}
	}
}

// tick learns once a day how much is usual.
func (b *brake) tick(now int64) {
	if d := day(now); d != b.day {
		b.day = d
		for p, r := range b.pairs {
			r.confirmed += (Points(r.today)*One - r.confirmed) / 14
			r.today, r.held = 0, 0
			if r.confirmed < One/100 && (len(r.recent) == 0 || now-r.recent[len(r.recent)-1].at > daySeconds) {
				delete(b.pairs, p)
			}
		}
	}
}

// trip holds back what two organisations listed within a day and nobody confirmed, and tells it once a day.
func (b *Book) trip(p pair, now int64) {
	r := b.brake.pairs[p]
	r.held++
	for _, w := range r.recent {
		l := b.listing[w.key]
		if l == nil || l.confirmed || l.helped != p || l.until != 0 || l.since == 0 {
			continue
		}
		s := b.of(w.key)
		if s != b.of(b.x.Key) { // that one is locked
			s.mu.Lock()
		}
		if e := s.find(w.key); e != nil && e.state&listed != 0 {
			b.take(e, l, now)
			e.state |= held
			l.held = now + holdFor
			r.held++
		}
		if s != b.of(b.x.Key) {
			s.mu.Unlock()
		}
	}
	if r.held >= alarmAt && now-r.told > daySeconds {
		r.told = now
		if b.alarms = append(b.alarms, Alarm{now, p, r.held}); len(b.alarms) > maxAlarms {
			b.alarms = b.alarms[1:]
		}
	}
}

// Alarms gives what was told since the last call.
func (b *Book) Alarms() []Alarm {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := b.alarms
	b.alarms = nil
	return all
}
