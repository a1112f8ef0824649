package web

import (
	"bytes"
	"cmp"
	"html/template"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"tocsin"
	"tocsin/internal/account"
	"tocsin/internal/api"
	"tocsin/internal/graph"
	"tocsin/internal/locale"
)

// serverPage is one server with its graphs.
type serverPage struct {
	api.ServerDetail
	Row        rowView
	Alerts     []alertView // that are open, whoever looks after them
	Window     string
	Windows    []tab
	Categories []category
	Healthy    bool // it has news, and so values
	Sure       bool // it may be forgotten
}

// judge puts the open alerts of the server on its page, and makes the worst of them its state, as on the first page.
func (p *serverPage) judge(open []api.Alert, l *locale.Locale, now time.Time) {
	worst := ""
	for i := range open {
		a := &open[i]
		if a.Ended != nil || a.Group != p.Group || a.Server != p.Name {
			continue
		}
		p.Alerts = append(p.Alerts, viewAlert(a, l, now))
		if worst != "critical" && (a.Level == "warning" || a.Level == "critical") {
			worst = a.Level
		}
	}
	if p.Healthy && worst != "" {
		p.Row.Kind, p.Row.Word = worst, l.T("level."+worst)
	}
}

type tab struct {
	Path, Text string
	Here       bool
}

type category struct {
	Name, ID string
	Services []serviceView
}

type serviceView struct {
	Name, Title string
	Path        string // of its page
	Picture     string
}

// tabs are links to the windows of a page.
func tabs(l *locale.Locale, path, here string) (all []tab) {
	for _, w := range windows {
		all = append(all, tab{path + "?range=" + w, l.T("page.window." + w), w == here})
	}
	return all
}

// windowOf is the window that a page is asked for, "" if it names none.
func windowOf(r *http.Request) string {
	if w := r.URL.Query().Get("range"); slices.Contains(windows, w) {
		return w
	}
	return ""
}

// themed are the parameters of pictures in a page of the reader's theme.
func (s *Server) themed(r *http.Request) string {
	q := url.Values{"lang": {s.locale(r).Tag()}}
	if c, err := r.Cookie(cookieTheme); err == nil && (c.Value == "light" || c.Value == "dark") {
		q.Set("theme", c.Value)
	}
	return q.Encode()
}

func (s *Server) serverPage(w http.ResponseWriter, r *http.Request, v *visitor) {
	at := placeOf(r)
	d, err := s.o.Server(r.Context(), at.group, at.server)
	if err != nil {
		s.broken(w, r, err)
		return
	}
	o, err := s.o.Overview(r.Context())
	if err != nil {
		s.broken(w, r, err)
		return
	}
	l, now := s.locale(r), time.Now()
	page := serverPage{ServerDetail: d, Row: rowView{Row: &Row{}}, Window: cmp.Or(windowOf(r), "day"), Sure: v.May(account.ManageUsers)}
	page.Windows = tabs(l, serverPath(at.group, at.server), page.Window)
	for i := range o.Rows {
		if o.Rows[i].Group == d.Group && o.Rows[i].Name == d.Name {
			page.Row = viewRow(&o.Rows[i], l, now)
		}
	}
	page.Healthy = page.Row.Kind == "good"
	if all, err := s.o.Alerts.Alerts(r.Context(), api.AlertsQuery{}, l.Tag()); err == nil { // without them the page is still of use
		page.judge(all.Alerts, l, now)
	}
	theme := s.themed(r)
	for _, one := range d.Details {
		name := cmp.Or(strings.ToLower(one.Category), "other")
		if n := len(page.Categories); n == 0 || page.Categories[n-1].ID != name {
			page.Categories = append(page.Categories, category{Name: categoryName(l, name), ID: name})
		}
		c := &page.Categories[len(page.Categories)-1]
		p := place{d.Group, d.Name, one.Name}
		c.Services = append(c.Services, serviceView{Name: one.Name, Title: cmp.Or(one.Title, one.Name), Path: p.path(), Picture: p.path() + "/" + page.Window + ".svg?" + theme})
	}
	slices.SortStableFunc(page.Categories, func(a, b category) int { return cmp.Compare(rank(a.ID), rank(b.ID)) })
	for i := range page.Categories {
		page.Categories[i].ID = "c" + strconv.Itoa(i)
	}
	s.show(w, r, v, http.StatusOK, "server", d.Name, page)
}

// order is what one looks at first; what is not in it comes behind, by its name.
var order = []string{"system", "processor", "memory", "disk", "network", "containers", "security", "guard", "web", "mail"}

func rank(category string) int {
	if i := slices.Index(order, category); i >= 0 {
		return i
	}
	return len(order)
}

func categoryName(l *locale.Locale, name string) string {
	if key := "page.category." + name; l.Has(key) {
		return l.T(key)
	}
	return name
}

func (s *Server) forgetServer(w http.ResponseWriter, r *http.Request, v *visitor) {
	at := placeOf(r)
	if _, err := s.o.Forget(r.Context(), at.group, at.server); err != nil {
		s.broken(w, r, err)
		return
	}
	s.note(r, v, "server-forget", at.server, at.group)
	s.done(w, r, "/", "forgotten")
}

// graphPage is one service: its four windows side by side, or one of them large.
type graphPage struct {
	Group, ServerName string
	Path              string // of the four windows
	Title             string
	Windows           []tab
	Pictures          []figure      // of the four windows
	Large             template.HTML // the one that is asked for; drawn by package graph, which escapes what it writes
	From, To          int64         // of it, Unix seconds
	Left, Right       float64       // where its time begins and ends in it
	Plot              string        // where another time of it is drawn
	Table             graph.Table   //
	Rows              []graphRow    // of the table, written out
	Saves             []tab         // as files
	Compare           string        // path
	Ghosts            []tab         // what can be drawn behind it
	Embeds            []shared      // signed links
	Server            string        // path
}

// graphRow is one row of the table of what is drawn: the time that it ends at, and the values, for people.
type graphRow struct {
	T     int64
	Time  string
	Cells []string
}

type figure struct{ Window, Text, Path, Picture string }

type shared struct{ Text, Link string }

// mostRows bounds the table of a page; the whole is in the CSV.
const mostRows = 500

func (s *Server) graphPage(w http.ResponseWriter, r *http.Request, v *visitor) {
	at, l, q := placeOf(r), s.locale(r), r.URL.Query()
	page := graphPage{Group: at.group, ServerName: at.server, Path: at.path(), Server: serverPath(at.group, at.server), Compare: "/compare/" + segment(at.group) + "/" + segment(at.service)}
	window := windowOf(r)
	page.Windows = tabs(l, at.path(), window)
	for _, one := range windows {
		page.Pictures = append(page.Pictures, figure{one, l.T("page.window." + one), at.path() + "?range=" + one, at.path() + "/" + one + ".svg?" + s.themed(r)})
	}
	asked := window
	if asked == "" && q.Get("from") != "" {
		asked = "zoom"
	}
	p, err := pictureOf(at, cmp.Or(asked, "day"), "svg", q, time.Now())
	if err != nil {
		s.fail(w, r, http.StatusBadRequest, "page.error.time")
		return
	}
	p.inPage()
	g, err := s.lay(r.Context(), &p, l)
	if err != nil {
		s.broken(w, r, err)
		return
	}
	page.Title = g.Title()
	if asked != "" {
		if err := s.large(&page, &p, g, l); err != nil {
			s.broken(w, r, err)
			return
		}
		if v.May(account.Embed) {
			page.Embeds = s.embeds(&p, l)
		}
	}
	s.show(w, r, v, http.StatusOK, "graph", page.Title+" · "+at.server, page)
}

// inPage makes a picture one that is a part of a page.
func (p *picture) inPage() { p.inline, p.bare, p.width, p.height = true, true, 960, 320 }

// large fills a page with one window of a graph.
func (s *Server) large(page *graphPage, p *picture, g *graph.Graph, l *locale.Locale) error {
	var b bytes.Buffer
	if err := g.SVG(&b); err != nil {
		return err
	}
	page.Large = template.HTML(b.String())
	page.From, page.To = p.from.Unix(), p.to.Unix()
	page.Left, page.Right = g.Span()
	page.Plot = p.path() + "/zoom.svg"
	page.Table = g.Table()
	rows := page.Table.Rows
	for _, row := range rows[max(0, len(rows)-mostRows):] {
		var cells []string
		for _, v := range row.Values {
			text := "—"
			if !math.IsNaN(v[0]) {
				text = l.Number(v[0])
			}
			cells = append(cells, text)
		}
		page.Rows = append(page.Rows, graphRow{row.T, l.DateTime(time.Unix(row.T, 0)), cells})
	}
	slices.Reverse(page.Rows)
	name, query := cmp.Or(p.window, "zoom"), p.query().Encode()
	for _, kind := range []string{"csv", "svg", "png"} {
		page.Saves = append(page.Saves, tab{Path: strings.TrimSuffix(p.path()+"/"+name+"."+kind+"?"+query, "?"), Text: strings.ToUpper(kind)})
	}
	for _, one := range []struct {
		days int // whole weeks: the same day of the week
		text string
	}{{0, l.T("page.graph.alone")}, {7, l.T("page.graph.weekago")}, {364, l.T("page.graph.yearago")}} {
		other := *p
		other.behind = time.Duration(one.days) * 24 * time.Hour
		q := other.query()
		if p.window != "" {
			q.Set("range", p.window)
		}
		page.Ghosts = append(page.Ghosts, tab{p.path() + "?" + q.Encode(), one.text, other.behind == p.behind})
	}
	return nil
}

// embeds are links to a window that need no account.
func (s *Server) embeds(p *picture, l *locale.Locale) (all []shared) {
	if p.window == "" {
		return nil // a time that is over interests nobody for long
	}
	now := time.Now()
	for _, one := range []struct {
		key   string
		until time.Time
	}{{"page.graph.week", now.Add(7 * 24 * time.Hour)}, {"page.graph.year", now.AddDate(1, 0, 0)}, {"page.graph.ever", time.Time{}}} {
		plain := "/graph/" + cmp.Or(p.group, noGroup) + "/" + p.server + "/" + p.service + "/" + p.window + ".png"
		_, query, _ := strings.Cut(s.signer.sign(plain, one.until), "?")
		all = append(all, shared{l.T(one.key), s.o.Origin + p.path() + "/" + p.window + ".png?" + query})
	}
	return all
}

// comparePage is a service on all servers of a group.
type comparePage struct {
	Group, Service string
	Window         string
	Windows        []tab
	Pictures       []figure
}

const mostCompared = 200

func (s *Server) comparePage(w http.ResponseWriter, r *http.Request, v *visitor) {
	at, l := placeOf(r), s.locale(r)
	o, err := s.o.Overview(r.Context())
	if err != nil {
		s.broken(w, r, err)
		return
	}
	page := comparePage{Group: at.group, Service: at.service, Window: cmp.Or(windowOf(r), "day")}
	page.Windows = tabs(l, "/compare/"+segment(at.group)+"/"+segment(at.service), page.Window)
	for i := range o.Rows {
		row := &o.Rows[i]
		if row.Group != at.group || len(page.Pictures) >= mostCompared || !s.o.Measures(row.Group, row.Name, at.service) {
			continue
		}
		p := place{row.Group, row.Name, at.service}
		page.Pictures = append(page.Pictures, figure{page.Window, tocsin.Printable(row.Name), p.path() + "?range=" + page.Window, p.path() + "/" + page.Window + ".svg?" + s.themed(r)})
	}
	s.show(w, r, v, http.StatusOK, "compare", "page.compare.title", page)
}
