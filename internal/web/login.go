package web

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"tocsin"
	"tocsin/internal/account"
	"tocsin/internal/store"
)

// Bounds of a login.
const (
	tryFor      = 8 * time.Second // how long one waits until there is room to check a password
	roundFor    = 10 * time.Minute
	longestBack = 1_000 // bytes of the path to go on to: browsers keep 4,096 in a cookie
)

// loginForm is what the login page shows.
type loginForm struct {
	To    string // where to go on
	Name  string
	Wrong string // what was wrong, in words
	OIDC  string // what the button says; "": there is none
}

// toLogin sends whoever is not logged in to the login; a program gets an answer that it understands.
func (s *Server) toLogin(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		s.fail(w, r, http.StatusUnauthorized, "page.error.ended")
		return
	}
	to := "/login"
	if at := r.URL.RequestURI(); at != "/" && len(at) < longestBack {
		to += "?" + url.Values{"to": {at}}.Encode()
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
}

// localPath is a path of ours, or "/": nobody is sent elsewhere after the login.
func localPath(to string) string {
	u, err := url.Parse(to)
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || !strings.HasPrefix(to, "/") || strings.HasPrefix(to, "//") || strings.ContainsAny(to, "\\\r\n\t") {
		return "/"
	}
	return to
}

func (s *Server) loginPage(w http.ResponseWriter, r *http.Request) {
	to := localPath(r.URL.Query().Get("to"))
	if v, _ := s.visitor(r); v != nil {
		http.Redirect(w, r, to, http.StatusSeeOther)
		return
	}
	s.showLogin(w, r, http.StatusOK, loginForm{To: to})
}

func (s *Server) showLogin(w http.ResponseWriter, r *http.Request, code int, form loginForm) {
	if s.o.OIDC != nil {
		form.OIDC = s.o.OIDCName
	}
	s.show(w, r, nil, code, "login", "page.login.title", form)
}

// login checks a name and a password. Whoever is unknown takes as long as whoever is known, and is told the same.
func (s *Server) login(w http.ResponseWriter, r *http.Request) {
	form := loginForm{To: localPath(r.PostFormValue("to")), Name: r.PostFormValue("name")}
	password, now, peer := r.PostFormValue("password"), time.Now(), s.peer(r)
	l := s.locale(r)
	name := clip(form.Name, 200)
	try := s.newTry(name, peer.Addr)
	if wait := try.begin(now); wait > 0 {
		seconds := math.Ceil(wait.Seconds())
		w.Header().Set("Retry-After", strconv.Itoa(int(seconds)))
		form.Wrong = l.T("page.login.wait", "for", time.Duration(seconds)*time.Second)
		s.showLogin(w, r, http.StatusTooManyRequests, form)
		return
	}
	u, _ := s.people.user(form.Name)
	ctx, cancel := context.WithTimeout(r.Context(), tryFor)
	defer cancel()
	ok, err := s.passwords.Check(ctx, u.Password, password)
	switch {
	case err != nil:
		try.undo()
		s.log.Error("a password could not be checked", "err", err)
		form.Wrong = l.T("page.login.busy")
		s.showLogin(w, r, http.StatusServiceUnavailable, form)
		return
	case !ok:
		s.o.Failed(name, peer.Addr)
		form.Wrong = l.T("page.login.wrong")
		s.showLogin(w, r, http.StatusUnauthorized, form)
		return
	}
	try.succeeded()
	s.enter(w, r, store.Session{Name: u.Name, Role: u.Role, Kind: byPassword, Until: now.Add(sessionFor)}, u.Password, form.To)
}

// Failures that cost no wait, of any names together.
const (
	freeOfAddress = 30 // from one address, or one /64 of IPv6
	freeUnnamed   = 60 // from all whose address proves nothing
	// Those share their wait with everybody who comes that way, so it is short. A link of tocsin user reset asks for none.
	waitUnnamed = 2 * time.Second
)

// try is one login under way, as both throttles count it: by its name, and by where it comes from whatever the name is.
type try struct {
	name, from     *account.Throttle
	nameKey, where string
}

func (s *Server) newTry(name string, addr netip.Addr) try {
	if !addr.IsValid() {
		return try{&s.throttle, &s.unnamed, name, ""}
	}
	where := account.NetworkOf(addr).String() // nobody locks somebody else out who comes from elsewhere
	return try{&s.throttle, &s.crowded, name + "\x00" + where, where}
}

// begin says how long the login has to wait. 0: it is counted as failed until undo or succeeded says otherwise.
func (t try) begin(now time.Time) time.Duration {
	if wait := t.from.Try(t.where, now); wait > 0 {
		return wait
	}
	wait := t.name.Try(t.nameKey, now)
	if wait > 0 {
		t.from.Undo(t.where)
	}
	return wait
}

func (t try) undo() {
	t.name.Undo(t.nameKey)
	t.from.Undo(t.where)
}

// succeeded forgets the failures of that name; those of other names stay, or an own account would open them all.
func (t try) succeeded() {
	t.name.Succeeded(t.nameKey)
	t.from.Undo(t.where)
}

// enter begins a session, and goes on to a path. checked is what was kept of the password, where one was checked.
func (s *Server) enter(w http.ResponseWriter, r *http.Request, session store.Session, checked, to string) {
	now, peer := time.Now(), s.peer(r)
	session.Made, session.Seen, session.Agent = now, now, r.UserAgent()
	if peer.Addr.IsValid() {
		session.Addr = peer.Addr.String()
	}
	secret, err := s.people.enter(r.Context(), session, checked)
	if err != nil {
		s.broken(w, r, err)
		return
	}
	if old := s.cookie(r, cookieSession); old != "" { // whoever logs in anew ends what was before
		_, _ = s.people.leave(r.Context(), account.HashOf(old))
	}
	if session.Kind == byPassword {
		s.o.Entered(session.Name, peer.Addr)
	}
	s.setCookie(w, r, cookieSession, secret, session.Until.Sub(now))
	http.Redirect(w, r, to, http.StatusSeeOther)
}

func (s *Server) logout(w http.ResponseWriter, r *http.Request) {
	if secret := s.cookie(r, cookieSession); secret != "" {
		if _, err := s.people.leave(r.Context(), account.HashOf(secret)); err != nil {
			s.broken(w, r, err)
			return
		}
	}
	s.setCookie(w, r, cookieSession, "", 0)
	w.Header().Set("Clear-Site-Data", `"cache"`)
	http.Redirect(w, r, "/login", http.StatusSeeOther)
}

// startForm is what the page behind a link shows that is good once.
type startForm struct {
	Name  string // whose password is chosen; "": nobody's, the reader is let in for a while
	Path  string
	Wrong string
}

// startPage shows what a link is for. Using it takes a button: what reads mails follows links.
func (s *Server) startPage(w http.ResponseWriter, r *http.Request) {
	s.withStart(w, r, func(l store.Start) { s.showStart(w, r, http.StatusOK, l, "") })
}

func (s *Server) showStart(w http.ResponseWriter, r *http.Request, code int, l store.Start, wrong string) {
	s.show(w, r, nil, code, "start", "page.start.title", startForm{Name: l.Name, Path: r.URL.Path, Wrong: wrong})
}

// withStart looks the link of a request up.
func (s *Server) withStart(w http.ResponseWriter, r *http.Request, do func(store.Start)) {
	token := r.PathValue("token")
	l, ok, err := store.Start{}, false, error(nil)
	if len(token) <= 100 {
		l, ok, err = s.o.Store.FindStart(r.Context(), account.HashOf(token), time.Now())
	}
	switch {
	case err != nil:
		s.broken(w, r, err)
	case !ok:
		s.fail(w, r, http.StatusNotFound, "page.error.link")
	default:
		do(l)
	}
}

// start uses a link: a password is chosen with it, or its reader is let in for a while.
func (s *Server) start(w http.ResponseWriter, r *http.Request) {
	s.withStart(w, r, func(l store.Start) {
		hash, wrong := "", ""
		session := store.Session{Name: "terminal", Role: account.Admin.String(), Kind: byTerminal, Until: time.Now().Add(terminalFor)}
		if l.Name != "" {
			if hash, wrong = s.choose(r, l.Name); wrong != "" {
				s.showStart(w, r, http.StatusUnprocessableEntity, l, wrong)
				return
			}
			if !s.useStart(w, r, l) {
				return
			}
			u, ok, err := s.people.change(r.Context(), l.Name, func(u *store.User) { u.Password = hash })
			if !ok || err != nil {
				s.broken(w, r, noUserOr(err, l.Name))
				return
			}
			session = store.Session{Name: u.Name, Role: u.Role, Kind: byPassword, Until: time.Now().Add(sessionFor)}
			// Whoever had the old password is out.
			if err := s.people.leaveAll(r.Context(), u.Name, [32]byte{}); err != nil {
				s.broken(w, r, err)
				return
			}
			s.note(r, &visitor{Name: u.Name, Kind: byPassword}, "password", u.Name, "")
		} else if !s.useStart(w, r, l) {
			return
		}
		s.enter(w, r, session, hash, "/")
	})
}

func (s *Server) useStart(w http.ResponseWriter, r *http.Request, l store.Start) bool {
	ok, err := s.o.Store.UseStart(r.Context(), l.Hash, time.Now())
	switch {
	case err != nil:
		s.broken(w, r, err)
	case !ok:
		s.fail(w, r, http.StatusNotFound, "page.error.link")
	}
	return ok && err == nil
}

// choose reads a new password, which stands twice in the form, and makes what is kept of it. wrong says in words why it is
// not taken.
func (s *Server) choose(r *http.Request, name string) (hash, wrong string) {
	l := s.locale(r)
	password := r.PostFormValue("password")
	_, ok := s.people.user(name)
	switch err := account.CheckPassword(name, password); {
	case !ok:
		return "", l.T("page.error.link")
	case errors.Is(err, account.ErrShort):
		return "", l.T("page.password.short", "n", account.LeastPassword)
	case errors.Is(err, account.ErrIsName):
		return "", l.T("page.password.name")
	case err != nil:
		return "", l.T("page.password.long")
	case password != r.PostFormValue("again"):
		return "", l.T("page.password.differ")
	}
	ctx, cancel := context.WithTimeout(r.Context(), tryFor)
	defer cancel()
	hash, err := s.passwords.Hash(ctx, password)
	if err != nil {
		return "", l.T("page.login.busy")
	}
	return hash, ""
}

// round is a login with a provider that is on its way. The browser keeps it, sealed: whoever begins many takes no room here.
type round struct {
	account.Round
	To    string // where to go on
	Until time.Time
}

// sealedRound is what a round's cookie is sealed for.
const sealedRound = "oidc"

func (s *Server) sealRound(one round) string {
	plain, err := json.Marshal(one)
	if err != nil {
		panic("BUG: " + err.Error()) // texts and a time
	}
	return s.signer.now.Load().Seal(sealedRound, plain)
}

// openRound is the round that the browser kept; ok is false if it is none of ours, or is over at now.
func (s *Server) openRound(r *http.Request, now time.Time) (one round, ok bool) {
	plain, ok := s.signer.now.Load().Open(sealedRound, s.cookie(r, cookieRound))
	if !ok || json.Unmarshal(plain, &one) != nil {
		return round{}, false
	}
	return one, now.Before(one.Until)
}

func (s *Server) oidcBegin(w http.ResponseWriter, r *http.Request) {
	if s.o.OIDC == nil {
		s.fail(w, r, http.StatusNotFound, "page.error.nothing")
		return
	}
	to, begun, err := s.o.OIDC.Begin(r.Context())
	if err != nil {
		s.log.Error("nobody can log in with OpenID Connect", "err", err)
		s.showLogin(w, r, http.StatusBadGateway, loginForm{To: "/", Wrong: s.locale(r).T("page.login.provider")})
		return
	}
	back := localPath(r.URL.Query().Get("to"))
	if len(back) > longestBack {
		back = "/"
	}
	s.setCookie(w, r, cookieRound, s.sealRound(round{begun, back, time.Now().Add(roundFor)}), roundFor)
	http.Redirect(w, r, to, http.StatusSeeOther)
}

// oidcFinish is where a provider sends people back to.
func (s *Server) oidcFinish(w http.ResponseWriter, r *http.Request) {
	if s.o.OIDC == nil {
		s.fail(w, r, http.StatusNotFound, "page.error.nothing")
		return
	}
	q := r.URL.Query()
	one, ok := s.openRound(r, time.Now())
	s.setCookie(w, r, cookieRound, "", 0) // it is good once; the provider's code is too
	refuse := func(key string, err error) {
		s.log.Warn("a login with OpenID Connect failed", "err", err)
		s.showLogin(w, r, http.StatusForbidden, loginForm{To: "/", Wrong: s.locale(r).T(key)})
	}
	if !ok || subtle.ConstantTimeCompare([]byte(q.Get("state")), []byte(one.State)) != 1 {
		refuse("page.login.stale", errors.New("the browser that comes back is not the one that was sent, or came late"))
		return
	}
	if q.Get("error") != "" {
		refuse("page.login.declined", errors.New(tocsin.Printable(clip(q.Get("error")+": "+q.Get("error_description"), 300))))
		return
	}
	who, err := s.o.OIDC.Finish(r.Context(), one.Round, q.Get("code"))
	switch {
	case err != nil:
		refuse("page.login.provider", err)
	case who.Role == account.Nobody:
		refuse("page.login.norole", errors.New("no role here for "+tocsin.Printable(who.Name)))
	default:
		s.enter(w, r, store.Session{Name: who.Name, Role: who.Role.String(), Kind: byOIDC, Until: time.Now().Add(oidcFor)}, "", one.To)
	}
}

// oidcFor is how long a login with a provider lasts: a role that was taken away there is gone here by the next morning.
const oidcFor = 12 * time.Hour
