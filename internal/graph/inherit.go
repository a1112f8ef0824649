package graph

import (
	"slices"

	"tocsin/internal/munin"
)

// inherited are the attributes of a graph that its children have too, where they say nothing themselves.
var inherited = []string{
	"graph_args", "graph_vlabel", "graph_vtitle", "graph_scale", "graph_noscale", "graph_period", "graph_printf", "graph_total", "graph_width", "graph_height", "graph",
}

// Inherit is a service with what it inherits of its parents, the nearest first: as munin-graph sees the children of a
// multigraph plugin. s is not changed.
func Inherit(s *munin.Service, parents ...*munin.Service) *munin.Service {
	whole := s
	for _, p := range parents {
		for _, name := range inherited {
			v, ok := p.Get(name)
			if _, has := whole.Get(name); !ok || has {
				continue
			}
			if whole == s {
				whole = &munin.Service{Name: s.Name, Host: s.Host, Attrs: slices.Clone(s.Attrs), Fields: s.Fields}
			}
			whole.Attrs = append(whole.Attrs, munin.Attr{Name: name, Value: v})
		}
	}
	return whole
}
