package firewall

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tocsin"
)

// prefixes reads single addresses and prefixes.
func prefixes(text string) (ps []netip.Prefix) {
	for s := range strings.FieldsSeq(text) {
		if a, err := netip.ParseAddr(s); err == nil {
			ps = append(ps, netip.PrefixFrom(a, a.BitLen()))
		} else {
			ps = append(ps, netip.MustParsePrefix(s))
		}
	}
	return ps
}

// text writes what a list holds, set by set.
func (l *list) text() string {
	var all []string
	for _, a := range l.v4 {
		all = append(all, netip.AddrFrom4([4]byte{byte(a >> 24), byte(a >> 16), byte(a >> 8), byte(a)}).String())
	}
	for _, a := range l.v6 {
		all = append(all, netip.AddrFrom16(a).String())
	}
	for _, a := range l.v6n64 {
		all = append(all, fmt.Sprintf("%x::/64", a))
	}
	for _, b := range l.net4 {
		all = append(all, fmt.Sprintf("%x-%x", b.first, b.last))
	}
	for _, b := range l.net6 {
		all = append(all, fmt.Sprintf("%s-%s", netip.AddrFrom16(b.first), netip.AddrFrom16(b.last)))
	}
	return strings.Join(all, " ")
}

func TestNewList(t *testing.T) {
	tests := []struct {
		name, in, want string
	}{
		{"nothing", "", ""},
		{"sorted, without doubles", "192.0.2.9 192.0.2.1 192.0.2.9 2001:db8::2 2001:db8::1 2001:db8::2", "192.0.2.1 192.0.2.9 2001:db8::1 2001:db8::2"},
		{"IPv4 within IPv6", "::ffff:192.0.2.1 ::ffff:10.0.0.0/104", "192.0.2.1 a000000-affffff"},
		{"host bits", "10.1.2.3/8 2001:db8::1/64", "20010db800000000::/64 a000000-affffff"},
		{"the same twice", "10.0.0.0/8 10.0.0.0/8", "a000000-affffff"},
		{"inner ones", "10.0.0.0/8 10.0.0.0/16 10.255.0.0/16 10.1.0.0/16", "a000000-affffff"},
		{"side by side", "10.0.0.0/9 10.128.0.0/9 11.0.0.0/8", "a000000-bffffff"},
		{"apart", "10.0.0.0/8 12.0.0.0/8", "a000000-affffff c000000-cffffff"},
		{"highest addresses", "255.0.0.0/8 255.255.255.0/24 ffff::/16 ffff:ffff::/32",
			"ff000000-ffffffff ffff::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
		{"everything", "0.0.0.0/0 128.0.0.0/1 ::/0 8000::/1", "0-ffffffff ::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
		{"IPv6 side by side", "2001:db8::/33 2001:db8:8000::/33 2001:dba::/32",
			"2001:db8::-2001:db8:ffff:ffff:ffff:ffff:ffff:ffff 2001:dba::-2001:dba:ffff:ffff:ffff:ffff:ffff:ffff"},
	}
	for _, tt := range tests {
		l, err := newList(&List{Name: "x", Prefixes: prefixes(tt.in)})
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if got := l.text(); got != tt.want {
			t.Errorf("%s: list of %q holds %q, want %q", tt.name, tt.in, got, tt.want)
		}
	}
}

// Joined ranges cover what the prefixes cover, and neither overlap nor touch.
func TestJoinedAtRandom(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	for range 2000 {
		var ps []netip.Prefix
		for range rnd.IntN(9) {
			ps = append(ps, netip.PrefixFrom(netip.AddrFrom4([4]byte{255, 255, 255, byte(rnd.Uint32())}), 24+rnd.IntN(8)).Masked())
		}
		l, err := newList(&List{Name: "x", Prefixes: ps})
		must(t, err)
		for i := range 256 {
			a := uint32(0xffffff00 + i)
			in := slices.ContainsFunc(ps, func(p netip.Prefix) bool { return p.Contains(netip.AddrFrom4([4]byte{255, 255, 255, byte(i)})) })
			if got := slices.ContainsFunc(l.net4, func(b bounds[uint32]) bool { return b.first <= a && a <= b.last }); got != in {
				t.Fatalf("%v: %x in the ranges %v, want %v: %s", ps, a, got, in, l.text())
			}
		}
		for i := 1; i < len(l.net4); i++ {
			if uint64(l.net4[i].first) <= uint64(l.net4[i-1].last)+1 {
				t.Fatalf("%v: ranges overlap or touch: %s", ps, l.text())
			}
		}
	}
}

func TestListRefused(t *testing.T) {
	full := map[string]*list{}
	for i := range maxLists {
		full[fmt.Sprint("full-", i)] = &list{name: fmt.Sprint("full-", i)}
	}
	large := map[string]*list{"large": {name: "large", v4: make([]uint32, maxEntries-1)}}
	tests := []struct {
		name string
		held map[string]*list
		list List
		want string // in the error; "": none
	}{
		{"good", nil, List{Name: "a-1"}, ""},
		{"longest name", nil, List{Name: strings.Repeat("x", 32)}, ""},
		{"name too long", nil, List{Name: strings.Repeat("x", 33)}, "not 1 to 32"},
		{"no name", nil, List{}, "not 1 to 32"},
		{"capitals", nil, List{Name: "Abuse"}, "not 1 to 32"},
		{"underscore", nil, List{Name: "a_drop"}, "not 1 to 32"},
		{"control characters", nil, List{Name: "a\x1b"}, `not 1 to 32`},
		{"verdict", nil, List{Name: "x", Verdict: tocsin.Pass}, "neither drop nor reject"},
		{"no prefix", nil, List{Name: "x", Prefixes: make([]netip.Prefix, 1)}, "entry 1 is no prefix"},
		{"too large", nil, List{Name: "x", Prefixes: make([]netip.Prefix, maxEntries+1)}, ErrFull.Error()},
		{"one list too many", full, List{Name: "x"}, ErrFull.Error()},
		{"in place of one", full, List{Name: "full-3", Prefixes: prefixes("192.0.2.1")}, ""},
		{"the last that has room", large, List{Name: "x", Prefixes: prefixes("192.0.2.1")}, ""},
		{"one too many in all", large, List{Name: "x", Prefixes: prefixes("192.0.2.1 192.0.2.2")}, ErrFull.Error()},
		{"in place of a large one", large, List{Name: "large", Prefixes: prefixes("192.0.2.1 192.0.2.2")}, ""},
	}
	for _, tt := range tests {
		d := NewDry()
		d.standing = true
		if tt.held != nil {
			d.want.lists = maps.Clone(tt.held)
		}
		err := d.SetList(tt.list)
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s: %v", tt.name, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: error %v, want %q", tt.name, err, tt.want)
		case tt.want == ErrFull.Error() && !errors.Is(err, ErrFull):
			t.Errorf("%s: %v is not ErrFull", tt.name, err)
		}
	}
}

// What nft shows is what was given, and after all is dropped nothing is left.
func TestListSets(t *testing.T) {
	h := newHost(t)
	f := h.firewall(ban("192.0.2.1"))
	before := rules(h)
	must(t, f.SetList(List{Name: "a", Prefixes: prefixes("198.51.100.1 203.0.113.0/24 203.0.113.128/25 2001:db8::1 2001:db8:1::/64 2001:db8:2::/48")}))
	check(t, h, "first", "list_a_1_v4 198.51.100.1 -", "list_a_1_v4_net 203.0.113.0/24 -", "list_a_1_v6 2001:db8::1 -",
		"list_a_1_v6_64 2001:db8:1:: -", "list_a_1_v6_net 2001:db8:2::/48 -", "ports_22_v4 192.0.2.1 3600")
	must(t, f.SetList(List{Name: "b", Ports: []uint16{443, 80, 80}, Prefixes: prefixes("198.51.100.2 255.255.255.0/24")}))
	must(t, f.SetList(List{Name: "a", Prefixes: prefixes("198.51.100.3 198.51.100.3")}))
	check(t, h, "another one, and the first replaced", "list_a_3_v4 198.51.100.3 -", "list_b_2_v4 198.51.100.2 -",
		"list_b_2_v4_net 255.255.255.0/24 -", "ports_22_v4 192.0.2.1 3600")
	must(t, f.SetList(List{Name: "a", Prefixes: prefixes("198.51.100.3")}))
	check(t, h, "the same again", "list_a_3_v4 198.51.100.3 -", "list_b_2_v4 198.51.100.2 -",
		"list_b_2_v4_net 255.255.255.0/24 -", "ports_22_v4 192.0.2.1 3600")
	if s := f.Stats(); s.Lists["a"].Entries != 1 || s.Lists["b"].Entries != 2 || len(s.Elements) != int(kinds) {
		t.Errorf("stats %+v, want 1 and 2 entries, and elements of bans only", s)
	}
	for _, tt := range []List{
		{Name: "b", Ports: []uint16{80, 8080}, Prefixes: prefixes("198.51.100.2")},
		{Name: "b", Verdict: tocsin.Reject, Prefixes: prefixes("198.51.100.2")},
		{Name: "b", Ports: []uint16{22}, Prefixes: prefixes("2001:db8::/64")},
		{Name: "b"},
		{Name: "b", Ports: []uint16{22}, Verdict: tocsin.Reject},
	} {
		must(t, f.SetList(tt))
		text := rules(h)
		must(t, f.DropList("b"))
		must(t, f.SetList(tt))
		ok, _, err := f.sound(time.Now())
		must(t, err)
		if !ok {
			t.Errorf("%+v: the table does not look as it was made", tt)
		}
		if fresh := rules(h); blocks(fresh) != blocks(text) {
			t.Errorf("%+v, from what was before: %s\nwant, as made anew: %s", tt, text, fresh)
		}
	}
	must(t, f.DropList("b"))
	must(t, f.DropList("a"))
	must(t, f.DropList("unknown"))
	if got := rules(h); got != before {
		t.Errorf("all dropped: %s\nwant %s", got, before)
	}
}

// blocks sorts the sets and chains of a table, and makes the sets of all editions the same.
func blocks(table string) string {
	parts := strings.Split(generations.Replace(strings.TrimSuffix(table, "}\n")), "\n\n")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	slices.Sort(parts)
	return strings.Join(parts, "\n")
}

var generations = func() *strings.Replacer {
	var pairs []string
	for i := 99; i > 0; i-- {
		pairs = append(pairs, fmt.Sprintf("_%d_v", i), "_N_v")
	}
	return strings.NewReplacer(pairs...)
}()

// Lists outlast everything but DropList.
func TestListsLast(t *testing.T) {
	h := newHost(t)
	f := h.open(h.options())
	l := List{Name: "a", Prefixes: prefixes("198.51.100.1 198.51.100.0/24")}
	want := []string{"list_a_1_v4 198.51.100.1 -", "list_a_1_v4_net 198.51.100.0/24 -"}
	if err := f.SetList(l); !errors.Is(err, ErrOff) {
		t.Errorf("SetList before Restore: %v, want ErrOff", err)
	}
	restore := func() {
		t.Helper()
		adopted, err := f.Restore(nil, nil, time.Now())
		must(t, err)
		if len(adopted) > 0 {
			t.Errorf("adopted %v from a list", adopted)
		}
	}
	restore()
	check(t, h, "Restore", want...)
	restore()
	check(t, h, "Restore again", want...)
	must(t, f.Clear())
	if err := f.SetList(l); !errors.Is(err, ErrOff) {
		t.Errorf("SetList after Clear: %v, want ErrOff", err)
	}
	restore()
	check(t, h, "Clear and Restore", strings.Replace(want[0], "_1_", "_2_", 1), strings.Replace(want[1], "_1_", "_2_", 1))
	must(t, f.Ban(ban("192.0.2.1")))
	must(t, f.SetAllow(prefixes("192.0.2.7")))
	must(t, f.Sync(time.Now()))

	// A new process that is told of no list leaves none.
	f = h.open(h.options())
	restore2, err := f.Restore(nil, nil, time.Now())
	must(t, err)
	if len(restore2) != 1 || restore2[0].ID != "192.0.2.1" {
		t.Errorf("adopted %v, want the one ban", restore2)
	}
	check(t, h, "a new process", "ports_22_v4 192.0.2.1 3600")
}

// A list that the kernel refuses leaves the old one in force.
func TestListThatFails(t *testing.T) {
	h := newHost(t)
	f := h.firewall()
	must(t, f.SetList(List{Name: "a", Prefixes: prefixes("198.51.100.1")}))
	good := f.sock
	broken := *good
	broken.fd = -1
	f.sock = &broken
	if err := f.SetList(List{Name: "a", Prefixes: prefixes("198.51.100.2")}); err == nil || errors.Is(err, ErrOff) {
		t.Errorf("SetList through a closed socket: %v", err)
	}
	f.sock = good
	check(t, h, "after the failure", "list_a_1_v4 198.51.100.1 -")
	must(t, f.Sync(time.Now()))
	check(t, h, "after Sync", "list_a_1_v4 198.51.100.1 -")
	must(t, f.SetList(List{Name: "a", Prefixes: prefixes("198.51.100.2")}))
	check(t, h, "after another try", "list_a_3_v4 198.51.100.2 -")
	h.run("nft", "flush ruleset")
	if err := f.DropList("a"); err == nil {
		t.Error("DropList in a table that is gone: no error")
	}
	if n := len(f.Stats().Lists); n != 0 {
		t.Errorf("%d lists wanted after DropList, want none", n)
	}
}

// A list that the kernel refuses while the table is made keeps nobody out of it: neither bans nor the other lists.
func TestRefusedListAtRestore(t *testing.T) {
	h := newHost(t)
	f := h.open(h.options())
	for _, name := range []string{"a", "b", "c"} {
		if err := f.SetList(List{Name: name, Prefixes: prefixes("198.51.100.1 198.51.100.0/24")}); !errors.Is(err, ErrOff) {
			t.Fatalf("SetList before Restore: %v, want ErrOff", err)
		}
	}
	f.want.lists["b"].net4 = []bounds[uint32]{{1, 10}, {5, 20}} // no interval set takes that
	want := []string{"list_a_1_v4 198.51.100.1 -", "list_a_1_v4_net 198.51.100.0/24 -", "list_c_3_v4 198.51.100.1 -", "list_c_3_v4_net 198.51.100.0/24 -",
		"ports_22_v4 192.0.2.1 3600"}
	_, err := f.Restore([]tocsin.Decision{ban("192.0.2.1")}, nil, time.Now())
	must(t, err)
	check(t, h, "Restore", want...)
	st := f.Stats()
	if st.Lists["a"].Problem != "" || st.Lists["b"].Problem == "" || st.Lists["c"].Problem != "" || st.LastError != "" {
		t.Errorf("stats %+v, want a problem of list b and no other", st)
	}
	if ok, _, err := f.sound(time.Now()); err != nil || !ok {
		t.Errorf("the table is not as it was made (%v)", err)
	}
	restores := st.Restores
	must(t, f.Sync(time.Now()))
	if n := f.Stats().Restores; n != restores {
		t.Errorf("Sync made the table again %d times for a list that is known to be refused", n-restores)
	}

	// Another try, that fails and then succeeds.
	refused := f.want.lists["b"].refused
	must(t, f.DropList("b"))
	check(t, h, "DropList", want...)
	if err := f.SetList(List{Name: "b", Prefixes: prefixes("198.51.100.9")}); err != nil {
		t.Fatal(err)
	}
	check(t, h, "SetList after DropList", slices.Insert(slices.Clone(want), 2, "list_b_4_v4 198.51.100.9 -")...)
	f.want.lists["c"].refused = refused // as if
	h.run("nft", "delete chain inet tocsin list_c_all; flush chain inet tocsin list_c; flush chain inet tocsin list_c_drop")
	h.run("nft", "delete chain inet tocsin list_c; delete chain inet tocsin list_c_drop; delete set inet tocsin list_c_3_v4; delete set inet tocsin list_c_3_v4_net")
	must(t, f.SetList(List{Name: "c", Prefixes: prefixes("198.51.100.1 198.51.100.0/24")}))
	check(t, h, "SetList of the same", want[0], want[1], "list_b_4_v4 198.51.100.9 -", "list_c_5_v4 198.51.100.1 -", "list_c_5_v4_net 198.51.100.0/24 -", want[4])
	if st := f.Stats().Lists["c"]; st.Problem != "" {
		t.Errorf("stats %+v of a list that is in force", st)
	}
}

// When the first Restore fails, SetList makes the table.
func TestListAfterFailedRestore(t *testing.T) {
	h := newHost(t)
	f := h.open(h.options())
	good := f.sock
	broken := *good
	broken.fd = -1
	f.sock = &broken
	if _, err := f.Restore([]tocsin.Decision{ban("192.0.2.1")}, nil, time.Now()); err == nil {
		t.Fatal("Restore through a closed socket: no error")
	}
	f.sock = good
	must(t, f.SetList(List{Name: "a", Prefixes: prefixes("198.51.100.1")}))
	check(t, h, "after SetList", "list_a_1_v4 198.51.100.1 -", "ports_22_v4 192.0.2.1 3600")
}

// Where buffers may not be enlarged, as in a container with a user namespace of its own, lists still find their way, and
// bans do not wait for them.
func TestListInSmallPieces(t *testing.T) {
	h := newHost(t)
	f := h.firewall(ban("192.0.2.1"))
	must(t, unix.SetsockoptInt(f.sock.fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 212992))
	f.sock.room = 2 * 212992
	must(t, f.SetList(List{Name: "a", Prefixes: singles(50_000, 1)}))
	must(t, f.SetList(List{Name: "b", Prefixes: networks(20_000, 1)}))
	must(t, f.SetList(List{Name: "a", Prefixes: singles(40_000, 2)}))
	_, err := f.Restore([]tocsin.Decision{ban("192.0.2.1")}, nil, time.Now())
	must(t, err)
	if ok, _, err := f.sound(time.Now()); err != nil || !ok {
		t.Errorf("the table is not as it was made (%v)", err)
	}
	want := 40_000 + f.Stats().Lists["b"].Entries + 1
	if got := len(elementsByNFT(h, 10)); got != want || f.Stats().Errors != 0 {
		t.Errorf("%d elements, want %d; stats %+v", got, want, f.Stats())
	}
}

// Whatever others do to a list, it comes back.
func TestWatchRepairsLists(t *testing.T) {
	h := newHost(t)
	f := h.firewall()
	watch(t, f, yes)
	must(t, f.SetList(List{Name: "a", Prefixes: singles(20_000, 1)}))
	must(t, f.SetList(List{Name: "b", Ports: []uint16{80}, Prefixes: prefixes("198.51.100.1 203.0.113.0/24")}))
	must(t, f.SetList(List{Name: "a", Prefixes: singles(20_000, 2)}))
	state := func() string {
		if !h.has("tocsin") {
			return "no table"
		}
		return fmt.Sprint(len(elementsByNFT(h, 600)), " elements in ", blocks(rules(h)))
	}
	want := state()
	if repairs := f.Stats().Repairs; !strings.HasPrefix(want, "20002 ") || repairs != 0 {
		t.Fatalf("after %d repairs %s\nwant 20002 elements and no repair", repairs, want)
	}
	var got string
	defer func() {
		if t.Failed() {
			t.Logf("in the end: %s\nwant %s", got, want)
		}
	}()
	for _, command := range []string{
		"flush ruleset",
		"flush set inet tocsin list_a_3_v4",
		"flush set inet tocsin list_b_2_v4_net",
		"flush set inet tocsin list_b_dport",
		"flush chain inet tocsin list_a",
		"flush chain inet tocsin list_b_drop",
		"flush chain inet tocsin list_a_all",
		"insert rule inet tocsin list_b_ports accept",
		"delete element inet tocsin list_b_2_v4 { 198.51.100.1 }",
	} {
		repairs := f.Stats().Repairs
		h.run("nft", command)
		eventually(t, 5*time.Second, "the repair after "+command, func() bool {
			got = state()
			return f.Stats().Repairs > repairs && got == want
		})
	}
}

// What others do while the ears are stopped is found afterwards.
func TestUnheardChange(t *testing.T) {
	h := newHost(t)
	f := h.firewall()
	m, err := f.listen()
	must(t, err)
	defer m.conn.Close()
	many := List{Name: "a", Prefixes: singles(20_000, 1)}
	must(t, f.SetList(many))
	select {
	case <-f.stirred:
	default:
		t.Error("Watch is not told to look after a great transaction")
	}
	h.run("nft", "add table inet other; delete table inet other")
	events := make(chan struct{})
	go func() { _, _ = m.conn.Receive(); close(events) }()
	select {
	case <-events:
	case <-time.After(patience):
		t.Error("nothing is heard after a great transaction")
	}
	f.unlisten()
	h.run("nft", "delete chain inet tocsin list_a_all")
	watch(t, f, yes)
	eventually(t, 5*time.Second, "the repair", func() bool { return f.Stats().Repairs == 1 })
}

// The table may be made anew, switched off and on, and banned in while a list is filled.
func TestChangesWhileFilling(t *testing.T) {
	h := newHost(t)
	f := h.firewall()
	watch(t, f, yes)
	changes := []func() error{
		func() error { return f.Ban(ban("192.0.2.1")) },
		func() error { f.mu.Lock(); defer f.mu.Unlock(); return f.install(time.Now()) },
		func() error { return f.SetAllow(prefixes("203.0.113.1")) },
		f.Clear,
		func() error { _, err := f.Restore([]tocsin.Decision{ban("192.0.2.1")}, nil, time.Now()); return err },
		func() error { time.Sleep(50 * time.Millisecond); return nil },
	}
	var done atomic.Bool
	var others sync.WaitGroup
	others.Go(func() {
		for i := 0; !done.Load(); i++ {
			if err := changes[i%len(changes)](); err != nil && !errors.Is(err, ErrOff) {
				t.Errorf("change %d: %v", i%len(changes), err)
			}
		}
	})
	many := [2][]netip.Prefix{singles(150_000, 1), networks(60_000, 2)}
	for i := range 12 {
		if err := f.SetList(List{Name: "a", Prefixes: many[i%2]}); err != nil && !errors.Is(err, ErrOff) {
			t.Errorf("swap %d: %v", i, err)
		}
	}
	done.Store(true)
	others.Wait()
	_, err := f.Restore([]tocsin.Decision{ban("192.0.2.1")}, nil, time.Now())
	must(t, err)
	must(t, f.SetList(List{Name: "a", Prefixes: many[0]}))
	f.mu.Lock() // Watch uses the socket, too
	ok, _, err := f.sound(time.Now())
	sets, failed := f.sock.sets("tocsin")
	f.mu.Unlock()
	if err != nil || !ok {
		t.Errorf("the table is not as it was made (%v)", err)
	}
	must(t, failed)
	var got []string
	for _, s := range sets {
		if strings.HasPrefix(s.name, "list_") {
			got = append(got, fmt.Sprintf("%s %d", s.name, s.elements))
		}
	}
	if want := []string{"list_a_13_v4 150000"}; !slices.Equal(got, want) && sets[0].elements >= 0 {
		t.Errorf("sets %q, want %q", got, want)
	}
	if s := f.Stats(); s.Errors != 0 || s.Repairs != 0 {
		t.Errorf("stats %+v, want no errors and no repairs", s)
	}
}

func TestListPackets(t *testing.T) {
	l := newLab(t)
	for _, port := range []int{22, 80} {
		l.victim.listen(port)
		l.attacker.listen(port)
	}
	f := l.victim.firewall()
	drop, reject := tocsin.Drop, tocsin.Reject
	tests := []struct {
		name    string
		ports   []uint16
		entries string
		verdict tocsin.Verdict
		allow   string
		want    string // from@port outcome, of everything that does not pass
	}{
		{"empty", nil, "", drop, "", ""},
		{"an address", nil, attacker4, drop, "", "a4@22 dropped, a4@80 dropped"},
		{"some ports", []uint16{80}, attacker4 + " " + attacker6, drop, "", "a4@80 dropped, a6@80 dropped"},
		{"other ports than before", []uint16{22, 8080}, attacker4, drop, "", "a4@22 dropped"},
		{"prefix", nil, "10.9.0.64/30", drop, "", "a4@22 dropped, a4@80 dropped"},
		{"overlapping prefixes", nil, "10.9.0.64/26 10.9.0.64/30 10.9.0.66/31 10.9.0.66", drop, "", "a4@22 dropped, a4@80 dropped"},
		{"prefixes beside", nil, "10.9.0.68/30 10.9.0.60/30", drop, "", ""},
		{"up to the highest address", nil, "128.0.0.0/1 0.0.0.0/1", drop, "", "a4@22 dropped, a4@80 dropped, h4@22 dropped, h4@80 dropped"},
		{"IPv6", nil, attacker6, drop, "", "a6@22 dropped, a6@80 dropped"},
		{"IPv6 /64", []uint16{22}, "2001:db8:9::/64", drop, "", "a6@22 dropped, n6@22 dropped"},
		{"IPv6 prefix", []uint16{22}, "2001:db8:9:0:6::/112", drop, "", "a6@22 dropped, n6@22 dropped"},
		{"allowed", nil, attacker4 + " 10.9.0.0/24 2001:db8:9::/64", drop, "10.9.0.66/32 2001:db8:9:0:6::66/128",
			"h4@22 dropped, h4@80 dropped, n6@22 dropped, n6@80 dropped"},
		{"reject", []uint16{22}, attacker4 + " 2001:db8:9::/64", reject, "", "a4@22 rejected, a6@22 rejected, n6@22 rejected"},
		{"reject all", nil, attacker4, reject, "", "a4@22 rejected, a4@80 rejected"},
	}
	sources := []struct{ name, from, to string }{
		{"a4", attacker4, victim4}, {"h4", honest4, victim4},
		{"a6", attacker6, victim6}, {"n6", "2001:db8:9:0:6::67", victim6}, {"h6", honest6, victim6},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			must(t, f.SetAllow(prefixes(tt.allow)))
			before := f.Stats().Lists["x"]
			must(t, f.SetList(List{Name: "x", Ports: tt.ports, Prefixes: prefixes(tt.entries), Verdict: tt.verdict}))
			var got []string
			for _, s := range sources {
				for _, port := range []int{22, 80} {
					at := fmt.Sprintf("%s@%d", s.name, port)
					if o := l.attacker.try(s.from, s.to, port, outcomeIn(tt.want, at)); o != "passes" {
						got = append(got, at+" "+o)
					}
				}
			}
			if got := strings.Join(got, ", "); got != tt.want {
				t.Errorf("list of %q for %s: %q, want %q\n%s", tt.entries, tocsin.PortsString(tt.ports), got, tt.want, l.victim.run("nft", "list", "ruleset"))
			}
			after := f.Stats().Lists["x"]
			if n := after.Packets - before.Packets; n < uint64(len(got)) || (n > 0) != (len(got) > 0) || (n > 0) != (after.Bytes > before.Bytes) {
				t.Errorf("%d packets counted of at least %d, from %+v to %+v", n, len(got), before, after)
			}
			// Own connections are answered, be it by listed ones.
			for _, s := range sources {
				l.victim.run("ip", "neigh", "flush", "all")
				if o := l.victim.try(s.to, s.from, 80, "passes"); o != "passes" {
					t.Errorf("own connection to %s: %s, want passes", s.from, o)
				}
			}
		})
	}
}

// Counters go on over swaps, changes of ports and verdict, repairs, and Clear; not over DropList.
func TestListCounters(t *testing.T) {
	l := newLab(t)
	l.victim.listen(22)
	f := l.victim.firewall()
	set := func(l List) func() {
		return func() { l.Name = "x"; must(t, f.SetList(l)) }
	}
	steps := []struct {
		name string
		do   func()
	}{
		{"first", set(List{Prefixes: prefixes(attacker4)})},
		{"swapped", set(List{Prefixes: prefixes(attacker4 + " 192.0.2.1")})},
		{"other ports", set(List{Ports: []uint16{22}, Prefixes: prefixes(attacker4)})},
		{"other verdict", set(List{Verdict: tocsin.Reject, Prefixes: prefixes(attacker4)})},
		{"both back", set(List{Ports: []uint16{22}, Prefixes: prefixes(attacker4)})},
		{"made anew", func() { f.stale = true; must(t, f.Sync(time.Now())) }},
		{"off and on", func() {
			must(t, f.Clear())
			_, err := f.Restore(nil, nil, time.Now())
			must(t, err)
		}},
		{"flushed", func() {
			f.Stats()
			l.victim.run("nft", "flush ruleset")
			f.Stats()
			_, err := f.Restore(nil, nil, time.Now())
			must(t, err)
		}},
	}
	var before, first ListStats
	for i, tt := range steps {
		tt.do()
		if got := f.Stats().Lists["x"]; got.Packets != before.Packets || got.Bytes != before.Bytes {
			t.Errorf("%s: %+v, want the counts of %+v", tt.name, got, before)
		}
		if got := l.attacker.try(attacker4, victim4, 22, "dropped"); got == "passes" {
			t.Errorf("%s: a listed address passes", tt.name)
		}
		after := f.Stats().Lists["x"]
		if i == 0 {
			first = after
		}
		if after.Packets <= before.Packets || after.Bytes <= before.Bytes || after.Since != first.Since {
			t.Errorf("%s: from %+v to %+v, want more, since %v", tt.name, before, after, first.Since)
		}
		before = after
	}
	must(t, f.DropList("x"))
	must(t, f.SetList(List{Name: "x", Prefixes: prefixes(attacker4)}))
	if got := f.Stats().Lists["x"]; got.Packets != 0 || got.Bytes != 0 || !got.Since.After(first.Since) {
		t.Errorf("dropped and set again: %+v, want nothing since %v", got, first.Since)
	}
}

// While large lists are swapped, over and over, not one connection of an address on all of them is accepted and not one
// of another address fails.
func TestSwapUnderFire(t *testing.T) {
	for _, tt := range []struct {
		name  string
		ports []uint16
		fill  func(n, seed int) []netip.Prefix
		entry string // the attacker's, in every edition
	}{
		{"addresses, all ports", nil, singles, attacker4},
		{"prefixes, some ports", []uint16{22}, networks, "10.9.0.64/26"},
		{"a prefix among addresses", nil, singles, "10.9.0.64/26"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab(t)
			// A packet that is lost is sent again, so that connections tell little. Of the honest address as many packets must
			// leave our chains as came.
			l.victim.run("nft", "add table inet count; add counter inet count came; add counter inet count left;"+
				"add chain inet count before { type filter hook prerouting priority -400; };"+
				"add chain inet count behind { type filter hook prerouting priority 0; };"+
				"add rule inet count before ip saddr "+honest4+" counter name came; add rule inet count behind ip saddr "+honest4+" counter name left")
			var accepted, honest atomic.Int64
			l.victim.serve(22, func(from netip.Addr) {
				if from.String() == attacker4 {
					accepted.Add(1)
				}
			})
			f := l.victim.firewall()
			watch(t, f, yes)
			swap := func(seed int) {
				ps := tt.fill(100_000, seed)
				ps = slices.DeleteFunc(ps, func(p netip.Prefix) bool { return p.Overlaps(netip.MustParsePrefix("10.9.0.0/24")) })
				must(t, f.SetList(List{Name: "x", Ports: tt.ports, Prefixes: append(ps, prefixes(tt.entry)...)}))
			}
			swap(0)
			var done atomic.Bool
			var fire sync.WaitGroup
			for range 4 {
				fire.Go(func() {
					for !done.Load() {
						if c, err := l.attacker.connect(attacker4, 5*time.Millisecond); err == nil {
							c.Close()
						}
					}
				})
			}
			failures := make(chan error, 1)
			for range 2 {
				fire.Go(func() {
					for !done.Load() {
						c, err := l.attacker.connect(honest4, patience)
						if err != nil {
							select {
							case failures <- err:
							default:
							}
							return
						}
						c.Close()
						honest.Add(1)
					}
				})
			}
			begin, swaps := time.Now(), 0
			enough := func() bool { return honest.Load() >= 200 && f.Stats().Lists["x"].Packets >= 200 }
			for time.Since(begin) < 3*time.Second || swaps < 8 || !enough() && time.Since(begin) < 4*patience {
				swaps++
				swap(swaps)
			}
			done.Store(true)
			fire.Wait()
			select {
			case err := <-failures:
				t.Errorf("an honest connection failed: %v", err)
			default:
			}
			came, left := l.victim.counted("came"), l.victim.counted("left")
			if came != left {
				t.Errorf("of an honest address %s came and %s left our chains", came, left)
			}
			s := f.Stats()
			if accepted.Load() != 0 || s.Repairs != 0 || s.Errors != 0 {
				t.Errorf("%d connections of a listed address accepted, %d repairs, %d errors; want none", accepted.Load(), s.Repairs, s.Errors)
			}
			if s.Lists["x"].Packets < 200 || honest.Load() < 200 {
				t.Errorf("only %d packets dropped and %d connections accepted: this proves nothing", s.Lists["x"].Packets, honest.Load())
			}
			t.Logf("%d swaps, %d packets dropped, %d honest connections with %s", swaps, s.Lists["x"].Packets, honest.Load(), came)
		})
	}
}

// counted is what a counter of the table count has counted, "N packets".
func (h *host) counted(name string) string {
	h.t.Helper()
	_, after, _ := strings.Cut(h.run("nft", "list", "counter", "inet", "count", name), "packets ")
	n, _, ok := strings.Cut(after, " ")
	if !ok {
		h.t.Fatalf("nft tells of the counter %s: %s", name, after)
	}
	return n + " packets"
}

// killedSwapper is the variable that makes the test program swap lists of killedSizes until it is killed.
const killedSwapper = "TOCSIN_TEST_SWAP_UNTIL_KILLED"

var killedSizes = [2]int{30_000, 45_000}

func TestMain(m *testing.M) {
	if os.Getenv(killedSwapper) == "" {
		os.Exit(m.Run())
	}
	f, err := Open(Options{})
	if err == nil {
		_, err = f.Restore(nil, nil, time.Now())
	}
	lists := [2]List{{Name: "x", Prefixes: singles(killedSizes[0], 1)}, {Name: "x", Prefixes: singles(killedSizes[1], 2)}}
	for i := 0; err == nil; i++ {
		if err = f.SetList(lists[i%2]); i == 0 {
			fmt.Println("in force")
		}
	}
	fmt.Println(err)
	os.Exit(1)
}

// Whenever the program is killed, one of the two lists is there, whole.
func TestKilledInSwap(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 8))
	h := newHost(t)
	seen := map[int]int{}
	for range 20 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), killedSwapper+"=1")
		out, err := cmd.StdoutPipe()
		must(t, err)
		h.do(func() { err = cmd.Start() })
		must(t, err)
		buf := make([]byte, 100)
		n, _ := out.Read(buf)
		if got := string(buf[:n]); got != "in force\n" {
			t.Fatalf("the swapping program says %q", got)
		}
		time.Sleep(time.Duration(rnd.IntN(100_000)) * time.Microsecond)
		must(t, cmd.Process.Kill())
		_ = cmd.Wait()
		seen[wholeList(t, h)]++
	}
	t.Logf("found after a kill: %v", seen)
}

// wholeList finds the one set to which the chain of list x refers, and returns how much is in it. Beside it there may be
// the one that was just filled.
func wholeList(t *testing.T, h *host) int {
	t.Helper()
	f := h.open(h.options())
	defer f.Close()
	sets, err := f.sock.sets("tocsin")
	must(t, err)
	sets = slices.DeleteFunc(sets, func(s kernelSet) bool { return !strings.HasPrefix(s.name, "list_x_") })
	rules := h.run("nft", "list", "chain", "inet", "tocsin", "list_x")
	_, set, _ := strings.Cut(rules, "@")
	set, _, _ = strings.Cut(set, " ")
	if len(sets) == 0 || len(sets) > 2 || strings.Count(rules, "goto") != 1 {
		t.Fatalf("after a kill there are the sets %v, and the chain is %s", sets, rules)
	}
	elements, err := f.sock.elements("tocsin", set)
	must(t, err)
	if n := len(elements); !slices.Contains(killedSizes[:], n) {
		t.Fatalf("%d elements in %q after a kill, want one of %v", n, set, killedSizes)
	}
	return len(elements)
}

// serve closes every connection to a TCP port at once, until the test ends, and tells where it came from.
func (h *host) serve(port int, each func(from netip.Addr)) {
	h.t.Helper()
	var l net.Listener
	var err error
	h.do(func() { l, err = net.Listen("tcp", fmt.Sprintf(":%d", port)) })
	must(h.t, err)
	h.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			each(c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap())
			c.Close()
		}
	}()
}

// connect opens a connection to the victim of the lab. Closing it leaves nothing behind, so that ports do not run out.
func (h *host) connect(from string, within time.Duration) (c net.Conn, err error) {
	h.do(func() {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: within}
		c, err = d.Dial("tcp", victim4+":22")
	})
	if err == nil {
		err = c.(*net.TCPConn).SetLinger(0)
	}
	return c, err
}
