package notify

import (
	"encoding/json"
	"fmt"
	"html"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"tocsin"
	"tocsin/internal/locale"
)

// Kinds of notices that are no turn of an incident.
const (
	kindDigest = "digest"
	kindRest   = "rest"
	kindTest   = "test"
)

// Bounds of what strangers may put into a message, in runes.
const (
	maxTitle = 150
	maxText  = 2000
	maxNote  = 500
	maxRest  = 20 // titles of one message that stands for many
	maxNames = 50 // servers that a webhook is told
)

// body is a notice's body as the outbox keeps it.
type body struct {
	Change  *change `json:"change,omitempty"`
	Title   string  `json:"title,omitempty"`   // of the first message about the incident
	First   bool    `json:"first,omitempty"`   // the contact knows nothing of it yet
	Subject string  `json:"subject,omitempty"` // of a digest
	Text    string  `json:"text,omitempty"`
	Picture []byte  `json:"picture,omitempty"` // of a digest that goes by mail: PNG
}

func encodeBody(b body) []byte {
	data, err := json.Marshal(b)
	if err != nil {
		panic("BUG: a message that is no JSON: " + err.Error())
	}
	return data
}

// change is tocsin.Change as it is kept and as webhooks get it.
type change struct {
	Turn     string     `json:"turn"`
	At       time.Time  `json:"at"`
	ID       int64      `json:"id"`
	Rule     string     `json:"rule"`
	Group    string     `json:"group"`
	Server   string     `json:"server"`
	Service  string     `json:"service"`
	Field    string     `json:"field"`
	Label    string     `json:"label"`
	Level    string     `json:"level"`
	Worst    string     `json:"worst"`
	Urgency  string     `json:"urgency"`
	Value    *float64   `json:"value"` // null: unknown
	Limit    string     `json:"limit"`
	Extra    string     `json:"extra"`
	Members  []string   `json:"servers"`
	Full     *time.Time `json:"full,omitempty"`
	Began    time.Time  `json:"began"`
	Ended    *time.Time `json:"ended,omitempty"`
	AckBy    string     `json:"ack_by,omitempty"`
	AckNote  string     `json:"ack_note,omitempty"`
	AckUntil *time.Time `json:"ack_until,omitempty"`
	Alias    string     `json:"alias,omitempty"`
}

func wireOf(c *tocsin.Change) *change {
	at := func(t time.Time) *time.Time {
		if t.IsZero() {
			return nil
		}
		t = t.UTC()
		return &t
	}
	w := &change{
		Turn: c.Turn.String(), At: c.At.UTC(), ID: c.ID, Rule: c.Rule, Group: c.Group, Server: c.Node, Service: c.Series.Service,
		Field: c.Series.Field, Label: clip(c.Label, maxTitle), Level: c.Level.String(), Worst: c.Worst.String(), Urgency: c.Urgency.String(),
		Limit: clip(c.Limit, maxTitle), Extra: clip(c.Extra, maxText), Members: append([]string{}, c.Members[:min(len(c.Members), maxNames)]...),
		Full: at(c.Full), Began: c.Began.UTC(), Ended: at(c.Ended), AckBy: clip(c.Ack.By, maxTitle), AckNote: clip(c.Ack.Note, maxNote),
		AckUntil: at(c.Ack.Until), Alias: clip(c.Alias, maxTitle),
	}
	if !math.IsNaN(c.Value) && !math.IsInf(c.Value, 0) {
		w.Value = &c.Value
	}
	return w
}

// incident is the word that the wire stands for.
func (w *change) incident() *tocsin.Incident {
	at := func(t *time.Time) time.Time {
		if t == nil {
			return time.Time{}
		}
		return *t
	}
	in := &tocsin.Incident{
		ID: w.ID, Rule: w.Rule, Group: w.Group, Node: w.Server, Level: levelOf(w.Level), Worst: levelOf(w.Worst), Value: math.NaN(),
		Limit: w.Limit, Label: w.Label, Extra: w.Extra, Members: w.Members, Full: at(w.Full), Began: w.Began, Changed: w.At, Ended: at(w.Ended),
		Ack: tocsin.Ack{By: w.AckBy, Note: w.AckNote, Until: at(w.AckUntil)},
	}
	if w.Service != "" {
		in.Series = tocsin.Series{Group: w.Group, Node: w.Server, Service: w.Service, Field: w.Field}
	}
	if w.Value != nil {
		in.Value = *w.Value
	}
	return in
}

func levelOf(s string) tocsin.Level {
	for l := tocsin.Fine; l <= tocsin.Critical; l++ {
		if l.String() == s {
			return l
		}
	}
	return tocsin.Unknown
}

// letter is one message, in the reader's language, before it takes the form of its way.
type letter struct {
	id      int64
	kind    string
	subject string // one line, of mail
	title   string // shorter, for small screens
	text    string // lines of at most 72 columns, as far as words allow
	url     string // of a page; "" for none
	ack     string // what its button is called; "" for none
	thread  string // messages of one incident have the same; "" for none
	first   bool   // of its thread
	urgency tocsin.Urgency
	level   tocsin.Level
	over    bool
	at      time.Time
	change  *change // nil: it is about no single incident
	picture []byte  // PNG, for mail; nil: none
}

// tell writes about what an incident did.
func (n *Notifier) tell(p *person, b *body, m *tocsin.Notice) *letter {
	c, l := b.Change, p.Locale
	in := c.incident()
	turn := c.Turn
	if b.First && turn != tocsin.Unstable.String() {
		turn = tocsin.Began.String() // for whoever was told nothing yet
	}
	out := &letter{
		id: m.ID, kind: c.Turn, url: n.page(c.ID), at: m.Made, change: c, urgency: m.Urgency, level: in.Level,
		over: turn == tocsin.Over.String(), first: b.First,
		thread: fmt.Sprintf("incident-%d.%d", c.ID, c.Began.Unix()),
	}
	if !out.over && turn != tocsin.Acked.String() {
		out.ack = l.T("notify.acknowledge")
	}
	out.title = clip(b.Title+suffix(l, turn, c, in), 2*maxTitle)
	out.subject = fmt.Sprintf("[#%d] %s", c.ID, out.title)
	if !out.first {
		out.subject = "Re: " + out.subject
	}
	_, said := l.Incident(in)
	var w writer
	if key := "notify.text." + turn; l.Has(key) {
		w.paragraph(l.T(key, "level", l.Level(in.Level), "by", clip(in.Ack.By, maxTitle), "for", l.Duration(c.At.Sub(c.Began)), "at", l.At(c.At, c.At)))
	}
	if !out.over {
		w.paragraph(clip(said, maxText))
	}
	if in.Ack.Note != "" {
		w.paragraph(l.T("notify.note", "note", in.Ack.Note))
	}
	if !in.Ack.Until.IsZero() && turn == tocsin.Acked.String() {
		w.paragraph(l.T("notify.until", "until", l.At(in.Ack.Until, c.At)))
	}
	w.paragraph(facts(l, c, in)...)
	if out.url != "" {
		w.paragraph(out.url)
	} else {
		w.paragraph(l.T("notify.command", "command", fmt.Sprintf("tocsin alerts %d", c.ID)))
	}
	out.text = w.String()
	return out
}

// suffix is what behind the title says how it goes on.
func suffix(l *locale.Locale, turn string, c *change, in *tocsin.Incident) string {
	key := "notify.suffix." + turn
	if !l.Has(key) {
		return ""
	}
	return " — " + l.T(key, "level", l.Level(in.Level), "by", clip(in.Ack.By, maxTitle), "for", l.Duration(c.At.Sub(c.Began)))
}

// facts are lines that can be read at a glance.
func facts(l *locale.Locale, c *change, in *tocsin.Incident) (lines []string) {
	add := func(key, value string) {
		if value != "" {
			lines = append(lines, l.T("notify.fact."+key, "value", value))
		}
	}
	add("level", l.Level(in.Level))
	add("server", in.Node)
	add("group", in.Group)
	add("service", in.Series.Service)
	add("since", l.At(c.Began, c.At))
	return lines
}

// page is the address of an incident's page, "" where there are no pages.
func (n *Notifier) page(id int64) string {
	if n.o.URL == "" {
		return ""
	}
	return n.o.URL + "/alert/" + strconv.FormatInt(id, 10)
}

// rest writes one message in the place of many.
func (n *Notifier) rest(p *person, all []body, m *tocsin.Notice) *letter {
	l := p.Locale
	out := &letter{id: m.ID, kind: kindRest, at: m.Made, urgency: m.Urgency}
	out.subject = l.T("notify.rest.subject", "n", len(all))
	out.title = out.subject
	if n.o.URL != "" {
		out.url = n.o.URL + "/alerts"
	}
	var w writer
	w.paragraph(l.T("notify.rest.text", "n", len(all), "most", p.PerHour))
	var lines []string
	for i, b := range all {
		if i == maxRest || b.Change == nil {
			break
		}
		lines = append(lines, fmt.Sprintf("* [#%d] %s%s", b.Change.ID, b.Title, suffix(l, b.Change.Turn, b.Change, b.Change.incident())))
	}
	if more := len(all) - len(lines); more > 0 {
		lines = append(lines, "* "+l.T("list.more", "n", more))
	}
	w.paragraph(lines...)
	if out.url != "" {
		w.paragraph(out.url)
	}
	out.text = w.String()
	return out
}

// trial is the message of a test.
func (n *Notifier) trial(p *person) *letter {
	l := p.Locale
	var w writer
	w.paragraph(l.T("notify.test.text", "host", n.o.Host, "contact", p.Name))
	return &letter{kind: kindTest, subject: l.T("notify.test.subject", "host", n.o.Host), title: l.T("notify.test.subject", "host", n.o.Host),
		text: w.String(), at: time.Now(), urgency: tocsin.Soon, url: n.o.URL}
}

// pictureID is what a message calls the picture that it brings along.
const pictureID = "bans@tocsin"

// columns is the width of text in mail.
const columns = 72

// writer writes paragraphs of lines that are not too long.
type writer struct{ b strings.Builder }

// paragraph adds lines, each broken at its spaces; a line that begins with "* " is an entry of a list.
func (w *writer) paragraph(lines ...string) {
	if len(lines) == 0 {
		return
	}
	if w.b.Len() > 0 {
		w.b.WriteByte('\n')
	}
	for _, line := range lines {
		indent := ""
		if strings.HasPrefix(line, "* ") {
			indent = "  "
		}
		w.wrapped(strings.ReplaceAll(line, "\n", " "), indent)
	}
}

// wrapped writes one line. What has no plain space in it, such as a URL, stays whole.
func (w *writer) wrapped(line, indent string) {
	width := 0
	for i, word := range strings.Split(line, " ") {
		n := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case width+1+n > columns:
			w.b.WriteString("\n" + indent)
			width = len(indent)
		default:
			w.b.WriteByte(' ')
			width++
		}
		w.b.WriteString(word)
		width += n
	}
	w.b.WriteByte('\n')
}

func (w *writer) String() string { return w.b.String() }

// htmlOf is the same words as text, for programs that show no plain text: paragraphs, lists and links, nothing else. It has
// no style, and nothing that would be fetched. Only lines that are addresses of our own pages, which lie below base, become
// links: other addresses are a plugin's. alt is what a picture that the message brings along shows; "" for none.
func htmlOf(lang, text, base, alt string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "<!DOCTYPE html>\n<html lang=\"%s\"><head><meta charset=\"utf-8\"><title>Tocsin</title></head><body>\n", html.EscapeString(lang))
	for _, p := range strings.Split(strings.TrimSpace(text), "\n\n") {
		lines := strings.Split(p, "\n")
		b.WriteString("<p>")
		for i, line := range lines {
			if i > 0 {
				b.WriteString("<br>\n")
			}
			safe := html.EscapeString(line)
			if url := strings.TrimSpace(line); base != "" && (url == base || strings.HasPrefix(url, base+"/")) {
				safe = `<a href="` + html.EscapeString(url) + `">` + html.EscapeString(url) + `</a>`
			}
			b.WriteString(safe)
		}
		b.WriteString("</p>\n")
	}
	if alt != "" {
		fmt.Fprintf(&b, "<p><img src=\"cid:%s\" alt=\"%s\"></p>\n", pictureID, html.EscapeString(alt))
	}
	b.WriteString("</body></html>\n")
	return b.String()
}
