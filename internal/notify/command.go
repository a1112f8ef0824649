package notify

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"tocsin"
)

// commander has a contact's command run, with Munin's text on its standard input.
type commander struct {
	n *Notifier
	p *person
}

func (c *commander) send(ctx context.Context, l *letter, say func(string)) (said string, err error) {
	if c.n.o.Command == nil {
		return "", errors.New("no command can be run here")
	}
	var text string
	values := map[string]string{}
	if l.kind == kindTest || l.change == nil {
		text = l.title + "\n\n" + l.text
	} else {
		e := c.n.event(l.change)
		values = e.vars
		if text, err = expand(firstOf(c.p.Template, usualText), e); err != nil {
			return "", permanent{err}
		}
	}
	say("asking the runner for the command of " + c.p.Name)
	return c.n.o.Command(ctx, c.p.Name, text, values)
}

// event is what Munin's language knows of a message.
type event struct {
	vars   map[string]string   // of the service
	lists  map[string][]string // of fields
	fields map[string]map[string]string
}

// usualText is what Munin says where a contact has no text (Munin::Master::LimitsOld).
const usualText = `${var:group} :: ${var:host} :: ${var:graph_title}
${if:cfields 	CRITICALs:${loop<,>:cfields  ${var:label} is ${var:value} (outside range [${var:crange}])${if:extinfo : ${var:extinfo}}}.
}${if:wfields 	WARNINGs:${loop<,>:wfields  ${var:label} is ${var:value} (outside range [${var:wrange}])${if:extinfo : ${var:extinfo}}}.
}${if:ufields 	UNKNOWNs:${loop<,>:ufields  ${var:label} is ${var:value}${if:extinfo : ${var:extinfo}}}.
}${if:fofields 	OKs:${loop<,>:fofields  ${var:label} is ${var:value}${if:extinfo : ${var:extinfo}}}.
}
`

// event gives an incident Munin's names. What Munin tells of a service, this tells of the one field that the incident is
// about; one about a server or a group has a field of its rule's name.
func (n *Notifier) event(c *change) *event {
	in := c.incident()
	field := firstOf(c.Field, c.Rule)
	title, category := firstOf(c.Service, c.Rule), ""
	if n.o.Title != nil && c.Service != "" {
		if t, cat := n.o.Title(in.Series); t != "" {
			title, category = t, cat
		}
	}
	value := "unknown"
	if c.Value != nil {
		value = strconv.FormatFloat(*c.Value, 'f', 2, 64)
	}
	extra := c.Extra
	if len(c.Members) > 0 {
		extra = strings.TrimSpace(strings.Join(c.Members, " ") + " " + extra)
	}
	e := &event{
		vars: map[string]string{
			"group": strings.ReplaceAll(c.Group, ";", "-"), "host": firstOf(c.Alias, firstOf(c.Server, c.Group)), "graph_title": title,
			"graph_category": category, "plugin": c.Service, "fields": field, "incident": strconv.FormatInt(c.ID, 10), "turn": c.Turn, "rule": c.Rule,
		},
		fields: map[string]map[string]string{field: {"label": firstOf(c.Label, field), "value": value, "extinfo": extra, "wrange": c.Limit, "crange": c.Limit}},
		lists:  map[string][]string{"fields": {field}},
	}
	list, worst, id := "fofields", "OK", "0"
	switch in.Level {
	case tocsin.Unknown:
		list, worst, id = "ufields", "UNKNOWN", "3"
	case tocsin.Warning:
		list, worst, id = "wfields", "WARNING", "1"
	case tocsin.Critical:
		list, worst, id = "cfields", "CRITICAL", "2"
	}
	e.vars["worst"], e.vars["worstid"] = worst, id
	e.lists[list] = []string{field}
	if list == "fofields" {
		e.lists["ofields"] = []string{field}
	}
	for _, name := range []string{"cfields", "wfields", "ufields", "fofields", "ofields"} {
		e.vars[name] = strings.Join(e.lists[name], " ")
		e.vars["num"+name] = strconv.Itoa(len(e.lists[name]))
	}
	for name, v := range e.vars {
		e.vars[name] = tocsin.Printable(v)
	}
	for name, v := range e.fields[field] {
		e.fields[field][name] = tocsin.Printable(v)
	}
	return e
}

// Bounds of Munin's language: it is the administrator's, but nobody should wait for it.
const (
	maxTemplate = 16 << 10
	maxExpanded = 64 << 10
	maxNested   = 10
)

// expand writes a text in Munin's language: ${var:x}, ${if:x text}, ${if:!x text}, ${loop<sep>:list text}, ${loop:list text},
// ${strtrunc:n text}, nested; \n and \t stand for a line end and a tab. What is no such word stays as it is.
func expand(template string, e *event) (string, error) {
	if len(template) > maxTemplate {
		return "", fmt.Errorf("the text of the contact has more than %d bytes", maxTemplate)
	}
	template = strings.NewReplacer(`\n`, "\n", `\t`, "\t").Replace(template)
	x := expander{event: e, left: maxExpanded}
	x.write(template, "", 0)
	if x.left < 0 {
		return "", fmt.Errorf("the text of the contact becomes longer than %d bytes", maxExpanded)
	}
	return x.b.String(), nil
}

type expander struct {
	*event
	b    strings.Builder
	left int // bytes that may still be written
}

func (x *expander) put(s string) {
	if x.left -= len(s); x.left >= 0 {
		x.b.WriteString(s)
	}
}

// write expands text; field is that of the loop it stands in, "" outside.
func (x *expander) write(text, field string, depth int) {
	for text != "" && x.left >= 0 {
		i := strings.Index(text, "${")
		end := -1
		if i >= 0 && depth < maxNested {
			end = closing(text[i:])
		}
		if end < 0 {
			x.put(text)
			return
		}
		x.put(text[:i])
		if inner := text[i+2 : i+end]; !x.word(inner, field, depth+1) {
			x.put(text[i : i+end+1])
		}
		text = text[i+end+1:]
	}
}

// closing finds the brace that closes the one at the beginning of s, "${"; -1 if there is none.
func closing(s string) int {
	depth := 0
	for i := range len(s) {
		switch {
		case s[i] == '{' && i > 0 && s[i-1] == '$':
			depth++
		case s[i] == '}':
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return -1
}

// word expands what stands between braces.
func (x *expander) word(inner, field string, depth int) bool {
	name, rest, ok := strings.Cut(inner, ":")
	if !ok {
		return false
	}
	arg, text, _ := strings.Cut(rest, " ")
	switch {
	case name == "var":
		x.put(x.value(rest, field))
	case name == "if":
		wanted, not := strings.CutPrefix(arg, "!")
		if v := x.value(wanted, field); (v != "" && v != "0") != not {
			x.write(text, field, depth)
		}
	case name == "loop" || strings.HasPrefix(name, "loop<") && strings.HasSuffix(name, ">"):
		separator := strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(name, "loop"), "<"), ">")
		for i, f := range x.lists[arg] {
			if i > 0 {
				x.put(separator)
			}
			x.write(text, f, depth)
		}
	case name == "strtrunc":
		n, err := strconv.Atoi(arg)
		if err != nil || n < 0 {
			return false
		}
		part := expander{event: x.event, left: x.left}
		part.write(text, field, depth)
		all := []rune(part.b.String())
		x.put(string(all[:min(n, len(all))]))
	default:
		return false
	}
	return true
}

// value is that of the field, or of the service.
func (x *expander) value(name, field string) string {
	if v, ok := x.fields[field][name]; ok {
		return v
	}
	return x.vars[name]
}
