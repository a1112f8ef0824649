package report

import (
	"cmp"
	"time"

	"tocsin"
)

// Outcome is what became of a call.
type Outcome uint8

// The outcomes.
const (
	Done      Outcome = iota // 200
	Duplicate                // 429: this account reported the address within 15 minutes
	Exhausted                // 429: the day's quota is used up
	Refused                  // 422: what was sent will never be taken
	Stop                     // 401, 402, 403: nothing will be taken until somebody does something
	Failed                   // not sent, or 5xx: it was not taken
	Lost                     // sent, and no answer came
)

// Answer is what became of a Job.
type Answer struct {
	Outcome Outcome
	Code    int           // of HTTP; 0: none
	Detail  string        // the server's words, printable and bounded; never the key
	Quota   Quota         // of the endpoint
	Rest    time.Duration // Exhausted: how long
	Date    time.Time     // the server's clock; zero: not told
	Rows    []Row         // Done, of a bulk report: rows that were not taken
}

// Row is a row of a bulk report that was not taken.
type Row struct {
	Row       int // of Job.Reports, from 0; others are ignored
	Duplicate bool
	Detail    string
}

const (
	maxDetail  = 200 // bytes
	maxSkew    = 100 * 365 * day
	bulkRefuse = 6 * time.Hour // how long no bulk report is made after one was refused whole
)

// Answer takes in what became of a job.
func (q *Queue) Answer(now time.Time, j Job, a Answer) {
	if skew := a.Date.Sub(now); !a.Date.IsZero() && skew.Abs() < maxSkew {
		q.skew, q.skewKnown = skew.Truncate(time.Second), true
	}
	ep := q.endpoint(j.Bulk)
	ep.hear(now, a.Quota, q.skew)
	switch a.Outcome {
	case Failed, Lost:
		ep.failed(now, q.o.Rand())
	case Exhausted:
		ep.exhausted(now, a.Rest)
	case Stop:
		q.stopped = cmp.Or(a.Code, 401)
	case Refused:
		ep.worked()
		if j.Bulk {
			ep.rest = now.Add(bulkRefuse)
		}
	default:
		ep.worked()
	}
	if a.Outcome == Done && j.Bulk {
		q.counts[bulkReports]++
		q.bulkDone(now, j, a)
		return
	}
	due := now.Add(time.Duration((0.5 + q.o.Rand()) * float64(repeatAfter))) // the rows of a bulk report stay together
	for i, e := range j.entries {
		if a.Outcome == Failed || a.Outcome == Lost {
			e.Due = due
		}
		q.answered(now, e, j.before[i], a, j.Bulk)
	}
}

// answered takes in what became of one entry.
func (q *Queue) answered(now time.Time, e *entry, before time.Time, a Answer, bulk bool) {
	switch a.Outcome {
	case Done:
		q.concluded(now, e, sentOne)
	case Duplicate:
		q.concluded(now, e, duplicates)
	case Refused:
		if bulk { // one by one the server says which
			q.again(now, e, before)
			return
		}
		q.refuse(now, e, a.Detail)
	case Lost:
		if e.Withdrawn {
			q.concluded(now, e, unknown)
			return
		}
		q.wait(now, e)
	default: // not taken
		q.again(now, e, before)
	}
}

// bulkDone takes in what became of each row.
func (q *Queue) bulkDone(now time.Time, j Job, a Answer) {
	rows := make(map[int]Row, len(a.Rows))
	for _, r := range a.Rows {
		rows[r.Row] = r
	}
	for i, e := range j.entries {
		switch r, bad := rows[i]; {
		case !bad:
			q.concluded(now, e, sentBulk)
		case r.Duplicate:
			q.concluded(now, e, duplicates)
		default:
			q.refuse(now, e, r.Detail)
		}
	}
}

// again puts back an entry that the server did not take this time. It may have taken it before.
func (q *Queue) again(now time.Time, e *entry, before time.Time) {
	e.Attempt = before
	switch {
	case e.Withdrawn && e.unsure():
		q.concluded(now, e, unknown)
		return
	case e.unsure():
		q.wait(now, e)
		return
	}
	next := q.next(e)
	e.Bulk = false
	switch {
	case e.Withdrawn && next.Queued.IsZero():
		q.remove(e, withdrawn)
		return
	case e.Withdrawn: // banned again since
		q.counts[withdrawn]++
		e.Report, e.Withdrawn = next, false
	case !next.Queued.IsZero():
		q.counts[merged]++
		e.Report = merge(e.Report, next)
	}
	q.wait(now, e)
}

// refuse puts a report aside that the server will never take.
func (q *Queue) refuse(now time.Time, e *entry, detail string) {
	detail = tocsin.Printable(detail[:min(len(detail), maxDetail)])
	q.refused = append(q.refused, tocsin.RefusedReport{Addr: e.Addr, At: now, Detail: detail, Comment: Comment(e.Report)})
	q.concluded(now, e, refusals)
}
