package store

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func openHub(t testing.TB, path string) *Hub {
	t.Helper()
	h, err := OpenHub(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

var hubNow = time.Now().Unix()

// aHubReport is report n of a reporter about 192.0.2.key, so many seconds ago.
func aHubReport(n int, reporter uint32, key byte, ago int64) HubReport {
	r := HubReport{Reporter: reporter, Key: uint64(key), Addr: netip.AddrFrom4([4]byte{192, 0, 2, key}), At: hubNow - ago, Received: hubNow, Cats: 1 << 18, Quality: 255, Comment: fmt.Sprint("report ", n)}
	copy(r.ID[:], fmt.Sprintf("%016d", n))
	return r
}

func putAll(t *testing.T, h *Hub, reports ...HubReport) []Kept {
	t.Helper()
	kept, err := h.Put(reports)
	if err != nil {
		t.Fatal(err)
	}
	return kept
}

func evidence(t *testing.T, h *Hub) (all []HubEvidence) {
	t.Helper()
	var failed error
	for e := range h.Evidence(&failed) {
		all = append(all, e)
	}
	if failed != nil {
		t.Fatal(failed)
	}
	return all
}

func TestHubMembers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sub", "hub.db")
	h := openHub(t, path)
	made := time.UnixMicro(time.Now().UnixMicro()).UTC()
	want := Org{Name: "a", Kind: 1, ASN: 64500, Country: "FR", Made: made}
	var ok bool
	var err error
	if want.ID, ok, err = h.AddOrg(want); !ok || err != nil || want.ID == 0 {
		t.Fatal(want.ID, ok, err)
	}
	if _, ok, err := h.AddOrg(Org{Name: "a"}); ok || err != nil {
		t.Error("a second organisation of the same name", ok, err)
	}
	k := Key{Org: want.ID, Name: "web1", Scope: "read,report", Plan: "standard", Quota: "check=5", Hash: [32]byte{1}, Pseudonym: 77, Made: made, Good: 1, Bad: 2, Day: 3}
	if k.ID, ok, err = h.AddKey(k); !ok || err != nil {
		t.Fatal(ok, err)
	}
	for _, other := range []Key{{Org: want.ID, Name: "web1", Pseudonym: 1}, {Org: want.ID, Name: "web2", Pseudonym: 77, Hash: [32]byte{2}}} {
		if _, ok, err := h.AddKey(other); ok || err != nil {
			t.Errorf("%+v: %v, %v", other, ok, err)
		}
	}
	if err := h.SaveState(HubState{Day: 9, Trust: []HubTrust{{k.ID, 10, 20, 30}}}, 0); err != nil {
		t.Fatal(err)
	}
	if ok, err := h.RevokeKey(k.ID, made.Add(time.Hour)); !ok || err != nil {
		t.Error(ok, err)
	}
	if ok, err := h.RevokeKey(k.ID, made); ok || err != nil {
		t.Error("revoked twice", ok, err)
	}
	k.Good, k.Bad, k.Day, k.Revoked = 10, 20, 30, made.Add(time.Hour)
	if err := h.Note(Action{At: made, Who: "root", What: "key", About: "a"}); err != nil {
		t.Error(err)
	}
	h.Close()
	h = openHub(t, path)
	if all, err := h.Orgs(); err != nil || !reflect.DeepEqual(all, []Org{want}) {
		t.Errorf("organisations %+v, %v", all, err)
	}
	if all, err := h.Keys(); err != nil || !reflect.DeepEqual(all, []Key{k}) {
		t.Errorf("keys %+v, %v\nwant %+v", all, err, k)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Error(fi.Mode(), err)
	}
}

func TestHubWindow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hub.db")
	h := openHub(t, path)
	const old = 40 * 86400
	n := 0
	put := func(want Kept, reporter uint32, key byte, ago int64) {
		t.Helper()
		n++
		if got := putAll(t, h, aHubReport(n, reporter, key, ago)); got[0] != want {
			t.Errorf("report %d, of %d about %d, %d s ago: %d, want %d", n, reporter, key, ago, got[0], want)
		}
	}
	steps := func() {
		put(KeptDuplicate, 1, 7, 60)
		put(KeptDuplicate, 1, 7, 899)
		put(KeptDuplicate, 1, 7, 0)
		put(KeptDuplicate, 1, 7, old-1)
		put(KeptDuplicate, 1, 7, old+899)
	}
	put(KeptNew, 1, 7, 901+60) // newest last, so that older ones are out of order
	put(KeptNew, 1, 7, 60)
	put(KeptNew, 1, 7, old)
	put(KeptNew, 2, 7, 60)
	put(KeptNew, 1, 8, 60)
	put(KeptDuplicate, 1, 7, 961)
	steps()
	h.Close()
	h = openHub(t, path)
	steps()
	put(KeptNew, 1, 7, old+900)
	again := aHubReport(n, 3, 9, 5*86400)
	if got := putAll(t, h, again); got[0] != KeptKnown {
		t.Errorf("a report with an ID that is there: %d", got[0])
	}
	test := aHubReport(n+1, 1, 7, 0)
	test.Always = true
	if got := putAll(t, h, test); got[0] != KeptNew {
		t.Errorf("a test report: %d", got[0])
	}
	one, two := aHubReport(n+2, 5, 5, 10), aHubReport(n+3, 5, 5, 5)
	if got := putAll(t, h, one, two); !slices.Equal(got, []Kept{KeptNew, KeptDuplicate}) {
		t.Errorf("two in one call: %v", got)
	}
}

func TestHubWindowForgetsAndAsks(t *testing.T) {
	const begin = 1_800_000_000
	w := window{}
	w.turn(begin)
	r := aHubReport(1, 1, 7, 0)
	r.At, r.Received = begin, begin
	w.note(&r)
	w.undo()
	if got := w.ask(&r); got != no {
		t.Errorf("undone: %d", got)
	}
	w.note(&r)
	w.done()
	w.turn(begin + 2*ReportWindow)
	if r.At = begin + 100; w.ask(&r) != yes {
		t.Error("forgotten after one turn")
	}
	w.turn(begin + 4*ReportWindow)
	r.Received = begin + 4*ReportWindow
	if r.At = r.Received; w.ask(&r) != no {
		t.Error("not forgotten after two turns")
	}
	w.lost = r.Received - 5
	if w.ask(&r) != unknown {
		t.Error("after too much was forgotten the disk has to be asked")
	}
}

func TestHubReports(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hub.db")
	h := openHub(t, path)
	putAll(t, h, aHubReport(1, 1, 7, 100), aHubReport(2, 2, 7, 50), aHubReport(3, 1, 8, 0), aHubReport(4, 1, 7, 2*86400))
	silent := aHubReport(5, 1, 7, 3*86400)
	silent.Comment, silent.Cats, silent.Public = "", 1<<22, true
	putAll(t, h, silent)
	for range 2 {
		all, total, err := h.Reports(7, hubNow-86400*5, 3, 1)
		want := []ToldReport{{hubNow - 100, 1 << 18, "report 1", 1}, {hubNow - 2*86400, 1 << 18, "report 4", 1}, {hubNow - 3*86400, 1 << 22, "", 1}}
		if err != nil || total != 4 || !reflect.DeepEqual(all, want) {
			t.Errorf("%d reports, %+v, %v", total, all, err)
		}
		if a, ok, err := h.LastAddr(7); !ok || err != nil || a.String() != "192.0.2.7" {
			t.Error(a, ok, err)
		}
		if all, err := h.Span(0, 7, hubNow-86400*2-1, 10); err != nil || !reflect.DeepEqual(all, []HubTotal{{7, 3, hubNow - 50}}) {
			t.Errorf("%+v, %v", all, err)
		}
		found := evidence(t, h)
		if len(found) != 5 || found[0].Key != 7 || found[0].Reporter != 1 || !found[0].Public || found[0].At != hubNow-3*86400 || found[0].Count != 1 {
			t.Errorf("evidence %+v", found)
		}
		h.Close()
		h = openHub(t, path)
	}
	if fresh, err := h.Fresh(); err != nil || !slices.Equal(fresh, []uint64{7, 8}) {
		t.Error(fresh, err)
	}
	s := HubState{Day: 20000, Listings: []HubListing{{7, 1, 2, 3, 4, [2]uint32{5, 6}, 7, true}}, Brakes: []HubBrake{{[2]uint32{1, 2}, 3, 4, 5, 6}}, Quotas: []HubQuota{{1, "check", 20000, 7}}}
	if err := h.SaveState(s, 4); err != nil {
		t.Fatal(err)
	}
	if got, err := h.State(); err != nil || !reflect.DeepEqual(got, s) {
		t.Errorf("state %+v, %v", got, err)
	}
	if fresh, err := h.Fresh(); err != nil || !slices.Equal(fresh, []uint64{7}) {
		t.Error(fresh, err)
	}
	if err := h.SaveState(HubState{Gone: []uint64{7}}, 5); err != nil {
		t.Fatal(err)
	}
	if got, err := h.State(); err != nil || len(got.Listings)+len(got.Brakes) != 0 || len(got.Quotas) != 1 {
		t.Errorf("state %+v, %v", got, err)
	}
	if n, err := h.Newest(); n != 5 || err != nil {
		t.Error(n, err)
	}
	if n, err := h.Retract(1, 7); n != 3 || err != nil {
		t.Error(n, err)
	}
	if _, total, err := h.Reports(7, 0, 10, 0); total != 1 || err != nil || len(evidence(t, h)) != 2 {
		t.Errorf("%d reports are left, %v, %+v", total, err, evidence(t, h))
	}
	var comments int
	if err := h.f.conn.QueryRowContext(t.Context(), `SELECT count(*) FROM comment`).Scan(&comments); err != nil || comments != 2 {
		t.Error(comments, err)
	}
}

func TestHubPrune(t *testing.T) {
	h := openHub(t, filepath.Join(t.TempDir(), "hub.db"))
	day := func(n int64) int64 { return n * 86400 }
	reports := []HubReport{aHubReport(1, 1, 7, day(1)), aHubReport(2, 1, 7, day(31)), aHubReport(3, 1, 7, day(91)), aHubReport(4, 2, 7, day(91)), aHubReport(5, 2, 7, day(400))}
	for i := range reports {
		reports[i].Received = reports[i].At
	}
	putAll(t, h, reports...)
	keep := HubKeeps{Comments: 30 * 24 * time.Hour, Names: 90 * 24 * time.Hour, Counts: 365 * 24 * time.Hour}
	for range 2 {
		if err := h.Prune(t.Context(), keep, time.Unix(hubNow, 0)); err != nil {
			t.Fatal(err)
		}
		all, total, err := h.Reports(7, 0, 10, 0)
		if err != nil || total != 2 || all[0].Comment != "report 1" || all[1].Comment != "" {
			t.Errorf("%d reports, %+v, %v", total, all, err)
		}
		got := evidence(t, h)
		want := []HubEvidence{{Key: 7, At: hubNow - day(91), Count: 2}, {7, 1, hubNow - day(31), 1, 1 << 18, 255, false}, {7, 1, hubNow - day(1), 1, 1 << 18, 255, false}}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("evidence %+v\nwant %+v", got, want)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.Prune(ended, keep, time.Unix(hubNow, 0)); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// Many wait at once; each is told of its own.
func TestHubTogether(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hub.db")
	h := openHub(t, path)
	var wg sync.WaitGroup
	for g := range 40 {
		wg.Go(func() {
			for i := range 20 {
				n := g*20 + i
				want := KeptNew
				if i%2 == 1 {
					n--
					want = KeptDuplicate
				}
				kept, err := h.Put([]HubReport{aHubReport(n+i%2*1000, uint32(n), byte(n%200), 0)})
				if err != nil || kept[0] != want {
					t.Errorf("%d.%d: %v, %v", g, i, kept, err)
				}
			}
		})
	}
	wg.Wait()
	h.Close()
	if _, err := h.Put([]HubReport{aHubReport(9999, 1, 1, 0)}); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	h = openHub(t, path)
	if n, err := h.Newest(); n != 400 || err != nil {
		t.Errorf("%d reports are kept, %v", n, err)
	}
}

func TestHubFileAtFault(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "hub.db")
	if err := os.WriteFile(path, []byte(strings.Repeat("this is no database. ", 500)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenHub(path, nil); err == nil || !strings.Contains(err.Error(), "move it away") {
		t.Errorf("what is no file of a hub: %v", err)
	}
	if text, err := os.ReadFile(path); err != nil || !strings.HasPrefix(string(text), "this is no database") {
		t.Error("it was touched", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	h := openHub(t, path)
	if err := h.Down(); err != nil {
		t.Error(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if h.Down() == nil {
		t.Error("the file is gone, and nobody says so")
	}
	if _, err := h.Put([]HubReport{aHubReport(1, 1, 7, 0)}); err == nil {
		t.Error("kept in a file that is gone")
	}
	if got := h.window.ask(&HubReport{Reporter: 1, Addr: netip.MustParseAddr("192.0.2.7"), At: hubNow, Received: hubNow}); got != no {
		t.Errorf("a report that was not kept counts as one: %d", got)
	}
}

func BenchmarkHubPut(b *testing.B) {
	h := openHub(b, filepath.Join(b.TempDir(), "hub.db"))
	b.ReportAllocs()
	n := 0
	batch := make([]HubReport, 100)
	for b.Loop() {
		for i := range batch {
			n++
			batch[i] = aHubReport(n, uint32(n), byte(n), 0)
		}
		if _, err := h.Put(batch); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "reports/s")
}
