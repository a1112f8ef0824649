package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tocsin"
	"tocsin/internal/api"
	"tocsin/internal/config"
	"tocsin/internal/firewall"
	"tocsin/internal/jail"
	"tocsin/internal/store"
)

// decider is a guard without readers and sockets: failures come from the test. Its store is real, its firewall remembers.
type decider struct {
	*Guard
	t    *testing.T
	said *lockedBuffer
	at   time.Time // of the next failure
}

// testCell is a jail of fail2ban's kind.
func testCell(t *testing.T, o jail.Options) *cell {
	t.Helper()
	if o.MaxRetry == 0 {
		o.MaxRetry = 3
	}
	o.FindTime, o.IPv6Prefix, o.KnownFactor = 10*time.Minute, 128, 1
	if o.BanTime == 0 {
		o.BanTime = time.Hour
	}
	j, err := jail.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return &cell{conf: &config.Jail{Name: o.Name}, options: o, jail: j, acts: true}
}

func newDecider(t *testing.T, cells ...*cell) *decider {
	t.Helper()
	said := &lockedBuffer{}
	log := slog.New(slog.NewTextHandler(said, nil))
	ctx, cancel := context.WithCancel(context.Background())
	d := &decider{t: t, said: said, at: time.Now().Add(-5 * time.Minute).Truncate(time.Second),
		Guard: newGuard(ctx, Options{Config: &config.Config{State: t.TempDir()}, Log: log})}
	d.set, d.shield, d.wall = &set{conf: d.o.Config, cells: cells}, &shield{}, firewall.NewDry()
	d.shield.index()
	var err error
	if d.store, err = store.Open(filepath.Join(d.state, storeName), store.Options{Log: log}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.wall.Restore(nil, nil, time.Now()); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	go func() { defer close(d.ended); d.decideUntil(stop) }()
	t.Cleanup(func() {
		cancel()
		close(stop)
		<-d.ended
		d.asks.wg.Wait()
		if err := d.store.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("the guard said:\n%s", said)
		}
	})
	return d
}

// in runs f in the decider, after everything that was sent before.
func (d *decider) in(f func()) {
	d.t.Helper()
	if err := d.do(context.Background(), func() { d.takeQueued(); f() }); err != nil {
		d.t.Fatal(err)
	}
}

// fail sends n failures of an id, a second apart.
func (d *decider) fail(c *cell, id string, n int) {
	d.t.Helper()
	for range n {
		f := &tocsin.Failure{Filter: "test", ID: id, At: d.at, Line: tocsin.Line{
			Source: "file:test.log", Pos: tocsin.Position{File: 1, Offset: d.at.Unix()}, At: d.at, Text: "failure of " + id}}
		if a, err := netip.ParseAddr(id); err == nil {
			f.Prefix = netip.PrefixFrom(a, a.BitLen())
		}
		d.events <- event{cell: c, failure: f}
		d.at = d.at.Add(time.Second)
	}
}

// host sends n failures of a host name.
func (d *decider) host(c *cell, name string, n int) {
	d.t.Helper()
	for range n {
		d.events <- event{cell: c, failure: &tocsin.Failure{Filter: "test", ID: name, Host: true, At: d.at, Line: tocsin.Line{
			Source: "file:test.log", Pos: tocsin.Position{File: 1, Offset: d.at.Unix()}, At: d.at, Text: "failure of " + name}}}
		d.at = d.at.Add(time.Second)
	}
}

// bansNow lists who is banned, as "jail id".
func (d *decider) bansNow() string {
	var all []string
	d.in(func() {
		for k := range d.active {
			all = append(all, k.jail+" "+k.id)
		}
	})
	slices.Sort(all)
	return strings.Join(all, ", ")
}

func (d *decider) wantBans(want string) {
	d.t.Helper()
	if got := d.bansNow(); got != want {
		d.t.Errorf("banned are %q, want %q", got, want)
	}
}

// until waits for what other goroutines do.
func (d *decider) until(what string, f func() bool) {
	d.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		var ok bool
		if d.in(func() { ok = f() }); ok {
			return
		}
		if time.Now().After(deadline) {
			d.t.Fatalf("waited in vain: %s", what)
		}
	}
}

// An id that is no address is banned where a jail has actions, and lifted by its text.
func TestBanOfNoAddress(t *testing.T) {
	acts, plain := testCell(t, jail.Options{Name: "acts"}), testCell(t, jail.Options{Name: "plain"})
	plain.acts = false
	d := newDecider(t, acts, plain)
	d.fail(acts, "mallory", 3)
	d.fail(plain, "mallory", 3)
	d.fail(acts, "alice", 2)
	d.wantBans("acts mallory")
	if plain.tally.badIDs != 3 || acts.tally.badIDs != 0 {
		t.Errorf("%d and %d bad ids, want 3 and 0", plain.tally.badIDs, acts.tally.badIDs)
	}
	if err := d.store.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	stored, err := d.store.Active(time.Now())
	if err != nil || len(stored) != 1 || stored[0].ID != "mallory" || stored[0].Prefix.IsValid() {
		t.Errorf("stored are %+v, %v", stored, err)
	}
	for id, want := range map[string]string{"mallory": "1 bans, 0 standings", "alice": "0 bans, 1 standings", "nobody": "0 bans, 0 standings"} {
		w, err := d.whyID(context.Background(), id)
		if got := fmt.Sprintf("%d bans, %d standings", len(w.Bans), len(w.Standing)); err != nil || got != want || w.Banned != (len(w.Bans) > 0) {
			t.Errorf("why %s: %s, %v, want %s", id, got, err, want)
		}
	}
	for _, tt := range []struct{ id, want string }{
		{"mallory", "mallory is no longer banned"},
		{"mallory", "error"},
		{"alice", "alice was not banned; its 2 failures are forgotten"},
		{"nobody", "error"},
	} {
		got := "error"
		if c, err := d.unban(context.Background(), api.UnbanRequest{Prefix: tt.id}); err == nil {
			got = c.Text
		}
		if got != tt.want {
			t.Errorf("unban %s: %q, want %q", tt.id, got, tt.want)
		}
	}
	d.wantBans("")
	for _, r := range []api.BanRequest{{Prefix: "eve", Jail: "acts", Seconds: 60}, {Prefix: "eve", Jail: "plain"}, {Prefix: "eve"}, {Prefix: "e\nve", Jail: "acts"}, {Prefix: "eve", Jail: "none"}} {
		if _, err := d.ban(context.Background(), r); (err == nil) != (r.Jail == "acts" && r.Prefix == "eve") {
			t.Errorf("ban %+v: %v", r, err)
		}
	}
	d.wantBans("acts eve")
	if _, err := d.unban(context.Background(), api.UnbanRequest{All: true}); err != nil {
		t.Fatal(err)
	}
	d.wantBans("")
	d.at = time.Now() // what was logged before the lifting counts no more
	d.fail(acts, "mallory", 3)
	d.wantBans("acts mallory")
}

// An id comes from a log: it must hurt neither a terminal nor whoever pastes a command, nor fill the memory.
func TestHostileID(t *testing.T) {
	c := testCell(t, jail.Options{Name: "acts"})
	d := newDecider(t, c)
	for _, id := range []string{"\x1b]0;x\x07", "$(reboot)", "-all", strings.Repeat("x", maxID+1)} {
		d.fail(c, id, 3)
	}
	d.wantBans(`acts $(reboot), acts -all, acts \x1b]0;x\a`)
	for id, undo := range map[string]bool{"$(reboot)": false, "-all": false, `\x1b]0;x\a`: false} {
		got, err := d.unban(context.Background(), api.UnbanRequest{Prefix: id})
		if err != nil || got.Undo != "" != undo || tocsin.Printable(got.Text) != got.Text {
			t.Errorf("unban %s: %+v, %v", id, got, err)
		}
	}
	if c.tally.badIDs != 3 {
		t.Errorf("%d bad ids, want the 3 that are too long", c.tally.badIDs)
	}
}

// With bantime.overalljails other jails' bans make a jail's next one longer, also after a restart.
func TestOverall(t *testing.T) {
	times := []time.Duration{time.Hour, 2 * time.Hour, 3 * time.Hour}
	o := jail.Options{BanTimes: times, BanMemory: 24 * time.Hour, Overall: true}
	cellOf := func(name string) *cell { o.Name = name; return testCell(t, o) }
	a, b := cellOf("a"), cellOf("b")
	d := newDecider(t, a, b)
	lasts := func(jail string) (dur time.Duration) {
		d.in(func() { k := d.active[banKey{jail, "192.0.2.1"}]; dur = k.until.Sub(k.at) })
		return dur
	}
	d.fail(a, "192.0.2.1", 3)
	d.fail(b, "192.0.2.1", 3)
	if lasts("a") != times[0] || lasts("b") != times[1] {
		t.Errorf("bans last %v and %v, want %v and %v", lasts("a"), lasts("b"), times[0], times[1])
	}
	if err := d.store.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	c := cellOf("c")
	c.rebuilding = true
	d.teachElsewhere(&set{cells: []*cell{a, b, c}}, time.Now())
	d.in(func() { d.set.cells = append(d.set.cells, c) })
	d.fail(c, "192.0.2.1", 3)
	if lasts("c") != times[2] {
		t.Errorf("the ban of a jail that was taught lasts %v, want %v", lasts("c"), times[2])
	}
}

// A network that a line blames is not banned for the sake of somebody in it.
func TestNetworkOfAFriend(t *testing.T) {
	c := testCell(t, jail.Options{Name: "nets"})
	d := newDecider(t, c)
	c.allow.add(netip.MustParsePrefix("192.0.2.77/32"), "a friend")
	for _, net := range []string{"192.0.2.0/24", "198.51.100.0/24"} {
		for range 3 {
			d.at = d.at.Add(time.Second)
			d.events <- event{cell: c, failure: &tocsin.Failure{ID: net, Prefix: netip.MustParsePrefix(net), At: d.at}}
		}
	}
	d.wantBans("nets 198.51.100.0/24")
	if c.tally.spared != 3 {
		t.Error(fmt.Sprint(c.tally))
	}
}
