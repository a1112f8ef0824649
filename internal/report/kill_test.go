package report

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tocsin/internal/abuseipdb"
	"tocsin/internal/store"
)

var _ keeper = (*store.Watch)(nil)

// What a child of this test binary reports until it is killed: the file and the server, with a blank between.
const childReports = "TOCSIN_TEST_REPORTS"

func TestMain(m *testing.M) {
	if what := os.Getenv(childReports); what != "" {
		path, url, _ := strings.Cut(what, " ")
		if err := reportForEver(path, url); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func client(url string) (Client, error) {
	api, err := abuseipdb.New(abuseipdb.Options{URL: url, Version: "test",
		Key: func() (abuseipdb.Secret, error) { return abuseipdb.NewSecret("canary0123456789") }})
	return Client{API: api}, err
}

const killed = 300 // decisions

// reportForEver takes in decisions from its cursor on, a few at a time, and sends them.
func reportForEver(path, url string) error {
	ctx := context.Background()
	w, err := store.OpenWatch(path, nil)
	if err != nil {
		return err
	}
	c, err := client(url)
	if err != nil {
		return err
	}
	o := options()
	o.Hold = time.Millisecond
	r, err := NewReporter(ctx, o, w, c, nil)
	if err != nil {
		return err
	}
	go r.Run(ctx)
	for {
		var ds []Decision
		for n := r.Cursor() + 1; n <= killed && len(ds) < 7; n++ {
			ds = append(ds, ban(int(n), time.Now()))
		}
		if err := r.Take(ctx, ds, true); err != nil {
			return err
		}
		st := r.Stats()
		fmt.Printf("%d %d %d %d\n", st.Cursor, st.Queued, st.Sent, st.Duplicates)
		time.Sleep(2 * time.Millisecond)
	}
}

// front is a small server over HTTP with the rule of 15 minutes.
type front struct {
	mu       sync.Mutex
	accepted map[string]int
	doubles  int
	fail     func(*http.Request, http.ResponseWriter) bool
}

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if f.fail != nil && f.fail(r, w) {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	w.Header().Set("X-RateLimit-Limit", "100000")
	w.Header().Set("X-RateLimit-Remaining", "99000")
	ip := r.FormValue("ip")
	if f.accepted[ip] > 0 {
		f.doubles++
		w.WriteHeader(http.StatusTooManyRequests)
		fmt.Fprintf(w, `{"errors":[{"detail":"You can only report the same IP address (`+"`%s`"+`) once in 15 minutes.","status":429,"source":{"parameter":"ip"}}]}`, ip)
		return
	}
	f.accepted[ip]++
	fmt.Fprintf(w, `{"data":{"ipAddress":%q,"abuseConfidenceScore":52}}`, ip)
}

// TestKill kills a reporting process 20 times at random moments, with its real file and over HTTP. In the end every address
// was reported once, and the only doubles that the server had to drop are attempts whose answer a kill took.
func TestKill(t *testing.T) {
	f := &front{accepted: make(map[string]int)}
	s := httptest.NewServer(f)
	defer s.Close()
	path := filepath.Join(t.TempDir(), "watch.db")
	kills := 0
	var queued, sent, duplicates int
	for deadline := time.Now().Add(10 * time.Minute); ; kills++ {
		after := time.Duration(rand.IntN(60_000)) * time.Microsecond
		if kills >= 20 {
			after = time.Second
		}
		cursor := 0
		if line := killOnce(t, path, s.URL, after); line != "" {
			if _, err := fmt.Sscan(line, &cursor, &queued, &sent, &duplicates); err != nil {
				t.Fatalf("the child says %q: %v", line, err)
			}
		}
		if kills >= 20 && cursor == killed && queued == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("not done: at %d, %d queued", cursor, queued)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for n := 1; n <= killed; n++ {
		if got := f.accepted[addr(n).String()]; got != 1 {
			t.Errorf("%s was reported %d times", addr(n), got)
		}
	}
	if len(f.accepted) != killed || sent+duplicates != killed || f.doubles > kills+1 {
		t.Errorf("%d accepted, %d sent, %d duplicates, %d doubles in %d kills", len(f.accepted), sent, duplicates, f.doubles, kills)
	}
	t.Logf("%d kills, %d sent, %d duplicates, %d doubles at the server", kills, sent, duplicates, f.doubles)
}

// killOnce runs the child for a while behind its first word, kills it, and returns the last whole line it said.
func killOnce(t *testing.T, path, url string, after time.Duration) string {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childReports+"="+path+" "+url)
	cmd.Stderr = os.Stderr
	out := &firstWord{said: make(chan struct{})}
	cmd.Stdout = out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-out.said:
	case <-time.After(time.Minute):
		t.Error("the child says nothing")
	}
	time.Sleep(after)
	cmd.Process.Kill()
	cmd.Wait()
	lines := strings.Split(out.text.String(), "\n")
	if len(lines) < 2 {
		return ""
	}
	return lines[len(lines)-2]
}

type firstWord struct {
	text strings.Builder
	said chan struct{}
}

func (w *firstWord) Write(b []byte) (int, error) {
	if w.text.Len() == 0 {
		close(w.said)
	}
	return w.text.Write(b)
}

// TestClient holds how answers over HTTP are understood.
func TestClient(t *testing.T) {
	status := func(code int, body string, header ...string) func(*http.Request, http.ResponseWriter) bool {
		return func(_ *http.Request, w http.ResponseWriter) bool {
			for i := 0; i+1 < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(code)
			fmt.Fprint(w, body)
			return true
		}
	}
	cut := func(*http.Request, http.ResponseWriter) bool { panic(http.ErrAbortHandler) }
	spoken := func(code int, detail string) string {
		return fmt.Sprintf(`{"errors":[{"detail":%q,"status":%d}]}`, detail, code)
	}
	tests := []struct {
		name string
		fail func(*http.Request, http.ResponseWriter) bool
		want Outcome
		code int
	}{
		{"taken", nil, Done, 200},
		{"reported before", status(429, spoken(429, "You can only report the same IP address (`1.2.3.4`) once in 15 minutes.")), Duplicate, 429},
		{"quota", status(429, spoken(429, "Daily rate limit of 1000 requests exceeded for this endpoint."), "Retry-After", "3600"), Exhausted, 429},
		{"quota, no Retry-After", status(429, spoken(429, "Daily rate limit of 1000 requests exceeded for this endpoint.")), Exhausted, 429},
		{"somebody before the server is tired", status(429, "<html>slow down</html>"), Failed, 429},
		{"refused", status(422, spoken(422, "The ip address must be valid.")), Refused, 422},
		{"no key", status(401, spoken(401, "Authentication failed.")), Stop, 401},
		{"plan", status(402, spoken(402, "no")), Stop, 402},
		{"forbidden", status(403, spoken(403, "no")), Stop, 403},
		{"500", status(500, `{"message":"Server Error"}`), Failed, 500},
		{"503 in HTML", status(503, "<html>"), Failed, 503},
		{"a gateway waited too long", status(504, "<html>"), Lost, 504},
		{"a redirect", status(302, "", "Location", "http://127.0.0.1:1/"), Failed, 302},
		{"a page instead of an answer", status(200, "<html>welcome</html>"), Lost, 200},
		{"cut off", cut, Lost, 0},
	}
	for _, tt := range tests {
		s := httptest.NewServer(&front{accepted: make(map[string]int), fail: tt.fail})
		c, err := client(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		a := c.Send(t.Context(), Job{Reports: []Out{{Addr: netip.MustParseAddr("1.2.3.4"), Categories: []int{18}, Comment: "x"}}})
		if a.Outcome != tt.want || a.Code != tt.code || strings.Contains(a.Detail, "canary") {
			t.Errorf("%s: %+v, want outcome %d, code %d", tt.name, a, tt.want, tt.code)
		}
		if tt.name == "quota" && a.Rest != time.Hour {
			t.Errorf("rests %s", a.Rest)
		}
		s.Close()
	}
	c, err := client("http://127.0.0.1:1/")
	if err != nil {
		t.Fatal(err)
	}
	if a := c.Send(t.Context(), Job{Reports: []Out{{Addr: netip.MustParseAddr("1.2.3.4"), Categories: []int{18}}}}); a.Outcome != Failed {
		t.Errorf("nobody there: %+v", a)
	}
}

func TestClientBulk(t *testing.T) {
	f := &front{fail: func(r *http.Request, w http.ResponseWriter) bool {
		r.ParseMultipartForm(1 << 20)
		fmt.Fprint(w, `{"data":{"savedReports":1,"invalidReports":[{"error":"Duplicate IP","input":"31.0.0.1","rowNumber":2},{"error":"Invalid IP","input":"x","rowNumber":3}]}}`)
		return true
	}}
	s := httptest.NewServer(f)
	defer s.Close()
	c, err := client(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	j := Job{Bulk: true, Reports: []Out{{Addr: addr(9), At: t0}, {Addr: addr(1), Categories: []int{18}, At: t0}, {Addr: addr(2), Categories: []int{18}, At: t0}, {Addr: addr(3), Categories: []int{18}, At: t0}}}
	a := c.Send(t.Context(), j)
	if a.Outcome != Done || len(a.Rows) != 3 || a.Rows[0].Row != 0 || a.Rows[1] != (Row{Row: 1, Duplicate: true, Detail: "Duplicate IP"}) ||
		a.Rows[2] != (Row{Row: 2, Detail: "Invalid IP"}) {
		t.Errorf("%+v", a)
	}
}

// BenchmarkStart starts with 100,000 reports in the file, half of them held.
func BenchmarkStart(b *testing.B) {
	path := filepath.Join(b.TempDir(), "watch.db")
	w, err := store.OpenWatch(path, nil)
	if err != nil {
		b.Fatal(err)
	}
	ctx := context.Background()
	r, err := NewReporter(ctx, options(), w, nil, nil)
	if err != nil {
		b.Fatal(err)
	}
	for n := 1; n <= 100_000; n += 1000 {
		var ds []Decision
		for i := range 1000 {
			ds = append(ds, ban(n+i, time.Now()))
		}
		if err := r.Take(ctx, ds, false); err != nil {
			b.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		w, err := store.OpenWatch(path, nil)
		if err != nil {
			b.Fatal(err)
		}
		r, err := NewReporter(ctx, options(), w, nil, nil)
		if err != nil {
			b.Fatal(err)
		}
		if got := r.Stats().Queued; got != 100_000 {
			b.Fatalf("%d queued", got)
		}
		if err := w.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
