package reputation

import (
	"math"
	"slices"
)

// Org is one body that reports: an association, a company. Kind says how far a human vouches for it.
type Org struct {
	ID      uint32
	Kind    Kind
	ASN     uint32  // of the network that it reports from; 0: unknown
	Country [2]byte // of that network; zero: unknown
	Sponsor uint32  // the organisation that brought it; 0: none
}

// Kind is how an organisation came.
type Kind uint8

// The kinds. A probationer came by itself; an admitted one is known to a human as a body of its own; a feed is somebody
// else's list, which helps this hub's own users alone and is never handed on.
const (
	Probation Kind = iota
	Admitted
	Feed
)

// Reporter is one voice of an organisation: a key. Good and Bad are what it earned, in thousandths, as of Day.
type Reporter struct {
	ID        uint32
	Org       uint32
	Good, Bad int64
	Day       uint16
}

// people are all who report, as one value that does not change: scores are worked out against one of them.
type people struct {
	orgs      map[uint32]*Org
	reporters map[uint32]*reporter
}

type reporter struct {
	Reporter
	org   *Org
	trust Points
}

// Trust as SCORING has it: counters of a Beta distribution with the prior 1 good, 6 bad; what counts is the mean less one
// standard deviation, of which 0.8 is full trust. An admitted organisation begins at a floor, which sinks when it errs.
const (
	priorGood, priorBad = 1000, 6000
	admittedFloor       = One * 3 / 4
	erredFloor          = One / 5
	erredBad            = 8000
)

// trust is how far a reporter with these counters is believed, between 0 and 1.
func trust(kind Kind, good, bad int64) Points {
	a, b := float64(priorGood+good)/1000, float64(priorBad+bad)/1000
	n := a + b
	mean := a / n
	// Conversions keep a machine from fusing a multiplication and an addition, which rounds differently.
	deviation := math.Sqrt(float64(a*b) / float64(float64(n*n)*float64(n+1)))
	t := max(0, min(1, float64(mean-deviation)/0.8))
	points := Points(t*float64(1<<16)) << 16
	switch {
	case kind == Feed:
		return One
	case kind == Admitted && bad > erredBad:
		return max(points, erredFloor)
	case kind == Admitted:
		return max(points, admittedFloor)
	}
	return points
}

// fade takes 0.7 % a day off what was earned, good and bad.
func fade(v int64, days int) int64 {
	for range min(days, 3650) {
		v -= v * 7 / 1000
	}
	return v
}

func newPeople(orgs []Org, reporters []Reporter) *people {
	p := &people{orgs: make(map[uint32]*Org, len(orgs)), reporters: make(map[uint32]*reporter, len(reporters))}
	for i := range orgs {
		o := orgs[i]
		p.orgs[o.ID] = &o
	}
	for _, r := range reporters {
		p.reporters[r.ID] = p.newReporter(r)
	}
	return p
}

func (p *people) newReporter(r Reporter) *reporter {
	org := p.orgs[r.Org]
	if org == nil {
		org = &Org{ID: r.Org}
	}
	return &reporter{Reporter: r, org: org, trust: trust(org.Kind, r.Good, r.Bad)}
}

// list gives the reporters in the order of their numbers.
func (p *people) list() []*reporter {
	all := make([]*reporter, 0, len(p.reporters))
	for _, r := range p.reporters {
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b *reporter) int { return int(int64(a.ID) - int64(b.ID)) })
	return all
}
