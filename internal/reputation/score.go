package reputation

import (
	"cmp"
	"slices"
)

// What evidence is worth.
const (
	halfLife      = 3 * daySeconds // of a report of somebody who saw one day of it
	sharedHalf    = daySeconds     // at most, where many people share the address
	voucherHalf   = 7 * daySeconds // of a word for an address
	voucherAlone  = One * 3 / 10   // what one organisation's word takes away at most
	probationMost = One / 2        // what all probationers of little trust say together
	feedMost      = One
	anchorScore   = 74 // what cannot be passed without an admitted organisation, or where it is a shared address
	listScore     = 100
	keepScore     = 80 // a key on the list stays while it has that much
	heard         = One / 20
)

// lives are half-lives by the days on which a reporter saw attacks: 3 days · min(4, 1+log2(days)), in seconds.
var lives = [8]int64{259200, 518400, 670022, 777600, 861044, 929222, 986866, 1036800}

// rhythm is how often an address attacks, as believed reporters saw it. One that was reported five times a day and is
// silent for two days has ended; one that was reported every third day has not.
type rhythm struct {
	first, last int64
	days        int64 // that somebody reported it on: each reporter has its own
}

const (
	believed  = One / 2 // trust from which on a reporter sets the rhythm: strangers may not make evidence fade
	rhythmOf  = 4       // reports on days that make one
	beats     = 4       // mean gaps that make a half-life
	shortLife = daySeconds
)

func (h *rhythm) hear(at int64) {
	if h.days == 0 || at < h.first {
		h.first = at
	}
	h.last = max(h.last, at)
	h.days++
}

// life is the longest half-life that fits.
func (h *rhythm) life() int64 {
	longest := lives[len(lives)-1]
	if h.days < rhythmOf {
		return longest
	}
	return max(shortLife, min(longest, beats*(h.last-h.first)/(h.days-1)))
}

// Explanation is how a score came about, term by term. Everything that is not in it has no influence.
type Explanation struct {
	Key       Key
	At        int64 // Unix seconds
	Voices    []Voice
	Orgs      []OrgVoice
	Strangers Points // what probationers of little trust gave together, after the cut
	Feeds     Points // what other people's lists gave, after the cut
	Vouchers  []VoucherTerm
	Against   Points // what vouchers took, after the cut
	Sum       Points // P
	Curve     int    // the score before gates
	Gates     []Gate
	Listed    bool
	Score     int

	shared bool
}

// Voice is what one reporter says: newest report, quality, trust, half-life, and what comes of them.
type Voice struct {
	Reporter uint32
	Org      uint32
	Last     int64
	Days     int
	Quality  uint8
	HalfLife int64
	Trust    Points
	Weight   Points
	cats     uint32
}

// OrgVoice is what one organisation says, all its reporters together: the best, and a quarter of the others.
type OrgVoice struct {
	Org       uint32
	Kind      Kind
	Together  Points
	Diversity Points // what is left of it because others of its network, country or sponsor spoke; One: all
	Counts    Points
}

// VoucherTerm is one organisation's word for an address.
type VoucherTerm struct {
	Org   uint32
	Last  int64
	Takes Points
}

// Gate is a reason why a score is not what the curve says.
type Gate string

// The gates.
const (
	OneOrg      Gate = "one organisation"
	OneNetwork  Gate = "one network"
	NoAnchor    Gate = "no admitted organisation"
	SharedGate  Gate = "shared address"
	HonestUse   Gate = "used honestly for long: three organisations are needed"
	Braked      Gate = "held back: unusually many from the same two organisations"
	OnTheList   Gate = "on the list until it falls below 80"
	NeverListed Gate = "never listed"
	Lifted      Gate = "in a network with many listed networks"
)

// judge works a score out. It is the one place that does. The slices of x are used again.
func (x *Explanation) judge(p *people, s *shard, e *entry, now int64) {
	x.clear(e.key, now)
	x.gather(p, s, e, now, 0)
	x.assemble(p)
	x.total(p, s, e, now)
}

func (x *Explanation) clear(k Key, now int64) {
	*x = Explanation{Key: k, At: now, Voices: x.Voices[:0], Orgs: x.Orgs[:0], Vouchers: x.Vouchers[:0], Gates: x.Gates[:0]}
}

// gather makes a voice of the rows of each reporter, but for those of one organisation; 0: of all.
func (x *Explanation) gather(p *people, s *shard, e *entry, now int64, except uint32) {
	var of *reporter
	var beat rhythm
	cleared := s.cleared[e.key]
	for r := range s.of(e) {
		if of == nil || of.ID != r.reporter {
			of = p.reporters[r.reporter]
			if of == nil || of.org.ID == except || r.at() <= cleared {
				of = nil // rows are by time: those that follow are older
				continue
			}
			x.Voices = append(x.Voices, Voice{Reporter: of.ID, Org: of.org.ID, Last: r.at(), Quality: r.quality, Trust: of.trust, cats: r.cats})
		}
		if r.at() > cleared {
			v := &x.Voices[len(x.Voices)-1]
			v.Days++
			v.cats |= r.cats
			if of.trust >= believed {
				beat.hear(r.at())
			}
		}
	}
	most := beat.life()
	if x.shared = e.state&shared != 0 || mixed(s.vouched[e.key], p, now); x.shared {
		most = sharedHalf
	}
	for i := range x.Voices {
		v := &x.Voices[i]
		v.HalfLife = min(most, lives[min(v.Days, len(lives))-1])
		v.Weight = v.Trust.times(halved(per(max(0, now-v.Last), v.HalfLife))) * Points(v.Quality) / 255
	}
}

// assemble makes one voice of each organisation, and takes from strangers what could be one person's many names.
func (x *Explanation) assemble(p *people) {
	slices.SortFunc(x.Voices, func(a, b Voice) int {
		return cmp.Or(cmp.Compare(a.Org, b.Org), cmp.Compare(b.Weight, a.Weight), cmp.Compare(a.Reporter, b.Reporter))
	})
	for i, v := range x.Voices {
		if i == 0 || x.Voices[i-1].Org != v.Org {
			x.Orgs = append(x.Orgs, OrgVoice{Org: v.Org, Kind: p.reporters[v.Reporter].org.Kind, Together: v.Weight})
			continue
		}
		o := &x.Orgs[len(x.Orgs)-1]
		o.Together += v.Weight / 4
	}
	slices.SortFunc(x.Orgs, func(a, b OrgVoice) int {
		return cmp.Or(cmp.Compare(b.Together, a.Together), cmp.Compare(a.Org, b.Org))
	})
	for i := range x.Orgs {
		o := &x.Orgs[i]
		o.Together = min(One, o.Together)
		o.Diversity = One
		if o.Kind == Probation {
			o.Diversity = x.diversity(p, i)
		}
		o.Counts = o.Together.times(o.Diversity)
	}
}

// diversity is what a stranger's word keeps beside those of the stronger strangers before it.
func (x *Explanation) diversity(p *people, i int) Points {
	d := One
	me := p.org(x.Orgs[i].Org)
	for _, o := range x.Orgs[:i] {
		if o.Kind != Probation {
			continue
		}
		other := p.org(o.Org)
		if me.ASN == other.ASN {
			d /= 2
		}
		if me.Country == other.Country {
			d = d * 9 / 10
		}
		if me.Sponsor != 0 && (me.Sponsor == other.Sponsor || me.Sponsor == other.ID) || other.Sponsor == me.ID {
			d /= 2
		}
	}
	return d
}

// total adds up and asks the gates.
func (x *Explanation) total(p *people, s *shard, e *entry, now int64) {
	var sum, little, feeds Points
	anchors, strong := 0, 0
	var networks []uint32
	for _, o := range x.Orgs {
		switch {
		case o.Kind == Feed:
			feeds += o.Counts
			continue
		case o.Kind == Probation && o.Counts < One/2:
			little += o.Counts
		default:
			sum += o.Counts
		}
		if o.Together < heard {
			continue
		}
		strong++
		if o.Kind == Admitted {
			anchors++
		} else {
			if asn := p.org(o.Org).ASN; !slices.Contains(networks, asn) {
				networks = append(networks, asn)
			}
		}
	}
	x.Strangers, x.Feeds = min(little, probationMost), min(feeds, feedMost)
	sum += x.Strangers + x.Feeds
	honest := x.vouch(s.vouched[e.key], p, now, sum)
	x.Sum = sum - x.Against
	x.Curve = score(x.Sum)
	x.Score = x.Curve
	x.Listed = e.state&listed != 0
	x.gate(strong < 2, OneOrg)
	x.gate(anchors == 0 && len(networks) < 2, OneNetwork)
	x.gate(anchors == 0, NoAnchor)
	x.gate(x.shared, SharedGate)
	x.gate(honest && strong < 3 && !x.Listed, HonestUse)
	x.gate(e.state&held != 0, Braked)
	if x.Listed && len(x.Gates) == 0 && x.Score >= keepScore && x.Score < listScore {
		x.Gates, x.Score = append(x.Gates, OnTheList), listScore
	}
}

func (x *Explanation) gate(shut bool, g Gate) {
	if shut && x.Curve > anchorScore {
		x.Gates = append(x.Gates, g)
		x.Score = min(x.Score, anchorScore)
	}
}

func (p *people) org(id uint32) *Org {
	if o := p.orgs[id]; o != nil {
		return o
	}
	return &Org{ID: id}
}
