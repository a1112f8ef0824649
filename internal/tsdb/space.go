package tsdb

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// ErrFull says that a sample was not taken because the disk is full. It is worth trying again later.
var ErrFull = errors.New("the disk of the store of samples is full")

// space watches the disk.
type space struct {
	looked time.Time
	full   bool
}

func diskSpace(dir string) (free, total int64, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, 0, err
	}
	return int64(s.Bavail) * s.Bsize, int64(s.Blocks) * s.Bsize, nil
}

// hasRoom says whether there is room for samples. It looks once a second, and tells once when the answer changes.
func (d *DB) hasRoom() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if time.Since(d.space.looked) < time.Second {
		return !d.space.full
	}
	d.space.looked = time.Now()
	free, total, err := d.free()
	if err != nil {
		return !d.space.full // what the disk does not tell it will say when it is written to
	}
	least := d.o.MinFree
	if least == 0 {
		least = min(256<<20, total/20)
	}
	if d.space.full {
		least += least / 16 // so that it does not go back and forth
	}
	d.setFull(free < least, "free", free, "needed", least)
	return !d.space.full
}

// setFull notes whether the disk is full; d.mu is held.
func (d *DB) setFull(full bool, why ...any) {
	switch {
	case full && !d.space.full:
		d.o.Log.Warn("the disk is nearly full: no samples are taken until there is room", append(why, "dir", d.o.Dir)...)
	case !full && d.space.full:
		d.o.Log.Info("there is room on the disk again: samples are taken", append(why, "dir", d.o.Dir)...)
	}
	d.space.full, d.stats.Full = full, full
}
