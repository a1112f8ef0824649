package fail2ban

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// options are the keys of one section, lower-cased as ConfigParser does, with what stands behind them.
type options map[string]value

// file is one parsed file: its sections in the order of the text, and [DEFAULT] apart.
type file struct {
	name     string
	order    []string
	sections map[string]options
	keys     map[string][]string // of each section, in the order of the text
	heads    map[string]Pos      // where each section begins
	defaults options
}

// parseINI reads one file in the dialect of Python's ConfigParser as fail2ban sets it up:
//
//   - keys end at the first "=" or ":", and are lower-cased; a value may be empty, a missing "=" is a mistake;
//   - a line indented deeper than its key continues the value; blank lines inside a value belong to it;
//   - "#" and ";" begin a comment at the start of a line, only " ;" does so behind a value;
//   - a section or a key given twice in one file is a mistake;
//   - so is a line that is not UTF-8, unless it is a comment. A byte order mark is passed over.
//
// All mistakes of the file are told; the returned file then holds what could be read, of a key given twice the first.
func parseINI(name, text string) (*file, []*Error) {
	p := iniParser{file: file{name: name, sections: map[string]options{}, keys: map[string][]string{}, heads: map[string]Pos{}, defaults: options{}}}
	if len(text) > maxFileSize {
		p.fail(1, fmt.Sprintf("the file has %d bytes, more than %d", len(text), maxFileSize), "")
		return &p.file, p.errs
	}
	text = strings.TrimPrefix(text, "\uFEFF")
	text = strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\r", "\n")
	n := 0
	for l := range strings.Lines(text) {
		n++
		p.line(n, strings.TrimSuffix(l, "\n"))
	}
	p.endValue()
	return &p.file, p.errs
}

// iniParser holds the state between two lines of a file.
type iniParser struct {
	file
	errs    []*Error
	section string
	cur     options // of this section; nil before the first one
	into    options // where the value that may go on is kept: cur, or a place to forget it
	key     string  // the key of that value; "" if none
	indent  int     // of that key
}

func (p *iniParser) fail(n int, msg, hint string) {
	p.errs = append(p.errs, &Error{Pos: Pos{p.name, n}, Msg: msg, Hint: hint})
}

func (p *iniParser) line(n int, raw string) {
	text, commented := cutComment(raw)
	if text == "" {
		if !commented && p.key != "" { // a blank line inside a value belongs to it
			p.into[p.key] = append(p.into[p.key], line{"", Pos{p.name, n}})
		}
		return
	}
	if !utf8.ValidString(raw) {
		p.fail(n, "the line is not UTF-8", "save the file as UTF-8, or write the bytes as \\xNN in the expression")
		return
	}
	indent := strings.IndexFunc(raw, func(r rune) bool { return !unicode.IsSpace(r) })
	if p.key != "" && indent > p.indent {
		p.into[p.key] = append(p.into[p.key], line{text, Pos{p.name, n}})
		return
	}
	p.endValue()
	p.indent = indent
	if end := strings.LastIndexByte(text, ']'); text[0] == '[' && end > 1 {
		p.header(n, text[1:end])
		return
	}
	p.option(n, text)
}

// endValue drops the blank lines behind a value.
func (p *iniParser) endValue() {
	if p.key == "" {
		return
	}
	v := p.into[p.key]
	for len(v) > 1 && v[len(v)-1].text == "" {
		v = v[:len(v)-1]
	}
	p.into[p.key], p.key = v, ""
}

func (p *iniParser) header(n int, name string) {
	p.section = name
	if name == "DEFAULT" {
		p.cur = p.defaults
		return
	}
	if _, ok := p.sections[name]; ok {
		p.fail(n, fmt.Sprintf("section [%s] stands twice in this file", name), "put its keys together under one header")
		p.cur = p.sections[name]
		return
	}
	p.cur = options{}
	p.sections[name] = p.cur
	p.heads[name] = Pos{p.name, n}
	p.order = append(p.order, name)
}

func (p *iniParser) option(n int, text string) {
	i := strings.IndexAny(text, "=:")
	switch {
	case i < 0 && text[0] == '[' && !strings.HasSuffix(text, "]"):
		// What follows was meant for a section of its own: in the one before it would change another jail.
		p.fail(n, fmt.Sprintf("header %.40q is not closed", text), "end it with ]")
		p.section, p.cur = "", options{}
		return
	case p.cur == nil:
		p.fail(n, fmt.Sprintf("%.40q stands before the first section", text), "begin with a header such as [Definition]")
		return
	case i < 0:
		p.fail(n, fmt.Sprintf("%.40q is neither a header nor key = value", text), "indent a line that continues a value")
		return
	}
	key := strings.ToLower(strings.TrimSpace(text[:i]))
	if key == "" {
		p.fail(n, fmt.Sprintf("%.40q has no key before %q", text, text[i]), "")
		return
	}
	p.into = p.cur
	if _, ok := p.cur[key]; ok {
		p.fail(n, fmt.Sprintf("option %q stands twice in section [%s]", key, p.section),
			"keep one of them; to override a shipped value, write it in a .local file")
		p.into = options{}
	} else if p.section != "DEFAULT" {
		p.keys[p.section] = append(p.keys[p.section], key)
	}
	p.into[key] = value{{strings.TrimSpace(text[i+1:]), Pos{p.name, n}}}
	p.key = key
}

// cutComment strips a comment and the blanks around what is left; commented says whether there was one.
func cutComment(raw string) (text string, commented bool) {
	text = strings.TrimSpace(raw)
	if text == "" || text[0] == '#' || text[0] == ';' {
		return "", text != ""
	}
	space := true
	for i, r := range raw {
		if r == ';' && space {
			return strings.TrimSpace(raw[:i]), true
		}
		space = unicode.IsSpace(r)
	}
	return text, false
}
