package fail2ban

import (
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
)

// The bounds of an expression. fail2ban hands these texts to Python's eval, where 9**9**9 is the end of the server.
const (
	maxExpr      = 4096 // bytes of one expression
	maxExprDepth = 50   // brackets and operators inside each other
	maxExprBits  = 1024 // of a whole number: what a float can still take
)

// An exprError is a mistake in an expression, or in working it out.
type exprError struct {
	offset int // in bytes, of the place in the text
	msg    string
}

func (e *exprError) Error() string { return fmt.Sprintf("%s, at column %d", e.msg, e.offset+1) }

// number is a Python number: a whole one of any size if i is set, a float otherwise. Python's truth values are 0 and 1.
type number struct {
	i *big.Int
	f float64
}

func whole(i int64) number { return number{i: big.NewInt(i)} }

func truth(b bool) number {
	if b {
		return whole(1)
	}
	return whole(0)
}

func (n number) float() float64 {
	if n.i == nil {
		return n.f
	}
	f, _ := new(big.Float).SetInt(n.i).Float64()
	return f
}

func (n number) isTrue() bool {
	if n.i == nil {
		return n.f != 0
	}
	return n.i.Sign() != 0
}

func (n number) compare(m number) int {
	if n.i != nil && m.i != nil {
		return n.i.Cmp(m.i)
	}
	a, b := n.float(), m.float()
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// An expression works out to a number, given the numbers that its names stand for.
type expression func(vars map[string]number) (number, error)

// parseExpr reads the part of Python's expressions that settings use: numbers, the names in vars, + - * / // % ** << >>,
// comparisons, and or not, x if c else y, brackets, and calls of float, int, round, abs, min, max, pow and of the
// functions of math. Errors are of type *exprError.
func parseExpr(text string, vars ...string) (expression, error) {
	if len(text) > maxExpr {
		return nil, &exprError{0, fmt.Sprintf("an expression of more than %d bytes", maxExpr)}
	}
	tokens, err := lexExpr(text)
	if err != nil {
		return nil, err
	}
	p := &exprParser{tokens: tokens, vars: vars}
	e, err := p.ternary()
	if err != nil {
		return nil, err
	}
	if t := p.peek(); t.text != "" {
		return nil, &exprError{t.offset, fmt.Sprintf("%q is not expected here", t.text)}
	}
	return e, nil
}

// evalExpr works out an expression without names.
func evalExpr(text string) (number, error) {
	e, err := parseExpr(text)
	if err != nil {
		return number{}, err
	}
	return e(nil)
}

// exprToken is a number, a (dotted) name or an operator; at the end text is empty.
type exprToken struct {
	text   string
	offset int
}

func lexExpr(text string) ([]exprToken, error) {
	var tokens []exprToken
	for i := 0; i < len(text); {
		c, start := text[i], i
		switch {
		case c == ' ' || c == '\t':
			i++
			continue
		case isExprWord(c) || c == '.':
			i = numberOrName(text, i)
		default:
			i += operatorLen(text[i:])
			if i == start {
				return nil, &exprError{start, fmt.Sprintf("%.1q has no meaning here", text[start:])}
			}
		}
		tokens = append(tokens, exprToken{text[start:i], start})
	}
	return append(tokens, exprToken{"", len(text)}), nil
}

// numberOrName finds the end of the number or name that starts at i. 1e-5 is one number.
func numberOrName(text string, i int) int {
	digits := isDigit(text[i]) || text[i] == '.'
	start := i
	for i < len(text) && (isExprWord(text[i]) || text[i] == '.') {
		i++
		exponent := digits && (text[i-1] == 'e' || text[i-1] == 'E') && i-1 > start
		if exponent && i+1 < len(text) && (text[i] == '-' || text[i] == '+') && isDigit(text[i+1]) {
			i++
		}
	}
	return i
}

func operatorLen(s string) int {
	for _, op := range []string{"**", "//", "<<", ">>", "<=", ">=", "==", "!="} {
		if strings.HasPrefix(s, op) {
			return len(op)
		}
	}
	if strings.IndexByte("+-*/%<>(),", s[0]) >= 0 {
		return 1
	}
	return 0
}

func isExprWord(c byte) bool {
	return isDigit(c) || c == '_' || 'a' <= c|0x20 && c|0x20 <= 'z'
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// exprParser goes down Python's levels of precedence, the loosest first.
type exprParser struct {
	tokens []exprToken
	vars   []string
	depth  int
}

func (p *exprParser) peek() exprToken { return p.tokens[0] }

func (p *exprParser) next() exprToken {
	t := p.tokens[0]
	if t.text != "" {
		p.tokens = p.tokens[1:]
	}
	return t
}

func (p *exprParser) accept(text string) bool {
	if p.peek().text != text {
		return false
	}
	p.next()
	return true
}

func (p *exprParser) expect(text string) error {
	if t := p.peek(); !p.accept(text) {
		return &exprError{t.offset, fmt.Sprintf("%q is missing", text)}
	}
	return nil
}

func (p *exprParser) ternary() (expression, error) {
	p.depth++
	defer func() { p.depth-- }()
	if p.depth > maxExprDepth {
		return nil, &exprError{p.peek().offset, fmt.Sprintf("more than %d levels inside each other", maxExprDepth)}
	}
	then, err := p.or()
	if err != nil || !p.accept("if") {
		return then, err
	}
	cond, err := p.or()
	if err != nil {
		return nil, err
	}
	if err := p.expect("else"); err != nil {
		return nil, err
	}
	other, err := p.ternary()
	if err != nil {
		return nil, err
	}
	return func(vars map[string]number) (number, error) {
		c, err := cond(vars)
		switch {
		case err != nil:
			return number{}, err
		case c.isTrue():
			return then(vars)
		}
		return other(vars)
	}, nil
}

func (p *exprParser) or() (expression, error)  { return p.logic("or", true, p.and) }
func (p *exprParser) and() (expression, error) { return p.logic("and", false, p.not) }

// logic reads a chain of and, or of or: the value is that of the first operand that settles it, as in Python.
func (p *exprParser) logic(word string, settles bool, operand func() (expression, error)) (expression, error) {
	left, err := operand()
	for err == nil && p.accept(word) {
		var right expression
		if right, err = operand(); err != nil {
			break
		}
		first := left
		left = func(vars map[string]number) (number, error) {
			v, err := first(vars)
			if err != nil || v.isTrue() == settles {
				return v, err
			}
			return right(vars)
		}
	}
	return left, err
}

func (p *exprParser) not() (expression, error) {
	n := 0
	for p.accept("not") {
		n++
	}
	e, err := p.comparison()
	if err != nil || n == 0 {
		return e, err
	}
	return func(vars map[string]number) (number, error) {
		v, err := e(vars)
		return truth(v.isTrue() == (n%2 == 0)), err
	}, nil
}

// comparison reads a < b < c, which is a < b and b < c.
func (p *exprParser) comparison() (expression, error) {
	first, err := p.binary(0)
	if err != nil {
		return nil, err
	}
	var ops []string
	var rest []expression
	for {
		op := p.peek().text
		if !isComparison(op) {
			break
		}
		p.next()
		right, err := p.binary(0)
		if err != nil {
			return nil, err
		}
		ops, rest = append(ops, op), append(rest, right)
	}
	if len(ops) == 0 {
		return first, nil
	}
	return func(vars map[string]number) (number, error) {
		left, err := first(vars)
		for i := 0; err == nil && i < len(ops); i++ {
			var right number
			if right, err = rest[i](vars); err == nil && !holds(ops[i], left.compare(right)) {
				return truth(false), nil
			}
			left = right
		}
		return truth(true), err
	}, nil
}

func isComparison(op string) bool {
	switch op {
	case "<", ">", "<=", ">=", "==", "!=":
		return true
	}
	return false
}

func holds(op string, cmp int) bool {
	switch op {
	case "<":
		return cmp < 0
	case ">":
		return cmp > 0
	case "<=":
		return cmp <= 0
	case ">=":
		return cmp >= 0
	case "==":
		return cmp == 0
	}
	return cmp != 0
}

// exprLevels are the binary operators that group from the left, the loosest first.
var exprLevels = [][]string{{"<<", ">>"}, {"+", "-"}, {"*", "/", "//", "%"}}

func (p *exprParser) binary(level int) (expression, error) {
	if level == len(exprLevels) {
		return p.unary()
	}
	left, err := p.binary(level + 1)
	if err != nil {
		return nil, err
	}
	for {
		t := p.peek()
		if !slices.Contains(exprLevels[level], t.text) {
			return left, nil
		}
		p.next()
		right, err := p.binary(level + 1)
		if err != nil {
			return nil, err
		}
		left = operation(t, left, right)
	}
}

// operation is left op right, with the place of op in its errors.
func operation(op exprToken, left, right expression) expression {
	return func(vars map[string]number) (number, error) {
		a, err := left(vars)
		if err != nil {
			return number{}, err
		}
		b, err := right(vars)
		if err != nil {
			return number{}, err
		}
		v, msg := arithmetic(op.text, a, b)
		if msg != "" {
			return number{}, &exprError{op.offset, msg}
		}
		return v, nil
	}
}

func (p *exprParser) unary() (expression, error) {
	minus, signs := false, 0
	for ; p.peek().text == "-" || p.peek().text == "+"; signs++ {
		minus = minus != (p.next().text == "-")
	}
	e, err := p.power()
	if err != nil || !minus {
		return e, err
	}
	return func(vars map[string]number) (number, error) {
		v, err := e(vars)
		switch {
		case err != nil:
			return number{}, err
		case v.i != nil:
			return number{i: new(big.Int).Neg(v.i)}, nil
		}
		return number{f: -v.f}, nil
	}, nil
}

// power binds tighter than a sign at its left and looser than one at its right: -2**-2 is -(2**(-2)).
func (p *exprParser) power() (expression, error) {
	base, err := p.atom()
	if err != nil {
		return nil, err
	}
	t := p.peek()
	if !p.accept("**") {
		return base, nil
	}
	if p.depth++; p.depth > maxExprDepth {
		return nil, &exprError{t.offset, fmt.Sprintf("more than %d levels inside each other", maxExprDepth)}
	}
	exponent, err := p.unary()
	p.depth--
	if err != nil {
		return nil, err
	}
	return operation(t, base, exponent), nil
}

func (p *exprParser) atom() (expression, error) {
	t := p.next()
	switch {
	case t.text == "":
		return nil, &exprError{t.offset, "the expression ends too early"}
	case t.text == "(":
		e, err := p.ternary()
		if err != nil {
			return nil, err
		}
		return e, p.expect(")")
	case isDigit(t.text[0]) || t.text[0] == '.':
		v, ok := exprLiteral(t.text)
		if !ok {
			return nil, &exprError{t.offset, fmt.Sprintf("%q is no number", t.text)}
		}
		return func(map[string]number) (number, error) { return v, nil }, nil
	case !isExprWord(t.text[0]):
		return nil, &exprError{t.offset, fmt.Sprintf("%q is not expected here", t.text)}
	case p.accept("("):
		return p.call(t)
	}
	return p.name(t)
}

// exprLiteral reads a number the way Python writes one: 60, 1_000, 1.5, 1e3; 010 is none.
func exprLiteral(text string) (number, bool) {
	if i, ok := new(big.Int).SetString(text, 10); ok {
		return number{i: i}, text[0] != '0' || i.Sign() == 0
	}
	if strings.Contains(text, "_") {
		i, ok := new(big.Int).SetString(text, 0) // base 0 takes 1_000, and 0x10
		return number{i: i}, ok && text[0] != '0'
	}
	if strings.ContainsAny(text, "xXpPiIn") { // Go's other ways of writing a float
		return number{}, false
	}
	f, err := strconv.ParseFloat(text, 64)
	return number{f: f}, err == nil
}

func (p *exprParser) name(t exprToken) (expression, error) {
	switch t.text {
	case "True":
		return func(map[string]number) (number, error) { return whole(1), nil }, nil
	case "False":
		return func(map[string]number) (number, error) { return whole(0), nil }, nil
	case "math.e":
		return func(map[string]number) (number, error) { return number{f: math.E}, nil }, nil
	case "math.pi":
		return func(map[string]number) (number, error) { return number{f: math.Pi}, nil }, nil
	}
	if !slices.Contains(p.vars, t.text) {
		return nil, &exprError{t.offset, fmt.Sprintf("%q is not known here", t.text)}
	}
	return func(vars map[string]number) (number, error) { return vars[t.text], nil }, nil
}

func (p *exprParser) call(t exprToken) (expression, error) {
	if strings.HasPrefix(t.text, "random") {
		return nil, &exprError{t.offset, t.text + "() is not worked out: the lengths of bans are a table (bantime.rndtime adds a random part)"}
	}
	f, ok := exprFuncs[t.text]
	if !ok {
		return nil, &exprError{t.offset, fmt.Sprintf("the function %q is not known", t.text)}
	}
	var args []expression
	for !p.accept(")") {
		if len(args) > 0 {
			if err := p.expect(","); err != nil {
				return nil, err
			}
		}
		arg, err := p.ternary()
		if err != nil {
			return nil, err
		}
		args = append(args, arg)
	}
	if len(args) < f.min || f.max > 0 && len(args) > f.max {
		return nil, &exprError{t.offset, fmt.Sprintf("%s does not take %d values", t.text, len(args))}
	}
	return func(vars map[string]number) (number, error) {
		values := make([]number, len(args))
		for i, arg := range args {
			var err error
			if values[i], err = arg(vars); err != nil {
				return number{}, err
			}
		}
		v, msg := f.f(values)
		if msg != "" {
			return number{}, &exprError{t.offset, msg}
		}
		return v, nil
	}, nil
}

// exprFunc is a function that expressions may call with min to max values (max 0: any number of them).
// Its second answer says what is wrong, "" if nothing is.
type exprFunc struct {
	min, max int
	f        func(v []number) (number, string)
}

var exprFuncs = map[string]exprFunc{
	"float": {1, 1, func(v []number) (number, string) { return finite(v[0].float()) }},
	"int":   {1, 1, func(v []number) (number, string) { return toWhole(v[0], math.Trunc) }},
	"abs": {1, 1, func(v []number) (number, string) {
		if v[0].i != nil {
			return number{i: new(big.Int).Abs(v[0].i)}, ""
		}
		return number{f: math.Abs(v[0].f)}, ""
	}},
	"round": {1, 2, roundTo},
	"min":   {2, 0, func(v []number) (number, string) { return extreme(v, -1), "" }},
	"max":   {2, 0, func(v []number) (number, string) { return extreme(v, 1), "" }},
	"pow":   {2, 2, func(v []number) (number, string) { return arithmetic("**", v[0], v[1]) }},

	"math.exp":   {1, 1, func(v []number) (number, string) { return finite(math.Exp(v[0].float())) }},
	"math.pow":   {2, 2, func(v []number) (number, string) { return finite(math.Pow(v[0].float(), v[1].float())) }},
	"math.sqrt":  {1, 1, func(v []number) (number, string) { return finite(math.Sqrt(v[0].float())) }},
	"math.log2":  {1, 1, func(v []number) (number, string) { return finite(math.Log2(v[0].float())) }},
	"math.log10": {1, 1, func(v []number) (number, string) { return finite(math.Log10(v[0].float())) }},
	"math.log1p": {1, 1, func(v []number) (number, string) { return finite(math.Log1p(v[0].float())) }},
	"math.ceil":  {1, 1, func(v []number) (number, string) { return toWhole(v[0], math.Ceil) }},
	"math.floor": {1, 1, func(v []number) (number, string) { return toWhole(v[0], math.Floor) }},
	"math.trunc": {1, 1, func(v []number) (number, string) { return toWhole(v[0], math.Trunc) }},
	"math.log": {1, 2, func(v []number) (number, string) {
		if len(v) == 2 {
			return finite(math.Log(v[0].float()) / math.Log(v[1].float()))
		}
		return finite(math.Log(v[0].float()))
	}},
}

const tooLarge = "the number grows too large"

func finite(f float64) (number, string) {
	switch {
	case math.IsNaN(f):
		return number{}, "this has no value"
	case math.IsInf(f, 0):
		return number{}, tooLarge
	}
	return number{f: f}, ""
}

func bounded(i *big.Int) (number, string) {
	if i.BitLen() > maxExprBits {
		return number{}, tooLarge
	}
	return number{i: i}, ""
}

func toWhole(n number, round func(float64) float64) (number, string) {
	if n.i != nil {
		return n, ""
	}
	i, _ := big.NewFloat(round(n.f)).Int(nil)
	return bounded(i)
}

// roundTo is round(x) and round(x, digits), half to even.
func roundTo(v []number) (number, string) {
	if len(v) == 1 {
		return toWhole(v[0], math.RoundToEven)
	}
	if v[0].i != nil || v[1].i == nil || !v[1].i.IsInt64() || v[1].i.Int64() < 0 || v[1].i.Int64() > 15 {
		return number{}, "round takes a float and the number of digits, 0 to 15"
	}
	f, err := strconv.ParseFloat(strconv.FormatFloat(v[0].f, 'f', int(v[1].i.Int64()), 64), 64)
	if err != nil {
		return number{}, tooLarge
	}
	return number{f: f}, ""
}

// extreme is the first of the largest values (side 1) or of the smallest (side -1).
func extreme(v []number, side int) number {
	best := v[0]
	for _, n := range v[1:] {
		if n.compare(best) == side {
			best = n
		}
	}
	return best
}

// arithmetic is a op b as Python works it out; the second answer says what is wrong, "" if nothing is.
func arithmetic(op string, a, b number) (number, string) {
	switch op {
	case "/", "//", "%":
		if !b.isTrue() {
			return number{}, "division by zero"
		}
	case "<<", ">>":
		return shift(op, a, b)
	case "**":
		return powerOf(a, b)
	}
	if a.i == nil || b.i == nil || op == "/" {
		return floatArithmetic(op, a.float(), b.float())
	}
	i := new(big.Int)
	switch op {
	case "+":
		i.Add(a.i, b.i)
	case "-":
		i.Sub(a.i, b.i)
	case "*":
		i.Mul(a.i, b.i)
	case "//":
		floorDiv(i, new(big.Int), a.i, b.i)
	case "%":
		floorDiv(new(big.Int), i, a.i, b.i)
	}
	return bounded(i)
}

func floatArithmetic(op string, a, b float64) (number, string) {
	switch op {
	case "+":
		return finite(a + b)
	case "-":
		return finite(a - b)
	case "*":
		return finite(a * b)
	case "/":
		return finite(a / b)
	case "//":
		return finite(math.Floor(a / b))
	}
	m := math.Mod(a, b)
	if m != 0 && (m < 0) != (b < 0) {
		m += b
	}
	return finite(m)
}

// floorDiv sets q and m to a // b and a % b: towards minus infinity, the remainder with the sign of b.
func floorDiv(q, m, a, b *big.Int) {
	q.QuoRem(a, b, m)
	if m.Sign() != 0 && m.Sign() != b.Sign() {
		q.Sub(q, big.NewInt(1))
		m.Add(m, b)
	}
}

func shift(op string, a, b number) (number, string) {
	switch {
	case a.i == nil || b.i == nil:
		return number{}, op + " takes whole numbers only"
	case b.i.Sign() < 0:
		return number{}, "a shift by less than nothing"
	case op == ">>":
		return number{i: new(big.Int).Rsh(a.i, uint(min(b.bits(), maxExprBits+1)))}, ""
	case b.bits() > maxExprBits:
		return number{}, tooLarge
	}
	return bounded(new(big.Int).Lsh(a.i, uint(b.bits())))
}

// bits is a whole number that is not negative, cut to what an int holds safely.
func (n number) bits() int64 {
	if !n.i.IsInt64() {
		return math.MaxInt32
	}
	return min(n.i.Int64(), math.MaxInt32)
}

func powerOf(a, b number) (number, string) {
	if a.i == nil || b.i == nil || b.i.Sign() < 0 {
		if !a.isTrue() && b.float() < 0 {
			return number{}, "division by zero"
		}
		return finite(math.Pow(a.float(), b.float()))
	}
	// The size of the result is known before it is worked out.
	if a.i.BitLen() > 1 && int64(a.i.BitLen()-1)*b.bits() > maxExprBits {
		return number{}, tooLarge
	}
	if a.i.BitLen() <= 1 { // -1, 0, 1: only whether b is zero, odd or even matters
		return number{i: new(big.Int).Exp(a.i, big.NewInt(int64(b.i.Bit(0))+2*int64(min(b.i.BitLen(), 1))), nil)}, ""
	}
	return bounded(new(big.Int).Exp(a.i, b.i, nil))
}
