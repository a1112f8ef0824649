package fail2ban

import (
	"fmt"
	"slices"
	"strings"
)

// tags replaces <name> in options by other options. The innermost goes first and a result is looked through again, so
// <mdre-<mode>> becomes <mdre-normal> and then that option's text. What nobody defines (<HOST>, <F-USER>) stays, but a
// name that was put together from an option is a mistake in that option: mode=agressive must not load and match nothing.
type tags struct {
	opts     options // every option of the filter, the caller's included
	skip     map[string]bool
	fallback func(name string) (value, error) // for section/option and known/option; nil value: not defined
	done     options
	busy     map[string]bool // being resolved: meeting one of them again is a loop
	replaced int
	size     int
}

// all resolves every option. An option with conditional forms (key?family=inet6) is left alone: which form holds is
// known only when the option is used.
func (t *tags) all() (options, error) {
	t.done, t.busy, t.skip = options{}, map[string]bool{}, map[string]bool{}
	for name := range t.opts {
		if plain, cond := cutCondition(name); cond != "" {
			t.skip[plain] = true
		}
	}
	out := options{}
	for name, v := range t.opts {
		if t.skip[name] {
			out[name] = v
			continue
		}
		v, err := t.option(name, v)
		if err != nil {
			return nil, err
		}
		out[name] = v
	}
	return out, nil
}

// option resolves the tags of one option, once.
func (t *tags) option(name string, v value) (value, error) {
	if done, ok := t.done[name]; ok {
		return done, nil
	}
	t.busy[name] = true
	defer delete(t.busy, name)
	var out value
	for _, l := range v {
		lines, err := t.line(l)
		if err != nil {
			return nil, err
		}
		out = append(out, lines...)
	}
	t.done[name] = out
	return out, nil
}

func (t *tags) line(l line) (value, error) {
	from, madeFrom, madeTo := 0, -1, -1 // what the last replacement made
	for {
		start, end := innermost(l.text, from)
		if start < 0 {
			return value{l}, nil
		}
		repl, err := t.lookup(l.text[start+1:end-1], l.pos)
		if err != nil {
			return nil, err
		}
		if repl == nil {
			if name := l.text[start+1 : end-1]; start < madeFrom && madeTo < end && isOption(name) {
				return nil, &Error{Pos: l.pos, Msg: fmt.Sprintf("<%s> names an option that nobody defines", name), Hint: t.near(name)}
			}
			from = end
			continue
		}
		t.replaced++
		if t.size += repl.size(); t.replaced > maxReplaced || t.size > maxValue {
			return nil, &Error{Pos: l.pos, Msg: fmt.Sprintf("the tags of this filter grow over %d replacements or %d bytes", maxReplaced, maxValue),
				Hint: "look for tags that multiply"}
		}
		lines := splice(l, start, end, repl)
		if len(lines) > 1 {
			return t.lines(lines)
		}
		l, from = lines[0], 0 // a result may complete a tag that began before it
		madeFrom, madeTo = start, start+len(repl[0].text)
	}
}

func (t *tags) lines(v value) (value, error) {
	var out value
	for _, l := range v {
		lines, err := t.line(l)
		if err != nil {
			return nil, err
		}
		out = append(out, lines...)
	}
	return out, nil
}

// lookup finds the option that a tag names, its own tags resolved; nil if there is none.
func (t *tags) lookup(name string, pos Pos) (value, error) {
	switch {
	case t.skip[name]:
		return nil, nil
	case t.busy[name]:
		return nil, &Error{Pos: pos, Msg: fmt.Sprintf("<%s> leads back to itself", name), Hint: "one of the options on the way must not use the tag"}
	}
	v, ok := t.opts[name]
	if !ok {
		var err error
		if v, err = t.fallback(name); v == nil || err != nil {
			return nil, err
		}
	}
	return t.option(name, v)
}

// near lists the options whose names begin as the missing one does.
func (t *tags) near(name string) string {
	prefix := name[:strings.LastIndexAny(name, "-_/")+1]
	var names []string
	for o := range t.opts {
		if prefix != "" && strings.HasPrefix(o, prefix) {
			names = append(names, o)
		}
	}
	if len(names) == 0 || len(names) > 10 {
		return ""
	}
	slices.Sort(names)
	return "there are: " + strings.Join(names, ", ")
}

// isOption says whether s could be the name of an option, or of one in a section.
func isOption(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return !isWord(r) && !strings.ContainsRune("-./", r) })
}

// innermost finds the first <name> at or behind from whose name holds no blank and no bracket; start is -1 if none.
func innermost(s string, from int) (start, end int) {
	start = -1
	for i := from; i < len(s); i++ {
		switch s[i] {
		case '<':
			start = i
		case ' ':
			start = -1
		case '>':
			if start >= 0 && i > start+1 {
				return start, i + 1
			}
			start = -1
		}
	}
	return -1, -1
}
