package daemon

import (
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"slices"
	"sync"
	"time"

	"tocsin/internal/api"
	"tocsin/internal/reputation"
	"tocsin/internal/store"
)

func (h *hub) operations() api.HubOperations {
	return api.HubOperations{
		URL: h.o.URL, Now: h.now, Down: h.store.Down, Who: h.who,
		Spend: func(m *api.HubMember, endpoint string) api.HubSpent {
			return h.member(m.ID).spend(endpoint, h.now(), true)
		},
		Left: func(m *api.HubMember, endpoint string) api.HubSpent {
			return h.member(m.ID).spend(endpoint, h.now(), false)
		},
		Check: h.check, Reports: h.reports, Block: h.block, Blacklist: h.blacklist, Report: h.report, Clear: h.clear,
	}
}

// who finds the member of a key by its hash: how long that takes says nothing of other keys.
func (h *hub) who(key string) *api.HubMember {
	if key == "" {
		return nil
	}
	hash := sha256.Sum256([]byte(key))
	h.mu.RLock()
	defer h.mu.RUnlock()
	if m := h.byHash[hash]; m != nil {
		return &m.HubMember
	}
	return nil
}

func (h *hub) check(a netip.Addr, since time.Time) (api.HubCheck, error) {
	key := reputation.KeyOf(a)
	t := h.book.Total(key, since.Unix())
	c := api.HubCheck{Score: h.book.Score(key, h.now().Unix()), Whitelisted: isNever(key), Reports: t.Reports, Distinct: t.Reporters}
	if t.Last != 0 {
		c.Last = time.Unix(t.Last, 0)
	}
	if api.IsPublic(a) {
		c.Country, c.Land = h.lands.of(a)
	}
	return c, nil
}

func (h *hub) reports(a netip.Addr, since time.Time, limit, offset int) ([]api.HubTold, int, error) {
	rows, total, err := h.store.Reports(uint64(reputation.KeyOf(a)), since.Unix(), limit, offset)
	page := make([]api.HubTold, len(rows))
	for i, r := range rows {
		page[i] = api.HubTold{At: time.Unix(r.At, 0), Comment: r.Comment, Categories: categoriesIn(r.Cats)}
		if m := h.member(r.Reporter); m != nil {
			page[i].Reporter, page[i].Country = m.pseudonym, m.country
		}
	}
	return page, total, err
}

func categoriesIn(cats uint32) []int {
	ids := []int{}
	for id := range 32 {
		if cats&(1<<id) != 0 {
			ids = append(ids, id)
		}
	}
	return ids
}

// maxBlock bounds what is told of one network: a /16 has so many addresses.
const maxBlock = 1 << 16

func (h *hub) block(p netip.Prefix, since time.Time) ([]api.HubListed, error) {
	first := p.Addr()
	low := reputation.KeyOf(first)
	high := low
	if free := 32 - p.Bits(); first.Is4() {
		high |= 1<<free - 1
	} else if free = 64 - p.Bits(); free > 0 {
		high |= 1<<free - 1
	}
	totals, err := h.store.Span(uint64(low), uint64(high), since.Unix(), maxBlock)
	if err != nil {
		return nil, err
	}
	now := h.now().Unix()
	found := make([]api.HubListed, 0, len(totals))
	for _, t := range totals {
		key := reputation.Key(t.Key)
		l := api.HubListed{Addr: h.shown(key), Score: h.book.Score(key, now), Reports: t.Reports, Last: time.Unix(t.Last, 0)}
		if !p.Contains(l.Addr) { // another part of the same /64
			continue
		}
		l.Country, _ = h.lands.of(l.Addr)
		found = append(found, l)
	}
	return found, nil
}

// shown is the address that stands for a key where no network may: of IPv6 the one that was reported last.
func (h *hub) shown(k reputation.Key) netip.Addr {
	a := k.Prefix().Addr()
	if k.Is4() {
		return a
	}
	if last, ok, err := h.store.LastAddr(uint64(k)); ok && err == nil {
		return last
	}
	return a
}

// hubList is a blacklist, as it was made last.
type hubList struct {
	mu   sync.Mutex
	all  []api.HubListed
	made time.Time
	told uint64
	cost time.Duration
}

// How long a list is handed out again although something changed: so many times what it cost to make it; and at most so
// long where nothing changed, for evidence fades.
const (
	listRests = 20
	listOld   = time.Minute
)

// anyScore is the least score that may be asked for.
const anyScore = 25

// blacklist gives addresses of a score, the highest first and of those the newest.
func (h *hub) blacklist(q api.HubListQuery) ([]api.HubListed, time.Time, error) {
	l, least := &h.lists[0], 100
	if q.Least < 100 {
		l, least = &h.lists[1], anyScore
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now, told := h.now(), h.told.Load()
	if age := now.Sub(l.made); l.made.IsZero() || age < 0 || age > listOld || told != l.told && age > listRests*l.cost {
		h.makeList(l, least, now)
		l.told = told
	}
	if q.Version == 0 && len(q.Only) == 0 && len(q.Except) == 0 && q.Least == least {
		return l.all[:min(len(l.all), q.Limit)], l.made, nil
	}
	var list []api.HubListed
	for i := range l.all {
		e := &l.all[i]
		switch {
		case len(list) == q.Limit || e.Score < q.Least: // the highest come first
			return list, l.made, nil
		case q.Version == 4 && e.Addr.Is6(), q.Version == 6 && e.Addr.Is4(),
			len(q.Only) > 0 && !slices.Contains(q.Only, e.Country), slices.Contains(q.Except, e.Country):
			continue
		}
		list = append(list, *e)
	}
	return list, l.made, nil
}

// makeList makes a list anew. Lists that were handed out are not touched.
func (h *hub) makeList(l *hubList, least int, now time.Time) {
	began := time.Now()
	var found []reputation.Listed
	h.book.List(least, now.Unix(), func(e reputation.Listed) { found = append(found, e) })
	slices.SortFunc(found, func(a, b reputation.Listed) int {
		return cmp.Or(cmp.Compare(b.Score, a.Score), cmp.Compare(b.Last, a.Last), cmp.Compare(a.Key, b.Key))
	})
	l.all = make([]api.HubListed, len(found))
	for i, e := range found {
		a := h.shown(e.Key)
		country, _ := h.lands.of(a)
		l.all[i] = api.HubListed{Addr: a, Country: country, Score: e.Score, Last: time.Unix(e.Last, 0)}
	}
	l.made, l.cost = now, time.Since(began)
}

// testAddress may be reported as often as a client's tests like.
var testAddress = netip.MustParseAddr("127.0.0.1")

// report takes what came in by APIv2.
func (h *hub) report(m *api.HubMember, reports []api.HubReport) ([]bool, error) {
	now := h.now()
	in := make([]store.HubReport, len(reports))
	for i, r := range reports {
		at := r.At
		if at.IsZero() {
			at = now
		}
		key := reputation.KeyOf(r.Addr)
		in[i] = store.HubReport{ID: newReportID(now), Reporter: m.ID, Key: uint64(key), Addr: r.Addr, At: at.Unix(), Received: now.Unix(),
			Quality: qualityOf(r.Categories), Public: h.book.Public(key, at.Unix()), Comment: r.Comment, Always: r.Addr == testAddress}
		for _, id := range r.Categories {
			in[i].Cats |= 1 << id
		}
	}
	kept, err := h.ingest(in)
	if err != nil {
		return nil, err
	}
	duplicate := make([]bool, len(kept))
	for i, k := range kept {
		duplicate[i] = k == store.KeptDuplicate
	}
	return duplicate, nil
}

// ingest is the only way for reports into the hub: to the disk, then to the book. The same ID twice is one report.
func (h *hub) ingest(reports []store.HubReport) ([]store.Kept, error) {
	h.intake.RLock()
	defer h.intake.RUnlock()
	kept, err := h.store.Put(reports)
	if err != nil {
		return nil, err
	}
	for i := range reports {
		if kept[i] != store.KeptNew {
			continue
		}
		r := &reports[i]
		if err := h.book.Ingest(reputation.Report{Reporter: r.Reporter, Key: reputation.Key(r.Key), At: r.At, Quality: r.Quality, Cats: r.Cats}); err != nil {
			h.log.Error("a report is kept and counts after a restart only", "err", err)
		}
	}
	h.told.Add(1)
	return kept, nil
}

// newReportID is a number that nobody else gives: milliseconds, then chance, so that the newest are neighbours on the disk.
func newReportID(now time.Time) (id [16]byte) {
	binary.BigEndian.PutUint64(id[:], uint64(now.UnixMilli())<<16)
	_, _ = rand.Read(id[6:]) // it never fails (crypto/rand)
	return id
}

// Qualities of evidence, in 255ths.
const (
	sawSession = 255 // a login or a request was seen, so that the source was not forged
	noDetail   = 128
	forgeable  = 0
)

// answered are the categories of abuse that needs an answered connection; spoofed are those that a packet with somebody else's
// address would be taken for.
var (
	answered = []int{3, 5, 7, 8, 10, 11, 12, 16, 18, 19, 21, 22}
	spoofed  = []int{4, 6, 14, 17}
)

// qualityOf is what a report is worth by its categories.
func qualityOf(ids []int) uint8 {
	quality := uint8(forgeable)
	for _, id := range ids {
		switch {
		case slices.Contains(answered, id):
			return sawSession
		case !slices.Contains(spoofed, id):
			quality = noDetail
		}
	}
	return quality
}

// clear takes back what a member said of an address, or of the /64 of one of IPv6, which has one score.
func (h *hub) clear(m *api.HubMember, a netip.Addr) (int, error) {
	h.intake.Lock() // a report of it that is on its way must not come into the book behind it
	defer h.intake.Unlock()
	key := reputation.KeyOf(a)
	n, err := h.store.Retract(m.ID, uint64(key))
	if err != nil {
		return 0, err
	}
	h.book.Retract(m.ID, key, h.now().Unix())
	h.told.Add(1)
	return n, nil
}
