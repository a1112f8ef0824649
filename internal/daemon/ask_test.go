package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"tocsin"
	"tocsin/internal/api"
	"tocsin/internal/jail"
)

// oracle answers for an ignorecommand: it ignores 192.0.2.*, fails for 198.51.100.*, and notes who was asked about.
type oracle struct {
	mu    sync.Mutex
	asked []string
	hold  <-chan struct{}
}

func (o *oracle) ask(ctx context.Context, jail string, d *tocsin.Decision) (bool, error) {
	o.mu.Lock()
	o.asked = append(o.asked, d.ID)
	o.mu.Unlock()
	select {
	case <-o.hold:
	case <-ctx.Done():
		return false, ctx.Err()
	}
	if strings.HasPrefix(d.ID, "198.51.100.") {
		return true, errors.New("killed after 60 s")
	}
	return strings.HasPrefix(d.ID, "192.0.2."), nil
}

func (o *oracle) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.asked)
}

func askingCell(t *testing.T, cache string) *cell {
	t.Helper()
	c := testCell(t, jail.Options{Name: "ask"})
	var err error
	if c.asks, err = newIgnoreCommand(cache); err != nil {
		t.Fatal(err)
	}
	return c
}

func (d *decider) allAnswered() bool { return len(d.asks.waiting) == 0 }

func TestIgnoreCommand(t *testing.T) {
	c := askingCell(t, "")
	d := newDecider(t, c)
	o := &oracle{hold: open()}
	d.ask = o.ask
	d.fail(c, "192.0.2.1", 3)
	d.fail(c, "198.51.100.1", 3)
	d.fail(c, "203.0.113.1", 3)
	d.fail(c, "mallory", 3)
	d.until("all are answered", d.allAnswered)
	d.wantBans("ask 198.51.100.1, ask 203.0.113.1, ask mallory")
	for _, want := range []string{"ignored by command", "banning without the answer of ignorecommand", "killed after 60 s"} {
		if !strings.Contains(d.said.String(), want) {
			t.Errorf("nothing says %q", want)
		}
	}
	if c.tally.spared != 1 || c.tally.bans != 3 {
		t.Errorf("%d spared, %d banned, want 1 and 3", c.tally.spared, c.tally.bans)
	}
	d.fail(c, "192.0.2.1", 3) // counted anew, and asked about again
	d.until("all are answered", d.allAnswered)
	if n := o.count(); n != 5 {
		t.Errorf("asked %d times, want 5: %q", n, o.asked)
	}
}

func TestIgnoreCache(t *testing.T) {
	c := askingCell(t, `key="<ip>", max-count=2, max-time=1h`)
	d := newDecider(t, c)
	o := &oracle{hold: open()}
	d.ask = o.ask
	for _, id := range []string{"192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.1", "192.0.2.3", "192.0.2.1"} {
		d.fail(c, id, 3)
		d.until("all are answered", d.allAnswered)
	}
	d.wantBans("")
	if got, want := strings.Join(o.asked, " "), "192.0.2.1 192.0.2.2 192.0.2.3 192.0.2.1"; got != want {
		t.Errorf("asked about %q, want %q: two answers are remembered", got, want)
	}
}

func TestReadIgnoreCache(t *testing.T) {
	d := &tocsin.Decision{ID: "192.0.2.1", Prefix: netip.MustParsePrefix("192.0.2.1/32"), Fields: []tocsin.Field{{Name: "user", Value: "bob"}}}
	tests := []struct{ cache, want string }{
		{``, `"" 100 5m0s`},
		{`key="<ip>"`, `"192.0.2.1" 100 5m0s`},
		{`key="<F-USER>@<ip><br>", max-count=10, max-time="1h 30m"`, `"bob@192.0.2.1<br>" 10 1h30m0s`},
		{`key="<F-METHOD>-<", max-count=1000000`, `"-<" 10000 5m0s`},
		{`max-count=3`, "error"},
		{`key=x, max-count=0`, "error"},
		{`key=x, max-time=never`, "error"},
		{`key`, "error"},
	}
	for _, tt := range tests {
		got := "error"
		if c, err := newIgnoreCommand(tt.cache); err == nil {
			got = fmt.Sprintf("%q %d %v", c.keyOf(d), c.most, c.keep)
		} else if c == nil || c.key != "" {
			t.Errorf("%s: no command to ask after %v", tt.cache, err)
		}
		if got != tt.want {
			t.Errorf("ignorecache = %s: %s, want %s", tt.cache, got, tt.want)
		}
	}
}

// Whoever is unbanned or allowed while the answer is waited for stays free; nobody else waits.
func TestIgnoreCommandWaits(t *testing.T) {
	c, other := askingCell(t, ""), testCell(t, jail.Options{Name: "other"})
	d := newDecider(t, c, other)
	hold := make(chan struct{})
	o := &oracle{hold: hold}
	d.ask = o.ask
	d.fail(c, "203.0.113.1", 3)
	d.fail(c, "203.0.113.2", 3)
	d.fail(c, "203.0.113.3", 3)
	d.fail(other, "203.0.113.1", 3)
	d.wantBans("other 203.0.113.1")
	d.until("all are asked about", func() bool { return o.count() == 3 })
	if _, err := d.unban(context.Background(), api.UnbanRequest{Prefix: "203.0.113.1", Jail: "ask"}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.ignore(context.Background(), api.AllowRequest{Prefix: "203.0.113.2", Jail: "ask"}); err != nil {
		t.Fatal(err)
	}
	close(hold)
	d.until("all are answered", d.allAnswered)
	d.wantBans("ask 203.0.113.3, other 203.0.113.1")
}

// Nobody is spared because the runner is away, or because very many wait.
func TestIgnoreCommandUnasked(t *testing.T) {
	c := askingCell(t, "")
	d := newDecider(t, c)
	d.fail(c, "192.0.2.1", 3)
	d.wantBans("ask 192.0.2.1")
	if !strings.Contains(d.said.String(), "nobody is there to run it") {
		t.Error("nobody was told")
	}
	hold := make(chan struct{})
	d.in(func() { d.ask = (&oracle{hold: hold}).ask })
	for i := range maxAsked + 1 {
		d.at = time.Now()
		d.fail(c, fmt.Sprintf("2001:db8::%x", i), 3)
	}
	d.wantBans(fmt.Sprintf("ask 192.0.2.1, ask 2001:db8::%x", maxAsked))
	close(hold)
	d.until("all are answered", d.allAnswered)
	d.in(func() {
		if len(d.active) != maxAsked+2 {
			t.Errorf("%d are banned, want %d", len(d.active), maxAsked+2)
		}
	})
}
