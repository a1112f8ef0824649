package firewall

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"tocsin"
)

// Dry is a firewall that only remembers what it would do: it touches no kernel and needs no rights. It serves observing and
// replaying, and behaves as Firewall does to its caller.
type Dry struct {
	mu       sync.Mutex
	want     wanted
	standing bool
	restores uint64
}

// NewDry makes a firewall that bans nobody.
func NewDry() *Dry { return &Dry{want: newWanted()} }

// Close does nothing.
func (d *Dry) Close() error { return nil }

// Restore forgets what was wanted before and remembers bans and allow. It adopts nothing.
func (d *Dry) Restore(bans []tocsin.Decision, allow []netip.Prefix, now time.Time) (adopted []tocsin.Decision, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.want.replace(bans, allow, now)
	d.standing = true
	d.restores++
	return nil, nil
}

// Adopted returns nothing.
func (d *Dry) Adopted() []tocsin.Decision { return nil }

// Ban remembers bans.
func (d *Dry) Ban(ds ...tocsin.Decision) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	now, refused := time.Now(), d.want.refused
	for i := range ds {
		d.want.ban(&ds[i], now)
	}
	return d.answer(refused)
}

// Unban forgets bans.
func (d *Dry) Unban(ds ...tocsin.Decision) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range ds {
		d.want.unban(owner{ds[i].Jail, ds[i].ID})
	}
	return d.answer(d.want.refused)
}

// SetAllow remembers the allow list.
func (d *Dry) SetAllow(ps []netip.Prefix) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.want.allow = slices.Clone(ps)
	return d.answer(d.want.refused)
}

// SetList remembers a list.
func (d *Dry) SetList(l List) error {
	n, err := newList(&l)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.want.roomFor(n, len(l.Prefixes)); err != nil {
		return fmt.Errorf("set list %s: %w", n.name, err)
	}
	n.inherit(d.want.lists[n.name])
	d.want.lists[n.name] = n
	return d.answer(d.want.refused)
}

// DropList forgets a list.
func (d *Dry) DropList(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.want.lists[name] == nil {
		return nil
	}
	delete(d.want.lists, name)
	return d.answer(d.want.refused)
}

func (d *Dry) answer(refused uint64) error {
	switch {
	case !d.standing:
		return ErrOff
	case d.want.refused > refused:
		return ErrFull
	}
	return nil
}

// Clear forgets everything.
func (d *Dry) Clear() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.want.replace(nil, nil, time.Time{})
	d.standing = false
	return nil
}

// Watch waits until ctx ends: nobody can change what does not exist.
func (d *Dry) Watch(ctx context.Context, lost func() (restore bool)) error {
	<-ctx.Done()
	return nil
}

// Sync forgets what was over before now.
func (d *Dry) Sync(now time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.want.expire(now.Add(-rounding))
	return nil
}

// Standing says whether the table would be in the kernel.
func (d *Dry) Standing() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.standing
}

// Stats tells what the firewall would hold. Standing is as it would be.
func (d *Dry) Stats() Stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := Stats{Standing: d.standing, Restores: d.restores}
	d.want.describe(&s)
	return s
}
