package report

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"tocsin"
)

// server is AbuseIPDB as far as reports go, on scripted days: its quotas, its rule of 15 minutes, its clock, and what goes
// wrong between it and us.
type server struct {
	t      testing.TB
	limit  int           // of the single endpoint a day; 0: 1,000
	calls  int           // bulk reports a day; 0: 5
	noBulk bool          // all of them are used up by somebody else
	noon   time.Duration // after t0 somebody else uses up the single ones of that day; 0: nobody does
	ahead  time.Duration // its clock before the true time
	reset  time.Duration // when its day begins
	script func(now time.Time, j Job) fault

	day      time.Time
	left     map[bool]int
	accepted map[netip.Addr][]time.Time
	comments map[netip.Addr]string
	times    map[netip.Addr]time.Time
	singles  []time.Time // calls that were granted
	bulks    []int       // rows of each
	doubles  int         // reports received within 15 minutes of one that was accepted
	asked    int
}

type fault int

const (
	none        fault = iota
	unreachable       // nothing was sent
	broken            // 500, not taken
	lostBefore        // sent, not taken, no answer
	lostAfter         // sent, taken, no answer
	key               // 401
	bad               // 422
)

func (s *server) begin() {
	if s.limit == 0 {
		s.limit = 1000
	}
	if s.calls == 0 {
		s.calls = 5
	}
	if s.accepted == nil {
		s.accepted, s.left = make(map[netip.Addr][]time.Time), make(map[bool]int)
		s.comments, s.times = make(map[netip.Addr]string), make(map[netip.Addr]time.Time)
	}
}

// send answers at the true time now.
func (s *server) send(now time.Time, j Job) Answer {
	s.begin()
	s.asked++
	f := none
	if s.script != nil {
		f = s.script(now, j)
	}
	if f == unreachable {
		return Answer{Outcome: Failed}
	}
	if f == lostBefore {
		return Answer{Outcome: Lost}
	}
	a := s.answer(now, j, f)
	if f == lostAfter {
		return Answer{Outcome: Lost}
	}
	return a
}

func (s *server) answer(now time.Time, j Job, f fault) Answer {
	clock := now.Add(s.ahead)
	if begin := clock.Add(-s.reset).Truncate(day).Add(s.reset); !begin.Equal(s.day) {
		s.day = begin
		s.left[false], s.left[true] = s.limit, s.calls
		if s.noBulk {
			s.left[true] = 0
		}
	}
	if s.noon > 0 && now.Sub(t0) >= s.noon {
		s.left[false], s.noon = 0, 0
	}
	a := Answer{Code: 200, Date: clock, Quota: Quota{Known: true, Limit: s.limit}}
	if j.Bulk {
		a.Quota.Limit = s.calls
	}
	defer func() { a.Quota.Remaining = s.left[j.Bulk] }()
	switch {
	case f == broken:
		return Answer{Outcome: Failed, Code: 500, Date: clock}
	case f == key:
		return Answer{Outcome: Stop, Code: 401, Date: clock}
	case s.left[j.Bulk] == 0:
		a.Outcome, a.Code, a.Rest = Exhausted, 429, s.day.Add(day).Sub(clock)
		a.Quota.Reset = s.day.Add(day)
		return a
	}
	s.left[j.Bulk]--
	a.Quota.Remaining = s.left[j.Bulk]
	if f == bad {
		a.Outcome, a.Code, a.Detail = Refused, 422, "The ip address must be valid."
		return a
	}
	if j.Bulk {
		s.bulks = append(s.bulks, len(j.Reports))
	} else {
		s.singles = append(s.singles, now)
	}
	for i, r := range j.Reports {
		if r.At.After(clock) {
			s.t.Errorf("%s: a report of the future: %s at %s", r.Addr, r.At, clock)
		}
		if all := s.accepted[r.Addr]; len(all) > 0 && now.Sub(all[len(all)-1]) < 15*time.Minute {
			s.doubles++
			a.Rows = append(a.Rows, Row{Row: i, Duplicate: true, Detail: "Duplicate IP"})
			if !j.Bulk {
				a.Outcome, a.Code = Duplicate, 429
			}
			continue
		}
		s.accepted[r.Addr] = append(s.accepted[r.Addr], now)
		s.comments[r.Addr], s.times[r.Addr] = r.Comment, r.At
	}
	return a
}

func (s *server) total() (n int) {
	for _, all := range s.accepted {
		n += len(all)
	}
	return n
}

func addr(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{31, byte(n >> 16), byte(n >> 8), byte(n)})
}

func ban(n int, at time.Time) Decision {
	return Decision{N: int64(n), Jail: "sshd", Prefix: netip.PrefixFrom(addr(n), 32), At: at, Failures: 5, First: at.Add(-41 * time.Second), Last: at}
}

// world runs a queue beside a server, in steps of true time. The guard is asked every 10 s.
type world struct {
	t      testing.TB
	q      *Queue
	s      *server
	call   func(Job) Answer // in place of s
	now    time.Time
	wrong  time.Duration // our clock before the true time
	events []Decision    // with N and true At, in order
	next   int
}

func newWorld(t testing.TB, o Options, s *server) *world {
	s.t = t
	s.begin()
	w := &world{t: t, s: s, now: t0}
	q, err := New(o, tocsin.ReportState{}, t0)
	if err != nil {
		t.Fatal(err)
	}
	w.q = q
	return w
}

func (w *world) clock() time.Time { return w.now.Add(w.wrong) }

// run goes on for d.
func (w *world) run(d time.Duration) {
	for end := w.now.Add(d); w.now.Before(end); w.now = w.now.Add(10 * time.Second) {
		var ds []Decision
		for ; w.next < len(w.events) && !w.events[w.next].At.After(w.now); w.next++ {
			d := w.events[w.next]
			d.At, d.First, d.Last = d.At.Add(w.wrong), d.First.Add(w.wrong), d.Last.Add(w.wrong)
			ds = append(ds, d)
		}
		w.q.Take(w.clock(), ds, true)
		for {
			j, wake := w.q.Next(w.clock())
			if len(j.Reports) == 0 {
				if !wake.After(w.clock()) {
					w.t.Fatalf("asked to wake at %s, now is %s", wake, w.clock())
				}
				break
			}
			w.q.Answer(w.clock(), j, w.send(j))
		}
		w.q.Changes(w.clock())
	}
}

func (w *world) send(j Job) Answer {
	if w.call != nil {
		return w.call(j)
	}
	return w.s.send(w.now, j)
}

// check holds the sums and the rule that nothing is accepted twice within 15 minutes, and returns the counters in words.
func (w *world) check() string {
	w.t.Helper()
	st := w.q.Stats(w.clock())
	in, out := st.Taken+st.ByHand, int64(st.Queued)+st.Sent+st.Duplicates+st.Refused+st.Unknown+st.GivenUp+st.Withdrawn+st.Same+st.Merged+st.Overflow
	if in != out {
		w.t.Errorf("%d reports in, %d accounted for: %+v", in, out, st)
	}
	text := fmt.Sprintf("sent %d", st.Sent)
	for _, c := range []struct {
		name string
		n    int64
	}{{"queued", int64(st.Queued)}, {"duplicates", st.Duplicates}, {"refused", st.Refused}, {"unknown", st.Unknown},
		{"given up", st.GivenUp}, {"withdrawn", st.Withdrawn}, {"same", st.Same}, {"merged", st.Merged}} {
		if c.n > 0 {
			text += fmt.Sprintf(", %s %d", c.name, c.n)
		}
	}
	return text
}

// spread makes n bans of n addresses, evenly over d.
func spread(n int, d time.Duration) (all []Decision) {
	for i := range n {
		all = append(all, ban(i+1, t0.Add(time.Duration(i)*d/time.Duration(n))))
	}
	return all
}

// TestDays runs scripted days. Every address is reported once, whatever happens, and none twice within 15 minutes.
func TestDays(t *testing.T) {
	between := func(from, to time.Duration, f fault) func(time.Time, Job) fault {
		return func(now time.Time, _ Job) fault {
			if at := now.Sub(t0); at >= from && at < to {
				return f
			}
			return none
		}
	}
	every := func(n int, f fault) func(time.Time, Job) fault {
		calls := 0
		return func(time.Time, Job) fault {
			if calls++; calls%n == 0 {
				return f
			}
			return none
		}
	}
	tests := []struct {
		name    string
		server  server
		wrong   time.Duration
		events  []Decision
		run     time.Duration
		want    string
		doubles int // reports that the server got and dropped
	}{
		{"a quiet day", server{}, 0, spread(200, 12*time.Hour), 13 * time.Hour, "sent 200", 0},
		{"a day that begins at 5", server{reset: 5 * time.Hour}, 0, spread(800, 20*time.Hour), 36 * time.Hour, "sent 800", 0},
		{"a storm for the whole day's quota", server{}, 0, spread(5000, 6*time.Hour), day, "sent 5000", 0},
		{"three times the quota", server{limit: 100}, 0, spread(300, 12*time.Hour), 2 * day, "sent 300", 0},
		{"somebody else uses up the quota at noon", server{noon: 6 * time.Hour}, 0, spread(200, 12*time.Hour), day, "sent 200", 0},
		{"the same, and a clock an hour fast", server{noon: 6 * time.Hour}, time.Hour, spread(200, 12*time.Hour), day, "sent 200", 0},
		{"500s for six hours", server{script: between(2*time.Hour, 8*time.Hour, broken)}, 0, spread(200, 12*time.Hour), day, "sent 200", 0},
		{"network down at boot", server{script: between(0, 3*time.Hour, unreachable)}, 0, spread(100, 4*time.Hour), 12 * time.Hour, "sent 100", 0},
		{"network down for a day", server{script: between(0, 25*time.Hour, unreachable)}, 0, spread(10, time.Minute), 26 * time.Hour, "sent 0, given up 10", 0},
		{"our clock an hour slow", server{}, -time.Hour, spread(200, 12*time.Hour), 13 * time.Hour, "sent 200", 0},
		{"our clock an hour fast", server{limit: 100}, time.Hour, spread(300, 12*time.Hour), 2 * day, "sent 300", 0},
		{"our clock in 1970", server{limit: 100}, -56 * 365 * day, spread(300, 12*time.Hour), 2 * day, "sent 300", 0},
		{"every tenth answer is lost behind the server", server{script: every(10, lostAfter)}, 0, spread(100, 6*time.Hour), 8 * time.Hour, "sent 89, duplicates 11", 11},
		{"every tenth answer is lost before the server", server{script: every(10, lostBefore)}, 0, spread(100, 6*time.Hour), 8 * time.Hour, "sent 100", 0},
		{"every answer is lost for an hour", server{script: between(time.Hour, 2*time.Hour, lostBefore)}, 0, spread(60, 3*time.Hour), 6 * time.Hour, "sent 56, unknown 4", 0},
		{"refused", server{script: every(4, bad)}, 0, spread(8, time.Hour), 2 * time.Hour, "sent 6, refused 2", 0},
		{"the key is wrong", server{script: between(0, day, key)}, 0, spread(8, time.Hour), 2 * time.Hour, "sent 0, queued 8", 0},
		{"no headers about quotas", server{limit: -1}, 0, spread(50, time.Hour), 2 * time.Hour, "sent 50", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := tt.server
			noQuota := s.limit < 0
			if noQuota {
				s.limit = 1 << 30
			}
			w := newWorld(t, options(), &s)
			w.wrong, w.events = tt.wrong, tt.events
			w.q, _ = New(options(), tocsin.ReportState{}, w.clock())
			w.run(tt.run)
			if got := w.check(); got != tt.want {
				t.Errorf("%s, want %s; %d calls, bulk %v; %+v", got, tt.want, s.asked, s.bulks, w.q.Stats(w.clock()))
			}
			if s.doubles != tt.doubles {
				t.Errorf("%d doubles, want %d", s.doubles, tt.doubles)
			}
			for a, all := range s.accepted {
				if len(all) != 1 {
					t.Errorf("%s was reported %d times", a, len(all))
				}
			}
			t.Logf("%s; %d calls, %d single, bulk %v", w.check(), s.asked, len(s.singles), s.bulks)
		})
	}
}

// A quick unban is never reported; nor is one that comes before the report could be sent, whatever the jail.
func TestUnban(t *testing.T) {
	unban := func(n int, prefix string, at time.Time) Decision {
		return Decision{N: int64(n), Jail: "sshd", Prefix: netip.MustParsePrefix(prefix), At: at, Action: tocsin.Unban, Origin: tocsin.ByOperator}
	}
	tests := []struct {
		name   string
		events []Decision
		want   string
	}{
		{"within the hold", []Decision{ban(1, t0), unban(2, "31.0.0.1/32", t0.Add(50*time.Second))}, "sent 0, withdrawn 1"},
		{"after it", []Decision{ban(1, t0), unban(2, "31.0.0.1/32", t0.Add(80*time.Second))}, "sent 1"},
		{"of somebody else", []Decision{ban(1, t0), unban(2, "31.0.0.2/32", t0.Add(50*time.Second))}, "sent 1"},
		{"of the network around", []Decision{ban(1, t0), unban(2, "31.0.0.0/24", t0.Add(50*time.Second))}, "sent 0, withdrawn 1"},
		{"and banned again", []Decision{ban(1, t0), unban(2, "31.0.0.1/32", t0.Add(50*time.Second)), again1(3, t0.Add(55*time.Second))}, "sent 1, withdrawn 1"},
	}
	for _, tt := range tests {
		w := newWorld(t, options(), &server{})
		w.events = tt.events
		w.run(time.Hour)
		if got := w.check(); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

// again1 is another ban of the address of ban 1.
func again1(n int, at time.Time) Decision {
	d := ban(1, at)
	d.N = int64(n)
	return d
}

// Holds end only once the guard has told everything: while it is away an unban may wait there.
func TestHoldWaitsForTheGuard(t *testing.T) {
	q, err := New(options(), tocsin.ReportState{}, t0)
	if err != nil {
		t.Fatal(err)
	}
	q.Take(t0, []Decision{ban(1, t0)}, true)
	if j, _ := q.Next(t0.Add(time.Hour)); len(j.Reports) != 0 {
		t.Errorf("sent %v although the guard was not heard since", j.Reports)
	}
	q.Take(t0.Add(time.Hour), nil, false)
	if j, _ := q.Next(t0.Add(time.Hour)); len(j.Reports) != 0 {
		t.Errorf("sent %v although the guard has more to tell", j.Reports)
	}
	q.Take(t0.Add(time.Hour), nil, true)
	if j, _ := q.Next(t0.Add(time.Hour)); len(j.Reports) != 1 {
		t.Error("not sent after the guard was heard")
	}
}

// One report of an address in 15 minutes; what comes up meanwhile is merged and follows, unless it says the same.
func TestOneAddress(t *testing.T) {
	at := func(n int, after time.Duration, failures int) Decision {
		d := again1(n, t0.Add(after))
		d.Failures = failures
		return d
	}
	tests := []struct {
		name   string
		events []Decision
		want   string
		at     []time.Duration
		text   string
	}{
		{"within the hold", []Decision{at(1, 0, 5), at(2, 30*time.Second, 6)}, "sent 1, merged 1", []time.Duration{90 * time.Second}, "11 ssh login failures in 1 min 11 s"},
		{"after the first report", []Decision{at(1, 0, 5), at(2, 5*time.Minute, 6)}, "sent 2", []time.Duration{time.Minute, 16 * time.Minute}, "6 ssh login failures in 41 s"},
		{"twice after the first report", []Decision{at(1, 0, 5), at(2, 5*time.Minute, 6), at(3, 7*time.Minute, 1+5)}, "sent 2, merged 1",
			[]time.Duration{time.Minute, 16 * time.Minute}, "12 ssh login failures in 2 min 41 s"},
		{"the same again", []Decision{at(1, 0, 5), at(2, time.Hour, 5)}, "sent 1, same 1", []time.Duration{time.Minute}, "5 ssh login failures in 41 s"},
		{"the same a day later", []Decision{at(1, 0, 5), at(2, 25*time.Hour, 5)}, "sent 2", []time.Duration{time.Minute, 25*time.Hour + time.Minute}, "5 ssh login failures in 41 s"},
	}
	for _, tt := range tests {
		w := newWorld(t, options(), &server{})
		w.events = tt.events
		w.run(30 * time.Hour)
		if got := w.check(); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
		var got []time.Duration
		for _, t := range w.s.accepted[addr(1)] {
			got = append(got, t.Sub(t0))
		}
		if fmt.Sprint(got) != fmt.Sprint(tt.at) {
			t.Errorf("%s: reported after %v, want %v", tt.name, got, tt.at)
		}
		if got := w.s.comments[addr(1)]; got != tt.text {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.text)
		}
		if w.s.doubles != 0 {
			t.Errorf("%s: %d doubles", tt.name, w.s.doubles)
		}
	}
}

// While a report waits somebody may log in, or be allowed: it is asked again before it is sent.
func TestSparedMeanwhile(t *testing.T) {
	spared := false
	o := options()
	o.Spare = func(netip.Prefix) Why {
		if spared {
			return LoggedIn
		}
		return Yes
	}
	w := newWorld(t, o, &server{})
	w.events = []Decision{ban(1, t0)}
	w.run(30 * time.Second)
	spared = true
	w.run(time.Hour)
	if got := w.check(); got != "sent 0, withdrawn 1" {
		t.Error(got)
	}
}

// Neither is what was sent without an answer sent again: the server may have it, and nobody knows.
func TestSparedAfterLostAnswer(t *testing.T) {
	spared := false
	o := options()
	o.Spare = func(netip.Prefix) Why {
		if spared {
			return LoggedIn
		}
		return Yes
	}
	w := newWorld(t, o, &server{script: func(time.Time, Job) fault { spared = true; return lostBefore }})
	w.events = []Decision{ban(1, t0)}
	w.run(time.Hour)
	if got := w.check(); got != "sent 0, unknown 1" || w.s.asked != 1 {
		t.Errorf("%s in %d calls", got, w.s.asked)
	}
}

// A tenth of the quota is kept for severe categories, and the rest is spread: a storm in the morning leaves some for the
// evening.
func TestReserveAndSpread(t *testing.T) {
	s := &server{limit: 100, noBulk: true}
	w := newWorld(t, options(), s)
	w.events = spread(500, time.Hour)
	w.run(17*time.Hour + 30*time.Minute)
	if n := len(s.singles); n != 90 {
		t.Errorf("%d ordinary reports before the day ended, want 90 of 100", n)
	}
	early := 0
	for _, at := range s.singles {
		if at.Sub(t0) < 9*time.Hour {
			early++
		}
	}
	if early < 40 || early > 80 {
		t.Errorf("%d of 90 were sent in the first half", early)
	}
	d := ban(1000, w.now)
	d.Jail = "sqli"
	w.events = append(w.events, d)
	w.run(2 * time.Minute)
	if len(s.accepted[addr(1000)]) != 1 {
		t.Error("a severe one was not sent at once")
	}
}

// What does not fit goes in bulk, at most 8,999 rows at a time, over the day's few calls.
func TestBulk(t *testing.T) {
	s := &server{}
	w := newWorld(t, options(), s)
	w.events = spread(30_000, 4*time.Hour)
	w.run(17 * time.Hour)
	if got := w.check(); got != "sent 30000" {
		t.Errorf("%s; bulk %v, %d singles", got, s.bulks, len(s.singles))
	}
	for _, n := range s.bulks {
		if n > bulkRows {
			t.Errorf("a bulk report of %d rows", n)
		}
	}
	if s.doubles != 0 {
		t.Errorf("%d doubles", s.doubles)
	}
	t.Logf("bulk %v, %d singles", s.bulks, len(s.singles))
}

// A bulk report whose answer was lost is repeated whole, within the window, and the server drops the doubles.
func TestBulkLost(t *testing.T) {
	for _, f := range []fault{lostBefore, lostAfter} {
		lost := false
		s := &server{limit: 10}
		s.script = func(_ time.Time, j Job) fault {
			if j.Bulk && !lost {
				lost = true
				return f
			}
			return none
		}
		w := newWorld(t, options(), s)
		w.events = spread(500, 10*time.Minute)
		w.run(6 * time.Hour)
		st := w.q.Stats(w.now)
		if s.total() != 500 || st.Unknown != 0 || st.Queued != 0 {
			t.Errorf("%v: %d accepted; %s", f, s.total(), w.check())
		}
		w.check()
	}
}

// Rows that the server does not take are told apart.
func TestBulkRows(t *testing.T) {
	q, err := New(options(), tocsin.ReportState{}, t0)
	if err != nil {
		t.Fatal(err)
	}
	q.single.limit, q.single.remaining, q.single.rest, q.single.reset = 1000, 0, t0.Add(day), t0.Add(day)
	q.Take(t0, spread(4, time.Second), true)
	now := t0
	var j Job
	for ; len(j.Reports) == 0; now = now.Add(time.Minute) {
		q.Take(now, nil, true)
		j, _ = q.Next(now)
	}
	if !j.Bulk || len(j.Reports) != 4 {
		t.Fatalf("%+v, want a bulk report of 4", j)
	}
	q.Answer(now, j, Answer{Rows: []Row{{Row: 1, Duplicate: true}, {Row: 2, Detail: "Invalid IP\x1b"}, {Row: 77}}})
	st := q.Stats(now)
	if st.InBulk != 2 || st.Duplicates != 1 || st.Refused != 1 || st.Queued != 0 || st.BulkReports != 1 {
		t.Errorf("%+v", st)
	}
	c, _ := q.Changes(now)
	if len(c.Refused) != 1 || c.Refused[0].Addr != j.Reports[2].Addr || c.Refused[0].Detail != `Invalid IP\x1b` {
		t.Errorf("put aside: %+v", c.Refused)
	}
}

// A stop lasts over a restart, until the key or the server is another.
func TestStopLasts(t *testing.T) {
	q, err := New(options(), tocsin.ReportState{}, t0)
	if err != nil {
		t.Fatal(err)
	}
	q.Take(t0, []Decision{ban(1, t0)}, true)
	now := t0.Add(time.Minute)
	q.Take(now, nil, true)
	j, _ := q.Next(now)
	q.Answer(now, j, Answer{Outcome: Stop, Code: 403})
	c, _ := q.Changes(now)
	s := tocsin.ReportState{Queued: c.Put, Numbers: c.Numbers}
	for _, tt := range []struct {
		account uint64
		want    int
	}{{1, 0}, {2, 1}} {
		o := options()
		o.Account = tt.account
		q, err := New(o, tocsin.ReportState{Queued: s.Queued, Numbers: copied(s.Numbers)}, now)
		if err != nil {
			t.Fatal(err)
		}
		if j, _ := q.Next(now.Add(time.Minute)); len(j.Reports) != tt.want {
			t.Errorf("account %d: %d reports, want %d; %+v", tt.account, len(j.Reports), tt.want, q.Stats(now))
		}
	}
}

func copied(m map[string]int64) map[string]int64 {
	c := make(map[string]int64)
	for k, v := range m {
		c[k] = v
	}
	return c
}

// The queue is bounded.
func TestOverflow(t *testing.T) {
	o := options()
	o.Most = 10
	w := newWorld(t, o, &server{script: func(time.Time, Job) fault { return unreachable }})
	w.events = spread(15, time.Minute)
	w.run(time.Hour)
	if st := w.q.Stats(w.now); st.Queued != 10 || st.Overflow != 5 {
		t.Errorf("%+v", st)
	}
	w.check()
}
