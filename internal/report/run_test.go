package report

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tocsin"
	"tocsin/internal/store"
)

// slow answers after a while, as a network does.
type slow struct {
	*disk
	takes atomic.Int64 // nanoseconds
	sent  atomic.Int64
}

func (s *slow) Reports(context.Context) (tocsin.ReportState, error) { return s.state(), nil }

func (s *slow) Apply(_ context.Context, c tocsin.ReportChange) (bool, error) {
	s.apply(c)
	return false, nil
}

func (s *slow) Send(ctx context.Context, _ Job) Answer {
	select {
	case <-time.After(time.Duration(s.takes.Load())):
		s.sent.Add(1)
		return Answer{Code: 200}
	case <-ctx.Done():
		return Answer{Outcome: Lost}
	}
}

// Run sends what is due by itself, and waits for an answer when the program ends, but not for long.
func TestRun(t *testing.T) {
	for _, tt := range []struct {
		takes time.Duration
		sent  int64
	}{{2 * time.Second, 2}, {20 * time.Second, 1}} {
		synctest.Test(t, func(t *testing.T) {
			s := &slow{disk: newDisk()}
			s.takes.Store(int64(time.Second))
			ctx, cancel := context.WithCancel(t.Context())
			r, err := NewReporter(ctx, options(), s, s, nil)
			if err != nil {
				t.Fatal(err)
			}
			ended := make(chan error)
			go func() { ended <- r.Run(ctx) }()
			if err := r.Take(ctx, []Decision{ban(1, time.Now())}, true); err != nil {
				t.Fatal(err)
			}
			time.Sleep(70 * time.Second)
			if s.sent.Load() != 0 {
				t.Error("sent before the guard was heard")
			}
			r.Take(ctx, []Decision{ban(2, time.Now())}, true)
			time.Sleep(5 * time.Second)
			if n := s.sent.Load(); n != 1 {
				t.Errorf("%d sent, want the first", n)
			}
			s.takes.Store(int64(tt.takes))
			time.Sleep(time.Minute)
			r.Take(ctx, nil, true)
			time.Sleep(time.Second)
			cancel()
			began := time.Now()
			if err := <-ended; err != nil {
				t.Error(err)
			}
			if took := time.Since(began); took > finish {
				t.Errorf("ended after %s", took)
			}
			if st := r.Stats(); st.Sent != tt.sent || s.numbers["sent"] != tt.sent {
				t.Errorf("a call of %s: %d sent, %d kept, want %d", tt.takes, st.Sent, s.numbers["sent"], tt.sent)
			}
			time.Sleep(finish)
		})
	}
}

// Whoever says who is spared may take his time, and look at the reports meanwhile: nobody waits for him but the report.
func TestSpareWithoutTheLock(t *testing.T) {
	for _, bulk := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := &slow{disk: newDisk()}
			o := options()
			var r *Reporter
			var asked int
			o.Spare = func(p netip.Prefix) Why {
				if r != nil {
					r.List(10) // it would wait for the lock for ever
				}
				if asked++; p.Addr() == addr(2) && asked > 4 {
					return Allowed
				}
				time.Sleep(time.Second)
				return Yes
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			rep, err := NewReporter(ctx, o, s, s, nil)
			if err != nil {
				t.Fatal(err)
			}
			r = rep
			if bulk {
				r.q.single.limit, r.q.single.rest, r.q.single.reset, r.q.single.told = 100, time.Now().Add(day), time.Now().Add(day), true
			}
			if err := r.Take(ctx, []Decision{ban(1, time.Now()), ban(2, time.Now())}, true); err != nil {
				t.Fatal(err)
			}
			if asked != 2 {
				t.Errorf("asked %d times when two bans came, want once for each", asked)
			}
			asked = 4
			ended := make(chan error)
			go func() { ended <- r.Run(ctx) }()
			for range 120 {
				time.Sleep(time.Minute)
				if err := r.Take(ctx, nil, true); err != nil {
					t.Fatal(err)
				}
			}
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
			st := r.Stats()
			if s.sent.Load() != 1 || st.Sent != 1 || st.Withdrawn != 1 || st.Queued != 0 || (st.BulkReports == 1) != bulk {
				t.Errorf("bulk %v: %d calls, %+v", bulk, s.sent.Load(), st)
			}
			time.Sleep(finish)
		})
	}
}

// The file is removed under a running reporter: the queue is written into the new one whole.
func TestFileRemoved(t *testing.T) {
	ctx := t.Context()
	path := filepath.Join(t.TempDir(), "watch.db")
	w, err := store.OpenWatch(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := NewReporter(ctx, options(), w, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	if err := r.Take(ctx, []Decision{ban(1, now), ban(2, now), ban(3, now)}, true); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := r.Take(ctx, []Decision{ban(4, now)}, true); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if w, err = store.OpenWatch(path, nil); err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if r, err = NewReporter(ctx, options(), w, nil, nil); err != nil {
		t.Fatal(err)
	}
	if st := r.Stats(); st.Queued != 4 || st.Cursor != 4 || st.Taken != 4 {
		t.Errorf("%+v", st)
	}
	if got := r.List(10); len(got) != 4 || got[0].Comment != "5 ssh login failures in 41 s" {
		t.Errorf("%+v", got)
	}
	if was, err := r.Forget(ctx, addr(2)); !was || err != nil || r.Stats().Queued != 3 {
		t.Errorf("forget: %v, %v, %+v", was, err, r.Stats())
	}
	if why, err := r.Report(ctx, netip.MustParseAddr("10.0.0.1"), []int{18}); why != NotPublic || err != nil {
		t.Errorf("by hand, private: %v, %v", why, err)
	}
	if _, err := r.Report(ctx, addr(9), []int{99}); err == nil {
		t.Error("by hand, with a category that there is not")
	}
	if why, err := r.Report(ctx, addr(9), []int{18}); why != Yes || err != nil || r.Stats().ByHand != 1 {
		t.Errorf("by hand: %v, %v", why, err)
	}
}

// TestRandomDays lets everything go wrong by chance: the network, the server, the quota, unbans, and crashes. Whatever happens,
// the sums are right, and who was not reported is counted as unknown, withdrawn or given up.
func TestRandomDays(t *testing.T) {
	days := 40
	if testing.Short() {
		days = 5
	}
	var unknowns, doubles, crashes int
	for seed := range days {
		r := rand.New(rand.NewPCG(uint64(seed), 1))
		trouble := r.Float64() * 0.4
		m := &machine{t: t, disk: newDisk(), s: &server{t: t, limit: 10 + r.IntN(40)}, now: t0}
		m.s.script = func(now time.Time, _ Job) fault {
			if now.Sub(t0) > 8*time.Hour || r.Float64() > trouble {
				return none
			}
			return []fault{unreachable, broken, lostBefore, lostAfter}[r.IntN(4)]
		}
		m.s.begin()
		events := spread(60, 6*time.Hour)
		banned := map[netip.Addr]bool{}
		for i := range events {
			d := &events[i]
			n := int64(i + 1)
			switch {
			case r.IntN(6) == 0 && i > 0: // somebody again
				*d = ban(1+r.IntN(i), d.At)
				d.Failures = 5 + r.IntN(3)
			case r.IntN(10) == 0 && i > 0:
				d.Prefix, d.Action, d.Origin = events[i-1].Prefix, tocsin.Unban, tocsin.ByOperator
			}
			d.N = n
			if d.Action == tocsin.Ban {
				banned[d.Prefix.Addr()] = true
			}
		}
		end := t0.Add(40 * time.Hour)
		var st Stats
		for {
			m.steps, m.fatal = 0, 0
			if m.now.Sub(t0) < 8*time.Hour && r.IntN(4) > 0 {
				m.fatal = 1 + r.IntN(200)
			}
			var where string
			if where, st = m.live(events, end); where == "" {
				break
			}
			crashes++
			m.now = m.now.Add(time.Duration(r.IntN(1200)) * time.Second)
		}
		in := st.Taken + st.ByHand
		out := int64(st.Queued) + st.Sent + st.Duplicates + st.Refused + st.Unknown + st.GivenUp + st.Withdrawn + st.Same + st.Merged + st.Overflow
		missing := int64(0)
		for a := range banned {
			if len(m.s.accepted[a]) == 0 {
				missing++
			}
		}
		if in != out || st.Queued != 0 || missing > st.Unknown+st.GivenUp+st.Withdrawn {
			t.Errorf("seed %d: %d in, %d out, %d missing: %+v", seed, in, out, missing, st)
		}
		if n := int64(m.s.total()); n > st.Sent+st.Duplicates+st.Unknown {
			t.Errorf("seed %d: the server has %d, we know of %d: %+v", seed, n, st.Sent+st.Duplicates+st.Unknown, st)
		}
		unknowns, doubles = unknowns+int(st.Unknown), doubles+m.s.doubles
		if len(m.disk.queued) != 0 {
			t.Errorf("seed %d: kept %v", seed, fmt.Sprint(maps.Keys(m.disk.queued)))
		}
	}
	t.Logf("%d days, %d crashes, %d unknown, %d doubles dropped by the server", days, crashes, unknowns, doubles)
}
