package reputation

import (
	"cmp"
	"iter"
	"maps"
	"slices"
)

// This file holds what a store has to keep so that a book can be made again, and how it is made.

// Row is what one reporter said about one key on one day.
type Row struct {
	Reporter uint32 // 0: only the count is still kept
	Key      Key
	At       int64 // Unix seconds, of the newest report of that day
	Count    int
	Cats     uint32
	Quality  uint8
	Public   bool // the key was on the list when the reporter spoke of it first
}

// Listing is what is known of a key that is, was or would be on the list.
type Listing struct {
	Key          Key
	Since, Until int64 // Until 0: it is on the list; Since 0: it never was
	Times        int
	Stay         int64 // seconds
	Helped       [2]uint32
	Held         int64 // a brake holds it back until then
	Confirmed    bool
}

// Brake is how many listings of one or two organisations a third one confirms.
type Brake struct {
	Orgs      [2]uint32
	Confirmed Points // a day, in the mean of the last weeks
	Today     int
	Held      int
	Told      int64
}

// Changes are what differs since they were asked for last, to be kept beside the evidence.
type Changes struct {
	Day       uint16 // of the last lesson
	Listings  []Listing
	Gone      []Key // listings that are none any more
	Brakes    []Brake
	Reporters []Reporter // all, where one of them changed
}

// State is all that was kept.
type State struct {
	Day      uint16
	Listings []Listing
	Brakes   []Brake
}

// Restore takes evidence that was kept, by key, reporter and time. It changes no list and no trust; Resume ends it.
func (b *Book) Restore(rows iter.Seq[Row], learned uint16) {
	b.mu.Lock()
	defer b.mu.Unlock()
	type turn struct {
		reporter uint32
		day      uint16
	}
	lessons := map[turn]int{}
	for r := range rows {
		s := b.of(r.Key)
		s.mu.Lock()
		e := s.place(r.Key)
		if b.shares(r.Key) {
			e.state |= shared
		}
		d := day(r.At)
		before := s.add(e, row{reporter: r.Reporter, day: d, when: whenOf(r.At, r.Count), cats: r.Cats, quality: r.Quality, public: r.Public})
		s.mu.Unlock()
		if before || r.Public || r.Reporter == 0 || int(d)+learnDays < int(learned) || b.never(r.Key) || b.reserved(r.Key) {
			continue
		}
		if t := (turn{r.Reporter, d}); lessons[t] < maxLearning {
			lessons[t]++
			b.learning[d] = append(b.learning[d], lesson{r.Key, r.At, r.Reporter})
		}
	}
}

// Resume takes the list that was kept, behind Restore. fresh are the keys that were reported after it was kept: they are
// looked at as if it was for the first time.
func (b *Book) Resume(st State, fresh []Key, now int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.today = st.Day
	for _, r := range st.Brakes {
		b.brake.pairs[pair(r.Orgs)] = &record{confirmed: r.Confirmed, today: r.Today, held: r.Held, told: r.Told}
	}
	b.brake.day = st.Day
	slices.SortFunc(st.Listings, func(a, c Listing) int { return cmp.Or(cmp.Compare(a.began(), c.began()), cmp.Compare(a.Key, c.Key)) })
	for _, l := range st.Listings {
		b.resume(l, now)
	}
	for _, k := range fresh {
		b.reconsider(k, now)
	}
}

// began is when a key came onto the list, or would have.
func (l *Listing) began() int64 {
	if l.Held != 0 {
		return l.Held - holdFor
	}
	return l.Since
}

func (b *Book) resume(l Listing, now int64) {
	in := &listing{since: l.Since, until: l.Until, times: l.Times, stay: l.Stay, helped: pair(l.Helped), held: l.Held, confirmed: l.Confirmed}
	b.listing[l.Key] = in
	s := b.of(l.Key)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.find(l.Key)
	switch {
	case e == nil:
		in.until = cmp.Or(in.until, now)
		return
	case l.Since != 0 && l.Until == 0:
		e.state |= listed
		b.lifts.add(l.Key, l.Since)
	case l.Held != 0:
		e.state |= held
	}
	if in.helped == (pair{}) || l.began() <= now-daySeconds {
		return
	}
	r := b.brake.pairs[in.helped]
	if r == nil {
		r = &record{}
		b.brake.pairs[in.helped] = r
	}
	r.recent = append(r.recent, when{l.Key, l.began()})
}

// Changes gives what changed since the last call. Where it cannot be kept it is given back with Unkept.
func (b *Book) Changes() Changes {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := Changes{Day: b.today}
	for _, k := range slices.Sorted(maps.Keys(b.changed)) {
		l := b.listing[k]
		if l == nil {
			c.Gone = append(c.Gone, k)
			continue
		}
		c.Listings = append(c.Listings, Listing{k, l.since, l.until, l.times, l.stay, l.helped, l.held, l.confirmed})
	}
	clear(b.changed)
	for p, r := range b.brake.pairs {
		c.Brakes = append(c.Brakes, Brake{p, r.confirmed, r.today, r.held, r.told})
	}
	slices.SortFunc(c.Brakes, func(x, y Brake) int { return slices.Compare(x.Orgs[:], y.Orgs[:]) })
	if p := b.people.Load(); p != b.kept {
		b.kept = p
		for _, r := range p.list() {
			c.Reporters = append(c.Reporters, r.Reporter)
		}
	}
	return c
}

// Unkept gives changes back.
func (b *Book) Unkept(c Changes) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range c.Listings {
		b.changed[l.Key] = struct{}{}
	}
	for _, k := range c.Gone {
		b.changed[k] = struct{}{}
	}
	if len(c.Reporters) > 0 {
		b.kept = nil
	}
}

// PutOrg takes an organisation, in the place of the one with its number.
func (b *Book) PutOrg(o Org) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.people.Load()
	orgs := []Org{o}
	for id, other := range p.orgs {
		if id != o.ID {
			orgs = append(orgs, *other)
		}
	}
	b.people.Store(newPeople(orgs, p.all()))
}

// PutReporter takes a reporter, in the place of the one with its number.
func (b *Book) PutReporter(r Reporter) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.people.Load()
	n := &people{orgs: p.orgs, reporters: maps.Clone(p.reporters)}
	n.reporters[r.ID] = n.newReporter(r)
	b.people.Store(n)
}

func (p *people) all() (all []Reporter) {
	for _, r := range p.list() {
		all = append(all, r.Reporter)
	}
	return all
}

// Public says whether a key could be read on the list at that time: who reports it then may have copied it.
func (b *Book) Public(k Key, at int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.listing[k].public(at)
}

// Total is how often a key was reported.
type Total struct {
	Reports   int
	Reporters int   // whose names are still kept
	Last      int64 // Unix seconds; 0: never
}

// Total counts the reports of a key since then, by whole days.
func (b *Book) Total(k Key, since int64) (t Total) {
	s := b.of(k)
	s.mu.RLock()
	defer s.mu.RUnlock()
	e := s.find(k)
	if e == nil {
		return t
	}
	var last uint32
	for r := range s.of(e) {
		if r.count() == 0 || r.at() < since {
			continue
		}
		t.Reports += r.count()
		t.Last = max(t.Last, r.at())
		if r.reporter != last {
			t.Reporters++
			last = r.reporter
		}
	}
	return t
}

// Retract takes everything back that a reporter said of a key.
func (b *Book) Retract(reporter uint32, k Key, now int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for d, lessons := range b.learning {
		b.learning[d] = slices.DeleteFunc(lessons, func(l lesson) bool { return l.reporter == reporter && l.key == k })
	}
	s := b.of(k)
	s.mu.Lock()
	if e := s.find(k); e != nil && reporter != 0 {
		s.retract(e, reporter, day(now))
	}
	s.mu.Unlock()
	if b.listing[k] != nil {
		b.review(k, now)
	}
}

// retract drops the rows of a reporter. An entry has at least one row: the last one is followed by one that counts nothing.
func (s *shard) retract(e *entry, reporter uint32, today uint16) {
	at := &e.head
	for *at != 0 {
		n := *at
		if s.rows[n].reporter != reporter {
			at = &s.rows[n].next
			continue
		}
		*at = s.rows[n].next
		s.dropRow(n)
	}
	if e.head == 0 {
		n := s.newRow()
		s.rows[n] = row{day: today}
		e.head = n
	}
}
