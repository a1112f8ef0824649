// Package action carries the bans of a jail to one action of the user: in order, one command at a time, however long the
// commands take.
//
// It owns what waits, when an action is started, checked, repaired and stopped, and what is tried again. It runs no
// command itself, knows no configuration and does not put values into commands: Options bring that.
//
// The one thing to know: nobody waits for a queue. Ban and Unban note what is to be done and return; the one goroutine in
// Work does it. When more bans wait than there is room for, the oldest is dropped and counted. Lifting is never dropped.
//
// The behaviour is that of fail2ban 1.0.2 (server/action.py), but for one thing: when an action had to be restarted it is
// told of all running bans again, not only of those that are found again.
package action

import (
	"container/list"
	"context"
	"log/slog"
	"sync"
	"time"

	"tocsin/internal/exec"
)

// The commands of an action, by the names that they have in its file.
const (
	start   = "actionstart"
	stop    = "actionstop"
	check   = "actioncheck"
	repair  = "actionrepair"
	flush   = "actionflush"
	ban     = "actionban"
	reban   = "actionreban"
	prolong = "actionprolong"
	unban   = "actionunban"
)

const (
	defaultLimit = 10_000
	bansFirst    = 10 // so many bans are done while something waits to be lifted
)

// Options are what a queue needs to know of its action.
type Options struct {
	// Run runs one of the action's commands. values are those of the ban, or of Idle.
	Run func(ctx context.Context, do, family string, values map[string]string) (exec.Result, error)
	// Text is a command as it stands before a ban is put in, "" if the action has none. Two families with the same text
	// share one start and one stop.
	Text func(do, family string) string
	// Idle are the values of a command that concerns no ban. nil: none.
	Idle func(do, family string) map[string]string
	// Restarted is told, in the goroutine of Work, that the action had to be restarted for a family, "" for ids that are no
	// address, and may have lost its bans: Reban brings them back. nil: nobody is told.
	Restarted func(family string)

	OnDemand      bool     // start at the first ban of each family, not at once
	Families      []string // that are started at once; empty: one start for all
	Norestored    bool     // bans that were in force before the program began are none of its business
	RepairOnUnban bool
	Limit         int // bans that may wait, beside those that are restored; 0: 10,000
	Log           *slog.Logger
}

// Notice is a ban, or the end of one.
type Notice struct {
	ID       string
	Family   string // "inet4", "inet6", or "" for an id that is no address
	Restored bool   // Ban: in force before the program began. Unban: ended before it began
	// Values are asked for when the turn has come; they may take their time.
	Values func(context.Context) map[string]string
}

// Stats are the counters of a queue.
type Stats struct {
	Runs      uint64 // commands run
	Failures  uint64 // of these, those that failed
	Dropped   uint64 // bans dropped for lack of room
	Waiting   int
	LastError string    // why the last command that failed did, or why there is nobody to run one; "" if all went well
	LastAt    time.Time // when that was
}

// Queue carries bans to one action. Its methods may be called by several goroutines.
type Queue struct {
	o    Options
	wake chan struct{} // something waits, or End was called; holds one

	mu      sync.Mutex
	bans    list.List // of *item, oldest first
	old     list.List // the same of bans that are restored: no fewer are told than run, but new ones are told first
	unbans  list.List
	byID    map[string]*waiting
	current string // id of the ban that is being carried out
	ending  bool
	flushes bool // everything is to be lifted before anything else
	stats   Stats

	// Of the goroutine in Work.
	started map[string]state             // by family
	done    map[string]map[string]string // command texts that ran, by what they do and family
	inRow   int                          // bans done while something waited to be lifted
	quiet   quiet
}

// item is one thing to do.
type item struct {
	do string
	Notice
}

// waiting is what waits for one id: at most the end of an old ban, and then a new one.
type waiting struct{ ban, unban *list.Element }

// state is what is known of one family of an action.
type state uint8

const (
	isStarted state = 1 << iota
	hasItems        // somebody is banned in it
)

// New makes a queue. Work has to be called for anything to happen.
func New(o Options) *Queue {
	if o.Limit <= 0 {
		o.Limit = defaultLimit
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if len(o.Families) == 0 {
		o.Families = []string{""}
	}
	return &Queue{
		o: o, wake: make(chan struct{}, 1), byID: map[string]*waiting{},
		started: map[string]state{}, done: map[string]map[string]string{},
	}
}

// Ban notes that an id is banned.
func (q *Queue) Ban(n Notice) { q.add(item{ban, n}) }

// Reban notes that a running ban must be made good again, after Restarted.
func (q *Queue) Reban(n Notice) {
	do := reban
	if q.o.Text(reban, n.Family) == "" {
		do = ban
	}
	q.mu.Lock()
	isCurrent := q.current == n.ID
	q.mu.Unlock()
	if !isCurrent { // it is just about to be tried again
		q.add(item{do, n})
	}
}

// Prolong notes that a running ban ends later than was said.
func (q *Queue) Prolong(n Notice) {
	if q.o.Text(prolong, n.Family) != "" {
		q.add(item{prolong, n})
	}
}

// Unban notes that a ban has ended. If the ban still waits, neither is carried out.
func (q *Queue) Unban(n Notice) {
	if q.o.Text(unban, n.Family) == "" {
		return // nothing to lift, and who is told of bans is told of short ones too
	}
	q.add(item{unban, n})
}

// add puts an item in its place.
func (q *Queue) add(it item) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ending {
		return
	}
	w := q.byID[it.ID]
	if w == nil {
		w = &waiting{}
		q.byID[it.ID] = w
	}
	switch {
	case it.do == unban && w.ban != nil && q.carriesOff(w):
		// The ban, which nobody has been told of, goes; an older one that waits to be lifted stays.
	case it.do == unban && w.unban == nil:
		w.unban = q.unbans.PushBack(&it)
	case it.do == unban:
	case w.ban != nil:
		// Nobody was told of the one that waits; what is newer counts. A ban stays a ban.
		old := w.ban.Value.(*item)
		if old.do == ban && it.do != ban {
			it.do = ban
		}
		w.ban.Value = &it
	case it.Restored:
		w.ban = q.old.PushBack(&it)
	default:
		q.makeRoom()
		w.ban = q.bans.PushBack(&it)
	}
	q.forgetIfEmpty(it.ID)
	q.poke()
}

// carriesOff drops the ban that waits and says whether there is nothing left to lift: a longer or repeated ban is one that
// the action was told of before.
func (q *Queue) carriesOff(w *waiting) bool {
	it := q.dropBan(w.ban)
	w.ban = nil
	return it.do == ban
}

// dropBan takes a ban out of the list that it is in.
func (q *Queue) dropBan(e *list.Element) *item {
	q.bans.Remove(e)
	q.old.Remove(e)
	return e.Value.(*item)
}

// makeRoom drops the oldest ban if there is no room for another.
func (q *Queue) makeRoom() {
	if q.bans.Len() < q.o.Limit {
		return
	}
	first := q.dropBan(q.bans.Front())
	q.byID[first.ID].ban = nil
	q.forgetIfEmpty(first.ID)
	q.stats.Dropped++
}

func (q *Queue) forgetIfEmpty(id string) {
	if w := q.byID[id]; w != nil && w.ban == nil && w.unban == nil {
		delete(q.byID, id)
	}
}

func (q *Queue) poke() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// CanFlush says whether the action can lift all its bans with one command.
func (q *Queue) CanFlush() bool {
	for _, family := range []string{"", "inet4", "inet6"} {
		if q.o.Text(flush, family) != "" {
			return true
		}
	}
	return false
}

// Flush lifts all bans with one command, and forgets what waits. It may be used only if CanFlush.
func (q *Queue) Flush() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.clear()
	q.flushes = true
	q.poke()
}

func (q *Queue) clear() {
	q.bans.Init()
	q.old.Init()
	q.unbans.Init()
	clear(q.byID)
}

// End lets Work return once it has done what cannot be left undone: what is only told (an action that has nothing to lift)
// and what waits to be lifted; then it flushes, if the action can, and stops. Bans that wait and would be lifted again are
// dropped. Nothing is added any more.
func (q *Queue) End() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ending = true
	q.poke()
}

// Stats returns the counters.
func (q *Queue) Stats() Stats {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.stats
	s.Waiting = q.bans.Len() + q.old.Len() + q.unbans.Len()
	return s
}

// next takes what is to be done now. It waits for it, and returns nil when there is nothing more to come.
func (q *Queue) next(ctx context.Context) *item {
	for ctx.Err() == nil {
		if it, over := q.take(); it != nil || over {
			return it
		}
		select {
		case <-q.wake:
		case <-ctx.Done():
		}
	}
	return nil
}

func (q *Queue) take() (it *item, over bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.current = ""
	if q.flushes {
		q.flushes = false
		return &item{do: flush}, false
	}
	if q.ending {
		q.dropForEnd()
	}
	e := q.bans.Front()
	if e == nil {
		e = q.old.Front()
	}
	if u := q.unbans.Front(); u != nil && (e == nil || q.inRow >= bansFirst) {
		e = u
	}
	if e == nil {
		return nil, q.ending
	}
	it = e.Value.(*item)
	w := q.byID[it.ID]
	if w.unban != nil { // the former ban of an id is lifted before its new one
		it = q.unbans.Remove(w.unban).(*item)
		w.unban, q.inRow = nil, 0
	} else {
		q.dropBan(e)
		w.ban, q.current = nil, it.ID
		q.inRow++
	}
	q.forgetIfEmpty(it.ID)
	return it, false
}

// dropForEnd forgets what a flush will do at once, and bans that would have to be lifted.
func (q *Queue) dropForEnd() {
	if q.CanFlush() {
		q.clear()
		return
	}
	for _, waiting := range []*list.List{&q.bans, &q.old} {
		var next *list.Element
		for e := waiting.Front(); e != nil; e = next {
			next = e.Next()
			it := e.Value.(*item)
			if q.o.Text(unban, it.Family) == "" {
				continue
			}
			waiting.Remove(e)
			q.byID[it.ID].ban = nil
			q.forgetIfEmpty(it.ID)
		}
	}
}
