package filter

import (
	"fmt"
	"strings"
	"testing"

	"tocsin/internal/fail2ban"
)

func TestOverLines(t *testing.T) {
	pair := list(`^ ask <F-ID>\d+</F-ID> <ADDR>$<SKIPLINES>^ deny (?P=fid)$`)
	tests := []struct {
		name  string
		def   fail2ban.Filter
		lines string // separated by |
		want  string
	}{
		{"two in a row", fail2ban.Filter{Maxlines: 3, Failregex: pair}, "ask 7 192.0.2.1|deny 7", "nothing|failed 7 no address ip=192.0.2.1 context=1"},
		{"one between", fail2ban.Filter{Maxlines: 3, Failregex: pair}, "ask 7 192.0.2.1|x|deny 7", "nothing|nothing|failed 7 no address ip=192.0.2.1 context=1"},
		{"too far apart", fail2ban.Filter{Maxlines: 3, Failregex: pair}, "ask 7 192.0.2.1|x|y|deny 7", "nothing|nothing|nothing|nothing"},
		{"skipped lines stay", fail2ban.Filter{Maxlines: 4, Failregex: pair}, "ask 7 192.0.2.1|ask 8 192.0.2.2|deny 7|deny 8",
			"nothing|nothing|failed 7 no address ip=192.0.2.1 context=1|failed 8 no address ip=192.0.2.2 context=1"},
		{"taken lines are gone", fail2ban.Filter{Maxlines: 4, Failregex: pair}, "ask 7 192.0.2.1|deny 7|deny 7",
			"nothing|failed 7 no address ip=192.0.2.1 context=1|nothing"},
		{"single line", fail2ban.Filter{Maxlines: 2, Failregex: list(`^ bad <HOST>$`)}, "bad 192.0.2.1|bad 192.0.2.2", "failed 192.0.2.1|failed 192.0.2.2"},
		{"ignored lines are gone", fail2ban.Filter{Maxlines: 2, Failregex: list(`^ bad <HOST>$`), Ignoreregex: list(`192\.0\.2\.1$`)}, "bad 192.0.2.1|bad 192.0.2.2", "ignored|failed 192.0.2.2"},
		{"ignored before it is looked at", fail2ban.Filter{Maxlines: 2, Failregex: list(`^ bad <HOST>$`, `^ 2<HOST>`, `^ 3<HOST>`, `^ 4<HOST>`), Ignoreregex: list(`192\.0\.2\.1$`)}, "bad 192.0.2.1", "ignored"},
		{"prefix", fail2ban.Filter{Maxlines: 2, Prefregex: list(`^ d: <F-CONTENT>.+</F-CONTENT>$`)[0], Failregex: list(`^bad <HOST>$`)}, "d: bad 192.0.2.1", "failed 192.0.2.1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := mustNew(t, tt.def, Options{})
			var got []string
			for line := range strings.SplitSeq(tt.lines, "|") {
				got = append(got, told(f.Line(record("Nov 22 10:00:00 "+line))))
			}
			if s := strings.Join(got, "|"); s != tt.want {
				t.Errorf("lines %q are\n%q, want\n%q", tt.lines, s, tt.want)
			}
		})
	}
}

func TestRingIsBounded(t *testing.T) {
	f := mustNew(t, fail2ban.Filter{Maxlines: 1000, Failregex: list(`^ bad <HOST>$`)}, Options{})
	for i := range 2 * maxRingLines {
		f.Line(record(fmt.Sprintf("Nov 22 10:00:00 line %d", i)))
	}
	if n := len(f.ring.lines); n != maxRingLines || f.Stats().Dropped != 0 {
		t.Errorf("%d lines, %d dropped, want %d and none", n, f.Stats().Dropped, maxRingLines)
	}
	for range 10 {
		f.Line(record("Nov 22 10:00:00 " + strings.Repeat("x", maxLine-100)))
	}
	if f.ring.size > maxRingBytes || f.Stats().Dropped == 0 {
		t.Errorf("%d bytes, %d lines dropped, want at most %d", f.ring.size, f.Stats().Dropped, maxRingBytes)
	}
}
