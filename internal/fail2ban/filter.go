package fail2ban

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"unicode"
)

// Regex is one line of failregex, prefregex, ignoreregex or datepattern, with every option put in. The tags of the
// filter language (<HOST>, <F-USER>) are still in it.
type Regex struct {
	Text string
	Pos  Pos
}

// Filter is a filter as its files and the caller's options define it.
type Filter struct {
	Name         string
	Files        []string          // what was read, in order; a later file wins
	Options      map[string]string // every option by name, resolved; the caller's included
	Logtype      string            // "file" or "journal", or what the filter or the caller ask for
	Prefregex    Regex             // Text is "" if there is none
	Failregex    []Regex
	Ignoreregex  []Regex
	Datepattern  []Regex
	Maxlines     int      // lines that one match may span; 1 if the filter does not say
	Journalmatch []string // as for journalctl(1), one alternative a line
	Usedns       string   // "yes", "warn", "no", "raw"; "" if the filter does not say
}

// filterOptions are the options that fail2ban itself knows, in its order; they see the caller's options while they are
// interpolated.
var filterOptions = []string{"usedns", "prefregex", "ignoreregex", "failregex", "maxlines", "datepattern", "journalmatch"}

// LoadFilter reads the filter name from fsys, a folder like /etc/fail2ban/filter.d: NAME.conf, NAME.d/*.conf,
// NAME.local, NAME.d/*.local and what they include.
//
// options win over what the files say (ParseSpec reads them from "sshd[mode=aggressive]"). logtype, "file" or
// "journal", is the kind of source; it holds unless the files or the options name one.
//
// One thing is stricter than in fail2ban: a tag whose name holds another, like <mdre-<mode>>, must lead to an option.
// There a mode that does not exist loads, and matches nothing.
//
// Mistakes in the files come as *Error, all those of one stage joined; Errors lists them.
func LoadFilter(fsys fs.FS, name string, options map[string]string, logtype string) (Filter, error) {
	given := newDict()
	for _, k := range slices.Sorted(maps.Keys(options)) {
		given.set(k, literal(options[k], Pos{File: "option " + k}))
	}
	d, err := (&library{fsys: fsys}).filter("", strings.TrimSpace(name), given, logtype)
	if err != nil {
		return Filter{}, err
	}
	opts, err := d.whole(newDict())
	if err != nil {
		return Filter{}, err
	}
	f := Filter{Name: strings.TrimSpace(name), Maxlines: 1}
	f.describe(d, opts)
	var cmds commands
	cmds.add(opts, nil)
	for _, p := range f.apply(cmds.list) {
		err = errors.Join(err, &Error{Pos: p.Pos, Msg: p.Msg})
	}
	if err != nil {
		return Filter{}, err
	}
	return f, nil
}

// filter reads the files of a filter in the folder dir.
func (l *library) filter(dir, name string, given *dict, logtype string) (*definition, error) {
	c, err := l.named(dir, name, "filter")
	if err != nil {
		return nil, err
	}
	def, ok := c.sections["Definition"]
	if !ok {
		return nil, &Error{Pos: Pos{File: c.files[0], Line: 1}, Msg: fmt.Sprintf("filter %s has no section [Definition]", name),
			Hint: "a file that is only included by others is no filter"}
	}
	if v, _ := given.get("logtype"); v.String() == "" && def["logtype"] == nil {
		given.set("logtype", literal(logtype, Pos{File: "logtype"}))
	}
	return newDefinition(c, filterOptions, given), nil
}

// named reads the files of a filter or an action, whatever kind says, by its name.
func (l *library) named(dir, name, kind string) (*config, error) {
	if p := path.Join(dir, name); name == "" || name[0] == '.' || strings.ContainsAny(name, "*?[\\") ||
		strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) || !fs.ValidPath(p) || dir != "" && path.Dir(p) == "." {
		return nil, fmt.Errorf("%q is no name of a %s: it may hold letters, digits, \"-\", \"_\" and \".\"", name, kind)
	}
	name = path.Join(dir, name)
	c, errs := l.layers(name)
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	if len(c.files) == 0 {
		return nil, &Error{Pos: Pos{File: l.shown(name + ".conf")}, Msg: "no such " + kind, Hint: l.hintNames(name)}
	}
	return c, nil
}

// whole reads every option of a filter, seen from a jail.
func (d *definition) whole(jail *dict) (*dict, error) {
	if errs := d.read(jail, true); len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return d.combined(nil, filterOptions)
}

// describe fills in what is known of a filter besides the options that fail2ban itself knows.
func (f *Filter) describe(d *definition, opts *dict) {
	f.Files = d.files
	f.Options = map[string]string{}
	for k, v := range opts.m {
		f.Options[k] = v.String()
	}
	f.Logtype = opts.m["logtype"].text()
}

// apply makes the filter what the commands say: a later one takes the place of an earlier one, but expressions add up.
func (f *Filter) apply(list []command) []Problem {
	var all []Problem
	problem := func(c command, instead, format string, args ...any) {
		all = append(all, Problem{c.v[0].pos, fmt.Sprintf(format, args...), instead})
	}
	for _, c := range list {
		switch c.opt {
		case "failregex":
			f.Failregex = append(f.Failregex, regexes(c.v)...)
		case "ignoreregex":
			f.Ignoreregex = append(f.Ignoreregex, regexes(c.v)...)
		case "datepattern":
			f.Datepattern = regexes(c.v)
		case "journalmatch":
			if _, closed := shellWords(c.v.String()); !closed {
				problem(c, "it is closed at the end of the line; fail2ban would not start", "journalmatch %s has a quote that is not closed", c.v)
			}
			f.Journalmatch = append(f.Journalmatch, c.v.String())
		case "prefregex":
			f.Prefregex = Regex{}
			if c.v.text() != "" {
				f.Prefregex = Regex{Text: c.v.String(), Pos: c.v[0].pos}
			}
		case "maxlines":
			n, ok := pythonInt(c.v.String())
			if c.v.text() == "" {
				continue
			}
			if !ok || n < 1 || n > 1000 {
				problem(c, "it is left out", "maxlines %q is no number from 1 to 1000", c.v)
				continue
			}
			f.Maxlines = n
		case "usedns":
			f.Usedns = strings.ToLower(c.v.text())
			if !slices.Contains([]string{"", "yes", "warn", "no", "raw"}, f.Usedns) {
				problem(c, "no is used", "usedns %q is none of yes, warn, no, raw", f.Usedns)
				f.Usedns = "no"
			}
		}
	}
	return all
}

// text is the value without blanks around it, "" if there is no value.
func (v value) text() string { return strings.TrimSpace(v.String()) }

// regexes makes one Regex of each line that is not empty.
func regexes(v value) []Regex {
	var all []Regex
	for _, l := range v {
		if l.text != "" {
			all = append(all, Regex{l.text, l.pos})
		}
	}
	return all
}

// byPos orders mistakes by file and line.
func byPos(a, b error) int {
	var x, y *Error
	if !errors.As(a, &x) || !errors.As(b, &y) {
		return 0
	}
	return cmp.Or(comparePos(x.Pos, y.Pos), cmp.Compare(x.Msg, y.Msg))
}

func comparePos(a, b Pos) int {
	return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
}
