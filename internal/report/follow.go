package report

import (
	"context"
	"net/netip"
	"time"
)

// Rewind sets the cursor back to n: the guard lost its store, and numbers its decisions anew. What is queued stays.
func (r *Reporter) Rewind(ctx context.Context, n int64) error {
	return r.do(ctx, func(time.Time) { r.q.cursor = min(r.q.cursor, n) })
}

// Planned is the report that a decision would become, for those who want to know before.
func (d *Decision) Planned(j Jail, addr netip.Addr, now time.Time) Out {
	r := d.report(j, now)
	return Out{Addr: addr, Categories: r.Categories, Comment: Comment(r), At: r.First.Truncate(time.Minute).UTC()}
}
