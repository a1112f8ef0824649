package store

import (
	"context"
	"math"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"tocsin"
)

func TestIncidentsSurvive(t *testing.T) {
	ctx, path := context.Background(), filepath.Join(t.TempDir(), "watch.db")
	w, err := OpenWatch(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC().Truncate(time.Microsecond)
	disk := tocsin.Incident{
		ID: 41, Key: "disk|Gandi|web1|df|x", Rule: "disk", Group: "Gandi", Node: "web1",
		Series: tocsin.Series{Group: "Gandi", Node: "web1", Service: "df", Field: "x"},
		Level:  tocsin.Warning, Worst: tocsin.Critical, Urgency: tocsin.Soon, Value: 91.5, Limit: ":90", Label: "/var", Extra: "\x1b[31m<b>",
		Full: now.Add(time.Hour), Began: now.Add(-time.Hour), Changed: now,
		Ack: tocsin.Ack{By: "marie", Note: "on it", At: now, Until: now.Add(2 * time.Hour)},
	}
	storage := tocsin.Incident{
		ID: 42, Key: "storage|Gandi", Rule: "storage", Group: "Gandi", Level: tocsin.Fine, Worst: tocsin.Warning, Value: 3, Limit: ":2",
		Members: []string{"web1", "web2", "web10"}, Began: now.Add(-time.Hour), Changed: now, Ended: now,
	}
	turns := []Turn{
		{Change: tocsin.Change{Incident: disk, Turn: tocsin.Began, At: now, Tell: true, Contacts: []string{"ops", "marie"}, Alias: "le web"}},
		{Change: tocsin.Change{Incident: disk, Turn: tocsin.Acked, At: now}, By: "marie", Note: "on it"},
		{Change: tocsin.Change{Incident: storage, Turn: tocsin.Over, At: now, Tell: true, Contacts: []string{}}},
	}
	if err := w.PutTurns(ctx, turns, []byte("state 1")); err != nil {
		t.Fatal(err)
	}
	if err := w.PutTurns(ctx, nil, []byte("state 2")); err != nil {
		t.Fatal(err)
	}
	if err := w.Handed(ctx, []int64{turns[2].N}); err != nil {
		t.Fatal(err)
	}
	id, err := w.AddSilence(ctx, KnownSilence{Group: "Gandi", Node: "web*", By: "marie", Note: "moving", Made: now, Until: now.Add(time.Hour)})
	if err != nil || id == 0 {
		t.Fatalf("silence: %d, %v", id, err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if w, err = OpenWatch(path, nil); err != nil {
		t.Fatal(err)
	}
	defer w.Close()

	state, last, err := w.AlertState(ctx)
	if string(state) != "state 2" || last != 42 || err != nil {
		t.Errorf("state %q, last %d, %v", state, last, err)
	}
	open, err := w.OpenIncidents(ctx)
	if err != nil || len(open) != 1 || !reflect.DeepEqual(utc(open[0]), disk) {
		t.Errorf("open: %+v, %v, want %+v", open, err, disk)
	}
	ended, err := w.EndedIncidents(ctx, now.Add(-time.Minute), "Gandi", "", 10)
	if err != nil || len(ended) != 1 || !reflect.DeepEqual(utc(ended[0]), storage) {
		t.Errorf("ended: %+v, %v, want %+v", ended, err, storage)
	}
	for _, q := range []struct {
		since       time.Time
		group, node string
	}{{now.Add(time.Second), "", ""}, {time.Time{}, "OVH", ""}, {time.Time{}, "Gandi", "web1"}} {
		if got, err := w.EndedIncidents(ctx, q.since, q.group, q.node, 10); err != nil || len(got) != 0 {
			t.Errorf("ended %+v: %+v, %v, want none", q, got, err)
		}
	}
	in, history, ok, err := w.Incident(ctx, 41)
	if err != nil || !ok || in.Label != "/var" || len(history) != 2 || history[0].Turn != tocsin.Began || history[1].By != "marie" {
		t.Errorf("incident: %+v, %+v, %t, %v", in, history, ok, err)
	}
	if _, _, ok, err := w.Incident(ctx, 40); ok || err != nil {
		t.Errorf("incident 40: %t, %v", ok, err)
	}
	waiting, err := w.WaitingTurns(ctx)
	if err != nil || len(waiting) != 1 || waiting[0].ID != 41 || strings.Join(waiting[0].Contacts, " ") != "ops marie" || waiting[0].Alias != "le web" || waiting[0].Key != disk.Key {
		t.Errorf("waiting: %+v, %v", waiting, err)
	}
	silences, err := w.Silences(ctx, now)
	if err != nil || len(silences) != 1 || silences[0].Node != "web*" || !silences[0].Until.Equal(now.Add(time.Hour)) {
		t.Errorf("silences: %+v, %v", silences, err)
	}
	for i, want := range []bool{true, false} {
		if ok, err := w.EndSilence(ctx, id, now.Add(time.Minute)); ok != want || err != nil {
			t.Errorf("end %d: %t, %v", i+1, ok, err)
		}
	}
	if silences, err = w.Silences(ctx, now.Add(time.Minute)); err != nil || len(silences) != 0 {
		t.Errorf("silences after the end: %+v, %v", silences, err)
	}
}

// What is over for long goes, what is open stays.
func TestOldIncidentsGo(t *testing.T) {
	ctx := context.Background()
	w, err := OpenWatch(filepath.Join(t.TempDir(), "watch.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	long := time.Now().Add(-keepIncidentsFor - time.Hour)
	var turns []Turn
	for id, ended := range []time.Time{{}, long, time.Now(), {}} {
		turns = append(turns, Turn{Change: tocsin.Change{Incident: tocsin.Incident{ID: int64(id + 1), Value: math.NaN(), Began: long, Ended: ended}, At: long}})
	}
	if err := w.PutTurns(ctx, turns, nil); err == nil {
		t.Error("no state was taken for a state")
	}
	if err := w.PutTurns(ctx, turns, []byte{}); err != nil {
		t.Fatal(err)
	}
	if _, last, err := w.AlertState(ctx); err != nil || last != 4 {
		t.Errorf("last %d, %v", last, err)
	}
	for id, want := range []bool{false, true, false, true, true} {
		in, history, ok, err := w.Incident(ctx, int64(id))
		if err != nil || ok != want || ok && len(history) != 1 || ok && !math.IsNaN(in.Value) {
			t.Errorf("incident %d: %t, %d turns, %v; want %t", id, ok, len(history), err, want)
		}
	}
}

func utc(in tocsin.Incident) tocsin.Incident {
	for _, t := range []*time.Time{&in.Full, &in.Began, &in.Changed, &in.Ended, &in.Ack.At, &in.Ack.Until} {
		if !t.IsZero() {
			*t = t.UTC()
		}
	}
	return in
}

// TestIncidentsAreForgottenMeanwhile: a process that runs for a year does not keep all that happened.
func TestIncidentsAreForgottenMeanwhile(t *testing.T) {
	w, err := OpenWatch(filepath.Join(t.TempDir(), "watch.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	long := time.Now().Add(-keepIncidentsFor - time.Hour)
	old := Turn{Change: tocsin.Change{Incident: tocsin.Incident{ID: 1, Key: "old", Rule: "disk", Began: long, Ended: long}, Turn: tocsin.Over, At: long}}
	if err := w.PutTurns(t.Context(), []Turn{old}, []byte{}); err != nil {
		t.Fatal(err)
	}
	fresh := Turn{Change: tocsin.Change{Incident: tocsin.Incident{ID: 2, Key: "new", Rule: "disk", Began: time.Now()}, Turn: tocsin.Altered, At: time.Now()}}
	if err := w.PutTurns(t.Context(), slices.Repeat([]Turn{fresh}, pruneTurns-2), []byte{}); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		after string
		known bool
	}{{"a few turns", true}, {"many turns", false}} {
		if _, _, ok, err := w.Incident(t.Context(), 1); ok != tt.known || err != nil {
			t.Errorf("after %s the old one is known: %v, %v", tt.after, ok, err)
		}
		if err := w.PutTurns(t.Context(), []Turn{fresh}, []byte{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, turns, ok, err := w.Incident(t.Context(), 2); !ok || len(turns) == 0 || err != nil {
		t.Errorf("the new one: %d turns, %v, %v", len(turns), ok, err)
	}
}
