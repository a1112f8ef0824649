package web

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"tocsin"
	"tocsin/internal/account"
	"tocsin/internal/api"
	"tocsin/internal/locale"
)

// alertsPage is what is wrong, and what was.
type alertsPage struct {
	Open, Acked, Over []alertView
	Silences          []silenceView
	May               bool // acknowledge and silence
	Periods           []period
}

type alertView struct {
	api.Alert
	Kind   string // how its state is shown
	Word   string
	Since  string
	AckBy  string // who looks after it, in a sentence
	Server string // path of its server; "" if it is about a group
	Graph  string // path of its graph; "" if it has none
}

type silenceView struct {
	api.Silence
	Until string
}

// period is how long an acknowledgement or a silence may last.
type period struct {
	Value string // seconds
	Text  string
}

// periods are what is offered. What is urgent is told again after a day at the latest.
var periods = []time.Duration{time.Hour, 2 * time.Hour, 8 * time.Hour, 24 * time.Hour, 7 * 24 * time.Hour}

const mostAck = 24 * time.Hour // of something urgent

func periodsOf(l *locale.Locale, longest time.Duration) (all []period) {
	for _, d := range periods {
		if d <= longest {
			all = append(all, period{strconv.Itoa(int(d / time.Second)), l.Duration(d)})
		}
	}
	return all
}

// overSince is how long what is over is shown.
const overSince = 7 * 24 * time.Hour

func (s *Server) alertsPage(w http.ResponseWriter, r *http.Request, v *visitor) {
	l, now := s.locale(r), time.Now()
	all, err := s.o.Alerts.Alerts(r.Context(), api.AlertsQuery{All: true, Since: overSince, Limit: 200}, l.Tag())
	if err != nil {
		s.broken(w, r, err)
		return
	}
	page := alertsPage{May: v.May(account.Acknowledge), Periods: periodsOf(l, periods[len(periods)-1])}
	for i := range all.Alerts {
		one := viewAlert(&all.Alerts[i], l, now)
		switch {
		case one.Ended != nil:
			page.Over = append(page.Over, one)
		case one.Ack != nil:
			page.Acked = append(page.Acked, one)
		default:
			page.Open = append(page.Open, one)
		}
	}
	for _, one := range all.Silences {
		page.Silences = append(page.Silences, silenceView{one, l.At(one.Until, now)})
	}
	s.show(w, r, v, http.StatusOK, "alerts", "page.alerts.title", page)
}

func viewAlert(a *api.Alert, l *locale.Locale, now time.Time) alertView {
	v := alertView{Alert: *a, Since: l.Rough(now.Sub(a.Began))}
	v.Title, v.Text = tocsin.Printable(a.Title), tocsin.Printable(a.Text)
	switch {
	case a.Ended != nil:
		v.Kind, v.Word = "good", l.T("page.alerts.over")
		v.Since = l.T("page.alerts.ended", "at", l.At(*a.Ended, now), "for", l.Duration(a.Ended.Sub(a.Began).Truncate(time.Minute)))
	default:
		v.Kind, v.Word = a.Level, l.T("level."+a.Level)
		v.Since = l.T("page.alerts.since", "for", v.Since)
	}
	if a.Ack != nil {
		v.AckBy = l.T("page.alerts.ackby", "by", a.Ack.By, "at", l.At(a.Ack.At, now))
		if a.Ack.Until != nil {
			v.AckBy += " " + l.T("page.alerts.ackuntil", "at", l.At(*a.Ack.Until, now))
		}
		if a.Ack.Note != "" {
			v.AckBy += " " + l.T("page.alerts.acknote", "note", a.Ack.Note)
		}
	}
	if a.Server != "" {
		v.Server = serverPath(a.Group, a.Server)
		if a.Service != "" {
			v.Graph = place{a.Group, a.Server, a.Service}.path()
		}
	}
	return v
}

// alertDetail is one alert with all that is known of it.
type alertDetail struct {
	alertView
	Detail  api.AlertDetail
	Turns   []turnView
	Told    []toldView
	Picture string
	May     bool
	Periods []period
}

type turnView struct{ At, Text, Note string }

type toldView struct{ At, Contact, Word, Detail string }

func (s *Server) alertPage(w http.ResponseWriter, r *http.Request, v *visitor) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		s.fail(w, r, http.StatusNotFound, "page.error.nothing")
		return
	}
	l, now := s.locale(r), time.Now()
	d, err := s.o.Alerts.Alert(r.Context(), id, l.Tag())
	if err != nil {
		s.broken(w, r, err)
		return
	}
	page := alertDetail{alertView: viewAlert(&d.Alert, l, now), Detail: d, May: v.May(account.Acknowledge) && d.Ended == nil}
	longest := periods[len(periods)-1]
	if d.Urgency == tocsin.Urgent.String() {
		longest = mostAck
	}
	page.Periods = periodsOf(l, longest)
	for _, t := range d.Turns {
		text := t.Turn
		if key := "page.turn." + t.Turn; l.Has(key) {
			text = l.T(key)
		}
		if t.Value != nil {
			text += ", " + l.Number(*t.Value)
		}
		if t.By != "" {
			text += " — " + tocsin.Printable(t.By)
		}
		page.Turns = append(page.Turns, turnView{l.At(t.At, now), text, tocsin.Printable(t.Note)})
	}
	for _, t := range d.Told {
		word := t.State
		if key := "page.told." + t.State; l.Has(key) {
			word = l.T(key)
		}
		detail := ""
		if v.May(account.Acknowledge) { // the words of servers of mail name addresses
			detail = tocsin.Printable(t.Detail)
		}
		page.Told = append(page.Told, toldView{l.At(t.At, now), tocsin.Printable(t.Contact), word, detail})
	}
	if page.Graph != "" {
		page.Picture = page.Graph + "/day.svg?" + s.themed(r)
	}
	s.show(w, r, v, http.StatusOK, "alert", d.Title, page)
}

var errPeriod = errors.New("no such period")

// periodOf reads how long something lasts: one of the periods, or "" for no end.
func periodOf(text string, longest time.Duration) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(text)
	if d := time.Duration(n) * time.Second; err == nil && n > 0 && d <= longest {
		return d, nil
	}
	return 0, errPeriod
}

const maxNote = 500 // bytes

// acknowledge says that somebody looks after an alert, or no more. It takes a note or an end; what is urgent an end.
func (s *Server) acknowledge(w http.ResponseWriter, r *http.Request, v *visitor) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		s.fail(w, r, http.StatusNotFound, "page.error.nothing")
		return
	}
	ctx := r.Context()
	d, err := s.o.Alerts.Alert(ctx, id, s.locale(r).Tag())
	if err != nil {
		s.broken(w, r, err)
		return
	}
	req := api.AckRequest{ID: id, By: v.By(), Note: strings.TrimSpace(clip(r.PostFormValue("note"), maxNote)), Drop: r.PostFormValue("drop") != ""}
	urgent := d.Urgency == tocsin.Urgent.String()
	longest := periods[len(periods)-1]
	if urgent {
		longest = mostAck
	}
	lasts, err := periodOf(r.PostFormValue("for"), longest)
	if err != nil || !req.Drop && lasts == 0 && (urgent || req.Note == "") {
		s.fail(w, r, http.StatusUnprocessableEntity, "page.alerts.needs")
		return
	}
	req.For = lasts.Seconds()
	if _, err := s.o.Alerts.Ack(context.WithoutCancel(ctx), req); err != nil {
		s.broken(w, r, err)
		return
	}
	what, done := "ack", "acked"
	if req.Drop {
		what, done = "ack-drop", "unacked"
	}
	s.note(r, v, what, "#"+strconv.FormatInt(id, 10), req.Note)
	s.done(w, r, "/alert/"+strconv.FormatInt(id, 10), done)
}

// silence begins a silence for one server, or ends one.
func (s *Server) silence(w http.ResponseWriter, r *http.Request, v *visitor) {
	req := api.SilenceRequest{By: v.By(), Note: strings.TrimSpace(clip(r.PostFormValue("note"), maxNote)), Server: strings.TrimSpace(clip(r.PostFormValue("server"), maxSearch))}
	what, done, about := "silence", "silenced", req.Server
	if text := r.PostFormValue("end"); text != "" {
		id, err := strconv.ParseInt(text, 10, 64)
		if err != nil || id <= 0 {
			s.fail(w, r, http.StatusUnprocessableEntity, "page.error.nothing")
			return
		}
		req, what, done, about = api.SilenceRequest{By: v.By(), End: id}, "silence-end", "loud", text
	} else {
		lasts, err := periodOf(r.PostFormValue("for"), periods[len(periods)-1])
		if err != nil || lasts == 0 || req.Server == "" || strings.ContainsAny(req.Server, "*?") { // a pattern is not one server
			s.fail(w, r, http.StatusUnprocessableEntity, "page.alerts.silenceneeds")
			return
		}
		req.For = lasts.Seconds()
	}
	if _, err := s.o.Alerts.Silence(context.WithoutCancel(r.Context()), req); err != nil {
		s.broken(w, r, err)
		return
	}
	s.note(r, v, what, about, req.Note)
	s.done(w, r, "/alerts", done)
}
