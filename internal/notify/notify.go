// Package notify tells people: what an incident does becomes messages by mail, ntfy, webhook or command, and a digest in
// the morning.
//
// It decides who is told, when and how often: least urgency, groups, quiet hours, messages an hour. What is wrong, and
// whether that is worth telling, others decide (tocsin.Change). Each receiver has a queue and a goroutine of its own, so
// that one that hangs delays nobody; what waits is kept in the outbox, and tried for a day.
//
// The one thing to know: a doubled message is better than a lost one. A message whose end nobody knows is sent again, with
// the same Message-ID.
package notify

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"tocsin"
	"tocsin/internal/locale"
)

// Hours are hours of the day, from one time to another, which may be of the next day. The zero Hours are none.
type Hours struct{ From, To time.Duration } // since midnight

// Contact is somebody who is told.
type Contact struct {
	Name    string
	Locale  *locale.Locale // language and zone
	Urgency tocsin.Urgency // nothing less urgent is told
	Groups  []string       // with the groups within them; empty: all
	Quiet   Hours          // only what is urgent is told meanwhile
	PerHour int            // messages; the rest becomes one
	Digest  time.Duration  // time of day, since midnight; negative: none

	Mail      []string // addresses
	Ntfy      string   // URL of a topic; "": none
	NtfyToken string   // path of a file; "": none
	Webhook   string   // URL; "": none
	Secret    string   // path of the file with the key that signs; "": none
	Command   bool     // Options.Command is asked to run the contact's command
	Template  string   // of the command's text, in Munin's language; "": Munin's usual text
}

// Mail says how mail leaves.
type Mail struct {
	From         string // an address
	Server       string // "sendmail", "smtp://[USER@]HOST[:PORT]", "smtps://..."
	PasswordFile string
}

// Options are what a Notifier is made with.
type Options struct {
	Contacts []Contact
	Mail     Mail
	URL      string // of the pages, without a slash at its end; "": there are none to link to
	Host     string // what this machine is called
	Version  string
	Outbox   outbox
	// Command runs a contact's command with text on its standard input and values in its environment; what it printed is
	// returned. nil: no command is run.
	Command func(ctx context.Context, contact, text string, values map[string]string) (said string, err error)
	// Sendmail hands a whole message to this machine's own mail.
	Sendmail func(ctx context.Context, message []byte) (said string, err error)
	// Title knows a service's title and category; nil: nobody does.
	Title func(tocsin.Series) (title, category string)
	// Night tells what happened, for the digest; nil: there is none.
	Night func(ctx context.Context, from, to time.Time) (Night, error)
	// Picture draws the bans of the days before a time as PNG, for the digest by mail; nil, or no bytes: there is none.
	Picture func(ctx context.Context, l *locale.Locale, to time.Time) ([]byte, error)
	Deadman string       // URL; "": none
	Alive   func() error // why Deadman must not be asked now
	Log     *slog.Logger

	Dial    func(ctx context.Context, network, addr string) (net.Conn, error) // in the place of the network, for tests
	RootCAs *x509.CertPool                                                    // in the place of the machine's, for tests
}

// outbox is what keeps messages over a restart.
type outbox interface {
	AddNotices(ctx context.Context, all []tocsin.Notice) error
	PutNotices(ctx context.Context, all []tocsin.Notice, drop []int64) error
	WaitingNotices(ctx context.Context) ([]tocsin.Notice, error)
	EndedNotices(ctx context.Context, since time.Time) ([]tocsin.Notice, error)
}

// Bounds.
const (
	remembers = 30 * 24 * time.Hour // that somebody was told of an incident
	maxTold   = 10_000              // incidents of a contact
	maxQueue  = 1_000               // notices that wait for one receiver
	giveUp    = 24 * time.Hour      // after which a message is old news
)

// Notifier tells people. Its methods may be called by many at once.
type Notifier struct {
	o Options

	mu     sync.Mutex
	people []*person
	last   int64 // below zero: numbers of notices that the outbox did not take
}

// person is a contact with what is remembered of it.
type person struct {
	Contact
	ways   []*way
	told   map[int64]told
	recent []time.Time // when messages were due, of the last hour
	fold   time.Time   // when what is too much for an hour is told
	digest time.Time   // when the last digest was made
}

// told is what a contact knows of an incident.
type told struct {
	title string // of the first message
	sent  bool   // or on its way: not held back
	at    time.Time
}

// New makes a Notifier and takes up what waits in the outbox.
func New(ctx context.Context, o Options) (*Notifier, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	n := &Notifier{o: o}
	names := map[string]bool{}
	for _, c := range o.Contacts {
		if names[c.Name] || c.Locale == nil || c.PerHour < 1 {
			return nil, fmt.Errorf("contact %q: there are two, or it has no language, or no messages an hour", c.Name)
		}
		names[c.Name] = true
		p := &person{Contact: c, told: map[int64]told{}}
		if err := n.ways(p); err != nil {
			return nil, fmt.Errorf("contact %s: %w", c.Name, err)
		}
		n.people = append(n.people, p)
	}
	return n, n.recall(ctx)
}

// recall takes up what is in the outbox.
func (n *Notifier) recall(ctx context.Context) error {
	now := time.Now()
	ended, err := n.o.Outbox.EndedNotices(ctx, now.Add(-remembers))
	if err != nil {
		return err
	}
	waiting, err := n.o.Outbox.WaitingNotices(ctx)
	if err != nil {
		return err
	}
	var lost []tocsin.Notice
	for i, all := range [][]tocsin.Notice{ended, waiting} {
		for _, m := range all {
			p, w := n.find(m.Contact, m.Via)
			if p != nil {
				p.remember(&m, now)
			}
			switch {
			case i == 0:
			case w == nil:
				m.State, m.Ended, m.Said = tocsin.Failed, now, "the configuration has no such receiver any more"
				lost = append(lost, m)
			default:
				w.queue = append(w.queue, m)
			}
		}
	}
	if len(lost) == 0 {
		return nil
	}
	return n.o.Outbox.PutNotices(ctx, lost, nil)
}

func (n *Notifier) find(contact, via string) (*person, *way) {
	for _, p := range n.people {
		if p.Name != contact {
			continue
		}
		for _, w := range p.ways {
			if w.via == via {
				return p, w
			}
		}
		return p, nil
	}
	return nil, nil
}

// remember takes in a notice of before the restart.
func (p *person) remember(m *tocsin.Notice, now time.Time) {
	var b body
	if m.State == tocsin.Failed || json.Unmarshal(m.Body, &b) != nil {
		return
	}
	if m.Kind == kindDigest && m.Made.After(p.digest) {
		p.digest = m.Made
	}
	if m.Incident != 0 {
		t := p.told[m.Incident]
		p.told[m.Incident] = told{title: b.Title, sent: t.sent || m.State == tocsin.Sent || m.Tries > 0 || !m.Due.After(now), at: m.Made}
	}
	switch {
	case m.Fold && m.State == tocsin.Waiting:
		p.fold = m.Due
	case m.Due.After(now.Add(-time.Hour)) && !slices.Contains(p.recent, m.Due):
		p.recent = append(p.recent, m.Due)
	}
}

// Tell queues the messages about a change. They are in the outbox when it returns nil; where that fails they go out all the
// same, as long as this process lives.
func (n *Notifier) Tell(ctx context.Context, c tocsin.Change) error {
	if !c.Tell {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	var add []tocsin.Notice
	var drop []int64
	for _, p := range n.people {
		a, d := p.plan(&c, now)
		add, drop = append(add, a...), append(drop, d...)
	}
	return n.queue(ctx, add, drop)
}

// queue keeps new notices, and forgets others that nobody has seen.
func (n *Notifier) queue(ctx context.Context, add []tocsin.Notice, drop []int64) error {
	var err error
	if len(drop) > 0 {
		err = n.o.Outbox.PutNotices(ctx, nil, drop)
	}
	if len(add) > 0 {
		if failed := n.o.Outbox.AddNotices(ctx, add); failed != nil {
			err = errors.Join(err, failed)
			for i := range add {
				n.last--
				add[i].ID = n.last
			}
		}
	}
	for _, m := range add {
		if _, w := n.find(m.Contact, m.Via); w != nil {
			w.add(m)
		}
	}
	return err
}

// plan says what a contact is told of a change, and which notices that nobody has seen yet are told no more.
func (p *person) plan(c *tocsin.Change, now time.Time) (add []tocsin.Notice, drop []int64) {
	if !p.wants(c) {
		return nil, nil
	}
	t, known := p.told[c.ID]
	if (!known || !t.sent) && (c.Turn == tocsin.Over || c.Turn == tocsin.Acked) {
		delete(p.told, c.ID)
		return nil, p.forget(c.ID, now)
	}
	if !known {
		t.title, _ = p.Locale.Incident(&c.Incident)
		t.title = clip(t.title, maxTitle)
	}
	drop = p.forget(c.ID, now)
	m := tocsin.Notice{Contact: p.Name, Incident: c.ID, Kind: c.Turn.String(), Urgency: c.Urgency, Made: now}
	p.schedule(&m, now)
	first := !t.sent
	t.sent, t.at = t.sent || !m.Due.After(now), now
	p.know(c.ID, t)
	m.Body = encodeBody(body{Change: wireOf(c), Title: t.title, First: first})
	for _, w := range p.ways {
		m.Via = w.via
		add = append(add, m)
	}
	return add, drop
}

// wants says whether a change is any of the contact's business. Who was told that something is wrong is told its end too.
func (p *person) wants(c *tocsin.Change) bool {
	if c.Contacts != nil && !slices.Contains(c.Contacts, p.Name) {
		return false
	}
	if _, known := p.told[c.ID]; !known && c.Urgency < p.Urgency {
		return false
	}
	return len(p.Groups) == 0 || slices.ContainsFunc(p.Groups, func(g string) bool {
		return c.Group == g || strings.HasPrefix(c.Group, g+";")
	})
}

// know remembers what the contact knows of an incident; of too many the one told longest ago is forgotten.
func (p *person) know(id int64, t told) {
	p.told[id] = t
	if len(p.told) <= maxTold {
		return
	}
	oldest := id
	for other, o := range p.told {
		if o.at.Before(p.told[oldest].at) {
			oldest = other
		}
	}
	delete(p.told, oldest)
}

// forget takes notices about an incident out of the queues that were held back and that nobody has seen.
func (p *person) forget(id int64, now time.Time) (drop []int64) {
	for _, w := range p.ways {
		w.mu.Lock()
		w.queue = slices.DeleteFunc(w.queue, func(m tocsin.Notice) bool {
			held := m.Incident == id && m.Tries == 0 && m.Due.After(now)
			if held && m.ID > 0 {
				drop = append(drop, m.ID)
			}
			return held
		})
		w.mu.Unlock()
	}
	return drop
}

// schedule says when a message is due: not in quiet hours, unless it is urgent, and no more than so many an hour.
func (p *person) schedule(m *tocsin.Notice, now time.Time) {
	m.Due = now
	if m.Urgency < tocsin.Urgent {
		m.Due = p.Quiet.after(now.In(p.Locale.Zone()))
	}
	p.recent = slices.DeleteFunc(p.recent, func(t time.Time) bool { return !t.After(now.Add(-time.Hour)) })
	var within []time.Time
	for _, t := range p.recent {
		if t.After(m.Due.Add(-time.Hour)) && !t.After(m.Due) {
			within = append(within, t)
		}
	}
	if len(within) < p.PerHour {
		p.recent = append(p.recent, m.Due)
		return
	}
	slices.SortFunc(within, time.Time.Compare)
	m.Fold = true
	if !p.fold.After(m.Due) {
		p.fold = within[len(within)-p.PerHour].Add(time.Hour)
		p.recent = append(p.recent, p.fold)
	}
	m.Due = p.fold
}

// after is t, or the end of the quiet hours that t is in.
func (h Hours) after(t time.Time) time.Time {
	if h == (Hours{}) {
		return t
	}
	at := time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute
	quiet := at >= h.From && at < h.To
	days := 0
	if h.From > h.To {
		quiet = at >= h.From || at < h.To
		if at >= h.From {
			days = 1
		}
	}
	if !quiet {
		return t
	}
	return dayTime(t, days, h.To)
}

// dayTime is a time of a day in t's zone, so many days later; a time that a change of the clock leaves out is the one after.
func dayTime(t time.Time, days int, at time.Duration) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day()+days, int(at/time.Hour), int(at%time.Hour/time.Minute), 0, 0, t.Location())
}

// Run sends what waits until ctx ends.
func (n *Notifier) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, p := range n.people {
		for _, w := range p.ways {
			wg.Go(func() { n.work(ctx, p, w) })
		}
		if n.o.Night != nil && p.Digest >= 0 {
			wg.Go(func() { n.digests(ctx, p) })
		}
	}
	if n.o.Deadman != "" {
		wg.Go(func() { n.deadman(ctx) })
	}
	wg.Wait()
	return nil
}

// clip cuts s to at most so many runes.
func clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	n := 0
	for i := range s {
		if n++; n > most {
			return s[:i] + "…"
		}
	}
	return s
}
