package report

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"testing"
	"time"

	"tocsin"
)

// disk is a keeper in memory. It survives a crash of the machine above it.
type disk struct {
	queued  map[netip.Addr]tocsin.QueuedReport
	sent    map[netip.Addr]tocsin.SentReport
	numbers map[string]int64
	refused int
}

func newDisk() *disk {
	return &disk{make(map[netip.Addr]tocsin.QueuedReport), make(map[netip.Addr]tocsin.SentReport), make(map[string]int64), 0}
}

func (d *disk) state() tocsin.ReportState {
	s := tocsin.ReportState{Numbers: maps.Clone(d.numbers)}
	for _, r := range d.queued {
		s.Queued = append(s.Queued, r)
	}
	for _, r := range d.sent {
		s.Sent = append(s.Sent, r)
	}
	return s
}

func (d *disk) apply(c tocsin.ReportChange) {
	for _, a := range c.Drop {
		delete(d.queued, a)
	}
	for _, r := range c.Put {
		d.queued[r.Addr] = r
	}
	for _, r := range c.Sent {
		d.sent[r.Addr] = r
	}
	maps.Copy(d.numbers, c.Numbers)
	d.refused += len(c.Refused)
	if !c.Forget.IsZero() {
		maps.DeleteFunc(d.sent, func(_ netip.Addr, r tocsin.SentReport) bool { return r.At.Before(c.Forget) })
	}
}

type crash struct{ at string }

// machine is a Reporter over a disk and a server, which crashes at one of its steps: before or behind a write, before or behind
// a call.
type machine struct {
	t     *testing.T
	disk  *disk
	s     *server
	now   time.Time     // by the machine's clock
	slow  time.Duration // the true time less now
	steps int
	fatal int // the step at which it crashes; 0: never
}

func (m *machine) step(at string) {
	if m.steps++; m.steps == m.fatal {
		panic(crash{at})
	}
}

func (m *machine) Reports(context.Context) (tocsin.ReportState, error) { return m.disk.state(), nil }

func (m *machine) Apply(_ context.Context, c tocsin.ReportChange) (bool, error) {
	m.step("before a write")
	m.disk.apply(c)
	m.step("behind a write")
	return false, nil
}

func (m *machine) Send(_ context.Context, j Job) Answer {
	m.step("before a call")
	m.now = m.now.Add(time.Second)
	a := m.s.send(m.now.Add(m.slow), j)
	m.step("behind a call")
	return a
}

// live runs a Reporter from what is kept until end or a crash, which it names.
func (m *machine) live(events []Decision, end time.Time) (crashed string, st Stats) {
	defer func() {
		switch c := recover().(type) {
		case nil:
		case crash:
			crashed = c.at
		default:
			panic(c)
		}
	}()
	ctx := context.Background()
	o := options()
	r, err := newReporter(ctx, o, m, m, nil, func() time.Time { return m.now })
	if err != nil {
		m.t.Fatal(err)
	}
	for tick := 20 * time.Second; m.now.Before(end); m.now = m.now.Add(tick) {
		if m.now.Sub(t0) > 10*time.Hour { // nothing happens any more but waiting
			tick = 2 * time.Minute
		}
		var ds []Decision
		for _, d := range events {
			if d.N > r.Cursor() && !d.At.After(m.now) {
				ds = append(ds, d)
			}
		}
		if err := r.Take(ctx, ds, true); err != nil {
			m.t.Fatal(err)
		}
		for sent := -1; sent != m.s.asked; {
			sent = m.s.asked
			if _, err := r.step(ctx, ctx); err != nil {
				m.t.Fatal(err)
			}
		}
	}
	return "", r.Stats()
}

// TestCrashAnywhere lets the machine crash once at every one of its steps, and start again 20 s later. Every address is
// reported once, nothing is lost, nothing is accepted twice within 15 minutes, and the sums are right.
func TestCrashAnywhere(t *testing.T) {
	// Two addresses fail twice, so that something follows an attempt; quota for some, the others in bulk.
	events := spread(30, 30*time.Minute)
	for i := range 4 {
		d := ban(1+i%2, t0.Add(31*time.Minute+time.Duration(i)*20*time.Second))
		d.N, d.Failures = int64(100+i), 7+i
		events = append(events, d)
	}
	want := map[netip.Addr]int{}
	for _, d := range events {
		want[d.Prefix.Addr()] = 1
	}
	want[addr(1)], want[addr(2)] = 2, 2
	places := map[string]int{}
	for k := 1; ; k++ {
		m := &machine{t: t, disk: newDisk(), s: &server{t: t, limit: 20}, now: t0, fatal: k}
		m.s.begin()
		end := t0.Add(3 * time.Hour)
		where, st := m.live(events, end)
		if where == "" {
			t.Logf("%d steps: %v; singles %d, bulk %v", m.steps, places, len(m.s.singles), m.s.bulks)
			if k < 60 || len(m.s.bulks) == 0 {
				t.Errorf("only %d steps, bulk %v", k, m.s.bulks)
			}
			return
		}
		places[where]++
		m.now = m.now.Add(20 * time.Second)
		where2, st := m.live(events, end)
		if where2 != "" {
			t.Fatalf("crashed again at step %d", m.steps)
		}
		got := map[netip.Addr]int{}
		for a, all := range m.s.accepted {
			got[a] = len(all)
		}
		if !maps.Equal(got, want) {
			t.Errorf("crash %s, step %d: reported %v, want %v", where, k, got, want)
		}
		out := st.Sent + st.Duplicates + st.Unknown + st.Merged + st.Same
		if st.Queued != 0 || st.Unknown != 0 || st.Taken != int64(len(events)) || out != st.Taken {
			t.Errorf("crash %s, step %d: %+v", where, k, st)
		}
	}
}

// After a crash that lasts longer than the window, what was under way is counted as unknown and not sent again; the rest is.
func TestCrashForLong(t *testing.T) {
	for _, after := range []string{"before a call", "behind a call"} {
		m := &machine{t: t, disk: newDisk(), s: &server{t: t}, now: t0}
		m.s.begin()
		events := spread(5, time.Minute)
		for m.fatal = 1; ; m.fatal++ {
			where, _ := m.live(events, t0.Add(time.Hour))
			if where == after {
				break
			}
			*m = machine{t: t, disk: newDisk(), s: &server{t: t}, now: t0, fatal: m.fatal}
			m.s.begin()
		}
		m.now = m.now.Add(20 * time.Minute)
		_, st := m.live(events, t0.Add(3*time.Hour))
		reported := 4
		if after == "behind a call" {
			reported = 5
		}
		if st.Unknown != 1 || st.Sent != 4 || m.s.total() != reported || m.s.doubles != 0 {
			t.Errorf("%s: %d accepted, %d doubles, %+v", after, m.s.total(), m.s.doubles, st)
		}
	}
}

// The machine's clock is an hour slow at a restart: nothing is accepted twice, nothing lost, and holds and pauses still end.
func TestClockGoesBackAtARestart(t *testing.T) {
	m := &machine{t: t, disk: newDisk(), s: &server{t: t}, now: t0.Add(2 * time.Hour)}
	m.s.begin()
	events := spread(5, time.Minute)
	for i := range events {
		events[i].At = m.now
	}
	_, st := m.live(events, m.now.Add(10*time.Minute))
	if st.Sent != 5 {
		t.Fatalf("%+v", st)
	}
	m.now, m.slow = m.now.Add(-time.Hour), time.Hour
	again := events[0]
	again.N, again.At, again.Failures = 10, m.now, 9
	_, st = m.live(append(events, again), m.now.Add(time.Hour))
	all := m.s.accepted[addr(1)]
	if len(all) != 2 || st.Sent != 6 {
		t.Fatalf("reported %v, %+v", all, st)
	}
	if gap := all[1].Sub(all[0]); gap < 15*time.Minute || gap > 30*time.Minute {
		t.Errorf("reported %s apart", gap)
	}
}

// A disk that is full for a while: nothing is sent that is not written down.
type fullDisk struct {
	machine
	full int // writes that fail
}

func (f *fullDisk) Apply(ctx context.Context, c tocsin.ReportChange) (bool, error) {
	if f.full > 0 {
		f.full--
		if f.s.asked > 0 {
			f.t.Error("a report was sent while the disk was full")
		}
		return false, fmt.Errorf("no space left on device")
	}
	return f.machine.Apply(ctx, c)
}

func TestFullDisk(t *testing.T) {
	f := &fullDisk{machine: machine{t: t, disk: newDisk(), s: &server{t: t}, now: t0}, full: 3}
	f.s.begin()
	ctx := context.Background()
	r, err := newReporter(ctx, options(), f, f, nil, func() time.Time { return f.now })
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Take(ctx, []Decision{ban(1, t0)}, true); err != nil {
		t.Fatal(err)
	}
	if len(f.disk.queued) != 1 || f.full != 0 {
		t.Errorf("kept %v", f.disk.queued)
	}
	f.full = 1_000_000
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	f.now = f.now.Add(time.Hour)
	if err := r.Take(short, []Decision{ban(2, t0)}, true); err == nil {
		t.Error("taken without being kept")
	}
	f.full = 0
	if err := r.Take(ctx, []Decision{ban(2, t0)}, true); err == nil {
		t.Error("a queue that is ahead of its disk goes on")
	}
}
