package tsdb

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"math"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"tocsin"
)

// History is what an older system knows of one series.
type History struct {
	Series   tocsin.Series
	Archives []Archive
}

// Archive is one table of it: rows of one step and one consolidation, as in an RRD file.
type Archive struct {
	Step time.Duration // what a row stands for; at least 1s
	Of   Consolidation
	Rows []Row // in any order; unknown ones (NaN) are skipped
}

// Row is one value; it stands for (T-Step, T].
type Row struct {
	T int64 // Unix milliseconds
	V float64
}

// Consolidation is what a row tells of its step.
type Consolidation uint8

// The consolidations. Last counts as an average.
const (
	Average Consolidation = iota
	Min
	Max
	Last
)

// Imported says what an import did.
type Imported struct {
	Series int // that brought anything new
	Points int // that are new, of all databases, averages, minima and maxima
	Known  int // points that were there already and stayed as they were
	Old    int // rows that are past the retention
	Ahead  int // rows that lie in the future
}

// flushAt is how many bytes of new blocks are held in memory before they are written.
const flushAt = 64 << 20

// Import takes over what an older system kept. Points that are there already stay, and so do those that will be made of samples
// in raw, so a second import of the same adds nothing. Rows finer than an hour become points of five minutes and of an hour,
// others hours of the same value; where tables overlap the finest counts. An average without a minimum or maximum is both.
// A series should come once. At an error, of the sequence too, what came before it is kept.
func (d *DB) Import(ctx context.Context, all iter.Seq2[History, error]) (Imported, error) {
	d.maintaining.Lock()
	defer d.maintaining.Unlock()
	end, err := d.begin()
	if err != nil {
		return Imported{}, err
	}
	defer end()
	im, err := d.newImport()
	if err != nil {
		return Imported{}, fmt.Errorf("import: %w", err)
	}
	defer im.close()
	for h, err := range all {
		if err == nil {
			err = im.take(ctx, h)
		}
		if err != nil {
			if flushed := im.flush(ctx); flushed != nil {
				err = flushed
			}
			return im.sum, fmt.Errorf("import %s/%s/%s/%s: %w", h.Series.Group, h.Series.Node, h.Series.Service, h.Series.Field, err)
		}
	}
	if err := im.flush(ctx); err != nil {
		return im.sum, fmt.Errorf("import: %w", err)
	}
	return im.sum, nil
}

// importer is an import on its way.
type importer struct {
	d      *DB
	now    int64
	rolled rolled
	known  [levels]storage.Querier // what is there; of raw what will be rolled up
	blocks map[blockKey]*blockWriter
	sum    Imported

	table  [3][]float64 // slots of average, minimum, maximum
	sums   []float64
	counts []float64
	line   []point
}

type blockKey struct {
	level level
	from  int64
}

func (d *DB) newImport() (*importer, error) {
	im := &importer{d: d, now: d.now(), rolled: d.rolledTo(), blocks: map[blockKey]*blockWriter{}}
	if !d.hasRoom() {
		return nil, ErrFull
	}
	for l := raw; l < levels; l++ {
		from := int64(minTime)
		if l == raw {
			from = im.rolled.FiveMinutes - step5m + 1
		}
		q, err := d.source(l).Querier(from, maxTime)
		if err != nil {
			im.close()
			return nil, err
		}
		im.known[l] = q
	}
	return im, nil
}

func (im *importer) close() {
	for _, q := range im.known {
		if q != nil {
			q.Close()
		}
	}
}

func (im *importer) take(ctx context.Context, h History) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	archives := slices.Clone(h.Archives)
	slices.SortStableFunc(archives, func(a, b Archive) int { return cmp.Compare(a.Step, b.Step) })
	for _, a := range archives {
		if a.Step < time.Second {
			return fmt.Errorf("rows of %s: a second at least", a.Step)
		}
		for _, r := range a.Rows {
			if r.T > im.now+maxAhead {
				im.sum.Ahead++
			} else if r.T <= im.oldest(hours) {
				im.sum.Old++
			}
		}
	}
	before := im.sum.Points
	for l := fiveMinutes; l <= hours; l++ {
		if err := im.level(ctx, l, h.Series, archives); err != nil {
			return err
		}
	}
	if im.sum.Points > before {
		im.sum.Series++
	}
	size := 0
	for _, w := range im.blocks {
		size += w.size
	}
	if size > flushAt {
		return im.flush(ctx)
	}
	return nil
}

// oldest is the time up to which a database keeps nothing.
func (im *importer) oldest(l level) int64 {
	return im.now - [levels]time.Duration{fiveMinutes: im.d.o.FiveMinutes, hours: im.d.o.Hours}[l].Milliseconds()
}

// level makes the new points of one series in one database.
func (im *importer) level(ctx context.Context, l level, s tocsin.Series, archives []Archive) error {
	step := l.span()
	if l == fiveMinutes {
		archives = slices.DeleteFunc(slices.Clone(archives), func(a Archive) bool { return a.Step >= time.Hour })
	}
	from, to := int64(math.MaxInt64), int64(math.MinInt64) // slots end in (from, to]
	oldest := im.oldest(l)
	for _, a := range archives {
		for _, r := range a.Rows {
			if r.T > oldest && r.T <= im.now+maxAhead && !math.IsNaN(r.V) {
				from = min(from, floorTo(r.T-a.Step.Milliseconds(), step))
				to = max(to, ceilTo(r.T, step))
			}
		}
	}
	from = max(from, floorTo(oldest, step))
	if from >= to {
		return nil
	}
	im.clear(int((to - from) / step))
	for _, a := range archives {
		im.spread(a, from, to, step)
	}
	for i, v := range im.table[average] {
		for _, k := range []kind{minimum, maximum} {
			if math.IsNaN(im.table[k][i]) {
				im.table[k][i] = v
			}
		}
	}
	var b labels.ScratchBuilder
	cut, err := im.cut(ctx, l, seriesLabels(&b, Metric, s))
	if err != nil {
		return err
	}
	for k, name := range []string{average: Metric, minimum: Metric + suffixMin, maximum: Metric + suffixMax} {
		series := seriesLabels(&b, name, s)
		table := im.table[k]
		if err := im.remove(ctx, l, series, table, from, step); err != nil {
			return err
		}
		im.line = im.line[:0]
		for i, v := range table {
			if t := from + int64(i+1)*step; !math.IsNaN(v) && t < cut {
				im.line = append(im.line, point{t, v})
			} else if !math.IsNaN(v) {
				im.sum.Known++
			}
		}
		if err := im.write(l, series, im.line); err != nil {
			return err
		}
	}
	return nil
}

func (im *importer) clear(n int) {
	for k := range im.table {
		im.table[k] = fill(im.table[k], n, math.NaN())
	}
}

func fill(s []float64, n int, v float64) []float64 {
	s = slices.Grow(s[:0], n)[:n]
	for i := range s {
		s[i] = v
	}
	return s
}

// spread puts the rows of one archive into slots that are empty.
func (im *importer) spread(a Archive, from, to, step int64) {
	k := average
	switch a.Of {
	case Min:
		k = minimum
	case Max:
		k = maximum
	}
	n := len(im.table[k])
	width := a.Step.Milliseconds()
	im.sums, im.counts = fill(im.sums, n, 0), fill(im.counts, n, 0)
	for _, r := range a.Rows {
		if math.IsNaN(r.V) || r.T > im.now+maxAhead {
			continue
		}
		// A row is put at the slots that end within it; one that is shorter than a slot at the slot that it lies in.
		last := ceilTo(r.T, step)
		first := min(floorTo(last-width, step)+step, last)
		for t := max(first, from+step); t <= min(last, to); t += step {
			i := (t - from - 1) / step
			switch {
			case im.counts[i] == 0:
				im.sums[i] = r.V
			case k == average:
				im.sums[i] += r.V
			case k == minimum:
				im.sums[i] = min(im.sums[i], r.V)
			case k == maximum:
				im.sums[i] = max(im.sums[i], r.V)
			}
			im.counts[i]++
		}
	}
	for i, c := range im.counts {
		if c == 0 {
			continue
		}
		v := im.sums[i]
		if k == average {
			v /= c
		}
		if math.IsNaN(im.table[k][i]) {
			im.table[k][i] = v
		}
	}
}

// cut is from which point on samples, which are there already, will make the points of a database.
func (im *importer) cut(ctx context.Context, l level, series labels.Labels) (int64, error) {
	cut := int64(math.MaxInt64)
	for finer := raw; finer < l; finer++ {
		from := int64(minTime)
		if finer == fiveMinutes {
			if im.rolled.Hours == 0 {
				continue
			}
			from = im.rolled.Hours - step1h + 1
		}
		err := im.each(ctx, finer, series, from, func(t int64) bool {
			cut = min(cut, ceilTo(t, l.span()))
			return false
		})
		if err != nil {
			return 0, err
		}
	}
	return cut, nil
}

// remove empties the slots that the database has a point for.
func (im *importer) remove(ctx context.Context, l level, series labels.Labels, table []float64, from, step int64) error {
	return im.each(ctx, l, series, from+1, func(t int64) bool {
		i := (t - from - 1) / step
		if i >= int64(len(table)) {
			return false
		}
		if !math.IsNaN(table[i]) {
			table[i] = math.NaN()
			im.sum.Known++
		}
		return true
	})
}

// each calls f with the times of a series in one database, from one on, until f has enough.
func (im *importer) each(ctx context.Context, l level, series labels.Labels, from int64, f func(t int64) (more bool)) error {
	set := im.known[l].Select(ctx, false, nil, matchersOf(series)...)
	for set.Next() {
		if !labels.Equal(set.At().Labels(), series) {
			continue
		}
		it := set.At().Iterator(nil)
		for v := it.Seek(from); v == chunkenc.ValFloat; v = it.Next() {
			if !f(it.AtT()) {
				break
			}
		}
		if err := it.Err(); err != nil {
			return err
		}
	}
	return set.Err()
}

// write gives points to the blocks that they belong to.
func (im *importer) write(l level, series labels.Labels, points []point) error {
	width := [levels]int64{fiveMinutes: ranges5m[len(ranges5m)-1], hours: ranges1h[len(ranges1h)-1]}[l]
	for len(points) > 0 {
		from := floorTo(points[0].t, width)
		n, _ := slices.BinarySearchFunc(points, from+width, func(p point, t int64) int { return cmp.Compare(p.t, t) })
		w := im.blocks[blockKey{l, from}]
		if w == nil {
			w = newBlockWriter(im.d.levels[l].dir, imported)
			im.blocks[blockKey{l, from}] = w
		}
		if err := w.add(series, points[:n]); err != nil {
			return err
		}
		im.sum.Points += n
		points = points[n:]
	}
	return nil
}

// flush writes the blocks.
func (im *importer) flush(ctx context.Context) error {
	if !im.d.hasRoom() {
		return ErrFull
	}
	n := 0
	for key, w := range im.blocks {
		if err := w.close(ctx, 0, 0); err != nil {
			return err
		}
		n += int(w.meta.Stats.NumSamples)
		delete(im.blocks, key)
	}
	for l := fiveMinutes; l <= hours; l++ {
		if err := im.d.levels[l].reload(); err != nil {
			return err
		}
	}
	im.d.mu.Lock()
	im.d.stats.Imported += int64(n)
	im.d.mu.Unlock()
	return nil
}
