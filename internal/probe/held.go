package probe

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"time"
)

// held is a probe with its reader, which is made when it is first needed and forgotten when there is nothing to read.
type held struct {
	p *Probe
	h *Host
	r Reader
}

// read takes the probe's readings. A panic becomes an Off: the reader's state is not to be trusted any more.
func (d *held) read(ctx context.Context) (rs []Reading, err error) {
	defer func() {
		if v := recover(); v != nil {
			rs, err = nil, &Off{Why: fmt.Sprintf("it crashed, which is a mistake of the program: %v", v)}
		}
		if _, off := IsOff(err); off {
			d.r = nil
		}
	}()
	if d.r == nil {
		if d.r, err = d.p.New(d.h); err != nil {
			return nil, err
		}
	}
	at, since := d.h.Now(), d.h.Boot()
	rs, err = d.r.Read(ctx)
	for i := range rs {
		if rs[i].At.IsZero() {
			rs[i].At, rs[i].Since = at, since
		}
	}
	return rs, err
}

// Rooted reads the probes marked Root, for those who may not. It may be used by several goroutines.
type Rooted struct {
	probes map[string]*rooted
}

type rooted struct {
	mu sync.Mutex
	held
}

// NewRooted finds the probes marked Root in the table; it reads nothing yet.
func NewRooted(h *Host) *Rooted {
	r := &Rooted{probes: map[string]*rooted{}}
	for _, p := range Probes() {
		if p.Root {
			r.probes[p.Name] = &rooted{held: held{p: &p, h: h}}
		}
	}
	return r
}

// Read reads one probe, within its Timeout. One that is still being read is not read again: that is an error.
func (r *Rooted) Read(ctx context.Context, name string) ([]Reading, error) {
	p := r.probes[name]
	if p == nil {
		return nil, fmt.Errorf("there is no probe %q that only root may read", name)
	}
	if !p.mu.TryLock() {
		return nil, fmt.Errorf("the probe %s is still being read", name)
	}
	defer p.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, p.p.timeout(10*time.Second))
	defer cancel()
	return p.read(ctx)
}

// timeout is after which time a reading is given up.
func (p *Probe) timeout(interval time.Duration) time.Duration {
	switch {
	case p.Timeout > 0:
		return p.Timeout
	case p.Interval > 0:
		return p.Interval
	}
	return interval
}

// ReadPacked is Read for another process: what EncodeReadings makes of it, and the processor time that it took.
func (r *Rooted) ReadPacked(ctx context.Context, name string) (packed string, used time.Duration) {
	runtime.LockOSThread() // so that its processor time is known
	defer runtime.UnlockOSThread()
	before := threadTime()
	packed = EncodeReadings(r.Read(ctx, name))
	return packed, threadTime() - before
}
