// Package reputation makes one score of what many say about an address, so that no one of them can bend it: evidence in,
// score from 0 to 100 and a list out, and nothing else. It has no clock, no I/O and no goroutine; time comes with what it
// is told, so that the same evidence told again gives the same scores bit for bit.
//
// The formula and what it is worth against attackers stand in docs/design/0008-the-hub.md.
package reputation

import (
	"cmp"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
)

// Bounds of what is remembered. What does not fit is counted in Stats.
const (
	maxVouched  = 1_000_000 // keys that somebody vouched for
	maxVouchers = 64        // of one key
	maxLearning = 400       // first reports of one reporter on one day that it may learn trust from
	namesKept   = 90        // days that evidence is kept with who said it
	countsKept  = 365       // days that its count is kept
)

// Report is one report.
type Report struct {
	Reporter uint32
	Key      Key
	At       int64  // Unix seconds
	Quality  uint8  // in 255ths: 255 a login or a request was seen, 128 no detail, 0 its source could be forged
	Cats     uint32 // a bit for each category
	Count    int    // reports that this one stands for; 0 and 1 are one
}

// Book holds all evidence, and the list. Its methods may be called by several goroutines at once.
type Book struct {
	people atomic.Pointer[people]
	shard  [shards]shard
	lifts  lifts
	never  func(Key) bool
	shares func(Key) bool

	reserved func(Key) bool
	pool     sync.Pool // *Explanation

	mu       sync.Mutex // held while anything changes, before that of a shard
	x        Explanation
	listing  map[Key]*listing
	learning map[uint16][]lesson // by the day of the report
	lessons  map[uint32]int      // of one day, by reporter
	canaries map[Key]struct{}
	caught   map[uint32]*caught
	brake    brake
	alarms   []Alarm
	today    uint16
	full     uint64
	changed  map[Key]struct{} // listings that are others than they were kept
	kept     *people          // as they were kept
}

// Options are what a book begins with.
type Options struct {
	Orgs      []Org
	Reporters []Reporter
	Never     func(Key) bool // keys that have no score whatever is said; nil: none
	Shared    func(Key) bool // addresses of many people; nil: none is known
	Reserved  func(Key) bool // nobody's addresses: reports are counted, score nothing, and cost nobody trust; nil: none
}

// New is an empty book.
func New(o Options) *Book {
	b := &Book{
		listing: map[Key]*listing{}, learning: map[uint16][]lesson{}, lessons: map[uint32]int{}, canaries: map[Key]struct{}{},
		caught: map[uint32]*caught{}, brake: brake{pairs: map[pair]*record{}}, lifts: lifts{under: map[Key]map[Key]int64{}}, never: o.Never, shares: o.Shared,
		reserved: o.Reserved, changed: map[Key]struct{}{},
	}
	none := func(Key) bool { return false }
	if b.never == nil {
		b.never = none
	}
	if b.shares == nil {
		b.shares = none
	}
	if b.reserved == nil {
		b.reserved = none
	}
	for i := range b.shard {
		b.shard[i].vouched, b.shard[i].cleared = map[Key][]voucher{}, map[Key]int64{}
	}
	b.pool.New = func() any { return new(Explanation) }
	b.people.Store(newPeople(o.Orgs, o.Reporters))
	b.kept = b.people.Load()
	return b
}

func (b *Book) of(k Key) *shard { return &b.shard[mix(k)>>58] }

// ErrUnknownReporter says that nobody has that number.
var ErrUnknownReporter = errors.New("no such reporter")

// Ingest takes one report. What it changes is seen at once.
func (b *Book) Ingest(r Report) error {
	from := b.people.Load().reporters[r.Reporter]
	if from == nil {
		return ErrUnknownReporter
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	public := b.listing[r.Key].public(r.At)
	s := b.of(r.Key)
	s.mu.Lock()
	e := s.place(r.Key)
	if e.state &^= shared; b.shares(r.Key) {
		e.state |= shared
	}
	before := s.add(e, row{reporter: r.Reporter, day: day(r.At), when: whenOf(r.At, max(1, r.Count)), cats: r.Cats, quality: r.Quality, public: public})
	s.mu.Unlock()
	if b.reserved(r.Key) {
		return nil
	}
	if b.never(r.Key) {
		b.penalise(from, neverPenalty)
		return nil
	}
	if _, ok := b.canaries[r.Key]; ok {
		b.sing(from, r.Key, r.At)
		return nil
	}
	if !before && !public {
		b.learnLater(from, r.Key, r.At)
	}
	b.reconsider(r.Key, r.At)
	return nil
}

func day(at int64) uint16 { return uint16(at / daySeconds) }

func whenOf(at int64, count int) uint32 {
	return uint32(at%daySeconds)<<15 | uint32(min(count, maxCount))
}

// Vouch notes that a reporter saw honest use of a key.
func (b *Book) Vouch(reporter uint32, k Key, at int64) error {
	p := b.people.Load()
	if p.reporters[reporter] == nil {
		return ErrUnknownReporter
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.of(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	vs := s.vouched[k]
	if i := slices.IndexFunc(vs, func(v voucher) bool { return v.reporter == reporter }); i >= 0 {
		vs[i].first, vs[i].last = min(vs[i].first, at), max(vs[i].last, at)
		return nil
	}
	if vs == nil && len(s.vouched) >= maxVouched/shards || len(vs) >= maxVouchers {
		b.full++
		return nil
	}
	vs = append(vs, voucher{reporter, at, at})
	slices.SortFunc(vs, func(a, c voucher) int {
		return cmp.Or(cmp.Compare(p.reporters[a.reporter].orgID(), p.reporters[c.reporter].orgID()), cmp.Compare(a.reporter, c.reporter))
	})
	s.vouched[k] = vs
	return nil
}

// orgID is the number of the reporter's organisation; 0 for nobody's.
func (r *reporter) orgID() uint32 {
	if r == nil {
		return 0
	}
	return r.org.ID
}

// Score is the score of a key.
func (b *Book) Score(k Key, now int64) int {
	x := b.pool.Get().(*Explanation)
	defer b.pool.Put(x)
	b.explain(x, k, now)
	return x.Score
}

// Explain is how the score of a key comes about.
func (b *Book) Explain(k Key, now int64) *Explanation {
	x := new(Explanation)
	b.explain(x, k, now)
	return x
}

func (b *Book) explain(x *Explanation, k Key, now int64) {
	s := b.of(k)
	s.mu.RLock()
	if e := s.find(k); e != nil {
		x.judge(b.people.Load(), s, e, now)
	} else {
		x.clear(k, now)
	}
	s.mu.RUnlock()
	switch {
	case b.never(k), b.reserved(k):
		x.Gates, x.Score = append(x.Gates, NeverListed), 0
	case x.Score < listScore && b.lifts.lifted(k, now):
		x.Gates, x.Score = append(x.Gates, Lifted), listScore
	}
}
