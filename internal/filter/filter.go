// Package filter reads what lines of a log tell: a failure, a login, the end of one, or nothing.
//
// It owns dates (Dates), the meaning of fail2ban's filter language (tags, prefregex, failregex, ignoreregex, sessions
// over several lines) and the filters that ship with the program (Load). It does not read files, count failures, resolve
// names or ban. The files of the language are read by package fail2ban, expressions are matched by package regex.
//
// The one thing to know: everything in a line is written by strangers. A Filter blames only what its expression finds
// and what is an address when it is parsed strictly, no line makes it remember more than its bounds allow, and its answer
// depends on the lines alone, never on the clock (but for the year or the day that a date leaves out).
package filter

import (
	"time"

	"tocsin"
	"tocsin/internal/fail2ban"
)

// maxLine is the length at which a line counts as cut off. What a stranger wrote may then stand at its right-hand end,
// where rules look for the peer, so it is not looked at.
const maxLine = 16 << 10

// Options are the settings of a Filter. The zero value is good.
type Options struct {
	// Location is the zone of dates that name none; nil is time.Local.
	Location *time.Location
	// Now is asked for the year or the day that a date leaves out, and for the time of a line without any date before the
	// first that has one; nil is time.Now. A reader of old logs answers with the time at which the log ended.
	Now func() time.Time
	// NoDate says that lines carry no date, as in a journal: a record's own time counts.
	NoDate bool
	// Dates, if not nil, is used in place of one of its own. The filters of one source, in one goroutine, may share it:
	// each line's date is then read once. It must fit the filter's datepattern, and brings its own Location and Now.
	Dates *Dates
	// NoLines says that nobody reads the lines of a Failure: its Line is without Text, and Context and Fields stay empty.
	NoLines bool
	// Groups says that somebody reads the named groups of what is found (Filter.Groups).
	Groups bool
}

// Kind is what a line is to a filter.
type Kind uint8

// The kinds of lines.
const (
	Nothing   Kind = iota // no rule fits
	Helper                // a line of a session that counts as nothing by itself
	Ignored               // a rule fits, and so does ignoreregex
	Failed                // Failure is set
	LoggedIn              // Login is set, and Opened
	LoggedOut             // Login is set, not Opened
	BadID                 // Failure is set, for people to see: what it blames is no address, and must never be banned
)

var kindNames = [...]string{"nothing", "helper", "ignored", "failed", "logged in", "logged out", "bad id"}

func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "unknown"
}

// Result is what a line tells. Failure and Login point into the Filter and hold until its next call of Line; the strings
// and slices in them are their receiver's for good.
type Result struct {
	Kind    Kind
	Rule    int // which failregex fits; -1 if none
	Failure *tocsin.Failure
	Login   *tocsin.Login
}

// Stats counts what a Filter met since it was made.
type Stats struct {
	Lines     uint64
	Undated   uint64 // lines that were shown without a date they should have; they take the time of the last one that had one
	TooLong   uint64 // lines of 16 KiB and more, not looked at
	Ignored   uint64
	Helpers   uint64
	Failures  uint64
	BadIDs    uint64
	Logins    uint64
	Logouts   uint64
	Nameless  uint64 // logins and failures for which no line ever named the peer
	Sessions  int    // remembered now
	Dropped   uint64 // sessions, and lines of maxlines, pushed out before their time: the bounds are too small for this log
	OutOfStep uint64 // texts that the exact matcher gave up on: no match was said, one may have been there
}

// Filter reads the lines of one source for one jail. It belongs to one goroutine.
type Filter struct {
	*Program
	dates    *Dates
	now      func() time.Time
	noDate   bool
	noLines  bool
	prefix   *matching // nil: the whole line is the content
	fail     *matching
	ignore   *matching // nil: none
	ring     *ring     // nil unless a match may span several lines
	sessions *sessions
	groups   *found // nil: nobody reads them

	peers   *Group // nil: every line is shown
	scratch []byte // a line whose date was cut out of its middle
	spans   []span // of the line at hand, by slot
	values  parts  // the same as texts, of the slots that tell
	filled  fills  // which of them may be set
	failure tocsin.Failure
	login   tocsin.Login
	stats   Stats
}

// New compiles a filter that is needed once: see Compile.
func New(def fail2ban.Filter, o Options) (*Filter, error) {
	p, err := Compile(def)
	if err != nil {
		return nil, err
	}
	return p.Filter(o), nil
}

// Last is the time of the line that was read last, zero before the first. A line without a date has that of the one before.
func (f *Filter) Last() time.Time {
	if f.peers != nil {
		f.peers.past.date(f.dates, maxPastLines)
	}
	return f.dates.latest
}

// Stats says what the filter met so far.
func (f *Filter) Stats() Stats {
	s := f.stats
	if f.peers != nil {
		s.Lines += f.peers.lines
		s.TooLong += f.peers.tooLong
	}
	s.Sessions = f.sessions.n
	s.Dropped += f.sessions.dropped
	s.Nameless += f.sessions.lost
	for _, r := range []*matching{f.prefix, f.fail, f.ignore} {
		s.OutOfStep += r.stats().OutOfSteps
	}
	return s
}

// Line says what the line of r tells. It allocates only for what outlives the call: a failure, a line that waits for one.
func (f *Filter) Line(r *tocsin.Record) Result {
	f.stats.Lines++
	if len(r.Text) >= maxLine {
		f.stats.TooLong++
		return Result{Rule: -1}
	}
	return f.tell(r, 0, true)
}

// tell says what line number n tells. wanted is false for a line that could not be part of a match over several lines, but
// for one that is (see ring).
func (f *Filter) tell(r *tocsin.Record, n uint64, wanted bool) Result {
	if f.ring != nil {
		return f.overLines(r, n, wanted)
	}
	at, from, to := f.date(r, n)
	text := f.cut(r.Text, from, to)
	kind, rule := f.match(text)
	if kind != Failed {
		return Result{Kind: kind, Rule: rule}
	}
	f.read(text)
	return f.judge(rule, text, seen{r, at}, nil)
}

// seen is a record and its time. A Line, which costs a copy of the text, is made only of one that somebody keeps.
type seen struct {
	*tocsin.Record
	at time.Time
}

func (f *Filter) line(s seen) tocsin.Line {
	line := tocsin.Line{Source: s.Source, Pos: s.Pos, At: s.at}
	if !f.noLines {
		line.Text = string(s.Text)
	}
	return line
}

// date is the time of record number n, and which bytes of its text told it.
func (f *Filter) date(r *tocsin.Record, n uint64) (at time.Time, from, to int) {
	if !r.At.IsZero() {
		return r.At, 0, 0
	}
	if !f.noDate {
		var ok bool
		if at, from, to, ok = f.dates.read(n, r.Text); ok {
			return at, from, to
		}
		f.stats.Undated++
		if f.peers != nil {
			f.peers.past.date(f.dates, maxPastLines)
		}
	}
	if f.dates.latest.IsZero() {
		return f.now(), from, to
	}
	return f.dates.latest, from, to
}

// cut is text without its date. What stands before the date and what stands behind it are joined, as in fail2ban.
func (f *Filter) cut(text []byte, from, to int) []byte {
	if from == 0 {
		return text[to:]
	}
	f.scratch = append(append(f.scratch[:0], text[:from]...), text[to:]...)
	return f.scratch
}

// match finds the first rule that fits the line without its date, and sets f.spans. The kind is Nothing, Ignored or
// Failed; Failed means only that a rule fits.
func (f *Filter) match(text []byte) (Kind, int) {
	if f.ignoreFirst && f.ignore.match(text) >= 0 {
		f.stats.Ignored++
		return Ignored, -1
	}
	rule, content, offset := f.search(text)
	if rule < 0 {
		return Nothing, -1
	}
	if f.ignore != nil && f.ignore.match(content) >= 0 {
		f.stats.Ignored++
		return Ignored, rule
	}
	f.group(rule, offset)
	return Failed, rule
}

// search asks prefregex, then failregex about the content that it leaves, which begins at text[offset:].
func (f *Filter) search(text []byte) (rule int, content []byte, offset int) {
	content = text
	if f.prefix != nil {
		if f.prefix.match(text) < 0 {
			return -1, nil, 0
		}
		if f.content > 0 {
			if from, to := f.prefix.matcher.Group(f.content); to > from {
				content, offset = text[from:to], from
			}
		}
	}
	return f.fail.match(content), content, offset
}

// group sets f.spans from the last match: the groups of prefregex, and over them those of the rule.
func (f *Filter) group(rule, offset int) {
	for _, i := range f.filled.slots {
		f.spans[i] = unset
	}
	for _, i := range f.filled.told {
		f.values[i] = nil
	}
	f.filled = f.fills[rule]
	if f.prefix != nil {
		f.prefix.overlay(0, 0, f.spans)
	}
	f.fail.overlay(rule, offset, f.spans)
}

// read sets f.values: parts of text, which f.spans are places in.
func (f *Filter) read(text []byte) {
	for _, i := range f.filled.told {
		if s := f.spans[i]; !empty(s) {
			f.values[i] = text[s.From:s.To]
		}
	}
}

// has says whether the group of a slot took part in the match of the line at hand.
func (f *Filter) has(i slot) bool { return !empty(f.spans[i]) }

// judge makes an answer of the groups in f.spans and f.values. text is the text that was matched; earlier are lines that
// the same match took, if it took several.
func (f *Filter) judge(rule int, text []byte, now seen, earlier []tocsin.Line) Result {
	if f.groups != nil {
		f.groups.of = f.named(text)
	}
	if f.has(slotSession) {
		key := f.spans[slotSession]
		return f.inSession(rule, text[key.From:key.To], now, earlier)
	}
	ended, gained := f.has(slotEnded), f.has(slotGained)
	if !ended && !gained && f.has(slotNoFail) {
		return f.helper(rule)
	}
	who := identify(f.values)
	switch {
	case ended || gained:
		return f.logged(rule, &who, f.values, now, !ended)
	case who.id == "":
		f.stats.Nameless++
		return f.helper(rule)
	}
	return f.failed(rule, &who, f.values, now, earlier)
}

// inSession judges a line that belongs to a session.
func (f *Filter) inSession(rule int, key []byte, now seen, earlier []tocsin.Line) Result {
	forget := f.has(slotForget)
	s := f.sessions.get(key, now.at)
	switch {
	case s == nil && forget: // one line is all there ever is of it
		s = f.sessions.take()
		res := f.follow(s, rule, now, earlier)
		f.sessions.release(s)
		return res
	case s == nil:
		s = f.sessions.add(key, now.at)
	case s.other(f.values):
		f.stats.Nameless += uint64(len(s.pending))
		groups := s.groups // fail2ban knows no other peer
		s.reset(f.told)
		s.groups = groups
	}
	if f.groups != nil {
		f.groups.follow(s)
	}
	res := f.follow(s, rule, now, earlier)
	if forget {
		f.sessions.remove(s)
	} else {
		f.sessions.account(s)
	}
	return res
}

// follow judges a line as the next of session s. fail2ban's rules for it, with the session's own time and bounds: a helper
// only adds what it knows; a failure whose peer is not known yet waits for the line that names it; a success forgets what
// waits, unless several user names were tried. <F-MLFENDED> and <F-MLFONCE> are our own.
func (f *Filter) follow(s *session, rule int, now seen, earlier []tocsin.Line) Result {
	gained, once, forget := f.has(slotGained), f.has(slotOnce), f.has(slotForget)
	noFail := gained || f.has(slotNoFail)
	s.learn(f.values, f.filled.told)
	if f.has(slotEnded) {
		return f.logged(rule, s.identity(), s.values, now, false)
	}
	if gained && !s.several || once && s.counted {
		s.forgive()
	}
	switch {
	case once:
		noFail = s.counted
	case len(s.pending) > 0 || s.several:
		noFail, gained = false, false
	}
	switch {
	case gained:
		return f.logged(rule, s.identity(), s.values, now, true)
	case noFail:
		if !forget {
			s.helpers = keep(s.helpers, f.line(now))
		}
		return f.helper(rule)
	}
	who := s.identity()
	switch {
	case who.id != "":
		s.counted = true
		if f.noLines {
			s.drop()
			return f.failed(rule, who, s.values, now, nil)
		}
		return f.failed(rule, who, s.values, now, append(s.deliver(), earlier...))
	case forget:
		f.stats.Nameless++
	default:
		s.pending = keep(s.pending, f.line(now))
	}
	return f.helper(rule)
}

func (f *Filter) helper(rule int) Result {
	f.stats.Helpers++
	return Result{Kind: Helper, Rule: rule}
}

// failed answers with a failure of who, of whom values tell more.
func (f *Filter) failed(rule int, who *identity, values parts, now seen, context []tocsin.Line) Result {
	f.failure = tocsin.Failure{Filter: f.def.Name, ID: who.id, Prefix: who.prefix, Host: who.host, User: again(f.failure.User, values[slotUser]),
		At: now.at, Line: f.line(now), Context: context}
	if !f.noLines {
		f.failure.Fields = f.fields(values, who)
	}
	if who.bad {
		f.stats.BadIDs++
		return Result{Kind: BadID, Rule: rule, Failure: &f.failure}
	}
	f.stats.Failures++
	return Result{Kind: Failed, Rule: rule, Failure: &f.failure}
}

// fields are the groups that no other part of a Failure tells.
func (f *Filter) fields(values parts, who *identity) []tocsin.Field {
	n := 0
	own := func(i slot) bool {
		return len(values[i]) > 0 && (i == slotPort || i >= firstOwnSlot && !isSkipLines(f.names[i]))
	}
	for i := range values {
		if own(i) {
			n++
		}
	}
	other := who.addr.IsValid() && len(values[slotID]) > 0 && who.prefix.Addr() != who.addr
	if other {
		n++
	}
	if n == 0 {
		return nil
	}
	fields := make([]tocsin.Field, 0, n)
	if other {
		fields = append(fields, tocsin.Field{Name: "ip", Value: who.addr.String()})
	}
	for i, v := range values {
		if own(i) {
			name := f.names[i]
			if i == slotPort {
				name = "port"
			}
			fields = append(fields, tocsin.Field{Name: name, Value: string(v)})
		}
	}
	return fields
}

// logged answers with the beginning or end of a login. One whose peer nobody named is of no use, and counted.
func (f *Filter) logged(rule int, who *identity, values parts, now seen, opened bool) Result {
	if !who.addr.IsValid() {
		f.stats.Nameless++
		return f.helper(rule)
	}
	port := values[slotPort]
	if i := f.port; len(port) == 0 && i >= 0 {
		port = values[i]
	}
	f.login = tocsin.Login{Source: now.Source, Addr: who.addr, Port: parsePort(port), User: again(f.login.User, values[slotUser]),
		At: now.at, Opened: opened}
	if opened {
		f.stats.Logins++
		return Result{Kind: LoggedIn, Rule: rule, Login: &f.login}
	}
	f.stats.Logouts++
	return Result{Kind: LoggedOut, Rule: rule, Login: &f.login}
}

// again is b as a string: the one of the line before, if it is the same, which costs no copy.
func again(before string, b []byte) string {
	if string(b) == before {
		return before
	}
	return string(b)
}
