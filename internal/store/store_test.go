package store

import (
	"context"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"tocsin"
)

func TestSmoke(t *testing.T) {
	s, err := Open(filepath.Join(t.TempDir(), "x% ?#.db"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	d := tocsin.Decision{Jail: "sshd", ID: "192.0.2.1/32", Prefix: netip.MustParsePrefix("192.0.2.1/32"), At: now, Until: now.Add(time.Hour), Evidence: []tocsin.Evidence{{User: "x\x00\xff", Line: tocsin.Line{Text: "a\x00b\xff"}}}}
	if err := s.Put(context.Background(), d); err != nil {
		t.Fatal(err)
	}
	s.PutMark(Mark{Source: "x", File: 1 << 63})
	s.PutLogin(tocsin.Login{Addr: netip.MustParseAddr("::1"), Opened: true, At: now})
	s.CountFailures(FailureCount{Day: now, Prefix: d.Prefix, N: 2})
	if err := s.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	a, err := s.Active(now)
	t.Logf("%+v %v", a, err)
	b, err := s.Bans(Query{Addr: d.Prefix.Addr(), WithEvidence: true})
	t.Logf("%+v %v", b, err)
	k, err := s.KnownSince(now.Add(-time.Hour))
	t.Logf("%+v %v", k, err)
	m, err := s.Marks("x")
	t.Logf("%+v %v", m, err)
	c, err := s.Failures(d.Prefix.Addr(), now)
	t.Logf("%+v %v", c, err)
	n, err := s.Prune(context.Background(), now.Add(10*time.Hour), Retention{1, 1, 1})
	t.Logf("%+v %v", n, err)
	t.Logf("%+v", s.Stats())
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
