package tsdb

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	promtsdb "github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/index"
	"github.com/prometheus/prometheus/tsdb/tombstones"
)

// What a name of a folder ends in while a block is being written or removed; such a folder is removed at the next start.
const (
	beingWritten = ".tmp-for-creation"
	beingRemoved = ".tmp-for-deletion"
)

// imported marks a block in its meta.json that came from another system's files.
const imported = "imported"

// samplesPerChunk is where a chunk of a coarse block ends.
const samplesPerChunk = 240

// blockWriter writes one block in Prometheus's format without a head: series come in any order and are encoded at once; what
// they take then, some hundred bytes a series, stays in memory until close writes the block.
type blockWriter struct {
	parent string
	meta   promtsdb.BlockMeta
	series []seriesEntry
	size   int // bytes of all chunks
}

type seriesEntry struct {
	labels labels.Labels
	chunks []chunks.Meta
}

func newBlockWriter(parent string, hints ...string) *blockWriter {
	w := &blockWriter{parent: parent, meta: promtsdb.BlockMeta{ULID: newID(), Version: 1, MinTime: math.MaxInt64, MaxTime: math.MinInt64}}
	w.meta.Compaction.Level = 1
	w.meta.Compaction.Sources = append(w.meta.Compaction.Sources, w.meta.ULID)
	w.meta.Compaction.Hints = hints
	return w
}

// newID is a ULID: the time, then chance (https://github.com/ulid/spec).
func newID() (id [16]byte) {
	rand.Read(id[:])
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(time.Now().UnixMilli()))
	copy(id[:6], ms[2:])
	return id
}

// point is one sample on its way into a block.
type point struct {
	t int64
	v float64
}

// add takes the points of one series, which rise in time. A series may be added once.
func (w *blockWriter) add(l labels.Labels, points []point) error {
	if len(points) == 0 {
		return nil
	}
	metas := make([]chunks.Meta, 0, (len(points)+samplesPerChunk-1)/samplesPerChunk)
	w.meta.Stats.NumSamples += uint64(len(points))
	w.meta.Stats.NumFloatSamples += uint64(len(points))
	w.meta.MinTime = min(w.meta.MinTime, points[0].t)
	w.meta.MaxTime = max(w.meta.MaxTime, points[len(points)-1].t+1) // half open
	for len(points) > 0 {
		n := min(len(points), samplesPerChunk)
		m, err := encode(points[:n])
		if err != nil {
			return err
		}
		metas = append(metas, m)
		w.size += len(m.Chunk.Bytes())
		points = points[n:]
	}
	w.meta.Stats.NumChunks += uint64(len(metas))
	w.series = append(w.series, seriesEntry{l, metas})
	return nil
}

func encode(points []point) (chunks.Meta, error) {
	c := chunkenc.NewXORChunk() // XOR2, as in raw, is good for times that waver; these do not
	app, err := c.Appender()
	if err != nil {
		return chunks.Meta{}, err
	}
	for _, p := range points {
		app.Append(0, p.t, p.v)
	}
	c.Compact()
	return chunks.Meta{Chunk: c, MinTime: points[0].t, MaxTime: points[len(points)-1].t}, nil
}

// close writes the block and gives it its name: from then on it is there, whole. Nothing is written where there are no series.
// from and to are what the block answers for, [from, to); with both 0 it is what its points span.
func (w *blockWriter) close(ctx context.Context, from, to int64) (err error) {
	if len(w.series) == 0 {
		return nil
	}
	if from != to {
		w.meta.MinTime, w.meta.MaxTime = from, to
	}
	dir := filepath.Join(w.parent, w.meta.ULID.String()+beingWritten)
	defer func() {
		if err != nil {
			os.RemoveAll(dir)
			err = fmt.Errorf("write block %s: %w", w.meta.ULID, err)
		}
	}()
	if err := w.writeSeries(ctx, dir); err != nil {
		return err
	}
	if _, err := tombstones.WriteFile(slog.New(slog.DiscardHandler), dir, tombstones.NewMemTombstones()); err != nil {
		return err
	}
	if err := writeJSON(filepath.Join(dir, "meta.json"), w.meta); err != nil {
		return err
	}
	if err := syncDir(dir); err != nil {
		return err
	}
	if err := os.Rename(dir, filepath.Join(w.parent, w.meta.ULID.String())); err != nil {
		return err
	}
	return syncDir(w.parent)
}

// writeSeries writes chunks and index; both must be in the order of the labels.
func (w *blockWriter) writeSeries(ctx context.Context, dir string) (err error) {
	slices.SortFunc(w.series, func(a, b seriesEntry) int { return labels.Compare(a.labels, b.labels) })
	// A stranger's series may have the name that we give to a minimum: the first one counts.
	w.series = slices.CompactFunc(w.series, func(a, b seriesEntry) bool { return labels.Equal(a.labels, b.labels) })
	w.meta.Stats.NumSeries = uint64(len(w.series))

	cw, err := chunks.NewWriter(filepath.Join(dir, "chunks"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cw.Close()) }()
	iw, err := index.NewWriter(ctx, filepath.Join(dir, "index"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, iw.Close()) }()
	for _, s := range symbols(w.series) {
		if err := iw.AddSymbol(s); err != nil {
			return err
		}
	}
	for i, s := range w.series {
		if err := cw.WriteChunks(s.chunks...); err != nil {
			return err
		}
		if err := iw.AddSeries(storage.SeriesRef(i), s.labels, s.chunks...); err != nil {
			return err
		}
		w.series[i].chunks = nil // on the disk
	}
	return nil
}

func symbols(series []seriesEntry) []string {
	seen := map[string]struct{}{}
	for _, s := range series {
		s.labels.Range(func(l labels.Label) {
			seen[l.Name] = struct{}{}
			seen[l.Value] = struct{}{}
		})
	}
	all := make([]string, 0, len(seen))
	for s := range seen {
		all = append(all, s)
	}
	slices.Sort(all)
	return all
}

// writeJSON replaces a file by v, whole or not at all.
func writeJSON(path string, v any) error {
	text, err := json.MarshalIndent(v, "", "\t")
	if err != nil {
		return err
	}
	f, err := os.Create(path + ".tmp")
	if err != nil {
		return err
	}
	_, err = f.Write(append(text, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		os.Remove(path + ".tmp")
		return err
	}
	return os.Rename(path+".tmp", path)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
