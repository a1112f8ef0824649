package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"tocsin"
)

// way is one receiver of a contact, with what waits for it.
type way struct {
	via  string // as in tocsin.Notice
	to   string // for people; no secret
	send func(ctx context.Context, l *letter, say func(string)) (said string, err error)

	mu     sync.Mutex
	queue  []tocsin.Notice
	lost   int       // that found no room
	fails  int       // in a row
	until  time.Time // nothing is tried before
	since  time.Time // when it began to fail; zero: it does not
	failed string    // why
	sent   time.Time // last success
	gaveUp time.Time // when a message was given up last
	wake   chan struct{}
}

// Status is how one receiver does.
type Status struct {
	Contact, Via, To string
	Waiting          int       // messages that are due or held back
	Lost             int       // messages that found no room
	Sent             time.Time // the last success; zero: none since the start
	Since            time.Time // since when it fails; zero: it does not
	Problem          string    // why
	GaveUp           time.Time // when a message was given up last; zero: none since the start
}

// Status tells how each receiver does.
func (n *Notifier) Status() (all []Status) {
	for _, p := range n.people {
		for _, w := range p.ways {
			w.mu.Lock()
			all = append(all, Status{p.Name, w.via, w.to, len(w.queue), w.lost, w.sent, w.since, w.failed, w.gaveUp})
			w.mu.Unlock()
		}
	}
	return all
}

// sendTime is how long one message may take, whatever the receiver does.
const sendTime = time.Minute

// waits are the pauses between tries of one message; the last holds for all further ones.
var waits = []time.Duration{30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 20 * time.Minute, 30 * time.Minute, time.Hour}

// Pauses of a receiver that fails: other messages wait no longer than mostPause for it, unless it asks for more itself.
const (
	mostPause  = 5 * time.Minute
	mostAsked  = 6 * time.Hour
	noticeLook = time.Minute // how often the queue is looked at again, whatever the clock does
)

// permanent is an error that another try does not mend.
type permanent struct{ error }

// later is an error of a receiver that says when to come again.
type later struct {
	error
	after time.Duration
}

func (e permanent) Unwrap() error { return e.error }
func (e later) Unwrap() error     { return e.error }

// add queues a notice. Of too many the least urgent and oldest is lost.
func (w *way) add(m tocsin.Notice) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.queue = append(w.queue, m)
	if len(w.queue) > maxQueue {
		least := 0
		for i := range w.queue {
			if w.queue[i].Urgency < w.queue[least].Urgency {
				least = i
			}
		}
		w.queue = slices.Delete(w.queue, least, least+1)
		w.lost++
	}
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// work sends what is due to one receiver until ctx ends.
func (n *Notifier) work(ctx context.Context, p *person, w *way) {
	for ctx.Err() == nil {
		batch, wait := w.next(time.Now())
		if len(batch) == 0 {
			t := time.NewTimer(wait)
			select {
			case <-t.C:
			case <-w.wake:
			case <-ctx.Done():
			}
			t.Stop()
			continue
		}
		n.deliver(ctx, p, w, batch)
	}
}

// next takes out what is to be sent now as one message, or says how long nothing is.
func (w *way) next(now time.Time) (batch []tocsin.Notice, wait time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	wait = noticeLook
	if w.until.After(now) {
		return nil, min(wait, w.until.Sub(now))
	}
	best := -1
	for i, m := range w.queue {
		switch {
		case m.Due.After(now):
			wait = min(wait, m.Due.Sub(now))
		case best < 0 || m.Urgency > w.queue[best].Urgency || m.Urgency == w.queue[best].Urgency && m.Made.Before(w.queue[best].Made):
			best = i
		}
	}
	if best < 0 {
		return nil, wait
	}
	first := w.queue[best]
	w.queue = slices.DeleteFunc(w.queue, func(m tocsin.Notice) bool {
		take := m.ID == first.ID || first.Fold && m.Fold && !m.Due.After(now)
		if take {
			batch = append(batch, m)
		}
		return take
	})
	return batch, 0
}

// deliver sends one message and notes how that went.
func (n *Notifier) deliver(ctx context.Context, p *person, w *way, batch []tocsin.Notice) {
	l, err := n.compose(p, w, batch)
	said := ""
	if err == nil {
		sending, cancel := context.WithTimeout(ctx, sendTime)
		said, err = w.send(sending, l, func(string) {})
		cancel()
	}
	if ctx.Err() != nil {
		w.back(batch)
		return // nobody knows how far it came: it waits in the outbox
	}
	now := time.Now()
	if err != nil {
		said = err.Error()
	}
	ended := w.settle(batch, said, err, now)
	if err := n.o.Outbox.PutNotices(context.WithoutCancel(ctx), batch, nil); err != nil {
		n.o.Log.Error("cannot keep what was told to whom", "err", err)
	}
	log := n.o.Log.With("contact", p.Name, "via", w.via)
	switch {
	case err == nil:
		log.Info("told", "n", len(batch))
		n.mu.Lock()
		for _, m := range batch {
			if t, ok := p.told[m.Incident]; ok && m.Incident != 0 {
				t.sent = true
				p.told[m.Incident] = t
			}
		}
		n.mu.Unlock()
	case ended:
		log.Error("a message was given up; tocsin notify test "+p.Name+" tries the way", "err", err)
	default:
		log.Warn("a message was not taken, trying again", "err", err)
	}
}

// back puts a batch back into the queue.
func (w *way) back(batch []tocsin.Notice) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.queue = append(w.queue, batch...)
}

// settle notes how a batch went; ended says whether it is over with.
func (w *way) settle(batch []tocsin.Notice, said string, err error, now time.Time) (ended bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	state := tocsin.Waiting
	var hopeless permanent
	switch {
	case err == nil:
		state = tocsin.Sent
		w.fails, w.until, w.since, w.failed, w.sent = 0, time.Time{}, time.Time{}, "", now
	case errors.As(err, &hopeless), now.Sub(batch[0].Made) >= giveUp && now.Sub(batch[0].Due) >= 0 && batch[0].Tries >= len(waits):
		state = tocsin.Failed
		w.gaveUp, w.failed = now, said
	}
	if state == tocsin.Waiting {
		w.pause(err, said, now)
	}
	for i := range batch {
		m := &batch[i]
		m.Tries++
		m.State, m.Said = state, clip(tocsin.Printable(said), maxSaid)
		if state == tocsin.Waiting {
			m.Due = now.Add(max(waits[min(m.Tries, len(waits))-1], w.until.Sub(now)))
			w.queue = append(w.queue, *m)
		} else {
			m.Ended = now
		}
	}
	return state != tocsin.Waiting
}

// pause keeps a receiver that fails from being asked too often.
func (w *way) pause(err error, said string, now time.Time) {
	if w.fails++; w.since.IsZero() {
		w.since = now
	}
	w.failed = said
	wait := min(waits[min(w.fails, len(waits))-1], mostPause)
	var asked later
	if errors.As(err, &asked) {
		wait = min(max(wait, asked.after), mostAsked)
	}
	w.until = now.Add(wait)
}

// maxSaid is how much of a receiver's words is kept, in runes.
const maxSaid = 200

// compose makes a letter of a batch.
func (n *Notifier) compose(p *person, w *way, batch []tocsin.Notice) (*letter, error) {
	all := make([]body, len(batch))
	for i, m := range batch {
		if err := json.Unmarshal(m.Body, &all[i]); err != nil {
			return nil, permanent{fmt.Errorf("the message in the outbox cannot be read: %w", err)}
		}
	}
	m, b := &batch[0], &all[0]
	switch {
	case len(batch) > 1:
		return n.rest(p, all, m), nil
	case m.Kind == kindDigest:
		return &letter{id: m.ID, kind: kindDigest, subject: b.Subject, title: b.Subject, text: b.Text, at: m.Made, picture: b.Picture}, nil
	case b.Change == nil:
		return nil, permanent{errors.New("the message in the outbox says nothing")}
	}
	return n.tell(p, b, m), nil
}

// Trial is how a test of one receiver went.
type Trial struct {
	Contact, Via, To string
	Steps            []string // what was done, the receiver's words among it
	Err              error    // nil: it took the message
}

// testTime is how long a test of one receiver may take.
const testTime = 20 * time.Second

// Test sends a message to every receiver of a contact, or of all for "", without the outbox, all at once.
func (n *Notifier) Test(ctx context.Context, contact string) []Trial {
	var all []*Trial
	var wg sync.WaitGroup
	for _, p := range n.people {
		if contact != "" && p.Name != contact {
			continue
		}
		for _, w := range p.ways {
			t := &Trial{Contact: p.Name, Via: w.via, To: w.to}
			all = append(all, t)
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(ctx, testTime)
				defer cancel()
				said, err := w.send(ctx, n.trial(p), func(step string) { t.Steps = append(t.Steps, tocsin.Printable(step)) })
				if t.Err = err; err == nil {
					t.Steps = append(t.Steps, "accepted: "+clip(tocsin.Printable(said), maxSaid))
				}
			})
		}
	}
	wg.Wait()
	done := make([]Trial, len(all))
	for i, t := range all {
		done[i] = *t
	}
	return done
}
