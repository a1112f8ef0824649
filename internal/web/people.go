package web

import (
	"cmp"
	"context"
	"crypto/subtle"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"tocsin/internal/account"
	"tocsin/internal/api"
	"tocsin/internal/store"
)

// How long somebody stays logged in.
const (
	sessionFor  = 30 * 24 * time.Hour
	idleFor     = 7 * 24 * time.Hour
	terminalFor = 15 * time.Minute
	seenEvery   = 10 * time.Minute // how often it is written that a session is in use

	mostSessions = 10_000 // as many as the store keeps
)

// How somebody logged in.
const (
	byPassword = "password"
	byOIDC     = "oidc"
	byTerminal = "terminal"
	byProxy    = "proxy"
)

// people are the accounts and sessions, in memory so that no page waits for the disk; each change is written first.
type people struct {
	store   *store.Watch
	writing sync.Mutex // held from reading an account until its change is written: of two changes at once none is lost

	mu       sync.Mutex
	users    map[string]store.User
	sessions map[[32]byte]store.Session
}

func loadPeople(ctx context.Context, w *store.Watch, now time.Time) (*people, error) {
	p := &people{store: w, users: map[string]store.User{}, sessions: map[[32]byte]store.Session{}}
	users, err := w.Users(ctx)
	if err != nil {
		return nil, err
	}
	sessions, err := w.Sessions(ctx, now)
	if err != nil {
		return nil, err
	}
	for _, u := range users {
		p.users[u.Name] = u
	}
	for _, s := range sessions {
		p.sessions[s.Hash] = s
	}
	return p, nil
}

// visitor is somebody who is logged in.
type visitor struct {
	Name    string
	Role    account.Role
	Kind    string
	session [32]byte // zero: the proxy vouches for each request
	peer    account.Peer
}

// May says whether the visitor may do something.
func (v *visitor) May(w account.What) bool { return v != nil && account.May(v.Role, w) }

// user is an account; ok is false if there is none of that name.
func (p *people) user(name string) (u store.User, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	u, ok = p.users[name]
	return u, ok
}

// all are the accounts by name.
func (p *people) all() []store.User {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.SortedFunc(maps.Values(p.users), func(a, b store.User) int { return strings.Compare(a.Name, b.Name) })
}

// sessionsOf are somebody's sessions that are good at now, the last used first; the kind "" is everybody's. A name is somebody
// only with the way they logged in: a provider's "marie" is not the account of that name.
func (p *people) sessionsOf(kind, name string, now time.Time) (all []store.Session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.sessions {
		if (kind == "" || s.Kind == kind && s.Name == name) && isGood(&s, now) {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b store.Session) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Kind, b.Kind), b.Seen.Compare(a.Seen))
	})
	return all
}

func isGood(s *store.Session, now time.Time) bool {
	return now.Before(s.Until) && now.Sub(s.Seen) < idleFor
}

// find is whose session a secret is; nil if it is good no more.
func (p *people) find(ctx context.Context, secret string, now time.Time) *visitor {
	hash := account.HashOf(secret)
	p.mu.Lock()
	s, ok := p.sessions[hash]
	u, known := p.users[s.Name]
	p.mu.Unlock()
	if !ok || !isGood(&s, now) {
		return nil
	}
	name := s.Role
	if s.Kind == byPassword {
		if !known {
			return nil
		}
		name = u.Role // as it is now
	}
	role, err := account.ParseRole(name)
	if err != nil {
		return nil
	}
	if now.Sub(s.Seen) > seenEvery {
		p.seen(ctx, s, now)
	}
	return &visitor{Name: s.Name, Role: role, Kind: s.Kind, session: hash}
}

// seen notes that a session is in use. A failure is told by the next change: this one is of no importance.
func (p *people) seen(ctx context.Context, s store.Session, now time.Time) {
	s.Seen = now
	p.mu.Lock()
	if _, ok := p.sessions[s.Hash]; !ok { // it was ended meanwhile
		p.mu.Unlock()
		return
	}
	p.sessions[s.Hash] = s
	p.mu.Unlock()
	_ = p.store.PutSession(ctx, s)
	p.mu.Lock()
	_, still := p.sessions[s.Hash]
	p.mu.Unlock()
	if !still {
		_, _ = p.store.DropSession(ctx, s.Hash)
	}
}

// errChanged tells that an account was changed between the check of its password and the session.
var errChanged = api.Errorf(api.ExitTryLater, "log in again", "the account was changed just now")

// enter begins a session and returns its secret. checked is what was kept of the password that was checked: where another one
// was chosen meanwhile, whoever knew the old one stays out.
func (p *people) enter(ctx context.Context, s store.Session, checked string) (secret string, err error) {
	p.writing.Lock()
	defer p.writing.Unlock()
	if u, ok := p.user(s.Name); s.Kind == byPassword && (!ok || u.Password != checked) {
		return "", errChanged
	}
	secret, s.Hash = account.NewSecret()
	if err := p.store.PutSession(ctx, s); err != nil {
		return "", err
	}
	p.mu.Lock()
	if len(p.sessions) >= mostSessions {
		p.makeRoom(s.Made)
	}
	p.sessions[s.Hash] = s
	p.mu.Unlock()
	if s.Kind == byPassword {
		_, _, err = p.put(ctx, s.Name, func(u *store.User) { u.Logged = s.Made })
	}
	return secret, err
}

// makeRoom forgets what has ended, or else the session that was used longest ago, as the store does.
func (p *people) makeRoom(now time.Time) {
	maps.DeleteFunc(p.sessions, func(_ [32]byte, s store.Session) bool { return !isGood(&s, now) })
	if len(p.sessions) < mostSessions {
		return
	}
	var oldest store.Session
	for _, s := range p.sessions {
		if oldest.Seen.IsZero() || s.Seen.Before(oldest.Seen) {
			oldest = s
		}
	}
	delete(p.sessions, oldest.Hash)
}

// leave ends a session; ok is false if there was none.
func (p *people) leave(ctx context.Context, hash [32]byte) (ok bool, err error) {
	p.mu.Lock()
	delete(p.sessions, hash)
	p.mu.Unlock()
	return p.store.DropSession(ctx, hash)
}

// leaveAll ends all sessions of an account, but one.
func (p *people) leaveAll(ctx context.Context, name string, but [32]byte) error {
	p.mu.Lock()
	maps.DeleteFunc(p.sessions, func(hash [32]byte, s store.Session) bool {
		return s.Kind == byPassword && s.Name == name && hash != but
	})
	p.mu.Unlock()
	return p.store.DropSessions(ctx, byPassword, name, but)
}

// add makes an account; ok is false if there is one of that name, or too many.
func (p *people) add(ctx context.Context, u store.User) (ok bool, err error) {
	p.writing.Lock()
	defer p.writing.Unlock()
	if ok, err = p.store.AddUser(ctx, u); ok {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.users[u.Name] = u
	}
	return ok, err
}

// change changes an account, and returns it as it is then; ok is false if it is gone.
func (p *people) change(ctx context.Context, name string, how func(*store.User)) (u store.User, ok bool, err error) {
	p.writing.Lock()
	defer p.writing.Unlock()
	return p.put(ctx, name, how)
}

// put is change for whoever holds writing.
func (p *people) put(ctx context.Context, name string, how func(*store.User)) (u store.User, ok bool, err error) {
	if u, ok = p.user(name); !ok {
		return u, false, nil
	}
	how(&u)
	if ok, err = p.store.PutUser(ctx, u); ok {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.users[name] = u
	}
	return u, ok, err
}

// drop removes an account with its sessions; ok is false if there is none.
func (p *people) drop(ctx context.Context, name string) (ok bool, err error) {
	p.writing.Lock()
	defer p.writing.Unlock()
	p.mu.Lock()
	delete(p.users, name)
	maps.DeleteFunc(p.sessions, func(_ [32]byte, s store.Session) bool { return s.Kind == byPassword && s.Name == name })
	p.mu.Unlock()
	return p.store.DropUser(ctx, name)
}

// Cookies.
const (
	cookieSession  = "tocsin"
	cookieRound    = "tocsin-oidc"
	cookieLanguage = "tocsin-language"
	cookieTheme    = "tocsin-theme"
)

// proxyHeader is where a proxy shows that it is one: any program of this machine can ask from its address.
const proxyHeader = "Tocsin-Proxy"

// peer is who asks.
func (s *Server) peer(r *http.Request) account.Peer {
	if secret := s.o.ProxySecret; secret != "" && subtle.ConstantTimeCompare([]byte(r.Header.Get(proxyHeader)), []byte(secret)) != 1 {
		return account.PeerOf(r, nil)
	}
	return account.PeerOf(r, s.o.Proxies)
}

// isSecure says whether a request came over TLS.
func (s *Server) isSecure(r *http.Request) bool {
	if r.TLS != nil || s.peer(r).Secured {
		return true
	}
	// A proxy that is not listed adds nothing that counts; the name it was called by tells.
	return s.secure && "https://"+strings.ToLower(r.Host) == strings.ToLower(s.o.Origin)
}

// cookieName is a cookie's name: behind TLS it has the prefix that lets nobody else set it
// (https://datatracker.ietf.org/doc/html/draft-ietf-httpbis-rfc6265bis-22#section-4.1.3.2).
func (s *Server) cookieName(r *http.Request, name string) string {
	if s.isSecure(r) {
		return "__Host-" + name
	}
	return name
}

// setCookie gives the browser a cookie; with the value "" it takes it away.
func (s *Server) setCookie(w http.ResponseWriter, r *http.Request, name, value string, lasts time.Duration) {
	c := &http.Cookie{
		Name: s.cookieName(r, name), Value: value, Path: "/", MaxAge: int(lasts / time.Second),
		HttpOnly: true, Secure: s.isSecure(r), SameSite: http.SameSiteLaxMode,
	}
	if value == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}

// cookie is the value of one of our cookies, "" if there is none.
func (s *Server) cookie(r *http.Request, name string) string {
	c, err := r.Cookie(s.cookieName(r, name))
	if err != nil {
		return ""
	}
	return c.Value
}

// visitor is who asks; nil if nobody is logged in. A proxy that nobody listed and that names somebody is told so.
func (s *Server) visitor(r *http.Request) (v *visitor, refused bool) {
	peer := s.peer(r)
	if s.o.UserHeader != "" {
		switch name := r.Header.Get(s.o.UserHeader); {
		case name == "":
		case !peer.Listed:
			return nil, true
		default:
			u, ok := s.people.user(name)
			role, err := account.ParseRole(u.Role)
			if !ok || err != nil {
				return nil, true
			}
			return &visitor{Name: name, Role: role, Kind: byProxy, peer: peer}, false
		}
	}
	secret := s.cookie(r, cookieSession)
	if secret == "" || len(secret) > 100 {
		return nil, false
	}
	if v = s.people.find(r.Context(), secret, time.Now()); v != nil {
		v.peer = peer
	}
	return v, false
}

// needs lets in whoever is logged in with a role that may do what.
func (s *Server) needs(what account.What, do func(http.ResponseWriter, *http.Request, *visitor)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v, refused := s.visitor(r)
		switch {
		case refused:
			s.log.Warn("a request names an account, and was refused: it came from no listed proxy, or there is no such account", "addr", r.RemoteAddr)
			s.fail(w, r, http.StatusForbidden, "page.error.proxy")
		case v == nil:
			s.toLogin(w, r)
		case !v.May(what):
			s.fail(w, r, http.StatusForbidden, "page.error.role")
		default:
			do(w, r, v)
		}
	})
}

// note writes down what somebody changed. Where it cannot be written the change stands, and the log tells.
func (s *Server) note(r *http.Request, v *visitor, what, about, note string) {
	s.noteBy(r.Context(), v.By(), what, about, note)
}

// By names the visitor where it is kept who did something.
func (v *visitor) By() string { return named(v.Kind, v.Name) }

// named is a name with how they logged in, unless it is an account of ours.
func named(kind, name string) string {
	if kind == byPassword {
		return name
	}
	return name + " (" + kind + ")"
}
