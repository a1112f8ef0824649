package list

import (
	"hash/fnv"
	"time"
)

const (
	day = 24 * time.Hour

	// soonest is how long the turn of a list must be behind the last fetch: who fetched a list for the first time
	// because he had none need not do it again a minute later.
	soonest = time.Hour

	firstRetry = 15 * time.Minute
	lastRetry  = 3 * time.Hour

	// longestWait bounds every wait. What is further away was written by a clock that went wrong, or asked for by a
	// server that means "never".
	longestWait = day + 2*soonest

	// ahead is how far in the future a time may lie that was written earlier: a clock that is corrected steps back a
	// little. What is further ahead was written by a clock that was wrong, and says nothing.
	ahead = time.Hour
)

// Due says when a list's turn comes that was fetched at last, now being now; the zero last is due at once. A time that is
// not after now means that it is due, however many turns were missed: a machine that slept for a week fetches once.
//
// at is a time of day "HH:MM", in the zone of now, or anything else for a second of the day (UTC) that name and host
// choose, so that the machines of a fleet do not all come at once. The turn is at least an hour after last. A last that
// lies more than an hour in the future is not believed, and the list due.
func Due(name, host, at string, last, now time.Time) time.Time {
	if last.IsZero() || last.Sub(now) > ahead {
		return now
	}
	return turnAfter(name, host, at, last.Add(soonest).In(now.Location()))
}

// turnAfter is the first turn that is not before t.
func turnAfter(name, host, at string, t time.Time) time.Time {
	clock, err := time.Parse("15:04", at)
	if err != nil {
		h := fnv.New64a()
		h.Write([]byte(host + "\x00" + name))
		second := time.Duration(h.Sum64()%uint64(day/time.Second)) * time.Second
		turn := t.UTC().Truncate(day).Add(second)
		if turn.Before(t) {
			turn = turn.Add(day)
		}
		return turn.In(t.Location())
	}
	y, m, d := t.Date()
	turn := time.Date(y, m, d, clock.Hour(), clock.Minute(), 0, 0, t.Location())
	if turn.Before(t) {
		turn = time.Date(y, m, d+1, clock.Hour(), clock.Minute(), 0, 0, t.Location())
	}
	return turn
}

// retry says when to fetch again after failures in a row, the last of them now: after 15 minutes, then twice as long each
// time, at most 3 hours. used are the fetches of the last 24 hours, oldest first, this one included.
//
// budget is how many fetches the source grants in 24 hours, 0 for any number. The first half of it is for trouble that ends
// soon; the rest is spread over the hours until the oldest fetch no longer counts, so that a source that is gone all
// morning is asked again in the afternoon.
func retry(failures int, used []time.Time, budget int, now time.Time) time.Time {
	wait := lastRetry
	if failures < 5 {
		wait = firstRetry << max(failures-1, 0)
	}
	wait = min(wait, lastRetry)
	if left := budget - len(used); budget > 0 && left <= budget/2 && len(used) > 0 {
		free := used[0].Add(day).Sub(now)
		wait = max(wait, free/time.Duration(max(left, 0)+1))
	}
	return now.Add(min(wait, longestWait))
}

// maxTries bounds how many times of fetches are remembered. It is above any budget that a list would use up.
const maxTries = 100

// recent drops what is older than 24 hours, or was written by a wrong clock, from times in order.
func recent(times []time.Time, now time.Time) []time.Time {
	var kept []time.Time
	for _, t := range times[max(0, len(times)-maxTries):] {
		if age := now.Sub(t); -ahead <= age && age < day {
			kept = append(kept, t)
		}
	}
	return kept
}
