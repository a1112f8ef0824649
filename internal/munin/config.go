package munin

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Bounds of one answer. What is over is left out and told.
const (
	maxText       = 4 << 20  // bytes
	maxLine       = 64 << 10 // bytes
	maxServices   = 2000
	maxFields     = 2000 // of one service
	maxAllFields  = 10000
	maxValues     = 10000
	maxGraphAttrs = 200
	maxFieldAttrs = 50
	maxProblems   = 100
	maxQuoted     = 80 // bytes of a stranger's text in a problem
)

// maxEpoch is the first second of the year 10000: what is later is no time.
const maxEpoch = 253402300800

// blank is what separates words (Perl's \s for bytes, less the ends of lines).
const blank = " \t\v\f"

// Answer is what a plugin or a node printed. Nothing in it is checked beyond names and numbers: texts are strangers'.
type Answer struct {
	Services []Service // of "config", the first of a plugin in front
	Values   []Value   // of "fetch", and of "config" where the plugin answers both at once ("dirtyconfig")
	Extinfo  []Extinfo // of "fetch"
	Problems []Problem // what was not understood or was too much, at most a hundred
}

// Extinfo is a text on a field's present state that came with its value; it takes the place of the attribute "extinfo".
type Extinfo struct {
	Service, Field, Text string
}

// Problem is something that was left out of what was read.
type Problem struct {
	File string // "" where it was no file
	Line int    // from 1; 0 if it is not one line
	Msg  string // in plain words; strangers' text in it is quoted and cut
}

func (p Problem) String() string {
	switch {
	case p.File != "" && p.Line > 0:
		return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.Msg)
	case p.File != "":
		return p.File + ": " + p.Msg
	case p.Line > 0:
		return fmt.Sprintf("line %d: %s", p.Line, p.Msg)
	}
	return p.Msg
}

// ParseConfig reads what a plugin printed when it was asked for "config", as Munin::Master::Node reads it: of a graph's
// attribute the first counts, of a field's the last; fields stand in the order of their labels. Values among them
// ("dirtyconfig") that name no time have that of the newest that does.
//
// It stops at a "multigraph" line whose name is wrong. A field without a label stays without; where Munin prints "No
// .label provided" that is told. "host_name" is in Service.Host, in lower case, and not among the attributes.
func ParseConfig(plugin string, text []byte) Answer {
	p := newParser(plugin, text)
	for line, ok := p.next(); ok; line, ok = p.next() {
		if !p.configLine(line) {
			break
		}
	}
	p.finishConfig()
	return p.answer()
}

// ParseFetch reads what a plugin printed when it was asked for "fetch". Of the values of a field only those count whose
// times rise; one that names no time is of now, and nothing after it counts.
func ParseFetch(plugin string, text []byte) Answer {
	p := newParser(plugin, text)
	for line, ok := p.next(); ok; line, ok = p.next() {
		if !p.fetchLine(line) {
			break
		}
	}
	p.a.Services = nil
	return p.answer()
}

type fieldKey struct {
	service int
	field   string
}

type parser struct {
	a        Answer
	rest     []byte
	line     int // number of the line that next gave
	ends     int // line ends before rest
	untold   int // problems beyond maxProblems
	services map[string]int
	fields   map[fieldKey]int // where a field stands in its service, or in a fetch its text in Extinfo
	all      int              // fields of all services
	current  int              // index of the service that lines belong to
	host     string
	labels   map[fieldKey]int // the order of labels
}

func newParser(plugin string, text []byte) *parser {
	p := &parser{services: map[string]int{}, fields: map[fieldKey]int{}, labels: map[fieldKey]int{}}
	if len(text) > maxText {
		p.problem("%d bytes: only the first %d are read", len(text), maxText)
		text = text[:maxText]
		text = text[:bytes.LastIndexByte(text, '\n')+1]
	}
	p.rest = text
	p.a.Services = []Service{{Name: ServiceName(plugin)}}
	p.services[p.a.Services[0].Name] = 0
	return p
}

// next is the next line that is neither empty nor a comment. Lines end as munin-node ends them: with any CR or LF.
func (p *parser) next() (line []byte, ok bool) {
	for len(p.rest) > 0 {
		i := bytes.IndexAny(p.rest, "\r\n")
		p.line = p.ends + 1
		if i < 0 {
			line, p.rest = p.rest, nil
		} else {
			if p.rest[i] == '\n' {
				p.ends++
			}
			line, p.rest = p.rest[:i], p.rest[i+1:]
		}
		switch {
		case len(line) == 0 || line[0] == '#':
		case len(line) > maxLine:
			p.problem("the line has %d bytes, more than %d", len(line), maxLine)
		default:
			return line, true
		}
	}
	return nil, false
}

// problem tells of the line that next gave last.
func (p *parser) problem(format string, args ...any) {
	if len(p.a.Problems) >= maxProblems-1 {
		p.untold++
		return
	}
	p.a.Problems = append(p.a.Problems, Problem{Line: p.line, Msg: fmt.Sprintf(format, args...)})
}

// quoted shows a stranger's text.
func quoted[T []byte | string](text T) string {
	if len(text) > maxQuoted {
		return strconv.Quote(string(text[:maxQuoted])) + "..."
	}
	return strconv.Quote(string(text))
}

// section begins the service of a "multigraph" line. ok is false if it is no such line, or one that ends the reading
// (over): so Munin does, and what follows may belong to anything.
func (p *parser) section(line []byte) (is, over bool) {
	if !isSection(line) {
		return false, false
	}
	name := strings.Trim(string(line[len(multigraph):]), blank)
	if name == "" {
		return false, false
	}
	if why := wrongService(name); why != "" {
		p.problem("multigraph: the name %s %s; nothing after this line is read", quoted(name), why)
		return true, true
	}
	if i, known := p.services[name]; known {
		p.current = i
		return true, false
	}
	if len(p.a.Services) > maxServices {
		p.problem("more than %d services; nothing after this line is read", maxServices)
		return true, true
	}
	p.current = len(p.a.Services)
	p.services[name] = p.current
	p.a.Services = append(p.a.Services, Service{Name: name})
	return true, false
}

const multigraph = "multigraph"

// isSection says whether line begins a section: "multigraph", and a name.
func isSection(line []byte) bool {
	return len(line) > len(multigraph) && string(line[:len(multigraph)]) == multigraph && strings.IndexByte(blank, line[len(multigraph)]) >= 0
}

// configLine is false if nothing after the line is to be read.
func (p *parser) configLine(line []byte) bool {
	if is, over := p.section(line); is {
		return !over
	}
	if end := bytes.IndexAny(line, blank+"."); end > 0 && line[end] != '.' {
		p.graphAttr(FieldName(string(line[:end])), line[end:])
		return true
	}
	field, attr, rest, ok := fieldLine(line)
	switch {
	case !ok:
		p.problem("neither an attribute nor a comment: %s", quoted(line))
	case len(rest) == 0: // as meminfo and others print it; Munin says nothing either
	case attr == "value":
		if p.field(field) != nil {
			p.value(field, rest)
		}
	default:
		p.fieldAttr(field, attr, rest)
	}
	return true
}

// fieldLine takes "field.attribute rest" apart; rest may be empty.
func fieldLine(line []byte) (field, attr string, rest []byte, ok bool) {
	name, rest, ok := bytes.Cut(line, []byte("."))
	if !ok || len(name) == 0 {
		return "", "", nil, false
	}
	end := bytes.IndexAny(rest, blank)
	if end < 0 {
		end = len(rest)
	}
	if end == 0 {
		return "", "", nil, false
	}
	return FieldName(string(name)), plainText(rest[:end]), bytes.Trim(rest[end:], blank), true
}

func (p *parser) graphAttr(name string, rest []byte) {
	rest = bytes.Trim(rest, blank)
	if len(rest) == 0 {
		p.problem("%s has no value", quoted(name))
		return
	}
	if name == "host_name" {
		p.hostName(rest)
		return
	}
	s := &p.a.Services[p.current]
	if _, known := s.Get(name); known {
		return
	}
	if len(s.Attrs) >= maxGraphAttrs || len(name) > maxName {
		p.problem("service %s: %s is left out: more than %d attributes, or its name is too long", quoted(s.Name), quoted(name), maxGraphAttrs)
		return
	}
	s.Attrs = append(s.Attrs, Attr{name, plainText(rest)})
}

// hostName takes the first that is given, as munin-node does.
func (p *parser) hostName(rest []byte) {
	word := bytes.Fields(rest)[0]
	name := strings.ToLower(string(word))
	switch {
	case !IsHostName(name):
		p.problem("host_name %s is no name of a node: letters, digits, - and . only", quoted(word))
	case p.host == "":
		p.host = name
	}
}

// field is the field of that name in the current service, made if it is new; nil if there are too many.
func (p *parser) field(name string) *Field {
	s := &p.a.Services[p.current]
	key := fieldKey{p.current, name}
	if i, known := p.fields[key]; known {
		return &s.Fields[i]
	}
	if len(s.Fields) >= maxFields || p.all >= maxAllFields || len(name) > maxName {
		p.problem("service %s: field %s is left out: more than %d fields (or %d in all), or its name is too long", quoted(s.Name), quoted(name), maxFields, maxAllFields)
		return nil
	}
	p.fields[key] = len(s.Fields)
	p.all++
	s.Fields = append(s.Fields, Field{Name: name})
	return &s.Fields[len(s.Fields)-1]
}

func (p *parser) fieldAttr(field, attr string, rest []byte) {
	f := p.field(field)
	if f == nil {
		return
	}
	if attr == "label" {
		if key := (fieldKey{p.current, field}); p.labels[key] == 0 {
			p.labels[key] = len(p.labels) + 1
		}
	}
	if i := slices.IndexFunc(f.Attrs, func(a Attr) bool { return a.Name == attr }); i >= 0 {
		f.Attrs[i].Value = plainText(rest)
		return
	}
	if len(f.Attrs) >= maxFieldAttrs || len(attr) > maxName {
		p.problem("field %s: %s is left out: more than %d attributes, or its name is too long", quoted(field), quoted(attr), maxFieldAttrs)
		return
	}
	f.Attrs = append(f.Attrs, Attr{attr, plainText(rest)})
}

// value takes a reading of the current service.
func (p *parser) value(field string, rest []byte) {
	at, v, ok := parseReading(rest)
	switch {
	case !ok:
		p.problem("field %s: %s is no number, U, or time:number", quoted(field), quoted(rest))
	case len(p.a.Values) >= maxValues:
		p.problem("field %s: more than %d values", quoted(field), maxValues)
	default:
		p.a.Values = append(p.a.Values, Value{Service: p.a.Services[p.current].Name, Field: field, At: at, V: v})
	}
}

// parseReading reads a number, or a time and a number ("1795361490:13"; "N:13" is of now).
func parseReading(text []byte) (at int64, v float64, ok bool) {
	if before, after, timed := bytes.Cut(text, []byte(":")); timed {
		text = after
		if string(before) != "N" {
			seconds, err := strconv.ParseUint(string(before), 10, 63)
			if err != nil || seconds == 0 || seconds >= maxEpoch {
				return 0, 0, false
			}
			at = int64(seconds)
		}
	}
	v, ok = ParseValue(string(text))
	return at, v, ok
}

func (p *parser) finishConfig() {
	p.line = 0
	for s := range p.a.Services {
		service := &p.a.Services[s]
		service.Host = p.host
		for i := range service.Fields {
			if f := &service.Fields[i]; p.labels[fieldKey{s, f.Name}] == 0 && service.described() {
				p.problem("service %s: field %s has no label", quoted(service.Name), quoted(f.Name))
			}
		}
		slices.SortStableFunc(service.Fields, func(a, b Field) int {
			return cmp.Compare(p.labelOrder(s, a.Name), p.labelOrder(s, b.Name))
		})
	}
	// A plugin that names all its services describes none of its own.
	if own := &p.a.Services[0]; len(own.Attrs) == 0 && len(own.Fields) == 0 {
		p.a.Services = p.a.Services[1:]
	}
	var newest int64
	for _, v := range p.a.Values {
		newest = max(newest, v.At)
	}
	for i := range p.a.Values {
		if p.a.Values[i].At == 0 {
			p.a.Values[i].At = newest
		}
	}
}

// answer ends the reading.
func (p *parser) answer() Answer {
	p.a.Values = rising(p.a.Values)
	if p.untold > 0 {
		p.a.Problems = append(p.a.Problems, Problem{Msg: fmt.Sprintf("and %d more", p.untold)})
	}
	return p.a
}

// described says whether more than values is known of s.
func (s *Service) described() bool {
	return len(s.Attrs) > 0 || slices.ContainsFunc(s.Fields, func(f Field) bool { return len(f.Attrs) > 0 })
}

// labelOrder is where the field's label stood; fields without come last.
func (p *parser) labelOrder(service int, field string) int {
	if n := p.labels[fieldKey{service, field}]; n > 0 {
		return n
	}
	return math.MaxInt
}

// rising leaves out the values that are not later than an earlier one of the same field, as a master does. One without a
// time is later than all.
func rising(values []Value) []Value {
	if len(values) < 2 {
		return values
	}
	type key struct{ service, field string }
	last := make(map[key]int64, len(values))
	return slices.DeleteFunc(values, func(v Value) bool {
		at := v.At
		if at == 0 {
			at = math.MaxInt64
		}
		k := key{v.Service, v.Field}
		if at <= last[k] {
			return true
		}
		last[k] = at
		return false
	})
}

// plainText is text as UTF-8; what is not is taken for Latin-1.
func plainText(text []byte) string {
	if utf8.Valid(text) {
		return string(text)
	}
	var b strings.Builder
	for _, c := range text {
		b.WriteRune(rune(c))
	}
	return b.String()
}

// AppendConfig appends the lines that describe s, as a plugin prints them. Line ends in values become spaces; an attribute
// that no plugin could print is left out.
func AppendConfig(dst []byte, s *Service) []byte {
	if IsHostName(s.Host) {
		dst = appendLine(dst, "", "host_name", s.Host)
	}
	for _, a := range s.Attrs {
		if a.Name == FieldName(a.Name) && a.Name != "multigraph" && a.Name != "host_name" {
			dst = appendLine(dst, "", a.Name, a.Value)
		}
	}
	for _, f := range s.Fields {
		for _, a := range f.Attrs {
			if a.Name != "value" && !strings.ContainsAny(a.Name, blank+"\r\n") {
				dst = appendLine(dst, FieldName(f.Name)+".", a.Name, a.Value)
			}
		}
	}
	return dst
}

func appendLine(dst []byte, prefix, name, value string) []byte {
	value = strings.Trim(value, blank+"\r\n")
	if name == "" || value == "" {
		return dst
	}
	dst = append(append(dst, prefix...), name...)
	dst = append(dst, ' ')
	for i := range len(value) {
		if c := value[i]; c == '\r' || c == '\n' {
			dst = append(dst, ' ')
		} else {
			dst = append(dst, c)
		}
	}
	return append(dst, '\n')
}
