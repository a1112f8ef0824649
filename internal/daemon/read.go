package daemon

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"tocsin"
	"tocsin/internal/filter"
	"tocsin/internal/source"
	"tocsin/internal/store"
)

// reading is a source of any kind.
type reading interface {
	Run(context.Context, source.Sink) error
	Stats() source.Stats
}

type sourceOptions struct {
	marks   []source.Mark
	since   time.Time
	dateOf  source.DateOf
	loc     *time.Location // of dates without a zone
	require []string       // terms that every entry of a journal must meet
	log     *slog.Logger
}

// event is something found in a log on its way to the decider.
type event struct {
	cell    *cell
	failure *tocsin.Failure
	login   *tocsin.Login
	mark    *source.Mark
	first   bool // of a source that was never read before
	badID   bool
	seen    bool
}

// filterStats are sums over the filters of one source, as of its last mark.
type filterStats struct{ tooLong, undated, outOfStep, dropped uint64 }

// reader takes the records of one source through the filters of all jails that read it. It runs in the source's
// goroutine.
type reader struct {
	unread    bool // no mark of this source is stored: it was never read before
	name      string
	src       reading // nil: it cannot be read, and stopped says why
	taps      []tap
	group     *filter.Group // of the taps' filters
	events    chan<- event
	forgeable bool // its dates are what somebody wrote; those of the journal are the journal's

	live     atomic.Bool // what was there at the start has been read
	filters  atomic.Pointer[filterStats]
	lastLine atomic.Int64 // Unix microseconds of the newest line that a filter wanted
	stopped  atomic.Pointer[string]
}

type tap struct {
	cell   *cell
	filter *filter.Filter
}

// forgedAfter is how far the date of a live line may be off before it is bent to now: a clock set wrong, or a forged
// line, must neither escape the window nor make a ban that is over before it began. fail2ban uses the same minute.
const forgedAfter = time.Minute

func (r *reader) run(ctx context.Context) error {
	err := r.src.Run(ctx, source.Sink{Record: r.record, Mark: r.mark, CaughtUp: func() { r.live.Store(true) }})
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// record is the hot path: most lines end in the group.
func (r *reader) record(rec *tocsin.Record) { r.group.Line(rec, r.found) }

// found takes what a filter says of a line.
func (r *reader) found(i int, rec *tocsin.Record, res filter.Result) {
	c := r.taps[i].cell
	switch res.Kind {
	case filter.Failed:
		f := *res.Failure
		f.At = r.bend(f.At, rec.Seen)
		f.Line.At = f.At
		r.send(event{cell: c, failure: &f, seen: rec.Seen})
	case filter.LoggedIn, filter.LoggedOut:
		l := *res.Login
		l.At = r.bend(l.At, rec.Seen)
		r.send(event{cell: c, login: &l, seen: rec.Seen})
	case filter.BadID:
		r.send(event{cell: c, badID: true, seen: rec.Seen})
	}
}

// bend takes now for a date that cannot be true. Nothing was written in the future; what is written now was not written in
// the past.
func (r *reader) bend(at time.Time, seen bool) time.Time {
	now := time.Now()
	if off := at.Sub(now); off > forgedAfter || off < -forgedAfter && !seen && r.live.Load() && r.forgeable {
		at = now
	}
	r.lastLine.Store(at.UnixMicro())
	return at
}

func (r *reader) mark(m source.Mark) {
	var sum filterStats
	for i := range r.taps {
		st := r.taps[i].filter.Stats()
		sum.tooLong += st.TooLong
		sum.undated += st.Undated
		sum.outOfStep += st.OutOfStep
		sum.dropped += st.Dropped
	}
	r.filters.Store(&sum)
	r.send(event{mark: &m, first: r.unread})
	r.unread = false
}

// send waits while the decider is busy: the bytes of a file stay on the disk, and a socket has a queue of its own that
// counts what it drops. The decider outlives every reader, so the wait ends.
func (r *reader) send(e event) { r.events <- e }

// newReaders makes a reader for each source of the set. One that cannot be made is there all the same, for people to see
// why.
func (g *Guard) newReaders(s *set, now time.Time) []*reader {
	var rs []*reader
	for _, name := range s.sources {
		r, err := g.newReader(s, name, now)
		if err != nil {
			g.log.Error("cannot read source", "source", name, "err", err)
			r = &reader{name: name}
			r.fail(err)
		}
		rs = append(rs, r)
	}
	return rs
}

// startReaders reads every source in a goroutine of its own.
func (g *Guard) startReaders(rs []*reader) {
	ctx, stop := context.WithCancel(context.Background())
	g.reading.stop = stop
	for _, r := range rs {
		if r.src == nil {
			continue
		}
		g.reading.wg.Go(func() {
			if err := r.run(ctx); err != nil {
				r.fail(err)
				g.log.Error("stopped reading", "source", r.name, "err", err)
			}
		})
	}
}

// stopReaders ends the reading and waits until the last mark is in the queue. The decider must not call it: it has to go on
// taking from that queue.
func (g *Guard) stopReaders() {
	if g.reading.stop != nil {
		g.reading.stop()
		g.reading.stop = nil
	}
	g.reading.wg.Wait()
}

// stopReading stops the readers for good.
func (g *Guard) stopReading() {
	g.reading.Lock()
	defer g.reading.Unlock()
	g.reading.stopping = true
	g.stopReaders()
}

func (r *reader) fail(err error) {
	text := err.Error()
	r.stopped.Store(&text)
}

func (g *Guard) newReader(s *set, name string, now time.Time) (*reader, error) {
	spec, err := source.Parse(name)
	if err != nil {
		return nil, err
	}
	r := &reader{name: name, events: g.events, forgeable: spec.Kind != source.KindJournal}
	o := sourceOptions{log: g.log, since: now, require: s.require(name)}
	var cells []*cell
	for _, c := range s.cells {
		if !c.reads(name) {
			continue
		}
		cells = append(cells, c)
		if from := now.Add(-c.options.FindTime); from.Before(o.since) {
			o.since = from
		}
	}
	// Records of the journal and of syslog sockets bring their time along, files are dated line by line.
	filters := newFilters(cells, filter.Options{Now: time.Now, NoDate: spec.Kind != source.KindFile})
	for i, c := range cells {
		r.taps = append(r.taps, tap{cell: c, filter: filters[i]})
	}
	r.group = filter.NewGroup(filters)
	first := cells[0]
	o.loc, o.dateOf = first.loc, dateOf(first.program.Dates(first.loc, time.Now)) // of its own: bisecting jumps about in the log
	if o.marks, err = g.marks(name); err != nil {
		g.log.Warn("cannot tell how far a source was read; reading on from now", "source", name, "err", err)
	}
	if r.unread = len(o.marks) == 0; r.unread {
		// A log that is born while no guard runs is news to the next one.
		g.store.PutMark(store.Mark{Source: name, At: now})
	}
	r.src, err = openSource(name, o)
	return r, err
}

// rootsOwn is what an entry of the journal must meet that a jail of tocsin.toml reads: any user may write to the journal,
// but what a unit's processes wrote as root is theirs.
var rootsOwn = []string{"_UID=0"}

// require are the terms that every entry of a journal must meet. fail2ban takes what anybody wrote, and some services do
// not log as root.
func (s *set) require(name string) []string {
	if slices.ContainsFunc(s.cells, func(c *cell) bool { return c.f2b == nil && c.reads(name) }) {
		return rootsOwn
	}
	return nil
}

func dateOf(d *filter.Dates) source.DateOf {
	return func(line []byte) (time.Time, bool) {
		t, _, _, ok := d.Find(line)
		return t, ok
	}
}

// marks are how far a source was read before.
func (g *Guard) marks(name string) ([]source.Mark, error) { return marksOf(g.store, name) }

// storeMark and marksOf take a mark to the store and back.
func storeMark(m source.Mark) store.Mark {
	return store.Mark{
		Source: m.Source, Path: m.Path, File: m.Pos.File, Offset: m.Pos.Offset,
		Fingerprint: m.Fingerprint, Cursor: m.Cursor, At: m.At,
	}
}

func marksOf(s *store.Store, name string) ([]source.Mark, error) {
	rows, err := s.Marks(name)
	var ms []source.Mark
	for _, m := range rows {
		ms = append(ms, source.Mark{
			Source: m.Source, Path: m.Path, Pos: tocsin.Position{File: m.File, Offset: m.Offset},
			Fingerprint: m.Fingerprint, Cursor: m.Cursor, At: m.At,
		})
	}
	return ms, err
}

// reads says whether the jail reads this source.
func (c *cell) reads(name string) bool { return slices.Contains(c.sources, name) }
