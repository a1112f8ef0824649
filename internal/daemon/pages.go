package daemon

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"log/syslog"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"tocsin/internal/account"
	"tocsin/internal/api"
	"tocsin/internal/config"
	"tocsin/internal/store"
	"tocsin/internal/web"
)

// This file lays the pipes of the pages: web on the listener of the programs, asked of this session.

// programPaths are answered to programs, by package api; everything else is pages.
var programPaths = []string{"/api/", "/federate", "/metrics", "/healthz"}

// newPages makes the pages of a session.
func (s *supervisor) newPages(ctx context.Context) (*web.Server, error) {
	c := &s.conf.Web
	o := &overview{s: s}
	login := &loginLog{log: s.log}
	var provider *account.OIDC
	if c.OIDC.Issuer != "" {
		provider = account.NewOIDC(account.OIDCOptions{
			Issuer: c.OIDC.Issuer, ClientID: c.OIDC.ClientID, ClientSecret: secretFrom(c.OIDC.SecretFile), Redirect: s.conf.Origin() + "/oidc",
			Claim: c.OIDC.Claim, Roles: rolesOf(&c.OIDC),
		})
	}
	proxies, proxySecret := s.proxies()
	pages, err := web.New(ctx, web.Options{
		Origin: s.conf.Origin(), Title: c.Title, Language: c.Language, Proxies: proxies, ProxySecret: proxySecret, UserHeader: c.UserHeader,
		OIDC: provider, OIDCName: c.OIDC.Name,
		Store: s.w.store, Guard: s.w.guard, Token: s.keys.scope, Failed: login.failed, Entered: login.entered,
		Version: s.w.o.Version, Log: s.log,
		Data: web.Data{
			Overview: o.get,
			Server:   func(_ context.Context, group, name string) (api.ServerDetail, error) { return s.server(group, name) },
			Forget:   s.forget,
			Graph:    s.graph,
			Measures: func(group, server, service string) bool {
				_, ok := s.known.shown(serverKey{group, server})[service]
				return ok
			},
			Alerts:     s.w.warnings(),
			Reputation: s.w.reputation,
		},
		GuardData: s.guardData(),
	})
	if err != nil || s.w.o.Link == "" {
		return pages, err
	}
	hash, until, err := takePagesLink(s.w.o.Link)
	if err != nil {
		return nil, err
	}
	// A second session finds it there already, used or not.
	_, err = s.w.store.PutStart(ctx, store.Start{Hash: hash, Until: until}, time.Now())
	return pages, err
}

// proxies are whose word counts, with the secret that they show, if there is one. Where it cannot be read it is nobody's.
func (s *supervisor) proxies() (listed []netip.Prefix, secret string) {
	c := &s.conf.Web
	if c.ProxySecretFile == "" {
		return c.Proxies, ""
	}
	secret, err := secretFrom(c.ProxySecretFile)()
	if err == nil && secret == "" {
		err = fmt.Errorf("%s is empty", c.ProxySecretFile)
	}
	if err != nil {
		s.log.Error("no proxy is believed: the secret of proxies cannot be read", "err", err)
		return nil, ""
	}
	return c.Proxies, secret
}

// rolesOf is what stands in the claim, with the highest role that it gives.
func rolesOf(c *config.OIDC) map[string]account.Role {
	roles := map[string]account.Role{}
	for _, all := range []struct {
		role  account.Role
		names []string
	}{{account.Board, c.Board}, {account.Support, c.Support}, {account.Admin, c.Admin}} {
		for _, name := range all.names {
			roles[name] = all.role
		}
	}
	return roles
}

// maxSecretFile bounds a file with a secret.
const maxSecretFile = 4 << 10

// secretFrom reads a secret from a file each time; nil if there is none.
func secretFrom(path string) func() (string, error) {
	if path == "" {
		return nil
	}
	return func() (string, error) {
		text, err := os.ReadFile(path)
		if err == nil && len(text) > maxSecretFile {
			err = fmt.Errorf("%s holds more than a secret", path)
		}
		return strings.TrimSpace(string(text)), err
	}
}

// handler serves programs and people.
func (s *supervisor) handler() http.Handler {
	mux := http.NewServeMux()
	programs := api.SamplesHandler(s.questions())
	for _, path := range programPaths {
		mux.Handle(path, programs)
	}
	mux.Handle("/", s.pages)
	return mux
}

// accounts are the operations about accounts.
func (w *watcher) accounts() api.UserOperations {
	request := func(f func(*web.Server, context.Context, api.UserRequest) (api.UserLink, error)) func(context.Context, api.UserRequest) (api.UserLink, error) {
		return func(ctx context.Context, r api.UserRequest) (api.UserLink, error) {
			return with(w, func(s *supervisor) (api.UserLink, error) { return f(s.pages, ctx, r) })
		}
	}
	return api.UserOperations{
		Users: func(ctx context.Context) (api.Users, error) {
			return with(w, func(s *supervisor) (api.Users, error) { return s.pages.Users(ctx) })
		},
		Add:   request((*web.Server).AddUser),
		Reset: request((*web.Server).ResetUser),
		Drop: func(ctx context.Context, r api.UserRequest) (api.Change, error) {
			return with(w, func(s *supervisor) (api.Change, error) { return s.pages.DropUser(ctx, r) })
		},
		Terminal: func(ctx context.Context) (api.UserLink, error) {
			return with(w, func(s *supervisor) (api.UserLink, error) {
				if !s.open.Load() {
					return api.UserLink{}, api.Errorf(api.ExitTryLater, "", "nobody listens for pages")
				}
				return s.pages.Terminal(ctx)
			})
		},
	}
}

// newPagesLink makes the link for the person at the terminal, who is root here already, and what the watch process is told of
// it: its hash, from which nobody gets the link. The guard could not ask: without its privileges that socket is closed to it.
func (g *Guard) newPagesLink(conf *config.Config) (told string) {
	if !conf.Watch.Enabled || conf.Listen == "" {
		return ""
	}
	secret, hash := account.NewSecret()
	g.pages = conf.Origin() + "/start/" + secret
	return fmt.Sprintf("%x@%d", hash, time.Now().Add(web.StartFor).Unix())
}

// takePagesLink reads what the guard tells of its link.
func takePagesLink(told string) (hash [32]byte, until time.Time, err error) {
	text, end, _ := strings.Cut(told, "@")
	n, err1 := hex.Decode(hash[:], []byte(text[:min(len(text), 2*len(hash))]))
	seconds, err2 := strconv.ParseInt(end, 10, 64)
	if err := errors.Join(err1, err2); err != nil || n != len(hash) || len(text) != 2*len(hash) {
		return hash, until, fmt.Errorf("%.100q is no link", told)
	}
	return hash, time.Unix(seconds, 0), nil
}

// loginLog writes logins where the guard reads them: into the system's log, as the filter tocsin-web knows them. A line names
// an address only where that is who failed.
type loginLog struct {
	log *slog.Logger

	mu  sync.Mutex
	out *syslog.Writer // nil: not connected
}

func (l *loginLog) failed(name string, addr netip.Addr) {
	if !addr.IsValid() {
		l.log.Warn("login failed, behind a proxy that is not listed: nobody can be named", "account", name)
		return
	}
	l.write(fmt.Sprintf("login failed for %q from %s", name, addr))
}

func (l *loginLog) entered(name string, addr netip.Addr) {
	if addr.IsValid() {
		l.write(fmt.Sprintf("login succeeded for %q from %s", name, addr))
	}
}

func (l *loginLog) write(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var err error
	if l.out == nil {
		l.out, err = syslog.New(syslog.LOG_AUTHPRIV|syslog.LOG_NOTICE, "tocsin-web")
	}
	if err == nil {
		err = l.out.Notice(line) // it connects again by itself
	}
	if err != nil {
		l.out = nil
		l.log.Warn(line, "err", err)
	}
}
