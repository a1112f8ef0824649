package config

import (
	"fmt"
	"strings"
	"time"
)

// maxDuration bounds what ParseDuration accepts, so that a time to which it is added stays a date (and a kernel timeout).
const maxDuration = 100 * 365 * 24 * time.Hour

// units are those of a duration, the longest first. A day has 24 hours, a year 365 days.
var units = []struct {
	suffix byte
	length time.Duration
}{
	{'y', 365 * 24 * time.Hour},
	{'w', 7 * 24 * time.Hour},
	{'d', 24 * time.Hour},
	{'h', time.Hour},
	{'m', time.Minute},
	{'s', time.Second},
}

// ParseDuration reads a duration as people write it: whole numbers with a unit, the longest first, "90s", "10m", "1h30m",
// "7d", "5w", "1y", or "forever" for [Forever], which the caller refuses where it makes no sense. It must be longer than
// nothing and at most 100 years. The error is an [*Error] without place.
func ParseDuration(s string) (time.Duration, error) {
	if s == "forever" {
		return Forever, nil
	}
	var sum time.Duration
	rest, next := s, 0
	for rest != "" {
		n, digits := leadingNumber(rest)
		if digits == 0 || digits == len(rest) {
			return 0, notDuration(s)
		}
		for next < len(units) && units[next].suffix != rest[digits] {
			next++
		}
		if next == len(units) {
			return 0, notDuration(s)
		}
		if n > int64(maxDuration/units[next].length) {
			return 0, tooLong(s)
		}
		sum += time.Duration(n) * units[next].length // each term is at most 100 years, and there are six
		rest, next = rest[digits+1:], next+1
	}
	switch {
	case sum == 0:
		return 0, notDuration(s)
	case sum > maxDuration:
		return 0, tooLong(s)
	}
	return sum, nil
}

// leadingNumber reads the digits that s begins with. A number too long for any duration comes out as the largest.
func leadingNumber(s string) (n int64, digits int) {
	for digits < len(s) && '0' <= s[digits] && s[digits] <= '9' {
		n = min(n*10+int64(s[digits]-'0'), 1<<40)
		digits++
	}
	return n, digits
}

func notDuration(s string) error {
	e := &Error{
		Msg:  fmt.Sprintf("%q is not a positive duration", clip(s)),
		Hint: `write it like "10m" or "1h30m"; the units are s, m, h, d, w, y, the longest first`,
	}
	switch s = strings.TrimSpace(s); {
	case s == "":
	case strings.Trim(s, "0123456789") == "":
		e.Hint = fmt.Sprintf(`write the unit with it, like "%ss" or "%sm"`, clip(s), clip(s))
	case s[0] == '-':
		e.Hint = `for a ban without end write "forever"`
	}
	return e
}

func tooLong(s string) error {
	return &Error{
		Msg:  fmt.Sprintf("%q is longer than 100 years", clip(s)),
		Hint: `for a ban without end write "forever"`,
	}
}

// FormatDuration writes a duration the way ParseDuration reads it: "15m", "1d12h", "forever". Parts of a second are
// dropped, and less than a second is "0s". Weeks and years appear only where nothing else is left over: "5w", but "400d".
func FormatDuration(d time.Duration) string {
	switch {
	case d == Forever:
		return "forever"
	case d < 0:
		return "-" + FormatDuration(-max(d, -maxDuration))
	case d < time.Second:
		return "0s"
	}
	var b strings.Builder
	for _, u := range units {
		long := u.suffix == 'y' || u.suffix == 'w'
		if n := d / u.length; n > 0 && (!long || d%u.length == 0) {
			fmt.Fprintf(&b, "%d%c", n, u.suffix)
			d -= n * u.length
		}
	}
	return b.String()
}
