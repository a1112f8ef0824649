package list

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// script is a source that answers what the test says.
type script struct {
	text      string // the list
	err       error
	unchanged bool
	plan      string
	etag      string

	asked Previous
	n     int
}

func (s *script) Fetch(_ context.Context, t Terms, p Previous) (*Fetched, error) {
	s.n++
	s.asked = p
	if s.err != nil || s.unchanged {
		return &Fetched{Unchanged: true}, s.err
	}
	parsed, err := Parse(strings.NewReader(s.text), t.Limit)
	return &Fetched{Parsed: parsed, Plan: s.plan, ETag: s.etag}, err
}

// lines is a list of n addresses that begins at 8.0.0.0.
func lines(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintln(&b, addrOf4(8<<24|uint32(i)))
	}
	return b.String()
}

func TestUpdate(t *testing.T) {
	const limit = 1000
	tests := []struct {
		name    string
		source  script
		limit   int    // 0: limit
		want    string // "accepted n +a -r", "unchanged", the kinds of refusal, or "error"
		inForce int    // entries of the list kept
		wait    time.Duration
	}{
		{"first", script{text: lines(100)}, 0, "accepted 100 +100 -0", 100, day},
		{"the same", script{text: lines(100), etag: `"a"`}, 0, "accepted 100 +0 -0", 100, day},
		{"not modified", script{unchanged: true}, 0, "unchanged", 100, day},
		{"half", script{text: lines(50)}, 0, "accepted 50 +0 -50", 50, day},
		{"more", script{text: lines(100)}, 0, "accepted 100 +50 -0", 100, day},
		{"one less than half", script{text: lines(49)}, 0, "half", 100, day},
		{"less than half, another plan", script{text: lines(49), plan: "100 lists a day"}, 0, "accepted 49 +0 -51", 49, day},
		{"less than half, another limit", script{text: lines(10), plan: "100 lists a day"}, 10, "accepted 10 +0 -39", 10, day},
		{"back", script{text: lines(200)}, 0, "accepted 200 +190 -0", 200, day},
		{"as many as asked", script{text: lines(limit)}, 0, "accepted 1000 +800 -0", 1000, day},
		{"more than asked", script{text: lines(limit + 1)}, 0, "larger", 1000, day},
		{"empty", script{text: "# nothing today\n"}, 0, "empty", 1000, firstRetry},
		{"html", script{text: "<html><body>502</body></html>"}, 0, "not-a-list", 1000, 2 * firstRetry},
		{"json", script{text: `{"errors":[{"detail":"Daily rate limit"}]}` + "\n"}, 0, "not-a-list", 1000, 4 * firstRetry},
		{"network", script{err: errors.New("connection reset")}, 0, "error", 1000, 8 * firstRetry},
		{"still", script{err: errors.New("connection reset")}, 0, "error", 1000, lastRetry},
		{"rests", script{err: &RestError{errors.New("429"), 365 * day}}, 0, "error", 1000, 0},
		{"well again", script{text: lines(limit)}, 0, "accepted 1000 +0 -0", 1000, day},
		{"wide", script{text: lines(900) + "0.0.0.0/1\n"}, 0, "too-wide", 1000, day},
		{"three private ones", script{text: lines(100) + "10.0.0.1\n10.0.0.2\n10.0.0.3\n", plan: "x"}, 0, "accepted 100 +0 -900", 100, day},
		{"four private ones", script{text: lines(100) + "10.0.0.1\n10.0.0.2\n10.0.0.3\n10.0.0.4\n", plan: "x"}, 0, "not-public", 100, day},
		{"only private ones", script{text: "10.0.0.1\n", plan: "x"}, 0, "empty", 100, firstRetry},
	}
	f := folder(t)
	now := t0
	for _, tt := range tests {
		o := Order{Name: "drop", Host: "h", At: "auto", Terms: Terms{Source: "https://x", Limit: limit}, Fetcher: &tt.source}
		if tt.limit > 0 {
			o.Terms.Limit = tt.limit
		}
		out, err := f.Update(t.Context(), o, now)
		if got, want := told(out, err), tt.want; got != want {
			t.Errorf("%s: %s (%v), want %s", tt.name, got, err, want)
		}
		k, err := f.Load("drop")
		if err != nil || k.Set.Len() != tt.inForce {
			t.Fatalf("%s: the list kept is %+v, %v, want %d entries", tt.name, k, err, tt.inForce)
		}
		if fetched := k.Fetched.Equal(now.Truncate(time.Second)); fetched != (out.Accepted != nil || out.Unchanged) {
			t.Errorf("%s: the list kept is of %s, it is %s now", tt.name, k.Fetched, now)
		}
		wait := f.Next(o, now).Sub(now)
		switch tt.wait {
		case day:
			if wait < soonest || wait > day+soonest {
				t.Errorf("%s: the next fetch is in %s", tt.name, wait)
			}
		case 0:
			if wait != longestWait {
				t.Errorf("%s: the next fetch is in %s, want %s at most", tt.name, wait, longestWait)
			}
		default:
			if wait != tt.wait {
				t.Errorf("%s: the next fetch is in %s, want %s", tt.name, wait, tt.wait)
			}
		}
		now = now.Add(max(wait, time.Minute))
	}
}

func told(out Outcome, err error) string {
	switch {
	case err != nil:
		return "error"
	case out.Unchanged:
		return "unchanged"
	case out.Accepted != nil:
		return fmt.Sprintf("accepted %d +%d -%d", out.Accepted.Set.Len(), out.Added, out.Removed)
	}
	var all []string
	for _, r := range out.Refused.Refused {
		all = append(all, string(r.Kind))
	}
	return strings.Join(all, " ")
}

func order(s *script) Order {
	return Order{Name: "drop", Host: "h", At: "03:30", Terms: Terms{Source: "https://x", Limit: 1000}, Fetcher: s}
}

// The tag of the list that is in force is asked with, never that of one that was refused, and not for other terms.
func TestUpdateAsksConditionally(t *testing.T) {
	f, s := folder(t), &script{text: lines(10), etag: `"a"`}
	update := func(o Order) {
		t.Helper()
		if _, err := f.Update(t.Context(), o, t0); err != nil {
			t.Fatal(err)
		}
	}
	update(order(s))
	if s.asked != (Previous{}) {
		t.Errorf("the first fetch asks with %+v", s.asked)
	}
	s.text, s.etag = lines(2), `"b"`
	update(order(s))
	update(order(s))
	if s.asked.ETag != `"a"` {
		t.Errorf("behind a refused list it asks with %+v", s.asked)
	}
	if _, err := f.Accept("drop"); err != nil {
		t.Fatal(err)
	}
	update(order(s))
	if s.asked.ETag != `"b"` {
		t.Errorf("behind an accepted list it asks with %+v", s.asked)
	}
	other := order(s)
	other.Terms.Confidence = 90
	update(other)
	if s.asked != (Previous{}) {
		t.Errorf("with other terms it asks with %+v", s.asked)
	}
	s.unchanged = true
	if _, err := f.Update(t.Context(), order(s), t0); err == nil {
		t.Error("a source that was not asked for a newer one says there is none, and is believed")
	}
}

// A process that dies of a fetch, again and again, does not fetch again at once; neither does one whose disk is full.
func TestUpdateWritesBeforeItFetches(t *testing.T) {
	f := folder(t)
	s := &script{text: lines(10)}
	o := order(s)
	o.Fetcher = fetchFunc(func() (*Fetched, error) {
		restarted, err := OpenFolder(f.dir)
		must(t, err)
		if wait := restarted.Next(o, t0).Sub(t0); wait != firstRetry {
			t.Errorf("killed during the fetch, the next one is in %s, want %s", wait, firstRetry)
		}
		return nil, context.Canceled
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Update(ctx, o, t0); err == nil {
		t.Fatal("no error")
	}
	if s := f.State("drop"); s.Failures != 0 || len(s.Tries) != 1 {
		t.Errorf("a fetch that was called off leaves %+v", s)
	}
	if wait := f.Next(o, t0).Sub(t0); wait > 0 {
		t.Errorf("a fetch that was called off is done again in %s", wait)
	}

	o.Fetcher = s
	must(t, os.RemoveAll(f.dir))
	if _, err := f.Update(t.Context(), o, t0); err == nil {
		t.Fatal("the list cannot be kept, and nobody says so")
	}
	if wait := f.Next(o, t0).Sub(t0); wait != firstRetry {
		t.Errorf("the disk took nothing: the next fetch is in %s, want %s", wait, firstRetry)
	}
}

type fetchFunc func() (*Fetched, error)

func (f fetchFunc) Fetch(context.Context, Terms, Previous) (*Fetched, error) { return f() }

// Whatever the source and the clock do, no more is fetched in any 24 hours than is granted, and a fetch that never left costs
// nothing.
func TestBudget(t *testing.T) {
	f, s := folder(t), &script{err: errors.New("500")}
	o := order(s)
	o.Budget = 5
	var at []time.Time
	for now := t0; now.Before(t0.Add(3 * day)); now = now.Add(time.Minute) {
		if !f.Next(o, now).After(now) {
			f.Update(t.Context(), o, now)
			at = append(at, now)
		}
	}
	for i := 5; i < len(at); i++ {
		if at[i].Sub(at[i-5]) < day {
			t.Errorf("fetches %d to %d within %s", i-5, i, at[i].Sub(at[i-5]))
		}
	}
	if len(at) < 12 {
		t.Errorf("only %d fetches in three days, all failed", len(at))
	}

	f, s.n, s.err = folder(t), 0, &UnsentError{errors.New("no such host")}
	o.Fetcher = s
	now := t0
	for range 20 {
		now = f.Next(o, now)
		f.Update(t.Context(), o, now)
	}
	if waited := now.Sub(t0); waited > 20*lastRetry {
		t.Errorf("20 fetches that did not leave took %s", waited)
	}
	if n := len(f.State("drop").Tries); n != 0 {
		t.Errorf("%d fetches count that did not leave", n)
	}
}

// A changed order is fetched at once, but does not get more than is granted.
func TestNextBehindAChange(t *testing.T) {
	f, s := folder(t), &script{text: lines(10)}
	o := order(s)
	o.Budget = 5
	for i := range 5 {
		o.Terms.Limit = 100 + i
		if wait := f.Next(o, t0).Sub(t0); wait > 0 {
			t.Fatalf("change %d is fetched in %s", i, wait)
		}
		if _, err := f.Update(t.Context(), o, t0); err != nil {
			t.Fatal(err)
		}
	}
	o.Terms.Limit = 99
	if wait := f.Next(o, t0).Sub(t0); wait != day {
		t.Errorf("with the grant used up a change is fetched in %s", wait)
	}
}

// A state that is lost is read from the list, so that a restart does not fetch.
func TestStateWithoutItsFile(t *testing.T) {
	f, s := folder(t), &script{text: lines(10)}
	if _, err := f.Update(t.Context(), order(s), t0); err != nil {
		t.Fatal(err)
	}
	must(t, os.Remove(f.path("drop", stateSuffix)))
	restarted, err := OpenFolder(f.dir)
	must(t, err)
	if wait := restarted.Next(order(s), t0.Add(time.Minute)).Sub(t0); wait != day+30*time.Minute {
		t.Errorf("the next fetch is in %s", wait)
	}
}

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "drop.txt")
	must(t, os.WriteFile(path, []byte("1.1.1.1\n8.8.8.0/24"), 0o600))
	for _, url := range []string{"file:" + path, "file://" + path} {
		src, err := NewFile(url)
		must(t, err)
		got, err := src.Fetch(t.Context(), Terms{Limit: 10}, Previous{})
		if err != nil || join(got.Parsed.Set) != "1.1.1.1 8.8.8.0/24" {
			t.Fatalf("Fetch: %+v, %v", got, err)
		}
		again, err := src.Fetch(t.Context(), Terms{Limit: 10}, Previous{ETag: got.ETag, Modified: got.Modified})
		if err != nil || !again.Unchanged {
			t.Errorf("Fetch of the same: %+v, %v", again, err)
		}
	}
	for _, url := range []string{"file:drop.txt", "file://host/drop.txt", "/drop.txt", "https://x/", "file:"} {
		if _, err := NewFile(url); err == nil {
			t.Errorf("NewFile(%q) takes it", url)
		}
	}
	for _, path := range []string{filepath.Dir(path), path + "x", "/dev/null"} {
		src, err := NewFile("file:" + path)
		must(t, err)
		if _, err := src.Fetch(t.Context(), Terms{}, Previous{}); err == nil {
			t.Errorf("Fetch of %s takes it", path)
		}
	}
}
