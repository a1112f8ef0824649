package locale

import (
	"math"
	"strconv"
	"strings"

	"tocsin"
)

// Int writes a whole number with its groups of three: "1 480" in French, "1,480" in English.
func (l *Locale) Int(n int64) string { return l.grouped(strconv.FormatInt(n, 10)) }

// Float writes n with so many digits behind the point. A value that is not known is written as a word.
func (l *Locale) Float(n float64, digits int) string {
	switch {
	case math.IsNaN(n):
		return l.T("unit.unknown")
	case math.IsInf(n, 1):
		return "∞"
	case math.IsInf(n, -1):
		return "-∞"
	}
	s := strconv.FormatFloat(n, 'f', digits, 64)
	if strings.Trim(s, "-0.") == "" {
		s = strings.TrimPrefix(s, "-") // no negative nought
	}
	return l.grouped(s)
}

// Number writes n with about three digits that say something, and no noughts at the end: "37", "4.1", "0.0042".
func (l *Locale) Number(n float64) string {
	a := math.Abs(n)
	switch {
	case math.IsNaN(n), math.IsInf(n, 0), a == 0:
		return l.Float(n, 0)
	case a >= 1e15, a < 1e-6:
		s := strconv.FormatFloat(n, 'g', 3, 64)
		if l.tag == "fr" {
			s = strings.Replace(s, ".", ",", 1)
		}
		return s
	}
	digits := max(0, 2-int(math.Floor(math.Log10(a))))
	s := strconv.FormatFloat(n, 'f', digits, 64)
	if strings.Contains(s, ".") {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	return l.grouped(s)
}

// grouped takes a number as strconv writes it.
func (l *Locale) grouped(s string) string {
	group, point := ",", "."
	if l.tag == "fr" {
		group, point = narrow, ","
	}
	sign := ""
	if strings.HasPrefix(s, "-") {
		sign, s = "-", s[1:]
	}
	whole, fraction, has := strings.Cut(s, ".")
	var b strings.Builder
	b.WriteString(sign)
	for i, c := range whole {
		if i > 0 && (len(whole)-i)%3 == 0 {
			b.WriteString(group)
		}
		b.WriteRune(c)
	}
	if has {
		b.WriteString(point + fraction)
	}
	return b.String()
}

// space stands between a number and its unit; it does not break.
func (l *Locale) space() string {
	if l.tag == "fr" {
		return narrow
	}
	return "\u00a0"
}

// Percent writes n, of a hundred: "37 %" in French, "37%" in English.
func (l *Locale) Percent(n float64) string {
	if l.tag == "fr" {
		return l.Number(n) + narrow + "%"
	}
	return l.Number(n) + "%"
}

// prefixed writes n with the largest of the prefixes that leaves at least one before the point.
func (l *Locale) prefixed(n, base float64, prefixes []string, unit string) string {
	if math.IsNaN(n) || math.IsInf(n, 0) {
		return l.Number(n)
	}
	i := 0
	for i < len(prefixes)-1 && math.Abs(n) >= base-base/2000 { // what would be rounded to 1000 takes the next prefix
		n /= base
		i++
	}
	if i == 0 {
		n = math.Round(n*10) / 10
	}
	return l.Number(n) + l.space() + prefixes[i] + unit
}

var (
	decimal = []string{"", "k", "M", "G", "T", "P", "E"}
	binary  = []string{"", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"}
)

// Bytes writes a size: "4,1 Mo" in French, "4.1 MB" in English. A kilobyte has 1000 bytes.
func (l *Locale) Bytes(n float64) string { return l.prefixed(n, 1000, decimal, l.T("unit.byte")) }

// BinaryBytes writes a size in units of 1024: "4,1 Mio", "4.1 MiB".
func (l *Locale) BinaryBytes(n float64) string {
	return l.prefixed(n, 1024, binary, l.T("unit.byte"))
}

// Rate writes bytes a second: "4,1 Mo/s", "4.1 MB/s".
func (l *Locale) Rate(n float64) string {
	return l.prefixed(n, 1000, decimal, l.T("unit.byte")+"/s")
}

// Bits writes bits a second: "4,1 Mbit/s".
func (l *Locale) Bits(n float64) string { return l.prefixed(n, 1000, decimal, "bit/s") }

// And joins the names of a list: "a, b et c". They are made harmless.
func (l *Locale) And(all []string) string {
	shown := make([]string, len(all))
	for i, s := range all {
		shown[i] = tocsin.Printable(s)
	}
	switch n := len(shown); n {
	case 0:
		return ""
	case 1:
		return shown[0]
	default:
		return strings.Join(shown[:n-1], ", ") + " " + l.T("list.and") + " " + shown[n-1]
	}
}

// AndMore joins at most so many names, and counts the rest: "a, b et 7 autres".
func (l *Locale) AndMore(all []string, most int) string {
	if most = max(most, 1); len(all) <= most {
		return l.And(all)
	}
	shown := make([]string, most)
	for i := range shown {
		shown[i] = tocsin.Printable(all[i])
	}
	return strings.Join(shown, ", ") + " " + l.T("list.more", "n", len(all)-most)
}

// Decimal writes a number that is text already ("-1.25", "1.0e+06") with the language's decimal sign.
func (l *Locale) Decimal(s string) string {
	if l.tag == "fr" {
		s = strings.Replace(s, ".", ",", 1)
	}
	return s
}
