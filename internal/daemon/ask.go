package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"tocsin"
	"tocsin/internal/fail2ban"
)

// A jail with an ignorecommand asks it before it bans: the decision waits beside the flow until the runner has answered.
// fail2ban asks for every failure, and keeps everything else waiting meanwhile.
const (
	askTime   = time.Minute // fail2ban's limit for every command
	maxAsked  = 512         // decisions that wait; more are carried out unasked
	maxAnswer = 10_000      // answers remembered for one jail
)

// question asks a jail's ignorecommand about somebody whom the jail is about to ban.
type question func(ctx context.Context, jail string, d *tocsin.Decision) (ignore bool, err error)

// asks are the decisions that wait for an answer. The map is the decider's.
type asks struct {
	waiting map[banKey]*tocsin.Decision
	wg      sync.WaitGroup
}

// ignoreCommand is what the decider knows of a jail's ignorecommand: the answers that ignorecache tells it to remember.
type ignoreCommand struct {
	key   string        // with tags: "<ip>"; "" if nothing is remembered
	most  int           // answers
	keep  time.Duration // how long
	known map[string]remembered
}

type remembered struct {
	ignore bool
	until  time.Time
}

// newIgnoreCommand reads a jail's ignorecache: key="<ip>", max-count=100, max-time=5m. "" remembers nothing.
func newIgnoreCommand(cache string) (*ignoreCommand, error) {
	c := &ignoreCommand{most: 100, keep: 5 * time.Minute, known: map[string]remembered{}}
	if strings.TrimSpace(cache) == "" {
		return c, nil
	}
	_, opts, err := fail2ban.ParseSpec("ignorecache[" + cache + "]")
	if err != nil {
		return c, err
	}
	if opts["key"] == "" {
		return c, fmt.Errorf("ignorecache %q has no key", cache)
	}
	if text, ok := opts["max-count"]; ok {
		if c.most, err = strconv.Atoi(text); err != nil || c.most < 1 {
			return c, fmt.Errorf("ignorecache: max-count %q is no count", text)
		}
	}
	if text, ok := opts["max-time"]; ok {
		if c.keep, err = fail2ban.Seconds(text); err != nil {
			return c, fmt.Errorf("ignorecache: max-time: %w", err)
		}
	}
	c.key, c.most = opts["key"], min(c.most, maxAnswer)
	return c, nil
}

// keyOf puts what d tells into the key: <ip>, <fid> and <F-NAME>, which is nothing where the line had no such part. Other
// tags stay as they are; all who are asked about then share one answer only if they share these.
func (c *ignoreCommand) keyOf(d *tocsin.Decision) string {
	var b strings.Builder
	for rest := c.key; ; {
		before, tag, ok := strings.Cut(rest, "<")
		b.WriteString(before)
		if !ok {
			return b.String()
		}
		name, after, closed := strings.Cut(tag, ">")
		field, isField := strings.CutPrefix(name, "F-")
		switch {
		case closed && (name == "ip" || name == "fid" || name == "F-ID"):
			b.WriteString(d.ID)
		case closed && isField:
			if i := slices.IndexFunc(d.Fields, func(f tocsin.Field) bool { return strings.EqualFold(f.Name, field) }); i >= 0 {
				b.WriteString(d.Fields[i].Value)
			}
		default:
			b.WriteByte('<')
			after = tag
		}
		rest = after
	}
}

// answer is what was answered before, if that is remembered.
func (c *ignoreCommand) answer(key string, now time.Time) (ignore, known bool) {
	a, ok := c.known[key]
	return a.ignore, c.key != "" && ok && now.Before(a.until)
}

func (c *ignoreCommand) remember(key string, ignore bool, now time.Time) {
	if c.key == "" {
		return
	}
	if _, ok := c.known[key]; !ok && len(c.known) >= c.most {
		var first string
		for k, a := range c.known {
			if first == "" || a.until.Before(c.known[first].until) {
				first = k
			}
		}
		delete(c.known, first)
	}
	c.known[key] = remembered{ignore, now.Add(c.keep)}
}

// useIgnoreCommand gets a cell ready to ask its ignorecommand, if it has one.
func (g *Guard) useIgnoreCommand(c *cell) {
	if c.f2b == nil || c.f2b.Ignorecommand == "" {
		return
	}
	var err error
	if c.asks, err = newIgnoreCommand(c.f2b.Ignorecache); err != nil {
		g.log.Warn("answers of ignorecommand are not remembered", "jail", c.conf.Name, "err", err)
	}
}

// asksFirst says whether a decision is not to be carried out now: whom it bans is ignored, or that has to be asked. Where
// nobody can be asked the ban goes on, and that is said.
func (g *Guard) asksFirst(c *cell, d *tocsin.Decision) bool {
	if c.asks == nil {
		return false
	}
	key := c.asks.keyOf(d)
	if ignore, known := c.asks.answer(key, time.Now()); known {
		if ignore {
			g.ignoreByCommand(c, d)
		}
		return ignore
	}
	k := banKey{d.Jail, d.ID}
	switch {
	case g.ask == nil:
		g.unasked(d, errNoRunner)
		return false
	case len(g.asks.waiting) >= maxAsked:
		g.unasked(d, errTooManyAsked)
		return false
	}
	waiting := *d
	g.asks.waiting[k] = &waiting
	g.asks.wg.Go(func() { g.askAbout(&waiting, key) })
	return true
}

var (
	errNoRunner     = errors.New("nobody is there to run it")
	errTooManyAsked = errors.New("too many bans wait for its answer")
)

func (g *Guard) unasked(d *tocsin.Decision, err error) {
	g.complain("ignorecommand", "banning without the answer of ignorecommand", err, "addr", d.ID, "jail", d.Jail)
}

// askAbout asks and brings the answer to the decider. An answer after its end is lost: the address begins anew.
func (g *Guard) askAbout(d *tocsin.Decision, key string) {
	ctx, cancel := context.WithTimeout(g.life, askTime)
	defer cancel()
	ignore, err := g.ask(ctx, d.Jail, d)
	if g.life.Err() == nil {
		_ = g.do(g.life, func() { g.answeredAbout(d, key, ignore, err) })
	}
}

// answeredAbout carries out a decision that has waited, or drops it. It was dropped already if somebody lifted it.
func (g *Guard) answeredAbout(d *tocsin.Decision, key string, ignore bool, err error) {
	k := banKey{d.Jail, d.ID}
	if g.asks.waiting[k] != d {
		return
	}
	delete(g.asks.waiting, k)
	c := g.cellNamed(d.Jail) // a reload may have come between
	if c == nil {
		return
	}
	if err != nil {
		g.unasked(d, err)
	} else if c.asks != nil {
		c.asks.remember(key, ignore, time.Now())
	}
	if why, spared := g.spares(c, d.Prefix); spared {
		g.log.Info("not banned", "addr", d.ID, "jail", d.Jail, "reason", why)
		c.lift(d.Prefix, d.ID, d.At)
		return
	}
	if ignore && err == nil {
		g.ignoreByCommand(c, d)
		return
	}
	c.jail.Banned(d) // one that was made anew meanwhile has not heard of it
	g.carryOut(c, *d)
}

// ignoreByCommand lets somebody go whom the jail wanted to ban.
func (g *Guard) ignoreByCommand(c *cell, d *tocsin.Decision) {
	c.tally.spared++
	c.lift(d.Prefix, d.ID, d.At)
	g.f2bIgnored(c, d.ID, "command")
	g.log.Info("ignored by command", "addr", d.ID, "jail", d.Jail)
}

// forgetAsked drops the decisions about somebody that wait for an answer.
func (g *Guard) forgetAsked(chosen func(banKey, activeBan) bool) {
	for k, d := range g.asks.waiting {
		if chosen(k, activeBan{at: d.At, until: d.Until, prefix: d.Prefix, origin: d.Origin}) {
			delete(g.asks.waiting, k)
		}
	}
}
