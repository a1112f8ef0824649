package filter

import (
	"regexp"
	"strings"
	"time"
)

// find looks for the date of a line. Where the text of a date tells no time, start and end are set and ok is false.
func (e *dateExpr) find(d *Dates, line []byte) (t time.Time, start, end int, ok bool) {
	rule := e.matcher.Search(line)
	e.blank = false
	if rule < 0 {
		return t, 0, 0, false
	}
	if start, end = e.matcher.Group(1); end <= start {
		e.blank = true
		return t, 0, 0, false // the pattern allows for no date
	}
	var c civil
	for _, f := range e.fields[rule] {
		from, to := e.matcher.Group(f.group)
		if to > from && !c.tell(f.code, line[from:to]) {
			return t, start, end, false
		}
	}
	c.settle(d)
	sec, ok := d.unix(&c)
	if !ok {
		return t, start, end, false
	}
	e.rule = rule
	return time.Unix(sec, int64(c.nsec)).UTC(), start, end, true
}

// tell takes the text of one code. It is false if the text makes no sense, such as a zone that nobody knows.
func (c *civil) tell(code string, text []byte) bool {
	n := digits(text)
	switch code {
	case "Y":
		c.year = n
		return n > 0
	case "y":
		c.year = 2000 + n
	case "m":
		c.month = n
	case "b", "B":
		c.month = monthOf(letters3(text))
	case "d":
		c.day = n
	case "H":
		c.hour = n
	case "I":
		c.hour, c.twelve = n, true
	case "p":
		c.afternoon = text[0]|0x20 == 'p'
	case "M":
		c.min = n
	case "S":
		c.sec = n
	case "f":
		c.nsec = n
		for range maxFraction - len(text) {
			c.nsec *= 10
		}
	case "j":
		c.yearDay = n
	case "U", "W":
		c.week, c.weekOf = n, code[0]
	case "w":
		c.weekday = n + 1
	case "a", "A":
		c.weekday = weekdayOf(letters3(text))
	case "z", "Z":
		return c.tellZone(string(text), code == "z")
	case epochField, epochLong:
		return c.tellEpoch(text, code == epochLong)
	case "tai":
		return c.tellTAI(text)
	}
	return true
}

// digits is the number that text writes, read up to its first other character.
func digits(text []byte) int {
	n := 0
	for _, b := range text {
		if b == ' ' {
			continue // "%d" takes " 1"
		}
		if !isDigit(b) {
			break
		}
		n = n*10 + int(b-'0')
	}
	return n
}

// weekdayOf is 1 for Sunday to 7 for Saturday, 0 if name is no day.
func weekdayOf(name uint32) int {
	for i, day := range [...]string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"} {
		if letters3([]byte(day)) == name {
			return i + 1
		}
	}
	return 0
}

// tellZone takes the text of %z or %Z, which may be an abbreviation that zoneHours does not know. Where the code asked
// for an offset there is then no date; else the Location stays in force.
func (c *civil) tellZone(text string, offset bool) bool {
	name, sec := text, 0
	if i := strings.IndexAny(text, "+-"); i >= 0 {
		name = text[:i]
		_, sec = zoneAt([]byte(text), i)
	}
	hours, ok := zoneHours(strings.ToUpper(name))
	if !ok && name != "" {
		return !offset
	}
	c.zone, c.zoned = int(hours*3600)+sec, true // both, as in CET+0130: fail2ban adds them
	return true
}

var fixedZone = regexp.MustCompile(`^([A-Z]*)(?:[+-][01]\d(?::?\d\d)?)?$`)

// FixedZone is the zone that fail2ban's logtimezone names: an offset such as "+02:00", an abbreviation such as "CET", which
// stays so all year, or both, which are added. An abbreviation that this package does not know is none.
func FixedZone(name string) (*time.Location, bool) {
	var c civil
	m := fixedZone.FindStringSubmatch(name)
	if m == nil || name == "" {
		return nil, false
	}
	if _, known := zoneHours(m[1]); m[1] != "" && !known || !c.tellZone(name, true) {
		return nil, false
	}
	return time.FixedZone(name, c.zone), true
}

// tellEpoch takes seconds since 1970; with long also, by their digits, milliseconds (13) and microseconds (16).
func (c *civil) tellEpoch(text []byte, long bool) bool {
	whole := 0
	for whole < len(text) && isDigit(text[whole]) {
		c.unix = c.unix*10 + int64(text[whole]-'0')
		whole++
	}
	c.counted = true
	switch {
	case long && whole >= 16:
		c.unix, c.nsec = c.unix/1e6, int(c.unix%1e6)*1e3
	case long && whole >= 13:
		ms := c.unix % 1e3
		c.unix, c.nsec = c.unix/1e3, int(ms)*1e6
		_, micro := fraction(text, whole, ".")
		c.nsec += micro / 1e3
	default:
		_, c.nsec = fraction(text, whole, ".")
	}
	return true
}

func (c *civil) tellTAI(text []byte) bool {
	sc := scanner{s: append([]byte{'@'}, text...)}
	sc.tai64n()
	c.counted, c.unix, c.nsec = sc.c.counted, sc.c.unix, sc.c.nsec
	return !sc.bad
}

// settle works out what the codes told only together: the half of the day, and days told by week or by number.
func (c *civil) settle(d *Dates) {
	if c.twelve {
		c.hour = hour24(c.hour, c.afternoon)
	}
	if c.month > 0 && c.day > 0 || c.yearDay == 0 && (c.weekOf == 0 || c.weekday == 0) {
		return
	}
	year := c.year
	if year == 0 {
		year = d.now().In(d.loc).Year()
	}
	if c.yearDay == 0 {
		c.yearDay = dayOfWeek(year, c.week, c.weekday-1, c.weekOf == 'W')
	}
	t := time.Date(year, 1, c.yearDay, 0, 0, 0, 0, time.UTC)
	c.year, c.month, c.day = t.Year(), int(t.Month()), t.Day()
}

// dayOfWeek is the day of the year of a weekday (0 is Sunday) in a week of strftime's %U, or of %W if weeks begin on
// Monday: week 1 holds the first day that begins a week, the days before it are in week 0.
func dayOfWeek(year, week, weekday int, monday bool) int {
	first := int(time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC).Weekday())
	if monday {
		first, weekday = (first+6)%7, (weekday+6)%7
	}
	if week == 0 {
		return 1 + weekday - first
	}
	return 1 + (7-first)%7 + 7*(week-1) + weekday
}

// zoneHours is the offset of a zone's abbreviation, in capitals, in hours east of UTC. Many abbreviations are used in several parts of
// the world; where they are, the one that fail2ban's users most likely mean is taken.
func zoneHours(name string) (hours float64, ok bool) {
	switch name {
	case "Z", "UTC", "GMT", "WET", "UCT":
		return 0, true
	case "CET", "MET", "MEZ", "BST", "WEST", "IST", "WAT":
		return 1, true
	case "CEST", "MEST", "MESZ", "EET", "CAT", "SAST":
		return 2, true
	case "EEST", "MSK", "EAT", "TRT":
		return 3, true
	case "GST", "SAMT":
		return 4, true
	case "PKT", "YEKT", "UZT":
		return 5, true
	case "OMST", "ALMT":
		return 6, true
	case "ICT", "KRAT", "WIB":
		return 7, true
	case "HKT", "SGT", "AWST", "IRKT", "PHT":
		return 8, true
	case "JST", "KST", "YAKT":
		return 9, true
	case "AEST", "VLAT":
		return 10, true
	case "AEDT", "MAGT":
		return 11, true
	case "NZST", "PETT":
		return 12, true
	case "NZDT":
		return 13, true
	case "NDT":
		return -2.5, true
	case "ADT", "ART", "BRT", "CLST":
		return -3, true
	case "NST":
		return -3.5, true
	case "AST", "EDT", "CLT":
		return -4, true
	case "EST", "CDT", "PET", "COT":
		return -5, true
	case "CST", "MDT":
		return -6, true
	case "MST", "PDT":
		return -7, true
	case "PST", "AKDT":
		return -8, true
	case "AKST":
		return -9, true
	case "HST":
		return -10, true
	case "SST":
		return -11, true
	}
	return 0, false
}
