// Package tsdb keeps samples for years and answers questions about them.
//
// It is three databases of Prometheus's kind, raw, 5 minutes and 1 hour; which one answers is its own business
// (docs/design/0006-samples.md). It opens no network connection, and its memory is that of the last hour and a half: older
// samples lie in blocks that the kernel maps.
package tsdb

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"
	promtsdb "github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/util/compression"
	"golang.org/x/sys/unix"
)

// Options are the settings of a store. A zero value stands for the default.
type Options struct {
	Dir string // where it lives; made if it is not there

	Raw         time.Duration // how long samples are kept as they came; 14 days
	FiveMinutes time.Duration // how long points of five minutes are kept; two years
	Hours       time.Duration // how long points of an hour are kept; ten years

	Lateness  time.Duration // how late a sample may come; an hour. Windows are rolled up that much later
	MinFree   int64         // bytes that stay free on the disk; the smaller of 256 MiB and 5 % of it
	MaxSeries int           // series of the last hour and a half; 500,000. More are refused and counted

	QuerySamples int           // samples that one query may hold in memory; 10,000,000 (16 bytes each)
	QueryTime    time.Duration // how long a query may take; 30 s
	Queries      int           // how many run at once; 4. More wait

	// Patience is how long Open may read the write-ahead log, which after a crash of a big store takes longer than others want
	// to wait: then it returns, the reading goes on, and all answers are ErrOpening meanwhile. 0: however long it takes.
	Patience time.Duration

	Log *slog.Logger     // none if nil
	Now func() time.Time // the wall clock; time.Now
	// Every is how often it looks for work: roll up, merge, remove what is old. A minute; negative: only when Maintain is called.
	Every time.Duration
}

func (o *Options) check() error {
	if o.Dir == "" {
		return errors.New("the store of samples needs a folder")
	}
	o.Raw = cmp.Or(o.Raw, 14*24*time.Hour)
	o.FiveMinutes = cmp.Or(o.FiveMinutes, 2*365*24*time.Hour)
	o.Hours = cmp.Or(o.Hours, 10*365*24*time.Hour)
	o.Lateness = cmp.Or(o.Lateness, time.Hour)
	o.MaxSeries = cmp.Or(o.MaxSeries, 500_000)
	o.QuerySamples = cmp.Or(o.QuerySamples, 10_000_000)
	o.QueryTime = cmp.Or(o.QueryTime, 30*time.Second)
	o.Queries = cmp.Or(o.Queries, 4)
	o.Every = cmp.Or(o.Every, time.Minute)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	switch {
	case o.Raw < 6*time.Hour:
		return fmt.Errorf("samples kept for %s: at least 6h is needed, since five minutes are made of them", o.Raw)
	case o.FiveMinutes < 3*24*time.Hour:
		return fmt.Errorf("points of five minutes kept for %s: at least 72h is needed, since hours are made of them", o.FiveMinutes)
	case o.Lateness < 0 || o.Lateness > 3*time.Hour:
		return fmt.Errorf("samples accepted %s late: at most 3h", o.Lateness)
	}
	return nil
}

// DB is a store. Its methods may be called from many goroutines.
type DB struct {
	o      Options
	lock   *os.File
	engine *promql.Engine
	free   func() (free, total int64, err error) // of the disk

	use    sync.RWMutex // held for reading by whatever reads or appends; for writing while raw is opened or closed
	raw    *promtsdb.DB // nil: see failed
	failed error        // why there is no raw: ErrOpening, or what went wrong
	closed bool
	broken atomic.Bool     // the write-ahead log failed: raw is opened anew before anything is appended
	levels [levels]*blocks // none for raw

	maintaining sync.Mutex // held by Maintain and Import
	late        late
	rolled      atomic.Pointer[rolled]
	retain      retain

	mu    sync.Mutex // everything below
	last  map[storage.SeriesRef]lastValue
	quiet map[storage.SeriesRef]labels.Labels // of series in last that memory may have forgotten
	space space
	stats Stats

	cancel context.CancelFunc
	done   chan struct{}
}

// Stats are figures about a store since it was opened, and its present size.
type Stats struct {
	Opening  bool  // the write-ahead log is still being read
	Series   int   // of the last hour and a half
	Samples  int64 // in the blocks of all three databases
	Appended int64
	Late     int64 // appended, but after a newer one of the same series
	Double   int64 // dropped: there is one of that time
	TooOld   int64 // dropped: later than Options.Lateness
	TooNew   int64 // dropped: more than ten minutes ahead of the clock
	Bad      int64 // dropped: labels too many, too long or not valid
	TooMany  int64 // dropped: of a new series beyond Options.MaxSeries
	Refused  int64 // not taken: the disk was full or could not be written
	Imported int64 // points

	Blocks   int
	Bytes    int64     // on the disk
	RolledTo time.Time // up to where five minutes are made; zero: nowhere yet
	Full     bool      // the disk is full: samples are refused
	Damaged  int       // blocks that were moved aside
	Failed   int64     // rounds of maintenance that ended in an error
}

// Open opens the store in o.Dir, makes it where there is none, and repairs what a crash left. Close must be called.
//
// A store that another process has open is refused. A damaged write-ahead log is cut where the damage begins, a damaged block
// is moved to the folder "damaged"; each is told once.
func Open(ctx context.Context, o Options) (_ *DB, err error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	d := &DB{o: o, failed: ErrOpening, last: map[storage.SeriesRef]lastValue{}, quiet: map[storage.SeriesRef]labels.Labels{}, done: make(chan struct{})}
	d.free = func() (int64, int64, error) { return diskSpace(o.Dir) }
	if err := os.MkdirAll(o.Dir, 0o750); err != nil {
		return nil, fmt.Errorf("open the store of samples: %w", err)
	}
	if d.lock, err = lockDir(o.Dir); err != nil {
		return nil, err
	}
	ctx, d.cancel = context.WithCancel(context.WithoutCancel(ctx))
	defer func() {
		if err != nil {
			d.cancel()
			d.closeAll()
			err = fmt.Errorf("open the store of samples %s: %w", o.Dir, err)
		}
	}()
	if err := d.openCoarse(ctx); err != nil {
		return nil, err
	}
	d.newEngine()
	opened, alone := make(chan error), make(chan struct{})
	go func() {
		defer close(d.done)
		began := time.Now()
		err := d.openRest(ctx)
		select {
		case opened <- err:
		case <-alone:
			d.tellOpened(err, time.Since(began))
		}
		if err == nil {
			d.run(ctx)
		}
	}()
	var patience <-chan time.Time
	if o.Patience > 0 {
		t := time.NewTimer(o.Patience)
		defer t.Stop()
		patience = t.C
	}
	select {
	case err := <-opened:
		return d, err
	case <-patience:
		o.Log.Info("reading the journal of the samples; until it is read none are taken and no question is answered", "dir", o.Dir)
		close(alone)
		return d, nil
	}
}

// tellOpened says how the reading ended that Open did not wait for.
func (d *DB) tellOpened(err error, took time.Duration) {
	switch {
	case err != nil:
		d.o.Log.Error("the samples cannot be read, and none are taken", "dir", d.o.Dir, "err", err)
	default:
		d.o.Log.Info("the journal of the samples is read: samples are taken", "dur", took.Round(time.Second))
	}
}

// openRest opens what takes time: raw, with its write-ahead log.
func (d *DB) openRest(ctx context.Context) error {
	db, err := d.openRaw()
	if err == nil {
		if err = errors.Join(d.loadRolled(), d.recall(ctx, db)); err != nil {
			err, db = errors.Join(err, db.Close()), nil
		}
	}
	d.use.Lock()
	defer d.use.Unlock()
	d.raw, d.failed = db, err
	return err
}

// lockDir keeps other processes out of dir.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("open the store of samples %s: another process has it open", dir)
		}
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return f, nil
}

// Lengths that blocks grow to.
var (
	ranges5m = []int64{window5m, window1h, 10 * window1h, 60 * window1h}
	ranges1h = []int64{window1h, 10 * window1h, 60 * window1h, 300 * window1h}
)

func (d *DB) openCoarse(ctx context.Context) error {
	for l, ranges := range map[level][]int64{fiveMinutes: ranges5m, hours: ranges1h} {
		name := [levels]string{"raw", "5m", "1h"}[l]
		b, damaged, err := openBlocks(ctx, filepath.Join(d.o.Dir, name), d.aside(), ranges)
		d.tellDamage(damaged)
		if err != nil {
			return err
		}
		d.levels[l] = b
	}
	return nil
}

func (d *DB) aside() string { return filepath.Join(d.o.Dir, "damaged") }

func (d *DB) tellDamage(damaged []damage) {
	for _, b := range damaged {
		d.mu.Lock()
		d.stats.Damaged++
		d.mu.Unlock()
		d.o.Log.Warn("a block of samples is damaged and was moved aside; its samples are missing", "block", b.block, "to", d.aside(), "err", b.err)
	}
}

// Lengths of the blocks of raw. The head spans from half of the shortest to one and a half of it, and so does the write-ahead
// log, which is read at each start: some 0.2 s of a processor for a million samples.
const (
	shortestRaw = step1h
	longestRaw  = 27 * step1h
)

// openRaw opens the database of samples as they came, the only one with a head in memory.
func (d *DB) openRaw() (*promtsdb.DB, error) {
	dir := filepath.Join(d.o.Dir, "raw")
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, err
	}
	damaged, err := setDamagedAside(dir, d.aside())
	d.tellDamage(damaged)
	if err != nil {
		return nil, err
	}
	o := promtsdb.DefaultOptions()
	o.RetentionDuration = 0 // isOld decides
	o.BlocksToDelete = thoseThat(d.isOld, promtsdb.BlockMeta{}.ULID)
	o.NoLockfile = true // ours covers all three
	o.MinBlockDuration = shortestRaw
	o.MaxBlockDuration = longestRaw
	o.WALSegmentSize = 8 << 20
	o.WALCompression = compression.Snappy
	o.StripeSize = 1 << 10
	o.HeadChunksWriteBufferSize = 64 << 10
	o.IsolationDisabled = true
	o.BlockReloadInterval = 1000 * time.Hour // Maintain does what it does then, and looks at the disk before
	o.FloatChunkEncoding = chunkenc.EncXOR2
	o.EnableExemplarStorage = false
	// Append looks at the clock; the database only has to take what Append lets through, also when the clock was set back.
	o.OutOfOrderTimeWindow = int64(20 * 365 * 24 * time.Hour / time.Millisecond)
	log := newRepairLog(d.o.Log)
	db, err := promtsdb.Open(dir, slog.New(log), nil, o, nil)
	if err != nil {
		return nil, err
	}
	db.DisableCompactions() // Maintain does them
	log.opened()
	return db, nil
}

func (d *DB) rawDB() *promtsdb.DB { return d.raw }

// source is the database of a level.
func (d *DB) source(l level) storage.Queryable {
	if l == raw {
		return d.raw
	}
	return d.levels[l]
}

// has says whether a level has something in [from, to].
func (d *DB) has(l level, from, to int64) bool {
	if l != raw {
		return d.levels[l].overlaps(from, to)
	}
	h := d.raw.Head()
	if h.MinTime() <= to && h.MaxTime() >= from || h.MinOOOTime() <= to && h.MaxOOOTime() >= from {
		return true
	}
	for _, m := range d.raw.BlockMetas() {
		if m.MinTime <= to && m.MaxTime > from {
			return true
		}
	}
	return false
}

// Close writes what is open and lets go of the folder. It waits for queries that run, and for a write-ahead log that is read.
func (d *DB) Close() error {
	d.cancel()
	<-d.done
	d.use.Lock()
	defer d.use.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	return d.closeAll()
}

func (d *DB) closeAll() error {
	var errs []error
	errs = append(errs, d.closeRaw())
	for _, b := range d.levels {
		if b != nil {
			errs = append(errs, b.close())
		}
	}
	if err := errors.Join(append(errs, d.lock.Close())...); err != nil {
		return fmt.Errorf("close the store of samples: %w", err)
	}
	return nil
}

// closeRaw closes raw. Prometheus's database panics where it cannot write; what it wanted to write is in the write-ahead log.
func (d *DB) closeRaw() (err error) {
	if d.raw == nil {
		return nil
	}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("close raw: %v", r)
		}
		d.raw = nil
	}()
	return d.raw.Close()
}

// errClosed is what a store answers after Close.
var errClosed = errors.New("the store of samples is closed")

// ErrOpening is what a store answers while its write-ahead log is read (Options.Patience). It is worth trying again later.
var ErrOpening = errors.New("the store of samples is reading its journal")

// begin keeps the store open until the function it returns is called.
func (d *DB) begin() (end func(), err error) {
	d.use.RLock()
	if d.closed {
		d.use.RUnlock()
		return nil, errClosed
	}
	if d.raw == nil {
		err := d.failed
		d.use.RUnlock()
		return nil, err
	}
	return d.use.RUnlock, nil
}

// Stats are the figures of now.
func (d *DB) Stats() Stats {
	d.mu.Lock()
	s := d.stats
	d.mu.Unlock()
	end, err := d.begin()
	if err != nil {
		s.Opening = errors.Is(err, ErrOpening)
		return s
	}
	defer end()
	s.Series = int(d.raw.Head().NumSeries())
	for _, b := range d.raw.Blocks() {
		s.Blocks++
		s.Bytes += b.Size()
		s.Samples += int64(b.Meta().Stats.NumSamples)
	}
	for _, l := range d.levels[fiveMinutes:] {
		n, bytes, samples := l.stats()
		s.Blocks, s.Bytes, s.Samples = s.Blocks+n, s.Bytes+bytes, s.Samples+samples
	}
	s.Bytes += d.raw.Head().Size()
	if to := d.rolledTo().FiveMinutes; to != 0 {
		s.RolledTo = time.UnixMilli(to)
	}
	return s
}

func (d *DB) rolledTo() rolled { return *d.rolled.Load() }

func (d *DB) rolledFile() string { return filepath.Join(d.o.Dir, "rolled.json") }

func (d *DB) setRolled(r rolled) error {
	if err := writeJSON(d.rolledFile(), r); err != nil {
		return fmt.Errorf("remember what was rolled up: %w", err)
	}
	d.rolled.Store(&r)
	return nil
}

func (d *DB) loadRolled() error {
	var r rolled
	text, err := os.ReadFile(d.rolledFile())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if json.Unmarshal(text, &r) != nil || r.FiveMinutes%window5m != 0 || r.Hours%window1h != 0 || d.stats.Damaged > 0 {
		r = rolled{} // not readable, or a block is missing: all that raw has is rolled up again
	}
	d.rolled.Store(&r)
	return nil
}

// now is the wall clock in Unix milliseconds.
func (d *DB) now() int64 { return d.o.Now().UnixMilli() }

// lastValue is the last value of a series.
type lastValue struct {
	t int64
	v float64
}

const minTime, maxTime = math.MinInt64 / 4, math.MaxInt64 / 4 // of a search without bounds
