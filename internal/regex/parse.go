package regex

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// parser reads a pattern as Lib/re/_parser.py of Python 3.11 does, and refuses what it refuses with its words.
type parser struct {
	pattern string
	src     []rune
	offs    []int // byte offset of each rune of src, and of the end
	pos     int
	names   []string
	byName  map[string]int
	closed  map[int]bool   // groups whose end was seen
	widths  map[int][2]int // of closed groups
	depth   int
	behind  int // the first group that belongs to the look-behind being read; 0 outside
	conds   []pending
}

// pending is a conditional on a group that may come later in the pattern.
type pending struct{ group, pos int }

// restart is what an inline (?x) asks for: Python reads the pattern from the beginning again.
type restart struct{ flags Flags }

func parse(pattern string, flags Flags) (root *node, names []string, err error) {
	defer func() {
		switch e := recover().(type) {
		case nil:
		case *SyntaxError:
			err = e
		case restart:
			root, names, err = parse(pattern, e.flags)
		default:
			panic(e)
		}
	}()
	p := &parser{pattern: pattern, names: []string{""}, byName: map[string]int{}, closed: map[int]bool{}, widths: map[int][2]int{}}
	for i, r := range pattern {
		p.src, p.offs = append(p.src, r), append(p.offs, i)
	}
	p.offs = append(p.offs, len(pattern))
	root = p.alternation(&flags, true)
	if p.pos < len(p.src) {
		p.fail(p.pos, "unbalanced parenthesis", `write \) for the character`)
	}
	for _, c := range p.conds {
		if c.group >= len(p.names) {
			p.fail(c.pos, fmt.Sprintf("invalid group reference %d", c.group), "")
		}
	}
	return root, p.names, nil
}

func (p *parser) fail(pos int, msg, hint string) {
	panic(&SyntaxError{Pattern: p.pattern, Offset: p.offs[min(pos, len(p.src))], Msg: msg, Hint: hint})
}

const eof rune = -1

func (p *parser) peek() rune {
	if p.pos < len(p.src) {
		return p.src[p.pos]
	}
	return eof
}

func (p *parser) next() rune {
	r := p.peek()
	if r != eof {
		p.pos++
	}
	return r
}

func (p *parser) take(r rune) bool {
	if p.peek() != r || r == eof {
		return false
	}
	p.pos++
	return true
}

// takeWhile takes at most n characters out of set.
func (p *parser) takeWhile(n int, set string) string {
	start := p.pos
	for p.pos < len(p.src) && p.pos-start < n && strings.ContainsRune(set, p.src[p.pos]) {
		p.pos++
	}
	return string(p.src[start:p.pos])
}

// takeUntil takes what comes before end, and end itself.
func (p *parser) takeUntil(end rune, what string) string {
	start := p.pos
	for p.pos < len(p.src) && p.src[p.pos] != end {
		p.pos++
	}
	s := string(p.src[start:p.pos])
	switch {
	case s == "":
		p.fail(start, "missing "+what, "")
	case p.pos == len(p.src):
		p.fail(start, fmt.Sprintf("missing %c, unterminated name", end), "")
	}
	p.pos++
	return s
}

const (
	digits    = "0123456789"
	octDigits = "01234567"
	hexDigits = "0123456789abcdefABCDEF"
)

// alternation reads branches up to a closing parenthesis or the end. top is true for the pattern as a whole.
func (p *parser) alternation(flags *Flags, top bool) *node {
	var branches []*node
	for {
		branches = append(branches, p.sequence(flags, top && len(branches) == 0))
		if !p.take('|') {
			break
		}
	}
	if len(branches) == 1 {
		return branches[0]
	}
	return &node{kind: kAlt, subs: branches}
}

// item is a part of a sequence, with what the parser must know of it when a repeat follows.
type item struct {
	*node
	place    bool // it is a bare assertion such as ^, which cannot be repeated; (?:^) can
	repeated bool // it is itself a bare repeat
}

// sequence reads the parts of one branch. Global flags may stand only where first is true and nothing came before.
func (p *parser) sequence(flags *Flags, first bool) *node {
	var items []item
	add := func(n *node) { items = append(items, item{node: n}) }
	addPlace := func(n *node) { items = append(items, item{node: n, place: n.kind == kAssert}) }
	for {
		c := p.peek()
		if c == eof || c == '|' || c == ')' {
			break
		}
		start := p.pos
		p.pos++
		if *flags&Verbose != 0 {
			if strings.ContainsRune(" \t\n\r\v\f", c) {
				continue
			}
			if c == '#' {
				for c := p.next(); c != eof && c != '\n'; c = p.next() {
				}
				continue
			}
		}
		switch c {
		case '\\':
			addPlace(p.escape(start, *flags))
		case '[':
			add(p.class(start, *flags))
		case '.':
			add(lit(dot(*flags)))
		case '^':
			addPlace(&node{kind: kAssert, assert: choose(*flags&Multiline != 0, atBeginLine, atBegin)})
		case '$':
			addPlace(&node{kind: kAssert, assert: choose(*flags&Multiline != 0, atEndLine, atEndOrFinal)})
		case '*', '+', '?', '{':
			items = p.repeat(start, c, items, *flags)
		case '(':
			if n := p.group(start, flags, first && len(items) == 0); n != nil {
				add(n)
			}
		default:
			add(literal(c, *flags))
		}
	}
	switch len(items) {
	case 0:
		return &node{kind: kEmpty}
	case 1:
		return items[0].node
	}
	cat := &node{kind: kCat}
	for _, it := range items {
		cat.subs = append(cat.subs, it.node)
	}
	return cat
}

func choose(yes bool, a, b assertion) assertion {
	if yes {
		return a
	}
	return b
}

func dot(flags Flags) ranges {
	if flags&DotAll != 0 {
		return anyChar
	}
	return notNewline
}

func literal(r rune, flags Flags) *node {
	return lit(foldIf(ranges{r, r}, flags))
}

func foldIf(rs ranges, flags Flags) ranges {
	if flags&IgnoreCase != 0 {
		return rs.fold(flags&ascii != 0)
	}
	return rs
}

// repeat reads the repeat that begins with c, or the brace as itself if it is none, and applies it to the last item.
func (p *parser) repeat(start int, c rune, items []item, flags Flags) []item {
	lo, hi := 0, infinite
	switch c {
	case '?':
		hi = 1
	case '+':
		lo = 1
	case '{':
		var ok bool
		if lo, hi, ok = p.counts(); !ok {
			p.pos = start + 1
			return append(items, item{node: literal('{', flags)})
		}
	}
	if len(items) == 0 || items[len(items)-1].place {
		p.fail(start, "nothing to repeat", fmt.Sprintf(`write \%c for the character`, c))
	}
	last := &items[len(items)-1]
	if last.repeated {
		p.fail(start, "multiple repeat", "put the inner repeat into (?:...)")
	}
	n := repeat(last.node, lo, hi, false)
	switch {
	case p.take('?'):
		n.lazy = true
	case p.take('+'):
		n = &node{kind: kAtomic, subs: []*node{n}}
	}
	*last = item{node: n, repeated: true}
	return items
}

// counts reads {m}, {m,}, {,n} and {m,n} behind the brace. Anything else is no repeat.
func (p *parser) counts() (lo, hi int, ok bool) {
	start := p.pos
	if p.peek() == '}' {
		return 0, 0, false
	}
	a := p.takeWhile(len(p.src), digits)
	b := a
	if p.take(',') {
		b = p.takeWhile(len(p.src), digits)
	}
	if !p.take('}') {
		return 0, 0, false
	}
	hi = infinite
	if a != "" {
		lo = p.count(a, start)
	}
	if b != "" {
		hi = p.count(b, start)
		if hi < lo {
			p.fail(start, "min repeat greater than max repeat", "")
		}
	}
	return lo, hi, true
}

func (p *parser) count(s string, pos int) int {
	n, err := strconv.Atoi(s)
	if err != nil || n > maxRepeat {
		p.fail(pos, fmt.Sprintf("the repeat count is larger than %d", maxRepeat), "use * or + instead")
	}
	return n
}

// group reads what follows an opening parenthesis. It returns nil for a comment and for global flags.
func (p *parser) group(start int, flags *Flags, first bool) *node {
	if p.depth++; p.depth > maxNesting {
		p.fail(start, fmt.Sprintf("more than %d groups within one another", maxNesting), "")
	}
	defer func() { p.depth-- }()
	if !p.take('?') {
		return p.capture(start, "", *flags)
	}
	switch c := p.next(); c {
	case eof:
		p.fail(p.pos, "unexpected end of pattern", "")
	case 'P':
		return p.named(start, *flags)
	case ':':
		return p.body(start, *flags)
	case '>':
		return &node{kind: kAtomic, subs: []*node{p.body(start, *flags)}}
	case '#':
		for c := p.next(); c != ')'; c = p.next() {
			if c == eof {
				p.fail(start, "missing ), unterminated comment", "")
			}
		}
		return nil
	case '=', '!':
		return p.look(start, c, false, *flags)
	case '<':
		switch c := p.next(); c {
		case '=', '!':
			return p.look(start, c, true, *flags)
		case eof:
			p.fail(p.pos, "unexpected end of pattern", "")
		default:
			p.fail(start+1, fmt.Sprintf("unknown extension ?<%c", c), "Python names a group with (?P<name>...)")
		}
	case '(':
		return p.conditional(start, *flags)
	default:
		if c == '-' || strings.ContainsRune("aiLmsux", c) {
			return p.flagGroup(start, c, flags, first)
		}
		p.fail(start+1, fmt.Sprintf("unknown extension ?%c", c), "")
	}
	panic("BUG: not reached")
}

// body reads a group's alternation and the parenthesis that closes it.
func (p *parser) body(start int, flags Flags) *node {
	n := p.alternation(&flags, false)
	if !p.take(')') {
		p.fail(start, "missing ), unterminated subpattern", "")
	}
	return n
}

func (p *parser) capture(start int, name string, flags Flags) *node {
	g := len(p.names)
	if g > maxGroups {
		p.fail(start, fmt.Sprintf("more than %d groups", maxGroups), "write (?:...) where nothing is to be captured")
	}
	if name != "" {
		if _, ok := p.byName[name]; ok {
			p.fail(start, fmt.Sprintf("redefinition of group name %q", name), "")
		}
		p.byName[name] = g
	}
	p.names = append(p.names, name)
	n := &node{kind: kGroup, group: g, subs: []*node{p.body(start, flags)}}
	n.width(p.widths)
	p.closed[g] = true
	return n
}

// named reads (?P<name>...) and (?P=name).
func (p *parser) named(start int, flags Flags) *node {
	pos := p.pos + 1
	switch c := p.next(); c {
	case '<':
		name := p.takeUntil('>', "group name")
		p.checkName(name, pos)
		return p.capture(start, name, flags)
	case '=':
		name := p.takeUntil(')', "group name")
		p.checkName(name, pos)
		g, ok := p.byName[name]
		if !ok {
			p.fail(pos, fmt.Sprintf("unknown group name %q", name), "")
		}
		return p.backref(pos, g, flags)
	case eof:
		p.fail(p.pos, "unexpected end of pattern", "")
	default:
		p.fail(start+1, fmt.Sprintf("unknown extension ?P%c", c), "")
	}
	panic("BUG: not reached")
}

func (p *parser) checkName(name string, pos int) {
	if !isIdentifier(name) {
		p.fail(pos, fmt.Sprintf("bad character in group name %q", name), "use letters, digits and _")
	}
}

func isIdentifier(s string) bool {
	for i, r := range s {
		if r != '_' && !unicode.IsLetter(r) && (i == 0 || !unicode.IsDigit(r)) {
			return false
		}
	}
	return s != ""
}

func (p *parser) backref(pos, g int, flags Flags) *node {
	if !p.closed[g] {
		p.fail(pos, "cannot refer to an open group", "")
	}
	p.checkBehind(pos, g)
	return &node{kind: kBackref, group: g, fold: flags&IgnoreCase != 0, asciiCmp: flags&ascii != 0}
}

func (p *parser) checkBehind(pos, g int) {
	if p.behind != 0 && g >= p.behind {
		p.fail(pos, "cannot refer to group defined in the same lookbehind subpattern", "")
	}
}

func (p *parser) look(start int, c rune, behind bool, flags Flags) *node {
	outer := p.behind
	if behind && outer == 0 {
		p.behind = len(p.names)
	}
	body := p.body(start, flags)
	p.behind = outer
	n := &node{kind: kLook, neg: c == '!', behind: behind, subs: []*node{body}}
	if body.kind == kEmpty && n.neg {
		return &node{kind: kFail}
	}
	if behind {
		lo, hi := body.width(p.widths)
		if lo != hi {
			p.fail(start, "look-behind requires fixed-width pattern", "let each branch match the same number of characters")
		}
		n.back = lo
	}
	return n
}

// conditional reads (?(group)yes|no).
func (p *parser) conditional(start int, flags Flags) *node {
	pos := p.pos
	name := p.takeUntil(')', "group name")
	var g int
	if isIdentifier(name) {
		var ok bool
		if g, ok = p.byName[name]; !ok {
			p.fail(pos, fmt.Sprintf("unknown group name %q", name), "")
		}
	} else {
		var err error
		if g, err = strconv.Atoi(name); err != nil || g < 0 {
			p.fail(pos, fmt.Sprintf("bad character in group name %q", name), "")
		}
		if g == 0 {
			p.fail(pos, "bad group number", "")
		}
		p.conds = append(p.conds, pending{g, pos})
	}
	if g < len(p.names) && !p.closed[g] {
		p.fail(pos, "a conditional cannot ask for the group it stands in", "Python's answer would depend on earlier repeats")
	}
	p.checkBehind(pos, g)
	yes, no := p.sequence(&flags, false), &node{kind: kEmpty}
	if p.take('|') {
		no = p.sequence(&flags, false)
		if p.peek() == '|' {
			p.fail(p.pos, "conditional backref with more than two branches", "put the branches into (?:...)")
		}
	}
	if !p.take(')') {
		p.fail(start, "missing ), unterminated subpattern", "")
	}
	return &node{kind: kCond, group: g, subs: []*node{yes, no}}
}

// flagGroup reads (?flags) and (?flags-flags:...), of which c is the first character.
func (p *parser) flagGroup(start int, c rune, flags *Flags, first bool) *node {
	var on, off Flags
	pos := p.pos - 1
	set, unicodeToo, minus := &on, false, false
	for {
		switch c {
		case 'i':
			*set |= IgnoreCase
		case 'm':
			*set |= Multiline
		case 's':
			*set |= DotAll
		case 'x':
			*set |= Verbose
		case 'a', 'u':
			if minus {
				p.fail(pos, "bad inline flags: cannot turn off flags 'a', 'u' and 'L'", "")
			}
			on, unicodeToo = on|Flags(map[rune]Flags{'a': ascii}[c]), unicodeToo || c == 'u'
			if unicodeToo && on&ascii != 0 {
				p.fail(pos, "bad inline flags: flags 'a', 'u' and 'L' are incompatible", "")
			}
		case 'L':
			p.fail(pos, "bad inline flags: cannot use 'L' flag with a str pattern", "")
		case '-':
			if minus {
				p.fail(pos, "missing :", "")
			}
			set, minus = &off, true
			if r := p.peek(); r == ':' || r == ')' || r == eof {
				p.fail(p.pos, "missing flag", "")
			}
		case ')':
			if minus {
				p.fail(p.pos-1, "missing :", "")
			}
			p.globalFlags(start, on, unicodeToo, flags, first)
			return nil
		case ':':
			if on&off != 0 {
				p.fail(pos, "bad inline flags: flag turned on and off", "")
			}
			inner := *flags
			if unicodeToo {
				inner &^= ascii
			}
			return p.body(start, inner&^off|on)
		case eof:
			p.fail(p.pos, "missing -, : or )", "")
		default:
			p.fail(p.pos-1, "unknown flag", "the flags are i, m, s, x, a and u")
		}
		pos = p.pos
		c = p.next()
	}
}

func (p *parser) globalFlags(start int, on Flags, unicodeToo bool, flags *Flags, first bool) {
	if !first {
		p.fail(start, "global flags not at the start of the expression", "write (?i:...) around the part that is meant")
	}
	if unicodeToo && *flags&ascii != 0 {
		p.fail(start, "bad inline flags: flags 'a', 'u' and 'L' are incompatible", "")
	}
	if on&Verbose != 0 && *flags&Verbose == 0 {
		panic(restart{*flags | on})
	}
	*flags |= on
}
