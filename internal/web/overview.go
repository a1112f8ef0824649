package web

import (
	"context"
	"math"
	"net/http"
	"net/netip"
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
	s.show(w, r, v, http.StatusOK, "overview", "page.overview.title", viewOverview(o, s.locale(r), time.Now()))
}

func viewOverview(o *Overview, l *locale.Locale, now time.Time) *overviewPage {
	page := &overviewPage{}
	well, bad := 0, 0
	for i := range o.Rows {
		row := viewRow(&o.Rows[i], l, now)
		if row.Kind == "late" {
			bad++
			page.Trouble = append(page.Trouble, row)
		} else if row.Kind == "good" {
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
	bad := 0
	for i := range g.Rows {
		if g.Rows[i].Kind == "late" {
			bad++
		}
	}
	state := l.T("page.overview.allwell")
	if bad > 0 {
		state = l.T("page.overview.silent", "n", bad)
	}
	g.Summary = l.T("page.overview.servers", "n", len(g.Rows)) + " · " + state
	g.Folded = bad == 0 && all > many
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
		{"/users", "page.nav.users", account.ManageUsers},
		{"/actions", "page.nav.actions", account.SeeActions},
	}
}

// paths are the pages that need an account.
func (s *Server) paths() []route {
	return []route{
		{"GET /{$}", account.See, s.overviewPage},
		{"GET /search", account.See, s.searchPage},
		{"GET /account", account.See, s.accountPage},
		{"POST /account/end", account.See, s.endSession},
		{"POST /account/password", account.See, s.changePassword},
		{"GET /users", account.ManageUsers, s.usersPage},
		{"POST /users/add", account.ManageUsers, s.changeUsers(s.AddUser)},
		{"POST /users/reset", account.ManageUsers, s.changeUsers(s.ResetUser)},
		{"POST /users/drop", account.ManageUsers, s.dropUser},
		{"POST /users/role", account.ManageUsers, s.setRole},
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
	if isAddress(q) {
		http.Redirect(w, r, "/address/"+segment(q), http.StatusSeeOther)
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

func isAddress(s string) bool {
	_, err := netip.ParseAddr(s)
	if err != nil {
		_, err = netip.ParsePrefix(s)
	}
	return err == nil
}

func contains(s, part string) bool {
	return strings.Contains(strings.ToLower(s), strings.ToLower(part))
}

// serverPath is where a server's page is.
func serverPath(group, name string) string { return "/server/" + segment(group) + "/" + segment(name) }
