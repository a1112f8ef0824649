package fail2ban

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"
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

// filterOptions are the options that fail2ban itself knows; they see the caller's options while they are interpolated.
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
	name = strings.TrimSpace(name)
	if name == "" || name[0] == '.' || strings.ContainsFunc(name, func(r rune) bool { return !isWord(r) && r != '-' && r != '.' }) {
		return Filter{}, fmt.Errorf("%q is no name of a filter: it may hold letters, digits, \"-\", \"_\" and \".\"", name)
	}
	c, err := loadLayers(fsys, name)
	if err != nil {
		return Filter{}, err
	}
	opts, err := c.definition(name, options, logtype)
	if err != nil {
		return Filter{}, err
	}
	return newFilter(name, c, opts)
}

// definition brings the options of a filter together. The caller's options win over [Init], [Init] over [Definition],
// and that over [DEFAULT]; then the tags are replaced.
func (c *config) definition(name string, given map[string]string, logtype string) (options, error) {
	def, ok := c.sections["Definition"]
	if !ok {
		return nil, &Error{Pos: Pos{File: c.files[0], Line: 1}, Msg: fmt.Sprintf("filter %s has no section [Definition]", name),
			Hint: "a file that is only included by others is no filter"}
	}
	vars := options{}
	for k, v := range given {
		vars[strings.ToLower(k)] = literal(v, "option "+k)
	}
	if _, ok := def["logtype"]; !ok && vars["logtype"].String() == "" {
		vars["logtype"] = literal(logtype, "logtype")
	}
	opts, errs := c.interpolated(def, vars)
	if len(errs) > 0 {
		slices.SortStableFunc(errs, byPos)
		return nil, errors.Join(errs...)
	}
	maps.Copy(opts, vars)
	t := tags{opts: opts, fallback: func(name string) (value, error) { return c.tag(name, vars) }}
	return t.all()
}

// interpolated resolves the references in [DEFAULT], [Definition] and [Init]. Only the options that fail2ban knows see
// vars, the caller's options; those of [Init] do not see [Definition].
func (c *config) interpolated(def, vars options) (options, []error) {
	opts, errs := options{}, []error(nil)
	read := func(section, name string, vars options) value {
		v, _, err := c.get(section, name, vars)
		if err != nil {
			errs = append(errs, err)
		}
		return v
	}
	for _, keys := range []options{c.defaults, def} {
		for name := range keys {
			if _, ok := opts[name]; ok {
				continue
			}
			sees := vars
			if !slices.Contains(filterOptions, name) {
				sees = nil
			}
			opts[name] = read("Definition", name, sees)
		}
	}
	for name := range c.sections["Init"] {
		v := read("Init", name, nil)
		opts[name], opts["known/"+name] = v, v
	}
	return opts, errs
}

// tag is the second place where a tag is looked for, behind the filter's options: <section/option>, <known/option>, and
// any option of [Definition]. The value is nil if nobody defines it.
func (c *config) tag(name string, vars options) (value, error) {
	if section, option, ok := strings.Cut(name, "/"); ok {
		switch strings.ToLower(section) {
		case "known":
			if v, ok := c.known["Definition"][option]; ok {
				in := interpolation{config: c, section: "Definition"}
				return in.value(v, 1)
			}
			section = "Definition"
		case "default":
			section = "DEFAULT"
		}
		if _, exists := c.sections[section]; exists || section == "DEFAULT" {
			if v, ok, err := c.get(section, option, nil); ok || err != nil {
				return v, err
			}
		}
	}
	v, _, err := c.get("Definition", name, vars)
	return v, err
}

func newFilter(name string, c *config, opts options) (Filter, error) {
	f := Filter{
		Name:        name,
		Files:       c.files,
		Options:     map[string]string{},
		Logtype:     opts["logtype"].text(),
		Failregex:   regexes(opts["failregex"]),
		Ignoreregex: regexes(opts["ignoreregex"]),
		Datepattern: regexes(opts["datepattern"]),
		Usedns:      opts["usedns"].text(),
		Maxlines:    1,
	}
	for k, v := range opts {
		f.Options[k] = v.String()
	}
	for _, m := range regexes(opts["journalmatch"]) {
		f.Journalmatch = append(f.Journalmatch, m.Text)
	}
	if v := opts["prefregex"]; v.text() != "" {
		f.Prefregex = Regex{Text: v.String(), Pos: v[0].pos}
	}
	if v := opts["maxlines"]; v.text() != "" {
		n, err := strconv.Atoi(v.text())
		if err != nil || n < 1 || n > 1000 {
			return Filter{}, &Error{Pos: v[0].pos, Msg: fmt.Sprintf("maxlines %q is no number from 1 to 1000", v), Hint: "write it like maxlines = 10"}
		}
		f.Maxlines = n
	}
	return f, nil
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
	return cmp.Or(cmp.Compare(x.Pos.File, y.Pos.File), cmp.Compare(x.Pos.Line, y.Pos.Line), cmp.Compare(x.Msg, y.Msg))
}
