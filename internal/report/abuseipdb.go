package report

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"tocsin/internal/abuseipdb"
)

// Client sends reports by APIv2, to AbuseIPDB or to a hub.
type Client struct{ API *abuseipdb.Client }

// Send makes one call.
func (c Client) Send(ctx context.Context, j Job) Answer {
	if j.Bulk {
		return c.bulk(ctx, j)
	}
	r := j.Reports[0]
	_, meta, err := c.API.Report(ctx, wire(r))
	return answer(meta, err)
}

func wire(r Out) abuseipdb.Report {
	return abuseipdb.Report{Addr: r.Addr, Categories: r.Categories, Comment: r.Comment, At: r.At}
}

func (c Client) bulk(ctx context.Context, j Job) Answer {
	var b abuseipdb.Bulk
	var bad []Row
	rows := make([]int, 0, len(j.Reports)) // of the request, as rows of j
	for i, r := range j.Reports {
		switch ok, err := b.Add(wire(r)); {
		case err != nil:
			bad = append(bad, Row{Row: i, Detail: err.Error()})
		case !ok:
			return Answer{Outcome: Failed, Detail: "more rows than one bulk report holds"}
		default:
			rows = append(rows, i)
		}
	}
	if b.Rows() == 0 {
		return Answer{Outcome: Done, Rows: bad}
	}
	got, meta, err := c.API.BulkReport(ctx, &b)
	a := answer(meta, err)
	a.Rows = bad
	for _, r := range got.Invalid {
		if r.Row >= 0 && r.Row < len(rows) {
			a.Rows = append(a.Rows, Row{Row: rows[r.Row], Duplicate: strings.HasPrefix(r.Error, "Duplicate"), Detail: r.Error})
		}
	}
	return a
}

// answer brings what a call said into our terms.
//
// Whether a report may have been taken although there is no answer is for abuseipdb to say. Any other 5xx is an answer: the
// report was not taken, and is sent again for a day.
func answer(meta abuseipdb.Meta, err error) Answer {
	a := Answer{Outcome: Done, Code: http.StatusOK, Date: meta.Date,
		Quota: Quota{Known: meta.Quota.Known, Limit: meta.Quota.Limit, Remaining: meta.Quota.Remaining, Reset: meta.Quota.Reset}}
	if err == nil {
		return a
	}
	a.Detail, a.Code = err.Error(), 0
	if e, ok := errors.AsType[*abuseipdb.QuotaError](err); ok {
		now := time.Now()
		a.Outcome, a.Code, a.Rest = Exhausted, http.StatusTooManyRequests, e.Until(now).Sub(now)
		return a
	}
	if e, ok := errors.AsType[*abuseipdb.ParameterError](err); ok {
		a.Outcome, a.Code, a.Detail = Refused, http.StatusUnprocessableEntity, e.Error()
		return a
	}
	for is, code := range map[error]int{abuseipdb.ErrKey: http.StatusUnauthorized, abuseipdb.ErrPlan: http.StatusPaymentRequired,
		abuseipdb.ErrForbidden: http.StatusForbidden} {
		if errors.Is(err, is) {
			a.Outcome, a.Code = Stop, code
			return a
		}
	}
	if errors.Is(err, abuseipdb.ErrDuplicate) {
		a.Outcome, a.Code = Duplicate, http.StatusTooManyRequests
		return a
	}
	a.Outcome = Failed
	if abuseipdb.Uncertain(err) {
		a.Outcome = Lost
	}
	if e, ok := errors.AsType[*abuseipdb.ServerError](err); ok {
		a.Code = e.Status
	}
	return a
}
