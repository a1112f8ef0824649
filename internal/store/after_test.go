package store

import (
	"database/sql"
	"fmt"
	"net/netip"
	"path/filepath"
	"testing"
	"time"
)

func TestAfter(t *testing.T) {
	s := fresh(t)
	if all, newest, err := s.After(0, time.Time{}, 10); err != nil || len(all) != 0 || newest != 0 {
		t.Fatalf("an empty store: %v, newest %d, %v", all, newest, err)
	}
	first, second := ban(1, 3), ban(2, 0)
	first.Addr = netip.MustParseAddr("10.0.0.1")
	first.Evidence[2].At = first.At.Add(41 * time.Second)
	put(t, s, first, second, unban(first, time.Minute))

	all, newest, err := s.After(0, time.Time{}, 10)
	if err != nil || len(all) != 3 || newest != 3 {
		t.Fatalf("After(0) = %d decisions, newest %d, %v; want 3 of 3", len(all), newest, err)
	}
	for i := range all {
		if all[i].N != int64(i+1) || len(all[i].Evidence) != 0 {
			t.Errorf("decision %d has number %d and %d lines, want its place and none", i, all[i].N, len(all[i].Evidence))
		}
	}
	if got := all[0]; got.Addr != first.Addr || !got.First.Equal(first.At) || !got.Last.Equal(first.At.Add(41*time.Second)) {
		t.Errorf("the first: who failed %v, from %v to %v", got.Addr, got.First, got.Last)
	}
	if got := all[1]; got.Addr.IsValid() || !got.First.IsZero() || !got.Last.IsZero() {
		t.Errorf("one without evidence: who failed %v, from %v to %v", got.Addr, got.First, got.Last)
	}
	tests := []struct {
		after int64
		since time.Time
		limit int
		want  []int64
	}{
		{0, time.Time{}, 2, []int64{1, 2}},
		{1, time.Time{}, 2, []int64{2, 3}},
		{3, time.Time{}, 2, nil},
		{0, second.At, 10, []int64{2, 3}},
		{0, second.At.Add(time.Hour), 10, nil},
	}
	for _, tt := range tests {
		all, _, err := s.After(tt.after, tt.since, tt.limit)
		var got []int64
		for _, d := range all {
			got = append(got, d.N)
		}
		if fmt.Sprint(got) != fmt.Sprint(tt.want) || err != nil {
			t.Errorf("After(%d, %v, %d) = %v, %v; want %v", tt.after, tt.since, tt.limit, got, err, tt.want)
		}
	}
}

// A file of the first version is taken over with all that is in it.
func TestFirstVersion(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf(`%s PRAGMA application_id = %d; PRAGMA user_version = 1;
		INSERT INTO decision (jail, id, prefix, verdict, ports, proto, action, origin, reason, by, at, until, failures, source, file, "offset", line_at, once, lines)
		VALUES ('sshd', '192.0.2.7', X'C000020720', 0, '22', 0, 0, 0, 'five', '', %d, %d, 5, 'file:a', 1, 2, 3, 0, 0)`,
		migrations[0], applicationID, t0.UnixMicro(), t0.Add(time.Hour).UnixMicro())
	if _, err := db.Exec(script); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	s := open(t, path, Options{})
	if name := s.MovedAside(); name != "" {
		t.Fatalf("the file was moved aside to %s", name)
	}
	put(t, s, ban(2, 1))
	bs, err := s.Active(t0)
	if err != nil || len(bs) != 2 || bs[0].Addr.IsValid() || bs[1].Addr.IsValid() {
		t.Errorf("bans in force %+v, %v; want the old one and the new one, without an address of who failed", bs, err)
	}
}
