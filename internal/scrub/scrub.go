// Package scrub takes out of a comment what is personal: names of people and machines, addresses other than the one that is
// meant, tokens, passwords. Comments of reports are read by everybody, and are full of such things.
package scrub

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// MaxComment is how many bytes of a comment are kept, as AbuseIPDB keeps them.
const MaxComment = 1024

// What stands in the place of what was taken out.
const (
	redacted = "[redacted]"
	someone  = "[user]"
)

// Scrubber knows what belongs to the members.
type Scrubber struct {
	Names    []string       // host names and domains; everything under a domain is meant too
	Prefixes []netip.Prefix // networks whose addresses are never told, whatever is reported
}

// common are user names that attackers try everywhere: they are nobody's. Any other may be somebody.
var common = map[string]bool{
	"root": true, "admin": true, "administrator": true, "test": true, "guest": true, "user": true, "ubuntu": true, "debian": true,
	"pi": true, "oracle": true, "postgres": true, "mysql": true, "git": true, "ftp": true, "ftpuser": true, "www-data": true,
	"nagios": true, "support": true, "info": true, "ubnt": true, "ec2-user": true, "centos": true, "jenkins": true, "hadoop": true,
}

// patterns are compiled when the first comment comes: most processes never read one.
var patterns = sync.OnceValue(func() []rule {
	return []rule{
		// A line of syslog begins with its date and the name of the machine.
		{regexp.MustCompile(`(^|\n)((?:<\d+>)?(?:[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d|\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:?\d\d))) +(\S+)`), "$1$2 " + redacted},
		{regexp.MustCompile(`(?i)\b([a-z][a-z0-9+.-]{0,30}://)\S+`), "$1" + redacted},
		{regexp.MustCompile(`(/\S*?)\?\S+`), "$1?" + redacted},
		{regexp.MustCompile(`[^\s<>()"',;=]+@[^\s<>()"',;]+`), redacted},
		{regexp.MustCompile(`(?i)\b((?:set-)?cookie|authorization)(\s*[:=]\s*)[^\n]*`), "$1$2" + redacted},
		{regexp.MustCompile(`(?i)\b(pass(?:word|wd|phrase)?|pwd|token|secret|session(?:_?id)?|sid|api[_-]?key|key)(\s*[:=]\s*|\s+is\s+)("[^"]*"|'[^']*'|\S+)`), "$1$2" + redacted},
		{regexp.MustCompile(`(?i)\b([0-9a-f]{2}[:-]){5}[0-9a-f]{2}\b`), redacted},
		{regexp.MustCompile(`\b([A-Za-z][\w./-]{0,40})\[\d+\]`), "$1"},
		{regexp.MustCompile(`\b[A-Za-z0-9+/_-]{32,}={0,2}`), redacted},
	}
})

type rule struct {
	find *regexp.Regexp
	by   string
}

var (
	users = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?i)\b((?:for )?(?:(?:invalid |illegal |unknown )?user(?:name)?)(?:[=:]\s*|\s+)|for |(?:login|acct|account|sasl_username|logname|ruser|rhost|helo)[=:]\s*|[eh][eh]lo )("[^"\n]*"|'[^'\n]*'|<[^>\n]*>|\S+)`)
	})
	words = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`[0-9A-Za-z][0-9A-Za-z:._%-]*`) })
)

// Comment is a comment about an address without what is personal; "" where nothing is left that is surely harmless.
func (s *Scrubber) Comment(text string, about netip.Addr) string {
	text = plain(text)
	for _, r := range patterns() {
		text = r.find.ReplaceAllString(text, r.by)
	}
	text = users().ReplaceAllStringFunc(text, userless)
	text = words().ReplaceAllStringFunc(text, func(w string) string { return s.word(w, about) })
	text = strings.TrimSpace(cut(text, MaxComment))
	if strings.Contains(text, "@") || s.mine(strings.ToLower(text)) {
		return "" // something is there that no rule understood
	}
	return text
}

// plain is text without control characters but line ends, and as UTF-8.
func plain(text string) string {
	text = cut(text, 4*MaxComment)
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n':
			return r
		case unicode.IsControl(r), unicode.Is(unicode.Cf, r), r == utf8.RuneError:
			return ' '
		}
		return r
	}, text)
}

func cut(text string, n int) string {
	if len(text) <= n {
		return text
	}
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n]
}

// userless is "for NAME" and its like without the name, if that may be somebody's.
func userless(found string) string {
	m := users().FindStringSubmatch(found)
	if m == nil {
		return found
	}
	name := strings.Trim(m[2], `"'<>`)
	bare := strings.TrimRight(name, ",.;:)")
	lower := strings.ToLower(bare)
	if bare == "" || common[lower] || joins[lower] || strings.HasPrefix(bare, "[") || strings.EqualFold(m[1], "for ") && isNumber(bare) {
		return found
	}
	return m[1] + someone + name[len(bare):]
}

// joins are words that follow "for" and "user" without being names.
var joins = map[string]bool{"from": true, "the": true, "a": true, "an": true, "not": true, "ssh": true, "host": true, "on": true,
	"by": true, "in": true, "at": true, "to": true, "and": true, "login": true, "password": true, "account": true, "this": true, "authentication": true}

func isNumber(s string) bool {
	return s != "" && strings.IndexFunc(s, func(r rune) bool { return !unicode.IsDigit(r) && !strings.ContainsRune(".,:%", r) }) < 0
}

// word is one word without the address or the machine that it names.
func (s *Scrubber) word(w string, about netip.Addr) string {
	tail := w[len(strings.TrimRight(w, ".:-%_")):]
	core := w[:len(w)-len(tail)]
	if a, err := netip.ParseAddr(core); err == nil {
		if a.Unmap() == about.Unmap() && !slices.ContainsFunc(s.Prefixes, func(p netip.Prefix) bool { return p.Contains(a.Unmap()) }) {
			return w
		}
		return redacted + tail
	}
	if host, port, ok := strings.Cut(core, ":"); ok && isNumber(port) {
		if a, err := netip.ParseAddr(host); err == nil {
			return s.word(a.String(), about) + tail
		}
	}
	lower := strings.ToLower(core)
	if s.mine(lower) || strings.Count(core, ".") >= 2 && strings.IndexFunc(core, unicode.IsLetter) >= 0 {
		return redacted + tail
	}
	return w
}

// mine says whether one of the members' names is in a text of small letters, as a whole word.
func (s *Scrubber) mine(lower string) bool {
	for _, name := range s.Names {
		name = strings.ToLower(name)
		for at := 0; name != ""; {
			i := strings.Index(lower[at:], name)
			if i < 0 {
				break
			}
			begin, end := at+i, at+i+len(name)
			if (begin == 0 || !partOfName(lower[begin-1])) && (end == len(lower) || !partOfName(lower[end])) {
				return true
			}
			at = begin + 1
		}
	}
	return false
}

func partOfName(c byte) bool { return c == '-' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' }
