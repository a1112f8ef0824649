package action

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"tocsin/internal/exec"
)

// Work starts the action and does what is noted until End has been called and all is done, or ctx ends.
func (q *Queue) Work(ctx context.Context) {
	if !q.o.OnDemand {
		q.start(ctx, q.o.Families)
	}
	for {
		it := q.next(ctx)
		if it == nil {
			break
		}
		q.carryOut(ctx, it)
	}
	if ctx.Err() != nil {
		return
	}
	q.flushAll(ctx)
	q.stop(ctx, slices.Sorted(maps.Keys(q.started)))
}

// carryOut does one thing. What fails is counted and logged where the command is run.
func (q *Queue) carryOut(ctx context.Context, it *item) {
	switch it.do {
	case flush:
		q.flushAll(ctx)
	case unban:
		if it.Restored || q.started[it.Family]&hasItems != 0 {
			q.process(ctx, it)
		}
	case prolong:
		q.process(ctx, it)
	default:
		if it.Restored && q.o.Norestored {
			q.started[it.Family] |= hasItems // it was told of it by a former program
			return
		}
		if q.o.OnDemand && q.started[it.Family]&isStarted == 0 && !q.start(ctx, []string{it.Family}) {
			return
		}
		if q.process(ctx, it) {
			q.started[it.Family] |= isStarted | hasItems
		}
	}
}

// process runs the command of a ban. If it fails, and the action says how to check it, that is done, and the command is
// tried once more when all is well again.
func (q *Queue) process(ctx context.Context, it *item) bool {
	values := map[string]string{}
	if it.Values != nil {
		values = it.Values(ctx)
	}
	if q.run(ctx, it.do, it.Family, values) {
		return true
	}
	if q.o.Text(check, it.Family) == "" || !q.sane(ctx, it) {
		return false
	}
	return q.run(ctx, it.do, it.Family, values)
}

// sane checks the action and repairs it if need be, or starts it anew. A ban is not lifted from what is broken: what it
// was in is gone.
func (q *Queue) sane(ctx context.Context, it *item) bool {
	family := it.Family
	if q.runIdle(ctx, check, family) {
		return true
	}
	if it.do == unban && !q.o.RepairOnUnban {
		return false
	}
	if q.o.Text(repair, family) != "" {
		if !q.runIdle(ctx, repair, family) {
			q.started[family] = 0
			return false
		}
		q.started[family] = isStarted
	} else if !q.restart(ctx, family) {
		return false
	}
	if !q.runIdle(ctx, check, family) {
		return false
	}
	if q.o.Restarted != nil {
		for _, f := range q.sharing(family) {
			q.o.Restarted(f)
		}
	}
	return true
}

// restart stops and starts the action for a family, and so for those that share its start. Whether it can be stopped is
// not asked: something of it is missing. (fail2ban does not start what families share again.)
func (q *Queue) restart(ctx context.Context, family string) bool {
	for _, do := range []string{stop, start} {
		q.note(do, family, q.o.Text(do, family), false)
	}
	if len(q.sharing(family)) > 0 {
		q.started[family] |= isStarted
	}
	q.stop(ctx, []string{family})
	return q.start(ctx, []string{family})
}

// sharing are the families that are started and have the same start as this one.
func (q *Queue) sharing(family string) []string {
	var all []string
	for _, f := range slices.Sorted(maps.Keys(q.started)) {
		if q.started[f] != 0 && q.o.Text(start, f) == q.o.Text(start, family) {
			all = append(all, f)
		}
	}
	return all
}

// start starts the action for some families. One command that several families share runs once.
func (q *Queue) start(ctx context.Context, families []string) bool {
	return q.operate(ctx, start, families, func(family string, ok bool) {
		if ok {
			delete(q.done[stop], family)
			q.started[family] |= isStarted
		}
	})
}

func (q *Queue) stop(ctx context.Context, families []string) bool {
	var begun []string
	for _, family := range families {
		if q.started[family] != 0 {
			begun = append(begun, family)
		}
		q.started[family] = 0
	}
	return q.operate(ctx, stop, begun, func(family string, ok bool) {
		if ok {
			delete(q.done[start], family)
		}
	})
}

// flushAll lifts everything with one command, if the action has one and holds somebody.
func (q *Queue) flushAll(ctx context.Context) {
	var families []string
	for _, family := range slices.Sorted(maps.Keys(q.started)) {
		if q.started[family]&hasItems != 0 && q.o.Text(flush, family) != "" {
			families = append(families, family)
		}
	}
	delete(q.done, flush)
	q.operate(ctx, flush, families, func(family string, ok bool) {
		if ok {
			q.started[family] &^= hasItems
		}
	})
}

// operate runs a command that concerns no ban, once for each text that differs.
func (q *Queue) operate(ctx context.Context, do string, families []string, after func(family string, ok bool)) bool {
	all := true
	for _, family := range families {
		text := q.o.Text(do, family)
		ok := true
		if text != "" && !q.ranElsewhere(do, family, text) {
			ok = q.runIdle(ctx, do, family)
		}
		after(family, ok)
		q.note(do, family, text, ok)
		all = all && ok
	}
	return all
}

// ranElsewhere says whether another family has run this very command.
func (q *Queue) ranElsewhere(do, family, text string) bool {
	for other, t := range q.done[do] {
		if other != family && t == text {
			return true
		}
	}
	return false
}

// note remembers that a command ran, or that it must be run again by whoever shares it.
func (q *Queue) note(do, family, text string, ok bool) {
	if q.done[do] == nil {
		q.done[do] = map[string]string{}
	}
	if ok {
		q.done[do][family] = text
		return
	}
	maps.DeleteFunc(q.done[do], func(f, t string) bool { return f == family || t == text })
}

func (q *Queue) runIdle(ctx context.Context, do, family string) bool {
	var values map[string]string
	if q.o.Idle != nil {
		values = q.o.Idle(do, family)
	}
	return q.run(ctx, do, family, values)
}

// Waits between two attempts to reach a runner that is not there.
const (
	firstWait = time.Second
	longWait  = 30 * time.Second
)

// run has one command run and says whether it succeeded. A runner that is not there is waited for: nothing was begun.
func (q *Queue) run(ctx context.Context, do, family string, values map[string]string) bool {
	for wait := firstWait; ; wait = min(2*wait, longWait) {
		result, err := q.o.Run(ctx, do, family, values)
		if errors.Is(err, exec.ErrUnreachable) && q.later(ctx, err, wait) {
			continue
		}
		if err != nil && ctx.Err() != nil {
			return false // killed at the end; that is said by whoever ends us
		}
		q.count(do, &result, err)
		return err == nil && result.OK()
	}
}

// later waits before another attempt, and says whether there is to be one.
func (q *Queue) later(ctx context.Context, err error, wait time.Duration) bool {
	q.mu.Lock()
	ending := q.ending
	q.stats.LastError, q.stats.LastAt = err.Error(), time.Now()
	q.mu.Unlock()
	if ending || ctx.Err() != nil {
		return false
	}
	q.quiet.say(time.Now(), func(int) { q.o.Log.Warn("the action waits", "err", err) })
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			return true
		case <-ctx.Done():
			return false
		case <-q.wake:
			q.mu.Lock()
			ending := q.ending
			q.mu.Unlock()
			if ending {
				q.poke()
				return false
			}
		}
	}
}

// count notes how a command went.
func (q *Queue) count(do string, r *exec.Result, err error) {
	q.mu.Lock()
	if r.Ran {
		q.stats.Runs++
	}
	ok := err == nil && (r.OK() || do == check && r.Ran) // a check that fails is an answer
	if !ok {
		q.stats.Failures++
		q.stats.LastError, q.stats.LastAt = do+": "+what(r, err), time.Now()
	}
	q.mu.Unlock()
	if ok {
		return
	}
	q.quiet.say(time.Now(), func(more int) {
		args := []any{"do", do, "err", what(r, err)}
		if r.Out != "" {
			args = append(args, "stdout", r.Out)
		}
		if r.Err != "" {
			args = append(args, "stderr", r.Err)
		}
		if more > 0 {
			args = append(args, "n", more)
		}
		q.o.Log.Error("the action failed", args...)
	})
}

// what says why a command did not succeed.
func what(r *exec.Result, err error) string {
	switch {
	case err != nil:
		return err.Error()
	case r.Problem != "":
		return r.Problem
	case r.Err != "":
		lines := strings.Split(strings.TrimSpace(r.Err), "\n")
		return fmt.Sprintf("%s (exit code %d)", cmp.Or(lines[len(lines)-1], "failed"), r.Code)
	}
	return fmt.Sprintf("exit code %d", r.Code)
}

// quiet lets one of many equal complaints through: the first, and then one every ten seconds.
type quiet struct {
	last time.Time
	kept int
}

func (t *quiet) say(now time.Time, f func(kept int)) {
	if !t.last.IsZero() && now.Sub(t.last) < 10*time.Second {
		t.kept++
		return
	}
	f(t.kept)
	t.last, t.kept = now, 0
}
