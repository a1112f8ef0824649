package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"

	"tocsin/internal/remotewrite"
)

// asked is what reached the functions.
type asked struct {
	what     string
	from, to time.Time
	step     time.Duration
	written  []remotewrite.Series
}

// samples are functions that answer something simple and remember what they were asked.
func samples(got *asked) *Samples {
	vector := promql.Vector{{T: 1500, F: 0.25, Metric: labels.FromStrings("__name__", "munin", "node", `we"b<1>`)}, {T: 1500, F: math.Inf(1), Metric: labels.FromStrings("__name__", "munin:max", "node", "a")}}
	find := func(what string) func(context.Context, [][]*labels.Matcher, time.Time, time.Time) ([]string, error) {
		return func(_ context.Context, m [][]*labels.Matcher, from, to time.Time) ([]string, error) {
			*got = asked{what: fmt.Sprint(what, m), from: from, to: to}
			return []string{"a", "b", "c"}, nil
		}
	}
	return &Samples{
		Query: func(_ context.Context, expr string, at time.Time) (parser.Value, error) {
			*got = asked{what: expr, from: at}
			switch expr {
			case "1":
				return promql.Scalar{T: 1500, V: 1}, nil
			case `"x"`:
				return promql.String{T: -1500, V: `<x>"`}, nil
			case "slow":
				return nil, context.DeadlineExceeded
			case "much":
				return nil, fmt.Errorf("%w: too many samples", ErrQuestion)
			case "broken":
				return nil, errors.New("disk")
			case "opening":
				return nil, fmt.Errorf("%w: the journal is read", ErrNotYet)
			}
			return vector, nil
		},
		QueryRange: func(_ context.Context, expr string, from, to time.Time, step time.Duration) (parser.Value, error) {
			*got = asked{what: expr, from: from, to: to, step: step}
			return promql.Matrix{{Metric: labels.FromStrings("__name__", "munin"), Floats: []promql.FPoint{{T: 1000, F: 1}, {T: 2001, F: math.NaN()}}}, {Metric: labels.EmptyLabels()}}, nil
		},
		Series: func(_ context.Context, m [][]*labels.Matcher, from, to time.Time) ([]labels.Labels, error) {
			*got = asked{what: fmt.Sprint(m), from: from, to: to}
			return []labels.Labels{labels.FromStrings("__name__", "munin", "node", "a")}, nil
		},
		LabelNames: find("names"),
		LabelValues: func(ctx context.Context, name string, m [][]*labels.Matcher, from, to time.Time) ([]string, error) {
			return find(name)(ctx, m, from, to)
		},
		Last: func(context.Context, [][]*labels.Matcher) (promql.Vector, error) {
			return append(vector, promql.Sample{T: 1, F: 2, Metric: labels.FromStrings("__name__", "bad name")}), nil
		},
		Write: func(_ context.Context, all []remotewrite.Series) error {
			*got = asked{written: all}
			switch all[0].Labels[0].Value {
			case "old":
				return fmt.Errorf("%w: too old", ErrSamples)
			case "full":
				return ErrFull
			case "opening":
				return ErrNotYet
			case "broken":
				return errors.New("secret path")
			}
			return nil
		},
		Metrics: func(_ context.Context, w io.Writer) error { _, err := io.WriteString(w, "tocsin_up 1\n"); return err },
		Healthy: func() error { return nil },
		Admits: func(token string) string {
			return map[string]string{"reader": ScopeRead, "writer": ScopeWrite}[token]
		},
		Version: "1.2",
	}
}

func ask(t *testing.T, s *Samples, method, target, token, body string) (code int, answer string) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
	if method == http.MethodPost && !strings.HasSuffix(target, "/write") {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	SamplesHandler(s).ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

func TestSamplesAnswerAsPrometheus(t *testing.T) {
	q := url.QueryEscape
	tests := []struct {
		target string
		code   int
		want   string
	}{
		{"/api/v1/query?query=up&time=1.5", 200, `{"status":"success","data":{"resultType":"vector","result":[{"metric":{"__name__":"munin","node":"we\"b<1>"},"value":[1.500,"0.25"]},{"metric":{"__name__":"munin:max","node":"a"},"value":[1.500,"+Inf"]}]}}`},
		{"/api/v1/query?query=1", 200, `{"status":"success","data":{"resultType":"scalar","result":[1.500,"1"]}}`},
		{"/api/v1/query?query=" + q(`"x"`), 200, `{"status":"success","data":{"resultType":"string","result":[-1.500,"<x>\""]}}`},
		{"/api/v1/query_range?query=up&start=1&end=3&step=1", 200, `{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"__name__":"munin"},"values":[[1,"1"],[2.001,"NaN"]]},{"metric":{},"values":[]}]}}`},
		{"/api/v1/series?match[]=" + q(`munin{node="a"}`), 200, `{"status":"success","data":[{"__name__":"munin","node":"a"}]}`},
		{"/api/v1/labels?limit=2", 200, `{"status":"success","data":["a","b"]}`},
		{"/api/v1/label/node/values", 200, `{"status":"success","data":["a","b","c"]}`},
		{"/api/v1/metadata", 200, `{"status":"success","data":{}}`},
		{"/api/v1/rules", 200, `{"status":"success","data":{"groups":[]}}`},
		{"/api/v1/query_exemplars", 200, `{"status":"success","data":[]}`},
		{"/api/v1/query?query=" + q("sum("), 400, ``},
		{"/api/v1/query?query=", 400, ``},
		{"/api/v1/query?query=up&time=yesterday", 400, ``},
		{"/api/v1/query?query=up&timeout=never", 400, ``},
		{"/api/v1/query?query=slow", 503, `{"status":"error","errorType":"timeout","error":"the question took too long"}`},
		{"/api/v1/query?query=much", 422, `{"status":"error","errorType":"execution","error":"the question cannot be answered: too many samples"}`},
		{"/api/v1/query?query=broken", 500, `{"status":"error","errorType":"internal","error":"disk"}`},
		{"/api/v1/query_range?query=up&start=1&step=1", 400, `{"status":"error","errorType":"bad_data","error":"end is missing"}`},
		{"/api/v1/query_range?query=up&start=2&end=1&step=1", 400, `{"status":"error","errorType":"bad_data","error":"end is before start"}`},
		{"/api/v1/query_range?query=up&start=0&end=11000&step=1", 400, `{"status":"error","errorType":"bad_data","error":"more than 11000 points of a series: take a longer step"}`},
		{"/api/v1/query_range?query=up&start=0&end=10999&step=1", 200, ``},
		{"/api/v1/query_range?query=up&start=0&end=1&step=0", 400, ``},
		{"/api/v1/query_range?query=up&start=0&end=1&step=NaN", 400, ``},
		{"/api/v1/series", 400, `{"status":"error","errorType":"bad_data","error":"match[] is missing"}`},
		{"/api/v1/series?match[]=1", 400, ``},
		{"/api/v1/labels?limit=-1", 400, ``},
		{"/federate?match[]=munin", 200, "# TYPE munin untyped\nmunin{node=\"we\\\"b<1>\"} 0.25 1500\n# TYPE munin:max untyped\nmunin:max{node=\"a\"} +Inf 1500"},
		{"/federate", 400, ``},
		{"/api/v1/nothing", 404, ``},
	}
	for _, tt := range tests {
		code, got := ask(t, samples(new(asked)), "GET", tt.target, "reader", "")
		if code != tt.code || tt.want != "" && strings.TrimSpace(got) != tt.want {
			t.Errorf("%s: %d %s\nwant %d %s", tt.target, code, got, tt.code, tt.want)
		}
		if strings.HasPrefix(tt.target, "/api/v1/") && code != 404 && !json.Valid([]byte(got)) {
			t.Errorf("%s: no JSON: %s", tt.target, got)
		}
	}
}

func TestSamplesTimes(t *testing.T) {
	var got asked
	form := url.Values{"query": {`munin{node="a"}`}, "start": {"1763805600.5"}, "end": {"2026-11-22T10:00:00Z"}, "step": {"1d"}}
	if code, answer := ask(t, samples(&got), "POST", "/api/v1/query_range", "reader", form.Encode()); code != 200 {
		t.Fatal(code, answer)
	}
	want := asked{what: `munin{node="a"}`, from: time.UnixMilli(1763805600500), to: time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC), step: 24 * time.Hour}
	if got.what != want.what || !got.from.Equal(want.from) || !got.to.Equal(want.to) || got.step != want.step {
		t.Errorf("asked %+v, want %+v", got, want)
	}
}

func TestSamplesAskForAToken(t *testing.T) {
	body := string(remotewrite.Encode([]remotewrite.Series{{Labels: []remotewrite.Label{{Name: "__name__", Value: "up"}}, Points: []remotewrite.Point{{T: 1, V: 1}}}}))
	tests := []struct {
		method, target, token, body string
		want                        int
	}{
		{"GET", "/healthz", "", "", 200},
		{"GET", "/metrics", "", "", 200},
		{"GET", "/api/v1/query?query=up", "", "", 401},
		{"GET", "/api/v1/query?query=up", "guess", "", 401},
		{"GET", "/api/v1/query?query=up", "writer", "", 403},
		{"GET", "/federate?match[]=up", "", "", 401},
		{"GET", "/anything", "", "", 401},
		{"POST", "/api/v1/write", "", body, 401},
		{"POST", "/api/v1/write", "reader", body, 403},
		{"POST", "/api/v1/write", "writer", body, 204},
	}
	for _, tt := range tests {
		if code, answer := ask(t, samples(new(asked)), tt.method, tt.target, tt.token, tt.body); code != tt.want {
			t.Errorf("%s %s with token %q: %d %s, want %d", tt.method, tt.target, tt.token, code, answer, tt.want)
		}
	}
}

func TestSamplesWrite(t *testing.T) {
	one := func(name string) []remotewrite.Series {
		return []remotewrite.Series{{Labels: []remotewrite.Label{{Name: "__name__", Value: name}}, Points: []remotewrite.Point{{T: 1, V: 2}}}, {Labels: []remotewrite.Label{{Name: "__name__", Value: "other"}}, Points: []remotewrite.Point{{T: 3, V: 4}}}}
	}
	for name, want := range map[string]int{"up": 204, "old": 400, "full": 503, "broken": 500} {
		var got asked
		code, answer := ask(t, samples(&got), "POST", "/api/v1/write", "writer", string(remotewrite.Encode(one(name))))
		if code != want || !reflect.DeepEqual(got.written, one(name)) || strings.Contains(answer, "secret") {
			t.Errorf("%s: %d %s, want %d; wrote %+v", name, code, answer, want, got.written)
		}
	}
	if code, _ := ask(t, samples(new(asked)), "POST", "/api/v1/write", "writer", "rubbish"); code != 400 {
		t.Errorf("rubbish: %d, want 400", code)
	}
}
