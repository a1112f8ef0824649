package report

import (
	"container/heap"
	"slices"
	"time"

	"tocsin"
)

// entry is a report on its way, and where it waits.
type entry struct {
	tocsin.QueuedReport
	line  *line // nil: it is being sent
	place int   // in line
}

// unsure says that the server may have it.
func (e *entry) unsure() bool { return !e.Attempt.IsZero() }

// line is a queue in some order, out of whose middle can be taken.
type line struct {
	all    []*entry
	before func(a, b *entry) bool
}

func (l *line) Len() int           { return len(l.all) }
func (l *line) Less(i, j int) bool { return l.before(l.all[i], l.all[j]) }
func (l *line) Swap(i, j int) {
	l.all[i], l.all[j] = l.all[j], l.all[i]
	l.all[i].place, l.all[j].place = i, j
}

// Push is for container/heap.
func (l *line) Push(x any) {
	e := x.(*entry)
	e.place = len(l.all)
	l.all = append(l.all, e)
}

// Pop is for container/heap.
func (l *line) Pop() any {
	n := len(l.all) - 1
	e := l.all[n]
	l.all[n] = nil
	l.all = l.all[:n]
	return e
}

func (l *line) first() *entry {
	if len(l.all) == 0 {
		return nil
	}
	return l.all[0]
}

// soonest are the first n entries, or all that there are, in order.
func (l *line) soonest(n int) []*entry {
	all := slices.SortedFunc(slices.Values(l.all), func(a, b *entry) int {
		switch {
		case l.before(a, b):
			return -1
		case l.before(b, a):
			return 1
		}
		return 0
	})
	return all[:min(max(n, 0), len(all))]
}

func (l *line) add(e *entry) {
	e.line = l
	heap.Push(l, e)
}

// leave takes an entry out of the line it stands in.
func (e *entry) leave() {
	if e.line != nil {
		heap.Remove(e.line, e.place)
		e.line = nil
	}
}

// The ranks of what is ready: what was sent without an answer first, for its time is short.
const (
	bulkAgain = iota
	again
	severe
	ordinary
	ranks
)

// lines are where entries wait: held until their hold is over, then later until they are due, then ready.
type lines struct {
	held, later line
	ready       [ranks]line
}

func newLines() *lines {
	l := &lines{
		held:  line{before: func(a, b *entry) bool { return a.Hold.Before(b.Hold) }},
		later: line{before: func(a, b *entry) bool { return a.Due.Before(b.Due) }},
	}
	for i := range l.ready {
		l.ready[i].before = func(a, b *entry) bool {
			if !a.First.Equal(b.First) {
				return a.First.Before(b.First)
			}
			return a.Addr.Less(b.Addr)
		}
	}
	return l
}

// soonest is the earlier of two times.
func soonest(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
