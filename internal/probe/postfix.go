package probe

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds of a walk through a queue, and of the mails whose age is looked up.
const (
	maxQueueFiles = 500_000
	maxQueueDepth = 3
	maxAges       = 500
)

// postfixProbe counts the mails in Postfix's queues. Their folders are Postfix's own.
var postfixProbe = Probe{
	Name: "postfix", Doubles: []string{"postfix_mailqueue"}, Interval: time.Minute, Root: true,
	New: func(h *Host) (Reader, error) {
		if !anyThere(h.Root, "etc/postfix/main.cf") {
			return nil, &Off{"no Postfix here"}
		}
		dir := h.at(postfixSetting(confFiles(h.Root, "etc/postfix/main.cf"), "queue_directory", "/var/spool/postfix"))
		if _, err := os.ReadDir(filepath.Join(dir, "active")); err != nil {
			return nil, missing(filepath.Join(dir, "active"), err)
		}
		return &queueReader{h: h, dir: dir}, nil
	},
}

// postfixSetting is a setting of main.cf (postconf(5)), the last of a name, if no other is in it.
func postfixSetting(files [][]byte, name, without string) string {
	value := without
	for _, text := range files {
		for line := range bytes.Lines(text) {
			key, v, ok := strings.Cut(string(line), "=")
			if v = strings.TrimSpace(v); ok && strings.TrimSpace(key) == name && v != "" && !strings.Contains(v, "$") {
				value = v
			}
		}
	}
	return value
}

type queueReader struct {
	h   *Host
	dir string
}

var (
	postfixQueue = describe("postfix_mailqueue", `
		graph_title Postfix Mailqueue
		graph_vlabel Mails in queue
		graph_category postfix
		graph_total Total
		active.label active
		deferred.label deferred
		maildrop.label maildrop
		incoming.label incoming
		corrupt.label corrupt
		hold.label held`)
	postfixAge = describe("postfix_oldest", `
		graph_title Postfix oldest mail
		graph_vlabel seconds in the queue
		graph_args --base 1000 -l 0
		graph_category postfix
		graph_info Of the first 500 mails of each queue.
		active.label active
		deferred.label deferred
		incoming.label incoming
		hold.label held`)
)

func (r *queueReader) Read(ctx context.Context) ([]Reading, error) {
	counts, ages := map[string]float64{}, map[string]float64{}
	for _, f := range postfixQueue.Fields {
		withAge := postfixAge.Field(f.Name) != nil
		oldest := r.h.Now()
		looked := 0
		n, err := countFiles(ctx, filepath.Join(r.dir, f.Name), func(path string) {
			if !withAge || looked == maxAges {
				return
			}
			looked++
			if at := arrival(path); !at.IsZero() && at.Before(oldest) {
				oldest = at
			}
		})
		if err != nil {
			return nil, fmt.Errorf("queue %s: %w", f.Name, err)
		}
		counts[f.Name], ages[f.Name] = float64(n), math.Round(r.h.Now().Sub(oldest).Seconds())
	}
	return []Reading{readingOf(postfixQueue, from(counts)), readingOf(postfixAge, from(ages))}, nil
}

// countFiles counts the regular files below dir, and calls each with them. There are none where dir is not there.
func countFiles(ctx context.Context, dir string, each func(path string)) (int, error) {
	n := 0
	var walk func(dir string, depth int) error
	walk = func(dir string, depth int) error {
		d, err := os.Open(dir)
		if err != nil {
			if os.IsNotExist(err) {
				return nil
			}
			return err
		}
		defer d.Close()
		for {
			entries, err := d.ReadDir(1000)
			for _, e := range entries {
				path := filepath.Join(dir, e.Name())
				switch {
				case e.Type().IsRegular():
					if n++; n > maxQueueFiles {
						return fmt.Errorf("more than %d files", maxQueueFiles)
					}
					each(path)
				case e.Type() == fs.ModeDir && depth < maxQueueDepth:
					if err := walk(path, depth+1); err != nil {
						return err
					}
				}
			}
			if err == io.EOF {
				return ctx.Err()
			}
			if err != nil {
				return err
			}
			if err := ctx.Err(); err != nil {
				return err
			}
		}
	}
	err := walk(dir, 0)
	return n, err
}

// arrival reads when a mail came from the head of its queue file: records of a type, a length and a text, of which T has
// the seconds. The times of the file itself tell when it is tried again.
func arrival(path string) time.Time {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return time.Time{}
	}
	defer f.Close()
	head := make([]byte, 512)
	n, _ := io.ReadFull(f, head)
	return parseArrival(head[:n])
}

func parseArrival(b []byte) time.Time {
	for len(b) >= 2 {
		kind, length := b[0], int(b[1])
		if length > 127 || len(b) < 2+length { // longer ones come after the time
			return time.Time{}
		}
		text := b[2 : 2+length]
		if kind == 'T' {
			seconds, _, _ := bytes.Cut(text, []byte(" "))
			if n, err := strconv.ParseUint(string(seconds), 10, 40); err == nil {
				return time.Unix(int64(n), 0)
			}
			return time.Time{}
		}
		b = b[2+length:]
	}
	return time.Time{}
}

// mailProbe counts what Postfix does with mails, by what it logs. The log belongs to root and adm, so root reads it; the
// journal would cost a process, so that where only the journal has the log there is nothing to read.
var mailProbe = Probe{
	Name: "postfix_mail", Doubles: []string{"postfix_mailstats", "postfix_mailvolume"}, Interval: 30 * time.Second, Root: true,
	New: func(h *Host) (Reader, error) {
		if !anyThere(h.Root, "etc/postfix/main.cf") {
			return nil, &Off{"no Postfix here"}
		}
		logs := []string{"/var/log/mail.log", "/var/log/maillog"}
		if own := postfixSetting(confFiles(h.Root, "etc/postfix/main.cf"), "maillog_file", ""); strings.HasPrefix(own, "/") && own != "/dev/stdout" {
			logs = []string{own}
		}
		for _, name := range logs {
			if exists(h.at(name)) {
				r := &mailReader{log: logTail{path: h.at(name)}, h: h, sizes: map[string]mailSize{}, counts: map[string]float64{}}
				if _, err := r.log.read(func([]byte) {}); err != nil { // what was logged before is not counted
					return nil, missing(r.log.path, err)
				}
				for _, f := range []string{"delivered", "volume", "sent_lists", "sent_others", "bounced", "deferred", "expired", "logins_failed"} {
					r.counts[f] = 0
				}
				return r, nil
			}
		}
		return nil, &Off{"Postfix writes no " + strings.Join(logs, " or ") + "; where it logs into the journal alone, install rsyslog"}
	},
}

// logTail reads what was added to a log. A log that was rotated is read to its end first, if it is still there.
type logTail struct {
	path string
	f    *os.File
	rest []byte // of a line without its end yet
}

// Bounds of one reading of a log, and of a line.
const (
	maxLogRead = 64 << 20
	maxLogLine = 16 << 10
)

// read calls line with each new line. The first time it goes to the end. skipped counts bytes that were too many.
func (l *logTail) read(line func([]byte)) (skipped int64, err error) {
	if l.f == nil {
		if l.f, err = openLog(l.path); err != nil {
			return 0, err
		}
		_, err = l.f.Seek(0, io.SeekEnd)
		return 0, err
	}
	if skipped, err = l.drain(line); err != nil {
		return skipped, err
	}
	now, err := os.Stat(l.path)
	if err != nil {
		return skipped, nil // it is being rotated
	}
	was, err := l.f.Stat()
	if err != nil {
		return skipped, err
	}
	if !os.SameFile(now, was) {
		f, err := openLog(l.path)
		if err != nil {
			return skipped, err
		}
		l.f.Close()
		l.f, l.rest = f, nil
		more, err := l.drain(line)
		return skipped + more, err
	}
	return skipped, nil
}

func openLog(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		f.Close()
		return nil, fmt.Errorf("%s is no file", path)
	}
	return f, nil
}

func (l *logTail) drain(line func([]byte)) (skipped int64, err error) {
	at, err := l.f.Seek(0, io.SeekCurrent)
	if err != nil {
		return 0, err
	}
	st, err := l.f.Stat()
	if err != nil {
		return 0, err
	}
	if st.Size() < at { // emptied in place
		at, l.rest = 0, nil
	}
	if st.Size()-at > maxLogRead {
		skipped = st.Size() - at - maxLogRead
		at, l.rest = st.Size()-maxLogRead, nil
	}
	if _, err := l.f.Seek(at, io.SeekStart); err != nil {
		return 0, err
	}
	buf := make([]byte, 64<<10)
	for left := st.Size() - at; left > 0; {
		n, err := l.f.Read(buf[:min(int64(len(buf)), left)])
		left -= int64(n)
		b := buf[:n]
		for {
			one, more, ok := bytes.Cut(b, newline)
			if !ok {
				break
			}
			if len(l.rest) > 0 {
				one = append(l.rest, one...)
				l.rest = l.rest[:0]
			}
			if len(one) <= maxLogLine {
				line(one)
			}
			b = more
		}
		if len(l.rest) <= maxLogLine {
			l.rest = append(l.rest, b...)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return skipped, err
		}
	}
	return skipped, nil
}

// maxMails bounds the mails whose size and sender are remembered, maxRejects the codes that are told apart.
const (
	maxMails   = 50_000
	maxRejects = 30
	mailMemory = 6 * time.Hour // longer than between two tries of most
)

type mailSize struct {
	size float64
	list bool
	seen time.Time
}

type mailReader struct {
	h       *Host
	log     logTail
	sizes   map[string]mailSize // by queue id
	counts  map[string]float64  // by field
	rejects []string            // codes, in the order of their coming
	delay   float64             // of the deliveries since the last reading
	longest float64
	mails   float64
}

func (r *mailReader) Read(ctx context.Context) ([]Reading, error) {
	r.delay, r.longest, r.mails = 0, 0, 0
	skipped, err := r.log.read(r.line)
	if err != nil {
		return nil, err
	}
	if skipped > 0 {
		err = fmt.Errorf("%d bytes of %s were too many and are not counted", skipped, r.log.path)
	}
	for id, m := range r.sizes {
		if r.h.Now().Sub(m.seen) > mailMemory {
			delete(r.sizes, id)
		}
	}
	return r.readings(), err
}

// line counts one line of the log.
func (r *mailReader) line(line []byte) {
	// The first number in brackets is that of who logged; what comes behind may say anything.
	head, text, ok := bytes.Cut(line, []byte("]: "))
	name, _, numbered := bytes.Cut(head[bytes.LastIndexByte(head, ' ')+1:], []byte("["))
	if !ok || !numbered || !bytes.HasPrefix(name, []byte("postfix")) {
		return
	}
	program := string(name[bytes.LastIndexByte(name, '/')+1:])
	id, rest, _ := bytes.Cut(text, []byte(": "))
	switch {
	case program == "qmgr" && bytes.HasPrefix(rest, []byte("from=<")):
		r.queued(string(id), rest)
	case bytes.HasPrefix(rest, []byte("to=<")):
		r.tried(string(id), rest)
	case bytes.HasPrefix(rest, []byte("removed")) && program == "qmgr":
		delete(r.sizes, string(id))
	case program == "smtpd" || program == "cleanup" || program == "postscreen":
		if code := rejectCode(text); code != "" {
			if !slices.Contains(r.rejects, code) {
				if len(r.rejects) == maxRejects {
					return
				}
				r.rejects = append(r.rejects, code)
			}
			r.counts["r"+code]++
		}
		if program == "smtpd" && bytes.Contains(text, []byte(": SASL ")) && bytes.Contains(text, []byte(" authentication failed")) {
			r.counts["logins_failed"]++
		}
	}
}

// queued remembers how long a mail is, and whether it comes from a mailing list: lists send as NAME-owner, Sympa's bounces
// come back to bounce+.
func (r *mailReader) queued(id string, text []byte) {
	from, rest, ok := bytes.Cut(text[len("from=<"):], []byte(">, size="))
	if bytes.HasSuffix(bytes.TrimSpace(text), []byte("status=expired, returned to sender")) {
		r.counts["expired"]++
		return
	}
	if !ok || len(id) > 32 {
		return
	}
	digits, _, _ := bytes.Cut(rest, []byte(","))
	size, okSize := number(digits)
	if _, known := r.sizes[id]; !okSize || !known && len(r.sizes) >= maxMails {
		return
	}
	local, _, _ := bytes.Cut(from, []byte("@"))
	list := bytes.HasSuffix(local, []byte("-owner")) || bytes.HasPrefix(local, []byte("bounce+")) || bytes.Contains(local, []byte("-owner+"))
	r.sizes[id] = mailSize{float64(size), list, r.h.Now()}
}

// tried counts one try to deliver to one recipient.
func (r *mailReader) tried(id string, text []byte) {
	_, rest, ok := bytes.Cut(text, []byte(" status="))
	if !ok {
		return
	}
	status, _, _ := bytes.Cut(rest, []byte(" "))
	switch string(status) {
	case "bounced", "deferred":
		r.counts[string(status)]++
	case "sent":
		r.counts["delivered"]++
		m := r.sizes[id]
		r.counts["volume"] += m.size
		if m.list {
			r.counts["sent_lists"]++
		} else {
			r.counts["sent_others"]++
		}
		if _, after, ok := bytes.Cut(text, []byte(" delay=")); ok {
			value, _, _ := bytes.Cut(after, []byte(","))
			if v, err := parseDecimal(value); err == nil && v >= 0 {
				r.delay, r.mails, r.longest = r.delay+v, r.mails+1, max(r.longest, v)
			}
		}
	}
}

// rejectCode is the three digits of a refusal: "NOQUEUE: reject: RCPT from HOST[ADDR]: 554 5.7.1 ...", "milter-reject: ...".
func rejectCode(text []byte) string {
	_, rest, ok := bytes.Cut(text, []byte("reject: "))
	if !ok {
		return ""
	}
	// The first word of three digits behind a colon; names of hosts have no blanks.
	for range 8 {
		var word []byte
		if word, rest = nextWord(rest); word == nil {
			return ""
		}
		if len(word) == 3 && (word[0] == '4' || word[0] == '5') && word[1] >= '0' && word[1] <= '9' && word[2] >= '0' && word[2] <= '9' {
			return string(word)
		}
	}
	return ""
}

var (
	postfixVolume = describe("postfix_mailvolume", `
		graph_title Postfix bytes throughput
		graph_args --base 1000 -l 0
		graph_vlabel bytes / ${graph_period}
		graph_scale yes
		graph_category postfix
		volume.label delivered volume
		volume.type DERIVE
		volume.min 0`)
	postfixTries = describe("postfix_tries", `
		graph_title Postfix deliveries by outcome
		graph_args --base 1000 -l 0
		graph_vlabel deliveries / ${graph_period}
		graph_period minute
		graph_category postfix
		sent_lists.label sent, of mailing lists
		sent_lists.type DERIVE
		sent_lists.min 0
		sent_lists.draw AREA
		sent_others.label sent, others
		sent_others.type DERIVE
		sent_others.min 0
		sent_others.draw STACK
		deferred.label put off
		deferred.type DERIVE
		deferred.min 0
		bounced.label refused
		bounced.type DERIVE
		bounced.min 0
		expired.label given up
		expired.type DERIVE
		expired.min 0`)
	postfixDelay = describe("postfix_delay", `
		graph_title Postfix time to deliver
		graph_args --base 1000 -l 0
		graph_vlabel seconds
		graph_category postfix
		mean.label mean
		longest.label longest`)
	postfixLogins = describe("postfix_logins", `
		graph_title Postfix failed logins
		graph_args --base 1000 -l 0
		graph_vlabel failures / ${graph_period}
		graph_period minute
		graph_category postfix
		logins_failed.label failed
		logins_failed.type DERIVE
		logins_failed.min 0`)
)

func (r *mailReader) readings() []Reading {
	stats := newTally("postfix_mailstats", "graph_title Postfix message throughput\ngraph_args --base 1000 -l 0\ngraph_vlabel mails / ${graph_period}\ngraph_scale  no\ngraph_total  Total\ngraph_category postfix\ngraph_period minute\n", "type DERIVE\ndraw AREASTACK\nmin 0\n")
	stats.add("delivered", "delivered", r.counts["delivered"])
	codes := slices.Sorted(slices.Values(r.rejects))
	for _, code := range codes {
		stats.add("r"+code, "reject "+code, r.counts["r"+code])
	}
	delays := map[string]float64{}
	if r.mails > 0 { // else there was none to tell of
		delays["mean"], delays["longest"] = math.Round(1000*r.delay/r.mails)/1000, r.longest
	}
	return []Reading{
		readingOf(describe(stats.service, stats.describe()), from(stats.values)),
		readingOf(postfixVolume, from(r.counts)), readingOf(postfixTries, from(r.counts)), readingOf(postfixLogins, from(r.counts)),
		readingOf(postfixDelay, from(delays)),
	}
}
