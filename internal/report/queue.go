package report

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"tocsin"
	"tocsin/internal/abuseipdb"
)

// The rules of time.
const (
	between     = 15 * time.Minute      // two reports of one address, the server's rule
	window      = between - time.Minute // in which a lost attempt is repeated; the rest is for the call itself
	sameWithin  = day                   // the server merges equal reports
	giveUp      = day
	bulkWait    = 30 * time.Minute // how long more than fits may gather before a bulk report
	sweepEvery  = time.Minute
	bulkRows    = 8_999     // 9,000 lines with the headings
	bulkBytes   = 1_900_000 // the server takes 2 MB
	bulkCalls   = 5         // a day, until told otherwise
	repeatAfter = 45 * time.Second
	maxSent     = 500_000 // addresses whose last report is remembered
)

// Queue is the rules: pure, without clock, I/O and goroutine. Time is given to it, may not go backwards, and need not be right
// as long as it goes at the right speed. What changed has to be fetched with Changes and kept before what Next said is sent.
type Queue struct {
	o         Options
	all       map[netip.Prefix]*entry
	following int // entries with a Next
	sent      map[netip.Prefix]tocsin.SentReport
	l         *lines

	cursor    int64
	stopped   int       // status that stopped us; 0: none
	seen      time.Time // until then every decision of the guard is known
	skew      time.Duration
	skewKnown bool // heard since the start
	single    endpoint
	bulk      endpoint
	over      time.Time // since when more is ready than fits; zero: it fits
	swept     time.Time
	counts    [counters]int64

	saved   map[string]int64 // numbers as kept
	dirty   map[netip.Prefix]bool
	gone    map[netip.Addr]bool
	told    []tocsin.SentReport
	refused []tocsin.RefusedReport
	forget  time.Time
}

// New makes a queue out of what was kept. An attempt without an answer is taken for one whose answer was lost.
func New(o Options, s tocsin.ReportState, now time.Time) (*Queue, error) {
	o, err := o.checked()
	if err != nil {
		return nil, fmt.Errorf("reports: %w", err)
	}
	q := &Queue{o: o, l: newLines(), saved: s.Numbers,
		all:   make(map[netip.Prefix]*entry, len(s.Queued)),
		sent:  make(map[netip.Prefix]tocsin.SentReport, len(s.Sent)),
		dirty: make(map[netip.Prefix]bool), gone: make(map[netip.Addr]bool)}
	if q.saved == nil {
		q.saved = make(map[string]int64)
	}
	q.load(q.saved)
	for _, r := range s.Sent {
		if k := keyOf(r.Addr); !q.sent[k].At.After(r.At) {
			q.sent[k] = r
		}
	}
	for i := range s.Queued {
		e := &entry{QueuedReport: s.Queued[i]}
		if q.all[keyOf(e.Addr)] != nil {
			q.gone[e.Addr] = true
			continue
		}
		q.all[keyOf(e.Addr)] = e
		if !e.Next.Queued.IsZero() {
			q.following++
		}
		q.wait(now, e)
	}
	clear(q.dirty)
	q.sweep(now)
	return q, nil
}

// Cursor is the number of the last decision taken in; the guard is asked for those behind it. 0: none ever was.
func (q *Queue) Cursor() int64 { return q.cursor }

// Begin sets the cursor of a queue that has none: decisions up to n are not reported.
func (q *Queue) Begin(n int64) {
	if q.cursor == 0 {
		q.cursor = n
	}
}

// Take takes in decisions, in the order of their numbers; those at or before the cursor are known already. complete says that
// the guard had no more at now: only then do holds end, so that no unban is overlooked.
func (q *Queue) Take(now time.Time, ds []Decision, complete bool) {
	for i := range ds {
		d := &ds[i]
		if d.N <= q.cursor {
			continue
		}
		q.cursor = d.N
		if d.Action == tocsin.Unban {
			q.unban(now, d.Prefix)
			continue
		}
		addr, why := q.o.Eligible(d, now)
		if why == unasked { // it will be, before anything is sent
			why = Yes
		}
		q.counts[skippedFirst+counter(why)]++
		if why == Yes {
			q.add(now, addr, d.report(q.o.Jails[d.Jail], now), q.o.Hold)
		}
	}
	if complete {
		q.seen = now
	}
}

// report is what a decision says, in numbers.
func (d *Decision) report(j Jail, now time.Time) tocsin.Report {
	first, last := d.First, d.Last
	if last.IsZero() || last.After(now) {
		last = now
	}
	if first.IsZero() || first.After(last) {
		first = last
	}
	all := slices.Clone(j.Categories)
	slices.Sort(all)
	return tocsin.Report{Categories: slices.Compact(all), Service: uint8(ServiceOf(d.Jail, j.Categories)), Failures: d.Failures,
		First: first, Last: last, Queued: now}
}

// ByHand queues a report that an operator asks for. It is not held, but nobody is reported who must not be: then why says so.
// The error is about the categories.
func (q *Queue) ByHand(now time.Time, addr netip.Addr, categories []int) (why Why, err error) {
	addr = addr.Unmap().WithZone("")
	switch {
	case !addr.IsValid():
		return NoAddress, nil
	case !public(addr):
		return NotPublic, nil
	}
	if err := abuseipdb.CheckCategories(categories); err != nil {
		return Yes, err
	}
	if why := q.o.Spare(keyOf(addr)); why != Yes {
		return why, nil
	}
	all := slices.Clone(categories)
	slices.Sort(all)
	q.add(now, addr, tocsin.Report{Categories: slices.Compact(all), First: now, Last: now, Queued: now}, 0)
	q.counts[byHand]++
	return Yes, nil
}

// add puts a report into the queue, or adds it to the one of the same address.
func (q *Queue) add(now time.Time, addr netip.Addr, r tocsin.Report, hold time.Duration) {
	k := keyOf(addr)
	e := q.all[k]
	switch {
	case e == nil && len(q.all) >= q.o.Most:
		q.counts[overflow]++
		return
	case e == nil:
		e = &entry{QueuedReport: tocsin.QueuedReport{Addr: addr, Report: r}}
		q.all[k] = e
	case e.line == nil || e.unsure():
		if e.Next.Queued.IsZero() {
			q.following++
		} else {
			q.counts[merged]++
		}
		e.Next = merge(e.Next, r)
		if t := now.Add(hold); hold > 0 && t.After(e.Hold) {
			e.Hold = t
		}
		q.dirty[k] = true
		return
	default:
		q.counts[merged]++
		e.Report = merge(e.Report, r)
	}
	if t := now.Add(hold); hold > 0 && t.After(e.Hold) {
		e.Hold = t
	}
	q.wait(now, e)
}

// wait puts an entry into the line where it belongs now.
func (q *Queue) wait(now time.Time, e *entry) {
	k := keyOf(e.Addr)
	e.leave()
	q.dirty[k] = true
	if !e.unsure() && !e.Hold.IsZero() {
		q.l.held.add(e)
		return
	}
	if last, ok := q.sent[k]; ok && !e.unsure() {
		if t := last.At.Add(between); t.After(e.Due) {
			e.Due = t
		}
	}
	if e.Due.After(now) {
		q.l.later.add(e)
		return
	}
	q.l.ready[q.rank(e)].add(e)
}

func (q *Queue) rank(e *entry) int {
	switch {
	case e.unsure() && e.Bulk:
		return bulkAgain
	case e.unsure():
		return again
	case abuseipdb.Severe(e.Categories):
		return severe
	}
	return ordinary
}

// unban drops the reports about a prefix that were not sent yet.
func (q *Queue) unban(now time.Time, p netip.Prefix) {
	if !p.IsValid() {
		return
	}
	if k := keyOf(p.Addr()); p.IsSingleIP() || p == k {
		if e := q.all[k]; e != nil {
			q.withdraw(now, e)
		}
		return
	}
	for _, e := range q.all {
		if p.Overlaps(keyOf(e.Addr)) {
			q.withdraw(now, e)
		}
	}
}

// Forget drops what was not sent yet about an address, and says whether there was anything.
func (q *Queue) Forget(now time.Time, addr netip.Addr) bool {
	e := q.all[keyOf(addr.Unmap().WithZone(""))]
	if e != nil {
		q.withdraw(now, e)
	}
	return e != nil
}

// next takes what came up behind an attempt out of an entry; it may be nothing.
func (q *Queue) next(e *entry) tocsin.Report {
	r := e.Next
	if !r.Queued.IsZero() {
		q.following--
	}
	e.Next = tocsin.Report{}
	return r
}

// withdraw drops an entry, or what of it was not sent.
func (q *Queue) withdraw(now time.Time, e *entry) {
	switch {
	case e.line == nil || e.unsure() && !e.Withdrawn:
		if !q.next(e).Queued.IsZero() {
			q.counts[withdrawn]++
		}
		e.Withdrawn = true
		q.dirty[keyOf(e.Addr)] = true
		if e.line != nil {
			q.concluded(now, e, unknown)
		}
	case !e.unsure():
		q.remove(e, withdrawn)
	}
}

// remove takes an entry out of the queue and counts why.
func (q *Queue) remove(e *entry, why counter) {
	q.drop(e)
	q.counts[why]++
}

func (q *Queue) drop(e *entry) {
	k := keyOf(e.Addr)
	e.leave()
	delete(q.all, k)
	delete(q.dirty, k)
	q.gone[e.Addr] = true
}

// concluded ends an attempt: the server has the report, or may have it, or had one already.
func (q *Queue) concluded(now time.Time, e *entry, how counter) {
	q.counts[how]++
	k := keyOf(e.Addr)
	last := tocsin.SentReport{Addr: e.Addr, At: now}
	switch how {
	case sentOne, sentBulk:
		last.Same = sameness(e.Report)
	case unknown:
		last.At = e.Tried.Add(between - window)
	}
	q.sent[k] = last
	q.told = append(q.told, last)
	next := q.next(e)
	if next.Queued.IsZero() {
		q.drop(e)
		return
	}
	e.QueuedReport = tocsin.QueuedReport{Addr: e.Addr, Report: next, Hold: e.Hold}
	q.wait(now, e)
}

// Advance moves everything on to now. Next does it too.
func (q *Queue) Advance(now time.Time) {
	if now.Sub(q.swept) >= sweepEvery {
		q.sweep(now)
	}
	q.single.roll(now)
	q.bulk.roll(now)
	for e := q.l.held.first(); e != nil && !e.Hold.After(now) && !e.Hold.After(q.seen); e = q.l.held.first() {
		e.Hold = time.Time{}
		q.wait(now, e)
	}
	for e := q.l.later.first(); e != nil && !e.Due.After(now); e = q.l.later.first() {
		q.wait(now, e)
	}
}

// sweep ends what has waited too long.
func (q *Queue) sweep(now time.Time) {
	q.swept = now
	for _, e := range q.all {
		q.expire(now, e)
	}
	for k, s := range q.sent {
		if age := now.Sub(s.At); age >= sameWithin || len(q.sent) > maxSent && age >= between {
			delete(q.sent, k)
		}
	}
	q.forget = now.Add(-sameWithin)
}

// expire ends an entry if its time is over, and says whether it did.
func (q *Queue) expire(now time.Time, e *entry) bool {
	switch {
	case e.line == nil:
		return false
	case e.unsure() && (e.Withdrawn || now.Sub(e.Attempt) >= window):
		q.concluded(now, e, unknown)
		return true
	case !e.unsure() && now.Sub(e.Queued) >= giveUp:
		q.remove(e, givenUp)
		return true
	}
	return false
}

// Job is what has to be sent now: one report, or several as a bulk report.
type Job struct {
	Bulk    bool
	Reports []Out

	entries []*entry
	before  []time.Time // each one's Attempt before this one
}

// Out is one report as it leaves.
type Out struct {
	Addr       netip.Addr
	Categories []int
	Comment    string
	At         time.Time // on the server's clock as far as that is known, to the minute; zero: now
}

// Next says what to send now, and has written that it is being sent. The job is empty if there is nothing; wake is when to ask
// again, if nothing happens before. Every job must be followed by one Answer before Next is called again.
func (q *Queue) Next(now time.Time) (j Job, wake time.Time) {
	q.Advance(now)
	wake = now.Add(sweepEvery)
	if e := q.l.held.first(); e != nil && e.Hold.After(now) {
		wake = soonest(wake, e.Hold)
	}
	if e := q.l.later.first(); e != nil {
		wake = soonest(wake, e.Due)
	}
	if q.stopped != 0 {
		return j, wake
	}
	switch es, known := q.rows(now, q.forBulk(now)); {
	case !known:
		return j, now
	case len(es) > 0:
		return q.attempt(now, es, true), wake
	}
	for _, t := range q.turns(now) {
		if t.at.After(now) {
			if len(q.l.ready[t.rank].all) > 0 {
				wake = soonest(wake, t.at)
			}
			continue
		}
		if e := q.pick(now, t.rank); e != nil {
			return q.attempt(now, []*entry{e}, false), wake
		}
		if len(q.l.ready[t.rank].all) > 0 { // Spare is to be asked about the first of them
			return j, now
		}
	}
	return j, wake
}

// turn is when the ready entries of a rank may be sent one by one.
type turn struct {
	rank int
	at   time.Time
}

func (q *Queue) turns(now time.Time) [3]turn {
	opens := q.single.opens(now)
	return [3]turn{{again, opens}, {severe, opens}, {ordinary, q.single.spread(now)}}
}

// Ahead tells whom Next is about to send something of: the prefixes that it will ask Spare about, unless something changes.
// Who cannot answer at once asks before, and has Spare answer unasked for all others.
func (q *Queue) Ahead(now time.Time) (ps []netip.Prefix) {
	q.Advance(now)
	if q.stopped != 0 {
		return nil
	}
	for _, rank := range q.forBulk(now) {
		for _, e := range q.l.ready[rank].soonest(bulkRows - len(ps)) {
			ps = append(ps, keyOf(e.Addr))
		}
	}
	if len(ps) > 0 {
		return ps
	}
	for _, t := range q.turns(now) {
		if e := q.l.ready[t.rank].first(); e != nil && !t.at.After(now) {
			ps = append(ps, keyOf(e.Addr))
		}
	}
	return ps
}

// pick finds the first entry of a rank that may still be sent; nil if there is none, or nobody knows yet.
func (q *Queue) pick(now time.Time, rank int) *entry {
	for {
		e := q.l.ready[rank].first()
		if e == nil {
			return nil
		}
		if fit, known := q.fit(now, e); !known {
			return nil
		} else if fit {
			return e
		}
	}
}

// fit says whether an entry that is ready may be sent; if not, it is no longer there. That is not known while Spare is to be
// asked.
func (q *Queue) fit(now time.Time, e *entry) (fit, known bool) {
	k := keyOf(e.Addr)
	if q.expire(now, e) {
		return false, true
	}
	if last, ok := q.sent[k]; ok && !e.unsure() && last.Same == sameness(e.Report) && now.Sub(last.At) < sameWithin {
		q.remove(e, same)
		return false, true
	}
	switch why := q.o.Spare(k); {
	case why == unasked:
		return false, false
	case why == Yes:
		return true, true
	}
	q.withdraw(now, e)
	return false, true
}

// forBulk says which ranks go into a bulk report, if it is time for one.
func (q *Queue) forBulk(now time.Time) []int {
	waiting := len(q.l.ready[severe].all) + len(q.l.ready[ordinary].all)
	if waiting < 2 || waiting <= q.single.fits(now) {
		q.over = time.Time{}
	} else if q.over.IsZero() {
		q.over = now
	}
	if q.bulk.opens(now).After(now) {
		return nil
	}
	if len(q.l.ready[bulkAgain].all) > 0 {
		return []int{bulkAgain}
	}
	if q.over.IsZero() || waiting < bulkRows && (now.Sub(q.over) < bulkWait || now.Before(q.bulk.last.Add(q.bulkGap(now)))) {
		return nil
	}
	return []int{severe, ordinary}
}

// bulkGap is how long apart bulk reports are that are not full, so that the day's calls last.
func (q *Queue) bulkGap(now time.Time) time.Duration {
	b := &q.bulk
	if b.limit == 0 {
		return day / bulkCalls
	}
	gap := day / time.Duration(b.limit)
	if left := b.reset.Sub(now); b.remaining > 0 && left > 0 {
		gap = min(gap, left/time.Duration(b.remaining))
	}
	return gap
}

// rows takes as many entries of these ranks as one bulk report holds; none while Spare is to be asked about one of them.
func (q *Queue) rows(now time.Time, from []int) (es []*entry, known bool) {
	size := 0
	for _, rank := range from {
		for len(es) < bulkRows {
			e := q.pick(now, rank)
			if e == nil {
				break
			}
			// An address, 30 categories, a time, quotes and commas are less than 200 bytes.
			if size += 200 + len(Comment(e.Report)); size > bulkBytes {
				return es, true
			}
			e.leave()
			es = append(es, e)
		}
		if len(es) < bulkRows && len(q.l.ready[rank].all) > 0 {
			for _, e := range es {
				q.wait(now, e)
			}
			return nil, false
		}
	}
	return es, true
}

// attempt notes that entries are being sent.
func (q *Queue) attempt(now time.Time, es []*entry, bulk bool) Job {
	j := Job{Bulk: bulk, entries: es}
	ep := q.endpoint(bulk)
	ep.last = now
	if ep.limit > 0 {
		ep.remaining = max(ep.remaining-1, 0)
	}
	for _, e := range es {
		e.leave()
		j.before = append(j.before, e.Attempt)
		if !e.unsure() {
			e.Attempt, e.Bulk = now, bulk
		}
		e.Tried = now
		e.Tries++
		q.dirty[keyOf(e.Addr)] = true
		j.Reports = append(j.Reports, q.out(now, e, bulk))
	}
	return j
}

func (q *Queue) endpoint(bulk bool) *endpoint {
	if bulk {
		return &q.bulk
	}
	return &q.single
}

// out writes a report as it leaves. While the server's clock is not known, a single one has no time: the server takes its own.
func (q *Queue) out(now time.Time, e *entry, bulk bool) Out {
	o := Out{Addr: e.Addr, Categories: e.Categories, Comment: Comment(e.Report)}
	if bulk || q.skewKnown {
		at := e.First
		if at.After(now) {
			at = now
		}
		o.At = at.Add(q.skew).Truncate(time.Minute).UTC()
	}
	return o
}

// List is what waits, as it would be sent: the soonest first, at most n.
func (q *Queue) List(now time.Time, n int) []Out {
	es := make([]*entry, 0, len(q.all))
	for _, e := range q.all {
		es = append(es, e)
	}
	slices.SortFunc(es, func(a, b *entry) int {
		if c := a.Queued.Compare(b.Queued); c != 0 {
			return c
		}
		return a.Addr.Compare(b.Addr)
	})
	var all []Out
	for _, e := range es[:min(n, len(es))] {
		all = append(all, q.out(now, e, true))
	}
	return all
}
