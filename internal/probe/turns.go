package probe

import (
	"context"
	"hash/fnv"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Times of the schedule.
const (
	lookAgain  = 5 * time.Minute  // until one that is off is looked at again
	longestGap = 10 * time.Minute // between two tries of what fails
	soon       = 10 * time.Second // within which everything is read for the first time
	grace      = 5 * time.Second  // that a reading has to end when the program does
)

// turns takes one thing over and over: at multiples of its interval plus a phase of its own, never twice at a time, more seldom
// while it fails.
type turns struct {
	name     string
	interval time.Duration
	timeout  time.Duration
	take     func(ctx context.Context) ([]Reading, error)
	// elsewhere says that the work is done by another process or machine, and our own processor time does not count.
	elsewhere bool
	spent     atomic.Int64         // nanoseconds of processor time of other processes, of the reading under way
	every     func() time.Duration // what the interval shall be after a reading; nil: it stays

	mu    sync.Mutex
	state State
}

// State is how one probe, or one node, does.
type State struct {
	Name     string
	Interval time.Duration
	Root     bool
	Doubles  []string      // Munin plugins that show the same
	On       bool          // its last reading gave something
	Why      string        // why it is off, or what failed last; "" if nothing did, or if it was not looked at yet
	Services []string      // that it delivers, at most 1,000
	Readings uint64        // how often it was read
	Failures uint64        // how many of these failed
	InARow   int           // how many of the last ones failed
	Late     uint64        // turns that passed while it was still being read
	Busy     time.Time     // since when it is being read; zero if it is not
	First    time.Time     // when it was first read with success
	Last     time.Time     // when it was last read with success
	FailedAt time.Time     // when what fails now began to fail: "unknown since"; zero if it does not
	Took     time.Duration // mean time of a reading, waiting included
	Longest  time.Duration // the longest one
	CPU      time.Duration // mean processor time of a reading: of this thread, and of the process that did the work
}

type outcome struct {
	rs         []Reading
	err        error
	took, used time.Duration
}

// phase is a part of the interval that depends on the name alone, so that not all wake at once.
func phase(name string, interval time.Duration) time.Duration {
	h := fnv.New64a()
	h.Write([]byte(name))
	return time.Duration(h.Sum64() % uint64(interval))
}

// first is how long to wait for the first reading, next for the one after, when it shall not be sooner than about gap from now.
func (t *turns) first() time.Duration { return phase(t.name, min(t.interval, soon)) }

func (t *turns) next(gap time.Duration) time.Duration {
	from := time.Now().Add(max(gap-t.interval, 0))
	slot := from.Truncate(t.interval).Add(phase(t.name, t.interval))
	for !slot.After(from) {
		slot = slot.Add(t.interval)
	}
	return time.Until(slot)
}

// run takes turns until ctx ends; what was read goes to deliver. A reading that does not end is left behind after a grace.
func (t *turns) run(ctx context.Context, deliver func([]Reading)) {
	timer := time.NewTimer(t.first())
	defer timer.Stop()
	done := make(chan outcome, 1)
	for busy := false; ; {
		select {
		case <-ctx.Done():
			if busy {
				select {
				case <-done:
				case <-time.After(grace):
				}
			}
			return
		case <-timer.C:
			if busy {
				t.late()
				timer.Reset(t.next(t.interval))
				continue
			}
			busy = true
			t.begin()
			go func() { done <- t.once(ctx) }()
			timer.Reset(t.next(t.interval))
		case o := <-done:
			busy = false
			if t.follow() {
				timer.Reset(t.next(t.interval))
			}
			if len(o.rs) > 0 {
				deliver(o.rs)
			}
			if gap := t.end(o); gap > t.interval {
				timer.Reset(t.next(gap))
			}
		}
	}
}

// follow takes over an interval that has changed.
func (t *turns) follow() (changed bool) {
	if t.every == nil {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.interval = t.every()
	changed = t.interval != t.state.Interval
	t.state.Interval = t.interval
	return changed
}

// once takes one reading and measures it; the thread is held so that its processor time is known.
func (t *turns) once(ctx context.Context) (o outcome) {
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	if t.elsewhere {
		start := time.Now()
		o.rs, o.err = t.take(ctx)
		o.took, o.used = time.Since(start), time.Duration(t.spent.Swap(0))
		return o
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	start, used := time.Now(), threadTime()
	o.rs, o.err = t.take(ctx)
	o.took, o.used = time.Since(start), threadTime()-used+time.Duration(t.spent.Swap(0))
	return o
}

// threadTime is the processor time of the calling thread.
func threadTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

func (t *turns) begin() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.state.Busy = time.Now()
}

func (t *turns) late() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.state.Late++
}

// end notes how a reading went and says how long the next one shall wait; 0 for as usual.
func (t *turns) end(o outcome) (gap time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := &t.state
	s.Busy = time.Time{}
	s.Readings++
	n := time.Duration(min(s.Readings, 100)) // a mean of about the last hundred
	s.Took += (o.took - s.Took) / n
	s.CPU += (o.used - s.CPU) / n
	s.Longest = max(s.Longest, o.took)
	if len(o.rs) > 0 {
		s.Services = servicesOf(o.rs, s.Services)
	}
	if o.err == nil || len(o.rs) > 0 {
		s.On, s.Last = true, time.Now()
		if s.First.IsZero() {
			s.First = s.Last
		}
	}
	if o.err == nil {
		s.Why, s.InARow, s.FailedAt = "", 0, time.Time{}
		return 0
	}
	s.Why = o.err.Error()
	if s.FailedAt.IsZero() {
		s.FailedAt = time.Now()
	}
	if _, off := IsOff(o.err); off {
		s.On = false
		return lookAgain
	}
	s.Failures++
	s.InARow++
	if len(o.rs) > 0 {
		return 0 // part of it was read: that part goes on
	}
	s.On = false
	return min(t.interval<<min(s.InARow, 16), max(longestGap, t.interval))
}

// maxNamed bounds State.Services.
const maxNamed = 1000

// servicesOf names the services of the readings; old is returned if they are the same.
func servicesOf(rs []Reading, old []string) []string {
	rs = rs[:min(len(rs), maxNamed)]
	same := len(rs) == len(old)
	for i := 0; same && i < len(rs); i++ {
		same = rs[i].Service.Name == old[i]
	}
	if same {
		return old
	}
	names := make([]string, len(rs))
	for i := range rs {
		names[i] = rs[i].Service.Name
	}
	return names
}

// State is how it does now.
func (t *turns) State() State {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.state
}
