package probe

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tocsin/internal/munin"
)

// scripted is a probe that does what it is told at each reading.
type scripted struct {
	interval, timeout time.Duration
	root              bool
	made              atomic.Int64
	open              func(n int) error                      // the nth New
	read              func(ctx context.Context, n int) error // the nth Read
	reads             atomic.Int64
	at                []time.Duration // of each Read, since the beginning; written by one goroutine at a time
}

func (s *scripted) probe(name string, start time.Time) Probe {
	return Probe{Name: name, Interval: s.interval, Timeout: s.timeout, Root: s.root, New: func(*Host) (Reader, error) {
		n := int(s.made.Add(1))
		if s.open != nil {
			if err := s.open(n); err != nil {
				return nil, err
			}
		}
		return readerFunc(func(ctx context.Context) ([]Reading, error) {
			n := int(s.reads.Add(1))
			s.at = append(s.at, time.Since(start))
			if s.read != nil {
				if err := s.read(ctx, n); err != nil {
					return nil, err
				}
			}
			return []Reading{{Service: &munin.Service{Name: name}}}, nil
		}), nil
	}}
}

type readerFunc func(context.Context) ([]Reading, error)

func (f readerFunc) Read(ctx context.Context) ([]Reading, error) { return f(ctx) }

// run runs probes for so long, in a bubble, and returns how they did and how often each service was delivered.
func run(t *testing.T, long time.Duration, o SetOptions, probes map[string]*scripted) (map[string]State, map[string]int) {
	t.Helper()
	start := time.Now()
	for _, name := range slices.Sorted(keys(probes)) {
		o.Probes = append(o.Probes, probes[name].probe(name, start))
	}
	delivered := map[string]int{}
	o.Host = &Host{Now: time.Now, Boot: func() time.Duration { return time.Since(start) }}
	o.Deliver = func(rs []Reading) {
		for _, r := range rs {
			delivered[r.Service.Name]++
		}
	}
	set, err := NewSet(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	set.Run(ctx)
	states := map[string]State{}
	for _, s := range set.States() {
		states[s.Name] = s
	}
	return states, delivered
}

func keys(m map[string]*scripted) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func TestSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		quick, slow := &scripted{}, &scripted{interval: time.Hour}
		states, delivered := run(t, 3*time.Hour, SetOptions{}, map[string]*scripted{"quick": quick, "slow": slow})
		if n := delivered["quick"]; n < 1080 || n > 1081 {
			t.Errorf("a probe of 10 s was read %d times in three hours, want 1080 or 1081", n)
		}
		if n := delivered["slow"]; n < 3 || n > 4 {
			t.Errorf("a probe of 1 h was read %d times in three hours, want 3 or 4", n)
		}
		if slow.at[0] > soon {
			t.Errorf("the hourly probe was first read after %v, want within %v", slow.at[0], soon)
		}
		for i := 2; i < len(quick.at); i++ {
			if gap := quick.at[i] - quick.at[i-1]; gap != 10*time.Second {
				t.Fatalf("readings %d and %d are %v apart, want 10s", i-1, i, gap)
			}
		}
		if s := states["quick"]; !s.On || s.Why != "" || s.Failures != 0 || s.Late != 0 || !slices.Equal(s.Services, []string{"quick"}) || s.Last.IsZero() {
			t.Errorf("quick is %+v, want on, without failures", s)
		}
	})
}

func TestOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		none := &scripted{open: func(int) error { return &Off{Why: "no nginx listens here"} }}
		comes := &scripted{open: func(n int) error {
			if n < 3 {
				return &Off{Why: "not yet"}
			}
			return nil
		}}
		goes := &scripted{read: func(_ context.Context, n int) error {
			if n == 5 {
				return &Off{Why: "gone"}
			}
			return nil
		}}
		states, delivered := run(t, time.Hour, SetOptions{}, map[string]*scripted{"none": none, "comes": comes, "goes": goes})
		if n := none.made.Load(); n < 11 || n > 13 {
			t.Errorf("a probe that is off was looked at %d times in an hour, want every five minutes", n)
		}
		if s := states["none"]; s.On || s.Why != "no nginx listens here" || s.Failures != 0 {
			t.Errorf("none is %+v, want off with its reason, which is no failure", s)
		}
		if s := states["comes"]; !s.On || s.Why != "" || delivered["comes"] < 290 || delivered["comes"] > 301 {
			t.Errorf("comes is %+v with %d readings, want on after ten minutes", s, delivered["comes"])
		}
		if s := states["goes"]; !s.On || goes.made.Load() != 2 || delivered["goes"] < 320 || delivered["goes"] > 335 {
			t.Errorf("goes is %+v, made %d times, with %d readings; want it made anew after five minutes", s, goes.made.Load(), delivered["goes"])
		}
	})
}

func TestFailuresBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad := &scripted{read: func(context.Context, int) error { return errors.New("refused") }}
		heals := &scripted{read: func(_ context.Context, n int) error {
			if n <= 3 {
				return errors.New("refused")
			}
			return nil
		}}
		states, _ := run(t, 2*time.Hour, SetOptions{}, map[string]*scripted{"bad": bad, "heals": heals})
		var gaps []time.Duration
		for i := 1; i < len(bad.at); i++ {
			gaps = append(gaps, bad.at[i]-bad.at[i-1])
		}
		for i, want := range []time.Duration{20 * time.Second, 40 * time.Second, 80 * time.Second, 160 * time.Second, 320 * time.Second, 10 * time.Minute, 10 * time.Minute} {
			if d := gaps[i] - want; d < -10*time.Second || d > 10*time.Second {
				t.Errorf("gap %d is %v, want about %v (all: %v)", i, gaps[i], want, gaps)
			}
		}
		if s := states["bad"]; s.On || s.Why != "refused" || s.Failures != uint64(len(bad.at)) || s.FailedAt.IsZero() {
			t.Errorf("bad is %+v, want each of %d readings failed", s, len(bad.at))
		}
		if s := states["heals"]; !s.On || s.Why != "" || s.Failures != 3 || s.InARow != 0 || !s.FailedAt.IsZero() {
			t.Errorf("heals is %+v, want on with three failures behind it", s)
		}
	})
}

func TestHangingNeverRunsTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var now, most atomic.Int64
		free := make(chan struct{})
		hangs := &scripted{read: func(_ context.Context, n int) error { // it does not look at its context
			most.Store(max(most.Load(), now.Add(1)))
			defer now.Add(-1)
			if n == 2 {
				<-free
			}
			return nil
		}}
		obeys := &scripted{timeout: 3 * time.Second, read: func(ctx context.Context, n int) error {
			if n == 2 {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}}
		other := &scripted{}
		time.AfterFunc(5*time.Minute, func() { close(free) })
		states, delivered := run(t, 10*time.Minute, SetOptions{}, map[string]*scripted{"hangs": hangs, "obeys": obeys, "other": other})
		if most.Load() != 1 {
			t.Errorf("%d readings of one probe at a time", most.Load())
		}
		if s := states["hangs"]; s.Late < 27 || s.Late > 30 || !s.On || s.Longest < 4*time.Minute {
			t.Errorf("hangs is %+v, want about 29 turns passed over", s)
		}
		if s := states["obeys"]; s.Failures != 1 || s.Longest != 3*time.Second {
			t.Errorf("obeys is %+v, want one failure after its timeout", s)
		}
		if delivered["other"] < 60 {
			t.Errorf("the others were read %d times, want every ten seconds", delivered["other"])
		}
	})
}

func TestEndsBesideAHangingProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		free := make(chan struct{})
		hangs := &scripted{read: func(context.Context, int) error { <-free; return nil }}
		begin := time.Now()
		states, _ := run(t, time.Minute, SetOptions{}, map[string]*scripted{"hangs": hangs})
		if took := time.Since(begin); took != time.Minute+grace {
			t.Errorf("ended after %v, want %v", took, time.Minute+grace)
		}
		if s := states["hangs"]; s.Busy.IsZero() {
			t.Errorf("hangs is %+v, want it to say since when it is being read", s)
		}
		close(free)
	})
}

func TestPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mad := &scripted{read: func(context.Context, int) error { panic("index out of range") }}
		other := &scripted{}
		states, delivered := run(t, 20*time.Minute, SetOptions{}, map[string]*scripted{"mad": mad, "other": other})
		if s := states["mad"]; s.On || !strings.Contains(s.Why, "index out of range") || mad.reads.Load() > 5 {
			t.Errorf("mad is %+v after %d readings, want off", s, mad.reads.Load())
		}
		if delivered["other"] < 120 {
			t.Errorf("the others were read %d times", delivered["other"])
		}
	})
}

func TestRootIsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		o := SetOptions{Root: func(_ context.Context, name string) ([]Reading, time.Duration, error) {
			asked++
			if asked > 3 {
				return nil, 0, &Off{Why: "no queue of postfix"}
			}
			return []Reading{{Service: &munin.Service{Name: "from-the-runner"}}}, time.Second, nil
		}}
		p := &scripted{root: true, interval: time.Minute}
		states, delivered := run(t, 4*time.Minute, o, map[string]*scripted{"postfix": p})
		if p.made.Load() != 0 || delivered["from-the-runner"] != 3 {
			t.Errorf("made %d times here, delivered %v; want all from the runner", p.made.Load(), delivered)
		}
		if s := states["postfix"]; s.On || s.Why != "no queue of postfix" || !s.Root {
			t.Errorf("postfix is %+v, want off", s)
		} else if s.CPU < 3*time.Second/4 || s.CPU > time.Second { // three of four readings took a second of the runner's
			t.Errorf("a reading of postfix costs %s", s.CPU)
		}
	})
}

func TestReadingsAreStamped(t *testing.T) {
	boot := 90 * time.Second
	at := time.Unix(1700000000, 0)
	h := &Host{Now: func() time.Time { return at }, Boot: func() time.Duration { return boot }}
	own := at.Add(-time.Second)
	d := held{h: h, p: &Probe{New: func(*Host) (Reader, error) {
		return readerFunc(func(context.Context) ([]Reading, error) {
			return []Reading{{Service: &munin.Service{Name: "a"}}, {Service: &munin.Service{Name: "b"}, At: own}}, nil
		}), nil
	}}}
	rs, err := d.read(t.Context())
	if err != nil || !rs[0].At.Equal(at) || rs[0].Since != boot || !rs[1].At.Equal(own) || rs[1].Since != 0 {
		t.Errorf("read %+v, %v; want the first stamped and the second as it was", rs, err)
	}
}

func TestNewSetRefuses(t *testing.T) {
	h, deliver := &Host{}, func([]Reading) {}
	for _, o := range []SetOptions{{Deliver: deliver}, {Host: h}, {Host: &Host{Interval: time.Millisecond}, Deliver: deliver}, {Host: &Host{Interval: 2 * time.Hour}, Deliver: deliver}} {
		if _, err := NewSet(o); err == nil {
			t.Errorf("NewSet(%+v) took it", o)
		}
	}
}

func TestTableIsWhole(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range Probes() {
		if p.Name == "" || p.New == nil || seen[p.Name] || p.Name != fieldName(p.Name) {
			t.Errorf("probe %q has no name of its own, no New, or a name that is no word", p.Name)
		}
		seen[p.Name] = true
	}
}
