package store

import (
	"path/filepath"
	"reflect"
	"testing"
	"time"
)

func TestRepeatsKeep(t *testing.T) {
	path := filepath.Join(t.TempDir(), "watch.db")
	w := openWatch(t, path)
	if err := w.PutKnown(ctx, []KnownNode{{Group: "TTN", Node: "mail1"}, {Node: "web1"}}, nil); err != nil {
		t.Fatal(err)
	}
	mail := Repeats{Group: "TTN", Node: "mail1", At: t0, Found: [][2]string{{"sympa", "postfix_mailvolume"}, {"mailgraph", "postfix"}}}
	web := Repeats{Node: "web1", At: t0.Add(time.Hour)}
	for _, r := range []Repeats{{Group: "TTN", Node: "mail1", At: t0, Found: [][2]string{{"x", "y"}}}, mail, web, {Node: "stranger", At: t0}} {
		if err := w.PutRepeats(ctx, &r); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.PutRepeats(ctx, &Repeats{Node: "web1", Found: [][2]string{{"a\nb", "c"}}}); err == nil {
		t.Error("a name of two lines was kept")
	}
	w.Close()
	w = openWatch(t, path)
	got, err := w.Repeats(ctx)
	if want := []Repeats{web, mail}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("repeats %+v, %v; want %+v", got, err, want)
	}
	if _, err := w.ForgetNode(ctx, "TTN", "mail1"); err != nil {
		t.Fatal(err)
	}
	if got, err := w.Repeats(ctx); err != nil || len(got) != 1 {
		t.Errorf("repeats of a node that was forgotten: %+v, %v", got, err)
	}
}
