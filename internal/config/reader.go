package config

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"sort"
	"strings"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2/unstable"
)

// maxSyntaxErrors bounds how often reading begins again behind a syntax error. Each time costs at most one pass over the
// rest of the file.
const maxSyntaxErrors = 20

// reader turns a document into a Config. It goes on after each mistake.
type reader struct {
	config   *Config
	data     []byte
	lines    []int // where each line begins
	errs     Errors
	singles  map[string]*section // the tables that stand once, by their name
	jails    []*section
	lists    []*section
	nodes    []*section
	remotes  []*section
	rules    []*section
	contacts []*section
	full     map[string]bool // the kinds of which it is told that there are too many
	current  *section        // the table that the next keys belong to; nil: one we do not know, whose keys are passed over
}

// section is a table of the document on its way into the Config.
type section struct {
	table  string // as in Key.Table
	at     int    // where it begins
	target target
	seen   map[string]int // the keys it has, with the places of their values
	named  bool           // its [header] was met, so that a second one is a mistake
}

func newReader(name string, data []byte) *reader {
	r := &reader{
		config: &Config{File: name, where: map[string]Pos{}},
		data:   data,
		lines:  []int{0},
		full:   map[string]bool{},
	}
	for i, c := range data {
		if c == '\n' {
			r.lines = append(r.lines, i+1)
		}
	}
	whole := target{config: r.config}
	r.singles = map[string]*section{}
	for _, table := range []string{"", "guard", "fail2ban", "report", "watch", "mail", "web", "web.oidc", "retention"} {
		r.singles[table] = &section{table: table, target: whole, seen: map[string]int{}}
		r.defaults(table, whole)
	}
	r.current = r.singles[""]
	return r
}

// pos is the place of the byte at offset; -1 is the file as a whole.
func (r *reader) pos(offset int) Pos {
	p := Pos{File: r.config.File}
	if offset < 0 {
		return p
	}
	line := sort.SearchInts(r.lines, offset+1) - 1
	p.Line = line + 1
	p.Col = utf8.RuneCount(r.data[r.lines[line]:offset]) + 1
	return p
}

// fail notes a mistake at offset.
func (r *reader) fail(offset int, hint, format string, args ...any) {
	r.errs = append(r.errs, &Error{Pos: r.pos(offset), Msg: fmt.Sprintf(format, args...), Hint: hint})
}

// document reads every expression of the document. Behind a syntax error it begins again at the next line that looks like
// a key or a table, so that the mistakes further down are told too.
func (r *reader) document() {
	var p unstable.Parser
	base := 0
	if bytes.HasPrefix(r.data, []byte("\ufeff")) {
		base = len("\ufeff") // a mark that some editors put before UTF-8
	}
	for range maxSyntaxErrors {
		p.Reset(r.data[base:])
		for p.NextExpression() {
			r.expression(p.Expression(), base)
		}
		if p.Error() == nil {
			return
		}
		base = r.syntax(p.Error(), base)
		if base < 0 {
			return
		}
	}
}

func (r *reader) expression(n *unstable.Node, base int) {
	switch n.Kind {
	case unstable.Table, unstable.ArrayTable:
		path, at := keyPath(n.Key(), base)
		at = base + bytes.LastIndexByte(r.data[base:at], '\n') + 1 // a header has a line of its own
		at += bytes.IndexByte(r.data[at:], '[')
		r.header(path, at, n.Kind == unstable.ArrayTable)
	case unstable.KeyValue:
		path, at := keyPath(n.Key(), base)
		r.assign(r.current, path, at, r.value(n, base, 0))
	}
}

// header begins the table of a [path], or [[path]] if array.
func (r *reader) header(path []string, at int, array bool) {
	name := strings.Join(path, ".")
	switch {
	case several(name):
		if !array {
			r.fail(at, fmt.Sprintf("write [[%s]], with two brackets: there may be several", name), "[%s] is not a list of %ss", name, noun(name))
		}
		r.current = r.another(name, at)
	case (len(path) == 1 || name == "web.oidc") && name != "" && r.singles[name] != nil:
		if array {
			r.fail(at, fmt.Sprintf("write [%s], with one bracket: there is one", name), "[[%s]] is not a list", name)
		}
		r.current = r.single(name, at)
	default:
		r.current = nil
		r.fail(at, "the tables are [guard], [fail2ban], [[jail]], [[list]], [report], [watch], [[watch.node]], [[watch.remote]], [[rule]], [mail], [[contact]], [web], [web.oidc] and [retention]", "unknown table %q", clip(name))
	}
}

// single begins the table called name, which may have a header once.
func (r *reader) single(name string, at int) *section {
	s := r.singles[name]
	if s.named || len(s.seen) > 0 {
		r.fail(at, "put all its keys together", "[%s] stands twice, first in line %d", name, r.pos(s.at).Line)
	} else {
		s.at = at
	}
	s.named = true
	return s
}

// several says whether there may be more than one table of a name.
func several(table string) bool {
	switch table {
	case "jail", "list", "watch.node", "watch.remote", "rule", "contact":
		return true
	}
	return false
}

// noun is what one table of several is called in messages.
func noun(table string) string { return table[strings.LastIndexByte(table, '.')+1:] }

// another begins another table of several.
func (r *reader) another(table string, at int) *section {
	switch table {
	case "list":
		return r.newList(at)
	case "watch.node":
		return r.newNode(at)
	case "watch.remote":
		return r.newRemote(at)
	case "rule":
		return r.newRule(at)
	case "contact":
		return r.newContact(at)
	}
	return r.newJail(at)
}

// tooMany tells once that there are more than most of a table.
func (r *reader) tooMany(table string, at, n, most int) bool {
	if n < most {
		return false
	}
	if !r.full[table] {
		r.fail(at, "", "more than %d %ss", most, noun(table))
	}
	r.full[table] = true
	return true
}

// newList begins another list; nil if there are too many.
func (r *reader) newList(at int) *section {
	return r.begin("list", at, &r.lists, maxLists, target{list: &List{where: r.beginning(at)}})
}

// newNode begins another node to poll; nil if there are too many.
func (r *reader) newNode(at int) *section {
	return r.begin("watch.node", at, &r.nodes, maxNodes, target{node: &Node{where: r.beginning(at)}})
}

// newRemote begins another store that samples are written to; nil if there are too many.
func (r *reader) newRemote(at int) *section {
	return r.begin("watch.remote", at, &r.remotes, maxRemotes, target{remote: &Remote{where: r.beginning(at)}})
}

// newJail begins another jail; nil if there are too many.
func (r *reader) newJail(at int) *section {
	return r.begin("jail", at, &r.jails, maxJails, target{jail: &Jail{where: r.beginning(at)}})
}

// beginning are the places of a table that begins at offset.
func (r *reader) beginning(at int) map[string]Pos { return map[string]Pos{"": r.pos(at)} }

// begin adds a table with its defaults to the others of its kind; nil if there are most of them.
func (r *reader) begin(table string, at int, to *[]*section, most int, t target) *section {
	if r.tooMany(table, at, len(*to), most) {
		return nil
	}
	t.config = r.config
	s := &section{table: table, at: at, target: t, seen: map[string]int{}}
	*to = append(*to, s)
	r.defaults(table, t)
	return s
}

// assign gives the key at path, as seen from section s, its value.
func (r *reader) assign(s *section, path []string, at int, v value) {
	if s == nil {
		return
	}
	if s.table == "" && (several(path[0]) || path[0] != "" && r.singles[path[0]] != nil) {
		r.inline(path, at, v)
		return
	}
	name := strings.Join(path, ".")
	if s.table == "watch" && several("watch."+name) {
		r.tables("watch."+name, v)
		return
	}
	key := find(s.table, name)
	if key == nil || len(path) > 1 {
		r.fail(at, suggest(s.table, name), "unknown key %q", clip(name))
		return
	}
	if first, ok := s.seen[name]; ok {
		r.fail(at, "keep one of them", "%s stands twice, first in line %d", name, r.pos(first).Line)
		return
	}
	s.seen[name] = v.at
	s.target.mark(key, r.pos(v.at))
	key.set(&assignment{r, s.target, key}, v)
}

// inline reads tables that are written as values: guard.observe = true, guard = { observe = true }, jail = [{ ... }].
func (r *reader) inline(path []string, at int, v value) {
	table := path[0]
	switch {
	case !several(table) && len(path) > 1:
		s := r.singles[table]
		if len(s.seen) == 0 && !s.named {
			s.at = at
		}
		r.assign(s, path[1:], at, v)
	case !several(table) && v.kind == inlineTable:
		r.fields(r.single(table, at), v)
	case several(table) && len(path) == 1 && v.kind == list:
		r.tables(table, v)
	default:
		r.fail(at, "write its keys "+place(table), "%s is a table, not %s", table, v.kind)
	}
}

// tables reads a list of tables that are written as values.
func (r *reader) tables(table string, v value) {
	if v.kind != list {
		r.fail(v.at, "write its keys "+place(table), "%s is a list of tables, not %s", noun(table), v.kind)
		return
	}
	for _, item := range v.items {
		if item.kind != inlineTable {
			r.fail(item.at, fmt.Sprintf("write each %s under its own [[%s]]", noun(table), table), "a %s is a table, not %s", noun(table), item.kind)
			continue
		}
		r.fields(r.another(table, item.at), item)
	}
}

func (r *reader) fields(s *section, v value) {
	for _, f := range v.fields {
		r.assign(s, f.path, f.at, f.value)
	}
}

// syntax notes what the TOML parser stumbled over and answers where to begin again, or -1.
func (r *reader) syntax(err error, base int) int {
	at := base
	var pe *unstable.ParserError
	if errors.As(err, &pe) {
		// A highlight is a piece of the document, and cutting a slice keeps its capacity: the difference is the offset.
		if o := cap(r.data) - cap(pe.Highlight); base <= o && o <= len(r.data) {
			at = o
		}
	}
	start, end := r.lineAround(at)
	line := r.data[start:end]
	r.fail(at, syntaxHint(line), "not TOML: %v", err)

	if m := assignmentLine.FindSubmatch(line); m != nil && r.current != nil {
		r.current.seen[string(m[1])] = start // so that nobody complains that it is missing
	} else if strings.HasPrefix(strings.TrimSpace(string(line)), "[") && start >= base {
		r.current = nil // a header that cannot be read: its keys belong to nothing
	}
	if end == len(r.data) {
		return -1
	}
	next := expressionLine.FindIndex(r.data[end:])
	if next == nil {
		return -1
	}
	return end + next[0] + 1
}

// lineAround is where the line of the byte at offset begins and ends; its line end is not part of it.
func (r *reader) lineAround(offset int) (start, end int) {
	line := sort.SearchInts(r.lines, offset+1) - 1
	start, end = r.lines[line], len(r.data)
	if line+1 < len(r.lines) {
		end = r.lines[line+1] - 1
	}
	return start, end
}

var (
	assignmentLine = regexp.MustCompile(`^[ \t]*([A-Za-z0-9_-]+)[ \t]*=[ \t]*(.*?)\s*$`)
	expressionLine = regexp.MustCompile(`\n[ \t]*(?:[A-Za-z0-9_.-]+[ \t]*=|\[\[?[ \t]*[A-Za-z])`)
	bareWord       = regexp.MustCompile(`^[^\s"'\[\]{},#=]+$`)
)

// syntaxHint guesses what was meant by a line that is not TOML.
func syntaxHint(line []byte) string {
	m := assignmentLine.FindSubmatch(line)
	switch {
	case m == nil:
		return ""
	case len(m[2]) == 0:
		return fmt.Sprintf("write a value, or drop the line: then %s has its default", m[1])
	case bytes.EqualFold(m[2], []byte("true")), bytes.EqualFold(m[2], []byte("false")):
		return fmt.Sprintf("in small letters: %s = %s", m[1], bytes.ToLower(m[2]))
	case bareWord.Match(m[2]):
		return fmt.Sprintf("text stands between quotes: %s = %q", m[1], clip(string(m[2])))
	case strings.Count(string(m[2]), `"`)%2 == 1:
		return "a quote is missing"
	}
	return ""
}

// keyPath is a dotted key and where it begins.
func keyPath(it unstable.Iterator, base int) (path []string, at int) {
	for it.Next() {
		if len(path) == 0 {
			at = base + int(it.Node().Raw.Offset)
		}
		path = append(path, string(it.Node().Data))
	}
	return path, at
}

// finish does what needs a whole jail or a whole file.
func (r *reader) finish() {
	r.checkFail2ban()
	if len(r.jails) == 0 && r.config.Fail2ban.Dir == "" {
		s := r.newJail(-1)
		s.seen["name"] = -1
		s.target.jail.Name = "sshd"
	}
	first := map[string]*section{}
	for _, s := range r.jails {
		r.checkName(s, first, "bans are kept by the name of their jail: give it another one")
		r.checkTimes(s)
		if j := s.target.jail; j.Filter == "" {
			j.Filter = j.Name
		}
		r.config.Jails = append(r.config.Jails, *s.target.jail)
	}
	clear(first)
	for _, s := range r.lists {
		r.checkName(s, first, "a list is known by its name: give it another one")
		if _, ok := s.seen["url"]; !ok {
			r.fail(s.at, `write it like url = "abuseipdb:"`, "list without a url")
		}
		r.config.Lists = append(r.config.Lists, *s.target.list)
	}
	r.finishWatch()
	r.finishRules()
	r.finishContacts()
	r.finishWeb()
}

// checkFail2ban compares its times with how long things are kept, as checkTimes does for a jail.
func (r *reader) checkFail2ban() {
	f, kept := &r.config.Fail2ban, r.config.Retention.Logins
	if at, ok := r.singles["fail2ban"].seen["known_for"]; !ok {
		f.KnownFor = min(f.KnownFor, kept)
	} else if f.KnownFor > kept {
		r.fail(at, fmt.Sprintf("keep them longer: logins = %q under [retention]", FormatDuration(f.KnownFor)),
			"known_for %q is longer than logins are kept, %q", FormatDuration(f.KnownFor), FormatDuration(kept))
	}
}

// checkName wants a name that no table of the kind before has; first collects them.
func (r *reader) checkName(s *section, first map[string]*section, why string) {
	at, ok := s.seen["name"]
	if !ok {
		r.fail(s.at, `write it like name = `+find(s.table, "name").Example, "%s without a name", noun(s.table))
		return
	}
	name := s.target.name()
	if before := first[name]; before != nil && name != "" {
		r.fail(at, why, "a second %s %q, the first is in line %d", noun(s.table), name, r.pos(before.seen["name"]).Line)
		return
	}
	first[name] = s
}

// checkTimes compares the times of a jail with each other and with how long things are kept. A default that does not fit
// what the file says follows it; only what the file says itself can be a mistake.
func (r *reader) checkTimes(s *section) {
	j, kept := s.target.jail, r.config.Retention
	if at, ok := s.seen["bantime_max"]; !ok {
		j.BanMax = max(j.BanMax, j.BanTime)
	} else if j.BanMax < j.BanTime {
		r.fail(at, "no ban may be longer than bantime_max",
			"bantime_max %q is shorter than bantime %q", FormatDuration(j.BanMax), FormatDuration(j.BanTime))
	}
	if at, ok := s.seen["bantime_memory"]; !ok {
		j.BanMemory = min(j.BanMemory, kept.Bans)
	} else if j.BanMemory > kept.Bans {
		r.fail(at, fmt.Sprintf("keep them longer: bans = %q under [retention]", FormatDuration(j.BanMemory)),
			"bantime_memory %q is longer than bans are kept, %q", FormatDuration(j.BanMemory), FormatDuration(kept.Bans))
	}
	if at, ok := s.seen["known_for"]; !ok {
		j.KnownFor = min(j.KnownFor, kept.Logins)
	} else if j.KnownFor > kept.Logins {
		r.fail(at, fmt.Sprintf("keep them longer: logins = %q under [retention]", FormatDuration(j.KnownFor)),
			"known_for %q is longer than logins are kept, %q", FormatDuration(j.KnownFor), FormatDuration(kept.Logins))
	}
}
