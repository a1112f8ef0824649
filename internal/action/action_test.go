package action

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tocsin/internal/exec"
)

// recorder is an action that writes down which commands it was asked for, and fails those that it is told to fail.
type recorder struct {
	mu    sync.Mutex
	texts map[string]string // by "do" or "do family"; what is not in it the action does not have
	fail  map[string]int    // by what is run: so often it fails
	takes time.Duration
	ran   []string
}

func newRecorder(names ...string) *recorder {
	r := &recorder{texts: map[string]string{}, fail: map[string]int{}}
	for _, name := range names {
		r.texts["action"+name] = name
	}
	return r
}

func (r *recorder) text(do, family string) string {
	if t, ok := r.texts[do+" "+family]; ok {
		return t
	}
	return r.texts[do]
}

func (r *recorder) run(ctx context.Context, do, family string, values map[string]string) (exec.Result, error) {
	if r.takes > 0 {
		time.Sleep(r.takes)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	what := strings.TrimPrefix(do, "action")
	for _, v := range []string{family, values["ip"]} {
		if v != "" {
			what += " " + v
		}
	}
	r.ran = append(r.ran, what)
	if r.fail[what] > 0 {
		r.fail[what]--
		return exec.Result{Ran: true, Code: 1, Err: "no\n"}, nil
	}
	return exec.Result{Ran: true}, nil
}

func (r *recorder) options() Options { return Options{Run: r.run, Text: r.text} }

// of4 is a notice of an IPv4 address.
func of4(id string) Notice { return notice(id, "inet4") }

func notice(id, family string) Notice {
	return Notice{ID: id, Family: family, Values: func(context.Context) map[string]string { return map[string]string{"ip": id} }}
}

func restored(n Notice) Notice { n.Restored = true; return n }

// A queue that is noted something before it works does it all in one go.
func TestOrder(t *testing.T) {
	firewall := []string{"start", "stop", "ban", "unban"}
	tests := []struct {
		name  string
		rec   *recorder
		set   func(*Options)
		notes func(*Queue)
		want  string
	}{
		{"starts, bans, lifts, stops", newRecorder(firewall...), nil, func(q *Queue) { q.Unban(restored(of4("a"))) }, "start, unban inet4 a, stop"},
		{"a ban and its end cancel out", newRecorder(firewall...), nil, func(q *Queue) {
			q.Ban(of4("a"))
			q.Unban(of4("a"))
		}, "start, stop"},
		{"an old ban's end stays before a new ban", newRecorder("ban", "unban", "flush"), nil, func(q *Queue) {
			q.Unban(restored(of4("a")))
			q.Ban(of4("a"))
			q.Unban(of4("a"))
		}, ""},
		{"notifications are told before the end", newRecorder("ban"), nil, func(q *Queue) {
			q.Ban(of4("a"))
			q.Unban(of4("a"))
			q.Ban(of4("b"))
		}, "ban inet4 a, ban inet4 b"},
		{"bans that would be lifted are not begun at the end", newRecorder(firewall...), nil, func(q *Queue) { q.Ban(of4("a")) }, "start, stop"},
		{"the newest of two bans counts", newRecorder("ban"), nil, func(q *Queue) {
			q.Ban(of4("a"))
			q.Ban(Notice{ID: "a", Family: "inet4", Values: func(context.Context) map[string]string { return map[string]string{"ip": "later"} }})
		}, "ban inet4 later"},
		{"norestored", newRecorder("ban"), func(o *Options) { o.Norestored = true }, func(q *Queue) {
			q.Ban(restored(of4("a")))
			q.Ban(of4("b"))
		}, "ban inet4 b"},
		{"on demand, nobody came", newRecorder("start", "stop", "ban"), func(o *Options) { o.OnDemand = true }, func(*Queue) {}, ""},
		{"on demand, each family at its first ban", newRecorder("start", "stop", "ban"), func(o *Options) {
			o.OnDemand = true
			o.Text = func(do, family string) string { return do + family }
		}, func(q *Queue) {
			q.Reban(notice("6a", "inet6"))
			q.Reban(of4("4a"))
			q.Reban(of4("4b"))
		}, ""},
		{"families that share a command start once", newRecorder("start", "stop"), func(o *Options) { o.Families = []string{"inet4", "inet6"} }, func(*Queue) {}, "start inet4, stop inet4"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := tt.rec.options()
			if tt.set != nil {
				tt.set(&o)
			}
			q := New(o)
			tt.notes(q)
			q.End()
			q.Work(t.Context())
			if got := strings.Join(tt.rec.ran, ", "); got != tt.want {
				t.Errorf("ran %q, want %q", got, tt.want)
			}
		})
	}
}

// live runs a queue and returns what it ran once all that was noted is done. The bubble's clock makes waiting free.
func live(t *testing.T, r *recorder, set func(*Options), notes ...func(*Queue)) (ran string, q *Queue) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		o := r.options()
		if set != nil {
			set(&o)
		}
		q = New(o)
		done := make(chan struct{})
		go func() { defer close(done); q.Work(t.Context()) }()
		synctest.Wait()
		for _, f := range notes {
			f(q)
			for synctest.Wait(); q.Stats().Waiting > 0; synctest.Wait() {
				time.Sleep(time.Second)
			}
			time.Sleep(2 * r.takes)
		}
		q.End()
		<-done
	})
	return strings.Join(r.ran, ", "), q
}

func TestLifeOfAFirewallAction(t *testing.T) {
	byFamily := func(names ...string) *recorder {
		r := newRecorder()
		for _, name := range names {
			r.texts["action"+name+" inet4"], r.texts["action"+name+" inet6"] = name+"4", name+"6"
		}
		return r
	}
	banA := func(q *Queue) { q.Ban(of4("a")) }
	unbanA := func(q *Queue) { q.Unban(of4("a")) }
	tests := []struct {
		name  string
		rec   *recorder
		fail  string // fails once
		set   func(*Options)
		notes []func(*Queue)
		want  string
	}{
		{"on demand", byFamily("start", "stop", "ban", "unban", "flush"), "", func(o *Options) { o.OnDemand = true },
			[]func(*Queue){banA, unbanA, func(q *Queue) { q.Ban(notice("b", "inet6")) }},
			"start inet4, ban inet4 a, unban inet4 a, start inet6, ban inet6 b, flush inet4, flush inet6, stop inet4, stop inet6"},
		{"one command for both families", newRecorder("start", "stop", "ban", "flush"), "", nil,
			[]func(*Queue){banA, func(q *Queue) { q.Ban(notice("b", "inet6")) }},
			"start, ban inet4 a, ban inet6 b, flush inet4, stop"},
		{"without a check a failure is final", newRecorder("ban", "unban"), "ban inet4 a", nil, []func(*Queue){banA, unbanA}, "ban inet4 a"},
		{"all is well but the ban", newRecorder("start", "stop", "check", "ban"), "ban inet4 a", nil, []func(*Queue){banA},
			"start, ban inet4 a, check inet4, ban inet4 a, stop"},
		{"lifting repairs nothing", newRecorder("check", "ban", "unban"), "unban inet4 a; check inet4", nil, []func(*Queue){banA, unbanA},
			"ban inet4 a, unban inet4 a, check inet4"},
		{"lifting repairs if told to", newRecorder("check", "repair", "ban", "unban"), "unban inet4 a; check inet4", func(o *Options) { o.RepairOnUnban = true },
			[]func(*Queue){banA, unbanA}, "ban inet4 a, unban inet4 a, check inet4, repair inet4, check inet4, unban inet4 a"},
		{"repaired", newRecorder("start", "stop", "check", "repair", "ban"), "ban inet4 a; check inet4", nil, []func(*Queue){banA},
			"start, ban inet4 a, check inet4, repair inet4, check inet4, ban inet4 a, stop"},
		{"started anew", newRecorder("start", "stop", "check", "ban"), "ban inet4 a; check inet4", nil, []func(*Queue){banA},
			"start, ban inet4 a, check inet4, stop inet4, start inet4, check inet4, ban inet4 a, stop"},
		{"prolonged", newRecorder("ban", "prolong"), "", nil, []func(*Queue){banA, func(q *Queue) { q.Prolong(of4("a")) }}, "ban inet4 a, prolong inet4 a"},
		{"cannot be prolonged", newRecorder("ban"), "", nil, []func(*Queue){banA, func(q *Queue) { q.Prolong(of4("a")) }}, "ban inet4 a"},
		{"banned again in its own way", newRecorder("ban", "reban"), "", nil, []func(*Queue){func(q *Queue) { q.Reban(of4("a")) }}, "reban inet4 a"},
		{"flushed", newRecorder("ban", "unban", "flush"), "", nil, []func(*Queue){banA, (*Queue).Flush, unbanA}, "ban inet4 a, flush inet4"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for what := range strings.SplitSeq(tt.fail, "; ") {
				tt.rec.fail[what] = 1
			}
			if got, _ := live(t, tt.rec, tt.set, tt.notes...); got != tt.want {
				t.Errorf("ran %q, want %q", got, tt.want)
			}
		})
	}
}

// What was banned is told again to an action that had to be restarted (docs/manual/from-fail2ban.md, repaired).
func TestRestartedActionGetsItsBansAgain(t *testing.T) {
	r := newRecorder("start", "stop", "check", "ban")
	r.fail["ban inet4 c"], r.fail["check inet4"] = 1, 1
	var q *Queue
	got, _ := live(t, r, func(o *Options) {
		o.Restarted = func(family string) {
			for _, id := range []string{"a", "b", "c"} { // c is the one that is tried again anyway
				q.Reban(notice(id, family))
			}
		}
	}, func(it *Queue) { q = it; q.Ban(of4("a")) }, func(*Queue) { q.Ban(of4("b")) }, func(*Queue) { q.Ban(of4("c")) })
	want := "start, ban inet4 a, ban inet4 b, ban inet4 c, check inet4, stop inet4, start inet4, check inet4, ban inet4 c, ban inet4 a, ban inet4 b, stop"
	if got != want {
		t.Errorf("ran %q, want %q", got, want)
	}
}

// Nobody waits while a command hangs, the oldest bans are dropped, and what has to be lifted is kept.
func TestFullQueue(t *testing.T) {
	r := newRecorder("ban", "unban")
	r.takes = time.Hour
	ran, q := live(t, r, func(o *Options) { o.Limit = 3 }, func(q *Queue) {
		begin := time.Now()
		q.Ban(of4("first"))
		synctest.Wait() // it is under way
		q.Unban(of4("first"))
		for i := range 10 {
			q.Ban(of4(fmt.Sprint(i)))
		}
		if waited := time.Since(begin); waited != 0 {
			t.Errorf("waited %v for a slow action", waited)
		}
		if st := q.Stats(); st.Waiting != 4 || st.Dropped != 7 {
			t.Errorf("%d wait, %d dropped; want 4 and 7", st.Waiting, st.Dropped)
		}
	})
	if want := "ban inet4 first, ban inet4 7, ban inet4 8, ban inet4 9, unban inet4 first"; ran != want {
		t.Errorf("ran %q, want %q", ran, want)
	}
	if st := q.Stats(); st.Runs != 5 || st.Failures != 0 || st.Waiting != 0 {
		t.Errorf("stats %+v, want 5 runs and nothing else", st)
	}
}

// Bans that were in force before are told whatever their number, but a new attacker does not wait for them.
func TestRestoredBansWaitBehindNewOnes(t *testing.T) {
	r := newRecorder("ban")
	r.takes = time.Second
	_, q := live(t, r, func(o *Options) { o.Limit = 3 }, func(q *Queue) {
		for i := range 10 {
			q.Ban(restored(of4(fmt.Sprint("old", i))))
		}
		for i := range 3 {
			q.Ban(of4(fmt.Sprint("new", i)))
		}
	})
	if len(r.ran) != 13 || q.Stats().Dropped != 0 {
		t.Fatalf("ran %q, dropped %d", r.ran, q.Stats().Dropped)
	}
	if i := slices.Index(r.ran, "ban inet4 new2"); i > 3 { // one may have been under way
		t.Errorf("the last new one came as number %d of %q", i+1, r.ran)
	}
}

// Lifting is not put off for ever by a flood of bans.
func TestUnbansAmongManyBans(t *testing.T) {
	r := newRecorder("ban", "unban")
	r.takes = time.Second
	live(t, r, nil, func(q *Queue) { q.Ban(of4("old")) }, func(q *Queue) {
		q.Unban(of4("old"))
		for i := range 50 {
			q.Ban(of4(fmt.Sprint(i)))
		}
	})
	if i := slices.Index(r.ran, "unban inet4 old"); i < 0 || i > 1+bansFirst {
		t.Errorf("lifted as command %d of %d", i, len(r.ran))
	}
}

// A runner that is not there is waited for, and then everything is done.
func TestUnreachableRunner(t *testing.T) {
	r := newRecorder("start", "ban", "unban")
	var tries int
	ran, q := live(t, r, func(o *Options) {
		o.Run = func(ctx context.Context, do, family string, values map[string]string) (exec.Result, error) {
			if tries++; tries < 5 {
				return exec.Result{}, fmt.Errorf("%w: it sleeps", exec.ErrUnreachable)
			}
			return r.run(ctx, do, family, values)
		}
	}, func(q *Queue) { q.Ban(of4("a")) }, func(*Queue) { time.Sleep(time.Minute) })
	if want := "start, ban inet4 a"; ran != want {
		t.Errorf("ran %q, want %q", ran, want)
	}
	if st := q.Stats(); !strings.Contains(st.LastError, "it sleeps") || st.Failures != 0 {
		t.Errorf("stats %+v, want no failure, and why it took so long", st)
	}
}

func TestUnreachableRunnerDoesNotHoldUpTheEnd(t *testing.T) {
	r := newRecorder("ban")
	_, q := live(t, r, func(o *Options) {
		o.Run = func(context.Context, string, string, map[string]string) (exec.Result, error) {
			return exec.Result{}, exec.ErrUnreachable
		}
	}, func(q *Queue) { q.Ban(of4("a")) })
	if st := q.Stats(); st.Runs != 0 || st.LastError == "" {
		t.Errorf("stats %+v, want an error and no run", st)
	}
}

func TestEndedContextLeavesAtOnce(t *testing.T) {
	r := newRecorder("start", "stop", "ban")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("too late"))
	q := New(r.options())
	q.Ban(of4("a"))
	q.Work(ctx)
	if got := strings.Join(r.ran, ", "); got != "start" {
		t.Errorf("ran %q, want the start that had been begun", got)
	}
}

func TestFailuresAreTold(t *testing.T) {
	r := newRecorder("ban")
	r.fail["ban inet4 a"] = 1
	_, q := live(t, r, nil, func(q *Queue) { q.Ban(of4("a")) })
	if st := q.Stats(); st.LastError != "actionban: no (exit code 1)" || st.Failures != 1 || st.Runs != 1 {
		t.Errorf("stats %+v, want one failure with its reason", st)
	}
}
