package probe

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tocsin/internal/munin"
)

// Bounds of what a node kept for us.
const (
	// spoolBack is how far back a node is asked for what it kept: the store takes samples that are an hour late, and a poll
	// may take minutes.
	spoolBack = 55 * time.Minute
	// spoolAgain is asked for once more at each poll: not all services of a moment are kept at the same moment.
	spoolAgain = 5 * time.Minute
	// spoolBefore is asked for before the newest sample there is, after a restart: a rate needs the value before.
	spoolBefore = 10 * time.Minute
	// spoolQuiet is how long a node may have nothing new. munin-asyncd asks its node every five minutes, and that may be
	// slow.
	spoolQuiet     = 20 * time.Minute
	maxSpoolValues = 500_000 // of one poll of a node
)

// spool is what is remembered of a node that keeps history: munin-asyncd, another Tocsin.
type spool struct {
	newest   func(group, node string) time.Time // NodesOptions.Newest
	last     int64                              // Unix seconds of the newest value of all; 0: none yet
	services map[spoolKey]*spooled
}

type spoolKey struct{ host, service string }

// spooled is one service of it.
type spooled struct {
	desc *munin.Service
	last int64 // of its newest value
	at   int   // its reading in this poll, counted from 1; 0: it has none
}

var errKeptNothing = fmt.Errorf("it answers, and has kept nothing of the last %v: does munin-asyncd run there?", spoolBack)

// kept asks a node that keeps history for what it has since the last poll. So what was read while nobody could ask the node
// comes in with the time at which it was.
func (r *round) kept(ctx context.Context) error {
	now := r.h.Now()
	s := &r.spool
	since := r.since(now)
	for key, one := range s.services {
		if one.at = 0; one.last < now.Add(-forgetAfter).Unix() {
			delete(s.services, key)
		}
	}
	problems, err := r.c.SpoolFetch(ctx, since.Unix(), func(desc munin.Service, values []munin.Value) error {
		return r.keep(&desc, values, now.Add(futureBound).Unix())
	})
	last := r.fresh()
	if err == nil { // else what did not come any more is asked for again
		s.last = max(s.last, last)
	}
	r.plugins = len(s.services)
	if len(problems) > 0 {
		r.bad("spoolfetch", errors.New(problems[0].String()))
	}
	switch {
	case err != nil:
		return err
	case s.last == 0:
		return errKeptNothing
	case now.Sub(time.Unix(s.last, 0)) > spoolQuiet:
		return fmt.Errorf("it answers, and has kept nothing since %s: does munin-asyncd run there?", time.Unix(s.last, 0).Format(time.DateTime))
	}
	return nil
}

// since is from when on the node is asked.
func (r *round) since(now time.Time) time.Time {
	since := now.Add(-spoolBack)
	last := time.Unix(r.spool.last, 0).Add(-spoolAgain)
	if r.spool.last == 0 && r.spool.newest != nil {
		last = r.spool.newest(r.node.Group, r.node.Name).Add(-spoolBefore)
	}
	if last.After(since) && last.Before(now) {
		return last
	}
	return since
}

// keep takes values of one service; of what is ahead of the clock nothing. A service comes many times in one answer.
func (r *round) keep(desc *munin.Service, values []munin.Value, latest int64) error {
	s := &r.spool
	key := spoolKey{desc.Host, desc.Name}
	one := s.services[key]
	if one == nil {
		if len(s.services) >= maxReadings {
			return fmt.Errorf("more than %d services", maxReadings)
		}
		if s.services == nil {
			s.services = map[spoolKey]*spooled{}
		}
		one = &spooled{}
		s.services[key] = one
	}
	if one.desc == nil || !one.desc.Same(desc) {
		one.desc = desc
	}
	for _, v := range values {
		if v.At == 0 || v.At > latest || desc.Field(v.Field) == nil {
			continue
		}
		if r.values++; r.values > maxSpoolValues {
			return fmt.Errorf("more than %d values", maxSpoolValues)
		}
		if one.at == 0 {
			r.rs = append(r.rs, Reading{Group: r.node.Group, Node: r.node.Name, At: r.h.Now()})
			r.kinds = append(r.kinds, one)
			one.at = len(r.rs)
		}
		v.Service = ""
		rd := &r.rs[one.at-1]
		rd.Service, rd.Values = one.desc, append(rd.Values, v)
	}
	return nil
}

// fresh leaves out the readings that hold nothing new. In the others are values that were there before; Rates knows them by
// their times.
func (r *round) fresh() (last int64) {
	kept := r.rs[:0]
	for i, rd := range r.rs {
		newest := int64(0)
		for _, v := range rd.Values {
			newest = max(newest, v.At)
		}
		if one := r.kinds[i]; newest > one.last {
			one.last = newest
			kept = append(kept, rd)
		}
		last = max(last, newest)
	}
	r.rs = kept
	return last
}
