package probe

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// queueFile is the head of a mail in a queue: sizes, when it came, who sent it.
func queueFile(at time.Time) string {
	record := func(kind byte, s string) string { return string([]byte{kind, byte(len(s))}) + s }
	return record('C', "            1094             659               1               0            1094               0") +
		record('T', fmt.Sprintf("%d 123456", at.Unix())) + record('A', "rewrite_context=local") + record('S', "a@example.org")
}

func TestPostfixQueue(t *testing.T) {
	dir := t.TempDir()
	h := hostAt(dir)
	if _, err := postfixProbe.New(h); err == nil {
		t.Error("on without Postfix")
	}
	put(t, dir+"/root", map[string]string{"etc/postfix/main.cf": "# queue_directory = /no\nmyhostname = x\nqueue_directory = /spool\n"})
	if _, err := postfixProbe.New(h); err == nil {
		t.Error("on without a queue")
	}
	q := dir + "/root/spool/"
	put(t, q, map[string]string{
		"active/A1": queueFile(h.Now().Add(-90 * time.Second)), "active/A2": queueFile(h.Now().Add(-30 * time.Second)),
		"deferred/1/1AAA": queueFile(h.Now().Add(-25 * time.Hour)), "deferred/2/2BBB": "torn", "deferred/2/C/2CCC": "",
		"hold/H": queueFile(h.Now()), "maildrop/M": "x", "defer/1/1AAA": "why",
	})
	if err := os.MkdirAll(q+"incoming", 0o755); err != nil {
		t.Fatal(err)
	}
	r, err := postfixProbe.New(h)
	if err != nil {
		t.Fatal(err)
	}
	rs, err := r.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/services/postfix.read", dump(rs))
}

func TestSympa(t *testing.T) {
	dir := t.TempDir()
	h := hostAt(dir)
	if _, err := sympaProbe.New(h); err == nil {
		t.Error("on without Sympa")
	}
	s := dir + "/root/lists/spool/"
	put(t, dir+"/root", map[string]string{"etc/sympa/sympa/sympa.conf": "domain example.org\nspool\t/lists/spool\n"})
	put(t, s, map[string]string{
		"msg/all@example.org.1": "", "msg/all@example.org.2": "", "msg/bad/all@example.org.0": "",
		"bulk/pct/5.5.1795391548.123.all@example.org_z,1,2/0001": "", "bulk/pct/5.5.1795391548.123.all@example.org_z,1,2/0002": "", "bulk/pct/bad/old/0001": "",
		"bulk/msg/5.5.1795391548.123.all@example.org_z,1,2": "", "moderation/all@example.org_aa": "", "digest/all@example.org/1": "", "auth/x": "", "task/t1": "", "task/t2": "",
	})
	for _, d := range []string{"automatic", "bounce"} {
		if err := os.MkdirAll(s+d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	now := h.Now()
	old := now.Add(-10 * time.Minute)
	if err := filepath.Walk(s, func(path string, _ os.FileInfo, err error) error { return os.Chtimes(path, now, now) }); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(s+"msg/all@example.org.2", old, old); err != nil {
		t.Fatal(err)
	}
	r, err := sympaProbe.New(h)
	if err != nil {
		t.Fatal(err)
	}
	rs, err := r.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/services/sympa.read", dump(rs))
}

// mailLog has lines as Postfix writes them, with the times of old and of new syslogs.
const mailLog = `Nov 22 10:00:00 mx postfix/qmgr[7]: 3A1: from=<all-owner@lists.example>, size=1000, nrcpt=2 (queue active)
Nov 22 10:00:01 mx postfix/smtp[8]: 3A1: to=<a@example.org>, relay=mx.example.org[192.0.2.1]:25, delay=1.5, delays=0.1/0/0.4/1, dsn=2.0.0, status=sent (250 2.0.0 Ok)
2026-11-22T10:00:02.123456+01:00 mx postfix/smtp[8]: 3A1: to=<b@example.org>, orig_to=<c@x>, relay=mx.example.org[192.0.2.1]:25, delay=2.5, delays=0.1/0/0.4/2, dsn=2.0.0, status=sent (250 2.0.0 Ok)
Nov 22 10:00:03 mx postfix/qmgr[7]: 3A1: removed
Nov 22 10:00:04 mx postfix/qmgr[7]: 3A2: from=<ann@example.org>, size=500, nrcpt=1 (queue active)
Nov 22 10:00:05 mx postfix/local[9]: 3A2: to=<bob@mx.example>, relay=local, delay=0.2, delays=0.1/0/0/0.1, dsn=2.0.0, status=sent (delivered to mailbox)
Nov 22 10:00:06 mx postfix/smtp[8]: 3A3: to=<d@example.net>, relay=none, delay=30, delays=0/0/30/0, dsn=4.4.1, status=deferred (connect to example.net[192.0.2.9]:25: Connection timed out)
Nov 22 10:00:07 mx postfix/smtp[8]: 3A4: to=<e@example.net>, relay=x[192.0.2.9]:25, delay=3, delays=0/0/3/0, dsn=5.1.1, status=bounced (host x said: 550 5.1.1 no such user status=sent (in reply to RCPT TO command))
Nov 22 10:00:08 mx postfix/qmgr[7]: 3A5: from=<f@example.net>, status=expired, returned to sender
Nov 22 10:00:09 mx postfix/smtpd[10]: NOQUEUE: reject: RCPT from unknown[192.0.2.66]: 554 5.7.1 <a@b>: Relay access denied; from=<x@y> to=<a@b> proto=ESMTP helo=<z>
Nov 22 10:00:09 mx postfix/submission/smtpd[10]: NOQUEUE: reject: RCPT from unknown[192.0.2.66]: 450 4.1.8 <x@y>: Sender address rejected: Domain not found; from=<x@y> to=<a@b> proto=ESMTP helo=<z>
Nov 22 10:00:09 mx postfix/cleanup[11]: 3A6: milter-reject: END-OF-MESSAGE from x[192.0.2.3]: 5.7.1 550 spam; from=<x@y> to=<a@b> proto=ESMTP helo=<z>
Nov 22 10:00:10 mx postfix/smtpd[10]: warning: unknown[192.0.2.66]: SASL LOGIN authentication failed: UGFzc3dvcmQ6
Nov 22 10:00:11 mx sshd[12]: postfix/smtp[8]: 3A3: to=<d@example.net>, status=sent (no line of Postfix)
Nov 22 10:00:12 mx postfix/smtp[8]: 3A9: to=<"status=bounced x"@example.net>, relay=y[192.0.2.9]:25, delay=abc, dsn=2.0.0, status=sent (250 ok)
`

func TestPostfixMail(t *testing.T) {
	dir := t.TempDir()
	h := hostAt(dir)
	put(t, dir+"/root", map[string]string{"etc/postfix/main.cf": ""})
	if _, err := mailProbe.New(h); err == nil || !strings.Contains(err.Error(), "rsyslog") {
		t.Errorf("without a log: %v", err)
	}
	log := dir + "/root/var/log/mail.log"
	put(t, dir+"/root", map[string]string{"var/log/mail.log": mailLog}) // from before
	r, err := mailProbe.New(h)
	if err != nil {
		t.Fatal(err)
	}
	more := func(text string) {
		t.Helper()
		f, err := os.OpenFile(log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
	read := func() map[string]float64 {
		t.Helper()
		rs, err := r.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		values := map[string]float64{}
		for _, r := range rs {
			for _, v := range r.Values {
				values[v.Field] = v.V
			}
		}
		return values
	}
	if v := read(); v["delivered"] != 0 || v["volume"] != 0 {
		t.Errorf("what was logged before is counted: %v", v)
	}
	more(mailLog[:len(mailLog)/2])
	more(mailLog[len(mailLog)/2:])
	rs, err := r.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/services/postfix-mail.read", dump(rs))

	sent := strings.SplitAfter(mailLog, "\n")[5]
	before := read()["delivered"]
	// A line in two halves, a rotation with lines on both sides, a log that is emptied in place, a line without end.
	more(sent[:40])
	if v := read(); v["delivered"] != before {
		t.Errorf("half a line is counted: %v", v)
	}
	more(sent[40:] + sent)
	if err := os.Rename(log, log+".1"); err != nil {
		t.Fatal(err)
	}
	more(sent)
	if v := read(); v["delivered"] != before+3 {
		t.Errorf("over a rotation %v were delivered, want 3 more than %v", v["delivered"], before)
	}
	if err := os.Truncate(log, 0); err != nil {
		t.Fatal(err)
	}
	more("x\n")
	read()
	more(strings.Repeat("y", 3*maxLogLine) + "\n" + sent)
	if v := read(); v["delivered"] != before+4 {
		t.Errorf("after a long line %v were delivered, want 4 more than %v", v["delivered"], before)
	}
}

func TestPostfixMailIsBounded(t *testing.T) {
	r := &mailReader{h: hostAt(""), sizes: map[string]mailSize{}, counts: map[string]float64{}}
	for i := range maxMails + 100 {
		r.line(fmt.Appendf(nil, "Nov 22 10:00:00 mx postfix/qmgr[7]: %X: from=<a@b>, size=1, nrcpt=1 (queue active)", i))
	}
	for i := range 200 {
		r.line(fmt.Appendf(nil, "Nov 22 10:00:00 mx postfix/smtpd[7]: NOQUEUE: reject: RCPT from x[192.0.2.1]: %d 5.7.1 no", 400+i))
	}
	if len(r.sizes) != maxMails || len(r.rejects) != maxRejects {
		t.Errorf("%d mails and %d codes are remembered", len(r.sizes), len(r.rejects))
	}
}

func FuzzMailLog(f *testing.F) {
	for line := range strings.Lines(mailLog) {
		f.Add([]byte(strings.TrimSpace(line)))
	}
	f.Add([]byte(queueFile(time.Unix(1_800_000_000, 0))))
	f.Fuzz(func(t *testing.T, line []byte) {
		r := &mailReader{h: hostAt(""), sizes: map[string]mailSize{}, counts: map[string]float64{}}
		r.line(line)
		for name, v := range r.counts {
			if v < 0 {
				t.Errorf("%s = %v", name, v)
			}
		}
		r.readings()
		parseArrival(line)
	})
}
