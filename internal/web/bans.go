package web

import (
	"cmp"
	"context"
	"errors"
	"math"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"tocsin"
	"tocsin/internal/account"
	"tocsin/internal/api"
	"tocsin/internal/locale"
)

// GuardData is what the pages of the guard show beside what the guard itself answers. Every field must be set.
type GuardData struct {
	// Country is the two letters of an address's country, "" where nobody knows it.
	Country func(netip.Addr) string
	// Person says whether a name is that of a person with an account on this machine.
	Person func(name string) bool
	// Own is what this machine is called among the servers.
	Own func() (group, server string)
	// Reported is what became of reports about an address.
	Reported func(context.Context, netip.Addr) (Reported, error)
}

// Reported is what became of reports about an address in the last day.
type Reported struct {
	Sent    time.Time // zero: none was
	Waiting bool      // one is to be sent
	To      string    // whom they are sent to; "": reports are off
}

// Bounds of the page of bans.
const (
	bansOfPage = 50
	bansAsked  = 10_000 // as many as the guard answers at once
	bansFresh  = 10 * time.Second
	mostRanked = 12 // rows of a table of counts
	mostAtOnce = 100
	maxReason  = 200 // bytes
)

// spans are the times that the page looks back on, by what its address says; 0: who is banned now.
var spans = []struct {
	name string
	long time.Duration
}{{"now", 0}, {"day", 24 * time.Hour}, {"week", 7 * 24 * time.Hour}, {"month", 30 * 24 * time.Hour}}

// banList keeps what the guard answered, for whoever asks next.
type banList struct {
	mu    sync.Mutex // held while the guard is asked: the others wait for it
	lists map[string]fetchedBans
}

type fetchedBans struct {
	at   time.Time
	all  []ban
	more bool // there are older ones
}

// ban is one ban, in as much as lists of them show.
type ban struct {
	ID      string
	Prefix  netip.Prefix // zero: the id is no address
	Jail    string
	Ports   []uint16 // empty: all
	At      time.Time
	Until   *time.Time // nil: without end
	Ended   *time.Time // lifted
	EndedBy string
	Active  bool
	Country string // "": nobody knows it
	Net     netip.Prefix
}

// forget makes the next question be asked of the guard.
func (b *banList) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lists = nil
}

// bans are those of a span, newest first.
func (s *Server) bans(ctx context.Context, span string, long time.Duration) (fetchedBans, error) {
	l := &s.banned
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if f, ok := l.lists[span]; ok && now.Sub(f.at) < bansFresh {
		return f, nil
	}
	answer, err := s.o.Guard.Bans(ctx, api.BansQuery{All: long > 0, Since: long, Limit: bansAsked})
	if err != nil {
		return fetchedBans{}, err
	}
	f := fetchedBans{at: now, more: answer.More}
	for i := range answer.Bans {
		if b := &answer.Bans[i]; b.Origin != tocsin.ByList.String() { // other people's lists are told apart
			f.all = append(f.all, s.banOf(b))
		}
	}
	if l.lists == nil {
		l.lists = map[string]fetchedBans{}
	}
	l.lists[span] = f
	return f, nil
}

func (s *Server) banOf(b *api.Ban) ban {
	out := ban{ID: b.ID, Jail: b.Jail, Ports: b.Ports, At: b.At, Until: b.Until, Ended: b.EndedAt, EndedBy: b.EndedBy, Active: b.Active}
	if p, err := netip.ParsePrefix(b.Prefix); err == nil {
		out.Prefix, out.Net, out.Country = p, account.Cut(p), s.o.Country(p.Addr())
	}
	return out
}

// choice is which bans are looked at.
type choice struct {
	Span    string
	Jail    string
	Port    string // a number, or "all"
	Country string // two letters, or "-" for those of which nobody knows it
	Net     netip.Prefix
	Page    int // from 1
}

// choiceOf reads a choice. Who may not see lists of addresses looks at no narrower network than what is shown of them.
func choiceOf(q url.Values, v *visitor) choice {
	c := choice{Span: "now", Jail: clip(q.Get("jail"), maxSearch), Page: 1}
	for _, one := range spans {
		if one.name == q.Get("when") {
			c.Span = one.name
		}
	}
	if port := q.Get("port"); port == allPorts {
		c.Port = port
	} else if n, err := strconv.ParseUint(port, 10, 16); err == nil {
		c.Port = strconv.FormatUint(n, 10)
	}
	if land := q.Get("country"); land == noCountry || len(land) == 2 && strings.ToUpper(land) == land {
		c.Country = land
	}
	if p, err := netip.ParsePrefix(q.Get("net")); err == nil {
		if c.Net = p.Masked(); !v.May(account.SeeAddresses) {
			c.Net = account.Cut(c.Net)
		}
	}
	if n, err := strconv.Atoi(q.Get("page")); err == nil && n > 0 && n <= bansAsked/bansOfPage {
		c.Page = n
	}
	return c
}

const (
	allPorts  = "all"
	noCountry = "-"
)

func (c choice) long() time.Duration {
	for _, one := range spans {
		if one.name == c.Span {
			return one.long
		}
	}
	return 0
}

// path is where a choice is shown.
func (c choice) path() string {
	q := url.Values{}
	set := func(name, value string) {
		if value != "" {
			q.Set(name, value)
		}
	}
	if c.Span != "now" {
		q.Set("when", c.Span)
	}
	set("jail", c.Jail)
	set("port", c.Port)
	set("country", c.Country)
	if c.Net.IsValid() {
		q.Set("net", c.Net.String())
	}
	if c.Page > 1 {
		q.Set("page", strconv.Itoa(c.Page))
	}
	if len(q) == 0 {
		return "/bans"
	}
	return "/bans?" + q.Encode()
}

// has says whether a ban is one of those.
func (c *choice) has(b *ban) bool {
	switch {
	case c.Jail != "" && b.Jail != c.Jail,
		c.Country != "" && cmp.Or(b.Country, noCountry) != c.Country,
		c.Net.IsValid() && !c.Net.Overlaps(b.Prefix):
		return false
	case c.Port == allPorts:
		return len(b.Ports) == 0
	case c.Port != "":
		n, _ := strconv.ParseUint(c.Port, 10, 16) // choiceOf wrote it
		return slices.Contains(b.Ports, uint16(n))
	}
	return true
}

// bansPage is what the page of bans shows.
type bansPage struct {
	choice
	Server   string // whose guard it is
	Whole    bool   // addresses are shown as they are
	Search   bool   // somebody's may be looked for
	Change   bool   // several may be changed at once
	Query    string
	Wrong    []string
	Note     string // what the guard does with the firewall where that is not all
	Counts   []count
	Lists    string // what other people's lists close, in words; "" where there is none
	Spans    []tab
	Filters  []filter
	Rows     []banRow
	From, To int // of all
	Of       string
	Older    string // paths
	Newer    string
	More     bool
	Tables   []ranking
	Graphs   []figure
	Confirm  *confirm
	Back     string // this page
	Spoken   string // of the choice, for the table
}

type count struct{ Name, Value string }

// filter is one way to choose.
type filter struct {
	Name, Label string
	Options     []option
}

type option struct {
	Value, Text string
	Here        bool
}

type banRow struct {
	ban
	Name     string // the address as it is shown
	Path     string // of its page, "" where that is not shown
	EndText  string
	PortText string
	NetText  string
	NetPath  string
	Times    int
}

// ranking counts bans by one of their properties.
type ranking struct {
	Name string
	Rows []ranked
	Rest string // what is not shown, in words
}

type ranked struct {
	Text, Path string
	N          int
	Width      int // of a hundred
}

// confirm asks whether somebody is sure.
type confirm struct {
	Do     string
	Names  []string
	Reason bool
	For    []option // how long
}

func (s *Server) bansPage(w http.ResponseWriter, r *http.Request, v *visitor) {
	q := r.URL.Query()
	page := bansPage{}
	if text := strings.TrimSpace(clip(q.Get("q"), maxSearch)); text != "" {
		to, ok := searchBans(text, v)
		if ok {
			http.Redirect(w, r, to, http.StatusSeeOther)
			return
		}
		page.Query = text
		page.Wrong = []string{s.locale(r).T("page.bans.noaddress")}
	}
	s.showBans(w, r, v, http.StatusOK, choiceOf(q, v), page)
}

// searchBans is where a search among the bans leads.
func searchBans(text string, v *visitor) (to string, ok bool) {
	if addr, err := netip.ParseAddr(text); err == nil {
		if v.May(account.SeeAddress) {
			return "/address/" + segment(text), true
		}
		return choice{Span: "now", Net: account.Cut(netip.PrefixFrom(addr, addr.BitLen())), Page: 1}.path(), true
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return "", false
	}
	if p.IsSingleIP() && v.May(account.SeeAddress) {
		return "/address/" + segment(p.Addr().String()), true
	}
	if p = p.Masked(); !v.May(account.SeeAddresses) {
		p = account.Cut(p)
	}
	return choice{Span: "now", Net: p, Page: 1}.path(), true
}

// showBans fills the page with what c chooses.
func (s *Server) showBans(w http.ResponseWriter, r *http.Request, v *visitor, code int, c choice, page bansPage) {
	l, now := s.locale(r), time.Now()
	found, err := s.bans(r.Context(), c.Span, c.long())
	if err != nil {
		s.broken(w, r, err)
		return
	}
	page.choice, page.Back, page.More = c, c.path(), found.more
	page.Whole, page.Search, page.Change = v.May(account.SeeAddresses), v.May(account.SeeAddress), v.May(account.Ban)
	if _, page.Server = s.o.Own(); page.Server == "" {
		page.Server = l.T("page.bans.here")
	}
	if err := s.countBans(r.Context(), &page, l); err != nil {
		s.broken(w, r, err)
		return
	}
	chosen := make([]*ban, 0, len(found.all))
	for i := range found.all {
		if c.has(&found.all[i]) {
			chosen = append(chosen, &found.all[i])
		}
	}
	page.Spoken = l.T("page.bans.when." + c.Span)
	for _, one := range spans {
		other := c
		other.Span, other.Page = one.name, 1
		page.Spans = append(page.Spans, tab{other.path(), l.T("page.bans.when." + one.name), one.name == c.Span})
	}
	page.Filters = filtersOf(found.all, c, l)
	page.Tables = rankings(chosen, c, l)
	s.rowsOf(&page, chosen, l, now)
	page.Graphs = s.guardGraphs(r, l)
	s.show(w, r, v, code, "bans", "page.bans.title", page)
}

// countBans tells how many there are, without those of other people's lists.
func (s *Server) countBans(ctx context.Context, page *bansPage, l *locale.Locale) error {
	tally, err := s.o.Guard.Tally(ctx, false)
	if err != nil {
		return err
	}
	week, err := s.bans(ctx, "week", 7*24*time.Hour)
	if err != nil {
		return err
	}
	status, err := s.o.Guard.Status(ctx)
	if err != nil {
		return err
	}
	if status.Mode != api.ModeEnforcing {
		page.Note = l.T("page.bans.mode." + status.Mode)
	}
	active, day := 0, 0
	for _, c := range tally.Counts {
		active, day = active+c.Active, day+c.Day
	}
	times, again := timesOf(week.all), 0
	for _, n := range times {
		if n > 1 {
			again++
		}
	}
	many := ""
	if week.more {
		many = "+"
	}
	page.Counts = []count{
		{l.T("page.bans.now"), l.Int(int64(active))}, {l.T("page.bans.day"), l.Int(int64(day))},
		{l.T("page.bans.week"), l.Int(int64(len(week.all))) + many}, {l.T("page.bans.again"), l.Int(int64(again)) + many},
	}
	lists, err := s.o.Guard.Lists(ctx)
	if err != nil {
		return err
	}
	entries, n := 0, 0
	for i := range lists.Lists {
		if lists.Lists[i].InForce {
			entries, n = entries+lists.Lists[i].Entries, n+1
		}
	}
	if n > 0 {
		page.Lists = l.T("page.bans.lists", "n", n, "entries", entries)
	}
	return nil
}

// timesOf counts how often each address was banned.
func timesOf(all []ban) map[string]int {
	times := map[string]int{}
	for i := range all {
		times[all[i].ID]++
	}
	return times
}

// rowsOf fills one page of the list.
func (s *Server) rowsOf(page *bansPage, chosen []*ban, l *locale.Locale, now time.Time) {
	times := map[string]int{}
	for _, b := range chosen {
		times[b.ID]++
	}
	from := min((page.Page-1)*bansOfPage, len(chosen))
	to := min(from+bansOfPage, len(chosen))
	page.From, page.To, page.Of = from+1, to, l.Int(int64(len(chosen)))
	if page.More {
		page.Of += "+"
	}
	step := func(by int) string { c := page.choice; c.Page += by; return c.path() }
	if to < len(chosen) {
		page.Older = step(1)
	}
	if page.Page > 1 {
		page.Newer = step(-1)
	}
	for _, b := range chosen[from:to] {
		row := banRow{ban: *b, Times: times[b.ID], EndText: endText(b, l, now), PortText: portsText(b.Ports, l)}
		switch {
		case page.Whole:
			row.Name, row.Path = b.ID, "/address/"+segment(b.ID)
		case b.Prefix.IsValid():
			row.Name = b.Net.String()
		default:
			row.Name = "—"
		}
		if b.Net.IsValid() {
			other := page.choice
			other.Net, other.Page = b.Net, 1
			row.NetText, row.NetPath = b.Net.String(), other.path()
		}
		page.Rows = append(page.Rows, row)
	}
}

// endText says until when a ban lasts, or how it ended.
func endText(b *ban, l *locale.Locale, now time.Time) string {
	switch {
	case b.Ended != nil && b.EndedBy != "":
		return l.T("page.bans.lifted", "at", l.At(*b.Ended, now), "by", b.EndedBy)
	case b.Ended != nil:
		return l.T("page.bans.over", "at", l.At(*b.Ended, now))
	case b.Until == nil:
		return l.T("page.bans.forever")
	case b.Active:
		return l.At(*b.Until, now)
	}
	return l.T("page.bans.over", "at", l.At(*b.Until, now))
}

// mostPorts is how many ports are named in a row.
const mostPorts = 6

func portsText(ports []uint16, l *locale.Locale) string {
	if len(ports) == 0 {
		return l.T("page.bans.allports")
	}
	var all []string
	for _, p := range ports[:min(len(ports), mostPorts)] {
		all = append(all, strconv.Itoa(int(p)))
	}
	if len(ports) > mostPorts {
		all = append(all, "…")
	}
	return strings.Join(all, ", ")
}

// property is one of which bans are counted and chosen.
type property struct {
	name string
	of   func(*ban) []string
	text func(value string, l *locale.Locale) string
	set  func(c *choice, value string)
	now  func(c choice) string
}

var properties = []property{
	{"country", func(b *ban) []string { return []string{cmp.Or(b.Country, noCountry)} }, countryText,
		func(c *choice, v string) { c.Country = v }, func(c choice) string { return c.Country }},
	{"jail", func(b *ban) []string { return []string{b.Jail} }, plainText,
		func(c *choice, v string) { c.Jail = v }, func(c choice) string { return c.Jail }},
	{"port", func(b *ban) []string {
		if len(b.Ports) == 0 {
			return []string{allPorts}
		}
		var all []string
		for _, p := range b.Ports {
			all = append(all, strconv.Itoa(int(p)))
		}
		return all
	}, portText, func(c *choice, v string) { c.Port = v }, func(c choice) string { return c.Port }},
	{"net", func(b *ban) []string {
		if !b.Net.IsValid() {
			return nil
		}
		return []string{b.Net.String()}
	}, plainText, func(c *choice, v string) { c.Net, _ = netip.ParsePrefix(v) }, func(c choice) string {
		if !c.Net.IsValid() {
			return ""
		}
		return c.Net.String()
	}},
}

func plainText(value string, _ *locale.Locale) string { return value }

func countryText(value string, l *locale.Locale) string {
	if value == noCountry {
		return l.T("page.bans.nocountry")
	}
	return value
}

func portText(value string, l *locale.Locale) string {
	if value == allPorts {
		return l.T("page.bans.allports")
	}
	return value
}

// counted are the values of a property with how many bans have them, the most first.
func counted[B any](all []B, p *property, get func(B) *ban) (values []string, times map[string]int) {
	times = map[string]int{}
	for _, b := range all {
		for _, value := range p.of(get(b)) {
			if times[value]++; times[value] == 1 {
				values = append(values, value)
			}
		}
	}
	slices.SortFunc(values, func(a, b string) int { return cmp.Or(cmp.Compare(times[b], times[a]), strings.Compare(a, b)) })
	return values, times
}

// mostOptions bounds a choice; networks are chosen from the table.
const mostOptions = 60

func filtersOf(all []ban, c choice, l *locale.Locale) (filters []filter) {
	refs := make([]*ban, len(all))
	for i := range all {
		refs[i] = &all[i]
	}
	for i := range properties {
		p := &properties[i]
		f := filter{Name: p.name, Label: l.T("page.bans." + p.name), Options: []option{{"", l.T("page.bans.any." + p.name), p.now(c) == ""}}}
		values, _ := counted(refs, p, func(b *ban) *ban { return b })
		values = values[:min(len(values), mostOptions)]
		if now := p.now(c); now != "" && !slices.Contains(values, now) {
			values = append(values, now)
		}
		if p.name != "net" {
			slices.Sort(values)
		}
		for _, value := range values {
			if tocsin.Printable(value) != value {
				continue // the name of no jail of ours
			}
			f.Options = append(f.Options, option{value, tocsin.Printable(p.text(value, l)), value == p.now(c)})
		}
		filters = append(filters, f)
	}
	return filters
}

// rankings are tables of what is chosen by country, jail, port and network.
func rankings(chosen []*ban, c choice, l *locale.Locale) (tables []ranking) {
	if len(chosen) == 0 {
		return nil
	}
	for i := range properties {
		p := &properties[i]
		values, times := counted(chosen, p, func(b *ban) *ban { return b })
		if len(values) == 0 || p.name == "country" && len(values) == 1 && values[0] == noCountry {
			continue // nobody knows countries here
		}
		t := ranking{Name: l.T("page.bans.by." + p.name)}
		for _, value := range values[:min(len(values), mostRanked)] {
			other := c
			other.Page = 1
			p.set(&other, value)
			t.Rows = append(t.Rows, ranked{tocsin.Printable(p.text(value, l)), other.path(), times[value], int(math.Ceil(100 * float64(times[value]) / float64(times[values[0]])))})
		}
		if rest := len(values) - mostRanked; rest > 0 {
			t.Rest = l.T("list.more", "n", rest)
		}
		tables = append(tables, t)
	}
	return tables
}

// guardGraphs are those of the guard, in the order in which they are looked at.
func (s *Server) guardGraphs(r *http.Request, l *locale.Locale) (all []figure) {
	group, server := s.o.Own()
	for _, service := range []string{"bans_day", "failures", "bans_port_day", "bans_country_day"} {
		if !s.o.Measures(group, server, service) {
			continue
		}
		at := place{group, server, service}
		all = append(all, figure{Text: l.T("page.bans.graph." + service), Path: at.path(), Picture: at.path() + "/week.svg?" + s.themed(r)})
	}
	return all
}

// Durations that somebody may choose, in days.
var (
	banDays   = []int{1, 7, 30, 365}
	allowDays = []int{7, 1, 30, 365}
)

func dayOptions(days []int, l *locale.Locale) (all []option) {
	for i, n := range days {
		all = append(all, option{strconv.Itoa(n), l.T("unit.days", "n", n), i == 0})
	}
	return all
}

// daysOf reads how long somebody chose; ok is false if it is none of those that one may.
func daysOf(r *http.Request, may []int) (d time.Duration, ok bool) {
	n, err := strconv.Atoi(r.PostFormValue("days"))
	if err != nil || !slices.Contains(may, n) {
		return 0, false
	}
	return time.Duration(n) * 24 * time.Hour, true
}

// changeBans changes several bans at once: first it asks whether that is meant, on the same page.
func (s *Server) changeBans(w http.ResponseWriter, r *http.Request, v *visitor) {
	l := s.locale(r)
	_ = r.PostFormValue("do") // reads the form
	back, err := url.Parse(localPath(r.PostFormValue("back")))
	if err != nil {
		back = &url.URL{}
	}
	c := choiceOf(back.Query(), v)
	do := r.PostFormValue("do")
	var ids []string
	for _, text := range r.PostForm["id"] { // in the form of a part of a path: an id may be anything
		if id, err := url.PathUnescape(text); err == nil {
			ids = append(ids, id)
		}
	}
	if do == "cancel" {
		http.Redirect(w, r, c.path(), http.StatusSeeOther)
		return
	}
	if len(ids) == 0 || len(ids) > mostAtOnce || do != "unban" && do != "allow" && do != "ban" {
		s.showBans(w, r, v, http.StatusUnprocessableEntity, c, bansPage{Wrong: []string{l.T("page.bans.nothing", "n", mostAtOnce)}})
		return
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	ask := &confirm{Do: do, Names: ids, Reason: do == "ban"}
	switch do {
	case "ban":
		ask.For = dayOptions(banDays, l)
	case "allow":
		ask.For = dayOptions(allowDays, l)
	}
	if r.PostFormValue("sure") == "" {
		s.showBans(w, r, v, http.StatusOK, c, bansPage{Confirm: ask})
		return
	}
	long, ok := daysOf(r, append(slices.Clone(banDays), allowDays...))
	if !ok && do != "unban" {
		s.showBans(w, r, v, http.StatusUnprocessableEntity, c, bansPage{Confirm: ask})
		return
	}
	wrong := s.changeAll(r, v, do, ids, long)
	s.banned.forget()
	if len(wrong) > 0 {
		s.showBans(w, r, v, http.StatusConflict, c, bansPage{Wrong: wrong})
		return
	}
	s.done(w, r, c.path(), do+"s")
}

// mostWrong is how many refusals are told.
const mostWrong = 5

// changeAll changes bans one after the other, and says what could not be done.
func (s *Server) changeAll(r *http.Request, v *visitor, do string, ids []string, long time.Duration) (wrong []string) {
	l := s.locale(r)
	for i, id := range ids {
		err := s.changeBan(r, v, do, id, long)
		if err == nil {
			continue
		}
		var e *api.Error
		if !errors.As(err, &e) || e.Exit == api.ExitUnreachable || e.Exit == api.ExitTryLater {
			return append(wrong, l.T("page.bans.stopped", "n", i, "why", err.Error()))
		}
		if len(wrong) < mostWrong {
			wrong = append(wrong, l.T("page.bans.refused", "addr", id, "why", e.Msg))
		}
	}
	return wrong
}

// changeBan unbans, allows or bans, and notes who did.
func (s *Server) changeBan(r *http.Request, v *visitor, do, id string, long time.Duration) (err error) {
	ctx, by := r.Context(), v.By()
	reason, note := strings.TrimSpace(tocsin.Printable(clip(r.PostFormValue("reason"), maxReason))), ""
	switch do {
	case "unban":
		_, err = s.o.Guard.Unban(ctx, api.UnbanRequest{Prefix: id, Reason: reason, By: by})
	case "allow":
		_, err = s.o.Guard.Allow(ctx, api.AllowRequest{Prefix: id, Seconds: long.Seconds(), Note: reason, By: by})
		note = daysNote(long)
	case "ban":
		_, err = s.o.Guard.Ban(ctx, api.BanRequest{Prefix: id, Seconds: long.Seconds(), Reason: cmp.Or(reason, "banned on the pages"), By: by})
		note = daysNote(long)
	}
	if err == nil {
		s.note(r, v, do, id, strings.TrimSpace(note+" "+reason))
	}
	return err
}

// daysNote is a duration as the commands read it.
func daysNote(d time.Duration) string { return strconv.Itoa(int(d/(24*time.Hour))) + "d" }
