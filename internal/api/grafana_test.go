package api

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"tocsin/internal/remotewrite"
)

// What the Prometheus data source of Grafana asks, in both its ways (httpMethod GET and POST), with the headers it sends
// (github.com/grafana/grafana, pkg/promlib and packages/grafana-prometheus). Each needs the answer that Prometheus gives, in shape.
func TestGrafana(t *testing.T) {
	const start, end = "1763805600", "1763809200"
	form := func(pairs ...string) string {
		v := url.Values{}
		for i := 0; i < len(pairs); i += 2 {
			v.Add(pairs[i], pairs[i+1])
		}
		return v.Encode()
	}
	tests := []struct {
		what   string
		method string // "": both
		path   string
		form   string
		shape  string // of data: keys of an object, or "list"
	}{
		{"save & test", "", "/api/v1/query", form("query", "1+1", "time", "4"), "resultType result"},
		{"what it talks to", "GET", "/api/v1/status/buildinfo", "", "application version"},
		{"can it manage rules", "GET", "/api/v1/rules", "", "groups"},
		{"alerts of the data source", "GET", "/api/v1/alerts", "", "alerts"},
		{"a panel", "", "/api/v1/query_range", form("query", `munin{node=~"web1|mail1"}`, "start", start, "end", end, "step", "15"), "resultType result"},
		{"a panel in milliseconds", "", "/api/v1/query_range", form("query", "up", "start", "1763805600.123", "end", "1763809200.456", "step", "0.5"), "resultType result"},
		{"a table", "", "/api/v1/query", form("query", `topk(5, munin{service="load"})`, "time", "1763809200.001"), "resultType result"},
		{"the time that a panel may take", "", "/api/v1/query_range", form("query", "up", "start", start, "end", end, "step", "15", "timeout", "60s"), "resultType result"},
		{"exemplars", "", "/api/v1/query_exemplars", form("query", "up", "start", start, "end", end), "list"},
		{"names of labels", "", "/api/v1/labels", form("start", start, "end", end), "list"},
		{"names of labels of a metric", "", "/api/v1/labels", form("start", start, "end", end, "match[]", `{__name__="munin"}`, "limit", "40000"), "list"},
		{"names of metrics", "GET", "/api/v1/label/__name__/values", form("start", start, "end", end), "list"},
		{"a variable", "GET", "/api/v1/label/node/values", form("start", start, "end", end, "match[]", `munin{group="Gandi"}`), "list"},
		{"series", "", "/api/v1/series", form("start", start, "end", end, "match[]", `munin{node="web1"}`), "list"},
		{"descriptions of metrics", "GET", "/api/v1/metadata", form("limit", "40000", "limit_per_metric", "1"), ""},
	}
	for _, tt := range tests {
		for _, method := range []string{"GET", "POST"} {
			if tt.method != "" && tt.method != method {
				continue
			}
			target, body := tt.path, ""
			if method == "GET" {
				target += "?" + tt.form
			} else {
				body = tt.form
			}
			r := httptest.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
			if method == "POST" {
				r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			}
			r.Header.Set("Authorization", "Bearer reader")
			r.Header.Set("User-Agent", "Grafana/11.4.0")
			r.Header.Set("X-Dashboard-Uid", "abc")
			r.Header.Set("Accept-Encoding", "gzip")
			w := httptest.NewRecorder()
			SamplesHandler(samples(new(asked))).ServeHTTP(w, r)

			var answer struct {
				Status string
				Data   json.RawMessage
			}
			if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || w.Code != http.StatusOK || answer.Status != "success" {
				t.Errorf("%s: %s %s: %d %s (%v)", tt.what, method, target, w.Code, w.Body, err)
				continue
			}
			if !strings.HasPrefix(w.Header().Get("Content-Type"), "application/json") {
				t.Errorf("%s: %s", tt.what, w.Header().Get("Content-Type"))
			}
			switch tt.shape {
			case "list":
				var list []any
				if err := json.Unmarshal(answer.Data, &list); err != nil || list == nil {
					t.Errorf("%s: no list: %s", tt.what, answer.Data)
				}
			default:
				var object map[string]json.RawMessage
				if err := json.Unmarshal(answer.Data, &object); err != nil {
					t.Errorf("%s: no object: %s", tt.what, answer.Data)
				}
				for key := range strings.FieldsSeq(tt.shape) {
					if len(object[key]) == 0 || string(object[key]) == "null" {
						t.Errorf("%s: %s is missing: %s", tt.what, key, answer.Data)
					}
				}
			}
		}
	}
}

// While the store is being opened, everybody is told to come again; nothing is refused for good.
func TestNotYet(t *testing.T) {
	s := samples(new(asked))
	s.Healthy = func() error { return ErrNotYet }
	for _, tt := range []struct{ method, target, token, body string }{
		{"GET", "/api/v1/query?query=opening", "reader", ""},
		{"POST", "/api/v1/write", "writer", string(remotewrite.Encode([]remotewrite.Series{{Labels: []remotewrite.Label{{Name: "__name__", Value: "opening"}}, Points: []remotewrite.Point{{T: 1, V: 2}}}}))},
		{"GET", "/healthz", "", ""},
	} {
		code, answer := ask(t, s, tt.method, tt.target, tt.token, tt.body)
		if code != http.StatusServiceUnavailable {
			t.Errorf("%s: %d %s, want 503", tt.target, code, answer)
		}
	}
}
