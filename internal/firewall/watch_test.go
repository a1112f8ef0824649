package firewall

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// watch runs Watch until the test ends.
func watch(t *testing.T, f *Firewall, lost func() bool) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- f.Watch(ctx, lost) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Watch: %v", err)
		}
	})
}

func yes() bool { return true }

func TestWatchRepairs(t *testing.T) {
	disturbances := []struct{ name, command string }{
		{"flush ruleset", "flush ruleset"},
		{"delete table", "delete table inet tocsin"},
		{"flush set", "flush set inet tocsin ports_22_v4"},
		{"delete element", "delete element inet tocsin ports_22_v4 { 192.0.2.1 }"},
		{"delete range", "flush set inet tocsin ports_22_v4_net"},
		{"flush chain", "flush chain inet tocsin ports_22"},
		{"flush table", "flush table inet tocsin"},
		{"a rule before ours", "insert rule inet tocsin ports accept"},
		{"dormant table", "add table inet tocsin { flags dormant; }"},
		{"empty allow list", "flush set inet tocsin allow_v4"},
		{"firewalld reload", "flush ruleset; add table inet firewalld; add chain inet firewalld input { type filter hook input priority 10; }"},
	}
	h := newHost(t)
	f := h.firewall(ban("192.0.2.1"), ban("198.51.100.0/24"))
	must(t, f.SetAllow([]netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}))
	watch(t, f, yes)
	state := func() string {
		if !h.has("tocsin") {
			return "no table"
		}
		return fmt.Sprint(rules(h), elementsByNFT(h, 3600))
	}
	want := state()
	for _, tt := range disturbances {
		t.Run(tt.name, func(t *testing.T) {
			// One after the other comes no faster than once in repairEvery, which is what another program may count on.
			repairs := f.Stats().Repairs
			h.run("nft", tt.command)
			var got string
			defer func() {
				if t.Failed() {
					t.Logf("after %s: %s\nwant %s", tt.command, got, want)
				}
			}()
			// Whoever hears late of the disturbance before repairs once more: the count alone does not tell which one was.
			took := eventually(t, 2*time.Second, "the repair after "+tt.command, func() bool {
				got = state()
				return f.Stats().Repairs > repairs && got == want
			})
			t.Logf("repaired after %v", took)
		})
	}
}

// rules lists the table without what changes by itself.
func rules(h *host) string { return h.run("nft", "-s", "-t", "list", "table", "inet", "tocsin") }

// has says whether the host has a table of that name.
func (h *host) has(table string) bool {
	h.t.Helper()
	return strings.Contains(h.run("nft", "list", "tables"), "table inet "+table+"\n")
}

// Ten thousand bans are back, within a second on a machine that has time for it.
func TestWatchRepairsInTime(t *testing.T) {
	h := newHost(t)
	f := h.firewall(addresses(10_000)...)
	watch(t, f, yes)
	for _, command := range []string{"flush ruleset", "flush set inet tocsin ports_22_v4"} {
		repairs := f.Stats().Repairs
		h.run("nft", command)
		begin := time.Now()
		took := eventually(t, time.Second, "the repair after "+command, func() bool { return f.Stats().Repairs > repairs })
		t.Logf("repaired %v after %s", took, command)
		f.mu.Lock() // Watch may be at its socket for another look
		held, err := f.sock.list("tocsin", begin)
		f.mu.Unlock()
		if err != nil || len(held) != 10_000 {
			t.Errorf("%d elements after %s (%v), want 10000", len(held), command, err)
		}
	}
}

// Our own transactions, and what others do elsewhere, are no reason to repair.
func TestWatchIsCalm(t *testing.T) {
	h := newHost(t)
	f := h.firewall()
	var asked atomic.Int32
	watch(t, f, func() bool { asked.Add(1); return true })
	many := addresses(3000)
	for i := range many {
		must(t, f.Ban(many[i]))
	}
	must(t, f.SetAllow(nil))
	h.run("nft", "add table inet other { set s { type ipv4_addr; elements = { 192.0.2.1 }; }; }; flush set inet other s; delete table inet other")
	h.run("nft", "add table ip tocsin; delete table ip tocsin")
	h.run("nft", "add element inet tocsin ports_22_v4 { 192.0.2.1 }")
	must(t, f.Unban(many...))
	h.run("nft", "delete table inet tocsin")
	eventually(t, 2*time.Second, "the one repair", func() bool { return asked.Load() > 0 })
	if got := f.Stats().Repairs; got > 1 || asked.Load() > 1 {
		t.Errorf("%d repairs, asked %d times; want 1 each", got, asked.Load())
	}
}

// Who does not want the table back has it off until Restore.
func TestWatchAsks(t *testing.T) {
	h := newHost(t)
	f := h.firewall(ban("192.0.2.1"))
	watch(t, f, func() bool { return false })
	must(t, Remove(h.options()))
	eventually(t, 2*time.Second, "the firewall is off", func() bool { return !f.Stats().Standing })
	if f.Standing() {
		t.Error("off, and standing")
	}
	if err := f.Ban(ban("192.0.2.2")); err != ErrOff {
		t.Errorf("Ban while off: %v, want ErrOff", err)
	}
	if got := h.run("nft", "list", "tables"); got != "" {
		t.Errorf("tables %q, want none", got)
	}
	_, err := f.Restore(nil, nil, time.Now())
	must(t, err)
	must(t, f.Ban(ban("192.0.2.2")))
	check(t, h, "on again", "ports_22_v4 192.0.2.2 3600")
}

// A ban that comes while the table is gone fails, and once the table is back there is nothing to complain about.
func TestRepairedErrorIsForgotten(t *testing.T) {
	h := newHost(t)
	for _, tt := range []struct {
		name string
		lost func() bool
	}{{"made again", yes}, {"off, as asked", func() bool { return false }}} {
		t.Run(tt.name, func(t *testing.T) {
			f := h.firewall(ban("192.0.2.1"))
			h.run("nft", "flush ruleset")
			if err := f.Ban(ban("192.0.2.2")); err == nil || f.Stats().LastError == "" {
				t.Fatalf("Ban into a table that is gone: error %v, stats %+v", err, f.Stats())
			}
			watch(t, f, tt.lost)
			eventually(t, 2*time.Second, "the error is forgotten", func() bool { return f.Stats().LastError == "" })
			if got := f.Stats(); got.Errors != 1 || got.Standing != tt.lost() {
				t.Errorf("stats %+v, want one error", got)
			}
		})
	}
}

// A table that changed while nobody listened is found when Watch begins, a failed transaction at once.
func TestWatchFindsOldDamage(t *testing.T) {
	for _, tt := range []struct{ name, command string }{
		{"table gone", "delete table inet tocsin"},
		{"rules gone", "flush chain inet tocsin ports"},
		{"elements gone", "flush set inet tocsin ports_22_v4"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHost(t)
			f := h.firewall(ban("192.0.2.1"))
			if _, sure, err := f.sound(time.Now()); err != nil || !sure && tt.name == "elements gone" {
				t.Skipf("this kernel does not tell how many elements a set holds (%v)", err)
			}
			h.run("nft", tt.command)
			watch(t, f, yes)
			eventually(t, time.Second, "the repair", func() bool { return f.Stats().Repairs == 1 })
			check(t, h, "repaired", "ports_22_v4 192.0.2.1 3600")
		})
	}
}

// While the kernel refuses, Watch tries more and more seldom.
func TestRepairBacksOff(t *testing.T) {
	h := newHost(t)
	f := h.firewall(ban("192.0.2.1"))
	broken := *f.sock
	broken.fd = -1
	good := f.sock
	f.sock = &broken
	f.stale = true
	r := repair{f: f, lost: yes}
	var waits []time.Duration
	for range 9 {
		waits = append(waits, r.inspect(routine))
	}
	if waits[0] != repairEvery || waits[1] != 2*repairEvery || waits[8] != checkEvery {
		t.Errorf("waits %v, want doubling from %v to %v", waits, repairEvery, checkEvery)
	}
	f.sock = good
	if got := r.inspect(routine); got != repairEvery {
		t.Errorf("after a repair: wait %v, want %v", got, repairEvery)
	}
	if got := r.inspect(routine); got != 0 {
		t.Errorf("a sound table: wait %v, want 0", got)
	}
	if got := r.inspect(unheard); got != 0 && runningCounts(f) {
		t.Errorf("a sound table after events were lost: wait %v, want 0", got)
	}
	f.standing = false
	if got := r.inspect(disturbed); got != 0 {
		t.Errorf("while off: wait %v, want 0", got)
	}
}

func runningCounts(f *Firewall) bool {
	_, sure, err := f.sound(time.Now())
	return err == nil && sure
}

// When changes come faster than they are heard, Watch looks for itself.
func TestMonitorOverrun(t *testing.T) {
	h := newHost(t)
	f := h.firewall(addresses(10_000)...)
	m, err := f.listen()
	must(t, err)
	must(t, m.conn.SetReadBuffer(4096))
	h.run("nft", "flush set inet tocsin ports_22_v4") // an event for each element
	done := make(chan struct{})
	go func() { m.read(); close(done) }()
	select {
	case <-m.overrun:
	case err := <-m.failed:
		t.Errorf("the monitor failed: %v", err)
	case <-time.After(patience):
		t.Error("no overrun seen")
	}
	must(t, m.conn.Close())
	<-done
}
