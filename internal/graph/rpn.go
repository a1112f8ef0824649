package graph

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Bounds of a cdef. Munin's longest in the wild has 60 words.
const (
	maxWords = 1000
	maxDepth = 1000
)

// rpn is a calculation in rrdtool's reverse Polish notation (rrdgraph_rpn(3)), ready to be worked out.
type rpn struct {
	ops  []op
	cost int64 // of one step, in what adding two numbers costs
}

type op struct {
	do   func(m *machine, o *op) // takes from the stack and puts on it
	need int                     // how many values it takes
	grow int                     // by how many the stack is longer afterwards
	num  float64
	name string // of a field
	at   int    // its index in the calculation
}

// machine works one calculation out, step by step.
type machine struct {
	stack  []float64
	values func(name string) []float64
	i      int     // the step
	first  int64   // Unix seconds at which step 0 ends
	step   float64 // seconds
	zone   *time.Location
	last   float64   // the result of the step before
	sums   []running // of TREND, by op
}

// running is the sum of the known values of the last steps.
type running struct {
	sum   float64
	known int
}

// parseRPN reads a calculation. known says which names are fields.
func parseRPN(text string, known func(name string) bool) (*rpn, error) {
	words := strings.Split(text, ",")
	if len(words) > maxWords {
		return nil, fmt.Errorf("cdef has %d words; %d are understood", len(words), maxWords)
	}
	r := &rpn{}
	depth := 0
	for i, word := range words {
		word = strings.TrimSpace(word)
		o, err := parseWord(word, known)
		if err != nil {
			return nil, err
		}
		o.at = i
		if word == "TREND" || word == "TRENDNAN" {
			if i < 2 || r.ops[i-2].name == "" || r.ops[i-2].need != 0 || r.ops[i-1].name != "" || r.ops[i-1].need != 0 {
				return nil, fmt.Errorf("cdef: %s stands behind a field and a number of seconds", word)
			}
			o.name, o.num = r.ops[i-2].name, r.ops[i-1].num
		}
		if n, ok := countBefore(word, r.ops); ok {
			if n < 1 || n > maxDepth {
				return nil, fmt.Errorf("cdef: %s stands behind a number of values", word)
			}
			o.num, o.need = float64(n), n+1
			if o.grow = -1; word == "AVG" {
				o.grow = -n
			}
		}
		if depth < o.need {
			return nil, fmt.Errorf("cdef: too few values before %.40q", word)
		}
		if depth += o.grow; depth > maxDepth {
			return nil, fmt.Errorf("cdef needs more than %d values at once", maxDepth)
		}
		r.ops = append(r.ops, o)
		r.cost += o.cost(word)
	}
	if depth != 1 {
		return nil, fmt.Errorf("cdef leaves %d values where one is the result", depth)
	}
	return r, nil
}

// cost is what an operator costs, about.
func (o *op) cost(word string) int64 {
	switch {
	case word == "SORT":
		return 10 * int64(o.need)
	case word == "AVG" || word == "REV":
		return int64(o.need)
	case o.name != "":
		return 10
	}
	return 1
}

// countBefore is how many values an operator takes whose number of values stands before it.
func countBefore(word string, before []op) (n int, ok bool) {
	if word != "AVG" && word != "SORT" && word != "REV" {
		return 0, false
	}
	if len(before) == 0 || before[len(before)-1].need != 0 || before[len(before)-1].name != "" {
		return 0, true
	}
	return int(max(0, min(before[len(before)-1].num, maxDepth+1))), true
}

func parseWord(word string, known func(string) bool) (op, error) {
	if known(word) {
		return op{do: load, grow: 1, name: word}, nil
	}
	if o, ok := operators[word]; ok {
		return o, nil
	}
	if name, ok := strings.CutPrefix(word, "PREV("); ok && strings.HasSuffix(name, ")") && known(name[:len(name)-1]) {
		return op{do: loadBefore, grow: 1, name: name[:len(name)-1]}, nil
	}
	n, err := strconv.ParseFloat(word, 64)
	if err != nil || strings.ContainsAny(word, "_xXpPnN") { // what Go reads and rrdtool does not
		return op{}, fmt.Errorf("cdef: %.40q is no field, number or operator", word)
	}
	return op{do: literal, grow: 1, num: n}, nil
}

// run works the calculation out for n steps. values is what a field is at each step.
func (r *rpn) run(n int, m machine) []float64 {
	out := make([]float64, n)
	m.stack = make([]float64, 0, 16)
	m.sums = make([]running, len(r.ops))
	m.last = math.NaN()
	for i := range out {
		m.i, m.stack = i, m.stack[:0]
		for j := range r.ops {
			r.ops[j].do(&m, &r.ops[j])
		}
		m.last = m.stack[0]
		out[i] = m.last
	}
	return out
}

func (m *machine) push(v float64) { m.stack = append(m.stack, v) }

func (m *machine) pop() float64 {
	v := m.stack[len(m.stack)-1]
	m.stack = m.stack[:len(m.stack)-1]
	return v
}

func (m *machine) time() float64 { return float64(m.first) + float64(m.i)*m.step }

func literal(m *machine, o *op) { m.push(o.num) }
func load(m *machine, o *op)    { m.push(m.values(o.name)[m.i]) }

func loadBefore(m *machine, o *op) {
	if m.i == 0 {
		m.push(math.NaN())
		return
	}
	m.push(m.values(o.name)[m.i-1])
}

// one is an operator that makes a value of a value.
func one(f func(a float64) float64) op {
	return op{need: 1, do: func(m *machine, _ *op) { m.push(f(m.pop())) }}
}

// two is an operator that makes a value of two.
func two(f func(a, b float64) float64) op {
	return op{need: 2, grow: -1, do: func(m *machine, _ *op) {
		b := m.pop()
		m.push(f(m.pop(), b))
	}}
}

// compared is 1 or 0, and unknown where one of the two is.
func compared(f func(a, b float64) bool) op {
	return two(func(a, b float64) float64 {
		switch {
		case math.IsNaN(a) || math.IsNaN(b):
			return math.NaN()
		case f(a, b):
			return 1
		}
		return 0
	})
}

// tolerant is an operator to which something and unknown are something.
func tolerant(f func(a, b float64) float64) op {
	return two(func(a, b float64) float64 {
		switch {
		case math.IsNaN(a):
			return b
		case math.IsNaN(b):
			return a
		}
		return f(a, b)
	})
}

func constant(f func(m *machine) float64) op {
	return op{grow: 1, do: func(m *machine, _ *op) { m.push(f(m)) }}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

var operators = map[string]op{
	"+":       two(func(a, b float64) float64 { return a + b }),
	"-":       two(func(a, b float64) float64 { return a - b }),
	"*":       two(func(a, b float64) float64 { return a * b }),
	"/":       two(func(a, b float64) float64 { return a / b }),
	"%":       two(math.Mod),
	"POW":     two(math.Pow),
	"ATAN2":   two(math.Atan2),
	"MIN":     two(func(a, b float64) float64 { return min(a, b) }),
	"MAX":     two(func(a, b float64) float64 { return max(a, b) }),
	"ADDNAN":  tolerant(func(a, b float64) float64 { return a + b }),
	"MINNAN":  tolerant(math.Min),
	"MAXNAN":  tolerant(math.Max),
	"LT":      compared(func(a, b float64) bool { return a < b }),
	"LE":      compared(func(a, b float64) bool { return a <= b }),
	"GT":      compared(func(a, b float64) bool { return a > b }),
	"GE":      compared(func(a, b float64) bool { return a >= b }),
	"EQ":      compared(func(a, b float64) bool { return a == b }),
	"NE":      compared(func(a, b float64) bool { return a != b }),
	"UN":      one(func(a float64) float64 { return truth(math.IsNaN(a)) }),
	"ISINF":   one(func(a float64) float64 { return truth(math.IsInf(a, 0)) }),
	"ABS":     one(math.Abs),
	"LOG":     one(math.Log),
	"EXP":     one(math.Exp),
	"SQRT":    one(math.Sqrt),
	"FLOOR":   one(math.Floor),
	"CEIL":    one(math.Ceil),
	"SIN":     one(math.Sin),
	"COS":     one(math.Cos),
	"ATAN":    one(math.Atan),
	"DEG2RAD": one(func(a float64) float64 { return a * 0.0174532952 }), // rrdtool's own constants
	"RAD2DEG": one(func(a float64) float64 { return a * 57.29577951 }),

	"UNKN":      constant(func(*machine) float64 { return math.NaN() }),
	"INF":       constant(func(*machine) float64 { return math.Inf(1) }),
	"NEGINF":    constant(func(*machine) float64 { return math.Inf(-1) }),
	"PREV":      constant(func(m *machine) float64 { return m.last }),
	"COUNT":     constant(func(m *machine) float64 { return float64(m.i + 1) }),
	"TIME":      constant((*machine).time),
	"STEPWIDTH": constant(func(m *machine) float64 { return m.step }),
	"LTIME": constant(func(m *machine) float64 {
		_, offset := time.Unix(int64(m.time()), 0).In(m.zone).Zone()
		return m.time() + float64(offset)
	}),

	"DUP":   {need: 1, grow: 1, do: func(m *machine, _ *op) { m.push(m.stack[len(m.stack)-1]) }},
	"POP":   {need: 1, grow: -1, do: func(m *machine, _ *op) { m.pop() }},
	"EXC":   {need: 2, do: exchange},
	"EXCH":  {need: 2, do: exchange}, // as plugins' authors remember it
	"IF":    {need: 3, grow: -2, do: choose},
	"LIMIT": {need: 3, grow: -2, do: limit},

	"TREND":    {need: 2, grow: -1, do: func(m *machine, o *op) { m.trend(o, false) }},
	"TRENDNAN": {need: 2, grow: -1, do: func(m *machine, o *op) { m.trend(o, true) }},

	"AVG": {do: func(m *machine, o *op) {
		m.pop()
		sum, n := 0.0, 0.0
		for range int(o.num) {
			if v := m.pop(); !math.IsNaN(v) {
				sum, n = sum+v, n+1
			}
		}
		m.push(sum / n)
	}},
	"SORT": {do: func(m *machine, o *op) { m.pop(); slices.Sort(m.stack[len(m.stack)-int(o.num):]) }},
	"REV":  {do: func(m *machine, o *op) { m.pop(); slices.Reverse(m.stack[len(m.stack)-int(o.num):]) }},
}

func exchange(m *machine, _ *op) {
	b, a := m.pop(), m.pop()
	m.push(b)
	m.push(a)
}

func choose(m *machine, _ *op) {
	no, yes, is := m.pop(), m.pop(), m.pop()
	if math.IsNaN(is) || is == 0 {
		yes = no
	}
	m.push(yes)
}

func limit(m *machine, _ *op) {
	most, least, v := m.pop(), m.pop(), m.pop()
	if !(v >= least && v <= most) { // unknown where one of the three is
		v = math.NaN()
	}
	m.push(v)
}

// trend is the mean of a field over the last o.num seconds, unknown until so much has passed. With tolerant, what is
// unknown does not count; otherwise the mean is unknown too.
func (m *machine) trend(o *op, tolerant bool) {
	m.pop()
	m.pop()
	values, r := m.values(o.name), &m.sums[o.at]
	window := max(1, math.Ceil(o.num/m.step))
	add := func(v, by float64) {
		if !math.IsNaN(v) && !math.IsInf(v, 0) {
			r.sum, r.known = r.sum+by*v, r.known+int(by)
		}
	}
	add(values[m.i], 1)
	if i := float64(m.i) - window; i >= 0 {
		add(values[int(i)], -1)
	}
	switch {
	case float64(m.i+1) < window, r.known == 0, !tolerant && float64(r.known) < window:
		m.push(math.NaN())
	default:
		m.push(r.sum / float64(r.known))
	}
}
