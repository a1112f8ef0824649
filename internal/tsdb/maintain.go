package tsdb

import (
	"context"
	"errors"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	promtsdb "github.com/prometheus/prometheus/tsdb"
)

func (d *DB) run(ctx context.Context) {
	if d.o.Every < 0 {
		return
	}
	tick := time.NewTicker(d.o.Every)
	defer tick.Stop()
	failing := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := d.Maintain(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			failing = ""
		case err.Error() != failing: // once, not every minute
			failing = err.Error()
			d.o.Log.Error("the store of samples cannot be kept in order, trying again every minute", "err", err)
		}
	}
}

// Maintain does what is due: samples of the past hours become blocks, settled windows are rolled up, small blocks merged, old
// ones removed. A store does so by itself (Options.Every).
func (d *DB) Maintain(ctx context.Context) error {
	d.maintaining.Lock()
	defer d.maintaining.Unlock()
	end, err := d.begin()
	if err != nil {
		return err
	}
	defer end()
	now := d.now()
	d.retain.look(now)
	before := d.newest()
	var errs []error
	for l := fiveMinutes; l <= hours; l++ {
		errs = append(errs, d.removeOld(l, now))
	}
	if d.hasRoom() { // without it samples stay in memory and in the write-ahead log
		errs = append(errs, d.noteQuiet(now), d.compactRaw(ctx, now), d.rollUp(ctx, now))
		for l := fiveMinutes; l <= hours; l++ {
			errs = append(errs, d.levels[l].compact(ctx))
		}
	}
	d.forget(ctx, now)
	if d.newest() != before {
		// Writing a block takes some 20 MB for buffers, every two hours; the kernel gets them back at once.
		debug.FreeOSMemory()
	}
	err = errors.Join(errs...)
	if err != nil {
		d.mu.Lock()
		d.stats.Failed++
		d.mu.Unlock()
	}
	return err
}

// newest names the block that was written last.
func (d *DB) newest() (name string) {
	for _, m := range d.raw.BlockMetas() {
		name = max(name, m.ULID.String())
	}
	for _, l := range d.levels[fiveMinutes:] {
		for _, b := range l.list() {
			name = max(name, b.Meta().ULID.String())
		}
	}
	return name
}

// compactRaw writes blocks of what is older than an hour and a half in memory. Late samples are written with them; where the clock
// was set back all samples are late ones, and nothing else would write them.
func (d *DB) compactRaw(ctx context.Context, now int64) error {
	d.raw.ForceHeadMMap()
	if err := d.raw.Compact(ctx); err != nil {
		return err
	}
	d.mu.Lock()
	seen := late{newest: d.raw.Head().MaxOOOTime(), n: d.stats.Late, at: now}
	d.mu.Unlock()
	if d.late.at == 0 {
		d.late = seen
	}
	if seen.newest == d.late.newest && seen.n == d.late.n || now-d.late.at < window5m && now >= d.late.at {
		return nil
	}
	d.late = seen
	return d.raw.CompactOOOHead(ctx)
}

// late is what was known of late samples when they were last written as blocks.
type late struct {
	newest, n, at int64
}

// retain holds removal back after the clock leapt ahead, for a day: a clock that is wrong must not cost history.
type retain struct {
	seen  int64        // the clock at the last look
	until atomic.Int64 // nothing is removed before
}

const leap = int64(24 * time.Hour / time.Millisecond)

func (r *retain) look(now int64) {
	switch {
	case r.seen != 0 && now-r.seen > leap:
		r.until.Store(now + leap)
	case now < r.seen: // it was put right
		r.until.Store(0)
	}
	r.seen = now
}

// removeOld removes blocks of a coarse database that are past its retention.
func (d *DB) removeOld(l level, now int64) error {
	if now < d.retain.until.Load() {
		return nil
	}
	oldest := now - [levels]time.Duration{fiveMinutes: d.o.FiveMinutes, hours: d.o.Hours}[l].Milliseconds()
	return d.levels[l].remove(func(b *promtsdb.Block) bool { return b.MaxTime() <= oldest })
}

// isOld says whether a block of raw is past its retention. One that is not rolled up yet stays.
func (d *DB) isOld(b *promtsdb.Block) bool {
	m := b.Meta()
	if m.Compaction.Deletable {
		return true
	}
	now := d.now()
	r := d.rolled.Load()
	return m.MaxTime <= now-d.o.Raw.Milliseconds() && now >= d.retain.until.Load() && r != nil && m.MaxTime <= r.FiveMinutes
}

// thoseThat makes of a question about a block what Prometheus's database asks for. ID is the type of a block's name, of a
// module that is not ours to name.
func thoseThat[ID comparable](gone func(*promtsdb.Block) bool, _ ID) func([]*promtsdb.Block) map[ID]struct{} {
	return func(all []*promtsdb.Block) map[ID]struct{} {
		names := map[ID]struct{}{}
		for _, b := range all {
			if id, ok := any(b.Meta().ULID).(ID); ok && gone(b) {
				names[id] = struct{}{}
			}
		}
		return names
	}
}

// quietAfter is when a series is noted before memory may forget it, which it does half of the shortest block after its last
// sample at the earliest. What is measured once an hour is such a series.
const quietAfter = shortestRaw / 4

// noteQuiet keeps the labels of series that had no sample for a while, for Last.
func (d *DB) noteQuiet(now int64) error {
	ix, err := d.raw.Head().Index()
	if err != nil {
		return err
	}
	defer ix.Close()
	d.mu.Lock()
	defer d.mu.Unlock()
	var b labels.ScratchBuilder
	for ref, v := range d.last {
		if _, noted := d.quiet[ref]; noted || v.t > now-quietAfter {
			continue
		}
		if err := ix.Series(ref, &b, nil); err == nil {
			d.quiet[ref] = b.Labels()
		}
	}
	return nil
}

// forget drops the last values of series that ended.
func (d *DB) forget(ctx context.Context, now int64) {
	numberOf, done := numbers(ctx, d.raw)
	defer done()
	d.mu.Lock()
	defer d.mu.Unlock()
	for ref, v := range d.last {
		if v.t < now-lookback || v.t > now+lookback {
			delete(d.last, ref)
		}
	}
	for ref, l := range d.quiet {
		v, ok := d.last[ref]
		if n := numberOf(l); ok && n != 0 && n != ref {
			delete(d.last, ref) // it was forgotten, and came again under another number
			ok = false
		}
		if !ok || v.t > now-quietAfter {
			delete(d.quiet, ref)
		}
	}
}
