package fail2ban

import (
	"maps"
	"slices"
	"strings"
)

// definition reads [Definition] and [Init] of a filter or an action as fail2ban does. What the jail gives in brackets wins
// over [Init], [Init] over [Definition], and that over [DEFAULT]; then the tags are replaced.
type definition struct {
	*config
	what  []string // the options that fail2ban itself knows, in its order
	given *dict    // the options in brackets, and once read those of [Init] and their known/ twins
	opts  *dict    // those of [Definition]
	vars  options  // what references and tags see besides
	found options  // tags that were looked for behind all options; nil value: nobody defines it
}

func newDefinition(c *config, what []string, given *dict) *definition {
	return &definition{config: c, what: what, given: given, found: options{}}
}

// read reads the options. Those of jail, and those given, hide what the files say and are seen by references. all also
// reads the options of [Definition] that fail2ban does not know; without it they can only be reached by tags.
func (d *definition) read(jail *dict, all bool) []error {
	var errs []error
	get := func(section, name string, vars options) (value, bool) {
		v, ok, err := d.get(section, name, vars)
		if err != nil {
			errs = append(errs, err)
		}
		return v, ok
	}
	hide := jail.with(d.given)
	d.opts, d.vars = newDict(), hide.lower()
	maps.DeleteFunc(d.vars, func(_ string, v value) bool { return v == nil })
	for _, name := range d.what {
		if _, ok := hide.get(name); ok {
			continue
		}
		if v, ok := get("Definition", name, d.vars); ok {
			d.opts.set(name, v)
		}
	}
	for _, name := range d.keys["Init"] {
		v, _ := get("Init", name, nil)
		if !strings.HasPrefix(name, "known/") {
			d.given.set("known/"+name, v)
		}
		if _, ok := d.given.get(name); !ok {
			d.given.set(name, v)
		}
	}
	if all {
		for _, name := range d.keys["Definition"] {
			if _, ok := d.opts.get(name); !ok {
				v, _ := get("Definition", name, nil)
				d.opts.set(name, v)
			}
		}
	}
	slices.SortStableFunc(errs, byPos)
	return errs
}

// combined is all options with their tags replaced, but for the tags that leave is about. In the strict options a tag that
// was put together from an option must lead somewhere.
func (d *definition) combined(leave, strict []string) (*dict, error) {
	t := tags{opts: d.opts.with(d.given), skip: map[string]bool{}, strict: strict, fallback: d.tag, made: d.made}
	for _, name := range leave {
		t.skip[name] = true
	}
	return t.all()
}

// tag finds what a tag means that no option explains: <section/option>, <known/option>, and any option of [Definition] or
// of the jail. The value is nil if nobody defines it.
func (d *definition) tag(name string) (value, error) {
	if v, ok := d.found[name]; ok {
		return v, nil
	}
	v, err := d.behind(name)
	if err == nil {
		d.found[name] = v
	}
	return v, err
}

func (d *definition) behind(name string) (value, error) {
	if section, option, ok := strings.Cut(name, "/"); ok {
		option = strings.ToLower(option)
		switch strings.ToLower(section) {
		case "known":
			section = "Definition"
			old := d.known[section]
			v, ok := old[option]
			if !ok && old != nil {
				v, ok = d.defaults[option] // nearer than what is known now
			}
			if ok {
				in := interpolation{config: d.config, section: section}
				return in.value(v, 1)
			}
		case "default":
			section = "DEFAULT"
		}
		if _, exists := d.sections[section]; exists || section == "DEFAULT" {
			if v, ok, err := d.get(section, option, nil); ok || err != nil {
				return v, err
			}
		}
	}
	v, _, err := d.get("Definition", strings.ToLower(name), d.vars)
	return v, err
}
