// Package web speaks HTTP with people: pages, pictures and the login before them.
//
// Every page is drawn whole on the server and needs no JavaScript. What the pages show is asked of the rooms and of the
// guard through the functions of [Options]; what people may do is asked of account.May.
//
// The one thing to know: nothing but the static files and the login is answered without an account, on loopback neither,
// for members have shells on these machines.
package web

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	"tocsin/internal/account"
	"tocsin/internal/api"
	"tocsin/internal/store"
)

// Bounds of a request.
const (
	maxForm   = 64 << 10 // bytes
	workTime  = 20 * time.Second
	maxSearch = 200 // bytes
)

// Options are what the pages are made from. Fields without a remark must be set.
type Options struct {
	Origin   string         // where people reach the pages: scheme, host and port
	Title    string         // of the installation
	Language string         // of whoever chose none: "fr", "en"; anything else asks the browser
	Proxies  []netip.Prefix // whose word counts
	// ProxySecret is what they send in the header Tocsin-Proxy; "": their address is enough.
	ProxySecret string
	UserHeader  string        // in which they name the account; "": none
	OIDC        *account.OIDC // nil: none
	OIDCName    string        // what its button says
	Store       *store.Watch
	Guard       *api.Client
	Token       func(token string) (scope string)  // what a token is good for
	Failed      func(name string, addr netip.Addr) // writes a failed login down for the guard
	Entered     func(name string, addr netip.Addr) // and a good one
	Version     string
	Log         *slog.Logger
	Data
	GuardData
}

// Server serves the pages.
type Server struct {
	o         Options
	log       *slog.Logger
	people    *people
	passwords *account.Passwords
	throttle  account.Throttle // of a name, and where from
	crowded   account.Throttle // of an address, whatever the name
	unnamed   account.Throttle // of everybody whose address proves nothing
	signer    signer
	banned    banList
	looked    looks
	drawing   chan struct{} // holds one for each picture that is being drawn
	pages     pages
	static    map[string]*staticFile
	hosts     map[string]bool // that are answered beside addresses
	secure    bool            // people come over TLS
	handler   http.Handler
}

// New makes the pages. Nobody is asked yet but the store.
func New(ctx context.Context, o Options) (*Server, error) {
	s := &Server{o: o, log: o.Log, passwords: account.NewPasswords(), crowded: account.Throttle{Free: freeOfAddress}, unnamed: account.Throttle{Free: freeUnnamed, Most: waitUnnamed}, drawing: make(chan struct{}, drawnAtOnce), hosts: map[string]bool{"localhost": true}}
	u, err := url.Parse(o.Origin)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("the pages: %q is no address", o.Origin)
	}
	s.secure = u.Scheme == "https"
	s.hosts[strings.ToLower(u.Hostname())] = true
	if name, err := os.Hostname(); err == nil {
		s.hosts[strings.ToLower(name)] = true
	}
	if s.people, err = loadPeople(ctx, o.Store, time.Now()); err != nil {
		return nil, err
	}
	if err := s.signer.load(ctx, o.Store); err != nil {
		return nil, err
	}
	if s.pages, err = parsePages(); err != nil {
		return nil, err
	}
	if s.static, err = loadStatic(); err != nil {
		return nil, err
	}
	guard := http.NewCrossOriginProtection()
	if err := guard.AddTrustedOrigin(o.Origin); err != nil {
		return nil, fmt.Errorf("the pages: %w", err)
	}
	guard.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.fail(w, r, http.StatusForbidden, "page.error.foreign")
	}))
	s.handler = s.checked(guard.Handler(s.routes()))
	return s, nil
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// routes are all paths with who may ask for them.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /static/{file}", s.serveStatic)
	mux.HandleFunc("GET /favicon.ico", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, s.staticPath("icon.svg"), http.StatusFound)
	})
	mux.HandleFunc("GET /login", s.loginPage)
	mux.HandleFunc("POST /login", s.login)
	mux.HandleFunc("POST /logout", s.logout)
	mux.HandleFunc("GET /start/{token}", s.startPage)
	mux.HandleFunc("POST /start/{token}", s.start)
	mux.HandleFunc("GET /oidc/begin", s.oidcBegin)
	mux.HandleFunc("GET /oidc", s.oidcFinish)
	mux.HandleFunc("POST /settings", s.settings)
	for _, p := range s.paths() {
		mux.Handle(p.pattern, s.needs(p.what, p.do))
	}
	s.pictureRoutes(mux)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if v, _ := s.visitor(r); v == nil {
			s.toLogin(w, r)
			return
		}
		s.fail(w, r, http.StatusNotFound, "page.error.nothing")
	})
	return mux
}

// route is a page that needs an account, and what its role must allow.
type route struct {
	pattern string
	what    account.What
	do      func(http.ResponseWriter, *http.Request, *visitor)
}

// checked is before everything: the name we are called by, the headers that keep a browser safe, and bounds.
func (s *Server) checked(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.protect(w.Header())
		if !s.isOurs(r.Host) {
			// A name of somebody else's that leads here (DNS rebinding) is answered with nothing of ours.
			http.Error(w, "this name is not known here: set url under [web]", http.StatusMisdirectedRequest)
			return
		}
		defer func() {
			if p := recover(); p != nil {
				if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
					panic(p)
				}
				s.log.Error("BUG: a page", "err", fmt.Sprint(p), "source", loggedPath(r))
				http.Error(w, "something is wrong here; it is in the log", http.StatusInternalServerError)
			}
		}()
		ctx, cancel := context.WithTimeout(r.Context(), workTime)
		defer cancel()
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		h.ServeHTTP(w, r.WithContext(ctx))
	})
}

// isOurs says whether host is a name that we are called by, or an address: no name of somebody else's leads to one.
func (s *Server) isOurs(host string) bool {
	u, err := url.Parse("http://" + host)
	if err != nil || u.Host != host {
		return false
	}
	name := u.Hostname()
	_, err = netip.ParseAddr(name)
	return err == nil || s.hosts[strings.ToLower(name)]
}

// policy allows nothing but our own files, and nothing inline.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

func (s *Server) protect(h http.Header) {
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), microphone=(), geolocation=(), interest-cohort=()")
	h.Set("Cache-Control", "no-store")
	if s.secure {
		h.Set("Strict-Transport-Security", "max-age=31536000")
	}
}
