package daemon

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"tocsin"
	"tocsin/internal/alert"
	"tocsin/internal/api"
	"tocsin/internal/config"
	"tocsin/internal/locale"
	"tocsin/internal/store"
)

// This file is what the watch process answers about warnings.

// Bounds of what people say.
const (
	longestSilence = 90 * 24 * time.Hour
	longestNote    = 500 // bytes
	nightMost      = 500 // incidents that are over
)

// warnings are the operations of the session that runs.
func (w *watcher) warnings() *api.AlertOperations {
	return &api.AlertOperations{
		Alerts: func(ctx context.Context, q api.AlertsQuery, language string) (api.Alerts, error) {
			return with(w, func(s *supervisor) (api.Alerts, error) { return s.alerts.list(ctx, q, locale.Get(language)) })
		},
		Alert: func(ctx context.Context, id int64, language string) (api.AlertDetail, error) {
			return with(w, func(s *supervisor) (api.AlertDetail, error) { return s.alerts.one(ctx, id, locale.Get(language)) })
		},
		Ack: func(ctx context.Context, r api.AckRequest) (api.Change, error) {
			return with(w, func(s *supervisor) (api.Change, error) { return s.alerts.ack(ctx, r) })
		},
		Silence: func(ctx context.Context, r api.SilenceRequest) (api.Change, error) {
			return with(w, func(s *supervisor) (api.Change, error) { return s.alerts.silence(ctx, r) })
		},
		Night: func(ctx context.Context, since time.Time, language string) (api.Night, error) {
			return with(w, func(s *supervisor) (api.Night, error) { return s.night(ctx, since, locale.Get(language)) })
		},
		Rules: func(context.Context) (api.Rules, error) {
			return with(w, func(s *supervisor) (api.Rules, error) { return wireRules(s.alerts.rules), nil })
		},
	}
}

// notedWarnings are the operations for commands, whose changes stand in the action log as those of the pages do.
func (w *watcher) notedWarnings() *api.AlertOperations {
	all := w.warnings()
	ack, silence := all.Ack, all.Silence
	all.Ack = func(ctx context.Context, r api.AckRequest) (api.Change, error) {
		c, err := ack(ctx, r)
		if err == nil {
			what := "ack"
			if r.Drop {
				what = "ack-drop"
			}
			w.note(ctx, r.By, what, fmt.Sprintf("#%d", r.ID), r.Note)
		}
		return c, err
	}
	all.Silence = func(ctx context.Context, r api.SilenceRequest) (api.Change, error) {
		c, err := silence(ctx, r)
		if err == nil {
			what, about := "silence", strings.Join(slices.DeleteFunc([]string{r.Group, r.Server, r.Rule}, func(s string) bool { return s == "" }), " ")
			if r.End != 0 {
				what, about = "silence-end", fmt.Sprint(r.End)
			}
			w.note(ctx, r.By, what, about, r.Note)
		}
		return c, err
	}
	return all
}

// note writes down what somebody changed. Where it cannot be written the change stands, and the log tells.
func (w *watcher) note(ctx context.Context, by, what, about, note string) {
	if err := w.store.PutAction(context.WithoutCancel(ctx), store.Action{At: time.Now(), Who: by, What: what, About: about, Note: note}); err != nil {
		w.log.Error("an action could not be noted", "source", what, "err", err)
	}
}

// worst puts what is worst first, of that what is most urgent, then what is oldest.
func worst(a, b tocsin.Incident) int {
	return cmp.Or(cmp.Compare(b.Level, a.Level), cmp.Compare(b.Urgency, a.Urgency), a.Began.Compare(b.Began), cmp.Compare(a.ID, b.ID))
}

func (a *alerter) list(ctx context.Context, q api.AlertsQuery, l *locale.Locale) (api.Alerts, error) {
	out := api.Alerts{Schema: api.SchemaAlerts, Alerts: []api.Alert{}, Held: []api.Alert{}, Silences: []api.Silence{}}
	chosen := func(in *tocsin.Incident) bool {
		return (q.Group == "" || q.Group == in.Group) && (q.Server == "" || q.Server == in.Node || slices.Contains(in.Members, q.Server))
	}
	open, held := a.open()
	slices.SortFunc(open, worst)
	for i := range open {
		if chosen(&open[i]) {
			out.Alerts = append(out.Alerts, wireAlert(&open[i], l))
		}
	}
	for i := range held {
		if h := &held[i]; chosen(&h.Incident) {
			v := wireAlert(&h.Incident, l)
			v.State, v.HeldBy = "held", h.By
			out.Held = append(out.Held, v)
		}
	}
	if q.All {
		var since time.Time
		if q.Since > 0 {
			since = time.Now().Add(-q.Since)
		}
		ended, err := a.store.EndedIncidents(ctx, since, q.Group, q.Server, q.Limit)
		if err != nil {
			return out, err
		}
		for i := range ended {
			out.Alerts = append(out.Alerts, wireAlert(&ended[i], l))
		}
	}
	silences, err := a.store.Silences(ctx, time.Now())
	for _, s := range silences {
		out.Silences = append(out.Silences, api.Silence{ID: s.ID, Group: s.Group, Server: s.Node, Rule: s.Rule, By: s.By, Note: s.Note, Made: s.Made, Until: s.Until})
	}
	return out, err
}

// open are the incidents that are not over, and those that are held back, as they are this moment.
func (a *alerter) open() ([]tocsin.Incident, []alert.Held) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.e.Open(), a.e.Held()
}

func wireAlert(in *tocsin.Incident, l *locale.Locale) api.Alert {
	v := api.Alert{
		ID: in.ID, Rule: in.Rule, Group: in.Group, Server: in.Node, Service: in.Series.Service, Field: in.Series.Field, Label: in.Label, Extra: in.Extra,
		State: "open", Level: in.Level.String(), Worst: max(in.Worst, in.Level).String(), Urgency: in.Urgency.String(), Value: wireNumber(in.Value), Limit: in.Limit,
		Members: append([]string{}, in.Members...), Full: api.Time(in.Full), Began: in.Began, Changed: in.Changed, Ended: api.Time(in.Ended), Flaps: in.Flaps,
	}
	switch {
	case !in.Ended.IsZero():
		v.State = "over"
	case !in.Ack.At.IsZero():
		v.State = "acknowledged"
	case in.Flaps:
		v.State = "unstable"
	}
	if !in.Ack.At.IsZero() {
		v.Ack = &api.AlertAck{By: in.Ack.By, Note: in.Ack.Note, At: in.Ack.At, Until: api.Time(in.Ack.Until)}
	}
	v.Title, v.Text = locale.Incident(l, *in)
	return v
}

func wireNumber(v float64) *float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return &v
}

func (a *alerter) one(ctx context.Context, id int64, l *locale.Locale) (api.AlertDetail, error) {
	in, turns, ok, err := a.store.Incident(ctx, id)
	if err != nil {
		return api.AlertDetail{}, err
	}
	open, _ := a.open()
	if i := slices.IndexFunc(open, func(o tocsin.Incident) bool { return o.ID == id }); i >= 0 {
		in, ok = open[i], true // it may have changed since it was written
	}
	if !ok {
		return api.AlertDetail{}, api.Errorf(api.ExitFailed, "tocsin alerts --all shows them", fmt.Sprintf("there is no alert #%d", id))
	}
	out := api.AlertDetail{Schema: api.SchemaAlert, Alert: wireAlert(&in, l), Turns: []api.AlertTurn{}, Told: []api.AlertTold{}}
	for _, t := range turns {
		out.Turns = append(out.Turns, api.AlertTurn{At: t.At, Turn: t.Turn.String(), Level: t.Level.String(), Value: wireNumber(t.Value), Limit: t.Limit, Tell: t.Tell, By: t.By, Note: t.Note})
	}
	notices, err := a.store.NoticesOf(ctx, id)
	if err != nil {
		return out, err
	}
	for _, n := range notices {
		told := api.AlertTold{At: n.Made, Contact: n.Contact, Way: n.Via, State: "waiting", Detail: n.Said}
		switch n.State {
		case tocsin.Sent:
			told.State, told.At = "sent", n.Ended
		case tocsin.Failed:
			told.State, told.At = "failed", n.Ended
		}
		out.Told = append(out.Told, told)
	}
	if u, ok := a.rules.Of(in.Rule, in.Group, in.Node, in.Series.Service, in.Series.Field); ok {
		r := wireRule(&u, false)
		out.Why = &r
	}
	return out, nil
}

func wireRules(rs *alert.Rules) api.Rules {
	out := api.Rules{Schema: api.SchemaRules, Rules: []api.Rule{}}
	for _, d := range rs.All() {
		out.Rules = append(out.Rules, wireRule(&d.Rule, d.Own))
	}
	return out
}

func wireRule(u *config.Rule, own bool) api.Rule {
	r := api.Rule{Name: u.Name, Kind: u.Kind, Enabled: u.Enabled, Own: own, Where: u.Pos("").String(), Set: []api.RuleSetting{}}
	for _, s := range u.Settings() {
		if s.Key != "name" {
			r.Set = append(r.Set, api.RuleSetting(s))
		}
	}
	return r
}

func (a *alerter) ack(ctx context.Context, r api.AckRequest) (api.Change, error) {
	now := time.Now()
	ack := tocsin.Ack{By: r.By, Note: r.Note, At: now}
	length := time.Duration(r.For * float64(time.Second))
	switch {
	case len(r.Note) > longestNote || len(r.By) > longestNote:
		return api.Change{}, api.Errorf(api.ExitUsage, "", fmt.Sprintf("a note has at most %d bytes", longestNote))
	case r.Drop:
		ack = tocsin.Ack{}
	case !(r.For >= 0) || r.For > longestSilence.Seconds():
		return api.Change{}, api.Errorf(api.ExitUsage, "write it like 2h", fmt.Sprintf("at most %s", config.FormatDuration(longestSilence)))
	case length > 0:
		ack.Until = now.Add(length)
	}
	a.mu.Lock()
	change, err := a.e.Ack(r.ID, ack)
	a.mu.Unlock()
	if err != nil {
		return api.Change{}, api.Errorf(api.ExitFailed, "tocsin alerts shows which are open", err.Error())
	}
	change.At = now
	a.keep(ctx, []store.Turn{{Change: change, By: r.By, Note: r.Note}}, true)
	text := fmt.Sprintf("#%d is yours", r.ID)
	switch {
	case r.Drop:
		text = fmt.Sprintf("#%d is nobody's again", r.ID)
	case !ack.Until.IsZero():
		text += " until " + ack.Until.Format("15:04 on 2006-01-02") + "; if it is still wrong then, it is told again"
	default:
		text += " until it is over"
	}
	return api.Change{Schema: api.SchemaChange, Changed: []string{fmt.Sprint(r.ID)}, Text: text}, nil
}

func (a *alerter) silence(ctx context.Context, r api.SilenceRequest) (api.Change, error) {
	now := time.Now()
	if r.End != 0 {
		ok, err := a.store.EndSilence(ctx, r.End, now)
		switch {
		case err != nil:
			return api.Change{}, err
		case !ok:
			return api.Change{}, api.Errorf(api.ExitFailed, "tocsin silence --list shows them", fmt.Sprintf("there is no silence %d", r.End))
		}
		return api.Change{Schema: api.SchemaChange, Changed: []string{fmt.Sprint(r.End)}, Text: fmt.Sprintf("silence %d is over", r.End)}, a.loadSilences(ctx)
	}
	length := time.Duration(r.For * float64(time.Second))
	switch {
	case !(r.For > 0) || length <= 0 || r.For > longestSilence.Seconds():
		return api.Change{}, api.Errorf(api.ExitUsage, "write it like --for 2h", "a silence lasts between a second and "+config.FormatDuration(longestSilence))
	case r.Group == "" && r.Server == "" && r.Rule == "":
		return api.Change{}, api.Errorf(api.ExitUsage, `for everything write --server "*"`, "it is not said what is to be silent")
	case len(r.Note) > longestNote || len(r.By) > longestNote || len(r.Group)+len(r.Server)+len(r.Rule) > longestNote:
		return api.Change{}, api.Errorf(api.ExitUsage, "", fmt.Sprintf("a note has at most %d bytes", longestNote))
	}
	s := store.KnownSilence{Group: r.Group, Node: r.Server, Rule: r.Rule, By: r.By, Note: r.Note, Made: now, Until: now.Add(length)}
	id, err := a.store.AddSilence(ctx, s)
	switch {
	case err != nil:
		return api.Change{}, err
	case id == 0:
		return api.Change{}, api.Errorf(api.ExitFailed, "end some with tocsin silence --end", "there are too many silences")
	}
	text := fmt.Sprintf("silence %d until %s", id, s.Until.Format("15:04 on 2006-01-02"))
	return api.Change{Schema: api.SchemaChange, Changed: []string{fmt.Sprint(id)}, Text: text}, a.loadSilences(ctx)
}

// since are the incidents that were open at some time since then, the worst first.
func (a *alerter) since(ctx context.Context, from time.Time) ([]tocsin.Incident, error) {
	all, _ := a.open()
	ended, err := a.store.EndedIncidents(ctx, from, "", "", nightMost)
	all = append(all, ended...)
	slices.SortFunc(all, func(x, y tocsin.Incident) int { return cmp.Or(cmp.Compare(y.Worst, x.Worst), worst(x, y)) })
	return all, err
}
