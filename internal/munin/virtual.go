package munin

import (
	"slices"
	"strings"

	"tocsin"
)

// This file holds what munin.conf makes of services: overrides of what a node says of them, and curves that are drawn of
// other services' curves.

// Bounds of what one service draws of others; a node may say so too.
const (
	maxVirtualCurves  = 1_000
	maxVirtualSources = 10_000
)

// Virtual is a service of munin.conf that is drawn of curves of other services.
type Virtual struct {
	Group, Host string
	Service     *Service // what munin.conf says of it
	Curves      []VirtualCurve
	File        string // of its first line
	Line        int
}

// VirtualCurve is a field of a virtual service, and where its values come from.
type VirtualCurve struct {
	Field   string
	Kind    VirtualKind
	Sources []VirtualSource // one of a Borrowed curve
}

// VirtualSource is one curve of another service. Name is what it is called in a stack; "" in a sum.
type VirtualSource struct {
	Name string
	tocsin.Series
}

// VirtualKind is what a virtual curve makes of its sources.
type VirtualKind uint8

// The kinds.
const (
	Borrowed VirtualKind = iota // graph_order a=HOST:service.field
	Summed                      // a.sum HOST:service.field HOST:service.field: one curve; unknown counts as 0
	Stacked                     // a.stack x=HOST:service.field y=HOST:service.field: one upon the other
)

// Virtuals are the services that are drawn of other services' curves, in the order of the files.
func (m *MasterConf) Virtuals() []Virtual {
	if m == nil {
		return nil
	}
	var all []Virtual
	seen := map[string]bool{} // by host and service
	for i, s := range m.Settings {
		if s.Host == "" || s.Path == "" || m.levels[level(s.Group, s.Host, s.Path)][s.Name] != i {
			continue
		}
		service := s.Path
		switch {
		case s.Name == "graph_order" && strings.Contains(s.Value, "="):
		case s.Name == "sum" || s.Name == "stack":
			var ok bool
			if service, _, ok = cutLast(s.Path, "."); !ok {
				continue
			}
		default:
			continue
		}
		key := level(s.Group, s.Host, service)
		if seen[key] {
			continue
		}
		seen[key] = true
		v := Virtual{Group: s.Group, Host: s.Host, Service: m.service(s.Group, s.Host, service), File: s.File, Line: s.Line}
		v.Curves = m.curves(v.Group, v.Host, v.Service)
		all = append(all, v)
	}
	return all
}

// curves are the curves of others that a service of a host draws.
func (m *MasterConf) curves(group, host string, s *Service) (all []VirtualCurve) {
	sources := 0
	add := func(c VirtualCurve) {
		if sources += len(c.Sources); len(all) < maxVirtualCurves && sources <= maxVirtualSources {
			all = append(all, c)
		}
	}
	order, _ := s.Get("graph_order")
	for item := range strings.FieldsSeq(order) {
		if name, path, ok := strings.Cut(strings.TrimPrefix(item, "-"), "="); ok && name != "" && path != "" {
			add(VirtualCurve{FieldName(name), Borrowed, []VirtualSource{m.source(group, host, s.Name, "", path)}})
		}
	}
	for i := range s.Fields {
		f := &s.Fields[i]
		c := VirtualCurve{Field: FieldName(f.Name), Kind: Stacked}
		paths, ok := f.Get("stack")
		if !ok {
			c.Kind = Summed
			if paths, ok = f.Get("sum"); !ok {
				continue
			}
		}
		for item := range strings.FieldsSeq(paths) {
			name, path, named := strings.Cut(item, "=")
			if !named {
				name, path = "", item
			}
			if c.Kind == Summed {
				name = ""
			}
			c.Sources = append(c.Sources, m.source(group, host, s.Name, name, path))
		}
		add(c)
	}
	return all
}

// service is what munin.conf says of one service and its fields.
func (m *MasterConf) service(group, host, name string) *Service {
	service := &Service{Name: name}
	fields := map[string]int{}
	for _, i := range m.of[level(group, host, name)] {
		s := m.Settings[i]
		if m.levels[level(group, host, s.Path)][s.Name] != i {
			continue
		}
		if s.Path == name {
			service.Attrs = append(service.Attrs, s.Attr)
			continue
		}
		field := s.Path[len(name)+1:]
		at, ok := fields[field]
		if !ok {
			at = len(service.Fields)
			fields[field] = at
			service.Fields = append(service.Fields, Field{Name: field})
		}
		service.Fields[at].Attrs = append(service.Fields[at].Attrs, s.Attr)
	}
	return service
}

// source finds the curve that path names for a service: "GROUP;HOST:service.field", "HOST:service.field" of a host of the
// same group or one above, "service.field" of the same host, "field" of the same service.
func (m *MasterConf) source(ofGroup, ofHost, service, name, path string) VirtualSource {
	from := VirtualSource{Name: name, Series: tocsin.Series{Group: ofGroup, Node: ofHost, Service: service}}
	left, right, hosted := strings.Cut(path, ":")
	if !hosted {
		right = path
		if group, rest, ok := cutLast(path, ";"); ok { // "GROUP;HOST.service.field", of a host without a dot
			var host string
			host, right, _ = strings.Cut(rest, ".")
			left, hosted = group+";"+host, true
		}
	}
	if hosted {
		group, host, grouped := cutLast(left, ";")
		if !grouped {
			group, host = "", left
		}
		from.Group, from.Node = m.nearest(ofGroup, group, host), host
	}
	if before, field, ok := cutLast(right, "."); ok {
		from.Service, from.Field = before, field
	} else {
		from.Field = right
	}
	return from
}

// nearest is the group of a host that is named within another group: group below the nearest level that has such a host.
// Of a host that munin.conf does not name it is group itself or, without one, the group that it is named in.
func (m *MasterConf) nearest(within, group, host string) string {
	first := within
	for {
		full := strings.Trim(within+";"+group, ";")
		if m.Host(full, host) != nil {
			return full
		}
		if within == "" {
			break
		}
		var ok bool
		if within, _, ok = cutLast(within, ";"); !ok {
			within = ""
		}
	}
	if group == "" {
		return first
	}
	return group
}

// inherited are the words of a graph that may be said of all services of a host, of a group or of everything.
var inherited = []string{"graph", "graph_args", "graph_height", "graph_period", "graph_printf", "graph_scale", "graph_width"}

// Of is what holds of a service of a host: what munin.conf says goes before what the node said, and the curves that it
// draws of others are fields of it. sources are the curves of which such a field is the sum; nil if all fields are the
// service's own. s is not changed, and returned as it is if there is nothing to add. m may be nil: no munin.conf was read.
func (m *MasterConf) Of(group, host string, s *Service) (whole *Service, sources map[string][]tocsin.Series) {
	whole = m.overlaid(group, host, s)
	curves := m.curves(group, host, whole)
	if whole == s && curves == nil {
		return s, nil
	}
	if whole == s {
		whole = s.clone()
	}
	sources = map[string][]tocsin.Series{}
	stacked := map[string][]string{} // what stands for a field
	for i := range curves {
		whole.draw(&curves[i], sources, stacked)
	}
	// A field that munin.conf alone has words for, and no source, has no values.
	own := make(map[string]bool, len(s.Fields))
	for i := range s.Fields {
		own[s.Fields[i].Name] = true
	}
	whole.Fields = slices.DeleteFunc(whole.Fields, func(f Field) bool { return !own[f.Name] && sources[f.Name] == nil })
	if len(curves) > 0 {
		whole.reorder(stacked)
	}
	if len(sources) == 0 {
		sources = nil
	}
	return whole, sources
}

// overlaid is s with what munin.conf says of it; s itself where that is nothing.
func (m *MasterConf) overlaid(group, host string, s *Service) *Service {
	if m == nil {
		return s
	}
	said := m.service(group, host, s.Name)
	for _, name := range inherited {
		if _, ok := s.Get(name); ok {
			continue
		}
		if _, ok := said.Get(name); ok {
			continue
		}
		if v, ok := m.Get(group, host, s.Name, name); ok {
			said.Attrs = append(said.Attrs, v.Attr)
		}
	}
	if len(said.Attrs) == 0 && len(said.Fields) == 0 {
		return s
	}
	whole := s.clone()
	for _, a := range said.Attrs {
		whole.set(a)
	}
	for _, f := range said.Fields {
		at := whole.field(f.Name)
		at.Attrs = append(at.Attrs, f.Attrs...) // the last of a name counts
	}
	return whole
}

// clone is a copy whose attributes and fields may be changed.
func (s *Service) clone() *Service {
	c := &Service{Name: s.Name, Host: s.Host, Attrs: slices.Clone(s.Attrs), Fields: slices.Clone(s.Fields)}
	for i := range c.Fields {
		c.Fields[i].Attrs = slices.Clip(c.Fields[i].Attrs) // what is appended goes elsewhere
	}
	return c
}

// set sets an attribute of the graph.
func (s *Service) set(a Attr) {
	if i := slices.IndexFunc(s.Attrs, func(o Attr) bool { return o.Name == a.Name }); i >= 0 {
		s.Attrs[i] = a
		return
	}
	s.Attrs = append(s.Attrs, a)
}

// field is the field of that name, which is made where there is none.
func (s *Service) field(name string) *Field {
	if f := s.Field(name); f != nil {
		return f
	}
	s.Fields = append(s.Fields, Field{Name: name})
	return &s.Fields[len(s.Fields)-1]
}

// without sets an attribute of a field that has none of that name.
func (f *Field) without(name, value string) {
	if _, ok := f.Get(name); !ok && value != "" {
		f.Attrs = append(f.Attrs, Attr{name, value})
	}
}

// draw adds the fields of one virtual curve, as munin-graph does: a stack becomes a field for each of its sources.
func (s *Service) draw(c *VirtualCurve, sources map[string][]tocsin.Series, stacked map[string][]string) {
	if c.Kind != Stacked {
		f := s.field(c.Field)
		if c.Kind == Borrowed {
			f.without("label", c.Field)
		}
		for _, from := range c.Sources {
			sources[c.Field] = append(sources[c.Field], from.Series)
		}
		return
	}
	var whole Field
	at := slices.IndexFunc(s.Fields, func(f Field) bool { return f.Name == c.Field })
	if at >= 0 {
		whole = s.Fields[at]
		s.Fields = slices.Delete(s.Fields, at, at+1)
	}
	stacked[c.Field] = []string{}
	draw, _ := whole.Get("draw")
	for i, from := range c.Sources {
		name := FieldName(from.Name)
		if from.Name == "" {
			name = FieldName(from.Field)
		}
		f := s.field(name)
		f.without("label", name)
		if i > 0 {
			draw = "STACK"
		}
		f.without("draw", draw)
		if cdef, ok := whole.Get("cdef"); ok {
			f.without("cdef", renamed(cdef, c.Field, name))
		}
		sources[name] = []tocsin.Series{from.Series}
		stacked[c.Field] = append(stacked[c.Field], name)
	}
}

// renamed is a cdef in which a field has another name.
func renamed(cdef, from, to string) string {
	words := strings.Split(cdef, ",")
	for i, w := range words {
		if w == from {
			words[i] = to
		}
	}
	return strings.Join(words, ",")
}

// reorder makes graph_order a list of fields alone.
func (s *Service) reorder(stacked map[string][]string) {
	order, ok := s.Get("graph_order")
	if !ok {
		return
	}
	var names []string
	for item := range strings.FieldsSeq(order) {
		name, _, borrowed := strings.Cut(item, "=")
		if borrowed {
			bare := strings.TrimPrefix(name, "-") // what stands behind it is not drawn
			name = name[:len(name)-len(bare)] + FieldName(bare)
		} else if parts, ok := stacked[name]; ok {
			names = append(names, parts...)
			continue
		}
		names = append(names, name)
	}
	s.set(Attr{"graph_order", strings.Join(names, " ")})
}
