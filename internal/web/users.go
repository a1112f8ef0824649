package web

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"tocsin/internal/account"
	"tocsin/internal/api"
	"tocsin/internal/store"
)

// StartFor is how long a link is good that lets somebody choose a password, or in.
const StartFor = 15 * time.Minute

// roles are the roles that an account can have.
var roles = []string{account.Board.String(), account.Support.String(), account.Admin.String()}

// link makes a link that is good once. With the name "" it lets its reader in for a while, as admin.
func (s *Server) link(ctx context.Context, name string) (to string, until time.Time, err error) {
	now := time.Now()
	token, hash := account.NewSecret()
	until = now.Add(StartFor)
	ok, err := s.o.Store.PutStart(ctx, store.Start{Hash: hash, Name: name, Until: until}, now)
	if err == nil && !ok {
		err = api.Errorf(api.ExitTryLater, "they end after a quarter of an hour", "there are a thousand links already")
	}
	return s.o.Origin + "/start/" + token, until, err
}

// Terminal makes a link that lets its reader in for a quarter of an hour: whoever reads it is root here already.
func (s *Server) Terminal(ctx context.Context) (api.UserLink, error) {
	to, until, err := s.link(ctx, "")
	return api.UserLink{Schema: api.SchemaUserLink, Role: account.Admin.String(), URL: to, Until: until.UTC()}, err
}

// AddUser makes an account, with a link for its password.
func (s *Server) AddUser(ctx context.Context, r api.UserRequest) (api.UserLink, error) {
	role, err := account.ParseRole(r.Role)
	if err != nil {
		return api.UserLink{}, api.Errorf(api.ExitUsage, "write board, support or admin", err.Error())
	}
	if err := account.CheckName(r.Name); err != nil {
		return api.UserLink{}, api.Errorf(api.ExitUsage, "up to 64 letters and digits, and . _ @ + - and spaces between", err.Error())
	}
	ok, err := s.people.add(ctx, store.User{Name: r.Name, Role: role.String(), Made: time.Now()})
	switch {
	case err != nil:
		return api.UserLink{}, err
	case !ok:
		return api.UserLink{}, api.Errorf(api.ExitFindings, "tocsin user reset "+r.Name+" gives it a new link", "there is an account "+r.Name+" already, or a thousand in all")
	}
	s.noteBy(ctx, r.By, "user-add", r.Name, role.String())
	return s.linkFor(ctx, r.Name, role.String())
}

// ResetUser gives an account a link for a new password. Until that is chosen the old one is good.
func (s *Server) ResetUser(ctx context.Context, r api.UserRequest) (api.UserLink, error) {
	u, ok := s.people.user(r.Name)
	if !ok {
		return api.UserLink{}, noUser(r.Name)
	}
	s.noteBy(ctx, r.By, "user-reset", r.Name, "")
	return s.linkFor(ctx, u.Name, u.Role)
}

func (s *Server) linkFor(ctx context.Context, name, role string) (api.UserLink, error) {
	to, until, err := s.link(ctx, name)
	return api.UserLink{Schema: api.SchemaUserLink, Name: name, Role: role, URL: to, Until: until.UTC()}, err
}

// DropUser removes an account, and ends its sessions.
func (s *Server) DropUser(ctx context.Context, r api.UserRequest) (api.Change, error) {
	ok, err := s.people.drop(ctx, r.Name)
	switch {
	case err != nil:
		return api.Change{}, err
	case !ok:
		return api.Change{}, noUser(r.Name)
	}
	s.noteBy(ctx, r.By, "user-drop", r.Name, "")
	return api.Change{Schema: api.SchemaChange, Changed: []string{r.Name}, Text: "the account " + r.Name + " is gone, and its sessions have ended"}, nil
}

// Users are all accounts.
func (s *Server) Users(context.Context) (api.Users, error) {
	out := api.Users{Schema: api.SchemaUsers, Users: []api.User{}}
	now := time.Now()
	for _, u := range s.people.all() {
		out.Users = append(out.Users, api.User{
			Name: u.Name, Role: u.Role, Made: u.Made.UTC(), Logged: api.Time(u.Logged), Waits: u.Password == "", Sessions: len(s.people.sessionsOf(byPassword, u.Name, now)),
		})
	}
	return out, nil
}

func noUser(name string) error {
	return api.Errorf(api.ExitFailed, "tocsin user list shows which there are", fmt.Sprintf("there is no account %.80q", name))
}

func (s *Server) noteBy(ctx context.Context, by, what, about, note string) {
	if err := s.o.Store.PutAction(context.WithoutCancel(ctx), store.Action{At: time.Now(), Who: by, What: what, About: about, Note: note}); err != nil {
		s.log.Error("an action could not be noted", "source", what, "err", err)
	}
}

// usersPage is what the page of accounts shows.
type usersPage struct {
	Users    []userRow
	Sessions []sessionRow // everybody's, the last used first
	Roles    []string
	Link     string // a new one
	For      string
	Wrong    string
}

// shownSessions bounds the list of everybody's sessions.
const shownSessions = 200

type userRow struct {
	store.User
	Sessions int
}

func (s *Server) showUsers(w http.ResponseWriter, r *http.Request, v *visitor, code int, page usersPage) {
	now := time.Now()
	for _, u := range s.people.all() {
		page.Users = append(page.Users, userRow{u, len(s.people.sessionsOf(byPassword, u.Name, now))})
	}
	all := s.people.sessionsOf("", "", now)
	slices.SortFunc(all, func(a, b store.Session) int { return b.Seen.Compare(a.Seen) })
	for _, one := range all[:min(len(all), shownSessions)] {
		page.Sessions = append(page.Sessions, sessionRow{one, sessionID(one.Hash), v.session == one.Hash})
	}
	page.Roles = roles
	s.show(w, r, v, code, "users", "page.users.title", page)
}

func (s *Server) usersPage(w http.ResponseWriter, r *http.Request, v *visitor) {
	s.showUsers(w, r, v, http.StatusOK, usersPage{})
}

// changeUsers makes a handler that changes accounts and shows them again.
func (s *Server) changeUsers(change func(context.Context, api.UserRequest) (api.UserLink, error)) func(http.ResponseWriter, *http.Request, *visitor) {
	return func(w http.ResponseWriter, r *http.Request, v *visitor) {
		l := s.locale(r)
		link, err := change(r.Context(), api.UserRequest{Name: r.PostFormValue("name"), Role: r.PostFormValue("role"), By: v.By()})
		var e *api.Error
		switch {
		case err == nil:
			s.showUsers(w, r, v, http.StatusOK, usersPage{Link: link.URL, For: link.Name})
		case errors.As(err, &e) && e.Exit == api.ExitUsage:
			s.showUsers(w, r, v, http.StatusUnprocessableEntity, usersPage{Wrong: l.T("page.users.badname")})
		case errors.As(err, &e) && e.Exit == api.ExitFindings:
			s.showUsers(w, r, v, http.StatusUnprocessableEntity, usersPage{Wrong: l.T("page.users.taken")})
		default:
			s.broken(w, r, err)
		}
	}
}

// setRole gives an account another role. The last administrator stays one.
func (s *Server) setRole(w http.ResponseWriter, r *http.Request, v *visitor) {
	name := r.PostFormValue("name")
	role, err := account.ParseRole(r.PostFormValue("role"))
	_, ok := s.people.user(name)
	switch {
	case err != nil || !ok:
		s.broken(w, r, noUser(name))
		return
	case role != account.Admin && s.isLastAdmin(name):
		s.showUsers(w, r, v, http.StatusUnprocessableEntity, usersPage{Wrong: s.locale(r).T("page.users.last")})
		return
	}
	if _, ok, err = s.people.change(r.Context(), name, func(u *store.User) { u.Role = role.String() }); err != nil || !ok {
		s.broken(w, r, noUserOr(err, name))
		return
	}
	s.note(r, v, "user-role", name, role.String())
	s.done(w, r, "/users", "role")
}

func noUserOr(err error, name string) error {
	if err != nil {
		return err
	}
	return noUser(name)
}

// isLastAdmin says whether nobody else is an administrator.
func (s *Server) isLastAdmin(name string) bool {
	u, ok := s.people.user(name)
	if !ok || u.Role != account.Admin.String() {
		return false
	}
	for _, other := range s.people.all() {
		if other.Name != name && other.Role == account.Admin.String() {
			return false
		}
	}
	return true
}

func (s *Server) dropUser(w http.ResponseWriter, r *http.Request, v *visitor) {
	name := r.PostFormValue("name")
	if s.isLastAdmin(name) {
		s.showUsers(w, r, v, http.StatusUnprocessableEntity, usersPage{Wrong: s.locale(r).T("page.users.last")})
		return
	}
	if _, err := s.DropUser(r.Context(), api.UserRequest{Name: name, By: v.By()}); err != nil {
		s.broken(w, r, err)
		return
	}
	s.done(w, r, "/users", "dropped")
}

// accountPage is what somebody sees of their own account.
type accountPage struct {
	Role, Kind string // keys of sentences
	Local      bool   // its password is ours
	Wrong      string
	Sessions   []sessionRow
}

type sessionRow struct {
	store.Session
	ID  string
	Own bool
}

// Who names whose session it is.
func (r sessionRow) Who() string { return named(r.Kind, r.Name) }

func (s *Server) accountPage(w http.ResponseWriter, r *http.Request, v *visitor) {
	s.showAccount(w, r, v, http.StatusOK, "")
}

func (s *Server) showAccount(w http.ResponseWriter, r *http.Request, v *visitor, code int, wrong string) {
	page := accountPage{Role: "page.account.role." + v.Role.String(), Kind: "page.account.kind." + v.Kind, Local: v.Kind == byPassword, Wrong: wrong}
	for _, one := range s.ownSessions(v) {
		page.Sessions = append(page.Sessions, sessionRow{one, sessionID(one.Hash), one.Hash == v.session})
	}
	s.show(w, r, v, code, "account", "page.account.title", page)
}

// ownSessions are somebody's sessions of the kind that they have now: a name of a provider's is not an account's here.
func (s *Server) ownSessions(v *visitor) []store.Session {
	return s.people.sessionsOf(v.Kind, v.Name, time.Now())
}

// sessionID names a session in a form: part of its hash, which opens nothing.
func sessionID(hash [32]byte) string { return base64.RawURLEncoding.EncodeToString(hash[:12]) }

// endSession ends one of somebody's own sessions, or all others.
func (s *Server) endSession(w http.ResponseWriter, r *http.Request, v *visitor) {
	id := r.PostFormValue("session")
	for _, one := range s.ownSessions(v) {
		if id == sessionID(one.Hash) || id == "others" && one.Hash != v.session {
			if _, err := s.people.leave(r.Context(), one.Hash); err != nil {
				s.broken(w, r, err)
				return
			}
		}
	}
	s.note(r, v, "session-end", v.Name, "")
	s.done(w, r, "/account", "ended")
}

// endAnySession ends somebody's session. Whoever comes from a provider can be put out in no other way before it ends by itself.
func (s *Server) endAnySession(w http.ResponseWriter, r *http.Request, v *visitor) {
	id := r.PostFormValue("session")
	for _, one := range s.people.sessionsOf("", "", time.Now()) {
		if id != sessionID(one.Hash) {
			continue
		}
		if _, err := s.people.leave(r.Context(), one.Hash); err != nil {
			s.broken(w, r, err)
			return
		}
		s.note(r, v, "session-end", named(one.Kind, one.Name), "")
	}
	s.done(w, r, "/users", "ended")
}

func (s *Server) changePassword(w http.ResponseWriter, r *http.Request, v *visitor) {
	l, now := s.locale(r), time.Now()
	u, _ := s.people.user(v.Name)
	if v.Kind != byPassword {
		s.fail(w, r, http.StatusForbidden, "page.error.role")
		return
	}
	key := "\x00change\x00" + v.Name
	if wait := s.throttle.Try(key, now); wait > 0 {
		s.showAccount(w, r, v, http.StatusTooManyRequests, l.T("page.login.wait", "for", wait.Round(time.Second)))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), tryFor)
	defer cancel()
	ok, err := s.passwords.Check(ctx, u.Password, r.PostFormValue("old"))
	switch {
	case err != nil:
		s.throttle.Undo(key)
		s.showAccount(w, r, v, http.StatusServiceUnavailable, l.T("page.login.busy"))
		return
	case !ok:
		s.showAccount(w, r, v, http.StatusUnprocessableEntity, l.T("page.account.badold"))
		return
	}
	s.throttle.Succeeded(key)
	hash, wrong := s.choose(r, v.Name)
	if wrong != "" {
		s.showAccount(w, r, v, http.StatusUnprocessableEntity, wrong)
		return
	}
	if _, ok, err := s.people.change(r.Context(), v.Name, func(u *store.User) { u.Password = hash }); err != nil || !ok {
		s.broken(w, r, noUserOr(err, v.Name))
		return
	}
	if err := s.people.leaveAll(r.Context(), v.Name, v.session); err != nil {
		s.broken(w, r, err)
		return
	}
	s.note(r, v, "password", v.Name, "")
	s.done(w, r, "/account", "password")
}

// actionsPage is who did what.
type actionsPage struct {
	Actions []actionRow
	Next    int64 // where the older ones begin; 0: there are none
}

type actionRow struct {
	store.Action
	Word string
}

const actionsOfPage = 100

func (s *Server) actionsPage(w http.ResponseWriter, r *http.Request, v *visitor) {
	before, _ := strconv.ParseInt(r.URL.Query().Get("before"), 10, 64) // nonsense: the newest
	all, err := s.o.Store.Actions(r.Context(), max(before, 0), actionsOfPage)
	if err != nil {
		s.broken(w, r, err)
		return
	}
	l, page := s.locale(r), actionsPage{}
	for _, a := range all {
		word := "page.action." + strings.ReplaceAll(a.What, " ", "-")
		if l.Has(word) {
			word = l.T(word)
		} else {
			word = a.What
		}
		page.Actions = append(page.Actions, actionRow{a, word})
	}
	if len(all) == actionsOfPage {
		page.Next = all[len(all)-1].N
	}
	s.show(w, r, v, http.StatusOK, "actions", "page.actions.title", page)
}
