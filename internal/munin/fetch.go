package munin

import (
	"bytes"
	"math"
	"strconv"
)

// fetchLine is false if nothing after the line is to be read.
func (p *parser) fetchLine(line []byte) bool {
	if is, over := p.section(line); is {
		return !over
	}
	field, attr, rest, ok := fieldLine(line)
	switch {
	case !ok || attr != "value" && attr != "extinfo":
		p.problem("neither a value nor a comment: %s", quoted(line))
	case len(rest) == 0:
		p.problem("field %s: %s is empty", quoted(field), attr)
	case len(field) > maxName:
		p.problem("the name of field %s is too long", quoted(field))
	case attr == "value":
		p.value(field, bytes.Fields(rest)[0]) // what follows is ignored, in fetch only
	default:
		p.extinfo(field, plainText(rest))
	}
	return true
}

// extinfo takes the text on a field of the current service; the last one counts.
func (p *parser) extinfo(field, text string) {
	key := fieldKey{p.current, field}
	i, known := p.fields[key]
	switch {
	case known:
		p.a.Extinfo[i].Text = text
	case len(p.a.Extinfo) >= maxValues:
		p.problem("field %s: more than %d texts", quoted(field), maxValues)
	default:
		p.fields[key] = len(p.a.Extinfo)
		p.a.Extinfo = append(p.a.Extinfo, Extinfo{Service: p.a.Services[p.current].Name, Field: field, Text: text})
	}
}

// AppendValues appends the lines that give the values of s, as a plugin prints them: unknown as U, counts as whole numbers
// (rrdtool takes no other), with their time where they have one. Values of other services are left out; one whose Service
// is "" is taken for a value of s.
func AppendValues(dst []byte, s *Service, values []Value) []byte {
	for _, v := range values {
		if v.Service != "" && v.Service != s.Name {
			continue
		}
		t := Gauge
		if f := s.Field(v.Field); f != nil {
			t = f.Type()
		}
		dst = append(append(dst, FieldName(v.Field)...), ".value "...)
		if v.At > 0 {
			dst = append(strconv.AppendInt(dst, v.At, 10), ':')
		}
		dst = append(appendNumber(dst, v.V, t), '\n')
	}
	return dst
}

func appendNumber(dst []byte, v float64, t Type) []byte {
	size := math.Abs(v)
	switch {
	case math.IsNaN(v) || math.IsInf(v, 0):
		return append(dst, 'U')
	case t == Counter || t == Derive:
		if t == Counter && v < 0 || size > math.MaxUint64 {
			return append(dst, 'U')
		}
		return strconv.AppendFloat(dst, math.Round(v)+0, 'f', 0, 64)
	case size != 0 && (size < 1e-6 || size >= 1e15):
		return strconv.AppendFloat(dst, v, 'e', -1, 64)
	}
	return strconv.AppendFloat(dst, v, 'f', -1, 64)
}
