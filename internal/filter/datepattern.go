package filter

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"tocsin/internal/fail2ban"
	"tocsin/internal/regex"
)

// DefaultDates are the formats known by default, in fail2ban's order and as it writes them (jail.conf(5)).
var DefaultDates = [...]string{
	`%ExY(?P<_sep>[-/.])%m(?P=_sep)%d(?:T|  ?)%H:%M:%S(?:[.,]%f)?(?:\s*%z)?`,
	`(?:%a )?%b %d %k:%M:%S(?:\.%f)?(?: %ExY)?`,
	`(?:%a )?%b %d %ExY %k:%M:%S(?:\.%f)?`,
	`%d(?P<_sep>[-/])%m(?P=_sep)(?:%ExY|%Exy) %k:%M:%S`,
	`%d(?P<_sep>[-/])%b(?P=_sep)%ExY[ :]?%H:%M:%S(?:\.%f)?(?: %z)?`,
	`%m/%d/%ExY:%H:%M:%S`,
	`%m-%d-%ExY %k:%M:%S(?:\.%f)?`,
	`EPOCH`,
	`{^LN-BEG}%H:%M:%S`,
	`^<%m/%d/%Exy@%H:%M:%S>`,
	`%Exy%Exm%Exd  ?%H:%M:%S`,
	`%b %d, %ExY %I:%M:%S %p`,
	`^%b-%d-%Exy %k:%M:%S`,
	`%ExY%Exm%Exd(?:T|  ?)%ExH%ExM%ExS(?:[.,]%f)?(?:\s*%z)?`,
	`(?:%Z )?(?:%a )?%b %d %k:%M:%S(?:\.%f)?(?: %ExY)?`,
	`(?:%z )?(?:%a )?%b %d %k:%M:%S(?:\.%f)?(?: %ExY)?`,
	`TAI64N`,
}

// datesWithin are the formats known by default that can stand in the midst of other text, in place of {DATE}. Epochs and
// TAI64N cannot, as in fail2ban.
func datesWithin() (all []string) {
	for _, t := range DefaultDates {
		if t != "EPOCH" && t != "TAI64N" {
			all = append(all, strings.TrimPrefix(strings.TrimPrefix(t, "{^LN-BEG}"), "^"))
		}
	}
	return all
}

const (
	monthNames = `January|February|March|April|May|June|July|August|September|October|November|December`
	dayNames   = `Sunday|Monday|Tuesday|Wednesday|Thursday|Friday|Saturday`
	zoneAbbr   = `[A-Z](?:[A-Z]{2,4})?`
	zoneOffset = `[+-][01]\d(?::?\d{2})?`
)

// dateCodes are the %-codes and the expressions they stand for. A code's letter, without Ex, names its group.
var dateCodes = []struct{ code, expr string }{
	{"ExY", `(?P<Y>20\d\d)`}, {"Exy", `(?P<y>\d\d)`}, {"Exm", `(?P<m>0[1-9]|1[0-2])`}, {"Exd", `(?P<d>3[0-1]|[1-2]\d|0[1-9])`},
	{"ExH", `(?P<H>2[0-3]|[0-1]\d)`}, {"ExM", `(?P<M>[0-5]\d)`}, {"ExS", `(?P<S>6[0-1]|[0-5]\d)`},
	{"Exk", ` ?(?P<H>2[0-3]|[0-1]\d)`}, {"Exl", ` ?(?P<I>1[0-2]|0\d)`},
	{"Exz", `(?P<z>(?:` + zoneAbbr + `)?` + zoneOffset + `|` + zoneAbbr + `)`}, {"ExZ", `(?P<Z>` + zoneAbbr + `)`},
	{"Y", `(?P<Y>\d\d\d\d)`}, {"y", `(?P<y>\d\d)`}, {"m", `(?P<m>1[0-2]|0[1-9]|[1-9])`},
	{"d", `(?P<d>3[0-1]|[1-2]\d|0[1-9]|[1-9]| [1-9])`}, {"H", `(?P<H>2[0-3]|[0-1]\d|\d)`}, {"k", ` ?(?P<H>2[0-3]|[0-1]\d|\d)`},
	{"I", `(?P<I>1[0-2]|0[1-9]|[1-9])`}, {"l", ` ?(?P<I>1[0-2]|0[1-9]|[1-9])`}, {"M", `(?P<M>[0-5]\d|\d)`}, {"S", `(?P<S>6[0-1]|[0-5]\d|\d)`},
	{"f", `(?P<f>[0-9]{1,9})`}, {"p", `(?P<p>am|pm)`},
	{"a", `(?P<a>Sun|Mon|Tue|Wed|Thu|Fri|Sat)`}, {"A", `(?P<A>` + dayNames + `)`},
	{"b", `(?P<b>Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)`}, {"B", `(?P<B>` + monthNames + `)`},
	{"z", `(?P<z>Z|UTC|GMT|` + zoneOffset + `)`}, {"Z", `(?P<Z>Z|[A-Z]{3,5})`},
	{"j", `(?P<j>36[0-6]|3[0-5]\d|[1-2]\d\d|0[1-9]\d|00[1-9]|[1-9]\d|0[1-9]|[1-9])`},
	{"U", `(?P<U>5[0-3]|[0-4]\d|\d)`}, {"W", `(?P<W>5[0-3]|[0-4]\d|\d)`}, {"w", `(?P<w>[0-6])`},
}

// dateExpr is a compiled line of a datepattern: one expression, or one for each default format.
type dateExpr struct {
	set     *regex.Set
	fields  [][]dateField  // by rule
	matcher *regex.Matcher // nil until a Dates uses it
	rule    int            // the one that found the last date
	blank   bool           // the last line fitted, but for a date, which the pattern lets be missing
}

// dateField says which group tells which part of a date. Groups are asked in their order, so a later one wins.
type dateField struct {
	group int
	code  string
}

// epochField is the name of the group that holds seconds; epochLong also takes milli- and microseconds.
const (
	epochField = "tocsin_epoch"
	epochLong  = "tocsin_lepoch"
)

// ParseDatepattern returns a Dates for the lines of a filter's datepattern; none means every format known by default.
//
// A line is one of the words {DEFAULT}, {^LN-BEG}, EPOCH, LEPOCH, TAI64N, {NONE}, or text with %-codes, {DATE}, {EPOCH}
// or {LEPOCH} in it, as fail2ban reads them (jail.conf(5)). The error is a *fail2ban.Error, or several joined.
// loc and now are those of NewDates.
func ParseDatepattern(lines []fail2ban.Regex, loc *time.Location, now func() time.Time) (*Dates, error) {
	patterns, err := parsePatterns(lines)
	if err != nil {
		return nil, err
	}
	d := NewDates(loc, now)
	d.use(patterns)
	return d, nil
}

// use makes d look for patterns, which stay as they are; none means every format known by default.
func (d *Dates) use(patterns []datePattern) {
	if len(patterns) == 0 {
		return
	}
	d.patterns = slices.Clone(patterns)
	for i := range d.patterns {
		if e := d.patterns[i].expr; e != nil {
			d.patterns[i].expr = &dateExpr{set: e.set, fields: e.fields, matcher: e.set.NewMatcher()}
		}
	}
}

// parsePatterns reads the lines of a datepattern.
func parsePatterns(lines []fail2ban.Regex) (patterns []datePattern, err error) {
	var errs []error
	for _, line := range lines {
		p, err := parsePattern(line.Text)
		if err != nil {
			errs = append(errs, &fail2ban.Error{Pos: line.Pos, Msg: fmt.Sprintf("datepattern %q: %v", line.Text, err)})
			continue
		}
		patterns = append(patterns, p)
	}
	return patterns, errors.Join(errs...)
}

// parsePattern reads one line of a datepattern.
func parsePattern(text string) (datePattern, error) {
	text = strings.TrimSpace(text)
	key := text
	if !strings.Contains(text, "%") {
		key = strings.ToUpper(text)
	}
	const epoch, long = `\d{10,11}\b(?:\.\d{3,6})?`, `\d{10,11}(?:\d{3}(?:\.\d{1,6}|\d{3})?)?`
	switch key {
	case "{DEFAULT}":
		return datePattern{}, nil
	case "{^LN-BEG}":
		return datePattern{anchored: true}, nil
	case "{NONE}":
		return datePattern{none: true}, nil
	case "EPOCH", "LEPOCH":
		name, expr := epochField, epoch
		if key == "LEPOCH" {
			name, expr = epochLong, long
		}
		// At the start of the line, in [..] there, or in audit(..:n).
		return compileDates(datePattern{}, 0, `((?:^|(?<=^\[)|(?<=\baudit\())(?P<`+name+`>`+expr+`))(?=\b|\W|$)`)
	case "{^LN-BEG}EPOCH", "^EPOCH":
		return compileDates(datePattern{anchored: true, leads: true}, 0, `^(?:\W{0,2})?((?P<`+epochField+`>`+epoch+`))(?=\b|\W|$)`)
	case "{^LN-BEG}LEPOCH", "^LEPOCH":
		return compileDates(datePattern{anchored: true, leads: true}, 0, `^(?:\W{0,2})?((?P<`+epochLong+`>`+long+`))(?=\b|\W|$)`)
	case "TAI64N":
		return compileDates(datePattern{}, 0, `(@(?P<tai>[0-9a-f]{24}))(?=\b|\W|$)`)
	case "{^LN-BEG}TAI64N", "^TAI64N":
		return compileDates(datePattern{anchored: true, leads: true}, 0, `^(?:\W{0,2})?(@(?P<tai>[0-9a-f]{24}))(?=\b|\W|$)`)
	}
	if at := strings.Index(strings.ToUpper(text), "{DATE}"); at >= 0 {
		var all []string
		for _, t := range datesWithin() {
			all = append(all, text[:at]+t+text[at+len("{DATE}"):])
		}
		return patternOf(all)
	}
	return patternOf([]string{text})
}
