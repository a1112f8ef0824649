package store

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"tocsin"
)

// PutLogin keeps logins and ends of sessions. It does not wait; if too many are queued the rest are dropped and counted.
// The same login told twice is kept once.
func (s *Store) PutLogin(ls ...tocsin.Login) {
	s.enqueue(func(b *batch) int {
		room := max(0, s.o.Queue-len(b.logins))
		b.logins = append(b.logins, ls[:min(room, len(ls))]...)
		return max(0, len(ls)-room)
	})
}

func (f *file) putLogin(ctx context.Context, l *tocsin.Login) error {
	addr := l.Addr.Unmap().WithZone("").AsSlice()
	if addr == nil {
		return nil // a login from nowhere is nobody's
	}
	opened := 0
	if l.Opened {
		opened = 1
	}
	if _, err := f.stmt.putLogin.ExecContext(ctx, addr, l.Port, l.User, l.Source, micros(l.At), opened); err != nil || !l.Opened {
		return err
	}
	_, err := f.stmt.putKnown.ExecContext(ctx, addr, l.Port, l.User, l.Source, micros(l.At))
	return err
}

// Logins returns the logins and ends of sessions of an address since then, oldest first.
func (s *Store) Logins(addr netip.Addr, since time.Time) ([]tocsin.Login, error) {
	var ls []tocsin.Login
	err := s.read("read logins", func(f *file) error {
		return each(appendLogin(&ls), f.stmt.logins, addr.Unmap().WithZone("").AsSlice(), micros(since))
	})
	return ls, err
}

// KnownSince returns the last login of every address that logged in since then, oldest first.
func (s *Store) KnownSince(t time.Time) ([]tocsin.Login, error) {
	var ls []tocsin.Login
	err := s.read("read known addresses", func(f *file) error {
		return each(appendLogin(&ls), f.stmt.known, micros(t))
	})
	return ls, err
}

func appendLogin(ls *[]tocsin.Login) func(scan func(...any) error) error {
	return func(scan func(...any) error) error {
		var l tocsin.Login
		var addr []byte
		var at int64
		if err := scan(&addr, &l.Port, &l.User, &l.Source, &at, &l.Opened); err != nil {
			return err
		}
		var ok bool
		if l.Addr, ok = netip.AddrFromSlice(addr); !ok {
			return fmt.Errorf("login of %x: not an address", addr)
		}
		l.At = fromMicros(at)
		*ls = append(*ls, l)
		return nil
	}
}
