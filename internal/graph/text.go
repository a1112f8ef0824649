package graph

import "strings"

// width is about how wide text is in pixels, in the wider ones of the usual fonts: nobody knows which the reader has.
func width(s string, size float64, bold bool) float64 {
	w := 0.0
	for _, r := range s {
		w += letterWidth(r)
	}
	if bold {
		w *= 1.1
	}
	return w * size
}

// letterWidth is that of a letter of size 1.
func letterWidth(r rune) float64 {
	switch {
	case strings.ContainsRune("ijlI.,:;'|!’ \u202f\u00a0", r):
		return 0.33
	case strings.ContainsRune("frt()[]/-\"·", r):
		return 0.42
	case strings.ContainsRune("mwMW%@…", r):
		return 0.95
	case r >= 'A' && r <= 'Z':
		return 0.7
	case r >= 0x1100: // Asian letters and pictures
		return 1.05
	}
	return 0.61
}

// fit is as much of text as has room.
func fit(s string, room, size float64, bold bool) string {
	if width(s, size, bold) <= room {
		return s
	}
	mark := 1.0
	if bold {
		mark = 1.1
	}
	room -= letterWidth('…') * size * mark
	for i, r := range s {
		if room -= letterWidth(r) * size * mark; room < 0 {
			return strings.TrimSpace(s[:i]) + "…"
		}
	}
	return s
}
