// Package api speaks HTTP with programs. It owns the guard's unix socket: the wire structs with their schema names, the
// handler that serves them and the client that asks.
//
// It decides nothing about bans. Who may do what is decided here, by the uid of the peer: whoever may open the socket may
// look, only root (and the user the guard runs as) may change anything; for people of its pages the watch process may unban,
// allow and ban, within bounds.
package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds of the socket. It serves a few people and scripts of one machine.
const (
	maxBody        = 64 << 10 // bytes of a request
	maxConnections = 64
	requestTime    = 30 * time.Second
)

// Operations are what the handler calls. Every field must be set.
type Operations struct {
	Status  func(context.Context) (Status, error)
	Doctor  func(context.Context) (Doctor, error)
	Bans    func(context.Context, BansQuery) (Bans, error)
	Tally   func(ctx context.Context, addrs bool) (Tally, error)
	Why     func(context.Context, netip.Addr) (Why, error)
	WhyID   func(ctx context.Context, id string) (Why, error) // of what is no address
	Allowed func(context.Context) (Allowed, error)
	Jail    func(ctx context.Context, name string) (JailDetail, error)
	Banned  func(ctx context.Context, jail string) (Banned, error) // jail "": all of them
	Metrics func(context.Context, io.Writer) error

	Ban    func(context.Context, BanRequest) (Change, error)
	Unban  func(context.Context, UnbanRequest) (Change, error)
	Allow  func(context.Context, AllowRequest) (Change, error)
	Off    func(context.Context, OffRequest) (Change, error)
	Reload func(context.Context) (Change, error)
	Reopen func(context.Context) (Change, error)

	// Lists and decisions, for the watch process. MayShare says which users it may run as.
	Decisions func(context.Context, DecisionsQuery) (Decisions, error)
	Spared    func(context.Context, netip.Prefix) (Spared, error)
	Lists     func(context.Context) (ListStates, error)
	TakeList  func(ctx context.Context, name string, kept io.Reader) (ListState, error)
	DropList  func(ctx context.Context, name string) (Change, error)
	MayShare  func(uid uint32) bool
	// ForPages says whether the watch process may change bans for the people of its pages.
	ForPages func(context.Context) bool
}

// Handler serves the operations. It must be reached through a server made by Serve, which tells it who the peer is.
func Handler(op Operations) http.Handler {
	mux := http.NewServeMux()
	look(mux, "GET /v1/status", func(r *http.Request) (any, error) { return op.Status(r.Context()) })
	look(mux, "GET /v1/doctor", func(r *http.Request) (any, error) { return op.Doctor(r.Context()) })
	look(mux, "GET /v1/allowed", func(r *http.Request) (any, error) { return op.Allowed(r.Context()) })
	look(mux, "GET /v1/bans", func(r *http.Request) (any, error) {
		q, err := parseBansQuery(r.URL.Query())
		if err != nil {
			return nil, err
		}
		return op.Bans(r.Context(), q)
	})
	look(mux, "GET /v1/bans/tally", func(r *http.Request) (any, error) { return op.Tally(r.Context(), r.URL.Query().Get("addrs") == "1") })
	look(mux, "GET /v1/jails/{name}", func(r *http.Request) (any, error) { return op.Jail(r.Context(), r.PathValue("name")) })
	look(mux, "GET /v1/banned", func(r *http.Request) (any, error) { return op.Banned(r.Context(), r.URL.Query().Get("jail")) })
	look(mux, "GET /v1/why", func(r *http.Request) (any, error) {
		if id := r.URL.Query().Get("id"); id != "" {
			return op.WhyID(r.Context(), id)
		}
		addr, err := parseAddr(r.URL.Query().Get("addr"))
		if err != nil {
			return nil, err
		}
		return op.Why(r.Context(), addr)
	})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) { metricsPage(w, r, op.Metrics) })
	pageHandlers(mux, &op)
	change(mux, "POST /v1/off", op.Off)
	change(mux, "POST /v1/reload", func(ctx context.Context, _ struct{}) (Change, error) { return op.Reload(ctx) })
	change(mux, "POST /v1/reopen", func(ctx context.Context, _ struct{}) (Change, error) { return op.Reopen(ctx) })
	shareHandlers(mux, &op)
	return mux
}

// deadlineHeader says how long the client waits. A guard that hung must not carry out afterwards what somebody has given
// up, and perhaps done the contrary of since: the kernel keeps the requests, and their order is lost.
const deadlineHeader = "Tocsin-Deadline"

func look(mux *http.ServeMux, pattern string, f func(*http.Request) (any, error)) {
	mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		v, err := f(r)
		answer(w, v, err)
	})
}

func change[Req, Answer any](mux *http.ServeMux, pattern string, f func(context.Context, Req) (Answer, error)) {
	changeIf(mux, pattern, mayChange, f)
}

func changeIf[Req, Answer any](mux *http.ServeMux, pattern string, may func(context.Context) error, f func(context.Context, Req) (Answer, error)) {
	mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		if err := may(r.Context()); err != nil {
			answer(w, nil, err)
			return
		}
		if ends, err := time.Parse(time.RFC3339Nano, r.Header.Get(deadlineHeader)); err == nil && time.Now().After(ends) {
			answer(w, nil, Errorf(ExitTryLater, "try again", "nobody waits for this change any more"))
			return
		}
		var req Req
		dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&req); err != nil && !errors.Is(err, io.EOF) {
			answer(w, nil, Errorf(ExitUsage, "", fmt.Sprintf("read request: %v", err)))
			return
		}
		v, err := f(r.Context(), req)
		answer(w, v, err)
	})
}

func answer(w http.ResponseWriter, v any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		var e *Error
		if !errors.As(err, &e) {
			e = Errorf(ExitFailed, "", err.Error())
		}
		w.WriteHeader(httpStatus(e.Exit))
		v = e
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) // the peer is gone; there is nobody to tell
}

func httpStatus(exit int) int {
	switch exit {
	case ExitUsage, ExitData:
		return http.StatusBadRequest
	case ExitPermission:
		return http.StatusForbidden
	case ExitFindings:
		return http.StatusConflict
	case ExitTryLater, ExitUnreachable:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

func parseAddr(s string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(s)
	if err != nil {
		return addr, Errorf(ExitUsage, "write it like 192.0.2.7 or 2001:db8::7", fmt.Sprintf("%q is not an IP address", s))
	}
	return addr.Unmap().WithZone(""), nil
}

func parseBansQuery(v url.Values) (q BansQuery, err error) {
	q.Jail = v.Get("jail")
	q.All = v.Get("all") == "1"
	q.Detail = v.Get("detail") == "1"
	if s := v.Get("addr"); s != "" {
		if q.Addr, err = parseAddr(s); err != nil {
			return q, err
		}
	}
	if s := v.Get("since"); s != "" {
		if q.Since, err = time.ParseDuration(s); err != nil || q.Since <= 0 {
			return q, Errorf(ExitUsage, "write it like 24h", fmt.Sprintf("since %q is not a positive duration", s))
		}
	}
	most := maxBans
	q.Limit = defaultBans
	if q.Detail {
		q.Limit, most = defaultDetailed, maxDetailedBans
	}
	if s := v.Get("limit"); s != "" {
		if q.Limit, err = strconv.Atoi(s); err != nil || q.Limit < 1 || q.Limit > most {
			return q, Errorf(ExitUsage, "narrow it down with --since or --jail", fmt.Sprintf("limit %q is not a number from 1 to %d", s, most))
		}
	}
	return q, nil
}

func (q BansQuery) values() url.Values {
	v := url.Values{}
	set := func(key, val string, ok bool) {
		if ok {
			v.Set(key, val)
		}
	}
	set("addr", q.Addr.String(), q.Addr.IsValid())
	set("jail", q.Jail, q.Jail != "")
	set("all", "1", q.All)
	set("detail", "1", q.Detail)
	set("since", q.Since.String(), q.Since > 0)
	set("limit", strconv.Itoa(q.Limit), q.Limit > 0)
	return v
}

type peerKey struct{}

// mayChange lets root and the guard's own user change things.
func mayChange(ctx context.Context) error {
	uid, ok := ctx.Value(peerKey{}).(uint32)
	if ok && (uid == 0 || int(uid) == os.Geteuid()) {
		return nil
	}
	return Errorf(ExitPermission, "try again with sudo", "only root may change what the guard does")
}

// Listen makes the unix socket at path, mode 0660, and removes one that a dead guard left behind. It gives the socket to
// group gid unless that is negative.
func Listen(path string, gid int) (net.Listener, error) {
	if conn, err := net.DialTimeout("unix", path, time.Second); err == nil {
		_ = conn.Close()
		return nil, fmt.Errorf("listen on %s: another guard answers there", path)
	}
	if fi, err := os.Lstat(path); err == nil {
		if fi.Mode().Type() != os.ModeSocket {
			return nil, fmt.Errorf("listen on %s: something else than a socket lies there", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("remove old socket: %w", err)
		}
	}
	// The mask makes the socket closed from its first moment on; a chmod alone would come too late.
	old := unix.Umask(0o117)
	l, err := net.Listen("unix", path)
	unix.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("listen on control socket: %w", err)
	}
	if gid >= 0 {
		if err := os.Chown(path, -1, gid); err != nil {
			_ = l.Close()
			return nil, fmt.Errorf("give control socket to group %d: %w", gid, err)
		}
	}
	return l, nil
}

// Serve answers on the unix socket l until ctx ends.
func Serve(ctx context.Context, l net.Listener, h http.Handler) error {
	return serveUntil(ctx, &limited{Listener: l, slots: make(chan struct{}, maxConnections)}, &http.Server{
		Handler:           unlessImport(http.TimeoutHandler(h, requestTime, `{"schema":"tocsin.error/1","exit":75,"error":"the guard is too busy","hint":"try again"}`), h),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      requestTime + 5*time.Second,
		IdleTimeout:       30 * time.Second,
		MaxHeaderBytes:    8 << 10,
		ConnContext:       withPeer,
	})
}

// unlessImport gives an import to slow, everything else to usual.
func unlessImport(usual, slow http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == importPath {
			slow.ServeHTTP(w, r)
			return
		}
		usual.ServeHTTP(w, r)
	})
}

// serveUntil runs a server until ctx ends, then lets requests under way finish for a second.
func serveUntil(ctx context.Context, l net.Listener, srv *http.Server) error {
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	select {
	case err := <-done:
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := srv.Shutdown(stop); err != nil {
		_ = srv.Close()
	}
	<-done
	return nil
}

// withPeer asks the kernel who is at the other end (unix(7), SO_PEERCRED).
func withPeer(ctx context.Context, c net.Conn) context.Context {
	for {
		inner, ok := c.(*slotted)
		if !ok {
			break
		}
		c = inner.Conn
	}
	uc, ok := c.(*net.UnixConn)
	if !ok {
		return ctx
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return ctx
	}
	var cred *unix.Ucred
	if cerr := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); cerr != nil || err != nil {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, cred.Uid)
}

// limited accepts no more connections than it has slots; the others wait in the kernel's backlog.
type limited struct {
	net.Listener
	slots chan struct{}
}

func (l *limited) Accept() (net.Conn, error) {
	l.slots <- struct{}{}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &slotted{Conn: c, slots: l.slots}, nil
}

type slotted struct {
	net.Conn
	slots  chan struct{}
	closed atomic.Bool
}

func (s *slotted) Close() error {
	if s.closed.CompareAndSwap(false, true) {
		<-s.slots
	}
	return s.Conn.Close()
}
