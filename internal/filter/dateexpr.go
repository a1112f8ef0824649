package filter

import (
	"errors"
	"fmt"
	"strings"

	"tocsin/internal/regex"
)

// translation is a text with %-codes on its way to an expression.
type translation struct {
	expr       string
	ignoreCase bool // names of months and days are written in any case
	anchored   bool
	leads      bool // what is cut out stands at the start, behind two characters at most that are no letters
}

// patternOf compiles texts with %-codes into one pattern; the first that fits wins.
func patternOf(texts []string) (datePattern, error) {
	p := datePattern{anchored: true, leads: true}
	var exprs []string
	var flags regex.Flags
	for _, text := range texts {
		t := translate(text)
		exprs = append(exprs, t.expr)
		p.anchored = p.anchored && t.anchored
		p.leads = p.leads && t.leads
		if t.ignoreCase {
			flags = regex.IgnoreCase
		}
	}
	return compileDates(p, flags, exprs...)
}

// compileDates completes p with the expressions. Group 1 of each is what is cut out of the line.
func compileDates(p datePattern, flags regex.Flags, exprs ...string) (datePattern, error) {
	var all []*regex.Regexp
	e := &dateExpr{}
	for _, expr := range exprs {
		re, err := regex.Compile(expr, flags)
		if err != nil {
			var syntax *regex.SyntaxError
			if errors.As(err, &syntax) {
				err = fmt.Errorf("%s, in the expression %q that it stands for, at character %d", syntax.Msg, expr, syntax.Offset+1)
			}
			return p, err
		}
		all = append(all, re)
		var fields []dateField
		for group, name := range re.GroupNames() {
			if name != "" {
				fields = append(fields, dateField{group, name})
			}
		}
		e.fields = append(e.fields, fields)
	}
	var err error
	if e.set, err = regex.NewSet(all, regex.Options{CacheBytes: dateCacheBytes}); err != nil {
		return p, err
	}
	p.expr = e
	return p, nil
}

// dateCacheBytes bounds the automaton of a date pattern; dates are short and much the same.
const dateCacheBytes = 1 << 20

// translate turns a text with %-codes into an expression, with fail2ban's rules for where it may stand: between word
// boundaries, unless the text begins or ends with an anchor or with **; the whole is group 1 if the text has no group.
func translate(text string) translation {
	t := translation{ignoreCase: hasNames(text)}
	var lineBegin, free bool
	if text, free = strings.CutPrefix(text, "{UNB}"); !free {
		text, lineBegin = strings.CutPrefix(text, "{^LN-BEG}")
	}
	expr, flags := cutFlags(replaceCodes(text))
	begins := strings.TrimLeft(expr, "(")
	bound := !free && !strings.HasPrefix(begins, "^") && !strings.HasPrefix(begins, "**") && !strings.HasPrefix(begins, "?:^")
	boundEnd := !free && !endsFree(expr)
	t.anchored = lineBegin || strings.HasPrefix(begins, "^") && !strings.HasPrefix(begins, "^|") ||
		strings.HasPrefix(begins, "?:^") && !strings.HasPrefix(begins, "?:^|")
	if !hasPlainGroup(expr) {
		expr = wrapGroup(expr)
		t.leads = lineBegin || strings.HasPrefix(expr, "^")
	}
	switch {
	case bound && lineBegin:
		expr = `^(?:\W{0,2})?` + expr
	case bound:
		expr = `(?=^|\b|\W)` + expr
	}
	expr = dropStars(expr, boundEnd)
	if boundEnd {
		expr += `(?=\b|\W|$)`
	}
	t.expr = flags + expr
	return t
}

// hasNames says whether text has a code for a name of a month, a day, or a half of the day.
func hasNames(text string) bool {
	for i := 0; i+1 < len(text); i++ {
		if text[i] == '%' {
			if strings.IndexByte("aAbBpc", text[i+1]) >= 0 {
				return true
			}
			i++
		}
	}
	return false
}

// replaceCodes puts expressions in the place of %-codes and {EPOCH}. What is no code stays as it is.
func replaceCodes(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); {
		rest := text[i:]
		upper := strings.ToUpper(rest[:min(len(rest), len("{LEPOCH}"))])
		switch {
		case rest[0] == '\\' && len(rest) > 1:
			b.WriteString(rest[:2])
			i += 2
		case strings.HasPrefix(upper, "{EPOCH}"):
			b.WriteString(`(?P<` + epochField + `>\d{10,11}\b(?:\.\d{3,6})?)`)
			i += len("{EPOCH}")
		case upper == "{LEPOCH}":
			b.WriteString(`(?P<` + epochLong + `>\d{10,11}(?:\d{3}(?:\.\d{1,6}|\d{3})?)?)`)
			i += len("{LEPOCH}")
		case strings.HasPrefix(rest, "%%"):
			b.WriteByte('%')
			i += 2
		case rest[0] == '%':
			n := replaceCode(&b, rest[1:])
			i += 1 + n
		default:
			b.WriteByte(rest[0])
			i++
		}
	}
	return b.String()
}

// replaceCode writes the expression of the code that begins rest, and returns the code's length.
func replaceCode(b *strings.Builder, rest string) int {
	for _, c := range dateCodes {
		if strings.HasPrefix(rest, c.code) {
			b.WriteString(c.expr)
			return len(c.code)
		}
	}
	b.WriteByte('%')
	return 0
}

// cutFlags takes flags like (?i) from the front of expr.
func cutFlags(expr string) (rest, flags string) {
	if !strings.HasPrefix(expr, "(?") {
		return expr, ""
	}
	n := len("(?")
	for n < len(expr) && expr[n] >= 'a' && expr[n] <= 'z' {
		n++
	}
	if n == len("(?") || n == len(expr) || expr[n] != ')' {
		return expr, ""
	}
	return expr[n+1:], expr[:n+1]
}

// endsFree says whether expr ends with an anchor or with **, so that no boundary is asked for behind it.
func endsFree(expr string) bool {
	for _, end := range []string{"$", "$)", `\b`, `\s`} {
		if before, ok := strings.CutSuffix(expr, end); ok && !strings.HasSuffix(before, `\`) {
			return true
		}
	}
	before, ok := strings.CutSuffix(strings.TrimRight(expr, ")"), "**")
	return ok && !strings.HasSuffix(before, `\`)
}

// hasPlainGroup says whether expr has a group without a name, which then tells what is cut out of the line.
func hasPlainGroup(expr string) bool {
	for i := 0; i < len(expr); i++ {
		switch {
		case expr[i] == '\\':
			i++
		case expr[i] == '(' && (i+1 == len(expr) || expr[i+1] != '?'):
			return true
		}
	}
	return false
}

// wrapGroup makes expr group 1, but for its anchors.
func wrapGroup(expr string) string {
	begin, end := "", ""
	if strings.HasPrefix(expr, "^") {
		begin, expr = "^", expr[1:]
	}
	if body, ok := strings.CutSuffix(expr, "$"); ok && !strings.HasSuffix(body, `\`) {
		end, expr = "$", body
	}
	return begin + "(" + expr + ")" + end
}

// dropStars removes the ** that stand for "no boundary here", behind opening and before closing parentheses.
func dropStars(expr string, bound bool) string {
	open := len(expr) - len(strings.TrimLeft(expr, "("))
	if strings.HasPrefix(expr[open:], "**") {
		expr = expr[:open] + expr[open+2:]
	}
	if bound {
		return expr
	}
	body := strings.TrimRight(expr, ")")
	if before, ok := strings.CutSuffix(body, "**"); ok && !strings.HasSuffix(before, `\`) {
		return before + expr[len(body):]
	}
	return expr
}
