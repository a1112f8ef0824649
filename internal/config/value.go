package config

import (
	"github.com/pelletier/go-toml/v2/unstable"
)

// value is what stands to the right of a "=", apart from the parser that read it.
type value struct {
	kind   kind
	at     int    // where it begins
	text   string // a text without its quotes; a number, boolean or date as written
	items  []value
	fields []field
}

// field is one key of an inline table.
type field struct {
	path  []string
	at    int
	value value
}

// kind is the sort of a value, in words for messages.
type kind string

const (
	text        kind = "a text"
	integer     kind = "a whole number"
	float       kind = "a number with a point"
	boolean     kind = "true or false"
	date        kind = "a date"
	list        kind = "a list"
	inlineTable kind = "a table"
)

var kinds = map[unstable.Kind]kind{
	unstable.String:        text,
	unstable.Integer:       integer,
	unstable.Float:         float,
	unstable.Bool:          boolean,
	unstable.LocalDate:     date,
	unstable.LocalTime:     date,
	unstable.LocalDateTime: date,
	unstable.DateTime:      date,
	unstable.Array:         list,
	unstable.InlineTable:   inlineTable,
}

// maxDepth is how deep values nest in any setting: a list of jails with lists of ports. What lies deeper is not looked at;
// it cannot be right, and the list that holds it is refused for what it is.
const maxDepth = 4

// value copies the value of a key out of the parser's tree.
func (r *reader) value(keyValue *unstable.Node, base, depth int) value {
	return r.convert(keyValue.Value(), r.valueOffset(keyValue, base), base, depth)
}

func (r *reader) convert(n *unstable.Node, at, base, depth int) value {
	v := value{kind: kinds[n.Kind], at: at, text: string(n.Data)}
	if n.Raw.Length > 0 {
		v.at = base + int(n.Raw.Offset)
	}
	if depth == maxDepth {
		return v
	}
	for it := n.Children(); it.Next(); {
		switch child := it.Node(); {
		case v.kind == inlineTable:
			path, keyAt := keyPath(child.Key(), base)
			v.fields = append(v.fields, field{path, keyAt, r.value(child, base, depth+1)})
		case v.kind == list:
			v.items = append(v.items, r.convert(child, at, base, depth+1)) // a list in a list: the parser tells no place
		}
	}
	return v
}

// valueOffset is where the value of a key begins: behind the key, the "=" and the blanks. The parser tells it for most
// kinds, but not for a list.
func (r *reader) valueOffset(keyValue *unstable.Node, base int) int {
	at := base
	for it := keyValue.Key(); it.Next(); {
		raw := it.Node().Raw
		at = base + int(raw.Offset+raw.Length)
	}
	for at < len(r.data)-1 && (r.data[at] == ' ' || r.data[at] == '\t' || r.data[at] == '=') {
		at++
	}
	return at
}
