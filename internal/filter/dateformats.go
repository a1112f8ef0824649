package filter

// A format is one way to write a time. Their order is fail2ban's order of preference: where two of them fit the same
// bytes, the earlier one is meant.
type format uint8

const (
	formatNone     format = iota
	formatISO             // 2026-11-22T17:00:00.123+01:00, 2026/11/22 17:00:00, 2026.11.22 17:00:00
	formatSyslog          // Nov 22 17:00:00, Sun Nov 22 17:00:00.123 2026
	formatYearMid         // Sun Nov 22 2026 17:00:00
	formatDMY             // 22/11/2026 17:00:00, 22-11-26 17:00:00
	formatApache          // 22/Nov/2026:17:00:00 +0100, 22-Nov-2026 17:00:00.123
	formatCPanel          // 11/22/2026:17:00:00
	formatMDY             // 11-22-2026 17:00:00
	formatEpoch           // 1795366800.123 at the start of a line, or in audit(..:n)
	formatClock           // 17:00:00 at the start of a line: today, or yesterday
	formatAngle           // <11/22/26@17:00:00> at the very start of a line
	formatMySQL           // 261122 17:00:00
	formatTomcat          // Nov 22, 2026 5:00:00 PM
	formatASSP            // Nov-22-26 17:00:00 at the very start of a line
	formatCompact         // 20261122T170000, 20261122 170000
	formatZoneName        // CET Nov 22 17:00:00
	formatZoneNum         // +01:00 Nov 22 17:00:00
	formatTAI64N          // @400000006a01e5d000000000
)

// civil is a time as a line writes it: what the line does not tell is absent.
type civil struct {
	year, month, day  int // 0: absent
	hour, min, sec    int
	nsec              int
	zone              int  // seconds east of UTC
	zoned             bool // zone is told
	counted           bool // unix is told in place of everything above
	unix              int64
	headEnd           int // offset at which the seconds end; a fraction, zone or year may follow
	week, weekday     int // of %U and %W; weekday 0 is Sunday
	yearDay           int
	weekOf            byte // 'U', 'W' or 0
	afternoon, twelve bool // %p was PM; the hour is of a twelve-hour clock
}

// tail is what may follow the seconds of a format.
type tail uint8

const (
	tailNone     tail = iota // nothing
	tailISO                  // [.,]fraction, blanks, zone
	tailYear                 // .fraction, " 2026"
	tailFraction             // .fraction
	tailZone                 // .fraction, " +0100"
)

// tailOf says what may follow the seconds of a format.
var tailOf = [...]tail{
	formatISO: tailISO, formatSyslog: tailYear, formatYearMid: tailFraction, formatApache: tailZone, formatMDY: tailFraction,
	formatCompact: tailISO, formatZoneName: tailYear, formatZoneNum: tailYear, formatTAI64N: tailNone,
}

// scanner reads one date from s. It fails once and for all: after the first misfit every method does nothing, so a
// format reads like its description and is judged at the end.
type scanner struct {
	s   []byte
	i   int
	bad bool
	c   civil
}

// scan reads the format f at s[p:] and returns the offset behind it, or -1.
func (sc *scanner) scan(f format, s []byte, p int) int {
	*sc = scanner{s: s, i: p}
	switch f {
	case formatISO:
		sc.year4()
		sep := sc.oneOf("-/.")
		sc.month()
		sc.byte(sep)
		sc.day()
		sc.dateTimeGap()
		sc.clock()
	case formatSyslog:
		sc.syslog()
	case formatYearMid:
		sc.optionalWeekday()
		sc.monthName()
		sc.byte(' ')
		sc.day()
		sc.byte(' ')
		sc.year4()
		sc.byte(' ')
		sc.optional(' ')
		sc.clock()
	case formatDMY:
		sc.day()
		sep := sc.oneOf("-/")
		sc.month()
		sc.byte(sep)
		sc.year4or2()
		sc.byte(' ')
		sc.optional(' ')
		sc.clock()
	case formatApache:
		sc.day()
		sep := sc.oneOf("-/")
		sc.monthName()
		sc.byte(sep)
		sc.year4()
		if !sc.optional(' ') {
			sc.optional(':')
		}
		sc.clock()
	case formatCPanel:
		sc.month()
		sc.byte('/')
		sc.day()
		sc.byte('/')
		sc.year4()
		sc.byte(':')
		sc.clock()
	case formatMDY:
		sc.month()
		sc.byte('-')
		sc.day()
		sc.byte('-')
		sc.year4()
		sc.byte(' ')
		sc.optional(' ')
		sc.clock()
	case formatEpoch:
		sc.epoch()
	case formatClock:
		sc.clock()
	case formatAngle:
		sc.byte('<')
		sc.month()
		sc.byte('/')
		sc.day()
		sc.byte('/')
		sc.year2()
		sc.byte('@')
		sc.clock()
		sc.byte('>')
	case formatMySQL:
		sc.year2()
		sc.c.month = sc.two(1, 12)
		sc.c.day = sc.two(1, 31)
		sc.byte(' ')
		sc.optional(' ')
		sc.clock()
	case formatTomcat:
		sc.tomcat()
	case formatASSP:
		sc.monthName()
		sc.byte('-')
		sc.day()
		sc.byte('-')
		sc.year2()
		sc.byte(' ')
		sc.optional(' ')
		sc.clock()
	case formatCompact:
		sc.year4()
		sc.c.month = sc.two(1, 12)
		sc.c.day = sc.two(1, 31)
		sc.dateTimeGap()
		sc.c.hour, sc.c.min, sc.c.sec = sc.two(0, 23), sc.two(0, 59), sc.two(0, 61)
	case formatZoneName:
		sc.zoneName()
		sc.syslog()
	case formatZoneNum:
		sc.zone()
		sc.byte(' ')
		sc.syslog()
	case formatTAI64N:
		sc.tai64n()
	}
	if sc.bad {
		return -1
	}
	sc.c.headEnd = sc.i
	return sc.c.tail(s, sc.i, tailOf[f])
}

// syslog reads what RFC 3164 prescribes and what asctime(3) makes of it: [Sun ]Nov 22 17:00:00.
func (sc *scanner) syslog() {
	sc.optionalWeekday()
	sc.monthName()
	sc.byte(' ')
	sc.day()
	sc.byte(' ')
	sc.optional(' ')
	sc.clock()
}

func (sc *scanner) tomcat() {
	sc.monthName()
	sc.byte(' ')
	sc.day()
	sc.byte(',')
	sc.byte(' ')
	sc.year4()
	sc.byte(' ')
	sc.clock()
	sc.byte(' ')
	half := sc.oneOf("AaPp")
	if sc.oneOf("Mm"); sc.c.hour < 1 || sc.c.hour > 12 {
		sc.bad = true
	}
	sc.c.hour = hour24(sc.c.hour, half|0x20 == 'p')
}

// hour24 turns an hour of a clock with twelve hours into one of a clock with twenty-four.
func hour24(h int, afternoon bool) int {
	if h %= 12; afternoon {
		h += 12
	}
	return h
}

// epoch reads seconds since 1970 with 10 or 11 digits, and a fraction with 3 or more.
func (sc *scanner) epoch() {
	from := sc.i
	for sc.i < len(sc.s) && isDigit(sc.s[sc.i]) && sc.i-from < 12 {
		sc.c.unix = sc.c.unix*10 + int64(sc.s[sc.i]-'0')
		sc.i++
	}
	if n := sc.i - from; n < 10 || n > 11 || !boundary(sc.s, sc.i) {
		sc.bad = true
		return
	}
	sc.c.counted = true
	if end, nsec := fraction(sc.s, sc.i, "."); end-sc.i >= 4 && boundary(sc.s, end) {
		sc.i, sc.c.nsec = end, nsec
	}
}

// tai64n reads an external TAI64N label (https://cr.yp.to/libtai/tai64.html). The leap seconds between TAI and UTC are
// left in, as fail2ban does: multilog's readers of today are 37 seconds off, and a findtime does not mind.
func (sc *scanner) tai64n() {
	sc.byte('@')
	if len(sc.s)-sc.i < 24 {
		sc.bad = true
		return
	}
	var sec, nsec int64
	for k := range 24 {
		v := hexValue(sc.s[sc.i+k])
		if v < 0 {
			sc.bad = true
			return
		}
		if k < 16 {
			sec = sec<<4 | int64(v)
		} else {
			nsec = nsec<<4 | int64(v)
		}
	}
	sc.i += 24
	sc.c.counted, sc.c.unix = true, sec&(1<<62-1)
	if sc.c.unix >= 1<<40 || nsec >= 1e9 {
		sc.bad = true // a label from the far future is not the date of a line
	}
	sc.c.nsec = int(nsec)
}

func (sc *scanner) peek() byte {
	if sc.bad || sc.i >= len(sc.s) {
		return 0
	}
	return sc.s[sc.i]
}

func (sc *scanner) byte(b byte) {
	if sc.bad || sc.i >= len(sc.s) || sc.s[sc.i] != b {
		sc.bad = true
		return
	}
	sc.i++
}

func (sc *scanner) optional(b byte) bool {
	if sc.bad || sc.i >= len(sc.s) || sc.s[sc.i] != b {
		return false
	}
	sc.i++
	return true
}

// oneOf reads one of the bytes of set and returns it.
func (sc *scanner) oneOf(set string) byte {
	b := sc.peek()
	for i := range len(set) {
		if b != 0 && set[i] == b {
			sc.i++
			return b
		}
	}
	sc.bad = true
	return 0
}

// two reads exactly two digits.
func (sc *scanner) two(lo, hi int) int {
	if !sc.bad && sc.i+1 < len(sc.s) {
		if v := twoDigits(sc.s[sc.i], sc.s[sc.i+1]); v >= lo && v <= hi {
			sc.i += 2
			return v
		}
	}
	sc.bad = true
	return 0
}

// upTo reads one or two digits, two if they make a number between lo and hi.
func (sc *scanner) upTo(lo, hi int) int {
	if sc.bad || sc.i >= len(sc.s) || !isDigit(sc.s[sc.i]) {
		sc.bad = true
		return 0
	}
	if sc.i+1 < len(sc.s) {
		if v := twoDigits(sc.s[sc.i], sc.s[sc.i+1]); v >= lo && v <= hi {
			sc.i += 2
			return v
		}
	}
	v := int(sc.s[sc.i] - '0')
	sc.i++
	if v < lo {
		sc.bad = true
	}
	return v
}

// year4 reads a year of this century. Older ones are no dates of log lines, but of what the lines talk about.
func (sc *scanner) year4() {
	if sc.bad || sc.i+3 >= len(sc.s) || sc.s[sc.i] != '2' || sc.s[sc.i+1] != '0' {
		sc.bad = true
		return
	}
	sc.i += 2
	sc.c.year = 2000 + sc.two(0, 99)
}

func (sc *scanner) year2() { sc.c.year = 2000 + sc.two(0, 99) }

// year4or2 prefers four digits; a blank follows in every format that uses it, so there is no doubt.
func (sc *scanner) year4or2() {
	if !sc.bad && sc.i+2 < len(sc.s) && isDigit(sc.s[sc.i+2]) {
		sc.year4()
		return
	}
	sc.year2()
}

func (sc *scanner) month() { sc.c.month = sc.upTo(1, 12) }

// day reads the day of the month; a blank may stand for its first digit.
func (sc *scanner) day() {
	if sc.peek() == ' ' && sc.i+1 < len(sc.s) && sc.s[sc.i+1] >= '1' && sc.s[sc.i+1] <= '9' {
		sc.i++
		sc.c.day = int(sc.s[sc.i] - '0')
		sc.i++
		return
	}
	sc.c.day = sc.upTo(1, 31)
}

func (sc *scanner) dateTimeGap() {
	if sc.optional('T') {
		return
	}
	if sc.byte(' '); sc.i+1 < len(sc.s) && sc.s[sc.i] == ' ' {
		sc.i++
	}
}

func (sc *scanner) clock() {
	sc.c.hour = sc.upTo(0, 23)
	sc.byte(':')
	sc.c.min = sc.upTo(0, 59)
	sc.byte(':')
	sc.c.sec = sc.upTo(0, 61)
}

// monthName reads the first three letters of an English month, in any case.
func (sc *scanner) monthName() {
	if !sc.bad && sc.i+3 <= len(sc.s) {
		if sc.c.month = monthOf(letters3(sc.s[sc.i:])); sc.c.month > 0 {
			sc.i += 3
			return
		}
	}
	sc.bad = true
}

func (sc *scanner) optionalWeekday() {
	if !sc.bad && sc.i+4 <= len(sc.s) && sc.s[sc.i+3] == ' ' && isWeekday(letters3(sc.s[sc.i:])) {
		sc.i += 4
	}
}

// zoneName reads a name of three to five capitals. One that zoneHours does not know is cut from the line, but the
// Location holds.
func (sc *scanner) zoneName() {
	from := sc.i
	for sc.i < len(sc.s) && sc.s[sc.i] >= 'A' && sc.s[sc.i] <= 'Z' {
		sc.i++
	}
	name := sc.s[from:sc.i]
	if n := len(name); (n < 3 || n > 5) && string(name) != "Z" {
		sc.bad = true
		return
	}
	hours, known := zoneHours(string(name))
	sc.c.zone, sc.c.zoned = int(hours*3600), known
	sc.byte(' ')
}

func (sc *scanner) zone() {
	end, sec := zoneAt(sc.s, sc.i)
	if end < 0 {
		sc.bad = true
		return
	}
	sc.i, sc.c.zone, sc.c.zoned = end, sec, true
}

// tail reads the fraction, zone or year at s[i:] into c and returns the offset behind it. It takes the longest part
// that ends at a boundary, as an expression with optional parts would, and returns -1 if not even nothing does.
func (c *civil) tail(s []byte, i int, kind tail) int {
	if kind == tailNone || i == len(s) {
		return endAt(s, i)
	}
	seps := "."
	if kind == tailISO {
		seps = ".,"
	}
	if end, nsec := fraction(s, i, seps); end > i {
		if last := c.suffix(s, end, kind); last > 0 {
			c.nsec = nsec
			return last
		}
	}
	return c.suffix(s, i, kind)
}

// suffix reads the zone or year behind a fraction.
func (c *civil) suffix(s []byte, i int, kind tail) int {
	j := i
	switch kind {
	case tailISO:
		for j < len(s) && isSpace(s[j]) {
			j++
		}
	case tailYear, tailZone:
		if j >= len(s) || s[j] != ' ' {
			return endAt(s, i)
		}
		j++
	default:
		return endAt(s, i)
	}
	if kind == tailYear {
		if j+4 <= len(s) && s[j] == '2' && s[j+1] == '0' && boundary(s, j+4) {
			if y := twoDigits(s[j+2], s[j+3]); y >= 0 {
				c.year = 2000 + y
				return j + 4
			}
		}
		return endAt(s, i)
	}
	if end, zone := zoneAt(s, j); end > 0 && boundary(s, end) {
		c.zone, c.zoned = zone, true
		return end
	}
	return endAt(s, i)
}

func endAt(s []byte, i int) int {
	if boundary(s, i) {
		return i
	}
	return -1
}
