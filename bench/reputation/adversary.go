package main

import (
	"cmp"
	"slices"

	"tocsin/internal/reputation"
)

// adversary is somebody who would bend the list.
type adversary struct {
	name  string
	act   func(w *world)
	share bool // told by how much of the busiest attackers is on the list
}

var adversaries = []adversary{
	{"3 fresh accounts, 1 network", func(w *world) { w.blame(w.fresh(3, 1, 0)) }, false},
	{"20 fresh, 5 networks", func(w *world) { w.blame(w.fresh(20, 5, 0)) }, false},
	{"200 fresh, 50 networks", func(w *world) { w.blame(w.fresh(200, 50, 0)) }, false},
	{"20 that copy the list for 45 days", func(w *world) { w.blame(w.copying(w.fresh(20, 5, 0))) }, false},
	{"4 real sensors, 45 days", func(w *world) { w.blame(w.sensing(w.fresh(4, 4, 0))) }, false},
	{"12 real sensors, 12 networks", func(w *world) { w.blame(w.sensing(w.fresh(12, 12, 0))) }, false},
	{"1 admitted taken + 20 fresh", func(w *world) { w.blame(append(w.fresh(20, 5, 0), w.taken(1)...)) }, false},
	{"1 admitted taken + 4 real sensors", func(w *world) { w.blame(append(w.sensing(w.fresh(4, 4, 0)), w.taken(1)...)) }, false},
	{"1 admitted taken, sponsor of 20", func(w *world) { w.blame(append(w.fresh(20, 20, 1), w.taken(1)...)) }, false},
	{"2 admitted taken", func(w *world) { w.blame(w.taken(2)) }, false},
	{"2 admitted taken, one victim a day", func(w *world) { w.slowly(w.taken(2)) }, false},
	{"nobody clears (for comparison)", func(w *world) {}, true},
	{"1 admitted taken + 20 fresh clear", func(w *world) { w.clear(append(w.fresh(20, 5, 0), w.taken(1)...)) }, true},
}

// fresh are new accounts, each its own organisation, in so many networks; sponsor: who brought them, 0: nobody.
func (w *world) fresh(n, in int, sponsor uint32) (ids []uint32) {
	for i := range n {
		w.next++
		w.orgs = append(w.orgs, reputation.Org{ID: w.next, ASN: uint32(500 + i%in), Country: [2]byte{'A' + byte(i%in%26), 'X'}, Sponsor: sponsor})
		w.reporters = append(w.reporters, reputation.Reporter{ID: w.next, Org: w.next, Day: uint16(worldBegins / dayLong)})
		ids = append(ids, w.next)
	}
	return ids
}

// taken are all sensors of the first n admitted associations that have different networks.
func (w *world) taken(n int) (ids []uint32) {
	for _, r := range w.reporters[:sensors] {
		if r.Org <= uint32(n) {
			ids = append(ids, r.ID)
		}
	}
	for i := range n {
		w.bad = append(w.bad, uint32(i+1))
	}
	return ids
}

// blame says of every victim, from the day of the attack on and every six hours, that it attacks.
func (w *world) blame(ids []uint32) {
	for _, k := range w.victims {
		for _, id := range ids {
			for at := w.at(attackDay) + w.r.Int64N(hour); at < w.at(worldDays); at += 6 * hour {
				w.events = append(w.events, event{at, forged, id, k})
			}
		}
	}
}

// slowly blames one victim a day.
func (w *world) slowly(ids []uint32) {
	for i, k := range w.victims {
		for _, id := range ids {
			for at := w.at(attackDay+float64(i)*0.7) + w.r.Int64N(hour); at < w.at(worldDays); at += 6 * hour {
				w.events = append(w.events, event{at, forged, id, k})
			}
		}
	}
}

// sensing lets accounts see real attacks until the day of the attack, as the honest ones do.
func (w *world) sensing(ids []uint32) []uint32 {
	for _, e := range slices.Clone(w.events) {
		if e.kind == attacked && e.at < w.at(attackDay) {
			for _, id := range ids {
				if w.r.IntN(sensors) == 0 {
					w.events = append(w.events, event{e.at + w.r.Int64N(12*hour), attacked, id, e.key})
				}
			}
		}
	}
	return ids
}

// copying lets accounts report what three others reported, an hour later.
func (w *world) copying(ids []uint32) []uint32 {
	slices.SortFunc(w.events, func(a, b event) int { return cmp.Compare(a.at, b.at) })
	heard := map[reputation.Key]int{}
	for _, e := range slices.Clone(w.events) {
		if e.kind != attacked || e.at >= w.at(attackDay) {
			continue
		}
		if heard[e.key]++; heard[e.key] != 3 {
			continue
		}
		for _, id := range ids {
			w.events = append(w.events, event{e.at + hour + w.r.Int64N(hour), forged, id, e.key})
		}
	}
	return ids
}

// busiest are the hundred attackers that attack most at a moment.
func (w *world) busiest(at int64) []reputation.Key {
	if len(w.busy) == 0 || at-w.busyAt >= dayLong {
		w.busy, w.busyAt = w.busy[:0], at
		for k, s := range w.lives {
			if s.from <= at && at <= s.to {
				w.busy = append(w.busy, k)
			}
		}
		slices.SortFunc(w.busy, func(a, b reputation.Key) int {
			return cmp.Or(cmp.Compare(w.lives[b].rate, w.lives[a].rate), cmp.Compare(a, b))
		})
		w.busy = slices.Clone(w.busy[:min(100, len(w.busy))])
	}
	return w.busy
}

// clear vouches every six hours for the busiest attackers.
func (w *world) clear(ids []uint32) {
	for at := w.at(attackDay); at < w.at(worldDays); at += 6 * hour {
		for _, k := range w.busiest(at) {
			for _, id := range ids {
				w.events = append(w.events, event{at, vouched, id, k})
			}
		}
	}
	w.busy = nil
}
