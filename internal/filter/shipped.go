package filter

import (
	"cmp"
	"embed"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"tocsin/internal/fail2ban"
)

//go:embed filters/*.conf
var shipped embed.FS

// includeOnly are shipped files that filters include; they are no filters themselves.
var includeOnly = []string{"common"}

// Shipped names the filters that ship with the program, sorted.
func Shipped() []string {
	files, err := fs.Glob(shipped, "filters/*.conf")
	if err != nil {
		panic("BUG: " + err.Error())
	}
	var names []string
	for _, f := range files {
		name := strings.TrimSuffix(strings.TrimPrefix(f, "filters/"), ".conf")
		if !slices.Contains(includeOnly, name) {
			names = append(names, name)
		}
	}
	return names
}

// Load reads a shipped filter by its name, with options if there are any: "sshd", "sshd[mode=aggressive]". An option that
// the filter does not have is a mistake, where fail2ban would ignore it: it is a mistyped one.
func Load(spec string) (fail2ban.Filter, error) {
	name, options, err := fail2ban.ParseSpec(spec)
	if err != nil {
		return fail2ban.Filter{}, err
	}
	if !slices.Contains(Shipped(), name) {
		return fail2ban.Filter{}, fmt.Errorf("there is no filter %q; these ship with the program: %s", name, strings.Join(Shipped(), ", "))
	}
	dir, err := fs.Sub(shipped, "filters")
	if err != nil {
		panic("BUG: " + err.Error())
	}
	plain, err := fail2ban.LoadFilter(dir, name, nil, "file")
	if err != nil || len(options) == 0 {
		return plain, err
	}
	own := settable(plain)
	for option, value := range options {
		if !slices.Contains(own, option) {
			return fail2ban.Filter{}, fmt.Errorf("filter %s has no option %q; it has: %s", name, option, cmp.Or(strings.Join(own, ", "), "none"))
		}
		if known := valuesOf(plain, option); len(known) > 0 && !slices.Contains(known, value) {
			return fail2ban.Filter{}, fmt.Errorf("filter %s has no %s %q; it has: %s", name, option, value, strings.Join(known, ", "))
		}
	}
	return fail2ban.LoadFilter(dir, name, options, "file")
}

// valuesOf names the values of an option that chooses between parts: a part for a value is named part-value.
func valuesOf(f fail2ban.Filter, option string) []string {
	var values []string
	for name := range f.Options {
		if _, value, ok := strings.Cut(name, "-"); ok && !slices.Contains(values, value) {
			values = append(values, value)
		}
	}
	if !slices.Contains(values, f.Options[option]) {
		return nil // its parts are named otherwise
	}
	slices.Sort(values)
	return values
}

// settable names the options of a filter that are meant to be set: not its expressions, and not its parts, which are named
// __part or part-value.
func settable(f fail2ban.Filter) []string {
	var own []string
	for name := range f.Options {
		switch {
		case strings.HasPrefix(name, "_"), strings.Contains(name, "-"), strings.HasSuffix(name, "regex"),
			name == "session", name == "journalmatch", name == "datepattern", name == "maxlines", name == "usedns", name == "logtype":
		default:
			own = append(own, name)
		}
	}
	slices.Sort(own)
	return own
}
