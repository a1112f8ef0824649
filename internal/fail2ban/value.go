package fail2ban

import "strings"

// line is one line of a value and the place where it was written.
type line struct {
	text string
	pos  Pos
}

// value is what stands behind "key =": at least one line, the first possibly empty.
type value []line

// literal makes a value of text that stands at one place, or comes from no file at all.
func literal(text string, pos Pos) value {
	var v value
	for t := range strings.SplitSeq(text, "\n") {
		v = append(v, line{t, pos})
	}
	return v
}

func (v value) String() string {
	if len(v) == 1 {
		return v[0].text
	}
	var b strings.Builder
	for i, l := range v {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(l.text)
	}
	return b.String()
}

func (v value) size() int {
	n := len(v) - 1
	for _, l := range v {
		n += len(l.text)
	}
	return n
}

// splice puts repl in the place of l.text[from:to]. If that is the whole line, repl's lines keep their own places,
// otherwise they take the place of l.
func splice(l line, from, to int, repl value) value {
	if from == 0 && to == len(l.text) {
		return repl
	}
	if len(repl) == 1 {
		return value{{l.text[:from] + repl[0].text + l.text[to:], l.pos}}
	}
	out := make(value, len(repl))
	for i, r := range repl {
		out[i] = line{r.text, l.pos}
	}
	out[0].text = l.text[:from] + out[0].text
	out[len(out)-1].text += l.text[to:]
	return out
}

// dict is options with an order, that in which they were first set.
type dict struct {
	keys []string
	m    options
}

func newDict() *dict { return &dict{m: options{}} }

// dictAt is what stands in the brackets behind a name, all of it at one place; the last of several values for one option
// holds.
func dictAt(given []pair, pos Pos) *dict {
	d := newDict()
	for _, p := range given {
		d.set(p.key, literal(p.value, pos))
	}
	return d
}

func (d *dict) get(key string) (value, bool) {
	v, ok := d.m[key]
	return v, ok
}

func (d *dict) set(key string, v value) {
	if _, ok := d.m[key]; !ok {
		d.keys = append(d.keys, key)
	}
	d.m[key] = v
}

// with is d overlaid by over; d stays as it is.
func (d *dict) with(over *dict) *dict {
	out := newDict()
	for _, from := range []*dict{d, over} {
		for _, k := range from.keys {
			out.set(k, from.m[k])
		}
	}
	return out
}

// lower is d with its names in lower case, as references look for them.
func (d *dict) lower() options {
	out := options{}
	for _, k := range d.keys {
		out[strings.ToLower(k)] = d.m[k]
	}
	return out
}
