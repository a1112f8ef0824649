package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	"tocsin"
	"tocsin/internal/account"
	"tocsin/internal/api"
	"tocsin/internal/locale"
)

//go:embed templates static
var files embed.FS

// pages are the templates by their names, each with the frame around it.
type pages map[string]*template.Template

func parsePages() (pages, error) {
	all, err := files.ReadDir("templates")
	if err != nil {
		return nil, err
	}
	p := pages{}
	for _, f := range all {
		name := strings.TrimSuffix(f.Name(), ".html")
		if name == "frame" || name == "parts" {
			continue
		}
		t, err := template.New("frame.html").Funcs(funcs).ParseFS(files, "templates/frame.html", "templates/parts.html", "templates/"+f.Name())
		if err != nil {
			return nil, fmt.Errorf("BUG: %w", err)
		}
		p[name] = t
	}
	return p, nil
}

// funcs are what every template may use. safe is for all text that a stranger may have written: html/template keeps it from
// being markup, safe from turning the direction of a line or hiding in it.
var funcs = template.FuncMap{
	"safe": tocsin.Printable,
	"seg":  segment,
	"dict": dict,
	// The bounds of a password.
	"leastPassword": func() int { return account.LeastPassword },
	"mostPassword":  func() int { return account.MostPassword },
}

// dict makes a map of names and values, for a part that wants several.
func dict(pairs ...any) (map[string]any, error) {
	if len(pairs)%2 != 0 {
		return nil, errors.New("BUG: dict wants pairs")
	}
	m := map[string]any{}
	for i := 0; i < len(pairs); i += 2 {
		m[fmt.Sprint(pairs[i])] = pairs[i+1]
	}
	return m, nil
}

// noGroup stands in a path for no group.
const noGroup = "-"

// segment writes a name as one part of a path.
func segment(name string) string {
	if name == "" {
		return noGroup
	}
	return url.PathEscape(name)
}

// frame is what a template is given.
type frame struct {
	*locale.Locale
	Title   string // of the page
	Site    string // of the installation
	Who     *visitor
	Theme   string // "", light, dark
	Path    string // of this page with its question, for forms that come back
	Here    string // the same without
	Links   []navLink
	Now     time.Time
	Version string
	Fresh   string // how old what is shown is, in words; "" on pages without data
	Late    bool   // something of it is older than it should be
	Open    int    // open alerts
	Flash   string // what was done just now
	Static  func(name string) string
	Body    any
}

// May says whether whoever looks may do something, by the names that templates use.
func (f *frame) May(what string) bool {
	w, ok := whats[what]
	return ok && f.Who.May(w)
}

// Int64 is Int for other whole numbers.
func (f *frame) Int64(n int) string { return f.Int(int64(n)) }

var whats = map[string]account.What{
	"see": account.See, "address": account.SeeAddress, "addresses": account.SeeAddresses, "unban": account.Unban, "allow": account.AllowWeek,
	"ban": account.Ban, "acknowledge": account.Acknowledge, "embed": account.Embed, "actions": account.SeeActions, "users": account.ManageUsers,
}

// locale is the language of whoever asks: as they chose, as the installation says, as their browser likes it.
func (s *Server) locale(r *http.Request) *locale.Locale {
	if c, err := r.Cookie(cookieLanguage); err == nil && locale.Known(c.Value) {
		return locale.Get(c.Value)
	}
	if locale.Known(s.o.Language) {
		return locale.Get(s.o.Language)
	}
	return locale.Pick(r.Header.Get("Accept-Language"))
}

// show writes a page. title is the key of its title, or the title itself where there is no such sentence.
func (s *Server) show(w http.ResponseWriter, r *http.Request, v *visitor, code int, page, title string, body any) {
	f := &frame{
		Locale: s.locale(r), Title: tocsin.Printable(title), Site: s.o.Title, Who: v, Path: r.URL.RequestURI(), Now: time.Now(), Version: s.o.Version,
		Static: s.staticPath, Body: body,
	}
	if f.Has(title) {
		f.Title = f.T(title)
	}
	if c, err := r.Cookie(cookieTheme); err == nil && (c.Value == "light" || c.Value == "dark") {
		f.Theme = c.Value
	}
	if v != nil {
		s.fill(r.Context(), f)
	}
	if key := r.URL.Query().Get("done"); v != nil && f.Has("page.done."+key) {
		f.Flash = f.T("page.done." + key)
	}
	var b bytes.Buffer
	if err := s.pages[page].ExecuteTemplate(&b, "frame.html", f); err != nil {
		s.log.Error("BUG: a page could not be drawn", "source", page, "err", err)
		http.Error(w, "something is wrong here; it is in the log", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Language", f.Tag())
	s.write(w, r, code, b.Bytes())
}

// write sends a body, compressed where the browser takes that and it is worth it.
func (s *Server) write(w http.ResponseWriter, r *http.Request, code int, body []byte) {
	w.Header().Add("Vary", "Accept-Encoding")
	if len(body) > 1000 && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		body = compressed(body, gzip.BestSpeed)
		w.Header().Set("Content-Encoding", "gzip")
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(code)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // the browser is gone; there is nobody to tell
	}
}

func compressed(body []byte, level int) []byte {
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, level) // the level is one of gzip's
	_, _ = z.Write(body)                   // into memory
	_ = z.Close()
	return b.Bytes()
}

// failure is what the error page says.
type failure struct {
	Code int
	Text string
	Hint string
}

// fail shows an error page. key is the sentence that says what is wrong.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, code int, key string) {
	v, _ := s.visitor(r)
	s.show(w, r, v, code, "error", "page.error.title", failure{Code: code, Text: s.locale(r).T(key)})
}

// broken shows what could not be done, or found out.
func (s *Server) broken(w http.ResponseWriter, r *http.Request, err error) {
	v, _ := s.visitor(r)
	code, f := http.StatusInternalServerError, failure{Text: s.locale(r).T("page.error.broken")}
	var e *api.Error
	switch {
	case errors.As(err, &e):
		f.Hint = tocsin.Printable(e.Msg)
		switch e.Exit {
		case api.ExitUnreachable, api.ExitTryLater:
			code, f.Text = http.StatusServiceUnavailable, s.locale(r).T("page.error.later")
		case api.ExitUsage, api.ExitFailed, api.ExitFindings:
			code, f.Text = http.StatusNotFound, s.locale(r).T("page.error.nothing")
		case api.ExitPermission:
			code, f.Text = http.StatusForbidden, s.locale(r).T("page.error.refused")
		}
	default:
		s.log.Error("a page could not be shown", "source", loggedPath(r), "err", err)
	}
	f.Code = code
	s.show(w, r, v, code, "error", "page.error.title", f)
}

// loggedPath is a request's path as it may stand in the log: whoever reads a link that is good once could use it.
func loggedPath(r *http.Request) string {
	const start = "/start/"
	if strings.HasPrefix(r.URL.Path, start) {
		return start
	}
	return r.URL.Path
}

// done goes to a page and says there what was done: key is one of page.done.
func (s *Server) done(w http.ResponseWriter, r *http.Request, to, key string) {
	u, err := url.Parse(localPath(to))
	if err != nil {
		u = &url.URL{Path: "/"}
	}
	q := u.Query()
	q.Set("done", key)
	u.RawQuery = q.Encode()
	http.Redirect(w, r, u.String(), http.StatusSeeOther)
}

// settings keeps the language and the theme that somebody chose.
func (s *Server) settings(w http.ResponseWriter, r *http.Request) {
	set := func(name, value string) {
		http.SetCookie(w, &http.Cookie{Name: name, Value: value, Path: "/", MaxAge: 365 * 24 * 3600, HttpOnly: true, Secure: s.isSecure(r), SameSite: http.SameSiteLaxMode})
	}
	if l := r.PostFormValue("language"); locale.Known(l) {
		set(cookieLanguage, l)
	}
	if t := r.PostFormValue("theme"); t == "light" || t == "dark" || t == "auto" {
		set(cookieTheme, t)
	}
	http.Redirect(w, r, localPath(r.PostFormValue("back")), http.StatusSeeOther)
}

// staticFile is a file that never changes under its path: the path holds its hash.
type staticFile struct {
	path   string
	kind   string
	text   []byte
	packed []byte // compressed
}

var kinds = map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}

func loadStatic() (map[string]*staticFile, error) {
	all, err := files.ReadDir("static")
	if err != nil {
		return nil, err
	}
	out := map[string]*staticFile{}
	for _, f := range all {
		kind := kinds[path.Ext(f.Name())]
		if kind == "" {
			continue // the licence of what is others'
		}
		text, err := files.ReadFile("static/" + f.Name())
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(text)
		out[f.Name()] = &staticFile{
			path: "/static/" + f.Name() + "?" + base64.RawURLEncoding.EncodeToString(sum[:9]), kind: kind, text: text, packed: compressed(text, gzip.BestCompression),
		}
	}
	return out, nil
}

// staticPath is where a file is asked for.
func (s *Server) staticPath(name string) string {
	if f := s.static[name]; f != nil {
		return f.path
	}
	return "/static/" + name
}

func (s *Server) serveStatic(w http.ResponseWriter, r *http.Request) {
	f := s.static[r.PathValue("file")]
	if f == nil {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", f.kind)
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Add("Vary", "Accept-Encoding")
	body := f.text
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		body = f.packed
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // the browser is gone; there is nobody to tell
	}
}

// clip cuts a stranger's text to n bytes.
func clip(s string, n int) string {
	return strings.ToValidUTF8(s[:min(len(s), n)], "")
}
