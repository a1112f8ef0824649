package notify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"tocsin"
	"tocsin/internal/locale"
)

// Night is what happened in a night, for the digest and for whoever asks.
type Night struct {
	From, To  time.Time
	Servers   int               // that are supervised
	Silent    []string          // those of them without news now
	Incidents []tocsin.Incident // that were open at some time, the worst first
	Bans      int               // addresses that were banned; -1: nobody knows
	Usual     [2]int            // bans of such a night, from and to; zero: not known
	Reported  int               // addresses that were reported
	Reboots   []Event           // servers that were restarted
	Upgrades  []Event           // servers of which packages were upgraded
}

// Event is something that happened on a server.
type Event struct {
	Server string
	At     time.Time
	N      int // packages
}

// attention says how many incidents somebody should look at: those that are not over, and those that were not small.
func (n *Night) attention() (all []tocsin.Incident) {
	for _, in := range n.Incidents {
		if in.Ended.IsZero() || in.Worst >= tocsin.Warning {
			all = append(all, in)
		}
	}
	return all
}

// longestNight is how long a time is called a night.
const longestNight = 24 * time.Hour

// Bounds of one screen.
const (
	maxDigest = 15 // incidents that are named
	maxEvents = 6  // servers of one line
)

// Text writes a night on one screen: a subject and lines of at most 72 columns, as far as words allow. url is that of the
// pages, "" where there are none.
func (n *Night) Text(l *locale.Locale, url string) (subject, text string) {
	all := n.attention()
	subject = l.T("notify.digest.fine")
	if len(all) > 0 {
		subject = l.T("notify.digest.subject", "n", len(all))
	}
	if n.Bans >= 0 {
		subject += " — " + l.T("notify.digest.banned", "n", n.Bans)
	}
	var w writer
	from, to, key := l.Date(n.From, n.To)+" "+l.Clock(n.From), l.Clock(n.To), "notify.digest.night"
	if n.To.Sub(n.From) > longestNight {
		to, key = l.Date(n.To, n.To)+" "+to, "notify.digest.time"
	}
	w.paragraph(l.T(key, "from", from, "to", to))
	if len(all) > 0 {
		lines := []string{l.T("notify.digest.look")}
		for _, in := range all[:min(len(all), maxDigest)] {
			lines = append(lines, n.line(l, &in))
		}
		if more := len(all) - maxDigest; more > 0 {
			lines = append(lines, "* "+l.T("list.more", "n", more))
		}
		w.paragraph(lines...)
	}
	w.paragraph(n.sums(l, len(all) == 0)...)
	if url != "" {
		w.paragraph(url + "/alerts")
	}
	return subject, w.String()
}

// line is one incident of a digest.
func (n *Night) line(l *locale.Locale, in *tocsin.Incident) string {
	title, _ := l.Incident(in)
	title = clip(title, maxTitle)
	began := l.At(in.Began, n.To)
	if in.Ended.IsZero() {
		return "* " + l.T("notify.digest.open", "id", "#"+strconv.FormatInt(in.ID, 10), "title", title, "since", began)
	}
	return "* " + l.T("notify.digest.over", "id", "#"+strconv.FormatInt(in.ID, 10), "title", title, "since", began, "for", l.Duration(in.Ended.Sub(in.Began)))
}

// sums are the figures at the end.
func (n *Night) sums(l *locale.Locale, fine bool) (lines []string) {
	key := "notify.digest.rest"
	if fine {
		key = "notify.digest.all"
	}
	lines = append(lines, l.T(key, "n", n.Servers))
	if len(n.Silent) > 0 {
		lines = append(lines, l.T("notify.digest.silent", "n", len(n.Silent), "names", l.AndMore(n.Silent, maxEvents)))
	}
	if n.Bans >= 0 {
		line := l.T("notify.digest.bans", "n", n.Bans)
		if n.Usual != [2]int{} {
			line += " " + l.T("notify.digest.usual", "low", n.Usual[0], "high", n.Usual[1])
		}
		if n.Reported > 0 {
			line += l.T("notify.digest.reported", "n", n.Reported)
		}
		lines = append(lines, line+".")
	}
	return append(lines, n.events(l)...)
}

// events are the servers that were restarted or upgraded.
func (n *Night) events(l *locale.Locale) (lines []string) {
	var names []string
	for _, e := range n.Reboots {
		names = append(names, e.Server+" ("+l.At(e.At, n.To)+")")
	}
	if len(names) > 0 {
		lines = append(lines, l.T("notify.digest.reboots", "names", l.AndMore(names, maxEvents)))
	}
	names = nil
	for _, e := range n.Upgrades {
		names = append(names, e.Server+" ("+l.T("notify.digest.packages", "n", e.N)+")")
	}
	if len(names) > 0 {
		lines = append(lines, l.T("notify.digest.upgrades", "names", l.AndMore(names, maxEvents)))
	}
	return lines
}

// maxPicture is the most bytes that a digest's picture may have: it waits in the outbox, and goes to telephones.
const maxPicture = 15 << 10

// picture is the digest's for a reader, nil where there is none.
func (n *Notifier) picture(ctx context.Context, p *person, to time.Time) []byte {
	if n.o.Picture == nil || len(p.Mail) == 0 {
		return nil
	}
	data, err := n.o.Picture(ctx, p.Locale, to)
	switch {
	case err != nil:
		n.o.Log.Warn("the digest goes without its picture", "contact", p.Name, "err", err)
		return nil
	case len(data) > maxPicture:
		n.o.Log.Warn("the digest goes without its picture, which is too big", "contact", p.Name, "n", len(data))
		return nil
	}
	return data
}

// eveningBefore is when a night begins: at eight in the evening before it ends.
func eveningBefore(to time.Time) time.Time { return dayTime(to, -1, 20*time.Hour) }

// lateDigest is how long after its time a digest is still made, after a start.
const lateDigest = 2 * time.Hour

// digests makes a contact's digest each morning until ctx ends.
func (n *Notifier) digests(ctx context.Context, p *person) {
	for ctx.Err() == nil {
		now := time.Now().In(p.Locale.Zone())
		at := dayTime(now, 0, p.Digest)
		n.mu.Lock()
		made := !p.digest.Before(at)
		n.mu.Unlock()
		if !made && !now.Before(at) && now.Sub(at) < lateDigest {
			if err := n.makeDigest(ctx, p, at); err != nil {
				n.o.Log.Error("no digest", "contact", p.Name, "err", err)
			}
		}
		if !now.Before(at) {
			at = dayTime(now, 1, p.Digest)
		}
		// The clock of the machine may be set meanwhile: look at it now and then.
		t := time.NewTimer(min(max(time.Until(at), time.Second), 10*time.Minute))
		select {
		case <-t.C:
		case <-ctx.Done():
		}
		t.Stop()
	}
}

// makeDigest queues one digest. Whether it can be made or not, it is not made twice.
func (n *Notifier) makeDigest(ctx context.Context, p *person, at time.Time) error {
	n.mu.Lock()
	p.digest = time.Now()
	n.mu.Unlock()
	night, err := n.o.Night(ctx, eveningBefore(at), at)
	if err != nil {
		return err
	}
	subject, text := night.Text(p.Locale, n.o.URL)
	picture := n.picture(ctx, p, at)
	n.mu.Lock()
	defer n.mu.Unlock()
	var add []tocsin.Notice
	now := time.Now()
	for _, w := range p.ways {
		if w.via == "command" {
			continue // Munin's commands are for what is wrong
		}
		b := body{Subject: "Tocsin" + colon(p.Locale) + subject, Text: text}
		if strings.HasPrefix(w.via, "mail:") {
			b.Picture = picture
		}
		add = append(add, tocsin.Notice{Contact: p.Name, Via: w.via, Kind: kindDigest, Made: now, Due: now, Body: encodeBody(b)})
	}
	return n.queue(ctx, add, nil)
}

// colon is a colon as the language sets it.
func colon(l *locale.Locale) string { return l.T("notify.colon") + " " }

// deadmanEvery is how often somebody else is told that all goes on.
const deadmanEvery = 5 * time.Minute

// deadman asks a URL while all goes on, until ctx ends. Whoever answers there tells people when that stops.
func (n *Notifier) deadman(ctx context.Context) {
	h, err := n.newHook(nil, n.o.Deadman, "")
	if err != nil {
		n.o.Log.Error("the dead man's switch", "err", err)
		return
	}
	for ctx.Err() == nil {
		if err := n.ping(ctx, h); err != nil && ctx.Err() == nil {
			n.o.Log.Warn("the dead man's switch was not reached", "err", err)
		}
		t := time.NewTimer(deadmanEvery)
		select {
		case <-t.C:
		case <-ctx.Done():
		}
		t.Stop()
	}
}

// ping asks once, and again if that fails. It asks nothing while something is wrong here.
func (n *Notifier) ping(ctx context.Context, h *hook) error {
	if n.o.Alive != nil {
		if err := n.o.Alive(); err != nil {
			return fmt.Errorf("not asked, for something is wrong here: %w", err)
		}
	}
	var err error
	for i := range 3 {
		if i > 0 {
			t := time.NewTimer(10 * time.Second)
			select {
			case <-t.C:
			case <-ctx.Done():
			}
			t.Stop()
		}
		if err = n.pingOnce(ctx, h); err == nil || ctx.Err() != nil {
			return nil
		}
	}
	return err
}

func (n *Notifier) pingOnce(ctx context.Context, h *hook) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, h.url, nil)
	if err != nil {
		return errors.New("the address cannot be asked")
	}
	r.Header.Set("User-Agent", "tocsin/"+firstOf(n.o.Version, "0"))
	a, err := h.client.Do(r)
	if err != nil {
		var whole *url.Error
		if errors.As(err, &whole) {
			err = whole.Err
		}
		return err
	}
	defer a.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(a.Body, maxReply))
	if a.StatusCode >= 300 {
		return fmt.Errorf("%s answered %s", h.host, a.Status)
	}
	return nil
}
