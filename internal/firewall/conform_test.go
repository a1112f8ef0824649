package firewall

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"tocsin"
)

// wall is what the daemon needs of a firewall, be it the kernel's or the dry one.
type wall interface {
	Restore(bans []tocsin.Decision, allow []netip.Prefix, now time.Time) ([]tocsin.Decision, error)
	Ban(ds ...tocsin.Decision) error
	Unban(ds ...tocsin.Decision) error
	SetAllow(ps []netip.Prefix) error
	SetList(l List) error
	DropList(name string) error
	Sync(now time.Time) error
	Clear() error
	Watch(ctx context.Context, lost func() (restore bool)) error
	Adopted() []tocsin.Decision
	Standing() bool
	Stats() Stats
	Close() error
}

// TestConformance is what every firewall does, whether it touches the kernel or not.
func TestConformance(t *testing.T) {
	t.Run("kernel", func(t *testing.T) {
		h := newHost(t)
		conform(t, func() wall { return h.open(h.options()) })
	})
	t.Run("dry", func(t *testing.T) { conform(t, func() wall { return NewDry() }) })
}

func conform(t *testing.T, open func() wall) {
	now := time.Now()
	allow := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	steps := []struct {
		name     string
		do       func(w wall) error
		err      error
		wanted   int
		allowed  int
		elements int // of all sets together
		standing bool
	}{
		{"Ban before Restore", func(w wall) error { return w.Ban(ban("192.0.2.1")) }, ErrOff, 1, 0, 1, false},
		{"Restore forgets it", func(w wall) error { return restore(w, nil, allow) }, nil, 0, 1, 0, true},
		{"Ban", func(w wall) error { return w.Ban(ban("192.0.2.1"), ban("2001:db8::/64")) }, nil, 2, 1, 2, true},
		{"Ban again", func(w wall) error { return w.Ban(ban("192.0.2.1")) }, nil, 2, 1, 2, true},
		{"Ban by another jail", func(w wall) error { return w.Ban(ban("192.0.2.1", jail("web"))) }, nil, 3, 1, 2, true},
		{"Ban of other ports", func(w wall) error { return w.Ban(ban("192.0.2.1", jail("ftp"), ports(21))) }, nil, 4, 1, 3, true},
		{"Ban of an id that is no address", func(w wall) error { return w.Ban(ban("root")) }, nil, 4, 1, 3, true},
		{"Ban of actions only", func(w wall) error { return w.Ban(ban("192.0.2.5", passed)) }, nil, 4, 1, 3, true},
		{"Ban that is over", func(w wall) error { return w.Ban(ban("192.0.2.9", lasting(-time.Hour))) }, nil, 4, 1, 3, true},
		{"Unban", func(w wall) error { return w.Unban(ban("192.0.2.1"), ban("192.0.2.1", jail("ftp"))) }, nil, 2, 1, 2, true},
		{"Unban of an unknown", func(w wall) error { return w.Unban(ban("192.0.2.77")) }, nil, 2, 1, 2, true},
		{"overlapping prefixes", func(w wall) error { return w.Ban(ban("10.0.0.0/8"), ban("10.1.0.0/16", forever)) }, nil, 4, 1, 5, true},
		{"SetAllow", func(w wall) error { return w.SetAllow(nil) }, nil, 4, 0, 5, true},
		{"Sync", func(w wall) error { return w.Sync(now) }, nil, 4, 0, 5, true},
		{"Sync an hour and a bit later", func(w wall) error { return w.Sync(now.Add(61 * time.Minute)) }, nil, 1, 0, 1, true},
		{"Restore", func(w wall) error { return restore(w, []tocsin.Decision{ban("192.0.2.1"), ban("192.0.2.2")}, allow) }, nil, 2, 1, 2, true},
		{"Ban becomes one of actions only", func(w wall) error { return w.Ban(ban("192.0.2.2", passed)) }, nil, 1, 1, 1, true},
		{"Restore skips bans of actions only", func(w wall) error {
			return restore(w, []tocsin.Decision{ban("192.0.2.1"), ban("192.0.2.2", passed)}, allow)
		}, nil, 1, 1, 1, true},
		{"Restore skips what is over", func(w wall) error {
			return restore(w, []tocsin.Decision{ban("192.0.2.1", lasting(-time.Hour)), ban("192.0.2.2")}, nil)
		}, nil, 1, 0, 1, true},
		{"SetList", func(w wall) error { return w.SetList(List{Name: "a", Prefixes: prefixes("10.0.0.1 10.0.0.0/8")}) }, nil, 1, 0, 1, true},
		{"SetList in its place", func(w wall) error { return w.SetList(List{Name: "a", Prefixes: prefixes("10.0.0.1")}) }, nil, 1, 0, 1, true},
		{"SetList with a bad name", func(w wall) error {
			if err := w.SetList(List{Name: "A"}); err == nil {
				return errors.New("no error")
			}
			return nil
		}, nil, 1, 0, 1, true},
		{"DropList of an unknown", func(w wall) error { return w.DropList("b") }, nil, 1, 0, 1, true},
		{"SetList too large", func(w wall) error {
			return w.SetList(List{Name: "b", Prefixes: make([]netip.Prefix, maxEntries+1)})
		}, ErrFull, 1, 0, 1, true},
		{"Clear", func(w wall) error { return w.Clear() }, nil, 0, 0, 0, false},
		{"SetList after Clear", func(w wall) error { return w.SetList(List{Name: "b"}) }, ErrOff, 0, 0, 0, false},
		{"DropList after Clear", func(w wall) error { return w.DropList("b") }, ErrOff, 0, 0, 0, false},
		{"DropList again", func(w wall) error { return w.DropList("b") }, nil, 0, 0, 0, false},
		{"Unban after Clear", func(w wall) error { return w.Unban(ban("192.0.2.1")) }, ErrOff, 0, 0, 0, false},
		{"SetAllow after Clear", func(w wall) error { return w.SetAllow(nil) }, ErrOff, 0, 0, 0, false},
	}
	w := open()
	for _, tt := range steps {
		if err := tt.do(w); !errors.Is(err, tt.err) {
			t.Fatalf("%s: error %v, want %v", tt.name, err, tt.err)
		}
		s := w.Stats()
		elements := 0
		for _, n := range s.Elements {
			elements += n
		}
		if s.Wanted != tt.wanted || s.Allowed != tt.allowed || elements != tt.elements {
			t.Errorf("%s: %d wanted, %d allowed, %d elements; want %d, %d, %d", tt.name, s.Wanted, s.Allowed, elements,
				tt.wanted, tt.allowed, tt.elements)
		}
		if s.Errors != 0 || s.LastError != "" {
			t.Errorf("%s: %d errors, the last %q", tt.name, s.Errors, s.LastError)
		}
		if s.Standing != tt.standing || w.Standing() != tt.standing {
			t.Errorf("%s: standing %v and %v, want %v", tt.name, s.Standing, w.Standing(), tt.standing)
		}
		if ds := w.Adopted(); len(ds) != 0 {
			t.Errorf("%s: adopted %v", tt.name, ds)
		}
	}
	if got := w.Stats().Lists; len(got) != 1 || got["a"].Entries != 1 || got["a"].Since.IsZero() {
		t.Errorf("at the end the lists are %+v, want a with 1 entry", got)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := w.Watch(ctx, func() bool { return true }); err != nil {
		t.Errorf("Watch that is told to end: %v", err)
	}
	must(t, w.Close())
}

// restore ends whatever the kernel holds first, so that nothing is adopted: the dry firewall has nothing to adopt.
func restore(w wall, bans []tocsin.Decision, allow []netip.Prefix) error {
	if err := w.Clear(); err != nil {
		return err
	}
	_, err := w.Restore(bans, allow, time.Now())
	return err
}
