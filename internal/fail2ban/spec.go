package fail2ban

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
)

// ParseSpec reads what stands behind "filter =" in a jail: name[option=value, option="v, v"][option='v'].
//
// A value in quotes may hold commas and brackets; blanks around a value are dropped; the last of several values for
// one option wins. A name without brackets has no options, and the map is then empty, never nil.
func ParseSpec(s string) (name string, opts map[string]string, err error) {
	name, list, err := parseSpec(s)
	if err != nil {
		return "", nil, err
	}
	opts = map[string]string{}
	for _, o := range list {
		opts[o.key] = o.value
	}
	return name, opts, nil
}

// pair is one option=value of a spec.
type pair struct{ key, value string }

// parseSpec is ParseSpec that keeps the order, and every value of an option given twice.
func parseSpec(s string) (name string, opts []pair, err error) {
	i := strings.IndexByte(s, '[')
	if i < 0 {
		if strings.TrimSpace(s) == "" {
			return "", nil, fmt.Errorf("the name is empty")
		}
		return strings.TrimRightFunc(s, unicode.IsSpace), nil, nil
	}
	name, rest := s[:i], strings.TrimRightFunc(s[i+1:], unicode.IsSpace)
	if name == "" || !strings.HasSuffix(rest, "]") {
		return "", nil, fmt.Errorf("%q: unexpected syntax, write name[option=value, option=\"v, v\"]", s)
	}
	for rest = rest[:len(rest)-1]; ; {
		rest = strings.TrimLeftFunc(rest, unicode.IsSpace)
		if strings.TrimSpace(strings.TrimPrefix(rest, ",")) == "" {
			return name, opts, nil
		}
		key, value, after, ok := cutOption(rest)
		if !ok {
			return "", nil, fmt.Errorf("%q: expected option=value at %.40q", s, rest)
		}
		opts, rest = append(opts, pair{key, strings.TrimSpace(value)}), after
	}
}

// cutOption reads key=value and the comma or "][" behind it.
func cutOption(s string) (key, value, rest string, ok bool) {
	key, s, ok = strings.Cut(s, "=")
	if !ok || key == "" || strings.ContainsFunc(key, func(r rune) bool { return !isWord(r) && r != '-' && r != '.' }) {
		return "", "", "", false
	}
	if s != "" && (s[0] == '"' || s[0] == '\'') {
		if end := strings.IndexByte(s[1:], s[0]); end >= 0 {
			if rest, ok := cutSeparator(s[end+2:]); ok {
				return key, s[1 : end+1], rest, true
			}
		}
	}
	end := strings.IndexAny(s, ",]")
	if end < 0 {
		end = len(s)
	}
	rest, ok = cutSeparator(s[end:])
	return key, s[:end], rest, ok
}

// cutSeparator drops the "," or "][" at the start of s. At the end of s, or before a last newline, none is needed.
func cutSeparator(s string) (rest string, ok bool) {
	if s == "" || s == "\n" {
		return "", true
	}
	if s[0] == ',' {
		return s[1:], true
	}
	if s[0] == ']' {
		if rest = strings.TrimLeftFunc(s[1:], unicode.IsSpace); strings.HasPrefix(rest, "[") {
			return rest[1:], true
		}
	}
	return "", false
}

// isWord says whether r is a word character of Python's \w.
func isWord(r rune) bool { return r == '_' || unicode.IsLetter(r) || unicode.IsNumber(r) }

// specs finds the entries of a list of actions: what stands at the front of a line, or behind a blank, with the options in
// brackets behind it, that may span lines. It is fail2ban's own expression, but for its look-ahead.
var specs = regexp.MustCompile(`((?:[^\[\s]+(?:\s*\[\s*(?:[\pL\pN_.-]+=(?:"[^"]*"|'[^']*'|[^,\]]*)\s*(?:,|\]\s*\[)?\s*)*\])?\s*|\S+))(?:\s|$)`)

// splitSpecs splits a list of actions, at most limit of them. The offsets are those of the entries in s.
func splitSpecs(s string, limit int) (list []string, offsets []int, more bool) {
	for at := 0; ; {
		m := specs.FindStringSubmatchIndex(s[at:])
		if m == nil {
			return list, offsets, false
		}
		if len(list) == limit {
			return list, offsets, true
		}
		list, offsets = append(list, s[at+m[2]:at+m[3]]), append(offsets, at+m[2])
		at += m[3]
	}
}
