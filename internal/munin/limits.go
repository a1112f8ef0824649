package munin

import (
	"math"
	"strconv"
	"strings"
)

// Range is what a value may be; both bounds belong to it. Without bounds it is everything.
type Range struct{ Least, Most float64 }

// everything is the range without bounds.
var everything = Range{math.Inf(-1), math.Inf(1)}

// Bounded says whether there is a bound at all.
func (r Range) Bounded() bool { return r != everything }

// Holds says whether v is within the range. What is unknown (NaN) is not outside it.
func (r Range) Holds(v float64) bool { return !(v < r.Least || v > r.Most) }

// ParseRange reads "min:max", "min:", ":max", or "max" alone, which is an upper bound even where it is negative. ok is
// false for anything else. Unlike Munin, which takes "1e6" for 0:0, it reads any number that plugins may print.
func ParseRange(text string) (r Range, ok bool) {
	r = everything
	least, most, two := strings.Cut(strings.TrimSpace(text), ":")
	if !two {
		least, most = "", least
	}
	for _, side := range []struct {
		text string
		to   *float64
	}{{least, &r.Least}, {most, &r.Most}} {
		word := strings.TrimSpace(side.text)
		if word == "" {
			continue
		}
		v, good := ParseValue(word)
		if !good || math.IsNaN(v) {
			return everything, false
		}
		*side.to = v
	}
	return r, two || r.Bounded()
}

// Limits are what a field's values may be before somebody is told.
type Limits struct {
	Warning, Critical Range
	Unknown           int      // so many unknown values in a row are told; 0: the first one
	Wrong             []string // limits that say nothing, as "warning: \"high\" is no range"
}

// Bounds of limits.
const (
	usualUnknown = 3
	mostUnknown  = 1_000_000
)

// Limits are those of a field of a service as Of returns it: its own, or those of the service, or, from munin.conf, those of
// what stands above it: parent service, host, groups, everything. m may be nil.
func (m *MasterConf) Limits(group, host string, s *Service, f *Field) Limits {
	l := Limits{Warning: everything, Critical: everything, Unknown: usualUnknown}
	get := func(name string) string {
		if v, ok := f.Get(name); ok {
			return v
		}
		if v, ok := s.Get(name); ok {
			return v
		}
		v, _ := m.Get(group, host, s.Name, name)
		return v.Value
	}
	for _, r := range []struct {
		name string
		to   *Range
	}{{"warning", &l.Warning}, {"critical", &l.Critical}} {
		text := get(r.name)
		if text == "" {
			continue
		}
		var ok bool
		if *r.to, ok = ParseRange(text); !ok {
			l.Wrong = append(l.Wrong, r.name+": "+quoted(text)+" is no range")
		}
	}
	if text := get("unknown_limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 || n > mostUnknown {
			l.Wrong = append(l.Wrong, "unknown_limit: "+quoted(text)+" is no number")
			return l
		}
		l.Unknown = n
	}
	return l
}

// ContactsOf are those who are told of a service as Of returns it: as its "contacts" or that of the nearest above it says,
// or else all. A contact without a command is not told.
func (m *MasterConf) ContactsOf(group, host string, s *Service) (all []*ConfContact) {
	if m == nil {
		return nil
	}
	words, said := s.Get("contacts")
	if !said {
		var v Setting
		v, said = m.Get(group, host, s.Name, "contacts")
		words = v.Value
	}
	named := map[string]bool{}
	for name := range strings.FieldsSeq(words) {
		named[name] = true
	}
	for _, c := range m.Contacts {
		if c.Command != "" && (!said || named[c.Name]) {
			all = append(all, c)
		}
	}
	return all
}
