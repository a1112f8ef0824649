package fail2bancli

import (
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"tocsin/internal/filter"
)

// lineBegin marks a format that stands at the beginning of the line.
const lineBegin = "{^LN-BEG}"

var (
	dateCode  = regexp.MustCompile(`%(%|Ex[dmHklMSYyzZ]|[a-zA-Z])`)
	codeNames = map[string]string{
		"a": "DAY", "A": "DAYNAME", "b": "MON", "B": "MONTH", "d": "Day", "H": "24hour", "I": "12hour", "j": "Yearday",
		"m": "Month", "M": "Minute", "p": "AMPM", "S": "Second", "U": "Yearweek", "w": "Weekday", "W": "Yearweek",
		"y": "Year2", "Y": "Year", "%": "%", "z": "Zone offset", "f": "Microseconds", "Z": "Zone name",
	}
)

// dateName is how fail2ban calls a format.
func dateName(pattern string) string {
	switch key := strings.ToUpper(pattern); key {
	case "EPOCH", "LEPOCH", lineBegin + "EPOCH", lineBegin + "LEPOCH", "^EPOCH", "^LEPOCH":
		name := "Epoch"
		if strings.HasSuffix(key, "LEPOCH") {
			name = "LongEpoch"
		}
		if !strings.HasSuffix(key, "}"+strings.TrimPrefix(key, lineBegin)) && key[0] != '^' {
			return name
		}
		return lineBegin + name
	case "TAI64N":
		return key
	case lineBegin + "TAI64N", "^TAI64N":
		return lineBegin + "TAI64N"
	}
	if text := strings.ToUpper(pattern); strings.Contains(text, "{EPOCH}") || strings.Contains(text, "{LEPOCH}") {
		return pattern
	}
	text := strings.TrimPrefix(pattern, "{UNB}")
	text, begins := strings.CutPrefix(text, lineBegin)
	name := dateCode.ReplaceAllStringFunc(text, func(code string) string {
		if name, ok := codeNames[code[1:]]; ok {
			return name
		}
		if name, ok := codeNames[strings.TrimPrefix(code[1:], "Ex")]; ok && len(code) > 2 {
			return "Ex" + name
		}
		return code
	})
	open := strings.TrimLeft(text, "(")
	if begins && !strings.HasPrefix(open, "^") && !strings.HasPrefix(open, "?:^") && !strings.HasPrefix(open, "**") {
		return lineBegin + name
	}
	return name
}

// isAnchored says whether a format stands at the beginning of the line by what its pattern says.
func isAnchored(pattern string) bool {
	return strings.HasPrefix(pattern, lineBegin) || strings.HasPrefix(pattern, "^")
}

// describeDates names a datepattern as fail2ban does: the pattern with the meaning of its codes, or the default formats,
// which have no pattern.
func describeDates(lines []string) (pattern, name string) {
	ts := dateTemplates(lines)
	if len(ts) == 0 || len(ts) > 2 {
		return "", "Default Detectors"
	}
	if strings.Contains(ts[0].pattern, "EPOCH") || strings.HasSuffix(ts[0].pattern, "TAI64N") {
		return "", ts[0].name
	}
	return ts[0].pattern, ts[0].name
}

// dateTemplate is one format that dates are looked for in, and how it did.
type dateTemplate struct {
	pattern, name string
	line, stock   int // which line of the datepattern; which default format, from 1, 0 if it is none
	anchored      bool
	boost         float64 // how much a hit weighs
	hits          int
	distance      int // of the last hit from the beginning of the line
}

func (t *dateTemplate) weight() float64 {
	return float64(t.hits) * t.boost / float64(max(1, t.distance))
}

// dateTemplates lists the formats of a datepattern as fail2ban tries them at first: the default formats come first
// anchored to the beginning of the line, where they can be, then as they are. No line means the default formats.
func dateTemplates(lines []string) []*dateTemplate {
	var all []*dateTemplate
	for i, line := range lines {
		line = strings.TrimSpace(line)
		key := line
		if !strings.Contains(line, "%") {
			key = strings.ToUpper(line)
		}
		switch {
		case line == "":
		case key == "{DEFAULT}", key == lineBegin:
			all = append(all, stockTemplates(i, key == lineBegin)...)
		case datePlace.MatchString(key):
			for k, p := range filter.DefaultDates {
				p = placed(line, p)
				all = append(all, &dateTemplate{pattern: p, name: dateName(p), line: i, stock: k + 1, anchored: isAnchored(p), boost: 1})
			}
		case key == "{NONE}":
			all = append(all, &dateTemplate{pattern: "{UNB}^", name: "^", line: i, anchored: true, boost: 1})
		default:
			all = append(all, &dateTemplate{pattern: line, name: dateName(line), line: i, anchored: isAnchored(line), boost: boost(line)})
		}
	}
	if len(all) == 0 {
		return stockTemplates(0, false)
	}
	known := map[string]bool{}
	return slices.DeleteFunc(all, func(t *dateTemplate) bool {
		again := known[t.name]
		known[t.name] = true
		return again
	})
}

// boost is how much a hit of a pattern weighs: more for the anchored twin of a default format, whoever asks for it.
func boost(pattern string) float64 {
	if format, ok := strings.CutPrefix(pattern, lineBegin); ok {
		for _, p := range filter.DefaultDates {
			if strings.EqualFold(format, p) {
				return 100
			}
		}
	}
	return 1
}

// datePlace is where a pattern wants a default format.
var datePlace = regexp.MustCompile(`(?i)\{DATE\}`)

// placed is a pattern with a default format in its place.
func placed(pattern, format string) string {
	switch format {
	case "EPOCH":
		format = "Epoch"
	case "TAI64N":
	default:
		format = strings.TrimPrefix(format, lineBegin)
	}
	return datePlace.ReplaceAllLiteralString(pattern, format)
}

func stockTemplates(line int, anchoredOnly bool) []*dateTemplate {
	var twins, plain []*dateTemplate
	for i, p := range filter.DefaultDates {
		if !isAnchored(p) {
			twins = append(twins, &dateTemplate{pattern: lineBegin + p, name: dateName(lineBegin + p), line: line, stock: i + 1, anchored: true, boost: 100})
		}
		if isAnchored(p) || !anchoredOnly {
			plain = append(plain, &dateTemplate{pattern: p, name: dateName(p), line: line, stock: i + 1, anchored: isAnchored(p), boost: 1})
		}
	}
	return append(twins, plain...)
}

// dateTable is the list of formats in the order that fail2ban brings them into while it reads: what hits often and near
// the beginning of the line moves up.
type dateTable struct {
	templates   []*dateTemplate
	last        int // the place of the one that hit last
	firstUnused int
}

func newDateTable(lines []string) *dateTable {
	return &dateTable{templates: dateTemplates(lines), last: -1}
}

// hit counts a date that was found by a line of the datepattern, in a default format, before which head stands, and says
// whether it is a TAI64N label.
func (d *dateTable) hit(line, stock int, head string) (label bool) {
	place := d.place(line, stock, atBeginning(head))
	if place < 0 {
		return false
	}
	t := d.templates[place]
	t.hits++
	t.distance = len(head)
	if t.anchored {
		t.distance = 0
	}
	if d.firstUnused == place {
		d.firstUnused++
	}
	if place > 0 && place != d.last {
		place = d.moveUp(place)
	}
	d.last = place
	return strings.HasSuffix(t.name, "TAI64N")
}

// place finds the template: the default formats have two, one of them anchored. A format that also reads what another
// does keeps it while it is the last one: it is asked first.
func (d *dateTable) place(line, stock int, anchored bool) int {
	const syslog, zoneName, zoneNumber = 2, 15, 16
	if d.last >= 0 && stock == syslog && anchored {
		if t := d.templates[d.last]; t.line == line && t.anchored && (t.stock == zoneName || t.stock == zoneNumber) {
			return d.last
		}
	}
	best := -1
	for i, t := range d.templates {
		if t.line == line && t.stock == stock && (best < 0 || t.anchored == anchored) {
			best = i
		}
	}
	return best
}

// atBeginning says whether a date behind head still counts as the beginning of the line.
func atBeginning(head string) bool {
	return utf8.RuneCountInString(head) <= 2 && !strings.ContainsFunc(head, func(r rune) bool {
		return r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r)
	})
}

// moveUp brings the template at place nearer to the front if it weighs more than the one there, and returns its place.
func (d *dateTable) moveUp(place int) int {
	t := d.templates[place]
	to := place / 2
	if d.firstUnused < place {
		to = d.firstUnused
	}
	lighter := func(other *dateTemplate) bool { return other.hits == 0 || t.weight() > other.weight() }
	if !lighter(d.templates[to]) {
		if to == place-1 {
			return place
		}
		if to = place - 1; !lighter(d.templates[to]) {
			return place
		}
	}
	copy(d.templates[to+1:place+1], d.templates[to:place])
	d.templates[to] = t
	for d.firstUnused < len(d.templates) && d.templates[d.firstUnused].hits > 0 {
		d.firstUnused++
	}
	return to
}
