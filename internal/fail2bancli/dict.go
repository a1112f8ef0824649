package fail2bancli

import (
	"slices"
	"strings"
)

// dict is what fail2ban gathers about a failure: Python's dict, in the order of insertion. A value is a string, nil for a
// group that took no part, []tuple for lines, or set.
type dict struct {
	keys   []string
	values map[string]any
}

// tuple is a line in three parts: before its date, the date, behind it.
type tuple [3]string

// text is the line without its date.
func (t tuple) text() string { return t[0] + t[2] }

// whole is the line as it was read.
func (t tuple) whole() string { return t[0] + t[1] + t[2] }

// set is Python's set of strings, in the order of insertion.
type set []string

func newDict() *dict { return &dict{values: map[string]any{}} }

func (d *dict) put(key string, v any) {
	if _, ok := d.values[key]; !ok {
		d.keys = append(d.keys, key)
	}
	d.values[key] = v
}

// pop removes a key and says whether it stood for something that Python takes as true.
func (d *dict) pop(key string) bool {
	v, ok := d.values[key]
	if ok {
		delete(d.values, key)
		d.keys = slices.DeleteFunc(d.keys, func(k string) bool { return k == key })
	}
	return truth(v)
}

func (d *dict) has(key string) bool { return truth(d.values[key]) }

// text is the string of a key; ok is false if the group took no part.
func (d *dict) text(key string) (s string, ok bool) {
	s, ok = d.values[key].(string)
	return s, ok
}

func (d *dict) lines(key string) []tuple {
	l, _ := d.values[key].([]tuple)
	return l
}

func (d *dict) clone() *dict {
	c := newDict()
	for _, k := range d.keys {
		c.put(k, d.values[k])
	}
	return c
}

// update takes every value of e; some means: only those that took part.
func (d *dict) update(e *dict, some bool) {
	for _, k := range e.keys {
		if v := e.values[k]; v != nil || !some {
			d.put(k, v)
		}
	}
}

func truth(v any) bool {
	switch v := v.(type) {
	case string:
		return v != ""
	case []tuple:
		return len(v) > 0
	case set:
		return len(v) > 0
	case bool:
		return v
	}
	return false
}

// repr is d as Python writes it, without the key that is left out.
func (d *dict) repr(without string) string {
	var parts []string
	for _, k := range d.keys {
		if k != without {
			parts = append(parts, quote(k)+": "+repr(d.values[k]))
		}
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

func repr(v any) string {
	switch v := v.(type) {
	case string:
		return quote(v)
	case bool:
		return "1" // a flag
	case set:
		return "{" + strings.Trim(list(v), "[]") + "}"
	case []tuple:
		var parts []string
		for _, t := range v {
			parts = append(parts, "("+quote(t[0])+", "+quote(t[1])+", "+quote(t[2])+")")
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	return "None"
}
