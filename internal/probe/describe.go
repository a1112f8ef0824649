package probe

import (
	"strings"

	"tocsin/internal/munin"
)

// describe makes a service of what a plugin would answer to "config": "graph_title CPU usage", "user.label user". The text is
// ours, so that a line it cannot read is a mistake of the program.
func describe(name, text string) *munin.Service {
	s := &munin.Service{Name: name}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		key, value, ok := strings.Cut(line, " ")
		if !ok {
			panic("BUG: probe: no value in the description of " + name + ": " + line)
		}
		field, attr, ok := strings.Cut(key, ".")
		if !ok {
			s.Attrs = append(s.Attrs, munin.Attr{Name: key, Value: value})
			continue
		}
		f := s.Field(field)
		if f == nil {
			s.Fields = append(s.Fields, munin.Field{Name: field})
			f = &s.Fields[len(s.Fields)-1]
		}
		f.Attrs = append(f.Attrs, munin.Attr{Name: attr, Value: value})
	}
	return s
}

// fieldName makes a field's name of anything, as Munin's clean_fieldname does.
func fieldName(s string) string {
	b := []byte(s)
	for i, c := range b {
		letter := c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			b[i] = '_'
		}
	}
	if len(b) == 0 || s == "root" {
		return "_" + string(b)
	}
	return string(b)
}

// v is a value of the service that the reading is of.
func v(field string, value float64) munin.Value { return munin.Value{Field: field, V: value} }
