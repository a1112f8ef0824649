package tsdb

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/prometheus/storage"
	promtsdb "github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// blocks is a database without a head: a folder of blocks, nothing in memory but what the kernel maps.
type blocks struct {
	dir       string
	pool      chunkenc.Pool
	compactor *promtsdb.LeveledCompactor

	mu   sync.RWMutex
	open []*promtsdb.Block // by time
}

// damage is a block that cannot be read and was moved aside.
type damage struct {
	block string
	err   error
}

// openBlocks opens every block of dir. ranges are the lengths that blocks grow to, in ms, each a multiple of the one before.
func openBlocks(ctx context.Context, dir, aside string, ranges []int64) (*blocks, []damage, error) {
	b := &blocks{dir: dir, pool: chunkenc.NewPool()}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, nil, err
	}
	var err error
	b.compactor, err = promtsdb.NewLeveledCompactorWithOptions(ctx, nil, slog.New(slog.DiscardHandler), ranges, b.pool,
		promtsdb.LeveledCompactorOptions{EnableOverlappingCompaction: true})
	if err != nil {
		return nil, nil, err
	}
	damaged, err := setDamagedAside(dir, aside)
	if err != nil {
		return nil, nil, err
	}
	if err := b.reload(); err != nil {
		b.close()
		return nil, nil, err
	}
	return b, damaged, nil
}

// setDamagedAside moves blocks that cannot be opened out of dir, and removes what was never finished.
func setDamagedAside(dir, aside string) (damaged []damage, err error) {
	names, err := blockNames(dir)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		path := filepath.Join(dir, name)
		if strings.HasSuffix(name, beingWritten) || strings.HasSuffix(name, beingRemoved) {
			if err := os.RemoveAll(path); err != nil {
				return damaged, err
			}
			continue
		}
		block, err := openBlock(path, nil)
		if err == nil {
			block.Close()
			continue
		}
		if err := os.MkdirAll(aside, 0o750); err != nil {
			return damaged, err
		}
		if err := os.Rename(path, filepath.Join(aside, filepath.Base(dir)+"-"+name)); err != nil {
			return damaged, err
		}
		damaged = append(damaged, damage{block: filepath.Base(dir) + "/" + name, err: err})
	}
	return damaged, nil
}

// openBlock opens a block. What stands in a damaged one may be anything, and the readers of Prometheus trust lengths that
// they read: a panic of theirs counts as damage.
func openBlock(path string, pool chunkenc.Pool) (block *promtsdb.Block, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%v", r)
		}
	}()
	return promtsdb.OpenBlock(slog.New(slog.DiscardHandler), path, pool, nil)
}

// blockNames are the folders of dir that are blocks, finished or not: a ULID with or without a suffix.
func blockNames(dir string) (names []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		id, _, _ := strings.Cut(e.Name(), ".")
		if e.IsDir() && len(id) == 26 && strings.Trim(id, "0123456789ABCDEFGHJKMNPQRSTVWXYZ") == "" {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// reload opens blocks that are new in the folder, and removes those that a bigger one replaced (left by a crash).
func (b *blocks) reload() error {
	names, err := blockNames(b.dir)
	if err != nil {
		return err
	}
	byName := map[string]*promtsdb.Block{}
	for _, block := range b.list() {
		byName[block.Meta().ULID.String()] = block
	}
	var all []*promtsdb.Block
	replaced := map[string]bool{}
	for _, name := range names {
		if strings.Contains(name, ".") {
			continue // being written or removed
		}
		block := byName[name]
		if block == nil {
			if block, err = openBlock(filepath.Join(b.dir, name), b.pool); err != nil {
				return fmt.Errorf("open block %s: %w", name, err)
			}
		}
		all = append(all, block)
		for _, p := range block.Meta().Compaction.Parents {
			replaced[p.ULID.String()] = true
		}
	}
	slices.SortFunc(all, func(a, b *promtsdb.Block) int {
		return int(min(max(a.MinTime()-b.MinTime(), -1), 1))
	})
	b.mu.Lock()
	b.open = all
	b.mu.Unlock()
	return b.remove(func(block *promtsdb.Block) bool {
		return replaced[block.Meta().ULID.String()] || block.Meta().Compaction.Deletable
	})
}

func (b *blocks) list() []*promtsdb.Block {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return slices.Clone(b.open)
}

// remove removes blocks from the disk, once nobody reads them any more.
func (b *blocks) remove(gone func(*promtsdb.Block) bool) error {
	b.mu.Lock()
	var out []*promtsdb.Block
	var keep []*promtsdb.Block
	for _, block := range b.open {
		if gone(block) {
			out = append(out, block)
		} else {
			keep = append(keep, block)
		}
	}
	b.open = keep
	b.mu.Unlock()
	var errs []error
	for _, block := range out {
		errs = append(errs, block.Close()) // waits for readers
		dying := block.Dir() + beingRemoved
		if err := os.Rename(block.Dir(), dying); err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, os.RemoveAll(dying))
	}
	return errors.Join(errs...)
}

// compact merges small blocks into bigger ones until there is nothing to merge.
func (b *blocks) compact(ctx context.Context) error {
	for ctx.Err() == nil {
		dirs, err := b.compactor.Plan(b.dir)
		if err != nil || len(dirs) == 0 {
			return err
		}
		if _, err := b.compactor.Compact(b.dir, dirs, b.list()); err != nil {
			return fmt.Errorf("merge blocks: %w", err)
		}
		if err := b.reload(); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// overlaps says whether a block has something in [from, to].
func (b *blocks) overlaps(from, to int64) bool {
	return slices.ContainsFunc(b.list(), func(block *promtsdb.Block) bool { return block.OverlapsClosedInterval(from, to) })
}

// Querier reads [mint, maxt].
func (b *blocks) Querier(mint, maxt int64) (storage.Querier, error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	var all []storage.Querier
	for _, block := range b.open {
		if !block.OverlapsClosedInterval(mint, maxt) {
			continue
		}
		q, err := promtsdb.NewBlockQuerier(block, mint, maxt)
		if err != nil {
			for _, q := range all {
				q.Close()
			}
			return nil, fmt.Errorf("read block %s: %w", block.Meta().ULID, err)
		}
		all = append(all, q)
	}
	return storage.NewMergeQuerier(all, nil, storage.ChainedSeriesMerge), nil
}

// stats counts blocks, what they take, and samples.
func (b *blocks) stats() (n int, bytes, samples int64) {
	for _, block := range b.list() {
		n++
		bytes += block.Size()
		samples += int64(block.Meta().Stats.NumSamples)
	}
	return n, bytes, samples
}

func (b *blocks) close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var errs []error
	for _, block := range b.open {
		errs = append(errs, block.Close())
	}
	b.open = nil
	return errors.Join(errs...)
}
