package reputation

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"
)

const begin = int64(20_000 * daySeconds)

func TestHalved(t *testing.T) {
	for _, x := range []float64{0, 1e-6, 0.1, 0.5, 1, 1.9, 2, 7.25, 39.9, 40, 1000} {
		got := float64(halved(Points(x*float64(One)))) / float64(One)
		want := math.Exp2(-x)
		if x >= 40 {
			want = 0
		}
		if math.Abs(got-want) > 1e-6 {
			t.Errorf("2^-%v is %v, not %v", x, got, want)
		}
	}
	last := One + 1
	for x := Points(0); x < 41*One; x += One / 97 {
		y := halved(x)
		if y > last {
			t.Fatalf("2^-%s is more than the one before", x)
		}
		last = y
	}
}

func TestScoreCurve(t *testing.T) {
	for _, c := range []struct {
		p    float64
		want int
	}{{-1, 0}, {0, 0}, {0.5, 42}, {1, 71}, {1.18, 79}, {1.2, 80}, {1.5, 91}, {1.79, 99}, {1.8, 100}, {1.9, 100}, {50, 100}} {
		if got := score(Points(c.p * float64(One))); got != c.want {
			t.Errorf("score of %v is %d, want %d", c.p, got, c.want)
		}
	}
}

func TestTrust(t *testing.T) {
	float := func(kind Kind, good, bad int64) float64 { return float64(trust(kind, good, bad)) / float64(One) }
	want := func(good, bad float64) float64 {
		a, b := 1+good, 6+bad
		m := a / (a + b)
		return max(0, min(1, (m-math.Sqrt(a*b/((a+b)*(a+b)*(a+b+1))))/0.8))
	}
	for _, c := range [][2]int64{{0, 0}, {5, 0}, {10, 0}, {30, 0}, {60, 0}, {200, 0}, {30, 20}, {0, 40}} {
		if got := float(Probation, c[0]*1000, c[1]*1000); math.Abs(got-want(float64(c[0]), float64(c[1]))) > 1e-4 {
			t.Errorf("%d good, %d bad: %v, want %v", c[0], c[1], got, want(float64(c[0]), float64(c[1])))
		}
	}
	if got := float(Admitted, 0, 0); got != 0.75 {
		t.Errorf("an admitted one begins at %v", got)
	}
	if got := float(Admitted, 0, 9000); math.Abs(got-0.2) > 1e-6 {
		t.Errorf("an admitted one that erred has %v", got)
	}
	if got := fade(100_000, 100); got < 49_000 || got > 50_000 {
		t.Errorf("100 days leave %d of 100,000", got)
	}
}

func TestKeys(t *testing.T) {
	for _, c := range []struct{ addr, want string }{
		{"192.0.2.7", "192.0.2.7/32"}, {"::ffff:192.0.2.7", "192.0.2.7/32"}, {"2001:db8:1:2:3::4", "2001:db8:1:2::/64"},
		{"::1", "0.0.0.0/32"}, {"64:ff9b::1", "64:ff9b::/64"},
	} {
		if got := KeyOf(netip.MustParseAddr(c.addr)).Prefix().String(); got != c.want {
			t.Errorf("%s: %s, want %s", c.addr, got, c.want)
		}
	}
	k := KeyOf(netip.MustParseAddr("2001:db8:1:2ff::"))
	if got := k.within(56).Prefix().Addr().String(); got != "2001:db8:1:200::" {
		t.Errorf("/56 is %s", got)
	}
	if got := k.within(48).Prefix().Addr().String(); got != "2001:db8:1::" {
		t.Errorf("/48 is %s", got)
	}
}

// body makes a book of admitted organisations 1 to admitted, each with a trusted reporter of the same number, and strangers
// from 101 on in networks of their own.
func body(admitted, strangers int) *Book { return New(bodies(admitted, strangers)) }

func bodies(admitted, strangers int) (o Options) {
	today := day(begin)
	for i := range admitted {
		id := uint32(i + 1)
		o.Orgs = append(o.Orgs, Org{ID: id, Kind: Admitted, ASN: id})
		o.Reporters = append(o.Reporters, Reporter{ID: id, Org: id, Good: 80_000, Day: today})
	}
	for i := range strangers {
		id := uint32(i + 101)
		o.Orgs = append(o.Orgs, Org{ID: id, ASN: id, Country: [2]byte{'A' + byte(i%26), 'A' + byte(i/26)}})
		o.Reporters = append(o.Reporters, Reporter{ID: id, Org: id, Good: 80_000, Day: today})
	}
	return o
}

func (b *Book) say(t *testing.T, at int64, k Key, by ...uint32) {
	t.Helper()
	for _, id := range by {
		if err := b.Ingest(Report{Reporter: id, Key: k, At: at, Quality: 255, Cats: 1 << 18}); err != nil {
			t.Fatal(err)
		}
	}
}

func (b *Book) list(now int64) (keys []Key) {
	b.List(100, now, func(l Listed) { keys = append(keys, l.Key) })
	slices.Sort(keys)
	return keys
}

func TestGates(t *testing.T) {
	const k Key = 0x01020304
	for _, c := range []struct {
		name string
		by   []uint32
		want int
		gate Gate
	}{
		{"one organisation", []uint32{1}, 71, ""},
		{"two admitted", []uint32{1, 2}, 100, ""},
		{"an admitted one and a stranger", []uint32{1, 101}, 100, ""},
		{"strangers alone", []uint32{101, 102, 103, 104}, 74, NoAnchor},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := body(3, 5)
			b.say(t, begin, k, c.by...)
			x := b.Explain(k, begin)
			if x.Score != c.want {
				t.Errorf("score %d, want %d: %+v", x.Score, c.want, x)
			}
			if c.gate != "" && !slices.Contains(x.Gates, c.gate) {
				t.Errorf("gates %q lack %q", x.Gates, c.gate)
			}
			if got := len(b.list(begin)) == 1; got != (c.want == 100) {
				t.Errorf("on the list: %v", got)
			}
		})
	}
}

func TestManyNamesOfOneAreOneVoice(t *testing.T) {
	const k Key = 0x01020304
	o := bodies(1, 0)
	for i := range 40 {
		id := uint32(500 + i)
		o.Orgs = append(o.Orgs, Org{ID: id, ASN: 7, Country: [2]byte{'X', 'X'}})
		o.Reporters = append(o.Reporters, Reporter{ID: id, Org: id, Day: day(begin)})
	}
	b := New(o)
	for i := range 40 {
		b.say(t, begin, k, uint32(500+i))
	}
	if x := b.Explain(k, begin); x.Strangers > One/20 || x.Score > 5 {
		t.Errorf("forty fresh accounts of one network are heard with %s, score %d", x.Strangers, x.Score)
	}
	b.say(t, begin, k, 1)
	if got := b.Score(k, begin); got >= 75 {
		t.Errorf("one admitted and forty fresh make %d", got)
	}
}

func TestFeedsAloneListNobody(t *testing.T) {
	o := bodies(1, 0)
	for id := uint32(900); id < 905; id++ {
		o.Orgs = append(o.Orgs, Org{ID: id, Kind: Feed})
		o.Reporters = append(o.Reporters, Reporter{ID: id, Org: id})
	}
	b := New(o)
	b.say(t, begin, 7, 900, 901, 902, 903, 904)
	if x := b.Explain(7, begin); x.Feeds != One || x.Score > 74 {
		t.Errorf("five feeds: %s, score %d", x.Feeds, x.Score)
	}
}

func TestListKeepsUntilEighty(t *testing.T) {
	b := body(3, 0)
	b.say(t, begin, 9, 1, 2, 3)
	var off int64
	seen := false
	for now := begin; now < begin+30*daySeconds; now += 3600 {
		b.Tick(now)
		x := b.Explain(9, now)
		if x.Curve < listScore && x.Curve >= keepScore {
			seen = true
			if x.Score != 100 {
				t.Fatalf("a listed address with %d shows %d", x.Curve, x.Score)
			}
		}
		if len(b.list(now)) == 0 {
			off = now
			break
		}
	}
	if !seen || off == 0 {
		t.Fatal("it never left the list")
	}
	if x := b.Explain(9, off); x.Curve >= keepScore || x.Score != x.Curve {
		t.Errorf("it left at %d, shows %d", x.Curve, x.Score)
	}
}

func TestRhythm(t *testing.T) {
	// Four believed reports a day, then silence, against one every third day.
	b := body(4, 0)
	for i := range int64(16) {
		b.say(t, begin+i*daySeconds/4, 1, uint32(i%4+1))
	}
	for i := range int64(6) {
		b.say(t, begin+i*3*daySeconds, 2, uint32(i%2+1))
	}
	quick, slow := b.Explain(1, begin+4*daySeconds), b.Explain(2, begin+15*daySeconds)
	for _, v := range quick.Voices {
		if v.HalfLife > 2*daySeconds {
			t.Errorf("often reported: half-life %d s", v.HalfLife)
		}
	}
	for _, v := range slow.Voices {
		if v.HalfLife < 5*daySeconds {
			t.Errorf("seldom reported: half-life %d s", v.HalfLife)
		}
	}
	// Strangers without trust do not set it.
	o := bodies(2, 0)
	o.Orgs = append(o.Orgs, Org{ID: 600, ASN: 9})
	o.Reporters = append(o.Reporters, Reporter{ID: 600, Org: 600})
	b = New(o)
	b.say(t, begin, 3, 1, 2)
	before := b.Explain(3, begin+daySeconds).Sum
	for i := range int64(8) {
		b.say(t, begin+i*daySeconds/8, 3, 600)
	}
	if after := b.Explain(3, begin+daySeconds).Sum; after < before {
		t.Errorf("a stranger made evidence fade: %s before, %s after", before, after)
	}
}

func TestHonestUse(t *testing.T) {
	b := body(5, 0)
	const k Key = 0x05060708
	must(t, b.Vouch(3, k, begin))
	b.say(t, begin, k, 1, 2)
	x := b.Explain(k, begin)
	if len(x.Vouchers) != 1 || x.Against <= 0 || x.Against > voucherAlone {
		t.Fatalf("one voucher takes %s", x.Against)
	}
	if x.Score >= 100 {
		t.Errorf("score %d", x.Score)
	}
	must(t, b.Vouch(4, k, begin))
	b.say(t, begin, k, 5)
	if x := b.Explain(k, begin); x.Score > anchorScore || !slices.Contains(x.Gates, SharedGate) {
		t.Errorf("two admitted organisations saw honest use, yet it has %d, gates %q", x.Score, x.Gates)
	}
	// Long honest use needs three.
	b = body(5, 0)
	must(t, b.Vouch(3, k, begin-120*daySeconds))
	must(t, b.Vouch(3, k, begin-20*daySeconds))
	b.say(t, begin, k, 1, 2)
	if x := b.Explain(k, begin); x.Score > anchorScore || !slices.Contains(x.Gates, HonestUse) {
		t.Errorf("score %d, gates %q", x.Score, x.Gates)
	}
	b.say(t, begin, k, 4)
	if got := b.Score(k, begin); got != 100 {
		t.Errorf("with a third organisation: %d", got)
	}
	if err := b.Vouch(99, k, begin); err != ErrUnknownReporter {
		t.Errorf("a stranger vouches: %v", err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestNeverListedAndCanaries(t *testing.T) {
	o := bodies(3, 0)
	o.Never = func(k Key) bool { return k == 8 }
	b := New(o)
	b.say(t, begin, 8, 1, 2, 3)
	if x := b.Explain(8, begin); x.Score != 0 || len(b.list(begin)) != 0 {
		t.Errorf("never listed, yet %d", x.Score)
	}
	b = body(3, 0)
	for _, k := range []Key{21, 22, 23} {
		b.Canary(k)
	}
	bad := func() int64 { return b.people.Load().reporters[1].Bad }
	b.say(t, begin, 21, 1)
	if bad() != canaryFirst {
		t.Errorf("the first canary costs %d", bad())
	}
	b.say(t, begin+60, 22, 1)
	if bad() != canaryFirst {
		t.Errorf("two on one day cost %d", bad())
	}
	b.say(t, begin+daySeconds, 23, 1)
	if bad() != canaryFirst+canaryPenalty {
		t.Errorf("a second canary costs %d in all", bad())
	}
	if len(b.list(begin+daySeconds)) != 0 {
		t.Error("a canary is on the list")
	}
}

func TestBrakeStopsTwoWhoWereTakenOver(t *testing.T) {
	b := body(6, 0)
	for i := range Key(20) {
		b.say(t, begin+int64(i)*60, 1000+i, 1, 2)
	}
	if got := b.list(begin + 1300); len(got) != 0 {
		t.Errorf("%d of 20 are on the list", len(got))
	}
	alarms := b.Alarms()
	if len(alarms) != 1 || alarms[0].Orgs != [2]uint32{1, 2} {
		t.Fatalf("alarms: %+v", alarms)
	}
	if x := b.Explain(1003, begin+1300); !slices.Contains(x.Gates, Braked) {
		t.Errorf("gates %q", x.Gates)
	}
	// A third organisation confirms one of them.
	b.say(t, begin+1400, 1003, 3)
	if got := b.list(begin + 1400); !reflect.DeepEqual(got, []Key{1003}) {
		t.Errorf("the list has %v", got)
	}
	// Six organisations that see the same twenty are not held back.
	b = body(6, 0)
	for i := range Key(20) {
		b.say(t, begin+int64(i)*60, 1000+i, 1, 2, 3, 4, 5, 6)
	}
	if got := len(b.list(begin + 1300)); got != 20 {
		t.Errorf("%d of 20 are on the list", got)
	}
}

func TestLearning(t *testing.T) {
	o := bodies(4, 0)
	o.Orgs = append(o.Orgs, Org{ID: 700, ASN: 70}, Org{ID: 701, ASN: 71})
	o.Reporters = append(o.Reporters, Reporter{ID: 700, Org: 700, Day: day(begin)}, Reporter{ID: 701, Org: 701, Day: day(begin)})
	b := New(o)
	for d := range int64(20) {
		at := begin + d*daySeconds
		b.Tick(at)
		for i := range Key(4) {
			k := 5000 + Key(d)*10 + i
			b.say(t, at+100, k, 700)           // sees it first
			b.say(t, at+3600, k, 1, 2, 3)      // others see it too
			b.say(t, at+3*3600, k, 701)        // copies the list
			b.say(t, at+100, 9_000_000+k, 701) // and makes things up
		}
	}
	b.Tick(begin + 24*daySeconds)
	p := b.people.Load()
	if got := p.reporters[700].Good; got < 50_000 {
		t.Errorf("who saw it first earned %d", got)
	}
	if p.reporters[700].trust < One/2 {
		t.Errorf("and is believed %s", p.reporters[700].trust)
	}
	if got := p.reporters[701].Good; got != 0 {
		t.Errorf("who copied earned %d", got)
	}
}

func TestClearAndRelist(t *testing.T) {
	b := body(3, 0)
	b.say(t, begin, 5, 1, 2)
	b.Clear(5, begin+10, true)
	if got := b.Score(5, begin+10); got != 0 || len(b.list(begin+10)) != 0 {
		t.Errorf("after the appeal: %d", got)
	}
	if got := b.people.Load().reporters[1].Bad; got != appealPenalty {
		t.Errorf("who said it lost %d", got)
	}
	b.say(t, begin+20, 5, 3)
	if x := b.Explain(5, begin+20); len(x.Voices) != 1 {
		t.Errorf("voices after the appeal: %+v", x.Voices)
	}
}

func TestLiftedNetworks(t *testing.T) {
	b := body(3, 0)
	key := func(s string) Key { return KeyOf(netip.MustParseAddr(s)) }
	for i := range 4 {
		if got := b.Score(key("2001:db8:0:f9::1"), begin); got != 0 {
			t.Fatalf("a neighbour has %d after %d", got, i)
		}
		b.say(t, begin, key(fmt.Sprintf("2001:db8:0:f%d::1", i)), 1, 2, 3)
	}
	if got := b.Score(key("2001:db8:0:f9::1"), begin); got != 100 {
		t.Errorf("a neighbour in the same /56 has %d", got)
	}
	if got := b.Score(key("2001:db8:0:1f9::1"), begin); got != 0 {
		t.Errorf("a neighbour in the same /48 has %d", got)
	}
	if got := b.Score(key("2001:db8:0:f9::1"), begin+8*daySeconds); got != 0 {
		t.Errorf("after a week a neighbour has %d", got)
	}
}

// TestSameEvidenceSameScore tells the same in another order, and from rows, and compares every term.
func TestSameEvidenceSameScore(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var said []Report
	for range 3000 {
		said = append(said, Report{Reporter: uint32(r.IntN(6)) + 1, Key: Key(r.IntN(40) + 1), At: begin + r.Int64N(20*daySeconds), Quality: uint8(128 + r.IntN(128)), Cats: 1 << r.IntN(23)})
	}
	tell := func() []*Explanation {
		b := body(6, 0)
		for _, s := range said {
			must(t, b.Ingest(s))
		}
		var all []*Explanation
		for k := range Key(40) {
			x := b.Explain(k+1, begin+20*daySeconds)
			x.Listed, x.Gates, x.Score = false, nil, 0 // the list depends on what came first
			all = append(all, x)
		}
		return all
	}
	first := tell()
	r.Shuffle(len(said), func(i, j int) { said[i], said[j] = said[j], said[i] })
	if second := tell(); !reflect.DeepEqual(first, second) {
		t.Error("another order gives other scores")
	}
}

func TestOldEvidence(t *testing.T) {
	b := body(3, 0)
	b.Tick(begin)
	b.say(t, begin, 5, 1, 2)
	b.say(t, begin+200*daySeconds, 5, 3)
	b.Tick(begin + 201*daySeconds)
	if x := b.Explain(5, begin+201*daySeconds); len(x.Voices) != 1 || x.Voices[0].Reporter != 3 {
		t.Errorf("after 200 days these are still named: %+v", x.Voices)
	}
	s := b.of(5)
	n := 0
	for r := range s.of(s.find(5)) {
		n += r.count()
	}
	if n != 3 {
		t.Errorf("%d reports are counted, want 3", n)
	}
	b.Tick(begin + 700*daySeconds)
	if s.find(5) != nil || s.used != 0 {
		t.Error("it is not forgotten")
	}
}

func TestRowsHaveABound(t *testing.T) {
	var s shard
	e := s.place(77)
	for d := range uint16(countsKept) {
		for who := range uint32(20) {
			s.add(e, row{reporter: who + 1, day: d, when: whenOf(int64(d), 2)})
		}
	}
	s.shorten(0, 0)
	n, count := 0, 0
	for r := range s.of(s.find(77)) {
		n++
		count += r.count()
	}
	if n > maxRows+countsKept || count != 2*20*countsKept {
		t.Errorf("%d rows with %d reports", n, count)
	}
}

func TestTableFindsAll(t *testing.T) {
	var s shard
	r := rand.New(rand.NewPCG(3, 4))
	want := map[Key]int{}
	for range 20_000 {
		k := Key(r.Uint64N(9_000) + 1)
		s.add(s.place(k), row{reporter: uint32(r.IntN(3)) + 1, day: uint16(r.IntN(5)), when: whenOf(0, 1)})
		want[k]++
	}
	for range 2 {
		for k, n := range want {
			got := 0
			last := row{}
			for r := range s.of(s.find(k)) {
				got += r.count()
				if last.reporter > r.reporter || last.reporter == r.reporter && last.day <= r.day {
					t.Fatalf("the rows of %d are out of order", k)
				}
				last = *r
			}
			if got != n {
				t.Fatalf("%d has %d reports, want %d", k, got, n)
			}
		}
		s.shorten(0, 0)
	}
	if s.find(1<<40) != nil {
		t.Error("found what is not there")
	}
}
