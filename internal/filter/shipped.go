package filter

import (
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

// Load reads a shipped filter by its name, with options if there are any: "sshd", "sshd[mode=aggressive]".
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
	return fail2ban.LoadFilter(dir, name, options, "file")
}
