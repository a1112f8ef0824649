package store

import (
	"context"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"time"

	"tocsin"
)

// forEver is the until of what has no end, so that one comparison finds what is in force.
const forEver = math.MaxInt64

func micros(t time.Time) int64 { return t.UnixMicro() }

func fromMicros(us int64) time.Time { return time.UnixMicro(us).UTC() }

func untilMicros(t time.Time) int64 {
	if t.IsZero() {
		return forEver
	}
	return micros(t)
}

func fromUntil(us int64) time.Time {
	if us == forEver {
		return time.Time{}
	}
	return fromMicros(us)
}

// once tells decisions apart that have no place in a log.
func once(d *tocsin.Decision) int64 {
	if d.Trigger.Pos == (tocsin.Position{}) {
		return micros(d.At)
	}
	return 0
}

// putDecision writes a decision with its evidence, unless it is there already, and ends the ban whose place it takes.
func (f *file) putDecision(ctx context.Context, d *tocsin.Decision) error {
	n, err := f.insertDecision(ctx, d)
	if err != nil || n == 0 {
		return err
	}
	return f.end(ctx, d, n)
}

// end ends the ban whose place d takes, which is row n.
func (f *file) end(ctx context.Context, d *tocsin.Decision, n int64) error {
	by, reason := endedBy(d)
	_, err := f.stmt.endFormer.ExecContext(ctx, micros(d.At), by, reason, d.Jail, d.ID, n)
	return err
}

// insertDecision writes a decision with its evidence and returns its row, 0 if it is there already.
func (f *file) insertDecision(ctx context.Context, d *tocsin.Decision) (n int64, err error) {
	t := &d.Trigger
	ports := ""
	if len(d.Ports) > 0 {
		ports = tocsin.PortsString(d.Ports)
	}
	res, err := f.stmt.putDecision.ExecContext(ctx, d.Jail, d.ID, prefixBytes(d.Prefix), d.Verdict, ports, d.Proto, d.Action, d.Origin,
		d.Reason, d.By, micros(d.At), untilMicros(d.Until), d.Failures,
		t.Source, int64(t.Pos.File), t.Pos.Offset, micros(t.At), d.Addr.Unmap().WithZone("").AsSlice(), d.Former, once(d), len(d.Evidence))
	if err != nil {
		return 0, err
	}
	if rows, err := res.RowsAffected(); err != nil || rows == 0 {
		return 0, err
	}
	if n, err = res.LastInsertId(); err != nil {
		return 0, err
	}
	for i := range d.Evidence {
		e := &d.Evidence[i]
		_, err := f.stmt.putEvidence.ExecContext(ctx, n, i, e.Source, int64(e.Pos.File), e.Pos.Offset, micros(e.At), e.Text, e.User)
		if err != nil {
			return 0, err
		}
	}
	return n, nil
}

// endedBy says how d ends the ban before it.
func endedBy(d *tocsin.Decision) (by, reason string) {
	if d.Action == tocsin.Ban {
		return d.By, "replaced by a newer ban"
	}
	return d.By, d.Reason
}

// decisionRow is a decision as it lies in the file.
type decisionRow struct {
	tocsin.Decision
	prefix, addr            []byte
	ports                   string
	at, until, file, lineAt int64
}

// columns are the places for decisionColumns.
func (r *decisionRow) columns() []any {
	return []any{&r.Jail, &r.ID, &r.prefix, &r.Verdict, &r.ports, &r.Proto, &r.Action, &r.Origin, &r.Reason, &r.By, &r.at, &r.until,
		&r.Failures, &r.Trigger.Source, &r.file, &r.Trigger.Pos.Offset, &r.lineAt, &r.addr, &r.Former}
}

func (r *decisionRow) decision() (tocsin.Decision, error) {
	var err error
	if r.Prefix, err = parsePrefix(r.prefix); err != nil {
		return r.Decision, fmt.Errorf("decision about %q: %w", r.ID, err)
	}
	r.At, r.Until, r.Trigger.At = fromMicros(r.at), fromUntil(r.until), fromMicros(r.lineAt)
	r.Trigger.Pos.File = uint64(r.file)
	r.Addr, _ = netip.AddrFromSlice(r.addr) // those of the first version have none
	if r.Ports, err = parsePorts(r.ports); err != nil {
		return r.Decision, fmt.Errorf("decision about %q: ports %q: %w", r.ID, r.ports, err)
	}
	return r.Decision, nil
}

// Active returns the bans in force at now, one for each Jail and ID, without their evidence and in no order.
func (s *Store) Active(now time.Time) ([]tocsin.Decision, error) {
	queued := s.queued() // before the file is read: what is written meanwhile must not be missed
	var bans []tocsin.Decision
	err := s.read("read the bans in force", func(f *file) (err error) {
		bans, err = f.active(now)
		return err
	})
	for i := range queued {
		bans = overlay(bans, &queued[i], now)
	}
	return bans, err
}

// overlay changes the bans in force as d will.
func overlay(bans []tocsin.Decision, d *tocsin.Decision, now time.Time) []tocsin.Decision {
	n := 0
	for _, b := range bans {
		if b.Jail != d.Jail || b.ID != d.ID || b.At.After(d.At) {
			bans[n] = b
			n++
		}
	}
	bans = bans[:n]
	if d.InForce(now) {
		bare := *d
		bare.Evidence = nil
		bans = append(bans, bare)
	}
	return bans
}

func (f *file) active(now time.Time) ([]tocsin.Decision, error) {
	var bans []tocsin.Decision
	err := each(func(scan func(...any) error) error {
		var r decisionRow
		if err := scan(r.columns()...); err != nil {
			return err
		}
		d, err := r.decision()
		bans = append(bans, d)
		return err
	}, f.stmt.active, micros(now))
	return bans, err
}

// Former calls yield for every ban that the jail itself took since then, oldest first, without evidence. Until is when it
// really ended, earlier than decided if it was lifted. It does not tell what is still queued.
func (s *Store) Former(jail string, since time.Time, yield func(tocsin.Decision)) error {
	return s.read("read former bans", func(f *file) error {
		return each(func(scan func(...any) error) error {
			var r decisionRow
			if err := scan(r.columns()...); err != nil {
				return err
			}
			d, err := r.decision()
			if err == nil {
				yield(d)
			}
			return err
		}, f.stmt.former, micros(since), jail)
	})
}

// Query says which bans Bans returns; the zero Query asks for all.
type Query struct {
	Addr         netip.Addr // whose prefix contains it; zero: any
	ID           string     // that are of this id, which is no address; "": any
	Jail         string     // "": any
	Since        time.Time  // taken then or later; zero: any
	Active       bool       // in force at Now
	Now          time.Time
	Limit        int // the newest; 0: no limit
	WithEvidence bool
}

// Ban is a decision to ban, and how it ended before its time.
type Ban struct {
	tocsin.Decision
	Ended     time.Time // zero: it was not lifted
	EndedBy   string
	EndReason string
}

// Bans returns bans, the newest first.
func (s *Store) Bans(q Query) ([]Ban, error) {
	queued := s.queued()
	var bans []Ban
	err := s.read("read bans", func(f *file) (err error) {
		bans, err = f.bans(q)
		return err
	})
	if len(queued) > 0 {
		bans = q.overlay(bans, queued)
	}
	return bans, err
}

func (f *file) bans(q Query) ([]Ban, error) {
	where, args := q.where()
	limit := -1
	if q.Limit > 0 {
		limit = q.Limit
	}
	rows, err := f.reader.Query(`SELECT `+decisionColumns+`, n, lines, ended, ended_by, end_reason FROM decision
		WHERE `+where+` ORDER BY at DESC, n DESC LIMIT ?`, append(args, limit)...)
	if err != nil {
		return nil, err
	}
	var bans []Ban
	var with []int64 // the rows that have evidence, 0 for those without
	err = eachRow(rows, func(scan func(...any) error) error {
		var r decisionRow
		var b Ban
		var n, lines int64
		var ended *int64
		err := scan(append(r.columns(), &n, &lines, &ended, &b.EndedBy, &b.EndReason)...)
		if err != nil {
			return err
		}
		if ended != nil {
			b.Ended = fromMicros(*ended)
		}
		if lines == 0 {
			n = 0
		}
		b.Decision, err = r.decision()
		bans, with = append(bans, b), append(with, n)
		return err
	})
	if err != nil || !q.WithEvidence {
		return bans, err
	}
	for i, n := range with {
		if n == 0 {
			continue
		}
		if bans[i].Evidence, err = f.evidenceOf(n); err != nil {
			return bans, err
		}
	}
	return bans, nil
}

// where writes the query as SQL.
func (q *Query) where() (string, []any) {
	conditions, args := []string{"action = 0"}, []any{}
	if q.Addr.IsValid() {
		all := containing(q.Addr)
		conditions = append(conditions, "prefix IN (?"+strings.Repeat(",?", len(all)-1)+")")
		for _, p := range all {
			args = append(args, p)
		}
	}
	if q.ID != "" {
		conditions, args = append(conditions, "prefix IS NULL AND id = ?"), append(args, q.ID)
	}
	if q.Jail != "" {
		conditions, args = append(conditions, "jail = ?"), append(args, q.Jail)
	}
	if !q.Since.IsZero() {
		conditions, args = append(conditions, "at >= ?"), append(args, micros(q.Since))
	}
	if q.Active {
		conditions, args = append(conditions, "ended IS NULL AND until > ?"), append(args, micros(q.Now))
	}
	return strings.Join(conditions, " AND "), args
}

func (f *file) evidenceOf(n int64) ([]tocsin.Evidence, error) {
	var all []tocsin.Evidence
	err := each(func(scan func(...any) error) error {
		var e tocsin.Evidence
		var file, at int64
		err := scan(&e.Source, &file, &e.Pos.Offset, &at, &e.Text, &e.User)
		e.Pos.File, e.At = uint64(file), fromMicros(at)
		all = append(all, e)
		return err
	}, f.stmt.evidence, n)
	return all, err
}
