package filter

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"tocsin"
)

// hostileLines are lines made to be slow to read: as long as a line may be, and of what expressions like to try twice.
// The first is the one that keeps fail2ban's filter domino-smtp busy for seconds (GHSA-33wh-ccjc-p397).
func hostileLines() map[string]string {
	const date = "Nov 22 10:00:00 "
	lines := map[string]string{"domino": date + "smtp: " + strings.Repeat("a ", 22) + "! failed"}
	fill := func(kind, head, unit string) {
		head = date + head
		lines[kind] = head + strings.Repeat(unit, (maxLine-1-len(head))/len(unit))
	}
	fill("long domino", "smtp: ", "a ")
	fill("blanks", "", " ")
	fill("one letter", "", "a")
	fill("words", "web1 sshd[7]: ", "word ")
	fill("digits", "", "1")
	fill("addresses", "", "192.0.2.1 ")
	fill("half addresses", "", "1:")
	fill("colons", "", ":")
	fill("brackets", "", "[")
	fill("closed brackets", "", "[]")
	fill("parentheses", "web1 sshd(", "(a)")
	fill("quotes", "", `"`)
	fill("settings", "web1 asterisk[7]: ", `a="b",`)
	fill("dates", "", date)
	fill("half dates", "", "22/Nov/")
	fill("from", "web1 sshd[7]: Failed password for ", "from 192.0.2.1 ")
	fill("users", "web1 sshd[7]: Failed password for invalid user ", "user from ")
	fill("suffixes", "web1 sshd[7]: Invalid user a from 192.0.2.1", " port 1")
	fill("for", "web1 sshd[7]: ", "Failed password for ")
	fill("texts", "", "authentication failure; logname= ")
	fill("apache", "[error] [client 192.0.2.1] ", "ModSecurity: [a \"b\"] ")
	fill("requests", `192.0.2.1 - - [] "GET `, "/?=http:// ")
	fill("postfix", "web1 postfix/smtpd[7]: ", "reject: RCPT from a[192.0.2.1]: 554 ")
	fill("exim", " ", "H=(a) [192.0.2.1]: ")
	fill("rfc5424", "<1>1 - - - - [", "a b=\"c\" ")
	fill("not UTF-8", "web1 sshd[7]: ", "\xff\xfe")
	fill("wide letters", "web1 sshd[7]: ", "é\u2028漢")
	return lines
}

// TestHostileLines counts the steps that the exact matchers of all filters need for one line. The automata take a bounded
// time for each byte by their making, so that these steps are all that a line could run up.
func TestHostileLines(t *testing.T) {
	const most = 1 << 20 // about 5 ms, for all 89 filters together
	worst, slowest := "", time.Duration(0)
	fs := filtersOf(t, debianDefs(t), Options{})
	for kind, line := range hostileLines() {
		rec := tocsin.Record{Source: "file:/log", Text: []byte(line)}
		start, steps := time.Now(), uint64(0)
		for _, f := range fs {
			steps -= f.steps()
			f.Line(&rec)
			steps += f.steps()
			if f.Stats().OutOfStep > 0 {
				t.Errorf("%s: %s ran out of steps", kind, f.def.Name)
			}
		}
		if d := time.Since(start); d > slowest {
			worst, slowest = fmt.Sprintf("%s: %d bytes, %d steps", kind, len(line), steps), d
		}
		if steps > most {
			t.Errorf("%s: %d steps for one line of %d bytes", kind, steps, len(line))
		}
	}
	t.Logf("the slowest line, shown to every filter, took %v (%s)", slowest, worst)
}

func (f *Filter) steps() (n uint64) {
	for _, r := range []*matching{f.prefix, f.fail, f.ignore} {
		n += r.stats().Steps
	}
	return n
}

// BenchmarkHostile is the cost of one hostile line for all filters of Debian together.
func BenchmarkHostile(b *testing.B) {
	g := NewGroup(filtersOf(b, debianDefs(b), Options{NoLines: true}))
	for kind, line := range hostileLines() {
		b.Run(kind, func(b *testing.B) {
			rec := tocsin.Record{Source: "file:/log", Text: []byte(line)}
			b.ReportAllocs()
			for b.Loop() {
				g.Line(&rec, func(int, *tocsin.Record, Result) {})
			}
			b.ReportMetric(float64(len(line)), "bytes")
		})
	}
}
