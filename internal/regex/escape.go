package regex

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// escape reads what follows a backslash at start, outside a class.
func (p *parser) escape(start int, flags Flags) *node {
	c := p.next()
	switch c {
	case 'A':
		return &node{kind: kAssert, assert: atBegin}
	case 'Z':
		return &node{kind: kAssert, assert: atEnd}
	case 'b':
		return &node{kind: kAssert, assert: atBoundary, set: category('w', flags)}
	case 'B':
		return &node{kind: kAssert, assert: atNonBoundary, set: category('w', flags)}
	case '0':
		n, _ := strconv.ParseInt("0"+p.takeWhile(2, octDigits), 8, 32)
		return literal(rune(n), flags)
	}
	if c >= '1' && c <= '9' {
		return p.numbered(start, c, flags)
	}
	if set := category(c, flags); set != nil {
		return lit(set)
	}
	return literal(p.character(start, c), flags)
}

// numbered reads \1 to \99, or an octal escape if three octal digits stand there.
func (p *parser) numbered(start int, c rune, flags Flags) *node {
	num := string(c) + p.takeWhile(1, digits)
	if len(num) == 2 && strings.Trim(num, octDigits) == "" && p.peek() != eof && strings.ContainsRune(octDigits, p.peek()) {
		num += string(p.next())
		return literal(p.octal(start, num), flags)
	}
	g, _ := strconv.Atoi(num)
	if g >= len(p.names) {
		p.fail(start+1, fmt.Sprintf("invalid group reference %d", g), "")
	}
	return p.backref(start+1, g, flags)
}

func (p *parser) octal(start int, num string) rune {
	n, _ := strconv.ParseInt(num, 8, 32)
	if n > 0o377 {
		p.fail(start, fmt.Sprintf(`octal escape value \%s outside of range 0-0o377`, num), "")
	}
	return rune(n)
}

// character reads the escapes that name one character, which are the same in and outside a class.
func (p *parser) character(start int, c rune) rune {
	switch c {
	case eof:
		p.fail(start, "bad escape (end of pattern)", `write \\ for the character`)
	case 'a':
		return '\a'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	case 'v':
		return '\v'
	case 'x':
		return p.hex(start, 2)
	case 'u':
		return p.hex(start, 4)
	case 'U':
		return p.hex(start, 8)
	case 'N':
		p.fail(start, `\N{name} is not supported`, `write the character itself, or \u and its number`)
	}
	if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' {
		p.fail(start, fmt.Sprintf(`bad escape \%c`, c), "a letter that means nothing special needs no backslash")
	}
	return c
}

func (p *parser) hex(start, n int) rune {
	s := p.takeWhile(n, hexDigits)
	v, _ := strconv.ParseInt("0"+s, 16, 64)
	if len(s) != n || v > unicode.MaxRune {
		p.fail(start, "incomplete or bad escape "+string(p.src[start:p.pos]), fmt.Sprintf("%d hexadecimal digits are needed", n))
	}
	return rune(v)
}

// category gives the set of \d \D \s \S \w \W, and nil for any other letter.
func category(c rune, flags Flags) ranges {
	var set ranges
	narrow := flags&ascii != 0
	switch c {
	case 'd', 'D':
		if set = asciiDigit; !narrow {
			set = digitRanges()
		}
	case 's', 'S':
		if set = asciiSpace; !narrow {
			set = spaceRanges
		}
	case 'w', 'W':
		if set = asciiWord; !narrow {
			set = wordRanges()
		}
	default:
		return nil
	}
	if c < 'a' {
		return set.negate()
	}
	return set
}

// class reads a set, of which the bracket at start was taken.
func (p *parser) class(start int, flags Flags) *node {
	negate := p.take('^')
	var folding, set ranges // what IgnoreCase widens, and the categories, which it does not
	empty := true
	for {
		pos := p.pos
		c := p.next()
		if c == ']' && !empty {
			break
		}
		empty = false
		lo, cat := p.classItem(start, c, flags)
		if p.peek() != '-' {
			folding, set = addItem(folding, set, lo, lo, cat)
			continue
		}
		p.pos++
		c = p.next()
		if c == ']' {
			folding, set = addItem(folding, set, lo, lo, cat)
			folding = append(folding, '-', '-')
			break
		}
		hi, cat2 := p.classItem(start, c, flags)
		if cat != nil || cat2 != nil || hi < lo {
			p.fail(pos, "bad character range "+string(p.src[pos:p.pos]), `write \- for the character, or put it last`)
		}
		folding = append(folding, lo, hi)
	}
	all := foldIf(folding.sorted(), flags).union(set)
	if negate {
		all = all.negate()
	}
	return lit(all)
}

func addItem(folding, set ranges, lo, hi rune, cat ranges) (ranges, ranges) {
	if cat != nil {
		return folding, append(set, cat...)
	}
	return append(folding, lo, hi), set
}

// classItem reads one character or one category within a class.
func (p *parser) classItem(start int, c rune, flags Flags) (rune, ranges) {
	switch c {
	case eof:
		p.fail(start, "unterminated character set", `write \[ for the character`)
	case '\\':
	default:
		return c, nil
	}
	at := p.pos - 1
	c = p.next()
	if c == 'b' {
		return '\b', nil
	}
	if cat := category(c, flags); cat != nil {
		return 0, cat
	}
	if c >= '0' && c <= '7' {
		return p.octal(at, string(c)+p.takeWhile(2, octDigits)), nil
	}
	if c == '8' || c == '9' {
		p.fail(at, fmt.Sprintf(`bad escape \%c`, c), "")
	}
	return p.character(at, c), nil
}
