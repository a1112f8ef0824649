package web

import (
	"context"
	"math"
	"net/http"
	"strings"
	"time"

	"tocsin"
	"tocsin/internal/account"
	"tocsin/internal/api"
	"tocsin/internal/locale"
)

// Data is what the pages show, asked of the rooms that know it. Every field must be set.
type Data struct {
	Overview func(context.Context) (*Overview, error)
	Server   func(ctx context.Context, group, name string) (api.ServerDetail, error)
	Forget   func(ctx context.Context, group, name string) (api.Change, error)
	Graph    func(context.Context, api.GraphQuery) (api.Graph, error)
	Measures func(group, server, service string) bool // there is such a service
	Alerts   *api.AlertOperations
	// Reputation is what is done with lists and reports.
	Reputation func(context.Context) (api.Reputation, error)
}

// Overview is what the first page shows. It is shared: nobody changes it.
type Overview struct {
	At   time.Time // when it was put together
	Rows []Row     // in the order of groups and servers
	// Banned is how many addresses the guard of this machine banned in 24 hours; negative: that is not known.
	Banned int
}

// Row is one server. What is not known is NaN.
type Row struct {
	Group, Name string
	State       string // ok, unknown, idle: as in api.Server
	Seen        time.Time
	Since       time.Time // unknown since
	CPU         Meter     // of a hundred
	Network     Meter     // bytes a second, both ways
	Bans        Meter     // in the last 24 hours
	Memory      float64   // of a hundred
	Disk        float64   // of a hundred, of the fullest filesystem
	DiskOf      string    // which that is
}

// Meter is a value now and over the last day.
type Meter struct {
	Now   float64
	Trend []float64
}

// overviewPage is the overview, ready to be drawn.
type overviewPage struct {
	Sentence string
	Alerts   []alertView // that nobody looks after
	Trouble  []rowView
	Groups   []groupView
}

type groupView struct {
	Name    string
	Summary string
	Rows    []rowView
	Folded  bool
}

type rowView struct {
	*Row
	Word, Kind         string // of its state: the word, and what it is shown with (good, late, idle)
	Since              string
	CPUText, NetText   string
	MemText, DiskText  string
	DiskFull           bool
	CPULine, NetLine   string // paths of sparklines
	BanLine            string
	CPULabel, NetLabel string
	BanText, BanLabel  string
}

// many is from how many servers on groups without trouble are folded.
const many = 40

func (s *Server) overviewPage(w http.ResponseWriter, r *http.Request, v *visitor) {
	o, err := s.o.Overview(r.Context())
	if err != nil {
		s.broken(w, r, err)
		return
	}
	l, now := s.locale(r), time.Now()
	var open []api.Alert
	if all, err := s.o.Alerts.Alerts(r.Context(), api.AlertsQuery{}, l.Tag()); err == nil { // without them the page is still of use
		open = all.Alerts
	}
	s.show(w, r, v, http.StatusOK, "overview", "page.overview.title", viewOverview(o, open, l, now))
}

func viewOverview(o *Overview, open []api.Alert, l *locale.Locale, now time.Time) *overviewPage {
	page := &overviewPage{}
	type server struct{ group, name string }
	level, silent := map[server]string{}, map[server]bool{}
	for i := range open {
		a := &open[i]
		if a.Ended != nil {
			continue
		}
		at := server{a.Group, a.Server}
		if level[at] != "critical" && (a.Level == "warning" || a.Level == "critical") {
			level[at] = a.Level
		}
		if a.Ack == nil {
			page.Alerts = append(page.Alerts, viewAlert(a, l, now))
			silent[at] = silent[at] || a.Service == ""
		}
	}
	well, bad := 0, 0
	for i := range o.Rows {
		row := viewRow(&o.Rows[i], l, now)
		at := server{row.Group, row.Name}
		switch worst := level[at]; {
		case row.Kind == "late":
			bad++
			if !silent[at] { // or else its alert says so
				page.Trouble = append(page.Trouble, row)
			}
		case row.Kind == "good" && worst != "":
			bad++
			row.Kind, row.Word = worst, l.T("level."+worst)
		case row.Kind == "good":
			well++
		}
		if n := len(page.Groups); n == 0 || page.Groups[n-1].Name != row.Group {
			page.Groups = append(page.Groups, groupView{Name: row.Group})
		}
		g := &page.Groups[len(page.Groups)-1]
		g.Rows = append(g.Rows, row)
	}
	for i := range page.Groups {
		summarize(&page.Groups[i], l, len(o.Rows))
	}
	page.Sentence = l.T("page.overview.well", "n", well)
	if bad > 0 {
		page.Sentence = l.T("page.overview.both", "well", page.Sentence, "bad", l.T("page.overview.bad", "n", bad))
	} else {
		page.Sentence += "."
	}
	if o.Banned >= 0 {
		page.Sentence += " " + l.T("page.overview.banned", "n", o.Banned)
	}
	return page
}

func summarize(g *groupView, l *locale.Locale, all int) {
	late, worse := 0, 0
	for i := range g.Rows {
		switch g.Rows[i].Kind {
		case "late":
			late++
		case "warning", "critical":
			worse++
		}
	}
	g.Summary = l.T("page.overview.servers", "n", len(g.Rows))
	if late > 0 {
		g.Summary += " · " + l.T("page.overview.silent", "n", late)
	}
	if worse > 0 {
		g.Summary += " · " + l.T("page.overview.bad", "n", worse)
	}
	if late+worse == 0 {
		g.Summary += " · " + l.T("page.overview.allwell")
	}
	g.Folded = late+worse == 0 && all > many
}

func viewRow(row *Row, l *locale.Locale, now time.Time) rowView {
	v := rowView{Row: row}
	const dash = "—"
	v.CPUText, v.NetText, v.MemText, v.DiskText, v.BanText = dash, dash, dash, dash, dash
	switch row.State {
	case "unknown":
		v.Kind, v.Word = "late", l.T("page.state.unknown")
		v.Since = l.T("page.state.since", "for", now.Sub(row.Since).Truncate(time.Minute), "at", l.At(row.Seen, now))
		if row.Seen.IsZero() {
			v.Since = l.T("page.state.never")
		}
		return v
	case "idle":
		v.Kind, v.Word = "idle", l.T("page.state.idle")
		return v
	}
	v.Kind, v.Word = "good", l.T("page.state.ok")
	if !math.IsNaN(row.CPU.Now) {
		v.CPUText = l.Percent(math.Round(row.CPU.Now))
	}
	if !math.IsNaN(row.Network.Now) {
		v.NetText = l.Rate(row.Network.Now)
	}
	if !math.IsNaN(row.Memory) {
		v.MemText = l.Percent(math.Round(row.Memory))
	}
	if !math.IsNaN(row.Disk) {
		v.DiskText, v.DiskFull = l.Percent(math.Round(row.Disk)), row.Disk >= 90
	}
	if !math.IsNaN(row.Bans.Now) {
		v.BanText = l.Int(int64(row.Bans.Now))
	}
	if v.CPULine = sparkline(row.CPU.Trend, 100); v.CPULine != "" {
		v.CPULabel = l.T("page.overview.cpulabel", "max", math.Round(most(row.CPU.Trend)))
	}
	if v.NetLine = sparkline(row.Network.Trend, 0); v.NetLine != "" {
		v.NetLabel = l.T("page.overview.netlabel", "max", most(row.Network.Trend))
	}
	if v.BanLine = sparkline(row.Bans.Trend, 0); v.BanLine != "" {
		v.BanLabel = l.T("page.overview.banlabel", "max", most(row.Bans.Trend))
	}
	return v
}

// fill adds to a page what the frame tells: where one can go, how old what is shown is.
func (s *Server) fill(ctx context.Context, f *frame) {
	f.Here = f.Path
	if i := strings.IndexByte(f.Here, '?'); i >= 0 {
		f.Here = f.Here[:i]
	}
	for _, l := range s.links() {
		if f.Who.May(l.what) {
			f.Links = append(f.Links, navLink{Path: l.path, Text: f.T(l.text), Here: l.path == f.Here || l.path != "/" && strings.HasPrefix(f.Here, l.path+"/")})
		}
	}
	if a, err := s.o.Alerts.Alerts(ctx, api.AlertsQuery{}, f.Tag()); err == nil {
		for i := range a.Alerts {
			if a.Alerts[i].Ended == nil && a.Alerts[i].Ack == nil {
				f.Open++
			}
		}
		for i := range f.Links {
			if f.Links[i].Path == "/alerts" && f.Open > 0 {
				f.Links[i].Count, f.Links[i].Label = f.Open, f.T("page.alerts.open", "n", f.Open)
			}
		}
	}
	o, err := s.o.Overview(ctx)
	if err != nil {
		f.Fresh, f.Late = f.T("page.frame.nodata"), true
		return
	}
	late := ""
	n := 0
	for i := range o.Rows {
		if o.Rows[i].State == "unknown" {
			n++
			late = o.Rows[i].Name
		}
	}
	f.Fresh = f.T("page.frame.data", "at", f.ClockSeconds(o.At))
	switch {
	case n == 1:
		f.Fresh += " · " + f.T("page.frame.lateone", "name", late)
	case n > 1:
		f.Fresh += " · " + f.T("page.frame.late", "n", n)
	}
	f.Late = n > 0
}

// navLink is one way of the frame.
type navLink struct {
	Path, Text string
	Here       bool
	Count      int    // of what waits there
	Label      string // the count in words
}

type linkTo struct {
	path, text string
	what       account.What
}

// links are the ways of the frame, in their order.
func (s *Server) links() []linkTo {
	return []linkTo{
		{"/", "page.nav.overview", account.See},
		{"/bans", "page.nav.bans", account.See},
		{"/alerts", "page.nav.alerts", account.See},
		{"/reputation", "page.nav.reputation", account.See},
		{"/users", "page.nav.users", account.ManageUsers},
		{"/actions", "page.nav.actions", account.SeeActions},
	}
}

// paths are the pages that need an account.
func (s *Server) paths() []route {
	return []route{
		{"GET /{$}", account.See, s.overviewPage},
		{"GET /search", account.See, s.searchPage},
		{"GET /server/{group}/{server}", account.See, s.serverPage},
		{"POST /server/{group}/{server}/forget", account.ManageUsers, s.forgetServer},
		{"GET /graph/{group}/{server}/{service}", account.See, s.graphPage},
		{"GET /compare/{group}/{service}", account.See, s.comparePage},
		{"GET /alerts", account.See, s.alertsPage},
		{"GET /alert/{id}", account.See, s.alertPage},
		{"POST /alert/{id}", account.Acknowledge, s.acknowledge},
		{"POST /silence", account.Acknowledge, s.silence},
		{"GET /reputation", account.See, s.reputationPage},
		{"GET /bans", account.See, s.bansPage},
		{"POST /bans", account.Ban, s.changeBans},
		{"GET /address/{addr}", account.SeeAddress, s.addressPage},
		{"POST /address/{addr}/unban", account.Unban, s.changeAddress("unban")},
		{"POST /address/{addr}/allow", account.AllowWeek, s.changeAddress("allow")},
		{"POST /address/{addr}/ban", account.Ban, s.changeAddress("ban")},
		{"GET /account", account.See, s.accountPage},
		{"POST /account/end", account.See, s.endSession},
		{"POST /account/password", account.See, s.changePassword},
		{"GET /users", account.ManageUsers, s.usersPage},
		{"POST /users/add", account.ManageUsers, s.changeUsers(s.AddUser)},
		{"POST /users/reset", account.ManageUsers, s.changeUsers(s.ResetUser)},
		{"POST /users/drop", account.ManageUsers, s.dropUser},
		{"POST /users/role", account.ManageUsers, s.setRole},
		{"POST /users/end", account.ManageUsers, s.endAnySession},
		{"POST /users/links", account.ManageUsers, s.revokeLinks},
		{"GET /actions", account.SeeActions, s.actionsPage},
	}
}

// searchPage is where the field at the top of each page leads: to an address, to a server, or to a choice of them.
type searchPage struct {
	Query string
	Hits  []*Row
}

const mostHits = 100

func (s *Server) searchPage(w http.ResponseWriter, r *http.Request, v *visitor) {
	q := strings.TrimSpace(clip(r.URL.Query().Get("q"), maxSearch))
	if q == "" {
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	}
	if to, ok := searchBans(q, v); ok {
		http.Redirect(w, r, to, http.StatusSeeOther)
		return
	}
	o, err := s.o.Overview(r.Context())
	if err != nil {
		s.broken(w, r, err)
		return
	}
	page := searchPage{Query: tocsin.Printable(q)}
	for i := range o.Rows {
		row := &o.Rows[i]
		if strings.EqualFold(row.Name, q) {
			page.Hits = []*Row{row}
			break
		}
		if len(page.Hits) < mostHits && (contains(row.Name, q) || contains(row.Group, q)) {
			page.Hits = append(page.Hits, row)
		}
	}
	if len(page.Hits) == 1 {
		http.Redirect(w, r, serverPath(page.Hits[0].Group, page.Hits[0].Name), http.StatusSeeOther)
		return
	}
	s.show(w, r, v, http.StatusOK, "search", "page.search.results", page)
}

func contains(s, part string) bool {
	return strings.Contains(strings.ToLower(s), strings.ToLower(part))
}

// serverPath is where a server's page is.
func serverPath(group, name string) string { return "/server/" + segment(group) + "/" + segment(name) }
