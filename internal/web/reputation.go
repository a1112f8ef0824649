package web

import (
	"cmp"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"tocsin"
	"tocsin/internal/api"
	"tocsin/internal/locale"
)

// oldList is how long ago the last fetch of a list may be before it is mentioned.
const oldList = 72 * time.Hour

// reputationPage is what is done with other people's lists, and what they are told: as `tocsin reputation` says it.
type reputationPage struct {
	Lists   []listView
	Deaf    bool // the guard does not answer, so that what is in force is not known
	Reports reportsView
	Key     string
}

// listView is one list, by what the watch process fetched and what the guard has of it.
type listView struct {
	Name, Source string
	Entries      string // in force
	Fetched      string
	Next         string
	Kept         string // packets that it kept out
	Ports        string
	State, Kind  string
	Notes        []string
}

// reportsView is what became of the reports.
type reportsView struct {
	Enabled bool
	Counts  []count
	LeftOut []count
	Left    string // of the quota, in a sentence; "" if that is not known
	Quota   float64
	Rests   string
	Stopped string
}

func (s *Server) reputationPage(w http.ResponseWriter, r *http.Request, v *visitor) {
	told, err := s.o.Reputation(r.Context())
	if err != nil {
		s.broken(w, r, err)
		return
	}
	l, now := s.locale(r), time.Now()
	page := reputationPage{Reports: viewReports(&told.Reports, l, now)}
	guard, err := s.o.Guard.Lists(r.Context())
	page.Deaf = err != nil
	fetched := map[string]*api.FetchedList{}
	for i := range told.Lists {
		fetched[told.Lists[i].Name] = &told.Lists[i]
	}
	for i := range guard.Lists {
		one := &guard.Lists[i]
		page.Lists = append(page.Lists, viewList(one.Name, one, fetched[one.Name], l, now))
		delete(fetched, one.Name)
	}
	for _, name := range slices.Sorted(maps.Keys(fetched)) {
		page.Lists = append(page.Lists, viewList(name, nil, fetched[name], l, now))
	}
	page.Key = l.T("page.reputation.nokey")
	if told.Key {
		page.Key = l.T("page.reputation.key", "name", told.Service)
	}
	if told.KeyProblem != "" {
		page.Key += " " + tocsin.Printable(told.KeyProblem)
	}
	s.show(w, r, v, http.StatusOK, "reputation", "page.reputation.title", page)
}

// viewList is one list: g is nil where the guard does not know it, f where it is not fetched here.
func viewList(name string, g *api.ListState, f *api.FetchedList, l *locale.Locale, now time.Time) listView {
	const dash = "—"
	v := listView{Name: name, Entries: dash, Fetched: dash, Next: dash, Kept: dash, Ports: dash, State: l.T("page.reputation.waits"), Kind: "idle"}
	if f != nil {
		v.Source = f.Source
		if f.Fetched != nil {
			v.Fetched = l.At(*f.Fetched, now)
		}
		if f.Next != nil {
			v.Next = l.At(*f.Next, now)
		}
	}
	if g != nil {
		viewInForce(&v, g, l, now)
	}
	if f != nil {
		switch {
		case len(f.Refused) > 0:
			v.State, v.Kind = l.T("page.reputation.refused"), "warning"
			v.Notes = append(v.Notes, strings.Join(f.Refused, "; "), l.T("page.reputation.accept", "name", name))
		case f.Error != "":
			v.State, v.Kind = l.T("page.reputation.failed"), "warning"
			v.Notes = append(v.Notes, l.T("page.reputation.error", "n", f.Failures, "why", f.Error))
		}
	}
	return v
}

// viewInForce tells what the guard has of a list.
func viewInForce(v *listView, g *api.ListState, l *locale.Locale, now time.Time) {
	v.Ports, v.Kept = portsText(g.Ports, l), l.Int(int64(min(g.Packets, 1<<62)))
	if g.InForce {
		v.Entries, v.State, v.Kind = l.Int(int64(g.Entries)), l.T("page.reputation.inforce"), "good"
	}
	if at := cmp.Or(g.Fetched, g.Generated); at != nil && v.Fetched == "—" {
		v.Fetched = l.At(*at, now)
	}
	if g.Members > 0 {
		v.Notes = append(v.Notes, l.T("page.reputation.members", "n", g.Members))
	}
	if g.Allowed > 0 {
		v.Notes = append(v.Notes, l.T("page.reputation.allowed", "n", g.Allowed))
	}
	switch {
	case g.Problem != "":
		v.State, v.Kind = l.T("page.reputation.problem"), "warning"
		v.Notes = append(v.Notes, g.Problem)
	case g.Dropped:
		v.State, v.Kind = l.T("page.reputation.dropped"), "warning"
	case g.Fetched != nil && now.Sub(*g.Fetched) > oldList:
		v.Notes = append(v.Notes, l.T("page.reputation.old", "ago", l.Ago(*g.Fetched, now)))
	}
}

func viewReports(s *api.ReportState, l *locale.Locale, now time.Time) reportsView {
	v := reportsView{Enabled: s.Enabled, Stopped: s.Stopped}
	for _, one := range []struct {
		key    string
		n      int64
		always bool
	}{
		{"sent", s.Sent, true}, {"queued", int64(s.Queued), true}, {"held", int64(s.Held), true}, {"no", s.Refused, true},
		{"doubles", s.Doubles, false}, {"unknown", s.Unknown, false}, {"givenup", s.GivenUp, false}, {"withdrawn", s.Withdrawn, false},
	} {
		if one.always || one.n > 0 {
			v.Counts = append(v.Counts, count{l.T("page.reputation." + one.key), l.Int(one.n)})
		}
	}
	for _, why := range slices.Sorted(maps.Keys(s.LeftOut)) {
		text := tocsin.Printable(why)
		if key := "page.reputation.why." + strings.NewReplacer(" ", "-", "’", "", "'", "").Replace(why); l.Has(key) {
			text = l.T(key)
		}
		v.LeftOut = append(v.LeftOut, count{text, l.Int(s.LeftOut[why])})
	}
	if s.Quota != nil && s.Limit != nil && *s.Limit > 0 {
		v.Left = l.T("page.reputation.left", "n", *s.Quota, "limit", *s.Limit)
		v.Quota = float64(*s.Quota) / float64(*s.Limit)
	}
	if s.RestsUntil != nil {
		v.Rests = l.T("page.reputation.rests", "until", l.At(*s.RestsUntil, now))
	}
	return v
}
