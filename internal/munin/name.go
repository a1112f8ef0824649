package munin

import "strings"

// maxName bounds the name of a service, a field, an attribute or a node, in bytes: names become labels and file names.
const maxName = 255

// FieldName is the name of a field as a master writes it: every byte that is no letter, digit or _ becomes _, and so does
// a digit in front ("9bad-name" is "_bad_name").
func FieldName(name string) string {
	return clean(name, func(i int, c byte) bool { return isWord(c) && (i > 0 || c < '0' || c > '9') })
}

// ServiceName is the name of the service of a plugin, as a master writes it: every byte that is no letter, digit or _
// becomes _ ("if_eth0.5" is "if_eth0_5"). Names that a plugin gives with "multigraph" are not changed.
func ServiceName(plugin string) string {
	return clean(plugin, func(_ int, c byte) bool { return isWord(c) })
}

func clean(name string, good func(i int, c byte) bool) string {
	for i := range len(name) {
		if good(i, name[i]) {
			continue
		}
		b := []byte(name)
		for i, c := range b {
			if !good(i, c) {
				b[i] = '_'
			}
		}
		return string(b)
	}
	return name
}

func isWord(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// allOf says whether name has 1 to maxName bytes, each a letter, digit, _ or one of more.
func allOf(name, more string) bool {
	for i := range len(name) {
		if !isWord(name[i]) && strings.IndexByte(more, name[i]) < 0 {
			return false
		}
	}
	return name != "" && len(name) <= maxName
}

// IsPluginName says whether name may be that of a plugin, as a node lists it.
func IsPluginName(name string) bool { return allOf(name, "-@.:") }

// IsHostName says whether name may be that of a node, real or virtual.
func IsHostName(name string) bool { return allOf(name, "-.") && strings.IndexByte(name, '_') < 0 }

// wrongService is why name cannot be given with "multigraph", "" if it can.
func wrongService(name string) string {
	switch {
	case name == "multigraph":
		return "is a reserved word"
	case strings.HasPrefix(name, "."), strings.HasSuffix(name, "."), strings.Contains(name, ".."):
		return "has a dot where no name follows or precedes it"
	case len(name) > maxName:
		return "is too long"
	case !allOf(name, "-.:"):
		return "has signs besides letters, digits, _ - . and :"
	}
	return ""
}
