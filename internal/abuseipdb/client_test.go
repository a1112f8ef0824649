package abuseipdb

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const canary = "c4nary0f4key77c4nary0f4key77"

// newClient makes a client of h with the key canary.
func newClient(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return clientOf(t, s.URL+"/api/v2")
}

func clientOf(t *testing.T, base string) *Client {
	t.Helper()
	c, err := New(Options{URL: base, Key: func() (Secret, error) { return NewSecret(canary + "\n") }, Version: "1.2", Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestSecretShowsNothing(t *testing.T) {
	s, err := NewSecret(" " + canary + "\n")
	if err != nil {
		t.Fatal(err)
	}
	if s.text() != canary {
		t.Fatalf("text %q, want the key", s.text())
	}
	wrapped := struct {
		key Secret
		Key Secret
	}{s, s}
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "key", s, "all", wrapped)
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "key", s, "all", wrapped)
	all := log.String()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%T"} {
		all += fmt.Sprintf(verb, s) + fmt.Sprintf(verb, wrapped) + fmt.Sprintf(verb, &wrapped) + fmt.Sprintf(verb, []Secret{s})
	}
	js, err := json.Marshal(wrapped)
	if err != nil {
		t.Fatal(err)
	}
	all += string(js)
	if strings.Contains(all, canary) || strings.Contains(all, fmt.Sprintf("%x", canary)) {
		t.Errorf("the key shows in %s", all)
	}
	for _, bad := range []string{"", " \n", "two words", "tab\tin", "line\nbreak", "é", strings.Repeat("x", maxKey+1)} {
		if _, err := NewSecret(bad); err == nil {
			t.Errorf("NewSecret(%q): no error", bad)
		} else if bad != "" && strings.TrimSpace(bad) != "" && strings.Contains(err.Error(), bad) {
			t.Errorf("NewSecret(%q): the error repeats it: %v", bad, err)
		}
	}
}

func TestNewRefusesURLs(t *testing.T) {
	tests := []struct{ url, want string }{
		{"", ""},
		{"https://hub.example/api/v2", ""},
		{"http://127.0.0.1:8080/api/v2/", ""},
		{"http://[::1]:8080/", ""},
		{"http://localhost/", ""},
		{"http://hub.example/api/v2/", "unencrypted"},
		{"ftp://hub.example/", "neither https nor http"},
		{"hub.example/api", "no URL"},
		{"https://user:" + canary + "@hub.example/", "holds a password"},
		{"https://hub.example/?key=" + canary, "holds a password"},
		{"https://hub.example/%zz" + canary, "no URL"},
	}
	for _, tt := range tests {
		_, err := New(Options{URL: tt.url, Key: func() (Secret, error) { return Secret{}, nil }})
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("New(%q): %v, want none", tt.url, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("New(%q): %v, want %q in it", tt.url, err, tt.want)
		case err != nil && strings.Contains(err.Error(), canary):
			t.Errorf("New(%q): the error holds a secret: %v", tt.url, err)
		}
	}
	if _, err := New(Options{URL: "http://hub.example/", PlainHTTP: true, Key: func() (Secret, error) { return Secret{}, nil }}); err != nil {
		t.Errorf("with PlainHTTP: %v", err)
	}
}

func TestReportRequest(t *testing.T) {
	var got *http.Request
	var form string
	c := newClient(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got, form = r, string(body)
		w.Header().Set("X-RateLimit-Limit", "1000")
		w.Header().Set("X-RateLimit-Remaining", "998")
		fmt.Fprint(w, `{"data":{"ipAddress":"203.0.113.9","abuseConfidenceScore":52,"new":{"x":1}}}`)
	})
	score, m, err := c.Report(t.Context(), Report{
		Addr: netip.MustParseAddr("::ffff:203.0.113.9"), Categories: []int{18, 22},
		Comment: strings.Repeat("a", MaxComment-1) + "é", At: time.Date(2026, 11, 22, 11, 0, 0, 9, time.FixedZone("", 3600)),
	})
	if err != nil || score != 52 {
		t.Fatalf("score %d, error %v", score, err)
	}
	if !m.Quota.Known || m.Quota.Limit != 1000 || m.Quota.Remaining != 998 || m.Date.IsZero() {
		t.Errorf("meta %+v", m)
	}
	want := "categories=18%2C22&comment=" + strings.Repeat("a", MaxComment-1) + "&ip=203.0.113.9&timestamp=2026-11-22T10%3A00%3A00%2B00%3A00"
	if form != want {
		t.Errorf("form %q, want %q", form, want)
	}
	for name, want := range map[string]string{"Key": canary, "Accept": "application/json", "User-Agent": "tocsin/1.2", "Content-Type": "application/x-www-form-urlencoded"} {
		if got.Header.Get(name) != want {
			t.Errorf("header %s: %q, want %q", name, got.Header.Get(name), want)
		}
	}
	if got.URL.String() != "/api/v2/report" || got.Method != "POST" {
		t.Errorf("asked %s %s", got.Method, got.URL)
	}
}

func TestCheckAnswers(t *testing.T) {
	tests := []struct {
		name, body string
		want       string
	}{
		{"recorded shape", `{"data":{"ipAddress":"8.8.8.8","isPublic":true,"ipVersion":4,"isWhitelisted":true,"abuseConfidenceScore":0,"countryCode":"US","usageType":"Data Center\/Web Hosting\/Transit","isp":"Google LLC","domain":"google.com","hostnames":["dns.google"],"isTor":false,"totalReports":27,"numDistinctUsers":13,"lastReportedAt":"2026-11-20T17:01:02+00:00"}}`,
			"{Addr:8.8.8.8 Public:true Whitelisted:true WhitelistKnown:true Score:0 Country:US Usage:Data Center/Web Hosting/Transit ISP:Google LLC Domain:google.com Hostnames:[dns.google] Tor:false Reports:27 Reporters:13 Last:2026-11-20 17:01:02 +0000 UTC}"},
		{"nulls", `{"data":{"ipAddress":"255.255.255.123","isWhitelisted":null,"abuseConfidenceScore":0,"countryCode":null,"hostnames":null,"lastReportedAt":null,"x":[1]}}`,
			"{Addr:255.255.255.123 Public:false Whitelisted:false WhitelistKnown:false Score:0 Country: Usage: ISP: Domain: Hostnames:[] Tor:false Reports:0 Reporters:0 Last:0001-01-01 00:00:00 +0000 UTC}"},
		{"Z, fraction, control signs", `{"data":{"ipAddress":"2001:db8::1","abuseConfidenceScore":100,"isp":"a\u001b[31m\nb","lastReportedAt":"2026-11-20T17:01:02.5Z"}}`,
			"{Addr:2001:db8::1 Public:false Whitelisted:false WhitelistKnown:false Score:100 Country: Usage: ISP:a [31m b Domain: Hostnames:[] Tor:false Reports:0 Reporters:0 Last:2026-11-20 17:01:02.5 +0000 UTC}"},
		{"no score", `{"data":{"ipAddress":"8.8.8.8"}}`, "without an address and a score"},
		{"score 101", `{"data":{"ipAddress":"8.8.8.8","abuseConfidenceScore":101}}`, "without an address and a score"},
		{"no data", `{}`, "an answer without data"},
		{"a list", `{"data":[1]}`, "in a form that APIv2 does not have"},
		{"HTML", "\n<!DOCTYPE html><html>", "but a page of HTML"},
		{"nothing", "", "but nothing"},
		{"half", `{"data":{"ipAdd`, "cut off or broken"},
		{"text", "gone \x00 fishing", `but text that begins "gone   fishing"`},
		{"an error as 200", `{"errors":[{"detail":"no","status":422,"source":{"parameter":"x"}}]}`, "refuses what was sent as x: no"},
		{"long", `{"data":"` + strings.Repeat("x", maxAnswer) + `"}`, "an answer of more than"},
	}
	for _, tt := range tests {
		c := newClient(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, tt.body) })
		check, _, err := c.Check(t.Context(), CheckQuery{Addr: netip.MustParseAddr("8.8.8.8"), MaxAge: 90})
		got := fmt.Sprintf("%+v", check)
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, tt.want) {
			t.Errorf("%s: got %s\nwant %s", tt.name, got, tt.want)
		}
	}
}

func TestRefusals(t *testing.T) {
	apiError := func(status int, detail, parameter string) string {
		source := ""
		if parameter != "" {
			source = `,"source":{"parameter":"` + parameter + `"}`
		}
		words, _ := json.Marshal(detail)
		return fmt.Sprintf(`{"errors":[{"detail":%s,"status":%d%s}]}`, words, status, source)
	}
	quota := func(err error) bool { _, ok := errors.AsType[*QuotaError](err); return ok }
	parameter := func(err error) bool { _, ok := errors.AsType[*ParameterError](err); return ok }
	server := func(err error) bool { _, ok := errors.AsType[*ServerError](err); return ok }
	is := func(target error) func(error) bool { return func(err error) bool { return errors.Is(err, target) } }
	tests := []struct {
		name      string
		status    int
		header    string // NAME: VALUE
		body      string
		want      func(error) bool
		text      string
		uncertain bool
	}{
		{"key", 401, "", apiError(401, "Authentication failed. Your key "+canary, ""), is(ErrKey), "tocsin reputation key", false},
		{"plan", 402, "", apiError(402, "too wide", ""), is(ErrPlan), "(too wide)", false},
		{"forbidden", 403, "", "<html>", is(ErrForbidden), "(a page of HTML)", false},
		{"parameter", 422, "", apiError(422, "The ip address must be a valid IPv4 or IPv6 address", "ip"), parameter, "as ip: The ip address", false},
		{"parameter without JSON", 422, "", "<html>", parameter, "a page of HTML", false},
		{"duplicate", 429, "", apiError(429, "You can only report the same IP address (`203.0.113.9`) once in 15 minutes.", "ip"), is(ErrDuplicate), "once in 15 minutes", false},
		{"quota by header", 429, "Retry-After: 29241", apiError(429, "no more", ""), quota, "used up", false},
		{"quota by words", 429, "", apiError(429, "Daily rate limit of 1000 requests exceeded for this endpoint. See headers for additional details.", ""), quota, "used up", false},
		{"somebody before the server", 429, "", "error code: 1015", server, `text that begins "error code: 1015"`, false},
		{"500 with message", 500, "", `{"message":"Server Error ` + canary + `"}`, server, "Server Error [key]", false},
		{"502 HTML", 502, "", "<html>", server, "status 502: a page of HTML", false},
		{"504 HTML", 504, "", "<html>", server, "status 504: a page of HTML", true},
		{"404", 404, "", apiError(404, "nothing here", ""), server, "status 404: nothing here", false},
		{"redirect", 302, "Location: https://other.example/" + canary, "", server, "a redirect to https://other.example, which is not followed", false},
		{"control signs", 404, "", apiError(404, "a\x1b[2J\nb", ""), server, "a [2J b", false},
		{"errors of another shape", 422, "", `{"errors":{"ip":["bad"]}}`, parameter, "", false},
		{"fields of another type", 422, "", `{"errors":[{"detail":7,"status":"422","source":[]}]}`, parameter, "", false},
	}
	for _, tt := range tests {
		c := newClient(t, func(w http.ResponseWriter, r *http.Request) {
			if name, value, ok := strings.Cut(tt.header, ": "); ok {
				w.Header().Set(name, value)
			}
			w.WriteHeader(tt.status)
			io.WriteString(w, tt.body)
		})
		_, _, err := c.Report(t.Context(), Report{Addr: netip.MustParseAddr("203.0.113.9"), Categories: []int{18}})
		if !tt.want(err) || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: %T %v, want %q in it", tt.name, err, err, tt.text)
		}
		if Uncertain(err) != tt.uncertain {
			t.Errorf("%s: uncertain %v, want %v", tt.name, Uncertain(err), tt.uncertain)
		}
		if strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err), canary) {
			t.Errorf("%s: the key shows in %v", tt.name, err)
		}
	}
}

func TestQuotaOfHeaders(t *testing.T) {
	date := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	now := date.Add(-time.Hour) // this machine's clock is an hour behind
	tests := []struct {
		name   string
		header map[string]string
		want   string
		until  time.Duration
	}{
		{"both", map[string]string{"X-RateLimit-Limit": "5", "X-RateLimit-Remaining": "0"}, "{true 5 0 0001-01-01 00:00:00 +0000 UTC 0s}", time.Hour},
		{"one alone", map[string]string{"X-RateLimit-Limit": "5"}, "{false 0 0 0001-01-01 00:00:00 +0000 UTC 0s}", time.Hour},
		{"no numbers", map[string]string{"X-RateLimit-Limit": "-5", "X-RateLimit-Remaining": "x", "Retry-After": "-1", "X-RateLimit-Reset": "99999999999"}, "{false 0 0 0001-01-01 00:00:00 +0000 UTC 0s}", time.Hour},
		{"seconds", map[string]string{"Retry-After": "29241"}, "{false 0 0 0001-01-01 00:00:00 +0000 UTC 8h7m21s}", 29241 * time.Second},
		{"date", map[string]string{"Retry-After": "Sun, 22 Nov 2026 14:00:00 GMT"}, "{false 0 0 0001-01-01 00:00:00 +0000 UTC 2h0m0s}", 2 * time.Hour},
		{"reset", map[string]string{"X-RateLimit-Reset": "1795363200"}, "{false 0 0 2026-11-22 16:00:00 +0000 UTC 0s}", 4 * time.Hour},
		{"much too long", map[string]string{"Retry-After": "4000000000"}, "{false 0 0 0001-01-01 00:00:00 +0000 UTC 1111111h6m40s}", 25 * time.Hour},
		{"past", map[string]string{"X-RateLimit-Reset": "1"}, "{false 0 0 1970-01-01 00:00:01 +0000 UTC 0s}", time.Minute},
	}
	for _, tt := range tests {
		h := http.Header{"Date": {date.Format(http.TimeFormat)}}
		for k, v := range tt.header {
			h.Set(k, v)
		}
		m := meta(h)
		if got := fmt.Sprint(m.Quota); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
		if got := (&QuotaError{Quota: m.Quota, Date: m.Date}).Until(now).Sub(now); got != tt.until {
			t.Errorf("%s: rest of %s, want %s", tt.name, got, tt.until)
		}
	}
}

func TestNetworkErrors(t *testing.T) {
	report := func(c *Client, ctx context.Context) error {
		_, _, err := c.Report(ctx, Report{Addr: netip.MustParseAddr("203.0.113.9"), Categories: []int{18}})
		return err
	}
	late, cancel := context.WithCancel(t.Context())
	cancel()
	var asked atomic.Int64
	tests := []struct {
		name string
		err  error
		sent bool
	}{
		{"nobody listens", report(clientOf(t, "http://127.0.0.1:1"), t.Context()), false},
		{"no TLS behind https", report(clientOf(t, strings.Replace(newClient(t, func(http.ResponseWriter, *http.Request) {}).base.String(), "http:", "https:", 1)), t.Context()), false},
		{"ended before", report(newClient(t, func(http.ResponseWriter, *http.Request) {}), late), false},
		{"cut before the answer", report(newClient(t, func(http.ResponseWriter, *http.Request) { asked.Add(1); panic(http.ErrAbortHandler) }), t.Context()), true},
		{"cut in the answer", report(newClient(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, `{"data":`)
		}), t.Context()), true},
	}
	for _, tt := range tests {
		e, ok := errors.AsType[*NetworkError](tt.err)
		if !ok || e.Sent != tt.sent || Uncertain(tt.err) != tt.sent {
			t.Errorf("%s: %T %v, want a NetworkError with Sent %v", tt.name, tt.err, tt.err, tt.sent)
		}
		if tt.err != nil && (strings.Contains(tt.err.Error(), canary) || strings.Contains(tt.err.Error(), "203.0.113.9")) {
			t.Errorf("%s: the error says too much: %v", tt.name, tt.err)
		}
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("asked %d times, want 1: nothing is repeated", n)
	}
	if !errors.Is(tests[2].err, context.Canceled) {
		t.Errorf("%v, want context.Canceled in it", tests[2].err)
	}
}

func TestKeyErrors(t *testing.T) {
	asked := false
	c := newClient(t, func(http.ResponseWriter, *http.Request) { asked = true })
	c.key = func() (Secret, error) { return Secret{}, nil }
	if _, _, err := c.ClearAddress(t.Context(), netip.MustParseAddr("203.0.113.9")); !errors.Is(err, ErrKey) {
		t.Errorf("without a key: %v, want ErrKey", err)
	}
	c.key = func() (Secret, error) { return Secret{}, os.ErrNotExist }
	if _, _, err := c.ClearAddress(t.Context(), netip.MustParseAddr("203.0.113.9")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("with a key that cannot be read: %v", err)
	}
	if asked {
		t.Error("the server was asked without a key")
	}
}

func TestReportRefusesWhatIsWrong(t *testing.T) {
	c := newClient(t, func(http.ResponseWriter, *http.Request) { t.Error("asked") })
	tests := []struct {
		r    Report
		want string
	}{
		{Report{Categories: []int{18}}, "no address"},
		{Report{Addr: netip.MustParseAddr("fe80::1%eth0"), Categories: []int{18}}, "network card"},
		{Report{Addr: netip.MustParseAddr("203.0.113.9")}, "needs a category"},
		{Report{Addr: netip.MustParseAddr("203.0.113.9"), Categories: []int{99}}, "no category 99"},
		{Report{Addr: netip.MustParseAddr("203.0.113.9"), Categories: make([]int, 31)}, "at most 30"},
	}
	for _, tt := range tests {
		if _, _, err := c.Report(t.Context(), tt.r); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("Report(%+v): %v, want %q in it", tt.r, err, tt.want)
		}
	}
}

func TestBulkAnswer(t *testing.T) {
	var b Bulk
	for _, a := range []string{"203.0.113.9", "203.0.113.10", "203.0.113.11"} {
		if ok, err := b.Add(Report{Addr: netip.MustParseAddr(a), Categories: []int{18, 22}, At: time.Unix(0, 0)}); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	c := newClient(t, func(w http.ResponseWriter, r *http.Request) {
		f, h, err := r.FormFile("csv")
		if err != nil {
			t.Error(err)
			return
		}
		got, _ := io.ReadAll(f)
		if string(got) != string(b.Bytes()) || h.Filename != "report.csv" {
			t.Errorf("sent %q as %s", got, h.Filename)
		}
		io.WriteString(w, `{"data":{"savedReports":1,"invalidReports":[{"error":"Duplicate IP","input":"203.0.113.10","rowNumber":3},{"error":"Invalid Category","input":99,"rowNumber":4},{"error":"x","input":null,"rowNumber":1},{"error":"y","rowNumber":50}]}}`)
	})
	a, _, err := c.BulkReport(t.Context(), &b)
	if got, want := fmt.Sprintf("%+v %v", a, err), "{Saved:1 Invalid:[{Row:1 Error:Duplicate IP Input:203.0.113.10} {Row:2 Error:Invalid Category Input:99} {Row:-1 Error:x Input:<nil>} {Row:-1 Error:y Input:<nil>}]} <nil>"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestBlacklist(t *testing.T) {
	const jsonList = `{"meta":{"generatedAt":"2026-11-22T03:00:00+00:00","x":1},"extra":{"a":[1,2]},"data":[{"ipAddress":"203.0.113.9","countryCode":"FR","abuseConfidenceScore":100,"lastReportedAt":"2026-11-22T02:00:00+00:00"},{"ipAddress":"2001:db8::1","countryCode":null,"abuseConfidenceScore":99}]}`
	tests := []struct {
		name, body string
		limit      int
		want       string // addresses, or words of the error
	}{
		{"plain", "203.0.113.9\n2001:db8::1\n", 10, "203.0.113.9 2001:db8::1"},
		{"CRLF, empty line, no last end", "203.0.113.9\r\n\r\n::ffff:203.0.113.10", 10, "203.0.113.9 203.0.113.10"},
		{"empty", "", 10, ""},
		{"JSON", jsonList, 10, "203.0.113.9 2001:db8::1"},
		{"JSON after space", " \n" + jsonList, 10, "203.0.113.9 2001:db8::1"},
		{"as many as asked", "203.0.113.9\n203.0.113.10\n", 2, "203.0.113.9 203.0.113.10"},
		{"more than asked", "203.0.113.9\n203.0.113.10\n203.0.113.11\n", 2, "more than the 2 addresses"},
		{"JSON, more than asked", jsonList, 1, "more than the 1 addresses"},
		{"HTML", "<!DOCTYPE html>\n<html>", 10, "line 1: no address but a page of HTML"},
		{"HTML behind", "203.0.113.9\n<br>\n", 10, "line 2: no address but a page of HTML"},
		{"network", "203.0.113.9\n203.0.113.0/24\n", 10, `line 2: no address but text that begins "203.0.113.0/24"`},
		{"zone", "fe80::1%eth0\n", 10, "line 1: no address"},
		{"space", "203.0.113.9 \n", 10, "line 1: no address"},
		{"long line", "203.0.113.9\n" + strings.Repeat("x", 300), 10, "line 2: more than 256 bytes"},
		{"much too long", strings.Repeat("\n", 10*maxEntry+maxRest+1), 10, "too long for the addresses asked for"},
		{"one endless item", `{"data":[{"ipAddress":"` + strings.Repeat("x", maxOneItem+1), MaxLimit, "too long"},
		{"endless beside", `{"x":"` + strings.Repeat("x", maxOneItem+1), MaxLimit, "too long"},
		{"JSON cut off", jsonList[:len(jsonList)-30], 10, "address 2: JSON that is cut off"},
		{"JSON cut off behind", jsonList[:len(jsonList)-1], 10, "cut off"},
		{"JSON and more", jsonList + "x", 10, "something behind the JSON"},
		{"JSON without data", `{"meta":{}}`, 10, "JSON without data"},
		{"data no list", `{"data":{"x":1}}`, 10, "whose data is no list"},
		{"JSON bad address", `{"data":[{"ipAddress":"203.0.113.0/24"}]}`, 10, "address 1: "},
		{"JSON bad time", `{"data":[{"ipAddress":"203.0.113.9","lastReportedAt":"soon"}]}`, 10, "lastReportedAt"},
		{"JSON other type", `{"data":[7]}`, 10, "address 1: JSON of another form"},
		{"JSON broken", `{"data":[}`, 10, "broken JSON"},
		{"errors as 200", `{"errors":[{"detail":"Daily rate limit of 5 requests exceeded for this endpoint.","status":429}]}`, 10, "quota is used up"},
	}
	for _, tt := range tests {
		c := newClient(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Generated-At", "2026-11-22T03:00:00+00:00")
			w.Header().Set("ETag", `"a"`)
			io.WriteString(w, tt.body)
		})
		var got []string
		list, _, err := c.Blacklist(t.Context(), BlacklistQuery{Limit: tt.limit, Plain: true}, func(l Listed) error { got = append(got, l.Addr.String()); return nil })
		switch {
		case err != nil && (tt.want == "" || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		case err == nil && strings.Join(got, " ") != tt.want:
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		case err == nil && (list.Count != len(got) || !list.GeneratedAt.Equal(time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)) || list.ETag != `"a"`):
			t.Errorf("%s: list %+v", tt.name, list)
		}
	}
}

func TestBlacklistRequest(t *testing.T) {
	var got *http.Request
	c := newClient(t, func(w http.ResponseWriter, r *http.Request) { got = r; w.WriteHeader(http.StatusNotModified) })
	list, _, err := c.Blacklist(t.Context(), BlacklistQuery{Limit: 500000, Confidence: 90, IPVersion: 4, Plain: true, ETag: `"a"`, LastModified: "yesterday"}, nil)
	if err != nil || !list.NotModified || list.ETag != `"a"` || list.LastModified != "yesterday" {
		t.Errorf("%+v, %v", list, err)
	}
	if got.URL.RawQuery != "confidenceMinimum=90&ipVersion=4&limit=500000&plaintext=1" || got.Header.Get("If-None-Match") != `"a"` || got.Header.Get("If-Modified-Since") != "yesterday" {
		t.Errorf("asked %s with %v", got.URL, got.Header)
	}
	if _, _, err := c.Blacklist(t.Context(), BlacklistQuery{Limit: 5}, nil); err == nil {
		t.Error("304 to an unconditional request: no error")
	}
	for _, q := range []BlacklistQuery{{}, {Limit: MaxLimit + 1}, {Limit: 1, Confidence: 24}, {Limit: 1, IPVersion: 5}} {
		got = nil
		if _, _, err := c.Blacklist(t.Context(), q, nil); err == nil || got != nil {
			t.Errorf("%+v: error %v, asked %v", q, err, got != nil)
		}
	}
}

func TestBlacklistCutOff(t *testing.T) {
	full := strings.Repeat("203.0.113.9\n", 1000)
	tests := []struct {
		name string
		h    http.HandlerFunc
		want string
	}{
		{"shorter than Content-Length", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(full)))
			io.WriteString(w, full[:6000])
		}, "the answer was lost"},
		{"chunks without end", func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, full[:6000])
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, "the answer was lost"},
		{"gzip without end", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			io.WriteString(z, full)
			z.Flush()
		}, "the answer was lost"},
		{"connection closed in a line", func(w http.ResponseWriter, _ *http.Request) {
			conn, buf, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			io.WriteString(buf, "HTTP/1.0 200 OK\r\n\r\n203.0.113.9\n203.0.113.1")
			buf.Flush()
			conn.Close()
		}, "line 2: it has no end"},
		{"gzip bomb", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			zeros := make([]byte, 1<<20)
			for i := range zeros {
				zeros[i] = '\n'
			}
			for range 20 {
				z.Write(zeros)
			}
			z.Close()
		}, "too long"},
	}
	for _, tt := range tests {
		c := newClient(t, tt.h)
		_, _, err := c.Blacklist(t.Context(), BlacklistQuery{Limit: 1000}, func(Listed) error { return nil })
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	stop := errors.New("full")
	c := newClient(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, full) })
	if _, _, err := c.Blacklist(t.Context(), BlacklistQuery{Limit: 1000}, func(Listed) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("%v, want the caller's error", err)
	}
}

func TestCategories(t *testing.T) {
	tests := []struct {
		text, want string
		severe     bool
	}{
		{"18,22", "[18 22]", false},
		{" ssh, brute-force ,18,", "[18 22]", false},
		{"DDoS Attack", "[4]", true},
		{"22,15", "[15 22]", true},
		{"", "needs a category", false},
		{"0", "no category 0", false},
		{"24", "no category 24", false},
		{"<abuseipdb_category>", `no category "<abuseipdb_category>"`, false},
		{strings.Repeat("1,", 600), "at most 1000", false},
	}
	for _, tt := range tests {
		ids, err := ParseCategories(tt.text)
		got := fmt.Sprint(ids)
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, tt.want) {
			t.Errorf("ParseCategories(%q): %s, want %s", tt.text, got, tt.want)
		}
		if err == nil && Severe(ids) != tt.severe {
			t.Errorf("Severe(%v): %v, want %v", ids, Severe(ids), tt.severe)
		}
	}
	if got := CategoryName(22) + CategoryName(0) + CategoryName(-1) + CategoryName(24); got != "SSHcategory 0category -1category 24" {
		t.Errorf("names %q", got)
	}
}

func TestBulkRows(t *testing.T) {
	at := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	var b Bulk
	for _, c := range []string{"5 ssh login failures in 41 s", `a "b" \ c\`, "two\r\nlines\u2028x", "", strings.Repeat("é", 600)} {
		if ok, err := b.Add(Report{Addr: netip.MustParseAddr("203.0.113.9"), Categories: []int{18, 22}, Comment: c, At: at}); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	row := `203.0.113.9,"18,22",2026-11-22T10:00:00+00:00,`
	want := "IP,Categories,ReportDate,Comment\n" + row + `"5 ssh login failures in 41 s"` + "\n" + row + `"a \"b\" / c/"` + "\n" +
		row + `"two  lines x"` + "\n" + row + `""` + "\n" + row + `"` + strings.Repeat("é", 512) + `"` + "\n"
	if got := string(b.Bytes()); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if _, err := b.Add(Report{Addr: netip.MustParseAddr("203.0.113.9"), Categories: []int{18}}); err == nil {
		t.Error("a row without time: no error")
	}
	if _, err := b.Add(Report{Categories: []int{18}, At: at}); err == nil {
		t.Error("a row without address: no error")
	}
}

func TestBulkBounds(t *testing.T) {
	for _, tt := range []struct {
		name, comment string
		rows, bytes   int
	}{
		{"lines", "x", 8999, 0},
		{"bytes", strings.Repeat(`"`, MaxComment), 0, 1_900_000},
	} {
		var b Bulk
		for i := 0; ; i++ {
			a := netip.AddrFrom4([4]byte{100, byte(i >> 16), byte(i >> 8), byte(i)})
			ok, err := b.Add(Report{Addr: a, Categories: []int{18}, Comment: tt.comment, At: time.Unix(0, 0)})
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
		}
		lines := strings.Count(string(b.Bytes()), "\n")
		if lines != b.Rows()+1 || lines > 9000 || len(b.Bytes()) > 1_900_000 {
			t.Errorf("%s: %d lines, %d rows, %d bytes", tt.name, lines, b.Rows(), len(b.Bytes()))
		}
		if tt.rows != 0 && b.Rows() != tt.rows || tt.bytes != 0 && len(b.Bytes()) < tt.bytes-4096 {
			t.Errorf("%s: %d rows and %d bytes: less than could be", tt.name, b.Rows(), len(b.Bytes()))
		}
	}
}
