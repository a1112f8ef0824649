package reputation

import (
	"iter"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
)

// rowsOf gives the evidence of a book as a store would.
func (b *Book) rowsOf() iter.Seq[Row] {
	var all []Row
	for i := range b.shard {
		s := &b.shard[i]
		for j := range s.entries {
			e := &s.entries[j]
			if e.head == 0 {
				continue
			}
			from := len(all)
			for r := range s.of(e) {
				all = append(all, Row{r.reporter, e.key, r.at(), r.count(), r.cats, r.quality, r.public})
			}
			slices.SortStableFunc(all[from:], func(a, c Row) int {
				if a.Reporter != c.Reporter {
					return int(a.Reporter) - int(c.Reporter)
				}
				return int(a.At - c.At)
			})
		}
	}
	return slices.Values(all)
}

// TestMadeAgain makes a book again of what was kept of it, and both go on alike, to the last bit.
func TestMadeAgain(t *testing.T) {
	o := bodies(5, 20)
	old := New(o)
	r := rand.New(rand.NewPCG(1, 2))
	var kept = map[Key]Listing{}
	var people []Reporter
	var st State
	live := func(b *Book, from, to int64, r *rand.Rand) {
		for at := from; at < to; at += 120 {
			id := uint32(r.IntN(5) + 1)
			if r.IntN(3) == 0 {
				id = uint32(r.IntN(20) + 101)
			}
			if err := b.Ingest(Report{Reporter: id, Key: Key(r.IntN(300) + 1), At: at, Quality: 255, Cats: 1 << 18}); err != nil {
				t.Fatal(err)
			}
			if at%3600 == 0 {
				b.Tick(at)
			}
		}
	}
	keep := func(c Changes) {
		for _, l := range c.Listings {
			kept[l.Key] = l
		}
		for _, k := range c.Gone {
			delete(kept, k)
		}
		if c.Reporters != nil {
			people = c.Reporters
		}
		st.Day, st.Brakes = c.Day, c.Brakes
	}
	end := begin + 9*daySeconds
	for d := begin; d < end; d += daySeconds {
		live(old, d, d+daySeconds, r)
		keep(old.Changes())
	}
	old.Tick(end)
	keep(old.Changes())
	if len(kept) < 50 || len(people) == 0 || len(st.Brakes) == 0 {
		t.Fatalf("the world is too quiet: %d listings, %d reporters, %d brakes", len(kept), len(people), len(st.Brakes))
	}
	for _, l := range kept {
		st.Listings = append(st.Listings, l)
	}
	o.Reporters = people
	again := New(o)
	again.Restore(old.rowsOf(), st.Day)
	again.Resume(st, nil, end)
	same := func(now int64) {
		t.Helper()
		if a, b := old.list(now), again.list(now); !slices.Equal(a, b) {
			t.Errorf("at %d the list has %d keys, made again %d", now, len(a), len(b))
		}
		for k := Key(1); k <= 300; k++ {
			if a, b := old.Explain(k, now), again.Explain(k, now); !reflect.DeepEqual(a, b) {
				t.Fatalf("key %d\n%+v, made again\n%+v", k, a, b)
			}
			if a, b := old.Total(k, begin), again.Total(k, begin); a != b {
				t.Fatalf("key %d: %+v, made again %+v", k, a, b)
			}
		}
	}
	same(end)
	for d := end; d < end+2*daySeconds; d += daySeconds {
		live(old, d, d+daySeconds, rand.New(rand.NewPCG(uint64(d), 2)))
		live(again, d, d+daySeconds, rand.New(rand.NewPCG(uint64(d), 2)))
	}
	if a, b := old.list(end+2*daySeconds), again.list(end+2*daySeconds); !slices.Equal(a, b) {
		t.Errorf("two days later the list has %d keys, made again %d", len(a), len(b))
	}
}

func TestResumeLooksAtWhatIsFresh(t *testing.T) {
	b := body(3, 0)
	rows := []Row{{Reporter: 1, Key: 7, At: begin, Count: 2, Quality: 255}, {Reporter: 2, Key: 7, At: begin, Count: 1, Quality: 255}}
	b.Restore(slices.Values(rows), day(begin))
	if got := b.list(begin); len(got) != 0 {
		t.Errorf("restored evidence alone listed %v", got)
	}
	b.Resume(State{Day: day(begin)}, []Key{7}, begin)
	if got := b.list(begin); !slices.Equal(got, []Key{7}) {
		t.Errorf("the list is %v", got)
	}
	if got, want := b.Total(7, begin-daySeconds), (Total{3, 2, begin}); got != want {
		t.Errorf("total %+v, want %+v", got, want)
	}
}

func TestRetract(t *testing.T) {
	b := body(3, 0)
	const now = begin + 2*shortest
	b.say(t, begin, 7, 1, 2)
	b.say(t, begin-daySeconds, 7, 1)
	b.say(t, begin, 8, 1)
	b.Retract(1, 7, now)
	if got := b.list(now); len(got) != 0 || b.Score(7, now) > 74 {
		t.Errorf("one organisation is left: score %d, list %v", b.Score(7, now), got)
	}
	if got, want := b.Total(7, 0), (Total{1, 1, begin}); got != want {
		t.Errorf("total %+v, want %+v", got, want)
	}
	b.Retract(2, 7, now)
	b.Retract(1, 8, now)
	b.Retract(1, 9, now)
	for _, k := range []Key{7, 8, 9} {
		if got := b.Total(k, 0); got != (Total{}) || b.Score(k, now) != 0 {
			t.Errorf("key %d: total %+v, score %d after everything was taken back", k, got, b.Score(k, now))
		}
	}
	b.say(t, now, 7, 1, 2)
	if got := b.list(now); !slices.Equal(got, []Key{7}) {
		t.Errorf("reported anew: the list is %v", got)
	}
	for d := range int64(4) { // nothing is learnt of what was taken back
		b.Tick(now + d*daySeconds)
	}
	for _, r := range b.people.Load().all() {
		if r.ID == 1 && r.Good > 80_000 {
			t.Errorf("reporter 1 earned by what it took back: %+v", r)
		}
	}
}

func TestReservedCostsNobody(t *testing.T) {
	o := bodies(3, 0)
	o.Reserved = func(k Key) bool { return k == 0x7f000001 }
	o.Never = func(k Key) bool { return k == 0x08080808 }
	b := New(o)
	b.say(t, begin, 0x7f000001, 1, 2, 3)
	if got := b.Score(0x7f000001, begin); got != 0 || len(b.list(begin)) != 0 {
		t.Errorf("score %d, list %v", got, b.list(begin))
	}
	if got := b.Total(0x7f000001, 0).Reports; got != 3 {
		t.Errorf("%d reports", got)
	}
	for _, r := range b.people.Load().all() {
		if r.Bad != 0 {
			t.Errorf("%+v", r)
		}
	}
	b.say(t, begin, 0x08080808, 1)
	if bad := b.people.Load().reporters[1].Bad; bad != neverPenalty {
		t.Errorf("bad is %d", bad)
	}
}

func TestPeopleCome(t *testing.T) {
	b := New(Options{})
	if err := b.Ingest(Report{Reporter: 1, Key: 7, At: begin}); err != ErrUnknownReporter {
		t.Errorf("nobody's report: %v", err)
	}
	for id := uint32(1); id <= 3; id++ {
		b.PutOrg(Org{ID: id, Kind: Admitted, ASN: id})
		b.PutReporter(Reporter{ID: id, Org: id, Day: day(begin)})
	}
	b.say(t, begin, 7, 1, 2, 3)
	if got := b.Score(7, begin); got != 100 {
		t.Errorf("score %d", got)
	}
	if c := b.Changes(); len(c.Reporters) != 3 || len(c.Listings) != 1 {
		t.Errorf("changes %+v", c)
	} else {
		if again := b.Changes(); len(again.Reporters)+len(again.Listings) != 0 {
			t.Errorf("told twice: %+v", again)
		}
		b.Unkept(c)
		if again := b.Changes(); len(again.Reporters) != 3 || len(again.Listings) != 1 {
			t.Errorf("given back, then %+v", again)
		}
	}
	b.PutOrg(Org{ID: 3})
	if got := b.Score(7, begin); got == 0 {
		t.Errorf("score %d after one organisation is on probation again", got)
	}
}
