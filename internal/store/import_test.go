package store

import (
	"testing"
	"time"

	"tocsin"
)

// imported makes the nth ban as another program took it, that long before t0 and for so long.
func imported(n int, ago, length time.Duration) tocsin.Decision {
	d := ban(n, 2)
	d.At, d.Trigger = t0.Add(-ago), tocsin.Line{}
	d.Until = d.At.Add(length)
	return d
}

// TestImport: importing twice adds nothing, what is over ends nothing, what is in force takes the place of what was.
func TestImport(t *testing.T) {
	s := fresh(t)
	own := imported(1, time.Minute, time.Hour) // runs here already
	put(t, s, own)
	ds := []tocsin.Decision{
		imported(1, time.Hour, time.Minute), // a former one of the same address
		imported(2, time.Minute, time.Hour),
		imported(3, time.Hour, time.Minute),
	}
	for _, want := range []int{3, 0} {
		if added, err := s.Import(ctx, t0, ds); added != want || err != nil {
			t.Errorf("added %d, %v; want %d", added, err, want)
		}
	}
	active, err := s.Active(t0)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]time.Time{}
	for _, d := range active {
		got[d.ID] = d.Until
	}
	if len(got) != 2 || !got[own.ID].Equal(own.Until) || !got[ds[1].ID].Equal(ds[1].Until) {
		t.Errorf("in force: %v; want %s and %s to their ends", got, own.ID, ds[1].ID)
	}
	if all := bans(t, s, Query{WithEvidence: true}); len(all) != 4 || len(all[3].Evidence) != 2 {
		t.Errorf("%d bans: %+v", len(all), all)
	}

	longer := imported(1, time.Second, 24*time.Hour)
	if added, err := s.Import(ctx, t0, []tocsin.Decision{longer}); added != 1 || err != nil {
		t.Fatalf("added %d, %v", added, err)
	}
	all := bans(t, s, Query{Addr: own.Prefix.Addr()})
	if len(all) != 3 || !all[0].Ended.IsZero() || all[1].Ended.IsZero() {
		t.Errorf("the longer ban does not take the place of the one here: %+v", all)
	}
}

func TestImportMany(t *testing.T) {
	s := fresh(t)
	ds := make([]tocsin.Decision, 2*importStep+1)
	for i := range ds {
		ds[i] = imported(i, time.Minute, time.Hour)
	}
	if added, err := s.Import(ctx, t0, ds); added != len(ds) || err != nil {
		t.Errorf("added %d, %v", added, err)
	}
	if active, err := s.Active(t0); len(active) != len(ds) || err != nil {
		t.Errorf("%d in force, %v", len(active), err)
	}
}
