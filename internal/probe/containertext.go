package probe

import (
	"math"
	"strings"
	"unicode"
	"unicode/utf8"

	"tocsin/internal/munin"
)

// maxLabel is how much of a name that strangers chose is shown, maxTold how much of an error that they worded, in runes.
const (
	maxLabel = 80
	maxTold  = 400
)

// readingOf asks value for each field of a service. A field without a value (NaN) is unknown.
func readingOf(s *munin.Service, value func(field string) float64) Reading {
	r := Reading{Service: s, Values: make([]munin.Value, len(s.Fields))}
	for i := range s.Fields {
		r.Values[i] = v(s.Fields[i].Name, value(s.Fields[i].Name))
	}
	return r
}

// from is a value func over a map; what is not in it is unknown.
func from(m map[string]float64) func(string) float64 {
	return func(field string) float64 {
		if v, ok := m[field]; ok {
			return v
		}
		return math.NaN()
	}
}

// plain makes one line without anything invisible of a name that strangers chose, for labels. It is never empty.
func plain(s string) string { return plainUpTo(s, maxLabel) }

// told is plain for errors that name what strangers said.
func told(err error) string { return plainUpTo(err.Error(), maxTold) }

func plainUpTo(s string, most int) string {
	s = strings.TrimSpace(strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s))
	if runes := []rune(s); len(runes) > most {
		s = string(runes[:most-1]) + "…"
	}
	if s == "" {
		return "?"
	}
	return s
}
