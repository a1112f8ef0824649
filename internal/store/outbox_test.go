package store

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tocsin"
)

func TestOutbox(t *testing.T) {
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "watch.db")
	w := openWatch(t, path)
	now := time.Now().Truncate(time.Microsecond).UTC()
	all := []tocsin.Notice{
		{Contact: "ops", Via: "mail", Incident: 1042, Kind: "opened", Urgency: tocsin.Urgent, Made: now, Due: now, Body: []byte("{}")},
		{Contact: "ops", Via: "ntfy", Incident: 1042, Kind: "opened", Urgency: tocsin.Soon, Made: now, Due: now.Add(time.Hour), Fold: true, Body: []byte{0}},
		{Contact: "ca", Via: "mail", Kind: "digest", Made: now, Due: now, Body: []byte{}},
	}
	if err := w.AddNotices(ctx, all); err != nil {
		t.Fatal(err)
	}
	if all[0].ID == 0 || all[1].ID != all[0].ID+1 || all[2].ID != all[0].ID+2 {
		t.Errorf("numbers %d, %d, %d", all[0].ID, all[1].ID, all[2].ID)
	}
	same := func(what string, got []tocsin.Notice, err error, want ...tocsin.Notice) {
		t.Helper()
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %+v, %v\nwant %+v", what, got, err, want)
		}
	}
	got, err := w.WaitingNotices(ctx)
	same("waiting", got, err, all...)

	all[0].State, all[0].Ended, all[0].Tries, all[0].Said = tocsin.Sent, now.Add(time.Second), 2, "250 ok"
	gone := tocsin.Notice{ID: 999, State: tocsin.Failed, Ended: now}
	if err := w.PutNotices(ctx, []tocsin.Notice{all[0], gone}, []int64{all[2].ID}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	w = openWatch(t, path)
	got, err = w.WaitingNotices(ctx)
	same("waiting after a restart", got, err, all[1])
	got, err = w.EndedNotices(ctx, now)
	same("ended", got, err, all[0])
	got, err = w.EndedNotices(ctx, now.Add(time.Minute))
	same("ended later", got, err)
	got, err = w.NoticesOf(ctx, 1042)
	same("of an incident", got, err, all[0], all[1])
	got, err = w.NoticesOf(ctx, 0)
	same("of none", got, err)
}

func TestOutboxIsBounded(t *testing.T) {
	ctx := context.Background()
	w := openWatch(t, filepath.Join(t.TempDir(), "watch.db"))
	if err := w.AddNotices(ctx, []tocsin.Notice{{Made: t0, Due: t0, Body: make([]byte, maxNotice+1)}}); err == nil || !strings.Contains(err.Error(), "65537") {
		t.Errorf("a huge body: %v", err)
	}
	old := tocsin.Notice{Made: t0, Due: t0, State: tocsin.Sent, Ended: time.Now().Add(-keepEndedFor - time.Hour), Body: []byte{}}
	if err := w.AddNotices(ctx, []tocsin.Notice{old}); err != nil {
		t.Fatal(err)
	}
	if got, err := w.EndedNotices(ctx, time.Unix(0, 0)); err != nil || len(got) != 0 {
		t.Errorf("what ended long ago: %+v, %v", got, err)
	}
	many := make([]tocsin.Notice, mostNotices)
	for i := range many {
		many[i] = tocsin.Notice{Made: t0, Due: t0, Body: []byte{}}
	}
	if err := w.AddNotices(ctx, many); err != nil {
		t.Fatal(err)
	}
	if err := w.AddNotices(ctx, many[:1]); err == nil || !strings.Contains(err.Error(), "10000 notices wait") {
		t.Errorf("one more than the bound: %v", err)
	}
}
