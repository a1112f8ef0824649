package filter

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"tocsin"
	"tocsin/internal/fail2ban"
)

// connections is a filter of a daemon that ties its lines together by a number in brackets.
func connections() fail2ban.Filter {
	return fail2ban.Filter{
		Prefregex: list(`^<F-MLFID> d\[\d+\]</F-MLFID>: <F-CONTENT>.+</F-CONTENT>$`)[0],
		Failregex: list(
			`^bad <F-USER>\w+</F-USER>(?: from <ADDR>)?$`,
			`^<F-NOFAIL>help</F-NOFAIL> <ADDR>$`,
			`^<F-NOFAIL>user</F-NOFAIL> <F-USER>\w+</F-USER>$`,
			`^<F-MLFGAINED>in</F-MLFGAINED> <F-USER>\w+</F-USER>(?: <ADDR> <F-PORT/>)?$`,
			`^<F-MLFFORGET><F-MLFENDED>out</F-MLFENDED></F-MLFFORGET>(?: <ADDR>)?$`,
			`^<F-NOFAIL><F-MLFFORGET>close</F-MLFFORGET></F-NOFAIL> <ADDR>$`,
			`^<F-MLFFORGET>reset</F-MLFFORGET>(?: <ADDR>)?$`,
			`^<F-NOFAIL><F-MLFONCE>gone</F-MLFONCE></F-NOFAIL> <ADDR>$`,
		),
	}
}

func TestSessions(t *testing.T) {
	const a, b = "192.0.2.1", "192.0.2.2"
	tests := []struct{ name, lines, want string }{
		{"helper names the peer", "help " + a + "|bad x", "helper|failed 192.0.2.1 user=x context=1"},
		{"failure waits for its peer", "bad x|help " + a, "helper|failed 192.0.2.1 user=x context=1"},
		{"two wait", "bad x|bad x|help " + a, "helper|helper|failed 192.0.2.1 user=x context=2"},
		{"delivered once", "bad x|help " + a + "|help " + a, "helper|failed 192.0.2.1 user=x context=1|helper"},
		{"each failure counts", "help " + a + "|bad x|bad x", "helper|failed 192.0.2.1 user=x context=1|failed 192.0.2.1 user=x"},
		{"end names the peer", "bad x|close " + a, "helper|failed 192.0.2.1 user=x context=1"},
		{"end alone is no failure", "close " + a, "helper"},
		{"end of a session forgets it", "help " + a + "|close " + a + "|bad x", "helper|helper|helper"},
		{"failure that ends", "user x|reset " + a, "helper|failed 192.0.2.1 user=x context=1"},
		{"failure that ends without a peer", "user x|reset", "helper|helper"},
		{"failure that ends alone", "reset " + a, "failed 192.0.2.1"},
		{"success", "help " + a + "|in x", "helper|logged in 192.0.2.1 port=0 user=x"},
		{"success forgives what waits", "bad x|in x " + a + " 42|help " + a, "helper|logged in 192.0.2.1 port=42 user=x|helper"},
		{"success of a second user", "bad x|in y " + a + " 42", "helper|failed 192.0.2.1 user=y port=42 context=1"},
		{"end of a login", "in x " + a + " 42|out", "logged in 192.0.2.1 port=42 user=x|logged out 192.0.2.1 port=42 user=x"},
		{"end of an unknown login", "out", "helper"},
		{"end of an unknown login with its peer", "out " + a, "logged out 192.0.2.1 port=0 user="},
		{"another peer, same number", "help " + a + "|bad x from " + b, "helper|failed 192.0.2.2 user=x"},
		{"another peer does not inherit", "bad x from " + a + "|help " + b, "failed 192.0.2.1 user=x|helper"},
		{"IPv6 after IPv4", "help " + a + "|bad x from 2001:db8::1", "helper|failed 2001:db8::1 user=x"},
		{"id that is no address", "help 999.1.1.1|bad x", "helper|bad id 999.1.1.1 no address user=x context=1"},
		{"once", "gone " + a, "failed 192.0.2.1"},
		{"once, after a failure", "bad x from " + a + "|gone " + a, "failed 192.0.2.1 user=x|helper"},
		{"once, after what waits", "bad x|gone " + a, "helper|failed 192.0.2.1 user=x context=1"},
		{"once, then again", "gone " + a + "|gone " + a, "failed 192.0.2.1|helper"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := mustNew(t, connections(), Options{})
			var got []string
			for line := range strings.SplitSeq(tt.lines, "|") {
				got = append(got, told(f.Line(record("Nov 22 10:00:00 d[7]: "+line))))
			}
			if s := strings.Join(got, "|"); s != tt.want {
				t.Errorf("lines %q are\n%q, want\n%q", tt.lines, s, tt.want)
			}
		})
	}
}

func TestSessionsEndWithTime(t *testing.T) {
	tests := []struct{ name, first, second, want string }{
		{"in time", "10:00:00", "10:05:00", "failed 192.0.2.1 user=x context=1"},
		{"a second late", "10:00:00", "10:05:01", "helper"},
		{"clock set back a little", "10:05:00", "10:00:00", "failed 192.0.2.1 user=x context=1"},
		{"clock set back", "10:05:01", "10:00:00", "helper"},
	}
	for _, tt := range tests {
		f := mustNew(t, connections(), Options{})
		f.Line(record("Nov 22 " + tt.first + " d[7]: bad x"))
		if got := told(f.Line(record("Nov 22 " + tt.second + " d[7]: help 192.0.2.1"))); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestSessionsAreApart(t *testing.T) {
	f := mustNew(t, connections(), Options{})
	f.Line(record("Nov 22 10:00:00 d[7]: bad x"))
	f.Line(record("Nov 22 10:00:00 d[8]: bad y"))
	if got := told(f.Line(record("Nov 22 10:00:00 d[8]: help 192.0.2.8"))); got != "failed 192.0.2.8 user=y context=1" {
		t.Errorf("session 8 told %q", got)
	}
	res := f.Line(record("Nov 22 10:00:00 d[7]: help 192.0.2.7"))
	if got := told(res); got != "failed 192.0.2.7 user=x context=1" || res.Failure.Context[0].Text != "Nov 22 10:00:00 d[7]: bad x" {
		t.Errorf("session 7 told %q", got)
	}
}

func TestSessionsAreBounded(t *testing.T) {
	f := mustNew(t, connections(), Options{})
	for i := range maxSessions + 10 {
		f.Line(record(fmt.Sprintf("Nov 22 10:00:00 d[%d]: bad x", i)))
	}
	s := f.Stats()
	if s.Sessions != maxSessions || s.Dropped != 10 || s.Nameless != 10 {
		t.Errorf("%d sessions, %d dropped, %d failures lost; want %d, 10, 10", s.Sessions, s.Dropped, s.Nameless, maxSessions)
	}
	if got := f.Line(record("Nov 22 10:00:00 d[9]: help 192.0.2.1")).Kind; got != Helper {
		t.Errorf("the oldest session is still there: %v", got)
	}
	if got := f.Line(record("Nov 22 10:00:00 d[12]: help 192.0.2.1")).Kind; got != Failed {
		t.Errorf("the oldest session that fits is gone: %v", got)
	}
}

func TestSessionsOfLongLinesAreBounded(t *testing.T) {
	f := mustNew(t, connections(), Options{})
	long := strings.Repeat("x", maxLine-100)
	for i := range 2000 {
		f.Line(record(fmt.Sprintf("Nov 22 10:00:00 d[%d]: user %s", i, long)))
	}
	s := f.Stats()
	if f.sessions.bytes > maxSessionBytes || s.Dropped == 0 || s.Sessions+int(s.Dropped) != 2000 {
		t.Errorf("%d bytes in %d sessions, %d dropped; want at most %d bytes", f.sessions.bytes, s.Sessions, s.Dropped, maxSessionBytes)
	}
	f.sessions.get(nil, noon().Add(time.Hour))
	if f.sessions.bytes != 0 || f.sessions.n != 0 {
		t.Errorf("%d bytes in %d sessions after an hour", f.sessions.bytes, f.sessions.n)
	}
}

func TestSessionKeepsTheLastLines(t *testing.T) {
	f := mustNew(t, connections(), Options{})
	for i := range maxContext + 5 {
		f.Line(record(fmt.Sprintf("Nov 22 10:00:%02d d[7]: bad x", i)))
	}
	ctx := f.Line(record("Nov 22 10:00:30 d[7]: help 192.0.2.1")).Failure.Context
	if len(ctx) != maxContext || !strings.HasPrefix(ctx[0].Text, "Nov 22 10:00:05") {
		t.Errorf("%d lines, from %q; want %d from the sixth on", len(ctx), ctx[0].Text, maxContext)
	}
}

// Context is the receiver's: the session's parts are used again.
func TestContextOutlivesTheSession(t *testing.T) {
	f := mustNew(t, connections(), Options{})
	f.Line(record("Nov 22 10:00:00 d[7]: bad x"))
	ctx := f.Line(record("Nov 22 10:00:00 d[7]: close 192.0.2.1")).Failure.Context
	f.Line(record("Nov 22 10:00:01 d[8]: bad y"))
	want := []tocsin.Line{{Source: "file:test.log", Pos: tocsin.Position{File: 1, Offset: 42}, At: noon().Add(-2 * time.Hour), Text: "Nov 22 10:00:00 d[7]: bad x"}}
	if fmt.Sprint(ctx) != fmt.Sprint(want) {
		t.Errorf("context %v, want %v", ctx, want)
	}
}

// A filter whose lines nobody reads blames the same people, and keeps nothing of a record whose text is overwritten.
func TestNoLines(t *testing.T) {
	whole, bare := mustNew(t, connections(), Options{}), mustNew(t, connections(), Options{NoLines: true})
	r := rand.New(rand.NewPCG(5, 6))
	said := []string{"bad x", "bad yy from 192.0.2.1", "help 192.0.2.2", "help 2001:db8::1", "user zzz", "in x", "in yy 192.0.2.1 42", "out",
		"out 192.0.2.1", "close 192.0.2.2", "reset", "gone 192.0.2.1"}
	at := noon().Add(-time.Hour)
	var buf []byte
	for i := range 5000 {
		at = at.Add(time.Duration(r.IntN(500)) * time.Millisecond)
		line := fmt.Sprintf("%s d[%d]: %s", at.Format(time.Stamp), r.IntN(9), said[r.IntN(len(said))])
		buf = append(buf[:0], line...)
		want, got := whole.Line(record(line)), bare.Line(&tocsin.Record{Source: "file:test.log", Pos: tocsin.Position{File: 1, Offset: 42}, Text: buf})
		if f := want.Failure; f != nil {
			f.Line.Text, f.Context, f.Fields = "", nil, nil
		}
		if fmt.Sprintf("%v %d %v %v", got.Kind, got.Rule, got.Failure, got.Login) != fmt.Sprintf("%v %d %v %v", want.Kind, want.Rule, want.Failure, want.Login) {
			t.Fatalf("line %d, %q, is %v %+v, want %v %+v", i, line, told(got), got.Failure, told(want), want.Failure)
		}
	}
	if whole.Stats() != bare.Stats() || whole.Stats().Failures == 0 {
		t.Errorf("stats %+v, want %+v", bare.Stats(), whole.Stats())
	}
}
