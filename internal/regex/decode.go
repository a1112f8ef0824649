package regex

import "unicode/utf8"

// decode reads the character that begins at text[i], and how many bytes it takes. i must be less than len(text).
//
// An invalid sequence gives U+FFFD as Python's errors="replace" does: one for each maximal part of a sequence that might
// have become valid (Unicode 15, 3.9, "U+FFFD substitution of maximal subparts"), where Go's own decoder gives one a byte.
func decode(text []byte, i int) (rune, int) {
	if b := text[i]; b < utf8.RuneSelf {
		return rune(b), 1
	}
	r, n := utf8.DecodeRune(text[i:])
	if r != utf8.RuneError || n > 1 {
		return r, n
	}
	return utf8.RuneError, invalid(text[i:])
}

// invalid measures the maximal part of an invalid sequence.
func invalid(s []byte) int {
	need, lo, hi := 0, byte(0x80), byte(0xbf)
	switch b := s[0]; {
	case b >= 0xc2 && b <= 0xdf:
		need = 1
	case b >= 0xe0 && b <= 0xef:
		need = 2
		switch b {
		case 0xe0:
			lo = 0xa0
		case 0xed:
			hi = 0x9f
		}
	case b >= 0xf0 && b <= 0xf4:
		need = 3
		switch b {
		case 0xf0:
			lo = 0x90
		case 0xf4:
			hi = 0x8f
		}
	}
	n := 1
	for n <= need && n < len(s) && s[n] >= lo && s[n] <= hi {
		n, lo, hi = n+1, 0x80, 0xbf
	}
	return n
}
