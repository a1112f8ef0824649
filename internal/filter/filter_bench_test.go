package filter

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"tocsin"
	"tocsin/internal/fail2ban"
)

// benchLog is a log of sshd under attack: the file that TOCSIN_AUTHLOG names, else one made here.
func benchLog(b *testing.B) [][]byte {
	b.Helper()
	if name := os.Getenv("TOCSIN_AUTHLOG"); name != "" {
		text, err := os.ReadFile(name)
		if err != nil {
			b.Fatal(err)
		}
		return bytes.Split(bytes.TrimSuffix(text, []byte("\n")), []byte("\n"))
	}
	return madeLog(50_000)
}

// madeLog makes n lines of an auth.log, four of ten from attackers.
func madeLog(n int) [][]byte {
	r := rand.New(rand.NewPCG(1, 2))
	at := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	kinds := []string{
		"sshd[%[1]d]: Failed password for invalid user u%[3]d from 198.51.%[2]d.%[3]d port %[1]d ssh2",
		"sshd[%[1]d]: Failed password for root from 192.0.2.%[2]d port %[1]d ssh2",
		"sshd[%[1]d]: Invalid user u%[3]d from 198.51.%[2]d.%[3]d port %[1]d",
		"sshd[%[1]d]: Connection closed by 203.0.113.%[2]d port %[1]d [preauth]",
		"CRON[%[1]d]: pam_unix(cron:session): session opened for user root(uid=0) by (uid=0)",
		"CRON[%[1]d]: pam_unix(cron:session): session closed for user root",
		"systemd-logind[612]: New session %[1]d of user alice.",
		"sudo:    alice : TTY=pts/0 ; PWD=/home/alice ; USER=root ; COMMAND=/usr/bin/apt update",
		"sshd[%[1]d]: pam_unix(sshd:session): session opened for user alice(uid=1000) by (uid=0)",
		"sshd[%[1]d]: Accepted publickey for alice from 10.20.0.%[2]d port %[1]d ssh2: ED25519 SHA256:abcdef",
	}
	lines := make([][]byte, n)
	for i := range lines {
		at = at.Add(time.Duration(r.IntN(1000)) * time.Millisecond)
		text := fmt.Sprintf(kinds[r.IntN(len(kinds))]+"%.0[1]d%.0[2]d%.0[3]d", 1024+r.IntN(60000), r.IntN(256), r.IntN(256))
		lines[i] = []byte(at.Format(time.Stamp) + " web1 " + text)
	}
	return lines
}

// BenchmarkFilter is the whole of a filter on one log: dates, rules, sessions.
func BenchmarkFilter(b *testing.B) {
	lines := benchLog(b)
	for _, spec := range []string{"sshd", "sshd[mode=aggressive]"} {
		b.Run(spec, func(b *testing.B) {
			def, err := Load(spec)
			if err != nil {
				b.Fatal(err)
			}
			f, err := New(def, Options{Location: time.UTC})
			if err != nil {
				b.Fatal(err)
			}
			rec := tocsin.Record{Source: "file:/var/log/auth.log"}
			bytes := 0
			for _, l := range lines {
				bytes += len(l) + 1
			}
			b.SetBytes(int64(bytes))
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				for _, l := range lines {
					rec.Text = l
					f.Line(&rec)
				}
				n += len(lines)
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "lines/s")
		})
	}
}

// BenchmarkDates is the cost of one date: the same second again, the next second of the same hour, and another format.
func BenchmarkDates(b *testing.B) {
	for _, bm := range []struct{ name, first, second string }{
		{"same second", "Nov  1 00:00:13 web1 sshd", "Nov  1 00:00:13 web1 sshd"},
		{"other second", "Nov  1 00:00:13 web1 sshd", "Nov  1 00:01:14 web1 sshd"},
		{"other hour", "Nov  1 00:00:13 web1 sshd", "Nov  1 01:00:13 web1 sshd"},
		{"ISO with zone", "2026-11-01T00:00:13.123456+01:00 web1", "2026-11-01T00:00:14.123456+01:00 web1"},
		{"apache", `192.0.2.1 - - [01/Nov/2026:00:00:13 +0100] "GET`, `192.0.2.2 - - [01/Nov/2026:00:00:14 +0100] "GET`},
		{"none", "a line that holds no date at all, as some do", "and another one of the same kind"},
	} {
		b.Run(bm.name, func(b *testing.B) {
			now := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
			d := NewDates(time.UTC, func() time.Time { return now })
			one, two := []byte(bm.first), []byte(bm.second)
			b.ReportAllocs()
			for b.Loop() {
				d.Find(one)
				d.Find(two)
			}
		})
	}
}

// BenchmarkGroup is all filters of Debian on one log, and the hardest of them alone.
func BenchmarkGroup(b *testing.B) {
	lines := benchLog(b)
	bytes := 0
	for _, l := range lines {
		bytes += len(l) + 1
	}
	for _, bm := range []struct {
		name string
		defs []fail2ban.Filter
	}{{"sshd[mode=aggressive]", []fail2ban.Filter{debianSshd(b)}}, {"all", debianDefs(b)}} {
		b.Run(bm.name, func(b *testing.B) {
			g := NewGroup(filtersOf(b, bm.defs, Options{NoLines: true}))
			rec := tocsin.Record{Source: "file:/var/log/auth.log"}
			b.SetBytes(int64(bytes))
			b.ReportAllocs()
			n, answers := 0, 0
			count := func(int, *tocsin.Record, Result) { answers++ }
			for b.Loop() {
				for _, l := range lines {
					rec.Text = l
					g.Line(&rec, count)
				}
				n += len(lines)
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "lines/s")
			b.ReportMetric(float64(answers)/float64(n), "answers/line")
		})
	}
}
