package store

import (
	"context"
	"database/sql"
	"fmt"
	"iter"
	"net/netip"
	"time"
)

// Org is one member of a hub.
type Org struct {
	ID      uint32
	Name    string
	Kind    uint8 // reputation's
	ASN     uint32
	Country string // two letters, or ""
	Sponsor uint32 // 0: none
	Made    time.Time
}

// Key is one key of a member; who holds it is one reporter. Of the key itself only a hash is kept.
type Key struct {
	ID        uint32
	Org       uint32
	Name      string
	Scope     string // words with commas between
	Plan      string
	Quota     string // what differs from the plan: "check=1000,report=5"
	Hash      [32]byte
	Pseudonym uint32 // what others see in its place
	Made      time.Time
	Revoked   time.Time // zero: it is good
	Good, Bad int64     // what it earned, as of Day
	Day       uint16
}

// AddOrg keeps a new member and gives it a number. ok is false if there is one of that name, or ten thousand in all.
func (h *Hub) AddOrg(o Org) (id uint32, ok bool, err error) {
	err = h.do("keep an organisation", func(ctx context.Context) error {
		r, err := h.f.conn.ExecContext(ctx, `INSERT INTO org (name, kind, asn, country, sponsor, made) SELECT ?,?,?,?,?,?
			WHERE (SELECT count(*) FROM org) < ? ON CONFLICT DO NOTHING`, o.Name, o.Kind, o.ASN, o.Country, o.Sponsor, micros(o.Made), mostOrgs)
		id, ok, err = inserted(r, err)
		return err
	})
	return id, ok, err
}

func inserted(r sql.Result, err error) (uint32, bool, error) {
	if err != nil {
		return 0, false, err
	}
	if n, err := r.RowsAffected(); err != nil || n == 0 {
		return 0, false, err
	}
	n, err := r.LastInsertId()
	return uint32(n), true, err
}

// AddKey keeps a new key and gives it a number. ok is false if its organisation has one of that name, revoked or not, or its
// pseudonym is somebody else's, or there are a hundred thousand in all.
func (h *Hub) AddKey(k Key) (id uint32, ok bool, err error) {
	err = h.do("keep a key", func(ctx context.Context) error {
		r, err := h.f.conn.ExecContext(ctx, `INSERT INTO key (org, name, scope, plan, quota, hash, pseudonym, made, revoked, good, bad, day)
			SELECT ?,?,?,?,?,?,?,?,0,?,?,? WHERE (SELECT count(*) FROM key) < ? ON CONFLICT DO NOTHING`,
			k.Org, k.Name, k.Scope, k.Plan, k.Quota, k.Hash[:], k.Pseudonym, micros(k.Made), k.Good, k.Bad, k.Day, mostKeys)
		id, ok, err = inserted(r, err)
		return err
	})
	return id, ok, err
}

// RevokeKey ends a key; ok is false if there is none of that number that is good.
func (h *Hub) RevokeKey(id uint32, at time.Time) (ok bool, err error) {
	err = h.do("revoke a key", func(ctx context.Context) error {
		r, err := h.f.conn.ExecContext(ctx, `UPDATE key SET revoked = ? WHERE n = ? AND revoked = 0`, micros(at), id)
		if err == nil {
			ok, err = changed(r)
		}
		return err
	})
	return ok, err
}

// Orgs returns all members by number.
func (h *Hub) Orgs() (all []Org, err error) {
	err = h.read("read the organisations", `SELECT n, name, kind, asn, country, sponsor, made FROM org ORDER BY n`, func(scan func(...any) error) error {
		var o Org
		var made int64
		err := scan(&o.ID, &o.Name, &o.Kind, &o.ASN, &o.Country, &o.Sponsor, &made)
		o.Made = fromMicros(made)
		all = append(all, o)
		return err
	})
	return all, err
}

// Keys returns all keys by number, those that were revoked too.
func (h *Hub) Keys() (all []Key, err error) {
	err = h.read("read the keys", `SELECT n, org, name, scope, plan, quota, hash, pseudonym, made, revoked, good, bad, day FROM key ORDER BY n`, func(scan func(...any) error) error {
		var k Key
		var hash []byte
		var made, revoked int64
		if err := scan(&k.ID, &k.Org, &k.Name, &k.Scope, &k.Plan, &k.Quota, &hash, &k.Pseudonym, &made, &revoked, &k.Good, &k.Bad, &k.Day); err != nil {
			return err
		}
		if len(hash) != len(k.Hash) {
			return damage("a key without its hash")
		}
		copy(k.Hash[:], hash)
		k.Made, k.Revoked = fromMicros(made), fromMaybe(revoked)
		all = append(all, k)
		return nil
	})
	return all, err
}

func (h *Hub) read(what, question string, row func(scan func(...any) error) error, args ...any) error {
	rows, err := h.f.reader.Query(question, args...)
	if err == nil {
		err = eachRow(rows, row)
	}
	if err != nil {
		return fmt.Errorf("%s: %s: %w", h.path, what, err)
	}
	return nil
}

// HubEvidence is what one reporter said of one key on one day.
type HubEvidence struct {
	Key      uint64
	Reporter uint32 // 0: it is forgotten who
	At       int64  // of the newest report of that day
	Count    int
	Cats     uint32
	Quality  uint8
	Public   bool
}

// Evidence gives everything that was said, by key, reporter and day. failed is set before the last one where it could not be
// read.
func (h *Hub) Evidence(failed *error) iter.Seq[HubEvidence] {
	return func(yield func(HubEvidence) bool) {
		rows, err := h.f.reader.Query(`SELECT key, reporter, day * 86400 + second, count, categories, quality, public FROM evidence ORDER BY key, reporter, day`)
		if err != nil {
			*failed = err
			return
		}
		defer rows.Close()
		for rows.Next() {
			var e HubEvidence
			var key int64
			if err := rows.Scan(&key, &e.Reporter, &e.At, &e.Count, &e.Cats, &e.Quality, &e.Public); err != nil {
				*failed = err
				return
			}
			e.Key = uint64(key)
			if !yield(e) {
				return
			}
		}
		*failed = rows.Err()
	}
}

// HubListing is what is known of a key that is, was or would be on the list; reputation's.
type HubListing struct {
	Key                uint64
	Since, Until, Stay int64
	Times              int
	Helped             [2]uint32
	Held               int64
	Confirmed          bool
}

// HubBrake is reputation's.
type HubBrake struct {
	Orgs      [2]uint32
	Confirmed int64
	Today     int
	Held      int
	Told      int64
}

// HubTrust is what a reporter earned.
type HubTrust struct {
	Reporter  uint32
	Good, Bad int64
	Day       uint16
}

// HubQuota is how often a key asked at an endpoint on a day.
type HubQuota struct {
	Key      uint32
	Endpoint string
	Day      int64
	Used     int
}

// HubState is what is kept beside evidence now and then.
type HubState struct {
	Day      uint16
	Listings []HubListing // where it is written: those that changed
	Gone     []uint64
	Brakes   []HubBrake
	Trust    []HubTrust // where it is written: all, or none if nothing changed
	Quotas   []HubQuota // where it is written: those that changed
}

// SaveState keeps what changed, together with the place in the reports up to which it holds: those that the caller was told of
// before are in it.
func (h *Hub) SaveState(s HubState, upTo int64) error {
	return h.do("keep the list", func(ctx context.Context) error {
		exec := func(question string, args ...any) error {
			_, err := h.f.conn.ExecContext(ctx, question, args...)
			return err
		}
		for _, l := range s.Listings {
			if err := exec(`INSERT OR REPLACE INTO listing (key, since, until, times, stay, helped, helped_by, held, confirmed) VALUES (?,?,?,?,?,?,?,?,?)`,
				int64(l.Key), l.Since, l.Until, l.Times, l.Stay, l.Helped[0], l.Helped[1], l.Held, l.Confirmed); err != nil {
				return err
			}
		}
		for _, k := range s.Gone {
			if err := exec(`DELETE FROM listing WHERE key = ?`, int64(k)); err != nil {
				return err
			}
		}
		if err := exec(`DELETE FROM brake`); err != nil {
			return err
		}
		for _, b := range s.Brakes {
			if err := exec(`INSERT INTO brake (org, other, confirmed, today, held, told) VALUES (?,?,?,?,?,?)`, b.Orgs[0], b.Orgs[1], b.Confirmed, b.Today, b.Held, b.Told); err != nil {
				return err
			}
		}
		for _, t := range s.Trust {
			if err := exec(`UPDATE key SET good = ?, bad = ?, day = ? WHERE n = ?`, t.Good, t.Bad, t.Day, t.Reporter); err != nil {
				return err
			}
		}
		for _, q := range s.Quotas {
			if err := exec(`INSERT OR REPLACE INTO quota (key, endpoint, day, used) VALUES (?,?,?,?)`, q.Key, q.Endpoint, q.Day, q.Used); err != nil {
				return err
			}
		}
		for name, n := range map[string]int64{"learned": int64(s.Day), "told": upTo} {
			if err := exec(`INSERT OR REPLACE INTO number (name, value) VALUES (?,?)`, name, n); err != nil {
				return err
			}
		}
		return nil
	})
}

// State returns what was kept, but for trust, which is with the keys.
func (h *Hub) State() (s HubState, err error) {
	if err = h.read("read the list", `SELECT key, since, until, times, stay, helped, helped_by, held, confirmed FROM listing`, func(scan func(...any) error) error {
		var l HubListing
		var key int64
		err := scan(&key, &l.Since, &l.Until, &l.Times, &l.Stay, &l.Helped[0], &l.Helped[1], &l.Held, &l.Confirmed)
		l.Key = uint64(key)
		s.Listings = append(s.Listings, l)
		return err
	}); err != nil {
		return s, err
	}
	if err = h.read("read the brakes", `SELECT org, other, confirmed, today, held, told FROM brake`, func(scan func(...any) error) error {
		var b HubBrake
		err := scan(&b.Orgs[0], &b.Orgs[1], &b.Confirmed, &b.Today, &b.Held, &b.Told)
		s.Brakes = append(s.Brakes, b)
		return err
	}); err != nil {
		return s, err
	}
	if err = h.read("read the quotas", `SELECT key, endpoint, day, used FROM quota`, func(scan func(...any) error) error {
		var q HubQuota
		err := scan(&q.Key, &q.Endpoint, &q.Day, &q.Used)
		s.Quotas = append(s.Quotas, q)
		return err
	}); err != nil {
		return s, err
	}
	return s, h.read("read the numbers", `SELECT value FROM number WHERE name = 'learned'`, func(scan func(...any) error) error { return scan(&s.Day) })
}

// Newest is the place of the last report that was kept.
func (h *Hub) Newest() (n int64, err error) {
	err = h.read("read the newest report", `SELECT coalesce(max(n), 0) FROM report`, func(scan func(...any) error) error { return scan(&n) })
	return n, err
}

// Fresh returns the keys that were reported behind the place up to which the state holds.
func (h *Hub) Fresh() (keys []uint64, err error) {
	err = h.read("read the newest reports", `SELECT DISTINCT key FROM report WHERE n > coalesce((SELECT value FROM number WHERE name = 'told'), 0) ORDER BY key`,
		func(scan func(...any) error) error {
			var key int64
			err := scan(&key)
			keys = append(keys, uint64(key))
			return err
		})
	return keys, err
}

// ToldReport is a report as others may read it.
type ToldReport struct {
	At       int64
	Cats     uint32
	Comment  string
	Reporter uint32
}

// Reports returns the reports about a key since then, newest first, at most limit behind the first offset, and how many there are.
func (h *Hub) Reports(key uint64, since int64, limit, offset int) (all []ToldReport, total int, err error) {
	err = h.s.countReports.QueryRow(int64(key), since).Scan(&total)
	if err == nil && total > offset {
		err = each(func(scan func(...any) error) error {
			var r ToldReport
			err := scan(&r.At, &r.Cats, &r.Comment, &r.Reporter)
			all = append(all, r)
			return err
		}, h.s.reports, int64(key), since, limit, offset)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("%s: read reports: %w", h.path, err)
	}
	return all, total, nil
}

// LastAddr returns the address of the newest report about a key; ok is false where there is none.
func (h *Hub) LastAddr(key uint64) (a netip.Addr, ok bool, err error) {
	err = each(func(scan func(...any) error) error {
		var addr []byte
		err := scan(&addr)
		a, ok = netip.AddrFromSlice(addr)
		return err
	}, h.s.lastAddr, int64(key))
	return a, ok, err
}

// HubTotal is how often a key was reported.
type HubTotal struct {
	Key     uint64
	Reports int
	Last    int64
}

// Span returns the keys from the first to the last one that were reported since then, at most limit.
func (h *Hub) Span(first, last uint64, since int64, limit int) (all []HubTotal, err error) {
	err = each(func(scan func(...any) error) error {
		var t HubTotal
		var key int64
		err := scan(&key, &t.Reports, &t.Last)
		t.Key = uint64(key)
		all = append(all, t)
		return err
	}, h.s.span, int64(first), int64(last), since, limit)
	if err != nil {
		err = fmt.Errorf("%s: read a network: %w", h.path, err)
	}
	return all, err
}

// Retract forgets everything that a reporter said of a key, and says how many reports that were.
func (h *Hub) Retract(reporter uint32, key uint64) (n int, err error) {
	err = h.do("take reports back", func(ctx context.Context) error {
		if _, err := h.s.comments.ExecContext(ctx, int64(key), reporter); err != nil {
			return err
		}
		r, err := h.s.dropReports.ExecContext(ctx, int64(key), reporter)
		if err != nil {
			return err
		}
		dropped, err := r.RowsAffected()
		if err != nil {
			return err
		}
		n = int(dropped)
		_, err = h.s.dropEvidence.ExecContext(ctx, int64(key), reporter)
		return err
	})
	return n, err
}

// Note keeps what somebody changed. What is older than a year goes, and so does the oldest beyond 100,000.
func (h *Hub) Note(a Action) error {
	return h.do("note an action", func(ctx context.Context) error {
		_, err := h.f.conn.ExecContext(ctx, `INSERT INTO action (at, who, what, about, note) VALUES (?,?,?,?,?)`,
			micros(a.At), clipped(a.Who, maxActionText), a.What, clipped(a.About, maxActionText), clipped(a.Note, maxActionText))
		if err == nil {
			_, err = h.f.conn.ExecContext(ctx, `DELETE FROM action WHERE at < ? OR n <= (SELECT max(n) FROM action) - ?`, micros(a.At.Add(-keepActionsFor)), mostActions)
		}
		return err
	})
}

// HubKeeps says how long a hub keeps what.
type HubKeeps struct {
	Comments, Names, Counts time.Duration
}

// pruned is how many rows go in one transaction: reports wait for it.
const pruned = 2000

// Prune forgets what is too old: comments, then who said what with the reports, then everything. It lets go of the file now and
// then, and ends when ctx does.
func (h *Hub) Prune(ctx context.Context, keep HubKeeps, now time.Time) error {
	day := func(d time.Duration) int64 { return now.Add(-d).Unix() / secondsOfDay }
	for _, p := range []struct {
		question string
		before   int64
	}{
		{`DELETE FROM comment WHERE report IN (SELECT c.report FROM comment c JOIN report r ON r.n = c.report WHERE r.received < ?1 ORDER BY c.report LIMIT ?2)`, now.Add(-keep.Comments).Unix()},
		{`DELETE FROM report WHERE n IN (SELECT n FROM report WHERE received < ?1 ORDER BY received LIMIT ?2)`, now.Add(-keep.Names).Unix()},
		{`DELETE FROM evidence WHERE (key, reporter, day) IN (SELECT key, reporter, day FROM evidence WHERE day < ?1 LIMIT ?2)`, day(keep.Counts)},
		{`DELETE FROM quota WHERE (key, endpoint, day) IN (SELECT key, endpoint, day FROM quota WHERE day < ?1 LIMIT ?2)`, day(0)},
	} {
		for more := true; more; {
			if err := h.do("forget what is old", func(c context.Context) error {
				r, err := h.f.conn.ExecContext(c, p.question, p.before, pruned)
				if err != nil {
					return err
				}
				n, err := r.RowsAffected()
				more = n == pruned
				return err
			}); err != nil {
				return err
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
	}
	return h.forgetNames(ctx, day(keep.Names))
}

// forgetNames makes one row of all that was said of a key on a day before.
func (h *Hub) forgetNames(ctx context.Context, before int64) error {
	for more := true; more; {
		if err := h.do("forget who said what", func(c context.Context) error {
			type turn struct{ key, day int64 }
			var turns []turn
			rows, err := h.f.conn.QueryContext(c, `SELECT DISTINCT key, day FROM evidence INDEXED BY evidence_day WHERE day < ? AND reporter <> 0 LIMIT ?`, before, pruned)
			if err != nil {
				return err
			}
			if err := eachRow(rows, func(scan func(...any) error) error {
				var t turn
				err := scan(&t.key, &t.day)
				turns = append(turns, t)
				return err
			}); err != nil {
				return err
			}
			for _, t := range turns {
				if _, err := h.f.conn.ExecContext(c, `INSERT INTO evidence (key, reporter, day, second, count, categories, quality, public)
					SELECT key, 0, day, max(second), sum(count), 0, 0, 0 FROM evidence WHERE key = ?1 AND day = ?2 AND reporter <> 0 GROUP BY key, day
					ON CONFLICT DO UPDATE SET second = max(second, excluded.second), count = count + excluded.count`, t.key, t.day); err != nil {
					return err
				}
				if _, err := h.f.conn.ExecContext(c, `DELETE FROM evidence WHERE key = ? AND day = ? AND reporter <> 0`, t.key, t.day); err != nil {
					return err
				}
			}
			more = len(turns) == pruned
			return nil
		}); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}
