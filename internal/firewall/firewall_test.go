package firewall

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tocsin"
)

// elementsByNFT lists the elements of our table as nft, which is not ours, sees them: set, key and remaining seconds
// rounded up to a multiple of step, "-" if it has no timeout.
func elementsByNFT(h *host, step int) []string {
	h.t.Helper()
	var answer struct {
		Nftables []struct {
			Set *struct {
				Name string
				Elem []json.RawMessage
			}
		}
	}
	if err := json.Unmarshal([]byte(h.run("nft", "-j", "list", "table", "inet", "tocsin")), &answer); err != nil {
		h.t.Fatal(err)
	}
	var all []string
	for _, o := range answer.Nftables {
		if o.Set == nil || strings.HasSuffix(o.Set.Name, dportSuffix) {
			continue
		}
		for _, raw := range o.Set.Elem {
			all = append(all, o.Set.Name+" "+elementText(h, raw, step))
		}
	}
	slices.Sort(all)
	return all
}

// elementText reads nft's JSON, where an element is a bare value unless it has a timeout or a comment.
func elementText(h *host, raw json.RawMessage, step int) string {
	h.t.Helper()
	var e struct {
		Elem *struct {
			Val     json.RawMessage
			Expires *int
		}
	}
	left := "-"
	if json.Unmarshal(raw, &e) == nil && e.Elem != nil {
		raw = e.Elem.Val
		if e.Elem.Expires != nil {
			left = fmt.Sprint((*e.Elem.Expires + step - 1) / step * step)
		}
	}
	var text string
	var value struct {
		Prefix *struct {
			Addr string
			Len  int
		}
		Range []string
	}
	switch {
	case json.Unmarshal(raw, &text) == nil:
	case json.Unmarshal(raw, &value) != nil:
		h.t.Fatalf("nft lists an element %s", raw)
	case value.Prefix != nil:
		text = fmt.Sprintf("%s/%d", value.Prefix.Addr, value.Prefix.Len)
	default:
		text = strings.Join(value.Range, "-")
	}
	return text + " " + left
}

// check compares the elements, with the seconds that they have left rounded up to ten minutes.
func check(t *testing.T, h *host, what string, want ...string) {
	t.Helper()
	if got := elementsByNFT(h, 600); !slices.Equal(got, want) {
		t.Errorf("%s: elements %q, want %q", what, got, want)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestBanAndUnban(t *testing.T) {
	h := newHost(t)
	f := h.firewall()
	must(t, f.Ban(ban("192.0.2.1"), ban("192.0.2.2", lasting(20*time.Minute))))
	check(t, h, "two bans", "ports_22_v4 192.0.2.1 3600", "ports_22_v4 192.0.2.2 1200")
	must(t, f.Ban(ban("192.0.2.1"), ban("192.0.2.1"), ban("192.0.2.2", lasting(20*time.Minute))))
	check(t, h, "the same again", "ports_22_v4 192.0.2.1 3600", "ports_22_v4 192.0.2.2 1200")
	must(t, f.Ban(ban("192.0.2.2", lasting(40*time.Minute))))
	check(t, h, "extended", "ports_22_v4 192.0.2.1 3600", "ports_22_v4 192.0.2.2 2400")
	must(t, f.Ban(ban("192.0.2.2", lasting(30*time.Minute))))
	check(t, h, "shortened", "ports_22_v4 192.0.2.1 3600", "ports_22_v4 192.0.2.2 1800")
	must(t, f.Ban(ban("192.0.2.2", forever)))
	check(t, h, "without end", "ports_22_v4 192.0.2.1 3600", "ports_22_v4 192.0.2.2 -")
	must(t, f.Ban(ban("192.0.2.1", ports(80, 443))))
	check(t, h, "other ports", "ports_22_v4 192.0.2.2 -", "ports_80_443_v4 192.0.2.1 3600")
	must(t, f.Unban(ban("192.0.2.2"), ban("192.0.2.2"), ban("203.0.113.1")))
	check(t, h, "unban, twice, and of an unknown", "ports_80_443_v4 192.0.2.1 3600")
	must(t, f.Ban(ban("192.0.2.1", lasting(-time.Second))))
	check(t, h, "a ban that is over lifts the one before")
	if got := f.Stats(); got.Wanted != 0 || got.Errors != 0 {
		t.Errorf("stats %+v, want nothing wanted and no errors", got)
	}
}

// An element stays while another jail's ban holds it, and lasts as long as the longest.
func TestTwoJails(t *testing.T) {
	h := newHost(t)
	f := h.firewall()
	must(t, f.Ban(ban("192.0.2.1"), ban("192.0.2.1", jail("web"), lasting(20*time.Minute))))
	check(t, h, "two jails", "ports_22_v4 192.0.2.1 3600")
	must(t, f.Unban(ban("192.0.2.1")))
	check(t, h, "one lifted", "ports_22_v4 192.0.2.1 1200")
	must(t, f.Unban(ban("192.0.2.1", jail("web"))))
	check(t, h, "both lifted")
}

// What the kernel has timed out already can be lifted and banned again.
func TestExpired(t *testing.T) {
	h := newHost(t)
	f := h.firewall()
	short := lasting(time.Second)
	must(t, f.Ban(ban("192.0.2.1", short), ban("192.0.2.2", short), ban("198.51.100.0/24", short)))
	eventually(t, 5*time.Second, "the kernel times out", func() bool { return len(elementsByNFT(h, 10)) == 0 })
	must(t, f.Unban(ban("192.0.2.1"), ban("198.51.100.0/24")))
	must(t, f.Ban(ban("192.0.2.2")))
	check(t, h, "banned again", "ports_22_v4 192.0.2.2 3600")
	must(t, f.Ban(ban("192.0.2.1", short)))
	must(t, f.Sync(time.Now().Add(time.Minute)))
	if got := f.Stats().Wanted; got != 1 {
		t.Errorf("%d wanted after Sync, want 1", got)
	}
	must(t, f.Ban(ban("192.0.2.1")))
	check(t, h, "forgotten and banned anew", "ports_22_v4 192.0.2.1 3600", "ports_22_v4 192.0.2.2 3600")
}

// eventually waits until ok holds, and returns how long that took. If it takes longer than promised, that is told: how busy
// the machine is that a test runs on is not the test's matter. Only what does not come at all fails.
func eventually(t *testing.T, promised time.Duration, what string, ok func() bool) time.Duration {
	t.Helper()
	begin := time.Now()
	for !ok() {
		if time.Since(begin) > 2*patience {
			t.Fatalf("not within %v: %s", 2*patience, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
	took := time.Since(begin)
	if took > promised {
		t.Logf("it took %v, promised within %v: %s", took, promised, what)
	}
	return took
}

func TestPrefixes(t *testing.T) {
	h := newHost(t)
	f := h.firewall()
	must(t, f.Ban(ban("10.0.0.0/8"), ban("10.1.0.0/16", forever)))
	check(t, h, "the inner one lasts longer", "ports_22_v4_net 10.0.0.0/16 3600", "ports_22_v4_net 10.1.0.0/16 -",
		"ports_22_v4_net 10.2.0.0-10.255.255.255 3600")
	must(t, f.Ban(ban("10.0.0.0/7", forever), ban("2001:db8::/32")))
	check(t, h, "the outer one lasts longest", "ports_22_v4_net 10.0.0.0/7 -", "ports_22_v6_net 2001:db8::/32 3600")
	must(t, f.Unban(ban("10.0.0.0/7"), ban("10.0.0.0/8")))
	check(t, h, "outer ones lifted", "ports_22_v4_net 10.1.0.0/16 -", "ports_22_v6_net 2001:db8::/32 3600")
	must(t, f.SetAllow([]netip.Prefix{netip.MustParsePrefix("192.0.2.0/25"), netip.MustParsePrefix("192.0.2.128/25"),
		netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("::1/128")}))
	check(t, h, "allowed", "allow_v4 192.0.2.0/24 -", "allow_v6 ::1 -",
		"ports_22_v4_net 10.1.0.0/16 -", "ports_22_v6_net 2001:db8::/32 3600")
	must(t, f.SetAllow(nil))
	check(t, h, "nobody allowed", "ports_22_v4_net 10.1.0.0/16 -", "ports_22_v6_net 2001:db8::/32 3600")
}

// The library loses all but 59 of 2,400 elements of one call; these must all be there, with long comments too.
func TestManyElements(t *testing.T) {
	h := newHost(t)
	f := h.firewall()
	name := strings.Repeat("long", 30)
	many := addresses(5000, jail(name))
	must(t, f.Ban(many...))
	count := func() int {
		held, err := f.sock.list("tocsin", time.Now())
		must(t, err)
		for _, d := range held {
			if d.Jail != name {
				t.Fatalf("jail %q of %s, want %q", d.Jail, d.ID, name)
			}
		}
		return len(held)
	}
	if got := count(); got != len(many) {
		t.Errorf("%d elements after one Ban, want %d", got, len(many))
	}
	if got := len(elementsByNFT(h, 10)); got != len(many) {
		t.Errorf("nft counts %d elements after one Ban, want %d", got, len(many))
	}
	_, err := f.Restore(many, nil, time.Now())
	must(t, err)
	if got := count(); got != len(many) {
		t.Errorf("%d elements after Restore, want %d", got, len(many))
	}
	must(t, f.Unban(many...))
	if got := count(); got != 0 {
		t.Errorf("%d elements after one Unban, want 0", got)
	}
}

// addresses makes n bans of IPv4 addresses.
func addresses(n int, with ...func(*tocsin.Decision)) []tocsin.Decision {
	ds := make([]tocsin.Decision, n)
	for i := range ds {
		ds[i] = ban(netip.AddrFrom4([4]byte{100, byte(i >> 16), byte(i >> 8), byte(i)}).String(), with...)
	}
	return ds
}

// What only the kernel knows is kept, with its jails, ports and time.
func TestAdopt(t *testing.T) {
	h := newHost(t)
	lots := make([]uint16, 30)
	for i := range lots {
		lots[i] = uint16(10000 + i)
	}
	bans := []tocsin.Decision{
		ban("192.0.2.1"),
		ban("192.0.2.2", forever),
		ban("192.0.2.3", ports(), rejected),
		ban("192.0.2.4", ports(53), udp),
		ban("192.0.2.6", ports(853), tcpAndUDP),
		ban("192.0.2.5", ports(lots...)),
		ban("192.0.2.5", ports(lots...), jail("web")),
		ban("198.51.100.0/24"),
		ban("2001:db8::1"),
		ban("2001:db8:1::/64", ports(22, 2200)),
		ban("2001:db8::/32", forever),
	}
	h.firewall(bans...).Close()

	f := h.open(h.options())
	now := time.Now()
	adopted, err := f.Restore(bans[:1], nil, now)
	must(t, err)
	text := func(ds []tocsin.Decision) []string {
		var ss []string
		for _, d := range ds {
			left := "-"
			if !d.Until.IsZero() {
				left = d.Until.Sub(now).Round(time.Hour).String()
			}
			ss = append(ss, fmt.Sprintf("%s %s %s %s %s %s %s", d.Jail, d.ID, d.Prefix, tocsin.PortsString(d.Ports), d.Proto, d.Verdict, left))
		}
		slices.Sort(ss)
		return ss
	}
	if got, want := text(adopted), text(bans[1:]); !slices.Equal(got, want) {
		t.Errorf("adopted %q, want %q", got, want)
	}
	for _, d := range adopted {
		if d.Reason != "found in the kernel" {
			t.Errorf("adopted %s with reason %q", d.ID, d.Reason)
		}
	}
	before := elementsByNFT(h, 10)
	again, err := f.Restore(append(adopted, bans[0]), nil, time.Now())
	must(t, err)
	if len(again) != 0 {
		t.Errorf("adopted %q from a store that knows everything", text(again))
	}
	check(t, h, "restored again", before...)
	must(t, f.Unban(adopted...))
	check(t, h, "adopted bans lifted", "ports_22_v4 192.0.2.1 3600")
}

// A prefix that a wanted one covers is known; one that goes beyond it is not.
func TestAdoptPrefixes(t *testing.T) {
	h := newHost(t)
	h.firewall(ban("10.1.0.0/16"), ban("10.2.0.0/16", forever), ban("10.3.0.0/16"))
	f := h.open(h.options())
	adopted, err := f.Restore([]tocsin.Decision{ban("10.0.0.0/14", lasting(time.Minute))}, nil, time.Now())
	must(t, err)
	if len(adopted) != 0 {
		t.Errorf("adopted %v, want nothing", adopted)
	}
	adopted, err = f.Restore([]tocsin.Decision{ban("10.0.0.0/16")}, nil, time.Now())
	must(t, err)
	if len(adopted) != 1 || adopted[0].ID != "10.0.0.0/14" {
		t.Errorf("adopted %v, want 10.0.0.0/14", adopted)
	}
}

// After operations at random the kernel holds what a simple model says.
func TestRandomOperations(t *testing.T) {
	h := newHost(t)
	f := h.firewall()
	rnd := rand.New(rand.NewPCG(1, 2))
	ids := []string{"192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1", "2001:db8:0:1::/64", "10.0.0.0/8", "172.16.0.0/12"}
	scopes := [][]uint16{{22}, {22, 2200}, {}}
	type key struct{ jail, id string }
	model := map[key]tocsin.Decision{}
	for op := range 200 {
		d := ban(ids[rnd.IntN(len(ids))], jail([]string{"a", "b"}[rnd.IntN(2)]), ports(scopes[rnd.IntN(3)]...),
			lasting(time.Duration(1+rnd.IntN(9))*time.Hour))
		switch rnd.IntN(10) {
		case 0, 1, 2:
			must(t, f.Unban(d))
			delete(model, key{d.Jail, d.ID})
		case 3:
			adopted, err := f.Restore(slices.Collect(maps.Values(model)), nil, time.Now())
			must(t, err)
			if len(adopted) != 0 {
				t.Fatalf("operation %d: adopted %v", op, adopted)
			}
		default:
			must(t, f.Ban(d))
			model[key{d.Jail, d.ID}] = d
		}
		if op%4 != 0 {
			continue // listing takes longer than all else
		}
		longest := map[string]time.Time{}
		for _, d := range model {
			at := newGroup(scopeOf(&d)).name + kindOf(d.Prefix).suffix() + " " + strings.TrimSuffix(idOf(d.Prefix), "/64")
			if longest[at].Before(d.Until) {
				longest[at] = d.Until
			}
		}
		var want []string
		for at, until := range longest {
			want = append(want, fmt.Sprintf("%s %d", at, int(time.Until(until).Round(time.Hour).Seconds())))
		}
		slices.Sort(want)
		if got := elementsByNFT(h, 3600); !slices.Equal(got, want) {
			t.Fatalf("operation %d: elements %q, want %q", op, got, want)
		}
	}
}

// One call may move a ban away from a prefix and ban that prefix anew.
func TestMovesWithinOneCall(t *testing.T) {
	h := newHost(t)
	f := h.firewall()
	moved := ban("192.0.2.1")
	must(t, f.Ban(moved))
	moved.Prefix = netip.MustParsePrefix("192.0.2.7/32")
	must(t, f.Ban(moved, ban("192.0.2.1", jail("web"), lasting(20*time.Minute)), moved))
	check(t, h, "moved", "ports_22_v4 192.0.2.1 1200", "ports_22_v4 192.0.2.7 3600")
}

// An element that somebody added by hand gets the ban's time.
func TestBanOverElementOfOthers(t *testing.T) {
	h := newHost(t)
	f := h.firewall(ban("192.0.2.9"))
	h.run("nft", "add element inet tocsin ports_22_v4 { 192.0.2.1 timeout 9s, 192.0.2.2 }")
	must(t, f.Ban(ban("192.0.2.1"), ban("192.0.2.2")))
	check(t, h, "banned", "ports_22_v4 192.0.2.1 3600", "ports_22_v4 192.0.2.2 3600", "ports_22_v4 192.0.2.9 3600")
}

func TestOffUntilRestore(t *testing.T) {
	h := newHost(t)
	f := h.open(h.options())
	off := func(when string) {
		t.Helper()
		for what, err := range map[string]error{"Ban": f.Ban(ban("192.0.2.1")), "Unban": f.Unban(ban("192.0.2.1")), "SetAllow": f.SetAllow(nil)} {
			if !errors.Is(err, ErrOff) {
				t.Errorf("%s: %s answers %v, want ErrOff", when, what, err)
			}
		}
		must(t, f.Sync(time.Now()))
		if got := h.run("nft", "list", "tables"); got != "" {
			t.Errorf("%s: tables %q, want none", when, got)
		}
	}
	off("before Restore")
	_, err := f.Restore(nil, nil, time.Now())
	must(t, err)
	must(t, f.Ban(ban("192.0.2.1")))
	must(t, f.Clear())
	must(t, f.Clear())
	off("after Clear")
}

func TestRemove(t *testing.T) {
	h := newHost(t)
	h.run("nft", "add table inet other")
	h.firewall(ban("192.0.2.1"))
	must(t, Remove(h.options()))
	must(t, Remove(h.options()))
	if got, want := h.run("nft", "list", "tables"), "table inet other\n"; got != want {
		t.Errorf("tables %q, want %q", got, want)
	}
}

// A table that vanished is not brought back by Sync, one that differs is.
func TestSyncRepairs(t *testing.T) {
	h := newHost(t)
	f := h.firewall(ban("192.0.2.1"))
	h.run("nft", "flush chain inet tocsin ports_22; flush chain inet tocsin ports; delete chain inet tocsin ports_22; delete set inet tocsin ports_22_v4")
	if err := f.Ban(ban("192.0.2.2")); !errors.Is(err, syscall.ENOENT) || !strings.Contains(err.Error(), "ports_22_v4") {
		t.Errorf("Ban into a set that is gone: %v, want ENOENT with the set's name", err)
	}
	if got := f.Stats().LastError; !strings.Contains(got, "ports_22_v4") {
		t.Errorf("last error %q while a ban is missing, want the set's name", got)
	}
	must(t, f.Sync(time.Now()))
	check(t, h, "repaired", "ports_22_v4 192.0.2.1 3600", "ports_22_v4 192.0.2.2 3600")
	if got := f.Stats(); got.Errors != 1 || got.LastError != "" {
		t.Errorf("stats %+v after the repair, want one error and none to tell", got)
	}
	h.run("nft", "flush ruleset")
	if err := f.Ban(ban("192.0.2.3")); err == nil {
		t.Error("Ban into a table that is gone: no error")
	}
	if err := f.Sync(time.Now()); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("Sync of a table that is gone: %v, want ENOENT", err)
	}
	if got := f.Stats(); got.Errors != 3 || !strings.Contains(got.LastError, "repair the table") {
		t.Errorf("stats %+v, want 3 errors", got)
	}
}

// When the first Restore fails, Sync makes the table.
func TestSyncAfterFailedRestore(t *testing.T) {
	h := newHost(t)
	f := h.open(h.options())
	h.run("nft", "add table inet tocsin { set ports_22_v4 { type ipv4_addr; }; }")
	good := f.sock
	broken := *good
	broken.fd = -1
	f.sock = &broken
	if _, err := f.Restore([]tocsin.Decision{ban("192.0.2.1")}, nil, time.Now()); err == nil {
		t.Fatal("Restore through a closed socket: no error")
	}
	if err := f.Sync(time.Now()); err == nil {
		t.Fatal("Sync through a closed socket: no error")
	}
	f.sock = good
	must(t, f.Sync(time.Now()))
	check(t, h, "after Sync", "ports_22_v4 192.0.2.1 3600")
}

// What is adopted behind the caller's back is handed over later, once, as far as it holds still.
func TestAdoptAfterFailedRestore(t *testing.T) {
	for _, tt := range []struct {
		name string
		fail func(f *Firewall) // makes restore fail
	}{
		{"the list fails", func(f *Firewall) { f.sock = &socket{fd: -1} }},
		{"the transaction fails", func(f *Firewall) { f.batch = newBatch(strings.Repeat("x", 300)) }},
	} {
		for _, who := range []string{"Sync", "Watch", "Restore"} {
			t.Run(tt.name+", then "+who, func(t *testing.T) {
				h := newHost(t)
				h.firewall(ban("192.0.2.1"), ban("192.0.2.2"), ban("192.0.2.3"), ban("192.0.2.4"), ban("2001:db8::/64")).Close()
				f := h.open(h.options())
				sock, batch := f.sock, f.batch
				tt.fail(f)
				known := []tocsin.Decision{ban("192.0.2.1")}
				if adopted, err := f.Restore(known, nil, time.Now()); err == nil || len(adopted) != 0 {
					t.Fatalf("Restore that fails: adopted %v, error %v", adopted, err)
				}
				f.sock, f.batch = sock, batch
				var adopted []tocsin.Decision
				switch who {
				case "Sync":
					must(t, f.Sync(time.Now()))
				case "Watch":
					watch(t, f, yes)
					eventually(t, 2*time.Second, "the table is made", func() bool { return f.Stats().LastError == "" })
				case "Restore":
					var err error
					adopted, err = f.Restore(known, nil, time.Now())
					must(t, err)
				}
				if who != "Restore" {
					must(t, f.Unban(ban("192.0.2.2")))
					must(t, f.Ban(ban("192.0.2.3", forever)))
					adopted = f.Adopted()
				}
				var got []string
				for _, d := range adopted {
					got = append(got, d.ID)
				}
				slices.Sort(got)
				want := []string{"192.0.2.4", "2001:db8::/64"}
				if who == "Restore" {
					want = []string{"192.0.2.2", "192.0.2.3", "192.0.2.4", "2001:db8::/64"}
				}
				if !slices.Equal(got, want) {
					t.Errorf("adopted %q, want %q", got, want)
				}
				if n := f.Stats().Adopted; n != uint64(len(want)) {
					t.Errorf("%d counted, want %d", n, len(want))
				}
				if again := f.Adopted(); len(again) != 0 {
					t.Errorf("adopted again %v", again)
				}
				must(t, f.Unban(adopted...))
				must(t, f.Unban(ban("192.0.2.3")))
				check(t, h, "adopted bans lifted", "ports_22_v4 192.0.2.1 3600")
			})
		}
	}
}

func TestFull(t *testing.T) {
	w := newWanted()
	now := time.Now()
	for i := range maxBans {
		w.bans[owner{"sshd", fmt.Sprint(i)}] = nil
	}
	d := ban("192.0.2.1")
	if held, before := w.ban(&d, now); held != nil || before != nil || w.refused != 1 {
		t.Errorf("ban number %d: held %v, refused %d", maxBans+1, held, w.refused)
	}
	w.unban(owner{"sshd", "0"})
	delete(w.bans, owner{"sshd", "0"})
	if held, _ := w.ban(&d, now); held == nil {
		t.Errorf("ban number %d refused", maxBans)
	}
}

// Whoever may not change the firewall is told so.
func TestNotAvailable(t *testing.T) {
	h := newHost(t)
	if err := Available(); err != nil {
		t.Skipf("nf_tables cannot be used here: %v", err)
	}
	done := make(chan error, 3)
	go func() {
		runtime.LockOSThread() // the thread without rights ends with this goroutine
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		if err := unix.Capset(&header, &none[0]); err != nil {
			t.Error(err)
		}
		done <- Available()
		_, err := Open(Options{})
		done <- err
		done <- Remove(Options{Table: "tocsin_test"})
	}()
	for _, what := range []string{"Available", "Open", "Remove"} {
		if err := <-done; !errors.Is(err, syscall.EPERM) || !strings.Contains(err.Error(), "CAP_NET_ADMIN") {
			t.Errorf("%s without rights: %v, want EPERM and a hint", what, err)
		}
	}
	if got := h.run("nft", "list", "tables"); got != "" {
		t.Errorf("Available and Open left %q", got)
	}
}

func TestOptions(t *testing.T) {
	long := strings.Repeat("x", maxName+1)
	if _, err := Open(Options{Table: long}); err == nil {
		t.Error("Open with a long table name: no error")
	}
	if err := Remove(Options{Table: long}); err == nil {
		t.Error("Remove with a long table name: no error")
	}
	if _, err := Open(Options{NetNS: 1 << 20}); err == nil {
		t.Error("Open in a namespace that is none: no error")
	}
}

// The kernel that cannot reject before routing drops.
func TestRejectAsDrop(t *testing.T) {
	h := newHost(t)
	f := h.open(h.options())
	f.noReject = true
	_, err := f.Restore([]tocsin.Decision{ban("192.0.2.1", rejected)}, nil, time.Now())
	must(t, err)
	if got := h.run("nft", "list", "chain", "inet", "tocsin", rejectChain); strings.Contains(got, "reject with") || !strings.Contains(got, "drop") {
		t.Errorf("without reject the chain is %s", got)
	}
	if !f.Stats().RejectAsDrop {
		t.Error("Stats().RejectAsDrop is false")
	}
}

// The kernel may reorder a large set while it is listed, above all soon after it was filled; nothing may be missed for it.
func TestAdoptMany(t *testing.T) {
	for range 3 {
		h := newHost(t)
		h.firewall(addresses(20_000)...).Close()
		f := h.open(h.options())
		adopted, err := f.Restore(nil, nil, time.Now())
		must(t, err)
		if len(adopted) != 20_000 {
			t.Errorf("%d adopted, want 20000", len(adopted))
		}
	}
}
