package fail2ban

import (
	"fmt"
	"strings"
)

// get reads an option of a section with its %(references)s resolved. vars win over the section, the section over
// [DEFAULT]. ok is false if nobody defines the option.
func (c *config) get(section, option string, vars options) (v value, ok bool, err error) {
	in := interpolation{config: c, section: section, vars: vars}
	raw, ok := in.lookup(option)
	if !ok {
		return nil, false, nil
	}
	v, err = in.value(raw, 1)
	return v, true, err
}

// interpolation resolves %(references)s as seen from one section.
type interpolation struct {
	*config
	section string
	vars    options
	size    int // bytes made so far
}

func (in *interpolation) lookup(option string) (value, bool) {
	if v, ok := in.vars[option]; ok {
		return v, true
	}
	if v, ok := in.sections[in.section][option]; ok {
		return v, true
	}
	v, ok := in.defaults[option]
	return v, ok
}

// qualified finds what %(section/option)s, %(default/option)s and %(known/option)s mean. Each falls back to [DEFAULT].
func (in *interpolation) qualified(name string) (value, bool) {
	section, option, ok := strings.Cut(name, "/")
	if !ok {
		return nil, false
	}
	switch strings.ToLower(section) {
	case "default":
	case "known":
		if v, ok := in.known[in.section][option]; ok {
			return v, true
		}
	default:
		keys, ok := in.sections[section]
		if !ok {
			return nil, false
		}
		if v, ok := keys[option]; ok {
			return v, true
		}
	}
	v, ok := in.defaults[option]
	return v, ok
}

func (in *interpolation) value(v value, depth int) (value, error) {
	*in.made += v.size()
	if *in.made > maxMade {
		return nil, &Error{Pos: v[0].pos, Msg: fmt.Sprintf("the values of all files together grow over %d bytes", maxMade), Hint: "look for references that multiply"}
	}
	if in.size += v.size(); in.size > maxValue {
		return nil, &Error{Pos: v[0].pos, Msg: fmt.Sprintf("the value grows over %d bytes", maxValue), Hint: "look for references that multiply"}
	}
	if depth > maxDepth {
		return nil, &Error{Pos: v[0].pos, Msg: fmt.Sprintf("more than %d references inside each other", maxDepth),
			Hint: "look for options that refer to each other"}
	}
	var out value
	for _, l := range v {
		lines, err := in.line(l, depth)
		if err != nil {
			return nil, err
		}
		out = append(out, lines...)
	}
	return out, nil
}

// line resolves the references of one line: %(name)s stands for an option, %% for a per cent sign.
func (in *interpolation) line(l line, depth int) (value, error) {
	rest := l.text
	done := value{{"", l.pos}}
	last := &done[0]
	for {
		i := strings.IndexByte(rest, '%')
		if i < 0 {
			last.text += rest
			return done, nil
		}
		last.text += rest[:i]
		rest = rest[i:]
		if strings.HasPrefix(rest, "%%") {
			last.text += "%"
			rest = rest[2:]
			continue
		}
		name, n, err := reference(rest, l.pos)
		if err != nil {
			return nil, err
		}
		repl, err := in.reference(name, l.pos, depth)
		if err != nil {
			return nil, err
		}
		if n == len(l.text) {
			return repl, nil // the reference is the whole line: its lines keep their places
		}
		last.text += repl[0].text
		for _, r := range repl[1:] {
			done = append(done, line{r.text, l.pos})
		}
		last = &done[len(done)-1]
		rest = rest[n:]
	}
}

// reference reads the "%(name)s" at the start of s, and says how many bytes it has.
func reference(s string, pos Pos) (name string, n int, err error) {
	if strings.HasPrefix(s, "%(") {
		if end := strings.IndexByte(s, ')'); end > 2 && strings.HasPrefix(s[end+1:], "s") {
			return s[2:end], end + 2, nil
		}
		return "", 0, &Error{Pos: pos, Msg: fmt.Sprintf("%.20q is no %%(reference)s", s), Hint: "it ends with \")s\""}
	}
	return "", 0, &Error{Pos: pos, Msg: fmt.Sprintf("%.10q: a single per cent sign", s), Hint: "write %% for a per cent sign, %(name)s for an option"}
}

func (in *interpolation) reference(name string, pos Pos, depth int) (value, error) {
	if name == "__name__" {
		return value{{in.section, pos}}, nil
	}
	v, ok := in.lookup(strings.ToLower(name))
	if !ok {
		v, ok = in.qualified(name)
	}
	if !ok {
		return nil, &Error{Pos: pos, Msg: fmt.Sprintf("%%(%s)s names an option that nobody defines", name),
			Hint: fmt.Sprintf("define it in [%s] or [DEFAULT], or correct the name", in.section)}
	}
	return in.value(v, depth+1)
}
