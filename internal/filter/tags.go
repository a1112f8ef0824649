package filter

import (
	"fmt"
	"strings"
)

// The addresses of the filter language as Python expressions, in fail2ban's own shape, so that a filter written for it
// finds the same text here. What they find is no address yet: 999.1.1.1 fits too (see identify).
const (
	exprIP4  = `(?:::f{4,6}:)?(?P<ip4>(?:\d{1,3}\.){3}\d{1,3})`
	exprIP6  = `(?P<ip6>(?:[0-9a-fA-F]{1,4}::?|::){1,7}(?:[0-9a-fA-F]{1,4}|(?<=:):))`
	exprDNS  = `(?P<dns>[\w\-.^_]*\w)`
	exprCIDR = `(?P<cidr>\d+)`
	exprAddr = `\[?(?:` + exprIP4 + `|` + exprIP6 + `)\]?`
	exprHost = `(?:` + exprAddr + `|` + exprDNS + `)`
	exprNet  = `\[?(?:` + exprIP4 + `|` + exprIP6 + `)(?:/` + exprCIDR + `)?\]?`
	exprID   = `(?P<fid>\S+)`
	exprPort = `(?P<fport>\w+)`
)

// maxExpanded bounds an expression with its tags replaced; <SKIPLINES> by the thousand are a mistake.
const maxExpanded = 64 << 10

// simpleTag gives the expression that stands for a tag without a closing one.
func simpleTag(tag string, names bool) (expr string, ok bool) {
	switch tag {
	case "HOST":
		if !names {
			return exprAddr, true
		}
		return exprHost, true
	case "ADDR", "F-ADDR/":
		return exprAddr, true
	case "IP4", "F-IP4/":
		return exprIP4, true
	case "IP6", "F-IP6/":
		return exprIP6, true
	case "DNS", "F-DNS/":
		return exprDNS, true
	case "CIDR", "F-CIDR/":
		return exprCIDR, true
	case "SUBNET", "F-SUBNET/":
		return exprNet, true
	case "F-ID/":
		return exprID, true
	case "F-PORT/":
		return exprPort, true
	}
	return "", false
}

// expanded is an expression with its tags replaced, and the way back from an offset in it to one in the original.
type expanded struct {
	text string
	from []origin
}

// origin says that the text from offset at on stands for what the original has from offset src on.
type origin struct {
	at, src int
	tag     bool // replaces a tag: every offset in it belongs to the tag's beginning
}

// source translates an offset in the expanded text into one in the text that the user wrote.
func (e expanded) source(offset int) int {
	last := origin{}
	for _, o := range e.from {
		if o.at > offset {
			break
		}
		last = o
	}
	if last.tag {
		return last.src
	}
	return last.src + offset - last.at
}

// expand replaces the tags of re: <HOST>, <ADDR>, <F-USER>..</F-USER> and their like become named groups. Text that only
// looks like a tag stays. names says whether <HOST> takes host names as well as addresses (fail2ban's usedns = no).
func expand(re string, names bool) (expanded, error) {
	var b strings.Builder
	e := expanded{from: []origin{{}}}
	var open []string // names of the <F-..> that wait for their close
	skips := 0
	replace := func(i, end int, expr string) {
		e.from = append(e.from, origin{b.Len(), i, true})
		b.WriteString(expr)
		e.from = append(e.from, origin{b.Len(), end, false})
	}
	for i := 0; i < len(re); {
		if group, end := oldFlags(re, i); end > 0 {
			replace(i, end, group)
			i = end
			continue
		}
		end := tagEnd(re, i)
		if end < 0 {
			b.WriteByte(re[i])
			i++
			continue
		}
		tag, expr, ok := re[i+1:end-1], "", false
		switch {
		case tag == "SKIPLINES":
			expr, ok = fmt.Sprintf(`\n(?P<skiplines%d>(?:(?:.*\n)*?))`, skips), true
			skips++
		case strings.HasPrefix(tag, "/F-"):
			if n := len(open); n > 0 && open[n-1] == tag[1:] {
				open, expr, ok = open[:n-1], ")", true
			}
		default:
			if expr, ok = simpleTag(tag, names); !ok && isOpening(re, tag, end) {
				open, expr, ok = append(open, tag), "(?P<"+groupName(tag)+">", true
			}
		}
		if !ok {
			b.WriteByte(re[i])
			i++
			continue
		}
		replace(i, end, expr)
		i = end
		if b.Len() > maxExpanded {
			return expanded{}, fmt.Errorf("the expression has more than %d bytes with its tags replaced", maxExpanded)
		}
	}
	if n := len(open); n > 0 {
		tag := open[n-1]
		return expanded{}, fmt.Errorf("<%s> is closed in the wrong place: tags must nest", tag)
	}
	e.text = b.String()
	return e, nil
}

// Expand is the expression re with its tags replaced, as Python would read it. usedns is that of the filter: with "no",
// <HOST> takes no host names.
func Expand(re, usedns string) (string, error) {
	e, err := expand(re, usedns != "no")
	return e.text, err
}

// isOpening says whether tag, which ends at re[end:], opens a group: F-NAME with a close somewhere behind it.
func isOpening(re, tag string, end int) bool {
	name, ok := strings.CutPrefix(tag, "F-")
	if !ok || name == "" {
		return false
	}
	for i := range len(name) {
		if b := name[i]; (b < 'A' || b > 'Z') && !isDigit(b) && b != '_' {
			return false
		}
	}
	return strings.Contains(re[end:], "</"+tag+">")
}

// groupName is the name of the group that <F-NAME> opens.
func groupName(tag string) string {
	switch tag {
	case "F-ID":
		return "fid"
	case "F-PORT":
		return "fport"
	}
	return strings.ToLower(tag[len("F-"):])
}

// tagEnd returns the offset behind the tag that begins at re[i:], or -1 if none does.
func tagEnd(re string, i int) int {
	if re[i] != '<' {
		return -1
	}
	for j := i + 1; j < len(re); j++ {
		switch b := re[j]; {
		case b == '>':
			if j == i+1 {
				return -1
			}
			return j + 1
		case (b < 'A' || b > 'Z') && !isDigit(b) && b != '-' && b != '_' && b != '/':
			return -1
		}
	}
	return -1
}

// oldFlags recognises the start of ((?i)x) and (?:(?i)x), which fail2ban turns into (?i:x): Python takes flags in the
// middle of an expression no longer. It returns the start of the new group, and the offset behind the old one.
func oldFlags(re string, i int) (group string, end int) {
	rest, ok := strings.CutPrefix(re[i:], "(")
	if !ok || i > 0 && re[i-1] == '\\' {
		return "", 0
	}
	rest = strings.TrimPrefix(rest, "?:")
	if rest, ok = strings.CutPrefix(rest, "(?"); !ok {
		return "", 0
	}
	n := 0
	for n < len(rest) && rest[n] >= 'a' && rest[n] <= 'z' {
		n++
	}
	if n == 0 || n >= len(rest) || rest[n] != ')' {
		return "", 0
	}
	return "(?" + rest[:n] + ":", len(re) - len(rest) + n + 1
}
