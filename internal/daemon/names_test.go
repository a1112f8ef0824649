package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tocsin"
	"tocsin/internal/api"
	"tocsin/internal/f2blog"
	"tocsin/internal/jail"
)

// zone answers for host names as a resolver would. hold keeps every answer back until it is closed.
func zone(asked *atomic.Int64, hold <-chan struct{}) lookup {
	return func(ctx context.Context, name string) ([]netip.Addr, error) {
		asked.Add(1)
		select {
		case <-hold:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		switch name {
		case "two.example.org":
			return []netip.Addr{netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("::ffff:192.0.2.1"), netip.MustParseAddr("192.0.2.1")}, nil
		case "friend.example.org":
			return []netip.Addr{netip.MustParseAddr("192.0.2.77")}, nil
		case "crowd.example.org":
			var all []netip.Addr
			for i := range 200 {
				all = append(all, netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}))
			}
			return all, nil
		}
		return nil, errors.New("no such host")
	}
}

func open() <-chan struct{} { c := make(chan struct{}); close(c); return c }

// asking starts the goroutines that ask for names, until the test ends.
func (d *decider) asking(l lookup) {
	d.t.Helper()
	d.lookup = l
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = d.askNames(ctx) }()
	d.t.Cleanup(func() { cancel(); <-done })
}

func (d *decider) quiet() bool { return d.names.held == 0 && len(d.names.queue) == 0 }

func TestHostNames(t *testing.T) {
	tests := []struct {
		usedns, names string
		want          string
		badIDs        uint64
	}{
		{"yes", "two.example.org TWO.example.org. two.example.org", "dns 192.0.2.1, dns 2001:db8::1", 0},
		{"warn", "two.example.org two.example.org two.example.org", "dns 192.0.2.1, dns 2001:db8::1", 0},
		{"yes", "two.example.org 192.0.2.1 192.0.2.1", "dns 192.0.2.1", 0},
		{"yes", "nobody.example.org nobody.example.org nobody.example.org", "", 3},
		{"no", "two.example.org two.example.org two.example.org", "", 3},
		{"", "two.example.org two.example.org two.example.org", "", 3},
		{"raw", "two.example.org two.example.org two.example.org", "dns two.example.org", 0},
	}
	for _, tt := range tests {
		t.Run(tt.usedns+" "+tt.names, func(t *testing.T) {
			c := testCell(t, jail.Options{Name: "dns"})
			c.def.Usedns = tt.usedns
			d := newDecider(t, c)
			said := d.writesF2B(f2blog.Info)
			var asked atomic.Int64
			d.asking(zone(&asked, open()))
			for name := range strings.FieldsSeq(tt.names) {
				if _, err := netip.ParseAddr(name); err == nil {
					d.fail(c, name, 1)
				} else {
					d.host(c, name, 1)
				}
			}
			d.until("all names are answered", d.quiet)
			d.wantBans(tt.want)
			if c.tally.badIDs != tt.badIDs {
				t.Errorf("%d bad ids, want %d", c.tally.badIDs, tt.badIDs)
			}
			if n := asked.Load(); n > 1 {
				t.Errorf("asked %d times, want the answer remembered", n)
			}
			if text := said(); tt.usedns == "warn" && !strings.Contains(text, "Determined IP using DNS Lookup: two.example.org = {'192.0.2.1', '2001:db8::1'}\n") {
				t.Errorf("fail2ban's log tells %q", text)
			}
			if got := strings.Count(d.said.String(), "determined address by host name"); got > 1 || got == 1 != (tt.usedns == "warn") {
				t.Errorf("warned %d times", got)
			}
		})
	}
}

// Failures that wait keep their time, their order and their name, and the decider goes on.
func TestHostNamesWait(t *testing.T) {
	c := testCell(t, jail.Options{Name: "dns"})
	c.def.Usedns = "yes"
	d := newDecider(t, c)
	var asked atomic.Int64
	hold := make(chan struct{})
	d.asking(zone(&asked, hold))
	first := d.at
	d.host(c, "two.example.org", 3)
	d.fail(c, "203.0.113.9", 3)
	d.wantBans("dns 203.0.113.9")
	var got tocsin.Decision
	d.in(func() { d.set.cells = []*cell{{conf: c.conf, def: c.def, jail: c.jail, options: c.options}} }) // a reload meanwhile
	close(hold)
	d.until("all names are answered", d.quiet)
	d.wantBans("dns 192.0.2.1, dns 2001:db8::1, dns 203.0.113.9")
	d.in(func() { b := d.active[banKey{"dns", "192.0.2.1"}]; got.At = b.at })
	if want := first.Add(2 * time.Second); !got.At.Equal(want) {
		t.Errorf("the ban begins at %v, want the time of the third line, %v", got.At, want)
	}
}

// Nobody can make the guard keep more than its bounds.
func TestHostNamesBounds(t *testing.T) {
	c := testCell(t, jail.Options{Name: "dns"})
	c.def.Usedns = "yes"
	d := newDecider(t, c)
	var asked atomic.Int64
	hold := make(chan struct{})
	d.asking(zone(&asked, hold))
	for i := range maxNameAsks + nameAskers + 50 {
		d.host(c, fmt.Sprintf("h%d.example.org", i), 1)
	}
	d.host(c, "two.example.org", maxWaiting/300)
	d.host(c, strings.Repeat("x", maxName)+".org", 1)
	d.in(func() {
		if n := &d.names; n.held > maxWaiting || len(n.waiting) > maxNameAsks+nameAskers || n.dropped < 50 {
			t.Errorf("%d bytes wait for %d names, %d dropped", n.held, len(n.waiting), n.dropped)
		}
	})
	if !strings.Contains(d.said.String(), "too many names at once") {
		t.Error("nobody was told")
	}
	close(hold)
	d.until("all names are answered", d.quiet)
	for i := range 3 * maxNames {
		d.in(func() { d.answered(fmt.Sprintf("n%d.example.org", i), nil) })
	}
	d.in(func() {
		if len(d.names.known) > maxNames {
			t.Errorf("%d answers remembered", len(d.names.known))
		}
	})
	d.host(c, "crowd.example.org", 3)
	d.until("all names are answered", d.quiet)
	if got := strings.Count(d.bansNow(), "198.51.100."); got != maxOfName {
		t.Errorf("%d addresses of one name are banned, want %d", got, maxOfName)
	}
}

func TestHostNamesWithoutResolver(t *testing.T) {
	c := testCell(t, jail.Options{Name: "dns"})
	c.def.Usedns = "warn"
	d := newDecider(t, c)
	d.host(c, "two.example.org", 3)
	d.wantBans("")
	if d.names.dropped != 3 || !strings.Contains(d.said.String(), "nobody is there to ask for addresses") {
		t.Errorf("%d dropped", d.names.dropped)
	}
}

// The addresses of host names in ignoreip are spared; what they were stays while there is no answer.
func TestFriends(t *testing.T) {
	c := testCell(t, jail.Options{Name: "sshd"})
	c.ignored = []string{"friend.example.org"}
	c.indexIgnored()
	d := newDecider(t, c)
	var asked atomic.Int64
	answers := zone(&asked, open())
	d.lookup = answers
	d.befriend(context.Background(), d.set.friendNames())
	d.lookup = func(context.Context, string) ([]netip.Addr, error) { return nil, errors.New("timeout") }
	d.befriend(context.Background(), d.set.friendNames())
	d.fail(c, "192.0.2.77", 3)
	d.fail(c, "192.0.2.1", 3)
	d.wantBans("sshd 192.0.2.1")
	if c.tally.spared != 3 || !strings.Contains(d.said.String(), "what it had stays ignored") {
		t.Errorf("%d spared", c.tally.spared)
	}
	d.lookup = answers
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = d.watchFriends(ctx) }()
	defer func() { cancel(); <-done }()
	if _, err := d.ignore(ctx, api.AllowRequest{Prefix: "two.example.org", Jail: "sshd"}); err != nil {
		t.Fatal(err)
	}
	d.until("the new name is asked for", func() bool { return slices.Contains(d.friends["two.example.org"], netip.MustParseAddr("2001:db8::1")) })
}
