package store

import (
	"slices"

	"tocsin"
)

// overlay changes the answer to q as the decisions that are still queued will. Those of them that were written while the
// answer was read are in it already.
func (q *Query) overlay(bans []Ban, queued []tocsin.Decision) []Ban {
	for i := range queued {
		d := &queued[i]
		if slices.ContainsFunc(bans, func(b Ban) bool { return same(&b.Decision, d) }) {
			continue
		}
		bans = q.end(bans, d)
		if d.Action == tocsin.Ban && q.matches(d) {
			b := Ban{Decision: *d}
			if !q.WithEvidence {
				b.Evidence = nil
			}
			bans = append(bans, b)
		}
	}
	slices.SortStableFunc(bans, func(a, b Ban) int { return b.At.Compare(a.At) })
	if q.Limit > 0 && len(bans) > q.Limit {
		bans = bans[:q.Limit]
	}
	return bans
}

// end marks the bans whose place d takes, or leaves them out if only bans in force are asked for.
func (q *Query) end(bans []Ban, d *tocsin.Decision) []Ban {
	n := 0
	for _, b := range bans {
		if b.Jail == d.Jail && b.ID == d.ID && b.Ended.IsZero() && b.InForce(d.At) {
			b.Ended = d.At
			b.EndedBy, b.EndReason = endedBy(d)
			if q.Active {
				continue
			}
		}
		bans[n] = b
		n++
	}
	return bans[:n]
}

func (q *Query) matches(d *tocsin.Decision) bool {
	return (!q.Addr.IsValid() || d.Prefix.Contains(q.Addr.Unmap().WithZone(""))) &&
		(q.ID == "" || q.ID == d.ID && !d.Prefix.IsValid()) &&
		(q.Jail == "" || q.Jail == d.Jail) &&
		!d.At.Before(q.Since) &&
		(!q.Active || d.InForce(q.Now))
}

// isQueued says whether d, by what makes it one row, is not on the disk yet.
func (s *Store) isQueued(d *tocsin.Decision) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range []*batch{&s.flight, &s.waiting} {
		for _, r := range b.requests {
			for i := range r.decisions {
				if same(&r.decisions[i], d) {
					return true
				}
			}
		}
	}
	return false
}

// same says whether two decisions are one row.
func same(a, b *tocsin.Decision) bool {
	return a.Jail == b.Jail && a.ID == b.ID && a.Action == b.Action && a.Trigger.Source == b.Trigger.Source &&
		a.Trigger.Pos == b.Trigger.Pos && once(a) == once(b)
}
