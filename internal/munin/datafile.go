package munin

import (
	"slices"
	"strings"
)

// Bounds of a datafile. A node of eighty plugins takes 5,000 lines and 300 KB.
const (
	maxDatafile     = 256 << 20
	maxDataServices = 1 << 20
	maxDepth        = 10 // words of a service with its parents, levels of groups
)

// Datafile is what a Munin master has learnt of its nodes: the file "datafile" in its dbdir.
type Datafile struct {
	Version  string // of the master
	Nodes    []DataNode
	Problems []Problem // lines that were not understood; the rest holds
}

// DataNode is one node of a datafile.
type DataNode struct {
	Group    string // levels are separated by ";"
	Name     string
	Services []*Service // as described, with the overrides of munin.conf where those are of an update run
}

// ReadDatafile reads the file at path.
func ReadDatafile(path string) (*Datafile, error) {
	data, err := readFile(path, maxDatafile)
	if err != nil {
		return nil, err
	}
	return ParseDatafile(path, data), nil
}

// ParseDatafile reads the text of a datafile; name is for messages.
//
// A line is "G1;G2;HOST:service.sub.field.attribute value". Whether a word is a child of a service or a field shows in
// what else is said of it: a service has a title or other attributes of a graph, or words below it.
func ParseDatafile(name string, text []byte) *Datafile {
	d := &Datafile{}
	trees := map[string]*dataTree{} // by group and node
	var order []*dataTree
	var wrong problems
	services, n := 0, 0
	for line := range strings.Lines(string(text)) {
		n++
		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			continue
		}
		path, value, _ := strings.Cut(line, " ")
		if n == 1 && path == "version" {
			d.Version = asUTF8(value)
			continue
		}
		group, node, words, why := splitPath(path)
		switch {
		case why != "":
			wrong.add(name, n, "%s", why)
			continue
		case node == "" || len(words) < 2:
			continue // of the master, a group or a node: munin.conf says it better
		case services >= maxDataServices:
			wrong.add(name, n, "more than %d services and fields; the rest is not read", maxDataServices)
			d.Problems = wrong
			return d
		}
		t := trees[group+":"+node]
		if t == nil {
			t = &dataTree{group: group, node: node}
			trees[group+":"+node] = t
			order = append(order, t)
		}
		services += t.root.set(words, unescape(value))
	}
	for _, t := range order {
		dn := DataNode{Group: t.group, Name: t.node}
		for _, w := range t.root.below {
			dn.Services = w.services(dn.Services, "")
		}
		d.Nodes = append(d.Nodes, dn)
	}
	d.Problems = wrong
	return d
}

// unescape undoes what a master does to a value before it writes it.
func unescape(value string) string {
	if strings.HasSuffix(value, `\\`) {
		value = value[:len(value)-1] // a line may not end in one
	}
	return asUTF8(strings.ReplaceAll(value, `\#`, "#"))
}

// splitPath takes "G1;G2;HOST:word.word.attribute" apart. why is not empty if it cannot be one.
func splitPath(path string) (group, node string, words []string, why string) {
	group, rest, grouped := cutLast(path, ";")
	if !grouped {
		group, rest = "", path
	}
	node, attr, hosted := strings.Cut(rest, ":")
	if !hosted {
		node, attr = "", rest
	}
	if hosted && !IsHostName(node) {
		return "", "", nil, "the name " + quoted(node) + " of a host may have letters, digits, - and . only"
	}
	words = strings.Split(attr, ".")
	switch {
	case slices.Contains(words, "") || grouped && slices.Contains(strings.Split(group, ";"), ""):
		return "", "", nil, "a name is missing in " + quoted(path)
	case len(words) > maxDepth || strings.Count(group, ";") >= maxDepth:
		return "", "", nil, quoted(path) + " is nested too deeply"
	}
	return asUTF8(group), node, words, ""
}

// dataTree is what a datafile says of one node.
type dataTree struct {
	group, node string
	root        dataWord
}

// dataWord is a service or a field, before it shows which.
type dataWord struct {
	name  string
	attrs []Attr
	below []*dataWord
	index map[string]*dataWord
}

// set puts an attribute in its place and tells how many words are new.
func (w *dataWord) set(words []string, value string) (added int) {
	for ; len(words) > 1; words = words[1:] {
		next := w.index[words[0]]
		if next == nil {
			next = &dataWord{name: asUTF8(words[0])}
			if w.index == nil {
				w.index = map[string]*dataWord{}
			}
			w.index[words[0]] = next
			w.below = append(w.below, next)
			added++
		}
		w = next
	}
	w.attrs = append(w.attrs, Attr{asUTF8(words[0]), value})
	return added
}

// isService says whether the word names a service and not a field.
func (w *dataWord) isService() bool {
	return len(w.below) > 0 || slices.ContainsFunc(w.attrs, func(a Attr) bool {
		return strings.HasPrefix(a.Name, "graph_") && a.Name != "graph_data_size" // which Munin copies to each field
	})
}

// services appends the service w stands for and its children.
func (w *dataWord) services(to []*Service, parent string) []*Service {
	s := &Service{Name: w.name, Attrs: w.attrs}
	if parent != "" {
		s.Name = parent + "." + w.name
	}
	to = append(to, s)
	for _, below := range w.below {
		if below.isService() {
			to = below.services(to, s.Name)
		} else {
			s.Fields = append(s.Fields, Field{Name: below.name, Attrs: below.attrs})
		}
	}
	return to
}

// cutLast cuts s around the last sep.
func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}
