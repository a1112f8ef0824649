package web

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
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

// windows are Munin's, in their order.
var windows = []string{"day", "week", "month", "year"}

// Bounds of pictures.
const (
	drawnAtOnce = 4 // pictures
	leastZoom   = time.Minute
	mostZoom    = 20 * 365 * 24 * time.Hour
)

// place is one service of one server.
type place struct{ group, server, service string }

func (p place) path() string {
	return "/graph/" + segment(p.group) + "/" + segment(p.server) + "/" + segment(p.service)
}

// picture says what is drawn, and how.
type picture struct {
	place
	window   string // day, week, month, year; "": from..to
	from, to time.Time
	behind   time.Duration // how much earlier what is drawn pale behind it was; 0: nothing is
	kind     string        // svg, png, csv
	theme    graph.Theme
	width    int
	height   int
	bare     bool // without a title
	inline   bool
}

// pictureRoutes are the addresses of pictures, which never change: ours, and Munin's own.
func (s *Server) pictureRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /graph/{group}/{server}/{service}/{file}", func(w http.ResponseWriter, r *http.Request) {
		window, kind, ok := strings.Cut(r.PathValue("file"), ".")
		if !ok || !slices.Contains(windows, window) && window != "zoom" || kind != "svg" && kind != "png" && kind != "csv" {
			s.noPicture(w, r)
			return
		}
		s.servePicture(w, r, []place{placeOf(r)}, window, kind)
	})
	for _, prefix := range []string{"/munin/", "/munin-cgi/munin-cgi-graph/", "/cgi-bin/munin-cgi-graph/"} {
		mux.HandleFunc("GET "+prefix+"{path...}", func(w http.ResponseWriter, r *http.Request) {
			places, window, ok := muninPath(r.PathValue("path"))
			if !ok {
				s.noPicture(w, r)
				return
			}
			s.servePicture(w, r, places, window, "png")
		})
	}
}

func placeOf(r *http.Request) place {
	group := r.PathValue("group")
	if group == noGroup {
		group = ""
	}
	return place{group, r.PathValue("server"), r.PathValue("service")}
}

// noPicture answers who may not see pictures as who asks for one that there is not.
func (s *Server) noPicture(w http.ResponseWriter, r *http.Request) {
	if ok, _ := s.maySee(r); !ok {
		s.refusePicture(w, r)
		return
	}
	http.Error(w, "no such picture", http.StatusNotFound)
}

// muninPath reads an address of Munin's: GROUP/NODE/SERVICE-WINDOW.png, where groups have levels and services children, both
// with slashes between (MasterGraph.pm, _get_path). Which of the words are which shows only when one of the places is there.
func muninPath(path string) (places []place, window string, ok bool) {
	name, isPNG := strings.CutSuffix(path, ".png")
	i := strings.LastIndexByte(name, '-')
	if !isPNG || i < 0 || !slices.Contains(windows, name[i+1:]) {
		return nil, "", false
	}
	parts := strings.Split(name[:i], "/")
	if len(parts) > 20 {
		return nil, "", false
	}
	for node := len(parts) - 2; node >= 0; node-- {
		places = append(places, place{strings.Join(parts[:node], ";"), parts[node], strings.Join(parts[node+1:], ".")})
	}
	return places, name[i+1:], len(places) > 0
}

// maySee says whether a request may see pictures: by a session, a token that may read, or a link that is signed for this one.
func (s *Server) maySee(r *http.Request) (ok, linked bool) {
	if s.signer.good(r.URL.Path, r.URL.Query()) {
		return true, true
	}
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		return s.o.Token(strings.TrimSpace(token)) == api.ScopeRead, false
	}
	v, refused := s.visitor(r)
	return !refused && v.May(account.See), false
}

func (s *Server) refusePicture(w http.ResponseWriter, r *http.Request) {
	if strings.Contains(r.Header.Get("Accept"), "text/html") { // somebody has opened it as a page
		s.toLogin(w, r)
		return
	}
	w.Header().Set("WWW-Authenticate", `Bearer realm="tocsin"`)
	http.Error(w, "log in, show a token of scope read, or ask for a signed link", http.StatusUnauthorized)
}

var contentTypes = map[string]string{"svg": "image/svg+xml; charset=utf-8", "png": "image/png", "csv": "text/csv; charset=utf-8"}

// servePicture draws the first of the places that there is.
func (s *Server) servePicture(w http.ResponseWriter, r *http.Request, places []place, window, kind string) {
	ok, linked := s.maySee(r)
	if !ok {
		s.refusePicture(w, r)
		return
	}
	q := r.URL.Query()
	if linked {
		q.Del("behind") // another time than the one that the link is for
	}
	p, err := pictureOf(places[0], window, kind, q, time.Now())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if q.Get("inline") != "" && kind == "svg" {
		p.inPage()
	}
	l := s.locale(r)
	if locale.Known(q.Get("lang")) {
		l = locale.Get(q.Get("lang"))
	}
	var text []byte
	for _, one := range places {
		p.place = one
		var e *api.Error
		if text, err = s.draw(r.Context(), w, p, l); !errors.As(err, &e) || e.Exit == api.ExitTryLater {
			break
		}
	}
	var e *api.Error
	switch {
	case errors.As(err, &e) && e.Exit != api.ExitTryLater && e.Exit != api.ExitUnreachable:
		http.Error(w, "no such service", http.StatusNotFound)
		return
	case errors.Is(err, graph.ErrData):
		http.Error(w, "nothing can be drawn of that time", http.StatusBadRequest)
		return
	case err != nil:
		s.log.Error("a picture could not be drawn", "service", p.service, "node", p.server, "err", err)
		http.Error(w, "it could not be drawn", http.StatusServiceUnavailable)
		return
	}
	if linked { // it may stand in a page elsewhere; what a session opens may not
		w.Header().Set("Cross-Origin-Resource-Policy", "cross-origin")
	}
	s.sendPicture(w, r, p, text)
}

// sendPicture sends a picture, unless the browser has it.
func (s *Server) sendPicture(w http.ResponseWriter, r *http.Request, p picture, text []byte) {
	sum := sha256.Sum256(text)
	tag := `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`
	h := w.Header()
	h.Set("Content-Type", contentTypes[p.kind])
	h.Set("ETag", tag)
	// A picture is as good as new until its next step.
	h.Set("Cache-Control", "private, max-age="+strconv.Itoa(int(freshFor(p).Seconds())))
	// As a page of its own it can do nothing.
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; sandbox; frame-ancestors 'none'")
	h.Add("Vary", "Accept-Language, Cookie, Authorization")
	if p.kind == "csv" {
		h.Set("Content-Disposition", `attachment; filename="`+fileName(p)+`"`)
	}
	if match := r.Header.Get("If-None-Match"); match != "" && strings.Contains(match, tag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	if p.kind == "png" {
		h.Set("Content-Length", strconv.Itoa(len(text)))
		if r.Method != http.MethodHead {
			_, _ = w.Write(text) // the browser is gone; there is nobody to tell
		}
		return
	}
	s.write(w, r, http.StatusOK, text)
}

func freshFor(p picture) time.Duration {
	_, step, ok := graph.Window(p.window)
	if !ok {
		return 10 * time.Second
	}
	return min(step/5, 10*time.Minute)
}

// fileName is what a saved table is called.
func fileName(p picture) string {
	clean := func(r rune) rune {
		if r == '.' || r == '-' || r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' {
			return r
		}
		return '-'
	}
	return strings.Map(clean, clip(p.server+"-"+p.service+"-"+p.window, 150)) + "." + p.kind
}

// pictureOf reads what is asked for. now is the end of Munin's windows.
func pictureOf(at place, window, kind string, q url.Values, now time.Time) (picture, error) {
	p := picture{place: at, window: window, kind: kind}
	switch q.Get("theme") {
	case "light":
		p.theme = graph.Light
	case "dark":
		p.theme = graph.Dark
	}
	for name, to := range map[string]*int{"width": &p.width, "height": &p.height} {
		if text := q.Get(name); text != "" {
			n, err := strconv.Atoi(text)
			if err != nil || n < 1 || n > 10_000 {
				return p, fmt.Errorf("%s is not a number of pixels", name)
			}
			*to = n
		}
	}
	if text := q.Get("behind"); text != "" {
		days, err := strconv.Atoi(text)
		if err != nil || days < 1 || days > 3660 {
			return p, errors.New("behind is not a number of days")
		}
		p.behind = time.Duration(days) * 24 * time.Hour
	}
	if length, _, ok := graph.Window(window); ok {
		p.to = now.Truncate(time.Second)
		p.from = p.to.Add(-length)
		return p, nil
	}
	p.window = ""
	from, err1 := strconv.ParseInt(q.Get("from"), 10, 64)
	to, err2 := strconv.ParseInt(q.Get("to"), 10, 64)
	const most = 1 << 40
	if errors.Join(err1, err2) != nil || from < 0 || to > most || from > most {
		return p, errors.New("from and to are not seconds since 1970")
	}
	p.from, p.to = time.Unix(from, 0), time.Unix(to, 0)
	if length := p.to.Sub(p.from); length < leastZoom || length > mostZoom {
		return p, errors.New("the time is too short or too long")
	}
	return p, nil
}

// query is what a picture is asked for with, beside its path.
func (p *picture) query() url.Values {
	q := url.Values{}
	if p.window == "" {
		q.Set("from", strconv.FormatInt(p.from.Unix(), 10))
		q.Set("to", strconv.FormatInt(p.to.Unix(), 10))
	}
	if p.behind > 0 {
		q.Set("behind", strconv.Itoa(int(p.behind/(24*time.Hour))))
	}
	return q
}

// read asks for what is drawn.
func (s *Server) read(ctx context.Context, p *picture) (data graph.Data, marks []graph.Mark, title string, err error) {
	q := api.GraphQuery{Group: p.group, Server: p.server, Service: p.service, From: p.from, To: p.to, Marks: true}
	if _, step, ok := graph.Window(p.window); ok {
		q.Step = step
	}
	g, err := s.o.Graph(ctx, q)
	if err != nil {
		return data, nil, "", err
	}
	data = g.Data()
	if p.behind > 0 {
		q.From, q.To, q.Step, q.Marks = p.from.Add(-p.behind), p.to.Add(-p.behind), data.Step, false
		before, err := s.o.Graph(ctx, q)
		if err != nil {
			return data, nil, "", err
		}
		data.Ghost = before.Points(p.behind)
	}
	return data, g.DrawnMarks(), g.Title, nil
}

// lay reads a picture and works it out.
func (s *Server) lay(ctx context.Context, p *picture, l *locale.Locale) (*graph.Graph, error) {
	select {
	case s.drawing <- struct{}{}:
		defer func() { <-s.drawing }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	data, marks, _, err := s.read(ctx, p)
	if err != nil {
		return nil, err
	}
	o := graph.Options{
		Width: p.width, Height: p.height, Bare: p.bare, Theme: p.theme, Inline: p.inline, Locale: l, Marks: marks,
		Subtitle: tocsin.Printable(p.server),
	}
	if p.behind > 0 {
		o.GhostName = l.T("graph.before", "for", l.Rough(p.behind))
	}
	return graph.New(data, o)
}

// draw draws a picture. For one that becomes a part of a page it tells where in it the time begins and ends.
func (s *Server) draw(ctx context.Context, w http.ResponseWriter, p picture, l *locale.Locale) ([]byte, error) {
	g, err := s.lay(ctx, &p, l)
	if err != nil {
		return nil, err
	}
	if p.inline {
		left, right := g.Span()
		w.Header().Set("X-Span", fmt.Sprintf("%.1f %.1f", left, right))
	}
	var b bytes.Buffer
	switch p.kind {
	case "png":
		err = g.PNG(&b)
	case "csv":
		err = g.CSV(&b)
	default:
		err = g.SVG(&b)
	}
	return b.Bytes(), err
}
