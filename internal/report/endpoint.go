package report

import (
	"math"
	"time"
)

// Bounds of what a server's words about time may do.
const (
	shortestRest = time.Minute
	longestRest  = 25 * time.Hour
	firstPause   = 30 * time.Second
	longestPause = 5 * time.Minute // shorter than the window, so that a lost answer is asked for again
	day          = 24 * time.Hour
)

// Quota is what the headers of an answer said.
type Quota struct {
	Known            bool
	Limit, Remaining int
	Reset            time.Time // on the server's clock; zero: not told
}

// endpoint is what is known of one of the server's two doors for reports.
type endpoint struct {
	limit     int       // calls a day; 0: not told yet
	remaining int       // as far as we know
	reset     time.Time // when remaining is limit again
	told      bool      // reset is the server's word, not our guess
	rest      time.Time // not before: the quota is used up
	pause     time.Time // not before: it failed
	fails     int       // in a row
	last      time.Time // call
}

// roll begins a new day.
func (e *endpoint) roll(now time.Time) {
	if e.limit == 0 || e.reset.IsZero() || now.Before(e.reset) {
		return
	}
	e.remaining = e.limit
	e.reset = e.reset.Add((now.Sub(e.reset)/day + 1) * day)
}

// hear takes in the headers of an answer. skew is the server's clock less ours.
func (e *endpoint) hear(now time.Time, q Quota, skew time.Duration) {
	if !q.Known || q.Limit <= 0 {
		return
	}
	began := e.limit == q.Limit && q.Remaining > e.remaining+1 && !e.told
	e.limit, e.remaining = q.Limit, min(max(q.Remaining, 0), q.Limit)
	reset := q.Reset.Add(-skew)
	switch {
	case !q.Reset.IsZero() && reset.After(now) && reset.Before(now.Add(longestRest)):
		e.reset, e.told = reset, true
	case began: // more is left than before: the day began since the last call
		e.reset = now.Add(day)
	case e.reset.IsZero():
		// Servers name the hour only when the quota is used up. Until then we spread over the day of UTC.
		e.reset = now.Add(skew).Truncate(day).Add(day - skew)
	}
}

// exhausted notes that the quota is used up for that long.
func (e *endpoint) exhausted(now time.Time, rest time.Duration) {
	e.remaining = 0
	e.rest = now.Add(min(max(rest, shortestRest), longestRest))
	e.reset, e.told = e.rest, true
}

// failed pauses the endpoint, longer each time, by half more or less as chance (0 to 1) will have it.
func (e *endpoint) failed(now time.Time, chance float64) {
	pause := longestPause
	if e.fails < 4 {
		pause = firstPause << e.fails
	}
	e.fails++
	e.pause = now.Add(time.Duration((0.5 + chance) * float64(pause)))
}

// worked ends the pauses.
func (e *endpoint) worked() { e.fails, e.pause = 0, time.Time{} }

// opens is when the next call may be made, for the quota's and the pause's sake; now if it may be made at once.
func (e *endpoint) opens(now time.Time) time.Time {
	at := now
	for _, t := range []time.Time{e.rest, e.pause} {
		if t.After(at) {
			at = t
		}
	}
	if e.limit > 0 && e.remaining <= 0 && !e.rest.After(now) {
		if !e.told { // ask once an hour: the refusal says when the day ends
			if t := e.last.Add(time.Hour); t.After(at) {
				return t
			}
			return at
		}
		if e.reset.After(at) {
			return e.reset
		}
	}
	return at
}

// reserve is what is kept of a day's calls for severe categories.
func (e *endpoint) reserve() int { return e.limit / 10 }

// fits is how many calls for ordinary reports are left before the day ends.
func (e *endpoint) fits(now time.Time) int {
	switch {
	case e.rest.After(now):
		return 0
	case e.limit == 0:
		return math.MaxInt
	}
	return max(e.remaining-e.reserve(), 0)
}

// spread is when the next ordinary call may be made so that the day's share lasts until it ends: after an early burst of a
// tenth, an even pace.
func (e *endpoint) spread(now time.Time) time.Time {
	at := e.opens(now)
	if e.limit == 0 {
		return at
	}
	full := e.limit - e.reserve()
	usable := e.remaining - e.reserve()
	if usable <= 0 {
		if e.reset.After(at) {
			return e.reset
		}
		return at
	}
	// A call is in its share when usable > full*left/day - burst; solved for the time at which that begins.
	left := time.Duration(float64(day) * float64(usable-1+max(full/10, 1)) / float64(full))
	if t := e.reset.Add(-left); t.After(at) {
		return t
	}
	return at
}
