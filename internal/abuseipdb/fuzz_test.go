package abuseipdb

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

// answering answers every request with the same bytes.
type answering struct {
	status int
	body   []byte
}

func (a answering) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	w.WriteHeader(a.status)
	w.Write(a.body)
	resp := w.Result()
	resp.Request = r
	return resp, nil
}

// FuzzAnswer: whatever a server sends, every call ends, and its error is short, printable and without the key.
func FuzzAnswer(f *testing.F) {
	for _, s := range []string{
		`{"data":{"ipAddress":"127.0.0.1","abuseConfidenceScore":52}}`,
		`{"data":{"ipAddress":"8.8.8.8","isWhitelisted":null,"abuseConfidenceScore":0,"hostnames":["a"],"lastReportedAt":"2026-11-20T17:01:02+00:00"}}`,
		`{"errors":[{"detail":"Daily rate limit of 5 requests exceeded for this endpoint.","status":429}]}`,
		`{"errors":[{"detail":"` + canary + `","status":422,"source":{"parameter":"` + canary + `"}}]}`,
		`{"data":{"savedReports":1,"invalidReports":[{"error":"Duplicate IP","input":"41.188.138.68","rowNumber":5}]}}`,
		`{"data":{"numReportsDeleted":0}}`, `{"message":"Server Error"}`, "<!DOCTYPE html>", "203.0.113.9\n2001:db8::1\n",
		`{"meta":{"generatedAt":"2026-11-22T03:00:00+00:00"},"data":[{"ipAddress":"203.0.113.9","countryCode":"FR","abuseConfidenceScore":100}]}`, "",
	} {
		for _, status := range []int{200, 401, 422, 429, 500} {
			f.Add(status, []byte(s))
		}
	}
	addr := netip.MustParseAddr("203.0.113.9")
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		if status < 200 || status > 599 {
			return
		}
		c := clientOf(t, "http://127.0.0.1/")
		c.http.Transport = answering{status, body}
		_, _, err1 := c.Check(t.Context(), CheckQuery{Addr: addr})
		_, _, err2 := c.Report(t.Context(), Report{Addr: addr, Categories: []int{18}})
		_, _, err3 := c.BulkReport(t.Context(), &Bulk{})
		_, _, err4 := c.ClearAddress(t.Context(), addr)
		n := 0
		list, _, err5 := c.Blacklist(t.Context(), BlacklistQuery{Limit: 5}, func(l Listed) error {
			if n++; !l.Addr.IsValid() || l.Addr.Zone() != "" || l.Addr.Is4In6() {
				t.Errorf("listed %v", l.Addr)
			}
			return nil
		})
		if err5 == nil && (list.Count != n || n > 5) {
			t.Errorf("%d addresses handed over, %d counted", n, list.Count)
		}
		for _, err := range []error{err1, err2, err3, err4, err5} {
			if err == nil {
				continue
			}
			text := err.Error()
			if len(text) > 1000 || !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) || strings.Contains(text, canary) {
				t.Errorf("status %d, body %q: error %q", status, body, text)
			}
		}
	})
}

// FuzzBulk: however hostile a comment, a row stays one line, and the quotes around the comment are the only bare ones.
func FuzzBulk(f *testing.F) {
	for _, s := range []string{"5 ssh login failures in 41 s", `a "b"`, `\"`, "\\", "a\r\nb", "\xff\x00", strings.Repeat("é", 600)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, comment string) {
		var b Bulk
		if ok, err := b.Add(Report{Addr: netip.MustParseAddr("203.0.113.9"), Categories: []int{18}, Comment: comment, At: time.Unix(0, 0)}); !ok || err != nil {
			t.Fatal(ok, err)
		}
		rest, ok := bytes.CutPrefix(b.Bytes(), []byte(bulkHeadings+`203.0.113.9,"18",1970-01-01T00:00:00+00:00,"`))
		if !ok || !bytes.HasSuffix(rest, []byte("\"\n")) {
			t.Fatalf("row %q", b.Bytes())
		}
		inner := string(rest[:len(rest)-2])
		if strings.ContainsAny(inner, "\r\n") || !utf8.ValidString(inner) || strings.Contains(strings.ReplaceAll(inner, `\"`, ""), `"`) ||
			strings.Contains(strings.ReplaceAll(inner, `\"`, ""), `\`) {
			t.Errorf("comment %q became %q", comment, inner)
		}
		if len(strings.ReplaceAll(inner, `\"`, `"`)) > MaxComment {
			t.Errorf("comment of %d bytes", len(inner))
		}
	})
}

// BenchmarkParseBlacklist reads a list of 500,000 addresses in either form.
func BenchmarkParseBlacklist(b *testing.B) {
	const n = 500_000
	var plain, js bytes.Buffer
	js.WriteString(`{"meta":{"generatedAt":"2026-11-22T03:00:00+00:00"},"data":[`)
	for i := range n {
		a := netip.AddrFrom4([4]byte{100, byte(i >> 16), byte(i >> 8), byte(i)}).String()
		plain.WriteString(a + "\n")
		if i > 0 {
			js.WriteString(",")
		}
		js.WriteString(`{"ipAddress":"` + a + `","countryCode":"FR","abuseConfidenceScore":100,"lastReportedAt":"2026-11-22T02:00:00+00:00"}`)
	}
	js.WriteString("]}")
	for _, form := range []struct {
		name string
		text []byte
	}{{"plain", plain.Bytes()}, {"json", js.Bytes()}} {
		b.Run(form.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				p := listParser{limit: n, key: canary, each: func(Listed) error { return nil }}
				if list, err := p.read(io.Reader(bytes.NewReader(form.text))); err != nil || list.Count != n {
					b.Fatal(list, err)
				}
			}
		})
	}
}
