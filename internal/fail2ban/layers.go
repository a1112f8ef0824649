package fail2ban

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
)

// config is what all the files of one filter, of one action, or of jail.conf say together. A later file wins, key by key.
type config struct {
	files    []string // as read, in order, by the names that people know
	order    []string // the sections, in the order in which they first stand
	sections map[string]options
	keys     map[string][]string // of each section, in the order in which they first stand
	heads    map[string]Pos      // where each section first begins
	known    map[string]options  // the values that later files replaced, for %(known/name)s; nil if only one has the section
	defaults options
	made     *int // bytes that references and tags have made, shared by all that one call reads
}

// library is a folder of configuration. A file that many need is parsed once.
type library struct {
	fsys   fs.FS
	dir    string // the beginning of the names that people see; "" for none
	root   string // where fsys is, if files outside of it may be included; "" if not
	parsed map[string]*parsed
	made   int

	journals []string // jails that are read as if they had backend = systemd
}

// parsed is one file of a library; file is nil if there is none, or it cannot be read.
type parsed struct {
	*file
	errs []error
}

// layers reads NAME.conf, NAME.d/*.conf, NAME.local and NAME.d/*.local with everything they include. What could be read is
// in the returned config even where there are mistakes; it has no files if there are none.
func (l *library) layers(name string) (*config, []error) {
	if l.parsed == nil {
		l.parsed = map[string]*parsed{}
	}
	o := &ordering{library: l}
	paths := l.candidates(name)
	for _, p := range paths {
		o.withTwin(paths, p, Pos{}, nil)
	}
	c := &config{sections: map[string]options{}, keys: map[string][]string{}, heads: map[string]Pos{}, known: map[string]options{}, defaults: options{}, made: &l.made}
	told := map[string]bool{}
	for _, p := range o.order {
		f := l.parsed[p]
		if !told[p] {
			o.errs = append(o.errs, f.errs...)
		}
		told[p] = true
		if f.file != nil {
			c.merge(f.file)
		}
	}
	return c, o.errs
}

// candidates lists the files that may exist, in the order in which they are read. As in a shell, "*" finds no hidden file.
func (l *library) candidates(name string) []string {
	var all []string
	for _, ext := range []string{".conf", ".local"} {
		all = append(all, name+ext)
		more, _ := fs.Glob(l.fsys, name+".d/*"+ext) // the only error is a bad pattern; names hold no meta characters
		for _, p := range more {
			if !strings.HasPrefix(path.Base(p), ".") {
				all = append(all, p)
			}
		}
	}
	return all
}

// shown is the name of a file as people know it.
func (l *library) shown(p string) string {
	if l.dir == "" || path.IsAbs(p) {
		return p
	}
	return path.Join(l.dir, p)
}

// ordering finds the order in which the files of one filter are read.
type ordering struct {
	*library
	order []string
	errs  []error
	full  bool // told that there are too many
}

// withTwin appends p to the order with its includes, and then its .local twin unless the caller's list has it anyway. The
// files of trail are being read: one of them again is a loop, and is cut.
func (o *ordering) withTwin(siblings []string, p string, from Pos, trail []string) {
	o.one(p, from, trail)
	twin := strings.TrimSuffix(p, path.Ext(p)) + ".local"
	if !slices.Contains(siblings, twin) && !slices.Contains(trail, twin) {
		o.one(twin, from, trail)
	}
}

// one appends p to the order, behind the files it wants before it and ahead of those it wants after it.
func (o *ordering) one(p string, from Pos, trail []string) {
	f := o.file(p, from)
	if f == nil {
		return
	}
	trail = append(trail[:len(trail):len(trail)], p)
	if len(trail) <= maxFiles {
		o.includes(p, f, "before", trail)
	}
	if len(o.order) >= maxFiles || len(trail) > maxFiles {
		if !o.full {
			o.errs = append(o.errs, &Error{Pos: Pos{o.shown(p), 1}, Msg: fmt.Sprintf("it takes more than %d files", maxFiles),
				Hint: "look for files that include each other"})
		}
		o.full = true
		return
	}
	o.order = append(o.order, p)
	o.includes(p, f, "after", trail)
}

// includes reads the files that f names under key of its section [INCLUDES]. A missing one is passed over: fail2ban's
// own files name .local files that nobody has.
func (o *ordering) includes(from string, f *parsed, key string, trail []string) {
	if f.file == nil {
		return
	}
	for _, inc := range f.sections["INCLUDES"][key] {
		if o.full {
			return // told already; files that include each other twice would take 2^n steps to no end
		}
		if inc.text == "" {
			continue
		}
		p, ok := o.resolve(from, inc.text)
		if !ok {
			o.errs = append(o.errs, &Error{Pos: inc.pos, Msg: fmt.Sprintf("include %q leaves the folder of the filters", inc.text),
				Hint: "copy the file beside this one and include it by its name"})
			continue
		}
		if !slices.Contains(trail, p) {
			o.withTwin(nil, p, inc.pos, trail)
		}
	}
}

// resolve finds what an include means in the file from; ok is false if it leaves the folder where that must not be.
func (l *library) resolve(from, inc string) (p string, ok bool) {
	p = path.Join(path.Dir(from), inc)
	if path.IsAbs(inc) {
		p = path.Clean(inc)
	}
	if l.root == "" {
		return p, fs.ValidPath(p)
	}
	if rest, in := strings.CutPrefix(p, l.root+"/"); in {
		p = rest
	}
	if !path.IsAbs(p) && !fs.ValidPath(p) {
		p = path.Join(l.root, p)
	}
	return p, true
}

// file reads and parses p once, which the line at from includes; nil if it does not exist.
func (l *library) file(p string, from Pos) *parsed {
	if f, ok := l.parsed[p]; ok {
		return f
	}
	l.parsed[p] = nil
	text, err := l.read(p)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	f := &parsed{}
	l.parsed[p] = f
	if err != nil {
		if from.File == "" {
			from.File = l.shown(p)
		}
		f.errs = []error{&Error{Pos: from, Msg: fmt.Sprintf("read %s: %s", l.shown(p), plainCause(err))}}
		return f
	}
	parsed, errs := parseINI(l.shown(p), text)
	f.file = parsed
	for _, e := range errs {
		f.errs = append(f.errs, e)
	}
	return f
}

// read reads a file that is one, not a device or a pipe, and no more of it than parseINI takes.
func (l *library) read(p string) (string, error) {
	fsys, name := l.fsys, p
	if path.IsAbs(p) {
		fsys, name = os.DirFS("/"), p[1:]
	}
	info, err := fs.Stat(fsys, name)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() { // to open a pipe would wait for whoever writes to it
		return "", errors.New("it is no regular file")
	}
	f, err := fsys.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	return string(text), err
}

// plainCause is an error without the name of the file, which stands in front of it anyway.
func plainCause(err error) string {
	if e := (*fs.PathError)(nil); errors.As(err, &e) {
		return e.Err.Error()
	}
	return err.Error()
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
			c.order = append(c.order, section)
			c.heads[section] = f.heads[name]
		} else if c.known[section] == nil {
			c.known[section] = options{}
		}
		for _, k := range f.keys[name] {
			v := f.sections[name][k]
			c.set(section, k+cond, v)
		}
	}
}

// set gives an option of a section a value. The one it had before is then its known/ value.
func (c *config) set(section, key string, v value) {
	if old, ok := c.sections[section][key]; ok {
		c.known[section][key] = old
	} else {
		c.keys[section] = append(c.keys[section], key)
	}
	c.sections[section][key] = v
}

// cutCondition splits "Init?family=inet6" before the question mark. The name in front of it is one word.
func cutCondition(s string) (name, cond string) {
	i := strings.IndexByte(s, '?')
	if i <= 0 || i == len(s)-1 || strings.ContainsFunc(s[:i], func(r rune) bool { return !isWord(r) }) {
		return s, ""
	}
	return s[:i], s[i:]
}

// hintNames lists the filters, or the actions, whose names are near to the one that is missing.
func (l *library) hintNames(name string) string {
	dir, name := path.Split(name)
	files, _ := fs.Glob(l.fsys, dir+"*.conf")
	var near []string
	for _, f := range files {
		f = strings.TrimSuffix(path.Base(f), ".conf")
		if strings.HasPrefix(f, name) || strings.HasPrefix(name, f) || len(name) > 3 && strings.HasPrefix(f, name[:3]) {
			near = append(near, f)
		}
	}
	if len(near) == 0 || len(near) > 8 {
		return ""
	}
	return "near names: " + strings.Join(near, ", ")
}
