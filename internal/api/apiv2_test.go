package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
)

var hubTestNow = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// aHub serves APIv2 and notes what it is told.
func aHub(told *[]HubReport) http.Handler {
	plan := &HubPlan{ListLimit: 10, BlockBits: 24, BlockDays: 30}
	spent := func(*HubMember, string) HubSpent {
		return HubSpent{Limit: 10, Left: 5, Reset: hubTestNow.Add(time.Hour)}
	}
	return HubHandler(HubOperations{
		Now: func() time.Time { return hubTestNow }, Down: func() error { return nil },
		Who: func(key string) *HubMember {
			if key != "good" {
				return nil
			}
			return &HubMember{ID: 1, Plan: plan, Read: true, Report: true}
		},
		Spend: spent, Left: spent,
		Check:     func(netip.Addr, time.Time) (HubCheck, error) { return HubCheck{Score: 7}, nil },
		Reports:   func(netip.Addr, time.Time, int, int) ([]HubTold, int, error) { return nil, 100, nil },
		Block:     func(netip.Prefix, time.Time) ([]HubListed, error) { return nil, nil },
		Blacklist: func(HubListQuery) ([]HubListed, time.Time, error) { return nil, hubTestNow, nil },
		Report: func(_ *HubMember, all []HubReport) ([]bool, error) {
			*told = append(*told, all...)
			return make([]bool, len(all)), nil
		},
		Clear: func(*HubMember, netip.Addr) (int, error) { return 3, nil },
	})
}

func hubAsk(h http.Handler, method, target, kind, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "/api/v2/"+target, strings.NewReader(body))
	r.Header.Set("Key", "good")
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

const formType = "application/x-www-form-urlencoded"

func TestHubReadsReportsFromEverywhere(t *testing.T) {
	multi := "--B\r\nContent-Disposition: form-data; name=\"ip\"\r\n\r\n203.0.113.9\r\n--B\r\nContent-Disposition: form-data; name=\"categories\"\r\n\r\n18,22\r\n--B--\r\n"
	for _, c := range []struct{ name, target, kind, body string }{
		{"form", "report", formType, "ip=203.0.113.9&categories=18,22"},
		{"form without a type", "report", "", "ip=203.0.113.9&categories=18,22"},
		{"query", "report?ip=203.0.113.9&categories=18%2C22", "", ""},
		{"both", "report?ip=203.0.113.9", formType, "ip=&categories=18,22"},
		{"list in brackets", "report", formType, "ip=203.0.113.9&categories[]=18&categories[]=22"},
		{"multipart", "report", "multipart/form-data; boundary=B", multi},
		{"JSON, comma list", "report", "application/json", `{"ip":"203.0.113.9","categories":"18,22"}`},
		{"JSON, numbers", "report", "application/json; charset=utf-8", `{"ip":"203.0.113.9","categories":[18,22],"comment":null}`},
		{"JSON, texts", "report", "", `{"ip":"203.0.113.9","categories":["18","22"]}`},
		{"mapped address", "report", formType, "ip=::ffff:203.0.113.9&categories=18,22"},
	} {
		var told []HubReport
		w := hubAsk(aHub(&told), "POST", c.target, c.kind, c.body)
		want := []HubReport{{Addr: netip.MustParseAddr("203.0.113.9"), Categories: []int{18, 22}}}
		if w.Code != 200 || !reflect.DeepEqual(told, want) {
			t.Errorf("%s: %d, %+v, %s", c.name, w.Code, told, w.Body)
		}
	}
}

func TestHubRefuses(t *testing.T) {
	long := strings.Repeat("x", maxHubBody+1)
	for _, c := range []struct {
		name, method, target, kind, body string
		status                           int
		parameter                        string
	}{
		{"no such endpoint", "GET", "nothing", "", "", 404, ""},
		{"wrong method", "GET", "report", "", "", 405, ""},
		{"a key that is none", "GET", "check?ipAddress=203.0.113.9&key=bad", "", "", 200, ""}, // the header counts
		{"body too long", "POST", "report", formType, long, 413, ""},
		{"JSON that is none", "POST", "report", "application/json", `{"ip":`, 422, ""},
		{"two objects", "POST", "report", "application/json", `{} {}`, 422, ""},
		{"a form cut off", "POST", "report", "multipart/form-data; boundary=B", "--B\r\nContent-Disposition: form-data; name=\"ip\"\r\n\r\n203.0", 422, ""},
		{"an action that was not edited", "POST", "report", formType, "ip=203.0.113.9&categories=<abuseipdb_category>", 422, "categories"},
		{"unknown category", "POST", "report", formType, "ip=203.0.113.9&categories=24", 422, "categories"},
		{"address with a zone", "POST", "report", formType, "ip=fe80::1%25eth0&categories=18", 422, "ip"},
		{"a time to come", "POST", "report", formType, "ip=203.0.113.9&categories=18&timestamp=2026-11-25T12:00:00Z", 422, "timestamp"},
		{"page", "GET", "reports?ipAddress=203.0.113.9&page=0", "", "", 422, "page"},
		{"network too wide", "GET", "check-block?network=203.0.0.0/15", "", "", 422, "network"},
		{"network of another plan", "GET", "check-block?network=203.0.0.0/23", "", "", 402, "network"},
		{"limit", "GET", "blacklist?limit=0", "", "", 422, "limit"},
		{"quote that stays open", "POST", "bulk-report", "text/csv", "IP,Categories,ReportDate,Comment\n203.0.113.9,18,2026-11-01T00:00:00Z,\"x\n", 422, "csv"},
		{"headings", "POST", "bulk-report", "text/csv", "203.0.113.9,18,2026-11-01T00:00:00Z,x\n", 422, "csv"},
		{"empty file", "POST", "bulk-report", "text/csv", "\n", 422, "csv"},
	} {
		var told []HubReport
		w := hubAsk(aHub(&told), c.method, c.target, c.kind, c.body)
		if w.Code != c.status || len(told) != 0 {
			t.Errorf("%s: %d, %s; told %+v", c.name, w.Code, w.Body, told)
		}
		if c.status == 200 {
			continue
		}
		var e struct {
			Errors []struct {
				Detail string
				Status int
				Source struct{ Parameter string }
			}
		}
		if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || len(e.Errors) != 1 || e.Errors[0].Status != c.status || e.Errors[0].Detail == "" || e.Errors[0].Source.Parameter != c.parameter {
			t.Errorf("%s: %s, %v", c.name, w.Body, err)
		}
	}
}

func TestHubLinksHoldNoKey(t *testing.T) {
	r := httptest.NewRequest("GET", "/api/v2/reports?ipAddress=203.0.113.9&key=good&page=2", nil)
	w := httptest.NewRecorder()
	aHub(new([]HubReport)).ServeHTTP(w, r)
	if w.Code != 200 || strings.Contains(w.Body.String(), "good") || !strings.Contains(w.Body.String(), "page=3") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// One bad row among ten thousand lines is told, and the others are kept.
func TestHubBulk(t *testing.T) {
	var csv strings.Builder
	csv.WriteString("\ufeff\"IP\",\"Categories\",\"ReportDate\",\"Comment\"\r\n")
	for i := range 9998 {
		if i == 5000 {
			csv.WriteString("203.0.113,18,2026-11-01T00:00:00Z,x\r\n")
			continue
		}
		fmt.Fprintf(&csv, "45.0.%d.%d,\"18,22\",2026-11-01 00:00:00,\"say \\\"hi\\\" or \"\"ho\"\", %d\"\r\n", i/256, i%256, i)
	}
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	part, err := form.CreateFormFile("csv", "report.csv")
	if err == nil {
		_, err = io.WriteString(part, csv.String())
	}
	if err != nil || form.Close() != nil {
		t.Fatal(err)
	}
	var told []HubReport
	w := hubAsk(aHub(&told), "POST", "bulk-report", form.FormDataContentType(), body.String())
	want := `{"data":{"savedReports":9997,"invalidReports":[{"error":"Invalid IP","input":"203.0.113","rowNumber":5002}]}}`
	if w.Code != 200 || w.Body.String() != want {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	first := HubReport{netip.MustParseAddr("45.0.0.0"), []int{18, 22}, `say "hi" or "ho", 0`, time.Date(2026, 11, 1, 4, 0, 0, 0, time.UTC)}
	if len(told) != 9997 || !reflect.DeepEqual(told[0], first) {
		t.Errorf("%d reports, the first %+v, want %+v", len(told), told[0], first)
	}
}

func TestHubDates(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"2026-11-01T10:00:00Z", "2026-11-01T10:00:00Z"},
		{"2026-11-01T10:00:00.123+02:00", "2026-11-01T08:00:00Z"},
		{"2026-11-01T10:00:00+0200", "2026-11-01T08:00:00Z"},
		{"2026-11-01T10:00:00 02:00", "2026-11-01T08:00:00Z"},
		{"2026-11-01 10:00:00", "2026-11-01T10:00:00Z"},
		{"2026-11-01", "2026-11-01T00:00:00Z"},
		{"@1793527200", "2026-11-01T10:00:00Z"},
		{"Sun, 01 Nov 2026 10:00:00 GMT", "2026-11-01T10:00:00Z"},
		{"2026-11-23T13:00:00Z", "2026-11-23T12:00:00Z"}, // an hour to come is now
		{"yesterdayish", ""}, {"", ""}, {"1999-01-01T00:00:00Z", ""}, {"2027-01-01T00:00:00Z", ""}, {"@-5", ""}, {strings.Repeat("2", 100), ""},
	} {
		got := ""
		if at, ok := when(c.text, time.UTC, hubTestNow); ok {
			got = at.Truncate(time.Second).Format(time.RFC3339)
		}
		if got != c.want {
			t.Errorf("%q: %q, want %q", c.text, got, c.want)
		}
	}
}

// Whatever is sent, the answer is JSON of APIv2's form, and nothing is kept that no report is.
func FuzzHubReport(f *testing.F) {
	f.Add("ip=203.0.113.9&categories=18", formType, "ip=203.0.113.9&categories[0]=18&comment=caf%E9")
	f.Add("", "application/json", `{"ip":"203.0.113.9","categories":[18,"22",{}],"comment":"x"}`)
	f.Add("", "multipart/form-data; boundary=B", "--B\r\nContent-Disposition: form-data; name=\"ip\"\r\n\r\n203.0.113.9\r\n--B--\r\n")
	f.Add("", "multipart/form-data", "--")
	f.Add("key=good&ip=%zz;", "text/plain", "\x00")
	f.Fuzz(func(t *testing.T, query, kind, body string) {
		var told []HubReport
		r := httptest.NewRequest("POST", "/api/v2/report", strings.NewReader(body))
		r.URL.RawQuery = query
		r.Header.Set("Key", "good")
		r.Header.Set("Content-Type", kind)
		w := httptest.NewRecorder()
		aHub(&told).ServeHTTP(w, r)
		if !json.Valid(w.Body.Bytes()) {
			t.Errorf("%d %q", w.Code, w.Body)
		}
		checkTold(t, told, w.Code == 200)
	})
}

func checkTold(t *testing.T, told []HubReport, granted bool) {
	t.Helper()
	if len(told) > 0 && !granted {
		t.Errorf("kept and not granted: %+v", told)
	}
	for _, r := range told {
		if !r.Addr.IsValid() || r.Addr.Zone() != "" || r.Addr.Is4In6() || len(r.Categories) == 0 || len(r.Categories) > 30 || len(r.Comment) > 1024 || r.At.After(hubTestNow) {
			t.Errorf("%+v", r)
		}
	}
}

func FuzzHubBulk(f *testing.F) {
	f.Add([]byte("IP,Categories,ReportDate,Comment\n203.0.113.9,\"18,22\",2026-11-01T00:00:00Z,\"a \\\" b\nc\"\n,,,\n"))
	f.Add([]byte("comment,reportdate,categories,ip\nx,2026-11-01,18,2001:db8::1"))
	f.Add([]byte("IP,Categories,ReportDate\n\"\",\"\"\"\",\"\\\""))
	f.Fuzz(func(t *testing.T, csv []byte) {
		var told []HubReport
		w := hubAsk(aHub(&told), "POST", "bulk-report", "text/csv", string(csv))
		if !json.Valid(w.Body.Bytes()) {
			t.Errorf("%d %q", w.Code, w.Body)
		}
		checkTold(t, told, w.Code == 200)
	})
}
