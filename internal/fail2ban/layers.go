package fail2ban

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// config is what all the files of one filter say together. A later file wins, key by key.
type config struct {
	files    []string // as read, in order
	sections map[string]options
	known    map[string]options // the values that later files replaced, for %(known/name)s
	defaults options
}

// loader reads the files of one filter. A file that is included several times is parsed once.
type loader struct {
	fsys   fs.FS
	parsed map[string]*file // nil: the file does not exist
	errs   []error
}

// loadLayers reads NAME.conf, NAME.d/*.conf, NAME.local and NAME.d/*.local with everything they include.
func loadLayers(fsys fs.FS, name string) (*config, error) {
	l := &loader{fsys: fsys, parsed: map[string]*file{}}
	paths := l.layers(name)
	var order []string
	for _, p := range paths {
		order = l.withTwin(order, paths, p, Pos{}, nil)
	}
	if len(l.errs) > 0 {
		return nil, errors.Join(l.errs...)
	}
	if len(order) == 0 {
		return nil, &Error{Pos: Pos{File: name + ".conf"}, Msg: "no such filter", Hint: hintNames(fsys, name)}
	}
	c := &config{sections: map[string]options{}, known: map[string]options{}, defaults: options{}}
	for _, p := range order {
		c.merge(l.parsed[p])
	}
	return c, nil
}

func (l *loader) layers(name string) []string {
	var all []string
	for _, ext := range []string{".conf", ".local"} {
		all = append(all, name+ext)
		more, _ := fs.Glob(l.fsys, name+".d/*"+ext) // the only error is a bad pattern; names hold no meta characters
		all = append(all, more...)
	}
	return all
}

// withTwin appends p to order with its includes, and then its .local twin unless the caller's list has it anyway. The
// files of trail are being read: one of them again is a loop, and is cut.
func (l *loader) withTwin(order, siblings []string, p string, from Pos, trail []string) []string {
	order = l.one(order, p, from, trail)
	twin := strings.TrimSuffix(p, path.Ext(p)) + ".local"
	if !slices.Contains(siblings, twin) {
		order = l.one(order, twin, from, trail)
	}
	return order
}

// one appends p to order, behind the files it wants before it and ahead of those it wants after it.
func (l *loader) one(order []string, p string, from Pos, trail []string) []string {
	f := l.file(p, from)
	if f == nil {
		return order
	}
	trail = append(trail[:len(trail):len(trail)], p)
	order = l.includes(order, f, "before", trail)
	if len(order) >= maxFiles {
		if len(l.errs) == 0 {
			l.errs = append(l.errs, &Error{Pos: Pos{p, 1}, Msg: fmt.Sprintf("the filter needs more than %d files", maxFiles),
				Hint: "look for files that include each other"})
		}
		return order
	}
	order = append(order, p)
	return l.includes(order, f, "after", trail)
}

// includes reads the files that f names under key of its section [INCLUDES]. A missing one is passed over: fail2ban's
// own files name .local files that nobody has.
func (l *loader) includes(order []string, f *file, key string, trail []string) []string {
	for _, inc := range f.sections["INCLUDES"][key] {
		if len(order) >= maxFiles && len(l.errs) > 0 {
			return order // told already; files that include each other twice would take 2^n steps to no end
		}
		if inc.text == "" {
			continue
		}
		p := path.Join(path.Dir(f.name), inc.text)
		if path.IsAbs(inc.text) || !fs.ValidPath(p) {
			l.errs = append(l.errs, &Error{Pos: inc.pos, Msg: fmt.Sprintf("include %q leaves the folder of the filters", inc.text),
				Hint: "copy the file beside this one and include it by its name"})
			continue
		}
		if slices.Contains(trail, p) {
			continue
		}
		order = l.withTwin(order, nil, p, inc.pos, trail)
	}
	return order
}

// file reads and parses p once; nil if it does not exist or cannot be read.
func (l *loader) file(p string, from Pos) *file {
	if f, ok := l.parsed[p]; ok {
		return f
	}
	l.parsed[p] = nil
	text, err := fs.ReadFile(l.fsys, p)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		pos := from
		if pos.File == "" {
			pos = Pos{File: p}
		}
		l.errs = append(l.errs, fmt.Errorf("%s: read %s: %w", pos, p, err))
		return nil
	}
	f, errs := parseINI(p, string(text))
	for _, e := range errs {
		l.errs = append(l.errs, e)
	}
	l.parsed[p] = f
	return f
}

// merge lays f over what is there. The keys of a conditional section, [Init?family=inet6], go into [Init] under the
// name key?family=inet6.
func (c *config) merge(f *file) {
	c.files = append(c.files, f.name)
	for k, v := range f.defaults {
		c.defaults[k] = v
	}
	for _, name := range f.order {
		section, cond := cutCondition(name)
		if c.sections[section] == nil {
			c.sections[section] = options{}
		}
		if c.known[section] == nil {
			c.known[section] = options{}
		}
		for k, v := range f.sections[name] {
			k += cond
			if old, ok := c.sections[section][k]; ok {
				c.known[section][k] = old
			}
			c.sections[section][k] = v
		}
	}
}

// cutCondition splits "Init?family=inet6" before the question mark. The name in front of it is one word.
func cutCondition(s string) (name, cond string) {
	i := strings.IndexByte(s, '?')
	if i <= 0 || i == len(s)-1 || strings.ContainsFunc(s[:i], func(r rune) bool { return !isWord(r) }) {
		return s, ""
	}
	return s[:i], s[i:]
}

// hintNames lists the filters whose names are near to the one that is missing.
func hintNames(fsys fs.FS, name string) string {
	files, _ := fs.Glob(fsys, "*.conf")
	var near []string
	for _, f := range files {
		f = strings.TrimSuffix(f, ".conf")
		if strings.HasPrefix(f, name) || strings.HasPrefix(name, f) || len(name) > 3 && strings.HasPrefix(f, name[:3]) {
			near = append(near, f)
		}
	}
	if len(near) == 0 || len(near) > 8 {
		return ""
	}
	return "near names: " + strings.Join(near, ", ")
}
