package store

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"tocsin"
)

func openWatch(t testing.TB, path string) *Watch {
	t.Helper()
	w, err := OpenWatch(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

func applied(t *testing.T, w *Watch, c tocsin.ReportChange) {
	t.Helper()
	if renewed, err := w.Apply(ctx, c); renewed || err != nil {
		t.Fatal(renewed, err)
	}
}

func reports(t *testing.T, w *Watch) tocsin.ReportState {
	t.Helper()
	s, err := w.Reports(ctx)
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(s.Queued, func(a, b tocsin.QueuedReport) int { return a.Addr.Compare(b.Addr) })
	slices.SortFunc(s.Sent, func(a, b tocsin.SentReport) int { return a.Addr.Compare(b.Addr) })
	return s
}

func aReport(n int) tocsin.Report {
	return tocsin.Report{Categories: []int{18, 22}, Service: 1, Failures: n, First: t0, Last: t0.Add(time.Minute), Queued: t0.Add(time.Hour)}
}

func TestWatchKeeps(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sub", "watch.db")
	w := openWatch(t, path)
	if s := reports(t, w); len(s.Queued)+len(s.Sent)+len(s.Numbers) != 0 {
		t.Fatalf("a new file holds %+v", s)
	}
	a, b, c := netip.MustParseAddr("1.2.3.4"), netip.MustParseAddr("2a00::7"), netip.MustParseAddr("5.6.7.8")
	full := tocsin.QueuedReport{Addr: a, Report: aReport(5), Next: aReport(7), Hold: t0, Due: t0.Add(1), Attempt: t0.Add(2 * time.Microsecond),
		Tried: t0.Add(time.Second), Tries: 3, Bulk: true, Withdrawn: true}
	full.Due = t0.Add(time.Microsecond)
	bare := tocsin.QueuedReport{Addr: b, Report: aReport(0)}
	bare.Categories = nil
	applied(t, w, tocsin.ReportChange{
		Put:     []tocsin.QueuedReport{full, bare, {Addr: c, Report: aReport(1)}},
		Sent:    []tocsin.SentReport{{Addr: a, At: t0, Same: 1 << 63}, {Addr: b, At: t0.Add(time.Hour)}},
		Refused: []tocsin.RefusedReport{{Addr: c, At: t0, Detail: "no", Comment: "5 failures"}},
		Numbers: map[string]int64{"cursor": 7, "sent": -1},
	})
	want := tocsin.ReportState{Queued: []tocsin.QueuedReport{full, {Addr: c, Report: aReport(1)}, bare},
		Sent:    []tocsin.SentReport{{Addr: a, At: t0, Same: 1 << 63}, {Addr: b, At: t0.Add(time.Hour)}},
		Numbers: map[string]int64{"cursor": 7, "sent": -1}}
	for range 2 {
		if got := reports(t, w); !reflect.DeepEqual(got, want) {
			t.Errorf("kept %+v\nwant %+v", got, want)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		w = openWatch(t, path)
	}
	if got, err := w.Refused(ctx, 5); err != nil || len(got) != 1 || got[0] != (tocsin.RefusedReport{Addr: c, At: t0, Detail: "no", Comment: "5 failures"}) {
		t.Errorf("refused %+v, %v", got, err)
	}
	full.Next = tocsin.Report{}
	applied(t, w, tocsin.ReportChange{Put: []tocsin.QueuedReport{full}, Drop: []netip.Addr{b, c}, Numbers: map[string]int64{"cursor": 8}, Forget: t0.Add(time.Minute)})
	want = tocsin.ReportState{Queued: []tocsin.QueuedReport{full}, Sent: []tocsin.SentReport{{Addr: b, At: t0.Add(time.Hour)}},
		Numbers: map[string]int64{"cursor": 8, "sent": -1}}
	if got := reports(t, w); !reflect.DeepEqual(got, want) {
		t.Errorf("kept %+v\nwant %+v", got, want)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	w.Close()
	if _, err := w.Apply(ctx, tocsin.ReportChange{}); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

func TestWatchRefusedAndChecksAreBounded(t *testing.T) {
	w := openWatch(t, filepath.Join(t.TempDir(), "watch.db"))
	var c tocsin.ReportChange
	for n := range mostRefused + 5 {
		c.Refused = append(c.Refused, tocsin.RefusedReport{Addr: netip.MustParseAddr("1.2.3.4"), At: t0, Detail: fmt.Sprint(n)})
	}
	applied(t, w, c)
	got, err := w.Refused(ctx, 10_000)
	if err != nil || len(got) != mostRefused || got[0].Detail != fmt.Sprint(mostRefused+4) {
		t.Errorf("%d refused reports kept, %v", len(got), err)
	}
	a := netip.MustParseAddr("1.2.3.4")
	if err := w.PutChecked(ctx, a, t0, strings.Repeat("x", maxChecked+1)); err == nil {
		t.Error("an answer of any size is kept")
	}
	if err := w.PutChecked(ctx, a, t0, `{"score":3}`); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		since time.Time
		want  string
	}{{t0, `{"score":3} true`}, {t0.Add(1000), " false"}} {
		answer, at, ok, err := w.Checked(ctx, a, tt.since)
		if got := fmt.Sprint(answer, " ", ok); got != tt.want || err != nil || ok && !at.Equal(t0) {
			t.Errorf("since %s: %q at %s, %v, want %q", tt.since, got, at, err, tt.want)
		}
	}
	if err := w.DropChecked(ctx, a); err != nil {
		t.Fatal(err)
	}
	if _, _, ok, _ := w.Checked(ctx, a, t0); ok {
		t.Error("not forgotten")
	}
}

func TestWatchDamaged(t *testing.T) {
	tests := []struct {
		name   string
		damage func(path string, b []byte) error
	}{
		{"truncated", func(path string, b []byte) error { return os.Truncate(path, int64(len(b)/2)) }},
		{"all garbage", func(path string, b []byte) error { return os.WriteFile(path, noise(len(b)), 0o600) }},
		{"a newer version", func(path string, _ []byte) error { return pragma(path, "user_version = 999") }},
		{"the guard's", func(path string, _ []byte) error {
			return pragma(path, fmt.Sprintf("application_id = %d", applicationID))
		}},
	}
	for _, tt := range tests {
		path := filepath.Join(t.TempDir(), "watch.db")
		w := openWatch(t, path)
		var c tocsin.ReportChange
		for n := range 500 {
			c.Put = append(c.Put, tocsin.QueuedReport{Addr: netip.AddrFrom4([4]byte{1, 2, byte(n >> 8), byte(n)}), Report: aReport(n)})
		}
		applied(t, w, c)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := tt.damage(path, b); err != nil {
			t.Fatal(err)
		}
		w = openWatch(t, path)
		if !strings.HasPrefix(w.MovedAside(), path+".corrupt-20") {
			t.Errorf("%s: moved aside to %q", tt.name, w.MovedAside())
		}
		if s := reports(t, w); len(s.Queued) != 0 {
			t.Errorf("%s: %d reports", tt.name, len(s.Queued))
		}
		w.Close()
	}
}

// A file that is removed while it is in use is begun anew, and whoever writes is told that nothing is kept any more.
func TestWatchRemovedWhileOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "watch.db")
	w := openWatch(t, path)
	applied(t, w, tocsin.ReportChange{Numbers: map[string]int64{"cursor": 7}})
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	c := tocsin.ReportChange{Numbers: map[string]int64{"sent": 1}}
	if renewed, err := w.Apply(ctx, c); !renewed || err != nil {
		t.Fatalf("renewed %v, %v", renewed, err)
	}
	applied(t, w, tocsin.ReportChange{Numbers: map[string]int64{"cursor": 8, "sent": 1}})
	w.Close()
	w = openWatch(t, path)
	if s := reports(t, w); !reflect.DeepEqual(s.Numbers, map[string]int64{"cursor": 8, "sent": 1}) {
		t.Errorf("kept %v", s.Numbers)
	}
}
