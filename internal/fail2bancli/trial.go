package fail2bancli

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"tocsin/internal/fail2ban"
	"tocsin/internal/filter"
	"tocsin/internal/regex"
)

// trial runs a filter over lines the way fail2ban-regex does, which is not quite what a guard does: every failregex is
// asked, a line counts once for each that fits, no line is too old, and sessions follow fail2ban's own rules to the
// letter. Expressions, tags and dates are those of the guard (packages regex and filter).
type trial struct {
	dates   *filter.Dates
	undated int // the line of the datepattern that says that there is none, -1 if no line does
	table   *dateTable

	prefix      *rules // nil: none
	fail        *rules
	ignore      *rules // nil: none
	maxLines    int
	first       bool // stop at the first failregex that fits
	usedns      string
	raw         bool
	skipPending bool
	lookUp      func(name string) []string
	now         func() time.Time

	ignoreHits []int
	preMatched bool // the prefregex fitted when it was last asked
	preGroups  *dict

	buffer   []tuple
	lastDate time.Time
	lastText string
	label    bool // the last date was a TAI64N label, which Python keeps as an int
	sessions map[string]*dict
	order    []string // of the sessions, the oldest first
	ignored  bool     // an ignoreregex fitted the line at hand
}

// maxSessions is how many sessions fail2ban remembers.
const maxSessions = 100

// rules are expressions with what fail2ban shows of them.
type rules struct {
	texts   []string // as they were written
	expands []string // with their tags replaced
	names   [][]string
	matcher *regex.Matcher
}

// compile makes rules of expressions. The error is in fail2ban's words, with our reason.
func compile(list []fail2ban.Regex, usedns string, flags regex.Flags) (*rules, error) {
	if len(list) == 0 {
		return nil, nil
	}
	r := &rules{}
	var all []*regex.Regexp
	for _, re := range list {
		if strings.TrimSpace(re.Text) == "" {
			return nil, errors.New("ERROR: Cannot add empty regex")
		}
		text, err := filter.Expand(re.Text, usedns)
		if err != nil {
			return nil, fmt.Errorf("ERROR: Unable to compile regular expression '%s':\n%w", re.Text, err)
		}
		compiled, err := regex.Compile(text, flags)
		if err != nil {
			return nil, fmt.Errorf("ERROR: Unable to compile regular expression '%s':\n%s", text, compileError(err))
		}
		all = append(all, compiled)
		r.texts, r.expands, r.names = append(r.texts, re.Text), append(r.expands, text), append(r.names, compiled.GroupNames())
	}
	set, err := regex.NewSet(all, regex.Options{})
	if err != nil {
		return nil, fmt.Errorf("ERROR: %w", err)
	}
	r.matcher = set.NewMatcher()
	return r, nil
}

// compileError is what is wrong with an expression, and where, in Python's words.
func compileError(err error) string {
	var e *regex.SyntaxError
	if !errors.As(err, &e) {
		return err.Error()
	}
	text := fmt.Sprintf("%s at position %d", e.Msg, utf8.RuneCountInString(e.Pattern[:min(e.Offset, len(e.Pattern))]))
	if e.Hint != "" {
		text += "; " + e.Hint
	}
	return text
}

// identifies says whether a rule has a group that names somebody.
func (r *rules) identifies(rule int) bool {
	return slices.ContainsFunc(r.names[rule], func(name string) bool {
		return slices.Contains([]string{"fid", "ip4", "ip6", "dns", "mlfid"}, name)
	})
}

// groups are the named groups of the match of a rule in text, as Python's groupdict gives them; alt_user and its like
// fill user where that is empty.
func (r *rules) groups(rule int, text []byte) *dict {
	d := newDict()
	var alts []string
	for g, name := range r.names[rule] {
		if name == "" {
			continue
		}
		if strings.HasPrefix(name, "alt_") {
			alts = append(alts, name)
		}
		from, to := r.matcher.Group(g)
		if from < 0 {
			d.put(name, nil)
			continue
		}
		d.put(name, string(text[from:to]))
	}
	slices.Sort(alts)
	for _, name := range alts {
		into := strings.TrimPrefix(name, "alt_")
		if head, n, ok := strings.Cut(into, "_"); ok && strings.Trim(n, "0123456789") == "" {
			into = head
		}
		if d.has(name) && !d.has(into) {
			d.put(into, d.values[name])
		}
	}
	return d
}

// found is one hit of a failregex.
type found struct {
	rule  int
	id    string
	known bool // there is an id
	at    time.Time
	fail  *dict
	again bool // others fitted the line before
	label bool // at is an int to Python
}

// line says what failregexes make of a line. at is the time of a line that carries none, zero otherwise.
func (t *trial) line(text string, at time.Time) []found {
	t.ignored = false
	line, at := t.split(text, at)
	return t.find(line, at)
}

// split takes the date out of a line.
func (t *trial) split(text string, at time.Time) (tuple, time.Time) {
	if !at.IsZero() {
		t.lastDate, t.lastText = at, journalTime(at)
		return tuple{"", t.lastText, text}, at
	}
	when, from, to, ok := t.dates.Find([]byte(text))
	missing := t.undated // the line of the datepattern that lets the date be missing
	if pattern, blank := t.dates.Blank(); blank {
		missing = pattern
	}
	if !ok && missing >= 0 {
		t.table.hit(missing, 0, "")
	}
	switch {
	case ok:
		pattern, stock := t.dates.Matched()
		t.label = t.table.hit(pattern, stock, text[:from])
		t.lastDate, t.lastText = when, text[from:to]
		return tuple{text[:from], text[from:to], text[to:]}, when
	case !t.lastDate.IsZero() && t.lastDate.After(t.now().Add(-time.Minute)):
		return tuple{"", t.lastText, text}, t.lastDate
	case missing >= 0:
		return tuple{"", "", text}, t.now()
	}
	return tuple{text[:from], text[from:to], text[to:]}, time.Time{}
}

func joined(lines []tuple) []byte {
	var b bytes.Buffer
	for i, l := range lines {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(l[0])
		b.WriteString(l[2])
	}
	return b.Bytes()
}

func (t *trial) find(line tuple, at time.Time) (all []found) {
	t.buffer = append(t.buffer, line)
	if n := len(t.buffer) - t.maxLines; n > 0 {
		t.buffer = t.buffer[n:]
	}
	org := t.buffer
	text := joined(org)
	if t.ignore != nil && len(t.ignore.texts) < len(t.fail.texts)-2 && t.ignores(text, nil) {
		return nil
	}
	var pre *dict
	if t.prefix != nil {
		t.preMatched = t.prefix.matcher.Match(text) >= 0
		if !t.preMatched {
			return nil
		}
		pre = t.prefix.groups(0, text)
		t.preGroups = pre.clone()
		content, _ := pre.text("content")
		pre.pop("content")
		if content != "" {
			t.buffer = []tuple{{"", "", content}}
			text = []byte(content)
		}
	}
	for rule := t.fail.matcher.MatchFrom(text, 0); rule >= 0; rule = t.fail.matcher.MatchFrom(text, rule+1) {
		taken, left := t.taken(rule, text, org)
		fail := t.fail.groups(rule, text)
		if t.ignore != nil && t.ignores(text, taken) {
			if t.maxLines > 1 {
				t.buffer = left
			}
			if t.first {
				break
			}
			text = joined(t.buffer)
			continue
		}
		if t.first || t.maxLines > 1 {
			t.buffer = left
			text = joined(left)
		}
		hits, stop := t.judge(rule, fail, pre, taken, at)
		all = append(all, hits...)
		if stop || t.first || len(text) == 0 && t.maxLines > 1 {
			break
		}
	}
	return all
}

// ignores asks the ignoreregexes and counts those that fit. taken are the lines of a match, nil before one.
func (t *trial) ignores(text []byte, taken []tuple) bool {
	if taken != nil && t.maxLines > 1 {
		text = joined(taken)
	}
	hit := false
	m := t.ignore.matcher
	for rule := m.MatchFrom(text, 0); rule >= 0; rule = m.MatchFrom(text, rule+1) {
		hit, t.ignored = true, true
		t.ignoreHits[rule]++
		if t.first {
			break
		}
	}
	return hit
}

// taken divides lines into those that the match in text took and the others; what <SKIPLINES> skipped is not taken.
func (t *trial) taken(rule int, text []byte, lines []tuple) (taken, left []tuple) {
	if len(lines) <= 1 {
		return lines, nil
	}
	from, to := t.fail.matcher.Group(0)
	body := append(slices.Clone(text), '\n')
	first := bytes.Count(body[:min(from, len(body))], []byte{'\n'})
	if from < len(body) && body[from] == '\n' {
		first++ // a match that begins with the end of a line does not touch that line
	}
	end := len(body)
	if i := bytes.IndexByte(body[max(0, to-1):], '\n'); i >= 0 {
		end = max(0, to-1) + i + 1
	}
	last := min(bytes.Count(body[:end], []byte{'\n'}), len(lines))
	first = min(first, last)
	taken, left = slices.Clone(lines[first:last]), slices.Clone(lines[:first])
	for _, skipped := range t.skipped(rule, text) {
		if i := slices.IndexFunc(taken, func(l tuple) bool { return l.text() == skipped }); i >= 0 {
			left = append(left, taken[i])
			taken = slices.Delete(taken, i, i+1)
		}
	}
	return taken, append(left, lines[last:]...)
}

func (t *trial) skipped(rule int, text []byte) (all []string) {
	for g, name := range t.fail.names[rule] {
		if !strings.HasPrefix(name, "skiplines") {
			continue
		}
		if from, to := t.fail.matcher.Group(g); to > from {
			all = append(all, strings.Split(strings.TrimSuffix(string(text[from:to]), "\n"), "\n")...)
		}
	}
	return all
}

// judge makes failures of the groups of a match. stop says that fail2ban looks no further.
func (t *trial) judge(rule int, fail, pre *dict, taken []tuple, at time.Time) (hits []found, stop bool) {
	if pre != nil && len(pre.keys) > 0 {
		all := pre.clone()
		all.update(fail, false)
		fail = all
	}
	session, inSession := fail.text("mlfid")
	if inSession {
		fail = t.merge(session, fail, taken)
		if fail.has("nofail") && t.first {
			return nil, true
		}
	} else {
		fail.put("matches", append(slices.Clone(fail.lines("matches")), taken...))
	}
	ids, pending := t.identify(fail)
	if pending {
		fail.put("mlfpending", true)
		if t.first && t.skipPending {
			return nil, true
		}
	}
	if !t.first && inSession {
		fail = fail.clone()
	}
	for _, id := range ids {
		hits = append(hits, found{rule: rule, id: id, known: !pending, at: at, fail: fail, label: t.label})
	}
	return hits, false
}

// identify is whom a failure blames. pending says that no line has named anybody yet.
func (t *trial) identify(fail *dict) (ids []string, pending bool) {
	fid, hasID := fail.text("fid")
	ip, ok := fail.text("ip4")
	if !ok {
		ip, ok = fail.text("ip6")
	}
	cidr, _ := fail.text("cidr")
	if !ok {
		name, named := fail.text("dns")
		switch {
		case named && t.raw:
			ip, ok = name, true
		case named:
			return t.resolve(name), false
		case hasID:
			ip, ok = fid, true
		default:
			return []string{""}, true
		}
		cidr = ""
	}
	if hasID && fid != ip {
		fail.put("ip", address(ip, cidr))
		if t.raw {
			return []string{fid}, false
		}
		return []string{address(fid, "")}, false
	}
	return []string{address(ip, cidr)}, false
}

// resolve is what usedns makes of a host name.
func (t *trial) resolve(name string) []string {
	if a, err := netip.ParseAddr(name); err == nil {
		return []string{a.Unmap().String()}
	}
	if t.usedns == "no" || t.usedns == "raw" {
		return nil
	}
	return t.lookUp(name)
}

// address is the text of an address or network in its one form; what is none stays as it is.
func address(text, bits string) string {
	if bits == "" {
		text, bits, _ = strings.Cut(text, "/")
		if bits != "" {
			text, bits = text+"/"+bits, ""
			if p, err := netip.ParsePrefix(text); err == nil {
				return prefixText(p)
			}
			return text
		}
	}
	a, err := netip.ParseAddr(strings.Trim(text, "[]"))
	if err != nil || a.Zone() != "" {
		return text
	}
	a = a.Unmap()
	n, err := strconv.Atoi(bits)
	if err != nil || n > a.BitLen() {
		n = a.BitLen()
	}
	return prefixText(netip.PrefixFrom(a, n))
}

func prefixText(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.Masked().String()
}

// merge brings together what the lines of a session told, with fail2ban's rules: F-NOFAIL, F-MLFFORGET, F-MLFGAINED.
func (t *trial) merge(session string, fail *dict, taken []tuple) *dict {
	var nofail, forget, had, gained bool
	if gained = fail.has("mlfgained"); gained {
		nofail = true
		if !fail.has("nofail") {
			fail.put("nofail", fail.values["mlfgained"])
		}
	} else {
		nofail = fail.has("nofail")
	}
	forget = fail.pop("mlfforget")
	var users set
	user, _ := fail.text("user")
	if known := t.sessions[session]; known != nil {
		users = addUser(known, user)
		had = known.pop("nofail")
		had = known.pop("mlfgained") || had
		if gained {
			known.pop("mlfpending")
		}
		if !had && !known.has("mlfpending") {
			known.pop("matches")
		}
		known.update(fail, true)
		fail = known
		if forget {
			t.forget(session)
		}
	} else if !forget {
		users = addUser(fail, user)
		t.remember(session, fail)
	}
	if fail.pop("mlfpending") || len(users) > 1 {
		fail.pop("nofail")
		fail.pop("mlfgained")
		nofail, gained = false, false
	}
	switch {
	case !nofail:
		m := slices.Clone(fail.lines("nofail-matches"))
		fail.pop("nofail-matches")
		m = append(m, fail.lines("matches")...)
		if !gained {
			m = append(m, taken...)
		}
		fail.put("matches", m)
	case !forget:
		fail.put("nofail-matches", append(slices.Clone(fail.lines("nofail-matches")), taken...))
	}
	return fail
}

// addUser adds a user to those that the session tried.
func addUser(d *dict, user string) set {
	users, _ := d.values["users"].(set)
	if user == "" {
		return users
	}
	if !slices.Contains(users, user) {
		users = append(slices.Clone(users), user)
	}
	d.put("users", users)
	return users
}

func (t *trial) remember(session string, fail *dict) {
	for len(t.order) >= maxSessions {
		delete(t.sessions, t.order[0])
		t.order = t.order[1:]
	}
	t.sessions[session] = fail
	t.order = append(t.order, session)
}

func (t *trial) forget(session string) {
	delete(t.sessions, session)
	t.order = slices.DeleteFunc(t.order, func(s string) bool { return s == session })
}

// shorten cuts a text to 53 characters, as fail2ban-regex shows it.
func shorten(s string) string {
	const most = 53
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:most-3]) + "..."
}
