// Package munin is Munin's language: what plugins print, how nodes are asked, munin.conf and plugin-conf.d, and the files in
// which a master keeps its history.
//
// It reads and writes text, sockets that it is given and files; it schedules nothing, keeps nothing and runs no plugin.
// What it reads was written by strangers: everything is bounded, and what is not understood is told, not guessed. Munin 2.0
// is the measure (https://guide.munin-monitoring.org).
package munin

import (
	"math"
	"slices"
)

// Attr is one attribute as a plugin or munin.conf gives it. Value is valid UTF-8 (what is not is taken for Latin-1) and may
// hold anything else: it is hostile.
type Attr struct{ Name, Value string }

// Service describes one graph: what a plugin answers to "config".
type Service struct {
	Name   string // as a master names it: letters, digits, _ - . :; a child stands behind a dot ("diskstats_latency.vda")
	Host   string // host_name, a virtual node that the service belongs to; "" for the node that was asked
	Attrs  []Attr // of the graph, in order; the first of a name counts
	Fields []Field
}

// Field describes one curve of a service.
type Field struct {
	Name  string // letters, digits and _
	Attrs []Attr // in order; the last of a name counts
}

// Value is one reading of a field, as a plugin prints it: of a counter the count, not the rate.
type Value struct {
	Service string
	Field   string
	At      int64   // Unix seconds; 0: the plugin named no time
	V       float64 // NaN: unknown ("U")
}

// Type is how a value becomes a rate (rrdcreate(1)).
type Type uint8

// The types.
const (
	Gauge    Type = iota // is what it is
	Counter              // never falls but by overflow of 32 or 64 bits
	Derive               // a difference that may be negative
	Absolute             // counts anew after each reading
)

// Get is an attribute of the graph.
func (s *Service) Get(name string) (value string, ok bool) {
	i := slices.IndexFunc(s.Attrs, func(a Attr) bool { return a.Name == name })
	if i < 0 {
		return "", false
	}
	return s.Attrs[i].Value, true
}

// Same says whether two descriptions have the same attributes and fields, in the same order.
func (s *Service) Same(o *Service) bool {
	return slices.Equal(s.Attrs, o.Attrs) && slices.EqualFunc(s.Fields, o.Fields, func(a, b Field) bool {
		return a.Name == b.Name && slices.Equal(a.Attrs, b.Attrs)
	})
}

// Field is the field of that name, nil if there is none.
func (s *Service) Field(name string) *Field {
	i := slices.IndexFunc(s.Fields, func(f Field) bool { return f.Name == name })
	if i < 0 {
		return nil
	}
	return &s.Fields[i]
}

// Get is an attribute of the field.
func (f *Field) Get(name string) (value string, ok bool) {
	for _, a := range slices.Backward(f.Attrs) {
		if a.Name == name {
			return a.Value, true
		}
	}
	return "", false
}

// Type is the field's type; what is unknown counts as a gauge, as Munin's plugins with a slip of the pen expect.
func (f *Field) Type() Type {
	switch t, _ := f.Get("type"); t {
	case "COUNTER", "counter":
		return Counter
	case "DERIVE", "derive":
		return Derive
	case "ABSOLUTE", "absolute":
		return Absolute
	}
	return Gauge
}

// Bounds are the field's min and max, of the rate where it has one; without them minus and plus infinity.
func (f *Field) Bounds() (least, most float64) {
	bound := func(name string, without float64) float64 {
		text, ok := f.Get(name)
		if v, good := ParseValue(text); ok && good && !math.IsNaN(v) {
			return v
		}
		return without
	}
	return bound("min", math.Inf(-1)), bound("max", math.Inf(1))
}
