package report

import (
	"maps"
	"slices"
	"time"

	"tocsin"
)

// counter names one of the numbers that only grow.
type counter int

const (
	sentOne counter = iota
	sentBulk
	bulkReports
	duplicates
	refusals
	unknown
	givenUp
	withdrawn
	same
	merged
	overflow
	byHand
	skippedFirst // and one for each Why behind it
	counters     = skippedFirst + counter(whys)
)

var counterNames = [skippedFirst]string{"sent", "sent_bulk", "bulk_reports", "duplicates", "refused", "unknown", "given_up",
	"withdrawn", "same", "merged", "overflow", "by_hand"}

// Stats are the counters and sizes of the queue. Nothing is lost between them: Taken and ByHand together are Queued, Sent,
// Duplicates, Refused, Unknown, GivenUp, Withdrawn, Same, Merged and Overflow together.
type Stats struct {
	Queued int // reports in the queue, those held and those in flight included
	Held   int // of these: not yet past the hold

	Taken       int64 // bans that are to be reported
	ByHand      int64 // reports that an operator asked for
	Sent        int64 // reports that the server took, one by one or in bulk
	InBulk      int64 // of these: in bulk reports
	BulkReports int64 // calls
	Duplicates  int64 // the server had one of the last 15 minutes
	Refused     int64 // the server will never take it (422)
	Unknown     int64 // sent, no answer came within 15 minutes; not sent again
	GivenUp     int64 // not sent within 24 h
	Withdrawn   int64 // unbanned, allowed or logged in before it was sent
	Same        int64 // the server would merge it with one of the same day that says the same
	Merged      int64 // bans added to a report of the same address
	Overflow    int64 // bans not reported because the queue was full

	Skipped map[string]int64 // bans not reported, by the reason (Why)

	Stopped      int // 401, 402 or 403: nothing is sent until the key or the server's address is changed
	Single, Bulk EndpointStats
	Cursor       int64
	Skew         time.Duration // the server's clock less ours, as last heard
}

// EndpointStats is what is known of a quota. Times are zero where there is none.
type EndpointStats struct {
	Limit, Remaining int // calls a day; Limit 0: not told yet
	Reset            time.Time
	Rest             time.Time // not used before: the quota is used up, or the server fails
	Fails            int       // in a row
}

// Stats returns the counters at now.
func (q *Queue) Stats(now time.Time) Stats {
	c := &q.counts
	s := Stats{Queued: len(q.all) + q.following, Held: len(q.l.held.all), Taken: c[skippedFirst+counter(Yes)], ByHand: c[byHand], Sent: c[sentOne] + c[sentBulk], InBulk: c[sentBulk],
		BulkReports: c[bulkReports], Duplicates: c[duplicates], Refused: c[refusals], Unknown: c[unknown], GivenUp: c[givenUp],
		Withdrawn: c[withdrawn], Same: c[same], Merged: c[merged], Overflow: c[overflow], Skipped: make(map[string]int64),
		Stopped: q.stopped, Single: q.single.stats(now), Bulk: q.bulk.stats(now), Cursor: q.cursor, Skew: q.skew}
	for w := Yes + 1; w < whys; w++ {
		if n := c[skippedFirst+counter(w)]; n > 0 {
			s.Skipped[w.String()] = n
		}
	}
	return s
}

func (e *endpoint) stats(now time.Time) EndpointStats {
	s := EndpointStats{Limit: e.limit, Remaining: e.remaining, Reset: e.reset, Fails: e.fails}
	if t := e.opens(now); t.After(now) {
		s.Rest = t
	}
	return s
}

// numbers are what is kept beside the reports, by name. The names lie in files.
func (q *Queue) numbers() map[string]int64 {
	n := map[string]int64{"cursor": q.cursor, "stopped": int64(q.stopped), "account": int64(q.o.Account), "skew": q.skew.Microseconds()}
	for name, e := range map[string]*endpoint{"report.": &q.single, "bulk.": &q.bulk} {
		n[name+"limit"], n[name+"remaining"] = int64(e.limit), int64(e.remaining)
		n[name+"told"] = 0
		if e.told {
			n[name+"told"] = 1
		}
		for what, t := range map[string]time.Time{"reset": e.reset, "rest": e.rest, "last": e.last} {
			n[name+what] = 0
			if !t.IsZero() {
				n[name+what] = t.UnixMicro()
			}
		}
	}
	for i, c := range q.counts {
		n[counterName(counter(i))] = c
	}
	return n
}

func counterName(c counter) string {
	if c >= skippedFirst {
		return "why." + Why(c-skippedFirst).String()
	}
	return counterNames[c]
}

// load is numbers backwards.
func (q *Queue) load(n map[string]int64) {
	q.cursor, q.skew = n["cursor"], time.Duration(n["skew"])*time.Microsecond
	if uint64(n["account"]) == q.o.Account {
		q.stopped = int(n["stopped"])
	}
	at := func(name string) time.Time {
		if n[name] == 0 {
			return time.Time{}
		}
		return time.UnixMicro(n[name]).UTC()
	}
	for name, e := range map[string]*endpoint{"report.": &q.single, "bulk.": &q.bulk} {
		if uint64(n["account"]) == q.o.Account { // quotas are of an account
			*e = endpoint{limit: int(n[name+"limit"]), remaining: int(n[name+"remaining"]), reset: at(name + "reset"),
				told: n[name+"told"] == 1, rest: at(name + "rest"), last: at(name + "last")}
		}
	}
	for i := range q.counts {
		q.counts[i] = n[counterName(counter(i))]
	}
}

// Changes returns what changed since the last call; empty says that nothing did. It has to be kept, all of it, before
// anything else is done.
func (q *Queue) Changes(now time.Time) (c tocsin.ReportChange, empty bool) {
	for k := range q.dirty {
		if e := q.all[k]; e != nil {
			c.Put = append(c.Put, e.QueuedReport)
			delete(q.gone, e.Addr)
		}
	}
	c.Drop = slices.AppendSeq(c.Drop, maps.Keys(q.gone))
	c.Sent, c.Refused = q.told, q.refused
	c.Numbers = make(map[string]int64)
	for name, n := range q.numbers() {
		if old, ok := q.saved[name]; !ok || old != n {
			c.Numbers[name] = n
			q.saved[name] = n
		}
	}
	clear(q.dirty)
	clear(q.gone)
	q.told, q.refused = nil, nil
	if len(c.Put)+len(c.Drop)+len(c.Sent)+len(c.Refused)+len(c.Numbers) == 0 {
		return c, true
	}
	c.Numbers[clockName], c.Forget = now.UnixMicro(), q.forget
	return c, false
}

const clockName = "clock"

// Clock is the time of the queue's clock when it was last kept; zero if it never was. The clock may not go back behind it.
func Clock(s tocsin.ReportState) time.Time {
	if n := s.Numbers[clockName]; n != 0 {
		return time.UnixMicro(n).UTC()
	}
	return time.Time{}
}

// everything is the whole queue as one change, for a file that was lost.
func (q *Queue) everything(now time.Time) tocsin.ReportChange {
	c := tocsin.ReportChange{Numbers: q.numbers()}
	c.Numbers[clockName] = now.UnixMicro()
	for _, e := range q.all {
		c.Put = append(c.Put, e.QueuedReport)
	}
	c.Sent = slices.AppendSeq(c.Sent, maps.Values(q.sent))
	return c
}
