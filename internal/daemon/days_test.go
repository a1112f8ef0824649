package daemon

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"tocsin/internal/abuseipdb/fake"
	"tocsin/internal/api"
	"tocsin/internal/config"
	"tocsin/internal/list"
)

// These tests let the watch process live through days that go wrong. Time is synctest's: a day passes in a second or two.
// The watch process is the real one, with its files, and speaks HTTP over pipes in memory to the strict service and to a
// guard that does nothing but decide what the script says.

// pipes is a network in memory with one server on it.
type pipes struct {
	conns chan net.Conn
	ended chan struct{}

	mu   sync.Mutex
	down bool
}

func newPipes(h http.Handler) (p *pipes, stop func()) {
	p = &pipes{conns: make(chan net.Conn), ended: make(chan struct{})}
	srv := &http.Server{Handler: h}
	done := make(chan struct{})
	go func() { defer close(done); srv.Serve(p) }()
	return p, func() { srv.Close(); <-done }
}

func (p *pipes) dial(ctx context.Context) (net.Conn, error) {
	p.mu.Lock()
	down := p.down
	p.mu.Unlock()
	if down {
		return nil, unix.ENETUNREACH
	}
	ours, theirs := net.Pipe()
	select {
	case p.conns <- theirs:
		return ours, nil
	case <-p.ended:
	case <-ctx.Done():
	}
	return nil, unix.ECONNREFUSED
}

func (p *pipes) set(down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = down
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.ended:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { close(p.ended); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// scripted is a guard that decides what a script says, and takes every list.
type scripted struct {
	mu        sync.Mutex
	decisions []api.Decision
	news      chan struct{} // closed when there is another decision
	list      *list.Kept    // in force
	begun     time.Time     // since when reports are on
}

func (g *scripted) handler() http.Handler {
	mux := http.NewServeMux()
	tell := func(w http.ResponseWriter, v any) { json.NewEncoder(w).Encode(v) }
	mux.HandleFunc("GET /v1/decisions", func(w http.ResponseWriter, r *http.Request) {
		after, err := strconv.ParseInt(r.URL.Query().Get("after"), 10, 64)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		// A little longer than a guard waits, so that a day has fewer questions.
		tell(w, g.behind(r.Context(), after, 30*time.Second))
	})
	mux.HandleFunc("GET /v1/spared", func(w http.ResponseWriter, r *http.Request) { tell(w, api.Spared{}) })
	mux.HandleFunc("GET /v1/lists", func(w http.ResponseWriter, r *http.Request) {
		g.mu.Lock()
		defer g.mu.Unlock()
		tell(w, api.ListStates{Lists: []api.ListState{g.state()}})
	})
	mux.HandleFunc("PUT /v1/lists/abuseipdb", func(w http.ResponseWriter, r *http.Request) {
		k, err := list.Decode(r.Body)
		if err != nil || len(k.Refused) > 0 {
			http.Error(w, "that is no list", http.StatusBadRequest)
			return
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		g.list = k
		tell(w, g.state())
	})
	return mux
}

func (g *scripted) state() api.ListState {
	s := api.ListState{Name: "abuseipdb"}
	if g.list != nil {
		s.InForce, s.Taken, s.Fetched, s.Delivered = true, api.Time(g.list.Fetched), api.Time(g.list.Fetched), g.list.Set.Len()
	}
	return s
}

func (g *scripted) behind(ctx context.Context, after int64, wait time.Duration) api.Decisions {
	late := time.NewTimer(wait)
	defer late.Stop()
	for {
		g.mu.Lock()
		d := api.Decisions{Newest: int64(len(g.decisions)), Reports: &g.begun, Next: max(after, 0), Decisions: []api.Decision{}}
		if after >= 0 && after < d.Newest {
			d.Decisions, d.Next = slices.Clone(g.decisions[after:]), d.Newest
		}
		news := g.news
		g.mu.Unlock()
		if after < 0 || len(d.Decisions) > 0 {
			return d
		}
		select {
		case <-news:
		case <-late.C:
			return d
		case <-ctx.Done():
			return d
		}
	}
}

func (g *scripted) decide(addr netip.Addr, action string, failures int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now().UTC()
	first := now.Add(-40 * time.Second)
	g.decisions = append(g.decisions, api.Decision{
		N: int64(len(g.decisions) + 1), Jail: "sshd", Prefix: addr.String() + "/32", Addr: addr.String(), Action: action, Origin: "jail",
		At: now, Failures: failures, MaxRetry: 5, First: &first, Last: &now,
	})
	close(g.news)
	g.news = make(chan struct{})
}

func (g *scripted) inForce() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.list == nil {
		return 0
	}
	return g.list.Set.Len()
}

// days is a script that runs.
type days struct {
	t          *testing.T
	begin      time.Time
	guard      *scripted
	local, wan *pipes
	service    *fake.Server
	conf       *config.Config
	stopWatch  func()
	logged     *lockedBuffer
	want       map[netip.Addr]bool // who is to be reported
	again      netip.Addr          // who is banned again and again
}

// at waits until some hours behind the begin.
func (d *days) at(hours float64) {
	time.Sleep(time.Until(d.begin.Add(time.Duration(hours * float64(time.Hour)))))
}

func (d *days) startWatch() {
	d.t.Helper()
	w, leave, err := newWatcher(WatchOptions{
		Config: d.conf, Version: "test", Log: slog.New(slog.NewTextHandler(d.logged, nil)),
		dialGuard: d.local.dial,
		dial:      func(ctx context.Context, _, _ string) (net.Conn, error) { return d.wan.dial(ctx) },
	})
	if err != nil {
		d.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(d.t.Context())
	done := make(chan struct{})
	go func() { defer close(done); w.follow(ctx, nil) }()
	d.stopWatch = func() { cancel(); <-done; leave() }
}

// attack lets the guard decide from now until then: a new address every 13 minutes, each third of which is let off within
// hold, and one address again and again.
func (d *days) attack(until float64) {
	end := d.begin.Add(time.Duration(until * float64(time.Hour)))
	for n := len(d.want) * 2; time.Now().Before(end); n++ {
		a := netip.AddrFrom4([4]byte{45, 1, byte(n >> 8), byte(n)})
		d.guard.decide(a, "ban", 5+n%3)
		d.guard.decide(d.again, "ban", 5+n)
		time.Sleep(20 * time.Second)
		if n%3 == 0 {
			d.guard.decide(a, "unban", 0)
		} else {
			d.want[a] = true
		}
		time.Sleep(13*time.Minute - 20*time.Second)
	}
}

func service(from, n int) (all []fake.Listed) {
	for i := range n {
		all = append(all, fake.Listed{Addr: netip.AddrFrom4([4]byte{31, 0, byte((from + i) >> 8), byte(from + i)}), Country: "FR", Score: 100})
	}
	return all
}

func TestScriptedDays(t *testing.T) {
	const yesterday, today = 1000, 1200 // entries of the service's lists
	fault := func(kind fake.Kind, endpoint string, from, until float64) func(*days) {
		return func(d *days) {
			at := func(h float64) time.Time { return d.begin.Add(time.Duration(h * float64(time.Hour))) }
			d.service.Inject(fake.Fault{Kind: kind, Endpoint: endpoint, From: at(from), Until: at(until)})
		}
	}
	// Each begins at midnight; the machine's turn is at 03:30; today's list is there at 01:00; attacks last until 30:00.
	tests := []struct {
		name   string
		off    time.Duration // the service's clock less ours
		news   int           // entries of today's list
		list   int           // in force at 20:00
		happen func(*days)
	}{
		{"quota used up at noon", 0, today, today, func(d *days) {
			d.at(12)
			for _, e := range []string{fake.ReportOne, fake.BulkReport, fake.Blacklist} {
				d.service.UseUp("us", e)
			}
		}},
		{"500 for six hours", 0, today, today, fault(fake.Error500, "", 3, 9)},
		{"done, and no answer", 0, today, today, func(d *days) {
			for i, kind := range []fake.Kind{fake.CutAfter, fake.CutHalf, fake.ErrorAfter, fake.CutAfter, fake.CutBefore} {
				d.at(9 + float64(i))
				d.service.Inject(fake.Fault{Kind: kind, Endpoint: fake.ReportOne, Times: 1})
			}
		}},
		{"429 of both kinds", 0, today, today, func(d *days) {
			fault(fake.Busy, "", 3, 5)(d)
			d.at(7)
			d.service.UseUp("us", fake.ReportOne) // others go in bulk
		}},
		{"half a list overnight", 0, yesterday/2 - 1, yesterday, nil},
		{"a page in place of the list", 0, today, today, fault(fake.PageHTML, fake.Blacklist, 3, 6)},
		{"a list that breaks off", 0, today, yesterday, fault(fake.CutHalf, fake.Blacklist, 3, 48)},
		{"our clock an hour behind", time.Hour, today, today, nil},
		{"our clock an hour ahead", -time.Hour, today, today, nil},
		{"no network at boot", 0, today, today, func(d *days) {
			d.at(2)
			d.stopWatch()
			d.wan.set(true)
			d.startWatch()
			d.at(6)
			if got := d.guard.inForce(); got != yesterday {
				d.t.Errorf("without a network %d entries are in force, want %d", got, yesterday)
			}
			d.wan.set(false)
		}},
		{"the guard is away for an hour", 0, today, today, func(d *days) {
			d.at(8)
			d.local.set(true)
			d.at(9)
			d.local.set(false)
		}},
		{"started anew every hour", 0, today, today, func(d *days) {
			for h := 1.0; h < 30; h++ {
				d.at(h + 0.01)
				d.stopWatch()
				d.startWatch()
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			state := t.TempDir()
			if _, err := StoreKey(state, canaryKey); err != nil {
				t.Fatal(err)
			}
			conf, err := config.Parse("test", []byte("state = \""+state+"\"\n[[list]]\nname = \"abuseipdb\"\nurl = \"abuseipdb:\"\nat = \"03:30\"\n[report]\nenabled = true\nurl = \"http://127.0.0.1:1/api/v2/\"\n[watch]\nenabled = false\n"))
			if err != nil {
				t.Fatal(err)
			}
			synctest.Test(t, func(t *testing.T) {
				d := &days{
					t: t, begin: time.Now(), guard: &scripted{news: make(chan struct{}), begun: time.Now()}, conf: conf, logged: &lockedBuffer{},
					want: map[netip.Addr]bool{}, again: netip.MustParseAddr("45.9.9.9"),
				}
				d.service = fake.New(fake.Options{
					Now: func() time.Time { return time.Now().Add(tt.off) }, List: service(0, yesterday),
					Accounts: []fake.Account{{Name: "us", Key: canaryKey, Plan: fake.FreePlan()}},
				})
				var stop [2]func()
				d.local, stop[0] = newPipes(d.guard.handler())
				d.wan, stop[1] = newPipes(d.service)
				d.startWatch()
				d.live(tt.news, tt.list, tt.happen)
				d.stopWatch()
				stop[0]()
				stop[1]()
				d.judge()
			})
		})
	}
}

// live plays the script.
func (d *days) live(news, list int, happen func(*days)) {
	var all sync.WaitGroup
	all.Go(func() {
		d.at(0.1)
		d.attack(30)
	})
	all.Go(func() {
		d.at(1)
		d.service.SetList(service(500, news))
	})
	all.Go(func() {
		d.at(20)
		if got := d.guard.inForce(); got != list {
			d.t.Errorf("at 20:00 %d entries are in force, want %d", got, list)
		}
	})
	if happen != nil {
		all.Go(func() { happen(d) })
	}
	all.Wait()
	d.at(36) // the new day of quotas began at 29:00
}

// judge says what came to the service that should not, and what did not that should.
func (d *days) judge() {
	t := d.t
	last := map[netip.Addr]time.Time{}
	for _, r := range d.service.Reports() {
		before, again := last[r.Addr]
		switch {
		case again && r.Received.Sub(before) < fake.Window:
			t.Errorf("%s was reported twice within %s", r.Addr, r.Received.Sub(before))
		case again && r.Addr != d.again:
			t.Errorf("%s was reported twice", r.Addr)
		case r.Addr != d.again && !d.want[r.Addr]:
			t.Errorf("%s was reported", r.Addr)
		}
		last[r.Addr] = r.Received
		if age := r.Received.Sub(r.At); age < -time.Minute {
			t.Errorf("%s was reported for a time that comes in %s", r.Addr, -age)
		}
	}
	lost := 0
	for a := range d.want {
		if last[a].IsZero() {
			lost++
		}
	}
	if lost > 0 || last[d.again].IsZero() {
		t.Errorf("%d of %d bans were not reported", lost, len(d.want))
	}
	for _, v := range d.service.Violations() {
		t.Errorf("the service was not asked as it should be: %+v", v)
	}
	if strings.Contains(d.logged.String(), canaryKey) {
		t.Error("the watch process logged the key")
	}
	bulk, answers := 0, map[int]int{}
	for _, r := range d.service.Reports() {
		if r.Bulk {
			bulk++
		}
	}
	for _, q := range d.service.Requests() {
		answers[q.Status]++
	}
	t.Logf("%d bans to report, %d reports, %d of them in bulk; answers by their status: %v", len(d.want), len(d.service.Reports()), bulk, answers)
	if t.Failed() {
		t.Logf("the watch process said:\n%s", d.logged)
	}
}
