package fail2ban

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// command is one of the commands that fail2ban's client sends to its server to set up a jail: an option and its value.
type command struct {
	opt string
	v   value // with the places of its lines
	arg any   // what is sent if that is not v's text: an int, a bool, or nothing for a value that will not convert
	raw bool  // whether arg is to be sent
}

// commands is the list of them, in fail2ban's order. What a filter says comes first, then what its jail says in its place;
// fail2ban puts some to the front of the list, so that the order is worth keeping: the last one holds.
type commands struct {
	list []command
}

// add appends what opts say of the options of filters; typed holds the values that are no text.
func (c *commands) add(opts *dict, typed map[string]any) {
	front := 0
	for _, name := range opts.keys {
		v := opts.m[name]
		arg, raw := typed[name]
		if v == nil || raw && arg == nil {
			continue
		}
		switch name {
		case "failregex", "ignoreregex":
			if lines := filled(v); len(lines) > 0 {
				c.list = append(c.list, command{opt: name, v: lines})
			}
		case "usedns", "prefregex", "maxlines":
			at := front
			if name == "usedns" {
				at = 0
			}
			c.list = slices.Insert(c.list, at, command{name, v, arg, raw})
			front++
		case "datepattern":
			c.list = append(c.list, command{opt: name, v: v})
		case "journalmatch":
			for _, l := range filled(v) {
				c.list = append(c.list, command{opt: name, v: value{l}})
			}
		}
	}
}

// filled are the lines of v that are not empty.
func filled(v value) value {
	return slices.DeleteFunc(slices.Clone(v), func(l line) bool { return l.text == "" })
}

// words is the command as fail2ban-client -d prints it.
func (c command) words(jail string) []any {
	switch c.opt {
	case "failregex", "ignoreregex":
		if len(c.v) == 1 {
			return []any{"set", jail, "add" + c.opt, c.v[0].text}
		}
		var list []any
		for _, l := range c.v {
			list = append(list, l.text)
		}
		return []any{"multi-set", jail, "add" + c.opt, list}
	case "journalmatch":
		return appendTexts([]any{"set", jail, "addjournalmatch"}, JournalTerms(c.v.String()))
	case "ignoreip":
		return appendTexts([]any{"set", jail, "addignoreip"}, splitWords(c.v.String()))
	}
	if c.raw {
		return []any{"set", jail, c.opt, c.arg}
	}
	return []any{"set", jail, c.opt, c.v.String()}
}

func appendTexts(list []any, texts []string) []any {
	for _, t := range texts {
		list = append(list, t)
	}
	return list
}

// Stream is what fail2ban-client -d prints, one command each: texts, ints, bools, nil, lists of them ([]any) and
// dictionaries (map[string]any). Log files are looked for now.
//
// A jail that cannot run is one command, "config-error"; its text is in our words where fail2ban would have said nothing
// but the name of a Python exception, or would not have started at all.
func (c *Config) Stream() [][]any {
	stream := slices.Clone(c.main)
	for _, j := range c.Jails {
		stream = append(stream, j.stream(c.glob)...)
	}
	for _, j := range c.Jails {
		if j.Err == nil {
			stream = append(stream, []any{"start", j.Name})
		}
	}
	return stream
}

func (j *Jail) stream(glob func(string) ([]string, error)) [][]any {
	if j.Err != nil {
		return [][]any{{"config-error", fmt.Sprintf("Jail '%s' skipped, because of wrong configuration: %s", j.Name, j.reason())}}
	}
	stream := [][]any{{"add", j.Name, j.backend}}
	for _, cmd := range j.commands.list {
		stream = append(stream, cmd.words(j.Name))
	}
	for _, l := range j.Logpaths {
		place := "head"
		if l.place != "" {
			place = l.place
		}
		found, _ := glob(l.Pattern) // a bad pattern finds nothing
		for _, file := range found {
			stream = append(stream, []any{"set", j.Name, "addlogpath", file, place})
		}
	}
	for _, a := range j.Actions {
		stream = append(stream, a.stream(j.Name)...)
	}
	return stream
}

// reason is why the jail cannot run, on one line.
func (j *Jail) reason() string {
	if j.skipped != "" {
		return j.skipped
	}
	text, _, _ := strings.Cut(j.Err.Error(), "\n")
	return text
}

func (a *Action) stream(jail string) [][]any {
	if a.Python {
		return [][]any{{"set", jail, "addaction", a.named, a.Files[0], a.json()}}
	}
	stream := [][]any{{"set", jail, "addaction", a.named}}
	var multi []any
	for _, o := range a.Options {
		var v any = o.Value
		if slices.Contains(actionBools, o.Name) {
			v = asBool(o.Value)
		}
		multi = append(multi, []any{o.Name, v})
	}
	switch len(multi) {
	case 0:
		return stream
	case 1:
		return append(stream, append([]any{"set", jail, "action", a.named}, multi[0].([]any)...))
	}
	return append(stream, []any{"multi-set", jail, "action", a.named, multi})
}

// splitWords splits a list at blanks, commas and line ends.
func splitWords(s string) []string {
	words := strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == ',' || r == '\n' })
	var out []string
	for _, w := range words {
		if w = strings.TrimSpace(w); w != "" {
			out = append(out, w)
		}
	}
	return out
}

// JournalTerms splits a line of journalmatch into its terms as a shell splits words, quotes and backslashes taken away.
func JournalTerms(match string) []string {
	words, _ := shellWords(match)
	return words
}

// shellWords splits s as a shell does. A quote that is not closed ends with s, and closed is false.
func shellWords(s string) (words []string, closed bool) {
	var word strings.Builder
	in, open := false, byte(0) // inside a word; the quote that is open
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '\\' && open != '\'' && i+1 < len(s) && (open == 0 || s[i+1] == '"' || s[i+1] == '\\'):
			i++
			word.WriteByte(s[i])
			in = true
		case open != 0 && c == open:
			open = 0
		case open == 0 && (c == '"' || c == '\''):
			open, in = c, true
		case open == 0 && strings.IndexByte(" \t\r\n", c) >= 0:
			if in {
				words = append(words, word.String())
			}
			word.Reset()
			in = false
		default:
			word.WriteByte(c)
			in = true
		}
	}
	if in {
		words = append(words, word.String())
	}
	return words, open == 0
}

// globFiles is filepath.Glob for patterns of Python's glob: [!a] is "not a", a backslash is one, a bracket that nothing
// closes is one, and "*" finds no hidden file.
func globFiles(pattern string) ([]string, error) {
	files, err := filepath.Glob(GoPattern(pattern))
	return slices.DeleteFunc(files, func(f string) bool {
		return strings.HasPrefix(filepath.Base(f), ".") && !strings.HasPrefix(filepath.Base(pattern), ".")
	}), err
}

// GoPattern writes a pattern of logpath, which is one of Python's glob, as one of filepath.Match.
func GoPattern(pattern string) string {
	var b strings.Builder
	for i := 0; i < len(pattern); i++ {
		switch c := pattern[i]; c {
		case '\\':
			b.WriteString(`\\`)
		case '[':
			end := closing(pattern, i)
			if end < 0 {
				b.WriteString(`\[`)
				continue
			}
			b.WriteString("[" + goClass(pattern[i+1:end]) + "]")
			i = end
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// closing finds the bracket that ends the class which begins at i; one right at its start belongs to it.
func closing(pattern string, i int) int {
	j := i + 1
	if j < len(pattern) && pattern[j] == '!' {
		j++
	}
	if j < len(pattern) && pattern[j] == ']' {
		j++
	}
	if j > len(pattern) {
		return -1
	}
	if end := strings.IndexByte(pattern[j:], ']'); end >= 0 {
		return j + end
	}
	return -1
}

// goClass writes what stands in the brackets of a pattern of Python's as filepath.Match wants it, where every character
// may have a backslash before it.
func goClass(class string) string {
	var b strings.Builder
	if rest, not := strings.CutPrefix(class, "!"); not {
		class = rest
		b.WriteByte('^')
	}
	write := func(c rune) {
		if strings.ContainsRune(`\]^-`, c) {
			b.WriteByte('\\')
		}
		b.WriteRune(c)
	}
	chars := []rune(class)
	for i := 0; i < len(chars); i++ {
		write(chars[i])
		if i+2 < len(chars) && chars[i+1] == '-' {
			b.WriteByte('-')
			write(chars[i+2])
			i += 2
		}
	}
	return b.String()
}
