package main

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"

	"tocsin/internal/reputation"
)

// The world: who attacks, who is honest, who reports. Its figures are assumptions; what counts is how formulas compare.
const (
	hour    = int64(3600)
	dayLong = 24 * hour

	worldDays   = 60
	measureFrom = 20 // days are left to fill the memory of every formula
	attackDay   = 45
	appealAfter = 2 * dayLong

	associations = 20
	admittedOrgs = 12
	sensors      = 44
	networks     = 12
	attackers    = 12_000
	meanLife     = 5.0  // days
	attackRate   = 0.33 // a day of the quietest; the others follow a power law
	reusedShare  = 0.3
	sharedCount  = 300
	sharedKnown  = 0.6
	honestUsers  = 6_000
	victims      = 20
	mistypeDays  = 60.0 // between two days on which an honest person is taken for an attacker
	worldBegins  = 20_000 * dayLong
)

// class is what an address is at a moment.
type class uint8

const (
	nobody   class = iota
	attacker       // attacks, or will within an hour
	reused         // attacked, and is now an honest person's
	many           // many people's
	single         // one honest person's
)

// event is one thing that happens.
type event struct {
	at   int64
	kind kind
	who  uint32 // reporter
	key  reputation.Key
}

type kind uint8

const (
	attacked kind = iota // a sensor saw an attack and reports it
	mistyped             // a sensor takes an honest person for an attacker
	loggedIn             // an honest person logs in
	forged               // an adversary says so
	vouched              // an adversary vouches
)

type span struct {
	from, to int64
	rate     float64 // attacks a day that sensors see
	reused   int64   // when an honest person got the address; 0: nobody did
}

type world struct {
	r         *rand.Rand
	orgs      []reputation.Org
	reporters []reputation.Reporter
	lives     map[reputation.Key]span
	shared    map[reputation.Key]bool // true: known
	honest    map[reputation.Key]bool
	victims   []reputation.Key
	canaries  []reputation.Key
	events    []event
	busy      []reputation.Key
	busyAt    int64
	bad       []uint32 // organisations that an adversary took over
	next      uint32   // number of the next organisation or reporter of an adversary
}

func newWorld(seed uint64) *world {
	w := &world{r: rand.New(rand.NewPCG(seed, 7)), lives: map[reputation.Key]span{}, shared: map[reputation.Key]bool{},
		honest: map[reputation.Key]bool{}, next: 1000}
	w.people()
	w.attacks()
	w.many()
	w.people6000()
	for range victims {
		w.victims = append(w.victims, w.address())
	}
	for range 64 {
		w.canaries = append(w.canaries, w.address())
	}
	return w
}

func (w *world) address() reputation.Key {
	for {
		k := reputation.Key(0x01000000 + w.r.Uint32N(0xDE000000))
		_, a := w.lives[k]
		_, s := w.shared[k]
		if !a && !s && !w.honest[k] && !slices.Contains(w.victims, k) {
			return k
		}
	}
}

// people makes associations in few networks, and one to four sensors for each.
func (w *world) people() {
	for i := range associations {
		o := reputation.Org{ID: uint32(i + 1), ASN: uint32(1 + int(float64(networks)*math.Pow(w.r.Float64(), 1.7))), Country: [2]byte{'F', 'R'}}
		if i%5 == 4 {
			o.Country = [2]byte{'B', 'E'}
		}
		if i < admittedOrgs {
			o.Kind = reputation.Admitted
		}
		w.orgs = append(w.orgs, o)
	}
	for i := range sensors {
		org := uint32(i%associations + 1)
		if i >= 2*associations {
			org = uint32(w.r.IntN(associations) + 1)
		}
		// They have been there for a while when the world begins.
		w.reporters = append(w.reporters, reputation.Reporter{ID: uint32(i + 1), Org: org, Good: 8_000, Day: uint16(worldBegins / dayLong)})
	}
}

func (w *world) sensor() uint32 { return w.reporters[w.r.IntN(sensors)].ID }

// home is the sensor where an honest person belongs.
func (w *world) home(k reputation.Key) uint32 { return uint32(uint64(k)*2654435761%sensors) + 1 }

func (w *world) at(days float64) int64 { return worldBegins + int64(days*float64(dayLong)) }

func (w *world) attacks() {
	for range attackers {
		k := w.address()
		from := w.r.Float64()*(worldDays+meanLife) - meanLife
		to := from + w.r.ExpFloat64()*meanLife
		rate := min(40, attackRate*math.Pow(1-w.r.Float64(), -0.62))
		life := span{from: w.at(from), to: w.at(to), rate: rate}
		if w.r.Float64() < reusedShare {
			again := to + w.r.Float64()*5
			life.reused = w.at(again)
			w.use(k, again, worldDays)
		}
		w.lives[k] = life
		for t := from; ; {
			if t += w.r.ExpFloat64() / rate; t > to || t > worldDays {
				break
			}
			if t >= 0 {
				w.events = append(w.events, event{w.at(t), attacked, w.sensor(), k})
			}
		}
	}
}

// use lets an honest person have an address: some log in where they belong, all mistype at times.
func (w *world) use(k reputation.Key, from, to float64) {
	if w.r.Float64() < 0.3 { // a member, the others are only visitors
		for t := from + w.r.ExpFloat64()*2; t < to; t += w.r.ExpFloat64() * 2 {
			w.events = append(w.events, event{w.at(t), loggedIn, w.home(k), k})
		}
	}
	for t := from + w.r.ExpFloat64()*mistypeDays; t < to; t += w.r.ExpFloat64() * mistypeDays {
		at := w.home(k)
		if w.r.Float64() < 0.3 {
			at = w.sensor()
		}
		w.events = append(w.events, event{w.at(t), mistyped, at, k})
	}
}

func (w *world) many() {
	for range sharedCount {
		k := w.address()
		w.shared[k] = w.r.Float64() < sharedKnown
		rate := min(10, 0.3*math.Pow(1-w.r.Float64(), -0.62))
		for t := w.r.ExpFloat64() / rate; t < worldDays; t += w.r.ExpFloat64() / rate {
			w.events = append(w.events, event{w.at(t), attacked, w.sensor(), k})
		}
		for t := w.r.ExpFloat64(); t < worldDays; t += w.r.ExpFloat64() * 3 { // one in so many of its 200 people is a member
			w.events = append(w.events, event{w.at(t), loggedIn, w.sensor(), k})
		}
	}
}

// people6000 are honest people of their own addresses, and the day on which one sensor banned two hundred of them.
func (w *world) people6000() {
	var all []reputation.Key
	for range honestUsers {
		k := w.address()
		w.honest[k] = true
		all = append(all, k)
		w.use(k, 0, worldDays)
	}
	bad := w.sensor()
	for i := range 200 {
		w.events = append(w.events, event{w.at(30 + w.r.Float64()), mistyped, bad, all[i]})
	}
}

// what an address is at a moment.
func (w *world) what(k reputation.Key, at int64) class {
	if s, ok := w.lives[k]; ok {
		switch {
		case at <= s.to+hour:
			return attacker
		case s.reused != 0 && at >= s.reused:
			return reused
		}
		return nobody
	}
	if _, ok := w.shared[k]; ok {
		return many
	}
	if w.honest[k] || slices.Contains(w.victims, k) {
		return single
	}
	return nobody
}

// sorted are all events by time, each reporter at most once in fifteen minutes about one address.
func (w *world) sorted() []event {
	slices.SortStableFunc(w.events, func(a, b event) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.key, b.key), cmp.Compare(a.who, b.who))
	})
	type said struct {
		who uint32
		key reputation.Key
	}
	last := map[said]int64{}
	return slices.DeleteFunc(w.events, func(e event) bool {
		if e.kind == loggedIn || e.kind == vouched {
			return false
		}
		s := said{e.who, e.key}
		if t, ok := last[s]; ok && e.at-t < 900 {
			return true
		}
		last[s] = e.at
		return false
	})
}
