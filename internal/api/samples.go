package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/timestamp"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"

	"tocsin/internal/remotewrite"
)

// This file holds Prometheus's interface for programs (https://prometheus.io/docs/prometheus/latest/querying/api/), which
// Grafana and others know: queries, remote write and the last values. Over TCP all of it asks for a token.

// Scopes of a token.
const (
	ScopeRead  = "read"  // may ask
	ScopeWrite = "write" // may write samples
)

// Bounds of a question.
const (
	maxPoints      = 11_000 // of a series, as Prometheus has it
	maxForm        = 1 << 20
	maxSelectors   = 100
	defaultTimeout = 30 * time.Second
	sampleConns    = 256 // connections over TCP at a time
	sampleConnsOf  = 64  // of them from one address, or one /64 of IPv6
)

// Samples is what the handler asks. Every field must be set.
type Samples struct {
	Query       func(ctx context.Context, expr string, at time.Time) (parser.Value, error)
	QueryRange  func(ctx context.Context, expr string, from, to time.Time, step time.Duration) (parser.Value, error)
	Series      func(ctx context.Context, selectors [][]*labels.Matcher, from, to time.Time) ([]labels.Labels, error)
	LabelNames  func(ctx context.Context, selectors [][]*labels.Matcher, from, to time.Time) ([]string, error)
	LabelValues func(ctx context.Context, name string, selectors [][]*labels.Matcher, from, to time.Time) ([]string, error)
	Last        func(ctx context.Context, selectors [][]*labels.Matcher) (promql.Vector, error)
	// Write keeps samples. When it returns nil they are not lost by any end of this process.
	Write   func(context.Context, []remotewrite.Series) error
	Metrics func(context.Context, io.Writer) error
	Healthy func() error
	// Admits says what a token is good for, "" for nothing.
	Admits  func(token string) (scope string)
	Version string
}

// Errors that the functions of Samples may wrap, to tell whose fault it is. Anything else is ours.
var (
	ErrQuestion = errors.New("the question cannot be answered") // it is wrong, or asks too much
	ErrSamples  = errors.New("the samples cannot be taken")     // they will never be
	ErrFull     = errors.New("there is no room on the disk")
	ErrNotYet   = errors.New("not yet") // the store is being opened: ask again
)

// SamplesHandler serves everything over TCP.
func SamplesHandler(s *Samples) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if err := s.Healthy(); err != nil {
			http.Error(w, "not well", http.StatusServiceUnavailable) // what is wrong is nobody's business here
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) { metricsPage(w, r, s.Metrics) })
	own := http.NewServeMux()
	samplesHandlers(own, func() (*Samples, error) { return s, nil })
	mux.Handle("/", admitted(s, own))
	return mux
}

// metricsPage answers with a page in Prometheus's text format.
func metricsPage(w http.ResponseWriter, r *http.Request, write func(context.Context, io.Writer) error) {
	var page bytes.Buffer
	if err := write(r.Context(), &page); err != nil {
		answer(w, nil, err)
		return
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = page.WriteTo(w) // the peer is gone; there is nobody to tell
}

// admitted lets in who shows a token that is good for what is asked.
func admitted(s *Samples, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		want := ScopeRead
		if r.URL.Path == "/api/v1/write" {
			want = ScopeWrite
		}
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		scope := ""
		if ok {
			scope = s.Admits(strings.TrimSpace(token))
		}
		switch scope {
		case want:
			h.ServeHTTP(w, r)
		case "":
			w.Header().Set("WWW-Authenticate", `Bearer realm="tocsin"`)
			w.Header().Set("Connection", "close") // who has no token holds no connection
			fail(w, http.StatusUnauthorized, "unauthorized", errors.New("show a token: Authorization: Bearer TOKEN (tocsin token add NAME --scope "+want+")"))
		default:
			fail(w, http.StatusForbidden, "forbidden", fmt.Errorf("this token is for scope %s, not %s", scope, want))
		}
	})
}

// samplesHandlers serves queries and writes to whoever may reach mux. find answers who is asked, anew for each request.
func samplesHandlers(mux *http.ServeMux, find func() (*Samples, error)) {
	found := func(f func(*Samples, http.ResponseWriter, *http.Request)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			s, err := find()
			if err != nil {
				fail(w, http.StatusServiceUnavailable, "unavailable", err)
				return
			}
			f(s, w, r)
		}
	}
	both := func(path string, f func(*Samples, *http.Request) (any, error)) {
		h := found(func(s *Samples, w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, maxForm)
			if err := r.ParseForm(); err != nil {
				fail(w, http.StatusBadRequest, "bad_data", err)
				return
			}
			data, err := f(s, r)
			if err != nil {
				failed(w, err)
				return
			}
			succeed(w, data)
		})
		mux.HandleFunc("GET "+path, h)
		mux.HandleFunc("POST "+path, h)
	}
	both("/api/v1/query", (*Samples).query)
	both("/api/v1/query_range", (*Samples).queryRange)
	both("/api/v1/series", (*Samples).series)
	both("/api/v1/labels", (*Samples).labelNames)
	both("/api/v1/label/{name}/values", (*Samples).labelValues)
	// What Grafana asks beside, and has an answer to go on with.
	both("/api/v1/status/buildinfo", func(s *Samples, _ *http.Request) (any, error) {
		return map[string]string{"version": "2.55.0", "application": "tocsin", "tocsin": s.Version}, nil
	})
	both("/api/v1/metadata", func(*Samples, *http.Request) (any, error) { return struct{}{}, nil })
	both("/api/v1/query_exemplars", func(*Samples, *http.Request) (any, error) { return []struct{}{}, nil })
	both("/api/v1/alerts", func(*Samples, *http.Request) (any, error) { return map[string][]struct{}{"alerts": {}}, nil })
	both("/api/v1/rules", func(*Samples, *http.Request) (any, error) { return map[string][]struct{}{"groups": {}}, nil })
	mux.HandleFunc("GET /federate", found((*Samples).federate))
	mux.HandleFunc("POST /api/v1/write", found((*Samples).write))
}

// envelope is the frame of every answer.
type envelope struct {
	Status    string `json:"status"`
	Data      any    `json:"data,omitempty"`
	ErrorType string `json:"errorType,omitempty"`
	Error     string `json:"error,omitempty"`
}

func succeed(w http.ResponseWriter, data any) {
	w.Header().Set("Content-Type", "application/json")
	b := bufio.NewWriterSize(w, 32<<10)
	if v, ok := data.(parser.Value); ok {
		b.WriteString(`{"status":"success","data":`)
		writeValue(b, v)
		b.WriteString("}\n")
	} else {
		enc := json.NewEncoder(b)
		enc.SetEscapeHTML(false)
		_ = enc.Encode(envelope{Status: "success", Data: data}) // into memory, or to a peer that is gone
	}
	_ = b.Flush() // the peer is gone; there is nobody to tell
}

func fail(w http.ResponseWriter, code int, kind string, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(envelope{Status: "error", ErrorType: kind, Error: err.Error()})
}

// badData is a mistake in a request.
type badData struct{ error }

func failed(w http.ResponseWriter, err error) {
	var bad badData
	switch {
	case errors.As(err, &bad):
		fail(w, http.StatusBadRequest, "bad_data", err)
	case errors.Is(err, ErrQuestion):
		fail(w, http.StatusUnprocessableEntity, "execution", err)
	case errors.Is(err, ErrNotYet):
		w.Header().Set("Retry-After", "5")
		fail(w, http.StatusServiceUnavailable, "unavailable", err)
	case errors.Is(err, context.DeadlineExceeded):
		fail(w, http.StatusServiceUnavailable, "timeout", errors.New("the question took too long"))
	case errors.Is(err, context.Canceled):
		fail(w, http.StatusServiceUnavailable, "canceled", errors.New("nobody waits for the answer"))
	default:
		fail(w, http.StatusInternalServerError, "internal", err)
	}
}

func (s *Samples) query(r *http.Request) (any, error) {
	at, err := timeOf(r.Form, "time", time.Now())
	if err != nil {
		return nil, err
	}
	ctx, cancel, err := deadline(r)
	if err != nil {
		return nil, err
	}
	defer cancel()
	expr, err := expression(r.Form)
	if err != nil {
		return nil, err
	}
	return s.Query(ctx, expr, at)
}

func (s *Samples) queryRange(r *http.Request) (any, error) {
	from, err := neededTime(r.Form, "start")
	if err != nil {
		return nil, err
	}
	to, err := neededTime(r.Form, "end")
	if err != nil {
		return nil, err
	}
	if to.Before(from) {
		return nil, badData{errors.New("end is before start")}
	}
	step, err := parseStep(r.Form.Get("step"))
	if err != nil || step <= 0 {
		return nil, badData{fmt.Errorf("step %.60q is not a positive duration, like 15 or 5m", r.Form.Get("step"))}
	}
	if to.Sub(from)/step >= maxPoints {
		return nil, badData{fmt.Errorf("more than %d points of a series: take a longer step", maxPoints)}
	}
	ctx, cancel, err := deadline(r)
	if err != nil {
		return nil, err
	}
	defer cancel()
	expr, err := expression(r.Form)
	if err != nil {
		return nil, err
	}
	return s.QueryRange(ctx, expr, from, to, step)
}

// expression wants a question that can be read, so that one that cannot is told with its place.
func expression(form url.Values) (string, error) {
	expr := form.Get("query")
	if _, err := promqlParser.ParseExpr(expr); err != nil {
		return "", badData{fmt.Errorf("query: %w", err)}
	}
	return expr, nil
}

var promqlParser = parser.NewParser(parser.Options{})

func (s *Samples) series(r *http.Request) (any, error) {
	selectors, from, to, err := selection(r.Form)
	if err != nil {
		return nil, err
	}
	if len(selectors) == 0 {
		return nil, badData{errors.New("match[] is missing")}
	}
	all, err := s.Series(r.Context(), selectors, from, to)
	if err != nil {
		return nil, err
	}
	if all == nil {
		all = []labels.Labels{}
	}
	return cutTo(r.Form, all)
}

func (s *Samples) labelNames(r *http.Request) (any, error) {
	selectors, from, to, err := selection(r.Form)
	if err != nil {
		return nil, err
	}
	all, err := s.LabelNames(r.Context(), selectors, from, to)
	if err != nil {
		return nil, err
	}
	return cutTo(r.Form, append([]string{}, all...))
}

func (s *Samples) labelValues(r *http.Request) (any, error) {
	selectors, from, to, err := selection(r.Form)
	if err != nil {
		return nil, err
	}
	name := r.PathValue("name")
	if !model.UTF8Validation.IsValidLabelName(name) {
		return nil, badData{fmt.Errorf("%.60q is no name of a label", name)}
	}
	all, err := s.LabelValues(r.Context(), name, selectors, from, to)
	if err != nil {
		return nil, err
	}
	return cutTo(r.Form, append([]string{}, all...))
}

// cutTo cuts an answer to the limit that was asked for.
func cutTo[T any](form url.Values, all []T) ([]T, error) {
	text := form.Get("limit")
	if text == "" {
		return all, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return nil, badData{fmt.Errorf("limit %.60q is not a number", text)}
	}
	if n > 0 && n < len(all) {
		all = all[:n]
	}
	return all, nil
}

// write takes samples. A sender repeats what is answered with 5xx, and drops what is answered with 4xx.
func (s *Samples) write(w http.ResponseWriter, r *http.Request) {
	if v := r.Header.Get("Content-Type"); strings.Contains(v, "io.prometheus.write.v2") {
		http.Error(w, "remote write 1.0 is spoken here", http.StatusUnsupportedMediaType)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, remotewrite.MaxBody))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var all []remotewrite.Series
	err = remotewrite.Decode(body, func(one *remotewrite.Series) error {
		all = append(all, remotewrite.Series{Labels: slices.Clone(one.Labels), Points: slices.Clone(one.Points)})
		return nil
	})
	if err == nil {
		err = s.Write(r.Context(), all)
	}
	switch {
	case err == nil:
		w.WriteHeader(http.StatusNoContent)
	case errors.Is(err, remotewrite.ErrInvalid), errors.Is(err, ErrSamples):
		http.Error(w, err.Error(), http.StatusBadRequest)
	case errors.Is(err, ErrFull):
		w.Header().Set("Retry-After", "60")
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	case errors.Is(err, ErrNotYet):
		w.Header().Set("Retry-After", "5")
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	default:
		http.Error(w, "the samples could not be kept", http.StatusInternalServerError)
	}
}

// federate answers with the last values, in Prometheus's text format.
func (s *Samples) federate(w http.ResponseWriter, r *http.Request) {
	selectors, err := selectorsOf(r.URL.Query())
	if err == nil && len(selectors) == 0 {
		err = badData{errors.New("match[] is missing")}
	}
	if err != nil {
		failed(w, err)
		return
	}
	all, err := s.Last(r.Context(), selectors)
	if err != nil {
		failed(w, err)
		return
	}
	// A page of this format names each metric once, with all its series below.
	slices.SortFunc(all, func(a, b promql.Sample) int { return labels.Compare(a.Metric, b.Metric) })
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	b := bufio.NewWriterSize(w, 32<<10)
	name := ""
	for _, v := range all {
		if !fitsText(v.Metric) {
			continue
		}
		if n := v.Metric.Get(model.MetricNameLabel); n != name {
			name = n
			fmt.Fprintf(b, "# TYPE %s untyped\n", name)
		}
		b.WriteString(name)
		writeLabels(b, v.Metric)
		fmt.Fprintf(b, " %s %d\n", strconv.FormatFloat(v.F, 'g', -1, 64), v.T)
	}
	_ = b.Flush() // the peer is gone; there is nobody to tell
}

// fitsText says whether the names of a series can be written in the text format. Others wrote some of them.
func fitsText(ls labels.Labels) bool {
	ok := model.LegacyValidation.IsValidMetricName(ls.Get(model.MetricNameLabel))
	ls.Range(func(l labels.Label) {
		ok = ok && (l.Name == model.MetricNameLabel || model.LegacyValidation.IsValidLabelName(l.Name))
	})
	return ok
}

// writeLabels writes the labels of a series but its name, as the text format has them.
func writeLabels(b *bufio.Writer, ls labels.Labels) {
	sep := byte('{')
	ls.Range(func(l labels.Label) {
		if l.Name == model.MetricNameLabel {
			return
		}
		b.WriteByte(sep)
		b.WriteString(l.Name)
		b.WriteByte('=')
		b.WriteString(textQuoted(l.Value))
		sep = ','
	})
	if sep == ',' {
		b.WriteByte('}')
	}
}

// textQuoted quotes a value for the text format: \, " and line ends alone are escaped there.
func textQuoted(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`).Replace(s) + `"`
}

// selection reads match[], start and end, as those questions have them that look for series. Without them everything counts.
func selection(form url.Values) (selectors [][]*labels.Matcher, from, to time.Time, err error) {
	if from, err = timeOf(form, "start", timestamp.Time(math.MinInt64/2)); err != nil {
		return
	}
	if to, err = timeOf(form, "end", timestamp.Time(math.MaxInt64/2)); err != nil {
		return
	}
	selectors, err = selectorsOf(form)
	return
}

func selectorsOf(form url.Values) (all [][]*labels.Matcher, err error) {
	given := form["match[]"]
	if len(given) > maxSelectors {
		return nil, badData{fmt.Errorf("more than %d match[]", maxSelectors)}
	}
	for _, text := range given {
		m, err := promqlParser.ParseMetricSelector(text)
		if err != nil {
			return nil, badData{fmt.Errorf("match[]: %w", err)}
		}
		all = append(all, m)
	}
	return all, nil
}

func deadline(r *http.Request) (context.Context, context.CancelFunc, error) {
	d := defaultTimeout
	if text := r.Form.Get("timeout"); text != "" {
		asked, err := parseStep(text)
		if err != nil {
			return nil, nil, badData{fmt.Errorf("timeout %.60q is not a duration, like 10 or 30s", text)}
		}
		d = min(d, asked)
	}
	ctx, cancel := context.WithTimeout(r.Context(), d)
	return ctx, cancel, nil
}

func neededTime(form url.Values, name string) (time.Time, error) {
	if form.Get(name) == "" {
		return time.Time{}, badData{fmt.Errorf("%s is missing", name)}
	}
	return timeOf(form, name, time.Time{})
}

// timeOf reads seconds since 1970, with or without a point, or a time of RFC 3339.
func timeOf(form url.Values, name string, without time.Time) (time.Time, error) {
	text := form.Get(name)
	if text == "" {
		return without, nil
	}
	if n, err := strconv.ParseFloat(text, 64); err == nil && math.Abs(n) < 1e12 {
		return timestamp.Time(int64(math.Round(n * 1000))), nil
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return t, badData{fmt.Errorf("%s %.60q is not a time: write seconds since 1970, or 2026-11-22T10:00:00Z", name, text)}
	}
	return t, nil
}

// parseStep reads seconds, or a duration of Prometheus's.
func parseStep(text string) (time.Duration, error) {
	if n, err := strconv.ParseFloat(text, 64); err == nil {
		if !(math.Abs(n) < 1e9) {
			return 0, errors.New("too long")
		}
		return time.Duration(n * float64(time.Second)), nil
	}
	d, err := model.ParseDuration(text)
	return time.Duration(d), err
}

// writeValue writes what a query found, as Prometheus does (web/api/v1, json_codec.go).
func writeValue(b *bufio.Writer, v parser.Value) {
	fmt.Fprintf(b, `{"resultType":%q,"result":`, v.Type())
	switch v := v.(type) {
	case promql.Matrix:
		b.WriteByte('[')
		for i := range v {
			if i > 0 {
				b.WriteByte(',')
			}
			writeSeries(b, &v[i])
		}
		b.WriteByte(']')
	case promql.Vector:
		b.WriteByte('[')
		for i := range v {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(`{"metric":`)
			writeMetric(b, v[i].Metric)
			b.WriteString(`,"value":`)
			writePoint(b, v[i].T, v[i].F)
			b.WriteByte('}')
		}
		b.WriteByte(']')
	case promql.Scalar:
		writePoint(b, v.T, v.V)
	case promql.String:
		fmt.Fprintf(b, `[%s,%s]`, seconds(v.T), quoted(v.V))
	default:
		b.WriteString("null")
	}
	b.WriteByte('}')
}

func writeSeries(b *bufio.Writer, s *promql.Series) {
	b.WriteString(`{"metric":`)
	writeMetric(b, s.Metric)
	b.WriteString(`,"values":[`)
	for i, p := range s.Floats {
		if i > 0 {
			b.WriteByte(',')
		}
		writePoint(b, p.T, p.F)
	}
	b.WriteString("]}")
}

func writeMetric(b *bufio.Writer, ls labels.Labels) {
	b.WriteByte('{')
	first := true
	ls.Range(func(l labels.Label) {
		if !first {
			b.WriteByte(',')
		}
		first = false
		b.WriteString(quoted(l.Name))
		b.WriteByte(':')
		b.WriteString(quoted(l.Value))
	})
	b.WriteByte('}')
}

func writePoint(b *bufio.Writer, t int64, v float64) {
	var buf [64]byte
	b.WriteByte('[')
	b.WriteString(seconds(t))
	b.WriteString(`,"`)
	b.Write(strconv.AppendFloat(buf[:0], v, 'f', -1, 64))
	b.WriteString(`"]`)
}

// seconds writes milliseconds as seconds, with a point only where one is needed.
func seconds(t int64) string {
	sign := ""
	if t < 0 {
		sign, t = "-", -t
	}
	s := sign + strconv.FormatInt(t/1000, 10)
	if ms := t % 1000; ms > 0 {
		s += fmt.Sprintf(".%03d", ms)
	}
	return s
}

func quoted(s string) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // into memory
	return strings.TrimSuffix(b.String(), "\n")
}

// ServeSamples answers over TCP on l until ctx ends. Of one address it takes a part of all connections at most, unless that is
// one of the proxies.
func ServeSamples(ctx context.Context, l net.Listener, proxies []netip.Prefix, h http.Handler) error {
	all := &limited{Listener: l, slots: make(chan struct{}, sampleConns)}
	return serveUntil(ctx, &perAddress{Listener: all, most: sampleConnsOf, free: proxies}, &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      defaultTimeout + 30*time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
	})
}
