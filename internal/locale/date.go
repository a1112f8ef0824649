package locale

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// Clock writes the time of day: "14:05".
func (l *Locale) Clock(t time.Time) string { return t.In(l.zone).Format("15:04") }

// ClockSeconds writes the time of day to the second: "14:05:59".
func (l *Locale) ClockSeconds(t time.Time) string { return t.In(l.zone).Format("15:04:05") }

// Date writes a day: "21 nov.", and its year where that is not now's. A zero now always wants the year.
func (l *Locale) Date(t, now time.Time) string {
	t, now = t.In(l.zone), now.In(l.zone)
	s := l.day(t) + " " + l.word("date.short", int(t.Month())-1)
	if now.IsZero() || t.Year() != now.Year() {
		s += " " + strconv.Itoa(t.Year())
	}
	return s
}

// LongDate writes a day in full: "samedi 21 novembre 2026".
func (l *Locale) LongDate(t time.Time) string {
	t = t.In(l.zone)
	return l.Weekday(t) + " " + l.day(t) + " " + l.word("date.months", int(t.Month())-1) + " " + strconv.Itoa(t.Year())
}

// Month writes a month in full: "novembre 2026".
func (l *Locale) Month(t time.Time) string {
	t = t.In(l.zone)
	return l.word("date.months", int(t.Month())-1) + " " + strconv.Itoa(t.Year())
}

// Weekday writes the day of the week: "samedi".
func (l *Locale) Weekday(t time.Time) string {
	return l.word("date.days", int(t.In(l.zone).Weekday()))
}

// ShortWeekday writes the day of the week in short: "sam.".
func (l *Locale) ShortWeekday(t time.Time) string {
	return l.word("date.shortdays", int(t.In(l.zone).Weekday()))
}

// ShortMonth writes the month in short: "nov.".
func (l *Locale) ShortMonth(t time.Time) string {
	return l.word("date.short", int(t.In(l.zone).Month())-1)
}

// day is the number in the month; the first is an ordinal in French.
func (l *Locale) day(t time.Time) string {
	if l.tag == "fr" && t.Day() == 1 {
		return "1er"
	}
	return strconv.Itoa(t.Day())
}

// word is the i-th word of a sentence that is a list of them.
func (l *Locale) word(key string, i int) string { return strings.Fields(l.T(key))[i] }

// DateTime writes day, year and clock: "21 nov. 2026 14:05".
func (l *Locale) DateTime(t time.Time) string { return l.Date(t, time.Time{}) + " " + l.Clock(t) }

// At writes when something was, as shortly as now allows: "14:05", "hier 14:05", "21 nov. 14:05".
func (l *Locale) At(t, now time.Time) string {
	switch l.daysBetween(t, now) {
	case 0:
		return l.Clock(t)
	case 1:
		return l.T("date.yesterday") + " " + l.Clock(t)
	case -1:
		return l.T("date.tomorrow") + " " + l.Clock(t)
	}
	return l.Date(t, now) + " " + l.Clock(t)
}

// daysBetween counts the midnights from t to now; negative: t is yet to come.
func (l *Locale) daysBetween(t, now time.Time) int {
	midnight := func(t time.Time) time.Time {
		y, m, d := t.In(l.zone).Date()
		return time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
	}
	return int(midnight(now).Sub(midnight(t)) / (24 * time.Hour))
}

// Moment writes when something was, and how long ago: "21 nov. 14:05 (il y a 6 h)".
func (l *Locale) Moment(t, now time.Time) string {
	return l.Date(t, now) + " " + l.Clock(t) + " (" + l.Ago(t, now) + ")"
}

// Ago writes how far t is from now, in one unit: "il y a 6 h", "dans 3 j".
func (l *Locale) Ago(t, now time.Time) string {
	d := now.Sub(t)
	switch {
	case d.Abs() < 5*time.Second:
		return l.T("date.now")
	case d < 0:
		return l.T("date.in", "for", l.Rough(-d))
	}
	return l.T("date.ago", "for", l.Rough(d))
}

// The lengths that people count in. A month has 30 days: it is used only from two of them on, and roughly.
const (
	day   = 24 * time.Hour
	month = 30 * day
	year  = 365 * day
)

// Rough writes a duration in one unit, rounded down: "41 s", "12 min", "6 h", "3 j", "5 mois", "2 ans".
func (l *Locale) Rough(d time.Duration) string {
	switch d = max(d, 0); {
	case d < time.Minute:
		return l.unit("s", d/time.Second)
	case d < time.Hour:
		return l.unit("min", d/time.Minute)
	case d < day:
		return l.unit("h", d/time.Hour)
	case d < 2*month:
		return l.unit(l.T("unit.day"), d/day)
	case d < 2*year:
		return l.T("unit.months", "n", int(d/month))
	}
	return l.T("unit.years", "n", int(d/year))
}

// Duration writes a duration in at most two units: "41 s", "12 min", "6 h 30 min", "2 j 4 h", "41 j".
func (l *Locale) Duration(d time.Duration) string {
	d = max(d, 0)
	two := func(first string, a time.Duration, second string, b time.Duration) string {
		if b == 0 {
			return l.unit(first, a)
		}
		return l.unit(first, a) + " " + l.unit(second, b)
	}
	switch d = d.Round(time.Second); {
	case d < time.Hour && d%time.Minute == 0 && d > 0, d >= 10*time.Minute && d < time.Hour:
		return l.unit("min", d/time.Minute)
	case d < time.Hour:
		if d < time.Minute {
			return l.unit("s", d/time.Second)
		}
		return two("min", d/time.Minute, "s", d%time.Minute/time.Second)
	case d < day:
		return two("h", d/time.Hour, "min", d%time.Hour/time.Minute)
	case d < 7*day:
		return two(l.T("unit.day"), d/day, "h", d%day/time.Hour)
	}
	return l.unit(l.T("unit.day"), d/day)
}

// Seconds writes a number of seconds, also parts of one: "3,2 ms", "6 h 30 min".
func (l *Locale) Seconds(n float64) string {
	switch a := math.Abs(n); {
	case math.IsNaN(n), math.IsInf(n, 0), a > 1e9:
		return l.Number(n) + l.space() + "s"
	case a == 0 || a >= 0.9995 && a < 60:
		return l.Number(n) + l.space() + "s"
	case a < 0.9995e-3:
		return l.Number(n*1e6) + l.space() + "µs"
	case a < 0.9995:
		return l.Number(n*1e3) + l.space() + "ms"
	case n < 0:
		return "-" + l.Seconds(-n)
	}
	return l.Duration(time.Duration(n * float64(time.Second)))
}

func (l *Locale) unit(unit string, n time.Duration) string { return l.Int(int64(n)) + l.space() + unit }
