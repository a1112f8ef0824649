package fail2ban

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// referenceForm finds the %(references)s of a line; what stands before a slash names a section.
var referenceForm = regexp.MustCompile(`%\((?:[^()/]*/)?([^()]+)\)s`)

// referred is the set of options that some value of the files refers to, in lower case.
func (c *config) referred() map[string]bool {
	all := map[string]bool{}
	note := func(keys options) {
		for _, v := range keys {
			for _, l := range v {
				for _, m := range referenceForm.FindAllStringSubmatch(l.text, -1) {
					all[strings.ToLower(m[1])] = true
				}
			}
		}
	}
	note(c.defaults)
	for _, keys := range c.sections {
		note(keys)
	}
	for _, keys := range c.known {
		note(keys)
	}
	return all
}

// isJailOption says whether name is an option of a jail that does something by itself.
func isJailOption(name string) bool {
	for _, o := range jailOptions {
		if o.name == name {
			return true
		}
	}
	return false
}

// laterOptions are options of a jail that came after fail2ban 1.0.2. They are about logs that do not exist, which are
// waited for in any case.
var laterOptions = []string{"skip_if_nologs", "systemd_if_nologs"}

// mistyped tells of the options of a jail that do nothing, and of those of [DEFAULT] that look like another.
func (c *Config) mistyped(conf *config) {
	used := conf.referred()
	idle := func(name string) bool {
		return !isJailOption(name) && !used[name] && !strings.Contains(name, "?") && !slices.Contains(laterOptions, name)
	}
	for _, j := range c.Jails {
		for _, name := range conf.keys[j.Name] {
			if v := conf.sections[j.Name][name]; idle(name) {
				j.problem(v[0].pos, fmt.Sprintf("a jail has no option %q, and nothing refers to it", name), "it is left out"+meant(name))
			}
		}
	}
	var all []Problem
	for name, v := range conf.defaults {
		if near := meant(name); idle(name) && near != "" {
			all = append(all, Problem{v[0].pos, fmt.Sprintf("a jail has no option %q, and nothing refers to it", name), "it is left out" + near})
		}
	}
	slices.SortFunc(all, func(a, b Problem) int { return comparePos(a.Pos, b.Pos) })
	c.Problems = append(c.Problems, all...)
}

// meant is the option that name was perhaps meant to be: it differs by no more than two letters.
func meant(name string) string {
	best, least := "", 3
	for _, o := range jailOptions {
		if len(name) < 5 || len(name) > 40 {
			break
		}
		if max(len(name)-len(o.name), len(o.name)-len(name)) > 2 {
			continue
		}
		if d := distance(name, o.name); d < least {
			best, least = o.name, d
		}
	}
	if best == "" {
		return ""
	}
	return "; is " + best + " meant?"
}

// distance is how many letters must be put in, taken out or changed to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
