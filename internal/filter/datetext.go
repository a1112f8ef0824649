package filter

import (
	"unicode"
	"unicode/utf8"
)

const (
	maxZoneHour = 19 // as in fail2ban; the world's widest zone is +14:00
	maxFraction = 9  // digits: nanoseconds
)

// fraction reads a separator and one to nine digits at s[i:]; end is i if there are none, or more.
func fraction(s []byte, i int, seps string) (end, nsec int) {
	if i >= len(s) || s[i] != seps[0] && s[i] != seps[len(seps)-1] {
		return i, 0
	}
	j := i + 1
	for ; j < len(s) && isDigit(s[j]); j++ {
		if j-i > maxFraction {
			return i, 0
		}
		nsec = nsec*10 + int(s[j]-'0')
	}
	if j == i+1 {
		return i, 0
	}
	for n := j - i - 1; n < maxFraction; n++ {
		nsec *= 10
	}
	return j, nsec
}

// zoneAt reads Z, UTC, GMT, +hh, +hhmm or +hh:mm at s[i:] and returns the offset behind it, or -1.
func zoneAt(s []byte, i int) (end, seconds int) {
	if i >= len(s) {
		return -1, 0
	}
	switch s[i] {
	case 'Z':
		return i + 1, 0
	case 'U', 'G':
		if i+3 <= len(s) && (string(s[i:i+3]) == "UTC" || string(s[i:i+3]) == "GMT") {
			return i + 3, 0
		}
	case '+', '-':
		if i+3 > len(s) {
			return -1, 0
		}
		h := twoDigits(s[i+1], s[i+2])
		if h < 0 || h > maxZoneHour {
			return -1, 0
		}
		end, seconds = i+3, h*3600
		m := end
		if m < len(s) && s[m] == ':' {
			m++
		}
		if m+2 <= len(s) {
			if v := twoDigits(s[m], s[m+1]); v >= 0 && boundary(s, m+2) {
				end, seconds = m+2, seconds+v*60
			}
		}
		if s[i] == '-' {
			seconds = -seconds
		}
		return end, seconds
	}
	return -1, 0
}

// boundary says whether a date may end at s[i:]: not between two letters or digits.
func boundary(s []byte, i int) bool {
	return i == len(s) || !wordAt(s, i) || !wordBefore(s, i)
}

// wordAt says whether a letter, digit or underscore begins at s[i], in Python's sense.
func wordAt(s []byte, i int) bool {
	if b := s[i]; b < utf8.RuneSelf {
		return isWordByte(b)
	}
	r, _ := utf8.DecodeRune(s[i:])
	return r != utf8.RuneError && (unicode.IsLetter(r) || unicode.IsNumber(r))
}

func wordBefore(s []byte, i int) bool {
	if i == 0 {
		return false
	}
	if b := s[i-1]; b < utf8.RuneSelf {
		return isWordByte(b)
	}
	r, _ := utf8.DecodeLastRune(s[:i])
	return r != utf8.RuneError && (unicode.IsLetter(r) || unicode.IsNumber(r))
}

func isWordByte(b byte) bool {
	return isDigit(b) || b|0x20 >= 'a' && b|0x20 <= 'z' || b == '_'
}

func isDigit(b byte) bool { return b-'0' < 10 }

func isSpace(b byte) bool { return b == ' ' || b >= '\t' && b <= '\r' || b >= 0x1c && b <= 0x1f }

// twoDigits is the number that two digits write, or -1.
func twoDigits(a, b byte) int {
	if !isDigit(a) || !isDigit(b) {
		return -1
	}
	return int(a-'0')*10 + int(b-'0')
}

func hexValue(b byte) int {
	switch {
	case isDigit(b):
		return int(b - '0')
	case b >= 'a' && b <= 'f':
		return int(b-'a') + 10
	}
	return -1
}

// letters3 packs three letters, in lower case, into a number that monthOf and isWeekday can switch on.
func letters3(s []byte) uint32 {
	return uint32(s[0]|0x20)<<16 | uint32(s[1]|0x20)<<8 | uint32(s[2]|0x20)
}

func monthOf(name uint32) int {
	switch name {
	case 'j'<<16 | 'a'<<8 | 'n':
		return 1
	case 'f'<<16 | 'e'<<8 | 'b':
		return 2
	case 'm'<<16 | 'a'<<8 | 'r':
		return 3
	case 'a'<<16 | 'p'<<8 | 'r':
		return 4
	case 'm'<<16 | 'a'<<8 | 'y':
		return 5
	case 'j'<<16 | 'u'<<8 | 'n':
		return 6
	case 'j'<<16 | 'u'<<8 | 'l':
		return 7
	case 'a'<<16 | 'u'<<8 | 'g':
		return 8
	case 's'<<16 | 'e'<<8 | 'p':
		return 9
	case 'o'<<16 | 'c'<<8 | 't':
		return 10
	case 'n'<<16 | 'o'<<8 | 'v':
		return 11
	case 'd'<<16 | 'e'<<8 | 'c':
		return 12
	}
	return 0
}

func isWeekday(name uint32) bool {
	switch name {
	case 'm'<<16 | 'o'<<8 | 'n', 't'<<16 | 'u'<<8 | 'e', 'w'<<16 | 'e'<<8 | 'd', 't'<<16 | 'h'<<8 | 'u',
		'f'<<16 | 'r'<<8 | 'i', 's'<<16 | 'a'<<8 | 't', 's'<<16 | 'u'<<8 | 'n':
		return true
	}
	return false
}
