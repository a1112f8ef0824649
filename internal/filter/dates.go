package filter

import (
	"slices"
	"time"
	"unicode/utf8"
)

// future is how far ahead of now a date without a year may lie; beyond it, the line is from an earlier year. A day
// leaves room for a clock or a zone that is wrong (RFC 3164 prescribes no year: section 4.1.2).
const future = 24 * time.Hour

// Dates finds the time that a log line claims, and where it stands.
//
// It knows the formats that fail2ban knows by default and those that a datepattern describes. It remembers what it
// found last: the format is tried first, and a line that begins with the same bytes costs a few nanoseconds. What it
// remembers decides only between readings that are equally good, such as 01-02-2026.
//
// A date that names no zone is in the Location of the Dates. A local time that the clock jumped over, or ran through
// twice, is one of the two that time.Date allows, never more than the jump away.
//
// A Dates belongs to one goroutine. Filters of the same source may share one (Options.Dates).
type Dates struct {
	loc      *time.Location
	now      func() time.Time
	patterns []datePattern // in order of preference; never empty
	last     int           // the index of the pattern that matched last
	learnt   format        // the built-in format that matched last
	sc       scanner
	head     head
	hour     hour

	latest time.Time // the date of the last line that had one
	upTo   uint64    // the number of the last line that latest takes into account, where lines have numbers
	memo   dated
}

// dated is what Find answered for the line of a number.
type dated struct {
	line       uint64 // 0: none
	at         time.Time
	start, end int
	ok         bool
}

// datePattern is one line of a datepattern: the built-in formats or an expression.
type datePattern struct {
	anchored bool      // only at the start of the line, behind at most two characters that are no letters
	leads    bool      // expr cuts at the start of the line, behind at most two characters that are no letters
	none     bool      // {NONE}: lines carry no date
	expr     *dateExpr // nil: the built-in formats
}

// head is the beginning of the last line with a date in it, up to the end of its seconds.
type head struct {
	text     [64]byte
	n        int // 0: nothing is remembered
	start    int // where the date begins
	tail     tail
	unix     int64     // of the seconds, in the Location
	at       time.Time // the same
	yearless bool
}

// hour is the last hour of the calendar that was looked up in the Location. Within it the offset from UTC and the year
// that a line left out are the same, so what is left is to add minutes and seconds.
type hour struct {
	year, month, day, hour int // as the line told it; year 0 if it left it out
	known                  bool
	unix                   int64
	offset                 int64     // seconds east of UTC
	until                  time.Time // when a date without a year has to be thought about anew
}

// NewDates returns a Dates for every format that fail2ban knows by default, at the start of a line or, failing that,
// where the first one stands. loc is the zone of dates that name none, time.Local if nil. now, time.Now if nil, is asked
// to complete dates that leave out the year or the day.
func NewDates(loc *time.Location, now func() time.Time) *Dates {
	if loc == nil {
		loc = time.Local
	}
	if now == nil {
		now = time.Now
	}
	return &Dates{loc: loc, now: now, patterns: []datePattern{{}}}
}

// Find returns the time that line claims and the bytes line[start:end] that tell it. The time is in UTC and keeps
// fractions of a second. ok is false if line holds no date; start and end are then 0, or say where one stands that fits
// the filter's datepattern but is in no calendar. Find does not allocate.
func (d *Dates) Find(line []byte) (t time.Time, start, end int, ok bool) {
	if d.head.n > 0 {
		if t, end, ok = d.again(line); ok {
			return t, d.head.start, end, true
		}
	}
	for k := range d.patterns {
		i := d.nth(k)
		at, from, to, found := d.find(&d.patterns[i], line)
		if !found {
			if !ok && to > from {
				start, end = from, to
			}
			continue
		}
		if ok && from >= start {
			continue
		}
		t, start, end, ok = at, from, to, true
		d.last = i
		if d.patterns[i].anchored || start == 0 {
			break
		}
	}
	return t, start, end, ok
}

// read is Find for line number n, which several filters may ask about; 0 is a line without a number.
func (d *Dates) read(n uint64, line []byte) (t time.Time, start, end int, ok bool) {
	f := &d.memo
	if n == 0 || f.line != n {
		f.line = n
		if f.at, f.start, f.end, f.ok = d.Find(line); f.ok {
			d.latest, d.upTo = f.at, n
		}
	}
	return f.at, f.start, f.end, f.ok
}

// atStart says that a date stands at the start of line, behind at most maxLead characters that are no letters; it costs
// less than to read it. False says nothing.
func (d *Dates) atStart(line []byte) bool {
	h := &d.head
	if h.n == 0 || len(line) <= h.n || string(line[:h.n-mmss]) != string(h.text[:h.n-mmss]) {
		return false
	}
	c := line[h.n-mmss : h.n+1]
	return c[0]-'0' < 6 && isDigit(c[1]) && c[2] == ':' && c[3]-'0' < 6 && isDigit(c[4]) &&
		c[5] < utf8.RuneSelf && !isWordByte(c[5]) && isLead(line[:h.start])
}

// isLead says whether what stands before a date is so little that it counts as the start of the line.
func isLead(before []byte) bool {
	for _, b := range before {
		if b >= utf8.RuneSelf || isWordByte(b) {
			return false
		}
	}
	return len(before) <= maxLead
}

// maxLead is how many characters that are no letters may stand before a date at the start of a line.
const maxLead = 2

// mmss is the length of the minutes and seconds at the end of a head.
const mmss = 5

// nth orders the patterns: the last one that matched, then the others as they were given.
func (d *Dates) nth(k int) int {
	switch {
	case k == 0:
		return d.last
	case k <= d.last:
		return k - 1
	}
	return k
}

func (d *Dates) find(p *datePattern, line []byte) (t time.Time, start, end int, ok bool) {
	switch {
	case p.none:
		return t, 0, 0, false
	case p.expr != nil:
		return p.expr.find(d, line)
	}
	return d.findBuiltin(line, p.anchored)
}

// again answers for a line that begins like the one before, or differs from it in minutes and seconds only.
func (d *Dates) again(line []byte) (t time.Time, end int, ok bool) {
	h := &d.head
	if len(line) < h.n || string(line[:h.n]) != string(h.text[:h.n]) && !d.later(line) {
		return t, 0, false
	}
	if h.endsAt(line) {
		return h.at, h.n, true
	}
	sec, c := h.unix, &d.sc.c
	c.year, c.nsec, c.zoned = 0, 0, false
	if end = c.tail(line, h.n, h.tail); end < 0 || c.year > 0 {
		return t, 0, false
	}
	if c.zoned {
		sec += d.hour.offset - int64(c.zone)
	}
	return time.Unix(sec, int64(c.nsec)).UTC(), end, true
}

// later moves the head on to a line that differs from it in minutes and seconds, if it does in nothing else.
func (d *Dates) later(line []byte) bool {
	h := &d.head
	if string(line[:h.n-mmss]) != string(h.text[:h.n-mmss]) {
		return false
	}
	clock := line[h.n-mmss : h.n]
	m, s := twoDigits(clock[0], clock[1]), twoDigits(clock[3], clock[4])
	if m < 0 || m > 59 || s < 0 || s > 59 || clock[2] != ':' || h.yearless && !d.now().Before(d.hour.until) {
		return false
	}
	h.tell(d.hour.unix + int64(m*60+s))
	copy(h.text[h.n-mmss:], clock)
	return true
}

func (h *head) tell(unix int64) { h.unix, h.at = unix, time.Unix(unix, 0).UTC() }

// endsAt says for sure that nothing behind the head belongs to the date, neither a fraction nor a year. Most lines of
// syslog are so.
func (h *head) endsAt(line []byte) bool {
	return h.tail == tailYear && h.n+1 < len(line) && line[h.n] == ' ' && line[h.n+1] != '2'
}

// findBuiltin looks for the formats known by default: at the start of the line, then, unless anchored, from left to
// right, so that text further right, which a stranger may have written, cannot take the place of the date.
func (d *Dates) findBuiltin(line []byte, anchored bool) (t time.Time, start, end int, ok bool) {
	lead := leadIn(line)
	for _, p := range lead {
		if p < 0 {
			continue
		}
		if t, end, ok = d.at(line, p, true); ok {
			return t, p, end, true
		}
	}
	if anchored {
		return t, 0, 0, false
	}
	word := false // a letter or digit ends just before p
	for p, b := range line {
		kind := byteKinds[b]
		if kind&kindBegins != 0 && !(word && kind&kindWord != 0) {
			if t, end, ok = d.at(line, p, false); ok {
				return t, p, end, true
			}
		}
		word = kind&kindWord != 0 || b >= utf8.RuneSelf && wordBefore(line, p+1)
	}
	return t, 0, 0, false
}

// leadIn is where an anchored date may begin: behind two, one or no characters that are no letters, as far as there
// are any; -1 where there are none.
func leadIn(line []byte) [3]int {
	at := [3]int{-1, -1, 0}
	p := 0
	for k := 1; k >= 0 && p < len(line) && !wordAt(line, p); k-- {
		_, n := utf8.DecodeRune(line[p:])
		p += n
		at[k] = p
	}
	return at
}

// What a byte can be to a date.
const (
	kindWord   = 1 << iota // a letter, digit or underscore: no date begins or ends between two of them
	kindBegins             // a date may begin with it
)

var byteKinds = func() (kinds [256]uint8) {
	for b := range utf8.RuneSelf {
		if isWordByte(byte(b)) {
			kinds[b] = kindWord | kindBegins
		}
	}
	for _, b := range []byte(" +-<@") {
		kinds[b] |= kindBegins
	}
	kinds['_'] = kindWord
	return kinds
}()

// The formats that may begin in the same way, in order of preference.
var (
	dayFormats     = []format{formatDMY, formatApache, formatCPanel, formatMDY}
	blankFormats   = []format{formatDMY, formatApache}
	isoFormats     = []format{formatISO}
	clockFormats   = []format{formatClock}
	mysqlFormats   = []format{formatMySQL}
	compactFormats = []format{formatCompact}
	epochFormats   = []format{formatEpoch}
	nameFormats    = []format{formatSyslog, formatYearMid, formatTomcat, formatASSP}
	zoneFormats    = []format{formatZoneName, formatZoneNum}
	signFormats    = []format{formatZoneNum}
	angleFormats   = []format{formatAngle}
	labelFormats   = []format{formatTAI64N}
)

// candidates are the formats that what stands at line[p:] could be, judged by its first bytes.
func candidates(line []byte, p int) []format {
	switch b := line[p]; {
	case isDigit(b):
		return numberFormats(line, p)
	case b == ' ':
		if p+1 < len(line) && isDigit(line[p+1]) {
			return blankFormats
		}
	case b == '+', b == '-':
		return signFormats
	case b == '<':
		return angleFormats
	case b == '@':
		return labelFormats
	case p+3 <= len(line):
		if name := letters3(line[p:]); monthOf(name) > 0 || isWeekday(name) {
			return nameFormats
		}
		if b >= 'A' && b <= 'Z' {
			return zoneFormats
		}
	}
	return nil
}

// numberFormats are the candidates that begin with a number: its length and the byte behind it leave few.
func numberFormats(line []byte, p int) []format {
	const longest = 11
	n := 1
	for n <= longest && p+n < len(line) && isDigit(line[p+n]) {
		n++
	}
	behind := byte(0)
	if p+n < len(line) {
		behind = line[p+n]
	}
	switch {
	case n <= 2 && (behind == '-' || behind == '/'):
		return dayFormats
	case n <= 2 && behind == ':':
		return clockFormats
	case n == 4 && (behind == '-' || behind == '/' || behind == '.'):
		return isoFormats
	case n == 6 && behind == ' ':
		return mysqlFormats
	case n == 8 && (behind == 'T' || behind == ' '):
		return compactFormats
	case n == 10, n == longest:
		return epochFormats
	}
	return nil
}

// at reads a date that begins exactly at line[p:], the learnt format first.
func (d *Dates) at(line []byte, p int, anchored bool) (t time.Time, end int, ok bool) {
	if p >= len(line) {
		return t, 0, false
	}
	formats := candidates(line, p)
	if len(formats) > 1 && slices.Contains(formats, d.learnt) {
		if t, end, ok = d.try(d.learnt, line, p, anchored); ok {
			return t, end, true
		}
	}
	for _, f := range formats {
		if t, end, ok = d.try(f, line, p, anchored); ok {
			return t, end, true
		}
	}
	return t, 0, false
}

// try reads the format f at line[p:] and remembers it if it fits.
func (d *Dates) try(f format, line []byte, p int, anchored bool) (t time.Time, end int, ok bool) {
	switch f {
	case formatClock:
		ok = anchored
	case formatEpoch:
		ok = anchored || inAudit(line, p)
	case formatAngle, formatASSP:
		ok = p == 0
	default:
		ok = true
	}
	if !ok {
		return t, 0, false
	}
	if end = d.sc.scan(f, line, p); end < 0 {
		return t, 0, false
	}
	sec, ok := d.unix(&d.sc.c)
	if !ok {
		return t, 0, false
	}
	d.learnt = f
	d.remember(line, p, f, sec)
	return time.Unix(sec, int64(d.sc.c.nsec)).UTC(), end, true
}

// inAudit says whether line[p:] stands behind "audit(", where auditd puts its seconds.
func inAudit(line []byte, p int) bool {
	const open = "audit("
	from := p - len(open)
	return from >= 0 && string(line[from:p]) == open && (from == 0 || !wordBefore(line, from))
}

// remember keeps the head of line for again. Only a date at the start of the line is kept: there it wins whatever
// follows. The date must end in MM:SS, and its hour must have been looked up.
func (d *Dates) remember(line []byte, p int, f format, sec int64) {
	c, h := &d.sc.c, &d.head
	h.n = 0
	n := c.headEnd
	if len(d.patterns) > 1 || p > 2 || n > len(h.text) || n-p < 8 || !d.hour.known || c.counted || c.day == 0 ||
		f == formatZoneName || f == formatZoneNum ||
		line[n-3] != ':' || line[n-6] != ':' || !isDigit(line[n-5]) || !isDigit(line[n-1]) || c.sec > 59 {
		return
	}
	if tailOf[f] == tailYear && c.year > 0 {
		return // the year stands behind the head
	}
	h.n, h.start, h.tail, h.yearless = n, p, tailOf[f], c.year == 0
	h.tell(d.hour.unix + int64(c.min*60+c.sec))
	copy(h.text[:], line[:n])
}

// unix turns what a line tells into seconds since 1970, and completes it where the line leaves something out.
func (d *Dates) unix(c *civil) (sec int64, ok bool) {
	switch {
	case c.counted:
		return c.unix, true
	case c.month == 0 || c.day == 0:
		return d.today(c)
	case c.year > 0 && c.day > daysIn(c.year, c.month), c.day > 31:
		return 0, false
	}
	if !d.lookUp(c) {
		return d.exactly(c)
	}
	sec = d.hour.unix + int64(c.min*60+c.sec)
	if c.zoned {
		sec += d.hour.offset - int64(c.zone)
	}
	return sec, true
}

// lookUp makes d.hour the hour of c, and says whether every minute of that hour can be reckoned from it.
func (d *Dates) lookUp(c *civil) bool {
	h := &d.hour
	if h.known && h.hour == c.hour && h.day == c.day && h.month == c.month && h.year == c.year &&
		(c.year > 0 || d.now().Before(h.until)) {
		return true
	}
	*h, d.head.n = hour{}, 0 // the head rests on the hour
	year, until := c.year, time.Time{}
	if year == 0 {
		now := d.now()
		if year = d.yearOf(c, now); year == 0 {
			return false
		}
		if d.date(year, c, 59, 59).After(now.Add(future)) {
			return false // the day of grace ends within this hour
		}
		until = d.date(year+1, c, 0, 0).Add(-future)
		if c.month == 2 && c.day == 29 {
			until = now // leap days are rare enough to think anew
		}
	}
	first, last := d.date(year, c, 0, 0), d.date(year, c, 59, 59)
	_, offset := first.Zone()
	if _, o := last.Zone(); o != offset || last.Sub(first) != time.Hour-time.Second || first.Hour() != c.hour {
		return false // the clock is changed within this hour
	}
	*h = hour{year: c.year, month: c.month, day: c.day, hour: c.hour, known: true, unix: first.Unix(), offset: int64(offset), until: until}
	return true
}

// exactly reckons a date on its own, without what was remembered.
func (d *Dates) exactly(c *civil) (sec int64, ok bool) {
	year := c.year
	if year == 0 {
		if year = d.yearOf(c, d.now()); year == 0 {
			return 0, false
		}
	}
	if c.zoned {
		return time.Date(year, time.Month(c.month), c.day, c.hour, c.min, c.sec, 0, time.UTC).Unix() - int64(c.zone), true
	}
	return d.date(year, c, c.min, c.sec).Unix(), true
}

func (d *Dates) date(year int, c *civil, min, sec int) time.Time {
	return time.Date(year, time.Month(c.month), c.day, c.hour, min, sec, 0, d.loc)
}

// yearOf chooses the year of a date that names none: the latest in which it exists and is at most a day ahead of now.
// It is 0 for a day that no year has.
func (d *Dates) yearOf(c *civil, now time.Time) int {
	latest := now.Add(future)
	const leapGap = 8 // years between the leap days around 1900 and 2100
	this := now.In(d.loc).Year()
	for year := this + 1; year >= this-leapGap; year-- {
		if c.day > daysIn(year, c.month) {
			continue
		}
		t := d.date(year, c, c.min, c.sec)
		if c.zoned {
			t = time.Date(year, time.Month(c.month), c.day, c.hour, c.min, c.sec, 0, time.UTC).Add(-time.Duration(c.zone) * time.Second)
		}
		if !t.After(latest) {
			return year
		}
	}
	return 0
}

// today completes a time without a day: today, or yesterday if that lies ahead.
func (d *Dates) today(c *civil) (sec int64, ok bool) {
	now := d.now()
	zone := d.loc
	if c.zoned {
		zone = time.FixedZone("", c.zone)
	}
	y, m, day := now.In(zone).Date()
	t := time.Date(y, m, day, c.hour, c.min, c.sec, 0, zone)
	if t.After(now) {
		t = time.Date(y, m, day-1, c.hour, c.min, c.sec, 0, zone)
	}
	return t.Unix(), true
}

func daysIn(year, month int) int {
	switch month {
	case 4, 6, 9, 11:
		return 30
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	}
	return 31
}
