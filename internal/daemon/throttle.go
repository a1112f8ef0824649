package daemon

import "time"

// throttle lets one of many equal complaints through: the first, and then one every ten seconds.
type throttle struct {
	last    time.Time
	dropped int
}

// say calls f with the number of complaints kept back since the last one, unless it is too early.
func (t *throttle) say(now time.Time, f func(dropped int)) {
	if !t.last.IsZero() && now.Sub(t.last) < 10*time.Second {
		t.dropped++
		return
	}
	f(t.dropped)
	t.last, t.dropped = now, 0
}
