package fail2ban

import (
	"math"
	"time"
)

// Estimate counts the failures of one id as fail2ban does (FailManager, Ticket.adjustTime): not those of the last
// findtime, but a rate. When the time since the first one gets longer than findtime, the count is scaled down to findtime.
// Tocsin bans by the exact window; Estimate is how it can say what fail2ban would have done. The zero value has counted
// nothing.
type Estimate struct {
	retry       int
	first, last time.Time
}

// Add counts a failure at at and returns the count, which bans where it is maxretry or more. Failures that come out of
// order count without moving the window. fail2ban knows whole seconds only.
func (e *Estimate) Add(at time.Time, findtime time.Duration) int {
	if e.retry == 0 {
		*e = Estimate{retry: 1, first: at, last: at}
		return 1
	}
	if at.After(e.last) {
		if from := at.Add(-findtime); e.first.Before(from) {
			e.retry = int(math.RoundToEven(float64(e.retry) / at.Sub(e.first).Seconds() * findtime.Seconds()))
			e.first = from
		}
		e.last = at
	}
	e.retry++
	return e.retry
}

// Swept says whether fail2ban forgets the id when it looks through its list at now: after findtime without a failure.
func (e *Estimate) Swept(now time.Time, findtime time.Duration) bool {
	return !e.last.After(now.Add(-findtime))
}

// Reset forgets what was counted: after a ban, or when the id is swept.
func (e *Estimate) Reset() { *e = Estimate{} }
