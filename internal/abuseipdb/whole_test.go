package abuseipdb_test

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"tocsin/internal/abuseipdb"
	"tocsin/internal/abuseipdb/fake"
)

const secret = "5ecret0f4board5ecret0f4board"

var evening = time.Date(2026, 11, 22, 18, 0, 0, 0, time.UTC)

// talk is a client and the strict server it asks, over TLS. The server's time stands at evening.
func talk(t *testing.T, o fake.Options) (*abuseipdb.Client, *fake.Server) {
	t.Helper()
	o.Now = func() time.Time { return evening }
	o.Accounts = []fake.Account{{Name: "board", Key: secret, Plan: fake.FreePlan()}}
	s := fake.New(o)
	server := httptest.NewUnstartedServer(s)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	c, err := abuseipdb.New(abuseipdb.Options{
		URL: server.URL + "/api/v2", Version: "1", RootCAs: roots,
		Key: func() (abuseipdb.Secret, error) { return abuseipdb.NewSecret(secret) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return c, s
}

func report(ip string) abuseipdb.Report {
	return abuseipdb.Report{Addr: netip.MustParseAddr(ip), Categories: []int{18, 22}, Comment: "5 ssh login failures in 41 s", At: evening.Add(-time.Minute)}
}

func TestWholeConversation(t *testing.T) {
	var list []fake.Listed
	for i := range 12_000 {
		list = append(list, fake.Listed{Addr: netip.AddrFrom4([4]byte{100, 1, byte(i >> 8), byte(i)}), Country: "FR", Score: 100})
	}
	list = append(list[:9000], fake.Listed{Addr: netip.MustParseAddr("2001:db8::9"), Score: 100})
	c, s := talk(t, fake.Options{List: list, Canaries: []string{"marie"}})
	ctx := t.Context()

	for _, plain := range []bool{true, false} {
		var got []netip.Addr
		l, m, err := c.Blacklist(ctx, abuseipdb.BlacklistQuery{Limit: 10_000, Confidence: 100, Plain: plain}, func(l abuseipdb.Listed) error {
			got = append(got, l.Addr)
			return nil
		})
		if err != nil || l.Count != len(list) || len(got) != len(list) || got[9000] != list[9000].Addr || !l.GeneratedAt.Equal(evening) || m.Quota.Limit != 5 || !m.Date.Equal(evening) {
			t.Errorf("plain %v: %+v, %d addresses, %+v, %v", plain, l, len(got), m, err)
		}
	}
	check, _, err := c.Check(ctx, abuseipdb.CheckQuery{Addr: list[0].Addr, MaxAge: 30})
	if err != nil || check.Score != 100 || !check.Public || check.WhitelistKnown {
		t.Errorf("check: %+v, %v", check, err)
	}
	score, m, err := c.Report(ctx, report("100.1.0.0"))
	if err != nil || score != 100 || m.Quota.Remaining != 999 {
		t.Errorf("report: %d, %+v, %v", score, m, err)
	}
	if _, _, err := c.Report(ctx, report("127.0.0.2")); !errors.Is(err, abuseipdb.ErrDuplicate) {
		t.Errorf("report of the test address: %v", err)
	}
	var b abuseipdb.Bulk
	for i := range 8999 {
		r := report("100.2.0.0")
		r.Addr = netip.AddrFrom4([4]byte{100, 2, byte(i >> 8), byte(i)})
		r.Comment = `a "quoted", comma'd \ comment` + "\nof two lines"
		if ok, err := b.Add(r); !ok || err != nil {
			t.Fatal(i, ok, err)
		}
	}
	bulk, _, err := c.BulkReport(ctx, &b)
	if err != nil || bulk.Saved != 8999 || len(bulk.Invalid) != 0 {
		t.Errorf("bulk: %+v, %v", bulk, err)
	}
	if got := s.Reports()[1+8000]; got.Comment != `a "quoted", comma'd / comment of two lines` || !got.At.Equal(evening.Add(-time.Minute)) || !slices.Equal(got.Categories, []int{18, 22}) || !got.Bulk {
		t.Errorf("of the bulk report came %+v", got)
	}
	n, _, err := c.ClearAddress(ctx, netip.MustParseAddr("100.2.0.7"))
	if err != nil || n != 1 {
		t.Errorf("clear: %d, %v", n, err)
	}
	if v := s.Violations(); len(v) != 0 {
		t.Errorf("violations: %+v", v)
	}
}

func TestWholeBulkDuplicates(t *testing.T) {
	c, s := talk(t, fake.Options{Deaths: true})
	if _, _, err := c.Report(t.Context(), report("203.0.113.9")); err != nil {
		t.Fatal(err)
	}
	var b abuseipdb.Bulk
	for _, ip := range []string{"203.0.113.8", "203.0.113.9", "203.0.113.10"} {
		if ok, err := b.Add(report(ip)); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	got, _, err := c.BulkReport(t.Context(), &b)
	if want := "{2 [{1 Duplicate IP 203.0.113.9}]} <nil>"; fmt.Sprint(got, err) != want {
		t.Errorf("got %v %v, want %s", got, err, want)
	}
	if len(s.Reports()) != 3 || len(s.Violations()) != 0 {
		t.Errorf("%d reports, violations %+v", len(s.Reports()), s.Violations())
	}
}

func TestWholeFaults(t *testing.T) {
	tests := []struct {
		kind      fake.Kind
		want      string
		uncertain bool
		list      string // what is said when a list was asked for
	}{
		{fake.Error500, "status 500: Server Error", false, "status 500"},
		{fake.ErrorHTML, "status 503: a page of HTML", false, "status 503"},
		{fake.PageHTML, "but a page of HTML", true, "line 1: no address but a page of HTML"},
		{fake.Busy, "status 429: text that begins", false, "status 429"},
		{fake.Suspended, "This account is suspended.", false, "suspended"},
		{fake.CutBefore, "the answer was lost", true, "the answer was lost"},
		{fake.CutAfter, "the answer was lost", true, "the answer was lost"},
		{fake.CutHalf, "the answer was lost", true, "the answer was lost"},
		{fake.ErrorAfter, "status 504: a page of HTML", true, "status 504"},
	}
	for _, tt := range tests {
		c, s := talk(t, fake.Options{List: []fake.Listed{{Addr: netip.MustParseAddr("203.0.113.9"), Score: 100}}})
		s.Inject(fake.Fault{Kind: tt.kind})
		_, _, err := c.Report(t.Context(), report("203.0.113.9"))
		if err == nil || !strings.Contains(err.Error(), tt.want) || abuseipdb.Uncertain(err) != tt.uncertain {
			t.Errorf("%s: %v, uncertain %v; want %q and %v", tt.kind, err, abuseipdb.Uncertain(err), tt.want, tt.uncertain)
		}
		_, _, lerr := c.Blacklist(t.Context(), abuseipdb.BlacklistQuery{Limit: 10, Plain: true}, func(abuseipdb.Listed) error { return nil })
		if lerr == nil || !strings.Contains(lerr.Error(), tt.list) {
			t.Errorf("%s: list: %v, want %q", tt.kind, lerr, tt.list)
		}
		if len(s.Requests()) != 2 || len(s.Violations()) != 0 {
			t.Errorf("%s: %d requests, violations %+v", tt.kind, len(s.Requests()), s.Violations())
		}
		if strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, lerr), secret) {
			t.Errorf("%s: the key shows", tt.kind)
		}
	}
}

func TestWholeQuota(t *testing.T) {
	c, s := talk(t, fake.Options{})
	s.UseUp("board", fake.ReportOne)
	_, m, err := c.Report(t.Context(), report("203.0.113.9"))
	q, ok := errors.AsType[*abuseipdb.QuotaError](err)
	if !ok || !m.Quota.Known || m.Quota.Limit != 1000 || m.Quota.Remaining != 0 {
		t.Fatalf("%v, %+v", err, m)
	}
	wrong := evening.Add(-time.Hour) // what a clock here may read
	if got := q.Until(wrong).Sub(wrong); got != 11*time.Hour {
		t.Errorf("rest of %s, want 11h", got)
	}
}

// TestWholeRedirect: the key is for one server only.
func TestWholeRedirect(t *testing.T) {
	var seen bytes.Buffer
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { r.Write(&seen) }))
	t.Cleanup(other.Close)
	server := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	t.Cleanup(server.Close)
	c, err := abuseipdb.New(abuseipdb.Options{URL: server.URL, Key: func() (abuseipdb.Secret, error) { return abuseipdb.NewSecret(secret) }})
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = c.Report(t.Context(), report("203.0.113.9"))
	if e, ok := errors.AsType[*abuseipdb.ServerError](err); !ok || e.Status != 307 || abuseipdb.Uncertain(err) || seen.Len() != 0 {
		t.Errorf("%v; the other server saw %q", err, &seen)
	}
}
