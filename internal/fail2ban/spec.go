package fail2ban

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ParseSpec reads what stands behind "filter =" in a jail: name[option=value, option="v, v"][option='v'].
//
// A value in quotes may hold commas and brackets; blanks around a value are dropped; the last of several values for
// one option wins. A name without brackets has no options, and the map is then empty, never nil.
func ParseSpec(s string) (name string, opts map[string]string, err error) {
	name, list, err := parseSpec(s)
	if err != nil {
		return "", nil, fmt.Errorf("%q: %w; write name[option=value, option=\"v, v\"]", s, err)
	}
	opts = map[string]string{}
	for _, o := range list {
		opts[o.key] = o.value
	}
	return name, opts, nil
}

// pair is one option=value of a spec.
type pair struct{ key, value string }

// parseSpec is ParseSpec that keeps the order, and every value of an option given twice. Its errors are in fail2ban's
// words; the places in them count characters behind the first bracket.
func parseSpec(s string) (name string, opts []pair, err error) {
	i := strings.IndexByte(s, '[')
	if i < 0 {
		if strings.TrimSpace(s) == "" {
			return "", nil, errors.New("the name is empty")
		}
		return strings.TrimRightFunc(s, unicode.IsSpace), nil, nil
	}
	name, all := s[:i], strings.TrimRightFunc(s[i+1:], unicode.IsSpace)
	if name == "" || !strings.HasSuffix(all, "]") {
		return "", nil, errors.New("unexpected option syntax")
	}
	all = all[:len(all)-1]
	place := func(rest string) int { return utf8.RuneCountInString(all[:len(all)-len(rest)]) }
	for rest := all; rest != ""; {
		if strings.TrimSpace(rest) == "" || strings.TrimSpace(strings.TrimPrefix(rest, ",")) == "" {
			break
		}
		key, value, after, ok := cutOption(rest)
		if !ok {
			return "", nil, fmt.Errorf("expected option, wrong syntax at %d: %s", place(rest), head(rest))
		}
		if rest, ok = cutSeparator(after); !ok {
			return "", nil, fmt.Errorf("unexpected syntax at %d after option %s: %s", place(after), PythonValue(key), head(after))
		}
		opts = append(opts, pair{key, strings.TrimSpace(value)})
	}
	return name, opts, nil
}

// head is the start of s, for a message.
func head(s string) string {
	if r := []rune(s); len(r) > 25 {
		return string(r[:25])
	}
	return s
}

// cutOption reads key=value at the start of s. A quote that nothing closes is part of the value.
func cutOption(s string) (key, value, rest string, ok bool) {
	m := optionName().FindStringSubmatch(s)
	if m == nil {
		return "", "", "", false
	}
	key, s = m[1], s[len(m[0]):]
	if s != "" && (s[0] == '"' || s[0] == '\'') {
		if end := strings.IndexByte(s[1:], s[0]); end >= 0 {
			return key, s[1 : end+1], s[end+2:], true
		}
	}
	end := strings.IndexAny(s, ",]")
	if end < 0 {
		end = len(s)
	}
	return key, s[:end], s[end:], true
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

// optionName is the name of an option and the "=" behind it. A condition, as in blocktype?family=inet6=DROP, is what
// fail2ban takes from 1.1.1 on.
var optionName = compiled(`^\s*([\pL\pN_.-]+(?:\?[\pL\pN_]+=[\pL\pN_]+)?)=`)

// specs finds the entries of a list of actions: what stands at the front of a line, or behind a blank, with the options in
// brackets behind it, that may span lines. It is fail2ban's own expression, but for its look-ahead.
var specs = compiled(`((?:[^\[\s]+(?:\s*\[\s*(?:[\pL\pN_.-]+(?:\?[\pL\pN_]+=[\pL\pN_]+)?=(?:"[^"]*"|'[^']*'|[^,\]]*)\s*(?:,|\]\s*\[)?\s*)*\])?\s*|\S+))(?:\s|$)`)

// splitSpecs splits a list of actions, at most limit of them. The offsets are those of the entries in s.
func splitSpecs(s string, limit int) (list []string, offsets []int, more bool) {
	for at := 0; ; {
		m := specs().FindStringSubmatchIndex(s[at:])
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
