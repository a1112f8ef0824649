package fail2ban

import (
	"fmt"
	"slices"
	"strings"
)

// tags replaces <name> in options by other options. The innermost goes first and a result is looked through again, so
// <mdre-<mode>> becomes <mdre-normal> and then that option's text. What nobody defines (<HOST>, <F-USER>) stays; in the
// strict options it is a mistake if the name was put together from an option: mode=agressive must not load and match
// nothing.
type tags struct {
	opts     *dict           // every option of the filter, the caller's included
	skip     map[string]bool // tags that are left alone, and options whose tags are
	strict   []string
	fallback func(name string) (value, error) // for what is in none of opts; nil value: not defined
	made     *int                             // bytes made so far
	done     options
	busy     map[string]bool // being resolved: meeting one of them again is a loop
	careful  bool            // resolving a strict option
	replaced int
	size     int
}

// all resolves every option, in their order. An option with conditional forms (key?family=inet6) is left alone: which form
// holds is known only when the option is used.
func (t *tags) all() (*dict, error) {
	t.done, t.busy = options{}, map[string]bool{}
	for _, name := range t.opts.keys {
		if plain, cond := cutCondition(name); cond != "" {
			t.skip[plain] = true
		}
	}
	// the strict ones first: what they lead to must be looked at strictly, and is resolved once
	t.careful = true
	for _, name := range t.strict {
		if v, ok := t.opts.get(name); ok && !t.skip[name] {
			if _, err := t.option(name, v); err != nil {
				return nil, err
			}
		}
	}
	t.careful = false
	out := newDict()
	for _, name := range t.opts.keys {
		v, _ := t.opts.get(name)
		if !t.skip[name] {
			var err error
			if v, err = t.option(name, v); err != nil {
				return nil, err
			}
		}
		out.set(name, v)
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
			if name := l.text[start+1 : end-1]; t.careful && start < madeFrom && madeTo < end && isOption(name) {
				return nil, &Error{Pos: l.pos, Msg: fmt.Sprintf("<%s> names an option that nobody defines", name), Hint: t.near(name)}
			}
			from = end
			continue
		}
		t.replaced++
		if *t.made += repl.size(); *t.made > maxMade {
			return nil, &Error{Pos: l.pos, Msg: fmt.Sprintf("the values of all files together grow over %d bytes", maxMade), Hint: "look for tags that multiply"}
		}
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
	v, ok := t.opts.get(name)
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
	for _, o := range t.opts.keys {
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
