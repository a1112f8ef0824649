package source

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"tocsin"
	"tocsin/internal/exec"
)

// JournalOptions says which entries of the journal are read, and from where.
type JournalOptions struct {
	Name  string   // how records and marks name the source: "journal:_SYSTEMD_UNIT=ssh.service"
	Match []string // terms as journalctl takes them, "+" between alternatives; empty: every entry

	// Require are terms that every entry must meet beside Match, such as "_UID=0". They are checked here once more:
	// journalctl takes two terms of the same field for alternatives.
	Require []string

	// Marks are those of the last run; the newest with a cursor counts. Where none has one, what was written up to the time
	// of the newest was seen, and what came later is news.
	Marks []Mark

	// Since is from where entries before the mark are handed over again, flagged Seen; without a mark, every entry up
	// to now. Zero: only what is news.
	Since time.Time

	Command string       // absolute path; default: journalctl, wherever it is
	Args    []string     // further arguments, such as "--directory=/var/log/journal/remote"
	Log     *slog.Logger // nil: silent
}

// Journal follows systemd's journal through a journalctl child. Reading the files ourselves would tie us to their
// format; 300,000 entries a second come through the pipe.
type Journal struct {
	counters
	o       JournalOptions
	backoff time.Duration // the first wait before journalctl is started again
	silence time.Duration // so long journalctl says nothing once it has no more of the past to tell
}

// NewJournal checks the options. It starts nothing.
func NewJournal(o JournalOptions) (*Journal, error) {
	if msg, hint := checkMatches(o.Match); msg != "" {
		return nil, &SpecError{o.Name, msg, hint}
	}
	if msg, hint := checkMatches(o.Require); msg != "" || slices.Contains(o.Require, "+") {
		return nil, &SpecError{o.Name, "required: " + msg, hint}
	}
	o.Log = logger(o.Log)
	return &Journal{o: o, backoff: minBackoff, silence: time.Second}, nil
}

const (
	minBackoff = time.Second
	maxBackoff = 30 * time.Second

	// entryPatience is how long journalctl may take within one entry before it is taken for stuck.
	entryPatience = 30 * time.Second
)

// outputFields are what a line is made of. journalctl adds those that begin with two underscores.
const outputFields = "_HOSTNAME,SYSLOG_IDENTIFIER,_COMM,SYSLOG_PID,_PID,MESSAGE,_SOURCE_REALTIME_TIMESTAMP,_SOURCE_MONOTONIC_TIMESTAMP"

// Run reads until ctx ends, and then returns nil. A journalctl that fails is logged, counted, and started again after a
// while, from 1 s up to 30 s. It goes on behind the last entry.
func (j *Journal) Run(ctx context.Context, s Sink) error {
	r := newJournalRun(j, s)
	for backoff := j.backoff; ; backoff = min(2*backoff, maxBackoff) {
		before := r.last.pos
		err := r.child(ctx, true)
		r.sayMark(time.Now())
		if ctx.Err() != nil {
			return nil
		}
		if r.last.pos != before {
			backoff = j.backoff
		}
		j.errors.Add(1)
		j.restarts.Add(1)
		j.o.Log.Warn("journalctl ended, starting it again", "source", j.o.Name, "err", err, "dur", backoff)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(backoff):
		}
	}
}

// Replay hands over every entry from Since on that the journal holds, as news, and returns.
func (j *Journal) Replay(ctx context.Context, record func(*tocsin.Record)) error {
	r := &journalRun{Journal: j, sink: Sink{Record: record}, from: j.o.Since, live: true}
	r.rec.Source = j.o.Name
	if err := r.child(ctx, false); err != nil && ctx.Err() == nil {
		return fmt.Errorf("source %s: %w", j.o.Name, err)
	}
	return ctx.Err()
}

// journalRun is one run of a Journal.
type journalRun struct {
	*Journal
	sink Sink
	from time.Time // where to begin while last says nothing; zero: at the journal's beginning

	mark     cursor    // where the run before ended: what is not behind it was seen
	seenTill time.Time // without a mark, entries up to this time were seen
	readTill time.Time // with one that has no cursor, entries that claim no later time were

	last     cursor // the last entry that was read, or known
	noCursor bool   // journalctl refused it: only its time helps

	began time.Time
	live  bool // caught up

	unsaid   bool // something was read since the last mark
	nextMark time.Time
	rec      tocsin.Record
	text     []byte
}

func newJournalRun(j *Journal, s Sink) *journalRun {
	now := time.Now()
	r := &journalRun{Journal: j, sink: s, from: j.o.Since, began: now}
	r.rec.Source = j.o.Name
	var newest, till time.Time // till: of the marks without a cursor
	for _, m := range j.o.Marks {
		if c, ok := parseCursor([]byte(m.Cursor)); ok && !m.At.Before(newest) {
			r.mark, newest = c, m.At
		} else if m.Cursor == "" && m.At.After(till) {
			till = m.At
		}
	}
	switch {
	case r.mark.isZero() && !till.IsZero():
		r.readTill = till
		if r.from.IsZero() || r.from.After(till) {
			r.from = till
		}
	case r.mark.isZero() && r.from.IsZero():
		r.from = now
	case r.mark.isZero():
		r.seenTill = now
	case r.from.IsZero() || r.from.After(r.mark.time()):
		r.last = r.mark
	}
	return r
}

// child runs one journalctl to its end. That it ended by itself is no error, if it ended well.
func (r *journalRun) child(ctx context.Context, follow bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	command, err := r.command(follow)
	if err != nil {
		return err
	}
	child, err := exec.Start(ctx, command)
	if err != nil {
		return err
	}
	out, ok := child.Stdout.(pipe)
	if !ok {
		panic("BUG: a child's output is no pipe")
	}
	known := r.last
	n, err := r.entries(out)
	if err != nil {
		cancel() // it writes nonsense, or is stuck
	}
	werr := child.Wait()
	if err == nil {
		err = werr
	}
	var exit *exec.ExitError
	if n == 0 && !known.isZero() && !r.noCursor && errors.As(err, &exit) && strings.Contains(exit.Stderr, "cursor") {
		r.noCursor = true
		r.o.Log.Warn("the journal refuses the saved cursor, reading on from its time", "source", r.o.Name, "err", err)
	}
	return err
}

// pipe is what exec.Child reads from: os/exec makes it an *os.File.
type pipe interface {
	io.Reader
	SetReadDeadline(time.Time) error
}

func (r *journalRun) command(follow bool) (c exec.Command, err error) {
	c = exec.Command{Path: r.o.Command, Args: r.args(follow)}
	if c.Path == "" {
		c.Path, err = exec.Find("journalctl")
	}
	return c, err
}

// args are journalctl's. It is given the entry that was read last, not what is after it: if the first entry that comes
// is another one, the journal has been vacuumed, and no entry is skipped in its place.
func (r *journalRun) args(follow bool) []string {
	args := []string{"--output=export", "--quiet", "--no-pager", "--no-tail"}
	fields := outputFields
	for _, term := range r.o.Require {
		name, _, _ := strings.Cut(term, "=")
		fields += "," + name
	}
	args = append(args, "--output-fields="+fields)
	if follow {
		args = append(args, "--follow")
	}
	switch from := r.from; {
	case !r.last.isZero() && !r.noCursor:
		args = append(args, "--cursor="+r.last.text)
	case !r.last.isZero():
		args = append(args, sinceArg(r.last.time()))
	case !from.IsZero():
		args = append(args, sinceArg(from))
	}
	args = append(args, r.o.Args...)
	for _, term := range r.o.Match {
		if term == "+" {
			args = append(args, r.o.Require...)
		}
		args = append(args, term)
	}
	return append(args, r.o.Require...)
}

func sinceArg(t time.Time) string {
	return fmt.Sprintf("--since=@%d.%06d", t.Unix(), t.Nanosecond()/1000)
}

// entries hands over what journalctl writes, until it ends. It answers how many entries came.
func (r *journalRun) entries(out pipe) (n int, err error) {
	x := &exportReader{r: bufio.NewReaderSize(out, bufSize)}
	for {
		if x.r.Buffered() == 0 {
			if err := r.await(out, x.r); errors.Is(err, io.EOF) {
				return n, nil
			} else if err != nil {
				return n, err
			}
		}
		now := time.Now()
		out.SetReadDeadline(now.Add(entryPatience))
		before := x.read
		err := x.next()
		r.bytes.Add(x.read - before)
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		n++
		r.entry(x, n)
		if r.unsaid && !now.Before(r.nextMark) {
			r.sayMark(now)
		}
	}
}

// await waits for the next entry, and meanwhile says the mark that is due and that the past has ended.
func (r *journalRun) await(out pipe, b *bufio.Reader) error {
	silent := time.Now().Add(r.silence)
	for {
		deadline := time.Time{} // none
		if r.unsaid {
			deadline = r.nextMark
		}
		if !r.live && (deadline.IsZero() || silent.Before(deadline)) {
			deadline = silent
		}
		out.SetReadDeadline(deadline)
		_, err := b.Peek(1)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		now := time.Now()
		if !now.Before(silent) {
			r.caughtUp()
		}
		if r.unsaid && !now.Before(r.nextMark) {
			r.sayMark(now)
		}
	}
}

func (r *journalRun) caughtUp() {
	if !r.live {
		r.live = true
		r.sink.caughtUp()
	}
}

// entry hands over the nth entry of a child.
func (r *journalRun) entry(x *exportReader, n int) {
	text, _ := x.field("__CURSOR")
	at, ok := parseCursor(text)
	if !ok {
		r.malformed.Add(1)
		return
	}
	if n == 1 && !r.last.isZero() && !r.noCursor && at.text != r.last.text {
		r.o.Log.Warn("the journal no longer holds the entry that was read last; what was between is lost",
			"source", r.o.Name)
	}
	if !r.last.isZero() && !at.after(r.last) {
		return // handed over before journalctl had to be started again
	}
	r.last, r.noCursor, r.unsaid = at, false, true
	if at.time().After(r.began) {
		r.caughtUp()
	}
	for _, term := range r.o.Require {
		if name, value, _ := strings.Cut(term, "="); !x.has(name, value) {
			r.refused.Add(1)
			return
		}
	}
	if message, _ := x.field("MESSAGE"); len(message) > 0 {
		r.hand(x)
	}
}

func (r *journalRun) hand(x *exportReader) {
	r.text = x.appendText(r.text[:0])
	if len(r.text) > maxLine || x.wasCut("MESSAGE") {
		r.cut.Add(1)
	}
	r.rec.Text = r.text[:min(len(r.text), maxLine)]
	r.rec.Pos = r.last.pos
	r.rec.At = time.Time{}
	if us, ok := x.microseconds("_SOURCE_REALTIME_TIMESTAMP", "__REALTIME_TIMESTAMP"); ok {
		r.rec.At = time.UnixMicro(us)
	}
	r.rec.Seen = !r.mark.isZero() && !r.last.after(r.mark) || !r.last.time().After(r.seenTill) ||
		!r.readTill.IsZero() && !r.rec.At.After(r.readTill)
	if r.rec.Seen {
		r.seen.Add(1)
	}
	r.lines.Add(1)
	r.sink.Record(&r.rec)
}

func (r *journalRun) sayMark(now time.Time) {
	if !r.last.isZero() {
		r.sink.mark(Mark{Source: r.o.Name, Pos: r.last.pos, Cursor: r.last.text, At: now})
	}
	r.unsaid, r.nextMark = false, now.Add(markEvery)
}
