package fail2ban

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// A place is where in a shell script something stands: what may be put there without becoming a part of the script.
type place int

const (
	inCommand   place = iota // outside of quotes; in $(..) and (..) as well
	inBackticks              // the same, inside `..`
	inDouble                 // "..."
	inSingle                 // '...'
	inBraces                 // ${...}
	inSum                    // $((...))
	inDocument               // the lines of a here-document
	inLiteral                // those of a here-document whose word is quoted: nothing is expanded
)

// frame is one thing that was begun and is not at its end yet.
type frame struct {
	kind  place
	depth int // inSum: brackets that are open

	// inCommand, inBackticks: the simple command that is being read
	word     []byte // so far, without its quotes; not more than maxWord of it
	started  bool   // the word has begun, if only with a quote
	command  string // its first word; "" if that was not there yet
	runs     bool   // that word runs another command: sudo, xargs
	code     string // the program that takes its arguments for a program; "" if it is not such a one
	redirect bool   // the next word is a file
	docs     []frame

	// inDocument, inLiteral
	end  string // the line that ends it
	tabs bool   // tabs before that line do not count; code is that of the command that reads it
}

// quoter copies a command and puts values in the place of tags. It knows as much of the shell's language as it needs to
// tell what the next character is inside of, in dash and in bash. Where the two differ, or where it gets too involved,
// it stops pretending to know: unsure is set, and only plain words are put in from there on.
type quoter struct {
	text   string
	i      int
	values Values
	mail   bool

	stack   []frame
	unsure  string   // why the place is not known, "" if it is
	ends    []string // of the here-documents that were met
	out     strings.Builder
	args    []string
	vars    []string
	names   map[string]string // variable by tag
	problem string
}

func (q *quoter) top() *frame { return &q.stack[len(q.stack)-1] }

// maxWord is how much of a word is looked at. No program has a longer name; one that seems to is not trusted.
const maxWord = 256

// add makes the word of a command longer.
func (f *frame) add(s string) {
	f.started = true
	f.word = append(f.word, s[:min(len(s), maxWord-len(f.word))]...)
}

func (q *quoter) push(f frame) { q.stack = append(q.stack, f) }

// pop goes back to what the innermost thing stands in. The bottom stays.
func (q *quoter) pop() {
	if len(q.stack) > 1 {
		if len(q.top().docs) > 0 {
			q.doubt("a here-document that begins inside brackets")
		}
		q.stack = q.stack[:len(q.stack)-1]
	}
}

func (q *quoter) doubt(why string) {
	if q.unsure == "" {
		q.unsure = why
	}
}

// simple is the simple command in which the place is.
func (q *quoter) simple() *frame {
	for i := len(q.stack) - 1; i > 0; i-- {
		if k := q.stack[i].kind; k == inCommand || k == inBackticks {
			return &q.stack[i]
		}
	}
	return &q.stack[0]
}

func (q *quoter) within(kind place) bool {
	return slices.ContainsFunc(q.stack, func(f frame) bool { return f.kind == kind })
}

// copy takes the next n characters as they are.
func (q *quoter) copy(n int) {
	n = min(n, len(q.text)-q.i)
	q.out.WriteString(q.text[q.i : q.i+n])
	q.i += n
}

func (q *quoter) next(s string) bool { return strings.HasPrefix(q.text[q.i:], s) }

// step takes one character, or a few that belong together.
func (q *quoter) step() {
	if len(q.stack) > 100 {
		q.problem = "quotes and brackets more than 100 levels deep"
		return
	}
	if q.endOfDocument() {
		return
	}
	if name, n := q.tag(q.i); n > 0 {
		q.i += n
		q.put(name, false)
		return
	}
	switch q.top().kind {
	case inCommand, inBackticks:
		q.stepCommand()
	case inDouble, inDocument:
		q.stepDouble()
	case inSingle:
		if q.next("'") {
			q.pop()
		}
		q.inBackticksToo()
		q.letter()
	case inBraces:
		q.stepBraces()
	case inSum:
		q.stepSum()
	case inLiteral:
		q.copy(1)
	}
}

// letter takes one character that is part of a word.
func (q *quoter) letter() {
	f := q.simple()
	f.started = true
	if c := q.text[q.i]; c != '\'' && c != '"' {
		f.add(q.text[q.i : q.i+1])
	}
	q.copy(1)
}

// inBackticksToo looks out for a backtick inside quotes inside backticks: it ends the outermost, quotes or not.
func (q *quoter) inBackticksToo() {
	if q.next("`") && q.within(inBackticks) {
		q.doubt("backticks inside backticks")
	}
}

// escape takes a backslash and what it protects.
func (q *quoter) escape() {
	if q.within(inBackticks) && q.i+1 < len(q.text) && strings.IndexByte("`\"$\\'", q.text[q.i+1]) >= 0 {
		q.doubt("a backslash inside backticks")
	}
	if name, n := q.tag(q.i + 1); n > 0 {
		q.copy(1)
		q.i += n
		q.put(name, true)
		return
	}
	f := q.simple()
	f.started = true
	if q.i+1 < len(q.text) && q.text[q.i+1] != '\n' {
		f.add(q.text[q.i+1 : q.i+2])
	}
	q.copy(2)
}

// dollar takes a dollar sign and the brackets behind it.
func (q *quoter) dollar() {
	q.simple().started = true
	switch {
	case q.next("$(("):
		q.push(frame{kind: inSum, depth: 2})
		q.copy(3)
	case q.next("$("):
		q.push(frame{kind: inCommand})
		q.copy(2)
	case q.next("${"):
		q.push(frame{kind: inBraces})
		q.copy(2)
	default:
		if q.next("$[") {
			q.doubt("$[..]")
		}
		if q.next("$'") && q.top().kind != inDouble && q.top().kind != inDocument {
			q.doubt("$'..'")
		}
		q.letter()
	}
}

// backtick opens or closes a command in backticks.
func (q *quoter) backtick() {
	switch {
	case q.top().kind == inBackticks:
		q.pop()
	case q.within(inBackticks):
		q.doubt("backticks inside backticks")
	default:
		q.simple().started = true
		q.push(frame{kind: inBackticks})
	}
	q.copy(1)
}

func (q *quoter) stepDouble() {
	switch q.text[q.i] {
	case '\\':
		q.escape()
	case '$':
		q.dollar()
	case '`':
		q.backtick()
	case '"':
		if q.top().kind == inDouble {
			q.pop()
		}
		q.letter()
	default:
		q.letter()
	}
}

func (q *quoter) stepBraces() {
	switch q.text[q.i] {
	case '\\':
		q.escape()
	case '$':
		q.dollar()
	case '`':
		q.backtick()
	case '\'', '"':
		q.doubt("quotes inside ${..}")
		q.copy(1)
	case '}':
		q.pop()
		q.copy(1)
	default:
		q.copy(1)
	}
}

func (q *quoter) stepSum() {
	switch f := q.top(); q.text[q.i] {
	case '\\', '\'', '"', '`':
		q.doubt("quotes inside $((..))")
		q.copy(1)
	case '$':
		q.dollar()
	case '(':
		f.depth++
		q.copy(1)
	case ')':
		if f.depth--; f.depth == 0 {
			q.pop()
		}
		q.copy(1)
	default:
		q.copy(1)
	}
}

func (q *quoter) stepCommand() {
	f := q.top()
	switch c := q.text[q.i]; c {
	case '\\':
		q.escape()
	case '\'':
		f.started = true
		q.push(frame{kind: inSingle})
		q.copy(1)
	case '"':
		f.started = true
		q.push(frame{kind: inDouble})
		q.copy(1)
	case '$':
		q.dollar()
	case '`':
		if f.kind == inBackticks {
			q.endCommand()
		}
		q.backtick()
	case ' ', '\t':
		q.endWord()
		q.copy(1)
	case '\n':
		q.newline()
	case ';', '&', '|':
		if c == '&' && q.i > 0 && (q.text[q.i-1] == '>' || q.text[q.i-1] == '<') { // 2>&1
			q.copy(1)
			return
		}
		q.endCommand()
		q.copy(1)
	case '(':
		if q.next("((") && f.command == "" {
			q.doubt("((..))")
		}
		if q.i > 0 && (q.text[q.i-1] == '<' || q.text[q.i-1] == '>') { // <(..) is an argument
			f.redirect = false
		} else {
			q.endCommand()
		}
		q.push(frame{kind: inCommand})
		q.copy(1)
	case ')':
		q.endCommand()
		if f.kind == inCommand {
			q.pop()
		}
		q.copy(1)
	case '<', '>':
		q.redirection()
	case '#':
		if f.started {
			q.letter()
			return
		}
		q.comment()
	default:
		q.letter()
	}
}

func (q *quoter) newline() {
	q.endCommand()
	q.copy(1)
	f := q.top()
	docs := f.docs
	f.docs = nil
	for _, doc := range slices.Backward(docs) {
		q.push(doc)
	}
}

// comment takes the rest of the line. A value in it is a variable that nobody reads.
func (q *quoter) comment() {
	for q.i < len(q.text) && q.text[q.i] != '\n' {
		if q.text[q.i] == '`' && q.within(inBackticks) {
			return
		}
		if _, n := q.tag(q.i); n > 0 {
			q.i += n
			continue
		}
		q.copy(1)
	}
}

// redirection takes < > << and <<<, and what a here-document is ended by.
func (q *quoter) redirection() {
	f := q.top()
	if strings.Trim(string(f.word), "0123456789") == "" {
		f.word, f.started = nil, false // 2>file: not a word
	}
	q.endWord()
	f.redirect = true
	if _, n := q.tag(q.i + 1); n > 0 || !q.next("<<") { // <<ip> is < and a tag
		q.copy(1)
		return
	}
	if _, n := q.tag(q.i + 2); n > 0 {
		q.problem = "a tag ends a here-document"
		return
	}
	if q.next("<<<") {
		q.copy(3)
		return
	}
	if q.within(inBackticks) {
		q.doubt("a here-document inside backticks")
	}
	doc := frame{kind: inDocument, tabs: q.next("<<-")}
	q.copy(2)
	if doc.tabs {
		q.copy(1)
	}
	for q.next(" ") || q.next("\t") {
		q.copy(1)
	}
	var end strings.Builder
	for q.i < len(q.text) && strings.IndexByte(" \t\n;&|<>()", q.text[q.i]) < 0 {
		switch c := q.text[q.i]; c {
		case '\'', '"', '\\':
			doc.kind = inLiteral
		case '$', '`':
			q.doubt("a here-document that does not end with a plain word")
		default:
			end.WriteByte(c)
		}
		q.copy(1)
	}
	if _, n := q.tag(q.i); n > 0 {
		q.problem = "a tag ends a here-document"
	}
	f.redirect, doc.end = false, end.String()
	f.docs = append(f.docs, doc)
	q.ends = append(q.ends, doc.end)
}

// endOfDocument takes the line that ends a here-document, if it stands here.
func (q *quoter) endOfDocument() bool {
	f := q.top()
	if f.kind != inDocument && f.kind != inLiteral || q.i > 0 && q.text[q.i-1] != '\n' {
		return false
	}
	line, _, _ := strings.Cut(q.text[q.i:], "\n")
	n := len(line)
	if f.tabs {
		line = strings.TrimLeft(line, "\t")
	}
	if line != f.end {
		return false
	}
	q.pop()
	q.copy(n + 1)
	return true
}

// keywords stand before a command and are none.
var keywords = []string{"if", "then", "else", "elif", "do", "while", "until", "!", "{", "}", "time", "fi", "done", "esac"}

// runners run the command that their arguments name.
var runners = []string{"sudo", "doas", "env", "nice", "ionice", "nohup", "timeout", "exec", "command", "builtin", "xargs", "setsid",
	"stdbuf", "chroot", "unshare", "nsenter", "busybox", "find", "parallel", "watch", "flock", "strace", "systemd-run", "runuser",
	"ip", "docker", "podman", "kubectl", "chpst", "setpriv", "script"}

// interpreters take an argument for a program, so that no quoting of the shell makes a value harmless in it.
var interpreters = []string{"eval", "sh", "bash", "dash", "ash", "ksh", "mksh", "zsh", "fish", "su", "ssh", "rsh", "awk", "gawk",
	"mawk", "nawk", "sed", "gsed", "perl", "ruby", "php", "lua", "node", "nodejs", "tclsh", "expect", "osascript", "mysql", "mariadb",
	"psql", "sqlite3", "ed", "ex", "vi", "vim", "make", "m4", "bc", "dc", "let", "declare", "typeset", "trap", "alias", "source",
	".", "[[", "unset", "read", "mapfile", "readarray", "getopts"}

// endWord takes note of a word: the first one that is no assignment is the command.
func (q *quoter) endWord() {
	f := q.top()
	word := string(f.word)
	started := f.started
	f.word, f.started = nil, false
	switch {
	case !started:
	case f.redirect:
		f.redirect = false
	case f.command == "" && (slices.Contains(keywords, word) || isAssignment(word)):
	case f.command == "" || f.runs:
		if word == "case" && len(q.stack) > 1 {
			q.doubt("case inside brackets")
		}
		name := word[strings.LastIndexByte(word, '/')+1:]
		f.command = cmp.Or(name, "?")
		f.runs = f.runs || slices.Contains(runners, name)
		if f.code == "" && (slices.Contains(interpreters, name) || strings.HasPrefix(name, "python")) {
			f.code = name
		}
		if f.code == "" && len(word) == maxWord {
			f.code = "a program with a long name"
		}
	case word == "-v" && slices.Contains([]string{"[", "test", "printf"}, f.command):
		f.code = f.command // bash takes what follows for a variable, and works out what is in its brackets
	}
}

func (q *quoter) endCommand() {
	q.endWord()
	f := q.top()
	for i := range f.docs {
		f.docs[i].code = cmp.Or(f.docs[i].code, f.code)
	}
	f.command, f.runs, f.code, f.redirect = "", false, "", false
}

// code is the program that would take a value for a part of a program: the one whose argument it is, or whose argument
// holds the command that the value is for.
func (q *quoter) code() string {
	for _, f := range q.stack {
		if f.code != "" {
			return f.code
		}
	}
	return ""
}

// isAssignment says whether a word is name=value.
func isAssignment(word string) bool {
	name, _, ok := strings.Cut(word, "=")
	return ok && name != "" && !isDigit(name[0]) && strings.Trim(name, "_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") == ""
}

// tag reads the tag of a value that starts at i; n is its length, 0 if there is none.
func (q *quoter) tag(i int) (name string, n int) {
	if i >= len(q.text) || q.text[i] != '<' {
		return "", 0
	}
	end := strings.IndexAny(q.text[i+1:], " <>")
	if end < 1 || q.text[i+1+end] != '>' {
		return "", 0
	}
	name = q.text[i+1 : i+1+end]
	_, given := q.values[name]
	_, known := dynamicTags[name]
	if !given && !known && !isGroupTag(name) {
		return "", 0
	}
	return name, end + 2
}

// isGroupTag says whether a tag is that of a named group of the filter: F-USER.
func isGroupTag(name string) bool {
	group, ok := strings.CutPrefix(name, "F-")
	return ok && group != "" && strings.Trim(group, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == ""
}

// put writes the value of a tag. escaped: a backslash stands before it.
func (q *quoter) put(tag string, escaped bool) {
	n := len(tag) + len("<>")
	value, ok := q.values[tag]
	if !ok {
		value = dynamicTags[tag]
	}
	value = argument(value, q.mail)
	kind, simple := q.top().kind, q.simple()
	first := (kind <= inSingle) && simple.command == "" && !simple.redirect && !isAssignment(string(simple.word))
	if value != "" {
		simple.add(value)
	}
	if kind != inSingle && kind != inLiteral && q.i > n && q.text[q.i-n-1] == '$' {
		q.problem = fmt.Sprintf("<%s> stands behind a dollar sign, where no value is safe", tag)
		return
	}
	if kind == inDocument && q.unsure == "" && !escaped && q.code() == "" {
		q.out.WriteString(q.variable(tag, value, true)) // always: no value may be the line that ends the document
		return
	}
	if why := q.only(kind, first, escaped); why != "" {
		if !isPlain(value) || kind == inSum && strings.Trim(value, "0123456789") != "" || escaped && value == "" || q.endsDocument(value) {
			q.problem = fmt.Sprintf("<%s> stands %s, where only a plain word is safe, and its value is none", tag, why)
			return
		}
		q.out.WriteString(value)
		return
	}
	bare := kind == inCommand || kind == inBackticks
	if !strings.ContainsAny(value, shellSpecial) && !(bare && strings.ContainsFunc(value, isSpaceOrControl)) {
		q.out.WriteString(value)
		return
	}
	switch {
	case bare:
		q.out.WriteString(`"` + q.variable(tag, value, false) + `"`)
	case kind == inSingle:
		q.out.WriteString(`'"` + q.variable(tag, value, false) + `"'`)
	default:
		q.out.WriteString(q.variable(tag, value, true))
	}
}

// only says in which place it is that no quoting makes safe; "" if a variable is safe here.
func (q *quoter) only(kind place, first, escaped bool) string {
	switch code := q.code(); {
	case q.unsure != "":
		return "behind " + q.unsure
	case code != "":
		return "in the arguments of " + code
	case escaped:
		return "behind a backslash"
	case kind == inSum:
		return "in $((..))"
	case kind == inBraces:
		return "in ${..}"
	case kind == inLiteral:
		return "in a here-document with a quoted end"
	case first:
		return "where a command is named"
	case q.simple().redirect:
		return "in the name of a file"
	}
	return ""
}

// variable is a reference to the variable that holds the value of a tag. text follows it: the name must not run on.
func (q *quoter) variable(tag, value string, text bool) string {
	name, ok := q.names[tag]
	if !ok {
		name = q.name(tag)
		q.names[tag] = name
		q.vars, q.args = append(q.vars, name), append(q.args, value)
	}
	if text && q.i < len(q.text) && (isExprWord(q.text[q.i]) || q.text[q.i] == '<') {
		return "${" + name + "}"
	}
	return "$" + name
}

// name makes the name of a variable: fail2ban's own, which users' commands may refer to.
func (q *quoter) name(tag string) string {
	if group, ok := strings.CutPrefix(tag, "F-"); ok && isGroupTag(tag) {
		tag = "F_" + groupName(group)
	}
	name := "f2bV_" + strings.Map(func(r rune) rune {
		if r < 0x80 && isExprWord(byte(r)) {
			return r
		}
		return '_'
	}, tag)
	for slices.Contains(q.vars, name) {
		name += "_"
	}
	return name
}

// groupName is the named group that F-GROUP stands for.
func groupName(group string) string {
	switch group = strings.ToLower(group); group {
	case "id", "port":
		return "f" + group
	}
	return group
}

// assignments gives the arguments of the script their names. $0 is the first of them.
func (q *quoter) assignments() string {
	var b strings.Builder
	for i, name := range q.vars {
		if i < 10 {
			fmt.Fprintf(&b, "%s=$%d ", name, i)
		} else {
			fmt.Fprintf(&b, "%s=${%d} ", name, i)
		}
	}
	return b.String()
}

// isPlain says whether a value is one word that means itself in every language: letters, digits, _ . : - or an address.
func isPlain(value string) bool {
	if strings.Trim(value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.:-") == "" {
		return true
	}
	p, err := netip.ParsePrefix(value)
	return err == nil && p.Addr().Zone() == ""
}

// endsDocument says whether a value could be the line that ends a here-document, or a part of it.
func (q *quoter) endsDocument(value string) bool {
	return value != "" && slices.ContainsFunc(q.ends, func(end string) bool { return strings.Contains(end, value) })
}

func isSpaceOrControl(r rune) bool { return r <= ' ' || r == 0x7f }
