package account

import (
	"cmp"
	"sync"
	"time"
)

// Bounds of the throttle.
const (
	freeTries   = 5 // that cost no wait, where Free says nothing
	mostWait    = time.Minute
	mostTriers  = 10_000
	forgetTries = 15 * time.Minute // after the last
)

// Throttle makes whoever guesses passwords wait: each failure after the fifth doubles the wait, up to a minute. What is
// counted is a name, a name and an address, or an address alone. It may be used by several goroutines. The zero Throttle is
// ready.
type Throttle struct {
	Free int           // how many failures cost no wait; 0: five
	Most time.Duration // the longest wait; 0: a minute

	mu    sync.Mutex
	tries map[string]tries
}

type tries struct {
	n    int
	last time.Time
}

// Try says how long key has to wait before it may try at now. 0: it may, and counts as failed until Succeeded or Undo says
// otherwise: many tries at once are no way round the wait.
func (t *Throttle) Try(key string, now time.Time) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	wait := t.wait(key, now)
	if wait == 0 {
		t.failed(key, now)
	}
	return wait
}

func (t *Throttle) wait(key string, now time.Time) time.Duration {
	k, free, wait := t.tries[key], cmp.Or(t.Free, freeTries), cmp.Or(t.Most, mostWait)
	if k.n < free || now.Sub(k.last) > forgetTries {
		return 0
	}
	if over := k.n - free; over < 6 {
		wait = min(wait, time.Second<<over)
	}
	return max(0, k.last.Add(wait).Sub(now))
}

func (t *Throttle) failed(key string, now time.Time) {
	if t.tries == nil {
		t.tries = map[string]tries{}
	}
	if _, ok := t.tries[key]; !ok && len(t.tries) >= mostTriers {
		t.makeRoom(now)
	}
	k := t.tries[key]
	if now.Sub(k.last) > forgetTries {
		k.n = 0
	}
	t.tries[key] = tries{k.n + 1, now}
}

// Undo takes a try back: it could not be made.
func (t *Throttle) Undo(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if k := t.tries[key]; k.n > 1 {
		t.tries[key] = tries{k.n - 1, k.last}
	} else {
		delete(t.tries, key)
	}
}

// makeRoom forgets who is to be forgotten, or else whoever failed least: to fill it one has to fail often.
func (t *Throttle) makeRoom(now time.Time) {
	least := ""
	for key, k := range t.tries {
		if now.Sub(k.last) > forgetTries {
			delete(t.tries, key)
		} else if l, ok := t.tries[least]; !ok || k.n < l.n || k.n == l.n && k.last.Before(l.last) {
			least = key
		}
	}
	if len(t.tries) >= mostTriers {
		delete(t.tries, least)
	}
}

// Succeeded forgets the failures of key.
func (t *Throttle) Succeeded(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.tries, key)
}
