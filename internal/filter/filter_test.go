package filter

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"tocsin"
	"tocsin/internal/fail2ban"
)

func sprint(v any) string { return fmt.Sprint(v) }

func list(texts ...string) []fail2ban.Regex {
	var all []fail2ban.Regex
	for i, text := range texts {
		all = append(all, fail2ban.Regex{Text: text, Pos: fail2ban.Pos{File: "test.conf", Line: i + 1}})
	}
	return all
}

func mustNew(t testing.TB, def fail2ban.Filter, o Options) *Filter {
	t.Helper()
	if o.Location == nil {
		o.Location = time.UTC
	}
	if o.Now == nil {
		o.Now = noon
	}
	def.Name = "test"
	f, err := New(def, o)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func record(text string) *tocsin.Record {
	return &tocsin.Record{Source: "file:test.log", Pos: tocsin.Position{File: 1, Offset: 42}, Text: []byte(text)}
}

// told writes a result as the tests' tables do.
func told(r Result) string {
	s := r.Kind.String()
	if r.Failure != nil {
		s += " " + r.Failure.ID
		if r.Failure.Prefix.IsValid() && r.Failure.Prefix.String() != r.Failure.ID+"/32" && r.Failure.Prefix.String() != r.Failure.ID+"/128" {
			s += " " + r.Failure.Prefix.String()
		}
		switch {
		case r.Failure.Host:
			s += " host name"
		case !r.Failure.Prefix.IsValid():
			s += " no address"
		}
		if r.Failure.User != "" {
			s += " user=" + r.Failure.User
		}
		for _, f := range r.Failure.Fields {
			s += " " + f.Name + "=" + f.Value
		}
		if n := len(r.Failure.Context); n > 0 {
			s += fmt.Sprintf(" context=%d", n)
		}
	}
	if r.Login != nil {
		s += fmt.Sprintf(" %s port=%d user=%s", r.Login.Addr, r.Login.Port, r.Login.User)
	}
	return s
}

func TestLine(t *testing.T) {
	tests := []struct {
		name string
		def  fail2ban.Filter
		line string
		want string
	}{
		{"nothing", fail2ban.Filter{Failregex: list(`^ bad <HOST>$`)}, "Nov 22 10:00:00 good 192.0.2.1", "nothing"},
		{"failure", fail2ban.Filter{Failregex: list(`^ bad <HOST>$`)}, "Nov 22 10:00:00 bad 192.0.2.1", "failed 192.0.2.1"},
		{"second rule", fail2ban.Filter{Failregex: list(`^ x <HOST>$`, `^ bad <HOST>$`)}, "Nov 22 10:00:00 bad 192.0.2.1", "failed 192.0.2.1"},
		{"user", fail2ban.Filter{Failregex: list(`^ <F-USER>.*</F-USER> from <HOST>$`)}, "Nov 22 10:00:00 a from 203.0.113.9 from 192.0.2.1", "failed 192.0.2.1 user=a from 203.0.113.9"},
		{"other user", fail2ban.Filter{Failregex: list(`^ (?:<F-USER>u</F-USER>|<F-ALT_USER>v</F-ALT_USER>) <HOST>$`)}, "Nov 22 10:00:00 v 192.0.2.1", "failed 192.0.2.1 user=v alt_user=v"},
		{"port and field", fail2ban.Filter{Failregex: list(`^ <HOST> <F-PORT/> <F-METHOD>\w+</F-METHOD>$`)}, "Nov 22 10:00:00 192.0.2.1 22 pw", "failed 192.0.2.1 port=22 method=pw"},
		{"IPv6", fail2ban.Filter{Failregex: list(`^ <HOST>$`)}, "Nov 22 10:00:00 [2001:DB8:0:0::1]", "failed 2001:db8::1"},
		{"IPv4 in IPv6", fail2ban.Filter{Failregex: list(`^ <HOST>$`)}, "Nov 22 10:00:00 ::ffff:192.0.2.1", "failed 192.0.2.1"},
		{"IPv4 in IPv6, in hex", fail2ban.Filter{Failregex: list(`^ <HOST>$`)}, "Nov 22 10:00:00 ::ffff:c000:201", "failed 192.0.2.1"},
		{"no address", fail2ban.Filter{Failregex: list(`^ <HOST>$`)}, "Nov 22 10:00:00 999.0.2.1", "bad id 999.0.2.1 no address"},
		{"leading zeros", fail2ban.Filter{Failregex: list(`^ <HOST>$`)}, "Nov 22 10:00:00 192.030.0.6", "bad id 192.030.0.6 no address"},
		{"too many colons", fail2ban.Filter{Failregex: list(`^ <ADDR>$`)}, "Nov 22 10:00:00 1:2:3:4::5:6::7", "bad id 1:2:3:4::5:6::7 no address"},
		{"name", fail2ban.Filter{Failregex: list(`^ <HOST>$`)}, "Nov 22 10:00:00 host.example.org", "failed host.example.org host name"},
		{"name beside an id", fail2ban.Filter{Failregex: list(`^ <F-ID>\w+</F-ID> <HOST>$`)}, "Nov 22 10:00:00 alice host.example.org", "failed alice no address"},
		{"name that is a number", fail2ban.Filter{Failregex: list(`^ <HOST>$`)}, "Nov 22 10:00:00 192.0.2", "bad id 192.0.2 no address"},
		{"names are not wanted", fail2ban.Filter{Usedns: "no", Failregex: list(`^ <HOST>$`)}, "Nov 22 10:00:00 host.example.org", "nothing"},
		{"subnet", fail2ban.Filter{Failregex: list(`^ <SUBNET>$`)}, "Nov 22 10:00:00 192.0.2.77/24", "failed 192.0.2.0/24 192.0.2.0/24"},
		{"subnet of one", fail2ban.Filter{Failregex: list(`^ <SUBNET>$`)}, "Nov 22 10:00:00 192.0.2.77/32", "failed 192.0.2.77"},
		{"subnet, widest", fail2ban.Filter{Failregex: list(`^ <SUBNET>$`)}, "Nov 22 10:00:00 10.0.0.0/8", "failed 10.0.0.0/8 10.0.0.0/8"},
		{"subnet, too wide", fail2ban.Filter{Failregex: list(`^ <SUBNET>$`)}, "Nov 22 10:00:00 10.0.0.0/7", "bad id 10.0.0.0/7 no address"},
		{"subnet, too narrow", fail2ban.Filter{Failregex: list(`^ <SUBNET>$`)}, "Nov 22 10:00:00 10.0.0.0/33", "bad id 10.0.0.0/33 no address"},
		{"id", fail2ban.Filter{Failregex: list(`^ <F-ID>\w+</F-ID> <ADDR>$`)}, "Nov 22 10:00:00 alice 192.0.2.1", "failed alice no address ip=192.0.2.1"},
		{"id that is an address", fail2ban.Filter{Failregex: list(`^ <F-ID/>$`)}, "Nov 22 10:00:00 [2001:db8::1]", "failed 2001:db8::1"},
		{"id with a zone", fail2ban.Filter{Failregex: list(`^ <F-ID/>$`)}, "Nov 22 10:00:00 fe80::1%eth0", "failed fe80::1%eth0 no address"},
		{"date in the middle", fail2ban.Filter{Failregex: list(`^<ADDR> - <F-USER>.*?</F-USER> \[\] "GET"$`)}, `192.0.2.1 - bob [22/Nov/2026:10:00:00 +0000] "GET"`, "failed 192.0.2.1 user=bob"},
		{"group around the date", fail2ban.Filter{Failregex: list(`^<ADDR> <F-X>a.*b</F-X>$`)}, `192.0.2.1 a[22/Nov/2026:10:00:00 +0000]b`, "failed 192.0.2.1 x=a[]b"},
		{"date that is in no calendar", fail2ban.Filter{Datepattern: list(`^%Y-%m-%d`), Failregex: list(`^ bad <HOST>$`)}, "2026-02-30 bad 192.0.2.1", "failed 192.0.2.1"},
		{"date in a user name, taken for the line's", fail2ban.Filter{Failregex: list(`^<ADDR> - .* \[\] "GET"$`)}, `192.0.2.1 - 2026-11-22 10:00:00 [22/Nov/2026:10:00:00 +0000] "GET"`, "nothing"},
		{"date in a user name, and a pattern that knows better", fail2ban.Filter{
			Datepattern: list(`^\S+ \S+ (?:[^"\\]|\\.)*\[(%d/%b/%Y:%H:%M:%S %z)\] "`), Failregex: list(`^<ADDR> - <F-USER>.*</F-USER> \[\] "GET"$`)},
			`192.0.2.1 - a[22/Nov/2025:10:00:00 +0000] \" [22/Nov/2026:10:00:00 +0000] "GET"`, `failed 192.0.2.1 user=a[22/Nov/2025:10:00:00 +0000] \"`},
		{"no date", fail2ban.Filter{Failregex: list(`^bad <HOST>$`)}, "bad 192.0.2.1", "failed 192.0.2.1"},
		{"prefix", fail2ban.Filter{Prefregex: list(`^ \w+: <F-CONTENT>.+</F-CONTENT>$`)[0], Failregex: list(`^bad <HOST>$`)}, "Nov 22 10:00:00 d: bad 192.0.2.1", "failed 192.0.2.1"},
		{"prefix refuses", fail2ban.Filter{Prefregex: list(`^ e: <F-CONTENT>.+</F-CONTENT>$`)[0], Failregex: list(`^bad <HOST>$`)}, "Nov 22 10:00:00 d: bad 192.0.2.1", "nothing"},
		{"prefix without content", fail2ban.Filter{Prefregex: list(`^ <F-USER>\w+</F-USER>:`)[0], Failregex: list(` bad <HOST>$`)}, "Nov 22 10:00:00 d: bad 192.0.2.1", "failed 192.0.2.1 user=d"},
		{"address in the prefix", fail2ban.Filter{Prefregex: list(`^ <ADDR> <F-CONTENT>.+</F-CONTENT>$`)[0], Failregex: list(`^bad$`)}, "Nov 22 10:00:00 192.0.2.1 bad", "failed 192.0.2.1"},
		{"rule erases the prefix", fail2ban.Filter{Prefregex: list(`^ <F-USER>\w+</F-USER> <F-CONTENT>.+</F-CONTENT>$`)[0], Failregex: list(`^(?:<F-USER>x</F-USER> )?bad <HOST>$`)}, "Nov 22 10:00:00 alice bad 192.0.2.1", "failed 192.0.2.1"},
		{"ignored", fail2ban.Filter{Failregex: list(`^ bad <HOST>$`), Ignoreregex: list(`192\.0\.2`)}, "Nov 22 10:00:00 bad 192.0.2.1", "ignored"},
		{"ignore sees the content only", fail2ban.Filter{Prefregex: list(`^ d: <F-CONTENT>.+</F-CONTENT>$`)[0], Failregex: list(`^bad <HOST>$`), Ignoreregex: list(`d:`)}, "Nov 22 10:00:00 d: bad 192.0.2.1", "failed 192.0.2.1"},
		{"one for many sees the line", fail2ban.Filter{Prefregex: list(`^ d: <F-CONTENT>.+</F-CONTENT>$`)[0], Failregex: list(`^1<HOST>`, `^2<HOST>`, `^3<HOST>`, `^bad <HOST>$`), Ignoreregex: list(`d:`)}, "Nov 22 10:00:00 d: bad 192.0.2.1", "ignored"},
		{"helper without session", fail2ban.Filter{Failregex: list(`^ <F-NOFAIL>bad</F-NOFAIL> <HOST>$`)}, "Nov 22 10:00:00 bad 192.0.2.1", "helper"},
		{"login", fail2ban.Filter{Failregex: list(`^ <F-MLFGAINED>hello</F-MLFGAINED> <F-USER>\w+</F-USER> <ADDR> <F-PORT/>$`)}, "Nov 22 10:00:00 hello bob 192.0.2.1 4242", "logged in 192.0.2.1 port=4242 user=bob"},
		{"login, port by name", fail2ban.Filter{Failregex: list(`^ <F-MLFGAINED>hello</F-MLFGAINED> <ADDR> (?P<port>\d+)$`)}, "Nov 22 10:00:00 hello 192.0.2.1 4242", "logged in 192.0.2.1 port=4242 user="},
		{"login, port that is none", fail2ban.Filter{Failregex: list(`^ <F-MLFGAINED>hello</F-MLFGAINED> <ADDR> (?P<port>\d+)$`)}, "Nov 22 10:00:00 hello 192.0.2.1 65536", "logged in 192.0.2.1 port=0 user="},
		{"login of nobody", fail2ban.Filter{Failregex: list(`^ <F-MLFGAINED>hello</F-MLFGAINED> <HOST>$`)}, "Nov 22 10:00:00 hello there", "helper"},
		{"logout", fail2ban.Filter{Failregex: list(`^ <F-MLFENDED>bye</F-MLFENDED> <ADDR>$`)}, "Nov 22 10:00:00 bye 192.0.2.1", "logged out 192.0.2.1 port=0 user="},
		{"newline at the end only", fail2ban.Filter{Failregex: list(`^ bad <HOST>\s$`)}, "Nov 22 10:00:00 bad 192.0.2.1", "failed 192.0.2.1"},
		{"not UTF-8", fail2ban.Filter{Failregex: list(`^ <F-USER>.*</F-USER> from <HOST>$`)}, "Nov 22 10:00:00 \xff\x00\x1b[2J from 192.0.2.1", "failed 192.0.2.1 user=\xff\x00\x1b[2J"},
		{"almost too long", fail2ban.Filter{Failregex: list(`^ <F-USER>.*</F-USER> from <HOST>$`)}, "Nov 22 10:00:00 " + strings.Repeat("x", maxLine-1-16-15) + " from 192.0.2.1", "failed 192.0.2.1 user=" + strings.Repeat("x", maxLine-1-16-15)},
		{"too long", fail2ban.Filter{Failregex: list(`^ <F-USER>.*</F-USER> from <HOST>$`)}, "Nov 22 10:00:00 " + strings.Repeat("x", maxLine-16-15) + " from 192.0.2.1", "nothing"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := mustNew(t, tt.def, Options{})
			if got := told(f.Line(record(tt.line))); got != tt.want {
				t.Errorf("Line(%.100q) = %.200q, want %.200q", tt.line, got, tt.want)
			}
		})
	}
}

func TestFailureHoldsTheLine(t *testing.T) {
	f := mustNew(t, fail2ban.Filter{Failregex: list(`^ x <HOST>$`, `^ <F-USER>\w+</F-USER> <HOST>$`)}, Options{})
	rec := record("Nov 22 10:00:00 bob 192.0.2.1")
	res := f.Line(rec)
	fail := *res.Failure
	clear(rec.Text) // a view: its bytes belong to the source again
	f.Line(record("Nov 22 10:00:09 eve 192.0.2.9"))
	want := tocsin.Line{Source: "file:test.log", Pos: tocsin.Position{File: 1, Offset: 42}, At: time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC), Text: "Nov 22 10:00:00 bob 192.0.2.1"}
	if res.Rule != 1 || fail.Line != want || fail.At != want.At || fail.User != "bob" || fail.Filter != "test" {
		t.Errorf("rule %d found %+v, want %+v of bob by rule 1", res.Rule, fail, want)
	}
	if got := f.Rules(); len(got) != 2 || got[0] != `^ x <HOST>$` {
		t.Errorf("rules %q", got)
	}
}

func TestTimeOfALine(t *testing.T) {
	at := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	tests := []struct {
		name   string
		noDate bool
		at     time.Time
		lines  string // separated by |
		want   time.Time
	}{
		{"of the line", false, time.Time{}, "Nov 22 10:00:00 bad 192.0.2.1", time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)},
		{"of the line before", false, time.Time{}, "Nov 22 10:00:00 x|bad 192.0.2.1", time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)},
		{"none yet", false, time.Time{}, "bad 192.0.2.1", noon()},
		{"of the record", false, at, "bad 192.0.2.1", at},
		{"of the record, not of the text", false, at, "Nov 22 10:00:00 bad 192.0.2.1", at},
		{"journal", true, at, "bad 192.0.2.1", at},
		{"journal without a time", true, time.Time{}, "bad 192.0.2.1", noon()},
	}
	for _, tt := range tests {
		f := mustNew(t, fail2ban.Filter{Failregex: list(`bad <HOST>$`)}, Options{NoDate: tt.noDate})
		var res Result
		for line := range strings.SplitSeq(tt.lines, "|") {
			rec := record(line)
			rec.At = tt.at
			res = f.Line(rec)
		}
		if res.Failure == nil || !res.Failure.At.Equal(tt.want) {
			t.Errorf("%s: %q is %v at %+v, want %v", tt.name, tt.lines, res.Kind, res.Failure, tt.want)
		}
	}
}

// Filters of one source read each date once.
func TestSharedDates(t *testing.T) {
	d := NewDates(time.UTC, noon)
	one := mustNew(t, fail2ban.Filter{Failregex: list(`^ one <HOST>$`)}, Options{Dates: d})
	two := mustNew(t, fail2ban.Filter{Failregex: list(`^ two <HOST>$`)}, Options{Dates: d})
	for i, line := range []string{"Nov 22 10:00:00 one 192.0.2.1", "Nov 22 10:00:01 two 192.0.2.2"} {
		rec := record(line)
		a, b := one.Line(rec), two.Line(rec)
		if (a.Kind == Failed) != (i == 0) || (b.Kind == Failed) != (i == 1) {
			t.Errorf("%q is %v and %v", line, a.Kind, b.Kind)
		}
	}
}

func TestStats(t *testing.T) {
	f := mustNew(t, fail2ban.Filter{Failregex: list(`^ bad <HOST>$`, `^ <F-MLFGAINED>in</F-MLFGAINED> <ADDR>$`, `^ <F-MLFENDED>out</F-MLFENDED> <ADDR>$`,
		`^ <F-NOFAIL>help</F-NOFAIL> <ADDR>$`), Ignoreregex: list(`203\.0\.113`)}, Options{})
	for _, line := range []string{
		"Nov 22 10:00:00 bad 192.0.2.1", "Nov 22 10:00:00 bad 192.0.2.256", "Nov 22 10:00:00 bad 203.0.113.1", "Nov 22 10:00:00 in 192.0.2.1",
		"Nov 22 10:00:00 out 192.0.2.1", "Nov 22 10:00:00 help 192.0.2.1", "no date", strings.Repeat("x", maxLine),
	} {
		f.Line(record(line))
	}
	want := Stats{Lines: 8, Undated: 1, TooLong: 1, Ignored: 1, Helpers: 1, Failures: 1, BadIDs: 1, Logins: 1, Logouts: 1}
	if got := f.Stats(); got != want {
		t.Errorf("Stats() = %+v, want %+v", got, want)
	}
}

func TestKindsHaveNames(t *testing.T) {
	for k, want := range []string{"nothing", "helper", "ignored", "failed", "logged in", "logged out", "bad id", "unknown"} {
		if got := Kind(k).String(); got != want {
			t.Errorf("Kind(%d) = %q, want %q", k, got, want)
		}
	}
}

func TestNothingAllocatesNothing(t *testing.T) {
	def, err := Load("sshd")
	if err != nil {
		t.Fatal(err)
	}
	f := mustNew(t, def, Options{})
	recs := []*tocsin.Record{
		record("Nov 22 10:00:00 web1 CRON[7]: pam_unix(cron:session): session opened for user root(uid=0) by (uid=0)"),
		record("Nov 22 10:00:01 web1 sshd[8]: Server listening on :: port 22."),
		record("no date in here"),
	}
	if n := testing.AllocsPerRun(100, func() {
		for _, r := range recs {
			f.Line(r)
		}
	}); n != 0 {
		t.Errorf("%v allocations in lines that tell nothing", n)
	}
}

func TestLoad(t *testing.T) {
	names := Shipped()
	if len(names) == 0 {
		t.Fatal("no filters ship")
	}
	for _, name := range names {
		def, err := Load(name)
		if err != nil {
			t.Errorf("Load(%s): %v", name, err)
			continue
		}
		if _, err := New(def, Options{}); err != nil {
			t.Errorf("New(%s): %v", name, err)
		}
	}
	for _, spec := range []string{"nosuch", "sshd[", "common", ""} {
		if _, err := Load(spec); err == nil {
			t.Errorf("Load(%q) found a filter", spec)
		}
	}
}

// FuzzLine feeds whole lines, several at once, to the sshd filter: it must not panic, blame only what parses, and hand
// out only text of its lines.
func FuzzLine(f *testing.F) {
	f.Add([]byte("Nov 22 10:00:00 web1 sshd[8]: Failed password for root from 192.0.2.1 port 22 ssh2\nNov 22 10:00:00 web1 sshd[8]: Connection closed by 192.0.2.1 port 22 [preauth]"))
	f.Add([]byte("Nov 22 10:00:00 web1 sshd[8]: Invalid user \x00\xff\x1b[2J from 203.0.113.9 port 22 from 192.0.2.1 port 22"))
	f.Add([]byte("2026-11-22T10:00:00.123456+01:00 web1 sshd-session[9]: Accepted publickey for a from 2001:db8::1 port 1 ssh2: RSA x"))
	f.Add([]byte("Nov 22 10:00:00 web1 sshd[8]: Invalid user a from 999.1.1.1 port 1\nNov 22 10:09:00 web1 sshd[8]: kex_exchange_identification: x"))
	def, err := Load("sshd[mode=aggressive]")
	if err != nil {
		f.Fatal(err)
	}
	flt := mustNew(f, def, Options{})
	over := mustNew(f, fail2ban.Filter{Maxlines: 5, Failregex: list(`^ ask <F-ID>\d+</F-ID> <HOST>$<SKIPLINES>^ deny (?P=fid)$`)}, Options{})
	f.Add([]byte("Nov 22 10:00:00 ask 7 192.0.2.1\n\n x\nNov 22 10:00:00 deny 7"))
	f.Fuzz(func(t *testing.T, text []byte) {
		for line := range bytes.SplitSeq(text, []byte("\n")) {
			over.Line(&tocsin.Record{Text: line})
			res := flt.Line(&tocsin.Record{Text: line})
			if (res.Failure != nil) != (res.Kind == Failed || res.Kind == BadID) || (res.Login != nil) != (res.Kind == LoggedIn || res.Kind == LoggedOut) {
				t.Fatalf("%q is %v with %v, %v", line, res.Kind, res.Failure, res.Login)
			}
			if fail := res.Failure; fail != nil {
				if (res.Kind == Failed) != fail.Prefix.IsValid() || len(fail.Context) > 2*maxContext || fail.Line.Text != string(line) {
					t.Fatalf("%q is %v: %+v", line, res.Kind, fail)
				}
			}
		}
		if s := flt.Stats(); s.Sessions > maxSessions || flt.sessions.bytes > maxSessionBytes+maxLine*64 || flt.sessions.bytes < 0 || s.OutOfStep > 0 ||
			len(over.ring.lines) > 5 || over.ring.size > maxRingBytes {
			t.Fatalf("%+v, %d bytes of sessions", s, flt.sessions.bytes)
		}
	})
}
