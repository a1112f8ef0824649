package web

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"tocsin"
	"tocsin/internal/account"
	"tocsin/internal/api"
	"tocsin/internal/locale"
	"tocsin/internal/store"
)

// Bounds of the page of an address.
const (
	weekOfAllow  = 7 * 24 * time.Hour // as long as those who help members may allow
	actionsRead  = 1_000              // of all, to find those about an address
	mostDeeds    = 30
	lookedAgain  = 15 * time.Minute // after which a look at the same address is noted again
	mostLooked   = 10_000
	mostEvidence = 50
)

// subject is whom a page is about.
type subject struct {
	name string       // as it is shown and asked for
	addr netip.Addr   // zero: it is no address
	what netip.Prefix // what is changed
}

// subjectOf reads a subject. An IPv6 network of one subscriber is asked about by its first address; wider ones are lists.
func subjectOf(text string) (s subject, ok bool) {
	if text == "" || len(text) > maxSearch || !utf8.ValidString(text) {
		return s, false
	}
	if addr, err := netip.ParseAddr(text); err == nil {
		addr = addr.Unmap().WithZone("")
		return subject{addr.String(), addr, netip.PrefixFrom(addr, addr.BitLen())}, true
	}
	if p, err := netip.ParsePrefix(text); err == nil {
		if p.Addr().Is4In6() { // many of IPv4 would look like one subscriber of IPv6
			return s, false
		}
		p = p.Masked()
		return subject{tocsin.PrefixString(p), p.Addr(), p}, p.IsSingleIP() || p.Addr().Is6() && p.Bits() >= 64
	}
	return subject{name: text}, true
}

// looks are who looked at which address a short while ago: it is noted once.
type looks struct {
	mu   sync.Mutex
	last map[[2]string]time.Time
}

// isNew says whether a look is to be noted.
func (k *looks) isNew(who, addr string, now time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	key := [2]string{who, addr}
	if at, ok := k.last[key]; ok && now.Sub(at) < lookedAgain {
		return false
	}
	if k.last == nil || len(k.last) >= mostLooked {
		k.last = map[[2]string]time.Time{}
	}
	k.last[key] = now
	return true
}

// addressPage answers what, because of what, and what now.
type addressPage struct {
	Name     string
	Banned   bool
	State    string   // in a word
	Kind     string   // of the word
	What     []string // sentences
	Because  string
	Lines    []line
	Rule     string
	Users    string
	Logins   string // "" where they are not shown
	Standing []string
	Former   []formerBan
	Older    string
	Lists    []string
	Country  string
	Reported string
	Deeds    []deed
	Print    bool
	Plain    bool   // of nobody's address: only unban
	Path     string // of this page
	Forget   bool   // it is on the allow list by hand: how to take it off
	AllowFor []option
	BanFor   []option
	Wrong    string
	Note     string // what the guard does with the firewall where that is not all
}

// line is one of a log, that a ban rests on.
type line struct {
	At     string
	Text   string
	Source string
}

type formerBan struct{ At, Jail, For, End string }

// deed is what somebody did about an address.
type deed struct {
	At        time.Time
	Who, What string
}

func (s *Server) addressPage(w http.ResponseWriter, r *http.Request, v *visitor) {
	s.showAddress(w, r, v, http.StatusOK, "")
}

// showAddress shows the page of one address. wrong is what went wrong just now.
func (s *Server) showAddress(w http.ResponseWriter, r *http.Request, v *visitor, code int, wrong string) {
	about, ok := subjectOf(r.PathValue("addr"))
	if !ok && about.what.IsValid() {
		http.Redirect(w, r, choice{Span: "now", Net: about.what, Page: 1}.path(), http.StatusSeeOther)
		return
	}
	// What is no address may be anything, a name too: that is for those who may see lists.
	if !ok || !about.addr.IsValid() && !v.May(account.SeeAddresses) {
		s.fail(w, r, http.StatusNotFound, "page.error.nothing")
		return
	}
	y, err := s.why(r.Context(), about)
	if err != nil {
		s.broken(w, r, err)
		return
	}
	if !about.addr.IsValid() && len(y.Bans)+len(y.Former)+len(y.Standing) == 0 {
		s.fail(w, r, http.StatusNotFound, "page.error.nothing")
		return
	}
	a := answerer{s: s, l: s.locale(r), now: time.Now(), y: y, about: about, v: v, given: r.URL.Query().Get("print") == "1"}
	page := a.page(r.Context())
	page.Wrong, page.Print, page.Path = wrong, a.given, "/address/"+segment(about.name)
	if v.May(account.SeeAddresses) {
		if err := a.deeds(r.Context(), page); err != nil {
			s.broken(w, r, err)
			return
		}
	}
	if s.looked.isNew(v.By(), about.name, a.now) {
		s.note(r, v, store.Look, about.name, "")
	}
	s.show(w, r, v, code, "address", about.name, page)
}

func (s *Server) why(ctx context.Context, about subject) (api.Why, error) {
	if !about.addr.IsValid() {
		return s.o.Guard.WhyID(ctx, about.name)
	}
	return s.o.Guard.Why(ctx, about.addr)
}

// answerer writes the page of one address.
type answerer struct {
	s       *Server
	l       *locale.Locale
	now     time.Time
	y       api.Why
	about   subject
	v       *visitor
	persons []string // names to be shortened
	given   bool     // the page is given away: nobody of ours is named
}

func (a *answerer) page(ctx context.Context) *addressPage {
	page := &addressPage{Name: tocsin.Printable(a.about.name), Banned: a.y.Banned, Plain: !a.about.addr.IsValid()}
	a.persons = a.shortened()
	a.verdict(page)
	if newest := a.newest(); newest != nil {
		page.Because = a.because(ctx, newest)
		page.Lines = a.lines(newest.Evidence)
		page.Rule = a.rule(ctx, newest)
	}
	for i := range a.y.Standing {
		st := &a.y.Standing[i]
		page.Standing = append(page.Standing, a.l.T("page.address.standing", "n", st.Failures, "jail", st.Jail, "find", a.findTime(st.FindTime), "more", st.More))
		if len(page.Lines) == 0 {
			page.Lines = a.lines(st.Evidence)
		}
	}
	if a.y.Today > 0 {
		page.Standing = append(page.Standing, a.l.T("page.address.today", "n", a.y.Today))
	}
	var users []string
	for _, name := range a.y.Users {
		users = append(users, a.shorten(name))
	}
	page.Users = strings.Join(users, ", ")
	if a.v.May(account.SeeAddresses) && !page.Plain {
		page.Logins = a.logins()
	}
	a.history(page)
	a.others(ctx, page)
	days := []int{7}
	if a.v.May(account.Ban) {
		days = allowDays
	}
	page.AllowFor, page.BanFor = dayOptions(days, a.l), dayOptions(banDays, a.l)
	return page
}

// newest is the ban that the page tells of: one that runs, or the last that did; nil if there was none.
func (a *answerer) newest() *api.Ban {
	switch {
	case len(a.y.Bans) > 0:
		return &a.y.Bans[0]
	case len(a.y.Former) > 0:
		return &a.y.Former[0]
	}
	return nil
}

// verdict says how it is now.
func (a *answerer) verdict(page *addressPage) {
	l, name := a.l, a.about.name
	page.State, page.Kind = l.T("page.address.state.free"), "good"
	switch {
	case a.y.Banned:
		page.State, page.Kind = l.T("page.address.state.banned"), "critical"
		for i := range a.y.Bans {
			page.What = append(page.What, a.banned(&a.y.Bans[i]))
		}
	case len(a.y.Former) > 0:
		page.What = append(page.What, l.T("page.address.nomore", "addr", name, "at", l.At(endOf(&a.y.Former[0]), a.now), "ago", l.Ago(endOf(&a.y.Former[0]), a.now)))
	default:
		page.What = append(page.What, l.T("page.address.never", "addr", name))
	}
	if a.y.Mode != api.ModeEnforcing {
		page.Note = l.T("page.bans.mode." + a.y.Mode)
	}
	for i := range a.y.Listed {
		one := &a.y.Listed[i]
		key := "page.address.listed"
		if !one.Blocked {
			key = "page.address.spared"
		}
		text := l.T(key, "list", one.List, "entry", one.Entry, "ports", portsText(one.Ports, l))
		page.Lists = append(page.Lists, text)
		if one.Blocked && !a.y.Banned {
			page.State, page.Kind = l.T("page.address.state.listed"), "warning"
			page.What = append(page.What, text)
		}
	}
	if w := a.y.Allowed; w != nil {
		page.State, page.Kind = l.T("page.address.state.allowed"), "good"
		page.What = append(page.What, a.allowed(w))
		page.Forget = w.Origin == "operator" && w.Jail == "" && a.v.May(account.SeeAddresses)
	}
}

func endOf(b *api.Ban) time.Time {
	switch {
	case b.EndedAt != nil:
		return *b.EndedAt
	case b.Until != nil:
		return *b.Until
	}
	return b.At
}

// banned says of one ban how long it still lasts, and where.
func (a *answerer) banned(b *api.Ban) string {
	name := a.about.name
	if p, err := netip.ParsePrefix(b.Prefix); err == nil && p.Bits() < a.about.what.Bits() {
		name = a.l.T("page.address.within", "addr", name, "net", b.Prefix)
	}
	key := "page.address.banned"
	if len(b.Ports) > 0 {
		key = "page.address.bannedports"
	}
	if b.Until == nil {
		return a.l.T(key+"ever", "n", len(b.Ports), "addr", name, "ports", portsText(b.Ports, a.l))
	}
	return a.l.T(key, "n", len(b.Ports), "addr", name, "ports", portsText(b.Ports, a.l), "until", a.l.At(*b.Until, a.now), "left", b.Until.Sub(a.now))
}

func (a *answerer) allowed(w *api.Allow) string {
	name := w.Prefix
	if p, err := netip.ParsePrefix(name); err == nil {
		name = tocsin.PrefixString(p)
	}
	key := "page.address.allowed.setting"
	switch {
	case a.given:
		key = "page.address.allowed.plain"
	case w.Origin == "configuration":
		key = "page.address.allowed.configuration"
	case w.Origin == "operator":
		key = "page.address.allowed.hand"
	}
	text := a.l.T(key, "addr", name, "by", w.By, "why", w.Origin)
	if w.Jail != "" {
		text += " " + a.l.T("page.address.allowed.jail", "jail", w.Jail)
	}
	if w.Until != nil {
		text += " " + a.l.T("page.address.allowed.until", "until", a.l.At(*w.Until, a.now))
	}
	if w.Note != "" && a.v.May(account.SeeAddresses) && !a.given {
		text += " " + a.l.T("page.address.allowed.note", "note", w.Note)
	}
	return text + "."
}

// because says why there was a ban.
func (a *answerer) because(ctx context.Context, b *api.Ban) string {
	at := a.l.Date(b.At, a.now) + " " + a.l.ClockSeconds(b.At)
	long := a.l.T("page.address.ever")
	if b.Until != nil {
		long = a.l.T("page.address.for", "for", b.Until.Sub(b.At))
	}
	if b.Origin != tocsin.ByJail.String() || b.Failures == 0 {
		if a.given {
			return a.l.T("page.address.decided", "at", at, "for", long)
		}
		who := cmp.Or(b.By, b.Origin)
		return a.l.T("page.address.byhand", "at", at, "for", long, "by", who, "why", b.Reason)
	}
	text := a.l.T("page.address.because", "at", at, "for", long, "jail", b.Jail, "n", b.Failures)
	if n := len(b.Evidence); n > 1 && n == b.Failures {
		text += " " + a.l.T("page.address.within2", "span", max(b.Evidence[n-1].At.Sub(b.Evidence[0].At).Abs(), time.Second))
	}
	if j, err := a.s.o.Guard.Jail(ctx, b.Jail); err == nil {
		find := time.Duration(j.FindSeconds * float64(time.Second))
		return text + " " + a.l.T("page.address.permits", "n", max(j.MaxRetry-1, 0), "find", find)
	}
	return text + "."
}

// rule says what recognised the lines.
func (a *answerer) rule(ctx context.Context, b *api.Ban) string {
	if b.Origin != tocsin.ByJail.String() || len(b.Evidence) == 0 {
		return ""
	}
	j, err := a.s.o.Guard.Jail(ctx, b.Jail)
	if err != nil {
		return "" // it is gone
	}
	return a.l.T("page.address.rule", "filter", j.Filter, "jail", b.Jail)
}

func (a *answerer) lines(all []api.Evidence) (lines []line) {
	for _, e := range all[:min(len(all), mostEvidence)] {
		lines = append(lines, line{a.l.Date(e.At, a.now) + " " + a.l.ClockSeconds(e.At), a.shortenIn(tocsin.Printable(e.Text)), tocsin.Printable(e.Source)})
	}
	return lines
}

// findTime writes a duration of the configuration.
func (a *answerer) findTime(text string) string {
	if d, err := time.ParseDuration(text); err == nil {
		return a.l.Duration(d)
	}
	return text
}

func (a *answerer) logins() string {
	if len(a.y.Logins) == 0 {
		return a.l.T("page.address.nologin", "days", 90)
	}
	var all []string
	for _, one := range a.y.Logins {
		all = append(all, one.User+" "+a.l.At(one.At, a.now))
	}
	return a.l.T("page.address.logins", "n", len(all), "who", strings.Join(all, ", "))
}

func (a *answerer) history(page *addressPage) {
	for _, all := range [][]api.Ban{a.y.Bans, a.y.Former} {
		for i := range all {
			b := &all[i]
			row := formerBan{At: a.l.At(b.At, a.now), Jail: b.Jail, For: a.l.T("page.bans.forever")}
			if b.Until != nil {
				row.For = a.l.Duration(b.Until.Sub(b.At))
			}
			of := ban{Until: b.Until, Ended: b.EndedAt, EndedBy: b.EndedBy, Active: b.Active}
			if a.given {
				of.EndedBy = ""
			}
			row.End = endText(&of, a.l, a.now)
			page.Former = append(page.Former, row)
		}
	}
	if rest := a.y.FormerAll - len(a.y.Former); rest > 0 {
		page.Older = a.l.T("page.address.older", "n", rest)
	}
}

// others tells what other people know of the address.
func (a *answerer) others(ctx context.Context, page *addressPage) {
	if page.Plain {
		return
	}
	page.Country = a.s.o.Country(a.about.addr)
	told, err := a.s.o.Reported(ctx, a.about.addr)
	switch {
	case err != nil:
		a.s.log.Error("what was reported about an address could not be read", "err", err)
		page.Reported = a.l.T("page.address.report.unknown")
	case !told.Sent.IsZero():
		page.Reported = a.l.T("page.address.report.sent", "to", told.To, "at", a.l.At(told.Sent, a.now))
	case told.Waiting:
		page.Reported = a.l.T("page.address.report.waits", "to", told.To)
	case told.To == "":
		page.Reported = a.l.T("page.address.report.off")
	default:
		page.Reported = a.l.T("page.address.report.none", "to", told.To)
	}
}

// deeds tells who did what about the address: by the guard's word and by the action log.
func (a *answerer) deeds(ctx context.Context, page *addressPage) error {
	noted, err := a.s.o.Store.Actions(ctx, 0, actionsRead)
	if err != nil {
		return err
	}
	for i := range noted {
		if noted[i].About == a.about.name {
			page.Deeds = append(page.Deeds, deed{noted[i].At, noted[i].Who, actionWord(&noted[i], a.l) + notePart(noted[i].Note)})
		}
	}
	for _, all := range [][]api.Ban{a.y.Bans, a.y.Former} {
		for i := range all {
			b := &all[i]
			if b.By != "" && !isNoted(noted, a.about.name, b.By, b.At) {
				page.Deeds = append(page.Deeds, deed{b.At, b.By, a.l.T("page.action.ban") + notePart(b.Reason)})
			}
			if b.EndedAt != nil && b.EndedBy != "" && !isNoted(noted, a.about.name, b.EndedBy, *b.EndedAt) {
				page.Deeds = append(page.Deeds, deed{*b.EndedAt, b.EndedBy, a.l.T("page.action.unban") + notePart(b.EndReason)})
			}
		}
	}
	slices.SortStableFunc(page.Deeds, func(x, y deed) int { return y.At.Compare(x.At) })
	page.Deeds = page.Deeds[:min(len(page.Deeds), mostDeeds)]
	return nil
}

// isNoted says whether the action log tells of it already: it is written a moment later.
func isNoted(noted []store.Action, about, who string, at time.Time) bool {
	return slices.ContainsFunc(noted, func(n store.Action) bool {
		return n.About == about && n.Who == who && n.What != "look" && n.At.Sub(at).Abs() < time.Minute
	})
}

func actionWord(n *store.Action, l *locale.Locale) string {
	if key := "page.action." + n.What; l.Has(key) {
		return l.T(key)
	}
	return n.What
}

func notePart(note string) string {
	if note == "" {
		return ""
	}
	return " (" + tocsin.Printable(note) + ")"
}

// shortened are the names of people among those that were tried, where the reader is not to know them.
func (a *answerer) shortened() (names []string) {
	if a.v.May(account.SeeAddresses) {
		return nil
	}
	for _, one := range a.y.Logins {
		names = append(names, one.User)
	}
	for _, name := range a.y.Users {
		if !slices.Contains(names, name) && a.s.o.Person(name) {
			names = append(names, name)
		}
	}
	return slices.DeleteFunc(names, func(name string) bool { return name == "" || name == "root" })
}

// shorten takes from a person's name what tells it.
func (a *answerer) shorten(name string) string {
	if !slices.Contains(a.persons, name) {
		return name
	}
	return short(name)
}

func short(name string) string {
	r := []rune(name)
	if len(r) < 5 {
		return string(r[:1]) + "…"
	}
	return string(r[:2]) + "…" + string(r[len(r)-2:])
}

// shortenIn shortens names where they stand as words of their own.
func (a *answerer) shortenIn(text string) string {
	for _, name := range a.persons {
		var b strings.Builder
		for {
			i := strings.Index(text, name)
			if i < 0 {
				break
			}
			before, _ := utf8.DecodeLastRuneInString(text[:i])
			after, _ := utf8.DecodeRuneInString(text[i+len(name):])
			b.WriteString(text[:i])
			if inWord(before) || inWord(after) {
				b.WriteString(name)
			} else {
				b.WriteString(short(name))
			}
			text = text[i+len(name):]
		}
		text = b.String() + text
	}
	return text
}

func inWord(r rune) bool {
	return r != utf8.RuneError && (unicode.IsLetter(r) || unicode.IsDigit(r) || r == '_')
}

// changeAddress makes a handler that unbans, allows or bans one address.
func (s *Server) changeAddress(do string) func(http.ResponseWriter, *http.Request, *visitor) {
	return func(w http.ResponseWriter, r *http.Request, v *visitor) {
		about, ok := subjectOf(r.PathValue("addr"))
		if !ok || !about.addr.IsValid() && (do != "unban" || !v.May(account.SeeAddresses)) {
			s.fail(w, r, http.StatusNotFound, "page.error.nothing")
			return
		}
		may := []int{7}
		if v.May(account.Ban) {
			may = append(slices.Clone(banDays), allowDays...)
		}
		long, ok := daysOf(r, may)
		if !ok && do != "unban" {
			s.showAddress(w, r, v, http.StatusUnprocessableEntity, s.locale(r).T("page.address.days"))
			return
		}
		err := s.changeBan(r, v, do, about.name, long)
		if err == nil && do == "unban" && r.PostFormValue("allow") != "" && v.May(account.AllowWeek) {
			err = s.changeBan(r, v, "allow", about.name, weekOfAllow)
		}
		s.banned.forget()
		var e *api.Error
		switch {
		case err == nil:
			s.done(w, r, "/address/"+segment(about.name), do)
		case errors.As(err, &e) && e.Exit != api.ExitUnreachable && e.Exit != api.ExitTryLater:
			s.showAddress(w, r, v, http.StatusConflict, s.locale(r).T("page.bans.refused", "addr", about.name, "why", e.Msg))
		default:
			s.broken(w, r, err)
		}
	}
}
