package fail2ban

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// maxSeconds is the longest time that a Duration holds: 292 years. What is longer is cut to it.
const maxSeconds = math.MaxInt64 / int64(time.Second)

// units are the words that may follow a number in a time, with their seconds; a month is a twelfth of a year of 365.25
// days. The words of months and years are floats in fail2ban, which shows only in what it prints.
var units = map[string]string{
	"days": "86400", "day": "86400", "da": "86400", "dd": "86400", "d": "86400",
	"weeks": "604800", "week": "604800", "wee": "604800", "we": "604800", "ww": "604800", "w": "604800",
	"months": "2629800.0", "month": "2629800.0", "mon": "2629800.0", "mo": "2629800.0",
	"years": "31557600.0", "year": "31557600.0", "yea": "31557600.0", "ye": "31557600.0", "yy": "31557600.0", "y": "31557600.0",
	"seconds": "1", "second": "1", "sec": "1", "se": "1", "ss": "1", "s": "1",
	"minutes": "60", "minute": "60", "min": "60", "mi": "60", "mm": "60", "m": "60",
	"hours": "3600", "hour": "3600", "hou": "3600", "ho": "3600", "hh": "3600", "h": "3600",
}

// Seconds reads a time the way fail2ban does (MyTime.str2seconds): "600", "10m", "1d12h30m", "1h 30", "1hour+30min",
// "60*60", "-1". A negative time means without end where a ban is meant. Times over 292 years are cut to that.
// An error says where in the text, units already replaced, something is wrong.
func Seconds(text string) (time.Duration, error) {
	if len(text) > maxExpr {
		return 0, fmt.Errorf("a time of more than %d bytes", maxExpr)
	}
	n, err := evalExpr(joinGroups(replaceUnits(splitGroups(text))))
	if err != nil {
		return 0, fmt.Errorf("%q is no time like 600, 10m or 1d12h: %w", text, err)
	}
	return n.duration(), nil
}

// duration takes n as seconds.
func (n number) duration() time.Duration {
	if n.i != nil && n.i.IsInt64() {
		return time.Duration(max(-maxSeconds, min(maxSeconds, n.i.Int64()))) * time.Second
	}
	switch f := n.float(); {
	case f >= float64(maxSeconds):
		return time.Duration(maxSeconds) * time.Second
	case f <= -float64(maxSeconds):
		return -time.Duration(maxSeconds) * time.Second
	default:
		sec, part := math.Modf(f) // apart, so that a long time keeps its whole seconds exact
		return time.Duration(sec)*time.Second + time.Duration(math.Round(part*1e9))
	}
}

// splitGroups puts a blank between a letter and the digit that follows: "1d12h" is "1d 12h".
func splitGroups(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if i > 0 && isDigit(s[i]) && isLetter(s[i-1]) {
			b.WriteByte(' ')
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// replaceUnits turns a unit that stands behind a digit or a blank into a multiplication.
func replaceUnits(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		end := i
		for end < len(s) && isExprWord(s[end]) {
			end++
		}
		if isLetter(s[i]) && i > 0 && (isDigit(s[i-1]) || isBlank(s[i-1])) {
			if sec, ok := units[strings.ToLower(s[i:end])]; ok {
				b.WriteString("*" + sec)
				i = end
				continue
			}
		}
		b.WriteByte(s[i])
		i++
	}
	return b.String()
}

// joinGroups adds up numbers that have only blanks between them, two at a time: "1 2 3" stays wrong, as in fail2ban.
func joinGroups(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		c := s[i]
		b.WriteByte(c)
		i++
		if !isDigit(c) {
			continue
		}
		j := i
		for j < len(s) && isBlank(s[j]) {
			j++
		}
		if j > i && j < len(s) && isDigit(s[j]) {
			b.WriteByte('+')
			b.WriteByte(s[j])
			i = j + 1
		}
	}
	return b.String()
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

func isBlank(c byte) bool { return c == ' ' || '\t' <= c && c <= '\r' }

// SecondsText writes a time as fail2ban's log does (MyTime.seconds2str): at most three units, the smallest ones rounded
// away. "1y 3w 4d", "2d 7h 15m", "59m 50s". Parts of a second are left out.
func SecondsText(d time.Duration) string {
	s := int64(d / time.Second)
	switch {
	case s >= 31536000: // years of 365 days, to the day
		days := roundDiv(s, 86400)
		return unitText(unit{days / 365, "y"}, unit{days % 365 / 7, "w"}, unit{days % 365 % 7, "d"})
	case s >= 604800: // to the hour
		h := roundDiv(s, 3600)
		return unitText(unit{h / 168, "w"}, unit{h % 168 / 24, "d"}, unit{h % 24, "h"})
	case s >= 86400: // to the minute
		m := roundDiv(s, 60)
		return unitText(unit{m / 1440, "d"}, unit{m % 1440 / 60, "h"}, unit{m % 60, "m"})
	case s >= 3595: // to ten seconds
		t := roundDiv(s, 10)
		return unitText(unit{t / 360, "h"}, unit{t % 360 / 6, "m"})
	case s == 0:
		return "0"
	case s < 0:
		return strconv.FormatInt(s, 10) + "s"
	}
	return unitText(unit{s / 60, "m"}, unit{s % 60, "s"})
}

type unit struct {
	n    int64
	name string
}

func unitText(parts ...unit) string {
	var words []string
	for _, p := range parts {
		if p.n > 0 {
			words = append(words, strconv.FormatInt(p.n, 10)+p.name)
		}
	}
	return strings.Join(words, " ")
}

// roundDiv is s/by rounded half to even, as Python rounds.
func roundDiv(s, by int64) int64 { return int64(math.RoundToEven(float64(s) / float64(by))) }
